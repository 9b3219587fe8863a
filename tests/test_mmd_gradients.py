"""value_and_grad of distances between samples: against differences, autodiff of the definition, and the papers."""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np
import pytest

import otdist as od
from otdist.reference import discrepancy as reference
from tests.sample_cases import (
    COMBINATION_IDS,
    COMBINATIONS,
    DTYPES,
    KERNELS,
    KernelCase,
    Samples,
    draw,
    exactly,
    gradient,
    ids,
    kernel,
    options,
    samples,
    simplex,
)
from tests.test_mmd_reference import gmmn_gradient

torch = pytest.importorskip("torch")

DEFINITIONS = {"biased": reference.mmd, "unbiased": reference.mmd_unbiased}
POINTS = (0, 1)
ALL = (0, 1, 2, 3)


def with_grad(argnums: Any, s: Samples, fun: Any = None, **given: Any) -> Any:
    return od.value_and_grad(fun or od.mmd, argnums)(s.x, s.y, **options(s), **given)


def autodiff(definition: Any, gram: Any, s: Samples) -> list[Any]:
    """Gradients of the definition by torch, in float64, for x, y and the weights that are given."""
    leaves = [None if z is None else torch.tensor(np.array(z, np.float64), requires_grad=True) for z in
              (s.x, s.y, s.a, s.b)]  # fmt: skip
    definition(gram, *leaves, xp=torch).sum().backward()
    return [None if z is None else np.zeros(z.shape) if z.grad is None else z.grad.numpy() for z in leaves]


def off(got: Any, want: Any) -> float:
    """The largest error relative to the largest entry, or to 1e-4."""
    assert got.shape == want.shape
    return float(np.max(np.abs(np.asarray(got, np.float64) - want), initial=0) / np.max(np.abs(want), initial=1e-4))


def small() -> list[Samples]:
    rng = np.random.default_rng(90)
    found = []
    for n, m, d in ((1, 2, 1), (4, 5, 2), (5, 4, 9), (3, 3, 20)):
        x, y = (z / math.sqrt(d) for z in (draw(rng, n, d), draw(rng, m, d, shift=0.5)))
        found += [Samples(f"{n}, {m}, d={d}", x, y), Samples("weighted", x, y, simplex(rng, n), simplex(rng, m))]
    return found


# -- the definition -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", DEFINITIONS)
@pytest.mark.parametrize("k", KERNELS, ids=ids)
def test_points_against_differences(k: KernelCase, estimator: str) -> None:
    for s in small():
        if estimator == "unbiased" and len(s.x) < 2:
            continue
        value, grads = with_grad(POINTS, s, kernel=k.make(), estimator=estimator)
        assert value == pytest.approx(od.mmd(s.x, s.y, kernel=k.make(), estimator=estimator, **options(s)), rel=1e-12)
        for n, grad in zip(POINTS, grads, strict=True):
            want = gradient(k.gram, [s.x, s.y, s.a, s.b], n, DEFINITIONS[estimator])
            assert off(grad, want) <= 1e-10, (s.label, n)


