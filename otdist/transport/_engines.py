"""Which engine solves an entropic problem, and which pass judges it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from otdist._arrays import Array
from otdist.transport._gibbs import Bounds, Entropic, Potentials
from otdist.transport._problem import DIFFERENCES, Gridded, Matrix, Points
from otdist.transport._solution import Watch

METHODS = ("auto", "sinkhorn", "newton", "multiscale")
# Pairs above which points in up to three dimensions are worth a tree, if their extent is so many blurs.
PRUNED_PAIRS, PRUNED_BLURS = 1 << 26, 12.0
# Points in so few dimensions are swept without a matrix: from this ratio of epsilon to the spread of costs on whatever
# their number, from the next with so many pairs; Newton's method takes over after so many passes.
EASY, FEW_DIMENSIONS, LIGHT, SWEPT_PAIRS, SWEEPS = 6e-2, 3, 1e-2, 1 << 21, 40
# Pairs up to which all are looked at to judge them, where a list would do.
JUDGED_PAIRS = 1 << 28


@dataclass(frozen=True)
class Engine:
    """Two functions: potentials of a task, and what they prove."""

    solve: Callable[[Entropic, Watch, Array | None], Potentials]
    judge: Callable[[Entropic, Potentials], Bounds]


def engine(task: Entropic, method: str) -> Engine:
    """The engine of this name, or for "auto" the one that suits the problem."""
    problem = task.problem
    if isinstance(problem, Gridded):
        if method not in ("auto", "sinkhorn"):
            raise ValueError(f'method: found {method!r}; on a grid there is "sinkhorn"')
        return _on_grid()
    name = _suited(task) if method == "auto" else method
    if name == "multiscale" and (not isinstance(problem, Points) or problem.x.shape[1] > 3):
        raise ValueError('method: found "multiscale", which needs points (PointCloud) in at most 3 dimensions')
    if name == "newton" and _stored(task) > task.memory:
        raise ValueError(
            f'method: found "newton", which stores {_stored(task) / 2**30:.1f} GiB here; raise memory_limit or use '
            f'"sinkhorn", which streams'
        )
    engines = {"multiscale": _multiscale, "newton": _newton, "sinkhorn": _streamed, "both": _swept}
    return engines[name](task)


def itself(task: Entropic) -> Engine:
    """The engine for transport from a cloud to itself."""
    if _suited(task) == "multiscale":
        return _multiscale(task)
    from otdist.transport._bounds import judge
    from otdist.transport._self import solve

    return Engine(solve, judge)


def _on_grid() -> Engine:
    from otdist.transport._grid_entropic import judge, solve

    return Engine(solve, judge)


def _multiscale(task: Entropic) -> Engine:
    from otdist.transport import _bounds, _multiscale_bounds
    from otdist.transport._multiscale import solve

    n, m = task.shape
    whole = n * m <= JUDGED_PAIRS or task.kappa != (1.0, 1.0)
    return Engine(solve, _bounds.judge if whole else _multiscale_bounds.judge)


def _newton(task: Entropic) -> Engine:
    from otdist.kernels.softmin_pairs import PointPairs
    from otdist.transport import _bounds, _semidual

    pairs = None if isinstance(task.problem, Matrix) else _bounds.pairs_of(task.problem)
    if not (isinstance(pairs, PointPairs) and pairs.made):
        return Engine(_semidual.solve, _bounds.judge)
    # many coordinates: the matrix that the engine stores is read again by the judge, and forgotten with the answer
    stored = replace(task, problem=Matrix(pairs.matrix()))
    return Engine(
        lambda _, watch, start: _semidual.solve(stored, watch, start), lambda _, found: _bounds.judge(stored, found)
    )


def _streamed(task: Entropic) -> Engine:
    from otdist.transport._bounds import judge
    from otdist.transport._sweeps import solve

    return Engine(solve, judge)


class _Part(Watch):
    """A watch for a part of a solve: passes from `before` on, `most` of them."""

    def __init__(self, whole: Watch, before: int = 0, most: float = math.inf) -> None:
        super().__init__()
        self._whole, self._before, self._most = whole, before, most

    def stop(self, stage: str, iterations: int, **figures: float) -> bool:
        enough = "max_iter" if iterations >= self._most else ""
        self.stopped = self._whole.stopped if self._whole.stop(stage, self._before + iterations, **figures) else enough
        return bool(self.stopped)


def _swept(task: Entropic) -> Engine:
    """Sweeps, which need no matrix; Newton's method from where these have come, if that is not far enough."""
    from otdist.transport._sweeps import solve

    def both(task: Entropic, watch: Watch, start: Array | None) -> Potentials:
        first = solve(task, _Part(watch, most=SWEEPS), start)
        if not first.stopped or watch.stopped:
            return first
        then = _newton(task).solve(task, _Part(watch, first.iterations), first.gamma)
        return replace(then, iterations=first.iterations + then.iterations)

    return Engine(both, _streamed(task).judge)


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
    if _stored(task) > task.memory:
        return "sinkhorn"
    if isinstance(problem, Points) and problem.x.shape[1] <= DIFFERENCES:
        from otdist.transport._sweeps import spread

        many = problem.x.shape[1] <= FEW_DIMENSIONS and n * m >= SWEPT_PAIRS
        if task.epsilon >= (LIGHT if many else EASY) * spread(problem)[0]:
            return "both"
    return "newton"
