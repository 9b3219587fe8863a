"""Exact optimal transport with proof: `emd` from costs, points or grids, `wasserstein` from samples.

Whichever engine answers, the result is judged by the same arithmetic (`_certificate.py`): a feasible plan bounds the
optimum from above, feasible dual potentials from below, and the gap between the two is part of the answer.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from otdist._discrepancy import Estimate
from otdist._results import Status, Transport
from otdist._samples import Pair
from otdist.catalogue import choose
from otdist.transport._exact import Answer, Limits, solve
from otdist.transport._input import Given, entered, masses, reporter, warm
from otdist.transport._partial import extended, real_part
from otdist.transport._sparse_plan import SparsePlan
from otdist.transport._wasserstein import METRICS, distances
from otdist.transport.line import exponent
from otdist.transport.sliced import sliced_wasserstein_estimate

__all__ = ["emd", "wasserstein"]

METHODS = ("auto", "exact", "sinkhorn", "sliced")


def emd(
    costs: Any,
    a: Any = None,
    b: Any = None,
    *,
    mass: float | None = None,
    unmatched: float | None = None,
    init: Any = None,
    tol: float = 1e-10,
    max_iter: int | None = None,
    time_limit: float | None = None,
    callback: Any = None,
    progress: bool = False,
    on_fail: str = "warn",
) -> Transport:
    """Earth mover's distance: min <P, C> over the couplings P >= 0 with P 1 = a, P^T 1 = b, exact and certified.

    Parameters
    ----------
    costs : array_like (n, m), CostMatrix, PointCloud or Grid
        Costs of any sign, +inf where no mass may move; or points or a grid, whose cost matrix is never stored. One
        problem, no batch: `wasserstein` and `sinkhorn` take batches.
    a, b : array_like, shapes (n,) and (m,), optional
        Masses: non-negative, of one total within the root of their dtype's epsilon (b is then scaled to the total of
        a). By default 1/n and 1/m. The total need not be 1.
    mass : float, optional
        Partial transport: only this much is moved, at most the smaller total; the totals may differ.
    unmatched : float, optional
        Instead: any mass may stay where it is, at this price per unit, on either side; the totals may differ. The
        value includes the price.
    init : Transport or array_like (m,), optional
        Column potentials g, or an earlier result, to start from.
    tol : float, default 1e-10
        Largest gap, relative to the value, with which the result counts as converged; engines aim at 1e-10 or better.
    max_iter, time_limit : int, float, optional
        Limits in bids, pivots and augmentations, and in seconds. The result then holds a feasible plan, the true
        bounds at that point, and converged=False.
    callback : callable, optional
        Called about ten times a second with a dict: stage, iterations, elapsed, and what the engine knows; False ends
        the solve.
    progress : bool, default False
        Report the same on standard error.
    on_fail : {"warn", "raise", "ignore"}, default "warn"
        What to do when the gap is above the tolerance.

    Returns
    -------
    Transport
        value, sparse plan, potentials f and g, bounds and gap. Equal masses from points in up to three dimensions take
        about n^1.4 time and O(n) memory; in more dimensions n² d time; weighted transport from a matrix about n²,
        times a factor that depends on the costs.

    Raises
    ------
    ValueError, TypeError
        Naming the argument: shapes, NaN, negative masses, totals that differ, a row whose mass may go nowhere.

    Notes
    -----
    Gradients (envelope theorem): by `costs` the plan, by a and b the potentials, by points `point_gradients()`; or by
    `value_and_grad`. Sources: Bertsekas (1988), auction; Bonneel et al. (2011), network simplex; the engine is chosen
    by the problem and named in the result.

    Examples
    --------
    >>> import otdist as od
    >>> result = od.emd([[0.0, 2.0], [1.0, 0.0]], [0.5, 0.5], [0.25, 0.75])
    >>> float(result.value), result.converged, result.gap
    (0.5, True, 0.0)
    """
    return emd_estimate(costs, a, b, mass, unmatched, init, tol, max_iter, time_limit, callback, progress, on_fail)[0]


def emd_estimate(
    costs: Any,
    a: Any = None,
    b: Any = None,
    mass: float | None = None,
    unmatched: float | None = None,
    init: Any = None,
    tol: float = 1e-10,
    max_iter: int | None = None,
    time_limit: float | None = None,
    callback: Any = None,
    progress: bool = False,
    on_fail: str = "warn",
) -> tuple[Transport, Given, Answer]:
    """`emd` with what it was computed from."""
    limits = Limits(tol, max_iter, time_limit, reporter(callback, progress), on_fail)
    given = entered(costs, a, b)
    p, q = masses(given, balanced=mass is None and unmatched is None)
    begin = warm(init, given.problem.shape)
    if mass is None and unmatched is None:
        answer = solve(given.problem, p, q, limits, begin)
        return _result(given, answer, linear=None), given, answer
    wide = extended(given.problem, p, q, mass, unmatched)
    start_wide = None if begin is None else np.append(begin, np.zeros(len(wide.b) - len(begin)))
    answer = real_part(solve(wide.problem, wide.a, wide.b, limits, start_wide), given.problem.shape)
    moved = answer.solution
    linear = float(moved.mass @ given.problem.pairs(moved.rows, moved.cols)) * 2.0**given.problem.log_unit
    return _result(given, answer, linear), given, answer


def _result(given: Given, answer: Answer, linear: float | None) -> Transport:
    door, found, bounds = given.door, answer.solution, answer.certificate
    value = door.leave(np.float64(bounds.value))

    plan = _plan_of(door)(found.rows, found.cols, found.mass, given.problem.shape, given.problem, given.points)
    return Transport(
        value=value,
        linear=value if linear is None else door.leave(np.float64(linear)),
        f=door.leave(answer.f),
        g=door.leave(answer.g),
        lower_bound=bounds.lower,
        upper_bound=bounds.upper,
        gap=bounds.gap,
        marginal_error=bounds.marginal_error,
        converged=answer.status is Status.OPTIMAL,
        n_iter=found.iterations,
        status=answer.status,
        solver=found.solver,
        shape=given.problem.shape,
        _plan=plan,
        _door=door,
        _points=given.points,
    )


def _plan_of(door: Any) -> type[SparsePlan]:
    if door.space is None:
        return SparsePlan
    from otdist.transport._device_problem import DevicePlan

    return DevicePlan


def wasserstein(
    x: Any,
    y: Any,
    a: Any = None,
    b: Any = None,
    *,
    p: float = 1.0,
    cost: str = "euclidean",
    method: str = "auto",
    epsilon: float | None = None,
    projections: Any = 128,
    rng: Any = 0,
    tol: float = 1e-10,
    on_fail: str = "warn",
) -> Any:
    """Wasserstein distance W_p = (min over couplings of E d(x, y)^p)^(1/p) between samples, exact and certified.

    Parameters
    ----------
    x, y : array_like, shapes (..., n, d) and (..., m, d)
        Samples; leading dimensions broadcast and are a batch. One coordinate: x[:, None], or `wasserstein_1d`.
    a, b : array_like, shapes (..., n) and (..., m), optional
        Weights, non-negative, with sum 1 within the root of their dtype's epsilon. Equal by default.
    p : float, default 1
        Order, p >= 1.
    cost : {"euclidean", "cityblock", "chebyshev", "cosine"}, default "euclidean"
        The distance d(x, y) that is raised to the power p: ||x - y||, sum |x_k - y_k|, max |x_k - y_k|,
        1 - cos(x, y).
    method : {"auto", "exact", "sinkhorn", "sliced"}, default "auto"
        "auto" and "exact": certified to `tol`. "sinkhorn": <P, d^p>^(1/p) of the entropic plan P, above W_p and
        with limit W_p as `epsilon` falls. "sliced": the sliced distance, another number, see `sliced_wasserstein`;
        Euclidean cost only.
    epsilon : float, optional
        Of "sinkhorn", in the units of d^p; by default 0.05 times its mean, see `sinkhorn`; other methods ignore it.
    projections, rng : optional
        Of "sliced"; other methods ignore them.
    tol, on_fail : optional
        As for `emd`.

    Returns
    -------
    array, shape (...)
        In the library, dtype and device of the samples. For the plan, the potentials and the bounds call `emd` on a
        `PointCloud`.

    Raises
    ------
    ValueError, TypeError
        Naming the argument: shapes, NaN, weights, options.

    Notes
    -----
    Gradients, by `value_and_grad`, with respect to x, y, a, b, by the envelope theorem; by weights they are the
    centred potentials, and where the distance is 0 the gradient is stated as 0. Source: Villani (2009), Optimal
    Transport, ch. 6.

    Examples
    --------
    >>> import otdist as od
    >>> float(od.wasserstein([[0.0, 0.0], [4.0, 0.0]], [[0.0, 3.0], [4.0, 3.0]], p=2))
    3.0
    """
    found, outcome = wasserstein_estimate(x, y, a, b, p, cost, method, epsilon, projections, rng, tol, on_fail)
    return found.door.leave(outcome.value)


def wasserstein_estimate(
    x: Any,
    y: Any,
    a: Any = None,
    b: Any = None,
    p: float = 1.0,
    cost: str = "euclidean",
    method: str = "auto",
    epsilon: float | None = None,
    projections: Any = 128,
    rng: Any = 0,
    tol: float = 1e-10,
    on_fail: str = "warn",
    wanted: tuple[bool, ...] = (False,) * 4,
) -> tuple[Pair, Estimate]:
    """The value, and the gradients of its sum with respect to the `wanted` of x, y, a, b."""
    choose("method", method, METHODS)
    choose("cost", cost, METRICS)
    if epsilon is not None and method != "sinkhorn":
        raise ValueError(f'epsilon: found {epsilon!r} with method {method!r}; it is of method "sinkhorn"')
    if method == "sinkhorn":
        from otdist.transport._smoothed import smoothed

        return smoothed(x, y, a, b, exponent(p, finite=True), cost, epsilon, tol, on_fail, wanted)
    if method == "sliced":
        if cost != "euclidean":
            raise ValueError(f"cost: found {cost!r}; the sliced distance is Euclidean")
        return sliced_wasserstein_estimate(x, y, a, b, p, projections, rng, False, wanted)
    return distances(x, y, a, b, exponent(p, finite=True), cost, Limits(tol, on_fail=on_fail), wanted)


def emd_gradients(given: Given, answer: Answer, result: Transport, numbers: tuple[int, ...]) -> tuple[Any, ...]:
    """Gradients of the value by costs (the plan; by points a pair), a, b (centred potentials)."""
    door = given.door

    def one(number: int) -> Any:
        if number == 0:
            return door.leave(result.plan.toarray()) if given.points is None else result.point_gradients()
        potential = answer.f if number == 1 else answer.g
        return door.leave(potential - potential.mean())

    return tuple(one(number) for number in numbers)
