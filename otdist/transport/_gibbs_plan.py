"""Entropic plans a x b exp((f + g - C)/epsilon): applied, differentiated, and stored only where they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from otdist._arrays import Array
from otdist.transport import _bounds, _grid_entropic
from otdist.transport._entropic_pulls import by_points
from otdist.transport._gibbs import Entropic, Potentials
from otdist.transport._problem import Gridded


@dataclass(frozen=True)
class Gibbs:
    """One entropic plan: `total` times that of the potentials, between the rows and columns with mass."""

    task: Entropic
    potentials: Potentials
    rows: Array
    cols: Array
    shape: tuple[int, int]
    total: float
    points: tuple[Array, Array] | None = None  # as the caller gave them

    def whole(self) -> Array:
        """The plan (n, m)."""
        if isinstance(self.task.problem, Gridded):
            return self.apply(np.eye(self.shape[1]), transpose=False)
        out = np.zeros(self.shape)
        part = _bounds.dense(self.task, self.potentials.phi, self.potentials.gamma)
        out[np.ix_(self.rows, self.cols)] = self.total * part
        return out

    def apply(self, v: Array, transpose: bool) -> Array:
        """P v or P^T v."""
        module: Any = _grid_entropic if isinstance(self.task.problem, Gridded) else _bounds
        here, there = (self.cols, self.rows) if transpose else (self.rows, self.cols)
        given = np.ascontiguousarray(v[there])
        out = np.zeros((self.shape[1 if transpose else 0], *v.shape[1:]))
        out[here] = self.total * module.applied(self.task, self.potentials.phi, self.potentials.gamma, given, transpose)
        return out

    def pulls(self) -> tuple[Array, Array]:
        """Gradients of the value by the points of both sides."""
        assert self.points is not None
        given = self.points[0][self.rows], self.points[1][self.cols]
        found = by_points(self.task, self.potentials.phi, self.potentials.gamma, given=given)
        out = tuple(np.zeros(z.shape) for z in self.points)
        for to, numbers, pull in zip(out, (self.rows, self.cols), found, strict=True):
            to[numbers] = self.total * pull
        return out[0], out[1]


@dataclass(frozen=True)
class GibbsPlan:
    """The entropic plans of a batch."""

    parts: tuple[Gibbs, ...]
    shape: tuple[int, ...]  # (..., n, m)

    def whole(self) -> Array:
        return self._stacked([part.whole() for part in self.parts], self.shape[-2:])

    def sent(self) -> Array:
        return self.apply(np.ones((*self.shape[:-2], self.shape[-1])), transpose=False)

    def apply(self, v: Array, *, transpose: bool) -> Array:
        batch = len(self.shape) - 2
        columns = v.reshape(len(self.parts), *v.shape[batch:])
        found = [part.apply(column, transpose) for part, column in zip(self.parts, columns, strict=True)]
        return self._stacked(found, (self.shape[-1 if transpose else -2], *v.shape[batch + 1 :]))

    def pulls(self) -> tuple[Array, Array]:
        pairs = [part.pulls() for part in self.parts]
        x, y = (self._stacked([pair[side] for pair in pairs], None) for side in (0, 1))
        return x, y

    def _stacked(self, found: list[Array], tail: Any) -> Array:
        tail = found[0].shape if tail is None else tail
        return np.array(found).reshape(*self.shape[:-2], *tail)
