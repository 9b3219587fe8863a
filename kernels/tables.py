"""What the all-pairs kernels read instead of the histograms: transformed copies of a block of rows, and sums over rows.

A table holds one function of every entry (its logarithm, its root, ...), padded with neutral rows and bins so that the
loops over pairs have no edges. A row whose entries lie outside the range an engine can bear is replaced by zeros; its
pairs are recomputed one by one.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit, types
from numba.extending import overload

from otdist.kernels.entries import like, scan, zero_like
from otdist.kernels.jit import STRICT, kernel
from otdist.kernels.terms import read_bin, term
from otdist.kernels.vecmath import exp, fma, log_ratio, select

# Stands for an infinite factor: times an entry >= 2^-300 it exceeds LOST, times 0 it vanishes, and no sum overflows.
INFINITE, LOST = 2.0**700, 2.0**380


class Scaled(NamedTuple):
    """max(c p, floor)."""

    c: float
    floor: float


class Root(NamedTuple):
    """c sqrt(p)."""

    c: float


class RootRest(NamedTuple):
    """sqrt(p) less its rounded value: the second half of the root to twice the working precision."""


class MinusLog(NamedTuple):
    """-min(log(c p), ceiling); INFINITE at 0."""

    c: float
    ceiling: float


class Power(NamedTuple):
    """scale (c p)^a; 0 or INFINITE at 0."""

    a: float
    c: float
    scale: float


class Square(NamedTuple):
    """p^2."""


class Reciprocal(NamedTuple):
    """1/p; INFINITE at 0."""


class Deviation(NamedTuple):
    """p - m, m the entry of the centre."""


class MinusLogRatio(NamedTuple):
    """-log(p/m), p > 0."""


def entry(kind, x, m):
    """The function `kind` of one entry, in the type of x; m is the entry of the centre."""


def _scaled(real):
    def of(kind, x, m):
        return max(real(kind.c) * x, real(kind.floor))

    return of


def _root(real):
    def of(kind, x, m):
        return real(kind.c) * np.sqrt(x)

    return of


def _root_rest(real):
    zero, two = real(0), real(2)
    one = real(1)

    def of(kind, x, m):
        r = np.sqrt(x)
        rest = fma(-r, r, x) / select(r == zero, one, two * r)
        return select(r == zero, zero, rest)

    return of


def _minus_log(real):
    def of(kind, x, m):
        y = kind.c * x
        return select(x == 0.0, INFINITE, -min(log_ratio(y, 1.0, y - 1.0).log, kind.ceiling))

    return of


def _power(real):
    def of(kind, x, m):
        y = kind.c * x
        value = kind.scale * exp(kind.a * log_ratio(y, 1.0, y - 1.0).log)
        return select(x == 0.0, INFINITE if kind.a < 0.0 else 0.0, value)

    return of


def _square(real):
    return lambda kind, x, m: x * x


def _reciprocal(real):
    one = real(1)
    infinite = real(INFINITE) if real is np.float64 else real(np.inf)
    return lambda kind, x, m: select(x == real(0), infinite, one / select(x == real(0), one, x))


def _deviation(real):
    return lambda kind, x, m: x - m


def _minus_log_ratio(real):
    return lambda kind, x, m: -log_ratio(x, m, x - m).log


ENTRIES = {
    Deviation: _deviation,
    MinusLogRatio: _minus_log_ratio,
    Scaled: _scaled,
    Root: _root,
    RootRest: _root_rest,
    MinusLog: _minus_log,
    Power: _power,
    Square: _square,
    Reciprocal: _reciprocal,
}


@overload(entry, jit_options=STRICT)
def _entry_of(kind, x, m):
    return ENTRIES[kind.instance_class](np.float32 if x == types.float32 else np.float64)


@kernel
def fill(kind, X, centre, i0, i1, k0, k1, limit, table):
    """table[r, k] = kind of X[i0 + r, k0 + k]; rows with an infinite limit, and the padding, count as empty."""
    bins = k1 - k0
    zero = zero_like(table)
    nothing = entry(kind, zero, zero)
    middle = centre[k0:k1]
    for r in range(table.shape[0]):
        out = table[r]
        padding = out
        if i0 + r < i1 and limit[i0 + r] < np.inf:
            row = X[i0 + r][k0:k1]
            for k in range(bins):
                out[k] = entry(kind, like(zero, row[k]), like(zero, middle[k]))
            padding = out[bins:]
        for k in range(padding.size):
            padding[k] = select(nothing == INFINITE, zero, nothing)


@njit(**STRICT)
def _split(x, anchor):
    """x as a multiple of the last place of `anchor`, whose sums are exact in any order, and the rest."""
    part = (x + anchor) - anchor
    return part, x - part


@njit(**STRICT)
def _two_sum(high, low):
    total = high + low
    return total, low - (total - high)


@kernel
def survey(X, i0, i1, S, E, least, greatest, zeros):
    """Least and greatest positive entry, number of zeros, and row sums S + E to twice the working precision."""
    for i in range(i0, i1):
        row = X[i]
        about, least[i], greatest[i] = scan(row)
        none = 0.0
        for k in range(row.size):
            none += select(row[k] == 0, 1.0, 0.0)
        zeros[i] = none
        # multiples of the last place of 1.5 2^e, 2^e > sum: all partial sums of them are exact
        anchor = math.ldexp(1.5, math.frexp(min(about, 2.0**900))[1] + 1)
        total, rest = 0.0, 0.0
        for k in range(row.size):
            part, remainder = _split(np.float64(row[k]), anchor)
            total += part
            rest += remainder
        S[i], E[i] = _two_sum(total, rest)


@kernel
def entropies(X, i0, i1, c, limit, H, A):
    """H = sum x log(c x), A = sum |x log(c x)|."""
    for i in range(i0, i1):
        H[i], A[i] = 0.0, 0.0
        if limit[i] == np.inf:
            continue
        row = X[i]
        for k0 in range(0, row.size, 1024):
            part = row[k0 : min(k0 + 1024, row.size)]
            h, a = 0.0, 0.0
            for k in range(part.size):
                x = np.float64(part[k])
                y = c * x
                v = x * log_ratio(y, 1.0, y - 1.0).log
                h += v
                a += abs(v)
            H[i] += h
            A[i] += a


@kernel
def about_centre(tag, X, centre, i0, i1, swap, H, spread, length):
    """Per row, d and l the deviations from the centre m and their logarithmic counterparts log(x/m).

    H: sum of the terms of `tag`, of (m, x) if `swap`; spread: the greater of sum d^2/m and sum m l^2;
    length: sum |d|. 0 < x, m for `spread` to mean anything.
    """
    for i in range(i0, i1):
        h, squares, logs, lengths = 0.0, 0.0, 0.0, 0.0
        row = X[i]
        for k0 in range(0, row.size, 1024):
            part, middle = row[k0 : min(k0 + 1024, row.size)], centre[k0 : min(k0 + 1024, row.size)]
            for k in range(part.size):
                x, m = np.float64(part[k]), middle[k]
                there = read_bin(x, m)
                back = read_bin(m, x)
                h += select(swap, term(tag, back).value, term(tag, there).value)
                squares += there.d * there.d / m
                logs += select(x == 0.0, 0.0, m * there.ratio.log * there.ratio.log)
                lengths += abs(there.d)
        H[i], spread[i], length[i] = h, max(squares, logs), lengths
