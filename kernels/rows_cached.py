"""The k smallest of c_ij + p_j of a row, and a bound on all the others.

Prices only rise in an auction, so the bound stays one: a row looks at k numbers until its second best exceeds it
(lazy auction). Rows come in tiles: row t of the tile T belongs to the row rows[t] of the problem and lies at
places[t], so that a stored matrix (places = rows) and tiles made on the fly are served by one text.

Groups of eight columns are reduced to their minima, 32 groups side by side in plain vector operations. The (k+1)-th
least of the minima bounds the (k+1)-th least number, and only the few groups below it are looked at.

Measured at 4000 columns, k = 16, on one core: 6.6 us a row, 2.8 where nothing is below the limit; reading it takes 2.5.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from otdist.kernels.jit import INLINE, kernel
from otdist.kernels.vecmath import maximum

# Groups of DEPTH columns, LANES apart; of the last columns, side by side.
LANES, DEPTH = 32, 8
SPAN = LANES * DEPTH
# Spreads the rows over the columns: rows that see the same ties would else all keep the same few.
STRIDE = 40503


@njit(**INLINE)
def group_minima(row, p, least):
    """least[g] = min of row + p over group g; returns the number of whole spans, of groups and the minimum of all."""
    m = len(p)
    whole = m // SPAN
    lowest = -np.inf
    for b in range(whole):
        s = b * SPAN
        for t in range(LANES):
            value = row[s + t] + p[s + t]
            for q in range(1, DEPTH):
                value = min(value, row[s + q * LANES + t] + p[s + q * LANES + t])
            least[b * LANES + t] = value
    count = whole * LANES
    for s in range(whole * SPAN, m, DEPTH):
        value = np.inf
        for j in range(s, min(s + DEPTH, m)):
            value = min(value, row[j] + p[j])
        least[count] = value
        count += 1
    for g in range(count):
        lowest = maximum(lowest, -least[g])
    return whole, count, -lowest


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
    Unused places cost +inf. Scratch: least (m/8 + 32), values and items (k + 1).
    """
    m, k = len(p), columns.shape[1]
    for t in range(len(rows)):
        i = rows[t]
        row = T[places[t]]
        whole, groups, lowest = group_minima(row, p, least)
        threshold = limits[i]
        count = 0
        if lowest < threshold:
            if groups > k:
                for g in range(groups):
                    if count <= k or least[g] < values[k]:
                        count = insert(values, items, count, k + 1, least[g], g)
                # the bound itself may be one of the numbers: step above it
                threshold = min(threshold, np.nextafter(values[k], np.inf))
                count = 0
            begin = (i * STRIDE) % groups
            for s in range(groups):
                g = s + begin if s + begin < groups else s + begin - groups
                if least[g] >= threshold:
                    continue
                first, step = (g // LANES) * SPAN + g % LANES, LANES
                if g >= whole * LANES:
                    first, step = whole * SPAN + (g - whole * LANES) * DEPTH, 1
                for j in range(first, min(first + step * DEPTH, m), step):
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
