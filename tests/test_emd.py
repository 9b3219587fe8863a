"""Exact transport: every answer proved in the test, and equal to that of other solvers."""

from __future__ import annotations

import signal
import warnings

import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

import otdist as od
from otdist.reference import transport as reference
from tests.transport_cases import CLOUDS, MATRICES, case, matrix, on_grid, prove

CHUNK = 50


@pytest.mark.parametrize("chunk", range(500 // CHUNK))
def test_fuzz(chunk):
    for seed in range(chunk * CHUNK, (chunk + 1) * CHUNK):
        given_case = case(seed)
        try:
            prove(given_case.solve(), given_case)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {given_case.name}") from error


@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(500 // CHUNK, 10_000 // CHUNK))
def test_fuzz_long(chunk):
    test_fuzz(chunk)


def test_grids():
    for seed in range(140):
        given_case = on_grid(seed)
        try:
            prove(given_case.solve(), given_case)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {given_case.name}") from error


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(200))
def test_fuzz_larger(seed):
    given_case = case(100_000 + seed, largest=600)
    prove(given_case.solve(), given_case)


sizes = st.integers(1, 8)
seeds = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("costs", [c for c in MATRICES if c.__name__ not in ("_forbidden", "_unlike", "_scaled")])
@settings(max_examples=60, deadline=None)
@given(n=sizes, m=sizes, seed=seeds)
def test_matrices_against_linear_programming(costs, n, m, seed):
    rng = np.random.default_rng(seed)
    C = costs(rng, n, m)
    a, b = (w / w.sum() for w in (rng.random(n) + 0.01, rng.random(m) + 0.01))
    assert float(od.emd(C, a, b).value) == pytest.approx(reference.emd(C, a, b), rel=1e-7, abs=1e-7 * np.abs(C).max())


@pytest.mark.parametrize("cloud", CLOUDS)
@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 30), m=st.integers(1, 30), d=st.integers(1, 6), seed=seeds)
def test_weighted_clouds_against_pot(cloud, n, m, d, seed):
    rng = np.random.default_rng(seed)
    x, y = cloud(rng, n, m, d)
    a, b = (w / w.sum() for w in (rng.random(n) + 0.01, rng.random(m) + 0.01))
    C = matrix("euclidean", x, y)
    ours = od.emd(od.PointCloud(x, y, cost="euclidean"), a, b)
    assert float(ours.value) == pytest.approx(ot.emd2(a, b, C, numItermax=10**7), rel=1e-8, abs=1e-9 * C.max())


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize("cost", ["sqeuclidean", "euclidean", "cityblock"])
@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 60), d=st.integers(1, 6), seed=seeds)
def test_uniform_clouds_against_scipy(cloud, cost, n, d, seed):
    x, y = cloud(np.random.default_rng(seed), n, n, d)
    C = matrix(cost, x, y)
    best = C[linear_sum_assignment(C)].sum() / n
    found = od.emd(od.PointCloud(x, y, cost=cost))
    assert float(found.value) == pytest.approx(best, rel=1e-9, abs=1e-13 * C.max())
    assert sorted(found.assignment) == list(range(n))


@pytest.mark.parametrize("n", range(1, 7))
def test_all_permutations(n):
    for seed in range(20):
        C = np.random.default_rng([seed, n]).integers(-9, 9, (n, n)).astype(float)
        best = reference.assignment(C)
        result = od.emd(C, np.ones(n), np.ones(n))
        assert result.value == best
        assert result.gap == 0.0
        assert result.lower_bound == result.upper_bound == best


def test_costs_of_very_different_size():
    """POT issue 229: one entry of 1e10 and more makes `ot.emd2` stop at a plan that is not optimal."""
    rng = np.random.default_rng(229)
    for _ in range(20):
        C = rng.random((12, 12))
        C[rng.integers(12), rng.integers(12)] = 1e10
        a, b = (w / w.sum() for w in (rng.random(12), rng.random(12)))
        result = od.emd(C, a, b)
        assert result.converged
        assert result.gap <= 1e-13
        C[C == 1e10] = 1e3
        assert float(result.value) == pytest.approx(float(od.emd(C, a, b).value), rel=1e-12)


def test_integer_costs_have_no_gap():
    rng = np.random.default_rng(3)
    for n in (2, 17, 120):
        C = rng.integers(0, 10 * n, (n, n)).astype(float)
        result = od.emd(C, np.ones(n), np.ones(n))
        assert result.gap == 0.0
        assert result.value == C[linear_sum_assignment(C)].sum()
        assert od.emd(C).gap <= 1e-15 * n


