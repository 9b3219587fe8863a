"""Kernel sums over pairs: Gram blocks, K @ V and quadratic forms with gradients, K never stored.

Pairs go in tiles at fixed places, whatever the threads. For up to DIRECT coordinates (and for city-block distances, and
for small problems) tiles measure by differences; beyond, by a matrix product whose closest pairs are redone by
differences (see ``gram_tiles.py``). A quadratic form runs over the pooled points z = [x; y] and takes every pair once:
tile (I, J), J >= I, gives its sum, its row sums to I and to J, and two products for the gradients of I and J. Tiles are
ordered in rounds, I + J = r mod the number of blocks: within a round no two tiles share a block, so threads may add to
one gradient without locks, and every sum has one order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from otdist.kernels import threads
from otdist.kernels.gram_clouds import Array, Cloud, Scratch, Sides, by_columns, unit_rows, wants_product
from otdist.kernels.gram_pulls import Pulls
from otdist.kernels.gram_sums import accumulate, panel, sweep
from otdist.kernels.gram_tiles import Dense, Product
from otdist.kernels.profiles import Angle, Inner, Kernel, Squared

# Rows and columns of a tile: of values that are kept, of products that are summed, of differences.
TILE, WIDE, STRIP = 512, 1024, 2048
# Tiles handed to the threads at once.
BATCH = 1024


class Quadratic(NamedTuple):
    """Sums over pairs of one batch of problems, float64."""

    xx: Array  # (P,): sum of a_i a_j k(x_i, x_j) over i != j
    xy: Array  # sum of a_i b_j k(x_i, y_j)
    yy: Array
    diagonal: Array  # (P, N): k(z, z) of the pool
    row_sums: Array | None  # (P, 2, N), without the diagonal: over x with weights a, over y with weights b
    gradient: Array | None  # (P, N, d)


def _edges(n: int, m: int, size: int) -> tuple[Array, int]:
    """Edges of blocks of about equal size, at most `size`, none of which spans x and y; how many are x's."""
    parts, start = [], 0
    for count in (n, m):
        blocks = max(1, -(-count // size))
        parts.append(start + np.arange(blocks) * count // blocks)
        start += count
    return np.concatenate([*parts, [n + m]]).astype(np.int64), len(parts[0])


def _rounds(blocks: int) -> tuple[Array, list[tuple[int, int]]]:
    """Pairs of blocks (a, b), b >= a, in rounds that share no block; where each round starts and stops."""
    a, b = np.triu_indices(blocks)
    order = np.argsort((a + b) % blocks, kind="stable")
    stops = np.cumsum(np.bincount((a + b) % blocks, minlength=blocks))
    pairs = np.stack([a[order], b[order]], axis=1).astype(np.int64)
    return pairs, list(zip([0, *stops[:-1].tolist()], stops.tolist(), strict=True))


def _nanoseconds(pairs: float, d: int, real: Any) -> float:
    return pairs * (0.5 + 0.06 * d) * (1.0 if real is np.float32 else 2.0)


def quadratic(
    tag: Kernel,
    X: Array,
    Y: Array,
    weights: Array | None = None,
    *,
    real: Any = np.float64,
    factors: tuple[float, float, float] | None = None,
    ends: tuple[Any, Any] = (0.0, 0.0),
    row_sums: bool = False,
    shift_free: bool = False,
) -> Quadratic:
    """Sums over all pairs of X (P, n, d) and Y (P, m, d), computed in the float `real` and summed in float64.

    `weights` (P, n + m) are a and b, ones by default. With `factors` (fxx, fxy, fyy) also the gradient, with respect to
    the points, of fxx xx + fxy xy + fyy yy + Σ e_i k(z_i, z_i), where e is ends[0] on x and ends[1] on y, each a number
    or per point. O(N² d/2) time for N = n + m; memory: two copies of the points, tiles of 4 to 8 MB, what is returned.
    """
    n, m = X.shape[1], Y.shape[1]
    pool = Cloud([X, Y], real, shift_free=shift_free)
    product = wants_product(tag.geometries, pool.N * pool.N, pool.d)
    size = WIDE if product else STRIP
    edges, split = _edges(n, m, size)
    pairs, rounds = _rounds(len(edges) - 1)
    totals = np.zeros((pool.problems, len(pairs)))
    diagonal = np.zeros((pool.problems, 2, pool.N))
    sums = np.zeros((pool.problems, 2, pool.N)) if row_sums else None
    gradients = None
    scale = np.zeros(3)
    if factors is not None:
        scale = np.array([2.0 * factors[0], factors[1], 2.0 * factors[2]])
        gradients = tuple(np.zeros((pool.problems, pool.N, pool.d)) for _ in tag.geometries)
    form = _Form(tag, pool, edges, pairs, rounds, split, weights, scale, totals, diagonal, sums, gradients)
    if not product:
        _by_differences(form)
    else:
        for p in range(pool.problems):
            _by_products(form, p)
    side = (pairs >= split).sum(axis=1)
    xx, xy, yy = (np.sum(totals[:, side == s], axis=1) for s in range(3))
    gradient = None if gradients is None else _points(tag, pool, gradients, diagonal, ends, n)
    return Quadratic(2.0 * xx, xy, 2.0 * yy, diagonal[:, 0], sums, gradient)


class _Form(NamedTuple):
    """A quadratic form under way: what to sum, in which tiles, and where to."""

    tag: Kernel
    pool: Cloud
    edges: Array
    pairs: Array
    rounds: list[tuple[int, int]]
    split: int
    weights: Array | None
    scale: Array
    totals: Array
    diagonal: Array
    sums: Array | None
    gradients: tuple[Array, ...] | None

    @property
    def nanoseconds(self) -> float:
        """Of one problem, roughly."""
        return _nanoseconds(self.pool.N * self.pool.N / 2, self.pool.d, self.pool.real)

    def batches(self, size: int) -> list[tuple[int, int]]:
        """Tiles that may run at once: rounds where tiles add to shared sums."""
        shared = self.sums is not None or self.gradients is not None
        return self.rounds if shared else list(threads.spans(len(self.pairs), size))


def _by_differences(form: _Form) -> None:
    tag, pool, count, work = form.tag, form.pool, len(form.pairs), form.nanoseconds
    geometries = by_columns(tag.geometries, pool, pool)

    def some(p0: int, p1: int, t0: int, t1: int) -> None:
        sweep(
            *(tag.expression, geometries, form.edges, form.pairs, form.split, form.weights, form.scale),
            *(form.totals, form.diagonal, form.sums, form.gradients, p0, p1, t0, t1),
        )

    if work <= threads.INLINE_NANOSECONDS or pool.problems >= 16:
        step = max(1, int(threads.INLINE_NANOSECONDS / work))
        tasks = [(p0, p1, 0, count) for p0, p1 in threads.spans(pool.problems, step)]
        threads.run(some, tasks, work * pool.problems)
        return
    step = max(1, int(count * threads.INLINE_NANOSECONDS / work))
    for p in range(pool.problems):
        for start, stop in form.batches(BATCH * step):
            tasks = [(p, p + 1, start + t0, start + t1) for t0, t1 in threads.spans(stop - start, step)]
            threads.run(some, tasks, work * (stop - start) / count)


def _by_products(form: _Form, p: int) -> None:
    pool, pairs, edges = form.pool, form.pairs, form.edges
    sides = Sides(form.tag.geometries, pool, pool, p)
    n = int(edges[form.split])
    parts = ((0, n, 0, n), (0, n, n, pool.N), (n, pool.N, n, pool.N))
    direct = [tuple(sides.close(place, *part) for place in range(len(sides.kinds))) for part in parts]
    sides.prepare(tuple(map(any, zip(*direct, strict=True))))
    weights = None if form.weights is None else form.weights[p]
    gradients = None if form.gradients is None else [g[p] for g in form.gradients]
    slopes = [np.zeros(pool.N) for _ in sides.kinds]
    free: deque[Scratch] = deque()

    def one(t: int) -> None:
        a, b = pairs[t]
        x, y = int(a >= form.split), int(b >= form.split)
        span = (int(edges[a]), int(edges[a + 1]), int(edges[b]), int(edges[b + 1]))
        try:
            scratch = free.pop()
        except IndexError:
            scratch = Scratch()
        geometries = sides.geometries(span, scratch, direct[x + y])
        phi = (None, None) if form.sums is None else (form.sums[p, y], form.sums[p, x])
        pulls = None if gradients is None else _pulls(geometries, gradients, slopes, span[3] - span[2], scratch)
        form.totals[p, t] = panel(
            *(form.tag.expression, geometries, span, a == b, weights, form.scale[x + y]),
            *(form.diagonal[p], *phi, pulls, None),
        )
        if gradients is not None:
            _gather(geometries, sides, gradients, span, scratch)
        free.append(scratch)

    with threads.single_blas():
        for start, stop in form.batches(BATCH):
            tasks = [(t,) for t in range(start, stop)]
            threads.run(one, tasks, form.nanoseconds * len(tasks) / len(pairs))
    for kind, used, gradient, sums in zip(sides.kinds, sides.products, gradients or [], slopes, strict=False):
        if used and kind is not Inner:
            gradient += sums[:, None] * sides.left.rows(kind)[p]


def _pulls(
    geometries: tuple[Any, ...], gradients: list[Array], slopes: list[Array], width: int, scratch: Scratch
) -> tuple[Pulls, ...]:
    found = []
    for place, (g, gradient, sums) in enumerate(zip(geometries, gradients, slopes, strict=True)):
        products = type(g) in (Product, Dense)
        columns = scratch(f"columns{place}", (0 if products else gradient.shape[1], width), g[0].dtype)
        column_sums = scratch(f"sums{place}", (width if products else 0,), g[0].dtype)
        columns.fill(0)
        column_sums.fill(0)
        found.append(Pulls(gradient, sums, columns, column_sums))
    return tuple(found)


def _gather(
    geometries: tuple[Any, ...], sides: Sides, gradients: list[Array], span: tuple[int, ...], scratch: Scratch
) -> None:
    """Slopes C of a tile -> gradients of I and J: −C Z_J and −Cᵀ Z_I, of inner products C Z_J and Cᵀ Z_I."""
    i0, i1, j0, j1 = span
    for g, kind, gradient in zip(geometries, sides.kinds, gradients, strict=True):
        if type(g) not in (Product, Dense):
            continue
        Z, sign = sides.left.rows(kind)[sides.p], 1.0 if type(g) is Dense else -1.0
        to_i = np.matmul(g.product, Z[j0:j1], out=scratch("to i", (i1 - i0, Z.shape[1]), Z.dtype))
        accumulate(gradient[i0:i1], to_i, sign)
        to_j = np.matmul(g.product.T, Z[i0:i1], out=scratch("to j", (j1 - j0, Z.shape[1]), Z.dtype))
        accumulate(gradient[j0:j1], to_j, sign)


def _points(tag: Kernel, pool: Cloud, gradients: Any, diagonal: Array, ends: tuple[Any, Any], n: int) -> Array:
    """Gradients per geometry -> with respect to the points."""
    total = np.zeros_like(gradients[0])
    for geometry, gradient in zip(tag.geometries, gradients, strict=True):
        kind = type(geometry)
        if kind is Inner:
            e = np.empty((pool.problems, pool.N))
            e[:, :n], e[:, n:] = ends
            gradient = gradient + (2.0 * e * diagonal[:, 1])[:, :, None] * (
                np.concatenate(pool.samples, axis=1) - pool.centre(Inner)[:, None, :]
            )
        elif kind is Squared:
            gradient = 2.0 * gradient
        elif kind is Angle:
            unit, length = unit_rows(np.concatenate(pool.samples, axis=1))
            gradient = 2.0 * (gradient - np.sum(gradient * unit, axis=-1, keepdims=True) * unit) / length
        total += gradient
    return total


def _tiles(
    tag: Kernel, X: Array, Y: Array, each: Callable[[int, int, int, int, Array], None], upper: bool = False
) -> None:
    """Every tile of values K(X, Y), row of tiles by row of tiles, to `each` (which may be called from many threads).

    `upper`: only the tiles on and above the diagonal.
    """
    real = X.dtype.type
    left = Cloud([X[None]], real)
    if Y is X:
        right = left
    else:
        whole = Cloud([X[None], Y[None]], real)
        left.centres = {f: whole.centre(f) for f in {left._family(type(g)) for g in tag.geometries}}
        right = Cloud([Y[None]], real, left.centres)
    sides = Sides(tag.geometries, left, right)
    direct = tuple(sides.close(place, 0, left.N, 0, right.N) for place in range(len(sides.kinds)))
    sides.prepare(direct)
    free: deque[Scratch] = deque()

    def some(i0: int, i1: int) -> None:
        try:
            scratch = free.pop()
        except IndexError:
            scratch = Scratch()
        for j0, j1 in threads.spans(right.N, TILE):
            if upper and j0 < i0:
                continue
            span = (i0, i1, j0, j1)
            K = scratch("values", (i1 - i0, j1 - j0), real)
            geometries = sides.geometries(span, scratch, direct)
            panel(tag.expression, geometries, span, False, None, 0.0, None, None, None, None, K)
            each(*span, K)
        free.append(scratch)

    with threads.single_blas():
        tasks = threads.spans(left.N, TILE)
        threads.run(some, tasks, _nanoseconds(left.N * right.N, left.d, real))


def block(tag: Kernel, X: Array, Y: Array, out: Array | None = None) -> Array:
    """The matrix k(X_i, Y_j), in the dtype of X (n, d) and Y (m, d); symmetric to the last bit if Y is X."""
    K = np.empty((len(X), len(Y)), X.dtype) if out is None else out

    def each(i0: int, i1: int, j0: int, j1: int, values: Array) -> None:
        if symmetric and i0 == j0:
            values = np.triu(values) + np.triu(values, 1).T
        K[i0:i1, j0:j1] = values
        if symmetric and i0 != j0:
            K[j0:j1, i0:i1] = values.T

    symmetric = Y is X
    _tiles(tag, X, Y, each, symmetric)
    return K


def apply(tag: Kernel, X: Array, Y: Array, V: Array) -> Array:
    """K(X, Y) @ V for V (m, c): (n, c) in float64, K in tiles of the dtype of X, products of a tile too."""
    result = np.zeros((len(X), V.shape[1]))
    W = np.ascontiguousarray(V, X.dtype)

    def each(i0: int, i1: int, j0: int, j1: int, values: Array) -> None:
        result[i0:i1] += values @ W[j0:j1]

    _tiles(tag, X, Y, each)
    return result
