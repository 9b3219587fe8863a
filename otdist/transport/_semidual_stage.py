"""One epsilon of the semi-dual, from given potentials to a tolerance: looks at the costs, and ascents between them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from otdist._arrays import Array
from otdist.transport._semidual_newton import ascend, newton_step, spread
from otdist.transport._semidual_plan import LOG2E, Level, Plan

# Spread of the change of potentials up to which a dense plan is good; looks in one stage; how many of them may be in
# vain or, in the error alone, SLOW, and what is not: an error that falls so far, or a dual that RISES by so much, in
# parts of the error (moved by one unit, the potentials gain about as much) and of its own size.
REACH, LOOKS, PATIENCE, SLOW, BETTER = 25.0, 150, 5, 25, 0.8
RISES = 0.5, 1e-14
# A column with less of its mass is out of range: its potential is found by the true log-sum-exp over all rows.
LOST = 1e-20
# Error above which a list is not worth an ascent, and how often a Sinkhorn step is taken instead.
ROUGH, ROUGHLY = 0.3, 3
# Threshold of a list: this part of the tolerance (at most COARSE) over m, and so much less for potentials that move.
# Where a row has fewer than FEW entries above it, potentials may have far to go: the threshold is squared.
DROPPED, COARSE, MARGIN = 0.03, 1e-4, 1e-4
FEW, FAINTEST = 12, 1e-200
# Error that an ascent in float32 may be asked for; from which corrections converge; how well one is solved.
SINGLE, BASIN, FINE = 3e-8, 1e-3, 1e-4


@dataclass
class Best:
    """The best potentials measured, and how many looks ago they got better."""

    error: float = math.inf
    g: Array | None = None
    f: Array | None = None
    c: Array | None = None
    idle: int = 0
    slow: int = 0
    dual: float = -math.inf

    @property
    def stuck(self) -> bool:
        return self.idle >= PATIENCE or self.slow >= SLOW

    def note(self, level: Level, c: Array) -> float:
        """The error of the columns c at `level`, which is kept if it is the least yet."""
        e = level.error(c, level.target())
        dual, size = level.dual()
        rise = dual - self.dual
        self.slow = 0 if e < BETTER * self.error else self.slow + 1
        better = self.slow == 0 or rise > max(RISES[0] * e, RISES[1] * size)
        self.idle = 0 if better else self.idle + 1
        self.dual = max(dual, self.dual)
        if e < self.error:
            self.error, self.g, self.f, self.c = e, level.g, level.f.copy(), c
        level.work.error = e
        return e


def settle(level: Level, tol: float, *, exact: bool, listed: bool) -> Best:
    """Bring `level` to `tol`: if `exact` as measured in float64 over all pairs, else as absorbed plans see it."""
    best, rough = Best(), 0
    least = MARGIN * DROPPED * min(tol, COARSE) / level.costs.m
    for _ in range(LOOKS):
        level.translate()
        if listed:
            c, plan = level.measure(least)
            e = best.note(level, c)
            if e <= tol or level.work.over:
                break
            if _recovered(level, c):
                continue
            if plan is None:
                listed = False
                continue
            if e > ROUGH and rough < ROUGHLY:
                rough += 1
                level.g = level.g + level.kappa[1] * np.log2(level.target() / np.maximum(c, 1e-300))
                continue
            h = ascend(plan, np.zeros(level.costs.m), 0.6 * tol, -0.5 * math.log(least))
            plan.move(h)
            if plan.pairs < FEW * level.costs.n and spread(level, h) > -0.3 * math.log(least):
                least = max(least * least, FAINTEST)
        else:
            plan = level.absorb()
            h = np.zeros(level.costs.m)
            if level.work.over:
                break
            c = plan.evaluate(h)
            if _recovered(level, c):
                continue
            h = ascend(plan, h, max(0.8 * tol, SINGLE) if exact else tol, REACH, c=c)
            plan.move(h)
            if exact:
                _correct(plan, h, tol, best)
            else:
                best.idle += 1
        if (level.work.error <= tol and not exact) or best.error <= tol:
            break
        if best.stuck or level.work.over:
            break
    return best


def symmetric(level: Level, tol: float) -> Best:
    """Bring a problem that is its own transpose to `tol`, or as far as halving goes.

    Its potentials are equal on both sides, so gamma <- (gamma + phi)/2; phi changes by -kappa P/r times a change of
    gamma, whose eigenvalues lie in [0, 1]: errors at least halve, whatever epsilon (Feydy et al. 2019).
    """
    best = Best()
    for _ in range(LOOKS):
        c, _ = level.measure()
        best.note(level, c)
        if best.error <= tol or best.stuck or level.work.over:
            break
        mean = 0.5 * (level.gamma + level.phi)
        level.g = level.costs.log_b + (mean - mean.mean() if level.balanced else mean) * LOG2E
    return best


def attempt(level: Level, hope: float, products: int) -> bool:
    """Whether two short Newton steps on a dense plan bring the error down to `hope`."""
    plan = level.absorb()
    h = np.zeros(level.costs.m)
    c = plan.evaluate(h)
    if level.work.over or _recovered(level, c):
        return False
    plan.move(ascend(plan, h, hope, REACH, 2, products, c))
    return level.work.error <= hope


def _recovered(level: Level, c: Array) -> bool:
    """Whether columns had left the range and were brought back."""
    if not np.any(c < LOST * level.target()):
        return False
    level.soften(np.arange(level.costs.n), level.charges)
    return True


def _correct(plan: Plan, h: Array, tol: float, best: Best) -> None:
    """Residuals in float64, corrected with the float32 Hessian of `plan` while that halves them."""
    level = plan.level
    c, _ = level.measure()
    e = best.note(level, c)
    while tol < e < BASIN and not level.work.over:
        h = h + newton_step(plan, c, level.target(), 0.0, max(FINE, 0.1 * tol / e), 1.0)
        plan.evaluate(h)
        plan.move(h)
        c, _ = level.measure()
        before, e = e, best.note(level, c)
        if e > 0.5 * before:
            return
