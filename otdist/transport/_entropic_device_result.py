"""Results of entropic transport on a GPU: plans that stay on the device, applied, differentiated, or written down."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn

import numpy as np

from otdist._arrays import enter
from otdist._results import Status, Transport
from otdist.kernels import copy_cuda, device, entropic_cuda, pricing_cuda, softmin_cuda
from otdist.kernels.softmin_cuda import Array, PointPairs
from otdist.transport._entropic_device import Answer, reported, solve
from otdist.transport._entropic_device_input import DeviceGiven, refuse
from otdist.transport._normal_form import Options

_ON_CPU = (
    "{}: implicit differentiation runs on the CPU, and nothing is copied silently: call `sinkhorn` with arrays on the "
    "CPU for it"
)


@dataclass(frozen=True, eq=False)
class DevicePlan:
    """The entropic plans of a batch, on the device."""

    given: DeviceGiven
    answer: Answer

    def whole(self) -> Array:
        """(..., n, m), in the caller's dtype."""
        task, space = self.answer.task, self.given.door.space
        narrow = {"bfloat16": device.BFLOAT16}.get(self.given.door.dtype)
        out = space.empty((len(self.given), self.given.n, self.given.m), narrow or self.given.door.dtype)
        softmin_cuda.plan(task.room, task.pairs, task.scale, self.answer.w, self.answer.v, task.total, out)
        return out.reshape(self.given.shape)

    def apply(self, V: Array, *, transpose: bool) -> Array:
        """P V (k, n, c) of V (k, m, c), or P^T V, float64."""
        task, space = self.answer.task, self.given.door.space
        rows = self.given.m if transpose else self.given.n
        out = space.empty((len(self.given), rows, V.shape[2]), np.float64)
        at = (task.room, task.pairs, task.scale, self.answer.w, self.answer.v, task.total)
        softmin_cuda.apply(*at, V, out, turned=transpose)
        return out

    def sent(self) -> Array:
        """What leaves every row (k, n, 1)."""
        space = self.given.door.space
        return self.apply(space.full((len(self.given), self.given.m, 1), 1.0, np.float64), transpose=False)

    def pulls(self) -> tuple[Array, Array]:
        """Gradients (k, n, d), (k, m, d) of the value by the points, float64."""
        found = []
        for side, size in ((0, self.given.n), (1, self.given.m)):
            out = self.given.door.space.empty((len(self.given), size, self.given.arguments["x"].shape[-1]), np.float64)
            pull(self.given, self.answer, "xy"[side], side, 1.0, out)
            found.append(out)
        return found[0], found[1]


def pull(given: DeviceGiven, answer: Answer, name: str, side: int, factor: float, out: Array) -> None:
    """Gradients of the values by the points of one side, which are the argument `name`, times `factor`."""
    task, space = answer.task, given.door.space
    assert isinstance(task.pairs, PointPairs)
    at = (task.room, task.pairs, task.scale, answer.w, answer.v, task.total)
    softmin_cuda.pull(*at, factor, out, turned=side == 1)
    if task.means is not None:
        mass = (task.a, answer.columns)[side]
        entropic_cuda.carry(space, mass, task.total, task.means, (factor, -factor)[side], out)
    if given.cost == "cosine":
        z = given.stacked(name if name in given.arguments else "x", 2)
        assert z is not None
        entropic_cuda.through_directions(space, z, out)


