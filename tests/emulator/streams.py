"""The stand-in's `cupy.cuda`: streams, devices, memory pools, what the runtime tells."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from . import memory
from .arrays import MemoryPointer, UnownedMemory
from .machine import machine


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
    done = True

    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False) -> None: ...

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
            "MultiProcessorCount": machine.processors,
            "MaxSharedMemoryPerBlockOptin": (227 if machine.capability == "90" else 163) << 10,
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
