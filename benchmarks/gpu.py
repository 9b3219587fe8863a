"""The library on a GPU, in one command: is it right there, is it clean, how fast is it against its peers and the floor.

    python -m benchmarks.gpu [--json FILE] [--only WORD] [--quick] [--seconds 520]

Four parts, each with its share of the seconds; what one does not need, later ones have:

    machine     GPU, driver, clocks (read, never set), versions, commit
    tests       all tests of the CUDA kernels, on the device
    sanitizer   compute-sanitizer (memcheck, racecheck) over one small call of each family, where the tool is installed
    timings     by CUDA events: warm, in turns with the peers, medians and quartiles, the L2 cache overwritten before
                each call, launches queued behind a waiting kernel (`queued` says if they were); each proved right first

One JSON, written again after every step, so that a run cut short leaves what it has. Exit code 0: all is right; 1: a
test, a check or a result is not; 2: there is no GPU here. On the emulator (OTDIST_EMULATE=1) all parts run at tiny
sizes and the JSON has no figures.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import gpu_lanes, gpu_machine

SCHEMA = 1
PARTS = ("tests", "sanitizer", "timings")
TOTAL, QUICK = 520.0, 240.0
SHARES = {"tests": 0.34, "sanitizer": 0.16}  # of the seconds; the rest is for timings
PROBLEMS = (
    "rows f32", "rows bf16", "pairwise kl", "mmd", "softmin", "sinkhorn batch", "assignments", "assignment", "line",
)  # fmt: skip


def keep(path: Path, report: dict[str, Any]) -> None:
    """Whole or not at all."""
    report["seconds"] = round(time.monotonic() - report["_begin"], 1)
    shown = {k: v for k, v in report.items() if not k.startswith("_")}
    beside = path.with_name(path.name + ".part")
    beside.write_text(json.dumps(shown, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(beside, path)


def wanted(only: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Parts and problems that `--only` means."""
    if not only:
        return PARTS, PROBLEMS
    if only in PARTS:
        return (only,), PROBLEMS
    names = (only,) if only in PROBLEMS else tuple(name for name in PROBLEMS if only in name)
    return (("timings",) if names else ()), names


def measure(
    path: Path, options: argparse.Namespace, parts: tuple[str, ...], problems: tuple[str, ...], emulated: bool
) -> dict[str, Any]:
    begin = time.monotonic()
    end = begin + options.seconds
    report: dict[str, Any] = {
        "schema": SCHEMA, "complete": False, "emulated": emulated, **gpu_machine.commit(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"), "seconds": 0.0,
        "options": {"quick": options.quick, "only": options.only, "seconds": options.seconds}, "_begin": begin,
        "machine": gpu_machine.report(),
    }  # fmt: skip
    keep(path, report)
    chosen = tuple(options.tests or ())
    lanes: dict[str, Callable[[float], dict[str, Any]]] = {
        "tests": lambda s: gpu_lanes.run_tests(s, emulated, chosen),
        "sanitizer": lambda s: gpu_lanes.sanitizer(s, emulated, gpu_lanes.SANITIZED),
    }
    for part, run in lanes.items():
        if part in parts:
            spare = end - time.monotonic()
            seconds = spare if parts == (part,) else min(spare, options.seconds * SHARES[part])
            print(f"{part}: at most {seconds:.0f} s", flush=True)
            report[part] = run(seconds)
            keep(path, report)
    if "timings" in parts:

        def hold(found: dict[str, Any]) -> None:
            report["timings"] = found
            keep(path, report)

        print(f"timings: at most {end - time.monotonic():.0f} s", flush=True)
        more = ("--quick",) if options.quick else ()
        gpu_lanes.timings(problems, max(0.0, end - time.monotonic() - 3.0), emulated, more, hold)
    if not emulated:
        report["machine"]["nvidia_smi_after"] = gpu_machine.clocks()
    report["complete"] = True
    keep(path, report)
    return report


def is_right(report: dict[str, Any]) -> bool:
    """No failed test, no error of the sanitizer, no result that is wrong or that broke its process."""
    tests, sanitizer = report.get("tests"), report.get("sanitizer", {})
    if tests is not None and (tests["failed"] or not tests["passed"] or tests["exit"] not in (0, None)):
        return False
    if any(sanitizer.get(tool, {}).get(key) for tool in gpu_lanes.TOOLS for key in ("errors", "wrong")):
        return False
    return all(one.get("right", "log" not in one) for one in report.get("timings", {}).get("lines", ()))


def show(report: dict[str, Any]) -> None:
    if tests := report.get("tests"):
        tail = "" if tests["finished"] else ", out of time"
        print(
            f"tests      {tests['passed']} passed, {tests['failed']} failed, {tests['skipped']} skipped{tail}; ", end=""
        )
        print(", ".join(f"{sum(n.values())} on the {place}" for place, n in tests["by_place"].items()))
        for one in tests["failures"]:
            print(f"           FAILED {one['test']}")
    for tool in gpu_lanes.TOOLS:
        if one := report.get("sanitizer", {}).get(tool):
            print(f"{tool:10s} {one.get('skipped') or str(one['errors']) + ' errors'}")
    if why := report.get("sanitizer", {}).get("skipped"):
        print(f"sanitizer  skipped: {why}")
    for line in report.get("timings", {}).get("lines", ()):
        print(_line(line))
    for name, why in (report.get("timings", {}).get("peers_skipped") or {}).items():
        print(f"peer       {name}: {why}")


def _line(line: dict[str, Any]) -> str:
    head = f"{line['name']:15s} {line.get('size', ''):24s}"
    if "skipped" in line:
        return f"{head} skipped: {line['skipped']}"
    right = f"error {float(line['error']):.1e}"
    if "median_s" not in line:
        return f"{head} {right}"
    peers = "  ".join(f"{n} {p['ratio']:.2f}x" for n, p in line["peers"].items() if "ratio" in p)
    goal = {True: "met", False: "NOT met", None: "open"}[line["goal_met"]] if line["goal"] else ""
    low, high = line["quartiles_s"]
    return (
        f"{head} {line['median_s'] * 1e3:9.3f} ms [{low * 1e3:.3f}, {high * 1e3:.3f}]  floor {line['share']:6.1%}  "
        f"{right}  {line['goal']} {goal}  {peers}"
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", default="otdist-gpu.json", help="where the report goes (otdist-gpu.json)")
    parser.add_argument("--only", default="", help=f"one of {', '.join(PARTS)}, or a word in the names of problems")
    parser.add_argument("--quick", action="store_true", help="smaller problems, half the time")
    parser.add_argument("--seconds", type=float, help="for everything (520, --quick 240)")
    parser.add_argument("--tests", action="append", help="this file or test instead of all; may be repeated")
    options = parser.parse_args(argv)
    if why := gpu_machine.missing():
        print(f"benchmarks.gpu: {why}", file=sys.stderr)
        return 2
    parts, problems = wanted(options.only)
    if not parts:
        parser.error(f"--only {options.only}: nothing is called so; problems: {', '.join(PROBLEMS)}")
    options.seconds = options.seconds or (QUICK if options.quick else TOTAL)
    path = Path(options.json).resolve()
    with gpu_machine.placed():
        report = measure(path, options, parts, problems, gpu_machine.emulated())
    show(report)
    print(f"{report['seconds']:.0f} s; written to {path}")
    return 0 if is_right(report) else 1


if __name__ == "__main__":
    sys.exit(main())
