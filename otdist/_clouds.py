"""What the arguments of the estimates and the features must be, beyond what ``_samples.py`` says."""

from __future__ import annotations

import operator
from typing import Any

from otdist import _samples
from otdist._arrays import Array
from otdist._moments import finite


def single(name: str, a: Array) -> Array:
    """One sample (n, d)."""
    if a.ndim > 2:
        raise ValueError(f"{name}: found shape {a.shape}; pass one sample of shape (n, d) at a time")
    return _samples.points(name, a)


def points(name: str, a: Array, d: int) -> Array:
    """Points (..., n, d) of the given d, in float64."""
    if a.ndim < 2 or a.shape[-1] != d:
        raise ValueError(f"{name}: found shape {a.shape}; points of {d} coordinates have shape (..., n, {d})")
    return finite(name, a)


def count(name: str, value: Any, least: int) -> int:
    """A whole number of at least `least`."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name}: found {value!r}; give an integer")
    number = operator.index(value)
    if number < least:
        raise ValueError(f"{name}: found {number}; give {least} or more")
    return number
