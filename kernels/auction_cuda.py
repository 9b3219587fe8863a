"""One large assignment problem on the device: launches of `auction.cu`.

`Costs` are what a problem costs, from a matrix or from points; `Auction` is the state of one, whose arrays never leave
the device. What waits for the device says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from otdist.kernels.copy_cuda import fill
from otdist.kernels.device import Space, ctype, kernel

KEPT = 32
# Rows below which rounds stay in one block, the rounds of a launch of it, and those between two looks at the counters.
FEW, ROUNDS, BETWEEN = 64, 500, 16
# Rounds that fit the key of a bid; rows that do; bids of a phase that fit the counter, with those of one more look.
LAST_ROUND, MOST_ROWS, MOST_BIDS = 0xFFFF, 1 << 24, 1 << 30
# Slices of rows of a column minimum.
SLICES = 64
# Matrix entries of a launch of the paths: some 0.05 s of one block.
PIECE_ENTRIES = 1 << 23


@dataclass(frozen=True)
class Costs:
    """Costs of n rows and m columns on the device: see `kernels/pair_costs.cuh`."""

    space: Space
    first: Any  # matrix (n, m), or points (n, d)
    second: Any  # None, or points (d, m)
    power: float = 1.0
    metric: int = 0  # 0: Euclidean, 1: city block, 2: Chebyshev

    @property
    def shape(self) -> tuple[int, int]:
        return int(self.first.shape[0]), int((self.first if self.second is None else self.second).shape[1])

    @property
    def kind(self) -> str:
        return f"OfMatrix<{ctype(self.first)}>" if self.second is None else f"OfPoints<{self.metric}>"

    def given(self) -> tuple[Any, ...]:
        d = 0 if self.second is None else len(self.second)
        return self.first, self.second, np.int32(d), np.float64(self.power)

    def row_minima(self, g: Any) -> Any:
        """f_i = min_j c_ij - g_j."""
        n, m = self.shape
        f = self.space.empty((n,), np.float64)
        kernel("auction.cu", f"row_minima<{self.kind}>")(self.space, n, 256, (*self.given(), np.int32(m), g, f))
        return f

    def column_minima(self, f: Any = None) -> Any:
        """g_j = min_i c_ij - f_i."""
        n, m = self.shape
        rows = -(-n // min(n, SLICES))
        slices, across = -(-n // rows), -(-m // 256)
        parts, g = self.space.empty((slices, m), np.float64), self.space.empty((m,), np.float64)
        sizes = np.int32(n), np.int32(m), f, np.int32(rows), parts
        kernel("auction.cu", f"column_minima<{self.kind}>")(
            self.space, (across, slices, 1), 256, (*self.given(), *sizes)
        )
        kernel("auction.cu", "least_of")(self.space, across, 256, (parts, np.int32(slices), np.int32(m), g))
        return g

    def listed(self, rows: Any, cols: Any) -> Any:
        """c(rows[s], cols[s]) of int64 arrays."""
        out = self.space.empty((len(rows),), np.float64)
        given = *self.given(), np.int32(self.shape[1]), rows, cols, np.int32(len(rows)), out
        kernel("auction.cu", f"listed<{self.kind}>")(self.space, -(-len(rows) // 256), 256, given)
        return out


class Auction:
    """An auction of n rows for n columns, or, by shortest paths alone, for more columns."""

    def __init__(self, costs: Costs) -> None:
        self.costs, self.space = costs, costs.space
        n, m = self.n, self.m = costs.shape
        if n == m > MOST_ROWS:
            raise ValueError(f"found {n} points to match; a GPU matches at most {MOST_ROWS}: pass arrays on the CPU")
        real, whole = (lambda *s: self.space.empty(s, np.float64)), (lambda *s: self.space.empty(s, np.int32))
        self.p, self.cache, self.bound, self.paid, self.offer = real(m), real(n, KEPT), real(n), real(n), real(n)
        self.columns, self.col, self.row, self.target = whole(n, KEPT), whole(n), whole(m), whole(n)
        self.best = self.space.zeros((m,), np.uint64)
        self.lists, self.unread = [whole(n), whole(n)], whole(n)
        self.counters, self.status = self.space.zeros((8,), np.int32), self.space.zeros((1,), np.int32)
        self.round = 1
        self.bids = self.reads = 0

    def begin(self, prices: Any) -> None:
        """Prices (m,) on the device; nothing matched, nothing read."""
        self.p = prices
        for array, number in ((self.bound, -np.inf), (self.cache, np.inf), (self.paid, 0.0)):
            fill(self.space, array, number)
        for index, number in ((self.col, -1), (self.row, -1), (self.columns, 0)):
            fill(self.space, index, number)

    def _state(self, eps: float, slack: float, reach: float) -> tuple[Any, ...]:
        arrays = self.p, self.cache, self.bound, self.paid, self.offer, self.columns, self.col, self.row, self.target
        rest = self.best, *self.lists, self.unread, self.counters
        return (*arrays, *rest, *(np.float64(x) for x in (eps, slack, reach)), np.int32(self.round))

    def release(self, eps: float, slack: float) -> tuple[int, float, float, float]:
        """Free the rows that are too far from their best: how many are free; sums of excesses, paid, |paid|. Waits."""
        blocks = -(-self.n // 256)
        sums = self.space.empty((blocks, 3), np.float64)
        fill(self.space, self.counters, 0)
        kernel("auction.cu", "release")(
            self.space, blocks, 256, (*self._state(eps, slack, 0.0), np.int32(self.n), sums)
        )
        gap, paid, size = self.space.host(sums).sum(axis=0)
        return int(self.space.host(self.counters)[0]), float(gap), float(paid), float(size)

    def read_all(self) -> None:
        """Read every row once: nobody can bid before."""
        self.release(np.inf, 0.0)
        state, given = self._state(0.0, 0.0, 0.0), (*self.costs.given(), np.int32(self.m))
        wide = 8 * self.space.processors
        kernel("auction.cu", "bids")(self.space, min(-(-self.n // 8), wide), 256, (*state, self.status))
        kernel("auction.cu", f"readings<{self.costs.kind}>")(self.space, min(self.n, wide), 256, (*given, *state))

    def sample(self, rows: int) -> tuple[Any, Any, Any]:
        """Caches, columns and bounds of about so many rows, on the host. Waits."""
        step = max(1, self.n // rows)
        cache, columns, bound = (a[::step] for a in (self.cache, self.columns, self.bound))
        host, contiguous = self.space.host, self.space.contiguous
        return host(contiguous(cache)), host(contiguous(columns)), host(contiguous(bound))

    def rounds(self, free: int, eps: float, slack: float, reach: float) -> int:
        """Some rounds; how many rows are free then. Waits."""
        if self.round + max(ROUNDS, BETWEEN) > LAST_ROUND:
            fill(self.space, self.best, 0)
            self.round = 1
        given = (*self.costs.given(), np.int32(self.m))
        if free <= FEW:
            args = *given, np.int32(ROUNDS), *self._state(eps, slack, reach), self.status
            kernel("auction.cu", f"few_bidders<{self.costs.kind}>")(self.space, 1, 256, args)
            self.round += ROUNDS
        else:
            wide = 8 * self.space.processors
            for _ in range(BETWEEN):
                state = self._state(eps, slack, reach)
                kernel("auction.cu", "bids")(self.space, min(-(-free // 8), wide), 256, (*state, self.status))
                kernel("auction.cu", f"readings<{self.costs.kind}>")(self.space, min(free, wide), 256, (*given, *state))
                kernel("auction.cu", "settling")(self.space, min(-(-free // 256), wide), 256, state)
                kernel("auction.cu", "turn")(self.space, 1, 1, (self.counters,))
                self.lists.reverse()
                self.round += 1
        found = self.space.host(self.counters)
        self.bids, self.reads = int(found[3]), int(found[4])
        return int(found[0])

    def stuck(self) -> bool:
        """Whether a row had no finite cost. Waits."""
        return bool(self.space.host(self.status)[0])

    def paths(self, free_rows: np.ndarray[Any, np.dtype[Any]]) -> Paths:
        """Shortest augmenting paths for these rows, from the prices and matches as they are."""
        return Paths(self, free_rows)


class Paths:
    """Rows to be matched by shortest paths, in pieces."""

    def __init__(self, auction: Auction, free_rows: np.ndarray[Any, np.dtype[Any]]) -> None:
        space, m = auction.space, auction.m
        self.auction, self.count, self.at, self.steps = auction, len(free_rows), 0, 0
        self.free_rows = space.put(free_rows.astype(np.int32)) if len(free_rows) else None
        self.g = space.put(-space.host(auction.p))
        self.scratch = space.empty((m,), np.float64), space.empty((m,), np.uint8)
        self.via, self.done = space.empty((m,), np.int32), space.empty((3,), np.int32)

    def step(self) -> int:
        """One launch: the columns of the tree of a row that cannot be matched, or -1. Waits."""
        if self.at >= self.count:
            return -1
        auction = self.auction
        sizes = np.int32(self.at), np.int32(self.count), np.int32(max(1, PIECE_ENTRIES // auction.m)), self.done
        given = *auction.costs.given(), np.int32(auction.m), self.g, *self.scratch, auction.col, auction.row
        kernel("auction.cu", f"finish<{auction.costs.kind}>")(
            auction.space, 1, 512, (*given, self.via, self.free_rows, *sizes)
        )
        at, steps, tree = auction.space.host(self.done).tolist()
        self.at, self.steps = at, self.steps + steps
        return int(tree)
