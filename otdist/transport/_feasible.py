"""Plans under forbidden arcs: stranded mass is served by augmenting paths, or proved impossible to serve."""

from __future__ import annotations

import numpy as np

from otdist._arrays import Array
from otdist.kernels.completion import augment

PIECE = 100_000_000


def serve(
    C: Array, rows: Array, columns: Array, mass: Array, excess: Array, free: Array
) -> tuple[Array, Array, Array, int]:
    """The arcs of a partial plan (int64), with those that serve the rest; the arcs that carry mass come first."""
    n, m = C.shape
    used = len(rows)
    head, came = np.empty(m, np.int32), np.empty(m, np.int32)
    via, queue, unseen = np.empty(n + 1, np.int32), np.empty(n, np.int32), np.empty(m, np.int32)
    while excess.any():
        room = 4 * n + len(rows) + used
        rows, columns, mass = (np.concatenate([x[:used], np.zeros(room, np.int64)]) for x in (rows, columns, mass))
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
        rows, columns, mass, used = rows[kept], columns[kept], mass[kept], len(kept)
    return rows, columns, mass, used
