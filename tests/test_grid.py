"""Grids with separable costs: c-transforms, and exact transport between histograms."""

from __future__ import annotations

from typing import Any

import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import otdist as od
from otdist.transport._solution import Watch
from otdist.transport.grid import Grid, solve
from tests.line_transport_cases import program

COSTS = ("sqeuclidean", "cityblock", 1.0, 1.5, 3)
AXES: list[Any] = [
    (1,),
    (7,),
    (4, 6),
    (3, 1, 4),
    (3, 2, 2, 3),
    ([0.0, 0.5, 3.0], [-1.0, 1.5, 9, 10], 2),
    ([1e6, 1e6 + 1, 1e6 + 3], 5),
]


def exponent(cost: Any) -> float:
    return {"sqeuclidean": 2.0, "cityblock": 1.0}.get(cost, cost)


def costs(axes: Any, cost: Any) -> Any:
    """Of all pairs, from coordinates."""
    sides = [np.arange(axis) * 1.0 if np.ndim(axis) == 0 else np.asarray(axis) for axis in axes]
    x = np.stack([part.ravel() for part in np.meshgrid(*sides, indexing="ij")], axis=1)
    return np.sum(np.abs(x[:, None] - x) ** exponent(cost), axis=2)


def certified(grid: Grid, C: Any, a: Any, b: Any, **limits: Any) -> tuple[float, float, Any]:
    """Primal and dual value of a solution, whose entries are proved to be a coupling on the way."""
    found = solve(grid, a, b, Watch(**limits))
    assert (found.mass > 0).all()
    assert found.rows.dtype == found.cols.dtype == np.int64
    assert len(set(zip(found.rows.tolist(), found.cols.tolist(), strict=True))) == len(found.mass)
    np.testing.assert_allclose(np.bincount(found.rows, found.mass, grid.size), a, rtol=1e-14, atol=4e-16)
    np.testing.assert_allclose(np.bincount(found.cols, found.mass, grid.size), b, rtol=1e-14, atol=4e-16)
    assert np.isfinite(found.g).all()
    f = np.min(C - found.g, axis=1)
    return float(found.mass @ C[found.rows, found.cols]), float(a @ f + b @ found.g), found


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("axes", AXES, ids=str)
def test_costs(axes: Any, cost: Any) -> None:
    grid, C = Grid(axes, cost), costs(axes, cost)
    np.testing.assert_allclose(grid.matrix(), C, rtol=1e-15)
    assert grid.cost(0, grid.size - 1) == grid.matrix()[0, -1]
    assert grid.points().shape == (grid.size, len(grid.shape))
    assert grid.size == len(C)


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("axes", [*AXES, (64, 3), (300,)], ids=str)
@pytest.mark.parametrize("size", [0.0, 1e-9, 3.0, 1e6])
def test_c_transform(axes: Any, cost: Any, size: float) -> None:
    grid, C = Grid(axes, cost), costs(axes, cost)
    rng = np.random.default_rng(0)
    g = rng.normal(size=grid.size) * size
    g[rng.random(grid.size) < 0.2] = -np.inf
    f, where = grid.c_transform(g, argmin=True)
    want = np.min(C - g, axis=1)
    finite = np.isfinite(want)
    rounding = 4e-16 * (1.0 + C.max() + size * 5)
    np.testing.assert_array_equal(f[~finite], np.inf)
    np.testing.assert_allclose(f[finite], want[finite], rtol=0, atol=rounding)
    np.testing.assert_allclose((C - g)[np.arange(grid.size), where][finite], want[finite], rtol=0, atol=rounding)
    shaped = grid.c_transform(g.reshape(grid.shape))
    np.testing.assert_array_equal(shaped, f.reshape(grid.shape))


@pytest.mark.parametrize("cost", ["sqeuclidean", "cityblock", 3])
def test_integers_are_exact(cost: Any) -> None:
    grid, rng = Grid((9, 8, 5), cost), np.random.default_rng(0)
    g = rng.integers(-40, 40, grid.size) * 1.0
    np.testing.assert_array_equal(grid.c_transform(g), np.min(costs((9, 8, 5), cost) - g, axis=1))


