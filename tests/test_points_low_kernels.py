"""The parts of transport in few dimensions: tree order, searches, minorants, sparse auctions, shortest paths."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from otdist.kernels import shortest_paths, sparse_auction, threads
from otdist.kernels.costs import Chebyshev, Euclidean, Raised, between
from otdist.kernels.jit import kernel
from otdist.kernels.kdtree import Tree, ordered
from otdist.kernels.profiles import Cityblock, Squared
from otdist.transport._points_low import c_transform

TAGS = [Squared(), Euclidean(), Cityblock(), Chebyshev(), Raised(Euclidean(), 1.5)]
CLOUDS = ["normal", "lattice", "line", "coincident", "heavy", "far"]


@kernel
def every_cost(tag, x, y, out):
    for i in range(len(x)):
        for j in range(len(y)):
            out[i, j] = between(tag, x[i], y[j])


def matrix(tag: Any, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The costs in the very arithmetic that the search must reproduce."""
    C = np.empty((len(x), len(y)))
    every_cost(tag, x.copy(), y.copy(), C)
    return C


def cloud(kind: str, n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    if kind == "lattice":
        return rng.integers(0, 6, (n, d)).astype(float)
    if kind == "line":
        return rng.standard_normal((n, 1)) * np.arange(1.0, d + 1.0)
    if kind == "coincident":
        return np.tile(rng.standard_normal(d), (n, 1))
    if kind == "heavy":
        return rng.standard_cauchy((n, d))
    return rng.standard_normal((n, d)) + (1e6 if kind == "far" else 0.0)


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 64, 1000])
def test_aligned_blocks_of_the_order_are_split_by_a_plane(n: int) -> None:
    y = np.random.default_rng(n).standard_normal((n, 2))
    perm = ordered(y, 1)
    assert sorted(perm) == list(range(n))
    y, half = y[perm], (1 << (n - 1).bit_length()) // 2
    while half >= 1:
        for s in range(0, n - half, 2 * half):
            left, right = y[s : s + half], y[s + half : s + 2 * half]
            assert any(left[:, k].max() <= right[:, k].min() for k in range(2))
        half //= 2


