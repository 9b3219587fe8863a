"""Many small entropic problems at once, against log-domain Sinkhorn in plain NumPy, POT and closed forms."""

from __future__ import annotations

import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

from otdist.kernels import threads
from otdist.kernels.costs import Chebyshev, Euclidean, Raised
from otdist.kernels.profiles import Cityblock, Squared
from otdist.transport._batch import solve
from otdist.transport._solution import Watch

INF = np.inf


def problems(seed=0, k=5, n=11, m=14, d=3):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((k, n, d)), rng.standard_normal((k, m, d))
    a, b = rng.random((k, n)), rng.random((k, m))
    a[1, 3] = b[2, 5] = 0.0
    a[3, :6] = b[3, 7:] = 0.0
    C = np.square(x[:, :, None] - y[:, None]).sum(-1)
    return x, y, C, a / a.sum(1, keepdims=True), b / b.sum(1, keepdims=True)


def kappas(rho, epsilon):
    return np.stack([np.ones_like(epsilon) if r == INF else r / (r + epsilon) for r in rho], axis=-1)


def sinkhorn(C, a, b, epsilon, kappa):
    """Potentials by the definition."""
    g = np.zeros(len(b))
    with np.errstate(divide="ignore"):
        la, lb = np.log(a), np.log(b)
    for _ in range(100_000):
        f = -kappa[0] * logsumexp(g + lb - C / epsilon, axis=1)
        new = -kappa[1] * logsumexp((f + la)[:, None] - C / epsilon, axis=0)
        if np.abs(new - g).max() < 1e-13 * max(1.0, np.abs(g).max()):
            break
        g = new
    return -kappa[0] * logsumexp(g + lb - C / epsilon, axis=1), g


def plan(C, a, b, epsilon, f, g):
    with np.errstate(divide="ignore"):
        return np.exp((np.log(a) + f)[:, None] + (np.log(b) + g) - C / epsilon)


def divergence(p, q):
    on = p > 0.0
    return float(np.sum(p[on] * np.log(p[on] / q[on])) - p.sum() + q.sum())


def primal(P, C, a, b, epsilon, rho):
    value = float(np.sum(P[P > 0] * C[P > 0])) + epsilon * divergence(P, a[:, None] * b)
    for r, sums, mass in ((rho[0], P.sum(1), a), (rho[1], P.sum(0), b)):
        value += 0.0 if r == INF else r * divergence(sums, mass)
    return value


def balanced(C, a, b, epsilon, tol=1e-10, **options):
    return solve(C, a, b, np.full(len(a), epsilon), tol, np.ones((len(a), 2)), Watch(), **options)


@pytest.mark.parametrize("rho", [(INF, INF), (1.0, 1.0), (INF, 0.5), (2.0, INF), (0.1, 5.0)])
@pytest.mark.parametrize("epsilon", [10.0, 0.5, 0.05])
def test_against_the_definition(epsilon, rho):
    _, _, C, a, b = problems()
    eps = epsilon * np.linspace(1.0, 2.0, len(C))
    kappa = kappas(rho, eps)
    found = solve(C, a, b, eps, 1e-11, kappa, Watch())
    assert (found.stopped == "").all()
    for q in range(len(C)):
        P0 = plan(C[q], a[q], b[q], eps[q], *sinkhorn(C[q], a[q], b[q], eps[q], kappa[q]))
        P = plan(C[q], a[q], b[q], eps[q], found.phi[q], found.gamma[q])
        value = primal(P0, C[q], a[q], b[q], eps[q], rho)
        assert np.abs(P - P0).sum() < 1e-9
        bounds = {name: x[q] for name, x in vars(found.bounds).items()}
        assert bounds["value"] == pytest.approx(value, abs=1e-9)
        assert bounds["linear"] == pytest.approx(np.sum(P * C[q]), rel=1e-12)
        assert bounds["entropic_lower"] <= value + 1e-10
        assert value - 1e-10 <= bounds["entropic_upper"]
        assert bounds["entropic_upper"] - bounds["entropic_lower"] < 1e-8
        assert bounds["lower"] <= bounds["upper"]
        # what the extension of the potentials says, with mass and without
        f = -kappa[q, 0] * logsumexp(found.gamma[q] - C[q] / eps[q], b=b[q], axis=1)
        g = -kappa[q, 1] * logsumexp(found.phi[q][:, None] - C[q] / eps[q], b=a[q][:, None], axis=0)
        np.testing.assert_allclose(found.phi[q], f, rtol=0, atol=1e-10)
        np.testing.assert_allclose(found.gamma[q], g, rtol=0, atol=1e-6)
        if rho == (INF, INF):
            exact = ot.emd2(a[q], b[q], C[q])
            assert bounds["lower"] <= exact <= bounds["upper"]
            error = np.abs(P.sum(1) - a[q]).sum() + np.abs(P.sum(0) - b[q]).sum()
            assert error == pytest.approx(found.error[q], abs=1e-14)
            assert error <= 1e-11


