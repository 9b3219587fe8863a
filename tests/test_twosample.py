"""Two-sample tests: judged by the definition of their statistics, by enumeration, and by their level."""

from __future__ import annotations

import dataclasses
import itertools
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

Array = np.ndarray[Any, np.dtype[Any]]

# What each kernel is, in a line of NumPy.
KERNELS: dict[str, tuple[Any, Callable[[Array, Array], Array]]] = {
    "gaussian": (od.Gaussian(1.5), lambda x, y: np.exp(-cdist(x, y, "sqeuclidean") / 4.5)),
    "laplacian": (od.Laplacian(2.0), lambda x, y: np.exp(-cdist(x, y, "cityblock") / 2.0)),
    "energy": (od.Energy(), lambda x, y: -cdist(x, y)),
    "power": (od.Energy(0.7), lambda x, y: -(cdist(x, y) ** 0.7)),
    "polynomial": (od.Polynomial(), lambda x, y: (x @ y.T / x.shape[1] + 1.0) ** 3),
    "mixture": (
        od.Gaussian(1.0) + od.Linear(),
        lambda x, y: np.exp(-cdist(x, y, "sqeuclidean") / 2) + x @ y.T,
    ),
}


def mmd(k: Callable[[Array, Array], Array], x: Array, y: Array, estimator: str) -> float:
    """The definition."""
    n, m, xx, yy = len(x), len(y), k(x, x), k(y, y)
    if estimator == "biased":
        return float(xx.mean() + yy.mean() - 2 * k(x, y).mean())
    own = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return float(own - 2 * k(x, y).mean())


def samples(n: int, m: int, d: int = 3, shift: float = 0.3, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), rng.standard_normal((m, d)) * 1.1 + shift


def labels(draw: Callable[..., Array], seed: int, permutations: int, *args: int) -> Array:
    """The labels a test with this seed draws: one seed a column."""
    seeds = np.random.default_rng(seed).integers(0, 2**64, size=permutations, dtype=np.uint64)
    return draw(seeds, *args)


def p_value(statistic: float, null: Array) -> float:
    return float((1 + np.count_nonzero(null >= statistic - 1e-12)) / (1 + len(null)))


# Values ---------------------------------------------------------------------------------------------------------------


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


# Exactness ------------------------------------------------------------------------------------------------------------


def within(count: int, trials: int, probability: float) -> bool:
    """Whether a binomial count is no 1-in-10^4 event."""
    low, high = stats.binom.ppf([5e-5, 1 - 5e-5], trials, probability)
    return bool(low <= count <= high)


def test_all_subsets_are_equally_likely() -> None:
    E = permute.subsets(np.random.default_rng(0).integers(0, 2**64, size=20000, dtype=np.uint64), 2, 5)
    assert np.all(E.sum(axis=0) == 2)
    counts = np.unique(2 ** np.arange(5) @ E, return_counts=True)[1]
    assert len(counts) == 10
    assert stats.chisquare(counts).pvalue > 1e-3
    E = permute.coins(np.random.default_rng(1).integers(0, 2**64, size=20000, dtype=np.uint64), 4)
    counts = np.unique(2 ** np.arange(4) @ E, return_counts=True)[1]
    assert len(counts) == 16
    assert stats.chisquare(counts).pvalue > 1e-3


def enumerated(k: Callable[[Array, Array], Array], x: Array, y: Array, kind: str) -> Any:
    """SciPy's test over all relabellings; it permutes numbers, so the places of the points."""
    pool = np.concatenate([x, y])

    def statistic(a: Array, b: Array) -> float:
        return mmd(k, pool[a.astype(int)], pool[b.astype(int)], "biased")

    places = np.arange(len(x)), np.arange(len(x), len(pool))
    return stats.permutation_test(
        places, statistic, permutation_type=kind, vectorized=False, alternative="greater", n_resamples=10**4
    )


def test_enumeration_of_tiny_samples() -> None:
    k = KERNELS["gaussian"][1]
    x, y = samples(4, 3, 2)
    exact = enumerated(k, x, y, "independent")
    got = od.mmd_test(x, y, kernel=od.Gaussian(1.5), permutations=19999, rng=0)
    assert math.isclose(got.statistic, exact.statistic, rel_tol=1e-11)
    assert len(np.unique(np.round(got.null, 12))) == len(np.unique(np.round(exact.null_distribution, 12))) == 35
    assert within(round(got.p_value * 20000) - 1, 19999, exact.pvalue)