@pytest.mark.parametrize("tag", TAGS, ids=repr)
@pytest.mark.parametrize("kind", CLOUDS)
def test_c_transform_is_the_minimum_to_the_last_bit(tag: Any, kind: str) -> None:
    rng = np.random.default_rng(len(kind))
    for n, m, d in [(1, 1, 2), (50, 3, 1), (200, 137, 2), (90, 300, 3), (40, 100, 6)]:
        x, y = cloud(kind, n, d, rng), cloud(kind, m, d, rng)
        C = matrix(tag, x, y)
        for g in (np.zeros(m), rng.standard_normal(m), (C[0] - 1e-3 * rng.random(m)), -C[-1]):
            np.testing.assert_array_equal(c_transform(x, y, tag, g), (C - g).min(axis=1))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32), st.sampled_from(TAGS[:4]), st.sampled_from(CLOUDS), st.integers(1, 40), st.integers(1, 90)
)
def test_search_finds_the_least_in_order(seed: int, tag: Any, kind: str, k: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = cloud(kind, 20, 2, rng), cloud(kind, m, 2, rng)
    k = min(k, m)
    x, y, price = x, y[ordered(y)], rng.random(m) * rng.integers(0, 2)
    tree = Tree(y, price)
    values = matrix(tag, x, y) + price
    J, V = tree.nearest(tag, x, k)
    np.testing.assert_array_equal(V, np.sort(values, axis=1)[:, :k])
    np.testing.assert_array_equal(np.take_along_axis(values, J.astype(int), axis=1), V)
    assert all(len(set(row)) == k for row in J)
    # prices rise, the minorants are stale: nothing is missed
    rise = rng.random(m)
    tree.price[:m] += rise
    np.testing.assert_array_equal(tree.nearest(tag, x, 1)[1][:, 0], (matrix(tag, x, y) + (price + rise)).min(axis=1))
    # only what is below the limits
    below = np.median(values, axis=1)
    J, V = Tree(y, price).nearest(tag, x, k, below)
    for row, least, limit in zip(J, values, below, strict=True):
        expected = min(k, int(np.count_nonzero(least < limit)))
        assert np.count_nonzero(row >= 0) == expected


def test_threads_do_not_change_a_bit() -> None:
    rng = np.random.default_rng(3)
    x, y, g = rng.standard_normal((5000, 2)), rng.standard_normal((5000, 2)), 0.1 * rng.standard_normal(5000)
    try:
        threads.set_thread_count(1)
        one = c_transform(x, y, Squared(), g)
        threads.set_thread_count(2)
        np.testing.assert_array_equal(one, c_transform(x, y, Squared(), g))
    finally:
        threads.set_thread_count(None)


class Auction:
    """A sparse problem and its auction; every matrix entry that is finite is an arc."""

    def __init__(self, C: np.ndarray) -> None:
        n = len(C)
        rows = [np.flatnonzero(np.isfinite(row)) for row in C]
        rows = [js[np.argsort(C[i, js], kind="stable")] for i, js in enumerate(rows)]
        self.C, self.ptr = C, np.cumsum([0, *map(len, rows)]).astype(np.int64)
        self.idx = np.concatenate(rows).astype(np.int32)
        self.cost = np.concatenate([C[i, js] for i, js in enumerate(rows)])
        self.price, self.paid = np.zeros(n), np.full(n, np.inf)
        self.row_to_col, self.col_to_row = np.full(n, -1, np.int32), np.full(n, -1, np.int32)
        self.stack, self.cap = np.empty(n, np.int32), np.full(n, 1e3)

    @property
    def graph(self) -> tuple[np.ndarray, ...]:
        return self.ptr, self.idx, self.cost, self.price

    @property
    def held(self) -> tuple[np.ndarray, ...]:
        return self.row_to_col, self.col_to_row, self.paid

    def release(self, eps: float) -> int:
        return int(sparse_auction.release(*self.graph, eps, *self.held, self.stack))

    def bids(self, eps: float, count: int, bids: int) -> tuple[int, int]:
        left, made = sparse_auction.auction(*self.graph, eps, *self.held, self.cap, self.stack, count, bids)
        return int(left), int(made)

    def paths(self, eps: float, count: int) -> None:
        n, arcs = len(self.price), len(self.idx)
        i32, i64 = np.empty(n, np.int32), np.empty(n, np.int64)
        scratch = np.full(n, np.inf), i32, i64, i32.copy(), np.empty(arcs), np.empty(arcs, np.int32)
        while count:
            count, _ = shortest_paths.augment(*self.graph, eps, *self.held, self.stack, count, 50, scratch)
        assert np.all(scratch[0] == np.inf)

    def check(self, eps: float) -> None:
        placed = np.flatnonzero(self.row_to_col >= 0)
        cols = self.row_to_col[placed]
        assert len(set(cols)) == len(cols)
        np.testing.assert_array_equal(self.col_to_row[cols], placed)
        np.testing.assert_array_equal(self.paid[placed], self.C[placed, cols])
        best = (self.C + self.price).min(axis=1)
        assert np.all(self.paid[placed] + self.price[cols] <= best[placed] + eps * (1 + 1e-9) + 1e-13)


def sparse_matrix(n: int, rng: np.random.Generator) -> np.ndarray:
    C = np.where(rng.random((n, n)) < 0.2, rng.random((n, n)), np.inf)
    C[np.arange(n), rng.permutation(n)] = rng.random(n)  # some assignment exists
    return C


def optimum(C: np.ndarray) -> float:
    return float(C[linear_sum_assignment(np.where(np.isfinite(C), C, 1e6))].sum())


@pytest.mark.parametrize("seed", range(6))
def test_sparse_auction_and_paths_reach_the_optimum(seed: int) -> None:
    rng = np.random.default_rng(seed)
    C = sparse_matrix(60, rng)
    a = Auction(C)
    for eps in (0.3, 0.03, 1e-3, 1e-6):
        count = a.release(eps)
        while count:
            count, made = a.bids(eps, count, 7)
            assert made <= 7
            a.check(eps)
            if rng.random() < 0.1:  # and sometimes the others by shortest paths
                a.paths(eps, count)
                count = 0
        a.check(eps)
        assert np.all(a.row_to_col >= 0)
        assert a.paid.sum() <= optimum(C) + 60 * eps + 1e-12


def test_rows_give_up_where_there_are_too_few_columns() -> None:
    C = np.full((5, 5), np.inf)
    C[:, :2] = np.random.default_rng(0).random((5, 2))
    a = Auction(C)
    a.cap[:] = 7.0
    count, _ = a.bids(1e-3, a.release(1e-3), 10**6)
    assert count == 0
    assert np.count_nonzero(a.row_to_col >= 0) == 2
    b = Auction(C)
    b.paths(1e-3, b.release(1e-3))
    assert np.count_nonzero(b.row_to_col >= 0) == 2
