"""Proof of optimality: bounds from a plan and from potentials, computed from what is returned and nothing else.

Any coupling P bounds the optimum from above by <P, C>; any potentials with f_i + g_j <= c_ij bound it from below by
<a, f> + <b, g>. Given g, f_i = min_j c_ij - g_j is the best and always feasible. Both sums are exact up to one rounding
(products split in two floats, `math.fsum`), which is taken off, and so is what else was rounded: each f_i, by 2^-53 of
its size unless all numbers are integers, and the marginals of the plan: one that is off by d, by |d| times its
potential, which is to first order what it is worth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from otdist._arrays import Array

HALF_ULP = 2.0**-53
# Where the value is small against the terms it is made of, as with potentials of both signs that cancel, the gap cannot
# fall below their rounding: this much of their sum of sizes. Nor can it fall below what the rounding of the masses is
# worth: rows that add up to the last bit of the total leave open where a few such bits lie.
FLOOR = 2.0**-50
MASS_FLOOR = 2.0**-48


@dataclass(frozen=True)
class Certificate:
    """Bounds in units of the problem."""

    value: float  # <P, C>
    lower: float
    upper: float
    size: float  # sum of the absolute values of all terms
    reach: float  # total mass times the largest potentials of both sides, where there is mass
    marginal_error: float  # sum of |marginal of P - a| and of |marginal of P - b|

    @property
    def gap(self) -> float:
        return max(self.upper - self.lower, 0.0)

    def proves(self, tolerance: float) -> bool:
        """Whether the gap is within `tolerance` of the value, or within rounding."""
        rounding = max(FLOOR * self.size, MASS_FLOOR * self.reach)
        return self.gap <= max(tolerance * max(abs(self.lower), abs(self.upper)), rounding)


def certify(
    a: Array,
    b: Array,
    rows: Array,
    cols: Array,
    mass: Array,
    c: Array,
    f: Array,
    g: Array,
    *,
    roundings: int,
) -> Certificate:
    """The bounds of a plan with costs `c`, and of potentials, each f_i of which was rounded so many times."""
    value, low, high, primal = _dot((mass, c))
    off_a = np.abs(np.bincount(rows, mass, len(a)) - a)
    off_b = np.abs(np.bincount(cols, mass, len(b)) - b)
    drift = float(off_a @ np.abs(f) + off_b @ np.abs(g))
    upper = high if drift == 0.0 else math.nextafter(high + drift, math.inf)
    _, low, _, dual = _dot((a, f), (b, g))
    rounded = roundings * HALF_ULP * float(a @ np.abs(f))
    lower = low if rounded == 0.0 else math.nextafter(low - rounded, -math.inf)
    reach = float(a.sum()) * sum(float(np.max(np.abs(t), where=w > 0.0, initial=0.0)) for t, w in ((f, a), (g, b)))
    return Certificate(value, lower, upper, primal + dual, reach, float(off_a.sum() + off_b.sum()))


def whole(x: Array) -> bool:
    """Whether all entries are integers that float64 adds without rounding."""
    return bool(np.all(x == np.rint(x))) and float(np.max(np.abs(x), initial=0.0)) < 2.0**52


def _dot(*pairs: tuple[Array, Array]) -> tuple[float, float, float, float]:
    """The sum of products, bounds from below and above, and the sum of their sizes."""
    terms: list[float] = []
    size = 0.0
    for weights, values in pairs:
        product, error = _product(weights, values)
        terms += product.tolist()
        terms += error[error != 0.0].tolist()
        size += float(np.sum(np.abs(product)))
    whole = math.fsum(terms)
    terms.append(-whole)
    residue = math.fsum(terms)
    low = whole if residue >= 0.0 else math.nextafter(whole, -math.inf)
    high = whole if residue <= 0.0 else math.nextafter(whole, math.inf)
    return whole, low, high, size


def _product(x: Array, y: Array) -> tuple[Array, Array]:
    """x y as a sum of two floats (Dekker, 1971)."""
    product = x * y
    (a, b), (c, d) = _split(x), _split(y)
    return product, ((a * c - product) + a * d + b * c) + b * d


def _split(x: Array) -> tuple[Array, Array]:
    t = 134217729.0 * x
    high = t - (t - x)
    return high, x - high
