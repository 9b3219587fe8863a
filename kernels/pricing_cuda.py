"""Scans of all pairs on the device: c-transforms, surveys of costs, what a plan proves. `pricing.cu`, `bounds.cu`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from otdist.kernels.device import kernel
from otdist.kernels.softmin_cuda import REALS, THREADS, Array, Pairs, Room, grid

FIGURES, SURVEYED = 9, 4
# What `bounds` finds of a problem, in its order.
OUTCOMES = (
    "value",
    "linear",
    "lower",
    "upper",
    "entropic_lower",
    "entropic_upper",
    "marginal_error",
    "epsilon",
    "relative",
)


def c_transform(
    room: Room,
    pairs: Pairs,
    g: Array,
    *,
    real: Any = np.float64,
    turned: bool = False,
    f: Array | None = None,
    argmin: Array | None = None,
) -> None:
    """f_i = min_j c_ij - g_j (k, n) float64, inf where nothing may go, and the first column of the least, int64, or -1.

    g (k, m) float64. `turned`: g_j = min_i c_ij - f_i, (k, m), of f (k, n). `real`: the float of costs and differences.
    """
    space, (n, m) = room.space, pairs.shape
    n, m = (m, n) if turned else (n, m)
    blocks, splits = grid(space, pairs.batch, n, m)
    name, source = pairs.source(real, turned)
    least = room.get("least", (pairs.batch, splits, n), real)
    where = room.get("where", (pairs.batch, splits, n), np.int32)
    run = kernel("pricing.cu", f"c_transform<{name}>")
    run(space, (blocks, splits), THREADS, (*source, np.int32(n), np.int32(m), g, least, where))
    merge = kernel("pricing.cu", f"merge_c_transform<{REALS[np.dtype(real)]}>")
    merge(space, pairs.batch * -(-n // 256), 256, (least, where, np.int32(splits), np.int32(n), f, argmin))


def survey(room: Room, pairs: Pairs, a: Array, b: Array, out: Array, word: Array, bit: int) -> None:
    """out (k, 4): mean of the finite costs under a x b, mass of these, the least and the largest.

    NaN and -inf set `bit` in the int32 at `word`. One pass in float64.
    """
    space, (n, m) = room.space, pairs.shape
    name, source = pairs.source(np.float64, False)
    rows = room.get("survey", (pairs.batch, n, SURVEYED), np.float64)
    blocks = pairs.batch * -(-n // 32)
    run = kernel("pricing.cu", f"survey<{name}>")
    run(space, blocks, THREADS, (*source, np.int32(n), np.int32(m), b, rows, word, np.int32(bit)))
    kernel("pricing.cu", "merge_survey")(space, pairs.batch, 256, (rows, np.int32(n), a, out))


@dataclass(frozen=True, eq=False)
class Judged:
    """Figures (k, 9, n) of a plan and its columns; y and missing of its rounding; chain: additions behind a figure."""

    figures: Array
    columns: Array
    y: Array
    missing: Array
    chain: float


def judge(
    room: Room,
    pairs: Pairs,
    scale: Array,
    epsilon: Array,
    kappa: Array,
    b: Array,
    w: Array,
    G: Array,
    h_columns: Array,
    v: Array,
) -> Judged:
    """One float64 pass over the plan 2^(w_i + v_j - scale c_ij); v (k, m) is written, and G where b is 0.

    w (k, n): log2 of the masses with potentials; G (k, m): potentials of the columns; h_columns: their soft-min at w.
    """
    space, batch, (n, m) = room.space, pairs.batch, pairs.shape
    columns, y, missing, g = (room.get(name, (batch, m), np.float64) for name in ("columns", "y", "missing", "g"))
    kernel("pricing.cu", "judge_columns")(
        space,
        batch * -(-m // 256),
        256,
        (np.int32(m), G, h_columns, b, kappa, epsilon, columns, y, missing, v, g),
    )
    blocks, splits = grid(space, batch, n, m)
    name, source = pairs.source(np.float64, False)
    parts = room.get("judged", (batch, splits, FIGURES, n), np.float64)
    figures = room.get("figures", (batch, FIGURES, n), np.float64)
    run = kernel("pricing.cu", f"judge<{name}>")
    run(space, (blocks, splits), THREADS, (*source, np.int32(n), np.int32(m), scale, w, v, g, y, missing, parts))
    merge = kernel("pricing.cu", "merge_judge")
    merge(space, batch * -(-n * FIGURES // 256), 256, (parts, np.int32(splits), np.int32(n), figures))
    return Judged(figures, columns, y, missing, m / (32.0 * splits) + splits)


def bounds(
    room: Room,
    judged: Judged,
    a: Array,
    b: Array,
    F: Array,
    G: Array,
    epsilon: Array,
    rho: tuple[float, float],
    total: Array,
    shift: tuple[Array, Array] | None,
    out: Array,
    f: Array,
    g: Array,
) -> None:
    """out (k, 9): `OUTCOMES`; f (k, n) and g (k, m): potentials in the caller's units, all float64."""
    n, m = a.shape[1], b.shape[1]
    of_f, of_g = (None, None) if shift is None else shift
    kernel("bounds.cu", "bounds")(
        room.space,
        len(a),
        256,
        (
            *(np.int32(n), np.int32(m), a, b, F, G, judged.figures, judged.columns, judged.y, judged.missing, epsilon),
            *(np.float64(rho[0]), np.float64(rho[1]), total, of_f, of_g, np.float64(judged.chain), out, f, g),
        ),
    )
