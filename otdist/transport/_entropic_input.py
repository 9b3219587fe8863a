"""Arguments of `sinkhorn` at the door: batches of costs or points, masses, or an error that names what is wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from otdist._arrays import Array, Door, enter, enter_host
from otdist._evaluate import lend
from otdist._expression import is_real, number
from otdist._results import Transport
from otdist._samples import common, need_directions, points, same_d
from otdist.catalogue import choose
from otdist.transport._problem import Gridded, Points, Problem, clouds, cost_matrix, unscaled
from otdist.transport.geometry import COSTS, CostMatrix, PointCloud
from otdist.transport.grid import Grid
from otdist.transport.line import exponent

# Marginal errors asked for by default, in arrays of float64 and of coarser floats.
TOLERANCES = {np.float64: 1e-9, np.float32: 1e-6}


@dataclass(frozen=True)
class Given:
    """One call: a batch of problems, one after another along the first axis of `a` and `b`."""

    door: Door
    batch: tuple[int, ...]
    a: Array  # (k, n) float64, as given or uniform
    b: Array  # (k, m)
    geometry: Any  # what makes the problems: costs (k, n, m), clouds or a grid
    arguments: dict[str, Array] = field(repr=False)  # as they came, validated

    def __len__(self) -> int:
        return len(self.a)

    @property
    def shape(self) -> tuple[int, ...]:
        """(..., n, m)."""
        return (*self.batch, self.a.shape[1], self.b.shape[1])

    @property
    def single(self) -> bool:
        return self.door.compute is np.float32

    def problem(self, k: int) -> Problem:
        found: Problem = self.geometry.problem(k)
        if isinstance(found, Points) and found.log_unit < -1070.0:  # costs of 0, whatever the unit
            found = unscaled(found)
        if not found.log_unit < 1024.0:
            raise ValueError(
                f"x and y: found points whose costs are of about 2^{found.log_unit:.0f}, out of the range of float64; "
                f"scale them, or lower p"
            )
        return found

    def points(self, k: int) -> tuple[Array, Array] | None:
        """The clouds of problem k as they came."""
        return (self.geometry.x[k], self.geometry.y[k]) if isinstance(self.geometry, Clouds) else None


@dataclass(frozen=True)
class Stack:
    """Cost matrices (k, n, m), float32 or float64."""

    C: Array

    def problem(self, k: int) -> Problem:
        return cost_matrix(lend(np.ascontiguousarray(self.C[k])))


@dataclass(frozen=True)
class Clouds:
    """Clouds (k, n, d) and (k, m, d) with a cost."""

    x: Array
    y: Array
    cost: str
    p: float

    def problem(self, k: int) -> Problem:
        x, y = (lend(np.ascontiguousarray(z[k], np.float64)) for z in (self.x, self.y))
        return clouds(x, y, self.cost, self.p)


@dataclass(frozen=True)
class Lattice:
    """One grid for all."""

    grid: Grid

    def problem(self, k: int) -> Problem:
        return Gridded(self.grid)


def entered(costs: Any, a: Any, b: Any) -> Any:
    """Costs and masses of a call of `sinkhorn`: a `Given`, or a `DeviceGiven` of arrays on a GPU."""
    own = {name: value for name, value in (("a", a), ("b", b)) if value is not None}
    if isinstance(costs, Grid):
        return _of_grid(costs, own)
    if isinstance(costs, PointCloud):
        given = {"x": costs.x} if costs.y is None else {"x": costs.x, "y": costs.y}
    else:
        given = {"costs": costs.C if isinstance(costs, CostMatrix) else costs}
    door, hosts = enter(**given, **own)
    found = dict(zip([*given, *own], hosts, strict=True))
    if door.space is not None:
        from otdist.transport import _entropic_device_input

        return _entropic_device_input.entered(door, found, costs)
    shapes = {name: found[name].shape[:-1] for name in own}
    if "costs" in found:
        C = _matrices(found["costs"])
        n, m = C.shape[-2:]
        batch = common(costs=C.shape[:-2], **shapes)
        geometry: Any = Stack(_spread(C, batch, 2))
    else:
        choose("cost", costs.cost, COSTS)
        x = points("x", found["x"])
        y = points("y", found["y"]) if "y" in found else x
        same_d(x=x, y=y)
        if costs.cost == "cosine":
            need_directions(x=x, y=y)
        n, m = x.shape[-2], y.shape[-2]
        batch = common(x=x.shape[:-2], y=y.shape[:-2], **shapes)
        power = exponent(costs.p, finite=True)
        geometry = Clouds(_spread(x, batch, 2), _spread(y, batch, 2), costs.cost, power)
    p, q = (_masses(name, found.get(name), size, batch) for name, size in (("a", n), ("b", m)))
    return Given(door, batch, p, q, geometry, found)


def _of_grid(grid: Grid, own: dict[str, Any]) -> Given:
    if not own:
        raise ValueError("a: found None; transport on a grid needs its histograms a and b")
    door, hosts = enter_host(**own)
    dims = len(grid.shape)
    flat = {}
    for name, w in zip(own, hosts, strict=True):
        square = w.ndim >= dims and w.shape[w.ndim - dims :] == grid.shape
        flat[name] = w.reshape(*w.shape[: w.ndim - dims], grid.size) if square else w
    batch = common(**{name: w.shape[:-1] for name, w in flat.items()})
    p, q = (_masses(name, flat.get(name), grid.size, batch) for name in "ab")
    return Given(door, batch, p, q, Lattice(grid), flat)


def _spread(z: Array, batch: tuple[int, ...], own: int) -> Array:
    """`z` with one leading axis that runs over the batch."""
    shape = z.shape[z.ndim - own :]
    return np.broadcast_to(z, (*batch, *shape)).reshape(-1, *shape)


def _matrices(C: Array) -> Array:
    if C.ndim < 2 or 0 in C.shape[-2:]:
        raise ValueError(f"costs: found shape {C.shape}; cost matrices have shape (..., n, m), n >= 1 and m >= 1")
    if C.size and not np.min(C) > -np.inf:  # NaN or -inf
        bad = np.isnan(C) | np.isneginf(C)
        where = tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), bad.shape))
        raise ValueError(f"costs: found {C[where]!s} at index {where}; costs are numbers or +inf (no mass may move)")
    return C


def _masses(name: str, w: Array | None, size: int, batch: tuple[int, ...]) -> Array:
    """Masses (k, size), float64."""
    if w is None:
        return np.full((math.prod(batch), size), 1.0 / size)
    if w.ndim == 0 or w.shape[-1] != size:
        raise ValueError(f"{name}: found shape {w.shape}; the costs need masses of shape (..., {size})")
    bad = ~((w >= 0) & (w < np.inf))
    if bad.any():
        where = tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), bad.shape))
        raise ValueError(f"{name}: found {w[where]!s} at index {where}; masses must be finite and >= 0")
    with np.errstate(over="ignore"):
        total = np.asarray(np.sum(w, axis=-1, dtype=np.float64))
    wrong = ~((total > 0.0) & (total < np.inf))
    if wrong.any():
        found = total[wrong].flat[0]
        raise ValueError(f"{name}: found a total of {found:g}; there must be mass to move, and its sum finite")
    return _spread(w.astype(np.float64), batch, 1)


def agreed(given: Given) -> Array:
    """Masses b (k, m), of the totals of a."""
    totals, others = given.a.sum(axis=1), given.b.sum(axis=1)
    off = np.abs(totals - others) > given.door.tolerance * np.maximum(totals, others)
    if off.any():
        k = int(np.argmax(off))
        missing = [name for name in "ab" if name not in given.arguments]
        note = f" ({missing[0]} was not given and is uniform with total 1)" if missing else ""
        raise ValueError(
            f"a and b: found totals {totals[k]:.9g} and {others[k]:.9g}{note}; they must agree: scale b by "
            f"a.sum() / b.sum(), or let marginals differ at a price, rho="
        )
    return np.asarray(given.b * (totals / others)[:, None])


def warm(init: Any, given: Given) -> Array | None:
    """Column potentials (k, m) to start from, in the units of the costs."""
    if init is None:
        return None
    _, (g,) = enter_host(init=init.g if isinstance(init, Transport) else init)
    shape = (*given.batch, given.shape[-1])
    if g.ndim == 0 or g.shape[-1] != shape[-1] or g.ndim > len(shape):
        raise ValueError(f"init: found potentials of shape {g.shape}; the columns need shape {shape}")
    try:
        wide = np.broadcast_to(g, shape)
    except ValueError:
        raise ValueError(f"init: found potentials of shape {g.shape}; the columns need shape {shape}") from None
    if not np.all(np.isfinite(wide)):
        raise ValueError("init: found potentials that are not finite; pass those of an earlier result")
    return wide.reshape(-1, shape[-1]).astype(np.float64)


def tolerance(tol: Any, given: Given) -> float:
    """The marginal error asked for, relative to the total mass."""
    return TOLERANCES[given.door.compute] if tol is None else number("tol", tol, 0.0, closed=True)


def prices(rho: Any) -> tuple[float, float]:
    """Prices of both marginals; inf: prescribed."""
    if rho is None:
        return math.inf, math.inf
    if isinstance(rho, np.ndarray) and rho.ndim == 1:
        rho = rho.tolist()
    pair = rho if isinstance(rho, tuple | list) else (rho, rho)
    if len(pair) != 2:
        raise ValueError(f"rho: found {len(pair)} prices; give one number, or a pair for rows and columns")
    free = (r is None or (is_real(r) and r == math.inf) for r in pair)
    first, second = (math.inf if infinite else number("rho", r, 0.0) for infinite, r in zip(free, pair, strict=True))
    return first, second
