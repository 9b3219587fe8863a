"""Shortest augmenting paths: an assignment of some rows, optimal for its prices, grows by one row at a time.

Reduced costs c_ij - f_i - g_j are >= 0 and 0 on matched pairs. From a free row Dijkstra's algorithm grows the tree of
shortest alternating paths, column by column, until it reaches a free column at distance mu; lowering g_j by
mu - d_j on the columns of the tree keeps all reduced costs >= 0 and makes the path tight, and flipping the path
matches the row (Tomizawa 1971, Edmonds & Karp 1972; Jonker & Volgenant 1987). f_i is never stored: on a matched row
it is c_ij - g_j of its column. If no column can be reached any more, the rows of the tree are one more than the
columns they have finite costs in: by Hall's theorem nothing matches them all.

Each step reads a row and the distances once; among equal distances free columns go first, so that ties end a search.
Integer costs and potentials stay integers: below 2^52 the answer is exact.

Measured on one AVX-512 core: a step takes 60 ns at 64 columns, 3.2 us at 4000 (2.7: reading the row).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from otdist.kernels.jit import kernel
from otdist.kernels.rowcache import LARGE
from otdist.kernels.vecmath import minimum, select


@njit(**LARGE)
def shortest_path(C, empty, start, g, col, row, distance, via, order, level):
    """Match the free row `start`. Returns the columns in the tree, less 1 and negated if no free column is in reach.

    Rows beyond those of C are `empty` ones. col: column of each row, or -1; row: row of each column, or -1; via: the
    row before each column; order, level: columns of the tree and their distances.
    """
    m = g.size
    for j in range(m):
        distance[j] = np.inf
    i, shift, tree = start, 0.0, 0
    while True:
        costs, lowest = C[i] if i < len(C) else empty, np.inf
        for j in range(m):
            reached = costs[j] - g[j] - shift
            d = distance[j]
            shorter = reached < d
            d = select(shorter, reached, d)
            distance[j] = d
            via[j] = select(shorter, i, via[j])
            lowest = minimum(lowest, select(d == -np.inf, np.inf, d))  # -inf: in the tree
        if lowest == np.inf:
            return -1 - tree
        best = -1
        for j in range(m):
            best = max(best, select(distance[j] == lowest, select(row[j] < 0, j + m, j), -1))
        if best >= m:
            break
        order[tree], level[tree] = best, lowest
        tree += 1
        distance[best] = -np.inf
        i = row[best]
        shift = ((C[i] if i < len(C) else empty)[best] - g[best]) - lowest
    for t in range(tree):
        g[order[t]] += level[t] - lowest
    j = best - m
    while True:
        i = via[j]
        row[j] = i
        j, col[i] = col[i], j
        if i == start:
            return tree


@kernel
def augment(C, empty, free, begin, steps, g, col, row, distance, via, order, level):
    """Match free[begin:] until about `steps` rows have been read: (how far it came, steps, columns of a failed tree).

    The last is -1 unless a row cannot be matched; then the columns are order[:that].
    """
    done = 0
    while begin < free.size and done < steps:
        tree = shortest_path(C, empty, free[begin], g, col, row, distance, via, order, level)
        if tree < 0:
            return begin, done, -1 - tree
        done += tree + 1
        begin += 1
    return begin, done, -1
