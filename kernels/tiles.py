"""Sums over bins for all pairs of two blocks of rows: a register block of pairs shares every load.

Floor of a tile: its vector instructions per pair and bin over the width of a vector (16 float32, 8 float64), about two
a cycle, and a tenth for folding the sums of a vector into one. Measured times stand in ``pairs.py``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, types
from numba.extending import overload

from otdist.kernels.entries import zero_like
from otdist.kernels.jit import INLINE, STRICT, kernel
from otdist.kernels.vecmath import JS_BOTTOM, JS_TOP, LN2, as_float, exponent_gap, quotient, scale_down

# Columns that stay in the first-level cache while all rows of the block pass.
STRIPE_BYTES = 2**15

# 2 atanh(t)/t in t^2 for |t| <= (sqrt 2 - 1)/(sqrt 2 + 1): error 4e-16
ATANH = (
    2.00000000000000035,
    0.666666666665514327,
    0.400000000624146067,
    0.285714159113672033,
    0.222234425344752189,
    0.181216692309635684,
    0.168409344474409108,
)
# exponent_gap(x, SPLIT) brings x to [1/sqrt 2, sqrt 2]
SPLIT = float(np.int64(0x3FEEA09E667F3BCD).view(np.float64))


class Distance(NamedTuple):
    """|p - q|."""


class SquaredDistance(NamedTuple):
    """(p - q)^2."""


class Harmonic(NamedTuple):
    """(p - q)^2/(p + q)."""


class JensenShannon(NamedTuple):
    """Four times the bin of JS, from p and sqrt(2p), float32."""


class JointEntropy(NamedTuple):
    """s log s, s = p + q, float64."""


class RootDistance(NamedTuple):
    """(sqrt p - sqrt q)^2, from the roots to twice the working precision: no cancellation, no division."""


def bin_of(tag, p, x, q, y):
    """The term of one bin; p, q from the first tables, x, y from the second."""


def _distance(real):
    return lambda tag, p, x, q, y: abs(p - q)


def _squared_distance(real):
    return lambda tag, p, x, q, y: (p - q) * (p - q)


def _harmonic(real):
    def of(tag, p, x, q, y):
        d = p - q
        return d * quotient(d, p + q)

    return of


def _jensen_shannon(real):
    a0, a1, a2, a3 = (real(c) for c in JS_TOP)
    b0, b1, b2, b3 = (real(c) for c in JS_BOTTOM)
    one = real(1)

    def of(tag, p, x, q, y):
        d = p - q
        r = quotient(one, p + q)
        z = (x * y) * r
        top = a0 + z * (a1 + z * (a2 + z * (a3 + z)))
        bottom = b0 + z * (b1 + z * (b2 + z * (b3 + z)))
        return (d * (d * r)) * (top / bottom)

    return of


def _joint_entropy(real):
    c0, c1, c2, c3, c4, c5, c6 = ATANH

    def of(tag, p, x, q, y):
        s = p + q
        e = exponent_gap(s, SPLIT)
        f = scale_down(s, e) - 1.0
        t = f / (f + 2.0)
        u = t * t
        return s * (as_float(e) * LN2 + t * (c0 + u * (c1 + u * (c2 + u * (c3 + u * (c4 + u * (c5 + u * c6)))))))

    return of


def _root_distance(real):
    def of(tag, p, x, q, y):
        w = (p - q) + (x - y)
        return w * w

    return of


BINS = {
    Distance: _distance,
    SquaredDistance: _squared_distance,
    Harmonic: _harmonic,
    JensenShannon: _jensen_shannon,
    JointEntropy: _joint_entropy,
    RootDistance: _root_distance,
}


@overload(bin_of, jit_options=STRICT)
def _bin_of(tag, p, x, q, y):
    return BINS[tag.instance_class](np.float32 if p == types.float32 else np.float64)


@njit(**INLINE)
def put(g, j, value, fresh):
    """g[j] = value, or += where the sum has begun before."""
    if fresh:
        g[j] = value
    else:
        g[j] += value


@kernel
def tile(tag, factor, root, A, X, B, Y, first, fresh, G, a, b, rows, columns):
    """G[a + i, b + j] += factor sum over bins of bin(A[i], X[i], B[j], Y[j]), i < rows, j < columns, in fours.

    `fresh`: from 0; `root`: then the square root. Blocks of four with every j < i + first are left out.
    """
    bins = A.shape[1]
    zero = zero_like(A)
    stripe = max(4, STRIPE_BYTES // (bins * A.itemsize) // 4 * 4)
    for left in range(0, columns, stripe):
        right = min(left + stripe, columns)
        for i in range(0, rows, 4):
            a0, a1, a2, a3 = A[i], A[i + 1], A[i + 2], A[i + 3]
            x0, x1, x2, x3 = X[i], X[i + 1], X[i + 2], X[i + 3]
            g0, g1 = G[a + i][b : b + columns], G[a + i + 1][b : b + columns]
            g2, g3 = G[a + i + 2][b : b + columns], G[a + i + 3][b : b + columns]
            for j in range(left, right, 4):
                if j + 3 < i + first:
                    continue
                b0, b1, b2, b3 = B[j], B[j + 1], B[j + 2], B[j + 3]
                y0, y1, y2, y3 = Y[j], Y[j + 1], Y[j + 2], Y[j + 3]
                s00, s01, s02, s03, s10, s11, s12, s13 = zero, zero, zero, zero, zero, zero, zero, zero
                s20, s21, s22, s23, s30, s31, s32, s33 = zero, zero, zero, zero, zero, zero, zero, zero
                for k in range(bins):
                    s00 += bin_of(tag, a0[k], x0[k], b0[k], y0[k])
                    s01 += bin_of(tag, a0[k], x0[k], b1[k], y1[k])
                    s02 += bin_of(tag, a0[k], x0[k], b2[k], y2[k])
                    s03 += bin_of(tag, a0[k], x0[k], b3[k], y3[k])
                    s10 += bin_of(tag, a1[k], x1[k], b0[k], y0[k])
                    s11 += bin_of(tag, a1[k], x1[k], b1[k], y1[k])
                    s12 += bin_of(tag, a1[k], x1[k], b2[k], y2[k])
                    s13 += bin_of(tag, a1[k], x1[k], b3[k], y3[k])
                    s20 += bin_of(tag, a2[k], x2[k], b0[k], y0[k])
                    s21 += bin_of(tag, a2[k], x2[k], b1[k], y1[k])
                    s22 += bin_of(tag, a2[k], x2[k], b2[k], y2[k])
                    s23 += bin_of(tag, a2[k], x2[k], b3[k], y3[k])
                    s30 += bin_of(tag, a3[k], x3[k], b0[k], y0[k])
                    s31 += bin_of(tag, a3[k], x3[k], b1[k], y1[k])
                    s32 += bin_of(tag, a3[k], x3[k], b2[k], y2[k])
                    s33 += bin_of(tag, a3[k], x3[k], b3[k], y3[k])
                put(g0, j, factor * s00, fresh)
                put(g0, j + 1, factor * s01, fresh)
                put(g0, j + 2, factor * s02, fresh)
                put(g0, j + 3, factor * s03, fresh)
                put(g1, j, factor * s10, fresh)
                put(g1, j + 1, factor * s11, fresh)
                put(g1, j + 2, factor * s12, fresh)
                put(g1, j + 3, factor * s13, fresh)
                put(g2, j, factor * s20, fresh)
                put(g2, j + 1, factor * s21, fresh)
                put(g2, j + 2, factor * s22, fresh)
                put(g2, j + 3, factor * s23, fresh)
                put(g3, j, factor * s30, fresh)
                put(g3, j + 1, factor * s31, fresh)
                put(g3, j + 2, factor * s32, fresh)
                put(g3, j + 3, factor * s33, fresh)
            if root:
                for j in range(left, right):
                    g0[j], g1[j], g2[j], g3[j] = np.sqrt(g0[j]), np.sqrt(g1[j]), np.sqrt(g2[j]), np.sqrt(g3[j])
