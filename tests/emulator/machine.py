"""The emulated device, as tests see it: what they set and what they read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from . import build, memory, races
from .launch import Record


class Machine:
    """The emulated device: what tests set (schedule, limits) and what they read (launches, copies to the host)."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.schedule: int | None = None  # None: each launch takes the next of the four
        self.seconds = 20.0
        self.launches: list[Record] = []
        self.reads: list[int] = []
        self.stream: Any = None
        self.capability = "90"
        self.processors = 4
        self._next = 0
        memory.pool.limit = 1 << 30
        memory.pool.peak = memory.pool.used

    def next_schedule(self) -> int:
        self._next += 1
        return self.schedule if self.schedule is not None else (self._next - 1) % 4

    def after_launch(self, name: str) -> None:
        if build.races():
            races.check(name)

    @property
    def memory_limit(self) -> int:
        """Bytes that the device has; allocations above raise OutOfMemoryError."""
        return memory.pool.limit

    @memory_limit.setter
    def memory_limit(self, size: int) -> None:
        memory.pool.limit = size

    @property
    def memory_used(self) -> int:
        return memory.pool.used

    @property
    def memory_peak(self) -> int:
        """The most that was ever allocated since the machine was reset."""
        return memory.pool.peak

    @contextlib.contextmanager
    def only(self, schedule: int) -> Iterator[None]:
        """All launches inside run under one of the four schedules."""
        before, self.schedule = self.schedule, schedule
        try:
            yield
        finally:
            self.schedule = before


machine = Machine()
