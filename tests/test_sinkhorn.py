"""Entropic transport: every answer proved in the test, equal to closed forms, to the definitions and to POT."""

from __future__ import annotations

import math
import warnings

import numpy as np
import ot
import pytest

import otdist as od
from otdist.reference import entropic as reference
from tests.entropic_cases import case, emd, prove
from tests.transport_cases import matrix

METHODS = ["auto", "sinkhorn", "newton"]
CHUNK = 40
FLIP = np.array([[0.0, 1.0], [1.0, 0.0]])


def problem(n, m, seed=0):
    rng = np.random.default_rng([seed, n, m])
    return rng.random((n, m)), rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(m))


def clouds(n, m, d, seed=0):
    rng = np.random.default_rng([seed, n, m, d])
    return rng.standard_normal((n, d)), rng.standard_normal((m, d)) + 0.5


def fuzz(seeds, largest=12, **options):
    for seed in seeds:
        given = case(seed, largest)
        try:
            prove(given.solve(**options), given)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {given.name}: {error}") from error


@pytest.mark.parametrize("chunk", range(240 // CHUNK))
def test_fuzz(chunk):
    fuzz(range(chunk * CHUNK, (chunk + 1) * CHUNK), max_iter=2000)


@pytest.mark.parametrize("method", ["sinkhorn", "newton"])
def test_fuzz_by_method(method):
    fuzz(range(1000, 1060), max_iter=1000, method=method)


def test_fuzz_stopped_early():
    for limit in (1, 7):
        fuzz(range(2000, 2030), max_iter=limit)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(100))
def test_fuzz_long(chunk):
    fuzz(range(10_000 + 50 * chunk, 10_050 + 50 * chunk), max_iter=5000)
    fuzz(range(90_000 + chunk, 90_001 + chunk), largest=300, max_iter=5000)


# --- closed forms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("epsilon", [1e-4, 1e-2, 0.1, 1.0, 30.0])
def test_two_points(epsilon, method):
    value, linear = reference.two_points(epsilon)
    found = od.sinkhorn(FLIP, epsilon=epsilon, method=method)
    assert float(found.value) == pytest.approx(value, rel=1e-12)
    assert float(found.linear) == pytest.approx(linear, rel=1e-9, abs=1e-300)


def test_two_points_by_hand():
    found = od.sinkhorn(FLIP, epsilon=1.0)
    assert float(found.value) == pytest.approx(0.3798855, abs=5e-8)
    assert float(found.linear) == pytest.approx(0.2689414, abs=5e-8)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("epsilon", "value"), [(1.0, 3.0965735903), (0.1, 2.5191281632)])
def test_gaussians_on_a_line(epsilon, value, method):
    t = np.linspace(-7.0, 7.0, 281)  # with so smooth an integrand the trapezoid rule is exact to the ends
    x, y, w = t[:, None], 1.5 + math.sqrt(0.5) * t[:, None], np.exp(-0.5 * t * t)
    w /= w.sum()
    assert reference.gaussians(0.0, 1.0, 1.5, 0.5, epsilon) == pytest.approx(value, abs=6e-11)
    found = od.sinkhorn(od.PointCloud(x, y), w, w, epsilon=epsilon, method=method)
    assert float(found.value) == pytest.approx(value, rel=1e-9)


def test_gaussians_in_the_plane():
    t = np.linspace(-6.0, 6.0, 37)
    at = np.stack(np.meshgrid(t, t, indexing="ij"), -1).reshape(-1, 2)
    w = np.exp(-0.5 * np.sum(at * at, 1))
    w /= w.sum()
    A, B = np.array([[1.0, 0.3], [0.3, 0.5]]), np.array([[0.6, -0.2], [-0.2, 0.8]])
    x, y = at @ np.linalg.cholesky(A).T, at @ np.linalg.cholesky(B).T + np.array([1.0, -0.5])
    want = reference.gaussians([0.0, 0.0], A, [1.0, -0.5], B, 1.0)
    assert float(od.sinkhorn(od.PointCloud(x, y), w, w, epsilon=1.0).value) == pytest.approx(want, rel=1e-7)


