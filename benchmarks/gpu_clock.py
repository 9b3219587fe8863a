"""Seconds on the device by CUDA events: launches queued behind a kernel that waits, the L2 cache overwritten before."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import otdist as od
from benchmarks import gpu_machine
from benchmarks.gpu_problems import Rates

WAIT = r"""
extern "C" __global__ void wait(long long ticks) {
  long long begin = clock64();
  while (clock64() - begin < ticks) {}
}
"""
TICKS = 4_000_000  # about 2 ms: longer than the front door takes to launch
HALF_FLOPS = {7: 1024, 8: 2048, 9: 4096, 10: 8192}  # a processor and clock: dense products of halves


class Clock:
    """Times calls in the legacy default stream. On the emulator it only calls."""

    def __init__(self, cp: Any, emulated: bool) -> None:
        self.cp, self.emulated = cp, emulated
        attributes = cp.cuda.Device(0).attributes
        self.l2 = int(attributes.get("L2CacheSize", 0)) or 64 << 20
        self.hertz = 1e3 * float(attributes.get("ClockRate", 0)) or _clock()
        self.processors = int(attributes["MultiProcessorCount"])
        self.major = int(attributes["ComputeCapabilityMajor"])
        if not emulated:
            self._wait = cp.RawKernel(WAIT, "wait")
            self._other = cp.empty(2 * self.l2, np.uint8)

    def once(self, call: Callable[[], Any], deferred: bool = False, alone: bool = False) -> tuple[float, bool]:
        """Seconds, and whether the launches were queued before the clock began. `alone`: a call of other streams."""
        if self.emulated:
            call()
            return 0.0, False
        cp = self.cp
        stream = cp.cuda.Stream.null
        self._other.data.memset_async(0, self._other.nbytes, stream)
        begin, end = cp.cuda.Event(), cp.cuda.Event()
        cp.cuda.Device(0).synchronize()
        start = time.perf_counter()
        if not alone:
            self._wait((1,), (1,), (np.int64(TICKS),))
        begin.record(stream)
        if deferred:
            with od.deferred_checks():
                call()
                end.record(stream)
                host = time.perf_counter() - start
        else:
            call()
            end.record(stream)
            host = time.perf_counter() - start
        end.synchronize()
        return cp.cuda.get_elapsed_time(begin, end) * 1e-3, not alone and host < 0.9 * TICKS / self.hertz

    def rates(self) -> tuple[Rates, dict[str, Any]]:
        """Bandwidth of a copy of 2 GiB (or an eighth of what is free), and the rates that follow from the clock."""
        cp = self.cp
        free = int(cp.cuda.runtime.memGetInfo()[0])
        size = 1024 if self.emulated else min(2 << 30, free // 8)
        source = cp.asarray(np.random.default_rng(0).integers(0, 256, min(size, 1 << 26), np.uint8))
        source = cp.tile(source, size // source.size)
        copy = cp.empty(source.size, np.uint8)
        stream = cp.cuda.get_current_stream()
        took = [self.once(lambda: copy.data.copy_from_device_async(source.data, copy.nbytes, stream))[0]
                for _ in range(12)] if not self.emulated else [1.0]  # fmt: skip
        seconds = float(np.median(took[2:] or took))
        per_clock = self.processors * self.hertz
        rates = Rates(2.0 * source.size / seconds, 16 * per_clock, HALF_FLOPS.get(self.major, 4096) * per_clock)
        if self.emulated:
            return rates, {"emulated": True}
        return rates, {
            "copy_bytes_per_s": rates.bytes, "copy_low_s": min(took), "copy_high_s": max(took), "clock_hz": self.hertz,
            "computed_exps_per_s": rates.exps, "computed_half_flops_per_s": rates.flops,
        }  # fmt: skip


def _clock() -> float:
    """The highest clock of the processors, where CUDA does not tell it."""
    found = gpu_machine.clocks().get("clocks.max.sm", "") if not gpu_machine.emulated() else ""
    return 1e6 * float(found.split()[0]) if found[:1].isdigit() else float("nan")


def summary(taken: list[tuple[float, bool]]) -> dict[str, Any]:
    """Median, quartiles and extremes of repeats."""
    seconds = np.array([t for t, _ in taken])
    low, middle, high = (float(q) for q in np.quantile(seconds, (0.25, 0.5, 0.75)))
    return {
        "median_s": middle, "quartiles_s": [low, high], "least_s": float(seconds.min()),
        "most_s": float(seconds.max()), "turns": len(taken), "queued": all(queued for _, queued in taken),
    }  # fmt: skip
