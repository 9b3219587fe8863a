"""Gradients of entropic transport by points: the envelope theorem, sum_j P_ij grad c(x_i, y_j), the plan held fixed.

The plan is never stored: tiles of it are made from the potentials, one exponential a pair, and both gradients taken.
O((n + m) d) memory. Where a cost has a kink (coincident points of a distance), its subgradient 0 is stated.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from otdist._arrays import Array
from otdist.kernels import entropic_pulls as kernels
from otdist.kernels import threads
from otdist.kernels.costs import Euclidean
from otdist.kernels.profiles import Squared
from otdist.kernels.vecmath import LOG2E
from otdist.transport._gibbs import Entropic
from otdist.transport._problem import DIFFERENCES, Points, lengths
from otdist.transport._pulls import _through_direction
from otdist.transport._weighted import lend

# Rows and columns of a tile; so many tiles a side are aimed at, whatever the threads, for these to share.
TILE, SMALLEST, SHARES, CACHED = 512, 128, 8, 4096
LANES = 64  # columns of a tile in multiples of this: what unrolled loops leave over is done one by one
EMPTY = np.empty((0, 0))


@dataclass(frozen=True)
class Weight:
    """Λ_ij = rows_i + cols_j + slope c_ij + <left_i, right_j> + dense_ij, with c in units of the problem."""

    rows: Array  # (n,)
    cols: Array  # (m,)
    slope: float = 0.0
    left: Array | None = None  # (n, r)
    right: Array | None = None  # (m, r)
    dense: Array | None = None  # (n, m)

    def extra(self, i0: int, i1: int, j0: int, j1: int) -> Array:
        """What a tile has of it beyond rows, columns and costs."""
        found = EMPTY
        if self.left is not None and self.right is not None:
            found = self.left[i0:i1] @ self.right[j0:j1].T
        if self.dense is not None:
            part = self.dense[i0:i1, j0:j1]
            found = np.array(part, np.float64, order="C") if found is EMPTY else found + part
        return found


def by_points(
    task: Entropic, phi: Array, gamma: Array, weight: Weight | None = None, given: tuple[Array, Array] | None = None
) -> tuple[Array, Array]:
    """sum_j Λ_ij P_ij grad_x c(x_i, y_j) (n, d), and the same by y_j (m, d); Λ = 1 without `weight`.

    In the caller's units of cost and length. `given` are the caller's points x and y, needed where the problem's are
    directions.
    """
    n, m = task.shape
    if weight is None:
        weight = Weight(np.ones(n), np.zeros(m))
    sums = Tiles(task, phi, gamma).pull(weight)
    return from_problem(task.problem, sums, given)


def from_problem(problem: Points, pulls: tuple[Array, Array], given: tuple[Array, Array] | None) -> tuple[Array, Array]:
    """Gradients by the problem's points in its units -> by the caller's points in the caller's."""
    unit = 2.0**problem.log_unit
    if problem.directions:
        if given is None:
            raise ValueError("given: cosine costs need the caller's points; pass (x, y)")
        return unit * _through_direction(given[0], pulls[0]), unit * _through_direction(given[1], pulls[1])
    scale = unit * 2.0**-problem.log_length
    return scale * pulls[0], scale * pulls[1]


def into_problem(problem: Points, moves: tuple[Array, Array], given: tuple[Array, Array] | None) -> tuple[Array, Array]:
    """Motions of the caller's points -> of the problem's."""
    if problem.directions:
        if given is None:
            raise ValueError("given: cosine costs need the caller's points; pass (x, y)")
        # the Jacobian of a direction is symmetric
        return _through_direction(given[0], moves[0]), _through_direction(given[1], moves[1])
    scale = 2.0**-problem.log_length
    return scale * moves[0], scale * moves[1]


def turned(x: Array, move: Array, pull: Array) -> Array:
    """The derivative of `_through_direction(x, pull)` as x moves and the pull stays."""
    r = lengths(x)
    unit = x / r
    growth = np.sum(unit * move, axis=1, keepdims=True)
    turn = (move - unit * growth) / r
    along = np.sum(unit * pull, axis=1, keepdims=True)
    change = turn * along + unit * np.sum(turn * pull, axis=1, keepdims=True) + (pull - unit * along) * growth / r
    out: Array = -change / (r * np.sqrt(2.0))
    return out


def logarithms(task: Entropic, phi: Array, gamma: Array) -> tuple[Array, Array, float]:
    """u, v and scale of P_ij = 2^(u_i + v_j - scale c_ij)."""
    return np.log2(task.a) + LOG2E * phi, np.log2(task.b) + LOG2E * gamma, LOG2E / task.epsilon


