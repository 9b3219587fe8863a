"""All pairs of rows: every engine against the row kernel's formula, pair by pair."""

from __future__ import annotations

import numpy as np
import pytest

from otdist.kernels import terms, threads
from otdist.kernels.engines import engine_for
from otdist.kernels.faint import faint_pairs
from otdist.kernels.pairs import COLUMNS, ROWS, all_pairs, nearest
from otdist.kernels.rows import IDENTITY, LOGARITHM, ROOT, Finish
from otdist.kernels.settle import recompute
from otdist.kernels.sparse import sparse_pairs

PLAIN = Finish(IDENTITY, 1.0, 0.0, 0.0, False)
HALF = Finish(IDENTITY, 0.5, 0.0, 0.0, False)
ROOTED = Finish(ROOT, 1.0, 0.0, 0.0, False)
BHATTACHARYYA = Finish(LOGARITHM, -1.0, -1.0, 0.5, False)
LITERAL = Finish(LOGARITHM, -1.0, -1.0, 0.5, True)
RENYI = Finish(LOGARITHM, 1 / 1.5, 2.5 * 1.5, 2.5, False)

DOUBLE = {
    "tv": (terms.TV(), PLAIN),
    "l2": (terms.L2(), ROOTED),
    "pearson": (terms.Pearson(), PLAIN),
    "symmetric": (terms.Symmetric(), HALF),
    "hellinger": (terms.Hellinger(), ROOTED),
    "bhattacharyya": (terms.Hellinger(), BHATTACHARYYA),
    "literal": (terms.Hellinger(), LITERAL),
    "kl": (terms.KL(), PLAIN),
    "js": (terms.JS(), ROOTED),
    "jeffreys": (terms.Jeffreys(), PLAIN),
    "alpha": (terms.alpha_tag(2.5), PLAIN),
    "renyi": (terms.alpha_tag(2.5), RENYI),
    "low alpha": (terms.alpha_tag(0.7), PLAIN),
    "support": (terms.Support(), PLAIN),
    "cross entropy": (terms.CrossEntropy(0.0), PLAIN),
    "entropy": (terms.Entropy(0.0), PLAIN),
}
SINGLE = ("tv", "l2", "symmetric", "hellinger", "kl", "js")
CASES = [(name, np.float64) for name in DOUBLE] + [(name, np.float32) for name in SINGLE]
SHAPES = [(1, 1, 1), (2, 3, 7), (5, 17, 64), (33, 130, 65), (3, 5, 257), (5, 2, 1300)]
TOLERANCE = {np.float64: 1e-13, np.float32: 4e-6}


def histograms(n, k, dtype, seed):
    x = np.random.default_rng(seed).dirichlet(np.ones(k), n)
    return (x / x.sum(1, keepdims=True)).astype(dtype)


def planted(n, m, k, dtype, zeros):
    """Rows with near-duplicates, duplicates and empty bins among them."""
    rng = np.random.default_rng(n + 10 * m + 100 * k)
    p, q = histograms(n, k, np.float64, 1), histograms(m, k, np.float64, 2)
    for j, error in enumerate((1e-1, 1e-3, 1e-6)[: max(0, min(n, m) - 1)]):
        q[j] = p[j] * (1 + error * rng.uniform(-1, 1, k))
    if zeros and k > 2:
        p[:, ::3] = 0
        q[:, ::3] = 0
        q[m // 2, 1] = 0
    p /= p.sum(1, keepdims=True)
    q /= q.sum(1, keepdims=True)
    p, q = p.astype(dtype), q.astype(dtype)
    q[-1] = p[-1]
    return p, q


def by_pairs(tag, finish, p, q):
    out = np.empty((len(p), len(q)), p.dtype)
    todo = np.arange(out.size, dtype=np.int32)
    todo = todo[: recompute(tag, finish, p, q, 0, 0, len(q), todo, out, 0, 0)]
    faint_pairs(tag, finish, p, q, 0, 0, len(q), todo, out, 0, 0)
    return out


def matrix(tag, finish, p, q, *, normalized=True, workspace=2**26, out=None):
    out = np.full((len(p), len(q)), np.nan, p.dtype) if out is None else out
    all_pairs(tag, finish, p, q, out, normalized=normalized, workspace_bytes=workspace)
    return out


def assert_same(found, expected, dtype):
    assert not np.isnan(found).any()
    np.testing.assert_array_equal(np.isinf(found), np.isinf(expected))
    # the absolute part: -log of an affinity that rounds to 1
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE[dtype], atol=np.finfo(dtype).eps * 1e-3)


