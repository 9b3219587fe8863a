"""Entropic transport by truncated Newton steps on the semi-dual: few looks at the costs, many products with the plan.

The rows are eliminated, which leaves a concave function of the column potentials gamma alone, with gradient t - c,
t = b exp(-(1/kappa_b - 1) gamma) and c the columns of P, and negative Hessian

    diag(c) + (1/kappa_b - 1) diag(t) - kappa_a P^T diag(1 / P 1) P.

The plan is *absorbed* (one exponential a pair) and everything near it is products (`kernels/scaling_passes.py`): dense
in float32, or listed in float64 once few pairs matter. Errors are measured in float64 over all pairs, and where that is
what is left, a float64 residual is corrected with the float32 Hessian, again and again: iterative refinement. What
the list leaves out is bounded by its threshold, and measured by the next look anyway.

Large epsilon (from 1/200 of the range of the costs) is solved at once, moderate epsilon if two short Newton steps find
a way, small epsilon along a path: potentials of a sample of a quarter of the atoms, found the same way, are extended to
all by a soft minimum, and epsilon falls by at most 2.5 a stage; if that fails, prices of the exact problem are the
start. A problem that is its own transpose is solved by averaging both sides (Schmitzer 2019; Kemertas, Farahmand &
Jepson 2025; Tang et al. 2024 for sparse Newton steps).

Memory: 4 bytes a pair for W and 1 for the lists of at most 8 % of the pairs; at most 8 in all, where a third of them
is listed in the end; vectors; a copy of the costs if they are not contiguous.
"""

from __future__ import annotations

import math

import numpy as np

from otdist._arrays import Array
from otdist.transport._gibbs import Entropic, Potentials
from otdist.transport._problem import Matrix
from otdist.transport._semidual_path import LISTED, Prices, descend
from otdist.transport._semidual_plan import Costs, Level, Work
from otdist.transport._semidual_stage import Best, attempt, settle, symmetric
from otdist.transport._solution import Watch

# Epsilon over the range of the costs from which it is solved at once, and from which that is tried.
DIRECT, TRIED = 5e-3, 7e-4
# An attempt is kept if its error is at most HOPE after two steps of SHORT products.
HOPE, SHORT = 0.03, 6
# Share of the pairs that are listed in the end, where the dense plan is not exact enough: as much memory as W.
WIDE = 0.33
BALANCED = (1.0, 1.0)
SOLVER = "semi-dual Newton-CG"


@np.errstate(over="ignore", divide="ignore", invalid="ignore")
def solve(task: Entropic, watch: Watch, start: Array | None) -> Potentials:
    """Potentials of the columns from `start`, or from scratch."""
    costs = Costs(task.problem.matrix(), task.a, task.b, None if task.kappa == BALANCED else 0.0)
    work = Work(watch, costs.pairs)
    ratio = task.epsilon / costs.size if costs.size > 0.0 else math.inf
    gamma = np.zeros(costs.m) if start is None else np.clip(np.nan_to_num(start), -1e15, 1e15)
    level = Level.at(costs, task.epsilon, task.kappa, gamma, work)
    best = Best()
    if start is not None or ratio >= DIRECT:
        best = settle(level, task.tol, exact=True, listed=ratio < LISTED)
    elif _is_symmetric(task, costs):
        best = symmetric(level, task.tol)
    elif ratio >= TRIED and attempt(level, HOPE, SHORT):
        best = settle(level, task.tol, exact=True, listed=False)
    if best.error > task.tol and ratio < DIRECT and not work.over:
        level = descend(costs, task.epsilon, 0.0, Prices.of(task.kappa, task.epsilon), work)
        best = min(best, settle(level, task.tol, exact=True, listed=ratio < LISTED), key=lambda found: found.error)
    if best.error > task.tol and ratio < DIRECT and not work.over:
        prices = _exact_prices(task, costs, work)
        if prices is not None:
            level = Level.at(costs, task.epsilon, task.kappa, prices / task.epsilon, work)
            best = min(best, settle(level, task.tol, exact=True, listed=ratio < LISTED), key=lambda found: found.error)
    if best.error > task.tol and not work.over:
        # float32 is at its end: more pairs listed in float64
        costs.widen(WIDE)
        level.g = level.g if best.g is None else best.g
        best = min(best, settle(level, task.tol, exact=True, listed=True), key=lambda found: found.error)
    if best.error > task.tol:
        best.note(level, level.measure()[0])
    return _potentials(task, level, best, work)


class _Shared(Watch):
    """The watch of another solver, whose iterations are not ours."""

    def __init__(self, work: Work) -> None:
        super().__init__()
        self._work = work

    def stop(self, stage: str, iterations: int, **figures: float) -> bool:
        if self._work.over:
            self.stopped = self._work.stopped
        return bool(self.stopped)


def _exact_prices(task: Entropic, costs: Costs, work: Work) -> Array | None:
    """Dual potentials of the columns of the unregularised problem: a start where the path lost its way."""
    if task.kappa != BALANCED or min(costs.n, costs.m) == 1 or not np.all(np.isfinite(costs.C)):
        return None
    problem = task.problem if costs.C.dtype == np.float64 else Matrix(np.asarray(costs.C, np.float64))
    if costs.n == costs.m and np.ptp(task.a) == 0.0 and np.ptp(task.b) == 0.0:
        found = problem.assign(_Shared(work), None)
    else:
        b = task.b * (task.a.sum() / task.b.sum())
        found = problem.move(task.a, b, _Shared(work), None)
    return np.asarray(found.g) if np.all(np.isfinite(found.g)) else None


def _is_symmetric(task: Entropic, costs: Costs) -> bool:
    """Whether the problem looks like its own transpose: if not, nothing is lost but time."""
    if costs.n != costs.m or task.kappa[0] != task.kappa[1] or not np.array_equal(costs.a, costs.b):
        return False
    some = np.arange(0, costs.n, max(costs.n // 8, 1))
    return bool(np.allclose(costs.C[some], costs.C[:, some].T, rtol=1e-6, atol=0.1 * task.epsilon))


def _potentials(task: Entropic, level: Level, best: Best, work: Work) -> Potentials:
    assert best.g is not None
    assert best.f is not None
    level.g, level.f = best.g, best.f
    stopped = "" if best.error <= task.tol else work.stopped or "stalled"
    return Potentials(level.phi, level.gamma, best.error, work.passes, SOLVER, stopped, best.c)
