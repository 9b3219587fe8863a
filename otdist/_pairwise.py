"""All pairs: the matrix of a divergence between the rows of X and of Y, and the nearest rows without it."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from otdist import divergences
from otdist._arrays import Array, Door, enter
from otdist._evaluate import Options, Rows, as_rows
from otdist._matrix import Problem, least, pose, pose_sparse
from otdist.catalogue import Generator, Plan, plan

WORKSPACE = 1 << 28


def pairwise(
    X: Any,
    Y: Any = None,
    *,
    metric: str | Callable[..., Any],
    normalize: Any = "check",
    from_logits: bool = False,
    out: Any = None,
    memory_limit: int | None = None,
    **options: Any,
) -> Any:
    """Divergence between every row of X and every row of Y.

    Parameters
    ----------
    X : array_like, shape (..., n, k), or SciPy sparse matrix, shape (n, k)
        Histograms of k bins in rows.
    Y : array_like, shape (..., m, k), or sparse, optional
        The others; X itself by default. Batch dimensions broadcast.
    metric : str or callable
        A divergence of otdist or its name, "js" or `otdist.js`; as in ``out[i, j] = js(X[i], Y[j])``.
    normalize, from_logits
        As for the divergences.
    out : array, shape (..., n, m), optional
        Where to write: a NumPy array (or CPU tensor) of the result's dtype, for example a memory map.
    memory_limit : int, optional
        Bytes of workspace beyond the arguments and the result, 256 MB by default; a floor of about 16 MB is always
        used. The result does not depend on it, not in a single bit.
    **options
        Those of the divergence: ``metric="chi2", kind="symmetric"``, ``metric="renyi", alpha=2``.

    Returns
    -------
    array, shape (..., n, m)
        In the library, dtype and device of the arguments; a NumPy array for sparse ones. Cost O(n m k): a matrix
        product where the divergence has such a form (pairs that it would spoil by cancellation are recomputed), tiles
        elsewhere.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, as for the divergences; options that the metric lacks.

    Examples
    --------
    >>> import otdist as od
    >>> od.pairwise([[0.5, 0.5], [1.0, 0.0]], metric="tv").tolist()
    [[0.0, 0.5], [0.5, 0.0]]
    """
    chosen, shared = _metric(metric, options), Options(-1, normalize, from_logits)
    workspace = _workspace(memory_limit)
    if _is_sparse(X) or _is_sparse(Y):
        sparse = pose_sparse(chosen, X, Y, shared)
        shape = (sparse.rows, sparse.columns)
        target = _target(out, shape, Door("numpy", np.dtype(sparse.dtype).name, "cpu", 0.0))
        matrix = np.empty(shape, sparse.dtype) if target is None else target
        sparse.write(0, sparse.rows, matrix)
        return matrix if target is None else out
    door, arrays, batch = _entered(X, Y)
    if door.space is not None:
        from otdist import _pairwise_device

        return _pairwise_device.pairwise(chosen, door, arrays, batch, shared, out, memory_limit and workspace)
    sides = _sides(arrays)
    shape = (*batch, *(s.original.shape[-2] for s in sides))
    target = _target(out, shape, door)
    direct = target is not None and target.dtype == door.compute and not any(_overlap(target, s) for s in sides)
    matrix = target if direct and target is not None else np.empty(shape, door.compute)
    for at, problem in _problems(chosen, sides, batch, shared, door, workspace):
        problem.write(0, shape[-2], matrix[at])
    if target is None:
        return door.leave(matrix)
    if matrix is not target:
        with np.errstate(over="ignore"):
            target[...] = matrix
    return out


def nearest(
    X: Any,
    Y: Any,
    *,
    metric: str | Callable[..., Any],
    k: int = 1,
    normalize: Any = "check",
    from_logits: bool = False,
    memory_limit: int | None = None,
    **options: Any,
) -> tuple[Any, Any]:
    """The k rows of Y nearest to each row of X, without the matrix of all pairs.

    Parameters
    ----------
    X, Y : array_like, shapes (..., n, b) and (..., m, b), or SciPy sparse matrices
        Histograms of b bins in rows.
    metric : str or callable
        A divergence of otdist or its name: rows are compared by D(X[i], Y[j]).
    k : int, default 1
        How many, at most m.
    normalize, from_logits, memory_limit, **options
        As for `pairwise`.

    Returns
    -------
    values, indices : arrays, shape (..., n, k)
        Ascending; equal values by ascending index.

    Raises
    ------
    ValueError, TypeError
        Naming the argument.

    Examples
    --------
    >>> import otdist as od
    >>> values, indices = od.nearest([[0.9, 0.1]], [[0.5, 0.5], [1.0, 0.0]], metric="tv")
    >>> indices.tolist()
    [[1]]
    """
    chosen, shared = _metric(metric, options), Options(-1, normalize, from_logits)
    workspace = _workspace(memory_limit)
    if Y is None:
        raise TypeError("Y: found None; give the rows to search, Y=X for those of X")
    if _is_sparse(X) or _is_sparse(Y):
        sparse = pose_sparse(chosen, X, Y, shared)
        count = _count(k, sparse.columns)
        values, indices = np.empty((sparse.rows, count), sparse.dtype), np.empty((sparse.rows, count), np.int64)
        least(sparse, values, indices)
        return values, indices
    door, arrays, batch = _entered(X, Y)
    n, m = (next(iter(arrays.values())).shape[-2], arrays["Y"].shape[-2])
    count = _count(k, m)
    if door.space is not None:
        from otdist import _pairwise_device

        return _pairwise_device.nearest(chosen, door, arrays, batch, shared, count, memory_limit and workspace)
    sides = _sides(arrays)
    values, indices = np.empty((*batch, n, count), door.compute), np.empty((*batch, n, count), np.int64)
    for at, problem in _problems(chosen, sides, batch, shared, door, workspace):
        least(problem, values[at], indices[at])
    return door.leave(values), door.leave(indices)


def _metric(metric: object, options: dict[str, Any]) -> Plan | Generator:
    if callable(metric):
        name = getattr(metric, "__name__", "")
        if getattr(divergences, name, None) is not metric:
            raise ValueError(f"metric: found {name or metric!r}; give a divergence of otdist or its name")
        metric = name
    if metric == "entropy":
        raise ValueError("metric: found 'entropy', which has one argument; choose a divergence of two")
    if metric == "f_divergence":
        own = dict(options)
        f = own.pop("f", None)
        if own:
            raise TypeError(f"metric 'f_divergence': got an unexpected keyword argument {next(iter(own))!r}")
        if isinstance(f, Generator):
            return f
        metric, options = divergences.generator_kernel(f)
    return plan(metric, options)  # type: ignore[arg-type]


def _entered(X: Any, Y: Any) -> tuple[Door, dict[str, Array], tuple[int, ...]]:
    """The arrays at hand, by name, and the batch that they make; only X if Y is None."""
    arrays = {"X": X} if Y is None else {"X": X, "Y": Y}
    door, hosts = enter(**arrays)
    for name, a in zip(arrays, hosts, strict=True):
        if a.ndim < 2:
            raise ValueError(
                f"{name}: found shape {a.shape}; give histograms in rows, shape (n, k): {name}[None] for one"
            )
    bins = [a.shape[-1] for a in hosts]
    if bins[0] != bins[-1]:
        raise ValueError(f"Y: found {bins[-1]} bins, but X has {bins[0]}; both need the same bins along the last axis")
    if bins[0] == 0:
        raise ValueError("X: found 0 bins along axis -1; a histogram needs at least one bin")
    try:
        batch = np.broadcast_shapes(*(a.shape[:-2] for a in hosts))
    except ValueError:
        shapes = " and ".join(f"{name} {a.shape}" for name, a in zip(arrays, hosts, strict=True))
        raise ValueError(f"X and Y: found shapes {shapes}; batch dimensions must broadcast") from None
    return door, dict(zip(arrays, hosts, strict=True)), batch


def _sides(arrays: dict[str, Array]) -> list[Rows]:
    """Both sides as rows: twice the same if there is but one."""
    sides = [as_rows({name: a}, -1)[0][0] for name, a in arrays.items()]
    return sides * 2 if len(sides) == 1 else sides


def _problems(
    chosen: Plan | Generator, sides: list[Rows], batch: tuple[int, ...], options: Options, door: Door, workspace: int
) -> list[tuple[tuple[int, ...], Problem]]:
    """For each element of the batch, its index and its problem."""
    X, Y, logits = pose(chosen, sides, options, door)
    bins = X.shape[-1]

    def stack(a: Array, side: Rows) -> Array:
        *outer, n, _ = side.original.shape
        rows = a[side.index].reshape(*outer, n, bins) if len(a) != len(side.index) else a.reshape(*outer, n, bins)
        return np.broadcast_to(rows, (*batch, n, bins))

    A = stack(X, sides[0])
    B = A if Y is X else stack(Y, sides[1])
    problems = []
    for at in np.ndindex(*batch):
        p = A[at]
        problems.append((at, Problem(chosen, p, p if B is A else B[at], logits, options, workspace)))
    return problems


def _target(out: Any, shape: tuple[int, ...], door: Door) -> Array | None:
    """The memory of `out`, or an error that says what it should have been."""
    if out is None:
        return None
    wanted = f"a writable array of shape {shape} and dtype {door.dtype}"
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(out, torch.Tensor) and out.device.type == "cpu" and door.library == "torch":
        found = str(out.dtype).removeprefix("torch.")
        if found == "bfloat16":
            raise TypeError("out: found a bfloat16 tensor, which NumPy cannot write; give float16, float32 or float64")
        target: Array = out.detach().numpy()
    elif isinstance(out, np.ndarray) and door.library == "numpy":
        target, found = out, out.dtype.name
    else:
        raise TypeError(f"out: found {type(out).__name__}; give {wanted}")
    if target.shape != shape or found != door.dtype:
        raise ValueError(f"out: found shape {target.shape} and dtype {found}; give {wanted}")
    if not target.flags.writeable:
        raise ValueError(f"out: found a read-only array; give {wanted}")
    return target


def _overlap(target: Array, side: Rows) -> bool:
    return np.may_share_memory(target, side.original)


def _workspace(memory_limit: object) -> int:
    if memory_limit is None:
        return WORKSPACE
    try:
        limit = operator.index(memory_limit)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"memory_limit: found {memory_limit!r}; give a number of bytes") from None
    if isinstance(memory_limit, bool) or limit <= 0:
        raise ValueError(f"memory_limit: found {memory_limit!r}; give a positive number of bytes")
    return limit


def _count(k: object, m: int) -> int:
    try:
        count = operator.index(k)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"k: found {k!r}; give an integer") from None
    if m == 0:
        raise ValueError("Y: found 0 rows; the nearest of none do not exist")
    if isinstance(k, bool) or not 1 <= count <= m:
        raise ValueError(f"k: found {k!r}; Y has {m} rows, so choose 1 to {m}")
    return count


def _is_sparse(x: object) -> bool:
    scipy_sparse = sys.modules.get("scipy.sparse")
    return scipy_sparse is not None and bool(scipy_sparse.issparse(x))
