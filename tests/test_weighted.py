"""Weighted exact transport: linear programming, closed forms, certificates, hard inputs."""

import math
from fractions import Fraction

import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.spatial.distance import cdist

from otdist.transport import _weighted, _weighted_large, _weighted_small
from otdist.transport._solution import Solution, Watch

Problem = tuple[np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture(params=["small", "large"])
def route(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Small problems by both routes."""
    if request.param == "large":
        for module in (_weighted, _weighted_small, _weighted_large):
            monkeypatch.setattr(module, "SMALL", 30)
        monkeypatch.setattr(_weighted, "THIN", 3)
    return str(request.param)


def problem(n: int, m: int, d: int = 2, metric: str = "sqeuclidean", seed: int = 0) -> Problem:
    random = np.random.default_rng([n, m, d, seed])
    a, b = random.random(n) + 0.01, random.random(m) + 0.01
    C = cdist(random.standard_normal((n, d)), random.standard_normal((m, d)) + 0.5, metric)
    return C, a / a.sum(), b / b.sum()


def solve(C: np.ndarray, a: np.ndarray, b: np.ndarray, watch: Watch | None = None) -> Solution:
    before = C.copy(), a.copy(), b.copy()
    for array in (C, a, b):
        array.flags.writeable = False
    found = _weighted.solve(C, a, b, watch or Watch())
    assert all((x == y).all() for x, y in zip(before, (C, a, b), strict=True))
    return found


def bounds(C: np.ndarray, a: np.ndarray, b: np.ndarray, found: Solution) -> tuple[float, float, float]:
    """Primal and dual value, and the sum of all the terms in size; the plan is checked to be a plan."""
    n, m = C.shape
    assert found.rows.dtype == found.cols.dtype == np.int64
    assert (found.mass > 0).all()
    pairs = found.rows * m + found.cols
    assert len(np.unique(pairs)) == len(pairs) <= n + m - 1
    total = max(math.fsum(a), math.fsum(b))
    slack = 1e-15 * total + abs(math.fsum(a) - math.fsum(b))
    for ends, masses in ((found.rows, a), (found.cols, b)):
        order = np.argsort(ends, kind="stable")
        parts = np.split(found.mass[order], np.cumsum(np.bincount(ends, minlength=len(masses)))[:-1])
        assert max(abs(math.fsum(part) - mass) for part, mass in zip(parts, masses, strict=True)) <= slack
    costs = C[found.rows, found.cols]
    assert np.isfinite(costs).all()
    f = (C - found.g).min(axis=1)
    dual = np.concatenate([f * a, found.g * b])
    size = math.fsum(np.abs(dual)) + math.fsum(np.abs(costs * found.mass))
    return math.fsum(costs * found.mass), math.fsum(dual), size


def optimal(C: np.ndarray, a: np.ndarray, b: np.ndarray, found: Solution | None = None) -> float:
    found = found or solve(C, a, b)
    assert found.stopped == ""
    primal, dual, size = bounds(C, a, b, found)
    assert abs(primal - dual) <= 1e-14 * size + abs(a.sum() - b.sum()) * np.abs(found.g).max()
    return primal


def linear_program(C: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    n, m = C.shape
    sums = np.concatenate([np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))])
    highest = np.where(np.isfinite(C), None, 0.0).ravel()
    costs = np.where(np.isfinite(C), C, 0.0).ravel()
    found = linprog(costs, A_eq=sums, b_eq=np.concatenate([a, b]), bounds=[(0, top) for top in highest], method="highs")
    return float(found.fun) if found.status == 0 else math.inf


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 7), (7, 1), (2, 2), (3, 5), (12, 12), (9, 30), (30, 9), (40, 35)])
@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "cityblock"])
def test_linear_program(route: str, n: int, m: int, metric: str) -> None:
    C, a, b = problem(n, m, 3, metric)
    assert optimal(C, a, b) == pytest.approx(linear_program(C, a, b), rel=1e-9)


@pytest.mark.parametrize(("n", "m", "d"), [(300, 300, 2), (500, 350, 16), (260, 700, 2), (40, 3000, 2), (2500, 30, 5)])
@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean"])
def test_against_pot(n: int, m: int, d: int, metric: str) -> None:
    C, a, b = problem(n, m, d, metric)
    assert optimal(C, a, b) == pytest.approx(ot.emd2(a, b, C, numItermax=10**7), rel=1e-12)


@pytest.mark.parametrize("n", [7, 60, 300])
def test_uniform_is_a_permutation(n: int) -> None:
    C, a, b = problem(n, n)
    a[:], b[:] = 1 / n, 1 / n
    found = solve(C, a, b)
    assert len(found.rows) == n
    assert sorted(found.cols) == list(range(n))
    optimal(C, a, b, found)


def test_uniform_sides_of_two_sizes(route: str) -> None:
    C, _, _ = problem(40, 60)
    found = solve(C, np.full(40, 1 / 40), np.full(60, 1 / 60))
    # masses are multiples of 1/120
    assert np.allclose(found.mass * 120, np.rint(found.mass * 120), atol=1e-12)
    optimal(C, np.full(40, 1 / 40), np.full(60, 1 / 60), found)


@pytest.mark.parametrize("n", [5, 40, 320])
@pytest.mark.parametrize("most", [1, 3, 10**6])
def test_integers_are_exact(n: int, most: int) -> None:
    random = np.random.default_rng(n)
    C = random.integers(0, most + 1, (n, n + 3)).astype(float)
    a = random.integers(1, 50, n).astype(float)
    b = random.integers(1, 50, n + 3).astype(float)
    a[0] += max(0.0, b.sum() - a.sum())
    b[0] += max(0.0, a.sum() - b.sum())
    found = solve(C, a, b)
    primal, dual, _ = bounds(C, a, b, found)
    assert primal == dual
    assert (found.mass == np.rint(found.mass)).all()
    exact = sum(Fraction(C[i, j]) * Fraction(w) for i, j, w in zip(found.rows, found.cols, found.mass, strict=True))
    assert exact == Fraction(primal)


def test_total_variation(route: str) -> None:
    n = 45
    _, a, b = problem(n, n)
    assert optimal(1 - np.eye(n), a, b) == pytest.approx(np.abs(a - b).sum() / 2, rel=1e-13)


def test_metric_on_one_support(route: str) -> None:
    C, a, b = problem(50, 50, 2, "euclidean")
    points = np.random.default_rng(3).standard_normal((50, 2))
    C = cdist(points, points)
    assert optimal(C, a, b) == pytest.approx(linear_program(C, a, b), rel=1e-9)
    found = solve(C, a, a)
    primal, _, _ = bounds(C, a, a, found)
    assert primal <= 1e-15


def test_line(route: str) -> None:
    n = 60
    random = np.random.default_rng(0)
    x, y = np.sort(random.standard_normal(n)), np.sort(random.standard_normal(n))
    _, a, b = problem(n, n)
    points = np.concatenate([x, y])
    order = np.argsort(points)
    steps = np.concatenate([a, -b])[order].cumsum()[:-1]
    assert optimal(np.abs(x[:, None] - y), a, b) == pytest.approx(np.abs(steps) @ np.diff(points[order]), rel=1e-12)


@pytest.mark.parametrize("scale", [1e-30, 1e30, 2.0**-1000])
def test_scale(route: str, scale: float) -> None:
    C, a, b = problem(30, 30)
    assert optimal(C * scale, a, b) == pytest.approx(optimal(C.copy(), a, b) * scale, rel=1e-12)
    assert optimal(C.copy(), a * scale, b * scale) == pytest.approx(optimal(C.copy(), a, b) * scale, rel=1e-12)


@pytest.mark.parametrize("huge", [1e8, 1e30, 1e300])
def test_one_huge_cost(route: str, huge: float) -> None:
    C, a, b = problem(30, 30)
    value = optimal(C.copy(), a, b)
    worst = np.unravel_index(C.argmax(), C.shape)
    D = C.copy()
    D[worst] = huge
    assert optimal(D, a, b) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("value", [0.0, 1.0, -3.5, 1e30])
def test_equal_costs(route: str, value: float) -> None:
    _, a, b = problem(50, 40)
    assert optimal(np.full((50, 40), value), a, b) == pytest.approx(value, rel=1e-14)


def test_negative_costs(route: str) -> None:
    C, a, b = problem(30, 25)
    assert optimal(C - 7.0, a, b) == pytest.approx(optimal(C.copy(), a, b) - 7.0, rel=1e-12)


def test_masses_over_many_decades(route: str) -> None:
    C, a, b = problem(50, 40)
    random = np.random.default_rng(1)
    a, b = 10.0 ** random.uniform(-14, 0, 50), 10.0 ** random.uniform(-14, 0, 40)
    a, b = a / a.sum(), b / b.sum()
    found = solve(C, a, b)
    optimal(C, a, b, found)
    # However small, a row's mass is its own.
    sums = np.bincount(found.rows, found.mass, 50)
    assert np.quantile(np.abs(sums / a - 1), 0.5) <= 1e-15


def test_duplicates(route: str) -> None:
    C, a, b = problem(12, 12)
    C = np.repeat(np.repeat(C, 4, axis=0), 4, axis=1)
    a, b = np.repeat(a, 4) / 4, np.repeat(b, 4) / 4
    value = optimal(C, a, b)
    assert value == pytest.approx(linear_program(*problem(12, 12)), rel=1e-9)


@pytest.mark.parametrize("distance", [1e-3, 1e-9, 1e-15, 0.0])
def test_near_identical_clouds(route: str, distance: float) -> None:
    n = 60
    random = np.random.default_rng(5)
    x = random.standard_normal((n, 3))
    y = x + distance * random.standard_normal((n, 3))
    C = np.square(x[:, None] - y).sum(axis=2)
    uniform = np.full(n, 1 / n)
    found = solve(C, uniform, uniform)
    primal, dual, _ = bounds(C, uniform, uniform, found)
    assert primal <= C.diagonal().mean() * (1 + 1e-15)
    assert primal - dual <= 1e-10 * primal + 1e-300


@pytest.mark.parametrize("seed", range(6))
def test_forbidden_arcs(route: str, seed: int) -> None:
    C, a, b = problem(14, 16, seed=seed)
    random = np.random.default_rng(seed)
    C[random.random(C.shape) < (0.3, 0.5, 0.65, 0.75, 0.8, 0.85)[seed]] = np.inf
    truth = linear_program(C, a, b)
    if truth == np.inf:
        with pytest.raises(ValueError, match=r"costs: row \d+ cannot place all its mass"):
            solve(C, a, b)
    else:
        assert optimal(C, a, b) == pytest.approx(truth, rel=1e-9)


def test_forbidden_but_for_one_plan(route: str) -> None:
    n = 40
    C, a, _ = problem(n, n)
    order = np.random.default_rng(0).permutation(n)
    # a staircase: row i may use columns i and later, and there is just enough
    C = np.where(np.tri(n, k=-1, dtype=bool), np.inf, C)[:, order]
    b = np.empty(n)
    b = a[order]
    found = solve(C, a, b)
    assert optimal(C, a, b, found) == pytest.approx(float((C[order, np.arange(n)] * b).sum()), rel=1e-12)


def test_infeasible_names_the_row(route: str) -> None:
    C, a, b = problem(20, 20)
    C[3:6, 2:] = np.inf
    a[3:6] = 1.0
    a /= a.sum()
    with pytest.raises(ValueError, match=r"row [345] cannot place .* rows [345].* have arcs only to 2 columns"):
        solve(C, a, b)
    with pytest.raises(ValueError, match="have arcs only to 0 columns"):
        solve(np.full((20, 20), np.inf), a, b)


def test_infeasible_names_the_column() -> None:
    C, a, b = problem(8, 60)
    C[1:, 7] = np.inf
    b[7] = 1.0
    with pytest.raises(ValueError, match=r"column 7 cannot place all its mass.* have arcs only to 1 rows"):
        solve(C, a, b / b.sum())


@pytest.mark.parametrize("n", [20, 240])
def test_classes_whose_masses_agree_to_rounding(n: int) -> None:
    C, a, b = problem(n, n)
    kind = np.random.default_rng(0).integers(0, 7, n), np.arange(n) % 7
    for c in range(7):
        a[kind[0] == c] /= a[kind[0] == c].sum() * 7
        b[kind[1] == c] /= b[kind[1] == c].sum() * 7
    C[kind[0][:, None] != kind[1]] = np.inf
    parts = [(kind[0] == c, kind[1] == c) for c in range(7)]
    truth = sum(optimal(C[np.ix_(i, j)].copy(), a[i], b[j] * (a[i].sum() / b[j].sum())) for i, j in parts)
    found = solve(C, a, b)
    assert found.stopped == ""
    assert float(C[found.rows, found.cols] @ found.mass) == pytest.approx(truth, rel=1e-12)
    assert np.abs(np.bincount(found.cols, found.mass, n) - b).max() <= 2e-15


@pytest.mark.parametrize("n", [30, 300])
def test_dummy_row_and_column(n: int) -> None:
    C, a, b = problem(n, n)
    b *= 0.7
    wide = np.full((n + 1, n + 1), 0.4)
    wide[:n, :n], wide[n, n] = C, 0.0
    a, b = np.append(a, b.sum()), np.append(b, a.sum())
    assert optimal(wide, a, b) == pytest.approx(ot.emd2(a, b, wide, numItermax=10**7), rel=1e-11)


@pytest.mark.parametrize("n", [40, 320])
def test_same_bits_again(n: int) -> None:
    C, a, b = problem(n, n - 7)
    first, second = solve(C.copy(), a, b), _weighted.solve(C, a.copy(), b.copy(), Watch())
    assert (first.rows == second.rows).all()
    assert (first.mass == second.mass).all()
    assert (first.g == second.g).all()


@pytest.mark.parametrize("limit", [0, 1, 200])
def test_stopped_early(route: str, limit: int) -> None:
    C, a, b = problem(320, 320)
    found = solve(C, a, b, Watch(max_iter=limit))
    primal, dual, _ = bounds(C, a, b, found)
    assert primal >= dual
    assert found.stopped in {"", "max_iter"}


@st.composite
def any_problem(draw: st.DrawFn) -> Problem:
    """Ties, zeros, forbidden arcs, scales, masses near and far: whatever is small enough for a linear program."""
    n, m = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    kind = draw(st.sampled_from(["ties", "reals", "points", "line", "wild"]))
    x, y = random.standard_normal((n, 2)), random.standard_normal((m, 2))
    C = {
        "ties": random.integers(0, 3, (n, m)).astype(float),
        "reals": random.standard_normal((n, m)),
        "points": cdist(x, y, "sqeuclidean"),
        "line": np.abs(x[:, :1] - y[:, 0]),
        "wild": 10.0 ** random.uniform(-6, 3, (n, m)),
    }[kind]
    if draw(st.booleans()):
        C[random.random((n, m)) < draw(st.floats(0, 0.6))] = np.inf
    if draw(st.booleans()):
        a, b = 10.0 ** random.uniform(-draw(st.integers(0, 9)), 0, n), random.random(m) + 0.01
    else:
        a, b = random.integers(1, 5, n).astype(float), random.integers(1, 5, m).astype(float)
    return C, a / a.sum(), b / b.sum()


@settings(max_examples=150, deadline=None)
@given(any_problem())
def test_property_linear_program(drawn: Problem) -> None:
    C, a, b = drawn
    truth = linear_program(C, a, b)
    if truth == np.inf:
        return  # its tolerances are not ours at the border; `test_forbidden_arcs` looks at clear cases
    finite = np.abs(C[np.isfinite(C)]).max(initial=0.0)
    value = optimal(C, a, b)
    assert abs(value - truth) <= 1e-6 * finite + 1e-9


@settings(max_examples=40, deadline=None)
@given(any_problem(), st.integers(-40, 40))
def test_property_shift_scale_and_transpose(drawn: Problem, power: int) -> None:
    C, a, b = drawn
    C = np.where(np.isinf(C), 7.0, C)
    value = optimal(C.copy(), a, b)
    scale = 1e-13 * (np.abs(C).max() + 1.0)
    assert optimal(np.ascontiguousarray(C.T), b, a) == pytest.approx(value, abs=scale)
    assert optimal(C * 2.0**power, a, b) == value * 2.0**power
    f, g = np.arange(len(a)) / 8, np.arange(len(b)) / 4
    assert optimal(C + f[:, None] + g, a, b) == pytest.approx(value + f @ a + g @ b, abs=10 * scale)


def test_callback_hears_all_stages_and_may_stop() -> None:
    C, a, b = problem(400, 380)
    stages: list[str] = []
    solve(C.copy(), a, b, Watch(callback=lambda figures: stages.append(figures["stage"])))
    assert {"auction", "pricing"} <= set(stages) <= {"auction", "simplex", "pricing"}
    found = solve(C, a, b, Watch(callback=lambda figures: figures["stage"] != "pricing"))
    assert found.stopped == "callback"
    primal, dual, _ = bounds(C, a, b, found)
    assert primal >= dual
