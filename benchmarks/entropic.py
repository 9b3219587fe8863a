"""Entropic transport against POT, OTT and GeomLoss: one thread, one run, errors measured in float64 over all pairs.

    OTDIST_NUM_THREADS=1 OMP_NUM_THREADS=1 python -m benchmarks.entropic [--only WORD] [--json FILE] [--cap SECONDS]
    OTDIST_NUM_THREADS=2 python -m benchmarks.entropic --large [--only WORD] [--json FILE]

Three kinds of lines: nanoseconds per pair of one full iteration; seconds to a verified marginal error of 1e-7, ours
whole (bounds and certificate included) against each peer run for the least iterations that reach it, without its checks
(`entropic_peers`); and who survives small epsilon, zero masses, twelve decades, an offset, float32. A peer that would
take longer than the cap is recorded with its price, one iteration times their number, or a lower bound.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import resource
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

import otdist as od
from benchmarks import entropic_peers as peers
from benchmarks.entropic_peers import Price, Problem, least

TOL = 1e-7
# Ratios wanted by epsilon over the largest cost; at 1e-4, which the peers do not solve, 2 s at n = 4000.
CLOUDS, UNIFORM = {1e-2: 6.0, 1e-3: 12.0}, {1e-2: 2.5, 1e-3: 5.0}


@dataclass(frozen=True)
class Line:
    """One problem: ours and every peer's, and the ratio to the best peer."""

    name: str
    unit: str  # "s" or "ns per pair and iteration"
    ours: float
    peers: dict[str, float]
    goal: float  # of the ratio
    detail: str = ""
    unreached: list[str] = field(default_factory=list)  # peers whose figure is a lower bound

    @property
    def ratio(self) -> float:
        return min(self.peers.values(), default=math.nan) / self.ours

    def __str__(self) -> str:
        best = min(self.peers, key=self.peers.__getitem__, default="")
        more = ">" if best in self.unreached else ""
        told = "  ".join(f"{k} {'>' if k in self.unreached else ''}{v:.3g}" for k, v in self.peers.items())
        return (
            f"{self.name:44s} {self.ours:9.4g} {self.unit}   {more}{self.ratio:.1f}x {best} (wanted {self.goal:g})   "
            f"[{told}]   {self.detail}"
        )


# --- one iteration ----------------------------------------------------------------------------------------------------


def per_iteration(solve: Callable[[int], Any], pairs: int, few: int = 2, many: int = 22) -> float:
    """Nanoseconds per pair: the difference of many and few iterations."""
    solve(few)
    return (least(lambda: solve(many)) - least(lambda: solve(few))) / (many - few) / pairs * 1e9


def iteration_lines(only: str) -> Iterator[Line]:
    """Against POT's scaling and log-domain iterations in float64, which are what its users run, and in float32."""
    cells = (
        ("points d=2 float32 n=2000", 2000, 2, np.float32, False, (3.0, 80.0)),
        ("points d=2 float64 n=2000", 2000, 2, np.float64, False, (1.0, 25.0)),
        ("matrix float32 n=4000", 4000, 2, np.float32, True, (2.0, 25.0)),
        ("matrix float64 n=4000", 4000, 2, np.float64, True, (1.0, 25.0)),
        ("points d=64 float32 n=4000", 4000, 64, np.float32, False, (1.0, 10.0)),
    )
    for label, n, d, dtype, stored, goals in cells:
        name = f"iteration, {label}"
        if only not in name:
            continue
        x, y = (z.astype(dtype) for z in peers.clouds(n, d))
        C = cdist(x, y, "sqeuclidean")
        epsilon, h = 0.02 * float(C.max()), np.full(n, 1.0 / n)
        costs = C.astype(dtype) if stored else od.PointCloud(x, y)

        def ours(k: int, costs: Any = costs, epsilon: float = epsilon) -> Any:
            options = {"method": "sinkhorn", "max_iter": k, "tol": 1e-300, "on_fail": "ignore"}
            return od.sinkhorn(costs, epsilon=epsilon, **options)

        mine = per_iteration(ours, n * n, 20, 120)
        for method, goal in zip(("sinkhorn", "sinkhorn_log"), goals, strict=True):
            found = _pot_iteration(C, h, epsilon, n, method)
            single = found.pop("POT float32", math.nan)
            yield Line(f"{name}, {method}", "ns", mine, found, goal, f"POT in float32: {single:.3g}")


