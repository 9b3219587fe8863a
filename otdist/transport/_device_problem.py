"""Exact transport of arrays on a GPU: a `Problem` whose costs stay there.

Equal masses, as many rows as columns. All that takes n m operations runs on the device; plans, potentials and the
certificate are O(n) numbers and go the way of the CPU, so that results, proofs and errors are the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from otdist._arrays import Array, Door
from otdist.kernels import assignment_cuda, couplings_cuda
from otdist.kernels.auction_cuda import Costs
from otdist.kernels.device import Space
from otdist.transport import _auction_device
from otdist.transport._auction import TOLERANCE
from otdist.transport._solution import Solution, Watch
from otdist.transport._sparse_plan import SparsePlan

CURES = {"cupy": "x.get()", "torch": "x.cpu()", "jax": "jax.device_put(x, jax.devices('cpu')[0])"}
METRICS = {"sqeuclidean": 0, "euclidean": 0, "cityblock": 1, "chebyshev": 2, "cosine": 0}
# Exponents of coordinates times the degree of the cost, beyond which points are scaled.
SAFE = 450


def refuse(library: str, what: str) -> NoReturn:
    raise ValueError(
        f"costs: found {what}, on a GPU; only transport of equal masses between as many points (n = m) runs there. "
        f"This needs the network simplex, on the CPU, and nothing is copied silently: pass {CURES[library]}"
    )


@dataclass(frozen=True)
class OnDevice:
    """Costs on the device, in units of 2^log_unit."""

    costs: Costs
    library: str
    integral: bool
    log_unit: float = 0.0
    log_length: int = 0
    points: Any = None  # points (n, d) and (m, d) at work, where costs are between points
    given: Any = None  # both before they were brought to one length
    roundings = 1

    @property
    def shape(self) -> tuple[int, int]:
        return self.costs.shape

    @property
    def space(self) -> Space:
        return self.costs.space

    def pairs(self, rows: Array, cols: Array) -> Array:
        space = self.space
        return np.array(space.host(self.costs.listed(space.put(rows), space.put(cols))))

    def row_potentials(self, g: Array) -> Array:
        return np.array(self.space.host(self.costs.row_minima(self.space.put(np.ascontiguousarray(g)))))

    def column_potentials(self, f: Array) -> Array:
        return np.array(self.space.host(self.costs.column_minima(self.space.put(np.ascontiguousarray(f)))))

    def kept(self, rows: Array, cols: Array) -> OnDevice:
        refuse(self.library, "masses of 0")

    def matrix(self) -> Array:
        refuse(self.library, "partial transport")

    def assign(self, watch: Watch, start: Array | None) -> Solution:
        n = self.shape[0]
        if n > assignment_cuda.MOST or self.costs.second is not None:
            return self._auction(watch, start)
        space = self.space
        status = space.zeros((1,), np.int32)
        C = self.costs.first[None]
        found = assignment_cuda.jonker_volgenant(space, C, 1.0, TOLERANCE, status, proof=True)
        cols, g = space.host(found.cols)[0], space.host(found.g)[0]
        if cols[0] < 0:
            self._impossible(int(space.host(found.info)[0, 0]))
        return Solution(np.arange(n), np.array(cols), np.ones(n), np.array(g), n, "Jonker-Volgenant")

    def _auction(self, watch: Watch, start: Array | None) -> Solution:
        found = _auction_device.solve(self.costs, watch, self.integral, start)
        if found.unmatched >= 0:
            self._impossible(found.unmatched)
        n = self.shape[0]
        return Solution(np.arange(n), found.cols, np.ones(n), found.g, found.iterations, found.solver, found.stopped)

    def _impossible(self, row: int) -> NoReturn:
        """What the CPU says of such costs, which are few where it matters: the error is worth a copy."""
        from otdist.transport._assignment import solve

        solve(np.array(self.space.host(self.costs.first), np.float64), Watch())
        raise ValueError(f"row {row} cannot be matched: no complete matching exists; allow more pairs")

    def move(self, a: Array, b: Array, watch: Watch, start: Array | None) -> Solution:
        n, m = self.shape
        refuse(self.library, f"unequal masses or {n} x {m} costs")


def matrix(door: Door, C: Any) -> OnDevice:
    """Costs from a matrix on the device, validated."""
    space = door.space
    if C.ndim != 2 or 0 in C.shape:
        raise ValueError(f"costs: found shape {C.shape}; a cost matrix has shape (n, m), n >= 1 and m >= 1")
    D = space.contiguous(space.cast(C, np.float32) if C.dtype.itemsize == 2 else C)
    least, size, odd, whole = couplings_cuda.survey(space, D)
    if odd or least == -math.inf:
        _refuse_entry(space.host(D))
    unit = 0
    if size and not (1e-200 < size < 1e200 if D.dtype == np.float64 else 1e-30 < size < 1e30):
        unit = min(math.frexp(size)[1], 1023)
        D = assignment_cuda.prepare(space, D[None], math.ldexp(1.0, -unit), np.float64, space.zeros((1,), np.int32))[0]
    return OnDevice(Costs(space, D, None), door.library, whole and unit == 0, float(unit))


def _refuse_entry(C: Array) -> NoReturn:
    bad = np.isnan(C) | np.isneginf(C)
    where = tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), bad.shape))
    raise ValueError(f"costs: found {C[where]!s} at index {where}; costs are numbers or +inf (no mass may move)")


def clouds(door: Door, x: Any, y: Any, cost: str, p: float) -> OnDevice:
    """Costs between points on the device, (n, d) and (m, d); a matrix of them, where that fits."""
    space = door.space
    power = 2.0 * p if cost == "sqeuclidean" or cost == "cosine" else p
    status = space.zeros((1,), np.int32)
    sides = [couplings_cuda.placed(space, z, 1.0, cost == "cosine", status) for z in (x, y)]
    bits = int(space.host(status)[0])
    if bits & couplings_cuda.NOT_FINITE or bits & couplings_cuda.ZERO:
        refuse_points({"x": space.host(x), "y": space.host(y)}, cost)
    exponent = 0
    if cost != "cosine":
        size = max(couplings_cuda.survey(space, z)[1] for z in sides)
        exponent = math.frexp(size)[1] if size else 0
        exponent = exponent if abs(exponent) * max(power, 2.0) > SAFE else 0
        if exponent:
            scale = math.ldexp(1.0, -exponent)
            sides = [couplings_cuda.placed(space, z, scale, False, status) for z in sides]
    whole = not bits & couplings_cuda.NOT_WHOLE and exponent == 0 and _keeps_integers(cost, power)
    turned = space.contiguous(sides[1].T)
    costs = Costs(space, sides[0], turned, power, METRICS[cost])
    if 8 * len(x) * len(y) <= space.budget() // 2 and len(x) < 65536:
        blocks = couplings_cuda.cost_blocks(space, costs.metric, power, sides[0][None], turned[None], 1)
        stored = Costs(space, blocks[0], None, power, METRICS[cost])
    else:
        stored = costs
    given = (x, y) if cost == "cosine" else None
    unit = exponent * power
    return OnDevice(stored, door.library, whole, unit, exponent, (sides[0], sides[1]), given)


def _keeps_integers(cost: str, power: float) -> bool:
    return power == 2.0 if cost in ("sqeuclidean", "euclidean") else cost != "cosine" and power == 1.0


def refuse_points(hosts: dict[str, Array], cost: str) -> NoReturn:
    from otdist._samples import need_directions, points

    for name, z in hosts.items():
        points(name, z)
    need_directions(**hosts)
    raise ValueError("x and y: found points whose costs leave the range of float64; divide them by a common factor")


class DevicePlan(SparsePlan):
    """A plan of matched pairs that applies itself to arrays on the device too."""

    def apply(self, v: Any, *, transpose: bool) -> Any:
        if isinstance(v, np.ndarray):
            return super().apply(v, transpose=transpose)
        problem: Any = self.problem
        space: Space = problem.space
        rows, cols, mass = (space.put(a) for a in (self.rows, self.cols, self.mass))
        size = self.shape[1] if transpose else self.shape[0]
        wide = space.cast(v, np.float64)
        wide = wide if v.ndim == 2 else wide.reshape(-1, 1)
        found = couplings_cuda.carried(space, wide, *((cols, rows) if transpose else (rows, cols)), mass, size)
        return found if v.ndim == 2 else found.reshape(-1)

    def pulls(self) -> tuple[Any, Any]:
        problem: Any = self.problem
        by_x, by_y = pulls(problem, self.cols, self.mass * 2.0 ** (problem.log_unit - problem.log_length))
        return by_x[0], by_y[0]


def pulls(problem: OnDevice, cols: Array, rates: Array) -> tuple[Any, Any]:
    """Gradients (1, n, d), (1, m, d) of the sum of rates times costs of pairs (i, cols[i]), by the points at work."""
    space = problem.space
    x, y = problem.points
    costs = Costs(space, x, None, problem.costs.power, problem.costs.metric)
    given = None if problem.given is None else tuple(space.cast(z, np.float64) for z in problem.given)
    return couplings_cuda.pair_pulls(costs, y, space.put(cols), space.put(rates[None]), given=given)
