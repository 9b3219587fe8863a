"""Bandwidths from data: the median heuristic and Scott's rule.

"median" is the median, over the pairs i < j of the pool [x; y], of √c for kernels in c/σ² (Gaussian, IMQ, rational
quadratic: so of ‖z_i − z_j‖ for the default cost), of c itself for kernels in c/σ (Laplacian, Matern). All pairs count
up to EXACT points; beyond, those of EXACT points spaced evenly over the pool, so the answer is deterministic and
depends on the order of the points. If the median is 0 (more than half of the pairs coincide), it is that of the
positive distances; if all points coincide, 1.0, for then every kernel of differences is constant on the pool. Weights
are ignored.

"scott" is s N^(−1/(d+4)), s² the mean over coordinates of the pool's variance (ddof = 1), N its size; 1.0 if s = 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from otdist._arrays import Array

EXACT = 2000
Rule = Callable[[Array, Array, str, bool], float]


def median(x: Array, y: Array, cost: str, root: bool) -> float:
    """Median of the pool's pairwise √c (`root`) or c."""
    from scipy.spatial.distance import pdist

    n, total = len(x), len(x) + len(y)
    if total > EXACT:
        chosen = np.arange(EXACT) * total // EXACT
        x, y = x[chosen[chosen < n]], y[chosen[chosen >= n] - n]
    pool = np.concatenate([x, y]).astype(np.float64)
    scale = float(np.ldexp(1.0, math.frexp(np.max(np.abs(pool - pool[0]), initial=0.0))[1]))
    if cost == "cosine":
        with np.errstate(over="ignore"):
            pool = pool / np.max(np.abs(pool), axis=1, keepdims=True)
        pool, scale = pool / np.linalg.norm(pool, axis=1, keepdims=True), 1.0
    c = pdist(pool / scale if scale else pool, "cityblock" if cost == "cityblock" else "euclidean")
    middle = float(np.median(c)) if c.size else 0.0
    if middle == 0 and np.any(c > 0):
        middle = float(np.median(c[c > 0]))
    if middle == 0:
        return 1.0
    middle *= scale
    power = {"sqeuclidean": 2.0, "euclidean": 1.0, "cityblock": 1.0, "cosine": 2.0}[cost]
    unit = 0.5 if cost == "cosine" else 1.0
    return math.sqrt(unit) * middle ** (power / 2.0) if root else unit * float(np.power(middle, power))


def need_length(cost: str, root: bool) -> None:
    """Scott's rule gives a length."""
    if (cost, root) not in (("sqeuclidean", True), ("euclidean", False), ("cityblock", False)):
        raise ValueError(
            f'bandwidth: found "scott" for a kernel of the cost {cost!r}, whose bandwidth is no length; give a number '
            f'or "median"'
        )


def scott(x: Array, y: Array, cost: str, root: bool) -> float:
    """Scott's rule for the pooled sample."""
    need_length(cost, root)
    n, m = len(x), len(y)
    centre = x[0].astype(np.float64)
    one, two = x - centre, y - centre
    mean = (one.sum(0) + two.sum(0)) / (n + m)
    square = float(np.sum((one - mean) ** 2) + np.sum((two - mean) ** 2))
    deviation = math.sqrt(square / (x.shape[1] * max(n + m - 1, 1)))
    return deviation * float(n + m) ** (-1.0 / (x.shape[1] + 4)) or 1.0


def rule(name: str) -> Rule:
    """The rule called `name`."""
    rules: dict[str, Rule] = {"median": median, "scott": scott}
    if name not in rules:
        raise ValueError(f'bandwidth: found {name!r}; give a number, several, "median" or "scott"')
    return rules[name]
