"""Projections on the device: launches of `project.cu`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from otdist.kernels.device import Space, ctype, kernel

SIDE = 64


def products(
    space: Space, left: Any, right: Any, batch: int, scale: Any = None, centre: Any = None, more: Any = None
) -> Any:
    """out[b, i, j] = sum_k left[b, i, k] scale[b, k] (right[b, j, k] - centre[b, k]), float64, of any strides.

    An array of one stands for the whole batch. `more`: an earlier result, to add to.
    """
    lines, columns, terms = left.shape[1], right.shape[1], left.shape[2]
    out = space.empty((batch, lines, columns), np.float64) if more is None else more
    tiles = -(-lines // SIDE) * -(-columns // SIDE)
    sizes = np.int32(lines), np.int32(columns), np.int32(terms)
    run = kernel("project.cu", f"products<{ctype(left)}, {ctype(right)}>")
    for start in range(0, batch, 65535):
        count = min(65535, batch - start)
        given: list[Any] = []
        for a, axes in ((left, 3), (right, 3), (scale, 1), (centre, 2)):
            given += [_from(a, start), *_strides(a)[:axes]]
        run(space, (tiles, count, 1), 256, (*given, *sizes, np.int32(more is not None), out[start:]))
    return out


def _from(a: Any, start: int) -> Any:
    return a if a is None or len(a) == 1 else a[start:]


def _strides(a: Any) -> tuple[np.int64, ...]:
    """In elements; 0 along a batch of one."""
    if a is None:
        return np.int64(0), np.int64(0)
    first, *others = (np.int64(stride // a.dtype.itemsize) for stride in a.strides)
    return (first if len(a) > 1 else np.int64(0), *others)


def power_mean(space: Space, distances: Any, p: float, *, shares: bool) -> tuple[Any, Any, Any]:
    """Of distances (batch, count): (mean of powers p)^(1/p), its standard error, and its derivatives if asked for."""
    batch, count = distances.shape
    value, error = (space.empty((batch,), np.float64) for _ in range(2))
    by = space.empty((batch, count), np.float64) if shares else None
    kernel("project.cu", "power_mean")(space, batch, 128, (distances, np.int32(count), np.float64(p), value, error, by))
    return value, error, by


def sums_over(space: Space, x: Any, axis: int, scale: Any = None, more: Any = None) -> Any:
    """Sums of a contiguous float64 array along one axis, times `scale` of all axes up to it; `more`: to add to."""
    outer, inner = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
    out = space.empty((*x.shape[:axis], *x.shape[axis + 1 :]), np.float64) if more is None else more
    given = x, scale, np.int64(outer), np.int32(x.shape[axis]), np.int64(inner), np.int32(more is not None), out
    kernel("project.cu", "sums_over")(space, -(-outer * inner // 256), 256, given)
    return out
