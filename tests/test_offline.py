"""Every kernel compiles for real devices without spills, within its budget, and its launches would be accepted."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from otdist.kernels import device
from tests import emulator
from tests.cuda_calls import CALLS
from tests.emulator import budgets, offline

FAMILIES = sorted({c.family for c in CALLS})
FILES = sorted(p.name for p in device.DIRECTORY.glob("*.cu"))

pytestmark = pytest.mark.skipif(bool(emulator.available()), reason=emulator.available() or "-")
needs_nvrtc = pytest.mark.skipif(offline.nvrtc() is None, reason="no NVRTC: pip install nvidia-cuda-nvrtc-cu12")


@needs_nvrtc
@pytest.mark.parametrize("architecture", offline.ARCHITECTURES)
@pytest.mark.parametrize("family", FAMILIES)
def test_kernels_stay_within_their_budgets(family, architecture):
    table = budgets.read()
    needs = budgets.launched([family], architecture)
    wrong = []
    for file, kernels in budgets.compiled(needs, architecture).items():
        for name, has in kernels.items():
            found = [f"{file}, {name}: {why}" for why in budgets.misfits(needs[file][name], has, architecture)]
            budget = table.get(file, {}).get(name, {}).get(architecture)
            if budget is None:
                found.append(f"{file}, {name}: not in budgets.toml; python -m tests.emulator.budgets writes it")
            else:
                if has.granted > budget["registers"] or has.shared > budget["shared"]:
                    found.append(f"{file}, {name}: {has}, above its budget {budget}")
                if has.local > budget.get("local", 0):
                    found.append(f"{file}, {name}: {has.local} bytes of stack and spills")
            wrong += found
    assert not wrong, "\n".join(wrong)


# A second compiler's opinion, and its newest version's; the same text has gone through NVRTC above.
@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("nvcc"), reason="no nvcc")
@pytest.mark.parametrize("family", FAMILIES)
def test_nvcc_takes_the_kernels(family, tmp_path):
    for file, kernels in budgets.launched([family], "sm_90").items():
        uses = "".join(f"void* use_{k}() {{ return (void*)({name}); }}\n" for k, name in enumerate(kernels))
        text = tmp_path / file
        text.write_text(f"{device.source(file)}\n{uses}")
        command = ["nvcc", "-std=c++17", "-arch=sm_90", "-cubin", "-o", str(tmp_path / "out.cubin"), str(text)]
        run = subprocess.run(command, capture_output=True, text=True)
        assert not run.returncode, f"{file}: {run.stderr[:4000]}"


# Kernels that are waiting for a call in tests/cuda_calls.py; what has one must leave the list.
_WAITING: dict[str, set[str]] = {}


@pytest.mark.parametrize("file", FILES)
def test_every_kernel_has_a_call(file):
    text = re.sub(r"//[^\n]*", "", (device.DIRECTORY / file).read_text())
    bounds = r"(?:__launch_bounds__\s*\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)\s*)?"
    written = set(re.findall(rf"__global__\s+void\s+{bounds}(\w+)\s*\(", text))
    called = {name.split("<")[0] for name in budgets.read().get(file, {})}
    waiting = _WAITING.get(file, set())
    assert written
    assert written - called == waiting, f"calls are missing for {sorted(written - called)}, expected for {waiting}"
