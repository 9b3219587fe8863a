"""Distances between samples, as definitions: the oracle of every test.

Samples are x (..., n, d) and y (..., m, d), weights a (..., n) and b (..., m), or None for equal ones. A kernel is a
function of two samples that returns their Gram matrix (..., n, m). As in ``divergences``, everything takes any array
namespace that has ``where, exp, sqrt, abs, sum``: NumPy (in extended precision, too), torch and jax.numpy (whose
autodiff then differentiates the definition), or mpmath numbers in object arrays. Nothing is arranged against rounding:
where the parts of a distance cancel, use extended precision.

Roots and powers of a distance are written so that automatic differentiation gives coincident points the gradient 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

Kernel = Callable[..., Any]

GMMN = (2, 5, 10, 20, 40, 80)
WAE = (0.1, 0.2, 0.5, 1, 2, 5, 10)

# -- costs --------------------------------------------------------------------------------------------------


def inner(x: Any, y: Any, *, xp: Any = np) -> Any:
    """⟨x_i, y_j⟩."""
    return xp.sum(x[..., :, None, :] * y[..., None, :, :], -1)


def power(c: Any, exponent: float, *, xp: Any = np) -> Any:
    """c^exponent for c >= 0, with 0^exponent = 0 and no gradient there."""
    there = c > 0
    base = xp.where(there, c, 1.0)
    return xp.where(there, xp.sqrt(base) if exponent == 0.5 else base**exponent, 0.0)


def sqeuclidean(x: Any, y: Any, *, xp: Any = np) -> Any:
    """‖x_i - y_j‖²."""
    return xp.sum((x[..., :, None, :] - y[..., None, :, :]) ** 2, -1)


def euclidean(x: Any, y: Any, *, xp: Any = np) -> Any:
    """‖x_i - y_j‖."""
    return power(sqeuclidean(x, y, xp=xp), 0.5, xp=xp)


def cityblock(x: Any, y: Any, *, xp: Any = np) -> Any:
    """Σ_k |x_ik - y_jk|."""
    return xp.sum(xp.abs(x[..., :, None, :] - y[..., None, :, :]), -1)


def cosine(x: Any, y: Any, *, xp: Any = np) -> Any:
    """1 - cos of the angle between x_i and y_j."""
    norm_x, norm_y = (xp.sqrt(xp.sum(z**2, -1)) for z in (x, y))
    return 1 - inner(x, y, xp=xp) / (norm_x[..., :, None] * norm_y[..., None, :])


COSTS = {"sqeuclidean": sqeuclidean, "euclidean": euclidean, "cityblock": cityblock, "cosine": cosine}

# -- kernels ------------------------------------------------------------------------------------------------


def of_cost(profile: Callable[..., Any], bandwidth: float | tuple[float, ...], cost: str) -> Kernel:
    """Σ over the bandwidths of profile(c(x, y), bandwidth)."""
    bandwidths = bandwidth if isinstance(bandwidth, tuple) else (bandwidth,)

    def kernel(x: Any, y: Any, *, xp: Any = np) -> Any:
        c = COSTS[cost](x, y, xp=xp)
        return sum(profile(c, s, xp) for s in bandwidths)

    return kernel


def gaussian(bandwidth: float | tuple[float, ...], cost: str = "sqeuclidean") -> Kernel:
    """exp(-c / 2σ²)."""
    return of_cost(lambda c, s, xp: xp.exp(-c / s / s / 2), bandwidth, cost)


def laplacian(bandwidth: float | tuple[float, ...], cost: str = "cityblock") -> Kernel:
    """exp(-c / σ)."""
    return of_cost(lambda c, s, xp: xp.exp(-c / s), bandwidth, cost)


def imq(bandwidth: float | tuple[float, ...], power: float = 0.5, cost: str = "sqeuclidean") -> Kernel:
    """(1 + c / σ²)^-power."""
    return of_cost(lambda c, s, xp: (1 + c / s / s) ** -power, bandwidth, cost)


def rational_quadratic(bandwidth: float | tuple[float, ...], alpha: float = 1.0, cost: str = "sqeuclidean") -> Kernel:
    """(1 + c / 2ασ²)^-α."""
    return of_cost(lambda c, s, xp: (1 + c / s / s / (2 * alpha)) ** -alpha, bandwidth, cost)


def matern(bandwidth: float | tuple[float, ...], nu: float = 1.5) -> Kernel:
    """p(r) e^-r with r = √(2ν)‖x - y‖/σ and p = 1, 1 + r, 1 + r + r²/3 for ν = 1/2, 3/2, 5/2."""
    factors: dict[float, Callable[[Any], Any]]
    factors = {0.5: lambda r: 1, 1.5: lambda r: 1 + r, 2.5: lambda r: 1 + r + r**2 / 3}

    def profile(c: Any, s: float, xp: Any) -> Any:
        r = power(2 * nu * c, 0.5, xp=xp) / s
        return factors[nu](r) * xp.exp(-r)

    return of_cost(profile, bandwidth, "sqeuclidean")


def polynomial(degree: int = 3, gamma: float | None = None, coef0: float = 1.0) -> Kernel:
    """(γ⟨x, y⟩ + c₀)^degree; γ = 1/d by default."""

    def kernel(x: Any, y: Any, *, xp: Any = np) -> Any:
        product = inner(x, y, xp=xp)
        return ((product / x.shape[-1] if gamma is None else gamma * product) + coef0) ** degree

    return kernel


def linear() -> Kernel:
    """⟨x, y⟩."""
    return inner


def energy(exponent: float = 1.0) -> Kernel:
    """-‖x - y‖^exponent."""
    return lambda x, y, *, xp=np: -power(sqeuclidean(x, y, xp=xp), exponent / 2, xp=xp)


def constant(c: float) -> Kernel:
    """c."""
    return lambda x, y, *, xp=np: 0 * inner(x, y, xp=xp) + c


def add(*kernels: Kernel) -> Kernel:
    """k₁ + k₂ + …"""
    return lambda x, y, *, xp=np: sum(k(x, y, xp=xp) for k in kernels)


def multiply(one: Kernel, other: Kernel) -> Kernel:
    """k₁ · k₂."""
    return lambda x, y, *, xp=np: one(x, y, xp=xp) * other(x, y, xp=xp)


def gmmn() -> Kernel:
    """Σ exp(-‖x - y‖² / 2σ²), σ = 2, 5, 10, 20, 40, 80. Li, Swersky & Zemel (2015)."""
    return gaussian(GMMN)


def wae() -> Kernel:
    """Σ C / (C + ‖x - y‖²), C = 2ds, s = .1, .2, .5, 1, 2, 5, 10. Tolstikhin et al. (2018), with σ_z = 1."""

    def kernel(x: Any, y: Any, *, xp: Any = np) -> Any:
        c = sqeuclidean(x, y, xp=xp)
        return sum(2 * x.shape[-1] * s / (2 * x.shape[-1] * s + c) for s in WAE)

    return kernel


# -- distances ----------------------------------------------------------------------------------------------


def weights(x: Any, a: Any) -> Any:
    """a, or 1/n for every point."""
    return (0 * x[..., 0] + 1) / x.shape[-2] if a is None else a


def form(K: Any, a: Any, b: Any, *, xp: Any = np) -> Any:
    """Σ_ij a_i b_j K_ij."""
    return xp.sum(xp.sum(a[..., :, None] * K * b[..., None, :], -1), -1)


def paired(kernel: Kernel, x: Any, y: Any, *, xp: Any = np) -> Any:
    """k(x_i, y_i)."""
    return kernel(x[..., None, :], y[..., None, :], xp=xp)[..., 0, 0]


def mmd(kernel: Kernel, x: Any, y: Any, a: Any = None, b: Any = None, *, xp: Any = np) -> Any:
    """The V-statistic Σ a_i a_j k(x_i, x_j) + Σ b_i b_j k(y_i, y_j) - 2 Σ a_i b_j k(x_i, y_j)."""
    a, b = weights(x, a), weights(y, b)
    Kxx, Kyy, Kxy = kernel(x, x, xp=xp), kernel(y, y, xp=xp), kernel(x, y, xp=xp)
    return form(Kxx, a, a, xp=xp) + form(Kyy, b, b, xp=xp) - 2 * form(Kxy, a, b, xp=xp)


def mmd_unbiased(kernel: Kernel, x: Any, y: Any, a: Any = None, b: Any = None, *, xp: Any = np) -> Any:
    """As ``mmd`` with Σ_{i≠j} a_i a_j k(x_i, x_j) / (1 - Σ a_i²) within each sample."""
    a, b = weights(x, a), weights(y, b)

    def within(z: Any, w: Any) -> Any:
        apart = form(kernel(z, z, xp=xp), w, w, xp=xp) - xp.sum(w**2 * paired(kernel, z, z, xp=xp), -1)
        return apart / (1 - xp.sum(w**2, -1))

    return within(x, a) + within(y, b) - 2 * form(kernel(x, y, xp=xp), a, b, xp=xp)


def mmd_linear(kernel: Kernel, x: Any, y: Any, *, xp: Any = np) -> Any:
    """Mean over i of k(x₁, x₂) + k(y₁, y₂) - k(x₁, y₂) - k(x₂, y₁), 1 and 2 the points 2i and 2i + 1.

    Gretton et al. (2012), lemma 14.
    """
    half = x.shape[-2] // 2
    x1, x2, y1, y2 = (z[..., start : 2 * half : 2, :] for z in (x, y) for start in (0, 1))
    h = paired(kernel, x1, x2, xp=xp) + paired(kernel, y1, y2, xp=xp)
    return xp.sum(h - paired(kernel, x1, y2, xp=xp) - paired(kernel, x2, y1, xp=xp), -1) / half


def mmd_block(kernel: Kernel, x: Any, y: Any, block_size: int, *, xp: Any = np) -> Any:
    """Mean of ``mmd_unbiased`` over consecutive blocks; what is left at the end is not used. Zaremba et al. (2013)."""
    blocks = x.shape[-2] // block_size
    cuts = [slice(i * block_size, (i + 1) * block_size) for i in range(blocks)]
    return sum(mmd_unbiased(kernel, x[..., cut, :], y[..., cut, :], xp=xp) for cut in cuts) / blocks


def energy_distance(x: Any, y: Any, exponent: float = 1.0, a: Any = None, b: Any = None, *, xp: Any = np) -> Any:
    """2E‖x - y‖^e - E‖x - x′‖^e - E‖y - y′‖^e. Székely & Rizzo (2013)."""

    def mean(u: Any, v: Any, s: Any, t: Any) -> Any:
        return form(power(sqeuclidean(u, v, xp=xp), exponent / 2, xp=xp), s, t, xp=xp)

    a, b = weights(x, a), weights(y, b)
    return 2 * mean(x, y, a, b) - mean(x, x, a, a) - mean(y, y, b, b)


def witness(kernel: Kernel, x: Any, y: Any, at: Any, a: Any = None, b: Any = None, *, xp: Any = np) -> Any:
    """Σ a_i k(x_i, t) - Σ b_j k(y_j, t) at the points t (..., l, d): (..., l)."""
    a, b = weights(x, a), weights(y, b)
    of_x = xp.sum(kernel(at, x, xp=xp) * a[..., None, :], -1)
    return of_x - xp.sum(kernel(at, y, xp=xp) * b[..., None, :], -1)


def kid(
    x: Any, y: Any, subsets: Iterable[tuple[Any, Any]], degree: int = 3, gamma: float | None = None, coef0: float = 1.0
) -> tuple[float, float]:
    """Mean and standard error of the unbiased polynomial MMD² over pairs of index arrays into x and y."""
    kernel = polynomial(degree, gamma, coef0)
    values = np.array([mmd_unbiased(kernel, x[i], y[j]) for i, j in subsets])
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))


def size(kernel: Kernel, x: Any, y: Any, a: Any = None, b: Any = None, *, xp: Any = np) -> Any:
    """Σ of the absolute values that ``mmd`` adds and subtracts: what its rounding is measured by."""
    a, b = weights(x, a), weights(y, b)
    Kxx, Kyy, Kxy = (xp.abs(kernel(u, v, xp=xp)) for u, v in ((x, x), (y, y), (x, y)))
    return form(Kxx, a, a, xp=xp) + form(Kyy, b, b, xp=xp) + 2 * form(Kxy, a, b, xp=xp)


def median_distance(x: Any, y: Any, cost: str = "euclidean") -> float:
    """Median of the distances between the different points of the pooled sample."""
    pooled = np.concatenate([x, y], -2)
    above = np.triu_indices(len(pooled), 1)
    return float(np.median(COSTS[cost](pooled, pooled)[above]))
