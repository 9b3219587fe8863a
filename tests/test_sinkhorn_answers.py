"""What `sinkhorn` gives back: the plan at work, batches, arrays of every library; inputs left alone."""

from __future__ import annotations

import math

import numpy as np
import pytest

import otdist as od
from otdist.kernels import threads
from tests.test_sinkhorn import clouds, problem
from tests.transport_cases import matrix

torch = pytest.importorskip("torch")

FIGURES = ("value", "linear", "marginal_error", "entropic_lower_bound", "entropic_upper_bound", "lower_bound")


def test_the_plan_applied():
    C, a, b = problem(9, 7)
    found = od.sinkhorn(C, a, b, epsilon=0.1)
    P = np.asarray(found.plan)
    rng = np.random.default_rng(0)
    for v in (rng.random(7), rng.random((7, 3))):
        np.testing.assert_allclose(found.apply(v), P @ v, rtol=1e-10)
    for v in (rng.random(9), rng.random((9, 3))):
        np.testing.assert_allclose(found.apply(v, transpose=True), P.T @ v, rtol=1e-10)
    assert P.dtype == np.float64
    assert found.epsilon == 0.1


@pytest.mark.parametrize("d", [2, 20])
def test_the_plan_between_points_applied(d):
    x, y = clouds(90, 70, d)
    found = od.sinkhorn(od.PointCloud(x, y), epsilon=0.5 * d)
    P = np.asarray(found.plan)
    v = np.random.default_rng(0).random((70, 2))
    np.testing.assert_allclose(found.apply(v), P @ v, rtol=1e-9)
    np.testing.assert_allclose(found.barycentric_map(), (P @ y) / P.sum(1)[:, None], rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("shape", [(5,), (2, 3)])
def test_a_batch_is_its_single_problems(shape):
    rng = np.random.default_rng(7)
    C = rng.random((*shape, 8, 6))
    a, b = rng.dirichlet(np.ones(8), shape), rng.dirichlet(np.ones(6), shape)
    together = od.sinkhorn(C, a, b, epsilon=0.05)
    assert together.f.shape == (*shape, 8)
    assert together.g.shape == (*shape, 6)
    assert together.plan.shape == (*shape, 8, 6)
    assert np.all(together.converged)
    for k in np.ndindex(shape):
        one = od.sinkhorn(C[k], a[k], b[k], epsilon=0.05)
        np.testing.assert_allclose(together.plan[k], one.plan, atol=1e-8)
        for name in FIGURES:
            assert np.shape(getattr(together, name)) == shape
            found = float(getattr(together, name)[k])
            if name == "lower_bound":  # each engine has its own c-transform
                continue
            assert found == pytest.approx(float(getattr(one, name)), rel=1e-7, abs=3e-9), name


def test_a_batch_shares_masses_and_epsilon():
    rng = np.random.default_rng(8)
    C, a = rng.random((4, 5, 5)), rng.dirichlet(np.ones(5))
    together = od.sinkhorn(C, a, epsilon=0.1)
    for k in range(4):
        assert float(together.value[k]) == pytest.approx(float(od.sinkhorn(C[k], a, epsilon=0.1).value), rel=1e-8)


@pytest.mark.parametrize("d", [2, 12])
def test_a_batch_of_clouds(d):
    rng = np.random.default_rng(9)
    x, y = rng.standard_normal((4, 11, d)), rng.standard_normal((4, 9, d))
    together = od.sinkhorn(od.PointCloud(x, y), epsilon=0.4)
    divergence = od.sinkhorn_divergence(x, y, epsilon=0.4)
    assert divergence.shape == (4,)
    for k in range(4):
        one = od.sinkhorn(od.PointCloud(x[k], y[k]), epsilon=0.4)
        assert float(together.value[k]) == pytest.approx(float(one.value), rel=1e-8)
        assert float(divergence[k]) == pytest.approx(float(od.sinkhorn_divergence(x[k], y[k], epsilon=0.4)), rel=1e-7)


def test_ragged_batches_are_padded_with_points_of_no_mass():
    rng = np.random.default_rng(10)
    C = rng.random((6, 10, 10))
    sizes = rng.integers(1, 11, (6, 2))
    a, b = np.zeros((6, 10)), np.zeros((6, 10))
    for k, (n, m) in enumerate(sizes):
        a[k, :n], b[k, :m] = rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(m))
        C[k, n:], C[k, :, m:] = 1e6, 1e6
    together = od.sinkhorn(C, a, b, epsilon=0.1)
    for k, (n, m) in enumerate(sizes):
        one = od.sinkhorn(C[k, :n, :m], a[k, :n], b[k, :m], epsilon=0.1)
        assert float(together.value[k]) == pytest.approx(float(one.value), rel=1e-7)
        P = np.asarray(together.plan[k])
        assert P[n:].sum() == 0.0
        assert P[:, m:].sum() == 0.0
    assert not np.isnan(together.f).any()
    assert not np.isnan(together.g).any()


