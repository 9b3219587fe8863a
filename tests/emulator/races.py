"""The race lane: the emulator under ThreadSanitizer, where only barriers order the memory of two CUDA threads.

`python -m tests.emulator.races [NAME or FAMILY ...]` makes the calls of tests/cuda_calls.py and names the two lines of
the first race. A process has the sanitizer's library from its start, so the calls are made by a new one.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_LINE = re.compile(r"#\d+ .*?([\w.]+\.cuh?):(\d+)")
_read: dict[Path, int] = {}


class RaceError(RuntimeError):
    """Two threads touched the same memory, one of them wrote, and no barrier stood between."""


def library() -> str:
    """ThreadSanitizer's shared library; '' where g++ has none."""
    if not shutil.which("g++"):
        return ""
    run = subprocess.run(["g++", "-print-file-name=libtsan.so"], capture_output=True, text=True, check=True)
    return run.stdout.strip() if os.path.isabs(run.stdout.strip()) else ""


def run(command: list[str], timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """`command` (arguments of this Python) with the emulator in the race lane."""
    # Shadow memory has fixed places, which a randomised layout of the address space may take.
    fixed = ["setarch", "-R"] if shutil.which("setarch") else []
    if fixed and subprocess.run([*fixed, "true"], capture_output=True).returncode:
        fixed = []
    with tempfile.TemporaryDirectory() as scratch:
        environment = {
            **os.environ,
            "OTDIST_EMULATOR_RACES": "1",
            "OTDIST_EMULATOR_RACE_LOG": f"{scratch}/log",
            "LD_PRELOAD": library(),
            "TSAN_OPTIONS": f"log_path={scratch}/log exitcode=0 report_signal_unsafe=0 history_size=2",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "OTDIST_NUM_THREADS": "1",
        }
        return subprocess.run(
            [*fixed, sys.executable, *command], capture_output=True, text=True, env=environment, timeout=timeout
        )


def reports() -> str:
    """What ThreadSanitizer has written since the last call."""
    log = Path(f"{os.environ['OTDIST_EMULATOR_RACE_LOG']}.{os.getpid()}")
    text = log.read_text() if log.exists() else ""
    new = text[_read.get(log, 0) :]
    _read[log] = len(text)
    return new


def check(kernel: str) -> None:
    """Raises for a race in the launch just made, with the two lines of the kernel's text that met."""
    for report in reports().split("WARNING: ThreadSanitizer: ")[1:]:
        if report.startswith("data race"):
            raise RaceError(f"{kernel}: race between {describe(report)}")


def describe(report: str) -> str:
    """'write at rows.cu:57 and read at rows.cu:63'."""
    met = []
    for part in re.split(r"\n\s*\n", report):
        kind = re.search(r"(atomic )?(read|write) of size", part, re.IGNORECASE)
        line = _LINE.search(part)
        if kind and line:
            met.append(f"{kind[2].lower()} at {line[1]}:{line[2]}")
        elif kind and "failed to restore the stack" in part:
            met.append(f"an earlier {kind[2].lower()}")
    return " and ".join(met) or report[:2000]


def main() -> None:
    done = run(["-m", "tests.emulator.calls", *sys.argv[1:]], timeout=3600)
    print(done.stdout, done.stderr, sep="")
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
