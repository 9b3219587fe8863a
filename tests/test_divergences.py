"""Every divergence on every case, against its definition in sixty digits."""

from __future__ import annotations

import importlib
import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import otdist as od
from tests import exact
from tests.cases import (
    DIVERGENCES,
    DTYPES,
    ENTROPIES,
    FAMILIES,
    RTOL,
    VARIANTS,
    Case,
    Variant,
    cases,
    dirichlet,
    ids,
    near,
    variant,
)

P = np.array([0.36, 0.48, 0.16])
Q = np.full(3, 1 / 3)
PRINTED = {
    "tv": 0.1733333333,
    "hellinger": 0.1504982751,
    "l2": 0.2286190427,
    "chi2": 0.1568,
    "chi2-kind=neyman": 0.2345679012,
    "kl": 0.0852996013,
    "js": 0.0224598604,
    "js_distance": 0.1498661417,
}


def miss(v: Variant, case: Case, dtype: str, **options: Any) -> str:
    """What is wrong with ``v`` on ``case``, or ""."""
    arrays = (case.p,) if v.unary else (case.p, case.q)
    options = {"normalize": case.normalize, **options}
    got = v.of(od, *arrays, **options)
    if got.dtype != case.p.dtype:
        return f"{case.label}: dtype {got.dtype}"
    want = exact.value(v, *arrays, **options)
    extra = exact.slack(v, *arrays, want=want, dtype=dtype, normalize=case.normalize)
    if v.name not in ENTROPIES and case.normalize == "check" and np.any(got < 0):
        return f"{case.label}: negative {got.min()!r}"
    problem = exact.close(got, want, dtype, RTOL[dtype], extra)
    return f"{case.label}: {problem}" if problem else ""


@pytest.mark.parametrize("name", PRINTED)
def test_printed_values(name: str) -> None:
    assert variant(name).of(od, P, Q) == pytest.approx(PRINTED[name], rel=0, abs=6e-11)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("v", VARIANTS, ids=ids)
def test_accuracy(v: Variant, family: str, dtype: str) -> None:
    problems = [miss(v, case, dtype) for case in cases(family, dtype)]
    assert not any(problems), "\n".join(filter(None, problems))


