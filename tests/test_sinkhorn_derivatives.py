"""Derivatives of an entropic solution, at the front door: against differences of the solution itself."""

import numpy as np
import pytest

import otdist as od

STEP = 3e-5


def problem(seed=0, n=7, m=5, d=2, zeros=False):
    rng = np.random.default_rng(seed)
    a, b = rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(m))
    if zeros:
        a[2], b[1] = 0.0, 0.0
        a, b = a / a.sum(), b / b.sum()
    return rng, rng.standard_normal((n, d)), rng.standard_normal((m, d)), a, b


def difference(function, at, direction):
    return (function(at + STEP * direction) - function(at - STEP * direction)) / (2.0 * STEP)


@pytest.mark.parametrize("rho", [None, 0.7, (None, 1.3)])
@pytest.mark.parametrize("total", [1.0, 3.0])
@pytest.mark.parametrize("zeros", [False, True])
def test_functions_of_the_plan(rho, total, zeros):
    rng, x, y, a, b = problem(zeros=zeros)
    a, b = total * a, total * b
    W, w = rng.standard_normal((7, 5)), rng.standard_normal(5) * (b > 0)
    w -= w.sum() / np.count_nonzero(b) * (b > 0)  # what is added to f and taken from g changes nothing

    def solve(x=x, y=y, a=a):
        return od.sinkhorn(od.PointCloud(x, y), a, b, epsilon=0.4, rho=rho, tol=1e-15, on_fail="ignore")

    def value(**moved):
        r = solve(**moved)
        return 2.0 * r.linear + np.sum(r.plan * W) + r.g @ w

    pulled = solve().vjp(linear=2.0, plan=W, g=w)
    for name, at in (("x", x), ("y", y), ("a", a)):
        v = rng.standard_normal(at.shape)
        if name == "a":
            v *= a
            v -= a * v.sum() / a.sum()
        slope = difference(lambda moved, name=name: value(**{name: moved}), at, v)
        assert np.sum(getattr(pulled, name) * v) == pytest.approx(slope, rel=2e-7, abs=1e-8), name


def test_a_matrix_and_its_second_derivative():
    rng, x, y, a, b = problem(1)
    C = ((x[:, None] - y) ** 2).sum(-1)
    W, V = rng.standard_normal(C.shape), rng.standard_normal(C.shape)

    def solve(C):
        return od.sinkhorn(C, a, b, epsilon=0.4, tol=1e-13, on_fail="ignore")

    slope = difference(lambda C: float(np.sum(solve(C).plan * W)), C, V)
    assert np.sum(solve(C).vjp(plan=W).costs * V) == pytest.approx(slope, rel=1e-7)
    second = solve(C).hvp(costs=V)
    np.testing.assert_allclose(second.costs, difference(lambda C: solve(C).plan, C, V), atol=1e-9)
    assert second.x is None


@pytest.mark.parametrize("zeros", [False, True])
def test_second_derivatives_by_points(zeros):
    rng, x, y, a, b = problem(2, zeros=zeros)
    v = rng.standard_normal(x.shape)

    def forces(x):
        cloud = od.PointCloud(x, y)
        return np.concatenate(
            od.sinkhorn(cloud, 3 * a, 3 * b, epsilon=0.4, tol=1e-13, on_fail="ignore").point_gradients()
        )

    moved = od.sinkhorn(od.PointCloud(x, y), 3 * a, 3 * b, epsilon=0.4, tol=1e-13, on_fail="ignore").hvp(x=v)
    np.testing.assert_allclose(np.concatenate([moved.x, moved.y]), difference(forces, x, v), atol=1e-7)


def test_batches():
    rng, _, y, _, _ = problem(3)
    x = rng.standard_normal((2, 3, 7, 2))
    r = od.sinkhorn(od.PointCloud(x, y), epsilon=0.5, tol=1e-11)
    pulled = r.vjp(linear=np.ones((2, 3)))
    assert pulled.x.shape == x.shape
    for k in np.ndindex(2, 3):
        one = od.sinkhorn(od.PointCloud(x[k], y), epsilon=0.5, tol=1e-11).vjp(linear=1.0)
        np.testing.assert_allclose(pulled.x[k], one.x, atol=1e-8)
    assert r.barycentric_map().shape == x.shape


def test_wasserstein_by_sinkhorn():
    rng, x, y, a, b = problem(4)
    options = {"method": "sinkhorn", "epsilon": 0.3, "p": 2.0}
    value, grads = od.value_and_grad(od.wasserstein, (0, 1, 2, 3))(x, y, a, b, tol=1e-12, on_fail="ignore", **options)
    assert value > od.wasserstein(x, y, a, b, p=2.0)
    for number, at in enumerate((x, y)):
        v = rng.standard_normal(at.shape)

        def moved(at, number=number):
            points = [x, y]
            points[number] = at
            return od.wasserstein(*points, a, b, tol=1e-12, on_fail="ignore", **options)

        assert np.sum(grads[number] * v) == pytest.approx(difference(moved, at, v), rel=1e-6)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda r: r.vjp(), "f, g, linear, plan: found none"),
        (lambda r: r.vjp(f=np.zeros(3)), "f: found shape"),
        (lambda r: r.hvp(x=np.zeros((7, 2))), "x: this result has no x"),
        (lambda r: r.hvp(costs="wide"), "costs"),
    ],
)
def test_refused(call, named):
    result = od.sinkhorn(np.eye(7), epsilon=0.5)
    with pytest.raises((ValueError, TypeError), match=named):
        call(result)


def test_exact_plans_have_none():
    with pytest.raises(ValueError, match="exact plan"):
        od.emd(np.eye(3)).vjp(linear=1.0)
