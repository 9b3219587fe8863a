"""The part of CuPy that otdist uses, on the emulator; `sys.modules["cupy"]` while the fixture lasts."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from . import build, memory, races, source
from .arrays import MemoryPointer, UnownedMemory, device, host, ndarray
from .launch import Kernel, LaunchError, Record

__version__ = "13.0.0"
KERNELS = Path(__file__).parents[2] / "kernels"

for _name in (
    "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool_",
    "inf", "nan", "pi", "newaxis", "dtype", "integer", "floating", "number", "generic", "result_type", "promote_types",
    "finfo", "iinfo", "issubdtype", "can_cast",
):  # fmt: skip
    globals()[_name] = getattr(np, _name)


class Machine:
    """The emulated device: what tests set (schedule, limits) and what they read (launches, copies to the host)."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.schedule: int | None = None  # None: each launch takes the next of the four
        self.seconds = 20.0
        self.launches: list[Record] = []
        self.reads: list[int] = []
        self.stream: Any = None
        self.capability = "90"
        self.processors = 4
        self._next = 0
        memory.pool.limit = 1 << 30
        memory.pool.peak = memory.pool.used

    def next_schedule(self) -> int:
        self._next += 1
        return self.schedule if self.schedule is not None else (self._next - 1) % 4

    def after_launch(self, name: str) -> None:
        if build.races():
            races.check(name)

    @property
    def memory_limit(self) -> int:
        """Bytes that the device has; allocations above raise OutOfMemoryError."""
        return memory.pool.limit

    @memory_limit.setter
    def memory_limit(self, size: int) -> None:
        memory.pool.limit = size

    @property
    def memory_used(self) -> int:
        return memory.pool.used

    @property
    def memory_peak(self) -> int:
        """The most that was ever allocated since the machine was reset."""
        return memory.pool.peak

    @contextlib.contextmanager
    def only(self, schedule: int) -> Iterator[None]:
        """All launches inside run under one of the four schedules."""
        before, self.schedule = self.schedule, schedule
        try:
            yield
        finally:
            self.schedule = before


machine = Machine()


class RawModule:
    """CUDA C++ text for g++; the same arguments as CuPy's. Compiled when a function is asked for."""

    def __init__(
        self,
        *,
        code: str | None = None,
        path: str | None = None,
        options: tuple[str, ...] = (),
        backend: str = "nvrtc",
        translate_cucomplex: bool = False,
        enable_cooperative_groups: bool = False,
        name_expressions: Any = None,
        jitify: bool = False,
    ) -> None:
        if (code is None) == (path is None):
            raise TypeError("Exactly one of `code` and `path` keyword arguments must be given.")
        if isinstance(options, str):
            raise TypeError("options must be a tuple of str")
        folders = [Path(o[2:] or ".") for o in options if o.startswith("-I")]
        folders += [Path(o.split("=", 1)[1]) for o in options if o.startswith("--include-path=")]
        file = Path(path) if path is not None else None
        self._name = file.name if file else _kernel_file(code or "")
        self._text = source.flatten(file.read_text() if file else code or "", self._name, [*folders, KERNELS])
        self._defines = [o for o in options if o.startswith(("-D", "-U"))]
        self._expressions = list(name_expressions or ())
        self._cooperative = enable_cooperative_groups
        self._library: Any = None

    def compile(self, log_stream: Any = None) -> None:
        if self._library is None:
            names = self._expressions or source.c_names(self._text)
            exports = "".join(f"EMULATOR_EXPORT({source.identifier(n)}, {n})\n" for n in names)
            text = f'#include "cuda.h"\n{source.translate(self._text)}\n{exports}'
            self._library = build.kernel(text, Path(self._name).stem, self._defines)

    def get_function(self, name: str) -> Kernel:
        if self._expressions and name not in self._expressions:
            raise KeyError(f"{name} is not among the module's name expressions")
        self.compile()
        if not hasattr(self._library, f"emulator_run_{source.identifier(name)}"):
            raise cuda.driver.CUDADriverError(f"named symbol not found: {name}")
        return Kernel(self._library, name, source.identifier(name), machine, self._cooperative)


def _kernel_file(code: str) -> str:
    """The name that the text gives itself, for messages; kernel.cu where it gives none."""
    first = re.match(r'\s*#line 1 "([^"]+)"', code)
    return first[1] if first else "kernel.cu"


def RawKernel(code: str, name: str, options: tuple[str, ...] = (), **settings: Any) -> Kernel:
    """One kernel of a text, as CuPy's class of this name."""
    settings.pop("backend", None)
    expressions = (name,) if "<" in name else None
    return RawModule(code=code, options=options, name_expressions=expressions, **settings).get_function(name)


