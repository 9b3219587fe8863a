"""Costs as the soft-min kernels read them: stored, from coordinates, or from a tile of products.

A source knows rows 0 ... of one tile against all columns. `strip` cuts a row and a range of columns out of it;
`lowered` then takes k c_ij, the cost in units of epsilon / log 2, off an exponent. Coordinates come by columns, as
tuples, so that their number is known when the loop is compiled: no inner loop is left. In float32 the coordinates of
`Fused` and `Product` are centred and scaled by k^(1/p), p the degree of the cost, and k = 1: homogeneity saves a
multiplication and a squared distance is two fused multiply-adds a coordinate.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.extending import overload

from otdist.kernels.costs import Raised, add, finish
from otdist.kernels.jit import INLINE, STRICT
from otdist.kernels.profiles import Squared
from otdist.kernels.vecmath import maximum


class Stored(NamedTuple):
    """Costs (rows, m) as they lie in memory, times k."""

    C: Any
    k: Any


class Fused(NamedTuple):
    """Costs between points whose coordinates are the arrays of x, each (rows,), and of y, each (m,)."""

    tag: Any
    x: Any
    y: Any
    k: Any


class Product(NamedTuple):
    """Costs of squared distances xs_i + ys_j - G_ij, G twice the products, all scaled: k = 1."""

    tag: Any
    G: Any
    xs: Any
    ys: Any


def _kind(source: Any) -> Any:
    return source.instance_class


def at(x, i):
    """The i-th number of every array of a tuple."""


@overload(at, jit_options=INLINE)
def _at(x, i):
    if len(x) == 1:
        return lambda x, i: (x[0][i],)
    return lambda x, i: (x[0][i], *at(x[1:], i))


def cut(x, lo, hi):
    """Part of every array of a tuple."""


@overload(cut, jit_options=INLINE)
def _cut(x, lo, hi):
    if len(x) == 1:
        return lambda x, lo, hi: (x[0][lo:hi],)
    return lambda x, lo, hi: (x[0][lo:hi], *cut(x[1:], lo, hi))


def together(tag, total, point, columns, j):
    """`total` with the differences of all coordinates added."""


@overload(together, jit_options=STRICT)
def _together(tag, total, point, columns, j):
    if len(point) == 1:
        return lambda tag, total, point, columns, j: add(tag, total, point[0] - columns[0][j])

    def several(tag, total, point, columns, j):
        return together(tag, add(tag, total, point[0] - columns[0][j]), point[1:], columns[1:], j)

    return several


def less_squares(t, point, columns, j):
    """t less the squares of all differences."""


@overload(less_squares, jit_options=STRICT)
def _less_squares(t, point, columns, j):
    if len(point) == 1:

        def last(t, point, columns, j):
            d = point[0] - columns[0][j]
            return t - d * d

        return last

    def several(t, point, columns, j):
        d = point[0] - columns[0][j]
        return less_squares(t - d * d, point[1:], columns[1:], j)

    return several


def strip(source, i, lo, hi):
    """Row i and columns lo ... hi - 1 of a source."""


@overload(strip, jit_options=INLINE)
def _strip(source, i, lo, hi):
    kind = _kind(source)
    if kind is Stored:
        return lambda source, i, lo, hi: (source.C[i, lo:hi],)
    if kind is Fused:
        return lambda source, i, lo, hi: (at(source.x, i), cut(source.y, lo, hi))
    return lambda source, i, lo, hi: (source.xs[i], source.G[i, lo:hi], source.ys[lo:hi])


def cost(source, piece, j):
    """c_ij of the j-th column of a strip, without k."""


@overload(cost, jit_options=STRICT)
def _cost(source, piece, j):
    kind = _kind(source)
    if kind is Stored:
        return lambda source, piece, j: piece[0][j]
    if kind is Fused:
        zero = np.float32(0) if piece[0][0] == types.float32 else 0.0
        return lambda source, piece, j: finish(source.tag, together(source.tag, zero, piece[0], piece[1], j))
    none = np.float32(0)
    return lambda source, piece, j: finish(source.tag, maximum(piece[0] + piece[2][j] - piece[1][j], none))


def lowered(source, piece, t, j):
    """t - k c_ij."""


@overload(lowered, jit_options=STRICT)
def _lowered(source, piece, t, j):
    kind = _kind(source)
    if kind is Stored:
        real = np.float32 if t == types.float32 else np.float64
        return lambda source, piece, t, j: t - source.k * real(piece[0][j])
    if t == types.float32:
        if kind is Fused and getattr(source.types[0], "instance_class", None) is Squared:
            return lambda source, piece, t, j: less_squares(t, piece[0], piece[1], j)
        return lambda source, piece, t, j: t - np.float32(cost(source, piece, j))
    return lambda source, piece, t, j: t - source.k * cost(source, piece, j)


def degree(tag: Any) -> float:
    """Degree of homogeneity of a cost in its points."""
    if isinstance(tag, Raised):
        return float(tag.power)
    return 2.0 if isinstance(tag, Squared) else 1.0
