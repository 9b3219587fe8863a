"""What must hold of entropic transport for all problems: bounds, duality, invariances, monotonicity, positivity."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import otdist as od
from otdist.kernels import threads
from otdist.reference import entropic as reference
from tests.entropic_cases import CLOUDS, MASSES, MATRICES, case, prove, simplex
from tests.transport_cases import matrix

SIZES = st.integers(1, 7)
SEEDS = st.integers(0, 2**32 - 1)
EPSILONS = st.floats(-3.0, 3.0).map(lambda t: 10.0**t)  # over the range of the costs


def over(examples: int, **strategies: Any) -> Callable[[Any], Any]:
    """Run a test on so many drawn problems, the same ones every time."""

    def decorate(test: Any) -> Any:
        quiet = {"suppress_health_check": list(HealthCheck)}
        return settings(max_examples=examples, deadline=None, derandomize=True, database=None, **quiet)(
            given(**strategies)(test)
        )

    return decorate


@st.composite
def problems(draw: Any) -> Any:
    """Costs of a range of 1 to 1e4, masses of every kind, and epsilon."""
    n, m, rng = draw(SIZES), draw(SIZES), np.random.default_rng(draw(SEEDS))
    C = draw(st.sampled_from(MATRICES))(rng, n, m)
    a, b = (simplex(draw(st.sampled_from(MASSES[1:])), rng, k) for k in (n, m))
    return C, a, b, draw(EPSILONS) * (float(np.ptp(C)) or 1.0), rng


@st.composite
def pairs_of_clouds(draw: Any) -> Any:
    n, m, d, rng = draw(SIZES), draw(SIZES), draw(st.integers(1, 4)), np.random.default_rng(draw(SEEDS))
    x, y = draw(st.sampled_from([c for c in CLOUDS if c.__name__ != "_far"]))(rng, n, m, d)
    a, b = (simplex(draw(st.sampled_from(MASSES[1:])), rng, k) for k in (n, m))
    size = float(np.max(matrix("sqeuclidean", x, y))) or 1.0
    return x, y, a, b, draw(EPSILONS) * size, rng


def solve(C: Any, a: Any, b: Any, epsilon: float, **options: Any) -> Any:
    return od.sinkhorn(C, a, b, **{"epsilon": epsilon, "max_iter": 3000, "on_fail": "ignore", **options})


def close(one: Any, other: Any, *, times: float = 1.0, plus: float = 0.0, size: float = 1.0) -> None:
    """The value of `other` is `times` that of `one` `plus` something, as far as both are proved."""
    low, high = (times * getattr(one, k) + plus for k in ("entropic_lower_bound", "entropic_upper_bound"))
    slack = 1e-11 * size
    assert low <= other.entropic_upper_bound + slack
    assert other.entropic_lower_bound <= high + slack
    if one.converged and other.converged:
        assert abs(times * float(one.value) + plus - float(other.value)) <= 2e-8 * size


def scale_of(C: Any, epsilon: float) -> float:
    return float(np.max(np.abs(C))) + 40.0 * epsilon


@over(300, seed=SEEDS)
def test_every_answer_is_proved(seed: int) -> None:
    problem = case(seed, largest=6)
    prove(problem.solve(max_iter=500), problem, passes=60)


@over(200, p=problems())
def test_weak_duality(p: Any) -> None:
    """No potentials exceed the upper bound, no coupling falls below the lower one, solved or not."""
    C, a, b, epsilon, rng = p
    f, g = rng.standard_normal(len(a)) * np.ptp(C), rng.standard_normal(len(b)) * np.ptp(C)
    f = reference.soft_min(C, b, g, epsilon)
    couplings = [np.outer(a, b), reference.rounded(rng.random(C.shape), a, b)]
    slack = 1e-11 * scale_of(C, epsilon)
    for limit in (1, 500):
        found = solve(C, a, b, epsilon, max_iter=limit)
        assert reference.dual(C, a, b, f, g, epsilon) <= found.entropic_upper_bound + slack
        for P in couplings:
            assert reference.primal(C, a, b, P, epsilon) >= found.entropic_lower_bound - slack
            assert reference.linear(C, P) >= found.lower_bound - slack
        assert found.entropic_lower_bound <= found.entropic_upper_bound
        assert found.lower_bound <= found.upper_bound
        assert found.gap == max(found.upper_bound - found.lower_bound, 0.0)


@over(200, p=problems())
def test_order_and_sides_do_not_matter(p: Any) -> None:
    C, a, b, epsilon, rng = p
    found, size = solve(C, a, b, epsilon), scale_of(C, epsilon)
    i, j = rng.permutation(len(a)), rng.permutation(len(b))
    close(found, solve(C[np.ix_(i, j)], a[i], b[j], epsilon), size=size)
    swapped = solve(C.T, b, a, epsilon)
    close(found, swapped, size=size)
    if found.converged and swapped.converged:
        np.testing.assert_allclose(found.plan, np.asarray(swapped.plan).T, atol=2e-5)


@over(200, p=problems())
def test_potentials_added_to_costs_move_no_mass(p: Any) -> None:
    C, a, b, epsilon, rng = p
    u, v = rng.standard_normal(len(a)), rng.standard_normal(len(b))
    found, moved = solve(C, a, b, epsilon), solve(C + u[:, None] + v, a, b, epsilon)
    close(found, moved, plus=float(a @ u + b @ v), size=scale_of(C, epsilon) + 10.0)


@over(200, p=problems(), factor=st.sampled_from([2.0**-40, 1e-3, 3.0, 1e6, 2.0**40]))
def test_costs_and_epsilon_scale_together(p: Any, factor: float) -> None:
    C, a, b, epsilon, _ = p
    found, scaled = solve(C, a, b, epsilon), solve(factor * C, a, b, factor * epsilon)
    close(found, scaled, times=factor, size=factor * scale_of(C, epsilon))


@over(150, p=problems(), share=st.floats(0.0, 1.0))
def test_an_atom_may_be_split_and_nothing_added(p: Any, share: float) -> None:
    """KL(P | a x b) does not see whether an atom is two at the same costs, nor one of no mass."""
    C, a, b, epsilon, rng = p
    split = np.append(a, (1.0 - share) * a[0])
    split[0] *= share
    one, size = solve(C, a, b, epsilon), scale_of(C, epsilon)
    close(one, solve(np.vstack([C, C[:1]]), split, b, epsilon), size=size)
    empty = np.hstack([C, rng.random((len(a), 1)) - 5.0])
    padded = solve(empty, a, np.append(b, 0.0), epsilon)
    close(one, padded, size=size + 5.0)
    assert np.asarray(padded.plan)[:, -1].sum() == 0.0


@over(200, p=problems(), factor=st.floats(1.0, 100.0))
def test_value_and_cost_rise_with_epsilon(p: Any, factor: float) -> None:
    C, a, b, epsilon, _ = p
    found, more = solve(C, a, b, epsilon), solve(C, a, b, factor * epsilon)
    slack = 1e-9 * scale_of(C, factor * epsilon)
    assert found.entropic_lower_bound <= more.entropic_upper_bound + slack
    assert float(np.sum(a[:, None] * C * b)) >= found.entropic_lower_bound - slack  # at the product, KL is 0
    if found.converged and more.converged:
        assert float(found.value) <= float(more.value) + slack
        assert float(found.linear) <= float(more.linear) + 1e-7 * scale_of(C, factor * epsilon)


@over(150, p=problems())
def test_value_is_concave_in_the_costs(p: Any) -> None:
    C, a, b, epsilon, rng = p
    D = C + rng.standard_normal(C.shape) * (float(np.ptp(C)) or 1.0)
    left, right, middle = (solve(K, a, b, epsilon) for K in (C, D, 0.5 * (C + D)))
    slack = 1e-10 * (scale_of(C, epsilon) + float(np.max(np.abs(D))))
    assert 0.5 * (left.entropic_lower_bound + right.entropic_lower_bound) <= middle.entropic_upper_bound + slack


@over(150, p=pairs_of_clouds())
def test_clouds_may_be_moved_together(p: Any) -> None:
    x, y, a, b, epsilon, rng = p
    at = np.round(64.0 * rng.standard_normal(x.shape[1]))
    found = solve(od.PointCloud(x, y), a, b, epsilon)
    moved = solve(od.PointCloud(x + at, y + at), a, b, epsilon)
    size = scale_of(matrix("sqeuclidean", x, y), epsilon)
    close(found, moved, size=size * (1.0 + 1e-3 * float(np.max(np.abs(at)))))


@over(150, p=pairs_of_clouds())
def test_divergence_is_positive_and_zero_between_equals(p: Any) -> None:
    x, y, a, b, epsilon, rng = p
    options = {"epsilon": epsilon, "tol": 1e-11, "max_iter": 20_000, "on_fail": "ignore"}
    size = float(np.max(matrix("sqeuclidean", np.vstack([x, y]), np.vstack([x, y])))) + epsilon
    between = float(od.sinkhorn_divergence(x, y, a, b, **options))
    assert between >= -1e-9 * size
    order = rng.permutation(len(x))
    assert abs(float(od.sinkhorn_divergence(x, x[order], a, a[order], **options))) <= 1e-9 * size
    # it metrises weak convergence (Feydy et al., 2019): at least the difference of means, squared
    means = float(np.sum((a @ x - b @ y) ** 2))
    assert between >= means - 1e-8 * size


@over(100, seed=SEEDS)
def test_unbalanced_answers_are_bracketed(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, m = rng.integers(1, 8, 2)
    C, a, b = rng.random((n, m)), rng.random(n), 3.0 * rng.random(m)
    rho = tuple(float(10.0**t) for t in rng.uniform(-1, 1, 2))
    epsilon = float(10.0 ** rng.uniform(-2, 1))
    found = solve(C, a, b, epsilon, rho=rho)
    low, high = reference.bracket(C, a, b, epsilon, rho, passes=300)
    assert found.entropic_lower_bound <= high + 1e-10
    assert found.entropic_upper_bound >= low - 1e-10
    less = solve(C, a, b, epsilon, rho=(0.5 * rho[0], rho[1]))  # cheaper to leave mass behind
    assert less.entropic_lower_bound <= found.entropic_upper_bound + 1e-10
    assert math.isfinite(float(found.value))


@over(40, seed=SEEDS)
def test_threads_change_no_bit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    k, n, m = (int(v) for v in rng.integers(2, 40, 3))
    tall, flat = rng.random((k, n, m)), rng.random((10 * k, 10 * n))

    def answers() -> list[Any]:
        found = [solve(tall, None, None, 0.1, max_iter=50), solve(flat, None, None, 0.05, max_iter=50)]
        return [np.asarray(z) for r in found for z in (r.f, r.g, r.value, r.marginal_error, r.entropic_upper_bound)]

    try:
        threads.set_thread_count(1)
        one = answers()
        threads.set_thread_count(2)
        for got, want in zip(answers(), one, strict=True):
            np.testing.assert_array_equal(got, want)
    finally:
        threads.set_thread_count(None)
