"""Nyström coordinates: what a few landmarks see of a kernel, as a contraction with a certificate.

With landmarks z and L L' = k(z, z) + εI, the coordinates c(x) = L⁻¹ k(z, x) define T φ(x) = c(x). T'T = Φ (L L')⁻¹ Φ'
lies between 0 and the identity as soon as L L' is no smaller than the true k(z, z). Then ‖Tμ‖ <= ‖μ‖ for every μ in the
space of the kernel, and what T misses, s(μ)² = ‖μ‖² − ‖Tμ‖², is the square of a seminorm, which obeys

    s(mean φ(x_i) − mean φ(y_j)) <= mean s(φ(x_i)) + mean s(φ(y_j)),        s(φ(x))² = k(x, x) − ‖c(x)‖².

ε = RIDGE·l·max k(z, z) is far above the rounding of k(z, z) and of its factor, so that the condition holds for the L
that was computed; and rounding in k(z, x), at most NOISE relative to k(x, x) + max k(z, z), is amplified by at most
1/√ε.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from otdist._arrays import Array
from otdist._expression import Kernel, Product, Sum
from otdist.kernels import threads
from otdist.rkhs import Linear, Polynomial

RIDGE, NOISE = 1e-10, 256 * 2.0**-52
TILE = 1 << 18  # entries of a tile of k(x, z)


@dataclass(frozen=True)
class Coordinates:
    """c(x) and s(φ(x)) for one kernel and one set of landmarks."""

    kernel: Kernel
    tag: Any
    landmarks: Array
    origin: Array | None  # of a conditional kernel: where the positive definite k(x,y) − k(x,o) − k(o,y) + k(o,o) is 0
    lower: Array  # L
    largest: float  # max k(z, z)

    def __call__(self, x: Array) -> tuple[Array, Array]:
        """c (n, l) and k(x, x) (n,) of a tile of points."""
        from scipy.linalg import solve_triangular

        K, diagonal = _definite(self.kernel, self.tag, self.origin, x, self.landmarks)
        if self.largest == 0:  # every landmark is the zero of the space: they see nothing
            return np.zeros(K.shape), diagonal
        return np.asarray(solve_triangular(self.lower, K.T, lower=True, check_finite=False).T), diagonal

    def slack(self, diagonal: Array) -> Array:
        """How much rounding of k(z, x), at most NOISE·(k(x,x) + largest) each, can move ‖c(x)‖."""
        if self.largest == 0:
            return np.zeros(len(diagonal))
        return np.asarray(NOISE * (diagonal + self.largest) / math.sqrt(RIDGE * self.largest))


def coordinates(kernel: Kernel, landmarks: Array) -> Coordinates:
    """Factor the landmarks' matrix: O(l²d + l³) time."""
    z, tag = landmarks, kernel.tag(landmarks.shape[1])
    origin = np.mean(z, axis=0, keepdims=True) if kernel.definite == "conditional" else None
    with np.errstate(over="ignore", invalid="ignore"):
        K, diagonal = _definite(kernel, tag, origin, z, z)
    largest = float(np.max(diagonal))
    K = (K + K.T) / 2
    if not math.isfinite(largest):
        raise ValueError(f"x: found points where {kernel} overflows; divide x and y by a common factor")
    K[np.diag_indices_from(K)] = diagonal + RIDGE * len(z) * largest if largest else 1.0
    return Coordinates(kernel, tag, z, origin, np.linalg.cholesky(K), largest)


def mean_and_miss(at: Coordinates, x: Array, name: str) -> tuple[Array, float, float]:
    """Mean of c over x (n, d), an upper bound of the mean of s(φ(x)), and one of the rounding of the first."""
    total, miss, noise = np.zeros(len(at.landmarks)), 0.0, 0.0
    for low, high in threads.spans(len(x), max(16, TILE // len(at.landmarks))):
        with np.errstate(over="ignore", invalid="ignore"):
            c, diagonal = at(x[low:high].astype(np.float64))
        if not np.isfinite(diagonal).all():
            raise ValueError(f"{name}: found points where {at.kernel} overflows; divide x and y by a common factor")
        slack = at.slack(diagonal)
        total += np.sum(c, axis=0)
        missed = diagonal - np.sum(c * c, axis=1) + 2 * np.sqrt(diagonal) * slack + NOISE * diagonal
        miss += float(np.sum(np.sqrt(np.maximum(missed, 0))))
        noise += float(np.sum(slack))
    return total / len(x), miss / len(x), noise / len(x)


def _definite(kernel: Kernel, tag: Any, origin: Array | None, x: Array, z: Array) -> tuple[Array, Array]:
    """k(x, z) and k(x, x); of a conditional kernel, the positive definite one with the same MMD."""
    from otdist.kernels import gram

    K, diagonal = gram.block(tag, x, z), _diagonal(kernel, x)
    if origin is None:
        return K, diagonal
    to_x, to_z = gram.block(tag, x, origin)[:, 0], gram.block(tag, z, origin)[:, 0]
    at = float(_diagonal(kernel, origin)[0])
    return K - to_x[:, None] - to_z + at, np.maximum(diagonal - 2 * to_x + at, 0.0)


def _diagonal(kernel: Kernel, x: Array) -> Array:
    """k(x_i, x_i), in O(n d)."""
    from otdist.kernels import gram

    if isinstance(kernel, Sum):
        return _diagonal(kernel.left, x) + _diagonal(kernel.right, x)
    if isinstance(kernel, Product):
        return _diagonal(kernel.left, x) * _diagonal(kernel.right, x)
    if isinstance(kernel, Linear | Polynomial):
        square = np.einsum("ij,ij->i", x, x)
        if isinstance(kernel, Linear):
            return np.asarray(square)
        gamma = 1 / x.shape[1] if kernel.gamma is None else kernel.gamma
        return np.asarray((gamma * square + kernel.coef0) ** kernel.degree)
    return np.full(len(x), gram.block(kernel.tag(x.shape[1]), x[:1], x[:1])[0, 0])  # of differences or of angles
