"""Closed forms between Gaussians, as written in textbooks, at 50 digits: the oracle of `otdist.gaussian`.

Cancellation costs the textbook forms half of their digits when the Gaussians nearly agree; 50 digits leave enough.
One pair at a time: means (d,), covariances (d, d), positive definite except in `w2`.
"""

from __future__ import annotations

from typing import Any

from mpmath import mp  # type: ignore[import-untyped]

DIGITS = 50


def kl(m1: Any, S1: Any, m2: Any, S2: Any) -> Any:
    """(tr(S2^-1 S1) + dm' S2^-1 dm - d + log(det S2 / det S1)) / 2."""
    with mp.workdps(DIGITS):
        dm, A, B = _difference(m1, m2), mp.matrix(S1), mp.matrix(S2)
        inverse = mp.inverse(B)
        return (_trace(inverse * A) + _quadratic(inverse, dm) - A.rows + mp.log(mp.det(B) / mp.det(A))) / 2


def renyi(m1: Any, S1: Any, m2: Any, S2: Any, alpha: float) -> Any:
    """alpha dm' S^-1 dm / 2 - log(det S / (det S1^(1-alpha) det S2^alpha)) / (2 (alpha-1)).

    S = alpha S2 + (1-alpha) S1. Gil, Alajaji & Linder (2013), table 2. +inf where S is not positive definite.
    """
    with mp.workdps(DIGITS):
        a, dm, A, B = mp.mpf(alpha), _difference(m1, m2), mp.matrix(S1), mp.matrix(S2)
        S = a * B + (1 - a) * A
        if min(mp.eigsy(S, eigvals_only=True)) <= 0:
            return mp.inf
        volume = mp.log(mp.det(S)) - (1 - a) * mp.log(mp.det(A)) - a * mp.log(mp.det(B))
        return a * _quadratic(mp.inverse(S), dm) / 2 - volume / (2 * (a - 1))


def bhattacharyya(m1: Any, S1: Any, m2: Any, S2: Any) -> Any:
    """dm' S^-1 dm / 8 + log(det S / sqrt(det S1 det S2)) / 2, S = (S1 + S2) / 2."""
    with mp.workdps(DIGITS):
        dm, A, B = _difference(m1, m2), mp.matrix(S1), mp.matrix(S2)
        S = (A + B) / 2
        return _quadratic(mp.inverse(S), dm) / 8 + mp.log(mp.det(S) / mp.sqrt(mp.det(A) * mp.det(B))) / 2


def hellinger(m1: Any, S1: Any, m2: Any, S2: Any) -> Any:
    """sqrt(1 - BC), BC = exp(-bhattacharyya)."""
    with mp.workdps(DIGITS):
        return mp.sqrt(-mp.expm1(-bhattacharyya(m1, S1, m2, S2)))


def w2(m1: Any, S1: Any, m2: Any, S2: Any) -> Any:
    """sqrt(|dm|^2 + tr S1 + tr S2 - 2 tr (S1^1/2 S2 S1^1/2)^1/2), Dowson & Landau (1982)."""
    with mp.workdps(DIGITS):
        dm, A, B = _difference(m1, m2), mp.matrix(S1), mp.matrix(S2)
        root = _root(A)
        return mp.sqrt(abs((dm.T * dm)[0] + _trace(A) + _trace(B) - 2 * _trace(_root(root * B * root))))


def _difference(m1: Any, m2: Any) -> Any:
    return mp.matrix(m1) - mp.matrix(m2)


def _quadratic(inverse: Any, v: Any) -> Any:
    return (v.T * inverse * v)[0]


def _trace(A: Any) -> Any:
    return mp.fsum(A[i, i] for i in range(A.rows))


def _root(A: Any) -> Any:
    values, vectors = mp.eigsy((A + A.T) / 2)
    return vectors * mp.diag([mp.sqrt(max(v, 0)) for v in values]) * vectors.T
