"""Two clouds at one scale and one epsilon, in blocks: the list of block pairs that carry mass, and sweeps over it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from otdist._arrays import Array
from otdist.kernels import blocks, blocks_list, costs, threads
from otdist.kernels.blocks import AXES, BLOCK, HELD
from otdist.kernels.kdtree import MARGIN, Tree
from otdist.transport._solution import Watch

LOG2E = 1.4426950408889634
# Bytes of exponentials that are held: what the second-level cache keeps beside the rest.
HELD_BYTES = 1 << 20
# Pairs of a compiled piece, about 0.1 s; pairs that are worth columns of their own; most tiles.
PIECE, TILE, TILES = 1 << 28, 1 << 24, 16
# Nanoseconds of a pair, and of a row block in the search for its list: whether to wake a thread.
PAIR_NS, LIST_NS = 0.2, 5000.0
# Row blocks whose lists one call makes.
LISTED = 256


@dataclass(frozen=True)
class Cloud:
    """Points in the order of a tree, centred, and their masses."""

    points: Array  # (n, d)
    mass: Array  # (n,)

    def means(self, size: int) -> Cloud:
        """Cells of `size` consecutive points: their masses and centres of mass."""
        starts = np.arange(0, len(self.mass), size)
        mass = np.add.reduceat(self.mass, starts)
        moments = np.add.reduceat(self.points * self.mass[:, None], starts, axis=0)
        return Cloud(moments / mass[:, None], mass)


@dataclass(frozen=True)
class List:
    """Block pairs in rows, the bound of the mass left out, and the potentials (in bits) at which it holds."""

    start: Array  # (row blocks + 1,)
    cols: Array  # (pairs,) int32
    dropped: Array  # (row blocks,)
    phi: Array
    gamma: Array

    @property
    def pairs(self) -> int:
        return len(self.cols) * BLOCK * BLOCK

    def loss(self, phi: Array, gamma: Array) -> float:
        """Bound of the mass left out at other potentials."""
        if not self.dropped.any():
            return 0.0
        rise = phi - self.phi
        starts = np.arange(0, len(rise), BLOCK)
        rows = np.maximum.reduceat(rise, starts) + max(float(np.max(gamma - self.gamma)), -1000.0)
        with np.errstate(over="ignore"):
            return float(self.dropped @ np.exp2(np.minimum(rows, 2000.0))) if rows.max() < 2000.0 else np.inf


class _Side:
    """One cloud in units in which costs are bits."""

    def __init__(self, cloud: Cloud, scale: float) -> None:
        self.points = np.ascontiguousarray(cloud.points * scale)
        self.mass = cloud.mass
        n, d = self.points.shape
        self.count = -(-n // BLOCK)
        self.padded = np.zeros(self.count * BLOCK)
        self.padded[:n] = cloud.mass
        starts = np.arange(0, n, BLOCK)
        self.blocks = np.add.reduceat(cloud.mass, starts)
        low, high = (f.reduceat(self.points, starts, axis=0) for f in (np.minimum, np.maximum))
        self.centre = np.zeros((self.count, AXES))
        self.centre[:, :d] = 0.5 * (low + high)
        full = np.zeros((self.count * BLOCK, AXES))
        full[:n, :d] = self.points - np.repeat(self.centre[:, :d], BLOCK, axis=0)[:n]
        self._local = np.ascontiguousarray(full.reshape(self.count, BLOCK, AXES).transpose(0, 2, 1))
        self._coarse: Array | None = None
        self._tree: Tree | None = None

    def local(self, dtype: Any) -> Array:
        """(blocks, AXES, BLOCK) differences from the centres."""
        if dtype == np.float64:
            return self._local
        if self._coarse is None:
            self._coarse = self._local.astype(np.float32)
        return self._coarse

    def pad(self, values: Array, with_: float = 0.0) -> Array:
        out = np.full(self.count * BLOCK, with_)
        out[: len(values)] = values
        return out

    def nodes(self, potential: Array) -> tuple[Array, float]:
        """Affine bounds of a potential from above, as those of its negative from below, and their rounding."""
        if self._tree is None:
            self._tree = Tree(self.points, -potential)
        else:
            self._tree.price[: len(potential)] = -potential
            self._tree.fit()
        return self._tree.nodes, MARGIN * self._tree.scale

    def forget(self) -> None:
        self._tree = None


class Level:
    """Potentials of two clouds in bits; costs are those of the tag, of points scaled so that they are bits."""

    def __init__(self, tag: Any, x: Cloud, y: Cloud, epsilon: float, kappa: tuple[float, float], memory: int) -> None:
        scale = (LOG2E / epsilon) ** (1.0 / costs.power(tag))
        self.tag, self.kappa, self.memory = tag, kappa, memory
        self.x, self.y = _Side(x, scale), _Side(y, scale)
        self.log_b = np.log2(self.y.mass)

    def listed(self, phi: Array, gamma: Array, cut: float) -> List:
        """The block pairs that may carry more than 2^cut of the product of their masses."""
        (rows, slack_x), (cols, slack_y) = self.x.nodes(phi), self.y.nodes(gamma)
        count, d = self.x.count, self.x.points.shape[1]
        before = np.concatenate([[0.0], np.cumsum(self.y.blocks)])
        start, dropped = np.zeros(count + 1, np.int64), np.zeros(count)

        def work(out: Array) -> None:
            def tile(first: int, last: int) -> None:
                blocks_list.listed(
                    self.tag, rows, first, last, cols, self.y.count, before, self.x.blocks, cut, slack_x + slack_y,
                    start, out, dropped, np.zeros(d), np.empty(3 * d + 1), np.empty(d), np.empty(256, np.int64),
                )  # fmt: skip

            threads.run(tile, threads.spans(count, LISTED), LIST_NS * count)

        work(np.empty(0, np.int32))
        np.cumsum(start, out=start)
        found = np.empty(int(start[-1]), np.int32)
        if len(found):
            work(found)
        return List(start, found, dropped, phi.copy(), gamma.copy())

    def sweep(
        self, at: List, phi: Array, gamma: Array, dtype: Any, watch: Watch, seen: int
    ) -> tuple[Array, Array] | None:
        """phi that solves the rows at gamma, and the columns of that plan, over the list; None if told to stop."""
        x, y = self.x, self.y
        n, m = len(phi), len(gamma)
        G, row = y.pad(gamma + self.log_b, -np.inf), x.pad(phi)
        out = np.zeros(x.count * BLOCK)
        tiles = int(min(max(at.pairs // TILE, 1), TILES, max(self.memory // (16 * len(y.padded)), 1)))
        columns = np.zeros((tiles, y.count * BLOCK))
        pieces = [_pieces(at.start, *ends) for ends in _balanced(at.start, tiles)]
        U, V = x.local(dtype), y.local(dtype)
        longest = int(np.max(np.diff(at.start)))
        slots = max(min(longest, HELD_BYTES // (HELD * BLOCK * np.dtype(dtype).itemsize)), 1)
        scratch = [
            (np.empty((slots, HELD, BLOCK), dtype), np.empty((AXES, HELD), dtype), np.empty(HELD, dtype),
             np.empty(BLOCK, dtype), np.empty(HELD), np.empty(HELD, dtype))
            for _ in range(tiles)
        ]  # fmt: skip

        def work(tile: int, first: int, last: int) -> None:
            blocks.sweep(
                self.tag, first, last, at.start, at.cols, x.centre, U, row, x.padded, y.centre, V, G, self.kappa[0],
                *scratch[tile], columns[tile], out,
            )  # fmt: skip

        for turn in range(max(map(len, pieces))):
            if turn and watch.stop("sweep", seen):
                return None
            todo = [(tile, *piece[turn]) for tile, piece in enumerate(pieces) if turn < len(piece)]
            threads.run(work, todo, PAIR_NS * min(at.pairs, tiles * PIECE))
        new, col = out[:n], columns.sum(axis=0)[:m]
        lost = np.flatnonzero(np.isnan(new))
        if len(lost):
            new[lost] = -self.kappa[0] * self._logsums(x.points, y.points, G[:m], lost)
            blocks.add_rows(self.tag, x.points, y.points, G[:m], lost, new[lost] + np.log2(x.mass[lost]), col)
        return new, col

    def _logsums(self, X: Array, Y: Array, G: Array, which: Array) -> Array:
        found = np.empty(len(which))

        def work(first: int, last: int) -> None:
            blocks.logsums(self.tag, X, Y, G, which, first, last, np.empty(len(Y)), found)

        threads.run(work, threads.spans(len(which), max((1 << 24) // len(Y), 1)), 4.0 * len(which) * len(Y))
        return found

    def columns_solved(self, phi: Array, gamma: Array, col: Array) -> Array:
        """gamma that solves the columns at phi, from the sums of the columns at gamma."""
        ratio = col / self.y.mass
        safe = (ratio > blocks.LEAST) & (ratio < blocks.MOST)
        kappa = self.kappa[1]
        new = -kappa * (np.log2(np.where(safe, ratio, 1.0)) - gamma)
        lost = np.flatnonzero(~safe)
        if len(lost):
            new[lost] = -kappa * self._logsums(self.y.points, self.x.points, phi + np.log2(self.x.mass), lost)
        return np.asarray(new)


def _balanced(start: Array, tiles: int) -> list[tuple[int, int]]:
    """Consecutive row blocks of about as many pairs each."""
    work = start + np.arange(len(start))
    ends = np.searchsorted(work, work[-1] * np.arange(1, tiles) / tiles).tolist()
    ends = [0, *ends, len(start) - 1]
    return list(pairwise(ends))


def _pieces(start: Array, first: int, last: int) -> list[tuple[int, int]]:
    """Consecutive row blocks of at most PIECE pairs, or one."""
    out = []
    while first < last:
        stop = int(np.searchsorted(start, start[first] + PIECE // BLOCK**2, side="right")) - 1
        stop = min(max(stop, first + 1), last)
        out.append((first, stop))
        first = stop
    return out
