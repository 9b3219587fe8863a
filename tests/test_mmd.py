"""Distances between samples against their definitions in extended precision, closed forms and peers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats
from numpy.polynomial import hermite_e
from sklearn.metrics import pairwise as sk

import otdist as od
from otdist.reference import discrepancy as reference
from tests.sample_cases import (
    COMBINATION_IDS,
    COMBINATIONS,
    DTYPES,
    FAMILIES,
    KERNELS,
    RTOL,
    KernelCase,
    Samples,
    draw,
    exactly,
    ids,
    options,
    samples,
    simplex,
    slack,
)
from tests.test_mmd_reference import DCOR, FIXED_X, FIXED_Y, GEOMLOSS

ULPS = 64  # of the float64 numbers whose sums cancel


def wrong(got: Any, want: Any, dtype: str, room: Any = 0.0) -> str:
    """Nothing if ``got`` has the dtype and is as near ``want`` as stated, else a sentence."""
    if np.asarray(got).dtype != dtype:
        return f"dtype {np.asarray(got).dtype}"
    allowed = RTOL[dtype] * np.abs(want) + room + float(np.finfo(dtype).tiny)
    miss = np.abs(np.asarray(got, np.float64) - want)
    return (
        ""
        if np.all(miss <= allowed)
        else f"got {got!r}, expected {want!r}: off {np.max(miss / allowed):.3g} times too far"
    )


# -- definitions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("k", KERNELS, ids=ids)
def test_biased(k: KernelCase, family: str, dtype: str) -> None:
    """float32 samples get the answer of float64 on the same numbers to 1e-5, however the parts cancel."""
    found = []
    for s in samples(family, dtype):
        got = od.mmd(s.x, s.y, kernel=k.make(), **options(s))
        want = exactly(reference.mmd, k.gram, s.x, s.y, s.a, s.b)
        problem = wrong(got, want, dtype, slack(k.gram, s, "float64", ULPS))
        found += [f"{s.label}: {problem}"] if problem else []
    assert found == []


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("k", "family"), COMBINATIONS, ids=COMBINATION_IDS)
def test_unbiased(k: KernelCase, family: str, dtype: str) -> None:
    """It crosses zero, so float32 is judged by the size of what cancels."""
    found = []
    for s in samples(family, dtype):
        if min(len(s.x), len(s.y)) < 2:
            continue
        got = od.mmd(s.x, s.y, kernel=k.make(), estimator="unbiased", **options(s))
        want = exactly(reference.mmd_unbiased, k.gram, s.x, s.y, s.a, s.b)
        problem = wrong(got, want, dtype, slack(k.gram, s, "float64", ULPS) + slack(k.gram, s, dtype, 2))
        found += [f"{s.label}: {problem}"] if problem else []
    assert found == []


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [2, 3, 8, 9, 64, 201])
@pytest.mark.parametrize("k", KERNELS, ids=ids)
def test_linear_and_block(k: KernelCase, n: int, dtype: str) -> None:
    rng = np.random.default_rng(63)
    for d in (1, 3, 20):
        x, y = draw(rng, n, d, dtype), draw(rng, n, d, dtype, 0.5)
        room = slack(k.gram, Samples("", x, y), dtype, 4)
        got = od.mmd(x, y, kernel=k.make(), estimator="linear")
        assert not wrong(got, exactly(reference.mmd_linear, k.gram, x, y), dtype, room)
        for size in {2, max(2, math.isqrt(n)), n // 2, n} - {0, 1}:
            got = od.mmd(x, y, kernel=k.make(), estimator="block", block_size=size)
            want = exactly(reference.mmd_block, k.gram, x, y, block_size=size)
            assert not wrong(got, want, dtype, room), size
        if n >= 4:
            got = od.mmd(x, y, kernel=k.make(), estimator="block")
            want = exactly(reference.mmd_block, k.gram, x, y, block_size=math.isqrt(n))
            assert not wrong(got, want, dtype, room)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("exponent", [0.3, 1.0, 1.7])
def test_energy_distance(exponent: float, family: str, dtype: str) -> None:
    found = []
    for s in samples(family, dtype):
        got = od.energy_distance(s.x, s.y, exponent=exponent, **options(s))
        want = exactly(
            lambda e, x, y, a, b, xp: reference.energy_distance(x, y, e, a, b, xp=xp), exponent, s.x, s.y, s.a, s.b
        )
        problem = wrong(got, want, dtype, slack(reference.energy(exponent), s, "float64", ULPS))
        found += [f"{s.label}: {problem}"] if problem else []
    assert found == []


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", KERNELS, ids=ids)
def test_witness(k: KernelCase, dtype: str) -> None:
    rng = np.random.default_rng(64)
    for s in [*samples("shapes", dtype), *samples("weighted", dtype), *samples("duplicates", dtype)]:
        at = np.concatenate([s.x[:2], draw(rng, 5, s.x.shape[1], dtype)])
        got = od.witness(s.x, s.y, at, kernel=k.make(), **options(s))
        want = exactly(reference.witness, k.gram, s.x, s.y, at, s.a, s.b)
        size = exactly(
            lambda g, x, y, t, a, b, xp: reference.witness(
                lambda u, v, xp=xp: xp.abs(g(u, v, xp=xp)), x, y, t, a, -reference.weights(y, b), xp=xp
            ),
            *(k.gram, s.x, s.y, at, s.a, s.b),
        )
        assert got.shape == (len(at),)
        assert not wrong(got, want, dtype, 8 * float(np.finfo(dtype).eps) * size), s.label


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [k for k in KERNELS if k.id not in ("gmmn", "wae")], ids=ids)
def test_gram_matrices(k: KernelCase, dtype: str) -> None:
    for s in [*samples("shapes", dtype), *samples("duplicates", dtype)]:
        got = k.make()(s.x, s.y)
        want = exactly(lambda gram, x, y, xp: gram(x, y, xp=xp), k.gram, s.x, s.y)
        assert got.dtype == dtype
        eps, size = float(np.finfo(dtype).eps), np.abs(want).max()
        if k.characteristic and not k.conditional and k.id != "nested":  # an exponent is known to eps of its size
            size = np.abs(want) * (1 + np.log1p(np.abs(k.gram(s.x, s.x)).max() / np.maximum(np.abs(want), 1e-300)))
        if k.id == "product":
            size = size * (1 + np.abs(np.log(size)))
        allowed = 32 * eps * size + 8 * float(np.finfo(dtype).tiny)
        assert np.all(np.abs(got - want) <= allowed), s.label
        np.testing.assert_array_equal(k.make()(s.x), k.make()(s.x).T)


@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
def test_the_root(estimator: str) -> None:
    rng = np.random.default_rng(65)
    x, y = draw(rng, 20, 3), draw(rng, 30, 3, shift=1.0)
    for given in ({}, {"x_weights": simplex(rng, 20)}):
        square = od.mmd(x, y, kernel=od.Gaussian(1.5), estimator=estimator, **given)
        root = od.mmd(x, y, kernel=od.Gaussian(1.5), estimator=estimator, squared=False, **given)
        assert root == pytest.approx(math.sqrt(square), rel=1e-14)
    assert od.energy_distance(x, y, squared=False) == pytest.approx(math.sqrt(od.energy_distance(x, y)), rel=1e-14)


def test_unbiased_is_negative_at_times_and_never_clamped() -> None:
    values = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x, y = draw(rng, 10, 2), draw(rng, 12, 2)
        values.append(od.mmd(x, y, kernel=od.Gaussian(1.0), estimator="unbiased"))
        if values[-1] < 0:
            with pytest.raises(ValueError, match="squared=True"):
                od.mmd(x, y, kernel=od.Gaussian(1.0), estimator="unbiased", squared=False)
    assert min(values) < -0.01
    assert max(values) > 0.01


# -- closed forms -------------------------------------------------------------------------------------------


def hermite(mean: Any, scale: float, nodes: int = 40) -> tuple[Any, Any]:
    """Points and weights that integrate smooth functions against N(mean, scale² I) to machine precision."""
    t, w = hermite_e.hermegauss(nodes)
    d = len(mean)
    points = np.stack(np.meshgrid(*[t] * d, indexing="ij"), -1).reshape(-1, d)
    mass = np.prod(np.stack(np.meshgrid(*[w] * d, indexing="ij"), -1).reshape(-1, d), -1)
    kept = mass > 1e-17 * mass.max()
    return scale * points[kept] + mean, mass[kept] / mass[kept].sum()


@pytest.mark.parametrize("mean", [[0.7], [1.0, -0.4]])
@pytest.mark.parametrize(("s", "tau"), [(1.5, 1.0), (0.8, 0.5), (4.0, 1.0)])
def test_gaussians_by_quadrature(mean: list[float], s: float, tau: float) -> None:
    """2 (s²/(s²+2τ²))^(d/2) (1 - exp(-‖μ‖²/2(s²+2τ²))), exactly, and the witness."""
    mu, d = np.array(mean), len(mean)
    (x, a), (y, b) = hermite(0 * mu, tau), hermite(mu, tau)
    got = od.mmd(x, y, kernel=od.Gaussian(s), x_weights=a, y_weights=b)
    v = s**2 + 2 * tau**2
    want = 2 * (s**2 / v) ** (d / 2) * -math.expm1(-np.sum(mu**2) / (2 * v))
    assert got == pytest.approx(want, rel=1e-9)
    at = np.linspace(-1, 2, 5)[:, None] + 0 * mu
    v = s**2 + tau**2
    bells = [np.exp(-np.sum((at - m) ** 2, -1) / (2 * v)) for m in (0 * mu, mu)]
    want = (s**2 / v) ** (d / 2) * (bells[0] - bells[1])
    got = od.witness(x, y, at, kernel=od.Gaussian(s), x_weights=a, y_weights=b)
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("d", [1, 5, 20])
def test_gaussian_samples_estimate_it(d: int) -> None:
    n, s, mu = 1500, math.sqrt(d), 0.5
    rng = np.random.default_rng(66)
    x, y = draw(rng, n, d), draw(rng, n, d, shift=mu)
    v = s**2 + 2
    want = 2 * (s**2 / v) ** (d / 2) * -math.expm1(-d * mu**2 / (2 * v))
    values = [od.mmd(x[i::10], y[i::10], kernel=od.Gaussian(s), estimator="unbiased") for i in range(10)]
    assert abs(np.mean(values) - want) < 4 * scipy.stats.sem(values)
    assert od.mmd(x, y, kernel=od.Gaussian(s), estimator="unbiased") == pytest.approx(want, rel=0.3)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [1, 2, 9, 64])
def test_two_diracs(d: int, dtype: str) -> None:
    """k(x, x) + k(y, y) - 2 k(x, y), whatever the number of copies."""
    for distance in (1e-3, 0.5, 3.0, 1e3):
        x, y = np.ones((1, d), dtype), np.ones((1, d), dtype)
        y[0, 0] += distance
        moved = float(y[0, 0]) - 1.0
        for n, m in ((1, 1), (3, 1), (2, 20)):
            xs, ys = np.repeat(x, n, 0), np.repeat(y, m, 0)
            gaussian = -2 * math.expm1(-(moved**2) / 4.5)
            laplacian = -2 * math.expm1(-moved / 1.5)
            assert od.mmd(xs, ys, kernel=od.Gaussian(1.5)) == pytest.approx(gaussian, rel=RTOL[dtype], abs=1e-15)
            assert od.mmd(xs, ys, kernel=od.Laplacian(1.5)) == pytest.approx(laplacian, rel=RTOL[dtype], abs=1e-15)
            assert od.energy_distance(xs, ys) == pytest.approx(2 * moved, rel=RTOL[dtype])


@pytest.mark.parametrize("shift", [0.0, 1e4])
def test_moments(shift: float) -> None:
    """Linear and quadratic kernels see means and second moments only."""
    rng = np.random.default_rng(67)
    x, y = draw(rng, 30, 4, shift=shift), draw(rng, 20, 4, shift=shift + 0.5)
    means = np.sum((x.mean(0) - y.mean(0)) ** 2)
    room = 64 * 2.0**-52 * 4 * shift**2  # inner products are not centred
    assert od.mmd(x, y, kernel=od.Linear()) == pytest.approx(means, rel=1e-9, abs=room)
    assert od.mmd(x, y, kernel=od.Energy(2.0)) == pytest.approx(2 * means, rel=1e-9)
    assert od.energy_distance(x, y, exponent=2) == pytest.approx(2 * means, rel=1e-9)
    seconds = np.sum((x.T @ x / 30 - y.T @ y / 20) ** 2)
    want = 0.09 * seconds + 2 * 0.3 * 0.5 * means
    assert od.mmd(x, y, kernel=od.Polynomial(2, 0.3, 0.5)) == pytest.approx(want, rel=1e-9 if not shift else 1e-5)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n", [2, 30, 1000])
def test_energy_in_one_dimension(n: int, weighted: bool) -> None:
    """2 ∫ (F - G)²: the distance of the distribution functions, and scipy's squared."""
    rng = np.random.default_rng(68)
    x, y = np.round(rng.normal(size=n), 2), np.round(rng.normal(0.3, 2, n + 7), 2)
    a, b = (simplex(rng, len(z)) if weighted else np.full(len(z), 1 / len(z)) for z in (x, y))
    at = np.unique(np.concatenate([x, y]))
    F, G = (np.array([w[z <= t].sum() for t in at]) for z, w in ((x, a), (y, b)))
    want = 2 * np.sum(((F - G) ** 2)[:-1] * np.diff(at))
    given = {"x_weights": a, "y_weights": b} if weighted else {}
    got = od.energy_distance(x[:, None], y[:, None], **given)
    assert got == pytest.approx(want, rel=1e-12)
    scipys = scipy.stats.energy_distance(x, y, a, b)
    assert od.energy_distance(x[:, None], y[:, None], squared=False, **given) == pytest.approx(scipys, rel=1e-10)