def test_against_pot():
    _, _, C, a, b = problems(n=20, m=20)
    a, b = a + 0.01, b + 0.01
    a, b = a / a.sum(1, keepdims=True), b / b.sum(1, keepdims=True)
    found = balanced(C, a, b, 0.2)
    for q in range(len(C)):
        peer = ot.sinkhorn(a[q], b[q], C[q], 0.2, method="sinkhorn_log", stopThr=1e-12, numItermax=10_000)
        P = plan(C[q], a[q], b[q], 0.2, found.phi[q], found.gamma[q])
        assert np.abs(P - peer).sum() < 1e-8


@pytest.mark.parametrize("epsilon", [2.0, 0.2, 0.02])
def test_two_points_in_closed_form(epsilon):
    C = np.array([[[0.0, 1.0], [1.0, 0.0]]])
    half = np.full((1, 2), 0.5)
    found = balanced(C, half, half, epsilon)
    assert found.bounds.value[0] == pytest.approx(epsilon * np.log(2.0 / (1.0 + np.exp(-1.0 / epsilon))), rel=1e-12)
    assert found.bounds.linear[0] == pytest.approx(1.0 / (1.0 + np.exp(1.0 / epsilon)), rel=1e-9)


@pytest.mark.parametrize(
    ("tag", "cost"),
    [
        (Squared(), lambda z: np.square(z).sum(-1)),
        (Euclidean(), lambda z: np.linalg.norm(z, axis=-1)),
        (Cityblock(), lambda z: np.abs(z).sum(-1)),
        (Chebyshev(), lambda z: np.abs(z).max(-1)),
        (Raised(Euclidean(), 1.5), lambda z: np.linalg.norm(z, axis=-1) ** 1.5),
    ],
)
def test_points_are_their_costs(tag, cost):
    x, y, _, a, b = problems()
    matrix = balanced(cost(x[:, :, None] - y[:, None]), a, b, 0.3)
    points = balanced((x.astype(np.float32), y.astype(np.float32), tag), a, b, 0.3)
    np.testing.assert_allclose(points.bounds.value, matrix.bounds.value, atol=1e-6)
    points = balanced((x, y, tag), a, b, 0.3)
    np.testing.assert_allclose(points.bounds.value, matrix.bounds.value, atol=1e-10)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 12),
    m=st.integers(1, 20),
    ratio=st.floats(-6.0, 3.0),
    offset=st.sampled_from([0.0, 1e4, -50.0]),
    kind=st.sampled_from(["random", "clouds", "equal", "integers"]),
    decades=st.sampled_from([0.0, 4.0, 12.0]),
    rho=st.sampled_from([INF, 3.0, 0.01]),
)
def test_whatever_comes(seed, n, m, ratio, offset, kind, decades, rho):
    rng = np.random.default_rng(seed)
    k = 3
    C = {
        "random": lambda: rng.random((k, n, m)),
        "clouds": lambda: np.square(rng.standard_normal((k, n, 1, 2)) - rng.standard_normal((k, 1, m, 2))).sum(-1),
        "equal": lambda: np.ones((k, n, m)),
        "integers": lambda: rng.integers(0, 4, (k, n, m)) * 1.0,
    }[kind]()
    a, b = (10.0 ** (-decades * rng.random((k, s))) for s in (n, m))
    a[0, 1:] *= rng.random(n - 1) < 0.7
    b[0, 1:] *= rng.random(m - 1) < 0.7
    a, b = a / a.sum(1, keepdims=True), b / b.sum(1, keepdims=True)
    spread = float(C.max())
    if rho != INF:
        offset = min(offset, 0.0) * 0.01  # far costs price all mass out of an unbalanced plan
    eps = np.full(k, 10.0**ratio * spread)
    kappa = kappas((rho * spread,) * 2, eps)
    found = solve(C + offset, a, b, eps, 1e-8, kappa, Watch())
    for array in (found.phi, found.gamma, found.error, *vars(found.bounds).values()):
        assert np.isfinite(array).all()
    done = found.stopped == ""
    assert (found.error[done] <= 1e-8).all()
    size = np.abs(C + offset).max() + eps * (np.abs(found.phi).max() + np.abs(found.gamma).max())
    assert (found.bounds.lower <= found.bounds.upper + 1e-12 * size).all()
    assert (found.bounds.entropic_lower <= found.bounds.entropic_upper + 1e-12 * size).all()
    if decades < 12.0:
        assert done.all()
    for q in np.flatnonzero(done):
        P = plan(C[q] + offset, a[q], b[q], eps[q], found.phi[q], found.gamma[q])
        rows, columns = (
            w * np.exp(-(1 / kappa[q, s] - 1) * p)
            for s, (w, p) in enumerate(((a[q], found.phi[q]), (b[q], found.gamma[q])))
        )
        error = np.abs(P.sum(1) - rows).sum() + np.abs(P.sum(0) - columns).sum()
        error /= 1.0 if rho == INF else rows.sum() + columns.sum()
        assert error <= 1e-8 + 4e-15 * size[q] / eps[q]


