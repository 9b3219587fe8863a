"""Entropic optimal transport with proof: `sinkhorn` from costs, points or grids, `sinkhorn_divergence` from samples.

Whichever engine answers, its potentials are judged by one float64 pass over all pairs (`_bounds.py`): the marginal
error is measured, the plan is rounded to a coupling, which bounds the optimum from above, and potentials bound it from
below.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from otdist._arrays import Array
from otdist._results import Status, Transport
from otdist._samples import unbroadcast
from otdist.transport._entropic import report, solve_all
from otdist.transport._entropic_input import agreed, entered, prices, tolerance, warm
from otdist.transport._exact import Limits
from otdist.transport._gibbs_plan import GibbsPlan
from otdist.transport._input import reporter
from otdist.transport._normal_form import Options
from otdist.transport.epsilon import chosen

__all__ = ["sinkhorn"]


def sinkhorn(
    costs: Any,
    a: Any = None,
    b: Any = None,
    *,
    epsilon: float | None = None,
    rho: Any = None,
    tol: float | None = None,
    max_iter: int | None = None,
    time_limit: float | None = None,
    method: str = "auto",
    init: Any = None,
    memory_limit: int | None = None,
    callback: Any = None,
    progress: bool = False,
    on_fail: str = "warn",
) -> Transport:
    """Entropic transport: min <P, C> + epsilon sum P log(P/(a x b)) over the couplings of a and b, certified.

    Parameters
    ----------
    costs : array_like (..., n, m), CostMatrix, PointCloud or Grid
        Costs of any sign, +inf where no mass may move; or points (..., n, d) and (..., m, d), or a grid, whose cost
        matrix need not be stored. Leading dimensions are a batch.
    a, b : array_like, shapes (..., n) and (..., m), optional
        Masses: non-negative, of one total within the root of their dtype's epsilon (b is then scaled to the total of
        a). By default 1/n and 1/m. Zeros pad ragged batches.
    epsilon : float or array_like (...), optional
        Regularisation, in the units of the costs. By default 0.05 times the mean cost under a x b, of every problem of
        a batch; the result says which. `epsilon_from` converts other conventions.
    rho : float or pair of float, optional
        Unbalanced transport: the marginals may differ from a and b at the price rho_a KL(P 1 | a) + rho_b KL(P^T 1 | b)
        with KL(p | q) = sum p log(p/q) - p + q, and the entropy is the generalised epsilon KL(P | a x b). inf
        prescribes a marginal.
    tol : float, optional
        Largest sum of absolute differences of both marginals, relative to the total mass, with which the result counts
        as converged: by default 1e-9 in float64, 1e-6 in coarser floats. It is measured in float64 over all pairs.
    max_iter, time_limit : int, float, optional
        Limits in passes over the pairs, for each problem, and in seconds, for the call.
    method : {"auto", "sinkhorn", "newton", "multiscale"}, default "auto"
        "sinkhorn": alternating scaling, one exponential per pair and iteration, over-relaxed, in O(n + m) memory from
        points. "newton": the semi-dual by truncated Newton steps on a stored plan, for small epsilon or tight tol.
        "multiscale": points in up to three dimensions, pairs that carry no mass left out. A grid has its own.
    init : Transport or array_like (..., m), optional
        An earlier result, or column potentials g, to start from.
    memory_limit : int, optional
        Bytes that may be allocated beyond the arguments, by default 2 GiB; above, pairs are streamed.
    callback : callable, optional
        Called about ten times a second with a dict: stage, iterations, elapsed, error; False ends the solve.
    progress : bool, default False
        Report the same on standard error.
    on_fail : {"warn", "raise", "ignore"}, default "warn"
        What to do when the marginal error is above `tol`.

    Returns
    -------
    Transport
        value (regularised) and linear (<P, C>), potentials f and g in the units of the costs,
        P = a x b exp((f + g - C)/epsilon), its marginal error, bounds on the optimum with regularisation and without.

    Raises
    ------
    ValueError, TypeError
        Naming the argument: shapes, NaN, negative masses, totals that differ, epsilon <= 0, a row whose mass may go
        nowhere.

    Notes
    -----
    The value is the dual one, right to second order in the marginal error; POT's `sinkhorn2` is `linear`.
    Gradients (envelope theorem): by costs the plan, by a and b the potentials, by points `point_gradients()`; or by
    `value_and_grad`. Sources: Cuturi (2013); Feydy (2020); Brauer et al. (2017), Newton on the semi-dual; Altschuler
    et al. (2017), rounding.

    Examples
    --------
    >>> import otdist as od
    >>> result = od.sinkhorn([[0.0, 1.0], [1.0, 0.0]], epsilon=1.0)
    >>> round(float(result.value), 7), round(float(result.linear), 7), result.converged
    (0.3798855, 0.2689414, True)
    """
    given, answers = sinkhorn_estimate(
        costs, a, b, epsilon, rho, tol, max_iter, time_limit, method, init, memory_limit, callback, progress, on_fail
    )
    return assembled(given, answers)


def sinkhorn_estimate(
    costs: Any,
    a: Any = None,
    b: Any = None,
    epsilon: float | None = None,
    rho: Any = None,
    tol: float | None = None,
    max_iter: int | None = None,
    time_limit: float | None = None,
    method: str = "auto",
    init: Any = None,
    memory_limit: int | None = None,
    callback: Any = None,
    progress: bool = False,
    on_fail: str = "warn",
) -> tuple[Any, Any]:
    """`sinkhorn` before its result is put together: a `Given` and its answers, or those of arrays on a GPU."""
    given = entered(costs, a, b)
    limits = Limits(tolerance(tol, given), max_iter, time_limit, reporter(callback, progress), on_fail)
    options = Options.of(limits, rho, method, memory_limit, single=given.single)
    if given.door.space is not None:
        from otdist.transport._entropic_device_result import solved

        return given, solved(given, epsilon, options, init)
    masses = agreed(given) if options.balanced else given.b
    problems = [given.problem(k) for k in range(len(given))]
    blurs = chosen(epsilon, problems, given.a, masses, given.batch)
    answers = solve_all(given, problems, masses, blurs, options, warm(init, given))
    report(answers, limits, stacklevel=4)
    return given, answers


def assembled(given: Any, answers: Any) -> Transport:
    """The result of a call."""
    if given.door.space is not None:
        from otdist.transport import _entropic_device_result

        return _entropic_device_result.assembled(given, answers)
    door, batch = given.door, given.batch

    def each(name: str, of: Any) -> Any:
        found = np.array([getattr(of(answer), name) for answer in answers])
        return found.reshape(batch) if batch else found[0].item()

    def bound(name: str) -> Any:
        return each(name, lambda answer: answer.bounds)

    def stacked(name: str, size: int) -> Any:
        rows = [getattr(answer, name) for answer in answers]
        return door.leave(np.array(rows).reshape(*batch, size))

    clouds = None
    if "x" in given.arguments:
        clouds = given.arguments["x"], given.arguments.get("y", given.arguments["x"])
    *_, n, m = given.shape
    lower, upper = bound("lower"), bound("upper")
    return Transport(
        value=door.leave(np.asarray(bound("value"))),
        linear=door.leave(np.asarray(bound("linear"))),
        f=stacked("f", n),
        g=stacked("g", m),
        lower_bound=lower,
        upper_bound=upper,
        gap=upper - lower,
        marginal_error=bound("marginal_error"),
        converged=each("converged", lambda answer: answer),
        n_iter=each("iterations", lambda answer: answer.gibbs.potentials),
        status=max((answer.status for answer in answers), key=list(Status).index, default=Status.CONVERGED),
        solver=", ".join(dict.fromkeys(answer.gibbs.potentials.solver for answer in answers)),
        shape=given.shape,
        epsilon=each("epsilon", lambda answer: answer),
        entropic_lower_bound=bound("entropic_lower"),
        entropic_upper_bound=bound("entropic_upper"),
        _plan=GibbsPlan(tuple(answer.gibbs for answer in answers), given.shape),
        _door=door,
        _points=clouds,
    )


def sinkhorn_gradients(given: Any, answers: Any, rho: Any, numbers: tuple[int, ...]) -> tuple[Any, ...]:
    """Gradients of the sum of the values by costs (the plan; by points a pair), a and b, in the shapes of these."""
    if given.door.space is not None:
        from otdist.transport import _entropic_device_result

        return _entropic_device_result.gradients(given, answers, numbers)

    def shaped(name: str, found: list[Array]) -> Any:
        whole = np.array(found).reshape(*given.batch, *found[0].shape)
        return given.door.leave(unbroadcast(whole, given.arguments[name].shape))

    def one(number: int) -> Any:
        if number > 0:
            name = "ab"[number - 1]
            if name not in given.arguments:
                raise ValueError(f"{name}: found None; pass the masses to differentiate by them")
            masses = zip(answers, given.a, given.b, strict=True)
            return shaped(name, [s.by_masses(a, b, prices(rho))[number - 1] for s, a, b in masses])
        if "costs" in given.arguments:
            return shaped("costs", [answer.gibbs.whole() for answer in answers])
        if "x" not in given.arguments:
            raise ValueError("argnums: found 0; the costs of a grid are not differentiated by")
        pairs = [answer.gibbs.pulls() for answer in answers]
        if "y" not in given.arguments:
            return shaped("x", [x + y for x, y in pairs])
        return tuple(shaped(name, [pair[side] for pair in pairs]) for side, name in enumerate("xy"))

    return tuple(one(number) for number in numbers)
