"""Entropic transport in normal form: what every engine takes from its caller and hands back.

    min over P >= 0 of  <P, C> + epsilon sum P log(P / (a x b))   with P 1 = a, P^T 1 = b

has one solution, P_ij = a_i b_j exp(phi_i + gamma_j - c_ij / epsilon). With unbalanced marginals, priced at
rho_a KL(P 1 | a) + rho_b KL(P^T 1 | b) instead of prescribed, P has the same form and

    P 1 = a exp(-(1/kappa_a - 1) phi),   P^T 1 = b exp(-(1/kappa_b - 1) gamma),   kappa = rho / (rho + epsilon),

which is the balanced case at kappa = 1. Given gamma, the rows are solved exactly by phi_i = -kappa_a log s_i,
s_i = sum_j b_j exp(gamma_j - c_ij / epsilon), and then (P 1)_i = a_i s_i^(1 - kappa_a).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from otdist._arrays import Array

# Largest logarithm of a mass over the one given.
FAR = 600.0


@dataclass(frozen=True)
class Entropic:
    """One problem: costs, positive masses, and how well it is to be solved.

    Balanced masses sum to 1 each. `tol` bounds ||P 1 - target||_1 + ||P^T 1 - target||_1, float64, over all pairs;
    unbalanced, it is relative to the sum of both targets.
    """

    problem: Any  # a `Problem`: Matrix (C float32 or float64), Points or Gridded; costs finite or +inf
    a: Array  # (n,) float64, > 0
    b: Array  # (m,) float64, > 0
    epsilon: float  # in the units of the problem's costs
    tol: float
    kappa: tuple[float, float] = (1.0, 1.0)
    slopes: tuple[float, float] | None = None  # epsilon / rho, where kappa has lost digits of it
    single: bool = False  # the caller's arrays are float32 or coarser: float32 arithmetic will do where it suffices
    memory: int = 1 << 30  # bytes that may be allocated beyond the arguments

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.a), len(self.b)

    def column_target(self, gamma: Array) -> Array:
        """What the columns of P are to sum to."""
        return _target(self.b, gamma, self.slope(1))

    def row_target(self, phi: Array) -> Array:
        """What the rows of P are to sum to."""
        return _target(self.a, phi, self.slope(0))

    def slope(self, side: int) -> float:
        """epsilon / rho = 1/kappa - 1."""
        return 1.0 / self.kappa[side] - 1.0 if self.slopes is None else self.slopes[side]


def _target(mass: Array, potential: Array, slope: float) -> Array:
    if slope == 0.0:
        return mass
    # masses that far from those given are on the way to a solution, not in one
    return np.asarray(mass * np.exp(np.minimum(-slope * potential, FAR)))


def by_mass(potential: Array, slope: float, opposite: float) -> Array:
    """Derivative of the dual value by the masses of one side, all in units of epsilon; slope is epsilon / rho, s.

    D = sum a u(phi) + sum b u(gamma) - sum P + sum a sum b, u(phi) = (1 - exp(-s phi)) / s, and u(phi) = phi at s = 0.
    """
    if slope == 0.0:
        return np.asarray(potential + (opposite - 1.0))
    less = np.expm1(-slope * potential)
    return np.asarray(-less / slope + (opposite - 1.0) - less)


@dataclass(frozen=True)
class Potentials:
    """Dual potentials in units of epsilon, float64; nothing in them is trusted before it is judged.

    The rows are exact: phi is the elimination of the rows at gamma.
    """

    phi: Array  # (n,)
    gamma: Array  # (m,)
    error: float  # L1 error of the columns at these potentials, as the engine measured it
    iterations: int  # passes over all pairs, products of conjugate gradients included
    solver: str  # which engine, in the words of the field
    stopped: str = ""  # "", "max_iter", "time_limit", "callback" or "stalled"
    columns: Array | None = None  # (m,) sums of the columns of P, if measured in float64 at exactly these potentials


@dataclass(frozen=True)
class Bounds:
    """What potentials prove, float64, in the units of the problem's costs, and of a plan of total mass 1."""

    value: float  # dual value of the regularised problem at (phi, gamma): its optimum up to second order in the error
    linear: float  # <P, C>
    lower: float  # of the unregularised optimum: c-transformed potentials
    upper: float  # of the unregularised optimum: the plan, rounded to a coupling
    entropic_lower: float  # of the regularised optimum
    entropic_upper: float
    marginal_error: float  # as `Entropic.tol` measures it, recomputed
    columns: Array  # (m,) sums of the columns of P, recomputed
