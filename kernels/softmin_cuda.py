"""Soft-min over all pairs on the device: `softmin.cu` for batches of matrices or of clouds, in float32 or float64.

Everything is in base 2 and in device memory, a problem after another along the first axis. Columns go in parts where
rows alone would not fill the device, merged in their order: the same bits at every call on one device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from otdist.kernels.device import Space, ctype, kernel

Array = Any  # cupy.ndarray

THREADS, ROWS, COLUMNS, VECTORS = 256, 32, 128, 4
# Blocks that keep a processor busy; coordinates up to which all are taken at once.
BLOCKS, DIRECT = 4, 8
METRICS = ("SQUARED", "EUCLIDEAN", "CITYBLOCK", "CHEBYSHEV")
REALS = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}


class Room:
    """Workspaces of one call, kept from pass to pass."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self._held: dict[tuple[str, Any], Array] = {}

    def get(self, name: str, shape: tuple[int, ...], dtype: Any) -> Array:
        """Uninitialised; the same memory whenever it is asked for under this name."""
        size, key = math.prod(shape), (name, np.dtype(dtype))
        held = self._held.get(key)
        if held is None or held.size < size:
            held = self._held[key] = self.space.empty((size,), dtype)
        return held[:size].reshape(shape)


@dataclass(frozen=True, eq=False)
class StoredPairs:
    """All pairs of cost matrices C (k, n, m), or (1, n, m) for all `batch` problems; of any float."""

    C: Array
    batch: int

    @property
    def shape(self) -> tuple[int, int]:
        """(n, m)."""
        return self.C.shape[1], self.C.shape[2]

    def source(self, real: Any, turned: bool) -> tuple[str, tuple[Any, ...]]:
        """The C++ type that makes the costs, and its arguments."""
        n, m = self.shape
        step = np.int64(n * m if len(self.C) > 1 else 0)
        name = f"Stored<{REALS[np.dtype(real)]}, {ctype(self.C)}, {'true' if turned else 'false'}>"
        return name, (self.C, self.C, np.int32(0), np.float64(1.0), step, step)


