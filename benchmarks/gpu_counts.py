"""A plugin of pytest: one line of JSON for each test as it ends, so that a run cut short still counts.

`-p benchmarks.gpu_counts` with OTDIST_COUNTS=FILE. A test that ran on the emulator is counted as such.
"""

from __future__ import annotations

import json
import os
from typing import Any

import pytest


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: Any, call: Any) -> Any:
    report = (yield).get_result()
    names = getattr(item, "fixturenames", ())
    if call.when == "setup":
        asks = {"cuda", "emulated"} & {*names}
        item.user_properties.append(("place", _place() if asks else "host"))
        report.user_properties = list(item.user_properties)


def _place() -> str:
    import sys

    module = sys.modules.get("cupy")
    return "device" if module is not None and module.__name__ == "cupy" else "emulator"


def pytest_configure(config: Any) -> None:
    if not hasattr(config, "workerinput"):  # the workers of pytest-xdist report to the process that counts
        config.pluginmanager.register(_Counts(os.environ["OTDIST_COUNTS"]))


class _Counts:
    def __init__(self, path: str) -> None:
        self.path = path

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self._put(test=report.nodeid, outcome="failed", place="host", why=str(report.longrepr)[-1500:])

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when != "call" and report.outcome == "passed":
            return
        place = dict(report.user_properties).get("place", "host")
        why = str(report.longrepr)[-1500:] if report.outcome != "passed" else None
        self._put(test=report.nodeid, outcome=report.outcome, place=place, seconds=report.duration, why=why)

    def _put(self, **line: Any) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
