"""Sliced distances of arrays on a GPU: projections, lines, means over directions, gradients back into space."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from otdist._arrays import Array
from otdist._discrepancy import NOTHING, Estimate
from otdist._samples import Pair
from otdist.kernels import device, project_cuda
from otdist.kernels.copy_cuda import copy
from otdist.kernels.device import Space
from otdist.kernels.line_cuda import Line, line_distance
from otdist.transport._line_device import estimate as line_estimate
from otdist.transport._line_device import unbroadcast

# Bytes of a projected point at work: itself, items twice, its level, slopes and gradients.
POINT = 80


@dataclass(frozen=True)
class Clouds:
    """Problems of one shape on the device; an array of one stands for all of them."""

    space: Space
    tolerance: float
    x: Any  # (P or 1, n, d)
    y: Any  # (P or 1, m, d)
    a: Any  # (P or 1, n), or None
    b: Any
    count: int

    @property
    def points(self) -> int:
        return int(self.x.shape[1] + self.y.shape[1])

    def some(self, start: int, stop: int) -> Clouds:
        """The problems from start to stop."""
        x, y, a, b = (z if z is None or len(z) == 1 else z[start:stop] for z in (self.x, self.y, self.a, self.b))
        return Clouds(self.space, self.tolerance, x, y, a, b, stop - start)

    def lines(self, theta: Any, p: float, wanted: tuple[bool, ...]) -> Line:
        """Distances of the projections on each of the directions (1, L, d): rows (P L)."""
        u, v = (project_cuda.products(self.space, theta, z, self.count, centre=self.x[:, 0]) for z in (self.x, self.y))
        a, b = (self._weights(w, theta.shape[1]) for w in (self.a, self.b))
        u, v = (z.reshape(-1, z.shape[-1]) for z in (u, v))
        return line_distance(self.space, u, v, a, b, p, self.tolerance, wanted)

    def _weights(self, w: Any, directions: int) -> Any:
        if w is None or len(w) == 1:
            return w
        wide = device.cupy().broadcast_to(w[:, None, :], (len(w), directions, w.shape[-1]))
        return self.space.contiguous(wide).reshape(-1, w.shape[-1])

    def back(self, line: Line, theta: Any, shares: Any, more: list[Any]) -> list[Any]:
        """Gradients by points and weights of the sum of shares (P, L) times distances; added to `more`."""
        directions = theta.shape[1]
        out = list[Any]()
        for k, (g, before) in enumerate(zip(line.gradients, more, strict=True)):
            if g is None:
                out.append(None)
                continue
            g = g.reshape(self.count, directions, g.shape[-1])
            if k < 2:
                turned = g.swapaxes(1, 2), theta.swapaxes(1, 2)
                out.append(project_cuda.products(self.space, *turned, self.count, scale=shares, more=before))
            else:
                out.append(project_cuda.sums_over(self.space, g, 1, shares, before))
        return out


def clouds(found: Pair) -> Clouds:
    """The problems of a pair of samples; half types in float32."""
    space = found.door.space

    def stacked(a: Any, own: int) -> Any:
        if a is None:
            return None
        a = space.cast(a, np.float32) if a.dtype.itemsize == 2 else a
        if math.prod(a.shape[:-own]) == 1:
            return a.reshape(1, *a.shape[-own:])
        if a.shape[:-own] != found.batch:
            a = device.cupy().broadcast_to(a, (*found.batch, *a.shape[-own:]))
        return a if a.ndim == own + 1 else space.contiguous(a).reshape(-1, *a.shape[-own:])

    sides = stacked(found.x, 2), stacked(found.y, 2), stacked(found.x_weights, 1), stacked(found.y_weights, 1)
    return Clouds(space, found.door.tolerance, *sides, math.prod(found.batch))


def estimate(found: Pair, theta: Array, p: float, wanted: tuple[bool, ...]) -> Estimate:
    """Values, gradients in the shapes of the arguments, and last the standard errors."""
    space, arguments = found.door.space, (found.x, found.y, found.x_weights, found.y_weights)
    count = math.prod(found.batch)
    if found.d == 1:
        return _on_line(found, p, wanted)
    value, error = space.zeros((count,), np.float64), space.zeros((count,), np.float64)
    sizes = (found.n, found.d), (found.m, found.d), (found.n,), (found.m,)
    grads = [
        space.zeros((count, *size), np.float64) if want and a is not None else None
        for want, a, size in zip(wanted, arguments, sizes, strict=True)
    ]
    if count:
        every, directions = clouds(found), space.put(theta)[None]
        room = max(1, space.budget() // (POINT * every.points * len(theta)))
        chunk = max(1, min(len(theta), space.budget() // (POINT * every.points)))
        for start in range(0, count, room):
            stop = min(count, start + room)
            some = every.some(start, stop)
            to = [None if g is None else g[start:stop] for g in grads]
            _average(some, directions, p, chunk, wanted, value[start:stop], error[start:stop], to)
    shaped = (
        None if g is None or a is None else unbroadcast(space, g.reshape(*found.batch, *g.shape[1:]), a.shape)
        for g, a in zip(grads, arguments, strict=True)
    )
    return Estimate(value.reshape(found.batch), (*shaped, error.reshape(found.batch)))


def _average(
    some: Clouds, theta: Any, p: float, chunk: int, wanted: tuple[bool, ...], value: Any, error: Any, to: list[Any]
) -> None:
    """Write value, error and gradients of some problems; directions by chunks where they do not fit at once."""
    space, count = some.space, theta.shape[1]
    whole = some.count > 1 or chunk >= count
    spans = [(0, count)] if whole else [(s, min(count, s + chunk)) for s in range(0, count, chunk)]
    distances = space.empty((some.count, count), np.float64)
    line = Line(None, (None,) * 4)
    for start, stop in spans:
        line = some.lines(theta[:, start:stop], p, wanted if whole else NOTHING)
        copy(space, line.value, distances[:, start:stop] if not whole else distances)
    found, spread, shares = project_cuda.power_mean(space, distances, p, shares=any(wanted))
    copy(space, found, value)
    copy(space, spread, error)
    if not any(wanted):
        return
    for start, stop in spans:
        part = theta[:, start:stop]
        line = line if whole else some.lines(part, p, wanted)
        some.back(line, part, shares[:, start:stop], to)


def _on_line(found: Pair, p: float, wanted: tuple[bool, ...]) -> Estimate:
    """One coordinate: transport on the line itself, without an error."""
    space = found.door.space
    arrays = {"u": found.x[..., 0], "v": found.y[..., 0], "u_weights": found.x_weights, "v_weights": found.y_weights}
    outcome = line_estimate(found.door, arrays, found.batch, p, wanted)
    points = [None if g is None else g[..., None] for g in outcome.gradients[:2]]
    error = space.zeros(found.batch, np.float64)
    return Estimate(outcome.value, (*points, *outcome.gradients[2:], error))


class Ascent:
    """One problem as `max_sliced_wasserstein` climbs it; directions and slopes (R, d) are on the host."""

    def __init__(self, one: Clouds, p: float) -> None:
        self.one, self.p = one, p
        self.d = int(one.x.shape[-1])

    def lean(self) -> Array:
        """The difference of the means."""
        space, sides = self.one.space, []
        for z, w in ((self.one.x, self.one.a), (self.one.y, self.one.b)):
            w = space.full((1, z.shape[1]), 1.0 / z.shape[1], np.float64) if w is None else w
            turned = z.swapaxes(1, 2)
            mean = project_cuda.products(space, w[:, None, :], turned, 1)
            total = project_cuda.sums_over(space, space.cast(w, np.float64), 1)
            sides.append(space.host(mean)[0, 0] / space.host(total)[0])
        return np.asarray(sides[0] - sides[1])

    def distances(self, theta: Array) -> Array:
        return self.one.space.host(self.one.lines(self.one.space.put(theta)[None], self.p, NOTHING).value)

    def slope(self, theta: Array) -> tuple[Array, Array]:
        """Distances, and sums over the points of gradient times point."""
        space, one = self.one.space, self.one
        line = one.lines(space.put(theta)[None], self.p, (True, True, False, False))
        total: Any = None
        for g, z in zip(line.gradients[:2], (one.x, one.y), strict=True):
            turned = z.swapaxes(1, 2)
            # gradients of both sides cancel, so where the origin is plays no part
            total = project_cuda.products(space, g[None], turned, 1, more=total)
        return space.host(line.value), space.host(total)[0]
