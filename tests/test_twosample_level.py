"""Two-sample tests: exact by enumeration, at their level, with power that grows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

import otdist as od
from otdist.kernels import permute
from tests.twosample_cases import KERNELS, Array, mmd, samples


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
