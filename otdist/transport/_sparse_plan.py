"""The plan of exact transport: some pairs, each with its mass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from otdist._arrays import Array
from otdist.transport import _pulls
from otdist.transport._problem import Problem


@dataclass(frozen=True)
class SparsePlan:
    """Mass `mass[s] > 0` goes from `rows[s]` to `cols[s]`."""

    rows: Array
    cols: Array
    mass: Array
    shape: tuple[int, int]
    problem: Problem
    points: tuple[Array, Array] | None

    def whole(self) -> Any:
        from scipy.sparse import csr_array

        return csr_array((self.mass, (self.rows, self.cols)), shape=self.shape)

    def sent(self) -> Array:
        return np.bincount(self.rows, self.mass, self.shape[0])

    def apply(self, v: Array, *, transpose: bool) -> Array:
        plan = self.whole()
        return np.asarray((plan.T if transpose else plan) @ v)

    def pulls(self) -> tuple[Array, Array]:
        problem: Any = self.problem
        assert self.points is not None
        plan = self.rows, self.cols, self.mass
        return _pulls.by_points(problem, *plan, *self.points, unit=2.0**problem.log_unit)
