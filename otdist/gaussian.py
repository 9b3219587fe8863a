"""Closed forms between Gaussian distributions N(m1, S1) and N(m2, S2).

Means have shape (..., d), covariances (..., d, d); leading dimensions broadcast. Everything is computed in float64 and
given back in the library, dtype and device of the input. Values are sums of non-negative terms in m1 - m2 and S1 - S2:
accurate also when the two Gaussians nearly agree, never negative, never NaN.

Singular covariances are ordinary input. A covariance is read as S = D C D with D = sqrt(diag S), so units play no part:
eigenvalues of C below ``max(16, d) * eps`` of the largest count as zero, with eps that of the input's dtype (of float32
for half precisions). An asymmetry is averaged away up to sqrt(eps) of sqrt(S_ii S_jj), and an eigenvalue down to
``-max(16, d) * eps`` of the largest counts as zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from otdist import _moments, _normal
from otdist._arrays import Door, enter_host
from otdist._normal import Array
from otdist.catalogue import log_scale

__all__ = ["bhattacharyya", "fit", "frechet_distance", "hellinger", "kl", "renyi", "w2"]

_EPS = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}


def kl(m1: Any, S1: Any, m2: Any, S2: Any, *, base: float | None = None) -> Any:
    """Kullback-Leibler divergence KL(N(m1, S1) || N(m2, S2)).

    ``(tr(S2^-1 S1) - d + log(det S2 / det S1) + (m1-m2)' S2^-1 (m1-m2)) / 2``, computed as half the sum of
    ``delta - log1p(delta)`` over the eigenvalues delta of S1 - S2 in units of S2, plus half the Mahalanobis term.

    Parameters
    ----------
    m1, m2 : array (..., d)
        Means.
    S1, S2 : array (..., d, d)
        Covariances, symmetric positive semi-definite.
    base : float, optional
        Base of the logarithm; natural by default.

    Returns
    -------
    array (...)
        In nats (or units of `base`). Singular covariances: computed within the support when both Gaussians have the
        same one (one affine subspace, to the rank tolerance in the module's docstring), +inf otherwise.

    Raises
    ------
    ValueError
        Shapes that do not fit, entries that are not finite, a matrix that is not symmetric positive semi-definite.

    Notes
    -----
    O(d^3) time, O(d^2) memory per pair. Reference: Kullback (1959), *Information Theory and Statistics*, ch. 9.

    Examples
    --------
    >>> from otdist import gaussian
    >>> float(gaussian.kl([3.0], [[1.0]], [0.0], [[1.0]]))
    4.5
    """
    scale = log_scale(base)
    pair = _read(m1, S1, m2, S2)
    s, same = pair.compare()
    with np.errstate(all="ignore"):
        value = np.sum(_normal.excess(s.delta, _normal.log_lam(s)), axis=-1) / 2 + _square(s.mean) / 2
    return pair.door.leave(scale * np.where(same, value, np.inf))


def bhattacharyya(m1: Any, S1: Any, m2: Any, S2: Any, *, base: float | None = None) -> Any:
    """Bhattacharyya distance -log BC, BC the integral of sqrt(p q).

    ``(m1-m2)' S^-1 (m1-m2) / 8 + log(det S / sqrt(det S1 det S2)) / 2`` with S = (S1 + S2) / 2, computed as a quarter
    of the sum of ``log1p(delta^2 / (4 (1 + delta)))`` plus the quadratic term.

    Parameters
    ----------
    m1, S1, m2, S2 : array
        Means (..., d) and covariances (..., d, d), as for `kl`.
    base : float, optional
        Base of the logarithm; natural by default.

    Returns
    -------
    array (...)
        +inf when the supports differ (mutually singular).

    Notes
    -----
    Symmetric. Errors and cost are those of `kl`. Reference: Bhattacharyya (1943); Kailath (1967).

    Examples
    --------
    >>> from otdist import gaussian
    >>> float(gaussian.bhattacharyya([2.0], [[1.0]], [0.0], [[1.0]]))
    0.5
    """
    scale = log_scale(base)
    pair = _read(m1, S1, m2, S2)
    return pair.door.leave(scale * _overlap(pair))


def hellinger(m1: Any, S1: Any, m2: Any, S2: Any, *, squared: bool = False) -> Any:
    """Hellinger distance sqrt(1 - BC), in [0, 1]; its square with `squared`.

    BC = exp(-bhattacharyya) is the integral of sqrt(p q); this is (1/sqrt 2) ||sqrt p - sqrt q||.

    Parameters
    ----------
    m1, S1, m2, S2 : array
        Means (..., d) and covariances (..., d, d), as for `kl`.
    squared : bool, default False
        Return the square.

    Returns
    -------
    array (...)
        1 when the supports differ.

    Notes
    -----
    Errors and cost are those of `kl`. Reference: Pardo (2006), *Statistical Inference Based on Divergence Measures*.

    Examples
    --------
    >>> from otdist import gaussian
    >>> round(float(gaussian.hellinger([2.0], [[1.0]], [0.0], [[1.0]])), 12)
    0.627271345023
    """
    pair = _read(m1, S1, m2, S2)
    square = -np.expm1(-_overlap(pair))
    return pair.door.leave(square if squared else np.sqrt(square))


def renyi(m1: Any, S1: Any, m2: Any, S2: Any, alpha: float, *, base: float | None = None) -> Any:
    """Renyi divergence of order alpha, log(integral of p^alpha q^(1-alpha)) / (alpha - 1).

    ``alpha/2 (m1-m2)' S^-1 (m1-m2) - log(det S / (det S1^(1-alpha) det S2^alpha)) / (2 (alpha-1))`` with
    S = alpha S2 + (1-alpha) S1, a covariance in the middle for alpha < 1.

    Parameters
    ----------
    m1, S1, m2, S2, base
        As in `kl`.
    alpha : float
        Order, > 0 and finite; 1 is `kl`, 1/2 is twice `bhattacharyya`.

    Returns
    -------
    array (...)
        +inf where S is not positive definite (possible for alpha > 1 only) and where the supports differ.

    Raises
    ------
    ValueError
        As in `kl`; alpha <= 0 or not finite.

    Notes
    -----
    O(d^3) time, O(d^2) memory per pair. Reference: Gil, Alajaji & Linder (2013), Renyi divergence measures for commonly
    used univariate continuous distributions, *Information Sciences* 249.

    Examples
    --------
    >>> from otdist import gaussian
    >>> float(gaussian.renyi([3.0], [[1.0]], [0.0], [[1.0]], 2.0))
    9.0
    """
    scale, alpha = log_scale(base), _moments.number("alpha", alpha)
    if not 0 < alpha < math.inf:
        raise ValueError(f"alpha: found {alpha!r}; the order must be > 0 and finite")
    if alpha == 1:
        return kl(m1, S1, m2, S2, base=base)
    pair, factor = _read(m1, S1, m2, S2), 1.0
    if alpha < 0.5:  # alpha D_{1-alpha}(q, p) = (1-alpha) D_alpha(p, q): in this form little alphas cancel nothing
        pair, factor, alpha = pair.swapped(), alpha / (1 - alpha), 1 - alpha
    s, same = pair.compare()
    beta = 1 - alpha
    with np.errstate(all="ignore"):
        middle = np.where(np.abs(s.delta) <= 0.5, 1 + beta * s.delta, alpha + beta * s.lam)
        quadratic = alpha / 2 * np.sum(s.mean**2 / middle, axis=-1)
        value = factor * (_normal.renyi_volume(beta, s) / 2 + quadratic)
    defined = same & np.all(middle > 0, axis=-1)
    return pair.door.leave(scale * np.where(defined, value, np.inf))


def w2(m1: Any, S1: Any, m2: Any, S2: Any, *, squared: bool = False) -> Any:
    """2-Wasserstein (Bures-Wasserstein, Frechet) distance for the cost ||x - y||^2; its square with `squared`.

    ``W2^2 = ||m1-m2||^2 + tr S1 + tr S2 - 2 tr (S1^1/2 S2 S1^1/2)^1/2``, computed as a sum of squares. Always finite:
    for singular covariances and for Diracs (S = 0), where it is ||m1 - m2||. At singular covariances W2 is only
    Hölder-1/2: eps in an entry there may move it by sqrt(eps). Matrices are taken as given: only eigenvalues that
    float64 cannot resolve count as zero.

    Parameters
    ----------
    m1, S1, m2, S2 : array
        Means (..., d) and covariances (..., d, d), as for `kl`.
    squared : bool, default False
        Return the square.

    Returns
    -------
    array (...)
        In units of the coordinates.

    Notes
    -----
    Errors and cost are those of `kl`. Reference: Dowson & Landau (1982), The Frechet distance between
    multivariate normal distributions, *J. Multivariate Analysis* 12; Bhatia, Jain & Lim (2019).

    Examples
    --------
    >>> from otdist import gaussian
    >>> float(gaussian.w2([3.0], [[1.0]], [0.0], [[25.0]]))
    5.0
    """
    pair = _read(m1, S1, m2, S2)
    one, two = pair.factors(_EPS["float64"])
    dm = pair.m1 - pair.m2
    deviation = np.sqrt(np.maximum(np.max(np.abs(pair.S1), axis=(-2, -1)), np.max(np.abs(pair.S2), axis=(-2, -1))))
    scale = _normal.power_of_two(np.maximum(np.max(np.abs(dm), axis=-1), deviation))
    by = scale[..., None, None]
    bures = _normal.bures2(one.root / by, two.root / by, (pair.S1 - pair.S2) / by / by)
    return pair.door.leave(_scaled(_square(dm / scale[..., None]) + bures, scale, squared))


def frechet_distance(x: Any, y: Any, *, squared: bool = True) -> Any:
    """Frechet distance between samples: W2^2 between the Gaussians fitted to x and y (the FID convention).

    ``||mean x - mean y||^2 + tr Sx + tr Sy - 2 tr (Sx^1/2 Sy Sx^1/2)^1/2`` with unbiased covariances (ddof = 1). Finite
    for any n, m >= 2, also below d: the covariances are never formed as (d, d) matrices when n + m < d, and no matrix
    root is taken.

    Parameters
    ----------
    x : array (..., n, d)
        Samples of the first distribution; for FID, features.
    y : array (..., m, d)
        Samples of the second.
    squared : bool
        True (default) gives W2^2, as FID is quoted; False gives W2.

    Returns
    -------
    array (...)

    Raises
    ------
    ValueError
        Fewer than two samples, another d, batch shapes that do not broadcast, entries that are not finite.

    Notes
    -----
    O((n + m) d^2 + d^3) time, or O((n + m)^2 d) when n + m < d; memory of the order of the data and one such square
    matrix. As an estimate of the distributions' distance it is biased upwards for small n. Reference: Dowson & Landau
    (1982); Heusel et al. (2017), GANs trained by a two time-scale update rule.

    Examples
    --------
    >>> import numpy as np
    >>> from otdist import gaussian
    >>> x = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
    >>> round(float(gaussian.frechet_distance(x, x + [3.0, 4.0])), 12)
    25.0
    """
    door, (x, y) = enter_host(x=x, y=y)
    x, y = _moments.samples("x", x), _moments.samples("y", y)
    if x.shape[-1] != y.shape[-1]:
        raise ValueError(f"x and y: found {x.shape[-1]} and {y.shape[-1]} coordinates; both need the same d")
    batch = _moments.broadcast(x=x.shape[:-2], y=y.shape[:-2])
    scale = _normal.power_of_two(np.maximum(np.max(np.abs(x), axis=(-2, -1)), np.max(np.abs(y), axis=(-2, -1))))
    means, roots = [], []
    for sample in (x, y):
        sample = sample / scale[..., None, None]
        mean = np.mean(sample, axis=-2)
        centred = (sample - mean[..., None, :]) / math.sqrt(sample.shape[-2] - 1)
        thin = centred.shape[-2] <= centred.shape[-1]
        means.append(mean)
        roots.append(np.swapaxes(centred if thin else np.linalg.qr(centred, mode="r"), -1, -2))
    F, G = (np.broadcast_to(root, (*batch, *root.shape[-2:])) for root in roots)
    if F.shape[-1] + G.shape[-1] < F.shape[-2]:  # coordinates in the span of all samples
        F, G = np.split(np.linalg.qr(np.concatenate([F, G], axis=-1), mode="r"), [F.shape[-1]], axis=-1)
    bures = _normal.bures2(F, G, F @ np.swapaxes(F, -1, -2) - G @ np.swapaxes(G, -1, -2))
    return door.leave(_scaled(_square(means[0] - means[1]) + bures, scale, squared))


def fit(x: Any) -> tuple[Any, Any]:
    """Mean and unbiased covariance of samples.

    Parameters
    ----------
    x : array (..., n, d)
        At least two samples.

    Returns
    -------
    mean, covariance : arrays (..., d) and (..., d, d)
        In O(n d^2) time.

    Raises
    ------
    ValueError
        Fewer than two samples, entries that are not finite.

    Examples
    --------
    >>> from otdist import gaussian
    >>> mean, covariance = gaussian.fit([[0.0], [2.0]])
    >>> mean.tolist(), covariance.tolist()
    ([1.0], [[2.0]])
    """
    door, (x,) = enter_host(x=x)
    x = _moments.samples("x", x)
    mean = np.mean(x, axis=-2)
    centred = x - mean[..., None, :]
    return door.leave(mean), door.leave(np.swapaxes(centred, -1, -2) @ centred / (x.shape[-2] - 1))


@dataclass(frozen=True)
class _Pair:
    """Two checked Gaussians in float64, and how results go back."""

    door: Door
    m1: Array
    S1: Array
    m2: Array
    S2: Array
    names: tuple[str, str] = ("S1", "S2")

    def swapped(self) -> _Pair:
        return _Pair(self.door, self.m2, self.S2, self.m1, self.S1, self.names[::-1])

    def factors(self, eps: float) -> tuple[_normal.Factor, _normal.Factor]:
        d = self.m1.shape[-1]
        tols = _normal.tolerance(d, eps), _normal.tolerance(d, _EPS[self.door.dtype])
        return _normal.factor(self.names[0], self.S1, *tols), _normal.factor(self.names[1], self.S2, *tols)

    def compare(self) -> tuple[_normal.Spectrum, Array]:
        """S1 in units of S2, and whether the supports are the same (elsewhere the spectrum means nothing)."""
        eps = float(np.finfo(self.door.compute).eps)
        one, two = self.factors(eps)
        tol = _normal.tolerance(self.m1.shape[-1], eps)
        same = _normal.same_support(self.m1, self.S1, one, self.m2, two, tol)
        return _normal.spectrum(self.m1 - self.m2, self.S1, one, self.S2, two), same


def _overlap(pair: _Pair) -> Array:
    s, same = pair.compare()
    with np.errstate(all="ignore"):
        volume = np.sum(np.log1p(s.delta / s.lam * s.delta / 4), axis=-1)
        value = (volume + np.sum(s.mean**2 / (1 + s.lam), axis=-1)) / 4
    return np.where(same, value, np.inf)


def _square(v: Array) -> Array:
    return np.asarray(np.sum(v * v, axis=-1))


def _scaled(square: Array, scale: Array, squared: bool) -> Array:
    with np.errstate(over="ignore"):
        return square * scale * scale if squared else np.sqrt(square) * scale


def _read(m1: Any, S1: Any, m2: Any, S2: Any) -> _Pair:
    door, arrays = enter_host(m1=m1, S1=S1, m2=m2, S2=S2)
    m1, S1, m2, S2 = (_moments.finite(name, a) for name, a in zip(("m1", "S1", "m2", "S2"), arrays, strict=True))
    for name, m in (("m1", m1), ("m2", m2)):
        if m.ndim < 1 or m.shape[-1] == 0:
            raise ValueError(f"{name}: found shape {m.shape}; a mean has shape (..., d), d >= 1")
    if m1.shape[-1] != m2.shape[-1]:
        raise ValueError(f"m1 and m2: found {m1.shape[-1]} and {m2.shape[-1]} coordinates; both need the same d")
    d, eps = m1.shape[-1], _EPS[door.dtype]
    S1, S2 = _moments.covariance("S1", S1, d, eps), _moments.covariance("S2", S2, d, eps)
    _moments.broadcast(m1=m1.shape[:-1], S1=S1.shape[:-2], m2=m2.shape[:-1], S2=S2.shape[:-2])
    return _Pair(door, m1, S1, m2, S2)
