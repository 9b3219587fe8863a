"""Optimal assignment of the rows of a cost matrix to its columns: the choice of engine.

    few rows, or fewer than columns    Jonker-Volgenant, whole in one kernel, as long as its paths are short
    few rows, long paths               network simplex, whole in one kernel
    far fewer rows than columns        shortest augmenting paths from there
    else                               auction with falling eps, then a c-transform that judges it
    not proved optimal                 shortest augmenting paths from the auction's prices

The auction is the fast part and may get lost in price wars; the paths are the sure part. Integer costs end with integer
potentials and no gap.
"""

from __future__ import annotations

import math
import sys

import numpy as np

from otdist._arrays import Array
from otdist._evaluate import lend
from otdist.kernels import threads
from otdist.kernels.pricing import largest_integer
from otdist.kernels.small import solve_problems
from otdist.transport._auction import FIRST, WARM, Auction, coarse_prices, first_prices, impossible
from otdist.transport._solution import Solution, Watch
from otdist.transport._weighted import whole

# Jonker-Volgenant begins up to so many rows, and up to so many entries if columns stay free; beyond so many rows of a
# square problem, where paths may be long, it is tried with a few steps a row, and gets many if few rows are left then.
SMALL, ENTRIES, PATIENT, TRIAL, REST, STEPS = 500, 1 << 25, 100, 2, 0.05, 16
# From so many columns a row on, the paths are short and the auction is not for it.
WIDE = 1.5
# Nanoseconds of an entry of a small problem; pieces of a batch, whatever the number of threads.
ENTRY, PIECES = 10.0, 32


def solve(C: Array, watch: Watch, start: Array | None = None, integer: float | None = None) -> Solution:
    """Match every row of C (n, m), n <= m, to a column of its own at the least total cost; +inf forbids a pair.

    start: column potentials of an earlier, similar problem. integer: `largest_integer` of C, if it is known.
    ValueError if no complete matching exists.
    """
    C = lend(C)
    n, m = C.shape
    cols, f, g = np.full((1, n), -1), np.empty((1, n)), np.zeros((1, m))
    if n <= SMALL or (n < m and n * m <= ENTRIES):
        steps = sys.maxsize if n <= (PATIENT if n == m else SMALL) else TRIAL * n
        done = n == 0 or _whole(C[None], cols, f, g, 0, 1, steps)
        if not done and np.count_nonzero(cols < 0) <= REST * n:
            cols, g = np.full((1, n), -1), np.zeros((1, m))
            done = _whole(C[None], cols, f, g, 0, 1, STEPS * n)
        if done:
            return Solution(np.arange(n), cols[0], np.ones(n), g[0], n, "Jonker-Volgenant")
        if n == m:
            masses = np.ones(n)
            found = whole(C, masses, masses, False)
            if found is not None:
                return found
    integer = largest_integer(C) if integer is None else integer
    if m >= WIDE * n:
        auction = Auction(C, -g[0], integer)
        auction.adopt(cols[0])
        return auction.conclude(watch, "shortest augmenting paths")
    prices = first_prices(C) if start is None else -start
    auction = Auction(C, prices, integer)
    if start is None and auction.easy():
        if auction.finish(watch, STEPS * m):
            return auction.solution("shortest augmenting paths")
        auction.reprice(prices)
    if start is None and not watch.stopped:
        coarse = coarse_prices(C, watch)
        auction.reprice(prices if coarse is None else coarse)
    done = not watch.stopped and auction.run(watch, first_eps=FIRST if start is None else WARM)
    if auction.bad >= 0:
        raise impossible(C, auction.bad, np.zeros(0, np.int64))
    if done and auction.judge():
        return auction.solution("auction")
    return auction.conclude(watch, "auction, then shortest augmenting paths")


def solve_batch(C: Array) -> tuple[Array, Array, Array]:
    """Columns (b, n) and potentials f (b, n), g (b, m) of problems C (b, n, m), n <= m, spread over threads."""
    b, n, m = C.shape
    cols, f, g = np.empty((b, n), np.int64), np.empty((b, n)), np.zeros((b, m))
    if C.size == 0:
        return cols, f, g
    C = lend(C)

    def tile(b0: int, b1: int) -> None:
        _whole(C, cols, f, g, b0, b1, sys.maxsize)

    threads.run(tile, threads.spans(b, math.ceil(b / PIECES)), ENTRY * C.size)
    return cols, f, g


def _whole(C: Array, cols: Array, f: Array, g: Array, b0: int, b1: int, steps: int) -> bool:
    """Jonker-Volgenant on problems b0 ... b1 - 1; False if `steps` did not do."""
    n, m = C.shape[1:]
    free, order, via, row = np.empty(n, np.int64), *np.empty((3, m), np.int64)
    bad = solve_problems(C, b0, b1, steps, cols, row, f, g, free, np.empty(m), via, order, np.empty(m))
    if bad >= 0 and cols[bad, 0] < -1:
        raise impossible(C[bad], int(free[0]), order[: -2 - cols[bad, 0]], bad if len(C) > 1 else None)
    return bool(bad < 0)
