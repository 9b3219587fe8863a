"""Plans under forbidden arcs: stranded mass is served by augmenting paths, or proved impossible to serve."""

from __future__ import annotations

from typing import Any

import numpy as np

from otdist._arrays import Array
from otdist.kernels.completion import augment
from otdist.kernels.network import Plan

PIECE = 100_000_000
# Where forbidden arcs leave separate parts, the masses of a part agree to rounding only, in parts of the total.
ROUNDING = 1e-14


def serve(costs: Any, plan: Plan, excess: Array, free: Array, rounded: bool) -> Plan:
    """The plan with all mass of `excess`. Raises ValueError where the allowed arcs cannot serve it.

    Masses that were `rounded` may differ by rounding in each part that the allowed arcs join: that much is served as if
    there were room.
    """
    n, m = costs.shape
    C = costs.matrix
    slack = int(ROUNDING * (plan.mass.sum() + excess.sum())) if rounded else 0
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
        kept = np.flatnonzero(mass[:used] > 0)
        rows, columns, mass = rows[kept], columns[kept], mass[kept]
        if stranded >= 0:
            cheapest = int(C[stranded].argmin())
            if excess[stranded] > slack or C[stranded, cheapest] == np.inf:
                _refuse(costs, stranded, queue[: via[n]])
            rows, columns = np.append(rows, np.int32(stranded)), np.append(columns, np.int32(cheapest))
            mass = np.append(mass, excess[stranded])
            excess[stranded] = 0
    short = np.flatnonzero(free).astype(np.int32)
    if len(short):
        servers = C[:, short].argmin(axis=0).astype(np.int32)
        lost = np.flatnonzero(np.isinf(C[servers, short]))
        if len(lost):
            raise ValueError(
                f"costs: {costs.sides[1]} {short[lost[0]]} can receive no mass; allow arcs to it (finite costs)"
            )
        rows, columns = np.concatenate([rows, servers]), np.concatenate([columns, short])
        mass = np.concatenate([mass, free[short]])
    return Plan(rows, columns, mass, costs.costs(rows, columns), np.empty(len(rows), np.bool_))


def _refuse(costs: Any, stranded: int, reached: Array) -> None:
    one, other = costs.sides
    served = int(np.isfinite(costs.matrix[reached]).any(axis=0).sum())
    reached = np.sort(reached)
    some = ", ".join(map(str, reached[:5])) + (", ..." if len(reached) > 5 else "")
    raise ValueError(
        f"costs: {one} {stranded} cannot place all its mass: {one}s {some} ({len(reached)} in all) have arcs only to "
        f"{served} {other}s, which take less than these {one}s hold; allow more arcs (finite costs)"
    )
