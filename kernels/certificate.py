"""What a certificate of transport is made of, and the steps from the plan of a small problem to it, in few calls.

The sums <P, C> and <a, f> + <b, g> are exact (`exact_sums.py`); all else that enters the bounds is a correction of the
size of rounding, summed plainly.

Measured on one AVX-512 core, 100 x 100 with 199 arcs: `judge` 3 us, `complete` 2 us.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numba import njit

from otdist.kernels.exact_sums import LITERAL, ZERO, add_product, rounded
from otdist.kernels.jit import kernel
from otdist.kernels.rowcache import LARGE
from otdist.kernels.vecmath import minimum

WHOLE = 2.0**52


@njit(**LITERAL)
def _side(w, potential, sent, s, total):
    """Of one side: the exact sum s with <w, potential>, and plain sums of what `judge` returns."""
    size, off, drift, reach, whole = 0.0, 0.0, 0.0, 0.0, True
    for k in range(w.size):
        t, miss = abs(potential[k]), abs(sent[k] - w[k])
        s = add_product(s, w[k], potential[k])
        size += w[k] * t
        off += miss
        drift += miss * t
        total += w[k]
        if w[k] > 0.0:
            reach = max(reach, t)
        whole &= (t < WHOLE) & (np.rint(t) == t)
    return s, size, off, drift, reach, whole, total


@partial(kernel, options=LITERAL)
def judge(a, b, rows, cols, mass, c, f, g, sent):
    """Of a plan with costs c and of potentials: (value, rest, lost), (dual value, rest, lost), then plain sums.

    Those are: the sizes of the terms of both; sum a |f|; the marginals' sum of |errors|, and weighted by |potentials|;
    total mass times the largest potentials of both sides where there is mass; and whether all potentials are integers.
    Scratch: sent (n + m).
    """
    n = a.size
    for k in range(sent.size):
        sent[k] = 0.0
    cost, size = ZERO, 0.0
    for e in range(rows.size):
        cost = add_product(cost, mass[e], c[e])
        size += abs(mass[e] * c[e])
        sent[rows[e]] += mass[e]
        sent[n + cols[e]] += mass[e]
    dual, size_f, off_a, drift_a, reach_f, whole_f, all_a = _side(a, f, sent[:n], ZERO, 0.0)
    dual, size_g, off_b, drift_b, reach_g, whole_g, _ = _side(b, g, sent[n:], dual, 0.0)
    return (
        rounded(cost), rounded(dual), size + size_f + size_g, size_f, off_a + off_b, drift_a + drift_b,
        all_a * (reach_f + reach_g), whole_f & whole_g,
    )  # fmt: skip


@njit(**LARGE)
def _row_minima(C, g, f):
    for i in range(f.size):
        c, low = C[i], np.inf
        for j in range(g.size):
            low = minimum(low, c[j] - g[j])
        f[i] = 0.0 if low == np.inf else low  # a row that may go nowhere has no mass: any potential will do


@partial(kernel, options=LITERAL)
def complete(C, a, b, rows, cols, mass, c, f, g):
    """The costs c of a plan; g shifted, by integers if it is one, so that each side holds half of the value; f.

    Where g is not shifted by an integer, f_i = min_j c_ij - g_j is that of the shifted g.
    """
    value, own, total, whole = 0.0, 0.0, 0.0, True
    for e in range(rows.size):
        c[e] = C[rows[e], cols[e]]
        value += mass[e] * c[e]
    for j in range(g.size):
        own += b[j] * g[j]
        total += b[j]
        whole &= np.rint(g[j]) == g[j]
    shift = (0.5 * value - own) / total
    if whole:
        shift = np.rint(shift)
    for j in range(g.size):
        g[j] += shift
    _row_minima(C, g, f)


@partial(kernel, options=LITERAL)
def ordered(rows, cols):
    """Whether pairs come by rows, and those of a row by columns."""
    for e in range(1, rows.size):
        if rows[e - 1] > rows[e] or (rows[e - 1] == rows[e] and cols[e - 1] >= cols[e]):
            return False
    return True


@partial(kernel, options=LITERAL)
def by_rows(rows, cols, mass, to_rows, to_cols, to_mass, starts, order):
    """The plan by rows, then columns: two passes of counting. Scratch: starts (max(n, m) + 1), order (of the pairs)."""
    for turn in range(2):
        keys = rows if turn else cols
        for k in range(starts.size):
            starts[k] = 0
        for e in range(keys.size):
            starts[keys[e] + 1] += 1
        for k in range(1, starts.size):
            starts[k] += starts[k - 1]
        for s in range(keys.size):
            e = order[s] if turn else s
            to = starts[keys[e]]
            starts[keys[e]] += 1
            if turn:
                to_rows[to], to_cols[to], to_mass[to] = rows[e], cols[e], mass[e]
            else:
                order[to] = e
