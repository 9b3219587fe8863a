"""Exact weighted transport between clouds of points, without the matrix of costs where that is large.

The engine of `_weighted_large.py` reads costs in tiles of rows; here they are made on the fly and forgotten. It keeps
some tens of candidate arcs a row. Rows are computed about three times for the auction and once for each pricing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from otdist._arrays import Array
from otdist.kernels.cost_tiles import differences, from_products
from otdist.kernels.costs import Euclidean, Raised, listed
from otdist.kernels.profiles import Squared
from otdist.kernels.threads import single_blas
from otdist.transport import _weighted
from otdist.transport._solution import Solution, Watch
from otdist.transport._weighted import TURN, Compiling, Costs, Stored, count_mass

STORED = 20_000_000  # up to so many pairs, their costs are simply stored
TILE = 1 << 18  # pairs of a tile
PRODUCTS = 8  # more coordinates than this: a matrix product is faster than differences


class Clouds:
    """Costs between points, made on the fly."""

    def __init__(self, x: Array, y: Array, tag: Any) -> None:
        self.shape: tuple[int, int] = (len(x), len(y))
        self._x, self._y, self._tag = np.array(x), np.array(y), tag
        base = tag.base if isinstance(tag, Raised) else tag
        self._products = x.shape[1] > PRODUCTS and isinstance(base, Squared | Euclidean)
        # For products, a common shift makes the norms small.
        centre = (x.mean(axis=0) + y.mean(axis=0)) / 2 if self._products else 0.0
        self._near_x, self._yt = self._x - centre, np.ascontiguousarray((self._y - centre).T)
        self.noise = 0.0
        self._buffer = np.empty(0)
        if self._products:
            self._x_squares, self._y_squares = np.square(self._near_x).sum(axis=1), np.square(self._yt).sum(axis=0)
            largest = float(self._x_squares.max() + self._y_squares.max())
            farthest = 4.0 * largest if isinstance(base, Squared) else 2.0 * largest**0.5
            self.noise = 2.0**-44 * (farthest**tag.power if isinstance(tag, Raised) else farthest)

    def tile(self, rows: Array) -> tuple[Array, Array]:
        room = len(rows) * self.shape[1]
        if len(self._buffer) < room:
            self._buffer = np.empty(room)
        out = self._buffer[:room].reshape(len(rows), self.shape[1])
        rows = np.asarray(rows, np.int32)
        if self._products:
            with single_blas():
                np.matmul(self._near_x[rows], self._yt, out=out)
            from_products(self._tag, self._x, rows, self._y, self._x_squares, self._y_squares, out)
        else:
            differences(self._tag, self._x, rows, self._yt, out)
        return _weighted.lend(out), np.arange(len(rows), dtype=np.int32)

    def tiles(self) -> Iterator[tuple[Array, Array, Array]]:
        rows = np.arange(self.shape[0], dtype=np.int32)
        size = max(8, TILE // self.shape[1])
        for start in range(0, len(rows), size):
            some = rows[start : start + size]
            yield *self.tile(some), some

    def matrix(self) -> Array:
        """All of it."""
        C = np.empty(self.shape)
        for tile, _, rows in self.tiles():
            C[rows] = tile
        return C

    def part(self, rows: Array, columns: Array) -> Array:
        return Clouds(self._x[rows], self._y[columns], self._tag).matrix()

    def less(self, rows: Array, columns: Array) -> Costs:
        some = Clouds(self._x[rows], self._y[columns], self._tag)
        return Stored(some.matrix()) if len(rows) * len(columns) <= STORED else some

    def costs(self, rows: Array, columns: Array) -> Array:
        out = np.empty(len(rows))
        listed(self._tag, self._x, self._y, np.asarray(rows, np.int32), np.asarray(columns, np.int32), out)
        return out

    def exact(self) -> bool:
        return False


def solve_points(x: Array, y: Array, cost: Any, a: Array, b: Array, watch: Watch, start: Any = None) -> Solution:
    """Exact transport between points x (n, d), y (m, d) of masses a, b > 0, at a cost of `kernels/costs.py`.

    Memory: O(n + m) times some tens of numbers, and a tile; up to 2e7 pairs, the matrix of costs. `start` may be prices
    g of the columns (m,).
    """
    if len(x) * len(y) <= STORED:
        return _weighted.solve(Clouds(x, y, cost).matrix(), a, b, watch, start)
    turned = len(y) > TURN * len(x)
    if turned:
        x, y, a, b = y, x, b, a
    from otdist.transport._weighted_large import level

    masses = count_mass(a, b)
    with Compiling():
        basis, stopped = level(Clouds(x, y, cost), masses, watch, 0, None if turned else start)
    return basis.solution(a, b, masses.unit, stopped, turned)
