"""The only file that knows CUDA: compile, launch, streams, memory, limits, and when bad values are reported.

A kernel is C++17 text in a ``.cu`` file beside this one; what it includes is written into it (`source`), so that the
text compiles alone and CuPy's cache on disk sees every change. No header of CUDA is needed. Templates are named by
C++ expressions, and each is compiled by itself, when first launched, for the device it is launched on.

Arrays are ``cupy.ndarray`` of float16, uint16, float32, float64 or integers. uint16 is bfloat16: CuPy has no such
dtype, and an integer array never gets past the door as one. `ctype` names the type in C++.
"""

from __future__ import annotations

import functools
import importlib
import math
import operator
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from otdist.kernels import binaries

T = TypeVar("T")
DIRECTORY = Path(__file__).resolve().parent
OPTIONS = ("-std=c++17",)
# Without leave of the driver a block has this much shared memory.
SHARED = 48 * 1024
BFLOAT16 = np.dtype(np.uint16)
CTYPES = {
    "float16": "float16",
    "uint16": "bfloat16",
    "float32": "float",
    "float64": "double",
    "bool": "bool",
    "int8": "signed char",
    "uint8": "unsigned char",
    "int16": "short",
    "int32": "int",
    "uint32": "unsigned int",
    "int64": "long long",
    "uint64": "unsigned long long",
}


class OutOfMemory(MemoryError):
    """The device has no room for an array of this call."""


def cupy() -> Any:
    """The CuPy module, imported when first needed; ImportError that names the extra to install."""
    try:
        return importlib.import_module("cupy")
    except ImportError as error:
        raise ImportError(
            f"arrays on a GPU need CuPy ({error}): pip install 'otdist[cuda12]' or 'otdist[cuda13]', after the CUDA "
            f"version that nvidia-smi shows; or pass arrays on the CPU"
        ) from error


def ctype(a: Any) -> str:
    """The C++ name of the elements of an array (or of a dtype)."""
    return CTYPES[np.dtype(getattr(a, "dtype", a)).name]


class Memory(Protocol):
    """Who allocates, for one device and stream: the library of the caller."""

    device: int
    stream: Any  # cupy.cuda.Stream

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        """A contiguous cupy.ndarray."""

    def put(self, host: np.ndarray[Any, np.dtype[Any]]) -> Any:
        """A copy of a NumPy array, as cupy.ndarray."""

    def owned(self, a: Any, bfloat16: bool) -> Any:
        """The caller's own object for a contiguous array that `empty` made, or a view of one."""

    def spare(self) -> int:
        """Bytes that the library holds and could give out besides those the driver has free."""


class CupyMemory:
    """Memory of CuPy's pool, on the current device and stream."""

    def __init__(self, device: int) -> None:
        self.module = cupy()
        self.device = device
        with self.module.cuda.Device(device):
            self.stream = self.module.cuda.get_current_stream()

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        return self.module.empty(shape, dtype)

    def put(self, host: np.ndarray[Any, np.dtype[Any]]) -> Any:
        return self.module.asarray(host)

    def owned(self, a: Any, bfloat16: bool) -> Any:
        return a.view(np.dtype("bfloat16")) if bfloat16 else a

    def spare(self) -> int:
        return int(self.module.get_default_memory_pool().free_bytes())


