"""Costs of moving a unit of mass between two points, as types that compiled code dispatches on.

`Squared` is ‖x−y‖², `Euclidean` its root, `Cityblock` Σ|x−y|, `Chebyshev` max|x−y|; `Raised` is a power of a distance,
p >= 1. The cosine distance 1 − cos(x, y) = ‖x̂/√2 − ŷ/√2‖² is `Squared` on other points, so it needs no type.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba.extending import overload

from otdist.kernels.jit import STRICT, kernel
from otdist.kernels.profiles import Cityblock, Squared


class Euclidean(NamedTuple):
    """‖x−y‖."""


class Chebyshev(NamedTuple):
    """max|x−y|."""


class Raised(NamedTuple):
    """A distance to the power `power` >= 1."""

    base: Any  # Euclidean(), Cityblock() or Chebyshev()
    power: float


def add(tag, total, difference):
    """`total` with the difference of one more coordinate."""


def finish(tag, total):
    """The cost, once all coordinates are in."""


def raised(tag, distance):
    """The cost of two points at this distance in the metric of the tag (Squared counts as Euclidean)."""


def _is(tag: Any, cls: type) -> bool:
    return bool(getattr(tag, "instance_class", None) is cls)


def _base(tag: Any) -> Any:
    return tag.types[0] if _is(tag, Raised) else tag


@overload(add, jit_options=STRICT)
def _add(tag, total, difference):
    base = _base(tag)
    if _is(base, Cityblock):
        return lambda tag, total, difference: total + abs(difference)
    if _is(base, Chebyshev):
        return lambda tag, total, difference: max(total, abs(difference))
    return lambda tag, total, difference: total + difference * difference


@overload(finish, jit_options=STRICT)
def _finish(tag, total):
    if _is(tag, Squared) or _is(tag, Cityblock) or _is(tag, Chebyshev):
        return lambda tag, total: total
    if _is(tag, Euclidean):
        return lambda tag, total: np.sqrt(total)
    if _is(_base(tag), Euclidean):
        return lambda tag, total: total ** (0.5 * tag.power)
    return lambda tag, total: total**tag.power


@overload(raised, jit_options=STRICT)
def _raised(tag, distance):
    if _is(tag, Squared):
        return lambda tag, distance: distance * distance
    if _is(tag, Raised):
        return lambda tag, distance: distance**tag.power
    return lambda tag, distance: distance


def between(tag, x, y):
    """The cost of two points (d,), float64, summed coordinate by coordinate: the same bits wherever it is called."""


@overload(between, jit_options=STRICT)
def _between(tag, x, y):
    def measure(tag, x, y):
        total = 0.0
        for k in range(len(x)):
            total = add(tag, total, np.float64(x[k]) - np.float64(y[k]))
        return finish(tag, total)

    return measure


def power(tag: Any) -> float:
    """The degree of a cost in the differences of its points."""
    if isinstance(tag, Raised):
        return float(tag.power)
    return 2.0 if isinstance(tag, Squared) else 1.0


@kernel
def listed(tag, X, Y, rows, cols, out):
    """out[s] = the cost between X[rows[s]] and Y[cols[s]]."""
    for s in range(len(rows)):
        out[s] = between(tag, X[rows[s]], Y[cols[s]])


@kernel
def block(tag, X, Y, out):
    """out[i, j] = the cost between X[i] and Y[j]."""
    for i in range(len(X)):
        for j in range(len(Y)):
            out[i, j] = between(tag, X[i], Y[j])
