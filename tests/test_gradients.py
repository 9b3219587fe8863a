"""value_and_grad of every divergence, against its definition differentiated in many digits, and against peers."""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np
import pytest

import otdist as od
from otdist.reference import divergences as reference
from tests import exact
from tests.cases import DTYPES, VARIANTS, Case, Variant, dirichlet, ids, near, unit, variant

RTOL = {"float64": 1e-10, "float32": 5e-6}
KINKED = ("hellinger", "l2", "js_distance")  # square roots: stated to have gradient 0 at p = q


def with_grad(v: Variant, argnums: Any, *arrays: Any, **options: Any) -> Any:
    used = arrays[:1] if v.unary else arrays
    return od.value_and_grad(getattr(od, v.name), argnums)(*used, *v.args, **v.options, **options)


def argnums(v: Variant) -> tuple[int, ...]:
    return (0,) if v.unary else (0, 1)


def rooted(v: Variant) -> bool:
    return v.name in KINKED and not v.options.get("squared") and v.degree != 2


def wrong(got: Any, want: Any, dtype: str, size: float = 1.0) -> str:
    """Nothing if the entries agree to RTOL, or to rounding of the largest of them (or of ``size``)."""
    rows = np.max(np.abs(want), axis=-1, keepdims=True, initial=size)
    return exact.close(got, want, dtype, RTOL[dtype], 16 * float(np.finfo(dtype).eps) * rows)


def same_value(got: Any, want: Any) -> None:
    """The value beside a gradient is summed in another order: a few ulps."""
    np.testing.assert_allclose(got, want, rtol=8 * np.finfo(np.asarray(want).dtype).eps)


def expected(v: Variant, arrays: Any, argnum: int, **options: Any) -> Any:
    return np.stack([exact.gradient(v, rows, argnum, **options) for rows in zip(*arrays, strict=True)])


def inside(dtype: str) -> list[Case]:
    rng = np.random.default_rng(30)
    q = dirichlet(rng, 1, 5, 1, dtype)
    return [
        Case("ordinary", dirichlet(rng, 2, 6, 2, dtype), dirichlet(rng, 2, 6, 2, dtype)),
        Case("near", near(rng, q, 1e-3, dtype), q),
        Case("nearer", near(rng, q, 1e-5, dtype), q),
        Case("wide", unit(10.0 ** rng.uniform(-9, 0, (2, 5)), dtype), unit(10.0 ** rng.uniform(-9, 0, (2, 5)), dtype)),
        Case("measures", 1e4 * dirichlet(rng, 1, 5, 2, dtype), 3e4 * dirichlet(rng, 1, 5, 2, dtype), False),
        Case("small measures", 1e-4 * dirichlet(rng, 1, 5, 2, dtype), 1e-4 * dirichlet(rng, 1, 5, 2, dtype), False),
        Case("one bin", np.array([[2.0]], dtype), np.array([[3.0]], dtype), False),
    ]


def up_to_a_constant(v: Variant, case: Case) -> bool:
    """Logarithms of a sum that counts as one: the gradient is known along the histograms only."""
    return v.literal and case.normalize == "check"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("v", VARIANTS, ids=ids)
def test_against_the_definition(v: Variant, dtype: str) -> None:
    for case in inside(dtype):
        arrays = (case.p, case.q)[: len(argnums(v))]
        value, grads = with_grad(v, argnums(v), *arrays, normalize=case.normalize)
        same_value(value, v.of(od, *arrays, normalize=case.normalize))
        size = 1.0
        if rooted(v):
            size = float(np.max(1 / exact.value(v, *arrays, normalize=False)))
        for n, grad in zip(argnums(v), grads, strict=True):
            want = expected(v, arrays, n, normalize=case.normalize)
            assert grad.dtype == dtype
            if up_to_a_constant(v, case):
                grad, want = (g - g.mean(-1, keepdims=True, dtype=np.float64) for g in (grad, want))
            problem = wrong(grad, want, dtype, size)
            assert not problem, f"{case.label}, argument {n}: {problem}"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("v", VARIANTS, ids=ids)
