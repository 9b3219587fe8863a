"""One-dimensional distances by their double sums, in exact or sixty-digit arithmetic, and how the tests call ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest

from otdist._line import Outcome, energy_line, laplace_line

ALL = (True, True, True, True)
SIGMAS = (0.7, 3.0)
mp = mpmath.mp.clone()
mp.dps = 60


@dataclass(frozen=True)
class Kernel:
    """A kernel of the difference, its derivative (0 at 0), and the numbers it is computed in."""

    of: Callable[[Any], Any]
    slope: Callable[[Any], Any]
    number: Callable[[Any], Any]


def sign(d: Any) -> int:
    return (d > 0) - (d < 0)


def laplacian(sigmas: Any) -> Kernel:
    sigmas = [mp.mpf(float(s)) for s in sigmas]
    return Kernel(
        lambda d: sum(mp.exp(-abs(d) / s) for s in sigmas),
        lambda d: sum(-sign(d) * mp.exp(-abs(d) / s) / s for s in sigmas),
        lambda v: mp.mpf(float(v)),
    )


ENERGY = Kernel(lambda d: -abs(d), lambda d: -sign(d), lambda v: Fraction(float(v)))


def numbers(kernel: Kernel, sample: Any, weights: Any) -> tuple[list[Any], list[Any]]:
    points = [kernel.number(v) for v in sample]
    masses = [kernel.number(1.0 if weights is None else weights[i]) for i in range(len(points))]
    return points, [m / sum(masses) for m in masses]


def definition(kernel: Kernel, x: Any, y: Any, a: Any, b: Any, unbiased: bool = False) -> tuple[float, Any, list[Any]]:
    """Value, sums and gradients by their double sums, in exact or sixty-digit arithmetic."""
    (x, a), (y, b) = numbers(kernel, x, a), numbers(kernel, y, b)

    def double(p: Any, u: Any, q: Any, v: Any) -> Any:
        return sum(s * t * kernel.of(i - j) for i, s in zip(p, u, strict=True) for j, t in zip(q, v, strict=True))

    sums = [double(x, a, x, a), double(x, a, y, b), double(y, b, y, b)]
    value = -2 * sums[1]
    slopes, levels = [], []
    for p, u, q, v, own in ((x, a, y, b, sums[0]), (y, b, x, a, sums[2])):
        rest = 1 - sum(t * t for t in u) if unbiased else 1
        diagonal = kernel.of(p[0] - p[0]) if unbiased else 0
        inner = own - diagonal * sum(t * t for t in u)
        value += inner / rest
        for i, t in zip(p, u, strict=True):
            mine = sum(s * kernel.of(i - j) for j, s in zip(p, u, strict=True)) - t * diagonal
            other = sum(s * kernel.of(i - j) for j, s in zip(q, v, strict=True))
            levels.append(2 * mine / rest + (2 * t * inner / rest**2 if unbiased else 0) - 2 * other)
            mine = sum(s * kernel.slope(i - j) for j, s in zip(p, u, strict=True))
            other = sum(s * kernel.slope(i - j) for j, s in zip(q, v, strict=True))
            slopes.append(2 * t * (mine / rest - other))
    n = len(x)
    parts = (slopes[:n], slopes[n:], levels[:n], levels[n:])
    return float(value), np.array([float(s) for s in sums]), [np.array([float(v) for v in part]) for part in parts]


def call(sigmas: Any, x: Any, y: Any, a: Any = None, b: Any = None, wanted: Any = (False,) * 4, **o: Any) -> Outcome:
    x, y, a, b = (None if part is None else np.atleast_2d(part) for part in (x, y, a, b))
    return energy_line(x, y, a, b, wanted, **o) if sigmas is None else laplace_line(x, y, a, b, sigmas, wanted, **o)


def spread_out(seed: int, n: int, m: int, ties: int = 0) -> tuple[Any, Any, Any, Any]:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=n), rng.normal(0.4, 1.5, size=m)
    if ties:
        x, y = np.round(x * ties) / ties, np.round(y * ties) / ties
    a, b = rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(m))
    return x, y, a, b


def agree(got: Any, want: Any, tolerance: float, scale: float = 0.0) -> None:
    scale = max(scale, float(np.max(np.abs(want), initial=0.0)))
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * scale)


KERNELS = pytest.mark.parametrize("sigmas", [None, (0.5, 20.0)])
