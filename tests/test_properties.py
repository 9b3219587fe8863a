"""What must hold for all histograms: axioms, bounds, inequalities, invariances, limits and identities."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import otdist as od
from tests.cases import DIVERGENCES, DTYPES, VARIANTS, Variant, variant
from tests.strategies import histograms, measures

F_DIVERGENCES = [v for v in VARIANTS if v.f_divergence]
ULPS = 16  # of a value, on either side of an inequality between two computed values


def over(strategy: Callable[..., Any], dtypes: tuple[str, ...] = DTYPES, **options: Any) -> Callable[[Any], Any]:
    """Run a test on 200 drawn tuples of arrays in each dtype."""

    def decorate(test: Any) -> Any:
        @pytest.mark.parametrize("dtype", dtypes)
        @settings(
            max_examples=200, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
        )
        @given(data=st.data())
        def run(dtype: str, data: Any) -> None:
            test(data.draw(strategy(dtype, **options)), dtype, data)

        run.__name__ = test.__name__
        run.__doc__ = test.__doc__
        return run

    return decorate


def at_most(small: Any, large: Any, dtype: str, slack: float = 0.0, ulps: float = ULPS) -> bool:
    """small <= large up to rounding; infinite is infinite."""
    info = np.finfo(dtype)
    small, large = float(small), float(large)
    if math.isinf(large):
        return large > 0
    return small <= large * (1 + ulps * float(info.eps)) + 8 * float(info.tiny) + slack


def same(a: Any, b: Any, dtype: str, slack: float = 0.0, ulps: float = ULPS) -> bool:
    return at_most(a, b, dtype, slack, ulps) and at_most(b, a, dtype, slack, ulps)


def drift(*rows: Any) -> float:
    """How far the sums are from one, with a margin: the room in a statement about true histograms."""
    return 4 * max(abs(math.fsum(r.tolist()) - 1) + 2**-53 for r in rows)  # fsum rounds once


def rounding(v: Variant, p: Any, q: Any) -> float:
    """How far the value moves when every entry is rounded once: eps times p, q times the gradient, and curvature."""
    if not np.isfinite(v.of(od, p, q, normalize=False)):
        return 0.0
    _, grads = od.value_and_grad(getattr(od, v.name), (0, 1))(p, q, *v.args, normalize=False, **v.options)
    eps = float(np.finfo(p.dtype).eps)
    first = sum(float(np.sum(np.abs(a.astype(np.float64) * g))) for a, g in zip((p, q), grads, strict=True))
    return 2 * eps * first + 4 * eps**2 * float(np.sum(p, dtype=np.float64) + np.sum(q, dtype=np.float64))


# -- axioms -----------------------------------------------------------------------------------------------


@over(histograms)
def test_non_negative_and_zero_only_where_equal(pq: Any, dtype: str, data: Any) -> None:
    p, q = pq
    info = np.finfo(dtype)
    wide_p, wide_q = p.astype(np.float64), q.astype(np.float64)
    visible = np.maximum(wide_p, wide_q) > 100 * math.sqrt(info.tiny) / info.eps  # its square does not underflow
    apart = bool(np.any(visible & (np.abs(wide_p - wide_q) > 16 * info.eps * wide_q)))
    for v in DIVERGENCES:
        d = v.of(od, p, q)
        assert d >= 0, v.id
        assert v.of(od, p, p.copy()) == 0, v.id
        if apart and not v.literal:
            assert d > 0, v.id


@over(measures)
def test_measures_are_not_negative_either(pq: Any, dtype: str, data: Any) -> None:
    p, q = pq
    for v in DIVERGENCES:
        if not v.literal:
            assert v.of(od, p, q, normalize=False) >= 0, v.id
            assert v.of(od, p, p.copy(), normalize=False) == 0, v.id


@over(histograms)
def test_symmetric_where_declared(pq: Any, dtype: str, data: Any) -> None:
    p, q = pq
    for v in (v for v in DIVERGENCES if v.symmetric):
        assert same(v.of(od, p, q), v.of(od, q, p), dtype), v.id


@over(histograms, count=3)
def test_triangle_inequality(pqr: Any, dtype: str, data: Any) -> None:
    p, q, r = pqr
    for v in (v for v in DIVERGENCES if v.metric):
        assert at_most(v.of(od, p, r), v.of(od, p, q) + v.of(od, q, r), dtype), v.id


# -- bounds and inequalities ------------------------------------------------------------------------------


@over(histograms)
def test_bounds(pq: Any, dtype: str, data: Any) -> None:
    p, q = pq
    room = drift(p, q)
    for name, bound in {
        "tv": 1,
        "hellinger": 1,
        "hellinger-squared=True": 1,
        "js": math.log(2),
        "js-base=2": 1,
        "js_distance": math.sqrt(math.log(2)),
        "js_distance-base=2": 1,
        "chi2-kind=symmetric": 2,
        "l2": math.sqrt(2),
    }.items():
        assert at_most(variant(name).of(od, p, q), bound, dtype, 2 * room), name
    assert at_most(od.entropy(p), math.log(len(p)), dtype, 2 * room * (1 + math.log(len(p))))


@over(histograms)
def test_inequalities_between_divergences(pq: Any, dtype: str, data: Any) -> None:
    p, q = pq
    room = drift(p, q)
    tv, h2, h = float(od.tv(p, q)), float(od.hellinger(p, q, squared=True)), float(od.hellinger(p, q))
    kl, js, chi2 = float(od.kl(p, q)), float(od.js(p, q)), float(od.chi2(p, q))
    assert at_most(h2, tv, dtype)
    assert at_most(tv, math.sqrt(2) * h, dtype, room)
    assert at_most(tv, math.sqrt(kl / 2), dtype, room)
    assert at_most(js, math.log(2) * tv, dtype)
    # KL <= log(1 + chi2) holds for histograms; sums off by d shift KL of measures by the order of d^2 and d KL
    assert at_most(kl, math.log1p(chi2) if math.isfinite(chi2) else chi2, dtype, room**2, ULPS + 8)
    assert at_most(js, od.jeffreys(p, q) / 4, dtype)
    assert at_most(2 * h2, kl, dtype)
    assert at_most(od.chi2(p, q, kind="symmetric") / 4, h2, dtype)
    assert at_most(h2, od.chi2(p, q, kind="symmetric") / 2, dtype)


# -- invariances ------------------------------------------------------------------------------------------


@over(histograms)
def test_order_of_bins_does_not_matter(pq: Any, dtype: str, data: Any) -> None:
    p, q = pq
    order = data.draw(st.permutations(range(len(p))))
    for v in VARIANTS:
        a, b = v.of(od, p[order], q[order]), v.of(od, p, q)
        assert same(a, b, dtype, drift(p, q) ** 2), v.id


@over(measures)
def test_cutting_a_bin_changes_no_f_divergence(pq: Any, dtype: str, data: Any) -> None:
    i = data.draw(st.integers(0, len(pq[0]) - 1))
    cut = [np.concatenate([a, a[[i, i]] / 4]) for a in pq]
    for a in cut:
        a[i] /= 2
    for v in F_DIVERGENCES:
        a, b = (v.of(od, *x, normalize=False) for x in (cut, pq))
        assert same(a, b, dtype), v.id


@over(measures)
def test_merging_bins_never_increases_an_f_divergence(pq: Any, dtype: str, data: Any) -> None:
    fine = [np.append(a, a[0]) for a in pq]
    i = data.draw(st.integers(0, len(pq[0])))
    j = data.draw(st.integers(0, len(pq[0])))
    assume(i != j)
    merged = [np.append(np.delete(a, [i, j]), a[i] + a[j]) for a in fine]
    for v in F_DIVERGENCES:
        before, after = v.of(od, *fine, normalize=False), v.of(od, *merged, normalize=False)
        assert at_most(after, before, dtype, rounding(v, *merged)), v.id


@over(measures)
def test_powers_of_two_scale_exactly(pq: Any, dtype: str, data: Any) -> None:
    p, q = pq
    n = data.draw(st.integers(-20, 20).map(lambda i: 2 * i))
    lowest = min([float(a[a > 0].min()) for a in pq if np.any(a > 0)])
    assume(lowest > {"float64": 1e-120, "float32": 1e-10}[dtype])
    scale = p.dtype.type(2.0**n)
    for v in (v for v in DIVERGENCES if not v.literal):
        a, b = v.of(od, p * scale, q * scale, normalize=False), v.of(od, p, q, normalize=False)
        want = b * p.dtype.type(2.0 ** (n * (v.degree if v.name != "l2" or v.degree == 2 else 1)))
        if dtype == "float32":  # the scale decides between float32 and float64 arithmetic
            assert same(a, want, dtype), v.id
        else:
            assert a == want, v.id


@over(measures, count=4, max_bins=5)
def test_jointly_convex(rows: Any, dtype: str, data: Any) -> None:
    p, q, r, s = rows
    half = p.dtype.type(0.5)
    middle = half * p + half * r, half * q + half * s
    for v in [*F_DIVERGENCES, variant("l2")]:
        ends = 0.5 * float(v.of(od, p, q, normalize=False)) + 0.5 * float(v.of(od, r, s, normalize=False))
        mid = v.of(od, *middle, normalize=False)
        assert at_most(mid, ends, dtype, rounding(v, *middle)), v.id


# -- the parameter of the families ------------------------------------------------------------------------


@over(histograms)
def test_renyi_does_not_decrease_in_alpha(pq: Any, dtype: str, data: Any) -> None:
    p, q = pq
    alphas = [0, 0.25, 0.5, 0.75, 1, 1.5, 2, 4, 16]
    values = [od.renyi(p, q, a) for a in alphas]
    room = drift(p, q)
    for a, low, high in zip(alphas[1:], values[:-1], values[1:], strict=True):
        assert at_most(low, high, dtype, room * (1 + float(low)) if np.isfinite(low) else 0.0), a


@over(measures)
def test_alpha_divergence_duality(pq: Any, dtype: str, data: Any) -> None:
    p, q = pq
    a = data.draw(st.sampled_from([-2, -1, 0, 0.25, 0.5, 0.75, 1, 2, 3]))
    left = od.alpha_divergence(p, q, a, normalize=False)
    assert same(left, od.alpha_divergence(q, p, 1 - a, normalize=False), dtype, ulps=64)


@over(histograms, dtypes=("float64",))
def test_families_are_continuous_at_their_limits(pq: Any, dtype: str, data: Any) -> None:
    p, q = pq
    ratios = p[(p > 0) & (q > 0)] / q[(p > 0) & (q > 0)]
    assume(len(ratios) == len(p) and max(ratios.max(), 1 / ratios.min()) < 1e3)
    kl, reverse = float(od.kl(p, q)), float(od.kl(q, p))
    for e in (1e-9, -1e-9, 1e-12, 2.0**-40):
        for got, want in (
            (od.renyi(p, q, 1 + e), kl),
            (od.tsallis(p, q, 1 + e), kl),
            (od.alpha_divergence(p, q, 1 + e), kl),
            (od.alpha_divergence(p, q, e), reverse),
        ):
            assert float(got) == pytest.approx(want, rel=1e-7, abs=1e-8 * want + drift(p, q) ** 2)


# -- identities -------------------------------------------------------------------------------------------


@over(histograms)
def test_identities_of_histograms(pq: Any, dtype: str, data: Any) -> None:
    p, q = pq
    room = 8 * drift(p, q)

    def agree(a: Any, b: Any) -> bool:
        size = float(b) if np.isfinite(b) else 0.0
        return same(a, b, dtype, room * size + room**2, 64)

    assert agree(od.renyi(p, q, 0.5), 2 * od.bhattacharyya(p, q))
    assert agree(od.js(p, q), od.js_distance(p, q) ** 2)
    h2 = float(od.hellinger(p, q, squared=True))
    if h2 < 0.99:
        assert agree(od.bhattacharyya(p, q), -math.log1p(-h2))
    entropy, cross, kl = (float(x) for x in (od.entropy(p), od.cross_entropy(p, q), od.kl(p, q)))
    assert same(cross, entropy + kl, dtype, 4 * room)
    tsallis = float(od.tsallis(p, q, 2))
    assert agree(od.renyi(p, q, 2), math.log1p(tsallis) if math.isfinite(tsallis) else tsallis)


@over(measures)
def test_identities_of_measures(pq: Any, dtype: str, data: Any) -> None:
    p, q = pq

    def d(name: str, *args: float, **options: Any) -> float:
        return float(getattr(od, name)(p, q, *args, normalize=False, **options))

    for a, b in (
        (d("tsallis", 2), d("chi2")),
        (d("alpha_divergence", 2), d("chi2") / 2),
        (d("alpha_divergence", -1), d("chi2", kind="neyman") / 2),
        (d("alpha_divergence", 0.5), 4 * d("hellinger", squared=True)),
        (d("alpha_divergence", 1), d("kl")),
        (d("tsallis", 1), d("kl")),
        (d("jeffreys"), d("kl") + float(od.kl(q, p, normalize=False))),
        (d("l2", squared=True), d("l2") ** 2),
        (d("hellinger", squared=True), d("hellinger") ** 2),
        (d("tsallis", 3.5), 3.5 * d("alpha_divergence", 3.5)),
    ):
        assert same(a, b, dtype, ulps=64)


GENERATORS = {
    "tv": variant("tv"),
    "hellinger": variant("hellinger-squared=True"),
    "pearson": variant("chi2"),
    "neyman": variant("chi2-kind=neyman"),
    "kl": variant("kl"),
    "js": variant("js"),
    "jeffreys": variant("jeffreys"),
}


@pytest.mark.parametrize("name", GENERATORS)
def test_f_divergence_by_name_is_the_function(name: str) -> None:
    @settings(max_examples=200, deadline=None, derandomize=True, database=None)
    @given(st.sampled_from(DTYPES).flatmap(measures))
    def run(pq: Any) -> None:
        p, q = pq
        got = od.f_divergence(p, q, name, normalize=False)
        assert same(got, GENERATORS[name].of(od, p, q, normalize=False), p.dtype.name, ulps=64)

    run()


def test_f_divergence_of_a_generator_of_ones_own() -> None:
    triangle = od.Generator("half triangle", f=lambda t: (t - 1) ** 2 / (2 * (t + 1)), df=None, conjugate=None)
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.25, 0.25, 0.5])
    assert od.f_divergence(p, q, triangle) == pytest.approx(od.chi2(p, q, kind="symmetric") / 2, rel=1e-13)
    entropic = od.Generator("x log x", f=lambda t: t * np.log(t), df=lambda t: np.log(t) + 1, conjugate=None)
    assert od.f_divergence(p, q, entropic) == pytest.approx(od.kl(p, q), rel=1e-13)
