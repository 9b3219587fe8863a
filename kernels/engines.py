"""How each divergence is computed for all pairs: which tables, which sum over bins, below which value not to trust it.

Where a divergence is a sum of products f(p) g(q) and of functions of one row, the sum over bins is a matrix product
(KL: sum p log p - p . log q + drift of the sums). Such forms cancel where p is near q, hence the limits: the relative
error is a few eps over the ratio of the limit to what was cancelled. The others go through the tiles of ``tiles.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from otdist.kernels import threads, tiles
from otdist.kernels.rows import LOGARITHM
from otdist.kernels.tables import (
    Deviation,
    MinusLog,
    MinusLogRatio,
    Power,
    Reciprocal,
    Root,
    RootRest,
    Scaled,
    Square,
    about_centre,
    entropies,
    survey,
)
from otdist.kernels.terms import JS, KL, L2, TV, Alpha, CrossEntropy, Hellinger, Jeffreys, Pearson, Symmetric
from otdist.kernels.vecmath import JS_SCALE

Array = np.ndarray[Any, Any]

# Bins of one panel: long rows are summed panel by panel, and panel sums in float64.
BINS = 512
# So many rows, no entry of which differs by more than a factor from their mean, are worth a centre.
CROWD, CLOSE = 8, 1.5
SYMMETRIC = (TV, L2, Symmetric, JS, Hellinger, Jeffreys)


@dataclass(frozen=True)
class Engine:
    """The sum of a pair is G + h_i + h_j + (s_j - s_i), G = factor * tile, or the matrix product of the tables."""

    left: tuple[Any, ...]  # kinds of tables (``tables.py``)
    right: tuple[Any, ...]
    left_rows: Array  # (5, n): limit, h, s, e, log of the sum; see `settle`
    right_rows: Array
    real: type
    tile: Any = None  # None: matrix product
    factor: float = 1.0
    affinity: float = 0.0
    centre: Array | None = None  # of the tables that want one
    nanoseconds: float = 0.05  # per pair and bin
    rescue: Engine | None = None  # slower and without limits, for blocks with many pairs below theirs

    @property
    def unlimited(self) -> bool:
        """Whether the tile alone is the answer, for all pairs."""
        rows = (self.left_rows, self.right_rows)
        return self.tile is not None and all(np.all(r[0] == -np.inf) and not np.any(r[1:]) for r in rows)


@dataclass(frozen=True)
class Rows:
    """What is known of the rows of one side."""

    X: Array
    total: Array
    rest: Array  # of the sum: total + rest is right to twice the working precision
    least: Array  # positive entry; 0 where there is none
    greatest: Array
    has_zeros: bool

    def limits(self, low: float, high: float, floor: float) -> Array:
        """-inf for ordinary rows, `floor` where entries lie below `low`, inf where they lie above `high`."""
        limit = np.where(self.least < low, floor, -np.inf)
        limit[~(self.greatest <= high)] = np.inf
        return limit


def survey_rows(X: Array) -> Rows:
    """One pass over the rows."""
    n = len(X)
    bits: type = np.uint32 if X.dtype == np.float32 else np.uint64
    total, rest, zeros = np.empty(n), np.empty(n), np.empty(n)
    least: Array = np.empty(n, bits)
    greatest: Array = np.empty(n, bits)

    def work(i0: int, i1: int) -> None:
        survey(X, i0, i1, total, rest, least, greatest, zeros)

    threads.run(work, threads.spans(n, max(1, 2**16 // X.shape[1])), 1.0 * X.size)
    smallest, largest = (x.view(X.dtype).astype(float) for x in (np.add(least, bits(1)), greatest))
    return Rows(X, total, rest, smallest, largest, bool(zeros.any()))


def _entropies(rows: Rows, c: float, limit: Array) -> tuple[Array, Array]:
    X = rows.X
    H, A = np.empty(len(X)), np.empty(len(X))
    tiles_ = threads.spans(len(X), max(1, 2**16 // X.shape[1]))
    threads.run(lambda i0, i1: entropies(X, i0, i1, c, limit, H, A), tiles_, 1.0 * X.size)
    return H, A


def _scale(p: Rows, q: Rows, normalized: bool) -> float:
    """The power of two that brings an average entry to 1, where logarithms are small."""
    bins = p.X.shape[1]
    if normalized:
        return 2.0 ** round(math.log2(bins))
    sums = np.concatenate([p.total, q.total])
    sums = sums[(sums > 0) & np.isfinite(sums)]
    mean = float(np.mean(np.log2(sums))) if sums.size else 0.0
    return 2.0 ** min(max(round(math.log2(bins) - mean), -400), 400)


def _rows(
    limit: Array, h: Array | float = 0.0, s: Array | float = 0.0, e: Array | float = 0.0, logs: Array | float = 0.0
) -> Array:
    """What `settle` knows of every row."""
    out = np.empty((5, len(limit)))
    out[0], out[1], out[2], out[3], out[4] = limit, h, s, e, logs
    return out


def engine_for(tag: Any, finish: Any, P: Array, Q: Array, normalized: bool) -> Engine | None:
    """The engine of a divergence, or None where every pair goes through its formula."""
    build = {
        TV: _tile,
        L2: _tile,
        Symmetric: _tile,
        JS: _js,
        Hellinger: _hellinger,
        KL: _kl,
        Jeffreys: _jeffreys,
        CrossEntropy: _cross_entropy,
        Pearson: _pearson,
        Alpha: _alpha,
    }.get(type(tag))
    if build is None:
        return None
    p = survey_rows(P)
    q = p if Q is P else survey_rows(Q)
    with np.errstate(over="ignore", divide="ignore"):
        return build(tag, finish, p, q, normalized)


def _cut(p: Rows) -> float:
    """Part of what is cancelled below which a matrix product is not trusted: errors grow as the root of its length."""
    if p.X.dtype == np.float32:
        return 1e-7  # float64 arithmetic, float32 wanted
    return 0.02 * math.sqrt(1 + p.X.shape[1] / (32 * BINS))


def _tile_limits(p: Rows) -> Array:
    """Zero, or ordinary enough that no product of differences leaves the range of the arithmetic."""
    bins = p.X.shape[1]
    if p.X.dtype == np.float32:
        return p.limits(2.0**-60, 2.0**60, bins * 2.0**-100)
    return p.limits(2.0**-400, 2.0**400, bins * 2.0**-800)


def _tile(tag: Any, finish: Any, p: Rows, q: Rows, normalized: bool) -> Engine:
    single = p.X.dtype == np.float32
    name, factor = {TV: ("Distance", 0.5), L2: ("SquaredDistance", 1.0), Symmetric: ("Harmonic", 1.0)}[type(tag)]
    table = (Scaled(1.0, (2.0**-126 if single else 2.0**-1022) if type(tag) is Symmetric else 0.0),)
    limit_p, limit_q = _tile_limits(p), _tile_limits(q)
    if single and type(tag) is L2:  # squares of ordinary differences underflow in float32
        limit_p = np.maximum(limit_p, p.X.shape[1] * 2.0**-100)
    real = _real(p)
    return Engine(table, table, _rows(limit_p), _rows(limit_q), real, getattr(tiles, name)(), factor)


def _real(p: Rows) -> type:
    """Type of the entries."""
    return np.float32 if p.X.dtype == np.float32 else np.float64


def _js(tag: Any, finish: Any, p: Rows, q: Rows, normalized: bool) -> Engine:
    limit_p, limit_q = _tile_limits(p), _tile_limits(q)
    if p.X.dtype == np.float32:
        tables = (Scaled(1.0, 2.0**-126), Root(math.sqrt(2.0)))
        factor = 0.25 * JS_SCALE
        return Engine(
            tables, tables, _rows(limit_p), _rows(limit_q), np.float32, tiles.JensenShannon(), factor, nanoseconds=0.15
        )
    c = 0.5 * _scale(p, q, normalized)
    sides = []
    for x, limit in ((p, limit_p), (q, limit_q)):
        H, A = _entropies(x, 2.0 * c, limit)
        sides.append(_rows(np.maximum(limit, np.maximum(0.01 * A, 1e-3 * x.total)), 0.5 * H))
        if q is p:
            sides.append(sides[0])
            break
    table = (Scaled(c, 0.0),)
    return Engine(table, table, sides[0], sides[1], np.float64, tiles.JointEntropy(), -0.5 / c, nanoseconds=0.3)


def _hellinger(tag: Any, finish: Any, p: Rows, q: Rows, normalized: bool) -> Engine:
    limit_p, limit_q = _tile_limits(p), _tile_limits(q)
    roots = (Root(1.0), RootRest())
    real = _real(p)
    logs_p, logs_q = _logs(finish, p), _logs(finish, q)
    exact = Engine(roots, roots, _rows(limit_p), _rows(limit_q), real, tiles.RootDistance(), 0.5)
    if real is np.float32 and finish.kind != LOGARITHM:
        return exact
    cut = 2.0 * _cut(p)
    return Engine(
        (Root(1.0),),
        (Root(-1.0),),
        _rows(np.maximum(limit_p, cut * p.total), 0.5 * p.total, logs=logs_p),
        _rows(np.maximum(limit_q, cut * q.total), 0.5 * q.total, logs=logs_q),
        np.float64,
        affinity=-1.0,
        rescue=exact if finish.kind != LOGARITHM else None,
    )


def _logs(finish: Any, p: Rows) -> Array | float:
    return np.log(np.maximum(p.total, 5e-324)) if finish.kind == LOGARITHM else 0.0


def _product_limits(p: Rows, low: float, high: float, other_has_zeros: bool) -> Array:
    """Rows whose small entries could hide an INFINITE factor of the other side are out."""
    limit = p.limits(low, high, p.X.shape[1] * 2.0**-800)
    if other_has_zeros:
        limit[p.least < low] = np.inf
    return limit


def _centre(q: Rows) -> Array | None:
    """Mean of the rows of the right side, if all of them lie close about it (those of the left may lie anywhere)."""
    Q = q.X
    if q.has_zeros or len(Q) < CROWD or not q.limits(2.0**-300, 2.0**300, 0.0).max() < 0.0:
        return None
    for sample in (Q[:: len(Q) - 1], Q):  # two rows refute most
        centre = sample.mean(axis=0, dtype=np.float64)
        with np.errstate(over="ignore"):
            if not (np.all(sample <= CLOSE * centre) and np.all(CLOSE * sample >= centre)):
                return None
    return centre


def _centred(tag: Any, p: Rows, q: Rows, centre: Array) -> Engine:
    """KL(p, q) = KL(p, m) + KL(m, q) - sum (p - m) log(q/m), Jeffreys likewise: nothing large is cancelled about m.

    The product is at most sum |d| max |l|, and at most the root of sum d^2/m times sum m l^2, hence their maximum.
    """
    sides = []
    for x, swap in ((p, False), (q, True)):
        H, spread, length = np.empty((3, len(x.X)))
        X = x.X
        work = lambda i0, i1: about_centre(tag, X, centre, i0, i1, swap, H, spread, length)  # noqa: B023, E731
        threads.run(work, threads.spans(len(X), max(1, 2**16 // X.shape[1])), 3.0 * X.size)
        limit = _product_limits(x, 2.0**-300, 2.0**300, False)
        magnitude = spread if swap or type(tag) is Jeffreys else np.minimum(spread, math.log(CLOSE) * length)
        sides.append(_rows(np.maximum(limit, 2.0 * _cut(x) * np.maximum(magnitude, H)), H))
    pair: tuple[Any, ...] = (Deviation(), MinusLogRatio())
    left, right = (pair, pair[::-1]) if type(tag) is Jeffreys else (pair[:1], pair[1:])
    return Engine(left, right, sides[0], sides[1], np.float64, centre=centre)


def _kl(tag: Any, finish: Any, p: Rows, q: Rows, normalized: bool) -> Engine:
    centre = _centre(q)
    if centre is not None:
        return _centred(tag, p, q, centre)
    c = _scale(p, q, normalized)
    limit_p = _product_limits(p, 2.0**-300, 2.0**300, q.has_zeros)
    limit_q = q.limits(0.0, 2.0**300, 0.0)
    H, A = _entropies(p, c, limit_p)
    limit_p = np.maximum(limit_p, np.maximum(_cut(p) * A, 0.05 * _cut(p) * p.total))
    return Engine(
        (Scaled(1.0, 0.0),),
        (MinusLog(c, np.inf),),
        _rows(limit_p, H, p.total, p.rest),
        _rows(limit_q, 0.0, q.total, q.rest),
        np.float64,
    )


def _jeffreys(tag: Any, finish: Any, p: Rows, q: Rows, normalized: bool) -> Engine:
    centre = _centre(q) if not p.has_zeros else None
    if centre is not None:
        return _centred(tag, p, q, centre)
    c = _scale(p, q, normalized)
    sides = []
    for x, other in ((p, q), (q, p)):
        limit = _product_limits(x, 2.0**-300, 2.0**300, other.has_zeros)
        H, A = _entropies(x, c, limit)
        sides.append(_rows(np.maximum(limit, 2.0 * np.maximum(_cut(x) * A, 0.05 * _cut(x) * x.total)), H))
    plain, log = Scaled(1.0, 0.0), MinusLog(c, np.inf)
    return Engine((plain, log), (log, plain), sides[0], sides[1], np.float64, nanoseconds=0.1)


def _cross_entropy(tag: Any, finish: Any, p: Rows, q: Rows, normalized: bool) -> Engine:
    limit_p = _product_limits(p, 2.0**-300, 2.0**300, q.has_zeros)
    limit_q = q.limits(0.0, 2.0**300, 0.0)
    return Engine((Scaled(1.0, 0.0),), (MinusLog(1.0, tag.ceiling),), _rows(limit_p), _rows(limit_q), np.float64)


def _pearson(tag: Any, finish: Any, p: Rows, q: Rows, normalized: bool) -> Engine:
    limit_p = _product_limits(p, 2.0**-150, 2.0**75, q.has_zeros)
    limit_q = _product_limits(q, 2.0**-150, 2.0**75, True)
    cut = 2.0 * _cut(p)
    return Engine(
        (Square(),),
        (Reciprocal(),),
        _rows(np.maximum(limit_p, 2.0 * cut * p.total), -2.0 * p.total),
        _rows(np.maximum(limit_q, cut * q.total), q.total),
        np.float64,
    )


def _alpha(tag: Any, finish: Any, p: Rows, q: Rows, normalized: bool) -> Engine:
    a, b = tag.alpha, -tag.b
    c = _scale(p, q, normalized)
    literal = finish.kind == LOGARITHM and finish.literal
    limit_p = _product_limits(
        p, 2.0 ** (-300 / a) / c, 2.0 ** min(150 / a, 300) / c, literal or (a > 1.0 and q.has_zeros)
    )
    if a > 1.0:
        lowest = 2.0 ** max(-150 / (a - 1.0), -300) / c
        limit_q = _product_limits(q, lowest, 2.0 ** min(300 / (a - 1.0), 300) / c, True)
    else:
        limit_q = _product_limits(q, 0.0, 2.0 ** min(150 / b, 300) / c, False)
    if not literal:
        cut = 4.0 * _cut(p)
        limit_p = np.maximum(limit_p, cut * p.total / abs(b))
        limit_q = np.maximum(limit_q, cut * q.total / a)
    return Engine(
        (Power(a, c, 1.0),),
        (Power(b, c, -1.0 / (c * a * b)),),
        _rows(limit_p, p.total / b, logs=_logs(finish, p)),
        _rows(limit_q, q.total / a, logs=_logs(finish, q)),
        np.float64,
        affinity=-a * b,
    )
