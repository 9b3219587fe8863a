"""The stand-in's ndarray: NumPy's operations on emulated device memory, and no way into NumPy but `.get()`."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from . import memory


class MemoryPointer:
    """An address in device memory and what keeps it alive."""

    def __init__(self, mem: Any, offset: int) -> None:
        self.mem, self.ptr = mem, mem.ptr + offset
        self.device_id = 0

    def __int__(self) -> int:
        return int(self.ptr)

    def memset(self, value: int, size: int) -> None:
        ctypes.memset(self.ptr, value, size)

    def memset_async(self, value: int, size: int, stream: Any = None) -> None:
        ctypes.memset(self.ptr, value, size)

    def __add__(self, offset: int) -> MemoryPointer:
        return MemoryPointer(self.mem, self.ptr - self.mem.ptr + offset)


class UnownedMemory:
    """Memory of another library's array, which `owner` keeps alive."""

    def __init__(self, ptr: int, size: int, owner: Any, device_id: int = 0) -> None:
        self.ptr, self.size, self.owner, self.device_id = ptr, size, owner, device_id


class _Bytes:
    """Device bytes as NumPy may view them, for the stand-in's own use."""

    def __init__(
        self, ptr: int, owner: Any, shape: tuple[int, ...], strides: tuple[int, ...], dtype: np.dtype[Any]
    ) -> None:
        self.owner = owner
        self.__array_interface__ = {
            "version": 3,
            "data": (ptr, False),
            "shape": shape,
            "strides": strides,
            "typestr": f"|V{dtype.itemsize}",
        }


