"""The mutation tool: does a wrong kernel fail? `python -m tests.emulator.mutate rows.cu [--sample 20] [--races]`.

All mutants of a file are compiled once, each behind a switch. A first run finds which calls of tests/cuda_calls.py come
past which mutant; then each mutant lives alone through these calls, under the four schedules, in a process of its own.
It is caught by an error or by an answer that is not the CPU twin's; a barrier that is missed goes on to the race lane.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from otdist.kernels import device
from tests import emulator
from tests.cuda_calls import Call
from tests.emulator import build, calls, mutants, races

EQUIVALENT = Path(__file__).with_name("equivalent.toml")
SECONDS = 5.0  # of processor time for a launch; the right kernels take milliseconds


@contextmanager
def planted(file: str, found: list[mutants.Mutant]) -> Iterator[None]:
    """`kernels/` with all mutants in this file."""
    before = device.DIRECTORY
    with tempfile.TemporaryDirectory() as folder:
        for path in [*before.glob("*.cu"), *before.glob("*.cuh")]:
            shutil.copy(path, folder)
        (Path(folder) / file).write_text(mutants.plant((before / file).read_text(), found))
        device.DIRECTORY = Path(folder)
        device._compiled.cache_clear()
        try:
            yield
        finally:
            device.DIRECTORY = before
            device._compiled.cache_clear()


def live(number: int) -> None:
    """Switches one mutant on; -1 none."""
    ctypes.c_int.in_dll(build.scheduler(), "emulator_mutant").value = number


def reached() -> Any:
    """One byte for each mutant: bits as_barrier, as_bound, as_value of mutants.h."""
    return (ctypes.c_ubyte * mutants.LIMIT).in_dll(build.scheduler(), "emulator_reached")


def attempt(call: Call, schedule: int) -> list[Any]:
    with emulator.installed() as machine:
        machine.schedule, machine.seconds = schedule, SECONDS
        return calls.on_device(call)


def survey(found: list[mutants.Mutant], table: list[Call]) -> tuple[dict[int, list[Call]], set[int]]:
    """Which calls come past each mutant, and which mutants compare values, not integers."""
    past: dict[int, list[Call]] = {m.number: [] for m in found}
    values: set[int] = set()
    live(-1)
    for call in table:
        seen = reached()
        ctypes.memset(seen, 0, mutants.LIMIT)
        attempt(call, 0)
        for m in found:
            if seen[m.number] == 4:
                values.add(m.number)
            elif seen[m.number]:
                past[m.number].append(call)
    return past, {n for n in values if not past[n]}


def is_caught(work: Callable[[], None], seconds: float = 60, endless: bool = True) -> bool:
    """Whether the work fails, in a process of its own; `endless` is the answer where it takes longer than this."""
    child = os.fork()
    if not child:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status != 0
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return endless


def try_out(mutant: mutants.Mutant, table: list[Call], expected: dict[str, list[Any]]) -> bool:
    """Whether some call under some schedule fails while the mutant lives."""

    def work() -> None:
        live(mutant.number)
        for schedule in range(4):
            for call in table:
                calls.compare(call, attempt(call, schedule), expected[call.name])

    return is_caught(work)


def tests_fail(mutant: mutants.Mutant, files: list[str]) -> bool:
    """Whether the family's own tests fail while the mutant lives."""

    def work() -> None:
        import pytest

        live(mutant.number)
        if pytest.main(["-n0", "-x", "-q", "-p", "no:cacheprovider", *files]):
            raise AssertionError

    return is_caught(work, seconds=240, endless=False)


def races_found(mutant: mutants.Mutant, table: list[Call]) -> bool:
    """Whether the race lane reports the barrier that is left out."""
    for call in table:
        command = ["-m", "tests.emulator.mutate", mutant.file, "--only", str(mutant.number), "--call", call.name]
        if races.run(command).returncode:
            return True
    return False


def study(
    file: str,
    table: list[Call],
    sample: int | None = None,
    race: bool = False,
    tests: tuple[str, ...] = (),
    report: Callable[[str], Any] = print,
) -> tuple[int, list[str]]:
    """How many mutants were caught, and the survivors; `sample` of them, drawn with a fixed seed.

    Of those that some call comes past, where no tests are given; the others are reported.
    """
    found = mutants.find(file, (device.DIRECTORY / file).read_text())
    equivalent = tomllib.loads(EQUIVALENT.read_text()).get(file, {})
    with planted(file, found):
        past, values = survey(found, table)
        bounds = [m for m in found if m.number not in values and m.change not in equivalent]
        unrun = [m for m in bounds if not past[m.number]]
        if unrun and not tests:
            report(f"{len(unrun)} of {len(bounds)} in no call's way, lines {sorted({m.line for m in unrun})}")
            bounds = [m for m in bounds if past[m.number]]
        if sample is not None and sample < len(bounds):
            bounds = sorted(random.Random(0).sample(bounds, sample), key=lambda m: m.number)
        needed = {c.name: c for m in bounds for c in past[m.number]}
        expected = {name: calls.on_host(call) for name, call in needed.items()}
        for call in needed.values():
            calls.compare(call, attempt(call, 0), expected[call.name])
        caught, survivors = 0, []
        for m in bounds:
            if (
                try_out(m, past[m.number], expected)
                or (race and m.is_barrier and races_found(m, past[m.number]))
                or (tests and tests_fail(m, list(tests)))
            ):
                caught += 1
            else:
                survivors.append(str(m))
                report(f"survives: {m}")
    return caught, survivors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--sample", type=int)
    parser.add_argument("--races", action="store_true", help="send barriers that are missed to the race lane")
    parser.add_argument("--tests", nargs="*", default=[], help="test files that see what the calls have missed")
    parser.add_argument("--calls", nargs="*", default=[], help="names or families; all by default")
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--call", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only is not None:  # in the race lane
        with planted(options.file, mutants.find(options.file, (device.DIRECTORY / options.file).read_text())):
            live(options.only)
            attempt(calls.chosen([options.call])[0], 0)
        return
    start = time.monotonic()
    caught, survivors = study(
        options.file, calls.chosen(options.calls), options.sample, options.races, tuple(options.tests)
    )
    total = caught + len(survivors)
    print(f"{options.file}: {caught} of {total} caught, {time.monotonic() - start:.0f} s")
    sys.exit(caught < 0.95 * total)


if __name__ == "__main__":
    main()