def test_ragged_batches():
    """Zero masses change nothing for the others, whatever the costs and potentials there."""
    _, _, C, a, b = problems(n=24, m=18)
    wide = np.pad(C, ((0, 0), (2, 3), (4, 1)), constant_values=1e6)
    wa, wb = np.pad(a, ((0, 0), (2, 3))), np.pad(b, ((0, 0), (4, 1)))
    small, large = balanced(C, a, b, 0.1), balanced(wide, wa, wb, 0.1)
    np.testing.assert_allclose(large.phi[:, 2:-3][a > 0], small.phi[a > 0], rtol=0, atol=1e-7)
    np.testing.assert_allclose(large.gamma[:, 4:-1][b > 0], small.gamma[b > 0], rtol=0, atol=1e-7)
    for name, value in vars(large.bounds).items():
        np.testing.assert_allclose(value, vars(small.bounds)[name], rtol=1e-9, atol=2e-10)


def test_forbidden_pairs():
    _, _, C, a, b = problems()
    a, b = a + 0.01, b + 0.01
    a, b = a / a.sum(1, keepdims=True), b / b.sum(1, keepdims=True)
    C[:, 0, :], C[:, :, 0] = INF, INF
    C[:, 0, 0] = 1.0
    b[:, 1:] *= (1.0 - a[:, :1]) / b[:, 1:].sum(1, keepdims=True)
    b[:, 0] = a[:, 0]
    found = balanced(C, a, b, 0.1)
    assert (found.stopped == "").all()
    for q in range(len(C)):
        exact = ot.emd2(a[q], b[q] * a[q].sum() / b[q].sum(), np.where(np.isinf(C[q]), 1e4, C[q]))
        assert found.bounds.lower[q] <= exact * (1 + 1e-9)
        assert found.bounds.linear[q] >= exact * (1 - 1e-9)
    with np.errstate(all="raise"):
        impossible = balanced(C, np.roll(a, 1, axis=1), b, 0.1, max_iter=300)
    assert (impossible.error > 1e-3).all()
    assert (impossible.stopped == "max_iter").all()
    C[:, 0, 0] = INF  # a point from which nothing can go leaves, if marginals have a price
    alone = solve(C, a, b, np.full(len(C), 0.1), 1e-9, np.full((len(C), 2), 0.5), Watch())
    assert (alone.stopped == "").all()
    assert not any(np.isnan(x).any() for x in vars(alone.bounds).values())
    without = solve(
        np.ascontiguousarray(C[:, 1:, 1:]), a[:, 1:], b[:, 1:], np.full(len(C), 0.1), 1e-9,
        np.full((len(C), 2), 0.5), Watch(),
    )  # fmt: skip
    np.testing.assert_allclose(alone.bounds.linear, without.bounds.linear, rtol=1e-7)


