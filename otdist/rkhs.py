"""Kernels as objects: what `mmd` and its kin measure with, composable by ``+`` and ``*``.

A kernel is a frozen dataclass that says what is true of it and writes the tag that compiled code dispatches on
(``kernels/profiles.py``). Names stand for kernels too: "gaussian", "laplacian", "imq", "rational_quadratic", "matern",
"polynomial", "linear", "energy", and the mixtures in use, "gmmn" (Gaussians of bandwidths 2, 5, 10, 20, 40, 80, summed)
and "wae" (Σ C/(C + ‖x−y‖²), C = 2 d s, over s = 0.1, 0.2, 0.5, 1, 2, 5, 10).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, ClassVar

from otdist import _bandwidth
from otdist._arrays import Array
from otdist._expression import Bandwidth, Choice, Constant, Kernel, Product, Sum, bandwidths, is_real, number
from otdist.kernels import profiles

__all__ = [
    "IMQ",
    "Constant",
    "Energy",
    "Gaussian",
    "Kernel",
    "Laplacian",
    "Linear",
    "Matern",
    "Polynomial",
    "Product",
    "RationalQuadratic",
    "Sum",
    "resolve",
]

COSTS = ("sqeuclidean", "euclidean", "cityblock", "cosine")


@dataclass(frozen=True)
class _Scaled(Kernel):
    """A kernel of a cost and a bandwidth."""

    root: ClassVar[bool] = True  # the cost enters as c/σ², not as c/σ
    if TYPE_CHECKING:  # fields of the subclasses, in their own order
        bandwidth: Bandwidth = None
        cost: str = "sqeuclidean"

    def __post_init__(self) -> None:
        object.__setattr__(self, "bandwidth", bandwidths(self.bandwidth))
        if self.cost not in COSTS:
            near = get_close_matches(str(self.cost), COSTS, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"cost: found {self.cost!r}; choose one of {', '.join(map(repr, COSTS))}{hint}")
        object.__setattr__(self, "characteristic", self.cost != "cosine")
        object.__setattr__(self, "distances", self.cost != "cosine")
        object.__setattr__(self, "shift_free", self.cost != "cosine")

    def fill(self, choose: Choice) -> Kernel:
        if self.bandwidth is not None:
            return self
        return replace(self, bandwidth=choose(self.cost, self.root))

    def _geometries(self) -> set[Any]:
        return {_GEOMETRY[self.cost]}

    def _rates(self, rate: Any) -> tuple[float, ...]:
        """rate(σ) of every bandwidth, in units of the geometry: 1 - cos = ‖x̂ − ŷ‖²/2."""
        given = self.bandwidth
        if given is None:
            raise ValueError(
                f"bandwidth: found None in {self}; give a number, or call a function that chooses one by `bandwidth=`"
            )
        unit = 0.5 if self.cost == "cosine" else 1.0
        rates = tuple(unit * rate(s) for s in (given if isinstance(given, tuple) else (given,)))
        if not all(1e-307 < r < 1e307 for r in rates):
            raise ValueError(f"bandwidth: found {given!r}, out of the range of float64; rescale samples and bandwidth")
        return rates

    def _on(self, leaf: Any) -> Any:
        return profiles.Root(leaf) if self.cost == "euclidean" else leaf


_GEOMETRY = {
    "sqeuclidean": profiles.Squared,
    "euclidean": profiles.Squared,
    "cityblock": profiles.Cityblock,
    "cosine": profiles.Angle,
}


@dataclass(frozen=True)
class Gaussian(_Scaled):
    """exp(−c/(2σ²)), c = ‖x−y‖² by default.

    Parameters
    ----------
    bandwidth : float or tuple of float, optional
        σ; several mean the sum of their kernels; None is chosen by the function that uses the kernel.
    cost : {"sqeuclidean", "euclidean", "cityblock", "cosine"}
        c; "cosine" is 1 − cos, for which a zero vector is an error, and is not characteristic.

    Examples
    --------
    >>> import otdist as od
    >>> round(float(od.Gaussian(1.0)([[0.0]], [[2.0]])[0, 0]), 6)
    0.135335
    """

    bandwidth: Bandwidth = None
    cost: str = "sqeuclidean"

    def _expression(self, d: int, places: dict[Any, Any]) -> Any:
        return self._on(profiles.Decay(places[_GEOMETRY[self.cost]], self._rates(lambda s: 0.5 / s / s)))


@dataclass(frozen=True)
class Laplacian(_Scaled):
    """exp(−c/σ), c = Σ|x_k−y_k| by default (scikit-learn's); cost="euclidean" gives the exponential kernel.

    Parameters
    ----------
    bandwidth : float or tuple of float, optional
        σ, as for `Gaussian`.
    cost : {"cityblock", "euclidean", "sqeuclidean", "cosine"}
        c.

    Examples
    --------
    >>> import otdist as od
    >>> round(float(od.Laplacian(2.0)([[0.0, 0.0]], [[1.0, 1.0]])[0, 0]), 6)
    0.367879
    """

    root: ClassVar[bool] = False
    bandwidth: Bandwidth = None
    cost: str = "cityblock"

    def _expression(self, d: int, places: dict[Any, Any]) -> Any:
        return self._on(profiles.Decay(places[_GEOMETRY[self.cost]], self._rates(lambda s: 1.0 / s)))


@dataclass(frozen=True)
class IMQ(_Scaled):
    """Inverse multiquadric (1 + c/σ²)^−power; the C/(C + ‖x−y‖²) of WAE is power=1, σ² = C.

    Parameters
    ----------
    bandwidth : float or tuple of float, optional
        σ, as for `Gaussian`.
    power : float
        > 0.
    cost : str
        c, as for `Gaussian`.

    Examples
    --------
    >>> import otdist as od
    >>> float(od.IMQ(1.0, power=1)([[0.0]], [[1.0]])[0, 0])
    0.5
    """

    bandwidth: Bandwidth = None
    power: float = 0.5
    cost: str = "sqeuclidean"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "power", number("power", self.power, 0.0))

    def _expression(self, d: int, places: dict[Any, Any]) -> Any:
        return self._on(_power(places[_GEOMETRY[self.cost]], self._rates(lambda s: 1.0 / s / s), self.power))


@dataclass(frozen=True)
class RationalQuadratic(_Scaled):
    """(1 + c/(2ασ²))^−α: a mixture of Gaussians, which it approaches for α → ∞.

    Parameters
    ----------
    bandwidth : float or tuple of float, optional
        σ, as for `Gaussian`.
    alpha : float
        > 0.
    cost : str
        c, as for `Gaussian`.

    Examples
    --------
    >>> import otdist as od
    >>> float(od.RationalQuadratic(1.0, alpha=0.5)([[0.0]], [[3.0]])[0, 0]) == 10**-0.5
    True
    """

    bandwidth: Bandwidth = None
    alpha: float = 1.0
    cost: str = "sqeuclidean"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "alpha", number("alpha", self.alpha, 0.0))

    def _expression(self, d: int, places: dict[Any, Any]) -> Any:
        rates = self._rates(lambda s: 0.5 / self.alpha / s / s)
        return self._on(_power(places[_GEOMETRY[self.cost]], rates, self.alpha))


def _power(place: Any, rates: tuple[float, ...], power: float) -> Any:
    if power in (0.5, 1.0):
        return (profiles.InverseRoot if power == 0.5 else profiles.Inverse)(place, rates)
    return profiles.Power(place, rates, power)


@dataclass(frozen=True)
class Matern(_Scaled):
    """With r = √(2ν)‖x−y‖/σ: e^−r, (1 + r)e^−r, (1 + r + r²/3)e^−r for ν = 1/2, 3/2, 5/2.

    Parameters
    ----------
    bandwidth : float or tuple of float, optional
        σ, as for `Gaussian`.
    nu : {0.5, 1.5, 2.5}
        Smoothness.

    Examples
    --------
    >>> import otdist as od
    >>> round(float(od.Matern(1.0, nu=0.5)([[0.0]], [[1.0]])[0, 0]), 6)
    0.367879
    """

    root: ClassVar[bool] = False
    bandwidth: Bandwidth = None
    nu: float = 1.5
    cost: ClassVar[str] = "euclidean"  # type: ignore[misc]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_real(self.nu) or self.nu not in (0.5, 1.5, 2.5):
            raise ValueError(f"nu: found {self.nu!r}; choose 0.5, 1.5 or 2.5")

    def _expression(self, d: int, places: dict[Any, Any]) -> Any:
        rates, place = self._rates(lambda s: math.sqrt(2 * self.nu) / s), places[profiles.Squared]
        if self.nu == 0.5:
            return profiles.Root(profiles.Decay(place, rates))
        return (profiles.MaternThree if self.nu == 1.5 else profiles.MaternFive)(place, rates)


@dataclass(frozen=True)
class Polynomial(Kernel):
    """(γ⟨x, y⟩ + c₀)^degree. It depends on the origin: samples far from it lose digits, and are refused at the worst.

    Parameters
    ----------
    degree : int
        1 to 32.
    gamma : float, optional
        γ > 0; 1/d by default, as for the kernel inception distance.
    coef0 : float
        c₀ >= 0.

    Examples
    --------
    >>> import otdist as od
    >>> float(od.Polynomial()([[1.0, 1.0]])[0, 0])
    8.0
    """

    characteristic: ClassVar[bool] = False
    bounded: ClassVar[bool] = False
    distances: ClassVar[bool] = False
    shift_free: ClassVar[bool] = False
    degree: int = 3
    gamma: float | None = None
    coef0: float = 1.0

    def __post_init__(self) -> None:
        if number("degree", self.degree, 1.0, closed=True, high=32.0) != int(self.degree):
            raise TypeError(f"degree: found {self.degree!r}; give a whole number")
        if self.gamma is not None:
            object.__setattr__(self, "gamma", number("gamma", self.gamma, 0.0))
        object.__setattr__(self, "coef0", number("coef0", self.coef0, 0.0, closed=True))

    def _geometries(self) -> set[Any]:
        return {profiles.Inner}

    def _expression(self, d: int, places: dict[Any, Any]) -> Any:
        gamma = 1.0 / d if self.gamma is None else self.gamma
        return profiles.Polynomial(places[profiles.Inner], gamma, float(self.coef0), (True,) * int(self.degree))


@dataclass(frozen=True)
class Linear(Kernel):
    """⟨x, y⟩: MMD² is the squared distance of the means.

    Parameters
    ----------
    None

    Examples
    --------
    >>> import otdist as od
    >>> float(od.Linear()([[1.0, 2.0]], [[3.0, 4.0]])[0, 0])
    11.0
    """

    characteristic: ClassVar[bool] = False
    bounded: ClassVar[bool] = False
    distances: ClassVar[bool] = False

    def _geometries(self) -> set[Any]:
        return {profiles.Inner}

    def _expression(self, d: int, places: dict[Any, Any]) -> Any:
        return profiles.Polynomial(places[profiles.Inner], 1.0, 0.0, (True,))


@dataclass(frozen=True)
class Energy(Kernel):
    """−‖x−y‖^exponent: conditionally positive definite; its MMD² is the energy distance.

    Parameters
    ----------
    exponent : float
        In (0, 2]; with 2 it is not characteristic (MMD² is twice the squared distance of the means).

    Examples
    --------
    >>> import otdist as od
    >>> float(od.Energy()([[0.0, 0.0]], [[3.0, 4.0]])[0, 0])
    -5.0
    """

    definite: ClassVar[str] = "conditional"
    bounded: ClassVar[bool] = False
    exponent: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "exponent", number("exponent", self.exponent, 0.0, high=2.0))
        object.__setattr__(self, "characteristic", self.exponent < 2)

    def _geometries(self) -> set[Any]:
        return {profiles.Squared}

    def _expression(self, d: int, places: dict[Any, Any]) -> Any:
        place = places[profiles.Squared]
        if self.exponent in (1.0, 2.0):
            negative = profiles.Negative(place)
            return profiles.Root(negative) if self.exponent == 1.0 else negative
        return profiles.NegativePower(place, self.exponent / 2)


_NAMES: dict[str, Callable[[int], Kernel]] = {
    "gaussian": lambda d: Gaussian(),
    "laplacian": lambda d: Laplacian(),
    "imq": lambda d: IMQ(),
    "rational_quadratic": lambda d: RationalQuadratic(),
    "matern": lambda d: Matern(),
    "polynomial": lambda d: Polynomial(),
    "linear": lambda d: Linear(),
    "energy": lambda d: Energy(),
    "gmmn": lambda d: Gaussian((2.0, 5.0, 10.0, 20.0, 40.0, 80.0)),
    "wae": lambda d: IMQ(tuple(math.sqrt(2.0 * d * s) for s in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)), power=1.0),
}


def named(kernel: Any, d: int) -> Kernel:
    """The kernel that a name stands for in d dimensions; kernels pass."""
    if isinstance(kernel, Kernel):
        return kernel
    if isinstance(kernel, str) and kernel in _NAMES:
        return _NAMES[kernel](d)
    if isinstance(kernel, str):
        near = get_close_matches(kernel, _NAMES, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"kernel: found {kernel!r}; choose one of {', '.join(map(repr, _NAMES))}{hint}")
    raise TypeError(f"kernel: found {type(kernel).__name__}; give a name or a kernel, e.g. otdist.Gaussian(1.0)")


def resolve(kernel: Any, bandwidth: Any, x: Array, y: Array) -> Kernel:
    """The kernel object of a call: names looked up, bandwidths that are None chosen.

    `bandwidth`: a number, several (the sum of their kernels), "median" or "scott" (see ``_bandwidth.py``), from the
    pool of the samples x (n, d) and y (m, d). Bandwidths that the kernel states stay.
    """
    if isinstance(bandwidth, str):
        rule = _bandwidth.rule(bandwidth)
        return named(kernel, x.shape[-1]).fill(lambda cost, root: rule(x, y, cost, root))
    chosen = bandwidths(bandwidth)
    if chosen is None:
        raise TypeError('bandwidth: found None; give a number, several, "median" or "scott"')
    return named(kernel, x.shape[-1]).fill(lambda cost, root: chosen)
