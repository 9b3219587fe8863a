"""What every exact solver takes from its caller and hands back; `_certificate.py` judges it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from otdist._arrays import Array


@dataclass(frozen=True)
class Solution:
    """A coupling and prices, in float64. Nothing in it is trusted before it is certified.

    Mass `mass[s]` goes from `rows[s]` to `cols[s]`; each pair occurs once and each mass is positive. `g` are the dual
    potentials of the columns; those of the rows follow by f_i = min_j c_ij - g_j.
    """

    rows: Array  # (s,) int64
    cols: Array  # (s,) int64
    mass: Array  # (s,) float64
    g: Array  # (m,) float64
    iterations: int  # bids, pivots or augmentations
    solver: str  # which engine, in the words of the field
    stopped: str = ""  # "", "max_iter", "time_limit" or "callback": what ended it before its tolerance was reached


# Seconds between two calls of a callback in one stage.
EVERY = 0.1


class Watch:
    """The limits of a solve. Engines run compiled pieces of at most about 0.1 s and ask `stop` between them.

    So a limit is kept, a callback is called and Ctrl-C is served in time. An engine that is told to stop completes its
    plan by any feasible means and returns it with the prices it has: the certificate then states the true bounds.
    """

    def __init__(
        self,
        max_iter: int | None = None,
        time_limit: float | None = None,
        callback: Callable[[dict[str, Any]], Any] | None = None,
    ) -> None:
        self._max_iter, self._callback = max_iter, callback
        self._begin = time.perf_counter()
        self._end = None if time_limit is None else self._begin + time_limit
        self.stopped = ""
        self._told, self._stage = -math.inf, ""

    def stop(self, stage: str, iterations: int, **figures: float) -> bool:
        """Whether to end now. `stage` says what the engine is doing, `figures` how far it is (e.g. unplaced=0.01)."""
        elapsed = time.perf_counter() - self._begin
        if self._callback is not None and (elapsed >= self._told + EVERY or stage != self._stage):
            self._told, self._stage = elapsed, stage
            if self._callback({"stage": stage, "iterations": iterations, "elapsed": elapsed, **figures}) is False:
                self.stopped = self.stopped or "callback"
        if self._max_iter is not None and iterations >= self._max_iter:
            self.stopped = self.stopped or "max_iter"
        if self._end is not None and time.perf_counter() >= self._end:
            self.stopped = self.stopped or "time_limit"
        return bool(self.stopped)
