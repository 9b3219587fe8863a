"""Launches of ``softmin_tensor.cu``: soft-min over all pairs of clouds of many coordinates, on tensor cores.

For squared Euclidean costs and float32. Products cancel where differences do not: `noise` says what is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from otdist.kernels import halves_cuda, softmin_cuda
from otdist.kernels.device import Space, kernel
from otdist.kernels.softmin_cuda import Array, Pairs, PointPairs, Room

# Blocks that keep a processor busy; columns of a block of the kernels that prepare columns.
BLOCKS, CHUNK = 4, 1024
# Numbers that a column brings along.
TABLES = 1
# Rounding of an exponent in parts of 2 k |x||y|, and of what is added to it.
EXACT, FAST, ADDED = 2.0**-22, 2.0**-11, 20.0 * 2.0**-24


@dataclass(frozen=True, eq=False)
class Products:
    """Both clouds of `PointPairs` as split halves, a problem after another."""

    batch: int
    sizes: tuple[int, int]
    x: halves_cuda.Halves
    y: halves_cuda.Halves


def made(space: Space, pairs: Pairs) -> Products | None:
    """The tables; None where products do not pay, or are not what the cost is made of."""
    if not isinstance(pairs, PointPairs) or pairs.metric != "SQUARED" or pairs.power is not None:
        return None
    d = pairs.x.shape[2]
    if d <= softmin_cuda.DIRECT:
        return None
    clouds = [pairs.x.reshape(-1, d)] if pairs.x is pairs.y else [z.reshape(-1, d) for z in (pairs.x, pairs.y)]
    found = halves_cuda.split(space, *clouds, centred=False, squares=np.float64)
    return Products(pairs.batch, pairs.shape, found[0], found[-1])


def reach(space: Space, products: Products) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The largest |x| times the largest |y| of each problem (k,), on the host."""
    out = space.empty((2, products.batch), np.float64)
    for side in (0, 1):
        z, n = _side(products, side)
        run = kernel("softmin_tensor.cu", "largest_square")
        run(space, products.batch, 256, (z.squares, _step(products, side), np.int32(n), out[side]))
    found = space.host(out)
    return np.asarray(np.sqrt(found[0]) * np.sqrt(found[1]))


def noise(scale: Any, reach: Any, precision: str = "exact") -> float:
    """What exponents of base 2 are off by, of the worst problem; scale = log2(e) / epsilon."""
    part = EXACT if precision == "exact" else FAST
    return float((2.0 * scale * reach * part + ADDED).max(initial=0.0))


def soft_min(
    room: Room,
    products: Products,
    scale: Array,
    v: Array,
    *,
    precision: str = "exact",
    turned: bool = False,
    kappa: Array | None = None,
    mass: Array | None = None,
    idle: Array | None = None,
    h: Array | None = None,
    potential: Array | None = None,
    w: Array | None = None,
) -> None:
    """`softmin_cuda.soft_min` in float32."""
    space, batch = room.space, products.batch
    (x, n), (y, m) = (_side(products, side) for side in ((1, 0) if turned else (0, 1)))
    left, right = (_step(products, side) for side in ((1, 0) if turned else (0, 1)))
    chunks = batch * -(-m // CHUNK)
    peaks, level = room.get("peaks", (chunks,), np.float64), room.get("level", (batch,), np.float64)
    columns = room.get("exponents", (batch, m), np.float32)
    given = (y.squares, right, np.int32(m), scale, v, idle, peaks)
    kernel("softmin_tensor.cu", "column_peaks")(space, chunks, 256, given)
    kernel("softmin_tensor.cu", "column_exponents")(space, chunks, 256, (*given, columns, level))
    tile, exact = halves_cuda.tile(x.width), precision == "exact"
    blocks, tiles = batch * -(-n // halves_cuda.ROWS), -(-m // tile)
    wanted = max(1, min(-(-BLOCKS * space.processors // blocks), tiles, 65535))
    span = -(-tiles // wanted) * tile
    splits = -(-m // span)
    top, total = (room.get(name, (batch, splits, n), np.float32) for name in ("top", "sum"))
    shape = f"{'true' if exact else 'false'}, {'true' if halves_cuda.is_long(x.width) else 'false'}"
    tables = (x.high, x.low, y.high, y.low, x.scales, left, right)
    sizes = map(np.int32, (n, m, x.width, span))
    run = kernel("softmin_tensor.cu", f"soft_min_tensor<{shape}>")
    shared = halves_cuda.shared_bytes(x.width, exact=exact, columns=TABLES)
    run(space, (blocks, splits), halves_cuda.ROWS, (*tables, *sizes, scale, columns, idle, top, total), shared=shared)
    out: dict[str, Any] = {"h": h, "potential": potential, "w": w}
    rest = (level, scale, x.squares.reshape(-1, n))
    softmin_cuda.merge(room, np.float32, top, total, turned=turned, kappa=kappa, mass=mass, idle=idle, rest=rest, **out)


def _side(products: Products, side: int) -> tuple[halves_cuda.Halves, int]:
    return (products.x, products.y)[side], products.sizes[side]


def _step(products: Products, side: int) -> np.int64:
    """Rows from one problem to the next; 0 for what all share."""
    z, n = _side(products, side)
    return np.int64(n if z.rows > n else 0)
