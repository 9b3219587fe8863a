"""Assignment of points in few dimensions: optimal, certified, whatever the points."""

import math
from typing import Any

import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from otdist.kernels import threads
from otdist.kernels.costs import Chebyshev, Euclidean, Raised
from otdist.kernels.profiles import Cityblock, Squared
from otdist.transport import _points_level, _points_low
from otdist.transport._solution import Solution, Watch

TAGS = {
    "sqeuclidean": Squared(),
    "euclidean": Euclidean(),
    "cityblock": Cityblock(),
    "chebyshev": Chebyshev(),
    "cubed": Raised(Euclidean(), 3.0),
}


def costs(name: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if name == "cubed":
        return cdist(x, y) ** 3
    if name == "sqeuclidean":  # by differences: SciPy's own
        return ((x[:, None] - y[None]) ** 2).sum(axis=2)
    return cdist(x, y, name)


def solve(x: np.ndarray, y: np.ndarray, name: str, watch: Watch | None = None, **given: Any) -> Solution:
    return _points_low.solve(x, y, TAGS[name], watch or Watch(), **given)


def check(x: np.ndarray, y: np.ndarray, name: str, s: Solution, gap: float = 1e-10) -> float:
    """Feasible, and weak duality from scratch: the value, certified."""
    n = len(x)
    np.testing.assert_array_equal(s.rows, np.arange(n))
    np.testing.assert_array_equal(np.sort(s.cols), np.arange(n))
    np.testing.assert_array_equal(s.mass, 1.0)
    C = costs(name, x, y)
    value = math.fsum(C[s.rows, s.cols])
    f = (C - s.g).min(axis=1)
    rounding = 2.0**-48 * (np.abs(f).sum() + np.abs(s.g).sum() + np.abs(C[s.rows, s.cols]).sum())
    assert value - math.fsum(f) - math.fsum(s.g) <= gap * value + rounding
    return value


def pair(kind: str, n: int, d: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([seed, n, d])
    normal = rng.standard_normal
    if kind == "clusters":
        centres = 10 * rng.random((2, 20, d))
        return tuple(c[rng.integers(0, 20, n)] + 0.2 * normal((n, d)) for c in centres)  # type: ignore[return-value]
    if kind == "to clusters":
        return rng.random((n, d)), rng.random((9, d))[rng.integers(0, 9, n)] + 0.01 * normal((n, d))
    if kind == "heavy":
        return rng.standard_t(2, (n, d)), rng.standard_t(2, (n, d))
    if kind == "lattice":
        return rng.integers(0, 12, (n, d)).astype(float), rng.integers(0, 12, (n, d)).astype(float)
    if kind == "line":
        way = np.arange(1.0, d + 1.0)
        return normal((n, 1)) * way, normal((n, 1)) * way
    if kind == "duplicates":
        return normal((3, d))[rng.integers(0, 3, n)], normal((3, d))[rng.integers(0, 3, n)]
    if kind == "half coincide":
        x, y = normal((n, d)), normal((n, d))
        x[: n // 2] = y[: n // 2] = 0.0
        return x, y
    if kind == "outlier":
        x = normal((n, d))
        x[n // 3] = 1e5
        return x, normal((n, d))
    if kind == "offset":
        return normal((n, d)) + 1e6, normal((n, d)) + 1e6
    if kind == "apart":
        return normal((n, d)), normal((n, d)) + 1e4
    if kind == "permuted":
        x = normal((n, d))
        return x, rng.permutation(x)
    if kind == "nearly permuted":
        x = normal((n, d))
        return x, rng.permutation(x) + 1e-9 * normal((n, d))
    return normal((n, d)), normal((n, d)) + 0.5


KINDS = ["normal", "clusters", "to clusters", "heavy", "lattice", "line", "duplicates", "half coincide", "outlier"]
KINDS += ["offset", "apart", "permuted", "nearly permuted"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["sqeuclidean", "euclidean"])
def test_optimal_on_every_kind_of_points(name: str, kind: str) -> None:
    x, y = pair(kind, 300, 2, 1)
    value = check(x, y, name, solve(x, y, name))
    C = costs(name, x, y)
    best = C[linear_sum_assignment(C)].sum()
    assert value <= best * (1 + 1e-10) + 1e-12 * np.abs(C).max() * 1e-2


@pytest.mark.parametrize("name", ["cityblock", "chebyshev", "cubed"])
@pytest.mark.parametrize("kind", ["normal", "lattice", "heavy", "line"])
def test_other_costs(name: str, kind: str) -> None:
    x, y = pair(kind, 150, 2, 2)
    value = check(x, y, name, solve(x, y, name))
    C = costs(name, x, y)
    assert value == pytest.approx(C[linear_sum_assignment(C)].sum(), rel=1e-10, abs=1e-13)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 65, 100])
def test_few_points(n: int) -> None:
    for name, d in [("sqeuclidean", 2), ("euclidean", 3), ("sqeuclidean", 1)]:
        x, y = pair("normal", n, d, 3)
        check(x, y, name, solve(x, y, name))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(1, 40),
    st.integers(1, 5),
    st.sampled_from(KINDS),
    st.sampled_from(list(TAGS)[:2]),
)
def test_certified_whatever_the_points(seed: int, n: int, d: int, kind: str, name: str) -> None:
    x, y = pair(kind, n, d, seed)
    check(x, y, name, solve(x, y, name))


@pytest.mark.parametrize("scale", [1e-30, 1e30])
@pytest.mark.parametrize("name", ["sqeuclidean", "euclidean"])
def test_extreme_scales(name: str, scale: float) -> None:
    x, y = pair("normal", 200, 2, 4)
    check(scale * x, scale * y, name, solve(scale * x, scale * y, name))


@pytest.mark.parametrize(("kind", "n", "d"), [("normal", 2500, 2), ("heavy", 1500, 2), ("to clusters", 1500, 3)])
def test_levels_agree_with_pot(kind: str, n: int, d: int) -> None:
    x, y = pair(kind, n, d, 5)
    value = check(x, y, "sqeuclidean", solve(x, y, "sqeuclidean"))
    mass = np.full(n, 1.0 / n)
    expected = ot.emd2(mass, mass, costs("sqeuclidean", x, y), numItermax=10**7)
    assert value / n == pytest.approx(expected, rel=2e-10)


def test_near_ties_along_rays() -> None:
    x, y = pair("normal", 1000, 2, 6)
    check(x, y, "euclidean", solve(x, y, "euclidean"))


def test_convex_gradients_are_optimal() -> None:
    x = np.random.default_rng(7).standard_normal((900, 2))
    y = x @ np.array([[2.0, 0.5], [0.5, 1.0]]) + 3.0
    s = solve(x, y, "sqeuclidean")
    np.testing.assert_array_equal(s.cols, np.arange(900))


def test_identical_clouds_cost_nothing() -> None:
    for kind in ("permuted", "duplicates"):
        x, _ = pair(kind, 500, 2, 8)
        y = np.random.default_rng(0).permutation(x)
        for name in ("sqeuclidean", "euclidean"):
            assert check(x, y, name, solve(x, y, name)) == 0.0
    same = np.ones((100, 2))
    assert check(same, same, "sqeuclidean", solve(same, same, "sqeuclidean")) == 0.0


def test_symmetry_and_scaling() -> None:
    x, y = pair("normal", 400, 2, 9)
    value = check(x, y, "sqeuclidean", solve(x, y, "sqeuclidean"))
    assert check(y, x, "sqeuclidean", solve(y, x, "sqeuclidean")) == pytest.approx(value, rel=2e-10)
    assert check(3 * x, 3 * y, "sqeuclidean", solve(3 * x, 3 * y, "sqeuclidean")) == pytest.approx(9 * value, rel=2e-10)


def test_starts_from_given_potentials() -> None:
    x, y = pair("normal", 900, 2, 10)
    cold = solve(x, y, "sqeuclidean")
    warm = solve(x, y, "sqeuclidean", start=cold.g)
    assert check(x, y, "sqeuclidean", warm) == pytest.approx(check(x, y, "sqeuclidean", cold), rel=2e-10)
    wrong = solve(x, y, "sqeuclidean", start=np.random.default_rng(0).standard_normal(900))
    check(x, y, "sqeuclidean", wrong)


@pytest.mark.parametrize("limit", [0, 1, 300, 3000, 20000, 60000])
def test_stopped_anywhere_the_plan_is_complete(limit: int) -> None:
    x, y = pair("normal", 1200, 2, 11)
    s = solve(x, y, "sqeuclidean", Watch(max_iter=limit))
    assert s.stopped == "max_iter"
    assert np.all(np.isfinite(s.g))
    check(x, y, "sqeuclidean", s, gap=np.inf)


def test_price_wars_end_by_shortest_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_points_level, "WAR", 1)
    monkeypatch.setattr(_points_level, "LAZY_WAR", 1)
    monkeypatch.setattr(_points_level, "PIECE", 100)
    for kind in ("normal", "lattice", "heavy"):
        x, y = pair(kind, 300, 2, 12)
        check(x, y, "sqeuclidean", solve(x, y, "sqeuclidean"))
        check(x, y, "euclidean", solve(x, y, "euclidean"))


def test_inputs_stay_and_threads_do_not_matter() -> None:
    x, y = pair("normal", 3000, 2, 13)
    x0, y0 = x.copy(), y.copy()
    x.flags.writeable = y.flags.writeable = False
    found = []
    try:
        for count in (1, 2):
            threads.set_thread_count(count)
            found.append(solve(x, y, "sqeuclidean"))
    finally:
        threads.set_thread_count(None)
    np.testing.assert_array_equal(x, x0)
    np.testing.assert_array_equal(y, y0)
    np.testing.assert_array_equal(found[0].cols, found[1].cols)
    np.testing.assert_array_equal(found[0].g, found[1].g)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["normal", "clusters", "to clusters", "heavy"])
def test_many_points(kind: str) -> None:
    x, y = pair(kind, 30_000, 2, 14)
    s = solve(x, y, "sqeuclidean")
    value = math.fsum(((x - y[s.cols]) ** 2).sum(axis=1))
    f = _points_low.c_transform(x, y, Squared(), s.g)
    assert value - math.fsum(f) - math.fsum(s.g) <= 1e-10 * value