@dataclass(frozen=True, eq=False)
class PointPairs:
    """All pairs of clouds x (k, n, d) and y (k, m, d), float64; first axes of 1 stand for all `batch` problems.

    `singles` are the same in float32, for passes of that: centred, so that they keep their digits.
    """

    x: Array
    y: Array
    batch: int
    metric: str
    power: float | None = None  # None: the metric as it is
    singles: tuple[Array, Array] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(n, m)."""
        return self.x.shape[1], self.y.shape[1]

    def source(self, real: Any, turned: bool) -> tuple[str, tuple[Any, ...]]:
        """The C++ type that makes the costs, and its arguments."""
        single = np.dtype(real) == np.float32
        x, y = self.singles if single and self.singles is not None else (self.x, self.y)
        x, y = (y, x) if turned else (x, y)
        d = x.shape[2]
        steps = [np.int64(z.shape[1] * d if len(z) > 1 else 0) for z in (x, y)]
        raised = "false" if self.power is None else "true"
        name = f"Points<{REALS[np.dtype(real)]}, {self.metric}, {raised}, {min(d, DIRECT)}>"
        return name, (x, y, np.int32(d), np.float64(1.0 if self.power is None else self.power), *steps)


Pairs = StoredPairs | PointPairs


def grid(space: Space, batch: int, n: int, m: int) -> tuple[int, int]:
    """Blocks by rows of all problems, and parts of the columns."""
    tiles, most = batch * -(-n // ROWS), -(-m // COLUMNS)
    wanted = -(-BLOCKS * space.processors // max(1, tiles))
    return tiles, max(1, min(wanted, most, 65535))


def _sides(pairs: Pairs, turned: bool) -> tuple[int, int]:
    n, m = pairs.shape
    return (m, n) if turned else (n, m)


def soft_min(
    room: Room,
    pairs: Pairs,
    scale: Array,
    v: Array,
    *,
    real: Any = np.float64,
    turned: bool = False,
    kappa: Array | None = None,
    mass: Array | None = None,
    idle: Array | None = None,
    h: Array | None = None,
    potential: Array | None = None,
    w: Array | None = None,
) -> None:
    """h_i = -log2 sum_j 2^(v_j - scale c_ij); of the columns, `turned`: v is then of the rows.

    scale (k,), v (k, m) float64; v may be -inf. What is given is written: h (k, n), inf where nothing may go; the
    potential kappa h, 0 there; w = potential + log2(mass). kappa (k, 2), of rows and of columns, by default 1. Problems
    that are `idle` (k,) int32 are left alone.
    """
    space, (n, m) = room.space, _sides(pairs, turned)
    blocks, splits = grid(space, pairs.batch, n, m)
    name, source = pairs.source(real, turned)
    parts = (pairs.batch, splits, n)
    top, total = room.get("top", parts, real), room.get("sum", parts, real)
    run = kernel("softmin.cu", f"soft_min<{name}>")
    run(space, (blocks, splits), THREADS, (*source, np.int32(n), np.int32(m), scale, v, idle, top, total))
    merge(room, real, top, total, turned=turned, kappa=kappa, mass=mass, idle=idle, h=h, potential=potential, w=w)


def merge(
    room: Room,
    real: Any,
    top: Array,
    total: Array,
    *,
    turned: bool,
    kappa: Array | None,
    mass: Array | None,
    idle: Array | None,
    h: Array | None,
    potential: Array | None,
    w: Array | None,
    rest: tuple[Array | None, Array | None, Array | None] = (None, None, None),
) -> None:
    """What `soft_min` writes, of sums 2^top total (k, parts, n) in `real`.

    `rest`: level (k,), scale (k,) and squares (k or 1, n) where these are of exponents less level - scale squares.
    """
    batch, splits, n = top.shape
    own = None if kappa is None else kappa.reshape(-1)[1 if turned else 0 :]
    squares = rest[2]
    step = np.int64(n if squares is not None and len(squares) > 1 else 0)
    run = kernel("softmin.cu", f"merge_soft_min<{REALS[np.dtype(real)]}>")
    sizes = np.int32(splits), np.int32(n)
    run(
        room.space,
        batch * -(-n // 256),
        256,
        (top, total, *sizes, own, mass, idle, *rest, step, h, potential, w),
    )


def plan(room: Room, pairs: Pairs, scale: Array, u: Array, v: Array, total: Array, out: Array) -> None:
    """out (k, n, m) = total 2^(u_i + v_j - scale c_ij), in the float of `out`."""
    n, m = pairs.shape
    name, source = pairs.source(np.float64, False)
    run = kernel("softmin.cu", f"plan<{name}, {ctype(out)}>")
    sizes = np.int32(n), np.int32(m)
    run(room.space, grid(room.space, pairs.batch, n, m), THREADS, (*source, *sizes, scale, u, v, total, out))


def matrix(room: Room, pairs: PointPairs) -> Array:
    """The costs (k, n, m), float64."""
    n, m = pairs.shape
    out = room.space.empty((pairs.batch, n, m), np.float64)
    name, source = pairs.source(np.float64, False)
    run = kernel("softmin.cu", f"matrix<{name}>")
    run(room.space, grid(room.space, pairs.batch, n, m), THREADS, (*source, np.int32(n), np.int32(m), out))
    return out


def apply(
    room: Room,
    pairs: Pairs,
    scale: Array,
    u: Array,
    v: Array,
    total: Array,
    V: Array,
    out: Array,
    *,
    turned: bool = False,
) -> None:
    """out (k, n, c) = total P V of V (k, m, c) float64; `turned`: P^T V of V (k, n, c). Four columns a pass."""
    _in_parts(room, pairs, "apply", scale, u, v, total, 1.0, V, out, turned)


def pull(
    room: Room,
    pairs: PointPairs,
    scale: Array,
    u: Array,
    v: Array,
    total: Array,
    factor: float,
    out: Array,
    *,
    turned: bool = False,
) -> None:
    """out (k, n, d) = factor total sum_j P_ij grad_x c(x_i, y_j); `turned`: (k, m, d), by y. Kinks count as 0."""
    _in_parts(room, pairs, "pull", scale, u, v, total, factor, None, out, turned)


def _in_parts(
    room: Room,
    pairs: Pairs,
    work: str,
    scale: Array,
    u: Array,
    v: Array,
    total: Array,
    factor: float,
    V: Array | None,
    out: Array,
    turned: bool,
) -> None:
    space, (n, m) = room.space, _sides(pairs, turned)
    u, v = (v, u) if turned else (u, v)
    blocks, splits = grid(space, pairs.batch, n, m)
    name, source = pairs.source(np.float64, turned)
    parts = room.get("parts", (pairs.batch, splits, n, VECTORS), np.float64)
    run, width = kernel("softmin.cu", f"{work}<{name}>"), out.shape[2]
    merge = kernel("softmin.cu", f"merge_parts<{ctype(out)}>")
    for first in range(0, width, VECTORS):
        count = min(VECTORS, width - first)
        given = () if V is None else (V, np.int32(width))
        run(
            space,
            (blocks, splits),
            THREADS,
            (*source, np.int32(n), np.int32(m), scale, u, v, *given, np.int32(first), parts),
        )
        sizes = (np.int32(splits), np.int32(n), np.int32(width), np.int32(first), np.int32(count))
        merge(space, pairs.batch * -(-n * count // 256), 256, (parts, *sizes, np.float64(factor), total, out))