@pytest.mark.parametrize("estimator", DEFINITIONS)
@pytest.mark.parametrize("k", KERNELS, ids=ids)
def test_weights_against_differences(k: KernelCase, estimator: str) -> None:
    """The weights as free numbers: that they sum to one is the caller's constraint."""
    for s in small():
        if s.a is None or len(s.x) < 2:
            continue
        _, grads = with_grad(ALL, s, kernel=k.make(), estimator=estimator)
        for n in (2, 3):
            want = gradient(k.gram, [s.x, s.y, s.a, s.b], n, DEFINITIONS[estimator])
            tangent, wanted = (g - np.mean(g) for g in (grads[n], want))
            assert off(tangent, wanted) <= 1e-10, s.label
            assert off(grads[n], want) <= 1e-10, s.label


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("k", "family"), COMBINATIONS, ids=COMBINATION_IDS)
def test_against_autodiff_of_the_definition(k: KernelCase, family: str, dtype: str) -> None:
    """float64 to 1e-9, float32 to 1e-5 of the largest part of a sum; coincident points count for nothing."""
    for s in samples(family, dtype):
        if family in ("offset", "near") and not k.translation:
            continue
        _, grads = with_grad(POINTS, s, kernel=k.make())
        parts = [np.abs(g).max() for g in autodiff(reference.size, k.gram, s)[:2]]
        for n, (grad, want) in enumerate(zip(grads, autodiff(reference.mmd, k.gram, s)[:2], strict=True)):
            assert grad.dtype == dtype
            assert np.all(np.isfinite(grad))
            if k.cosine and s.x.shape[1] == 1:  # cosines are 1 and -1: no slope anywhere
                assert np.abs(grad).max() <= 1e-5
                continue
            allowed = {"float64": 1e-9, "float32": 1e-5}[dtype] * max(np.abs(want).max(), 1e-2 * parts[n])
            np.testing.assert_allclose(grad, want, rtol=0, atol=allowed + 1e-15, err_msg=f"{s.label}, {n}")


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.5, 2.0])
def test_energy_distance(exponent: float) -> None:
    def definition(e: float, x: Any, y: Any, a: Any, b: Any, xp: Any) -> Any:
        return reference.energy_distance(x, y, e, a, b, xp=xp)

    rng = np.random.default_rng(91)
    line = Samples("line", draw(rng, 9, 1), draw(rng, 7, 1, shift=0.5))
    weighted = Samples("weighted line", line.x, line.y, simplex(rng, 9), simplex(rng, 7))
    for s in [*small(), line, weighted]:
        argnums = POINTS if s.a is None else ALL
        value, grads = with_grad(argnums, s, od.energy_distance, exponent=exponent)
        given = {"exponent": exponent, **options(s)}
        assert value == pytest.approx(od.energy_distance(s.x, s.y, **given), rel=1e-12)
        for n, grad in zip(argnums, grads, strict=True):
            want = gradient(exponent, [s.x, s.y, s.a, s.b], n, definition)
            assert off(grad, want) <= 1e-10, (s.label, n)


@pytest.mark.parametrize("n", [5, 400])
@pytest.mark.parametrize("weighted", [False, True])
def test_energy_distance_in_one_dimension(n: int, weighted: bool) -> None:
    """With ties, which count for nothing."""
    rng = np.random.default_rng(92)
    x, y = np.round(rng.normal(size=(n, 1)), 1), np.round(rng.normal(0.3, 1, (n + 3, 1)), 1)
    s = Samples("", x, y, *((simplex(rng, n), simplex(rng, n + 3)) if weighted else ()))
    for k, fun, given in (
        (kernel("energy"), od.energy_distance, {}),
        (kernel("energy"), od.mmd, {"kernel": "energy"}),
        (kernel("laplacian"), od.mmd, {"kernel": od.Laplacian(1.5)}),
        (kernel("laplacian several"), od.mmd, {"kernel": od.Laplacian((0.5, 4.0))}),
    ):
        argnums = ALL if weighted else POINTS
        _, grads = with_grad(argnums, s, fun, **given)
        for grad, want in zip(grads, autodiff(reference.mmd, k.gram, s), strict=False):
            assert off(grad, want) <= 1e-10


# -- formulas and stated values -----------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 3, 12, 64])
def test_the_formula_of_gmmn(d: int) -> None:
    rng = np.random.default_rng(93)
    x, y = draw(rng, 40, d), draw(rng, 31, d, shift=0.5)
    for sigma in (0.7, 1.0 + math.sqrt(d)):
        _, (gx, gy) = od.value_and_grad(od.mmd, POINTS)(x, y, kernel=od.Gaussian(sigma))
        assert off(gx, gmmn_gradient(x, y, sigma)) <= 1e-10
        assert off(gy, gmmn_gradient(y, x, sigma)) <= 1e-10
    _, gx = od.value_and_grad(od.mmd)(x, y, kernel="gmmn")
    assert off(gx, sum(gmmn_gradient(x, y, float(s)) for s in reference.GMMN)) <= 1e-10


