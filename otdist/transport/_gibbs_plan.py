"""Entropic plans a x b exp((f + g - C)/epsilon): applied, differentiated, and stored only where they are asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from otdist._arrays import Array
from otdist.transport import _bounds, _grid_entropic
from otdist.transport._entropic_pulls import by_points
from otdist.transport._gibbs import Entropic, Potentials
from otdist.transport._implicit import Cotangent, Direction, Gradients, hvp, vjp
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
        found = by_points(self.task, self.potentials.phi, self.potentials.gamma, given=self._given())
        out = tuple(np.zeros(z.shape) for z in self.points)
        for to, numbers, pull in zip(out, (self.rows, self.cols), found, strict=True):
            to[numbers] = self.total * pull
        return out[0], out[1]

    def vjp(self, bar: Cotangent) -> Gradients:
        """Gradients of a function of f, g, <P, C> and P with these cotangents; rows without mass take no part."""
        part = Cotangent(
            None if bar.f is None else bar.f[self.rows],
            None if bar.g is None else bar.g[self.cols],
            self.total * bar.linear,
            None if bar.plan is None else self.total * bar.plan[np.ix_(self.rows, self.cols)],
        )
        found = vjp(self.task, self.potentials.phi, self.potentials.gamma, part, given=self._given())
        return self._spread(found)

    def hvp(self, move: Direction) -> Gradients:
        """How the gradients of the value change in a direction; rows without mass take no part."""
        part = Direction(
            None if move.costs is None else move.costs[np.ix_(self.rows, self.cols)],
            None if move.x is None else move.x[self.rows],
            None if move.y is None else move.y[self.cols],
            None if move.a is None else move.a[self.rows] / self.total,
            None if move.b is None else move.b[self.cols] / self.total,
        )
        found = hvp(self.task, self.potentials.phi, self.potentials.gamma, part, given=self._given())
        return self._spread(
            replace(
                found,
                costs=None if found.costs is None else self.total * found.costs,
                x=None if found.x is None else self.total * found.x,
                y=None if found.y is None else self.total * found.y,
                a=self.total * found.a,
                b=self.total * found.b,
            )
        )

    def _given(self) -> tuple[Array, Array] | None:
        return None if self.points is None else (self.points[0][self.rows], self.points[1][self.cols])

    def _spread(self, found: Gradients) -> Gradients:
        """Gradients of the caller's arguments, of those between rows and columns with mass."""
        n, m = self.shape
        costs = None
        if found.costs is not None:
            costs = np.zeros(self.shape)
            costs[np.ix_(self.rows, self.cols)] = found.costs
        sides = ((found.x, self.rows, n), (found.y, self.cols, m), (found.a, self.rows, n), (found.b, self.cols, m))
        whole = [None if part is None else _scattered(part, at, size) for part, at, size in sides]
        by_a, by_b = (np.asarray(part) / self.total for part in whole[2:])
        return Gradients(costs, whole[0], whole[1], by_a, by_b, found.residual)


def _scattered(part: Array, at: Array, size: int) -> Array:
    out = np.zeros((size, *part.shape[1:]))
    out[at] = part
    return out


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

    def pulled(self, **bars: Array) -> dict[str, Any]:
        """`Transport.vjp`."""
        split = self._split(bars)
        return self._derivatives([part.vjp(Cotangent(**one)) for part, one in zip(self.parts, split, strict=True)])

    def moved(self, **moves: Array) -> dict[str, Any]:
        """`Transport.hvp`."""
        split = self._split(moves)
        return self._derivatives([part.hvp(Direction(**one)) for part, one in zip(self.parts, split, strict=True)])

    def _split(self, arrays: dict[str, Array]) -> list[dict[str, Any]]:
        batch = len(self.shape) - 2
        flat = {name: z.reshape(len(self.parts), *z.shape[batch:]) for name, z in arrays.items()}
        return [
            {name: float(z[k]) if name == "linear" else z[k] for name, z in flat.items()}
            for k in range(len(self.parts))
        ]

    def _derivatives(self, found: list[Gradients]) -> dict[str, Any]:
        out = {}
        for name in ("costs", "x", "y", "a", "b"):
            parts = [getattr(one, name) for one in found]
            out[name] = None if parts[0] is None else self._stacked(parts, None)
        return out

    def _stacked(self, found: list[Array], tail: Any) -> Array:
        tail = found[0].shape if tail is None else tail
        return np.array(found).reshape(*self.shape[:-2], *tail)
