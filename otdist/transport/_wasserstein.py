"""Wasserstein distances of samples and their gradients: one exact problem for every element of a batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from otdist._arrays import Array
from otdist._discrepancy import Estimate
from otdist._evaluate import lend
from otdist._samples import Pair, need_directions, pair, unbroadcast
from otdist.transport._exact import Limits, solve
from otdist.transport._problem import clouds
from otdist.transport._pulls import by_points

METRICS = ("euclidean", "cityblock", "chebyshev", "cosine")


def distances(
    x: Any, y: Any, a: Any, b: Any, p: float, cost: str, limits: Limits, wanted: tuple[bool, ...]
) -> tuple[Pair, Estimate]:
    """The distances, and the gradients of their sum by the `wanted` of x, y, a, b."""
    found, _ = pair(x, y, a, b, called=("a", "b"))
    if found.door.space is not None:
        return found, _on_device(found, p, cost, limits, wanted)
    if cost == "cosine":
        need_directions(x=found.x, y=found.y)
    for name, want, given in zip("ab", wanted[2:], (found.x_weights, found.y_weights), strict=True):
        if want and given is None:
            raise ValueError(f"{name}: found None; pass the weights to differentiate by them")
    value = np.empty(int(np.prod(found.batch)))
    shapes = ((found.n, found.d), (found.m, found.d), (found.n,), (found.m,))
    grads = [np.empty((len(value), *shape)) if want else None for want, shape in zip(wanted, shapes, strict=True)]
    for k in range(len(value)):
        one = found.one(k)
        value[k] = _one(one, p, cost, limits, [None if g is None else g[k] for g in grads])
    arguments = (found.x, found.y, found.x_weights, found.y_weights)
    shaped = tuple(
        None if g is None or given is None else unbroadcast(g.reshape(*found.batch, *g.shape[1:]), given.shape)
        for g, given in zip(grads, arguments, strict=True)
    )
    return found, Estimate(value.reshape(found.batch), shaped)


def _on_device(found: Pair, p: float, cost: str, limits: Limits, wanted: tuple[bool, ...]) -> Estimate:
    """The same for arrays on a GPU."""
    from otdist.transport import _line_device, _wasserstein_device

    for name, want, given in zip("ab", wanted[2:], (found.x_weights, found.y_weights), strict=True):
        if want and given is None:
            raise ValueError(f"{name}: found None; pass the weights to differentiate by them")

    def again(hosts: dict[str, Array]) -> object:
        own = hosts.get("a"), hosts.get("b")
        return distances(hosts["x"], hosts["y"], *own, p, cost, limits, (False,) * 4)

    outcome = _wasserstein_device.estimate(found, p, cost, limits, wanted)
    arrays = {"x": found.x, "y": found.y, "a": found.x_weights, "b": found.y_weights}
    _line_device.check(found.door, "x and y", {name: z for name, z in arrays.items() if z is not None}, again)
    return outcome


def _one(one: Pair, p: float, cost: str, limits: Limits, out: list[Array | None]) -> float:
    x, y = (lend(np.ascontiguousarray(z, np.float64)) for z in (one.x, one.y))
    a = np.full(one.n, 1.0 / one.n) if one.x_weights is None else np.array(one.x_weights, np.float64)
    b = np.full(one.m, 1.0 / one.m) if one.y_weights is None else np.array(one.y_weights, np.float64)
    scaled = clouds(x, y, cost, p)
    problem = replace(scaled, log_unit=0.0)
    answer = solve(problem, a, b, limits)
    cheapest = max(answer.certificate.value, 0.0)
    root = cheapest ** (1.0 / p)
    length = 2.0 ** (scaled.log_unit / p)
    # d v^(1/p) = v^(1/p)/(p v) dv, stated as 0 at v = 0
    rate = root / (p * cheapest) * length if cheapest > 0.0 else 0.0
    plan = answer.solution
    if out[0] is not None or out[1] is not None:
        pulls = by_points(problem, plan.rows, plan.cols, plan.mass, x, y, rate)
        for to, pull in zip(out[:2], pulls, strict=True):
            if to is not None:
                to[...] = pull
    for to, potential in zip(out[2:], (answer.f, answer.g), strict=True):
        if to is not None:
            to[...] = rate * (potential - potential.mean())
    return float(root * length)
