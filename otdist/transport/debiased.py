"""Sinkhorn divergences and their gradients: three entropic problems for every element of a batch."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any, cast

import numpy as np

from otdist._arrays import Array
from otdist._discrepancy import Estimate
from otdist._samples import unbroadcast
from otdist.transport._entropic import report, solve_all, solve_itself
from otdist.transport._entropic_input import agreed, entered, tolerance
from otdist.transport._exact import Limits
from otdist.transport._normal_form import Options, Solved
from otdist.transport.epsilon import chosen
from otdist.transport.geometry import PointCloud

__all__ = ["sinkhorn_divergence"]


def sinkhorn_divergence(
    x: Any,
    y: Any,
    a: Any = None,
    b: Any = None,
    *,
    epsilon: float | None = None,
    cost: str = "sqeuclidean",
    p: float = 1.0,
    rho: Any = None,
    tol: float | None = None,
    max_iter: int | None = None,
    time_limit: float | None = None,
    method: str = "auto",
    memory_limit: int | None = None,
    on_fail: str = "warn",
) -> Any:
    """Sinkhorn divergence S = OT_eps(a, b) - OT_eps(a, a)/2 - OT_eps(b, b)/2 between samples.

    Parameters
    ----------
    x, y : array_like, shapes (..., n, d) and (..., m, d)
        Samples; leading dimensions broadcast and are a batch.
    a, b : array_like, shapes (..., n) and (..., m), optional
        Masses, of one total unless `rho` is given. By default 1/n and 1/m.
    epsilon : float or array_like (...), optional
        Regularisation, in the units of the cost. By default 0.05 times the mean cost between x and y.
    cost, p : optional
        As for `PointCloud`: "sqeuclidean" (default), "euclidean", "cityblock", "chebyshev", "cosine", and its power.
    rho : float or pair of float, optional
        Unbalanced, as for `sinkhorn`; epsilon/2 (sum a - sum b)^2 is then added, so that at one price for both S is 0
        for equal measures and not negative. Of a pair, each measure is compared with itself at its own price.
    tol, max_iter, time_limit, method, memory_limit, on_fail : optional
        As for `sinkhorn`.

    Returns
    -------
    array, shape (...)
        In the library, dtype and device of the samples; in the units of the cost. Not clamped: between nearly equal
        samples rounding may leave it below 0 by about 1e-15 of OT_eps(a, a).

    Raises
    ------
    ValueError, TypeError
        Naming the argument.

    Notes
    -----
    S is 0 exactly if the measures are equal, convex in each of them, and tends to the optimal cost at epsilon = 0 and
    to an energy distance at infinity: for a translation by v of squared distances it is ||v||^2 at any epsilon. Its
    gradients (`value_and_grad`, by x, y, a, b) are those of the three terms by the envelope theorem, epsilon held
    fixed: in a loss, give epsilon, since the default follows the samples. GeomLoss halves squared distances, and so S.
    Cost: three problems, of which the two symmetric ones take few passes. Source: Feydy et al. (2019);
    Sejourne et al. (2019).

    Examples
    --------
    >>> import otdist as od
    >>> x = [[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]]
    >>> y = [[3.0, 4.0], [4.0, 4.0], [3.0, 6.0]]
    >>> round(float(od.sinkhorn_divergence(x, y, epsilon=0.5)), 9)
    25.0
    """
    given, estimate = sinkhorn_divergence_estimate(
        x, y, a, b, epsilon, cost, p, rho, tol, max_iter, time_limit, method, memory_limit, on_fail
    )
    return given.door.leave(estimate.value)


def sinkhorn_divergence_estimate(
    x: Any,
    y: Any,
    a: Any = None,
    b: Any = None,
    epsilon: float | None = None,
    cost: str = "sqeuclidean",
    p: float = 1.0,
    rho: Any = None,
    tol: float | None = None,
    max_iter: int | None = None,
    time_limit: float | None = None,
    method: str = "auto",
    memory_limit: int | None = None,
    on_fail: str = "warn",
    wanted: tuple[bool, ...] = (False,) * 4,
) -> tuple[Any, Estimate]:
    """The value, and the gradients of its sum with respect to the `wanted` of x, y, a, b."""
    if y is None:
        raise TypeError("y: found None; a divergence is between two samples")
    given = entered(PointCloud(x, y, cost, p), a, b)
    limits = Limits(tolerance(tol, given), max_iter, time_limit, None, on_fail)
    options = Options.of(limits, rho, method, memory_limit, single=given.single)
    for name, want in zip("ab", wanted[2:], strict=True):
        if want and name not in given.arguments:
            raise ValueError(f"{name}: found None; pass the masses to differentiate by them")
    if given.door.space is not None:
        from otdist.transport._debiased_device import divergence

        return given, divergence(given, epsilon, options, wanted)
    masses = agreed(given) if options.balanced else given.b
    problems: list[Any] = [given.problem(k) for k in range(len(given))]
    blurs = chosen(epsilon, problems, given.a, masses, given.batch)
    clouds = [cast("tuple[Array, Array]", given.points(k)) for k in range(len(given))]
    begin, first, second = time.perf_counter(), [], []
    across = solve_all(given, problems, masses, blurs, options, None)
    for k, problem in enumerate(problems):
        x, y = clouds[k]
        own = (replace(options, rho=(rho, rho)) for rho in options.rho)  # each measure at the price of its side
        first.append(solve_itself(replace(problem, y=problem.x), given.a[k], blurs[k], next(own), x, begin))
        second.append(solve_itself(replace(problem, x=problem.y), masses[k], blurs[k], next(own), y, begin))
    report([*across, *first, *second], limits, stacklevel=4)
    triples = list(zip(across, first, second, given.a, masses, strict=True))
    value = np.array([_value(*triple, options) for triple in triples]).reshape(given.batch)

    def gradient(number: int) -> Any:
        name = "xyab"[number]
        whole = np.array([_gradient(number, *triple, options) for triple in triples])
        return unbroadcast(whole.reshape(*given.batch, *whole.shape[1:]), given.arguments[name].shape)

    return given, Estimate(value, tuple(gradient(i) if want else None for i, want in enumerate(wanted)))


def _value(across: Solved, first: Solved, second: Solved, a: Array, b: Array, options: Options) -> float:
    whole = across.bounds.value - 0.5 * (first.bounds.value + second.bounds.value)
    if options.balanced:
        return whole
    # a prescribed measure beside a priced one: its entropy too is the generalised one, epsilon (|a|^2 - |a|) more
    totals = [float(w.sum()) for w in (a, b)]
    more = sum(t * t - t for t, rho in zip(totals, options.rho, strict=True) if rho == math.inf)
    return whole + 0.5 * across.epsilon * ((totals[0] - totals[1]) ** 2 - more)


def _gradient(
    number: int, across: Solved, first: Solved, second: Solved, a: Array, b: Array, options: Options
) -> Array:
    """By x, y (0, 1): the pulls of the plans. By a, b (2, 3): potentials."""
    side = number % 2
    own, mass = ((first, a), (second, b))[side]
    if number < 2:
        mine = own.gibbs.pulls()
        return across.gibbs.pulls()[side] - 0.5 * (mine[0] + mine[1])
    rho = options.rho[side]
    if rho == math.inf and not options.balanced:
        both = own.f + own.g + 2.0 * own.epsilon * (float(mass.sum()) - 1.0)
    else:
        both = np.add(*own.by_masses(mass, mass, (rho, rho)))
    by_mass = across.by_masses(a, b, options.rho)[side] - 0.5 * both
    if options.balanced:
        return np.asarray(by_mass - by_mass.mean())
    sign = 1.0 if side == 0 else -1.0
    return np.asarray(by_mass + sign * across.epsilon * float(a.sum() - b.sum()))
