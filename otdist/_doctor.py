"""``otdist doctor``: what this installation runs on, and what to repair."""

import json
import os
import platform
import tempfile
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
        "gpu": _gpu(),
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


def _gpu() -> dict[str, Any]:
    driver = Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidia0").exists()
    devices: list[str] = []
    if _cupys():
        try:
            import cupy

            for number in range(cupy.cuda.runtime.getDeviceCount()):
                devices.append(cupy.cuda.runtime.getDeviceProperties(number)["name"].decode())
        except Exception as error:  # CuPy raises many types where CUDA is absent or broken; none of them matters here
            return {"nvidia driver": driver, "devices": [], "cupy": str(error).splitlines()[0][:120]}
    return {"nvidia driver": driver, "devices": devices}


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
