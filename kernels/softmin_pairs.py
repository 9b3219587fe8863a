"""Passes of the soft-min kernels over all pairs: tiles of rows on the threads, merged in one order.

A tile has its own sums of the columns, so no bit depends on the threads. Its size depends on the numbers of rows and
columns only. Rounds of tiles take at most about 0.1 s; between them the caller may stop. Memory O(n + m) beside a
stored matrix: for a thread a few rows, or one tile of costs where these come from products.

Costs between points with up to DIRECT coordinates are made in the loop that takes their exponential. With more
coordinates they are made tile by tile: float32 from a product of centred, scaled coordinates, float64 with the digits
that cancelled made again (`cost_tiles.py`). At d = 64, on a busy core, a float32 pair
took 1.7 to 2.1 ns and a float64 pair 3.5.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from otdist.kernels import softmin, threads
from otdist.kernels.cost_tiles import differences, from_products
from otdist.kernels.costs import Euclidean, Raised
from otdist.kernels.profiles import Squared
from otdist.kernels.softmin_costs import Fused, Inner, Product, Stored, degree

Array = np.ndarray[Any, np.dtype[Any]]
Source = Callable[[int, int, "Room"], Any]

LOG2E = math.log2(math.e)
DIRECT = 8
# Pairs of a tile, and of one that is made by products; rows at least; pairs and tiles of a round.
TILE, MADE, LEAST, ROUND, WIDTH = 1 << 19, 1 << 18, 64, 1 << 27, 64


def face(x: Array) -> Array:
    """A read-only view, contiguous: kernels are compiled for one kind of array."""
    view = np.ascontiguousarray(x).view()
    view.flags.writeable = False
    return view


class Room:
    """Scratch of one thread, kept from tile to tile."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, Any], Array] = {}

    def get(self, name: str, shape: tuple[int, ...], real: Any) -> Array:
        """Uninitialised, and apart from whatever else is in use: it owns its memory."""
        size = math.prod(shape)
        held = self._held.get((name, real))
        if held is None or held.size < size:
            held = self._held[name, real] = np.empty(size, real)
        return held[:size].reshape(shape)


class StoredPairs:
    """All pairs of a cost matrix (n, m), float32 or float64."""

    made = False

    def __init__(self, C: Array) -> None:
        self.C = C
        self.shape: tuple[int, int] = (C.shape[0], C.shape[1])

    def source(self, k: float, real: Any) -> Source:
        return lambda i0, i1, room: Stored(face(self.C[i0:i1]), real(k))

    def squares(self, k: float, real: Any) -> tuple[Array, Array] | None:
        """What `source` leaves to the potentials of rows and columns, if anything."""
        return None

    def turned(self, columns: Array) -> StoredPairs:
        """The pairs of these columns, as rows, with all rows."""
        return StoredPairs(np.ascontiguousarray(self.C[:, columns].T))


