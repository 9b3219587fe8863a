"""Transport on the line of arrays on a GPU: batches, gradients in the shapes of the arguments, errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from otdist._arrays import Array, Door
from otdist._discrepancy import Estimate
from otdist.kernels import device, project_cuda
from otdist.kernels.device import Space
from otdist.kernels.line_cuda import line_distance


def estimate(
    door: Door, arrays: Mapping[str, Any], batch: tuple[int, ...], p: float, wanted: tuple[bool, ...]
) -> Estimate:
    """Distances of the rows of u, v with weights u_weights, v_weights, and the gradients of their sum."""
    space = door.space
    sides = [None if arrays.get(name) is None else rows(space, arrays[name], batch) for name in _NAMES]
    shapes = [None if side is None else arrays[name].shape for name, side in zip(_NAMES, sides, strict=True)]
    if math.prod(batch) == 0:
        value = space.zeros(batch, np.float64)
        empty = (
            None if not want or s is None else space.zeros(s, np.float64)
            for want, s in zip(wanted, shapes, strict=False)
        )
        return Estimate(value, tuple(empty))
    x, y, a, b = sides
    line = line_distance(space, x, y, a, b, p, door.tolerance, wanted)
    shaped = (
        None if g is None or s is None else unbroadcast(space, g.reshape(*batch, s[-1]), s)
        for g, s in zip(line.gradients, shapes, strict=True)
    )
    return Estimate(line.value.reshape(batch), tuple(shaped))


_NAMES = ("u", "v", "u_weights", "v_weights")


def rows(space: Space, a: Any, batch: tuple[int, ...]) -> Any:
    """One row for each element of the batch, or a single one for all of them; half types in float32."""
    a = space.cast(a, np.float32) if a.dtype.itemsize == 2 else a
    if math.prod(a.shape[:-1]) == 1:
        return a.reshape(1, a.shape[-1])
    if a.shape[:-1] != batch:
        a = device.cupy().broadcast_to(a, (*batch, a.shape[-1]))
    return a if a.ndim == 2 else space.contiguous(a).reshape(-1, a.shape[-1])


def unbroadcast(space: Space, gradient: Any, shape: tuple[int, ...]) -> Any:
    """The gradient of an argument of this shape: summed over what was broadcast."""
    while gradient.ndim > len(shape):
        gradient = project_cuda.sums_over(space, gradient, 0)
    for axis, n in enumerate(shape):
        if gradient.shape[axis] != n:
            kept = gradient.shape[:axis], gradient.shape[axis + 1 :]
            gradient = project_cuda.sums_over(space, gradient, axis).reshape(*kept[0], 1, *kept[1])
    return gradient


def check(door: Door, names: str, arrays: Mapping[str, Any], again: Callable[[dict[str, Array]], object]) -> None:
    """Raise what the same call on the CPU raises, where a kernel has noted something."""
    space = door.space

    def judge(words: Array) -> None:
        again({name: space.host(a) for name, a in arrays.items()})
        raise ValueError(f"{names}: found samples whose distance leaves the range of float64; divide both by a factor")

    space.check(judge, *arrays.values())
