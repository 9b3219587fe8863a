"""Arguments of `emd` at the door: costs, points and masses as float64, or an error that names what was wrong."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from otdist._arrays import Array, Door, enter, enter_host
from otdist._evaluate import lend
from otdist._results import Transport
from otdist._samples import need_directions, points, same_d, shaped
from otdist.catalogue import choose, flag
from otdist.kernels.exact_sums import total
from otdist.kernels.pricing import survey
from otdist.transport._problem import Gridded, Matrix, Problem, clouds, cost_matrix
from otdist.transport.geometry import COSTS, CostMatrix, PointCloud
from otdist.transport.grid import Grid
from otdist.transport.line import exponent


@dataclass(frozen=True)
class Given:
    """One call: how results go back, its problem, the masses and points that came with it."""

    door: Door
    problem: Problem
    a: Array | None
    b: Array | None
    points: tuple[Array, Array] | None = None


def entered(costs: Any, a: Any, b: Any) -> Given:
    """Costs and masses of a call of `emd`."""
    own = {name: value for name, value in (("a", a), ("b", b)) if value is not None}
    if isinstance(costs, Grid):
        return _of_grid(costs, own)
    if isinstance(costs, PointCloud):
        given = {"x": costs.x} if costs.y is None else {"x": costs.x, "y": costs.y}
    else:
        given = {"costs": costs.C if isinstance(costs, CostMatrix) else costs}
    door, hosts = enter(**given, **own)
    found = dict(zip([*given, *own], hosts, strict=True))
    a, b = found.get("a"), found.get("b")
    if door.space is not None:
        return _on_device(door, costs, found)
    if "costs" in found:
        return Given(door, _matrix(found["costs"]), a, b)
    x = sample("x", found["x"])
    y = sample("y", found["y"]) if "y" in found else x
    choose("cost", costs.cost, COSTS)
    same_d(x=x, y=y)
    if costs.cost == "cosine":
        need_directions(x=x, y=y)
    return Given(door, clouds(x, y, costs.cost, exponent(costs.p, finite=True)), a, b, (x, y))


def _on_device(door: Door, costs: Any, found: dict[str, Any]) -> Given:
    """The same for arrays on a GPU; masses, which are few numbers, are read."""
    from otdist.transport import _device_problem

    a, b = (door.space.host(found[name]) if name in found else None for name in ("a", "b"))
    if "costs" in found:
        return Given(door, _device_problem.matrix(door, found["costs"]), a, b)
    x, y = found["x"], found.get("y", found["x"])
    for name, z in (("x", x), ("y", y)):
        _one_cloud(name, shaped(name, z))
    choose("cost", costs.cost, COSTS)
    same_d(x=x, y=y)
    problem = _device_problem.clouds(door, x, y, costs.cost, exponent(costs.p, finite=True))
    return Given(door, problem, a, b, (x, y))


def _of_grid(grid: Grid, own: dict[str, Any]) -> Given:
    if not own:
        raise ValueError("a: found None; transport on a grid needs its histograms a and b")
    with np.errstate(over="ignore"):
        far = float(grid.cost(0, grid.size - 1))
    if not far < 1e300 / grid.size:
        raise ValueError(f"costs: found a grid with costs up to {far:.3g}; divide its coordinates by a common factor")
    door, hosts = enter_host(**own)
    flat = {name: w.reshape(-1) if w.shape == grid.shape else w for name, w in zip(own, hosts, strict=True)}
    return Given(door, Gridded(grid), flat.get("a"), flat.get("b"))


def sample(name: str, x: Array) -> Array:
    """One cloud (n, d), float64."""
    _one_cloud(name, points(name, x))
    return lend(np.ascontiguousarray(x, np.float64))


def _one_cloud(name: str, x: Array) -> None:
    if x.ndim != 2:
        raise ValueError(f"{name}: found shape {x.shape}; a cloud has shape (n, d): solve those of a batch in turn")


def _matrix(C: Array) -> Matrix:
    if C.ndim != 2 or 0 in C.shape:
        raise ValueError(f"costs: found shape {C.shape}; a cost matrix has shape (n, m), n >= 1 and m >= 1")
    D = lend(np.ascontiguousarray(C, np.float64))
    seen = survey(D)
    if seen.odd or seen.least == -np.inf:
        bad = np.isnan(C) | np.isneginf(C)
        where = tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), bad.shape))
        raise ValueError(f"costs: found {C[where]!s} at index {where}; costs are numbers or +inf (no mass may move)")
    return cost_matrix(D, seen)


def masses(given: Given, *, balanced: bool) -> tuple[Array, Array]:
    """a and b, of one total if `balanced`."""
    n, m = given.problem.shape
    (a, moved), (b, other) = _mass("a", given.a, n), _mass("b", given.b, m)
    for name, t in (("a", moved), ("b", other)):
        if not 0.0 < t < math.inf:
            raise ValueError(f"{name}: found a total of {t:g}; there must be mass to move, and its sum finite")
    if not balanced or moved == other:
        return a, b
    if abs(moved - other) > given.door.tolerance * max(moved, other):
        cure = "pass mass= or unmatched= to leave some where it is, or scale b by a.sum() / b.sum()"
        missing = [name for name, x in (("a", given.a), ("b", given.b)) if x is None]
        note = f" ({missing[0]} was not given and is uniform with total 1)" if missing else ""
        raise ValueError(f"a and b: found totals {moved:.9g} and {other:.9g}{note}; they must agree: {cure}")
    return a, b * (moved / other)


def _mass(name: str, w: Array | None, n: int) -> tuple[Array, float]:
    """Masses, and their sum rounded once."""
    if w is None:
        equal = np.full(n, 1.0 / n)
        return equal, total(equal)[0]
    if w.shape != (n,):
        raise ValueError(f"{name}: found shape {w.shape}; the costs need masses of shape ({n},)")
    own = np.array(w, np.float64, order="C")
    whole, good = total(own)
    if not good:
        bad = ~((w >= 0) & (w < np.inf))
        at = int(np.argmax(bad))
        raise ValueError(f"{name}: found {w[at]!s} at index {at}; masses must be finite and >= 0")
    return own, whole


def warm(init: Any, shape: tuple[int, int]) -> Array | None:
    """Column potentials to start from."""
    if init is None:
        return None
    door, (g,) = enter(init=init.g if isinstance(init, Transport) else init)
    g = g if door.space is None else door.space.host(g)
    if g.shape != shape[1:]:
        raise ValueError(f"init: found potentials of shape {g.shape}; the columns need shape ({shape[1]},)")
    if not np.all(np.isfinite(g)):
        raise ValueError("init: found potentials that are not finite; pass those of an earlier result")
    return g.astype(np.float64)


def reporter(callback: Any, progress: object) -> Any:
    """`callback`, with a line on standard error for every call of it if `progress`."""
    if not flag("progress", progress) or not (callback is None or callable(callback)):
        return callback  # the wrong kind is refused by `Limits`

    def report(state: dict[str, Any]) -> Any:
        figures = "  ".join(f"{k} {v:.4g}" for k, v in state.items() if isinstance(v, float))
        print(f"{state['stage']}: {state['iterations']} steps  {figures}", file=sys.stderr, flush=True)
        return None if callback is None else callback(state)

    return report
