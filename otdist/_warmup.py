"""``otdist warmup``: compile every kernel once, so that later first calls are fast."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

import otdist as od

__all__ = ["run"]

_OPTIONS: dict[str, list[dict[str, Any]]] = {
    "chi2": [{"kind": "pearson"}, {"kind": "neyman"}, {"kind": "symmetric"}],
    "renyi": [{"alpha": 0.5}],
    "tsallis": [{"alpha": 0.5}],
    "alpha_divergence": [{"alpha": 0.5}],
    "f_divergence": [{"f": "kl"}],
}
_NAMES = (
    *("tv", "hellinger", "l2", "chi2", "kl", "js", "js_distance", "jeffreys", "renyi", "tsallis"),
    *("alpha_divergence", "bhattacharyya", "cross_entropy", "entropy", "f_divergence"),
)


def run() -> int:
    """Call everything on tiny arrays; returns the exit code."""
    start = time.perf_counter()
    for name, calls in _plan():
        begin = time.perf_counter()
        for call in calls:
            call()
        print(f"{name:<20} {time.perf_counter() - begin:6.2f} s", flush=True)
    print(f"{'all':<20} {time.perf_counter() - start:6.2f} s")
    return 0


def _plan() -> Iterator[tuple[str, list[Callable[[], object]]]]:
    for name in _NAMES:
        yield name, [call for dtype in (np.float32, np.float64) for call in _calls(name, dtype)]


def _calls(name: str, dtype: type[np.floating[Any]]) -> Iterator[Callable[[], object]]:
    p, q = (np.array(rows, dtype=dtype) for rows in ([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]], [[0.3, 0.4, 0.3]] * 2))
    function = getattr(od, name)
    arguments = (p,) if name == "entropy" else (p, q)
    gradient = od.value_and_grad(function, tuple(range(len(arguments))))
    for options in _OPTIONS.get(name, [{}]):
        for logits in (False, True):
            yield partial(function, *arguments, from_logits=logits, **options)
            yield partial(gradient, *arguments, from_logits=logits, **options)
        if name != "entropy":
            yield partial(od.pairwise, p, q, metric=name, **options)
            yield partial(od.nearest, p, q, metric=name, **options)
