"""Arguments of entropic transport on the device: shapes at the door, values in passing, the problems in normal form.

Values are looked at by the kernels that bring them into normal form, which set bits; where one is set, the arguments
are copied to the host, once, and the CPU's door raises its error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from otdist._arrays import Door, enter
from otdist._expression import number
from otdist._samples import common, same_d, shaped
from otdist.catalogue import choose
from otdist.kernels import copy_cuda, device, entropic_cuda, pricing_cuda
from otdist.kernels.softmin_cuda import Array, Pairs, PointPairs, Room, StoredPairs
from otdist.transport.geometry import COSTS, CostMatrix, PointCloud
from otdist.transport.line import exponent

# Regularisation by default, as a part of the mean cost.
FRACTION = 0.05


@dataclass(frozen=True, eq=False)
class DeviceGiven:
    """One call: arrays on the device as they came, and what they are to be."""

    door: Door
    batch: tuple[int, ...]
    n: int
    m: int
    arguments: dict[str, Array]
    cost: str = ""  # of points
    p: float = 1.0

    def __len__(self) -> int:
        return math.prod(self.batch)

    @property
    def shape(self) -> tuple[int, ...]:
        """(..., n, m)."""
        return (*self.batch, self.n, self.m)

    @property
    def single(self) -> bool:
        return self.door.compute is np.float32

    def word(self, name: str) -> Array:
        """The status word of an argument, the first one for what is not an argument."""
        at = list(self.arguments).index(name) if name in self.arguments else 0
        return self.door.space.flags[at:]

    def stacked(self, name: str, own: int) -> Array | None:
        """An argument with one leading axis: over the batch, or of 1 where all problems share it; contiguous."""
        z = self.arguments.get(name)
        return None if z is None else stacked(self.door.space, z, self.batch, own)


def stacked(space: Any, z: Array, batch: tuple[int, ...], own: int) -> Array:
    """`z` (..., own dimensions) as (k or 1, ...), contiguous."""
    lead, tail = z.shape[: z.ndim - own], z.shape[z.ndim - own :]
    if math.prod(lead) not in (1, math.prod(batch)):
        z = device.cupy().broadcast_to(z, (*batch, *tail))
    return space.contiguous(z).reshape(-1, *tail)


def entered(door: Door, found: dict[str, Array], costs: Any) -> DeviceGiven:
    """The arguments after the door: shapes or an error that names what is wrong."""
    shapes = {name: found[name].shape[:-1] for name in ("a", "b") if name in found}
    if "costs" in found:
        C = found["costs"]
        if C.ndim < 2 or 0 in C.shape[-2:]:
            raise ValueError(f"costs: found shape {C.shape}; cost matrices have shape (..., n, m), n >= 1 and m >= 1")
        n, m = C.shape[-2:]
        cost, power, leads = "", 1.0, {"costs": C.shape[:-2]}
    else:
        cost = choose("cost", costs.cost, COSTS)
        sides = {name: shaped(name, found[name]) for name in "xy" if name in found}
        same_d(**sides)
        x, y = sides["x"], sides.get("y", sides["x"])
        n, m = x.shape[-2], y.shape[-2]
        power, leads = exponent(costs.p, finite=True), {"x": x.shape[:-2], "y": y.shape[:-2]}
    batch = common(**leads, **shapes)
    for name, size in (("a", n), ("b", m)):
        w = found.get(name)
        if w is not None and (w.ndim == 0 or w.shape[-1] != size):
            raise ValueError(f"{name}: found shape {w.shape}; the costs need masses of shape (..., {size})")
    return DeviceGiven(door, batch, n, m, found, cost, power)


def metric(cost: str, p: float) -> tuple[str, float | None]:
    """The metric of a cost, and the power it is raised to, if any."""
    if cost in ("sqeuclidean", "euclidean", "cosine"):
        degree = p if cost == "euclidean" else 2.0 * p
        return ("SQUARED", None) if degree == 2.0 else ("EUCLIDEAN", None if degree == 1.0 else degree)
    return cost.upper(), None if p == 1.0 else p


@dataclass(frozen=True, eq=False)
class Task:
    """A batch of problems in normal form, on the device."""

    room: Room
    pairs: Pairs
    a: Array  # (k, n) float64; balanced: of sum 1
    b: Array
    total: Array  # (k,) what plans are worth
    totals: tuple[Array, Array]
    epsilon: Array  # (k,)
    scale: Array  # log2(e) / epsilon
    kappa: Array  # (k, 2)
    rho: tuple[float, float]
    survey: Array | None  # (k, 4): mean, mass, least, largest cost
    means: tuple[Array, Array] | None = None  # of clouds that were moved together
    shift: tuple[Array, Array] | None = None  # what that took from the costs

    @property
    def balanced(self) -> bool:
        return self.rho == (math.inf, math.inf)

    def itself(self, side: int) -> Task:
        """One of the two measures with itself, at its own price and the same epsilon."""
        pairs = self.pairs
        assert isinstance(pairs, PointPairs)
        z, single = (pairs.x, pairs.y)[side], (None if pairs.singles is None else pairs.singles[side])
        own = PointPairs(z, z, pairs.batch, pairs.metric, pairs.power, None if single is None else (single, single))
        rho = (self.rho[side], self.rho[side])
        mass, room = (self.a, self.b)[side], Room(self.room.space)
        space, batch = room.space, pairs.batch
        total = self.total if self.balanced or rho[0] < math.inf else self.totals[side]
        if not self.balanced and rho[0] == math.inf:  # a prescribed measure: of sum 1 as well
            raw, mass = mass, space.empty(mass.shape, np.float64)
            other = space.empty(mass.shape, np.float64)
            copy_cuda.copy(space, raw, mass)
            copy_cuda.copy(space, raw, other)
            total = entropic_cuda.agree(space, True, 1.0, mass, other, (total, total), space.flags)
        regular = entropic_cuda.regularise(space, batch, self.epsilon, 0.0, 0.0, True, None, None, rho, space.flags)
        epsilon, scale, kappa = regular
        survey = None
        if self.survey is not None:
            survey = space.empty((batch, pricing_cuda.SURVEYED), np.float64)
            pricing_cuda.survey(room, own, mass, mass, survey, space.flags, 0)
        return Task(room, own, mass, mass, total, (total, total), epsilon, scale, kappa, rho, survey)


def stated(given: DeviceGiven, epsilon: Any, rho: tuple[float, float], *, look: bool) -> Task:
    """The problems in normal form; `look`: at all costs, for their spread."""
    space, batch = given.door.space, len(given)
    room, balanced = Room(space), rho == (math.inf, math.inf)
    a, total_a = entropic_cuda.weigh(space, given.stacked("a", 1), batch, given.n, given.word("a"))
    b, total_b = entropic_cuda.weigh(space, given.stacked("b", 1), batch, given.m, given.word("b"))
    total = entropic_cuda.agree(space, balanced, given.door.tolerance, a, b, (total_a, total_b), space.flags)
    means = shift = None
    pairs: Pairs
    if given.cost == "":
        C = given.stacked("costs", 2)
        assert C is not None
        pairs, look = StoredPairs(C, batch), True  # which validates them
    else:
        pairs, means, shift = _clouds(given, a, b, balanced)
    own, every = regularisation(epsilon, given)
    survey = None
    if look or (own is None and every == 0.0):
        survey = space.empty((batch, pricing_cuda.SURVEYED), np.float64)
        word = given.word("costs" if given.cost == "" else "x")
        pricing_cuda.survey(room, pairs, a, b, survey, word, entropic_cuda.BAD_ENTRY)
    found = entropic_cuda.regularise(
        space, batch, own, every, FRACTION, given.cost != "", survey, means, rho, space.flags
    )
    return Task(room, pairs, a, b, total, (total_a, total_b), *found, rho, survey, means, shift)


def _clouds(
    given: DeviceGiven, a: Array, b: Array, balanced: bool
) -> tuple[PointPairs, tuple[Array, Array] | None, tuple[Array, Array] | None]:
    space, batch = given.door.space, len(given)
    x = given.stacked("x", 2)
    y = given.stacked("y", 2) if "y" in given.arguments else x
    assert x is not None
    assert y is not None
    name, power = metric(given.cost, given.p)
    if given.cost == "cosine":
        left, small = entropic_cuda.directions(space, x, True, given.word("x"))
        right, little = entropic_cuda.directions(space, y, True, given.word("y")) if y is not x else (left, small)
        return PointPairs(left, right, batch, name, power, (small, little)), None, None
    at, to = entropic_cuda.centre(space, x, a, given.word("x")), entropic_cuda.centre(space, y, b, given.word("y"))
    together = balanced and name == "SQUARED"
    left, small = entropic_cuda.cloud(space, x, at, True)
    right, little = entropic_cuda.cloud(space, y, to if together else at, True)
    pairs = PointPairs(left, right, batch, name, power, (small, little))
    if not together:
        return pairs, None, None
    shift = (
        entropic_cuda.shifts(space, left, at, to, 1.0),
        entropic_cuda.shifts(space, right, at, to, -1.0),
    )
    return pairs, (at, to), shift


def regularisation(epsilon: Any, given: DeviceGiven) -> tuple[Array | None, float]:
    """Epsilon of every problem on the device, or one number for all; None and 0: by default."""
    if epsilon is None:
        return None, 0.0
    if not (isinstance(epsilon, list | tuple) or getattr(epsilon, "ndim", 0) > 0):
        return None, number("epsilon", epsilon, 0.0)
    door, (each,) = enter(epsilon=epsilon)
    if tuple(each.shape) != given.batch:
        raise ValueError(
            f"epsilon: found shape {tuple(each.shape)}; give one number, or one for each of the batch {given.batch}"
        )
    space = given.door.space
    if door.space is not None:
        return space.cast(each, np.float64).reshape(-1), 0.0
    return space.put(np.array([number("epsilon", float(one), 0.0) for one in each.reshape(-1)])), 0.0


def refuse(given: DeviceGiven, epsilon: Any, rho: Any, init: Any) -> None:
    """The error of the CPU's door for these arguments, from copies on the host."""
    from otdist.transport import _entropic_input as cpu
    from otdist.transport._exact import Limits
    from otdist.transport._normal_form import Options, Stated
    from otdist.transport.epsilon import chosen

    hosts = {name: given.door.space.host(z) for name, z in given.arguments.items()}
    costs: Any = CostMatrix(hosts["costs"]) if given.cost == "" else None
    if costs is None:
        costs = PointCloud(hosts["x"], hosts.get("y"), given.cost, given.p)
    again = cpu.entered(costs, hosts.get("a"), hosts.get("b"))
    options = Options.of(Limits(), rho, "sinkhorn", None, single=given.single)
    masses = cpu.agreed(again) if options.balanced else again.b
    cpu.warm(host_of(init), again)
    problems = [again.problem(k) for k in range(len(again))]
    blurs = chosen(host_of(epsilon), problems, again.a, masses, again.batch)
    for k, one in enumerate(zip(problems, again.a, masses, blurs, strict=True)):
        Stated.of(*one, options, again.points(k))
    raise ValueError(
        "costs: found numbers that leave the range of float64 on the way; divide costs, or points, and epsilon by a "
        "common factor"
    )


def host_of(z: Any) -> Any:
    """A copy on the host of what may be an array on a device."""
    z = getattr(z, "g", z)
    if z is None or isinstance(z, int | float | list | tuple | np.ndarray):
        return z
    door, (found,) = enter(z=z)
    return found if door.space is None else door.space.host(found)
