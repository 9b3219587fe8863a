"""The plan of entropic transport between two looks at the costs: absorbed, dense or listed, in tiles of rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from otdist._arrays import Array
from otdist._evaluate import lend
from otdist.kernels import scaling, scaling_passes, threads
from otdist.transport._solution import Watch

LOG2E, LN2 = 1.4426950408889634, math.log(2.0)
# Pairs of a tile, most tiles, rows that a tile is a multiple of; nanoseconds of a pair, of a listed entry.
PAIRS, TILES, ROWS = 2_000_000, 16, 16
LOOK, ABSORB, PASS, ENTRY = 0.5, 0.4, 0.1, 1.5
# Listed entries pay up to this share of all pairs, and of so few pairs all may be listed; rows sampled for the size of
# the costs.
SHARE, SMALL, SAMPLE = 0.08, 1 << 16, 64
# Exponents of mass beyond which only its sign of size matters.
FAR = 700.0


class Work:
    """Passes over all pairs so far, the error so far, and the watch over both."""

    def __init__(self, watch: Watch, pairs: int) -> None:
        self._watch, self._pairs, self._spent = watch, float(pairs), 0.0
        self.error, self.stage = math.inf, "newton"

    def spend(self, pairs: float) -> None:
        self._spent += pairs

    @property
    def passes(self) -> int:
        return math.ceil(self._spent / self._pairs - 1e-9)

    @property
    def over(self) -> bool:
        return self._watch.stop(self.stage, self.passes, error=self.error)

    @property
    def stopped(self) -> str:
        return self._watch.stopped


class Costs:
    """A cost matrix with masses, its tiles, and the arrays that every look at it works in."""

    def __init__(self, C: Array, a: Array, b: Array, shift: float | None) -> None:
        self.C, self.a, self.b = lend(C), lend(a), lend(b)
        self.n, self.m = n, m = C.shape
        self.log_b = np.log2(self.b)
        lowest, highest = _range(C[:: max(n // SAMPLE, 1)])
        self.shift = lowest if shift is None else shift
        self.size = highest - lowest
        count = min(max(round(n * m / PAIRS), 1), TILES)
        height = -(-n // (count * ROWS)) * ROWS
        self.tiles = list(threads.spans(n, height))
        self.share = SHARE
        self._rate = np.empty(n)
        tiles = len(self.tiles)
        self._held = _apart(tiles, m, np.float32)
        self._exps = [e.reshape(scaling.BLOCK, m) for e in _apart(tiles, scaling.BLOCK * m)]
        self._sums = _apart(tiles, m)
        self.vectors = [*_apart(5, m)]
        self.narrow = _apart(1, m, np.float32)[0]

    @property
    def pairs(self) -> int:
        return int(self.n * self.m)

    @cached_property
    def _W(self) -> Array:
        return np.empty((self.n, self.m), np.float32)

    @cached_property
    def _lists(self) -> list[tuple[Array, Array, Array]]:
        share = 1.0 if self.pairs <= SMALL else self.share
        rooms = [int(share * (i1 - i0) * self.m) + 4 * self.m for i0, i1 in self.tiles]
        return [
            (np.zeros(i1 - i0 + 1, np.int64), np.empty(room, np.int32), np.empty(room))
            for (i0, i1), room in zip(self.tiles, rooms, strict=True)
        ]

    def widen(self, share: float) -> None:
        """Make room for lists of this share of all pairs, instead of what there is."""
        self.share = share
        for name in ("_W", "_lists"):
            self.__dict__.pop(name, None)

    def tiled(self, work: Any, pairs: float, nanoseconds: float) -> list[Any]:
        """work(tile, i0, i1) of every tile of rows."""
        return threads.run(work, ((k, *tile) for k, tile in enumerate(self.tiles)), nanoseconds * pairs)


@dataclass
class Level:
    """One epsilon: potentials g of the columns in bits, masses inside, and f of the rows (inf: not known yet)."""

    costs: Costs
    epsilon: float
    kappa: tuple[float, float]
    g: Array
    f: Array
    work: Work

    @classmethod
    def at(cls, costs: Costs, epsilon: float, kappa: tuple[float, float], gamma: Array, work: Work) -> Level:
        return cls(costs, epsilon, kappa, costs.log_b + gamma * LOG2E, np.full(costs.n, math.inf), work)

    @property
    def balanced(self) -> bool:
        return self.kappa == (1.0, 1.0)

    @property
    def _exponent(self) -> tuple[float, float]:
        return self.costs.shift, LOG2E / self.epsilon

    @property
    def gamma(self) -> Array:
        return np.asarray((self.g - self.costs.log_b) * LN2)

    @property
    def phi(self) -> Array:
        return np.asarray(self.kappa[0] * (self.f * LN2 + self.costs.shift / self.epsilon))

    def target(self, h: Array | None = None) -> Array:
        """What the columns are to sum to, h further on."""
        if self.kappa[1] == 1.0:
            return self.costs.b
        gamma = self.gamma if h is None else self.gamma + h
        return np.asarray(self.costs.b * np.exp(np.clip((1.0 - 1.0 / self.kappa[1]) * gamma, -FAR, FAR)))

    def error(self, c: Array, t: Array) -> float:
        """The L1 error of the columns; without prescribed masses relative to the sum of both targets."""
        off = float(np.abs(c - t).sum())
        return off if self.balanced else off / max(float(c.sum() + t.sum()), 1e-300)

    def dual(self) -> tuple[float, float]:
        """The semi-dual at these potentials, up to a constant, and the size of its terms."""
        masses = self.costs.a, self.costs.b
        if self.balanced:
            terms = [masses[0] * self.f * LN2, masses[1] * (self.g - self.costs.log_b) * LN2]
        else:
            terms = [_gain(*side) for side in zip(masses, (self.phi, self.gamma), self.kappa, strict=True)]
            terms.append(-self.rows())
        return sum(float(x.sum()) for x in terms), sum(float(np.abs(x).sum()) for x in terms)

    def translate(self) -> None:
        """Priced masses: move a constant between the sides so that both say how much moves in all.

        All sums of rows change by one factor, so that this is the maximum of the semi-dual along the constants, where
        it is nearly flat at large rho (Sejourne, Vialard and Peyre, 2022).
        """
        if self.balanced or not np.isfinite(self.f).all():
            return
        ka, kb = self.kappa
        rows = np.log(self.costs.a) + (ka - 1.0) * LN2 * self.f
        columns = np.log(self.costs.b) + (1.0 - 1.0 / kb) * self.gamma
        by = LOG2E * (_log_sum(columns) - _log_sum(rows)) / (1.0 - ka + (1.0 / kb - 1.0))
        if math.isfinite(by):
            self.g, self.f = self.g + by, self.f - by

    @property
    def charges(self) -> Array:
        """log2(a e^phi), in the units of f and g."""
        return np.asarray(np.log2(self.costs.a) + self.kappa[0] * self.f)

    def rows(self) -> Array:
        """The sums of the rows of the plan."""
        if self.kappa[0] == 1.0:
            return self.costs.a
        return np.asarray(self.costs.a * np.exp2(np.clip((self.kappa[0] - 1.0) * self.f, -1000.0, 1000.0)))

    def cooled(self, epsilon: float, kappa: tuple[float, float]) -> Level:
        """The same potentials, in units of the costs, at another epsilon."""
        ratio = self.epsilon / epsilon
        g = self.costs.log_b + (self.g - self.costs.log_b) * ratio
        return Level(self.costs, epsilon, kappa, g, self.f * ratio, self.work)

    def absorb(self) -> Plan:
        """The dense plan at these potentials."""
        costs, W = self.costs, self.costs._W

        def tile(_k: int, i0: int, i1: int) -> None:
            scaling.absorb(costs.C, *self._exponent, self.g, self.f, W, i0, i1)

        costs.tiled(tile, costs.pairs, ABSORB)
        self.work.spend(costs.pairs)
        return Plan(self, W=W)

    def measure(self, least: float | None = None) -> tuple[Array, Plan | None]:
        """Rows eliminated, columns summed in float64; the entries above `least` listed if they are few."""
        costs = self.costs
        none = np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0)

        def tile(k: int, i0: int, i1: int) -> int:
            lists = none if least is None else costs._lists[k]
            out = costs._rate, costs._sums[k], costs._exps[k]
            given = costs.C, *self._exponent, self.g, self.f, costs.a, self.kappa[0]
            return int(scaling.measure(*given, *out, least or 0.0, *lists, i0, i1))

        entries = costs.tiled(tile, costs.pairs, LOOK)
        self.work.spend(costs.pairs)
        c = costs._sums.sum(0)
        if least is None or min(entries) < 0:
            return c, None
        return c, Plan(self, entries=sum(entries))

    def soften(self, rows: Array, f: Array) -> None:
        """Columns solved by the true log-sum-exp over `rows`, of which log2(a e^phi) is f."""
        costs = self.costs
        out, top = np.empty(costs.m), np.empty(costs.m)

        def tile(j0: int, j1: int) -> None:
            scaling.column_logsums(costs.C, *self._exponent, rows, f, out, top, j0, j1)

        threads.run(tile, threads.spans(costs.m, 512), len(rows) * costs.m * LOOK)
        self.work.spend(len(rows) * costs.m)
        self.g = costs.log_b - self.kappa[1] * np.maximum(out, -1e15)


class Plan:
    """An absorbed plan, evaluated at potentials h further on; its Hessian there."""

    def __init__(self, level: Level, W: Array | None = None, entries: int = 0) -> None:
        self.level, self.costs, self._W = level, level.costs, W
        self.kappa = level.kappa
        self.pairs = self.costs.pairs if W is not None else entries
        self._g, self._f = level.g, level.f.copy()
        self.rows = level.rows()
        self.z = np.ones(self.costs.n)
        self.v = np.ones(self.costs.m)
        self._scratch = np.empty(self.costs.n)
        self._curved = self.z
        self.single = W is not None

    def _pass(self, x: Array, rate: Array, power: float, z: Array) -> Array:
        costs, W = self.costs, self._W

        def dense(k: int, i0: int, i1: int) -> None:
            scaling_passes.dense_pass(W, x, rate, power, z, costs._sums[k], costs._held[k], i0, i1)

        def listed(k: int, i0: int, i1: int) -> None:
            scaling_passes.listed_pass(*costs._lists[k], x, rate, power, z, costs._sums[k], i0, i1)

        costs.tiled(dense if self.single else listed, self.pairs, PASS if self.single else ENTRY)
        self.level.work.spend(self.pairs)
        return np.asarray(costs._sums.sum(0) if len(costs.tiles) > 1 else costs._sums[0])

    def evaluate(self, h: Array) -> Array:
        """The sums of the columns at h."""
        limit = 85.0 if self.single else 300.0
        np.exp(np.clip(h, -limit, limit), out=self.v)
        x = self.v.astype(np.float32) if self.single else self.v
        return self.v * self._pass(x, self.rows, -self.kappa[0], self.z)

    def move(self, h: Array) -> None:
        """Bring the level to h, where the plan was evaluated last."""
        self.level.g = self._g + h * LOG2E
        self.level.f = self._f - np.log2(np.where(self.z > 0.0, self.z, 1.0))

    def bend(self) -> None:
        """Prepare `product` at the potentials of the last evaluation."""
        with np.errstate(divide="ignore"):
            z = np.where(self.z > 0.0, self.z, math.inf)
        self._curved = self.rows * z ** (-1.0 - self.kappa[0]) if self.kappa[0] != 1.0 else self.rows / z / z

    def product(self, x: Array) -> Array:
        """W^T diag(r z^(-1-kappa)) W x, which belongs to the caller until the next pass."""
        return self._pass(x, self._curved, 1.0, self._scratch)

    def diagonal(self, c: Array) -> Array:
        """That of P^T diag(1/r) P taken off c, where it is known; else c."""
        if self.single:
            return c
        costs = self.costs

        def tile(k: int, i0: int, i1: int) -> None:
            lists = costs._lists[k]
            given = self.v, self.rows, self.z, self.kappa[0]
            scaling_passes.listed_diagonal(*lists, *given, costs._sums[k], i0, i1)

        costs.tiled(tile, self.pairs, ENTRY)
        return np.asarray(costs._sums.sum(0))


def _gain(mass: Array, potential: Array, kappa: float) -> Array:
    """Terms of <mass, potential>, or of what stands for it where masses are priced."""
    if kappa == 1.0:
        return mass * potential
    slope = 1.0 / kappa - 1.0
    return np.asarray(mass * np.expm1(np.clip(-slope * potential, -FAR, FAR)) / -slope)


def _log_sum(exponents: Array) -> float:
    """log sum exp."""
    top = float(exponents.max())
    return top + math.log(float(np.exp(exponents - top).sum())) if math.isfinite(top) else top


def _range(C: Array) -> tuple[float, float]:
    lowest, highest = float(C.min()), float(C.max())
    if math.isfinite(highest):
        return lowest, highest
    finite = C[np.isfinite(C)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def _apart(count: int, size: int, dtype: Any = np.float64) -> Array:
    """Rows of scratch that do not touch: a loop that writes close behind what it reads sums in another order."""
    return np.empty((count, size + 512), dtype)[:, :size]