class DeviceTransport(Transport):
    """`Transport` whose arrays are on a GPU."""

    @cached_property
    def plan(self) -> Any:
        """The coupling, an array (..., n, m) as the arguments; computed when it is asked for and then kept."""
        door = self._door
        return door.space.owned(self._plan.whole(), bfloat16=door.dtype == "bfloat16")

    def apply(self, v: Any, *, transpose: bool = False) -> Any:
        """P v for v (..., m) or (..., m, c), or its transpose P^T v for v (..., n) or (..., n, c), on the device."""
        door, (given,) = enter(v=v)
        if door.space is None:
            raise TypeError(f"v: found an array on the CPU; the plan is on a GPU: pass v on {self._door.device}")
        *batch, n, m = self.shape
        size, lead = n if transpose else m, len(batch)
        if given.ndim not in (lead + 1, lead + 2) or given.shape[: lead + 1] != (*batch, size):
            wanted = ", ".join(str(k) for k in (*batch, size))
            raise ValueError(
                f"v: found shape {tuple(given.shape)}; the plan applies to shape ({wanted}) or ({wanted}, c)"
            )
        tail = given.shape[lead + 1 :]
        V = door.space.cast(given, np.float64).reshape(-1, size, *(tail or (1,)))
        found = self._plan.apply(V, transpose=transpose)
        return door.leave(found.reshape(*batch, m if transpose else n, *tail))

    def barycentric_map(self, y: Any = None) -> Any:
        """Mean destination of every point of x, sum_j P_ij y_j / sum_j P_ij (..., n, d); NaN for one without mass."""
        *batch, n, m = self.shape
        door, given = self._door, None if self._points is None else self._points[1]
        if y is not None:
            door, (given,) = enter(y=y)
            if door.space is None:
                raise TypeError(f"y: found an array on the CPU; the plan is on a GPU: pass y on {self._door.device}")
        if given is None:
            raise ValueError("y: found None; costs came as a matrix, so pass the points (m, d) of the columns")
        if given.ndim < 2 or given.shape[-2] != m or given.ndim - 2 > len(batch):
            wanted = ", ".join(str(k) for k in (*batch, m))
            raise ValueError(
                f"y: found shape {tuple(given.shape)}; the plan has {m} columns: pass points ({wanted}, d)"
            )
        space, plan = door.space, self._plan
        whole = device.cupy().broadcast_to(given, (*batch, *given.shape[-2:]))
        V = space.cast(whole, np.float64).reshape(-1, *given.shape[-2:])
        mean = plan.apply(V, transpose=False)
        entropic_cuda.divide_rows(space, plan.sent(), mean)
        return door.leave(mean.reshape(*batch, n, given.shape[-1]))

    def point_gradients(self) -> tuple[Any, Any]:
        """Gradients of the value by x (..., n, d) and y (..., m, d), the plan held fixed."""
        if self._points is None:
            raise ValueError("point_gradients: costs came as a matrix; the gradient by C is the plan")
        lead = self.shape[:-2]
        x, y = (z.reshape(*lead, *z.shape[1:]) for z in self._plan.pulls())
        return self._door.leave(x), self._door.leave(y)

    def vjp(self, **bars: Any) -> NoReturn:
        """On the CPU only."""
        raise ValueError(_ON_CPU.format("vjp"))

    def hvp(self, **moves: Any) -> NoReturn:
        """On the CPU only."""
        raise ValueError(_ON_CPU.format("hvp"))


@dataclass(frozen=True, eq=False)
class DeviceSolved:
    """An answer, and what was read of it: its figures (k, 9), or None where nothing is."""

    answer: Answer
    found: Any
    status: Status
    tol: float


def solved(given: DeviceGiven, epsilon: Any, options: Options, init: Any) -> DeviceSolved:
    """The problems of a call, solved, and reported on where something is read."""
    answer = solve(given, epsilon, options, init)
    rho = options.rho
    given.door.space.check(lambda words: refuse(given, epsilon, rho, init), *given.arguments.values())
    if answer.fixed:
        return DeviceSolved(answer, None, Status.MAX_ITER, 0.0)
    return DeviceSolved(answer, *reported([answer], options.limits, stacklevel=5), options.limits.tolerance)


