"""`linear_sum_assignment` of arrays on a GPU."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from otdist import _device
from otdist._arrays import Array, Door
from otdist.kernels import assignment_cuda
from otdist.kernels.auction_cuda import Costs
from otdist.kernels.copy_cuda import fill
from otdist.kernels.device import Space
from otdist.transport import _auction_device
from otdist.transport._solution import Watch

TOLERANCE = 1e-10
# Costs whose sums, and those of potentials, stay within float64.
LARGEST = 1e300


def assign(door: Door, lent: Any, given: Any, maximize: bool, again: Callable[[Array], object]) -> tuple[Any, Any]:
    """Rows and columns of each problem; `again` solves a host copy where something was wrong, and says what."""
    space = door.space
    C = _costs(space, given, lent)
    *batch, n, m = C.shape
    count, short, long = math.prod(batch), min(n, m), max(n, m)
    shape = (*batch, short)
    if not count or not short:
        rows, cols = (space.empty(shape, np.int64) for _ in range(2))
        return door.leave(rows), door.leave(cols)
    problems = _stacked(space, C, count)
    if n > m:
        problems = problems.swapaxes(1, 2)
    status, sign = space.flags, -1.0 if maximize else 1.0
    whole = "float" not in str(given.dtype)
    if problems.dtype.kind in "iu":
        problems, sign = assignment_cuda.prepare(space, problems, sign, np.float64, status), 1.0
    if long <= assignment_cuda.MOST:
        cols = assignment_cuda.jonker_volgenant(space, problems, sign, TOLERANCE, status).cols
    else:
        cols = _large(space, assignment_cuda.prepare(space, problems, sign, problems.dtype, status), whole)
    rows, cols = assignment_cuda.pairs_of(space, cols, long, turned=n > m)

    def judge(words: Array) -> None:
        host = _host(space, given, lent)
        again(host)
        if np.abs(host[np.isfinite(host)].astype(np.float64)).max(initial=0.0) > LARGEST:
            raise ValueError(
                "cost_matrix: sums of such costs leave the range of float64; divide them by a power of two"
            )
        raise RuntimeError("cost_matrix: the GPU's answer could not be proved optimal; please report these costs")

    space.check(judge, given, lent)
    return door.leave(rows.reshape(shape)), door.leave(cols.reshape(shape))


def _large(space: Space, problems: Any, whole: bool) -> Any:
    """Columns of problems too large for a team, in turn. Waits for the device."""
    count, n, _ = problems.shape
    cols = np.full((count, n), -1)
    for k in range(count):
        outcome = _auction_device.solve(Costs(space, problems[k], None), Watch(), whole)
        if outcome.unmatched < 0:
            cols[k] = outcome.cols
        else:
            fill(space, space.flags, assignment_cuda.UNMATCHED)
    return space.put(cols)


def _costs(space: Space, given: Any, lent: Any) -> Any:
    """Costs of a type that kernels take: wide integers as they are, others in float64, half types in float32."""
    name = str(given.dtype).removeprefix("torch.")
    if "float" in name:
        return space.cast(lent, np.float32) if lent.dtype.itemsize == 2 else lent
    view = _view(space, given)
    if name in ("int64", "uint64"):
        return view
    return _device._converted(space, view, name, np.dtype(np.float64))


def _view(space: Space, given: Any) -> Any:
    view: Callable[[Any], Any] | None = getattr(space.memory, "view", None)
    return given if view is None else view(given)


def _host(space: Space, given: Any, lent: Any) -> Array:
    """The argument as NumPy has it."""
    name = str(given.dtype).removeprefix("torch.")
    return space.host(lent if "float" in name else _view(space, given))


def _stacked(space: Space, C: Any, count: int) -> Any:
    """C (count, n, m), without a copy where it need not be one."""
    if C.ndim == 3:
        return C
    if C.ndim == 2:
        return C[None]
    return space.contiguous(C).reshape(count, *C.shape[-2:])