@pytest.mark.parametrize("d", [1, 2, 3, 10, 64])
@pytest.mark.parametrize("epsilon", [0.05, 1.0])
def test_a_translation_costs_its_square(d, epsilon):
    x, _ = clouds(60, 1, d)
    v = np.linspace(0.5, 1.5, d) / math.sqrt(d)
    w = np.random.default_rng(d).dirichlet(np.ones(60))
    for weights in ((), (w, w)):
        found = od.sinkhorn_divergence(x, x + v, *weights, epsilon=epsilon * d, tol=1e-10)
        assert float(found) == pytest.approx(v @ v, rel=1e-10)


@pytest.mark.parametrize("d", [2, 64])
def test_a_translation_in_float32_far_from_the_origin(d):
    rng = np.random.default_rng(d)
    x = (np.round(rng.standard_normal((80, d)) * 256) / 256 + 1000).astype(np.float32)
    v = np.full(d, 0.75, np.float32)
    found = od.sinkhorn_divergence(x, x + v, epsilon=0.5 * d)
    assert found.dtype == np.float32
    assert float(found) == pytest.approx(0.5625 * d, rel=1e-5)


def test_small_epsilon_is_exact_transport():
    for seed in range(5):
        C, a, b = problem(12, 9, seed)
        best = emd(C, a, b)
        found = od.sinkhorn(C, a, b, epsilon=1e-4)
        assert best - 1e-9 <= float(found.value) <= best + 1e-4 * math.log(12 * 9) + 1e-9
        assert found.lower_bound <= best + 1e-12
        assert best - 1e-12 <= found.upper_bound <= best + 1e-3
        assert best - found.lower_bound <= 1e-3


def test_large_epsilon_is_the_mean_cost():
    C, a, b = problem(12, 9)
    for epsilon in (1e2, 1e4):
        found = od.sinkhorn(C, a, b, epsilon=epsilon)
        assert abs(float(found.value) - a @ C @ b) <= 1.0 / (8.0 * epsilon) + 1e-12  # Hoeffding, costs within [0, 1]
        np.testing.assert_allclose(found.plan, np.outer(a, b), rtol=4.0 / epsilon)


@pytest.mark.parametrize("rho", [(0.7, 0.7), (0.05, 3.0), (100.0, 1.0)])
@pytest.mark.parametrize(("a", "b", "cost"), [(1.0, 1.0, 0.3), (2.0, 0.5, 1.3), (1e-6, 1.0, 10.0)])
def test_two_masses(a, b, cost, rho):
    mass, value = reference.two_masses(cost, a, b, 0.4, rho)
    assert value == pytest.approx(reference.value(np.array([[cost]]), np.array([a]), np.array([b]), 0.4, rho), rel=1e-9)
    found = od.sinkhorn([[cost]], [a], [b], epsilon=0.4, rho=rho, tol=1e-12)
    assert float(np.sum(found.plan)) == pytest.approx(mass, rel=1e-9)
    assert float(found.value) == pytest.approx(value, rel=1e-9, abs=1e-12)


def test_one_point_and_equal_costs():
    b = np.array([0.25, 0.75])
    for epsilon in (1e-3, 1.0, 1e3):
        found = od.sinkhorn([[1.0, 3.0]], [1.0], b, epsilon=epsilon)
        assert float(found.value) == pytest.approx(2.5, rel=1e-12)
        np.testing.assert_allclose(found.plan, b[None], rtol=2e-9)
        flat = od.sinkhorn(np.full((3, 2), 7.0), None, b, epsilon=epsilon)
        assert float(flat.value) == pytest.approx(7.0, rel=1e-12)
        np.testing.assert_allclose(flat.plan, np.outer(np.full(3, 1 / 3), b), rtol=1e-9)


def test_products_add():
    rng = np.random.default_rng(4)
    shape, epsilon = (4, 5), 0.3
    a, b = ([rng.dirichlet(np.ones(n)) for n in shape] for _ in "ab")
    parts = [np.abs(np.subtract.outer(np.arange(n), np.arange(n))) ** 2.0 for n in shape]
    want = sum(reference.value(C, p, q, epsilon) for C, p, q in zip(parts, a, b, strict=True))
    both = np.outer(*a), np.outer(*b)
    on_grid = od.sinkhorn(od.Grid(shape, cost=2.0), *both, epsilon=epsilon)
    assert float(on_grid.value) == pytest.approx(want, rel=1e-8)
    at = np.stack(np.meshgrid(*(np.arange(float(n)) for n in shape), indexing="ij"), -1).reshape(-1, 2)
    of_points = od.sinkhorn(od.PointCloud(at), both[0].ravel(), both[1].ravel(), epsilon=epsilon)
    assert float(of_points.value) == pytest.approx(want, rel=1e-8)