def empty(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    return ndarray(shape, dtype, order=order)


def full(shape: Any, fill_value: Any, dtype: Any = None, order: str = "C") -> ndarray:
    out = ndarray(shape, np.asarray(host(fill_value)).dtype if dtype is None else dtype, order=order)
    out._host[...] = host(fill_value)
    return out


def zeros(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    return full(shape, 0, dtype, order)


def ones(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    return full(shape, 1, dtype, order)


def empty_like(a: ndarray, dtype: Any = None, shape: Any = None) -> ndarray:
    return ndarray(a.shape if shape is None else shape, a.dtype if dtype is None else dtype)


def zeros_like(a: ndarray, dtype: Any = None) -> ndarray:
    return zeros(a.shape, a.dtype if dtype is None else dtype)


def full_like(a: ndarray, fill_value: Any, dtype: Any = None) -> ndarray:
    return full(a.shape, fill_value, a.dtype if dtype is None else dtype)


def ones_like(a: ndarray, dtype: Any = None) -> ndarray:
    return ones(a.shape, a.dtype if dtype is None else dtype)


def array(obj: Any, dtype: Any = None, copy: bool = True, order: str = "C") -> ndarray:
    if isinstance(obj, ndarray):
        return obj.astype(obj.dtype if dtype is None else dtype, copy=copy)
    foreign = getattr(obj, "__cuda_array_interface__", None)
    if foreign is not None:
        view = _adopt(foreign, obj)
        return view.astype(view.dtype if dtype is None else dtype, copy=copy)
    return device(np.array(_nested(obj), dtype=dtype))


def _nested(obj: Any) -> Any:
    return (
        [_nested(o) for o in obj] if isinstance(obj, list | tuple) else obj._host if isinstance(obj, ndarray) else obj
    )


def _adopt(interface: dict[str, Any], owner: Any) -> ndarray:
    kind = np.dtype(interface["typestr"])
    shape = interface["shape"]
    size = kind.itemsize * int(np.prod(shape, dtype=np.int64))
    pointer = MemoryPointer(UnownedMemory(interface["data"][0], size, owner), 0)
    return ndarray(shape, kind, pointer, interface.get("strides"))


def asarray(a: Any, dtype: Any = None, order: str = "C") -> ndarray:
    return array(a, dtype, copy=False)


def ascontiguousarray(a: Any, dtype: Any = None) -> ndarray:
    a = asarray(a, dtype)
    return a if a.flags.c_contiguous else a.copy()


def asnumpy(a: Any, stream: Any = None, order: str = "C", out: Any = None) -> Any:
    return a.get() if isinstance(a, ndarray) else np.asarray(a)


def from_dlpack(a: Any) -> ndarray:
    """Views another library's array. Its memory is the host's here, as no device is."""
    if isinstance(a, ndarray):
        return a._view(a._host, a)
    view = np.from_dlpack(a)
    pointer = MemoryPointer(UnownedMemory(view.__array_interface__["data"][0], view.nbytes, a), 0)
    return ndarray(view.shape, view.dtype, pointer, view.strides)


fromDlpack = from_dlpack


def get_array_module(*args: Any) -> Any:
    import sys

    return sys.modules[__name__] if any(isinstance(a, ndarray) for a in args) else np


def shares_memory(a: ndarray, b: ndarray) -> bool:
    return bool(np.shares_memory(a._host, b._host))


may_share_memory = shares_memory


def __getattr__(name: str) -> Any:
    """The rest (arange, concatenate, where, sum ...) is NumPy's, taken from and answered on the device."""
    function = getattr(np, name, None)
    if name.startswith("_") or not callable(function) or isinstance(function, type):
        raise AttributeError(f"module 'cupy' has no attribute {name!r}")
    return lambda *a, **k: device(function(*map(host, a), **{n: host(v) for n, v in k.items()}))


class Stream:
    """Work is done at once, so a stream only has its number, and a place in `with`."""

    null: Stream
    _last = 16

    def __init__(
        self, null: bool = False, non_blocking: bool = False, ptds: bool = False, priority: Any = None
    ) -> None:
        Stream._last += 0 if null else 16
        self.ptr = 0 if null else Stream._last
        self._before: list[Any] = []
        self.capturing = False

    def use(self) -> Stream:
        machine.stream = self
        return self

    def __enter__(self) -> Stream:
        self._before.append(machine.stream)
        return self.use()

    def __exit__(self, *_: Any) -> None:
        machine.stream = self._before.pop()

    def synchronize(self) -> None:
        if self.capturing:
            raise cuda.runtime.CUDARuntimeError("operation not permitted when stream is capturing")
        machine.reads.append(0)

    def is_capturing(self) -> bool:
        return self.capturing

    def begin_capture(self, mode: Any = None) -> None:
        self.capturing = True

    def end_capture(self) -> None:
        self.capturing = False

    def wait_event(self, event: Any) -> None: ...

    def record(self, event: Any = None) -> Any:
        return event or Event()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and other.ptr == self.ptr

    def __hash__(self) -> int:
        return hash(self.ptr)


class ExternalStream(Stream):
    """Another library's stream, by its number."""

    def __init__(self, ptr: int, device_id: int = -1) -> None:
        super().__init__(null=True)
        self.ptr = int(ptr)


class Event:
    def record(self, stream: Any = None) -> None: ...

    def synchronize(self) -> None: ...


Stream.null = Stream(null=True)
Stream.from_external = staticmethod(lambda stream: ExternalStream(stream.__cuda_stream__()[1]))  # type: ignore[attr-defined]


class Device:
    def __init__(self, device: int | None = None) -> None:
        self.id = 0 if device is None else int(device)

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *_: Any) -> None: ...

    def use(self) -> Device:
        return self

    def synchronize(self) -> None:
        machine.reads.append(0)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __int__(self) -> int:
        return self.id

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id}>"

    compute_capability = property(lambda self: machine.capability)
    pci_bus_id = "0000:00:00.0"

    @property
    def attributes(self) -> dict[str, int]:
        return {
            "MultiProcessorCount": machine.processors, "MaxSharedMemoryPerBlockOptin": 227 << 10,
            "MaxSharedMemoryPerBlock": 48 << 10, "MaxThreadsPerBlock": 1024, "WarpSize": 32, "CooperativeLaunch": 1,
            "ComputeCapabilityMajor": int(machine.capability[:-1]),
            "ComputeCapabilityMinor": int(machine.capability[-1]),
            "MaxRegistersPerBlock": 65536, "MaxSharedMemoryPerMultiprocessor": 228 << 10, "L2CacheSize": 50 << 20,
        }  # fmt: skip

    @property
    def mem_info(self) -> tuple[int, int]:
        return memory.pool.limit - memory.pool.used, memory.pool.limit


def _properties(device: int = 0) -> dict[str, Any]:
    a = Device(device).attributes
    return {
        "name": b"otdist emulator", "major": a["ComputeCapabilityMajor"], "minor": a["ComputeCapabilityMinor"],
        "multiProcessorCount": a["MultiProcessorCount"], "sharedMemPerBlock": a["MaxSharedMemoryPerBlock"],
        "sharedMemPerBlockOptin": a["MaxSharedMemoryPerBlockOptin"], "totalGlobalMem": memory.pool.limit,
        "maxThreadsPerBlock": 1024, "warpSize": 32, "l2CacheSize": a["L2CacheSize"], "regsPerBlock": 65536,
        "maxGridSize": (2147483647, 65535, 65535), "maxThreadsDim": (1024, 1024, 64), "cooperativeLaunch": 1,
        "sharedMemPerMultiprocessor": 228 << 10, "maxThreadsPerMultiProcessor": 2048,
    }  # fmt: skip


class CUDARuntimeError(RuntimeError): ...


class CUDADriverError(RuntimeError): ...


class _Pool:
    def free_all_blocks(self, stream: Any = None) -> None: ...

    def used_bytes(self) -> int:
        return memory.pool.used

    def free_bytes(self) -> int:
        return 0

    def total_bytes(self) -> int:
        return memory.pool.used


def _allocate(size: int) -> MemoryPointer:
    return MemoryPointer(memory.Allocation(size), 0)


def get_default_memory_pool() -> _Pool:
    return _Pool()


def _current_stream(device_id: int = -1) -> Stream:
    return machine.stream or Stream.null


cuda = SimpleNamespace(
    Stream=Stream, ExternalStream=ExternalStream, Event=Event, Device=Device, MemoryPointer=MemoryPointer,
    UnownedMemory=UnownedMemory, get_current_stream=_current_stream, is_available=lambda: True,
    alloc=_allocate, get_allocator=lambda: _allocate,
    memory=SimpleNamespace(
        OutOfMemoryError=memory.OutOfMemoryError, MemoryPointer=MemoryPointer, UnownedMemory=UnownedMemory
    ),
    driver=SimpleNamespace(CUDADriverError=CUDADriverError, get_build_version=lambda: 12090),
    runtime=SimpleNamespace(
        CUDARuntimeError=CUDARuntimeError, getDeviceProperties=_properties, getDeviceCount=lambda: 1,
        getDevice=lambda: 0, setDevice=lambda device: None, runtimeGetVersion=lambda: 12090,
        driverGetVersion=lambda: 12090, deviceSynchronize=lambda: machine.reads.append(0),
        memGetInfo=lambda: Device().mem_info,
        streamIsCapturing=lambda ptr: (machine.stream or Stream.null).capturing,
        is_hip=False,
    ),
)  # fmt: skip

__all__ = ["LaunchError", "RawKernel", "RawModule", "cuda", "machine", "ndarray"]
