"""Rows of samples of one coordinate, sorted: what energy distances and transport on the line begin with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from otdist._arrays import Array
from otdist.kernels import ordering, threads

# Points of a tile of short rows; nanoseconds to sort a point, and to sort it with its order.
TILE = 1 << 16
SORT, ARGSORT = 8.0, 17.0


@dataclass(frozen=True)
class Sorted:
    """Sorted rows, and what one needs to know which weight and which gradient belongs to a point."""

    batch: int
    x: Array
    y: Array
    order_x: Array | None
    order_y: Array | None
    weights: Array | None  # of x and y, side by side

    @classmethod
    def sort(cls, x: Array, y: Array, a: Array | None, b: Array | None, gradients: bool) -> Sorted:
        batch = max(len(part) for part in (x, y, a, b) if part is not None)
        weights = None if a is None and b is None else side_by_side(spread(a, x), spread(b, y))
        ordered = gradients or weights is not None
        copies = [np.empty(part.shape, part.dtype) for part in (x, y)]
        orders = [np.empty(part.shape, np.int64) if ordered else None for part in (x, y)]

        def tile(which: int, start: int, stop: int) -> None:
            part, order = (x, y)[which][start:stop], orders[which]
            if order is not None:
                sort_with_order(part, copies[which][start:stop], order[start:stop])
            else:
                copies[which][start:stop] = part
                copies[which][start:stop].sort(axis=1)

        tiles = [
            (which, *span)
            for which, part in enumerate((x, y))
            for span in threads.spans(len(part), tile_rows(part.shape[1]))
        ]
        threads.run(tile, tiles, (ARGSORT if ordered else SORT) * (x.size + y.size))
        return cls(batch, copies[0], copies[1], orders[0], orders[1], weights)

    def own_weights(self, which: int) -> Array | None:
        n = self.x.shape[1]
        return (
            None if self.weights is None else np.ascontiguousarray(self.weights[:, (slice(n), slice(n, None))[which]])
        )

    def alone(self, which: int) -> Sorted:
        """One of the samples against nothing."""
        part, order = ((self.x, self.order_x), (self.y, self.order_y))[which]
        nothing = np.empty((1, 0), part.dtype)
        no_order = None if order is None else np.empty((1, 0), np.int64)
        return Sorted(self.batch, part, nothing, order, no_order, self.own_weights(which))

    def squares(self, which: int) -> tuple[Array, Array]:
        """Sum of the squares s of the normalised weights, and 1 - s without cancellation."""
        n, w = (self.x, self.y)[which].shape[1], self.own_weights(which)
        if w is None:
            return np.full(self.batch, 1.0 / n), np.full(self.batch, (n - 1) / n)
        w = w / w.sum(axis=1, keepdims=True)
        others = (w * (1.0 - w)).sum(axis=1)
        return np.broadcast_to((w * w).sum(axis=1), self.batch), np.broadcast_to(others, self.batch)


def sort_with_order(rows: Array, values: Array, order: Array) -> None:
    """Fill the sorted rows, and the orders that sort them."""
    size = rows.shape[1]
    own, keys, good = np.array(rows, order="C"), np.empty(rows.shape, np.int64), np.empty(len(rows), np.bool_)
    bits = 32 if rows.dtype == np.float32 else max(size - 1, 1).bit_length()
    ordering.pack_rows(own, bits, keys, good)
    keys.sort(axis=1)
    ordering.unpack_rows(own, bits, keys, values, order, good)
    for r in np.flatnonzero(~good):
        order[r] = np.argsort(own[r])
        values[r] = own[r][order[r]]


def tile_rows(size: int) -> int:
    """How many rows of that many points make a tile."""
    return max(1, TILE // max(size, 1))


def spread(w: Array | None, sample: Array) -> Array:
    """Weights, equal ones in one row for None."""
    return np.full((1, sample.shape[1]), 1.0 / sample.shape[1]) if w is None else w


def side_by_side(a: Array, b: Array) -> Array:
    """Rows of a and of b in one, each of them broadcast."""
    out = np.empty((max(len(a), len(b)), a.shape[1] + b.shape[1]))
    out[:, : a.shape[1]], out[:, a.shape[1] :] = a, b
    return out
