"""Kernels by finite features: distances between samples far too large for all pairs.

`mmd_features` (random Fourier features) and `mmd_nystroem` (landmarks) take time and memory linear in the number of
points, and say how far off they are: the first by a standard error over the random frequencies, the second by bounds
that bracket the exact value. `random_fourier` and `nystroem` give the features themselves.

=============  ======================================  ================================================================
features       kernels                                 error
=============  ======================================  ================================================================
Fourier        positive definite functions of x − y:   random, unbiased, of the order of 1/√features relative to the
               Gaussian, Laplacian, Matérn, IMQ,       MMD², whatever the kernel and d
               rational quadratic, their sums and
               products, constants
Nyström        all                                     one-sided, with certified bounds; small where the kernel is
                                                       smooth at the scale of the data (large bandwidth, small d)
=============  ======================================  ================================================================
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from otdist import _clouds, _nystroem, _samples, _spectrum, rkhs
from otdist._arrays import Array, enter_host
from otdist._expression import Kernel
from otdist.catalogue import choose
from otdist.kernels import threads

__all__ = ["mmd_features", "mmd_nystroem", "nystroem", "random_fourier"]


@dataclass(frozen=True)
class Estimate:
    """A random approximation of MMD², and its standard error over the draw of the features."""

    value: float
    standard_error: float
    features: int


@dataclass(frozen=True)
class Bounds:
    """An approximation of MMD² from below, and bounds of the exact one: lower <= MMD² <= upper."""

    value: float
    lower: float
    upper: float
    landmarks: int


def mmd_features(
    x: Any,
    y: Any,
    *,
    kernel: str | Kernel = "gaussian",
    bandwidth: Any = "median",
    features: int = 1024,
    estimator: Literal["biased", "unbiased"] = "biased",
    rng: Any = None,
) -> Estimate:
    """MMD² between two samples by random Fourier features, with its standard error.

    For a kernel k(x − y) = k(0)·E cos⟨ω, x − y⟩, MMD² is the mean over ω of
    ``k(0)·|mean e^(i⟨ω,x⟩) − mean e^(i⟨ω,y⟩)|²``; here over `features` independent draws of ω.

    Parameters
    ----------
    x, y : array (n, d) and (m, d)
        The samples.
    kernel : str or kernel, default "gaussian"
        A positive definite function of x − y, or its name: `Gaussian`, `Laplacian`, `Matern`, `IMQ`,
        `RationalQuadratic` of the costs "sqeuclidean", "euclidean" or "cityblock", their sums and products.
    bandwidth : float, tuple of float, "median" or "scott"
        For a kernel that states none, as for `otdist.mmd`.
    features : int, default 1024
        Number of frequencies, at least 2; each gives a cosine and a sine.
    estimator : {"biased", "unbiased"}
        Which statistic to approximate: the V-statistic, which is >= 0, or the U-statistic, which may be negative.
    rng : None, int or numpy.random.Generator
        Source of the frequencies. With the same state, the answer is the same to the bit on any number of threads.

    Returns
    -------
    Estimate
        ``value``, ``standard_error`` and ``features``; Python floats.

    Raises
    ------
    ValueError
        A kernel without Fourier features (polynomial, linear, energy, cosine), samples that do not fit, entries that
        are not finite, points so many bandwidths apart that float64 does not resolve their phases.

    Notes
    -----
    Unbiased over the draw of ω: its mean is exactly the statistic of the same kernel over all pairs. The standard error
    is the deviation of the terms over √features (cosine and sine of one ω are one term); it covers the random features
    only, not the sampling of x and y. It is relative to the value, about 1/√features to a few times that: a small MMD²
    needs no more features than a large one. Cosines are evaluated in float32 after the phase was reduced in float64,
    which moves |mean − mean| by less than 1e-6.

    O((n + m)·d·features) time, about 2 + 0.02 d ns per point and feature on one core; memory O(features·(d + 500)),
    none of it growing with n. No gradients.

    Reference: Rahimi & Recht (2007), Random features for large-scale kernel machines; Zhao & Meng (2015), FastMMD;
    Sutherland & Schneider (2015), On the error of random Fourier features.

    Examples
    --------
    >>> import numpy as np
    >>> from otdist import features
    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.normal(size=(5000, 2)), rng.normal(size=(4000, 2)) + 1.0
    >>> found = features.mmd_features(x, y, bandwidth=1.0, rng=0)
    >>> exact = 2 / 3 * (1 - np.exp(-1 / 3))  # of the two Gaussians
    >>> bool(abs(found.value - exact) < 4 * found.standard_error + 0.02)
    True
    """
    choose("estimator", estimator, ("biased", "unbiased"))
    features, rng = _clouds.count("features", features, 2), _samples.generator(rng)
    x, y = _two_clouds(x, y)
    n, m = len(x), len(y)
    if estimator == "unbiased" and min(n, m) < 2:
        raise ValueError(f"estimator: found 'unbiased' for {n} and {m} points; it needs two of each")
    law = _spectrum.varying(rkhs.resolve(kernel, bandwidth, x, y))
    if law is None:
        return Estimate(0.0, 0.0, features)
    total = _spectrum.mass(law)
    frequencies = _spectrum.draw(law, rng, features, x.shape[1])
    centre = np.asarray(np.mean(x, axis=0, dtype=np.float64) + np.mean(y, axis=0, dtype=np.float64)) / 2
    _spectrum.refuse_coarse("x and y", np.maximum(_reach(x, centre), _reach(y, centre)), frequencies)
    a, b = _spectrum.mean_waves(x, centre, frequencies), _spectrum.mean_waves(y, centre, frequencies)
    terms = np.sum((a - b) ** 2, axis=0)
    if estimator == "unbiased":  # |a|² holds n terms i = j of 1/n² each
        terms += (np.sum(a * a, axis=0) - 1) / (n - 1) + (np.sum(b * b, axis=0) - 1) / (m - 1)
    error = float(np.std(terms, ddof=1)) / math.sqrt(features)
    return Estimate(total * float(np.mean(terms)), total * error, features)


def mmd_nystroem(
    x: Any,
    y: Any,
    *,
    kernel: str | Kernel = "gaussian",
    bandwidth: Any = "median",
    landmarks: Any = 256,
    rng: Any = None,
) -> Bounds:
    """MMD² between two samples as seen by landmarks (Nyström), with bounds of the exact one.

    With P the projection on the span of k(z, ·) over the landmarks z, ``‖P(μx − μy)‖² <= MMD² <= ‖P(μx − μy)‖² + s²``,
    where s is the mean over x of ``√(k(x,x) − ‖P k(x,·)‖²)`` plus that over y.

    Parameters
    ----------
    x, y : array (n, d) and (m, d)
        The samples.
    kernel : str or kernel, default "gaussian"
        Any kernel; conditional ones (`Energy`) are measured from the landmarks' mean, which changes no MMD.
    bandwidth : float, tuple of float, "median" or "scott"
        For a kernel that states none, as for `otdist.mmd`.
    landmarks : int or array (l, d), default 256
        How many points to draw from both samples together, evenly and without replacement, or the landmarks.
    rng : None, int or numpy.random.Generator
        Source of the draw.

    Returns
    -------
    Bounds
        ``value`` = ‖P(μx − μy)‖², ``lower`` and ``upper`` of the biased (V-statistic) MMD², and how many landmarks;
        Python floats. The bounds hold for every draw and include an allowance for rounding.

    Raises
    ------
    ValueError, TypeError
        Samples or landmarks that do not fit, entries that are not finite.

    Notes
    -----
    `value` never exceeds MMD² (up to rounding). The bounds are tight when the landmarks resolve the kernel on the data:
    bandwidths near the size of the data and small d. If they are wide, use `mmd_features`, whose error does not depend
    on that. The projection is regularised by 1e-10 of its largest possible eigenvalue, which both bounds account
    for; the allowance for rounding keeps them about 1e-7 max k(x, x) apart.

    O((n + m)(d l + l²) + l³) time, O(l² + l d) memory beyond a tile of the points; float64 throughout. No gradients.

    Reference: Williams & Seeger (2001), Using the Nyström method to speed up kernel machines; Chatalic et al. (2022),
    Nyström kernel mean embeddings, *ICML*. The upper bound is the triangle inequality for what P misses.

    Examples
    --------
    >>> import numpy as np
    >>> import otdist as od
    >>> from otdist import features
    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.normal(size=(3000, 2)), rng.normal(size=(2000, 2)) + 1.0
    >>> k = od.Gaussian(2.0)
    >>> found = features.mmd_nystroem(x, y, kernel=k, landmarks=100, rng=0)
    >>> exact = np.mean(k(x)) + np.mean(k(y)) - 2 * np.mean(k(x, y))
    >>> bool(found.lower <= exact <= found.upper < 1.01 * exact)
    True
    """
    rng = _samples.generator(rng)
    x, y = _two_clouds(x, y)
    chosen = _landmarks(landmarks, (x, y), rng)
    law = rkhs.resolve(kernel, bandwidth, x, y)
    _samples.refuse_zero_vectors(law, x=x, y=y, landmarks=chosen)
    at = _nystroem.coordinates(law, chosen)
    (a, miss_x, noise_x), (b, miss_y, noise_y) = (
        _nystroem.mean_and_miss(at, x, "x"),
        _nystroem.mean_and_miss(at, y, "y"),
    )
    seen, noise, missed = float(np.linalg.norm(a - b)), noise_x + noise_y, miss_x + miss_y
    lower, upper = max(seen - noise, 0.0) ** 2, (seen + noise) ** 2 + missed**2
    return Bounds(seen**2, lower, upper, len(chosen))


@dataclass(frozen=True)
class FourierFeatures:
    """Random Fourier features of a kernel: ``transform(x) @ transform(y).T`` approximates k(x, y)."""

    kernel: Kernel
    frequencies: Array  # (features, d)
    mass: float = field(repr=False)  # k(0) without the constant
    constant: float = field(repr=False)

    def transform(self, x: Any) -> Any:
        """√(k(0)/features)·[cos⟨ω, x⟩, sin⟨ω, x⟩], and √c for a constant term c: (..., n, 2 features (+ 1)).

        In the library, dtype and device of x, computed in float64; O(n d features) time.
        """
        door, (host,) = enter_host(x=x)
        points = _clouds.points("x", host, self.frequencies.shape[1])
        _spectrum.refuse_coarse("x", _reach(points.reshape(-1, points.shape[-1]), 0.0), self.frequencies)
        out = _spectrum.waves(points, self.frequencies) * math.sqrt(self.mass / max(len(self.frequencies), 1))
        if self.constant:
            column = np.full((*out.shape[:-1], 1), math.sqrt(self.constant))
            out = np.concatenate([out, column], axis=-1)
        return door.leave(out)


def random_fourier(kernel: str | Kernel, d: int, features: int, *, rng: Any = None) -> FourierFeatures:
    """Random Fourier features: a map φ into 2·features coordinates with E⟨φ(x), φ(y)⟩ = k(x, y).

    Parameters
    ----------
    kernel : kernel or str
        As for `mmd_features`, with its bandwidth stated: ``od.Gaussian(2.0)``, ``od.Laplacian(1.0) + 0.5``, "gmmn".
    d : int
        Coordinates of the points.
    features : int
        Number of frequencies; each gives a cosine and a sine.
    rng : None, int or numpy.random.Generator
        Source of the frequencies.

    Returns
    -------
    FourierFeatures
        With ``transform(x)``, ``frequencies`` (features, d) and ``kernel``.

    Raises
    ------
    ValueError
        A kernel without Fourier features or without a bandwidth.

    Notes
    -----
    Unbiased for every pair; the standard error of one entry is at most k(0)/√features; k(x, x) is exact. Frequencies:
    Gaussian for Gaussian kernels, Cauchy for Laplacian ones (independent coordinates for "cityblock"), Student's t for
    Matérn, Gaussians of random width for IMQ and rational quadratic; mixtures for sums and several bandwidths, sums for
    products. Reference: Rahimi & Recht (2007), Random features for large-scale kernel machines.

    Examples
    --------
    >>> import numpy as np
    >>> import otdist as od
    >>> from otdist import features
    >>> phi = features.random_fourier(od.Gaussian(1.0), d=2, features=4000, rng=0)
    >>> x = np.array([[0.0, 0.0], [1.0, 0.0]])
    >>> z = phi.transform(x)
    >>> z.shape, bool(abs(z[0] @ z[1] - np.exp(-0.5)) < 0.05)
    ((2, 8000), True)
    """
    d, features, rng = _clouds.count("d", d, 1), _clouds.count("features", features, 1), _samples.generator(rng)
    law = rkhs.named(kernel, d)
    total, varying = _spectrum.mass(law), _spectrum.varying(law)
    if varying is None:
        return FourierFeatures(law, np.empty((0, d)), 0.0, total)
    mass = _spectrum.mass(varying)
    return FourierFeatures(law, _spectrum.draw(varying, rng, features, d), mass, max(total - mass, 0.0))


@dataclass(frozen=True)
class NystroemFeatures:
    """Nyström features of a kernel: ``transform(x) @ transform(y).T`` approximates k(x, y)."""

    kernel: Kernel
    landmarks: Array  # (l, d)
    _at: _nystroem.Coordinates = field(repr=False)

    def transform(self, x: Any) -> Any:
        """Coordinates (..., n, l): L⁻¹ k(z, x), L L' = k(z, z) + 1e-10·l·max k(z, z)·I.

        In the library, dtype and device of x, computed in float64; O(n (d l + l²)) time.
        """
        door, (host,) = enter_host(x=x)
        points = _clouds.points("x", host, self.landmarks.shape[1])
        _samples.refuse_zero_vectors(self.kernel, x=points)
        rows = points.reshape(-1, points.shape[-1])
        out = np.empty((len(rows), len(self.landmarks)))
        for low, high in threads.spans(len(rows), max(16, _nystroem.TILE // len(self.landmarks))):
            out[low:high] = self._at(rows[low:high])[0]
        return door.leave(out.reshape(*points.shape[:-1], -1))


def nystroem(kernel: str | Kernel, x: Any, landmarks: Any = 256, *, rng: Any = None) -> NystroemFeatures:
    """Nyström features: a map φ into as many coordinates as landmarks, ⟨φ(x), φ(y)⟩ ≈ k(x, y), exact at the landmarks.

    Parameters
    ----------
    kernel : kernel or str
        Positive definite, any other kernel than `Energy`, with its bandwidth stated.
    x : array (n, d)
        Points to draw the landmarks from.
    landmarks : int or array (l, d), default 256
        How many to draw, evenly and without replacement, or the landmarks.
    rng : None, int or numpy.random.Generator
        Source of the draw.

    Returns
    -------
    NystroemFeatures
        With ``transform(x)``, ``landmarks`` (l, d) and ``kernel``.

    Raises
    ------
    ValueError
        A kernel that is only conditionally positive definite or has no bandwidth, arrays that do not fit.

    Notes
    -----
    k(x, y) − ⟨φ(x), φ(y)⟩ is itself a positive definite kernel, so ‖φ(x)‖² <= k(x, x) and the error is at most
    √((k(x,x) − ‖φ(x)‖²)(k(y,y) − ‖φ(y)‖²)). At the landmarks it is of the order of 1e-10·l·max k.
    Reference: Williams & Seeger (2001), Using the Nyström method to speed up kernel machines.

    Examples
    --------
    >>> import numpy as np
    >>> import otdist as od
    >>> from otdist import features
    >>> x = np.random.default_rng(0).normal(size=(500, 2))
    >>> phi = features.nystroem(od.Gaussian(2.0), x, landmarks=60, rng=0)
    >>> z = phi.transform(x[:3])
    >>> z.shape, np.allclose(z @ z.T, od.Gaussian(2.0)(x[:3]), atol=1e-3)
    ((3, 60), True)
    """
    rng = _samples.generator(rng)
    _, (host,) = enter_host(x=x)
    points = _clouds.single("x", host)
    law = rkhs.named(kernel, points.shape[1])
    if law.definite == "conditional":
        raise ValueError(f"kernel: found {law}, which is not positive definite and has no features; use mmd_nystroem")
    chosen = _landmarks(landmarks, (points,), rng)
    _samples.refuse_zero_vectors(law, x=points, landmarks=chosen)
    return NystroemFeatures(law, chosen, _nystroem.coordinates(law, chosen))


def _landmarks(landmarks: Any, clouds: tuple[Array, ...], rng: np.random.Generator) -> Array:
    """The landmarks (l, d) in float64: as given, or drawn from the points."""
    if hasattr(landmarks, "__len__"):
        _, (host,) = enter_host(landmarks=landmarks)
        given = _clouds.points("landmarks", _clouds.single("landmarks", host), clouds[0].shape[1])
        return np.array(given, np.float64)
    total = sum(map(len, clouds))
    count = _clouds.count("landmarks", landmarks, 1)
    drawn = np.sort(rng.choice(total, size=min(count, total), replace=False))
    first = len(clouds[0])
    parts = [clouds[0][drawn[drawn < first]], clouds[-1][drawn[drawn >= first] - first]]
    return np.concatenate(parts).astype(np.float64)


def _two_clouds(x: Any, y: Any) -> tuple[Array, Array]:
    _, (a, b) = enter_host(x=x, y=y)
    x, y = _clouds.single("x", a), _clouds.single("y", b)
    _samples.same_d(x=x, y=y)
    return x, y


def _reach(x: Array, centre: Any) -> Array:
    """How far the points go from the centre along each coordinate, without a copy of them."""
    if len(x) == 0:
        return np.zeros(x.shape[1])
    low, high = np.min(x, axis=0).astype(np.float64), np.max(x, axis=0).astype(np.float64)
    return np.asarray(np.maximum(high - centre, centre - low))
