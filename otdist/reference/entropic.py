"""Entropic transport as definitions: Sinkhorn's iteration in the log domain, both values, the cases with a formula.

    min over P >= 0 of  <P, C> + epsilon KL(P | a x b) + rho_a KL(P 1 | a) + rho_b KL(P^T 1 | b)

with the generalised KL(p | q) = sum p log(p/q) - p + q. At rho = inf a marginal is prescribed; if both are, the terms
- p + q are left out: <P, C> + epsilon sum P log(P / (a x b)). All logarithms of sums are SciPy's `logsumexp`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Pair = tuple[float, float]
BALANCED = (math.inf, math.inf)


def kl(p: Any, q: Any) -> float:
    """sum p log(p/q) - p + q."""
    from scipy.special import kl_div

    return math.fsum(np.ravel(kl_div(p, q)).tolist())


def plan(C: Any, a: Any, b: Any, f: Any, g: Any, epsilon: float) -> Any:
    """P = a x b exp((f + g - C) / epsilon); no mass where a or b has none."""
    with np.errstate(divide="ignore"):
        logarithm = np.log(a)[:, None] + np.log(b) + (np.asarray(f)[:, None] + g - C) / epsilon
    return np.exp(np.where(np.outer(a, b) > 0, logarithm, -np.inf))


def soft_min(C: Any, b: Any, g: Any, epsilon: float) -> Any:
    """-epsilon log sum_j b_j exp((g_j - c_ij) / epsilon): the row potentials with which the rows of P sum to a."""
    from scipy.special import logsumexp

    return -epsilon * logsumexp((np.asarray(g) - C) / epsilon, b=b, axis=1)


def damping(rho: float, epsilon: float) -> float:
    """rho / (rho + epsilon): what is left of a potential where its marginal is priced and not prescribed."""
    return 1.0 if rho == math.inf else rho / (rho + epsilon)


def sinkhorn(
    C: Any, a: Any, b: Any, epsilon: float, rho: Pair = BALANCED, tol: float = 1e-13, passes: int = 20_000
) -> tuple[Any, Any]:
    """Potentials f, g at which both alternating updates hold, or as near as that many passes come.

    Regularisation falls from the largest cost to epsilon by halves, each stage starting from the last. Every ten passes
    a step of Newton's method is tried and kept if the marginals are better for it: the iteration alone takes about
    max C / epsilon passes, and more between a cloud and itself.
    """
    f, g = np.zeros(len(a)), np.zeros(len(b))
    e = max(epsilon, float(np.ptp(np.asarray(C)[np.isfinite(C)])))
    for k in range(1, passes + 1):
        e = epsilon if k == passes else e
        f = damping(rho[0], e) * soft_min(C, b, g, e)
        g = damping(rho[1], e) * soft_min(np.transpose(C), a, f, e)
        if k % 10 == 0 and e > epsilon:
            e = max(epsilon, 0.5 * e)
        elif k % 10 == 0:
            error, error_newton, f_newton, g_newton = math.inf, marginal_error(C, a, b, f, g, epsilon, rho), f, g
            while error_newton < error:  # true at first
                f, g, error = f_newton, g_newton, error_newton
                f_newton, g_newton = newton(C, a, b, f, g, epsilon, rho)
                error_newton = marginal_error(C, a, b, f_newton, g_newton, epsilon, rho)
            if error <= tol:
                break
    return f, g


def newton(C: Any, a: Any, b: Any, f: Any, g: Any, epsilon: float, rho: Pair = BALANCED) -> tuple[Any, Any]:
    """One step on the dual, whose gradient is targets - marginals; constants moved from f to g are left out."""
    P = plan(C, a, b, f, g, epsilon)
    rows, columns = targets(a, b, f, g, rho)
    curvature = np.concatenate([P.sum(1) / epsilon + rows / rho[0], P.sum(0) / epsilon + columns / rho[1]])
    H = np.diag(curvature) + np.block([[np.zeros((len(a),) * 2), P], [P.T, np.zeros((len(b),) * 2)]]) / epsilon
    scale = 1.0 / np.sqrt(np.where(curvature > 0, curvature, 1.0))
    off = np.concatenate([rows - P.sum(1), columns - P.sum(0)])
    step = scale * np.linalg.lstsq(scale[:, None] * H * scale, scale * off, rcond=1e-13)[0]
    step = np.clip(step, -epsilon, epsilon)
    return f + step[: len(a)], g + step[len(a) :]


def targets(a: Any, b: Any, f: Any, g: Any, rho: Pair = BALANCED) -> tuple[Any, Any]:
    """What rows and columns of P sum to at the optimum: a, b, or a exp(-f / rho_a), b exp(-g / rho_b)."""
    sides = ((a, f, rho[0]), (b, g, rho[1]))
    rows, columns = (w if r == math.inf else w * np.exp(np.where(w > 0, -h / r, 0.0)) for w, h, r in sides)
    return rows, columns


def marginal_error(C: Any, a: Any, b: Any, f: Any, g: Any, epsilon: float, rho: Pair = BALANCED) -> float:
    """||P 1 - target||_1 + ||P^T 1 - target||_1; relative to the sum of both targets unless both are prescribed."""
    P = plan(C, a, b, f, g, epsilon)
    rows, columns = targets(a, b, f, g, rho)
    size = 1.0 if rho == BALANCED else float(np.sum(rows) + np.sum(columns)) or 1.0
    return float(np.sum(np.abs(P.sum(1) - rows)) + np.sum(np.abs(P.sum(0) - columns))) / size


def linear(C: Any, P: Any) -> float:
    """<P, C>; a forbidden pair costs nothing while nothing moves there."""
    return math.fsum((P[P > 0] * np.asarray(C)[P > 0]).tolist())


def primal(C: Any, a: Any, b: Any, P: Any, epsilon: float, rho: Pair = BALANCED) -> float:
    """The value of a plan; where a marginal is prescribed P must have it."""
    value = linear(C, P) + epsilon * kl(P, np.outer(a, b))
    if rho == BALANCED:
        return value + epsilon * (math.fsum(np.ravel(P).tolist()) - float(np.sum(a)) * float(np.sum(b)))
    return value + sum(r * kl(s, w) for r, s, w in ((rho[0], P.sum(1), a), (rho[1], P.sum(0), b)) if r < math.inf)


def dual(C: Any, a: Any, b: Any, f: Any, g: Any, epsilon: float, rho: Pair = BALANCED) -> float:
    """A lower bound of the value, from any potentials; the value at the optimal ones."""

    def paid(w: Any, h: Any, r: float) -> float:  # <w, h>, or rho <w, 1 - exp(-h / rho)>
        h = np.where(w > 0, h, 0.0)
        terms = w * h if r == math.inf else -r * w * np.expm1(-h / r)
        return math.fsum(terms.tolist())

    moved = math.fsum(np.ravel(plan(C, a, b, f, g, epsilon)).tolist())
    free = float(np.sum(a)) if rho == BALANCED else float(np.sum(a)) * float(np.sum(b))
    return paid(np.asarray(a), f, rho[0]) + paid(np.asarray(b), g, rho[1]) - epsilon * (moved - free)


def rounded(P: Any, a: Any, b: Any) -> Any:
    """A coupling of a and b near P: rows and columns cut to them, the rest a product (Altschuler et al., 2017)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        P = P * np.fmin(a / P.sum(1), 1.0)[:, None]
        P = P * np.fmin(b / P.sum(0), 1.0)
    left, right = np.maximum(a - P.sum(1), 0.0), np.maximum(b - P.sum(0), 0.0)
    return P if left.sum() == 0.0 else P + np.outer(left, right) / left.sum()


