"""The linear algebra of `otdist.gaussian`: forms that lose nothing when two covariances nearly agree or are singular.

Every value below is a sum of non-negative terms in the *difference* of the covariances, so nothing cancels. Arrays are
float64 ndarrays, stacked over leading dimensions that broadcast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]


def tolerance(d: int, eps: float) -> float:
    """Eigenvalues below this share of the largest are rounding: the noise of a (d, d) product in precision `eps`."""
    return max(16, d) * eps


@dataclass(frozen=True)
class Factor:
    """A positive semi-definite S with eigenvectors taken in units in which its diagonal is about 1."""

    root: Array  # R, S = R R'; zero columns for the null directions
    whiten: Array  # W, W' S W = diag(1 on the support, 0)
    null: Array  # a basis of the null space; zero columns for the support
    rank: Array
    spread: Array  # largest eigenvalue over the smallest one kept; 0 for S = 0


def factor(name: str, S: Array, rank_tol: float, psd_tol: float) -> Factor:
    """Factor S; ValueError if it has an eigenvalue below -psd_tol of the largest.

    The eigenvalues are those of D^-1 S D^-1, D = sqrt(diag S): units of the coordinates play no part in the rank.
    Where rounding has spoilt the smallest diagonal entries that matrix can be indefinite; S itself then decides.
    """
    diagonal = np.diagonal(S, axis1=-2, axis2=-1)
    largest = power_of_two(np.sqrt(np.max(np.abs(S), axis=(-2, -1))))[..., None]
    scale = np.where(diagonal > 0, power_of_two(np.sqrt(np.maximum(diagonal, 0))), largest)
    w, V = _eigh_scaled(S, scale)
    spoilt = _indefinite(w, psd_tol)
    if spoilt.any():
        scale = np.where(spoilt[..., None], largest, scale)
        w, V = _eigh_scaled(S, scale)
        negative = _indefinite(w, psd_tol)
        if negative.any():
            where = np.unravel_index(int(np.argmax(negative)), negative.shape)
            raise ValueError(
                f"{name}: found a negative eigenvalue, {w[where][0] * largest[where][0] ** 2:.6g}"
                f"{_batch_index(where)}; a covariance must be positive semi-definite"
            )
    keep = w > rank_tol * w[..., -1:]
    safe = np.where(keep, w, 1.0)
    dual = V / scale[..., None]
    smallest = np.min(np.where(keep, w, np.inf), axis=-1)
    return Factor(
        root=scale[..., None] * V * np.where(keep, np.sqrt(safe), 0.0)[..., None, :],
        whiten=dual * np.where(keep, 1 / np.sqrt(safe), 0.0)[..., None, :],
        null=dual * ~keep[..., None, :],
        rank=keep.sum(axis=-1),
        spread=np.maximum(w[..., -1], 0.0) / smallest,
    )


def _eigh_scaled(S: Array, scale: Array) -> tuple[Array, Array]:
    w, V = np.linalg.eigh(S / scale[..., None] / scale[..., None, :])
    return w, V


def _indefinite(w: Array, tol: float) -> Array:
    return np.asarray(w[..., 0] < -tol * np.max(np.abs(w), axis=-1))


def _batch_index(where: tuple[Any, ...]) -> str:
    return f" in the matrix at index {tuple(int(i) for i in where)}" if where else ""


def power_of_two(a: Array) -> Array:
    """The power of two next below a, 1 for 0: scaling by it is exact."""
    _, exponent = np.frexp(np.where(a > 0, a, 1.0))
    return np.asarray(np.ldexp(1.0, exponent - 1))


def same_support(m1: Array, S1: Array, one: Factor, m2: Array, two: Factor, tol: float) -> Array:
    """Whether the two Gaussians live on one affine subspace.

    The computed null vectors n of S2 are off by an angle of tol * spread; n' S1 n and n' dm are compared with what
    that, and the rounding of the entries, can leave of them.
    """
    n, size = two.null, np.abs(two.null)
    angle = tol * two.spread[..., None]
    deviations = np.sqrt(np.maximum(np.diagonal(S1, axis1=-2, axis2=-1), 0))
    variance = np.sum(n * (S1 @ n), axis=-2)
    inside = variance <= (tol + angle**2) * _along(deviations, size) ** 2
    rounding = np.where(two.rank > 0, tol, 0.0)[..., None] * _along(np.abs(m1) + np.abs(m2), size)
    dm = m1 - m2
    reached = np.abs(_along(dm, n)) <= angle * _along(np.abs(dm), size) + rounding
    return np.asarray((one.rank == two.rank) & np.all(inside & reached, axis=-1))


def _along(v: Array, basis: Array) -> Array:
    return np.asarray((v[..., None, :] @ basis)[..., 0, :])


@dataclass(frozen=True)
class Spectrum:
    """S1 in coordinates in which S2 is the identity: eigenvalues lam = 1 + delta, and dm in the eigenvectors."""

    delta: Array  # accurate relative to the largest one however small S1 - S2 is
    lam: Array  # accurate relative to itself also near 0
    mean: Array


def spectrum(dm: Array, S1: Array, one: Factor, S2: Array, two: Factor) -> Spectrum:
    Wt = np.swapaxes(two.whiten, -1, -2)
    delta, U = np.linalg.eigh(Wt @ (S1 - S2) @ two.whiten)
    lam = 1 + delta
    if np.any(delta < -0.5):
        # 1 + delta has lost the digits of a small eigenvalue. The squared singular values of W'R keep them; the unit
        # columns give the null directions, where delta = 0, their lam = 1.
        ones = np.eye(dm.shape[-1]) * np.any(two.null != 0, axis=-2)[..., None, :]
        rows = Wt @ one.root
        sigma = np.linalg.svd(np.concatenate([rows, np.broadcast_to(ones, rows.shape)], axis=-1), compute_uv=False)
        lam = np.where(delta < -0.5, sigma[..., ::-1] ** 2, lam)
    return Spectrum(delta, lam, _along(_along(dm, two.whiten), U))


def excess(x: Array, log: Array) -> Array:
    """x - log1p(x), given log = log1p(x) for |x| > 1/2.

    With t = x / (2 + x), log1p(x) = 2 atanh(t) and x = (2 + x) t: the difference is t (x - 2 (t^2/3 + t^4/5 + ...)).
    """
    small = np.where(np.abs(x) <= 0.5, x, 0.0)
    t = small / (2 + small)
    t2 = t * t
    tail = np.zeros_like(t2)
    for k in range(35, 1, -2):  # t^2 <= 1/9: what is left out is below 1e-18 of the sum
        tail = (tail + 1 / k) * t2
    return np.where(np.abs(x) <= 0.5, t * (small - 2 * tail), x - log)


def log_lam(s: Spectrum) -> Array:
    return np.where(s.delta > 0.5, np.log1p(np.maximum(s.delta, 0)), np.log(s.lam))


def renyi_volume(beta: float, s: Spectrum) -> Array:
    """Sum of log(1 + beta delta)/beta - log lam, beta = 1 - alpha <= 1/2; +inf where a 1 + beta delta is <= 0."""
    x = beta * s.delta
    log = np.log1p(np.maximum(x, -1.0))
    near = excess(s.delta, log_lam(s)) - excess(x, log) / beta
    far = log / beta - log_lam(s)
    terms = np.where(np.abs(s.delta) <= 0.5, near, far)
    return np.asarray(np.sum(np.where(x > -1, terms, np.inf), axis=-1))


def bures2(F: Array, G: Array, difference: Array) -> Array:
    """Squared Bures-Wasserstein distance of A = F F' (k, r1) and B = G G' (k, r2), given A - B.

    Rotate the factors so that F' G is diagonal and >= 0: the distance is the Frobenius norm of Z = F - G. With
    Y = F + G, Z Y' + Y Z' = 2 (A - B) and Z'Y is symmetric. For Y = L y R', D = L'(A - B)L this Lyapunov equation gives
    |Z|^2 = sum of 2 D_ij^2 / (y_i^2 + y_j^2): no root of nearly equal matrices is subtracted.
    In exact arithmetic 2 |D_ij| <= y_i^2 + y_j^2, so the clamp only cuts rounding where both are nearly 0.
    """
    P, _, Qt = np.linalg.svd(np.swapaxes(F, -1, -2) @ G)
    first, second = F @ P, G @ np.swapaxes(Qt, -1, -2)
    if first.shape[-1] < second.shape[-1]:
        first, second = second, first
    Y = first.copy()
    Y[..., : second.shape[-1]] += second
    L, y, _ = np.linalg.svd(Y)
    squares = np.zeros(Y.shape[:-1])
    squares[..., : y.shape[-1]] = y * y
    pair = squares[..., :, None] + squares[..., None, :]
    D = 2 * np.abs(np.swapaxes(L, -1, -2) @ difference @ L)
    ratio = np.minimum(np.divide(D, pair, out=np.zeros_like(D), where=pair > 0), 1.0)
    return np.asarray(np.sum(pair * ratio**2, axis=(-2, -1)) / 2)
