"""Kernels as functions of a pair's quantities: value and slopes, for the trees of ``profiles.py``.

Everything is chosen by type when a tile compiles and dissolves into its loop; what a loop does not ask for (slopes, the
quantities of other places) costs nothing. Exponentials are 2^t with the rate folded into t: its rounding is that of a
bandwidth by one ulp, which moves every value alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from otdist.kernels.jit import STRICT
from otdist.kernels.profiles import (
    PLACES,
    Constant,
    Decay,
    First,
    Inverse,
    InverseRoot,
    MaternFive,
    MaternThree,
    Negative,
    NegativePower,
    Polynomial,
    Power,
    Product,
    Root,
    Sum,
)
from otdist.kernels.vecmath import LOG2E, exp2, log_ratio, select


def leaf(tag, g):
    """Value and slope in g of a leaf, both finite; the slope where it is infinite (g = 0) is stated as 0."""


def _field(tag: Any, name: str) -> Any:
    return tag.types[tag.fields.index(name)]


def _decay(c, tag):
    scale = c(-LOG2E)

    def one(tag, rate, g):
        v = exp2((scale * c(rate)) * g)
        return v, -c(rate) * v

    return one


def _inverse(c, tag):
    unit = c(1)

    def one(tag, rate, g):
        v = unit / (unit + c(rate) * g)
        return v, -c(rate) * (v * v)

    return one


def _inverse_root(c, tag):
    unit, half = c(1), c(-0.5)

    def one(tag, rate, g):
        w = unit / (unit + c(rate) * g)
        v = np.sqrt(w)
        return v, half * c(rate) * (v * w)

    return one


def _power(c, tag):
    unit, scale = c(1), c(-LOG2E)

    def one(tag, rate, g):
        u = c(rate) * g
        v = exp2((scale * c(tag.power)) * log_ratio(unit + u, unit, u).log)
        return v, -c(tag.power) * c(rate) * v / (unit + u)

    return one


def _matern_three(c, tag):
    unit, half, scale = c(1), c(-0.5), c(-LOG2E)

    def one(tag, rate, g):
        r = c(rate) * np.sqrt(g)
        e = exp2(scale * r)
        return (unit + r) * e, half * (c(rate) * c(rate)) * e

    return one


def _matern_five(c, tag):
    unit, third, sixth, scale = c(1), c(1 / 3), c(-1 / 6), c(-LOG2E)

    def one(tag, rate, g):
        r = c(rate) * np.sqrt(g)
        e = exp2(scale * r)
        return (unit + r * (unit + third * r)) * e, sixth * (c(rate) * c(rate)) * (unit + r) * e

    return one


SUMS = {
    Decay: _decay,
    Inverse: _inverse,
    InverseRoot: _inverse_root,
    Power: _power,
    MaternThree: _matern_three,
    MaternFive: _matern_five,
}


def term(tag, rate, g):
    """Value and slope of one of a leaf's rates."""


@overload(term, jit_options=STRICT)
def _term_of(tag, rate, g):
    return SUMS[tag.instance_class](np.float32 if g == types.float32 else np.float64, tag)


def over(tag, rates, g):
    """Sums of the values and slopes over a tuple of rates."""


@overload(over, jit_options=STRICT)
def _over_of(tag, rates, g):
    if len(rates) == 1:
        return lambda tag, rates, g: term(tag, rates[0], g)

    def several(tag, rates, g):
        v, s = term(tag, rates[0], g)
        w, t = over(tag, rates[1:], g)
        return v + w, s + t

    return several


def power(t, factors):
    """t to the number of the factors, and that of one factor less."""


@overload(power, jit_options=STRICT)
def _power_of(t, factors):
    one = np.float32(1) if t == types.float32 else 1.0
    if len(factors) == 1:
        return lambda t, factors: (t, one)

    def more(t, factors):
        low = power(t, factors[1:])[0]
        return t * low, low

    return more


def _polynomial(c, tag):
    degree = c(len(_field(tag, "factors")))

    def of(tag, g):
        high, low = power(c(tag.gamma) * g + c(tag.coef0), tag.factors)
        return high, degree * c(tag.gamma) * low

    return of


def _negative(c, tag):
    minus = c(-1)
    return lambda tag, g: (-g, minus)


