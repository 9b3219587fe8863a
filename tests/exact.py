"""The definitions of ``otdist.reference`` evaluated in extended precision, on the exact floats given."""

from __future__ import annotations

import functools
import math
from typing import Any

import mpmath
import numpy as np

from otdist.reference import divergences as reference
from tests.cases import Variant

DIGITS = 60


class Extended:
    """An array namespace over object arrays of mpmath numbers."""

    def __init__(self, digits: int) -> None:
        self.ctx = mpmath.mp.clone()
        self.ctx.dps = digits
        self._numbers = np.frompyfunc(self.ctx.mpf, 1, 1)
        remember = functools.lru_cache(4096)  # differences change one bin of a row at a time
        self._log = np.frompyfunc(remember(lambda x: self.ctx.log(x) if x > 0 else -self.ctx.inf), 1, 1)
        self._exp = np.frompyfunc(remember(self.ctx.exp), 1, 1)
        self._sqrt = np.frompyfunc(remember(self.ctx.sqrt), 1, 1)

    def array(self, a: Any) -> Any:
        return self._numbers(np.asarray(a, dtype=np.float64).astype(object))

    def log(self, x: Any) -> Any:
        return self._log(x)

    def exp(self, x: Any) -> Any:
        return self._exp(x)

    def sqrt(self, x: Any) -> Any:
        return self._sqrt(x)

    def abs(self, x: Any) -> Any:
        return np.abs(x)

    def where(self, condition: Any, x: Any, y: Any) -> Any:
        return np.where(np.asarray(condition, dtype=bool), x, y)

    def sum(self, x: Any, axis: int) -> Any:
        return np.asarray(np.sum(x, axis), dtype=object)

    def amax(self, x: Any, axis: int) -> Any:
        return np.asarray(np.max(x, axis), dtype=object)


SIXTY = Extended(DIGITS)


def floats(a: Any) -> Any:
    """The nearest float64 values, +-inf beyond their range."""
    return np.asarray(a, dtype=object).astype(np.float64)


def measures(a: Any, normalize: object, from_logits: bool, xp: Extended) -> Any:
    if from_logits:
        return reference.softmax(a, xp=xp)
    return reference.normalised(a, xp=xp) if normalize is True else a


def evaluate(
    variant: Variant, *arrays: Any, normalize: object = "check", from_logits: bool = False, xp: Extended = SIXTY
) -> Any:
    """The extended-precision value of ``variant`` on object arrays, over the last axis.

    Histograms that pass the check count as normalised. The forms that stay homogeneous take the numbers as
    they are; those that take a logarithm of a sum are evaluated at the numbers divided by their sum.
    """
    exactly_normalised = normalize is True or (normalize == "check" and variant.literal)
    ready = [measures(a, exactly_normalised, from_logits, xp) for a in arrays]
    return getattr(reference, variant.name)(*ready, *variant.args, **variant.options, xp=xp)


def value(variant: Variant, *arrays: Any, normalize: object = "check", from_logits: bool = False) -> Any:
    """``evaluate`` from floats to floats."""
    numbers = [SIXTY.array(a) for a in arrays]
    exactly = floats(evaluate(variant, *numbers, normalize=normalize, from_logits=from_logits))
    return np.where(variant.literal & (np.abs(exactly) < 10.0 ** (8 - DIGITS)), 0.0, exactly)  # log of one, rounded


def slack(variant: Variant, *arrays: Any, want: Any, dtype: Any, normalize: object = "check") -> Any:
    """How far a correct answer may be from ``want``, beyond a relative error: what the definition leaves open.

    Only the forms that take a logarithm of a sum, and the entropies, need it. A histogram's sum is off one by
    its rounding, and "taken as normalised" may mean divided by the sum or the sum replaced by one. For
    measures, log of a sum near one is known to an ulp of one; entropies of measures have terms of both signs.
    """
    if not variant.literal and variant.name not in ("entropy", "cross_entropy"):
        return np.zeros(())
    eps = float(np.finfo(dtype).eps)
    numbers = [SIXTY.array(a) for a in arrays]
    if variant.name in ("entropy", "cross_entropy"):
        p, q = numbers[0], numbers[-1]
        parts = SIXTY.where((p > 0) & (q > 0), np.abs(p * SIXTY.log(q)), 0)
        return 8 * eps * floats(SIXTY.sum(parts, -1)) / math.log(variant.options.get("base") or math.e)
    alpha = float(variant.args[0]) if variant.args else 0.5
    a = 1.0 if alpha in (0.0, math.inf) else (1 + abs(alpha)) / abs(alpha - 1)
    finite = np.where(np.isfinite(want), want, 0.0)
    if normalize is False:
        return 16 * eps * a * np.ones_like(finite)
    drift = sum(np.abs(floats(SIXTY.sum(x, -1) - 1)) for x in numbers)
    first_order = drift if alpha == math.inf else drift * finite
    return 4 * a * (first_order + drift**2 * (alpha != 0))


