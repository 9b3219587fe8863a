"""Divergences between histograms against SciPy, scikit-learn and the memory bus, in one run on one thread.

    python -m benchmarks.divergences [--quick] [--json FILE]

Every contender is checked before it is timed. Contenders of one line take turns; a time is the least of the turns, a
ratio is that of the least times. Peers that would take many seconds run on the first rows only, and count per pair.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

Call = Callable[[], Any]


@dataclass(frozen=True)
class Line:
    """One comparison: nanoseconds per bin (per pair and bin), their ratio, and the ratio wanted."""

    name: str
    peer: str
    ours_ns: float
    peer_ns: float
    ratio: float
    goal: float
    error: float

    @property
    def met(self) -> bool:
        return self.ratio >= self.goal


def least(*calls: Call, turns: int, clock: Callable[[], float] = time.thread_time) -> list[float]:
    """Least time of each call, taking turns, after one call of each that does not count."""
    best = [float("inf")] * len(calls)
    for turn in range(turns + 1):
        for i, call in enumerate(calls):
            start = clock()
            call()
            if turn:
                best[i] = min(best[i], clock() - start)
    return best


def error(got: Any, want: Any) -> float:
    """Largest relative difference."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    return float(np.max(np.abs(got - want) / np.maximum(np.abs(want), 1e-300), where=got != want, initial=0.0))


def histograms(n: int, k: int, seed: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(k), n), rng.dirichlet(np.ones(k), n)


def near_duplicates(n: int, k: int, seed: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    base = rng.dirichlet(np.ones(k))
    rows = [base * (1 + 1e-3 * rng.uniform(-1, 1, (n, k))) for _ in range(2)]
    return rows[0] / rows[0].sum(1, keepdims=True), rows[1] / rows[1].sum(1, keepdims=True)


def pairwise_lines(n: int, k: int, turns: int) -> list[Line]:
    from scipy.spatial.distance import cdist
    from scipy.special import rel_entr
    from sklearn.metrics.pairwise import additive_chi2_kernel

    import otdist as od

    P, Q = histograms(n, k, 0)
    D, E = near_duplicates(n, k, 1)
    few = min(n, 200)

    def kl(a: Any, b: Any) -> Any:
        return np.stack([rel_entr(row, b).sum(1) for row in a])

    def js(a: Any, b: Any) -> Any:
        return cdist(a, b, "jensenshannon") ** 2

    def hellinger(a: Any, b: Any) -> Any:
        return cdist(np.sqrt(a), np.sqrt(b)) / np.sqrt(2.0)

    def tv(a: Any, b: Any) -> Any:
        return cdist(a, b, "cityblock") / 2

    def chi2(a: Any, b: Any) -> Any:
        return -additive_chi2_kernel(a, b)

    f4 = np.float32
    table: list[tuple[str, dict[str, Any], Any, Any, str, Any, int, float]] = [
        ("JS float64", {"metric": "js"}, P, Q, "scipy cdist", js, few, 28),
        ("JS float32", {"metric": "js"}, P.astype(f4), Q.astype(f4), "scipy cdist", js, few, 60),
        ("KL float64", {"metric": "kl"}, P, Q, "rel_entr loop", kl, few, 350),
        ("KL float64, near-duplicates", {"metric": "kl"}, D, E, "rel_entr loop", kl, few, 30),
        ("Hellinger float64", {"metric": "hellinger"}, P, Q, "scipy cdist", hellinger, n, 5),
        ("Hellinger float64, near-duplicates", {"metric": "hellinger"}, D, E, "scipy cdist", hellinger, n, 1),
        ("TV float32", {"metric": "tv"}, P.astype(f4), Q.astype(f4), "scipy cdist", tv, n, 12),
        (
            *("symmetric chi2 float32", {"metric": "chi2", "kind": "symmetric"}, P.astype(f4), Q.astype(f4)),
            *("scikit-learn", chi2, few, 20),
        ),
    ]
    lines = []
    for name, options, a, b, peer, function, rows, goal in table:
        ours_out = np.empty((n, n), a.dtype)
        wrong = error(od.pairwise(a[:40], b[:40], **options), function(a[:40].astype(float), b[:40].astype(float)))
        ours, theirs = least(
            lambda a=a, b=b, options=options, out=ours_out: od.pairwise(a, b, out=out, **options),
            lambda a=a, b=b, function=function, rows=rows: function(a[:rows], b[:rows]),
            turns=turns,
        )
        ours_ns, peer_ns = 1e9 * ours / (n * n * k), 1e9 * theirs / (rows * rows * k)
        lines.append(Line(f"pairwise {name}", peer, ours_ns, peer_ns, peer_ns / ours_ns, goal, wrong))
    return lines


ROWS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("tv", (), {}),
    ("hellinger", (), {}),
    ("l2", (), {}),
    ("chi2", (), {}),
    ("chi2", (), {"kind": "neyman"}),
    ("chi2", (), {"kind": "symmetric"}),
    ("kl", (), {}),
    ("js", (), {}),
    ("js_distance", (), {}),
    ("jeffreys", (), {}),
    ("renyi", (0.5,), {}),
    ("renyi", (1.7,), {}),
    ("tsallis", (1.7,), {}),
    ("alpha_divergence", (2.0,), {}),
    ("bhattacharyya", (), {}),
    ("cross_entropy", (), {}),
    ("entropy", (), {}),
]


