"""Exact transport between weighted measures: auction for a start, network simplex for the truth.

min <P, C> over P >= 0 with marginals a, b. Masses become integers, so that ties are exact; then

1. prices from a coarse problem of a quarter of the size, solved the same way down to a small one (`kernels/coarse.py`);
2. a truncated lazy auction on the cached cheapest arcs of each row (`transport_auction.py`), greedy completion;
3. crossover to a spanning tree (`crossover.py`), network simplex on the cached arcs (`network.py`);
4. pricing of all arcs: violators join the candidates, until there are none (`violators.py`).

Small problems, and those with one tiny side, go straight to the simplex over all arcs (`small_transport.py`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np

from otdist._arrays import Array
from otdist.kernels import network as basis
from otdist.kernels.crossover import absorb, plant_basis
from otdist.transport._solution import Solution, Watch

SMALL = 200  # up to this many rows or columns on the lesser side: simplex over all arcs
RATIO = 4  # of a problem to its coarse one
CACHED = 16  # cheapest arcs cached of each row, and violators taken of each row
ANCHORS = 6
STEP = 0.1  # epsilon of the auction in mean spreads of the cached reduced costs
REST = 0.003  # mass that the auction may leave
BIDS, SCANS = 20, 2  # its caps, per row
ROWS_PRICED = 16  # per pivot
PIECE = 30_000_000  # units of work (about a nanosecond each) between two looks at the watch
LARGEST_TOTAL = 2.0**58
NAME = "network simplex"
log = logging.getLogger("otdist")


class Costs(Protocol):
    """A matrix of costs, stored or made on the fly."""

    shape: tuple[int, int]

    def tiles(self) -> Iterator[tuple[Array, Array, Array]]:
        """(tile, places, rows) over all rows: row rows[t] lies at tile[places[t]]."""

    def tile(self, rows: Array) -> tuple[Array, Array]:
        """(tile, places) of a few rows."""

    def part(self, rows: Array, columns: Array) -> Array:
        """The submatrix."""

    def exact(self) -> bool:
        """Whether all costs are integers that float64 adds without rounding."""


class Stored:
    """Costs in memory."""

    def __init__(self, C: Array) -> None:
        self.matrix = lend(C)
        self.shape: tuple[int, int] = (C.shape[0], C.shape[1])
        self._all = np.arange(len(C), dtype=np.int32)

    def tiles(self) -> Iterator[tuple[Array, Array, Array]]:
        size = max(1, 20_000_000 // self.shape[1])
        for start in range(0, len(self._all), size):
            rows = self._all[start : start + size]
            yield self.matrix, rows, rows

    def tile(self, rows: Array) -> tuple[Array, Array]:
        return self.matrix, rows

    def part(self, rows: Array, columns: Array) -> Array:
        return self.matrix[rows[:, None], columns]

    def exact(self) -> bool:
        from otdist.kernels.violators import scattered

        return not scattered(self.matrix)


class Masses(NamedTuple):
    """a and b as integers of one total."""

    a: Array
    b: Array
    unit: float


def lend(array: Array) -> Array:
    """A read-only view: kernels are compiled for one kind of array, and inputs may not be writable."""
    view = array.view()
    view.flags.writeable = False
    return view


def count_mass(a: Array, b: Array) -> Masses:
    """Integer masses, exact where a and b are integers or uniform; else a unit of 2^-58 of the total."""
    n, m = len(a), len(b)
    if (a == a[0]).all() and (b == b[0]).all():
        common = np.gcd(n, m)
        unit = float(a[0]) * float(common) / m
        return Masses(np.full(n, m // common, np.int64), np.full(m, n // common, np.int64), unit)
    total = max(float(a.sum()), float(b.sum()))
    unit = 1.0
    if total > LARGEST_TOTAL or (a != np.rint(a)).any() or (b != np.rint(b)).any():
        unit = total / LARGEST_TOTAL
    ai = np.maximum(np.rint(a / unit), 1.0).astype(np.int64)
    bi = np.maximum(np.rint(b / unit), 1.0).astype(np.int64)
    difference = int(ai.sum()) - int(bi.sum())
    if difference > 0:
        bi[bi.argmax()] += difference
    else:
        ai[ai.argmax()] -= difference
    return Masses(ai, bi, unit)


def solve(C: Array, a: Array, b: Array, watch: Watch, start: Any = None) -> Solution:
    """Exact transport from a matrix of costs (n, m), +inf where an arc is forbidden.

    Parameters: a (n,), b (m,) positive masses of one total. `start` may be prices g of the columns (m,).
    Raises ValueError where forbidden arcs leave mass that no plan can serve.
    """
    n, m = C.shape
    masses = count_mass(a, b)
    if min(n, m) <= SMALL:
        from otdist.transport._weighted_small import solve_small

        return solve_small(C, a, b, masses, watch)
    if m > 4 * n:
        turned = solve(np.ascontiguousarray(C.T), b, a, watch)
        raise NotImplementedError(turned)
    from otdist.transport._weighted_large import solve_large

    return solve_large(Stored(C), a, b, masses, watch, start)


class Basis:
    """A tree with the scratch of its kernels."""

    def __init__(self, n: int, m: int) -> None:
        self.n, self.m = n, m
        self.tree = basis.empty_tree(n, m)
        self.low = np.empty(n + m + 1)
        self.state = np.zeros(5, np.int64)

    def plant(self, rows: Array, columns: Array, mass: Array, costs: Array, estimates: Array) -> Array:
        """The forest of the arcs; returns which of them it holds."""
        inside = np.empty(len(rows), np.bool_)
        begins, arcs = np.empty(self.n + self.m + 2, np.int64), np.empty(2 * (self.n + self.m), np.int32)
        plant_basis(self.tree, self.n, self.m, rows, columns, mass, costs, estimates, inside, begins, arcs)
        return inside

    def absorb(self, rows: Array, columns: Array, mass: Array, costs: Array, inside: Array) -> None:
        """Pivot the arcs outside the tree in or out."""
        at = 0
        while at < len(rows):
            at = absorb(self.tree, self.n, rows, columns, mass, costs, inside, self.state, at, PIECE)

    def solution(self, a: Array, b: Array, unit: float, iterations: int, stopped: str) -> Solution:
        """The plan and the prices of the tree."""
        n, m = self.n, self.m
        rows, columns, mass = np.empty(n + m, np.int64), np.empty(n + m, np.int64), np.empty(n + m)
        count = basis.unload(self.tree, n, lend(a), lend(b), unit, self.low, rows, columns, mass)
        g = -self.tree.potential[n : n + m]
        return Solution(rows[:count], columns[:count], mass[:count], g, iterations, NAME, stopped)


def tolerance(scale: tuple[float, float, float], exact: bool) -> float:
    """Reduced costs below minus this are negative, not rounding: of the tree in use, not of the largest cost there is."""
    low, high, costliest = scale
    return 0.5 if exact else basis.ROUNDING * (high - low + costliest)


class Compiling:
    """Logs one line when what it surrounds has taken long, as the first call of a kernel may."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        self._begin = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        seconds = time.perf_counter() - self._begin
        if seconds > 3.0:
            log.info("compiled the kernels of %s in %.1f s; they are kept on disk", self._what, seconds)