def test_through_the_normalisation(v: Variant, dtype: str) -> None:
    rng = np.random.default_rng(31)
    arrays = tuple((m * dirichlet(rng, 2, 5, 2)).astype(dtype) for m in (1.0, 3.0))[: len(argnums(v))]
    value, grads = with_grad(v, argnums(v), *arrays, normalize=True)
    same_value(value, v.of(od, *arrays, normalize=True))
    for n, grad in zip(argnums(v), grads, strict=True):
        problem = wrong(grad, expected(v, arrays, n, normalize=True), dtype, 4.0)
        assert not problem, f"argument {n}: {problem}"
        along = np.sum(grad.astype(np.float64) * arrays[n], -1)
        np.testing.assert_allclose(along, 0, atol=1e2 * np.finfo(dtype).eps)


LOGITS = {
    "ordinary": ([[0.3, -1.2, 2.5, 0.0]], [[1.0, 0.2, -0.7, 0.4]]),
    "shifted": ([[1000.25, 1001, 999, 1002]], [[-1000, -999.5, -1001, -1000]]),
    "empty in both": ([[0.0, -math.inf, 1, 0.5]], [[0.5, -math.inf, 0.25, 1]]),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("v", VARIANTS, ids=ids)
def test_through_the_softmax(v: Variant, dtype: str) -> None:
    for label, pair in LOGITS.items():
        arrays = tuple(np.array(a, dtype) for a in pair)[: len(argnums(v))]
        value, grads = with_grad(v, argnums(v), *arrays, from_logits=True)
        same_value(value, v.of(od, *arrays, from_logits=True))
        for n, grad in zip(argnums(v), grads, strict=True):
            problem = wrong(grad, expected(v, arrays, n, from_logits=True), dtype)
            assert not problem, f"{label}, argument {n}: {problem}"
            assert np.all(grad[np.isneginf(arrays[n])] == 0), label


@pytest.mark.parametrize("v", VARIANTS, ids=ids)
def test_far_logits_have_no_nan(v: Variant) -> None:
    x, y = np.array([[1000.0, -1000, 0, -3]]), np.array([[-1000.0, 1000, 3, 0]])
    for grad in with_grad(v, argnums(v), x, y, from_logits=True)[1]:
        assert not np.any(np.isnan(grad))


def test_far_logits_still_have_a_gradient() -> None:
    """KL(q | p) with q uniform and p = (e^-1000, 1) is 500 - log 2, and its gradient one half, not 0."""
    value, grad = od.value_and_grad(od.kl, 1)(np.zeros(2), np.array([-1000.0, 0]), from_logits=True)
    assert value == pytest.approx(500 - math.log(2), rel=1e-14)
    np.testing.assert_allclose(grad, [-0.5, 0.5], rtol=1e-14)


@pytest.mark.parametrize("mode", [{"normalize": False}, {"normalize": True}, {"from_logits": True}], ids=str)
@pytest.mark.parametrize("v", VARIANTS, ids=ids)
def test_against_central_differences(v: Variant, mode: Any) -> None:
    rng = np.random.default_rng(32)
    draw = (lambda: rng.normal(size=5)) if mode.get("from_logits") else (lambda: rng.uniform(0.5, 1.5, 5))
    arrays = [draw() for _ in argnums(v)]
    _, grads = with_grad(v, argnums(v), *arrays, **mode)
    h = 1e-5
    for n, grad in zip(argnums(v), grads, strict=True):
        for i in range(5):
            up, down = ([a.copy() for a in arrays] for _ in range(2))
            up[n][i] += h
            down[n][i] -= h
            slope = (v.of(od, *up, **mode) - v.of(od, *down, **mode)) / (2 * h)
            assert grad[i] == pytest.approx(slope, rel=1e-6, abs=1e-8)


def autodiff(library: str, v: Variant, arrays: list[Any], softmax: bool) -> list[Any]:
    """Gradients of the reference by the library's own autodiff, in float64."""

    def total(*args: Any, xp: Any) -> Any:
        ready = [reference.softmax(a, xp=xp) for a in args] if softmax else args
        return getattr(reference, v.name)(*ready, *v.args, **v.options, xp=xp).sum()

    if library == "torch":
        torch = importlib.import_module("torch")
        leaves = [torch.tensor(a, requires_grad=True) for a in arrays]
        total(*leaves, xp=torch).backward()
        return [np.zeros(a.shape) if a.grad is None else a.grad.numpy() for a in leaves]
    jax = importlib.import_module("jax")
    with jax.enable_x64(True):
        leaves = [jax.numpy.asarray(a) for a in arrays]
        grads = jax.grad(lambda *a: total(*a, xp=jax.numpy), argnums=tuple(range(len(leaves))))(*leaves)
        return [np.asarray(g) for g in grads]


@pytest.mark.parametrize("softmax", [False, True], ids=["measures", "logits"])
@pytest.mark.parametrize("library", ["torch", "jax"])
@pytest.mark.parametrize("v", [v for v in VARIANTS if v.args != (0,) or v.name != "renyi"], ids=ids)
def test_against_autodiff_of_the_reference(v: Variant, library: str, softmax: bool) -> None:
    rng = np.random.default_rng(33)
    arrays = [rng.normal(size=(3, 7)) if softmax else rng.uniform(0.2, 2, (3, 7)) for _ in argnums(v)]
    options = {"from_logits": True} if softmax else {"normalize": False}
    _, grads = with_grad(v, argnums(v), *arrays, **options)
    for grad, want in zip(grads, autodiff(library, v, arrays, softmax), strict=True):
        assert not wrong(grad, want, "float64")


# -- stated values at empty bins, ties and equal rows -----------------------------------------------------

SUPPORTS = {
    "p empty": ([0.5, 0.5, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]),
    "q empty": ([0.25, 0.25, 0.25, 0.25], [0.5, 0.25, 0.25, 0.0]),
    "crossing": ([0.5, 0.25, 0.25, 0.0], [0.25, 0.5, 0.0, 0.25]),
    "common": ([0.5, 0.25, 0.25, 0.0], [0.25, 0.5, 0.25, 0.0]),
    "disjoint": ([0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("support", SUPPORTS)
@pytest.mark.parametrize("v", VARIANTS, ids=ids)
def test_empty_bins(v: Variant, support: str, dtype: str) -> None:
    """One-sided derivatives, and 0 where they are infinite.

    Where both are empty a homogeneous f-divergence is at its minimum along every ray and 0 is a subgradient
    too, so there 0 is as right as the derivative along the axis.
    """
    p, q = (np.array(a, dtype) for a in SUPPORTS[support])
    arrays = (p, q)[: len(argnums(v))]
    value, grads = with_grad(v, argnums(v), *arrays, normalize=False)
    same_value(value, v.of(od, *arrays, normalize=False))
    assert not any(np.any(np.isnan(g)) for g in grads)
    if not np.isfinite(value):
        return
    empty_in_both = (p == 0) & (q == 0)
    for n, grad in zip(argnums(v), grads, strict=True):
        want = exact.gradient(v, arrays, n, normalize=False)
        if v.name == "tv":
            want[p == q] = 0
        if v.literal and v.args == (math.inf,):
            assert np.all(np.isfinite(grad))  # ties of the largest ratio have no single gradient
            continue
        want = np.where(empty_in_both & (grad == 0), 0, want)
        problem = wrong(grad, want, dtype)
        assert not problem, f"argument {n}: {problem}"


@pytest.mark.parametrize(
    ("name", "argnum", "want"),
    [
        ("tv", 0, [0.5, -0.5, 0]),
        ("tv", 1, [-0.5, 0.5, 0]),
        ("kl", 0, [math.log(2), -math.log(2), 0]),
        ("kl", 1, [-1, 0.5, 0]),
        ("l2-squared=True", 0, [0.5, -0.5, 0]),
        ("hellinger-squared=True", 0, [(1 - math.sqrt(1 / 2)) / 2, (1 - math.sqrt(2)) / 2, 0]),
        ("chi2", 0, [2, -1, 0]),
        ("chi2", 1, [-3, 0.75, 0]),
        ("js", 0, [math.log(4 / 3) / 2, math.log(2 / 3) / 2, 0]),
    ],
)
def test_written_out(name: str, argnum: int, want: list[float]) -> None:
    """(1/2, 1/4, 1/4) against (1/4, 1/2, 1/4); the third bin is a tie."""
    p, q = np.array([0.5, 0.25, 0.25]), np.array([0.25, 0.5, 0.25])
    _, grad = with_grad(variant(name), argnum, p, q)
    np.testing.assert_allclose(grad, want, rtol=1e-14, atol=1e-16)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("v", [v for v in VARIANTS if v.symmetric or v.f_divergence], ids=ids)
def test_equal_rows(v: Variant, dtype: str) -> None:
    """The minimum: a gradient of 0 (up to a constant where the sum counts as one), exactly, also at the kinks."""
    p = dirichlet(np.random.default_rng(34), 3, 6, 0.7, dtype)
    for grad in with_grad(v, (0, 1), p, p.copy())[1]:
        assert np.ptp(grad, axis=-1).max() <= 4 * np.finfo(dtype).eps if v.literal else np.all(grad == 0)


# -- interface --------------------------------------------------------------------------------------------


def test_argnums() -> None:
    rng = np.random.default_rng(35)
    p, q = dirichlet(rng, 2, 4, 1), dirichlet(rng, 2, 4, 1)
    _, both = od.value_and_grad(od.kl, (0, 1))(p, q)
    assert isinstance(both, tuple)
    assert len(both) == 2
    np.testing.assert_array_equal(od.value_and_grad(od.kl)(p, q)[1], both[0])
    np.testing.assert_array_equal(od.value_and_grad(od.kl, 1)(p, q)[1], both[1])
    (only,) = od.value_and_grad(od.kl, (1,))(p, q)[1]
    np.testing.assert_array_equal(only, both[1])
    with pytest.raises((ValueError, TypeError), match="argnums"):
        od.value_and_grad(od.kl, 2)(p, q)


@pytest.mark.parametrize("v", VARIANTS, ids=ids)
def test_broadcast_batches_sum(v: Variant) -> None:
    """The gradient of value.sum(), shaped like the input: broadcast rows collect every use."""
    rng = np.random.default_rng(36)
    p, q = dirichlet(rng, 2, 4, 2).reshape(2, 1, 4), dirichlet(rng, 3, 4, 2)
    value, grads = with_grad(v, argnums(v), p, q)
    if v.unary:
        assert grads[0].shape == p.shape
        return
    assert value.shape == (2, 3)
    one_by_one = [[with_grad(v, (0, 1), p[i, 0], q[j])[1] for j in range(3)] for i in range(2)]
    for i in range(2):
        want = np.sum([one_by_one[i][j][0] for j in range(3)], 0)
        np.testing.assert_allclose(grads[0][i, 0], want, rtol=1e-13, atol=1e-15)
    for j in range(3):
        want = np.sum([one_by_one[i][j][1] for i in range(2)], 0)
        np.testing.assert_allclose(grads[1][j], want, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("v", VARIANTS, ids=ids)
def test_axis(v: Variant) -> None:
    rng = np.random.default_rng(37)
    p, q = dirichlet(rng, 3, 4, 2), dirichlet(rng, 3, 4, 2)
    value, grads = with_grad(v, argnums(v), p, q)
    value_0, grads_0 = with_grad(v, argnums(v), p.T, q.T, axis=0)
    np.testing.assert_array_equal(value, value_0)
    for a, b in zip(grads, grads_0, strict=True):
        np.testing.assert_array_equal(a, b.T)


def test_empty_batches_and_single_rows() -> None:
    value, grad = od.value_and_grad(od.js)(np.empty((0, 3)), np.empty((0, 3)))
    assert value.shape == (0,)
    assert grad.shape == (0, 3)
    value, grad = od.value_and_grad(od.js)(np.array([0.5, 0.5]), np.array([0.25, 0.75]))
    assert np.ndim(value) == 0
    assert grad.shape == (2,)


@pytest.mark.parametrize("library", ["torch", "jax"])
@pytest.mark.parametrize("v", VARIANTS, ids=ids)
def test_other_libraries(v: Variant, library: str) -> None:
    rng = np.random.default_rng(38)
    p, q = dirichlet(rng, 2, 4, 2, "float32"), dirichlet(rng, 2, 4, 2, "float32")
    module, name = {"torch": ("torch", "tensor"), "jax": ("jax.numpy", "asarray")}[library]
    array = getattr(importlib.import_module(module), name)
    value, grads = with_grad(v, argnums(v), array(p), array(q))
    plain, plain_grads = with_grad(v, argnums(v), p, q)
    for got, want in zip((value, *grads), (plain, *plain_grads), strict=True):
        assert type(got).__module__.split(".")[0].startswith(library)
        np.testing.assert_array_equal(np.asarray(got), want)


def test_gradient_of_an_f_divergence() -> None:
    rng = np.random.default_rng(39)
    p, q = dirichlet(rng, 2, 5, 2), dirichlet(rng, 2, 5, 2)
    for name, v in {"kl": variant("kl"), "pearson": variant("chi2"), "tv": variant("tv"), "js": variant("js")}.items():
        for n in (0, 1):
            _, got = od.value_and_grad(od.f_divergence, n)(p, q, name)
            np.testing.assert_allclose(got, expected(v, (p, q), n), rtol=1e-10, atol=1e-14)
