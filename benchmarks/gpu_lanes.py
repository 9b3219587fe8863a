"""Parts of the GPU benchmark that run in processes of their own, each within its seconds: tests, sanitizer, timings.

A kernel that hangs, or spoils the device for its process, ends that process only.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.gpu_machine import ROOT

TOOLS = ("memcheck", "racecheck")
# Seconds for a problem before its process is ended, at least.
PATIENCE = 45.0
SLACK = 2.0  # or so many times its share of the time that is left
# Small enough for a tool that makes kernels a hundred times slower.
SANITIZED = ("rows f32", "pairwise kl", "mmd", "softmin", "sinkhorn batch", "assignments", "assignment", "line")


def _environment(emulated: bool, **more: str) -> dict[str, str]:
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    place = {"OTDIST_EMULATE": "1"} if emulated else {"OTDIST_ON_DEVICE": "1"}
    kept = {k: v for k, v in os.environ.items() if k not in ("OTDIST_EMULATE", "OTDIST_ON_DEVICE")}
    return {**kept, **place, **more, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}


def _end(process: subprocess.Popen[str]) -> None:
    """With its children: the process has a session of its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)  # one that waits for the driver does not go


def _bounded(command: list[str], seconds: float, environment: dict[str, str]) -> tuple[int | None, str]:
    """Exit code (None: out of time) and the end of what it printed."""
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        code: int | None = None
        try:
            code = process.wait(max(1.0, seconds))
        except subprocess.TimeoutExpired:
            pass
        finally:
            _end(process)
        log.seek(0)
        return code, log.read()[-200_000:]


def run_tests(seconds: float, emulated: bool, chosen: tuple[str, ...]) -> dict[str, Any]:
    """All tests of the device, on it; counts by where they ran."""
    files = chosen or (*sorted(str(p.relative_to(ROOT)) for p in (ROOT / "tests").glob("test_cuda_*.py")),)
    files = files if chosen else (*files, "tests/test_device.py")
    parallel = importlib.util.find_spec("xdist") is not None
    workers = ["-n", "0" if chosen else str(min(12, os.cpu_count() or 1))] if parallel else []
    with tempfile.TemporaryDirectory() as folder:
        counts = Path(folder) / "counts"
        command = [
            *(sys.executable, "-m", "pytest", *files, *workers, "-q", "-o", "addopts=", "-m", "not slow"),
            *("-p", "no:cacheprovider", "-p", "benchmarks.gpu_counts"),
        ]
        begin = time.monotonic()
        code, log = _bounded(command, seconds, _environment(emulated, OTDIST_COUNTS=str(counts)))
        lines = counts.read_text().splitlines() if counts.exists() else []
    found = [json.loads(one) for one in lines if one.endswith("}")]
    tallies = {place: Counter(one["outcome"] for one in found if one["place"] == place) for place in _places(found)}
    report = {
        "finished": code is not None,
        "exit": code,
        "seconds": round(time.monotonic() - begin, 1),
        "passed": sum(one["outcome"] == "passed" for one in found),
        "failed": sum(one["outcome"] == "failed" for one in found),
        "skipped": sum(one["outcome"] == "skipped" for one in found),
        "by_place": {place: dict(tally) for place, tally in tallies.items()},
        "failures": [{"test": one["test"], "why": one["why"]} for one in found if one["outcome"] == "failed"][:40],
        "slowest": sorted(((round(o.get("seconds", 0), 2), o["test"]) for o in found), reverse=True)[:5],
    }
    return report if found else report | {"why": log[-1500:]}


def _places(found: list[dict[str, Any]]) -> list[str]:
    return sorted({one["place"] for one in found})


