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


@njit(**{**INLINE, "forceinline": False})
def smallest(row, p, k, columns, costs, least, values, items):
    """Columns and costs of the k smallest of row + p, ascending; returns the next one, a bound on the others.

    Scratch: least (m/32 + 1), values and items (k + 1). Where fewer than k are finite, the rest costs +inf.
    """
    m = len(p)
    blocks, _ = block_minima(row, p, least)
    threshold = np.inf
    if blocks > k:
        count = 0
        for b in range(blocks):
            if count <= k or least[b] < values[k]:
                count = insert(values, items, count, k + 1, least[b], b)
        threshold = values[k]
    count = 0
    for b in range(blocks):
        if least[b] > threshold:
            continue
        for j in range(b * BLOCK, min(m, b * BLOCK + BLOCK)):
            value = row[j] + p[j]
            if value <= threshold and (count <= k or value < values[k]):
                count = insert(values, items, count, k + 1, value, j)
                if count > k:
                    threshold = min(threshold, values[k])
    for q in range(k):
        columns[q] = items[q]
        costs[q] = row[items[q]]
    return values[k] if count > k else np.inf


@kernel
def fill_cache(T, places, rows, first, last, p, columns, costs, bounds, least, values, items):
    """`smallest` of the rows[first:last] of a tile; returns the sum of the finite spreads of their k numbers."""
    k = columns.shape[1]
    spread = 0.0
    for t in range(first, last):
        i = rows[t]
        bounds[i] = smallest(T[places[t]], p, k, columns[i], costs[i], least, values, items)
        low = costs[i, 0] + p[columns[i, 0]]
        for q in range(k - 1, 0, -1):
            high = costs[i, q] + p[columns[i, q]]
            if high < np.inf:
                spread += high - low
                break
    return spread
