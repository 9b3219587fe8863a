"""Tiles of pairs: quantities of a row of pairs, values and slopes of the kernel, sums, gradients. Compiled.

A tile goes row by row through buffers that stay in the first-level cache: a geometry *measures* the row, the expression
turns quantities into values and slopes, and the geometry *pulls* (``gram_pulls.py``): it turns slopes into gradients.
Differences of coordinates never cancel. Squared distances from a matrix product, ‖x‖² + ‖y‖² − 2⟨x, y⟩, are off by a
few eps (‖x‖² + ‖y‖²): pairs below LIMIT times that sum are measured by differences, so every squared distance is right
to a few eps/LIMIT relative to itself, whatever the kernel does with it, and coincident points are at distance 0.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit, types
from numba.extending import overload

from otdist.kernels.jit import INLINE
from otdist.kernels.vecmath import select

LIMIT = 1 / 32


class Differences(NamedTuple):
    """Σ (x−y)² by columns: left (k, n), right (k, m), k padded by zeros to a multiple of 4."""

    left: Any
    right: Any


class Absolute(NamedTuple):
    """Σ |x−y| by columns."""

    left: Any
    right: Any


class Dots(NamedTuple):
    """Σ xy by columns."""

    left: Any
    right: Any


class Product(NamedTuple):
    """‖x−y‖² from `product`, the tile of ⟨x, y⟩, rows of coordinates, their squared norms; slopes replace the tile."""

    product: Any
    left: Any
    right: Any
    left_norms: Any
    right_norms: Any


class Dense(NamedTuple):
    """⟨x, y⟩ as it stands in `product`; slopes replace it."""

    product: Any


def kind_of(geometry: Any) -> Any:
    return geometry.instance_class


def real_of(geometry: Any) -> Any:
    return np.float32 if geometry.types[0].dtype == types.float32 else np.float64


def measure(geometry, buffer, i, i0, start, j0, count):
    """Quantities of row i and the columns from `start` on; how many of them a product could not be trusted with."""


@overload(measure, jit_options=INLINE)
def _measure_of(geometry, buffer, i, i0, start, j0, count):
    kind, real = kind_of(geometry), real_of(geometry)
    zero = real(0)
    if kind is Dense:

        def dense(geometry, buffer, i, i0, start, j0, count):
            g = geometry.product[i - i0][start - j0 :]
            for j in range(count):
                buffer[j] = g[j]
            return zero

        return dense
    if kind is Product:
        limit, one, two = real(LIMIT), real(1), real(2)

        def product(geometry, buffer, i, i0, start, j0, count):
            g = geometry.product[i - i0][start - j0 :]
            norms = geometry.right_norms[start:]
            norm = geometry.left_norms[i]
            low = zero
            for j in range(count):
                both = norm + norms[j]
                s = both - two * g[j]
                buffer[j] = s
                low += select(s < limit * both, one, zero)
            if low > zero:
                for j in range(count):
                    if buffer[j] < limit * (norm + norms[j]):
                        buffer[j] = real(square(geometry.left[i], geometry.right[start + j]))
            return low

        return product

    def by_columns(geometry, buffer, i, i0, start, j0, count):
        x, y = geometry.left, geometry.right
        a, b, c, d = x[0, i], x[1, i], x[2, i], x[3, i]
        p, q, r, s = y[0][start:], y[1][start:], y[2][start:], y[3][start:]
        for j in range(count):
            buffer[j] = (part(geometry, a, p[j]) + part(geometry, b, q[j])) + (
                part(geometry, c, r[j]) + part(geometry, d, s[j])
            )
        for k in range(4, x.shape[0], 4):
            a, b, c, d = x[k, i], x[k + 1, i], x[k + 2, i], x[k + 3, i]
            p, q, r, s = y[k][start:], y[k + 1][start:], y[k + 2][start:], y[k + 3][start:]
            for j in range(count):
                buffer[j] += (part(geometry, a, p[j]) + part(geometry, b, q[j])) + (
                    part(geometry, c, r[j]) + part(geometry, d, s[j])
                )
        return zero

    return by_columns


@njit(**INLINE)
def square(x, y):
    """‖x−y‖² in float64."""
    total = 0.0
    for k in range(x.size):
        t = np.float64(x[k] - y[k])
        total += t * t
    return total


@njit(**INLINE)
def fold(values, count):
    """Sum of the first values: fours in their own float, then float64, whose conversion costs more than a sum of four.

    The error of a four is random and averages out over the tile; that of a long float32 sum would not do so fast enough
    for an MMD² of 1e-4.
    """
    quarter = count // 4
    a, b, c, d = values[:quarter], values[quarter:], values[2 * quarter :], values[3 * quarter :]
    total = 0.0
    for j in range(quarter):
        total += np.float64((a[j] + b[j]) + (c[j] + d[j]))
    for j in range(4 * quarter, count):
        total += np.float64(values[j])
    return total


def part(geometry, x, y):
    """The term of one coordinate."""


@overload(part, jit_options=INLINE)
def _part_of(geometry, x, y):
    kind = kind_of(geometry)
    if kind is Differences:
        return lambda geometry, x, y: (x - y) * (x - y)
    if kind is Absolute:
        return lambda geometry, x, y: abs(x - y)
    return lambda geometry, x, y: x * y


def measure_all(geometries, buffers, i, i0, start, j0, count):
    """`measure` for each geometry; the sum of what it returns."""


@overload(measure_all, jit_options=INLINE)
def _measure_all_of(geometries, buffers, i, i0, start, j0, count):
    if len(geometries) == 1:
        return lambda geometries, buffers, i, i0, start, j0, count: measure(
            geometries[0], buffers[0], i, i0, start, j0, count
        )

    def several(geometries, buffers, i, i0, start, j0, count):
        low = measure(geometries[0], buffers[0], i, i0, start, j0, count)
        return low + measure_all(geometries[1:], buffers[1:], i, i0, start, j0, count)

    return several


def buffers_for(geometries, width):
    """A row buffer for each geometry."""


@overload(buffers_for, jit_options=INLINE)
def _buffers_for(geometries, width):
    real, count = real_of(geometries[0]), len(geometries)
    if count == 1:
        return lambda geometries, width: (np.empty(width, real),)
    return lambda geometries, width: (np.empty(width, real), *buffers_for(geometries[1:], width))


def after(buffers, start):
    """Views of the buffers from `start` on."""


@overload(after, jit_options=INLINE)
def _after_of(buffers, start):
    if len(buffers) == 1:
        return lambda buffers, start: (buffers[0][start:],)
    return lambda buffers, start: (buffers[0][start:], *after(buffers[1:], start))


def at(buffers, j):
    """The quantities of one pair."""


@overload(at, jit_options=INLINE)
def _at_of(buffers, j):
    return [
        lambda buffers, j: (buffers[0][j],),
        lambda buffers, j: (buffers[0][j], buffers[1][j]),
        lambda buffers, j: (buffers[0][j], buffers[1][j], buffers[2][j]),
        lambda buffers, j: (buffers[0][j], buffers[1][j], buffers[2][j], buffers[3][j]),
    ][len(buffers) - 1]


def like_first(buffers, x):
    """The number x in the float of the buffers."""


@overload(like_first, jit_options=INLINE)
def _like_first_of(buffers, x):
    real = np.float32 if buffers[0].dtype == types.float32 else np.float64
    return lambda buffers, x: real(x)
