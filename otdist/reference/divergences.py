"""The divergences between histograms, as definitions: the oracle of every test.

Each function works on the last axis of float arrays of non-negative numbers and takes any array namespace
that has ``where, log, sqrt, exp, abs, sum, amax``: NumPy, torch and jax.numpy (whose autodiff then
differentiates the definition), or an extended-precision one. Nothing here is arranged against rounding:
near p = q use extended precision.

All forms are those for measures of any total mass; on histograms they are the familiar ones. Conventions:
``0 log 0 = 0``; a term is +inf where the definition's limit is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

INF = math.inf


def normalised(p: Any, *, xp: Any = np) -> Any:
    """Measures divided by their total mass."""
    return p / xp.sum(p, -1)[..., None]


def softmax(x: Any, *, xp: Any = np) -> Any:
    """Histograms of logits; a logit of -inf is an empty bin."""
    return normalised(xp.exp(x - xp.amax(x, -1)[..., None]), xp=xp)


def _p_log_p_over_q(p: Any, q: Any, xp: Any) -> Any:
    both = (p > 0) & (q > 0)
    ratio = xp.where(both, p, 1.0) / xp.where(both, q, 1.0)
    return xp.where((p > 0) & (q == 0), INF, xp.where(both, p * xp.log(ratio), 0.0))


def _powers(p: Any, q: Any, a: float, xp: Any) -> Any:
    """p^a q^(1-a) with its limits at empty bins; a is neither 0 nor 1. (In floats a + (1 - a) need not be 1.)"""
    both = (p > 0) & (q > 0)
    terms = xp.where(both, q * (xp.where(both, p, 1.0) / xp.where(both, q, 1.0)) ** a, 0.0)
    blows_up = (p > 0) & (q == 0) if a > 1 else (p == 0) & (q > 0) & (a < 0)
    return xp.where(blows_up, INF, terms)


def _in_base(value: Any, base: float | None) -> Any:
    return value if base is None else value / math.log(base)


def tv(p: Any, q: Any, *, xp: Any = np) -> Any:
    """½ Σ |p - q|."""
    return xp.sum(xp.abs(p - q), -1) / 2


def hellinger(p: Any, q: Any, *, squared: bool = False, convention: str | None = None, xp: Any = np) -> Any:
    """‖√p - √q‖ / √2; the lecture leaves out the 1/√2."""
    total = xp.sum((xp.sqrt(p) - xp.sqrt(q)) ** 2, -1)
    h2 = total if convention == "lecture" else total / 2
    return h2 if squared else xp.sqrt(h2)


def l2(p: Any, q: Any, *, squared: bool = False, convention: str | None = None, xp: Any = np) -> Any:
    """‖p - q‖; the lecture squares it."""
    total = xp.sum((p - q) ** 2, -1)
    return total if squared or convention == "lecture" else xp.sqrt(total)


def chi2(p: Any, q: Any, *, kind: str = "pearson", xp: Any = np) -> Any:
    """Σ (p - q)² / w with w = q (Pearson), p (Neyman) or p + q (symmetric)."""
    w = {"pearson": q, "neyman": p, "symmetric": p + q}[kind]
    squares = (p - q) ** 2
    terms = xp.where(w > 0, squares / xp.where(w > 0, w, 1.0), 0.0)
    return xp.sum(xp.where((w == 0) & (squares > 0), INF, terms), -1)


def kl(p: Any, q: Any, *, base: float | None = None, xp: Any = np) -> Any:
    """Σ p log(p/q) - p + q."""
    return _in_base(xp.sum(_p_log_p_over_q(p, q, xp) - p + q, -1), base)


def js(p: Any, q: Any, *, base: float | None = None, convention: str | None = None, xp: Any = np) -> Any:
    """½ KL(p‖m) + ½ KL(q‖m), m = (p + q)/2; the WGAN paper leaves out both halves."""
    m = (p + q) / 2
    total = kl(p, m, base=base, xp=xp) + kl(q, m, base=base, xp=xp)
    return total if convention == "wgan" else total / 2


def js_distance(p: Any, q: Any, *, base: float | None = None, xp: Any = np) -> Any:
    """√JS."""
    return xp.sqrt(js(p, q, base=base, xp=xp))


def jeffreys(p: Any, q: Any, *, base: float | None = None, xp: Any = np) -> Any:
    """KL(p‖q) + KL(q‖p) = Σ (p - q) log(p/q)."""
    return kl(p, q, base=base, xp=xp) + kl(q, p, base=base, xp=xp)


def renyi(p: Any, q: Any, alpha: float, *, base: float | None = None, xp: Any = np) -> Any:
    """log(Σ p^a q^(1-a)) / (a - 1); -log q(p > 0) at 0, KL at 1, log max p/q at ∞."""
    if alpha == 1:
        return kl(p, q, base=base, xp=xp)
    if alpha == 0:
        return _in_base(-xp.log(xp.sum(xp.where(p > 0, q, 0.0), -1)), base)
    if alpha == INF:
        ratio = xp.where(q > 0, p / xp.where(q > 0, q, 1.0), 0.0)
        return _in_base(xp.log(xp.amax(xp.where((p > 0) & (q == 0), INF, ratio), -1)), base)
    return _in_base(xp.log(xp.sum(_powers(p, q, alpha, xp), -1)) / (alpha - 1), base)


def tsallis(p: Any, q: Any, alpha: float, *, xp: Any = np) -> Any:
    """(Σ p^a q^(1-a) - 1) / (a - 1), where 1 stands for Σ ap + (1-a)q; KL at 1."""
    if alpha == 1:
        return kl(p, q, xp=xp)
    return xp.sum(_powers(p, q, alpha, xp) - alpha * (p - q) - q, -1) / (alpha - 1)


def alpha_divergence(p: Any, q: Any, alpha: float, *, xp: Any = np) -> Any:
    """Σ (p^a q^(1-a) - ap - (1-a)q) / (a(a - 1)); KL(q‖p) at 0, KL(p‖q) at 1."""
    if alpha == 1:
        return kl(p, q, xp=xp)
    if alpha == 0:
        return kl(q, p, xp=xp)
    return xp.sum((_powers(p, q, alpha, xp) - alpha * (p - q) - q) / (alpha * (alpha - 1)), -1)


def bhattacharyya(p: Any, q: Any, *, base: float | None = None, xp: Any = np) -> Any:
    """-log Σ √(pq)."""
    return _in_base(-xp.log(xp.sum(xp.sqrt(p) * xp.sqrt(q), -1)), base)


def cross_entropy(p: Any, q: Any, *, base: float | None = None, xp: Any = np) -> Any:
    """-Σ p log q."""
    terms = xp.where((p > 0) & (q > 0), -p * xp.log(xp.where(q > 0, q, 1.0)), 0.0)
    return _in_base(xp.sum(xp.where((p > 0) & (q == 0), INF, terms), -1), base)


def entropy(p: Any, *, base: float | None = None, xp: Any = np) -> Any:
    """-Σ p log p."""
    return cross_entropy(p, p, base=base, xp=xp)


@dataclass(frozen=True)
class Convex:
    """A convex f with f(1) = 0, told with its limits: f(0) and lim f(t)/t at infinity."""

    f: Callable[[Any, Any], Any]
    at_zero: float
    slope: float


def f_divergence(p: Any, q: Any, f: Convex, *, xp: Any = np) -> Any:
    """Σ q f(p/q), with p·slope where q = 0 and q·f(0) where p = 0."""
    both = (p > 0) & (q > 0)
    inside = xp.where(both, q * f.f(xp.where(both, p, 1.0) / xp.where(both, q, 1.0), xp), 0.0)
    no_p = xp.where((p == 0) & (q > 0), xp.where(q > 0, q, 1.0) * f.at_zero, inside)
    return xp.sum(xp.where((p > 0) & (q == 0), xp.where(p > 0, p, 1.0) * f.slope, no_p), -1)


GENERATORS = {
    "tv": Convex(lambda t, xp: xp.abs(t - 1) / 2, 0.5, 0.5),
    "hellinger": Convex(lambda t, xp: (xp.sqrt(t) - 1) ** 2 / 2, 0.5, 0.5),
    "pearson": Convex(lambda t, xp: (t - 1) ** 2, 1.0, INF),
    "neyman": Convex(lambda t, xp: (t - 1) ** 2 / t, INF, 1.0),
    "symmetric": Convex(lambda t, xp: (t - 1) ** 2 / (t + 1), 1.0, 1.0),
    "kl": Convex(lambda t, xp: t * xp.log(t) - t + 1, 1.0, INF),
    "js": Convex(lambda t, xp: (t * xp.log(t) - (t + 1) * xp.log((t + 1) / 2)) / 2, math.log(2) / 2, math.log(2) / 2),
    "jeffreys": Convex(lambda t, xp: (t - 1) * xp.log(t), INF, INF),
}


def pairwise(fn: Callable[..., Any], x: Any, y: Any = None, **options: Any) -> Any:
    """``fn`` of every row of x (..., n, k) with every row of y (..., m, k): (..., n, m)."""
    y = x if y is None else y
    return fn(x[..., :, None, :], y[..., None, :, :], **options)
