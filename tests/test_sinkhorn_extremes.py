"""`sinkhorn` at the ends of its range: priced masses, ratios out of float64, clouds far apart."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

import otdist as od
from otdist.reference import entropic as reference
from tests.entropic_cases import case, prove
from tests.transport_cases import matrix

# Priced masses at small epsilon, where the total of the plan is nearly free: once stalled, or overflowed, or divided
# by a plan without mass; clouds on which acceleration let the constant of the potentials wander off to 1e13.
FOUND = [
    *((seed, "auto") for seed in (10026, 10074, 10853, 11109, 11322, 11384)),
    *((seed, "newton") for seed in (11619, 11717, 11858, 11933)),
    *((seed, "sinkhorn") for seed in (10453, 10627, 10658, 10710)),
    *((seed, "multiscale") for seed in (10918, 10973, 11092, 11496, 11538)),
    *((seed, "sinkhorn") for seed in (10569, 10588)),
]


@pytest.mark.parametrize(("seed", "method"), FOUND)
def test_cases_that_once_failed(seed, method):
    given = case(seed)
    found = given.solve(method=method, max_iter=2000)
    prove(found, given)


@pytest.mark.parametrize("seed", [10026, 10074, 10853, 11109, 11322, 11384, 11717, 11718, 11858])
def test_totals_that_are_nearly_free_are_found(seed):
    assert case(seed).solve(method="newton", max_iter=2000).converged


@pytest.mark.parametrize("rho", [(0.5, math.inf), (math.inf, 2.0), (0.3, 3.0)])
@pytest.mark.parametrize("total", [1.0, 1.7])
def test_divergences_at_two_prices(rho, total):
    """Each measure is compared with itself at its own price; gradients are those of the value."""
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((4, 2)), rng.standard_normal((5, 2)) + 0.5
    a, b = rng.dirichlet(np.ones(4)) * total, rng.dirichlet(np.ones(5)) * (1.0 if math.inf in rho else 0.8)
    options = {"epsilon": 0.3, "rho": rho, "tol": 1e-12}

    def value(*arguments):
        return float(od.sinkhorn_divergence(*arguments, **options))

    costs = [matrix("sqeuclidean", *pair) for pair in ((x, y), (x, x), (y, y))]
    want = reference.sinkhorn_divergence(*costs, a, b, 0.3, rho, passes=400)
    assert value(x, y, a, b) == pytest.approx(want, rel=1e-9)
    _, gradients = od.value_and_grad(od.sinkhorn_divergence, (0, 1, 2, 3))(x, y, a, b, **options)
    given = [x, y, a, b]
    for k, gradient in enumerate(gradients):
        move = rng.standard_normal(given[k].shape) * (1.0 if k < 2 else given[k])
        ahead, back = (value(*(z + s * 1e-5 * move if i == k else z for i, z in enumerate(given))) for s in (1.0, -1.0))
        assert float(np.sum(gradient * move)) == pytest.approx((ahead - back) / 2e-5, rel=2e-6, abs=1e-9)


@pytest.mark.parametrize("rho", [1e3, 1e6, 1e9])
def test_high_prices_are_the_ones_given(rho):
    """kappa = rho / (rho + epsilon) has few digits of a high rho; bounds and value are those of all of them."""
    found = od.sinkhorn([[1.3]], [1.0], [2.0], epsilon=0.1, rho=rho, on_fail="ignore", tol=1e-5)
    _, want = reference.two_masses(1.3, 1.0, 2.0, 0.1, (rho, rho))
    assert found.converged
    assert float(found.value) == pytest.approx(want, rel=1e-11)
    assert found.entropic_lower_bound <= want * (1 + 1e-12)
    assert found.entropic_upper_bound >= want * (1 - 1e-12)


REFUSED = [
    ("epsilon", {"epsilon": 1e-320}),
    ("epsilon", {"epsilon": 1e308}),
    ("epsilon", {"epsilon": 10**400}),
    ("epsilon", {"costs": np.array([[0.0, 1e308], [1e308, 0.0]]), "epsilon": 0.1}),
    ("epsilon", {"costs": np.array([[1.0, -1.0], [-1.0, 1.0]]), "epsilon": None}),
    ("rho", {"rho": 10**400}),
    ("rho", {"rho": 1e-320}),
    ("rho", {"rho": 1e100}),
    ("rho", {"rho": np.array([1.0, -1.0])}),
    ("rho", {"rho": np.array([1.0, 1.0, 1.0])}),
    ("tol", {"tol": 10**400}),
    ("time_limit", {"time_limit": 10**400}),
    ("memory_limit", {"memory_limit": 10**400}),
    ("x and y", {"costs": od.PointCloud([[1e300], [-1e300]], [[0.0], [1.0]])}),
    ("x and y", {"costs": od.PointCloud([[1.0], [5.0]], [[0.0], [1.0]], p=1e300)}),
    ("p", {"costs": od.PointCloud([[1.0], [5.0]], p=10**400)}),
]


@pytest.mark.parametrize(("name", "options"), REFUSED, ids=[str(k) for k in range(len(REFUSED))])
def test_what_float64_does_not_hold_is_refused(name, options):
    given = {"costs": np.array([[0.0, 1.0], [1.0, 0.0]]), "epsilon": 0.1, **options}
    with pytest.raises(ValueError, match=rf"^{name}: found") as caught:
        od.sinkhorn(**given)
    assert re.search(r"give|pass|scale|raise|far", str(caught.value))


def test_more_numbers_that_are_refused():
    x, y = np.zeros((2, 1)), np.ones((3, 1))
    for tol, error in ((-1.0, ValueError), (math.nan, ValueError), ("tight", TypeError), (None, TypeError)):
        with pytest.raises(error, match=r"^tol: found"):
            od.wasserstein(x, y, method="sinkhorn", epsilon=0.1, tol=tol)
    for blur in (1e-320, 1e308, 10**400):
        with pytest.raises(ValueError, match=r"^blur: found"):
            od.epsilon_from(blur=blur)
    with pytest.raises(TypeError, match=r"^p: found"):
        od.epsilon_from(blur=1.0, p=True)


@pytest.mark.parametrize("unit", [1e-250, 1e-199, 1e199, 1e250, 1e307])
def test_units_of_costs(unit):
    C = np.random.default_rng(2).random((6, 5))
    want = od.sinkhorn(C, epsilon=0.05)
    found = od.sinkhorn(C * unit, epsilon=0.05 * unit)
    assert found.converged
    for name in ("value", "linear", "lower_bound", "upper_bound", "entropic_lower_bound", "entropic_upper_bound"):
        assert float(getattr(found, name)) / unit == pytest.approx(float(getattr(want, name)), rel=1e-9)
    np.testing.assert_allclose(found.plan, want.plan, rtol=1e-8)


def test_costs_that_vanish_beside_epsilon():
    """Nothing is to be had from costs of 1e-300: the product of the masses."""
    C = np.random.default_rng(2).random((6, 5)) * 1e-300
    for costs in (C, od.PointCloud(C, C[:4] + 1e-300)):
        found = od.sinkhorn(costs, epsilon=0.1)
        assert found.converged
        np.testing.assert_allclose(found.plan, 1.0 / np.size(found.plan), rtol=1e-12)
        assert abs(float(found.value)) < 1e-15


def test_starts_that_are_far_off():
    C = np.random.default_rng(2).random((3, 4))
    found = od.sinkhorn(C, epsilon=0.1, init=[1e300, -1e300, 1e308, 0.0], on_fail="ignore", max_iter=500)
    assert not np.isnan(np.asarray(found.plan)).any()
    assert found.entropic_lower_bound <= float(od.sinkhorn(C, epsilon=0.1).value) <= found.entropic_upper_bound
