"""How large costs are: means and quantiles of all pairs, from which a regularisation is chosen."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from otdist._arrays import Array, enter
from otdist._expression import number
from otdist.catalogue import choose
from otdist.kernels import costs
from otdist.kernels.profiles import Squared
from otdist.transport._entropic_input import entered
from otdist.transport._problem import Gridded, Matrix, Points
from otdist.transport.geometry import COSTS
from otdist.transport.line import exponent

__all__ = ["epsilon_from"]

# Regularisation by default, as a part of the mean cost.
FRACTION = 0.05
TYPICAL = ("mean", "max", "median", "std")
# Costs that are held at a time.
TILE = 1 << 20


def epsilon_from(
    costs: Any = None,
    a: Any = None,
    b: Any = None,
    *,
    blur: float | None = None,
    fraction: float = FRACTION,
    of: str = "mean",
    cost: str = "sqeuclidean",
    p: float = 1.0,
) -> float:
    """Epsilon from a length, or from the costs.

    Parameters
    ----------
    costs : array_like (n, m), CostMatrix, PointCloud or Grid, optional
        Costs of which epsilon is to be a fraction; one problem, no batch. A grid needs a and b.
    a, b : array_like, shapes (n,) and (m,), optional
        Masses under which a mean is taken; by default uniform.
    blur : float, optional
        Instead: the length over which the plan is blurred, the standard deviation of a Gaussian kernel exp(-c/epsilon)
        for squared distances: epsilon = 2 blur^2. For other costs, which are d^q in a distance d, epsilon = blur^q.
    fraction : float, default 0.05
        Epsilon divided by the typical cost.
    of : {"mean", "max", "median", "std"}, default "mean"
        The typical cost: mean or standard deviation under a x b, or maximum or median over all pairs, with mass or
        without.
    cost, p : optional
        With `blur`: the cost, as for `PointCloud`.

    Returns
    -------
    float
        In the units of the costs.

    Raises
    ------
    ValueError, TypeError
        Naming the argument.

    Notes
    -----
    GeomLoss halves squared distances: its blur is this one. OTT's default is fraction=0.05, of="std"; POT's `reg` is
    epsilon itself.

    Examples
    --------
    >>> import otdist as od
    >>> od.epsilon_from(blur=0.5), od.epsilon_from([[0.0, 1.0], [1.0, 0.0]], fraction=0.1)
    (0.5, 0.05)
    """
    if (costs is None) == (blur is None):
        raise ValueError("costs and blur: give one of them, the costs or a length")
    if blur is not None:
        length = number("blur", blur, 0.0)
        degree = exponent(p, finite=True) * (2.0 if choose("cost", cost, COSTS) == "sqeuclidean" else 1.0)
        with np.errstate(over="ignore", under="ignore"):
            found = float(np.float64(length) ** degree) * (2.0 if cost == "sqeuclidean" and degree == 2.0 else 1.0)
        if not 0.0 < found < math.inf:
            raise ValueError(f"blur: found {blur!r}; its power {degree:g} is out of the range of float64")
        return found
    given = entered(costs, a, b)
    if given.batch:
        raise ValueError(f"costs: found a batch of shape {given.batch}; give one problem")
    size = typical_cost(given.problem(0), given.a[0], given.b[0], choose("of", of, TYPICAL))
    if not 0.0 < size < math.inf:
        raise ValueError(f"costs: found a {of} of {size:g}; pass epsilon itself, in the units of the costs")
    return number("fraction", fraction, 0.0) * size


def chosen(epsilon: Any, problems: list[Any], a: Array, b: Array, batch: tuple[int, ...]) -> list[float]:
    """The regularisation of every problem: as given, else a part of its mean cost under a x b."""
    if isinstance(epsilon, list | tuple) or np.ndim(epsilon) > 0:
        _, (each,) = enter(epsilon=epsilon)
        if each.shape != batch:
            raise ValueError(
                f"epsilon: found shape {each.shape}; give one number, or one for each of the batch {batch}"
            )
        return [number("epsilon", float(one), 0.0) for one in each.reshape(-1)]
    if epsilon is not None:
        return [number("epsilon", epsilon, 0.0)] * len(problems)
    return [_by_default(problem, mean_cost(problem, p, q)) for problem, p, q in zip(problems, a, b, strict=True)]


def _by_default(problem: Any, mean: float) -> float:
    if mean == 0.0 and not (isinstance(problem, Matrix) and np.any(problem.C[np.isfinite(problem.C)])):
        return 1.0  # one point: any regularisation gives the same plan
    if not 0.0 < mean < math.inf:
        raise ValueError(f"epsilon: found None and costs with mean {mean:g}; pass epsilon, in the units of the costs")
    return FRACTION * mean


def mean_cost(problem: Any, a: Array, b: Array) -> float:
    """The mean of the finite costs under a x b, in the caller's units."""
    p, q = a / a.sum(), b / b.sum()
    unit = float(2.0**problem.log_unit)
    if isinstance(problem, Gridded):
        return math.fsum(_axis_mean(problem.grid, k, p, q) for k in range(len(problem.grid.shape)))
    if isinstance(problem, Points) and isinstance(problem.cost, Squared):
        at, to = p @ problem.x, q @ problem.y
        around = float(p @ ((problem.x - at) ** 2).sum(1)) + float(q @ ((problem.y - to) ** 2).sum(1))
        return unit * (around + float((at - to) @ (at - to)))
    total = mass = 0.0
    for part, C in tiles(problem):
        finite = np.isfinite(C)
        total += float(p[part] @ np.where(finite, C, 0.0) @ q)
        mass += float(p[part] @ finite @ q)
    return unit * total / mass if mass > 0.0 else math.inf


def typical_cost(problem: Any, a: Array, b: Array, of: str) -> float:
    """The mean or standard deviation of the finite costs under a x b, their maximum or their median over all pairs."""
    if of == "mean":
        return mean_cost(problem, a, b)
    unit = float(2.0**problem.log_unit)
    if of == "median":
        C = problem.matrix()
        return unit * float(np.median(C[np.isfinite(C)]))
    if of == "max":
        return unit * max(float(np.max(C, where=np.isfinite(C), initial=-math.inf)) for _, C in tiles(problem))
    mean = mean_cost(problem, a, b) / unit
    p, q = a / a.sum(), b / b.sum()
    total = mass = 0.0
    for part, C in tiles(problem):
        finite = np.isfinite(C)
        total += float(p[part] @ np.where(finite, C - mean, 0.0) ** 2 @ q)
        mass += float(p[part] @ finite @ q)
    return unit * math.sqrt(total / mass) if mass > 0.0 else math.inf


def tiles(problem: Any) -> Iterator[tuple[slice, Array]]:
    """All costs, some rows at a time, in the units of the problem."""
    n, m = problem.shape
    step = max(1, TILE // m)
    for start in range(0, n, step):
        part = slice(start, min(start + step, n))
        if isinstance(problem, Points):
            C = np.empty((part.stop - start, m))
            costs.block(problem.cost, problem.x[part], problem.y, C)
        elif isinstance(problem, Gridded):
            C = np.asarray(problem.grid.cost(np.arange(part.start, part.stop)[:, None], np.arange(m)), np.float64)
        else:
            C = np.asarray(problem.C[part], np.float64)
        yield part, C


def _axis_mean(grid: Any, k: int, p: Array, q: Array) -> float:
    others = tuple(i for i in range(len(grid.shape)) if i != k)
    u, v = (w.reshape(grid.shape).sum(axis=others) for w in (p, q))
    x = grid.axes[k]
    return float(u @ np.abs(x[:, None] - x) ** grid.power @ v)
