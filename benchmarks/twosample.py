"""Permutation tests against indexing the kernel matrix once per permutation, in one run on one thread.

    OTDIST_NUM_THREADS=1 python -m benchmarks.twosample [--json FILE]

The peer holds K and takes the blocks of each relabelling out of it, which is the definition; a few relabellings are
timed and counted for all. Both sides' statistics of the same labels are compared first.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Line:
    """One comparison: seconds of a whole test, their ratio, and the ratio wanted."""

    name: str
    peer: str
    ours_s: float
    peer_s: float
    ratio: float
    goal: float
    error: float


def least(call: Callable[[], Any], turns: int) -> float:
    best = float("inf")
    for _ in range(turns):
        start = time.thread_time()
        call()
        best = min(best, time.thread_time() - start)
    return best


def relabelled(K: Any, order: Any, n: int) -> float:
    """MMD² of one relabelling, by indexing."""
    L = K[order][:, order]
    return float(L[:n, :n].mean() + L[n:, n:].mean() - 2 * L[:n, n:].mean())


def lines(turns: int = 5, few: int = 5) -> list[Line]:
    import otdist as od
    from otdist.kernels import permute

    n, d, permutations = 1000, 10, 1000
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((n, d)), rng.standard_normal((n, d)) + 0.05
    pool = np.concatenate([x, y])
    seeds = np.random.default_rng(1).integers(0, 2**64, size=permutations, dtype=np.uint64)
    E = permute.subsets(seeds, n, 2 * n)
    orders = [np.argsort(1 - E[:, c], kind="stable") for c in range(few)]

    found = []
    cases: list[tuple[str, Any, dict[str, Any], float]] = [
        ("mmd_test, gaussian of known bandwidth", od.Gaussian(4.0), {}, 100.0),
        ("mmd_test, gaussian, median", od.Gaussian(), {}, 100.0),
        ("mmd_test, energy", od.Energy(), {}, 100.0),
        ("mmd_test, 10 kernels aggregated (per kernel)", od.Gaussian(), {"method": "aggregated"}, 100.0),
    ]
    for name, kernel, options, goal in cases:

        def ours(kernel: Any = kernel, options: dict[str, Any] = options) -> Any:
            return od.mmd_test(x, y, kernel=kernel, permutations=permutations, rng=1, **options)

        first = ours()
        K = _matrix(kernel if first.bandwidth is None else od.Gaussian(np.ravel(first.bandwidth)[0]), pool)
        want = np.array([relabelled(K, order, n) for order in orders])
        null = first.null[:few]
        if options:
            one = od.Gaussian(first.bandwidth[0])
            null = od.mmd_test(x, y, kernel=one, permutations=permutations, rng=1).null[:few]
        error = float(np.max(np.abs(null - want) / want))
        assert error < 1e-8, (name, error)
        count = max(len(first.kernels), 1)
        peer = least(lambda K=K: [relabelled(K, order, n) for order in orders], turns) / few * permutations
        mine = least(ours, turns) / count
        found.append(Line(name, "K[order][:, order]", mine, peer, peer / mine, goal, error))

    a, b = rng.standard_normal((50_000, 1)), rng.standard_normal((50_000, 1))
    mine = least(lambda: od.energy_test(a, b, permutations=199, rng=0), turns)
    found.append(_sorted_line(a[:, 0], b[:, 0], mine, 199, turns, few))
    return found


def _matrix(kernel: Any, pool: Any) -> Any:
    from scipy.spatial.distance import cdist

    c = cdist(pool, pool)
    return -c if getattr(kernel, "bandwidth", None) is None else np.exp(-(c**2) / (2 * kernel.bandwidth**2))


def _sorted_line(a: Any, b: Any, mine: float, permutations: int, turns: int, few: int) -> Line:
    """The energy test on the line against SciPy's distance of permuted samples."""
    from scipy.stats import energy_distance

    import otdist as od

    got = od.energy_test(a[:, None], b[:, None], permutations=19, rng=0).statistic
    want = energy_distance(a, b) ** 2
    rng, pool = np.random.default_rng(0), np.concatenate([a, b])

    def peer() -> None:
        for _ in range(few):
            order = rng.permutation(len(pool))
            energy_distance(pool[order[: len(a)]], pool[order[len(a) :]])

    theirs = least(peer, turns) / few * permutations
    name = "energy_test, one dimension, 50,000 + 50,000, B = 199"
    return Line(name, "scipy energy_distance", mine, theirs, theirs / mine, 1.0, abs(got - want) / want)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", help="write the figures here")
    options = parser.parse_args()
    from otdist.kernels import threads

    threads.set_thread_count(1)
    with threads.single_blas():
        found = lines()
    for line in found:
        print(
            f"{line.name:60s} {line.ours_s:8.3f} s   {line.peer} {line.peer_s:8.2f} s   "
            f"{line.ratio:6.0f}x (wanted {line.goal:.0f}x)   error {line.error:.1e}"
        )
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump([asdict(line) for line in found], file, indent=1)


if __name__ == "__main__":
    main()
