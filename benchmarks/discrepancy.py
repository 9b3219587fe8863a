"""Distances between samples against scikit-learn, GeomLoss and SciPy, in one run on one thread.

    python -m benchmarks.discrepancy [--quick] [--first] [--stream] [--json FILE]

Every contender is checked before it is timed; contenders of one line take turns and a time is the least of the turns.
Times are nanoseconds per pair of points, all (n + m)² of them counted. GeomLoss is optional and runs with the C
library's own handling of memory, as its users run it; scikit-learn's side is three kernel matrices and their
means. `--stream` runs n = m = 10⁶, d = 3 (many minutes) and reports its memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.divergences import Line, error, keep_memory, least, machine

Call = Callable[[], Any]


def samples(n: int, d: int, dtype: Any, seed: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)).astype(dtype), rng.standard_normal((n, d)).astype(dtype)


def scikit(x: Any, y: Any, sigma: float) -> float:
    from sklearn.metrics.pairwise import rbf_kernel

    gamma = 0.5 / sigma**2
    xx, yy, xy = (float(rbf_kernel(a, b, gamma).mean(dtype=np.float64)) for a, b in ((x, x), (y, y), (x, y)))
    return xx + yy - 2 * xy


def peak_bytes(call: Call) -> int:
    """Most bytes that NumPy held at once during a call, beyond what was there before."""
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def value_lines(n: int, turns: int) -> list[Line]:
    import otdist as od

    lines = []
    for d, dtype, goal in ((64, np.float32, 5.0), (64, np.float64, 3.0), (3, np.float32, 5.0)):
        x, y = samples(n, d, dtype, d)
        sigma = float(np.sqrt(2.0 * d))
        exact = float(od.mmd(x.astype(np.float64), y.astype(np.float64), bandwidth=sigma))
        wrong = error(od.mmd(x, y, bandwidth=sigma), exact)
        ours, theirs = least(
            lambda x=x, y=y, s=sigma: od.mmd(x, y, bandwidth=s), lambda x=x, y=y, s=sigma: scikit(x, y, s), turns=turns
        )
        pairs = 4.0 * n * n
        name = f"Gaussian MMD n=m={n} d={d} {np.dtype(dtype).name}"
        lines.append(Line(name, "scikit-learn", 1e9 * ours / pairs, 1e9 * theirs / pairs, theirs / ours, goal, wrong))
        used = peak_bytes(lambda x=x, y=y, s=sigma: od.mmd(x, y, bandwidth=s)) / 2**20
        lines.append(Line(f"  its memory beyond the samples, MB, of {64}", "", used, 64.0, 64.0 / used, 1.0, 0.0))
    return lines


def gradient_lines(n: int, turns: int) -> list[Line]:
    try:
        import torch
        from geomloss import SamplesLoss
    except ImportError:
        return []
    import otdist as od

    x, y = samples(n, 64, np.float32, 5)
    sigma = float(np.sqrt(128.0))
    loss = SamplesLoss("gaussian", blur=sigma, backend="tensorized")

    def theirs() -> tuple[float, Any]:
        a, b = (torch.from_numpy(v).requires_grad_(True) for v in (x, y))
        value = loss(a, b)
        value.backward()
        return 2.0 * value.item(), 2.0 * a.grad.numpy()

    ours = od.value_and_grad(od.mmd, (0, 1))
    value, (gx, _) = ours(x, y, bandwidth=sigma)
    exact, (ex, _) = ours(x.astype(np.float64), y.astype(np.float64), bandwidth=sigma)
    wrong = max(error(value, exact), float(np.abs(gx - ex).max() / np.abs(ex).max()))
    assert np.abs(theirs()[1] - ex).max() < 1e-3 * np.abs(ex).max()
    mine, other = least(lambda: ours(x, y, bandwidth=sigma), theirs, turns=turns)
    pairs = 4.0 * n * n
    name = f"value and gradient n=m={n} d=64 float32"
    return [Line(name, "GeomLoss", 1e9 * mine / pairs, 1e9 * other / pairs, other / mine, 10.0, wrong)]


def line_lines(n: int, turns: int) -> list[Line]:
    from scipy.stats import energy_distance

    import otdist as od

    x, y = samples(n, 1, np.float64, 1)
    wrong = error(od.energy_distance(x, y), energy_distance(x[:, 0], y[:, 0]) ** 2)
    ours, theirs = least(lambda: od.energy_distance(x, y), lambda: energy_distance(x[:, 0], y[:, 0]), turns=turns)
    name = f"energy distance n=m={n} d=1, ns per point"
    return [Line(name, "scipy", 5e8 * ours / n, 5e8 * theirs / n, theirs / ours, 2.0, wrong)]


def batch_lines(turns: int) -> list[Line]:
    """Many small problems at once, against a loop of calls."""
    import otdist as od

    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((2, 500, 64, 2))
    wrong = error(od.mmd(x, y, bandwidth=1.0), [od.mmd(a, b, bandwidth=1.0) for a, b in zip(x, y, strict=True)])
    ours, theirs = least(
        lambda: od.mmd(x, y, bandwidth=1.0),
        lambda: [od.mmd(a, b, bandwidth=1.0) for a, b in zip(x, y, strict=True)],
        turns=turns,
    )
    return [
        Line("500 problems of 64 points, ns per problem", "a loop", 2e6 * ours, 2e6 * theirs, theirs / ours, 2.0, wrong)
    ]


def thread_lines(n: int, turns: int) -> list[Line]:
    import otdist as od
    from otdist.kernels.threads import set_thread_count

    x, y = samples(n, 64, np.float32, 3)
    u, v = samples(4 * n, 3, np.float32, 4)
    both = od.value_and_grad(od.mmd, (0, 1))
    cases: list[tuple[str, Call]] = [
        ("MMD d=64", lambda: od.mmd(x, y, bandwidth=10.0)),
        ("MMD d=3", lambda: od.mmd(u, v, bandwidth=2.0)),
        ("value and gradient d=64", lambda: both(x, y, bandwidth=10.0)),
    ]
    lines = []
    for name, call in cases:

        def on(count: int, call: Call = call) -> Call:
            def run() -> None:
                set_thread_count(count)
                call()

            return run

        two, one = least(on(2), on(1), turns=turns, clock=time.perf_counter)
        lines.append(Line(f"two threads, {name}", "one thread", 1e9 * two, 1e9 * one, one / two, 1.7, 0.0))
    set_thread_count(1)
    return lines


FIRST = """
import time; start = time.perf_counter()
import numpy as np
import otdist as od
x, y = np.random.default_rng(0).normal(size=(2, 40, 3))
{call}
print(time.perf_counter() - start)
"""
CALLS = (
    "od.mmd(x, y, bandwidth=1.0)",
    "od.mmd(x, y)",
    "od.mmd(x, y, kernel='laplacian', bandwidth=1.0)",
    "od.energy_distance(x, y)",
    "od.value_and_grad(od.mmd, (0, 1))(x, y, bandwidth=1.0)",
    "od.witness(x, y, x, bandwidth=1.0)",
    "od.kid(x, y, subset_size=30)",
)


def first_calls() -> list[dict[str, Any]]:
    """Seconds from starting Python's work to the first answer, with an empty and with a full kernel cache."""
    out = []
    for call in CALLS:
        with tempfile.TemporaryDirectory() as directory:
            environment = {**os.environ, "OTDIST_CACHE_DIR": directory}
            command = [sys.executable, "-c", FIRST.format(call=call)]
            cold, warm, again = (
                float(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
                for _ in range(3)
            )
            out.append({"call": call, "cold_s": cold, "warm_s": min(warm, again)})
    return out


def resident(*, reset: bool = False) -> int:
    """Most memory this process ever had resident, in KiB; with `reset`, from now on (Linux)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def stream(n: int) -> dict[str, Any]:
    """One value for n = m and d = 3, on all threads: seconds, memory beyond the samples, and sampled rows judged."""
    import otdist as od
    from otdist.kernels.threads import set_thread_count, thread_count

    set_thread_count(None)
    x, y = samples(n, 3, np.float32, 6)
    od.mmd(x[:3000], y[:3000], bandwidth=2.0)
    before = resident(reset=True)
    start = time.perf_counter()
    value = float(od.mmd(x, y, bandwidth=2.0))
    seconds = time.perf_counter() - start
    used = resident() - before
    at = x[:: n // 16].astype(np.float64)
    found = od.witness(x, y, at, bandwidth=2.0)
    rows = [
        np.mean(np.exp(-np.sum((x - t) ** 2, axis=1) / 8)) - np.mean(np.exp(-np.sum((y - t) ** 2, axis=1) / 8))
        for t in at
    ]
    return {
        "n": n,
        "threads": thread_count(),
        "row_error": float(np.max(np.abs(found - rows))),
        "value": value,
        "seconds": seconds,
        "rss_mb": used / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, fewer turns")
    parser.add_argument("--json", metavar="FILE", help="write the results")
    parser.add_argument("--first", action="store_true", help="also time first calls (minutes)")
    parser.add_argument("--stream", action="store_true", help="also n = m = 10⁶ (many minutes)")
    arguments = parser.parse_args()
    from threadpoolctl import threadpool_limits

    from otdist.kernels.threads import set_thread_count

    set_thread_count(1)
    big, n, turns = (2000, 1500, 2) if arguments.quick else (20000, 5000, 3)
    lines: list[Line] = []
    with threadpool_limits(1):
        try:
            import torch

            torch.set_num_threads(1)
        except ImportError:
            pass
        parts: list[Callable[[], list[Line]]] = [
            lambda: gradient_lines(n, turns),
            lambda: (keep_memory(), value_lines(big, 1 if big > 5000 else turns))[1],
            lambda: line_lines(50 * big, turns),
            lambda: batch_lines(turns),
            lambda: thread_lines(n, turns),
        ]
        for part in parts:
            for line in part():
                mark = "" if line.met else "  (below the goal)"
                print(
                    f"{line.name:58s} {line.ours_ns:12.4f}, {line.peer:13s} {line.peer_ns:12.4f}: "
                    f"{line.ratio:7.2f} of {line.goal:g}{mark}  error {line.error:.1e}",
                    flush=True,
                )
                lines.append(line)
    first = first_calls() if arguments.first else []
    for entry in first:
        print(f"{entry['call']:60s} cold {entry['cold_s']:.2f} s, warm {entry['warm_s']:.2f} s", flush=True)
    streamed = None
    if arguments.stream:  # in a process of its own, for the peak of memory is that of all before
        code = "import json; from benchmarks.discrepancy import stream; print(json.dumps(stream(10**6)))"
        streamed = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        print(streamed, flush=True)
    if arguments.json:
        found = {"machine": machine(), "lines": [asdict(x) for x in lines], "first_calls": first, "stream": streamed}
        with open(arguments.json, "w") as file:
            json.dump(found, file, indent=1)


if __name__ == "__main__":
    main()
