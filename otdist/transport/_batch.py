"""Thousands of small entropic problems at once, one to a thread: `kernels/sinkhorn_batch.py` at work.

What is not solved within the cap on passes says so; it is for the engines of single problems.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from otdist._arrays import Array
from otdist._evaluate import lend
from otdist.kernels import sinkhorn_batch, threads
from otdist.transport._gibbs import Bounds
from otdist.transport._rounded import Sums, bounds
from otdist.transport._solution import Watch

SOLVER = "absorbed scaling and Newton, batched"
# Passes over the pairs that a problem may take before it is left to other engines.
CAP = 4000
# Pairs of a tile of problems (1 MB), tiles between two looks at the watch, nanoseconds per pair.
TILE, ROUND, NANOSECONDS = 1 << 17, 8, 20.0
GAP = 512
REASONS = ("", "max_iter", "stalled")


@dataclass(frozen=True)
class BatchAnswer:
    """Potentials in units of epsilon, and what they prove in units of the costs: float64, (k, ...) for k problems.

    Where there is no mass, potentials are the extension of the others, which do not depend on them.
    """

    phi: Array  # (k, n)
    gamma: Array  # (k, m)
    error: Array  # (k,) the marginal error of these potentials
    iterations: Array  # (k,) int64, passes over all pairs
    stopped: Array  # (k,) of strings: "", "max_iter", "time_limit", "callback" or "stalled"
    bounds: Bounds  # of arrays (k,)


def solve(
    costs: Any,
    a: Array,
    b: Array,
    epsilon: Array,
    tol: float,
    kappa: Array,
    watch: Watch,
    start: Array | None = None,
    *,
    max_iter: int | None = None,
    newton: bool = True,
) -> BatchAnswer:
    """Solve k problems of n x m pairs.

    costs (k, n, m), float32 or float64, +inf for forbidden pairs, or (x (k, n, d), y (k, m, d), tag of a cost);
    a (k, n) and b (k, m) with zeros; epsilon (k,) in units of the costs; kappa (k, 2); start: gamma (k, m). `max_iter`
    is for each problem; without `newton` there are only scalings.
    """
    batch = _Batch(costs, a, b, epsilon, kappa)
    k, n, m = batch.shape
    gamma, warm = (np.zeros((k, m)), False) if start is None else (np.array(start, np.float64), True)
    error, passes, code = np.zeros(k), np.zeros(k, np.int64), np.zeros(k, np.int64)
    cap = CAP if max_iter is None else max_iter
    # passes that cost as much as the few steps of Newton they stand against
    patience = 100.0 + 1.2 * m if newton else np.inf
    judged = batch.judged()

    def tile(first: int, last: int) -> None:
        work = batch.load(first, last)
        sinkhorn_batch.solve(
            *work.loaded, *batch.problem, tol, warm, patience, cap, gamma, error, passes, code,
            work.P, work.A, work.rowwise, work.colwise, first, last,
        )  # fmt: skip
        batch.judge(work, gamma, judged, first, last)

    tiles = list(threads.spans(k, max(1, TILE // (n * m))))
    reached = 0
    for i in range(0, len(tiles), ROUND):
        if i and watch.stop("batch", int(passes[:reached].mean()), solved=reached / k):
            break
        some = tiles[i : i + ROUND]
        threads.run(tile, some, NANOSECONDS * n * m * (some[-1][1] - some[0][0]))
        reached = some[-1][1]
    stopped = np.array(REASONS, dtype="<U10")[code]
    if reached < k:  # judged as they start
        stopped[reached:] = watch.stopped
        for first, last in tiles:
            if first >= reached:
                batch.judge(batch.load(first, last), gamma, judged, first, last)
    found = batch.bounds(gamma, judged)
    missed = (stopped == "") & ~(np.asarray(found.marginal_error) <= tol)
    stopped[missed] = "stalled"  # the rounding of potentials that had to be rounded
    return BatchAnswer(judged[0], gamma, np.asarray(found.marginal_error), passes, stopped, found)


def _apart(*shapes: tuple[int, ...]) -> list[Array]:
    """Empty arrays in one piece of memory, GAP numbers between them.

    A vectorised loop takes what it writes close behind what it reads for an overlap and sums one by one, so bits
    would depend on where the arrays happen to lie.
    """
    sizes = [math.prod(shape) for shape in shapes]
    ends = list(itertools.accumulate(size + GAP for size in sizes))
    memory = np.empty(ends[-1])
    return [memory[end - size : end].reshape(shape) for end, size, shape in zip(ends, sizes, shapes, strict=True)]


@dataclass(frozen=True)
class _Work:
    """Scratch of one tile of problems, and the problems in it."""

    loaded: tuple[Array, ...]  # Z, rows, cols, counts, least, spread
    P: Array
    A: Array
    rowwise: Array
    colwise: Array


class _Batch:
    def __init__(self, costs: Any, a: Array, b: Array, epsilon: Array, kappa: Array) -> None:
        self._points = isinstance(costs, tuple)
        if self._points:
            x, y, tag = costs
            self._costs: tuple[Any, ...] = (tag, lend(x), lend(y))
        else:
            self._costs = (lend(costs),)
        a, b = (lend(np.asarray(w, np.float64)) for w in (a, b))
        k, n, m = len(a), a.shape[1], b.shape[1]
        self.shape = (k, n, m)
        epsilon = lend(np.broadcast_to(np.asarray(epsilon, np.float64), (k,)))
        kappa = lend(np.broadcast_to(np.asarray(kappa, np.float64), (k, 2)))
        self.problem = (a, b, epsilon, kappa)

    def load(self, first: int, last: int) -> _Work:
        _, n, m = self.shape
        a, b, epsilon, _ = self.problem
        N, M = (-(-s // sinkhorn_batch.LANES) * sinkhorn_batch.LANES for s in (n, m))
        count = last - first
        sides = (count, N, M), (N, M), (M, M), (sinkhorn_batch.ROWWISE, N), (sinkhorn_batch.COLWISE, M)
        Z, *scratch = _apart(*sides)
        loaded = (
            Z,
            np.empty((count, n), np.int64),
            np.empty((count, m), np.int64),
            np.empty((count, 2), np.int64),
            np.empty(count),
            np.empty(count),
        )
        if self._points:
            turned = np.empty((self._costs[1].shape[2], m))
            sinkhorn_batch.load_points(*self._costs, a, b, epsilon, loaded[0], turned, *loaded[1:], first, last)
        else:
            sinkhorn_batch.load_costs(*self._costs, a, b, epsilon, *loaded, first, last)
        return _Work(loaded, *scratch)

    def judged(self) -> tuple[Array, ...]:
        """phi, sums, columns, kept, scale, f, g, costs."""
        k, n, m = self.shape
        return tuple(np.zeros((k, s)) for s in (n, n, m, n, m, n, m, 3))

    def judge(self, work: _Work, gamma: Array, judged: tuple[Array, ...], first: int, last: int) -> None:
        from otdist.kernels.sinkhorn_batch_bounds import judge

        judge(
            *work.loaded[:5], *self.problem, gamma, *judged, work.P, work.rowwise, work.colwise, first, last
        )  # fmt: skip

    def bounds(self, gamma: Array, judged: tuple[Array, ...]) -> Bounds:
        a, b, epsilon, kappa = self.problem
        phi, rows, columns, kept, scale, f, g, spent = judged
        linear, moved, repair = spent.T
        sums = Sums(a, b, phi, gamma, rows, columns, kept, scale, f, g, linear, moved, repair, epsilon, kappa)
        return bounds(sums)
