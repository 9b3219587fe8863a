"""Weighted transport by the network simplex over all arcs: small problems, and those with one tiny side.

Start: g_j = min_i c_ij, then each row to the open column of least c_ij - g_j, rows of largest regret (second best less
best, Vogel, 1958) first. With few columns and many rows, a sample of the rows, which take over the mass of those near
them, tells the prices g.
"""

from __future__ import annotations

import numpy as np

from otdist._arrays import Array
from otdist.kernels.greedy import regret
from otdist.transport._solution import Watch
from otdist.transport._weighted import (
    ANCHORS,
    BATCH,
    RATIO,
    SMALL,
    Basis,
    Masses,
    Stored,
    bounded,
    complete,
    new_plan,
)

NONE = np.empty(0, np.uint32)
PRICED = 512  # arcs, about, that are looked at for each pivot


def elongated(costs: Stored, masses: Masses, watch: Watch, depth: int) -> tuple[Basis, str]:
    """The optimal basis of rows many more than the columns, from the prices of a sample of the rows."""
    C = costs.matrix
    if C.size <= SMALL:
        return optimum(costs, masses, watch)
    random = np.random.default_rng(depth)
    S = representatives(random, masses.a)
    anchors = np.sort(random.choice(C.shape[1], min(ANCHORS, C.shape[1]), replace=False))
    sampled = Masses(gather(bounded(C[:, anchors]), S, masses.a), masses.b, 1.0, False)
    found, _ = elongated(Stored(bounded(C[S])), sampled, watch, depth + 1)
    return optimum(costs, masses, watch, found.potential[len(S) : -1])


def optimum(costs: Stored, masses: Masses, watch: Watch, prices: Array | None = None) -> tuple[Basis, str]:
    """The optimal basis, and what stopped it early if anything did."""
    C = costs.matrix
    n, m = C.shape
    own = prices is None
    prices = np.empty(m) if prices is None else prices
    estimates, regrets = np.empty(n), np.empty(n)
    regret(C, own, prices, estimates, regrets)
    order = np.argsort(regrets, kind="stable").astype(np.int32)
    plan = complete(costs, prices, order, masses.a.copy(), masses.b.copy(), new_plan(n + m), 0, masses.rounded)
    found = Basis(n, m, plan, estimates, costs.exact())
    starts = np.arange(0, n * m + 1, m)
    done = found.improve(starts, NONE, C.ravel(), max(1, PRICED // m), watch)
    return found, "" if done else watch.stopped


def representatives(random: np.random.Generator, mass: Array) -> Array:
    """A quarter of the nodes, at random, and all that hold much more than their share; sorted."""
    count = len(mass)
    heavy = np.flatnonzero(mass > 16.0 * (float(mass.sum()) / count))
    return np.unique(np.concatenate([random.choice(count, max(1, count // RATIO), replace=False), heavy]))


def gather(embedding: Array, chosen: Array, mass: Array) -> Array:
    """The mass of all nodes at their nearest representatives."""
    total = np.zeros(len(chosen), np.int64)
    scale = np.abs(embedding).max() or 1.0
    E = (embedding / scale).astype(np.float32)
    R = E[chosen]
    squares, product = np.square(R).sum(axis=1) / 2, np.ascontiguousarray(R.T)
    for begin in range(0, len(E), BATCH):
        distance = squares - E[begin : begin + BATCH] @ product
        np.add.at(total, distance.argmin(axis=1), mass[begin : begin + BATCH])
    # A representative whose twin took all its mass still needs some.
    empty = np.flatnonzero(total == 0)
    total[empty] = 1
    total[total.argmax()] -= len(empty)
    return total
