"""Small problems of transport whole, in one call: greedy start, basis, network simplex over all arcs, plan by rows.

The steps are those of `_weighted_small.py`, which takes over where one call does not do: where forbidden arcs strand
mass that was placed greedily, and where the simplex takes long.

Measured on one AVX-512 core, squared distances of Gaussian points in the plane, whole calls of `emd` with certificate:
57 us at 10 x 10, 92 us at 30 x 30.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from otdist.kernels.certificate import by_rows
from otdist.kernels.completion import place
from otdist.kernels.crossover import plant
from otdist.kernels.greedy import count, regret
from otdist.kernels.jit import kernel
from otdist.kernels.network import CLEAN, improve, unload
from otdist.kernels.rowcache import LARGE


class Room(NamedTuple):
    """Scratch of `solve`."""

    nodes: Any  # (5, n + m + 1) int32
    reals: Any  # (3, n + m + 1)
    flow: Any  # (n + m + 1,) int64
    longs: Any  # (8, n + m + 2) int64
    ints: Any  # (6, n + m) int32
    floats: Any  # (4, n + m)
    inside: Any  # (n + m,) bool
    state: Any  # (5,) int64


def room(n: int, m: int) -> Room:
    """Room for a problem of n rows and m columns."""
    k = n + m
    return Room(
        np.empty((5, k + 1), np.int32),
        np.empty((3, k + 1)),
        np.empty(k + 1, np.int64),
        np.empty((8, k + 2), np.int64),
        np.empty((6, k), np.int32),
        np.empty((4, k)),
        np.empty(k, np.bool_),
        np.empty(5, np.int64),
    )


@njit(**LARGE)
def _sorted(key, order, aside):
    """0 ... n - 1 by key, equal ones in place: merges from the bottom up. The result is one of the two arrays."""
    n = key.size
    for k in range(n):
        order[k] = k
    width = 1
    turned = False
    while width < n:
        source, to = (aside, order) if turned else (order, aside)
        for begin in range(0, n, 2 * width):
            i, middle = begin, min(begin + width, n)
            j, end = middle, min(begin + 2 * width, n)
            for t in range(begin, end):
                if i < middle and (j >= end or key[source[i]] <= key[source[j]]):
                    to[t] = source[i]
                    i += 1
                else:
                    to[t] = source[j]
                    j += 1
        turned = not turned
        width *= 2
    if turned:
        for k in range(n):
            order[k] = aside[k]


@kernel
def solve(
    C, arcs, listed, a, b, turned, exact, total, block, most,
    nodes, reals, flow, longs, ints, floats, inside, state,
    rows, cols, mass, g,
):  # fmt: skip
    """Transport of masses a (n,) to b (m,) at costs C (n, m): number of pairs, or -1 if it did not come to an end.

    The plan goes to rows, cols, mass (n + m) and the potentials of the columns to g (m), in the caller's sense: those
    of the rows of C, if it is `turned`. state[PIVOTS]: pivots made. arcs: C as one row; listed: no columns, uint32.
    """
    n, m = C.shape
    a_counts, b_counts, mass_placed = longs[0][:n], longs[0][n : n + m], longs[1][: n + m]
    begins, open_columns, starts = longs[2], longs[3][:m], longs[4][: n + 1]
    plan_rows, plan_columns, order = ints[0], ints[1], ints[2][:n]
    prices, least, regrets, plan_costs = floats[0][:m], floats[1][:n], floats[2][:n], floats[2]
    unit, _ = count(a, b, a_counts, b_counts, total)
    regret(C, True, prices, least, regrets)
    _sorted(regrets, order, ints[3][:n])
    for j in range(m):
        open_columns[j] = j
    counts = state[:2]
    counts[0], counts[1] = m, 0
    place(
        C, order, order, prices, a_counts, b_counts, open_columns, plan_rows, plan_columns, mass_placed, plan_costs,
        counts,
    )  # fmt: skip
    used = counts[1]
    if counts[0] > 0:
        return -1
    if exact:
        for i in range(n):
            least[i] = np.rint(least[i])
    placed = plan_rows[:used], plan_columns[:used], mass_placed[:used], plan_costs[:used], inside[:used]
    plant(nodes, reals, flow, n, m, *placed, least, begins, ints[2:4].reshape(-1))
    for k in range(5):
        state[k] = 0
    for i in range(n + 1):
        starts[i] = i * m
    improve(nodes, reals, flow, n, *placed, starts, listed, arcs, block, exact, state, most)
    if state[CLEAN] < n:
        return -1
    if turned:
        for i in range(n):
            g[i] = reals[1, i]
    else:
        for j in range(m):
            g[j] = -reals[1, n + j]
    tree_rows, tree_columns, tree_mass = longs[5][: n + m], longs[6][: n + m], floats[3]
    pairs = unload(nodes, reals, flow, n, a, b, unit, tree_rows, tree_columns, tree_mass)
    first, second = (tree_columns, tree_rows) if turned else (tree_rows, tree_columns)
    by_rows(
        first[:pairs], second[:pairs], tree_mass[:pairs], rows, cols, mass, begins[: max(n, m) + 1], longs[7][:pairs]
    )
    return pairs
