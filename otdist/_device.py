"""The door for arrays on a GPU: CuPy arrays, torch tensors and JAX arrays, seen as ``cupy.ndarray`` without a copy.

Results and workspaces are allocated by the caller's own library (`Memory`), whose allocator knows what is free; a pool
of ours beside it would not. Work goes into the caller's stream: that of torch or CuPy is current; JAX has none to
offer, so its arrays are waited for on CuPy's, and its results are handed over by DLPack, which orders the two.
"""

from __future__ import annotations

import functools
import sys
import weakref
from collections import deque
from typing import Any, ClassVar

import numpy as np

from otdist import _arrays
from otdist._arrays import Array
from otdist.kernels import device

Read = tuple[str, Any, list[Any], Any]


def read_cupy(arrays: dict[str, Any]) -> Read:
    """What `enter` wants to know of CuPy arrays: result dtype, device, views, space."""
    mine = {name: x for name, x in arrays.items() if _arrays._library(x)}
    for name, x in mine.items():
        if not _arrays._is_real(x.dtype):
            _arrays._refuse_dtype(name, x.dtype.name)
    homes = {name: f"cuda:{int(x.device.id)}" for name, x in mine.items()}
    _arrays._check_devices(homes, "cupy.asnumpy({})")
    number = int(next(iter(mine.values())).device.id)
    space = device.Space(device.CupyMemory(number), len(arrays))
    dtype = _arrays._promote(*(x.dtype for x in mine.values()))
    seen = {name: (x.view(np.uint16) if x.dtype.name == "bfloat16" else x, x.dtype.name) for name, x in mine.items()}
    return dtype, number, _prepared(space, arrays, seen, dtype), space


def read_torch(arrays: dict[str, Any], dtype: str, home: Any) -> Read:
    """The same of CUDA tensors, already checked."""
    torch: Any = sys.modules["torch"]
    if getattr(torch.version, "hip", None):
        raise ValueError(f"{next(iter(arrays))}: found a tensor on a ROCm device; there are kernels for CUDA only")
    memory = TorchMemory(home)
    space = device.Space(memory, len(arrays))
    seen = {}
    for name, x in arrays.items():
        if isinstance(x, torch.Tensor):
            x = x.detach().resolve_neg()
            seen[name] = (memory.view(x), str(x.dtype).removeprefix("torch."))
    return dtype, home, _prepared(space, arrays, seen, dtype), space


def read_jax(arrays: dict[str, Any], dtype: str, home: Any) -> Read:
    """The same of JAX arrays on one GPU, already checked."""
    jax: Any = sys.modules["jax"]
    if "rocm" in str(getattr(home.client, "platform_version", "")).lower():
        raise ValueError(f"{next(iter(arrays))}: found an array on a ROCm device; there are kernels for CUDA only")
    memory = JaxMemory(home)
    space = device.Space(memory, len(arrays))
    seen = {}
    for name, x in arrays.items():
        if isinstance(x, jax.Array):
            x = x if home in x.devices() else jax.device_put(x, home)
            if not _is_row_major(x):
                raise TypeError(
                    f"{name}: found an array of a layout of its own; pass jax.numpy.array({name}, copy=True)"
                )
            seen[name] = (memory.view(x), x.dtype.name)
    return dtype, home, _prepared(space, arrays, seen, dtype), space


def leave(door: Any, a: Any) -> Any:
    """Hand an array made by the space (or a NumPy array) to the caller, as the door says: see `Door.leave`."""
    space = door.space
    if isinstance(a, (np.ndarray, np.generic, float, int)):
        host = np.asarray(a)
        a = space.put(host if host.dtype.kind == "f" else host.astype(np.int64))
    narrow = door.dtype == "bfloat16"
    if a.dtype.kind == "f" or a.dtype == device.BFLOAT16:
        return space.owned(space.cast(a, device.BFLOAT16 if narrow else door.dtype), bfloat16=narrow)
    whole = "int64"
    if door.library == "jax" and not sys.modules["jax"].config.jax_enable_x64:
        whole = "int32"
    return space.owned(space.cast(a, whole))


