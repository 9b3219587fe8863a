"""What samples and their options must be, for functions that take clouds of points."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from otdist._arrays import Array
from otdist._moments import finite

_PIECE = 1 << 18


def sample(name: str, a: Array) -> Array:
    """`a` as samples (..., n, d), finite, in the dtype it is lent in; no mask or copy of its size is made."""
    if a.ndim == 1:
        raise ValueError(f"{name}: found shape {a.shape}; samples have shape (..., n, d): pass {name}[:, None]")
    if a.ndim < 2 or 0 in a.shape[-2:]:
        raise ValueError(f"{name}: found shape {a.shape}; samples have shape (..., n, d), n and d >= 1")
    step = max(1, _PIECE // a[:1].size) if a.size else 1
    for start in range(0, len(a), step):
        if not np.isfinite(a[start : start + step]).all():
            finite(name, a)
    return a


def single(name: str, a: Array) -> Array:
    """One sample (n, d)."""
    if a.ndim > 2:
        raise ValueError(f"{name}: found shape {a.shape}; pass one sample of shape (n, d) at a time")
    return sample(name, a)


def points(name: str, a: Array, d: int) -> Array:
    """Points (..., n, d) of the given d, in float64."""
    if a.ndim < 2 or a.shape[-1] != d:
        raise ValueError(f"{name}: found shape {a.shape}; points of {d} coordinates have shape (..., n, {d})")
    return finite(name, a)


def same_dimension(x: Array, y: Array) -> None:
    if x.shape[-1] != y.shape[-1]:
        raise ValueError(f"x and y: found {x.shape[-1]} and {y.shape[-1]} coordinates; both need the same d")


def count(name: str, value: Any, least: int) -> int:
    """A whole number of at least `least`."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name}: found {value!r}; give an integer")
    number = operator.index(value)
    if number < least:
        raise ValueError(f"{name}: found {number}; give {least} or more")
    return number


def generator(rng: Any) -> np.random.Generator:
    """A source of random numbers from None, a seed or a generator."""
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        raise type(error)(f"rng: found {rng!r}; give None, a seed or a numpy.random.Generator") from None
