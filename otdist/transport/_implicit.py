"""Derivatives of anything an entropic solution determines, at the solution and not through the iterations.

With P_ij = a_i b_j exp(phi_i + gamma_j - c_ij/epsilon), row sums r and column sums s, the marginal conditions of
`_gibbs.py` determine phi and gamma. Their differential is symmetric:

    [ diag(r)/kappa_a        P        ] [dphi  ]   [ P ∂c/ε 1  - P (db/b)   ]
    [      Pᵀ         diag(s)/kappa_b ] [dgamma] = [ (P ∂c/ε)ᵀ 1 - Pᵀ (da/a) ]     (products with ∂c entry by entry)

So a cotangent (φ̄, γ̄) is pulled back by one solution (λ, μ) of the same system: its costs get P (λ_i + μ_j)/ε, a gets
-(P μ)/a, b gets -(Pᵀ λ)/b. `_response.py` solves it. Luise et al. (2018), Eisenberger et al. (2022).

Gauge. Balanced potentials are determined up to f + t, g - t, and the system is singular along (1, -1). Where cotangents
by f and g do not sum to the same, they are read as those of potentials whose derivatives obey Σ a_i df_i = Σ b_j dg_j.
Balanced masses live on the simplex: derivatives by a and by b are those along it, continued by 0 along (1, ..., 1), so
they have mean 0, as those of exact transport.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from otdist._arrays import Array
from otdist.kernels.profiles import Squared
from otdist.transport._entropic_pulls import Tiles, Weight, by_points, from_problem, into_problem, turned
from otdist.transport._gibbs import Entropic, by_mass
from otdist.transport._plan_products import Plan
from otdist.transport._problem import Matrix, Points
from otdist.transport._response import Response, System


@dataclass(frozen=True)
class Gradients:
    """By costs (n, m) or by points (n, d), (m, d), and by masses, in the caller's units."""

    costs: Array | None
    x: Array | None
    y: Array | None
    a: Array
    b: Array
    residual: float


@dataclass(frozen=True)
class Cotangent:
    """Derivatives of a scalar by the potentials f and g (in the caller's units of cost), <P, C> and the plan P.

    That by the plan is `plan` (n, m), `left` (n, r) times the transpose of `right` (m, r), or the sum of both: of a
    function of P V with cotangent W it is W Vᵀ. A barycentric map divides by the row sums of P; its chain rule is
    the caller's.
    """

    f: Array | None = None
    g: Array | None = None
    linear: float = 0.0
    plan: Array | None = None
    left: Array | None = None
    right: Array | None = None


def adjoint(task: Entropic, phi: Array, gamma: Array, bar_phi: Array, bar_gamma: Array) -> Response:
    """(lambda, mu): the symmetric system solved for the cotangents by phi and gamma."""
    return System(task, phi, gamma).solve(np.asarray(bar_phi, np.float64), np.asarray(bar_gamma, np.float64))


def vjp(
    task: Entropic,
    phi: Array,
    gamma: Array,
    bar: Cotangent,
    *,
    given: tuple[Array, Array] | None = None,
    system: System | None = None,
) -> Gradients:
    """Gradients of a scalar whose cotangents are `bar`, epsilon and rho held fixed.

    By costs where the problem is a `Matrix` (in the caller's units: its `C` times 2^log_unit), by points where it is
    `Points`; a grid has gradients by masses alone. `given` are the caller's points, needed by cosine costs. Raises
    `Unsolved` where conjugate gradients do not converge.
    """
    n, m = task.shape
    system = System(task, phi, gamma) if system is None else system
    unit, epsilon = 2.0**task.problem.log_unit, task.epsilon
    direct = Weight(np.zeros(n), np.zeros(m), unit * bar.linear, bar.left, bar.right, bar.plan)
    rows, cols = _sums(system.plan, direct)
    by_phi = rows + (0.0 if bar.f is None else unit * epsilon * np.asarray(bar.f, np.float64))
    by_gamma = cols + (0.0 if bar.g is None else unit * epsilon * np.asarray(bar.g, np.float64))
    found = system.solve(by_phi, by_gamma)
    by_a = (rows - system.plan.apply(found.cols)) / task.a
    by_b = (cols - system.plan.transposed(found.rows)) / task.b
    if system.balanced:
        by_a, by_b = by_a - np.mean(by_a), by_b - np.mean(by_b)
    # by the problem's costs: P (λ + μ - direct)/ε + P linear
    over = 1.0 / epsilon
    pull = Weight(
        over * found.rows + unit * bar.linear,
        over * found.cols,
        -over * direct.slope,
        None if bar.left is None else -over * np.asarray(bar.left, np.float64),
        bar.right,
        None if bar.plan is None else -over * np.asarray(bar.plan, np.float64),
    )
    costs = x = y = None
    if isinstance(task.problem, Matrix):
        costs = weighted(system.plan, pull) / unit
    elif isinstance(task.problem, Points):
        pull = Weight(pull.rows / unit, pull.cols / unit, pull.slope / unit, *_scaled(pull, 1.0 / unit))
        x, y = by_points(task, phi, gamma, pull, given)
    return Gradients(costs, x, y, by_a, by_b, found.residual)


