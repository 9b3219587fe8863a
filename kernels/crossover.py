"""From a plan to a basis: the plan becomes the flow of a spanning tree, at no higher cost.

The arcs of the plan are taken by decreasing mass; those that join two components (union-find) make a forest. Each
component hangs from the root by one of its rows, so that the tree is strongly feasible (`network.py`): all its other
arcs carry mass. An arc left over closes a cycle, around which mass moves in the direction that does not cost more,
until the arc or another of the cycle is empty: a pivot (`network.improve` makes them).

The artificial arc of a row costs what the caller estimates its dual potential to be, so that components which have not
met yet are already priced against each other.
"""

from __future__ import annotations

from numba import njit

from otdist.kernels.jit import INLINE, kernel
from otdist.kernels.network import unpacked


@njit(**INLINE)
def _find(leader, x):
    while leader[x] != x:
        leader[x] = leader[leader[x]]
        x = leader[x]
    return x


@kernel
def plant(nodes, reals, flow, n, m, rows, columns, mass, costs, inside, estimates, begins, arcs):
    """The forest of the arcs of the plan (in their order), hung from the root; marks those `inside`.

    Scratch: begins (n+m+2) int64, arcs (2 (n+m)) int32.
    """
    tree = unpacked(nodes, reals, flow)
    parent, size, order, position = tree.parent, tree.size, tree.order, tree.position
    count = len(rows)
    root = n + m
    leader = tree.moved
    for v in range(root + 1):
        leader[v], size[v], parent[v] = v, 1, -1
    for v in range(root + 2):
        begins[v] = 0
    for e in range(count):
        i, j = rows[e], n + columns[e]
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
            i, j = rows[e], n + columns[e]
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
            x = stack[top]
            position[x], order[placed] = placed, x
            placed += 1
            for t in range(begins[x], begins[x + 1]):
                e = arcs[t]
                z = n + columns[e] if x < n else rows[e]
                if parent[z] >= 0:
                    continue
                parent[z], tree.cost[z], tree.flow[z] = x, costs[e], mass[e]
                tree.potential[z] = tree.potential[x] + (costs[e] if z < n else -costs[e])
                stack[top] = z
                top += 1
    for t in range(root, 0, -1):
        x = order[t]
        size[parent[x]] += size[x]
