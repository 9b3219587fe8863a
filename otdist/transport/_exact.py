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
from otdist.kernels.certificate import by_rows, complete, ordered
from otdist.kernels.exact_sums import alike
from otdist.kernels.pricing import FEW
from otdist.transport._certificate import Certificate, certify
from otdist.transport._problem import Gridded, Matrix, Problem
from otdist.transport._solution import Solution, Watch
from otdist.transport._weighted import lend

ON_FAIL = ("warn", "raise", "ignore")
# Totals between which masses are taken as they are.
LEAST, MOST = 1e-100, 1e100
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
    positive, equal, total = alike(a, b)
    unit = 0 if LEAST < total < MOST else math.frexp(total)[1]
    if unit:  # products of masses and costs would leave the range of float64
        a, b = np.ldexp(a, -unit), np.ldexp(b, -unit)
        positive, equal, _ = alike(a, b)
    rows = cols = inner = None
    if not positive and not isinstance(problem, Gridded):
        rows, cols = np.flatnonzero(a), np.flatnonzero(b)
        inner = problem.kept(rows, cols)
    begin = None
    if start is not None:
        begin = np.ascontiguousarray((start if cols is None else start[cols]) * 2.0**-problem.log_unit)
    if inner is None or rows is None or cols is None:
        found = _by_rows(_engine(problem, a, b, equal, limits, begin), problem.shape)
    else:
        p, q = a[rows], b[cols]
        found = _by_rows(_engine(inner, p, q, alike(p, q)[1], limits, begin), inner.shape)
        found = replace(found, rows=rows[found.rows], cols=cols[found.cols])
    plan = found.rows, found.cols, found.mass
    if inner is None and isinstance(problem, Matrix) and problem.C.size <= FEW:
        c, f, g = np.empty(len(found.rows)), np.empty(len(a)), np.array(found.g)
        complete(lend(problem.C), a, b, *plan, c, f, g)
    else:
        c = problem.pairs(found.rows, found.cols)
        f, g = _potentials(problem, inner, found.g, cols, b, float(found.mass @ c))
    certificate = certify(problem, a, b, *plan, c, f, g)
    return _judged(found, f, g, certificate, limits, problem.log_unit, unit)


def _engine(problem: Problem, a: Array, b: Array, equal: bool, limits: Limits, start: Array | None) -> Solution:
    n, m = problem.shape
    if not (n == m and equal):
        return problem.move(a, b, limits.watch(), start)
    found = problem.assign(limits.watch(), start)
    return Solution(found.rows, found.cols, np.array(a), found.g, found.iterations, found.solver, found.stopped)


def _by_rows(found: Solution, shape: tuple[int, int]) -> Solution:
    """The solution with its pairs ordered."""
    if ordered(found.rows, found.cols):
        return found
    pairs = len(found.rows)
    rows, cols, mass = np.empty(pairs, np.int64), np.empty(pairs, np.int64), np.empty(pairs)
    scratch = np.empty(max(shape) + 1, np.int64), np.empty(pairs, np.int64)
    by_rows(found.rows, found.cols, found.mass, rows, cols, mass, *scratch)
    return Solution(rows, cols, mass, found.g, found.iterations, found.solver, found.stopped)


def _potentials(
    problem: Problem, inner: Problem | None, g: Array, cols: Array | None, b: Array, value: float
) -> tuple[Array, Array]:
    """f and g for all rows and columns, from those of the columns with mass; each side holds half of the value."""
    shift = (0.5 * value - float((b if cols is None else b[cols]) @ g)) / float(b.sum())
    g = g + (np.rint(shift) if np.all(g == np.rint(g)) else shift)
    everyone = np.arange(problem.shape[0])
    complete = cols is None or len(cols) == problem.shape[1]
    f = (problem if complete or cols is None else problem.kept(everyone, cols)).row_potentials(g)
    f[np.isposinf(f)] = 0.0  # a row without mass that may go nowhere: any potential will do
    if complete or cols is None:
        return f, g
    empty = np.setdiff1d(np.arange(problem.shape[1]), cols)
    full = np.empty(problem.shape[1])
    full[cols] = g
    rest = problem.kept(everyone, empty).column_potentials(f)
    full[empty] = np.where(np.isposinf(rest), 0.0, rest)
    return f, full


def _judged(
    solution: Solution, f: Array, g: Array, found: Certificate, limits: Limits, log_unit: float, mass_unit: int
) -> Answer:
    """The answer in the caller's units, its status, and a warning or error if its tolerance was not reached."""
    status = Status.OPTIMAL if found.proves(limits.tolerance) else _STOPS.get(solution.stopped, Status.GAP)
    if log_unit or mass_unit:
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            cost, mass = np.exp2(log_unit), np.exp2(float(mass_unit))
            sums = {name: float(getattr(found, name) * cost * mass) for name in _COSTS}
            found = replace(found, marginal_error=float(found.marginal_error * mass), **sums)
            f, g = f * cost, g * cost
        if mass_unit:
            solution = _weighed(solution, mass_unit)
        if not math.isfinite(found.value):
            cure = "masses" if mass_unit else "points or costs"
            raise ValueError(f"costs: the value leaves the range of float64; divide {cure} by a common factor")
    if status is not Status.OPTIMAL and limits.on_fail != "ignore":
        text = (
            f"{status.value}: the optimum lies between {found.lower:.17g} and {found.upper:.17g}, gap {found.gap:.3g}; "
            f"raise max_iter or time_limit, or start from these potentials (init=)"
        )
        if limits.on_fail == "raise":
            raise RuntimeError(text)
        warnings.warn(text, ConvergenceWarning, stacklevel=5)
    return Answer(solution, f, g, found, status)


def _weighed(found: Solution, unit: int) -> Solution:
    """The plan in units of the caller's masses; what is no number there is left out."""
    mass = np.ldexp(found.mass, unit)
    kept = mass > 0.0
    return replace(found, rows=found.rows[kept], cols=found.cols[kept], mass=mass[kept])
