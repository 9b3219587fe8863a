"""Which engine solves an entropic problem, and which pass judges it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from otdist._arrays import Array
from otdist.transport._gibbs import Bounds, Entropic, Potentials
from otdist.transport._problem import Gridded, Matrix, Points
from otdist.transport._solution import Watch

METHODS = ("auto", "sinkhorn", "newton", "multiscale")
# Pairs above which points in up to three dimensions are worth a tree, if their extent is so many blurs.
PRUNED_PAIRS, PRUNED_BLURS = 1 << 26, 12.0


@dataclass(frozen=True)
class Engine:
    """Two functions: potentials of a task, and what they prove."""

    solve: Callable[[Entropic, Watch, Array | None], Potentials]
    judge: Callable[[Entropic, Potentials], Bounds]


def engine(task: Entropic, method: str) -> Engine:
    """The engine of this name, or for "auto" the one that suits the problem."""
    problem = task.problem
    if isinstance(problem, Gridded):
        from otdist.transport import _grid_entropic

        if method not in ("auto", "sinkhorn"):
            raise ValueError(f'method: found {method!r}; on a grid there is "sinkhorn"')
        return Engine(_grid_entropic.solve, _grid_entropic.judge)
    from otdist.transport import _bounds

    name = _suited(task) if method == "auto" else method
    if name == "multiscale":
        if not isinstance(problem, Points) or problem.x.shape[1] > 3:
            raise ValueError('method: found "multiscale", which needs points (PointCloud) in at most 3 dimensions')
        from otdist.transport import _multiscale

        return Engine(_multiscale.solve, _multiscale.judge)
    if name == "newton":
        from otdist.transport import _semidual

        if _stored(task) > task.memory:
            raise ValueError(
                f'method: found "newton", which stores {_stored(task) / 2**30:.1f} GiB here; raise memory_limit or '
                f'use "sinkhorn", which streams'
            )
        return Engine(_semidual.solve, _bounds.judge)
    from otdist.transport import _sweeps

    return Engine(_sweeps.solve, _bounds.judge)


def itself() -> Engine:
    """The engine for transport from a cloud to itself."""
    from otdist.transport import _bounds, _self

    return Engine(_self.solve, _bounds.judge)


def _stored(task: Entropic) -> int:
    """Bytes that the engine "newton" needs: the plan in float32, and of points the costs."""
    n, m = task.shape
    return n * m * (4 if isinstance(task.problem, Matrix) else 12)


def _suited(task: Entropic) -> str:
    n, m = task.shape
    problem = task.problem
    if isinstance(problem, Points) and problem.x.shape[1] <= 3 and n * m > PRUNED_PAIRS:
        both = np.concatenate([problem.x, problem.y])
        from otdist.kernels.costs import power

        blur = task.epsilon ** (1.0 / power(problem.cost))
        if float(np.max(np.ptp(both, axis=0))) > PRUNED_BLURS * blur:
            return "multiscale"
    return "newton" if _stored(task) <= task.memory else "sinkhorn"