def value(C: Any, a: Any, b: Any, epsilon: float, rho: Pair = BALANCED, **limits: Any) -> float:
    """The regularised optimum."""
    return dual(C, a, b, *sinkhorn(C, a, b, epsilon, rho, **limits), epsilon, rho)


def bracket(C: Any, a: Any, b: Any, epsilon: float, rho: Pair = BALANCED, **limits: Any) -> tuple[float, float]:
    """Bounds of the regularised optimum, true whether the iteration has converged or not."""
    f, g = sinkhorn(C, a, b, epsilon, rho, **limits)
    P = plan(C, a, b, f, g, epsilon)
    if rho == BALANCED:
        P = rounded(P, a, b)
    elif math.inf in rho:  # scale the prescribed side
        side = rho.index(math.inf)
        sums = np.expand_dims(P.sum(1 - side), 1 - side)
        P = P * np.divide(np.expand_dims((a, b)[side], 1 - side), sums, out=np.zeros_like(sums), where=sums > 0)
    return dual(C, a, b, f, g, epsilon, rho), primal(C, a, b, P, epsilon, rho)


def sinkhorn_divergence(
    xy: Any, xx: Any, yy: Any, a: Any, b: Any, epsilon: float, rho: Pair = BALANCED, **limits: Any
) -> float:
    """OT(a, b) - OT(a, a) / 2 - OT(b, b) / 2, from the three cost matrices.

    Unbalanced, with epsilon (sum a - sum b)^2 / 2 added, which takes off the constant of the generalised KL
    (Séjourné et al., 2019); it is 0 for masses of one total.
    """
    cross = value(xy, a, b, epsilon, rho, **limits)
    own = value(xx, a, a, epsilon, (rho[0],) * 2, **limits) + value(yy, b, b, epsilon, (rho[1],) * 2, **limits)
    if rho == BALANCED:
        return cross - 0.5 * own
    own += sum(epsilon * float(np.sum(w) ** 2 - np.sum(w)) for w, r in ((a, rho[0]), (b, rho[1])) if r == math.inf)
    return cross - 0.5 * own + 0.5 * epsilon * float(np.sum(a) - np.sum(b)) ** 2


