"""Problems of the GPU benchmark: data, the call, its float64 oracle, the computed floor and the goal.

A floor counts what no algorithm of this kind saves: bytes read and written once over the bandwidth that a copy reaches
in the same run, or exponentials and products over the rates that processors and clock allow. Nothing here is measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import otdist as od
from otdist.kernels import device, softmin_cuda

LOG2E = float(np.log2(np.e))


@dataclass(frozen=True)
class Rates:
    """Of this device: bytes per second by a copy, exponentials and half products (flop) per second by clock."""

    bytes: float
    exps: float
    flops: float


@dataclass(frozen=True)
class Goal:
    """At most so many seconds, at least this share of the floor, or so many times as fast as a peer."""

    seconds: float | None = None
    share: float | None = None
    peer: str = ""
    ratio: float = 0.0

    def __str__(self) -> str:
        wanted = [f"<= {self.seconds * 1e3:g} ms"] if self.seconds else []
        wanted += [f">= {self.share:.0%} of the floor's speed"] if self.share else []
        return ", ".join([*wanted, *([f">= {self.ratio:g} x {self.peer}"] if self.peer else [])])


@dataclass(frozen=True)
class Problem:
    """`error(result)` compares what a call returned, ours or a peer's, with the oracle."""

    name: str
    size: str
    call: Callable[[], Any]
    error: Callable[[Any], float]
    tolerance: float
    floor: Callable[[Rates], float]
    floor_of: str
    goal: Goal | None
    data: dict[str, Any] = field(default_factory=dict)  # for the peers, on the device
    deferred: bool = True  # the status words are read after the clock has stopped
    facts: dict[str, Any] = field(default_factory=dict)  # what a call tells besides; `short`: less work than named


class Bench:
    """The device, sizes, and how data gets there."""

    def __init__(self, cp: Any, emulated: bool, scale: str) -> None:
        self.cp, self.emulated, self.scale = cp, emulated, scale
        self.oracle = np if emulated else cp  # float64 all the same

    def pick(self, full: Any, quick: Any, tiny: Any) -> Any:
        return {"full": full, "quick": quick, "tiny": tiny}[self.scale]

    def wide(self, x: Any) -> Any:
        """In float64, where the oracle computes."""
        return host(x).astype(np.float64) if self.emulated else x.astype(np.float64)


def host(x: Any) -> Any:
    """A NumPy array of anything's array; half types as float32."""
    if type(x).__module__.startswith("torch"):
        x = x.detach()
        return (x.float() if x.is_floating_point() and x.dtype.itemsize == 2 else x).cpu().numpy()
    return x.get() if hasattr(x, "get") else np.asarray(x)


def away(found: Any, want: Any) -> float:
    """Norm of the difference over the norm; infinite where something is not finite or missing."""
    a, b = host(found).astype(np.float64), host(want).astype(np.float64)
    if a.shape != b.shape or not np.isfinite(a).all():
        return float("inf")
    return float(np.linalg.norm((a - b).ravel()) / max(np.linalg.norm(b.ravel()), 1e-300))


def _histograms(n: int, k: int, seed: int) -> Any:
    p = np.random.default_rng([seed, n, k]).random((n, k), np.float32) + np.float32(0.01)
    return p / p.sum(1, keepdims=True, dtype=np.float64).astype(np.float32)


def _clouds(bench: Bench, n: int, d: int) -> tuple[Any, Any]:
    rng = np.random.default_rng([n, d])
    x, y = (rng.standard_normal((n, d), np.float32) for _ in range(2))
    return bench.cp.asarray(x), bench.cp.asarray(y + np.float32(0.5))