def test_forbidden_pairs_split_a_problem():
    (C, a, b), (D, c, d) = problem(4, 5), problem(3, 2, 1)
    whole = np.full((7, 7), np.inf)
    whole[:4, :5], whole[4:, 5:] = C, D
    a, b = np.concatenate([0.3 * a, 0.7 * c]), np.concatenate([0.3 * b, 0.7 * d])
    found = od.sinkhorn(whole, a, b, epsilon=0.1)
    assert found.converged
    # within a block of mass M the product measure has M^2: every part M value - epsilon M log M
    parts = ((C, a[:4], b[:5], 0.3), (D, a[4:], b[5:], 0.7))
    want = sum(M * reference.value(K, p / M, q / M, 0.1) - 0.1 * M * math.log(M) for K, p, q, M in parts)
    assert float(found.value) == pytest.approx(want, rel=1e-8)
    assert (np.asarray(found.plan)[np.isinf(whole)] == 0.0).all()


def test_totals_need_not_be_one():
    C, a, b = problem(6, 4)
    one, three = od.sinkhorn(C, a, b, epsilon=0.2), od.sinkhorn(C, 3 * a, 3 * b, epsilon=0.2)
    np.testing.assert_allclose(three.plan, 3 * np.asarray(one.plan), rtol=1e-6)
    assert float(three.linear) == pytest.approx(3 * float(one.linear), rel=1e-7)
    # sum P log(P / (a x b)) of a plan three times as large: a x b is nine times
    assert float(three.value) == pytest.approx(3 * float(one.value) - 0.2 * 3 * math.log(3), rel=1e-7)
    assert float(three.value) == pytest.approx(reference.value(C, 3 * a, 3 * b, 0.2), rel=1e-7)


# --- the definitions, and POT -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("epsilon", [0.01, 0.1, 1.0])
def test_against_pot(epsilon, method):
    for seed in range(3):
        C, a, b = problem(15, 11, seed)
        P = ot.bregman.sinkhorn_log(a, b, C, epsilon, stopThr=1e-14, numItermax=20_000, warn=False)
        found = od.sinkhorn(C, a, b, epsilon=epsilon, method=method, tol=1e-12)
        np.testing.assert_allclose(found.plan, P, atol=1e-11)
        assert float(found.linear) == pytest.approx(np.sum(P * C), rel=1e-9)
        # POT regularises by the entropy of P or by KL(P | a x b): one more <a, log a> + <b, log b>
        want = np.sum(P * C) + epsilon * reference.kl(P, np.outer(a, b))
        assert float(found.value) == pytest.approx(want, rel=1e-9)
        assert float(found.value) == pytest.approx(reference.value(C, a, b, epsilon), rel=1e-10)


@pytest.mark.parametrize("rho", [0.05, 1.0, (math.inf, 0.3), (0.3, math.inf), (0.2, 2.0)])
def test_unbalanced_against_pot(rho):
    C, a, b = problem(15, 11)
    b = 1.7 * b
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        P = ot.unbalanced.sinkhorn_unbalanced(a, b, C, 0.1, rho, reg_type="kl", stopThr=1e-15, numItermax=20_000)
    found = od.sinkhorn(C, a, b, epsilon=0.1, rho=rho, tol=1e-12)
    np.testing.assert_allclose(found.plan, P, atol=1e-10)
    pair = rho if isinstance(rho, tuple) else (rho, rho)
    assert float(found.value) == pytest.approx(reference.value(C, a, b, 0.1, pair), rel=1e-9)
    assert found.converged


def test_unbalanced_with_a_high_price_is_balanced():
    C, a, b = problem(8, 8)
    far = od.sinkhorn(C, a, b, epsilon=0.1, rho=1e7, tol=1e-12)
    assert float(far.value) == pytest.approx(float(od.sinkhorn(C, a, b, epsilon=0.1).value), rel=1e-6)
    assert float(od.sinkhorn(C, a, b, epsilon=0.1, rho=math.inf).value) == float(
        od.sinkhorn(C, a, b, epsilon=0.1).value
    )


