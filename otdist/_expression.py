"""Expressions of kernels: what every kernel is, sums, products, constants."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar

from otdist.kernels import profiles

Bandwidth = float | tuple[float, ...] | None
Choice = Callable[[str, bool], Any]


@dataclass(frozen=True)
class Kernel(ABC):
    """A kernel k(x, y) on R^d; see its subclasses."""

    characteristic: ClassVar[bool] = True  # MMD is zero only between equal distributions
    definite: ClassVar[str] = "definite"  # "conditional": for weights of equal totals only
    bounded: ClassVar[bool] = True
    distances: ClassVar[bool] = True  # depends on x - y only
    shift_free: ClassVar[bool] = True  # MMD does not change if all points are shifted
    __array_ufunc__: ClassVar[None] = None  # NumPy's numbers leave + and * to us

    def __add__(self, other: Any) -> Kernel:
        return NotImplemented if (k := _coerce(other)) is None else Sum(self, k)

    def __radd__(self, other: Any) -> Kernel:
        return NotImplemented if (k := _coerce(other)) is None else Sum(k, self)

    def __mul__(self, other: Any) -> Kernel:
        return NotImplemented if (k := _coerce(other)) is None else Product(self, k)

    def __rmul__(self, other: Any) -> Kernel:
        return NotImplemented if (k := _coerce(other)) is None else Product(k, self)

    def __call__(self, x: Any, y: Any = None) -> Any:
        """The Gram matrix k(x_i, y_j), shape (..., n, m), of samples (..., n, d) and (..., m, d); y is x by default.

        In the library, dtype and device of the arguments. O(n m d) time; the matrix is the only large memory.
        """
        from otdist._samples import gram_matrix

        return gram_matrix(self, x, y)

    def tag(self, d: int) -> profiles.Kernel:
        """What compiled code dispatches on, for samples of d coordinates; every bandwidth must be known."""
        used = self._geometries()
        order = [g for g in profiles.GEOMETRIES if g in used] or [profiles.Squared]
        places = {g: place() for g, place in zip(order, profiles.PLACES, strict=False)}
        return profiles.Kernel(tuple(g() for g in order), self._expression(d, places))

    def fill(self, choose: Any) -> Kernel:
        """The same with ``choose(cost, root)`` for every bandwidth that is None."""
        return self

    def _geometries(self) -> set[Any]:
        return set()

    @abstractmethod
    def _expression(self, d: int, places: dict[Any, Any]) -> Any:
        """The tree of ``kernels/profiles.py``; `places` says where each geometry's quantity stands."""


def is_real(value: Any) -> bool:
    """A number, not a boolean."""
    return isinstance(value, Real) and not isinstance(value, bool)


def _coerce(value: Any) -> Kernel | None:
    if isinstance(value, Kernel):
        return value
    if is_real(value):
        return Constant(float(value))
    return None


def number(name: str, value: Any, low: float, *, closed: bool = False, high: float = math.inf) -> float:
    if not is_real(value):
        raise TypeError(f"{name}: found {value!r}; give a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not (math.isfinite(number) and (number > low or (closed and number == low)) and number <= high):
        span = f"{'>=' if closed else '>'} {low:g}" + (f" and <= {high:g}" if high < math.inf else "")
        raise ValueError(f"{name}: found {value!r}; give a finite number {span}")
    return number


def bandwidths(value: Any) -> Bandwidth:
    """A bandwidth as floats; None stays None."""
    if value is None:
        return None
    if isinstance(value, str):
        raise TypeError(f"bandwidth: found {value!r}; rules are for the argument `bandwidth=` of the functions")
    if is_real(value):
        return number("bandwidth", value, 0.0)
    try:
        several = tuple(number("bandwidth", v, 0.0) for v in value)
    except TypeError:
        raise TypeError(f"bandwidth: found {value!r}; give a number or a tuple of numbers") from None
    if not several:
        raise ValueError("bandwidth: found no number; give at least one")
    return several


@dataclass(frozen=True)
class Constant(Kernel):
    """The constant c: what a number in a sum or product becomes.

    Parameters
    ----------
    c : float
        >= 0, for a kernel is positive semi-definite.

    Examples
    --------
    >>> import otdist as od
    >>> od.Linear() + 1.0 == od.Linear() + od.Constant(1.0)
    True
    """

    characteristic: ClassVar[bool] = False
    c: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "c", number("c", self.c, 0.0, closed=True))

    def _expression(self, d: int, places: dict[Any, Any]) -> Any:
        return profiles.Constant(self.c)


@dataclass(frozen=True)
class _Pair(Kernel):
    left: Kernel
    right: Kernel

    def fill(self, choose: Choice) -> Kernel:
        return type(self)(self.left.fill(choose), self.right.fill(choose))

    def _geometries(self) -> set[Any]:
        return self.left._geometries() | self.right._geometries()

    def _set(self, **properties: Any) -> None:
        for name, value in properties.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class Sum(_Pair):
    """left + right."""

    def __post_init__(self) -> None:
        both = (self.left, self.right)
        self._set(
            characteristic=any(k.characteristic for k in both),
            definite="conditional" if "conditional" in (k.definite for k in both) else "definite",
            bounded=all(k.bounded for k in both),
            distances=all(k.distances for k in both),
            shift_free=all(k.shift_free for k in both),
        )

    def _expression(self, d: int, places: dict[Any, Any]) -> Any:
        return profiles.Sum(self.left._expression(d, places), self.right._expression(d, places))


@dataclass(frozen=True)
class Product(_Pair):
    """left * right. A conditionally positive definite kernel may be multiplied by constants only."""

    def __post_init__(self) -> None:
        both = (self.left, self.right)
        constants = [k.c for k in both if isinstance(k, Constant)]
        if "conditional" in (k.definite for k in both) and not constants:
            raise ValueError(
                f"product: found {self.left} * {self.right}; a conditionally positive definite kernel (Energy) may be "
                f"multiplied by constants only"
            )
        # a product is characteristic for sure where both spectra fill R^d: their convolution does
        others = [k for k in both if not isinstance(k, Constant)]
        spectral = all(k.characteristic for k in others) and (len(others) == 1 or all(k.distances for k in others))
        self._set(
            characteristic=bool(others) and 0.0 not in constants and spectral,
            definite="conditional" if "conditional" in (k.definite for k in both) else "definite",
            bounded=all(k.bounded for k in both) or 0.0 in constants,
            distances=all(k.distances for k in both),
            shift_free=all(k.distances for k in both) or (bool(constants) and all(k.shift_free for k in both)),
        )

    def _expression(self, d: int, places: dict[Any, Any]) -> Any:
        return profiles.Product(self.left._expression(d, places), self.right._expression(d, places))
