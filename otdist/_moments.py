"""What the arguments of `otdist.gaussian` must be."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import numpy as np

from otdist._normal import Array


def finite(name: str, a: Array) -> Array:
    """`a` in float64; ValueError at the first entry that is not finite."""
    bad = ~np.isfinite(a)
    if bad.any():
        where = tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), bad.shape))
        raise ValueError(f"{name}: found {a[where]!s} at index {where}; entries must be finite")
    return a.astype(np.float64, copy=False)


def covariance(name: str, S: Array, d: int, eps: float) -> Array:
    """The symmetric part of S; ValueError if it is not (..., d, d) or not symmetric to rounding."""
    if S.ndim < 2 or S.shape[-2:] != (d, d):
        raise ValueError(f"{name}: found shape {S.shape}; for means of {d} coordinates it must be (..., {d}, {d})")
    St = np.swapaxes(S, -1, -2)
    deviation = np.sqrt(np.abs(np.diagonal(S, axis1=-2, axis2=-1)))
    # Rounding has spoilt diagonal entries that are tiny beside the largest: those are given its noise.
    deviation = np.maximum(deviation, math.sqrt(eps) * np.max(deviation, axis=-1, keepdims=True))
    off = np.abs(S - St)
    bad = off > math.sqrt(eps) * deviation[..., :, None] * deviation[..., None, :]
    if bad.any():
        where = tuple(int(i) for i in np.unravel_index(int(np.argmax(np.where(bad, off, 0))), bad.shape))
        raise ValueError(
            f"{name}: found an asymmetry of {off[where]:.6g} at index {where}; a covariance must be symmetric, "
            f"e.g. ({name} + {name}.T) / 2"
        )
    return S / 2 + St / 2


def samples(name: str, x: Array) -> Array:
    """Samples in float64; ValueError for fewer than two."""
    if x.ndim < 2 or x.shape[-1] == 0:
        raise ValueError(f"{name}: found shape {x.shape}; samples have shape (..., n, d), d >= 1")
    if x.shape[-2] < 2:
        raise ValueError(f"{name}: found n = {x.shape[-2]}; the unbiased covariance (ddof = 1) needs n >= 2 samples")
    return finite(name, x)


def broadcast(**shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The common batch shape; ValueError that names all arguments."""
    try:
        return np.broadcast_shapes(*shapes.values())
    except ValueError:
        found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"{' and '.join(shapes)}: found batch shapes {found}; they must broadcast") from None


def number(name: str, value: Any) -> float:
    """`value` as a float; TypeError for anything but a real number."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: found {type(value).__name__}; pass a real number")
    return float(value)
