"""Launches of ``permute.cu``: labels as bits, and quadratic forms of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from otdist.kernels import formulas_cuda, gram_cuda
from otdist.kernels.device import Space, ctype, kernel
from otdist.kernels.gram_cuda import Numbers, Pool
from otdist.kernels.profiles import Kernel

Array = np.ndarray[Any, np.dtype[Any]]

# Points of a word of labels, and of a side of a tile; blocks of tiles; labellings of a block, fewer if tiles are few.
WORD, RUNS, MOST, FEWER = 64, 1024, 1024, 256
# Bytes of the tile and of the values of 64 labellings in shared memory.
TILE = 2 * WORD * (WORD + 2) * 8


class Forms(NamedTuple):
    """On the host: v'Av per labelling; sums of the entries of A, of their moduli, of the diagonal left out."""

    values: Array  # (labellings,)
    total: float
    modulus: float
    diagonal: float


def ranked(space: Space, x: Any, y: Any) -> tuple[Any, Any]:
    """The pool of x (n, 1) and y (m, 1) in order, (n + m, 1) in float64, and a byte for each: whether it is x's."""
    n, N = x.shape[0], x.shape[0] + y.shape[0]
    pool, given = space.empty((N, 1), np.float64), space.empty((N,), np.uint8)
    args = (x, y, pool, given, np.int32(n), np.int32(N))
    kernel("permute.cu", f"rank_points<{ctype(x)}>")(space, -(-N // 256), 256, args)
    return pool, given


def subsets(space: Space, seeds: Any, n: int, total: int, given: Any = None) -> Any:
    """(words, labellings) of 64 bits: each column marks n of the points, any n equally likely; column 0 is `given`.

    If that is None, it marks the first n.
    """
    return _draw(space, seeds, given, n, total, "true")


def coins(space: Space, seeds: Any, count: int) -> Any:
    """(words, labellings) of 64 bits: fair coins, in column 0 all ones."""
    return _draw(space, seeds, None, count, count, "false")


def _draw(space: Space, seeds: Any, given: Any, members: int, total: int, subset: str) -> Any:
    labels = space.empty((-(-total // WORD), seeds.size), np.uint64)
    args = (seeds, given, labels, np.int32(members), np.int32(total), np.int32(seeds.size))
    kernel("permute.cu", f"draw_labels<{subset}>")(space, -(-seeds.size // 64), 64, args)
    return labels


def quadratic(
    space: Space,
    tag: Kernel,
    numbers: Numbers,
    pool: Pool,
    labels: Any,
    low: float,
    high: float,
    *,
    drop: bool,
    paired: bool,
) -> Forms:
    """v'Av for each labelling, v = high where the label is 1, else low; A as in ``permute.cu``. It waits."""
    words, count = labels.shape
    size = pool.N // 2 if paired else pool.N
    tiles = words * (words + 1) // 2
    run = -(-tiles // RUNS)
    runs = -(-tiles // run)
    share = min(MOST if runs * 2 >= RUNS else FEWER, count)
    found, ends = space.empty((runs, count), np.float64), space.empty((runs, 3), np.float64)
    name = f"label_forms<{formulas_cuda.name(tag)}, {'true' if paired else 'false'}>"
    args = (*pool.clouds, numbers.table, labels, np.float64(low), np.float64(high), found, ends)
    sizes = (*map(np.int32, (size, pool.width, count, share, drop)), np.int64(tiles), np.int32(run))
    grid = (runs, -(-count // share))
    kernel("permute.cu", name)(space, grid, 256, (*args, *sizes), shared=TILE + 8 * share)
    values = space.host(gram_cuda.summed(space, found, 1, runs))[0]
    total, modulus, diagonal = space.host(gram_cuda.summed(space, ends, 1, runs))[0]
    return Forms(values, float(total), float(modulus), float(diagonal))
