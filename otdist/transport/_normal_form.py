"""The normal form of an entropic problem, and what its solution is in the units of the caller."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from otdist._arrays import Array
from otdist._expression import number
from otdist._results import Status
from otdist.catalogue import choose
from otdist.kernels.costs import power
from otdist.kernels.profiles import Squared
from otdist.transport._engines import METHODS
from otdist.transport._entropic_input import prices
from otdist.transport._exact import Limits
from otdist.transport._gibbs import Bounds, Entropic, Potentials, by_mass
from otdist.transport._gibbs_plan import Gibbs
from otdist.transport._problem import Gridded, Matrix, Points, Problem, unscaled

# No engine can aim at less.
ROUNDING = 2.0**-52
# Bytes that may be allocated by default.
MEMORY = 1 << 31
_STOPS = {"max_iter": Status.MAX_ITER, "time_limit": Status.TIME_LIMIT, "callback": Status.CALLBACK}


@dataclass(frozen=True)
class Options:
    """How a problem is to be solved, in the units of the caller."""

    limits: Limits  # its tolerance: the marginal error, relative to the total mass
    rho: tuple[float, float] = (math.inf, math.inf)
    method: str = "auto"
    memory: int = MEMORY
    single: bool = False

    @classmethod
    def of(cls, limits: Limits, rho: Any, method: Any, memory: Any, *, single: bool) -> Options:
        """Options from arguments."""
        room = MEMORY if memory is None else int(number("memory_limit", memory, 0.0, closed=True))
        return cls(limits, prices(rho), choose("method", method, METHODS), room, single)

    @property
    def balanced(self) -> bool:
        return self.rho == (math.inf, math.inf)


@dataclass(frozen=True)
class Solved:
    """One entropic problem, solved and judged, in the units and indices of the caller."""

    gibbs: Gibbs
    f: Array
    g: Array
    bounds: Bounds
    converged: bool
    epsilon: float

    @property
    def status(self) -> Status:
        return Status.CONVERGED if self.converged else _STOPS.get(self.gibbs.potentials.stopped, Status.MARGINALS)

    def by_masses(self, a: Array, b: Array, rho: tuple[float, float]) -> tuple[Array, Array]:
        """Gradients of the value by a and b; with both marginals prescribed, the potentials, of mean 0."""
        if rho == (math.inf, math.inf):
            return self.f - self.f.mean(), self.g - self.g.mean()
        eps = self.epsilon
        sides = ((self.f, rho[0], b), (self.g, rho[1], a))
        f, g = (eps * by_mass(u / eps, eps / r, float(w.sum())) for u, r, w in sides)
        return f, g


@dataclass(frozen=True)
class Shift:
    """c_ij = c'_ij + f_i + g_j, where c' are the costs between clouds with one mean."""

    f: Array
    g: Array


@dataclass(frozen=True)
class Stated:
    """One problem in normal form, and the way back to the units and indices of the caller.

    Balanced masses are divided by their total; rows and columns without mass are set aside; squared distances are taken
    between clouds whose means are moved to one point.
    """

    problem: Any
    near: Any  # the problem with the means of its clouds in one point
    shift: Shift | None
    p: Array
    q: Array
    total: float
    rows: Array
    cols: Array
    task: Entropic
    epsilon: float
    points: tuple[Array, Array] | None  # as the caller gave them
    balanced: bool
    tol: float

    @classmethod
    def of(
        cls,
        problem: Any,
        a: Array,
        b: Array,
        epsilon: float,
        options: Options,
        points: tuple[Array, Array] | None = None,
    ) -> Stated:
        """The problem between masses a and b, balanced ones of equal totals."""
        problem = _ranged(problem, epsilon)
        total = float(a.sum()) if options.balanced else 1.0
        p, q = a / total, b / total
        rows, cols = (np.arange(len(w)) if isinstance(problem, Gridded) else np.flatnonzero(w) for w in (p, q))
        near, shift = _centred(problem, p, q) if options.balanced else (problem, None)
        kappa = tuple(_damping(r, epsilon) for r in options.rho)
        task = Entropic(
            _kept(near, rows, cols),
            p[rows],
            q[cols],
            epsilon / 2.0**problem.log_unit,
            max(options.limits.tolerance, ROUNDING),
            (kappa[0], kappa[1]),
            (epsilon / options.rho[0], epsilon / options.rho[1]),
            options.single,
            options.memory,
        )
        _feasible(task, rows, cols)
        return cls(
            problem,
            near,
            shift,
            p,
            q,
            total,
            rows,
            cols,
            task,
            epsilon,
            points,
            options.balanced,
            options.limits.tolerance,
        )

    def start(self, g: Array | None) -> Array | None:
        """Column potentials in the caller's units as gamma of all columns."""
        if g is None:
            return None
        own = g / 2.0**self.problem.log_unit
        with np.errstate(over="ignore", invalid="ignore"):
            start = (own if self.shift is None else own - self.shift.g) / self.task.epsilon
        return np.asarray(np.clip(np.nan_to_num(start), -FARTHEST, FARTHEST))

    def everywhere(self, found: Potentials) -> tuple[Array, Array]:
        """Potentials of all rows and columns: those without mass follow from the other side."""
        return _everywhere(self.near, self.task, found, self.rows, self.cols)

    def solved(self, found: Potentials, bounds: Bounds, phi: Array, gamma: Array) -> Solved:
        """The answer in the caller's units; phi and gamma are `found` on all rows and columns."""
        task, epsilon = self.task, self.epsilon
        converged = bounds.marginal_error <= self.tol
        if self.shift is not None:
            off = bounds.columns - task.b
            bounds = _moved(bounds, float(self.p @ self.shift.f + self.q @ self.shift.g))
            bounds = replace(bounds, linear=bounds.linear + float(off @ self.shift.g[self.cols]))
            phi, gamma = phi + self.shift.f / task.epsilon, gamma + self.shift.g / task.epsilon
            found = replace(found, phi=phi[self.rows], gamma=gamma[self.cols])
            task = replace(task, problem=_kept(self.problem, self.rows, self.cols))
        f, g = epsilon * phi, epsilon * gamma
        if self.balanced:
            g = g - epsilon * math.log(self.total)
            half = 0.5 * float(self.p @ f - self.q @ g)
            f, g = f - half, g + half
        gibbs = Gibbs(task, found, self.rows, self.cols, self.problem.shape, self.total, self.points)
        own = _in_units(bounds, 2.0**self.problem.log_unit, self.total, epsilon, self.balanced)
        return Solved(gibbs, f, g, own, bool(converged), epsilon)


