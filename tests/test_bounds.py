"""What potentials prove: bounds that hold for any potentials, and meet at the solution."""

from __future__ import annotations

import math

import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

from otdist.transport import _bounds
from otdist.transport._gibbs import Entropic, Potentials
from otdist.transport._problem import Matrix, Points, tag


def masses(rng, n, decades=1.0):
    a = 10.0 ** rng.uniform(-decades, 0.0, n)
    return a / a.sum()


def iterated(C, a, b, eps, kappa, iterations):
    """Potentials by the definition, rows exact."""
    g = np.zeros(len(b))
    for _ in range(iterations):
        f = -kappa[0] * logsumexp(g - C / eps + np.log(b), axis=1)
        g = -kappa[1] * logsumexp(f[:, None] - C / eps + np.log(a)[:, None], axis=0)
    return -kappa[0] * logsumexp(g - C / eps + np.log(b), axis=1), g


def kl(p, q):
    return float(np.sum(np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0) / q), 0.0) - p + q))


def objective(P, C, a, b, eps, rho):
    """The regularised objective of a plan, unbalanced where rho is finite."""
    value = float((P * np.where(P > 0, C, 0.0)).sum()) + eps * kl(P, a[:, None] * b)
    for marginal, mass, price in ((P.sum(axis=1), a, rho[0]), (P.sum(axis=0), b, rho[1])):
        if price < math.inf:
            value += price * kl(marginal, mass)
    return value


def judged(task, f, g, columns=True):
    phi, sums, error = _bounds.settle(task, g)
    np.testing.assert_allclose(phi, f, rtol=1e-9, atol=1e-9)
    return _bounds.judge(task, Potentials(phi, g, error, 1, "", columns=sums if columns else None))


def test_two_points():
    """C = [[0, 1], [1, 0]], uniform: OT = eps log(2 / (1 + e^(-1/eps))), <P, C> = 1 / (1 + e^(1/eps))."""
    C, a = np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([0.5, 0.5])
    for eps in (0.05, 1.0, 7.0):
        task = Entropic(Matrix(C), a, a, eps, 1e-9)
        f, g = iterated(C, a, a, eps, (1.0, 1.0), 3)
        found = judged(task, f, g)
        value = eps * math.log(2.0 / (1.0 + math.exp(-1.0 / eps)))
        assert found.entropic_lower <= value <= found.entropic_upper
        assert found.value == pytest.approx(value, rel=1e-13)
        assert found.linear == pytest.approx(1.0 / (1.0 + math.exp(1.0 / eps)), rel=1e-12)
        assert found.entropic_upper - found.entropic_lower < 1e-12
        assert found.lower <= 0.0 <= found.upper


@pytest.mark.parametrize("iterations", [1, 30, 1000])
@pytest.mark.parametrize("eps", [0.02, 0.1, 10.0])
def test_balanced(iterations, eps):
    rng = np.random.default_rng(iterations)
    x, y = rng.random((60, 2)), rng.random((45, 2))
    C = ot.dist(x, y)
    a, b = masses(rng, 60), masses(rng, 45)
    exact = ot.emd2(a, b, C)
    best_f, best_g = iterated(C, a, b, eps, (1.0, 1.0), 2000 if eps < 0.05 else 100)
    P = np.exp(best_f[:, None] + best_g - C / eps) * a[:, None] * b
    best = objective(P, C, a, b, eps, (math.inf, math.inf))
    f, g = iterated(C, a, b, eps, (1.0, 1.0), iterations)
    Q = np.exp(f[:, None] + g - C / eps) * a[:, None] * b
    off = np.abs(Q.sum(axis=1) - a).sum() + np.abs(Q.sum(axis=0) - b).sum()
    for problem in (Matrix(C), Points(x, y, tag("sqeuclidean", 1.0))):
        found = judged(Entropic(problem, a, b, eps, 1e-9), f, g)
        assert found.lower - 1e-13 <= exact <= found.upper + 1e-13
        assert found.entropic_lower - 1e-12 <= best <= found.entropic_upper + 1e-12
        assert found.marginal_error == pytest.approx(off, rel=1e-6, abs=1e-13)
        assert found.linear == pytest.approx(float((Q * C).sum()), rel=1e-10)
        if iterations == 1000 and eps > 0.05:
            assert found.entropic_upper - found.entropic_lower < 1e-11
            assert found.upper == pytest.approx(float((P * C).sum()), rel=1e-9)


