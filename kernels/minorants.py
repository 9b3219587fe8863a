"""Lower bounds of cost(x, y) + s·y over the points y of a box: what prunes a search for the least reduced cost.

A search tree knows of the prices of a box only an affine minorant a + s·y. Both terms are convex in y, so the tangent
at any point of the box is a bound, which is least at a corner; at the minimiser it is exact. Sums over coordinates
(`Squared`, `Cityblock`) have their minimiser in closed form. So has a distance along one line: with h the distance to
the line, √(h² + t²) + st is least at t = −sh/√(1 − s²); two sweeps over the coordinates come close enough. Prices are
slopes of at most 1 for a distance, so that x outside the box has its minimiser on the boundary.

A power of a distance lies above its tangent, D^p >= r^p + p r^(p-1) (D − r): a bound of the distance, its slopes
s/(p r^(p-1)).

Every bound may exceed the true one by rounding, some eps times the largest magnitude met; the search allows for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numba.extending import overload

from otdist.kernels.costs import Chebyshev, Raised, finish
from otdist.kernels.jit import STRICT
from otdist.kernels.profiles import Cityblock, Squared

# Sweeps of the coordinates towards the minimiser of a distance.
SWEEPS = 2


@njit(**STRICT)
def clamp(x, low, high):
    return min(max(x, low), high)


@njit(**STRICT)
def _sum_of_squares(x, node, d, scale):
    """‖x − y‖² + s·y: x − s/2, brought into the box."""
    total = 0.0
    for k in range(d):
        s = scale * node[2 * d + k]
        y = clamp(x[k] - 0.5 * s, node[k], node[d + k])
        z = x[k] - y
        total += z * z + s * y
    return total


@njit(**STRICT)
def _sum_of_moduli(x, node, d, scale):
    """Σ|x − y| + s·y: the two ends of each side, or x itself."""
    total = 0.0
    for k in range(d):
        s, low, high = scale * node[2 * d + k], node[k], node[d + k]
        y = clamp(x[k], low, high)
        at = min(abs(x[k] - low) + s * low, abs(x[k] - high) + s * high)
        total += min(at, abs(x[k] - y) + s * y)
    return total


@njit(**STRICT)
def _greatest_modulus(x, node, d, scale):
    """max|x − y| + s·y: each coordinate alone, the others counting for their slope only."""
    best, rest = -np.inf, 0.0
    for k in range(d):
        s = scale * node[2 * d + k]
        rest += min(s * node[k], s * node[d + k])
    far = 0.0
    for k in range(d):
        s, low, high = scale * node[2 * d + k], node[k], node[d + k]
        y = clamp(x[k], low, high)
        far = max(far, abs(x[k] - y))
        at = min(abs(x[k] - low) + s * low, abs(x[k] - high) + s * high)
        best = max(best, min(at, abs(x[k] - y) + s * y) + rest - min(s * low, s * high))
    return max(best, far + rest)


@njit(**STRICT)
def _euclidean(x, node, d, scale, z):
    """‖x − y‖ + s·y: tangent at the point that two sweeps over the coordinates reach."""
    square = 0.0
    for k in range(d):
        z[k] = clamp(x[k], node[k], node[d + k]) - x[k]
        square += z[k] * z[k]
    if square == 0.0:
        # x is in the box: the cone has its tip at x, so the tangent of slope t there is any |t| <= 1
        norm, value = 0.0, 0.0
        for k in range(d):
            s = scale * node[2 * d + k]
            norm += s * s
            value += s * x[k]
        norm = np.sqrt(norm)
        if norm <= 1.0:
            return value
        shrink = 1.0 - 1.0 / norm
        for k in range(d):
            s = scale * node[2 * d + k]
            value += shrink * (min(s * node[k], s * node[d + k]) - s * x[k])
        return value
    for _ in range(SWEEPS):
        for k in range(d):
            s = scale * node[2 * d + k]
            low, high = node[k] - x[k], node[d + k] - x[k]
            rest = max(square - z[k] * z[k], 0.0)
            t = clamp(-s * np.sqrt(rest / max(1.0 - s * s, 1e-300)), low, high)
            square = rest + t * t
            z[k] = t
    square = 0.0
    for k in range(d):
        square += z[k] * z[k]
    r = np.sqrt(square)
    inverse = 1.0 / r if r > 0.0 else 0.0
    value = r
    for k in range(d):
        s = scale * node[2 * d + k]
        slope = z[k] * inverse + s
        low, high = node[k] - x[k] - z[k], node[d + k] - x[k] - z[k]
        value += s * (x[k] + z[k]) + min(slope * low, slope * high)
    return value


@njit(**STRICT)
def _raised(tag, x, node, d, z):
    """The tangent of the power at the distance to the nearest point of the box, or to its centre."""
    best = -np.inf
    for which in range(2):
        q, rest = 0.0, 0.0
        for k in range(d):
            y = 0.5 * (node[k] + node[d + k]) if which else clamp(x[k], node[k], node[d + k])
            z[k] = x[k] - y
            s = node[2 * d + k]
            rest += min(s * node[k], s * node[d + k])
        q = radius(tag.base, z, d)
        steep = tag.power * q ** (tag.power - 1.0)
        if steep > 0.0:
            rest = steep * distance_bound(tag.base, x, node, d, 1.0 / steep, z) + (1.0 - tag.power) * q**tag.power
        best = max(best, rest)
    return best


def radius(tag, z, d):
    """The length of the first d coordinates of z in the metric of the tag."""


def distance_bound(tag, x, node, d, scale, z):
    """Bound of the distance + scale s·y."""


def bound(tag, x, node, d, z):
    """Bound over the box of a node, whose row is its d least coordinates, its d greatest, the slopes s and a.

    z (d,) is scratch.
    """


def _is(tag: Any, cls: type) -> bool:
    return getattr(tag, "instance_class", None) is cls


@overload(radius, jit_options=STRICT)
def _radius_of(tag, z, d):
    if _is(tag, Cityblock):

        def moduli(tag, z, d):
            total = 0.0
            for k in range(d):
                total += abs(z[k])
            return total

        return moduli
    if _is(tag, Chebyshev):

        def greatest(tag, z, d):
            total = 0.0
            for k in range(d):
                total = max(total, abs(z[k]))
            return total

        return greatest

    def root(tag, z, d):
        total = 0.0
        for k in range(d):
            total += z[k] * z[k]
        return finish(tag, total)

    return root


@overload(distance_bound, jit_options=STRICT)
def _distance_bound_of(tag, x, node, d, scale, z):
    if _is(tag, Squared):
        return lambda tag, x, node, d, scale, z: _sum_of_squares(x, node, d, scale)
    if _is(tag, Cityblock):
        return lambda tag, x, node, d, scale, z: _sum_of_moduli(x, node, d, scale)
    if _is(tag, Chebyshev):
        return lambda tag, x, node, d, scale, z: _greatest_modulus(x, node, d, scale)
    return lambda tag, x, node, d, scale, z: _euclidean(x, node, d, scale, z)


@overload(bound, jit_options=STRICT)
def _bound_of(tag, x, node, d, z):
    if _is(tag, Raised):
        return lambda tag, x, node, d, z: node[3 * d] + _raised(tag, x, node, d, z)
    return lambda tag, x, node, d, z: node[3 * d] + distance_bound(tag, x, node, d, 1.0, z)