def test_duals_of_duals() -> None:
    grid, rng = Grid((13, 11), "sqeuclidean"), np.random.default_rng(0)
    g = rng.normal(size=grid.shape) * 10
    once = grid.c_transform(g)
    twice = grid.c_transform(once)
    assert (twice >= g - 1e-12).all()
    np.testing.assert_allclose(grid.c_transform(twice), once, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(grid.c_transform(np.full(143, -np.inf)), np.inf)


def histograms(size: int, kind: str, seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    if kind == "sparse":
        a, b = (rng.random((2, size)) < 0.3) * rng.random((2, size)) + 1e-300
        a[a < 1e-200], b[b < 1e-200] = 0.0, 0.0
        a[0], b[-1] = 0.5, 0.25
    elif kind == "equal":
        a = b = rng.random(size)
    elif kind == "uniform":
        a, b = np.ones(size), np.ones(size) + (np.arange(size) % 2)
    elif kind == "points":
        a, b = np.eye(size)[0], np.eye(size)[-1]
    elif kind == "decades":
        a, b = 10.0 ** rng.uniform(-14, 0, (2, size))
    else:
        a, b = rng.dirichlet(np.ones(size), 2)
    return a / a.sum(), b / b.sum()


KINDS = ("random", "sparse", "equal", "uniform", "points", "decades")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("axes", AXES, ids=str)
def test_transport(axes: Any, cost: Any, kind: str) -> None:
    grid, C = Grid(axes, cost), costs(axes, cost)
    a, b = histograms(grid.size, kind)
    primal, dual, _ = certified(grid, C, a, b)
    peer = ot.emd2(a, b / b.sum() * a.sum(), C, numItermax=10**6)
    np.testing.assert_allclose(primal, peer, rtol=1e-9, atol=1e-12)
    assert abs(primal - dual) <= 1e-10 * primal + 1e-15 * (1 + C.max())
    if kind == "equal":
        assert primal == 0.0


@pytest.mark.parametrize("cost", ["sqeuclidean", "cityblock", 1.5])
def test_linear_program(cost: Any) -> None:
    a, b = histograms(12, "random", 3)
    primal, dual, _ = certified(Grid((3, 4), cost), costs((3, 4), cost), a, b)
    np.testing.assert_allclose([primal, dual], program(costs((3, 4), cost), a, b), rtol=1e-8)


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.sampled_from(COSTS),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_whole_numbers(shape: list[int], cost: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    grid, C = Grid(tuple(shape), cost), costs(shape, cost)
    a, b = rng.integers(0, 3, (2, grid.size)) * 1.0
    a[rng.integers(grid.size)] += 1
    b[rng.integers(grid.size)] += 1
    primal, dual, _ = certified(grid, C, a / a.sum(), b / b.sum())
    assert abs(primal - dual) <= 2e-15 * (1 + C.max())


def test_closed_forms() -> None:
    """A histogram and its translate: for any convex cost every point moves by the translation."""
    rng = np.random.default_rng(0)
    inner = rng.random((10, 9))
    a, b = np.zeros((16, 16)), np.zeros((16, 16))
    a[:10, :9], b[4:14, 5:14] = inner / inner.sum(), inner / inner.sum()
    for cost, want in (("sqeuclidean", 16 + 25), ("cityblock", 9), (3, 64 + 125)):
        grid = Grid((16, 16), cost)
        found = solve(grid, a.ravel(), b.ravel(), Watch())
        np.testing.assert_allclose(found.mass @ grid.cost(found.rows, found.cols), want, rtol=1e-13)
    # products: costs of a sum of axes add up
    u, v = rng.dirichlet(np.ones(12), 2)
    s, t = rng.dirichlet(np.ones(7), 2)
    grid = Grid((12, 7), "sqeuclidean")
    found = solve(grid, np.outer(u, s).ravel(), np.outer(v, t).ravel(), Watch())
    lines = sum(ot.emd2_1d(np.arange(len(p)) * 1.0, np.arange(len(p)) * 1.0, p, q) for p, q in ((u, v), (s, t)))
    np.testing.assert_allclose(found.mass @ grid.cost(found.rows, found.cols), lines, rtol=1e-12)


@pytest.mark.parametrize("cost", ["sqeuclidean", "cityblock", 2.5])
def test_larger(cost: Any) -> None:
    grid = Grid((24, 24), cost)
    a, b = histograms(grid.size, "random", 5)
    primal, dual, found = certified(grid, grid.matrix(), a, b)
    assert abs(primal - dual) <= 1e-11 * primal
    np.testing.assert_allclose(primal, ot.emd2(a, b, grid.matrix(), numItermax=10**6), rtol=1e-10)
    assert found.stopped == ""
    again = solve(grid, a, b, Watch())
    np.testing.assert_array_equal(again.mass, found.mass)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
@pytest.mark.parametrize("cost", ["sqeuclidean", "cityblock", 3])
def test_scales(cost: Any, scale: float) -> None:
    axes = [np.array([0.0, 1, 3, 4]), np.array([0.0, 2, 5])]
    a, b = histograms(12, "random", 1)
    want, _, _ = certified(Grid(axes, cost), costs(axes, cost), a, b)
    scaled = [axis * scale for axis in axes]
    primal, dual, _ = certified(Grid(scaled, cost), costs(scaled, cost), a, b)
    np.testing.assert_allclose([primal, dual], want * scale ** exponent(cost), rtol=1e-12)


def test_limits_and_callbacks() -> None:
    grid = Grid((12, 12), "sqeuclidean")
    a, b = histograms(grid.size, "random", 2)
    best, _, _ = certified(grid, grid.matrix(), a, b)
    for limits, stopped in (({"max_iter": 0}, "max_iter"), ({"time_limit": 0.0}, "time_limit")):
        primal, dual, found = certified(grid, grid.matrix(), a, b, **limits)
        assert found.stopped == stopped
        assert dual <= best <= primal
    seen: list[Any] = []
    certified(grid, grid.matrix(), a, b, callback=seen.append)
    assert seen[0]["stage"] == "network simplex"
    _, _, found = certified(grid, grid.matrix(), a, b, callback=lambda _: False)
    assert found.stopped == "callback"


@pytest.mark.parametrize(
    ("axes", "cost", "error", "match"),
    [
        ((), "cityblock", TypeError, r"^axes: "),
        (5, "cityblock", TypeError, r"^axes: found 5"),
        ((3, 0), "cityblock", ValueError, r"^axes: found 0 points on axis 1"),
        (([1.0, 1.0],), "cityblock", ValueError, r"^axes: found coordinates on axis 0"),
        (([1.0, np.inf],), "cityblock", ValueError, r"^axes: found coordinates on axis 0"),
        (([[1.0]],), "cityblock", ValueError, r"^axes: found shape \(1, 1\)"),
        ((3,), "euclidean", ValueError, r"^cost: found 'euclidean'"),
        ((3,), 0.5, ValueError, r"^cost: found 0\.5"),
        ((3,), np.inf, ValueError, r"^cost: found inf"),
        ((3,), None, TypeError, r"^cost: found None"),
    ],
)
def test_refused(axes: Any, cost: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        Grid(axes, cost)


def test_refused_potentials() -> None:
    with pytest.raises(ValueError, match=r"^g: found shape \(5,\)"):
        Grid((2, 3)).c_transform(np.zeros(5))


@pytest.mark.parametrize("cost", ["sqeuclidean", "cityblock", 1.5])
@pytest.mark.parametrize("shape", [(5, 4), (7,), (3, 2, 4)])
def test_any_total(shape, cost):
    rng = np.random.default_rng(11)
    grid = Grid(shape, cost)
    a, b = rng.random(shape), rng.random(shape)
    b *= a.sum() / b.sum()
    found = od.emd(grid, a, b)
    assert found.converged
    assert found.plan.sum() == pytest.approx(a.sum())
    whole = od.emd(grid.matrix(), a.ravel(), b.ravel())
    assert float(found.value) == pytest.approx(float(whole.value), rel=1e-9)
