"""How the kernels are compiled: the flags, and a disk cache that is never stale, never shared with strangers.

Numba's own cache watches only the file a function is written in, but a kernel inlines helpers of other files. Here the
stamp of every cached kernel is a hash over all of ``kernels/*.py``, so a change anywhere recompiles. The cache lies
beside the kernels when that directory belongs to us, else in the user's cache directory, and never where others could
write: cached machine code is code that will be run.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import stat
import sys
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba import njit
from numba.core import caching
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.lowering import Lower
from numba.core.serialize import dumps
from numba.core.typed_passes import NativeLowering

HERE = Path(__file__).resolve().parent


class _WideLower(Lower):  # type: ignore[misc]
    """On some processors LLVM stops at half the width of a vector, to spare the clock of those around.

    Kernels are dense enough for the whole width: roots and logarithms gain a third and more.
    """

    def setup_function(self, fndesc: Any) -> None:
        super().setup_function(fndesc)
        set.add(self.function.attributes, '"prefer-vector-width"="512"')  # llvmlite's own `add` knows no such names


@register_pass(mutates_CFG=True, analysis_only=False)
class _WideLowering(NativeLowering):  # type: ignore[misc]
    _name = "otdist_wide_lowering"

    @property
    def lowering_class(self) -> Any:
        return _WideLower


class Wide(CompilerBase):  # type: ignore[misc]
    """Numba's own compiler, but for `_WideLower`."""

    def define_pipelines(self) -> list[Any]:
        pipeline = DefaultPassBuilder.define_nopython_pipeline(self.state)
        pipeline.passes = [(_WideLowering if p is NativeLowering else p, why) for p, why in pipeline.passes]
        pipeline._finalized = False
        pipeline.finalize()
        return [pipeline]


# Everything of fast-math except `ninf`: infinities carry meaning here, and `ninf` swaps divisions for 14-bit
# reciprocals.
FAST = frozenset({"nnan", "nsz", "arcp", "contract", "afn", "reassoc"})
# Nothing here allocates, so no reference is counted (hence a part of an array is returned in a tuple), and helpers are
# never called from Python: a third less to compile.
_LEAN = {"error_model": "numpy", "_nrt": False, "no_cfunc_wrapper": True}
_HELPER = {**_LEAN, "forceinline": True, "no_cpython_wrapper": True}
# Of helpers that dissolve into their callers: loops, whose sums may be reordered ...
INLINE = {**_HELPER, "fastmath": set(FAST), "pipeline_class": Wide}
# ... and formulas, which mean what they say: d (d/s) must not become (d d)/s, whose square underflows, nor a quotient
# by a root an estimate that is infinite at subnormal numbers.
STRICT = {**_HELPER, "fastmath": {"nnan", "nsz", "contract"}}
# Loops that allocate: they count references, and so must every helper that hands them a part of an array.
OWNING = {**INLINE, "_nrt": True}


def _source_stamp() -> str:
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    for path in sorted(HERE.glob("*.py")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


# Version of every cached kernel, taken when the kernels are loaded: what is compiled later comes from these sources.
STAMP = _source_stamp()


def _private(path: Path) -> bool:
    """Whether `path` is a directory of ours that nobody else may write to (created if it is missing)."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o755)
        info = path.stat()
    except OSError:
        return False
    if not os.access(path, os.W_OK | os.X_OK):
        return False
    if not hasattr(os, "getuid"):
        return True
    return info.st_uid == os.getuid() and not info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


@cache
def cache_directory() -> Path | None:
    """Directory of the compiled kernels, or None where no private one can be had (then kernels compile per process)."""
    if sys.platform == "win32":
        user = Path(os.environ.get("LOCALAPPDATA", Path.home()))
    else:
        user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    named = os.environ.get("OTDIST_CACHE_DIR")
    places = [Path(named)] if named else [HERE / "__pycache__", user / "otdist" / "kernels"]
    return next((place for place in places if _private(place)), None)


class _Locator(caching._CacheLocator):  # type: ignore[misc]
    def __init__(self, py_func: Any) -> None:
        self._line = py_func.__code__.co_firstlineno

    def get_cache_path(self) -> str:
        return str(cache_directory())

    def get_source_stamp(self) -> str:
        return STAMP

    def get_disambiguator(self) -> str:
        return str(self._line)

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> _Locator:
        return cls(py_func)


class _Impl(caching.CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes = (_Locator,)


class _Files:
    """One file per compiled signature, named by its key, which is also inside.

    Numba numbers its files through a shared index, and two processes that compile at once can leave one signature
    pointing at the code of another. Here nothing is shared but whole files, written aside and renamed.
    """

    def __init__(self, directory: Path, base: str) -> None:
        self._directory, self._base = directory, base

    def _path(self, key: object) -> Path:
        digest = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
        return self._directory / f"{self._base}.{STAMP}.{digest}.nbc"

    def load(self, key: object) -> Any:
        try:
            found, data = pickle.loads(self._path(key).read_bytes())
        except Exception:  # absent or damaged: a pickle may fail in any way
            return None
        return data if found == key else None

    def save(self, key: object, data: object) -> None:
        path = self._path(key)
        aside = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
        try:
            aside.write_bytes(dumps((key, data)))
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)
        for old in self._directory.glob(f"{self._base}.*.nbc"):
            if f".{STAMP}." not in old.name:
                old.unlink(missing_ok=True)

    def flush(self) -> None:
        for path in self._directory.glob(f"{self._base}.*.nbc"):
            path.unlink(missing_ok=True)


class _Cache(caching.FunctionCache):  # type: ignore[misc]
    _impl_class = _Impl

    def __init__(self, py_func: Any) -> None:
        super().__init__(py_func)
        self._cache_file = _Files(Path(self._cache_path), self._impl.filename_base)


def kernel(function: Callable[..., Any], options: dict[str, Any] = INLINE) -> Any:
    """Compile an entry point: no GIL, IEEE division, fast-math without `ninf`, wide vectors, cached on disk."""
    compiled = njit(**{**options, "forceinline": False, "no_cpython_wrapper": False}, nogil=True)(function)
    if cache_directory() is not None:
        compiled._cache = _Cache(function)
    return compiled


def owning_kernel(function: Callable[..., Any]) -> Any:
    """`kernel` for an entry point that allocates."""
    return kernel(function, OWNING)
