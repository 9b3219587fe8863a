"""``otdist doctor``: what this installation runs on, and what to repair."""

import json
import os
import platform
import sys
import tempfile
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any

from otdist._table import show

__all__ = ["run"]

_PACKAGES = ("otdist", "numpy", "numba", "llvmlite", "scipy", "threadpoolctl", "torch", "jax", "POT")


def run(*, as_json: bool) -> int:
    """Print the report; returns 1 if there is something to repair, else 0."""
    problems: list[dict[str, str]] = []
    report: dict[str, Any] = {
        "versions": _versions(problems),
        "processor": _processor(problems),
        "threads": _threads(problems),
        "blas": _blas(),
        "gpu": _gpu(problems),
        "cache": _cache(problems),
    }
    report["problems"] = problems
    if as_json:
        print(json.dumps(report, allow_nan=False, ensure_ascii=False))
        return int(bool(problems))
    for section, content in report.items():
        if section != "problems":
            show(section, ["", ""], [[key, _text(value)] for key, value in content.items()])
    for problem in problems:
        print(f"PROBLEM  {problem['what']}\n  remedy {problem['remedy']}")
    if not problems:
        print("No problem found.")
    return int(bool(problems))


def _text(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def _versions(problems: list[dict[str, str]]) -> dict[str, str | None]:
    from otdist import __version__

    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in _PACKAGES:
        versions[package.lower()] = _version(package)
    versions["otdist"] = __version__
    cupys = _cupys()
    versions["cupy"] = ", ".join(f"{name} {version}" for name, version in cupys.items()) or None
    for package in ("numba", "scipy", "threadpoolctl"):
        if versions[package] is None:
            problems.append({"what": f"{package} is missing", "remedy": f"pip install {package}"})
    if len(cupys) > 1:
        problems.append(
            {
                "what": f"several CuPy packages overwrite each other: {', '.join(cupys)}",
                "remedy": f"pip uninstall {' '.join(cupys)}; then install the one of your CUDA version",
            }
        )
    return versions


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cupys() -> dict[str, str]:
    names = {str(found.metadata["Name"]).lower(): found.version for found in metadata.distributions()}
    cupys = ("cupy", *(name for name in sorted(names) if name.startswith(("cupy-cuda", "cupy-rocm"))))
    return {name: names[name] for name in cupys if name in names}


def _processor(problems: list[dict[str, str]]) -> dict[str, Any]:
    info = {"model": _cpu_model(), "machine": platform.machine(), "logical cores": os.cpu_count() or 1}
    try:
        from llvmlite import binding

        features = {name for name, present in binding.get_host_cpu_features().items() if present}
    except (ImportError, RuntimeError) as error:
        problems.append({"what": f"llvmlite does not load: {error}", "remedy": "pip install --force-reinstall numba"})
        return info
    wanted = ("sse4.2", "avx", "avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl", "neon", "sve")
    return info | {"simd": [name for name in wanted if name in features]}


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _threads(problems: list[dict[str, str]]) -> dict[str, Any]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        from otdist.kernels import threads

        return {"usable cores": usable, "used by otdist": threads.thread_count()}
    except ValueError as error:
        problems.append({"what": str(error), "remedy": "correct or unset that environment variable"})
        return {"usable cores": usable}
    except Exception as error:  # whatever breaks the kernels is what the reader is looking for
        problems.append({"what": f"the kernels do not load: {error}", "remedy": "reinstall otdist and numba"})
        return {"usable cores": usable}


def _blas() -> dict[str, Any]:
    import importlib.util

    import numpy  # noqa: F401  (loads the library that is reported)

    if importlib.util.find_spec("threadpoolctl") is None:
        return {}
    from threadpoolctl import threadpool_info

    return {
        f"{item.get('internal_api', '?')} {item.get('version') or ''}".strip(): f"{item.get('num_threads')} thread(s)"
        for item in threadpool_info()
        if item.get("user_api") == "blas"
    }


def _gpu(problems: list[dict[str, str]]) -> dict[str, Any]:
    """What the GPU lane finds: no GPU, or no CuPy, is nothing to repair; one without the other working is."""
    driver = Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidia0").exists()
    report: dict[str, Any] = {"nvidia driver": driver, "devices": []}
    if not _cupys() and "cupy" not in sys.modules:
        hint = "; pip install 'otdist[cuda12]' or 'otdist[cuda13]' to compute on it" if driver else ""
        return report | {"cupy": f"not installed{hint}"}
    from otdist.kernels import device

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            runtime = device.cupy().cuda.runtime
            count = runtime.getDeviceCount()
    except ImportError as error:
        what = _first_line(error.__cause__ or error)
        problems.append({"what": f"CuPy does not load: {what}", "remedy": "reinstall the CuPy of your CUDA version"})
        return report | {"cupy": what}
    except Exception as error:  # CuPy raises many types where CUDA is absent or broken
        if driver:
            remedy = "bring driver and CuPy to one version of CUDA: nvidia-smi shows the driver's"
            problems.append({"what": f"CuPy finds no GPU: {_first_line(error)}", "remedy": remedy})
        return report | {"cupy": _first_line(error)}
    for number in range(count):
        found = runtime.getDeviceProperties(number)
        gibibytes = found["totalGlobalMem"] / 2**30 if "totalGlobalMem" in found else 0.0
        name = f"{found['name'].decode()}, sm_{found['major']}{found['minor']}, {gibibytes:.0f} GiB"
        report["devices"].append(name)
        if (found["major"], found["minor"]) < (7, 0):
            problems.append(
                {"what": f"{name}: too old for the kernels", "remedy": "use a GPU of capability 7.0 or later"}
            )
    if count:
        report["kernels compile"] = _compiles(problems)
    return report


def _compiles(problems: list[dict[str, str]]) -> bool:
    from otdist.kernels import device

    try:
        space = device.Space(device.CupyMemory(0))
        return bool(space.host(space.full((4,), 1.0, "float32")).sum() == 4.0)
    except Exception as error:  # whatever breaks them is what the reader is looking for
        remedy = "pip install --force-reinstall the CuPy of your CUDA version, with nvidia-cuda-nvrtc"
        problems.append({"what": f"CUDA kernels do not compile or run: {_first_line(error)}", "remedy": remedy})
        return False


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def _cache(problems: list[dict[str, str]]) -> dict[str, Any]:
    try:
        from otdist.kernels import jit

        directory = jit.cache_directory()
    except Exception as error:  # reported once by _threads; here it only means that the place is not known
        return {"directory": f"unknown ({type(error).__name__})"}
    writable = directory is not None and _writable(directory)
    if not writable:
        problems.append(
            {
                "what": f"compiled kernels cannot be kept in {directory or 'any private directory'}: "
                "every process compiles anew",
                "remedy": "set OTDIST_CACHE_DIR to a directory that you, and only you, can write to",
            }
        )
    return {"directory": str(directory) if directory else None, "writable": writable}


def _writable(directory: Path) -> bool:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            return True
    except OSError:
        return False
