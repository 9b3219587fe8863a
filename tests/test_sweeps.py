"""Sinkhorn's iteration: the error asked for, measured here by the definition, on problems of every kind."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.special import logsumexp

from otdist.kernels import threads
from otdist.transport import _bounds, _sweeps
from otdist.transport._gibbs import Entropic
from otdist.transport._problem import Matrix, Points, tag
from otdist.transport._solution import Watch


def masses(rng, n, decades=1.0):
    a = 10.0 ** rng.uniform(-decades, 0.0, n)
    return a / a.sum()


def error_of(task, C, found):
    """L1 error of both marginals, float64, as `Entropic.tol` has it."""
    log = found.phi[:, None] + found.gamma - np.asarray(C, np.float64) / task.epsilon
    rows = np.exp(logsumexp(log + np.log(task.b), axis=1) + np.log(task.a))
    columns = np.exp(logsumexp(log + np.log(task.a)[:, None], axis=0) + np.log(task.b))
    target_a = task.a * np.exp(-(1.0 / task.kappa[0] - 1.0) * found.phi)
    target_b = task.b * np.exp(-(1.0 / task.kappa[1] - 1.0) * found.gamma)
    total = 1.0 if task.kappa == (1.0, 1.0) else target_a.sum() + target_b.sum()
    return float(np.abs(rows - target_a).sum() + np.abs(columns - target_b).sum()) / total


def solved(problem, a, b, eps, tol=1e-9, kappa=(1.0, 1.0), start=None, **limits):
    task = Entropic(problem, a, b, eps, tol, kappa)
    found = _sweeps.solve(task, Watch(**(limits or {"max_iter": 3000})), start)
    assert np.isfinite(found.phi).all()
    assert np.isfinite(found.gamma).all()
    return task, found


def reached(task, C, found):
    assert found.stopped == ""
    assert found.error <= task.tol
    assert error_of(task, C, found) <= 1.01 * task.tol + 1e-13 * (1.0 + np.abs(C).max() / task.epsilon)
    assert found.columns is not None


@pytest.mark.parametrize("part", [1.0, 0.05, 0.005])
@pytest.mark.parametrize("tol", [1e-4, 1e-9, 1e-12])
def test_reaches_its_tolerance(part, tol):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((130, 2)), rng.standard_normal((90, 2)) + 0.5
    C, a, b = ot.dist(x, y), masses(rng, 130), masses(rng, 90)
    eps = part * C.max()
    for problem in (Matrix(C), Points(x, y, tag("sqeuclidean", 1.0))):
        task, found = solved(problem, a, b, eps, tol)
        reached(task, C, found)
    if tol == 1e-9 and part >= 0.05:
        P = ot.bregman.sinkhorn_log(a, b, C, eps, numItermax=5000, stopThr=1e-13)
        np.testing.assert_allclose(_bounds.dense(task, found.phi, found.gamma), P, atol=1e-10)


@pytest.mark.parametrize(("cost", "p", "d"), [("euclidean", 1.0, 3), ("sqeuclidean", 1.0, 20), ("cityblock", 1.0, 12)])
@pytest.mark.parametrize("memory", [0, 1 << 30])
def test_points(cost, p, d, memory):
    """Far from the origin, with and without room for the costs."""
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((70, d)) + 100.0, rng.standard_normal((50, d)) + 100.5
    problem = Points(x, y, tag(cost, p))
    C, a, b = cdist(x, y, cost), masses(rng, 70), masses(rng, 50)
    task = Entropic(problem, a, b, 0.03 * C.mean(), 1e-10, memory=memory)
    reached(task, C, _sweeps.solve(task, Watch(max_iter=3000), None))


def test_extrapolation_pays():
    """Fewer passes than the plain iteration needs by its own rate."""
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((200, 2)), rng.standard_normal((200, 2)) + 0.5
    C, a = ot.dist(x, y), np.full(200, 1 / 200)
    _, found = solved(Matrix(C), a, a, 0.005 * C.max())
    _, log = ot.bregman.sinkhorn_log(a, a, C, 0.005 * C.max(), numItermax=5000, stopThr=1e-9, log=True)
    assert found.iterations < log["niter"] / 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_offset(dtype):
    rng = np.random.default_rng(3)
    C = (rng.random((60, 50)) + 1e4).astype(dtype)
    a, b = masses(rng, 60), masses(rng, 50)
    task, found = solved(Matrix(C), a, b, 0.02)
    reached(task, C, found)
    assert found.iterations < 60


@pytest.mark.parametrize(
    "C",
    [np.full((5, 7), 3.0), np.zeros((1, 9)), np.zeros((9, 1)), np.array([[2.5]]), np.where(np.eye(6) > 0, 1.0, np.inf)],
)
def test_trivial(C):
    n, m = C.shape
    task, found = solved(Matrix(C), np.full(n, 1 / n), np.full(m, 1 / m), 0.1, 1e-12)
    assert found.error <= 1e-12
    assert found.iterations <= 12
    assert _bounds.judge(task, found).entropic_upper >= _bounds.judge(task, found).entropic_lower


def test_identical_clouds_have_symmetric_potentials():
    x = np.random.default_rng(4).random((80, 2))
    a = np.full(80, 1 / 80)
    _, found = solved(Points(x, x, tag("sqeuclidean", 1.0)), a, a, 0.01, 1e-11)
    np.testing.assert_allclose(found.phi - found.phi.mean(), found.gamma - found.gamma.mean(), atol=1e-6)


@pytest.mark.parametrize("kappa", [(0.9, 0.9), (1.0, 0.6), (0.6, 1.0), (0.3, 0.999), (1 - 1e-5, 1 - 1e-5)])
def test_unbalanced(kappa):
    """The fixed point of the definition, quickly also where the masses differ and rho is large."""
    rng = np.random.default_rng(5)
    C, eps = rng.random((40, 30)), 0.02
    a, b = masses(rng, 40) * 3.0, masses(rng, 30) * (3.0 if max(kappa) == 1.0 else 2.0)
    task, found = solved(Matrix(C), a, b, eps, 1e-9, kappa)
    reached(task, C, found)
    assert found.iterations < 200
    g = -kappa[1] * logsumexp(found.phi[:, None] - C / eps + np.log(a)[:, None], axis=0)
    np.testing.assert_allclose(found.gamma, g, atol=1e-6)


def test_impossible():
    """No plan keeps these marginals: the solve ends, and says how far it came."""
    rng = np.random.default_rng(6)
    C = rng.random((20, 20))
    C[:12, :12] = np.inf
    a = np.full(20, 1 / 20)
    _, found = solved(Matrix(C), a, a, 0.1)
    assert found.stopped == "stalled"
    assert found.error > 0.3
    C = rng.random((20, 20))
    C[3] = np.inf
    task, found = solved(Matrix(C), a, a, 0.1)
    assert found.stopped == "stalled"
    assert found.error >= 2 / 20 - 1e-9
    assert _bounds.judge(task, found).upper == math.inf


def test_limits():
    rng = np.random.default_rng(7)
    C, a = rng.random((50, 50)), np.full(50, 1 / 50)
    for count in (1, 2, 9, 40):
        task, found = solved(Matrix(C), a, a, 1e-4, max_iter=count)
        assert found.stopped == "max_iter"
        assert found.iterations <= count + 2  # a pass that float32 cannot make, and the one that measures in float64
        assert found.error == pytest.approx(error_of(task, C, found), rel=1e-5)
    _, found = solved(Matrix(C), a, a, 1e-4, time_limit=0.0)
    assert found.stopped == "time_limit"
    seen = []
    _, found = solved(Matrix(C), a, a, 1e-4, callback=lambda at: bool(seen.append(at)))
    assert found.stopped == "callback"
    assert len(seen) == 1
    assert {"stage", "iterations", "elapsed", "error"} <= seen[-1].keys()


def test_a_good_start_ends_at_once():
    rng = np.random.default_rng(8)
    C, a, b = rng.random((60, 40)), masses(rng, 60), masses(rng, 40)
    _, found = solved(Matrix(C), a, b, 0.01, 1e-10)
    start = found.gamma.copy()
    _, again = solved(Matrix(C), a, b, 0.01, 1e-9, start=start)
    assert again.iterations <= 4
    assert np.array_equal(start, found.gamma)
    for wild in (1e3, 1e7):
        task, other = solved(Matrix(C), a, b, 0.01, 1e-9, start=wild * rng.standard_normal(40))
        reached(task, C, other)


def test_the_same_bits_on_any_number_of_threads():
    rng = np.random.default_rng(9)
    x, y = rng.standard_normal((1300, 2)), rng.standard_normal((1100, 2))
    task = Entropic(Points(x, y, tag("sqeuclidean", 1.0)), masses(rng, 1300), masses(rng, 1100), 0.5, 1e-8)
    found = []
    for count in (1, 2):
        threads.set_thread_count(count)
        try:
            fresh = replace(task, problem=replace(task.problem))
            found.append(_sweeps.solve(fresh, Watch(), None))
            found[-1] = (found[-1], _bounds.judge(fresh, found[-1]))
        finally:
            threads.set_thread_count(None)
    assert np.array_equal(found[0][0].gamma, found[1][0].gamma)
    assert np.array_equal(found[0][0].phi, found[1][0].phi)
    for one, two in zip(*(vars(bounds).values() for _, bounds in found), strict=True):
        assert np.array_equal(one, two)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 25),
    m=st.integers(1, 25),
    part=st.sampled_from([1e-6, 1e-4, 1e-2, 1.0, 1e3]),
    unit=st.sampled_from([1e-150, 1e-8, 1.0, 1e8, 1e150]),
    decades=st.sampled_from([0.5, 12.0]),
    kind=st.sampled_from(["uniform", "integers", "offset", "forbidden"]),
)
def test_any_problem(seed, n, m, part, unit, decades, kind):
    """Never a NaN; an error that is the error; a solve that ends, done or not."""
    rng = np.random.default_rng(seed)
    C = rng.random((n, m))
    if kind == "integers":
        C = np.rint(3.0 * C)
    elif kind == "offset":
        C = C + 1e4
    elif kind == "forbidden":
        C = np.where(rng.random((n, m)) < 0.2, np.inf, C)
        C[0], C[:, 0] = 1.0, 1.0
    a, b = masses(rng, n, decades), masses(rng, m, decades)
    task, found = solved(Matrix(unit * C), a, b, part * unit, max_iter=400)
    size = np.max(np.abs(C), where=np.isfinite(C), initial=0.0) / part
    assert found.error == pytest.approx(error_of(task, unit * C, found), rel=1e-3, abs=1e-14 * (100.0 + size))
    assert (found.error <= task.tol) == (found.stopped == "")
    bounds = _bounds.judge(task, found)
    assert bounds.lower <= bounds.upper
    assert bounds.entropic_lower <= bounds.entropic_upper
