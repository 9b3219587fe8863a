"""Entropic problems of every regime, from a seed, and the proof that an answer is right, from f, g and the plan."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import logsumexp

import otdist as od
from otdist.reference import entropic as reference
from tests.transport_cases import matrix

TOL = {"float64": 1e-9, "float32": 1e-6, "float16": 1e-6}  # the defaults of `sinkhorn`
BALANCED = (math.inf, math.inf)


@dataclass(frozen=True)
class Case:
    """A problem as `sinkhorn` takes it, and its costs as a matrix, float64, of the numbers as they were rounded."""

    name: str
    costs: Any
    C: np.ndarray
    a: np.ndarray | None
    b: np.ndarray | None
    epsilon: float
    rho: tuple[float, float] = BALANCED

    @property
    def dtype(self) -> str:
        at = self.costs.x if isinstance(self.costs, od.PointCloud) else self.costs
        return str(np.result_type(at, *(w for w in (self.a, self.b) if w is not None)))

    @property
    def p(self) -> np.ndarray:
        n = len(self.C)
        return np.full(n, 1.0 / n) if self.a is None else self.a.astype(np.float64)

    @property
    def q(self) -> np.ndarray:
        m = self.C.shape[1]
        q = np.full(m, 1.0 / m) if self.b is None else self.b.astype(np.float64)
        return q * (math.fsum(self.p) / math.fsum(q)) if self.rho == BALANCED else q

    def solve(self, **options: Any) -> Any:
        rho = None if self.rho == BALANCED else self.rho
        options = {"epsilon": self.epsilon, "rho": rho, "on_fail": "ignore", **options}
        return od.sinkhorn(self.costs, self.a, self.b, **options)


# --- costs ------------------------------------------------------------------------------------------------------------


def _uniform(rng, n, m):
    return rng.random((n, m))


def _integers(rng, n, m):
    return rng.integers(0, 100, (n, m)).astype(float)


def _ties(rng, n, m):
    return rng.integers(0, 3, (n, m)).astype(float)


def _constant(rng, n, m):
    return np.full((n, m), 1.75)


def _zero(rng, n, m):
    return np.zeros((n, m))


def _offset(rng, n, m):
    return 1e4 + rng.random((n, m))


def _signed(rng, n, m):
    return rng.standard_normal((n, m)) * 10.0 - 3.0


def _unlike(rng, n, m):  # entries of very different size
    return np.exp2(-rng.integers(0, 14, (n, m)).astype(float))


def _huge(rng, n, m):
    return rng.random((n, m)) * 1e4


def _discrete(rng, n, m):
    return 1.0 - np.eye(n, m)


MATRICES = (_uniform, _integers, _ties, _constant, _zero, _offset, _signed, _unlike, _huge, _discrete)


def _gaussian(rng, n, m, d):
    return rng.standard_normal((n, d)), rng.standard_normal((m, d)) + 0.5


def _clusters(rng, n, m, d):
    at = rng.standard_normal((4, d)) * 20.0
    return tuple(at[rng.integers(4, size=k)] + 0.1 * rng.standard_normal((k, d)) for k in (n, m))


def _same(rng, n, m, d):
    x = rng.standard_normal((n, d))
    return x, x[np.arange(m) % n]


def _lattice(rng, n, m, d):
    return rng.integers(0, 4, (n, d)).astype(float), rng.integers(0, 4, (m, d)).astype(float)


def _far(rng, n, m, d):
    x, y = _gaussian(rng, n, m, d)
    return x + 1e4, y + 1e4


def _apart(rng, n, m, d):
    x, y = _gaussian(rng, n, m, d)
    return x, y + 30.0


def _outlier(rng, n, m, d):
    x, y = _gaussian(rng, n, m, d)
    x[0] += 100.0
    return x, y


CLOUDS = (_gaussian, _clusters, _same, _lattice, _far, _apart, _outlier)
COSTS = (("sqeuclidean", 1.0), ("sqeuclidean", 1.0), ("euclidean", 1.0), ("cityblock", 1.0), ("euclidean", 1.5))

# --- masses -----------------------------------------------------------------------------------------------------------


def _equal(rng, n):
    return None


def _random(rng, n):
    return rng.random(n) + 1e-3


def _decades(rng, n):
    return 10.0 ** rng.uniform(-12, 0, n)


def _holes(rng, n):
    w = rng.random(n) * (rng.random(n) < 0.6)
    w[rng.integers(n)] = 1.0
    return w


def _giant(rng, n):
    w = np.full(n, 1e-9)
    w[rng.integers(n)] = 1.0
    return w


MASSES = (_equal, _random, _decades, _holes, _giant)


def simplex(make: Any, rng: Any, n: int, dtype: str = "float64") -> Any:
    w = make(rng, n)
    return None if w is None else (w / w.sum()).astype(dtype)


def corner(p: np.ndarray, q: np.ndarray, rng: Any) -> np.ndarray:
    """Where a coupling by the north-west corner rule, in random order, has mass: pairs that make a problem feasible."""
    rows, cols = rng.permutation(len(p)), rng.permutation(len(q))
    P, Q = np.cumsum(p[rows]), np.cumsum(q[cols])
    allowed = np.zeros((len(p), len(q)), bool)
    low = np.maximum(*np.meshgrid(P - p[rows], Q - q[cols], indexing="ij"))
    high = np.minimum(*np.meshgrid(P, Q, indexing="ij"))
    allowed[np.ix_(rows, cols)] = high > low - 1e-15
    return allowed


def case(seed: int, largest: int = 12) -> Case:
    """One of all problems: matrices and clouds, dtypes, masses, epsilon over nine decades, balanced and not."""
    rng = np.random.default_rng([seed, 30])
    n = int(rng.integers(1, largest + 1))
    m = n if rng.random() < 0.5 else int(rng.integers(1, largest + 1))
    dtype = str(rng.choice(["float64", "float64", "float64", "float32", "float16"]))
    masses = MASSES[seed % len(MASSES)], MASSES[rng.integers(len(MASSES))]
    a, b = (simplex(w, rng, k, dtype) for w, k in zip(masses, (n, m), strict=True))
    rho = BALANCED
    if rng.random() < 0.3 and dtype != "float16":  # whose range would not hold the value
        rho = tuple(math.inf if rng.random() < 0.3 else float(10.0 ** rng.uniform(-2, 2)) for _ in "ab")
    name = f"{n}x{m} {dtype} {masses[0].__name__[1:]}-{masses[1].__name__[1:]} rho={rho}"
    if rng.random() < 0.5:
        costs = MATRICES[rng.integers(len(MATRICES))]
        given: Any = costs(rng, n, m).astype(dtype)
        C = given.astype(np.float64)
        name = f"{costs.__name__[1:]} {name}"
        draft = Case(name, given, C, a, b, 1.0, rho)
        if rho == BALANCED and rng.random() < 0.2:
            banned = ~(corner(draft.p, draft.q, rng) | (rng.random((n, m)) < 0.5))
            given = np.where(banned, np.array(np.inf, dtype), given)
            C, name = np.where(banned, np.inf, C), f"forbidden {name}"
    else:
        cloud = CLOUDS[rng.integers(len(CLOUDS))]
        cost, power = COSTS[rng.integers(len(COSTS))]
        d = int(rng.choice([1, 2, 2, 3, 5, 20]))
        x, y = (z.astype(dtype) for z in cloud(rng, n, m, d))
        given = od.PointCloud(x, y, cost=cost, p=power)
        C = matrix(cost, x.astype(np.float64), y.astype(np.float64), power)
        name = f"{cloud.__name__[1:]} d={d} {cost}^{power:g} {name}"
    size = float(np.max(np.abs(C), where=np.isfinite(C), initial=0.0)) or 1.0
    epsilon = size * 10.0 ** float(rng.uniform(-6, 3))
    return Case(f"{name} epsilon={epsilon:.3g}={epsilon / size:.2g} size", given, C, a, b, epsilon, rho)


# --- proof ------------------------------------------------------------------------------------------------------------


def emd(C: np.ndarray, p: np.ndarray, q: np.ndarray) -> float:
    """The unregularised optimum, by POT; a forbidden pair costs more than any detour over the others."""
    import ot

    free = np.isfinite(C)
    size = float(np.max(np.abs(C[free]))) or 1.0
    rows, cols = p > 0, q > 0
    least = float(np.min(C))  # negative costs and prices that vanish are not for POT, which then may move nothing
    D = np.where(free, C - least, 1e3 * size * sum(C.shape))[np.ix_(rows, cols)]
    if 1 in D.shape:
        P = np.outer(p[rows], q[cols]) / p[rows].sum()
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            P = ot.emd(p[rows], q[cols], np.ascontiguousarray(D), numItermax=10**7)
    assert abs(P.sum() - p.sum()) < 1e-6
    return float(np.sum(P * D)) + least * float(np.sum(P))


def prove(result: Any, given: Case, *, tol: float | None = None, passes: int = 100) -> None:
    """Check from first principles that `result` is what it says it is."""
    C, a, b, epsilon, rho = given.C, given.p, given.q, given.epsilon, given.rho
    balanced = rho == BALANCED
    tol = TOL[given.dtype] if tol is None else tol
    f, g, P = (np.asarray(z, np.float64) for z in (result.f, result.g, result.plan))
    for name in ("value", "linear", "marginal_error", "entropic_lower_bound"):
        assert math.isfinite(float(getattr(result, name))), name
    # a plan rounded to a coupling may have to use a forbidden pair: then nothing is proved from above
    assert math.isfinite(float(result.entropic_upper_bound)) or np.isinf(C).any()
    assert not any(np.isnan(z).any() for z in (f, g, P))
    assert np.isfinite(f[a > 0]).all()
    assert np.isfinite(g[b > 0]).all()
    assert (P >= 0).all()
    assert float(result.epsilon) == float(np.float64(epsilon))
    # Costs are known to a rounding or two, potentials to one of their dtype; both count in units of epsilon.
    size = float(np.max(np.abs(C), where=np.isfinite(C), initial=0.0))
    reach = size + float(np.max(np.abs(f[a > 0])) + np.max(np.abs(g[b > 0])))
    unit = 0.0 if given.dtype == "float64" else float(np.finfo(given.dtype).eps)
    drift = 4.0 * max(abs(math.fsum(a) - 1.0), abs(math.fsum(b) - 1.0)) if balanced and unit else 0.0
    exact = 2.0**-50 * reach / epsilon
    blur = exact + unit * reach / epsilon + drift
    if blur < 0.1:
        Q = reference.plan(C, a, b, f, g, epsilon)
        np.testing.assert_allclose(P, Q, rtol=math.expm1(2.0 * blur) + 1e-12 + unit, atol=unit or 1e-300)
    # the marginals are those of the plan
    rows, columns = reference.targets(a, b, f, g, rho)
    total = 1.0 if balanced else float(rows.sum() + columns.sum()) or 1.0
    error = float(np.abs(P.sum(1) - rows).sum() + np.abs(P.sum(0) - columns).sum()) / total
    soft = unit * reach * sum(1.0 / r for r in rho if r < math.inf)  # targets are functions of rounded potentials
    within = 1e-11 + 1e-3 * error + 4.0 * exact + 2.0 * unit + drift + soft
    stated = float(result.marginal_error)
    seen = given.dtype == "float64" or total > float(np.finfo(given.dtype).tiny) * 1e6  # a plan its dtype can hold
    assert not seen or abs(error - stated) <= within, ("marginal_error", error, stated)
    if result.converged:
        assert stated <= tol
        assert not seen or error <= tol + within
    else:
        assert stated > tol or not balanced
    # the values
    lower, upper = float(result.entropic_lower_bound), float(result.entropic_upper_bound)
    mass = float(max(a.sum(), b.sum(), P.sum()))
    prices = sum(r for r in rho if r < math.inf)
    scale = mass * (reach + epsilon + prices)
    slack = (1e-12 + 2.0 * unit + drift) * scale + 4.0 * exact * epsilon * mass
    regular = float(result.value)
    proved = reference.dual(C, a, b, f, g, epsilon, rho)
    if not balanced:  # the plan does not feel a constant moved from g to f: the value is that of the best one
        r, c = (logsumexp(-u / price, b=w) for u, w, price in ((f, a, rho[0]), (g, b, rho[1])))
        s = float(r - c) / sum(1.0 / price for price in rho)
        proved = max(proved, reference.dual(C, a, b, f + s, g - s, epsilon, rho))
    if blur < 0.1:
        assert abs(regular - proved) <= slack + (epsilon * mass * blur if unit else 0.0), ("value", regular, proved)
        assert proved <= upper + slack + (epsilon * mass * blur if unit else 0.0), ("upper below dual", proved, upper)
    assert lower <= upper + 1e-15 * scale
    assert lower - slack <= regular <= upper + slack, ("value outside its bounds", lower, regular, upper)
    low, high = reference.bracket(C, a, b, epsilon, rho, passes=passes)
    # of a bracket the sums are right to rounding; the masses of a coarse dtype are known up to their drift
    assert lower <= high + slack, ("entropic_lower_bound above a plan", lower, high)
    assert upper >= low - slack, ("entropic_upper_bound below potentials", upper, low)
    if blur < 0.1:  # entries of the plan are right up to the rounding of what stands in the exponent
        moved = reference.linear(C, P)
        assert abs(float(result.linear) - moved) <= slack + (unit + 4.0 * exact) * scale, (
            "linear",
            float(result.linear),
            moved,
        )
    if not balanced:
        return
    best = emd(C, a, b)
    room = slack + 1e-11 * size
    assert float(result.lower_bound) <= best + room, ("lower_bound", float(result.lower_bound), best)
    assert float(result.upper_bound) >= best - room, ("upper_bound", float(result.upper_bound), best)
    assert float(result.gap) >= 0.0
    if result.converged and math.isfinite(
        upper
    ):  # bounds of a solved problem are tight: an error e moves a plan, and its entropy, by about e
        spread = 4.0 * tol * (reach + epsilon * (30.0 + abs(math.log(tol))))
        assert upper - lower <= spread + 2.0 * slack, ("entropic bounds apart", upper - lower, spread)
