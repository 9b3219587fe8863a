"""Passes over all pairs of two clouds, never stored: shortlists of the cheapest columns, and the c-transform.

Costs that are a squared Euclidean distance or its root come from matrix products in float32 with rigorous error terms,
whatever counts is evaluated again in float64 (`kernels/shortlist.py`). Other costs are tiles of float64 sums.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from otdist._arrays import Array
from otdist.kernels import threads
from otdist.kernels.costs import Chebyshev, Euclidean, Raised
from otdist.kernels.least import cost_rows, least, least_direct
from otdist.kernels.profiles import Cityblock, Squared
from otdist.kernels.shortlist import CHUNK, LANES, shortlist, shortlist_direct

# Entries of a tile of products: half of it stays in a second-level cache.
TILE = 2**18
ROUNDING = 2.0**-24


def by_products(cost: Any) -> bool:
    """Whether a matrix product gives the cost."""
    return type(cost) in (Squared, Euclidean)


def _padded(count: int) -> int:
    return -(-count // LANES) * LANES


def panels(y: Array) -> Array:
    """Points as (w / LANES, d, LANES), zeros beyond the last one."""
    m, d = y.shape
    padded = np.zeros((_padded(m), d))
    padded[:m] = y
    return np.ascontiguousarray(padded.reshape(-1, LANES, d).transpose(0, 2, 1))


def _power_of_two(size: float) -> float:
    """The power of two just above `size` > 0, kept where its square and its reciprocal exist."""
    return float(np.ldexp(1.0, int(np.clip(np.frexp(size)[1], -480, 480)))) if size > 0 else 1.0


class Frame:
    """Two clouds moved to their centres and divided by a power of two, and what that does to costs and prices.

    With x = X s + ξ, y = Y s + η and δ = (ξ − η)/s, ‖x−y‖² = s² (‖X−Y‖² + 2X·δ + ‖δ‖² − 2Y·δ): the centres may differ,
    the rest is a price. Other costs take one centre. Points on an integer lattice stay on one.
    """

    def __init__(self, x: Array, y: Array, cost: Any) -> None:
        squared = type(cost) is Squared
        integers = all(np.array_equal(z, np.rint(z)) for z in (x, y))
        coarse = _power_of_two(float(max(np.abs(x).max(), np.abs(y).max())))  # the sum of coordinates may overflow
        middles = [(z / coarse).mean(0) * coarse for z in (x, y)]
        if not squared:
            middles[1] = middles[0] = middles[0] / 2 + middles[1] / 2
        self.x0, self.y0 = [np.rint(z) if integers else z for z in middles]
        X, Y = x - self.x0, y - self.y0
        self.s = _power_of_two(float(max(np.abs(X).max(), np.abs(Y).max())))
        power = cost.power if isinstance(cost, Raised) else 2.0 if squared else 1.0
        self.scale = self.s**power
        X /= self.s
        Y /= self.s
        self.x, self.y = np.ascontiguousarray(X), np.ascontiguousarray(Y)
        if squared:
            shift = (self.x0 - self.y0) / self.s
            self.shift2 = float(shift @ shift)
            self.of_rows, self.of_columns = 2 * (self.x @ shift) + self.shift2, 2 * (self.y @ shift)
        else:
            self.shift2 = 0.0
            self.of_rows, self.of_columns = np.zeros(len(x)), np.zeros(len(y))
        # All costs and potentials may be multiples of this, if n times them is exact
        self.unit = 1.0 / self.scale if integers and type(cost) in (Squared, Cityblock, Chebyshev) else 0.0
        if len(x) * (8.0 * x.shape[1] + self.shift2) > 2.0**49 * self.unit:
            self.unit = 0.0

    def price(self, g: Array) -> Array:
        """Prices in this frame, of potentials outside."""
        with np.errstate(over="ignore"):
            price: Array = np.clip(-g / self.scale, -1e300, 1e300) - self.of_columns
        return price

    def potential(self, price: Array) -> Array:
        """Potentials outside, of prices in this frame."""
        g: Array = -(price + self.of_columns) * self.scale
        return g


class Side:
    """A cloud as rows or columns of products: float32 points, squared norms, the part of them that is sure."""

    def __init__(self, x: Array) -> None:
        self.x = x
        self.single = x.astype(np.float32)
        self.squares = np.einsum("ij,ij->i", x, x)
        self.sure = self.squares * (1.0 - (x.shape[1] + 9) * ROUNDING)
        self.transposed: Array | None = None

    def columns(self) -> Array:
        """The points (d, w) float32, as the right factor of a product."""
        if self.transposed is None:
            self.transposed = np.zeros((self.x.shape[1], _padded(len(self.x))), np.float32)
            self.transposed[:, : len(self.x)] = self.single.T
        return self.transposed

    def priced(self, cost: Any, price: Array) -> tuple[Array, Array]:
        """`b` and `q` of every column, see `kernels/shortlist.py`; infinite beyond the last one."""
        m = len(price)
        b, q = np.full((2, _padded(m)), np.inf, np.float32)
        with np.errstate(over="ignore"):  # infinite: never listed, or always
            if type(cost) is Squared:
                b[:m] = self.sure + price - 4 * ROUNDING * np.abs(self.squares + price)
            else:
                b[:m] = self.sure
                q[:m] = price - 4 * ROUNDING * (np.sqrt(self.squares) + np.abs(price))
        return b, q

    def rows(self, cost: Any, rows: Array) -> tuple[Array, Array]:
        """`a` and `offset` of some rows."""
        sure = self.sure[rows]
        if type(cost) is Squared:
            return np.zeros(len(rows), np.float32), sure
        return sure.astype(np.float32), -4 * ROUNDING * np.sqrt(self.squares[rows])


class Lists:
    """For every row some columns, their costs, their values when listed, and a bound on all other columns."""

    def __init__(self, rows: int, length: int) -> None:
        self.J = np.zeros((rows, length), np.int32)
        self.C, self.low = np.empty((2, rows, length))
        self.L = np.empty(rows)


class Scan:
    """Shortlists of rows x over columns y, both centred and at most 1 in size.

    Where float32 leaves most bounds below the second value of their lists, products give way to direct sums.
    """

    def __init__(self, cost: Any, x: Side, y: Side) -> None:
        self.cost, self.x, self.y = cost, x, y
        self.direct = not by_products(cost)
        self._panels: Array | None = None
        self.width = _padded(len(y.x))

    def lists(self, rows: Array, price: Array, lists: Lists) -> None:
        """Make the lists of `rows` (ascending int64) anew, for prices >= 0."""
        with threads.single_blas():
            if not self.direct:
                weak = self._products(rows, price, lists)
                if 2 * len(weak) < len(rows):
                    return
                self.direct = len(rows) == len(self.x.x)
                rows = weak
            self.direct_lists(rows, price, lists)

    def _products(self, rows: Array, price: Array, lists: Lists) -> Array:
        b, q = self.y.priced(self.cost, price)
        columns = self.y.columns()
        size = max(32, min(256, TILE // self.width))
        k = lists.J.shape[1]

        def work(start: int, stop: int) -> Array:
            part = rows[start:stop]
            tile = self.x.single[part] @ columns
            a, offset = self.x.rows(self.cost, part)
            weak = np.empty(len(part), np.int64)
            minima = np.empty(-(-self.width // CHUNK) * LANES, np.float32)
            found = shortlist(
                self.cost, tile, a, b, q, offset, part, self.x.x, self.y.x, price, lists.J, lists.C, lists.low,
                lists.L, minima, np.empty(max(k, 2), np.float32)[:k], np.empty(k, np.int32), weak,
            )  # fmt: skip
            return weak[:found]

        cost = len(rows) * self.width * (0.3 + 0.015 * self.x.x.shape[1])
        return np.concatenate(threads.run(work, threads.spans(len(rows), size), cost))

    def direct_lists(self, rows: Array, price: Array, lists: Lists) -> None:
        """`lists` from sums of float64 differences, whose bounds are exact to rounding."""
        if self._panels is None:
            self._panels = panels(self.y.x)
        padded = np.full(self.width, np.inf)
        padded[: len(price)] = price
        k = lists.J.shape[1]

        def work(start: int, stop: int) -> None:
            minima = np.empty(-(-self.width // CHUNK) * LANES)
            shortlist_direct(
                self.cost, rows[start:stop], self.x.x, self._panels, price, padded, self.y.x, lists.J, lists.C,
                lists.low, lists.L, np.empty(self.width), minima, np.empty(k), np.empty(k, np.int32),
            )  # fmt: skip

        cost = len(rows) * self.width * (0.5 + 0.1 * self.x.x.shape[1])
        threads.run(work, threads.spans(len(rows), 64), cost)


def c_transform(x: Array, y: Array, cost: Any, g: Array) -> Array:
    """min_j cost(x_i, y_j) − g_j for every row x_i, (n, d) and (m, d) float64, each value as `costs.between` has it."""
    # Numba compiles arrays that may be written to and others apart
    x, y, g = (np.require(z, np.float64, ["C", "W"]) for z in (x, y, g))
    n = len(x)
    out = np.empty(n)
    rows = np.arange(n)
    with threads.single_blas():
        if by_products(cost):
            rows = _least_by_products(x, y, cost, g, out)
        if len(rows):
            _least_direct(rows, x, y, cost, g, out)
    return out


def _least_by_products(x: Array, y: Array, cost: Any, g: Array, out: Array) -> Array:
    """Fill `out`; returns the rows that could not be."""
    n, d = x.shape
    frame = Frame(x, y, cost)
    left, right = Side(frame.x), Side(frame.y)
    # What float64 may have lost: of the frame, of the prices moved into it, of the value that will be compared
    tiny = (d + 32) * 2.0**-51
    price = frame.price(g)
    price -= tiny * (np.abs(price) + np.abs(frame.of_columns) + frame.shift2)
    b, q = right.priced(cost, price)
    columns = right.columns()
    width = columns.shape[1]
    slack = frame.of_rows - tiny * (np.abs(frame.of_rows) + frame.shift2 + left.squares + np.sqrt(left.squares))
    most = max(64, len(y) // 16)

    def work(start: int, stop: int) -> Array:
        part = np.arange(start, stop)
        tile = left.single[start:stop] @ columns
        a, offset = left.rows(cost, part)
        limits = np.stack([slack[start:stop] + offset, np.full(len(part), tiny)], 1)
        weak = np.empty(len(part), np.int64)
        minima = np.empty(-(-width // CHUNK) * LANES, np.float32)
        found = least(cost, tile, a, b, q, limits, start, x, y, g, frame.scale, most, out, minima, weak)
        return weak[:found]

    size = max(32, min(256, TILE // width))
    return np.concatenate(threads.run(work, threads.spans(n, size), n * width * (0.2 + 0.015 * d)))


def _least_direct(rows: Array, x: Array, y: Array, cost: Any, g: Array, out: Array) -> None:
    of_y = panels(y)
    width = len(of_y) * LANES
    price = np.full(width, np.inf)
    price[: len(y)] = -g

    def work(start: int, stop: int) -> None:
        minima = np.empty(-(-width // CHUNK) * LANES)
        least_direct(cost, rows[start:stop], x, of_y, price, out, np.empty(width), minima)

    threads.run(work, threads.spans(len(rows), 64), len(rows) * width * (0.5 + 0.1 * x.shape[1]))


def cost_matrix(x: Array, y: Array, cost: Any) -> Array:
    """cost(x_i, y_j) as `costs.between` has it, (n, m)."""
    of_y = panels(y)
    width = len(of_y) * LANES
    C = np.empty((len(x), len(y)))

    def work(start: int, stop: int) -> None:
        rows = np.empty((stop - start, width))
        cost_rows(cost, x[start:stop], of_y, np.zeros(width), rows, np.empty(-(-width // CHUNK) * LANES))
        C[start:stop] = rows[:, : len(y)]

    threads.run(work, threads.spans(len(x), 64), len(x) * width * (0.5 + 0.1 * x.shape[1]))
    return C
