"""One numeric array from a .npy, .npz, .csv or .parquet file, or a ValueError that says why not."""

import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["load"]


def load(argument: str) -> np.ndarray[Any, Any]:
    """Read ``path`` or, for one array of an archive, ``path.npz:name``."""
    path, name = argument, None
    if not Path(argument).exists() and ".npz:" in argument:
        path, name = argument.rsplit(":", 1)
    suffix = Path(path).suffix.lower()
    if suffix not in _READERS:
        raise ValueError(f"{argument}: cannot read a {suffix or 'nameless'} file; give {', '.join(_READERS)}")
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file")
    try:
        array = _npz(path, name) if suffix == ".npz" else _READERS[suffix](path)
    except (ValueError, OSError, EOFError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{argument}: {error}") from error
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{argument}: found {array.dtype} values; they must be real numbers")
    if array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    if array.ndim == 0 or array.size == 0:
        raise ValueError(f"{argument}: found an array of shape {array.shape}; it must hold numbers, in rows")
    if not np.isfinite(array).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"{argument}: found {array[index]} at index {index}; values must be finite")
    return array


def _npy(path: str) -> np.ndarray[Any, Any]:
    return np.asarray(np.lib.format.open_memmap(path, mode="r"))


def _npz(path: str, name: str | None = None) -> np.ndarray[Any, Any]:
    # np.load leaves a damaged file open; a handle of our own is closed whatever happens.
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
        if name is None and len(archive.files) == 1:
            name = archive.files[0]
        if name not in archive.files:
            found = ", ".join(archive.files) or "no array"
            raise ValueError(f"holds {found}; choose one as {path}:{archive.files[0] if archive.files else 'name'}")
        return np.asarray(archive[name])


def _csv(path: str) -> np.ndarray[Any, Any]:
    with open(path, encoding="utf-8-sig") as file:
        lines = [line for line in file if line.strip()]
    if lines and not _numeric(lines[0]):
        del lines[0]
    if not lines:
        raise ValueError("no numbers")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = np.loadtxt(lines, delimiter=",", ndmin=2)
    return table.reshape(-1) if 1 in table.shape else table


def _numeric(line: str) -> bool:
    try:
        _ = [float(cell) for cell in line.split(",")]
    except ValueError:
        return False
    return True


def _parquet(path: str) -> np.ndarray[Any, Any]:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError("reading Parquet needs pyarrow: pip install pyarrow") from error
    columns = pyarrow.parquet.read_table(path).columns
    table = np.column_stack([np.asarray(column) for column in columns])
    return table.reshape(-1) if 1 in table.shape else table


_READERS = {".npy": _npy, ".npz": _npz, ".csv": _csv, ".parquet": _parquet}
