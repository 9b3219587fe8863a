"""Wasserstein distances of samples on a GPU: small problems at once, large ones in turn, lines by sorting."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from otdist._discrepancy import Estimate
from otdist._results import ConvergenceWarning, Status
from otdist._samples import Pair
from otdist.kernels import assignment_cuda, couplings_cuda
from otdist.kernels.auction_cuda import Costs
from otdist.kernels.copy_cuda import copy
from otdist.transport import _device_problem
from otdist.transport._device_problem import OnDevice, refuse
from otdist.transport._exact import Limits, solve
from otdist.transport._line_device import unbroadcast
from otdist.transport._sliced_device import Clouds, clouds
from otdist.transport._sliced_device import estimate as sliced_estimate

# Exponents of coordinates times the degree of the cost up to which batches are taken as they are.
SAFE = 450


def estimate(found: Pair, p: float, cost: str, limits: Limits, wanted: tuple[bool, ...]) -> Estimate:
    """The distances, and the gradients of their sum by the `wanted` of x, y, a, b."""
    if found.d == 1 and cost != "cosine":
        outcome = sliced_estimate(found, np.ones((1, 1)), p, wanted)
        return Estimate(outcome.value, outcome.gradients[:4])
    space, arguments = found.door.space, (found.x, found.y, found.x_weights, found.y_weights)
    equal_masses(found)
    if found.n != found.m:
        refuse(found.door.library, f"samples of {found.n} and {found.m} points")
    count, n, d = math.prod(found.batch), found.n, found.d
    values = space.zeros((count,), np.float64)
    sizes = (n, d), (n, d), (n,), (n,)
    grads = [
        space.zeros((count, *size), np.float64) if want else None for want, size in zip(wanted, sizes, strict=True)
    ]
    if count:
        every = clouds(found)
        work = _batch if n <= assignment_cuda.MOST and n < 65536 else _in_turn
        work(found, every, p, cost, limits, values, grads)
    shaped = (
        None if g is None or a is None else unbroadcast(space, g.reshape(*found.batch, *g.shape[1:]), a.shape)
        for g, a in zip(grads, arguments, strict=True)
    )
    return Estimate(values.reshape(found.batch), tuple(shaped))


def equal_masses(found: Pair) -> None:
    """Refuse weights that differ: O(n) numbers are read."""
    from otdist._samples import weights

    space = found.door.space
    for name, sample, w in (("a", "x", found.x_weights), ("b", "y", found.y_weights)):
        if w is not None:
            host = weights(name, sample, space.host(w), w.shape[-1], found.door.tolerance)
            if not np.all(host == host[..., :1]):
                refuse(found.door.library, f"unequal weights {name}")


def _batch(found: Pair, every: Clouds, p: float, cost: str, limits: Limits, values: Any, grads: list[Any]) -> None:
    """Problems of up to MOST points: as many at once as their costs fit."""
    space, n, _d = found.door.space, found.n, found.d
    power, metric = 2.0 * p if cost == "cosine" else p, _device_problem.METRICS[cost]
    status, noted = space.zeros((1,), np.int32), space.zeros((1,), np.int32)
    flat = [couplings_cuda.placed(space, z, 1.0, cost == "cosine", noted) for z in (every.x, every.y)]
    _refuse_points(found, int(space.host(noted)[0]), cost)
    exponent = 0
    if cost != "cosine":
        size = max(couplings_cuda.survey(space, z)[1] for z in flat)
        exponent = math.frexp(size)[1] if size else 0
        exponent = exponent if abs(exponent) * max(power, 2.0) > SAFE else 0
        if exponent:
            scale = math.ldexp(1.0, -exponent)
            flat = [couplings_cuda.placed(space, z, scale, False, noted) for z in flat]
    x, y = (z.reshape(shape) for z, shape in zip(flat, (every.x.shape, every.y.shape), strict=True))
    turned = space.contiguous(y.swapaxes(1, 2))
    room = max(1, space.budget() // (16 * n * n))
    before = None
    if cost == "cosine":
        before = tuple(space.cast(z, np.float64) for z in (every.x, every.y))
    for start in range(0, every.count, room):
        stop = min(every.count, start + room)
        some = [_some(z, start, stop) for z in (x, turned, y)]
        C = couplings_cuda.cost_blocks(space, metric, power, some[0], some[1], stop - start)
        matched = assignment_cuda.jonker_volgenant(space, C, 1.0, limits.tolerance, status, proof=True)
        unit = 2.0**exponent
        found_values, rates = couplings_cuda.matched_values(space, matched.bounds, n, p, unit)
        copy(space, found_values, values[start:stop])
        if grads[0] is not None or grads[1] is not None:
            costs = Costs(space, some[0], None, power, metric)
            given = None if before is None else tuple(_some(z, start, stop) for z in before)
            pulls = couplings_cuda.pair_pulls(costs, some[2], matched.cols, rates, batch=stop - start, given=given)
            for g, pull in zip(grads[:2], pulls, strict=True):
                if g is not None:
                    _scaled_copy(space, pull, g[start:stop], 1.0 / unit)
        for g, potential in zip(grads[2:], (matched.f, matched.g), strict=True):
            if g is not None:
                _centred(space, potential, rates, n, g[start:stop])
    _report(found, int(space.host(status)[0]), limits)


def _some(z: Any, start: int, stop: int) -> Any:
    return z if len(z) == 1 else z[start:stop]


def _scaled_copy(space: Any, a: Any, out: Any, factor: float) -> None:
    if factor != 1.0:
        a = couplings_cuda.placed(space, a, factor, False, space.zeros((1,), np.int32)).reshape(a.shape)
    copy(space, a, out)


def _centred(space: Any, potential: Any, rates: Any, n: int, out: Any) -> None:
    """Potentials with mean 0, times the derivative of the distance by the cost."""
    host = space.host(potential)
    host = (host - host.mean(axis=1, keepdims=True)) * space.host(rates)[:, None] * n
    copy(space, space.put(host), out)


def _report(found: Pair, bits: int, limits: Limits) -> None:
    if bits & assignment_cuda.NOT_A_NUMBER or bits & assignment_cuda.UNMATCHED:
        raise ValueError("costs: the value leaves the range of float64; divide points by a common factor")
    if bits and limits.on_fail != "ignore":
        text = f"{Status.GAP.value}; some of the distances are proved to less than tol"
        if limits.on_fail == "raise":
            raise RuntimeError(text)
        warnings.warn(text, ConvergenceWarning, stacklevel=5)


def _refuse_points(found: Pair, bits: int, cost: str) -> None:
    if bits & couplings_cuda.NOT_FINITE or bits & couplings_cuda.ZERO:
        space = found.door.space
        _device_problem.refuse_points({"x": space.host(found.x), "y": space.host(found.y)}, cost)


def _in_turn(found: Pair, every: Clouds, p: float, cost: str, limits: Limits, values: Any, grads: list[Any]) -> None:
    """Problems of many points, one after the other."""
    space, n = found.door.space, found.n
    mass = np.full(n, 1.0 / n)
    host = np.empty(every.count)
    for k in range(every.count):
        x, y = (_some(z, k, k + 1)[0] for z in (every.x, every.y))
        scaled = _device_problem.clouds(found.door, x, y, cost, p)
        log_unit = scaled.log_unit
        problem = OnDevice(
            scaled.costs, scaled.library, scaled.integral, 0.0, scaled.log_length, scaled.points, scaled.given
        )
        answer = solve(problem, mass, mass, limits)
        cheapest = max(answer.certificate.value, 0.0)
        root, length = cheapest ** (1.0 / p), 2.0 ** (log_unit / p)
        rate = root / (p * cheapest) * length if cheapest > 0.0 else 0.0
        host[k] = root * length
        plan = answer.solution
        if grads[0] is not None or grads[1] is not None:
            pulls = _device_problem.pulls(problem, plan.cols, plan.mass * rate * 2.0**-scaled.log_length)
            for g, pull in zip(grads[:2], pulls, strict=True):
                if g is not None:
                    copy(space, pull, g[k : k + 1])
        for g, potential in zip(grads[2:], (answer.f, answer.g), strict=True):
            if g is not None:
                copy(space, space.put(rate * (potential - potential.mean())), g[k])
    copy(space, space.put(host), values)
