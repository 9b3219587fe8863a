"""Kernels as trees of types that compiled code dispatches on (the formulas: ``formulas.py``).

A *quantity* is what a geometry makes of two points: ‖x−y‖² (Squared), Σ|x−y| (Cityblock), ⟨x, y⟩ (Inner), ‖x̂−ŷ‖² of
the points on the unit sphere (Angle). An expression is a tree of NamedTuples over the quantities at its places.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Squared(NamedTuple):
    """‖x−y‖²."""


class Cityblock(NamedTuple):
    """Σ|x−y|."""


class Inner(NamedTuple):
    """⟨x, y⟩."""


class Angle(NamedTuple):
    """‖x̂−ŷ‖² = 2(1 − cos)."""


GEOMETRIES = (Squared, Cityblock, Inner, Angle)


class First(NamedTuple):
    """The first quantity of a kernel."""


class Second(NamedTuple):
    """The second."""


class Third(NamedTuple):
    """The third."""


class Fourth(NamedTuple):
    """The fourth."""


PLACES = (First, Second, Third, Fourth)


class Kernel(NamedTuple):
    """An expression and the geometries at its places."""

    geometries: tuple[Any, ...]
    expression: Any


class Decay(NamedTuple):
    """Σ exp(−rate g)."""

    on: Any
    rates: tuple[float, ...]


class Inverse(NamedTuple):
    """Σ 1/(1 + rate g)."""

    on: Any
    rates: tuple[float, ...]


class InverseRoot(NamedTuple):
    """Σ 1/√(1 + rate g)."""

    on: Any
    rates: tuple[float, ...]


class Power(NamedTuple):
    """Σ (1 + rate g)^−power."""

    on: Any
    rates: tuple[float, ...]
    power: float


class MaternThree(NamedTuple):
    """Σ (1 + r) e^−r, r = rate √g."""

    on: Any
    rates: tuple[float, ...]


class MaternFive(NamedTuple):
    """Σ (1 + r + r²/3) e^−r, r = rate √g."""

    on: Any
    rates: tuple[float, ...]


class Polynomial(NamedTuple):
    """(gamma g + coef0)^degree, the degree being the length of `factors`."""

    on: Any
    gamma: float
    coef0: float
    factors: tuple[bool, ...]


class Negative(NamedTuple):
    """−g."""

    on: Any


class NegativePower(NamedTuple):
    """−g^half."""

    on: Any
    half: float


class Root(NamedTuple):
    """A leaf at √g. Its slope is stated as 0 at g = 0."""

    leaf: Any


class Constant(NamedTuple):
    """c."""

    c: float


class Sum(NamedTuple):
    """left + right."""

    left: Any
    right: Any


class Product(NamedTuple):
    """left right."""

    left: Any
    right: Any
