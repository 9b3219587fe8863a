"""Divergences of rows on the device: the tests of the CPU, on arrays of the device, and what only a device has."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import otdist as od
from otdist import _evaluate, _evaluate_device
from otdist._arrays import Door
from otdist.catalogue import DIVERGENCES
from otdist.kernels import device
from tests import test_divergences, test_gradients
from tests.cases import DTYPES, FAMILIES, VARIANTS, Variant, dirichlet, ids, unit, variant
from tests.device import OnDevice, on_device, receive, send

ALL = pytest.mark.parametrize("v", VARIANTS, ids=ids)
# One variant of each formula and finish: the others share their kernels.
KINDS = [variant(text) for text in ("tv", "hellinger", "l2", "chi2-kind=neyman", "chi2-kind=symmetric", "kl", "js",
                                    "jeffreys", "renyi-0", "renyi-0.5", "renyi-0.9", "tsallis-3.5",
                                    "alpha_divergence-0.3", "cross_entropy", "entropy")]  # fmt: skip
# Each formula once; in its other float too where there is time, for every combination is a kernel to compile.
FEW = ("hellinger", "kl", "renyi-0.9", "alpha_divergence-0.3")
MANY = pytest.mark.parametrize(
    ("v", "dtype"),
    [
        pytest.param(
            v, dtype, id=f"{v.id}-{dtype}", marks=[] if (dtype == "float64") == (v.id in FEW) else pytest.mark.slow
        )
        for v in KINDS
        for dtype in DTYPES
    ],
)
FLOATS = pytest.mark.parametrize("dtype", DTYPES)


@pytest.fixture(autouse=True)
def _on_device(emulated: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (test_divergences, test_gradients):
        monkeypatch.setattr(module, "od", OnDevice())


@FLOATS
@ALL
def test_accuracy(v: Variant, dtype: str) -> None:
    for family in FAMILIES:
        test_divergences.test_accuracy(v, family, dtype)


@MANY
def test_supports(v: Variant, dtype: str) -> None:
    for support in test_divergences.SUPPORTS:
        test_divergences.test_infinite_exactly_off_support(v, support, dtype)


@MANY
def test_gradients_of_histograms(v: Variant, dtype: str) -> None:
    test_gradients.test_against_the_definition(v, dtype)
    test_gradients.test_through_the_normalisation(v, dtype)


@MANY
def test_logits(v: Variant, dtype: str) -> None:
    test_divergences.test_logits(v, dtype)
    test_gradients.test_through_the_softmax(v, dtype)
    test_gradients.test_far_logits_have_no_nan(v)


# -- what only a device has: how threads share a row, how a batch lies, half types


def both(f: Any, *arrays: Any, **options: Any) -> tuple[Any, Any]:
    """Value and gradients of the device and of the CPU, as flat lists."""
    numbers = tuple(range(len(arrays)))
    value, grads = od.value_and_grad(f, numbers)(*map(send, arrays), **options)
    want, by_cpu = od.value_and_grad(f, numbers)(*arrays, **options)
    return [receive(value), *map(receive, grads)], [want, *by_cpu]


def agree(got: Any, want: Any, rtol: float) -> None:
    for x, y in zip(got, want, strict=True):
        assert x.shape == np.shape(y)
        assert x.dtype == np.asarray(y).dtype
        y = np.asarray(y, np.float64)
        np.testing.assert_allclose(x.astype(np.float64), y, rtol=rtol, atol=rtol * np.max(np.abs(y), initial=0.0))


# a team has 4 to 32 lanes or is a block; several blocks share rows of more than 4096 (float32) bins if there are few
@pytest.mark.parametrize("k", [1, 31, 129, 257, 2049, 9001])
@pytest.mark.parametrize("options", [{}, {"normalize": True}, {"from_logits": True}], ids=str)
def test_teams(k: int, options: Any) -> None:
    rng = np.random.default_rng(k)
    p, q = (rng.standard_normal((2, k)) if options.get("from_logits") else rng.uniform(0.1, 1, (2, k)) for _ in "pq")
    if not options:
        p, q = unit(p), unit(q)
    agree(*both(od.js_distance, p.astype(np.float32), q.astype(np.float32), **options), rtol=2e-5)


@pytest.mark.parametrize("shapes", [((3, 5), (5,)), ((3, 1, 5), (4, 5)), ((2, 3, 1, 5), (2, 1, 4, 5)), ((5,), (7, 5))])
def test_broadcast_batches(shapes: Any) -> None:
    rng = np.random.default_rng(3)
    p, q = (unit(rng.uniform(0.1, 1, shape)) for shape in shapes)
    agree(*both(od.kl, p, q), rtol=1e-12)


@pytest.mark.parametrize("axis", [0, 1, -2])
def test_axes(axis: int) -> None:
    rng = np.random.default_rng(4)
    p, q = (np.moveaxis(unit(rng.uniform(0.1, 1, (2, 4, 5))), -1, axis).copy() for _ in range(2))
    agree(*both(od.kl, p, q, axis=axis), rtol=1e-12)


def test_strides_without_a_copy(emulated: Any) -> None:
    rng = np.random.default_rng(5)
    wide = unit(rng.uniform(0.1, 1, (6, 8)))
    whole = np.concatenate([wide, wide[::-1]], axis=1)
    p, q = whole[::2, :8], whole[1::2, :8]
    agree(*both(od.kl, p, q), rtol=1e-12)
    assert not any("copy" in launch.name for launch in emulated.launches)


@pytest.mark.parametrize("k", [3, 19, 64])
def test_float16(k: int) -> None:
    """Read as it is, computed in float32 and rounded once."""
    rng = np.random.default_rng(6)
    p, q = (unit(rng.uniform(0.1, 1, (4, k))).astype(np.float16) for _ in range(2))
    got, want = both(od.kl, p, q)
    for x, y in zip(got, want, strict=True):
        assert x.dtype == np.float16
        np.testing.assert_allclose(x.astype(float), y.astype(float), rtol=2.0**-10, atol=1e-7)


def test_bfloat16() -> None:
    """uint16 to CuPy; torch and JAX make it theirs."""
    rng = np.random.default_rng(6)
    p, q = (unit(rng.uniform(0.1, 1, (4, 19))).astype(ml_dtypes.bfloat16) for _ in range(2))
    space = device.Space(device.CupyMemory(0), 2)
    space.memory.owned = lambda a, bfloat16: a  # type: ignore[method-assign]
    door = Door("cupy", "bfloat16", 0, 2.0**-3.5, space)
    arrays = {"p": send(p.view(np.uint16)), "q": send(q.view(np.uint16))}
    plan = DIVERGENCES["kl"].plan()
    value, grads = _evaluate_device.evaluate_device(plan, door, arrays, _evaluate.Options(), (True, True), _evaluate)
    want, by_cpu = od.value_and_grad(od.kl, (0, 1))(p, q)
    for x, y in zip((value, *grads), (want, *by_cpu), strict=True):
        found = receive(x).view(ml_dtypes.bfloat16).astype(float)
        np.testing.assert_allclose(found, y.astype(float), rtol=2.0**-7, atol=1e-7)


def test_any_order_of_threads_gives_the_same_bits(emulated: Any) -> None:
    rng = np.random.default_rng(7)
    p, q = (unit(rng.uniform(0.1, 1, (3, 300))).astype(np.float32) for _ in range(2))
    runs = [receive(od.value_and_grad(od.js_distance)(send(p), send(q), normalize=True)) for _ in range(4)]
    for value, grad in runs[1:]:  # each launch takes the next of the four schedules
        np.testing.assert_array_equal(value, runs[0][0])
        np.testing.assert_array_equal(grad, runs[0][1])


def test_empty_batches() -> None:
    value, grad = od.value_and_grad(od.kl)(send(np.empty((0, 3))), send(np.empty((0, 3))))
    assert (value.shape, grad.shape) == ((0,), (0, 3))


@pytest.mark.parametrize("v", [variant("kl"), variant("renyi-0.9"), variant("js_distance")], ids=ids)
def test_errors_and_options(v: Variant) -> None:
    """The tests of the CPU, on the device."""
    test_divergences.test_check_allows_the_root_of_eps_and_no_more(v, "float32")
    test_divergences.test_normalize_true_divides_by_the_sum(v, "float64")
    test_divergences.test_normalize_true_needs_mass(v)
    test_divergences.test_strides_and_read_only_inputs(v)
    test_divergences.test_logits_may_be_shifted(v)


def test_bad_logits() -> None:
    for bad in (np.nan, np.inf):
        test_divergences.test_bad_logits(bad)


def test_extreme_scales() -> None:
    for scales in [(1e-310, 1.0), (1e300, 1e-300), (5e-322, 1e308)]:
        p, q = (np.array([[1.0, 3.0]]) / 4 * scales[0], np.array([[0.5, 0.5]]) * scales[1])
        for f in (od.kl, od.js_distance, od.bhattacharyya):
            agree(*both(f, p, q, normalize=True), rtol=1e-12)


@pytest.mark.parametrize("name", ["kl", "pearson", "reverse_kl"])
def test_named_generators(name: str) -> None:
    p, q = dirichlet(np.random.default_rng(8), 2, 5, 2), dirichlet(np.random.default_rng(9), 2, 5, 2)
    np.testing.assert_allclose(on_device(od.f_divergence)(p, q, name), od.f_divergence(p, q, name), rtol=1e-13)


def test_generators_of_a_caller_stay_on_the_cpu() -> None:
    square = od.Generator("square", lambda u: (u - 1) ** 2)
    p = send(dirichlet(np.random.default_rng(8), 2, 5, 2))
    with pytest.raises(ValueError, match=r"^p: found an array on a GPU; this function runs on the CPU"):
        od.f_divergence(p, p, square)
