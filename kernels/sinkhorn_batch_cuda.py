"""Whole solves of small entropic problems on the device, a block each: `sinkhorn_batch.cu`."""

from __future__ import annotations

from typing import Any

import numpy as np

from otdist.kernels.device import Space, ctype, kernel

Array = Any  # cupy.ndarray

THREADS, DEPTH, WARPS, FIGURES = 256, 5, 8, 16
# Passes over the pairs that a problem may take by default.
CAP = 4000
REASONS = ("", "max_iter", "stalled")


def shared_bytes(n: int, m: int, real: Any) -> int:
    """Shared memory of a block: the plan, its rows of odd length, and some vectors."""
    numbers = 8 * ((WARPS + 1) * FIGURES + 2 * DEPTH * DEPTH + DEPTH + 3 * THREADS)
    return numbers + np.dtype(real).itemsize * (3 * THREADS + n * (m | 1))


def fits(space: Space, n: int, m: int, real: Any) -> bool:
    """Whether problems of n x m pairs can be solved whole."""
    return max(n, m) <= THREADS and shared_bytes(n, m, real) <= space.shared_limit


def solve(
    space: Space,
    C: Array,
    batch: int,
    a: Array,
    b: Array,
    scale: Array,
    kappa: Array,
    tol: float,
    *,
    real: Any = np.float64,
    warm: bool = False,
    max_iter: int | None = None,
    gamma: Array,
    error: Array,
    passes: Array,
    code: Array,
) -> None:
    """Solve the problems of cost matrices C (k, n, m) or (1, n, m), of any float; +inf forbids a pair.

    a (k, n), b (k, m): masses with zeros; scale (k,): log2(e) / epsilon; kappa (k, 2). gamma (k, m): column potentials
    in base 2, where to start if `warm`, then the outcome; error (k,) float64, passes and code (k,) int32, by `REASONS`.
    `real`: the float of the plan in shared memory; float32 is good for errors above 1e-6 or so.
    """
    n, m = C.shape[1:]
    name = f"sinkhorn_batch<{ctype(C)}, {'float' if np.dtype(real) == np.float32 else 'double'}>"
    step = np.int64(n * m if len(C) > 1 else 0)
    cap = CAP if max_iter is None else max_iter
    kernel("sinkhorn_batch.cu", name)(
        space,
        batch,
        THREADS,
        (
            *(C, step, np.int32(n), np.int32(m), a, b, scale, kappa),
            *(np.float64(tol), np.int32(cap), np.int32(warm), gamma, error, passes, code),
        ),
        shared=shared_bytes(n, m, real),
    )