def close(got: Any, want: Any, dtype: Any, rtol: float, extra: Any = 0.0) -> str:
    """Nothing if every entry of ``got`` is as near ``want`` (float64) as stated, else a sentence for the worst one.

    Infinities match exactly; no NaN. Where the value underflows in ``dtype`` its smallest normal is allowed,
    where it overflows an infinity is due.
    """
    info = np.finfo(dtype)
    got = np.asarray(got).astype(np.float64)
    want = np.asarray(want, dtype=np.float64)
    if got.shape != want.shape:
        return f"shape {got.shape}, expected {want.shape}"
    want = np.where(np.abs(want) > float(info.max), np.copysign(np.inf, want), want)
    allowed = rtol * np.abs(want) + float(info.tiny) + extra
    with np.errstate(invalid="ignore"):
        good = np.where(np.isfinite(want), np.abs(got - want) <= allowed, got == want)
        nearly_max = np.isinf(want) & (np.abs(got) >= float(info.max) * (1 - rtol)) & (np.sign(got) == np.sign(want))
    bad = np.argwhere(~(good | nearly_max))
    if not len(bad):
        return ""
    at = tuple(int(i) for i in bad[0])
    miss = abs(got[at] - want[at]) / max(abs(want[at]), 1e-300) if np.isfinite(want[at]) else math.inf
    return f"at {at}: got {got[at]!r}, expected {want[at]!r} (relative error {miss:.2g}); {len(bad)} of {good.size} off"


def gradient(
    variant: Variant,
    arrays: tuple[Any, ...],
    argnum: int,
    *,
    normalize: object = "check",
    from_logits: bool = False,
) -> Any:
    """Partial derivatives of the definition, by differences in so many digits that they are exact as floats.

    Arrays are one row each, ``(k,)``. Central differences inside, one-sided at an empty bin, and 0 there if
    the one-sided quotient diverges. For histograms ("check") the numbers are differentiated as measures: the
    constraint is the caller's.
    """
    rows = [np.asarray(a, dtype=np.float64) for a in arrays]
    finite = [np.abs(r[np.isfinite(r) & (r != 0)]) for r in rows]
    smallest = min([float(f.min()) for f in finite if f.size] + [1.0])
    xp = Extended(120 - 2 * math.floor(math.log10(smallest)))
    numbers = [xp.array(r) for r in rows]
    at = numbers[argnum]
    k = at.shape[-1]

    def total(changed: Any) -> Any:
        batch = [np.broadcast_to(n, changed.shape) for n in numbers]
        batch[argnum] = changed
        return evaluate(variant, *batch, normalize=normalize is True, from_logits=from_logits, xp=xp)

    def moved(steps: Any) -> Any:
        return total(np.broadcast_to(at, (k, k)) + np.diag(steps))

    tiny, tinier = xp.ctx.mpf(10) ** -30, xp.ctx.mpf(10) ** -40
    grad = np.zeros(k)
    here = total(at[None, :])[0]
    if from_logits:
        step = np.array([tiny if np.isfinite(float(x)) else xp.ctx.mpf(0) for x in at], dtype=object)
        return floats((moved(step) - moved(-step)) / (2 * tiny))
    inside = np.array([x > 0 for x in at])
    unit = np.array([x if x > 0 else xp.ctx.mpf(1) for x in at], dtype=object)
    step = np.where(inside, unit * tiny, xp.ctx.mpf(0))
    central = (moved(step) - moved(-step)) / (2 * unit * tiny)
    outside = np.where(inside, xp.ctx.mpf(0), xp.ctx.mpf(1))
    right, nearer = ((moved(outside * h) - here) / h for h in (tiny, tinier))
    for i in range(k):
        if inside[i]:
            grad[i] = float(central[i])
        elif abs(nearer[i] - right[i]) <= 1e-6 * (1 + abs(right[i])):
            grad[i] = float(nearer[i])
    return grad