def sanitizer(seconds: float, emulated: bool, names: tuple[str, ...] = SANITIZED) -> dict[str, Any]:
    """compute-sanitizer over one small call of each family; the reason where it cannot run."""
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        return {"skipped": "compute-sanitizer is not on the PATH (it comes with the CUDA toolkit)"}
    report: dict[str, Any] = {"tool": tool}
    end = time.monotonic() + seconds
    # compiled before: the tools would slow the loading of every kernel, and the first call compiles
    if not emulated:
        _bounded(_child(names, 1.0, ("--tiny", "--check-only")), seconds / 3, _environment(emulated))
    for i, kind in enumerate(TOOLS):
        left = (end - time.monotonic()) / (len(TOOLS) - i)
        if left < 1:
            report[kind] = {"skipped": "no time was left"}
            continue
        command = [tool, "--tool", kind, "--error-exitcode", "86", "--print-limit", "20"]
        command += _child(names, 1.0, ("--tiny", "--check-only"))
        code, log = _bounded(command, left, _environment(emulated))
        done = sum('"event": "line"' in line for line in log.splitlines())
        wrong = sum('"right": false' in line for line in log.splitlines())
        found = re.findall(r"ERROR SUMMARY: (\d+) error|RACECHECK SUMMARY: (\d+) hazard", log)
        report[kind] = {
            "finished": code is not None and done == len(names),
            "exit": code,
            "problems": done,
            "wrong": wrong,
            "errors": sum(int(a or b) for a, b in found) if found else None,
            "log": "" if code == 0 else "\n".join(o for o in log.splitlines() if '"event"' not in o)[-3000:],
        }
    return report


def _child(names: tuple[str, ...], seconds: float, more: tuple[str, ...]) -> list[str]:
    only = [word for name in names for word in ("--problem", name)]
    return [sys.executable, "-m", "benchmarks.gpu_timings", "--seconds", f"{seconds:g}", *more, *only]


def timings(
    names: tuple[str, ...],
    seconds: float,
    emulated: bool,
    more: tuple[str, ...] = (),
    keep: Callable[[dict[str, Any]], None] = lambda _: None,
) -> dict[str, Any]:
    """Lines of all problems. The process is started anew after a problem that broke it or that took too long.

    Such a problem is tried once more without peers, for it may be theirs.
    """
    bare: dict[str, str] = {}
    report: dict[str, Any] = {"ceilings": None, "peers_skipped": {}, "lines": []}
    end, left = time.monotonic() + seconds, list(names)
    while left and (spare := end - time.monotonic()) > 1:
        share = spare / len(left)
        # a problem makes its data, compiles and proves itself before it measures
        again = tuple(word for one in bare for word in ("--bare", one))
        command = _child(tuple(left), max(1.0, 0.4 * share), (*more, *again))
        process, lines, log = _started(command, emulated)
        name, last, why = left[0], time.monotonic(), "out of time"
        try:
            while left:
                limit = min(end, last + max(PATIENCE, SLACK * share))
                try:
                    one = lines.get(timeout=max(0.01, limit - time.monotonic()))
                except queue.Empty:
                    break
                if one is None:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(5)
                    why = f"the process ended (exit {process.poll()})"
                    break
                kind = one.pop("event")
                last = time.monotonic()
                if kind == "begin":
                    name = one["name"]
                elif kind == "line":
                    report["lines"].append(one | ({"without_peers": bare[one["name"]]} if one["name"] in bare else {}))
                    left.remove(one["name"])
                else:
                    _merge(report, kind, one)
                keep(report)
        finally:
            _end(process)
            log.seek(0)
            tail = log.read()[-1500:]
            log.close()
        if left and name not in left:  # it ended between two
            name = left[0]
        if left and name not in bare:
            bare[name] = f"{why}: {tail[-300:]}"
        elif left:
            left.remove(name)
            report["lines"].append({"name": name, "skipped": why, "log": tail})
            keep(report)
    report["lines"] += [{"name": name, "skipped": "no time was left for it"} for name in left]
    keep(report)
    return report


def _merge(report: dict[str, Any], kind: str, one: dict[str, Any]) -> None:
    """What a process that is started anew measures again does not replace the first."""
    if not report.get(kind):
        report[kind] = one


def _started(command: list[str], emulated: bool) -> tuple[subprocess.Popen[str], queue.Queue[Any], Any]:
    log = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 (closed when the process has ended)
    process = subprocess.Popen(
        command, cwd=ROOT, env=_environment(emulated), stdout=subprocess.PIPE, stderr=log, text=True,
        start_new_session=True,
    )  # fmt: skip
    lines: queue.Queue[Any] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        with process.stdout as out:
            for text in out:
                with contextlib.suppress(ValueError):
                    one = json.loads(text)
                    if isinstance(one, dict) and "event" in one:
                        lines.put(one)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    return process, lines, log
