"""Wasserstein distances of samples: closed forms, axioms, gradients, every array library."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import otdist as od
from tests.transport_cases import matrix

torch = pytest.importorskip("torch")
jax = pytest.importorskip("jax")

METRICS = ["euclidean", "cityblock", "chebyshev", "cosine"]
sizes = st.integers(1, 12)
seeds = st.integers(0, 2**32 - 1)


def draw(rng, n, d):
    return rng.standard_normal((n, d)) + 0.5


def weights(rng, n):
    w = rng.random(n) + 0.05
    return w / w.sum()


# --- closed forms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [1, 1.5, 2, 3])
@pytest.mark.parametrize("n", [1, 2, 33, 400])
@pytest.mark.parametrize("d", [1, 2, 3, 7])
def test_translation(n, d, p):
    rng = np.random.default_rng([n, d])
    x, t = draw(rng, n, d), rng.standard_normal(d)
    for metric in METRICS[:3]:
        expected = matrix(metric, np.zeros((1, d)), t[None])[0, 0]
        found = float(od.wasserstein(x, (x + t)[rng.permutation(n)], p=p, cost=metric))
        assert found == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("d", [1, 2, 3, 5])
@pytest.mark.parametrize("n", [10, 600])
def test_gradient_of_a_convex_function_is_optimal(n, d):
    """y = L x + b with L symmetric positive definite: W_2^2 = mean ‖x − y‖², at any n (Brenier)."""
    rng = np.random.default_rng([n, d, 1])
    A = rng.standard_normal((d, d))
    L = A @ A.T + 0.1 * np.eye(d)
    x = draw(rng, n, d)
    y = x @ L + rng.standard_normal(d)
    expected = np.sqrt(np.mean(np.sum((x - y) ** 2, axis=1)))
    assert float(od.wasserstein(x, y[rng.permutation(n)], p=2)) == pytest.approx(expected, rel=1e-10)


def test_permutation_is_free():
    rng = np.random.default_rng(0)
    for d in (1, 2, 3, 6):
        for n in (1, 2, 50, 500):
            x = draw(rng, n, d)
            for metric in METRICS:
                assert float(od.wasserstein(x, x[::-1], p=2, cost=metric)) == 0.0


def test_diracs():
    assert float(od.wasserstein([[0.0, 0.0]], [[3.0, 4.0]])) == 5.0
    assert float(od.wasserstein([[0.0, 0.0]], [[3.0, 4.0]], cost="cityblock")) == 7.0
    assert float(od.wasserstein([[0.0, 0.0]], [[3.0, 4.0]], cost="chebyshev", p=3)) == pytest.approx(4.0, rel=1e-15)
    assert float(od.wasserstein([[2.0, 0.0]], [[0.0, 5.0]], cost="cosine")) == pytest.approx(1.0, rel=1e-15)


@pytest.mark.parametrize("p", [1, 2])
def test_one_coordinate_is_the_quantile_integral(p):
    rng = np.random.default_rng(4)
    u, v = rng.standard_normal(300), rng.standard_normal(300) * 2 + 1
    expected = np.mean(np.abs(np.sort(u) - np.sort(v)) ** p) ** (1 / p)
    assert float(od.wasserstein(u[:, None], v[:, None], p=p)) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("shift", [0.0, 1e3, 1e6])
@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1.0, 1e30, 1e200])
def test_scale_and_shift(scale, shift):
    rng = np.random.default_rng(6)
    x, y = draw(rng, 40, 3), draw(rng, 40, 3) * 2
    for p in (1, 2, 3):
        base = float(od.wasserstein(x, y, p=p))
        found = float(od.wasserstein((x + shift) * scale, (y + shift) * scale, p=p))
        assert found == pytest.approx(base * scale, rel=1e-13 + 1e-15 * shift)


# --- axioms -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS[:3])
@settings(max_examples=60, deadline=None)
@given(n=sizes, m=sizes, d=st.integers(1, 5), p=st.sampled_from([1.0, 1.5, 2.0, 4.0]), seed=seeds)
def test_metric_axioms(metric, n, m, d, p, seed):
    rng = np.random.default_rng(seed)
    x, y, z = draw(rng, n, d), draw(rng, m, d), draw(rng, 5, d)
    a, b, c = weights(rng, n), weights(rng, m), weights(rng, 5)
    w = {"p": p, "cost": metric}
    xy, yx = float(od.wasserstein(x, y, a, b, **w)), float(od.wasserstein(y, x, b, a, **w))
    xz, zy = float(od.wasserstein(x, z, a, c, **w)), float(od.wasserstein(z, y, c, b, **w))
    assert xy > 0
    assert xy == pytest.approx(yx, rel=1e-11)
    assert xy <= (xz + zy) * (1 + 1e-12)
    assert float(od.wasserstein(x, x, a, a, **w)) <= 1e-7 * np.abs(x).max()
    # order: W_1 <= W_p, and splitting an atom changes nothing
    assert float(od.wasserstein(x, y, a, b, cost=metric)) <= xy * (1 + 1e-12)
    halves = np.concatenate([a[:1] / 2, a[:1] / 2, a[1:]])
    split = float(od.wasserstein(np.concatenate([x[:1], x]), y, halves, b, **w))
    assert split == pytest.approx(xy, rel=1e-11)


def test_kantorovich_rubinstein():
    """For a metric on one support f is 1-Lipschitz and g = -f is as good: W_1 = sup of E_a f - E_b f."""
    rng = np.random.default_rng(9)
    for n in (2, 30, 200):
        x = draw(rng, n, 2)
        a, b = weights(rng, n), weights(rng, n)
        D = matrix("euclidean", x, x)
        for costs in (D, od.PointCloud(x, cost="euclidean")):
            result = od.emd(costs, a, b)
            f = result.f
            assert (np.abs(f[:, None] - f[None, :]) <= D + 1e-13).all()
            assert (a - b) @ f == pytest.approx(float(result.value), rel=1e-10)


def test_monotone_in_order_and_bounded_by_sliced_relations():
    rng = np.random.default_rng(12)
    x, y = draw(rng, 80, 2), draw(rng, 80, 2) * 1.5
    values = [float(od.wasserstein(x, y, p=p)) for p in (1, 1.5, 2, 3, 6)]
    assert values == sorted(values)
    assert values[0] >= np.linalg.norm(x.mean(0) - y.mean(0)) * (1 - 1e-12)


# --- gradients --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("p", [1, 1.5, 2, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_gradients_against_differences(metric, p, weighted):
    rng = np.random.default_rng(21)
    x, y = draw(rng, 7, 3), draw(rng, 7 if not weighted else 5, 3)
    a, b = (weights(rng, len(x)), weights(rng, len(y))) if weighted else (None, None)
    numbers = (0, 1, 2, 3) if weighted else (0, 1)
    arguments = [x, y, a, b]
    value, grads = od.value_and_grad(od.wasserstein, numbers)(x, y, a, b, p=p, cost=metric)
    assert value == od.wasserstein(x, y, a, b, p=p, cost=metric)
    for number, grad in zip(numbers, grads, strict=True):
        at = arguments[number]
        assert grad.shape == at.shape
        direction = rng.standard_normal(at.shape)
        if number >= 2:
            direction -= direction.mean()  # masses keep their sum
            assert abs(grad.sum()) < 1e-12
        h = 1e-5
        moved = [[*arguments] for _ in range(4)]
        for k, step in enumerate((h, -h, 2 * h, -2 * h)):
            moved[k][number] = at + step * direction
        up, down, up2, down2 = (float(od.wasserstein(*args, p=p, cost=metric)) for args in moved)
        slope = (8 * (up - down) - (up2 - down2)) / (12 * h)
        assert float(np.sum(grad * direction)) == pytest.approx(slope, rel=1e-8, abs=1e-9)


def test_gradient_by_costs_is_the_plan_and_by_masses_the_potentials():
    rng = np.random.default_rng(2)
    C, a, b = rng.random((6, 4)), weights(rng, 6), weights(rng, 4)
    value, (by_costs, by_a, by_b) = od.value_and_grad(od.emd, (0, 1, 2))(C, a, b)
    result = od.emd(C, a, b)
    assert value == result.value
    np.testing.assert_array_equal(by_costs, result.plan.toarray())
    np.testing.assert_allclose(by_a, result.f - result.f.mean(), atol=1e-16)
    np.testing.assert_allclose(by_b, result.g - result.g.mean(), atol=1e-16)
    dC = rng.standard_normal(C.shape) * 1e-7
    change = float(od.emd(C + dC, a, b).value - od.emd(C - dC, a, b).value)
    assert change == pytest.approx(2 * np.sum(by_costs * dC), rel=1e-7)


def test_gradient_of_a_cloud_is_a_pair():
    rng = np.random.default_rng(3)
    x, y = draw(rng, 6, 2), draw(rng, 6, 2)
    _, (gx, gy) = od.value_and_grad(od.emd)(od.PointCloud(x, y))
    to = od.emd(od.PointCloud(x, y)).assignment
    np.testing.assert_allclose(gx, 2 * (x - y[to]) / 6, rtol=1e-13)
    np.testing.assert_allclose(gy[to], -gx, rtol=1e-13)


def test_gradient_at_zero_distance_is_zero():
    x = np.random.default_rng(0).random((5, 2))
    for p in (1, 2):
        value, (gx, gy) = od.value_and_grad(od.wasserstein, (0, 1))(x, x[::-1], p=p)
        assert value == 0
        assert not gx.any()
        assert not gy.any()


# --- arrays -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_libraries_agree(dtype):
    rng = np.random.default_rng(14)
    x, y = draw(rng, 9, 2).astype(dtype), draw(rng, 9, 2).astype(dtype)
    expected = float(od.wasserstein(x.astype(np.float64), y.astype(np.float64)))
    tolerance = {"float16": 1e-3, "float32": 3e-7, "float64": 1e-14}[dtype]
    for make in (np.asarray, torch.tensor, jax.numpy.asarray):
        if make is jax.numpy.asarray and dtype == "float64":
            continue  # not without the flag
        given_x, given_y = make(x), make(y)
        value, grad = od.value_and_grad(od.wasserstein)(given_x, given_y)
        assert type(value).__module__.split(".")[0] == type(given_x).__module__.split(".")[0]
        assert value.dtype == given_x.dtype
        assert grad.dtype == given_x.dtype
        assert grad.shape == given_x.shape
        assert float(value) == pytest.approx(expected, rel=tolerance)
        result = od.emd(od.PointCloud(given_x, given_y, cost="euclidean"))
        assert type(result.f) is type(given_x)
        assert result.f.dtype == given_x.dtype
        assert type(result.barycentric_map()) is type(given_x)
        assert type(result.apply(given_y)) is type(given_x)


def test_batches_broadcast():
    rng = np.random.default_rng(15)
    x, y, a = draw(rng, 3 * 5, 2).reshape(3, 1, 5, 2), draw(rng, 4 * 6, 2).reshape(4, 6, 2), weights(rng, 5)
    values, (gx, gy, ga) = od.value_and_grad(od.wasserstein, (0, 1, 2))(x, y, a, p=2)
    assert values.shape == (3, 4)
    assert gx.shape == x.shape
    assert gy.shape == y.shape
    assert ga.shape == a.shape
    total = 0.0
    for i in range(3):
        for j in range(4):
            one, grad = od.value_and_grad(od.wasserstein)(x[i, 0], y[j], a, p=2)
            assert values[i, j] == one
            total = total + (grad if i == 1 else 0.0)
    np.testing.assert_allclose(gx[1, 0], total, rtol=1e-13)
    assert od.wasserstein(np.empty((0, 5, 2)), y[0]).shape == (0,)


@pytest.mark.parametrize("layout", ["fortran", "negative", "strided", "read-only", "list", "integers"])
def test_layouts(layout):
    rng = np.random.default_rng(16)
    x, y = rng.integers(0, 50, (8, 3)), rng.integers(0, 50, (8, 3))
    expected = float(od.wasserstein(x.astype(float), y.astype(float)))
    make = {
        "fortran": lambda z: np.asfortranarray(z.astype(float)),
        "negative": lambda z: z.astype(float)[::-1].copy()[::-1],
        "strided": lambda z: np.repeat(z.astype(float), 2, axis=0)[::2],
        "read-only": lambda z: _frozen(z.astype(float)),
        "list": lambda z: z.tolist(),
        "integers": lambda z: z,
    }[layout]
    given_x, given_y = make(x), make(y)
    before = np.array(given_x)
    assert float(od.wasserstein(given_x, given_y)) == expected
    C = matrix("euclidean", x, y)
    costs = C if layout in ("integers", "list") else make(C)
    assert float(od.emd(costs).value) == pytest.approx(expected, rel=1e-12)
    np.testing.assert_array_equal(before, given_x)


def _frozen(z):
    z.flags.writeable = False
    return z


def test_threads_do_not_change_a_bit():
    from otdist.kernels import threads

    found = {}
    try:
        for count in (1, 2, 3):
            threads.set_thread_count(count)
            for d in (2, 9):
                x, y = np.random.default_rng(d).random((2, 1500, d))
                for w in (None, weights(np.random.default_rng(1), 1500)):
                    result = od.emd(od.PointCloud(x, y), w)
                    key = (d, w is None)
                    state = (result.value, result.f.tobytes(), result.cols.tobytes())
                    assert found.setdefault(key, state) == state
    finally:
        threads.set_thread_count(None)
