"""Problems of transport of every regime, from a seed, and the proof that an answer is right, in plain NumPy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

import otdist as od


@dataclass(frozen=True)
class Case:
    """A problem as `emd` takes it, and its costs as a matrix."""

    name: str
    costs: Any
    C: np.ndarray
    a: np.ndarray | None
    b: np.ndarray | None

    @property
    def p(self) -> np.ndarray:
        return np.full(len(self.C), 1.0 / len(self.C)) if self.a is None else self.a

    @property
    def q(self) -> np.ndarray:
        m = self.C.shape[1]
        return np.full(m, 1.0 / m) if self.b is None else self.b * (math.fsum(self.p) / math.fsum(self.b))

    def solve(self, **options: Any) -> od.Transport:
        return od.emd(self.costs, self.a, self.b, **options)


def matrix(cost: str, x: np.ndarray, y: np.ndarray, p: float = 1.0) -> np.ndarray:
    """Costs between points by SciPy; 1 - cos(x, y) as half a squared distance, which loses no digits."""
    if cost == "cosine":
        x, y = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (x, y))
        return (0.5 * cdist(x, y, "sqeuclidean")) ** p
    return cdist(x, y, cost) ** p


# --- costs ------------------------------------------------------------------------------------------------------------


def _uniform(rng, n, m):
    return rng.random((n, m))


def _integers(rng, n, m):
    return rng.integers(0, 10 * max(n, m), (n, m)).astype(float)


def _ties(rng, n, m):
    return rng.integers(0, 3, (n, m)).astype(float)


def _constant(rng, n, m):
    return np.full((n, m), 1.7)


def _zero(rng, n, m):
    return np.zeros((n, m))


def _products(rng, n, m):  # Machol & Wien: worst case of shortest augmenting paths
    return np.outer(np.arange(1.0, n + 1), np.arange(1.0, m + 1))


def _geometric(rng, n, m):
    return np.exp2(-rng.integers(0, 60, (n, m)).astype(float))


def _unlike(rng, n, m):  # entries of very different size, on which network simplex codes with a fixed tolerance fail
    C = rng.random((n, m))
    C[rng.random((n, m)) < 0.2] *= 1e12
    C.flat[rng.integers(n * m)] = 1e15
    return C


def _signed(rng, n, m):
    return rng.standard_normal((n, m)) * 10.0 - 3.0


def _scaled(rng, n, m):
    return rng.random((n, m)) * 10.0 ** float(rng.integers(-30, 31))


def _forbidden(rng, n, m):
    C = rng.random((n, m))
    free = rng.random((n, m)) < 0.3
    free[rng.integers(n)], free[:, rng.integers(m)] = True, True  # a row and a column that may serve everyone
    return np.where(free, C, np.inf)


def _discrete(rng, n, m):
    return 1.0 - np.eye(n, m)


MATRICES = (
    *(_uniform, _integers, _ties, _constant, _zero, _products, _geometric, _unlike, _signed, _scaled, _forbidden),
    _discrete,
)

# --- points -----------------------------------------------------------------------------------------------------------


def _gaussian(rng, n, m, d):
    return rng.standard_normal((n, d)), rng.standard_normal((m, d)) + 0.5


def _clusters(rng, n, m, d):
    at = rng.standard_normal((4, d)) * 20.0
    return tuple(at[rng.integers(4, size=k)] + 0.1 * rng.standard_normal((k, d)) for k in (n, m))


def _heavy(rng, n, m, d):
    return rng.standard_t(1.5, (n, d)), rng.standard_t(1.5, (m, d))


def _lattice(rng, n, m, d):
    return rng.integers(0, 4, (n, d)).astype(float), rng.integers(0, 4, (m, d)).astype(float)


def _same(rng, n, m, d):
    x = rng.standard_normal((n, d))
    return x, x[rng.permutation(n)][np.arange(m) % n]


def _nearly(rng, n, m, d):
    x, y = _same(rng, n, m, d)
    return x, y + 1e-7 * rng.standard_normal((m, d))


def _offset(rng, n, m, d):
    x, y = _gaussian(rng, n, m, d)
    return x + 1e6, y + 1e6


def _apart(rng, n, m, d):
    x, y = _gaussian(rng, n, m, d)
    return x, y + 1e4


def _line(rng, n, m, d):
    direction = rng.standard_normal(d)
    return rng.standard_normal((n, 1)) * direction, rng.standard_normal((m, 1)) * direction


def _outlier(rng, n, m, d):
    x, y = _gaussian(rng, n, m, d)
    x[0] += 1e6
    return x, y


CLOUDS = (_gaussian, _clusters, _heavy, _lattice, _same, _nearly, _offset, _apart, _line, _outlier)
COSTS = (
    *(("sqeuclidean", 1.0), ("euclidean", 1.0), ("cityblock", 1.0), ("chebyshev", 1.0), ("euclidean", 1.5)),
    *(("cityblock", 2.0), ("cosine", 1.0)),
)

# --- masses -----------------------------------------------------------------------------------------------------------


def _equal(rng, n):
    return None


def _random(rng, n):
    w = rng.random(n) + 1e-3
    return w / w.sum()


def _decades(rng, n):
    w = 10.0 ** rng.uniform(-14, 0, n)
    return w / w.sum()


def _holes(rng, n):
    w = rng.random(n) * (rng.random(n) < 0.6)
    w[rng.integers(n)] = 1.0
    return w / w.sum()


def _giant(rng, n):
    w = np.full(n, 1e-6)
    w[rng.integers(n)] = 1.0
    return w / w.sum()


def _counts(rng, n):
    return rng.multinomial(50, np.full(n, 1.0 / n)).astype(float) / 50.0


MASSES = (_equal, _equal, _random, _decades, _holes, _giant, _counts)


def case(seed: int, largest: int = 40) -> Case:
    """One of all problems: matrices and clouds, equal and unequal masses, square and not."""
    rng = np.random.default_rng([seed, 20])
    n = int(rng.integers(1, largest + 1))
    m = n if rng.random() < 0.6 else int(rng.integers(1, largest + 1))
    p, q = MASSES[seed % len(MASSES)], MASSES[rng.integers(len(MASSES))]
    a, b = p(rng, n), q(rng, m)
    masses = f"{p.__name__[1:]}-{q.__name__[1:]}"
    if rng.random() < 0.5:
        costs = MATRICES[rng.integers(len(MATRICES))]
        C = costs(rng, n, m)
        if costs is _forbidden:  # a row and a column that serve everyone make equal masses feasible only with slack
            C[~np.isfinite(C)] = 50.0 if (a is not None or b is not None or n != m) else np.inf
            if not np.all(np.isfinite(C)):
                C[np.arange(n), rng.permutation(n)] = rng.random(n)
        return Case(f"{costs.__name__[1:]} {n}x{m} {masses}", C, C, a, b)
    cloud = CLOUDS[rng.integers(len(CLOUDS))]
    cost, power = COSTS[rng.integers(len(COSTS))]
    d = int(rng.choice([1, 2, 2, 3, 5, 20]))
    x, y = cloud(rng, n, m, d)
    if cost == "cosine":  # no zero vectors
        x, y = x + 0.25, y + 0.25
    points = od.PointCloud(x, y, cost=cost, p=power)
    name = f"{cloud.__name__[1:]} {n}x{m} d={d} {cost}^{power:g} {masses}"
    return Case(name, points, matrix(cost, x, y, power), a, b)


def on_grid(seed: int) -> Case:
    """Two histograms on one product grid."""
    rng = np.random.default_rng([seed, 21])
    shape = [(1,), (7,), (4, 5), (1, 6), (3, 2, 4), (9, 9), (2, 2, 2, 2)][seed % 7]
    p = float(rng.choice([1.0, 2.0, 1.5, 3.0]))
    axes = shape if rng.random() < 0.5 else tuple(np.cumsum(rng.random(n) + 0.1) for n in shape)
    grid = od.Grid(axes, cost=p)
    masses = [MASSES[rng.integers(2, len(MASSES))] for _ in "ab"]
    at = grid.points()
    C = np.sum(np.abs(at[:, None] - at[None]) ** p, axis=-1)
    return Case(f"grid {shape} p={p}", grid, C, *(w(rng, grid.size) for w in masses))


def prove(result: od.Transport, given: Case) -> None:
    """Check from first principles that `result` is a feasible plan with a proof of its cost."""
    C, a, b = given.C, given.p, given.q
    P = result.plan.toarray()
    total = a.sum()
    size = float(np.max(np.abs(C), where=np.isfinite(C), initial=0.0))
    assert (result.mass > 0).all()
    assert len(set(zip(result.rows.tolist(), result.cols.tolist(), strict=True))) == len(result.rows)
    assert np.abs(P.sum(1) - a).sum() <= (1e-14 + 1e-16 * len(a)) * total
    assert np.abs(P.sum(0) - b).sum() <= (1e-14 + 1e-16 * len(a)) * total
    assert np.isfinite(C[result.rows, result.cols]).all()
    f, g = np.asarray(result.f), np.asarray(result.g)
    assert np.isfinite(f).all()
    assert np.isfinite(g).all()
    # costs between points are known to a few roundings of their largest intermediate only
    reach = np.max(np.abs(f)) + np.max(np.abs(g)) + (0.0 if isinstance(given.costs, np.ndarray) else size)
    tiny = 1e-14 * reach
    if isinstance(given.costs, od.PointCloud) and given.costs.cost == "cosine":  # of directions, rounded at size 1
        tiny += 1e-15 * math.sqrt(reach)
    assert (f[:, None] + g[None, :] <= C + tiny).all()
    primal = math.fsum((P[result.rows, result.cols] * C[result.rows, result.cols]).tolist())
    dual = math.fsum([*(a * f).tolist(), *(b * g).tolist()])
    terms = abs(primal) + float(a @ np.abs(f) + b @ np.abs(g))
    slack = 1e-13 * terms + tiny * total
    assert abs(float(result.value) - primal) <= slack
    assert result.lower_bound <= dual + slack
    assert result.upper_bound >= primal - slack
    assert result.lower_bound <= result.upper_bound
    assert result.gap == max(result.upper_bound - result.lower_bound, 0.0)
    assert result.converged
    # masses are known to a few ulps of their total, worth that times a potential
    slack += 4e-15 * total * (np.max(np.abs(f[a > 0])) + np.max(np.abs(g[b > 0])))
    assert result.gap <= max(1e-10 * abs(primal), slack)
    assert abs(primal - dual) <= max(1.01e-10 * abs(primal), slack)
