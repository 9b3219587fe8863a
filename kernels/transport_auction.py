"""Truncated lazy auction for transportation: most of the mass placed, at prices that are nearly dual.

Rows bid for the column of least c_ij + p_j and raise its price by their margin over the second best, plus epsilon
(Bertsekas, 1981; transportation: Bertsekas and Castanon, 1989). An entry of a column is a piece of mass with the price
at which it was won, its level: a bid takes what is free, then ousts the entries of lowest level. A full column's price
is its lowest level. Prices only rise, so that the cached columns of a row (`rows_cached.py`) serve until its second
best exceeds the bound; such rows are handed back in a batch to be scanned anew.

The auction is a start, not an answer. It ends at a small rest of unplaced mass or at a cap on bids and scans: the last
rows would bid longest. The rest is placed greedily, and the network simplex makes the plan optimal.

Measured: 0.25 us a bid, 4000 rows and columns, one core.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from otdist.kernels.jit import kernel

# places of the counters
HEAD, TAIL, WAITING, FREE, BIDS, UNPLACED, PENDING, WORK, FULL = range(9)


class Auction(NamedTuple):
    """State of an auction of n rows and m columns."""

    prices: Any  # (m,)
    excess: Any  # (n,) int64: mass not placed
    free: Any  # (m,) int64: mass not taken
    first: Any  # (m,) int32: list of entries
    entry_row: Any  # int32, one place per entry
    entry_column: Any  # int32
    entry_mass: Any  # int64, 0 where there is none
    entry_level: Any
    entry_next: Any  # int32
    queue: Any  # (n + 1,) int32: rows that will bid
    queued: Any  # (n,) bool
    pending: Any  # (p,) int32: rows to be scanned anew
    counters: Any  # (9,) int64


def new_auction(prices: Any, a: Any, b: Any, heavy: int, batch: int) -> Auction:
    """An auction in which nothing is placed; rows of more than `heavy` mass do not bid."""
    n, m = len(a), len(b)
    entries = 4 * (n + m)
    bidders = np.flatnonzero(a <= heavy)
    queue = np.zeros(n + 1, np.int32)
    queue[: len(bidders)] = bidders
    counters = np.zeros(9, np.int64)
    counters[[TAIL, WAITING, UNPLACED]] = len(bidders) % (n + 1), len(bidders), a[bidders].sum()
    return Auction(
        prices,
        a.copy(),
        b.copy(),
        np.full(m, -1, np.int32),
        np.empty(entries, np.int32),
        np.empty(entries, np.int32),
        np.zeros(entries, np.int64),
        np.empty(entries),
        np.arange(1, entries + 1, dtype=np.int32),
        queue,
        np.asarray(a <= heavy),
        np.empty(batch, np.int32),
        counters,
    )


def resume(A: Auction) -> None:
    """Put the pending rows, now scanned, at the end of the queue."""
    counters, size = A.counters, len(A.queue)
    count = int(counters[PENDING])
    A.queue[(int(counters[TAIL]) + np.arange(count)) % size] = A.pending[:count]
    counters[TAIL] = (int(counters[TAIL]) + count) % size
    counters[WAITING] += count
    counters[PENDING] = 0


def entries(A: Auction) -> tuple[Any, Any, Any]:
    """Rows, columns and mass placed, those of one pair added up."""
    e = np.flatnonzero(A.entry_mass > 0)
    keys = A.entry_row[e].astype(np.int64) * len(A.free) + A.entry_column[e]
    order = np.argsort(keys, kind="stable")
    keys, mass = keys[order], A.entry_mass[e][order]
    begins = np.flatnonzero(np.diff(keys, prepend=-1))
    rows, columns = np.divmod(keys[begins], len(A.free))
    return rows, columns, np.add.reduceat(mass, begins) if len(begins) else mass


@kernel
def bid(A, columns, costs, bounds, epsilon, rest, most_bids, most_work):
    """Bids until at most `rest` is unplaced, nobody can bid before a scan, or the caps are reached.

    Row i knows its cached `columns[i]`, their `costs[i]` and `bounds[i]` on the rest. counters[FULL] is set when no
    entry is left.
    """
    counters, prices, excess, free, first = A.counters, A.prices, A.excess, A.free, A.first
    owner, held, level, following = A.entry_row, A.entry_mass, A.entry_level, A.entry_next
    k = columns.shape[1]
    stop = counters[WORK] + most_work
    while counters[WAITING] > 0 and counters[UNPLACED] > rest and counters[BIDS] < most_bids:
        if counters[PENDING] == len(A.pending) or counters[WORK] > stop:
            return
        if counters[FREE] >= len(owner):
            counters[FULL] = 1
            return
        i = np.int64(A.queue[counters[HEAD]])
        counters[HEAD] += 1
        if counters[HEAD] == len(A.queue):
            counters[HEAD] = 0
        counters[WAITING] -= 1
        best, second, slot = np.inf, np.inf, np.int64(0)
        for t in range(k):
            value = costs[i, t] + prices[columns[i, t]]
            if value < second:
                if value < best:
                    second, best, slot = best, value, t
                else:
                    second = value
        bound = bounds[i]
        if second > bound:
            if best > bound or bound - best <= 0.5 * (second - best):
                A.pending[counters[PENDING]] = i
                counters[PENDING] += 1
                continue
            second = bound
        A.queued[i] = False
        if best == np.inf:
            continue  # no column is allowed: the completion finds out
        j = np.int64(columns[i, slot])
        counters[BIDS] += 1
        counters[WORK] += k
        # With one column only to choose from, a row bids as if the next were far above.
        offer = prices[j] + epsilon + (second - best if second < np.inf else 64.0 * epsilon)
        mass = excess[i]
        placed = min(free[j], mass)
        free[j] -= placed
        mass -= placed
        counters[UNPLACED] -= placed
        while mass > 0:
            lowest, at, before = np.inf, np.int64(-1), np.int64(-1)
            previous, e = np.int64(-1), np.int64(first[j])
            while e >= 0:
                if owner[e] != i and level[e] < lowest:
                    lowest, at, before = level[e], e, previous
                previous, e = e, np.int64(following[e])
                counters[WORK] += 1
            if lowest >= offer:
                break
            part, loser = min(held[at], mass), np.int64(owner[at])
            held[at] -= part
            mass -= part
            placed += part
            excess[loser] += part
            if not A.queued[loser]:
                A.queued[loser] = True
                A.queue[counters[TAIL]] = loser
                counters[TAIL] += 1
                counters[WAITING] += 1
                if counters[TAIL] == len(A.queue):
                    counters[TAIL] = 0
            if held[at] == 0:
                if before < 0:
                    first[j] = following[at]
                else:
                    following[before] = following[at]
                following[at] = counters[FREE]
                counters[FREE] = at
        excess[i] = mass
        if placed > 0:
            e = counters[FREE]
            counters[FREE] = following[e]
            owner[e], held[e], level[e], A.entry_column[e], following[e] = i, placed, offer, j, first[j]
            first[j] = e
        if free[j] == 0:
            # The row's older entries move up with it; those of one row join.
            lowest, own, previous, e = offer, np.int64(-1), np.int64(-1), np.int64(first[j])
            while e >= 0:
                after = np.int64(following[e])
                if owner[e] == i and own >= 0:
                    held[own] += held[e]
                    held[e] = 0
                    following[previous] = after
                    following[e] = counters[FREE]
                    counters[FREE] = e
                else:
                    if owner[e] == i:
                        own = e
                        level[e] = offer
                    lowest = min(lowest, level[e])
                    previous = e
                counters[WORK] += 1
                e = after
            prices[j] = lowest
        if mass > 0 and not A.queued[i]:
            A.queued[i] = True
            A.queue[counters[TAIL]] = i
            counters[TAIL] += 1
            counters[WAITING] += 1
            if counters[TAIL] == len(A.queue):
                counters[TAIL] = 0