def test_batches_with_prices_for_mass():
    rng = np.random.default_rng(11)
    C, a, b = rng.random((3, 6, 5)), rng.random((3, 6)), rng.random((3, 5))
    together = od.sinkhorn(C, a, b, epsilon=0.1, rho=0.5)
    for k in range(3):
        one = od.sinkhorn(C[k], a[k], b[k], epsilon=0.1, rho=0.5)
        assert float(together.value[k]) == pytest.approx(float(one.value), rel=1e-7)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_library_and_dtype_come_back(library, dtype):
    C, a, b = (z.astype(dtype) for z in problem(6, 5))
    x, y = (z.astype(dtype) for z in clouds(6, 5, 2))
    if library == "torch":
        C, a, b, x, y = (torch.tensor(z) for z in (C, a, b, x, y))
    kind = torch.Tensor if library == "torch" else np.ndarray
    for costs in (C, od.PointCloud(x, y)):
        found = od.sinkhorn(costs, a, b, epsilon=0.1)
        for name, shape in (("value", ()), ("linear", ()), ("f", (6,)), ("g", (5,)), ("plan", (6, 5))):
            z = getattr(found, name)
            assert isinstance(z, (kind, np.generic)), name
            assert str(z.dtype).removeprefix("torch.") == dtype, name
            assert tuple(z.shape) == shape, name
    divergence = od.sinkhorn_divergence(x, y, epsilon=0.1)
    assert str(divergence.dtype).removeprefix("torch.") == dtype
    assert isinstance(divergence, (kind, np.generic))


def test_coarse_dtypes_agree_with_float64():
    x, y = (z.astype(np.float16) for z in clouds(50, 40, 3))
    want = float(od.sinkhorn(od.PointCloud(x.astype(float), y.astype(float)), epsilon=0.5).value)
    for dtype, within in (("float32", 1e-5), ("float16", 2e-3)):
        found = od.sinkhorn(od.PointCloud(x.astype(dtype), y.astype(dtype)), epsilon=0.5)
        assert float(found.value) == pytest.approx(want, rel=within)
        assert found.converged
        assert found.entropic_lower_bound <= want * (1 + 1e-5)
        assert found.entropic_upper_bound >= want * (1 - 1e-5)


@pytest.mark.parametrize("method", ["auto", "sinkhorn", "newton", "multiscale"])
def test_inputs_are_left_alone_and_may_be_read_only(method):
    C, a, b = problem(30, 20)
    x, y = clouds(30, 20, 2)
    before = [z.copy() for z in (C, a, b, x, y)]
    for z in (C, a, b, x, y):
        z.setflags(write=False)
    if method != "multiscale":
        od.sinkhorn(C, a, b, epsilon=0.1, method=method)
    od.sinkhorn(od.PointCloud(x, y), a, b, epsilon=0.1, method=method)
    od.sinkhorn_divergence(x, y, a, b, epsilon=0.1)
    for z, was in zip((C, a, b, x, y), before, strict=True):
        np.testing.assert_array_equal(z, was)


def test_layouts():
    C, a, b = problem(12, 10)
    want = float(od.sinkhorn(C, a, b, epsilon=0.1).value)
    wide = np.zeros((24, 30))
    wide[::2, ::3] = C
    for other in (np.asfortranarray(C), wide[::2, ::3], C[::-1][::-1], C.tolist(), od.CostMatrix(C)):
        assert float(od.sinkhorn(other, a, b, epsilon=0.1).value) == pytest.approx(want, rel=1e-13)


