"""Sinkhorn's iteration for any problem: one exponential a pair, extrapolated, in float32 as far as that carries.

Solving the rows at gamma, then the columns, is a map gamma -> T(gamma) whose residual r = T(gamma) - gamma is the
logarithm of what the columns should hold over what they hold. Its Jacobian is self-adjoint in the metric of b, with
eigenvalues in [0, 1), so that Anderson's extrapolation (1965) over the last DEPTH residuals, memory allowing, converges
like conjugate gradients: as the square root of the plain iteration at least. A step that makes both the error and the
dual worse is taken back. Small epsilon are reached by way of larger ones (Schmitzer, 2019), potentials carried over in
units of cost.

Arithmetic is float32 until the error comes near what the rounding of k c_ij, k = log2(e) / epsilon, leaves, then
float64. The error that ends the solve is measured in float64 over all pairs, at the potentials handed back.

Unbalanced, the sum of all masses converges slowly at large rho: after each iteration a constant moves
from phi to gamma that makes the two targets agree, the best one in closed form (Sejourne, Vialard and Peyre, 2022).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from otdist._arrays import Array
from otdist.kernels import softmin_pairs
from otdist.kernels.costs import Raised
from otdist.kernels.softmin_pairs import LOG2E, Pairs, Pass, PointPairs, StoredPairs
from otdist.transport._bounds import marginal_error, pairs_of, row_potentials
from otdist.transport._gibbs import Entropic, Potentials
from otdist.transport._solution import Watch

SOLVER = "Sinkhorn iterations, extrapolated"
DEPTH, LEAST_DEPTH, RIDGE = 24, 6, 1e-13
# Epsilon in parts of the spread of costs from which on no larger one is solved first; the ratio of one to the next,
# the error to which these are solved, and passes for each.
DIRECT, RATIO, ROUGH, PASSES = 2e-2, 4.0, 0.2, 40
# Sums of columns, relative to the mass, below which they are redone; the |log2(w_i / a_i)| up to which they are good.
FAINT = {np.float32: 2.0**-70, np.float64: 2.0**-850}
FAR = {np.float32: 40.0, np.float64: 800.0}
# Passes without a new best error, near the rounding floor and anywhere, after which no more is to be had.
SETTLED, PATIENCE = 30, 300


@dataclass
class State:
    """Potentials at which all pairs were seen, and what was seen."""

    gamma: Array
    h: Array  # rows, base 2: the guess of the next pass
    phi: Array
    columns: Array
    error: float
    dual: float
    residual: Array
    exact: bool  # float64


class Extrapolation:
    """Anderson acceleration of gamma -> gamma + r in the metric of the weights."""

    def __init__(self, weights: Array, most: float, memory: int) -> None:
        self._weights, self._most = weights, most  # no step goes further beyond the plain one
        self._depth = min(max(memory // (64 * len(weights)), LEAST_DEPTH), DEPTH)
        self._steps: list[Array] = []
        self._changes: list[Array] = []
        self._last: tuple[Array, Array] | None = None

    def forget(self) -> None:
        self._steps, self._changes, self._last = [], [], None

    def pause(self) -> None:
        """The next residual is measured otherwise: take no difference to it."""
        self._last = None

    def next(self, gamma: Array, residual: Array) -> Array:
        if self._last is not None:
            self._steps.append(gamma - self._last[0])
            self._changes.append(residual - self._last[1])
            self._steps, self._changes = self._steps[-self._depth :], self._changes[-self._depth :]
        self._last = gamma, residual
        plain: Array = gamma + residual
        if not self._changes:
            return plain
        changes = np.stack(self._changes)
        size = np.sqrt((changes * changes) @ self._weights)
        usable = size > 0.0
        if not usable.any():
            return plain
        scaled = changes[usable] / size[usable, None]
        weighted = scaled * self._weights
        gram = weighted @ scaled.T
        gram[np.diag_indices_from(gram)] += RIDGE * len(gram)
        weights = np.linalg.solve(gram, weighted @ residual) / size[usable]
        moved = np.stack(self._steps)[usable] + changes[usable]
        beyond = weights @ moved
        size = float(np.abs(beyond).max())
        if not size < np.inf:
            return plain
        return np.asarray(plain - beyond * min(1.0, self._most / max(size, self._most)))


def solve(task: Entropic, watch: Watch, start: Array | None) -> Potentials:
    """Potentials by Sinkhorn's iteration; `start` is gamma."""
    return _Sweeps(task, watch).run(start)


