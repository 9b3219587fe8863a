"""Exact weighted transport, large problems: coarse prices, auction, crossover, simplex on candidates, pricing."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from otdist._arrays import Array
from otdist.kernels import network as basis
from otdist.kernels import transport_auction as auction
from otdist.kernels.coarse import aggregate, extend
from otdist.kernels.completion import place
from otdist.kernels.rows_cached import fill_cache
from otdist.kernels.violators import merge, violators
from otdist.transport import _weighted_small
from otdist.transport._solution import Solution, Watch
from otdist.transport._weighted import (
    ANCHORS,
    BIDS,
    CACHED,
    PIECE,
    RATIO,
    REST,
    ROWS_PRICED,
    SCANS,
    SMALL,
    STEP,
    Basis,
    Compiling,
    Costs,
    Masses,
    Stored,
    count_mass,
    lend,
    tolerance,
)

BATCH = 128  # rows scanned anew at a time
HEAVY = 8  # a row of more than 1/8 of all mass does not bid: it would take part in everything
MOST_PIVOTS = 1000  # per node: far beyond what is ever needed


class Found(NamedTuple):
    """Violators, and how many."""

    rows: Array
    columns: Array
    costs: Array
    count: Array


def solve_large(costs: Costs, a: Array, b: Array, masses: Masses, watch: Watch, start: Any = None) -> Solution:
    """Transport of these masses, by all four stages."""
    found, iterations, stopped = level(costs, masses, watch, 0, start)
    return found.solution(a, b, masses.unit, iterations, stopped)


def level(costs: Costs, masses: Masses, watch: Watch, depth: int, start: Any) -> tuple[Basis, int, str]:
    """The optimal basis at one depth of coarsening; bids and pivots; what stopped it."""
    n, m = costs.shape
    prices = coarse_prices(costs, masses, watch, depth) if start is None else -np.asarray(start, np.float64)
    k = min(CACHED, m - 1)
    cached = np.empty((n, k), np.int32), np.empty((n, k)), np.empty(n)
    scratch = np.empty(m // 32 + 1), np.empty(k + 1), np.empty(k + 1, np.int64)
    spread = 0.0
    for tile, places, rows in costs.tiles():
        spread += fill_cache(tile, places, rows, 0, len(rows), prices, *cached, *scratch)
    bids, arcs = start_plan(costs, masses, watch, prices, cached, scratch, STEP * spread / n)
    rows, columns, mass, arc_costs = arcs
    order = np.argsort(-mass, kind="stable")
    rows, columns, mass, arc_costs = rows[order], columns[order], mass[order], arc_costs[order]
    found = Basis(n, m)
    estimates = (cached[1] + prices[cached[0]]).min(axis=1)
    estimates[~np.isfinite(estimates)] = 0.0
    inside = found.plant(rows, columns, mass, arc_costs, estimates)
    found.absorb(rows, columns, mass, arc_costs, inside)
    stopped = optimise(costs, found, watch, bids, cached)
    return found, bids + int(found.state[basis.PIVOTS]), stopped


def coarse_prices(costs: Costs, masses: Masses, watch: Watch, depth: int) -> Array:
    """Prices of the columns, from an optimum for representatives."""
    n, m = costs.shape
    random = np.random.default_rng(depth)
    S, T = representatives(random, masses.a), representatives(random, masses.b)
    ends = random.choice(m, min(ANCHORS, m), replace=False), random.choice(n, min(ANCHORS, n), replace=False)
    of_rows = costs.part(np.arange(n), np.sort(ends[0]))
    of_columns = np.ascontiguousarray(costs.part(np.sort(ends[1]), np.arange(m)).T)
    C = bounded(costs.part(S, T))
    ai, bi = gather(bounded(of_rows), S, masses.a), gather(bounded(of_columns), T, masses.b)
    small = Masses(ai, bi, 1.0)
    if min(C.shape) <= SMALL:
        found, _ = _weighted_small.optimum(C, small, watch)
    else:
        found, _, _ = level(Stored(C), small, watch, depth + 1, None)
    prices = np.full(m, -np.inf)
    u = found.tree.potential[: len(S)]
    tile, places = costs.tile(S.astype(np.int32))
    extend(tile, places, 0, len(S), u, prices)
    lowest = prices[np.isfinite(prices)].min(initial=np.inf)
    prices -= lowest if np.isfinite(lowest) else 0.0
    prices[~np.isfinite(prices)] = 0.0
    return prices


def representatives(random: np.random.Generator, mass: Array) -> Array:
    """A quarter of the nodes, at random, and all that hold much more than their share; sorted."""
    count = len(mass)
    heavy = np.flatnonzero(mass > 16.0 * (mass.sum() / count))
    return np.unique(np.concatenate([random.choice(count, max(1, count // RATIO), replace=False), heavy]))


def bounded(C: Array) -> Array:
    """Forbidden arcs at a large finite cost: a coarse problem must have a solution."""
    forbidden = np.isinf(C)
    if forbidden.any():
        allowed = C[~forbidden]
        low, high = (allowed.min(), allowed.max()) if len(allowed) else (0.0, 0.0)
        C = np.where(forbidden, high + 2.0 * (high - low) + abs(high), C)
    return C


def gather(embedding: Array, chosen: Array, mass: Array) -> Array:
    """The mass of all nodes at their nearest representatives."""
    total = np.zeros(len(chosen), np.int64)
    aggregate(embedding, np.ascontiguousarray(embedding[chosen].T), mass, total, np.empty(len(chosen)))
    # A representative whose twin took all its mass still needs some.
    empty = np.flatnonzero(total == 0)
    total[empty] = 1
    total[total.argmax()] -= len(empty)
    return total


def start_plan(
    costs: Costs, masses: Masses, watch: Watch, prices: Array, cached: Any, scratch: Any, epsilon: float
) -> tuple[int, tuple[Array, Array, Array, Array]]:
    """A plan of all mass: auction, then greedily. Raises the prices."""
    n, m = costs.shape
    total = int(masses.a.sum())
    state = auction.new_auction(*cached, prices, masses.a, masses.b, total // HEAVY, BATCH)
    counters = state.counters
    scans = 0
    if epsilon > 0.0:
        while True:
            auction.bid(state, epsilon, int(REST * total), BIDS * n, PIECE)
            bids = int(counters[auction.BIDS])
            pending = int(counters[auction.PENDING])
            scans += pending
            if watch.stop("auction", bids, unplaced=counters[auction.UNPLACED] / total):
                break
            if bids >= BIDS * n or scans > SCANS * n or counters[auction.FULL] or counters[auction.WORK] > 200 * n * 16:
                break
            if counters[auction.UNPLACED] <= int(REST * total) or counters[auction.WAITING] + pending == 0:
                break
            if pending:
                tile, places = costs.tile(state.pending[:pending])
                fill_cache(tile, places, state.pending, 0, pending, prices, *cached, *scratch)
                auction.resume(state)
    room = 5 * (n + m)
    rows, columns, mass = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64)
    arc_costs = np.empty(room)
    used = auction.extract(state, rows, columns, mass, arc_costs, np.empty(n, np.int32))
    left = np.flatnonzero(state.excess > 0).astype(np.int32)
    open_columns = np.flatnonzero(state.free > 0)
    count = len(open_columns)
    for start in range(0, len(left), BATCH):
        some = left[start : start + BATCH]
        tile, places = costs.tile(some)
        count, used = place(
            tile, places, some, 0, len(some), prices, state.excess, state.free, open_columns, count,
            rows, columns, mass, arc_costs, used,
        )  # fmt: skip
    rows, columns, mass, arc_costs = rows[:used], columns[:used], mass[:used], arc_costs[:used]
    if count:
        from otdist.transport._feasible import serve

        C = costs.part(np.arange(n), np.arange(m)) if not isinstance(costs, Stored) else costs.matrix
        rows, columns, mass, used = serve(C, rows, columns, mass, state.excess, state.free)
        arc_costs = C[rows, columns]
    return int(counters[auction.BIDS]), (rows, columns, mass, arc_costs)


def optimise(costs: Costs, found: Basis, watch: Watch, bids: int, cached: Any) -> str:
    """Simplex on candidates and pricing of all arcs in turn, until nothing violates; what stopped it, or ""."""
    n, m = costs.shape
    k = cached[0].shape[1]
    tree, state = found.tree, found.state
    starts, columns, arc_costs = np.arange(0, n * k + 1, k), cached[0].ravel(), cached[1].ravel()
    most = CACHED
    violating = Found(np.empty(n * most, np.int32), np.empty(n * most, np.int32), np.empty(n * most), np.zeros(1, np.int64))
    scratch = np.empty(m // 32 + 1), np.empty(most), np.empty(most, np.int64)
    exact = costs.exact()
    slack = tolerance(basis.renew(tree, n, found.low), exact)
    while True:
        before = int(state[basis.PIVOTS])
        state[basis.CLEAN] = 0
        while state[basis.CLEAN] < n:
            basis.improve(tree, n, starts, columns, arc_costs, ROWS_PRICED, slack, state, PIECE)
            if watch.stop("simplex", bids + int(state[basis.PIVOTS])):
                basis.renew(tree, n, found.low)
                return watch.stopped
            if state[basis.PIVOTS] > MOST_PIVOTS * (n + m):
                basis.renew(tree, n, found.low)
                return "max_iter"
        slack = tolerance(basis.renew(tree, n, found.low), exact)
        if violating.count[0] and state[basis.PIVOTS] == before:
            return ""  # what still violates is rounding
        violating.count[0] = 0
        worst = 0.0
        for tile, places, rows in costs.tiles():
            worst = max(
                worst, violators(tile, places, rows, 0, len(rows), tree.potential, n, slack * (1 if exact else 4), violating, *scratch)
            )
            if watch.stop("pricing", bids + int(state[basis.PIVOTS]), violation=worst):
                return watch.stopped
        count = int(violating.count[0])
        if count == 0:
            return ""
        grown = np.empty(n + 1, np.int64), np.empty(len(columns) + count, np.int32), np.empty(len(columns) + count)
        merge(starts, columns, arc_costs, violating, *grown)
        starts, columns, arc_costs = grown