INFINITE = {
    "q empty": ("chi2", "kl", "jeffreys", "cross_entropy", "renyi-1", "renyi-2", "tsallis-1", "tsallis-2",
                "alpha_divergence-2", "alpha_divergence-1"),
    "p empty": ("chi2-kind=neyman", "jeffreys", "alpha_divergence--1", "alpha_divergence-0"),
    "disjoint": ("bhattacharyya", "renyi-0", "renyi-0.5", "renyi-0.9"),
}  # fmt: skip
SUPPORTS = {
    "q empty": ([0.5, 0.5], [1.0, 0.0]),
    "p empty": ([1.0, 0.0], [0.5, 0.5]),
    "disjoint": ([1.0, 0.0], [0.0, 1.0]),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("support", SUPPORTS)
@pytest.mark.parametrize("v", VARIANTS, ids=ids)
def test_infinite_exactly_off_support(v: Variant, support: str, dtype: str) -> None:
    p, q = (np.array(a, dtype) for a in SUPPORTS[support])
    plain = v.id.split("-base")[0]
    off = {"disjoint": ("q empty", "p empty", "disjoint")}.get(support, (support,))
    due = any(plain in INFINITE[s] for s in off) or (plain in ("tsallis-3.5", "alpha_divergence-3.5", "renyi-3.5")
                                                     and support != "p empty")  # fmt: skip
    assert np.isposinf(v.of(od, p, q)) == due


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("v", DIVERGENCES, ids=ids)
def test_equal_rows_are_at_zero(v: Variant, dtype: str) -> None:
    rows = [dirichlet(np.random.default_rng(k), 20, k, c, dtype) for k in (1, 2, 7, 64, 1001) for c in (0.05, 5)]
    for p in rows:
        np.testing.assert_array_equal(v.of(od, p, p.copy()), np.zeros(len(p), dtype))


def split(rng: np.random.Generator, p: Any, q: Any, bins: int) -> tuple[Any, Any, Any]:
    """p and q with bin i cut into 2^j_i equal parts, shuffled, and j: at least ``bins`` bins, exactly."""
    j = rng.integers(0, max(2, int(math.log2(bins / len(p)))), len(p))
    j[np.argmax(p)] = math.ceil(math.log2(bins))
    order = rng.permutation(int(np.sum(2**j)))
    return *(np.repeat(np.ldexp(a, -j), 2**j)[order] for a in (p, q)), j


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bins", [256, 1000, 10**6])
@pytest.mark.parametrize("kind", ["apart", "near"])
def test_many_bins(kind: str, bins: int, dtype: str) -> None:
    """Cutting bins into equal parts in both leaves an f-divergence as it was, so few digits are lost in 10^6 bins."""
    rng = np.random.default_rng(bins)
    q = dirichlet(rng, 1, 12, 1, dtype)[0]
    p = dirichlet(rng, 1, 12, 1, dtype)[0] if kind == "apart" else near(rng, q, 1e-4, dtype)
    fine_p, fine_q, j = split(rng, p, q, bins)
    assert len(fine_p) >= bins
    for v in (v for v in DIVERGENCES if v.f_divergence or v.degree == 0.5):
        want = exact.value(v, p, q)
        assert not exact.close(v.of(od, fine_p, fine_q), want, dtype, RTOL[dtype]), v.id
    squares = float(np.sum((p.astype(np.longdouble) - q) ** 2 * 2.0**-j))
    assert not exact.close(od.l2(fine_p, fine_q, squared=True), np.array(squares), dtype, RTOL[dtype])
    cut = float(np.sum(p.astype(np.longdouble) * j) * np.log(np.longdouble(2)))
    want_entropy = float(exact.value(variant("entropy"), p)) + cut
    assert not exact.close(od.entropy(fine_p), np.array(want_entropy), dtype, RTOL[dtype])


# -- options ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [2, 10, math.e, 0.5 + 1])
@pytest.mark.parametrize("name", ["kl", "js", "jeffreys", "bhattacharyya", "cross_entropy", "entropy", "renyi-2"])
def test_base_rescales(name: str, base: float) -> None:
    v = variant(name)
    assert v.of(od, P, Q, base=base) == pytest.approx(v.of(od, P, Q) / math.log(base), rel=1e-14)


def test_base_of_the_js_distance_is_under_the_root() -> None:
    assert od.js_distance(P, Q, base=2) == pytest.approx(math.sqrt(od.js(P, Q, base=2)), rel=1e-14)
    assert od.js_distance([1.0, 0.0], [0.0, 1.0], base=2) == pytest.approx(1, rel=1e-15)


def test_conventions() -> None:
    assert od.hellinger(P, Q, convention="lecture") == pytest.approx(math.sqrt(2) * od.hellinger(P, Q), rel=1e-14)
    assert od.hellinger(P, Q, convention="lecture", squared=True) == pytest.approx(
        2 * od.hellinger(P, Q, squared=True), rel=1e-14
    )
    assert od.l2(P, Q, convention="lecture") == od.l2(P, Q, squared=True)
    assert od.js(P, Q, convention="wgan") == pytest.approx(2 * od.js(P, Q), rel=1e-15)


@pytest.mark.parametrize("option", [{"base": -1}, {"base": 1}, {"base": 0}, {"base": math.nan}])
def test_a_base_that_is_none(option: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="base"):
        od.kl(P, Q, **option)


@pytest.mark.parametrize(
    ("name", "argument", "args", "options"),
    [
        ("chi2", "kind", (), {"kind": "person"}),
        ("hellinger", "convention", (), {"convention": "wgan"}),
        ("l2", "convention", (), {"convention": "wgan"}),
        ("js", "convention", (), {"convention": "lecture"}),
        ("kl", "normalize", (), {"normalize": "yes"}),
        ("renyi", "alpha", (-0.5,), {}),
        ("renyi", "alpha", (math.nan,), {}),
        ("tsallis", "alpha", (0.0,), {}),
        ("tsallis", "alpha", (-1.0,), {}),
        ("alpha_divergence", "alpha", (math.inf,), {}),
        ("f_divergence", "f", ("no such",), {}),
    ],
)
def test_unknown_option_values_are_named(name: str, argument: str, args: tuple[Any, ...], options: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=argument):
        getattr(od, name)(P, Q, *args, **options)


# -- normalize --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("v", VARIANTS, ids=ids)
def test_check_allows_the_root_of_eps_and_no_more(v: Variant, dtype: str) -> None:
    p, q = P.astype(dtype), Q.astype(dtype)
    root = math.sqrt(np.finfo(dtype).eps)
    for factor in (1 + root / 2, 1 - root / 2):
        assert np.isfinite(v.of(od, (P * factor).astype(dtype), q))
    for factor in (1 + 2 * root, 1 - 2 * root, 2, 0):
        with pytest.raises(ValueError, match=r"^p: "):
            v.of(od, (P * factor).astype(dtype), q)
        if not v.unary:
            with pytest.raises(ValueError, match=r"^q: "):
                v.of(od, p, (Q * factor).astype(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("v", VARIANTS, ids=ids)
def test_normalize_true_divides_by_the_sum(v: Variant, dtype: str) -> None:
    rng = np.random.default_rng(4)
    p, q = dirichlet(rng, 3, 8, 1), dirichlet(rng, 3, 8, 1)
    for a, b in ((1, 1), (3, 1e-20), (1e25, 7e-30)):
        case = Case(f"masses {a:g}, {b:g}", (a * p).astype(dtype), (b * q).astype(dtype), True)
        assert not miss(v, case, dtype)


@pytest.mark.parametrize("v", VARIANTS, ids=ids)
def test_normalize_true_needs_mass(v: Variant) -> None:
    with pytest.raises(ValueError, match=r"^p: "):
        v.of(od, np.zeros(3), Q, normalize=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("v", [v for v in VARIANTS if not v.literal and v.name not in ENTROPIES], ids=ids)
def test_histograms_as_measures(v: Variant, dtype: str) -> None:
    rng = np.random.default_rng(5)
    p, q = dirichlet(rng, 4, 9, 1, dtype), dirichlet(rng, 4, 9, 1, dtype)
    np.testing.assert_allclose(v.of(od, p, q, normalize=False), v.of(od, p, q), rtol=4 * np.finfo(dtype).eps)


# -- logits -----------------------------------------------------------------------------------------------

LOGITS = {
    "ordinary": ([[0.3, -1.2, 2.5, 0.0], [5, 1, -3, 0.5]], [[1.0, 0.2, -0.7, 0.4], [-1, 0, 2, 1]]),
    "shifted": ([[1000.25, 1001, 999, 1002]], [[-1000, -999.5, -1001, -1000]]),
    "saturated": ([[1000.0, -1000, 0, -3]], [[-1000.0, 1000, 3, 0]]),
    "one far": ([[0.0, 1, 2, -1000]], [[0.5, -0.5, 0, -500]]),
    "empty in p": ([[0.0, -math.inf, 1, 0.5]], [[0.5, 0, 0.25, 1]]),
    "empty in both": ([[0.0, -math.inf, 1, 0.5]], [[0.5, -math.inf, 0.25, 1]]),
    "empty in q": ([[0.5, 0, 0.25, 1]], [[0.0, -math.inf, 1, 0.5]]),
    "one bin left": ([[-math.inf, 3.0, -math.inf, -math.inf]], [[0.5, 0, 0.25, 1]]),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("v", VARIANTS, ids=ids)
def test_logits(v: Variant, dtype: str) -> None:
    rtol = {"float64": 1e-12, "float32": 5e-6}[dtype]
    for label, pair in LOGITS.items():
        arrays = [np.array(a, dtype) for a in pair][: 1 if v.unary else 2]
        want = exact.value(v, *arrays, from_logits=True)
        problem = exact.close(v.of(od, *arrays, from_logits=True), want, dtype, rtol)
        assert not problem, f"{label}: {problem}"


@pytest.mark.parametrize("v", DIVERGENCES, ids=ids)
def test_logits_may_be_shifted(v: Variant) -> None:
    x = np.array([[0.5, -2.25, 3.0, 1.0]])
    np.testing.assert_array_equal(v.of(od, x, x + 512, from_logits=True), [0.0])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_bad_logits(bad: float) -> None:
    with pytest.raises(ValueError, match=r"^q: "):
        od.kl(np.zeros(3), np.array([0, bad, 0]), from_logits=True)
    with pytest.raises(ValueError, match=r"^p: "):
        od.kl(np.full(3, -math.inf), np.zeros(3), from_logits=True)


# -- shapes and types -------------------------------------------------------------------------------------


@pytest.mark.parametrize("v", VARIANTS, ids=ids)
def test_batches_broadcast(v: Variant) -> None:
    rng = np.random.default_rng(6)
    p = dirichlet(rng, 6, 5, 1).reshape(2, 3, 1, 5)
    q = dirichlet(rng, 4, 5, 1)
    got = v.of(od, p, q)
    if v.unary:
        assert got.shape == (2, 3, 1)
        return
    assert got.shape == (2, 3, 4)
    for i in np.ndindex(2, 3, 4):
        assert got[i] == v.of(od, p[i[0], i[1], 0], q[i[2]])


@pytest.mark.parametrize("v", VARIANTS, ids=ids)
@pytest.mark.parametrize("axis", [0, 1, 2, -2, -3])
def test_axis(v: Variant, axis: int) -> None:
    rng = np.random.default_rng(7)
    p, q = (dirichlet(rng, 6, 5, 1).reshape(2, 3, 5) for _ in range(2))
    got = v.of(od, np.moveaxis(p, -1, axis), np.moveaxis(q, -1, axis), axis=axis)
    np.testing.assert_array_equal(got, v.of(od, p, q))


def test_axis_outside() -> None:
    with pytest.raises((ValueError, IndexError), match="axis"):
        od.kl(P, Q, axis=1)


@pytest.mark.parametrize("v", VARIANTS, ids=ids)
def test_strides_and_read_only_inputs(v: Variant) -> None:
    rng = np.random.default_rng(8)
    p, q = dirichlet(rng, 4, 6, 1), dirichlet(rng, 4, 6, 1)
    want = v.of(od, p, q)
    for view in (
        lambda a: a[:, ::-1].copy()[:, ::-1],
        np.asfortranarray,
        lambda a: np.repeat(a, 2, axis=1)[:, ::2],
        lambda a: a[::-1].copy()[::-1],
    ):
        x, y = view(p), view(q)
        x.setflags(write=False)
        y.setflags(write=False)
        before = x.copy(), y.copy()
        np.testing.assert_allclose(v.of(od, x, y), want, rtol=1e-14)
        np.testing.assert_array_equal(x, before[0])
        np.testing.assert_array_equal(y, before[1])


@pytest.mark.parametrize("v", VARIANTS, ids=ids)
def test_single_and_empty_batches(v: Variant) -> None:
    one = v.of(od, P, Q)
    assert np.isscalar(one)
    assert isinstance(one, np.float64)
    assert v.of(od, P.tolist(), Q.tolist()) == one
    for shape in ((0, 3), (2, 0, 3)):
        empty = v.of(od, np.empty(shape, np.float32), np.empty(shape, np.float32))
        assert empty.shape == shape[:-1]
        assert empty.dtype == np.float32
    with pytest.raises(ValueError, match=r"^p: "):
        v.of(od, np.empty((2, 0)), np.empty((2, 0)))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["float16", "bfloat16"])
@pytest.mark.parametrize("v", VARIANTS, ids=ids)
def test_half_precision_is_computed_in_float32(v: Variant, dtype: Any) -> None:
    sixteenths = np.array([[1, 2, 5, 8, 0], [3, 3, 3, 3, 4]]) / 16
    p, q = sixteenths.astype(dtype), sixteenths[::-1].astype(dtype)
    got = v.of(od, p, q)
    assert got.dtype == dtype
    single = v.of(od, p.astype(np.float32), q.astype(np.float32))
    np.testing.assert_array_equal(got.astype(np.float64), single.astype(dtype).astype(np.float64))
    logits = np.array([[1, 0.5, -2, 3]], dtype)
    assert v.of(od, logits, logits[:, ::-1], from_logits=True).dtype == dtype


@pytest.mark.parametrize("v", VARIANTS, ids=ids)
def test_bits_do_not_depend_on_the_batch(v: Variant) -> None:
    rng = np.random.default_rng(9)
    for dtype in DTYPES:
        p, q = dirichlet(rng, 33, 70, 0.5, dtype), dirichlet(rng, 33, 70, 0.5, dtype)
        alone = np.array([v.of(od, p[i], q[i]) for i in range(33)])
        np.testing.assert_array_equal(v.of(od, p, q), alone)


@pytest.mark.parametrize("library", ["torch", "jax"])
@pytest.mark.parametrize("v", VARIANTS, ids=ids)
def test_other_libraries(v: Variant, library: str) -> None:
    p, q = P.astype(np.float32)[None], Q.astype(np.float32)[None]
    module, name = {"torch": ("torch", "tensor"), "jax": ("jax.numpy", "asarray")}[library]
    array = getattr(importlib.import_module(module), name)
    x, y = array(p), array(q)
    got = v.of(od, x, y)
    assert type(got).__module__.split(".")[0].startswith(library)
    assert got.dtype == x.dtype
    np.testing.assert_array_equal(np.asarray(got), v.of(od, p, q))