def assembled(given: DeviceGiven, solution: DeviceSolved) -> DeviceTransport:
    """The result of a call."""
    answer, found, tol = solution.answer, solution.found, solution.tol
    door, batch, space = given.door, given.batch, given.door.space
    names = {name: k for k, name in enumerate(pricing_cuda.OUTCOMES)}

    def on_device(name: str) -> Array:
        return space.contiguous(answer.outcome[:, names[name]]).reshape(batch)

    def each(name: str) -> Any:
        if found is None:
            return space.owned(on_device(name))
        column = found[:, names[name]]
        return column.reshape(batch) if batch else column[0].item()

    passes = np.broadcast_to(np.asarray(answer.passes), (len(given),))
    error = each("relative")
    lower, upper = each("lower"), each("upper")
    clouds = None
    if given.cost:
        x = given.arguments["x"]
        clouds = x, given.arguments.get("y", x)
    return DeviceTransport(
        value=door.leave(on_device("value")),
        linear=door.leave(on_device("linear")),
        f=door.leave(answer.f.reshape(*batch, given.n)),
        g=door.leave(answer.g.reshape(*batch, given.m)),
        lower_bound=lower,
        upper_bound=upper,
        gap=upper - lower,
        marginal_error=each("marginal_error"),
        converged=error <= tol,
        n_iter=passes.reshape(batch) if batch else int(passes[0]),
        status=solution.status,
        solver=answer.solver,
        shape=given.shape,
        epsilon=each("epsilon"),
        entropic_lower_bound=each("entropic_lower"),
        entropic_upper_bound=each("entropic_upper"),
        _plan=DevicePlan(given, answer),
        _door=door,
        _points=clouds,
    )


def gradients(given: DeviceGiven, solution: DeviceSolved, numbers: tuple[int, ...]) -> tuple[Any, ...]:
    """Gradients of the sum of the values by costs (the plan; by points a pair), a and b, in the shapes of these."""
    answer = solution.answer
    plan, task, space = DevicePlan(given, answer), answer.task, given.door.space

    def one(number: int) -> Any:
        if number == 0 and not given.cost:
            if given.arguments["costs"].size == len(given) * given.n * given.m:
                whole = plan.whole().reshape(given.arguments["costs"].shape)
                return space.owned(whole, bfloat16=given.door.dtype == "bfloat16")
            wide = space.empty((len(given), given.n, given.m), np.float64)
            softmin_cuda.plan(task.room, task.pairs, task.scale, answer.w, answer.v, task.total, wide)
            return shaped(given, "costs", wide)
        if number == 0:
            x, y = plan.pulls()
            if "y" not in given.arguments:
                both = space.empty((2, *x.shape), np.float64)
                copy_cuda.copy(space, x, both[0])
                copy_cuda.copy(space, y, both[1])
                total = space.empty(x.shape, np.float64)
                entropic_cuda.fold(space, both, 1.0, total)
                return shaped(given, "x", total)
            return shaped(given, "x", x), shaped(given, "y", y)
        name = "ab"[number - 1]
        if name not in given.arguments:
            raise ValueError(f"{name}: found None; pass the masses to differentiate by them")
        return shaped(given, name, of_masses(answer, number - 1))

    return tuple(one(number) for number in numbers)


def of_masses(answer: Answer, side: int) -> Array:
    """Gradients (k, n) or (k, m) of the values by the masses of one side, float64."""
    task = answer.task
    potential, opposite = (answer.f, task.b) if side == 0 else (answer.g, task.a)
    out = task.room.space.empty(potential.shape, np.float64)
    entropic_cuda.by_masses(task.room.space, potential, opposite, task.epsilon, task.rho[side], task.balanced, out)
    return out


def shaped(given: DeviceGiven, name: str, gradient: Array) -> Any:
    """`folded` in the caller's library."""
    return given.door.leave(folded(given, name, gradient))


def folded(given: DeviceGiven, name: str, gradient: Array) -> Array:
    """A gradient (k, ...) in the shape of its argument: summed where all problems share that."""
    space, shape = given.door.space, tuple(given.arguments[name].shape)
    if gradient.size == int(np.prod(shape)):
        return gradient.reshape(shape)
    if int(np.prod(shape)) * len(given) != gradient.size:
        raise ValueError(
            f"{name}: found shape {shape}, which the batch {given.batch} repeats in part; for its gradient on a GPU "
            f"pass it once, or repeated in full"
        )
    out = space.empty(shape, np.float64)
    entropic_cuda.fold(space, gradient, 1.0, out)
    return out
