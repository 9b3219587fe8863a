"""Fixtures that many test modules share."""

from __future__ import annotations

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
