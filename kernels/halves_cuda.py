"""Clouds as split halves on the device (``halves.cu``), and what launches of `tensor_sweep` need (``tensor.cuh``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from otdist.kernels import device

# as in ``tensor.cuh``: rows of a block, coordinates of a slab, slabs of rows that stay in shared memory
ROWS, SLAB, RESIDENT_SLABS = 128, 32, 6
# Coordinates from which on slabs are summed apart (`LONG`).
LONG = 128
CHUNK = 256


@dataclass(frozen=True)
class Halves:
    """A cloud z = (x - centre) 2^e: `high` + `low` = z, (rows, width), `scales` = (2^e, 2^(-2e)).

    Products of z times scales[1] are those of x - centre; `squares` = |x - centre|^2, float32 or float64.
    """

    high: Any
    low: Any
    squares: Any
    scales: Any
    rows: int
    width: int


def padded(coordinates: int) -> int:
    """Halves of a row of a table."""
    return -(-coordinates // 16) * 16


def tile(width: int) -> int:
    """Columns of a tile; a block's share of the columns is a multiple of it."""
    return 32 if is_long(width) else 64


def is_long(width: int) -> bool:
    """The template's LONG."""
    return width > LONG


def shared_bytes(width: int, *, exact: bool, columns: int) -> int:
    """Shared memory of `tensor_sweep` with a policy that reads so many numbers of a column."""
    slabs = -(-width // SLAB)
    left = (slabs if slabs <= RESIDENT_SLABS else 2) * ROWS * SLAB * 2
    right = 2 * tile(width) * SLAB * 2
    return (2 if exact else 1) * (left + right) + 2 * columns * tile(width) * 4


def split(space: device.Space, *clouds: Any, centred: bool = True, squares: Any = np.float32) -> tuple[Halves, ...]:
    """Contiguous clouds (rows, d), of any float types, with a common scale, about their common mean; or about 0.

    What lies within 2^-50 ... 2^61 of the mean is represented to 22 bits of the largest coordinate; see ``halves.cu``.
    """
    d = int(clouds[0].shape[1])
    width = padded(d)
    reach, scales = space.zeros(1, np.uint32), space.empty(2, np.float32)
    centre = _mean(space, clouds, d) if centred else space.zeros(d, np.float64)
    for x in clouds:
        largest = device.kernel("halves.cu", f"largest_deviation<{device.ctype(x)}>")
        grid = min(-(-x.size // 1024), 8 * space.processors)
        largest(space, grid, 256, (x, centre, np.int64(len(x)), np.int32(d), reach))
    result = []
    for x in clouds:
        rows = len(x)
        high, low = (space.empty((rows, width), np.float16) for _ in range(2))
        found = space.empty(rows, squares)
        points = device.kernel("halves.cu", f"split_points<{device.ctype(x)}, {device.ctype(found)}>")
        sizes = (np.int32(rows), np.int32(d), np.int32(width))
        points(space, -(-rows // 8), 256, (x, centre, reach, *sizes, high, low, found, scales))
        result.append(Halves(high, low, found, scales, rows, width))
    return tuple(result)


def _mean(space: device.Space, clouds: tuple[Any, ...], d: int) -> Any:
    blocks = [-(-len(x) // CHUNK) for x in clouds]
    partial, centre = space.empty((sum(blocks), d), np.float64), space.empty(d, np.float64)
    across, start = -(-d // 256), 0
    for x, count in zip(clouds, blocks, strict=True):
        sums = device.kernel("halves.cu", f"column_sums<{device.ctype(x)}>")
        part = partial[start : start + count]
        sums(space, (count, across), 256, (x, np.int64(len(x)), np.int32(d), np.int32(CHUNK), part))
        start += count
    total = max(1, sum(len(x) for x in clouds))
    means = device.kernel("halves.cu", "column_means")
    means(space, across, 256, (partial, np.int32(sum(blocks)), np.int32(d), np.float64(1.0 / total), centre))
    return centre
