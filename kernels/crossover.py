"""From a plan to a basis: the plan becomes the flow of a spanning tree, at no higher cost.

The arcs of the plan are taken by decreasing mass; those that join two components (union-find) make a forest. Each
component hangs from the root by one of its rows, so that the tree is strongly feasible (`network.py`): all its other
arcs carry mass. An arc left over closes a cycle, around which mass moves in the direction that does not cost more,
until the arc or another of the cycle is empty: a pivot. Cost: a few microseconds per arc left over.

The artificial arc of a row costs what the caller estimates its dual potential to be, so that components which have not
met yet are already priced against each other.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from otdist.kernels.jit import INLINE, kernel
from otdist.kernels.network import CALLED, PIVOTS, WORK, pivot


@njit(**INLINE)
def _find(leader, x):
    while leader[x] != x:
        leader[x] = leader[leader[x]]
        x = np.int64(leader[x])
    return x


@njit(**CALLED)
def plant(tree, n, m, rows, columns, mass, costs, estimates, inside, begins, arcs, count):
    """The forest of the first `count` arcs (in their order), hung from the root; inside[e] tells whether e is in it.

    Scratch: begins (n+m+2) int64, arcs (2 (n+m)) int32.
    """
    parent, size, order, position = tree.parent, tree.size, tree.order, tree.position
    root = n + m
    leader = tree.moved
    for v in range(root + 1):
        leader[v], size[v], parent[v] = v, 1, -1
    for v in range(root + 2):
        begins[v] = 0
    for e in range(count):
        i, j = np.int64(rows[e]), n + np.int64(columns[e])
        x, z = _find(leader, i), _find(leader, j)
        inside[e] = x != z
        if x != z:
            leader[x] = z
            begins[i + 2] += 1
            begins[j + 2] += 1
    for v in range(root):
        begins[v + 2] += begins[v + 1]
    for e in range(count):
        if inside[e]:
            i, j = np.int64(rows[e]), n + np.int64(columns[e])
            arcs[begins[i + 1]], arcs[begins[j + 1]] = e, e
            begins[i + 1] += 1
            begins[j + 1] += 1
    parent[root], tree.cost[root], tree.flow[root], tree.potential[root] = -1, 0.0, 0, 0.0
    order[0], position[root] = root, 0
    placed = 1
    stack = tree.moved
    for start in range(n):
        if parent[start] >= 0:
            continue
        parent[start], tree.cost[start], tree.flow[start] = root, estimates[start], 0
        tree.potential[start] = estimates[start]
        stack[0] = start
        top = 1
        while top > 0:
            top -= 1
            x = np.int64(stack[top])
            position[x], order[placed] = placed, x
            placed += 1
            for t in range(begins[x], begins[x + 1]):
                e = np.int64(arcs[t])
                z = n + np.int64(columns[e]) if x < n else np.int64(rows[e])
                if parent[z] >= 0:
                    continue
                parent[z], tree.cost[z], tree.flow[z] = x, costs[e], mass[e]
                tree.potential[z] = tree.potential[x] + (costs[e] if z < n else -costs[e])
                stack[top] = z
                top += 1
    for t in range(root, 0, -1):
        x = np.int64(order[t])
        size[parent[x]] += size[x]


@kernel
def plant_basis(tree, n, m, rows, columns, mass, costs, estimates, inside, begins, arcs):
    """`plant` of all arcs, as an entry point."""
    plant(tree, n, m, rows, columns, mass, costs, estimates, inside, begins, arcs, len(rows))


@kernel
def absorb(tree, n, rows, columns, mass, costs, inside, state, first, most):
    """Pivot the arcs from `first` on that are not in the tree in or out; returns where it ended, after `most` work."""
    work, e = 0, first
    while e < len(rows) and work < most:
        if not inside[e]:
            i, j = np.int64(rows[e]), n + np.int64(columns[e])
            reduced = costs[e] - tree.potential[i] + tree.potential[j]
            work += pivot(tree, n, i, j, costs[e], reduced, mass[e])
            state[PIVOTS] += 1
        e += 1
    state[WORK] = work
    return e
