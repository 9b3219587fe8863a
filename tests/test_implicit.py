"""Derivatives of entropic solutions: against finite differences, and against autodiff through the converged loop."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from otdist.kernels.pricing import survey
from otdist.transport._entropic_pulls import by_points
from otdist.transport._gibbs import Entropic
from otdist.transport._implicit import Cotangent, Direction, hvp, vjp, weights
from otdist.transport._problem import Matrix, Points, clouds, cost_matrix
from otdist.transport._response import System, Unsolved

BALANCED, UNBALANCED, MIXED = (1.0, 1.0), (0.7, 0.4), (1.0, 0.6)


def solved(problem, a, b, epsilon, kappa=BALANCED, steps=4000):
    """Potentials by the plain loop in the log domain."""
    scaled = np.asarray(problem.matrix(), np.float64) / epsilon
    gamma, log_a, log_b = np.zeros(len(b)), np.log(a)[:, None], np.log(b)
    for _ in range(steps):
        phi = -kappa[0] * logsumexp(gamma + log_b - scaled, axis=1)
        last, gamma = gamma, -kappa[1] * logsumexp(phi[:, None] + log_a - scaled, axis=0)
        if np.max(np.abs(gamma - last)) < 1e-15:
            break
    phi = -kappa[0] * logsumexp(gamma + log_b - scaled, axis=1)
    return phi, gamma


def plan_of(problem, a, b, epsilon, phi, gamma):
    return a[:, None] * b * np.exp(phi[:, None] + gamma - np.asarray(problem.matrix()) / epsilon)


def regularised(problem, a, b, epsilon, kappa=BALANCED):
    """The value as it is defined."""
    P = plan_of(problem, a, b, epsilon, *solved(problem, a, b, epsilon, kappa))
    C = np.asarray(problem.matrix()) * 2.0**problem.log_unit
    unit = epsilon * 2.0**problem.log_unit

    def divergence(p, q):
        return float(np.sum(p * np.log(p / q) - p + q))

    value = float(np.sum(P * C)) + unit * divergence(P, a[:, None] * b)
    for k, p, q in ((kappa[0], P.sum(1), a), (kappa[1], P.sum(0), b)):
        if k < 1.0:
            value += unit * k / (1.0 - k) * divergence(p, q)
    return value


def masses(rng, n, total=1.0):
    a = rng.random(n) + 0.2
    return total * a / a.sum()


def close(found, expected, tolerance=1e-6):
    size = np.max(np.abs(expected))
    assert np.max(np.abs(found - expected)) <= tolerance * size + 1e-11, (found, expected)


class Case:
    """A cost that moves with a parameter t, masses that do, and everything in between."""

    def __init__(self, seed, cost="sqeuclidean", p=1.0, d=3, n=9, m=7, kappa=BALANCED, scale=1.0, offset=0.0):
        rng = np.random.default_rng(seed)
        self.rng, self.cost, self.p, self.kappa, self.scale = rng, cost, p, kappa, scale
        self.x, self.y = offset + rng.normal(size=(n, d)), offset + 0.3 + rng.normal(size=(m, d))
        totals = (1.0, 1.0) if kappa == BALANCED else (1.0, 1.3) if kappa[0] == 1.0 else (0.8, 1.3)
        self.a, self.b = masses(rng, n, totals[0]), masses(rng, m, totals[1])
        self.dx, self.dy = rng.normal(size=(n, d)), rng.normal(size=(m, d))
        self.da, self.db = rng.normal(size=n) * self.a, rng.normal(size=m) * self.b
        if kappa[0] == 1.0:  # masses of one total
            self.da -= self.da.mean()
        if kappa == BALANCED:
            self.db -= self.db.mean()
        self.dC = rng.normal(size=(n, m))
        self.C = np.asarray(self.points().matrix())
        self.epsilon = 0.2 * float(self.C.mean())

    def points(self, t=0.0) -> Points:
        return clouds(self.scale * (self.x + t * self.dx), self.scale * (self.y + t * self.dy), self.cost, self.p)

    def matrix(self, t=0.0) -> Matrix:
        return Matrix(self.C + t * self.dC)

    def at(self, problem, t=0.0, move_masses=True):
        a, b = (self.a + t * self.da, self.b + t * self.db) if move_masses else (self.a, self.b)
        phi, gamma = solved(problem, a, b, self.epsilon, self.kappa)
        task = Entropic(problem, a, b, self.epsilon, 1e-12, self.kappa)
        return task, phi, gamma

    @property
    def given(self):
        return self.scale * self.x, self.scale * self.y


def slope_of(function, step=2e-4):
    """The central difference, to fourth order."""
    return (8.0 * (function(step) - function(-step)) - (function(2.0 * step) - function(-2.0 * step))) / (12.0 * step)


@pytest.mark.parametrize("kappa", [BALANCED, UNBALANCED, MIXED])
def test_weights_are_the_derivatives_of_the_value(kappa):
    case = Case(0, kappa=kappa)
    by_a, by_b = weights(*case.at(case.points()))
    for da, db in ((case.da, 0.0 * case.db), (0.0 * case.da, case.db), (case.da, case.db)):
        slope = slope_of(
            lambda t, da=da, db=db: regularised(case.points(), case.a + t * da, case.b + t * db, case.epsilon, kappa)
        )
        assert by_a @ da + by_b @ db == pytest.approx(slope, rel=1e-8, abs=1e-10)
    if kappa == BALANCED:
        assert abs(by_a.mean()) < 1e-14
        assert abs(by_b.mean()) < 1e-14


def scalar(case, bar, problem, t, u, v):
    """The function of f, g, <P, C> and P whose cotangents are `bar`."""
    task, phi, gamma = case.at(problem, t)
    if case.kappa == BALANCED:  # a gauge
        shift = (case.a @ phi - case.b @ gamma) / 2.0
        phi, gamma = phi - shift, gamma + shift
    P = plan_of(problem, task.a, task.b, case.epsilon, phi, gamma)
    linear = bar.linear * np.sum(P * problem.matrix())
    return case.epsilon * (bar.f @ phi + bar.g @ gamma) + linear + np.sum(P * (bar.plan + u @ v.T))


@pytest.mark.parametrize("kind", ["points", "matrix"])
@pytest.mark.parametrize("kappa", [BALANCED, UNBALANCED, MIXED])
def test_vjp_against_finite_differences(kappa, kind):
    case = Case(1, kappa=kappa)
    n, m = len(case.a), len(case.b)
    rng = case.rng
    u, v = rng.normal(size=(n, 2)), rng.normal(size=(m, 2))
    # the gauge itself moves with a and b unless cotangents are consistent
    f, g = rng.normal(size=n), rng.normal(size=m)
    g += (f.sum() - g.sum()) / m
    bar = Cotangent(f, g, 0.7, rng.normal(size=(n, m)), u, v)
    problem = getattr(case, kind)
    found = vjp(*case.at(problem()), bar)
    slope = slope_of(lambda t: scalar(case, bar, problem(t), t, u, v))
    moved = found.a @ case.da + found.b @ case.db
    if kind == "matrix":
        moved += np.sum(found.costs * case.dC)
    else:
        moved += np.sum(found.x * case.dx) + np.sum(found.y * case.dy)
    assert moved == pytest.approx(slope, rel=1e-8)


def test_inconsistent_cotangents_are_read_in_the_stated_gauge():
    case = Case(2)
    rng = case.rng
    bar = Cotangent(rng.normal(size=9), rng.normal(size=7), 0.0, np.zeros((9, 7)))
    found = vjp(*case.at(case.matrix()), bar)
    still = replace_masses(case)
    slope = slope_of(lambda t: scalar(still, bar, still.matrix(t), t, np.zeros((9, 1)), np.zeros((7, 1))))
    assert np.sum(found.costs * case.dC) == pytest.approx(slope, rel=1e-8)


def replace_masses(case):
    case.da, case.db = 0.0 * case.da, 0.0 * case.db
    return case


def torch_loop(C, a, b, epsilon, steps=3000):
    f, g = torch.zeros_like(a), torch.zeros_like(b)
    for _ in range(steps):
        f = -epsilon * torch.logsumexp((g - C) / epsilon + torch.log(b), 1)
        g = -epsilon * torch.logsumexp((f[:, None] - C) / epsilon + torch.log(a)[:, None], 0)
    return f, g, a[:, None] * b * torch.exp((f[:, None] + g - C) / epsilon)


def test_vjp_of_a_barycentric_map_against_autodiff_through_the_loop():
    case = Case(3, n=6, m=5, d=2)
    x, y, a, b = (torch.tensor(z, requires_grad=True) for z in (case.x, case.y, case.a, case.b))
    target = torch.tensor(case.rng.normal(size=case.x.shape))
    f, _, P = torch_loop(torch.sum((x[:, None] - y) ** 2, 2), a, b, case.epsilon, 600)
    mapped = P @ y.detach() / P.sum(1, keepdim=True).detach()
    loss = torch.sum((mapped - target) ** 2) + torch.sum(f - f.mean()) ** 2 + torch.sum((f - f.mean()) ** 3)
    loss.backward()
    residue = 2.0 * (mapped - target).detach().numpy()
    centred = (f - f.mean()).detach().numpy()
    f_bar = 3.0 * centred**2
    found = vjp(
        *case.at(case.points()),
        Cotangent(f=f_bar - f_bar.mean(), left=residue / case.a[:, None], right=case.y),
    )
    close(found.x, x.grad.numpy(), 1e-8)
    close(found.y, y.grad.numpy(), 1e-8)
    for mine, theirs in ((found.a, a.grad.numpy()), (found.b, b.grad.numpy())):
        close(mine, theirs - theirs.mean(), 1e-8)


SMOOTH = [
    ("sqeuclidean", 1.0, 3),
    ("sqeuclidean", 1.0, 11),  # products
    ("euclidean", 1.0, 2),
    ("euclidean", 3.0, 2),
    ("euclidean", 1.5, 11),
    ("cityblock", 2.0, 3),
    ("chebyshev", 2.0, 3),
    ("cosine", 1.0, 3),
]


@pytest.mark.parametrize(("cost", "p", "d"), SMOOTH)
@pytest.mark.parametrize("kappa", [BALANCED, UNBALANCED])
def test_second_derivative_by_points(cost, p, d, kappa):
    case = Case(4, cost, p, d, kappa=kappa)
    move = Direction(x=case.dx, y=case.dy, a=case.da, b=case.db)
    found = hvp(*case.at(case.points()), move, given=case.given)

    def first(t):
        at = case.at(case.points(t), t)
        points = case.scale * (case.x + t * case.dx), case.scale * (case.y + t * case.dy)
        return [*by_points(*at, given=points), *weights(*at)]

    step = 3e-5 if cost in ("cityblock", "chebyshev") else 2e-4
    expected = [slope_of(lambda t, k=k: first(t)[k], step) for k in range(4)]
    for mine, theirs in zip((found.x, found.y, found.a, found.b), expected, strict=True):
        close(mine, theirs, 1e-7)


@pytest.mark.parametrize("kappa", [BALANCED, UNBALANCED, MIXED])
def test_second_derivative_by_costs_and_its_symmetry(kappa):
    case = Case(5, kappa=kappa)
    at = case.at(case.matrix())
    found = hvp(*at, Direction(costs=case.dC, a=case.da, b=case.db))

    def first(t):
        task, phi, gamma = case.at(case.matrix(t), t)
        return [plan_of(task.problem, task.a, task.b, task.epsilon, phi, gamma), *weights(task, phi, gamma)]

    for mine, k in ((found.costs, 0), (found.a, 1), (found.b, 2)):
        close(mine, slope_of(lambda t, k=k: first(t)[k]), 1e-8)
    other = Direction(costs=case.rng.normal(size=case.C.shape), a=case.da[::-1].copy())
    back = hvp(*at, other)
    here = np.sum(found.costs * other.costs) + found.a @ other.a
    assert here == pytest.approx(np.sum(back.costs * case.dC) + back.a @ case.da + back.b @ case.db, rel=1e-9)


@pytest.mark.parametrize("scale", [2.0**350, 2.0**-350])
def test_units_of_extreme_lengths(scale):
    plain, scaled = Case(6), Case(6, scale=scale)
    bar = Cotangent(linear=1.0)
    ones, others = (vjp(*c.at(c.points()), bar) for c in (plain, scaled))
    assert scaled.points().log_unit != 0.0
    close(others.x / scale, ones.x, 1e-10)
    close(others.a / scale**2, ones.a, 1e-10)
    close(weights(*scaled.at(scaled.points()))[0] / scale**2, weights(*plain.at(plain.points()))[0], 1e-10)
    move, far = Direction(x=plain.dx), Direction(x=scale * plain.dx)
    close(hvp(*scaled.at(scaled.points()), far).x / scale, hvp(*plain.at(plain.points()), move).x, 1e-10)


def test_units_of_extreme_costs():
    case = Case(7)
    bar = Cotangent(linear=1.0, f=np.arange(9.0) - 4.0)
    ones = vjp(*case.at(case.matrix()), bar)
    unit = 2.0**700
    problem = cost_matrix(case.C * unit, survey(case.C * unit))
    epsilon = case.epsilon * unit * 2.0**-problem.log_unit
    phi, gamma = solved(problem, case.a, case.b, epsilon)
    others = vjp(Entropic(problem, case.a, case.b, epsilon, 1e-12), phi, gamma, bar)
    close(others.costs, ones.costs, 1e-10)
    close(others.a / unit, ones.a, 1e-10)


@pytest.mark.parametrize("kind", ["points", "matrix"])
def test_streamed_products_agree_with_a_stored_plan(kind, monkeypatch):
    monkeypatch.setattr("otdist.transport._plan_products.PAIRS", 7 * 4)
    case = Case(8)
    bar = Cotangent(case.rng.normal(size=9), None, 0.3, case.dC)
    task, phi, gamma = case.at(getattr(case, kind)())
    stored, streamed = vjp(task, phi, gamma, bar), vjp(replace(task, memory=0), phi, gamma, bar)
    for name in ("costs", "x", "y", "a", "b"):
        if getattr(stored, name) is not None:
            close(getattr(streamed, name), getattr(stored, name), 1e-12)


def test_infinite_costs_are_left_alone():
    case = Case(9)
    C = case.C.copy()
    C[0, 1:3] = C[4, 0] = np.inf
    task, phi, gamma = case.at(Matrix(C))
    found = vjp(task, phi, gamma, Cotangent(linear=1.0))
    change = hvp(task, phi, gamma, Direction(costs=case.dC))
    for z in (found.costs, found.a, found.b, change.costs, change.a):
        assert np.all(np.isfinite(z))
    assert found.costs[0, 1] == 0.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_read_only_costs(dtype):
    case = Case(10)
    C = case.C.astype(dtype)
    C.flags.writeable = False
    found = vjp(*case.at(Matrix(C)), Cotangent(linear=1.0))
    close(found.costs, vjp(*case.at(case.matrix()), Cotangent(linear=1.0)).costs, 1e-5)


def test_one_point_each_and_cotangents_of_nothing():
    problem = Matrix(np.array([[2.0]]))
    one = np.ones(1)
    task = Entropic(problem, one, one, 0.5, 1e-12)
    found = vjp(task, *solved(problem, one, one, 0.5), Cotangent(linear=1.0))
    assert found.costs[0, 0] == pytest.approx(1.0)
    case = Case(11)
    assert not np.any(vjp(*case.at(case.matrix()), Cotangent()).costs)


def test_two_by_two_in_closed_form():
    """<P, C> = 1/(1 + e^(1/ε)) at C = [[0, 1], [1, 0]]; by t in t C: that of t/(1 + e^(t/ε))."""
    C, half, epsilon = np.array([[0.0, 1.0], [1.0, 0.0]]), np.full(2, 0.5), 0.4
    task = Entropic(Matrix(C), half, half, epsilon, 1e-12)
    found = vjp(task, *solved(task.problem, half, half, epsilon), Cotangent(linear=1.0))
    e = math.exp(1.0 / epsilon)
    assert np.sum(found.costs * C) == pytest.approx(1.0 / (1.0 + e) - e / epsilon / (1.0 + e) ** 2, rel=1e-12)


@pytest.mark.parametrize("part", [1e-1, 1e-2, 3e-3])
def test_small_epsilon_solves_or_says_so(part):
    rng = np.random.default_rng(12)
    problem = clouds(rng.random((60, 2)), rng.random((60, 2)), "sqeuclidean", 1.0)
    a, b = masses(rng, 60), masses(rng, 60)
    epsilon = part * float(problem.matrix().max())
    phi, gamma = solved(problem, a, b, epsilon)
    system = System(Entropic(problem, a, b, epsilon, 1e-12), phi, gamma)
    rows, cols = rng.normal(size=60), rng.normal(size=60)
    cols += (rows.sum() - cols.sum()) / 60
    found = system.solve(rows, cols)
    P = plan_of(problem, a, b, epsilon, phi, gamma)
    close(P.sum(1) * found.rows + P @ found.cols, rows, 1e-7)
    close(P.T @ found.rows + P.sum(0) * found.cols, cols, 1e-7)


def test_a_system_that_is_not_solved_raises(monkeypatch):
    case = Case(13)
    monkeypatch.setattr(System, "_conjugate", lambda self, right: (0.0 * right, 1))
    with pytest.raises(Unsolved, match="relative residual"):
        vjp(*case.at(case.matrix()), Cotangent(linear=1.0))


def test_potentials_that_solve_nothing_raise():
    case = Case(14)
    task, phi, gamma = case.at(case.matrix())
    with pytest.raises(Unsolved):
        vjp(task, phi, gamma - np.where(np.arange(7) == 2, 1e4, 0.0), Cotangent(linear=1.0))


@pytest.mark.parametrize("kappa", [BALANCED, MIXED])
def test_masses_over_twelve_decades(kappa):
    rng = np.random.default_rng(15)
    problem = clouds(rng.random((25, 2)), rng.random((20, 2)), "euclidean", 1.0)
    a, b = (10.0 ** rng.uniform(-12.0, 0.0, k) for k in (25, 20))
    a, b = a / a.sum(), b / b.sum()
    phi, gamma = solved(problem, a, b, 0.1, kappa)
    task = Entropic(problem, a, b, 0.1, 1e-12, kappa)
    P = plan_of(problem, a, b, 0.1, phi, gamma)
    u, v = rng.normal(size=25), rng.normal(size=20)
    # what the system makes of u and v is known; it is solved for relative to every mass
    rows, cols = P.sum(1) * u / kappa[0] + P @ v, P.T @ u + P.sum(0) * v / kappa[1]
    found = System(task, phi, gamma).solve(rows, cols)
    shift = found.rows[0] - u[0]
    close(found.rows - shift, u, 1e-9)
    close(found.cols + shift, v, 1e-9)
    assert shift == pytest.approx(0.0, abs=1e-9) or kappa == BALANCED
    gradients = vjp(task, phi, gamma, Cotangent(linear=1.0, f=a))
    assert all(np.all(np.isfinite(z)) for z in (gradients.x, gradients.y, gradients.a, gradients.b))


def test_directions_that_the_problem_does_not_have():
    case = Case(16)
    with pytest.raises(ValueError, match="points"):
        hvp(*case.at(case.points()), Direction(costs=case.dC))
    with pytest.raises(ValueError, match="costs"):
        hvp(*case.at(case.matrix()), Direction(x=case.dx))
    cosine = Case(16, "cosine")
    with pytest.raises(ValueError, match="given"):
        vjp(*cosine.at(cosine.points()), Cotangent(linear=1.0))
