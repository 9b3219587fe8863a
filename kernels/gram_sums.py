"""Sums over tiles of pairs: the loop of ``gram_tiles.py`` and its two entries. Compiled.

`panel` does one tile whose products BLAS has prepared; `sweep` does a list of tiles by differences, of many small
problems in one call. Sums, their diagonals, row sums and gradients are optional: None is a type, and what is not asked
for compiles to nothing.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types
from numba.extending import overload

from otdist.kernels.formulas import evaluate
from otdist.kernels.gram_pulls import Pulls, flush, inner_slope, pull_all, put_slopes
from otdist.kernels.gram_tiles import (
    Absolute,
    Differences,
    Dots,
    after,
    at,
    buffers_for,
    fold,
    like_first,
    measure_all,
)
from otdist.kernels.jit import INLINE, kernel

# Rows whose contributions to the gradients of a tile's columns are summed in the float of the tile.
FLUSH = 64


@njit(**INLINE)
def tile(expression, geometries, buffers, span, diagonal, weights, factor, diag, phi_left, phi_right, pulls, out):
    """Sum of w_i w_j k over the pairs of a tile, i0 <= i < i1, j0 <= j < j1; above the diagonal only if `diagonal`.

    `diag` takes k(i, i) and its slope in ⟨x, x⟩, `phi_left` the sums Σ_j w_j k of the rows, `phi_right` those of the
    columns, `pulls` the gradients times `factor`, `out` the values.
    """
    i0, i1, j0, j1 = span
    spare = np.empty_like(buffers[0])
    whole = 0.0
    for i in range(i0, i1):
        start = i if diagonal else j0
        count = j1 - start
        low = measure_all(geometries, buffers, i, i0, start, j0, count)
        row = after(buffers, 0)
        if diagonal:
            value, slopes = evaluate(expression, at(buffers, 0))
            if diag is not None:
                diag[0, i] = np.float64(value)
                diag[1, i] = inner_slope(geometries, slopes)
            start += 1
            count -= 1
            row = after(buffers, 1)
        u = 1.0
        if weights is not None:
            u = weights[i]
            w = weights[start:]
        c = like_first(buffers, factor * u)
        if phi_right is not None:
            columns = phi_right[start:]
        values = spare if out is None else out[i - i0][start - j0 :]
        for j in range(count):
            value, slopes = evaluate(expression, at(row, j))
            values[j] = value
            if pulls is not None:
                if weights is not None:
                    put_slopes(row, j, c * like_first(buffers, w[j]), slopes)
                else:
                    put_slopes(row, j, c, slopes)
        total = 0.0
        if out is None:
            if weights is None:
                total = fold(values, count)
            else:
                for j in range(count):
                    total += w[j] * np.float64(values[j])
            if phi_right is not None:
                for j in range(count):
                    columns[j] += u * np.float64(values[j])
        if phi_left is not None:
            phi_left[i] += total
        if pulls is not None:
            pull_all(geometries, row, pulls, i, i0, start, j0, count, low)
            if (i - i0) % FLUSH == FLUSH - 1 or i == i1 - 1:
                flush(geometries, pulls, j0, j1)
        whole += u * total
    return whole


@kernel
def accumulate(G, T, sign):
    """G += sign T."""
    for i in range(T.shape[0]):
        g, t = G[i], T[i]
        for k in range(T.shape[1]):
            g[k] += sign * np.float64(t[k])


@kernel
def panel(expression, geometries, span, diagonal, weights, factor, diag, phi_left, phi_right, pulls, out):
    """`tile` where the products are ready."""
    buffers = buffers_for(geometries, span[3] - span[2])
    return tile(expression, geometries, buffers, span, diagonal, weights, factor, diag, phi_left, phi_right, pulls, out)


def entry(arrays, p):
    """arrays[p]; None stays None."""


@overload(entry, jit_options=INLINE)
def _entry_of(arrays, p):
    if arrays is None or isinstance(arrays, types.NoneType):
        return lambda arrays, p: None
    return lambda arrays, p: arrays[p]


def of_problem(geometries, p):
    """The geometries of one problem of a batch."""


@overload(of_problem, jit_options=INLINE)
def _of_problem(geometries, p):
    kinds = {Differences: Differences, Absolute: Absolute, Dots: Dots}
    make = kinds[geometries[0].instance_class]
    if len(geometries) == 1:
        return lambda geometries, p: (make(geometries[0].left[p], geometries[0].right[p]),)
    return lambda geometries, p: (
        make(geometries[0].left[p], geometries[0].right[p]),
        *of_problem(geometries[1:], p),
    )


def scratch_for(geometries, gradients, p, width):
    """`Pulls` of one problem: rows of the gradients, and a scratch for the columns of a tile."""


@overload(scratch_for, jit_options=INLINE)
def _scratch_for(geometries, gradients, p, width):
    if isinstance(gradients, types.NoneType):
        return lambda geometries, gradients, p, width: None
    real = np.float32 if geometries[0].types[0].dtype.bitwidth == 32 else np.float64

    def one(geometries, gradients, p, width):
        d = gradients[0].shape[2]
        return (Pulls(gradients[0][p], 0.0, np.zeros((d, width), real), 0.0),)

    def several(geometries, gradients, p, width):
        d = gradients[0].shape[2]
        first = Pulls(gradients[0][p], 0.0, np.zeros((d, width), real), 0.0)
        return (first, *scratch_for(geometries[1:], gradients[1:], p, width))

    return one if len(geometries) == 1 else several


@kernel
def sweep(expression, geometries, edges, pairs, split, weights, factors, totals, diag, phi, gradients, p0, p1, t0, t1):
    """`tile` for the problems p0 <= p < p1 and the tiles pairs[t0:t1] between edges; blocks from `split` on are y's.

    totals (P, T), diag (P, 2, N), phi (P, 2, N): sums of the rows over x and over y, gradients (P, N, d) per geometry.
    """
    width = 0
    for b in range(len(edges) - 1):
        width = max(width, edges[b + 1] - edges[b])
    buffers = buffers_for(geometries, width)
    for p in range(p0, p1):
        mine = of_problem(geometries, p)
        own, ends = entry(weights, p), entry(diag, p)
        pulls = scratch_for(geometries, gradients, p, width)
        for t in range(t0, t1):
            a, b = pairs[t, 0], pairs[t, 1]
            x, y = int(a >= split), int(b >= split)
            left, right = entry(entry(phi, p), y), entry(entry(phi, p), x)
            span = (edges[a], edges[a + 1], edges[b], edges[b + 1])
            totals[p, t] = tile(
                expression, mine, buffers, span, a == b, own, factors[x + y], ends, left, right, pulls, None
            )
