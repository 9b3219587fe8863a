"""The table of what each kernel takes of a multiprocessor, budgets.toml, and what a launch must fit into.

`python -m tests.emulator.budgets` compiles the kernels of all calls and writes the table anew.
"""

from __future__ import annotations

import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otdist.kernels import device
from tests import emulator
from tests.emulator import calls, offline

TABLE = Path(__file__).with_name("budgets.toml")
# Shared memory that a block may have; the runtime keeps 1 KB of each for itself.
SHARED = {"sm_80": 163 << 10, "sm_90": 227 << 10}
REGISTERS = 65536  # of a multiprocessor
_HEAD = """\
# For each kernel of tests/cuda_calls.py: registers of a thread (given out in eights), bytes of static shared memory of
# a block. No kernel spills or has a stack, but for what `local` says. Written by `python -m tests.emulator.budgets`.
"""


@dataclass(frozen=True)
class Need:
    """The most that any launch of one kernel asks for."""

    threads: int
    dynamic: int


def launched(names: list[str], architecture: str) -> dict[str, dict[str, Need]]:
    """File -> kernel -> need, of the calls of these names and families, on a device of that architecture."""
    out: dict[str, dict[str, Need]] = {}
    for call in calls.chosen(names):
        with emulator.installed() as machine:
            machine.capability = architecture.removeprefix("sm_")
            calls.on_device(call)
            for r in machine.launches:
                threads = r.block[0] * (r.block[1] if len(r.block) > 1 else 1) * (r.block[2] if len(r.block) > 2 else 1)
                need = out.setdefault(r.file, {}).get(r.name, Need(0, 0))
                out[r.file][r.name] = Need(max(threads, need.threads), max(r.shared, need.dynamic))
    return out


def compiled(kernels: dict[str, dict[str, Need]], architecture: str) -> dict[str, dict[str, offline.Resources]]:
    """File -> kernel -> resources. One compilation for each file: kernels without template arguments are in each."""
    return {
        file: offline.compile_text(device.source(file), sorted(names), architecture)
        for file, names in sorted(kernels.items())
    }


def misfits(need: Need, has: offline.Resources, architecture: str) -> list[str]:
    """Why a device would refuse the launch."""
    out = []
    if need.threads > has.threads:
        out.append(f"{need.threads} threads, launch bounds say {has.threads}")
    if need.threads * has.granted > REGISTERS:
        out.append(f"{need.threads} threads of {has.granted} registers are above {REGISTERS}")
    if has.shared > 48 << 10:
        out.append(f"{has.shared} bytes of static shared memory, 48 KB at most")
    if need.dynamic + has.shared > SHARED[architecture]:
        out.append(f"{need.dynamic} + {has.shared} bytes of shared memory, {SHARED[architecture]} at most")
    return out


def read() -> dict[str, Any]:
    """File -> kernel -> architecture -> [registers, shared memory, local memory]."""
    return tomllib.loads(TABLE.read_text())


def write(table: dict[str, dict[str, dict[str, offline.Resources]]], kept: dict[str, Any]) -> None:
    """Architecture -> file -> kernel -> resources, as a table by file, over what is `kept` of an earlier one."""
    rows = {file: dict(kernels) for file, kernels in kept.items()}
    for architecture, by_file in table.items():
        for file, kernels in by_file.items():
            for name, has in kernels.items():
                local = {"local": has.local} if has.local else {}
                entry = {"registers": has.granted, "shared": has.shared, **local}
                row = rows.setdefault(file, {})
                row[name] = {**row.get(name, {}), architecture: entry}
    lines = [_HEAD]
    for file in sorted(rows):
        lines.append(f'\n["{file}"]\n')
        for name, row in sorted(rows[file].items()):
            entries = (
                f"{architecture} = {{ {', '.join(f'{key} = {value}' for key, value in entry.items())} }}"
                for architecture, entry in row.items()
            )
            lines.append(f'"{name}" = {{ {", ".join(entries)} }}\n')
    TABLE.write_text("".join(lines))


def main() -> None:
    table = {a: compiled(launched(sys.argv[1:], a), a) for a in offline.ARCHITECTURES}
    write(table, read() if sys.argv[1:] else {})  # some families: the others stay
    print(TABLE.read_text())


if __name__ == "__main__":
    main()
