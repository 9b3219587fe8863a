"""Exact transport between weighted measures: auction for a start, network simplex for the truth.

min <P, C> over P >= 0 with marginals a, b. Masses become integers, so that ties are exact; then

1. prices from a coarse problem of a quarter of the size, solved the same way down to a small one ;
2. a truncated lazy auction on the cached cheapest arcs of each row (`transport_auction.py`), greedy completion;
3. crossover to a spanning tree (`crossover.py`), network simplex on the cached arcs (`network.py`);
4. pricing of all arcs: violators join the candidates, until there are none.

Small problems, and those with one tiny side, start greedily and take all arcs for candidates (`_weighted_small.py`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np

from otdist._arrays import Array
from otdist.kernels import network
from otdist.kernels.completion import place
from otdist.kernels.crossover import plant
from otdist.kernels.greedy import count
from otdist.kernels.pricing import largest_integer
from otdist.transport._solution import Solution, Watch

SMALL = 40_000  # up to so many arcs: simplex over all arcs
TURN = 4  # more columns than so many times the rows: the columns choose
THIN = 256  # up to so many columns and more than TURN times the rows: prices of samples, then simplex over all arcs
RATIO = 4  # of a problem to its coarse one
CACHED = 16  # cheapest arcs cached of each row, and violators taken of each row
ANCHORS = 6
STEP = 0.1  # epsilon of the auction in mean spreads of the cached reduced costs
REST = 0.003  # mass that the auction may leave
BIDS, SCANS = 20, 2  # its caps, per row
ROWS_PRICED = 16  # per pivot
BATCH = 128  # rows scanned anew at a time
HEAVY = 8  # a row of more than 1/8 of all mass does not bid: it would take part in everything
PIECE = 30_000_000  # units of work (about a nanosecond each) between two looks at the watch
MOST_PIVOTS = 1000  # per node: far beyond what is ever needed
LARGEST_TOTAL = 2.0**58
NAME = "network simplex"
log = logging.getLogger("otdist")


class Costs(Protocol):
    """A matrix of costs, stored or made on the fly."""

    shape: tuple[int, int]
    noise: float  # two readings of a cost may differ by this

    def tiles(self) -> Iterator[tuple[Array, Array, Array]]:
        """(tile, places, rows) over all rows: row rows[t] lies at tile[places[t]]."""

    def tile(self, rows: Array) -> tuple[Array, Array]:
        """(tile, places) of a few rows."""

    def part(self, rows: Array, columns: Array) -> Array:
        """The submatrix."""

    def less(self, rows: Array, columns: Array) -> Costs:
        """The submatrix, nothing in it forbidden."""

    def costs(self, rows: Array, columns: Array) -> Array:
        """Costs of arcs."""

    def exact(self) -> bool:
        """Whether all costs are integers that float64 adds without rounding."""


class Stored:
    """Costs in memory."""

    noise = 0.0

    def __init__(self, C: Array, turned: bool = False) -> None:
        self.matrix = lend(C)
        self.sides = ("column", "row") if turned else ("row", "column")  # as the caller calls them
        self.shape: tuple[int, int] = (C.shape[0], C.shape[1])

    def tiles(self) -> Iterator[tuple[Array, Array, Array]]:
        rows = np.arange(self.shape[0], dtype=np.int32)
        size = max(1, 20_000_000 // self.shape[1])
        for start in range(0, len(rows), size):
            yield self.matrix, rows[start : start + size], rows[start : start + size]

    def tile(self, rows: Array) -> tuple[Array, Array]:
        return self.matrix, rows

    def part(self, rows: Array, columns: Array) -> Array:
        return self.matrix[rows[:, None], columns]

    def less(self, rows: Array, columns: Array) -> Costs:
        return Stored(bounded(self.part(rows, columns)))

    def costs(self, rows: Array, columns: Array) -> Array:
        found: Array = self.matrix[rows, columns]
        return found

    def exact(self) -> bool:
        return 0.0 <= largest_integer(self.matrix) < 2.0**52 / sum(self.shape)


def bounded(C: Array) -> Array:
    """Forbidden arcs at a large finite cost: a coarse problem must have a solution."""
    forbidden = np.isinf(C)
    if forbidden.any():
        allowed = C[~forbidden]
        low, high = (allowed.min(), allowed.max()) if len(allowed) else (0.0, 0.0)
        C = np.where(forbidden, high + 2.0 * (high - low) + abs(high), C)
    return C


class Masses(NamedTuple):
    """a and b as integers of one total."""

    a: Array
    b: Array
    unit: float
    rounded: bool


def lend(array: Array) -> Array:
    """A read-only view: kernels are compiled for one kind of array, and inputs may not be writable."""
    view = array.view()
    view.flags.writeable = False
    return view


def count_mass(a: Array, b: Array) -> Masses:
    """Integer masses, exact where a and b are integers or uniform; else a unit of 2^-58 of the total."""
    counts = np.empty(len(a), np.int64), np.empty(len(b), np.int64)
    return Masses(*counts, *count(a, b, *counts, LARGEST_TOTAL))


def solve(C: Array, a: Array, b: Array, watch: Watch, start: Any = None) -> Solution:
    """Exact transport from a matrix of costs (n, m), +inf where an arc is forbidden.

    Parameters: a (n,), b (m,) positive masses of one total. `start` may be prices g of the columns (m,).
    Raises ValueError where forbidden arcs leave mass that no plan can serve.
    """
    turned = C.shape[1] > TURN * C.shape[0]
    if turned:  # the arcs of the longer side are the fewer to choose from
        C, a, b = np.ascontiguousarray(C.T), b, a
    masses = count_mass(a, b)
    with Compiling():
        if C.size <= SMALL or (C.shape[1] <= THIN and C.shape[0] > TURN * C.shape[1]):
            from otdist.transport._weighted_small import elongated

            found, stopped = elongated(Stored(C, turned), masses, watch, 0)
        else:
            from otdist.transport._weighted_large import level

            found, stopped = level(Stored(C, turned), masses, watch, 0, None if turned else start)
    return found.solution(a, b, masses.unit, stopped, turned)


def new_plan(room: int) -> network.Plan:
    """Room for arcs."""
    rows, columns = np.empty(room, np.int32), np.empty(room, np.int32)
    return network.Plan(rows, columns, np.empty(room, np.int64), np.empty(room), np.empty(room, np.bool_))


def complete(
    costs: Costs, prices: Array, order: Array, excess: Array, free: Array, plan: network.Plan, used: int, rounded: bool
) -> network.Plan:
    """The plan with all mass that the rows of `order` still have, placed greedily; forbidden arcs may ask for more."""
    open_columns = np.flatnonzero(free > 0)
    counts = np.array([len(open_columns), used])
    for start in range(0, len(order), BATCH):
        some = order[start : start + BATCH]
        tile, places = costs.tile(some)
        place(tile, places, some, prices, excess, free, open_columns, *plan[:4], counts)
    plan = network.Plan(*(x[: counts[1]] for x in plan))
    if counts[0] == 0:
        return plan
    from otdist.transport._feasible import serve

    return serve(costs, plan, excess, free, rounded)


class Basis:
    """A tree, the scratch of its kernels, and what has been done to it."""

    def __init__(self, n: int, m: int, plan: network.Plan, estimates: Array, exact: bool) -> None:
        """The basis of a plan; its pivots are still to come (crossover)."""
        self.n, self.m, self.exact, self.plan = n, m, exact, plan
        self.tree = network.empty_tree(n, m)
        self.state = np.zeros(5, np.int64)
        self.bids = 0
        begins, arcs = np.empty(n + m + 2, np.int64), np.empty(2 * (n + m), np.int32)
        if exact:
            estimates = np.rint(estimates)  # they enter the potentials
        plant(*self.tree, n, m, *plan, estimates, begins, arcs)
        self.slack = 0.0

    @property
    def potential(self) -> Array:
        """Of rows, columns and the root."""
        y: Array = self.tree.reals[1]
        return y

    @property
    def pivots(self) -> int:
        return int(self.state[network.PIVOTS])

    def improve(self, starts: Array, columns: Array, costs: Array, block: int, watch: Watch) -> bool:
        """Pivots until no candidate violates; whether it came to that."""
        state = self.state
        state[network.CLEAN], state[network.MARK] = 0, self.pivots
        costs = lend(costs)
        while True:
            self.slack = network.improve(
                *self.tree, self.n, *self.plan, starts, columns, costs, block, self.exact, state, PIECE
            )
            if state[network.CLEAN] >= self.n:
                return True
            if state[network.ABSORBED] < len(self.plan.rows):
                continue  # the tree does not hold the whole plan yet
            if watch.stop("simplex", self.bids + self.pivots):
                return False
            if self.pivots > MOST_PIVOTS * (self.n + self.m):
                watch.stopped = "max_iter"
                return False

    def flows(self) -> tuple[Array, Array, Array]:
        """The arcs of the tree that carry mass."""
        nodes = np.flatnonzero(self.tree.flow[:-1] > 0).astype(np.int32)
        above = self.tree.nodes[0, nodes]
        rows, columns = np.minimum(nodes, above), np.maximum(nodes, above) - self.n
        return rows, columns.astype(np.int32), self.tree.flow[nodes]

    def solution(self, a: Array, b: Array, unit: float, stopped: str, turned: bool = False) -> Solution:
        """The plan and the prices of the tree; `turned` if its rows are the caller's columns."""
        n, m = self.n, self.m
        rows, columns, mass = np.empty(n + m, np.int64), np.empty(n + m, np.int64), np.empty(n + m)
        count = network.unload(*self.tree, n, np.array(a), np.array(b), unit, rows, columns, mass)
        if turned:
            rows, columns = columns, rows
        g = self.potential[:n].copy() if turned else -self.potential[n : n + m]
        return Solution(rows[:count], columns[:count], mass[:count], g, self.bids + self.pivots, NAME, stopped)


class Compiling:
    """Logs one line when what it surrounds compiled for long, as the first call of a kernel may."""

    def __enter__(self) -> None:
        self._signatures = self._compiled()
        self._begin = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        seconds = time.perf_counter() - self._begin
        if seconds > 3.0 and self._compiled() > self._signatures:
            log.info("transport: the first call took %.1f s, most of it compiling; kept on disk", seconds)

    @staticmethod
    def _compiled() -> int:
        return len(network.improve.signatures)