def _prepared(space: Any, arrays: dict[str, Any], seen: dict[str, tuple[Any, str]], dtype: str) -> list[Any]:
    """The arrays in their order: half types as they are if the result has theirs, else in the dtype of arithmetic."""
    compute = np.dtype(np.float64 if dtype == "float64" else np.float32)
    ready = []
    for name, x in arrays.items():
        if name not in seen:  # a list or a number beside arrays of a library
            ready.append(space.put(_arrays._host(name, x).astype(compute)))
            continue
        view, own = seen[name]
        if own != dtype and own != compute.name:
            view = _converted(space, view, own, compute)
        elif own != dtype:
            view = view if view.dtype == compute else space.cast(view, compute)
        ready.append(view)
    return ready


def _converted(space: Any, view: Any, own: str, compute: np.dtype[Any]) -> Any:
    if own != "uint16":
        return space.cast(view, compute)
    # uint16 that are integers: `copy` would read them as bfloat16
    wide = space.empty((*view.shape, 2), np.uint16)
    with space.current():  # CuPy's own kernels
        wide.fill(0)
        wide[..., 0] = view
    return space.cast(wide.view(np.uint32)[..., 0], compute)


class TorchMemory:
    """torch's caching allocator, on torch's current stream of one device."""

    def __init__(self, home: Any) -> None:
        self.torch: Any = sys.modules["torch"]
        self.cupy = device.cupy()
        self.home = home
        self.device = int(home.index)
        self.stream = _stream(self.cupy, self.torch.cuda.current_stream(home).cuda_stream, self.device)
        self._owners: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()

    def view(self, x: Any) -> Any:
        """The tensor as a cupy.ndarray over the same memory, bfloat16 as uint16."""
        name = str(x.dtype).removeprefix("torch.")
        kind = device.BFLOAT16 if name == "bfloat16" else np.dtype(name)
        strides = tuple(s * kind.itemsize for s in x.stride())
        reach = sum(s * (n - 1) for s, n in zip(strides, x.shape, strict=True)) + kind.itemsize if x.numel() else 0
        return _over(self.cupy, x.data_ptr(), reach, x, self.device, tuple(x.shape), kind, strides)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        # as float types where they are such, for then `owned` hands out the very tensor
        kind = {"float16": "float16", "uint16": "bfloat16", "uint32": "int32", "uint64": "int64"}.get(
            dtype.name, dtype.name
        )
        tensor = self.torch.empty(shape, dtype=getattr(self.torch, kind), device=self.home)
        self._owners[tensor.data_ptr()] = tensor
        view = self.view(tensor)
        return view if view.dtype == dtype else view.view(dtype)

    def put(self, host: Array) -> Any:
        return self.view(self.torch.as_tensor(host, device=self.home))

    def owned(self, a: Any, bfloat16: bool) -> Any:
        tensor = self._owners.get(a.data.ptr)
        name = "bfloat16" if bfloat16 else a.dtype.name
        if tensor is None or str(tensor.dtype) != f"torch.{name}" or tensor.numel() < a.size:
            tensor = self.torch.from_dlpack(a)
            return tensor.view(self.torch.bfloat16) if bfloat16 else tensor
        return tensor.view(a.shape) if tensor.numel() == a.size else tensor.view(-1)[: a.size].view(a.shape)

    def spare(self) -> int:
        cuda = self.torch.cuda
        return int(cuda.memory_reserved(self.home) - cuda.memory_allocated(self.home))


class _Lease:
    """A JAX array, kept until the work is done that the stream had been given when the last view of it was dropped.

    JAX knows nothing of that work, and would hand the memory at once to computations in streams of its own.
    """

    # Bytes that may wait for the device before the host does.
    MOST = 1 << 28
    waiting: ClassVar[deque[tuple[Any, Any]]] = deque()

    def __init__(self, cp: Any, number: int, stream: Any, x: Any) -> None:
        weakref.finalize(self, self._end, cp, number, stream, x).atexit = False

    @classmethod
    def _end(cls, cp: Any, number: int, stream: Any, x: Any) -> None:
        with cp.cuda.Device(number):
            event = cp.cuda.Event(disable_timing=True)
            event.record(stream)
        cls.waiting.append((event, x))

    @classmethod
    def collect(cls, most: int = MOST) -> None:
        """Let go of arrays whose work is done, and wait for that of others while they hold more than `most` bytes."""
        while True:
            try:
                event, x = oldest = cls.waiting.popleft()
            except IndexError:
                return
            if not event.done:
                if sum(y.nbytes for _, y in list(cls.waiting)) + x.nbytes <= most:
                    cls.waiting.appendleft(oldest)
                    return
                event.synchronize()


