"""The auction algorithm on shortlists, whose rows are listed anew in batches.

Each row keeps some columns, their costs and a bound L on the value c_ij + p_j of all others (`shortlist.py`). Prices
only rise, so L stays valid: as long as the second best value of the list is at most L it is the true one, and a bid
needs no other column. When it exceeds L, a bid up to L is still right, only lower than it might be: it is made if it is
worth a fraction of the true one or ε. Otherwise the row waits; those that wait are listed anew together, by matrix
products.

At the end every row is within ε of its cheapest column, hence within n ε of the optimum (Bertsekas 1979, 1988).

Lists ascend in the value they were made with, below which no value falls: a search ends at the first of these that
exceeds the second best, after some five of thirty.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from otdist.kernels.jit import INLINE, kernel
from otdist.kernels.shortlist import distance

# A bid up to the bound is made if it is this part of the bid that the list alone would allow.
WORTH = 0.5


@njit(**INLINE)
def two_least(J, C, low, price):
    """Least value of a list, second least, and the place of the least."""
    best, second, at = np.inf, np.inf, -1
    for t in range(len(J)):
        if low[t] >= second:
            break
        v = C[t] + price[J[t]]
        if v < second:
            if v < best:
                second, best, at = best, v, t
            else:
                second = v
    return best, second, at


@kernel
def release_lists(J, C, low, L, price, eps, row_to_col, col_to_row, paid, stack):
    """Take their columns from rows more than `eps` from their cheapest; stack all rows without one, first rows last."""
    count = 0
    for i in range(len(row_to_col) - 1, -1, -1):
        j = row_to_col[i]
        if j >= 0:
            best, _, _ = two_least(J[i], C[i], low[i], price)
            if paid[i] + price[j] > min(best, L[i]) + eps:
                row_to_col[i] = -1
                col_to_row[j] = -1
        if row_to_col[i] < 0:
            stack[count] = i
            count += 1
    return count


@kernel
def bid_lists(
    J, C, low, L, price, eps, slack, rounding, row_to_col, col_to_row, paid, stack, count, waiting, waiters, bids, fresh
):
    """Let the `count` rows on `stack` bid until none is left, `bids` are made or `waiting` is full.

    Arrays as in `shortlist`; row_to_col, col_to_row int32 with -1 for none; paid (n,): cost of the assigned pair;
    `waiting` holds `waiters` rows that must be listed anew; fresh (n,) uint8: 1 once a row was listed, cleared by its
    bid. Bids may exceed the bound by `slack`, which adds to the ε of the outcome; L may be too low by `rounding` times
    the value. Returns count, waiters and the bids left.
    """
    while count > 0 and bids > 0 and waiters < len(waiting):
        i = stack[count - 1]
        count -= 1
        best, second, at = two_least(J[i], C[i], low[i], price)
        bound = L[i] + slack
        if second > bound:
            room = bound - best
            wanted = eps > room and room < WORTH * (second - best)
            if (wanted and fresh[i] == 0) or room < -0.5 * eps - rounding * best:
                waiting[waiters] = i
                waiters += 1
                continue
            second = max(bound, best)
        j = J[i, at]
        # However small ε is, a price must rise
        price[j] = max(price[j] + (second - best + eps), price[j] * (1.0 + 2.0**-52))
        bids -= 1
        fresh[i] = 0
        loser = col_to_row[j]
        col_to_row[j] = i
        row_to_col[i] = j
        paid[i] = C[i, at]
        if loser >= 0:
            row_to_col[loser] = -1
            stack[count] = loser
            count += 1
    return count, waiters, bids


@kernel
def arc_costs(tag, ptr, idx, X, Y, cost):
    """Costs of the arcs of a sparse graph."""
    for i in range(len(ptr) - 1):
        for k in range(ptr[i], ptr[i + 1]):
            cost[k] = distance(tag, X[i], Y[idx[k]])
