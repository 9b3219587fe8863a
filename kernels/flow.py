"""Network simplex for flows of least cost without capacities, on any network given by its arcs.

Nodes 0 .. n-1 with supplies of sum 0 (int64) and a root n. The basis is a spanning tree; each node knows its parent,
the arc to it and whether that arc points up. With potentials pi such that cost + pi[tail] - pi[head] = 0 on the tree,
an arc of negative reduced cost enters, flow is sent around its cycle, and the arc that runs dry first leaves. Ties are
broken so that arcs without flow always point up (a strongly feasible tree, Cunningham 1976): so the method ends.

It starts from artificial arcs between the root and every node, of cost `far`: two of them cost more than any path that
matters, so they carry nothing in the end, and a flow through the root is a valid one at any time. Arcs are priced in
blocks: the best of a block enters (Grigoriadis 1986).

Trees are kept as lists of children, for a pivot visits the whole part of the tree that it turns over anyway, to shift
its potentials and depths.

Measured on one core: 1.2 ns to price an arc, 1 to 3 us for a pivot.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from otdist.kernels.jit import STRICT, kernel

_LARGE = {**STRICT, "forceinline": False}


# Places of a node's row in the tree: one cache line.
PARENT, ARC, UP, FLOW, DEPTH, CHILD, AFTER, BEFORE = range(8)


@kernel
def plant(supply, far, tree, pi):
    """The tree of artificial arcs: that of node u is -1 - u. tree (n + 1, 8) int64, pi (n + 1,); the root is last."""
    n = len(supply)
    tree[n, :] = -1
    tree[n, DEPTH], tree[n, CHILD], pi[n] = 0, 0, 0.0
    for u in range(n):
        up = supply[u] >= 0
        tree[u, PARENT], tree[u, ARC], tree[u, UP], tree[u, FLOW] = n, -1 - u, np.int64(up), abs(supply[u])
        tree[u, DEPTH], tree[u, CHILD], tree[u, AFTER], tree[u, BEFORE] = 1, -1, u + 1, u - 1
        pi[u] = -far if up else far
    tree[n - 1, AFTER] = -1


@njit(**_LARGE)
def move(tree, u, p):
    """Take u out of the list of its parent's children into that of p."""
    before, after = tree[u, BEFORE], tree[u, AFTER]
    if before >= 0:
        tree[before, AFTER] = after
    else:
        tree[tree[u, PARENT], CHILD] = after
    if after >= 0:
        tree[after, BEFORE] = before
    first = tree[p, CHILD]
    tree[u, PARENT], tree[u, BEFORE], tree[u, AFTER], tree[p, CHILD] = p, -1, first, u
    if first >= 0:
        tree[first, BEFORE] = u


@njit(**STRICT)
def onward(tree, u, top):
    """The node after u in the subtree below `top`, parents first; `top` after the last."""
    if tree[u, CHILD] >= 0:
        return tree[u, CHILD]
    while u != top and tree[u, AFTER] < 0:
        u = tree[u, PARENT]
    return u if u == top else tree[u, AFTER]


@njit(**_LARGE)
def pivot(e, u, v, reduced, tree, pi):
    """Bring arc e from u to v, of negative reduced cost, into the tree."""
    a, b = u, v
    while a != b:
        deeper, other = tree[a, DEPTH], tree[b, DEPTH]
        if deeper >= other:
            a = tree[a, PARENT]
        if other >= deeper:
            b = tree[b, PARENT]
    join = a
    most, leave, on_tail_side = np.int64(0x7FFFFFFFFFFFFFFF), np.int64(-1), False
    # flow falls on arcs that point up on the tail's side and down on the head's
    w = u
    while w != join:
        if tree[w, UP] == 1 and tree[w, FLOW] < most:
            most, leave, on_tail_side = tree[w, FLOW], w, True
        w = tree[w, PARENT]
    w = v
    while w != join:
        if tree[w, UP] == 0 and tree[w, FLOW] <= most:
            most, leave, on_tail_side = tree[w, FLOW], w, False
        w = tree[w, PARENT]
    if most > 0:
        w = u
        while w != join:
            tree[w, FLOW] += most - 2 * most * tree[w, UP]
            w = tree[w, PARENT]
        w = v
        while w != join:
            tree[w, FLOW] -= most - 2 * most * tree[w, UP]
            w = tree[w, PARENT]
    # turn over the path from the end of e below the leaving arc, up to it
    w, p = (u, v) if on_tail_side else (v, u)
    top, arc, up, load = w, e, np.int64(on_tail_side), most
    while True:
        old_parent, old_arc, old_up, old_load = tree[w, PARENT], tree[w, ARC], tree[w, UP], tree[w, FLOW]
        move(tree, w, p)
        tree[w, ARC], tree[w, UP], tree[w, FLOW] = arc, up, load
        if w == leave:
            break
        arc, up, load = old_arc, 1 - old_up, old_load
        p, w = w, old_parent
    by, w = (-reduced if on_tail_side else reduced), top
    while True:
        pi[w] += by
        tree[w, DEPTH] = tree[tree[w, PARENT], DEPTH] + 1
        w = onward(tree, w, top)
        if w == top:
            break


