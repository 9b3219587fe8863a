"""Logarithms of affinities sum p^a q^(1-a) that leave the range of float64: rare, hence kernels of their own."""

from __future__ import annotations

import numpy as np
from numba import njit, types
from numba.extending import overload

from otdist.kernels.entries import FAINT, total
from otdist.kernels.jit import INLINE, kernel
from otdist.kernels.rows import power_of, row_of, through_sum
from otdist.kernels.terms import Alpha, Hellinger


def store(g, k, x):
    """g[k] = x, or nothing."""


@overload(store, jit_options=INLINE)
def _store_of(g, k, x):
    if g == types.none:
        return lambda g, k, x: None

    def write(g, k, x):
        g[k] = x

    return write


@njit(**INLINE)
def _exponent(tag, p, q):
    """log of p^a q^(1-a), -inf at empty bins."""
    a = power_of(tag)
    if q == 0.0 or (p == 0.0 and a > 0.0):
        return -np.inf
    return (a * np.log(p) if a > 0.0 else 0.0) + (1.0 - a) * np.log(q)


def _log_affinity(tag, scale, p, q, a, b, gp, gq):
    """log sum p^a q^(1-a) where the sum itself leaves the range of float64, and the gradients of scale times it."""


@overload(_log_affinity, jit_options=INLINE)
def _log_affinity_of(tag, scale, p, q, a, b, gp, gq):
    if tag.instance_class not in (Alpha, Hellinger):
        return lambda tag, scale, p, q, a, b, gp, gq: -np.inf

    def log_affinity(tag, scale, p, q, a, b, gp, gq):
        top, total = -np.inf, 0.0
        for k in range(p.size):
            top = max(top, _exponent(tag, np.float64(p[k]) * a, np.float64(q[k]) * b))
        if top == -np.inf:
            return top
        for k in range(p.size):
            total += np.exp(_exponent(tag, np.float64(p[k]) * a, np.float64(q[k]) * b) - top)
        power = power_of(tag)
        for k in range(p.size):
            x, y = np.float64(p[k]) * a, np.float64(q[k]) * b
            share = scale * np.exp(_exponent(tag, x, y) - top) / total
            store(gp, k, power * share / x if x > 0.0 else 0.0)
            store(gq, k, (1.0 - power) * share / y if y > 0.0 else 0.0)
        return top + np.log(total)

    return log_affinity


@njit(**INLINE)
def _value(tag, finish, p, q, a, b, gp, gq):
    drift = 0.0
    if not finish.literal:
        drift = finish.alpha * np.log(total(p) * a) + (1.0 - finish.alpha) * np.log(total(q) * b)
    return finish.scale * (_log_affinity(tag, finish.scale, p, q, a, b, gp, gq) - drift)


@kernel
def faint_rows(tag, finish, P, Q, ip, iq, normalize, V, F, GP, GQ, r0, r1):
    """V[r] and the gradients of the rows that `rows` has flagged FAINT."""
    for r in range(r0, r1):
        if not F[r] & FAINT:
            continue
        p, q = P[ip[r]], Q[iq[r]]
        a, b = 1.0, 1.0
        if normalize:
            a, b = 1.0 / total(p), 1.0 / total(q)
        gp, gq = row_of(GP, r)[0], row_of(GQ, r)[0]
        V[r] = _value(tag, finish, p, q, a, b, gp, gq)
        if normalize:
            through_sum(gp, p, a, V[r] == np.inf)
            through_sum(gq, q, b, V[r] == np.inf)


@kernel
def faint_pairs(tag, finish, P, Q, i0, j0, columns, todo, D, a, b):
    """D[a + i, b + j] of the pairs that `recompute` has left."""
    for r in range(todo.size):
        i, j = todo[r] // columns, todo[r] % columns
        D[a + i, b + j] = _value(tag, finish, P[i0 + i], Q[j0 + j], 1.0, 1.0, None, None)
