"""Energy distance (exponent 1) and Laplacian MMD of one-dimensional samples, by sorting: O((n + m) log(n + m)).

    energy_line(x, y, a, b, wanted, unbiased=False, sums=False) -> Outcome           kernel -|x - y|
    laplace_line(x, y, a, b, sigmas, wanted, unbiased=False, sums=False) -> Outcome  kernel sum of exp(-|x - y|/sigma)

x (batch, n), y (batch, m): finite, both float32 or both float64; one row stands for a whole batch.
a, b: weights like x, y, non-negative, each row with a sum in [1/2, 2], which is divided out; None: equal weights.
wanted: which gradients, of (x, y, a, b). Everything in `Outcome` is float64.

The value is that of the V-statistic, an integral of a square: never negative, 0 for equal multisets, the same bits for
points in any order. `unbiased` asks for the U-statistic, which may be negative: with s = sum a_i^2 and the spread
T = sum a_i a_j (k(x_i, x_i) - k(x_i, x_j)),

    (S_xx - sum a_i^2 k(x_i, x_i)) / (1 - s) + the same of y - 2 S_xy = V - T_x s/(1 - s) - T_y s/(1 - s)

where nothing large cancels. Gradients with respect to weights are the partial derivatives of these formulas where the
weights sum to one, as everywhere in this library. At coincident points the derivative of |x - y| counts as 0.

Memory beyond the result: a sorted copy of the input; with gradients or weights also 8 bytes a point for the orders and
16 for both kinds of gradients; per thread up to 64 bytes for each point of one row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from otdist._arrays import Array
from otdist._sorted import TILE, Sorted, tile_rows
from otdist.kernels import threads
from otdist.kernels.line import PIECE, cramer
from otdist.kernels.walk import energy_rows, laplace_rows

# Nanoseconds to merge a point, and to walk over it.
MERGE, WALK = 3.0, 20.0
# Where the largest coordinate is outside, a square of integer weights times a gap could leave the range of float64:
# the row is computed on a power of two times its coordinates.
SMALL, LARGE = 2.0**-800, 2.0**880
UP, DOWN = 2.0**600, 2.0**-200

Wanted = tuple[bool, bool, bool, bool]
NOTHING: Wanted = (False, False, False, False)


@dataclass(frozen=True)
class Outcome:
    """What one call found, float64, one row per element of the batch."""

    value: Array
    """(batch,)"""
    sums: Array | None
    """(batch, 3), if asked for: S_xx, S_xy, S_yy = E k(x, x'), E k(x, y), E k(y, y'), minus mean distances for energy.

    S_xy is (S_xx + S_yy - value)/2: right to eps of S_xx + S_yy.
    """
    spreads: Array | None
    """(batch, 2), if asked for or unbiased: E (k(x, x) - k(x, x')) and that of y, accurate where tiny too."""
    diagonal: Array | None
    """(batch, 2), as the spreads: sum a_i^2 k(x_i, x_i) and that of y."""
    gradients: tuple[Array | None, ...]
    """With respect to x, y, a, b: (batch, n), (batch, m), (batch, n), (batch, m), or None where not wanted."""


def energy_line(
    x: Array,
    y: Array,
    a: Array | None = None,
    b: Array | None = None,
    wanted: Sequence[bool] = NOTHING,
    *,
    unbiased: bool = False,
    sums: bool = False,
) -> Outcome:
    """2 E|x - y| - E|x - x'| - E|y - y'| of every row, see above."""
    s = Sorted.sort(x, y, a, b, any(wanted))
    if s.order_x is None:
        return _finish(s, _cramer, 0.0, wanted, unbiased, sums)
    return _finish(s, _energy, 0.0, wanted, unbiased, sums)


def laplace_line(
    x: Array,
    y: Array,
    a: Array | None,
    b: Array | None,
    sigmas: Sequence[float],
    wanted: Sequence[bool] = NOTHING,
    *,
    unbiased: bool = False,
    sums: bool = False,
) -> Outcome:
    """Squared MMD of the kernel sum over sigmas of exp(-|x - y|/sigma) of every row, see above."""
    bandwidths = np.array(sigmas, np.float64)

    def walk(s: Sorted, factor: Array, points: Any, weights: Any) -> tuple[Array, Array]:
        return _laplace(s, bandwidths, factor, points, weights)

    return _finish(Sorted.sort(x, y, a, b, any(wanted)), walk, float(len(bandwidths)), wanted, unbiased, sums)


Walk = Callable[[Sorted, Array, Any, Any], tuple[Array, Array]]


def _finish(s: Sorted, walk: Walk, peak: float, wanted: Sequence[bool], unbiased: bool, sums: bool) -> Outcome:
    """The outcome of a kernel whose k(x, x) is `peak`: V-statistic, then what makes it unbiased."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return _statistics(s, walk, peak, wanted, unbiased, sums)


def _statistics(s: Sorted, walk: Walk, peak: float, wanted: Sequence[bool], unbiased: bool, sums: bool) -> Outcome:
    n, m = s.x.shape[1], s.y.shape[1]
    points, weights = (np.zeros((s.batch, n + m)) if any(wanted) else None for _ in range(2))
    value, _ = walk(s, np.ones(s.batch), points, weights)
    found: list[Array] = []
    spreads, diagonal = np.empty((s.batch, 2)), np.empty((s.batch, 2))
    if unbiased or sums:
        v_statistic = value.copy()
        for which, columns in enumerate((slice(0, n), slice(n, n + m))):
            squares, others = s.squares(which)
            if unbiased and not (others > 0.0).all():
                raise ValueError(
                    f"{'xy'[which]}: found a sample with all its mass at one point; estimator='unbiased' needs two"
                )
            ratio = squares / others if unbiased else np.zeros(s.batch)
            of_points = of_weights = None
            if points is not None and weights is not None and unbiased:
                of_points, of_weights = points[:, columns], weights[:, columns]
            total, spread = walk(s.alone(which), ratio, of_points, of_weights)
            if of_weights is not None:
                own = s.own_weights(which)
                share = 1.0 / (n, m)[which] if own is None else own / own.sum(axis=1, keepdims=True)
                of_weights -= 2.0 * share * (spread / others**2)[:, None]
            value = value - ratio * spread if unbiased else value
            spreads[:, which], diagonal[:, which] = spread, peak * squares
            found.append(total)
        between = 0.5 * (found[0] + found[1] - v_statistic)
        found.insert(1, np.maximum(between, 0.0) if peak else between)
    gradients: list[Array | None] = [None] * 4
    if points is not None and weights is not None:
        parts = (points[:, :n], points[:, n:], weights[:, :n], weights[:, n:])
        gradients = [part if want else None for part, want in zip(parts, wanted, strict=True)]
    return Outcome(
        value,
        np.stack(found, axis=1) if found else None,
        spreads if found else None,
        diagonal if found else None,
        tuple(gradients),
    )


def _cramer(s: Sorted, _factor: Array, _points: Any, _weights: Any) -> tuple[Array, Array]:
    """The energy distance with equal weights, values only."""
    n, m = s.x.shape[1], s.y.shape[1]
    common = math.gcd(n, m) if m else n
    up, down = (m // common, n // common) if m else (1, 0)
    parts = np.empty((s.batch, -(-(n + m) // PIECE)))
    scale = _scale(s)

    def tile(start: int, stop: int) -> None:
        cramer(s.x, s.y, up, down, 0 if m else n, 1.0 / (n * up), scale, parts, start, stop)

    spans = threads.spans(parts.size, max(1, TILE // (n + m)))
    threads.run(tile, spans, MERGE * s.batch * (n + m))
    value = 2.0 * parts.sum(axis=1) / scale
    return value, -value


def _energy(s: Sorted, factor: Array, points: Any, weights: Any) -> tuple[Array, Array]:
    value, scale = np.empty(s.batch), _scale(s)

    def tile(start: int, stop: int) -> None:
        pooled, notes, who = _scratch(s, 3 if points is not None else 0)
        energy_rows(
            *(s.x, s.y, s.order_x, s.order_y, s.weights, scale, factor, pooled, notes, who),
            *(value, points, weights, start, stop),
        )

    _over_rows(s, tile, WALK)
    return value, -value


def _laplace(s: Sorted, sigmas: Array, factor: Array, points: Any, weights: Any) -> tuple[Array, Array]:
    value, spread = np.empty(s.batch), np.empty(s.batch)

    def tile(start: int, stop: int) -> None:
        pooled, notes, who = _scratch(s, 2 if points is not None else 0)
        laplace_rows(
            *(s.x, s.y, s.order_x, s.order_y, s.weights, sigmas, factor, pooled, np.empty(pooled.shape[1]), notes, who),
            *(value, spread, points, weights, start, stop),
        )

    _over_rows(s, tile, WALK * len(sigmas))
    return value, spread


def _scale(s: Sorted) -> Array:
    """Power of two per row that keeps squares of W times a gap in range."""
    ends = [np.abs(part[:, [0, -1]]).max(axis=1) for part in (s.x, s.y) if part.size]
    size = np.broadcast_to(np.max(np.broadcast_arrays(*ends), axis=0), s.batch).astype(np.float64)
    return np.where(size < SMALL, UP, np.where(size > LARGE, DOWN, 1.0))


def _scratch(s: Sorted, notes: int) -> tuple[Array, Array | None, Array | None]:
    size = s.x.shape[1] + s.y.shape[1]
    who = None if s.order_x is None else np.empty(size, np.int64)
    return np.empty((3, size)), np.empty((notes, size)) if notes else None, who


def _over_rows(s: Sorted, tile: Callable[[int, int], None], nanoseconds: float) -> None:
    size = s.x.shape[1] + s.y.shape[1]
    threads.run(tile, threads.spans(s.batch, tile_rows(size)), nanoseconds * s.batch * size)
