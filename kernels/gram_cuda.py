"""Launches of ``gram.cu``: quadratic forms with gradients, sums of rows, matrices, of kernels over pairs on a GPU.

Everything of a call is queued and nothing waits: for which problems float32 is not good enough is decided on the
device, and the pass in float64 that follows leaves the others alone (`only`). Sums have one order, whatever the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from otdist.kernels import formulas_cuda, gram_tensor_cuda
from otdist.kernels.device import Space, ctype, kernel
from otdist.kernels.profiles import Angle, Inner, Kernel, Squared

# Pairs up to which float32 samples are computed in float64 throughout, as on the CPU; it costs some microseconds.
FEW = 1 << 22
# Coordinates that a thread can keep (of all geometries together, and of one), rows from which on it keeps two.
NEAR, COORDINATES, MANY = 32, 16, 1 << 16
# Points from which on float tiles are 128 x 128; values of so many blocks of tiles; blocks of rows wanted at a time.
WIDE, PARTS, ROWS = 4096, 1 << 14, 1024
BLOCK = 64


class Numbers(NamedTuple):
    """What the type of a kernel leaves open, on the device: (1, k), or (problems, k) where each has its own."""

    table: Any

    @property
    def per(self) -> Any:
        """Numbers from one problem to the next."""
        return np.int32(self.table.shape[1] if self.table.shape[0] > 1 else 0)


class Status(NamedTuple):
    """Words of `Space.flags` for x, y and their weights."""

    x: int
    y: int
    a: int
    b: int


class Pool:
    """Points of several samples (problems, n_s, d) as rows, in one float, as the geometries of a kernel want them."""

    def __init__(
        self,
        space: Space,
        tag: Kernel,
        samples: tuple[Any, ...],
        words: tuple[int, ...],
        real: Any,
        shift_free: bool,
        origin: Any = None,
        extent: Any = None,
    ) -> None:
        kinds = {type(g) for g in tag.geometries}
        self.problems, _, self.d = samples[0].shape
        self.N = sum(s.shape[1] for s in samples)
        self.width = -(-self.d // 4) * 4
        self.real = np.dtype(real)
        self.extent = space.zeros((1,), np.uint64) if extent is None else extent
        origin = samples[0] if origin is None else origin
        shape = (self.problems, self.N, self.width)
        self.plain = space.empty(shape, real)
        self.unit = space.empty(shape, real) if Angle in kinds else None
        self.shifted = centre = None
        if Inner in kinds and shift_free and len(samples) == 2:
            centre, self.shifted = space.empty((self.problems, self.d), np.float64), space.empty(shape, real)
            n, m = (np.int32(s.shape[1]) for s in samples)
            run = kernel("gram_ends.cu", f"gram_centre<{ctype(samples[0])}>")
            run(space, self.problems * self.d, 256, (*samples, centre, n, m, np.int32(self.d)))
        start = 0
        for sample, word in zip(samples, words, strict=True):
            n = sample.shape[1]
            run = kernel("gram_ends.cu", f"gram_points<{ctype(sample)}, {ctype(self.plain)}>")
            args = (sample, origin, centre, self.plain, self.shifted, self.unit, self.extent, space.flags)
            sizes = (word, n, self.d, self.N, start, self.width)
            rows = self.problems * n
            run(space, -(-rows // 8), 256, (*args, *map(np.int32, sizes), np.int64(rows)))
            start += n

    @property
    def clouds(self) -> tuple[Any, Any, Any]:
        """What kernels take; what no geometry reads is never followed."""
        return (
            self.plain,
            self.plain if self.shifted is None else self.shifted,
            self.plain if self.unit is None else self.unit,
        )


class Form(NamedTuple):
    """An estimate per problem and its gradients by points (P, N, d) and weights (P, N), float64."""

    value: Any
    by_points: Any | None
    by_weights: Any | None


@dataclass
class Quadratic:
    """A quadratic form under way: MMD² of the pooled samples X (P, n, d) and Y (P, m, d), and its gradients."""

    space: Space
    tag: Kernel
    numbers: Numbers
    X: Any
    Y: Any
    weights: tuple[Any, Any]  # (P, n), (P, m), or None for equal ones
    status: Status
    tolerance: float = 0.0
    unbiased: bool = False
    shift_free: bool = False  # the estimate: inner products may be taken about any centre
    far: bool = False  # flag samples that an inner product cannot tell apart
    points: bool = False
    own: bool = False
    single: bool = False  # try float32 first

    def __post_init__(self) -> None:
        self.problems, self.n, self.d = self.X.shape
        self.m = self.Y.shape[1]
        self.N = self.n + self.m
        self.name = formulas_cuda.name(self.tag)

    def run(self) -> Form:
        """Launch everything."""
        args: tuple[Any, ...]
        space, P, N = self.space, self.problems, self.N
        inner = any(type(g) is Inner for g in self.tag.geometries)
        single = self.single and N * N > FEW and not inner
        self.pooled = self.squares = None
        if any(w is not None for w in self.weights):
            self._weigh()
        self.factors = space.empty((P, 8), np.float64)
        self.stats = space.empty((P, 6), np.float64)
        self.sizes = space.empty((P,), np.float64)
        self.found = Form(
            space.empty((P,), np.float64),
            space.empty((P, N, self.d), np.float64) if self.points else None,
            space.empty((P, N), np.float64) if self.own else None,
        )
        again = space.empty((P,), np.int32) if single else None
        pool = self._pool(np.float32 if single else np.float64)
        sizes = (self.status.a, self.status.b, self.n, self.m, self.unbiased, P)
        args = (self.squares, pool.extent, self.factors, again, space.flags)
        kernel("gram_ends.cu", "gram_factors")(space, -(-P // 256), 256, (*args, *map(np.int32, sizes)))
        if squared_distances(self.tag):
            extreme(space, pool)
        if single:
            self._pass(pool, None, again)
            pool = self._pool(np.float64)
        self._pass(pool, again, None)
        if inner and self.far:
            args = (pool.plain, self.found.value, self.sizes, space.flags)
            run = kernel("gram_ends.cu", "gram_far<double>")
            run(space, P, 256, (*args, *map(np.int32, (self.n, N, self.d, pool.width))))
        return self.found

    def _pool(self, real: Any) -> Pool:
        words = (self.status.x, self.status.y)
        return Pool(self.space, self.tag, (self.X, self.Y), words, real, self.shift_free)

    def _weigh(self) -> None:
        space = self.space
        self.pooled = space.empty((self.problems, self.N), np.float64)
        self.squares = space.empty((self.problems, 2), np.float64)
        words, counts = (self.status.a, self.status.b), (self.n, self.m)
        for side, (given, word, n) in enumerate(zip(self.weights, words, counts, strict=True)):
            weigh(space, given, self.pooled, self.squares, word, side, n, self.tolerance, 1.0)

    def _pass(self, pool: Pool, only: Any, again: Any) -> None:
        space, P, N, real = self.space, self.problems, self.N, ctype(pool.plain)
        args: tuple[Any, ...]
        sizes: tuple[Any, ...]
        sides = (np.int32(self.n), np.int32(N))
        diagonal = space.empty((P, 2, N), np.float64)
        run = kernel("gram.cu", f"gram_diagonal<{real}, {self.name}>")
        args = (pool.clouds[1], *self.numbers_of, only, diagonal, np.int32(N), np.int32(pool.width), np.int64(P * N))
        run(space, -(-P * N // 8), 256, args)
        rows = tiles = None
        count, shares = 0, 1
        if self.points or self.own:
            rows, pulls, shares = self._rows(pool, only)
        else:
            tiles, count = self._values(pool, only)
        merge = kernel("gram_ends.cu", "gram_merge")
        args = (tiles, np.int64(count), rows, np.int32(shares), diagonal, self.pooled, only, self.stats, *sides)
        merge(space, P, 1024, args)
        args = (self.stats, self.factors, only, again, self.found.value, self.sizes)
        sizes = (np.int32(self.unbiased), np.int32(P))
        kernel("gram_ends.cu", "gram_value")(space, -(-P // 256), 256, (*args, *sizes))
        if self.points:
            run = kernel("gram_ends.cu", f"gram_gradient<{real}, {self.name}>")
            args = (pulls, *pool.clouds[:2], diagonal, self.pooled, self.factors, only, self.found.by_points)
            sizes = (*sides, np.int32(self.d), np.int32(pool.width), np.int32(shares), np.int64(P * N))
            run(space, -(-P * N // 8), 256, (*args, *sizes))
        if self.own:
            args = (
                rows,
                np.int32(shares),
                diagonal,
                self.pooled,
                self.stats,
                self.factors,
                only,
                self.found.by_weights,
            )
            sizes = (np.int32(self.unbiased), *sides, np.int64(P * N))
            kernel("gram_ends.cu", "gram_weight_gradient")(space, -(-P * N // 256), 256, (*args, *sizes))

    @property
    def numbers_of(self) -> tuple[Any, Any]:
        return self.numbers.table, self.numbers.per

    def _values(self, pool: Pool, only: Any) -> tuple[Any, int]:
        """Sums of tiles, (P, count, 3)."""
        wide = pool.real == np.float32 and self.N >= WIDE and len(self.tag.geometries) == 1
        size = 2 * BLOCK if wide else BLOCK
        blocks = -(-self.n // size) - (-self.m // size)
        tiles = blocks * (blocks + 1) // 2
        run = max(1, tiles // PARTS)
        count = -(-tiles // run)
        tensor = wide and self.pooled is None and gram_tensor_cuda.suits(self.tag, self.problems, self.d)
        if tensor:
            first = gram_tensor_cuda.count(self.n, self.N)
            whole = self.space.zeros((1, first + count, 3), np.float64)
            cloud = (pool.plain if pool.unit is None else pool.unit)[0]
            only = gram_tensor_cuda.values(self.space, self.tag, self.numbers.table, cloud, whole[0, :first], self.n)
            totals = whole[:, first:]
        else:
            whole = totals = self.space.empty((self.problems, count, 3), np.float64)
        weighted = "false" if self.pooled is None else "true"
        name = f"gram_values<{ctype(pool.plain)}, {self.name}, {size}, {weighted}>"
        args = (*pool.clouds, *self.numbers_of, self.pooled, only, totals)
        sizes = (np.int32(self.n), np.int32(self.N), np.int32(pool.width), np.int64(tiles), np.int32(run))
        kernel("gram.cu", name)(self.space, self.problems * count, 256, (*args, *sizes))
        return whole, whole.shape[1]

    def _rows(self, pool: Pool, only: Any) -> tuple[Any, Any, int]:
        """Sums of rows (P, shares, 2, N), pulls (geometries, P, shares, N, width), shares of the columns."""
        return rows(
            self.space, self.tag, self.numbers, pool, pool, self.pooled, self.n, self.n, same=True,
            factors=self.factors if self.points else None, only=only,
        )  # fmt: skip


def squared_distances(tag: Kernel) -> bool:
    """Whether distances are squared."""
    return any(type(g) is Squared for g in tag.geometries)


def extreme(space: Space, pool: Pool) -> None:
    """Flag points so far apart, or so close, that squares of distances leave the range of float64."""
    kernel("gram_ends.cu", "gram_extreme")(space, 1, 32, (pool.extent, space.flags))


def weigh(
    space: Space, given: Any, pooled: Any, squares: Any, word: int, side: int, n: int, tolerance: float, sign: float
) -> None:
    """Weights (P, n), equal ones if `given` is None, exact and times `sign` -> their columns of `pooled`."""
    P, N = pooled.shape
    sizes = (word, side, n, N, N - n if side else 0)
    real = "double" if given is None else ctype(given)
    args = (given, pooled, squares, space.flags, *map(np.int32, sizes), np.float64(tolerance), np.float64(sign))
    kernel("gram_ends.cu", f"gram_weights<{real}>")(space, P, 256, args)


def rows(
    space: Space,
    tag: Kernel,
    numbers: Numbers,
    left: Pool,
    right: Pool,
    weights: Any,
    split: int,
    n: int,
    *,
    same: bool = False,
    factors: Any = None,
    only: Any = None,
) -> tuple[Any, Any, int]:
    """Σ_j w_j k(t_i, z_j) over the first n columns and over the others: (P, shares, 2, L), to be added over shares.

    With `factors` also the pulls (geometries, P, shares, L, width). `split`: rows of the first sample among t.
    """
    P, L, N, Q = left.problems, left.N, right.N, len(tag.geometries)
    near = left.d if left.d <= 4 else left.width
    is_near = near <= COORDINATES and near * Q <= NEAR
    each = 2 if P * L >= MANY and near * Q <= NEAR // 2 else 1
    size = 2 * BLOCK * each if is_near else BLOCK
    blocks = -(-split // size) - (-(L - split) // size)
    across = -(-n // BLOCK) - (-(N - n) // BLOCK)
    shares = max(1, min(across, ROWS // max(1, blocks * P)))
    pulls = None
    if factors is not None:
        bytes_of_one = 8 * Q * P * L * left.width
        shares = max(1, min(shares, space.budget() // max(1, bytes_of_one)))
        pulls = space.empty((Q, P, shares, L, left.width), np.float64)
    sums = space.empty((P, shares, 2, L), np.float64)
    flags = f"{'false' if weights is None else 'true'}, {'false' if factors is None else 'true'}"
    real, tree = ctype(left.plain), formulas_cuda.name(tag)
    args = (*left.clouds, *right.clouds, numbers.table, numbers.per, weights, factors, only, sums, pulls)
    sizes = (split, L, n, N, left.width, same, shares, P)
    if is_near:
        run = kernel("gram_near.cu", f"gram_near<{real}, {tree}, {near}, {each}, {flags}>")
    else:
        run = kernel("gram.cu", f"gram_rows<{real}, {tree}, {flags}>")
    run(space, blocks * shares * P, 2 * BLOCK if is_near else 256, (*args, *map(np.int32, sizes)))
    return sums, pulls, shares


def linear(space: Space, tag: Kernel, numbers: Numbers, X: Any, Y: Any, status: Status, points: bool) -> Form:
    """Means over the disjoint pairs of X and Y (P, n, d), and gradients."""
    args: tuple[Any, ...]
    sizes: tuple[Any, ...]
    P, n, d = X.shape
    pool = Pool(space, tag, (X, Y), (status.x, status.y), np.float64, False)
    count, name = n // 2, formulas_cuda.name(tag)
    shape = (len(tag.geometries), P, 1, 2 * n, pool.width)
    pulls = space.zeros(shape, np.float64) if points else None
    found = space.empty((P, count), np.float64)
    args = (*pool.clouds, numbers.table, numbers.per, found, pulls, np.float64(1.0 / count))
    sizes = (np.int32(n), np.int32(pool.width), np.int32(count), np.int64(P))
    kernel("gram_pairs.cu", f"gram_linear<double, {name}>")(space, -(-P * count // 8), 256, (*args, *sizes))
    if squared_distances(tag):
        extreme(space, pool)
    gradient = None
    if points:
        gradient = space.empty((P, 2 * n, d), np.float64)
        args = (pulls, *pool.clouds[:2], None, None, None, None, gradient)
        sizes = (*map(np.int32, (n, 2 * n, d, pool.width, 1)), np.int64(P * 2 * n))
        run = kernel("gram_ends.cu", f"gram_gradient<double, {name}>")
        run(space, -(-P * 2 * n // 8), 256, (*args, *sizes))
    return Form(means(space, found), gradient, None)


def matrix(space: Space, tag: Kernel, numbers: Numbers, left: Pool, right: Pool, out: Any) -> None:
    """out (P, n, m) <- k(x_i, y_j)."""
    P, n, m = out.shape
    name = f"gram_matrix<{ctype(left.plain)}, {formulas_cuda.name(tag)}, {ctype(out)}>"
    args = (*left.clouds, *right.clouds, numbers.table, numbers.per, out)
    grid = P * -(-n // BLOCK) * -(-m // BLOCK)
    kernel("gram.cu", name)(space, grid, 256, (*args, np.int32(n), np.int32(m), np.int32(left.width)))


def judged(space: Space, value: Any, root: bool) -> tuple[Any, Any]:
    """Flag what is no value; the values, or with `root` their roots, and what derivatives are then times (or None)."""
    P = value.shape[0]
    roots, chain = (space.empty((P,), np.float64) for _ in range(2)) if root else (None, None)
    kernel("gram_ends.cu", "gram_judge")(space, -(-P // 256), 256, (value, roots, chain, space.flags, np.int32(P)))
    return (roots if root else value), chain


def scale(space: Space, a: Any, chain: Any) -> None:
    """a[p] *= chain[p], in place."""
    args = (a, chain, np.int64(a.size // a.shape[0]), np.int64(a.size))
    kernel("gram_ends.cu", "gram_scale")(space, -(-a.size // 256), 256, args)


def summed(space: Space, a: Any, outer: int, count: int, factor: float = 1.0) -> Any:
    """Sums over the middle of (outer, count, inner), times `factor`: (outer, inner)."""
    inner = a.size // max(1, outer * count)
    out = space.empty((outer, inner), np.float64)
    args = (a, out, np.float64(factor), np.int64(outer), np.int64(count), np.int64(inner))
    kernel("gram_ends.cu", "gram_sum")(space, -(-out.size // 256), 256, args)
    return out


def means(space: Space, a: Any) -> Any:
    """Means of the rows of (P, count)."""
    out = space.empty((a.shape[0],), np.float64)
    args = (a, out, np.float64(1.0 / a.shape[1]), np.int64(a.shape[1]))
    kernel("gram_ends.cu", "gram_total")(space, a.shape[0], 1024, args)
    return out


def spaced(space: Space, X: Any, Y: Any, count: int) -> Any:
    """`count` points of each pool [X; Y], evenly spaced: (P, count, d)."""
    P, n, d = X.shape
    out = space.empty((P, count, d), X.dtype)
    args = (X, Y, out, *map(np.int32, (n, Y.shape[1], d, count)), np.int64(out.size))
    kernel("gram_ends.cu", f"gram_spaced<{ctype(X)}>")(space, -(-out.size // 256), 256, args)
    return out


def take(space: Space, a: Any, index: Any) -> Any:
    """a[index] for a (n, d) and an index on the device, of any shape."""
    out = space.empty((*index.shape, a.shape[1]), a.dtype)
    args = (a, index, out, np.int32(a.shape[1]), np.int64(out.size))
    kernel("gram_ends.cu", f"gram_take<{ctype(a)}>")(space, -(-out.size // 256), 256, args)
    return out
