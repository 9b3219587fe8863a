"""Assignment as a public function, in SciPy's signature."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from otdist._arrays import Array, enter
from otdist.transport._assignment import solve, solve_batch
from otdist.transport._solution import Watch

# Integers beyond this are not float64 numbers.
EXACT = 1 << 53
# Beyond so many rows a problem of a batch is large enough for the engines of a single one.
SINGLE = 200


def linear_sum_assignment(cost_matrix: Any, maximize: bool = False) -> tuple[Any, Any]:
    """Assign rows to columns, each to one of its own, at the least total cost.

    Parameters
    ----------
    cost_matrix : array_like, shape (..., n, m)
        Costs, of any supported array library; one problem for each element of the batch. +inf forbids a pair (-inf, if
        `maximize`). Integers and booleans are solved exactly.
    maximize : bool, default False
        Find the greatest total instead.

    Returns
    -------
    row_ind, col_ind : arrays, shape (..., min(n, m))
        Rows, ascending, and the columns assigned to them, int64 (JAX: its default integer), in the library and on the
        device of `cost_matrix`. ``cost_matrix[row_ind, col_ind].sum()`` is the total of a single problem.

    Raises
    ------
    ValueError, TypeError
        Naming the argument: NaN, entries infinite with the wrong sign, shapes, dtypes, devices; a row that cannot be
        matched (or a column, where there are more rows) and what it competes with.

    Notes
    -----
    The total is optimal to a relative 1e-10, proved by dual potentials, and exactly optimal for integers: shortest
    augmenting paths (Jonker & Volgenant 1987) for small problems, an auction (Bertsekas 1988) with cached rows for
    large ones. Batches are spread over threads. Memory beyond float64 costs in C order is O(n + m); others are copied.

    Like `scipy.optimize.linear_sum_assignment`, but for batches, array libraries and integers beyond 2^53, which are
    refused where float64 would round them.

    Examples
    --------
    >>> from otdist.transport.matching import linear_sum_assignment
    >>> rows, cols = linear_sum_assignment([[4, 1, 3], [2, 0, 5], [3, 2, 2]])
    >>> cols.tolist()
    [1, 0, 2]
    """
    door, (lent,) = enter(cost_matrix=cost_matrix)
    if lent.ndim < 2:
        raise ValueError(f"cost_matrix: found shape {lent.shape}; give a matrix of costs, or a batch (..., n, m)")
    if door.space is not None:
        from otdist.transport import _matching_device

        def again(host: Array) -> object:
            return linear_sum_assignment(host, maximize)

        return _matching_device.assign(door, lent, cost_matrix, bool(maximize), again)
    C = _costs(cost_matrix, lent, bool(maximize))
    *batch, n, m = C.shape
    if n > m:
        C = np.ascontiguousarray(C.swapaxes(-1, -2))
    short, long = C.shape[-2:]
    problems = C.reshape(math.prod(batch), short, long)
    try:
        cols = _columns(problems)
    except ValueError as error:
        where = "in the transpose, for there are fewer columns than rows, " if n > m else ""
        raise ValueError(f"cost_matrix: {where}{error}") from None
    if n > m:
        order = np.argsort(cols, axis=1)
        rows, cols = np.take_along_axis(cols, order, 1), order
    else:
        rows = np.empty_like(cols)
        rows[:] = np.arange(short)
    shape = (*batch, short)
    return door.leave(rows.reshape(shape)), door.leave(cols.reshape(shape))


def _columns(C: Array) -> Array:
    """Columns of the rows of each problem, (b, n) int64; C (b, n, m) with n <= m."""
    b, n, _ = C.shape
    if n <= SINGLE:
        return solve_batch(C)[0]
    cols = np.empty((b, n), np.int64)
    for k in range(b):
        cols[k] = solve(C[k], Watch()).cols
    return cols


def _costs(given: Any, lent: Array, maximize: bool) -> Array:
    """The costs to minimise in float64, without NaN and -inf; not to be written to."""
    whole = _integers(given)
    if whole is not None:
        return -whole if maximize else whole
    C = lent.astype(np.float64, copy=False)
    C = -C if maximize else C
    if C.size and not C.min() > -np.inf:  # NaN or -inf
        where = tuple(int(k) for k in np.argwhere(~np.greater(C, -np.inf))[0])
        if np.isnan(C[where]):
            raise ValueError(f"cost_matrix: found NaN at index {where}; entries must be numbers, {_FORBID[maximize]}")
        raise ValueError(
            f"cost_matrix: found {lent[where]!s} at index {where}, a pair that nothing could outweigh; entries must be "
            f"finite, {_FORBID[maximize]}"
        )
    return C


_FORBID = ("with +inf for a forbidden pair", "with -inf for a forbidden pair (as maximize=True)")


def _integers(given: Any) -> Array | None:
    """Integer costs in float64, exactly; None for other dtypes. `enter` has let `given` pass."""
    dtype = getattr(given, "dtype", None)
    if "float" in (dtype.name if isinstance(dtype, np.dtype) else str(dtype)):
        return None
    whole = np.asarray(given)
    if whole.dtype.kind not in "iub" or whole.size == 0:
        return None
    low, high = int(whole.min()), int(whole.max())
    if max(-low, high) > EXACT:
        raise ValueError(
            f"cost_matrix: found integers from {low} to {high}, which float64 would round; subtract a constant from "
            f"each row and column, which does not change the assignment, until they lie within 2^53"
        )
    return whole.astype(np.float64)
