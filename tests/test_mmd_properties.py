"""What must hold for all samples: axioms, invariances, scaling, identities, and what estimators do on average."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import otdist as od
from otdist.reference import discrepancy as reference
from tests.sample_cases import DTYPES, KERNELS, KernelCase, Samples, draw, ids, simplex, slack

EPS = {"float64": 2.0**-52, "float32": 2.0**-23}
CHARACTERISTIC = [k for k in KERNELS if k.characteristic]


@st.composite
def clouds(draw_: Any, dtype: str, max_points: int = 9) -> tuple[Any, Any]:
    """Two samples, the second apart from the first, near it, a shuffle of it, or sharing points with it."""
    d = draw_(st.sampled_from([1, 1, 2, 3, 9, 17]))
    n, m = (draw_(st.integers(1, max_points)) for _ in range(2))
    rng = np.random.default_rng(draw_(st.integers(0, 2**32)))
    scale = 10.0 ** draw_(st.integers(-2, 1))
    if draw_(st.booleans()):
        x, y = (rng.integers(1, 4, (size, d)) * scale for size in (n, m))  # ties, and no zero vectors
    else:
        x, y = (rng.normal(size=(size, d)) * scale for size in (n, m))
    how = draw_(st.sampled_from(["apart", "apart", "near", "shuffled", "repeated", "sharing"]))
    if how == "near":
        y = x * (1 + 10.0 ** -draw_(st.integers(1, 4)) * rng.normal(size=x.shape))
    elif how == "shuffled":
        y = rng.permutation(x)
    elif how == "repeated":
        y = rng.permutation(np.repeat(x, 2, 0))
    elif how == "sharing":
        y = np.concatenate([y, x[:1]])
    return x.astype(dtype), y.astype(dtype)


def over(max_examples: int = 60) -> Any:
    """Run a test on drawn clouds in each dtype."""

    def decorate(test: Any) -> Any:
        @pytest.mark.parametrize("dtype", DTYPES)
        @settings(
            max_examples=max_examples,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(data=st.data())
        def run(dtype: str, data: Any) -> None:
            test(*data.draw(clouds(dtype)), dtype, data)

        run.__name__ = test.__name__
        run.__doc__ = test.__doc__
        return run

    return decorate


def same(k: KernelCase, a: Any, b: Any, s: Samples, ulps: float = 64) -> bool:
    """Equal up to rounding: of the value, and of the float64 numbers that cancel."""
    dtype = np.asarray(s.x).dtype.name
    room = slack(k.gram, s, "float64", ulps) + {"float32": 2e-5, "float64": 1e-11}[dtype] * max(abs(a), abs(b))
    return bool(abs(float(a) - float(b)) <= room)


def mmd(k: KernelCase, x: Any, y: Any, **given: Any) -> float:
    return float(od.mmd(x, y, kernel=k.make(), **given))


def multiset(x: Any) -> dict[tuple[float, ...], float]:
    found: dict[tuple[float, ...], float] = {}
    for row in (x + 0.0).tolist():  # -0.0 is 0.0
        found[tuple(row)] = found.get(tuple(row), 0) + 1 / len(x)
    return found


def equal_measures(x: Any, y: Any) -> bool:
    p, q = multiset(x), multiset(y)
    return p.keys() == q.keys() and all(math.isclose(p[key], q[key]) for key in p)


# -- axioms -------------------------------------------------------------------------------------------------


@over()
def test_never_negative_and_symmetric(x: Any, y: Any, dtype: str, data: Any) -> None:
    k = data.draw(st.sampled_from(KERNELS))
    value = mmd(k, x, y)
    assert value >= 0, k.id
    assert same(k, value, mmd(k, y, x), Samples("", x, y)), k.id
    a, b = (simplex(np.random.default_rng(len(x)), len(z), dtype) for z in (x, y))
    assert mmd(k, x, y, x_weights=a, y_weights=b) >= 0, k.id
    for e in (0.5, 1.0, 1.9):
        assert od.energy_distance(x, y, exponent=e) >= 0


@over()
def test_zero_for_equal_multisets(x: Any, y: Any, dtype: str, data: Any) -> None:
    k = data.draw(st.sampled_from(KERNELS))
    room = float(slack(k.gram, Samples("", x, x), "float64", 64))
    for other in (x.copy(), x[::-1].copy(), np.repeat(x, 3, 0)):
        assert mmd(k, x, other) <= room, k.id
        assert od.energy_distance(x, other) <= float(slack(reference.energy(), Samples("", x, x), "float64", 64))


@over()
def test_positive_for_others_if_characteristic(x: Any, y: Any, dtype: str, data: Any) -> None:
    k = data.draw(st.sampled_from(CHARACTERISTIC))
    if not equal_measures(x, y):
        got, want = mmd(k, x, y), float(reference.mmd(k.gram, *(z.astype(np.longdouble) for z in (x, y))))
        if want > 1e3 * slack(k.gram, Samples("", x, y), "float64", 1):
            assert got > 0, k.id
            assert od.energy_distance(x, y) > 0


@over()
def test_triangle_inequality(x: Any, y: Any, dtype: str, data: Any) -> None:
    k = data.draw(st.sampled_from(KERNELS))
    z = np.concatenate([x[:1], y * y.dtype.type(0.5)])
    xz, xy, yz = (mmd(k, u, v, squared=False) for u, v in ((x, z), (x, y), (y, z)))
    room = math.sqrt(slack(k.gram, Samples("", x, z), "float64", 256)) + 4e-5 * (xz if dtype == "float32" else 0)
    assert xz <= (xy + yz) * (1 + 1e-12) + room, k.id


# -- invariances --------------------------------------------------------------------------------------------


@over()
def test_order_does_not_matter(x: Any, y: Any, dtype: str, data: Any) -> None:
    k = data.draw(st.sampled_from(KERNELS))
    rng = np.random.default_rng(3)
    s = Samples("", x, y)
    for estimator in ("biased", "unbiased"):
        if estimator == "unbiased" and min(len(x), len(y)) < 2:
            continue
        value = mmd(k, x, y, estimator=estimator)
        assert same(k, value, mmd(k, rng.permutation(x), rng.permutation(y), estimator=estimator), s), k.id
        columns = rng.permutation(x.shape[1])
        assert same(k, value, mmd(k, x[:, columns], y[:, columns], estimator=estimator), s), k.id


@over()
def test_repeated_points_are_weights(x: Any, y: Any, dtype: str, data: Any) -> None:
    k = data.draw(st.sampled_from(KERNELS))
    counts = [np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(z), max_size=len(z)))) for z in (x, y)]
    for c in counts:
        c[0] += 1
    a, b = ((c / c.sum()).astype(dtype) for c in counts)
    repeated = [np.repeat(z, c, 0) for z, c in zip((x, y), counts, strict=True)]
    s = Samples("", x, y)
    got, want = mmd(k, x, y, x_weights=a, y_weights=b), mmd(k, *repeated)
    assert abs(got - want) <= 1e-11 * abs(want) + slack(k.gram, s, dtype, 4), k.id  # the weights are rounded
    got, want = od.energy_distance(x, y, x_weights=a, y_weights=b), od.energy_distance(*repeated)
    assert abs(got - want) <= 1e-11 * abs(want) + slack(reference.energy(), s, dtype, 4)


@over()
def test_moving_both_changes_nothing(x: Any, y: Any, dtype: str, data: Any) -> None:
    """By powers of two that lose no bit."""
    k = data.draw(st.sampled_from([k for k in KERNELS if k.translation]))
    grid = np.float64(2.0 ** math.floor(math.log2(np.abs(np.concatenate([x, y])).max() + 1e-9)) * 2.0**-10)
    x, y = ((np.round(z / grid) * grid).astype(dtype) for z in (x, y))
    shift = (grid * 2.0 ** data.draw(st.sampled_from([8, 10, 12]))).astype(dtype)
    s = Samples("", x, y)
    assert same(k, mmd(k, x, y), mmd(k, x + shift, y + shift), s), k.id
    assert same(k, mmd(k, x, y), mmd(k, -x, -y), s), k.id


@over()
def test_rotating_both_changes_nothing(x: Any, y: Any, dtype: str, data: Any) -> None:
    k = data.draw(st.sampled_from([k for k in KERNELS if k.rotation]))
    x, y = x.astype(np.float64), y.astype(np.float64)
    Q = np.linalg.qr(np.random.default_rng(4).normal(size=(x.shape[1],) * 2))[0]
    room = 1e-7 if not k.smooth else 1e-12  # roots of distances feel the rounding of the rotation at ties
    got, want = mmd(k, x @ Q, y @ Q), mmd(k, x, y)
    assert abs(got - want) <= 1e-10 * abs(want) + slack(k.gram, Samples("", x, y), "float64", room * 2**52), k.id


@over()
def test_scaling(x: Any, y: Any, dtype: str, data: Any) -> None:
    """Distances and bandwidths in other units: exactly, by powers of two."""
    factor = 2.0 ** data.draw(st.integers(-9, 9))
    scale = x.dtype.type(factor)
    for make in (od.Gaussian, od.IMQ, od.Matern, od.Laplacian, od.RationalQuadratic):
        want = od.mmd(x, y, kernel=make(1.5))
        got = od.mmd(scale * x, scale * y, kernel=make(1.5 * factor))
        assert got == pytest.approx(want, rel=2e-5 if dtype == "float32" else 1e-12, abs=1e-14)
    for e in (0.5, 1.0, 1.5):
        want = factor**e * float(od.energy_distance(x, y, exponent=e))
        room = float(slack(reference.energy(e), Samples("", x, y), "float64", 64)) * factor**e
        got = float(od.energy_distance(scale * x, scale * y, exponent=e))
        assert got == pytest.approx(want, rel=2e-5 if dtype == "float32" else 1e-12, abs=room)


# -- identities ---------------------------------------------------------------------------------------------


@over()
def test_energy_distance_is_the_mmd_of_its_kernel(x: Any, y: Any, dtype: str, data: Any) -> None:
    for e in (0.5, 1.0, 1.5):
        room = float(slack(reference.energy(e), Samples("", x, y), "float64", 64))
        got, want = float(od.energy_distance(x, y, exponent=e)), float(od.mmd(x, y, kernel=od.Energy(e)))
        assert got == pytest.approx(want, rel=2e-5 if dtype == "float32" else 1e-12, abs=room)


@over()
def test_biased_and_unbiased_differ_by_the_diagonal(x: Any, y: Any, dtype: str, data: Any) -> None:
    """n/(n-1) (V_xx - mean diagonal / n) = U_xx, for both."""
    k = data.draw(st.sampled_from([k for k in KERNELS if k.translation]))
    if min(len(x), len(y)) < 2:
        return
    diagonal = float(k.gram(np.zeros((1, 1)), np.zeros((1, 1)))[0, 0])
    if k.id in ("linear", "nested", "wae"):
        return
    n, m = len(x), len(y)
    Vx, Vy = (float(np.mean(k.gram(*(z.astype(np.float64),) * 2))) for z in (x, y))
    want = mmd(k, x, y) + (Vx - diagonal) / (n - 1) + (Vy - diagonal) / (m - 1)
    got = mmd(k, x, y, estimator="unbiased")
    assert abs(got - want) <= 1e-11 * abs(want) + slack(k.gram, Samples("", x, y), dtype, 8), k.id


@over()
def test_mmd_is_the_mean_of_the_witness(x: Any, y: Any, dtype: str, data: Any) -> None:
    k = data.draw(st.sampled_from(KERNELS))
    at_x, at_y = (np.mean(od.witness(x, y, z, kernel=k.make()).astype(np.float64)) for z in (x, y))
    assert abs((at_x - at_y) - mmd(k, x, y)) <= 1e-11 * abs(at_x) + slack(k.gram, Samples("", x, y), dtype, 16), k.id


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", KERNELS, ids=ids)
def test_batches_are_loops(k: KernelCase, dtype: str) -> None:
    rng = np.random.default_rng(110)
    x, y = rng.normal(size=(2, 1, 5, 3)).astype(dtype), rng.normal(0.5, 1, (4, 7, 3)).astype(dtype)
    a = simplex(rng, 5, dtype)
    for estimator in ("biased", "unbiased"):
        for own in ({}, {"x_weights": a}):
            got = od.mmd(x, y, kernel=k.make(), estimator=estimator, **own)
            want = [[mmd(k, x[i, 0], y[j], estimator=estimator, **own) for j in range(4)] for i in range(2)]
            np.testing.assert_allclose(got, np.array(want, dtype), rtol=16 * EPS[dtype], atol=8 * EPS[dtype])


@pytest.mark.parametrize("n", [1, 2, 255, 256, 257, 700, 1025])
@pytest.mark.parametrize("d", [1, 3, 12])
def test_parts_make_the_whole(n: int, d: int) -> None:
    """The mean embedding of a whole is that of its parts, mixed: whatever tiles the sums are cut into."""
    rng = np.random.default_rng(111)
    x, y, z = draw(rng, n, d), draw(rng, 40, d, shift=0.3), draw(rng, 130, d)
    for k in (od.Gaussian(1.5), od.Laplacian(2.0), od.Energy(), od.Polynomial(2)):
        t = n / (n + 130)
        whole = od.mmd(np.concatenate([x, z]), y, kernel=k)
        parts = [od.mmd(u, v, kernel=k) for u, v in ((x, y), (z, y), (x, z))]
        want = t * parts[0] + (1 - t) * parts[1] - t * (1 - t) * parts[2]
        assert whole == pytest.approx(want, rel=1e-9, abs=1e-12)


# -- on average ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [k for k in KERNELS if k.id in ("gaussian", "laplacian", "imq", "polynomial", "energy")],
                         ids=ids)  # fmt: skip
def test_estimators_agree_on_average(k: KernelCase) -> None:
    """Under H0 the U-statistics have mean 0 and the V-statistic its known bias; apart, all U-statistics agree."""
    null: dict[str, list[float]] = {}
    apart: dict[str, list[float]] = {}
    for seed in range(300):
        rng = np.random.default_rng(seed)
        x, y, z = draw(rng, 16, 2), draw(rng, 16, 2), draw(rng, 16, 2, shift=0.8)
        for estimator in ("unbiased", "linear", "block"):
            null.setdefault(estimator, []).append(mmd(k, x, y, estimator=estimator))
            apart.setdefault(estimator, []).append(mmd(k, x, z, estimator=estimator))
        null.setdefault("biased", []).append(mmd(k, x, y))
    for estimator in ("unbiased", "linear", "block"):
        assert scipy.stats.ttest_1samp(null[estimator], 0).pvalue > 1e-3, estimator
        assert scipy.stats.ttest_ind(apart[estimator], apart["unbiased"], equal_var=False).pvalue > 1e-3, estimator
    assert min(null["unbiased"]) < 0 < max(null["unbiased"])
    assert min(null["biased"]) > 0
    assert np.mean(null["biased"]) > 5 * scipy.stats.sem(null["biased"])
    assert np.std(apart["unbiased"]) < np.std(apart["block"]) < np.std(apart["linear"])
