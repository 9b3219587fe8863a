"""The pieces of the assignment engines, each against its definition."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from otdist.kernels import threads
from otdist.kernels.pricing import c_transform, c_transform_columns, largest_integer
from otdist.kernels.rowcache import KEPT, nearest, scratch


@njit
def _nearest(row, p, cols, costs, least, value, place):  # type: ignore[no-untyped-def]
    return nearest(row, p, cols, costs, least, value, place)


def kept(row: np.ndarray, p: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, float]:
    cols, costs = np.empty(k, np.int32), np.empty(k)
    bound = _nearest(row, p, cols, costs, *scratch(len(row)))
    return cols, costs, float(bound)


def check_kept(row: np.ndarray, p: np.ndarray, k: int) -> None:
    cols, costs, bound = kept(row, p, k)
    values = np.sort((row + p)[row < np.inf])
    found = costs < np.inf
    assert np.array_equal(np.sort((costs + p[cols])[found]), values[:k])
    assert np.array_equal((costs + p[cols])[found], values[:k])
    assert len(set(cols[found].tolist())) == found.sum()
    assert np.array_equal(row[cols[found]], costs[found])
    assert bound == (values[k] if len(values) > k else np.inf)


@pytest.mark.parametrize("m", [1, 2, 31, 32, 33, 34, 100, 255, 256, 257, 511, 600, 1024, 4001])
@pytest.mark.parametrize("kind", ["random", "ties", "equal", "mostly forbidden", "decades", "descending"])
def test_nearest(m: int, kind: str) -> None:
    rng = np.random.default_rng(m)
    rows: dict[str, Any] = {
        "random": rng.standard_normal(m),
        "ties": rng.integers(0, 3, m).astype(float),
        "equal": np.full(m, 2.5),
        "mostly forbidden": np.where(rng.random(m) < 0.04, rng.random(m), np.inf),
        "decades": 10.0 ** rng.uniform(-300, 300, m),
        "descending": -np.arange(m, dtype=float),
    }
    k = min(KEPT, m)
    check_kept(rows[kind], np.zeros(m), k)
    if kind != "decades":
        check_kept(rows[kind], rng.integers(0, 4, m).astype(float), k)


def test_nearest_of_nothing() -> None:
    cols, costs, bound = kept(np.full(300, np.inf), np.zeros(300), KEPT)
    assert np.all(costs == np.inf)
    assert bound == np.inf
    assert cols.min() >= 0
    assert cols.max() < 300


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.one_of(st.integers(-3, 3).map(float), st.just(np.inf)), min_size=1, max_size=700), st.integers(1, 32)
)
def test_nearest_of_anything(row: list[float], k: int) -> None:
    check_kept(np.array(row), np.zeros(len(row)), min(k, len(row)))


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (65, 127), (64, 128), (130, 1025), (7, 2049), (0, 3)])
@pytest.mark.parametrize("forbidden", [False, True])
def test_transforms(shape: tuple[int, int], forbidden: bool) -> None:
    rng = np.random.default_rng(shape)
    C, f, g = rng.standard_normal(shape), rng.standard_normal(shape[0]), rng.standard_normal(shape[1])
    if forbidden:
        C[rng.random(shape) < 0.5] = np.inf
    assert np.array_equal(c_transform(C, g), (C - g).min(axis=1, initial=np.inf))
    assert np.array_equal(c_transform_columns(C, f), (C - f[:, None]).min(axis=0, initial=np.inf))
    some = np.arange(0, shape[0], 2)
    chosen = c_transform_columns(C, f[some], some)
    assert np.array_equal(chosen, (C[some] - f[some][:, None]).min(axis=0, initial=np.inf))


def test_transforms_on_threads() -> None:
    rng = np.random.default_rng(0)
    C, g = rng.random((700, 1500)), rng.random(1500)
    found = []
    try:
        for count in (1, 3):
            threads.set_thread_count(count)
            f = c_transform(C, g)
            found.append((f, c_transform_columns(C, f), largest_integer(np.rint(100 * C))))
    finally:
        threads.set_thread_count(None)
    for one, other in zip(*found, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize(
    ("C", "largest"),
    [
        ([[1.0, -7.0], [np.inf, 0.0]], 7.0),
        ([[1.0, -7.0], [np.inf, 0.5]], -1.0),
        ([[0.5, 0.0]], -1.0),
        ([[2.0**51 + 1]], 2.0**51 + 1),
        ([[2.0**60]], -1.0),
        ([[np.inf]], 0.0),
        ([[1e-300]], -1.0),
    ],
)
def test_largest_integer(C: list[list[float]], largest: float) -> None:
    assert largest_integer(np.array(C)) == largest
