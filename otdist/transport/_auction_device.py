"""One large assignment problem on a GPU: phases of an auction, judgement, shortest paths as the way out.

The host decides, from a few numbers a phase; prices, matches and costs stay on the device. See `_auction.py` for the
same on the CPU, whose constants these are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from otdist._arrays import Array
from otdist.kernels.auction_cuda import MOST_BIDS, Auction, Costs
from otdist.transport._auction import (
    BIDS,
    CLIMBS,
    FALL,
    FIRST,
    FIRST_BIDS,
    FIRST_READS,
    REACH,
    READS,
    ROUNDING,
    SLACK,
    TOLERANCE,
    WARM,
)
from otdist.transport._solution import Watch


@dataclass(frozen=True)
class Outcome:
    """Columns (n,) int64 and prices with the sign turned (m,), on the host."""

    cols: Array
    g: Array
    iterations: int
    solver: str
    stopped: str
    unmatched: int = -1  # a row that cannot be matched


def solve(costs: Costs, watch: Watch, whole: bool, start: Array | None = None) -> Outcome:
    """Match every row to a column of its own. whole: costs are integers."""
    n, m = costs.shape
    space = costs.space
    market = Market(costs, watch, whole)
    if n < m:
        market.auction.begin(space.zeros((m,), np.float64))
        return market.conclude(np.zeros(m), "shortest augmenting paths")
    if start is None:
        least = space.host(costs.column_minima())
        prices = np.where(np.isfinite(least), -least, 0.0)
    else:
        prices = -start
    market.begin(prices)
    spread = market.spread()
    solver = "auction, then shortest augmenting paths"
    if start is None and spread == 0.0:
        solver = "shortest augmenting paths"
    elif market.run((FIRST if start is None else WARM) * (spread or market.scale())):
        found = market.judged()
        if found is not None:
            return found
    return market.conclude(market.prices(), solver)


class Market:
    """Phases of an auction of as many rows as columns."""

    def __init__(self, costs: Costs, watch: Watch, whole: bool) -> None:
        self.auction, self.costs, self.space, self.watch = Auction(costs), costs, costs.space, watch
        self.n, self.m = costs.shape
        self.whole = whole
        # Integer costs: prices are multiples of this, so all is exact, and a gap below 1 proves the optimum.
        self.unit = math.ldexp(1.0, -math.ceil(math.log2(self.m)) - 6) if whole else 0.0

    def begin(self, prices: Array) -> None:
        rounded = np.rint(prices / self.unit) * self.unit if self.unit else prices
        self.auction.begin(self.space.put(np.ascontiguousarray(rounded)))
        self.auction.read_all()

    def prices(self) -> Array:
        return np.array(self.space.host(self.auction.p))

    def matched(self) -> Array:
        return np.asarray(self.space.host(self.auction.col), np.int64)

    def spread(self) -> float:
        """How far the values that a row keeps are apart, on average over some rows."""
        cache, columns, bound = self.auction.sample(32)
        first = (cache + self.prices()[columns]).min(axis=1)
        good = np.isfinite(bound) & np.isfinite(first)
        return float((bound - first)[good].mean()) if good.any() else 0.0

    def scale(self) -> float:
        """A number of the size of the costs that matter."""
        cache = np.abs(self.auction.sample(32)[0])
        cache = cache[np.isfinite(cache)]
        return (float(cache.mean()) if cache.size else 0.0) * 1e-3 or 1.0

    def run(self, eps: float) -> bool:
        """Phases down to an eps that gives the tolerance. False: cut off, stopped, or a row had no finite cost."""
        first, climbs, gap, enough = True, 0, math.inf, 0.0
        while True:
            last = max(self.unit, enough / (self.m * (1 + SLACK)), 1e-300)
            eps = max(eps, last)
            if self.unit:
                eps = max(2.0 ** math.floor(math.log2(eps)), self.unit)
            if self.phase(eps, first and climbs < CLIMBS):
                gap, enough = self.gap()
                last = max(self.unit, enough / (self.m * (1 + SLACK)), 1e-300)
                if eps <= last or gap <= enough:
                    return True
                eps, first = eps / FALL, False
            elif self.watch.stopped or self.auction.stuck() or not first or climbs == CLIMBS:
                return False
            else:
                eps, climbs = eps * FALL, climbs + 1

    def gap(self) -> tuple[float, float]:
        """An upper bound of the gap that costs no reading of costs, and the gap to reach."""
        _, gap, paid, size = self.auction.release(math.inf, 0.0)
        if self.unit:
            return gap, 0.5
        terms = size + 2.0 * float(np.abs(self.prices()).sum())
        return gap, max(0.9 * TOLERANCE * abs(paid), 0.9 * ROUNDING * terms)

    def phase(self, eps: float, first: bool) -> bool:
        """Match all rows to within (1 + SLACK) eps of their best; False if that takes too much."""
        auction = self.auction
        bids, reads = (FIRST_BIDS, FIRST_READS) if first else (BIDS, READS)
        free = auction.release(eps, SLACK * eps)[0]
        most, before = (min(bids * self.n, MOST_BIDS), reads * self.n), self.made
        while free:
            free = auction.rounds(free, eps, SLACK * eps, REACH * eps)
            self.made = before + auction.bids
            if auction.stuck() or (free and (auction.bids > most[0] or auction.reads > most[1])):
                return False
            if self.watch.stop("auction", self.made, unplaced=free / self.n, eps=eps):
                return not free
        return True

    made = 0

    def judged(self) -> Outcome | None:
        """The answer, if prices prove it; integer ones become integers that leave no gap."""
        prices, cols = self.prices(), self.matched()
        paid = self.paid(cols)
        if self.unit:
            rounded = self.rounded(prices, cols, paid)
            if rounded is None:
                return None
            prices = rounded
        f = self.row_minima(-prices)
        gap = math.fsum(paid) - math.fsum(f) + math.fsum(prices)
        terms = float(np.abs(prices).sum() + np.abs(f).sum() + np.abs(paid).sum())
        allowed = max(TOLERANCE * abs(math.fsum(f) - math.fsum(prices)), ROUNDING * terms)
        if not gap <= (0.0 if self.unit else allowed):
            return None
        return Outcome(cols, -prices, self.made, "auction", "")

    def paid(self, cols: Array) -> Array:
        rows = self.space.put(np.arange(self.n))
        return self.space.host(self.costs.listed(rows, self.space.put(cols)))

    def row_minima(self, g: Array) -> Array:
        return self.space.host(self.costs.row_minima(self.space.put(g)))

    def rounded(self, prices: Array, cols: Array, paid: Array) -> Array | None:
        """Integer prices without a gap, if the gap is below 1: see `_auction.Auction._round`."""
        u = self.row_minima(-prices)
        d = paid + prices[cols] - u
        if not d.sum() < 1.0:
            return None
        ends = -u - np.floor(-u)
        starts = np.concatenate([ends - d, ends - d + 1.0])
        order = np.argsort(starts)
        reach = np.maximum.accumulate(np.concatenate([ends, ends + 1.0])[order])
        before = np.searchsorted(starts[order], ends, side="right") - 1
        found: Array = np.floor(prices + ends[np.argmax(reach[before] <= ends)])
        return found

    def conclude(self, prices: Array, solver: str) -> Outcome:
        """Shortest paths for rows whose match the prices do not prove, or for all; any matches, where told to stop."""
        if self.watch.stopped:
            return self.completed(prices, "auction")
        if self.unit:
            prices = np.floor(prices)
        cols = self.matched()
        held = np.flatnonzero(cols >= 0)
        if held.size:
            f, paid = self.row_minima(-prices), np.zeros(self.n)
            paid[held] = self.paid(np.where(cols < 0, 0, cols))[held]
            terms = float(np.abs(prices).sum() + np.abs(f).sum() + np.abs(paid).sum())
            allowed = max(TOLERANCE * abs(math.fsum(f) - math.fsum(prices)), ROUNDING * terms)
            share = 0.0 if self.unit else 0.1 * allowed / self.m
            cols[held[paid[held] + prices[cols[held]] > f[held] + share]] = -1
        found = self.augmented(prices, cols, solver)
        if found.unmatched >= 0 or not held.size or self.watch.stopped or self.proved(found):
            return found
        # prices that have been high have lost the digits of low costs
        least = self.space.host(self.costs.column_minima())
        return self.augmented(np.where(np.isfinite(least), -least, 0.0), np.full(self.n, -1), solver)

    def proved(self, found: Outcome) -> bool:
        f, paid = self.row_minima(found.g), self.paid(found.cols)
        terms = float(np.abs(found.g).sum() + np.abs(f).sum() + np.abs(paid).sum())
        dual = math.fsum(f) + math.fsum(found.g)
        return math.fsum(paid) - dual <= (0.0 if self.unit else max(TOLERANCE * abs(dual), ROUNDING * terms))

    def augmented(self, prices: Array, cols: Array, solver: str) -> Outcome:
        """All rows matched by shortest paths, from these prices and matches."""
        paths = self.paths(prices, cols)
        while paths.at < paths.count:
            tree = paths.step()
            self.made += paths.steps
            if tree >= 0:
                return Outcome(cols, -prices, self.made, solver, "", int(np.flatnonzero(cols < 0)[paths.at]))
            if self.watch.stop("augmenting paths", self.made, unplaced=(paths.count - paths.at) / self.m):
                break
        g = np.array(self.space.host(paths.g))
        if paths.at < paths.count:
            return self.completed(-g, solver)
        return Outcome(self.matched(), g, self.made, solver, "")

    def paths(self, prices: Array, cols: Array) -> Any:
        row = np.full(self.m, -1)
        held = np.flatnonzero(cols >= 0)
        row[cols[held]] = held
        auction = self.auction
        auction.p = self.space.put(np.ascontiguousarray(prices))
        auction.col, auction.row = self.space.put(cols.astype(np.int32)), self.space.put(row.astype(np.int32))
        return auction.paths(np.flatnonzero(cols < 0))

    def completed(self, prices: Array, solver: str) -> Outcome:
        """The matches completed by any means, for the caller wants an answer now."""
        cols = self.matched()
        open_columns = np.ones(self.m, bool)
        open_columns[cols[cols >= 0]] = False
        rows, free = np.flatnonzero(cols < 0), np.flatnonzero(open_columns)
        if rows.size:
            free = free[: rows.size]
            price = self.space.host(self.costs.listed(self.space.put(rows), self.space.put(free)))
            good = np.isfinite(price)
            cols[rows[good]] = free[good]
        paths = self.paths(prices, cols)
        while paths.at < paths.count:
            if paths.step() >= 0:
                return Outcome(cols, -prices, self.made, solver, "", int(np.flatnonzero(cols < 0)[paths.at]))
        return Outcome(self.matched(), -prices, self.made, solver, self.watch.stopped)