def _pot_iteration(C: Any, h: Any, epsilon: float, n: int, method: str) -> dict[str, float]:
    """POT in float64 and float32, given the matrix, between two of its checks."""
    try:
        import ot
    except ImportError:
        return {}
    found = {}
    for dtype in (np.float64, np.float32):
        M, w = C.astype(dtype), h.astype(dtype)

        def run(k: int, M: Any = M, w: Any = w) -> Any:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return ot.sinkhorn(w, w, M, epsilon, method=method, numItermax=k, stopThr=0.0, warn=False)

        many = 10 if method == "sinkhorn" else 3
        found[f"POT {np.dtype(dtype).name}"] = per_iteration(run, n * n, 1, many)
    return found


# --- to a verified error ----------------------------------------------------------------------------------------------


def ours(problem: Problem, epsilon: float, tol: float, by_points: bool = False) -> tuple[float, str]:
    costs = od.PointCloud(problem.x, problem.y) if by_points else problem.C
    kept: list[Any] = []

    def call() -> None:
        kept[:] = [od.sinkhorn(costs, problem.a, problem.b, epsilon=epsilon, tol=tol)]

    took, found = least(call), kept[0]
    off = peers.error(problem, found.f, found.g, epsilon)
    assert found.converged, (problem.name, epsilon, float(found.marginal_error))
    assert off <= 1.01 * tol, (problem.name, epsilon, off)
    return took, f"{found.solver}, {found.n_iter} its, err {off:.0e}"


def prices(problem: Problem, epsilon: float, tol: float, need: dict[str, Any], cap: float) -> list[Price]:
    """Every peer that is installed and makes sense here."""
    found: list[Price] = []
    small = problem.C.size <= 2_000_000
    try:
        import ot  # noqa: F401

        found.append(peers.pot(problem, epsilon, tol, "sinkhorn", need, cap))
        found.append(peers.pot(problem, epsilon, tol, "sinkhorn_stabilized", need, cap))
        if small:
            found.append(peers.pot(problem, epsilon, tol, "sinkhorn_log", need, cap))
            if epsilon > 5e-3 * float(problem.C.max()):  # far behind here already
                found.append(peers.pot_scaling(problem, epsilon, tol))
                found.append(peers.pot_greedy(problem, epsilon, tol, cap))
    except ImportError:
        pass
    try:
        import ott  # noqa: F401

        easy = small and epsilon > 5e-3 * float(problem.C.max())
        for variant in peers.OTT if easy else ("lse momentum 1.5", "scaling"):
            found.append(peers.ott(problem, epsilon, tol, variant, cap))
    except ImportError:
        pass
    if problem.x is not None and small:
        try:
            import geomloss  # noqa: F401

            found.append(peers.geomloss(problem, epsilon, tol, cap))
        except ImportError:
            pass
    return found


def solve_lines(only: str, cap: float, alone: bool = False) -> Iterator[Line]:
    """Problem by problem, epsilon by epsilon; `alone` runs the peers without ours."""
    counted = peers.counts()
    for problem in peers.problems(only.partition(" epsilon")[0]):
        for ratio in peers.RATIOS:
            name = f"{problem.name} epsilon={ratio:g}"
            if only not in name or name not in counted:
                continue
            epsilon = ratio * float(problem.C.max())
            mine, detail = (math.nan, "") if alone else ours(problem, epsilon, TOL)
            told = prices(problem, epsilon, TOL, counted[name], cap)
            good = [p for p in told if p.reached]
            bounds = [p for p in told if p.bounds]
            wanted = (UNIFORM if "uniform" in name else CLOUDS).get(ratio, 1.0)
            chosen = good or bounds
            best = {p.peer: p.seconds for p in chosen}
            unreached = [p.peer for p in chosen if not p.reached]
            yield Line(name, "s", mine, best, wanted, f"{detail}   {{{'; '.join(map(str, told))}}}", unreached)
            if problem.x is not None and not alone:
                took, detail = ours(problem, epsilon, TOL, by_points=True)
                yield Line(f"{name}, from points", "s", took, best, wanted, detail, unreached)


