"""Truncated lazy auction for transportation: most of the mass placed, at prices that are nearly dual.

Rows bid for the column of least c_ij + p_j and raise its price by their margin over the second best, plus epsilon
(Bertsekas, 1981; transportation: Bertsekas and Castanon, 1989). An entry of a column is a piece of mass with the price
at which it was won, its level: a bid takes what is free, then ousts the entries of lowest level. A full column's price
is its lowest level. Prices only rise, so that the cached columns of a row (`rows_cached.py`) serve until its second
best exceeds the bound; such rows are handed back in a batch to be scanned anew.

The auction is a start, not an answer. It ends at a small rest of unplaced mass or at a cap on bids and scans: the last
rows would bid longest. `complete` places the rest greedily, and the network simplex makes the plan optimal.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from otdist.kernels.jit import INLINE, kernel

# places of the counters
HEAD, TAIL, WAITING, FREE, BIDS, UNPLACED, PENDING, WORK, FULL = range(9)


class Auction(NamedTuple):
    """State of an auction of n rows and m columns."""

    columns: Any  # (n, k) int32: cached columns of a row
    costs: Any  # (n, k)
    bounds: Any  # (n,): of the reduced costs of the others
    prices: Any  # (m,)
    excess: Any  # (n,) int64: mass not placed
    free: Any  # (m,) int64: mass not taken
    first: Any  # (m,) int32: list of entries
    entry_row: Any  # int32, one place per entry
    entry_mass: Any  # int64
    entry_level: Any
    entry_cost: Any
    entry_next: Any  # int32
    queue: Any  # (n + 1,) int32: rows that will bid
    queued: Any  # (n,) bool
    pending: Any  # (p,) int32: rows to be scanned anew
    counters: Any  # (9,) int64


def new_auction(columns: Any, costs: Any, bounds: Any, prices: Any, a: Any, b: Any, heavy: int, batch: int) -> Auction:
    """An auction in which nothing is placed; rows of more than `heavy` mass do not bid."""
    n, m = len(a), len(b)
    entries = 4 * (n + m)
    bidders = np.flatnonzero(a <= heavy)
    queue = np.zeros(n + 1, np.int32)
    queue[: len(bidders)] = bidders
    counters = np.zeros(9, np.int64)
    counters[[TAIL, WAITING, UNPLACED]] = len(bidders) % (n + 1), len(bidders), a[bidders].sum()
    return Auction(
        columns,
        costs,
        bounds,
        prices,
        a.copy(),
        b.copy(),
        np.full(m, -1, np.int32),
        np.empty(entries, np.int32),
        np.empty(entries, np.int64),
        np.empty(entries),
        np.empty(entries),
        np.arange(1, entries + 1, dtype=np.int32),
        queue,
        a <= heavy,
        np.empty(batch, np.int32),
        counters,
    )


@njit(**INLINE)
def _choose(A, i):
    """The best cached column of row i, its and the second best reduced cost, whether the cache may be trusted."""
    best, second, slot = np.inf, np.inf, -1
    for t in range(A.columns.shape[1]):
        value = A.costs[i, t] + A.prices[A.columns[i, t]]
        if value < second:
            if value < best:
                second, best, slot = best, value, t
            else:
                second = value
    bound = A.bounds[i]
    sure = second <= bound
    if not sure and best <= bound and bound - best > 0.5 * (second - best):
        second, sure = bound, True
    return slot, best, second, sure


@njit(**INLINE)
def _enqueue(A, i):
    counters = A.counters
    if not A.queued[i]:
        A.queued[i] = True
        A.queue[counters[TAIL]] = i
        counters[TAIL] += 1
        counters[WAITING] += 1
        if counters[TAIL] == len(A.queue):
            counters[TAIL] = 0


@njit(**INLINE)
def _oust(A, i, j, level, mass):
    """Take up to `mass` in column j from other rows' entries below `level`; returns what is taken."""
    counters = A.counters
    taken = np.int64(0)
    while mass > 0:
        lowest, at, before = np.inf, -1, -1
        previous, e = -1, np.int64(A.first[j])
        while e >= 0:
            if A.entry_row[e] == i:
                A.entry_level[e] = level
            elif A.entry_level[e] < lowest:
                lowest, at, before = A.entry_level[e], e, previous
            previous, e = e, np.int64(A.entry_next[e])
            counters[WORK] += 1
        if at < 0 or lowest >= level:
            break
        part, loser = min(A.entry_mass[at], mass), np.int64(A.entry_row[at])
        A.entry_mass[at] -= part
        mass -= part
        taken += part
        A.excess[loser] += part
        _enqueue(A, loser)
        if A.entry_mass[at] == 0:
            if before < 0:
                A.first[j] = A.entry_next[at]
            else:
                A.entry_next[before] = A.entry_next[at]
            A.entry_next[at] = counters[FREE]
            counters[FREE] = at
    return taken


