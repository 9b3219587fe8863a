"""Kernel sums over pairs against the formulas of the kernels, written out with SciPy's distances."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import cdist

import otdist as od
from otdist._expression import Product, Sum
from otdist.kernels import gram, threads

Array = np.ndarray[Any, Any]


def matern(r: Array, nu: float) -> Array:
    return {0.5: 1.0, 1.5: 1.0 + r, 2.5: 1.0 + r + r * r / 3}[nu] * np.exp(-r)


def formula(k: Any, x: Array, y: Array) -> Array:
    """The Gram matrix by definition, float64."""
    if isinstance(k, (Sum, Product)):
        both = formula(k.left, x, y), formula(k.right, x, y)
        return both[0] + both[1] if isinstance(k, Sum) else both[0] * both[1]
    if isinstance(k, od.Constant):
        return np.full((len(x), len(y)), k.c)
    if isinstance(k, od.Polynomial):
        return (x @ y.T * (1 / x.shape[1] if k.gamma is None else k.gamma) + k.coef0) ** k.degree
    if isinstance(k, od.Linear):
        return x @ y.T
    if isinstance(k, od.Energy):
        return -(cdist(x, y) ** k.exponent)
    c, total = cdist(x, y, k.cost), np.zeros((len(x), len(y)))
    for s in np.atleast_1d(k.bandwidth):
        total += {
            "Gaussian": lambda s: np.exp(-c / (2 * s * s)),
            "Laplacian": lambda s: np.exp(-c / s),
            "IMQ": lambda s: (1 + c / s**2) ** -k.power,
            "RationalQuadratic": lambda s: (1 + c / (2 * k.alpha * s**2)) ** -k.alpha,
            "Matern": lambda s: matern(np.sqrt(2 * k.nu) * c / s, k.nu),
        }[type(k).__name__](s)
    return total


KERNELS = [
    od.Gaussian(2.0),
    od.Gaussian((0.7, 3.0)),
    od.Gaussian(1.0, cost="cosine"),
    od.Laplacian(2.0),
    od.Laplacian(2.0, cost="euclidean"),
    od.IMQ(2.0),
    od.IMQ(2.0, power=1),
    od.RationalQuadratic(1.5, alpha=2.3),
    od.Matern(2.0, nu=0.5),
    od.Matern(2.0, nu=2.5),
    od.Polynomial(),
    od.Linear(),
    od.Energy(),
    od.Energy(1.5),
    2 * od.Gaussian(2.0) * od.Laplacian(9.0) + 0.1 * od.Linear() + od.Gaussian(1.0, cost="cosine"),
]


def samples(n: int, m: int, d: int, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((n, d)), 1.2 * rng.standard_normal((m, d)) + 0.3
    x[1], y[2] = x[0], x[3]
    return x, y


# 3 coordinates: differences; 300 points of 70: matrix products
@pytest.mark.parametrize("kernel", KERNELS, ids=str)
@pytest.mark.parametrize(("n", "m", "d"), [(20, 15, 3), (300, 290, 70)])
def test_blocks_and_products(kernel: Any, n: int, m: int, d: int) -> None:
    x, y = samples(n, m, d)
    K, V, tag = formula(kernel, x, y), np.random.default_rng(1).standard_normal((m, 2)), kernel.tag(d)
    scale = np.abs(K).max()
    np.testing.assert_allclose(kernel(x, y), K, rtol=1e-12, atol=1e-13 * scale)
    np.testing.assert_allclose(gram.apply(tag, x, y, V), K @ V, rtol=0, atol=1e-12 * scale * m)
    np.testing.assert_allclose(kernel(x.astype("f4"), y.astype("f4")), K, rtol=0, atol=2e-6 * scale)


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
@pytest.mark.parametrize("weighted", [False, True])
def test_estimators(kernel: Any, weighted: bool) -> None:
    x, y = samples(12, 9, 4)
    a, b = (np.random.default_rng(n).random(n) if weighted else np.ones(n) for n in (12, 9))
    a, b = a / a.sum(), b / b.sum()
    xx, xy, yy = formula(kernel, x, x), formula(kernel, x, y), formula(kernel, y, y)
    options = {"x_weights": a, "y_weights": b} if weighted else {}
    scale = np.abs(yy).max()
    biased = a @ xx @ a - 2 * a @ xy @ b + b @ yy @ b
    assert od.mmd(x, y, kernel=kernel, **options) == pytest.approx(biased, rel=1e-10, abs=1e-13 * scale)
    within = [(w @ k @ w - w**2 @ np.diag(k)) / (1 - w @ w) for w, k in ((a, xx), (b, yy))]
    unbiased = sum(within) - 2 * a @ xy @ b
    got = od.mmd(x, y, kernel=kernel, estimator="unbiased", **options)
    assert got == pytest.approx(unbiased, rel=1e-10, abs=1e-12 * scale)


def slope(f: Any, a: Array, step: float = 1e-5) -> Array:
    g = np.zeros_like(a)
    for i in np.ndindex(*a.shape):
        up, down = a.copy(), a.copy()
        up[i] += step
        down[i] -= step
        g[i] = (f(up) - f(down)) / (2 * step)
    return g


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
@pytest.mark.parametrize("options", [{}, {"estimator": "unbiased"}, {"squared": False}], ids=str)
def test_gradients(kernel: Any, options: dict[str, Any]) -> None:
    x, y = (a[4:] for a in samples(10, 11, 3))
    if options.get("squared") is False and kernel == od.Linear():
        x = x + 1.0
    _, (gx, gy) = od.value_and_grad(od.mmd, (0, 1))(x, y, kernel=kernel, **options)
    for g, want in (
        (gx, slope(lambda a: od.mmd(a, y, kernel=kernel, **options), x)),
        (gy, slope(lambda a: od.mmd(x, a, kernel=kernel, **options), y)),
    ):
        np.testing.assert_allclose(g, want, rtol=0, atol=3e-8 * max(np.abs(want).max(), 1e-3))


def test_gradients_of_products_are_those_of_differences() -> None:
    x, y = samples(300, 310, 70)
    for kernel in KERNELS:
        q = gram.quadratic(kernel.tag(70), x[None], y[None], factors=(1.0, -2.0, 1.0), ends=(1.0, 1.0), row_sums=True)
        few = np.r_[:4, 300:304]
        parts = [a[None] for a in (x[few[:4]], y[few[4:] - 300])]
        small = gram.quadratic(kernel.tag(70), *parts, factors=(1.0, -2.0, 1.0), ends=(1.0, 1.0))
        z, rest = np.concatenate([x, y]), np.setdiff1d(np.arange(610), few)
        sign = np.repeat([1.0, -1.0], [300, 310])
        far = np.zeros((8, 70))  # by central differences of the formula in each coordinate of few points
        for at in range(0, 70, 23):
            step = np.zeros(70)
            step[at] = 1e-5
            up, down = (formula(kernel, z[few] + s * step, z[rest]) @ sign[rest] for s in (1, -1))
            far[:, at] = 2 * sign[few] * (up - down) / 2e-5
        assert q.gradient is not None
        assert small.gradient is not None
        got, want = (q.gradient[0][few])[:, ::23], (small.gradient[0] + far)[:, ::23]
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-6 * np.abs(want).max())


def test_coincident_points_pull_nothing() -> None:
    x = np.zeros((3, 2))
    for kernel in ("gaussian", "energy", "laplacian", "imq", od.Matern(1.0, nu=0.5)):
        value, (gx, gy) = od.value_and_grad(od.mmd, (0, 1))(x, x, kernel=kernel, bandwidth=1.0)
        assert value == 0
        assert not gx.any()
        assert not gy.any()


@pytest.mark.parametrize("spread", [1.0, 1e-3, 1e-6])
def test_close_pairs_are_right_in_float32(spread: float) -> None:
    """Two far clusters: within one, a product would have no digit left."""
    rng = np.random.default_rng(3)
    x = (np.repeat([[3.0], [-3.0]], 150, axis=0) + spread * rng.standard_normal((300, 64))).astype("f4")
    kernel = od.Laplacian(8 * spread, cost="euclidean")
    want = formula(kernel, x.astype(float), x.astype(float))
    np.testing.assert_allclose(kernel(x), want, rtol=0, atol=2e-4 if spread < 1e-5 else 2e-6)


@pytest.mark.parametrize("d", [3, 64])
def test_float32_is_right_to_1e5(d: int) -> None:
    rng = np.random.default_rng(d)
    x, y = (rng.standard_normal((1100, d)).astype("f4") for _ in range(2))
    for offset in (np.float32(0), np.float32(1e4)):
        for kernel in ("gaussian", "energy", "laplacian"):
            a, b = x + offset, y + offset
            exact = od.mmd(a.astype(float), b.astype(float), kernel=kernel, bandwidth=2.0 * d**0.5)
            assert od.mmd(a, b, kernel=kernel, bandwidth=2.0 * d**0.5) == pytest.approx(exact, rel=1e-5)


def test_a_batch_is_its_elements() -> None:
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((3, 1, 10, 2)), rng.standard_normal((2, 8, 2))
    value, (gx, gy) = od.value_and_grad(od.mmd, (0, 1))(x, y)
    assert value.shape == (3, 2)
    sums = np.zeros_like(x), np.zeros_like(y)
    for i, j in np.ndindex(3, 2):
        one, (a, b) = od.value_and_grad(od.mmd, (0, 1))(x[i, 0], y[j])
        assert value[i, j] == one
        sums[0][i, 0] += a
        sums[1][j] += b
    np.testing.assert_allclose(gx, sums[0], rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(gy, sums[1], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("d", [3, 64])
def test_no_bit_depends_on_the_threads(d: int) -> None:
    x, y = (a.astype("f4") for a in samples(2500, 2200, d))
    found = []
    try:
        for count in (1, 2, 5):
            threads.set_thread_count(count)
            found.append(od.value_and_grad(od.mmd, (0, 1))(x, y, bandwidth=3.0))
    finally:
        threads.set_thread_count(None)
    for value, (gx, gy) in found[1:]:
        assert value == found[0][0]
        assert np.array_equal(gx, found[0][1][0])
        assert np.array_equal(gy, found[0][1][1])


def test_linear_and_block() -> None:
    x, y = (a[:11] for a in samples(11, 11, 2))
    kernel = od.Gaussian(1.0)
    xx, xy, yy = formula(kernel, x, x), formula(kernel, x, y), formula(kernel, y, y)
    h = [xx[i, i + 1] + yy[i, i + 1] - xy[i, i + 1] - xy[i + 1, i] for i in range(0, 10, 2)]
    assert od.mmd(x, y, kernel=kernel, estimator="linear") == pytest.approx(np.mean(h))
    blocks = [od.mmd(x[s : s + 3], y[s : s + 3], kernel=kernel, estimator="unbiased") for s in (0, 3, 6)]
    assert od.mmd(x, y, kernel=kernel, estimator="block") == pytest.approx(np.mean(blocks))


def test_witness_and_weights() -> None:
    x, y = samples(14, 9, 3)
    a = np.full(14, 1 / 14)
    _, g = od.value_and_grad(od.mmd, 2)(x, y, bandwidth=1.0, x_weights=a)
    np.testing.assert_allclose(g, 2 * od.witness(x, y, x, bandwidth=1.0), rtol=1e-10, atol=1e-14)


BAD: list[tuple[str, Any]] = [
    ("x: found shape", lambda x: od.mmd(x[:, 0], x)),
    ("x and y: found 3 and 2", lambda x: od.mmd(x, x[:, :2])),
    ("y: found nan", lambda x: od.mmd(x, x * np.nan)),
    ("kernel: found 'gausian'.*'gaussian'", lambda x: od.mmd(x, x, kernel="gausian")),
    ("bandwidth: found 'mean'", lambda x: od.mmd(x, x, bandwidth="mean")),
    ("bandwidth: found -1", lambda x: od.mmd(x, x, bandwidth=-1)),
    ("x_weights: found weights with sum 6", lambda x: od.mmd(x, x, x_weights=np.ones(6))),
    ("x_weights: found shape", lambda x: od.mmd(x, x, x_weights=np.ones(5) / 5)),
    ("x: found a zero vector", lambda x: od.mmd(0 * x, x, kernel=od.Gaussian(1.0, cost="cosine"))),
    ("squared: found False", lambda x: od.mmd(x, x, estimator="unbiased", squared=False, bandwidth=1.0)),
    ("block_size: found 3", lambda x: od.mmd(x, x, block_size=3)),
    ("estimator: found", lambda x: od.mmd(x, x[:1], estimator="unbiased")),
    ("exponent: found 3", lambda x: od.energy_distance(x, x, exponent=3)),
    ("bandwidth: found None", lambda x: od.Gaussian()(x)),
]


@pytest.mark.parametrize(("message", "call"), BAD, ids=[m for m, _ in BAD])
def test_errors_name_the_argument(message: str, call: Any) -> None:
    with pytest.raises(ValueError, match=message):
        call(np.random.default_rng(0).standard_normal((6, 3)))