def test_the_same_bits_on_any_number_of_threads():
    x, y = clouds(600, 500, 2)
    z, w = clouds(300, 400, 20)
    C = matrix("sqeuclidean", x, y)
    tall = np.random.default_rng(1).random((64, 20, 20))

    def answers():
        found = [
            od.sinkhorn(C, epsilon=0.3),
            od.sinkhorn(C.astype(np.float32), epsilon=0.3),
            od.sinkhorn(C, epsilon=0.05, method="newton"),
            od.sinkhorn(C, epsilon=0.3, method="sinkhorn", max_iter=40, on_fail="ignore"),
            od.sinkhorn(od.PointCloud(x, y), epsilon=0.3, method="sinkhorn", max_iter=40, on_fail="ignore"),
            od.sinkhorn(od.PointCloud(x, y), epsilon=0.3, method="multiscale"),
            od.sinkhorn(od.PointCloud(z, w), epsilon=3.0),
            od.sinkhorn(tall, epsilon=0.1),
        ]
        return [np.asarray(getattr(r, name)) for r in found for name in (*FIGURES, "f", "g")]

    try:
        threads.set_thread_count(1)
        one = answers()
        for count in (2, 3):
            threads.set_thread_count(count)
            for got, want in zip(answers(), one, strict=True):
                np.testing.assert_array_equal(got, want)
    finally:
        threads.set_thread_count(None)


def test_limits_are_kept_and_bounds_stay_true():
    C, a, b = problem(200, 150)
    best = od.sinkhorn(C, a, b, epsilon=1e-3)
    for options in ({"max_iter": 3}, {"time_limit": 0.0}, {"callback": lambda state: False}):
        with pytest.warns(od.ConvergenceWarning):
            cut = od.sinkhorn(C, a, b, epsilon=1e-3, **options)
        assert not cut.converged
        assert cut.entropic_lower_bound <= float(best.value) + 1e-9 <= cut.entropic_upper_bound + 2e-9
        assert cut.marginal_error > 1e-9
        with pytest.raises(Exception, match=r"max_iter|time_limit|callback"):
            od.sinkhorn(C, a, b, epsilon=1e-3, on_fail="raise", **options)
    seen: list[dict] = []
    od.sinkhorn(C, a, b, epsilon=1e-3, callback=seen.append)
    assert seen
    assert {"stage", "iterations", "elapsed"} <= set(seen[0])


def test_tolerances_are_kept():
    C, a, b = problem(100, 80)
    for tol in (1e-3, 1e-6, 1e-12):
        found = od.sinkhorn(C, a, b, epsilon=0.02, tol=tol)
        assert found.converged
        assert found.marginal_error <= tol
    impossible = od.sinkhorn(C, a, b, epsilon=1e-3, tol=1e-300, on_fail="ignore", max_iter=20_000)
    assert not impossible.converged  # and it ended
    assert impossible.marginal_error < 1e-9
    assert math.isfinite(float(impossible.value))


def test_an_epsilon_for_each_of_a_batch():
    C = np.random.default_rng(8).random((2, 3, 6, 5))
    each = np.linspace(0.02, 0.5, 6).reshape(2, 3)
    together = od.sinkhorn(C, epsilon=each)
    np.testing.assert_array_equal(together.epsilon, each)
    for k in np.ndindex(2, 3):
        one = od.sinkhorn(C[k], epsilon=float(each[k]))
        assert float(together.value[k]) == pytest.approx(float(one.value), rel=1e-9)
    again = od.sinkhorn(C, epsilon=together.epsilon)
    np.testing.assert_array_equal(again.value, together.value)
    with pytest.raises(ValueError, match="epsilon: found shape"):
        od.sinkhorn(C, epsilon=each[0])
    with pytest.raises(ValueError, match="epsilon"):
        od.sinkhorn(C, epsilon=-each)
    with pytest.raises(ValueError, match="epsilon"):
        od.wasserstein(C[0, 0], C[0, 1], epsilon=0.1)
