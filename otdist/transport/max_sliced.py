"""Max-sliced Wasserstein distance: the direction in which two samples are farthest apart, by ascent."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from otdist._arrays import Array
from otdist._discrepancy import NOTHING
from otdist._samples import generator
from otdist.kernels import threads
from otdist.transport.line import exponent, finite
from otdist.transport.sliced import Sides, centred, entered, problems, projected, random_directions, whole

__all__ = ["MaxSliced", "max_sliced_wasserstein"]

# Steps of an ascent without a gain, and the smallest step, that end it.
PATIENCE, SHORTEST = 20, 1e-9


class MaxSliced(NamedTuple):
    """The greatest distance found between projections on a line, and the line.

    Parameters
    ----------
    value : array, shape (...)
        A lower bound of the maximum over all directions.
    direction : array, shape (..., d)
        Of length 1; it attains the value.

    Examples
    --------
    >>> import otdist as od
    >>> found = od.max_sliced_wasserstein([[0.0, 0.0]], [[3.0, 4.0]])
    >>> round(float(found.value), 6)
    5.0
    """

    value: Any
    direction: Any


def max_sliced_wasserstein(
    x: Any,
    y: Any,
    x_weights: Any = None,
    y_weights: Any = None,
    p: float = 2,
    *,
    restarts: int = 8,
    max_iter: int = 200,
    rng: Any = 0,
) -> MaxSliced:
    """Max-sliced Wasserstein distance, max over directions θ of W_p(⟨θ, x⟩, ⟨θ, y⟩): a lower bound and its direction.

    The maximum of a function with many peaks. Gradient ascent on the sphere finds some of them, from several starts at
    once; what it returns is attained by its direction, but nothing proves that no other direction has more.

    Parameters
    ----------
    x, y : array_like, shapes (..., n, d) and (..., m, d)
        Samples; leading dimensions broadcast.
    x_weights, y_weights : array_like, shapes (..., n) and (..., m), optional
        As for `wasserstein_1d`.
    p : float, default 2
        At least 1, finite.
    restarts : int, default 8
        Ascents: from the difference of the means, from the coordinate whose projections are farthest apart, and from
        random directions.
    max_iter : int, default 200
        Steps of an ascent.
    rng : int, numpy.random.Generator or None, default 0
        Where random starts come from: the same in every call by default, fresh ones with None.

    Returns
    -------
    MaxSliced
        ``(value, direction)``. O(steps restarts n (d + log n)) time.

    Raises
    ------
    ValueError, TypeError
        As for `sliced_wasserstein`.

    Notes
    -----
    Has no gradient here: where the direction is the best, that of ``sliced_wasserstein(..., projections=[direction])``
    is the gradient. Source: Deshpande et al. (2019), *Max-sliced Wasserstein distance and its use for GANs*.

    Examples
    --------
    >>> import otdist as od
    >>> found = od.max_sliced_wasserstein([[0.0, 0.0], [1.0, 0.0]], [[0.0, 2.0], [1.0, 2.0]])
    >>> round(float(found.value), 6), abs(found.direction).round(6).tolist()
    (2.0, [0.0, 1.0])
    """
    power = exponent(p, finite=True)
    restarts, max_iter = whole("restarts", restarts), whole("max_iter", max_iter)
    found = entered(x, y, x_weights, y_weights)
    count, starts = math.prod(found.batch), random_directions(restarts, found.d, generator(rng))
    value, best = np.zeros(count), np.zeros((count, found.d))
    for at, sides in enumerate(problems(found)):
        value[at], best[at] = _ascend(sides, starts.copy(), power, max_iter)
    finite("x and y", value)
    return MaxSliced(
        found.door.leave(value.reshape(found.batch)), found.door.leave(best.reshape(*found.batch, found.d))
    )


def _ascend(sides: Sides, theta: Array, p: float, max_iter: int) -> tuple[float, Array]:
    """Ascents from all rows of theta at once, each with a step of its own that grows on success."""
    x, y, a, b = centred(sides)
    own = [np.full(len(s), 1.0 / len(s)) if w is None else w[0] / w[0].sum() for s, w in ((x, a), (y, b))]
    lean = own[0] @ x - own[1] @ y
    with threads.single_blas():
        apart = projected((x, y, a, b), np.eye(x.shape[1]), p, NOTHING).value
        starts = [np.eye(x.shape[1])[int(np.argmax(apart))]]
        size = float(np.abs(lean).max())
        if 0.0 < size < math.inf:
            starts.insert(0, (lean / size) / math.sqrt(float(np.sum((lean / size) ** 2))))
        theta[: len(starts)] = starts[: len(theta)]
        value, slope = _slope((x, y, a, b), theta, p)
        step, idle = np.ones(len(theta)), np.zeros(len(theta), np.int64)
        for _ in range(max_iter):
            active = np.flatnonzero((idle < PATIENCE) & (step > SHORTEST) & slope.any(axis=1))
            if not active.size:
                break
            moved = theta[active] + step[active, None] * slope[active]
            moved /= np.sqrt(np.sum(moved * moved, axis=1, keepdims=True))
            new, new_slope = _slope((x, y, a, b), moved, p)
            better = new > value[active]
            gained = new > value[active] * (1.0 + 1e-12)
            kept = active[better]
            theta[kept], value[kept], slope[kept] = moved[better], new[better], new_slope[better]
            step[active] *= np.where(better, 1.6, 0.25)
            idle[active] = np.where(gained, 0, idle[active] + 1)
    best = int(np.argmax(value))
    return float(value[best]), theta[best]


def _slope(sides: Sides, theta: Array, p: float) -> tuple[Array, Array]:
    """Distances, and their gradients along the sphere divided by the distance."""
    line = projected(sides, theta, p, (True, True, False, False))
    gx, gy = line.gradients[:2]
    assert gx is not None
    assert gy is not None
    scale = np.where(line.value > 0.0, line.value, 1.0)[:, None]
    gradient = (gx @ sides[0] + gy @ sides[1]) / scale
    return line.value, gradient - np.sum(gradient * theta, axis=1, keepdims=True) * theta
