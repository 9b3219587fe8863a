"""pairwise and nearest on a GPU: against the definitions, and with the laws of the CPU."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import otdist as od
from otdist.kernels import device, pairs_cuda
from tests import exact
from tests.cases import RTOL, Variant, dirichlet, ids, near, unit, variant
from tests.test_pairwise import PAIRS, definition, hard

# One of every engine and of every finish; the other variants and types differ in numbers only.
FEW = [
    ("tv", "float32"),
    ("l2", "float32"),
    ("chi2", "float64"),
    ("chi2-kind=neyman", "float32"),
    ("chi2-kind=symmetric", "float32"),
    ("hellinger", "float32"),
    ("kl", "float64"),
    ("js", "float32"),
    ("js_distance", "float64"),
    ("jeffreys", "float64"),
    ("renyi-0", "float64"),
    ("renyi-3.5", "float64"),
    ("bhattacharyya", "float64"),
    ("alpha_divergence-0.3", "float64"),
    ("cross_entropy", "float64"),
]
CHOSEN = [(variant(name), dtype) for name, dtype in FEW]
REST = [(v, d) for v in PAIRS for d in RTOL if (v, d) not in CHOSEN]
some = pytest.mark.parametrize(("v", "dtype"), CHOSEN, ids=lambda x: getattr(x, "id", x))
every = pytest.mark.parametrize(
    ("v", "dtype"),
    [pytest.param(*case, id=f"{case[0].id}-{case[1]}") for case in CHOSEN]
    + [pytest.param(*case, id=f"{case[0].id}-{case[1]}", marks=pytest.mark.slow) for case in REST],
)
KL, TV, JS = variant("kl"), variant("tv"), variant("js")

pytestmark = pytest.mark.usefixtures("emulated")


def put(x: Any) -> Any:
    import cupy

    return cupy.asarray(x)


def matrix(v: Variant, x: Any, y: Any = None, **options: Any) -> Any:
    arrays = [put(a) for a in (x, y) if a is not None]
    return od.pairwise(*arrays, metric=v.name, **v.pair_options, **options).get()


def closest(v: Variant, x: Any, y: Any, **options: Any) -> Any:
    return tuple(a.get() for a in od.nearest(put(x), put(y), metric=v.name, **v.pair_options, **options))


@every
def test_accuracy(v: Variant, dtype: str) -> None:
    x, y = hard(dtype, 40)
    want, extra = definition(v, x, y, dtype)
    got = matrix(v, x, y)
    assert got.dtype == dtype
    assert not np.any(got < 0)
    assert not exact.close(got, want, dtype, RTOL[dtype], extra)


@every
def test_wide_ranges_and_measures(v: Variant, dtype: str) -> None:
    rng = np.random.default_rng(42)
    x, y = (unit(10.0 ** rng.uniform(-30, 0, (3, 9)), dtype) for _ in range(2))
    want, extra = definition(v, x, y, dtype)
    assert not exact.close(matrix(v, x, y), want, dtype, RTOL[dtype], extra)
    masses = np.array([[1e-12], [1.0], [1e12]])
    x, y = (x * masses).astype(dtype), (y * masses[::-1]).astype(dtype)
    want, extra = definition(v, x, y, dtype, normalize=False)
    assert not exact.close(matrix(v, x, y, normalize=False), want, dtype, RTOL[dtype], extra)


@pytest.mark.parametrize(
    ("v", "dtype"),
    [(KL, "float64"), (JS, "float32"), (JS, "float64"), (variant("renyi-3.5"), "float64")],
    ids=lambda x: getattr(x, "id", x),
)
def test_edges_of_tiles(v: Variant, dtype: str) -> None:
    """Against the CPU, whose tests are against the definitions."""
    for n, m, k in ((1, 1, 1), (65, 130, 37), (3, 64, 16), (129, 2, 18)):
        rng = np.random.default_rng(n)
        x, y = dirichlet(rng, n, k, 0.5, dtype), dirichlet(rng, m, k, 0.5, dtype)
        y[: n // 3] = near(rng, x[: len(y[: n // 3])], 1e-5, dtype) if k > 1 else y[: n // 3]
        want = od.pairwise(x, y, metric=v.name, **v.pair_options)
        _, extra = definition(v, x[:2], y[:2], dtype)
        assert not exact.close(matrix(v, x, y), want, dtype, 2 * RTOL[dtype], np.max(extra) + 4e-16)


@some
def test_with_itself(v: Variant, dtype: str) -> None:
    x = np.vstack(hard(dtype, 43))
    x = np.vstack([x, x[:2], dirichlet(np.random.default_rng(3), 60, x.shape[1], 1, dtype)])
    got = matrix(v, x)
    if v.name != "cross_entropy":
        assert np.all(np.diag(got) == 0)
        assert np.all(np.diag(matrix(v, x, x.copy())) == 0)
    if v.symmetric:
        np.testing.assert_array_equal(got, got.T)
    other = matrix(v, x, x.copy()).astype(np.float64)
    assert not exact.close(got, other, dtype, 2 * RTOL[dtype], 4e-16)


@pytest.mark.parametrize("mass", [2.0**-940, 2.0**66, 2.0**960])
@pytest.mark.parametrize("name", ["kl", "js_distance", "bhattacharyya"])
def test_measures_of_any_scale(name: str, mass: float) -> None:
    v = variant(name)
    x, y = hard("float64", 44)
    want = od.pairwise(x * mass, y * mass, metric=v.name, normalize=False, **v.pair_options)
    got = matrix(v, x * mass, y * mass, normalize=False)
    assert not exact.close(got, want, "float64", 1e-13)


@pytest.mark.parametrize("name", ["kl", "chi2", "cross_entropy", "alpha_divergence-2", "renyi-3.5"])
def test_lost_mass_is_infinite_even_if_tiny(name: str) -> None:
    v = variant(name)
    rng = np.random.default_rng(4)
    x, y = dirichlet(rng, 4, 64, 1), dirichlet(rng, 3, 64, 1)
    for tiny in (1e-20, 5e-324):
        y[1, 5], x[2, 5], x[3, 5] = 0.0, 0.0, tiny
        expected = np.zeros((4, 3), bool)
        expected[[0, 1, 3], 1] = True
        np.testing.assert_array_equal(np.isinf(matrix(v, x, y, normalize=False)), expected)


@pytest.mark.parametrize("v", [KL, JS, variant("renyi-3.5")], ids=ids)
def test_modes(v: Variant) -> None:
    rng = np.random.default_rng(44)
    x, y = rng.normal(size=(4, 6)), rng.normal(size=(3, 6))
    x[1, 2] = -np.inf
    for options in ({"from_logits": True}, {"normalize": True}):
        a, b = (x, y) if "from_logits" in options else (np.exp(x), np.exp(y))
        want = v.of(od, a[:, None], b[None], **options)
        np.testing.assert_allclose(matrix(v, a, b, **options), want, rtol=1e-12)
        single = matrix(v, a.astype("f4"), b.astype("f4"), **options)
        assert single.dtype == np.float32
        np.testing.assert_allclose(single, want, rtol=2e-5)


@pytest.mark.parametrize("v", [KL, JS, TV, variant("renyi-3.5"), variant("chi2")], ids=ids)
def test_logits_that_would_underflow(v: Variant) -> None:
    x = np.array([[0.0, -1000.0, -3.0, -np.inf], [0.0, -1.0, -2.0, -800.0], [0.1, -990.0, -3.0, -np.inf]])
    y = np.array([[0.0, -1001.0, -2.0, -4.0], [-2.0, 0.0, -1.0, -700.0]])
    want = od.pairwise(x, y, metric=v.name, from_logits=True, **v.pair_options)
    np.testing.assert_allclose(matrix(v, x, y, from_logits=True), want, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["float16", "bfloat16"])
@pytest.mark.parametrize("v", [TV, KL], ids=ids)
def test_half_precision(v: Variant, dtype: Any) -> None:
    sixteenths = np.array([[1, 2, 5, 8, 0], [3, 3, 3, 3, 4], [16, 0, 0, 0, 0]]) / 16
    x = sixteenths.astype(dtype)
    got = matrix(v, x, x[::-1].copy())
    assert got.dtype == dtype
    single = od.pairwise(x.astype(np.float32), x[::-1].astype(np.float32), metric=v.name)
    np.testing.assert_array_equal(got.astype(np.float64), single.astype(dtype).astype(np.float64))


@pytest.mark.parametrize("v", [KL, TV, variant("chi2-kind=neyman")], ids=ids)
def test_batches(v: Variant) -> None:
    rng = np.random.default_rng(49)
    x, y = dirichlet(rng, 12, 5, 1).reshape(2, 1, 6, 5), dirichlet(rng, 12, 5, 1).reshape(3, 4, 5)
    np.testing.assert_allclose(matrix(v, x, y), od.pairwise(x, y, metric=v.name, **v.pair_options), rtol=1e-13)
    wide = put(np.repeat(y, 2, axis=-1))[..., ::2]  # of any strides
    np.testing.assert_array_equal(od.pairwise(wide, metric=v.name, **v.pair_options).get(), matrix(v, y))
    for got, want in zip(closest(v, x, y, k=2), od.nearest(x, y, metric=v.name, k=2, **v.pair_options), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-13)


def test_empty() -> None:
    rows = np.full((4, 3), 1 / 3)
    for x, y, shape in ((rows[:0], rows, (0, 4)), (rows, rows[:0], (4, 0)), (rows[:0], None, (0, 0))):
        got = matrix(KL, x, y)
        assert got.shape == shape
        assert got.dtype == np.float64
    distances, indices = closest(KL, rows[:0], rows, k=2)
    assert distances.shape == indices.shape == (0, 2)
    with pytest.raises(ValueError, match="X"):
        matrix(KL, np.empty((2, 0)), np.empty((2, 0)))


@pytest.mark.parametrize(("v", "dtype"), [(KL, "float64"), (TV, "float32"), (variant("jeffreys"), "float64")], ids=str)
def test_no_bit_depends_on_memory_or_on_the_order_of_threads(v: Variant, dtype: str, emulated: Any) -> None:
    rng = np.random.default_rng(47)
    x, y = dirichlet(rng, 140, 33, 0.5, dtype), dirichlet(rng, 150, 33, 0.5, dtype)
    y[:20] = near(rng, x[:20], 1e-4, dtype)
    whole, best = matrix(v, x, y), closest(v, x, y, k=3)
    for schedule in range(4):
        emulated.schedule = schedule
        np.testing.assert_array_equal(matrix(v, x, y, memory_limit=1 << 15), whole)
        for a, b in zip(closest(v, x, y, k=3, memory_limit=1 << 15), best, strict=True):
            np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(matrix(v, x, memory_limit=1 << 15), matrix(v, x))


@pytest.mark.parametrize(("v", "dtype"), [(TV, "float32"), (JS, "float64")], ids=str)
def test_blocks_of_several_tiles(v: Variant, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(48)
    x, y = dirichlet(rng, 70, 20, 0.5, dtype), dirichlet(rng, 330, 20, 0.5, dtype)
    whole, own = matrix(v, x, y), matrix(v, y)
    monkeypatch.setattr(pairs_cuda, "ENOUGH", 0)
    np.testing.assert_array_equal(matrix(v, x, y), whole)
    np.testing.assert_array_equal(matrix(v, y), own)


def test_out() -> None:
    x, y = hard("float32", 46)
    want = matrix(KL, x, y)
    out = put(np.full(want.shape, np.nan, "f4"))
    assert od.pairwise(put(x), put(y), metric="kl", out=out) is out
    np.testing.assert_array_equal(out.get(), want)
    wide = put(np.full((want.shape[0], 2 * want.shape[1]), -1, "f4"))
    od.pairwise(put(x), put(y), metric="kl", out=wide[:, ::2])
    np.testing.assert_array_equal(wide.get()[:, ::2], want)
    assert np.all(wide.get()[:, 1::2] == -1)
    for bad in (np.empty(want.shape, "f4"), put(np.empty((2, 2), "f4")), put(np.empty(want.shape)), [1.0]):
        with pytest.raises((ValueError, TypeError), match="out"):
            od.pairwise(put(x), put(y), metric="kl", out=bad)


@pytest.mark.parametrize(("v", "dtype"), [(KL, "float64"), (TV, "float32"), (variant("chi2-kind=neyman"), "float32")])
def test_nearest_is_a_sort_of_the_matrix(v: Variant, dtype: str) -> None:
    x, y = hard(dtype, 51)
    y = np.vstack([y, y[::-1], y])  # every distance occurs three times: ties; and infinities
    whole = matrix(v, x, y)
    order = np.argsort(whole, axis=-1, kind="stable")
    for k in (1, 3, len(y)):
        distances, indices = closest(v, x, y, k=k)
        assert distances.dtype == dtype
        np.testing.assert_array_equal(indices, order[:, :k])
        np.testing.assert_array_equal(distances, np.take_along_axis(whole, order[:, :k], -1))


@pytest.mark.parametrize("k", [1, 40, 1500])
def test_nearest_of_many(k: int) -> None:
    """More columns than are sorted at once, worst order first."""
    t = np.linspace(1, 0.02, 2600)[:, None]
    y = np.hstack([t, 1 - t])
    y[700:900] = y[100:300]
    x = np.array([[0.0, 1.0], [1.0, 0.0], [0.3, 0.7]])
    whole = matrix(TV, x, y)
    order = np.argsort(whole, axis=-1, kind="stable")[:, :k]
    distances, indices = closest(TV, x, y, k=k)
    np.testing.assert_array_equal(indices, order)
    np.testing.assert_array_equal(distances, np.take_along_axis(whole, order, -1))


@pytest.mark.parametrize(
    ("x", "y", "options"),
    [
        (np.eye(3), np.eye(4), {}),
        (np.eye(3)[0], np.eye(3), {}),
        (np.eye(3), np.eye(3) * [[1], [-1], [1]], {}),
        (np.eye(3) * np.nan, np.eye(3), {}),
        (np.eye(3), np.eye(3) * 2, {}),
        (np.eye(3) * [[1], [0], [1]], np.eye(3), {"normalize": True}),
        (np.eye(3), np.full((2, 3), -np.inf), {"from_logits": True}),
        (np.full((4, 3), np.inf), np.eye(3), {"from_logits": True}),
    ],
)
def test_errors_are_those_of_the_cpu(x: Any, y: Any, options: Any) -> None:
    with pytest.raises((ValueError, TypeError)) as cpu:
        od.pairwise(x, y, metric="kl", **options)
    with pytest.raises(type(cpu.value)) as gpu:
        matrix(KL, x, y, **options)
    assert str(gpu.value) == str(cpu.value)
    if x.shape[-1] == y.shape[-1] and x.ndim > 1:
        with pytest.raises(type(cpu.value)):
            closest(KL, x, y, **options)


def test_bad_rows_are_nan_and_alone(emulated: Any) -> None:
    """One status word is read, at the end, or nothing within `deferred_checks`; good rows keep their values."""
    x, y = hard("float64", 52)
    want = matrix(KL, x, y)
    emulated.reads.clear()
    result = od.pairwise(put(x), put(y), metric="kl")
    assert emulated.reads == [8]
    np.testing.assert_array_equal(result.get(), want)
    x[3, 2], y[1] = np.nan, 0.5
    emulated.reads.clear()
    results = []

    def deferred() -> None:
        with device.deferred_checks():
            results.append(od.pairwise(put(x), put(y), metric="kl"))
            assert not emulated.reads

    with pytest.raises(ValueError, match="X"):
        deferred()
    got = results[0].get()
    bad = np.zeros(want.shape, bool)
    bad[3], bad[:, 1] = True, True
    np.testing.assert_array_equal(np.isnan(got), bad)
    np.testing.assert_array_equal(got[~bad], want[~bad])


def test_a_generator_stays_on_the_cpu() -> None:
    square = od.Generator("square", lambda u: (u - 1) ** 2)
    with pytest.raises(ValueError, match="metric"):
        od.pairwise(put(np.eye(3)), metric="f_divergence", f=square)
    named = od.pairwise(put(np.eye(3)), metric="f_divergence", f="tv")
    np.testing.assert_array_equal(named.get(), matrix(TV, np.eye(3)))
