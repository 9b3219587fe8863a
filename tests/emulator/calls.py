"""Makes calls of the table on the emulator: `python -m tests.emulator.calls [--compare] [NAME or FAMILY ...]`."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from tests import emulator
from tests.cuda_calls import CALLS, Call


def chosen(names: list[str]) -> list[Call]:
    """The calls of these names and families; all where none is given."""
    unknown = set(names) - {c.name for c in CALLS} - {c.family for c in CALLS}
    if unknown:
        raise ValueError(f"no such call or family: {sorted(unknown)}")
    return [c for c in CALLS if not names or c.name in names or c.family in names]


def leaves(answer: Any) -> Iterator[Any]:
    """The arrays and numbers of an answer, on the host."""
    if isinstance(answer, dict):
        answer = list(answer.values())
    if dataclasses.is_dataclass(answer):
        answer = [getattr(answer, f.name) for f in dataclasses.fields(answer)]
    if isinstance(answer, list | tuple):
        for part in answer:
            yield from leaves(part)
    elif hasattr(answer, "get"):
        yield answer.get()
    elif isinstance(answer, np.ndarray | np.generic | int | float):
        yield np.asarray(answer)


def on_device(call: Call) -> list[Any]:
    """The answer of the emulated device; the stand-in must be installed."""
    import cupy

    return list(leaves(call.run(cupy.asarray)))


def on_host(call: Call) -> list[Any]:
    """The answer of the CPU twin."""
    return list(leaves(call.run(np.asarray)))


def compare(call: Call, got: list[Any], expected: list[Any]) -> None:
    """AssertionError where the twins disagree."""
    assert len(got) == len(expected), f"{call.name}: {len(got)} arrays, {len(expected)} on the CPU"
    for k, (a, b) in enumerate(zip(got, expected, strict=True)):
        np.testing.assert_allclose(
            a.astype("f8"), b.astype("f8"), rtol=call.rtol, atol=call.atol, err_msg=f"{call.name}, answer {k}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--compare", action="store_true", help="with the CPU twin's answer")
    parser.add_argument("--schedule", type=int, choices=range(4))
    options = parser.parse_args()
    for call in chosen(options.names):
        with emulator.installed() as machine:
            machine.schedule = options.schedule
            got = on_device(call)
            kernels = sorted({f"{r.file}: {r.name}" for r in machine.launches})
        if options.compare:
            compare(call, got, on_host(call))
        print(f"{call.name}: {len(kernels)} kernels", *kernels, sep="\n    ", flush=True)


if __name__ == "__main__":
    main()
