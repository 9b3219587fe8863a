"""f-divergences of a generator that the caller wrote: float64 arrays in, the definition as it stands."""

from __future__ import annotations

from typing import Any

import numpy as np

from otdist._arrays import Array, enter_host
from otdist._evaluate import Options, Outcome, Rows, as_rows, histograms, leave
from otdist.catalogue import Generator

# Elements of a batch are taken in pieces of about this many bins.
PIECE = 1 << 20


def evaluate_generator(
    generator: Generator, arrays: dict[str, object], options: Options, wanted: tuple[bool, ...] = (False, False)
) -> tuple[Any, tuple[Any, ...]]:
    """Value of the f-divergence, and its gradients with respect to the arrays that are `wanted`."""
    if any(wanted) and generator.df is None:
        raise ValueError(f"f: found generator {generator.name!r} without df; a gradient needs its derivative")
    door, hosts = enter_host(**arrays)
    paired, batch = as_rows(dict(zip(arrays, hosts, strict=True)), options.axis)
    measures = [histograms(r, options, door).astype(np.float64, copy=False) for r in paired]
    n, k = len(paired[0].index), paired[0].data.shape[1]
    value = np.empty(n)
    gradients = [np.empty((n, k)) if w else None for w in wanted]
    step = max(1, PIECE // k)
    for start in range(0, n, step):
        part = slice(start, start + step)
        p, q = (h[r.index[part]] for h, r in zip(measures, paired, strict=True))
        value[part], derivatives = _terms(generator, p, q, standard=options.normalize is not False)
        for whole, derivative, h, r in zip(gradients, derivatives, (p, q), paired, strict=True):
            if whole is not None:
                whole[part] = _chain(derivative, h, r, part, options)
    outcome = Outcome(value, np.ones((n, 2)), np.zeros(n, np.int64), (gradients[0], gradients[1]))
    return leave(outcome, paired, batch, door)


def values_of_pairs(generator: Generator, p: Array, q: Array, options: Options) -> Array:
    """Values for paired rows that are validated already."""
    p, q = p.astype(np.float64, copy=False), q.astype(np.float64, copy=False)
    return _terms(generator, p, q, standard=options.normalize is not False)[0]


def _terms(generator: Generator, p: Array, q: Array, *, standard: bool) -> tuple[Array, tuple[Array, Array]]:
    """Sums over bins, and the derivatives with respect to p and q; infinite ones at empty bins are stated as 0."""
    slope_one = float(generator.df(np.float64(1.0))) if standard and generator.df is not None else 0.0
    c = slope_one if np.isfinite(slope_one) else 0.0
    inside = q > 0
    with np.errstate(all="ignore"):
        u = np.where(inside, p / np.where(inside, q, 1.0), 1.0)
        f = np.asarray(generator.f(u), np.float64) - c * (u - 1.0)
        df = np.asarray(generator.df(u), np.float64) - c if generator.df is not None else np.zeros_like(u)
    if np.isnan(f).any():
        raise ValueError(
            f"f: found NaN from generator {generator.name!r} at u = {u[np.isnan(f)][0]}; f must be defined on [0, inf)"
        )
    finite = np.isfinite(generator.slope)
    outside = np.where(p > 0, p * (generator.slope - c) if finite else np.inf, 0.0)
    with np.errstate(over="ignore"):
        value = np.where(inside, q * f, outside).sum(axis=1)
    edge = np.where(p > 0, generator.slope - c, 0.0)
    dp = np.where(inside, np.where(np.isfinite(df), df, 0.0), edge)
    with np.errstate(all="ignore"):
        fall = np.where(np.isfinite(f), f, 0.0) - np.where(u > 0, u * np.where(np.isfinite(df), df, 0.0), 0.0)
    dq = np.where(inside, fall, np.where(np.isinf(edge), -edge, 0.0))
    return value, (dp, dq)


def _chain(g: Array, h: Array, r: Rows, part: slice, options: Options) -> Array:
    """Gradient through the normalisation or the softmax."""
    if options.normalize is not True and not options.from_logits:
        return g
    g = np.where(np.isfinite(g), g, 0.0)
    g = g - (g * h).sum(axis=1, keepdims=True)
    return g * h if options.from_logits else g / r.data.astype(np.float64).sum(axis=1)[r.index[part], None]
