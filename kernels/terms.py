"""Every divergence between histograms as a sum over bins: the formulas of one bin, value and both derivatives.

A divergence is finish(sum over bins of term(p, q)). Its kind is a small NamedTuple (`KL()`, `Alpha(...)`), and `term`
is resolved on that type when a kernel compiles, so one loop in ``rows.py`` or ``pairs.py`` serves all of them.

Forms are chosen so that no cancellation is left: with d = p - q, t = d/(p+q), every term is a product of factors that
are accurate one by one, is never negative, and vanishes exactly at p = q. L = log(p/q) comes from `vecmath.log_ratio`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit, types
from numba.extending import overload

from otdist.kernels.jit import STRICT
from otdist.kernels.vecmath import (
    JS_BOTTOM,
    JS_SCALE,
    JS_TOP,
    exp_and_expm1,
    log_ratio,
    power_and_less_one,
    quotient,
    select,
)


class TV(NamedTuple):
    """|p - q|/2."""


class Hellinger(NamedTuple):
    """(sqrt p - sqrt q)^2/2, and the affinity sqrt(pq)."""


class L2(NamedTuple):
    """(p - q)^2, in float64: squares of float32 differences underflow."""


class Pearson(NamedTuple):
    """(p - q)^2/q."""


class Symmetric(NamedTuple):
    """(p - q)^2/(p + q)."""


class KL(NamedTuple):
    """p log(p/q) - p + q."""


class JS(NamedTuple):
    """[KL(p, m) + KL(q, m)]/2 at m = (p + q)/2."""


class Jeffreys(NamedTuple):
    """(p - q) log(p/q)."""


class Alpha(NamedTuple):
    """(p^a q^(1-a) - a p - (1-a) q)/(a (a-1)) for a >= 1/2, a != 1, and the affinity p^a q^(1-a)."""

    alpha: float
    b: float  # a - 1, exact where a is not
    b_high: np.float32  # a - 1 = b_high + b_low
    b_low: np.float32
    reach: int  # float32 arithmetic is safe for entries within 2^-reach ... 2^reach
    taylor: tuple[float, ...]  # of the term in log(p/q) at 0, divided by q log(p/q)^2
    taylor32: tuple[np.float32, ...]


class Support(NamedTuple):
    """q where p = 0, and the affinity q where p > 0: Renyi's divergence of order 0."""


class CrossEntropy(NamedTuple):
    """-p log q; log q is held at or below `ceiling` (0 for histograms, whose entries are at most 1; else inf)."""

    ceiling: float


class Entropy(NamedTuple):
    """-p log p, ceiling as above."""

    ceiling: float


def alpha_tag(alpha: float, b: float | None = None) -> Alpha:
    """`Alpha` with its constants; the Taylor coefficient of log(p/q)^n is (1 + a + ... + a^(n-2))/n!."""
    coefficients, c, factorial = [], 1.0, 2.0
    for n in range(2, 14):
        coefficients.append(c / factorial)
        c, factorial = 1.0 + alpha * c, factorial * (n + 1)
    b = alpha - 1.0 if b is None else b
    b_high = np.float32(b)
    # p^a q^(1-a) <= 2^(reach (2|b| + 1)) must not overflow
    reach = int(min(60.0, 120.0 / (2.0 * abs(b) + 1.0)))
    return Alpha(
        float(alpha),
        float(b),
        b_high,
        np.float32(b - float(b_high)),
        reach,
        tuple(coefficients),
        tuple(map(np.float32, coefficients[:7])),
    )


class Bin(NamedTuple):
    """What a formula may ask about one bin. Whatever it does not ask is never computed."""

    p: Any
    q: Any
    d: Any  # p - q, to full relative accuracy
    ratio: Any  # `Ratio`: log(p/q) and its parts
    log_p: Any
    log_q: Any


class Term(NamedTuple):
    """What a formula answers. Derivatives infinite at an empty bin where the value is finite are stated as 0."""

    value: Any
    dp: Any
    dq: Any
    lost: Any  # mass that makes the value +inf (a sum of infinities inside the loop would stop vectorisation)
    affinity: Any  # p^a q^(1-a), for the logarithmic divergences


def read_bin(p, q):
    """`Bin` of two histogram entries."""


@overload(read_bin, jit_options=STRICT)
def _read_bin_of(p, q):
    one = np.float32(1) if p == types.float32 else 1.0

    def read(p, q):
        d = p - q
        return Bin(p, q, d, log_ratio(p, q, d), log_ratio(p, one, p - one).log, log_ratio(q, one, q - one).log)

    return read


@njit(**STRICT)
def _kl_value(one, p, d, ratio):
    """p log(p/q) - p + q: where p ~ q both pieces are d to first order, so the difference is taken by hand."""
    u = ratio.t * ratio.t
    return select(ratio.near, d * ratio.t * (one + (ratio.t + u) * ratio.tail), p * ratio.log - d)


