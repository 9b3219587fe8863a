"""Kernels compiled by NVRTC and kept on disk, for ``device.py``.

Not by ``cupy.RawModule(code=...)``, which adds ``-ftz=true``: float32 and bfloat16 below 2^-126 would be read as 0,
and finite divergences become infinite. Nor does CuPy 13 keep templates on disk.
"""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

_KEPT: list[tempfile.TemporaryDirectory[str]] = []


def binary(
    module: Any, text: str, file: str, name: str, options: tuple[str, ...], capability: tuple[int, int]
) -> tuple[Path, str]:
    """Where the compiled text is for the current device, and what the kernel of this C++ name is called in it."""
    key = repr((text, name, options, capability, module.cuda.nvrtc.getVersion()))
    stem = _directory() / f"otdist_{hashlib.sha256(key.encode()).hexdigest()}"
    code, symbol = stem.with_suffix(".cubin"), stem.with_suffix(".symbol")
    if not (code.exists() and symbol.exists()):
        made, names = module.cuda.compiler.compile_using_nvrtc(text, options, filename=file, name_expressions=(name,))
        _write(code, made)
        _write(symbol, names[name])
    return code, symbol.read_text(encoding="utf-8")


@functools.cache
def _directory() -> Path:
    """CuPy's own place for compiled kernels; one of this process if nothing may be kept."""
    wanted = Path(os.environ.get("CUPY_CACHE_DIR") or "~/.cupy/kernel_cache").expanduser()
    if os.environ.get("CUPY_CACHE_IN_MEMORY", "0") in ("", "0"):
        try:
            wanted.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=wanted):
                return wanted
        except (OSError, RuntimeError):
            pass
    _KEPT.append(tempfile.TemporaryDirectory(prefix="otdist_"))
    return Path(_KEPT[-1].name)


def _write(path: Path, content: bytes | str) -> None:
    """All of a file or nothing, for other processes may read and write it at the same time."""
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as part:
        part.write(content.encode() if isinstance(content, str) else content)
    os.replace(part.name, path)
