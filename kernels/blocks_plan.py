"""The plan over a list of block pairs, rounded, and the mean of its exponents: what bounds of the optimum are made of.

Over the list of ``blocks.py``, v_ij = 2^t_ij, t_ij = phi_i + G_j - c_ij. With s_i = sum_j v_ij and x_i = min(1, 1/s_i)
the plan Q_ij = a_i x_i v_ij has no row above its mass. Its costs follow from the exponents,

    sum Q c = sum_i phi_i Q_i + sum_j G_j Q_j - sum Q t,

so that one pass gives the marginals, the costs and the entropy: an exponential a pair, in float64.
"""

from __future__ import annotations

from numba import njit

from otdist.kernels.blocks import BLOCK, HELD, _add_columns, _prepare, exponent
from otdist.kernels.jit import INLINE, kernel
from otdist.kernels.vecmath import exp2, maximum, minimum


@njit(**INLINE)
def _fill(tag, x, alpha, beta, V, out, sums, moments):
    for r in range(HELD):
        a, x0, x1, x2 = alpha[r], x[0, r], x[1, r], x[2, r]
        total, moment = 0.0, 0.0
        for j in range(BLOCK):
            t = exponent(tag, a, beta[j], x0, x1, x2, V[0, j], V[1, j], V[2, j])
            t = minimum(maximum(t, -1000.0), 1000.0)
            v = exp2(t)
            out[r, j] = v
            total += v
            moment += v * t
        sums[r] += total
        moments[r] += moment


@kernel
def rounded(
    tag, first, last, start, cols, p, U, phi, a, q, V, G, cap, buf, x, alpha, beta, sums, scale, moments, col, s, st
):
    """Row blocks first:last: s = sum_j v_ij, st = sum_j v_ij t_ij, and their part of the columns of Q.

    With no `cap`, x = 1. Arguments as those of `blocks.sweep`, all float64; moments (HELD,).
    """
    lift = 2.0**60
    slots = len(buf)
    for block in range(first, last):
        k0, k1 = start[block], start[block + 1]
        hold = k1 - k0 <= slots
        base = block * BLOCK
        rows, mine = phi[base : base + BLOCK], U[block]
        for r0 in range(0, BLOCK, HELD):
            if a[base + r0] == 0.0:
                continue
            for r in range(HELD):
                sums[r], moments[r] = 0.0, 0.0
            for k in range(k0, k1):
                c = cols[k]
                _prepare(tag, p[block], mine, rows, q[c], V[c], G[c * BLOCK : (c + 1) * BLOCK], r0, x, alpha, beta)
                _fill(tag, x, alpha, beta, V[c], buf[(k - k0) * hold], sums, moments)
            for r in range(HELD):
                i = base + r0 + r
                s[i], st[i] = sums[r], moments[r]
                scale[r] = a[i] * lift
                if cap and sums[r] > 1.0:
                    scale[r] /= sums[r]
            for k in range(k0, k1):
                c = cols[k]
                if not hold:
                    _prepare(tag, p[block], mine, rows, q[c], V[c], G[c * BLOCK : (c + 1) * BLOCK], r0, x, alpha, beta)
                    _fill(tag, x, alpha, beta, V[c], buf[0], sums, moments)
                _add_columns(buf[(k - k0) * hold], scale, col[c * BLOCK : (c + 1) * BLOCK])
