"""Scales, orders and shapes at the edge of the arithmetic: closed forms, and one path against another."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import otdist as od
from tests.cases import VARIANTS, Variant, dirichlet, ids

PAIRS = [v for v in VARIANTS if not v.unary]


@pytest.mark.parametrize("shape", [(4, 8, 16), (8, 4, 32), (4, 4, 512), (5, 7, 17)], ids=str)
@pytest.mark.parametrize("v", PAIRS, ids=ids)
def test_shapes_that_need_no_padding(v: Variant, shape: tuple[int, int, int]) -> None:
    """Blocks of exactly the size of a tile, and rows against themselves, are computed like any other."""
    n, m, k = shape
    rng = np.random.default_rng(60)
    x, y = dirichlet(rng, n, k, 1), dirichlet(rng, m, k, 1)
    for other in (x, y):
        want = v.of(od, x[:, None], other[None])
        got = od.pairwise(x, None if other is x else y, metric=v.name, **v.pair_options)
        np.testing.assert_allclose(got, want, rtol=1e-12)


@pytest.mark.parametrize("gap", [1500.0, 3000.0, 1e4, 1e8])
@pytest.mark.parametrize("alpha", [0.3, 0.5 + 1e-12, 0.9])
def test_alpha_of_opposite_certainties(alpha: float, gap: float) -> None:
    """softmax(gap, 0) against softmax(0, gap): disjoint but for e^-gap, so D = 1/(alpha (1 - alpha))."""
    p, q = [gap, 0.0], [0.0, gap]
    exact = 1 / (alpha * (1 - alpha)) * (1 - math.exp(-gap * min(alpha, 1 - alpha)))
    assert od.alpha_divergence(p, q, alpha, from_logits=True) == pytest.approx(exact, rel=1e-13)
    value, grads = od.value_and_grad(od.alpha_divergence, (0, 1))(p, q, alpha, from_logits=True)
    assert value == pytest.approx(exact, rel=1e-13)
    assert not any(np.isnan(g).any() for g in grads)
    both = math.log1p(math.exp(-gap * abs(1 - 2 * alpha)))  # e^(-gap alpha) + e^(-gap (1 - alpha))
    renyi = (gap * min(alpha, 1 - alpha) - both) / (1 - alpha)
    assert od.renyi(p, q, alpha, from_logits=True) == pytest.approx(renyi, rel=1e-12)


def test_equal_certainties_of_logits_are_not_negative() -> None:
    for gap in (760.0, 1e4, 1e6):
        assert od.chi2([gap, 0.0], [gap, 1e3 if gap > 2e3 else 0.0], kind="neyman", from_logits=True) >= 0
        for alpha in (-2, 0, 0.3, 0.5, 1, 2, 3):
            assert 0 <= od.alpha_divergence([gap, 0.0], [gap, 1.0], alpha, from_logits=True) <= 1e-300


@pytest.mark.parametrize("alpha", [1.5, 2, 3])
def test_renyi_of_measures_off_support_is_infinite_everywhere(alpha: float) -> None:
    p, q = np.array([[0.5, 0.5, 0.0]]), np.array([[0.5, 0.0, 0.5]])
    assert od.renyi(p, q, alpha, normalize=False)[0] == math.inf
    assert od.pairwise(p, q, metric="renyi", alpha=alpha, normalize=False)[0, 0] == math.inf
    assert od.nearest(p, q, metric="renyi", alpha=alpha, normalize=False)[0][0, 0] == math.inf
    assert od.pairwise(sp.csr_array(p), sp.csr_array(q), metric="renyi", alpha=alpha, normalize=False)[0, 0] == math.inf


@pytest.mark.parametrize("scales", [(1e-310, 1.0), (1e300, 1e-300), (1e307, 1e-20), (5e-322, 1e308)], ids=str)
def test_each_argument_is_normalised_on_its_own_scale(scales: tuple[float, float]) -> None:
    p, q = np.array([1.0, 3.0]), np.array([2.0, 2.0])
    a, b = p / 4 * scales[0], q / 4 * scales[1]
    rounded = (a / a.max()) / (a / a.max()).sum(), np.array([0.5, 0.5])
    for f in (od.tv, od.kl, od.js, od.hellinger, od.l2, od.chi2, od.cross_entropy, od.bhattacharyya):
        assert f(a, b, normalize=True) == pytest.approx(f(*rounded), rel=1e-12), f.__name__
        assert od.pairwise(a[None], b[None], metric=f, normalize=True)[0, 0] == pytest.approx(f(*rounded), rel=1e-12)
    assert od.entropy(a, normalize=True) == pytest.approx(od.entropy(rounded[0]), rel=1e-12)
    _, grads = od.value_and_grad(od.kl, (0, 1))(a, b, normalize=True)
    if scales[0] > 1e-300:
        want = od.value_and_grad(od.kl)(*rounded, normalize=True)[1] / scales[0]
        np.testing.assert_allclose(grads[0], want, rtol=1e-10)


def test_sums_beyond_the_largest_number() -> None:
    p, q = 1e308 * np.array([[1, 0.5, 0.25, 1]]), np.full((1, 4), 1e308)
    want = od.chi2(p / 1e308, q / 1e308, normalize=True)[0]
    square = od.Generator("square", lambda u: (u - 1) ** 2)
    assert od.chi2(p, q, normalize=True)[0] == pytest.approx(want, rel=1e-13)
    assert od.f_divergence(p, q, square, normalize=True)[0] == pytest.approx(want, rel=1e-13)
    sparse = od.pairwise(sp.csr_array(p), sp.csr_array(q), metric="chi2", normalize=True)
    assert sparse[0, 0] == pytest.approx(want, rel=1e-13)


@pytest.mark.parametrize("scale", [1e-200, 1e-160, 1e160, 1e200])
def test_l2_of_measures_of_any_scale(scale: float) -> None:
    p, q = np.array([[3.0, 0.0, 1.0]]), np.array([[0.0, 4.0, 1.0]])
    assert od.l2(scale * p, scale * q, normalize=False)[0] == pytest.approx(5 * scale, rel=1e-14)
    for kind in (np.asarray, sp.csr_array):
        got = od.pairwise(kind(scale * p), kind(scale * q), metric="l2", normalize=False)
        assert got[0, 0] == pytest.approx(5 * scale, rel=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_equal_counts_are_equal_histograms(dtype: str) -> None:
    x = np.random.default_rng(61).random((200, 5)).astype(dtype)
    for f in (od.tv, od.l2, od.kl, od.js, od.hellinger):
        assert np.all(f(x, x.copy(), normalize=True) == 0), f.__name__


@pytest.mark.parametrize("alpha", [1e-9, -1e-9, 1e-12])
def test_small_orders_are_not_rounded(alpha: float) -> None:
    """(1, 0) against (1/2, 1/2): D = (2^(alpha - 1) - alpha - (1 - alpha))/(alpha (alpha - 1))."""
    p, q = [1.0, 0.0], [0.5, 0.5]
    if alpha < 0:
        assert od.alpha_divergence(p, q, alpha) == math.inf
        return
    exact = -math.expm1((alpha - 1) * math.log(2)) / (alpha * (1 - alpha))
    assert od.alpha_divergence(p, q, alpha) == pytest.approx(exact, rel=1e-13)
    assert od.tsallis(p, q, alpha) == pytest.approx(alpha * exact, rel=1e-13)


@pytest.mark.parametrize("metric", ["hellinger", "kl", "js", "tv"])
def test_out_may_be_the_input(metric: str) -> None:
    x = dirichlet(np.random.default_rng(62), 6, 6, 1)
    y = dirichlet(np.random.default_rng(63), 6, 6, 1)
    want = od.pairwise(x, y, metric=metric)
    target: Any = x.copy()
    od.pairwise(target, y, metric=metric, out=target)
    np.testing.assert_array_equal(target, want)


def test_the_same_argument_twice() -> None:
    p, q = [0.5, 0.5], [0.25, 0.75]
    _, (first, second) = od.value_and_grad(od.kl, (0, 0))(p, q)
    np.testing.assert_array_equal(first, second)


def test_overflow_is_inf_without_a_warning() -> None:
    assert od.l2([1e200], [3e200], squared=True, normalize=False) == math.inf
    p, q = np.array([[1.0]], np.float32), np.array([[1e-30]], np.float32)
    far = od.Generator("fourth power", lambda u: (u - 1) ** 4)
    assert od.pairwise(p, q, metric="f_divergence", f=far, normalize=False)[0, 0] == math.inf


def test_nothing_is_nearest_among_none() -> None:
    with pytest.raises(ValueError, match="Y: found 0 rows"):
        od.nearest(np.full((2, 4), 0.25), np.empty((0, 4)), metric="tv")
