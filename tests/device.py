"""otdist as seen by an array on a device: the public functions, NumPy arrays sent there and back."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

import otdist


def send(x: Any) -> Any:
    """A NumPy array as an array on the device, strides and all; anything else as it is."""
    cp = sys.modules["cupy"]
    if not isinstance(x, np.ndarray):
        return x
    if x.flags.c_contiguous or not x.size:
        return cp.asarray(x)
    whole = x
    while isinstance(whole.base, np.ndarray):
        whole = whole.base
    if not whole.flags.c_contiguous or whole.dtype != x.dtype or min(x.strides) <= 0:
        return cp.asarray(np.ascontiguousarray(x))
    there = cp.asarray(whole).reshape(-1)
    first = (x.ctypes.data - whole.ctypes.data) // x.itemsize
    return cp.ndarray(x.shape, x.dtype, memptr=there[first:].data, strides=x.strides)


def receive(x: Any) -> Any:
    """What a function returned, as NumPy arrays; 0-d arrays as scalars."""
    cp = sys.modules["cupy"]
    if isinstance(x, tuple):
        return tuple(map(receive, x))
    assert isinstance(x, cp.ndarray), f"a {type(x).__name__} came back from the device"
    return cp.asnumpy(x)[()]


def on_device(f: Callable[..., Any]) -> Callable[..., Any]:
    """A function that takes NumPy arrays, runs `f` on the device and returns NumPy arrays."""

    def run(*args: Any, **options: Any) -> Any:
        return receive(f(*map(send, args), **options))

    return run


class OnDevice:
    """Stands for the module `otdist` in a test written for the CPU."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(otdist, name)
        if name == "value_and_grad":
            return lambda f, argnums=0: on_device(otdist.value_and_grad(getattr(f, "plain", f), argnums))
        if not callable(found) or isinstance(found, type):
            return found
        wrapped = on_device(found)
        wrapped.plain = found  # type: ignore[attr-defined]
        return wrapped
