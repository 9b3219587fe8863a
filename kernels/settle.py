"""From sums over pairs to values: finish what is accurate, list the rest, recompute it pair by pair.

An engine's sum is trusted where it exceeds a limit of its row and of its column: below it too much has been cancelled,
or entries have left the range of the arithmetic. Rows that an engine cannot bear have an infinite limit.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numba.extending import overload

from otdist.kernels.entries import FAINT
from otdist.kernels.jit import INLINE, STRICT, kernel
from otdist.kernels.rows import ROOT, row_value
from otdist.kernels.tables import LOST
from otdist.kernels.terms import JS, KL, Jeffreys
from otdist.kernels.vecmath import atanh_tail, log_ratio, select

# `js_shape` in t^2 on [0, 1/16]: error 5e-15 (docs/coefficients.py)
JS16 = (
    1.00000000000000452,
    0.166666666659589528,
    0.0666666684737483912,
    0.03571411312293708,
    0.022230041230897048,
    0.0149709968557279431,
    0.0130191272553369121,
)
TINY, HUGE = 5e-324, 2.0**1000


@njit(**STRICT)
def _joined(g, h_i, h_j, s_i, s_j, e_i, e_j):
    """Engine's sum with what depends on one row only; s + e are sums to twice the working precision."""
    return (g + (h_i + h_j)) + ((s_j - s_i) + (e_j - e_i))


@njit(**INLINE)
def _log(x):
    return select(x == 0.0, -np.inf, log_ratio(x, 1.0, x - 1.0).log)


@njit(**INLINE)
def _row(table, j0, j1):
    return table[0][j0:j1], table[1][j0:j1], table[2][j0:j1], table[3][j0:j1], table[4][j0:j1]


@kernel
def settle(finish, G, i0, j0, left, right, D, a, b, rows, columns, first, todo):
    """D[a + i, b + j] = value of pair (i0 + i, j0 + j) from the sums G, for j >= i + first; lists the others in `todo`.

    left, right: rows limit, h, s, e, log(sum); see `_joined`. Scale T or scale sqrt(T).
    Returns the number of pairs listed, each as i * columns + j.
    """
    count = 0
    scale, root = finish.scale, finish.kind == ROOT
    for i in range(rows):
        start = max(0, i + first)
        if start >= columns:
            break
        g, out = G[i][start:columns], D[a + i][b + start : b + columns]
        limit, h, s, e, _logs = _row(right, j0 + start, j0 + columns)
        r = i0 + i
        limit_i, h_i, s_i, e_i = left[0, r], left[1, r], left[2, r], left[3, r]
        bad = 0.0
        for j in range(g.size):
            total = _joined(g[j], h_i, h[j], s_i, s[j], e_i, e[j])
            bad += select(total > max(limit_i, limit[j]), 0.0, 1.0)
            total = select(total > LOST, np.inf, total)
            out[j] = scale * (np.sqrt(total) if root else total)
        if bad > 0.0:
            for j in range(g.size):
                if not _joined(g[j], h_i, h[j], s_i, s[j], e_i, e[j]) > max(limit_i, limit[j]):
                    todo[count] = i * columns + start + j
                    count += 1
    return count


@kernel
def settle_logarithm(finish, affinity, G, i0, j0, left, right, D, a, b, rows, columns, first, todo):
    """The same for logarithms; G times `affinity` is the affinity."""
    count = 0
    scale, c, order = finish.scale, finish.c, finish.alpha
    for i in range(rows):
        start = max(0, i + first)
        if start >= columns:
            break
        g, out = G[i][start:columns], D[a + i][b + start : b + columns]
        limit, h, s, e, logs = _row(right, j0 + start, j0 + columns)
        r = i0 + i
        limit_i, h_i, s_i, e_i, log_i = left[0, r], left[1, r], left[2, r], left[3, r], left[4, r]
        bad = 0.0
        for j in range(g.size):
            total = _joined(g[j], h_i, h[j], s_i, s[j], e_i, e[j])
            x = c * total
            apart = _log(affinity * g[j]) - select(finish.literal, 0.0, order * log_i + (1.0 - order) * logs[j])
            near = select(finish.literal, False, x > -0.5)
            out[j] = scale * select(near, log_ratio(1.0 + x, 1.0, x).log, apart)
            g[j] = select(total > LOST, -np.inf, total)
            bad += select(g[j] > max(limit_i, limit[j]), 0.0, 1.0)
        if bad > 0.0:
            for j in range(g.size):
                if not g[j] > max(limit_i, limit[j]):
                    todo[count] = i * columns + start + j
                    count += 1
    return count


