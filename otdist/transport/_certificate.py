"""Proof of optimality: bounds from a plan and from potentials, computed from what is returned and nothing else.

Any coupling P bounds the optimum from above by <P, C>; any potentials with f_i + g_j <= c_ij bound it from below by
<a, f> + <b, g>. Given g, f_i = min_j c_ij - g_j is the best and always feasible. Both sums are exact up to one rounding
(`kernels/exact_sums.py`), which is taken off, and so is what else was rounded: each f_i, by 2^-53 of
its size unless all numbers are integers, and the marginals of the plan: one that is off by d, by |d| times its
potential, which is to first order what it is worth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from otdist._arrays import Array
from otdist.kernels.certificate import judge
from otdist.transport._problem import Problem

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
    problem: Problem, a: Array, b: Array, rows: Array, cols: Array, mass: Array, c: Array, f: Array, g: Array
) -> Certificate:
    """The bounds of a plan with costs `c`, and of potentials."""
    found = judge(a, b, rows, cols, mass, c, f, g, np.empty(len(a) + len(b)))
    (value, rest, lost), (dual, dual_rest, dual_lost), size, size_f, error, drift, reach, whole = found
    high = value if rest + lost <= 0.0 else math.nextafter(value + (rest + lost), math.inf)
    upper = high if drift == 0.0 else math.nextafter(high + drift, math.inf)
    low = dual if dual_rest - dual_lost >= 0.0 else math.nextafter(dual + (dual_rest - dual_lost), -math.inf)
    rounded = 0.0 if whole and problem.integral else problem.roundings * HALF_ULP * size_f
    lower = low if rounded == 0.0 else math.nextafter(low - rounded, -math.inf)
    return Certificate(value, lower, upper, size, reach, error)
