"""Between what mass moves, and at what cost: clouds of points and cost matrices, as the caller states them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

COSTS = ("sqeuclidean", "euclidean", "cityblock", "chebyshev", "cosine")


@dataclass(frozen=True, eq=False)
class PointCloud:
    """Two clouds of points and the cost of moving a unit of mass between them; the cost matrix is never stored.

    Parameters
    ----------
    x : array_like, shape (n, d)
        Points that mass leaves, of any supported array library.
    y : array_like, shape (m, d), optional
        Points it goes to; by default those of `x`.
    cost : {"sqeuclidean", "euclidean", "cityblock", "chebyshev", "cosine"}, default "sqeuclidean"
        ||x - y||^2 (not halved), ||x - y||, sum |x_k - y_k|, max |x_k - y_k|, 1 - cos(x, y).
    p : float, default 1
        The cost is raised to this power, p >= 1.

    Examples
    --------
    >>> import numpy as np
    >>> import otdist as od
    >>> cloud = od.PointCloud(np.zeros((3, 2)), np.ones((4, 2)), cost="cityblock")
    >>> cloud.shape, float(od.emd(cloud).value)
    ((3, 4), 2.0)
    """

    x: Any
    y: Any = None
    cost: str = "sqeuclidean"
    p: float = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        """(n, m)."""
        return len(self.x), len(self.x if self.y is None else self.y)


@dataclass(frozen=True, eq=False)
class CostMatrix:
    """A matrix of costs.

    Parameters
    ----------
    C : array_like, shape (n, m)
        Cost of moving a unit of mass from i to j, of any sign; +inf where it may not move.

    Examples
    --------
    >>> import otdist as od
    >>> float(od.emd(od.CostMatrix([[0.0, 1.0], [1.0, 0.0]])).value)
    0.0
    """

    C: Any

    @property
    def shape(self) -> tuple[int, int]:
        """(n, m)."""
        n, m = self.C.shape if hasattr(self.C, "shape") else (len(self.C), len(self.C[0]))
        return n, m