def _scaled(weight: Weight, factor: float) -> tuple[Array | None, Array | None, Array | None]:
    if factor == 1.0:
        return weight.left, weight.right, weight.dense
    left = None if weight.left is None else factor * weight.left
    return left, weight.right, None if weight.dense is None else factor * weight.dense


def _sums(plan: Plan, weight: Weight) -> tuple[Array, Array]:
    """Row and column sums of Λ P; of what is not there no pass is made."""
    rows, cols = np.zeros(plan.shape[0]), np.zeros(plan.shape[1])
    if weight.slope == 0.0 and weight.left is None and weight.dense is None:
        return rows, cols

    def one(i0: int, i1: int, P: Array, C: Array | None) -> Array:
        part = _lambda(weight, i0, i1, P, C)
        np.sum(part, axis=1, out=rows[i0:i1])
        return np.asarray(np.sum(part, axis=0))

    for part in plan.blocks(one, costs=weight.slope != 0.0):
        cols += part
    return rows, cols


def weighted(plan: Plan, weight: Weight) -> Array:
    """Λ P as a matrix; 0 where P is, be the cost infinite."""
    out = np.empty(plan.shape)

    def one(i0: int, i1: int, P: Array, C: Array | None) -> None:
        out[i0:i1] = _lambda(weight, i0, i1, P, C)

    for _ in plan.blocks(one, costs=weight.slope != 0.0):
        pass
    return out


def _lambda(weight: Weight, i0: int, i1: int, P: Array, C: Array | None) -> Array:
    total = weight.rows[i0:i1, None] + weight.cols
    if C is not None and weight.slope != 0.0:
        total += weight.slope * np.where(P > 0.0, C, 0.0)
    extra = weight.extra(i0, i1, 0, P.shape[1])
    if extra.size:
        total += np.where(P > 0.0, extra, 0.0)
    total *= P
    return total


def weights(task: Entropic, phi: Array, gamma: Array) -> tuple[Array, Array]:
    """Gradients of the regularised value by a and by b, in the caller's units of cost.

    Balanced: f and g less their means (the value is that of masses on the simplex, see the head of the file). Else the
    partial derivatives of <P, C> + ε KL(P | a x b) + ρ_a KL(P 1 | a) + ρ_b KL(Pᵀ 1 | b): with e_i = exp(-f_i/ρ_a), the
    ratio of the row sum to a_i, ρ_a (1 - e_i) + ε (Σ b - e_i), where ρ_a = ∞: f_i + ε (Σ b - 1).
    """
    unit = 2.0**task.problem.log_unit * task.epsilon
    if task.kappa == (1.0, 1.0):
        return unit * (phi - np.mean(phi)), unit * (gamma - np.mean(gamma))
    by_a = by_mass(phi, task.slope(0), float(np.sum(task.b)))
    by_b = by_mass(gamma, task.slope(1), float(np.sum(task.a)))
    return unit * by_a, unit * by_b


@dataclass(frozen=True)
class Direction:
    """Where costs or points, and masses, move; None stands still."""

    costs: Array | None = None
    x: Array | None = None
    y: Array | None = None
    a: Array | None = None
    b: Array | None = None