@kernel
def improve(tail, head, cost, tree, pi, tolerance, block, at, pivots, scans):
    """Pivots until none is left, or for about that many pivots and scanned blocks.

    Returns where to go on, the pivots done, and whether the flow is optimal up to the tolerance.
    """
    count, done, clean = len(tail), 0, 0
    while clean < count:
        if done >= pivots or scans <= 0:
            return at, done, False
        scans -= 1
        stop = min(at + block, count)
        least, best = -tolerance, -1
        for e in range(at, stop):
            reduced = cost[e] + pi[tail[e]] - pi[head[e]]
            if reduced < least:
                least, best = reduced, e
        clean += stop - at
        at = stop if stop < count else 0
        if best >= 0:
            clean = 0
            pivot(best, np.int64(tail[best]), np.int64(head[best]), least, tree, pi)
            done += 1
    return at, done, True


@kernel
def reprice(cost, far, tree, pi):
    """Potentials anew from the tree: what pivots added up is rounded once per arc of a path only."""
    root = np.int64(len(tree) - 1)
    u = tree[root, CHILD]
    while u != root:
        arc, p = tree[u, ARC], tree[u, PARENT]
        c = far if arc < 0 else cost[arc]
        pi[u] = pi[p] - c if tree[u, UP] == 1 else pi[p] + c
        u = onward(tree, u, root)


@kernel
def parcels(supply, start, to, load, entering, order, heads, tails, following, source, amount, rows, cols, mass):
    """Take a flow without cycles apart: who sends how much to whom. Returns the number of entries.

    Node u sends load[k] to to[k], start[u] <= k < start[u + 1]; `entering` counts the arcs into each node and is used
    up. Every node holds its parcels in a queue, first in, first out, hands them on when the last of them has come, and
    keeps the rest. An arc splits one parcel at most. Scratch: order, heads, tails of nodes; following, source and
    amount of nodes and arcs together.
    """
    nodes, used, count, ready = len(supply), 0, 0, 0
    for u in range(nodes):
        heads[u], tails[u] = -1, -1
        if entering[u] == 0:
            order[ready] = u
            ready += 1
    position = 0
    while position < ready:
        u = order[position]
        position += 1
        if supply[u] > 0:
            source[used], amount[used], following[used] = u, supply[u], heads[u]
            heads[u] = used
            if tails[u] < 0:
                tails[u] = used
            used += 1
        for k in range(start[u], start[u + 1]):
            left, target = load[k], to[k]
            while left > 0 and heads[u] >= 0:
                q = heads[u]
                here = min(left, amount[q])
                moved = q
                if here == amount[q]:
                    heads[u] = following[q]
                else:
                    amount[q] -= here
                    moved = used
                    source[moved], amount[moved] = source[q], here
                    used += 1
                following[moved] = -1
                if tails[target] >= 0:
                    following[tails[target]] = moved
                else:
                    heads[target] = moved
                tails[target] = moved
                left -= here
            entering[target] -= 1
            if entering[target] == 0:
                order[ready] = target
                ready += 1
        q = heads[u]
        while q >= 0:
            rows[count], cols[count], mass[count] = source[q], u, amount[q]
            count += 1
            q = following[q]
    return count