@pytest.mark.parametrize("cost", ["sqeuclidean", "euclidean", "cityblock", "chebyshev", "cosine"])
@pytest.mark.parametrize("d", [2, 20])
def test_points_and_their_matrix_agree(cost, d):
    x, y = clouds(40, 30, d)
    C = matrix(cost, x, y)
    epsilon = 0.05 * float(C.mean())
    by_points = od.sinkhorn(od.PointCloud(x, y, cost=cost), epsilon=epsilon)
    by_matrix = od.sinkhorn(C, epsilon=epsilon)
    assert float(by_points.value) == pytest.approx(float(by_matrix.value), rel=1e-8)
    np.testing.assert_allclose(by_points.plan, by_matrix.plan, atol=1e-9)


@pytest.mark.parametrize("method", ["sinkhorn", "newton", "multiscale"])
def test_larger_clouds_by_every_method(method):
    x, y = clouds(700, 600, 2)
    C = matrix("sqeuclidean", x, y)
    epsilon = 1e-2 * float(C.max())
    found = od.sinkhorn(od.PointCloud(x, y), epsilon=epsilon, method=method)
    a, b = np.full(700, 1 / 700), np.full(600, 1 / 600)
    assert found.converged
    assert reference.marginal_error(C, a, b, found.f, found.g, epsilon) <= 1.01e-9
    assert float(found.value) == pytest.approx(reference.dual(C, a, b, found.f, found.g, epsilon), rel=1e-11)


def test_default_epsilon_is_a_twentieth_of_the_mean_cost():
    C, a, b = problem(9, 7)
    found = od.sinkhorn(C, a, b)
    assert float(found.epsilon) == pytest.approx(0.05 * (a @ C @ b), rel=1e-12)
    assert od.epsilon_from(C) == pytest.approx(0.05 * C.mean(), rel=1e-12)
    for of in ("mean", "max", "median", "std"):
        assert od.epsilon_from(C, fraction=0.1, of=of) == pytest.approx(0.1 * getattr(np, of)(C), rel=1e-12)
    assert od.epsilon_from(blur=0.5) == pytest.approx(0.5)
    x, y = clouds(9, 7, 3)
    got = od.epsilon_from(od.PointCloud(x, y))
    assert got == pytest.approx(0.05 * matrix("sqeuclidean", x, y).mean(), rel=1e-12)


def test_divergence_is_its_definition():
    x, y = clouds(20, 15, 2)
    a, b = np.random.default_rng(0).dirichlet(np.ones(20)), np.random.default_rng(1).dirichlet(np.ones(15))
    for cost in ("sqeuclidean", "euclidean"):
        mats = (matrix(cost, p, q) for p, q in ((x, y), (x, x), (y, y)))
        want = reference.sinkhorn_divergence(*mats, a, b, 0.3)
        got = od.sinkhorn_divergence(x, y, a, b, epsilon=0.3, cost=cost)
        assert float(got) == pytest.approx(want, rel=1e-8)
    unbalanced = od.sinkhorn_divergence(x, y, a, b, epsilon=0.3, rho=2.0, tol=1e-12)
    mats = (matrix("sqeuclidean", p, q) for p, q in ((x, y), (x, x), (y, y)))
    want = reference.sinkhorn_divergence(*mats, a, b, 0.3, (2.0, 2.0))
    assert float(unbalanced) == pytest.approx(want, rel=1e-7)


def figures(C, a, b, epsilon):
    f, g = reference.sinkhorn(C, a, b, epsilon)
    return reference.dual(C, a, b, f, g, epsilon), reference.linear(C, reference.plan(C, a, b, f, g, epsilon))


def test_wasserstein_by_sinkhorn():
    x, y = clouds(30, 25, 2)
    for p in (1.0, 2.0):
        C = matrix("euclidean", x, y, p)
        got = float(od.wasserstein(x, y, p=p, method="sinkhorn", epsilon=0.1))
        h, k = np.full(30, 1 / 30), np.full(25, 1 / 25)
        assert any(got == pytest.approx(v ** (1 / p), rel=1e-6) for v in figures(C, h, k, 0.1))
