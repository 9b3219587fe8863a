"""Entropic transport of arrays on a GPU: the proofs of the CPU's tests, its answers, its errors."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import otdist as od
from otdist.kernels import device, sinkhorn_batch_cuda
from otdist.reference import entropic as reference
from tests.device import receive, send
from tests.entropic_cases import Case, case, prove

FIGURES = ("value", "linear", "lower_bound", "upper_bound", "entropic_lower_bound", "entropic_upper_bound")
pytestmark = pytest.mark.usefixtures("emulated")


@pytest.fixture(params=["whole", "streamed"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "streamed":
        monkeypatch.setattr(sinkhorn_batch_cuda, "fits", lambda *args: False)
    return str(request.param)


def sent(costs: Any) -> Any:
    if isinstance(costs, od.PointCloud):
        return od.PointCloud(send(costs.x), None if costs.y is None else send(costs.y), costs.cost, costs.p)
    return send(costs)


def solve(costs: Any, a: Any = None, b: Any = None, **options: Any) -> Any:
    return od.sinkhorn(sent(costs), send(a), send(b), **options)


def back(result: Any) -> Any:
    """A result with its arrays on the host."""
    names = (*FIGURES, "marginal_error", "converged", "epsilon", "gap", "f", "g", "plan")
    cp = __import__("cupy")
    found = {name: getattr(result, name) for name in names}
    return SimpleNamespace(**{n: receive(z) if isinstance(z, cp.ndarray) else z for n, z in found.items()})


def on_device(given: Case, **options: Any) -> Any:
    rho = None if math.inf == min(given.rho) else given.rho
    options = {"epsilon": given.epsilon, "rho": rho, "on_fail": "ignore", **options}
    return back(solve(given.costs, given.a, given.b, **options))


@pytest.mark.parametrize("seed", range(24))
def test_proved(seed: int, engine: str) -> None:
    given = case(seed)
    if engine == "streamed" and seed % 4:
        pytest.skip("every fourth")
    prove(on_device(given, max_iter=400), given)


@pytest.mark.parametrize("epsilon", [0.1, 1.0])
def test_two_points(epsilon: float, engine: str) -> None:
    result = back(solve(np.array([[0.0, 1.0], [1.0, 0.0]]), epsilon=epsilon))
    np.testing.assert_allclose([result.value, result.linear], reference.two_points(epsilon), rtol=1e-9)
    assert result.converged


def clouds(n: int, m: int, d: int, dtype: str = "float64") -> tuple[Any, Any, Any, Any]:
    rng = np.random.default_rng([n, m, d])
    a, b = rng.random(n) + 0.1, rng.random(m) + 0.1
    a[n // 2] = 0.0
    x, y = rng.standard_normal((n, d)), rng.standard_normal((m, d)) + 1.0
    return tuple(z.astype(dtype) for z in (x, y, a / a.sum(), b / b.sum()))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("d", "dtype", "options", "cost"),
    [
        (2, "float64", {}, {}),
        (3, "float32", {"epsilon": 0.3}, {}),
        (12, "float64", {"epsilon": 1.0}, {}),
        (2, "float64", {"epsilon": 0.1, "rho": (1.0, math.inf)}, {"cost": "euclidean"}),
        (3, "float64", {"epsilon": 0.1}, {"cost": "cosine"}),
    ],
    ids=str,
)
def test_answers_of_the_cpu(d: int, dtype: str, options: Any, cost: Any, engine: str) -> None:
    x, y, a, b = clouds(37, 29, d, dtype)
    given = od.PointCloud(x, y, **cost)
    there, here = solve(given, a, b, **options), od.sinkhorn(given, a, b, **options)
    found = back(there)
    loose = 1e-7 if dtype == "float64" else 3e-4
    assert found.converged
    assert found.epsilon == pytest.approx(here.epsilon, rel=1e-14 if dtype == "float64" else 1e-6)
    np.testing.assert_allclose(found.value, here.value, rtol=1e-11 if dtype == "float64" else 1e-6)
    for name in ("linear", "f", "g", "plan"):
        np.testing.assert_allclose(getattr(found, name), getattr(here, name), rtol=loose, atol=loose)
    for low, high in (("lower_bound", "upper_bound"), ("entropic_lower_bound", "entropic_upper_bound")):
        assert getattr(found, low) <= getattr(here, high) + 1e-12
        assert getattr(here, low) <= getattr(found, high) + 1e-12
    V = np.linspace(0.0, 1.0, 29).astype(dtype)
    np.testing.assert_allclose(receive(there.apply(send(V))), here.apply(V), rtol=loose, atol=loose)
    np.testing.assert_allclose(
        receive(there.apply(send(x[:, 0]), transpose=True)), here.apply(x[:, 0], transpose=True), atol=loose
    )
    np.testing.assert_allclose(receive(there.barycentric_map()), here.barycentric_map(), rtol=loose, atol=loose)
    for p, q in zip(there.point_gradients(), here.point_gradients(), strict=True):
        np.testing.assert_allclose(receive(p), q, rtol=loose, atol=loose)


def test_batches_and_what_they_share(engine: str) -> None:
    rng = np.random.default_rng(5)
    C, b = rng.random((2, 3, 12, 15)), rng.random(15)
    b[3:5] = 0.0
    epsilon = rng.uniform(0.05, 0.2, (2, 3))
    found = back(solve(C, None, b / b.sum(), epsilon=epsilon))
    here = od.sinkhorn(C, None, b / b.sum(), epsilon=epsilon)
    assert found.plan.shape == C.shape
    assert found.converged.shape == (2, 3)
    np.testing.assert_allclose(found.value, here.value, rtol=1e-11)
    np.testing.assert_allclose(found.plan, here.plan, atol=1e-8)
    x, y = rng.standard_normal((4, 9, 2)), rng.standard_normal((7, 2))
    found, here = back(solve(od.PointCloud(x, y), epsilon=0.5)), od.sinkhorn(od.PointCloud(x, y), epsilon=0.5)
    np.testing.assert_allclose(found.value, here.value, rtol=1e-11)


def test_half_types() -> None:
    rng = np.random.default_rng(6)
    C = rng.random((9, 11)).astype(np.float16)
    result = solve(C, epsilon=0.1)
    assert result.value.dtype == result.plan.dtype == np.float16
    assert abs(float(receive(result.value)) - float(od.sinkhorn(C, epsilon=0.1).value)) < 1e-3


@pytest.mark.parametrize(
    "options",
    [{}, {"rho": 1.0}, {"rho": (math.inf, 2.0)}, {"cost": "euclidean"}, {"cost": "cosine"}],
    ids=str,
)
def test_divergences(options: Any) -> None:
    x, y, a, b = clouds(17, 14, 3)
    b = 2.0 * b if "rho" in options else b
    run = od.value_and_grad(od.sinkhorn_divergence, (0, 1, 2, 3))
    value, grads = run(*map(send, (x, y, a, b)), epsilon=0.5, **options)
    want, wanted = run(x, y, a, b, epsilon=0.5, **options)
    np.testing.assert_allclose(receive(value), want, rtol=1e-11)
    for p, q in zip(grads, wanted, strict=True):
        np.testing.assert_allclose(receive(p), q, rtol=1e-6, atol=1e-7)


def test_translations() -> None:
    x = np.random.default_rng(7).standard_normal((40, 2))
    move = np.array([3.0, -4.0])
    found = od.sinkhorn_divergence(send(x), send(x + move), epsilon=0.5)
    assert float(receive(found)) == pytest.approx(25.0, rel=1e-8)
    assert abs(float(receive(od.sinkhorn_divergence(send(x), send(x), epsilon=0.5)))) < 1e-12


def test_gradients_and_smoothed_distances() -> None:
    x, y, a, b = clouds(17, 14, 2)
    run = od.value_and_grad(od.sinkhorn, (0, 1, 2))
    value, (pulls, *rest) = run(od.PointCloud(send(x), send(y)), send(a), send(b), epsilon=0.5)
    want, (wanted, *others) = run(od.PointCloud(x, y), a, b, epsilon=0.5)
    np.testing.assert_allclose(receive(value), want, rtol=1e-12)
    for p, q in zip((*pulls, *rest), (*wanted, *others), strict=True):
        np.testing.assert_allclose(receive(p), q, rtol=1e-6, atol=1e-7)
    found = od.wasserstein(send(x), send(y), method="sinkhorn", epsilon=0.1)
    np.testing.assert_allclose(receive(found), od.wasserstein(x, y, method="sinkhorn", epsilon=0.1), rtol=1e-8)


def test_fixed_iterations_read_nothing(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """tol=0 and max_iter: no number comes to the host, so that the call can be captured."""
    C = np.random.default_rng(8).random((3, 20, 25))
    given = send(C)

    def refuse(self: Any, a: Any) -> Any:
        raise AssertionError("read")

    with monkeypatch.context() as patch, od.deferred_checks():
        patch.setattr(device.Space, "host", refuse)
        result = od.sinkhorn(given, epsilon=0.05, tol=0.0, max_iter=60)
        error, converged = result.marginal_error, result.converged
    assert receive(error).max() < 1e-6
    assert receive(converged).shape == (3,)
    np.testing.assert_allclose(receive(result.value), od.sinkhorn(C, epsilon=0.05).value, rtol=1e-9)


def test_warm_starts_limits_and_callbacks(engine: str) -> None:
    x, y, a, b = clouds(30, 25, 2)
    given = od.PointCloud(x, y)
    first = solve(given, a, b, epsilon=0.1)
    again = solve(given, a, b, epsilon=0.1, init=first)
    assert again.n_iter <= 3
    heard: list[Any] = []
    with pytest.warns(od.ConvergenceWarning, match="stopped by max_iter") as caught:
        solve(given, a, b, epsilon=0.01, max_iter=3, callback=heard.append)
    assert caught[0].filename == __file__
    assert heard
    with pytest.raises(RuntimeError, match="stopped by the callback"):
        solve(given, a, b, epsilon=0.01, callback=lambda figures: False, on_fail="raise")


X, M, C = np.ones((4, 2)), np.ones(5), np.random.default_rng(9).random((5, 6))
WRONG = {
    "nan": lambda to: od.sinkhorn(to(np.where(C > 0.9, np.nan, C))),
    "negative": lambda to: od.sinkhorn(to(C), to(-M)),
    "nothing": lambda to: od.sinkhorn(to(C), to(0.0 * M)),
    "totals": lambda to: od.sinkhorn(to(C), to(M), to(np.ones(6))),
    "epsilon": lambda to: od.sinkhorn(to(C), epsilon=-1.0),
    "epsilons": lambda to: od.sinkhorn(to(C), epsilon=[1.0, 2.0]),
    "tiny": lambda to: od.sinkhorn(to(C), epsilon=1e-300),
    "nowhere": lambda to: od.sinkhorn(to(np.where(np.arange(5)[:, None] == 2, np.inf, C)), epsilon=0.1),
    "shape": lambda to: od.sinkhorn(to(C), to(np.ones(3))),
    "flat": lambda to: od.sinkhorn(to(M)),
    "coordinates": lambda to: od.sinkhorn(od.PointCloud(to(X), to(X[:, :1]))),
    "points": lambda to: od.sinkhorn(od.PointCloud(to(X * np.inf), to(X))),
    "directions": lambda to: od.sinkhorn(od.PointCloud(to(X * 0.0), to(X), cost="cosine")),
    "init": lambda to: od.sinkhorn(to(C), epsilon=0.1, init=to(np.full(6, np.nan))),
    "length of init": lambda to: od.sinkhorn(to(C), epsilon=0.1, init=to(np.ones(4))),
    "rho": lambda to: od.sinkhorn(to(C), rho=1e-300, epsilon=0.1),
    "weights": lambda to: od.wasserstein(to(X), to(X), to(np.ones(4)), method="sinkhorn"),
    "none": lambda to: od.sinkhorn_divergence(to(X), None),
}


@pytest.mark.parametrize("name", WRONG)
def test_errors_of_the_cpu(name: str) -> None:
    texts = []
    for to in (np.asarray, send):
        with pytest.raises((ValueError, TypeError)) as caught:
            WRONG[name](to)
        texts.append(f"{caught.type.__name__}: {caught.value}")
    assert texts[0] == texts[1]


def test_what_stays_on_the_cpu_says_so() -> None:
    result = solve(C, epsilon=0.1)
    calls = {
        "runs on the CPU": lambda: solve(C, method="newton"),
        "implicit differentiation runs on the CPU": lambda: result.vjp(linear=1.0),
        "need implicit differentiation": lambda: od.value_and_grad(od.wasserstein)(send(X), send(X), method="sinkhorn"),
        "this function runs on the CPU": lambda: od.sinkhorn(od.Grid((2, 2)), send(np.ones(4)), send(np.ones(4))),
        "the plan is on a GPU": lambda: result.apply(np.ones(6)),
    }
    for text, call in calls.items():
        with pytest.raises((ValueError, TypeError), match=text):
            call()


def test_no_problems(engine: str) -> None:
    for rho in (None, 1.0):
        found = solve(np.zeros((0, 5, 4)), epsilon=0.1, rho=rho)
        assert receive(found.value).shape == (0,)
        assert receive(found.f).shape == (0, 5)
        x, y = np.zeros((0, 5, 2)), np.zeros((0, 4, 2))
        assert receive(od.sinkhorn_divergence(send(x), send(y), epsilon=0.1, rho=rho)).shape == (0,)


def test_mass_that_may_go_nowhere_at_a_price(engine: str) -> None:
    C = np.random.default_rng(0).random((6, 5))
    C[2] = np.inf
    with pytest.raises(ValueError, match="row 2 with mass but no finite cost"):
        solve(C, epsilon=0.1, rho=1.0)


def test_totals_apart_at_a_high_price() -> None:
    """Potentials have to move by rho log 2, far beyond the costs."""
    r = np.random.default_rng(0)
    C, a, b = r.random((6, 5)), 2.0 * r.dirichlet(np.ones(6)), r.dirichlet(np.ones(5))
    found = solve(C, a, b, epsilon=0.1, rho=1e6)
    assert found.converged
    assert receive(found.value) == pytest.approx(float(od.sinkhorn(C, a, b, epsilon=0.1, rho=1e6).value), rel=1e-9)
