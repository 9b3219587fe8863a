"""Entropic transport on grids, against the same problem with its matrix written down."""

from __future__ import annotations

import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

from otdist.kernels import threads
from otdist.transport._gibbs import Entropic
from otdist.transport._grid_entropic import Kernel, applied, judge, solve
from otdist.transport._problem import Gridded
from otdist.transport._solution import Watch
from otdist.transport.grid import Grid

INF = np.inf
GRIDS = [
    ((7, 5), "sqeuclidean"),
    ((4, 3, 5), "cityblock"),
    (([0.0, 0.1, 0.5, 2.0, 2.5], [1.0]), 1.5),
    ((6, 1, 8), "sqeuclidean"),
    ((3, 70), 3.0),
]


def histograms(size, seed=0):
    rng = np.random.default_rng(seed)
    a, b = rng.random(size), rng.random(size)
    a[::3], b[1] = 0.0, 0.0
    return a / a.sum(), b / b.sum()


def task(axes, cost, epsilon, rho=(INF, INF), tol=1e-10, seed=0):
    """With epsilon in terms of the largest cost."""
    grid = Grid(axes, cost)
    eps = epsilon * float(grid.matrix().max())
    kappa = tuple(1.0 if r == INF else r / (r + eps) for r in rho)
    return Entropic(Gridded(grid), *histograms(grid.size, seed), eps, tol, kappa)


def sinkhorn(t):
    """Potentials by the definition."""
    z = t.problem.grid.matrix() / t.epsilon
    g = np.zeros(len(t.b))
    with np.errstate(divide="ignore"):
        la, lb = np.log(t.a), np.log(t.b)
    for _ in range(20_000):
        f = -t.kappa[0] * logsumexp(g + lb - z, axis=1)
        new = -t.kappa[1] * logsumexp((f + la)[:, None] - z, axis=0)
        if np.abs(new - g).max() < 1e-13:
            break
        g = new
    return f, g


def plan(t, f, g):
    with np.errstate(divide="ignore"):
        return np.exp((np.log(t.a) + f)[:, None] + (np.log(t.b) + g) - t.problem.grid.matrix() / t.epsilon)


def divergence(p, q):
    on = p > 0.0
    return float(np.sum(p[on] * np.log(p[on] / q[on])) - p.sum() + q.sum())


def primal(t, P, rho):
    value = float(np.sum(P * t.problem.grid.matrix())) + t.epsilon * divergence(P, t.a[:, None] * t.b)
    for r, sums, mass in ((rho[0], P.sum(1), t.a), (rho[1], P.sum(0), t.b)):
        value += 0.0 if r == INF else r * divergence(sums, mass)
    return value


@pytest.mark.parametrize("epsilon", [10.0, 0.1, 1e-3, 1e-5])
@pytest.mark.parametrize(("axes", "cost"), GRIDS)
def test_softmin_and_means_are_those_of_the_matrix(axes, cost, epsilon):
    grid = Grid(axes, cost)
    C = grid.matrix()
    z = C / (epsilon * C.max())
    rng = np.random.default_rng(0)
    h = 30.0 * rng.standard_normal(grid.size)
    h[rng.random(grid.size) < 0.4] = -INF
    V = rng.standard_normal(grid.size)
    kernel = Kernel(grid, epsilon * C.max())
    wanted = logsumexp(h - z, axis=1)
    P = np.exp(h - z - wanted[:, None])
    rounding = 1e-15 * (100.0 + np.abs(wanted).max() + np.abs(h[h > -INF]).max())
    np.testing.assert_allclose(kernel.softmin(h), wanted, rtol=1e-14, atol=rounding)
    level, means = kernel.mean(h, V)
    np.testing.assert_allclose(level, wanted, rtol=1e-14, atol=rounding)
    np.testing.assert_allclose(means, P @ V, rtol=1e-9, atol=1e3 * rounding)
    np.testing.assert_allclose(kernel.mean(h)[1], (P * C).sum(1), rtol=1e-9, atol=1e3 * rounding * C.max())
    assert (kernel.softmin(np.full(grid.size, -INF)) == -INF).all()


@pytest.mark.parametrize("rho", [(INF, INF), (1.0, 1.0), (INF, 2.0), (3.0, INF)])
@pytest.mark.parametrize("epsilon", [1.0, 0.05, 0.01])
@pytest.mark.parametrize(("axes", "cost"), GRIDS[:3])
def test_against_the_definition(axes, cost, epsilon, rho):
    t = task(axes, cost, epsilon, rho)
    found = solve(t, Watch())
    assert found.stopped == ""
    assert found.error <= t.tol
    P, P0 = plan(t, found.phi, found.gamma), plan(t, *sinkhorn(t))
    assert np.abs(P - P0).sum() < 2e-9
    error = np.abs(P.sum(1) - t.row_target(found.phi)).sum() + np.abs(P.sum(0) - t.column_target(found.gamma)).sum()
    assert error <= 1.01e-10 * max(1.0, 2.0 * P.sum())
    np.testing.assert_allclose(found.columns, P.sum(0), atol=1e-13)
    bounds, value = judge(t, found), primal(t, P0, rho)
    assert bounds.value == pytest.approx(value, abs=1e-8)
    assert bounds.linear == pytest.approx(np.sum(P * t.problem.grid.matrix()), rel=1e-11)
    assert bounds.entropic_lower <= value + 1e-11
    assert value - 1e-11 <= bounds.entropic_upper
    assert bounds.entropic_upper - bounds.entropic_lower < 1e-7
    assert bounds.lower <= bounds.upper
    if rho == (INF, INF):
        exact = ot.emd2(t.a, t.b, t.problem.grid.matrix())
        assert bounds.lower <= exact <= bounds.upper
    V = np.random.default_rng(1).standard_normal((len(t.a), 2))
    np.testing.assert_allclose(applied(t, found.phi, found.gamma, V), P @ V, atol=1e-13)
    np.testing.assert_allclose(applied(t, found.phi, found.gamma, V, transpose=True), P.T @ V, atol=1e-13)
    np.testing.assert_allclose(applied(t, found.phi, found.gamma, V[:, 0]), P @ V[:, 0], atol=1e-13)


