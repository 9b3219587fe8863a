"""Costs of some rows against all columns, made on the fly: tiles that the scans of `rows_cached.py` read.

`differences` adds up coordinate by coordinate, vectorised over columns, blocks of them in cache: exact to the last
rounding, 0.2 ns per pair and coordinate, and a nanosecond for a root. `from_products` takes the matrix product of a
tile with the columns: squared norms less twice the product, and pairs so near that cancellation would show are done
again by differences; 1.5 ns a pair for 16 coordinates, 3 for 64.
"""

from __future__ import annotations

from otdist.kernels.costs import add, between, finish
from otdist.kernels.jit import kernel

SPAN = 1024  # columns at a time, so that they stay in cache
# Below this part of the squared norms the product has lost six bits: the difference is taken.
NEAR = 0.015625


@kernel
def differences(tag, x, rows, yt, out):
    """out[t] = costs of x[rows[t]] against the columns yt (d, m)."""
    d, m = yt.shape
    for t in range(len(rows)):
        point = x[rows[t]]
        for begin in range(0, m, SPAN):
            part = out[t, begin : begin + SPAN]
            for j in range(len(part)):
                part[j] = 0.0
            for k in range(d):
                here, there = point[k], yt[k, begin : begin + SPAN]
                for j in range(len(part)):
                    part[j] = add(tag, part[j], here - there[j])
            for j in range(len(part)):
                part[j] = finish(tag, part[j])


@kernel
def from_products(tag, x, rows, y, x_squares, y_squares, out):
    """out[t, j] = x[rows[t]] . y[j] becomes the cost; of costs that depend on the squared distance."""
    for t in range(len(rows)):
        i = rows[t]
        norm = x_squares[i]
        near = 0
        for j in range(len(y)):
            size = norm + y_squares[j]
            squared = size - 2.0 * out[t, j]
            small = squared < NEAR * size
            near += small
            out[t, j] = -1.0 if small else finish(tag, squared)
        if near > 0:
            for j in range(len(y)):
                if out[t, j] < 0.0:
                    out[t, j] = between(tag, x[i], y[j])
