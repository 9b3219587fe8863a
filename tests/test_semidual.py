"""Entropic transport by semi-dual Newton steps, against definitions in float64 and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

from otdist.kernels import threads
from otdist.transport import _semidual_plan
from otdist.transport._gibbs import Entropic, Potentials
from otdist.transport._problem import Matrix
from otdist.transport._semidual import solve
from otdist.transport._semidual_path import Prices
from otdist.transport._semidual_plan import Costs, Level, Work
from otdist.transport._solution import Watch

BALANCED = (1.0, 1.0)


def weights(count, decades=0.0, seed=0):
    w = 10.0 ** (-decades * np.random.default_rng(seed).random(count))
    return w / w.sum()


def squares(n, m, d=2, seed=0):
    rng = np.random.default_rng(seed)
    return ((rng.standard_normal((n, 1, d)) - rng.standard_normal((m, d)) - 0.5) ** 2).sum(-1)


def uniform(n, m, seed=0):
    return np.random.default_rng(seed).random((n, m))


def found(C, a, b, epsilon, tol=1e-9, kappa=BALANCED, start=None, **limits):
    return solve(Entropic(Matrix(C), a, b, epsilon, tol, kappa), Watch(**limits), start)


def plan(C, a, b, epsilon, s):
    return np.exp(np.log(a)[:, None] + np.log(b) + (s.phi[:, None] + s.gamma) - np.float64(C) / epsilon)


def off(C, a, b, epsilon, s, kappa=BALANCED):
    """The L1 error of both marginals by definition."""
    P = plan(C, a, b, epsilon, s)
    targets = [w * np.exp(-(1.0 / k - 1.0) * u) for w, k, u in ((a, kappa[0], s.phi), (b, kappa[1], s.gamma))]
    total = sum(np.abs(P.sum(1 - side) - targets[side]).sum() for side in (0, 1))
    return total if kappa == BALANCED else total / (targets[0].sum() + targets[1].sum())


def rounding(C, epsilon, s):
    """What the rounding of exponents alone may cost the definition above."""
    finite = np.abs(C[np.isfinite(C)]).max(initial=0.0)
    return 4.0 * 2.0**-53 * (finite / epsilon + np.abs(s.phi).max() + np.abs(s.gamma).max() + 100.0)


def check(C, a, b, epsilon, tol=1e-9, kappa=BALANCED, **options) -> Potentials:
    s = found(C, a, b, epsilon, tol, kappa, **options)
    assert s.stopped == ""
    assert s.error <= tol
    assert off(C, a, b, epsilon, s, kappa) <= 1.01 * tol + rounding(C, epsilon, s)
    return s


@pytest.mark.parametrize("ratio", [1e3, 1.0, 1e-2, 1e-3, 1e-4])
@pytest.mark.parametrize("C", [uniform(80, 80), squares(37, 90), squares(120, 70, 16)], ids=["uniform", "d=2", "d=16"])
def test_marginals(C, ratio):
    n, m = C.shape
    epsilon = ratio * C.max()
    check(C, weights(n), weights(m), epsilon, 1e-7)
    check(C, weights(n, 2, 1), weights(m, 2, 2), epsilon, 1e-11)
    check(C, weights(n, 12, 1), weights(m, 12, 2), epsilon, 1e-9)


@pytest.mark.parametrize("kappa", [(0.5, 0.7), (1.0, 0.6), (0.6, 1.0), (0.999, 0.01)])
@pytest.mark.parametrize("ratio", [1.0, 1e-2, 1e-4])
def test_priced_marginals(kappa, ratio):
    C = squares(60, 45)
    epsilon = ratio * C.max()
    check(
        C,
        3.0 * weights(60, 3, 1),
        0.5 * weights(45, 3, 2) if kappa[0] < 1.0 else 3.0 * weights(45),
        epsilon,
        1e-10,
        kappa,
    )


def test_one_pair_priced():
    a, b, c, epsilon, rho = 2.0, 0.3, 0.7, 0.2, (0.5, 1.5)
    kappa = Prices(*rho).kappa(epsilon)
    s = found(np.array([[c]]), np.array([a]), np.array([b]), epsilon, 1e-13, kappa)
    mass = a * b * math.exp(s.phi[0] + s.gamma[0] - c / epsilon)
    known = (epsilon * math.log(a * b) + rho[0] * math.log(a) + rho[1] * math.log(b) - c) / (epsilon + sum(rho))
    assert mass == pytest.approx(math.exp(known), rel=1e-12)


def test_small_shapes():
    for n, m in ((1, 1), (1, 40), (40, 1), (2, 3)):
        for ratio in (1e3, 1e-1, 1e-3):
            check(uniform(n, m), weights(n, 3, 1), weights(m, 3, 2), ratio, 1e-12)


def test_equal_costs_give_the_product():
    a, b = weights(30, 6, 1), weights(40, 6, 2)
    C = np.full((30, 40), 3.0)
    np.testing.assert_allclose(plan(C, a, b, 0.1, check(C, a, b, 0.1, 1e-13)), np.outer(a, b), rtol=1e-11)


def test_two_by_two():
    # symmetric: P_11 / P_12 = exp(1/epsilon)
    C = np.array([[0.0, 1.0], [1.0, 0.0]])
    for epsilon in (0.05, 1.0, 20.0):
        P = plan(
            C, np.full(2, 0.5), np.full(2, 0.5), epsilon, found(C, np.full(2, 0.5), np.full(2, 0.5), epsilon, 1e-14)
        )
        assert P[0, 0] == pytest.approx(0.5 / (1.0 + math.exp(-1.0 / epsilon)), rel=1e-12)


def test_plan_is_that_of_sinkhorn_in_logarithms():
    C, a, b, epsilon = squares(40, 50), weights(40, 2, 1), weights(50, 2, 2), 0.3
    phi, gamma = np.zeros(40), np.zeros(50)
    for _ in range(3000):
        phi = -logsumexp(gamma + np.log(b) - C / epsilon, axis=1)
        gamma = -logsumexp((phi + np.log(a))[:, None] - C / epsilon, axis=0)
    P = np.exp(np.log(a)[:, None] + np.log(b) + phi[:, None] + gamma - C / epsilon)
    np.testing.assert_allclose(plan(C, a, b, epsilon, check(C, a, b, epsilon, 1e-13)), P, rtol=1e-8)


def test_plan_is_that_of_pot():
    ot = pytest.importorskip("ot")
    C, a, b = uniform(60, 60), weights(60), weights(60)
    P = ot.sinkhorn(a, b, C, 0.05, method="sinkhorn_log", numItermax=2000, stopThr=1e-13)
    np.testing.assert_allclose(plan(C, a, b, 0.05, check(C, a, b, 0.05, 1e-12)), P, rtol=1e-8, atol=1e-15)


def test_identical_clouds():
    x = np.random.default_rng(3).standard_normal((200, 2))
    C = ((x[:, None] - x) ** 2).sum(-1)
    for ratio in (1e-1, 1e-2, 1e-3, 1e-4, 1e-6):
        check(C, weights(200), weights(200), ratio * C.max(), 1e-9)


def test_offset_of_the_costs_changes_nothing():
    C, a, b = squares(60, 70), weights(60, 3, 1), weights(70, 3, 2)
    epsilon = 1e-3 * C.max()
    near, far = (plan(D, a, b, epsilon, check(D, a, b, epsilon, 1e-8)) for D in (C, C + 1e4))
    np.testing.assert_allclose(far, near, atol=1e-7)


@pytest.mark.parametrize("ratio", [1.0, 1e-2, 1e-4])
def test_forbidden_pairs_stay_empty(ratio):
    C = uniform(70, 80)
    C[uniform(70, 80, 5) > 0.6] = np.inf
    s = check(C, weights(70), weights(80), ratio, 1e-9)
    assert plan(C, weights(70), weights(80), ratio, s)[np.isinf(C)].max() == 0.0


def test_impossible_masses_end_and_say_so():
    C = uniform(20, 20)
    C[3, 1:] = C[5, 1:] = np.inf
    for ratio in (1.0, 1e-3):
        s = found(C, weights(20), weights(20), ratio)
        assert s.stopped == "stalled"
        assert s.error == pytest.approx(off(C, weights(20), weights(20), ratio, s), rel=1e-6)
        assert s.error >= 0.0499


def test_path_through_samples():
    C, a, b = squares(900, 850), weights(900, 2, 1), weights(850, 2, 2)
    check(C, a, b, 1e-4 * C.max(), 1e-8)
    check(C.astype(np.float32), a, b, 1e-3 * C.max(), 1e-6)


def test_exact_prices_where_the_path_gets_lost():
    rng = np.random.default_rng(2)
    C = np.abs(np.sort(rng.random(300))[:, None] - rng.random(300))
    check(C, weights(300), weights(300), 1e-6 * C.max(), 1e-7)


def test_dense_plans_reach_float64():
    C, a, b = squares(500, 450, 8), weights(500), weights(450)
    check(C, a, b, 1e-2 * C.max(), 1e-12)


def test_start_saves_passes():
    C, a, b = squares(300, 300), weights(300), weights(300)
    for ratio in (2e-2, 1e-3):
        epsilon = ratio * C.max()
        cold = check(C, a, b, epsilon)
        warm = check(C, a, b, epsilon, start=cold.gamma + 1e-4 * np.sin(np.arange(300.0)))
        assert warm.iterations < cold.iterations
    check(C, a, b, 1e-3 * C.max(), start=1e3 * np.random.default_rng(0).standard_normal(300))


def test_limits():
    C, a, b = squares(300, 300), weights(300), weights(300)
    for ratio in (1e-2, 1e-3, 1e-4):
        epsilon = ratio * C.max()
        s = found(C, a, b, epsilon, 1e-12, max_iter=4)
        assert (s.stopped, s.iterations <= 8) == ("max_iter", True)
        assert s.error == pytest.approx(off(C, a, b, epsilon, s), rel=1e-6)
        assert found(C, a, b, epsilon, 1e-12, time_limit=0.0).stopped == "time_limit"
        seen: list[dict] = []
        s = found(C, a, b, epsilon, 1e-12, callback=lambda state, seen=seen: bool(seen.append(state)))
        assert s.stopped == "callback"
        assert {"stage", "iterations", "error"} <= set(seen[0])


def test_input_is_neither_written_nor_required_to_be_writable():
    C, a, b = squares(50, 60), weights(50), weights(60)
    kept = C.copy()
    for x in (C, a, b):
        x.flags.writeable = False
    check(C, a, b, 0.1)
    check(np.asfortranarray(C), a, b, 0.1)
    check(C[::2, ::3], weights(25), weights(20), 0.1)
    np.testing.assert_array_equal(C, kept)


@pytest.mark.parametrize("ratio", [1e-2, 1e-3, 1e-4])
def test_threads_change_no_bit(ratio, monkeypatch):
    monkeypatch.setattr(_semidual_plan, "PAIRS", 20_000)
    monkeypatch.setattr(threads, "INLINE_NANOSECONDS", 0.0)
    C, a, b = squares(330, 290, 8), weights(330), weights(290)
    runs = []
    try:
        for count in (1, 2):
            threads.set_thread_count(count)
            runs.append(check(C, a, b, ratio * C.max()))
    finally:
        threads.set_thread_count(None)
    np.testing.assert_array_equal(runs[0].phi, runs[1].phi)
    np.testing.assert_array_equal(runs[0].gamma, runs[1].gamma)
    assert runs[0].iterations == runs[1].iterations


@pytest.mark.parametrize("kappa", [BALANCED, (0.6, 0.8)])
@pytest.mark.parametrize("dense", [True, False])
def test_products_are_derivatives(kappa, dense):
    """Column sums and minus the Hessian of the semi-dual, by their definitions and by differences."""
    n, m, epsilon = 23, 31, 0.2
    C, a, b = squares(n, m), weights(n, 1, 1), weights(m, 1, 2)
    rng = np.random.default_rng(0)
    gamma, h, p = 0.3 * rng.standard_normal((3, m))

    def columns(at):
        s = logsumexp(at + np.log(b) - C / epsilon, axis=1)
        rows = np.log(a) - kappa[0] * s
        return np.exp(logsumexp(rows[:, None] + at + np.log(b) - C / epsilon, axis=0))

    level = Level.at(Costs(C, a, b, None if kappa == BALANCED else 0.0), epsilon, kappa, gamma, Work(Watch(), n * m))
    measured, listed = level.measure(1e-30)
    np.testing.assert_allclose(measured, columns(gamma), rtol=1e-12)
    absorbed = level.absorb() if dense else listed
    c = absorbed.evaluate(h)
    np.testing.assert_allclose(c, columns(gamma + h), rtol=1e-5 if dense else 1e-12)
    absorbed.bend()
    x = absorbed.v * p
    bent = c * p - kappa[0] * absorbed.v * absorbed.product(x.astype(np.float32) if dense else x)
    step = 1e-6
    slope = (columns(gamma + h + step * p) - columns(gamma + h - step * p)) / (2.0 * step)
    np.testing.assert_allclose(bent, slope, atol=1e-6 if dense else 1e-9)
    if not dense:
        units = np.eye(m)
        diagonal = [(columns(gamma + h + step * u) - columns(gamma + h - step * u))[j] for j, u in enumerate(units)]
        np.testing.assert_allclose(absorbed.diagonal(c), np.array(diagonal) / (2.0 * step), atol=1e-9)


shapes = st.integers(1, 24)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    shapes,
    shapes,
    st.integers(0, 10**6),
    st.sampled_from(["uniform", "squares", "lattice", "huge", "holes"]),
    st.floats(-6.0, 3.0),
    st.sampled_from([0.0, 3.0, 12.0]),
    st.sampled_from([BALANCED, BALANCED, (0.5, 0.9), (1.0, 0.3), (0.01, 0.99)]),
    st.sampled_from([0.0, 1e4]),
    st.sampled_from([1e-6, 1e-9, 1e-12]),
)
def test_always_ends_with_an_honest_error(n, m, seed, family, power, decades, kappa, offset, tol):
    rng = np.random.default_rng(seed)
    C = uniform(n, m, seed) if family != "squares" else squares(n, m, 3, seed)
    if family == "lattice":
        C = np.floor(4.0 * C)
    if family == "huge":
        C = 10.0 ** (12.0 * C - 6.0)
    if family == "holes":
        C[rng.random((n, m)) < 0.4] = np.inf
        C[np.arange(max(n, m)) % n, np.arange(max(n, m)) % m] = 1.0
    if kappa == BALANCED:
        C = C + offset
    a, b = weights(n, decades, seed), weights(m, decades, seed + 1)
    epsilon = 10.0**power * max(np.ptp(C[np.isfinite(C)]), 1e-3)
    s = found(C, a, b, epsilon, tol, kappa)
    assert all(np.all(np.isfinite(x)) for x in (s.phi, s.gamma, s.error))
    assert (s.error <= tol) == (s.stopped == "")
    assert s.stopped in ("", "stalled")
    if kappa != BALANCED and plan(C, a, b, epsilon, s).sum() < 1e-250:
        return  # too dear to move anything: the error is a quotient of zeros
    assert off(C, a, b, epsilon, s, kappa) == pytest.approx(s.error, rel=1e-3, abs=1e-13 + rounding(C, epsilon, s))
