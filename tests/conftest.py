"""Fixtures that many test modules share."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests import emulator


class _Device:
    """A GPU in the emulated machine's place: it has no threads to order, and nothing of what a machine notes."""

    schedule = None

    def only(self, schedule: Any) -> Any:
        return contextlib.nullcontext()

    def __getattr__(self, name: str) -> Any:
        pytest.skip(f"a GPU does not tell `{name}`")


@pytest.fixture
def emulated() -> Iterator[Any]:
    """CuPy's stand-in on the emulator in `sys.modules["cupy"]`; the value is the emulated machine.

    With OTDIST_ON_DEVICE=1 (`benchmarks.gpu`) the real CuPy, and tests that look into the machine skip there.
    """
    if os.environ.get("OTDIST_ON_DEVICE") == "1":
        import cupy

        assert cupy.cuda.is_available()
        yield _Device()
        return
    if why := emulator.available():
        pytest.skip(why)
    with emulator.installed() as machine:
        yield machine


@pytest.fixture
def cuda(request: pytest.FixtureRequest) -> Any:
    """CuPy where there is a GPU (OTDIST_EMULATE=1 leaves it alone), its stand-in on the emulator elsewhere."""
    if os.environ.get("OTDIST_EMULATE") != "1":
        try:
            import cupy

            if cupy.cuda.is_available():
                return cupy
        except ImportError:
            pass
    request.getfixturevalue("emulated")
    import cupy

    return cupy
