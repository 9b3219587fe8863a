"""Plans under forbidden arcs: stranded mass is served by augmenting paths, or proved impossible to serve."""

from __future__ import annotations

from typing import Any

import numpy as np

from otdist._arrays import Array
from otdist.kernels.completion import augment
from otdist.kernels.network import Plan

PIECE = 100_000_000


def serve(costs: Any, plan: Plan, excess: Array, free: Array) -> Plan:
    """The plan with all mass of `excess`. Raises ValueError where the allowed arcs cannot serve it."""
    n, m = costs.shape
    C = costs.matrix
    head, came = np.empty(m, np.int32), np.empty(m, np.int32)
    via, queue, unseen = np.empty(n + 1, np.int32), np.empty(n, np.int32), np.empty(m, np.int32)
    rows, columns, mass = plan.rows, plan.columns, plan.mass
    while excess.any():
        used = len(rows)
        rows, columns = (np.concatenate([x, np.zeros(4 * n + used, np.int32)]) for x in (rows, columns))
        mass = np.concatenate([mass, np.zeros(4 * n + used, np.int64)])
        following = np.empty(len(rows), np.int32)
        used, stranded, _ = augment(
            C, rows, columns, mass, used, excess, free, head, following, came, via, queue, unseen, PIECE
        )
        if stranded >= 0:
            reached = np.sort(queue[: via[n]])
            served = int(np.isfinite(C[reached]).any(axis=0).sum())
            some = ", ".join(map(str, reached[:5])) + (", ..." if len(reached) > 5 else "")
            raise ValueError(
                f"costs: row {stranded} cannot send all its mass: rows {some} ({len(reached)} in all) may send only to "
                f"{served} columns, which take less than these rows hold; allow more arcs (finite costs) or other masses"
            )
        kept = np.flatnonzero(mass[:used] > 0)
        rows, columns, mass = rows[kept], columns[kept], mass[kept]
    return Plan(rows, columns, mass, costs.costs(rows, columns), np.empty(len(rows), np.bool_))
