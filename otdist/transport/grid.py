"""Product grids with costs that are sums over axes, and exact transport between histograms on one of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from otdist._arrays import Array
from otdist._quantiles import line_coupling
from otdist.kernels import minplus, threads
from otdist.transport._grid_flow import between_layers, between_neighbours
from otdist.transport._solution import Solution, Watch

__all__ = ["Grid"]

# Points of a tile of lines, and nanoseconds per point.
TILE, NANOSECONDS = 1 << 15, 10.0
POWERS = {"sqeuclidean": 2.0, "cityblock": 1.0}


@dataclass(frozen=True, eq=False)
class Grid:
    """A product grid with the cost Σ_k |x_k − y_k|^p between its points, which are numbered in C order.

    Parameters
    ----------
    axes : sequence of int or of array_like (n_k,)
        Of each axis its number of points, 0, 1, ..., n − 1, or their coordinates, increasing.
    cost : {"sqeuclidean", "cityblock"} or float, default "sqeuclidean"
        p = 2, p = 1, or p itself, at least 1.

    Raises
    ------
    ValueError, TypeError
        Naming the argument.

    Notes
    -----
    Histograms have the shape of the grid or are flat, in C order; potentials and plans are flat.

    A cost that is a sum over axes is never written down: a c-transform takes O(N) time for N points if p is 1 or 2.

    Examples
    --------
    >>> import numpy as np
    >>> import otdist as od
    >>> grid = od.Grid((2, 3))
    >>> float(grid.cost(0, 5))
    5.0
    >>> grid.c_transform(np.zeros((2, 3))).tolist()
    [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """

    axes: tuple[Array, ...]
    cost_name: Any = "sqeuclidean"

    def __init__(self, axes: Sequence[Any], cost: Any = "sqeuclidean") -> None:
        object.__setattr__(self, "axes", _axes(axes))
        object.__setattr__(self, "cost_name", cost)
        if isinstance(cost, str):
            if cost not in POWERS:
                raise ValueError(f'cost: found {cost!r}; give "sqeuclidean", "cityblock" or a power >= 1')
        elif isinstance(cost, bool) or not isinstance(cost, int | float | np.integer | np.floating):
            raise TypeError(f'cost: found {cost!r}; give "sqeuclidean", "cityblock" or a power >= 1')
        elif not 1 <= cost < math.inf:
            raise ValueError(f"cost: found {cost!r}; a power is finite and at least 1")

    @property
    def power(self) -> float:
        """The p of |x − y|^p."""
        return POWERS[self.cost_name] if isinstance(self.cost_name, str) else float(self.cost_name)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(axis) for axis in self.axes)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def points(self) -> Array:
        """Coordinates (size, d) of all points."""
        return np.stack(np.meshgrid(*self.axes, indexing="ij"), axis=-1).reshape(self.size, -1)

    def cost(self, rows: Any, cols: Any) -> Any:
        """The cost between points given by their numbers, which broadcast."""
        total: Any = 0.0
        for axis, i, j in zip(
            self.axes, np.unravel_index(rows, self.shape), np.unravel_index(cols, self.shape), strict=True
        ):
            total = total + _power(np.abs(axis[i] - axis[j]), self.power)
        return total

    def matrix(self) -> Array:
        """All costs (size, size), for grids small enough to hold them."""
        numbers = np.arange(self.size)
        return np.asarray(self.cost(numbers[:, None], numbers))

    def c_transform(self, g: Array, argmin: bool = False) -> Any:
        """f_x = min_y c(x, y) − g_y at every point; with argmin also the number of a y that attains it.

        g has the shape of the grid or (size,), and f has that of g. Entries of −inf are never attained; where all are,
        f is +inf. O(size) time if p is 1 or 2, else O(size max n_k).
        """
        given = np.asarray(g, np.float64)
        if given.shape not in (self.shape, (self.size,)):
            raise ValueError(f"g: found shape {given.shape}; the grid has shape {self.shape}")
        values = -given.reshape(self.shape)
        number = np.zeros(self.shape, np.int64)
        for k in range(len(self.axes)):
            values, step = self._along(k, values)
            if argmin:
                number = np.take_along_axis(number, step, axis=k) + step * math.prod(self.shape[k + 1 :])
        f = values.reshape(given.shape)
        return (f, number.reshape(given.shape)) if argmin else f

    def _along(self, k: int, values: Array) -> tuple[Array, Array]:
        """The transform along axis k, and where on it the minimum is."""
        n, moved = self.shape[k], np.moveaxis(values, k, -1)
        H = np.array(moved, order="C").reshape(-1, n)
        out, arg = np.empty_like(H), np.empty(H.shape, np.int64)
        x = self._centred[k]

        def tile(start: int, stop: int) -> None:
            if self.power == 1.0:
                minplus.lines_cityblock(x, H, out, arg, start, stop)
            elif self.power == 2.0:
                minplus.lines_squares(x, H, out, arg, np.empty(n, np.int64), np.empty(n), start, stop)
            else:
                minplus.lines_any(self._table(k), H, out, arg, start, stop)

        each = NANOSECONDS if self.power in (1.0, 2.0) else 0.3 * n
        threads.run(tile, threads.spans(len(H), max(1, TILE // n)), each * H.size)
        back = [np.moveaxis(part.reshape(moved.shape), -1, k) for part in (out, arg)]
        return back[0], back[1]

    @cached_property
    def _centred(self) -> tuple[Array, ...]:
        return tuple(axis - 0.5 * (axis[0] + axis[-1]) for axis in self.axes)

    def _table(self, k: int) -> Array:
        tables = self._tables
        if k not in tables:
            x = self.axes[k]
            tables[k] = _power(np.abs(x[:, None] - x), self.power)
        return tables[k]

    @cached_property
    def _tables(self) -> dict[int, Array]:
        return {}


def _power(gap: Array, p: float) -> Array:
    if p == 1.0:
        return gap
    return gap * gap if p == 2.0 else gap**p


def _axes(axes: Sequence[Any]) -> tuple[Array, ...]:
    if isinstance(axes, str) or not isinstance(axes, Sequence) or not len(axes):
        raise TypeError(f"axes: found {axes!r}; give a tuple of sizes or of coordinates, one for each axis")
    found = []
    for k, axis in enumerate(axes):
        if isinstance(axis, int | np.integer) and not isinstance(axis, bool):
            if axis < 1:
                raise ValueError(f"axes: found {axis} points on axis {k}; give at least 1")
            found.append(np.arange(int(axis), dtype=np.float64))
            continue
        x = np.array(axis, dtype=np.float64)
        if x.ndim != 1 or not x.size:
            raise ValueError(f"axes: found shape {x.shape} on axis {k}; coordinates have shape (n,), n >= 1")
        if not (np.isfinite(x).all() and (np.diff(x) > 0).all()):
            raise ValueError(
                f"axes: found coordinates on axis {k} that do not increase; sort them, finite and distinct"
            )
        found.append(x)
    return tuple(found)


def solve(grid: Grid, a: Array, b: Array, watch: Watch) -> Solution:
    """Exact transport between histograms a, b (size,) on one grid: a flow of least cost on a sparse network.

    Float64, non-negative, of equal sums up to rounding. One axis: sorting. p = 1: arcs between neighbours. Other p: a
    point moves one axis after another, arcs within lines.
    """
    axes = [axis for axis in grid.axes if len(axis) > 1]
    if len(axes) <= 1:
        x = axes[0] if axes else np.zeros(1)
        rows, cols, mass, g = line_coupling(x, x, a, b, grid.power)
        return Solution(rows, cols, mass, g, len(mass), "monotone coupling")
    build = between_neighbours if grid.power == 1.0 else between_layers
    found = build(grid, a, b, watch)
    return replace(found, mass=found.mass * math.fsum(a.tolist()))
