"""Plan -> kernel -> result, for divergences of paired rows: what every front door of ``divergences.py`` calls.

enter the arrays -> rows of bins -> one pass of the kernel (values, sums, flags, gradients) -> judge it -> leave
"""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from otdist._arrays import Array, Door, enter, refuse_values
from otdist.catalogue import Plan, choose, flag
from otdist.kernels import threads
from otdist.kernels.entries import FAINT, HUGE, INVALID, inspect
from otdist.kernels.faint import faint_rows
from otdist.kernels.logits import logit_rows
from otdist.kernels.rows import LOGARITHM, ROOT, rows
from otdist.kernels.terms import L2, Pearson, alpha_tag

# Rough cost of one bin, for deciding whether threads are worth waking; and the size of a tile of rows.
NANOSECONDS, TILE = 1.0, 1 << 17
APART = 4096


@dataclass(frozen=True)
class Options:
    """The options that all divergences share."""

    axis: int = -1
    normalize: Any = "check"
    from_logits: bool = False

    def __post_init__(self) -> None:
        choose("normalize", self.normalize, ("check", True, False))
        flag("from_logits", self.from_logits)
        if isinstance(self.axis, bool):
            raise TypeError(f"axis: found {self.axis!r}; give an integer")
        try:
            operator.index(self.axis)
        except TypeError:
            raise TypeError(f"axis: found {self.axis!r}; give an integer") from None


@dataclass(frozen=True)
class Rows:
    """An argument as rows of bins: `data` (n, k) contiguous, and `index`, the row each element of the batch reads."""

    name: str
    original: Array
    data: Array
    index: Array
    shape: tuple[int, ...]  # of its own batch, broadcastable to the common one
    axis: int


@dataclass(frozen=True)
class Outcome:
    """What the kernel found, float64: values, sums (n, 2), flags, and gradients per element of the batch (or None)."""

    value: Array
    sums: Array
    flags: Array
    gradients: tuple[Array | None, Array | None]


def evaluate(
    plan: Plan, arrays: dict[str, object], options: Options, wanted: tuple[bool, ...] = ()
) -> tuple[Any, tuple[Any, ...]]:
    """Value of a divergence, and its gradients with respect to the arrays that are `wanted`, in the caller's arrays."""
    door, hosts = enter(**arrays)
    if door.space is not None:
        from otdist import _evaluate_device

        lent = dict(zip(arrays, hosts, strict=True))
        return _evaluate_device.evaluate_device(plan, door, lent, options, wanted, sys.modules[__name__])
    paired, batch = as_rows(dict(zip(arrays, hosts, strict=True)), options.axis)
    if options.normalize is False:
        plan = plan.measures()
    wanted = wanted or (False,) * len(paired)
    if options.from_logits:
        for r in paired:
            refuse_logits(r)
        outcome = _from_logits(plan, paired, wanted)
    else:
        outcome = _from_histograms(plan, paired, wanted, options, door)
    return leave(outcome, paired, batch, door)


def as_rows(arrays: dict[str, Array], axis: int) -> tuple[list[Rows], tuple[int, ...]]:
    """Bins last and contiguous, and how the batch dimensions broadcast."""
    for name, a in arrays.items():
        if a.ndim == 0:
            raise ValueError(f"{name}: found a 0-d array; a histogram needs an axis of bins, e.g. shape (k,) or (n, k)")
    dimensions = max(a.ndim for a in arrays.values())
    if not -dimensions <= axis < dimensions:
        raise ValueError(
            f"axis: found {axis} for arrays of {dimensions} dimensions; choose -{dimensions} to {dimensions - 1}"
        )
    moved = {}
    for name, a in arrays.items():
        full = a.reshape((1,) * (dimensions - a.ndim) + a.shape)
        moved[name] = np.moveaxis(full, axis, -1) if axis not in (-1, dimensions - 1) else full
    first, *others = moved
    for name in others:
        if moved[name].shape[-1] != moved[first].shape[-1]:
            raise ValueError(
                f"{name}: found {moved[name].shape[-1]} bins, but {first} has {moved[first].shape[-1]}; "
                f"both need the same bins along axis {axis}"
            )
    if moved[first].shape[-1] == 0:
        raise ValueError(f"{first}: found 0 bins along axis {axis}; a histogram needs at least one bin")
    try:
        batch = np.broadcast_shapes(*(a.shape[:-1] for a in moved.values()))
    except ValueError:
        shapes = " and ".join(f"{name} {arrays[name].shape}" for name in arrays)
        raise ValueError(f"{' and '.join(arrays)}: found shapes {shapes}; batch dimensions must broadcast") from None
    return [_rows(name, arrays[name], a, batch, axis) for name, a in moved.items()], batch


