"""Sums and ranges of the entries of a row: what validates histograms in passing.

The largest bit pattern, read as an unsigned integer, is above that of the largest finite number exactly if there was a
NaN, an infinity or a negative number (see `bits_max`); so one pass at the speed of memory sums a row and judges it.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types
from numba.extending import overload

from otdist.kernels.jit import INLINE, kernel
from otdist.kernels.vecmath import bits_max, bits_min

# flags of a row
INVALID, HUGE, FAINT = 1, 2, 4


def like(one, x):
    """x in the float type of `one`."""


@overload(like, jit_options=INLINE)
def _like_of(one, x):
    if one == types.float64:
        return lambda one, x: np.float64(x)
    return lambda one, x: x


def bit_limits(row):
    """Bit patterns: 0, all ones, the entry above which a sum might overflow, the largest number."""


@overload(bit_limits, jit_options=INLINE)
def _bit_limits_of(row):
    real, bits = (np.float32, np.uint32) if row.dtype == types.float32 else (np.float64, np.uint64)
    largest = np.finfo(real).max
    huge = largest if real is np.float32 else 2.0**1000
    constants = (bits(0), ~bits(0), real(huge).view(bits), real(largest).view(bits))
    return lambda row: constants


def zero_like(row):
    """0 in the type of the row."""


@overload(zero_like, jit_options=INLINE)
def _zero_like_of(row):
    zero = np.float32(0) if row.dtype == types.float32 else 0.0
    return lambda row: zero


@njit(**INLINE)
def scan(row):
    """Sum of a row, least and greatest bit patterns (see `bits_min`)."""
    greatest, least = bit_limits(row)[:2]
    result = 0.0
    for k in range(row.size):
        least = bits_min(least, row[k])
        greatest = bits_max(greatest, row[k])
        result += np.float64(row[k])
    return result, least, greatest


@njit(**INLINE)
def total(row):
    """Sum of a row."""
    result = 0.0
    for k in range(row.size):
        result += np.float64(row[k])
    return result


@kernel
def inspect(P, S, F, r0, r1):
    """Sums and flags of the rows r0 <= r < r1: what `rows` finds on its way, for those who go another."""
    huge, largest = bit_limits(P)[2:]
    for r in range(r0, r1):
        S[r], _least, greatest = scan(P[r])
        F[r] = (INVALID if greatest > largest else HUGE) if greatest > huge else 0


@kernel
def within(P, low, high):
    """Whether all positive float64 entries lie between two numbers given by their bit patterns, `low` less one."""
    for r in range(P.shape[0]):
        _sum, least, greatest = scan(P[r])
        if least < low or greatest > high:
            return False
    return True
