"""All pairs of rows on the device: the matrix of a divergence, and the nearest rows without the matrix.

survey (validation, sums) -> globals -> judge (limits) -> tables -> product or tile -> settle -> mirror, or least

Everything is launched without waiting; what the data decides is decided on the device. Sums of a pair are taken in one
order, whatever the memory limit and whatever rows stand beside it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from otdist.kernels.device import Space, ctype, kernel

ROOT, LOGARITHM = 1, 2  # kinds of ``rows.py``'s Finish
ANY_SUM, ONE, POSITIVE = 0, 1, 2  # rules of ``survey.cu``
INVALID_ENTRY, BAD_SUM = 1, 2
TILE, PAD = 64, 4
# Columns of a block of `tile` where a processor has that many tiles; columns of a strip of `nearest`.
SPAN, ENOUGH, STRIP = 256, 32, 16384
# Kept free of a limit on memory for the rest: facts of rows, lists.
LEAST = 1 << 20


@dataclass(frozen=True)
class Engine:
    """How the sums of a divergence are taken: see ``engines.cuh``; no tables and no cost: every pair is settled."""

    judge: str
    cost: str = ""
    first: tuple[tuple[str, float, float], ...] = ()  # tables: kind, its power of two (0: the data's), its parameter
    second: tuple[tuple[str, float, float], ...] = ()
    affinity: float = 0.0
    planes: int = 1


_PLAIN, _LOG = ("Plain", 1.0, 0.0), ("MinusLog", 0.0, math.inf)


def engine_for(tag: Any, finish: Any, single: bool) -> Engine:
    """The engine of a divergence, for entries of 4 bytes or less (`single`) or of 8."""
    name = type(tag).__name__
    real = "float" if single else "double"
    if name == "TV":
        return Engine("TileEngine", f"Distance<{real}>")
    if name == "L2":
        return Engine("SquareEngine", f"SquaredDistance<{real}>")
    if name == "Symmetric":
        return Engine("TileEngine", f"Harmonic<{real}>")
    if name == "JS":
        return Engine("TileEngine", "JensenShannon", planes=2) if single else Engine("EntropyEngine", "JointEntropy")
    if name == "Hellinger":
        if single and finish.kind != LOGARITHM:
            return Engine("TileEngine", "RootDistance", planes=2)
        return Engine("RootEngine", first=(("Root", 1.0, 1.0),), second=(("Root", 1.0, -1.0),), affinity=-1.0)
    if name == "KL":
        return Engine("KLEngine", first=(_PLAIN,), second=(_LOG,))
    if name == "Jeffreys":
        return Engine("JeffreysEngine", first=(_PLAIN, _LOG), second=(_LOG, _PLAIN))
    if name == "CrossEntropy":
        return Engine("CrossEntropyEngine", first=(_PLAIN,), second=(("MinusLog", 1.0, tag.ceiling),))
    if name == "Pearson":
        return Engine("PearsonEngine", first=(("Square", 1.0, 0.0),), second=(("Reciprocal", 1.0, 0.0),))
    if name == "Alpha":
        a, b = tag.alpha, -tag.b
        return Engine("AlphaEngine", first=(("Power", 0.0, a),), second=(("PowerRest", 0.0, b),), affinity=-a * b)
    return Engine("NoEngine")


SYMMETRIC = ("TV", "L2", "Symmetric", "JS", "Hellinger", "Jeffreys")


@dataclass(frozen=True)
class Rows:
    """Contiguous rows (n, k) on the device, and what `survey` found: (5, n).

    Of logits: their probabilities, the logits themselves, maximum and rest of the log of their sum of exponentials
    (2, n), and a word that is not 0 if a probability might underflow.
    """

    x: Any
    facts: Any
    logits: Any = None
    parts: Any = None
    far: Any = None


def survey(space: Space, x: Any, word: int, rule: int, tolerance: float) -> Rows:
    """Validate the rows of argument number `word`: sums of ONE within the tolerance, POSITIVE, or ANY_SUM."""
    return _surveyed(space, x, space.flags[word : word + 1], rule, tolerance)


def _surveyed(space: Space, x: Any, flags: Any, rule: int, tolerance: float) -> Rows:
    n, bins = x.shape
    facts = space.empty((5, n), np.float64)
    run = kernel("survey.cu", f"survey<{ctype(x)}>")
    run(space, -(-n // 8), 256, (x, np.int64(n), np.int32(bins), np.int32(rule), np.float64(tolerance), facts, flags))
    return Rows(x, facts)


def normalised(space: Space, rows: Rows) -> Rows:
    """The rows over their sums, float64."""
    n, bins = rows.x.shape
    y = space.empty((n, bins), np.float64)
    kernel("survey.cu", f"normalise<{ctype(rows.x)}>")(space, -(-n // 8), 256, (rows.x, np.int64(n), np.int32(bins), y))
    # what was refused is refused again, and has been reported
    return _surveyed(space, y, space.zeros(1, np.int32), ANY_SUM, 0.0)


def softmax(space: Space, x: Any, word: int) -> Rows:
    """Probabilities of rows of logits, float64."""
    n, bins = x.shape
    y, far = space.empty((n, bins), np.float64), space.zeros(1, np.int32)
    parts = space.empty((2, n), np.float64)
    args = (x, np.int64(n), np.int32(bins), y, space.flags[word : word + 1], far, parts)
    kernel("survey.cu", f"softmax<{ctype(x)}>")(space, -(-n // 8), 256, args)
    found = _surveyed(space, y, space.zeros(1, np.int32), ANY_SUM, 0.0)
    return Rows(y, found.facts, x, parts, far)


class Pairs:
    """D(x_i, y_j) for blocks of pairs; D(y_j, x_i) if `swap`. `degree`: D(cp, cq) = c^degree D(p, q), or None."""

    def __init__(
        self, space: Space, tag: Any, finish: Any, x: Rows, y: Rows, swap: bool, degree: float | None, normalized: bool
    ) -> None:
        self.space, self.tag, self.finish, self.x, self.y, self.swap = space, tag, finish, x, y, swap
        self.degree = -1.0 if degree is None else degree
        self.bins = int(x.x.shape[1])
        self.entry = ctype(x.x)
        single = x.x.dtype.itemsize < 8
        self.engine = engine = engine_for(tag, finish, single)
        self.tag_a, self.tag_b = _parameters(tag)
        # below this part of what is cancelled a product is not trusted: errors grow as the root of its length
        self.cut = 1e-7 if single else 0.02 * math.sqrt(1 + self.bins / 4096)
        self.globals = space.empty(3, np.float64)
        scale = 2.0 ** round(math.log2(self.bins)) if normalized else 0.0
        sizes = (x.facts, np.int64(len(x.x)), y.facts, np.int64(len(y.x)), np.float64(self.bins), np.float64(scale))
        kernel("survey.cu", "summarise")(space, 1, 256, (*sizes, self.globals))
        one = y is x and type(tag).__name__ in SYMMETRIC
        self.left = self._judged(x, not swap, 2)
        self.right = self.left if one else self._judged(y, swap, 1)
        self.left_kinds, self.right_kinds = (engine.second, engine.first) if swap else (engine.first, engine.second)
        self.width = -(-self.bins // PAD) * PAD * len(engine.first)

    def _judged(self, side: Rows, first: bool, other: int) -> Any:
        n = len(side.x)
        judged = self.space.empty((5, n), np.float64)
        order = getattr(self.tag, "alpha", 0.0)
        literal = self.finish.kind == LOGARITHM and self.finish.literal
        options = (np.int32(other), np.int32(first), np.int32(literal))
        numbers = (np.float64(order), np.float64(-getattr(self.tag, "b", 0.0)), np.float64(self.cut))
        run = kernel("survey.cu", f"judge<{self.engine.judge}, {self.entry}>")
        args = (side.x, np.int64(n), np.int32(self.bins), side.facts, self.globals, *options, *numbers, judged)
        run(self.space, -(-n // 8), 256, args)
        return judged

    def table(self, left: bool, i0: int, i1: int) -> Any:
        """Table of the rows i0 ... i1 of a side."""
        side, judged, kinds = (self.x, self.left, self.left_kinds) if left else (self.y, self.right, self.right_kinds)
        table = self.space.empty((i1 - i0, self.width), np.float64)
        padded = self.width // len(kinds)
        for number, (kind, scale, parameter) in enumerate(kinds):
            run = kernel("survey.cu", f"tabulate<{kind}, {self.entry}>")
            place = (np.int64(i0), np.int64(i1 - i0), np.int32(self.bins), judged, np.int64(len(side.x)))
            how = (self.globals, np.float64(scale), np.float64(parameter))
            where = (np.int32(padded), np.int32(number * padded), np.int32(self.width), table)
            run(self.space, -(-(i1 - i0) // 8), 256, (side.x, *place, *how, *where))
        return table

    def write(self, i0: int, i1: int, j0: int, j1: int, half: bool, out: Any, a: Any, b: Any) -> None:
        """out[i - i0, j - j0] = values of the pairs; of those with j >= i only if `half`. a, b: tables, if any."""
        facts = (self.left, np.int64(len(self.x.x)), self.right, np.int64(len(self.y.x)))
        window = (*(np.int64(v) for v in (i0, i1, j0, j1)), np.int32(half))
        target = (out, *(np.int64(s // out.dtype.itemsize) for s in out.strides))
        rows, columns = -(-(i1 - i0) // TILE), -(-(j1 - j0) // TILE)
        kind, scale, c = int(self.finish.kind), np.float64(self.finish.scale), np.float64(self.finish.c)
        literal, value = np.int32(self.finish.literal), ctype(out)
        if a is not None:
            run = kernel("pairs.cu", f"product<{kind}, {value}>")
            how = (scale, c, np.float64(self.engine.affinity), literal)
            run(self.space, rows * columns, 128, (a, b, np.int32(self.width), *facts, *window, *how, *target))
        elif self.engine.cost:
            span = SPAN if rows * columns >= ENOUGH * self.space.processors else TILE
            run = kernel("pairs.cu", f"tile<{self.engine.cost}, {self.entry}, {kind}, {value}>")
            size = 4 if "float" in self.engine.cost or self.engine.planes == 2 else 8
            args = (self.x.x, self.y.x, np.int32(self.bins), np.int32(span), self.globals, *facts, *window, scale)
            shared = 2 * self.engine.planes * 16 * 2 * TILE * size
            run(self.space, rows * -(-columns * TILE // span), 256, (*args, *target), shared)
        every = a is None and not self.engine.cost
        run = kernel("settle.cu", f"settle<{type(self.tag).__name__}, {self.entry}, {value}>")
        what = (self.x.x, self.y.x, np.int32(self.bins), np.int32(self.swap), np.int32(every))
        finish = (np.int32(kind), scale, c, np.float64(self.finish.alpha), literal)
        numbers = (np.float64(self.tag_a), np.float64(self.tag_b), *finish)
        run(self.space, rows * columns, 256, (*what, *numbers, np.float64(self.degree), *facts, *window, *target))
        if self.x.far is not None:
            self._write_logits(rows * columns, (*window, *target), value)

    def _write_logits(self, blocks: int, where: tuple[Any, ...], value: str) -> None:
        """The same from the logits, if those of any row lie too far apart for probabilities."""
        x, y, finish = self.x, self.y, self.finish
        name, a, b, scale = type(self.tag).__name__, self.tag_a, self.tag_b, finish.scale
        if name == "Pearson":  # whose quotient overflows where its exponential form does not
            name, a, b, scale = "Alpha", 2.0, 1.0, 2.0 * scale
        run = kernel("logit_pairs.cu", f"logit_pairs<{name}, {ctype(x.logits)}, {value}>")
        sides = (x.logits, x.parts, np.int64(len(x.x)), y.logits, y.parts, np.int64(len(y.x)))
        formula = (np.int32(self.swap), np.float64(a), np.float64(b), np.int32(finish.kind), np.float64(scale))
        rest = (np.float64(finish.c), np.float64(finish.alpha))
        run(self.space, blocks, 256, (x.far, y.far, *sides, np.int32(self.bins), *formula, *rest, *where))

    def strips(self, budget: int) -> tuple[int, int]:
        """Rows of the left and of the right side whose tables are held at once, multiples of a tile."""
        n, m = len(self.x.x), len(self.y.x)
        if not self.width:
            return max(n, 1), max(m, 1)
        room = max(2 * TILE, budget // (8 * self.width))
        if n + m <= room:
            return n, m
        right = min(m, max(TILE, room // 2 // TILE * TILE))
        return min(n, max(TILE, (room - right) // TILE * TILE)), right


def _parameters(tag: Any) -> tuple[float, float]:
    """What the constructor of a formula (``terms.cuh``) takes."""
    if type(tag).__name__ == "Alpha":
        return tag.alpha, tag.b
    return getattr(tag, "ceiling", 0.0), 0.0


def all_pairs(
    space: Space,
    tag: Any,
    finish: Any,
    x: Rows,
    y: Rows,
    out: Any,
    *,
    swap: bool = False,
    degree: float | None = 1.0,
    normalized: bool = True,
    budget: int,
) -> None:
    """out[i, j] = D(x_i, y_j), or D(y_j, x_i) if `swap`.

    `out` (n, m): float32 or float64, of any strides. If `y is x`, a symmetric divergence is computed for j >= i only.
    Tables take at most `budget` bytes, and never less than those of 128 rows.
    """
    if not out.size:
        return
    pairs = Pairs(space, tag, finish, x, y, swap, degree, normalized)
    half = y is x and type(tag).__name__ in SYMMETRIC
    n, m = out.shape
    down, across = pairs.strips(budget)
    for j0 in range(0, m, across):
        j1 = min(j0 + across, m)
        b = pairs.table(False, j0, j1) if pairs.width else None
        for i0 in range(0, n, down):
            i1 = min(i0 + down, n)
            if half and j1 <= i0:
                continue
            a = pairs.table(True, i0, i1) if pairs.width else None
            pairs.write(i0, i1, j0, j1, half, out[i0:i1, j0:j1], a, b)
    if half:
        side = -(-n // 32)
        strides = (np.int64(s // out.dtype.itemsize) for s in out.strides)
        kernel("pairs.cu", f"mirror<{ctype(out)}>")(space, (side, side), (32, 8), (out, np.int64(n), *strides))


def nearest(
    space: Space,
    tag: Any,
    finish: Any,
    x: Rows,
    y: Rows,
    k: int,
    *,
    swap: bool = False,
    degree: float | None = 1.0,
    normalized: bool = True,
    budget: int,
) -> tuple[Any, Any]:
    """Values and indices (n, k) of the k rows of y nearest to each row of x, ascending, equal values by index.

    Arguments as for `all_pairs`; the matrix is never held.
    """
    n, m = len(x.x), len(y.x)
    real = np.float64 if x.x.dtype.itemsize == 8 else np.float32
    values, where = space.empty((n, k), real), space.empty((n, k), np.int64)
    if not values.size:
        return values, where
    pairs = Pairs(space, tag, finish, x, y, swap, degree, normalized)
    down, across = pairs.strips(budget // 2)
    across = min(across, STRIP)
    each = 24 * k + across * np.dtype(real).itemsize
    down = min(down, max(TILE, int(max(budget // 2, LEAST) // each) // TILE * TILE))
    strip = space.empty((min(down, n), min(across, m)), real)
    for i0 in range(0, n, down):
        i1 = min(i0 + down, n)
        rows = i1 - i0
        ranks, indices = space.empty((2, rows, k), np.uint64), space.empty((2, rows, k), np.uint32)
        lengths = space.zeros(rows, np.int32)
        a = pairs.table(True, i0, i1) if pairs.width else None
        for j0 in range(0, m, across):
            j1 = min(j0 + across, m)
            b = pairs.table(False, j0, j1) if pairs.width else None
            block = strip[:rows, : j1 - j0]
            pairs.write(i0, i1, j0, j1, False, block, a, b)
            place = (np.int64(strip.shape[1]), np.int64(j0), np.int32(j1 - j0), np.int32(k), np.int64(rows))
            run = kernel("nearest.cu", f"least<{ctype(strip)}>")
            run(space, rows, 256, (block, *place, ranks, indices, lengths))
        run = kernel("nearest.cu", f"unrank<{ctype(strip)}>")
        found = (ranks, indices, lengths, np.int64(rows), np.int32(k), values[i0:i1], where[i0:i1])
        run(space, -(-rows * k // 256), 256, found)
    return values, where
