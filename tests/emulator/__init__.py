"""Runs the CUDA kernels on the CPU: see README.md."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from . import build

__all__ = ["available", "installed"]
available = build.available


@contextmanager
def installed() -> Iterator[Any]:
    """The stand-in in CuPy's place, its machine as new. Yields the machine."""
    from otdist.kernels import device

    from . import cupy_stand_in

    mine = {"cupy": cupy_stand_in, "cupy.cuda": cupy_stand_in.cuda}
    before = {name: sys.modules.get(name) for name in mine}
    sys.modules.update(mine)  # type: ignore[arg-type]
    cupy_stand_in.machine.reset()
    device._properties.cache_clear()  # a test may make another device of it
    try:
        yield cupy_stand_in.machine
    finally:
        for name, module in before.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module
