"""Which pairs of blocks carry mass: a search tree over the columns, descended for every row block.

Of the potentials a node knows a bound from above, affine in the point (``kdtree.fit``, of minus the potential): at the
points of the node phi <= -a - s.x, likewise gamma <= -b - t.y. So over a pair of nodes

    phi + gamma - c(x - y) <= -a - b - min [(s + t)/2 . w] - min [c(z) + (s - t)/2 . z],   z = x - y, w = x + y,

each minimum over its box: the first at a corner, the second by ``minorants.py``. Where mass is, the slopes of the two
potentials are those of the cost, opposite to each other, so s + t is small and the bound is tight, however steep the
potentials. A pair is dropped when the bound B is at most `cut`; it carries no more than a(I) b(J) 2^B, which is added
up: what is left out is known, not assumed.
"""

from __future__ import annotations

from numba import njit

from otdist.kernels.jit import STRICT, kernel
from otdist.kernels.minorants import bound


@njit(**STRICT)
def _bound(tag, mine, other, d, zero, box, z):
    """The greatest exponent over the points of two nodes."""
    total = -mine[3 * d] - other[3 * d]
    for k in range(d):
        s, t = mine[2 * d + k], other[2 * d + k]
        half = 0.5 * (s + t)
        total -= min(half * (mine[k] + other[k]), half * (mine[d + k] + other[d + k]))
        box[k], box[d + k], box[2 * d + k] = mine[k] - other[d + k], mine[d + k] - other[k], 0.5 * (s - t)
    box[3 * d] = 0.0
    return total - bound(tag, zero, box, d, z)


@kernel
def listed(tag, rows, first, last, cols, blocks, before, mass, cut, margin, start, out, dropped, zero, box, z, stack):
    """The column blocks of row blocks first:last, ascending, into `out` from start[block] on.

    With an empty `out`, their number into start[block + 1].

    rows, cols: nodes of both trees; `blocks` column blocks; before (blocks + 1,) their masses, added up; mass: those of
    row blocks; `cut` and `margin` in bits; dropped: bound of the mass left out, by row blocks.
    """
    d = len(zero)
    heap_rows, heap = len(mass), 1
    while heap < blocks:
        heap *= 2
    size = 1
    while size < heap_rows:
        size *= 2
    for block in range(first, last):
        mine = rows[size + block]
        count, left = 0, 0.0
        stack[0], top = 1, 1
        while top > 0:
            top -= 1
            t = stack[top]
            low, high = t, t + 1
            while low < heap:
                low, high = 2 * low, 2 * high
            low, high = min(low - heap, blocks), min(high - heap, blocks)
            if low >= high:
                continue
            best = _bound(tag, mine, cols[t], d, zero, box, z) + margin
            if best <= cut:
                left += mass[block] * (before[high] - before[low]) * 2.0 ** max(best, -1000.0)
            elif t >= heap:
                if len(out) > 0:
                    out[start[block] + count] = t - heap
                count += 1
            else:
                stack[top], stack[top + 1] = 2 * t + 1, 2 * t
                top += 2
        if len(out) == 0:
            start[block + 1] = count
        dropped[block] = left
