"""Wasserstein distances by entropic plans: the root of what these plans move mass for, and its gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from otdist._arrays import Array
from otdist._discrepancy import Estimate
from otdist._expression import number
from otdist._samples import need_directions, pair, unbroadcast
from otdist.transport._debiased_device import on_device
from otdist.transport._debiased_device import smoothed as on_a_device
from otdist.transport._entropic import report, solve_all
from otdist.transport._entropic_input import TOLERANCES, entered
from otdist.transport._exact import Limits
from otdist.transport._implicit import Cotangent, Gradients
from otdist.transport._normal_form import Options, Solved
from otdist.transport.epsilon import chosen
from otdist.transport.geometry import PointCloud


def smoothed(
    x: Any,
    y: Any,
    a: Any,
    b: Any,
    p: float,
    cost: str,
    epsilon: Any,
    tol: float,
    on_fail: str,
    wanted: tuple[bool, ...],
) -> tuple[Any, Estimate]:
    """<P, d^p>^(1/p), and the gradients of its sum by the `wanted` of x, y, a, b."""
    if on_device(x, y, a, b):
        given = entered(PointCloud(x, y, cost, p), a, b)
        asked = max(number("tol", tol, 0.0, closed=True), TOLERANCES[given.door.compute])
        return given, on_a_device(given, epsilon, asked, on_fail, wanted)
    found, _ = pair(x, y, a, b, called=("a", "b"))
    if cost == "cosine":
        need_directions(x=found.x, y=found.y)
    for name, want, own in zip("ab", wanted[2:], (found.x_weights, found.y_weights), strict=True):
        if want and own is None:
            raise ValueError(f"{name}: found None; pass the weights to differentiate by them")
    given = entered(PointCloud(x, y, cost, p), a, b)
    weights = given.a / given.a.sum(axis=1, keepdims=True), given.b / given.b.sum(axis=1, keepdims=True)
    asked = number("tol", tol, 0.0, closed=True)
    limits = Limits(max(asked, TOLERANCES[given.door.compute]), on_fail=on_fail)
    options = Options(limits, single=given.single)
    problems = [given.problem(k) for k in range(len(given))]
    answers = solve_all(given, problems, weights[1], chosen(epsilon, problems, *weights, given.batch), options, None)
    report(answers, limits, stacklevel=5)
    moved = np.array([max(answer.bounds.linear, 0.0) for answer in answers])
    value = moved ** (1.0 / p)
    # d v^(1/p) = v^(1/p) / (p v) dv, stated as 0 at v = 0
    rates = np.divide(value, p * moved, out=np.zeros_like(moved), where=moved > 0.0)
    grads = [_pulled(answer, rate) for answer, rate in zip(answers, rates, strict=True)] if any(wanted) else []
    arguments = (found.x, found.y, found.x_weights, found.y_weights)

    def shaped(number: int) -> Array:
        whole = np.array([np.asarray(getattr(one, "xyab"[number])) for one in grads])
        argument = arguments[number]
        assert argument is not None
        return unbroadcast(whole.reshape(*given.batch, *whole.shape[1:]), argument.shape)

    return found, Estimate(
        value.reshape(given.batch), tuple(shaped(i) if want else None for i, want in enumerate(wanted))
    )


def _pulled(answer: Solved, rate: float) -> Gradients:
    return answer.gibbs.vjp(Cotangent(linear=float(rate)))
