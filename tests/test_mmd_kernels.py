"""Kernels as objects: by name, their algebra, their bandwidths from data, what they say of themselves; and KID."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scipy.stats

import otdist as od
from otdist.reference import discrepancy as reference
from tests.sample_cases import KERNELS, KernelCase, draw, exactly, ids, kernel


def test_string_kernels() -> None:
    rng = np.random.default_rng(70)
    x, y = draw(rng, 15, 3), draw(rng, 12, 3, shift=1.0)
    for name, case in (
        ("gaussian", "gaussian"),
        ("laplacian", "laplacian"),
        ("imq", "imq"),
        ("rational_quadratic", "rational quadratic"),
        ("matern", "matern 3/2"),
        ("polynomial", "polynomial"),
        ("linear", "linear"),
        ("energy", "energy"),
        ("gmmn", "gmmn"),
        ("wae", "wae"),
    ):
        given = {} if name in ("polynomial", "linear", "energy", "gmmn", "wae") else {"bandwidth": 1.5}
        want = exactly(reference.mmd, kernel(case).gram, x, y)
        assert od.mmd(x, y, kernel=name, **given) == pytest.approx(float(want), rel=1e-12), name


def test_several_bandwidths_are_a_sum() -> None:
    rng = np.random.default_rng(71)
    x, y = draw(rng, 15, 3), draw(rng, 12, 3, shift=1.0)
    for make in (od.Gaussian, od.Laplacian, od.IMQ, od.RationalQuadratic, od.Matern):
        parts = [od.mmd(x, y, kernel=make(s)) for s in (0.5, 2.0, 8.0)]
        together = sum(parts)
        assert od.mmd(x, y, kernel=make((0.5, 2.0, 8.0))) == pytest.approx(together, rel=1e-13)
        assert od.mmd(x, y, kernel=make(), bandwidth=(0.5, 2.0, 8.0)) == pytest.approx(together, rel=1e-13)
        assert od.mmd(x, y, kernel=make(2.0)) == od.mmd(x, y, kernel=make(), bandwidth=2.0)


def test_algebra_of_kernels_is_that_of_gram_matrices() -> None:
    rng = np.random.default_rng(72)
    x, y = draw(rng, 9, 3), draw(rng, 8, 3)
    simple = [k.make() for k in KERNELS if k.id in ("gaussian", "laplacian", "imq", "polynomial", "linear", "energy")]
    for one in simple:
        for other in simple:
            np.testing.assert_allclose((one + other)(x, y), one(x, y) + other(x, y), rtol=1e-13, atol=1e-13)
            if "conditional" not in (one.definite, other.definite):
                np.testing.assert_allclose((one * other)(x, y), one(x, y) * other(x, y), rtol=1e-13, atol=1e-13)
        for changed in (one * 2.5, 2.5 * one, np.float64(2.5) * one, one * np.float32(2.5)):
            np.testing.assert_allclose(changed(x, y), 2.5 * one(x, y), rtol=1e-13, atol=1e-13)
        for changed in (one + 1.5, 1.5 + one, one + od.Constant(1.5), np.float64(1.5) + one):
            np.testing.assert_allclose(changed(x, y), one(x, y) + 1.5, rtol=1e-13, atol=1e-13)
    for deep in (sum((od.Gaussian(float(s)) for s in range(2, 7)), od.Gaussian(1.0)), od.Gaussian((1, 2, 3, 4, 5, 6))):
        want = sum(od.Gaussian(float(s))(x, y) for s in range(1, 7))
        np.testing.assert_allclose(deep(x, y), want, rtol=1e-13)


def test_a_constant_is_not_seen() -> None:
    rng = np.random.default_rng(74)
    x, y = draw(rng, 15, 3), draw(rng, 12, 3, shift=1.0)
    for k in (od.Gaussian(1.5), od.Energy(), od.Linear()):
        for estimator in ("biased", "unbiased"):
            want = od.mmd(x, y, kernel=k, estimator=estimator)
            assert od.mmd(x, y, kernel=k + 100.0, estimator=estimator) == pytest.approx(want, rel=1e-10)
    assert od.mmd(x, y, kernel=od.Constant(3.0)) <= 1e-14


def test_the_energy_kernel_is_multiplied_by_constants_only() -> None:
    rng = np.random.default_rng(75)
    x, y = draw(rng, 15, 3), draw(rng, 12, 3, shift=1.0)
    assert od.mmd(x, y, kernel=2.0 * od.Energy()) == pytest.approx(2 * od.mmd(x, y, kernel="energy"), rel=1e-13)
    for make in (lambda: od.Energy() * od.Energy(), lambda: od.Gaussian(1.0) * (od.Energy() + od.Gaussian(1.0))):
        with pytest.raises(ValueError, match="conditional"):
            make()


@pytest.mark.parametrize("k", [k for k in KERNELS if k.id not in ("gmmn", "wae")], ids=ids)
def test_kernels_are_values(k: KernelCase) -> None:
    one, other = k.make(), k.make()
    assert one == other
    assert hash(one) == hash(other)
    assert one != od.Gaussian(123.0)
    assert dataclasses.is_dataclass(one)
    for field in dataclasses.fields(one):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(one, field.name, 1)


@pytest.mark.parametrize("k", [k for k in KERNELS if k.id not in ("gmmn", "wae")], ids=ids)
def test_what_kernels_say_of_themselves(k: KernelCase) -> None:
    made, rng = k.make(), np.random.default_rng(76)
    x = draw(rng, 40, 2)
    assert made.definite == ("conditional" if k.conditional else "definite")
    if made.characteristic:  # a promise; without it nothing is said
        assert k.characteristic
    far = np.abs(k.gram(1e6 * x, 1e6 * x)).max()
    assert made.bounded == bool(far < 1e3)
    moved = np.allclose(k.gram(x, x), k.gram(x + 1.0, x + 1.0), rtol=1e-6)
    assert made.distances == moved


# -- bandwidths ---------------------------------------------------------------------------------------------


def test_the_median() -> None:
    """Of √c for kernels of c/σ², of c for kernels of c/σ, over all pairs of the pooled sample."""
    rng = np.random.default_rng(73)
    x, y = draw(rng, 15, 3), draw(rng, 12, 3, shift=1.0)
    for make, sigma in (
        (od.Gaussian, reference.median_distance(x, y)),
        (od.Laplacian, reference.median_distance(x, y, "cityblock")),
        (od.IMQ, reference.median_distance(x, y)),
        (od.RationalQuadratic, reference.median_distance(x, y)),
        (od.Matern, reference.median_distance(x, y)),
        (lambda s=None: od.Laplacian(s, "euclidean"), reference.median_distance(x, y)),
        (lambda s=None: od.Gaussian(s, "cosine"), np.sqrt(reference.median_distance(x, y, "cosine"))),
    ):
        want = od.mmd(x, y, kernel=make(sigma))
        assert od.mmd(x, y, kernel=make()) == pytest.approx(want, rel=1e-11)
        assert od.mmd(x, y, kernel=make(), bandwidth="median") == pytest.approx(want, rel=1e-11)
    assert od.mmd(x, y) == pytest.approx(od.mmd(x, y, kernel=od.Gaussian(reference.median_distance(x, y))), rel=1e-11)


@pytest.mark.parametrize("rule", ["median", "scott"])
def test_rules_scale_with_the_data(rule: str) -> None:
    rng = np.random.default_rng(77)
    x, y = draw(rng, 15, 3), draw(rng, 12, 3, shift=1.0)
    for make in (od.Gaussian, od.Matern, od.Laplacian):
        value = od.mmd(x, y, kernel=make(), bandwidth=rule)
        for scale in (8.0, 0.5, 1e-100, 1e100):
            got = od.mmd(scale * x, scale * y, kernel=make(), bandwidth=rule)
            assert got == pytest.approx(value, rel=1e-11), (make, scale)
        assert od.mmd(y, x, kernel=make(), bandwidth=rule) == pytest.approx(value, rel=1e-11)
        assert od.mmd(x[::-1], y, kernel=make(), bandwidth=rule) == pytest.approx(value, rel=1e-11)


def test_scotts_rule() -> None:
    """s N^(-1/(d+4)), s² the mean variance of a coordinate of the pool."""
    rng = np.random.default_rng(78)
    x, y = draw(rng, 15, 3), draw(rng, 12, 3, shift=1.0)
    pool = np.concatenate([x, y])
    sigma = np.sqrt(np.mean(np.var(pool, axis=0, ddof=1))) * 27 ** (-1 / 7)
    assert sigma == pytest.approx(scipy.stats.gaussian_kde(pool.T).factor * np.sqrt(np.mean(np.var(pool, 0, ddof=1))))
    want = od.mmd(x, y, kernel=od.Gaussian(sigma))
    assert od.mmd(x, y, bandwidth="scott") == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("rule", ["median", "scott"])
def test_rules_of_samples_without_spread(rule: str) -> None:
    """All points equal: distance 0. More than half of the pairs equal: still a positive bandwidth."""
    one = np.ones((4, 2))
    assert od.mmd(one, one[:3], bandwidth=rule) == 0
    few = np.concatenate([np.ones((20, 2)), [[2.0, 3.0]]])
    assert 0 < od.mmd(few, one, bandwidth=rule) < 1
    assert np.isfinite(od.mmd(one[:1], one[:1] + 1, bandwidth=rule))


def test_a_large_pool_has_a_median_near_the_exact_one() -> None:
    rng = np.random.default_rng(79)
    x, y = draw(rng, 2500, 2), draw(rng, 1500, 2, shift=0.5)
    value = od.mmd(x, y, kernel=od.Gaussian(reference.median_distance(x, y)))
    got = od.mmd(x, y)
    assert got == pytest.approx(value, rel=0.02)
    assert got == od.mmd(x, y)


def test_every_element_of_a_batch_has_its_own_bandwidth() -> None:
    """Also if the first one's happens to be one."""
    x = np.array([[[0.0], [1.0]], [[0.0], [5.0]], [[0.0], [3.0]]])
    y = x + np.array([0.0, 2.0, 1.0])[:, None, None]
    assert reference.median_distance(x[0], y[0]) == 1
    for kernel_ in ("gaussian", "matern", "laplacian"):
        for given in ({}, {"estimator": "unbiased"}):
            want = [float(od.mmd(u, v, kernel=kernel_, **given)) for u, v in zip(x, y, strict=True)]
            np.testing.assert_allclose(od.mmd(x, y, kernel=kernel_, **given), want, rtol=1e-13, atol=1e-16)


