"""One small call of every kernel: the race lane, the offline lane and the mutation tool all go by this table.

Sizes are a little above a tile's edge, and as small as that allows: the race lane pays 0.4 ms for each thread of a block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import otdist as od

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
