"""A kernel as the stand-in's RawModule gives it: its arguments checked against the parameters, then run."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import build, memory
from .arrays import ndarray

_TYPES = {
    "float": "f4", "double": "f8", "bool": "b1", "char": "i1", "signed char": "i1", "unsigned char": "u1",
    "short int": "i2", "short unsigned int": "u2", "int": "i4", "unsigned int": "u4", "long int": "i8",
    "long unsigned int": "u8", "long long int": "i8", "long long unsigned int": "u8", "__half": "f2",
    "__nv_bfloat16": "bfloat16", "__half2": "f2", "__nv_bfloat162": "bfloat16",
    "float16": "f2", "bfloat16": "bfloat16",
}  # fmt: skip
_VECTOR = {
    "float": "f4", "double": "f8", "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4",
    "uint": "u4", "longlong": "i8", "ulonglong": "u8",
}  # fmt: skip


class LaunchError(RuntimeError):
    """A kernel did what no kernel may do."""


class _Launch(ctypes.Structure):
    _fields_ = [
        ("grid", ctypes.c_uint32 * 3),
        ("block", ctypes.c_uint32 * 3),
        ("shared", ctypes.c_uint32),
        ("schedule", ctypes.c_int32),
        ("cooperative", ctypes.c_int32),
        ("seconds", ctypes.c_double),
        ("kernel", ctypes.c_void_p),
        ("arguments", ctypes.c_void_p),
        ("attach", ctypes.c_void_p),
        ("static_shared", ctypes.c_void_p),
        ("error", ctypes.c_char * 400),
        ("places", ctypes.c_uint64 * 4),
    ]


@dataclass
class Record:
    """One launch, for tests that count them or look at their shape."""

    file: str
    name: str
    grid: tuple[int, ...]
    block: tuple[int, ...]
    shared: int
    stream: int


def parameters(signature: str) -> list[str]:
    """The parameter types in what g++ prints for emulator::signature: '... [with A = {const float*, int}]'."""
    listed = re.search(r"\[with A = \{(.*)\}\]", signature)
    if not listed:
        raise RuntimeError(f"cannot read the parameters in {signature!r}")
    types, depth, current = [], 0, ""
    for letter in listed[1] + ",":
        depth += (letter == "<") - (letter == ">")
        if letter == "," and not depth:
            types.append(re.sub(r"\bconst\b|\bvolatile\b|__restrict__|__restrict", "", current).strip())
            current = ""
        else:
            current += letter
    return [re.sub(r"\s+", " ", t) for t in types if t]


def _fits(dtype: np.dtype[Any], parameter: str) -> bool:
    if parameter in ("void", "std::byte"):
        return True
    wanted = _TYPES.get(parameter)
    if wanted is None and (vector := re.fullmatch(r"(\w+?)[1-4]", parameter)):
        wanted = _VECTOR.get(vector[1])
    if wanted is None:
        raise LaunchError(f"a parameter of type {parameter}: pass scalars and pointers to numbers")
    if wanted == "bfloat16":  # CuPy 13 has no such type: its bits travel as uint16
        return dtype.name in ("bfloat16", "uint16")
    return dtype.name != "bfloat16" and f"{dtype.kind}{dtype.itemsize}" == wanted


class Kernel:
    """One entry point. `schedule` is the order in which threads run; None takes the machine's."""

    def __init__(self, library: ctypes.CDLL, file: str, name: str, ident: str, machine: Any, cooperative: bool) -> None:
        self.file, self.name, self.machine, self.cooperative = file, name, machine, cooperative
        self._library = library
        signature = getattr(library, f"emulator_signature_{ident}")
        signature.restype = ctypes.c_char_p
        self._parameters = parameters(signature().decode())
        self._entry = ctypes.cast(getattr(library, f"emulator_run_{ident}"), ctypes.c_void_p)
        self.max_dynamic_shared_size_bytes = 48 << 10
        self.attributes: dict[str, int] = {"max_threads_per_block": 1024}

    def __call__(
        self, grid: Any, block: Any, args: Any, *, shared_mem: int = 0, stream: Any = None, schedule: int | None = None
    ) -> None:
        if shared_mem > self.max_dynamic_shared_size_bytes:
            raise LaunchError(f"{self.name}: {shared_mem} bytes of dynamic shared memory, above the kernel's attribute")
        grid, block = tuple(map(int, grid)), tuple(map(int, block))
        stream_ptr = getattr(stream or self.machine.stream, "ptr", 0)
        self.machine.launches.append(Record(self.file, self.name, grid, block, shared_mem, stream_ptr))
        pointers, arrays, keep = self._pack(args)
        call = _Launch()
        call.grid[:] = (*grid, 1, 1)[:3]
        call.block[:] = (*block, 1, 1)[:3]
        call.shared = shared_mem
        call.schedule = self.machine.next_schedule() if schedule is None else schedule
        call.cooperative = self.cooperative
        call.seconds = self.machine.seconds
        call.kernel, call.arguments = self._entry, ctypes.cast(pointers, ctypes.c_void_p)
        call.attach = ctypes.cast(self._library.emulator_attach, ctypes.c_void_p)
        call.static_shared = ctypes.cast(self._library.emulator_static_shared, ctypes.c_void_p)
        build.scheduler().emulator_launch(ctypes.byref(call))
        del keep
        if call.error:
            where = self._place(call.places[0])
            raise LaunchError(f"{self.name}, schedule {call.schedule}: {call.error.decode()}{where}")
        self.machine.after_launch(self.name)
        for number, array in arrays:
            held = memory.allocation_of(array.data.ptr)
            if held is not None and held.slack_touched():
                raise LaunchError(f"{self.name}: something was written just outside argument {number}")

    def _pack(self, args: Any) -> tuple[Any, list[tuple[int, ndarray]], list[Any]]:
        if len(args) != len(self._parameters):
            raise TypeError(f"{self.name}: {len(args)} arguments for {len(self._parameters)} parameters")
        pointers = (ctypes.c_void_p * max(len(args), 1))()
        keep: list[Any] = []
        arrays = []
        for k, (value, parameter) in enumerate(zip(args, self._parameters, strict=True)):
            if isinstance(value, np.ndarray):
                raise TypeError(f"{self.name}: argument {k} is a NumPy array; a kernel takes device arrays")
            if isinstance(value, ndarray):
                if not parameter.endswith("*") or not _fits(value.dtype, parameter[:-1].strip()):
                    raise TypeError(
                        f"{self.name}: argument {k} is an array of {value.dtype}, the parameter {parameter}"
                    )
                arrays.append((k, value))
                held: Any = ctypes.c_void_p(value.data.ptr if value.size else 0)
            elif value is None or hasattr(value, "mem"):
                if not parameter.endswith("*"):
                    raise TypeError(f"{self.name}: argument {k} is a pointer, the parameter {parameter}")
                held = ctypes.c_void_p(0 if value is None else value.ptr)
            else:
                number = np.asarray(value)
                null = parameter.endswith("*") and number.dtype == np.uintp and number == 0
                if not null and (parameter.endswith("*") or not _fits(number.dtype, parameter)):
                    raise TypeError(f"{self.name}: argument {k} is a scalar {number.dtype}, the parameter {parameter}")
                held = ctypes.create_string_buffer(number.tobytes())
            keep.append(held)
            pointers[k] = ctypes.addressof(held)
        return pointers, arrays, keep

    def _place(self, address: int) -> str:
        """' at file:line', from the debug lines of the shared object that the address lies in."""
        for line in Path("/proc/self/maps").read_text().splitlines():
            span, _, offset, _, _, *path = line.split(maxsplit=5)
            low, high = (int(x, 16) for x in span.split("-"))
            if low <= address - 1 < high and path and path[0].strip().startswith(os.sep):
                at = hex(address - 1 - low + int(offset, 16))
                shared_object = path[0].strip().removesuffix(" (deleted)")  # by a process that built the same beside us
                run = subprocess.run(["addr2line", "-i", "-e", shared_object, at], capture_output=True, text=True)
                lines = re.findall(r"([^/\n]+:\d+)", run.stdout)
                return f" at {next((x for x in lines if '.cu' in x), lines[0])}" if lines else ""
        return ""