def _host_view(pointer: MemoryPointer, shape: tuple[int, ...], strides: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    return np.asarray(_Bytes(pointer.ptr, pointer, shape, strides, dtype)).view(dtype).reshape(shape)


def _c_strides(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    strides, step = [], itemsize
    for length in reversed(shape):
        strides.append(step)
        step *= max(length, 1)
    return tuple(reversed(strides))


def host(value: Any) -> Any:
    """What NumPy computes with: the memory behind a stand-in's array, anything else as it is."""
    if isinstance(value, ndarray):
        return value._host
    if isinstance(value, tuple | list):
        return type(value)(host(v) for v in value)
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError("Unsupported type <class 'numpy.ndarray'>: send it to the device with cupy.asarray first")
    return value


def device(value: Any) -> Any:
    """NumPy's answer as an array on the device. Every answer is one, also a scalar, as in CuPy."""
    if isinstance(value, tuple):
        return tuple(device(v) for v in value)
    if isinstance(value, np.ndarray | np.generic):
        out = ndarray(value.shape, value.dtype)
        out._host[...] = value
        return out
    return value


class ndarray:
    """An array in emulated device memory, C order when new."""

    __module__ = "cupy"
    __hash__ = None  # type: ignore[assignment]
    __array_priority__ = 100

    def __init__(
        self, shape: Any, dtype: Any = float, memptr: MemoryPointer | None = None, strides: Any = None, order: str = "C"
    ) -> None:
        shape = (shape,) if isinstance(shape, int | np.integer) else tuple(int(n) for n in shape)
        kind = np.dtype(dtype)
        if order == "F" and strides is None:
            strides = tuple(reversed(_c_strides(shape[::-1], kind.itemsize)))
        strides = _c_strides(shape, kind.itemsize) if strides is None else tuple(int(s) for s in strides)
        if memptr is None:
            size = kind.itemsize * int(np.prod(shape, dtype=np.int64))
            memptr = MemoryPointer(memory.Allocation(size), 0)
        self.data = memptr
        self.base: Any = None
        self._host = _host_view(memptr, shape, strides, kind)

    @classmethod
    def _view(cls, view: Any, of: ndarray) -> ndarray:
        out = cls.__new__(cls)
        offset = view.__array_interface__["data"][0] - of.data.mem.ptr if view.size else of.data.ptr - of.data.mem.ptr
        out.data, out.base, out._host = MemoryPointer(of.data.mem, offset), of, view
        return out

    shape = property(lambda s: s._host.shape)
    dtype = property(lambda s: s._host.dtype)
    strides = property(lambda s: s._host.strides)
    size = property(lambda s: s._host.size)
    itemsize = property(lambda s: s._host.itemsize)
    nbytes = property(lambda s: s._host.nbytes)
    ndim = property(lambda s: s._host.ndim)
    flags = property(lambda s: s._host.flags)
    T = property(lambda s: s._view(s._host.T, s))

    @property
    def device(self) -> Any:
        from .streams import Device

        return Device(0)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        contiguous = self.flags.c_contiguous
        return {
            "shape": self.shape, "typestr": self.dtype.str, "descr": self.dtype.descr, "version": 3, "stream": 1,
            "strides": None if contiguous else self.strides, "data": (self.data.ptr if self.size else 0, False),
        }  # fmt: skip

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if method != "__call__":
            return NotImplemented
        out = options.pop("out", None)
        answer = ufunc(*map(host, inputs), **{k: host(v) for k, v in options.items()})
        if out is not None:
            out[0]._host[...] = answer
            return out[0]
        return device(answer)

    def __dlpack__(self, **options: Any) -> Any:
        return self._host.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 0)  # kDLCUDA

    def get(self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True) -> Any:
        """The values as a NumPy array: the one way to the host."""
        from .machine import machine

        machine.reads.append(self.nbytes)
        if out is not None:
            out[...] = self._host
            return out
        return np.array(self._host, order="C" if order == "A" else order)

    def set(self, values: Any, stream: Any = None) -> None:
        if not isinstance(values, np.ndarray) or values.dtype != self.dtype or values.shape != self.shape:
            raise TypeError("set takes a NumPy array of the same shape and type")
        self._host[...] = values

    def item(self, *where: int) -> Any:
        from .machine import machine

        machine.reads.append(self.itemsize)
        return self._host.item(*where)

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    __index__ = __int__

    def __bool__(self) -> bool:
        return bool(self.item())

    def __len__(self) -> int:
        return len(self._host)

    def __iter__(self) -> Any:
        return (self[k] for k in range(len(self)))

    def __repr__(self) -> str:
        return f"emulated {self._host!r}"

    def __format__(self, spec: str) -> str:
        return format(self._host, spec)

    def __getitem__(self, key: Any) -> ndarray:
        got = self._host[host(key)] if not isinstance(key, ndarray | tuple | list) else self._host[_index(key)]
        if isinstance(got, np.ndarray) and np.may_share_memory(got, self._host) and got.base is not None:
            return self._view(got, self)
        return device(np.asarray(got))

    def __setitem__(self, key: Any, value: Any) -> None:
        self._host[_index(key)] = host(value)

    def reshape(self, *shape: Any, order: str = "C") -> ndarray:
        out = self._host.reshape(*shape, order=order)
        return self._view(out, self) if np.may_share_memory(out, self._host) or not out.size else device(out)

    def ravel(self, order: str = "C") -> ndarray:
        return self.reshape(-1)

    def view(self, dtype: Any = None) -> ndarray:
        return self._view(self._host.view(self.dtype if dtype is None else dtype), self)

    def astype(self, dtype: Any, copy: bool = True, order: str = "K") -> ndarray:
        return self if not copy and self.dtype == np.dtype(dtype) else device(self._host.astype(dtype, order="C"))

    def copy(self, order: str = "C") -> ndarray:
        return device(self._host.copy())

    def fill(self, value: Any) -> None:
        self._host[...] = host(value)

    def transpose(self, *axes: Any) -> ndarray:
        return self._view(self._host.transpose(*axes), self)

    def squeeze(self, axis: Any = None) -> ndarray:
        return self._view(self._host.squeeze(axis), self)

    def __getattr__(self, name: str) -> Any:
        # sum, min, argsort ...: NumPy's method, answered on the device.
        if name.startswith("_") or not callable(getattr(np.ndarray, name, None)) or name in _HOST_ONLY:
            raise AttributeError(f"'cupy.ndarray' object has no attribute {name!r}")
        return lambda *a, **k: device(getattr(self._host, name)(*map(host, a), **{n: host(v) for n, v in k.items()}))


_HOST_ONLY = {"tobytes", "tofile", "dump", "dumps", "getfield", "setfield", "byteswap", "newbyteorder", "resize"}


def _index(key: Any) -> Any:
    return tuple(_index(k) for k in key) if isinstance(key, tuple) else host(key)


def _operator(name: str) -> Any:
    def apply(self: ndarray, *others: Any) -> Any:
        answer = getattr(self._host, name)(*map(host, others))
        return answer if answer is NotImplemented else device(np.asarray(answer))

    return apply


def _in_place(name: str) -> Any:
    def apply(self: ndarray, other: Any) -> ndarray:
        getattr(self._host, name)(host(other))
        return self

    return apply


for _name in (
    "add",
    "sub",
    "mul",
    "truediv",
    "floordiv",
    "mod",
    "pow",
    "matmul",
    "and",
    "or",
    "xor",
    "lshift",
    "rshift",
):
    setattr(ndarray, f"__{_name}__", _operator(f"__{_name}__"))
    setattr(ndarray, f"__r{_name}__", _operator(f"__r{_name}__"))
    setattr(ndarray, f"__i{_name}__", _in_place(f"__i{_name}__"))
for _name in ("neg", "pos", "abs", "invert", "lt", "le", "gt", "ge", "eq", "ne"):
    setattr(ndarray, f"__{_name}__", _operator(f"__{_name}__"))
