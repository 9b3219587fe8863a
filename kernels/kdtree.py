"""Search for the least c(x, y_j) + p_j over points y_j with prices, without the matrix: branch and bound over a tree.

The points lie in an order in which every aligned block of 2^l of them is compact: a range is split across its longest
side after the largest power of two below its length, and so on (`order`). So the tree is a heap over blocks of LEAF
points that stores no indices: node t has the children 2t and 2t + 1. A node holds its box and an affine minorant
a + s·y of the prices of its points, least squares for s, then the greatest a (`fit`). Prices that rise leave it valid,
if not tight: that is what lets an auction search while it bids. Nodes of fewer than FITTED points share the slope of
their ancestor. ``minorants.py`` turns box and minorant into a bound of the reduced cost.

The points of a leaf lie coordinate after coordinate, so that their costs are a few vector instructions, and in each the
arithmetic is that of `costs.between`: the values are those of the matrix, bit for bit.

A bound may be off by rounding, so a node is left out only if its bound exceeds the threshold by a margin: a multiple of
eps times the magnitudes met. Nothing is ever missed.

Measured on one AVX-512 core, in the plane, squared distances: ordering 0.5 us a point, a fit 0.3 us, the 16
least of a row 1.6 us, the least alone 0.6 us; distances, with their near-ties along rays, 4.3 and 2.2 us.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from otdist.kernels import threads
from otdist.kernels.costs import add, between, finish
from otdist.kernels.jit import INLINE, STRICT, kernel
from otdist.kernels.minorants import bound

Array = np.ndarray[Any, np.dtype[Any]]

LEAF, FITTED = 8, 64
# Points that one call puts in order, and rows that one call searches for.
ORDERED, SEARCHED = 1 << 16, 1 << 11
# Unit roundoffs by which a bound of unit magnitude may be off, doubled for safety.
MARGIN = 64 * 2.0**-52
# What lifts a guess above the values it bounds, where all of them are 0.
TINY = 1e-300
# Nanoseconds of one search, roughly: whether to wake a thread.
SEARCH = 1000.0


@njit(**INLINE)
def _partition(keys, perm, s, e, cut):
    """Hoare's selection: the `cut` least keys of s:e come first, and the points with them."""
    low, high = s, e - 1
    while low < high:
        mid = (low + high) // 2
        a, b, c = keys[low], keys[mid], keys[high]
        pivot = max(min(a, b), min(max(a, b), c))
        i, j = low, high
        while i <= j:
            while keys[i] < pivot:
                i += 1
            while keys[j] > pivot:
                j -= 1
            if i <= j:
                keys[i], keys[j] = keys[j], keys[i]
                perm[i], perm[j] = perm[j], perm[i]
                i += 1
                j -= 1
        if cut <= j:
            high = j
        elif cut >= i:
            low = i
        else:
            break


@kernel
def order(Y, perm, keys, start, stop, size, stack):
    """Split start:stop of the permutation `perm` (int32) until pieces have at most `size` points; keys (n,): scratch.

    stack (64, 2) int64: scratch.
    """
    d = Y.shape[1]
    stack[0, 0], stack[0, 1] = start, stop
    top = 1
    while top > 0:
        top -= 1
        s, e = stack[top, 0], stack[top, 1]
        if e - s <= size:
            continue
        widest, side = -1.0, 0
        for k in range(d):
            low, high = np.inf, -np.inf
            for q in range(s, e):
                low = min(low, Y[perm[q], k])
                high = max(high, Y[perm[q], k])
            if high - low > widest:
                widest, side = high - low, k
        half = 1
        while 2 * half < e - s:
            half *= 2
        for q in range(s, e):
            keys[q] = Y[perm[q], side]
        _partition(keys, perm, s, e, s + half)
        stack[top, 0], stack[top, 1] = s, s + half
        stack[top + 1, 0], stack[top + 1, 1] = s + half, e
        top += 2


@kernel
def boxes(Y, n, nodes):
    """Boxes of all nodes of the heap; those without points never win. Y (leaves, d, LEAF)."""
    d, leaves = Y.shape[1], len(nodes) // 2
    for t in range(len(nodes) - 1, 0, -1):
        node = nodes[t]
        for k in range(d):
            low, high = np.inf, -np.inf
            if t >= leaves:
                first = (t - leaves) * LEAF
                for q in range(first, min(first + LEAF, n)):
                    low = min(low, Y[t - leaves, k, q - first])
                    high = max(high, Y[t - leaves, k, q - first])
            else:
                low = min(nodes[2 * t, k], nodes[2 * t + 1, k])
                high = max(nodes[2 * t, d + k], nodes[2 * t + 1, d + k])
            node[k], node[d + k] = low, high
            node[2 * d + k] = 0.0
        node[3 * d] = np.inf


