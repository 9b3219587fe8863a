"""What the sums of a plan and of its rounding prove, for one problem or for many at once.

Notation of `_gibbs.py`. Balanced, Q = P diag(y), y = min(1, b / columns of P), lacks d of the total mass 1, and
R = Q + r_a r_b^T / d is a coupling. Divergences are convex, so KL(R) is at most the mean of KL(Q / (1 - d)), which is
linear in the potentials, and of KL(r_a r_b^T / d^2), which is a sum over the marginals, with weights 1 - d and d.

With priced marginals any plan will do, and both divergences of its marginals are added.

Beside `_bounds.py`: for a batch everything is an array expression, over sums that the batch's own pass leaves in cache,
roundings bounded as a whole; one problem there has its roundings bounded term by term, over millions of pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from otdist._arrays import Array
from otdist.transport._gibbs import Bounds

# Rounding of the sums: this much of the sum of their terms' sizes is taken off every bound.
ROUNDING = 2.0**-49


@dataclass(frozen=True)
class Sums:
    """Leading dimensions are those of the batch, if any; masses may be zero."""

    a: Array  # (..., n)
    b: Array  # (..., m)
    phi: Array
    gamma: Array
    rows: Array  # (..., n) row sums of P
    columns: Array  # (..., m) column sums of P
    kept: Array  # (..., n) row sums of Q
    scale: Array  # (..., m) y
    f: Array  # (..., n) potentials in units of the costs, f_i + g_j <= c_ij
    g: Array
    linear: Array  # (...,) <P, C>
    moved: Array  # <Q, C>
    repair: Array  # <r_a r_b^T / |r_a|, C>
    epsilon: Array
    kappa: Array  # (..., 2)


def bounds(s: Sums) -> Bounds:
    """As arrays (...,) in place of numbers."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        return _bounds(s)


def _bounds(s: Sums) -> Bounds:
    eps, (ka, kb) = s.epsilon, (s.kappa[..., 0], s.kappa[..., 1])
    balanced = (ka == 1.0) & (kb == 1.0)
    price_a, price_b = (_price(k, eps) for k in (ka, kb))
    target_a, target_b = (_target(w, p, k) for w, p, k in ((s.a, s.phi, ka), (s.b, s.gamma, kb)))
    error = _sum(np.abs(s.rows - target_a)) + _sum(np.abs(s.columns - target_b))
    through = _sum(target_a) + _sum(target_b)
    error = np.where(balanced, error, np.where(through > 0.0, error / through, 0.0))

    kept_b = s.columns * s.scale
    mass = _sum(s.kept)
    # KL(Q | a x b) + <Q, C> / epsilon, up to what does not depend on the pairs
    exponents = _sum(_times(s.kept, s.phi)) + _sum(_times(kept_b, s.gamma + np.log(s.scale)))
    lack_a, lack_b = np.maximum(s.a - s.kept, 0.0), np.maximum(s.b - kept_b, 0.0)
    d = np.minimum(_sum(lack_a), 1.0)
    completed = exponents - (1.0 - d) * np.where(d < 1.0, np.log1p(-d), 0.0)
    spread = d * (_divergence(lack_a, s.a) + _divergence(lack_b, s.b))
    whole = _sum(s.a) * _sum(s.b)
    priced = eps * (exponents - mass + whole)
    paid = _paid(s.kept, s.a, price_a) + _paid(kept_b, s.b, price_b)
    upper = np.where(balanced, s.moved + s.repair, s.moved + paid)
    entropic_upper = np.where(balanced, eps * (completed + spread) + s.repair, priced + paid)

    lower = _dual(s.a, s.f, price_a) + _dual(s.b, s.g, price_b)
    value = _dual(s.a, eps[..., None] * s.phi, price_a) + _dual(s.b, eps[..., None] * s.gamma, price_b)
    value = value + eps * (np.where(balanced, _sum(s.a), whole) - _sum(s.rows))
    size = _size(s.a, s.f) + _size(s.b, s.g)
    inner = eps * (_size(s.a, s.phi) + _size(s.b, s.gamma) + mass + whole)
    inner = inner + np.abs(s.moved)
    off, inside = ROUNDING * size, ROUNDING * inner
    found: dict[str, Any] = dict(
        value=value,
        linear=s.linear,
        lower=lower - off,
        upper=upper + ROUNDING * np.abs(upper),
        entropic_lower=value - inside,
        entropic_upper=entropic_upper + inside,
        marginal_error=error,
        columns=s.columns,
    )
    return Bounds(**found)


def _sum(x: Array) -> Array:
    return np.asarray(x.sum(axis=-1))


def _times(weights: Array, values: Array) -> Array:
    """Products, 0 where the weight is."""
    return np.where(weights > 0.0, weights * values, 0.0)


def _size(weights: Array, values: Array) -> Array:
    """Sum of sizes, of a scale that is rounded: the potential of a point without any pair is exact."""
    return _sum(_times(weights, np.where(np.abs(values) < 1e200, np.abs(values), 0.0)))


def _price(kappa: Array, epsilon: Array) -> Array:
    """rho, infinite where the marginal is prescribed."""
    return np.asarray(epsilon * kappa / (1.0 - kappa))


def _target(mass: Array, potential: Array, kappa: Array) -> Array:
    slope = (1.0 / kappa - 1.0)[..., None]
    return np.where(slope > 0.0, _times(mass, np.exp(-slope * potential)), mass)


def _dual(mass: Array, potential: Array, price: Array) -> Array:
    """<mass, potential> at price infinity, else -price sum mass (exp(-potential / price) - 1)."""
    prescribed = _sum(_times(mass, potential))
    rho = np.where(np.isfinite(price), price, 1.0)
    return np.where(np.isfinite(price), -rho * _sum(_times(mass, np.expm1(-potential / rho[..., None]))), prescribed)


def _divergence(part: Array, mass: Array) -> Array:
    """sum p log(p / mass), p = part / |part|; 0 where nothing is left."""
    total = part.sum(axis=-1, keepdims=True)
    p = np.where(total > 0.0, part / total, 0.0)
    return _sum(np.where(p > 0.0, p * np.log(p / mass), 0.0))


def _paid(sums: Array, mass: Array, price: Array) -> Array:
    """price KL(sums | mass), generalised, and 0 for a prescribed marginal."""
    ratio = np.where(sums > 0.0, sums / mass, 1.0)
    terms = np.where(sums > 0.0, sums * np.log(ratio), 0.0) - sums + mass
    return np.where(np.isfinite(price), np.where(np.isfinite(price), price, 0.0) * _sum(terms), 0.0)
