"""Sliced Wasserstein distances: samples of many coordinates by way of their projections on lines."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from otdist._arrays import Array, enter
from otdist._discrepancy import NOTHING, Estimate
from otdist._quantiles import Line, line_distance
from otdist._samples import Pair, generator, pair, unbroadcast
from otdist.catalogue import flag
from otdist.kernels import threads
from otdist.transport.line import differentiable, exponent, finite, masses

__all__ = ["sliced_wasserstein"]

# Projected coordinates of a tile: they, their sorted copies and orders stay near the cache.
TILE = 1 << 18


def sliced_wasserstein(
    x: Any,
    y: Any,
    x_weights: Any = None,
    y_weights: Any = None,
    p: float = 2,
    *,
    projections: Any = 128,
    rng: Any = 0,
    return_stderr: bool = False,
) -> Any:
    """Sliced Wasserstein distance, (E_θ W_p(⟨θ, x⟩, ⟨θ, y⟩)^p)^(1/p) over uniform directions θ, by Monte Carlo.

    Parameters
    ----------
    x, y : array_like, shapes (..., n, d) and (..., m, d)
        Samples; leading dimensions broadcast.
    x_weights, y_weights : array_like, shapes (..., n) and (..., m), optional
        As for `wasserstein_1d`.
    p : float, default 2
        At least 1, finite.
    projections : int or array_like (L, d), default 128
        How many random directions, or the directions themselves, which are brought to length 1.
    rng : int, numpy.random.Generator or None, default 0
        Where random directions come from: the same ones in every call by default, fresh ones with None. All elements of
        a batch share them.
    return_stderr : bool, default False
        Return ``(value, standard_error)``: of the choice of the directions, not of the samples, to first order. The
        average of W_p^p has no bias; its root has one of the order of the error squared. Needs two directions.

    Returns
    -------
    array, shape (...), or two
        In the library, dtype and device of the samples; transport is computed in float64. O(L n (d + log n)) time,
        O(n) memory for each thread: directions are taken in tiles. One coordinate: exactly `wasserstein_1d`, with
        error 0.

    Raises
    ------
    ValueError, TypeError
        Naming the argument: shapes (one-dimensional samples are x[:, None]), NaN, weights, p, directions, rng.

    Notes
    -----
    Gradients, by `value_and_grad`, as for `wasserstein_1d`, of the average over the directions as drawn.

    Source: Rabin, Peyré, Delon & Bernot (2011); Bonneel et al. (2015).

    Examples
    --------
    >>> import otdist as od
    >>> x, y = [[0.0, 0.0], [1.0, 0.0]], [[0.0, 2.0], [1.0, 2.0]]
    >>> round(float(od.sliced_wasserstein(x, y, projections=[[0, 1], [1, 0]])), 6)
    1.414214
    """
    found, outcome = sliced_wasserstein_estimate(x, y, x_weights, y_weights, p, projections, rng, return_stderr)
    if not return_stderr:
        return found.door.leave(outcome.value)
    return found.door.leave(outcome.value), found.door.leave(outcome.gradients[-1])


def sliced_wasserstein_estimate(
    x: Any,
    y: Any,
    x_weights: Any,
    y_weights: Any,
    p: Any,
    projections: Any,
    rng: Any,
    return_stderr: Any,
    wanted: tuple[bool, ...] = NOTHING,
) -> tuple[Pair, Estimate]:
    """`sliced_wasserstein` and its gradients, with the door they leave by; the last of them is the standard error."""
    power = exponent(p, finite=True)
    flag("return_stderr", return_stderr)
    if any(wanted) and return_stderr:
        raise ValueError("return_stderr: found True; value_and_grad returns the value and gradients only")
    differentiable("x_weights", "y_weights", x_weights, y_weights, power, wanted)
    found = entered(x, y, x_weights, y_weights)
    theta = directions(projections, found.d, rng)
    if return_stderr and len(theta) < 2 and found.d > 1:
        raise ValueError(f"projections: found {len(theta)} direction; a standard error needs two or more")
    if found.door.space is not None:
        return found, _on_device(found, theta, power, wanted)
    count, arrays = math.prod(found.batch), (found.x, found.y, found.x_weights, found.y_weights)
    value, error = np.zeros(count), np.zeros(count)
    shapes = [
        None if not want or a is None else (count, *a.shape[-k:])
        for want, a, k in zip(wanted, arrays, (2, 2, 1, 1), strict=True)
    ]
    gradients = [None if shape is None else np.empty(shape) for shape in shapes]
    for at, sides in enumerate(problems(found)):
        value[at], error[at], parts = _average(sides, theta, power, wanted)
        for whole, part in zip(gradients, parts, strict=True):
            if whole is not None:
                whole[at] = part
    finite("x and y", value)
    shaped = [
        None if g is None or a is None else unbroadcast(g.reshape(*found.batch, *g.shape[1:]), a.shape)
        for g, a in zip(gradients, arrays, strict=True)
    ]
    return found, Estimate(value.reshape(found.batch), (*shaped, error.reshape(found.batch)))


def _on_device(found: Pair, theta: Array, p: float, wanted: tuple[bool, ...]) -> Estimate:
    """The same for arrays on a GPU."""
    from otdist.transport import _line_device, _sliced_device

    outcome = _sliced_device.estimate(found, theta, p, wanted)

    def again(hosts: dict[str, Array]) -> object:
        own = hosts.get("x_weights"), hosts.get("y_weights")
        return sliced_wasserstein_estimate(hosts["x"], hosts["y"], *own, p, theta, 0, False)

    _line_device.check(found.door, "x and y", given_arrays(found), again)
    return outcome


def given_arrays(found: Pair) -> dict[str, Any]:
    """The arguments by their names."""
    arrays = {"x": found.x, "y": found.y, "x_weights": found.x_weights, "y_weights": found.y_weights}
    return {name: a for name, a in arrays.items() if a is not None}


Sides = tuple[Array, Array, Array | None, Array | None]


def entered(x: Any, y: Any, x_weights: Any, y_weights: Any) -> Pair:
    """Both samples, with weights as they were given: their sums stay exact until the end."""
    found, _ = pair(x, y, x_weights, y_weights)
    given = {name: w for name, w in (("x_weights", x_weights), ("y_weights", y_weights)) if w is not None}
    if not given or found.door.space is not None:
        return found
    door, hosts = enter(**given)
    own = {
        name: masses(name, w, found.n if name == "x_weights" else found.m, door)
        for name, w in zip(given, hosts, strict=True)
    }
    return Pair(found.door, found.x, found.y, own.get("x_weights"), own.get("y_weights"), found.batch)


def problems(found: Pair) -> Iterator[Sides]:
    """x, y (n, d) and weights (1, n) of every element of the batch."""
    X, Y = found.problems()
    weights = [
        None if w is None else np.broadcast_to(w, (*found.batch, w.shape[-1])).reshape(-1, w.shape[-1])
        for w in (found.x_weights, found.y_weights)
    ]
    for k in range(len(X)):
        a, b = (None if w is None else w[k : k + 1] for w in weights)
        yield X[k], Y[k], a, b


def directions(projections: Any, d: int, rng: Any) -> Array:
    """Directions (L, d) of length 1, float64."""
    if isinstance(projections, bool):
        raise TypeError(f"projections: found {projections!r}; give a whole number or an array (L, {d})")
    if isinstance(projections, int | np.integer):
        source = generator(rng)
        return random_directions(whole("projections", projections), d, source)
    door, (theta,) = enter(projections=projections)
    theta = theta if door.space is None else door.space.host(theta)
    if theta.ndim != 2 or theta.shape[1] != d or not len(theta):
        raise ValueError(f"projections: found shape {theta.shape}; directions have shape (L, {d}), L >= 1")
    theta = theta.astype(np.float64)
    size = np.abs(theta).max(axis=1, keepdims=True)
    bad = ~((size[:, 0] > 0.0) & (size[:, 0] < np.inf))
    if bad.any():
        where = int(np.argmax(bad))
        raise ValueError(f"projections: found {theta[where].tolist()} at index {where}; directions are finite, not 0")
    theta /= size
    unit: Array = theta / np.sqrt(np.sum(theta * theta, axis=1, keepdims=True))
    return unit


def random_directions(count: int, d: int, source: np.random.Generator) -> Array:
    """Uniform on the sphere, (count, d)."""
    theta = source.standard_normal((count, d))
    unit: Array = theta / np.sqrt(np.sum(theta * theta, axis=1, keepdims=True))
    return unit


def whole(name: str, value: Any) -> int:
    """An argument that counts."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name}: found {value!r}; give a whole number")
    if value < 1:
        raise ValueError(f"{name}: found {value!r}; give at least 1")
    return int(value)


