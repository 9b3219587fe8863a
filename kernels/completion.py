"""A plan of all the mass, by any feasible means: greedy placement, then augmenting paths where arcs are forbidden.

`place` gives each row, in the order it is told, the open column of least c_ij + p_j until its mass is gone. Each
placement empties a row or closes a column, so what it adds to no arcs at all is a forest.

With forbidden arcs (cost +inf) greed may strand mass that other choices could serve. `augment` then looks for a
shortest path row - column - row ... - open column, forward on allowed arcs, backward on arcs that carry mass, and moves
mass along it (Edmonds and Karp, 1972). Where none is left, the rows reached can send mass only to the columns reached,
which are full with mass of rows reached: the masses prove that no plan exists.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from otdist.kernels.jit import INLINE, kernel


@njit(**{**INLINE, "forceinline": False})
def place_row(row, i, p, excess, free, open_columns, count, rows, columns, mass, costs, used):
    """Place the mass of row i; returns the number of open columns and of arcs."""
    while excess[i] > 0 and count > 0:
        best, at = np.inf, -1
        for t in range(count):
            j = open_columns[t]
            value = row[j] + p[j]
            if value < best:
                best, at = value, t
        if at < 0:
            break
        j = np.int64(open_columns[at])
        part = min(excess[i], free[j])
        excess[i] -= part
        free[j] -= part
        rows[used], columns[used], mass[used], costs[used] = i, j, part, row[j]
        used += 1
        if free[j] == 0:
            count -= 1
            open_columns[at] = open_columns[count]
    return count, used


@kernel
def place(T, places, listed, first, last, p, excess, free, open_columns, count, rows, columns, mass, costs, used):
    """`place_row` of the rows listed[first:last] of a tile (`rows_cached.py`); arcs are written from `used` on."""
    for t in range(first, last):
        i = np.int64(listed[t])
        if excess[i] > 0:
            count, used = place_row(
                T[places[t]], i, p, excess, free, open_columns, count, rows, columns, mass, costs, used
            )
    return count, used


@kernel
def augment(C, rows, columns, mass, used, excess, free, head, following, came, via, queue, unseen, most):
    """Serve stranded mass by augmenting paths; returns (arcs, the row that cannot be served or -1, work left).

    Scratch: head (m) and following (arcs): the arcs of each column as a list; came (m): row from which a column was
    reached; via (n): arc by which a row was reached; queue (n), unseen (m). After a failure, queue[:via[-1]] are the
    rows reached (via has one place more).
    """
    n, m = C.shape
    for j in range(m):
        head[j] = -1
    for e in range(used):
        following[e] = head[columns[e]]
        head[columns[e]] = e
    for source in range(n):
        while excess[source] > 0:
            if most < 0 or used + 2 * n > len(rows):
                return used, -1, most
            for i in range(n):
                via[i] = -2
            left, start, stop, goal = m, 0, 1, -1
            for j in range(m):
                unseen[j] = j
            queue[0], via[source] = source, -1
            while start < stop and goal < 0:
                i = np.int64(queue[start])
                start += 1
                t = 0
                most -= left
                while t < left:
                    j = np.int64(unseen[t])
                    if C[i, j] == np.inf:
                        t += 1
                        continue
                    came[j] = i
                    left -= 1
                    unseen[t] = unseen[left]
                    if free[j] > 0:
                        goal = j
                        break
                    e = np.int64(head[j])
                    while e >= 0:
                        r = np.int64(rows[e])
                        if mass[e] > 0 and via[r] == -2:
                            via[r] = e
                            queue[stop] = r
                            stop += 1
                        e = np.int64(following[e])
            if goal < 0:
                via[n] = stop
                return used, source, most
            part = min(excess[source], free[goal])
            j = goal
            while True:
                i = np.int64(came[j])
                if via[i] < 0:
                    break
                part = min(part, mass[via[i]])
                j = np.int64(columns[via[i]])
            excess[source] -= part
            free[goal] -= part
            j = goal
            while True:
                i = np.int64(came[j])
                e = np.int64(head[j])
                while e >= 0 and rows[e] != i:
                    e = np.int64(following[e])
                if e < 0:
                    e = used
                    rows[e], columns[e], mass[e] = i, j, 0
                    following[e] = head[j]
                    head[j] = e
                    used += 1
                mass[e] += part
                if via[i] < 0:
                    break
                mass[via[i]] -= part
                j = np.int64(columns[via[i]])
    return used, -1, most