def test_enumeration_of_tiny_pairs() -> None:
    k = KERNELS["energy"][1]
    x, y = samples(5, 5, 2, shift=1.0)
    exact = enumerated(k, x, y, "samples")
    got = od.mmd_test(x, y, kernel="energy", method="wild", permutations=19999, rng=0)
    assert math.isclose(got.statistic, exact.statistic, rel_tol=1e-11)
    assert within(round(got.p_value * 20000) - 1, 19999, exact.pvalue)


def test_ties_count_as_extreme() -> None:
    """Of {0, 0} and {1}, one labelling in three is as given; rounding may not tell equal labellings apart."""
    x, y = np.zeros((2, 1)), np.ones((1, 1))
    for call in (od.energy_test, lambda *a, **o: od.mmd_test(*a, kernel="laplacian", bandwidth=0.3, **o)):
        got = call(x, y, permutations=9999, rng=0)
        assert within(round(got.p_value * 10000) - 1, 9999, 1 / 3)
    same = np.ones((6, 2))
    for method in ("permutation", "wild", "aggregated"):
        assert od.mmd_test(same, same, method=method, permutations=19, rng=0).p_value == 1.0
    assert od.energy_test(same[:, :1], same[:, :1], permutations=19, rng=0).p_value == 1.0


def test_ties_of_rounded_data_by_enumeration() -> None:
    rng = np.random.default_rng(8)
    x, y = np.round(rng.standard_normal((4, 2)), 0), np.round(rng.standard_normal((4, 2)), 0)
    pool = np.concatenate([x, y]) / 3.0
    k = KERNELS["energy"][1]
    values = [
        mmd(k, pool[list(chosen)], pool[[i for i in range(8) if i not in chosen]], "biased")
        for chosen in itertools.combinations(range(8), 4)
    ]
    exact = np.mean(np.array(values) >= values[0] - 1e-12)
    got = od.energy_test(x / 3.0, y / 3.0, permutations=19999, rng=0)
    assert within(round(got.p_value * 20000) - 1, 19999, float(exact))


@pytest.mark.parametrize("method", ["permutation", "wild", "line"])
def test_rounding_does_not_part_equal_labellings(method: Any) -> None:
    """Tenths, symmetric about their middle: many labellings are equal, but their sums in floating point are not."""
    left, right = np.array([0, 1, 3, 8, 9]), np.array([2, 4, 5, 6, 7])
    pool = np.concatenate([left, right])
    K = -np.abs(pool[:, None] - pool)  # whole numbers
    W = []
    for chosen in itertools.product((0, 1), repeat=10):
        e = np.array(chosen)
        if sum(chosen) == 5 and (method != "wild" or np.all(e[:5] + e[5:] == 1)):
            W.append(2 * e - 1)
    values = [w @ K @ w for w in W]
    exact = np.mean(np.array(values) >= (W0 := np.repeat([1, -1], 5)) @ K @ W0)
    x, y = left[:, None] * 0.1, right[:, None] * 0.1
    if method == "line":
        got = od.energy_test(x, y, permutations=19999, rng=0)
    else:
        got = od.mmd_test(x, y, kernel=od.Energy() * 0.3, method=method, permutations=19999, rng=0)
    assert within(round(got.p_value * 20000) - 1, 19999, float(exact))


def nothing(rng: np.random.Generator) -> tuple[Array, Array]:
    return rng.standard_normal((9, 2)), rng.standard_normal((12, 2))


def line(rng: np.random.Generator) -> tuple[Array, Array]:
    return rng.exponential(size=(12, 1)), rng.exponential(size=(8, 1))


def pairs(rng: np.random.Generator) -> tuple[Array, Array]:
    common = rng.standard_normal((10, 2))
    return common + 0.2 * rng.standard_normal((10, 2)), common + 0.2 * rng.standard_normal((10, 2))


TESTS: dict[str, tuple[Callable[..., Any], dict[str, Any], Callable[..., tuple[Array, Array]]]] = {
    "median": (od.mmd_test, {}, nothing),
    "unbiased": (od.mmd_test, {"kernel": "laplacian", "estimator": "unbiased"}, nothing),
    "energy": (od.energy_test, {}, nothing),
    "line": (od.energy_test, {}, line),
    "wild": (od.mmd_test, {"method": "wild"}, pairs),
    "aggregated": (od.mmd_test, {"method": "aggregated", "kernel": ("gaussian", "laplacian")}, nothing),
}


