"""Gradients of entropic transport by points: against their definition in NumPy, and of closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

from otdist.kernels import threads
from otdist.transport import _self
from otdist.transport._entropic_pulls import Weight, by_points
from otdist.transport._gibbs import Entropic
from otdist.transport._implicit import weights
from otdist.transport._problem import Gridded, Matrix, clouds
from otdist.transport._solution import Watch
from otdist.transport.grid import Grid


def self_pull(task, phi, gamma):
    """Gradients of OT(x, x) by x and by its masses, through both places."""
    by_x, by_y = by_points(task, phi, gamma)
    by_a, by_b = weights(task, phi, gamma)
    return by_x + by_y, by_a + by_b


def softmin(C, epsilon, g, b):
    return -logsumexp(g + np.log(b) - C / epsilon, axis=1)


def cost_and_slope(name, p, x, y):
    """c (n, m) and its gradient by x (n, m, d), kinks at 0."""
    D = x[:, None] - y
    if name == "sqeuclidean":
        r2 = np.sum(D**2, 2)
        return r2**p, 2.0 * p * (r2 ** (p - 1.0))[:, :, None] * D
    if name == "cosine":
        lx, ly = np.linalg.norm(x, axis=1), np.linalg.norm(y, axis=1)
        cosine = x @ y.T / lx[:, None] / ly
        by_x = (y / ly[:, None])[None] / lx[:, None, None] - cosine[:, :, None] * (x / lx[:, None] ** 2)[:, None]
        return 1.0 - cosine, -by_x
    if name == "euclidean":
        r = np.sqrt(np.sum(D**2, 2))
        unit = np.divide(D, r[:, :, None], out=np.zeros_like(D), where=r[:, :, None] > 0.0)
    elif name == "cityblock":
        r, unit = np.sum(np.abs(D), 2), np.sign(D)
    else:
        at = np.argmax(np.abs(D), axis=2)
        r, unit = np.max(np.abs(D), axis=2), np.zeros_like(D)
        np.put_along_axis(unit, at[:, :, None], np.sign(np.take_along_axis(D, at[:, :, None], 2)), 2)
    return r**p, p * (r ** (p - 1.0))[:, :, None] * unit


COSTS = [
    ("sqeuclidean", 1.0),
    ("euclidean", 1.0),
    ("euclidean", 3.0),
    ("cityblock", 1.0),
    ("chebyshev", 1.0),
    ("cosine", 1.0),
]


@pytest.mark.parametrize(("cost", "p"), COSTS)
@pytest.mark.parametrize("d", [1, 2, 12])
def test_by_points_is_the_sum_of_its_definition(cost, p, d):
    rng = np.random.default_rng(d)
    n, m = 150, 270
    x, y = rng.normal(size=(n, d)) + 1.0, rng.normal(size=(m, d))
    y[:4] = x[:4]
    y[4] = x[4] + 1e-9
    if cost == "cosine" and d == 1:
        return
    a, b = rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(m))
    C, slope = cost_and_slope(cost, p, x, y)
    epsilon = 0.03 * C.mean()
    gamma = rng.normal(size=m)
    phi = softmin(C, epsilon, gamma, b)
    P = a[:, None] * b * np.exp(phi[:, None] + gamma - C / epsilon)
    task = Entropic(clouds(x, y, cost, p), a, b, epsilon, 1e-9)
    by_rows, by_cols, dense = rng.normal(size=n), rng.normal(size=m), rng.normal(size=(n, m))
    left, right = rng.normal(size=(n, 2)), rng.normal(size=(m, 2))
    everything = by_rows[:, None] + by_cols + 0.7 * C + left @ right.T + dense
    for weight, full in ((None, 1.0), (Weight(by_rows, by_cols, 0.7, left, right, dense), everything)):
        gx, gy = by_points(task, phi, gamma, weight, (x, y))
        pull = (P * full)[:, :, None] * slope
        size = np.sum(np.abs(pull), axis=(0, 1)).max()
        assert np.max(np.abs(gx - pull.sum(1))) < 1e-13 * size
        if cost == "cosine":
            _, other = cost_and_slope(cost, p, y, x)
            expected = np.einsum("ij,jik->jk", P * full, other)
        else:
            expected = -pull.sum(0)
        assert np.max(np.abs(gy - expected)) < 1e-13 * size


@pytest.mark.parametrize("d", [3, 20])
def test_no_bit_depends_on_the_number_of_threads(d):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(1200, d)), rng.normal(size=(900, d))
    a, b = np.full(1200, 1 / 1200), np.full(900, 1 / 900)
    task = Entropic(clouds(x, y, "sqeuclidean", 1.0), a, b, 0.5 * d, 1e-9)
    phi, gamma = rng.normal(size=1200), rng.normal(size=900)
    found = []
    try:
        for count in (1, 2, 5):
            threads.set_thread_count(count)
            found.append(by_points(task, phi, gamma))
    finally:
        threads.set_thread_count(None)
    for gx, gy in found[1:]:
        assert np.array_equal(gx, found[0][0])
        assert np.array_equal(gy, found[0][1])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 9), st.floats(-6, 3), st.floats(-4, 4))
def test_translation_moves_no_gradient_and_forces_balance(seed, n, m, log_epsilon, offset):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, 2)), rng.normal(size=(m, 2))
    a, b = (z / z.sum() for z in (10.0 ** rng.uniform(-12, 0, n), 10.0 ** rng.uniform(-12, 0, m)))
    C = np.sum((x[:, None] - y) ** 2, 2)
    epsilon = 10.0**log_epsilon * C.max()
    gamma = rng.normal(size=m)
    phi = softmin(C, epsilon, gamma, b)
    problem = clouds(x, y, "sqeuclidean", 1.0)
    gx, gy = by_points(Entropic(problem, a, b, epsilon, 1e-9), phi, gamma)
    assert np.all(np.isfinite(gx))
    assert np.all(np.isfinite(gy))
    assert np.allclose(gx.sum(0), -gy.sum(0), rtol=0, atol=1e-12 * np.sqrt(C.max()))
    # every row holds its mass, so no gradient exceeds that of its farthest point
    assert np.all(np.linalg.norm(gx, axis=1) <= 2.0 * a * np.sqrt(C.max(1)) * (1.0 + 1e-6))


def test_shifted_clouds_are_pulled_by_the_shift():
    """S(X, X + v) = |v|²: by x -2 v/n, whatever epsilon; here through its three parts."""
    rng = np.random.default_rng(1)
    n, v = 40, np.array([0.3, -0.2, 0.5])
    x = rng.normal(size=(n, 3))
    a = np.full(n, 1.0 / n)
    self_task = Entropic(clouds(x, x, "sqeuclidean", 1.0), a, a, 0.7, 1e-13)
    same = _self.solve(self_task, Watch())
    # c(x, y + v) = c(x, y) - 2 <x - y, v> + |v|²: the plan is that of X to itself
    phi, gamma = same.phi + 2.0 * x @ -v / 0.7, same.gamma - 2.0 * x @ -v / 0.7 + v @ v / 0.7
    cross = Entropic(clouds(x, x + v, "sqeuclidean", 1.0), a, a, 0.7, 1e-13)
    gx, _ = by_points(cross, phi, gamma)
    pull, mass = self_pull(self_task, same.phi, same.gamma)
    assert np.allclose(gx - 0.5 * pull, -2.0 * v / n, atol=1e-12)
    f, _ = weights(cross, phi, gamma)
    tilt = -2.0 * x @ v
    assert np.allclose(f - 0.5 * mass, tilt - tilt.mean(), atol=1e-10)


def self_problems():
    rng = np.random.default_rng(2)
    x = np.concatenate([rng.normal(size=(60, 2)), 3.0 + 0.1 * rng.normal(size=(50, 2))])
    a = rng.dirichlet(np.ones(110))
    return {
        "points": (clouds(x, x, "sqeuclidean", 1.0), a),
        "euclidean": (clouds(x, x, "euclidean", 1.0), a),
        "cityblock": (clouds(x, x, "cityblock", 1.0), a),
        "products": (clouds(*(rng.normal(size=(110, 12)),) * 2, "sqeuclidean", 1.0), a),
        "cosine": (clouds(x, x, "cosine", 1.0), a),
        "matrix": (Matrix(np.abs(x[:, :1] - x[:, 0]) ** 3), 10.0 ** rng.uniform(-12, 0, 110)),
        "grid": (Gridded(Grid((10, 11))), a),
    }


@pytest.mark.parametrize("name", list(self_problems()))
@pytest.mark.parametrize("part", [1e3, 0.05, 1e-3, 1e-6])
@pytest.mark.parametrize("kappa", [1.0, 0.6])
def test_self_transport(name, part, kappa):
    problem, a = self_problems()[name]
    a = a / a.sum() * (1.0 if kappa == 1.0 else 1.7)
    C = np.asarray(problem.matrix(), np.float64)
    epsilon = part * C.max()
    tol = 1e-12 if part > 1e-4 else 1e-9
    found = _self.solve(Entropic(problem, a, a, epsilon, tol, (kappa, kappa)), Watch(max_iter=200))
    phi, gamma = found.phi, found.gamma
    P = a[:, None] * a * np.exp(phi[:, None] + gamma - C / epsilon)
    targets = [a * np.exp(-(1.0 / kappa - 1.0) * z) for z in (phi, gamma)]
    error = np.sum(np.abs(P.sum(1) - targets[0])) + np.sum(np.abs(P.sum(0) - targets[1]))
    error /= 1.0 if kappa == 1.0 else np.sum(targets)
    assert found.stopped == ""
    assert error <= 2.0 * tol
    assert found.error <= tol
    assert np.allclose(found.columns, P.sum(0), rtol=0, atol=tol)
    assert np.max(np.abs(phi - gamma) * a) <= 2.0 * tol
    assert found.iterations <= 12


@pytest.mark.parametrize("part", [1.0, 1e-2, 1e-4])
@pytest.mark.parametrize("seed", range(4))
def test_self_transport_at_costs_that_are_no_distance(part, seed):
    rng = np.random.default_rng(seed)
    n = 30
    C = rng.random((n, n))
    C = C + C.T if seed else np.ones((n, n)) - np.eye(n)[::-1]  # seed 0: mass is drawn to another point than its own
    a = rng.dirichlet(np.ones(n))
    task = Entropic(Matrix(C), a, a, part, 1e-10)
    found = _self.solve(task, Watch(max_iter=3000))
    P = a[:, None] * a * np.exp(found.phi[:, None] + found.gamma - C / part)
    error = np.sum(np.abs(P.sum(1) - a)) + np.sum(np.abs(P.sum(0) - a))
    assert np.isfinite(error)
    assert math.isclose(error, found.error, rel_tol=1e-3, abs_tol=1e-12)
    assert found.stopped or found.error <= 1e-10
    assert part < 0.1 or not found.stopped  # T may have a differential near 1 there, and says so


def test_self_transport_stops_when_told_and_starts_where_told():
    problem, a = self_problems()["points"]
    task = Entropic(problem, a, a, 0.1, 1e-12)
    short = _self.solve(task, Watch(max_iter=3))
    assert short.stopped == "max_iter"
    whole = _self.solve(task, Watch())
    again = _self.solve(task, Watch(), whole.gamma)
    assert again.iterations < whole.iterations
    impossible = _self.solve(Entropic(problem, a, a, 1e-3, 0.0), Watch())
    assert impossible.stopped == "stalled"
    assert 0.0 < impossible.error < 1e-10


def test_self_pull_is_the_derivative_of_the_value():
    rng = np.random.default_rng(3)
    x, dx, a = rng.normal(size=(8, 2)), rng.normal(size=(8, 2)), rng.dirichlet(np.ones(8))
    da = a * rng.normal(size=8)
    da -= da.mean()

    def value(t):
        z, c = x + t * dx, a + t * da
        found = _self.solve(Entropic(clouds(z, z, "sqeuclidean", 1.0), c, c, 0.5, 1e-14), Watch(max_iter=60))
        return 0.5 * (c @ found.phi + c @ found.gamma)

    task = Entropic(clouds(x, x, "sqeuclidean", 1.0), a, a, 0.5, 1e-13)
    found = _self.solve(task, Watch())
    pull, mass = self_pull(task, found.phi, found.gamma)
    h = 1e-4
    slope = (8.0 * (value(h) - value(-h)) - (value(2 * h) - value(-2 * h))) / (12.0 * h)
    assert math.isclose(np.sum(pull * dx) + mass @ da, slope, rel_tol=1e-9)
