"""The c-transform and the shortlists of points, against their definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otdist.kernels import threads
from otdist.kernels.costs import Chebyshev, Euclidean, Raised
from otdist.kernels.profiles import Cityblock, Squared
from otdist.transport._points_scan import Frame, Lists, Scan, Side, c_transform, cost_matrix

COSTS = [Squared(), Euclidean(), Cityblock(), Chebyshev(), Raised(Euclidean(), 3.0), Raised(Cityblock(), 1.5)]
EPS = 2.0**-52


def pairs(x, y, cost):
    """All costs, by definition."""
    z = np.abs(x[:, None] - y)
    if isinstance(cost, Raised):
        return pairs(x, y, cost.base) ** cost.power
    if isinstance(cost, Chebyshev):
        return z.max(2)
    if isinstance(cost, Cityblock):
        return z.sum(2)
    squares = (z * z).sum(2)
    return np.sqrt(squares) if isinstance(cost, Euclidean) else squares


def clouds(kind, n, m, d, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((n, d)), rng.standard_normal((m, d))
    if kind == "lattice":
        return np.rint(x), np.rint(y)
    if kind == "outliers":
        x[:3] *= 1e6
        y[:2] *= -1e6
    if kind == "offset":
        x, y = x + 1e7, y + 1e7
    if kind == "apart":
        y = y - 1e9
    if kind == "shared":
        y[: min(n, m) // 2] = x[: min(n, m) // 2]
    if kind == "equal":
        x[:], y[:] = 1.0, 1.0
    if kind == "clusters":
        x, y = (1e-4 * z + 10.0 * rng.integers(0, 3, (len(z), 1)) for z in (x, y))
    return x, y


KINDS = ["normal", "lattice", "outliers", "offset", "apart", "shared", "equal", "clusters"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cost", COSTS, ids=str)
def test_c_transform(cost, kind):
    for d, seed in ((4, 0), (19, 1)):
        x, y = clouds(kind, 90, 131, d, seed)
        C = pairs(x, y, cost)
        g = np.random.default_rng(seed).standard_normal(len(y)) * np.median(C)
        for potentials in (g, np.zeros(len(y))):
            values = C - potentials
            f = c_transform(x, y, cost, potentials)
            least = values.argmin(1)
            size = np.abs(potentials[least]) + C[np.arange(len(x)), least]
            assert np.all(np.abs(f - values.min(1)) <= 4 * d * EPS * size)


@pytest.mark.parametrize("scale", [1e-150, 1e-30, 1e30, 1e150])
@pytest.mark.parametrize("cost", COSTS[:4], ids=str)
def test_c_transform_scales(cost, scale):
    x, y = clouds("normal", 50, 70, 6, 3)
    g = np.random.default_rng(1).standard_normal(70)
    factor = scale**2 if isinstance(cost, Squared) else scale
    f = c_transform(x * scale, y * scale, cost, g * factor)
    np.testing.assert_allclose(f, c_transform(x, y, cost, g) * factor, rtol=1e-12, atol=0)


def test_c_transform_of_extreme_potentials():
    x, y = clouds("normal", 40, 50, 5, 2)
    for cost in (Squared(), Euclidean()):
        g = np.zeros(50)
        g[:7] = [1e300, -1e300, 1e45, -1e45, 1e39, -1e39, 1e20]
        np.testing.assert_array_equal(c_transform(x, y, cost, g), np.full(40, -1e300))
        g[0] = -1e300
        np.testing.assert_array_equal(c_transform(x, y, cost, g), np.full(40, -1e45))
        np.testing.assert_array_equal(c_transform(x, y, cost, np.full(50, -1e44)), np.full(40, 1e44))


@pytest.mark.parametrize("cost", COSTS, ids=str)
def test_cost_matrix(cost):
    x, y = clouds("outliers", 33, 70, 7, 5)
    np.testing.assert_allclose(cost_matrix(x, y, cost), pairs(x, y, cost), rtol=1e-14)


@given(
    st.integers(1, 150), st.integers(1, 150), st.integers(1, 40), st.sampled_from(KINDS), st.integers(0, 10**6),
    st.sampled_from([Squared(), Euclidean()]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_c_transform_is_a_lower_envelope(n, m, d, kind, seed, cost):
    x, y = clouds(kind, n, m, d, seed)
    C = cost_matrix(x, y, cost)
    g = np.random.default_rng(seed).standard_normal(m) * C.mean()
    # The same bits as the float64 arithmetic of every pair
    np.testing.assert_array_equal(c_transform(x, y, cost, g), (C - g).min(1))


def test_nothing_is_modified_and_read_only_arrays_are_taken():
    x, y = clouds("normal", 60, 80, 9, 0)
    g = np.ones(80)
    expected = c_transform(x, y, Squared(), g)
    copies = [z.copy() for z in (x, y, g)]
    for z in copies:
        z.flags.writeable = False
    np.testing.assert_array_equal(c_transform(*copies[:2], Squared(), copies[2]), expected)
    np.testing.assert_array_equal(copies[0], x)


def test_threads_change_nothing():
    x, y = clouds("clusters", 700, 900, 12, 0)
    results = []
    try:
        for count in (1, 3):
            threads.set_thread_count(count)
            results.append(c_transform(x, y, Euclidean(), np.linspace(0, 1, 900)))
    finally:
        threads.set_thread_count(None)
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cost", COSTS[:4], ids=str)
@pytest.mark.parametrize("exact", [False, True])
def test_lists_bound_what_they_leave_out(cost, kind, exact):
    for n, d, length in ((90, 5, 32), (200, 30, 8), (5, 4, 5), (40, 4, 33)):
        x, y = clouds(kind, n, n, d, 7)
        frame = Frame(x, y, cost)
        scan = Scan(cost, Side(frame.x), Side(frame.y))
        price = np.abs(np.random.default_rng(n).standard_normal(n)) * 0.1
        lists, rows = Lists(n, length), np.arange(n)
        (scan.direct_lists if exact else scan.lists)(rows, price, lists)
        values = pairs(frame.x, frame.y, cost) + price
        for i in rows:
            kept = lists.low[i] < np.inf
            columns = lists.J[i][kept]
            assert kept.sum() >= min(2, n)
            assert len(set(columns)) == len(columns)
            assert np.all(np.diff(lists.low[i][kept]) >= 0)
            np.testing.assert_allclose(lists.low[i][kept], values[i, columns], rtol=1e-14)
            np.testing.assert_allclose(lists.C[i][kept] + price[columns], values[i, columns], rtol=1e-14)
            others = np.delete(values[i], columns)
            if len(others):
                assert lists.L[i] <= others.min() * (1 + 1e-15)
            if exact and length > 2:
                assert lists.L[i] >= lists.low[i, 0] * (1 - 1e-13)


@pytest.mark.parametrize("cost", COSTS, ids=str)
def test_frames_are_undone(cost):
    for kind in KINDS:
        x, y = clouds(kind, 20, 20, 5, 11)
        frame = Frame(x, y, cost)
        price = np.random.default_rng(0).random(20)
        inside = pairs(frame.x, frame.y, cost) + price + frame.of_rows[:, None]
        outside = (pairs(x, y, cost) - frame.potential(price)) / frame.scale
        np.testing.assert_allclose(inside, outside, rtol=1e-9, atol=1e-9 * np.abs(outside).max())
        np.testing.assert_allclose(frame.price(frame.potential(price)), price, atol=1e-12 * (1 + frame.shift2))
        assert max(np.abs(frame.x).max(), np.abs(frame.y).max()) <= 1