class PointPairs:
    """All pairs of the points x (n, d) and y (m, d), float64, at a cost of `kernels/costs.py`."""

    def __init__(self, x: Array, y: Array, tag: Any) -> None:
        self.x, self.y, self.tag = np.array(x, np.float64, order="C"), np.array(y, np.float64, order="C"), tag
        self.shape: tuple[int, int] = (len(x), len(y))
        self.made = x.shape[1] > DIRECT
        base = tag.base if isinstance(tag, Raised) else tag
        self._products = isinstance(base, Squared | Euclidean)
        self._centre = 0.5 * (x.mean(axis=0) + y.mean(axis=0))
        self._kept: dict[Any, Source] = {}
        self._inner = isinstance(tag, Squared) and not self.made

    def source(self, k: float, real: Any) -> Source:
        if (k, real) not in self._kept:
            for old in [key for key in self._kept if key[1] is real]:
                del self._kept[old]
            single = real is np.float32
            if self.made:
                self._kept[k, real] = self._products_32(k) if single and self._products else self._tiles(k, real)
            else:
                self._kept[k, real] = self._fused(k, real)
        return self._kept[k, real]

    def _scaled(self, k: float) -> tuple[Array, Array]:
        """Centred coordinates at which k c_ij is the cost."""
        scale = k ** (1.0 / degree(self.tag))
        return (self.x - self._centre) * scale, (self.y - self._centre) * scale

    def squares(self, k: float, real: Any) -> tuple[Array, Array] | None:
        """What `source` leaves to the potentials of rows and columns, if anything."""
        if not (self._inner and real is np.float32):
            return None
        x, y = self._scaled(k)
        return np.einsum("ij,ij->i", x, x), np.einsum("ij,ij->i", y, y)

    def _fused(self, k: float, real: Any) -> Source:
        x, y = self._scaled(k) if real is np.float32 else (self.x, self.y)
        if self._inner and real is np.float32:
            doubled, others = (tuple(face(z[:, q].astype(real)) for q in range(z.shape[1])) for z in (2.0 * x, y))
            return lambda i0, i1, room: Inner(tuple(face(z[i0:i1]) for z in doubled), others)
        factor = real(1.0 if real is np.float32 else k)
        left, right = (tuple(face(np.asarray(z[:, q], real)) for q in range(z.shape[1])) for z in (x, y))
        return lambda i0, i1, room: Fused(self.tag, tuple(face(z[i0:i1]) for z in left), right, factor)

    def _products_32(self, k: float) -> Source:
        x, y = self._scaled(k)
        xs, ys = (face(np.einsum("ij,ij->i", z, z).astype(np.float32)) for z in (x, y))
        left, right = (2.0 * x).astype(np.float32), y.astype(np.float32).T

        def tile(i0: int, i1: int, room: Room) -> Product:
            G = room.get("products", (i1 - i0, len(ys)), np.float32)
            np.matmul(left[i0:i1], right, out=G)
            return Product(self.tag, face(G), face(xs[i0:i1]), ys)

        return tile

    def _tiles(self, k: float, real: Any) -> Source:
        x, y = self.x - self._centre, self.y - self._centre
        squares = (np.einsum("ij,ij->i", x, x), np.einsum("ij,ij->i", y, y)) if self._products else None
        columns = np.ascontiguousarray((y if self._products else self.y).T)
        rows = np.arange(len(x), dtype=np.int32)

        def tile(i0: int, i1: int, room: Room) -> Stored:
            C = room.get("costs", (i1 - i0, len(y)), np.float64)
            if squares is None:
                differences(self.tag, self.x, rows[i0:i1], columns, C)
            else:
                np.matmul(x[i0:i1], columns, out=C)
                from_products(self.tag, self.x[i0:i1], rows[: i1 - i0], self.y, squares[0][i0:i1], squares[1], C)
            return Stored(face(C), real(k))

        return tile

    def turned(self, columns: Array) -> PointPairs:
        return PointPairs(np.ascontiguousarray(self.y[columns]), self.x, self.tag)

    def matrix(self) -> Array:
        """All costs, (n, m) float64."""
        C, source = np.empty(self.shape), self._tiles(1.0, np.float64)

        def work(_place: int, i0: int, i1: int, room: Room) -> None:
            C[i0:i1] = source(i0, i1, room).C

        each(self, work, 2.0, lambda results: None)
        return C


Pairs = StoredPairs | PointPairs


