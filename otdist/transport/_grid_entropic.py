"""Entropic transport between histograms on one product grid, whose costs are sums over axes.

The Gibbs kernel is a product over axes, so an iteration of Sinkhorn takes 2 N sum n_k operations and no matrix of N x N
(Solomon et al. 2015), in the log domain (`kernels/line_softmin.py`). Masses may be zero.

Iterations are those of Sinkhorn on gamma, accelerated by Anderson's method (1965; Walker & Ni 2011) and approached
through larger epsilon. An accelerated step that makes the error much worse is taken back.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np

from otdist._arrays import Array
from otdist.kernels import line_softmin, threads
from otdist.kernels.vecmath import LOG2E
from otdist.transport._gibbs import Bounds, Entropic, Potentials
from otdist.transport._rounded import Sums, bounds
from otdist.transport._solution import Watch
from otdist.transport.grid import Grid

# Lines of a tile, and nanoseconds per point of a line and point.
TILE, NANOSECONDS = 256, 0.08
# Residuals that Anderson's method combines, the least share of a singular direction among them.
MEMORY, CONDITION = 8, 1e-12
# Stages: the first epsilon is at least the largest cost over FIRST, each next one smaller by FACTOR; how accurately
# they are solved.
FIRST, FACTOR, ROUGH = 20.0, 4.0, 1e-3
# Iterations without an error that is less, after which rounding has the last word.
PATIENCE = 60
SOLVER = "log-domain Sinkhorn on a grid, Anderson acceleration"


class Kernel:
    """The Gibbs kernel of a grid at one epsilon."""

    def __init__(self, grid: Grid, epsilon: float) -> None:
        self._grid, self._epsilon = grid, epsilon
        self._T = [np.ascontiguousarray(grid._table(k)) * (LOG2E / epsilon) for k in range(len(grid.axes))]
        with np.errstate(under="ignore"):
            self._E = [np.exp2(-T) for T in self._T]

    def softmin(self, h: Array) -> Array:
        """log sum_j exp(h_j - c_ij / epsilon) at every point; h (N,), -inf where there is no mass."""
        values = h * LOG2E
        for k, n in enumerate(self._grid.shape):
            if n == 1:
                continue
            out = np.empty_like(values)
            self._run(k, line_softmin.softmin_lines, (self._E[k], self._T[k], values), (out,), 2)
            values = out
        return values / LOG2E

    def mean(self, h: Array, V: Array | None = None) -> tuple[Array, Array]:
        """`softmin`, and the mean of V_j, or of the cost c_ij, under weights exp(h_j - c_ij / epsilon)."""
        values = h * LOG2E
        means = np.zeros(len(h)) if V is None else V
        for k, n in enumerate(self._grid.shape):
            if n == 1:
                continue
            out, after = np.empty_like(values), np.empty_like(values)
            D, ED = self._priced[k] if V is None else (np.zeros((n, n)),) * 2
            self._run(k, line_softmin.mean_lines, (self._E[k], self._T[k], D, ED, values, means), (out, after), 4)
            values, means = out, after
        return values / LOG2E, means

    @cached_property
    def _priced(self) -> list[tuple[Array, Array]]:
        tables = [self._grid._table(k) for k in range(len(self._grid.axes))]
        return [(D, E * D) for D, E in zip(tables, self._E, strict=True)]

    def _run(self, k: int, function: object, given: tuple[Array, ...], out: tuple[Array, ...], scratch: int) -> None:
        shape = self._grid.shape
        n, after = shape[k], math.prod(shape[k + 1 :])
        lines = self._grid.size // n

        def tile(start: int, stop: int) -> None:
            room = [np.empty((n, line_softmin.WIDTH)) for _ in range(scratch)]
            function(*given, after, *out, *room, np.empty(line_softmin.WIDTH), start, stop)  # type: ignore[operator]

        threads.run(tile, threads.spans(lines, TILE), NANOSECONDS * lines * n * (n + 32))


def solve(task: Entropic, watch: Watch, start: Array | None = None) -> Potentials:
    """`task.problem` is `Gridded`, a and b are histograms on it, zeros allowed."""
    grid: Grid = task.problem.grid
    largest = sum(float(grid._table(k).max()) for k in range(len(grid.axes)))
    stretch = 1.0 if start is not None else max(1.0, largest / FIRST / task.epsilon)
    gamma = np.zeros(len(task.b)) if start is None else np.where(task.b > 0.0, start, 0.0)
    done, earlier, before = 0, 0.0, gamma
    while True:
        stage = _Stage(task, grid, stretch)
        final = stretch == 1.0
        gamma, done = stage.run(gamma, task.tol if final else max(task.tol, ROUGH), watch, done)
        if final or watch.stopped:
            break
        coming = stretch / FACTOR if stretch > 1.001 * FACTOR else 1.0
        # in units of the costs potentials are nearly linear in epsilon
        along = (stretch - coming) / (earlier - stretch) if earlier else 0.0
        here = gamma * stretch
        gamma, before = (here + along * (here - before)) / coming, here
        earlier, stretch = stretch, coming
    if not final:  # potentials of a larger epsilon, in units of this one
        stage, gamma = _Stage(task, grid, 1.0), gamma * stretch
    phi = stage.rows(gamma)
    columns = stage.column_sums(phi, gamma)
    error = stage.error(columns, gamma)
    gamma = np.where(task.b > 0.0, gamma, stage.columns(phi))
    stopped = "" if error <= task.tol else watch.stopped or "stalled"
    return Potentials(phi, gamma, error, done, SOLVER, stopped, columns)


class _Stage:
    """The problem at one epsilon, `stretch` times its own."""

    def __init__(self, task: Entropic, grid: Grid, stretch: float) -> None:
        self.task = task
        self.kernel = Kernel(grid, task.epsilon * stretch)
        self.kappa = tuple(kappa / (kappa + stretch * (1.0 - kappa)) for kappa in task.kappa)
        with np.errstate(divide="ignore"):
            self._log_a, self._log_b = np.log(task.a), np.log(task.b)

    def rows(self, gamma: Array) -> Array:
        return -self.kappa[0] * self.kernel.softmin(gamma + self._log_b)

    def columns(self, phi: Array) -> Array:
        return -self.kappa[1] * self.kernel.softmin(phi + self._log_a)

    def column_sums(self, phi: Array, gamma: Array) -> Array:
        with np.errstate(over="ignore"):
            sums = np.exp(gamma + self._log_b + self.kernel.softmin(phi + self._log_a))
        return np.where(self.task.b > 0.0, sums, 0.0)

    def target(self, gamma: Array) -> Array:
        if self.kappa[1] == 1.0:
            return self.task.b
        with np.errstate(over="ignore"):
            return np.where(self.task.b > 0.0, self.task.b * np.exp(-(1.0 / self.kappa[1] - 1.0) * gamma), 0.0)

    def error(self, columns: Array, gamma: Array) -> float:
        """L1 error of the columns; relative to the mass where marginals have a price (rows are exact)."""
        target = self.target(gamma)
        error = float(np.abs(columns - target).sum())
        return error if self.kappa == (1.0, 1.0) else error / float(columns.sum() + target.sum())

    def run(self, gamma: Array, tol: float, watch: Watch, done: int) -> tuple[Array, int]:
        """The best gamma, and iterations so far."""
        weights = np.sqrt(self.task.b)
        best, least, since = gamma, math.inf, 0
        moves: list[Array] = []
        residuals: list[Array] = []
        accelerated = False
        while True:
            phi = self.rows(gamma)
            plain = self.columns(phi)
            plain[self.task.b == 0.0] = 0.0
            residual = plain - gamma
            # P^T 1 = b exp(gamma - plain / kappa)
            with np.errstate(over="ignore"):
                sums = np.where(self.task.b > 0.0, np.exp(gamma + self._log_b - plain / self.kappa[1]), 0.0)
            error = self.error(sums, gamma)
            done += 1
            if not error < least:
                since += 1
            else:
                best, least, since = gamma, error, 0
                plain_best = plain
            if least <= tol or since > PATIENCE or watch.stop("sinkhorn", done, error=least):
                return best, done
            if accelerated and not error < 2.0 * least:
                gamma, accelerated = plain_best, False
                moves, residuals = [], []
                continue
            moves, residuals = [*moves[-MEMORY:], plain], [*residuals[-MEMORY:], residual]
            gamma, accelerated = plain, False
            if len(moves) > 1:
                dR = np.diff(np.stack(residuals), axis=0) * weights
                gram, right = dR @ dR.T, dR @ (residual * weights)
                gram[np.diag_indices_from(gram)] *= 1.0 + CONDITION
                factors = np.linalg.lstsq(gram, right, rcond=1e-14)[0]
                step = factors @ np.diff(np.stack(moves), axis=0)
                if np.isfinite(step).all():
                    gamma, accelerated = plain - step, True


def applied(task: Entropic, phi: Array, gamma: Array, V: Array, transpose: bool = False) -> Array:
    """P V, or P^T V, of V (N,) or (N, q)."""
    kernel = Kernel(task.problem.grid, task.epsilon)
    inner, outer, mass, other = (phi, gamma, task.a, task.b) if transpose else (gamma, phi, task.b, task.a)
    with np.errstate(divide="ignore"):
        h, log_other = inner + np.log(mass), np.log(other)
    columns = V.reshape(len(V), -1)
    out = np.empty(columns.shape)
    for q in range(columns.shape[1]):
        level, means = kernel.mean(h, np.ascontiguousarray(columns[:, q], np.float64))
        out[:, q] = np.where(other > 0.0, np.exp(outer + log_other + level), 0.0) * means
    return out.reshape(V.shape)


def judge(task: Entropic, potentials: Potentials) -> Bounds:
    """What the potentials prove."""
    grid: Grid = task.problem.grid
    stage = _Stage(task, grid, 1.0)
    a, b, phi, gamma = task.a, task.b, potentials.phi, potentials.gamma
    balanced = task.kappa == (1.0, 1.0)
    with np.errstate(divide="ignore"):
        log_a, h = np.log(a), gamma + np.log(b)
    level, cost = stage.kernel.mean(h)
    rows = np.exp(phi + log_a + level)
    linear = float(rows @ cost)
    columns = stage.column_sums(phi, gamma)
    y = np.ones(len(b))
    if task.kappa[1] == 1.0:
        y = np.divide(b, columns, out=y, where=columns > 0.0)
        y = np.minimum(y, 1.0) if balanced else y
    level, cost = stage.kernel.mean(h + np.log(y))
    kept = np.exp(phi + log_a + level)
    moved, repair = float(kept @ cost), 0.0
    lack_a, lack_b = np.maximum(a - kept, 0.0), np.maximum(b - columns * y, 0.0)
    if balanced and lack_a.any():
        repair = _independent(grid, lack_a, lack_b) / float(lack_a.sum())
    f = grid.c_transform(np.where(b > 0.0, task.epsilon * gamma, -math.inf))
    g = grid.c_transform(np.where(a > 0.0, f, -math.inf))
    numbers = (np.asarray(x) for x in (linear, moved, repair, task.epsilon, task.kappa))
    found = bounds(Sums(a, b, phi, gamma, rows, columns, kept, y, f, g, *numbers))
    plain: dict[str, Any] = {name: float(x) if np.ndim(x) == 0 else x for name, x in vars(found).items()}
    return Bounds(**plain)


def _independent(grid: Grid, a: Array, b: Array) -> float:
    """sum_ij a_i b_j c_ij, from the marginals of both along each axis."""
    total = 0.0
    for k in range(len(grid.axes)):
        others = tuple(i for i in range(len(grid.axes)) if i != k)
        along_a, along_b = (w.reshape(grid.shape).sum(axis=others) for w in (a, b))
        total += float(along_a @ grid._table(k) @ along_b)
    return total
