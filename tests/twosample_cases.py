"""What the tests of two samples are judged by: kernels in a line of NumPy, the definition of MMD, labels drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

import otdist as od

Array = np.ndarray[Any, np.dtype[Any]]

# What each kernel is, in a line of NumPy.
KERNELS: dict[str, tuple[Any, Callable[[Array, Array], Array]]] = {
    "gaussian": (od.Gaussian(1.5), lambda x, y: np.exp(-cdist(x, y, "sqeuclidean") / 4.5)),
    "laplacian": (od.Laplacian(2.0), lambda x, y: np.exp(-cdist(x, y, "cityblock") / 2.0)),
    "energy": (od.Energy(), lambda x, y: -cdist(x, y)),
    "power": (od.Energy(0.7), lambda x, y: -(cdist(x, y) ** 0.7)),
    "polynomial": (od.Polynomial(), lambda x, y: (x @ y.T / x.shape[1] + 1.0) ** 3),
    "mixture": (
        od.Gaussian(1.0) + od.Linear(),
        lambda x, y: np.exp(-cdist(x, y, "sqeuclidean") / 2) + x @ y.T,
    ),
}


def mmd(k: Callable[[Array, Array], Array], x: Array, y: Array, estimator: str) -> float:
    """The definition."""
    n, m, xx, yy = len(x), len(y), k(x, x), k(y, y)
    if estimator == "biased":
        return float(xx.mean() + yy.mean() - 2 * k(x, y).mean())
    own = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return float(own - 2 * k(x, y).mean())


def samples(n: int, m: int, d: int = 3, shift: float = 0.3, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), rng.standard_normal((m, d)) * 1.1 + shift


def labels(draw: Callable[..., Array], seed: int, permutations: int, *args: int) -> Array:
    """The labels a test with this seed draws: one seed a column."""
    seeds = np.random.default_rng(seed).integers(0, 2**64, size=permutations, dtype=np.uint64)
    return draw(seeds, *args)


def p_value(statistic: float, null: Array) -> float:
    return float((1 + np.count_nonzero(null >= statistic - 1e-12)) / (1 + len(null)))