# Largest potential in units of epsilon from which anything may start.
FARTHEST = 1e15
# Largest rho in parts of epsilon: above, kappa is 1 but for its last digits.
HIGHEST = 2.0**40
# Largest ratio of costs and epsilon, of epsilon and rho, and of epsilon and the unit of the costs.
WIDEST = 2.0**900


def _damping(rho: float, epsilon: float) -> float:
    """kappa = rho / (rho + epsilon)."""
    if rho == math.inf:
        return 1.0
    if rho < epsilon / WIDEST:
        raise ValueError(f"rho: found {rho!r} with epsilon {epsilon!r}; such a price is no price, raise it")
    if rho > HIGHEST * epsilon:
        raise ValueError(f"rho: found {rho!r} with epsilon {epsilon!r}; pass inf to prescribe a marginal")
    return 1.0 / (1.0 + epsilon / rho)


def _ranged(problem: Any, epsilon: float) -> Any:
    """The problem, in units in which epsilon and costs / epsilon are within the range of float64."""
    if problem.log_unit < 0.0 and math.log2(epsilon) - problem.log_unit > 900.0:
        problem = unscaled(problem)  # costs that vanish beside epsilon need no unit of their own
    own = math.log2(epsilon) - problem.log_unit
    size = _log_size(problem)
    if not (-960.0 < own < 960.0 and size - own < math.log2(WIDEST)):
        raise ValueError(
            f"epsilon: found {epsilon!r} where costs are up to about 2^{size + problem.log_unit:.0f}; too far "
            f"apart for float64"
        )
    return problem