def _tv(c):
    zero, half = c(0), c(0.5)

    def formula(tag, x):
        sign = select(x.d > zero, half, select(x.d < zero, -half, zero))
        return Term(half * abs(x.d), sign, -sign, zero, zero)

    return formula


def _l2(c):
    zero = c(0)

    def formula(tag, x):
        d = np.float64(x.d)
        return Term(d * d, x.d + x.d, -(x.d + x.d), zero, zero)

    return formula


def _hellinger(c):
    zero, half = c(0), c(0.5)
    tiny = c(2.0**-63) if c is np.float32 else c(2.0**-540)

    def formula32(tag, x):
        a = max(np.sqrt(x.p), tiny)
        b = max(np.sqrt(x.q), tiny)
        w = quotient(x.d, a + b)
        h = quotient(half * w, a * b)  # a b >= 2^-126
        dp = select(x.p == zero, zero, h * b)
        dq = select(x.q == zero, zero, -h * a)
        return Term(half * w * w, dp, dq, zero, select(x.p == zero, zero, select(x.q == zero, zero, a * b)))

    def formula64(tag, x):
        a = max(np.sqrt(x.p), tiny)
        b = max(np.sqrt(x.q), tiny)
        w = x.d / (a + b)
        affinity = np.sqrt(x.p) * np.sqrt(x.q)
        dp = select(x.p == zero, zero, half * w / a)
        return Term(half * w * w, dp, select(x.q == zero, zero, -half * w / b), zero, affinity)

    return formula32 if c is np.float32 else formula64


def _pearson(c):
    zero, two = c(0), c(2)
    tiny = c(2.0**-62) if c is np.float32 else c(5e-324)

    def formula32(tag, x):
        g = quotient(x.d, max(x.q, tiny))
        return Term(x.d * g, two * g, -g * (g + two), select(x.q == zero, x.p, zero), zero)

    def formula64(tag, x):
        q = max(x.q, tiny)
        w = x.d / np.sqrt(q)  # d (d/q) overflows at subnormal q where the value does not
        g = x.d / q
        return Term(select(x.q == zero, zero, w * w), two * g, -g * (g + two), select(x.q == zero, x.p, zero), zero)

    return formula32 if c is np.float32 else formula64


def _symmetric(c):
    zero, two = c(0), c(2)
    tiny = c(2.0**-62) if c is np.float32 else c(5e-324)

    def formula(tag, x):
        t = quotient(x.d, max(x.p + x.q, tiny))
        return Term(x.d * t, t * (two - t), -t * (two + t), zero, zero)

    return formula


def _kl(c):
    zero, one, inf = c(0), c(1), c(np.inf)
    tiny = c(2.0**-62) if c is np.float32 else c(5e-324)

    def formula(tag, x):
        lost = select(x.q == zero, x.p, zero)
        dp = select(x.p == zero, zero, select(x.q == zero, inf, x.ratio.log))
        dq = select(x.p == zero, one, select(x.q == zero, -inf, -x.d / max(x.q, tiny)))
        return Term(select(x.q == zero, zero, _kl_value(one, x.p, x.d, x.ratio)), dp, dq, lost, zero)

    return formula


def _js(c):
    zero, half, quarter, one, two = c(0), c(0.5), c(0.25), c(1), c(2)
    n0, n1, n2, n3 = (c(v) for v in JS_TOP)
    m0, m1, m2, m3 = (c(v) for v in JS_BOTTOM)
    scale, tiny = c(JS_SCALE / 4), c(2.0**-62)

    def formula32(tag, x):
        s = x.p + x.q
        r = quotient(one, max(s, tiny))
        z = np.sqrt((two * x.p * r) * (two * x.q * r))
        shape = (n0 + z * (n1 + z * (n2 + z * (n3 + z)))) / (m0 + z * (m1 + z * (m2 + z * (m3 + z))))
        dp = select(x.p == zero, zero, half * log_ratio(two * x.p, s, x.d).log)
        dq = select(x.q == zero, zero, half * log_ratio(two * x.q, s, -x.d).log)
        return Term(scale * (x.d * (x.d * r)) * shape, dp, dq, zero, zero)

    def formula64(tag, x):
        s = x.p + x.q
        # KL(p, m) = KL(2p, s)/2: doubling is exact, halving a subnormal number is not
        to_p = log_ratio(two * x.p, s, x.d)
        to_q = log_ratio(two * x.q, s, -x.d)
        value = quarter * (_kl_value(one, two * x.p, x.d, to_p) + _kl_value(one, two * x.q, -x.d, to_q))
        dp = select(x.p == zero, zero, half * to_p.log)
        dq = select(x.q == zero, zero, half * to_q.log)
        return Term(value, dp, dq, zero, zero)

    return formula32 if c is np.float32 else formula64


