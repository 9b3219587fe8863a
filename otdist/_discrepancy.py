"""MMD of entered samples: estimators, the choice of float, gradients with respect to points and weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from otdist._arrays import Array
from otdist._line import energy_line, laplace_line
from otdist._samples import Pair, extent, refuse_extremes, refuse_zero_vectors, unbroadcast
from otdist.kernels import gram
from otdist.kernels.profiles import Inner
from otdist.rkhs import Energy, Kernel, Laplacian, resolve

ESTIMATORS = ("biased", "unbiased", "linear", "block")
ARGUMENTS = ("x", "y", "x_weights", "y_weights")
NOTHING = (False, False, False, False)

# How far points may be apart for squares in float32.
SINGLE = (1e-15, 1e15)
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


Core = tuple[Array, Array | None, Array | None]


def resolved(kernel: Any, bandwidth: Any, pair: Pair) -> list[Kernel]:
    """The kernel of a call: one for all elements of the batch, or one for each, where its bandwidth depends on them."""
    any_ = one(kernel, 1.0, pair.x, pair.y)
    refuse_zero_vectors(any_, x=pair.x, y=pair.y)
    first = one(kernel, bandwidth, pair.x, pair.y)
    given = any_ == one(kernel, 2.0, pair.x, pair.y)
    if not isinstance(bandwidth, str) or math.prod(pair.batch) <= 1 or given:
        return [first]
    X, Y = pair.problems()
    return [one(kernel, bandwidth, x, y) for x, y in zip(X, Y, strict=True)]


def one(kernel: Any, bandwidth: Any, x: Array, y: Array) -> Kernel:
    """Resolved on the first element of a batch (of an empty one, on a point)."""
    sides = [a[(0,) * (a.ndim - 2)] if a.size else np.zeros((1, a.shape[-1])) for a in (x, y)]
    return resolve(kernel, bandwidth, *sides)


def estimate(
    kernels: list[Kernel],
    pair: Pair,
    estimator: str,
    squared: bool = True,
    block_size: int | None = None,
    wanted: tuple[bool, ...] = NOTHING,
) -> Estimate:
    """The value, and the gradients of its sum over the batch with respect to the `wanted` of ARGUMENTS."""
    need_weights(pair, wanted)
    with np.errstate(over="ignore", invalid="ignore"):  # found below
        if len(kernels) == 1:
            parts = [_core(kernels[0], pair, estimator, block_size, wanted)]
        else:
            parts = [_core(k, pair.one(p), estimator, block_size, wanted) for p, k in enumerate(kernels)]
    value, by_points, by_weights = parts[0]
    if len(parts) > 1:
        value = np.concatenate([part[0] for part in parts])
        by_points, by_weights = (
            None if column[0] is None else np.concatenate(column) for column in list(zip(*parts, strict=True))[1:]
        )
    if not np.isfinite(value).all():
        refuse_overflow()
    if not squared:
        refuse_negative(estimator, value)
        value = np.sqrt(value)
        with np.errstate(divide="ignore"):
            chain = np.where(value > 0, 0.5 / value, 0.0)
        by_points = None if by_points is None else by_points * chain[:, None, None]
        by_weights = None if by_weights is None else by_weights * chain[:, None]
    return Estimate(value.reshape(pair.batch), _shaped(pair, by_points, by_weights, wanted))


def need_weights(pair: Pair, wanted: tuple[bool, ...]) -> None:
    """Weights are differentiated only where they were given."""
    for name, want, argument in zip(ARGUMENTS[2:], wanted[2:], (pair.x_weights, pair.y_weights), strict=True):
        if want and argument is None:
            raise ValueError(f"{name}: found None; pass the weights to differentiate with respect to them")


def refuse_overflow() -> NoReturn:
    """A value is not finite."""
    raise ValueError(
        "x and y: found samples or a bandwidth whose kernel leaves the range of float64; divide both samples (and "
        "the bandwidth) by a common factor"
    )


def refuse_negative(estimator: str, value: Array) -> None:
    """Negative values have no root."""
    negative = value < 0
    if negative.any():
        raise ValueError(
            f"squared: found False for an {estimator} estimate of {value[negative][0]:.6g}, which has no root; "
            f'pass squared=True (estimates without bias may be negative) or estimator="biased"'
        )


def _core(kernel: Kernel, pair: Pair, estimator: str, block_size: int | None, wanted: tuple[bool, ...]) -> Core:
    """Values (P,), gradients in the points (P, N, d) and in the weights (P, N) of the pool."""
    if estimator in ("biased", "unbiased"):
        found = by_sorting(kernel, pair, estimator == "unbiased", wanted)
        if found is not None:
            return found
    refuse_extremes(kernel, x=pair.x, y=pair.y)
    if estimator == "linear":
        return *_linear(kernel, pair, any(wanted[:2])), None
    if estimator == "block":
        return *_block(kernel, pair, block_size, any(wanted[:2])), None
    return _quadratic(kernel, pair, estimator == "unbiased", wanted)


def by_sorting(kernel: Kernel, pair: Pair, unbiased: bool, wanted: tuple[bool, ...]) -> Core | None:
    """The same in O(N log N), for the kernels of one coordinate that have such a way; None for the others."""
    if pair.d != 1:
        return None
    enough(pair, unbiased)
    X, Y = (a[:, :, 0] for a in pair.problems())
    n = pair.n
    w = pair.pooled_weights()
    a, b = (None, None) if w is None else (w[:, :n], w[:, n:])
    if unbiased and w is not None:
        _spread(w, n)
    want = (any(wanted[:2]), any(wanted[:2]), any(wanted[2:]), any(wanted[2:]))
    cost = getattr(kernel, "cost", "")
    if isinstance(kernel, Energy) and kernel.exponent == 1.0:
        found = energy_line(X, Y, a, b, want, unbiased=unbiased)
    elif isinstance(kernel, Laplacian) and cost in ("cityblock", "euclidean") and kernel.bandwidth is not None:
        sigmas = kernel.bandwidth if isinstance(kernel.bandwidth, tuple) else (kernel.bandwidth,)
        found = laplace_line(X, Y, a, b, sigmas, want, unbiased=unbiased)
    else:
        return None
    gx, gy, ga, gb = found.gradients
    by_points = None if gx is None or gy is None else np.concatenate([gx, gy], axis=1)[:, :, None]
    return found.value, by_points, None if ga is None or gb is None else np.concatenate([ga, gb], axis=1)


def enough(pair: Pair, unbiased: bool) -> None:
    """An estimate without bias needs two points of each sample."""
    if unbiased and min(pair.n, pair.m) < 2:
        raise ValueError(f'estimator: found "unbiased" for n = {pair.n} and m = {pair.m} points; it needs two of each')


def refuse_one_point(name: str) -> NoReturn:
    """All weight lies on one point."""
    raise ValueError(f'{name}: found all weight on one point; "unbiased" needs weight on two or more')


def _spread(w: Array, n: int) -> Array:
    """Σ a² and Σ b² (P, 2) of pooled weights; an error where one of them leaves nothing off the diagonal."""
    squares = np.stack([np.sum(w[:, :n] ** 2, axis=1), np.sum(w[:, n:] ** 2, axis=1)], axis=1)
    for side, name in enumerate(ARGUMENTS[2:]):
        if np.any(squares[:, side] > 1.0 - 1e-12):
            refuse_one_point(name)
    return squares


def _shaped(
    pair: Pair, by_points: Array | None, by_weights: Array | None, wanted: tuple[bool, ...]
) -> tuple[Array | None, ...]:
    """Gradients of the pool, per element of the batch -> of the arguments."""
    n, found = pair.n, list[Array | None]()
    for number, argument in enumerate((pair.x, pair.y, pair.x_weights, pair.y_weights)):
        pooled = by_points if number < 2 else by_weights
        if not wanted[number] or argument is None or pooled is None:
            found.append(None)
            continue
        part = pooled[:, :n] if number % 2 == 0 else pooled[:, n:]
        found.append(unbroadcast(part.reshape(*pair.batch, *part.shape[1:]), argument.shape))
    return tuple(found)


def _floats(kernel: Kernel, pair: Pair, pairs: int) -> Any:
    """The float to try first. Inner products are not centred and unbounded: always float64."""
    if pairs <= FEW or Inner in kernel._geometries() or not SINGLE[0] < extent(pair.x, pair.y) < SINGLE[1]:
        return np.float64
    return pair.door.compute


def _quadratic(kernel: Kernel, pair: Pair, unbiased: bool, wanted: tuple[bool, ...]) -> Core:
    """Biased or unbiased estimates (P,), gradients in the points (P, N, d) and in the weights (P, N)."""
    n, m, N = pair.n, pair.m, pair.n + pair.m
    enough(pair, unbiased)
    X, Y = pair.problems()
    weights = pair.pooled_weights()
    points, own = any(wanted[:2]), any(wanted[2:])
    tag = kernel.tag(pair.d)
    real = _floats(kernel, pair, N * N)
    # with unequal weights the estimate without bias, and derivatives in weights, do see a shift of inner products
    free = kernel.shift_free and not own and not (unbiased and weights is not None)
    if weights is None:
        a, b, squares = 1.0 / n, 1.0 / m, (1.0 / n, 1.0 / m)
        first = _form(tag, X, Y, None, a, b, squares, unbiased, real, points, own, free)
        check = np.full(len(X), sum(squares))
    else:
        check = np.sum(weights * weights, axis=1)
        first = _weighted(tag, X, Y, weights, n, unbiased, real, points, own, free)
    value, by_points, by_weights, size = first
    if real is np.float32:
        trusted = SAFETY * EPS * (size * check + np.abs(value)) <= GOAL * np.abs(value)
        again = np.flatnonzero(~trusted)
        if again.size:
            redo = (X[again], Y[again])
            if weights is None:
                better = _form(tag, *redo, None, a, b, squares, unbiased, np.float64, points, own, free)
            else:
                better = _weighted(tag, *redo, weights[again], n, unbiased, np.float64, points, own, free)
            for whole, part in zip((value, by_points, by_weights), better[:3], strict=True):
                if whole is not None:
                    whole[again] = part
    if Inner in kernel._geometries() and not kernel.shift_free:
        _refuse_far(X, Y, value, size)
    if not unbiased:
        value = np.maximum(value, 0.0)
    return value, by_points, by_weights


def _refuse_far(X: Array, Y: Array, value: Array, size: Array) -> None:
    """Kernels of inner products far from the origin: what the samples differ by may drown in what they share."""
    drowned = 16 * 2.0**-52 * size > 1e-3 * np.abs(value)
    if not drowned.any():
        return
    centre = (X.mean(axis=1, dtype=np.float64) + Y.mean(axis=1, dtype=np.float64)) / 2
    spread = sum(np.mean(np.sum((a - centre[:, None]) ** 2, axis=2), axis=1) for a in (X, Y))
    far = drowned & (np.sum(centre**2, axis=1) > 1e4 * spread) & (spread > 0)
    if far.any():
        refuse_far()


def refuse_far() -> NoReturn:
    """Samples that an inner product cannot tell apart."""
    raise ValueError(
        "x and y: found samples far from the origin, where a kernel of inner products loses what they differ by in "
        "rounding; subtract a common centre from both"
    )


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
    free: bool,
) -> Form:
    """The value as fxx xx + fxy xy + fyy yy + diagonal, with equal weights a, b (numbers; sums are of ones)."""
    n = X.shape[1]
    fxx = a * a / (1.0 - squares[0]) if unbiased else a * a
    fyy = b * b / (1.0 - squares[1]) if unbiased else b * b
    ends = (0.0, 0.0) if unbiased else (a * a, b * b)
    factors = (fxx, -2.0 * a * b, fyy)
    q = gram.quadratic(
        tag, X, Y, None, real=real, factors=factors if points else None, ends=ends, row_sums=own, shift_free=free
    )
    value = fxx * q.xx - 2.0 * a * b * q.xy + fyy * q.yy
    value += ends[0] * q.diagonal[:, :n].sum(axis=1) + ends[1] * q.diagonal[:, n:].sum(axis=1)
    size = np.maximum(np.max(np.abs(q.diagonal), axis=1), np.abs(a * b * q.xy))
    return value, q.gradient, None, size


def _weighted(
    tag: Any, X: Array, Y: Array, w: Array, n: int, unbiased: bool, real: Any, points: bool, own: bool, free: bool
) -> Form:
    """The same with weights [a, b] (P, N); a scale per problem, as Σ a² differs, makes them one by one if unbiased."""
    squares = _spread(w, n) if unbiased else np.zeros((len(w), 2))
    if unbiased and len(X) > 1 and points:
        parts = [
            _weighted(tag, X[p : p + 1], Y[p : p + 1], w[p : p + 1], n, True, real, points, own, free)
            for p in range(len(X))
        ]
        return tuple(None if one[0] is None else np.concatenate(one) for one in zip(*parts, strict=True))  # type: ignore[return-value]
    keep = 1.0 - squares
    factors = (1.0 / keep[0, 0], -2.0, 1.0 / keep[0, 1]) if points else None
    ends = (0.0, 0.0) if unbiased else (w[:, :n] ** 2, w[:, n:] ** 2)
    q = gram.quadratic(tag, X, Y, w, real=real, factors=factors, ends=ends, row_sums=own, shift_free=free)
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


def halves(pair: Pair, name: str) -> None:
    """Estimators of pairs and blocks: n = m, no weights."""
    if pair.n != pair.m or pair.n < 2:
        raise ValueError(f'estimator: found "{name}" for n = {pair.n} and m = {pair.m} points; it needs n = m >= 2')
    if pair.x_weights is not None or pair.y_weights is not None:
        which = "x_weights" if pair.x_weights is not None else "y_weights"
        raise ValueError(f'{which}: found weights with estimator="{name}"; use "biased" or "unbiased"')


def _linear(kernel: Kernel, pair: Pair, points: bool) -> tuple[Array, Array | None]:
    """Mean of h over disjoint pairs: k(x1, x2) + k(y1, y2) − k(x1, y2) − k(x2, y1)."""
    halves(pair, "linear")
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


def block_length(n: int, size: int | None) -> int:
    """Points of a block."""
    size = max(2, math.isqrt(n)) if size is None else size
    if not 2 <= size <= n:
        raise ValueError(f"block_size: found {size}; give 2 to n = {n}")
    return size


def _block(kernel: Kernel, pair: Pair, size: int | None, points: bool) -> tuple[Array, Array | None]:
    """Mean of the unbiased estimates of consecutive blocks of points."""
    halves(pair, "block")
    n, d = pair.n, pair.d
    size = block_length(n, size)
    count = n // size
    X, Y = (a[:, : count * size].reshape(-1, size, d) for a in pair.problems())
    tag, a = kernel.tag(d), 1.0 / size
    value, inner, _, _ = _form(tag, X, Y, None, a, a, (a, a), True, np.float64, points, False, kernel.shift_free)
    gradient = None
    if inner is not None:
        gradient = np.zeros((len(value) // count, 2 * n, d))
        for start, part in ((0, inner[:, :size]), (n, inner[:, size:])):
            gradient[:, start : start + count * size] = part.reshape(-1, count * size, d) / count
    return value.reshape(-1, count).mean(axis=1), gradient
