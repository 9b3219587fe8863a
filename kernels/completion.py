"""A plan of all the mass, by any feasible means: greedy placement, then augmenting paths where arcs are forbidden.

`place` gives each row, in the order given, the open column of least c_ij + p_j until its mass is gone. Each
placement empties a row or closes a column, so a plan made of placements alone is a forest.

With forbidden arcs (cost +inf) greed may strand mass that other choices could serve. `augment` then looks for a
shortest path row - column - row ... - open column, forward on allowed arcs, backward on arcs that carry mass, and moves
mass along it (Edmonds and Karp, 1972). Where none is left, the rows reached can send mass only to the columns reached,
which are full with mass of rows reached: the masses prove that no plan exists.
"""

from __future__ import annotations

import numpy as np

from otdist.kernels.jit import kernel


@kernel
def place(T, places, listed, p, excess, free, open_columns, rows, columns, mass, costs, counts):
    """Place the mass of the rows listed, row listed[t] lying at T[places[t]].

    counts[0] open columns, at the front of `open_columns`, and counts[1] arcs of the plan are there, and are updated.
    """
    count, used = counts[0], counts[1]
    for t in range(len(listed)):
        i = np.int64(listed[t])
        row = T[places[t]]
        while excess[i] > 0 and count > 0:
            best, at = np.inf, np.int64(-1)
            for q in range(count):
                j = open_columns[q]
                value = row[j] + p[j]
                if value < best:
                    best, at = value, q
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
    counts[0], counts[1] = count, used


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
