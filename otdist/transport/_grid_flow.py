"""Exact transport on grids as a flow of least cost, by the network simplex on a network much sparser than all pairs.

p = 1: what moves on the grid moves between neighbours, N points have 2 d N arcs, and only a − b has to move.

Other p: the cost is a sum over axes, so mass may change one coordinate after another. Layers 0 to d of the grid, arcs
from layer k to k + 1 along axis k: N Σ n_k arcs instead of N² (Auricchio, Bassetti, Gualandi & Veneroni 2018). Points
without mass are left out of the first layer and of the last.

Masses are integers, 2^62 in all; a flow taken apart gives a coupling, whose number of entries is at most that of the
nodes with mass and of arcs with flow. Potentials of the last layer are those of the columns; two c-transforms extend
them to points without mass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from otdist._arrays import Array
from otdist.kernels import flow
from otdist.transport._solution import Solution, Watch

if TYPE_CHECKING:
    from otdist.transport.grid import Grid

TOTAL = 2**62
# Pivots and priced blocks between two looks at the watch.
PIVOTS, SCANS = 2000, 4000
# Parts of lines priced for a pivot.
LINES = 4


def between_neighbours(grid: Grid, a: Array, b: Array, watch: Watch) -> Solution:
    """p = 1: a − b flows along the edges of the grid, the rest stays."""
    numbers = np.arange(grid.size).reshape(grid.shape)
    tails, heads, costs = [], [], []
    for k, axis in enumerate(grid.axes):
        lower, upper = np.moveaxis(numbers, k, -1)[..., :-1], np.moveaxis(numbers, k, -1)[..., 1:]
        length = np.broadcast_to(np.diff(axis), lower.shape).ravel()
        tails += [lower.ravel(), upper.ravel()]
        heads += [upper.ravel(), lower.ravel()]
        costs += [length, length]
    left, right = whole(a), whole(b)
    tail, head, cost = (np.concatenate(parts) for parts in (tails, heads, costs))
    order = np.argsort(tail, kind="stable")
    net = flow.Arcs(tail[order].astype(np.uint32), head[order].astype(np.uint32), cost[order])
    rows, cols, mass, pi, pivots = _flow(grid, net, left - right, watch)
    stay = np.minimum(left, right)
    still = np.flatnonzero(stay)
    rows, cols = np.concatenate([rows, still]), np.concatenate([cols, still])
    mass = np.concatenate([mass, stay[still]]) / TOTAL
    return Solution(rows, cols, mass, _extended(grid, pi, b > 0), pivots, "grid network simplex", watch.stopped)


def between_layers(grid: Grid, a: Array, b: Array, watch: Watch) -> Solution:
    """Any p: mass changes one coordinate after another."""
    axes = [k for k, n in enumerate(grid.shape) if n > 1]
    numbers, size, last = np.arange(grid.size).reshape(grid.shape), grid.size, len(axes) - 1
    longest = max(grid.shape)
    costs = np.zeros((len(axes), longest, longest))
    starts, strides = [], []
    for layer, k in enumerate(axes):
        n = grid.shape[k]
        costs[layer, :n, :n] = grid._table(k)
        starts.append(np.take(numbers, 0, axis=k).ravel() + layer * size)
        strides.append(np.full(size // n, int(np.prod(grid.shape[k + 1 :]))))
    start, table = np.concatenate(starts), np.repeat(np.arange(len(axes)), [len(part) for part in starts])
    lengths = np.array([grid.shape[k] for k in axes])
    closed = np.zeros((len(axes) + 1, size), np.bool_)
    closed[0], closed[-1] = a == 0, b == 0
    net = flow.Lines(start, start + size, np.concatenate(strides), table, costs, lengths, closed.ravel())
    supply = np.zeros((len(axes) + 1) * size, np.int64)
    supply[:size], supply[-size:] = whole(a), -whole(b)
    rows, cols, mass, pi, pivots = _flow(grid, net, supply, watch)
    g = _extended(grid, pi[-size:], b > 0)
    return Solution(rows, cols - (last + 1) * size, mass / TOTAL, g, pivots, "layered network simplex", watch.stopped)


def whole(weights: Array) -> Array:
    """Weights as integers with the sum TOTAL; the largest takes what rounding leaves."""
    scaled = np.rint(weights / weights.sum() * TOTAL).astype(np.int64)
    scaled[np.argmax(scaled)] += TOTAL - int(scaled.sum())
    return np.asarray(scaled)


def _flow(grid: Grid, net: Any, supply: Array, watch: Watch) -> tuple[Array, Array, Array, Array, int]:
    """Rows, columns and masses of a flow of least cost, its potentials, and the pivots."""
    n = len(supply)
    # nodes without arcs or supply do no harm: each hangs on the root by itself
    far = sum(float(grid._table(k)[0, -1]) for k in range(len(grid.axes)))
    tree, pi, spare = np.empty((n + 1, 8), np.int64), np.empty(n + 1), np.empty(max(grid.shape))
    flow.plant(supply, far, tree, pi)
    block = max(64, int(len(net.tail) ** 0.5)) if isinstance(net, flow.Arcs) else LINES
    tolerance = 16 * np.finfo(float).eps * far
    at, pivots, repriced = 0, 0, False
    while not watch.stop("network simplex", pivots):
        at, done, optimal = flow.improve(net, tree, pi, tolerance, block, at, PIVOTS, SCANS, spare)
        pivots += done
        repriced = repriced and not done
        if optimal:
            if repriced:
                break
            flow.reprice(net, far, tree, pi)
            repriced = True
    return (*_apart(supply, tree), pi[:n], pivots)


def _apart(supply: Array, tree: Array) -> tuple[Array, Array, Array]:
    """Entries of the coupling: rows, columns, integer masses."""
    n = len(supply)
    parent, up, load = tree[:, flow.PARENT], tree[:, flow.UP] == 1, tree[:, flow.FLOW]
    used = np.flatnonzero(load[:n])
    tail, head = np.where(up[used], used, parent[used]), np.where(up[used], parent[used], used)
    order = np.argsort(tail, kind="stable")
    start = np.searchsorted(tail[order], np.arange(n + 2))
    entering = np.bincount(head, minlength=n + 1)
    scratch: list[Any] = [np.empty(n + 1, np.int64) for _ in range(3)]
    scratch += [np.empty(n + 1 + len(used), np.int64) for _ in range(3)]
    entries = [np.empty(n + 1 + len(used), np.int64) for _ in range(3)]
    whole_supply = np.append(supply, 0)
    count = flow.parcels(whole_supply, start, head[order], load[used][order], entering, *scratch, *entries)
    rows, cols, mass = (part[:count] for part in entries)
    # parcels of one pair may have come by several ways
    pairs, which = np.unique(rows * (n + 1) + cols, return_inverse=True)
    sums = np.zeros(len(pairs), np.int64)
    np.add.at(sums, which, mass)
    return pairs // (n + 1), pairs % (n + 1), sums


def _extended(grid: Grid, pi: Array, known: Array) -> Array:
    """Potentials of all columns from those of the columns with mass, around one of them: integers stay integers."""
    f = grid.c_transform(np.where(known, pi, -np.inf))
    g: Array = grid.c_transform(f)
    return np.asarray(g - np.partition(g, grid.size // 2)[grid.size // 2])
