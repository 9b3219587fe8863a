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
all by a soft minimum, and epsilon falls by at most 2.5 a stage (Schmitzer 2019; Kemertas, Farahmand & Jepson 2025;
Tang et al. 2024 for sparse Newton steps).

Memory: n m float32 for W (or as much for the lists, of at most 8 % of the pairs), and vectors.
"""

from __future__ import annotations

import math

import numpy as np

from otdist._arrays import Array
from otdist.transport._gibbs import Entropic, Potentials
from otdist.transport._semidual_path import LISTED, Prices, descend
from otdist.transport._semidual_plan import Costs, Level, Work
from otdist.transport._semidual_stage import Best, attempt, settle
from otdist.transport._solution import Watch

# Epsilon over the range of the costs from which it is solved at once, is tried at once, may have a list of few pairs.
DIRECT, TRIED, LISTED = 5e-3, 7e-4, 5e-3
# An attempt is kept if its error is at most HOPE after two steps of SHORT products.
HOPE, SHORT = 0.03, 6
# The path: its top, its first epsilon without a sample, its largest step, its tolerance, the one of a sample.
TOP, FIRST, STEP, WAYPOINT, SAMPLED = 4e-3, 0.1, 2.5, 1e-2, 3e-2
# A sample is this part of the atoms, and not fewer than so many.
PART, FEWEST = 4, 200
# Threshold of a list: this part of the tolerance over m, and so much less again, for potentials that move.
DROPPED, MARGIN = 0.03, 1e-4
# Spread of the change of potentials on a dense plan; looks in one stage; looks that may fail to improve.
REACH, LOOKS, PATIENCE = 25.0, 60, 4


def solve(task: Entropic, watch: Watch, start: Array | None) -> Potentials:
    """Potentials of the columns from `start`, or from scratch."""
    C = task.problem.matrix()
    balanced = task.kappa == (1.0, 1.0)
    costs = Costs(C, task.a, task.b, shifted=balanced)
    work = Work(watch, costs.pairs)
    search = _Search(task, costs, work)
    gamma = np.zeros(costs.m) if start is None else np.clip(np.nan_to_num(start), -1e15, 1e15)
    ratio = task.epsilon / costs.size if costs.size > 0.0 else math.inf
    if ratio < TRIED and start is None:
        gamma = _path(search.at(costs), task.epsilon, TOP)
    elif ratio < DIRECT or start is not None:
        found = search.attempt(gamma)
        gamma = _path(search.at(costs), task.epsilon, TOP) if found is None else found
    return search.finish(gamma)
# Epsilon over the range of the costs from which it is solved at once, and from which that is tried.
DIRECT, TRIED = 5e-3, 7e-4
# An attempt is kept if its error is at most HOPE after two steps of SHORT products.
HOPE, SHORT = 0.03, 6
# Share of the pairs that are listed in the end, where the dense plan is not exact enough.
WIDE = 0.33
SOLVER = "semi-dual Newton-CG"


def solve(task: Entropic, watch: Watch, start: Array | None) -> Potentials:
    """Potentials of the columns from `start`, or from scratch."""
    costs = Costs(task.problem.matrix(), task.a, task.b, None if task.kappa == (1.0, 1.0) else 0.0)
    work = Work(watch, costs.pairs)
    ratio = task.epsilon / costs.size if costs.size > 0.0 else math.inf
    gamma = np.zeros(costs.m) if start is None else np.clip(np.nan_to_num(start), -1e15, 1e15)
    level = Level.at(costs, task.epsilon, task.kappa, gamma, work)
    best = Best()
    if start is not None or ratio >= DIRECT or (ratio >= TRIED and attempt(level, HOPE, SHORT)):
        best = settle(level, task.tol, exact=True, listed=ratio < LISTED and start is not None)
    if best.error > task.tol and ratio < DIRECT and not work.over:
        level = descend(costs, task.epsilon, 0.0, Prices.of(task.kappa, task.epsilon), work)
        found = settle(level, task.tol, exact=True, listed=ratio < LISTED)
        best = found if found.error < best.error else best
    if best.error > task.tol and costs.size > 0.0 and not work.over:
        # float32 is at its end: list more pairs in float64, in as much memory again
        costs.widen(WIDE)
        level.g = level.g if best.g is None else best.g
        found = settle(level, task.tol, exact=True, listed=True)
        best = found if found.error < best.error else best
    if best.error > task.tol:
        best.note(level, level.measure()[0])
    return _potentials(task, level, best, work)


def _potentials(task: Entropic, level: Level, best: Best, work: Work) -> Potentials:
    assert best.g is not None
    assert best.f is not None
    level.g, level.f = best.g, best.f
    stopped = "" if best.error <= task.tol else work.stopped or "stalled"
    return Potentials(level.phi, level.gamma, best.error, work.passes, SOLVER, stopped, best.c)
