"""Elementary functions that a loop can vectorise: no call into libm, no branch, float32 and float64.

Everything rests on one observation: the bit pattern of a positive float, read as an integer, is a piecewise linear
logarithm. Differences of bit patterns give exponents without a division, and minima and maxima of bit patterns
tell in one pass whether an array holds a NaN, an infinity, a negative number, a zero or a tiny number.

Measured on one AVX-512 core, in cache: `log_ratio` 0.14 ns (float32), 0.61 ns (float64) per element.
Coefficients: ``python docs/coefficients.py``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

from otdist.kernels.jit import STRICT

LN2 = 0.6931471805599453
# ln 2 split so that e * LN2_HIGH is exact for every exponent e of float64
LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
LOG2E = 1.4426950408889634

# (atanh t - t)/t^3 in u = t^2 on [0, 0.04]: relative error of the logarithm below 1e-8 and 1e-18
ATANH32 = tuple(np.float32(c) for c in (0.333333568681006767, 0.199894550539611597, 0.149795983670824148))
ATANH64 = (
    0.333333333333333321,
    0.200000000000039705,
    0.142857142836379673,
    0.11111111524175794,
    0.0909086881315146858,
    0.0769443390280685831,
    0.0660485412102973163,
    0.0680451513142924936,
)
# (e^x - 1)/x on |x| <= 0.36: error 4e-19
EXPM1 = (
    1.0,
    0.5,
    0.166666666666666873,
    0.0416666666666666814,
    0.00833333333331471803,
    0.00138888888888755952,
    0.000198412699025491677,
    0.0000248015873453489124,
    2.75572280504955935e-6,
    2.75572541125295716e-7,
    2.51146182491044273e-8,
    2.09214004314020359e-9,
)
EXPM1_32 = tuple(
    np.float32(c)
    for c in (
        1.0000000135334043,
        0.500000001690762481,
        0.166664787214969719,
        0.0416664318573176993,
        0.00837198296285215536,
        0.00139371813599074312,
    )
)
# [(1+t) log(1+t) + (1-t) log(1-t)]/t^2 = JS_SCALE TOP(z)/BOTTOM(z), z = sqrt(1 - t^2), both monic with positive
# coefficients only: relative error 3.7e-7, no logarithm, no cancellation
# The first is the float32 number for which disjoint bins give log 2 to the last bit.
JS_TOP = (0.05148267, 4.20676127921, 46.8824828773, 95.3152137331)
JS_BOTTOM = (0.00106568236108, 0.0870811685547, 0.974691149528, 2.16856713822)
JS_SCALE = 0.0286960540167
# 2^f on |f| <= 1/2: relative error 1.9e-9 and 3.1e-18; the first coefficients round to 1, so that 2^0 = 1
EXP2_32 = tuple(
    np.float32(c)
    for c in (
        1.0000000005541648,
        0.693147205737195751,
        0.240226468906455207,
        0.055503287771053248,
        0.00961848895633118162,
        0.0013399931177239738,
        0.000153458121613116298,
    )
)
EXP2 = (
    1.0,
    0.69314718055994533,
    0.240226506959101562,
    0.0555041086648199216,
    0.00961812910758833524,
    0.00133335581467899217,
    0.000154035304625144321,
    0.0000152527334899885256,
    1.32154330896763992e-6,
    1.01781980216719308e-7,
    7.0741056135081428e-9,
    4.43528270695727715e-10,
)
ONE_32, LN2_32, LOG2E_32 = np.float32(1), np.float32(LN2), np.float32(LOG2E)


def _float(t: Any) -> tuple[Any, Any, int]:
    """LLVM float and integer types of a Numba float, and the width of its mantissa."""
    if t == types.float32:
        return ir.FloatType(), ir.IntType(32), 23
    return ir.DoubleType(), ir.IntType(64), 52


def _integer(t: Any) -> Any:
    return types.int32 if t == types.float32 else types.int64


@intrinsic
def select(_: Any, condition: Any, a: Any, b: Any) -> Any:
    """`a if condition else b` as one instruction: a Python conditional is a branch that stops vectorisation."""
    if a != b:
        return None

    def code(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        flag = args[0]
        if flag.type.width > 1:
            flag = builder.trunc(flag, ir.IntType(1))
        return builder.select(flag, args[1], args[2])

    return a(types.boolean, a, a), code


@intrinsic
def exponent_gap(_: Any, p: Any, q: Any) -> Any:
    """The integer e nearest to log2(p/q) by bit patterns: p 2^-e / q lies in [1/1.5, 1.5]."""
    _flt, integer, mantissa = _float(p)

    def code(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        a, b = (builder.bitcast(x, integer) for x in args)
        half = ir.Constant(integer, 1 << (mantissa - 1))
        return builder.ashr(builder.add(builder.sub(a, b), half), ir.Constant(integer, mantissa))

    return _integer(p)(p, p), code


@intrinsic
def scale_down(_: Any, p: Any, e: Any) -> Any:
    """p 2^-e by integer arithmetic on the exponent; zero becomes a harmless positive number."""
    flt, integer, mantissa = _float(p)

    def code(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], integer)
        return builder.bitcast(builder.sub(bits, builder.shl(args[1], ir.Constant(integer, mantissa))), flt)

    return p(p, e), code


@intrinsic
def as_float(_: Any, e: Any) -> Any:
    """The integer e in the float of its own width."""
    target = types.float32 if e == types.int32 else types.float64
    flt = ir.FloatType() if e == types.int32 else ir.DoubleType()
    return target(e), lambda _c, builder, _s, args: builder.sitofp(args[0], flt)


@intrinsic
def as_int32(_: Any, x: Any) -> Any:
    """float32 to int32."""
    return types.int32(x), lambda _c, builder, _s, args: builder.fptosi(args[0], ir.IntType(32))


@intrinsic
def fma(_: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c rounded once, whatever the optimiser thinks of it."""
    return a(a, b, c), lambda _c, builder, _s, args: builder.fma(*args)


