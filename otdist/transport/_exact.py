"""From a problem to a certified answer: zero masses set aside, an engine run, potentials completed, bounds taken."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from otdist._arrays import Array
from otdist._expression import number
from otdist._results import ConvergenceWarning, Status
from otdist.catalogue import choose
from otdist.transport._certificate import Certificate, certify, whole
from otdist.transport._problem import Gridded, Problem
from otdist.transport._solution import Solution, Watch

ON_FAIL = ("warn", "raise", "ignore")
_COSTS = ("value", "lower", "upper", "size", "reach")
_STOPS = {"max_iter": Status.MAX_ITER, "time_limit": Status.TIME_LIMIT, "callback": Status.CALLBACK}


@dataclass(frozen=True)
class Limits:
    """What may end a solve, and what is said when it does."""

    tolerance: float = 1e-10
    max_iter: int | None = None
    time_limit: float | None = None
    callback: Callable[[dict[str, Any]], Any] | None = None
    on_fail: str = "warn"

    def __post_init__(self) -> None:
        choose("on_fail", self.on_fail, ON_FAIL)
        number("tol", self.tolerance, 0.0, closed=True)
        if self.time_limit is not None:
            number("time_limit", self.time_limit, 0.0, closed=True)
        integer = isinstance(self.max_iter, (int, np.integer)) and not isinstance(self.max_iter, bool)
        if self.max_iter is not None and not (integer and self.max_iter >= 0):
            raise ValueError(f"max_iter: found {self.max_iter!r}; give a whole number, 0 or more, or None")
        if self.callback is not None and not callable(self.callback):
            raise TypeError(f"callback: found {type(self.callback).__name__}; give a function of one dict, or None")

    def watch(self) -> Watch:
        """A fresh watch over these limits."""
        return Watch(self.max_iter, self.time_limit, self.callback)


@dataclass(frozen=True)
class Answer:
    """A certified solution in the indices of the caller's rows and columns, costs in the caller's units."""

    solution: Solution
    f: Array
    g: Array
    certificate: Certificate
    status: Status


def solve(problem: Problem, a: Array, b: Array, limits: Limits, start: Array | None = None) -> Answer:
    """Exact transport of masses a to masses b, of equal totals."""
    rows, cols = (np.arange(len(w)) if isinstance(problem, Gridded) else np.flatnonzero(w) for w in (a, b))
    complete = len(rows) == len(a) and len(cols) == len(b)
    inner = problem if complete else problem.kept(rows, cols)
    p, q = a[rows], b[cols]
    begin = None if start is None else np.ascontiguousarray(start[cols] * 2.0**-problem.log_unit)
    found = _engine(inner, p, q, limits, begin)
    order = np.lexsort((found.cols, found.rows))
    solution = replace(found, rows=rows[found.rows[order]], cols=cols[found.cols[order]], mass=found.mass[order])
    c = problem.pairs(solution.rows, solution.cols)
    f, g = _potentials(problem, inner, found.g, cols, b, float(solution.mass @ c))
    plan = solution.rows, solution.cols, solution.mass
    exact = whole(f) and whole(g) and problem.integral
    certificate = certify(a, b, *plan, c, f, g, roundings=0 if exact else problem.roundings)
    return _judged(Answer(solution, f, g, certificate, Status.OPTIMAL), limits, problem.log_unit)


def _engine(problem: Problem, a: Array, b: Array, limits: Limits, start: Array | None) -> Solution:
    n, m = problem.shape
    if n == m and np.all(a == a[0]) and np.all(b == a[0]):
        found = problem.assign(limits.watch(), start)
        return replace(found, mass=np.full(n, a[0]))
    return problem.move(a, b, limits.watch(), start)


def _potentials(problem: Problem, inner: Problem, g: Array, cols: Array, b: Array, value: float) -> tuple[Array, Array]:
    """f and g for all rows and columns, from those of the columns with mass; each side holds half of the value."""
    shift = (0.5 * value - float(b[cols] @ g)) / float(b.sum())
    g = g + (np.rint(shift) if np.all(g == np.rint(g)) else shift)
    everyone = np.arange(problem.shape[0])
    complete = len(cols) == problem.shape[1]
    f = (problem if complete else problem.kept(everyone, cols)).row_potentials(g)
    f[np.isposinf(f)] = 0.0  # a row without mass that may go nowhere: any potential will do
    if complete:
        return f, g
    empty = np.setdiff1d(np.arange(problem.shape[1]), cols)
    full = np.empty(problem.shape[1])
    full[cols] = g
    rest = problem.kept(everyone, empty).column_potentials(f)
    full[empty] = np.where(np.isposinf(rest), 0.0, rest)
    return f, full


def _judged(answer: Answer, limits: Limits, log_unit: float) -> Answer:
    """The answer in the caller's units, its status, and a warning or error if its tolerance was not reached."""
    found = answer.certificate
    status = Status.OPTIMAL if found.proves(limits.tolerance) else _STOPS.get(answer.solution.stopped, Status.GAP)
    if log_unit:
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            unit = np.exp2(log_unit)
            found = replace(found, **{name: float(getattr(found, name) * unit) for name in _COSTS})
            answer = replace(answer, f=answer.f * unit, g=answer.g * unit)
        if not math.isfinite(found.value):
            raise ValueError("costs: the value leaves the range of float64; divide points or costs by a common factor")
    if status is not Status.OPTIMAL and limits.on_fail != "ignore":
        text = (
            f"{status.value}: the optimum lies between {found.lower:.17g} and {found.upper:.17g}, gap {found.gap:.3g}; "
            f"raise max_iter or time_limit, or start from these potentials (init=)"
        )
        if limits.on_fail == "raise":
            raise RuntimeError(text)
        warnings.warn(text, ConvergenceWarning, stacklevel=5)
    return replace(answer, certificate=found, status=status)
