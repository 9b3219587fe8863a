"""Entropic transport of a measure to itself: x = y, a = b, one potential; what Sinkhorn divergences are debiased by.

The plan is symmetric, phi = gamma, a fixed point of T phi = -kappa log sum_j a_j exp(phi_j - c_ij/epsilon). One pass
over the pairs gives T phi from its rows and, the costs being symmetric, T T phi from its columns. The mean
(T phi + T T phi)/2 converges for every cost (Feydy et al. 2019 take (phi + T phi)/2), and where the kernel is positive
definite, T having a differential between -1 and 0 in all directions, it gains a factor of at least 8 a pass. Anderson
mixing of the residuals, two a pass, brings it to 1e-12 in at most 10 passes from nothing, whatever epsilon.
Costs whose kernels are not positive definite (matrices at will, high powers) may be slow at small epsilon, and then end
as "stalled": a general engine is for them.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from otdist._arrays import Array
from otdist.transport._bounds import settle
from otdist.transport._gibbs import Entropic, Potentials
from otdist.transport._solution import Watch

# Residuals that Anderson mixing remembers; from which error on it is trusted; passes without progress that end a solve.
DEPTH, TRUSTED, PATIENCE = 10, 0.5, 20


def solve(task: Entropic, watch: Watch, start: Array | None = None) -> Potentials:
    """Potentials of a symmetric problem (b is a, costs symmetric) to `task.tol`: phi is T of the potential gamma."""
    a, kappa, total = task.a, task.kappa[0], float(np.sum(task.a))
    # Alone with itself a point has a^2 exp(2 phi) = a.
    gamma = np.array(start, np.float64) if start is not None else -kappa / (1.0 + kappa) * np.log(a / total)
    phi: Array | None = None
    seen: deque[tuple[Array, Array]] = deque(maxlen=DEPTH)
    best: Potentials | None = None
    passes = since = 0
    while True:
        phi, columns, error = settle(task, gamma, phi)
        passes += 1
        since = since + 1 if best is not None and not error < 0.9 * best.error else 0
        if best is None or error < best.error:
            best = Potentials(phi, gamma, error, passes, "symmetric Sinkhorn", columns=columns)
        stopped = watch.stopped if watch.stop("self", passes, error=error) else "stalled" if since > PATIENCE else ""
        if best.error <= task.tol or stopped:
            return Potentials(
                best.phi, best.gamma, best.error, passes, best.solver,
                "" if best.error <= task.tol else stopped, best.columns,
            )  # fmt: skip
        if error > 2.0 * best.error:  # mixing has led astray
            seen.clear()
        # T phi by the columns; where their exponentials have left the range, phi again
        held = columns > 1e-280
        twice = np.where(held, kappa * (np.log(a) + gamma - np.log(np.where(held, columns, 1.0))), phi)
        seen.append((gamma, phi - gamma))
        seen.append((phi, twice - phi))
        near = error <= TRUSTED * total
        gamma = _mixed(seen, a, kappa) if near and len(seen) > 2 else 0.5 * (phi + twice)
        phi = gamma if near else None  # T gamma is about gamma


def _mixed(seen: deque[tuple[Array, Array]], a: Array, kappa: float) -> Array:
    """The affine combination of what was seen with the least residual, and a step along what is left of it."""
    points, residuals = (np.stack([s[k] for s in seen], axis=1) for k in (0, 1))
    moves, changes = (z[:, :-1] - z[:, -1:] for z in (points, residuals))
    root = np.sqrt(a)[:, None]
    mix = np.linalg.lstsq(root * changes, root[:, 0] * residuals[:, -1], rcond=1e-12)[0]
    left = residuals[:, -1] - changes @ mix
    mixed: Array = points[:, -1] - moves @ mix + 2.0 / (2.0 + kappa) * left  # of a differential in [-1 - kappa, -1]
    return mixed
