"""Pricing of all arcs: the rows whose potential exceeds min_j c_ij + y_{n+j}, and the arcs to blame.

A full scan of the reduced costs, vectorised by blocks (`rows_cached.py`); floor: one read of the costs. The worst
violators of a row, at most a few, become candidates of the network simplex, which keeps its basis.
"""

from __future__ import annotations

import numpy as np

from otdist.kernels.jit import kernel
from otdist.kernels.rows_cached import BLOCK, block_minima, insert


@kernel
def violators(T, places, rows, first, last, potential, n, tolerance, found, least, values, items):
    """Arcs of reduced cost below -tolerance in rows[first:last] of a tile, at most len(values) a row.

    Written from found.count[0] on, sorted by row. Returns the largest violation.
    """
    prices = potential[n : n + T.shape[1]]
    m, most = len(prices), len(values)
    count, worst = found.count[0], 0.0
    for t in range(first, last):
        i = rows[t]
        row = T[places[t]]
        blocks, lowest = block_minima(row, prices, least)
        worst = max(worst, potential[i] - lowest)
        threshold = potential[i] - tolerance
        if lowest >= threshold:
            continue
        kept = 0
        for b in range(blocks):
            if least[b] >= threshold:
                continue
            for j in range(b * BLOCK, min(m, b * BLOCK + BLOCK)):
                value = row[j] + prices[j]
                if value < threshold:
                    kept = insert(values, items, kept, most, value, j)
                    if kept == most:
                        threshold = values[most - 1]
        for q in range(kept):
            found.rows[count], found.columns[count], found.costs[count] = i, items[q], row[items[q]]
            count += 1
    found.count[0] = count
    return worst


@kernel
def merge(starts, columns, costs, found, new_starts, new_columns, new_costs):
    """Candidates with those found (sorted by row) at the end of each row's."""
    put, t = 0, 0
    for i in range(len(starts) - 1):
        new_starts[i] = put
        for e in range(starts[i], starts[i + 1]):
            new_columns[put], new_costs[put] = columns[e], costs[e]
            put += 1
        while t < found.count[0] and found.rows[t] == i:
            new_columns[put], new_costs[put] = found.columns[t], found.costs[t]
            put += 1
            t += 1
    new_starts[len(starts) - 1] = put


@kernel
def scattered(costs):
    """Whether a cost is not an integer below 2^52 in size: looks no further than the first."""
    for i in range(costs.shape[0]):
        broken = 0
        for j in range(costs.shape[1]):
            c = costs[i, j]
            broken += np.int64((c != np.rint(c)) | ((abs(c) > 4503599627370496.0) & (c < np.inf)))
        if broken > 0:
            return True
    return False
