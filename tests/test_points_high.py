"""Assignment between points in many dimensions: values, certificates, limits."""

import itertools
import math

import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from otdist.kernels import threads
from otdist.kernels.costs import Chebyshev, Euclidean, Raised
from otdist.kernels.profiles import Cityblock, Squared
from otdist.transport import _points_high
from otdist.transport._points_high import solve
from otdist.transport._solution import Watch
from tests.test_points_high_scan import pairs

COSTS = [Squared(), Euclidean(), Cityblock(), Chebyshev(), Raised(Euclidean(), 3.0), Raised(Cityblock(), 1.5)]
EPS = 2.0**-52


def families(n, d, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((n, d)), rng.standard_normal((n, d)) + 0.5
    order = rng.permutation(n)
    centres = 10 * rng.standard_normal((6, d))
    far_x, far_y = x.copy(), y.copy()
    far_x[: n // 20 + 1] *= 1e6
    far_y[: n // 30 + 1] *= 1e6
    paired = y.copy()
    paired[: n // 20 + 1] = far_x[: n // 20 + 1] + 1
    root = rng.standard_normal((d, d))
    return {
        "normal": (x, y),
        "uniform": (rng.random((n, d)), rng.random((n, d))),
        "identical": (x, x[order]),
        "nearly identical": (x, x[order] + 1e-9 * y),
        "jittered": (x, x[order] + 0.3 * y),
        "translated": (x, x[order] + 7.0),
        "positive definite": (x, (x @ (root @ root.T / d) + 1)[order]),
        "clusters": (*(centres[rng.integers(0, 6, n)] + 0.05 * z for z in (x, y)),),
        "uniform to clusters": (20 * rng.random((n, d)) - 10, centres[rng.integers(0, 6, n)] + 0.05 * y),
        "heavy tails": (rng.standard_t(1, (n, d)), rng.standard_t(1, (n, d))),
        "lattice": (rng.integers(0, 3, (n, d)) * 1.0, rng.integers(0, 3, (n, d)) * 1.0),
        "wide lattice": (rng.integers(-99, 99, (n, d)) * 1.0, rng.integers(0, 99, (n, d)) + 1000.0),
        "duplicates": (x[rng.integers(0, n // 5 + 1, n)], y[rng.integers(0, n // 5 + 1, n)]),
        "few distinct": (x[rng.integers(0, min(n, 3), n)], y[rng.integers(0, min(n, 4), n)]),
        "one point": (np.zeros((n, d)), np.zeros((n, d))),
        "two points": (np.ones((n, d)), np.full((n, d), 0.3)),
        "outliers": (far_x, far_y),
        "paired outliers": (far_x, paired),
        "small": (x * 1e-30, y * 1e-30),
        "large": (x * 1e30, y * 1e30),
        "offset": (x + 1e8, y + 1e8),
        "line": (x[:, :1] * np.ones(d), y[:, :1] * np.ones(d)),
    }


FAMILIES = list(families(5, 4, 0))


def certified(x, y, cost, solution):
    """Value and gap by definition; asserts what every answer owes."""
    n = len(x)
    np.testing.assert_array_equal(solution.rows, np.arange(n))
    np.testing.assert_array_equal(np.sort(solution.cols), np.arange(n))
    np.testing.assert_array_equal(solution.mass, np.ones(n))
    C = pairs(x, y, cost)
    f = (C - solution.g).min(1)
    value = math.fsum(C[solution.rows, solution.cols])
    gap = value - math.fsum(f) - math.fsum(solution.g)
    terms = value + np.abs(f).sum() + np.abs(solution.g).sum()
    return value, gap, terms, C


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("cost", COSTS, ids=str)
def test_every_family(cost, family):
    for n, d in ((150, 5), (37, 40)):
        x, y = families(n, d, n)[family]
        value, gap, terms, C = certified(x, y, cost, solve(x, y, cost, Watch()))
        assert -16 * EPS * terms <= gap <= max(1e-10 * value, 16 * EPS * terms)
        rows, cols = linear_sum_assignment(C)
        best = math.fsum(C[rows, cols])
        assert value <= best + max(1e-10 * best, 16 * EPS * terms)


@pytest.mark.parametrize("family", ["lattice", "wide lattice", "one point"])
@pytest.mark.parametrize("cost", [Squared(), Cityblock(), Chebyshev()], ids=str)
def test_integers_are_exact(cost, family):
    for n, d in ((300, 4), (700, 20)):
        x, y = families(n, d, n)[family]
        solution = solve(x, y, cost, Watch())
        value, gap, _, _ = certified(x, y, cost, solution)
        assert gap == 0
        np.testing.assert_array_equal(solution.g, np.rint(solution.g))
        assert value == np.rint(value)


@pytest.mark.parametrize("cost", COSTS, ids=str)
def test_all_permutations(cost):
    rng = np.random.default_rng(2)
    for n in range(1, 7):
        x, y = rng.standard_normal((2, n, 5))
        value, gap, _, C = certified(x, y, cost, solve(x, y, cost, Watch()))
        best = min(C[np.arange(n), list(p)].sum() for p in itertools.permutations(range(n)))
        assert value == pytest.approx(best, rel=1e-13)
        assert abs(gap) <= 1e-10 * value + 1e-15


@pytest.mark.parametrize(("n", "d", "cost"), [(1500, 6, Squared()), (1500, 16, Euclidean()), (900, 64, Euclidean())])
def test_against_pot(n, d, cost):
    x, y = families(n, d, 1)["normal"]
    value, gap, _, C = certified(x, y, cost, solve(x, y, cost, Watch()))
    assert abs(gap) <= 1e-10 * value
    uniform = np.full(n, 1 / n)
    assert value / n == pytest.approx(ot.emd2(uniform, uniform, C, numItermax=10**7), rel=2e-10)


@pytest.mark.parametrize("family", ["identical", "translated", "positive definite"])
def test_closed_forms(family):
    n, d = 2500, 8
    x, y = families(n, d, 4)[family]
    shift = {"identical": 0.0, "translated": 49.0 * d * n}
    solution = solve(x, y, Squared(), Watch())
    z = x - y[solution.cols]
    value = float((z * z).sum())
    if family in shift:
        assert value == pytest.approx(shift[family], rel=1e-12)
    else:
        rng = np.random.default_rng(4)
        rng.standard_normal((2 * n, d)), rng.permutation(n), rng.standard_normal((6, d))
        root = rng.standard_normal((d, d))
        assert value == pytest.approx(((x - (x @ (root @ root.T / d) + 1)) ** 2).sum(), rel=1e-10)


@pytest.mark.slow
def test_large_with_known_optimum():
    n, d = 20_000, 12
    rng = np.random.default_rng(0)
    x, root = rng.standard_normal((n, d)), rng.standard_normal((d, d))
    y = x @ (root @ root.T / d) + 1
    order = rng.permutation(n)
    solution = solve(x, y[order], Squared(), Watch())
    assert ((x - y[order][solution.cols]) ** 2).sum() == pytest.approx(((x - y) ** 2).sum(), rel=1e-10)


@given(
    st.integers(1, 130), st.integers(4, 24), st.sampled_from(FAMILIES), st.sampled_from(COSTS[:4]),
    st.integers(0, 10**6),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_certified_everywhere(n, d, family, cost, seed):
    x, y = families(n, d, seed)[family]
    value, gap, terms, _ = certified(x, y, cost, solve(x, y, cost, Watch()))
    assert -16 * EPS * terms <= gap <= max(1e-10 * value, 16 * EPS * terms)


def test_relabelling_and_motion_change_nothing():
    x, y = families(400, 7, 9)["normal"]
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((7, 7)))[0]
    for cost in (Squared(), Euclidean()):
        value = certified(x, y, cost, solve(x, y, cost, Watch()))[0]
        moved = [z[rng.permutation(400)] @ turn + 3 for z in (x, y)]
        assert certified(*moved, cost, solve(*moved, cost, Watch()))[0] == pytest.approx(value, rel=1e-10)
        assert certified(y, x, cost, solve(y, x, cost, Watch()))[0] == pytest.approx(value, rel=1e-10)


def test_same_bits_on_any_number_of_threads():
    x, y = families(1300, 10, 3)["normal"]
    found = []
    try:
        for count in (1, 2):
            threads.set_thread_count(count)
            found.append(solve(x, y, Euclidean(), Watch()))
    finally:
        threads.set_thread_count(None)
    np.testing.assert_array_equal(found[0].cols, found[1].cols)
    np.testing.assert_array_equal(found[0].g, found[1].g)


def test_inputs_are_left_alone():
    x, y = families(300, 5, 3)["normal"]
    expected = solve(x, y, Squared(), Watch())
    copies = [z.copy() for z in (x, y)]
    for z in copies:
        z.flags.writeable = False
    np.testing.assert_array_equal(solve(*copies, Squared(), Watch()).g, expected.g)
    np.testing.assert_array_equal(copies[0], x)


@pytest.mark.parametrize("cost", COSTS[:3], ids=str)
def test_a_good_start_saves_work(cost):
    x, y = families(1200, 9, 6)["normal"]
    first = solve(x, y, cost, Watch())
    again = solve(x, y, cost, Watch(), start=first.g)
    value, gap, _, _ = certified(x, y, cost, again)
    assert abs(gap) <= 1e-10 * value
    assert again.iterations < 0.75 * first.iterations
    wrong = solve(x, y, cost, Watch(), start=np.linspace(0, 5, 1200))
    assert certified(x, y, cost, wrong)[0] == pytest.approx(value, rel=1e-10)


def test_limits():
    x, y = families(1200, 9, 6)["normal"]
    best = certified(x, y, Squared(), solve(x, y, Squared(), Watch()))[0]
    seen = []
    for watch, reason in (
        (Watch(time_limit=0.0), "time_limit"),
        (Watch(max_iter=2000), "max_iter"),
        (Watch(callback=lambda figures: seen.append(figures) or len(seen) < 8), "callback"),
    ):
        solution = solve(x, y, Squared(), watch)
        assert solution.stopped == reason
        value, gap, _, _ = certified(x, y, Squared(), solution)
        assert value >= best * (1 - 1e-12)
        assert gap >= value - best
    assert {"stage", "iterations", "elapsed"} <= set(seen[0])


def test_a_price_war_of_many_points_ends_by_the_simplex(monkeypatch):
    monkeypatch.setattr(_points_high, "WAR", 0.5)
    monkeypatch.setattr(_points_high, "PIECE", 50)
    monkeypatch.setattr(_points_high, "STORED", 0)
    monkeypatch.setattr(_points_high, "LOST", 20)
    x, y = families(700, 5, 8)["clusters"]
    solution = solve(x, y, Squared(), Watch())
    assert solution.solver == "network simplex"
    value, gap, terms, _ = certified(x, y, Squared(), solution)
    assert -16 * EPS * terms <= gap <= 1e-10 * value


def test_a_lost_auction_ends_with_paths(monkeypatch):
    monkeypatch.setattr(_points_high, "LOST", 0)
    monkeypatch.setattr(_points_high, "PIECE", 50)
    for family in ("normal", "lattice"):
        x, y = families(620, 5, 8)[family]
        value, gap, _, _ = certified(x, y, Squared(), solve(x, y, Squared(), Watch()))
        assert gap == 0 if family == "lattice" else abs(gap) <= 1e-10 * value
