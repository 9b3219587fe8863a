"""From entropic problems to judged answers: an engine for each, or one for thousands of small ones."""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import replace
from typing import Any

import numpy as np

from otdist._arrays import Array
from otdist._results import ConvergenceWarning, Status
from otdist.transport import _batch
from otdist.transport._engines import engine, itself
from otdist.transport._entropic_input import Given
from otdist.transport._exact import Limits
from otdist.transport._gibbs import Bounds, Potentials
from otdist.transport._normal_form import Options, Solved, Stated
from otdist.transport._problem import Gridded, Points

# Points a side up to which problems are solved by the batch.
SMALL = 256
# rho in parts of epsilon above which kappa alone does not tell it well enough.
STEEP = 1e5


def solve_all(
    given: Given, problems: list[Any], masses: Array, epsilon: list[float], options: Options, starts: Array | None
) -> list[Solved]:
    """The problems of a batch, between masses `given.a` and `masses`."""
    begin = time.perf_counter()
    columns = [None] * len(problems) if starts is None else list(starts)
    each = zip(problems, given.a, masses, epsilon, strict=True)
    stated = [Stated.of(*one, options, given.points(k)) for k, one in enumerate(each)]
    if (
        options.method in ("auto", "sinkhorn")
        and len(stated) > 1
        and max(given.shape[-2:]) <= SMALL
        and not isinstance(stated[0].problem, Gridded)
        and all(r == math.inf or r <= STEEP * e for r in options.rho for e in epsilon)
    ):
        return _together(stated, columns, options, begin)
    return [_alone(one, start, options, begin) for one, start in zip(stated, columns, strict=True)]


def solve_itself(problem: Any, mass: Array, epsilon: float, options: Options, points: Array, begin: float) -> Solved:
    """Transport from a cloud to itself; `begin`: when the call began."""
    one = Stated.of(problem, mass, mass, epsilon, options, (points, points))
    return _alone(one, None, options, begin, symmetric=True)


def _alone(one: Stated, start: Array | None, options: Options, begin: float, *, symmetric: bool = False) -> Solved:
    gamma = one.start(start)
    chosen = itself(one.task) if symmetric else engine(one.task, options.method)
    watch = _remaining(options.limits, begin).watch()
    # what leaves the range on an engine's way is judged with the rest
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        found = chosen.solve(one.task, watch, None if gamma is None else np.ascontiguousarray(gamma[one.cols]))
        bounds = chosen.judge(one.task, found)
        if found.stopped == "stalled" and options.method == "auto" and not isinstance(one.problem, Gridded):
            found, bounds = _otherwise(one, found, bounds, _remaining(options.limits, begin))
    return one.solved(found, bounds, *one.everywhere(found))


def _otherwise(one: Stated, found: Potentials, bounds: Bounds, limits: Limits) -> tuple[Potentials, Bounds]:
    """Where an engine came to a standstill: the plain one, and the better of the two."""
    plain = engine(one.task, "sinkhorn")
    again = plain.solve(one.task, limits.watch(), None)
    other = plain.judge(one.task, again)
    return (again, other) if other.marginal_error < bounds.marginal_error else (found, bounds)


def _together(stated: list[Stated], starts: list[Any], options: Options, begin: float) -> list[Solved]:
    """Small problems at once; what these small steps do not solve goes to an engine of its own."""
    limits = _remaining(options.limits, begin)
    warm = None if starts[0] is None else np.array([s.start(g) for s, g in zip(stated, starts, strict=True)])
    first = stated[0].near
    if isinstance(first, Points):
        costs: Any = (np.array([s.near.x for s in stated]), np.array([s.near.y for s in stated]), first.cost)
    else:
        costs = np.array([s.near.C for s in stated])
    found = _batch.solve(
        costs,
        np.array([s.p for s in stated]),
        np.array([s.q for s in stated]),
        np.array([s.task.epsilon for s in stated]),
        limits.tolerance,
        np.array([s.task.kappa for s in stated]),
        limits.watch(),
        warm,
        max_iter=limits.max_iter,
        newton=options.method == "auto",
    )
    answers = []
    for k, one in enumerate(stated):
        phi, gamma = found.phi[k], found.gamma[k]
        stopped, tried = str(found.stopped[k]), int(found.iterations[k])
        own = Potentials(phi[one.rows], gamma[one.cols], float(found.error[k]), tried, _batch.SOLVER, stopped)
        bounds = Bounds(**{name: value[k] for name, value in vars(found.bounds).items()})
        bounds = replace(bounds, columns=bounds.columns[one.cols])
        answer = one.solved(own, bounds, phi, gamma)
        if not answer.converged and limits.max_iter is None and stopped in ("stalled", "max_iter"):
            again = _alone(one, answer.g, options, begin)
            answer = min(answer, again, key=lambda s: s.bounds.marginal_error)
        answers.append(answer)
    return answers


def _remaining(limits: Limits, begin: float) -> Limits:
    """The limits for what is left of a call that began at this time."""
    if limits.time_limit is None:
        return limits
    return replace(limits, time_limit=max(limits.time_limit - (time.perf_counter() - begin), 0.0))


def report(answers: list[Solved], limits: Limits, stacklevel: int) -> None:
    """A warning or an error if one of the answers is not within the tolerance."""
    left = [answer for answer in answers if not answer.converged]
    if left:
        worst = max(left, key=lambda s: s.bounds.marginal_error)
        failed(worst.status, worst.bounds.marginal_error, len(left), len(answers), limits, stacklevel + 1)


def failed(status: Status, error: float, count: int, problems: int, limits: Limits, stacklevel: int) -> None:
    """A warning or an error about `count` of so many problems, the worst of them with this status and error."""
    if limits.on_fail == "ignore":
        return
    where = f" ({count} of {problems} problems; this is the worst)" if problems > 1 else ""
    text = (
        f"{status.value}: marginal error {error:.3g}, tol {limits.tolerance:.3g}{where}; "
        f"the bounds hold all the same; raise max_iter, time_limit, tol or epsilon, or start from these potentials "
        f"(init=)"
    )
    if limits.on_fail == "raise":
        raise RuntimeError(text)
    warnings.warn(text, ConvergenceWarning, stacklevel=stacklevel)