@intrinsic
def power_of_two(_: Any, e: Any) -> Any:
    """2^e of an int64 e in [-1022, 1023]."""

    def code(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        integer = ir.IntType(64)
        biased = builder.add(args[0], ir.Constant(integer, 1023))
        return builder.bitcast(builder.shl(biased, ir.Constant(integer, 52)), ir.DoubleType())

    return types.float64(e), code


def _extreme(name: str) -> Any:
    def typed(_: Any, a: Any, b: Any) -> Any:
        def code(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            kind = args[0].type
            function = builder.module.declare_intrinsic(name, [kind], ir.FunctionType(kind, [kind, kind]))
            return builder.call(function, args, fastmath=("nnan", "nsz"))

        return a(a, b), code

    return typed


# max(a, b) and min(a, b): unlike Python's, their reductions vectorise
maximum = intrinsic(_extreme("llvm.maxnum"))
minimum = intrinsic(_extreme("llvm.minnum"))


def _bits_extreme(comparison: str, shift: int) -> Any:
    def typed(_: Any, so_far: Any, x: Any) -> Any:
        _flt, integer, _mantissa = _float(x)
        kind = types.uint32 if x == types.float32 else types.uint64

        def code(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            bits = builder.sub(builder.bitcast(args[1], integer), ir.Constant(integer, shift))
            keep = builder.icmp_unsigned(comparison, args[0], bits)
            return builder.select(keep, args[0], bits)

        return kind(kind, x), code

    return intrinsic(typed)


# Running maximum of the bit patterns (NaN, inf and negative numbers are larger than every finite positive number) and
# running minimum of the bit patterns less one (zero wraps around to the largest: it is never the minimum).
bits_max = _bits_extreme(">", 0)
bits_min = _bits_extreme("<", 1)


@njit(forceinline=True, fastmath={"nnan", "nsz", "contract", "arcp", "ninf"}, error_model="numpy")
def _estimate(x):
    """With `ninf` and `arcp` the quotient becomes an estimate and a Newton step: 1.2e-7, and the divider stays free."""
    return ONE_32 / x


def quotient(x, y):
    """x/y; float32: of y in [2^-126, 2^125]."""


@overload(quotient, jit_options=STRICT)
def _quotient_of(x, y):
    return (lambda x, y: x * _estimate(y)) if y == types.float32 else (lambda x, y: x / y)


def atanh_tail(u):
    """(atanh t - t)/t^3 at u = t^2 <= 0.04."""


@overload(atanh_tail, jit_options=STRICT)
def _atanh_tail_of(u):
    if u == types.float32:
        a0, a1, a2 = ATANH32
        return lambda u: a0 + u * (a1 + u * a2)
    b0, b1, b2, b3, b4, b5, b6, b7 = ATANH64
    return lambda u: b0 + u * (b1 + u * (b2 + u * (b3 + u * (b4 + u * (b5 + u * (b6 + u * b7))))))


class Ratio(NamedTuple):
    """log(p/q) and the pieces that the divergences share with it."""

    log: Any  # log(p/q): relative error of a few ulp everywhere, near 1 too; finite at zeros
    near: Any  # p/q in [1/1.5, 1.5]; then ...
    t: Any  # ... t = (p-q)/(p+q) and log(p/q) = 2t (1 + t^2 tail)
    tail: Any
    exponent: Any  # the integer e of log(p/q) = e log 2 + 2t (1 + t^2 tail), as a float


def log_ratio(p, q, d):
    """`Ratio` of p, q >= 0, with d = p - q. One division; overflow is impossible.

    p is brought to the binade of q: log(p/q) = e log 2 + 2 atanh((p' - q)/(p' + q)), p' = p 2^-e, where p' - q is
    exact. Zeros count as about the smallest normal number, so 0 log_ratio(0, q) = 0 and 0 log_ratio(p, 0)... stay
    finite. float32 wants normal numbers (or zeros); float64 takes subnormal ones.
    """


@overload(log_ratio, jit_options=STRICT)
def _log_ratio_of(p, q, d):
    if p == types.float32:
        ln2, zero, one, two = np.float32(LN2), np.float32(0), np.float32(1), np.float32(2)
        tiny32 = np.float32(2.0**-126)

        def log_ratio32(p, q, d):
            q = max(q, tiny32)
            e = exponent_gap(p, q)
            k = as_float(e)
            near = k == zero
            m = scale_down(p, e)
            t = quotient(select(near, d, m - q), m + q)
            u = t * t
            tail = atanh_tail(u)
            return Ratio(k * ln2 + two * t * (one + u * tail), near, t, tail, k)

        return log_ratio32

    tiny, up = 2.0**-1021, 2.0**60

    def log_ratio64(p, q, d):
        low_p = p < tiny
        low_q = q < tiny
        ps = select(low_p, p * up, p)
        qs = max(select(low_q, q * up, q), tiny)
        ds = select(low_p, select(low_q, d * up, ps - qs), select(low_q, ps - qs, d))
        e = exponent_gap(ps, qs)
        lift = select(low_q, 60.0, 0.0) - select(low_p, 60.0, 0.0)
        same = e == 0
        m = scale_down(ps, e)
        t = select(same, ds, m - qs) / (m + qs)
        u = t * t
        tail = atanh_tail(u)
        k = as_float(e) + lift
        return Ratio(k * LN2_HIGH + (2.0 * t * (1.0 + u * tail) + k * LN2_LOW), k == 0.0, t, tail, k)

    return log_ratio64


@njit(**STRICT)
def _exp_parts(x):
    """e^x = 2^r (1 + g): r clipped beyond the range of float64."""
    x = min(max(x, -1400.0), 1400.0)
    r = np.rint(x * LOG2E)
    f = (x - r * LN2_HIGH) - r * LN2_LOW
    c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11 = EXPM1
    high = c6 + f * (c7 + f * (c8 + f * (c9 + f * (c10 + f * c11))))
    return r, f * (c0 + f * (c1 + f * (c2 + f * (c3 + f * (c4 + f * (c5 + f * high))))))


@njit(**STRICT)
def exp_and_expm1(x):
    """e^x (subnormal results right, overflow to inf) and e^x - 1 (accurate at 0), float64."""
    r, g = _exp_parts(x)
    k = np.int64(r)
    half = k >> 1
    # two factors: r may leave the range of exponents, and subnormal results round once
    power = ((1.0 + g) * power_of_two(half)) * power_of_two(k - half)
    s = power_of_two(min(max(k, -1022), 60))
    return power, select(r > 60.0, power, s * g + (s - 1.0))


@njit(**STRICT)
def exp(x):
    """e^x, float64: subnormal results right, overflow to inf."""
    return exp_and_expm1(x)[0]


@njit(**STRICT)
def power_and_less_one(b_high, b_low, exponent, rest):
    """(p/q)^b and (p/q)^b - 1 in float32 from log(p/q) = exponent log 2 + rest; b = b_high + b_low.

    Exponentiating a float32 logarithm would amplify its error by |b log(p/q)|; here the integer part never meets a
    rounding. |b log2(p/q)| must stay below 126.
    """
    c0, c1, c2, c3, c4, c5 = EXPM1_32
    r = np.rint(b_high * exponent + b_high * rest * LOG2E_32)
    f = (fma(b_high, exponent, -r) + b_low * exponent) * LN2_32 + b_high * rest
    g = f * (c0 + f * (c1 + f * (c2 + f * (c3 + f * (c4 + f * c5)))))
    s = scale_down(ONE_32, as_int32(-r))
    return s + s * g, s * g + (s - ONE_32)


@intrinsic
def shift_by_bits(_: Any, p: Any, m: Any) -> Any:
    """p 2^k, where m = 1.5 2^mantissa + k holds the integer k in its low bits."""
    flt, integer, mantissa = _float(p)

    def code(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        bits, low = (builder.bitcast(x, integer) for x in args)
        return builder.bitcast(builder.add(bits, builder.shl(low, ir.Constant(integer, mantissa))), flt)

    return p(p, p), code


def exp2(t):
    """2^t for t < 127 (float32), 1023 (float64), about 1e-38 or 1e-307 from -125 or -1020 down: error 1 ulp."""


@overload(exp2, jit_options=STRICT)
def _exp2_of(t):
    if t == types.float32:
        a0, a1, a2, a3, a4, a5, a6 = EXP2_32
        magic, least = np.float32(1.5 * 2**23), np.float32(-125)

        def exp2_32(t):
            t = maximum(t, least)
            m = t + magic
            f = t - (m - magic)
            return shift_by_bits(a0 + f * (a1 + f * (a2 + f * (a3 + f * (a4 + f * (a5 + f * a6))))), m)

        return exp2_32
    b0, b1, b2, b3, b4, b5, b6, b7, b8, b9, b10, b11 = EXP2

    def exp2_64(t):
        t = maximum(t, -1020.0)
        m = t + 6755399441055744.0
        f = t - (m - 6755399441055744.0)
        high = b6 + f * (b7 + f * (b8 + f * (b9 + f * (b10 + f * b11))))
        return shift_by_bits(b0 + f * (b1 + f * (b2 + f * (b3 + f * (b4 + f * (b5 + f * high))))), m)

    return exp2_64
