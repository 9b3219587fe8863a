"""Min-plus transforms along lines of a grid: out_i = min_j |x_i - x_j|^p + h_j, and the j that attains it.

A cost that is a sum over axes is transformed one axis after another. p = 1: two passes, for the cost is a sum of steps
and the minimum from the left is min(h_i, (x_i - x_{i-1}) + that of i - 1). p = 2: the lower envelope of parabolas of
one width, kept on a stack with the points where each begins (Felzenszwalb & Huttenlocher 2012); those points are
rounded, so every query looks at the neighbours on the stack, too. Other p: all pairs of a line, from a table.

h may be +inf (j is never taken); a line of nothing else gives +inf and j = 0. Values are |x_i - x_j|^p + h_j of the j
returned, rounded as that sum, and least up to the rounding of x^p and h.

Measured on one AVX-512 core, per point and axis, transposes included: p = 1 8 to 12 ns, p = 2 12 to 26 ns, others
0.3 ns for each point of a line.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from otdist.kernels.jit import STRICT, kernel
from otdist.kernels.vecmath import select

# Sums mean what they say: not one of them may be reordered.
_OPTIONS = {**STRICT, "forceinline": False}


@partial(kernel, options=_OPTIONS)
def lines_cityblock(x, H, out, arg, start, stop):
    """p = 1, of the lines H[start:stop]."""
    n = len(x)
    for r in range(start, stop):
        best, at = np.inf, 0
        for i in range(n):
            best += x[i] - x[max(i - 1, 0)]
            if H[r, i] <= best:
                best, at = H[r, i], i
            out[r, i], arg[r, i] = best, at
        best, at = np.inf, 0
        for i in range(n - 1, -1, -1):
            best += x[min(i + 1, n - 1)] - x[i]
            if H[r, i] <= best:
                best, at = H[r, i], i
            if best < out[r, i]:
                arg[r, i] = at
        for i in range(n):
            out[r, i] = abs(x[i] - x[arg[r, i]]) + H[r, arg[r, i]]


@partial(kernel, options=_OPTIONS)
def lines_squares(x, H, out, arg, stack, begins, start, stop):
    """p = 2, of the lines H[start:stop]; scratch stack (n,) and begins (n,)."""
    n = len(x)
    for r in range(start, stop):
        top = -1
        for j in range(n):
            if H[r, j] == np.inf:
                continue
            begin = -np.inf
            while top >= 0:
                k = stack[top]
                # where the parabolas of j and k cross
                begin = 0.5 * (x[j] + x[k]) + 0.5 * ((H[r, j] - H[r, k]) / (x[j] - x[k]))
                if begin > begins[top]:
                    break
                top -= 1
            if top < 0:
                begin = -np.inf
            top += 1
            stack[top], begins[top] = j, begin
        if top < 0:
            for i in range(n):
                out[r, i], arg[r, i] = np.inf, 0
            continue
        k = 0
        for i in range(n):
            while k < top and begins[k + 1] < x[i]:
                k += 1
            best, at = np.inf, 0
            for t in range(max(k - 1, 0), min(k + 1, top) + 1):
                j = stack[t]
                here = (x[i] - x[j]) * (x[i] - x[j]) + H[r, j]
                if here < best:
                    best, at = here, j
            out[r, i], arg[r, i] = best, at


@partial(kernel, options=_OPTIONS)
def lines_any(C, H, out, arg, start, stop):
    """Of the lines H[start:stop], with the symmetric cost matrix C of a line."""
    n = len(C)
    for r in range(start, stop):
        best, at = out[r], arg[r]
        for i in range(n):
            best[i], at[i] = C[0, i] + H[r, 0], 0
        for j in range(1, n):
            c, h = C[j], H[r, j]
            for i in range(n):
                here = c[i] + h
                less = here < best[i]
                best[i], at[i] = select(less, here, best[i]), select(less, j, at[i])
