"""What a greedy start of transport needs: masses as integers, and the order in which rows choose.

Rows choose by largest regret, second best cost less best (Vogel, 1958), at prices that make the best cost of each
column zero. Integer masses make ties exact; those of counts or of uniform measures are exact themselves, others are
counted in units of a part of the total, and what rounding leaves over goes to the largest.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numba import njit

from otdist.kernels.exact_sums import LITERAL
from otdist.kernels.jit import kernel
from otdist.kernels.rowcache import LARGE
from otdist.kernels.vecmath import minimum, select


@njit(**LITERAL)
def _counted(w, unit, counts):
    """The counts of one side, their sum, and where the largest is."""
    total, largest = np.int64(0), 0
    for k in range(w.size):
        counts[k] = max(np.int64(np.rint(w[k] / unit)), np.int64(1))
        total += counts[k]
        if counts[k] > counts[largest]:
            largest = k
    return total, largest


@partial(kernel, options=LITERAL)
def count(a, b, a_counts, b_counts, most):
    """Masses as integers with a sum of at most about `most`: (their unit, whether they were rounded)."""
    n, m = a.size, b.size
    equal, whole = True, True
    total, other = 0.0, 0.0
    for i in range(n):
        equal &= a[i] == a[0]
        whole &= np.rint(a[i]) == a[i]
        total += a[i]
    for j in range(m):
        equal &= b[j] == b[0]
        whole &= np.rint(b[j]) == b[j]
        other += b[j]
    if equal:
        x, y = n, m
        while y > 0:
            x, y = y, x % y
        for i in range(n):
            a_counts[i] = m // x
        for j in range(m):
            b_counts[j] = n // x
        return a[0] * x / m, False
    total = max(total, other)
    unit = 1.0 if whole and total <= most else total / most
    a_total, a_largest = _counted(a, unit, a_counts)
    b_total, b_largest = _counted(b, unit, b_counts)
    if a_total > b_total:
        b_counts[b_largest] += a_total - b_total
    else:
        a_counts[a_largest] += b_total - a_total
    return unit, unit != 1.0


@njit(**LARGE)
def _two_least(c, p):
    """The two least c_j + p_j."""
    first = np.inf
    for j in range(p.size):
        first = minimum(first, c[j] + p[j])
    at = -1
    for j in range(p.size):
        at = max(at, select(c[j] + p[j] == first, j, -1))
    second = np.inf
    for j in range(p.size):
        second = minimum(second, select(j == at, np.inf, c[j] + p[j]))
    return first, second


@njit(**LARGE)
def _column_prices(C, p):
    for j in range(p.size):
        p[j] = np.inf
    for i in range(len(C)):
        c = C[i]
        for j in range(p.size):
            p[j] = minimum(p[j], c[j])
    for j in range(p.size):
        p[j] = select(p[j] == np.inf, 0.0, -p[j])


@kernel
def regret(C, own, prices, least, order_by):
    """Least c_ij + p_j of each row (0 if none is finite), and the least less the second, to sort by.

    `own`: prices are still to be set, to -min_i c_ij.
    """
    if own:
        _column_prices(C, prices)
    for i in range(len(C)):
        first, second = _two_least(C[i], prices)
        if first == np.inf:
            least[i], order_by[i] = 0.0, np.inf  # no choice at all: last
        else:
            least[i], order_by[i] = first, first - second
