"""Entropic transport of arrays on a GPU: engines, the judge, results. Everything stays on the device.

Without a number of iterations fixed beforehand (tol=0 and max_iter) a solve reads a few numbers back: what the costs
are like, every CHECK iterations how far it is, and at the end what was found. With it nothing is read, so that calls
can be captured into a CUDA graph: bounds, errors and `converged` are then arrays on the device, and nothing is warned
of.

Engines: problems whose plan fits into the shared memory of a block are solved whole, one to a block; others by streamed
passes, for all problems at once, in float32 as far as that carries, then in float64. Both extrapolate as on the CPU.
Whatever the engine, potentials are judged by float64 passes over all pairs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from otdist._results import Status, Transport
from otdist.kernels import (
    copy_cuda,
    entropic_cuda,
    pricing_cuda,
    sinkhorn_batch_cuda,
    softmin_cuda,
    softmin_tensor_cuda,
)
from otdist.kernels.entropic_cuda import Steps
from otdist.kernels.softmin_cuda import Array, PointPairs, StoredPairs
from otdist.transport._entropic_device_input import DeviceGiven, Task, refuse, stacked, stated
from otdist.transport._exact import Limits
from otdist.transport._normal_form import Options
from otdist.transport._solution import Watch

SOLVER, WHOLE = "Sinkhorn iterations, extrapolated", "Sinkhorn iterations, extrapolated, a block a problem"
LOG2E = math.log2(math.e)
# Iterations between two looks; passes without progress that end a solve, in float32, near the rounding, anywhere.
CHECK, COARSE, SETTLED, PATIENCE = 8, 60, 40, 300
# Epsilon in parts of the spread of costs from which on no larger one is solved first; the ratio of one to the next, the
# error to which these are solved, and passes for each.
DIRECT, RATIO, ROUGH, PASSES = 2e-2, 4.0, 0.2, 40
# rho in parts of epsilon above which kappa alone does not tell it well enough.
STEEP = 1e5
_STOPS = {"max_iter": Status.MAX_ITER, "time_limit": Status.TIME_LIMIT, "callback": Status.CALLBACK}


@dataclass(frozen=True, eq=False)
class Answer:
    """Judged potentials of a batch: the plan is total 2^(w + v - scale c)."""

    task: Task
    w: Array  # (k, n)
    v: Array  # (k, m)
    columns: Array  # (k, m) sums of the columns of the plan, of total mass 1 where balanced
    outcome: Array  # (k, 9): `pricing_cuda.OUTCOMES`
    f: Array  # (k, n) in the caller's units
    g: Array
    passes: int | np.ndarray[Any, Any]
    solver: str
    stopped: str
    fixed: bool


def fixed(limits: Limits) -> bool:
    """Whether the number of iterations is given, and nothing is to be read on the way."""
    return limits.tolerance == 0.0 and limits.max_iter is not None and limits.callback is None


def solve(given: DeviceGiven, epsilon: Any, options: Options, init: Any) -> Answer:
    """The problems of a call."""
    task = posed(given, epsilon, options, init)
    g = None
    if init is not None:
        own = init.g if isinstance(init, Transport) else init
        g = _potentials(own, given)
    return answered(task, options, g, symmetric=False)


def posed(given: DeviceGiven, epsilon: Any, options: Options, init: Any = None, judge: Any = None) -> Task:
    """The problems in normal form, refused if something is wrong with them; with a `judge` masses are of sum 1."""
    if options.method not in ("auto", "sinkhorn"):
        raise ValueError(
            f'method: found {options.method!r}, which runs on the CPU; on a GPU there is "sinkhorn": pass that, or '
            f"arrays on the CPU"
        )
    task = stated(given, epsilon, options.rho, look=not fixed(options.limits))
    space, rho = given.door.space, options.rho
    if judge is not None:
        for name, total in zip("ab", task.totals, strict=True):
            entropic_cuda.need_unit(space, total, given.door.tolerance, given.word(name))
    if not fixed(options.limits):
        space.check(judge or (lambda words: refuse(given, epsilon, rho, init)), *given.arguments.values())
    return task


def _potentials(init: Any, given: DeviceGiven) -> Array:
    from otdist._arrays import enter

    door, (g,) = enter(init=init)
    shape = (*given.batch, given.m)
    try:
        fits = g.ndim > 0 and np.broadcast_shapes(tuple(g.shape), shape) == shape and g.shape[-1] == given.m
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"init: found potentials of shape {tuple(g.shape)}; the columns need shape {shape}")
    space = given.door.space
    g = space.put(np.ascontiguousarray(g)) if door.space is None else g
    return stacked(space, g, given.batch, 1)


def answered(task: Task, options: Options, g: Array | None, *, symmetric: bool) -> Answer:
    """Potentials by an engine, and what they prove."""
    limits = options.limits
    steps = Steps(task.room, task.pairs, task.a, task.b, symmetric)
    steps.at(task.epsilon, None, 1.0, task.rho, carry=False)
    if g is not None:
        steps.start(g, None if task.shift is None else task.shift[1], task.room.space.flags)
    watch = limits.watch()
    done: Any = (0, SOLVER) if not task.pairs.batch else None
    if done is None and not symmetric:
        done = _whole(task, steps, options, watch, warm=g is not None)
    if done is None:
        done = _fixed(task, steps, options) if fixed(limits) else _streamed(task, steps, options, watch, g is None)
    passes, solver = done
    return judged(task, steps, passes, solver, watch.stopped, fixed(limits))


def _whole(task: Task, steps: Steps, options: Options, watch: Watch, *, warm: bool) -> Any:
    """Passes and solver, if the problems are small enough for a block each; None otherwise."""
    space, (n, m), limits = task.room.space, task.pairs.shape, options.limits
    wide = sinkhorn_batch_cuda.fits(space, n, m, np.float64)
    if not wide and not (
        options.single and limits.tolerance >= 1e-6 and sinkhorn_batch_cuda.fits(space, n, m, np.float32)
    ):
        return None
    settled = fixed(limits)
    if not settled and min(task.rho) < math.inf:
        least = float(space.host(task.epsilon).min())
        if any(STEEP * least < r < math.inf for r in task.rho):
            return None
    if not settled and watch.stop("batch", 0):
        return None
    batch = task.pairs.batch
    C = softmin_cuda.matrix(task.room, task.pairs) if isinstance(task.pairs, PointPairs) else task.pairs.C
    error = space.empty((batch,), np.float64)
    passes, code = (space.empty((batch,), np.int32) for _ in range(2))
    sinkhorn_batch_cuda.solve(
        *(space, C, batch, task.a, task.b, task.scale, task.kappa, limits.tolerance),
        real=np.float64 if wide else np.float32, warm=warm, max_iter=limits.max_iter,
        gamma=steps.G, error=error, passes=passes, code=code,
    )  # fmt: skip
    copy_cuda.copy(space, steps.G, steps.best)
    if settled:
        assert limits.max_iter is not None
        return limits.max_iter, WHOLE
    counted, codes = space.host(passes), space.host(code)
    if (codes == 0).all():
        if min(task.rho) < math.inf and isinstance(task.pairs, StoredPairs):
            # a price takes away mass that may go nowhere, and converges: a pass sees it
            steps.forget()
            steps.once(np.float64, 0.0, 0.0, space.flags)
        return counted, WHOLE
    if limits.max_iter is not None:
        watch.stop("batch", limits.max_iter)
        return counted, WHOLE
    steps.forget()
    done = _refined(task, steps, options, watch, np.float64, options.limits.tolerance)
    return counted + np.where(codes == 0, 0, done), f"{WHOLE}, {SOLVER}"


def _fixed(task: Task, steps: Steps, options: Options) -> tuple[int, str]:
    """So many iterations, and nothing read."""
    assert options.limits.max_iter is not None
    real = np.float32 if options.single else np.float64
    for _ in range(options.limits.max_iter):
        steps.once(real, 0.0, 1e6, task.room.space.flags)
    return steps.passes, SOLVER


def _streamed(task: Task, steps: Steps, options: Options, watch: Watch, cold: bool) -> tuple[int, str]:
    space, rho, tol = task.room.space, task.rho, options.limits.tolerance
    assert task.survey is not None
    seen, epsilon = space.host(task.survey), space.host(task.epsilon)
    spread, reach = seen[:, 3] - seen[:, 2], np.abs(seen[:, 2:]).max(axis=1)
    products = softmin_tensor_cuda.made(space, task.pairs)
    apart = None if products is None else softmin_tensor_cuda.reach(space, products)

    def noises(at: Any) -> list[tuple[float, Any]]:
        """Rounding of exponents, and the products it comes with, of the float32 passes that these epsilons allow."""
        if not (float(reach.max()) < 1e30 and float(at.min()) > 1e-30):
            return []
        found: list[tuple[float, Any]] = [(float(((LOG2E / at * reach + 20.0) * 2.0**-24).max()), None)]
        if apart is not None and float(apart.max()) < 1e30:
            found.insert(0, (softmin_tensor_cuda.noise(LOG2E / at, apart), products))
        return [(noise, by) for noise, by in found if noise < 0.05]

    level = float((spread / epsilon).max(initial=0.0))
    if cold and level > 1.0 / DIRECT and math.isfinite(level):
        parts, carry = 4.0, False
        while parts < level / RATIO and not watch.stopped:
            steps.at(task.epsilon, task.survey, parts, rho, carry=carry)
            usable = noises(np.maximum(epsilon, spread / parts))
            noise, steps.products = usable[0] if usable else (0.0, None)
            real: Any = np.float32 if usable else np.float64
            _iterated(task, steps, watch, "scaling epsilon", real, max(ROUGH, 0.3 * noise), 1.4 * parts + 20.0, PASSES)
            parts, carry = parts * RATIO, True
        steps.at(task.epsilon, None, 1.0, rho, carry=True)
    limit = 1.5 * (float((reach / epsilon).max()) + 10.0)
    steep = max((r for r in rho if r < math.inf), default=0.0) / epsilon
    if steep.any():  # totals that differ move potentials by as much
        uneven = np.log2(space.host(task.totals[0])) - np.log2(space.host(task.totals[1]))
        limit += float((steep * np.abs(uneven)).max())
    for noise, steps.products in noises(epsilon):
        if watch.stopped:
            break
        goal = max(0.3 * noise, 0.25 * tol)
        _iterated(task, steps, watch, "sweeping", np.float32, goal, limit, COARSE, settled=True)
        copy_cuda.copy(space, steps.best, steps.G)
        steps.forget()
        if 0.3 * noise <= 0.25 * tol:  # products were good enough
            break
    if not watch.stopped:
        _iterated(task, steps, watch, "sweeping", np.float64, max(tol, 2.0**-52), limit, PATIENCE, settled=True)
    return steps.passes, SOLVER


def _refined(task: Task, steps: Steps, options: Options, watch: Watch, real: Any, tol: float) -> int:
    """Streamed passes for what the whole solves left over."""
    _iterated(task, steps, watch, "sweeping", real, max(tol, 2.0**-52), 1e4, PATIENCE, settled=True)
    return steps.passes


def _iterated(
    task: Task, steps: Steps, watch: Watch, stage: str, real: Any, goal: float, limit: float, most: int,
    *, settled: bool = False,
) -> None:  # fmt: skip
    """Passes until all errors are within `goal`; at most `most`, or so many without progress if `settled`."""
    word, first = task.room.space.flags, steps.passes
    count = 1  # a warm start may be there already
    while True:
        for _ in range(count):
            if watch.stop(stage, steps.passes):
                break
            steps.once(real, goal, limit, word)
        active, worst, since, _ = steps.tally(goal)
        if watch.stop(stage, steps.passes, error=float(worst)) or active == 0.0:
            return
        if (since >= most) if settled else (steps.passes - first >= most):
            return
        count = min(2 * count, CHECK)


def judged(task: Task, steps: Steps, passes: Any, solver: str, stopped: str, settled: bool) -> Answer:
    """What the best potentials prove, by three float64 passes."""
    room, space, pairs = task.room, task.room.space, task.pairs
    batch, (n, m) = pairs.batch, pairs.shape
    copy_cuda.copy(space, steps.best, steps.G)
    steps.scale, steps.kappa = task.scale, task.kappa
    steps.forget()  # v of G
    w, v, F, h_m = steps.w, steps.v, steps.F, steps.h_m
    softmin_cuda.soft_min(room, pairs, task.scale, v, kappa=task.kappa, mass=task.a, h=steps.h_n, potential=F, w=w)
    softmin_cuda.soft_min(room, pairs, task.scale, w, turned=True, h=h_m)
    found = pricing_cuda.judge(room, pairs, task.scale, task.epsilon, task.kappa, task.b, w, steps.G, h_m, v)
    outcome = space.empty((batch, len(pricing_cuda.OUTCOMES)), np.float64)
    f, g = space.empty((batch, n), np.float64), space.empty((batch, m), np.float64)
    pricing_cuda.bounds(
        room, found, task.a, task.b, F, steps.G, task.epsilon, task.rho, task.total, task.shift, outcome, f, g
    )
    return Answer(task, w, v, found.columns, outcome, f, g, passes, solver, stopped, settled)


def reported(answers: list[Answer], limits: Limits, stacklevel: int) -> tuple[Any, Status]:
    """Figures (k, 9) of the first answer on the host; a warning or an error if one is not within the tolerance."""
    from otdist.transport._entropic import failed

    hosts = [one.task.room.space.host(one.outcome) for one in answers]
    errors = np.concatenate([host[:, -1] for host in hosts])
    converged = errors <= limits.tolerance
    status, stopped = Status.CONVERGED, next((one.stopped for one in answers if one.stopped), "")
    if not converged.all():
        status = _STOPS.get(stopped, Status.MARGINALS)
        worst = float(np.concatenate([host[:, 6] for host in hosts])[int(np.argmax(np.where(converged, -1.0, errors)))])
        failed(status, worst, int((~converged).sum()), len(errors), limits, stacklevel + 1)
    return hosts[0], status
