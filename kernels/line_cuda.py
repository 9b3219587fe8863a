"""Transport on the line on the device: launches of `sort.cu`, `levels.cu`, `line.cu` and `line_pulls.cu`.

    line_distance(space, x, y, a, b, p, tolerance, wanted) -> Line

the same as on the CPU (`otdist/_quantiles.py`): x (P or 1, n), y (P or 1, m), both float32 or both float64, at any
strides; one row stands for a whole batch; a, b weights, or None for equal ones. Nothing waits for the device: numbers
that are no points or no weights, and distances beyond float64, are noted in `space.flags[0]`, and their rows are NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from otdist.kernels.device import Space, ctype, kernel

# Bits of the status word.
NOT_FINITE, NOT_WEIGHTS, OUT_OF_RANGE = 1, 2, 4
# Threads and items of a thread that sort a tile; the last is that of long rows.
SORTS = ((32, 4), (64, 8), (256, 8))
# Cells, weights and points of a block.
PIECE, POINTS = 2048, 256
# Items with and without the order, by the type of the points.
ITEMS = {
    ("float", False): ("unsigned", np.uint32, 1),
    ("double", False): ("long long", np.int64, 1),
    ("float", True): ("unsigned long long", np.uint64, 1),
    ("double", True): ("ulonglong2", np.uint64, 2),
}


@dataclass(frozen=True)
class Line:
    """Distances of rows, and their gradients, float64."""

    value: Any  # (P,)
    gradients: tuple[Any, ...]  # with respect to x, y, a, b: (P, n), (P, m), (P, n), (P, m), or None


@dataclass(frozen=True)
class Sorted:
    """Sorted rows, items of `item` as `kernels/sort.cuh` has them."""

    items: Any  # (rows, n) or (rows, n, 2)
    item: str
    n: int

    @property
    def row(self) -> np.int64:
        """Items from row to row; 0 where one row serves all."""
        return np.int64(self.n if len(self.items) > 1 else 0)

    def given(self) -> tuple[Any, ...]:
        return self.items, self.row, np.int32(self.n)


def sort_rows(space: Space, x: Any, *, ordered: bool, status: Any) -> Sorted:
    """Every row of x (rows, n) sorted; with the order if asked for."""
    rows, n = x.shape
    item, dtype, words = ITEMS[ctype(x), ordered]
    shape = (rows, n) if words == 1 else (rows, n, words)
    threads, each = next((sort for sort in SORTS if n <= sort[0] * sort[1]), SORTS[-1])
    tile = threads * each
    tiles = -(-n // tile)
    out = space.empty(shape, dtype)
    strides = (np.int64(stride // x.dtype.itemsize) for stride in x.strides)
    kernel("sort.cu", f"sort_tiles<{ctype(x)}, {item}, {threads}, {each}>")(
        space, rows * tiles, threads, (x, np.int64(n), *strides, np.int32(tiles), out, status)
    )
    width, other = tile, space.empty(shape, dtype) if n > tile else None
    while width < n:
        kernel("sort.cu", f"merge_runs<{item}, {threads}, {each}>")(
            space, rows * tiles, threads, (out, np.int64(n), np.int64(width), np.int32(tiles), other)
        )
        out, other, width = other, out, 2 * width
    return Sorted(out, item, n)


def line_distance(
    space: Space,
    x: Any,
    y: Any,
    a: Any,
    b: Any,
    p: float,
    tolerance: float,
    wanted: Sequence[bool] = (False,) * 4,
) -> Line:
    """W_p of every row, see above. Gradients in weights are those of the formula with weights divided by their sum."""
    batch = max(len(part) for part in (x, y, a, b) if part is not None)
    ordered = any(wanted) or a is not None or b is not None
    status = space.flags
    return _Rows(
        space,
        batch,
        sort_rows(space, x, ordered=ordered, status=status),
        sort_rows(space, y, ordered=ordered, status=status),
        a,
        b,
        p,
        tolerance,
    ).outcome(wanted)


class _Rows:
    """The work on sorted rows."""

    def __init__(self, space: Space, batch: int, x: Sorted, y: Sorted, a: Any, b: Any, p: float, tolerance: float):
        self.space, self.batch, self.x, self.y, self.p = space, batch, x, y, np.float64(p)
        self.n, self.m, self.item = x.n, y.n, x.item
        self.power = {1.0: 1, 2.0: 2}.get(p, 3)
        self.weighted = a is not None or b is not None
        self.equal = not self.weighted and self.n == self.m
        self.kind = "Stored128" if self.weighted else "Counted"
        common = math.gcd(self.n, self.m)
        self.steps = (0, 0) if self.weighted else (self.m // common, self.n // common)
        self.total = 0.0 if self.weighted else float(self.n if self.equal else self.n * self.steps[0])
        self.units, self.scales = self.real(batch), self.real(batch)
        self.run(
            "line.cu",
            f"units_of<{self.item}>",
            -(-batch // 128),
            128,
            *x.given(),
            *y.given(),
            np.int32(batch),
            self.units,
        )
        self.levels_x = self.levels_y = None
        if self.weighted:
            self.weigh(a, b, tolerance)

    def run(self, file: str, name: str, grid: int, block: int, *args: Any) -> None:
        kernel(file, name)(self.space, grid, block, args)

    def real(self, *shape: int) -> Any:
        return self.space.empty(shape, np.float64)

    def weigh(self, a: Any, b: Any, tolerance: float) -> None:
        """Levels of both sides."""
        space, status = self.space, self.space.flags
        sides = []
        for side, w in ((self.x, a), (self.y, b)):
            tiles = np.int32(-(-side.n // PIECE))
            kind = "double" if w is None else ctype(w)
            w = None if w is None else space.contiguous(w)
            given = (w, np.int64(side.n if w is not None and len(w) > 1 else 0), *side.given())
            sums = space.empty((self.batch, int(tiles), 2), np.uint64)
            sides.append((f"<{kind}, {self.item}>", self.batch * int(tiles), given, tiles, sums))
        for types, grid, given, tiles, sums in sides:
            self.run("levels.cu", f"weigh_tiles{types}", grid, 256, *given, tiles, sums, status)
        totals, excesses = space.empty((self.batch, 2), np.uint64), self.real(self.batch)
        both = sides[0][4], sides[0][3], sides[1][4], sides[1][3]
        last = np.float64(tolerance), totals, excesses, self.units, status
        self.run("levels.cu", "totals_of", self.batch, 128, *both, *last)
        found = []
        for which, (types, grid, given, tiles, sums) in enumerate(sides):
            side = (self.x, self.y)[which]
            more = excesses, np.int32(which), tiles, sums, totals
            levels = space.empty((self.batch, side.n, 2), np.uint64)
            self.run("levels.cu", f"levels_of{types}", grid, 256, *given, *more, levels)
            found.append(levels)
        self.levels_x, self.levels_y = found

    def pairs(self) -> tuple[Any, ...]:
        """What every kernel over both sides begins with, and levels."""
        return (*self.x.given(), *self.y.given(), self.levels_x, self.levels_y, *map(np.uint64, self.steps))

    def turned(self) -> tuple[Any, ...]:
        """The same with the sides exchanged."""
        return (*self.y.given(), *self.x.given(), self.levels_y, self.levels_x, *map(np.uint64, self.steps[::-1]))

    def parts(self, power: int) -> tuple[Any, np.int32]:
        pieces = -(-(self.n if self.equal else self.n + self.m - 1) // PIECE)
        parts = self.real(self.batch, pieces)
        name = f"cells<{self.item}, {self.kind}, {power}, {'true' if self.equal else 'false'}>"
        last = (np.int32(pieces), parts)
        self.run("line.cu", name, self.batch * pieces, 256, *self.pairs(), self.units, self.scales, self.p, *last)
        return parts, np.int32(pieces)

    def outcome(self, wanted: Sequence[bool]) -> Line:
        value, status = self.real(self.batch), self.space.flags
        endless = bool(np.isinf(self.p))
        widest = (*self.parts(0), self.units, self.scales, value if endless else None, status)
        self.run("line.cu", "scales_of", self.batch, 128, *widest)
        gradients: list[Any] = [None] * 4
        if not endless:
            reach = self.real(self.batch)
            given = (*self.parts(self.power), np.float64(self.total), self.levels_x, np.int32(self.n), self.p)
            self.run("line.cu", "roots", self.batch, 128, *given, self.units, self.scales, value, reach, status)
            if any(wanted[:2]):
                gradients[:2] = self.pulls(reach, value)
            if any(wanted[2:]):
                gradients[2:] = self.potentials(reach, value)
        return Line(value, tuple(g if want else None for g, want in zip(gradients, wanted, strict=True)))

    def pulls(self, reach: Any, value: Any) -> list[Any]:
        out = []
        for side, pairs, levels, step in (
            (self.x, self.pairs(), self.levels_x, self.steps[0]),
            (self.y, self.turned(), self.levels_y, self.steps[1]),
        ):
            pieces = -(-side.n // POINTS)
            slopes, gradient = self.real(self.batch, side.n), self.real(self.batch, side.n)
            types = f"<{self.item}, {self.kind}"
            name = f"slopes_of{types}, {self.power}, {'true' if self.equal else 'false'}>"
            last = (np.int32(pieces), slopes)
            self.run("line_pulls.cu", name, self.batch * pieces, 256, *pairs, self.units, reach, self.p, *last)
            given = (*side.given(), levels, np.uint64(max(step, 1)), slopes, value, np.int32(pieces), gradient)
            self.run("line_pulls.cu", f"share_slopes{types}>", self.batch * pieces, 256, *given)
            out.append(gradient)
        return out

    def potentials(self, reach: Any, value: Any) -> list[Any]:
        out = []
        for which, (side, pairs) in enumerate(((self.x, self.pairs()), (self.y, self.turned()))):
            tiles = -(-side.n // PIECE)
            grid, types = self.batch * tiles, f"<{self.item}, {self.power}>"
            duals, gradient = self.real(self.batch, side.n), self.real(self.batch, side.n)
            sums, parts = self.real(self.batch, tiles, 2), self.real(self.batch, tiles)
            begins = np.int32(which == 0)
            for turn in range(2):
                first = np.int32(turn == which)
                given = (*pairs[:-2], self.units, reach, self.p, first, begins, np.int32(tiles), sums)
                self.run("line_pulls.cu", f"rise_tiles{types}", grid, 256, *given)
                more = (np.int32(turn), duals, parts)
                self.run("line_pulls.cu", f"potentials_of{types}", grid, 256, *given, *more)
            own = (*side.given(), pairs[6], duals, parts, np.int32(tiles), value, self.p, gradient)
            self.run("line_pulls.cu", f"centred<{self.item}>", grid, 256, *own)
            out.append(gradient)
        return out