@pytest.mark.parametrize("name", TESTS)
def test_level(name: str) -> None:
    """Continuous data: p is uniform on {1/20, ..., 1}, so each alpha = k/20 is the rate of rejections."""
    test, options, draw = TESTS[name]
    found = np.zeros(20, np.int64)
    for seed in range(500):
        x, y = draw(np.random.default_rng([7, seed]))
        p = test(x, y, permutations=19, rng=seed, **options).p_value
        found[round(20 * p) - 1] += 1
    rejected = np.cumsum(found)
    if name != "aggregated":  # whose scores tie: its level is kept, not used up
        assert within(rejected[0], 500, 0.05)
        assert within(rejected[3], 500, 0.2)
        assert stats.chisquare(found).pvalue > 1e-3
    for count, alpha in zip(rejected, np.arange(1, 21) / 20, strict=True):
        assert count <= stats.binom.ppf(1 - 1e-5, 500, alpha)


def test_level_of_the_aggregated_test_is_used_up_by_many_permutations() -> None:
    rejected = 0
    for seed in range(500):
        x, y = nothing(np.random.default_rng([9, seed]))
        rejected += od.mmd_test(x, y, method="aggregated", permutations=199, alpha=0.1, rng=seed).reject()
    assert within(rejected, 500, 0.1)


def test_independent_pairs_would_not_keep_the_level_of_dependent_ones() -> None:
    """Why "wild" exists: exchanging labels between pairs ignores what the pairs share, and never rejects."""
    rejected = {"wild": 0, "permutation": 0}
    for seed in range(100):
        x, y = pairs(np.random.default_rng([8, seed]))
        for method in rejected:
            result = od.mmd_test(x, y + 0.15, method=method, permutations=39, rng=seed)  # type: ignore[arg-type]
            rejected[method] += result.reject()
    assert rejected["permutation"] == 0
    assert rejected["wild"] >= 20


@pytest.mark.parametrize("name", TESTS)
def test_power_grows_with_n(name: str) -> None:
    test, options, draw = TESTS[name]
    rates = []
    for repeat in (1, 4, 16):
        rejected = 0
        for seed in range(25):
            rng = np.random.default_rng([11, seed])
            parts = [draw(rng) for _ in range(repeat)]
            x, y = (np.concatenate([part[side] for part in parts]) for side in (0, 1))
            rejected += test(x, y + (0.1 if name == "wild" else 0.4), permutations=99, rng=seed, **options).reject()
        rates.append(rejected)
    assert rates == sorted(rates)
    assert rates[0] < 20 < rates[-1]


def test_p_is_never_zero() -> None:
    x, y = samples(20, 20, shift=50.0)
    for method in ("permutation", "wild", "aggregated"):
        for permutations in (19, 99):
            result = od.mmd_test(x, y, method=method, permutations=permutations, rng=0)
            assert result.p_value == 1 / (1 + permutations)
    assert od.energy_test(x[:, :1], y[:, :1], permutations=99, rng=0).p_value == 0.01


# Aggregation ----------------------------------------------------------------------------------------------------------


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


# Refusals -------------------------------------------------------------------------------------------------------------