def near(tag, p, q):
    """Sum of the terms by polynomials in t = (p - q)/(p + q), and the number of bins where t is too large for them."""


@njit(**INLINE)
def _kl_bin(d, t, u):
    return d * t * (1.0 + (t + u) * atanh_tail(u))


@njit(**INLINE)
def _jeffreys_bin(d, t, u):
    return 2.0 * (d * t) * (1.0 + u * atanh_tail(u))


@njit(**INLINE)
def _js_bin(d, t, u):
    c0, c1, c2, c3, c4, c5, c6 = JS16
    return 0.25 * (d * t) * (c0 + u * (c1 + u * (c2 + u * (c3 + u * (c4 + u * (c5 + u * c6))))))


NEAR = {KL: (_kl_bin, 0.04), Jeffreys: (_jeffreys_bin, 0.04), JS: (_js_bin, 0.0625)}


@overload(near, jit_options=INLINE)
def _near_of(tag, p, q):
    formula, reach = NEAR[tag.instance_class]

    def of(tag, p, q):
        total, far = 0.0, 0.0
        for k in range(p.size):
            x, y = np.float64(p[k]), np.float64(q[k])
            d = x - y
            t = d / max(x + y, TINY)
            u = t * t
            total += formula(d, t, u)
            far += select(u > reach, 1.0, select(x + y > HUGE, 1.0, 0.0))
        return total, far

    return of


@kernel
def refine(tag, finish, P, Q, i0, j0, columns, todo, D, a, b):
    """D[a + i, b + j] of the listed pairs that are near in every bin; moves the others to the front, counted."""
    count = 0
    for r in range(todo.size):
        i, j = todo[r] // columns, todo[r] % columns
        total, far = near(tag, P[i0 + i], Q[j0 + j])
        D[a + i, b + j] = finish.scale * (np.sqrt(total) if finish.kind == ROOT else total)
        if far > 0.0:
            todo[count] = todo[r]
            count += 1
    return count


@kernel
def recompute(tag, finish, P, Q, i0, j0, columns, todo, D, a, b):
    """D[a + i, b + j] from rows i0 + i, j0 + j for every pair listed; moves those of faint affinity to the front."""
    count = 0
    for r in range(todo.size):
        i, j = todo[r] // columns, todo[r] % columns
        value, _p, _q, flags = row_value(tag, finish, P[i0 + i], Q[j0 + j], 1.0, 1.0, None, None)
        D[a + i, b + j] = value
        if flags & FAINT:
            todo[count] = todo[r]
            count += 1
    return count


@kernel
def mirror(D, a, b, rows, columns, first):
    """D[b + j, a + i] = D[a + i, b + j] for j >= i + first, by square pieces that stay in cache."""
    for i0 in range(0, rows, 32):
        for j0 in range(0, columns, 32):
            for j in range(j0, min(j0 + 32, columns)):
                out = D[b + j]
                for i in range(i0, min(i0 + 32, rows, j - first + 1)):
                    out[a + i] = D[a + i, b + j]


@kernel
def keep_least(D, rows, columns, j0, values, indices):
    """Merge the columns of D into the least values of each row: max-heaps ordered by (value, index)."""
    size = values.shape[1]
    for i in range(rows):
        v, n, d = values[i], indices[i], D[i]
        for j in range(columns):
            x = d[j]
            # columns arrive in ascending order: of equal values the first to come stays
            if j0 + j < size:
                at = j0 + j
                while at > 0 and v[(at - 1) // 2] <= x:
                    up = (at - 1) // 2
                    v[at], n[at] = v[up], n[up]
                    at = up
                v[at], n[at] = x, j0 + j
            elif x < v[0]:
                at = 0
                while 2 * at + 1 < size:
                    low = 2 * at + 1
                    if low + 1 < size and (v[low + 1] > v[low] or (v[low + 1] == v[low] and n[low + 1] > n[low])):
                        low += 1
                    if v[low] <= x:
                        break
                    v[at], n[at] = v[low], n[low]
                    at = low
                v[at], n[at] = x, j0 + j