@njit(**INLINE)
def _settle(A, i, j, level, cost, placed):
    """Write the mass placed into an entry of the row; the price of a full column is its lowest level."""
    counters = A.counters
    full = A.free[j] == 0
    if placed == 0:
        A.prices[j] = level
        return
    own, lowest = -1, level
    if full:
        e = np.int64(A.first[j])
        while e >= 0:
            if A.entry_row[e] == i:
                own = e
                A.entry_level[e] = level
            lowest = min(lowest, A.entry_level[e])
            e = np.int64(A.entry_next[e])
            counters[WORK] += 1
    else:
        e = np.int64(A.first[j])
        if e >= 0 and A.entry_row[e] == i:
            own = e
            A.entry_level[e] = level
    if own >= 0:
        A.entry_mass[own] += placed
    else:
        e = counters[FREE]
        counters[FREE] = A.entry_next[e]
        A.entry_row[e], A.entry_mass[e], A.entry_level[e], A.entry_cost[e] = i, placed, level, cost
        A.entry_next[e] = A.first[j]
        A.first[j] = e
    if full:
        A.prices[j] = lowest


@kernel
def bid(A, epsilon, rest, most_bids, most_work):
    """Bids until at most `rest` is unplaced, nobody can bid before a scan, or the caps are reached.

    counters[FULL] is set when no entry is left.
    """
    counters = A.counters
    stop = counters[WORK] + most_work
    while counters[WAITING] > 0 and counters[UNPLACED] > rest and counters[BIDS] < most_bids:
        if counters[PENDING] == len(A.pending) or counters[WORK] > stop:
            return
        if counters[FREE] >= len(A.entry_row):
            counters[FULL] = 1
            return
        i = np.int64(A.queue[counters[HEAD]])
        counters[HEAD] += 1
        if counters[HEAD] == len(A.queue):
            counters[HEAD] = 0
        counters[WAITING] -= 1
        slot, best, second, sure = _choose(A, i)
        if not sure:
            A.pending[counters[PENDING]] = i
            counters[PENDING] += 1
            continue
        A.queued[i] = False
        if best == np.inf:
            continue  # no column is allowed: `complete` finds out
        j = np.int64(A.columns[i, slot])
        counters[BIDS] += 1
        counters[WORK] += 8
        # With one column only to choose from, a row bids as if the next were far above.
        margin = second - best if second < np.inf else 64.0 * epsilon
        level = A.prices[j] + margin + epsilon
        mass = A.excess[i]
        placed = min(A.free[j], mass)
        A.free[j] -= placed
        counters[UNPLACED] -= placed
        if mass > placed:
            placed += _oust(A, i, j, level, mass - placed)
        _settle(A, i, j, level, A.costs[i, slot], placed)
        A.excess[i] = mass - placed
        if mass > placed:
            _enqueue(A, i)


@kernel
def resume(A):
    """Put the pending rows, now scanned, back at the end of the queue."""
    for t in range(A.counters[PENDING]):
        i = np.int64(A.pending[t])
        A.queued[i] = False
        _enqueue(A, i)
    A.counters[PENDING] = 0


@kernel
def extract(A, rows, columns, mass, costs, slot_of):
    """The entries as arcs, those of one pair added up; returns their number. Scratch: slot_of (n,) int32."""
    count = 0
    for i in range(len(slot_of)):
        slot_of[i] = -1
    for j in range(len(A.first)):
        begin = count
        e = np.int64(A.first[j])
        while e >= 0:
            i = np.int64(A.entry_row[e])
            slot = np.int64(slot_of[i])
            if slot >= begin:
                mass[slot] += A.entry_mass[e]
            else:
                slot_of[i] = count
                rows[count], columns[count], mass[count], costs[count] = i, j, A.entry_mass[e], A.entry_cost[e]
                count += 1
            e = np.int64(A.entry_next[e])
    return count