# --- formulas ---------------------------------------------------------------------------------------------------------


def gaussians(mean_x: Any, cov_x: Any, mean_y: Any, cov_y: Any, epsilon: float) -> float:
    """The value between normal distributions at squared Euclidean costs (Janati et al., 2020).

    With s = epsilon / 2 and D = (4 A^(1/2) B A^(1/2) + s^2 I)^(1/2):
    |m_x - m_y|^2 + tr A + tr B - tr D + d s (1 - log 2s) + s log det(D + s I).
    """
    A, B = np.atleast_2d(cov_x).astype(float), np.atleast_2d(cov_y).astype(float)
    s, d = 0.5 * epsilon, len(A)
    values, vectors = np.linalg.eigh(A)
    root = (vectors * np.sqrt(values)) @ vectors.T
    D = np.sqrt(4.0 * np.linalg.eigvalsh(root @ B @ root) + s * s)
    far = float(np.sum((np.atleast_1d(mean_x) - np.atleast_1d(mean_y)) ** 2))
    tail = d * s * (1.0 - math.log(2.0 * s)) + s * float(np.sum(np.log(D + s)))
    return far + float(np.trace(A) + np.trace(B) - np.sum(D)) + tail


def two_points(epsilon: float) -> tuple[float, float]:
    """Value and <P, C> for C = [[0, 1], [1, 0]] and equal masses."""
    ratio = math.exp(-1.0 / epsilon)
    return epsilon * math.log(2.0 / (1.0 + ratio)), ratio / (1.0 + ratio)


def two_masses(cost: float, a: float, b: float, epsilon: float, rho: Pair) -> tuple[float, float]:
    """The mass moved between two points, unbalanced, and the value.

    p cost + epsilon KL(p | a b) + rho_a KL(p | a) + rho_b KL(p | b) is least where its derivative by p is 0:
    cost + epsilon log(p / (a b)) + rho_a log(p / a) + rho_b log(p / b) = 0. Times p, this takes every logarithm out of
    the value: epsilon a b + rho_a a + rho_b b - (epsilon + rho_a + rho_b) p.
    """
    total = epsilon + rho[0] + rho[1]
    p = math.exp(((epsilon + rho[0]) * math.log(a) + (epsilon + rho[1]) * math.log(b) - cost) / total)
    return p, epsilon * a * b + rho[0] * a + rho[1] * b - total * p
