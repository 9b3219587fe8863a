"""Gradients of entropic transport and of the Sinkhorn divergence against central differences of their values."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import otdist as od
from otdist.reference import entropic as reference
from tests.test_sinkhorn import clouds, problem
from tests.transport_cases import matrix

TOL = 1e-10
COSTS = [("sqeuclidean", 1.0), ("euclidean", 1.0), ("euclidean", 1.5), ("cityblock", 2.0)]


def differences(value: Callable[[Any], float], at: Any, step: float = 1e-4) -> Any:
    """Central differences of fourth order, entry by entry."""
    out = np.zeros(at.shape)
    for k in np.ndindex(at.shape):

        def moved(t: float, k: Any = k) -> float:
            z = at.copy()
            z[k] += t * step
            return value(z)

        out[k] = (8.0 * (moved(1) - moved(-1)) - (moved(2) - moved(-2))) / (12.0 * step)
    return out


def along(value: Callable[[Any], float], at: Any, step: float = 1e-4) -> Any:
    """Differences by masses, along the simplex: of moving mass from the mean of all to one."""
    n = len(at)
    out = np.zeros(n)
    for k in range(n):
        way = np.full(n, -1.0 / n)
        way[k] += 1.0

        def moved(t: float, way: Any = way) -> float:
            return value(at + t * step * way)

        out[k] = (8.0 * (moved(1) - moved(-1)) - (moved(2) - moved(-2))) / (12.0 * step)
    return out


def agree(got: Any, want: Any, within: float = 1e-6) -> None:
    np.testing.assert_allclose(got, want, rtol=0, atol=within * float(np.max(np.abs(want))))


def weights(n: int, m: int) -> tuple[Any, Any]:
    rng = np.random.default_rng([n, m])
    a, b = 0.5 + rng.random(n), 0.5 + rng.random(m)
    return a / a.sum(), b / b.sum()


@pytest.mark.parametrize("epsilon", [0.05, 0.5])
def test_by_costs_and_masses(epsilon: float) -> None:
    C = problem(5, 4)[0]
    a, b = weights(5, 4)
    value, (by_C, by_a, by_b) = od.value_and_grad(od.sinkhorn, (0, 1, 2))(C, a, b, epsilon=epsilon, tol=TOL)
    assert float(value) == pytest.approx(reference.value(C, a, b, epsilon), rel=1e-9)
    agree(by_C, differences(lambda K: reference.value(K, a, b, epsilon), C))
    agree(by_C, differences(lambda K: float(od.sinkhorn(K, a, b, epsilon=epsilon, tol=TOL).value), C))
    agree(by_a - by_a.mean(), along(lambda w: float(od.sinkhorn(C, w, b, epsilon=epsilon, tol=TOL).value), a))
    agree(by_b - by_b.mean(), along(lambda w: float(od.sinkhorn(C, a, w, epsilon=epsilon, tol=TOL).value), b))
    found = od.sinkhorn(C, a, b, epsilon=epsilon, tol=TOL)
    agree(by_C, found.plan)
    agree(by_a - by_a.mean(), found.f - found.f.mean())


@pytest.mark.parametrize(("cost", "p"), COSTS)
def test_by_points(cost: str, p: float) -> None:
    x, y = clouds(5, 4, 3)
    a, b = weights(5, 4)
    epsilon = 0.2

    def value(x: Any, y: Any) -> float:
        return float(od.sinkhorn(od.PointCloud(x, y, cost=cost, p=p), a, b, epsilon=epsilon, tol=TOL).value)

    cloud = od.PointCloud(x, y, cost=cost, p=p)
    got, (by_x, by_y) = od.value_and_grad(od.sinkhorn)(cloud, a, b, epsilon=epsilon, tol=TOL)
    assert float(got) == pytest.approx(reference.value(matrix(cost, x, y, p), a, b, epsilon), rel=1e-9)
    agree(by_x, differences(lambda z: value(z, y), x))
    agree(by_y, differences(lambda z: value(x, z), y))
    at = od.sinkhorn(cloud, a, b, epsilon=epsilon, tol=TOL).point_gradients()
    agree(at[0], by_x, 1e-12)
    agree(at[1], by_y, 1e-12)


@pytest.mark.parametrize("rho", [0.7, (0.5, math.inf)])
def test_unbalanced(rho: Any) -> None:
    C = problem(5, 4)[0]
    a, b = weights(5, 4)
    b = 1.3 * b
    options = {"epsilon": 0.1, "rho": rho, "tol": 1e-12}
    _, (by_C, by_a, by_b) = od.value_and_grad(od.sinkhorn, (0, 1, 2))(C, a, b, **options)
    agree(by_C, differences(lambda K: float(od.sinkhorn(K, a, b, **options).value), C))
    if rho == 0.7:  # every mass is free: the gradient is that of each entry
        agree(by_a, differences(lambda w: float(od.sinkhorn(C, w, b, **options).value), a))
        agree(by_b, differences(lambda w: float(od.sinkhorn(C, a, w, **options).value), b))


@pytest.mark.parametrize(("cost", "p"), COSTS)
@pytest.mark.parametrize("epsilon", [0.1, 1.0])
def test_divergence(cost: str, p: float, epsilon: float) -> None:
    x, y = clouds(5, 4, 2)
    a, b = weights(5, 4)
    options = {"epsilon": epsilon, "cost": cost, "p": p, "tol": TOL}

    def value(*arrays: Any) -> float:
        return float(od.sinkhorn_divergence(*arrays, **options))

    got, grads = od.value_and_grad(od.sinkhorn_divergence, (0, 1, 2, 3))(x, y, a, b, **options)
    mats = (matrix(cost, z, w, p) for z, w in ((x, y), (x, x), (y, y)))
    assert float(got) == pytest.approx(reference.sinkhorn_divergence(*mats, a, b, epsilon), rel=1e-7, abs=1e-9)
    agree(grads[0], differences(lambda z: value(z, y, a, b), x))
    agree(grads[1], differences(lambda z: value(x, z, a, b), y))
    agree(grads[2] - grads[2].mean(), along(lambda w: value(x, y, w, b), a))
    agree(grads[3] - grads[3].mean(), along(lambda w: value(x, y, a, w), b))


def test_divergence_of_equals_is_stationary() -> None:
    x, _ = clouds(30, 1, 3)
    _, (by_x, by_y) = od.value_and_grad(od.sinkhorn_divergence, (0, 1))(x, x.copy(), epsilon=0.5, tol=1e-11)
    assert np.abs(by_x).max() <= 1e-8
    assert np.abs(by_y).max() <= 1e-8


def test_divergence_of_a_translation_pulls_along_it() -> None:
    x, _ = clouds(30, 1, 3)
    v = np.array([0.5, -1.0, 0.25])
    _, by_x = od.value_and_grad(od.sinkhorn_divergence)(x, x + v, epsilon=0.5, tol=1e-11)
    np.testing.assert_allclose(by_x, np.tile(-2.0 * v / 30, (30, 1)), atol=1e-8)


def test_batches_and_dtypes() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((3, 6, 2)), rng.standard_normal((3, 5, 2))
    values, by_x = od.value_and_grad(od.sinkhorn_divergence)(x, y, epsilon=0.5)
    assert values.shape == (3,)
    for k in range(3):
        one, grad = od.value_and_grad(od.sinkhorn_divergence)(x[k], y[k], epsilon=0.5)
        assert float(values[k]) == pytest.approx(float(one), rel=1e-8)
        np.testing.assert_allclose(by_x[k], grad, atol=1e-8)
    single, grad = od.value_and_grad(od.sinkhorn_divergence)(*(z.astype(np.float32) for z in (x, y)), epsilon=0.5)
    assert single.dtype == grad.dtype == np.float32
    np.testing.assert_allclose(grad, by_x, atol=1e-5)


def test_points_of_no_mass_are_not_pulled() -> None:
    x, y = clouds(6, 5, 2)
    a = np.array([0.5, 0.0, 0.2, 0.3, 0.0, 0.0])
    _, (by_x, by_y) = od.value_and_grad(od.sinkhorn_divergence, (0, 1))(x, y, a, epsilon=0.3)
    assert (by_x[a == 0.0] == 0.0).all()
    assert not np.isnan(by_y).any()
