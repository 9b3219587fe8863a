"""`pairwise` and `nearest` of arrays on a GPU: the fork behind the front doors of ``_pairwise.py``.

The same steps as on the CPU, launched without waiting: rows validated and made histograms, their pairs by
``kernels/pairs_cuda.py``, one status word read at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np

from otdist._arrays import Array, Door, enter, refuse_values
from otdist._evaluate import Options, as_rows, check_sums, refuse_logits
from otdist.catalogue import Generator, Plan
from otdist.kernels import pairs_cuda
from otdist.kernels.copy_cuda import copy


def pairwise(
    chosen: Plan | Generator,
    door: Door,
    arrays: dict[str, Any],
    batch: tuple[int, ...],
    options: Options,
    out: Any,
    memory_limit: int | None,
) -> Any:
    """The matrix of all pairs; see `otdist.pairwise`."""
    plan = _plan(chosen, options)
    sides = list(arrays.values())
    shape = (*batch, sides[0].shape[-2], sides[-1].shape[-2])
    target = None if out is None else _target(out, shape, door)
    space = door.space

    def run(budget: int) -> Any:
        direct = target is not None and target.dtype == door.compute and not _overlap(target, sides)
        matrix: Any = target if direct else space.empty(shape, door.compute)
        for at, problem in _problems(plan, door, arrays, batch, options):
            pairs_cuda.all_pairs(space, out=matrix[at], budget=budget, **problem)
        return matrix

    matrix = space.within(memory_limit, run)
    if target is not None and matrix is not target:
        copy(space, matrix, target)
    space.check(_judge(door, arrays, options), arrays, matrix)
    return door.leave(matrix) if out is None else out


def nearest(
    chosen: Plan | Generator,
    door: Door,
    arrays: dict[str, Any],
    batch: tuple[int, ...],
    options: Options,
    k: int,
    memory_limit: int | None,
) -> tuple[Any, Any]:
    """Values and indices of the nearest rows; see `otdist.nearest`."""
    plan = _plan(chosen, options)
    space, n = door.space, next(iter(arrays.values())).shape[-2]
    shape = (*batch, n, k)

    def run(budget: int) -> tuple[Any, Any]:
        values, where = space.empty(shape, door.compute), space.empty(shape, np.int64)
        for at, problem in _problems(plan, door, arrays, batch, options):
            best = pairs_cuda.nearest(space, k=k, budget=budget, **problem)
            copy(space, best[0], values[at])
            copy(space, best[1], where[at])
        return values, where

    values, where = space.within(memory_limit, run)
    space.check(_judge(door, arrays, options), arrays, values, where)
    return door.leave(values), door.leave(where)


def _plan(chosen: Plan | Generator, options: Options) -> Plan:
    if isinstance(chosen, Generator):
        raise ValueError(
            f"metric: found the Generator {chosen.name!r}, a Python function, which runs on the CPU only; copy X and Y "
            f"there, or name a divergence of otdist"
        )
    return chosen.measures() if options.normalize is False else chosen


def _problems(
    plan: Plan, door: Door, arrays: dict[str, Any], batch: tuple[int, ...], options: Options
) -> list[tuple[tuple[int, ...], dict[str, Any]]]:
    """For each element of the batch, its index and the arguments of the kernels."""
    space = door.space
    kinds = {a.dtype for a in arrays.values()}
    ready = {n: space.contiguous(a) if len(kinds) == 1 else space.cast(a, door.compute) for n, a in arrays.items()}
    rows: dict[tuple[Any, ...], pairs_cuda.Rows] = {}

    def side(word: int, at: tuple[int, ...]) -> pairs_cuda.Rows:
        a = list(ready.values())[word]
        own = a.shape[:-2]
        index = tuple(0 if n == 1 else i for n, i in zip(own, at[len(at) - len(own) :], strict=True))
        if (word, index) not in rows:
            rows[word, index] = _histograms(door, a[index], word, options)
        return rows[word, index]

    shared = {"tag": plan.tag, "finish": plan.finish, "swap": plan.swap, "degree": plan.degree}
    shared["normalized"] = options.normalize is not False
    return [(at, {**shared, "x": side(0, at), "y": side(len(ready) - 1, at)}) for at in np.ndindex(*batch)]


def _histograms(door: Door, x: Any, word: int, options: Options) -> pairs_cuda.Rows:
    """Rows as the options say: as they are under "check" and False, float64 quotients or probabilities elsewhere."""
    space = door.space
    if options.from_logits:
        return pairs_cuda.softmax(space, x, word)
    rule = {"check": pairs_cuda.ONE, True: pairs_cuda.POSITIVE, False: pairs_cuda.ANY_SUM}[options.normalize]
    found = pairs_cuda.survey(space, x, word, rule, door.tolerance)
    return pairs_cuda.normalised(space, found) if options.normalize is True else found


def _judge(door: Door, arrays: dict[str, Any], options: Options) -> Callable[[Array], None]:
    """What raises the error of the CPU after a kernel has found bad rows."""

    def judge(words: Array) -> NoReturn:
        for word, (name, a) in zip(words, arrays.items(), strict=False):
            if not word:
                continue
            host = door.space.host(a)
            if options.from_logits:
                refuse_logits(as_rows({name: host}, -1)[0][0])
            refuse_values(name, host)
            rows = as_rows({name: host}, -1)[0][0]
            each = replace(rows, index=np.arange(len(rows.data)))
            check_sums(each, rows.data.sum(axis=1, dtype=np.float64), options.normalize, door)
        raise ValueError(
            f"{next(name for name, word in zip(arrays, words, strict=False) if word)}: found a histogram whose sum is "
            f"off by just what is allowed ({door.tolerance:.1e}); pass normalize=True to divide by the sum"
        )

    return judge


def _target(out: Any, shape: tuple[int, ...], door: Door) -> Any:
    """The memory of `out` as a CuPy array, or an error that says what it should have been."""
    wanted = f"a writable array of shape {shape} and dtype {door.dtype}, on the device of the arguments"
    if door.library == "jax":
        raise TypeError("out: found a JAX array, which nothing may write to; leave `out` away")
    try:
        own, (view,) = enter(out=out)
    except (TypeError, ValueError):
        raise TypeError(f"out: found {type(out).__name__}; give {wanted}") from None
    if own.library != door.library or own.device != door.device or own.space is None:
        raise TypeError(f"out: found {type(out).__name__} on {own.device}; give {wanted}")
    found: Any = view
    if tuple(found.shape) != shape or own.dtype != door.dtype or found.data.ptr != _pointer(out):
        raise ValueError(f"out: found shape {tuple(found.shape)} and dtype {own.dtype}; give {wanted}")
    return found


def _pointer(out: Any) -> int:
    return int(out.data_ptr()) if hasattr(out, "data_ptr") else int(out.data.ptr)


def _overlap(target: Any, sides: list[Any]) -> bool:
    """Whether the memory of the target may be that of an argument."""

    def reach(a: Any) -> tuple[int, int]:
        steps = [s * (n - 1) for s, n in zip(a.strides, a.shape, strict=True)] if a.size else []
        low, high = sum(min(s, 0) for s in steps), sum(max(s, 0) for s in steps)
        return a.data.ptr + low, a.data.ptr + high + a.dtype.itemsize

    low, high = reach(target)
    return any(a < high and low < b for a, b in map(reach, sides))
