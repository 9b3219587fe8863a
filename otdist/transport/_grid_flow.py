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

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from otdist._arrays import Array
from otdist.kernels import flow
from otdist.transport._solution import Solution, Watch

if TYPE_CHECKING:
    from otdist.transport.grid import Grid

TOTAL = 2**62
# Pivots and priced blocks between two looks at the watch.
PIVOTS, SCANS = 4000, 20_000


@dataclass(frozen=True)
class Network:
    """Arcs, and what enters (> 0) or leaves at each node."""

    tail: Array  # (arcs,) int32
    head: Array
    cost: Array  # float64
    supply: Array  # (nodes,) int64
    far: float  # twice this is more than any path costs


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
    network = _network(grid, tails, heads, costs, left - right)
    rows, cols, mass, pi, pivots = _flow(network, watch)
    stay = np.minimum(left, right)
    still = np.flatnonzero(stay)
    rows, cols = np.concatenate([rows, still]), np.concatenate([cols, still])
    mass = np.concatenate([mass, stay[still]]) / TOTAL
    return Solution(rows, cols, mass, _extended(grid, pi, b > 0), pivots, "grid network simplex", watch.stopped)


def between_layers(grid: Grid, a: Array, b: Array, watch: Watch) -> Solution:
    """Any p: mass changes one coordinate after another."""
    axes = [k for k, n in enumerate(grid.shape) if n > 1]
    numbers, size, last = np.arange(grid.size).reshape(grid.shape), grid.size, len(axes) - 1
    tails, heads, costs = [], [], []
    for layer, k in enumerate(axes):
        lines = np.moveaxis(numbers, k, -1).reshape(-1, grid.shape[k])
        tail = np.repeat(lines, grid.shape[k], axis=1).ravel()
        head = np.tile(lines, (1, grid.shape[k])).ravel()
        cost = np.broadcast_to(grid._table(k).ravel(), (len(lines), grid.shape[k] ** 2)).ravel()
        keep = np.ones(len(tail), bool)
        if layer == 0:
            keep &= a[tail] > 0
        if layer == last:
            keep &= b[head] > 0
        tails.append(tail[keep] + layer * size)
        heads.append(head[keep] + (layer + 1) * size)
        costs.append(cost[keep])
    supply = np.zeros((len(axes) + 1) * size, np.int64)
    supply[:size], supply[-size:] = whole(a), -whole(b)
    network = _network(grid, tails, heads, costs, supply)
    rows, cols, mass, pi, pivots = _flow(network, watch)
    g = _extended(grid, pi[-size:], b > 0)
    return Solution(rows, cols - (last + 1) * size, mass / TOTAL, g, pivots, "layered network simplex", watch.stopped)


def whole(weights: Array) -> Array:
    """Weights as integers with the sum TOTAL; the largest takes what rounding leaves."""
    scaled = np.rint(weights / weights.sum() * TOTAL).astype(np.int64)
    scaled[np.argmax(scaled)] += TOTAL - int(scaled.sum())
    return np.asarray(scaled)


def _network(grid: Grid, tails: list[Array], heads: list[Array], costs: list[Array], supply: Array) -> Network:
    tail, head, cost = (np.concatenate(parts) for parts in (tails, heads, costs))
    # nodes without arcs or supply do no harm: each hangs on the root by itself
    far = sum(float(grid._table(k)[0, -1]) for k in range(len(grid.axes)))
    order = np.argsort(tail, kind="stable")
    return Network(tail[order].astype(np.int32), head[order].astype(np.int32), cost[order], supply, far)


def _flow(network: Network, watch: Watch) -> tuple[Array, Array, Array, Array, int]:
    """Rows, columns and masses of a flow of least cost, its potentials, and the pivots."""
    n, arcs = len(network.supply), len(network.tail)
    tree, pi = np.empty((n + 1, 8), np.int64), np.empty(n + 1)
    flow.plant(network.supply, network.far, tree, pi)
    block = max(64, int(arcs**0.5))
    tolerance = 16 * np.finfo(float).eps * network.far
    at, pivots, repriced = 0, 0, False
    while not watch.stop("network simplex", pivots):
        arguments = (network.tail, network.head, network.cost, tree, pi, tolerance, block, at, PIVOTS, SCANS)
        at, done, optimal = flow.improve(*arguments)
        pivots += done
        repriced = repriced and not done
        if optimal:
            if repriced:
                break
            flow.reprice(network.cost, network.far, tree, pi)
            repriced = True
    return (*_apart(network.supply, tree), pi[:n], pivots)


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
