"""Launches of ``bandwidth.cu``: bandwidths from data on the device, and the numbers of kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from otdist.kernels import gram_cuda
from otdist.kernels.device import Space, ctype, kernel
from otdist.kernels.profiles import Angle, Cityblock, First, Kernel, Polynomial, Squared

# How many arguments `put_numbers` takes.
ARGUMENTS = 8
_GEOMETRY = {"sqeuclidean": Squared, "euclidean": Squared, "cityblock": Cityblock, "cosine": Angle}


def put(space: Space, numbers: list[float]) -> Any:
    """A few numbers on the device, without a copy from the host."""
    out = space.empty((max(1, len(numbers)),), np.float64)
    for start in range(0, len(numbers), ARGUMENTS):
        part = numbers[start : start + ARGUMENTS]
        values = [np.float64(v) for v in (*part, *[0.0] * (ARGUMENTS - len(part)))]
        kernel("bandwidth.cu", "put_numbers")(space, 1, 32, (out, np.int32(start), np.int32(len(part)), *values))
    return out


def median(space: Space, X: Any, Y: Any, word: int, most: int, cost: str, root: bool, out: Any) -> None:
    """out (P,) <- the median rule for X (P, n, d) and Y (P, m, d), of at most so many points, evenly spaced."""
    kind = _GEOMETRY[cost]
    tag = Kernel((kind(),), Polynomial(First(), 1.0, 0.0, (True,)))
    one = gram_cuda.Numbers(put(space, [1.0, 0.0]).reshape(1, 2))
    M = min(X.shape[1] + Y.shape[1], most)
    step = max(1, space.budget() // (8 * M * M))
    for p in range(0, X.shape[0], step):
        x, y = X[p : p + step], Y[p : p + step]
        samples = (gram_cuda.spaced(space, x, y, M),)
        pool = gram_cuda.Pool(space, tag, samples, (word,), np.float64, False)
        c = space.empty((x.shape[0], M, M), np.float64)
        gram_cuda.matrix(space, tag, one, pool, pool, c)
        squares, power = kind is not Cityblock, 2 if cost in ("sqeuclidean", "cosine") else 1
        args = (c, out[p : p + step], np.int32(M), np.int32(squares), np.int32(power))
        unit = np.float64(0.5 if cost == "cosine" else 1.0)
        kernel("bandwidth.cu", "bandwidth_median")(space, x.shape[0], 1024, (*args, unit, np.int32(root)))


def scott(space: Space, X: Any, Y: Any, out: Any) -> None:
    """out (P,) <- Scott's rule."""
    P, n, d = X.shape
    args = (X, Y, out, np.int32(n), np.int32(Y.shape[1]), np.int32(d))
    kernel("bandwidth.cu", f"bandwidth_scott<{ctype(X)}>")(space, P, 256, args)


def filled(space: Space, base: list[float], exponents: list[list[int]], sigma: Any) -> gram_cuda.Numbers:
    """base[k] Π_r sigma[r, p]^−exponents[r][k] for each problem; sigma (rules, P)."""
    rules, P = sigma.shape
    table = space.empty((P, len(base)), np.float64)
    flat = [float(e) for row in exponents for e in row]
    args = (put(space, base), put(space, flat), sigma, table, np.int32(len(base)), np.int32(rules), np.int32(P))
    kernel("bandwidth.cu", "bandwidth_numbers")(space, -(-table.size // 256), 256, args)
    return gram_cuda.Numbers(table)
