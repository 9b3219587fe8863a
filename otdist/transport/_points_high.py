"""Exact assignment between two clouds of n points in many dimensions, from the points, with O(n) memory.

    frame       both clouds centred and scaled                                            `_points_scan.Frame`
    sample      the prices of a quarter of the points, solved the same way, extended by a c-transform
    graph       the cheapest columns of each row, the cheapest rows of each column        `_points_scan.Scan`
    auction     ε-scaling on that sparse graph                                            `kernels/sparse_auction.py`
    lists       thirty columns of each row at the prices found, a bound on the others
    auction     ε-scaling on the lists, made anew in batches, down to the tolerance       `kernels/batch_auction.py`

What comes out is within n ε of the optimum, with ε = 1e-10 value/n or, where all costs are integers, ε < 1/n: then the
assignment is optimal, and integral potentials prove it without a gap.

Measured on one busy AVX-512 core, n = 4000, certificate included: 0.17 s at d = 16, 0.3 s at d = 64, squared or not;
n = 20,000, d = 64 on two: 8.4 s of processor time in all, 0.28 GB.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from otdist._arrays import Array
from otdist.kernels import threads
from otdist.kernels.batch_auction import arc_costs, bid_lists, release_lists
from otdist.kernels.sparse_auction import auction, release
from otdist.transport import _assignment
from otdist.transport._points_scan import Frame, Lists, Scan, Side, c_transform, cost_matrix
from otdist.transport._solution import Solution, Watch
from otdist.transport._weighted_points import solve_points

TOLERANCE = 0.9e-10
# Columns of a list, and arcs of a row and of a column in the sparse graph.
LENGTH, ARCS = 32, 16
# Between two values of ε; by how many ε a bid may exceed what the bound of its list allows.
RATIO, SLACK = 6.0, 4.0
# More points begin with the prices of one in THINNING, assigned within FINE times the mean cost.
COARSEST, THINNING, FINE = 500, 4, 1e-2
# First ε on the sparse graph, HEAD-th of its dearest arc, and the last, this part of it.
HEAD, TAIL = 8.0, 1e-4
# Bids of one compiled piece, rows listed at once.
PIECE, BATCH = 1_000_000, 4096
# Bids per row and ε before it is called a price war and ε raised; and of all, before the auction is given up.
WAR, LOST = 100, 1000
# Times a row is listed, on average, before the auction is given up.
LISTED = 150
# Rows up to which a lost auction is replaced by shortest paths on the cost matrix.
STORED = 6000


class _Assignment:
    """An assignment under construction: prices, who holds what, at which cost."""

    def __init__(self, n: int, price: Array) -> None:
        self.price = price
        self.row_to_col, self.col_to_row = np.full((2, n), -1, np.int32)
        self.paid = np.zeros(n)
        self.stack = np.empty(n, np.int32)
        self.bids = 0

    def complete(self) -> None:
        """Give the columns left over to the rows left over, in order."""
        rows, cols = np.flatnonzero(self.row_to_col < 0), np.flatnonzero(self.col_to_row < 0)
        self.row_to_col[rows], self.col_to_row[cols] = cols, rows


class _Solver:
    def __init__(self, x: Array, y: Array, cost: Any, watch: Watch, start: Array | None, coarse: bool = False) -> None:
        self.n, self.cost, self.watch, self.coarse = len(x), cost, watch, coarse
        self.frame = Frame(x, y, cost)
        self.x, self.y = Side(self.frame.x), Side(self.frame.y)
        self.scan = Scan(cost, self.x, self.y)
        price = np.zeros(self.n) if start is None else self.frame.price(start)
        self.state = _Assignment(self.n, price - price.min())
        self.rounding = (x.shape[1] + 16) * 2.0**-51
        self.warm, self.lost = start is not None, False

    def solve(self) -> None:
        if not (self.frame.x.any() or self.frame.y.any()):
            self.state.price[:] = 0.0  # two points: every assignment is optimal
            return
        if self.n <= 2 * LENGTH:
            lists = Lists(self.n, min(self.n, LENGTH))
            if self._list(self.scan, np.arange(self.n), self.state.price, lists) and not self._greedy(lists):
                self._finish(lists, float(lists.low[lists.low < np.inf].max()) / 8)
            return
        if not self.warm and self.n > COARSEST:
            self._sample()
        lists = Lists(self.n, ARCS)
        if not self._list(self.scan, np.arange(self.n), self.state.price, lists) or self._greedy(lists):
            return
        eps = 0.0
        if not self.warm:
            eps = self._sparse(lists)
        if eps < 0:
            return
        lists = Lists(self.n, LENGTH)
        if self._list(self.scan, np.arange(self.n), self.state.price, lists):
            self._finish(lists, eps)

    def _list(self, scan: Scan, rows: Array, price: Array, lists: Lists, insist: Array | None = None) -> bool:
        """Make lists anew, those of `insist` without rounding; whether the watch lets us go on."""
        size = max(256, int(1e8 / (self.n * (1 + 0.05 * self.x.x.shape[1]))))
        for k in range(0, len(rows), size):
            scan.lists(rows[k : k + size], price, lists)
            if self.watch.stop("lists", self.state.bids, listed=(k + size) / len(rows)):
                return False
        if insist is not None and len(insist):
            scan.direct_lists(insist, price, lists)
        return True

    def _greedy(self, lists: Lists) -> bool:
        """Whether every row can have its cheapest column at the present prices: then that is the optimum."""
        first = lists.J[:, 0]
        if np.any(lists.low[:, 0] > lists.L) or np.any(np.bincount(first, minlength=self.n) != 1):
            return False
        self.state.row_to_col[:], self.state.paid[:] = first, lists.C[:, 0]
        self.state.col_to_row[first] = np.arange(self.n, dtype=np.int32)
        return True

    def _sample(self) -> None:
        """Start from the prices of a sample, extended to all columns by a c-transform."""
        generator = np.random.default_rng(self.n)
        size = self.n // THINNING
        rows, cols = (np.sort(generator.choice(self.n, size, replace=False)) for _ in range(2))
        x, y = self.frame.x[rows], self.frame.y[cols]
        solver = _Solver(x, y, self.cost, self.watch, None, coarse=True)
        solver.solve()
        f = c_transform(x, y, self.cost, solver.potential())
        g = c_transform(self.frame.y, x, self.cost, f)
        self.state.price = g.max() - g
        self.state.bids += solver.state.bids

    def _sparse(self, lists: Lists) -> float:
        """ε-scaling on a sparse graph; returns the last ε, or -1 if the watch stopped it."""
        state, n = self.state, self.n
        columns = Lists(n, ARCS)
        back = -lists.low[:, 0]
        back -= back.min()
        if not self._list(Scan(self.cost, self.y, self.x), np.arange(n), back, columns):
            return -1.0
        rows = np.arange(n, dtype=np.int64)[:, None]
        keys = [
            (rows * n + lists.J)[lists.low < np.inf],
            (columns.J.astype(np.int64) * n + rows)[columns.low < np.inf],
            self._axis(),
        ]
        key = np.unique(np.concatenate(keys))
        row, idx = np.divmod(key, n)
        idx = idx.astype(np.int32)
        ptr = np.searchsorted(row, np.arange(n + 1)).astype(np.int64)
        cost = np.empty(len(idx))
        arc_costs(self.cost, ptr, idx, self.x.x, self.y.x, cost)
        spread = float(cost.max())
        order = np.lexsort((cost, row))
        idx, cost = np.ascontiguousarray(idx[order]), np.ascontiguousarray(cost[order])
        cap = np.full(n, np.inf)
        least = self._tolerance()
        eps, last = max(spread / HEAD, least), max(spread * TAIL, least)
        while True:
            count = release(
                ptr, idx, cost, state.price, eps, state.row_to_col, state.col_to_row, state.paid, state.stack
            )
            war = state.bids + WAR * n
            while count:
                count, made = auction(
                    ptr, idx, cost, state.price, eps, state.row_to_col, state.col_to_row, state.paid, cap, state.stack,
                    count, PIECE,
                )  # fmt: skip
                state.bids += made
                if state.bids > war:
                    eps, war = min(eps * RATIO, max(eps, spread)), state.bids + WAR * n
                if self.watch.stop("sparse auction", state.bids, unplaced=count / n):
                    return -1.0
            if eps <= last or state.bids > LOST / 4 * n:
                return float(eps)
            eps = max(eps / RATIO, last)

    def _axis(self) -> Array:
        """Arcs of the assignment by order along the axis of largest variance: the graph has a perfect assignment."""
        axis = self.x.x[int(np.argmax(self.x.squares))]
        for _ in range(3):
            axis = axis @ self.x.x.T @ self.x.x
            axis /= max(float(np.abs(axis).max()), 1e-300)
        rows, cols = (np.argsort(z @ axis, kind="stable") for z in (self.x.x, self.y.x))
        return rows * self.n + cols

    def _finish(self, lists: Lists, eps: float) -> None:
        """ε-scaling on the lists, down to the tolerance."""
        state, n = self.state, self.n
        if state.row_to_col.min() >= 0:
            over = state.paid + state.price[state.row_to_col] - np.minimum(lists.low[:, 0], lists.L)
            eps = max(float(over.max()) / 32, float(over.mean()) / 4, eps / RATIO)
        eps = max(eps, self._tolerance())
        listed = 0
        ceiling = float(lists.low[lists.low < np.inf].max())
        waiting, fresh = np.empty(min(n, BATCH), np.int64), np.zeros(n, np.uint8)
        table = (lists.J, lists.C, lists.low, lists.L, state.price)
        held = (state.row_to_col, state.col_to_row, state.paid, state.stack)
        while True:
            count, waiters, war = release_lists(*table, eps, *held), 0, state.bids + WAR * n
            while count or waiters:
                count, waiters, left = bid_lists(
                    *table, eps, SLACK * eps, self.rounding, *held, count, waiting, waiters, PIECE, fresh
                )
                state.bids += PIECE - left
                if state.bids > war:
                    eps, war = min(eps * RATIO, max(eps, ceiling)), state.bids + WAR * n
                if state.bids > 2 * LOST * n + 100_000 or listed > LISTED * n + 20_000:
                    self.lost = True
                    return
                if waiters and (count == 0 or waiters == len(waiting)):
                    rows = np.sort(waiting[:waiters])
                    listed += waiters
                    # Listed before and not served yet: the rounding of the products may be in the way
                    insist = rows[fresh[rows] == 1]
                    if not self._list(self.scan, rows[fresh[rows] == 0], state.price, lists, insist):
                        return
                    fresh[rows] = 1
                    state.stack[count : count + waiters] = waiting[:waiters][::-1]
                    count, waiters = count + waiters, 0
                elif self.watch.stop("auction", state.bids, unplaced=(count + waiters) / n):
                    return
            last = self._tolerance()
            if state.bids > LOST * n + 100_000:
                self.lost = eps > last
                return
            if eps <= last or (self.coarse and eps <= FINE * float(state.paid.mean())):
                return
            eps = max(eps / RATIO, last)

    def paths(self) -> Solution:
        """The dense engine's answer, in this frame: slower, but no prices can go to war."""
        unit = self.frame.unit or 1.0
        C = cost_matrix(self.frame.x, self.frame.y, self.cost)
        C /= unit
        solution = _assignment.solve(C, self.watch, -self.state.price / unit)
        g = self.frame.potential(-solution.g * unit)
        return replace(solution, g=g, iterations=solution.iterations + self.state.bids)

    def _tolerance(self) -> float:
        """The last ε: n ε is below the tolerance, or below the unit of integral costs."""
        frame = self.frame
        value = float(self.state.paid.sum() + frame.of_rows.sum() - frame.of_columns.sum())
        floor = max(2.0**-54 * float(np.mean(self.state.paid + self.state.price)), 1e-290)
        if frame.unit:
            return max(0.5 / (1 + SLACK) * frame.unit / self.n, floor)
        return max(TOLERANCE * value / (1 + SLACK) / self.n, floor)

    def potential(self) -> Array:
        """Potentials outside; integral ones for integral costs."""
        frame, price = self.frame, self.state.price
        if frame.unit and price.max() < 2.0**50 * frame.unit / self.n:
            z = price / frame.unit
            parts = np.sort(z % 1.0)
            gaps = np.diff(parts, append=parts[0] + 1.0)
            # A constraint loosened by less than 1/n breaks at rounding only if a part lies just below the threshold
            k = int(np.argmax(gaps))
            above = float(parts[(k + 1) % len(parts)])
            price = np.floor(z - above) * frame.unit
        return frame.potential(price)


def solve(x: Array, y: Array, cost: Any, watch: Watch, start: Array | None = None) -> Solution:
    """The assignment of least total cost between the rows of x and of y, (n, d) float64, each of mass one.

    `cost` is a tag of `kernels/costs.py`; `start`: potentials g (n,) to begin with.
    """
    solver = _Solver(x, y, cost, watch, start)
    with threads.single_blas():
        solver.solve()
        if solver.lost and len(x) <= STORED:
            return solver.paths()
        rows, ones = np.arange(len(x), dtype=np.int64), np.ones(len(x))
        if solver.lost:
            found = solve_points(x, y, cost, ones, ones, watch, solver.potential())
            return replace(found, rows=rows, cols=found.cols[np.argsort(found.rows)])
    solver.state.complete()
    return Solution(
        rows=rows,
        cols=solver.state.row_to_col.astype(np.int64),
        mass=ones,
        g=solver.potential(),
        iterations=solver.state.bids,
        solver="auction",
        stopped=watch.stopped,
    )