def _negative_power(c, tag):
    unit, zero, scale = c(1), c(0), c(LOG2E)
    tiny = c(2.0**-120) if c is np.float32 else c(2.0**-1000)

    def of(tag, g):
        safe = max(g, tiny)
        v = exp2((scale * c(tag.half)) * log_ratio(safe, unit, safe - unit).log)
        return select(g == zero, zero, -v), select(g == zero, zero, -c(tag.half) * v / safe)

    return of


def _root(c, tag):
    zero, half = c(0), c(0.5)
    tiny = c(2.0**-120) if c is np.float32 else c(2.0**-1000)

    def of(tag, g):
        r = np.sqrt(g)
        v, s = leaf(tag.leaf, r)
        return v, select(g == zero, zero, half * s / np.sqrt(max(g, tiny)))

    return of


LEAVES = {Polynomial: _polynomial, Negative: _negative, NegativePower: _negative_power, Root: _root}


@overload(leaf, jit_options=STRICT)
def _leaf_of(tag, g):
    kind = tag.instance_class
    if kind in SUMS:
        return lambda tag, g: over(tag, tag.rates, g)
    return LEAVES[kind](np.float32 if g == types.float32 else np.float64, tag)


def at_place(slope, place, q):
    """A tuple like q: the slope at the place, 0 elsewhere."""


def _index(place: Any) -> int:
    return PLACES.index(place.instance_class)


@overload(at_place, jit_options=STRICT)
def _at_place_of(slope, place, q):
    zero = np.float32(0) if slope == types.float32 else 0.0
    at, count = _index(place), len(q)
    if count == 1:
        return lambda slope, place, q: (slope,)
    if count == 2:
        if at == 0:
            return lambda slope, place, q: (slope, zero)
        return lambda slope, place, q: (zero, slope)
    if count == 3:
        return [
            lambda slope, place, q: (slope, zero, zero),
            lambda slope, place, q: (zero, slope, zero),
            lambda slope, place, q: (zero, zero, slope),
        ][at]
    return [
        lambda slope, place, q: (slope, zero, zero, zero),
        lambda slope, place, q: (zero, slope, zero, zero),
        lambda slope, place, q: (zero, zero, slope, zero),
        lambda slope, place, q: (zero, zero, zero, slope),
    ][at]


def mixed(a, s, b, t):
    """a s + b t for tuples s and t."""


@overload(mixed, jit_options=STRICT)
def _mixed_of(a, s, b, t):
    if len(s) == 1:
        return lambda a, s, b, t: (a * s[0] + b * t[0],)
    if len(s) == 2:
        return lambda a, s, b, t: (a * s[0] + b * t[0], a * s[1] + b * t[1])
    if len(s) == 3:
        return lambda a, s, b, t: (a * s[0] + b * t[0], a * s[1] + b * t[1], a * s[2] + b * t[2])
    return lambda a, s, b, t: (
        a * s[0] + b * t[0],
        a * s[1] + b * t[1],
        a * s[2] + b * t[2],
        a * s[3] + b * t[3],
    )


def evaluate(tag, q):
    """Value of an expression at the quantities q of a pair, and its slopes in each of them."""


@overload(evaluate, jit_options=STRICT)
def _evaluate_of(tag, q):
    real = np.float32 if q[0] == types.float32 else np.float64
    kind = tag.instance_class
    one = real(1)
    if kind is Constant:
        zero = real(0)

        def constant(tag, q):
            return real(tag.c), at_place(zero, First(), q)

        return constant
    if kind is Sum:

        def added(tag, q):
            v, s = evaluate(tag.left, q)
            w, t = evaluate(tag.right, q)
            return v + w, mixed(one, s, one, t)

        return added
    if kind is Product:

        def multiplied(tag, q):
            v, s = evaluate(tag.left, q)
            w, t = evaluate(tag.right, q)
            return v * w, mixed(w, s, v, t)

        return multiplied
    if kind is Root:
        place = _index(_field(_field(tag, "leaf"), "on"))

        def rooted(tag, q):
            v, s = leaf(tag, q[place])
            return v, at_place(s, tag.leaf.on, q)

        return rooted
    place = _index(_field(tag, "on"))

    def simple(tag, q):
        v, s = leaf(tag, q[place])
        return v, at_place(s, tag.on, q)

    return simple
