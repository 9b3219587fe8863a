"""What tests and solvers return."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np

from otdist._arrays import Array, Door, enter


class ConvergenceWarning(UserWarning):
    """A solver ended before its tolerance was reached; its bounds are true all the same.

    Parameters
    ----------
    *args : object
        The message.

    Examples
    --------
    >>> import warnings
    >>> import otdist as od
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore", od.ConvergenceWarning)
    ...     result = od.emd([[0.0, 1.0], [1.0, 0.0]], time_limit=0.0)
    >>> result.lower_bound <= 0.0 <= result.upper_bound
    True
    """


class Status(StrEnum):
    """How a solve ended; the values are the messages."""

    OPTIMAL = "optimal: the gap is within the tolerance"
    MAX_ITER = "stopped by max_iter before the gap was within the tolerance"
    TIME_LIMIT = "stopped by time_limit before the gap was within the tolerance"
    CALLBACK = "stopped by the callback before the gap was within the tolerance"
    GAP = "ended with a gap above the tolerance"


@dataclass(frozen=True, eq=False)
class TestResult:
    """Outcome of a two-sample test.

    Parameters
    ----------
    statistic : float
        Of the samples as given. For method "aggregated" the least p-value of the kernels, where small is extreme.
    p_value : float
        (1 + number of null statistics at least as extreme) / (1 + permutations), so never 0.
    null : ndarray (permutations,)
        Statistics of the relabelled samples, float64, in the order drawn.
    bandwidth : float, tuple or None
        As used; one per kernel for "aggregated"; None where the kernel has none.
    kernel : str
        The kernel used, as text that builds it; for "aggregated" the one with the least p-value.
    estimator : str
        "biased" or "unbiased".
    method : str
        "permutation", "wild" or "aggregated".
    permutations : int
        Number of random relabellings B.
    n, m : int
        Sizes of the samples.
    alpha : float
        Level at which `reject` judges by default.
    kernels : tuple of str
        For "aggregated": the candidates.
    statistics, p_values : ndarray or None
        For "aggregated": per candidate, its statistic and its own p-value, which holds for that kernel alone.

    Examples
    --------
    >>> import numpy as np
    >>> import otdist as od
    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.standard_normal((60, 2)), rng.standard_normal((50, 2)) + 1.0
    >>> result = od.mmd_test(x, y, permutations=199, rng=0)
    >>> result.p_value, result.reject(), result.reject(alpha=0.001)
    (0.005, True, False)
    """

    __test__ = False  # not a test, whatever its name looks like to pytest

    statistic: float
    p_value: float
    null: Array = field(repr=False)
    bandwidth: Any
    kernel: str
    estimator: str
    method: str
    permutations: int
    n: int
    m: int
    alpha: float = 0.05
    kernels: tuple[str, ...] = ()
    statistics: Array | None = None
    p_values: Array | None = None

    def reject(self, alpha: float | None = None) -> bool:
        """Whether the test rejects equality at level `alpha` (by default its own): p_value <= alpha."""
        level = self.alpha if alpha is None else alpha
        if isinstance(level, bool) or not isinstance(level, (int, float)):
            raise TypeError(f"alpha: found {type(level).__name__}; give a number between 0 and 1")
        if not 0 < level < 1:
            raise ValueError(f"alpha: found {level!r}; a level lies between 0 and 1")
        return self.p_value <= level

    def __repr__(self) -> str:
        words = [
            f"statistic={self.statistic:.6g}",
            f"p_value={self.p_value:.6g}",
            f"method={self.method!r}",
            f"kernel={self.kernel}" + (f" of {len(self.kernels)}" if self.kernels else ""),
            f"estimator={self.estimator!r}",
            f"permutations={self.permutations}",
            f"n={self.n}",
            f"m={self.m}",
        ]
        return f"TestResult({', '.join(words)})"


@dataclass(frozen=True, eq=False)
class Transport:
    """A transport plan, its dual potentials, and the proof of how good they are.

    Parameters
    ----------
    value : scalar
        The optimal cost <P, C> (with the price of unmatched mass, if any), in the library and dtype of the arguments.
    linear : scalar
        <P, C> alone.
    f, g : array, shapes (n,) and (m,)
        Dual potentials, f_i + g_j <= c_ij up to the rounding of one subtraction, equal where mass moves. Determined
        up to a constant added to f and taken from g; here <a, f> = <b, g>. They are the gradient of the value by a, b.
    lower_bound, upper_bound : float
        They bracket the optimum: the dual value and the cost of the plan, float64, rounding taken off.
    gap : float
        upper_bound - lower_bound.
    marginal_error : float
        Sum of the absolute differences between the marginals of the plan and a, b.
    converged : bool
        Whether the gap is within the tolerance asked for, or within rounding of the terms of the bounds.
    n_iter : int
        Bids, pivots and augmentations.
    status : Status
        How the solve ended.
    solver : str
        The engine that was chosen.
    rows, cols, mass : ndarray, shape (s,)
        The plan: `mass[s] > 0` goes from `rows[s]` to `cols[s]`, each pair once, ordered by rows.
    epsilon : float
        Entropic regularisation; 0: exact.

    Examples
    --------
    >>> import otdist as od
    >>> result = od.emd([[0.0, 1.0], [1.0, 0.0]], [0.75, 0.25], [0.25, 0.75])
    >>> float(result.value), result.gap, result.plan.toarray().tolist()
    (0.5, 0.0, [[0.25, 0.5], [0.0, 0.25]])
    """

    value: Any
    linear: Any
    f: Any = field(repr=False)
    g: Any = field(repr=False)
    lower_bound: float
    upper_bound: float
    gap: float
    marginal_error: float
    converged: bool
    n_iter: int
    status: Status
    solver: str
    rows: Array = field(repr=False)
    cols: Array = field(repr=False)
    mass: Array = field(repr=False)
    shape: tuple[int, int]
    epsilon: float = 0.0
    _door: Door | None = field(default=None, repr=False)
    _points: tuple[Any, Any] | None = field(default=None, repr=False)
    _pulls: Callable[[Transport], tuple[Array, Array]] | None = field(default=None, repr=False)

    @cached_property
    def plan(self) -> Any:
        """The coupling as a SciPy sparse array (n, m), float64; `plan.toarray()` is dense."""
        from scipy.sparse import csr_array

        return csr_array((self.mass, (self.rows, self.cols)), shape=self.shape)

    @property
    def assignment(self) -> Array | None:
        """Column of every row (n,), -1 for a row without mass; None if a row's or column's mass is split."""
        if len(np.unique(self.rows)) < len(self.rows) or len(np.unique(self.cols)) < len(self.cols):
            return None
        to = np.full(self.shape[0], -1)
        to[self.rows] = self.cols
        return to

    def apply(self, v: Any, *, transpose: bool = False) -> Any:
        """P v for v (m,) or (m, c), or its transpose P^T v for v (n,) or (n, c); in the library of `v`."""
        door, (host,) = enter(v=v)
        n, m = self.shape[::-1] if transpose else self.shape
        if host.ndim not in (1, 2) or len(host) != m:
            raise ValueError(f"v: found shape {host.shape}; the plan applies to shape ({m},) or ({m}, c)")
        plan = self.plan.T if transpose else self.plan
        return door.leave(np.asarray(plan @ host.astype(np.float64)).reshape(n, *host.shape[1:]))

    def barycentric_map(self, y: Any = None) -> Any:
        """Mean destination of every point of x, sum_j P_ij y_j / sum_j P_ij (n, d); NaN for a point without mass.

        `y` (m, d) is needed only where costs came as a matrix.
        """
        if y is not None:
            door, (host,) = enter(y=y)
        elif self._points is not None and self._door is not None:
            door, host = self._door, self._points[1]
        else:
            raise ValueError("y: found None; costs came as a matrix, so pass the points (m, d) of the columns")
        if host.ndim != 2 or len(host) != self.shape[1]:
            m = self.shape[1]
            raise ValueError(f"y: found shape {host.shape}; the plan has {m} columns: pass points ({m}, d)")
        sent = np.bincount(self.rows, self.mass, self.shape[0])
        with np.errstate(invalid="ignore"):
            mean = np.asarray(self.plan @ host.astype(np.float64)) / sent[:, None]
        return door.leave(mean)

    def point_gradients(self) -> tuple[Any, Any]:
        """Gradients of the value by x (n, d) and y (m, d): sum_j P_ij grad c(x_i, y_j), the plan held fixed.

        Where a cost has a kink (coincident points of a distance), the subgradient 0 is stated.
        """
        if self._pulls is None or self._door is None:
            raise ValueError("point_gradients: costs came as a matrix; the gradient by C is the plan")
        x, y = self._pulls(self)
        return self._door.leave(x), self._door.leave(y)
