"""Two-sample tests: statistics by their definition, aggregation, reproducibility."""

from __future__ import annotations

import dataclasses
import math
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist

import otdist as od
from otdist.kernels import permute, threads
from tests.twosample_cases import KERNELS, labels, mmd, p_value, samples


@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
@pytest.mark.parametrize("name", KERNELS)
def test_every_statistic_is_that_of_relabelled_samples(name: str, estimator: Any) -> None:
    kernel, k = KERNELS[name]
    x, y = samples(17, 9)
    got = od.mmd_test(x, y, kernel=kernel, estimator=estimator, permutations=40, rng=3)
    pool, E = np.concatenate([x, y]), labels(permute.subsets, 3, 40, 17, 26)
    null = np.array([mmd(k, pool[e == 1], pool[e == 0], estimator) for e in E.T])
    np.testing.assert_allclose(got.statistic, mmd(k, x, y, estimator), rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(got.null, null, rtol=1e-10, atol=1e-13)
    assert got.p_value == p_value(got.statistic, null)


def test_tiles_of_points_and_of_labellings_join() -> None:
    k = KERNELS["gaussian"][1]
    x, y = samples(700, 601, 2)
    got = od.mmd_test(x, y, kernel=od.Gaussian(1.5), permutations=1100, rng=1)
    pool, E = np.concatenate([x, y]), labels(permute.subsets, 1, 1100, 700, 1301)
    K, W = k(pool, pool), np.where(E == 1, 1 / 700, -1 / 601)
    np.testing.assert_allclose(got.null, np.sum(W * (K @ W), axis=0), rtol=1e-10)
    for column in (0, 1022, 1023, 1099):  # and by indexing the matrix
        i, j = np.flatnonzero(E[:, column]), np.flatnonzero(E[:, column] == 0)
        want = K[np.ix_(i, i)].mean() + K[np.ix_(j, j)].mean() - 2 * K[np.ix_(i, j)].mean()
        assert math.isclose(got.null[column], want, rel_tol=1e-9)


def test_labels_may_be_held_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = samples(20, 30)
    calls: list[Callable[[], od.TestResult]] = [
        lambda: od.mmd_test(x, y, permutations=299, rng=2),
        lambda: od.mmd_test(x, y[:20], method="wild", permutations=299, rng=2),
        lambda: od.mmd_test(x, y, method="aggregated", permutations=299, rng=2),
    ]
    whole = [call() for call in calls]
    monkeypatch.setattr(permute, "HELD", 1)
    monkeypatch.setattr(permute, "FEWEST", 40)
    for call, want in zip(calls, whole, strict=True):
        got = call()
        assert got.p_value == want.p_value
        np.testing.assert_allclose(got.null, want.null, rtol=1e-12)


@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
@pytest.mark.parametrize("n", [30, 300])
def test_wild_bootstrap_is_the_sum_over_signs(n: int, estimator: Any) -> None:
    k = KERNELS["gaussian"][1]
    x, y = samples(n, n)
    got = od.mmd_test(x, y, kernel=od.Gaussian(1.5), method="wild", estimator=estimator, permutations=50, rng=4)
    h = k(x, x) + k(y, y) - k(x, y) - k(x, y).T
    count = n * n
    if estimator == "unbiased":
        np.fill_diagonal(h, 0.0)
        count = n * (n - 1)
    signs = 2.0 * labels(permute.coins, 4, 50, n) - 1.0
    null = np.array([e @ h @ e / count for e in signs.T])
    np.testing.assert_allclose(got.statistic, h.sum() / count, rtol=1e-11)
    np.testing.assert_allclose(got.null, null, rtol=1e-10, atol=1e-13)
    assert got.p_value == p_value(got.statistic, null)
    if estimator == "biased":
        assert math.isclose(got.statistic, mmd(k, x, y, "biased"), rel_tol=1e-11)


def test_one_dimension_is_the_same_energy_distance() -> None:
    x, y = samples(40, 25, 1)
    x[3:9] = y[:6]  # ties within the pool
    got = od.energy_test(x, y, permutations=60, rng=5)
    order = np.argsort(np.concatenate([x, y])[:, 0], kind="stable")
    pool, E = np.concatenate([x, y])[order], labels(permute.subsets, 5, 60, 40, 65)
    k = KERNELS["energy"][1]
    null = np.array([mmd(k, pool[e == 1], pool[e == 0], "biased") for e in E.T])
    np.testing.assert_allclose(got.null, null, rtol=1e-10, atol=1e-13)
    assert math.isclose(got.statistic, mmd(k, x, y, "biased"), rel_tol=1e-11)
    assert math.isclose(got.statistic, stats.energy_distance(x[:, 0], y[:, 0]) ** 2, rel_tol=1e-11)
    assert got.kernel == "Energy(exponent=1.0)"


def test_one_dimension_of_many_points() -> None:
    x, y = samples(3000, 2001, 1, shift=0.0)
    moved = od.energy_test(x + 1e6, y + 1e6, permutations=99, rng=0)
    got = od.energy_test(x, y, permutations=99, rng=0)
    assert math.isclose(got.statistic, stats.energy_distance(x[:, 0], y[:, 0]) ** 2, rel_tol=1e-11)
    np.testing.assert_allclose(moved.null, got.null, rtol=1e-4)
    slow = od.mmd_test(x[:600], y[:500], kernel=od.Energy() + od.Constant(0.0), permutations=999, rng=0)
    fast = od.energy_test(x[:600], y[:500], permutations=999, rng=0)
    assert stats.ks_2samp(slow.null, fast.null).pvalue > 1e-3


@pytest.mark.parametrize("d", [3, 40])
def test_offset_clouds(d: int) -> None:
    x, y = samples(60, 50, d)
    for options in ({}, {"kernel": "laplacian"}, {"kernel": "energy"}):
        near = od.mmd_test(x, y, permutations=99, rng=0, **options)  # type: ignore[arg-type]
        far = od.mmd_test(x + 1e4, y + 1e4, permutations=99, rng=0, **options)  # type: ignore[arg-type]
        assert math.isclose(near.statistic, far.statistic, rel_tol=1e-9)
        assert near.p_value == far.p_value


def test_a_narrow_kernel_keeps_its_order() -> None:
    """Beside a diagonal of ones the sums that decide are lost in rounding; they must not be added to it."""
    x, y = samples(30, 30, 2, seed=2)
    one, two = (od.mmd_test(x, y, kernel=od.Gaussian(0.004), estimator=e, rng=0) for e in ("biased", "unbiased"))
    assert one.statistic == 2 / 30
    assert 0 < two.statistic < 1e-40
    assert one.p_value == two.p_value == p_value(two.statistic * 1e41, two.null * 1e41) < 0.5


def test_aggregated_by_its_definition() -> None:
    x, y = samples(25, 30)
    widths = (0.3, 1.0, 4.0)
    got = od.mmd_test(x, y, kernel="gaussian", bandwidth=widths, method="aggregated", permutations=99, rng=6)
    single = [od.mmd_test(x, y, kernel=od.Gaussian(w), permutations=99, rng=6) for w in widths]
    columns = np.array([[r.statistic, *r.null] for r in single])
    own = np.array([[np.mean(row >= value - 1e-13) for value in row] for row in columns])
    best = own.min(axis=0)
    assert got.p_values is not None
    assert got.statistics is not None
    np.testing.assert_array_equal(got.p_values, [r.p_value for r in single])
    np.testing.assert_allclose(got.statistics, [r.statistic for r in single], rtol=1e-12)
    np.testing.assert_allclose([got.statistic, *got.null], best, rtol=1e-12)
    assert got.p_value == np.mean(best <= best[0] + 1e-13)
    assert got.p_value >= min(r.p_value for r in single)
    assert got.bandwidth == widths
    assert got.kernels == tuple(r.kernel for r in single)
    assert got.kernel == got.kernels[int(np.argmin(got.p_values))]


def test_aggregated_candidates() -> None:
    x, y = samples(30, 20)
    got = od.mmd_test(x, y, method="aggregated", rng=0)
    distances = cdist(*(np.concatenate([x, y]),) * 2)[np.triu_indices(50, 1)]
    low, high = np.quantile(distances, [0.05, 0.95])
    np.testing.assert_allclose(got.bandwidth, np.geomspace(low / 2, 2 * high, 10), rtol=1e-12)
    mixed = od.mmd_test(x, y, kernel=["laplacian", "energy", od.Gaussian(1.0)], method="aggregated", rng=0)
    assert len(mixed.kernels) == 12
    assert mixed.bandwidth[10:] == (None, 1.0)
    one = od.mmd_test(x, y, kernel=od.Gaussian(1.0), method="aggregated", rng=0)
    assert one.p_value == od.mmd_test(x, y, kernel=od.Gaussian(1.0), rng=0).p_value


def test_aggregated_sees_what_the_median_misses() -> None:
    """A fine structure far below the median distance."""
    rejected = {"permutation": 0, "aggregated": 0}
    for seed in range(10):
        rng = np.random.default_rng(seed)
        x, y = rng.uniform(size=(150, 1)), rng.uniform(size=(150, 1))
        y += 0.012 * np.sin(2 * np.pi * y / 0.08)
        for method in rejected:
            rejected[method] += od.mmd_test(x, y, method=method, permutations=199, rng=seed).reject()  # type: ignore[arg-type]
    assert rejected["aggregated"] > rejected["permutation"] + 3


# Reproducible, of the pool only, from any library ---------------------------------------------------------------------


def test_seeds() -> None:
    x, y = samples(30, 20)
    first = od.mmd_test(x, y, rng=1)
    again = od.mmd_test(x, y, rng=np.random.default_rng(1))
    np.testing.assert_array_equal(first.null, again.null)
    assert not np.array_equal(first.null, od.mmd_test(x, y, rng=2).null)
    assert not np.array_equal(od.mmd_test(x, y).null, od.mmd_test(x, y).null)
    generator = np.random.default_rng(1)
    assert not np.array_equal(od.mmd_test(x, y, rng=generator).null, od.mmd_test(x, y, rng=generator).null)
    np.testing.assert_allclose(first.null[:99], od.mmd_test(x, y, permutations=99, rng=1).null, rtol=1e-12)


@pytest.fixture
def counts() -> Iterator[Any]:
    yield threads.set_thread_count
    threads.set_thread_count(None)


def test_bits_do_not_depend_on_the_number_of_threads(counts: Any) -> None:
    x, y = samples(500, 450, 4)

    def answers() -> list[Any]:
        results = [
            od.mmd_test(x, y, permutations=299, rng=0),
            od.mmd_test(x[:450], y, method="wild", permutations=299, rng=0),
            od.mmd_test(x, y, method="aggregated", bandwidth=(0.5, 2.0), permutations=299, rng=0),
            od.energy_test(x[:, :1], y[:, :1], permutations=999, rng=0),
        ]
        return [value for r in results for value in (r.statistic, r.p_value, *r.null)]

    counts(1)
    want = answers()
    for count in (2, 3):
        counts(count)
        assert answers() == want


def test_bandwidths_are_of_the_pool() -> None:
    x, y = samples(30, 21, shift=3.0)
    pool = np.random.default_rng(0).permutation(np.concatenate([x, y]))
    for options in ({}, {"bandwidth": "scott"}, {"method": "aggregated"}, {"kernel": "imq"}):
        one, two = od.mmd_test(x, y, rng=0, **options), od.mmd_test(pool[:30], pool[30:], rng=0, **options)  # type: ignore[arg-type]
        np.testing.assert_allclose(one.bandwidth, two.bandwidth, rtol=1e-12)
    distances = cdist(pool, pool)[np.triu_indices(51, 1)]
    assert math.isclose(od.mmd_test(x, y, rng=0).bandwidth, np.median(distances), rel_tol=1e-12)


def test_median_of_many_points_is_of_some_drawn_by_chance() -> None:
    x, y = samples(1500, 1000, 2, shift=4.0)
    found = [od.mmd_test(x, y, permutations=19, rng=seed).bandwidth for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]
    pool = np.concatenate([x, y])
    want = np.median(cdist(pool, pool)[np.triu_indices(2500, 1)])
    assert math.isclose(found[0], want, rel_tol=0.05)


def test_other_libraries_and_dtypes() -> None:
    torch, jnp = pytest.importorskip("torch"), pytest.importorskip("jax.numpy")
    x, y = (a.astype(np.float32) for a in samples(20, 25))
    want = od.mmd_test(x.astype(np.float64), y.astype(np.float64), rng=0)
    pairs = [(x, y), (torch.tensor(x), torch.tensor(y)), (jnp.asarray(x), jnp.asarray(y)), (x.tolist(), y.tolist())]
    for a, b in pairs:
        got = od.mmd_test(a, b, rng=0)
        assert got.statistic == want.statistic
        np.testing.assert_array_equal(got.null, want.null)
        assert type(got.statistic) is type(got.p_value) is float
        assert type(got.null) is np.ndarray
    whole = od.energy_test([[0], [1], [2]], [[3], [4], [5]], permutations=19, rng=0)
    assert math.isclose(whole.statistic, 2 * 3 - 8 / 9 - 8 / 9)


def test_the_matrix_is_never_held() -> None:
    x, y = samples(1800, 1200, 3)

    def call(method: Any) -> None:
        od.mmd_test(x, y, kernel=od.Gaussian(1.0), permutations=99, method=method, rng=0)

    for method in ("permutation", "aggregated"):
        call(method)
        tracemalloc.start()
        call(method)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 24e6  # the matrix: 72 MB


@pytest.mark.parametrize("scale", [1e-90, 1e90])
def test_scale_is_of_no_matter(scale: float) -> None:
    x, y = samples(12, 15)
    for options in ({}, {"kernel": "energy"}, {"method": "aggregated"}, {"kernel": "laplacian"}):
        got, want = (od.mmd_test(a, b, rng=0, **options) for a, b in ((x * scale, y * scale), (x, y)))  # type: ignore[arg-type]
        assert got.p_value == want.p_value


def test_inputs_are_left_alone() -> None:
    x, y = samples(20, 20)
    copies = x.copy(), y.copy()
    x.flags.writeable = False
    for method in ("permutation", "wild", "aggregated"):
        od.mmd_test(x, y, method=method, permutations=19, rng=0)
    od.energy_test(x[:, 1:2], y[::-1, 1:2], permutations=19, rng=0)
    np.testing.assert_array_equal(x, copies[0])
    np.testing.assert_array_equal(y, copies[1])


def test_smallest_samples() -> None:
    one = np.zeros((1, 2))
    assert od.mmd_test(one, one + 1, permutations=19, rng=0).p_value == 1.0
    assert od.mmd_test(one, one + 1, method="wild", permutations=19, rng=0).p_value == 1.0
    assert od.energy_test(one[:, :1], one[:, :1] + 1, permutations=19, rng=0).p_value == 1.0
    three = od.energy_test(one[:, :1], np.arange(2.0, 40.0)[:, None], permutations=999, rng=0)
    assert 1 / 39 - 0.02 < three.p_value < 2 / 39 + 0.03  # the lowest or the highest point


def test_result() -> None:
    x, y = samples(20, 21)
    result = od.mmd_test(x, y, permutations=999, alpha=0.01, rng=0)
    assert (result.n, result.m, result.permutations, result.null.shape) == (20, 21, 999, (999,))
    assert (result.method, result.estimator, result.alpha) == ("permutation", "biased", 0.01)
    assert len(repr(result)) < 250
    assert "p_value" in repr(result)
    assert len(repr(od.mmd_test(x, y, method="aggregated", rng=0))) < 250
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.p_value = 0.0  # type: ignore[misc]
    at = dataclasses.replace(result, p_value=0.02)
    assert at.reject(0.02)
    assert at.reject(alpha=0.05)
    assert not at.reject()
    for bad, error in ((0.0, ValueError), (1.0, ValueError), (float("nan"), ValueError), ("a", TypeError)):
        with pytest.raises(error, match="alpha: found"):
            result.reject(bad)  # type: ignore[arg-type]
