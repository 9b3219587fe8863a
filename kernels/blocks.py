"""Sinkhorn sweeps over pairs of blocks of points: one exponential per pair, and only of the pairs that carry mass.

Points lie in the order of a tree, BLOCK consecutive ones in a compact cell, and costs are in units of epsilon and
base 2: the plan is P_ij = a_i 2^(phi_i + gamma_j - c(x_i, y_j)) b_j. A list (``blocks_list.py``) names for every row
block the column blocks it meets. For HELD rows at a time the exponentials

    v_ij = 2^(phi_i + (gamma_j + log2 b_j) - c_ij)

are computed at the potentials at hand and kept, s_i = sum_j v_ij solves the rows (phi_i <- -kappa (log2 s_i - phi_i),
Gauss-Seidel), and the columns of P are sums of v_ij times a_i 2^(change of phi_i): what was kept is used twice. Where a
row meets so many columns that they would not stay in the second-level cache, the exponentials are computed again.

Exponents are sums of large numbers that cancel. With x = p + u and y = q + v around the centres of their blocks and
D = p - q, a squared cost splits:

    |x - y|^2 = |D|^2 + 2 D.u + |u|^2 - 2 D.v + |v|^2 - 2 u.v,

so that everything but 2 u.v belongs to a row or to a column of the block pair, is added up in float64 and rounded once:
float32 errs by 2^-24 of the exponents of mass that matters, not of c/epsilon, and a pair costs d products. Other costs
are those of differences u + D - v.

Sums: BLOCK terms of a row in the working precision, and HELD of a column; those of blocks in float64.

Measured on one AVX-512 core: see `sweep`. The floor is the exponential, 0.075 ns in float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import overload

from otdist.kernels.costs import add, between, finish
from otdist.kernels.jit import INLINE, STRICT, kernel
from otdist.kernels.profiles import Squared
from otdist.kernels.vecmath import exp2, minimum

# Points of a block, rows whose exponentials are held, coordinates (absent ones are zero).
BLOCK, HELD, AXES = 64, 16, 3
# Sums of a row between these powers of two are as good as their terms; others want a true log-sum-exp.
SAFE = 60.0
LEAST, MOST = 2.0**-SAFE, 2.0**SAFE
# The least exponentials times a mass would be subnormal numbers, which are slow: products are this much larger.
LIFT = 2.0**60


def zero_of(t):
    """0 in the type of t."""


@overload(zero_of, jit_options=STRICT)
def _zero_of(t):
    zero = np.float32(0) if t == types.float32 else 0.0
    return lambda t: zero


def exponent(tag, alpha, beta, x0, x1, x2, y0, y1, y2):
    """The exponent of a pair from what `_prepare` made of its row and its column."""


def _squared(tag: Any) -> bool:
    return getattr(tag, "instance_class", None) is Squared


@overload(exponent, jit_options=INLINE)
def _exponent(tag, alpha, beta, x0, x1, x2, y0, y1, y2):
    if _squared(tag):
        return lambda tag, alpha, beta, x0, x1, x2, y0, y1, y2: alpha + beta + x0 * y0 + x1 * y1 + x2 * y2

    def general(tag, alpha, beta, x0, x1, x2, y0, y1, y2):
        total = add(tag, zero_of(x0), x0 - y0)
        total = add(tag, add(tag, total, x1 - y1), x2 - y2)
        return alpha + beta - finish(tag, total)

    return general


def _prepare(tag, p, U, phi, q, V, G, r0, x, alpha, beta):
    """What belongs to rows r0:r0+HELD and to the columns of a block pair."""


@overload(_prepare, jit_options=INLINE)
def _prepare_of(tag, p, U, phi, q, V, G, r0, x, alpha, beta):
    if _squared(tag):

        def squared(tag, p, U, phi, q, V, G, r0, x, alpha, beta):
            d0, d1, d2 = 2.0 * (p[0] - q[0]), 2.0 * (p[1] - q[1]), 2.0 * (p[2] - q[2])
            level = G[0]
            shift = level - 0.25 * (d0 * d0 + d1 * d1 + d2 * d2)
            for r in range(HELD):
                u0, u1, u2 = U[0, r0 + r], U[1, r0 + r], U[2, r0 + r]
                x[0, r], x[1, r], x[2, r] = u0 + u0, u1 + u1, u2 + u2
                alpha[r] = (phi[r0 + r] + shift) - (u0 * (d0 + u0) + u1 * (d1 + u1) + u2 * (d2 + u2))
            for j in range(BLOCK):
                v0, v1, v2 = V[0, j], V[1, j], V[2, j]
                beta[j] = (G[j] - level) + (v0 * (d0 - v0) + v1 * (d1 - v1) + v2 * (d2 - v2))

        return squared

    def general(tag, p, U, phi, q, V, G, r0, x, alpha, beta):
        level = G[0]
        for r in range(HELD):
            for k in range(AXES):
                x[k, r] = (p[k] - q[k]) + U[k, r0 + r]
            alpha[r] = phi[r0 + r] + level
        for j in range(BLOCK):
            beta[j] = G[j] - level

    return general


@njit(**INLINE)
def _fill(tag, x, alpha, beta, V, out, sums):
    """Exponentials of HELD rows and a block of columns, and their sums by rows."""
    for r in range(HELD):
        a, x0, x1, x2 = alpha[r], x[0, r], x[1, r], x[2, r]
        total = zero_of(a)
        for j in range(BLOCK):
            t = exponent(tag, a, beta[j], x0, x1, x2, V[0, j], V[1, j], V[2, j])
            v = exp2(minimum(t, ceiling(t)))
            out[r, j] = v
            total += v
        sums[r] += total


def ceiling(t):
    """The largest exponent that `exp2` is good for."""


@overload(ceiling, jit_options=STRICT)
def _ceiling(t):
    top = np.float32(126.0) if t == types.float32 else 1000.0
    return lambda t: top


@njit(**INLINE)
def _add_columns(w, s, col):
    for j in range(BLOCK):
        low = s[0] * w[0, j] + s[1] * w[1, j] + s[2] * w[2, j] + s[3] * w[3, j]
        low += s[4] * w[4, j] + s[5] * w[5, j] + s[6] * w[6, j] + s[7] * w[7, j]
        high = s[8] * w[8, j] + s[9] * w[9, j] + s[10] * w[10, j] + s[11] * w[11, j]
        high += s[12] * w[12, j] + s[13] * w[13, j] + s[14] * w[14, j] + s[15] * w[15, j]
        col[j] += np.float64(low + high) * (1.0 / LIFT)


@kernel
def sweep(tag, first, last, start, cols, p, U, phi, a, q, V, G, kappa, buf, x, alpha, beta, sums, scale, col, out):
    """Row blocks first:last: out = their new phi (NaN where it takes a log-sum-exp), and their part of the columns.

    start, cols: the list. p, q (blocks, AXES) centres, U, V (blocks, AXES, BLOCK) differences from them, of one dtype
    with buf (slots, HELD, BLOCK), x (AXES, HELD), alpha, scale (HELD,), beta (BLOCK,). phi, a, G = gamma + log2 b, -inf
    where there is no point, sums (HELD,), col, out: float64.

    Measured in float32, squared cost, three coordinates: 0.16 ns a pair.
    """
    slots = len(buf)
    for block in range(first, last):
        k0, k1 = start[block], start[block + 1]
        hold = k1 - k0 <= slots
        base = block * BLOCK
        rows, mine = phi[base : base + BLOCK], U[block]
        for r0 in range(0, BLOCK, HELD):
            if a[base + r0] == 0.0:  # points come first: there are none from here on
                continue
            for r in range(HELD):
                sums[r] = 0.0
            for k in range(k0, k1):
                c = cols[k]
                _prepare(tag, p[block], mine, rows, q[c], V[c], G[c * BLOCK : (c + 1) * BLOCK], r0, x, alpha, beta)
                _fill(tag, x, alpha, beta, V[c], buf[(k - k0) * hold], sums)
            for r in range(HELD):
                i, s = base + r0 + r, sums[r]
                scale[r] = 0.0
                if a[i] > 0.0:
                    if LEAST < s < MOST:
                        out[i] = -kappa * (np.log2(s) - phi[i])
                        scale[r] = LIFT * a[i] * (1.0 / s if kappa == 1.0 else 2.0 ** (out[i] - phi[i]))
                    else:
                        out[i] = np.nan
            for k in range(k0, k1):
                c = cols[k]
                if not hold:
                    _prepare(tag, p[block], mine, rows, q[c], V[c], G[c * BLOCK : (c + 1) * BLOCK], r0, x, alpha, beta)
                    _fill(tag, x, alpha, beta, V[c], buf[0], sums)
                _add_columns(buf[(k - k0) * hold], scale, col[c * BLOCK : (c + 1) * BLOCK])


@kernel
def logsums(tag, X, Y, G, which, first, last, t, out):
    """out[s] = log2 sum_j 2^(G_j - c(x_i, y_j)) of i = which[s], s in first:last, over all j. t (m,): scratch."""
    for s in range(first, last):
        x, top = X[which[s]], -np.inf
        for j in range(len(Y)):
            t[j] = G[j] - between(tag, x, Y[j])
            top = max(top, t[j])
        total = 0.0
        for j in range(len(Y)):
            total += exp2(t[j] - top)
        out[s] = top + np.log2(total)


@kernel
def add_rows(tag, X, Y, G, which, row, col):
    """col[j] += sum over s of 2^(row[s] + G_j - c(x_i, y_j)), i = which[s], over all j."""
    for s in range(len(which)):
        x = X[which[s]]
        for j in range(len(Y)):
            col[j] += exp2(minimum(row[s] + G[j] - between(tag, x, Y[j]), 1000.0))
