"""All pairs of sparse rows: a merge of two sorted lists of bins per pair, in float64.

Floor: one step of the merge per stored entry of either row, a branch and the formula of the bin; bins that are
empty on both sides contribute nothing and are never visited.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from otdist.kernels import threads
from otdist.kernels.entries import total
from otdist.kernels.jit import INLINE, kernel
from otdist.kernels.rows import finish_row
from otdist.kernels.terms import read_bin, term

Array = np.ndarray[Any, Any]
Sparse = tuple[Array, Array, Array]  # indptr, indices (sorted, unique in every row), data

ROWS = 64


@njit(**INLINE)
def _merged(tag, at_p, p, at_q, q):
    """Sums of value, lost mass and affinity over the bins where either row has an entry."""
    value, lost, affinity = 0.0, 0.0, 0.0
    i, j = 0, 0
    while i < p.size or j < q.size:
        # past its end a row reads its last entry, which is not taken
        here = i < p.size and (j == q.size or at_p[i] <= at_q[j])
        there = j < q.size and (i == p.size or at_q[j] <= at_p[i])
        y = term(tag, read_bin(np.float64(p[i]) if here else 0.0, np.float64(q[j]) if there else 0.0))
        value += y.value
        lost += y.lost
        affinity += y.affinity
        i += here
        j += there
    return value, lost, affinity


@kernel
def _block(tag, finish, p_starts, p_bins, p_data, q_starts, q_bins, q_data, i0, i1, out):
    for i in range(i0, i1):
        a, b = p_starts[i], p_starts[i + 1]
        at_p, p = p_bins[a:b], p_data[a:b]
        sum_p = total(p)
        for j in range(out.shape[1]):
            c, d = q_starts[j], q_starts[j + 1]
            at_q, q = q_bins[c:d], q_data[c:d]
            value, lost, affinity = _merged(tag, at_p, p, at_q, q)
            if lost > 0.0:
                value = np.inf
            out[i, j] = finish_row(finish, value, affinity, sum_p, total(q))[0]


def sparse_pairs(tag: Any, finish: Any, P: Sparse, Q: Sparse, bins: int, out: Array) -> None:
    """out[i, j] = value of the divergence `tag` between sparse rows i of P and j of Q.

    P, Q: CSR arrays (indptr, indices, data) of float32 or float64 data, indices sorted and unique in every row and
    below `bins`, entries finite and >= 0. `out`: (n, m), any float type and strides.
    """
    n, m = len(P[0]) - 1, len(Q[0]) - 1
    if n == 0 or m == 0:
        return
    steps = len(P[2]) * m + len(Q[2]) * n
    threads.run(lambda i0, i1: _block(tag, finish, *P, *Q, i0, i1, out), threads.spans(n, ROWS), 3.0 * steps)