@pytest.mark.parametrize("n", [1, 2, 5, 64])
def test_discrete_metric_is_total_variation(n):
    rng = np.random.default_rng(n)
    a, b = (w / w.sum() for w in (rng.random(n), rng.random(n)))
    assert float(od.emd(1.0 - np.eye(n), a, b).value) == pytest.approx(float(od.tv(a, b)), abs=1e-15)


def test_one_row_and_one_column():
    b = np.array([0.25, 0.75])
    assert float(od.emd([[1.0, 3.0]], [1.0], b).value) == 2.5
    assert float(od.emd([[1.0], [3.0]], b, [1.0]).value) == 2.5
    assert float(od.emd([[7.0]]).value) == 7.0


def test_totals_need_not_be_one():
    result = od.emd([[0.0, 1.0], [1.0, 0.0]], [3, 5], [6, 2])
    assert float(result.value) == 3.0
    assert result.plan.sum() == 8.0


def test_drift_of_float32_masses_is_renormalised():
    rng = np.random.default_rng(0)
    a, b = (rng.random(500).astype(np.float32) for _ in range(2))
    a, b = a / a.sum(), b / b.sum()
    result = od.emd(od.PointCloud(rng.random((500, 2)), rng.random((500, 2))), a, b)
    assert result.converged
    assert result.marginal_error < 1e-14


def test_forbidden_everywhere_names_the_row():
    C = np.array([[1.0, 2.0], [np.inf, np.inf]])
    with pytest.raises(ValueError, match="row 1"):
        od.emd(C)
    with pytest.raises(ValueError, match="row"):
        od.emd([[0.0, np.inf, np.inf], [1.0, np.inf, np.inf], [1.0, 1.0, 1.0]])


# --- what a result can do ---------------------------------------------------------------------------------------------


def test_plan_apply_and_barycentric_map():
    rng = np.random.default_rng(1)
    x, y = rng.random((6, 2)), rng.random((4, 2))
    a = np.array([0.2, 0.0, 0.3, 0.1, 0.25, 0.15])
    result = od.emd(od.PointCloud(x, y), a)
    P = result.plan.toarray()
    v = rng.random(4)
    np.testing.assert_allclose(result.apply(v), P @ v, rtol=1e-15)
    np.testing.assert_allclose(result.apply(rng.random((6, 3)) * 0 + 1, transpose=True), np.full((4, 3), 0.25))
    image = result.barycentric_map()
    assert np.isnan(image[1]).all()
    keep = [0, 2, 3, 4, 5]
    np.testing.assert_allclose(image[keep], (P @ y)[keep] / a[keep, None], rtol=1e-13)
    np.testing.assert_allclose(od.emd(matrix("sqeuclidean", x, y), a).barycentric_map(y)[keep], image[keep], rtol=1e-9)
    assert result.assignment is None


def test_warm_start():
    rng = np.random.default_rng(5)
    x, y = rng.random((300, 2)), rng.random((300, 2))
    for costs in (matrix("sqeuclidean", x, y), od.PointCloud(x, y)):
        for masses in ((None, None), (rng.random(300), rng.random(300))):
            a, b = (None if w is None else w / w.sum() for w in masses)
            first = od.emd(costs, a, b)
            again = od.emd(costs, a, b, init=first)
            assert again.converged
            assert float(again.value) == pytest.approx(float(first.value), rel=1e-10)
            nonsense = od.emd(costs, a, b, init=rng.standard_normal(300) * 1e3)
            assert nonsense.converged
            assert float(nonsense.value) == pytest.approx(float(first.value), rel=1e-10)


@pytest.mark.parametrize("limit", [{"time_limit": 0.0}, {"max_iter": 1}])
@pytest.mark.parametrize("kind", ["matrix", "points", "high"])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_stopped_solve_tells_the_truth(limit, kind, weighted):
    rng = np.random.default_rng(7)
    n, d = 700, 5 if kind == "high" else 2
    x, y = rng.random((n, d)), rng.random((n, d)) ** 2
    C = matrix("euclidean", x, y)
    a, b = ((w / w.sum()) if weighted else None for w in (rng.random(n), rng.random(n)))
    costs = C if kind == "matrix" else od.PointCloud(x, y, cost="euclidean")
    best = float(od.emd(C, a, b).value)
    result = od.emd(costs, a, b, on_fail="ignore", **limit)
    assert result.lower_bound <= best * (1 + 1e-12)
    assert result.upper_bound >= best * (1 - 1e-12)
    assert result.marginal_error < 1e-13
    if not result.converged:
        assert result.status.name == next(iter(limit)).upper()
        with pytest.warns(od.ConvergenceWarning, match="stopped by"):
            od.emd(costs, a, b, **limit)
        with pytest.raises(RuntimeError, match="stopped by"):
            od.emd(costs, a, b, on_fail="raise", **limit)


