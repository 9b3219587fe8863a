"""One-dimensional energy distance and Laplacian MMD by sorting, against their definitions in exact arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otdist._line import Outcome, energy_line, laplace_line
from otdist.kernels import threads
from otdist.kernels.line import PIECE

ALL = (True, True, True, True)
SIGMAS = (0.7, 3.0)
mp = mpmath.mp.clone()
mp.dps = 60


@dataclass(frozen=True)
class Kernel:
    """A kernel of the difference, its derivative (0 at 0), and the numbers it is computed in."""

    of: Callable[[Any], Any]
    slope: Callable[[Any], Any]
    number: Callable[[Any], Any]


def sign(d: Any) -> int:
    return (d > 0) - (d < 0)


def laplacian(sigmas: Any) -> Kernel:
    sigmas = [mp.mpf(float(s)) for s in sigmas]
    return Kernel(
        lambda d: sum(mp.exp(-abs(d) / s) for s in sigmas),
        lambda d: sum(-sign(d) * mp.exp(-abs(d) / s) / s for s in sigmas),
        lambda v: mp.mpf(float(v)),
    )


ENERGY = Kernel(lambda d: -abs(d), lambda d: -sign(d), lambda v: Fraction(float(v)))


def numbers(kernel: Kernel, sample: Any, weights: Any) -> tuple[list[Any], list[Any]]:
    points = [kernel.number(v) for v in sample]
    masses = [kernel.number(1.0 if weights is None else weights[i]) for i in range(len(points))]
    return points, [m / sum(masses) for m in masses]


def definition(kernel: Kernel, x: Any, y: Any, a: Any, b: Any, unbiased: bool = False) -> tuple[float, Any, list[Any]]:
    """Value, sums and gradients by their double sums, in exact or sixty-digit arithmetic."""
    (x, a), (y, b) = numbers(kernel, x, a), numbers(kernel, y, b)

    def double(p: Any, u: Any, q: Any, v: Any) -> Any:
        return sum(s * t * kernel.of(i - j) for i, s in zip(p, u, strict=True) for j, t in zip(q, v, strict=True))

    sums = [double(x, a, x, a), double(x, a, y, b), double(y, b, y, b)]
    value = -2 * sums[1]
    slopes, levels = [], []
    for p, u, q, v, own in ((x, a, y, b, sums[0]), (y, b, x, a, sums[2])):
        rest = 1 - sum(t * t for t in u) if unbiased else 1
        diagonal = kernel.of(p[0] - p[0]) if unbiased else 0
        inner = own - diagonal * sum(t * t for t in u)
        value += inner / rest
        for i, t in zip(p, u, strict=True):
            mine = sum(s * kernel.of(i - j) for j, s in zip(p, u, strict=True)) - t * diagonal
            other = sum(s * kernel.of(i - j) for j, s in zip(q, v, strict=True))
            levels.append(2 * mine / rest + (2 * t * inner / rest**2 if unbiased else 0) - 2 * other)
            mine = sum(s * kernel.slope(i - j) for j, s in zip(p, u, strict=True))
            other = sum(s * kernel.slope(i - j) for j, s in zip(q, v, strict=True))
            slopes.append(2 * t * (mine / rest - other))
    n = len(x)
    parts = (slopes[:n], slopes[n:], levels[:n], levels[n:])
    return float(value), np.array([float(s) for s in sums]), [np.array([float(v) for v in part]) for part in parts]


def call(sigmas: Any, x: Any, y: Any, a: Any = None, b: Any = None, wanted: Any = (False,) * 4, **o: Any) -> Outcome:
    x, y, a, b = (None if part is None else np.atleast_2d(part) for part in (x, y, a, b))
    return energy_line(x, y, a, b, wanted, **o) if sigmas is None else laplace_line(x, y, a, b, sigmas, wanted, **o)


def spread_out(seed: int, n: int, m: int, ties: int = 0) -> tuple[Any, Any, Any, Any]:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=n), rng.normal(0.4, 1.5, size=m)
    if ties:
        x, y = np.round(x * ties) / ties, np.round(y * ties) / ties
    a, b = rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(m))
    return x, y, a, b


def cases() -> Iterator[Any]:
    for n, m in ((1, 1), (1, 6), (7, 1), (9, 9), (8, 12), (11, 7)):
        for ties in (0, 2):
            yield pytest.param(*spread_out(n + m, n, m, ties), id=f"{n}x{m}{' ties' if ties else ''}")
    x, y, a, b = spread_out(5, 8, 9, 2)
    a[[0, 3]], b[1] = 0.0, 0.0
    yield pytest.param(x, y, a / a.sum(), b / b.sum(), id="zero weights")
    yield pytest.param(x, y, a * 1.3, b * 0.9, id="totals that differ")
    yield pytest.param(x + 1e4, y + 1e4, a, b, id="offset 1e4")
    yield pytest.param(x + 2.0**50, y + 2.0**50, a, b, id="offset 2^50")
    yield pytest.param(x, x + 1e-12, a, np.roll(a, 1) + 0.0, id="nearly equal points")
    yield pytest.param(x, np.append(x, 7.0), a, np.append(a, 1e-8), id="a tiny atom far away")
    yield pytest.param(x, -x * 0.0, a, a, id="all at zero, of both signs")
    yield pytest.param(x - 1e3, y + 1e3, a, b, id="far apart")


def agree(got: Any, want: Any, tolerance: float, scale: float = 0.0) -> None:
    scale = max(scale, float(np.max(np.abs(want), initial=0.0)))
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * scale)


def check(sigmas: Any, kernel: Kernel, x: Any, y: Any, a: Any, b: Any, tolerance: float = 2e-14) -> None:
    value, sums, gradients = definition(kernel, x, y, a, b)
    # no cancellation is excused: the absolute part is for weights whose totals differ by a rounding, at equal points
    plain, full = call(sigmas, x, y, a, b), call(sigmas, x, y, a, b, ALL, sums=True)
    for got in (plain, full):
        np.testing.assert_allclose(got.value, value, rtol=tolerance, atol=1e-31)
    agree(full.sums[0], sums, tolerance)
    # a gradient is a sum over the other points, to whose size rounding is relative
    for got, want in zip(full.gradients, gradients, strict=True):
        agree(got[0], want, 10 * tolerance, 1e-3 * max(1.0, float(np.max(np.abs(np.concatenate(gradients))))))
    if min(len(x), len(y)) > 1:
        value, _, gradients = definition(kernel, x, y, a, b, unbiased=True)
        got = call(sigmas, x, y, a, b, ALL, unbiased=True)
        for one in (got, call(sigmas, x, y, a, b, unbiased=True)):
            agree(one.value[0], value, 10 * tolerance, max(1e-18, abs(float(np.min(got.spreads)))))
        for found, want in zip(got.gradients, gradients, strict=True):
            agree(found[0], want, 50 * tolerance, 1e-3 * max(1.0, float(np.max(np.abs(np.concatenate(gradients))))))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("x", "y", "a", "b"), list(cases()))
def test_energy_is_its_definition(x: Any, y: Any, a: Any, b: Any, dtype: Any, weighted: bool) -> None:
    x, y = x.astype(dtype), y.astype(dtype)
    check(None, ENERGY, x, y, *((a, b) if weighted else (None, None)))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("x", "y", "a", "b"), list(cases()))
def test_laplace_is_its_definition(x: Any, y: Any, a: Any, b: Any, dtype: Any, weighted: bool) -> None:
    x, y = x.astype(dtype), y.astype(dtype)
    check(SIGMAS, laplacian(SIGMAS), x, y, *((a, b) if weighted else (None, None)), tolerance=1e-13)


@pytest.mark.parametrize("which", [0, 1])
def test_weights_of_one_sample_only(which: int) -> None:
    x, y, a, b = spread_out(3, 6, 8)
    pair = (a, None) if which == 0 else (None, b)
    check(None, ENERGY, x, y, *pair)
    check(SIGMAS, laplacian(SIGMAS), x, y, *pair, tolerance=1e-13)


@pytest.mark.parametrize("exponent", [-1000, -600, 0, 600, 990, 1022])
def test_energy_at_extreme_scales(exponent: int) -> None:
    x, y, a, b = spread_out(4, 7, 9)
    x, y = np.ldexp(x / 8, exponent), np.ldexp(y / 8, exponent)
    for weights in ((None, None), (a, b)):
        value, sums, gradients = definition(ENERGY, x, y, *weights)
        got = call(None, x, y, *weights, ALL, sums=True)
        for one in (got, call(None, x, y, *weights)):
            np.testing.assert_allclose(one.value, value, rtol=1e-14)
        np.testing.assert_allclose(got.sums[0], sums, rtol=1e-14)
        for found, want in zip(got.gradients, gradients, strict=True):
            agree(found[0], want, 1e-13)


def test_energy_of_neighbouring_subnormal_numbers_and_of_the_ends_of_float64() -> None:
    tiny, huge = 5e-324, float(np.finfo(np.float64).max)
    assert call(None, [0.0], [tiny]).value == [2 * tiny]
    assert call(None, [-huge], [huge]).value == [np.inf]
    assert call(None, [-huge, huge], [huge, -huge]).value == [0.0]
    np.testing.assert_allclose(call(None, [-huge, 0.0], [0.0, huge]).value, huge, rtol=1e-15)  # 2 (1/4) (2 huge)


@pytest.mark.parametrize("exponent", [-1000, -600, 600, 1000])
def test_laplace_at_extreme_scales(exponent: int) -> None:
    x, y, a, b = spread_out(4, 7, 9)
    want = call([1.0], x, y, a, b, ALL, unbiased=True, sums=True)
    scale = 2.0**exponent
    got = call([scale], x * scale, y * scale, a, b, ALL, unbiased=True, sums=True)
    for name in ("value", "sums", "spreads", "diagonal"):
        np.testing.assert_array_equal(getattr(got, name), getattr(want, name))
    for one, other in zip(got.gradients, want.gradients, strict=True):
        np.testing.assert_array_equal(one * (scale if one is got.gradients[0] or one is got.gradients[1] else 1), other)


def test_laplace_across_the_whole_range() -> None:
    huge = float(np.finfo(np.float64).max)
    assert call([1.0], [-huge], [huge]).value == [2.0]
    assert call([1e-300], [0.0], [1.0]).value == [2.0]
    np.testing.assert_allclose(call([1e300], [0.0], [1.0]).value, 2e-300, rtol=1e-15)


@pytest.mark.parametrize("sigma", [1e3, 1e8, 1e14])
def test_laplace_tends_to_the_energy_distance(sigma: float) -> None:
    """sigma MMD^2 -> energy as sigma grows; a difference of sums near 1 would have nothing left of it."""
    x, y, a, b = spread_out(6, 12, 9)
    for weights in ((None, None), (a, b)):
        want, _, _ = definition(laplacian([sigma]), x, y, *weights)
        got = call([sigma], x, y, *weights).value
        np.testing.assert_allclose(got, want, rtol=1e-13)
        np.testing.assert_allclose(got * sigma, call(None, x, y, *weights).value, rtol=40 / sigma + 1e-13)


@pytest.mark.parametrize("step", [1e-3, 1e-7, 1e-11])
def test_laplace_of_nearly_equal_samples(step: float) -> None:
    x, _, a, _ = spread_out(7, 12, 12)
    y = x + step
    want, _, _ = definition(laplacian([1.0]), x, y, a, a)
    np.testing.assert_allclose(call([1.0], x, y, a, a).value, want, rtol=1e-13)


def test_energy_of_diracs_and_of_shifted_uniforms() -> None:
    assert call(None, [3.0], [-4.5]).value == [15.0]
    n, shift = 1000, 250
    grid = np.arange(n) / n
    # F - G climbs to shift/n, stays, and falls
    h = shift / n
    climb = sum((i / n) ** 2 for i in range(shift))
    want = 2 * (2 * climb / n + h * h * (n - shift + 1) / n)
    np.testing.assert_allclose(call(None, grid, grid + h).value, want, rtol=1e-13)


def test_laplace_of_diracs() -> None:
    for d in (1e-9, 0.3, 40.0):
        np.testing.assert_allclose(
            call([2.0], [1.0], [1.0 + d]).value, -2 * np.expm1(-((1.0 + d) - 1.0) / 2), rtol=1e-15
        )


def test_peers() -> None:
    from scipy.stats import energy_distance

    x, y, a, b = spread_out(8, 300, 200)
    np.testing.assert_allclose(call(None, x, y).value, energy_distance(x, y) ** 2, rtol=1e-12)
    np.testing.assert_allclose(call(None, x, y, a, b).value, energy_distance(x, y, a, b) ** 2, rtol=1e-12)


def test_dcor() -> None:
    dcor = pytest.importorskip("dcor")
    x, y, _, _ = spread_out(9, 60, 50)
    np.testing.assert_allclose(call(None, x, y).value, dcor.energy_distance(x, y), rtol=1e-12)
    want = dcor.energy_distance(x, y, estimation_stat=dcor.EstimationStatistic.U_STATISTIC)
    np.testing.assert_allclose(call(None, x, y, unbiased=True).value, want, rtol=1e-10)


@pytest.mark.parametrize("sigmas", [None, SIGMAS])
def test_gradients_are_those_of_finite_differences(sigmas: Any) -> None:
    x, y, a, b = spread_out(10, 9, 7)
    arrays = [x, y, a, b]
    got = call(sigmas, x, y, a, b, ALL, unbiased=True).gradients, call(sigmas, x, y, a, b, ALL).gradients
    step = 2.0**-12
    for gradients, unbiased in zip(got, (True, False), strict=True):
        for which in (0, 1):
            differences = []
            for i in range(len(arrays[which])):
                moved = []
                for t in (1, -1, 2, -2):
                    parts = [part.copy() for part in arrays]
                    parts[which][i] += t * step
                    moved.append(call(sigmas, *parts, unbiased=unbiased).value[0])
                differences.append((8 * (moved[0] - moved[1]) - (moved[2] - moved[3])) / (12 * step))
            agree(gradients[which][0], differences, 1e-9)
        # mass moved from one point to another: the totals stay
        for which in (2, 3):
            move = 1e-3 * np.min(arrays[which])
            values = []
            for t in (1, -1):
                parts = [part.copy() for part in arrays]
                parts[which][0] += t * move
                parts[which][1] -= t * move
                values.append(call(sigmas, *parts, unbiased=unbiased).value[0])
            g = gradients[which][0]
            np.testing.assert_allclose((values[0] - values[1]) / (2 * move), g[0] - g[1], rtol=1e-8)


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


KERNELS = pytest.mark.parametrize("sigmas", [None, (0.5, 20.0)])


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
@given(data=samples(), weighted=st.booleans())
def test_symmetry_and_zero_only_for_equal_measures(sigmas: Any, data: Any, weighted: bool) -> None:
    x, y, a, b = data
    a, b = (a, b) if weighted else (None, None)
    there, back = call(sigmas, x, y, a, b).value[0], call(sigmas, y, x, b, a).value[0]
    np.testing.assert_allclose(there, back, rtol=1e-12)
    exact, _, _ = definition(ENERGY, x, y, a, b)
    assert (there > 0.0) == (exact > 0.0)


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


def quadratic_free(x: Any, y: Any) -> float:
    """2 int (F - G)^2 with the distribution functions looked up."""
    t = np.sort(np.concatenate([x, y]))
    f, g = (np.searchsorted(np.sort(s), t[:-1], side="right") / len(s) for s in (x, y))
    return float(2 * np.sum((f - g) ** 2 * np.diff(t)))


@pytest.mark.parametrize("shape", [(PIECE, 5), (5, PIECE), (PIECE + 3, PIECE // 2), (PIECE, 2 * PIECE + 1)])
@pytest.mark.parametrize("shift", [0.1, 100.0, -100.0])
def test_rows_of_several_pieces(shape: tuple[int, int], shift: float) -> None:
    rng = np.random.default_rng(11)
    x, y = rng.normal(size=shape[0]), np.round(rng.normal(size=shape[1]), 3) + shift
    got = call(None, x, y, sums=True)
    np.testing.assert_allclose(got.value, quadratic_free(x, y), rtol=1e-11)
    walked = call(None, x, y, np.full(len(x), 1 / len(x)), None, sums=True)
    np.testing.assert_allclose(got.value, walked.value, rtol=1e-11)
    np.testing.assert_allclose(got.sums, walked.sums, rtol=1e-12)
    assert call(None, x, x[::-1]).value == [0.0]


@KERNELS
def test_rows_of_a_batch_do_not_know_each_other(sigmas: Any) -> None:
    rng = np.random.default_rng(12)
    x, y = rng.normal(size=(50, 40)), rng.normal(size=(50, 30))
    a, b = rng.dirichlet(np.ones(40), 50), rng.dirichlet(np.ones(30), 50)
    for weights in ((None, None), (a, b), (a[:1], None), (None, b)):
        got = call(sigmas, x, y, *weights, ALL, unbiased=True)
        shared = call(sigmas, x[:1], y, *weights, ALL, unbiased=True)
        for r in (0, 17, 49):
            own = [None if w is None else w[min(r, len(w) - 1)] for w in weights]
            one, other = (call(sigmas, x[i], y[r], *own, ALL, unbiased=True) for i in (r, 0))
            assert got.value[r] == one.value[0]
            assert shared.value[r] == other.value[0]
            for whole, row, joint, alone in zip(
                got.gradients, one.gradients, shared.gradients, other.gradients, strict=True
            ):
                np.testing.assert_array_equal(whole[r], row[0])
                np.testing.assert_array_equal(joint[r], alone[0])


@pytest.fixture
def counts() -> Iterator[Any]:
    yield threads.set_thread_count
    threads.set_thread_count(None)


def test_bits_do_not_depend_on_the_number_of_threads(counts: Any) -> None:
    rng = np.random.default_rng(13)
    batches = [tuple(rng.normal(size=shape) for _ in range(2)) for shape in ((1, 300_000), (400, 500))]

    def answers() -> list[Any]:
        out: list[Any] = []
        for x, y in batches:
            for sigmas in (None, SIGMAS):
                found = call(sigmas, x, y, None, None, ALL, unbiased=True, sums=True)
                out += [call(sigmas, x, y).value, found.value, found.sums, *found.gradients]
        return out

    counts(1)
    want = answers()
    for count in (2, 3):
        counts(count)
        for one, other in zip(answers(), want, strict=True):
            np.testing.assert_array_equal(one, other)


@KERNELS
def test_inputs_are_left_alone(sigmas: Any) -> None:
    arrays = [np.atleast_2d(part) for part in spread_out(14, 20, 30)]
    before = [part.copy() for part in arrays]
    for part in arrays:
        part.flags.writeable = False
    call(sigmas, *arrays, ALL, unbiased=True, sums=True)
    call(sigmas, arrays[0][:, ::-2], arrays[1].astype(np.float64, order="F"))
    for part, old in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(part, old)


@KERNELS
def test_what_is_not_wanted_is_not_given(sigmas: Any) -> None:
    x, y, a, b = spread_out(15, 5, 6)
    full = call(sigmas, x, y, a, b, ALL)
    for i in range(4):
        some = call(sigmas, x, y, a, b, tuple(j == i for j in range(4)))
        assert [g is None for g in some.gradients] == [j != i for j in range(4)]
        np.testing.assert_array_equal(some.gradients[i], full.gradients[i])
        assert some.sums is None
    np.testing.assert_allclose(full.value, call(sigmas, x, y, a, b).value, rtol=1e-14)


@KERNELS
def test_unbiased_needs_two_points(sigmas: Any) -> None:
    with pytest.raises(ValueError, match=r"x: found a sample with all its mass"):
        call(sigmas, [1.0], [1.0, 2.0], unbiased=True)
    with pytest.raises(ValueError, match=r"y: found a sample with all its mass"):
        call(sigmas, [1.0, 2.0], [1.0, 2.0], None, [1.0, 0.0], unbiased=True)


@KERNELS
def test_the_u_statistic_is_unbiased(sigmas: Any) -> None:
    """Its mean over samples of one distribution is 0, that of the V-statistic is not."""
    rng = np.random.default_rng(16)
    x, y = rng.normal(size=(4000, 6)), rng.normal(size=(4000, 5))
    u, v = call(sigmas, x, y, unbiased=True).value, call(sigmas, x, y).value
    error = u.std() / np.sqrt(len(u))
    assert abs(u.mean()) < 4 * error
    assert v.mean() > 20 * error
    assert u.min() < 0.0
