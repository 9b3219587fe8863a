"""MMD of entered samples: estimators, the choice of float, gradients with respect to points and weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from otdist._arrays import Array
from otdist._samples import Pair, refuse_zero_vectors, unbroadcast
from otdist.kernels import gram
from otdist.kernels.profiles import Inner
from otdist.rkhs import Kernel, resolve

ESTIMATORS = ("biased", "unbiased", "linear", "block")
ARGUMENTS = ("x", "y", "x_weights", "y_weights")

# Pairs up to which float32 samples are computed in float64 throughout: it costs less than a millisecond or so.
FEW = 1 << 22
# A float32 pass is kept if its estimated error is below GOAL of the value. Errors of single pairs, a few eps k, are
# random and independent; in Σ w_i w_j k_ij they add to about eps k √(Σ w_i² w_j²) = eps k Σ w_i². What they have in
# common, a relative error that is a function of the distance alone (of 2^t, of the bandwidth's rounding), acts like a
# kernel slightly changed and moves the value by that factor. SAFETY covers both.
GOAL, SAFETY, EPS = 5e-6, 8.0, 2.0**-23


@dataclass(frozen=True)
class Estimate:
    """One value per element of the batch, and gradients in the shapes of the arguments (None where not wanted)."""

    value: Array
    gradients: tuple[Array | None, ...]


def resolved(kernel: Any, bandwidth: Any, pair: Pair) -> Kernel:
    """The kernel of a call. Bandwidths are chosen from the whole batch pooled, and are constants to gradients."""
    d = pair.d
    found = resolve(kernel, bandwidth, pair.x.reshape(-1, d), pair.y.reshape(-1, d))
    refuse_zero_vectors(found, x=pair.x, y=pair.y)
    return found


def estimate(
    kernel: Kernel,
    pair: Pair,
    estimator: str,
    squared: bool,
    block_size: int | None,
    wanted: tuple[bool, ...] = (False,) * 4,
) -> Estimate:
    """The value, and the gradients of its sum over the batch with respect to the `wanted` of ARGUMENTS."""
    if estimator in ("linear", "block"):
        value, by_points = (_linear if estimator == "linear" else _block)(kernel, pair, block_size, any(wanted[:2]))
        by_weights = None
    else:
        value, by_points, by_weights = _quadratic(kernel, pair, estimator == "unbiased", wanted)
    if not squared:
        negative = value < 0
        if negative.any():
            raise ValueError(
                f"squared: found False for an {estimator} estimate of {value[negative][0]:.6g}, which has no root; "
                f'pass squared=True (estimates without bias may be negative) or estimator="biased"'
            )
        value = np.sqrt(value)
        with np.errstate(divide="ignore"):
            chain = np.where(value > 0, 0.5 / value, 0.0)
        by_points = None if by_points is None else by_points * chain[:, None, None]
        by_weights = None if by_weights is None else by_weights * chain[:, None]
    return Estimate(value.reshape(pair.batch), _shaped(pair, by_points, by_weights, wanted))


def _shaped(
    pair: Pair, by_points: Array | None, by_weights: Array | None, wanted: tuple[bool, ...]
) -> tuple[Array | None, ...]:
    """Gradients of the pool, per element of the batch -> of the arguments."""
    n, found = pair.n, []
    for number, (name, argument) in enumerate(zip(ARGUMENTS, (pair.x, pair.y, pair.x_weights, pair.y_weights))):
        pooled = by_points if number < 2 else by_weights
        if not wanted[number]:
            found.append(None)
            continue
        if argument is None:
            raise ValueError(f"{name}: found None; pass the weights to differentiate with respect to them")
        assert pooled is not None
        part = pooled[:, :n] if number % 2 == 0 else pooled[:, n:]
        found.append(unbroadcast(part.reshape(*pair.batch, *part.shape[1:]), argument.shape))
    return tuple(found)


def _floats(kernel: Kernel, pair: Pair, pairs: int) -> Any:
    """The float to try first. Inner products are not centred and unbounded: always float64."""
    few = pairs <= FEW or Inner in kernel._geometries()
    return np.float64 if few else pair.door.compute


def _quadratic(
    kernel: Kernel, pair: Pair, unbiased: bool, wanted: tuple[bool, ...]
) -> tuple[Array, Array | None, Array | None]:
    """Biased or unbiased estimates (P,), gradients in the points (P, N, d) and in the weights (P, N)."""
    n, m, N = pair.n, pair.m, pair.n + pair.m
    if unbiased and min(n, m) < 2:
        raise ValueError(f'estimator: found "unbiased" for n = {n} and m = {m} points; it needs two of each')
    X, Y = pair.problems()
    weights = pair.pooled_weights()
    points, own = any(wanted[:2]), any(wanted[2:])
    tag = kernel.tag(pair.d)
    real = _floats(kernel, pair, N * N)
    if weights is None:
        a, b, squares = 1.0 / n, 1.0 / m, (1.0 / n, 1.0 / m)
        first = _form(tag, X, Y, None, a, b, squares, unbiased, real, points, own)
        check = np.full(len(X), sum(squares))
    else:
        check = np.sum(weights * weights, axis=1)
        first = _weighted(tag, X, Y, weights, n, unbiased, real, points, own)
    value, by_points, by_weights, size = first
    if real is np.float32:
        trusted = SAFETY * EPS * (size * check + np.abs(value)) <= GOAL * np.abs(value)
        again = np.flatnonzero(~trusted)
        if again.size:
            redo = (X[again], Y[again])
            if weights is None:
                better = _form(tag, *redo, None, a, b, squares, unbiased, np.float64, points, own)
            else:
                better = _weighted(tag, *redo, weights[again], n, unbiased, np.float64, points, own)
            for whole, part in zip((value, by_points, by_weights), better[:3], strict=True):
                if whole is not None:
                    whole[again] = part
    if not unbiased:
        value = np.maximum(value, 0.0)
    return value, by_points, by_weights


Form = tuple[Array, Array | None, Array | None, Array]


def _form(
    tag: Any,
    X: Array,
    Y: Array,
    weights: Array | None,
    a: Any,
    b: Any,
    squares: tuple[Any, Any],
    unbiased: bool,
    real: Any,
    points: bool,
    own: bool,
) -> Form:
    """The value as fxx xx + fxy xy + fyy yy + diagonal, with equal weights a, b (numbers; sums are of ones)."""
    n = X.shape[1]
    fxx = a * a / (1.0 - squares[0]) if unbiased else a * a
    fyy = b * b / (1.0 - squares[1]) if unbiased else b * b
    ends = (0.0, 0.0) if unbiased else (a * a, b * b)
    factors = (fxx, -2.0 * a * b, fyy)
    q = gram.quadratic(tag, X, Y, None, real=real, factors=factors if points else None, ends=ends, row_sums=own)
    value = fxx * q.xx - 2.0 * a * b * q.xy + fyy * q.yy
    value += ends[0] * q.diagonal[:, :n].sum(axis=1) + ends[1] * q.diagonal[:, n:].sum(axis=1)
    size = np.maximum(np.max(np.abs(q.diagonal), axis=1), np.abs(a * b * q.xy))
    return value, q.gradient, None, size


def _weighted(
    tag: Any, X: Array, Y: Array, w: Array, n: int, unbiased: bool, real: Any, points: bool, own: bool
) -> Form:
    """The same with weights [a, b] (P, N); a scale per problem, as Σ a² differs, makes them one by one if unbiased."""
    squares = np.stack([np.sum(w[:, :n] ** 2, axis=1), np.sum(w[:, n:] ** 2, axis=1)], axis=1)
    if unbiased and np.any(squares > 1.0 - 1e-12):
        raise ValueError('x_weights or y_weights: found all weight on one point; "unbiased" needs two or more')
    if unbiased and len(X) > 1 and points:
        parts = [
            _weighted(tag, X[p : p + 1], Y[p : p + 1], w[p : p + 1], n, True, real, points, own) for p in range(len(X))
        ]
        return tuple(None if one[0] is None else np.concatenate(one) for one in zip(*parts))  # type: ignore[return-value]
    keep = 1.0 - squares if unbiased else np.ones_like(squares)
    factors = (1.0 / keep[0, 0], -2.0, 1.0 / keep[0, 1]) if points else None
    ends = (0.0, 0.0) if unbiased else (w[:, :n] ** 2, w[:, n:] ** 2)
    q = gram.quadratic(tag, X, Y, w, real=real, factors=factors, ends=ends, row_sums=own)
    value = q.xx / keep[:, 0] - 2.0 * q.xy + q.yy / keep[:, 1]
    if not unbiased:
        value += np.sum(w * w * q.diagonal, axis=1)
    size = np.maximum(np.max(np.abs(q.diagonal), axis=1), np.abs(q.xy))
    by_weights = None
    if own and q.row_sums is not None:
        over_x, over_y = q.row_sums[:, 0], q.row_sums[:, 1]
        mine = np.concatenate([over_x[:, :n], over_y[:, n:]], axis=1)
        other = np.concatenate([over_y[:, :n], over_x[:, n:]], axis=1)
        sides = np.repeat([0, 1], [n, w.shape[1] - n])
        if unbiased:
            total = np.stack([q.xx, q.yy], axis=1)
            mine = mine / keep[:, sides] + w * (total / keep**2)[:, sides]
        else:
            mine = mine + w * q.diagonal
        by_weights = 2.0 * (mine - other)
    return value, q.gradient, by_weights, size


def _halves(kernel: Kernel, pair: Pair, name: str) -> None:
    if pair.n != pair.m or pair.n < 2:
        raise ValueError(f'estimator: found "{name}" for n = {pair.n} and m = {pair.m} points; it needs n = m >= 2')
    if pair.x_weights is not None or pair.y_weights is not None:
        which = "x_weights" if pair.x_weights is not None else "y_weights"
        raise ValueError(f'{which}: found weights with estimator="{name}"; use "biased" or "unbiased"')


def _linear(kernel: Kernel, pair: Pair, _: int | None, points: bool) -> tuple[Array, Array | None]:
    """Mean of h over disjoint pairs: k(x1, x2) + k(y1, y2) − k(x1, y2) − k(x2, y1)."""
    _halves(kernel, pair, "linear")
    X, Y = pair.problems()
    count, tag = pair.n // 2, kernel.tag(pair.d)
    used = 2 * count
    x1, x2, y1, y2 = X[:, 0:used:2], X[:, 1:used:2], Y[:, 0:used:2], Y[:, 1:used:2]
    value = np.zeros(len(X))
    gradient = np.zeros((len(X), 2 * pair.n, pair.d)) if points else None
    gx, gy = (None, None) if gradient is None else (gradient[:, : pair.n], gradient[:, pair.n :])
    sides = (
        (x1, x2, gx, 0, gx, 1, 1.0),
        (y1, y2, gy, 0, gy, 1, 1.0),
        (x1, y2, gx, 0, gy, 1, -1.0),
        (x2, y1, gx, 1, gy, 0, -1.0),
    )
    for u, v, gu, pu, gv, pv, sign in sides:
        one = [np.ascontiguousarray(a).reshape(-1, 1, pair.d) for a in (u, v)]
        factors = (0.0, sign / count, 0.0) if points else None
        q = gram.quadratic(tag, one[0], one[1], real=np.float64, factors=factors)
        value += sign * q.xy.reshape(len(X), count).mean(axis=1)
        if q.gradient is not None and gu is not None and gv is not None:
            gu[:, pu:used:2] += q.gradient[:, 0].reshape(len(X), count, pair.d)
            gv[:, pv:used:2] += q.gradient[:, 1].reshape(len(X), count, pair.d)
    return value, gradient


def _block(kernel: Kernel, pair: Pair, size: int | None, points: bool) -> tuple[Array, Array | None]:
    """Mean of the unbiased estimates of consecutive blocks of points."""
    _halves(kernel, pair, "block")
    n, d = pair.n, pair.d
    size = max(2, math.isqrt(n)) if size is None else size
    if not 2 <= size <= n:
        raise ValueError(f"block_size: found {size}; give 2 to n = {n}")
    count = n // size
    X, Y = (a[:, : count * size].reshape(-1, size, d) for a in pair.problems())
    tag, a = kernel.tag(d), 1.0 / size
    value, inner, _, _ = _form(tag, X, Y, None, a, a, (a, a), True, np.float64, points, False)
    gradient = None
    if inner is not None:
        gradient = np.zeros((len(value) // count, 2 * n, d))
        for start, part in ((0, inner[:, :size]), (n, inner[:, size:])):
            gradient[:, start : start + count * size] = part.reshape(-1, count * size, d) / count
    return value.reshape(-1, count).mean(axis=1), gradient
