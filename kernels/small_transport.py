"""Small transport problems: prices, a greedy plan, dense network simplex.

Start: g_j = min_i c_ij, then each row to the open column of least c_ij - g_j, rows of largest regret (second best less
best, Vogel, 1958) first. Pricing looks at whole rows of the matrix, a few for each pivot, best arc first.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from otdist.kernels.completion import place_row
from otdist.kernels.crossover import plant
from otdist.kernels.jit import INLINE, kernel
from otdist.kernels.network import CALLED, CLEAN, CURSOR, PIVOTS, ROUNDING, UNBOUNDED, pivot, refresh
from otdist.kernels.rows_cached import BLOCK, block_minima


@njit(**CALLED)
def improve_dense(C, tree, block, tolerance, state, least, most):
    """`network.improve` with all arcs as candidates."""
    n, m = C.shape
    potential = tree.potential
    prices = potential[n : n + m]
    i, clean, work = state[CURSOR], state[CLEAN], 0
    entering, best, row, looked = -1, -tolerance, 0, 0
    while clean < n and work < most:
        y, costs = potential[i], C[i]
        blocks, lowest = block_minima(costs, prices, least)
        if lowest - y < best:
            best, row = lowest - y, i
            for b in range(blocks):
                if least[b] == lowest:
                    for j in range(b * BLOCK, min(m, b * BLOCK + BLOCK)):
                        if costs[j] + prices[j] == lowest:
                            entering = j
                    break
        work += m
        i += 1
        looked += 1
        clean += 1
        if i == n:
            i = 0
        if looked >= block or clean >= n:
            if entering >= 0:
                done = pivot(tree, n, row, n + entering, C[row, entering], best, 0)
                if done < 0:
                    state[UNBOUNDED] = 1
                    break
                work += done
                state[PIVOTS] += 1
                clean, entering, best = 0, -1, -tolerance
            looked = 0
    state[CURSOR], state[CLEAN] = i, clean


@njit(**CALLED)
def sort_by(order, key, count):
    """Heap sort of order[:count] by ascending key."""
    start, end = count // 2, count
    while end > 1:
        if start > 0:
            start -= 1
        else:
            end -= 1
            order[end], order[0] = order[0], order[end]
        hole = start
        item = order[hole]
        while True:
            child = 2 * hole + 1
            if child >= end:
                break
            if child + 1 < end and key[order[child + 1]] > key[order[child]]:
                child += 1
            if key[order[child]] <= key[item]:
                break
            order[hole] = order[child]
            hole = child
        order[hole] = item


@kernel
def start_small(C, a, b, tree, rows, columns, mass, costs, excess, free, regret, least, integers):
    """A greedy plan and its forest; returns (arcs, whether all mass is placed). Scratch: integers (>= 3n + 4m + 6)."""
    n, m = C.shape
    prices = tree.potential[n : n + m]
    for j in range(m):
        prices[j] = np.inf
        free[j] = b[j]
    for i in range(n):
        excess[i] = a[i]
        for j in range(m):
            prices[j] = min(prices[j], C[i, j])
    for j in range(m):
        prices[j] = -prices[j] if prices[j] < np.inf else 0.0
    order, open_columns = integers[:n], integers[n : n + m]
    for j in range(m):
        open_columns[j] = j
    for i in range(n):
        best, second = np.inf, np.inf
        for j in range(m):
            value = C[i, j] + prices[j]
            second = min(second, max(best, value))
            best = min(best, value)
        regret[i] = second - best if best < np.inf else 0.0
        least[i] = best if best < np.inf else 0.0
        order[i] = i
    sort_by(order, regret, n)
    count, used = m, 0
    for t in range(n - 1, -1, -1):
        i = np.int64(order[t])
        count, used = place_row(C[i], i, prices, excess, free, open_columns, count, rows, columns, mass, costs, used)
    return used, count == 0


@kernel
def optimise_small(C, tree, block, exact, state, least, low, most):
    """Pivots until no reduced cost is negative beyond rounding, or `most` work; tells whether it is done."""
    while True:
        lowest, highest, costliest = refresh(tree, C.shape[0], low)
        tolerance = 0.5 if exact else ROUNDING * (highest - lowest + costliest)
        before = state[PIVOTS]
        state[CLEAN] = 0
        improve_dense(C, tree, block, tolerance, state, least, most)
        if state[CLEAN] < C.shape[0]:
            return False
        if state[PIVOTS] == before:
            return True
