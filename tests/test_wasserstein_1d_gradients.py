"""Gradients of distances on the line, and the coupling with its potentials."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otdist._gradients import value_and_grad
from otdist.transport.line import solve, wasserstein_1d
from tests.line_transport_cases import definition, draw, hard, program

gradient = value_and_grad(wasserstein_1d, (0, 1, 2, 3))
STEP = 1e-5


def slope(function: Any, array: Any, direction: Any, step: float = STEP) -> float:
    """Central difference, two steps extrapolated."""
    one, two = ((function(array + h * direction) - function(array - h * direction)) / (2 * h) for h in (step, 2 * step))
    return float((4 * one - two) / 3)


@pytest.mark.parametrize("p", [1.0, 2.0, 1.5, 3.0, 6.2])
@pytest.mark.parametrize("sizes", [(9, 9), (7, 12), (1, 4)])
def test_points_by_finite_differences(p: float, sizes: tuple[int, int]) -> None:
    u, v, a, b = draw(1, *sizes)
    for weights in ((a, b), (None, None)):
        value, (gu, gv) = value_and_grad(wasserstein_1d, (0, 1))(u, v, *weights, p=p)
        assert value == wasserstein_1d(u, v, *weights, p)
        for number, (array, found) in enumerate(((u, gu), (v, gv))):
            for k in range(len(array)):
                arrays = [u, v]

                def function(moved: Any, number: int = number, arrays: Any = arrays, w: Any = weights) -> float:
                    return definition(*(moved if i == number else x for i, x in enumerate(arrays)), *w, p)

                want = slope(function, array, np.eye(len(array))[k])
                np.testing.assert_allclose(found[k], want, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("p", [1.0, 2.0, 3.3])
@pytest.mark.parametrize("kind", ["plain", "equal", "levels in common"])
def test_weights_by_finite_differences(p: float, kind: str) -> None:
    """Mass moved from one point to another; where levels coincide, central differences are the mean of both sides."""
    u, v, a, b = draw(2, 8, 8)
    if kind == "equal":
        a, b = np.full(8, 1 / 8), np.full(8, 1 / 8)
    elif kind == "levels in common":
        a, b = np.array([1, 2, 1, 1, 1, 1, 2, 3]) / 12, np.array([2, 1, 3, 1, 1, 1, 2, 1]) / 12
    _, (_, _, ga, gb) = gradient(u, v, a, b, p=p)
    np.testing.assert_allclose([ga @ a, gb @ b], 0.0, atol=1e-14)
    rng = np.random.default_rng(0)
    for _ in range(6):
        i, k = rng.choice(8, 2, replace=False)
        direction = np.eye(8)[i] - np.eye(8)[k]
        want = slope(lambda w: definition(u, v, w, b, p), a, direction, 1e-6 if kind != "plain" else 1e-5)
        np.testing.assert_allclose(ga @ direction, want, rtol=1e-8 if kind == "plain" else 3e-5, atol=1e-9)
        want = slope(lambda w: definition(u, v, a, w, p), b, direction, 1e-6 if kind != "plain" else 1e-5)
        np.testing.assert_allclose(gb @ direction, want, rtol=1e-8 if kind == "plain" else 3e-5, atol=1e-9)


def test_stated_choices() -> None:
    # nothing to gain at distance 0
    for p in (1, 2, 3):
        value, grads = gradient([0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [0.2, 0.4, 0.4], [0.4, 0.2, 0.4], p=p)
        assert value == 0.0
        assert all(not g.any() for g in grads)
    # a pair that coincides contributes 0 for p = 1
    _, (g,) = value_and_grad(wasserstein_1d, (0,))([0.0, 1.0], [0.0, 3.0])
    assert g.tolist() == [0.0, -0.5]
    # coincident points share by weight, so their order plays no part
    _, (g,) = value_and_grad(wasserstein_1d, (0,))([1.0, 1.0, 1.0], [0.0, 1.0, 5.0], [0.5, 0.25, 0.25], p=2)
    np.testing.assert_allclose(g, 2 * g[1] * np.array([1.0, 0.5, 0.5]), rtol=1e-15)
    with pytest.raises(ValueError, match=r"^p: found inf"):
        gradient([1.0], [2.0], [1.0], [1.0], p=np.inf)
    with pytest.raises(ValueError, match=r"^u_weights: found None"):
        gradient([1.0], [2.0])


@pytest.mark.parametrize("p", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e150])
def test_scaled(p: float, scale: float) -> None:
    u, v, a, b = draw(3, 9, 7)
    _, want = gradient(u, v, a, b, p=p)
    _, got = gradient(u * scale, v * scale, a, b, p=p)
    for k in range(4):
        np.testing.assert_allclose(got[k] / (scale if k > 1 else 1.0), want[k], rtol=1e-12, atol=1e-13)


def test_batches_shapes_and_libraries() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    u, v, a = rng.normal(size=(3, 1, 6)), rng.normal(size=(4, 5)), rng.dirichlet(np.ones(6))
    value, (gu, gv, ga) = value_and_grad(wasserstein_1d, (0, 1, 2))(u, v, a, p=2)
    assert (value.shape, gu.shape, gv.shape, ga.shape) == ((3, 4), u.shape, v.shape, a.shape)
    parts = [[value_and_grad(wasserstein_1d, (0, 1, 2))(u[i, 0], v[j], a, p=2)[1] for j in range(4)] for i in range(3)]
    np.testing.assert_allclose(gu[1, 0], sum(parts[1][j][0] for j in range(4)), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(gv[2], sum(parts[i][2][1] for i in range(3)), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(ga, sum(part[2] for row in parts for part in row), rtol=1e-12, atol=1e-14)
    tensor = torch.tensor(u, dtype=torch.float32)
    _, g = value_and_grad(wasserstein_1d)(tensor, torch.tensor(v, dtype=torch.float32), p=2)
    assert g.dtype == torch.float32
    _, want = value_and_grad(wasserstein_1d)(tensor.numpy().astype(float), v.astype("float32").astype(float), p=2)
    np.testing.assert_allclose(g.numpy(), want, rtol=1e-6, atol=1e-9)


def certified(u: Any, v: Any, a: Any, b: Any, p: float) -> tuple[float, float]:
    """Primal and dual value of a solution, whose entries are proved to be a coupling on the way."""
    found = solve(u, v, a, b, p)
    n, m = len(u), len(v)
    assert len(found.mass) <= n + m - 1
    assert (found.mass > 0).all()
    assert found.rows.dtype == found.cols.dtype == np.int64
    assert len(set(zip(found.rows.tolist(), found.cols.tolist(), strict=True))) == len(found.mass)
    np.testing.assert_allclose(np.bincount(found.rows, found.mass, n), a, rtol=1e-15, atol=2e-16)
    np.testing.assert_allclose(np.bincount(found.cols, found.mass, m), b, rtol=1e-15, atol=2e-16)
    C = np.abs(u[:, None] - v) ** p
    f = (C - found.g).min(axis=1)
    return float(found.mass @ C[found.rows, found.cols]), float(a @ f + b @ found.g)


@pytest.mark.parametrize("p", [1.0, 2.0, 1.5, 3.0])
@pytest.mark.parametrize("case", list(hard()), ids=lambda case: case[0])
def test_coupling(case: Any, p: float) -> None:
    label, u, v, a, b = case
    a, b = (np.full(len(x), 1 / len(x)) if w is None else w for x, w in ((u, a), (v, b)))
    primal, dual = certified(u, v, a, b, p)
    size = float(np.max(np.abs(u[:, None] - v)) ** p)
    np.testing.assert_allclose(primal, definition(u, v, a, b, p) ** p, rtol=1e-12)
    slack = 1e-13 * primal + (4e-16 * size if label in ("identical", "fourteen decades") else 0.0)
    assert -1e-14 * (primal + size) <= primal - dual <= slack + 1e-15 * size


def test_coupling_is_that_of_the_linear_program() -> None:
    u, v, a, b = draw(4, 8, 6)
    primal, dual = certified(u, v, a, b, 1.7)
    want = program(np.abs(u[:, None] - v) ** 1.7, a, b)
    np.testing.assert_allclose([primal, dual], want, rtol=1e-9)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1), st.sampled_from([1.0, 2.0, 2.5]))
@settings(max_examples=60, deadline=None)
def test_coupling_of_lattices(n: int, m: int, seed: int, p: float) -> None:
    rng = np.random.default_rng(seed)
    u, v = rng.integers(0, 6, n) * 1.0, rng.integers(0, 6, m) * 1.0
    a, b = rng.integers(0, 4, n) * 1.0, rng.integers(0, 4, m) * 1.0
    a[rng.integers(n)] += 1
    b[rng.integers(m)] += 1
    primal, dual = certified(u, v, a / a.sum(), b / b.sum(), p)
    assert abs(primal - dual) <= 1e-13 * (1.0 + primal)


def test_large_coupling() -> None:
    u, v, a, b = draw(6, 200_000, 150_000)
    found = solve(u, v, a, b, 2.0)
    primal = float(found.mass @ (u[found.rows] - v[found.cols]) ** 2)
    x, y = np.sort(u), np.sort(v)
    g = found.g[np.argsort(v, kind="stable")]
    # f from the neighbours of every row along the staircase: an upper bound of the c-transform, tight if g is right
    rows = np.argsort(u, kind="stable")
    f = np.full(len(u), np.inf)
    np.minimum.at(f, found.rows, (u[found.rows] - v[found.cols]) ** 2 - found.g[found.cols])
    np.testing.assert_allclose(a @ f + b @ found.g, primal, rtol=1e-12)
    some = np.linspace(0, len(u) - 1, 200).astype(int)
    best = np.array([np.min((x[i] - y) ** 2 - g) for i in some])
    np.testing.assert_allclose(best, f[rows[some]], rtol=0, atol=1e-12)
    np.testing.assert_allclose(primal, wasserstein_1d(u, v, a, b, 2) ** 2, rtol=1e-12)


@pytest.mark.parametrize("sizes", [(60, 9), (7, 21), (49, 14)])
def test_equal_weights_that_are_given_tie(sizes: tuple[int, int]) -> None:
    """1/n is no float, but levels k/n and l/m tie all the same: the mean of both one-sided derivatives."""
    n, m = sizes
    rng = np.random.default_rng(n)
    u, v, a, b = rng.standard_normal(n), rng.standard_normal(m) + 1.0, np.full(n, 1.0 / n), np.full(m, 1.0 / m)
    _, (found,) = value_and_grad(wasserstein_1d, (2,))(u, v, a, b, p=2)
    centre = float(wasserstein_1d(u, v, a, b, 2))
    for i, j in ((0, n - 1), (2, n // 2), (n // 3, 1)):
        to = np.zeros(n)
        to[i], to[j] = 1.0, -1.0
        sides = [(float(wasserstein_1d(u, v, a + h * to, b, 2)) - centre) / h for h in (1e-7, -1e-7)]
        assert found[i] - found[j] == pytest.approx(sum(sides) / 2, rel=1e-5, abs=1e-6)
