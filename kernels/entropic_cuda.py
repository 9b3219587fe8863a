"""Entropic problems in normal form on the device, and Sinkhorn's iteration: `entropic.cu`, `entropic_steps.cu`."""

from __future__ import annotations

from typing import Any

import numpy as np

from otdist.kernels import softmin_cuda, softmin_tensor_cuda
from otdist.kernels.device import Space, ctype, kernel
from otdist.kernels.softmin_cuda import Array, Pairs, Room

THREADS, CHUNK, DEPTH = 256, 1024, 10
SUMS, MEMORY = 5 + 2 * DEPTH, 8 + DEPTH * DEPTH
STEPS = ("measure", "proceed", "tally", "forget")
# Bits of status words.
BAD_ENTRY, BAD_TOTAL, DISAGREE, NO_DIRECTION, NOWHERE, OUT_OF_RANGE, NO_SCALE = (1 << k for k in range(7))


def _run(name: str, space: Space, grid: Any, *args: Any) -> None:
    file = "entropic_steps.cu" if name in STEPS else "entropic.cu"
    kernel(file, name)(space, grid, THREADS, args)


def _step(z: Array) -> np.int64:
    """Elements from one problem to the next; 0 for what all share."""
    return np.int64(z.size // len(z) if len(z) > 1 else 0)


def weigh(space: Space, w: Array | None, batch: int, count: int, word: Array) -> tuple[Array, Array]:
    """Masses (k, count) float64 of w (k or 1, count), or uniform ones, and their totals (k,)."""
    out, totals = space.empty((batch, count), np.float64), space.empty((batch,), np.float64)
    step = np.int64(0) if w is None else _step(w)
    _run(f"weigh<{'float' if w is None else ctype(w)}>", space, batch, w, step, np.int32(count), out, totals, word)
    return out, totals


def agree(
    space: Space, balanced: bool, tolerance: float, a: Array, b: Array, totals: tuple[Array, Array], word: Array
) -> Array:
    """Balanced masses over their totals, in place; what plans are worth (k,)."""
    total = space.empty((len(a),), np.float64)
    sizes = np.int32(a.shape[1]), np.int32(b.shape[1]), np.int32(balanced)
    _run("agree", space, len(a), *sizes, np.float64(tolerance), a, b, *totals, total, word)
    return total


def centre(space: Space, x: Array, w: Array, word: Array) -> Array:
    """Means (k, d) of x (k or 1, n, d) under w (k, n)."""
    n, d = x.shape[1:]
    at = space.empty((len(w), d), np.float64)
    _run(f"centre<{ctype(x)}>", space, (len(w), -(-d // 32)), x, _step(x), np.int32(n), np.int32(d), w, at, word)
    return at


def cloud(space: Space, x: Array, at: Array, narrow: bool) -> tuple[Array, Array | None]:
    """x less its centre `at` (k, d), in float64 and, if wanted, float32."""
    batch, (n, d) = len(at), x.shape[1:]
    wide = space.empty((batch, n, d), np.float64)
    single = space.empty((batch, n, d), np.float32) if narrow else None
    blocks = batch * -(-n * d // CHUNK)
    _run(f"cloud<{ctype(x)}>", space, blocks, x, _step(x), np.int64(n * d), np.int32(d), at, wide, single)
    return wide, single


def directions(space: Space, x: Array, narrow: bool, word: Array) -> tuple[Array, Array | None]:
    """x / (|x| sqrt 2), in float64 and, if wanted, float32."""
    wide = space.empty(x.shape, np.float64)
    single = space.empty(x.shape, np.float32) if narrow else None
    rows, d = len(x) * x.shape[1], x.shape[2]
    _run(f"directions<{ctype(x)}>", space, -(-rows // 8), x, np.int32(rows), np.int32(d), wide, single, word)
    return wide, single


def shifts(space: Space, wide: Array, at: Array, to: Array, sign: float) -> Array:
    """What moving both means, `at` of x and `to` of y, to one point takes from the costs of these points."""
    batch, n, d = wide.shape
    out = space.empty((batch, n), np.float64)
    blocks = batch * -(-n // THREADS)
    _run("shifts", space, blocks, wide, np.int32(n), np.int32(d), at, to, np.float64(sign), out)
    return out


def regularise(
    space: Space,
    batch: int,
    own: Array | None,
    every: float,
    fraction: float,
    points: bool,
    survey: Array | None,
    means: tuple[Array, Array] | None,
    rho: tuple[float, float],
    word: Array,
) -> tuple[Array, Array, Array]:
    """epsilon (k,): `own`, `every`, or (0) a fraction of the mean cost; log2(e) / epsilon; kappa (k, 2).

    `means` (k, d) of clouds that were moved together before the survey.
    """
    epsilon, scale = (space.empty((batch,), np.float64) for _ in range(2))
    kappa = space.empty((batch, 2), np.float64)
    numbers = (np.float64(every), np.float64(fraction), np.int32(points))
    moved = (np.int32(0), None, None) if means is None else (np.int32(means[0].shape[1]), *means)
    prices = np.float64(rho[0]), np.float64(rho[1])
    out = (*moved, *prices, epsilon, scale, kappa, word)
    _run("regularise", space, -(-batch // THREADS), np.int32(batch), own, *numbers, survey, *out)
    return epsilon, scale, kappa


def fold(space: Space, x: Array, factor: float, out: Array) -> None:
    """out = factor sum of x (k, ...) over its first axis."""
    size = x.size // len(x)
    name = f"fold<{ctype(out)}>"
    _run(name, space, -(-size // THREADS), x, np.int32(len(x)), np.int64(size), np.float64(factor), out)


def through_directions(space: Space, x: Array, pull: Array) -> None:
    """Gradients (k, n, d) by directions -> by the points x (k or 1, n, d), in place."""
    batch, n, d = pull.shape
    rows = batch * n
    sizes = np.int32(n), np.int32(d), np.int32(rows)
    _run(f"through_directions<{ctype(x)}>", space, -(-rows // 8), x, _step(x), *sizes, pull)


def by_masses(space: Space, f: Array, opposite: Array, epsilon: Array, rho: float, balanced: bool, out: Array) -> None:
    """Gradients (k, n) of the value by masses, of the potentials f and the masses opposite."""
    sizes = np.int32(f.shape[1]), np.int32(opposite.shape[1]), np.int32(balanced)
    _run("by_masses", space, len(f), *sizes, f, opposite, epsilon, np.float64(rho), out)


def divide_rows(space: Space, sent: Array, mean: Array) -> None:
    """mean (k, n, d) over sent (k, n), in place."""
    _run("divide_rows", space, -(-mean.size // THREADS), np.int64(mean.size), np.int32(mean.shape[2]), sent, mean)


def carry(space: Space, mass: Array, total: Array, means: tuple[Array, Array], factor: float, pull: Array) -> None:
    """What gradients (k, n, d) by points miss that were taken between clouds with one mean, in place."""
    sizes = np.int64(pull.size), np.int32(pull.shape[1]), np.int32(pull.shape[2])
    _run("carry", space, -(-pull.size // THREADS), *sizes, mass, total, *means, np.float64(factor), pull)


def roots(space: Space, values: Array, column: int, p: float) -> Array:
    """values (k, stride)[:, column]^(1/p), those below 0 as 0."""
    out = space.empty((len(values),), np.float64)
    sizes = np.int32(values.shape[1]), np.int32(column)
    _run("roots", space, -(-len(values) // THREADS), np.int32(len(values)), values, *sizes, np.float64(p), out)
    return out


def debias(
    space: Space,
    values: tuple[Array, Array, Array],
    balanced: bool,
    epsilon: Array,
    totals: tuple[Array, Array],
    rho: tuple[float, float],
) -> Array:
    """Sinkhorn divergences (k,) of the outcomes (k, stride) across, of the first and of the second measure."""
    batch = len(epsilon)
    out = space.empty((batch,), np.float64)
    stride = np.int32(values[0].shape[1])
    free = np.int32(np.isfinite(rho[0])), np.int32(np.isfinite(rho[1]))
    blocks = -(-batch // THREADS)
    _run("debias", space, blocks, np.int32(batch), *values, stride, np.int32(balanced), epsilon, *totals, *free, out)
    return out


def levels(space: Space, epsilon: Array, totals: tuple[Array, Array], factor: float, out: Array) -> None:
    """out (k, n) = factor epsilon (total of a - total of b)."""
    sizes = np.int64(out.size), np.int32(out.shape[1])
    _run("levels", space, -(-out.size // THREADS), *sizes, epsilon, *totals, np.float64(factor), out)


def need_unit(space: Space, totals: Array, tolerance: float, word: Array) -> None:
    """Flag totals (k,) that are not 1."""
    blocks = -(-len(totals) // THREADS)
    _run("need_unit", space, blocks, np.int32(len(totals)), totals, np.float64(tolerance), word)


class Steps:
    """Sinkhorn's iteration of a batch, extrapolated, without a word from the host: G (k, m), in base 2.

    A pass solves the rows at G and then the columns; `symmetric`: a cloud with itself, both halves averaged.
    """

    def __init__(self, room: Room, pairs: Pairs, a: Array, b: Array, symmetric: bool) -> None:
        space, batch, (n, m) = room.space, pairs.batch, pairs.shape
        self.room, self.pairs, self.a, self.b, self.symmetric = room, pairs, a, b, symmetric
        self.G, self.best = space.zeros((batch, m), np.float64), space.zeros((batch, m), np.float64)
        self.scale, self.kappa = space.empty((batch,), np.float64), space.empty((batch, 2), np.float64)
        self.v, self.h_m, self._last_G, self._last_R = (space.empty((batch, m), np.float64) for _ in range(4))
        self.h_n, self.F, self.w = (space.empty((batch, n), np.float64) for _ in range(3))
        self._dG, self._dR = (space.zeros((batch, DEPTH, m), np.float64) for _ in range(2))
        self._memory = [space.empty((batch, MEMORY), np.float64) for _ in range(2)]
        self.idle, self.report = space.empty((batch,), np.int32), space.empty((4,), np.float64)
        self._chunks = max(1, min(-(-max(n, m) // CHUNK), 1024))
        self._parts = space.empty((batch, self._chunks, SUMS), np.float64)
        self.passes = 0
        # where set, what float32 passes make costs of
        self.products: softmin_tensor_cuda.Products | None = None

    def at(self, epsilon: Array, survey: Array | None, parts: float, rho: tuple[float, float], carry: bool) -> None:
        """Go on at max(epsilon, spread of the costs / parts), from the potentials in `best` if `carry`."""
        space, batch, m = self.room.space, len(self.G), self.G.shape[1]
        known = space.zeros((batch, 4), np.float64) if survey is None else survey
        prices = np.float64(rho[0]), np.float64(rho[1])
        scaled = (self.scale, self.kappa, self.G, self.best if carry else None)
        _run("stage", space, batch, np.int32(m), epsilon, known, np.float64(parts), *prices, *scaled)
        self.forget()

    def start(self, g: Array, shift: Array | None, word: Array) -> None:
        """Potentials in units of the costs to start from (k or 1, m)."""
        space, batch, m = self.room.space, len(self.G), self.G.shape[1]
        blocks = batch * -(-m // THREADS)
        _run(
            f"start<{ctype(g)}>",
            space,
            blocks,
            g,
            _step(g),
            np.int32(m),
            self.scale,
            shift,
            self.b,
            self.G,
            self.v,
            word,
        )
        self.forget()

    def forget(self) -> None:
        """Begin anew from G: another stage, another arithmetic."""
        space, batch, m = self.room.space, len(self.G), self.G.shape[1]
        _run("forget", space, -(-batch // THREADS), np.int32(batch), self._memory[0], self.idle)
        none = (None, np.int64(0), np.int32(m), self.scale, None, self.b, self.G, self.v, None)
        _run("start<float>", space, batch * -(-m // THREADS), *none)

    def once(self, real: Any, goal: float, limit: float, word: Array) -> None:
        """One pass over the rows and one over the columns, and the next G."""
        room, m = self.room, self.G.shape[1]
        self._soft_min(real, self.v, mass=self.a, h=self.h_n, potential=self.F, w=self.w)
        self._soft_min(real, self.w, turned=True, h=self.h_m)
        mirror = self.F if self.symmetric else None
        grid, sizes = (len(self.G), self._chunks), (np.int32(self.a.shape[1]), np.int32(m))
        known, following = self._memory
        last = (self._last_G, self._last_R, self._dG, self._dR)
        seen = (self.h_n, self.F, self.G, self.h_m, mirror)
        _run(
            "measure", room.space, grid, *sizes, self.a, self.b, self.kappa, *seen, known, *last, self.idle, self._parts
        )
        aims = np.int32(self._chunks), np.float64(goal), np.float64(limit)
        to = (self.h_m, mirror, self.G, self.v, *last, self.best, self.idle, word)
        _run("proceed", room.space, grid, np.int32(m), self.b, self.kappa, self._parts, *aims, known, following, *to)
        self._memory = [following, known]
        self.passes += 1

    def _soft_min(self, real: Any, v: Array, **out: Any) -> None:
        out |= {"kappa": self.kappa, "idle": self.idle}
        if self.products is not None and real is np.float32:
            softmin_tensor_cuda.soft_min(self.room, self.products, self.scale, v, **out)
        else:
            softmin_cuda.soft_min(self.room, self.pairs, self.scale, v, real=real, **out)

    def tally(self, goal: float) -> np.ndarray[Any, np.dtype[Any]]:
        """Problems not yet within `goal`, their largest error, passes without progress, the largest error of all.

        Reads four numbers from the device.
        """
        space, batch = self.room.space, len(self.G)
        _run("tally", space, 1, np.int32(batch), self._memory[0], np.float64(goal), self.idle, self.report)
        return space.host(self.report)
