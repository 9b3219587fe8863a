"""Fixtures that many test modules share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests import emulator


@pytest.fixture
def emulated() -> Iterator[Any]:
    """CuPy's stand-in on the emulator in `sys.modules["cupy"]`; the value is the emulated machine."""
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