def test_the_upper_bound_is_a_plan():
    """The rounded plan, built here: its cost is the upper bound, its objective below the entropic one."""
    rng = np.random.default_rng(3)
    C, a, b, eps = rng.random((30, 20)), masses(rng, 30), masses(rng, 20), 0.02
    f, g = iterated(C, a, b, eps, (1.0, 1.0), 4)
    P = np.exp(f[:, None] + g - C / eps) * a[:, None] * b
    Q = P * np.minimum(1.0, b / P.sum(axis=0))
    left, over = a - Q.sum(axis=1), b - Q.sum(axis=0)
    T = Q + np.outer(left, over) / over.sum()
    found = judged(Entropic(Matrix(C), a, b, eps, 1e-9), f, g)
    assert found.upper == pytest.approx(float((T * C).sum()), rel=1e-11)
    value = objective(T, C, a, b, eps, (math.inf, math.inf))
    assert value <= found.entropic_upper <= value + 1e-2
    assert found.entropic_lower == pytest.approx(float(a @ f + b @ g) * eps - eps * (P.sum() - 1.0), abs=1e-12)


@pytest.mark.parametrize("kappa", [(0.9, 0.9), (1.0, 0.7), (0.7, 1.0), (0.2, 0.99), (1 - 1e-6, 1 - 1e-6)])
@pytest.mark.parametrize("iterations", [2, 20, 800])
def test_unbalanced(kappa, iterations):
    rng = np.random.default_rng(4)
    C, eps = rng.random((25, 30)), 0.1
    a, b = masses(rng, 25) * 2.0, masses(rng, 30) * (2.0 if max(kappa) == 1.0 else 0.7)
    rho = tuple(math.inf if k == 1.0 else eps * k / (1.0 - k) for k in kappa)
    f, g = iterated(C, a, b, eps, kappa, iterations)
    task = Entropic(Matrix(C), a, b, eps, 1e-9, kappa)
    for columns in (True, False):
        found = judged(task, f, g, columns)
        assert found.lower <= found.upper
        assert found.lower <= found.entropic_upper  # KL is never negative
        assert found.entropic_lower <= found.entropic_upper
        # any plan that keeps the balanced marginals is above the lower bound
        P = np.exp(f[:, None] + g - C / eps) * a[:, None] * b
        if kappa[1] == 1.0:
            P = P * (b / P.sum(axis=0))
        value = objective(P, C, a, b, eps, rho)
        assert found.entropic_lower <= value * (1 + 1e-9)
        if iterations == 800 and min(rho) < 1e3:
            assert found.entropic_lower == pytest.approx(value, rel=1e-8)
            assert found.entropic_upper == pytest.approx(value, rel=1e-8)


def test_forbidden_pairs():
    rng = np.random.default_rng(5)
    C = rng.random((12, 12))
    C[rng.random(C.shape) < 0.3] = np.inf
    np.fill_diagonal(C, 0.1)
    a = np.full(12, 1 / 12)
    f, g = iterated(C, a, a, 0.1, (1.0, 1.0), 5)
    found = judged(Entropic(Matrix(C), a, a, 0.1, 1e-9), f, g)
    exact = ot.emd2(a, a, np.where(np.isfinite(C), C, 1e3))
    assert found.lower <= exact
    assert found.upper == found.entropic_upper == math.inf  # what is missing would go where nothing may
    only = np.where(np.eye(12) > 0, 0.25, np.inf)
    found = judged(Entropic(Matrix(only), a, a, 0.1, 1e-9), *iterated(only, a, a, 0.1, (1.0, 1.0), 3))
    assert found.lower <= 0.25 <= found.upper < 0.25 + 1e-12
    assert found.entropic_lower <= 0.25 + 0.1 * math.log(12) <= found.entropic_upper < 0.25 + 0.1 * math.log(12) + 1e-12
    assert np.array_equal(_bounds.dense(Entropic(Matrix(only), a, a, 0.1, 1e-9), f, g) > 0, np.eye(12) > 0)


