"""Assignment on the device: launches of `assignment.cu`.

Arrays are those of a `device.Space`; nothing here waits for the device unless its name says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from otdist.kernels.device import Space, ctype, kernel

# Bits of the status word.
NOT_A_NUMBER, UNMATCHED, UNPROVED, TOO_LARGE = 1, 2, 4, 8
# Most columns -> threads of a problem, columns of a thread. A warp is a team of its own, and four make a block.
TEAMS = ((32, 32, 1), (64, 32, 2), (128, 64, 2), (256, 128, 2), (512, 256, 2), (1024, 512, 2), (2048, 512, 4))
WARP, WARPS = 32, 4
# Most columns of a problem that a team solves whole.
MOST = TEAMS[-1][0]


@dataclass(frozen=True)
class Matched:
    """Problems (batch, n, m), n <= m, solved, or refused: then their columns are -1."""

    cols: Any  # (batch, n) int64
    f: Any  # (batch, n) float64, or None
    g: Any  # (batch, m) float64, or None
    bounds: Any  # (batch, 6) float64: value, its rest, dual value, its rest, sum |f|, sum |g|; or None
    info: Any  # (batch, 2) int32: the row that cannot be matched, or -1, and the columns of its tree


def prepare(space: Space, C: Any, sign: float, dtype: Any, status: Any) -> Any:
    """sign * C (batch, n, m), any strides, as a contiguous array; NaN and -inf become +inf and are noted."""
    batch, n, m = C.shape
    out = space.empty((batch, n, m), dtype)
    run = kernel("assignment.cu", f"prepare<{ctype(C)}, {ctype(out)}>")
    tiles = -(-n // 32) * -(-m // 32)
    for start in range(0, batch, 65535):
        some = C[start : start + 65535]
        grid = (tiles, len(some), 1)
        run(
            space,
            grid,
            (32, 8, 1),
            (some, np.float64(sign), np.int32(n), np.int32(m), *_strides(C), out[start:], status),
        )
    return out


def jonker_volgenant(
    space: Space, C: Any, sign: float, tolerance: float, status: Any, *, proof: bool = False
) -> Matched:
    """Solve sign * C (batch, n, m), n <= m <= MOST, of float32 or float64 at any strides."""
    batch, n, m = C.shape
    threads, slots = next(team[1:] for team in TEAMS if m <= team[0])
    teams = WARPS if threads == WARP else 1
    state = 8 * m + _even(4 * (2 * n + 2 * m))
    bytes_ = _even(C.dtype.itemsize * n * (m | 1)) + state
    cached = teams * bytes_ + 4096 <= space.shared_limit
    if not cached:
        C, bytes_ = prepare(space, C, sign, C.dtype, status), state
    cols, info = space.empty((batch, n), np.int64), space.empty((batch, 2), np.int32)
    f = space.empty((batch, n), np.float64) if proof else None
    g = space.empty((batch, m), np.float64) if proof else None
    bounds = space.empty((batch, 6), np.float64) if proof else None
    name = f"jonker_volgenant<{ctype(C)}, {threads}, {slots}, {'true' if cached else 'false'}>"
    size, out = (np.int32(batch), np.int32(n), np.int32(m)), (cols, f, g, bounds, info)
    given = C, np.float64(sign), *size, *_strides(C), np.float64(tolerance), *out, status, np.int32(bytes_)
    kernel("assignment.cu", name)(space, -(-batch // teams), threads * teams, given, shared=teams * bytes_)
    return Matched(cols, f, g, bounds, info)


def _strides(C: Any) -> tuple[np.int64, ...]:
    """In elements."""
    return tuple(np.int64(stride // C.dtype.itemsize) for stride in C.strides)


def _even(size: int) -> int:
    return -(-size // 8) * 8


def pairs_of(space: Space, cols: Any, m: int, *, turned: bool) -> tuple[Any, Any]:
    """Rows, ascending, and columns (batch, n) of problems whose lines (columns, if `turned`) have these of m."""
    batch, n = cols.shape
    out = space.empty((batch, n), np.int64), space.empty((batch, n), np.int64)
    owner = space.empty((batch, m if turned else 1), np.int32)
    kernel("assignment.cu", "pairs_of")(
        space, batch, 256, (cols, np.int32(n), np.int32(m if turned else 1), np.int32(turned), owner, *out)
    )
    return out