class _Sweeps:
    def __init__(self, task: Entropic, watch: Watch) -> None:
        self.task, self.watch, self.passes = task, watch, 0
        self.total = float(task.a.sum())
        self.masses = task.a / self.total
        self.spread, self.middle = spread(task.problem)
        self.pairs = _kept(task)
        balanced, C = task.kappa == (1.0, 1.0), getattr(self.pairs, "C", None)
        self.offset = self.middle if balanced and C is not None else 0.0
        self._copied = C is not None and 4 * C.size <= task.memory // 2
        if C is not None and C.dtype == np.float32 and abs(self.offset) < 4.0 * self.spread:
            self._copied = False
        self.offset *= self._copied
        self.reach = abs(self.middle - self.offset) + 0.5 * self.spread
        self._single: Pairs | None = None

    def run(self, start: Array | None) -> Potentials:
        task, eps = self.task, self.task.epsilon
        gamma = np.zeros(task.shape[1]) if start is None else np.array(start, np.float64)
        guess: Array | None = None
        if start is None and eps < DIRECT * self.spread:
            level = 0.25 * self.spread
            while level > RATIO * eps and not self.watch.stopped:
                found = self._iterate(gamma, guess, level, ROUGH, PASSES, known=False)
                following = max(level / RATIO, eps)
                gamma = (found.gamma + found.residual) * (level / following)
                guess, level = found.h * (level / following), following
            gamma, guess = gamma * (level / eps), None if guess is None else guess * (level / eps)
        last: State | None = None
        if not self.watch.stopped:
            last = self._iterate(gamma, guess, eps, task.tol, None, known=start is not None)
            gamma, guess = last.gamma, last.h
        if last is None or not last.exact:
            last = self._look(gamma, guess, eps, np.float64, final=True)
            assert last is not None
        stopped = "" if last.error <= task.tol else self.watch.stopped or "stalled"
        return Potentials(last.phi, last.gamma, last.error, self.passes, SOLVER, stopped, last.columns)

    def _iterate(
        self, gamma: Array, guess: Array | None, eps: float, tol: float, limit: int | None, known: bool
    ) -> State:
        """Passes at one epsilon until the error is within tol: the best state, of float64 unless limited.

        Where gamma may be `known` to many digits, the first pass is in float64.
        """
        noise = (LOG2E / eps * self.reach + 20.0) * 2.0**-24
        rough = limit is not None
        ordinary = 1e-30 < eps < 1e30 and self.reach < 1e30  # float32 holds both
        coarse: Any = np.float32 if noise < 0.05 and ordinary else np.float64
        real: Any = np.float64 if known else coarse
        floor = max(0.3 * noise, tol if rough else 0.25 * tol)
        mixing = Extrapolation(self.task.b / float(self.task.b.sum()), self.reach / eps + 10.0, self.task.memory)
        best: State | None = None
        here: State | None = None
        since, first, seen = 0, self.passes, np.inf
        while True:
            found = self._look(gamma, guess, eps, real)
            if found is None:  # stopped within a pass
                break
            since += 1
            if found.error < 0.98 * seen:
                seen, since = found.error, 0
            if here is not None and found.exact == here.exact and _worse(found, here):
                mixing.forget()
                gamma, guess = here.gamma + here.residual, here.h
                here = None
            else:
                if best is None or found.exact > best.exact or found.error < best.error:
                    best = found
                here = found
                gamma, guess = mixing.next(found.gamma, found.residual), found.h
            if self._ended(found, rough) or (limit is not None and self.passes - first >= limit):
                break
            if known and found.error > max(100.0 * floor, tol):
                real, known, seen, here = coarse, False, np.inf, None
                mixing.pause()
            elif found.exact or rough:
                if found.error <= tol:
                    break
                near = found.exact and seen <= 2.0**-52 * (LOG2E / eps * (abs(self.middle) + self.spread) + 20.0) * 16.0
                if since >= (SETTLED if near else PATIENCE):
                    break
            elif found.error <= floor or (since >= 3 and seen < 10.0 * floor) or since >= PATIENCE // 4:
                real, since, seen, here = np.float64, 0, np.inf, None
                gamma = best.gamma + best.residual if best is not None else gamma
                mixing.pause()
        if best is None:  # not one pass was allowed
            best = self._look(gamma, guess, eps, np.float64, final=True)
            assert best is not None
        return best

    def _ended(self, found: State, rough: bool) -> bool:
        return self.watch.stop("scaling epsilon" if rough else "sweeping", self.passes, error=found.error)

    def _proceed(self) -> bool:
        return not self.watch.stop("sweeping", self.passes)

    def _pass(self, v: Array, guess: Array | None, eps: float, real: Any, final: bool) -> Pass | None:
        pairs, shift, k = self.pairs, 0.0, LOG2E / eps
        if real is np.float32:
            pairs, shift = self.single, k * self.offset
        # Constants move freely where rows are balanced: numbers that are rounded to float32 are to be small.
        level = float(v @ self.task.b / self.task.b.sum()) if self.task.kappa[0] == 1.0 else 0.0
        shift -= level
        found = softmin_pairs.eliminate(
            pairs,
            k,
            None if guess is None else guess - shift,
            v - level,
            self.masses,
            self.task.kappa[0] - 1.0,
            real,
            None if final else self._proceed,
        )
        if found is not None:
            found.h += shift
            self.passes += 1
        return found

    def _look(self, gamma: Array, guess: Array | None, eps: float, real: Any, final: bool = False) -> State | None:
        """One pass over all pairs; None if it was stopped."""
        task = self.task
        (kappa_a, kappa_b), v = task.kappa, gamma * LOG2E + np.log2(task.b)
        found = self._pass(v, guess, eps, real, final)
        if found is None:
            return None
        single = real is np.float32
        if single and (found.far > FAR[real] or float(found.columns.min()) < FAINT[real]):
            real = np.float64
            found = self._pass(v, found.h, eps, real, final)
            if found is None:
                return None
        phi = row_potentials(found.h, kappa_a)
        columns = found.columns * self.total
        with np.errstate(divide="ignore"):
            logs = np.log(columns / task.b) - gamma
        faint = found.columns < FAINT[np.float64] if found.far <= FAR[np.float64] else np.full(len(gamma), True)
        if real is np.float64 and faint.any():
            some = np.flatnonzero(faint)
            w = phi * LOG2E + np.log2(task.a)
            logs[some] = softmin_pairs.column_logs(self.pairs, LOG2E / eps, w, some) / LOG2E
            logs = np.where(np.isfinite(logs), logs, -gamma)  # a column nothing can reach stays where it is
        after = -kappa_b * logs
        if kappa_a == kappa_b == 1.0:  # a constant is free: neither side is to carry more than its half
            after = after + 0.5 * float(self.masses @ phi - after @ task.b / self.total)
        else:
            after = after + _translation(task, phi, after)
        error = marginal_error(task, found.h, phi, gamma, columns)
        h = np.where(np.isfinite(found.h), found.h, 0.0)
        return State(gamma, h, phi, columns, error, _dual(task, phi, gamma), after - gamma, real is np.float64)

    @property
    def single(self) -> Pairs:
        """The pairs float32 passes run over: stored costs as float32 less their middle, where there is room."""
        if self._single is None:
            self._single = self.pairs
            if self._copied and isinstance(self.pairs, StoredPairs):
                C = np.empty(self.task.shape, np.float32)
                np.subtract(self.pairs.C, self.offset, out=C, casting="same_kind")
                self._single = StoredPairs(C)
        return self._single