def hvp(
    task: Entropic,
    phi: Array,
    gamma: Array,
    move: Direction,
    *,
    given: tuple[Array, Array] | None = None,
    system: System | None = None,
) -> Gradients:
    """The second derivative of the regularised value in a direction: how its gradients change, the plan responding.

    By points at kinks (coincident points of a distance, equal coordinates of a city block, ties of the largest
    difference) the second derivative of the cost is stated as 0. Balanced masses move along the simplex: what a
    direction has along (1, ..., 1) is taken off.
    """
    n, m = task.shape
    if move.costs is not None and not isinstance(task.problem, Matrix):
        raise ValueError("costs: the problem is not a matrix of costs; move its points x, y")
    if (move.x is not None or move.y is not None) and not isinstance(task.problem, Points):
        raise ValueError("x, y: the problem has no points; move its costs")
    system = System(task, phi, gamma) if system is None else system
    unit, over = 2.0**task.problem.log_unit, 1.0 / task.epsilon
    da, db = (np.zeros(k) if z is None else np.asarray(z, np.float64) for z, k in ((move.a, n), (move.b, m)))
    if system.balanced:
        da, db = da - np.mean(da), db - np.mean(db)
    rows, cols = -system.plan.apply(db / task.b), -system.plan.transposed(da / task.a)
    problem = task.problem
    tiles = steps = None
    if move.x is not None or move.y is not None:
        shapes = ((move.x, problem.x), (move.y, problem.y))
        callers = tuple(np.zeros(z.shape) if step is None else np.asarray(step, np.float64) for step, z in shapes)
        steps = into_problem(problem, (callers[0], callers[1]), given)
    if isinstance(problem, Points):
        tiles = Tiles(task, phi, gamma)
        if steps is not None:
            changed = _along(tiles, system.plan, *steps)
            rows, cols = rows + over * changed[0], cols + over * changed[1]
    dC = None
    if move.costs is not None:
        dC = np.asarray(move.costs, np.float64)
        changed = _sums(system.plan, Weight(np.zeros(n), np.zeros(m), dense=dC / unit))
        rows, cols = rows + over * changed[0], cols + over * changed[1]
    found = system.solve(rows, cols)
    by_rows, by_cols = found.rows + da / task.a, found.cols + db / task.b
    by_a = unit * task.epsilon * _mass_response(phi, task.kappa[0], found.rows, db, system.balanced)
    by_b = unit * task.epsilon * _mass_response(gamma, task.kappa[1], found.cols, da, system.balanced)
    costs = x = y = None
    if isinstance(problem, Matrix):
        costs = weighted(system.plan, Weight(by_rows, by_cols, dense=None if dC is None else -over / unit * dC))
    elif tiles is not None:
        still = np.zeros(problem.x.shape), np.zeros(problem.y.shape)
        x, y = from_problem(problem, _bend(tiles, system.plan, steps or still, by_rows, by_cols), given)
        if problem.directions and steps is not None and given is not None:
            gx, gy = tiles.pull(Weight(np.ones(n), np.zeros(m)))
            x, y = x + unit * turned(given[0], callers[0], gx), y + unit * turned(given[1], callers[1], gy)
    return Gradients(costs, x, y, by_a, by_b, found.residual)


def _mass_response(potential: Array, kappa: float, change: Array, others: Array, balanced: bool) -> Array:
    """The derivative of `_by_mass`: e^{-τφ} dφ/κ + Σ of the other masses' change; balanced, less its mean."""
    if balanced:
        return np.asarray(change - np.mean(change))
    return np.asarray(np.exp(-(1.0 / kappa - 1.0) * potential) * change / kappa + np.sum(others))


def _along(tiles: Tiles, plan: Plan, dx: Array, dy: Array) -> tuple[Array, Array]:
    """Sums of P ∂c over rows and columns; ∂c = 2 <x - y, dx - dy> is of low rank, so products with P will do."""
    if not (tiles.products and isinstance(tiles.tag, Squared)):
        return tiles.along(dx, dy)
    x, y = _centred(tiles)
    d = x.shape[1]
    to_x, to_y = plan.apply(np.hstack([y, dy])), plan.transposed(np.hstack([x, dx]))
    own_x, own_y = np.sum(x * dx, axis=1), np.sum(y * dy, axis=1)
    rows = plan.rows * own_x + plan.apply(own_y) - np.sum(x * to_x[:, d:] + dx * to_x[:, :d], axis=1)
    cols = plan.cols * own_y + plan.transposed(own_x) - np.sum(y * to_y[:, d:] + dy * to_y[:, :d], axis=1)
    return 2.0 * rows, 2.0 * cols


def _bend(tiles: Tiles, plan: Plan, moves: tuple[Array, Array], by_rows: Array, by_cols: Array) -> tuple[Array, Array]:
    """How the sums of gradients change as log P does by `by_rows` + `by_cols` - ∂c/ε."""
    dx, dy = moves
    if not (tiles.products and isinstance(tiles.tag, Squared)):
        return tiles.bend(dx, dy, by_rows, by_cols)
    x, y = _centred(tiles)
    factor = 2.0 * tiles.over
    weight = Weight(
        by_rows - factor * np.sum(x * dx, axis=1),
        by_cols - factor * np.sum(y * dy, axis=1),
        left=factor * np.hstack([x, dx]),
        right=np.hstack([dy, y]),
    )
    gx, gy = tiles.pull(weight)
    gx += 2.0 * (plan.rows[:, None] * dx - plan.apply(dy))
    gy += 2.0 * (plan.cols[:, None] * dy - plan.transposed(dx))
    return gx, gy


def _centred(tiles: Tiles) -> tuple[Array, Array]:
    centre = 0.5 * (tiles.x.mean(axis=0) + tiles.y.mean(axis=0))
    x: Array = tiles.x - centre
    y: Array = tiles.y - centre
    return x, y
