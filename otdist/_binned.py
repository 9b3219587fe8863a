"""Two samples counted in one set of cells: a grid over both, of which only the occupied cells are kept."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from otdist._normal import Array, power_of_two
from otdist.catalogue import choose

DIMENSIONS = 3
RULES = ("fd", "scott")


def counts(x: Array, y: Array, bins: Any) -> tuple[Array, Array]:
    """How many points of x (n, d) and of y (m, d) lie in each cell that holds any: two float64 arrays (cells,)."""
    d = x.shape[1]
    if d > DIMENSIONS:
        raise ValueError(
            f"method: found 'histogram' for d = {d} coordinates; nearly all cells of a grid are empty for "
            f"d > {DIMENSIONS}: use method='knn' or 'gaussian'"
        )
    cell = np.zeros(len(x) + len(y), np.int64)
    for axis, rule in enumerate(_per_axis(bins, d)):
        edges = _edges(x[:, axis], y[:, axis], rule, axis, d)
        # cells are renumbered after each axis, so that the numbers cannot overflow
        cell = np.unique(
            cell * (len(edges) - 1) + np.concatenate([_place(x, "x", edges, axis), _place(y, "y", edges, axis)]),
            return_inverse=True,
        )[1].reshape(-1)
    occupied = int(cell.max()) + 1
    p, q = (np.bincount(part, minlength=occupied).astype(np.float64) for part in (cell[: len(x)], cell[len(x) :]))
    return p, q


def _per_axis(bins: Any, d: int) -> list[Any]:
    """The rule, the number or the edges of each coordinate."""
    if isinstance(bins, (str, int, np.integer)):
        return [bins] * d
    if d == 1 and np.ndim(bins) == 1:
        return [bins]
    if not isinstance(bins, Sequence | np.ndarray) or len(bins) != d:
        found = f"{type(bins).__name__} of length {len(bins)}" if hasattr(bins, "__len__") else type(bins).__name__
        raise ValueError(
            f"bins: found {found} for d = {d} coordinates; give 'fd', 'scott', a number of bins, edges (d = 1), or a "
            f"sequence of d of these"
        )
    return list(bins)


def _edges(a: Array, b: Array, rule: Any, axis: int, d: int) -> Array:
    if isinstance(rule, bool) or rule is None:
        raise TypeError(f"bins: found {rule!r}; give 'fd', 'scott', a number of bins, or edges")
    if isinstance(rule, str) or np.ndim(rule) == 0:
        return _regular(np.concatenate([a, b]), rule, axis, d)
    edges = np.asarray(rule, np.float64)
    if edges.ndim != 1 or len(edges) < 2 or not np.all(np.diff(edges) > 0):  # NaN compares false
        raise ValueError(f"bins: found edges of shape {edges.shape} for coordinate {axis}; give 2 or more, increasing")
    return edges


def _regular(pooled: Array, rule: Any, axis: int, d: int) -> Array:
    low, high = float(np.min(pooled)), float(np.max(pooled))
    if isinstance(rule, str):
        number = _number(pooled, choose("bins", rule, RULES), low, high, axis, d)
    else:
        try:
            number = operator.index(rule)
        except TypeError:
            raise TypeError(f"bins: found {rule!r}; give 'fd', 'scott', a number of bins, or edges") from None
        if number < 1:
            raise ValueError(f"bins: found {number}; give 1 or more")
    if low == high:  # every point of both samples: one cell, whatever its width
        return np.array([-np.inf, np.inf])
    return np.histogram_bin_edges(pooled, bins=number, range=(low, high))


_MOST = 1 << 24


def _number(pooled: Array, rule: str, low: float, high: float, axis: int, d: int) -> int:
    """Bins of the width 2·IQR·N^(−1/(d+2)) or (24√π)^(1/3)·σ·N^(−1/(d+2)); NumPy's rules for d = 1."""
    if low == high:
        return 1
    unit = power_of_two(np.asarray(max(-low, high)))  # squares stay in range
    pooled, low, high = pooled / unit, float(low / unit), float(high / unit)
    if rule == "fd":
        spread, factor, what = float(np.subtract(*np.percentile(pooled, [75, 25]))), 2.0, "an interquartile range"
    else:
        spread, factor, what = float(np.std(pooled)), (24 * np.pi**0.5) ** (1 / 3), "a standard deviation"
    width = factor * spread * len(pooled) ** (-1 / (d + 2))
    if not (high - low) <= _MOST * width:
        raise ValueError(
            f"bins: found {what} that is {spread / (high - low):.3g} of the range along coordinate {axis}, too "
            f"small for the rule {rule!r}; give a number of bins or edges"
        )
    return max(int(np.ceil((high - low) / width)), 1)


def _place(points: Array, name: str, edges: Array, axis: int) -> Array:
    """The bin of each point; the last bin is closed, as in NumPy."""
    a = points[:, axis]
    outside = (a < edges[0]) | (a > edges[-1])
    if outside.any():
        i = int(np.argmax(outside))
        raise ValueError(
            f"bins: found edges from {edges[0]:.6g} to {edges[-1]:.6g} along coordinate {axis}, but {name} has "
            f"{a[i]:.6g} at index {i}; extend the edges, e.g. to -inf and inf"
        )
    return np.minimum(np.searchsorted(edges, a, side="right") - 1, len(edges) - 2)
