"""From slopes to gradients: what each geometry does with a row of slopes, and how columns are gathered. Compiled.

Slopes come times the weights and the factor of the tile, C_ij = factor w_i w_j ∂k/∂g. By columns the gradients are
summed here; of a product the slopes go back into its tile, for two more products outside, but pairs close together are
done here by differences: (C1) Z − C Z would cancel.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit, types
from numba.extending import overload

from otdist.kernels.gram_tiles import LIMIT, Dense, Differences, Dots, Product, fold, kind_of, real_of
from otdist.kernels.jit import INLINE
from otdist.kernels.vecmath import select


class Pulls(NamedTuple):
    """Where gradients go: those of the pool (N, d) and the sums of C (N,) in float64, and scratch for columns.

    The scratch, (d, width) and of a Product (width,), is in the float of the tile; `flush` empties it every few rows.
    """

    points: Any
    sums: Any
    columns: Any
    column_sums: Any


def slope(geometry, x, y):
    """Derivative of the term of one coordinate in x (of Differences: half of it); that in y is its negative."""


@overload(slope, jit_options=INLINE)
def _slope_of(geometry, x, y):
    kind, real = kind_of(geometry), real_of(geometry)
    if kind is Differences:
        return lambda geometry, x, y: x - y
    one, zero = real(1), real(0)
    return lambda geometry, x, y: select(x > y, one, select(x < y, -one, zero))


def pull(geometry, c, pulls, i, i0, start, j0, count, low):
    """Turn the slopes c of row i into gradients."""


@overload(pull, jit_options=INLINE)
def _pull_of(geometry, c, pulls, i, i0, start, j0, count, low):
    kind, real = kind_of(geometry), real_of(geometry)
    zero = real(0)
    if kind is Dense:

        def dense(geometry, c, pulls, i, i0, start, j0, count, low):
            g = geometry.product[i - i0]
            for j in range(start - j0):
                g[j] = zero
            tail = g[start - j0 :]
            for j in range(count):
                tail[j] = c[j]

        return dense
    if kind is Product:
        limit, two = real(LIMIT), real(2)

        def product(geometry, c, pulls, i, i0, start, j0, count, low):
            row = geometry.product[i - i0]
            g = row[start - j0 :]
            if low > zero:
                norms, norm = geometry.right_norms[start:], geometry.left_norms[i]
                for j in range(count):
                    both = norm + norms[j]
                    if both - two * g[j] < limit * both:
                        x, y = geometry.left[i], geometry.right[start + j]
                        to, other = pulls.points[i], pulls.points[start + j]
                        factor = np.float64(c[j])
                        for k in range(x.size):
                            t = factor * np.float64(x[k] - y[k])
                            to[k] += t
                            other[k] -= t
                        c[j] = zero
            for j in range(start - j0):
                row[j] = zero
            sums = pulls.column_sums[start - j0 :]
            for j in range(count):
                g[j] = c[j]
                sums[j] += c[j]
            pulls.sums[i] += fold(c, count)

        return product
    if kind is Dots:

        def dots(geometry, c, pulls, i, i0, start, j0, count, low):
            for k in range(pulls.points.shape[1]):
                x, y, to = geometry.left[k, i], geometry.right[k][start:], pulls.columns[k][start - j0 :]
                total = zero
                for j in range(count):
                    total += c[j] * y[j]
                    to[j] += c[j] * x
                pulls.points[i, k] += np.float64(total)

        return dots

    def by_columns(geometry, c, pulls, i, i0, start, j0, count, low):
        for k in range(pulls.points.shape[1]):
            x, y, to = geometry.left[k, i], geometry.right[k][start:], pulls.columns[k][start - j0 :]
            total = zero
            for j in range(count):
                t = c[j] * slope(geometry, x, y[j])
                total += t
                to[j] -= t
            pulls.points[i, k] += np.float64(total)

    return by_columns


def flush(geometries, pulls, j0, j1):
    """Add what the columns of the tile have gathered to the gradients, and empty the scratch."""


@overload(flush, jit_options=INLINE)
def _flush_of(geometries, pulls, j0, j1):
    if isinstance(pulls, types.NoneType):
        return lambda geometries, pulls, j0, j1: None
    zero = real_of(geometries[0])(0)
    kind = kind_of(geometries[0])

    def first(pulls, j0, j1):
        pass

    def of_product(pulls, j0, j1):
        to = pulls.sums[j0:]
        for j in range(j1 - j0):
            to[j] += np.float64(pulls.column_sums[j])
            pulls.column_sums[j] = zero

    def of_columns(pulls, j0, j1):
        for k in range(pulls.points.shape[1]):
            for j in range(j1 - j0):
                pulls.points[j0 + j, k] += np.float64(pulls.columns[k, j])
                pulls.columns[k, j] = zero

    one = njit(**INLINE)(of_product if kind is Product else first if kind is Dense else of_columns)
    if len(geometries) == 1:
        return lambda geometries, pulls, j0, j1: one(pulls[0], j0, j1)

    def several(geometries, pulls, j0, j1):
        one(pulls[0], j0, j1)
        flush(geometries[1:], pulls[1:], j0, j1)

    return several


def pull_all(geometries, slopes, pulls, i, i0, start, j0, count, low):
    """`pull` for each geometry."""


@overload(pull_all, jit_options=INLINE)
def _pull_all_of(geometries, slopes, pulls, i, i0, start, j0, count, low):
    def last(geometries, slopes, pulls, i, i0, start, j0, count, low):
        pull(geometries[0], slopes[0], pulls[0], i, i0, start, j0, count, low)

    def several(geometries, slopes, pulls, i, i0, start, j0, count, low):
        pull(geometries[0], slopes[0], pulls[0], i, i0, start, j0, count, low)
        pull_all(geometries[1:], slopes[1:], pulls[1:], i, i0, start, j0, count, low)

    return last if len(geometries) == 1 else several


def put_slopes(buffers, j, c, slopes):
    """Replace the quantities of one pair by c times its slopes."""


@overload(put_slopes, jit_options=INLINE)
def _put_slopes_of(buffers, j, c, slopes):
    def last(buffers, j, c, slopes):
        buffers[0][j] = c * slopes[0]

    def several(buffers, j, c, slopes):
        buffers[0][j] = c * slopes[0]
        put_slopes(buffers[1:], j, c, slopes[1:])

    return last if len(buffers) == 1 else several


def inner_slope(geometries, slopes):
    """The slope in ⟨x, y⟩, 0 where the kernel does not know it."""


@overload(inner_slope, jit_options=INLINE)
def _inner_slope_of(geometries, slopes):
    places = [n for n, g in enumerate(geometries) if kind_of(g) in (Dots, Dense)]
    if not places:
        return lambda geometries, slopes: 0.0
    place = places[0]
    return lambda geometries, slopes: np.float64(slopes[place])