def rows(bench: Bench, dtype: str) -> Problem:
    """Value and gradient of Jensen-Shannon, row by row."""
    n, k = bench.pick((8192, 128256), (1024, 128256), (6, 70))
    if not bench.emulated:  # ours and the peers' temporaries take ten arrays of this size
        n = min(n, 64 * max(1, int(bench.cp.cuda.runtime.memGetInfo()[0]) // (10 * 4 * k * 64)))
    block = min(n, 64)
    p, q = (bench.cp.tile(bench.cp.asarray(_histograms(block, k, s)), (n // block, 1)) for s in (0, 1))
    width = 4
    if dtype == "bf16":
        if bench.emulated:
            raise LookupError("bfloat16 tensors need torch on a GPU")
        import torch

        p, q = (torch.from_dlpack(z).to(torch.bfloat16) for z in (p, q))
        width = 2
    every = slice(n // 3, None, max(1, n // 13))
    a, b = (host(z[every]).astype(np.float64) for z in (p, q))
    middle = 0.5 * (a + b)
    values = 0.5 * (a * np.log(a / middle) + b * np.log(b / middle)).sum(1)
    slopes = 0.5 * np.log(a / middle)
    return Problem(
        f"rows {dtype}", f"{n} x {k}", lambda: od.value_and_grad(od.js, 0)(p, q),
        lambda r: max(away(r[0][every], values), away(r[1][every], slopes)), 1e-5 if width == 4 else 1e-2,
        lambda rates: 3.0 * n * k * width / rates.bytes, "read p and q, write the gradient", Goal(share=0.75),
        {"p": p, "q": q},
    )  # fmt: skip


def pairwise_kl(bench: Bench) -> Problem:
    n, k = bench.pick((8192, 256), (2048, 256), (9, 20))
    p, q = (bench.cp.asarray(_histograms(n, k, s)) for s in (2, 3))
    every = slice(n // 7, None, max(1, n // 61))
    a, b = (host(z[every]).astype(np.float64) for z in (p, q))
    want = (a * np.log(a)).sum(1)[:, None] - a @ np.log(b).T
    return Problem(
        "pairwise kl", f"{n}^2 x {k}", lambda: od.pairwise(p, q, metric="kl"),
        lambda r: away(r[every][:, every], want), 1e-5,
        lambda r: max(6.0 * n * n * k / r.flops, 4.0 * n * n / r.bytes), "three half products, or the matrix written",
        Goal(seconds=1e-3) if bench.scale == "full" else None, {"p": p, "q": q},
    )  # fmt: skip


def mmd(bench: Bench) -> Problem:
    n, d = bench.pick((100_000, 64), (20_000, 64), (70, 9))
    width = float(d) ** 0.5
    x, y = _clouds(bench, n, d)
    kernel = od.Gaussian(width)
    every = slice(n // 5, None, max(1, n // 31))
    xp, X, Y = bench.oracle, bench.wide(x), bench.wide(y)

    def gram(A: Any, B: Any) -> Any:
        squares = (A * A).sum(1)[:, None] + (B * B).sum(1)[None] - 2.0 * (A @ B.T)
        return xp.exp(-0.5 * squares / width**2)

    def mean(A: Any, B: Any) -> float:
        return sum(float(gram(A[i : i + 1024], B).sum()) for i in range(0, len(A), 1024)) / (len(A) * len(B))

    def pull(A: Any, B: Any) -> Any:
        G = gram(A, B)
        return (G.sum(1)[:, None] * A - G @ B) / (-(width**2) * n * n)

    value = mean(X, X) + mean(Y, Y) - 2.0 * mean(X, Y)
    slopes = 2.0 * (pull(X[every], X) - pull(X[every], Y))
    return Problem(
        "mmd", f"n = {n}, d = {d}", lambda: od.value_and_grad(od.mmd, (0, 1))(x, y, kernel=kernel),
        lambda r: max(abs(float(r[0]) / value - 1.0), away(r[1][0][every], slopes)), 1e-4,
        lambda r: 2.0 * n * n * max(1.0 / r.exps, 6.0 * d / r.flops),
        "one exponential and three half products a pair, equal pairs once", Goal(peer="KeOps", ratio=5.0),
        {"x": x, "y": y, "width": width},
    )  # fmt: skip


def softmin(bench: Bench) -> Problem:
    """One iteration: the soft-min of all rows, and that of all columns."""
    n, d = bench.pick((50_000, 64), (10_000, 64), (45, 11))
    x, y = _clouds(bench, n, d)
    epsilon = d / 4.0
    space = device.Space(device.CupyMemory(0))
    wide = tuple(space.cast(z[None], np.float64) for z in (x, y))
    pairs = softmin_cuda.PointPairs(*wide, 1, "SQUARED", None, (x[None], y[None]))
    room = softmin_cuda.Room(space)
    scale, even = space.put(np.array([LOG2E / epsilon])), space.full((1, n), -np.log2(n), np.float64)
    h, t = (space.empty((1, n), np.float64) for _ in range(2))

    def call() -> Any:
        softmin_cuda.soft_min(room, pairs, scale, even, real=np.float32, h=h)
        softmin_cuda.soft_min(room, pairs, scale, even, real=np.float32, turned=True, h=t)
        return h[0], t[0]

    every = slice(n // 3, None, max(1, n // 61))
    a, b = (host(z).astype(np.float64) for z in (x, y))

    def plain(u: Any, v: Any) -> Any:
        squares = (u * u).sum(1)[:, None] + (v * v).sum(1)[None] - 2.0 * u @ v.T
        low = squares.min(1)
        return (low - epsilon * np.log(np.exp((low[:, None] - squares) / epsilon).mean(1))) * LOG2E / epsilon

    want = plain(a[every], b), plain(b[every], a)

    def error(found: Any) -> float:
        return max(away(one[every], wanted) for one, wanted in zip(found, want, strict=True) if one is not None)

    return Problem(
        "softmin", f"n = {n}, d = {d}", call, error, 2e-6,
        lambda r: 2.0 * n * n * max(1.0 / r.exps, 6.0 * d / r.flops), "one exponential and three half products a pair",
        Goal(share=0.5, peer="FlashSinkhorn, float32", ratio=2.0), {"x": x, "y": y, "epsilon": epsilon}, False,
    )  # fmt: skip


def sinkhorn_batch(bench: Bench) -> Problem:
    k, n, steps = bench.pick((256, 64, 100), (256, 64, 100), (3, 8, 100))
    C = np.random.default_rng([k, n]).random((k, n, n), np.float32)
    there, epsilon, facts = bench.cp.asarray(C), 0.1, dict[str, Any]()
    few = C[: min(k, 8)].astype(np.float64)
    g = np.zeros((len(few), n))
    for _ in range(20 * steps):
        f = -epsilon * np.log(np.exp((g[:, None, :] - few) / epsilon).mean(2))
        g = -epsilon * np.log(np.exp((f[:, :, None] - few) / epsilon).mean(1))
    want = (f + g).mean(1)

    def call() -> Any:
        found = od.sinkhorn(there, epsilon=epsilon, max_iter=steps, tol=1e-30, method="sinkhorn", on_fail="ignore")
        if not facts:  # once, before the clock: it stops where rounding lets nothing improve
            least = int(host(found.n_iter).min())
            facts.update(least_iterations=least, short=least < steps)
        return found.value

    return Problem(
        "sinkhorn batch", f"{k} x {n}^2, {steps} iterations", call, lambda r: away(r[: len(few)], want), 1e-4,
        lambda r: 2.0 * steps * k * n * n / r.exps, "an exponential a pair and half-step",
        Goal(seconds=0.5e-3), {"C": there, "epsilon": epsilon, "steps": steps}, False, facts,
    )  # fmt: skip


def assignments(bench: Bench) -> Problem:
    from scipy.optimize import linear_sum_assignment

    k, n = bench.pick((4096, 256), (256, 256), (3, 33))
    C = np.random.default_rng([k, n, 1]).random((k, n, n), np.float32)
    there, few = bench.cp.asarray(C), [0, k // 3, k // 2, k - 1]
    want = [C[i][linear_sum_assignment(C[i])].sum(dtype=np.float64) for i in few]

    def error(found: Any) -> float:
        columns = host(found[1] if isinstance(found, tuple) else found)
        if not (np.sort(columns, 1) == np.arange(n)).all():
            return float("inf")
        sums = [C[i][np.arange(n), columns[i]].sum(dtype=np.float64) for i in few]
        return away(np.array(sums), np.array(want))

    return Problem(
        "assignments", f"{k} x {n}^2", lambda: od.linear_sum_assignment(there), error, 1e-6,
        lambda r: 4.0 * k * n * n / r.bytes, "read the costs once",
        Goal(seconds=0.05) if bench.scale == "full" else None, {"C": there}, False,
    )  # fmt: skip


def assignment(bench: Bench) -> Problem:
    """One large dense assignment; proved by the duals of exact transport, checked over all pairs in float64."""
    n = bench.pick(10_000, 3000, 40)
    C = np.random.default_rng([n, 2]).random((n, n), np.float32)
    there = bench.cp.asarray(C)
    bounds: list[float] = []

    def bound() -> float:
        if not bounds:
            dual = od.emd(there)
            f, g = (host(z).astype(np.float64) for z in (dual.f, dual.g))
            blocks = (slice(i, i + 512) for i in range(0, n, 512))
            slack = min(float((C[s] - f[s, None] - g).min()) for s in blocks)
            bounds.append(float(f.mean() + g.mean()) + min(slack, 0.0))
        return bounds[0]

    def error(found: Any) -> float:
        columns = host(found[1] if isinstance(found, tuple) else found).ravel()
        if not np.array_equal(np.sort(columns), np.arange(n)):
            return float("inf")
        return abs(float(C[np.arange(n), columns].mean(dtype=np.float64)) / bound() - 1.0)

    return Problem(
        "assignment", f"n = {n}", lambda: od.linear_sum_assignment(there), error, 1e-6,
        lambda r: 4.0 * n * n / r.bytes, "read the costs once",
        Goal(seconds=0.3) if bench.scale == "full" else None, {"C": there}, False,
    )  # fmt: skip


def line(bench: Bench) -> Problem:
    n = bench.pick(10_000_000, 1_000_000, 150)
    rng = np.random.default_rng(n)
    u, v = rng.standard_normal(n, np.float32), rng.standard_normal(n, np.float32) + np.float32(0.5)
    want = np.abs(np.sort(u).astype(np.float64) - np.sort(v)).mean()
    U, V = bench.cp.asarray(u), bench.cp.asarray(v)
    return Problem(
        "line", f"n = {n}", lambda: od.wasserstein_1d(U, V), lambda r: abs(float(r) / want - 1.0), 1e-5,
        lambda r: 4.0 * 2 * n * (1 + 4 * 2 + 1) / r.bytes, "radix sort: read for the counts, four passes; read to add",
        None, {"u": U, "v": V},
    )  # fmt: skip


PROBLEMS: dict[str, Callable[[Bench], Problem]] = {
    "rows f32": lambda bench: rows(bench, "f32"),
    "rows bf16": lambda bench: rows(bench, "bf16"),
    "pairwise kl": pairwise_kl,
    "mmd": mmd,
    "softmin": softmin,
    "sinkhorn batch": sinkhorn_batch,
    "assignments": assignments,
    "assignment": assignment,
    "line": line,
}