def test_claims_are_not_trusted():
    """Rows that are not exact, columns that are not those of the plan: both are measured again."""
    rng = np.random.default_rng(6)
    C, a, b = rng.random((20, 30)), masses(rng, 20), masses(rng, 30)
    exact = ot.emd2(a, b, C)
    task = Entropic(Matrix(C), a, b, 0.05, 1e-9)
    _, g = iterated(C, a, b, 0.05, (1.0, 1.0), 500)
    false = Potentials(rng.standard_normal(20) * 5.0, g, 0.0, 1, "", columns=b.copy())
    found = _bounds.judge(task, false)
    assert found.lower <= exact <= found.upper
    assert found.entropic_upper - found.entropic_lower < 1e-9


@pytest.mark.parametrize("d", [1, 3, 11])
def test_products_with_the_plan(d):
    rng = np.random.default_rng(7)
    x, y = rng.standard_normal((210, d)), rng.standard_normal((130, d))
    C = ot.dist(x, y)
    a, b = masses(rng, 210), masses(rng, 130)
    eps = 0.1 * C.mean()
    f, g = iterated(C, a, b, eps, (1.0, 1.0), 10)
    P = np.exp(f[:, None] + g - C / eps) * a[:, None] * b
    for problem in (Matrix(C), Points(x, y, tag("sqeuclidean", 1.0))):
        task = Entropic(problem, a, b, eps, 1e-9)
        np.testing.assert_allclose(_bounds.dense(task, f, g), P, rtol=1e-10)
        for V in (rng.standard_normal(130), rng.standard_normal((130, 4))):
            np.testing.assert_allclose(_bounds.applied(task, f, g, V), P @ V, rtol=1e-9, atol=1e-13)
        W = rng.standard_normal((210, 3))
        np.testing.assert_allclose(_bounds.applied(task, f, g, W, transpose=True), P.T @ W, rtol=1e-9, atol=1e-13)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 12),
    m=st.integers(1, 12),
    scale=st.sampled_from([1e-6, 1e-3, 1.0, 1e3]),
    offset=st.sampled_from([0.0, 1e4, -3.0]),
    decades=st.sampled_from([0.5, 12.0]),
    wild=st.sampled_from([0.0, 1.0, 50.0]),
)
def test_bounds_always_hold(seed, n, m, scale, offset, decades, wild):
    """For potentials of any kind, at any epsilon."""
    rng = np.random.default_rng(seed)
    C = rng.integers(0, 5, (n, m)) / 4.0 + offset
    a, b = masses(rng, n, decades), masses(rng, m, decades)
    task = Entropic(Matrix(C), a, b, scale, 1e-9)
    g = wild * rng.standard_normal(m)
    phi, columns, error = _bounds.settle(task, g)
    found = _bounds.judge(task, Potentials(phi, g, error, 1, "", columns=columns))
    exact = ot.emd2(a, b, C - offset) + offset if min(n, m) > 1 else float((a[:, None] * C * b).sum())
    slack = 1e-12 * (1.0 + abs(offset))
    assert found.lower <= exact + slack
    assert exact - slack <= found.upper
    assert found.entropic_lower <= found.entropic_upper
    assert exact - slack <= found.entropic_upper
    assert found.entropic_lower <= exact + scale * 28.0 * 2 + slack  # KL(P | ab) <= the entropy of the masses