@njit(**STRICT)
def _slope(Y, price, s, e, node, mean, M):
    """Least squares of the prices of s:e by an affine function, into the slope of the node. M (d, d + 1): scratch."""
    d = Y.shape[1]
    level = 0.0
    for k in range(d):
        mean[k] = 0.0
        for r in range(d + 1):
            M[k, r] = 0.0
    for q in range(s, e):
        level += price[q]
        for k in range(d):
            mean[k] += Y[q // LEAF, k, q % LEAF]
    level /= e - s
    for k in range(d):
        mean[k] /= e - s
    for q in range(s, e):
        rise = price[q] - level
        for k in range(d):
            z = Y[q // LEAF, k, q % LEAF] - mean[k]
            M[k, d] += z * rise
            for r in range(k + 1):
                M[k, r] += z * (Y[q // LEAF, r, q % LEAF] - mean[r])
    trace = 0.0
    for k in range(d):
        trace += M[k, k]
    # Cholesky with a ridge: points on a line, or all in one place, have no slope across
    for k in range(d):
        M[k, k] += 1e-9 * trace
        for c in range(k + 1):
            total = M[k, c]
            for r in range(c):
                total -= M[k, r] * M[c, r]
            if c < k:
                M[k, c] = total / M[c, c] if M[c, c] > 0.0 else 0.0
            else:
                M[k, k] = np.sqrt(max(total, 0.0))
    for k in range(d):
        total = M[k, d]
        for r in range(k):
            total -= M[k, r] * M[r, d]
        M[k, d] = total / M[k, k] if M[k, k] > 0.0 else 0.0
    for k in range(d - 1, -1, -1):
        total = M[k, d]
        for r in range(k + 1, d):
            total -= M[r, k] * node[2 * d + r]
        node[2 * d + k] = total / M[k, k] if M[k, k] > 0.0 else 0.0


@kernel
def fit(Y, price, n, nodes, slopes, mean, M):
    """Minorants of the prices (those at hand, if not `slopes` with the slopes of the last call); the largest magnitude.

    price (LEAF leaves,), +inf beyond n. mean (d,), M (d, d + 1): scratch.
    """
    d, leaves = Y.shape[1], len(nodes) // 2
    scale, size = 0.0, leaves * LEAF
    for t in range(1, len(nodes)):
        if t & (t - 1) == 0 and t > 1:
            size //= 2
        node = nodes[t]
        first = (t * size) - leaves * LEAF
        last = min(first + size, n)
        if first >= last:
            continue
        if slopes:
            if last - first >= FITTED or t == 1:
                _slope(Y, price, first, last, node, mean, M)
            else:
                for k in range(2 * d, 3 * d):
                    node[k] = nodes[t // 2, k]
        least = np.inf
        for q in range(first, last):
            value = price[q]
            for k in range(d):
                value -= node[2 * d + k] * Y[q // LEAF, k, q % LEAF]
            least = min(least, value)
        node[3 * d] = least
        total = abs(least)
        for k in range(d):
            total += abs(node[2 * d + k]) * max(abs(node[k]), abs(node[d + k]))
        scale = max(scale, total)
    return scale


@njit(**STRICT)
def search(tag, x, Y, price, nodes, scale, guess, k, values, js, heap, bounds, z, both, eight):
    """The k least c(x, y_j) + p_j below `guess`, ascending in values and js (-1 and `guess` where there are fewer)."""
    d, leaves = Y.shape[1], len(nodes) // 2
    for q in range(k):
        values[q], js[q] = guess, -1
    limit = guess + MARGIN * (abs(guess) + scale)
    heap[0], bounds[0] = 1, -np.inf
    top = 1
    while top > 0:
        top -= 1
        t, low = heap[top], bounds[top]
        while low < limit and t < leaves:
            t *= 2
            for child in range(2):
                both[child] = bound(tag, x, nodes[t + child], d, z)
            turn = np.int64(both[1] < both[0])
            low = both[turn]
            if both[1 - turn] < limit:
                heap[top], bounds[top] = t + 1 - turn, both[1 - turn]
                top += 1
            t += turn
        if low >= limit:
            continue
        leaf = t - leaves
        block = Y[leaf]
        v0, v1, v2, v3, v4, v5, v6, v7 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for q in range(d):
            at = x[q]
            v0 = add(tag, v0, at - block[q, 0])
            v1 = add(tag, v1, at - block[q, 1])
            v2 = add(tag, v2, at - block[q, 2])
            v3 = add(tag, v3, at - block[q, 3])
            v4 = add(tag, v4, at - block[q, 4])
            v5 = add(tag, v5, at - block[q, 5])
            v6 = add(tag, v6, at - block[q, 6])
            v7 = add(tag, v7, at - block[q, 7])
        first = LEAF * leaf
        eight[0], eight[1], eight[2], eight[3] = v0, v1, v2, v3
        eight[4], eight[5], eight[6], eight[7] = v4, v5, v6, v7
        for c in range(LEAF):
            value = finish(tag, eight[c]) + price[first + c]
            if value < values[k - 1]:
                q = k - 1
                while q > 0 and values[q - 1] > value:
                    values[q], js[q] = values[q - 1], js[q - 1]
                    q -= 1
                values[q], js[q] = value, first + c
        limit = values[k - 1] + MARGIN * (abs(values[k - 1]) + scale)


@kernel
def nearest(tag, X, i0, i1, below, Y, where, price, nodes, scale, J, V, values, js, heap, bounds, z, both, eight):
    """Rows i0:i1 of J and V: columns and values of the least reduced costs, ascending. where (n, d): the points again.

    Only those below `below` (n,) or (1,) count, J is -1 where they are fewer. The columns of a row bound what the next
    row, its neighbour, must look for.
    """
    k = J.shape[1]
    for i in range(i0, i1):
        x = X[i]
        guess = -np.inf if i > i0 else np.inf
        for q in range(k):
            if i > i0:
                j = js[q]
                guess = max(guess, between(tag, x, where[j]) + price[j] if j >= 0 else np.inf)
        guess = min(guess + MARGIN * (abs(guess) + scale) + TINY, below[min(i, len(below) - 1)])
        search(tag, x, Y, price, nodes, scale, guess, k, values, js, heap, bounds, z, both, eight)
        for q in range(k):
            J[i, q], V[i, q] = js[q], values[q]


def ordered(Y: Array, size: int = LEAF) -> Array:
    """The permutation (int32) that makes aligned blocks of 2^l >= size points compact."""
    n = len(Y)
    perm, keys = np.arange(n, dtype=np.int32), np.empty(n)

    def work(start: int, stop: int, least: int) -> None:
        order(Y, perm, keys, start, stop, least, np.empty((128, 2), np.int64))

    work(0, n, max(ORDERED, size))
    threads.run(lambda s, e: work(s, e, size), threads.spans(n, ORDERED), 100.0 * n)
    return perm


class Tree:
    """Points in order and their prices, ready to be searched. `price` may only rise between calls of `fit`."""

    def __init__(self, Y: Array, price: Array) -> None:
        n, d = Y.shape
        leaves = 1 << max(0, -(-n // LEAF) - 1).bit_length()
        self.n, self.where = n, Y
        used = -(-n // LEAF)
        padded = np.concatenate([Y, np.repeat(Y[-1:], used * LEAF - n, axis=0)])
        self.Y = np.ascontiguousarray(padded.reshape(used, LEAF, d).transpose(0, 2, 1))
        self.price = np.full(used * LEAF, np.inf)
        self.price[:n] = price
        self.nodes = np.empty((2 * leaves, 3 * d + 1))
        boxes(self.Y, n, self.nodes)
        self.scale = 0.0
        self.fit()

    def fit(self, slopes: bool = True) -> None:
        """Minorants of the prices as they are now."""
        d = self.Y.shape[1]
        self.scale = fit(self.Y, self.price, self.n, self.nodes, slopes, np.empty(d), np.empty((d, d + 1)))

    def scratch(self, k: int) -> tuple[Array, ...]:
        """What one thread needs to search for k columns."""
        d = self.Y.shape[1]
        heap, bounds = np.empty(64, np.int64), np.empty(64)
        return np.empty(k), np.empty(k, np.int32), heap, bounds, np.empty(d), np.empty(2), np.empty(LEAF)

    def nearest(self, tag: Any, X: Array, k: int, below: Array | None = None) -> tuple[Array, Array]:
        """(n, k) columns and values of the least c(x, y_j) + p_j, ascending."""
        J, V = np.empty((len(X), k), np.int32), np.empty((len(X), k))

        limit = np.array([np.inf]) if below is None else below

        def work(i0: int, i1: int) -> None:
            nearest(
                tag, X, i0, i1, limit, self.Y, self.where, self.price, self.nodes, self.scale, J, V, *self.scratch(k)
            )

        threads.run(work, threads.spans(len(X), SEARCHED), SEARCH * len(X))
        return J, V
