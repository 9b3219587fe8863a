"""Launches of ``gram_tensor.cu``: sums of kernels of distances over the pairs of one pool, on tensor cores."""

from __future__ import annotations

from typing import Any

import numpy as np

from otdist.kernels import formulas_cuda, halves_cuda
from otdist.kernels.device import Space, kernel
from otdist.kernels.profiles import Angle, Kernel, Squared

# Coordinates from which on products pay; columns of a block.
DIRECT, SPAN = 8, 4096


def suits(tag: Kernel, problems: int, d: int) -> bool:
    """Whether products will do: one pool, one kind of squared distance."""
    return problems == 1 and d > DIRECT and len(tag.geometries) == 1 and type(tag.geometries[0]) in (Squared, Angle)


def count(n: int, N: int) -> int:
    """How many blocks write sums."""
    return (-(-n // halves_cuda.ROWS) - (-(N - n) // halves_cuda.ROWS)) * -(-N // SPAN)


def values(space: Space, tag: Kernel, numbers: Any, rows: Any, totals: Any, n: int) -> Any:
    """Sums over pairs of the points `rows` (N, width) -> totals (count, 3), zeros at first; where that is not done.

    The answer: an int32 on the device, 1 where too many pairs are close together and nothing was done.
    """
    N, width = rows.shape
    (halves,) = halves_cuda.split(space, rows)
    direct = space.empty((2,), np.int32)
    of_rows = (np.int32(N), np.int32(width))
    kernel("gram_tensor.cu", "gram_close")(space, 1, 256, (rows, halves.squares, direct, *of_rows))
    long = "true" if halves_cuda.is_long(halves.width) else "false"
    args = (halves.high, halves.low, halves.squares, halves.scales, rows, numbers, direct[1:], totals)
    sizes = map(np.int32, (n, N, halves.width, width, SPAN))
    shared = halves_cuda.shared_bytes(halves.width, exact=True, columns=1)
    run = kernel("gram_tensor.cu", f"gram_tensor<{formulas_cuda.name(tag)}, {long}>")
    run(space, count(n, N), halves_cuda.ROWS, (*args, *sizes), shared=shared)
    return direct[:1]
