"""The k smallest of c_ij + p_j of a row, and a bound on all the others.

Prices only rise in an auction, so the bound stays one: a row looks at k numbers until its second best exceeds it
(lazy auction). Rows come in tiles: row t of the tile T belongs to the row rows[t] of the problem and lies at
places[t], so that a stored matrix (places = rows) and tiles made on the fly are served by one text.

Blocks of 32 columns are reduced to their minima (vectorised); the (k+1)-th least of the minima bounds the (k+1)-th
least number, and only the few blocks below it are looked at: about 1.3 reads of the row from memory.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from otdist.kernels.jit import INLINE, kernel

BLOCK = 32


@njit(**INLINE)
def block_minima(row, p, least):
    """least[b] = min of row + p over block b; returns the number of blocks and the minimum of all."""
    m = len(p)
    whole = m // BLOCK
    lowest = np.inf
    for b in range(whole):
        value = np.inf
        for j in range(b * BLOCK, b * BLOCK + BLOCK):
            value = min(value, row[j] + p[j])
        least[b] = value
        lowest = min(lowest, value)
    count = whole
    if whole * BLOCK < m:
        value = np.inf
        for j in range(whole * BLOCK, m):
            value = min(value, row[j] + p[j])
        least[whole] = value
        lowest = min(lowest, value)
        count += 1
    return count, lowest


@njit(**INLINE)
def insert(values, items, count, most, value, item):
    """Insert into an ascending list of at most `most`; the largest is dropped. Returns the new count."""
    q = count
    if count < most:
        count += 1
    else:
        q = most - 1
    while q > 0 and values[q - 1] > value:
        values[q], items[q] = values[q - 1], items[q - 1]
        q -= 1
    values[q], items[q] = value, item
    return count


@kernel
def scan(T, places, rows, p, limits, columns, costs, counts, bounds, least, values, items):
    """The k smallest of row + p that are below a limit, ascending, and the next one, of each row of a tile.

    Row i = rows[t] writes columns[i], costs[i] (k wide), counts[i] of them, and bounds[i]: no other is less.
    Unused places cost +inf. Scratch: least (m/32 + 1), values and items (k + 1).
    """
    m, k = len(p), columns.shape[1]
    for t in range(len(rows)):
        i = rows[t]
        row = T[places[t]]
        blocks, lowest = block_minima(row, p, least)
        threshold = limits[i]
        count = np.int64(0)
        if lowest < threshold:
            if blocks > k:
                for b in range(blocks):
                    if count <= k or least[b] < values[k]:
                        count = insert(values, items, count, k + 1, least[b], b)
                # the bound itself may be one of the numbers: step above it
                threshold = min(threshold, np.nextafter(values[k], np.inf))
                count = np.int64(0)
            for b in range(blocks):
                if least[b] >= threshold:
                    continue
                for j in range(b * BLOCK, min(m, b * BLOCK + BLOCK)):
                    value = row[j] + p[j]
                    if value < threshold:
                        count = insert(values, items, count, k + 1, value, j)
                        if count > k:
                            threshold = values[k]
        bounds[i] = values[k] if count > k else limits[i]
        counts[i] = min(count, k)
        for q in range(k):
            used = q < count
            columns[i, q] = items[q] if used else 0
            costs[i, q] = row[items[q]] if used else np.inf