def _average(sides: Sides, theta: Array, p: float, wanted: tuple[bool, ...]) -> tuple[float, float, list[Array | None]]:
    """The mean over directions, its standard error, and gradients in x, y and weights."""
    x, y, a, b = sides
    if x.shape[1] == 1:
        line = line_distance(x.T.copy(), y.T.copy(), a, b, p, wanted)
        shaped = zip(line.gradients, (x.shape, y.shape, (len(x),), (len(y),)), strict=True)
        return float(line.value[0]), 0.0, [None if g is None else g.reshape(shape) for g, shape in shaped]
    x, y, a, b = centred(sides)
    step = max(1, TILE // (len(x) + len(y)))
    spans = list(threads.spans(len(theta), step))

    def tile(start: int, stop: int) -> tuple[Array, float, list[Array | None]]:
        line = projected((x, y, a, b), theta[start:stop], p, wanted)
        unit = float(line.value.max(initial=0.0))
        share = (line.value / unit) ** (p - 1.0) if unit > 0.0 else np.zeros(stop - start)
        parts = [
            None if g is None else _combined(k, g * share[:, None], theta[start:stop])
            for k, g in enumerate(line.gradients)
        ]
        return line.value, unit, parts

    values, unit, sums = [], 0.0, list[Array | None]([None] * 4)
    # a few tiles at a time: their gradients are as large as the samples
    width = 2 * threads.thread_count() if any(wanted) else len(spans)
    nanoseconds = (30.0 + 0.5 * x.shape[1]) * (len(x) + len(y)) * len(theta)
    with threads.single_blas():
        for first in range(0, len(spans), width):
            for value, size, parts in threads.run(tile, spans[first : first + width], nanoseconds):
                values.append(value)
                larger = max(unit, size)
                for k, part in enumerate(parts):
                    if part is not None:
                        before = sums[k]
                        part = part * (size / larger) ** (p - 1.0) if larger > 0.0 else part
                        sums[k] = (
                            part if before is None or larger == 0.0 else before * (unit / larger) ** (p - 1.0) + part
                        )
                unit = larger
    found = np.concatenate(values)
    if unit == 0.0:
        return 0.0, 0.0, sums
    powers = (found / unit) ** p
    mean = float(powers.mean())
    root = mean ** (1.0 / p)
    spread = float(powers.std(ddof=1)) / math.sqrt(len(found)) if len(found) > 1 else 0.0
    factor = root ** (1.0 - p) / len(found)
    return unit * root, unit * root * spread / (p * mean), [None if g is None else g * factor for g in sums]


def centred(sides: Sides) -> Sides:
    """Samples in float64 around a common centre: projections of far points would round their differences away."""
    x, y = (part.astype(np.float64) for part in sides[:2])
    with np.errstate(over="ignore"):
        middle = 0.5 * (0.5 * (x.min(axis=0) + y.min(axis=0)) + 0.5 * (x.max(axis=0) + y.max(axis=0)))
    middle = np.where(np.isfinite(middle), middle, 0.0)
    return x - middle, y - middle, sides[2], sides[3]


def projected(sides: Sides, theta: Array, p: float, wanted: tuple[bool, ...]) -> Line:
    """Distances of the projections on each direction."""
    x, y, a, b = sides
    with np.errstate(over="ignore", invalid="ignore"):
        u, v = theta @ x.T, theta @ y.T
    return line_distance(u, v, a, b, p, wanted)


def _combined(k: int, gradient: Array, theta: Array) -> Array:
    """Rows of gradients, one for each direction, added up in the space of the samples (of weights: as they are)."""
    total: Array = gradient.T @ theta if k < 2 else gradient.sum(axis=0)
    return total
