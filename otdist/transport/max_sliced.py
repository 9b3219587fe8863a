"""Max-sliced Wasserstein distance: the direction in which two samples are farthest apart, by ascent."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol

import numpy as np

from otdist._arrays import Array
from otdist._discrepancy import NOTHING
from otdist._samples import Pair, generator
from otdist.kernels import threads
from otdist.transport.line import exponent, finite
from otdist.transport.sliced import Sides, centred, entered, given_arrays, problems, projected, random_directions, whole

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
    if found.door.space is not None:
        _on_device(found, starts, power, max_iter, value, best)
    else:
        for at, sides in enumerate(problems(found)):
            with threads.single_blas():
                value[at], best[at] = _ascend(_Host(sides, power), starts.copy(), max_iter)
    finite("x and y", value)
    return MaxSliced(
        found.door.leave(value.reshape(found.batch)), found.door.leave(best.reshape(*found.batch, found.d))
    )


def _on_device(found: Pair, starts: Array, p: float, max_iter: int, value: Array, best: Array) -> None:
    """The same for arrays on a GPU: the steps are taken here, all that touches points there."""
    from otdist.transport import _line_device, _sliced_device

    every = _sliced_device.clouds(found)
    for at in range(len(value)):
        one = every.some(at, at + 1)
        value[at], best[at] = _ascend(_sliced_device.Ascent(one, p), starts.copy(), max_iter)

    def again(hosts: dict[str, Array]) -> object:
        return max_sliced_wasserstein(**hosts, p=p, restarts=1, max_iter=1)

    _line_device.check(found.door, "x and y", given_arrays(found), again)


class _Problem(Protocol):
    """What an ascent needs of two samples; directions (R, d)."""

    d: int

    def lean(self) -> Array:
        """The difference of the means (d,)."""

    def distances(self, theta: Array) -> Array:
        """Of the projections on each direction (R,)."""

    def slope(self, theta: Array) -> tuple[Array, Array]:
        """Distances, and their gradients by the directions (R, d)."""


class _Host:
    """Samples on the CPU."""

    def __init__(self, sides: Sides, p: float) -> None:
        self.sides, self.p, self.d = centred(sides), p, sides[0].shape[1]

    def lean(self) -> Array:
        x, y, a, b = self.sides
        own = [np.full(len(s), 1.0 / len(s)) if w is None else w[0] / w[0].sum() for s, w in ((x, a), (y, b))]
        found: Array = own[0] @ x - own[1] @ y
        return found

    def distances(self, theta: Array) -> Array:
        return projected(self.sides, theta, self.p, NOTHING).value

    def slope(self, theta: Array) -> tuple[Array, Array]:
        line = projected(self.sides, theta, self.p, (True, True, False, False))
        gx, gy = line.gradients[:2]
        assert gx is not None
        assert gy is not None
        return line.value, gx @ self.sides[0] + gy @ self.sides[1]


def _ascend(problem: _Problem, theta: Array, max_iter: int) -> tuple[float, Array]:
    """Ascents from all rows of theta at once, each with a step of its own that grows on success."""
    lean, axes = problem.lean(), np.eye(problem.d)
    starts = [axes[int(np.argmax(problem.distances(axes)))]]
    size = float(np.abs(lean).max())
    if 0.0 < size < math.inf:
        starts.insert(0, (lean / size) / math.sqrt(float(np.sum((lean / size) ** 2))))
    theta[: len(starts)] = starts[: len(theta)]
    value, slope = _slope(problem, theta)
    step, idle = np.ones(len(theta)), np.zeros(len(theta), np.int64)
    for _ in range(max_iter):
        active = np.flatnonzero((idle < PATIENCE) & (step > SHORTEST) & slope.any(axis=1))
        if not active.size:
            break
        moved = theta[active] + step[active, None] * slope[active]
        moved /= np.sqrt(np.sum(moved * moved, axis=1, keepdims=True))
        new, new_slope = _slope(problem, moved)
        better = new > value[active]
        gained = new > value[active] * (1.0 + 1e-12)
        kept = active[better]
        theta[kept], value[kept], slope[kept] = moved[better], new[better], new_slope[better]
        step[active] *= np.where(better, 1.6, 0.25)
        idle[active] = np.where(gained, 0, idle[active] + 1)
    best = int(np.argmax(value))
    return float(value[best]), theta[best]


def _slope(problem: _Problem, theta: Array) -> tuple[Array, Array]:
    """Distances, and their gradients along the sphere divided by the distance."""
    value, by = problem.slope(theta)
    gradient = by / np.where(value > 0.0, value, 1.0)[:, None]
    return value, gradient - np.sum(gradient * theta, axis=1, keepdims=True) * theta
