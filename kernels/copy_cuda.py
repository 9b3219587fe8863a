"""Launches of ``copy.cu``: arrays of any strides and types copied and cast, and filled."""

from __future__ import annotations

from typing import Any

import numpy as np

from otdist.kernels.device import Space, ctype, kernel

DIMENSIONS = 8  # of the arrays that `copy` takes, after neighbours have been merged


def copy(space: Space, a: Any, out: Any) -> None:
    """out <- a, of any strides and types; to half types rounded to nearest, to integers truncated."""
    if not a.size:
        return
    shape, strides = _merged(a)
    if len(shape) > DIMENSIONS:
        raise ValueError(f"found an array of {a.ndim} dimensions of irregular strides; make it contiguous first")
    layout = [np.int64(x) for x in (*shape, *[1] * (DIMENSIONS - len(shape)))]
    layout += [np.int64(x) for x in (*strides, *[0] * (DIMENSIONS - len(shape)))]
    run = kernel("copy.cu", f"copy<{ctype(a)}, {ctype(out)}>")
    run(space, min(-(-a.size // 1024), 65535), 256, (a, out, np.int64(a.size), np.int32(len(shape)), *layout))


def _merged(a: Any) -> tuple[list[int], list[int]]:
    """Shape and strides in elements, innermost first, with neighbours that lie in one run merged."""
    shape: list[int] = []
    strides: list[int] = []
    for n, stride in zip(reversed(a.shape), reversed(a.strides), strict=True):
        step = stride // a.dtype.itemsize
        if n == 1:
            continue
        if shape and step == shape[-1] * strides[-1]:
            shape[-1] *= n
        else:
            shape.append(n)
            strides.append(step)
    return (shape, strides) if shape else ([1], [1])


def fill(space: Space, a: Any, value: float) -> None:
    """a <- value, throughout a contiguous array."""
    if a.size:
        run = kernel("copy.cu", f"fill<{ctype(a)}>")
        run(space, min(-(-a.size // 1024), 65535), 256, (a, np.float64(value), np.int64(a.size)))
