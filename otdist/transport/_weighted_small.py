"""Weighted transport by the network simplex over all arcs: small problems, and those with one tiny side.

Start: g_j = min_i c_ij, then each row to the open column of least c_ij - g_j, rows of largest regret (second best less
best, Vogel, 1958) first.
"""

from __future__ import annotations

import numpy as np

from otdist._arrays import Array
from otdist.transport._solution import Watch
from otdist.transport._weighted import Basis, Masses, Stored, complete, lend, new_plan

NONE = np.empty(0, np.uint32)
PRICED = 256  # arcs, about, that are looked at for each pivot


def optimum(C: Array, masses: Masses, watch: Watch) -> tuple[Basis, str]:
    """The optimal basis, and what stopped it early if anything did."""
    n, m = C.shape
    C = lend(C)
    prices = -C.min(axis=0)
    prices[prices == -np.inf] = 0.0
    reduced = C + prices
    if m > 1:
        two = np.partition(reduced, 1, axis=1)[:, :2] if m > 2 else np.sort(reduced, axis=1)
        estimates = two[:, 0].copy()
        with np.errstate(invalid="ignore"):
            order = np.argsort(two[:, 0] - two[:, 1], kind="stable").astype(np.int32)
    else:
        estimates, order = reduced[:, 0].copy(), np.arange(n, dtype=np.int32)
    estimates[estimates == np.inf] = 0.0
    costs = Stored(C)
    plan = complete(costs, prices, order, masses.a.copy(), masses.b.copy(), new_plan(n + m), 0)
    found = Basis(n, m, plan, estimates, costs.exact())
    starts = np.arange(0, n * m + 1, m)
    found.improve(starts, NONE, C.ravel(), max(1, PRICED // m), watch)
    return found, watch.stopped
