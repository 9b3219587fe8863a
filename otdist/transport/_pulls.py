"""Gradients by points: the envelope theorem, sum_j P_ij grad c(x_i, y_j) with the plan held fixed."""

from __future__ import annotations

from typing import Any

import numpy as np

from otdist._arrays import Array
from otdist.kernels import costs
from otdist.kernels.profiles import Cityblock, Squared
from otdist.transport._problem import Points, lengths


def by_points(
    problem: Points, rows: Array, cols: Array, mass: Array, x: Array, y: Array, unit: float
) -> tuple[Array, Array]:
    """Gradients of `unit` times sum mass c by the points x and y that the caller gave.

    The problem's own points are x 2^-log_length, or, where its costs are cosines, x/(√2 ‖x‖).
    """
    by_x, by_y = np.zeros(problem.x.shape), np.zeros(problem.y.shape)
    step = max(1, (1 << 22) // problem.x.shape[1])
    for s in range(0, len(rows), step):
        i, j = rows[s : s + step], cols[s : s + step]
        pull = mass[s : s + step, None] * slope(problem.cost, problem.x[i] - problem.y[j])
        np.add.at(by_x, i, pull)
        np.subtract.at(by_y, j, pull)
    if problem.directions:
        return unit * _through_direction(x, by_x), unit * _through_direction(y, by_y)
    scale = unit * 2.0**-problem.log_length
    return scale * by_x, scale * by_y


def slope(tag: Any, d: Array) -> Array:
    """Gradient of the cost by the difference d (s, k) of two points; 0 at d = 0."""
    if isinstance(tag, Squared):
        return 2.0 * d
    if isinstance(tag, costs.Raised):
        r = _distance(tag.base, d)[:, None]
        raised: Array = tag.power * r ** (tag.power - 1.0) * slope(tag.base, d)
        return raised
    if isinstance(tag, Cityblock):
        signs: Array = np.sign(d)
        return signs
    if isinstance(tag, costs.Chebyshev):
        at = np.argmax(np.abs(d), axis=1)[:, None]
        out = np.zeros_like(d)
        np.put_along_axis(out, at, np.sign(np.take_along_axis(d, at, 1)), 1)
        return out
    r = _distance(tag, d)[:, None]
    return np.divide(d, r, out=np.zeros_like(d), where=r > 0.0)


def _distance(tag: Any, d: Array) -> Array:
    if isinstance(tag, Cityblock):
        total: Array = np.sum(np.abs(d), axis=1)
        return total
    if isinstance(tag, costs.Chebyshev):
        largest: Array = np.max(np.abs(d), axis=1)
        return largest
    return lengths(d)[:, 0]


def _through_direction(x: Array, pull: Array) -> Array:
    """The gradient by x of a function of x/(√2 ‖x‖), given that by the direction."""
    r = lengths(x)
    unit = x / r
    out: Array = (pull - unit * np.sum(pull * unit, axis=-1, keepdims=True)) / (r * np.sqrt(2.0))
    return out