def test_tight_and_small():
    """Newton's method on a path: errors at rounding where scalings would need 10^5 passes."""
    _, _, C, a, b = problems(n=40, m=30)
    found = balanced(C, a, b, 1e-4 * C.max(), tol=1e-11)
    assert (found.stopped == "").all()
    assert found.iterations.max() < 1000
    exact = [ot.emd2(*t) for t in zip(a, b, C, strict=True)]
    np.testing.assert_allclose(found.bounds.upper, exact, rtol=1e-3)
    floor = balanced(C, a, b, 1e-2 * C.max(), tol=0.0)
    assert (floor.stopped == "stalled").all()
    assert (floor.error < 1e-13).all()


@pytest.mark.parametrize("passes", [1, 3, 10])
def test_bounds_hold_before_the_end(passes):
    _, _, C, a, b = problems()
    end, early = balanced(C, a, b, 0.05), balanced(C, a, b, 0.05, max_iter=passes)
    assert (early.stopped == "max_iter").all()
    assert (early.error > 1e-10).all()
    assert (early.bounds.entropic_lower <= end.bounds.value).all()
    assert (early.bounds.entropic_upper >= end.bounds.value).all()
    exact = np.array([ot.emd2(*t) for t in zip(a, b, C, strict=True)])
    assert (early.bounds.lower <= exact).all()
    assert (exact <= early.bounds.upper).all()


def test_a_start_is_used():
    _, _, C, a, b = problems()
    cold = balanced(C, a, b, 0.05)
    warm = balanced(C, a, b, 0.05, start=cold.gamma)
    assert (warm.iterations == 1).all()
    np.testing.assert_allclose(warm.bounds.value, cold.bounds.value, rtol=1e-13)


def test_float32_read_only_and_threads():
    _, _, C, a, b = problems(k=40, n=60, m=60)
    C32 = C.astype(np.float32)
    for array in (C32, a, b):
        array.flags.writeable = False
    answers = []
    for count in (1, 2):
        threads.set_thread_count(count)
        try:
            answers.append(balanced(C32, a, b, 0.3))
        finally:
            threads.set_thread_count(None)
    assert (answers[0].phi == answers[1].phi).all()
    assert (answers[0].bounds.upper == answers[1].bounds.upper).all()
    np.testing.assert_allclose(answers[0].bounds.value, balanced(C, a, b, 0.3).bounds.value, atol=1e-6)


def test_callbacks_stop():
    _, _, C, a, b = problems(k=80, n=200, m=200)
    seen = []
    watch = Watch(callback=lambda figures: seen.append(figures["solved"]) or False)
    found = solve(C, a, b, np.full(80, 2.0), 1e-6, np.ones((80, 2)), watch)
    assert len(seen) == 1
    assert 0.0 < seen[0] < 1.0
    done = found.stopped == ""
    assert 0 < done.sum() < 80
    assert (found.stopped[~done] == "callback").all()
    assert (found.error[done] <= 1e-6).all()
    assert np.isfinite(found.bounds.upper).all()
