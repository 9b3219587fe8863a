"""Weighted exact transport between points: the same truth as from the matrix, in less memory."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from otdist.kernels.costs import Chebyshev, Euclidean, Raised
from otdist.kernels.profiles import Cityblock, Squared
from otdist.transport import _weighted, _weighted_points
from otdist.transport._solution import Watch
from tests.test_weighted import optimal

COSTS: list[tuple[Any, str, float]] = [
    (Squared(), "sqeuclidean", 1.0),
    (Euclidean(), "euclidean", 1.0),
    (Cityblock(), "cityblock", 1.0),
    (Chebyshev(), "chebyshev", 1.0),
    (Raised(Euclidean(), 1.5), "euclidean", 1.5),
    (Raised(Cityblock(), 3.0), "cityblock", 3.0),
]


def clouds(n: int, m: int, d: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    random = np.random.default_rng([n, m, d, seed])
    a, b = random.random(n) + 0.01, random.random(m) + 0.01
    return random.standard_normal((n, d)), random.standard_normal((m, d)) + 0.5, a / a.sum(), b / b.sum()


@pytest.fixture(params=["stored", "tiles"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "tiles":
        monkeypatch.setattr(_weighted_points, "STORED", 10_000)
    return str(request.param)


@pytest.mark.parametrize(("tag", "metric", "power"), COSTS)
@pytest.mark.parametrize(("n", "m", "d"), [(300, 280, 2), (260, 400, 20), (30, 2000, 3)])
def test_same_as_from_the_matrix(way: str, tag: Any, metric: str, power: float, n: int, m: int, d: int) -> None:
    x, y, a, b = clouds(n, m, d)
    C = cdist(x, y, metric) ** power
    for array in (x, y, a, b):
        array.flags.writeable = False
    found = _weighted_points.solve_points(x, y, tag, a, b, Watch())
    truth = optimal(C, a, b, _weighted.solve(C, a, b, Watch()))
    assert optimal_within(C, a, b, found, 1e-11) == pytest.approx(truth, rel=1e-12)


def optimal_within(C: np.ndarray, a: np.ndarray, b: np.ndarray, found: Any, gap: float) -> float:
    from tests.test_weighted import bounds

    primal, dual, _ = bounds(C, a, b, found)
    assert primal - dual <= gap * primal
    return primal


@pytest.mark.parametrize("d", [2, 20])
@pytest.mark.parametrize("tag", [Squared(), Euclidean()])
def test_far_from_the_origin(way: str, d: int, tag: Any) -> None:
    x, y, a, b = clouds(300, 260, d)
    x, y = np.rint(x * 2**20) / 2**20 + 2.0**20, np.rint(y * 2**20) / 2**20 + 2.0**20
    found = _weighted_points.solve_points(x, y, tag, a, b, Watch())
    C = np.sqrt(np.square(x[:, None] - y).sum(axis=2)) ** (2 if isinstance(tag, Squared) else 1)
    optimal_within(C, a, b, found, 1e-11)


@pytest.mark.parametrize("d", [2, 20])
def test_near_identical_clouds(way: str, d: int) -> None:
    x, _, a, b = clouds(260, 260, d)
    x = np.rint(x * 2**20) / 2**20
    y = x + 2.0**-20
    found = _weighted_points.solve_points(x, y, Squared(), a, a, Watch())
    assert (found.rows == found.cols).all()
    moved = _weighted_points.solve_points(x, x, Euclidean(), a, b, Watch())
    optimal_within(cdist(x, x), a, b, moved, 1e-11)


def test_clusters_and_duplicates(way: str) -> None:
    x, y, a, b = clouds(320, 320, 20)
    x, y = np.repeat(x[::16], 16, axis=0), np.repeat(y[::8], 8, axis=0)
    found = _weighted_points.solve_points(x, y, Euclidean(), a, b, Watch())
    optimal_within(cdist(x, y), a, b, found, 1e-11)


def test_memory_stays_below_the_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_weighted_points, "STORED", 10**6)
    x, y, a, b = clouds(2500, 2500, 16)
    _weighted_points.solve_points(x[:400], y[:400], Squared(), *(w[:400] / w[:400].sum() for w in (a, b)), Watch())
    tracemalloc.start()
    found = _weighted_points.solve_points(x, y, Squared(), a, b, Watch())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2500 * 2500 * 8 / 2
    optimal_within(cdist(x, y, "sqeuclidean"), a, b, found, 1e-11)
