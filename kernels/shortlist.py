"""Columns of least cost plus price for many rows at once, and a bound on all others, without the cost matrix.

A matrix product in float32 gives D ≈ x·y of a tile of pairs. Let u = 2^-24. Rounding x and y to float32 and summing d
products in any order changes 2 x·y by at most (d + 3) u (‖x‖² + ‖y‖²), as 2 Σ|x_k y_k| <= ‖x‖² + ‖y‖²; the few
roundings after it add some u (‖x‖² + ‖y‖² + |p|). With G = (d + 9) u all of it is split between row and column,

    ‖x−y‖² + p  >=  (1 − G)‖x‖² + [(1 − G)‖y‖² + p − 4u|p + ‖y‖²|] − 2D,
    ‖x−y‖ + p   >=  √max((1 − G)‖x‖² + (1 − G)‖y‖² − 2D, 0) + [p − 4u(‖y‖ + |p|)] − 4u‖x‖,

so one far point spoils its own pairs only. The right-hand sides are ranked: those up to a threshold become the list of
the row, evaluated anew in float64 from the differences of the points, and the threshold bounds all others. Other costs
are tiles of float64 sums; there the threshold is exact.

The threshold: minima of groups of CHUNK / LANES columns are taken vertically while the tile is in cache, and bisection
with vectorised counts finds a value with about as many minima below it as the list has room. Few groups are opened.

Prices only rise in an auction, so a list stays a list of candidates and its bound a bound.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numba.extending import overload

from otdist.kernels.costs import Euclidean, add, between, finish
from otdist.kernels.jit import INLINE, STRICT, kernel
from otdist.kernels.profiles import Squared
from otdist.kernels.vecmath import select

# Columns come in multiples of LANES; a group is every LANES-th column of CHUNK consecutive ones.
LANES, CHUNK = 64, 512
GROUPED = {**INLINE, "forceinline": False}


def under(tag, a, b, q, dot):
    """Lower bound, less what belongs to the row, of a cost plus a price; `a` of the row, `b` and `q` of the column."""


@overload(under, jit_options=STRICT)
def _under(tag, a, b, q, dot):
    two, zero = np.float32(2), np.float32(0)
    if tag.instance_class is Squared:
        return lambda tag, a, b, q, dot: b - two * dot

    def euclidean(tag, a, b, q, dot):
        s = (a + b) - two * dot
        return np.sqrt(select(s > zero, s, zero)) + q

    return euclidean


def distance(tag, x, y):
    """The cost of two points in float64, sums in any order."""


@overload(distance, jit_options=INLINE)
def _distance(tag, x, y):
    if getattr(tag, "instance_class", None) not in (Squared, Euclidean):
        return lambda tag, x, y: between(tag, x, y)
    root = tag.instance_class is Euclidean

    def of(tag, x, y):
        s = 0.0
        for k in range(len(x)):
            z = x[k] - y[k]
            s += z * z
        return np.sqrt(s) if root else s

    return of


@njit(**INLINE)
def group_bounds(tag, row, a, b, q, minima):
    """Products of one row to bounds, and the minima of their groups."""
    for c in range((len(row) + CHUNK - 1) // CHUNK):
        least = minima[c * LANES : c * LANES + LANES]
        least[:] = np.float32(np.inf)
        for s in range(c * CHUNK, min(c * CHUNK + CHUNK, len(row)), LANES):
            part, of_b, of_q = row[s : s + LANES], b[s : s + LANES], q[s : s + LANES]
            for lane in range(LANES):
                v = under(tag, a, of_b[lane], of_q[lane], part[lane])
                part[lane] = v
                least[lane] = select(v < least[lane], v, least[lane])


@njit(**INLINE)
def group_sums(tag, row, x, panels, price, minima):
    """Costs plus prices of one row, coordinates in the order of `between`, and the minima of their groups.

    panels (w / LANES, d, LANES): the columns' points, LANES at a time, coordinate by coordinate.
    """
    for c in range((len(row) + CHUNK - 1) // CHUNK):
        least = minima[c * LANES : c * LANES + LANES]
        least[:] = np.inf
        for s in range(c * CHUNK, min(c * CHUNK + CHUNK, len(row)), LANES):
            part, panel, of_price = row[s : s + LANES], panels[s // LANES], price[s : s + LANES]
            for lane in range(LANES):
                part[lane] = 0.0
            for k in range(len(x)):
                of_k, xk = panel[k], x[k]
                for lane in range(LANES):
                    part[lane] = add(tag, part[lane], xk - of_k[lane])
            for lane in range(LANES):
                v = finish(tag, part[lane]) + of_price[lane]
                part[lane] = v
                least[lane] = select(v < least[lane], v, least[lane])


@njit(**GROUPED)
def threshold(minima, count, room, values):
    """A value with about `room` of the minima at or below it, rather fewer; infinite if there are no more than that.

    values: scratch of the type of the minima, in which the search must stay to be vectorised.
    """
    if count <= room:
        return np.inf
    low, high = minima[0], minima[0]
    for g in range(room):
        high = max(high, minima[g])
    for g in range(count):
        low = min(low, minima[g])
    if high == np.inf:
        high = low
        for g in range(count):
            high = select(minima[g] < np.inf, max(high, minima[g]), high)
    at_low = 1
    for _ in range(16):
        values[0] = low + (high - low) * 0.5
        middle = values[0]
        if not low < middle < high:
            break
        values[0], values[1] = 1.0, 0.0
        one, zero, below = values[0], values[1], values[1]
        for g in range(count):
            below += select(minima[g] <= middle, one, zero)
        if below > room:
            high = middle
        else:
            low, at_low = middle, np.int64(below)
            if 4 * at_low >= 3 * room:
                break
    return np.float64(low if 4 * at_low >= room else high)


@njit(**GROUPED)
def collect(row, minima, groups, limit, values, places):
    """Entries up to `limit`: the least of them if there are more than places. Returns count, bound on all others."""
    count, bound, size, top, largest = 0, limit, len(values), -1, limit
    for g in range(groups):
        if minima[g] > bound or minima[g] == np.inf:
            continue
        start = g // LANES * CHUNK + g % LANES
        for j in range(start, min(start + CHUNK - g % LANES, len(row)), LANES):
            v = row[j]
            if v > bound or v == np.inf:
                continue
            if count < size:
                values[count], places[count] = v, j
                count += 1
                continue
            if top < 0:
                top = 0
                for t in range(size):
                    top = t if values[t] > values[top] else top
                largest = values[top]
            if v >= largest:
                bound = min(bound, v)
            else:
                bound = min(bound, largest)
                values[top], places[top] = v, j
                top = -1
    return count, bound


@njit(**GROUPED)
def settle(tag, x, Y, price, places, count, J, C, low):
    """The list of one row: costs in float64, ascending in cost plus price. Returns the two least values."""
    for t in range(count):
        j = places[t]
        c = distance(tag, x, Y[j])
        v = c + price[j]
        s = t
        while s > 0 and low[s - 1] > v:
            low[s], C[s], J[s] = low[s - 1], C[s - 1], J[s - 1]
            s -= 1
        low[s], C[s], J[s] = v, c, j
    for t in range(count, len(J)):
        low[t], C[t], J[t] = np.inf, np.inf, 0
    return low[0], low[min(1, len(J) - 1)]


@kernel
def shortlist(tag, tile, a, b, q, offset, rows, X, Y, price, J, C, low, L, minima, values, places, weak):
    """Lists of the rows whose products with all columns are in `tile`, (r, w) float32, which is overwritten.

    a, offset (r,): what `under` takes and leaves out of each row, float32 and float64; b, q (w,) float32, infinite
    beyond the columns; rows (r,): which rows they are; X, Y, price (m,): points and prices in float64. Written, in rows
    `rows`: J (n, k) int32, C, low (n, k): columns, their costs and their values, ascending; L (n,): a lower bound of
    the values of all other columns. Returns how many rows have a bound below their second value: `weak` names them.
    """
    found = 0
    groups = (tile.shape[1] + CHUNK - 1) // CHUNK * LANES
    for r in range(len(rows)):
        i = rows[r]
        group_bounds(tag, tile[r], a[r], b, q, minima)
        limit = threshold(minima, groups, len(values) * 7 // 8, values)
        count, bound = collect(tile[r], minima, groups, limit, values, places)
        _, second = settle(tag, X[i], Y, price, places, count, J[i], C[i], low[i])
        L[i] = np.float64(bound) + offset[r]
        if L[i] < second:
            weak[found] = i
            found += 1
    return found


@kernel
def shortlist_direct(tag, rows, X, panels, price, padded, Y, J, C, low, L, row, minima, values, places):
    """`shortlist` from sums of float64 differences. padded (w,): prices, infinite beyond the columns; row: scratch."""
    groups = (len(row) + CHUNK - 1) // CHUNK * LANES
    for r in range(len(rows)):
        i = rows[r]
        group_sums(tag, row, X[i], panels, padded, minima)
        limit = threshold(minima, groups, len(values) * 7 // 8, values)
        count, bound = collect(row, minima, groups, limit, values, places)
        settle(tag, X[i], Y, price, places, count, J[i], C[i], low[i])
        L[i] = bound * (1.0 - (len(X[i]) + 4) * 2.0**-52)  # `settle` may sum in another order
