"""What one-dimensional distances must satisfy: permutations, ties, repetitions, scale, origin, zero."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.line_cases import ALL, ENERGY, KERNELS, call, definition


def points(n: int) -> Any:
    grid = st.integers(-8, 8).map(lambda i: i / 4)
    free = st.floats(-1e3, 1e3, allow_nan=False)
    return st.lists(st.one_of(grid, grid, free), min_size=1, max_size=n).map(np.array)


@st.composite
def samples(draw: Any) -> tuple[Any, Any, Any, Any]:
    x, y = draw(points(12)), draw(points(12))
    counts = [draw(st.lists(st.integers(0, 9), min_size=len(p), max_size=len(p))) for p in (x, y)]
    weights = [(np.array(c) + (sum(c) == 0)) / max(1, sum(c), len(c) * (sum(c) == 0)) for c in counts]
    return x, y, weights[0], weights[1]


@KERNELS
@settings(max_examples=60, deadline=None)
@given(data=samples(), seed=st.integers(0, 2**32 - 1), weighted=st.booleans())
def test_the_order_of_the_points_changes_no_bit(sigmas: Any, data: Any, seed: int, weighted: bool) -> None:
    x, y, a, b = data
    rng = np.random.default_rng(seed)
    i, j = rng.permutation(len(x)), rng.permutation(len(y))
    weights, permuted = ((a, b), (a[i], b[j])) if weighted else ((None, None), (None, None))
    want, got = call(sigmas, x, y, *weights, ALL), call(sigmas, x[i], y[j], *permuted, ALL)
    np.testing.assert_array_equal(got.value, want.value)
    assert want.value >= 0.0
    for one, other, k in zip(got.gradients, want.gradients, (i, j, i, j), strict=True):
        np.testing.assert_allclose(one[0], other[0][k], rtol=1e-13, atol=1e-13 * max(1, np.abs(other).max()))


@KERNELS
@settings(max_examples=60, deadline=None)
@given(data=samples(), seed=st.integers(0, 2**32 - 1), weighted=st.booleans())
def test_equal_multisets_are_at_distance_zero(sigmas: Any, data: Any, seed: int, weighted: bool) -> None:
    x, _, a, _ = data
    i = np.random.default_rng(seed).permutation(len(x))
    got = call(sigmas, x, x[i], *((a, a[i]) if weighted else (None, None)), ALL)
    assert got.value == [0.0]
    for gradient in got.gradients[:2]:
        np.testing.assert_array_equal(gradient, 0.0)
    twice = call(sigmas, x, np.repeat(x, 3))
    assert twice.value == [0.0]


@KERNELS
@settings(max_examples=60, deadline=None)
@given(data=samples(), far=st.integers(0, 1), weighted=st.booleans())
def test_symmetry_and_zero_only_for_equal_measures(sigmas: Any, data: Any, far: int, weighted: bool) -> None:
    x, y, a, b = data
    a, b = (a, b) if weighted else (None, None)
    x = x + 1e6 * far
    there, back = call(sigmas, x, y, a, b).value[0], call(sigmas, y, x, b, a).value[0]
    np.testing.assert_allclose(there, back, rtol=1e-12, atol=1e-30)
    exact, _, _ = definition(ENERGY, x, y, a, b)
    if a is None or max(there, exact) > 1e-30:  # weights whose totals differ by a rounding are not quite equal
        assert (there > 0.0) == (exact > 0.0)
    sums = call(sigmas, x, y, a, b, sums=True).sums
    assert (sums <= 0.0 if sigmas is None else sums >= 0.0).all()


@KERNELS
@settings(max_examples=40, deadline=None)
@given(data=samples())
def test_weights_count_repetitions(sigmas: Any, data: Any) -> None:
    x, y, a, _ = data
    counts = np.maximum(1, np.rint(a * 7)).astype(int)
    repeated, weights = np.repeat(x, counts), counts / counts.sum()
    one, other = call(sigmas, repeated, y, None, None, ALL), call(sigmas, x, y, weights, None, ALL)
    np.testing.assert_allclose(one.value, other.value, rtol=1e-12, atol=1e-15)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    scale = max(1.0, float(np.abs(one.gradients[0]).max()))
    np.testing.assert_allclose(np.add.reduceat(one.gradients[0][0], starts), other.gradients[0][0], atol=1e-13 * scale)
    np.testing.assert_allclose(one.gradients[1], other.gradients[1], atol=1e-13 * scale)


@settings(max_examples=60, deadline=None)
@given(data=samples(), shift=st.integers(-(2**40), 2**40), exponent=st.integers(-400, 400))
def test_energy_moves_with_scale_and_not_with_the_origin(data: Any, shift: int, exponent: int) -> None:
    x, y, a, b = data
    x, y = np.rint(x * 4), np.rint(y * 4)  # integers: the shift is exact
    want = call(None, x, y, a, b).value
    np.testing.assert_array_equal(call(None, x + shift, y + shift, a, b).value, want)
    np.testing.assert_array_equal(
        call(None, np.ldexp(x, exponent), np.ldexp(y, exponent), a, b).value, np.ldexp(want, exponent)
    )
