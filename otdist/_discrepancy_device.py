"""MMD of samples on a GPU: what ``_discrepancy.py`` does on the CPU, queued on the caller's stream.

The host sees shapes and options only. Values are judged on the device; bad ones set status words, which are read once
everything is queued (`Space.check`): then the error is found by the CPU's own checks, on copies.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from otdist import _bandwidth, _discrepancy, _samples
from otdist._arrays import Array
from otdist._discrepancy import ARGUMENTS, NOTHING, Estimate
from otdist._samples import Pair
from otdist._samples_device import status, whole
from otdist.kernels import bandwidth_cuda, formulas_cuda, gram_cuda
from otdist.kernels.gram_cuda import Form, Numbers, Quadratic, Status
from otdist.rkhs import Kernel, named

# Bits of the status words, as in kernels/gram_ends.cu.
NOT_FINITE, ZERO_VECTOR, BAD_WEIGHT, BAD_SUM, ONE_POINT, EXTREME, OVERFLOW, FAR, NO_ROOT = (1 << k for k in range(9))


def resolved(kernel: Any, bandwidth: Any, pair: Pair, X: Any, Y: Any) -> tuple[Kernel, Numbers]:
    """The kernel of a call, with bandwidths of 1 where they depend on the data; its numbers, for each problem then."""
    space, d = pair.door.space, pair.d
    if not isinstance(bandwidth, str):
        found = _discrepancy.one(kernel, bandwidth, pair.x, pair.y)
        numbers = formulas_cuda.numbers(found.tag(d))
        return found, Numbers(bandwidth_cuda.put(space, numbers).reshape(1, -1))
    _bandwidth.rule(bandwidth)
    asked: list[tuple[str, bool]] = []

    def ask(cost: str, root: bool) -> float:
        asked.append((cost, root))
        if bandwidth == "scott":
            _bandwidth.need_length(cost, root)
        return 1.0

    found = named(kernel, d).fill(ask)
    rules = list(dict.fromkeys(asked))
    base = formulas_cuda.numbers(found.tag(d))
    if not rules:
        return found, Numbers(bandwidth_cuda.put(space, base).reshape(1, -1))
    # a rate is a constant over a power of the bandwidth: which one, two bandwidths tell
    exponents = []
    for rule in rules:
        doubled = named(kernel, d).fill(lambda cost, root, rule=rule: 2.0 if (cost, root) == rule else 1.0)
        twos = formulas_cuda.numbers(doubled.tag(d))
        exponents.append([round(math.log2(b / t)) if t else 0 for b, t in zip(base, twos, strict=True)])
    sigma = space.empty((len(rules), X.shape[0]), np.float64)
    for place, (cost, root) in enumerate(rules):
        if bandwidth == "scott":
            bandwidth_cuda.scott(space, X, Y, sigma[place])
        else:
            bandwidth_cuda.median(space, X, Y, status(pair).x, _bandwidth.EXACT, cost, root, sigma[place])
    return found, bandwidth_cuda.filled(space, base, exponents, sigma)


def estimate(
    kernel: Any,
    bandwidth: Any,
    pair: Pair,
    estimator: str,
    squared: bool = True,
    block_size: int | None = None,
    wanted: tuple[bool, ...] = NOTHING,
) -> Estimate:
    """`_discrepancy.estimate` of a kernel not resolved yet."""
    _discrepancy.need_weights(pair, wanted)
    space = pair.door.space
    if estimator == "unbiased":
        _discrepancy.enough(pair, True)
    X, Y = (whole(space, a, pair.batch, 2) for a in (pair.x, pair.y))
    a, b = (None if w is None else whole(space, w, pair.batch, 1) for w in (pair.x_weights, pair.y_weights))
    points, own = any(wanted[:2]), any(wanted[2:])
    if estimator in ("linear", "block"):
        _discrepancy.halves(pair, estimator)
    chosen, numbers = resolved(kernel, bandwidth, pair, X, Y)
    tag, where = chosen.tag(pair.d), status(pair)
    if estimator == "linear":
        form = gram_cuda.linear(space, tag, numbers, X, Y, where, points)
    elif estimator == "block":
        form = _blocks(pair, chosen, numbers, X, Y, block_size, points)
    else:
        unbiased = estimator == "unbiased"
        form = Quadratic(
            space, tag, numbers, X, Y, (a, b), where, pair.door.tolerance, unbiased,
            shift_free=chosen.shift_free and not own and not (unbiased and (a is not None or b is not None)),
            far=not chosen.shift_free, points=points, own=own, single=pair.door.compute is np.float32,
        ).run()  # fmt: skip
    value, chain = gram_cuda.judged(space, form.value, not squared)
    gradients = _shaped(pair, form, chain, wanted)
    space.check(_judge(pair, chosen, estimator, form.value), X, Y, a, b, pair, form)
    return Estimate(value.reshape(pair.batch), gradients)


def _blocks(pair: Pair, kernel: Kernel, numbers: Numbers, X: Any, Y: Any, size: int | None, points: bool) -> Form:
    """Mean of the unbiased estimates of consecutive blocks of points."""
    space, n, d, P = pair.door.space, pair.n, pair.d, X.shape[0]
    size = _discrepancy.block_length(n, size)
    count = n // size
    used = count * size
    x, y = (space.contiguous(a[:, :used]).reshape(P * count, size, d) for a in (X, Y))
    if numbers.table.shape[0] > 1:
        each = whole(space, numbers.table.reshape(P, 1, -1), (P, count), 1)
        numbers = Numbers(each)
    form = Quadratic(
        space, kernel.tag(d), numbers, x, y, (None, None), status(pair), unbiased=True, shift_free=kernel.shift_free,
        points=points,
    ).run()  # fmt: skip
    gradient = None
    if form.by_points is not None:
        inner = gram_cuda.summed(space, form.by_points, P * count, 1, 1.0 / count).reshape(P, count, 2 * size, d)
        gradient = space.zeros((P, 2 * n, d), np.float64)
        with space.current():  # CuPy's own copies
            gradient[:, :used] = inner[:, :, :size].reshape(P, used, d)
            gradient[:, n : n + used] = inner[:, :, size:].reshape(P, used, d)
    return Form(gram_cuda.means(space, form.value.reshape(P, count)), gradient, None)


def _shaped(pair: Pair, form: Form, chain: Any, wanted: tuple[bool, ...]) -> tuple[Any, ...]:
    """Gradients of the pool, per element of the batch -> of the arguments, in their shapes."""
    space, n, found = pair.door.space, pair.n, list[Any]()
    for pooled in (form.by_points, form.by_weights):
        if pooled is not None and chain is not None and pooled.size:
            gram_cuda.scale(space, pooled, chain)
    for number, argument in enumerate((pair.x, pair.y, pair.x_weights, pair.y_weights)):
        pooled = form.by_points if number < 2 else form.by_weights
        if not wanted[number] or argument is None or pooled is None:
            found.append(None)
            continue
        part = space.contiguous(pooled[:, :n] if number % 2 == 0 else pooled[:, n:])
        found.append(unbroadcast(space, part.reshape(*pair.batch, *part.shape[1:]), argument.shape))
    return tuple(found)


def unbroadcast(space: Any, gradient: Any, shape: tuple[int, ...]) -> Any:
    """The gradient of an argument of this shape: summed over what was broadcast."""
    extra = gradient.ndim - len(shape)
    given = (1,) * extra + shape
    for axis, (n, m) in enumerate(zip(given, gradient.shape, strict=True)):
        if n != m:
            outer = math.prod(gradient.shape[:axis])
            rest = (*gradient.shape[:axis], 1, *gradient.shape[axis + 1 :])
            gradient = gram_cuda.summed(space, gradient, outer, m).reshape(rest)
    return gradient.reshape(shape)


def _judge(pair: Pair, kernel: Kernel, estimator: str, value: Any) -> Callable[[Array], None]:
    def judge(words: Array) -> None:
        space, bits = pair.door.space, int(np.bitwise_or.reduce(words))
        names = ("x", "y")
        if bits & (NOT_FINITE | ZERO_VECTOR | EXTREME):
            hosts = {name: space.host(a) for name, a in zip(names, (pair.x, pair.y), strict=True)}
            for name, host in hosts.items():
                _samples.points(name, host)
        if bits & (BAD_WEIGHT | BAD_SUM | ONE_POINT):
            refuse_weights(pair)
        if bits & ZERO_VECTOR:
            _samples.refuse_zero_vectors(kernel, **hosts)
        if bits & EXTREME:
            _samples.refuse_extremes(kernel, **hosts)
        if bits & ONE_POINT:
            where = status(pair)
            _discrepancy.refuse_one_point(ARGUMENTS[2 if words[where.a] & ONE_POINT else 3])
        if bits & FAR:
            _discrepancy.refuse_far()
        if bits & OVERFLOW:
            _discrepancy.refuse_overflow()
        if bits & NO_ROOT:
            _discrepancy.refuse_negative(estimator, space.host(value))
        raise AssertionError(f"unknown status {words}")

    return judge


def refuse_weights(pair: Pair) -> None:
    """Raise what the CPU raises for weights."""
    for name, sample, w, n in zip(
        ARGUMENTS[2:], ("x", "y"), (pair.x_weights, pair.y_weights), (pair.n, pair.m), strict=True
    ):
        if w is not None:
            _samples.weights(name, sample, pair.door.space.host(w), n, pair.door.tolerance)


def witness(kernel: Any, bandwidth: Any, pair: Pair, at: Any, batch: tuple[int, ...]) -> Any:
    """Values (*batch, l) of the witness at `at` (..., l, d), float64."""
    space, d = pair.door.space, pair.d
    X, Y = (whole(space, a, batch, 2) for a in (pair.x, pair.y))
    where, words = whole(space, at, batch, 2), status(pair)
    a, b = (None if w is None else whole(space, w, batch, 1) for w in (pair.x_weights, pair.y_weights))
    chosen, numbers = resolved(kernel, bandwidth, pair, X, Y)
    tag, P = chosen.tag(d), math.prod(batch)
    weights = space.empty((P, pair.n + pair.m), np.float64)
    for side, (given, word, n) in enumerate(((a, words.a, pair.n), (b, words.b, pair.m))):
        gram_cuda.weigh(space, given, weights, None, word, side, n, pair.door.tolerance, -1.0 if side else 1.0)
    # the words after those of the samples
    last = 2 + (pair.x_weights is not None) + (pair.y_weights is not None)
    pool = gram_cuda.Pool(space, tag, (X, Y), (words.x, words.y), np.float64, False)
    points = gram_cuda.Pool(space, tag, (where,), (last,), np.float64, False, origin=X, extent=pool.extent)
    if gram_cuda.squared_distances(tag):
        gram_cuda.extreme(space, points)
    sums, _, shares = gram_cuda.rows(space, tag, numbers, points, pool, weights, where.shape[1], pair.n)
    values = gram_cuda.summed(space, sums, P, shares * 2).reshape(*batch, where.shape[1])

    def judge(flags: Array) -> None:
        hosts = {name: space.host(v) for name, v in zip(("x", "y", "at"), (pair.x, pair.y, at), strict=True)}
        for name in ("x", "y"):
            _samples.points(name, hosts[name])
        refuse_weights(pair)
        _samples.points("at", hosts["at"])
        _samples.refuse_zero_vectors(chosen, x=hosts["x"], y=hosts["y"])
        _samples.refuse_zero_vectors(chosen, at=hosts["at"])
        _samples.refuse_extremes(chosen, **hosts)
        raise AssertionError(f"unknown status {flags}")

    space.check(judge, X, Y, where, a, b, pair)
    return values


def subsets(kernel: Kernel, pair: Pair, draws: list[tuple[Array, Array]]) -> Array:
    """Unbiased MMD² of subsets of the samples, on the host: the only thing that waits."""
    space, d = pair.door.space, pair.d
    X, Y = (space.contiguous(a) for a in (pair.x, pair.y))
    first, second = (space.put(np.stack(indices)) for indices in zip(*draws, strict=True))
    x, y = gram_cuda.take(space, X, first), gram_cuda.take(space, Y, second)
    tag = kernel.tag(d)
    numbers = Numbers(bandwidth_cuda.put(space, formulas_cuda.numbers(tag)).reshape(1, -1))
    form = Quadratic(space, tag, numbers, x, y, (None, None), Status(0, 1, 0, 0), unbiased=True, far=True).run()
    gram_cuda.judged(space, form.value, False)
    values: Array = space.host(form.value)
    space.check(_judge(pair, kernel, "unbiased", form.value))
    return values
