"""Sinkhorn iterations at one exponential per pair, in the log domain, without the plan ever being stored. Compiled.

A Gauss-Seidel iteration (Sinkhorn, 1967) solves the rows, then the columns:

    h_i = -log sum_j b_j exp(gamma_j - c_ij / eps),    t_j = sum_i a_i exp(phi_i - c_ij / eps),   gamma_j <- -log t_j.

The second sum seems to need the exponentials of all pairs anew. But e_ij = b_j exp(h'_i + gamma_j - c_ij / eps), at the
potentials h' of before, gives S_i = sum_j e_ij, h_i = h'_i - log S_i, and then the columns of the plan as
sum_i (w_i / S_i) e_ij: nothing but scaled rows. So a few rows of exponentials stay in the cache until their sums are
known, and are added to the columns from there: one exponential a pair. h' serves as the running maximum of the
log-sum-exp: near a fixed point S_i is near 1. A row whose sum leaves the safe range, or whose h' is unknown, is redone
by a true log-sum-exp. With unbalanced marginals phi = kappa h and w_i = a_i exp(phi_i - h_i).

Everything is in base 2: u = h log2(e), v = gamma log2(e) + log2(b), k = log2(e) / eps. Guesses are rounded to whole
numbers, which cost nothing in the exponent. Sums of float32 run over short strips and few rows, then go on in float64.

Floor of a pair, float32, stored: 1 operation for the exponent, 12 for the exponential, 2 for the sums, 16 lanes, two a
cycle: 0.18 ns at 2.6 GHz; squared distances add d - 1. Measured on one AVX-512 core at that clock: stored 0.31 ns at
n = 2000 and 0.39 at 4000, where memory sets the pace (0.63 before rows were asked for ahead); points, d = 2, 0.25 to
0.28, float64 0.70. `judge`, float64: 1.0 (points) to 1.2 ns, 1.7 where 8 bytes come from memory, of some 40 operations.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, types
from numba.extending import overload

from otdist.kernels.jit import INLINE, STRICT, kernel
from otdist.kernels.softmin_costs import Stored, ahead, cost, lowered, may_forbid, strip
from otdist.kernels.vecmath import EXP2, exp2, maximum, minimum, select, shift_by_bits

SPAN, STRIP, ROWS, FLUSH = 2048, 512, 4, 64
# Sums of a row that are trusted, and what starts the sum of a column: no product below can become subnormal.
LOW, HIGH, SEED = 2.0**-60, 2.0**60, 2.0**-100
LOW_64, HIGH_64, SEED_64 = 2.0**-900, 2.0**900, 2.0**-1000


# 2^f on |f| <= 1/2 to 8e-8: terms of float32 sums need no more.
SHORT = tuple(
    np.float32(c)
    for c in (1.00000007165, 0.693146967062, 0.240221197241, 0.0555071327753, 0.00967554132408, 0.00132764706888)
)


def power(t, low, high, magic):
    """2^(t + s) of a whole number s, t clamped to low ... high; magic = 1.5 2^mantissa + s."""


@overload(power, jit_options=STRICT)
def _power(t, low, high, magic):
    if t == types.float32:
        a0, a1, a2, a3, a4, a5 = SHORT

        def power_32(t, low, high, magic):
            t = minimum(maximum(t, low), high)
            m = t + magic
            f = t - (m - magic)
            return shift_by_bits(a0 + f * (a1 + f * (a2 + f * (a3 + f * (a4 + f * a5)))), m)

        return power_32
    b0, b1, b2, b3, b4, b5, b6, b7, b8, b9, b10, b11 = EXP2

    def power_64(t, low, high, magic):
        t = minimum(maximum(t, low), high)
        m = t + magic
        f = t - (m - magic)
        most = b6 + f * (b7 + f * (b8 + f * (b9 + f * (b10 + f * b11))))
        return shift_by_bits(b0 + f * (b1 + f * (b2 + f * (b3 + f * (b4 + f * (b5 + f * most))))), m)

    return power_64


@njit(**STRICT)
def top(t):
    """t, but no larger than the exponential bears."""
    return minimum(t, 990.0)


def like(v, x):
    """The number x in the float of an array."""


@overload(like, jit_options=STRICT)
def _like(v, x):
    if v.dtype == types.float32:
        return lambda v, x: np.float32(x)
    return lambda v, x: np.float64(x)


def limits(v):
    """LOW, HIGH and SEED of an arithmetic."""


@overload(limits, jit_options=STRICT)
def _limits(v):
    if v.dtype == types.float32:
        return lambda v: (LOW, HIGH, SEED)
    return lambda v: (LOW_64, HIGH_64, SEED_64)


def clamps(v):
    """The least and the largest exponent, the number whose last bit is worth 1, and the largest shift of a row."""


@overload(clamps, jit_options=STRICT)
def _clamps(v):
    if v.dtype == types.float32:
        numbers = tuple(np.float32(x) for x in (-125.0, 110.0, 1.5 * 2.0**23, 2.0**21))
    else:
        numbers = (-1020.0, 990.0, 1.5 * 2.0**52, 2.0**50)
    least, most, magic, far = numbers
    return lambda v: (least, most, magic, far)


def reach(source):
    """Columns at a time: with stored costs so few that as many lines of memory can be on their way."""


@overload(reach, jit_options=STRICT)
def _reach(source):
    span = STRIP if source.instance_class is Stored else SPAN
    return lambda source: span


@njit(**INLINE)
def fill(source, i, s, v, out):
    """out_j = 2^(s + v_j - k c_ij), s a whole number; their sum."""
    m, span = len(v), reach(source)
    least, most, magic, _ = clamps(v)
    total = 0.0
    for lo in range(0, m, span):
        hi = min(lo + span, m)
        part, some, piece = v[lo:hi], out[lo:hi], strip(source, i, lo, hi)
        ahead(source, piece, ROWS, m)
        found = like(v, 0.0)
        for j in range(hi - lo):
            e = power(lowered(source, piece, part[j], j), least - s, most - s, magic + s)
            some[j] = e
            found += e
        total += np.float64(found)
    return total


@njit(**INLINE)
def largest(source, i, v):
    """max_j v_j - k c_ij."""
    m = len(v)
    most = like(v, -np.inf)
    for lo in range(0, m, SPAN):
        hi = min(lo + SPAN, m)
        part, piece = v[lo:hi], strip(source, i, lo, hi)
        high = like(v, -np.inf)
        for j in range(hi - lo):
            high = maximum(high, lowered(source, piece, part[j], j))
        most = maximum(most, high)
    return most


@kernel
def eliminate(source, u, v, a, less, h, buffer, scale, part, columns):
    """Solve rows of one tile at v: h from the guess u; `columns` become the sums of w_i p_ij.

    a are masses of total about 1; `less` = kappa - 1; buffer (ROWS, m), scale (ROWS,) and part (m,) are scratch.
    Returns how many rows were redone, and the largest |log2(w_i / a_i)|.
    """
    rows, m = len(u), len(v)
    low, high, seed = limits(v)
    far_off = clamps(v)[3]
    redone, far = 0, 0.0
    for j in range(m):
        columns[j] = 0.0
        part[j] = like(v, seed)
    buffer[:] = like(v, 0.0)
    for i0 in range(0, rows, ROWS):
        count = min(ROWS, rows - i0)
        scale[:] = like(v, 0.0)
        for r in range(count):
            i = i0 + r
            shift, s, trusted = np.rint(u[i]), 0.0, True
            while True:
                if abs(shift) < far_off:
                    s = fill(source, i, shift, v, buffer[r])
                if low < s < high or not trusted:
                    break
                redone, trusted, s = redone + 1, False, 0.0
                shift = np.rint(-largest(source, i, v))
            h[i] = np.float64(shift)  # infinite where nothing may go, and all that is known where the shift is too far
            if s > 0.0:
                h[i] -= math.log2(s)
                weight = a[i]
                if less != 0.0:
                    lift = less * h[i]
                    far = max(far, abs(lift))
                    weight *= 2.0 ** min(max(lift, -900.0), 900.0)
                scale[r] = like(v, weight / s)
        b0, b1, b2, b3 = buffer[0], buffer[1], buffer[2], buffer[3]
        s0, s1, s2, s3 = scale[0], scale[1], scale[2], scale[3]
        for j in range(m):
            part[j] += (s0 * b0[j] + s1 * b1[j]) + (s2 * b2[j] + s3 * b3[j])
        if (i0 + ROWS) % FLUSH == 0 or i0 + ROWS >= rows:
            for j in range(m):
                columns[j] += np.float64(part[j])
                part[j] = like(v, seed)
    return redone, far


@kernel
def plan(source, u, v, i0, i1, out):
    """out[i - i0, j] = 2^(u_i + v_j - k c_ij) of rows i0 ... i1 - 1, 0 where that is below 2^-1020 or forbidden."""
    for i in range(i0, i1):
        for lo in range(0, len(v), SPAN):
            hi = min(lo + SPAN, len(v))
            part, some, piece = v[lo:hi], out[i - i0, lo:hi], strip(source, i, lo, hi)
            for j in range(hi - lo):
                t = lowered(source, piece, u[i] + part[j], j)
                some[j] = select(t > -1020.0, exp2(top(t)), 0.0)


# What `judge` finds of a row, in its order.
MASS, LINEAR, KEPT, KEPT_LINEAR, SIZE, RANK_ONE, RANK_ONE_SIZE, BARRED, LEAST = range(9)
FIGURES = 9
FAINT = -1000.0


@kernel
def judge(source, u, v, g, y, r, out, columns):
    """Of every row of P_ij = 2^(u_i + v_j - k c_ij), float64, and of Q_ij = P_ij y_j:

    sum P, sum P c, sum Q, sum Q c, sum (P + Q) |c|, sum c r, sum |c| r, sum of r where c is infinite, min c - g.
    `columns` become the sums of P by columns. Forbidden pairs count as no mass at cost 0, others as 2^-1000 at
    least: no product is subnormal.
    """
    m = len(v)
    for j in range(m):
        columns[j] = 0.0
    for i in range(len(u)):
        mass, linear, kept, kept_linear, size = 0.0, 0.0, 0.0, 0.0, 0.0
        rank_one, rank_one_size, barred, least = 0.0, 0.0, 0.0, np.inf
        for lo in range(0, m, SPAN):
            hi = min(lo + SPAN, m)
            piece, to = strip(source, i, lo, hi), columns[lo:hi]
            vv, gg, yy, rr = v[lo:hi], g[lo:hi], y[lo:hi], r[lo:hi]
            for j in range(hi - lo):
                c = np.float64(cost(source, piece, j))
                least = minimum(least, c - gg[j])
                e = exp2(top(maximum(lowered(source, piece, u[i] + vv[j], j), FAINT)))
                if may_forbid(source):
                    allowed = c < np.inf
                    barred += select(allowed, 0.0, rr[j])
                    c, e = select(allowed, c, 0.0), select(allowed, e, 0.0)
                to[j] += e
                q = e * yy[j]
                mass += e
                kept += q
                linear += e * c
                kept_linear += q * c
                rank_one += c * rr[j]
                if may_forbid(source):
                    size += (e + q) * abs(c)
                    rank_one_size += abs(c) * rr[j]
        if not may_forbid(source):  # no cost between points is negative
            size, rank_one_size = linear + kept_linear, rank_one
        out[MASS, i], out[LINEAR, i], out[KEPT, i], out[KEPT_LINEAR, i] = mass, linear, kept, kept_linear
        out[SIZE, i] = size
        out[RANK_ONE, i], out[RANK_ONE_SIZE, i], out[BARRED, i], out[LEAST, i] = rank_one, rank_one_size, barred, least