GOOD = np.arange(12.0).reshape(6, 2)
NAN = np.where(GOOD == 3, np.nan, GOOD)
BAD: list[tuple[str, tuple[Any, Any], dict[str, Any], type[Exception], str]] = [
    ("one axis", (GOOD[:, 0], GOOD), {}, ValueError, r"x: found shape \(6,\).*x\[:, None\]"),
    ("one axis in y", (GOOD, GOOD[:, 0]), {}, ValueError, r"y: found shape.*y\[:, None\]"),
    ("number", (1.0, GOOD), {}, ValueError, r"x: found shape \(\)"),
    ("batch", (GOOD[None], GOOD), {}, ValueError, "x: found shape"),
    ("no points", (GOOD[:0], GOOD), {}, ValueError, "x: found shape"),
    ("no coordinates", (GOOD[:, :0], GOOD[:, :0]), {}, ValueError, "x: found shape"),
    ("another d", (GOOD, GOOD[:, :1]), {}, ValueError, "x and y: found 2 and 1 coordinates"),
    ("NaN", (NAN, GOOD), {}, ValueError, r"x: found nan at index \(1, 1\)"),
    ("infinite", (GOOD, np.where(GOOD == 3, np.inf, GOOD)), {}, ValueError, "y: found"),
    ("complex", (GOOD + 1j, GOOD), {}, TypeError, "x: found dtype complex128"),
    ("object", (GOOD.astype(object), GOOD), {}, TypeError, "x: found dtype object"),
    ("masked", (np.ma.masked_array(GOOD), GOOD), {}, TypeError, "x: found a masked array"),
    ("None", (None, GOOD), {}, TypeError, "x: found None"),
    ("too large", (GOOD * 1e307, GOOD), {}, ValueError, r"x and y: found coordinates up to 1.1e\+308"),
    ("too close", (GOOD * 1e-200, GOOD * 1e-200), {}, ValueError, "x and y: .* differ by up to 1e-199"),
    ("no permutations", (GOOD, GOOD), {"permutations": 0}, ValueError, "permutations: found 0"),
    ("a fraction", (GOOD, GOOD), {"permutations": 9.5}, TypeError, "permutations: found 9.5"),
    ("few", (GOOD, GOOD), {"permutations": 18}, ValueError, "permutations: found 18.*at least 19"),
    ("few for alpha", (GOOD, GOOD), {"alpha": 0.001, "permutations": 99}, ValueError, "use at least 999"),
    ("alpha", (GOOD, GOOD), {"alpha": 0.0}, ValueError, "alpha: found 0.0"),
    ("alpha text", (GOOD, GOOD), {"alpha": "5%"}, TypeError, "alpha: found str"),
    ("rng", (GOOD, GOOD), {"rng": 1.5}, TypeError, "rng: found 1.5"),
    ("rng flag", (GOOD, GOOD), {"rng": True}, TypeError, "rng: found True"),
    ("rng negative", (GOOD, GOOD), {"rng": -1}, ValueError, "rng: found -1"),
]
COSINE = od.Laplacian(cost="cosine")
OWN: list[tuple[str, tuple[Any, Any], dict[str, Any], type[Exception], str]] = [
    ("method", (GOOD, GOOD), {"method": "permute"}, ValueError, "method: found 'permute'.*did you mean"),
    ("estimator", (GOOD, GOOD), {"estimator": "bias"}, ValueError, "estimator: found 'bias'"),
    ("linear", (GOOD, GOOD), {"estimator": "linear"}, ValueError, "estimator: found 'linear'.*use 'unbiased'"),
    ("block", (GOOD, GOOD), {"estimator": "block"}, ValueError, "estimator: found 'block'.*use 'unbiased'"),
    ("one point", (GOOD[:1], GOOD), {"estimator": "unbiased"}, ValueError, "found n = 1 and m = 6"),
    ("unpaired", (GOOD[:4], GOOD), {"method": "wild"}, ValueError, "found n = 4 and m = 6.*use 'permutation'"),
    ("kernel", (GOOD, GOOD), {"kernel": "gausian"}, ValueError, "kernel: found 'gausian'; did you mean|kernel: found"),
    ("kernel kind", (GOOD, GOOD), {"kernel": 3}, TypeError, "kernel: found int"),
    ("kernels", (GOOD, GOOD), {"kernel": ["gaussian"]}, TypeError, "kernel: found list"),
    ("no kernels", (GOOD, GOOD), {"kernel": [], "method": "aggregated"}, ValueError, "kernel: found an empty"),
    ("bandwidth", (GOOD, GOOD), {"bandwidth": -1.0}, ValueError, "bandwidth: found -1.0"),
    ("bandwidth rule", (GOOD, GOOD), {"bandwidth": "mean"}, ValueError, "bandwidth: found 'mean'"),
    ("bandwidth None", (GOOD, GOOD), {"bandwidth": None}, TypeError, "bandwidth: found None"),
    ("zero vector", (GOOD + 1, np.zeros((6, 2))), {"kernel": COSINE}, ValueError, "y: found a zero vector"),
    ("overflow", (GOOD * 1e20, -GOOD), {"kernel": od.Polynomial(20)}, ValueError, "the kernel overflows"),
    ("no bandwidths", (GOOD, GOOD), {"bandwidth": [], "method": "aggregated"}, ValueError, "bandwidth: found"),
    ("bad candidate", (GOOD, GOOD), {"bandwidth": [1.0, 0.0], "method": "aggregated"}, ValueError, "bandwidth: found"),
]


@pytest.mark.parametrize(("arrays", "options", "error", "match"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
@pytest.mark.parametrize("test", ["mmd_test", "energy_test"])
def test_bad_input(test: str, arrays: Any, options: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        getattr(od, test)(*arrays, **options)


@pytest.mark.parametrize(("arrays", "options", "error", "match"), [b[1:] for b in OWN], ids=[b[0] for b in OWN])
def test_bad_options(arrays: Any, options: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        od.mmd_test(*arrays, **options)


@pytest.mark.parametrize("exponent", [0.0, -1.0, 2.5, float("nan")])
def test_bad_exponent(exponent: float) -> None:
    with pytest.raises(ValueError, match="exponent: found"):
        od.energy_test(GOOD, GOOD, exponent=exponent)