@pytest.mark.parametrize(("name", "dtype"), CASES)
@pytest.mark.parametrize("zeros", [False, True])
def test_matrix_is_the_row_kernel_pair_by_pair(name, dtype, zeros):
    tag, finish = DOUBLE[name]
    for n, m, k in SHAPES:
        p, q = planted(n, m, k, dtype, zeros)
        before = p.copy(), q.copy()
        found = matrix(tag, finish, p, q)
        if name in ("bhattacharyya", "literal", "renyi"):
            np.testing.assert_allclose(found, by_pairs(tag, finish, p, q), rtol=1e-13, atol=2e-15)
        else:
            assert_same(found, by_pairs(tag, finish, p, q), dtype)
            assert (found >= 0).all()
        np.testing.assert_array_equal(before[0], p)
        np.testing.assert_array_equal(before[1], q)


@pytest.mark.parametrize("name", ["tv", "symmetric", "hellinger", "kl", "js", "jeffreys", "alpha"])
def test_duplicates_are_exactly_zero(name):
    p = histograms(9, 65, np.float64, 3)
    assert (np.diagonal(matrix(*DOUBLE[name], p, p.copy())) == 0).all()
    assert (np.diagonal(matrix(*DOUBLE[name], p, p)) == 0).all()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", ["kl", "jeffreys"])
def test_rows_close_about_their_mean(name, dtype):
    """Products of deviations from the mean of the right rows: near, equal, empty and far rows on the left."""
    tag, finish = DOUBLE[name]
    rng = np.random.default_rng(7)
    base = rng.dirichlet(np.ones(1300))
    for error in (0.2, 1e-3, 1e-6, 0.0):
        q = base * (1 + error * rng.uniform(-1, 1, (40, 1300)))
        p = base * (1 + error * rng.uniform(-1, 1, (9, 1300)))
        p[1], p[2], p[3] = q[5], q.mean(0), rng.dirichlet(np.full(1300, 0.1))
        p[4], p[5, ::3] = np.eye(1300)[7], 0.0
        p, q = ((x / x.sum(1, keepdims=True)).astype(dtype) for x in (p, q))
        assert engine_for(tag, finish, p[:3], q, True).centre is not None
        assert_same(matrix(tag, finish, p, q), by_pairs(tag, finish, p, q), dtype)
        assert_same(matrix(tag, finish, p[:3], q), by_pairs(tag, finish, p[:3], q), dtype)
        q[3, 11] = 0.0
        assert engine_for(tag, finish, p[:3], q, True).centre is None
        assert_same(matrix(tag, finish, p, q), by_pairs(tag, finish, p, q), dtype)


@pytest.mark.parametrize("name", ["kl", "pearson", "cross entropy", "alpha"])
def test_lost_mass_is_infinite_even_if_tiny(name):
    p, q = histograms(4, 64, np.float64, 4), histograms(3, 64, np.float64, 5)
    for tiny in (1e-20, 1e-120, 5e-324):
        q[1, 5], p[2, 5], p[3, 5] = 0.0, 0.0, tiny
        expected = np.zeros((4, 3), bool)
        expected[[0, 1, 3], 1] = True
        np.testing.assert_array_equal(np.isinf(matrix(*DOUBLE[name], p, q)), expected)


@pytest.mark.parametrize("name", ["tv", "hellinger", "kl", "js", "jeffreys"])
@pytest.mark.parametrize("scale", [2.0**-940, 2.0**-66, 2.0**66, 2.0**960])
def test_measures_of_any_scale(name, scale):
    tag, _ = DOUBLE[name]
    p, q = planted(5, 6, 64, np.float64, False)
    small = matrix(tag, PLAIN, p, q, normalized=False)
    large = matrix(tag, PLAIN, p * scale, q * scale, normalized=False)
    away = small > 1e-9
    np.testing.assert_allclose((large / scale)[away], small[away], rtol=1e-12)


