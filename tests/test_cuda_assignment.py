"""Assignment and exact transport of equal masses on the device: against SciPy, definitions, and their own proofs."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment as scipy_assignment

import otdist as od
from otdist.kernels import assignment_cuda, auction_cuda, device
from otdist.kernels.auction_cuda import Costs
from otdist.reference import transport as reference
from otdist.transport import _auction_device
from otdist.transport._solution import Watch
from tests.device import on_device, receive, send
from tests.transport_cases import CLOUDS, COSTS, MATRICES, Case, matrix, prove

assign = on_device(od.linear_sum_assignment)
SHAPES = ((1, 1), (1, 5), (5, 1), (31, 32), (32, 32), (33, 33), (64, 64), (63, 65), (65, 40), (7, 130), (130, 130))
# Problems of any size go the way of the large ones, points without their matrix.
LARGE = pytest.mark.parametrize("large", [False, True], ids=["team", "auction"])


@pytest.fixture(autouse=True)
def _on_device(emulated: Any) -> None:
    """Everything here runs on the device."""


@pytest.fixture
def small_teams(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if request.node.callspec.params.get("large"):
        monkeypatch.setattr(assignment_cuda, "MOST", 3)
        monkeypatch.setattr(device.Space, "budget", lambda self, memory_limit=None: 1 << 10)


def check(C: np.ndarray, maximize: bool = False) -> None:
    rows, cols = assign(C, maximize)
    best = C[scipy_assignment(C.astype(float), maximize)].astype(float).sum()
    assert rows.dtype == cols.dtype == np.int64
    assert np.array_equal(rows, np.sort(rows))
    assert len(set(rows.tolist())) == len(set(cols.tolist())) == min(C.shape)
    found = C[rows, cols].astype(float).sum()
    assert abs(found - best) <= max(1e-10 * abs(best), 1e-13 * np.abs(C[rows, cols]).sum())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("maximize", [False, True])
def test_like_scipy(shape: tuple[int, int], maximize: bool) -> None:
    C = np.random.default_rng(shape).standard_normal(shape)
    check(C, maximize)
    expected = scipy_assignment(C, maximize)
    assert all(np.array_equal(a, b) for a, b in zip(assign(C, maximize), expected, strict=True))


@pytest.mark.parametrize("family", MATRICES, ids=lambda f: f.__name__[1:])
def test_hard_costs(family: Any, emulated: Any) -> None:
    rng = np.random.default_rng(7)
    for k, (n, m) in enumerate(((5, 5), (40, 40), (40, 61))):
        emulated.only(k)
        C = family(rng, n, m)
        C[np.arange(n), rng.permutation(m)[:n]] = rng.integers(1, 9, n)  # a complete matching
        check(C)


@pytest.mark.parametrize("dtype", ["f2", "f4", "i1", "i4", "u2", "i8", "?"])
def test_dtypes(dtype: str) -> None:
    C = (np.random.default_rng(1).random((20, 26)) * 100).astype(dtype)
    check(C)
    check(C.T)


@pytest.mark.parametrize("shape", [(3, 5, 5), (2, 3, 4, 7), (2, 3, 7, 4), (0, 3, 3), (2, 0, 3), (2, 3, 0), (3, 33, 33)])
def test_batches(shape: tuple[int, ...]) -> None:
    C = np.random.default_rng(shape).random(shape)
    rows, cols = assign(C)
    assert rows.shape == cols.shape == (*shape[:-2], min(shape[-2:]))
    for at in np.ndindex(*shape[:-2]):
        expected = scipy_assignment(C[at])
        assert np.array_equal(rows[at], expected[0])
        assert np.array_equal(cols[at], expected[1])


def test_definition() -> None:
    C = np.random.default_rng(3).integers(0, 4, (8, 5, 5)).astype("f4")
    rows, cols = assign(C)
    for k in range(8):
        assert C[k][rows[k], cols[k]].sum() == reference.assignment(C[k])


def test_layouts() -> None:
    C = np.random.default_rng(1).random((24, 48))
    for view in (C.T, C[:, ::2], np.repeat(C, 2, axis=0)[::2], np.asfortranarray(C)):
        _rows, cols = assign(view)
        assert np.array_equal(cols, scipy_assignment(view)[1])


def test_each_order_of_threads_gives_the_same_bits(emulated: Any) -> None:
    C = np.random.default_rng(2).integers(0, 3, (2, 70, 70)).astype("f8")
    found = []
    for k in range(4):
        emulated.only(k)
        found.append(assign(C)[1])
    assert all(np.array_equal(found[0], other) for other in found)


@LARGE
@pytest.mark.parametrize(
    "C",
    [
        [[1.0, np.nan], [0.0, 1.0]],
        [[1.0, -np.inf], [0.0, 1.0]],
        [[1.0, np.inf, np.inf], [0.0, np.inf, np.inf], [1.0, 2.0, 3.0]],
        [[np.inf] * 4, [1.0] * 4, [1.0] * 4, [1.0] * 4],
        [[2**60, 0], [1, 2]],
    ],
)
@pytest.mark.usefixtures("small_teams")
def test_refusals_are_those_of_the_cpu(C: Any, large: bool) -> None:
    host = np.asarray(C)
    with pytest.raises(ValueError, match="cost_matrix") as expected:
        od.linear_sum_assignment(host)
    with pytest.raises(ValueError, match="cost_matrix") as found:
        assign(host)
    assert str(found.value) == str(expected.value)


def test_deferred() -> None:
    C = np.random.default_rng(0).random((3, 6, 6))
    C[1, 2] = np.inf
    with pytest.raises(ValueError, match="row 2 of problem 1"), device.deferred_checks():
        _rows, cols = od.linear_sum_assignment(send(C))
    assert (receive(cols)[1] == -1).all()
    assert np.array_equal(receive(cols)[2], scipy_assignment(C[2])[1])


@pytest.mark.parametrize("shape", [(5, 5), (90, 90), (60, 100)])
def test_large_ones(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assignment_cuda, "MOST", 3)
    rng = np.random.default_rng(shape)
    for C in (rng.random(shape), rng.integers(0, 1000, shape), rng.standard_normal((2, *shape)).astype("f4")):
        if C.ndim == 2:
            check(C)
        else:
            assert np.array_equal(assign(C)[1][1], scipy_assignment(C[1])[1])
    check(rng.random(shape).T, maximize=True)


@pytest.mark.parametrize("family", MATRICES, ids=lambda f: f.__name__[1:])
def test_auction_proves_hard_costs(family: Any) -> None:
    C = family(np.random.default_rng(4), 50, 50)
    C[np.arange(50), np.arange(49, -1, -1)] = 1.0  # a complete matching
    cp: Any = __import__("cupy")
    space = device.Space(device.CupyMemory(0))
    whole = bool(np.all(np.rint(C) == C))
    found = _auction_device.solve(Costs(space, cp.asarray(C), None), Watch(), whole)
    best = C[scipy_assignment(C)].sum()
    primal = C[np.arange(50), found.cols].sum()
    assert abs(primal - best) <= 1e-10 * abs(best) + 1e-13 * np.abs(C[np.arange(50), found.cols]).sum()
    dual = reference.c_transform(C, found.g).sum() + found.g.sum()
    terms = np.abs(found.g).sum() + np.abs(reference.c_transform(C, found.g)).sum() + abs(primal)
    assert -1e-14 * terms <= primal - dual <= max(1.01e-10 * abs(primal), 1e-14 * terms)
    if whole:
        assert primal == dual


def cases() -> list[Case]:
    out = []
    for k, (cloud, (cost, p)) in enumerate(zip(CLOUDS, itertools.cycle(COSTS), strict=False)):
        rng = np.random.default_rng([k, 5])
        x, y = cloud(rng, 36, 36, (1, 2, 3, 5, 20)[k % 5])
        if cost == "cosine":
            x, y = x + 0.25, y + 0.25
        points = od.PointCloud(x, y, cost=cost, p=p)
        out.append(Case(f"{cloud.__name__[1:]} {cost}^{p:g}", points, matrix(cost, x, y, p), None, None))
    C = np.random.default_rng(9).standard_normal((36, 36))
    masses = np.full(36, 0.25)
    return [*out, Case("signed", C, C, masses, masses), Case("huge", C * 1e250, C * 1e250, None, None)]


@LARGE
@pytest.mark.parametrize("case", cases(), ids=lambda c: c.name)
@pytest.mark.usefixtures("small_teams")
def test_emd_is_proved(case: Case, large: bool) -> None:
    costs = case.costs
    if isinstance(costs, od.PointCloud):
        there: Any = od.PointCloud(send(costs.x), send(costs.y), cost=costs.cost, p=costs.p)
    else:
        there = send(costs)
    result = od.emd(there, send(case.a), send(case.b))
    assert type(result.f).__module__ == type(send(np.ones(1))).__module__
    own = {"value": receive(result.value), "f": receive(result.f), "g": receive(result.g)}
    prove(type(result)(**{**result.__dict__, **own}), case)
    cpu = case.solve()
    if isinstance(costs, od.PointCloud):
        y = np.asarray(costs.y)
        image = y[result.assignment]
        assert np.allclose(receive(result.barycentric_map()), image, rtol=1e-14)
        v = np.random.default_rng(0).random((36, 2))
        moved = np.zeros_like(v)
        moved[result.assignment] = v / 36
        assert np.allclose(receive(result.apply(send(v), transpose=True)), moved, rtol=1e-14)
        if np.array_equal(cpu.assignment, result.assignment):
            for a, b in zip(cpu.point_gradients(), result.point_gradients(), strict=True):
                assert np.allclose(a, receive(b), rtol=1e-10, atol=1e-12 * np.abs(a).max())


@LARGE
@pytest.mark.parametrize("cost", ["euclidean", "cityblock", "chebyshev", "cosine"])
@pytest.mark.usefixtures("small_teams")
def test_wasserstein(cost: str, large: bool) -> None:
    rng = np.random.default_rng(6)
    x, y = rng.random((2, 1, 9, 3)), rng.random((3, 9, 3))
    for p in (1.0, 2.0):
        f = od.value_and_grad(od.wasserstein, (0, 1))
        value, grads = f(x, y, p=p, cost=cost)
        found, gradients = on_device(lambda a, b, f=f, p=p: f(a, b, p=p, cost=cost))(x, y)
        assert np.allclose(found, value, rtol=1e-12)
        for a, b in zip(grads, gradients, strict=True):
            assert np.allclose(a, b, rtol=1e-9, atol=1e-12)
    w = np.full(9, 1.0 / 9)
    by_weights = on_device(lambda *z: od.value_and_grad(od.wasserstein, (2, 3))(*z, p=2.0)[1])(x[0, 0], y[0], w, w)
    assert all(abs(g.sum()) < 1e-13 for g in by_weights)


def test_one_coordinate_takes_any_masses() -> None:
    rng = np.random.default_rng(0)
    x, y, a = rng.random((2, 9, 1)), rng.random((7, 1)), np.arange(9.0) / 36
    assert np.allclose(on_device(od.wasserstein)(x, y, a, p=2.0), od.wasserstein(x, y, a, p=2.0), rtol=1e-13)


def test_limits_and_callbacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assignment_cuda, "MOST", 3)
    C, stages = np.random.default_rng(0).random((60, 60)), []
    od.emd(send(C), callback=lambda state: stages.append(state["stage"]))
    assert "auction" in stages
    stopped = od.emd(send(C), max_iter=3, on_fail="ignore")
    best = C[scipy_assignment(C)].mean()
    assert stopped.lower_bound <= best <= stopped.upper_bound
    again = od.emd(send(C), init=od.emd(C))
    assert again.converged


@pytest.mark.parametrize(
    "call",
    [
        lambda C, a: od.emd(C[:4]),
        lambda C, a: od.emd(C, a, a),
        lambda C, a: od.emd(C, mass=0.5),
        lambda C, a: od.emd(od.PointCloud(C, C[:3])),
        lambda C, a: od.wasserstein(C[:3], C),
        lambda C, a: od.wasserstein(C, C, a, a),
    ],
)
def test_what_stays_on_the_cpu_says_so(call: Any) -> None:
    C = np.random.default_rng(0).random((5, 5))
    with pytest.raises(ValueError, match=r"network simplex, on the CPU.*pass x\.get\(\)"):
        call(send(C), send(np.array([0.1, 0.1, 0.2, 0.3, 0.3])))


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_bad_entries(bad: float) -> None:
    C = np.random.default_rng(0).random((5, 5))
    C[1, 3] = bad
    with pytest.raises(ValueError, match=r"costs: found .* at index \(1, 3\)"):
        od.emd(send(C))
    with pytest.raises(ValueError, match=r"x: found .* at index \(1, 3\)"):
        od.wasserstein(send(C), send(np.ones((5, 5))))


def test_more_rows_than_the_key_of_a_bid_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assignment_cuda, "MOST", 3)
    monkeypatch.setattr(auction_cuda, "MOST_ROWS", 8)
    with pytest.raises(ValueError, match="found 9 points to match; a GPU matches at most 8"):
        assign(np.eye(9))
    check(np.random.default_rng(0).random((8, 8)))


def test_costs_whose_sums_overflow() -> None:
    C = -1e308 * (1.0 + np.random.default_rng(0).random((5, 5)) / 2)
    with pytest.raises(ValueError, match="leave the range of float64; divide them by a power of two"):
        assign(C)
