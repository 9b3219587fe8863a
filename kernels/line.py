"""Distances between one-dimensional samples, in one walk over the sorted points.

Let W(t) be the mass of x up to t less that of y. Both distances are integrals of a square, hence never negative, and
need no difference of large sums:

    energy:   2 E|x-y| - E|x-x'| - E|y-y'| = 2 int W(t)^2 dt
    Laplace:  E k(x,x') + E k(y,y') - 2 E k(x,y) = (2/s) int U(t)^2 dt,   k = exp(-|x-y|/s),
              U(t) = sum over points z <= t of +-weight exp(-(t-z)/s)

(exp(-|t|/s) is the autocorrelation of the one-sided exponential.) U decays between points, so a gap g after the value u
adds u^2 (1 - exp(-2g/s)); the next value is (u + weight) + u (exp(-g/s) - 1), exact where a point of x meets one of y.
For s -> infinity U becomes W.

W is exact. Equal weights count in integers. Other weights are split in two parts, multiples of 2^-50 and of 2^-76,
whose sums float64 holds without rounding whatever their order (weights at most 2, 2^27 of them): so equal multisets
give exactly 0, ties in any order the same bits, and no bit depends on the order of the points. Only totals that differ
are reconciled in floating point: the weights of y are multiplied by 1 + excess, excess = (total x - total y)/total y.

Within a group of coincident points the running values are provisional and count for nothing, their gaps being 0: no
branch depends on the data, and a merge takes two points at a time from two independent places.

Measured on one AVX-512 core, per point of two samples of a million: 2.6 ns for `cramer`, about as much as sorting.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from otdist.kernels.jit import STRICT, kernel
from otdist.kernels.vecmath import select

# Merged points of one piece of a row, and of one partial sum.
PIECE, BLOCK = 1 << 17, 1024
# x + COARSE - COARSE rounds |x| <= 2 to a multiple of 2^-50; what is left, with FINE, to one of 2^-76
COARSE, FINE = 1.5 * 2.0**2, 1.5 * 2.0**-24


@njit(**STRICT)
def cut(x, y, k):
    """How many of the k smallest points are of x; x comes first in ties."""
    low, high = max(0, k - len(y)), min(k, len(x))
    while low < high:
        i = (low + high) // 2
        if x[i] <= y[k - i - 1]:
            low = i + 1
        else:
            high = i
    return low


@njit(**STRICT)
def point_before(x, y, i, j):
    """The last point taken when i of x and j of y are; the first of all if none is."""
    if i + j == 0:
        if len(x) == 0 or (len(y) > 0 and y[0] < x[0]):
            return np.float64(y[0])
        return np.float64(x[0])
    if i == 0 or (j > 0 and y[j - 1] > x[i - 1]):
        return np.float64(y[j - 1])
    return np.float64(x[i - 1])


@njit(**STRICT)
def area(d, total, unit, gap):
    """W (W - total) gap of a gap, W = d unit: never negative for total = 0, never positive for W <= total."""
    return (np.float64(d) * unit) * ((np.float64(d - total) * unit) * gap)


@njit(**STRICT)
def merge(x, y, i, j, count, up, down, total, unit, scale):
    """Sum of `area` over the gaps before the next `count` points."""
    n, m = len(x), len(y)
    d = i * up - j * down
    z = point_before(x, y, i, j) * scale
    whole = 0.0
    while count > 0:
        part = 0.0
        both = min(min(n - i, m - j), min(count, BLOCK))
        if both > 0:
            for _ in range(both):
                p, q = np.float64(x[i]), np.float64(y[j])
                first = p <= q
                here = select(first, p, q) * scale
                part += area(d, total, unit, here - z)
                z = here
                step = np.int64(first)
                i += step
                j += 1 - step
                d += select(first, up, -down)
        elif i < n:
            both = min(n - i, min(count, BLOCK))
            for _ in range(both):
                here = np.float64(x[i]) * scale
                part += area(d, total, unit, here - z)
                z = here
                i += 1
                d += up
        else:
            both = min(m - j, min(count, BLOCK))
            for _ in range(both):
                here = np.float64(y[j]) * scale
                part += area(d, total, unit, here - z)
                z = here
                j += 1
                d -= down
        whole += part
        count -= both
    return whole


@njit(**STRICT)
def merge_twice(x, y, low, high, up, down, total, unit, scale):
    """`merge` of the points low to high of both, in two halves at a time: their chains of loads overlap."""
    n, m = len(x), len(y)
    middle = (low + high) // 2
    i, k = cut(x, y, low), cut(x, y, middle)
    j, v = low - i, middle - k
    d, e = i * up - j * down, k * up - v * down
    z, t = point_before(x, y, i, j) * scale, point_before(x, y, k, v) * scale
    left = middle - low
    whole = 0.0
    while True:
        steps = min(min(min(n - i, m - j), min(n - k, m - v)), min(left, BLOCK))
        if steps <= 0:
            break
        part, other = 0.0, 0.0
        for _ in range(steps):
            p, q = np.float64(x[i]), np.float64(y[j])
            r, s = np.float64(x[k]), np.float64(y[v])
            first, second = p <= q, r <= s
            here, there = select(first, p, q) * scale, select(second, r, s) * scale
            part += area(d, total, unit, here - z)
            other += area(e, total, unit, there - t)
            z, t = here, there
            step, stride = np.int64(first), np.int64(second)
            i += step
            j += 1 - step
            k += stride
            v += 1 - stride
            d += select(first, up, -down)
            e += select(second, up, -down)
        whole += part + other
        left -= steps
    whole += merge(x, y, i, j, left, up, down, total, unit, scale)
    return whole + merge(x, y, k, v, high - k - v, up, down, total, unit, scale)


@kernel
def cramer(X, Y, up, down, total, unit, scale, parts, start, stop):
    """parts[r, c] = int of W (W - total) over piece c of row r, for the pieces from start to stop.

    W is `unit` times (up times points of x less down times points of y); rows of X and Y are sorted.
    """
    pieces = parts.shape[1]
    size = X.shape[1] + Y.shape[1]
    for piece in range(start, stop):
        r, c = piece // pieces, piece % pieces
        x, y = X[min(r, len(X) - 1)], Y[min(r, len(Y) - 1)]
        low, high = c * PIECE, min(size, (c + 1) * PIECE)
        parts[r, c] = merge_twice(x, y, low, high, up, down, total, unit, scale[r])


@njit(**STRICT)
def steps(n, m):
    """Equal weights of x and of y as integers without a common factor; 1 and 0 where one is empty."""
    if m == 0:
        return 1, 0
    common, rest = n, m
    while rest > 0:
        common, rest = rest, common % rest
    return m // common, n // common


@njit(**STRICT)
def pool_equal(x, y, order_x, order_y, scale, pooled, who):
    """Merge two sorted rows into `pooled`: points, integer weights, those of y negative, and zeros."""
    n, m = len(x), len(y)
    z, coarse, fine = pooled[0], pooled[1], pooled[2]
    fine[:] = 0.0
    up, down = steps(n, m)
    plus, minus = np.float64(up), -np.float64(down)
    i, j, k = 0, 0, 0
    while i < n and j < m:
        for _ in range(min(n - i, m - j)):
            p, q = np.float64(x[i]), np.float64(y[j])
            first = p <= q
            z[k], coarse[k] = select(first, p, q) * scale, select(first, plus, minus)
            if who is not None:
                who[k] = select(first, order_x[i], n + order_y[j])
            step = np.int64(first)
            i += step
            j += 1 - step
            k += 1
    for t in range(n - i):
        z[k + t], coarse[k + t] = np.float64(x[i + t]) * scale, plus
        if who is not None:
            who[k + t] = order_x[i + t]
    for t in range(m - j):
        z[k + t], coarse[k + t] = np.float64(y[j + t]) * scale, minus
        if who is not None:
            who[k + t] = n + order_y[j + t]


@njit(**STRICT)
def pool(x, y, order_x, order_y, weights, scale, pooled, who):
    """Merge two sorted rows into `pooled`: points, and weights in two parts, those of y negative.

    `weights` as the points came, x then y; None: equal ones. `who` gets the indices into them, where there are orders.
    Returns the total of x, the excess, and the total of both.
    """
    n, m = len(x), len(y)
    pool_equal(x, y, order_x, order_y, scale, pooled, who)
    if weights is None:
        mass = np.float64(n * steps(n, m)[0])
        return mass, 0.0, mass if m == 0 else 0.0
    coarse, fine = pooled[1], pooled[2]
    cx, fx, cy, fy = 0.0, 0.0, 0.0, 0.0
    for k in range(n + m):
        of_x = who[k] < n
        w = weights[who[k]]
        c = (w + COARSE) - COARSE
        f = ((w - c) + FINE) - FINE
        cx += select(of_x, c, 0.0)
        fx += select(of_x, f, 0.0)
        cy += select(of_x, 0.0, c)
        fy += select(of_x, 0.0, f)
        coarse[k], fine[k] = select(of_x, c, -c), select(of_x, f, -f)
    if m == 0:
        return cx + fx, 0.0, cx + fx
    return cx + fx, ((cx - cy) + (fx - fy)) / (cy + fy), 0.0
