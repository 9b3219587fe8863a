"""Costs as the soft-min kernels read them: stored, from coordinates, or from a tile of products.

A source knows rows 0 ... of one tile against all columns. `strip` cuts a row and a range of columns out of it;
`lowered` then takes k c_ij, the cost in units of epsilon / log 2, off an exponent. Coordinates come by columns, as
tuples, so that their number is known when the loop is compiled: no inner loop is left. In float32 the coordinates of
`Fused` and `Product` are centred and scaled by k^(1/p), p the degree of the cost, and k = 1: homogeneity saves a
multiplication. Of squared distances in float32 the squares belong to the rows and the columns, whose potentials take
them in (in float64, before these are rounded), and `Inner` products are left: one fused multiply-add a coordinate.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

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


class Inner(NamedTuple):
    """Costs -2 x_i . y_j in float32, x doubled: what the squares of rows and columns leave of squared distances."""

    x: Any
    y: Any


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


def plus_products(t, point, columns, j):
    """t plus the products of all coordinates."""


@overload(plus_products, jit_options=STRICT)
def _plus_products(t, point, columns, j):
    if len(point) == 1:
        return lambda t, point, columns, j: t + point[0] * columns[0][j]
    return lambda t, point, columns, j: plus_products(t + point[0] * columns[0][j], point[1:], columns[1:], j)


@intrinsic
def _prefetch(_: Any, x: Any, i: Any) -> Any:
    """Ask for the cache line of x[i], which may lie beyond the end of x."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        at = builder.gep(context.make_array(signature.args[0])(context, builder, args[0]).data, [args[1]])
        line = builder.bitcast(at, ir.IntType(8).as_pointer())
        word = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [line.type, word, word, word])
        read_into_second_level = [ir.Constant(word, number) for number in (0, 2, 1)]
        builder.call(
            builder.module.declare_intrinsic("llvm.prefetch", [line.type], kind), [line, *read_into_second_level]
        )
        return context.get_dummy_value()

    return types.void(x, types.intp), code


def ahead(source, piece, by, m):
    """Ask for what a strip will be `by` rows further on: processors do not look beyond a page of memory."""


@overload(ahead, jit_options=INLINE)
def _ahead(source, piece, by, m):
    if _kind(source) is not Stored:
        return lambda source, piece, by, m: None
    line = 64 // (source.types[0].dtype.bitwidth // 8)

    def stored(source, piece, by, m):
        for j in range(0, len(piece[0]), line):
            _prefetch(piece[0], by * m + j)

    return stored


def strip(source, i, lo, hi):
    """Row i and columns lo ... hi - 1 of a source."""


@overload(strip, jit_options=INLINE)
def _strip(source, i, lo, hi):
    kind = _kind(source)
    if kind is Stored:
        return lambda source, i, lo, hi: (source.C[i, lo:hi],)
    if kind is Fused or kind is Inner:
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
    if kind is Inner:
        return lambda source, piece, t, j: plus_products(t, piece[0], piece[1], j)
    if t == types.float32:
        return lambda source, piece, t, j: t - np.float32(cost(source, piece, j))
    return lambda source, piece, t, j: t - source.k * cost(source, piece, j)


def may_forbid(source):
    """Whether costs may be infinite."""


@overload(may_forbid, jit_options=STRICT)
def _may_forbid(source):
    stored = _kind(source) is Stored
    return lambda source: stored


def degree(tag: Any) -> float:
    """Degree of homogeneity of a cost in its points."""
    if isinstance(tag, Raised):
        return float(tag.power)
    return 2.0 if isinstance(tag, Squared) else 1.0
