"""The examples the lectures and papers give, and the traps users of other libraries fall into."""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np
import pytest
import scipy.special
from scipy.spatial.distance import jensenshannon

import otdist as od
from tests.cases import DIVERGENCES, DTYPES, VARIANTS, Variant, dirichlet, ids, near

# -- examples ---------------------------------------------------------------------------------------------


def test_code_lengths_of_eight_symbols() -> None:
    """Codewords 1, 01 and 00xxx for probabilities .9, .09 and six of .01/6: 1.13 bits on average, not 3."""
    p = np.array([0.9, 0.09] + [0.01 / 6] * 6)
    lengths = np.array([1, 2, 5, 5, 5, 5, 5, 5])
    code = 2.0**-lengths
    mean_length = od.cross_entropy(p, code, base=2, normalize=False)
    assert mean_length == pytest.approx(1.13, rel=1e-14)
    bound = od.entropy(p, base=2)
    assert bound == pytest.approx(
        -0.9 * math.log2(0.9) - 0.09 * math.log2(0.09) - 0.01 * math.log2(0.01 / 6), rel=1e-14
    )
    assert bound < mean_length < bound + 1
    fixed = np.full(8, 1 / 8)
    assert od.cross_entropy(p, fixed, base=2) == pytest.approx(3, rel=1e-15)
    assert od.kl(p, fixed, base=2) == pytest.approx(3 - bound, rel=1e-13)


def gaussian(mean: float, grid: Any) -> Any:
    """log density of N(mean, 1) on a grid, as logits."""
    return -((grid - mean) ** 2) / 2