class Space:
    """Where the device memory and the stream of one call are; made by the door from the caller's arrays.

    `flags` has one int32 for each of `words` arguments, zero at first: kernels set bits in it.
    """

    def __init__(self, memory: Memory, words: int = 1) -> None:
        self.memory = memory
        self.device = memory.device
        self.stream = memory.stream
        self._words = words
        self._flags: Any = None

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the device and the stream current."""
        with cupy().cuda.Device(self.device), self.stream:
            yield

    def empty(self, shape: Any, dtype: Any) -> Any:
        """A contiguous array with no particular content, in the memory of the caller's library."""
        shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
        dtype = np.dtype(dtype)
        with self.current():
            try:
                return self.memory.empty(shape, dtype)
            except Exception as error:
                if not _is_exhausted(error):
                    raise
                need = math.prod(shape) * dtype.itemsize
        raise OutOfMemory(f"device {self.device} has no room for {need} bytes (shape {shape}, {dtype.name})")

    def zeros(self, shape: Any, dtype: Any) -> Any:
        """An array of zeros."""
        a = self.empty(shape, dtype)
        if a.nbytes:
            with self.current():
                a.data.memset_async(0, a.nbytes)
        return a

    def full(self, shape: Any, value: float, dtype: Any) -> Any:
        """An array of one value (of a half type too)."""
        from otdist.kernels import copy_cuda

        a = self.empty(shape, dtype)
        copy_cuda.fill(self, a, value)
        return a

    def put(self, host: Any) -> Any:
        """A NumPy array (or a list) as an array on the device."""
        with self.current():
            return self.memory.put(np.asarray(host, order="C"))

    def host(self, a: Any) -> np.ndarray[Any, np.dtype[Any]]:
        """A NumPy copy; half types as float32. Waits for the stream."""
        if a.dtype == BFLOAT16:
            a = self.cast(a, np.float32)
        with self.current():
            b: np.ndarray[Any, np.dtype[Any]] = cupy().asnumpy(a)
        return b.astype(np.float32) if b.dtype == np.float16 else b

    def cast(self, a: Any, dtype: Any) -> Any:
        """`a`, contiguous and of this dtype (uint16 is bfloat16, from and to floats); itself if it is that."""
        dtype = np.dtype(dtype)
        if a.dtype == dtype and a.flags.c_contiguous:
            return a
        from otdist.kernels import copy_cuda

        out = self.empty(a.shape, dtype)
        copy_cuda.copy(self, a, out)
        return out

    def contiguous(self, a: Any) -> Any:
        """`a`, copied if it is not contiguous."""
        return self.cast(a, a.dtype)

    def owned(self, a: Any, *, bfloat16: bool = False) -> Any:
        """The caller's own object for an array made by `empty`; uint16 as bfloat16 if so asked."""
        with self.current():
            return self.memory.owned(a if a.flags.c_contiguous else self.contiguous(a), bfloat16)

    @property
    def capability(self) -> tuple[int, int]:
        """Compute capability, e.g. (9, 0)."""
        found = _properties(cupy(), self.device)
        return int(found["major"]), int(found["minor"])

    @property
    def processors(self) -> int:
        """Number of streaming multiprocessors."""
        return int(_properties(cupy(), self.device)["multiProcessorCount"])

    @property
    def shared_limit(self) -> int:
        """Bytes of shared memory that a block may have, after it has been opted into."""
        return int(_properties(cupy(), self.device).get("sharedMemPerBlockOptin") or SHARED)

    def budget(self, memory_limit: int | None = None) -> int:
        """Bytes that workspaces may take: the limit, or half of what is free."""
        with self.current():
            free = int(cupy().cuda.runtime.memGetInfo()[0]) + self.memory.spare()
        return free // 2 if memory_limit is None else min(operator.index(memory_limit), free)

    def within(self, memory_limit: int | None, run: Callable[[int], T]) -> T:
        """run(budget); once more with half the budget where that ran out of memory, then MemoryError."""
        budget = self.budget(memory_limit)
        try:
            return run(budget)
        except OutOfMemory:
            pass  # outside the clause: the traceback would keep the workspaces alive
        try:
            return run(budget // 2)
        except OutOfMemory as error:
            raise MemoryError(f"{error}, with workspaces of at most {budget // 2} bytes; use smaller batches") from None

    @property
    def flags(self) -> Any:
        """The status words; pass to kernels."""
        if self._flags is None:
            self._flags = self.zeros((self._words,), np.int32)
        return self._flags

    def check(self, judge: Callable[[np.ndarray[Any, np.dtype[Any]]], None], *keep: Any) -> None:
        """Read the status words, and call judge(words) if a bit is set: it raises the error.

        The only synchronisation of a call. Inside `deferred_checks` nothing is read before the block ends (`keep` lives
        until then), and while the stream is captured into a graph nothing is read at all.
        """
        if self._flags is None or self.captured:  # no kernel has run, nor will before the block ends
            return
        waiting = _DEFERRED.get()
        if waiting is not None and not waiting.over:
            waiting.append((self, judge, keep))
        else:
            self._read(judge)

    @property
    def captured(self) -> bool:
        """Whether the stream is being captured into a CUDA graph."""
        return bool(self.stream.is_capturing())

    def _read(self, judge: Callable[[np.ndarray[Any, np.dtype[Any]]], None]) -> None:
        with self.current():
            words = cupy().asnumpy(self._flags)
        if words.any():
            self._flags = None
            # torch gives `judge` memory of the stream that is current by then, where work may still be under way
            cupy().cuda.Device(self.device).synchronize()
            judge(words)


class _Waiting(list[tuple[Space, Any, Any]]):
    """Checks of one block; a task that was started in it still finds them when it is `over`."""

    over = False


_DEFERRED: ContextVar[_Waiting | None] = ContextVar("deferred", default=None)


@contextmanager
def deferred_checks() -> Iterator[None]:
    """Report bad values in device arrays at the end of a block, so that no call in it waits for the GPU.

    Every call on device arrays validates them in passing, and reads one status word back: that waits for the kernel.
    Inside the block nothing is read; rows with bad values give NaN, and the first error is raised when the block ends.
    Calls on the CPU raise at once, as ever. While a stream is being captured into a CUDA graph, nothing is read even
    outside of such a block, and bad values give NaN.

    Parameters
    ----------
    None
        There is nothing to choose.

    Returns
    -------
    context manager
        For a ``with`` statement. Blocks may be nested; each reports its own calls.

    Examples
    --------
    >>> import otdist as od
    >>> with od.deferred_checks():
    ...     value = od.tv([0.5, 0.5], [0.25, 0.75])
    >>> float(value)
    0.25
    """
    mine = _Waiting()
    token = _DEFERRED.set(mine)
    try:
        yield
    finally:
        _DEFERRED.reset(token)
        mine.over = True
    for space, judge, _keep in mine:
        if not space.captured:
            space._read(judge)


def source(file: str) -> str:
    """The text of a kernel file with its includes written in, each once."""
    return _text(file, set())


def _text(file: str, seen: set[str]) -> str:
    seen.add(file)
    parts = [f'#line 1 "{file}"']
    for number, line in enumerate((DIRECTORY / file).read_text(encoding="utf-8").splitlines(), 1):
        inner = re.match(r'\s*#\s*include\s*"([\w.]+)"', line)
        if inner is None:
            parts.append("" if line.strip() == "#pragma once" else line)
        elif inner[1] not in seen:
            parts += [_text(inner[1], seen), f'#line {number + 1} "{file}"']
        else:
            parts.append("")
    return "\n".join(parts)


class Kernel:
    """A kernel by file and C++ name expression: ``kernel("rows.cu", "rows<float, KL>")``."""

    def __init__(self, file: str, name: str) -> None:
        self.file, self.name = file, name

    def __repr__(self) -> str:
        return f"Kernel({self.file!r}, {self.name!r})"

    def __call__(self, space: Space, grid: Any, block: Any, args: tuple[Any, ...], shared: int = 0) -> None:
        """Launch on the space's stream, and do not wait.

        `args`: cupy arrays, NumPy scalars of exactly the parameter's type, or None for a null pointer. Grids with no
        block are no launch. `shared` is in bytes; above 48 KB it is opted into here.
        """
        grid = (int(grid),) if isinstance(grid, (int, np.integer)) else tuple(map(int, grid))
        block = (int(block),) if isinstance(block, (int, np.integer)) else tuple(map(int, block))
        if not all(grid):
            return
        with space.current():
            function = _compiled(cupy(), space.device, self.file, self.name)
            if shared > function.max_dynamic_shared_size_bytes:
                function.max_dynamic_shared_size_bytes = shared
            function(grid, block, tuple(np.uintp(0) if a is None else a for a in args), shared_mem=shared)


@functools.cache
def kernel(file: str, name: str) -> Kernel:
    """The kernel of that file and name; compiled at its first launch, once for each device."""
    return Kernel(file, name)


@functools.cache
def _compiled(module: Any, device: int, file: str, name: str) -> Any:
    found = _properties(module, device)
    capability = int(found["major"]), int(found["minor"])
    code, symbol = binaries.binary(module, source(file), file, name, OPTIONS, capability)
    return module.RawModule(path=str(code)).get_function(symbol)


@functools.cache
def _properties(module: Any, device: int) -> dict[str, Any]:
    return dict(module.cuda.runtime.getDeviceProperties(device))


def _is_exhausted(error: Exception) -> bool:
    return type(error).__name__ in ("OutOfMemoryError", "XlaRuntimeError", "JaxRuntimeError") and (
        "memory" in str(error).lower() or "RESOURCE_EXHAUSTED" in str(error)
    )