def other_lines(only: str) -> Iterator[Line]:
    """A batch of small problems, and a second thread."""
    name = "batch of 256, n=64, 100 iterations"
    if only in name:
        rng = np.random.default_rng(3)
        C = rng.random((256, 64, 64))
        options = {"epsilon": 0.05, "method": "sinkhorn", "max_iter": 100, "tol": 1e-300, "on_fail": "ignore"}
        for dtype in (np.float64, np.float32):
            costs = C.astype(dtype)
            mine = least(lambda: od.sinkhorn(costs, **options))  # noqa: B023
            found = _pot_batch(costs, 0.05, 100)
            others = {key: value for key, value in found.items() if key != "POT solve_batch"}
            detail = "  ".join(f"{key} {value:.3g}" for key, value in others.items())
            if "POT solve_batch" in found:
                found = {"POT solve_batch": found["POT solve_batch"]}
            yield Line(f"{name}, {np.dtype(dtype).name}", "s", mine, found, 15.0, detail)
    for label, n, d, ratio in (("points d=2 n=4000", 4000, 2, 1e-2), ("points d=64 n=4000", 4000, 64, 1e-2)):
        name = f"two threads, {label} epsilon={ratio:g}"
        if only in name:
            from otdist.kernels.threads import set_thread_count

            x, y = peers.clouds(n, d)
            epsilon = ratio * float(np.max(cdist(x, y, "sqeuclidean")))
            took = {}
            for count in (1, 2):
                set_thread_count(count)
                took[count] = wall(lambda: od.sinkhorn(od.PointCloud(x, y), epsilon=epsilon, tol=TOL))  # noqa: B023
            set_thread_count(None)
            yield Line(name, "s", took[2], {"one thread": took[1]}, 1.7)


def wall(call: Callable[[], Any], turns: int = 3) -> float:
    call()
    best = math.inf
    for _ in range(turns):
        begin = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - begin)
    return best


