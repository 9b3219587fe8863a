"""Truncated Newton steps on the semi-dual of an absorbed plan: conjugate gradients, and what keeps the steps safe."""

from __future__ import annotations

import math

import numpy as np

from otdist._arrays import Array
from otdist.kernels import scaling_passes
from otdist.transport._semidual_plan import Level, Plan

# Products of one system; Newton steps on one plan; largest change of a potential by one Sinkhorn step.
PRODUCTS, STEPS, JUMP = 400, 60, 15.0
# Of the diagonal taken for the ridge |t - c|, at the start, at most, and where it no longer matters.
RIDGE, RIDGE_MOST, RIDGE_LEAST = 0.1, 0.5, 0.02
# Curvature, in parts of the diagonal, that float32 cannot tell from none.
NOISE = 5e-7
# A float32 plan says nothing about smaller errors once they stop falling.
FLOOR32 = 3e-6


def newton_step(
    plan: Plan, c: Array, t: Array, ridge: float, eta: float, radius: float, products: int = PRODUCTS
) -> Array:
    """x with (Hessian + ridge diag |t - c|) x = t - c up to eta in L1, ended early where max |x| passes `radius`.

    Conjugate gradients, preconditioned by the diagonal; a system without prescribed masses on either side alone is
    regular, the balanced one is singular along the constants, and float32 noise along them is taken off.
    """
    kappa, work = plan.kappa, plan.level.work
    r = t - c
    extra = ridge * np.abs(r)
    if plan.single:
        extra += NOISE * c
    if kappa[1] != 1.0:
        extra += (1.0 / kappa[1] - 1.0) * t
    slope = c + extra
    d = np.maximum(plan.diagonal(c) + extra + 1e-13 * c, 1e-300)
    plan.bend()
    x, y, p, z, wide = plan.costs.vectors
    narrow = plan.costs.narrow
    x[:] = p[:] = 0.0
    np.divide(r, d, out=z)
    rz, goal = float((r * z).sum()), eta * float(np.abs(r).sum())
    beta, projected = 0.0, plan.single and kappa == (1.0, 1.0)
    for step in range(products):
        size = scaling_passes.turn(p, z, beta, plan.v, wide, narrow)
        if not size > 0.0 or work.over:
            break
        product = plan.product(narrow if plan.single else wide)
        curved = scaling_passes.curvature(p, slope, size, kappa[0], plan.v, product, c, projected, y)
        if not curved > 1e-290:
            break
        left, most, found = scaling_passes.advance(rz / curved, x, p, r, y, d, z)
        if most > radius:
            if step == 0:
                x *= radius / most
            break
        if left <= goal or not found > 1e-280:
            break
        beta, rz = found / rz, found
    return np.array(x)


def sinkhorn_step(plan: Plan, c: Array, t: Array) -> Array:
    """The change of the potentials that makes the columns right at these rows."""
    step = np.log(np.maximum(t, 1e-300) / np.maximum(c, 1e-300))
    return np.asarray(plan.kappa[1] * np.clip(step, -JUMP, JUMP))


def spread(level: Level, h: Array) -> float:
    """How far potentials have moved, against each other if only that matters."""
    return float(np.ptp(h)) if level.balanced else float(np.abs(h).max())


def ascend(
    plan: Plan,
    h: Array,
    goal: float,
    reach: float,
    steps: int = STEPS,
    products: int = PRODUCTS,
    c: Array | None = None,
) -> Array:
    """h further up the semi-dual, until its columns are off by at most `goal`; `plan` is evaluated at it last.

    Steps are accepted on the directional derivative: at the end of a step x the gradient must not point back by more
    than half of <x, t - c>. Where a column has less than a quarter of its mass, the logarithm is far from its tangent
    and a Sinkhorn step is worth more than a Newton step. Ends where the spread of h passes `reach`: there the plan is
    to be absorbed anew.
    """
    level = plan.level
    work, balanced = level.work, level.balanced
    c = plan.evaluate(h) if c is None else c
    t = level.target(h)
    e = work.error = level.error(c, t)
    delta, ridge, idle = min(16.0, 0.7 * reach), RIDGE, 0
    for _ in range(steps):
        for _ in range(3):
            if e <= goal or work.over:
                return h
            if not np.any(t > 4.0 * c):
                break
            h = h + sinkhorn_step(plan, c, t)
            if balanced:
                h -= h.mean()
            c, t = plan.evaluate(h), level.target(h)
            e = work.error = level.error(c, t)
            if spread(level, h) >= reach:
                return h
        eta = max(min(0.1, 0.5 * math.sqrt(e)), 0.3 * goal / e)
        x = newton_step(plan, c, t, ridge if ridge > RIDGE_LEAST else 0.0, eta, delta, products)
        uphill, largest = float((x * (t - c)).sum()), float(np.abs(x).max())
        if not (uphill > 0.0 and largest < 1e200):
            x = sinkhorn_step(plan, c, t)
            uphill, largest = float((x * (t - c)).sum()), float(np.abs(x).max())
            if not uphill > 0.0:
                return h
        length = min(1.0, delta / largest)
        while True:
            there = h + length * x
            c_there, t_there = plan.evaluate(there), level.target(there)
            still = float((x * (t_there - c_there)).sum())
            if still >= -0.5 * uphill or length * largest < 1e-3 or work.over:
                break
            length = max(0.1 * length, min(0.7 * length, length * uphill / (uphill - still)))
        while still > 0.5 * uphill and length * largest < 0.4 * reach and not work.over:
            # no curvature on the way: the ridge made the step, and it is too short
            further = h + 2.0 * length * x
            c_further, t_further = plan.evaluate(further), level.target(further)
            steep = float((x * (t_further - c_further)).sum())
            if steep < -0.5 * uphill:
                plan.evaluate(there)
                break
            length, there, c_there, t_there, still = 2.0 * length, further, c_further, t_further, steep
        e_there = level.error(c_there, t_there)
        settled = length >= 1.0 and abs(still) < 0.3 * uphill and e_there < 0.5 * e
        if settled or still > 0.5 * uphill:
            ridge *= 0.4
        elif length < 0.9 or e_there > 0.9 * e:
            ridge = min(max(2.5 * ridge, 0.1), RIDGE_MOST)
        idle = idle + 1 if not plan.single and abs(e_there - e) < 0.02 * e else 0
        if e_there > max(0.7 * e, goal) and idle < 3:
            for _ in range(2):
                there = there + sinkhorn_step(plan, c_there, t_there)
                c_there, t_there = plan.evaluate(there), level.target(there)
            e_there = level.error(c_there, t_there)
        if length * largest > 0.9 * delta and abs(still) < 0.5 * uphill:
            delta = min(2.0 * delta, reach)
        elif length < 1.0 and length * largest < 0.5 * delta:
            delta = max(0.5 * delta, 2.0)
        stalled = e_there > 0.9 * e
        h, c, t, e = there, c_there, t_there, e_there
        work.error = e
        if idle >= 3 or spread(level, h) >= reach or (plan.single and stalled and e < FLOOR32):
            break
    return h
