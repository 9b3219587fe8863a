"""One level of the multiscale assignment: points in order, prices, and auctions on them down to some ε."""

from __future__ import annotations

from typing import Any

import numpy as np

from otdist._arrays import Array
from otdist.kernels import kdauction, shortest_paths, sparse_auction
from otdist.kernels.kdtree import Tree
from otdist.transport._solution import Watch

# Candidate columns of a row, and rows of a column.
WIDTH = 16
# Each ε is the last one divided by this.
RATIO = 6.0
# Bids of one compiled call: some 0.1 s.
PIECE = 1 << 19
# Bids per row after which the rows left over are assigned by shortest paths if they are few, else so many times more.
# In the auction over all columns, where searches count as bids, after which candidates are found in bulk instead.
WAR, STRAGGLERS, LONG_WAR, LAZY_WAR = 400, 0.005, 10, 1500
# A round of candidates is the last one when fewer of the rows would rather have a column that is no candidate.
FEW = 1e-3
ROUNDS = 24


class Level:
    """Points X (rows) and Y (columns), both in the order of a tree, as many of each; the assignment and its prices."""

    def __init__(self, tag: Any, X: Array, Y: Array, price: Array, watch: Watch, iterations: int) -> None:
        n = len(X)
        self.tag, self.X, self.watch, self.iterations = tag, X, watch, iterations
        self.tree = Tree(Y, price)
        self.width = min(WIDTH, n)
        self.row_to_col, self.col_to_row = np.full(n, -1, np.int32), np.full(n, -1, np.int32)
        self.paid, self._stack = np.full(n, np.inf), np.empty(n, np.int32)
        self._ptr, self._idx, self._cost = np.zeros(n + 1, np.int64), np.empty(0, np.int32), np.empty(0)

    @property
    def price(self) -> Array:
        """The prices of the columns: a view."""
        return self.tree.price[: len(self.X)]

    def values(self) -> Array:
        """min_j c(x, y_j) + p_j of every row."""
        self.tree.fit()
        return self.tree.nearest(self.tag, self.X, 1)[1][:, 0]

    def rounding(self) -> float:
        """The least ε that the rounding of the prices and costs leaves a meaning."""
        held = self.paid[np.isfinite(self.paid)]
        return 2.0**-50 * float(np.abs(self.price).max() + held.max(initial=0.0)) + 1e-300

    def current(self) -> Array:
        """What every row pays, +inf without a column."""
        return np.where(self.row_to_col >= 0, self.paid + self.price[self.row_to_col], np.inf)

    def _gather(self, below: Array | None, hint: Array) -> Array:
        """Add candidates: the columns below a limit, or the best of all rows and all columns; the least values."""
        tree, n, k = self.tree, len(self.X), self.width
        tree.fit()
        J, V = tree.nearest(self.tag, self.X, k, below)
        least = V[:, 0].copy()
        back = np.empty((n, 0), np.int32)
        if below is None:
            back, V = Tree(self.X, -least).nearest(self.tag, tree.where, k)
            # a column may cost what makes its best row indifferent, no more: an auction would raise all others first
            self.price[:] = np.minimum(self.price, -V[:, 0])
        lists, members = np.empty(n + 1, np.int64), np.empty(back.size, np.int32)
        kdauction.invert(back, lists, members)
        room = int(np.count_nonzero(J >= 0)) + back.size + len(self._idx) + n
        ptr, idx, cost = np.empty(n + 1, np.int64), np.empty(room, np.int32), np.empty(room)
        old = self._ptr, self._idx
        total = kdauction.gather(
            self.tag, self.X, tree.where, tree.price, J, lists, members, *old, hint, ptr, idx, cost
        )
        self._ptr, self._idx, self._cost = ptr, idx[:total], cost[:total]
        return least

    def candidates(self, start: float, end: float, deeper: int, hint: Array) -> None:
        """Auctions on candidate columns from ε = start to end, more candidates as prices ask for them.

        Then `deeper` more times the next ε. The columns `hint` are a perfect assignment: with it there always is one.
        """
        n, eps, below = len(self.X), start, None
        if np.any(self.row_to_col < 0):
            self.assign(hint)
            kdauction.costs_of(self.tag, self.X, self.tree.where, self.row_to_col, self.paid)
        for _ in range(ROUNDS + 4 * deeper):
            if self.watch.stop("candidates", self.iterations, epsilon=eps):
                return
            least = self._gather(below, hint)
            if below is not None:
                current = self.current()
                # rows that found nothing better by ε/4 count as served
                excess = np.where(least < below, current - least, 0.0)
                eps = max(end, float(excess.mean()))
                if np.count_nonzero(excess > 1.5 * end) < FEW * n:
                    if deeper == 0:
                        return
                    deeper -= 1
                    end /= RATIO
                    eps = end
            self._sparse(eps, end)
            below = self.current() - 0.25 * end

    def _sparse(self, start: float, end: float) -> None:
        """Auctions on the candidates, whose costs are reduced by the prices."""
        n, eps = len(self.X), start
        rise, paid = np.zeros(n), self.current()
        cap = np.full(n, np.inf)
        graph = self._ptr, self._idx, self._cost, rise
        held = self.row_to_col, self.col_to_row, paid
        while True:
            count = sparse_auction.release(*graph, eps, *held, self._stack)
            begin = self.iterations
            while count > 0 and self.iterations - begin < WAR * n * (LONG_WAR if count > STRAGGLERS * n else 1):
                count, bids = sparse_auction.auction(*graph, eps, *held, cap, self._stack, count, PIECE)
                self.iterations += bids
                if self.watch.stop("candidates", self.iterations, epsilon=eps, unassigned=count / n):
                    break
            if count > 0 and not self.watch.stopped:
                self._paths(graph, eps, held, count)
            if eps <= end or self.watch.stopped:
                break
            eps = max(eps / RATIO, end)
        self.tree.price[:n] += rise
        kdauction.costs_of(self.tag, self.X, self.tree.where, self.row_to_col, self.paid)

    def _paths(self, graph: tuple[Array, ...], eps: float, held: tuple[Array, ...], count: int) -> None:
        n, arcs = len(self.X), len(self._idx)
        via, arc, reached = np.empty(n, np.int32), np.empty(n, np.int64), np.empty(n, np.int32)
        scratch = np.full(n, np.inf), via, arc, reached, np.empty(arcs), np.empty(arcs, np.int32)
        while count > 0:
            count, settled = shortest_paths.augment(*graph, eps, *held, self._stack, count, PIECE, scratch)
            self.iterations += settled
            if self.watch.stop("shortest paths", self.iterations, epsilon=eps, unassigned=count / n):
                return

    def open(self) -> None:
        """Every row caches its best columns: from here on auctions are over all of them."""
        self._ptr, self._idx, self._cost = np.zeros(len(self.X) + 1, np.int64), np.empty(0, np.int32), np.empty(0)
        self.tree.fit()
        self._J, V = self.tree.nearest(self.tag, self.X, self.width)
        self._C, self._L = np.empty(V.shape), np.empty(len(self.X))
        kdauction.recache(self.tag, self.X, self.tree.where, self._J, self._C, self._L, V)

    def auction(self, eps: float) -> None:
        """An auction over all columns, ended in bulk if it becomes a price war."""
        budget = LAZY_WAR * len(self.X) + PIECE
        while not self._lazy(eps, budget):
            self.candidates(eps, eps, 0, self.completed())
            self.open()
            budget *= 2

    def _lazy(self, eps: float, budget: int) -> bool:
        tree, n = self.tree, len(self.X)
        cache, held = (self._J, self._C, self._L), (self.row_to_col, self.col_to_row, self.paid)
        count = kdauction.release_cached(*cache, tree.price, eps, *held, self._stack)
        scratch, since, work = tree.scratch(self.width), 0, 0
        while count > 0 and not self.watch.stop("auction", self.iterations, epsilon=eps, unassigned=count / n):
            if work > budget:
                return False
            count, bids, searches = kdauction.bid(
                self.tag, self.X, tree.Y, tree.where, tree.price, tree.nodes, tree.scale, *cache, eps, *held,
                self._stack, count, PIECE // 2, scratch,
            )  # fmt: skip
            self.iterations += bids
            work += bids + kdauction.SEARCH_BIDS * searches
            since += searches
            if since > n // 4:
                tree.fit(slopes=False)
                since = 0
        tree.fit()
        return True

    def assign(self, cols: Array) -> None:
        """Take a perfect assignment as it is."""
        self.row_to_col[:] = cols
        self.col_to_row[cols] = np.arange(len(cols), dtype=np.int32)

    def completed(self) -> Array:
        """The columns of the rows, those without one taking the free columns in order."""
        cols = self.row_to_col.copy()
        cols[cols < 0] = np.flatnonzero(self.col_to_row < 0)
        return cols
