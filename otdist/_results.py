"""What tests and solvers return."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, Protocol

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
    CONVERGED = "converged: the marginal error is within the tolerance"
    MAX_ITER = "stopped by max_iter before the tolerance was reached"
    TIME_LIMIT = "stopped by time_limit before the tolerance was reached"
    CALLBACK = "stopped by the callback before the tolerance was reached"
    GAP = "ended with a gap above the tolerance"
    MARGINALS = "ended with a marginal error above the tolerance"


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
class Derivatives:
    """Derivatives of, or along, an entropic solution, by each argument it has: None where there is none.

    Parameters
    ----------
    costs : array (..., n, m) or None
        By the matrix of costs.
    x, y : array (..., n, d), (..., m, d) or None
        By the points; where the cloud was given without y, y is the second role of x.
    a, b : array (..., n), (..., m)
        By the masses; balanced ones lie on a simplex, so these have mean 0.
    """

    costs: Any
    x: Any
    y: Any
    a: Any
    b: Any


class Plan(Protocol):
    """Where mass goes, in float64 and in the indices of the caller."""

    def whole(self) -> Any:
        """The coupling: a SciPy sparse array, or an ndarray (..., n, m)."""

    def sent(self) -> Array:
        """What leaves every row (..., n)."""

    def apply(self, v: Array, *, transpose: bool) -> Array:
        """P v for v (..., m) or (..., m, c), or P^T v."""

    def pulls(self) -> tuple[Array, Array]:
        """Gradients of the value by the points of both sides, the plan held fixed."""


@dataclass(frozen=True, eq=False)
class Transport:
    """A transport plan, its dual potentials, and the proof of how good they are.

    Parameters
    ----------
    value : scalar or array (...)
        The optimal cost: <P, C>, with the price of unmatched mass, if any, and of regularisation (`epsilon`); in the
        library and dtype of the arguments.
    linear : scalar or array (...)
        <P, C> alone.
    f, g : array, shapes (..., n) and (..., m)
        Dual potentials in the units of the costs. Exact: f_i + g_j <= c_ij up to the rounding of one subtraction, equal
        where mass moves. Entropic: P = a x b exp((f + g - C)/epsilon). Balanced, they are determined up to a constant
        added to f and taken from g; here <a, f> = <b, g>, and they are the gradient of the value by a, b.
    lower_bound, upper_bound : float or array (...)
        They bracket the optimum without regularisation: the dual value of feasible potentials and the cost of a
        feasible plan, float64, rounding taken off.
    gap : float or array (...)
        upper_bound - lower_bound.
    marginal_error : float or array (...)
        Sum of the absolute differences between the marginals of the plan and a, b (of unbalanced transport: and what
        the potentials say they should be), float64, over all pairs.
    converged : bool or array (...)
        Exact: whether the gap is within the tolerance asked for, or within rounding of the terms of the bounds.
        Entropic: whether the marginal error is within the tolerance, relative to the total mass.
    n_iter : int or array (...)
        Bids, pivots and augmentations; entropic: passes over all pairs.
    status : Status
        How the solve ended; of a batch, how its worst element did.
    solver : str
        The engine that was chosen.
    shape : tuple of int
        (..., n, m).
    epsilon : float or array (...)
        Entropic regularisation; 0: exact.
    entropic_lower_bound, entropic_upper_bound : float, array (...) or None
        They bracket the regularised optimum; None for exact transport.

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
    lower_bound: Any
    upper_bound: Any
    gap: Any
    marginal_error: Any
    converged: Any
    n_iter: Any
    status: Status
    solver: str
    shape: tuple[int, ...]
    epsilon: Any = 0.0
    entropic_lower_bound: Any = None
    entropic_upper_bound: Any = None
    _plan: Plan = field(default=None, repr=False)  # type: ignore[assignment]
    _door: Door = field(default=None, repr=False)  # type: ignore[assignment]
    _points: tuple[Any, Any] | None = field(default=None, repr=False)

    @cached_property
    def plan(self) -> Any:
        """The coupling: exact, a SciPy sparse array (n, m), float64; entropic, an array (..., n, m) as the arguments.

        An entropic plan is computed when it is asked for and then kept: n m numbers.
        """
        whole = self._plan.whole()
        return self._door.leave(whole) if isinstance(whole, np.ndarray) else whole

    @property
    def rows(self) -> Array:
        """Of an exact plan: `mass[s] > 0` goes from `rows[s]` to `cols[s]`, each pair once, ordered by rows."""
        return self._sparse("rows")

    @property
    def cols(self) -> Array:
        """See `rows`."""
        return self._sparse("cols")

    @property
    def mass(self) -> Array:
        """See `rows`."""
        return self._sparse("mass")

    def _sparse(self, name: str) -> Array:
        found: Array | None = getattr(self._plan, name, None)
        if found is None:
            raise ValueError(f"{name}: an entropic plan has mass on every pair; read `plan`, or use `apply`")
        return found

    @property
    def assignment(self) -> Array | None:
        """Column of every row (n,), -1 for a row without mass; None if a row's or column's mass is split."""
        if len(np.unique(self.rows)) < len(self.rows) or len(np.unique(self.cols)) < len(self.cols):
            return None
        to = np.full(self.shape[0], -1)
        to[self.rows] = self.cols
        return to

    def apply(self, v: Any, *, transpose: bool = False) -> Any:
        """P v for v (..., m) or (..., m, c), or its transpose P^T v for v (..., n) or (..., n, c).

        In the library of `v`; an entropic plan is not stored for it.
        """
        door, (host,) = enter(v=v)
        *batch, n, m = self.shape
        size, lead = n if transpose else m, len(batch)
        if host.ndim not in (lead + 1, lead + 2) or host.shape[: lead + 1] != (*batch, size):
            wanted = ", ".join(str(k) for k in (*batch, size))
            raise ValueError(f"v: found shape {host.shape}; the plan applies to shape ({wanted}) or ({wanted}, c)")
        return door.leave(self._plan.apply(host.astype(np.float64), transpose=transpose))

    def barycentric_map(self, y: Any = None) -> Any:
        """Mean destination of every point of x, sum_j P_ij y_j / sum_j P_ij (..., n, d); NaN for one without mass.

        `y` (..., m, d) is needed only where costs came as a matrix or a grid, of which it is `points()`.
        """
        if y is not None:
            door, (host,) = enter(y=y)
        elif self._points is not None:
            door, host = self._door, self._points[1]
        else:
            raise ValueError("y: found None; costs came as a matrix, so pass the points (m, d) of the columns")
        *batch, m = self.shape[:-2] + self.shape[-1:]
        if host.ndim == 2 and batch:
            host = np.broadcast_to(host, (*batch, *host.shape))
        if host.ndim != len(batch) + 2 or host.shape[:-1] != (*batch, m):
            wanted = ", ".join(str(k) for k in (*batch, m))
            raise ValueError(f"y: found shape {host.shape}; the plan has {m} columns: pass points ({wanted}, d)")
        moved, sent = self._plan.apply(host.astype(np.float64), transpose=False), self._plan.sent()[..., None]
        if door.space is not None and isinstance(sent, np.ndarray):
            sent = door.space.put(sent)
        with np.errstate(invalid="ignore"):
            mean = moved / sent
        return door.leave(mean)

    def point_gradients(self) -> tuple[Any, Any]:
        """Gradients of the value by x (..., n, d) and y (..., m, d): sum_j P_ij grad c(x_i, y_j), the plan held fixed.

        Where a cost has a kink (coincident points of a distance), the subgradient 0 is stated.
        """
        if self._points is None:
            raise ValueError("point_gradients: costs came as a matrix; the gradient by C is the plan")
        x, y = self._plan.pulls()
        return self._door.leave(x), self._door.leave(y)

    def vjp(self, *, f: Any = None, g: Any = None, linear: Any = None, plan: Any = None) -> Derivatives:
        """Gradients of a function of the entropic solution, given its derivatives by f, g, linear and plan.

        By implicit differentiation: one linear system, whatever the iterations were. Epsilon and rho are held fixed;
        rows and columns without mass take no part. Balanced potentials are determined up to a constant: derivatives by
        f and by g that do not sum to the same are read under sum a df = sum b dg. O(n m) time for each of some tens of
        products; RuntimeError if conjugate gradients do not converge. Source: Luise et al. (2018).

        Parameters
        ----------
        f, g, linear, plan : array_like, shapes (..., n), (..., m), (...), (..., n, m), optional
            Derivatives of the function; 0 where they are not given.

        Returns
        -------
        Derivatives
            With fields a, b and costs, or x and y for a cloud; None for those the problem does not have.
        """
        *batch, n, m = self.shape
        shapes = {"f": (*batch, n), "g": (*batch, m), "linear": tuple(batch), "plan": self.shape}
        return self._derived("pulled", shapes, {"f": f, "g": g, "linear": linear, "plan": plan})

    def hvp(self, *, costs: Any = None, x: Any = None, y: Any = None, a: Any = None, b: Any = None) -> Derivatives:
        """How the gradients of the entropic value change in a direction: its second derivative, the plan responding.

        By points at kinks of a cost its own second derivative is stated as 0. Balanced masses move along the simplex.
        RuntimeError if conjugate gradients do not converge.

        Parameters
        ----------
        costs, x, y, a, b : array_like, of the shapes of the arguments, optional
            The direction; what is not given stands still.

        Returns
        -------
        Derivatives
            As for `vjp`: the change of the gradient by each argument.
        """
        *batch, n, m = self.shape
        shapes = {"costs": self.shape, "a": (*batch, n), "b": (*batch, m)}
        if self._points is not None:
            d = self._points[0].shape[-1]
            shapes = {"x": (*batch, n, d), "y": (*batch, m, d), "a": (*batch, n), "b": (*batch, m)}
        return self._derived("moved", shapes, {"costs": costs, "x": x, "y": y, "a": a, "b": b})

    def _derived(self, name: str, shapes: dict[str, tuple[int, ...]], arguments: dict[str, Any]) -> Derivatives:
        work = getattr(self._plan, name, None)
        if work is None:
            raise ValueError("epsilon: found 0; an exact plan jumps, and has no derivatives")
        given = {key: value for key, value in arguments.items() if value is not None}
        if not given:
            raise ValueError(f"{', '.join(arguments)}: found none of these; give at least one")
        for key in given:
            if key not in shapes:
                raise ValueError(f"{key}: this result has no {key}; give {', '.join(shapes)}")
        _, hosts = enter(**given)
        for key, host in zip(given, hosts, strict=True):
            if host.shape != shapes[key]:
                raise ValueError(f"{key}: found shape {host.shape}; the result needs {shapes[key]}")
        found = work(**{key: host.astype(np.float64) for key, host in zip(given, hosts, strict=True)})
        return Derivatives(**{key: None if z is None else self._door.leave(z) for key, z in found.items()})
