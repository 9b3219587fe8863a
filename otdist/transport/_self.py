"""Entropic transport of a measure to itself: x = y, a = b, one potential; what Sinkhorn divergences are debiased by.

The plan is symmetric, phi = gamma, a fixed point of T phi = -kappa log sum_j a_j exp(phi_j - c_ij/epsilon). The mean
(phi + T phi)/2 converges for every cost and halves the error of a positive definite kernel with each pass (Feydy et
al. 2019): its residual T phi - phi has a differential between -2 and -1, so that Anderson mixing, which does as well as
Chebyshev's polynomials there, gains a factor of about 6 a pass: 10 to 20 passes from nothing to 1e-12.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

from otdist._arrays import Array
from otdist.kernels import threads
from otdist.kernels.entropic_pulls import log_sums
from otdist.kernels.vecmath import LN2, LOG2E
from otdist.transport._entropic_pulls import by_points
from otdist.transport._gibbs import Entropic, Potentials
from otdist.transport._implicit import weights
from otdist.transport._plan_products import PAIRS, row_costs
from otdist.transport._solution import Watch
from otdist.transport._weighted import lend

# Steps that Anderson mixing remembers; from which error on it is trusted; passes without progress that end a solve.
DEPTH, TRUSTED, PATIENCE = 6, 0.5, 25


class _Softmin:
    """T, streamed over blocks of rows."""

    def __init__(self, task: Entropic) -> None:
        self._task, self._log_a, self._scale = task, np.log2(task.a), LOG2E / task.epsilon
        n = len(task.a)
        self._spans = list(threads.spans(n, max(1, PAIRS // n)))
        self._free: deque[Callable[[int, int], Array]] = deque()

    def __call__(self, phi: Array) -> Array:
        """log sum_j a_j exp(phi_j - c_ij/epsilon)."""
        out = np.empty(len(phi))
        v = lend(self._log_a + LOG2E * phi)

        def one(i0: int, i1: int) -> None:
            try:
                maker = self._free.pop()
            except IndexError:
                maker = row_costs(self._task.problem)
            log_sums(maker(i0, i1), v, self._scale, out[i0:i1])
            self._free.append(maker)

        with threads.single_blas():
            threads.run(one, self._spans, 2.0 * len(phi) ** 2)
        return LN2 * out


def solve(task: Entropic, watch: Watch, start: Array | None = None) -> Potentials:
    """Potentials of a symmetric problem (b is a, costs symmetric) to `task.tol`: phi is T of the potential gamma."""
    a, kappa = task.a, task.kappa[0]
    softmin = _Softmin(task)
    # Alone with itself a point has phi = -log(a)/2, which is also half the first T.
    phi = np.zeros(len(a)) if start is None else np.array(start, np.float64)
    steps: deque[tuple[Array, Array]] = deque(maxlen=DEPTH)
    best, best_error, since, passes = phi, np.inf, 0, 0
    before: tuple[Array, Array] | None = None
    stopped = ""
    while True:
        log_s = softmin(phi)
        passes += 1
        residual = -kappa * log_s - phi
        error = _error(task, phi, log_s)
        if error < 0.9 * best_error:
            since = 0
        else:
            since += 1
        if error < best_error:
            best, best_error = phi, error
        if watch.stop("self", passes, error=error):
            stopped = watch.stopped
        elif since > PATIENCE:
            stopped = "stalled"
        if error <= task.tol or stopped:
            # judged at the potentials that are returned: the rows eliminated at gamma, then its columns summed
            found = _judged(task, softmin, best, passes)
            if found.error <= task.tol or stopped:
                return Potentials(**{**vars(found), "stopped": "" if found.error <= task.tol else stopped})
            passes = found.iterations
        if error > 2.0 * best_error:  # mixing has led astray: back to where the plain mean is known to converge
            steps.clear()
            before = None
        elif before is not None:
            steps.append((phi - before[0], residual - before[1]))
        before = phi, residual
        phi = phi + _step(residual, steps if error <= TRUSTED else (), a, kappa)


def _error(task: Entropic, phi: Array, log_s: Array) -> float:
    """As `Entropic.tol` measures it, of the symmetric plan: both its marginals."""
    target = task.row_target(phi)
    error = 2.0 * float(np.sum(np.abs(task.a * np.exp(phi + log_s) - target)))
    return error if task.kappa[0] == 1.0 else error / (2.0 * float(np.sum(target)))


def _judged(task: Entropic, softmin: _Softmin, gamma: Array, passes: int) -> Potentials:
    phi = -task.kappa[0] * softmin(gamma)
    columns = task.a * np.exp(gamma + softmin(phi))
    target = task.column_target(gamma)
    error = float(np.sum(np.abs(columns - target)))
    if task.kappa[0] < 1.0:
        error /= float(np.sum(task.row_target(phi)) + np.sum(target))
    return Potentials(phi, gamma, error, passes + 2, "symmetric Sinkhorn", columns=columns)


def _step(residual: Array, steps: deque[tuple[Array, Array]] | tuple[()], a: Array, kappa: float) -> Array:
    """The mean's half of the residual; with steps behind it, what their least squares make of it first."""
    if not steps:
        return 0.5 * residual
    moves, changes = (np.stack([s[k] for s in steps], axis=1) for k in (0, 1))
    root = np.sqrt(a)[:, None]
    mix = np.linalg.lstsq(root * changes, root[:, 0] * residual, rcond=1e-12)[0]
    relaxation = 2.0 / (2.0 + kappa)  # of a residual that falls between by 1 and 1 + kappa
    step: Array = relaxation * (residual - changes @ mix) - moves @ mix
    return step


def self_pull(task: Entropic, phi: Array, gamma: Array, given: Array | None = None) -> tuple[Array, Array]:
    """Gradients of the regularised value of OT(x, x) by x (n, d) and by its masses (n,), through both places.

    Of a Sinkhorn divergence OT(x, y) - OT(x, x)/2 - OT(y, y)/2 half of them are taken off.
    """
    gx, gy = by_points(task, phi, gamma, given=None if given is None else (given, given))
    by_a, by_b = weights(task, phi, gamma)
    return gx + gy, by_a + by_b
