"""Orders of rows of numbers at the price of sorting them: each number becomes an integer that carries its index.

float32: the bits, made monotone, above 32 bits of index. Exact. float64: the number as a fixed-point fraction of the
range of its row, in the 62 - b bits above b bits of index, 2^b >= n. The fraction is a monotone function of the number
(so are rounded subtraction, multiplication and truncation), hence only numbers nearer than 2^(b-62) of the range may
change places, and an insertion sort puts them right. Where a far outlier leaves too few bits to the others, that takes
more than a few moves per number: the row is given up, for the caller to order it in another way.

Measured on one AVX-512 core, in rows of a thousand: 8 ns a number with NumPy's vector
sort of the integers (6 ns), where its argsort takes 11; 17 instead of 35 for a million.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types
from numba.extending import overload

from otdist.kernels.jit import STRICT, kernel
from otdist.kernels.vecmath import maximum

# Moves of the insertion sort per number before a row is given up.
MOVES = 2


def pack(x, bits, keys):
    """Fill the integers of a row, with `bits` bits of index; whether they can be had."""


@overload(pack, jit_options=STRICT)
def _pack(x, bits, keys):
    if x.dtype == types.float32:

        def exact(x, bits, keys):
            patterns = x.view(np.int32)
            for k in range(len(x)):
                pattern = np.int64(patterns[k])
                # negative numbers run backwards; the two zeros are one
                ascending = pattern if pattern >= 0 else -(pattern & 0x7FFFFFFF)
                keys[k] = (ascending << 32) | k
            return True

        return exact

    def fraction(x, bits, keys):
        high, low = x[0], -x[0]
        for k in range(len(x)):
            high, low = maximum(high, x[k]), maximum(low, -x[k])
        low = -low
        if high == low:
            for k in range(len(x)):
                keys[k] = k
            return True
        factor = 2.0 ** (62 - bits) / (high - low)
        if not 0.0 < factor < np.inf:
            return False
        for k in range(len(x)):
            keys[k] = (np.int64((x[k] - low) * factor) << bits) | k
        return True

    return fraction


@kernel
def pack_rows(X, bits, keys, good):
    """Integers of every row of X; good[r]: whether they can be had."""
    for r in range(len(X)):
        good[r] = pack(X[r], bits, keys[r])


@njit(**STRICT)
def settle_order(values, order):
    """Insertion sort of what is nearly sorted; whether few moves were enough."""
    left = MOVES * len(values)
    for k in range(1, len(values)):
        x, index, at = values[k], order[k], k
        while at > 0 and values[at - 1] > x and left > 0:
            values[at], order[at] = values[at - 1], order[at - 1]
            at -= 1
            left -= 1
        values[at], order[at] = x, index
    return left > 0


@kernel
def unpack_rows(X, bits, keys, values, order, good):
    """Sorted values and orders from sorted integers; good[r] becomes False where the row must be ordered anew."""
    mask = (np.int64(1) << bits) - 1
    for r in range(len(X)):
        if good[r]:
            x, key, v, o = X[r], keys[r], values[r], order[r]
            for k in range(len(x)):
                o[k] = key[k] & mask
            for k in range(len(x)):
                v[k] = x[o[k]]
            good[r] = settle_order(v, o)
