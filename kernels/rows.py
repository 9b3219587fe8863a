"""Row-wise divergences, value and gradients in one pass.

Floor: a row of k bins is 2k reads, plus one or two k writes for gradients. In float32, value and gradients take 1.1 to
1.9 times as long as those reads and writes on one core, up to 2.3 times for a general order alpha, whose exponentials
are arithmetic that the memory does not hide (``python -m benchmarks.divergences``).

float32 rows are computed in float32 as long as a segment's entries are zero or within [2^-60, 2^60], where no product
or quotient of two leaves the range; other segments are redone in float64, where all float32 numbers, subnormal ones
too, are ordinary. Sums go through float64 every SEGMENT bins.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, types
from numba.extending import overload

from otdist.kernels.entries import FAINT, HUGE, INVALID, bit_limits, like, total, zero_like
from otdist.kernels.jit import INLINE, kernel
from otdist.kernels.terms import Alpha, Hellinger, Support, read_bin, term
from otdist.kernels.vecmath import bits_max, bits_min, select

SEGMENT = 2048
IDENTITY, ROOT, LOGARITHM = 0, 1, 2
# Affinities outside are summed again in logarithms (``faint.py``).
SAFE_AFFINITY = (1e-280, 1e280)


class Finish(NamedTuple):
    """From the sum T of the terms to the value: scale T, scale sqrt(T), or scale log(1 + c T).

    The logarithm is that of the affinity B = sum p^a q^(1-a) = 1 + c T of histograms. `literal` (unnormalised measures)
    takes log B as it is, with B = c T + a S_p + (1-a) S_q.
    """

    kind: int
    scale: float
    c: float
    alpha: float
    literal: bool


@njit(**INLINE)
def finish_row(finish, total, affinity, sum_p, sum_q):
    """Value, and the numbers (f, h_p, h_q) such that its gradient is f dT + h."""
    scale = finish.scale
    if finish.kind == IDENTITY:
        return scale * total, scale, 0.0, 0.0
    if finish.kind == ROOT:
        root = np.sqrt(total)
        return scale * root, (0.5 * scale / root if 0.0 < root < np.inf else 0.0), 0.0, 0.0
    c, a = finish.c, finish.alpha
    if total == np.inf or affinity == 0.0:
        # lost mass, or disjoint supports: infinite derivatives stay so, the others have no meaning
        return scale * (np.inf if total == np.inf else -np.inf), scale * c, 0.0, 0.0
    if finish.literal:
        f = scale / affinity
        return scale * np.log(affinity), f * c, f * a, f * (1.0 - a)
    if c * total > -0.5:
        return scale * np.log1p(c * total), scale * c / (1.0 + c * total), 0.0, 0.0
    drift = a * np.log(sum_p) + (1.0 - a) * np.log(sum_q)
    return scale * (np.log(affinity) - drift), scale * c / affinity, 0.0, 0.0


@njit(forceinline=True, fastmath={"nnan", "nsz"}, error_model="numpy")
def times(x, a):
    """x a, rounded before anything is done with it: fused into p a - q b it would make equal histograms differ."""
    return x * a


@njit(**INLINE)
def _bins(tag, one, p, q, a, b, gp, gq):
    """Sums of the terms of a p, b q in the arithmetic of `one`; writes their derivatives.

    Also the sums of p and of q and their least and greatest bit patterns (see `bits_min`): the inputs are validated in
    the one pass that reads them.
    """
    zero = one - one
    value, lost, affinity = zero, zero, zero
    sum_p, sum_q = zero_like(p), zero_like(q)
    greatest, least = bit_limits(p)[:2]
    for k in range(p.size):
        least = bits_min(bits_min(least, p[k]), q[k])
        greatest = bits_max(bits_max(greatest, p[k]), q[k])
        sum_p += p[k]
        sum_q += q[k]
        x = read_bin(times(like(one, p[k]), a), times(like(one, q[k]), b))
        y = term(tag, x)
        value += y.value
        lost += y.lost
        affinity += y.affinity
        empty = x.p + x.q == zero
        if gp is not None:
            gp[k] = select(empty, zero, y.dp)
        if gq is not None:
            gq[k] = select(empty, zero, y.dq)
    return (
        Sums(np.float64(value), np.float64(lost), np.float64(affinity), np.float64(sum_p), np.float64(sum_q)),
        least,
        greatest,
    )


class Sums(NamedTuple):
    """What is added up over the segments of a row."""

    value: float
    lost: float
    affinity: float
    p: float
    q: float


def _reach(tag):
    """Bit patterns (see `bits_min`, `bits_max`) between which the float32 formulas neither overflow nor underflow."""


@overload(_reach, jit_options=INLINE)
def _reach_of(tag):
    if tag.instance_class is Alpha:
        return lambda tag: (np.int64(127 - tag.reach << 23) - 1, np.int64(127 + tag.reach << 23))
    low, high = np.int64(127 - 60 << 23) - 1, np.int64(127 + 60 << 23)
    return lambda tag: (low, high)


def _segment(tag, p, q, a, b, gp, gq):
    """`_bins` in the cheapest arithmetic that is safe for the range of the entries."""


@overload(_segment, jit_options=INLINE)
def _segment_of(tag, p, q, a, b, gp, gq):
    if p.dtype == types.float64:
        return lambda tag, p, q, a, b, gp, gq: _bins(tag, 1.0, p, q, a, b, gp, gq)

    one = np.float32(1)

    def single(tag, p, q, a, b, gp, gq):
        low, high = _reach(tag)
        if a == 1.0 and b == 1.0:
            result = _bins(tag, one, p, q, one, one, gp, gq)
            if result[1] >= low and result[2] <= high:
                return result
        return _bins(tag, 1.0, p, q, a, b, gp, gq)

    return single


def row_of(array, r):
    """(row r,), or None of None: the kernels with and without a gradient are one text."""


@overload(row_of, jit_options=INLINE)
def _row_of(array, r):
    if array == types.none:
        return lambda array, r: (None,)
    return lambda array, r: (array[r],)


def part(array, k0, k1):
    """(array[k0:k1],), or None of None."""


@overload(part, jit_options=INLINE)
def _part_of(array, k0, k1):
    if array == types.none:
        return lambda array, k0, k1: (None,)
    return lambda array, k0, k1: (array[k0:k1],)


def _adjust(g, f, h, row):
    """g <- f g + h; 0 where h is not and `row` is empty (there the logarithm's derivative is 0, or stated so)."""


@overload(_adjust, jit_options=INLINE)
def _adjust_of(g, f, h, row):
    if g == types.none:
        return lambda g, f, h, row: None

    single = g.dtype == types.float32

    def adjust(g, f, h, row):
        if h != 0.0:
            for k in range(g.size):
                g[k] = 0.0 if row[k] == 0 else f * np.float64(g[k]) + h
        elif single and 1e-20 < abs(f) < 1e20:
            factor = np.float32(f)
            if f != 1.0:
                for k in range(g.size):
                    g[k] *= factor
        elif f != 1.0:
            for k in range(g.size):
                g[k] = f * np.float64(g[k])

    return adjust


def through_sum(g, p, a, infinite):
    """Gradient through p/sum(p): g <- a (g - <g, a p>). Where the value is inf only the bins at fault keep theirs."""


@overload(through_sum, jit_options=INLINE)
def _through_sum_of(g, p, a, infinite):
    if g == types.none:
        return lambda g, p, a, infinite: None

    def centre(g, p, a, infinite):
        if infinite:
            for k in range(g.size):
                g[k] = select(abs(np.float64(g[k])) == np.inf, np.float64(g[k]), 0.0)
            return
        mean = 0.0
        for k in range(g.size):
            mean += np.float64(g[k]) * (np.float64(p[k]) * a)
        for k in range(g.size):
            g[k] = (np.float64(g[k]) - mean) * a

    return centre


def power_of(tag):
    """The exponent a of the affinity p^a q^(1-a); -1 for a divergence without one."""


@overload(power_of, jit_options=INLINE)
def _power_of_of(tag):
    if tag.instance_class is Alpha:
        return lambda tag: tag.alpha
    power = {Hellinger: 0.5, Support: 0.0}.get(tag.instance_class, -1.0)
    return lambda tag: power


@njit(**INLINE)
def row_value(tag, finish, p, q, a, b, gp, gq):
    """Value, sums and flags of one pair of rows scaled by a, b; writes the gradients in terms of the scaled rows."""
    huge, largest = bit_limits(p)[2:]
    value, lost, affinity, sum_p, sum_q = 0.0, 0.0, 0.0, 0.0, 0.0
    flags = 0
    for k0 in range(0, p.size, SEGMENT):
        k1 = min(k0 + SEGMENT, p.size)
        sums, _least, greatest = _segment(tag, p[k0:k1], q[k0:k1], a, b, part(gp, k0, k1)[0], part(gq, k0, k1)[0])
        if greatest > huge:
            flags |= INVALID if greatest > largest else HUGE
        value += sums.value
        lost += sums.lost
        affinity += sums.affinity
        sum_p += sums.p
        sum_q += sums.q
    if lost > 0.0:
        value = np.inf
    if finish.kind == LOGARITHM and lost == 0.0 and not SAFE_AFFINITY[0] < affinity < SAFE_AFFINITY[1]:
        return np.nan, sum_p, sum_q, flags | FAINT
    v, f, h_p, h_q = finish_row(finish, value, affinity, sum_p * a, sum_q * b)
    _adjust(gp, f, h_p, p)
    _adjust(gq, f, h_q, p if power_of(tag) == 0.0 else q)
    return v, sum_p, sum_q, flags


@kernel
def rows(tag, finish, P, Q, ip, iq, normalize, V, S, F, GP, GQ, r0, r1):
    """V[r] = D(P[ip[r]], Q[iq[r]]) for r0 <= r < r1; sums to S, flags to F, gradients to GP, GQ unless None."""
    for r in range(r0, r1):
        p, q = P[ip[r]], Q[iq[r]]
        a, b = 1.0, 1.0
        if normalize:
            a = 1.0 / total(p)
            b = 1.0 / total(q)
        gp, gq = row_of(GP, r)[0], row_of(GQ, r)[0]
        V[r], S[r, 0], S[r, 1], F[r] = row_value(tag, finish, p, q, a, b, gp, gq)
        if normalize and not F[r] & FAINT:
            through_sum(gp, p, a, V[r] == np.inf)
            through_sum(gq, q, b, V[r] == np.inf)