def test_two_gaussians_apart_kl_grows_and_js_saturates() -> None:
    """Means 0 to 35: KL = d^2/2 without end; JS stops at log 2 and its gradient vanishes."""
    grid = np.linspace(-12, 47, 1181)
    p = gaussian(0, grid)
    means = np.arange(0, 36, dtype=float)
    q = gaussian(means[:, None], grid)
    kl, js = od.kl(p, q, from_logits=True), od.js(p, q, from_logits=True)
    np.testing.assert_allclose(kl, means**2 / 2, rtol=1e-9, atol=1e-13)
    assert np.all(np.diff(js) >= -2 * np.finfo(float).eps)  # flat to the last bit at log 2
    assert np.all(js <= math.log(2) * (1 + 1e-15))
    assert js[-1] == pytest.approx(math.log(2), rel=1e-14)
    _, grad = od.value_and_grad(od.js, 1)(p, q, from_logits=True)
    slope = np.sum(grad * (grid - means[:, None]), -1)
    assert slope[2] > 0.1
    assert np.all(np.abs(slope[20:]) < 1e-9)
    _, grad = od.value_and_grad(od.kl, 1)(p, q, from_logits=True)
    np.testing.assert_allclose(np.sum(grad * (grid - means[:, None]), -1), means, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_parallel_segments(dtype: str) -> None:
    """P_0 on {0} x (0, 1) and P_theta on {theta} x (0, 1): only theta = 0 differs, however near theta is."""
    columns, height = 9, 16

    def segment(theta: int) -> Any:
        plane = np.zeros((columns, height), dtype)
        plane[theta] = 1 / height
        return plane.ravel()

    for theta in range(columns):
        p, q = segment(0), segment(theta)
        apart = theta != 0
        assert od.tv(p, q) == apart
        assert od.kl(p, q) == (math.inf if apart else 0)
        assert od.kl(q, p) == (math.inf if apart else 0)
        assert od.js(p, q) == pytest.approx(math.log(2) * apart, rel=float(np.finfo(dtype).eps))
        assert od.hellinger(p, q) == apart


def test_the_definitions_of_the_lecture() -> None:
    p, q = np.array([0.36, 0.48, 0.16]), np.full(3, 1 / 3)
    assert od.hellinger(p, q, convention="lecture") == pytest.approx(
        math.sqrt(np.sum((p**0.5 - q**0.5) ** 2)), rel=1e-13
    )
    assert od.l2(p, q, convention="lecture") == pytest.approx(np.sum((p - q) ** 2), rel=1e-14)
    assert od.chi2(p, q) == pytest.approx(np.sum((p - q) ** 2 / q), rel=1e-14)
    subsets = [sum(p[i] - q[i] for i in range(3) if mask >> i & 1) for mask in range(8)]
    assert od.tv(p, q) == pytest.approx(max(np.abs(subsets)), rel=1e-14)


def test_the_js_of_the_wgan_paper() -> None:
    rng = np.random.default_rng(60)
    p, q = dirichlet(rng, 5, 6, 1), dirichlet(rng, 5, 6, 1)
    m = (p + q) / 2
    np.testing.assert_allclose(od.js(p, q, convention="wgan"), od.kl(p, m) + od.kl(q, m), rtol=1e-12)
    assert od.js([1.0, 0], [0, 1.0], convention="wgan") == pytest.approx(2 * math.log(2), rel=1e-15)


def test_kl_is_asymmetric_and_infinite_off_support() -> None:
    two, one = np.array([0.5, 0.5, 0]), np.array([1.0, 0, 0])
    assert od.kl(two, one) == math.inf
    assert od.kl(one, two) == pytest.approx(math.log(2), rel=1e-15)
    assert od.jeffreys(one, two) == math.inf


def test_kl_covers_modes_and_reverse_kl_avoids_inventing() -> None:
    """A data histogram with two modes; a model of one mode, and one that spreads over everything."""
    data = np.array([0.01, 0.48, 0.01, 0.01, 0.48, 0.01])
    one_mode = np.array([0.01, 0.95, 0.01, 0.01, 0.01, 0.01])
    spread = np.full(6, 1 / 6)
    assert od.kl(data, spread) < od.kl(data, one_mode)
    assert od.kl(one_mode, data) < od.kl(spread, data)


def test_f_divergence_of_x_log_x_is_kl() -> None:
    rng = np.random.default_rng(61)
    p, q = dirichlet(rng, 4, 6, 1), dirichlet(rng, 4, 6, 1)
    np.testing.assert_allclose(od.f_divergence(p, q, "kl"), np.sum(q * (p / q) * np.log(p / q), -1), rtol=1e-12)


def test_the_optimal_discriminator() -> None:
    """L(G, D*) = E_p log D* + E_q log(1 - D*) = 2 JS - 2 log 2 at D* = p/(p + q), and no D does better."""
    rng = np.random.default_rng(62)
    p, q = dirichlet(rng, 1, 7, 1)[0], dirichlet(rng, 1, 7, 1)[0]

    def game(d: Any) -> float:
        return float(np.sum(p * np.log(d)) + np.sum(q * np.log1p(-d)))

    best = p / (p + q)
    assert game(best) == pytest.approx(2 * od.js(p, q) - 2 * math.log(2), rel=1e-13)
    for _ in range(50):
        assert game(np.clip(best + rng.normal(scale=0.1, size=7), 1e-3, 1 - 1e-3)) <= game(best)


@pytest.mark.parametrize("v", DIVERGENCES, ids=ids)
def test_equal_overlap_cannot_be_ordered(v: Variant) -> None:
    """Histograms b and c overlap a as much, though c is far: nothing that looks at bins one by one can tell."""
    a = np.array([0.5, 0.5, 0, 0, 0, 0, 0, 0])
    b = np.array([0, 0.5, 0.5, 0, 0, 0, 0, 0])
    c = np.array([0, 0.5, 0, 0, 0, 0, 0, 0.5])
    assert v.of(od, a, b) == v.of(od, a, c)


# -- traps ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_js_of_near_duplicates_is_no_nan(dtype: str) -> None:
    """scipy's jensenshannon takes the root of a sum that rounding makes negative."""
    rng = np.random.default_rng(63)
    q = dirichlet(rng, 2000, 5, 1, dtype)
    for e in (1e-3, 1e-5, 1e-7, 1e-8):
        p = near(rng, q, e, dtype)
        changed = np.any(p != q, axis=-1)
        for got in (od.js_distance(p, q), od.js(p, q)):
            assert not np.any(np.isnan(got))
            assert np.all(got >= 0)
            assert np.all(got[changed] > 0)
            assert np.all(got[~changed] == 0)


@pytest.mark.parametrize("name", ["kl", "js", "hellinger", "chi2", "jeffreys", "renyi", "bhattacharyya"])
@pytest.mark.parametrize("e", [1e-1, 1e-2, 1e-3])
def test_one_log_forms_lose_everything_near_equality(name: str, e: float) -> None:
    """At p = q(1 +- e) in float32 a plain sum of p log(p/q) has no digit left; second order is what remains."""
    k = 64
    tilt = np.where(np.arange(k) % 2, 1, -1)
    q = np.full(k, 1 / k, np.float32)
    p = (q * (1 + np.float32(e) * tilt)).astype(np.float32)
    d = (p.astype(np.float64) - q) / q
    chi2 = float(np.sum(q * d**2))
    order = {"kl": 1 / 2, "js": 1 / 8, "chi2": 1, "jeffreys": 1, "renyi": 1, "bhattacharyya": 1 / 8}
    got = float(getattr(od, name)(p, q, 2) if name == "renyi" else getattr(od, name)(p, q))
    want = math.sqrt(chi2 / 8) if name == "hellinger" else order[name] * chi2
    assert got == pytest.approx(want, rel=max(e**2, 2e-5))


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
def test_gradients_at_zeros_are_numbers(library: str) -> None:
    """F.kl_div and optax give NaN where p or q is zero."""
    p = np.array([[0.5, 0.5, 0, 0]], np.float32)
    q = np.array([[0.25, 0.25, 0.5, 0]], np.float32)
    module, name = {"numpy": ("numpy", "array"), "torch": ("torch", "tensor"), "jax": ("jax.numpy", "asarray")}[library]
    array = getattr(importlib.import_module(module), name)
    for v in VARIANTS:
        for a, b in ((p, q), (q, p), (p, p)):
            used, nums = ((array(a),), (0,)) if v.unary else ((array(a), array(b)), (0, 1))
            _, grads = od.value_and_grad(getattr(od, v.name), nums)(*used, *v.args, **v.options)
            assert not any(np.any(np.isnan(np.asarray(g))) for g in grads), v.id


def test_bins_with_a_zero_on_one_side_count() -> None:
    """NumKong leaves out every bin where either side is zero."""
    p, q = np.array([0.5, 0.5, 0]), np.array([0.5, 0, 0.5])
    assert od.kl(p, q) == math.inf
    assert od.js(p, q) == pytest.approx(math.log(2) / 2, rel=1e-15)
    assert od.tv(p, q) == 0.5
    assert od.pairwise(p[None], q[None], metric="js")[0, 0] == pytest.approx(math.log(2) / 2, rel=1e-15)
    assert od.pairwise(p[None], q[None], metric="kl")[0, 0] == math.inf


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("v", VARIANTS, ids=ids)
def test_inputs_are_not_overwritten(v: Variant, dtype: str) -> None:
    """cuVS takes the logarithm of its inputs in place."""
    rng = np.random.default_rng(64)
    kept = dirichlet(rng, 4, 6, 0.3, dtype), dirichlet(rng, 4, 6, 0.3, dtype)
    for options in ({}, {"normalize": True}, {"from_logits": True}):
        p, q = (a.copy() for a in kept)
        v.of(od, p, q, **options)
        od.value_and_grad(getattr(od, v.name))(*(p, q)[: 1 if v.unary else 2], *v.args, **v.options, **options)
        if not v.unary:
            od.pairwise(p, q, metric=v.name, **v.pair_options, **options)
            od.nearest(p, q, metric=v.name, **v.pair_options, **options)
        np.testing.assert_array_equal(p, kept[0])
        np.testing.assert_array_equal(q, kept[1])


def test_read_only_inputs() -> None:
    rng = np.random.default_rng(65)
    p, q = dirichlet(rng, 4, 6, 1), dirichlet(rng, 4, 6, 1)
    p.setflags(write=False)
    q.setflags(write=False)
    assert np.all(od.pairwise(p, q, metric="kl") > 0)
    assert np.all(od.kl(p, q, normalize=True) > 0)


def test_argument_order_and_size_against_scipy_and_torch() -> None:
    """kl(p, q) is sum p log(p/q): all of it, p first. F.kl_div takes log q first; jensenshannon is the root."""
    rng = np.random.default_rng(66)
    p, q = dirichlet(rng, 6, 5, 1), dirichlet(rng, 6, 5, 1)
    np.testing.assert_allclose(od.kl(p, q), scipy.special.rel_entr(p, q).sum(-1), rtol=1e-12)
    np.testing.assert_allclose(od.kl(p, q, normalize=False), scipy.special.kl_div(p, q).sum(-1), rtol=1e-12)
    np.testing.assert_allclose(od.entropy(p), scipy.special.entr(p).sum(-1), rtol=1e-12)
    for base in (None, 2):
        theirs = jensenshannon(p, q, base, axis=-1)
        np.testing.assert_allclose(od.js_distance(p, q, base=base), theirs, rtol=1e-12)
    torch = importlib.import_module("torch")
    theirs = torch.nn.functional.kl_div(torch.tensor(q).log(), torch.tensor(p), reduction="none").sum(-1)
    np.testing.assert_allclose(od.kl(p, q), theirs.numpy(), rtol=1e-12)
    np.testing.assert_allclose(np.diag(od.pairwise(p, q, metric="kl")), theirs.numpy(), rtol=1e-12)


@pytest.mark.parametrize("bad", [math.nan, -0.1, math.inf], ids=["nan", "negative", "infinite"])
@pytest.mark.parametrize("normalize", ["check", True, False], ids=str)
@pytest.mark.parametrize("v", VARIANTS, ids=ids)
def test_bad_entries_are_no_silent_answer(v: Variant, normalize: Any, bad: float) -> None:
    """POT's emd2 returns 0.0 for NaN and negative weights."""
    p, q = np.array([0.5, 0.25, 0.25]), np.array([bad, 0.5, 0.5])
    with pytest.raises(ValueError, match=r"^p: "):
        v.of(od, q, p, normalize=normalize)
    if not v.unary:
        with pytest.raises(ValueError, match=r"^q: "):
            v.of(od, p, q, normalize=normalize)


def test_float32_weights_that_sum_to_one_only_roughly_are_fine() -> None:
    """POT calls them infeasible."""
    p = np.full(1000, 1e-3, np.float32)
    assert np.sum(p, dtype=np.float64) != 1
    assert od.kl(p, p[::-1]) == 0
