"""All pairs of rows: the matrix of a divergence, and the nearest rows without the matrix.

Blocks of ROWS x COLUMNS pairs at fixed places, bins in panels, so that no number depends on the threads or on the
memory at hand. A block: tables of its rows, a sum over bins for every pair (matrix product or tile), values, repairs.

Floors: a matrix product, or a tile's vector instructions, 16 float32 in each and two a cycle. Measured nanoseconds per
pair and bin (one AVX-512 core, 2000 x 2000 x 256, float64 unless stated): with a matrix product KL 0.045, about a
centre 0.049, Hellinger 0.043, Jeffreys (two products) 0.09. Tiles: TV float32 (3 instructions) 0.042; symmetric
chi-squared float32 (6) 0.10; JS float32 (18 and a division) 0.28; JS float64 (a logarithm) 0.65. Near-duplicates where
no product serves: Hellinger 0.18. Two threads: 1.7 to 1.9 times as fast.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

import numpy as np

from otdist.kernels import threads
from otdist.kernels.engines import BINS, SYMMETRIC, Array, Engine, engine_for
from otdist.kernels.faint import faint_pairs
from otdist.kernels.rows import LOGARITHM, ROOT
from otdist.kernels.settle import NEAR, keep_least, mirror, recompute, refine, settle, settle_logarithm
from otdist.kernels.tables import Scaled, fill
from otdist.kernels.tiles import tile

ROWS, COLUMNS = 512, 512
# Rows of the tiles and bins of the vectors come in these multiples.
ROW_PAD, BIN_PAD = 4, 16
EVERYWHERE = -(2**40)
AS_IT_IS = Scaled(1.0, 0.0)
HUGE_PAGES = 2**22


def _padded(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple


def _same(left: tuple[Any, ...], right: tuple[Any, ...]) -> bool:
    """Equality of kinds of tables: named tuples of different classes compare equal if their fields do."""
    return left == right and [type(kind) for kind in left] == [type(kind) for kind in right]


def _panels(bins: int) -> list[tuple[int, int]]:
    return list(threads.spans(bins, BINS))


class _Buffers:
    """Scratch arrays of one block under way, kept for the next one."""

    def __init__(self) -> None:
        self._arrays: dict[str, Array] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: Any) -> Array:
        size = int(np.prod(shape))
        flat = self._arrays.get(name)
        if flat is None or flat.size < size or flat.dtype != dtype:
            flat = self._arrays[name] = np.empty(size, dtype)
        return flat[:size].reshape(shape)


class _Tables:
    """Tables of one side, made once if they fit `budget` bytes, else block by block."""

    def __init__(self, side: str, engine: Engine, X: Array, budget: int) -> None:
        kinds, rows_ = (engine.left, engine.left_rows) if side == "left" else (engine.right, engine.right_rows)
        limit, real = rows_[0], engine.real
        self.side, self.kinds, self.X, self.limit, self.real = side, kinds, X, limit, real
        self.centre = engine.centre if engine.centre is not None else np.zeros(X.shape[1])
        self.panels = _panels(X.shape[1])
        self._whole: list[list[Array]] | None = None
        rows = _padded(len(X), ROW_PAD)
        widths = [_padded(k1 - k0, BIN_PAD) for k0, k1 in self.panels]
        self.bytes = len(kinds) * rows * sum(widths) * np.dtype(real).itemsize
        if _same(kinds, (AS_IT_IS,)) and X.dtype == real and X.shape == (rows, widths[0]) and np.all(limit < np.inf):
            self._whole, self.bytes = [[X[:, k0:k1]] for k0, k1 in self.panels], 0
            return
        if self.bytes > budget:
            return
        # NumPy asks for huge pages from 4 MB on: faults on small pages would cost as much as the tables
        flat = np.empty(max(self.bytes, HUGE_PAGES if self.bytes > HUGE_PAGES // 4 else 0), np.uint8)
        self._whole, start = [], 0
        for width in widths:
            size = rows * width * np.dtype(real).itemsize
            pieces = [flat[start + c * size : start + (c + 1) * size] for c in range(len(kinds))]
            self._whole.append([piece.view(real).reshape(rows, width) for piece in pieces])
            start += len(kinds) * size
        threads.run(self._fill_whole, threads.spans(rows, ROWS), 1.0 * self.bytes / 8)

    @property
    def kept(self) -> bool:
        return self._whole is not None

    def _fill_whole(self, i0: int, i1: int) -> None:
        assert self._whole is not None
        for (k0, k1), panel in zip(self.panels, self._whole, strict=True):
            for kind, table in zip(self.kinds, panel, strict=True):
                fill(kind, self.X, self.centre, i0, min(i1, len(self.X)), k0, k1, self.limit, table[i0:i1])

    def block(self, i0: int, i1: int, panel: int, buffers: _Buffers) -> list[Array]:
        rows = _padded(i1 - i0, ROW_PAD)
        if self._whole is not None:
            return [table[i0 : i0 + rows] for table in self._whole[panel]]
        k0, k1 = self.panels[panel]
        tables = []
        for number, kind in enumerate(self.kinds):
            table = buffers.take(f"{self.side}{number}", (rows, _padded(k1 - k0, BIN_PAD)), self.real)
            fill(kind, self.X, self.centre, i0, i1, k0, k1, self.limit, table)
            tables.append(table)
        return tables


class _Blocks:
    """Values of blocks of pairs."""

    def __init__(self, tag: Any, finish: Any, P: Array, Q: Array, normalized: bool, workspace_bytes: int) -> None:
        self.tag, self.finish, self.P, self.Q = tag, finish, P, Q
        self.engine = engine_for(tag, finish, P, Q, normalized)
        self._workspace = workspace_bytes
        self._left, self._right = {}, {}  # type: dict[int, _Tables], dict[int, _Tables]
        self._free: deque[_Buffers] = deque()
        self._lock = Lock()
        # A tile whose every sum can be trusted writes the values itself
        self._straight = (
            self.engine is not None and self.engine.unlimited and P.shape[1] <= BINS and finish.kind != LOGARITHM
        )
        if self.engine is not None:
            self._prepare(self.engine, self._workspace // 2)

    def _prepare(self, engine: Engine, budget: int) -> None:
        right = _Tables("right", engine, self.Q, budget)
        if self.P is self.Q and _same(engine.left, engine.right):
            left = right
        else:
            left = _Tables("left", engine, self.P, budget - right.bytes * right.kept)
        self._left[id(engine)], self._right[id(engine)] = left, right

    def in_flight(self) -> int:
        """Blocks that may be under way at once within a quarter of the workspace."""
        engine = self.engine
        bins = min(self.P.shape[1], BINS)
        kinds = (len(engine.left), len(engine.right)) if engine is not None else (0, 0)
        each = 8 * (4 * ROWS * COLUMNS + bins * (kinds[0] * ROWS + kinds[1] * COLUMNS))
        return max(1, int(self._workspace // 4 // each))

    def sums(self, engine: Engine, i0: int, i1: int, j0: int, j1: int, first: int, buffers: _Buffers) -> Array:
        """Sums over bins of the padded block."""
        left, right = self._left[id(engine)], self._right[id(engine)]
        shape = (_padded(i1 - i0, ROW_PAD), _padded(j1 - j0, ROW_PAD))
        G = buffers.take("sums", shape, np.float64)
        started = False
        for panel in range(len(left.panels)):
            a = left.block(i0, i1, panel, buffers)
            b = right.block(j0, j1, panel, buffers)
            if engine.tile is not None:
                tile(engine.tile, engine.factor, False, a[0], a[-1], b[0], b[-1], first, panel == 0, G, 0, 0, *shape)
                continue
            for x, y in zip(a, b, strict=True):
                if started:
                    G += np.matmul(x, y.T, out=buffers.take("product", shape, np.float64))
                else:
                    np.matmul(x, y.T, out=G)
                started = True
        return G

    def values(self, i0: int, i1: int, j0: int, j1: int, first: int, D: Array, a: int, b: int) -> None:
        """Write the values of a block to D[a:, b:]; only those with j >= i + first."""
        try:
            buffers = self._free.pop()
        except IndexError:
            buffers = _Buffers()
        rows, columns = i1 - i0, j1 - j0
        block = (i0, i1, j0, j1, first, D, a, b)
        todo = buffers.take("todo", (ROWS * COLUMNS,), np.int32)
        engine = self.engine
        if engine is None:
            i, j = np.ogrid[:rows, :columns]
            flat = np.flatnonzero((j >= i + first).ravel())
            todo = flat.astype(np.int32)
        elif self._straight and rows % ROW_PAD == columns % ROW_PAD == 0:
            left = self._left[id(engine)].block(i0, i1, 0, buffers)
            right = self._right[id(engine)].block(j0, j1, 0, buffers)
            factor = engine.factor * self.finish.scale ** (2 if self.finish.kind == ROOT else 1)
            root = self.finish.kind == ROOT
            tile(engine.tile, factor, root, left[0], left[-1], right[0], right[-1], first, True, D, a, b, rows, columns)
            todo = todo[:0]
        else:
            todo = todo[: self._settle(engine, block, todo, buffers)]
            if engine.rescue is not None and 16 * todo.size > rows * columns:
                with self._lock:
                    if id(engine.rescue) not in self._left:
                        self._prepare(engine.rescue, self._workspace // 4)
                again = buffers.take("again", (ROWS * COLUMNS,), np.int32)
                count = self._settle(engine.rescue, block, again, buffers)
                todo = again[:count]
        if todo.size and type(self.tag) in NEAR and self.finish.kind != LOGARITHM:
            todo = todo[: refine(self.tag, self.finish, self.P, self.Q, i0, j0, columns, todo, D, a, b)]
        if todo.size:
            todo = todo[: recompute(self.tag, self.finish, self.P, self.Q, i0, j0, columns, todo, D, a, b)]
        if todo.size:
            faint_pairs(self.tag, self.finish, self.P, self.Q, i0, j0, columns, todo, D, a, b)
        self._free.append(buffers)

    def _settle(self, engine: Engine, block: tuple[Any, ...], todo: Array, buffers: _Buffers) -> int:
        i0, i1, j0, j1, first, D, a, b = block
        with np.errstate(over="ignore", invalid="ignore"):  # of products that `settle` will recompute, on this thread
            G = self.sums(engine, i0, i1, j0, j1, first, buffers)
        place = (G, i0, j0, engine.left_rows, engine.right_rows, D, a, b, i1 - i0, j1 - j0, first, todo)
        if self.finish.kind == LOGARITHM:
            return int(settle_logarithm(self.finish, engine.affinity, *place))
        return int(settle(self.finish, *place))


def _run(blocks: _Blocks, work: Callable[..., None], pieces: Sequence[tuple[int, ...]]) -> None:
    """Every piece of work once, on at most as many threads as the workspace has room for."""
    n, m = len(blocks.P), len(blocks.Q)
    each = blocks.engine.nanoseconds if blocks.engine is not None else 2.0
    cost = each * n * m * blocks.P.shape[1]

    def some(first: int, step: int) -> None:
        for piece in pieces[first::step]:
            work(*piece)

    room = blocks.in_flight()
    with threads.single_blas():
        if room >= threads.thread_count():
            threads.run(work, pieces, cost)
        else:
            threads.run(some, [(g, room) for g in range(room)], cost)


def all_pairs(tag: Any, finish: Any, P: Array, Q: Array, out: Array, *, normalized: bool, workspace_bytes: int) -> None:
    """out[i, j] = value of the divergence `tag` between rows P[i] and Q[j].

    P (n, k) and Q (m, k): C-contiguous, of one type, float32 or float64, entries finite and >= 0. `out` is (n, m), of
    any strides, float64 or the type of P. `normalized`: rows sum to 1 within rounding. If `Q is P`, a symmetric
    divergence is computed for j >= i only. Memory: `workspace_bytes`, and never less than 16 MB.
    """
    blocks = _Blocks(tag, finish, P, Q, normalized, workspace_bytes)
    half = Q is P and type(tag) in SYMMETRIC
    direct = out.flags.c_contiguous and out.dtype == P.dtype and out.flags.aligned

    def work(i0: int, i1: int, j0: int, j1: int) -> None:
        first = i0 - j0 if half else EVERYWHERE
        if direct:
            blocks.values(i0, i1, j0, j1, first, out, i0, j0)
            return
        D = np.empty((i1 - i0, j1 - j0), P.dtype)
        blocks.values(i0, i1, j0, j1, first, D, 0, 0)
        if not half:
            out[i0:i1, j0:j1] = D
            return
        for i in range(i1 - i0):
            start = max(0, i + first)
            out[i0 + i, j0 + start : j1] = D[i, start:]

    def reflect(i0: int, i1: int, j0: int, j1: int) -> None:
        if direct:
            mirror(out, i0, j0, i1 - i0, j1 - j0, i0 - j0)
            return
        for i in range(i1 - i0):
            start = max(j0, i0 + i + 1)
            out[start:j1, i0 + i] = out[i0 + i, start:j1]

    columns = list(threads.spans(len(Q), COLUMNS))
    pieces = [(*i, *j) for i in threads.spans(len(P), ROWS) for j in columns if not half or j[1] > i[0]]
    _run(blocks, work, pieces)
    if half:
        threads.run(reflect, pieces, 1.0 * out.size)


def nearest(
    tag: Any, finish: Any, P: Array, Q: Array, k: int, *, normalized: bool, workspace_bytes: int
) -> tuple[Array, Array]:
    """Values and indices (n, k) of the k rows of Q nearest to each row of P, ascending, equal values by index.

    Arguments as for `all_pairs`; the matrix is never held.
    """
    blocks = _Blocks(tag, finish, P, Q, normalized, workspace_bytes)
    n = len(P)
    values, indices = np.empty((n, k), P.dtype), np.empty((n, k), np.int64)

    def work(i0: int, i1: int) -> None:
        D = np.empty((ROWS, COLUMNS), P.dtype)
        v, c = values[i0:i1], indices[i0:i1]
        for j0, j1 in threads.spans(len(Q), COLUMNS):
            blocks.values(i0, i1, j0, j1, EVERYWHERE, D, 0, 0)
            keep_least(D, i1 - i0, j1 - j0, j0, v, c)
        order = np.lexsort((c, v))
        v[:], c[:] = np.take_along_axis(v, order, 1), np.take_along_axis(c, order, 1)

    _run(blocks, work, list(threads.spans(n, ROWS)))
    return values, indices