def tiles(pairs: Pairs) -> list[list[tuple[int, int]]]:
    """Rounds of tiles (start, stop) of rows."""
    n, m = pairs.shape
    size = max((MADE if pairs.made else TILE) // m, 16 if pairs.made else LEAST)
    size = size // LEAST * LEAST if size >= LEAST else size // 4 * 4
    count = max(1, min(WIDTH, ROUND // (size * m)))
    spans = list(threads.spans(n, size))
    return [spans[start:stop] for start, stop in threads.spans(len(spans), count)]


def each(
    pairs: Pairs,
    work: Callable[..., Any],
    nanoseconds: float,
    after: Callable[[list[Any]], None],
    proceed: Callable[[], bool] | None = None,
) -> bool:
    """work(place in its round, i0, i1, room) on all tiles, `after` with the results of each round.

    Between two rounds `proceed` is asked; False ends it, and is then returned.
    """
    rooms: deque[Room] = deque()

    def one(place: int, i0: int, i1: int) -> Any:
        try:
            room = rooms.pop()
        except IndexError:
            room = Room()
        result = work(place, i0, i1, room)
        rooms.append(room)
        return result

    def rounds() -> bool:
        for number, some in enumerate(tiles(pairs)):
            if number > 0 and proceed is not None and not proceed():
                return False
            cost = nanoseconds * (some[-1][1] - some[0][0]) * pairs.shape[1]
            after(threads.run(one, [(place, *span) for place, span in enumerate(some)], cost))
        return True

    if not pairs.made:
        return rounds()
    with threads.single_blas():
        return rounds()


class Pass:
    """What one pass found: h in base 2, sums of the columns, rows redone, the largest |log2(w_i / a_i)|."""

    def __init__(self, n: int, m: int) -> None:
        self.h, self.columns, self.redone, self.far = np.empty(n), np.zeros(m), 0, 0.0


def eliminate(
    pairs: Pairs,
    k: float,
    u: Array | None,
    v: Array,
    a: Array,
    less: float = 0.0,
    real: Any = np.float64,
    proceed: Callable[[], bool] | None = None,
) -> Pass | None:
    """Solve the rows at v from the guess u (`softmin.eliminate`); None if `proceed` said no between two rounds."""
    n, m = pairs.shape
    source, found, squares = pairs.source(k, real), Pass(n, m), pairs.squares(k, real)
    if squares is not None:
        u, v = None if u is None else u - squares[0], v - squares[1]
    guess = np.full(n, np.inf, real) if u is None else u.astype(real)
    across, masses = face(v.astype(real)), face(a)
    sums = np.empty((max(map(len, tiles(pairs))), m))

    def work(place: int, i0: int, i1: int, room: Room) -> tuple[int, float]:
        buffer, scale = room.get("rows", (softmin.ROWS, m), real), room.get("scale", (softmin.ROWS,), real)
        part = room.get("part", (m,), real)
        tile = source(i0, i1, room)
        h = found.h[i0:i1]
        redone, far = softmin.eliminate(
            tile, face(guess[i0:i1]), across, masses[i0:i1], less, h, buffer, scale, part, sums[place]
        )
        return int(redone), float(far)

    def after(results: list[tuple[int, float]]) -> None:
        for place, (redone, far) in enumerate(results):
            found.columns += sums[place]
            found.redone += redone
            found.far = max(found.far, far)

    if not each(pairs, work, 0.2 if real is np.float32 else 0.8, after, proceed):
        return None
    if squares is not None:
        found.h += squares[0]
    return found


def column_logs(pairs: Pairs, k: float, w: Array, columns: Array) -> Array:
    """log2 sum_i 2^(w_i - k c_ij) of some columns j, each by a true log-sum-exp."""
    out = np.empty(len(columns))
    n = pairs.shape[0]
    for start, stop in threads.spans(len(columns), max((1 << 22) // n, 1)):
        found = eliminate(pairs.turned(columns[start:stop]), k, None, w, np.full(stop - start, 1.0))
        out[start:stop] = -found.h if found is not None else -np.inf
    return out


class Judged:
    """What one pass at fixed potentials says of the rows, and of the columns."""

    def __init__(self, n: int, m: int) -> None:
        self.columns = np.zeros(m)
        self.rows = np.empty((softmin.FIGURES, n))  # in the order of `softmin.judge`


def judge(pairs: Pairs, k: float, u: Array, v: Array, g: Array, y: Array, r: Array) -> Judged:
    """Sums of the plan 2^(u_i + v_j - k c_ij) (`softmin.judge`), float64."""
    n, m = pairs.shape
    source, found = pairs.source(k, np.float64), Judged(n, m)
    u, v, g, y, r = map(face, (u, v, g, y, r))
    sums = np.empty((max(map(len, tiles(pairs))), m))

    def work(place: int, i0: int, i1: int, room: Room) -> None:
        tile, out = source(i0, i1, room), room.get("rows", (softmin.FIGURES, i1 - i0), np.float64)
        softmin.judge(tile, u[i0:i1], v, g, y, r, out, sums[place])
        found.rows[:, i0:i1] = out

    def after(results: list[None]) -> None:
        for place in range(len(results)):
            found.columns += sums[place]

    each(pairs, work, 1.2, after)
    return found


def apply(pairs: Pairs, k: float, u: Array, v: Array, V: Array, transpose: bool) -> Array:
    """P V of V (m, q), or P^T V of V (n, q), for the plan P = 2^(u_i + v_j - k c_ij), float64."""
    n, m = pairs.shape
    source, q = pairs.source(k, np.float64), V.shape[1]
    u, v = face(u), face(v)
    out = np.zeros((m if transpose else n, q))

    def work(place: int, i0: int, i1: int, room: Room) -> Array | None:
        tile = source(i0, i1, room)
        found = np.empty((m, q)) if transpose else None
        step = max(4, (1 << 17) // m)
        for lo in range(0, i1 - i0, step):
            hi = min(lo + step, i1 - i0)
            P = room.get("plan", (hi - lo, m), np.float64)
            softmin.plan(tile, u[i0:i1], v, lo, hi, P)
            if found is None:
                np.matmul(P, V, out=out[i0 + lo : i0 + hi])
            elif lo == 0:
                np.matmul(P.T, V[i0 : i0 + hi], out=found)
            else:
                found += P.T @ V[i0 + lo : i0 + hi]
        return found

    def after(results: list[Array | None]) -> None:
        for found in results:
            if found is not None:
                np.add(out, found, out=out)

    with threads.single_blas():
        each(pairs, work, 1.0, after)
    return out


def dense(pairs: Pairs, k: float, u: Array, v: Array) -> Array:
    """The plan 2^(u_i + v_j - k c_ij), (n, m)."""
    source, out = pairs.source(k, np.float64), np.empty(pairs.shape)
    u, v = face(u), face(v)

    def work(place: int, i0: int, i1: int, room: Room) -> None:
        softmin.plan(source(i0, i1, room), u[i0:i1], v, 0, i1 - i0, out[i0:i1])

    each(pairs, work, 1.0, lambda results: None)
    return out
