"""The linear response of an entropic solution: the differential of its marginal conditions, and its inverse.

    [ diag(r)/kappa_a        P        ]
    [      Pᵀ         diag(s)/kappa_b ]        r = P 1,  s = Pᵀ 1

is symmetric, positive definite where a side is unbalanced, else singular along (1, -1) alone. Rows are eliminated and
conjugate gradients solve the Schur complement diag(s)/kappa_b - Pᵀ diag(kappa_a/r) P, scaled by its diagonal: one pass
over P each. With r and s summed from the very P, the null vector is exact to rounding whatever the marginal error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from otdist._arrays import Array
from otdist.transport._gibbs import Entropic
from otdist.transport._plan_products import Plan

# Residual of the linear system, relative to its right-hand side in the norm of its diagonal: what is aimed at, what is
# accepted; and how often the solution is refined.
AIM, ACCEPTED, REFINEMENTS = 1e-13, 1e-8, 4


class Unsolved(RuntimeError):
    """The linear system of the derivatives was not solved; `residual` is what remains of it."""

    def __init__(self, residual: float, products: int) -> None:
        super().__init__(
            f"derivatives: the linear system was solved to a relative residual of {residual:.3g} only, in {products} "
            "products; raise epsilon, or solve to a smaller tol"
        )
        self.residual = residual


@dataclass(frozen=True)
class Response:
    """A solution of the linear system."""

    rows: Array  # (n,): lambda or dphi
    cols: Array  # (m,): mu or dgamma
    residual: float  # relative, of the Schur complement
    products: int  # passes over P


class System:
    """The differential of the marginal conditions at (phi, gamma)."""

    def __init__(self, task: Entropic, phi: Array, gamma: Array) -> None:
        self.task, self.phi, self.gamma = task, phi, gamma
        self.plan = Plan(task, phi, gamma)
        self.balanced = task.kappa == (1.0, 1.0)
        if not (np.min(self.plan.rows) > 0.0 and np.min(self.plan.cols) > 0.0):
            raise Unsolved(1.0, 1)  # a plan without a row or a column: potentials far from any solution
        self._by_rows, self._by_cols = self.plan.rows / task.kappa[0], self.plan.cols / task.kappa[1]
        taken = np.zeros(task.shape[1])
        over = 1.0 / self._by_rows
        for part in self.plan.blocks(lambda i0, i1, P, _costs: np.einsum("ij,ij,i->j", P, P, over[i0:i1])):
            taken += part
        self._diagonal = np.maximum(self._by_cols - taken, 1e-14 * self._by_cols)

    def solve(self, rows: Array, cols: Array, accepted: float = ACCEPTED) -> Response:
        """The solution for a right-hand side; raises `Unsolved` where its residual exceeds `accepted`."""
        P, r, s = self.plan, self.plan.rows, self.plan.cols
        size = max(float(np.max(np.abs(rows))), float(np.max(np.abs(cols))))
        if size == 0.0:
            return Response(np.zeros(len(rows)), np.zeros(len(cols)), 0.0, 0)
        rows, cols = rows / size, cols / size  # whatever the units, squares stay in range
        if self.balanced:
            excess = (np.sum(rows) - np.sum(cols)) / (np.sum(r) + np.sum(s))
            rows, cols = rows - excess * r, cols + excess * s
        right = cols - P.transposed(rows / self._by_rows)
        mu, residual, products = self._schur(right)
        if not residual <= accepted:
            raise Unsolved(residual, products)
        found = (rows - P.apply(mu)) / self._by_rows
        if self.balanced:
            shift = (r @ found - s @ mu) / (np.sum(r) + np.sum(s))
            found, mu = found - shift, mu + shift
        return Response(size * found, size * mu, residual, products)

    def _product(self, v: Array) -> Array:
        return self._by_cols * v - self.plan.around(v, self._by_rows)

    def _consistent(self, z: Array) -> Array:
        """Without what rounding adds along the null direction."""
        s = self.plan.cols
        return z - s * (np.sum(z) / np.sum(s)) if self.balanced else z

    def _schur(self, right: Array) -> tuple[Array, float, int]:
        """Conjugate gradients, refined by the true residual until it is small or no longer falls."""
        right = self._consistent(right)
        size = _norm(right, self._diagonal)
        best, residual, products = np.zeros(len(right)), 1.0, 2
        if size == 0.0:
            return best, 0.0, products
        left = right
        for _ in range(REFINEMENTS):
            step, used = self._conjugate(left)
            trial = best + step
            left = self._consistent(right - self._product(trial))
            reached = _norm(left, self._diagonal) / size
            products += used + 1
            if not reached < residual:
                break
            stalled, best, residual = reached > 0.3 * residual, trial, reached
            if residual <= AIM or stalled:
                break
        return best, residual, products

    def _conjugate(self, right: Array) -> tuple[Array, int]:
        x, r = np.zeros(len(right)), right.copy()
        z = r / self._diagonal
        p, rho = z, float(r @ z)
        goal = AIM * AIM * rho
        limit = 2 * min(self.task.shape) + 50
        for k in range(limit):
            if not rho > goal:
                return x, k
            q = self._product(p)
            curvature = float(p @ q)
            if not curvature > 0.0:  # rounding has used up the operator in this direction
                return x, k + 1
            step = rho / curvature
            x = x + step * p
            r = self._consistent(r - step * q)
            z = r / self._diagonal
            before, rho = rho, float(r @ z)
            p = z + (rho / before) * p
        return x, limit


def _norm(z: Array, diagonal: Array) -> float:
    return float(np.sqrt(np.sum(z * (z / diagonal))))
