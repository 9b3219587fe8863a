"""Samples on a GPU: batches as one array, and matrices of kernels between them."""

from __future__ import annotations

import math
from typing import Any

from otdist import _samples
from otdist._arrays import Array
from otdist._expression import Kernel
from otdist._samples import Pair
from otdist.kernels import bandwidth_cuda, formulas_cuda, gram_cuda
from otdist.kernels.gram_cuda import Numbers, Status


def whole(space: Any, a: Any, batch: tuple[int, ...], kept: int) -> Any:
    """`a`, its leading dimensions broadcast to `batch`, as one contiguous array: (P, the last `kept` dimensions)."""
    shape = (*batch, *a.shape[a.ndim - kept :])
    if a.shape != shape:
        extra = len(shape) - a.ndim
        strides = [0] * extra
        strides += [0 if n == 1 else s for n, s in zip(a.shape, a.strides, strict=True)]
        a = type(a)(shape, a.dtype, memptr=a.data, strides=tuple(strides))
    return space.contiguous(a).reshape(math.prod(batch), *shape[len(batch) :])


def status(pair: Pair) -> Status:
    """Words of the flags, in the order in which the door took the arguments."""
    b = 2 + (pair.x_weights is not None)
    return Status(0, 1, 2, b)


def gram_matrix(kernel: Kernel, door: Any, names: list[str], sides: list[Any], batch: tuple[int, ...]) -> Any:
    """Matrices (*batch, n, m) of the kernel between the sides (of one side with itself)."""
    space, P, d = door.space, math.prod(batch), sides[0].shape[-1]
    tag = kernel.tag(d)
    numbers = Numbers(bandwidth_cuda.put(space, formulas_cuda.numbers(tag)).reshape(1, -1))
    spread = [whole(space, a, batch, 2) for a in sides]
    left = gram_cuda.Pool(space, tag, (spread[0],), (0,), door.compute, False)
    right = left
    if len(spread) > 1:
        right = gram_cuda.Pool(
            space, tag, (spread[1],), (1,), door.compute, False, origin=spread[0], extent=left.extent
        )
    if gram_cuda.squared_distances(tag):
        gram_cuda.extreme(space, right)
    K = space.empty((P, left.N, right.N), door.compute)
    gram_cuda.matrix(space, tag, numbers, left, right, K)

    def judge(flags: Array) -> None:
        hosts = {name: space.host(a) for name, a in zip(names, sides, strict=True)}
        for name, host in hosts.items():
            _samples.points(name, host)
        _samples.refuse_zero_vectors(kernel, **hosts)
        _samples.refuse_extremes(kernel, **hosts)
        raise AssertionError(f"unknown status {flags}")

    space.check(judge, *spread, *sides)
    return door.leave(K.reshape(*batch, left.N, right.N))
