"""Sinkhorn divergences of arrays on a GPU, and Wasserstein distances by entropic plans: values and gradients."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from otdist._arrays import _CURES, _library
from otdist._discrepancy import Estimate
from otdist.kernels import entropic_cuda
from otdist.kernels.softmin_cuda import Array
from otdist.transport._entropic_device import Answer, answered, fixed, posed, reported
from otdist.transport._entropic_device_input import DeviceGiven, refuse
from otdist.transport._entropic_device_result import folded, pull
from otdist.transport._exact import Limits
from otdist.transport._normal_form import Options


def on_device(*arrays: Any) -> bool:
    """Whether one of these lies on a GPU."""
    libraries = ((_library(x), x) for x in arrays)
    return any(name not in ("", "numpy") and _CURES[name](x) for name, x in libraries)


def divergence(given: DeviceGiven, epsilon: Any, options: Options, wanted: tuple[bool, ...]) -> Estimate:
    """The value, and the gradients of its sum with respect to the `wanted` of x, y, a, b."""
    space, rho = given.door.space, options.rho
    task = posed(given, epsilon, options)
    across = answered(task, options, None, symmetric=False)
    own = [answered(task.itself(side), options, None, symmetric=True) for side in (0, 1)]
    space.check(lambda words: refuse(given, epsilon, rho, None), *given.arguments.values())
    if not fixed(options.limits):
        reported([across, *own], options.limits, stacklevel=5)
    values = (across.outcome, own[0].outcome, own[1].outcome)
    value = entropic_cuda.debias(space, values, task.balanced, task.epsilon, task.totals, rho)
    grads = [_gradient(given, across, own[k % 2], k) if want else None for k, want in enumerate(wanted)]
    return Estimate(value.reshape(given.batch), tuple(grads))


def _gradient(given: DeviceGiven, across: Answer, own: Answer, number: int) -> Array:
    """By x, y (0, 1): the pulls of the plans. By a, b (2, 3): potentials."""
    space, side, name, batch = given.door.space, number % 2, "xyab"[number], len(given)
    size = (given.n, given.m)[side]
    if number < 2:
        terms = space.empty((3, batch, size, given.arguments["x"].shape[-1]), np.float64)
        pull(given, across, name, side, 1.0, terms[0])
        pull(given, own, name, 0, -0.5, terms[1])
        pull(given, own, name, 1, -0.5, terms[2])
    else:
        terms = _by_masses(across, own, side)
    out = space.empty(terms.shape[1:], np.float64)
    entropic_cuda.fold(space, terms, 1.0, out)
    return folded(given, name, out)


def _by_masses(across: Answer, own: Answer, side: int) -> Array:
    task, space = across.task, across.task.room.space
    batch, size = task.pairs.batch, task.pairs.shape[side]
    balanced, rho = task.balanced, task.rho[side]
    found = space.zeros((3 if balanced else 4, batch, size), np.float64)
    mass, opposite = (task.a, task.b) if side == 0 else (task.b, task.a)
    parts = [(across.f if side == 0 else across.g, opposite), (own.f, mass), (own.g, mass)]
    for k, (potential, other) in enumerate(parts):
        entropic_cuda.by_masses(space, potential, other, task.epsilon, rho, balanced, found[k])
    if not balanced:
        entropic_cuda.levels(space, task.epsilon, task.totals, 1.0 if side == 0 else -1.0, found[3])
    halves = space.empty((batch, size), np.float64)
    entropic_cuda.fold(space, found[1:3], -0.5, halves)
    out = space.zeros((3, batch, size), np.float64)
    entropic_cuda.fold(space, found[:1], 1.0, out[0])
    entropic_cuda.fold(space, halves.reshape(1, batch, size), 1.0, out[1])
    if not balanced:
        entropic_cuda.fold(space, found[3:], 1.0, out[2])
    return out


def smoothed(given: DeviceGiven, epsilon: Any, tol: float, on_fail: str, wanted: tuple[bool, ...]) -> Estimate:
    """<P, d^p>^(1/p)."""
    if any(wanted):
        raise ValueError(
            'argnums: gradients of wasserstein(method="sinkhorn") need implicit differentiation, which runs on the '
            "CPU, and nothing is copied silently: pass arrays on the CPU, or differentiate `sinkhorn_divergence`"
        )
    space, balanced = given.door.space, (math.inf, math.inf)
    options = Options(Limits(tol, on_fail=on_fail), single=given.single)

    def judge(words: Any) -> None:
        from otdist._samples import pair

        hosts = {name: space.host(z) for name, z in given.arguments.items()}
        pair(hosts["x"], hosts["y"], hosts.get("a"), hosts.get("b"), called=("a", "b"))
        refuse(given, epsilon, balanced, None)

    task = posed(given, epsilon, options, judge=judge)
    answer = answered(task, options, None, symmetric=False)
    space.check(judge, *given.arguments.values())
    reported([answer], options.limits, stacklevel=6)
    return Estimate(entropic_cuda.roots(space, answer.outcome, 1, given.p).reshape(given.batch), (None,) * 4)
