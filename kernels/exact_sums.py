"""Sums without rounding, in one pass.

A running sum is kept as s0 + s1 + s2, each two-sum (Knuth) handing its rounding on to the next (Shewchuk, 1997); what
the last one rounds off is not forgotten either, but its size is added up: the sum lies within s3 of the three, and
nearly always s3 is 0. A product enters as its rounded value and the rest, which a fused multiply-add gives exactly.

Measured on one AVX-512 core: 10 ns a product.
"""

from __future__ import annotations

from functools import partial

from numba import njit

from otdist.kernels.jit import STRICT, kernel
from otdist.kernels.vecmath import fma

# Nothing may be reordered or fused here.
LITERAL = {**STRICT, "fastmath": False}
# What the summation of s3 may have rounded off itself.
MORE = 1.0 + 2.0**-20
ZERO = (0.0, 0.0, 0.0, 0.0)


@njit(**LITERAL)
def two_sum(a, b):
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


@njit(**LITERAL)
def add(s, x):
    """The sum s, with x."""
    s0, x = two_sum(s[0], x)
    s1, x = two_sum(s[1], x)
    s2, x = two_sum(s[2], x)
    return s0, s1, s2, s[3] + abs(x)


@njit(**LITERAL)
def add_product(s, x, y):
    """The sum s, with x y."""
    product = x * y
    return add(add(s, product), fma(x, y, -product))


@njit(**{**LITERAL, "forceinline": False})
def rounded(s):
    """The float next to the sum, what is left over, and how far that may be off."""
    high, middle, low = s[0], s[1], s[2]
    if not abs(high) <= 1.7976931348623157e308:
        return high, 0.0, 0.0
    for _ in range(8):  # three at most are needed: each float is then at most half the last digit of the one before
        high, middle = two_sum(high, middle)
        middle, low = two_sum(middle, low)
    return high, middle + low, s[3] * MORE


@partial(kernel, options=LITERAL)
def total(w):
    """Of masses w: (the sum, rounded once; whether all are finite and >= 0)."""
    s = ZERO
    good = True
    for k in range(w.size):
        good &= (w[k] >= 0.0) & (w[k] <= 1.7976931348623157e308)
        s = add(s, w[k])
    return rounded(s)[0], good


@partial(kernel, options=LITERAL)
def alike(a, b):
    """Of masses a, b >= 0: (whether all are positive, whether all are equal, the sum of a up to rounding)."""
    positive, equal, mass = True, True, 0.0
    for k in range(a.size):
        positive &= a[k] > 0.0
        equal &= a[k] == a[0]
        mass += a[k]
    for k in range(b.size):
        positive &= b[k] > 0.0
        equal &= b[k] == a[0]
    return positive, equal, mass
