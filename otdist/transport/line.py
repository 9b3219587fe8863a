"""Optimal transport on the line, by sorting: distances with gradients, and an exact solver for one coordinate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from otdist._arrays import Array, Door, enter
from otdist._discrepancy import NOTHING, Estimate
from otdist._quantiles import line_coupling, line_distance
from otdist._samples import common, of_points, points, unbroadcast, weights
from otdist.transport._solution import Solution

__all__ = ["wasserstein_1d"]


def wasserstein_1d(u: Any, v: Any, u_weights: Any = None, v_weights: Any = None, p: float = 1) -> Any:
    """Wasserstein distance on the line, W_p = (∫₀¹ |F⁻¹(s) − G⁻¹(s)|^p ds)^(1/p).

    The root is taken: SciPy's `wasserstein_distance` is W_1; POT's `wasserstein_1d` is W_p^p.

    Parameters
    ----------
    u, v : array_like, shapes (..., n) and (..., m)
        Points on the line; leading dimensions broadcast.
    u_weights, v_weights : array_like, shapes (..., n) and (..., m), optional
        Weights: non-negative, with sum 1 within the root of their dtype's epsilon (then divided by it in float64).
        Equal by default.
    p : float, default 1
        At least 1; ``inf`` is the greatest displacement.

    Returns
    -------
    array, shape (...)
        In the library, dtype and device of the points; computed in float64. O((n + m) log(n + m)) time: sorting is most
        of it. O(n + m) memory per row beyond a sorted copy.

    Raises
    ------
    ValueError, TypeError
        Naming the argument: shapes, NaN and infinite points, weights, p; a distance beyond the range of float64.

    Notes
    -----
    Equal measures are at distance exactly 0, however their atoms are cut and ordered. |x − y|^p may leave the range of
    float64: it is scaled.

    Gradients, by `value_and_grad`, for finite p. Of points: 0 where the distance is 0; coincident points of one sample
    share what pulls at them in proportion to their weights; for p = 1 a pair that coincides contributes 0. Of weights:
    Kantorovich potentials with mean 0 (weights are divided by their sum), of the two one-sided derivatives their mean.

    Source: Peyré & Cuturi (2019), *Computational Optimal Transport*, §2.6.

    Examples
    --------
    >>> import otdist as od
    >>> float(od.wasserstein_1d([0.0, 1.0], [5.0, 7.0]))
    5.5
    """
    found, outcome = wasserstein_1d_estimate(u, v, u_weights, v_weights, p)
    return found.door.leave(outcome.value)


@dataclass(frozen=True)
class Rows:
    """Two samples on the line as they came (validated), and how results go back."""

    door: Door
    u: Array  # (..., n)
    v: Array  # (..., m)
    u_weights: Array | None  # (..., n), as given, in float64
    v_weights: Array | None
    batch: tuple[int, ...]

    def sides(self) -> tuple[Array, Array, Array | None, Array | None]:
        """All arrays with one row for each element of the batch, or a single row for all of them."""
        a, b = (None if w is None else self._rows(w) for w in (self.u_weights, self.v_weights))
        return self._rows(self.u), self._rows(self.v), a, b

    def _rows(self, array: Array) -> Array:
        if math.prod(array.shape[:-1]) == 1:
            return array.reshape(1, -1)
        return np.broadcast_to(array, (*self.batch, array.shape[-1])).reshape(-1, array.shape[-1])


def wasserstein_1d_estimate(
    u: Any, v: Any, u_weights: Any, v_weights: Any, p: Any, wanted: tuple[bool, ...] = NOTHING
) -> tuple[Rows, Estimate]:
    """`wasserstein_1d` and its gradients, with the door they leave by."""
    power = exponent(p)
    given = {"u": u, "v": v, "u_weights": u_weights, "v_weights": v_weights}
    named = {name: a for name, a in given.items() if a is not None or name in ("u", "v")}
    differentiable("u_weights", "v_weights", u_weights, v_weights, power, wanted)
    door, hosts = enter(**named)
    arrays = dict(zip(named, hosts, strict=True))
    if door.space is not None:
        return _on_device(door, arrays, power, wanted)
    shapes: dict[str, tuple[int, ...]] = {}
    for name, array in list(arrays.items()):
        arrays[name] = masses(name, array, arrays[name[0]].shape[-1], door) if len(name) > 1 else _row(name, array)
        shapes[name] = arrays[name].shape[:-1]
    own = arrays.get("u_weights"), arrays.get("v_weights")
    found = Rows(door, arrays["u"], arrays["v"], *own, common(**shapes))
    x, y, a, b = found.sides()
    if math.prod(found.batch) == 0:
        x, y, a, b = x[:0], y[:0], None, None
    line = line_distance(x, y, a, b, power, wanted)
    finite("u and v", line.value)
    shaped = [
        None
        if gradient is None
        else unbroadcast(gradient.reshape(*found.batch, gradient.shape[-1]), arrays[name].shape)
        for name, gradient in zip(given, line.gradients, strict=True)
    ]
    # one row that served the whole batch
    value = np.broadcast_to(line.value, (math.prod(found.batch),)) if found.batch else line.value
    return found, Estimate(value.reshape(found.batch), tuple(shaped))


def _on_device(door: Door, arrays: dict[str, Any], p: float, wanted: tuple[bool, ...]) -> tuple[Rows, Estimate]:
    """The same for arrays on a GPU."""
    from otdist.transport import _line_device

    def again(hosts: dict[str, Array]) -> object:
        own = hosts.get("u_weights"), hosts.get("v_weights")
        return wasserstein_1d_estimate(hosts["u"], hosts["v"], *own, p)

    shapes = {
        name: (of_points(name, name[0], a, arrays[name[0]].shape[-1]) if len(name) > 1 else _shaped(name, a)).shape[:-1]
        for name, a in arrays.items()
    }
    batch = common(**shapes)
    own = arrays.get("u_weights"), arrays.get("v_weights")
    outcome = _line_device.estimate(door, arrays, batch, p, wanted)
    _line_device.check(door, "u and v", arrays, again)
    return Rows(door, arrays["u"], arrays["v"], *own, batch), outcome


def exponent(p: Any, finite: bool = False) -> float:
    """The argument p, as a float."""
    if isinstance(p, bool | np.bool_) or not isinstance(p, int | float | np.integer | np.floating):
        raise TypeError(f"p: found {p!r}; give a number >= 1")
    try:
        degree = float(p)
    except OverflowError:
        degree = math.nan
    if not degree >= 1 or (finite and math.isinf(degree)):
        raise ValueError(f"p: found {p!r}; give {'a finite number' if finite else 'a number'} >= 1")
    return degree


def differentiable(first: str, second: str, a: Any, b: Any, p: float, wanted: tuple[bool, ...]) -> None:
    """Refuse gradients that are not there."""
    for name, want, argument in ((first, wanted[2], a), (second, wanted[3], b)):
        if want and argument is None:
            raise ValueError(f"{name}: found None; pass the weights to differentiate with respect to them")
    if any(wanted) and math.isinf(p):
        raise ValueError("p: found inf, whose distance has no gradient; give a finite p")


def finite(names: str, value: Array) -> None:
    if not np.isfinite(value).all():
        raise ValueError(f"{names}: found samples whose distance leaves the range of float64; divide both by a factor")


def masses(name: str, w: Array, n: int, door: Door) -> Array:
    """Weights as given, in float64, once they are proved to be weights of n points: sums stay exact until the end."""
    weights(name, name[0], w, n, door.tolerance)
    return w.astype(np.float64)


def _row(name: str, x: Array) -> Array:
    points(name, _shaped(name, x)[..., None])
    return x


def _shaped(name: str, x: Array) -> Array:
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(f"{name}: found shape {x.shape}; points on the line have shape (..., n), n >= 1")
    return x


def solve(u: Array, v: Array, a: Array, b: Array, p: float) -> Solution:
    """The monotone coupling of points u (n,) and v (m,) with weights a, b: optimal for the cost |u − v|^p, p >= 1.

    Float64 arrays, validated; a and b have equal sums up to rounding. The coupling has at most n + m - 1 entries.
    """
    rows, cols, mass, g = line_coupling(u, v, a, b, p)
    return Solution(rows, cols, mass, g, len(mass), "monotone coupling")