class JaxMemory:
    """Memory of JAX's allocator, on CuPy's current stream of one device."""

    def __init__(self, home: Any) -> None:
        self.jax: Any = sys.modules["jax"]
        self.cupy = device.cupy()
        self.home = home
        self.device = int(getattr(home, "local_hardware_id", None) or 0)
        with self.cupy.cuda.Device(self.device):
            self.stream = self.cupy.cuda.get_current_stream()

    def view(self, x: Any) -> Any:
        """The array as a cupy.ndarray over the same memory, after what JAX computes in it."""
        x.__dlpack__(stream=self.stream.ptr or 1)  # the stream waits; 1 is the legacy default stream
        kind = device.BFLOAT16 if x.dtype.name == "bfloat16" else np.dtype(x.dtype.name)
        lease = _Lease(self.cupy, self.device, self.stream, x)
        return _over(self.cupy, x.unsafe_buffer_pointer(), x.nbytes, lease, self.device, x.shape, kind, None)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        size = max(1, int(np.prod(shape, dtype=np.int64))) * dtype.itemsize
        _Lease.collect()
        try:
            flat = self._bytes(size)
        except Exception:  # full, perhaps of what only waits to be let go
            _Lease.collect(0)
            flat = self._bytes(size)
        return self.cupy.ndarray(shape, dtype, memptr=flat.data)

    def _bytes(self, size: int) -> Any:
        with self.jax.default_device(self.home):
            # bytes, for without x64 JAX has no float64; zeros, for it has no memory without content
            return self.view(self.jax.numpy.zeros((size,), np.uint8))

    def put(self, host: Array) -> Any:
        a = self.empty(host.shape, host.dtype)
        if host.size:
            a.set(host, stream=self.stream)  # which waits for JAX's zeros
        return a

    def owned(self, a: Any, bfloat16: bool) -> Any:
        made = self.jax.dlpack.from_dlpack(a)
        made = self.jax.lax.bitcast_convert_type(made, self.jax.numpy.bfloat16) if bfloat16 else made
        return self.jax.device_put(made, self.home)

    def spare(self) -> int:
        found = self.home.memory_stats() or {}
        return max(0, int(found.get("pool_bytes", 0)) - int(found.get("bytes_in_use", 0)))


def _is_row_major(x: Any) -> bool:
    try:
        order = x.format.layout.major_to_minor
    except Exception:  # older versions keep it elsewhere, and give arrays one layout only
        return True
    return tuple(order) == tuple(range(x.ndim))


def _over(cp: Any, pointer: int, size: int, owner: Any, number: int, shape: Any, kind: Any, strides: Any) -> Any:
    """A cupy.ndarray over memory that `owner` keeps alive."""
    memory = cp.cuda.UnownedMemory(pointer, size, owner, number)
    return cp.ndarray(tuple(shape), kind, memptr=cp.cuda.MemoryPointer(memory, 0), strides=strides)


class _Handle:
    """A stream by its address, as the protocol of CUDA streams wants it."""

    def __init__(self, pointer: int) -> None:
        self.pointer = pointer

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.pointer


@functools.cache  # for good: torch has a fixed number of them
def _stream(cp: Any, pointer: int, number: int) -> Any:
    """Another library's stream as one of CuPy's."""
    if hasattr(cp.cuda.Stream, "from_external"):
        with cp.cuda.Device(number):  # it takes the current device for that of the stream
            return cp.cuda.Stream.from_external(_Handle(pointer))
    return cp.cuda.ExternalStream(pointer, number)