@pytest.mark.parametrize("k", KERNELS, ids=ids)
def test_the_witness_is_the_derivative_in_a_weight(k: KernelCase) -> None:
    rng = np.random.default_rng(94)
    x, y, a, b = draw(rng, 12, 3), draw(rng, 9, 3, shift=0.5), simplex(rng, 12), simplex(rng, 9)
    s = Samples("", x, y, a, b)
    _, (of_a, of_b) = with_grad((2, 3), s, kernel=k.make())
    for grad, sign, at in ((of_a, 2, x), (of_b, -2, y)):
        want = sign * od.witness(x, y, at, kernel=k.make(), **options(s))
        np.testing.assert_allclose(grad, want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [1, 2, 8, 9, 64])
@pytest.mark.parametrize("k", KERNELS, ids=ids)
def test_coincident_points(k: KernelCase, d: int, dtype: str) -> None:
    """torch.cdist has NaN there. Here they count for nothing, and equal samples have no gradient."""
    x = draw(np.random.default_rng(95), 6, d, dtype)
    x = x[[0, 0, 1, 2, 3, 4, 5, 5]]
    _, grads = od.value_and_grad(od.mmd, POINTS)(x, x[::-1].copy(), kernel=k.make())
    tiny = 1e-5 if dtype == "float32" else 1e-13
    for grad in grads:
        assert np.all(np.isfinite(grad))
        assert np.abs(grad).max() <= tiny * max(1.0, np.abs(k.gram(x, x)).max())
    if k.translation:
        one = np.repeat(x[:1], 5, 0)
        _, grads = od.value_and_grad(od.mmd, POINTS)(one, one[:3], kernel=k.make())
        assert all(np.all(grad == 0) for grad in grads) or k.id in ("linear", "nested")


@pytest.mark.parametrize("k", [k for k in KERNELS if k.translation], ids=ids)
def test_moving_everything_changes_nothing(k: KernelCase) -> None:
    rng = np.random.default_rng(96)
    s = Samples("", draw(rng, 30, 3), draw(rng, 22, 3, shift=0.5), simplex(rng, 30), simplex(rng, 22))
    _, (gx, gy) = with_grad(POINTS, s, kernel=k.make())
    np.testing.assert_allclose(gx.sum(0), -gy.sum(0), atol=1e-13 * np.abs(gx).sum())


def test_of_the_root() -> None:
    """√MMD², as GMMN minimises; 0 where it is 0."""
    rng = np.random.default_rng(97)
    x, y = draw(rng, 12, 3), draw(rng, 9, 3, shift=0.5)
    for fun, given in ((od.mmd, {"kernel": od.Gaussian(1.5)}), (od.energy_distance, {})):
        square, grads = od.value_and_grad(fun, POINTS)(x, y, **given)
        root, of_root = od.value_and_grad(fun, POINTS)(x, y, squared=False, **given)
        assert root == pytest.approx(math.sqrt(square), rel=1e-14)
        for got, grad in zip(of_root, grads, strict=True):
            np.testing.assert_allclose(got, grad / (2 * root), rtol=1e-12, atol=1e-15)
        zero, of_zero = od.value_and_grad(fun, POINTS)(x[:1], x[:1].copy(), squared=False, **given)
        assert zero == 0
        assert all(np.all(g == 0) for g in of_zero)


@pytest.mark.parametrize("estimator", ["linear", "block"])
def test_linear_and_block(estimator: str) -> None:
    rng = np.random.default_rng(98)
    x, y = draw(rng, 9, 3), draw(rng, 9, 3, shift=0.5)
    definition = reference.mmd_linear if estimator == "linear" else reference.mmd_block
    own = {} if estimator == "linear" else {"block_size": 3}
    _, grads = od.value_and_grad(od.mmd, POINTS)(x, y, kernel=od.Gaussian(1.5), estimator=estimator, **own)
    leaves = [torch.tensor(z, requires_grad=True) for z in (x, y)]
    definition(kernel("gaussian").gram, *leaves, xp=torch, **own).backward()
    for grad, leaf in zip(grads, leaves, strict=True):
        assert off(grad, leaf.grad.numpy()) <= 1e-10


