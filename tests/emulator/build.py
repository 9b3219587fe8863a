"""g++ makes shared objects of the scheduler and of kernels; each is kept, by its hash, in a cache."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

EXECUTOR = Path(__file__).parent / "executor"
# DWARF 4: addr2line loses the names that #line gives in 5.
# x86-64-v3 has fused multiply-add and float16 conversions, as the device has; contraction is NVRTC's default too.
_COMMON = ["-std=c++17", "-march=x86-64-v3", "-fPIC", "-shared", "-g1", "-gdwarf-4", "-pthread"]
_SCHEDULER = ["-O2", "-fno-tree-loop-distribute-patterns", "-Wall", "-Wextra"]
_KERNEL = [
    "-O1", "-ffp-contract=fast", "-fno-math-errno", "-fno-stack-protector", "-mtls-dialect=gnu2",
    "-fno-strict-aliasing", "-Wall", "-Wno-unknown-pragmas", "-Wno-unused", "-Wno-sign-compare",
]  # fmt: skip
# An index outside an array of known size (shared, or a thread's own) traps.
_BOUNDS = ["-fsanitize=bounds", "-fsanitize-undefined-trap-on-error"]
_RACES = ["-fsanitize=thread", "-DOTDIST_RACES"]


def races() -> bool:
    """Whether this process is the race lane (it then runs with ThreadSanitizer's library preloaded)."""
    return os.environ.get("OTDIST_EMULATOR_RACES") == "1"


def available() -> str:
    """'' where kernels can be built and run, else why not."""
    if os.uname().machine != "x86_64" or os.uname().sysname != "Linux":
        return "the emulator switches stacks in x86-64 Linux assembly"
    if "avx2" not in (cpu := Path("/proc/cpuinfo").read_text()) or "f16c" not in cpu:
        return "the emulator needs a processor with AVX2, FMA and F16C"
    return "" if shutil.which(_compiler()) else f"the emulator needs {_compiler()}"


def _compiler() -> str:
    return os.environ.get("OTDIST_EMULATOR_CXX", "g++")


@functools.cache
def _directory() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = Path(base) / "otdist-emulator"
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path.stat().st_uid != os.getuid() or not os.access(path, os.W_OK):
            raise PermissionError(path)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="otdist-emulator-"))
    return path


@functools.cache
def _identity() -> str:
    version = subprocess.run([_compiler(), "--version"], capture_output=True, text=True, check=True).stdout
    return version + "".join(p.read_text() for p in sorted(EXECUTOR.rglob("*")) if p.is_file() and p.suffix != ".cpp")


class CompileError(RuntimeError):
    """g++ refused a kernel."""


def compile_shared(sources: list[str], flags: list[str], name: str) -> Path:
    """The shared object of these sources (paths, or one text); compiled where no earlier run has left it."""
    texts = [Path(s).read_text() for s in sources if s.endswith(".cpp")]
    key = hashlib.sha256("\0".join([_identity(), *sources, *texts, *flags]).encode()).hexdigest()[:24]
    made = _directory() / f"{name}-{key}.so"
    if made.exists():
        return made
    # Workers may compile the same text at once: each writes its own files, the last rename wins.
    with tempfile.TemporaryDirectory(dir=_directory()) as scratch:
        text = Path(scratch) / "kernel.cpp"
        inputs = sources
        if not Path(sources[0][:200].split("\n", 1)[0]).is_file():
            text.write_text(sources[0])
            inputs = [str(text)]
        out = Path(scratch) / made.name
        run = subprocess.run([_compiler(), *flags, *inputs, "-o", str(out)], capture_output=True, text=True)
        if run.returncode:
            raise CompileError(f"{name}: g++ says\n{run.stderr[:6000]}")
        os.replace(out, made)
    return made


@functools.cache
def scheduler() -> ctypes.CDLL:
    """The scheduler, loaded so that kernels find its functions."""
    files = sorted(str(p) for p in EXECUTOR.glob("*.cpp"))
    flags = [*_COMMON, *_SCHEDULER, *(["-DOTDIST_RACES"] if races() else [])]
    return ctypes.CDLL(str(compile_shared(files, flags, "scheduler")), mode=ctypes.RTLD_GLOBAL)


def kernel(text: str, name: str, defines: list[str]) -> ctypes.CDLL:
    """A kernel's text with its exports, compiled and loaded."""
    scheduler()
    mutants = ["-DOTDIST_MUTANTS"] if "emulator::compare<" in text or "emulator::lives(" in text else []
    flags = [
        *_COMMON,
        *_KERNEL,
        *mutants,
        *(_RACES if races() else _BOUNDS),
        f"-I{EXECUTOR}",
        f"-I{EXECUTOR / 'include'}",
    ]
    return ctypes.CDLL(str(compile_shared([text], [*flags, *defines], name)))
