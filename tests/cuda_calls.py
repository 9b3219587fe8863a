"""One small call of every kernel: the race lane, the offline lane and the mutation tool all go by this table.

Sizes are a little above a tile's edge, as small as that allows: the race lane pays 0.4 ms for each CUDA thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

import otdist as od

from otdist.kernels import assignment_cuda, device

Put = Callable[[np.ndarray[Any, Any]], Any]


@dataclass(frozen=True)
class Call:
    """`run(put)` calls the library on arrays that `put` makes of NumPy's, and returns what is to be compared."""

    family: str
    name: str
    run: Callable[[Put], Any]
    rtol: float = 1e-5
    atol: float = 1e-6


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _histograms(n: int, k: int, dtype: str = "f4", seed: int = 0) -> np.ndarray[Any, Any]:
    p = _rng(seed).random((n, k)) + 0.05
    return (p / p.sum(1, keepdims=True)).astype(dtype)


def _points(n: int, d: int, dtype: str = "f4", seed: int = 0) -> np.ndarray[Any, Any]:
    return _rng(seed).standard_normal((n, d)).astype(dtype)


CALLS: list[Call] = []


def _call(family: str, name: str, rtol: float = 1e-5, atol: float = 1e-6) -> Callable[[Callable[[Put], Any]], Any]:
    def add(run: Callable[[Put], Any]) -> Callable[[Put], Any]:
        CALLS.append(Call(family, name, run, rtol, atol))
        return run

    return add


def _space() -> device.Space:
    return device.Space(device.CupyMemory(0))


@_call("copy", "copy", rtol=0, atol=0)
def _copy(put: Put) -> Any:
    x = put(_points(33, 70))[1:, ::2].T
    if isinstance(x, np.ndarray):
        return x.astype("f8"), np.full(300, 2.5, "f4")
    return _space().cast(x, "f8"), _space().full(300, 2.5, "f4")


def _weights(n: int, k: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return _histograms(n, k, "f8", seed)


@_call("assignment", "assign", rtol=0, atol=0)
def _assign(put: Put) -> Any:
    shapes = ((5, 9, 33, "f4"), (3, 40, 40, "f8"), (2, 70, 66, "f4"))
    return [od.linear_sum_assignment(put(_rng().random((b, n, m)).astype(t))) for b, n, m, t in shapes]


@_call("assignment", "assign whole", rtol=0, atol=0)
def _assign_whole(put: Put) -> Any:
    C = _rng().permutation(200 * 210).reshape(200, 210) ** 2 % 104729
    return od.linear_sum_assignment(put(C)), od.linear_sum_assignment(put(C[:130, :140].astype("f8")), maximize=True)


def _solved(result: Any) -> Any:
    return result.value, result.point_gradients(), result.barycentric_map()


@_call("transport", "emd", rtol=1e-9, atol=1e-12)
def _emd(put: Put) -> Any:
    x, y = _points(40, 3, "f8"), _points(40, 3, "f8", 1)
    metrics = ("sqeuclidean", "euclidean", "cityblock", "cosine")
    return [_solved(od.emd(od.PointCloud(put(x), put(y), cost=c, p=1.5))) for c in metrics]


@_call("transport", "auction", rtol=1e-9, atol=1e-12)
def _auction(put: Put) -> Any:
    x, y = _points(70, 3, "f8"), _points(70, 3, "f8", 1)
    with _small_teams():
        matrix = od.emd(put(((x[:, None] - y) ** 2).sum(-1))).value
        return matrix, _solved(od.emd(od.PointCloud(put(x), put(y)))), od.emd(put(_points(40, 40))).value


@contextmanager
def _small_teams() -> Iterator[None]:
    """Problems of any size by the kernels of large ones; costs of points on the way."""
    before = assignment_cuda.MOST, device.Space.budget
    assignment_cuda.MOST = 4
    device.Space.budget = lambda self, memory_limit=None: 1 << 12  # type: ignore[method-assign]
    try:
        yield
    finally:
        assignment_cuda.MOST, device.Space.budget = before  # type: ignore[method-assign]


@_call("line", "line", rtol=1e-9, atol=1e-12)
def _line(put: Put) -> Any:
    out = []
    for t, p in (("f4", 1.0), ("f8", 2.0), ("f8", 1.5)):
        u, v = put(_points(2, 150, t)), put(_points(2, 130, t, 1))
        out += [od.wasserstein_1d(u, v, p=p), od.value_and_grad(od.wasserstein_1d, (0, 1))(u, v, p=p)]
    a, b = put(_weights(2, 150)), put(_weights(2, 130, 1))
    u, v = put(_points(2, 150, "f8")), put(_points(2, 130, "f8", 1))
    out.append(od.value_and_grad(od.wasserstein_1d, (0, 1, 2, 3))(u, v, a, b, p=2.0))
    return out


@_call("line", "long line", rtol=1e-9, atol=1e-12)
def _long_line(put: Put) -> Any:
    u, v = put(_points(1, 2100, "f4")), put(_points(1, 2100, "f4", 1))
    return od.wasserstein_1d(u, v, p=2.0), od.wasserstein_1d(u, v, p=np.inf)


@_call("line", "sliced", rtol=1e-5, atol=1e-6)
def _sliced(put: Put) -> Any:
    x, y, w = put(_points(70, 3, "f4")), put(_points(60, 3, "f4", 1)), put(_histograms(1, 70)[0])
    return od.value_and_grad(od.sliced_wasserstein, (0, 1, 2))(x, y, w, projections=5)