def test_a_bandwidth_from_the_data_is_held_fixed() -> None:
    rng = np.random.default_rng(99)
    x, y = draw(rng, 12, 3), draw(rng, 9, 3, shift=0.5)
    sigma = reference.median_distance(x, y)
    value, grads = od.value_and_grad(od.mmd, POINTS)(x, y)
    fixed, fixed_grads = od.value_and_grad(od.mmd, POINTS)(x, y, kernel=od.Gaussian(sigma))
    assert value == pytest.approx(fixed, rel=1e-12)
    for grad, want in zip(grads, fixed_grads, strict=True):
        assert off(grad, want) <= 1e-12


# -- interface ----------------------------------------------------------------------------------------------


def test_argnums() -> None:
    rng = np.random.default_rng(100)
    s = Samples("", draw(rng, 6, 2), draw(rng, 5, 2, shift=0.5), simplex(rng, 6), simplex(rng, 5))
    _, grads = with_grad(ALL, s, kernel=od.Gaussian(1.5))
    assert [g.shape for g in grads] == [(6, 2), (5, 2), (6,), (5,)]
    for n in ALL:
        np.testing.assert_allclose(with_grad(n, s, kernel=od.Gaussian(1.5))[1], grads[n], rtol=1e-13, atol=1e-16)
        np.testing.assert_allclose(with_grad(n - 4, s, kernel=od.Gaussian(1.5))[1], grads[n], rtol=1e-13, atol=1e-16)
    swapped = with_grad((3, 0), s, kernel=od.Gaussian(1.5))[1]
    np.testing.assert_allclose(swapped[0], grads[3], rtol=1e-13)
    np.testing.assert_allclose(swapped[1], grads[0], rtol=1e-13)
    for bad in (4, -5, (), "x", 0.5, (0, 7)):
        with pytest.raises((ValueError, TypeError), match="argnums"):
            with_grad(bad, s)
    with pytest.raises((ValueError, TypeError), match="x_weights"):
        od.value_and_grad(od.mmd, 2)(s.x, s.y)


def test_batches_collect_every_use() -> None:
    rng = np.random.default_rng(101)
    x, y = rng.normal(size=(2, 1, 6, 3)), rng.normal(0.5, 1, (4, 5, 3))
    value, (gx, gy) = od.value_and_grad(od.mmd, POINTS)(x, y, kernel=od.Gaussian(1.5))
    assert value.shape == (2, 4)
    assert (gx.shape, gy.shape) == (x.shape, y.shape)
    one = {(i, j): od.value_and_grad(od.mmd, POINTS)(x[i, 0], y[j], kernel=od.Gaussian(1.5)) for i in range(2) for j in range(4)}  # fmt: skip  # noqa: E501
    for i in range(2):
        np.testing.assert_allclose(gx[i, 0], sum(one[i, j][1][0] for j in range(4)), rtol=1e-12, atol=1e-15)
    for j in range(4):
        np.testing.assert_allclose(gy[j], sum(one[i, j][1][1] for i in range(2)), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_other_libraries(library: str) -> None:
    rng = np.random.default_rng(102)
    module, name = {"torch": ("torch", "tensor"), "jax": ("jax.numpy", "asarray")}[library]
    array = getattr(importlib.import_module(module), name)
    arrays = draw(rng, 6, 2, "float32"), draw(rng, 5, 2, "float32")
    for fun, given in ((od.mmd, {"kernel": od.Gaussian(1.5)}), (od.energy_distance, {})):
        plain, plain_grads = od.value_and_grad(fun, POINTS)(*arrays, **given)
        value, grads = od.value_and_grad(fun, POINTS)(*map(array, arrays), **given)
        for got, want in zip((value, *grads), (plain, *plain_grads), strict=True):
            assert type(got).__module__.split(".")[0].startswith(library)
            np.testing.assert_array_equal(np.asarray(got), want)


def test_the_definition_falls_along_the_gradient() -> None:
    rng = np.random.default_rng(103)
    x, y = draw(rng, 40, 2), draw(rng, 50, 2, shift=1.0)
    before, grad = od.value_and_grad(od.mmd)(x, y, kernel="energy")
    after = exactly(reference.mmd, reference.energy(), x - 0.1 * grad / np.abs(grad).max(), y)
    assert after < before
