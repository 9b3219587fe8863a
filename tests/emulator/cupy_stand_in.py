"""The part of CuPy that otdist uses, on the emulator; `sys.modules["cupy"]` while the fixture lasts."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from . import build, source
from .arrays import MemoryPointer, UnownedMemory, device, host, ndarray
from .launch import Kernel, LaunchError
from .machine import machine
from .streams import cuda, get_default_memory_pool

__version__ = "13.0.0"
KERNELS = Path(__file__).parents[2] / "kernels"

for _name in (
    "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool_",
    "inf", "nan", "pi", "newaxis", "dtype", "integer", "floating", "number", "generic", "result_type", "promote_types",
    "finfo", "iinfo", "issubdtype", "can_cast",
):  # fmt: skip
    globals()[_name] = getattr(np, _name)


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
        text = file.read_text() if file else code or ""
        if text.startswith(_COMPILED):
            first, text = text.split("\n", 1)
            name_expressions, file = (first.removeprefix(_COMPILED),), None
        self._name = file.name if file else _kernel_file(text)
        self._text = source.flatten(text, self._name, [*folders, KERNELS])
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
        return Kernel(self._library, self._name, name, source.identifier(name), machine, self._cooperative)


_COMPILED = "// compiled: "


def _compile_using_nvrtc(
    text: str, options: tuple[str, ...] = (), filename: str = "kern.cu", name_expressions: Any = None
) -> tuple[bytes, dict[str, str]]:
    """What `RawModule` takes for a binary: the text, and the one name that is wanted of it."""
    (name,) = name_expressions
    return f"{_COMPILED}{name}\n{text}".encode(), {name: name}


cuda.compiler = SimpleNamespace(compile_using_nvrtc=_compile_using_nvrtc)
cuda.nvrtc = SimpleNamespace(getVersion=lambda: (0, 0))  # never that of a real compiler, whose binaries lie beside
os.environ.setdefault("CUPY_CACHE_DIR", str(Path.home() / ".cache" / "otdist-emulator" / "texts"))


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


__all__ = ["LaunchError", "RawKernel", "RawModule", "cuda", "get_default_memory_pool", "machine", "ndarray"]
