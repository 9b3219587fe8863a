"""What potentials prove: bounds of the regularised and of the unregularised optimum, from two passes in float64.

`settle` solves the rows at gamma and sums the columns of the plan P; `judge` reads everything else off one more pass.
With y_j = min(1, b_j / (P^T 1)_j) the plan Q = P diag(y) has no row and no column above its mass, and
T = Q + ra rb^T / |ra|, ra and rb what is missing, is a coupling (Altschuler, Weed and Rigollet, 2017). So

    upper            <T, C> = sum Q c + ra^T (C rb) / |ra|
    lower            <a, F> + <b, g>, F_i = min_j c_ij - g_j, feasible whatever g is
    entropic lower   <a, f> + <b, g> - epsilon (sum P - 1), the dual at (f, g), which bounds it whatever they are
    entropic upper   <T, C> + epsilon [H(Q, 1 - d) + H(R, d)], H(Q, s) = sum Q log(Q / ab) - |Q| log s,

where R is the part of rank one and d its share of the mass: KL is convex and T = (1 - d) Q/(1 - d) + d R/d. Both
logarithms are sums over rows and columns: log(Q_ij / a_i b_j) = phi_i + gamma_j + log y_j - c_ij / epsilon.

An unbalanced side prices its marginal p at rho KL(p | a) = rho sum p log(p / a) - p + a, rho = epsilon kappa/(1-kappa).
Duals take -rho sum a (exp(-f / rho) - 1) in place of <a, f>; any plan is feasible there, so that side is not rounded,
and mass missing on a balanced side across goes in proportion to its masses.

Roundings are taken off so that the bounds hold as computed. The masses of P are what the exponential gave: its error
does not matter to a primal bound, whose marginals are summed from the same numbers. What remains is the error of sums,
(128 + m/2048) 2^-53 of the sum of sizes of their terms (the longest chain of additions: strips of 2048 columns in 32
lanes); a marginal that is off by d is worth |d| times its potential, and the drift is taken for rounding of that
relative size; and in the dual the error of exponents, 2^-51 of |f| + |g| + |c|, weighted by the plan. Pairs at infinite
cost carry nothing; a part of rank one that meets one makes the upper bounds infinite.

Batches of small problems have `_rounded.py`: arrays of problems, with roundings bounded as a whole.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from otdist._arrays import Array
from otdist.kernels import softmin, softmin_pairs
from otdist.kernels.softmin_pairs import LOG2E, Pairs, PointPairs, StoredPairs
from otdist.transport._gibbs import Bounds, Entropic, Potentials
from otdist.transport._problem import Matrix, Points

HALF_ULP = 2.0**-53
# Longest chain of additions of a NumPy sum: 16 of a lane, 3 of the lanes, and one for each of 40 doublings.
PAIRWISE = 64.0 * HALF_ULP
# Rows and columns that are off by no more than this, relatively, are exact up to the rounding of large exponents.
EXACT = 2.0**-30


def pairs_of(problem: Any) -> Pairs:
    """The costs of a problem, as the passes over all pairs read them; kept with the problem."""
    held: Pairs | None = problem.__dict__.get("_pairs")
    if held is None:
        if isinstance(problem, Points):
            held = PointPairs(problem.x, problem.y, problem.cost)
        else:
            held = StoredPairs(problem.C if isinstance(problem, Matrix) else problem.matrix())
        problem.__dict__["_pairs"] = held
    return held


def settle(task: Entropic, gamma: Array, phi: Array | None = None) -> tuple[Array, Array, float]:
    """Rows solved exactly at gamma, in float64; the columns of the plan, and their error as `Entropic.tol` has it.

    `phi`, if these are about the potentials of the rows, saves half of the work.
    """
    k, (kappa, _) = LOG2E / task.epsilon, task.kappa
    u = None if phi is None else phi * (LOG2E / kappa)
    total = float(task.a.sum())
    found = softmin_pairs.eliminate(
        pairs_of(task.problem), k, u, gamma * LOG2E + np.log2(task.b), task.a / total, kappa - 1.0
    )
    assert found is not None
    settled, columns = row_potentials(found.h, kappa), found.columns * total
    return settled, columns, marginal_error(task, found.h, settled, gamma, columns)


def row_potentials(h: Array, kappa: float) -> Array:
    """phi of the sums of rows, h in base 2; 0 where nothing may go."""
    return np.where(np.isfinite(h), h * (kappa / LOG2E), 0.0)


def marginal_error(task: Entropic, h: Array, phi: Array, gamma: Array, columns: Array) -> float:
    """L1 error of the columns, and of rows that nothing may leave; the other rows are exact."""
    target = task.column_target(gamma)
    error = float(np.abs(columns - target).sum() + task.row_target(phi)[~np.isfinite(h)].sum())
    if task.kappa == (1.0, 1.0):
        return error
    moved = float(task.row_target(phi).sum() + target.sum())
    return error / moved if moved > 0.0 else error  # nothing moves: then neither does the plan


def applied(task: Entropic, phi: Array, gamma: Array, V: Array, transpose: bool = False) -> Array:
    """P V of V (m,) or (m, q), or P^T V of V (n,) or (n, q), float64; the plan is never stored."""
    u, v = _exponents(task, phi, gamma)
    columns = np.ascontiguousarray(V.reshape(len(V), -1), np.float64)
    out = softmin_pairs.apply(pairs_of(task.problem), LOG2E / task.epsilon, u, v, columns, transpose)
    return out.reshape(len(out), *V.shape[1:])


def dense(task: Entropic, phi: Array, gamma: Array) -> Array:
    """The plan, (n, m) float64."""
    u, v = _exponents(task, phi, gamma)
    return softmin_pairs.dense(pairs_of(task.problem), LOG2E / task.epsilon, u, v)


def _exponents(task: Entropic, phi: Array, gamma: Array) -> tuple[Array, Array]:
    return phi * LOG2E + np.log2(task.a), gamma * LOG2E + np.log2(task.b)


class _Bracket:
    """A sum, with what its terms and their addition may be off."""

    def __init__(self, relative: float) -> None:
        self._relative, self.slack = relative, 0.0
        self._parts: list[float] = []

    def add(self, terms: Any, weight: float = 1.0) -> None:
        """Terms of which each is right up to `weight` times the relative rounding of its size."""
        terms = np.atleast_1d(np.asarray(terms, np.float64))
        self._parts.append(float(terms.sum()))
        # added up in pairs, from blocks of 128 in eight lanes (Higham 1993)
        self.slack += (weight * self._relative + PAIRWISE) * float(np.abs(terms).sum())

    @property
    def value(self) -> float:
        return math.fsum(self._parts) if self._finite() else math.nan

    @property
    def low(self) -> float:
        return math.nextafter(self.value - self.slack, -math.inf) if self._finite() else -math.inf

    @property
    def high(self) -> float:
        return math.nextafter(self.value + self.slack, math.inf) if self._finite() else math.inf

    def _finite(self) -> bool:
        return math.isfinite(self.slack) and all(map(math.isfinite, self._parts))


def _kl(p: Array, q: Array) -> tuple[Array, Array]:
    """Terms of the generalised KL(p | q), q > 0, and what a relative rounding of p is worth in each."""
    off = (p - q) / q
    log = np.log1p(np.maximum(off, -1.0 + HALF_ULP))
    return q * ((1.0 + off) * log - off), p * np.abs(log) + np.abs(p - q)


def _xlogx(p: Array, q: Array | float) -> Array:
    """p log(p / q), 0 at p = 0."""
    safe = np.where(p > 0.0, p, 1.0)
    return np.asarray(np.where(p > 0.0, p * (np.log(safe) - np.log(q)), 0.0))


def judge(task: Entropic, potentials: Potentials) -> Bounds:
    """What the potentials prove."""
    phi, gamma, columns = potentials.phi, potentials.gamma, potentials.columns
    if columns is None:
        phi, columns, _ = settle(task, gamma, phi)
    found = _Judge(task, phi, gamma, columns)
    if not found.exact():  # the rows are not what they were said to be
        phi, columns, _ = settle(task, gamma)
        found = _Judge(task, phi, gamma, columns)
    return found.bounds()


class _Judge:
    def __init__(self, task: Entropic, phi: Array, gamma: Array, columns: Array) -> None:
        self.task, self.phi, self.gamma, self.claimed = task, phi, gamma, columns
        b, eps = task.b, task.epsilon
        self.f, self.g = eps * phi, eps * gamma
        self.rho = tuple(eps / task.slope(k) if task.slope(k) > 0.0 else math.inf for k in (0, 1))
        if task.kappa[1] == 1.0:
            self.kept = np.minimum(columns, b)
            self.y = np.where(columns > b, b / np.where(columns > 0.0, columns, 1.0), 1.0)
            self.missing = b - self.kept
        else:
            self.kept, self.y, self.missing = columns, np.ones(len(b)), np.zeros(len(b))
        u, v = _exponents(task, phi, gamma)
        found = softmin_pairs.judge(pairs_of(task.problem), LOG2E / eps, u, v, self.g, self.y, self.missing)
        self.columns, self.rows = found.columns, found.rows
        self.relative = HALF_ULP * (128.0 + len(b) / 2048.0)
        self._round()

    def exact(self) -> bool:
        """Whether rows and columns are what these potentials were said to make of them."""
        rows, target = self.rows[softmin.MASS], self.task.row_target(self.phi)
        off = np.abs(rows - target).sum() + np.abs(self.columns - self.claimed).sum()
        return bool(off <= EXACT * (target.sum() + rows.sum()))

    def _round(self) -> None:
        """x of the rows, what they still miss, and what of the marginals rounding leaves open."""
        a, kept = self.task.a, self.rows[softmin.KEPT]
        if self.task.kappa[0] == 1.0:
            self.x = np.where(kept > a, a / np.where(kept > 0.0, kept, 1.0), 1.0)
            self.short = np.maximum(a - self.x * kept, 0.0)
        else:
            self.x, self.short = np.ones(len(a)), a * (float(self.missing.sum()) / float(a.sum()))
        wanted, offered = float(self.short.sum()), float(self.missing.sum())
        # What is within the rounding of sums is left to the drift, as is what one side misses and the other has not.
        negligible = min(wanted, offered) <= self.relative * float(a.sum())
        self.share = 0.0 if negligible else offered
        self.given = np.zeros(len(a)) if negligible else self.short * (offered / wanted)
        if negligible:
            self.missing = np.zeros(len(self.missing))
        left = wanted + offered if negligible else abs(wanted - offered)
        if self.task.kappa[1] == 1.0:  # what the columns are, and what they were said to be
            left += float(np.abs(self.y * self.columns - self.kept).sum())
        reach = float(
            (np.abs(self.f) + np.abs(self.f).max()) @ a + (np.abs(self.g) + np.abs(self.g).max()) @ self.task.b
        )
        self.drift = self.relative * reach
        if self.task.kappa[0] == 1.0 or self.task.kappa[1] == 1.0:
            self.drift += left * float(np.abs(self.f).max() + np.abs(self.g).max())

    def _dual(self, into: _Bracket, f: Array, g: Array) -> None:
        """<a, f> + <b, g>, or what stands for them on unbalanced sides."""
        for mass, potential, rho in zip((self.task.a, self.task.b), (f, g), self.rho, strict=True):
            if rho == math.inf:
                into.add(mass * potential)
            else:
                with np.errstate(over="ignore"):
                    into.add(-rho * mass * np.expm1(-potential / rho))

    def _shift(self, f: Array, g: Array) -> float:
        """The s for which f + s and g - s have the best dual value: their targets agree."""
        inverse = [0.0 if rho == math.inf else 1.0 / rho for rho in self.rho]
        if sum(inverse) == 0.0 or not np.isfinite(f).all():
            return 0.0
        logs = []
        for mass, potential, each in zip((self.task.a, self.task.b), (f, g), inverse, strict=True):
            exponents = np.log(mass) - potential * each
            top = float(exponents.max())
            logs.append(top + math.log(float(np.exp(exponents - top).sum())))
        return (logs[0] - logs[1]) / sum(inverse)

    @staticmethod
    def _slope(potential: Array, rho: float) -> Array:
        """What a change of a potential is worth, per mass."""
        return np.ones(len(potential)) if rho == math.inf else np.exp(-potential / rho)

    def _marginals(self, into: _Bracket) -> None:
        """rho KL of the marginals of T on unbalanced sides."""
        sides = (
            (self.x * self.rows[softmin.KEPT] + self.given, self.task.a, self.rho[0]),
            (self.y * self.columns + self.missing, self.task.b, self.rho[1]),
        )
        for marginal, mass, rho in sides:
            if rho < math.inf:
                terms, rounded = _kl(marginal, mass)
                into.add(rho * terms)
                into.slack += self.relative * rho * float(rounded.sum() + self.relative * marginal.sum())

    def _transport(self, into: _Bracket) -> None:
        """<T, C>."""
        into.add(self.x * self.rows[softmin.KEPT_LINEAR])
        into.slack += self.relative * float(self.rows[softmin.SIZE].sum())
        if self.share > 0.0:
            if float(self.given @ self.rows[softmin.BARRED]) > 0.0:
                into.slack = math.inf
                return
            into.add(self.given * self.rows[softmin.RANK_ONE] / self.share)
            into.slack += self.relative * float(self.given @ self.rows[softmin.RANK_ONE_SIZE]) / self.share

    def bounds(self) -> Bounds:
        task, eps, rows = self.task, self.task.epsilon, self.rows
        a, b, phi, gamma, f, g = task.a, task.b, self.phi, self.gamma, self.f, self.g
        lower, upper, dual, shifted, primal = (_Bracket(self.relative) for _ in range(5))
        with np.errstate(over="ignore", invalid="ignore"):
            shift = self._shift(rows[softmin.LEAST], g)
            self._dual(lower, rows[softmin.LEAST] + shift, g - shift)
            # feasible up to the roundings of c - g, of f + s and of g - s
            rounded = HALF_ULP * (np.abs(rows[softmin.LEAST]) + np.abs(rows[softmin.LEAST] + shift))
            largest = HALF_ULP * float(np.abs(g - shift).max()) if shift != 0.0 else 0.0
            lower.slack += float(a * self._slope(rows[softmin.LEAST] + shift, self.rho[0]) @ (rounded + largest))
            self._transport(upper)
            self._marginals(upper)
            upper.slack += self.drift

            mass, total = rows[softmin.MASS], float(a.sum()) * float(b.sum())
            sizes = mass @ (np.abs(f) + eps * np.abs(np.log2(a))) + self.columns @ (
                np.abs(g) + eps * np.abs(np.log2(b))
            )
            shift = self._shift(f, g)
            for bracket, s in ((dual, 0.0), (shifted, shift)):  # the plan does not feel a shift
                self._dual(bracket, f + s, g - s)
                bracket.add(-eps * mass)
                bracket.add(eps * total)
                bracket.slack += 2.0**-51 * float(sizes + rows[softmin.SIZE].sum())
                bracket.slack += 2.0**-51 * abs(s) * float(mass.sum())

            self._transport(primal)
            self._marginals(primal)
            self._divergence(primal, total)
            primal.slack += self.drift
        target_a, target_b = task.row_target(phi), task.column_target(gamma)
        error = float(np.abs(mass - target_a).sum() + np.abs(self.columns - target_b).sum())
        if task.kappa != (1.0, 1.0):
            moved = float(target_a.sum() + target_b.sum())
            error = error / moved if moved > 0.0 else error
        linear = float(rows[softmin.LINEAR].sum())
        best = max(dual.low, shifted.low)
        value = max(dual.value, shifted.value, key=lambda v: -math.inf if math.isnan(v) else v)
        return Bounds(value, linear, lower.low, upper.high, best, primal.high, error, self.columns)

    def _divergence(self, into: _Bracket, total: float) -> None:
        """epsilon KL(T | a x b), from above, by convexity."""
        eps, rows = self.task.epsilon, self.rows
        q = self.x * rows[softmin.KEPT]
        columns = self.y * self.columns
        into.add(q * (self.f + eps * np.log(self.x)))
        into.add(columns * (self.g + eps * np.log(self.y)))
        into.add(-self.x * rows[softmin.KEPT_LINEAR])
        into.slack += self.relative * float(rows[softmin.SIZE].sum())
        kept, share = float(q.sum()), self.share
        everything = kept + share
        into.add([-eps * everything, eps * total])
        if share > 0.0:
            into.add(-eps * kept * math.log(kept / everything) if kept > 0.0 else 0.0)
            # R = given x missing / share: sum R log(R / (d a b)) by rows and by columns, d = share / everything
            into.add(eps * _xlogx(self.given, self.task.a))
            into.add(eps * _xlogx(self.missing, self.task.b))
            into.add(-eps * share * math.log(share))
            into.add(-eps * share * math.log(share / everything))
