"""Launches of ``rows.cu`` and ``logits.cu``: how many threads share a row, and which rows are redone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from otdist.kernels.device import Space, ctype, kernel

BLOCK = 256
PARTIAL = 8  # doubles that a part of a row hands on
ROOT, LOGARITHM = 1, 2
VALUE_KINDS = {"float64": 0, "float32": 1, "float16": 2, "uint16": 3}


@dataclass(frozen=True)
class Layout:
    """A batch of pairs of rows: its dimensions, innermost first, and the strides of each argument in elements."""

    n: int
    k: int
    shape: tuple[int, ...]
    p: tuple[int, ...]
    q: tuple[int, ...]

    @property
    def scalars(self) -> tuple[Any, ...]:
        """As the kernels take them."""
        return (
            np.int64(self.n),
            np.int32(self.k),
            *(np.int64(x) for part in (self.shape, self.p, self.q) for x in part),
        )

    def swapped(self) -> Layout:
        """The same with the arguments in each other's place."""
        return Layout(self.n, self.k, self.shape, self.q, self.p)


def layout(shape: tuple[int, ...], p: tuple[int, ...], q: tuple[int, ...], k: int) -> Layout | None:
    """Dimensions merged where both arguments allow; None if more than four are left."""
    merged: list[list[int]] = []
    for n, s, t in zip(reversed(shape), reversed(p), reversed(q), strict=True):
        if n == 1:
            continue
        if merged and s == merged[-1][0] * merged[-1][1] and t == merged[-1][0] * merged[-1][2]:
            merged[-1][0] *= n
        else:
            merged.append([n, s, t])
    if len(merged) > 4:
        return None
    merged += [[1, 0, 0]] * (4 - len(merged))
    sizes, ps, qs = (tuple(column) for column in zip(*merged, strict=True))
    return Layout(math.prod(shape), k, sizes, ps, qs)


