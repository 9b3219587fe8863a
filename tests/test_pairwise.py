"""pairwise and nearest against the row functions and the definitions."""

from __future__ import annotations

import importlib
import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import scipy.sparse as sp

import otdist as od
from tests import exact
from tests.cases import DTYPES, ENTROPIES, RTOL, VARIANTS, Variant, dirichlet, ids, near, unit, variant

PAIRS = [v for v in VARIANTS if not v.unary]
COMMON = [
    variant(x) for x in ("tv", "hellinger", "l2", "chi2", "kl", "js", "jeffreys", "renyi-2", "alpha_divergence-0.3")
]


def matrix(v: Variant, x: Any, y: Any = None, **options: Any) -> Any:
    return od.pairwise(x, y, metric=v.name, **v.pair_options, **options)


def closest(v: Variant, x: Any, y: Any, **options: Any) -> Any:
    return od.nearest(x, y, metric=v.name, **v.pair_options, **options)


def hard(dtype: str, seed: int) -> tuple[Any, Any]:
    """Ordinary rows with, among them: near-duplicates at every distance, zeros, disjoint and one-hot rows."""
    rng = np.random.default_rng(seed)
    k = 8
    y = dirichlet(rng, 9, k, 1)
    y[6, ::2] = 0
    y[7, 3:] = 0
    y[8] = np.eye(k)[5]
    y = unit(y, dtype)
    x = np.vstack(
        [near(rng, y[[i % 6]], 10.0**-i, dtype) for i in range(7)] + [y[6:], dirichlet(rng, 3, k, 0.05, dtype)]
    )
    return x, y


def definition(v: Variant, x: Any, y: Any, dtype: str, normalize: Any = "check") -> tuple[Any, Any]:
    """The values of all pairs, and how far off they may be beyond a relative error."""
    pairs = np.broadcast_arrays(x[:, None, :], y[None, :, :])
    want = exact.value(v, *pairs, normalize=normalize)
    return want, exact.slack(v, *pairs, want=want, dtype=dtype, normalize=normalize)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("v", PAIRS, ids=ids)
def test_accuracy(v: Variant, dtype: str) -> None:
    x, y = hard(dtype, 40)
    want, extra = definition(v, x, y, dtype)
    got = matrix(v, x, y)
    assert got.dtype == dtype
    assert not np.any(got < 0)
    assert not exact.close(got, want, dtype, RTOL[dtype], extra)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("v", PAIRS, ids=ids)
def test_all_near_duplicates(v: Variant, dtype: str) -> None:
    rng = np.random.default_rng(41)
    centre = dirichlet(rng, 1, 7, 2)
    x, y = (unit(centre * (1 + 1e-4 * rng.uniform(-1, 1, (5, 7))), dtype) for _ in range(2))
    want, extra = definition(v, x, y, dtype)
    assert not exact.close(matrix(v, x, y), want, dtype, RTOL[dtype], extra)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("v", PAIRS, ids=ids)
def test_wide_ranges_and_measures(v: Variant, dtype: str) -> None:
    rng = np.random.default_rng(42)
    x, y = (unit(10.0 ** rng.uniform(-30, 0, (3, 9)), dtype) for _ in range(2))
    want, extra = definition(v, x, y, dtype)
    assert not exact.close(matrix(v, x, y), want, dtype, RTOL[dtype], extra)
    masses = np.array([[1e-12], [1.0], [1e12]])
    x, y = (x * masses).astype(dtype), (y * masses[::-1]).astype(dtype)
    want, extra = definition(v, x, y, dtype, normalize=False)
    assert not exact.close(matrix(v, x, y, normalize=False), want, dtype, RTOL[dtype], extra)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("v", PAIRS, ids=ids)
