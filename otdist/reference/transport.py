"""Optimal transport as definitions: the linear program, its dual, and the two cases with a formula.

Small problems only: the program of n x m costs has n m unknowns. The costs between points are those of SciPy's `cdist`.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def marginals(n: int, m: int) -> Any:
    """A with A vec(P) = (P 1, P^T 1)."""
    return np.vstack([np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))])


def emd(C: Any, a: Any, b: Any) -> float:
    """min <P, C> over P >= 0 with P 1 = a, P^T 1 = b; right to about 1e-7 of the largest cost."""
    from scipy.optimize import linprog

    size = float(np.max(np.abs(C))) or 1.0
    found = linprog(np.ravel(C) / size, A_eq=marginals(*np.shape(C)), b_eq=np.concatenate([a, b]), method="highs")
    return float(found.fun) * size


def partial_emd(C: Any, a: Any, b: Any, mass: float) -> float:
    """min <P, C> over P >= 0 with P 1 <= a, P^T 1 <= b, sum P = mass."""
    from scipy.optimize import linprog

    n, m = np.shape(C)
    found = linprog(np.ravel(C), marginals(n, m), np.concatenate([a, b]), np.ones((1, n * m)), [mass], method="highs")
    return float(found.fun)


def unmatched_emd(C: Any, a: Any, b: Any, price: float) -> float:
    """min <P, C> + price (sum a + sum b - 2 sum P) over P >= 0 with P 1 <= a, P^T 1 <= b."""
    from scipy.optimize import linprog

    found = linprog(np.ravel(C) - 2.0 * price, marginals(*np.shape(C)), np.concatenate([a, b]), method="highs")
    return float(found.fun) + price * float(np.sum(a) + np.sum(b))


def c_transform(C: Any, g: Any) -> Any:
    """f_i = min_j c_ij - g_j: the best potentials of the rows, given those of the columns."""
    return np.min(C - np.asarray(g), axis=-1)


def assignment(C: Any) -> float:
    """min over permutations s of sum_i c_(i, s(i)), by trying all."""
    from itertools import permutations

    n = len(C)
    return float(min(sum(C[i][s[i]] for i in range(n)) for s in permutations(range(n))))


def wasserstein_1d(u: Any, v: Any, p: float = 1.0) -> float:
    """(mean |u_(i) - v_(i)|^p)^(1/p) of as many points u as v, sorted."""
    return float(np.mean(np.abs(np.sort(u) - np.sort(v)) ** p) ** (1.0 / p))