def _rows(name: str, original: Array, a: Array, batch: tuple[int, ...], axis: int) -> Rows:
    # rows repeated by a stride of 0 are read once
    repeated = (s == 0 and n > 1 for s, n in zip(a.strides[:-1], a.shape[:-1], strict=True))
    once = a[tuple(slice(0, 1) if r else slice(None) for r in repeated)]
    shape = once.shape[:-1]
    data = lend(once.reshape(-1, a.shape[-1]))
    count = len(data)
    index = np.arange(count).reshape(shape)
    return Rows(name, original, data, np.broadcast_to(index, batch).reshape(-1), shape, axis)


class _Lent:
    """Read-only memory under a writable face: for read-only arrays, never written anyway, Numba would compile again."""

    def __init__(self, a: Array) -> None:
        self.keep = a
        self.__array_interface__ = {**a.__array_interface__, "data": (a.__array_interface__["data"][0], False)}


def lend(a: Array) -> Array:
    """`a` contiguous, as a kernel wants it; a view unless its layout forbids."""
    if not a.size:
        return np.empty(a.shape, a.dtype)
    whole = np.ascontiguousarray(a)
    face = whole.view()
    try:
        face.flags.writeable = True  # where the memory is that of a writable array, that is all
    except ValueError:
        return np.asarray(_Lent(whole))
    return face


def _apart(shape: tuple[int, ...], dtype: Any) -> Array:
    """An empty array with APART bytes before it.

    A vectorised loop takes what it writes close behind what it reads for an overlap and goes one by one, in another
    order of summation: bits would depend on where the arrays happen to lie.
    """
    size, gap = math.prod(shape), APART // np.dtype(dtype).itemsize
    return np.empty(gap + size, dtype)[gap:].reshape(shape)


