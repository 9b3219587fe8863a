"""Costs at work: what solvers and certificates ask of a cost matrix or of two clouds of points."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from otdist._arrays import Array
from otdist._evaluate import lend
from otdist.kernels import costs
from otdist.kernels.profiles import Cityblock, Squared
from otdist.transport._solution import Solution, Watch
from otdist.transport.grid import Grid

if TYPE_CHECKING:
    from otdist.kernels.pricing import Survey

# Pairs up to which the matrix of points is built: for partial transport (2 GB), for unequal masses, for any problem.
MATRIX_PAIRS, STORED_PAIRS, SHORT_PAIRS = 1 << 28, 20_000_000, 1 << 18
# Coordinates up to which costs are sums of differences, exact to the last rounding, and not of products.
DIFFERENCES = 8


class Problem(Protocol):
    """Costs c(i, j), in units of 2^log_unit, and what knows how to move mass at these costs."""

    @property
    def log_unit(self) -> float: ...

    @property
    def shape(self) -> tuple[int, int]: ...

    @property
    def integral(self) -> bool:
        """Whether all costs are whole numbers."""

    @property
    def roundings(self) -> int:
        """How often a row potential is rounded on its way."""

    def pairs(self, rows: Array, cols: Array) -> Array:
        """c(rows[s], cols[s])."""

    def row_potentials(self, g: Array) -> Array:
        """The c-transform f_i = min_j c(i, j) - g_j."""

    def column_potentials(self, f: Array) -> Array:
        """g_j = min_i c(i, j) - f_i."""

    def kept(self, rows: Array, cols: Array) -> Problem:
        """The problem of these rows and columns."""

    def matrix(self) -> Array:
        """All costs."""

    def assign(self, watch: Watch, start: Array | None) -> Solution:
        """Match rows to columns one to one (n = m)."""

    def move(self, a: Array, b: Array, watch: Watch, start: Array | None) -> Solution:
        """Move masses a to masses b, all positive, of one total."""


@dataclass(frozen=True)
class Matrix:
    """Costs as given, divided by 2^log_unit."""

    C: Array
    log_unit: float = 0.0
    roundings = 1

    @property
    def shape(self) -> tuple[int, int]:
        n, m = self.C.shape
        return n, m

    @cached_property
    def seen(self) -> Survey:
        """The range of the costs."""
        from otdist.kernels.pricing import survey

        return survey(lend(self.C))

    @cached_property
    def integral(self) -> bool:
        return self.seen.whole

    def pairs(self, rows: Array, cols: Array) -> Array:
        picked: Array = self.C[rows, cols]
        return picked

    def row_potentials(self, g: Array) -> Array:
        from otdist.kernels.pricing import c_transform

        return c_transform(self.C, g)

    def column_potentials(self, f: Array) -> Array:
        from otdist.kernels.pricing import c_transform_columns

        return c_transform_columns(self.C, f)

    def kept(self, rows: Array, cols: Array) -> Matrix:
        return Matrix(np.ascontiguousarray(self.C[np.ix_(rows, cols)]), self.log_unit)

    def matrix(self) -> Array:
        return self.C

    def assign(self, watch: Watch, start: Array | None) -> Solution:
        from otdist.transport import _assignment

        return _assignment.solve(self.C, watch, start, self.seen.largest if self.integral else -1.0)

    def move(self, a: Array, b: Array, watch: Watch, start: Array | None) -> Solution:
        from otdist.transport import _weighted

        return _weighted.solve(self.C, a, b, watch, start)


@dataclass(frozen=True)
class Points:
    """Costs between points (n, d) and (m, d), whose coordinates are in units of 2^log_length, costs of 2^log_unit."""

    x: Array
    y: Array
    cost: Any  # a tag of kernels/costs.py
    log_unit: float = 0.0
    log_length: int = 0
    roundings = 1
    directions: bool = False  # the points are those of the caller on the sphere of radius √½

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.x), len(self.y)

    @cached_property
    def integral(self) -> bool:
        whole = isinstance(self.cost, (Squared, Cityblock, costs.Chebyshev))
        return whole and all(_integral(z) for z in (self.x, self.y))

    def pairs(self, rows: Array, cols: Array) -> Array:
        out = np.empty(len(rows))
        costs.listed(self.cost, self.x, self.y, rows, cols, out)
        return out

    @cached_property
    def _stored(self) -> Matrix:
        return Matrix(self.matrix())

    def _short(self, pairs: int) -> bool:
        """Whether the way through the matrix is the shorter one, at so many pairs."""
        return len(self.x) * len(self.y) <= pairs

    def row_potentials(self, g: Array) -> Array:
        if self._short(SHORT_PAIRS) or "_stored" in self.__dict__:
            return self._stored.row_potentials(g)
        if self.x.shape[1] <= 3:
            from otdist.transport._points_low import c_transform
        else:
            from otdist.transport._points_scan import c_transform
        return c_transform(self.x, self.y, self.cost, g)

    def column_potentials(self, f: Array) -> Array:
        return replace(self, x=self.y, y=self.x).row_potentials(f)

    def kept(self, rows: Array, cols: Array) -> Points:
        x, y = np.ascontiguousarray(self.x[rows]), np.ascontiguousarray(self.y[cols])
        return replace(self, x=x, y=y)

    def matrix(self) -> Array:
        if self.x.shape[1] <= DIFFERENCES and not self._short(SHORT_PAIRS):
            from otdist.transport._weighted_points import Clouds

            return Clouds(self.x, self.y, self.cost).matrix()
        if not self._short(SHORT_PAIRS):
            from otdist.transport._points_scan import cost_matrix

            return cost_matrix(self.x, self.y, self.cost)
        C = np.empty(self.shape)
        costs.block(self.cost, self.x, self.y, C)
        return C

    def assign(self, watch: Watch, start: Array | None) -> Solution:
        n, d = self.x.shape
        if self.x.shape[1] == 1:
            return self.move(np.full(n, 1.0), np.full(n, 1.0), watch, start)
        if self._short(SHORT_PAIRS):
            return self._stored.assign(watch, start)
        if d <= 3:
            from otdist.transport._points_low import solve
        else:
            from otdist.transport._points_high import solve
        return solve(self.x, self.y, self.cost, watch, start)

    def move(self, a: Array, b: Array, watch: Watch, start: Array | None) -> Solution:
        if self.x.shape[1] == 1:  # on a line a convex cost is least between sorted points
            from otdist.transport import line

            return line.solve(self.x[:, 0], self.y[:, 0], a, b, costs.power(self.cost))
        if self._short(SHORT_PAIRS if self.x.shape[1] > DIFFERENCES else STORED_PAIRS):
            return self._stored.move(a, b, watch, start)
        from otdist.transport._weighted_points import solve_points

        return solve_points(self.x, self.y, self.cost, a, b, watch, start)


@dataclass(frozen=True)
class Gridded:
    """Costs between the points of a product grid, a sum over its axes."""

    grid: Grid
    log_unit = 0.0

    @property
    def shape(self) -> tuple[int, int]:
        return self.grid.size, self.grid.size

    @property
    def integral(self) -> bool:
        return self.grid.power in (1.0, 2.0) and all(_integral(axis) for axis in self.grid.axes)

    @property
    def roundings(self) -> int:
        return 3 * len(self.grid.axes)

    def pairs(self, rows: Array, cols: Array) -> Array:
        return np.asarray(self.grid.cost(rows, cols), np.float64)

    def row_potentials(self, g: Array) -> Array:
        return np.asarray(self.grid.c_transform(g))

    def column_potentials(self, f: Array) -> Array:
        return self.row_potentials(f)

    def kept(self, rows: Array, cols: Array) -> Matrix:
        return Matrix(np.asarray(self.grid.cost(rows[:, None], cols), np.float64))

    def matrix(self) -> Array:
        return self.grid.matrix()

    def assign(self, watch: Watch, start: Array | None) -> Solution:
        return self.move(*(np.full(self.grid.size, 1.0),) * 2, watch, start)

    def move(self, a: Array, b: Array, watch: Watch, start: Array | None) -> Solution:
        from otdist.transport.grid import solve

        return solve(self.grid, a, b, watch)


def _integral(x: Array) -> bool:
    return bool(np.all(x == np.rint(x)))


def cost_matrix(C: Array, seen: Survey) -> Matrix:
    """Costs of any size: scaled by a power of two, exactly, where sums of them would leave the range of float64."""
    if seen.largest == 0.0 or 1e-200 < seen.largest < 1e200:
        found = Matrix(C)
        found.__dict__["seen"] = seen
        return found
    exponent = min(math.frexp(seen.largest)[1], 1023)
    return Matrix(np.ascontiguousarray(np.ldexp(C, -exponent)), float(exponent))


def clouds(x: Array, y: Array, cost: str, p: float) -> Points:
    """Points whose costs neither overflow nor vanish; scaled by powers of two where they would."""
    if cost == "cosine":
        x, y = (z / lengths(z) * math.sqrt(0.5) for z in (x, y))
        return Points(np.ascontiguousarray(x), np.ascontiguousarray(y), tag("sqeuclidean", p), directions=True)
    degree = p * (2.0 if cost == "sqeuclidean" else 1.0)
    at = x[0]
    with np.errstate(over="ignore"):
        extent = max(float(np.max(np.abs(0.5 * z - 0.5 * at), initial=0.0)) for z in (x, y))
    exponent = 0 if extent == 0.0 else math.frexp(extent)[1] + 1
    if abs(exponent) * max(degree, 2.0) <= 600:
        return Points(x, y, tag(cost, p))
    x, y = (np.ascontiguousarray(np.ldexp(z, -exponent)) for z in (x, y))
    return Points(x, y, tag(cost, p), exponent * degree, exponent)


def unscaled(problem: Any) -> Any:
    """The problem in the units of the caller."""
    if isinstance(problem, Points):
        x, y = (np.ldexp(z, problem.log_length) for z in (problem.x, problem.y))
        return replace(problem, x=x, y=y, log_unit=0.0, log_length=0)
    return Matrix(np.ldexp(problem.C, int(problem.log_unit)))


def lengths(z: Array) -> Array:
    """‖z‖ of every row, kept as a column; no square leaves the range of float64."""
    top = np.max(np.abs(z), axis=-1, keepdims=True)
    scale = np.where(top > 0.0, top, 1.0)
    found: Array = scale * np.linalg.norm(z / scale, axis=-1, keepdims=True)
    return found


def tag(cost: str, p: float) -> Any:
    """The cost of this name to the power p."""
    if cost in ("sqeuclidean", "euclidean"):
        degree = 2.0 * p if cost == "sqeuclidean" else p
        if degree == 2.0:
            return Squared()
        return costs.Euclidean() if degree == 1.0 else costs.Raised(costs.Euclidean(), degree)
    base = Cityblock() if cost == "cityblock" else costs.Chebyshev()
    return base if p == 1.0 else costs.Raised(base, p)