@pytest.mark.parametrize("name", ["tv", "kl", "js", "hellinger"])
def test_wide_ranges(name):
    rng = np.random.default_rng(6)
    p, q = 10.0 ** rng.uniform(-300, 0, (6, 65)), 10.0 ** rng.uniform(-30, 0, (7, 65))
    q[2] = p[1] * (1 + 1e-4 * rng.uniform(-1, 1, 65))
    p, q = p / p.sum(1, keepdims=True), q / q.sum(1, keepdims=True)
    assert_same(matrix(*DOUBLE[name], p, q), by_pairs(*DOUBLE[name], p, q), np.float64)


@pytest.mark.parametrize(("name", "dtype"), [("tv", np.float32), ("kl", np.float64), ("hellinger", np.float64)])
def test_bits_do_not_depend_on_threads_or_memory(name, dtype):
    p, q = planted(ROWS + 33, COLUMNS + 130, 600, dtype, False)
    tag, finish = DOUBLE[name]
    expected = matrix(tag, finish, p, q)
    near = nearest(tag, finish, p, q, 4, normalized=True, workspace_bytes=2**26)
    try:
        for count in (1, 2, 5):
            threads.set_thread_count(count)
            for workspace in (1, 2**22, 2**28):
                np.testing.assert_array_equal(matrix(tag, finish, p, q, workspace=workspace), expected)
                again = nearest(tag, finish, p, q, 4, normalized=True, workspace_bytes=workspace)
                np.testing.assert_array_equal(again[0], near[0])
                np.testing.assert_array_equal(again[1], near[1])
    finally:
        threads.set_thread_count(None)


@pytest.mark.parametrize(
    ("name", "dtype"), [("tv", np.float32), ("js", np.float64), ("hellinger", np.float64), ("kl", np.float64)]
)
def test_one_set_of_rows(name, dtype):
    p = histograms(2 * ROWS + 50, 33, dtype, 8)
    found = matrix(*DOUBLE[name], p, p)
    assert_same(found, matrix(*DOUBLE[name], p, p.copy()), dtype)
    if name != "kl":
        np.testing.assert_array_equal(found, found.T)
        elsewhere = np.full((2 * len(p), len(p)), np.nan, dtype)[::2]
        np.testing.assert_array_equal(matrix(*DOUBLE[name], p, p, out=elsewhere), found)


@pytest.mark.parametrize("name", ["tv", "kl"])
def test_out_of_any_strides_and_type(name):
    p, q = planted(5, 17, 65, np.float32 if name == "tv" else np.float64, False)
    expected = matrix(*DOUBLE[name], p, q)
    for out in (np.empty((17, 5), p.dtype).T, np.empty((10, 34), p.dtype)[::-2, ::2], np.empty((5, 17), np.float64)):
        np.testing.assert_array_equal(matrix(*DOUBLE[name], p, q, out=out), expected)


@pytest.mark.parametrize(("name", "dtype"), [("tv", np.float32), ("kl", np.float64)])
@pytest.mark.parametrize("k", [1, 3, 64, 700])
def test_nearest_is_a_stable_sort(name, dtype, k):
    p, q = histograms(7, 5, dtype, 9), histograms(700, 5, dtype, 10)
    q[400:600] = q[100:300]  # ties
    q[::50, 2] = 0  # and, for KL, infinities
    full = matrix(*DOUBLE[name], p, q, normalized=False)
    values, indices = nearest(*DOUBLE[name], p, q, k, normalized=False, workspace_bytes=2**24)
    order = np.argsort(full, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(indices, order)
    np.testing.assert_array_equal(values, np.take_along_axis(full, order, 1))


@pytest.mark.parametrize("name", ["kl", "js"])
def test_sparse_rows_are_dense_rows(name):
    rng = np.random.default_rng(11)

    def sparse(x):
        return (np.concatenate([[0], np.cumsum((x > 0).sum(1))]), np.nonzero(x)[1].astype(np.int32), x[x > 0])

    p, q = histograms(9, 40, np.float64, 12), histograms(8, 40, np.float64, 13)
    p[rng.random(p.shape) < 0.7] = 0
    q[:4][rng.random((4, 40)) < 0.7] = 0
    p[3], q[2] = 0, 0
    q[1] = p[1]
    out = np.empty((9, 8))
    sparse_pairs(*DOUBLE[name], sparse(p), sparse(q), 40, out)
    assert_same(out, by_pairs(*DOUBLE[name], p, q), np.float64)