def test_against_pot():
    t = task((8, 9), "sqeuclidean", 0.02, tol=1e-12)
    found = solve(t, Watch())
    assert found.stopped == ""
    assert found.error <= 1e-12
    on_a, on_b = np.flatnonzero(t.a), np.flatnonzero(t.b)
    C = t.problem.grid.matrix()[np.ix_(on_a, on_b)]
    peer = ot.sinkhorn(t.a[on_a], t.b[on_b], C, t.epsilon, method="sinkhorn_log", stopThr=1e-13, numItermax=20_000)
    assert np.abs(plan(t, found.phi, found.gamma)[np.ix_(on_a, on_b)] - peer).sum() < 1e-9


@pytest.mark.parametrize("passes", [1, 4, 12])
def test_bounds_hold_before_the_end(passes):
    t = task((9, 8), "sqeuclidean", 0.005)
    end = judge(t, solve(t, Watch()))
    early = solve(t, Watch(max_iter=passes))
    bounds = judge(t, early)
    assert early.stopped == "max_iter"
    assert early.error > t.tol
    P = plan(t, early.phi, early.gamma)
    assert early.error == pytest.approx(np.abs(P.sum(0) - t.b).sum(), rel=1e-9)
    assert bounds.marginal_error == pytest.approx(early.error, rel=1e-9)
    assert bounds.entropic_lower <= end.value <= bounds.entropic_upper
    exact = ot.emd2(t.a, t.b, t.problem.grid.matrix())
    assert bounds.lower <= exact <= bounds.upper


def test_a_translation_costs_its_length():
    """Histograms that are one far from the border, moved: only the cost of the move remains after debiasing."""
    a, b = np.zeros((20, 20)), np.zeros((20, 20))
    shape = np.random.default_rng(0).random((4, 4))
    a[3:7, 2:6], b[8:12, 13:17] = shape / shape.sum(), shape / shape.sum()
    values = []
    for p, q in ((a, b), (a, a), (b, b)):
        t = Entropic(Gridded(Grid((20, 20))), p.ravel(), q.ravel(), 1.0, 1e-12)
        values.append(judge(t, solve(t, Watch())).value)
    assert values[0] - 0.5 * (values[1] + values[2]) == pytest.approx(5.0**2 + 11.0**2, rel=1e-12)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.lists(st.integers(1, 7), min_size=1, max_size=3),
    ratio=st.floats(-3.0, 3.0),
    power=st.sampled_from([1.0, 2.0, 2.5]),
    decades=st.sampled_from([0.0, 12.0]),
    rho=st.sampled_from([INF, 0.5]),
)
def test_whatever_comes(seed, shape, ratio, power, decades, rho):
    rng = np.random.default_rng(seed)
    grid = Grid(tuple(shape), power)
    a, b = (10.0 ** (-decades * rng.random(grid.size)) for _ in range(2))
    largest = max(float(grid.matrix().max()), 1.0)
    eps = 10.0**ratio * largest
    kappa = 1.0 if rho == INF else rho * largest / (rho * largest + eps)
    t = Entropic(Gridded(grid), a / a.sum(), b / b.sum(), eps, 1e-7, (kappa, kappa))
    found = solve(t, Watch(max_iter=2000))
    assert np.isfinite(found.phi).all()
    assert np.isfinite(found.gamma).all()
    assert found.error <= 1e-7 if found.stopped == "" else found.error > 1e-7
    bounds = judge(t, found)
    assert np.isfinite(list(vars(bounds).values())).all()
    assert bounds.lower <= bounds.upper + 1e-12 * largest
    assert bounds.entropic_lower <= bounds.entropic_upper + 1e-12 * (largest + eps)
    P = plan(t, found.phi, found.gamma)
    error = np.abs(P.sum(1) - t.row_target(found.phi)).sum() + np.abs(P.sum(0) - t.column_target(found.gamma)).sum()
    error /= 1.0 if rho == INF else P.sum() * 2.0
    assert error == pytest.approx(found.error, rel=1e-2, abs=1e-10)


def test_a_start_is_used_and_threads_change_no_bit():
    t = task((40, 30), "sqeuclidean", 0.01)
    cold = solve(t, Watch())
    warm = solve(t, Watch(), cold.gamma)
    assert warm.iterations <= 2
    assert warm.stopped == ""
    threads.set_thread_count(2)
    try:
        again = solve(t, Watch())
    finally:
        threads.set_thread_count(None)
    assert (again.phi == cold.phi).all()
    assert (again.gamma == cold.gamma).all()