def _worse(found: State, here: State) -> bool:
    """Whether a step made both the error and the dual worse."""
    return found.error > 1.5 * here.error and found.dual < here.dual + 1e-12 * abs(here.dual)


def _dual(task: Entropic, phi: Array, gamma: Array) -> float:
    """The dual in units of epsilon, up to a constant, where the rows are exact."""
    value = 0.0
    for mass, potential, kappa in ((task.a, phi, task.kappa[0]), (task.b, gamma, task.kappa[1])):
        if kappa == 1.0:
            value += float(mass @ potential)
        else:
            with np.errstate(over="ignore"):
                value -= kappa / (1.0 - kappa) * float(mass @ np.expm1(-(1.0 / kappa - 1.0) * potential))
    if task.kappa[0] < 1.0:
        with np.errstate(over="ignore"):
            value -= float(task.row_target(phi).sum())
    return value


def _translation(task: Entropic, phi: Array, gamma: Array) -> float:
    """The constant to take from phi and give to gamma."""
    inverse = [1.0 / kappa - 1.0 for kappa in task.kappa]
    with np.errstate(over="ignore"):
        rows, columns = float(task.row_target(phi).sum()), float(task.column_target(gamma).sum())
    if not (0.0 < rows < np.inf and 0.0 < columns < np.inf):
        return 0.0
    return float((np.log(columns) - np.log(rows)) / sum(inverse))


def spread(problem: Any) -> tuple[float, float]:
    """Difference of the largest and least cost, and what lies half way, of some 10^4 pairs."""
    n, m = problem.shape
    rows, columns = (np.unique(np.linspace(0, size - 1, 100).astype(np.int64)) for size in (n, m))
    costs = np.asarray(problem.pairs(np.repeat(rows, len(columns)), np.tile(columns, len(rows))), np.float64)
    costs = costs[np.isfinite(costs)]
    if len(costs) == 0:
        return 0.0, 0.0
    low, high = float(costs.min()), float(costs.max())
    return high - low, 0.5 * (low + high)


def _kept(task: Entropic) -> Pairs:
    """Pairs of a task; costs of points that are slow to make are stored if there is room."""
    pairs = pairs_of(task.problem)
    n, m = task.shape
    slow = isinstance(pairs, PointPairs) and (pairs.made or isinstance(pairs.tag, Raised))
    if slow and 8 * n * m <= task.memory // 2:
        return StoredPairs(task.problem.matrix())
    return pairs