def _jeffreys(c):
    zero, inf = c(0), c(np.inf)
    tiny = c(2.0**-62) if c is np.float32 else c(5e-324)

    def formula(tag, x):
        no_p = x.p == zero
        no_q = x.q == zero
        lost = select(no_p, x.q, select(no_q, x.p, zero))
        dp = select(no_p, -inf, select(no_q, inf, x.ratio.log + x.d / max(x.p, tiny)))
        dq = select(no_p, inf, select(no_q, -inf, -x.ratio.log - x.d / max(x.q, tiny)))
        return Term(select(lost == zero, x.d * x.ratio.log, zero), dp, dq, lost, zero)

    return formula


def _alpha(c):
    """[p (e^y - 1)/b - d]/a with b = a - 1, y = b log(p/q); by its Taylor series where |log(p/q)| max(1, a) < 1/2."""
    zero, half, one, inf = c(0), c(0.5), c(1), c(np.inf)
    tiny = c(2.0**-62) if c is np.float32 else c(5e-324)

    def finish(tag, x, series, small, z, gain, slope, affinity):
        b = c(tag.b)
        over_a, over_b = one / c(tag.alpha), one / b
        no_p = x.p == zero
        no_q = x.q == zero
        steep = b > zero
        gain = select(no_p, zero, select(no_q, -x.p, gain)) * over_b
        value = select(small, x.q * z * z * series, (gain - x.d) * over_a)
        lost = select(no_q, select(steep, x.p, zero), zero)
        edge = abs(over_b)
        # e^{aL} - 1 from e^y - 1 near p = q, from the affinity elsewhere
        rise = quotient(select(x.ratio.near, slope * x.p + x.d, affinity), max(x.q, tiny))
        rise -= select(x.ratio.near, zero, one)
        dp = select(no_p, select(steep, -edge, zero), select(no_q, select(steep, inf, edge), slope * over_b))
        dq = select(no_p, over_a, select(no_q, select(steep, -inf, zero), -rise * over_a))
        shared = select(no_p, zero, select(no_q, zero, affinity))
        return Term(select(lost > zero, zero, value), dp, dq, lost, shared)

    def formula32(tag, x):
        c0, c1, c2, c3, c4, c5, c6 = tag.taylor32
        length = x.ratio.log
        small = abs(length) * max(one, c(tag.alpha)) < half
        z = select(small, length, zero)
        series = c0 + z * (c1 + z * (c2 + z * (c3 + z * (c4 + z * (c5 + z * c6)))))
        t = x.ratio.t
        rest = (t + t) * (one + t * t * x.ratio.tail)
        power, less = power_and_less_one(c(tag.b_high), c(tag.b_low), x.ratio.exponent, rest)
        return finish(tag, x, series, small, z, x.p * less, less, x.p * power)

    def formula64(tag, x):
        c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11 = tag.taylor
        length = x.ratio.log
        small = abs(length) * max(one, tag.alpha) < half
        z = select(small, length, zero)
        high = c6 + z * (c7 + z * (c8 + z * (c9 + z * (c10 + z * c11))))
        series = c0 + z * (c1 + z * (c2 + z * (c3 + z * (c4 + z * (c5 + z * high)))))
        b = tag.b
        root, less = exp_and_expm1(half * b * length)  # p e^y as (p root) root: e^y alone may overflow
        return finish(tag, x, series, small, z, (x.p * less) * (less + 2.0), less * (less + 2.0), (x.p * root) * root)

    finish = njit(**STRICT)(finish)
    return formula32 if c is np.float32 else formula64


def _support(c):
    zero, one = c(0), c(1)

    def formula(tag, x):
        empty = x.p == zero
        return Term(select(empty, x.q, zero), zero, select(empty, one, zero), zero, select(empty, zero, x.q))

    return formula


def _cross_entropy(c):
    zero, inf = c(0), c(np.inf)
    tiny = c(2.0**-62) if c is np.float32 else c(5e-324)

    def formula(tag, x):
        log_q = min(x.log_q, c(tag.ceiling))
        no_q = x.q == zero
        dp = select(no_q, select(x.p == zero, zero, inf), -log_q)
        dq = select(no_q, select(x.p == zero, zero, -inf), -x.p / max(x.q, tiny))
        return Term(select(no_q, zero, -x.p * log_q), dp, dq, select(no_q, x.p, zero), zero)

    return formula


def _entropy(c):
    zero, one = c(0), c(1)

    def formula(tag, x):
        log_p = min(x.log_p, c(tag.ceiling))
        return Term(-x.p * log_p, select(x.p == zero, zero, -log_p - one), zero, zero, zero)

    return formula


FORMULAS = {
    TV: _tv,
    Hellinger: _hellinger,
    L2: _l2,
    Pearson: _pearson,
    Symmetric: _symmetric,
    KL: _kl,
    JS: _js,
    Jeffreys: _jeffreys,
    Alpha: _alpha,
    Support: _support,
    CrossEntropy: _cross_entropy,
    Entropy: _entropy,
}


def term(tag, x):
    """`Term` of the divergence `tag` at the `Bin` x."""


@overload(term, jit_options=STRICT)
def _term_of(tag, x):
    kind = np.float32 if x.types[0] == types.float32 else np.float64
    return FORMULAS[tag.instance_class](kind)