@pytest.mark.parametrize(("n", "m", "k"), [(1, 1, 1), (2, 3, 7), (5, 17, 19), (17, 2, 65), (33, 5, 256), (3, 33, 64)])
def test_sizes_against_rows(v: Variant, n: int, m: int, k: int, dtype: str) -> None:
    rng = np.random.default_rng(n)
    x, y = dirichlet(rng, n, k, 0.5, dtype), dirichlet(rng, m, k, 0.5, dtype)
    rows = v.of(od, x[:, None, :], y[None, :, :])
    got = matrix(v, x, y)
    assert got.shape == (n, m)
    assert not exact.close(got, rows.astype(np.float64), dtype, 2 * RTOL[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("v", PAIRS, ids=ids)
def test_with_itself(v: Variant, dtype: str) -> None:
    x = np.vstack(hard(dtype, 43))
    x = np.vstack([x, x[:2]])
    got = matrix(v, x)
    if v.name not in ENTROPIES:
        assert np.all(np.diag(got) == 0)
        assert np.all(np.diag(matrix(v, x, x.copy())) == 0)
        assert got[0, -2] == 0
        assert got[1, -1] == 0
    if v.symmetric:
        np.testing.assert_array_equal(got, got.T)
    assert not exact.close(got, matrix(v, x, x.copy()).astype(np.float64), dtype, 2 * RTOL[dtype])


@pytest.mark.parametrize("v", PAIRS, ids=ids)
def test_modes(v: Variant) -> None:
    rng = np.random.default_rng(44)
    x, y = rng.normal(size=(4, 6)), rng.normal(size=(3, 6))
    got = matrix(v, x, y, from_logits=True)
    np.testing.assert_allclose(got, v.of(od, x[:, None], y[None], from_logits=True), rtol=1e-12)
    got = matrix(v, np.exp(x), np.exp(y), normalize=True)
    np.testing.assert_allclose(got, v.of(od, np.exp(x)[:, None], np.exp(y)[None], normalize=True), rtol=1e-12)


def test_metric_may_be_the_function() -> None:
    x, y = hard("float64", 45)
    np.testing.assert_array_equal(od.pairwise(x, y, metric=od.js), od.pairwise(x, y, metric="js"))


@pytest.mark.parametrize("v", COMMON, ids=ids)
@pytest.mark.parametrize("dtype", DTYPES)
def test_out(v: Variant, dtype: str) -> None:
    x, y = hard(dtype, 46)
    want = matrix(v, x, y)
    out = np.full(want.shape, np.nan, dtype)
    assert matrix(v, x, y, out=out) is out
    np.testing.assert_array_equal(out, want)
    wide = np.full((want.shape[0], 2 * want.shape[1]), -1, dtype)
    matrix(v, x, y, out=wide[:, ::2])
    np.testing.assert_array_equal(wide[:, ::2], want)
    assert np.all(wide[:, 1::2] == -1)


@pytest.mark.parametrize(
    "bad",
    [np.empty((2, 2)), np.empty((3, 3), np.float32), np.empty((3, 3), np.int64), [[0.0] * 3] * 3],
    ids=["shape", "dtype", "integers", "list"],
)
def test_out_that_does_not_fit(bad: Any) -> None:
    x = np.eye(3)
    with pytest.raises((ValueError, TypeError), match="out"):
        od.pairwise(x, x, metric="tv", out=bad)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("v", PAIRS, ids=ids)
def test_a_small_memory_limit_changes_no_bit(v: Variant, dtype: str) -> None:
    rng = np.random.default_rng(47)
    x, y = dirichlet(rng, 70, 33, 0.5, dtype), dirichlet(rng, 45, 33, 0.5, dtype)
    y[:20] = near(rng, x[:20], 1e-4, dtype)
    small, large = 64 * 1024, 256 * 1024**2
    np.testing.assert_array_equal(matrix(v, x, y, memory_limit=small), matrix(v, x, y, memory_limit=large))
    for a, b in zip(closest(v, x, y, k=3, memory_limit=small), closest(v, x, y, k=3, memory_limit=large), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("v", COMMON, ids=ids)
def test_a_pair_is_the_same_in_any_company(v: Variant, dtype: str) -> None:
    """An entry does not change with the rows around it by more than rounding, nor by a bit when repeated."""
    x, y = hard(dtype, 48)
    whole = matrix(v, x, y)
    np.testing.assert_array_equal(whole, matrix(v, x, y))
    parts = np.block(
        [[matrix(v, x[i : i + 3], y[j : j + 4]) for j in range(0, len(y), 4)] for i in range(0, len(x), 3)]
    )
    assert not exact.close(parts, whole.astype(np.float64), dtype, 2 * RTOL[dtype])


@pytest.mark.parametrize("v", COMMON, ids=ids)
def test_batches(v: Variant) -> None:
    rng = np.random.default_rng(49)
    x, y = dirichlet(rng, 12, 5, 1).reshape(2, 1, 6, 5), dirichlet(rng, 12, 5, 1).reshape(3, 4, 5)
    got = matrix(v, x, y)
    assert got.shape == (2, 3, 6, 4)
    for i, j in np.ndindex(2, 3):
        np.testing.assert_allclose(got[i, j], matrix(v, x[i, 0], y[j]), rtol=1e-13)
    alone = matrix(v, x)
    assert alone.shape == (2, 1, 6, 6)


def test_empty() -> None:
    some = np.full((4, 3), 1 / 3)
    for x, y, shape in (
        (some[:0], some, (0, 4)),
        (some, some[:0], (4, 0)),
        (some[:0], None, (0, 0)),
        (np.empty((0, 4, 3)), some, (0, 4, 4)),
    ):
        for metric in ("tv", "kl", "js"):
            got = od.pairwise(x, y, metric=metric)
            assert got.shape == shape
            assert got.dtype == np.float64
    with pytest.raises(ValueError, match="X"):
        od.pairwise(np.empty((2, 0)), np.empty((2, 0)), metric="kl")
    distances, indices = od.nearest(some[:0], some, metric="kl", k=2)
    assert distances.shape == indices.shape == (0, 2)


@pytest.mark.parametrize(
    ("x", "y", "options", "match"),
    [
        (np.eye(3), np.eye(4), {"metric": "kl"}, "Y"),
        (np.eye(3)[0], np.eye(3), {"metric": "kl"}, "X"),
        (np.eye(3), np.eye(3) * [[1], [-1], [1]], {"metric": "kl"}, r"Y: .*negative"),
        (np.eye(3) * np.nan, np.eye(3), {"metric": "kl"}, r"X: .*NaN"),
        (np.eye(3), np.eye(3) * 2, {"metric": "js"}, "Y"),
        (np.eye(3), np.eye(3), {"metric": "no such"}, "metric"),
        (np.eye(3), np.eye(3), {"metric": "renyi"}, "alpha"),
        (np.eye(3), np.eye(3), {"metric": "tv", "alpha": 2}, "alpha"),
        (np.eye(3), np.eye(3), {"metric": "kl", "memory_limit": -1}, "memory_limit"),
    ],
)
def test_bad_input_is_named(x: Any, y: Any, options: Any, match: str) -> None:
    with pytest.raises((ValueError, TypeError), match=match):
        od.pairwise(x, y, **options)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["float16", "bfloat16"])
@pytest.mark.parametrize("v", COMMON, ids=ids)
def test_half_precision(v: Variant, dtype: Any) -> None:
    sixteenths = np.array([[1, 2, 5, 8, 0], [3, 3, 3, 3, 4], [16, 0, 0, 0, 0]]) / 16
    x = sixteenths.astype(dtype)
    got = matrix(v, x, x[::-1])
    assert got.dtype == dtype
    single = matrix(v, x.astype(np.float32), x[::-1].astype(np.float32))
    np.testing.assert_array_equal(got.astype(np.float64), single.astype(dtype).astype(np.float64))


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_other_libraries(library: str) -> None:
    x, y = hard("float32", 50)
    module, name = {"torch": ("torch", "tensor"), "jax": ("jax.numpy", "asarray")}[library]
    array = getattr(importlib.import_module(module), name)
    for v in COMMON:
        got = matrix(v, array(x), array(y))
        assert type(got).__module__.split(".")[0].startswith(library)
        np.testing.assert_array_equal(np.asarray(got), matrix(v, x, y))
    for got, want in zip(closest(COMMON[0], array(x), array(y), k=2), closest(COMMON[0], x, y, k=2), strict=True):
        assert type(got).__module__.split(".")[0].startswith(library)
        np.testing.assert_array_equal(np.asarray(got), want)


# -- nearest ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("v", PAIRS, ids=ids)
def test_nearest_is_a_sort_of_the_matrix(v: Variant, dtype: str) -> None:
    x, y = hard(dtype, 51)
    y = np.vstack([y, y[::-1]])  # every distance occurs twice: ties
    whole = matrix(v, x, y)
    order = np.argsort(whole, axis=-1, kind="stable")
    for k in (1, 3, len(y)):
        distances, indices = closest(v, x, y, k=k)
        assert distances.dtype == dtype
        assert np.issubdtype(indices.dtype, np.integer)
        np.testing.assert_array_equal(indices, order[:, :k])
        np.testing.assert_array_equal(distances, np.take_along_axis(whole, order[:, :k], -1))


def test_nearest_breaks_ties_by_the_smaller_index() -> None:
    y = np.repeat([[0.5, 0.5], [0.25, 0.75]], 40, axis=0)
    distances, indices = od.nearest(np.array([[0.25, 0.75], [0.5, 0.5]]), y, metric="tv", k=45)
    np.testing.assert_array_equal(indices[0], [*range(40, 80), *range(5)])
    np.testing.assert_array_equal(indices[1], range(45))
    np.testing.assert_array_equal(distances[0], [0] * 40 + [0.25] * 5)


def test_nearest_among_infinite_distances() -> None:
    """Infinite distances are distances: they come last, in order of index."""
    distances, indices = od.nearest(np.array([[0.5, 0.5, 0]]), np.eye(3)[[0, 1, 2, 0]], metric="kl", k=4)
    np.testing.assert_array_equal(distances, [[math.inf] * 4])
    np.testing.assert_array_equal(indices, [[0, 1, 2, 3]])


@pytest.mark.parametrize("k", [0, -1, 5, 1.5])
def test_nearest_of_an_impossible_number(k: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="k"):
        od.nearest(np.eye(4), np.eye(4), metric="tv", k=k)


# -- sparse -----------------------------------------------------------------------------------------------


def sparse_rows(rng: np.random.Generator, n: int, k: int, dtype: str) -> Any:
    dense = rng.dirichlet(np.ones(k), n) * (rng.random((n, k)) < 0.2)
    dense[:, 3] += 1e-3
    return unit(dense, dtype)


@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csr_array], ids=["matrix", "array"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("v", PAIRS, ids=ids)
def test_sparse_is_as_dense(v: Variant, dtype: str, kind: Any) -> None:
    rng = np.random.default_rng(52)
    x, y = sparse_rows(rng, 7, 40, dtype), sparse_rows(rng, 6, 40, dtype)
    y[0] = x[0]
    y[1] = near(rng, x[[1]], 1e-4, dtype)[0]
    y[2] = np.eye(40)[39]
    want, extra = definition(v, x, y, dtype)
    for a, b in ((kind(x), kind(y)), (kind(x), y), (x, kind(y))):
        got = matrix(v, a, b)
        assert isinstance(got, np.ndarray)
        assert got.dtype == dtype
        assert not exact.close(got, want, dtype, RTOL[dtype], extra)
    if v.name not in ENTROPIES:
        assert np.all(np.diag(matrix(v, kind(x))) == 0)


@pytest.mark.parametrize("v", PAIRS, ids=ids)
def test_sparse_rows_with_nothing_in_them(v: Variant) -> None:
    rng = np.random.default_rng(53)
    x, y = sparse_rows(rng, 4, 12, "float64"), sparse_rows(rng, 3, 12, "float64")
    x[2] = 0
    y[0] = 0
    want, extra = definition(v, x, y, "float64", normalize=False)
    got = matrix(v, sp.csr_array(x), sp.csr_array(y), normalize=False)
    assert not exact.close(got, want, "float64", RTOL["float64"], extra)
    with pytest.raises(ValueError, match="X"):
        matrix(v, sp.csr_array(x), sp.csr_array(y[1:]))


@pytest.mark.parametrize("v", COMMON, ids=ids)
def test_sparse_order_duplicates_and_stored_zeros(v: Variant) -> None:
    """Indices out of order, an entry in two parts and stored zeros are what SciPy says: summed; inputs stay."""
    messy = sp.csr_array(
        (np.array([0.25, 0.5, 0.25, 0.0, 0.125, 0.5, 0.375]), np.array([4, 1, 4, 0, 3, 2, 0]), np.array([0, 4, 7])),
        shape=(2, 6),
    )
    before = messy.data.copy(), messy.indices.copy(), messy.indptr.copy()
    dense = np.array([[0, 0.5, 0, 0, 0.5, 0], [0.375, 0, 0.5, 0.125, 0, 0]])
    other = dirichlet(np.random.default_rng(54), 3, 6, 1)
    np.testing.assert_allclose(matrix(v, messy, other), matrix(v, dense, other), rtol=1e-13)
    np.testing.assert_allclose(matrix(v, other, messy), matrix(v, other, dense), rtol=1e-13)
    np.testing.assert_allclose(matrix(v, messy, messy.copy()), matrix(v, dense, dense.copy()), rtol=1e-13)
    for a, b in zip((messy.data, messy.indices, messy.indptr), before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("v", COMMON, ids=ids)
def test_sparse_nearest(v: Variant) -> None:
    rng = np.random.default_rng(55)
    x, y = sparse_rows(rng, 9, 30, "float64"), sparse_rows(rng, 8, 30, "float64")
    whole = matrix(v, sp.csr_array(x), sp.csr_array(y))
    order = np.argsort(whole, axis=-1, kind="stable")[:, :3]
    distances, indices = closest(v, sp.csr_array(x), sp.csr_array(y), k=3)
    np.testing.assert_array_equal(indices, order)
    np.testing.assert_array_equal(distances, np.take_along_axis(whole, order, -1))