def _shares(space: Space, n: int, k: int, width: int) -> tuple[int, int]:
    """Threads of a team, and blocks that share a row."""
    few = n * 32 < space.processors * 1024
    if k <= 64 * width or (k <= 512 * width and not few):
        return min(32, max(4, 1 << (-(-k // width) - 1).bit_length())), 1
    splits = min(-(-4 * space.processors // n), k // (4 * BLOCK * width), 64)
    return BLOCK, max(1, splits)


def _parameters(tag: Any, finish: Any) -> tuple[Any, ...]:
    numbers = (getattr(tag, "alpha", getattr(tag, "ceiling", 0.0)), getattr(tag, "b", 0.0), getattr(tag, "reach", 60))
    return (
        np.float64(numbers[0]),
        np.float64(numbers[1]),
        np.int32(numbers[2]),
        np.int32(finish.kind),
        np.float64(finish.scale),
        np.float64(finish.c),
        np.float64(finish.alpha),
        np.int32(finish.literal),
    )


def _strain(name: str, finish: Any, degree: float | None, *, normalize: bool) -> tuple[int, float, float]:
    """Which rows of float64 are redone: huge entries (1), sums out of range (2), values out of (low, high] (4)."""
    if normalize:
        return 1 | 2, 0.0, math.inf
    if degree is None or (finish.kind == LOGARITHM and not finish.literal):
        return 0, 0.0, math.inf
    if finish.kind == LOGARITHM:
        return 1 | 2, 0.0, math.inf
    root = 0.5 if finish.kind == ROOT else 1.0
    return 1 | 4, 1e-280**root, 1e280**root if name == "L2" else math.inf


def rows(
    space: Space,
    tag: Any,
    finish: Any,
    degree: float | None,
    P: Any,
    Q: Any,
    where: Layout,
    normalize: bool,
    tolerance: float | None,
    words: tuple[int, int],
    V: Any,
    GP: Any = None,
    GQ: Any = None,
) -> None:
    """V[r] = D(p_r, q_r) and its gradients to GP, GQ (n, k) unless None; bad rows set bits in space.flags[words].

    `tolerance`: how far a sum may be from one; None: any.
    """
    name, n, k = type(tag).__name__, where.n, where.k
    wanted = GP is not None or GQ is not None
    result = GP if GP is not None else GQ if GQ is not None else P
    team, splits = _shares(space, n, k, 16 // P.dtype.itemsize)
    double = P.dtype == np.float64
    strain, low, high = _strain(name, finish, degree, normalize=normalize) if double else (0, 0.0, math.inf)
    repairs = bool(strain) or finish.kind == LOGARITHM
    repair = space.zeros((n + 1,), np.int32) if repairs else None
    partial = space.empty((2 * n * splits * PARTIAL,), np.float64) if splits > 1 else None
    template = f"{ctype(P)}, {ctype(result)}, {name}, {_cpp(wanted)}, {_cpp(normalize)}"
    common = (P, Q, *where.scalars, *_parameters(tag, finish))
    value_kind = np.int32(VALUE_KINDS[V.dtype.name])
    run = kernel("rows.cu", f"rows<{template}>")
    for phase in _phases(splits, normalize=normalize):
        args = (
            *common,
            np.float64(-1.0 if tolerance is None else tolerance),
            np.int32(strain),
            np.float64(low),
            np.float64(high),
            np.int32(team),
            np.int32(phase),
            np.int32(splits),
            partial,
            V,
            value_kind,
            GP,
            GQ,
            space.flags,
            np.int32(words[0]),
            np.int32(words[1]),
            repair,
        )
        run(space, -(-n * splits * team // BLOCK), BLOCK, args)
    if repairs:
        args = (*common, np.float64(degree or 0.0), V, value_kind, GP, GQ, repair)
        kernel("rows.cu", f"repair_rows<{template}>")(space, min(n, 2 * space.processors), BLOCK, args)


def logit_rows(
    space: Space,
    tag: Any,
    finish: Any,
    P: Any,
    Q: Any,
    where: Layout,
    words: tuple[int, int],
    V: Any,
    GP: Any = None,
    GQ: Any = None,
) -> None:
    """V[r] = D(softmax p_r, softmax q_r) and its gradients by the logits to GP, GQ unless None; flags as `rows`."""
    name, n, k = type(tag).__name__, where.n, where.k
    wanted = GP is not None or GQ is not None
    result = GP if GP is not None else GQ if GQ is not None else P
    team, splits = _shares(space, n, k, 16 // P.dtype.itemsize)
    repairs = finish.kind == LOGARITHM
    repair = space.zeros((n + 1,), np.int32) if repairs else None
    partial = space.empty((2 * n * splits * PARTIAL,), np.float64) if splits > 1 else None
    template = f"{ctype(P)}, {ctype(result)}, {name}, {_cpp(wanted)}"
    common = (P, Q, *where.scalars, *_parameters(tag, finish))
    out = (V, np.int32(VALUE_KINDS[V.dtype.name]), GP, GQ)
    run = kernel("logits.cu", f"logit_rows<{template}>")
    for phase in _phases(splits, normalize=True):
        shares = (np.int32(team), np.int32(phase), np.int32(splits), partial)
        marks = (space.flags, np.int32(words[0]), np.int32(words[1]), repair)
        run(space, -(-n * splits * team // BLOCK), BLOCK, (*common, *shares, *out, *marks))
    if repairs:
        blocks = min(n, 2 * space.processors)
        kernel("logits.cu", f"repair_logits<{template}>")(space, blocks, BLOCK, (*common, *out, repair))


def _cpp(flag: bool) -> str:
    return "true" if flag else "false"


def _phases(splits: int, *, normalize: bool) -> tuple[int, ...]:
    if splits == 1:
        return (0,)
    return (1, 2, 3) if normalize else (2, 3)


def sum_rows(space: Space, G: Any, own: tuple[int, ...], batch: tuple[int, ...], k: int, out_dtype: Any) -> Any:
    """G (*batch, k) summed over the dimensions that are 1 in `own`, in float64 and in one order: (*own, k)."""
    strides = [math.prod(batch[i + 1 :]) for i in range(len(batch))]
    kept = [(n, s) for n, s, m in zip(batch, strides, own, strict=True) if m == n and n > 1]
    spread = [(n, s) for n, s, m in zip(batch, strides, own, strict=True) if m != n]
    out = space.empty((*own, k), out_dtype)
    count = math.prod(n for n, _ in spread)
    chunks = min(count, max(1, space.processors * 2048 // max(1, out.size)), 1024)
    if chunks == 1:
        _sum(space, G, out, kept, spread, k, 1)
        return out
    middle = space.empty((chunks, out.size), np.float64)
    _sum(space, G, middle, kept, spread, k, chunks)
    rows_out = out.size // k
    _sum(space, middle, out, [(rows_out, 1)], [(chunks, rows_out)], k, 1)
    return out


def _sum(space: Space, G: Any, out: Any, kept: Any, spread: Any, k: int, chunks: int) -> None:
    def four(pairs: list[tuple[int, int]]) -> list[Any]:
        merged: list[list[int]] = []
        for n, s in reversed(pairs):
            if merged and s == merged[-1][0] * merged[-1][1]:
                merged[-1][0] *= n
            else:
                merged.append([n, s])
        if len(merged) > 4:
            raise ValueError(f"found a batch that is broadcast in more than 4 places; expand {pairs} first")
        merged += [[1, 0]] * (4 - len(merged))
        return [np.int64(x) for column in zip(*merged, strict=True) for x in column]

    rows_out, count = math.prod(n for n, _ in kept), math.prod(n for n, _ in spread)
    args = (G, out, np.int64(rows_out), np.int64(count), np.int32(k), *four(kept), *four(spread), np.int32(chunks))
    blocks = -(-rows_out * k * chunks // BLOCK)
    kernel("rows.cu", f"sum_rows<{ctype(G)}, {ctype(out)}>")(space, blocks, BLOCK, args)
