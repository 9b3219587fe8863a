"""What surrounds exact transport on the device: launches of `couplings.cu`."""

from __future__ import annotations

from typing import Any

import numpy as np

from otdist.kernels.auction_cuda import Costs
from otdist.kernels.device import Space, ctype, kernel

# Bits of a survey of points.
NOT_FINITE, ZERO, NOT_WHOLE = 1, 2, 4


def survey(space: Space, C: Any) -> tuple[float, float, bool, bool]:
    """Of a contiguous array: least entry, largest finite |c|, whether some are NaN, all finite are whole. Waits."""
    blocks = min(-(-C.size // 4096), 8 * space.processors)
    stats = space.empty((blocks, 4), np.float64)
    kernel("couplings.cu", f"survey<{ctype(C)}>")(space, blocks, 256, (C, np.int64(C.size), stats))
    found = space.host(stats)
    return float(found[:, 0].min()), float(found[:, 1].max()), bool(found[:, 2].any()), not found[:, 3].any()


def placed(space: Space, x: Any, scale: float, unit: bool, status: Any) -> Any:
    """Points (..., n, d) in float64, contiguous, times a scale, or brought to length sqrt(1/2); bits are noted."""
    x = x if x.ndim == 2 else space.contiguous(x).reshape(-1, x.shape[-1])
    y = space.empty(x.shape, np.float64)
    by_point, by_coordinate = (np.int64(stride // x.dtype.itemsize) for stride in x.strides)
    given = x, by_point, by_coordinate, np.int64(len(x)), np.int32(x.shape[1]), np.float64(scale), np.int32(unit)
    kernel("couplings.cu", f"placed<{ctype(x)}>")(space, -(-len(x) // 256), 256, (*given, y, status))
    return y


def cost_blocks(space: Space, metric: int, power: float, x: Any, y: Any, batch: int) -> Any:
    """Costs (batch, n, m) of points x (batch or 1, n, d) and transposed y (batch or 1, d, m), contiguous float64."""
    n, d, m = x.shape[1], x.shape[2], y.shape[2]
    out = space.empty((batch, n, m), np.float64)
    run = kernel("couplings.cu", f"cost_blocks<{metric}>")
    for start in range(0, batch, 65535):
        count = min(65535, batch - start)
        sides = [(z if len(z) == 1 else z[start:], np.int64(0 if len(z) == 1 else z[0].size)) for z in (x, y)]
        sizes = np.int32(n), np.int32(m), np.int32(d), np.float64(power), out[start:]
        run(space, (-(-m // 256), n, count), 256, (*sides[0], *sides[1], *sizes))
    return out


def matched_values(space: Space, bounds: Any, n: int, p: float, unit: float) -> tuple[Any, Any]:
    """Values (batch,) of matched problems from their bounds, and their derivatives by the cost of a pair."""
    batch = len(bounds)
    values, rates = (space.empty((batch,), np.float64) for _ in range(2))
    given = bounds, np.int32(batch), np.int32(n), np.float64(p), np.float64(unit), values, rates
    kernel("couplings.cu", "matched_values")(space, -(-batch // 128), 128, given)
    return values, rates


def pair_pulls(
    costs: Costs, y: Any, cols: Any, rates: Any, *, batch: int = 1, given: tuple[Any, Any] | None = None
) -> tuple[Any, Any]:
    """Gradients (batch, n, d), (batch, m, d) of the sum of rates times costs of pairs (i, cols[b, i]).

    costs.first: points x (batch or 1, n, d); y (batch or 1, m, d). rates: of problems (batch,), or of pairs (batch, n).
    given: the points before they were brought to one length. All are contiguous float64.
    """
    space, x = costs.space, costs.first
    n, d, m = x.shape[-2], x.shape[-1], y.shape[-2]
    by_x, by_y = space.zeros((batch, n, d), np.float64), space.zeros((batch, m, d), np.float64)
    strides = [np.int64(0 if z.size == z.shape[-2] * d and batch > 1 else z.shape[-2] * d) for z in (x, y)]
    before = (None, None) if given is None else given
    sizes = np.int32(batch), np.int32(n), np.int32(m), np.int32(d), np.float64(costs.power)
    kernel("couplings.cu", f"pair_pulls<{costs.metric}>")(
        space,
        -(-batch * n // 8),
        256,
        (x, strides[0], y, strides[1], *sizes, cols, rates, np.int32(rates.ndim > 1), *before, by_x, by_y),
    )
    return by_x, by_y


def carried(space: Space, v: Any, to: Any, source: Any, mass: Any, size: int) -> Any:
    """out[to[s]] = mass[s] v[source[s]] (size, c), 0 elsewhere; each of `to` occurs once."""
    out = space.zeros((size, v.shape[1]), np.float64)
    given = v, to, source, mass, np.int64(len(to)), np.int32(v.shape[1]), out
    kernel("couplings.cu", "carried")(space, -(-len(to) * v.shape[1] // 256), 256, given)
    return out
