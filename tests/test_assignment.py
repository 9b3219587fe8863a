"""Exact assignment: definitions, oracles, certificates recomputed here, and costs that break assignment codes."""

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment, linprog
from scipy.spatial.distance import cdist

from otdist.kernels import threads
from otdist.transport import _assignment, _auction
from otdist.transport._assignment import solve, solve_batch
from otdist.transport._solution import Solution, Watch

ENGINES = ["as chosen", "auction", "paths", "paths alone"]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    force(request.param, monkeypatch)
    return str(request.param)


def force(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send problems of every size to the auction, and cut it off if the paths are to do the work."""
    if engine != "as chosen":
        monkeypatch.setattr(_assignment, "SMALL", 0)
        monkeypatch.setattr(_assignment, "ENTRIES", 0)
        monkeypatch.setattr(_assignment, "WIDE", math.inf)
    if engine == "paths alone":
        monkeypatch.setattr(_assignment, "WIDE", 0.0)
    if engine == "paths":
        monkeypatch.setattr(_auction, "FIRST_BIDS", 1)
        monkeypatch.setattr(_auction, "CLIMBS", 1)
        monkeypatch.setattr(_auction, "BIDS", 1)


def certified(C: np.ndarray, s: Solution) -> float:
    """The value of a solution, after everything it claims was checked against C."""
    n, m = C.shape
    assert s.stopped == ""
    assert np.array_equal(s.rows, np.arange(n))
    assert len(set(s.cols.tolist())) == n
    assert np.all(s.mass == 1.0)
    assert s.g.shape == (m,)
    assert np.isfinite(s.g).all()
    paid = C[s.rows, s.cols]
    assert np.isfinite(paid).all()
    if n < m:
        assert s.g.max() <= 0.0
        assert np.all(s.g[np.setdiff1d(np.arange(m), s.cols)] == 0.0)
    if n == 0:
        return 0.0
    f = (C - s.g).min(axis=1)
    value, bound = math.fsum(paid), math.fsum(f) + math.fsum(s.g)
    terms = np.abs(paid).sum() + np.abs(f).sum() + np.abs(s.g).sum()
    finite = C[np.isfinite(C)]
    if np.array_equal(finite, np.rint(finite)) and np.abs(finite).max() < 2.0**45:
        assert value == bound
    assert value - bound <= max(1e-10 * abs(value), 4e-15 * terms)
    assert bound - value <= 4e-15 * terms
    return value


def scipy_value(C: np.ndarray) -> float:
    return math.fsum(C[linear_sum_assignment(C)])


def families(n: int) -> dict[str, Callable[[], np.ndarray]]:
    rng = np.random.default_rng(n)
    X, Y = rng.standard_normal((n, 2)), rng.standard_normal((n, 2)) + 0.5
    G = cdist(X, Y, "sqeuclidean")
    i = np.arange(n, dtype=float)

    def forbidden(share: float, always: float) -> np.ndarray:
        C = np.where(rng.random((n, n)) < share, G, np.inf)
        np.fill_diagonal(C, always)
        return C[:, rng.permutation(n)]

    def entry(*entries: tuple[int, int, float]) -> np.ndarray:
        C = G.copy()
        for row, col, value in entries:
            C[row % n, col % n] = value
        return C

    def row_of(value: float) -> np.ndarray:
        C = G.copy()
        C[n // 2] = value
        return C

    return {
        "gaussian": lambda: G,
        "16 coordinates": lambda: cdist(rng.standard_normal((n, 16)), rng.standard_normal((n, 16)), "sqeuclidean"),
        "distances": lambda: np.sqrt(G),
        "uniform": lambda: rng.random((n, n)),
        "integers": lambda: rng.integers(0, 10 * n, (n, n)).astype(float),
        "large integers": lambda: rng.integers(-(10**12), 10**12, (n, n)).astype(float),
        "ties": lambda: rng.integers(0, 3, (n, n)).astype(float),
        "ties of fractions": lambda: rng.integers(0, 3, (n, n)) + 0.3,
        "nearly degenerate": lambda: np.add.outer(i, i) + (rng.random((n, n)) < 0.5),
        "zero": lambda: np.zeros((n, n)),
        "equal": lambda: np.full((n, n), 3.7),
        "identical clouds": lambda: cdist(X, X, "sqeuclidean"),
        "shuffled cloud": lambda: cdist(X, X[rng.permutation(n)]),
        "nearly identical clouds": lambda: cdist(X, X + 1e-9 * Y, "sqeuclidean"),
        "duplicates": lambda: cdist(np.repeat(X, 4, axis=0)[:n], np.repeat(Y, 4, axis=0)[:n], "sqeuclidean"),
        "Machol-Wien": lambda: np.multiply.outer(i, i),
        "Machol-Wien upside down": lambda: -np.multiply.outer(i, i) - 0.5,
        "line": lambda: cdist(X[:, :1], Y[:, :1], "sqeuclidean"),
        "geometric": lambda: 1.03 ** np.add.outer(i, i) * rng.random((n, n)),
        "sixteen decades": lambda: 10.0 ** rng.uniform(-8, 8, (n, n)),
        "1e30": lambda: G * 1e30,
        "1e-30": lambda: G * 1e-30,
        "one huge entry": lambda: entry((3, 5, 1e15)),
        "huge and tiny entries": lambda: entry((3, 5, 1e12), (4, 5, 1e-12), (5, 3, 1e9)),
        "huge row": lambda: row_of(1e12),
        "negative": lambda: G - 7.0,
        "centred": lambda: rng.standard_normal((n, n)),
        "few allowed": lambda: forbidden(3 / n, 5.0),
        "a tenth allowed": lambda: forbidden(0.1, 9.0),
        "triangle": lambda: np.where(np.tri(n) > 0, G, np.inf),
    }


NAMES = list(families(2))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", [2, 5, 40])
def test_families(engine: str, name: str, n: int) -> None:
    C = np.ascontiguousarray(families(n)[name]())
    value, expected = certified(C, solve(C, Watch())), scipy_value(C)
    assert value == pytest.approx(expected, rel=2e-10, abs=1e-14 * float(np.abs(C[np.isfinite(C)]).mean()))


@pytest.mark.parametrize("name", NAMES)
def test_families_at_size(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    force("auction", monkeypatch)
    C = np.ascontiguousarray(families(420)[name]())
    kept = C.copy()
    C.flags.writeable = False
    value = certified(C, solve(C, Watch()))
    assert np.array_equal(C, kept)
    assert value == pytest.approx(scipy_value(C), rel=2e-10, abs=1e-12 * float(np.abs(C[np.isfinite(C)]).mean()))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("extra", [0, 2])
def test_every_permutation(engine: str, n: int, extra: int) -> None:
    rng = np.random.default_rng(10 * n + extra)
    for C in (rng.random((n, n + extra)), rng.integers(-2, 3, (n, n + extra)).astype(float)):
        least = min(math.fsum(C[np.arange(n), p]) for p in itertools.permutations(range(n + extra), n))
        assert certified(C, solve(C, Watch())) == pytest.approx(least, rel=1e-10, abs=1e-14)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (3, 50), (30, 31), (20, 60), (200, 300), (299, 300), (12, 300)])
def test_fewer_rows_than_columns(engine: str, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(shape)
    cloud = cdist(rng.standard_normal((shape[0], 2)), rng.standard_normal((shape[1], 2)))
    for C in (cloud, cloud - 1.0, rng.integers(0, 9, shape).astype(float), np.zeros(shape)):
        assert certified(C, solve(C, Watch())) == pytest.approx(scipy_value(C), rel=2e-10, abs=1e-13)


def test_linear_programme() -> None:
    rng = np.random.default_rng(8)
    n, m = 5, 7
    C = rng.standard_normal((n, m))
    rows = np.kron(np.eye(n), np.ones(m))
    columns = np.kron(np.ones(n), np.eye(m))
    lp = linprog(C.ravel(), A_eq=rows, b_eq=np.ones(n), A_ub=columns, b_ub=np.ones(m), method="highs")
    assert certified(C, solve(C, Watch())) == pytest.approx(lp.fun, rel=1e-9)


def test_translation_is_optimal_for_the_squared_distance() -> None:
    rng = np.random.default_rng(2)
    X, v = rng.standard_normal((600, 3)), np.array([3.0, -1.0, 0.5])
    order = rng.permutation(600)
    s = solve(cdist(X, (X + v)[order], "sqeuclidean"), Watch())
    assert np.array_equal(order[s.cols], np.arange(600))


def test_no_rows() -> None:
    assert certified(np.zeros((0, 3)), solve(np.zeros((0, 3)), Watch())) == 0.0


@st.composite
def problems(draw: st.DrawFn) -> np.ndarray:
    n = draw(st.integers(1, 7))
    m = n + draw(st.integers(0, 3))
    entries = draw(
        st.sampled_from(
            [
                st.integers(0, 2).map(float),
                st.integers(-1000, 1000).map(float),
                st.floats(-1, 1, width=32),
                st.sampled_from([0.0, 1e-9, 1.0, 1e9]),
                st.sampled_from([0.0, 1.0, 2.5, np.inf]),
            ]
        )
    )
    return np.array(draw(st.lists(entries, min_size=n * m, max_size=n * m))).reshape(n, m)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(C=problems())
@pytest.mark.parametrize("name", ENGINES)
def test_any_costs(name: str, C: np.ndarray) -> None:
    with pytest.MonkeyPatch.context() as patch:
        force(name, patch)
        try:
            expected = scipy_value(C)
        except ValueError:
            with pytest.raises(ValueError, match=r"row \d+ (cannot be matched|has no finite cost)"):
                solve(C, Watch())
            return
        value = certified(C, solve(C, Watch()))
        assert value == pytest.approx(expected, rel=1e-9, abs=1e-14 * max(1.0, float(np.abs(C[np.isfinite(C)]).max())))


@pytest.mark.parametrize("n", [4, 300])
def test_impossible(engine: str, n: int) -> None:
    C = np.random.default_rng(n).random((n, n))
    C[:3, 2:] = np.inf
    with pytest.raises(ValueError, match=r"row [012] cannot be matched: 3 rows \(0, 1, 2\) .* 2 columns only"):
        solve(C, Watch())
    C[1] = np.inf
    with pytest.raises(ValueError, match=r"row 1 (has no finite cost|cannot be matched)"):
        solve(C, Watch())


def test_impossible_by_a_column(engine: str) -> None:
    C = np.ones((4, 4))
    C[:, 2] = np.inf
    with pytest.raises(ValueError, match=r"row \d cannot be matched: 4 rows .* in 3 columns only"):
        solve(C, Watch())


def _interrupted(C: np.ndarray, limits: Callable[[], Watch]) -> Iterator[Solution]:
    for forced in ("auction", "paths"):
        with pytest.MonkeyPatch.context() as patch:
            force(forced, patch)
            patch.setattr(_auction, "PIECE_BIDS", 50)
            patch.setattr(_auction, "PIECE_ENTRIES", 1)
            yield solve(C, limits())


@pytest.mark.parametrize("kind", ["max_iter", "time_limit", "callback"])
@pytest.mark.parametrize("forbid", [False, True])
def test_stopped_early(kind: str, forbid: bool) -> None:
    n = 150
    C = families(n)["few allowed" if forbid else "gaussian"]()
    limits = {
        "max_iter": lambda: Watch(max_iter=1),
        "time_limit": lambda: Watch(time_limit=0.0),
        "callback": lambda: Watch(callback=lambda state: False),
    }
    best = scipy_value(C)
    for s in _interrupted(C, limits[kind]):
        assert s.stopped == kind
        assert sorted(s.cols.tolist()) == list(range(n))
        assert best - 1e-9 <= C[s.rows, s.cols].sum() < np.inf
        assert (C - s.g).min(axis=1).sum() + s.g.sum() <= best + 1e-9


def test_the_callback_hears_of_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otdist.transport._solution.EVERY", 0.0)
    heard: list[dict[str, object]] = []
    C = families(600)["gaussian"]()
    s = solve(C, Watch(callback=heard.append))
    certified(C, s)
    assert s.solver == "auction"
    assert {state["stage"] for state in heard} <= {"coarse auction", "auction"}
    counts = [int(str(state["iterations"])) for state in heard if state["stage"] == "auction"]
    assert counts == sorted(counts)
    assert counts[-1] == s.iterations


@pytest.mark.parametrize("name", ["gaussian", "integers"])
def test_warm_start(name: str) -> None:
    C = families(600)[name]()
    cold = solve(C, Watch())
    nearby = C + np.where(name == "integers", 0.0, 1e-6) * np.random.default_rng(0).random(C.shape)
    warm = solve(nearby, Watch(), start=cold.g)
    assert certified(nearby, warm) == pytest.approx(scipy_value(nearby), rel=2e-10)
    assert warm.iterations < cold.iterations


def test_same_bits_on_any_number_of_threads() -> None:
    C = families(700)["gaussian"]()
    B = np.random.default_rng(0).random((40, 30, 33))
    found = []
    try:
        for count in (1, 3):
            threads.set_thread_count(count)
            s = solve(C, Watch())
            found.append((s.cols, s.g, *solve_batch(B)))
    finally:
        threads.set_thread_count(None)
    for one, other in zip(*found, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("shape", [(1, 1, 1), (50, 8, 8), (7, 5, 9), (20, 64, 64), (3, 150, 150), (0, 4, 4), (3, 0, 2)])
def test_batches(shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(shape)
    for C in (rng.random(shape), rng.integers(0, 6, shape).astype(float)):
        cols, f, g = solve_batch(C)
        assert (cols.shape, f.shape, g.shape) == (shape[:2], shape[:2], (shape[0], shape[2]))
        for k in range(shape[0]):
            s = Solution(np.arange(shape[1]), cols[k], np.ones(shape[1]), g[k], 0, "")
            value = certified(C[k], s)
            if shape[1]:
                assert value == pytest.approx(scipy_value(C[k]), rel=1e-12, abs=1e-15)
                assert np.array_equal(f[k], (C[k] - g[k]).min(axis=1))


def test_impossible_in_a_batch() -> None:
    C = np.ones((5, 3, 3))
    C[3, :2, :2] = np.inf
    with pytest.raises(ValueError, match=r"row [01] of problem 3 cannot be matched: 2 rows \(0, 1\) .* 1 column only"):
        solve_batch(C)
