"""The race lane's reports: ThreadSanitizer writes them to a file, which is looked at after every launch."""

from __future__ import annotations

import os
import re
from pathlib import Path

_LINE = re.compile(r"#\d+ .*?([\w.]+\.cuh?):(\d+)")
_read: dict[Path, int] = {}


class RaceError(RuntimeError):
    """Two threads touched the same memory, one of them wrote, and no barrier stood between."""


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
        if not report.startswith("data race"):
            continue
        places = [m[0] for part in re.split(r"\n\s*\n", report) if (m := _first(part))]
        kinds = re.findall(r"(?:Previous |Atomic )?(?:atomic )?(read|write) of size", report, re.IGNORECASE)
        said = " and ".join(f"{k.lower()} at {p}" for k, p in zip(kinds, places, strict=False))
        raise RaceError(f"{kernel}: race between {said or report[:2000]}")


def _first(part: str) -> tuple[str] | None:
    found = _LINE.search(part)
    return (f"{found[1]}:{found[2]}",) if found else None
