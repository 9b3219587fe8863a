"""Wasserstein distances on the line: definition, peers, closed forms, invariances, ranges, arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import ot
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri

from otdist._sorted import sort_with_order
from otdist.transport.line import wasserstein_1d
from tests.line_transport_cases import definition, draw, hard, program

POWERS = (1.0, 2.0, 1.5, 3.0, 7.3, np.inf)
HARD = {case[0]: case[1:] for case in hard()}


@pytest.mark.parametrize("p", POWERS)
@pytest.mark.parametrize("label", HARD)
def test_definition(label: str, p: float) -> None:
    u, v, a, b = HARD[label]
    got, want = wasserstein_1d(u, v, a, b, p), definition(u, v, a, b, p)
    np.testing.assert_allclose(got, want, rtol=2e-14, atol=0)
    np.testing.assert_allclose(wasserstein_1d(v, u, b, a, p), got, rtol=2e-15, atol=0)


@pytest.mark.parametrize("seed", range(3))
def test_peers(seed: int) -> None:
    u, v, a, b = draw(seed, 50, 33)
    np.testing.assert_allclose(wasserstein_1d(u, v), scipy.stats.wasserstein_distance(u, v), rtol=1e-12)
    np.testing.assert_allclose(wasserstein_1d(u, v, a, b), scipy.stats.wasserstein_distance(u, v, a, b), rtol=1e-12)
    for p in (1, 2, 3):
        np.testing.assert_allclose(wasserstein_1d(u, v, a, b, p) ** p, ot.wasserstein_1d(u, v, a, b, p=p), rtol=1e-11)
    np.testing.assert_allclose(wasserstein_1d(u, v, a, b, 2) ** 2, ot.emd2_1d(u, v, a, b), rtol=1e-11)


@pytest.mark.parametrize("p", [1.0, 2.0, 2.7])
def test_linear_program(p: float) -> None:
    u, v, a, b = draw(5, 9, 7)
    want = program(np.abs(u[:, None] - v) ** p, a, b)
    np.testing.assert_allclose(wasserstein_1d(u, v, a, b, p) ** p, want, rtol=1e-9)


def test_gaussians_of_different_scale() -> None:
    """On midpoints the quantile functions of N(m, s) are m + s q: W_2² = Δm² + Δs² mean q²."""
    q = ndtri((np.arange(1000) + 0.5) / 1000)
    order = np.random.default_rng(0).permutation(1000)
    want = np.sqrt(1.5**2 + (0.3 - 2.0) ** 2 * np.mean(q * q))
    np.testing.assert_allclose(wasserstein_1d(0.3 * q[order], 1.5 + 2.0 * q, p=2), want, rtol=1e-13)


@pytest.mark.parametrize("p", [1, 2, 4.5, np.inf])
@pytest.mark.parametrize("t", [0.0, 1e-9, 3.0, -1e12])
def test_translation(p: float, t: float) -> None:
    u, _, a, _ = draw(1, 100, 1)
    u = np.round(u * 2.0**12) / 2.0**12  # so that u + t is exact
    t = np.round(t * 2.0**12) / 2.0**12
    for weights in (None, a):
        np.testing.assert_allclose(wasserstein_1d(u, u + t, weights, weights, p), abs(t), rtol=4e-15)


@pytest.mark.parametrize("p", POWERS)
@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e-30, 1e30, 1e200, 1e307])
def test_scales(p: float, scale: float) -> None:
    u, v, a, b = draw(2, 30, 20)
    for weights in ((None, None), (a, b)):
        want = wasserstein_1d(u, v, *weights, p)
        np.testing.assert_allclose(wasserstein_1d(u * scale, v * scale, *weights, p) / scale, want, rtol=1e-13)


@pytest.mark.parametrize("p", [1.0, 2.0, 300.0])
def test_gaps_far_below_the_coordinates(p: float) -> None:
    u = np.arange(1.0, 9.0)
    np.testing.assert_allclose(wasserstein_1d(u, u + 2.0**-40, p=p), 2.0**-40, rtol=1e-15)
    np.testing.assert_allclose(wasserstein_1d(u * 2.0**-1000, (u + 2.0**-40) * 2.0**-1000, p=p), 2.0**-1040, rtol=1e-15)


def test_beyond_the_range_of_float64() -> None:
    huge = float(np.finfo(np.float64).max)
    assert wasserstein_1d([-0.5 * huge], [0.5 * huge]) == huge
    with pytest.raises(ValueError, match=r"^u and v: .*range of float64"):
        wasserstein_1d([-huge], [huge])


@pytest.mark.parametrize("p", [1, 2, 8.0])
def test_equal_measures_are_at_distance_zero(p: float) -> None:
    """However atoms are cut and ordered: a misplaced mass of 1e-17 would make it 3e-9 for p = 2."""
    rng = np.random.default_rng(0)
    u, a = np.round(rng.normal(size=200) * 3), rng.integers(1, 1000, 200) * 0.1
    a /= a.sum()
    for _ in range(5):
        order = rng.permutation(200)
        assert wasserstein_1d(u, u[order], a, a[order], p) == 0.0
    halves = np.repeat(a / 2, 2)
    order = rng.permutation(400)
    assert wasserstein_1d(u, np.repeat(u, 2)[order], a, halves[order], p) == 0.0
    assert wasserstein_1d([0, 0, 1.0], [0, 0, 1.0], [0.1, 0.2, 0.7], [0.2, 0.1, 0.7], p) == 0.0
    assert wasserstein_1d([0.0, 1.0] * 7, [0.0, 1.0] * 5, p=p) == 0.0


@given(
    st.lists(st.integers(-30, 30), min_size=1, max_size=12),
    st.lists(st.integers(-30, 30), min_size=1, max_size=12),
    st.integers(0, 2**32 - 1),
    st.sampled_from(POWERS),
)
@settings(max_examples=80, deadline=None)
def test_axioms(u: Any, v: Any, seed: int, p: float) -> None:
    rng = np.random.default_rng(seed)
    x, y = np.array(u) / 4, np.array(v) / 4
    z = rng.normal(size=5)
    a, b, c = (rng.dirichlet(np.ones(len(s)) * 0.5) for s in (x, y, z))
    value = wasserstein_1d(x, y, a, b, p)
    np.testing.assert_allclose(value, definition(x, y, a, b, p), rtol=1e-12, atol=1e-15)
    assert value <= wasserstein_1d(x, z, a, c, p) + wasserstein_1d(z, y, c, b, p) + 1e-12
    assert wasserstein_1d(x, y, a, b) <= value * (1 + 1e-12) + 1e-14
    order = rng.permutation(len(x))
    np.testing.assert_allclose(wasserstein_1d(x[order], y, a[order], b, p), value, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(wasserstein_1d(-3 * x, -3 * y, a, b, p), 3 * value, rtol=1e-13, atol=1e-15)
    cut = rng.uniform(size=len(x))
    split = wasserstein_1d(np.tile(x, 2), y, np.concatenate([a * cut, a - a * cut]), b, p)
    if p < 3:
        np.testing.assert_allclose(split, value, rtol=1e-7, atol=1e-6)


def test_batches_broadcast() -> None:
    rng = np.random.default_rng(0)
    u, v = rng.normal(size=(3, 1, 9)), rng.normal(size=(4, 7))
    a, b = rng.dirichlet(np.ones(9)), rng.dirichlet(np.ones(7), size=(5, 1, 1))
    got = wasserstein_1d(u, v, a, b, 2)
    assert got.shape == (5, 3, 4)
    for i, j, k in np.ndindex(got.shape):
        assert got[i, j, k] == wasserstein_1d(u[j, 0], v[k], a, b[i, 0, 0], 2)
    plain = wasserstein_1d(u, v)
    assert plain.shape == (3, 4)
    assert plain[1, 2] == wasserstein_1d(u[1, 0], v[2])
    assert wasserstein_1d(np.zeros((0, 3)), np.zeros(4)).shape == (0,)
    assert wasserstein_1d(np.zeros((2, 0, 3)), np.zeros(4)).shape == (2, 0)
    assert wasserstein_1d(u[0], v[:1], a[None]).shape == (1,)


def test_many_rows_and_long_rows() -> None:
    rng = np.random.default_rng(0)
    U, V = rng.normal(size=(700, 150)), rng.normal(size=(700, 150))
    np.testing.assert_allclose(wasserstein_1d(U, V), np.abs(np.sort(U) - np.sort(V)).mean(axis=1), rtol=1e-13)
    u, v = rng.normal(size=300_000), rng.normal(size=300_000)
    want = np.sqrt(np.mean((np.sort(u) - np.sort(v)) ** 2))
    np.testing.assert_allclose(wasserstein_1d(u, v, p=2), want, rtol=1e-12)
    w = np.full(300_000, 1 / 300_000)
    np.testing.assert_allclose(wasserstein_1d(u, v, w, w, 2), want, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_narrow_floats_are_accumulated_in_float64(dtype: str) -> None:
    u, v, a, b = (part.astype(dtype) for part in draw(3, 3000, 2000))
    got = wasserstein_1d(u, v, p=2)
    assert got.dtype == dtype
    wide = wasserstein_1d(u.astype(float), v.astype(float), p=2)
    assert got == np.asarray(wide).astype(dtype)
    a32, b32 = ((w / w.sum(dtype="float64")).astype("float32") for w in (a.astype("float32"), b.astype("float32")))
    want = definition(u[:50], v[:40], a32[:50] / a32[:50].sum(), b32[:40] / b32[:40].sum(), 2)
    found = wasserstein_1d(u[:50], v[:40], a32[:50] / a32[:50].sum(), b32[:40] / b32[:40].sum(), 2)
    np.testing.assert_allclose(found, want, rtol=2e-7)


def test_integers_lists_and_inputs_stay() -> None:
    assert wasserstein_1d([3, 1, 2], [5, 3, 4]) == 2.0
    u, v, a, b = draw(4, 20, 30)
    copies = [part.copy() for part in (u, v, a, b)]
    wasserstein_1d(u[::-1], v[::2], a, b[:15] / b[:15].sum())
    for part, copy in zip((u, v, a, b), copies, strict=True):
        np.testing.assert_array_equal(part, copy)


def test_other_libraries() -> None:
    torch, jax = pytest.importorskip("torch"), pytest.importorskip("jax")
    u, v, a, b = draw(4, 20, 30)
    want = wasserstein_1d(u, v, a, b, 2)
    got = wasserstein_1d(*(torch.tensor(part) for part in (u, v, a, b)), 2)
    assert isinstance(got, torch.Tensor)
    assert float(got) == want
    assert isinstance(wasserstein_1d(jax.numpy.asarray(u), jax.numpy.asarray(v)), jax.Array)


BAD: list[tuple[Any, type[Exception], str]] = [
    (((), [1.0]), ValueError, r"^u: found shape \(0,\)"),
    (([1.0], 2.0), ValueError, r"^v: found shape \(\)"),
    (([1.0, np.nan], [1.0]), ValueError, r"^u: found nan"),
    (([1.0], [[1.0], [np.inf]]), ValueError, r"^v: found inf at index \(1, 0"),
    ((None, [1.0]), TypeError, r"^u: found None"),
    (([1j], [1.0]), TypeError, r"^u: found dtype complex"),
    (([1.0], [2.0], [0.5, 0.5]), ValueError, r"^u_weights: found shape"),
    (([1.0], [2.0], None, [0.9]), ValueError, r"^v_weights: found weights with sum"),
    (([1.0, 2.0], [2.0], [1.5, -0.5]), ValueError, r"^u_weights: found -0\.5"),
    (([1.0, 2.0], [2.0], [np.nan, 1.0]), ValueError, r"^u_weights: found nan"),
    ((np.zeros((2, 3)), np.zeros((4, 3))), ValueError, r"^u and v: found batch shapes"),
    (([1.0], [2.0], None, None, 0.5), ValueError, r"^p: found 0\.5"),
    (([1.0], [2.0], None, None, np.nan), ValueError, r"^p: found nan"),
    (([1.0], [2.0], None, None, "2"), TypeError, r"^p: found '2'"),
    (([1.0], [2.0], None, None, True), TypeError, r"^p: found True"),
]


@pytest.mark.parametrize(("arguments", "error", "match"), BAD)
def test_refused(arguments: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        wasserstein_1d(*arguments)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_orders(dtype: str) -> None:
    rng = np.random.default_rng(0)
    plain = rng.normal(size=(3, 500))
    outlier, halves = plain.copy(), np.round(plain * 3)
    outlier[:, 7] = 1e30
    for rows in (plain, outlier, halves, np.ones((2, 9)), plain * 1e-300, np.zeros((2, 1)), plain[:, :2], 1e9 + plain):
        x = rows.astype(dtype)
        values, order = np.empty_like(x), np.empty(x.shape, np.int64)
        sort_with_order(x, values, order)
        np.testing.assert_array_equal(values, np.sort(x, axis=1))
        np.testing.assert_array_equal(np.take_along_axis(x, order, axis=1), values)
        np.testing.assert_array_equal(np.sort(order, axis=1), np.broadcast_to(np.arange(x.shape[1]), x.shape))
    x = (plain * (float(np.finfo(dtype).max) / 10)).astype(dtype)
    values, order = np.empty_like(x), np.empty(x.shape, np.int64)
    sort_with_order(x, values, order)
    np.testing.assert_array_equal(values, np.sort(x, axis=1))