def _pot_batch(C: Any, epsilon: float, k: int) -> dict[str, float]:
    """POT's batch solver as it comes, its parts by scalings without logarithms, and a loop over its single solver."""
    found: dict[str, float] = {}
    try:
        import ot
    except ImportError:
        return found
    n = C.shape[-1]
    h, all_h = np.full(n, 1.0 / n, C.dtype), np.full(C.shape[:2], 1.0 / n, C.dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limits = {"max_iter": k, "tol": 0.0}
        if hasattr(ot, "solve_batch"):
            found["POT solve_batch"] = least(lambda: ot.solve_batch(C, epsilon, all_h, all_h, **limits))
        try:
            from ot.batch import bregman_projection_batch

            K = np.exp(-C / epsilon)
            found["its scalings"] = least(lambda: bregman_projection_batch(K, all_h, all_h, **limits))
        except ImportError:
            pass
        quiet = {"numItermax": k, "stopThr": 0.0, "warn": False}
        found["POT loop"] = least(lambda: [ot.sinkhorn(h, h, M, epsilon, **quiet) for M in C], turns=2)
    return found


# --- beyond the memory of a matrix ------------------------------------------------------------------------------------

LARGE: dict[str, tuple[str, int, int, float, float]] = {  # family, n, d, marginal error, seconds wanted
    "uniform d=3": ("uniform", 100_000, 3, 5e-3, 60.0),
    "gaussian d=3": ("gaussian", 100_000, 3, 5e-3, 60.0),
    "clusters d=3": ("clusters", 100_000, 3, 5e-3, 60.0),
    "gaussian d=2": ("gaussian", 100_000, 2, 5e-3, 60.0),
    "gaussian d=2, error 1e-6": ("gaussian", 100_000, 2, 1e-6, 120.0),
    "gaussian d=64": ("gaussian", 20_000, 64, 1e-6, 120.0),
    "million uniform d=3": ("uniform", 1_000_000, 3, 5e-3, 600.0),
    "million gaussian d=3": ("gaussian", 1_000_000, 3, 5e-3, 600.0),
}


def family(name: str, n: int, d: int, seed: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    if name == "uniform":
        return rng.random((n, d)), 0.1 + 0.9 * rng.random((n, d))
    if name == "clusters":
        at = 5.0 * rng.standard_normal((2, 20, d))
        x, y = (centres[rng.integers(20, size=n)] + 0.3 * rng.standard_normal((n, d)) for centres in at)
        return x, y
    return rng.standard_normal((n, d)), 0.8 * rng.standard_normal((n, d)) + 0.5


def diameter(points: Any) -> float:
    """The largest distance found in three sweeps to the farthest point: at most the diameter, and near it."""
    at = points.mean(axis=0)
    for _ in range(3):
        far = np.linalg.norm(points - at, axis=1)
        at = points[np.argmax(far)]
    return float(np.linalg.norm(points - at, axis=1).max())


def large(name: str, seed: int) -> dict[str, Any]:
    """One large problem in this process, epsilon = (1 % of the diameter)^2 (10 % at d = 64).

    The error stated is over all pairs; sampled rows and columns are measured again, each over all that it meets.
    """
    kind, n, d, tol, goal = LARGE[name]
    x, y = family(kind, n, d, seed)
    epsilon = ((0.01 if d <= 3 else 0.1) * diameter(np.concatenate([x, y]))) ** 2
    warm = od.PointCloud(x[:3000], y[:3000])
    od.sinkhorn(warm, epsilon=10 * epsilon, tol=1e-3, method="multiscale" if d <= 3 else "sinkhorn", on_fail="ignore")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.perf_counter()
    found = od.sinkhorn(od.PointCloud(x, y), epsilon=epsilon, tol=tol, on_fail="ignore")
    took = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    some = np.random.default_rng(0).choice(n, 200, replace=False)
    f, g = np.asarray(found.f), np.asarray(found.g)
    rows = np.array([np.exp((f[i] + g - ((y - x[i]) ** 2).sum(1)) / epsilon).mean() for i in some])
    cols = np.array([np.exp((f + g[j] - ((x - y[j]) ** 2).sum(1)) / epsilon).mean() for j in some])
    off = float(np.mean(np.abs(rows - 1.0)) + np.mean(np.abs(cols - 1.0)))
    return {
        **{"name": name, "n": n, "seed": seed, "seconds": took, "goal_s": goal, "converged": bool(found.converged)},
        **{"epsilon": epsilon, "tol": tol, "error": float(found.marginal_error), "sampled_error": off},
        **{"lower": float(found.lower_bound), "linear": float(found.linear), "upper": float(found.upper_bound)},
        **{"extra_mb": (peak - before) / 1024, "solver": found.solver, "iterations": int(found.n_iter)},
    }


def run_large(only: str, seed: int) -> list[dict[str, Any]]:
    found = []
    for name in LARGE:
        if only not in name or ("million" in name and "million" not in only):
            continue
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            one = pool.apply(large, (name, seed))
        print(
            f"{name:28s} n={one['n']:9,d}  {one['seconds']:8.1f} s (wanted {one['goal_s']:.0f})   error "
            f"{one['error']:.1e}, sampled {one['sampled_error']:.1e}   {one['extra_mb']:6.0f} MB   {one['solver']}",
            flush=True,
        )
        found.append(one)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", help="write the figures here")
    parser.add_argument("--only", default="", help="lines whose name contains this")
    parser.add_argument("--cap", type=float, default=1.5, help="seconds for one run of a peer")
    parser.add_argument("--large", action="store_true", help="problems beyond the memory of a matrix")
    parser.add_argument("--peers", action="store_true", help="the peers alone, to a verified error")
    parser.add_argument("--seed", type=int, default=2026, help="of the large problems")
    options = parser.parse_args()
    found: list[Any] = []
    if options.large:
        found = run_large(options.only, options.seed)
    elif options.peers:
        found = _shown(solve_lines(options.only, options.cap, alone=True))
    else:
        # Memory that a virtual machine touches for the first time is slow: all of it now, whoever uses it first.
        np.ones(1 << 28)
        for lines in (iteration_lines(options.only), solve_lines(options.only, options.cap), other_lines(options.only)):
            found += _shown(lines)
            _keep(found, options.json)
        if options.only in "robustness":
            from benchmarks.entropic_robustness import table

            found += table()
    _keep(found, options.json)


def _keep(found: list[Any], path: str | None) -> None:
    if path:
        with open(path, "w", encoding="utf-8") as file:
            json.dump([one if isinstance(one, dict) else asdict(one) for one in found], file, indent=1)


def _shown(lines: Iterator[Line]) -> list[Line]:
    found = []
    for line in lines:
        print(line, flush=True)
        found.append(line)
    return found


if __name__ == "__main__":
    main()
