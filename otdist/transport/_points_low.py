"""Assignment of n points to n points in few dimensions, by auctions from coarse to fine, without the cost matrix.

Both clouds are put in the order of a tree, in which aligned blocks of 4^l points are compact cells. Each level assigns
the means of the cells of one cloud to those of the other, all of one mass, and passes its prices on: a column of the
next level costs what makes the best row of this one indifferent, p(y) = max_i u_i − c(x_i, y). ε starts at some cells
and ends at a fraction of one; on the points themselves it goes on until n ε is 1e-10 of the cost.

Squared distances are separable in a shift: with y = y′ + s, |x − y|² = |x − y′|² − 2 s·x + 2 s·y′ + |s|². So both
clouds are centred, and the potentials get back 2 s·y′.

Measured on one busy AVX-512 core, Gaussian points in the plane, squared distances: n = 4000 0.08 s, 20,000 0.6 s,
100,000 8 s and 0.25 GB; heavy tails three times that. Distances, with their near-ties along rays: 0.9 s, 8.5 s.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from otdist._arrays import Array
from otdist.kernels import kdauction
from otdist.kernels.costs import Raised
from otdist.kernels.kdtree import Tree, ordered
from otdist.kernels.profiles import Squared
from otdist.transport._points_level import RATIO, Level
from otdist.transport._solution import Solution, Watch

# The coarsest level has at least so many cells.
COARSEST = 200
# In units of the median cost between the points of a cell: the first ε of a level, the ε of its candidates, and the
# first one of its auction over all columns.
FIRST, CANDIDATES, OPEN = 32.0, 0.1, 0.02
# Smaller ε on candidates where they are not of a sum of squares: near-ties along rays make searches dear. On the points
# themselves, on coarser levels.
DEEPER, DEEPER_COARSE = 4, 1
RELATIVE = 1e-10
# A shift of less than this part of the spread is rounding.
NO_SHIFT = 1e-12


def c_transform(x: Array, y: Array, cost: Any, g: Array) -> Array:
    """min_j cost(x_i, y_j) - g_j, as float64 arithmetic of `costs.between` gives it."""
    px, py = ordered(x), ordered(y)
    f = np.empty(len(x))
    f[px] = Tree(y[py], -g[py]).nearest(cost, x[px], 1)[1][:, 0]
    return f


def solve(x: Array, y: Array, cost: Any, watch: Watch, start: Array | None = None) -> Solution:
    """Assign the rows of x to those of y, (n, d) float64, all of mass 1. start (n,): potentials of y to begin with."""
    n = len(x)
    centre = x.mean(axis=0)
    shift = np.zeros_like(centre)
    if isinstance(cost, Squared):
        shift = y.mean(axis=0) - centre
        shift[np.abs(shift) <= NO_SHIFT * (np.ptp(x, axis=0) + np.ptp(y, axis=0))] = 0.0
    px, py = ordered(x, 4), ordered(y, 4)
    points = x[px], y[py]
    X, Y = points[0] - centre, points[1] - (centre + shift)
    tilt = 2.0 * (Y @ shift)
    first = None if start is None else tilt - start[py]
    level = _descend(X, Y, cost, watch, first) if n > 1 else Level(cost, X, Y, np.zeros(n), watch, 0)
    if n > 1 and not watch.stopped:
        _finish(level, points, cost, _unit(X, Y, 1, cost))
    cols, g = np.empty(n, np.int64), np.empty(n)
    cols[px] = py[level.completed()]
    g[py] = tilt - level.price
    return Solution(np.arange(n), cols, np.ones(n), g, level.iterations, "multiscale auction", watch.stopped)


def _descend(X: Array, Y: Array, cost: Any, watch: Watch, first: Array | None) -> Level:
    """The candidates of every level in turn; that of the points is returned, after `first` its only one."""
    n = len(X)
    sizes = [1]
    while first is None and n // (4 * sizes[-1]) >= COARSEST:
        sizes.append(4 * sizes[-1])
    level = None
    iterations = 0
    for size in reversed(sizes):
        xs, ys = (X, Y) if size == 1 else (_means(X, size), _means(Y, size))
        unit = _unit(X, Y, size, cost)
        begin, hint = FIRST * unit, np.arange(len(xs), dtype=np.int32)
        if level is not None:
            iterations, hint = level.iterations, _children(level.completed(), len(xs))
            price = -Tree(level.X, -level.values()).nearest(cost, ys, 1)[1][:, 0]
        elif first is not None:
            price = first
        else:
            price, paid = np.zeros(len(xs)), np.empty(len(xs))
            kdauction.costs_of(cost, xs, ys, hint, paid)
            begin = max(begin, float(paid.mean()))
        level = Level(cost, xs, ys, price, watch, iterations)
        if watch.stopped:
            level.assign(hint)
            continue
        squared = isinstance(cost, Squared)
        deeper = 0 if squared else DEEPER if size == 1 else DEEPER_COARSE
        least = level.rounding()
        level.candidates(max(begin, least), max(CANDIDATES * unit, least), deeper, hint)
        if size > 1 and not watch.stopped:
            level.open()
            level.auction(max(OPEN * unit / RATIO**deeper, level.rounding()))
    assert level is not None
    return level


def _finish(level: Level, points: tuple[Array, Array], cost: Any, unit: float) -> None:
    """The auction over all points, until n ε is RELATIVE of the cost or ε is rounding."""
    deeper = 0 if isinstance(cost, Squared) else DEEPER
    eps, paid = OPEN * unit / RATIO**deeper, np.empty(len(level.X))
    level.open()
    end = level.rounding()
    while not level.watch.stopped:
        level.auction(max(eps, end))
        if eps <= end:
            return
        kdauction.costs_of(cost, *points, level.row_to_col, paid)
        end = max(0.95 * RELATIVE * float(paid.mean()), level.rounding())
        eps = max(eps / RATIO, end)


def _means(X: Array, size: int) -> Array:
    starts = np.arange(0, len(X), size)
    means: Array = np.add.reduceat(X, starts, axis=0) / np.diff(np.append(starts, len(X)))[:, None]
    return means


def _spread(X: Array, size: int) -> Array:
    """Mean square distance to the mean within each cell, that of 16 points extrapolated if it has fewer."""
    n, block = len(X), max(16, size)
    starts = np.arange(0, n, block)
    counts = np.diff(np.append(starts, n))
    z = X - np.repeat(_means(X, block), counts, axis=0)
    h: Array = np.add.reduceat((z * z).sum(axis=1), starts) / counts * (size / block)
    return h[np.arange(0, n, size) // block]


def _unit(X: Array, Y: Array, size: int, cost: Any) -> float:
    """The typical cost between points of a cell."""
    hx, hy = _spread(X, size), _spread(Y, size)
    # many coincident points: not zero while anything is spread out
    typical = max(float(np.median(hx)), float(np.median(hy)), 1e-6 * float(hx.mean() + hy.mean()))
    if isinstance(cost, Squared):
        return typical
    return float((0.2 * np.sqrt(typical)) ** (cost.power if isinstance(cost, Raised) else 1.0))


def _children(partner: Array, n: int) -> Array:
    """The children of matched cells, in order, matched; what the last cell lacks goes to what is left over."""
    child = np.arange(n)
    hint: Array = (4 * partner[child // 4] + child % 4).astype(np.int32)
    taken = np.zeros(4 * len(partner), bool)
    taken[hint] = True
    hint[hint >= n] = np.flatnonzero(~taken[:n])
    return hint
