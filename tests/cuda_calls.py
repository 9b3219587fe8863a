"""One small call of every kernel: the race lane, the offline lane and the mutation tool all go by this table.

Sizes are a little above a tile's edge, as small as that allows: the race lane pays 0.4 ms for each CUDA thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from otdist.kernels import device

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