class Tiles:
    """The pairs of two clouds at given potentials, tile by tile."""

    def __init__(self, task: Entropic, phi: Array, gamma: Array) -> None:
        problem = task.problem
        self.tag: Any = problem.cost
        self.x, self.y = (np.ascontiguousarray(z, np.float64) for z in (problem.x, problem.y))
        u, v, self.scale = logarithms(task, phi, gamma)
        self.u, self.v, self.over = lend(u), lend(v), 1.0 / task.epsilon
        self.shape, self.d = task.shape, self.x.shape[1]
        self.products = self.d > DIFFERENCES and isinstance(getattr(self.tag, "base", self.tag), Squared | Euclidean)
        self._free: deque[list[Array]] = deque()

    def pull(self, weight: Weight) -> tuple[Array, Array]:
        """The weighted sums of gradients, in units of the problem."""
        if self.products:
            return self._by_products(weight)
        gx, gyt = np.zeros(self.x.shape), np.zeros(self.y.T.shape)
        x, yt, rows, cols = self._clouds(), self._columns(), _float(weight.rows), _float(weight.cols)

        def one(i0: int, i1: int, j0: int, j1: int, scratch: list[Array]) -> None:
            kernels.pull(
                *(self.tag, x, yt, self.u, self.v, self.scale, rows, cols, float(weight.slope)),
                *(lend(weight.extra(i0, i1, j0, j1)), gx, gyt, *scratch[:2], i0, i1, j0, j1),
            )

        self._each(one)
        return gx, np.ascontiguousarray(gyt.T)

    def _by_products(self, weight: Weight) -> tuple[Array, Array]:
        """Σ_j w_ij (x_i - y_j), w = W A: products of tiles of w with the points, which a common shift makes small."""
        centre = 0.5 * (self.x.mean(axis=0) + self.y.mean(axis=0))
        x, y = lend(self.x - centre), lend(self.y - centre)
        squares = [lend(np.einsum("ij,ij->i", z, z)) for z in (x, y)]
        gx, gy, rows, cols = np.zeros(x.shape), np.zeros(y.shape), np.zeros(len(x)), np.zeros(len(y))
        by_rows, by_cols = _float(weight.rows), _float(weight.cols)

        def one(i0: int, i1: int, j0: int, j1: int, scratch: list[Array]) -> None:
            product = scratch[-1][: (i1 - i0) * (j1 - j0)].reshape(i1 - i0, j1 - j0)
            np.matmul(x[i0:i1], y[j0:j1].T, out=product)
            kernels.from_product(
                *(self.tag, x, y, *squares, self.u, self.v, self.scale, by_rows, by_cols, float(weight.slope)),
                *(lend(weight.extra(i0, i1, j0, j1)), product, rows, cols, gx, gy, i0, j0),
            )
            gx[i0:i1] -= product @ y[j0:j1]
            gy[j0:j1] -= product.T @ x[i0:i1]

        with threads.single_blas():
            self._each(one, TILE * TILE)
        gx += rows[:, None] * x
        gy += cols[:, None] * y
        return gx, gy

    def along(self, dx: Array, dy: Array) -> tuple[Array, Array]:
        """Sums over rows and over columns of P ∂c, where ∂c is how the costs change as the points move."""
        rows, cols = np.zeros(self.shape[0]), np.zeros(self.shape[1])
        x, yt, moves, dyt = self._clouds(), self._columns(), _float(dx), _float(dy.T)

        def one(i0: int, i1: int, j0: int, j1: int, scratch: list[Array]) -> None:
            kernels.along(
                *(self.tag, x, yt, moves, dyt, self.u, self.v, self.scale, rows, cols),
                *(*scratch[:2], i0, i1, j0, j1),
            )

        self._each(one)
        return rows, cols

    def bend(self, dx: Array, dy: Array, by_rows: Array, by_cols: Array) -> tuple[Array, Array]:
        """How the gradients change as the points move and log P by `by_rows` + `by_cols` - ∂c/ε."""
        gx, gyt = np.zeros(self.x.shape), np.zeros(self.y.T.shape)
        x, yt, moves, dyt = self._clouds(), self._columns(), _float(dx), _float(dy.T)
        rows, cols = _float(by_rows), _float(by_cols)

        def one(i0: int, i1: int, j0: int, j1: int, scratch: list[Array]) -> None:
            kernels.bend(
                *(self.tag, x, yt, moves, dyt, self.u, self.v, self.scale, rows, cols, self.over),
                *(gx, gyt, *scratch[:4], i0, i1, j0, j1),
            )

        self._each(one)
        return gx, np.ascontiguousarray(gyt.T)

    def _clouds(self) -> Array:
        return lend(self.x)

    def _columns(self) -> Array:
        return lend(np.ascontiguousarray(self.y.T))

    def _each(self, one: Callable[..., None], room: int = 0) -> None:
        """Every tile once, in rounds that share neither rows nor columns."""
        # by differences the columns of a tile, coordinates and sums, stay in the first-level cache
        most = TILE if room else min(TILE, max(SMALLEST, CACHED // (2 * self.d + 4) // LANES * LANES))
        rows = list(threads.spans(self.shape[0], _size(self.shape[0], TILE)))
        cols = list(threads.spans(self.shape[1], _size(self.shape[1], most)))
        nanoseconds = (1.0 + 0.3 * self.d) * self.shape[0] * self.shape[1] / max(len(rows), len(cols))

        def task(i: int, j: int) -> None:
            try:
                scratch = self._free.pop()
            except IndexError:
                scratch = [np.empty(TILE) for _ in range(4)]
            if room and len(scratch) == 4:
                scratch.append(np.empty(room))
            one(*rows[i], *cols[j], scratch)
            self._free.append(scratch)

        for shift in range(max(len(rows), len(cols))):
            if len(rows) >= len(cols):
                pairs = [((j + shift) % len(rows), j) for j in range(len(cols))]
            else:
                pairs = [(i, (i + shift) % len(cols)) for i in range(len(rows))]
            threads.run(task, pairs, nanoseconds)


def _size(count: int, most: int) -> int:
    return min(most, max(SMALLEST, -(-count // (SHARES * LANES)) * LANES))


def _float(z: Array) -> Array:
    return lend(np.ascontiguousarray(z, np.float64))
