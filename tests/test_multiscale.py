"""Multiscale Sinkhorn for points, against plain float64 arrays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import logsumexp

from otdist.kernels import costs
from otdist.kernels.kdtree import ordered
from otdist.kernels.profiles import Cityblock, Squared
from otdist.transport import _multiscale
from otdist.transport._gibbs import Entropic
from otdist.transport._multiscale_level import LOG2E, Cloud, Level
from otdist.transport._problem import Points
from otdist.transport._solution import Watch

BLOCK = 64
DISTANCES = {
    "squared": (Squared(), lambda z: (z * z).sum(-1)),
    "euclidean": (costs.Euclidean(), lambda z: np.sqrt((z * z).sum(-1))),
    "cityblock": (Cityblock(), lambda z: np.abs(z).sum(-1)),
    "chebyshev": (costs.Chebyshev(), lambda z: np.abs(z).max(-1)),
    "raised": (costs.Raised(costs.Euclidean(), 1.5), lambda z: (z * z).sum(-1) ** 0.75),
}


def matrix(name, x, y):
    return DISTANCES[name][1](x[:, None] - y[None])


def masses(rng, n, decades=0.5):
    w = 10.0 ** rng.uniform(-decades, 0.0, n)
    return w / w.sum()


def problem(name, x, y, a, b, epsilon, tol, **options):
    return Entropic(Points(x, y, DISTANCES[name][0]), a, b, epsilon, tol, **options)


def true_error(task, name, found):
    """||P 1 - target|| + ||P^T 1 - target||, relative to both where they are free, by the definition."""
    with np.errstate(over="ignore"):
        C = matrix(name, task.problem.x, task.problem.y) / task.epsilon
    P = task.a[:, None] * task.b * np.exp(found.phi[:, None] + found.gamma - C)
    rows, cols = task.row_target(found.phi), task.column_target(found.gamma)
    whole = 1.0 if task.kappa == (1.0, 1.0) else rows.sum() + cols.sum()
    return (np.abs(P.sum(1) - rows).sum() + np.abs(P.sum(0) - cols).sum()) / whole


def solved(task, name, **options):
    found = _multiscale.solve(task, Watch(**options.pop("watch", {})), options.pop("start", None))
    assert np.isfinite(found.phi).all()
    assert np.isfinite(found.gamma).all()
    measured = true_error(task, name, found)
    assert measured <= found.error + 1e-12
    return found


@pytest.mark.parametrize("name", ["squared", "euclidean"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_sweep_is_its_definition(name, dtype):
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((300, 2)), rng.standard_normal((150, 2))
    x, y = x[ordered(x)], y[ordered(y)]
    a, b, g = masses(rng, 300), masses(rng, 150), rng.standard_normal(150)
    level = Level(DISTANCES[name][0], Cloud(x, a), Cloud(y, b), 0.5, (1.0, 1.0), 1 << 30)
    at = level.listed(np.zeros(300), g * LOG2E, -1e9)
    phi, col = level.sweep(at, np.zeros(300), g * LOG2E, dtype, Watch(), 0)
    C = matrix(name, x, y) / 0.5
    expected = -logsumexp(g + np.log(b) - C, axis=1)
    rounding = 1e-5 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(phi / LOG2E, expected, atol=rounding)
    P = a[:, None] * b * np.exp(expected[:, None] + g - C)
    np.testing.assert_allclose(col, P.sum(0), rtol=rounding)


@pytest.mark.parametrize("name", ["squared", "euclidean"])
@pytest.mark.parametrize("far", [0.0, 30.0])
def test_what_a_list_leaves_out_is_bounded(name, far):
    rng = np.random.default_rng(2)
    x, y = rng.random((700, 3)), rng.random((500, 3)) + far
    x, y = x[ordered(x)], y[ordered(y)]
    a, b, epsilon = masses(rng, 700), masses(rng, 500), 0.002 if name == "squared" else 0.02
    C = matrix(name, x, y) / epsilon
    g = np.zeros(500)
    for _ in range(30):
        f = -logsumexp(g + np.log(b) - C, axis=1)
        g = -logsumexp(f[:, None] + np.log(a)[:, None] - C, axis=0)
    level = Level(DISTANCES[name][0], Cloud(x, a), Cloud(y, b), epsilon, (1.0, 1.0), 1 << 30)
    for cut in (-3.0, -10.0):
        at = level.listed(f * LOG2E, g * LOG2E, cut)
        out = np.ones(C.shape, bool)
        for i in range(len(at.start) - 1):
            mine = at.cols[at.start[i] : at.start[i + 1]]
            assert (np.diff(mine) > 0).all()
            for j in mine:
                out[i * BLOCK : (i + 1) * BLOCK, j * BLOCK : (j + 1) * BLOCK] = False
        P = a[:, None] * b * np.exp(f[:, None] + g - C)
        assert P[out].sum() <= at.dropped.sum() <= 2.0**cut
        if name == "squared":
            assert out.mean() > 0.2
        moved_f, moved_g = f + 0.5 * rng.standard_normal(700), g + 0.5 * rng.standard_normal(500)
        moved = a[:, None] * b * np.exp(moved_f[:, None] + moved_g - C)
        assert moved[out].sum() <= at.loss(moved_f * LOG2E, moved_g * LOG2E)


@pytest.mark.parametrize("name", DISTANCES)
@pytest.mark.parametrize("d", [1, 2, 3])
def test_every_cost_and_dimension(name, d):
    rng = np.random.default_rng(d)
    x, y = rng.standard_normal((900, d)), rng.standard_normal((1100, d)) + 0.5
    task = problem(name, x, y, masses(rng, 900), masses(rng, 1100), 0.3, 1e-4)
    found = solved(task, name)
    assert found.error <= 1e-4
    assert not found.stopped


def test_tight():
    rng = np.random.default_rng(3)
    x, y = rng.random((2500, 2)), rng.random((2000, 2)) ** 2
    task = problem("squared", x, y, masses(rng, 2500, 6.0), masses(rng, 2000), 0.02, 1e-9)
    found = solved(task, "squared")
    assert found.error <= 1e-9
    assert not found.stopped


@pytest.mark.parametrize("kappa", [(0.9, 0.9), (1.0, 0.8), (0.5, 1.0), (0.99, 0.3)])
def test_unbalanced(kappa):
    rng = np.random.default_rng(4)
    x, y = rng.random((1500, 2)), rng.random((1300, 2)) + 0.4
    task = problem("squared", x, y, 2.0 * masses(rng, 1500), masses(rng, 1300), 0.02, 1e-6, kappa=kappa)
    found = solved(task, "squared")
    assert found.error <= 1e-6


def test_warm_start():
    rng = np.random.default_rng(5)
    x, y = rng.random((2000, 2)), rng.random((2000, 2))
    task = problem("squared", x, y, masses(rng, 2000), masses(rng, 2000), 0.01, 1e-6)
    cold = solved(task, "squared")
    warm = solved(task, "squared", start=cold.gamma)
    assert warm.iterations <= 4
    np.testing.assert_allclose(warm.phi, cold.phi, atol=1e-3)
    wild = solved(task, "squared", start=50.0 * rng.standard_normal(2000))
    assert wild.error <= 1e-6


@pytest.mark.parametrize("limits", [{"max_iter": 2}, {"time_limit": 0.0}, {"callback": lambda _: False}])
def test_limits(limits):
    rng = np.random.default_rng(6)
    x, y = rng.random((3000, 2)), rng.random((3000, 2)) + 1.0
    found = solved(problem("squared", x, y, masses(rng, 3000), masses(rng, 3000), 1e-3, 1e-8), "squared", watch=limits)
    assert found.stopped == next(iter(limits))
    assert found.error > 1e-8


def clouds_in_trouble():
    rng = np.random.default_rng(7)
    line = np.outer(rng.random(800), [1.0, 2.0, -1.0])
    cauchy = rng.standard_cauchy((800, 2))
    two = rng.random((800, 2)) + 100.0 * rng.integers(2, size=(800, 1))
    yield "equal", np.ones((500, 2)), np.ones((300, 2)), 1.0
    yield "one", np.zeros((1, 3)), rng.random((400, 3)), 0.1
    yield "ones", np.zeros((1, 3)), np.ones((1, 3)), 1e-3
    yield "collinear", line, line[:500] + 0.1, 0.05
    yield "duplicates", np.repeat(rng.random((20, 2)), 40, axis=0), rng.random((700, 2)), 0.05
    yield "heavy tails", cauchy, rng.standard_cauchy((700, 2)), 1e-3 * np.ptp(cauchy) ** 2
    yield "clusters", two, two[::-1] + 1.0, 5.0
    yield "apart", rng.random((600, 2)), rng.random((600, 2)) + 1e4, 0.05
    yield "blunt", rng.random((600, 2)), rng.random((500, 2)), 1e3


TROUBLE = {name: rest for name, *rest in clouds_in_trouble()}


@pytest.mark.parametrize("trouble", TROUBLE)
@pytest.mark.parametrize("name", ["squared", "euclidean"])
def test_clouds_in_trouble(name, trouble):
    x, y, epsilon = TROUBLE[trouble]
    rng = np.random.default_rng(8)
    epsilon = epsilon if name == "squared" else np.sqrt(epsilon)
    task = problem(name, x, y, masses(rng, len(x), 3.0), masses(rng, len(y)), epsilon, 1e-4)
    found = solved(task, name)
    assert found.error <= 1e-4


def test_inputs_are_left_alone_and_bits_are_the_same():
    from otdist.kernels import threads

    rng = np.random.default_rng(9)
    x, y, a, b = rng.random((5000, 2)), rng.random((5000, 2)), masses(rng, 5000), masses(rng, 5000)
    for array in (x, y, a, b):
        array.setflags(write=False)
    task = problem("squared", x, y, a, b, 0.01, 1e-3)
    try:
        threads.set_thread_count(1)
        one = solved(task, "squared")
        threads.set_thread_count(3)
        three = solved(task, "squared")
    finally:
        threads.set_thread_count(None)
    assert np.array_equal(one.phi, three.phi)
    assert np.array_equal(one.gamma, three.gamma)
    assert one.error == three.error
    assert solved(replace(task, memory=1 << 16), "squared").error <= 1e-3
