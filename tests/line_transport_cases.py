"""Transport on the line by its definition in rational numbers, and samples that are hard for it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import Any

import mpmath
import numpy as np
from scipy.optimize import linprog

mp = mpmath.mp.clone()
mp.dps = 60


def definition(u: Any, v: Any, a: Any = None, b: Any = None, p: float = 1.0) -> float:
    """(∫ |F⁻¹(s) − G⁻¹(s)|^p ds)^(1/p): quantiles are looked up in the middle of every interval between levels."""
    sides = []
    for points, weights in ((u, a), (v, b)):
        masses = [
            Fraction(1) if weights is None else Fraction(float(w)) for w in (points if weights is None else weights)
        ]
        pairs = sorted((Fraction(float(x)), m / sum(masses)) for x, m in zip(points, masses, strict=True))
        sides.append(([x for x, _ in pairs], list(accumulate(m for _, m in pairs))))
    levels = sorted({Fraction(0), *sides[0][1], *sides[1][1]})
    total, widest = mp.mpf(0), mp.mpf(0)
    for low, high in pairwise(levels):
        middle = (low + high) / 2
        x, y = (points[bisect_left(heights, middle)] for points, heights in sides)
        gap = abs(x - y)
        gap = mp.mpf(gap.numerator) / gap.denominator
        widest = max(widest, gap)
        if p != np.inf:
            total += mp.mpf((high - low).numerator) / (high - low).denominator * gap ** mp.mpf(p)
    return float(widest if p == np.inf else total ** (1 / mp.mpf(p)))


def program(C: Any, a: Any, b: Any) -> float:
    """The value of the transport problem as a linear program."""
    n, m = C.shape
    rows = np.kron(np.eye(n), np.ones(m))
    cols = np.kron(np.ones(n), np.eye(m))
    found = linprog(C.ravel(), A_eq=np.vstack([rows, cols])[:-1], b_eq=np.concatenate([a, b])[:-1], method="highs")
    assert found.status == 0
    return float(found.fun)


def draw(seed: int, n: int, m: int) -> tuple[Any, Any, Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=n), rng.normal(0.4, 1.5, size=m), rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(m))


def hard() -> Iterator[Any]:
    """(label, u, v, a, b)."""
    u, v, a, b = draw(0, 40, 25)
    yield "plain", u, v, a, b
    yield "equal numbers", u[:25], v, None, None
    yield "unequal numbers", u, v, None, None
    yield "one sided weights", u, v, a, None
    yield "coprime", u[:7], v[:11], None, None
    yield "one point", u[:1], v, None, b
    yield "two single points", u[:1], v[:1], None, None
    lattice = np.round(u * 2), np.round(v * 2)
    yield "lattice", *lattice, a, b
    yield "lattice, equal weights", *lattice, None, None
    yield (
        "levels in common",
        u[:8],
        v[:8],
        np.array([1, 2, 1, 1, 0, 0, 2, 1]) / 8,
        np.array([0, 2, 2, 0, 1, 1, 1, 1]) / 8,
    )
    zero = a * (np.arange(40) % 3 > 0)
    yield "zero weights", u, v, zero / zero.sum(), b
    yield "all mass on one", u[:4], v[:3], np.array([0.0, 1, 0, 0]), np.array([0.0, 0, 1])
    wide = 10.0 ** -np.linspace(0, 14, 40)
    yield "fourteen decades", u * 10.0 ** np.linspace(0, 14, 40), v, wide / wide.sum(), b
    yield "constant", np.full(5, 2.5), np.full(3, 2.5), None, None
    yield "offset", u + 1e9, v + 1e9, a, b
    yield "identical", u, u, a, a