def row_lines(n: int, k: int, turns: int) -> list[Line]:
    """Values and gradients of paired float32 rows, against the time to read the rows and write the gradients once."""
    from scipy.spatial.distance import jensenshannon

    import otdist as od

    P, Q = (a.astype(np.float32) for a in histograms(n, k, 2))
    few = min(n, 100)
    ours, theirs = least(lambda: od.js(P, Q), lambda: jensenshannon(P[:few], Q[:few], axis=1), turns=turns)
    peer_ns, ours_ns = 1e9 * theirs / (few * k), 1e9 * ours / (n * k)
    wrong = error(od.js(P[:few], Q[:few]), jensenshannon(P[:few].astype(float), Q[:few].astype(float), axis=1) ** 2)
    lines = [Line("rows JS float32", "scipy", ours_ns, peer_ns, peer_ns / ours_ns, 100, wrong)]

    # the floor: read the rows once, write new arrays of the gradients once
    for name, args, options in ROWS:
        unary = name == "entropy"
        arrays = (P,) if unary else (P, Q)
        function = od.value_and_grad(getattr(od, name), (0,) if unary else (0, 1))
        one = od.value_and_grad(getattr(od, name))
        floor_one: Call = P.copy if unary else (lambda: P + Q)
        label = " ".join([name, *map(str, args), *map(str, options.values())])
        calls = [lambda f=one, x=arrays, a=args, o=options: f(*x, *a, **o), floor_one]
        if not unary:
            calls += [lambda f=function, x=arrays, a=args, o=options: f(*x, *a, **o), lambda: (P.copy(), Q.copy())]
        times = least(*calls, turns=turns)
        for what, t, floor in zip(("gradient in p", "both gradients"), times[::2], times[1::2], strict=False):
            a, b = 1e9 * t / (n * k), 1e9 * floor / (n * k)
            lines.append(Line(f"rows {label} float32, value and {what}", "memory", a, b, b / a, 0.5, 0.0))
    return lines


def thread_lines(n: int, k: int, turns: int) -> list[Line]:
    import otdist as od
    from otdist.kernels.threads import set_thread_count

    P, Q = histograms(n, k, 3)
    p, q = P.astype(np.float32), Q.astype(np.float32)
    many, others = (np.repeat(a, 8, axis=0) for a in (P, Q[::-1]))
    cases: list[tuple[str, Call]] = [
        ("pairwise KL float64", lambda: od.pairwise(P, Q, metric="kl")),
        ("pairwise JS float32", lambda: od.pairwise(p, q, metric="js")),
        ("pairwise TV float32", lambda: od.pairwise(p, q, metric="tv")),
        ("rows JS float64", lambda: od.js(many, others)),
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
p = np.full((3, 5), 0.2); q = np.array([[0.1, 0.2, 0.3, 0.2, 0.2]] * 3)
{call}
print(time.perf_counter() - start)
"""


def first_calls() -> list[dict[str, Any]]:
    """Seconds from starting Python's work to the first answer, with an empty and with a full kernel cache."""
    calls = []
    for name, args, options in ROWS:
        arrays = "p" if name == "entropy" else "p, q"
        calls.append(f"od.{name}({arrays}, *{args}, **{options})")
    calls += [f"od.value_and_grad(od.{name}, (0, 1))(p, q)" for name in ("kl", "js", "hellinger")]
    calls += ["od.js(p, q, from_logits=True)"]
    metrics = ("tv", "hellinger", "l2", "chi2", "kl", "js", "jeffreys", "bhattacharyya", "cross_entropy")
    calls += [f"od.pairwise(p, q, metric={m!r})" for m in metrics]
    calls += ["od.pairwise(p, q, metric='renyi', alpha=1.7)", "od.nearest(p, q, metric='js')"]
    out = []
    for call in calls:
        with tempfile.TemporaryDirectory() as directory:
            environment = {**os.environ, "OTDIST_CACHE_DIR": directory}
            command = [sys.executable, "-c", FIRST.format(call=call)]
            cold, warm, again = (
                float(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
                for _ in range(3)
            )
            out.append({"call": call, "cold_s": cold, "warm_s": min(warm, again)})
    return out


def keep_memory() -> None:
    """Have the C library keep freed memory: the first touch of fresh pages costs more than some kernels."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            m_trim_threshold, m_mmap_threshold = -1, -3
            libc.mallopt(m_mmap_threshold, 2**31 - 1)
            libc.mallopt(m_trim_threshold, 2**31 - 1)


def machine() -> dict[str, Any]:
    from llvmlite.binding import get_host_cpu_name

    import otdist

    packages = ("numpy", "numba", "scipy", "scikit-learn")
    return {
        "otdist": otdist.__version__,
        "cpu": get_host_cpu_name(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, fewer turns")
    parser.add_argument("--json", metavar="FILE", help="write the results")
    parser.add_argument("--first", action="store_true", help="also time first calls (minutes)")
    arguments = parser.parse_args()
    from threadpoolctl import threadpool_limits

    from otdist.kernels.threads import set_thread_count

    keep_memory()
    set_thread_count(1)
    n, turns = (500, 2) if arguments.quick else (2000, 5)
    lines: list[Line] = []
    with threadpool_limits(1):
        for part in (pairwise_lines(n, 256, turns), row_lines(n, 4096, turns), thread_lines(n, 256, turns)):
            for line in part:
                mark = "" if line.met else "  (below the goal)"
                print(
                    f"{line.name:58s} {line.ours_ns:12.4f} ns, {line.peer:13s} {line.peer_ns:12.4f} ns: "
                    f"{line.ratio:7.2f} of {line.goal:g}{mark}  error {line.error:.1e}",
                    flush=True,
                )
            lines += part
    first = first_calls() if arguments.first else []
    for entry in first:
        print(f"{entry['call']:60s} cold {entry['cold_s']:.2f} s, warm {entry['warm_s']:.2f} s", flush=True)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump({"machine": machine(), "lines": [asdict(x) for x in lines], "first_calls": first}, file, indent=1)


if __name__ == "__main__":
    main()
