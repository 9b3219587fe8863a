"""What potentials of many points prove, from the pairs that carry mass and a search for the least costs.

Any plan bounds the optimum from above, so what the list leaves out may be left out: of the plan on the list the
columns, then the rows are brought below their masses, and what is missing, ra and rb, moves as ra rb^T/|ra|
(Altschuler, Weed and Rigollet, 2017). Its squared costs are moments; other costs are at most those of the diagonal of
the box around all points. Below, potentials are c-transformed by a tree. The dual of the regularised problem takes the
mass of the whole plan: that on the list and the bound of the rest. Its primal takes KL, which is convex, of both parts
of the rounded plan apart.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from otdist._arrays import Array
from otdist.kernels import costs
from otdist.kernels.profiles import Cityblock, Squared
from otdist.transport._gibbs import Bounds, Entropic, Potentials
from otdist.transport._multiscale import LN2, Solver
from otdist.transport._multiscale_level import LOG2E
from otdist.transport._solution import Watch

# Mass left out at most, in parts of the tolerance; what sums and exponents may be off, relatively.
LEFT_OUT, LEAST_LEFT_OUT = 1 / 64, 1e-13
ROUNDING = 2.0**-44


def judge(task: Entropic, potentials: Potentials) -> Bounds:
    """What balanced potentials of `Points` in at most 3 dimensions prove."""
    if task.kappa != (1.0, 1.0):
        raise ValueError("kappa: these bounds are those of balanced transport")
    solver = Solver(task, Watch())
    unit, (x, y) = task.epsilon * LN2, solver.levels[0]
    tilt = solver.tilt
    phi, gamma = (
        potential[order] * LOG2E - t / unit
        for potential, order, t in zip((potentials.phi, potentials.gamma), solver.order, tilt, strict=True)
    )
    level = solver.level(0, task.epsilon)
    at = level.listed(phi, gamma, math.log2(max(LEFT_OUT * task.tol, LEAST_LEFT_OUT)))
    swept = level.sweep(at, phi, gamma, np.float64, Watch(), 0)
    assert swept is not None
    phi, col = swept
    loss = at.loss(phi, gamma)
    a, b = x.mass, y.mass
    f, g = unit * phi + tilt[0], unit * gamma + tilt[1]
    size = float(a @ np.abs(f) + b @ np.abs(g)) + float(a @ np.abs(tilt[0]) + b @ np.abs(tilt[1]))
    value = float(a @ f + b @ g) - task.epsilon * (float(col.sum()) - 1.0)

    def cost_of(s: Array, st: Array, x_: Array, columns: Array, G: Array) -> float:
        """<Q, C> of Q = a x v."""
        rows = a * x_ * s
        bits = float(phi @ rows + np.where(columns > 0.0, G, 0.0) @ columns - (a * x_) @ st)
        return unit * bits + float(tilt[0] @ rows + tilt[1] @ columns)

    G = gamma + level.log_b
    s, st, columns = level.rounded(at, phi, G, False)
    linear = cost_of(s, st, np.ones(len(a)), columns, G)
    G = G + np.log2(np.minimum(1.0, b / np.maximum(col, 1e-300)))
    s, st, columns = level.rounded(at, phi, G, True)
    kept = 1.0 / np.maximum(s, 1.0)
    upper = cost_of(s, st, kept, columns, G)
    ra, rb = np.maximum(a - a * kept * s, 0.0), np.maximum(b - columns, 0.0)
    share = max(float(ra.sum()), float(rb.sum()))
    entropy = LN2 * float((a * kept) @ st - columns @ level.log_b) + float((a * kept * s) @ np.log(kept))
    entropy -= (1.0 - share) * math.log1p(-share) if share < 1.0 else 0.0
    if share > 0.0:
        upper += _product_cost(task, solver, ra, rb, share)
        entropy += sum(float(r @ np.log(np.where(r > 0.0, r / w, 1.0))) for r, w in ((ra, a), (rb, b)))
        entropy -= 2.0 * share * math.log(share)
    rounding = ROUNDING * (size + abs(upper))
    least = task.problem.row_potentials(potentials.gamma * task.epsilon)
    shifted = potentials.gamma * task.epsilon
    lower = float(task.a @ least + task.b @ shifted)
    low_size = float(task.a @ np.abs(least) + task.b @ np.abs(shifted))
    everywhere = np.empty(len(b))
    everywhere[solver.order[1]] = col
    return Bounds(
        value=float(value),
        linear=float(linear),
        lower=lower - ROUNDING * low_size,
        upper=upper + rounding,
        entropic_lower=value - task.epsilon * loss - rounding,
        entropic_upper=upper + task.epsilon * entropy + rounding + ROUNDING * task.epsilon * abs(entropy),
        marginal_error=float(np.abs(col - b).sum()) + 2.0 * loss,
        columns=everywhere,
    )


def _product_cost(task: Entropic, solver: Any, ra: Array, rb: Array, share: float) -> float:
    """A bound of the cost of ra rb^T / share, both of mass `share` up to rounding."""
    X, Y = (z[order] for z, order in zip((task.problem.x, task.problem.y), solver.order, strict=True))
    tag = task.problem.cost
    if isinstance(tag, Squared):
        p, q = ra @ X / share, rb @ Y / share
        spread = ra @ ((X - p) ** 2).sum(axis=1) + rb @ ((Y - q) ** 2).sum(axis=1)
        return float(spread + share * ((p - q) ** 2).sum())
    base = tag.base if isinstance(tag, costs.Raised) else tag
    sides = np.maximum(X.max(axis=0) - Y.min(axis=0), Y.max(axis=0) - X.min(axis=0))
    if isinstance(base, Cityblock):
        length = float(sides.sum())
    elif isinstance(base, costs.Chebyshev):
        length = float(sides.max())
    else:
        length = float(np.sqrt((sides * sides).sum()))
    return float(share * length ** costs.power(tag))
