"""Wasserstein distances of one-dimensional samples, row by row, by sorting: O((n + m) log(n + m)).

    line_distance(x, y, a, b, p, wanted) -> Line

x (P or 1, n), y (P or 1, m): finite, both float32 or both float64; one row stands for a whole batch.
a, b: weights like x, y, non-negative, each row with a sum in [1/2, 2], which is divided out; None: equal weights.
wanted: which gradients, of (x, y, a, b). Everything in `Line` is float64.

|x - y|^p leaves the range of float64 long before x and y do. Sums are taken as they come; where one is no ordinary
number they are taken again, coordinates and then gaps multiplied by powers of two that make the largest about 1.

Memory beyond the result: a sorted copy of the input; with gradients or weights also 8 bytes a point for the orders; per
thread up to 88 bytes for each point of one row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from otdist._arrays import Array
from otdist._sorted import TILE, Sorted, tile_rows
from otdist.kernels import quantiles, threads
from otdist.kernels.costs import Raised
from otdist.kernels.line import PIECE
from otdist.kernels.profiles import Cityblock, Squared

# Sums between these have lost nothing to underflow or overflow.
ORDINARY = (2.0**-700, 2.0**700)
# Nanoseconds per point of the fused sum, of a staircase and its cost, and of its potentials.
SUM, WALK, PRICE = 1.0, 10.0, 30.0


@dataclass(frozen=True)
class Line:
    """Distances of rows, and their gradients."""

    value: Array  # (P,)
    gradients: tuple[Array | None, ...]  # with respect to x, y, a, b: (P, n), (P, m), (P, n), (P, m)


def cost_tag(p: float) -> Any:
    """The type that stands for |x - y|^p in compiled code."""
    if p == 1.0:
        return Cityblock()
    return Squared() if p == 2.0 else Raised(Cityblock(), p)


def line_distance(
    x: Array, y: Array, a: Array | None, b: Array | None, p: float, wanted: Sequence[bool] = (False,) * 4
) -> Line:
    """W_p of every row, see above. Gradients in weights are those of the formula with weights divided by their sum."""
    if not x.size or not y.size:
        sizes = (x.shape[1], y.shape[1]) * 2
        return Line(
            np.zeros(0), tuple(np.zeros((0, k)) if want else None for k, want in zip(sizes, wanted, strict=True))
        )
    if all(w is None or _equal(w) for w in (a, b)):  # counted in integers: their levels tie, as 1/n in float64 do not
        a = b = None
    with np.errstate(all="ignore"):
        return _Row(Sorted.sort(x, y, a, b, any(wanted)), p).outcome(wanted)


def _equal(weights: Array) -> bool:
    """Whether the weights of every row are equal."""
    return bool((weights == weights[:, :1]).all())


def line_coupling(u: Array, v: Array, a: Array, b: Array, p: float) -> tuple[Array, Array, Array, Array]:
    """Rows, columns and masses of the optimal coupling of two samples, (n,) and (m,), and the potentials of v."""
    with np.errstate(all="ignore"):
        # orders and sorted copies as for a row with gradients; weights as they are, whatever their sum
        row = _Row(Sorted.sort(u[None], v[None], a[None], b[None], True), p)
        g, duals = np.empty(row.m), np.empty(row.n + row.m)
        (*scratch, mass), (rows, cols) = row.scratch(), row.indices()
        tag, given = cost_tag(p), row.given()
        quantiles.coupling(tag, *given, row.before, row.scale, *scratch, mass, rows, cols, duals, g)
    moved = np.flatnonzero(mass[:-1] > 0.0)
    return rows[moved], cols[moved], mass[moved], g


class _Row:
    """The work on sorted rows."""

    def __init__(self, rows: Sorted, p: float) -> None:
        self.s, self.p = rows, p
        self.n, self.m = rows.x.shape[1], rows.y.shape[1]
        self.before, self.scale = np.ones(rows.batch), np.ones(rows.batch)

    def outcome(self, wanted: Sequence[bool]) -> Line:
        value = self.distance()
        unit = np.where(value > 0.0, self.scale / value, 0.0)
        gradients: list[Array | None] = [None] * 4
        if any(wanted[:2]):
            gradients[:2] = self.over_rows(self.pulls, WALK, unit)
        if any(wanted[2:]):
            f, g = self.over_rows(self.potentials, PRICE, unit)
            # f is in units of W^p: dW = W df / p, 0 where W is
            factor = (value / self.p / self.scale / self.before)[:, None]
            gradients[2:] = [f * factor, g * factor]
        value = value / self.scale / self.before
        return Line(value, tuple(g if want else None for g, want in zip(gradients, wanted, strict=True)))

    def distance(self) -> Array:
        """W_p in units of 1/(before scale), which this sets."""
        if math.isinf(self.p):
            self.rescale()
            return self.sums(None) * self.scale
        tag = cost_tag(self.p)
        found = self.sums(tag)
        if not ((found > ORDINARY[0]) & (found < ORDINARY[1])).all():
            self.rescale()
            found = self.sums(tag)
        root: Array = found ** (1.0 / self.p) if self.p != 2.0 else np.sqrt(found)
        return root

    def rescale(self) -> None:
        """Powers of two that bring coordinates, and then the widest gap that mass crosses, to about 1."""
        s = self.s
        size = [np.abs(part[:, [0, -1]]).max(axis=1).astype(np.float64) for part in (s.x, s.y)]
        self.before = _inverse_power(np.broadcast_to(np.maximum(*size), s.batch))
        self.scale = _inverse_power(self.sums(None))

    def sums(self, tag: Any) -> Array:
        """Mean of the cost over the coupling; for None the widest gap times `before`."""
        if self.s.weights is None and self.n == self.m:
            return self.aligned(tag)
        value, total = np.empty(self.s.batch), np.empty(self.s.batch)

        def tile(start: int, stop: int) -> None:
            quantiles.coupled(tag, *self.given(), self.before, self.scale, *self.scratch(), value, total, start, stop)

        self.tiles(tile, WALK)
        return value if tag is None else value / total

    def aligned(self, tag: Any) -> Array:
        parts = np.empty((self.s.batch, -(-self.n // PIECE)))

        def tile(start: int, stop: int) -> None:
            if tag is None:
                quantiles.aligned_widest(self.s.x, self.s.y, self.before, parts, start, stop)
            else:
                quantiles.aligned(tag, self.s.x, self.s.y, self.before, self.scale, parts, start, stop)

        spans = threads.spans(parts.size, max(1, TILE // self.n))
        threads.run(tile, spans, (SUM if self.p in (1.0, 2.0) else WALK) * self.s.batch * self.n)
        found: Array = parts.max(axis=1) if tag is None else parts.sum(axis=1) / self.n
        return found

    def pulls(self, unit: Array, gx: Array, gy: Array, start: int, stop: int) -> None:
        slopes = np.empty(self.n + self.m)
        tag = cost_tag(self.p)
        quantiles.pulls(
            tag, *self.given(), self.before, unit, *self.scratch(), *self.indices(), slopes, gx, gy, start, stop
        )

    def potentials(self, unit: Array, ga: Array, gb: Array, start: int, stop: int) -> None:
        duals = np.empty((2, self.n + self.m))
        tag = cost_tag(self.p)
        quantiles.potentials(
            tag, *self.given(), self.before, unit, *self.scratch(), *self.indices(), duals, ga, gb, start, stop
        )

    def over_rows(self, kernel: Callable[..., None], nanoseconds: float, unit: Array) -> list[Array]:
        out = [np.empty((self.s.batch, self.n)), np.empty((self.s.batch, self.m))]
        self.tiles(lambda start, stop: kernel(unit, *out, start, stop), nanoseconds)
        return out

    def tiles(self, tile: Callable[[int, int], None], nanoseconds: float) -> None:
        size = self.n + self.m
        threads.run(tile, threads.spans(self.s.batch, tile_rows(size)), nanoseconds * self.s.batch * size)

    def given(self) -> tuple[Any, ...]:
        s = self.s
        return s.x, s.y, s.order_x, s.order_y, s.weights

    def scratch(self) -> tuple[Array, ...]:
        """Parts of the weights of x and y, gaps and masses of cells."""
        count = self.n + self.m
        return np.empty((3, self.n)), np.empty((3, self.m)), np.empty(count), np.empty(count)

    def indices(self) -> tuple[Array, Array]:
        """Rows and columns of cells."""
        return np.empty(self.n + self.m, np.int64), np.empty(self.n + self.m, np.int64)


def _inverse_power(size: Array) -> Array:
    """The power of two that brings `size` to [1/2, 1), within 2^+-1000; 1 for 0."""
    exponents = np.clip(np.frexp(size)[1], -1000, 1000)
    powers: Array = np.where(size > 0.0, np.ldexp(1.0, -exponents), 1.0)
    return powers
