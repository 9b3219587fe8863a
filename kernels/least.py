"""The c-transform of points: min_j c(x_i, y_j) − g_j, every value as `costs.between` computes it.

Products in float32 give lower bounds of all values (`shortlist.py`). The column of the least bound is evaluated, then
every column whose bound does not exceed the least value so far: usually one or two. A row of many near-ties is left
to tiles of float64 sums in the order of `between`.
"""

from __future__ import annotations

import numpy as np

from otdist.kernels.costs import between
from otdist.kernels.jit import kernel
from otdist.kernels.shortlist import CHUNK, LANES, group_bounds, group_sums

# Bounds beyond this may be the overflow of a finite number.
LARGEST = 1e37


@kernel
def least(tag, tile, a, b, q, limits, first, x, y, g, scale, most, out, minima, weak):
    """out[first + r] = min_j between(x[first + r], y[j]) − g[j] for the rows of a tile of products.

    tile, a, b, q, minima: as for `shortlist`, in a frame where costs are `scale` times smaller. limits (r, 2): a value
    t is exceeded by all columns with bounds above t/scale − limits[r, 0] + limits[r, 1] |t/scale|. Rows that need
    more than `most` evaluations are named in `weak`; returns how many.
    """
    found = 0
    width = tile.shape[1]
    groups = (width + CHUNK - 1) // CHUNK * LANES
    for r in range(len(tile)):
        row, i = tile[r], first + r
        group_bounds(tag, row, a[r], b, q, minima)
        best = 0
        for h in range(groups):
            best = h if minima[h] < minima[best] else best
        at = best // LANES * CHUNK + best % LANES
        for j in range(at, min(at + CHUNK - best % LANES, width), LANES):
            at = j if row[j] < row[at] else at
        value, limit, count = np.inf, np.inf, 1
        if row[at] < LARGEST:
            value = between(tag, x[i], y[at]) - g[at]
            limit = value / scale - limits[r, 0] + limits[r, 1] * abs(value / scale)
        if not limit < LARGEST:
            weak[found] = i
            found += 1
            continue
        for h in range(groups):
            if minima[h] > limit or count > most:
                continue
            start = h // LANES * CHUNK + h % LANES
            for j in range(start, min(start + CHUNK - h % LANES, width), LANES):
                if row[j] <= limit and j != at:
                    value = min(value, between(tag, x[i], y[j]) - g[j])
                    count += 1
        out[i] = value
        if count > most:
            weak[found] = i
            found += 1
    return found


@kernel
def least_direct(tag, rows, x, panels, price, out, row, minima):
    """out[i] = min_j between(x[i], y[j]) + price[j] for i in `rows`; panels, price: as for `shortlist_direct`."""
    for r in range(len(rows)):
        group_sums(tag, row, x[rows[r]], panels, price, minima)
        value = np.inf
        for h in range((len(row) + CHUNK - 1) // CHUNK * LANES):
            value = min(value, minima[h])
        out[rows[r]] = value


@kernel
def cost_rows(tag, x, panels, zeros, out, minima):
    """out[i, j] = between(x[i], y[j]); out (r, w), columns as for `shortlist_direct`."""
    for i in range(len(x)):
        group_sums(tag, out[i], x[i], panels, zeros, minima)
