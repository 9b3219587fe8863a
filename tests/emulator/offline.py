"""Compiles kernels for real devices without one: registers, shared memory and spills, as NVRTC's assembler reports.

NVRTC is a library of CUDA (pip: nvidia-cuda-nvrtc-cu12), the one that CuPy calls; it needs no driver and no headers.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import re
import sys
from dataclasses import dataclass
from pathlib import Path

ARCHITECTURES = ("sm_80", "sm_90")
# What occupancy depends on: registers are given out to a thread in eights.
REGISTER_STEP = 8


@dataclass(frozen=True)
class Resources:
    """What one kernel takes: registers, static shared memory, stack and spills; the threads that a block may have."""

    registers: int
    shared: int
    local: int
    threads: int = 1024

    @property
    def granted(self) -> int:
        """Registers that a thread really takes."""
        return -(-self.registers // REGISTER_STEP) * REGISTER_STEP


@functools.cache
def nvrtc() -> ctypes.CDLL | None:
    """The library: from a pip wheel, from CUDA's folder or from the system; None where there is none."""
    wheels = [
        p
        for folder in map(Path, dict.fromkeys(sys.path))
        for pattern in ("nvidia/*/lib/libnvrtc.so.1[2-9]", "nvidia/*/lib/x86_64/libnvrtc.so.1[2-9]")
        for p in sorted(folder.glob(pattern))
    ]
    toolkits = sorted(Path("/usr/local/cuda").glob("lib64/libnvrtc.so.1[2-9]"))
    for path in [*map(str, wheels + toolkits), ctypes.util.find_library("nvrtc")]:
        if path is None:
            continue
        # Its built-in functions are a library of their own, which it looks for by name.
        for helper in sorted(Path(path).parent.glob("libnvrtc-builtins.so.*")):
            ctypes.CDLL(str(helper), mode=ctypes.RTLD_GLOBAL)
        library = ctypes.CDLL(path)
        library.nvrtcGetErrorString.restype = ctypes.c_char_p
        return library
    return None


def version() -> tuple[int, int]:
    """NVRTC's version, e.g. (12, 9)."""
    library = nvrtc()
    assert library is not None
    major, minor = ctypes.c_int(), ctypes.c_int()
    library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return major.value, minor.value


def compile_text(
    text: str, names: list[str], architecture: str, options: tuple[str, ...] = ("-std=c++17",)
) -> dict[str, Resources]:
    """The resources of each name expression of a text. RuntimeError with the log where it does not compile."""
    library = nvrtc()
    assert library is not None, "no NVRTC: pip install nvidia-cuda-nvrtc-cu12"
    program = ctypes.c_void_p()
    _done(library, library.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernel.cu", 0, None, None))
    try:
        for name in names:
            _done(library, library.nvrtcAddNameExpression(program, name.encode()))
        flags = [f.encode() for f in (*options, f"-arch={architecture}", "--ptxas-options=-v")]
        code = library.nvrtcCompileProgram(program, len(flags), (ctypes.c_char_p * len(flags))(*flags))
        log = _text(library, program, "ProgramLog")
        if code:
            raise RuntimeError(f"NVRTC, {architecture}, {names}:\n{log[:6000]}")
        assembly = _text(library, program, "PTX")
        lowered = {name: _lowered(library, program, name) for name in names}
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))
    found = parse(log, assembly)
    return {name: found[symbol] for name, symbol in lowered.items()}


def parse(log: str, assembly: str) -> dict[str, Resources]:
    """The assembler's report of each entry point, by its mangled name; launch bounds from the assembly."""
    bounds = dict(re.findall(r"\.entry (\w+)\([^)]*\)\s*\.maxntid (\d+)", assembly))
    out = {}
    for entry in re.split(r"Compiling entry function '", log)[1:]:
        symbol = entry.split("'", 1)[0]
        registers = re.search(r"Used (\d+) registers", entry)
        assert registers is not None, entry
        shared = re.search(r"(\d+) bytes smem", entry)
        used = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", entry)
        local = sum(map(int, used.groups())) if used else 0
        threads = int(bounds.get(symbol, 1024))
        out[symbol] = Resources(int(registers[1]), int(shared[1]) if shared else 0, local, threads)
    return out


def _lowered(library: ctypes.CDLL, program: ctypes.c_void_p, name: str) -> str:
    symbol = ctypes.c_char_p()
    _done(library, library.nvrtcGetLoweredName(program, name.encode(), ctypes.byref(symbol)))
    return (symbol.value or b"").decode()


def _text(library: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> str:
    size = ctypes.c_size_t()
    _done(library, getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    text = ctypes.create_string_buffer(size.value)
    _done(library, getattr(library, f"nvrtcGet{what}")(program, text))
    return text.value.decode(errors="replace")


def _done(library: ctypes.CDLL, code: int) -> None:
    if code:
        raise RuntimeError(f"NVRTC: {library.nvrtcGetErrorString(code).decode()}")
