"""Distances between samples x every library, dtype, layout, shape and scale: the same answer, as it was asked."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import otdist as od
from otdist.reference import discrepancy as reference
from tests.sample_cases import draw, exactly, simplex

torch = pytest.importorskip("torch")
jax = pytest.importorskip("jax")
ml_dtypes = pytest.importorskip("ml_dtypes")

DTYPES = ["float16", "bfloat16", "float32", "float64"]
TOLERANCE = {"float16": 2.0**-9, "bfloat16": 2.0**-6, "float32": 1e-5, "float64": 1e-12}


@dataclass(frozen=True)
class Call:
    """A function of samples, ready to be called on arrays; results are tuples of arrays."""

    id: str
    of: Callable[..., Any]
    weighted: bool = True
    options: dict[str, Any] = field(default_factory=dict)
    points: bool = False

    def __call__(self, x: Any, y: Any, at: Any = None, **given: Any) -> tuple[Any, ...]:
        arrays = (x, y, at) if self.points else (x, y)
        found = self.of(*arrays, **{**self.options, **given})
        if isinstance(found, tuple):
            return (found[0], *(found[1] if isinstance(found[1], tuple) else found[1:]))
        return (found,)


def mean_and_error(*arrays: Any, **given: Any) -> tuple[Any, Any]:
    found = od.kid(*arrays, subsets=3, subset_size=2, rng=0, **given)
    return found.mean, found.standard_error


def gram(x: Any, y: Any) -> Any:
    return (od.Gaussian(1.5) + od.Linear())(x, y)


FIXED = {"bandwidth": 1.5}
CALLS = [
    Call("mmd", lambda *a, **o: od.mmd(*a, **o), options=FIXED),
    Call("mmd median", lambda *a, **o: od.mmd(*a, **o)),
    Call("mmd laplacian", lambda *a, **o: od.mmd(*a, **o), options={"kernel": "laplacian", **FIXED}),
    Call("mmd polynomial", lambda *a, **o: od.mmd(*a, **o), options={"kernel": "polynomial"}),
    Call("mmd unbiased", lambda *a, **o: od.mmd(*a, **o), options={"estimator": "unbiased", **FIXED}),
    Call("mmd linear", lambda *a, **o: od.mmd(*a, **o), False, {"estimator": "linear", **FIXED}),
    Call("mmd block", lambda *a, **o: od.mmd(*a, **o), False, {"estimator": "block", "block_size": 2, **FIXED}),
    Call("energy_distance", lambda *a, **o: od.energy_distance(*a, **o)),
    Call("witness", lambda *a, **o: od.witness(*a, **o), options=FIXED, points=True),
    Call("kid", mean_and_error, False),
    Call("gram", gram, False),
    Call("mmd gradient", lambda *a, **o: od.value_and_grad(od.mmd, (0, 1))(*a, **o), options=FIXED),
    Call("energy gradient", lambda *a, **o: od.value_and_grad(od.energy_distance, (0, 1))(*a, **o)),
]
every_call = pytest.mark.parametrize("call", CALLS, ids=lambda call: call.id)


def good(n: int = 4, d: int = 3) -> Any:
    """Points exact in every dtype, none of them zero, all different."""
    i, k = np.mgrid[:n, :d]
    return ((7 * i + 3 * k + i * k) % 16 - 7.5).astype(np.float32) / 4


def three(n: int = 4, d: int = 3) -> tuple[Any, Any, Any]:
    return good(n, d), good(n + 3, d)[3:] + np.float32(0.5), good(n + 5, d)[n:]


def convert(library: str, a: Any, dtype: str) -> Any:
    if library == "torch":
        return torch.tensor(np.asarray(a, np.float64), dtype=getattr(torch, dtype))
    if library == "jax":
        return jax.device_put(jax.numpy.asarray(a, dtype=dtype), jax.devices()[0])
    return np.asarray(a, dtype=ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)


def float64(a: Any) -> Any:
    return np.asarray(a.double() if isinstance(a, torch.Tensor) else a, np.float64)


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("dtype", DTYPES)
@every_call
def test_same_library_dtype_and_device_out(library: str, dtype: str, call: Call) -> None:
    with jax.enable_x64(True):
        arrays = [convert(library, a, dtype) for a in three()]
        results = call(*arrays)
        for result, expected in zip(results, call(*(a.astype(np.float64) for a in three())), strict=True):
            if call.id != "kid":  # whose result is a pair of numbers
                kind = {"numpy": (np.ndarray, np.generic), "torch": torch.Tensor, "jax": jax.Array}[library]
                assert isinstance(result, kind)
                assert str(result.dtype).removeprefix("torch.") == dtype
                assert result.shape == np.shape(expected)
                if library != "numpy":
                    assert result.device == arrays[0].device
                if library == "jax":
                    assert result.committed
            size = np.abs(expected).max()
            rtol = TOLERANCE[dtype] * (10 if call.id == "kid" else 1)
            np.testing.assert_allclose(float64(result), expected, rtol=rtol, atol=rtol * size)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@every_call
def test_libraries_agree_to_the_bit(dtype: str, call: Call) -> None:
    with jax.enable_x64(True):
        one, *others = (call(*(convert(lib, a, dtype) for a in three())) for lib in ("numpy", "torch", "jax"))
        for other in others:
            for a, b in zip(one, other, strict=True):
                np.testing.assert_array_equal(float64(a), float64(b))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
@pytest.mark.parametrize("shape", [(4, 3), (40, 1), (40, 12), (600, 2)])
@every_call
def test_inputs_are_never_modified(tmp_path: Any, call: Call, shape: tuple[int, int], dtype: Any) -> None:
    rng = np.random.default_rng(120)
    arrays = [np.rint(4 * rng.normal(size=shape)).astype(dtype) for _ in range(3)]
    weights = [np.full(shape[0], 1 / shape[0]) for _ in range(2)] if call.weighted else []
    own = dict(zip(("x_weights", "y_weights"), weights, strict=False))
    before = [a.tobytes() for a in (*arrays, *weights)]
    for given in ({}, own):
        results = call(*arrays, **given)
        assert [a.tobytes() for a in (*arrays, *weights)] == before
        maps = []
        for i, a in enumerate(arrays):
            np.save(tmp_path / f"{i}.npy", a)
            maps.append(np.load(tmp_path / f"{i}.npy", mmap_mode="r"))
        frozen = {}
        for name, w in given.items():
            frozen[name] = w.copy()
            frozen[name].flags.writeable = False
        for result, mapped in zip(results, call(*maps, **frozen), strict=True):
            np.testing.assert_array_equal(result, mapped)


@every_call
def test_results_are_the_callers_own(call: Call) -> None:
    arrays = three()
    for result in call(*arrays):
        if isinstance(result, np.ndarray):
            assert result.flags.writeable
            assert not any(np.shares_memory(result, a) for a in arrays)


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "fortran": np.asfortranarray,
    "reversed": lambda a: np.ascontiguousarray(a[::-1, ::-1])[::-1, ::-1],
    "strided": lambda a: np.repeat(np.repeat(a, 2, 0), 3, 1)[::2, ::3],
    "swapped": lambda a: a.astype(a.dtype.newbyteorder()),
    "unaligned": lambda a: np.frombuffer(b"\0" + a.tobytes(), np.uint8)[1:].view(a.dtype).reshape(a.shape),
    "nested list": lambda a: a.tolist(),
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@every_call
def test_memory_layout_does_not_matter(layout: str, dtype: Any, call: Call) -> None:
    for d in (1, 3, 17):
        arrays = [np.ascontiguousarray(a).astype(dtype) for a in three(4, d)]
        for expected, result in zip(call(*arrays), call(*map(LAYOUTS[layout], arrays)), strict=True):
            tolerance = TOLERANCE[np.dtype(dtype).name]
            np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize(("left", "right"), [((3, 1), (2,)), ((), (3, 2)), ((1, 2), (3, 1)), ((2,), ()), ((), ())])
@every_call
def test_batches_broadcast(call: Call, left: tuple[int, ...], right: tuple[int, ...]) -> None:
    if call.id in ("kid", "mmd median") or "gradient" in call.id:
        return
    rng = np.random.default_rng(121)
    x, y, at = rng.normal(size=(*left, 4, 3)), rng.normal(size=(*right, 4, 3)), rng.normal(size=(2, 3))
    (result,) = call(x, y, at)
    shape = np.broadcast_shapes(left, right)
    both = (np.broadcast_to(a, (*shape, 4, 3)).reshape(-1, 4, 3) for a in (x, y))
    expected = np.array([call(a, b, at)[0] for a, b in zip(*both, strict=True)])
    assert np.shape(result) == (*shape, *expected.shape[1:])
    np.testing.assert_allclose(result, expected.reshape(np.shape(result)), rtol=1e-12, atol=1e-14)


def test_bandwidths_of_a_batch() -> None:
    """A rule is applied to the pool of the whole batch, or to each pair; either way scale goes through."""
    rng = np.random.default_rng(122)
    x, y = rng.normal(size=(3, 8, 2)), rng.normal(0.5, 1, (3, 7, 2))
    value = od.mmd(x, y)
    assert value.shape == (3,)
    np.testing.assert_allclose(od.mmd(4 * x, 4 * y), value, rtol=1e-12)


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("call", [c for c in CALLS if c.id not in ("kid", "gram")], ids=lambda call: call.id)
def test_empty_batches(call: Call, library: str) -> None:
    for shape in ((0,), (2, 0)):
        x = convert(library, np.ones((*shape, 4, 3)), "float32")
        results = call(x, x, x)
        assert results[0].shape == (*shape, 4) if call.points else shape
        assert all(result.dtype == x.dtype for result in results)


def test_weights_broadcast() -> None:
    rng = np.random.default_rng(123)
    x, y = rng.normal(size=(5, 3)), rng.normal(size=(4, 3))
    a = np.stack([simplex(rng, 5) for _ in range(3)])
    got = od.mmd(x, y, x_weights=a, **FIXED)
    want = [od.mmd(x, y, x_weights=row, **FIXED) for row in a]
    np.testing.assert_allclose(got, want, rtol=1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_that_drift_are_divided_by_their_sum(dtype: str) -> None:
    """Weights of any precision are one in all up to its rounding; then MMD of equal samples is still zero."""
    rng = np.random.default_rng(124)
    x, y = draw(rng, 300, 2), draw(rng, 200, 2, shift=0.5)
    a = convert("numpy", simplex(rng, 300), dtype)
    assert od.mmd(x, x.copy(), x_weights=a, y_weights=a, **FIXED) <= 1e-12
    wide = a.astype(np.float64)
    want = od.mmd(x, y, x_weights=wide / wide.sum(), **FIXED)
    assert od.mmd(x, y, x_weights=a, **FIXED) == pytest.approx(want, rel=1e-9)
    shifted = od.mmd(x, y, x_weights=a, kernel=od.Energy() + 1e6)
    assert shifted == pytest.approx(od.mmd(x, y, x_weights=a, kernel="energy"), rel=1e-6)


def test_dtypes_join() -> None:
    x, y, _ = three()
    assert od.mmd(x.astype(np.float32), y.astype(np.float64)).dtype == np.float64
    assert od.mmd(x.astype(np.float16), y.astype(np.float32)).dtype == np.float32
    assert od.mmd(x.astype(np.int32), y.tolist()).dtype == np.float64
    assert isinstance(od.mmd(torch.tensor(x), y.tolist()), torch.Tensor)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("d", [1, 2, 7, 8, 9, 16, 33])
@pytest.mark.parametrize("n", [1, 2, 3, 31, 64, 65, 257])
def test_any_size(n: int, d: int, dtype: Any) -> None:
    rng = np.random.default_rng(125)
    name = np.dtype(dtype).name
    for m in (1, n, 129):
        x, y = draw(rng, n, d, name), draw(rng, m, d, name, 0.5)
        for kernel, gram_ in (
            (od.Gaussian(1.5), reference.gaussian(1.5)),
            (od.Laplacian(1.5), reference.laplacian(1.5)),
            (od.Polynomial(), reference.polynomial()),
        ):
            want = exactly(reference.mmd, gram_, x, y)
            assert od.mmd(x, y, kernel=kernel) == pytest.approx(float(want), rel=TOLERANCE[name], abs=1e-14)
        want = exactly(lambda e, u, v, xp: reference.energy_distance(u, v, e, xp=xp), 1.0, x, y)
        assert od.energy_distance(x, y) == pytest.approx(float(want), rel=TOLERANCE[name])


@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e-150, 1e-30, 1e30, 1e150, 1e155, 1e200, 1e300])
def test_extreme_scales(scale: float) -> None:
    """Right, or refused where squares leave the range of floats; never a wrong number."""
    rng = np.random.default_rng(126)
    wrong = []

    def check(label: str, call: Callable[[], Any], want: Any) -> None:
        try:
            got = float(call())
        except ValueError:
            if not 1e-150 <= scale <= 1e150:
                return
            raise
        if got != pytest.approx(float(want), rel=1e-11):
            wrong.append(f"{label}: {got:.6g} instead of {float(want):.6g}")

    for d in (1, 2, 9):
        x, y = draw(rng, 12, d), draw(rng, 10, d, shift=0.7)
        u, v = scale * x, scale * y
        for e in (1.0, 0.5):
            want = scale**e * od.energy_distance(x, y, exponent=e)
            check(f"energy {e}, d={d}", lambda u=u, v=v, e=e: od.energy_distance(u, v, exponent=e), want)
        for make in (od.Gaussian, od.Laplacian, od.Matern, od.IMQ, od.RationalQuadratic):
            fixed, free = make(1.5 * scale), make()
            want = od.mmd(x, y, kernel=make(1.5))
            check(f"{make.__name__}, d={d}", lambda u=u, v=v, k=fixed: od.mmd(u, v, kernel=k), want)
            want = od.mmd(x, y, kernel=make())
            check(f"{make.__name__} median, d={d}", lambda u=u, v=v, k=free: od.mmd(u, v, kernel=k), want)
        angle = od.Gaussian(0.8, "cosine")
        check(f"cosine, d={d}", lambda u=u, v=v, k=angle: od.mmd(u, v, kernel=k), od.mmd(x, y, kernel=angle))
    assert wrong == []


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e20, 1e30])
def test_extreme_scales_in_float32(scale: float) -> None:
    rng = np.random.default_rng(127)
    for d in (1, 3, 20):
        x, y = ((scale * z).astype(np.float32) for z in (draw(rng, 12, d), draw(rng, 10, d, shift=0.7)))
        wide_x, wide_y = x.astype(np.float64), y.astype(np.float64)
        for call in (
            lambda u, v: od.energy_distance(u, v),
            lambda u, v: od.mmd(u, v, kernel=od.Gaussian(1.5 * scale)),
            lambda u, v: od.mmd(u, v, kernel=od.Laplacian(1.5 * scale)),
            lambda u, v: od.mmd(u, v),
        ):
            assert float(call(x, y)) == pytest.approx(float(call(wide_x, wide_y)), rel=1e-5)


def test_large_numbers_end_as_infinity_or_as_an_error() -> None:
    """Where the answer itself is beyond the floats there is no NaN."""
    x, y = np.array([[1e200], [3e200]]), np.array([[-1e200], [2e200]])
    for fun in (lambda: od.mmd(x, y, kernel="polynomial"), lambda: od.energy_distance(x, y, exponent=1.9)):
        try:
            value = fun()
        except (ValueError, OverflowError):
            continue
        assert value == math.inf


def test_one_point_each() -> None:
    x, y = np.array([[1.0, 2.0]]), np.array([[4.0, 6.0]])
    assert od.energy_distance(x, y) == pytest.approx(10)
    assert od.mmd(x, y, kernel=od.Gaussian(5.0)) == pytest.approx(-2 * math.expm1(-0.5))
    assert od.mmd(x, x, kernel=od.Gaussian(5.0)) == 0
    np.testing.assert_allclose(od.witness(x, y, x, kernel=od.Energy()), [5.0])


# -- threads and memory -------------------------------------------------------------------------------------


def answers() -> list[Any]:
    rng = np.random.default_rng(128)
    found: list[Any] = []
    for d in (1, 3, 16):
        x, y = draw(rng, 2100, d, "float32"), draw(rng, 1300, d, "float32", 0.2)
        a = simplex(rng, 2100)
        for kernel in (od.Gaussian(2.0), od.Laplacian(2.0), od.Gaussian(2.0) + od.Polynomial(2)):
            value, grads = od.value_and_grad(od.mmd, (0, 1))(x, y, kernel=kernel)
            found += [value, *grads, od.mmd(x, y, kernel=kernel, estimator="unbiased")]
            found += [od.mmd(x, y, kernel=kernel, x_weights=a), od.witness(x, y, y[:600], kernel=kernel)]
        found += [od.energy_distance(x, y), od.mmd(x, y), od.kid(x, y, subsets=4, subset_size=300, rng=0).mean]
        found += [od.mmd(x[:1300], y, estimator="block", block_size=100, bandwidth=2.0)]
    batch = draw(rng, 600, 4).reshape(20, 30, 4)
    return [*found, od.mmd(batch, batch[::-1], bandwidth=1.5)]


def test_bits_do_not_depend_on_the_number_of_threads() -> None:
    threads = pytest.importorskip("otdist.kernels.threads")
    try:
        threads.set_thread_count(1)
        want = answers()
        for count in (2, 3):
            threads.set_thread_count(count)
            for a, b in zip(answers(), want, strict=True):
                np.testing.assert_array_equal(a, b)
    finally:
        threads.set_thread_count(None)


@pytest.mark.parametrize("d", [3, 16])
def test_the_gram_matrix_is_never_stored(d: int) -> None:
    """8000 points in float32: K would take 256 MB."""
    rng = np.random.default_rng(129)
    x, y = draw(rng, 4000, d, "float32"), draw(rng, 4000, d, "float32", 0.2)
    calls: list[Callable[[], Any]] = [
        lambda: od.mmd(x, y, bandwidth=2.0),
        lambda: od.mmd(x, y, kernel="laplacian", estimator="unbiased", bandwidth=2.0),
        lambda: od.value_and_grad(od.mmd, (0, 1))(x, y, bandwidth=2.0),
        lambda: od.energy_distance(x, y),
        lambda: od.witness(x, y, x, bandwidth=2.0),
    ]
    for call in calls:
        call()
        tracemalloc.start()
        call()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 48e6
