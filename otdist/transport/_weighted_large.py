"""Weighted transport, large problems: coarse prices, auction, crossover, simplex on candidates, pricing of all arcs.

The coarse problem: random rows and columns represent the rest. Each row gives its mass to the nearest representative,
near in the costs to a few anchor columns (a Lipschitz embedding, Bourgain, 1985: rows whose costs are alike have like
costs there); columns likewise. With u the row potentials of the small optimum, p_j = max_i u_i - c_ij over the
representatives prices each column so that no reduced cost there is negative.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from otdist._arrays import Array
from otdist.kernels import transport_auction as auction
from otdist.kernels.network import Plan
from otdist.kernels.rows_cached import scan
from otdist.transport._solution import Watch
from otdist.transport._weighted import (
    ANCHORS,
    BATCH,
    BIDS,
    CACHED,
    HEAVY,
    PIECE,
    REST,
    ROWS_PRICED,
    SCANS,
    SMALL,
    STEP,
    Basis,
    Costs,
    Masses,
    Stored,
    bounded,
    complete,
    new_plan,
)
from otdist.transport._weighted_small import gather, optimum, representatives


class Scanned(NamedTuple):
    """What `scan` found of each row, and its scratch."""

    columns: Array
    costs: Array
    counts: Array
    bounds: Array
    least: Array
    values: Array
    items: Array


def room_to_scan(n: int, m: int) -> Scanned:
    k = min(CACHED, m - 1)
    return Scanned(
        np.empty((n, k), np.uint32),
        np.empty((n, k)),
        np.empty(n, np.int64),
        np.empty(n),
        np.empty(m // 8 + 32),
        np.empty(k + 1),
        np.empty(k + 1, np.int64),
    )


def level(costs: Costs, masses: Masses, watch: Watch, depth: int, start: Any) -> tuple[Basis, str]:
    """The optimal basis at one depth of coarsening; what stopped it."""
    n, m = costs.shape
    prices = coarse_prices(costs, masses, watch, depth) if start is None else -np.array(start, np.float64)
    cache = room_to_scan(n, m)
    unlimited = np.full(n, np.inf)
    for tile, places, rows in costs.tiles():
        scan(tile, places, rows, prices, unlimited, *cache)
    reduced = cache.costs + prices[cache.columns]
    estimates = np.where(cache.counts > 0, reduced[:, 0], 0.0)
    last = np.where(cache.counts > 0, reduced[np.arange(n), cache.counts - 1], 0.0)
    spread = float((last - estimates).mean())
    bids, plan = start_plan(costs, masses, watch, prices, cache, unlimited, STEP * spread)
    estimates = (cache.costs + prices[cache.columns]).min(axis=1)
    estimates[cache.counts == 0] = 0.0
    order = np.argsort(-plan.mass, kind="stable")
    found = Basis(n, m, type(plan)(*(x[order] for x in plan)), estimates, costs.exact())
    found.bids = bids
    stopped = optimise(costs, found, watch, cache)
    if depth == 0 and not stopped and not found.exact:
        return polished(costs, found, watch, cache), watch.stopped
    return found, stopped


def polished(costs: Costs, found: Basis, watch: Watch, cache: Scanned) -> Basis:
    """The basis again, from potentials near zero, where the value is lost in the rounding of those it has.

    Clouds that nearly coincide have optimal potentials as small as the value: only components of the plan that meet by
    empty arcs set them apart.
    """
    n, m = costs.shape
    rows, columns, mass = found.flows()
    plan = Plan(rows, columns, mass, costs.costs(rows, columns), np.empty(len(rows), np.bool_))
    value = float(plan.costs @ plan.mass) / float(mass.sum())
    if abs(value) >= 1e4 * found.slack or len(rows) == n + m - 1:
        return found
    again = Basis(n, m, plan, np.zeros(n), False)
    again.bids = found.bids + found.pivots
    unlimited, prices = np.full(n, np.inf), -again.potential[n : n + m]
    for tile, places, rows in costs.tiles():
        scan(tile, places, rows, prices, unlimited, *cache)
    stopped = optimise(costs, again, watch, cache)
    return found if stopped or again.slack >= found.slack else again


def start_plan(
    costs: Costs, masses: Masses, watch: Watch, prices: Array, cache: Scanned, unlimited: Array, epsilon: float
) -> tuple[int, Any]:
    """Bids and a plan of all mass: auction, then greedily. Raises the prices."""
    n, m = costs.shape
    total = int(masses.a.sum())
    state = auction.new_auction(prices, masses.a, masses.b, total // HEAVY, BATCH)
    counters, rest = state.counters, int(REST * total)
    scans = 0
    while epsilon > 0.0:
        auction.bid(state, cache.columns, cache.costs, cache.bounds, epsilon, rest, BIDS * n, PIECE)
        bids, pending = int(counters[auction.BIDS]), int(counters[auction.PENDING])
        scans += pending
        ended = counters[auction.UNPLACED] <= rest or counters[auction.WAITING] + pending == 0
        capped = bids >= BIDS * n or scans > SCANS * n or counters[auction.WORK] > 64 * BIDS * n
        if ended or capped or counters[auction.FULL]:
            break
        if watch.stop("auction", bids, unplaced=counters[auction.UNPLACED] / total):
            break
        if pending:
            some = state.pending[:pending]
            tile, places = costs.tile(some)
            scan(tile, places, some, prices, unlimited, *cache)
            auction.resume(state)
    rows, columns, mass = auction.entries(state)
    left = np.flatnonzero(state.excess > 0).astype(np.int32)
    used = len(rows)
    plan = new_plan(used + n + m)
    plan.rows[:used], plan.columns[:used], plan.mass[:used] = rows, columns, mass
    plan.costs[:used] = costs.costs(rows, columns)
    return int(counters[auction.BIDS]), complete(
        costs, prices, left, state.excess, state.free, plan, used, masses.rounded
    )


def optimise(costs: Costs, found: Basis, watch: Watch, cache: Scanned) -> str:
    """Simplex on candidates and pricing of all arcs in turn, until nothing violates; what stopped it, or ""."""
    n, m = costs.shape
    k = cache.columns.shape[1]
    starts, columns, arc_costs = np.arange(0, n * k + 1, k), cache.columns.ravel().copy(), cache.costs.ravel().copy()
    looked = False
    while True:
        before = found.pivots
        if not found.improve(starts, columns, arc_costs, ROWS_PRICED, watch):
            return watch.stopped
        if looked and found.pivots == before:
            return ""  # what still violates is rounding
        looked = True
        potential = found.potential
        prices = potential[n : n + m]
        limits = potential[:n] - (found.slack * (1.0 if found.exact else 4.0) + costs.noise)
        for tile, places, rows in costs.tiles():
            scan(tile, places, rows, prices, limits, *cache)
            if watch.stop("pricing", found.bids + found.pivots):
                return watch.stopped
        some = np.flatnonzero(cache.counts)
        if len(some) == 0:
            return ""
        counts = cache.counts[some]
        used = np.arange(k) < counts[:, None]
        at = np.repeat(starts[some + 1], counts)
        columns = np.insert(columns, at, cache.columns[some][used])
        arc_costs = np.insert(arc_costs, at, cache.costs[some][used])
        starts = starts.copy()
        starts[1:] += np.cumsum(cache.counts)


def coarse_prices(costs: Costs, masses: Masses, watch: Watch, depth: int) -> Array:
    """Prices of the columns, from an optimum for representatives."""
    n, m = costs.shape
    random = np.random.default_rng(depth)
    S, T = representatives(random, masses.a), representatives(random, masses.b)
    anchors = random.choice(m, min(ANCHORS, m), replace=False), random.choice(n, min(ANCHORS, n), replace=False)
    of_rows = costs.part(np.arange(n), np.sort(anchors[0]))
    of_columns = costs.part(np.sort(anchors[1]), np.arange(m)).T
    less = costs.less(S, T)
    small = Masses(gather(bounded(of_rows), S, masses.a), gather(bounded(of_columns), T, masses.b), 1.0, False)
    if isinstance(less, Stored) and less.matrix.size <= 2 * SMALL:
        found, _ = optimum(less, small, watch)
    else:
        found, _ = level(less, small, watch, depth + 1, None)
    prices = np.full(m, -np.inf)
    value = np.empty(m)
    u = found.potential[: len(S)]
    for begin in range(0, len(S), BATCH):
        tile, places = costs.tile(S[begin : begin + BATCH].astype(np.int32))
        for place, height in zip(places, u[begin : begin + BATCH], strict=True):
            np.subtract(height, tile[place], out=value)
            np.maximum(prices, value, out=prices)
    priced = np.isfinite(prices)
    prices -= prices[priced].min(initial=np.inf) if priced.any() else 0.0
    prices[~priced] = 0.0
    return prices