def _run(plan: Plan, paired: list[Rows], wanted: tuple[bool, ...], kernel: Callable[..., Any]) -> Outcome:
    """Run a kernel over tiles of the batch; the arguments change places here and nowhere else."""
    p, q = (paired[-1], paired[0]) if plan.swap else (paired[0], paired[-1])
    n, k = len(p.index), p.data.shape[1]
    want_p, want_q = (wanted[0], len(paired) > 1 and wanted[-1])
    gradients = tuple(_apart((n, k), p.data.dtype) if w else None for w in (want_p, want_q))
    value, sums, flags = np.empty(n), np.ones((n, 2)), np.zeros(n, np.int64)
    grad_p, grad_q = reversed(gradients) if plan.swap else gradients

    def tile(start: int, stop: int) -> None:
        kernel(plan, p, q, value, sums, flags, grad_p, grad_q, start, stop)

    # rows do not depend on each other, so neither does any bit on the tiles
    threads.run(tile, threads.spans(n, max(TILE // k, -(-n // (4 * threads.thread_count())))), NANOSECONDS * n * k)
    if plan.swap:
        sums = sums[:, ::-1]
    return Outcome(value, sums, flags, (gradients[0], gradients[1]))


def _from_logits(plan: Plan, paired: list[Rows], wanted: tuple[bool, ...]) -> Outcome:
    if isinstance(plan.tag, Pearson):  # whose quotient overflows where its exponential form does not
        plan = replace(plan, tag=alpha_tag(2.0), finish=plan.finish._replace(scale=2.0 * plan.finish.scale))

    def kernel(
        plan: Plan, p: Rows, q: Rows, value: Array, _s: Array, _f: Array, gp: Any, gq: Any, a: int, b: int
    ) -> None:
        scratch = (None if g is None else _apart((p.data.shape[1],), np.float64) for g in (gp, gq))
        logit_rows(plan.tag, plan.finish, p.data, q.data, p.index, q.index, value, gp, gq, *scratch, a, b)

    return _run(plan, paired, wanted, kernel)


def logit_pairs(plan: Plan, P: Array, Q: Array, i: Array, j: Array) -> Array:
    """Values of the pairs (softmax P[i], softmax Q[j]) of validated logits."""
    paired = [Rows("X", P, lend(P), i, (), -1), Rows("Y", Q, lend(Q), j, (), -1)]
    return _from_logits(plan, paired, (False, False)).value


def _from_histograms(plan: Plan, paired: list[Rows], wanted: tuple[bool, ...], options: Options, door: Door) -> Outcome:
    normalize = options.normalize is True

    def run(paired: list[Rows]) -> Outcome:
        return _run(plan, paired, wanted, partial(_row_kernel, normalize=normalize))

    outcome = run(paired)
    if np.any(outcome.flags & INVALID):
        for r in paired:
            refuse_values(r.name, r.original)
        outcome = run([_with(r, np.abs(r.data), r.index) for r in paired])  # nothing but negative zeros
    for r, sums in zip(paired, outcome.sums.T, strict=False):
        check_sums(r, sums, options.normalize, door)
    strained = np.flatnonzero(_strained(plan, outcome, normalize)) if door.compute is np.float64 else np.empty(0)
    if strained.size:
        _rescue(plan, paired, outcome, strained, run, normalize)
    return outcome


def histograms(r: Rows, options: Options, door: Door) -> Array:
    """The rows of an argument, each once, validated and as the options say: what `pairwise` computes with.

    As they are under "check" and False; float64 quotients under True; float64 probabilities of logits.
    """
    if options.from_logits:
        refuse_logits(r)
        X = np.exp(r.data - r.data.max(axis=1, keepdims=True, initial=-np.inf), dtype=np.float64)
        return lend(X / X.sum(axis=1, keepdims=True))
    n, k = r.data.shape
    sums, flags = np.empty(n), np.empty(n, np.int64)
    data = r.data
    threads.run(lambda a, b: inspect(data, sums, flags, a, b), threads.spans(n, TILE // k), 0.3 * data.size)
    if np.any(flags & INVALID):
        refuse_values(r.name, r.original)
        data = np.abs(data)
        sums = data.sum(axis=1, dtype=np.float64)
    check_sums(_with(r, data, np.arange(n)), sums, options.normalize, door)
    if options.normalize is True:
        data = np.ldexp(data.astype(np.float64), -np.frexp(data.max(axis=1, keepdims=True, initial=0.0))[1])
        data /= data.sum(axis=1, keepdims=True)
    return lend(data)


def refuse_logits(r: Rows) -> None:
    """Refuse NaN, +inf and rows without a finite entry."""
    if not np.less(r.data, np.inf).all() or np.any(r.data.max(axis=1, initial=-np.inf) == -np.inf):
        refuse_values(r.name, np.moveaxis(r.original, r.axis, -1), logits=True)


def redo_pairs(plan: Plan, P: Array, Q: Array, i: Array, j: Array) -> Array:
    """Values of the pairs (P[i], Q[j]) by the row kernel, safe at any scale."""
    paired = [Rows("X", P, lend(P), i, (), -1), Rows("Y", Q, lend(Q), j, (), -1)]

    def run(paired: list[Rows]) -> Outcome:
        return _run(plan, paired, (False, False), partial(_row_kernel, normalize=False))

    outcome = run(paired)
    strained = np.flatnonzero(_strained(plan, outcome, normalize=False))
    if strained.size:
        _rescue(plan, paired, outcome, strained, run, normalize=False)
    return outcome.value


def _row_kernel(plan: Plan, p: Rows, q: Rows, *rest: Any, normalize: bool) -> None:
    value, sums, flags, gp, gq, a, b = rest
    pair = (plan.tag, plan.finish, p.data, q.data, p.index, q.index, normalize, value)
    rows(*pair, sums, flags, gp, gq, a, b)
    if np.any(flags[a:b] & FAINT):
        faint_rows(*pair, flags, gp, gq, a, b)


def check_sums(r: Rows, sums: Array, normalize: Any, door: Door) -> None:
    """Refuse histograms that do not sum to one (`normalize="check"`) or have no mass to divide by (True)."""
    if normalize is False:
        return
    bad = sums == 0 if normalize is True else ~(np.abs(sums - 1.0) <= door.tolerance)
    if not bad.any():
        return
    at = int(np.argmax(bad))
    where = tuple(int(i) for i in np.unravel_index(int(r.index[at]), r.shape)) if r.shape else ()
    place = f" at batch index {where}" if where else ""
    count = len(np.unique(r.index[bad]))
    if normalize is True:
        raise ValueError(
            f"{r.name}: found a histogram with sum 0{place} ({count} such in all); it has no mass to normalise"
        )
    raise ValueError(
        f"{r.name}: found a histogram with sum {sums[at]:.9g}{place} ({count} such in all); it must be 1 within "
        f"{door.tolerance:.1e}: pass normalize=True to divide by the sum, normalize=False for unnormalised measures, "
        f"from_logits=True for logits"
    )


def _with(r: Rows, data: Array, index: Array) -> Rows:
    return replace(r, data=lend(data), index=index)


def _strained(plan: Plan, outcome: Outcome, normalize: bool) -> Array:
    """Elements whose scale left, or may have left, the range of float64 on the way."""
    finish = plan.finish
    strained: Array = (outcome.flags & HUGE) != 0
    if normalize:
        return strained | ~((outcome.sums > 1e-280) & (outcome.sums < 1e280)).all(axis=1)
    if plan.degree is None or (finish.kind == LOGARITHM and not finish.literal):
        return np.zeros(len(outcome.value), np.bool_)
    if finish.kind == LOGARITHM:
        strained |= ~((outcome.sums > 1e-280) & (outcome.sums < 1e280)).all(axis=1)
    else:
        root = 0.5 if finish.kind == ROOT else 1.0
        strained |= ~(outcome.value > 1e-280**root)  # sums of subnormal terms
        if isinstance(plan.tag, L2):
            strained |= outcome.value > 1e280**root
    return strained


def _rescue(
    plan: Plan, paired: list[Rows], outcome: Outcome, at: Array, run: Callable[..., Outcome], normalize: bool
) -> None:
    """Redo elements of extreme scale on multiples by powers of two, and scale back.

    One factor for both arguments, D(cp, cq) = c^degree D(p, q); one for each where they are normalised.
    """
    parts = [r.data[r.index[at]] for r in paired]
    if normalize:
        sizes = [part.max(axis=1) for part in parts]
    else:
        size = np.abs(parts[0] - parts[-1]).max(axis=1)
        differ = size > 0
        at, size, parts = at[differ], size[differ], [part[differ] for part in parts]
        if not at.size:
            return
        sizes = [size] * len(parts)
    exponents = [-(np.frexp(size)[1] // 2) * 2 for size in sizes]
    scaled = [
        _with(r, np.ldexp(part, e[:, None]), np.arange(len(at)))
        for r, part, e in zip(paired, parts, exponents, strict=True)
    ]
    again = run(scaled)
    degree = 0.0 if normalize or plan.degree is None else plan.degree
    with np.errstate(over="ignore", under="ignore"):
        value = np.ldexp(again.value, -(degree * exponents[0]).astype(np.int64))
        if plan.finish.kind == LOGARITHM and not normalize:
            value -= plan.finish.scale * np.log(2.0) * exponents[0]
        outcome.value[at] = value
        for whole, part, e in zip(outcome.gradients, again.gradients, exponents, strict=False):
            if whole is not None and part is not None:
                whole[at] = np.ldexp(part, ((1.0 - degree) * e).astype(np.int64)[:, None])


def leave(outcome: Outcome, paired: list[Rows], batch: tuple[int, ...], door: Door) -> tuple[Any, tuple[Any, ...]]:
    """Value and gradients in the caller's arrays and shapes."""
    grads = (_gather(g, r, batch) for g, r in zip(outcome.gradients, paired, strict=False) if g is not None)
    return door.leave(outcome.value.reshape(batch)), tuple(door.leave(g) for g in grads)


def _gather(gradient: Array, r: Rows, batch: tuple[int, ...]) -> Array:
    """Gradient of the sum of all values with respect to the argument as it came: summed over what was broadcast."""
    g = gradient.reshape(*batch, gradient.shape[-1])
    own = np.moveaxis(r.original.reshape((1,) * (g.ndim - r.original.ndim) + r.original.shape), r.axis, -1).shape
    spread = tuple(i for i, (n, m) in enumerate(zip(own[:-1], batch, strict=True)) if n != m)
    if spread:
        g = g.sum(axis=spread, keepdims=True, dtype=np.float64)
    return np.moveaxis(g, -1, r.axis).reshape(r.original.shape)
