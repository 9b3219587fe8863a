"""One look at the costs of entropic transport: the plan absorbed, its columns summed, its support gathered.

At potentials g of the columns, in bits and with log2 of their masses inside, the rows are eliminated exactly:

    W_ij = 2^(f_i + g_j - (c_ij - shift) scale),   f_i = -log2 sum_j 2^(g_j - (c_ij - shift) scale),

with scale = log2(e)/epsilon,
so that each row of W sums to 1, P = r W with r_i = a_i 2^(-(1 - kappa_a) f_i), and everything that the semi-dual asks
for near these potentials is a product with W, without an exponential (absorption: Schmitzer 2019; semi-dual: Cuturi &
Peyre 2018). The f of an earlier look serves as the running maximum, for W_ij <= 1 whatever the potentials: one
exponential per pair. A row whose sum leaves the safe range is summed again under its true maximum.

Exponents are float64 always, for c/epsilon may be 10^6; the exponentials are float32 for W and float64 where sums are
measured. Measured on one AVX-512 core of a busy machine, 1000 x 1000: `absorb` 0.55 ns per pair and `measure` 0.65, of
which the exponentials alone are 0.40; listing 5 % of the pairs 1.3 more, for compaction is not vectorised.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import overload

from otdist.kernels.jit import INLINE, kernel
from otdist.kernels.vecmath import exp2, maximum, minimum, select

# Sums outside are taken again under their true maximum. Entries of W are dropped below TINY, and exponents of float64
# held at LEAST, because a product of the last normal numbers and a mass is subnormal, and a hundred times slower.
SAFE32, SAFE64, TINY, LEAST = (1e-4, 1e4), (1e-250, 1e250), np.float32(1e-30), -960.0
# Rows side by side, which share the loads and stores of the columns; entries looked at together.
BLOCK, GROUP = 4, 16


def _like(out: Any, x: Any) -> Any:
    """x in the precision of `out`, kept where `exp2` neither wraps around nor nears subnormal numbers."""


@overload(_like, jit_options=INLINE)
def _like_of(out, x):
    if out.dtype == types.float32:
        return lambda out, x: np.float32(minimum(x, 120.0))
    return lambda out, x: maximum(minimum(x, 1000.0), LEAST)


def _zero(out: Any) -> Any:
    """0 in the precision of `out`."""


@overload(_zero, jit_options=INLINE)
def _zero_of(out):
    if out.dtype == types.float32:
        return lambda out: np.float32(0)
    return lambda out: 0.0


@njit(**INLINE)
def _exponentials(row, shift, scale, f, g, out):
    """out_j = 2^(f + g_j - (c_j - shift) scale), and their sum."""
    total = _zero(out)
    for j in range(g.size):
        e = exp2(_like(out, f + g[j] - (row[j] - shift) * scale))
        out[j] = e
        total += e
    return total


@njit(**INLINE)
def _row_sum(row, shift, scale, f, g, out, low, high):
    """(-log2 of the sum, the sum of `out`): from the guess f, unless that is unknown (inf) or too far off."""
    known = f < np.inf
    while True:
        if not known:
            top = -1e300
            for j in range(g.size):
                top = maximum(top, g[j] - (row[j] - shift) * scale)
            f = -top
        total = _exponentials(row, shift, scale, f, g, out)
        if low < total < high or not known:
            return f - np.log2(np.float64(total)), total
        known = False


@kernel
def absorb(C, shift, scale, g, f, W, i0, i1):
    """W and f of rows i0 ... i1 - 1, W in float32; f comes as a guess (inf: none) and goes as the elimination."""
    one = np.float32(1)
    for i in range(i0, i1):
        w = W[i]
        f[i], total = _row_sum(C[i], shift, scale, f[i], g, w, SAFE32[0], SAFE32[1])
        inverse = np.float32(one / total)
        for j in range(g.size):
            w[j] = select(w[j] > TINY, w[j], np.float32(0)) * inverse


@njit(**INLINE)
def _collect(e, scaled, least, idx, val, q):
    """Append the entries e_j > least, times `scaled`; looks at GROUP at once, for few are kept."""
    m = e.size
    whole = m - m % GROUP
    for j0 in range(0, whole, GROUP):
        part = e[j0:]
        top = 0.0
        for t in range(GROUP):
            top = maximum(top, part[t])
        if top > least:
            for t in range(GROUP):  # written always and kept by counting: a branch would be mispredicted
                idx[q], val[q] = j0 + t, part[t] * scaled
                q += 1 if part[t] > least else 0
    for j in range(whole, m):
        if e[j] > least:
            idx[q], val[q] = j, e[j] * scaled
            q += 1
    return q


@kernel
def measure(C, shift, scale, g, f, a, kappa, rate, sums, e, least, start, idx, val, i0, i1):
    """f of rows i0 ... i1 - 1 and the sums of the columns of P over them, in float64.

    If there is room in idx, the entries of W above `least` are listed there, those of row i from start[i - i0] on;
    returns their number, or -1 if the room did not do. Scratch: rate (n,), e (4, m).
    """
    m = g.size
    q = 0
    for j in range(m):
        sums[j] = 0.0
    for i in range(i0, i1, BLOCK):
        block = min(BLOCK, i1 - i)
        for k in range(block):
            f[i + k], total = _row_sum(C[i + k], shift, scale, f[i + k], g, e[k], SAFE64[0], SAFE64[1])
            if idx.size and q >= 0:
                start[i + k - i0] = q
                q = _collect(e[k], 1.0 / total, least * total, idx, val, q) if q + m <= idx.size else -1
            rate[i + k] = a[i + k] / total
            if kappa != 1.0:
                rate[i + k] *= exp2(minimum((kappa - 1.0) * f[i + k], 1000.0))
        if block == BLOCK:
            r0, r1, r2, r3 = rate[i], rate[i + 1], rate[i + 2], rate[i + 3]
            e0, e1, e2, e3 = e[0], e[1], e[2], e[3]
            for j in range(m):
                sums[j] += (r0 * e0[j] + r1 * e1[j]) + (r2 * e2[j] + r3 * e3[j])
        else:
            for k in range(block):
                r0, e0 = rate[i + k], e[k]
                for j in range(m):
                    sums[j] += r0 * e0[j]
    if idx.size:
        start[i1 - i0] = q
    return q


@kernel
def column_logsums(C, shift, scale, rows, f, out, top, j0, j1):
    """out_j = log2 sum over i in rows of 2^(f_i - (c_ij - shift) scale) of columns j0 ... j1 - 1; f as rows.

    -1e300 where every cost is infinite. Scratch: top (m,).
    """
    sums, most = out[j0:j1], top[j0:j1]
    for j in range(sums.size):
        sums[j], most[j] = 0.0, -1e300
    for k in range(rows.size):
        c, fk = C[rows[k]][j0:j1], f[k]
        for j in range(sums.size):
            most[j] = maximum(most[j], fk - (c[j] - shift) * scale)
    for k in range(rows.size):
        c, fk = C[rows[k]][j0:j1], f[k]
        for j in range(sums.size):
            sums[j] += exp2(fk - (c[j] - shift) * scale - most[j])
    for j in range(sums.size):
        sums[j] = most[j] + np.log2(sums[j])
