"""The auction for one large assignment problem: prices to start from, phases, judgement, shortest paths as the way out.

Everything is square in here: a problem with fewer rows than columns gets rows that cost nothing, which exist only as an
index beyond C. Their matches are the free columns, and their potential is the least price, which ends as 0.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from otdist._arrays import Array
from otdist.kernels.assignment import bid, release
from otdist.kernels.augment import augment
from otdist.kernels.pricing import c_transform, c_transform_columns
from otdist.kernels.rowcache import KEPT, scratch
from otdist.transport._solution import Solution, Watch

# Gap of the answer, relative to its value; that of coarse problems, whose prices only start a finer one.
TOLERANCE, COARSE = 1e-10, 1e-4
# Coarse problems: every how many-th row is taken, down to how many. They pay where a pilot of that many rows needs more
# than so many bids a row, which is where prices are far from those of the first guess.
RATIO, PILOT, HARD = 4, 192, 30
# eps: of the first phase relative to the spread of the values a row keeps; its fall; the slack of a bound in eps. A
# power of two and an integer: with integer costs all prices are multiples of the last eps.
FIRST, FALL, SLACK = 0.1, 8.0, 31.0
# The same of the first phase from prices of an earlier problem.
WARM = 0.001
# How far one bid may raise a price, in eps.
REACH = 1024.0
# A phase is cut off at so many bids and readings per row; a compiled piece does as many as take some 0.05 s.
BIDS, READS = 1000, 60
# The first phase gets less of both; if that does not do, eps was too small for how far the prices are off, and rises.
FIRST_BIDS, FIRST_READS, CLIMBS = 30, 4, 6
PIECE_BIDS, PIECE_ENTRIES = 500_000, 1 << 25
# The rounding of a long sum stays below this times the sum of the absolute terms.
ROUNDING = 8 * float(np.finfo(np.float64).eps)
EXACT = 2.0**52


class Auction:
    """State of an auction on C (n, m), n <= m, with m rows of which m - n are empty.

    largest: the largest |c_ij| of integer costs, -1 for others. stage: what it is called before a watch.
    """

    def __init__(self, C: Array, prices: Array, largest: float = -1.0, stage: str = "auction") -> None:
        self.n, self.m = C.shape
        m, k = self.m, min(KEPT, self.m)
        self.C, self.empty = C, np.zeros(m if m > self.n else 0)
        self.p = np.empty(m)
        self.cols, self.costs = np.zeros((m, k), np.int32), np.full((m, k), np.inf)
        self.bound = np.full(m, -np.inf)
        self.col, self.row = np.full(m, -1), np.full(m, -1)
        self.paid, self.stack = np.zeros(m), np.empty(m, np.int64)
        self._matches = (self.p, self.cols, self.costs, self.bound, self.col, self.row, self.paid, self.stack)
        self.bids = self.reads = 0
        self.largest, self.stage = largest, stage
        self.bad = -1
        # Integer costs: the last eps, small enough that m matches within (1 + slack) eps differ by less than 1.
        self.unit = math.ldexp(1.0, -math.ceil(math.log2(m)) - 6) if largest >= 0 else 0.0
        self.reprice(prices)

    def reprice(self, prices: Array) -> None:
        self.p[:] = np.rint(prices / self.unit) * self.unit if self.unit else prices

    def run(self, watch: Watch, tolerance: float = TOLERANCE, first_eps: float = FIRST) -> bool:
        """Phases down to an eps that gives this relative gap. False: cut off, stopped, or a row had no finite cost."""
        self.col[:] = self.row[:] = -1
        self.bound[:] = -np.inf
        eps, first, climbs = first_eps * self.spread() or self._scale(), True, 0
        while True:
            last = self._last_eps(tolerance)
            eps = max(eps, last)
            if self.unit:
                eps = max(2.0 ** math.floor(math.log2(eps)), self.unit)
            if self._phase(eps, watch, first and climbs < CLIMBS):
                if eps <= last or self._gap() <= self._enough(tolerance):
                    return True
                eps, first = eps / FALL, False
            elif watch.stopped or self.bad >= 0 or not first or climbs == CLIMBS:
                return False
            else:
                eps, climbs = eps * FALL, climbs + 1

    def _gap(self) -> float:
        """An upper bound of the gap that costs no reading of C."""
        return float(release(*self._matches, math.inf, 0.0)[1])

    def _enough(self, tolerance: float) -> float:
        """The gap to reach: 0.9 of what is allowed at the end, where all roundings count."""
        if self.unit:
            return 0.5
        terms = float(np.abs(self.paid).sum() + 2.0 * np.abs(self.p).sum())
        return max(0.9 * tolerance * abs(float(self.paid.sum())), 0.9 * ROUNDING * terms)

    def _last_eps(self, tolerance: float) -> float:
        return float(max(self.unit, self._enough(tolerance) / (self.m * (1 + SLACK)), 1e-300))

    def _sample(self) -> Array:
        """c_ij + p_j of some rows, the least and the one after those that are kept in place."""
        rows = np.linspace(0, self.n - 1, min(self.n, 32)).astype(np.int64)
        values = self.C[rows] + self.p
        values.partition((0, min(KEPT, self.m - 1)), axis=1)
        return values

    def spread(self) -> float:
        """How far the values that a row keeps are apart, on average over some rows."""
        values = self._sample()[:, [0, min(KEPT, self.m - 1)]]
        values = values[np.isfinite(values[:, 1])]
        return float((values[:, 1] - values[:, 0]).mean()) if len(values) else 0.0

    def easy(self) -> bool:
        """Whether augmenting paths from the first prices may be short.

        Most rows see ties; or all of them are the best of their best column, as between clouds that nearly coincide.
        """
        return bool((self._sample()[:, 0] == 0.0).all()) or self.spread() == 0.0

    def _scale(self) -> float:
        """A number of the size of the costs that matter."""
        finite = self.C[:: max(1, self.n // 32)]
        finite = np.abs(finite[np.isfinite(finite)])
        return (float(finite.mean()) if finite.size else 0.0) * 1e-3 or 1.0

    def _phase(self, eps: float, watch: Watch, first: bool) -> bool:
        """Match all rows to within (1 + SLACK) eps of their best; False if that takes too much."""
        top = int(release(*self._matches, eps, SLACK * eps)[0])
        bids, reads = (FIRST_BIDS * self.m, FIRST_READS * self.m) if first else (BIDS * self.m, READS * self.m)
        piece = max(16, PIECE_ENTRIES // self.m)
        work = scratch(self.m)
        while top:
            top, made, read, self.bad = bid(
                self.C, self.empty, *self._matches, top, eps, SLACK * eps, REACH * eps,
                min(bids, PIECE_BIDS), min(reads, piece), *work,
            )  # fmt: skip
            self.bids += made
            self.reads += read
            bids, reads = bids - made, reads - read
            if self.bad >= 0 or (top and (bids <= 0 or reads <= 0)):
                return False
            if watch.stop(self.stage, self.bids, unplaced=top / self.m, eps=eps):
                return not top
        return True

    def judge(self) -> bool:
        """Whether the prices prove the matches optimal; integer ones become integers that leave no gap."""
        self._shift()
        return self._round() if self.unit else self._proved()

    def _proved(self) -> bool:
        """Whether the gap is as small as it has to be, once free columns have price 0."""
        self._shift()
        self.p[self.col[self.n :]] = 0.0
        f = c_transform(self.C, -self.p)
        gap = math.fsum(self.paid[: self.n]) - math.fsum(f) + math.fsum(self.p)
        return bool(gap <= (0.0 if self.unit else self._allowed(f)))

    def _shift(self) -> None:
        """Prices of a rectangular problem are >= 0: the potential of its empty rows, the least price, is 0."""
        if self.n < self.m:
            self.p -= self.p.min()

    def _allowed(self, f: Array) -> float:
        terms = float(np.abs(self.p).sum() + np.abs(f).sum() + np.abs(self.paid[: self.n]).sum())
        return max(TOLERANCE * abs(math.fsum(f) - math.fsum(self.p)), ROUNDING * terms)

    def _round(self) -> bool:
        """Integer prices without a gap, if the gap is below 1.

        Let u_i <= c_ij + p_j, with a gap d_i on matched pairs and sum d < 1. For every t, floor(u_i + t) <=
        c_ij + floor(p_j + t), and matched pairs are tight unless an integer lies in (u_i + t, u_i + t + d_i]. That
        forbids an interval of length d_i of t modulo 1, so some t is left, and the upper end of an interval is one.
        """
        if self.largest + float(np.abs(self.p).max()) >= EXACT * self.unit:
            self.p[:] = np.floor(self.p)
            return False
        u = np.concatenate([c_transform(self.C, -self.p), np.zeros(self.m - self.n)])
        d = self.paid + self.p[self.col] - u
        if not d.sum() < 1.0:
            self.p[:] = np.floor(self.p)
            return False
        ends = -u - np.floor(-u)
        starts = ends - d
        order = np.argsort(np.concatenate([starts, starts + 1.0]))
        reach = np.maximum.accumulate(np.concatenate([ends, ends + 1.0])[order])
        before = np.searchsorted(np.concatenate([starts, starts + 1.0])[order], ends, side="right") - 1
        t = ends[np.argmax(reach[before] <= ends)]
        self.p[:] = np.floor(self.p + t)
        return True

    def finish(self, watch: Watch, steps: int | None = None) -> bool:
        """Shortest augmenting paths for rows whose match the prices do not prove; False: it did not do."""
        self._shift()
        n, m = self.n, self.m
        f = c_transform(self.C, -self.p)
        share = 0.0 if self.unit else 0.1 * self._allowed(f) / m
        best = np.concatenate([np.where(f < np.inf, f + share, -np.inf), np.full(m - n, share)])
        held = np.flatnonzero(self.col >= 0)
        loose = held[self.paid[held] + self.p[self.col[held]] > best[held]]
        self.row[self.col[loose]], self.col[loose] = -1, -1
        rows = m if self.p[self._unheld()].any() else n
        if rows == n:
            self._drop_empty()
        open_column = self.row < 0
        for i in np.flatnonzero(self.col[:rows] < 0):
            tight = (self.C[i] + self.p if i < n else self.p) <= best[i]
            tight &= open_column
            j = int(tight.argmax())
            if tight[j]:
                self.col[i], self.row[j], open_column[j] = j, i, False
        if not self._paths(watch, rows, steps):
            return False
        self.col[n:] = np.flatnonzero(self._unheld())
        self.row[self.col[n:]] = np.arange(n, m)
        self.paid[:n] = self.C[np.arange(n), self.col[:n]]
        return self._proved()

    def _unheld(self) -> Array:
        """Columns that no row of C holds. If they all have price 0, the empty rows need no paths: they get the rest."""
        free = np.ones(self.m, bool)
        held = self.col[: self.n]
        free[held[held >= 0]] = False
        return free

    def _drop_empty(self) -> None:
        held = self.col[self.n :]
        self.row[held[held >= 0]] = -1
        self.col[self.n :] = -1

    def adopt(self, cols: Array) -> None:
        """Begin with these columns of the rows, -1 for none."""
        rows = np.flatnonzero(cols >= 0)
        self.col[rows], self.row[cols[rows]] = cols[rows], rows
        self.paid[rows] = self.C[rows, cols[rows]]

    def conclude(self, watch: Watch, solver: str) -> Solution:
        """The solution by shortest augmenting paths, or what there is when the watch stops them."""
        if not watch.stopped and not self.finish(watch) and not watch.stopped:
            self.restart()
            self.finish(watch)
        return self.settle(watch) if watch.stopped else self.solution(solver)

    def restart(self) -> None:
        """Forget all, for prices that have been high have lost the digits of low costs."""
        self.reprice(first_prices(self.C))
        self.col[:] = self.row[:] = -1

    def _paths(self, watch: Watch | None, rows: int, steps: int | None = None) -> bool:
        """Match all of so many rows; False if told to stop or after so many steps."""
        m, at, end = self.m, 0, None if steps is None else self.bids + steps
        free, g = np.flatnonzero(self.col[:rows] < 0), -self.p
        order = np.empty(m, np.int64)
        work = (np.empty(m), np.empty(m, np.int64), order, np.empty(m))
        piece = max(1, PIECE_ENTRIES // m)
        while at < len(free):
            at, made, tree = augment(self.C, self.empty, free, at, piece, g, self.col, self.row, *work)
            self.bids += made
            self.p[:] = -g
            if tree >= 0:
                raise impossible(self.C, int(free[at]), order[:tree])
            if watch is not None and watch.stop("augmenting paths", self.bids, unplaced=(len(free) - at) / m):
                return bool(at == len(free))
            if end is not None and self.bids > end:
                return bool(at == len(free))
        return True

    def settle(self, watch: Watch) -> Solution:
        """Complete the matches by any means, for the caller wants an answer now."""
        self._shift()
        real = self.col[: self.n]
        self._drop_empty()
        for i in np.flatnonzero(real < 0):
            open_columns = np.flatnonzero(self.row < 0)
            j = int(np.argmin(self.C[i, open_columns]))
            if self.C[i, open_columns[j]] < np.inf:
                self.col[i], self.row[open_columns[j]] = open_columns[j], i
        self._paths(None, self.n)
        return self.solution("auction", watch.stopped)

    def solution(self, solver: str, stopped: str = "") -> Solution:
        n = self.n
        return Solution(np.arange(n), self.col[:n].copy(), np.ones(n), -self.p, self.bids, solver, stopped)


def first_prices(C: Array) -> Array:
    """Column minima with the sign turned; 0 if columns may stay free."""
    if len(C) < C.shape[1]:
        return np.zeros(C.shape[1])
    g = c_transform_columns(C, np.zeros(len(C)))
    return np.where(np.isfinite(g), -g, 0.0)


def coarse_prices(C: Array, watch: Watch) -> Array | None:
    """c-transforms of the potentials of a random quarter, found likewise; None where a pilot does without."""
    n, m = C.shape
    if min(n, m) < 2 * PILOT:
        return None
    rng = np.random.default_rng(n)
    pilot = _part(C, rng, PILOT / n)[0]
    trial = Auction(pilot, first_prices(pilot))
    if trial.spread() == 0.0 or (trial.run(Watch(), COARSE) and trial.bids <= HARD * trial.m):
        return None
    part, rows = _part(C, rng, 1 / RATIO)
    prices = coarse_prices(part, watch)
    auction = Auction(part, first_prices(part) if prices is None else prices, stage="coarse auction")
    if watch.stopped or not auction.run(watch, COARSE):
        return None
    auction._shift()
    f = c_transform(part, -auction.p)
    if not np.isfinite(f).all():
        return None
    g = c_transform_columns(C, f, rows)
    g = np.where(np.isfinite(g), g, 0.0)
    return -g if n == m else -np.minimum(g, 0.0)


def _part(C: Array, rng: Any, share: float) -> tuple[Array, Array]:
    """A random submatrix with this share of rows and of columns, and which rows these are."""
    rows, cols = (np.sort(rng.choice(k, max(1, int(share * k)), replace=False)) for k in C.shape)
    return np.ascontiguousarray(C[rows][:, cols]), rows


def impossible(C: Array, row: int, cols: Array, problem: int | None = None) -> ValueError:
    """Hall's theorem in words: `row` and those matched to `cols` have finite costs in these columns only."""
    where = "" if problem is None else f" of problem {problem}"
    if len(cols) == 0:
        return ValueError(
            f"row {row}{where} has no finite cost, so it cannot be matched; give each row a column that it may take"
        )
    outside = np.ones(C.shape[1], bool)
    outside[cols] = False
    inside = np.flatnonzero(~np.isfinite(C[:, outside]).any(axis=1))
    some = ", ".join(map(str, inside[:5])) + (", ..." if len(inside) > 5 else "")
    columns = "1 column" if len(cols) == 1 else f"{len(cols)} columns"
    return ValueError(
        f"row {row}{where} cannot be matched: {len(inside)} rows ({some}) have finite costs in {columns} only, so no "
        f"complete matching exists; allow more pairs"
    )