def _log_size(problem: Any) -> float:
    """log2 of a bound of the costs, in units of the problem; -inf if all are 0."""
    if isinstance(problem, Gridded | Points):
        if isinstance(problem, Gridded):
            extent, degree = sum(float(np.ptp(axis)) for axis in problem.grid.axes), problem.grid.power
        else:
            low, high = (pick([pick(z, axis=0) for z in (problem.x, problem.y)], axis=0) for pick in (np.min, np.max))
            extent, degree = float(np.sum(high - low)), power(problem.cost)
        return degree * math.log2(extent) if extent > 0.0 else -math.inf
    size = problem.seen.largest
    return math.log2(size) if size > 0.0 else -math.inf


def _kept(problem: Problem, rows: Array, cols: Array) -> Problem:
    n, m = problem.shape
    return problem if len(rows) == n and len(cols) == m else problem.kept(rows, cols)


def _centred(problem: Problem, p: Array, q: Array) -> tuple[Problem, Shift | None]:
    """Squared distances between clouds whose means are moved to one point: the same plan from better numbers."""
    if not isinstance(problem, Points) or not isinstance(problem.cost, Squared) or problem.directions:
        return problem, None
    at, to = p @ problem.x, q @ problem.y
    gap = at - to
    if not np.any(gap):
        return problem, None
    x, y = problem.x - at, problem.y - to
    size = 0.5 * float(gap @ gap)
    return replace(problem, x=x, y=y), Shift(2.0 * (x @ gap) + size, size - 2.0 * (y @ gap))


def _feasible(task: Entropic, rows: Array, cols: Array) -> None:
    if not isinstance(task.problem, Matrix) or not task.problem.seen.infinite:
        return
    for axis, name, numbers in ((1, "row", rows), (0, "column", cols)):
        least = np.min(task.problem.C, axis=axis)
        if np.isposinf(least).any():
            at = int(numbers[int(np.argmax(least))])
            raise ValueError(f"costs: found {name} {at} with mass but no finite cost; its mass may go nowhere")


def _everywhere(problem: Problem, task: Entropic, found: Potentials, rows: Array, cols: Array) -> tuple[Array, Array]:
    """Potentials of all rows and columns: those without mass follow from the other side."""
    from otdist.transport._bounds import settle

    n, m = problem.shape
    phi, gamma = np.empty(n), np.empty(m)
    phi[rows], gamma[cols] = found.phi, found.gamma
    if len(rows) < n:
        empty = np.setdiff1d(np.arange(n), rows)
        other = replace(task, problem=problem.kept(empty, cols), a=np.ones(len(empty)))
        phi[empty] = settle(other, found.gamma)[0]
    if len(cols) < m:
        empty = np.setdiff1d(np.arange(m), cols)
        turned = transposed(problem.kept(rows, empty))
        other = replace(task, problem=turned, a=np.ones(len(empty)), b=task.a, kappa=task.kappa[::-1], slopes=None)
        gamma[empty] = settle(other, found.phi)[0]
    for potential in (phi, gamma):
        potential[~np.isfinite(potential)] = 0.0  # without mass and without a finite cost: any potential will do
    return phi, gamma


def transposed(problem: Any) -> Any:
    """The problem with its sides exchanged."""
    if isinstance(problem, Points):
        return replace(problem, x=problem.y, y=problem.x)
    if isinstance(problem, Matrix):
        return replace(problem, C=np.ascontiguousarray(problem.C.T))
    return problem


_LEVELS = ("value", "linear", "lower", "upper", "entropic_lower", "entropic_upper")


def _moved(bounds: Bounds, by: float) -> Bounds:
    return replace(bounds, **{name: getattr(bounds, name) + by for name in _LEVELS})


def _in_units(bounds: Bounds, unit: float, total: float, epsilon: float, balanced: bool) -> Bounds:
    """Bounds of the caller's plan, which has `total` times the mass.

    sum P log(P / (a x b)) of a plan t P, between t a and t b, is t times that of P less t log t.
    """
    with np.errstate(over="ignore", under="ignore"):
        own = {name: float(np.float64(getattr(bounds, name)) * unit * total) for name in _LEVELS}
    if balanced and total != 1.0:
        for name in ("value", "entropic_lower", "entropic_upper"):
            own[name] -= epsilon * total * math.log(total)
    if not (math.isfinite(own["value"]) and math.isfinite(own["linear"])):
        raise ValueError("costs: the value leaves the range of float64; divide costs, or points, by a common factor")
    columns, error = bounds.columns * total, bounds.marginal_error * total
    return Bounds(**own, marginal_error=error, columns=columns)
