"""Which engine solves an entropic problem, and what happens where one hands over to another."""

import numpy as np
import pytest

import otdist as od
from otdist._results import ConvergenceWarning
from otdist.transport import _engines


@pytest.fixture(scope="module")
def clouds():
    rng = np.random.default_rng(11)
    return od.PointCloud(rng.random((1500, 2)), rng.random((1460, 2)) ** 2)


def errors(found, costs, epsilon):
    """L1 errors of the marginals, from the definition of the plan."""
    x, y = costs.x, costs.y
    C = ((x[:, None] - y[None]) ** 2).sum(-1)
    P = np.exp((found.f[:, None] + found.g - C) / epsilon) / (len(x) * len(y))
    return np.abs(P.sum(1) - 1 / len(x)).sum() + np.abs(P.sum(0) - 1 / len(y)).sum()


@pytest.mark.parametrize(
    ("epsilon", "solver"), [(0.1, "Sinkhorn iterations, extrapolated"), (0.005, "semi-dual Newton-CG")]
)
def test_easy_problems_are_swept_and_others_not(clouds, epsilon, solver):
    found = od.sinkhorn(clouds, epsilon=epsilon, tol=1e-8)
    assert found.solver == solver
    assert found.converged
    assert errors(found, clouds, epsilon) <= 1.01e-8


def test_newton_takes_over_where_sweeps_were_not_enough(clouds, monkeypatch):
    whole = od.sinkhorn(clouds, epsilon=0.05, tol=1e-8)
    monkeypatch.setattr(_engines, "SWEEPS", 3)
    found = od.sinkhorn(clouds, epsilon=0.05, tol=1e-8)
    assert (whole.solver, found.solver) == ("Sinkhorn iterations, extrapolated", "semi-dual Newton-CG")
    assert found.converged
    assert found.n_iter > 3
    assert errors(found, clouds, 0.05) <= 1.01e-8
    np.testing.assert_allclose(found.value, whole.value, rtol=1e-12)


@pytest.mark.parametrize("most", [2, 5])
def test_a_limit_counts_the_passes_of_both(clouds, monkeypatch, most):
    monkeypatch.setattr(_engines, "SWEEPS", 3)
    with pytest.warns(ConvergenceWarning):
        found = od.sinkhorn(clouds, epsilon=0.05, tol=1e-12, max_iter=most)
    assert not found.converged
    assert found.n_iter <= most + 4  # an engine ends the step it is in, and measures
    assert found.marginal_error == pytest.approx(errors(found, clouds, 0.05), rel=1e-6)


def test_a_callback_ends_both(clouds, monkeypatch):
    monkeypatch.setattr(_engines, "SWEEPS", 3)
    seen = []

    def stop_in_newton(info):
        seen.append(info["stage"])
        return info["stage"] != "newton"

    with pytest.warns(ConvergenceWarning, match="callback"):
        found = od.sinkhorn(clouds, epsilon=0.05, tol=1e-8, callback=stop_in_newton)
    assert seen[-1] == "newton"
    assert not found.converged
