"""Potentials at a small epsilon: those of a sample, extended to all atoms, followed down a path of falling epsilon."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from otdist._arrays import Array
from otdist.transport._semidual_plan import Costs, Level, Work
from otdist.transport._semidual_stage import settle

# Epsilon over the range of the costs below which plans are listed if few pairs matter.
LISTED = 5e-3
# The same of the first stage of all, and of the stage where a sample hands over; that of its own sample is DEEPER.
FIRST, HANDOVER, DEEPER = 0.1, 4e-3, 2.0
# Largest fall of epsilon in one stage; tolerances of a stage and of a sample.
FALL, WAYPOINT, SAMPLED = 2.5, 1e-2, 3e-2
# A sample is this part of the atoms, and not fewer than so many.
PART, FEWEST = 4, 200


@dataclass(frozen=True)
class Prices:
    """rho of both sides, infinite where masses are prescribed."""

    a: float
    b: float

    @classmethod
    def of(cls, kappa: tuple[float, float], epsilon: float) -> Prices:
        return cls(*(epsilon * k / (1.0 - k) if k < 1.0 else math.inf for k in kappa))

    def kappa(self, epsilon: float) -> tuple[float, float]:
        return 1.0 / (1.0 + epsilon / self.a), 1.0 / (1.0 + epsilon / self.b)


def descend(costs: Costs, epsilon: float, tol: float, prices: Prices, work: Work, handover: float = HANDOVER) -> Level:
    """A level at `epsilon`; `tol` <= 0 leaves the last stage to the caller."""
    top = max(epsilon, handover * costs.size)
    level = _extended(costs, top, prices, work, handover)
    if level is None:
        top = max(epsilon, FIRST * costs.size)
        level = Level.at(costs, top, prices.kappa(top), np.zeros(costs.m), work)
        falls = 0
    else:
        falls = 1
    count = math.ceil(math.log(top / epsilon) / math.log(FALL) - 1e-9)
    stages = [epsilon * (top / epsilon) ** (1.0 - k / max(count, 1)) for k in range(count + 1)]
    for stage in stages[min(falls, count) :]:
        level = level.cooled(stage, prices.kappa(stage))
        last = stage == stages[-1]
        if (last and tol <= 0.0) or work.over:
            continue
        settle(level, tol if last else WAYPOINT, exact=False, listed=stage < LISTED * costs.size)
    return level


def _extended(costs: Costs, epsilon: float, prices: Prices, work: Work, handover: float) -> Level | None:
    """The level at `epsilon` with potentials of a sample, extended by a soft minimum; None without a sample."""
    count = min(costs.n, costs.m) // PART
    if count < FEWEST:
        return None
    generator = np.random.default_rng(0)
    (rows, a), (cols, b) = (_sample(mass, count, generator) for mass in (costs.a, costs.b))
    C = np.ascontiguousarray(costs.C[np.ix_(rows, cols)])
    if not np.all(np.isfinite(C)):
        return None
    inner = descend(Costs(C, a, b, costs.shift), epsilon, SAMPLED, prices, work, DEEPER * handover)
    inner.measure()
    level = Level.at(costs, epsilon, prices.kappa(epsilon), np.zeros(costs.m), work)
    level.soften(rows, inner.charges)
    return level


def _sample(mass: Array, count: int, generator: np.random.Generator) -> tuple[Array, Array]:
    """Atoms that stand for all: every count-th of the mass in random order, and what each stands for."""
    order = generator.permutation(len(mass))
    ends = np.cumsum(mass[order])
    at = np.searchsorted(ends, (np.arange(count) + 0.5) * (ends[-1] / count))
    picked, times = np.unique(order[np.minimum(at, len(mass) - 1)], return_counts=True)
    return picked, times * (ends[-1] / count)
