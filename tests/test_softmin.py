"""One pass over all pairs against its definition by `logsumexp`, whatever the costs come from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.special import logsumexp

from otdist.kernels import softmin_pairs, threads
from otdist.kernels.costs import Chebyshev, Euclidean, Raised
from otdist.kernels.profiles import Cityblock, Squared
from otdist.kernels.softmin_pairs import LOG2E, PointPairs, StoredPairs

NAMES = {
    "sqeuclidean": (Squared(), lambda D: D**2, "euclidean"),
    "euclidean": (Euclidean(), lambda D: D, "euclidean"),
    "cityblock": (Cityblock(), lambda D: D, "cityblock"),
    "chebyshev": (Chebyshev(), lambda D: D, "chebyshev"),
    "euclidean^3": (Raised(Euclidean(), 3.0), lambda D: D**3, "euclidean"),
    "cityblock^1.5": (Raised(Cityblock(), 1.5), lambda D: D**1.5, "cityblock"),
}


def by_definition(C, eps, gamma, a, b, kappa=1.0):
    """h, and the columns of the plan whose rows are solved at gamma."""
    h = -logsumexp(gamma - C / eps + np.log(b), axis=1)
    plan = np.log(a)[:, None] + kappa * h[:, None] + gamma - C / eps + np.log(b)
    return h, np.exp(logsumexp(plan, axis=0))


def masses(rng, n):
    a = rng.random(n) + 0.05
    return a / a.sum()


def passed(pairs, eps, gamma, a, b, guess=None, kappa=1.0, real=np.float64):
    u = None if guess is None else guess * LOG2E
    found = softmin_pairs.eliminate(pairs, LOG2E / eps, u, gamma * LOG2E + np.log2(b), a, kappa - 1.0, real)
    assert found is not None
    return found.h / LOG2E, found.columns, found


@pytest.mark.parametrize(
    ("name", "d", "real"),
    [
        ("sqeuclidean", 1, np.float64),
        ("sqeuclidean", 2, np.float32),
        ("sqeuclidean", 12, np.float64),
        ("sqeuclidean", 12, np.float32),
        ("euclidean", 3, np.float64),
        ("euclidean", 3, np.float32),
        ("euclidean", 20, np.float32),
        ("cityblock", 2, np.float32),
        ("cityblock", 10, np.float64),
        ("chebyshev", 5, np.float64),
        ("euclidean^3", 2, np.float64),
        ("cityblock^1.5", 9, np.float32),
    ],
)
def test_points(name, d, real):
    rng = np.random.default_rng(0)
    tag, power, metric = NAMES[name]
    x, y = rng.standard_normal((131, d)) + 10.0, rng.standard_normal((67, d)) + 10.5
    a, b, gamma = masses(rng, 131), masses(rng, 67), rng.standard_normal(67)
    C = power(cdist(x, y, metric))
    eps = 0.1 * C.mean()
    h, columns = by_definition(C, eps, gamma, a, b)
    close = {"rtol": 1e-11, "atol": 1e-13} if real is np.float64 else {"rtol": 3e-4, "atol": 1e-7}
    pairs = PointPairs(x, y, tag)
    for guess in (None, h + 0.3):
        found, sums, _ = passed(pairs, eps, gamma, a, b, guess, real=real)
        np.testing.assert_allclose(found, h, **close)
        np.testing.assert_allclose(sums, columns, **close)


@pytest.mark.parametrize("stored", [np.float32, np.float64])
@pytest.mark.parametrize("kappa", [1.0, 0.8])
@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (3, 5), (300, 4500)])
def test_stored(stored, kappa, shape):
    rng = np.random.default_rng(1)
    C = rng.random(shape).astype(stored)
    a, b, gamma = masses(rng, shape[0]), masses(rng, shape[1]), rng.standard_normal(shape[1])
    h, columns = by_definition(C.astype(np.float64), 0.01, gamma, a, b, kappa)
    found, sums, _ = passed(StoredPairs(C), 0.01, gamma, a, b, None, kappa)
    np.testing.assert_allclose(found, h, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(sums, columns, rtol=1e-11)


@pytest.mark.parametrize("real", [np.float64, np.float32])
@pytest.mark.parametrize("off", [-1e6, -3e3, -90.0, 90.0, 3e3, 1e6])
def test_no_guess_is_trusted(real, off):
    """A guess that is far off costs time and nothing else: such rows are redone."""
    rng = np.random.default_rng(2)
    C, a, b = rng.random((40, 30)), masses(rng, 40), masses(rng, 30)
    h, columns = by_definition(C, 0.05, np.zeros(30), a, b)
    guess = h + off * (np.arange(40) % 2)
    found, sums, what = passed(StoredPairs(C), 0.05, np.zeros(30), a, b, guess, real=real)
    tolerance = 1e-12 if real is np.float64 else 2e-5
    np.testing.assert_allclose(found, h, rtol=tolerance)
    np.testing.assert_allclose(sums, columns, rtol=tolerance)
    assert what.redone == (20 if real is np.float32 or abs(off) > 700 else 0)


def test_forbidden_pairs():
    rng = np.random.default_rng(3)
    C, a, b = rng.random((20, 30)), masses(rng, 20), masses(rng, 30)
    C[rng.random(C.shape) < 0.5] = np.inf
    C[4] = np.inf
    found, sums, _ = passed(StoredPairs(C), 0.01, np.zeros(30), a, b)
    with np.errstate(divide="ignore"):
        h = -logsumexp(-C / 0.01 + np.log(b), axis=1)
    open_rows = np.isfinite(h)
    np.testing.assert_allclose(found[open_rows], h[open_rows], rtol=1e-12)
    assert found[4] == np.inf
    assert np.isfinite(sums).all()
    assert sums.sum() == pytest.approx(1.0 - a[4], rel=1e-12)


def test_columns_by_log_sum_exp():
    rng = np.random.default_rng(4)
    x, y, w = rng.random((50, 2)), rng.random((20, 2)) + 5.0, rng.standard_normal(50)
    C = cdist(x, y, "sqeuclidean")
    expected = logsumexp(w[:, None] * np.log(2) - C / 1e-4, axis=0) / np.log(2)
    some = np.array([0, 3, 19])
    for pairs in (StoredPairs(C), PointPairs(x, y, Squared())):
        np.testing.assert_allclose(softmin_pairs.column_logs(pairs, LOG2E / 1e-4, w, some), expected[some], rtol=1e-10)


@pytest.mark.parametrize("d", [2, 12, None])
@pytest.mark.parametrize("real", [np.float64, np.float32])
def test_the_same_bits_on_any_number_of_threads(d, real):
    rng = np.random.default_rng(5)
    n, m = 1500, 900
    x, y = rng.standard_normal((n, d or 2)), rng.standard_normal((m, d or 2))
    pairs = PointPairs(x, y, Squared()) if d else StoredPairs(cdist(x, y))
    a, b, gamma = masses(rng, n), masses(rng, m), rng.standard_normal(m)
    found = []
    before = threads.thread_count()
    for count in (1, 2, 3):
        threads.set_thread_count(count)
        try:
            h, columns, _ = passed(pairs, 1.0, gamma, a, b, None, real=real)
            w = np.zeros(n)
            found.append((h, columns, softmin_pairs.apply(pairs, 1.4, w, gamma, rng.random((n, 2)) * 0 + 1.0, True)))
        finally:
            threads.set_thread_count(None)
    assert threads.thread_count() == before
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            assert np.array_equal(one, two)


def test_inputs_are_left_alone():
    rng = np.random.default_rng(6)
    C = np.asfortranarray(rng.random((30, 40)))
    a, b = masses(rng, 30), masses(rng, 40)
    kept = C.copy()
    C.flags.writeable = False
    h, columns = by_definition(C, 0.1, np.zeros(40), a, b)
    found, sums, _ = passed(StoredPairs(C), 0.1, np.zeros(40), a, b)
    np.testing.assert_allclose(found, h, rtol=1e-12)
    np.testing.assert_allclose(sums, columns, rtol=1e-12)
    assert np.array_equal(C, kept)


def test_a_pass_can_be_stopped(monkeypatch):
    """Between two rounds of tiles, and not after the last."""
    monkeypatch.setattr(softmin_pairs, "ROUND", 64 * 200)
    pairs = StoredPairs(np.random.default_rng(7).random((300, 200)))
    monkeypatch.setattr(softmin_pairs, "TILE", 1)
    assert len(softmin_pairs.tiles(pairs)) == 5
    asked = []
    given = (pairs, 1.0, None, np.zeros(200), np.full(300, 1 / 300))
    assert softmin_pairs.eliminate(*given, proceed=lambda: not asked.append(1)) is not None
    assert len(asked) == 4
    assert softmin_pairs.eliminate(*given, proceed=lambda: False) is None


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 40),
    m=st.integers(1, 40),
    scale=st.floats(-6, 6),
    offset=st.sampled_from([0.0, 1e4, -1e4]),
    heavy=st.booleans(),
)
def test_any_problem(seed, n, m, scale, offset, heavy):
    """Costs at any scale and offset, masses over 12 decades: never a NaN, rows and columns as defined."""
    rng = np.random.default_rng(seed)
    C = rng.random((n, m)) * 10.0**scale + offset
    a, b = (10.0 ** rng.uniform(-12.0 if heavy else -1.0, 0.0, size) for size in (n, m))
    a, b = a / a.sum(), b / b.sum()
    gamma = rng.standard_normal(m) * 3.0
    h, columns = by_definition(C, 1.0, gamma, a, b)
    found, sums, _ = passed(StoredPairs(C), 1.0, gamma, a, b)
    size = 1e-14 * (np.abs(C).max() + 10.0)
    np.testing.assert_allclose(found, h, rtol=1e-13, atol=size)
    np.testing.assert_allclose(sums, columns, rtol=1e-11 + 10 * size, atol=1e-290)