# -- the kernel inception distance --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_kid_of_whole_samples(dtype: str) -> None:
    """Subsets as large as the samples are the samples: every one gives the unbiased polynomial MMD²."""
    rng = np.random.default_rng(80)
    x, y = draw(rng, 30, 6, dtype), draw(rng, 30, 6, dtype, 0.5)
    got = od.kid(x, y, subsets=5, subset_size=30, rng=0)
    want, _ = reference.kid(x.astype(float), y.astype(float), [(np.arange(30), np.arange(30))] * 2)
    assert got.mean == pytest.approx(want, rel=1e-5 if dtype == "float32" else 1e-12)
    assert abs(got.standard_error) <= 1e-6 * abs(want)
    got = od.kid(x, y, degree=2, gamma=0.25, coef0=0.5, subsets=5, subset_size=30, rng=0)
    want, _ = reference.kid(x.astype(float), y.astype(float), [(np.arange(30), np.arange(30))] * 2, 2, 0.25, 0.5)
    assert got.mean == pytest.approx(want, rel=1e-5 if dtype == "float32" else 1e-12)


def test_kid_of_subsets() -> None:
    """Subsets of two out of few: the mean of all of them is that of the whole; the error is what it says."""
    rng = np.random.default_rng(81)
    x, y = draw(rng, 12, 3), draw(rng, 9, 3, shift=0.7)
    whole = float(exactly(reference.mmd_unbiased, reference.polynomial(), x, y))
    results = [od.kid(x, y, subsets=50, subset_size=4, rng=seed) for seed in range(60)]
    means, errors = (np.array([getattr(r, name) for r in results]) for name in ("mean", "standard_error"))
    assert abs(means.mean() - whole) < 4 * scipy.stats.sem(means)
    assert np.std(means, ddof=1) == pytest.approx(np.sqrt(np.mean(errors**2)), rel=0.35)
    again = od.kid(x, y, subsets=50, subset_size=4, rng=np.random.default_rng(7))
    assert again == od.kid(x, y, subsets=50, subset_size=4, rng=np.random.default_rng(7))
    assert again == results[7]


def test_kid_needs_two_subsets_and_never_more_points_than_there_are() -> None:
    """One value has no spread to estimate an error from."""
    rng = np.random.default_rng(82)
    x, y = draw(rng, 12, 3), draw(rng, 9, 3, shift=0.7)
    with pytest.raises(ValueError, match="subsets"):
        od.kid(x, y, subsets=1, subset_size=4, rng=0)
    assert od.kid(x, y, subsets=5, rng=0) == od.kid(x, y, subsets=5, subset_size=9, rng=0)
