"""Partial transport as balanced transport with one more row and one more column.

Of `mass` s: the new row sends what b lacks, sum b - s, and the new column takes what a keeps, sum a - s, at no cost;
between the two nothing moves. With a `price` for mass that stays: the new row holds sum b and the new column takes
sum a, at that price, and at no cost between the two. Dual potentials of the wide problem, restricted, are those of the
narrow one: unmatched mass has potential 0 (or the price).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from otdist._arrays import Array
from otdist._expression import number
from otdist.transport._exact import Answer
from otdist.transport._problem import MATRIX_PAIRS, Matrix, Problem


@dataclass(frozen=True)
class Wide:
    """A balanced problem; where it has more rows or columns than the narrow one, the last stands for leaving mass."""

    problem: Matrix
    a: Array
    b: Array


def extended(problem: Problem, a: Array, b: Array, mass: Any, price: Any) -> Wide:
    """The balanced problem that moves `mass`, or pays `price` for what it leaves."""
    if mass is not None and price is not None:
        raise ValueError("mass and unmatched: found both; give the mass to move or the price of leaving it")
    n, m = problem.shape
    if (n + 1) * (m + 1) > MATRIX_PAIRS:
        raise ValueError(f"costs: found {n} x {m} pairs; partial transport needs the matrix, at most 2^28 pairs")
    total, other = math.fsum(a.tolist()), math.fsum(b.tolist())
    if price is None:
        s = number("mass", mass, 0.0)
        if s > min(total, other) * (1.0 + 2.0**-40):
            raise ValueError(f"mass: found {s:g}; at most {min(total, other):g}, the smaller total, can move")
        stays, lacks = max(total - s, 0.0), max(other - s, 0.0)
        edge, corner = 0.0, np.inf
    else:
        edge, corner = number("unmatched", price, 0.0, closed=True) * 2.0**-problem.log_unit, 0.0
        stays, lacks = total, other
    C = np.empty((n + 1, m + 1))
    C[:n, :m] = problem.matrix()
    C[n], C[:, m], C[n, m] = edge, edge, corner
    return Wide(Matrix(C, problem.log_unit), *_balanced(np.append(a, lacks), np.append(b, stays)))


def _balanced(a: Array, b: Array) -> tuple[Array, Array]:
    """Both sides with one total: the difference, of the size of rounding, goes to the larger of the new entries."""
    excess = math.fsum([*a.tolist(), *(-b).tolist()])
    if excess > 0.0:
        b[-1] += excess
    else:
        a[-1] -= excess
    return a, b


def real_part(answer: Answer, shape: tuple[int, int]) -> Answer:
    """The answer without the row and the column that were added; its value and bounds stay those of the whole."""
    n, m = shape
    found = answer.solution
    real = (found.rows < n) & (found.cols < m)
    narrow = replace(found, rows=found.rows[real], cols=found.cols[real], mass=found.mass[real])
    return replace(answer, solution=narrow, f=answer.f[:n], g=answer.g[:m])