# -- peers --------------------------------------------------------------------------------------------------


def test_peers() -> None:
    """dcor (energy), GeomLoss (half of it, with Gaussians) and scikit-learn, on the same samples."""
    for exponent, want in DCOR.items():
        assert od.energy_distance(FIXED_X, FIXED_Y, exponent=exponent) == pytest.approx(want, rel=1e-12)
        assert od.mmd(FIXED_X, FIXED_Y, kernel=od.Energy(exponent)) == pytest.approx(want, rel=1e-12)
    assert od.mmd(FIXED_X, FIXED_Y, kernel=od.Gaussian(0.7)) == pytest.approx(2 * GEOMLOSS["gaussian"], rel=1e-12)
    for kernel_, gram in (
        (od.Gaussian(0.7), lambda u, v: sk.rbf_kernel(u, v, 1 / 0.98)),
        (od.Laplacian(0.7), lambda u, v: sk.laplacian_kernel(u, v, 1 / 0.7)),
        (od.Polynomial(), sk.polynomial_kernel),
        (od.Linear(), sk.linear_kernel),
    ):
        Kxx, Kyy, Kxy = gram(FIXED_X, FIXED_X), gram(FIXED_Y, FIXED_Y), gram(FIXED_X, FIXED_Y)
        want = Kxx.mean() + Kyy.mean() - 2 * Kxy.mean()
        assert od.mmd(FIXED_X, FIXED_Y, kernel=kernel_) == pytest.approx(want, rel=1e-11)
        np.testing.assert_allclose(kernel_(FIXED_X, FIXED_Y), Kxy, rtol=1e-13)


def test_an_offset_does_not_hide_the_distance() -> None:
    """FIELD: float32 clouds at +1000 come out 0.4 off by expanding ‖x‖² + ‖y‖² - 2⟨x, y⟩."""
    rng = np.random.default_rng(69)
    x, y = draw(rng, 50, 64, "float32", 1000.0), draw(rng, 50, 64, "float32", 1000.0)
    got = od.Gaussian(8.0)(x, y)
    want = np.exp(-scipy.spatial.distance.cdist(x.astype(float), y.astype(float), "sqeuclidean") / 128)
    np.testing.assert_allclose(got, want, rtol=1e-5)