def test_callback_sees_progress_and_may_end_it(capsys):
    rng = np.random.default_rng(8)
    C = matrix("euclidean", rng.random((900, 2)), rng.random((900, 2)) ** 2)
    seen = []
    od.emd(C, callback=lambda state: seen.append(dict(state)), progress=True)
    assert seen
    assert {"stage", "iterations", "elapsed"} <= set(seen[0])
    assert seen[0]["stage"] in capsys.readouterr().err
    result = od.emd(C, callback=lambda state: False, on_fail="ignore")
    assert result.status.name in ("CALLBACK", "OPTIMAL")
    assert result.lower_bound <= result.upper_bound


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timer here")
@pytest.mark.parametrize("d", [2, 9])
def test_an_interrupt_leaves_the_process_usable(d):
    rng = np.random.default_rng(10)
    x, y = rng.random((2500, d)), rng.random((2500, d)) ** 2

    def interrupt(*_):
        raise KeyboardInterrupt

    def work():
        while True:
            od.emd(od.PointCloud(x, y, cost="euclidean"))

    od.emd(od.PointCloud(x, y, cost="euclidean"))  # compiled before anything is interrupted
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for _ in range(3):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(KeyboardInterrupt):
                work()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert od.emd(od.PointCloud(x[:900], y[:900])).converged


# --- partial and unbalanced -------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(n=sizes, m=sizes, seed=seeds, share=st.floats(0.01, 1.0))
def test_partial_transport(n, m, seed, share):
    rng = np.random.default_rng(seed)
    C = rng.random((n, m))
    a, b = rng.random(n) + 0.01, rng.random(m) + 0.01
    s = share * min(a.sum(), b.sum())
    result = od.emd(C, a, b, mass=s)
    P = result.plan.toarray()
    assert P.sum() == pytest.approx(s, rel=1e-12)
    assert (P.sum(1) <= a * (1 + 1e-12)).all()
    assert (P.sum(0) <= b * (1 + 1e-12)).all()
    assert float(result.value) == pytest.approx(reference.partial_emd(C, a, b, s), rel=1e-7, abs=1e-9)
    assert float(result.linear) == pytest.approx(float(result.value), rel=1e-12, abs=1e-15)
    assert result.converged


@settings(max_examples=60, deadline=None)
@given(n=sizes, m=sizes, seed=seeds, price=st.floats(0.0, 1.0))
def test_unmatched_mass_pays_its_price(n, m, seed, price):
    rng = np.random.default_rng(seed)
    C = rng.random((n, m))
    a, b = rng.random(n) + 0.01, rng.random(m) + 0.01
    result = od.emd(C, a, b, unmatched=price)
    P = result.plan.toarray()
    paid = float((P * C).sum()) + price * (a.sum() + b.sum() - 2.0 * P.sum())
    assert float(result.value) == pytest.approx(paid, rel=1e-12, abs=1e-14)
    assert float(result.linear) == pytest.approx(float((P * C).sum()), rel=1e-12, abs=1e-14)
    assert float(result.value) == pytest.approx(reference.unmatched_emd(C, a, b, price), rel=1e-7, abs=1e-9)


def test_nothing_warns_on_ordinary_problems():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in range(40):
            case(seed + 5000).solve()


@pytest.mark.parametrize("total", [1e300, 1e150, 1e-150, 1e-300])
def test_totals_of_any_size(total):
    rng = np.random.default_rng(21)
    C, a, b = rng.random((9, 7)), rng.dirichlet(np.ones(9)), rng.dirichlet(np.ones(7))
    one, found = od.emd(C, a, b), od.emd(C, total * a, total * b)
    assert found.converged
    assert float(found.value) == pytest.approx(total * float(one.value), rel=1e-9, abs=0)
    assert found.lower_bound <= float(found.value) * (1 + 1e-15)
