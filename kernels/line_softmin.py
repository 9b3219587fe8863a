"""Log-sum-exps along lines of a grid: out_i = log2 sum_j 2^(h_j - t_ij), and conditional means under these weights.

A cost that is a sum over axes makes the Gibbs kernel a product over axes, so a log-sum-exp over all pairs of points is
one along each axis in turn (Solomon et al. 2015): sum n_k products for each point, never one for each pair.

Safe as in the log domain at the price of the plain one: h is taken relative to the largest entry of its line, so the
products 2^-t_ij 2^(h_j - top) are sums of terms at most 1, with E = 2^-t computed once. Where such a sum falls below
2^-900 (far from all mass, at small epsilon) it is redone as a true log-sum-exp; elsewhere what has underflowed is below
an ulp.

Means: sum_j w_j (V_j + d_ij) / sum_j w_j with w_j = 2^(h_j - t_ij). Taken along one axis after another they are means
under the whole plan: of a function V of the other point, or of a cost d that is a sum over axes. No scale ever leaves
the range of numbers, and signs of V do not matter.

h may be -inf (no mass); a line of nothing else gives -inf, and means of 0.

Lines go through a tile of 64 at a time, side by side, whatever the axis. Measured on one AVX-512 core, 64 points a
line: some 10 ns per point and axis, on a busy machine.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from otdist.kernels.jit import INLINE, kernel
from otdist.kernels.vecmath import LOG2E, exp2, log_ratio, maximum, select

WIDTH = 64
# Sums below are computed again: 2^-1022 times the 2^52 of a last digit, times 2^70 for what is dropped.
LEAST = 2.0**-900
_CALLED = {**INLINE, "forceinline": False}


@njit(**INLINE)
def _gather(H, after, first, count, n, X):
    """X[j, w] = entry j of line first + w; spare lines repeat the last."""
    for w in range(WIDTH):
        line = first + min(w, count - 1)
        at = (line // after) * n * after + line % after
        for j in range(n):
            X[j, w] = H[at + j * after]


@njit(**INLINE)
def _scatter(Y, after, first, count, n, H):
    for w in range(count):
        line = first + w
        at = (line // after) * n * after + line % after
        for i in range(n):
            H[at + i * after] = Y[i, w]


@njit(**_CALLED)
def _weights(X, n, top):
    """X = 2^(X - top), top being the largest entry of each line. Powers that vanish are exact zeros."""
    for w in range(WIDTH):
        top[w] = -np.inf
    for j in range(n):
        for w in range(WIDTH):
            top[w] = maximum(top[w], X[j, w])
    for j in range(n):
        for w in range(WIDTH):
            t = X[j, w] - select(top[w] == -np.inf, 0.0, top[w])
            X[j, w] = select(t < -1000.0, 0.0, exp2(t))


@njit(**_CALLED)
def _product(E, X, n, Y):
    """Y = E X."""
    whole = n - n % 8
    for i in range(n):
        e, y = E[i], Y[i]
        for w in range(WIDTH):
            y[w] = 0.0
        for j in range(0, whole, 8):
            e0, e1, e2, e3, e4, e5, e6, e7 = e[j], e[j + 1], e[j + 2], e[j + 3], e[j + 4], e[j + 5], e[j + 6], e[j + 7]
            x0, x1, x2, x3, x4, x5, x6, x7 = X[j], X[j + 1], X[j + 2], X[j + 3], X[j + 4], X[j + 5], X[j + 6], X[j + 7]
            for w in range(WIDTH):
                left = (e0 * x0[w] + e1 * x1[w]) + (e2 * x2[w] + e3 * x3[w])
                y[w] += left + ((e4 * x4[w] + e5 * x5[w]) + (e6 * x6[w] + e7 * x7[w]))
        for j in range(whole, n):
            e0, x0 = e[j], X[j]
            for w in range(WIDTH):
                y[w] += e0 * x0[w]


@njit(**INLINE)
def _largest(H, at, after, n, t):
    top = -np.inf
    for j in range(n):
        top = max(top, H[at + j * after] - t[j])
    return top


@kernel
def softmin_lines(E, T, H, after, out, X, Y, top, start, stop):
    """out = log2 sum_j 2^(h_j - t_ij) of the lines start ... stop along one axis of H.

    T, E = 2^-T (n, n); H, out flat: entry j of line l lies at (l // after) n after + l % after + j after. Scratch X, Y
    (n, 64), top (64,).
    """
    n = len(E)
    for first in range(start, stop, WIDTH):
        count = min(WIDTH, stop - first)
        _gather(H, after, first, count, n, X)
        _weights(X, n, top)
        _product(E, X, n, Y)
        for i in range(n):
            for w in range(count):
                if Y[i, w] < LEAST and top[w] > -np.inf:
                    at = ((first + w) // after) * n * after + (first + w) % after
                    level = _largest(H, at, after, n, T[i])
                    total = 0.0
                    for j in range(n):
                        total += exp2(H[at + j * after] - T[i, j] - level)
                    # in the place of the sum, whose logarithm is to be taken: what makes up for it
                    X[i, w] = level - top[w]
                    Y[i, w] = total
                else:
                    X[i, w] = 0.0
            for w in range(WIDTH):
                s = Y[i, w]
                Y[i, w] = select(s > 0.0, log_ratio(s, 1.0, s - 1.0).log * LOG2E + top[w] + X[i, w], -np.inf)
        _scatter(Y, after, first, count, n, out)


@kernel
def mean_lines(E, T, D, ED, H, V, after, out, mean, X, Y, U, W, top, start, stop):
    """`softmin_lines`, and mean = sum_j w_j (V_j + d_ij) / sum_j w_j with w_j = 2^(h_j - t_ij).

    D, ED = E D (n, n); V, mean flat as H. Scratch X, Y, U, W (n, 64), top (64,).
    """
    n = len(E)
    for first in range(start, stop, WIDTH):
        count = min(WIDTH, stop - first)
        _gather(H, after, first, count, n, X)
        _gather(V, after, first, count, n, U)
        _weights(X, n, top)
        _product(ED, X, n, W)
        _product(E, X, n, Y)
        for j in range(n):
            for w in range(WIDTH):
                X[j, w] *= U[j, w]
        _product(E, X, n, U)
        for i in range(n):
            for w in range(count):
                at = ((first + w) // after) * n * after + (first + w) % after
                shift = top[w]
                if Y[i, w] < LEAST and top[w] > -np.inf:
                    shift = _largest(H, at, after, n, T[i])
                    total, weighed = 0.0, 0.0
                    for j in range(n):
                        e = exp2(H[at + j * after] - T[i, j] - shift)
                        total += e
                        weighed += e * (V[at + j * after] + D[i, j])
                    Y[i, w], U[i, w], W[i, w] = total, weighed, 0.0
                s = Y[i, w]
                Y[i, w] = np.log2(s) + shift if s > 0.0 else -np.inf
                W[i, w] = (U[i, w] + W[i, w]) / s if s > 0.0 else 0.0
        _scatter(Y, after, first, count, n, out)
        _scatter(W, after, first, count, n, mean)
