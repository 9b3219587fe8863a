"""Divergences of paired rows that lie on a GPU: `evaluate`, with the kernels of ``rows_cuda.py``.

Shapes, options and errors are those of the CPU. Kernels set bits for bad rows; only then are the arguments copied to
the host, and the checks of the CPU say what is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np

from otdist._arrays import Array, Door, refuse_values
from otdist.catalogue import Plan
from otdist.kernels import rows_cuda


def evaluate_device(
    plan: Plan, door: Door, arrays: dict[str, Any], options: Any, wanted: tuple[bool, ...], cpu: Any
) -> tuple[Any, tuple[Any, ...]]:
    """Value and the gradients that are `wanted`, in the caller's arrays. `cpu` is the module whose checks are used."""
    space = door.space
    paired, batch = _paired(arrays, options.axis, cpu)
    if options.normalize is False:
        plan = plan.measures()
    names = list(arrays)
    sides = [names[0], names[-1]]
    wants = dict(zip(names, wanted or (False,) * len(names), strict=True))
    if len({a.dtype for a in arrays.values()}) > 1:
        arrays = {name: space.cast(a, door.compute) for name, a in arrays.items()}
    if plan.swap:
        sides.reverse()
    (p, ps), (q, qs) = (_placed(space, arrays[name], paired[name]) for name in sides)
    k = paired[names[0]].k
    where = rows_cuda.layout(batch, ps, qs, k)
    if where is None:
        raise ValueError(f"{' and '.join(names)}: found a batch broadcast in more than 4 places; expand one argument")
    value = space.empty(batch, np.uint16 if door.dtype == "bfloat16" else door.dtype)
    spread = {name: paired[name].shape[:-1] != batch for name in names}
    kind = door.compute if any(spread[name] and wants[name] for name in names) else p.dtype
    grads = {name: space.empty((*batch, k), kind) if wants[name] else None for name in names}
    if where.n:
        words = (names.index(sides[0]), names.index(sides[1]))
        gp, gq = grads[sides[0]], grads[sides[1]] if len(names) > 1 else None
        _launch(space, plan, door, options, p, q, where, words, value, gp, gq)
        space.check(_judge(door, arrays, options, cpu), arrays, value, grads)
    made = []
    for name in names:
        g = grads[name]
        if g is None:
            continue
        if spread[name]:
            g = rows_cuda.sum_rows(space, g, paired[name].shape[:-1], batch, k, door.compute)
        made.append(door.leave(_shaped(space, g, paired[name], arrays[name].shape)))
    return door.leave(value), tuple(made)


def _launch(
    space: Any, plan: Plan, door: Door, options: Any, p: Any, q: Any, where: Any, words: Any, *out: Any
) -> None:
    if options.from_logits:
        if type(plan.tag).__name__ == "Pearson":  # whose quotient overflows where its exponential form does not
            from otdist.kernels.terms import alpha_tag

            plan = replace(plan, tag=alpha_tag(2.0), finish=plan.finish._replace(scale=2.0 * plan.finish.scale))
        rows_cuda.logit_rows(space, plan.tag, plan.finish, p, q, where, words, *out)
        return
    tolerance = door.tolerance if options.normalize == "check" else None
    rows_cuda.rows(
        space, plan.tag, plan.finish, plan.degree, p, q, where, options.normalize is True, tolerance, words, *out
    )


class _Side:
    """Shape of an argument with its bins last, padded to the dimensions of the batch."""

    def __init__(self, shape: tuple[int, ...], dimensions: int, axis: int) -> None:
        full = (1,) * (dimensions - len(shape)) + shape
        self.axis = axis % dimensions
        self.k = full[self.axis]
        self.shape = (*full[: self.axis], *full[self.axis + 1 :], self.k)
        self.dimensions = dimensions


def _paired(arrays: dict[str, Any], axis: int, cpu: Any) -> tuple[dict[str, _Side], tuple[int, ...]]:
    """The shapes, after the checks of the CPU on arrays that take no memory."""
    hollow = {name: np.broadcast_to(np.zeros((), np.float32), a.shape) for name, a in arrays.items()}
    _, batch = cpu.as_rows(hollow, axis)
    dimensions = max(len(a.shape) for a in arrays.values())
    return {name: _Side(tuple(a.shape), dimensions, axis) for name, a in arrays.items()}, tuple(batch)


def _placed(space: Any, a: Any, side: _Side) -> tuple[Any, tuple[int, ...]]:
    """The argument with its bins next to each other, and a stride for each dimension of the batch, 0 if broadcast."""
    own = side.axis - (side.dimensions - a.ndim)
    strides = [s // a.dtype.itemsize for s in a.strides]
    if side.k > 1 and strides[own] != 1:
        a = space.contiguous(a.transpose(*(i for i in range(a.ndim) if i != own), own))
        outer = [math.prod(a.shape[i + 1 :]) for i in range(a.ndim - 1)]
    else:
        outer = [s for i, s in enumerate(strides) if i != own]
    padded = [0] * (side.dimensions - 1 - len(outer)) + outer
    return a, tuple(0 if n == 1 else s for n, s in zip(side.shape[:-1], padded, strict=True))


def _shaped(space: Any, g: Any, side: _Side, shape: tuple[int, ...]) -> Any:
    """The gradient with its bins where the argument has them."""
    if side.axis != side.dimensions - 1:
        order = [*range(side.dimensions - 1)]
        order.insert(side.axis, side.dimensions - 1)
        g = space.contiguous(g.transpose(*order))
    return g.reshape(shape)


def _judge(door: Door, arrays: dict[str, Any], options: Any, cpu: Any) -> Callable[[Array], None]:
    """What raises the error of the CPU after a kernel has found bad rows."""

    def judge(words: Array) -> NoReturn:
        hosts = {name: door.space.host(a) for name, a in arrays.items()}
        paired, _batch = cpu.as_rows(hosts, options.axis)
        if options.from_logits:
            for r in paired:
                cpu.refuse_logits(r)
        else:
            for r in paired:
                refuse_values(r.name, r.original)
            for r in paired:
                cpu.check_sums(r, r.data.sum(axis=1, dtype=np.float64)[r.index], options.normalize, door)
        raise ValueError(
            f"{next(name for name, word in zip(arrays, words, strict=False) if word)}: found a histogram whose sum is "
            f"off by just what is allowed ({door.tolerance:.1e}); pass normalize=True to divide by the sum"
        )

    return judge
