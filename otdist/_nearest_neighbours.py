"""Divergences between two samples by their k nearest neighbours, one pair of clouds at a time.

`x` (n, d) and `y` (m, d) are finite float64. Near a point where a sample of rate r (points per volume) has a locally
constant density, the volume V of the ball up to its k-th point is Gamma(k)/r, so that

    E log V = ψ(k) − log r        and        E V^s = Γ(k + s)/Γ(k) · r^−s,

which is where every constant below comes from. Volumes enter as d·log(distance): the ball's constant cancels.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from otdist._normal import Array, power_of_two
from otdist.kernels import threads


def kl(x: Array, y: Array, k: int) -> float:
    """Mean of log(p/q) at the points of x; the two ψ(k) cancel."""
    return float(np.mean(log_ratios(x, y, k)))


def renyi(x: Array, y: Array, alpha: float, k: int) -> float:
    """log(mean of (p/q)^(α−1) · B)/(α − 1): with s = 1 − α, V_x^s V_y^−s has the mean Γ(k+s)Γ(k−s)/Γ(k)² (p/q)^−s."""
    if alpha == 1:
        return kl(x, y, k)
    s = 1 - alpha
    power = -s * log_ratios(x, y, k)
    top = float(np.max(power))
    if top > 0.5:
        log_mean = top + math.log(float(np.mean(np.exp(power - top))))
    else:  # near α = 1 the mean is near 1
        log_mean = math.log1p(float(np.mean(np.expm1(power))))
    return (log_mean - _log_moments(k, s)) / -s


def js(x: Array, y: Array, k: int) -> float:
    """log 2 + ½ E_p log(p/(p+q)) + ½ E_q log(q/(p+q))."""
    x, y = _prepared(x, y)
    return math.log(2) + (_log_share("x", x, y, k) + _log_share("y", y, x, k)) / 2


def groups(n: int, m: int) -> int:
    """Into how many parts `js` cuts a sample of n, that none may have more than m points."""
    return -(-n // m)


def log_ratios(x: Array, y: Array, k: int) -> Array:
    """Estimates of log(p/q) at each x, d log(ν_k/ρ_k) + log(m/(n − 1)): unbiased where p and q are locally constant."""
    x, y = _prepared(x, y)
    own = _own_distance("x", x, _tree(x), k)
    other = _tree(y).query(x, k=[k], workers=threads.thread_count())[0][:, 0]
    if not np.all(other > 0):
        i = int(np.argmin(other))
        raise ValueError(
            f"y: found {k} or more points that coincide with the point of x at index {i}; densities have no such ties: "
            f"pass a larger k, {_CURE}"
        )
    return np.asarray(x.shape[1] * (np.log(other) - np.log(own)) + math.log(len(y) / (len(x) - 1)))


_CURE = "remove duplicates, add noise below the data's resolution, or use method='histogram' for discrete data"


def _prepared(x: Array, y: Array) -> tuple[Array, Array]:
    """Both clouds centred, in a common unit that keeps squares in range."""
    unit = power_of_two(np.maximum(np.max(np.abs(x)), np.max(np.abs(y))))
    x, y = x / unit, y / unit
    centre = (np.mean(x, axis=0) + np.mean(y, axis=0)) / 2
    return x - centre, y - centre


def _tree(points: Array) -> Any:
    from scipy.spatial import cKDTree

    return cKDTree(points)


def _own_distance(name: str, points: Array, tree: Any, k: int) -> Array:
    """Distance to the k-th other point of the same sample."""
    distance: Array = tree.query(points, k=[k + 1], workers=threads.thread_count())[0][:, 0]
    if not np.all(distance > 0):
        raise ValueError(
            f"{name}: found {k + 1} or more coinciding points; densities have no such ties: pass a larger k, {_CURE}"
        )
    return distance


def _log_share(name: str, x: Array, y: Array, k: int) -> float:
    """Mean over x of an estimate of log(p/(p + q)).

    Thin y to the rate of x and merge: the k-th x is the M-th of all, M = k + the y's inside its ball. As the merged
    rate is r and E log V = E ψ(M) − log r = ψ(k) − log r_x, ψ(k) − ψ(M) has the mean log(r_x/r). The mean over the
    thinning is taken exactly. No sample can be thickened: an x larger than y is taken in parts no larger than y.
    """
    from scipy.special import psi

    everything, total = _tree(y), 0.0
    parts = groups(len(x), len(y))
    for part in (x[i::parts] for i in range(parts)):
        radius = _own_distance(name, part, _tree(part), k)
        # counts ties although a root and a square lie between
        radius = radius * (1 + 8 * np.finfo(np.float64).eps)
        inside = everything.query_ball_point(part, radius, workers=threads.thread_count(), return_length=True)
        thinned = mean_digamma(k, (len(part) - 1) / len(y), int(inside.max()))
        total += float(np.sum(psi(k) - thinned[inside]))
    return total / len(x)


def mean_digamma(k: int, c: float, most: int) -> Array:
    """E ψ(k + Binomial(b, c)) for b = 0, …, most.

    One more trial adds c·I_b, I_b = E 1/(k + Binomial(b, c)) = ∫ t^(k−1) (1−c+ct)^b dt over [0, 1]; by parts,
    (k + b) I_b = 1 + b (1−c) I_{b−1}.
    """
    from scipy.special import psi

    mean = np.empty(most + 1)
    value, inverse = float(psi(k)), 1 / k
    for b in range(most + 1):
        mean[b] = value
        value += c * inverse
        inverse = (1 + (b + 1) * (1 - c) * inverse) / (k + b + 1)
    return mean


def _log_moments(k: int, s: float) -> float:
    """log Γ(k+s)Γ(k−s)/Γ(k)²; from its series near s = 0, which renyi divides by."""
    if abs(s) < 1e-3:
        from scipy.special import polygamma

        return float(s**2 * polygamma(1, k) + s**4 * polygamma(3, k) / 12)
    return math.lgamma(k + s) + math.lgamma(k - s) - 2 * math.lgamma(k)
