"""What the GPU benchmark runs on: whether there is a GPU at all, driver, clocks, versions, commit."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ASKED = (
    "name", "driver_version", "vbios_version", "memory.total", "clocks.sm", "clocks.mem", "clocks.max.sm",
    "clocks.max.mem", "power.limit", "temperature.gpu", "persistence_mode", "mig.mode.current", "ecc.mode.current",
)  # fmt: skip
PACKAGES = (
    "otdist", "numpy", "scipy", "cupy-cuda12x", "cupy-cuda13x", "nvidia-cuda-nvrtc-cu12", "nvidia-cuda-nvrtc",
    "torch", "triton", "jax", "POT", "geomloss", "pykeops", "flash-sinkhorn", "ott-jax", "torch-lap-cuda",
    "cuvs-cu12", "cuvs-cu13", "torch-linear-assignment",
)  # fmt: skip


def emulated() -> bool:
    """Whether the emulator of the tests takes the GPU's place."""
    stand_in = sys.modules.get("cupy")
    return os.environ.get("OTDIST_EMULATE") == "1" or (stand_in is not None and stand_in.__name__ != "cupy")


@contextlib.contextmanager
def placed() -> Any:
    """The emulator in CuPy's place, where it is asked for and not there yet."""
    stand_in = sys.modules.get("cupy")
    if not emulated() or (stand_in is not None and stand_in.__name__ != "cupy"):
        yield
        return
    from tests import emulator

    with emulator.installed():
        yield


def missing() -> str:
    """'' where CUDA can be measured, else what is missing and how to get it; imports no library of arrays."""
    if emulated():
        return ""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return "no NVIDIA driver: run it on a machine whose nvidia-smi shows a GPU (in a container: --gpus all)"
    count = ctypes.c_int(0)
    code = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if code or not count.value:
        return f"the NVIDIA driver shows no GPU (error {code}): set CUDA_VISIBLE_DEVICES, or start with --gpus all"
    if importlib.util.find_spec("cupy") is None:
        return "CuPy is missing: pip install 'otdist[cuda12]' or 'otdist[cuda13]', as nvidia-smi says"
    return ""


def say(*command: str) -> str:
    """What a command prints; '' if it fails."""
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False, cwd=ROOT)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return run.stdout.strip() if run.returncode == 0 else ""


def commit() -> dict[str, Any]:
    head = say("git", "rev-parse", "HEAD")
    return {"commit": head or None, "changed": bool(say("git", "status", "--porcelain")) if head else None}


def report() -> dict[str, Any]:
    """Processor, driver, clocks and versions. The clocks are read, never set."""
    import cupy

    properties = cupy.cuda.runtime.getDeviceProperties(0)
    name = properties["name"]
    found: dict[str, Any] = {
        "gpu": name.decode() if isinstance(name, bytes) else str(name),
        "capability": f"{properties['major']}.{properties['minor']}",
        "processors": properties["multiProcessorCount"],
        "memory_bytes": properties["totalGlobalMem"],
        "l2_bytes": properties["l2CacheSize"],
        "cuda_driver": cupy.cuda.runtime.driverGetVersion(),
        "cuda_runtime": cupy.cuda.runtime.runtimeGetVersion(),
        "system": platform.platform(),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
    }
    found["versions"] = {p: v for p in PACKAGES if (v := version(p))}
    found["nvidia_smi"] = {} if emulated() else clocks()
    found["compute_sanitizer"] = shutil.which("compute-sanitizer")
    return found


def clocks() -> dict[str, str]:
    """What nvidia-smi says, now."""
    return {k: v for k in ASKED if (v := _asked(k))}


def version(package: str) -> str | None:
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return None


def _asked(key: str) -> str:
    """One by one: older drivers refuse a whole query for a name they do not know."""
    return say("nvidia-smi", "-i", "0", f"--query-gpu={key}", "--format=csv,noheader")


def _cpu() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
