"""One-dimensional distances by sorting against SciPy and against plain sorts, in one run on one thread.

    python -m benchmarks.line [--quick]

`line_lines` and `line_thread_lines` are the parts for a larger run; times are per point of both samples.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from benchmarks.divergences import Line, error, keep_memory, least

EVERY = (True, True, True, True)


def _samples(batch: int, n: int, seed: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(batch, n)), rng.normal(0.1, 1.0, size=(batch, n))


def line_lines(n: int, batch: int, turns: int) -> list[Line]:
    """One pair of samples of n points; `batch` pairs of 1000 points; value and all gradients against two sorts."""
    from scipy.stats import energy_distance

    from otdist._line import energy_line, laplace_line

    x, y = _samples(1, n, 0)
    xs, ys = _samples(batch, 1000, 1)
    few = min(batch, 100)
    a = np.random.default_rng(2).dirichlet(np.ones(n), 1)

    def loop() -> Any:
        return [energy_distance(p, q) ** 2 for p, q in zip(xs[:few], ys, strict=False)]

    def sorts() -> Any:
        return np.sort(x), np.sort(y)

    def orders() -> Any:
        return np.argsort(x), np.argsort(y)

    def whole(*weights: Any) -> Any:
        return energy_distance(x[0], y[0], *weights) ** 2

    single, many = 2 * n, 2 * 1000
    table: list[tuple[str, str, Any, Any, Any, float, float, float]] = [
        ("energy", "scipy", lambda: energy_line(x, y).value, whole, True, single, single, 5),
        (
            *("energy, weights", "scipy", lambda: energy_line(x, y, a, a).value, lambda: whole(a[0], a[0]), True),
            *(single, single, 2),
        ),
        (
            "energy, 1000 points",
            "scipy loop",
            lambda: energy_line(xs, ys).value,
            loop,
            True,
            many * batch,
            many * few,
            5,
        ),
        ("energy", "two sorts", lambda: energy_line(x, y).value, sorts, False, single, single, 0.5),
        (
            "energy, gradients",
            "two argsorts",
            lambda: energy_line(x, y, wanted=EVERY),
            orders,
            False,
            single,
            single,
            0.3,
        ),
        ("Laplace", "two sorts", lambda: laplace_line(x, y, None, None, (1.0,)), sorts, False, single, single, 0.3),
        (
            *("Laplace, gradients", "two argsorts", lambda: laplace_line(x, y, None, None, (1.0,), EVERY), orders),
            *(False, single, single, 0.3),
        ),
    ]
    lines = []
    for name, peer, ours, theirs, comparable, points, peer_points, goal in table:
        wrong = 0.0
        if comparable:
            want = np.atleast_1d(theirs())
            wrong = error(ours()[: len(want)], want)
        t, u = least(ours, theirs, turns=turns)
        t, u = 1e9 * t / points, 1e9 * u / peer_points
        lines.append(Line(f"one dimension, {name}", peer, t, u, u / t, goal, wrong))
    return lines


def line_thread_lines(n: int, batch: int, turns: int) -> list[Line]:
    """Two threads against one: a single pair of samples, and a batch of short ones."""
    from otdist._line import energy_line, laplace_line
    from otdist.kernels.threads import set_thread_count

    x, y = _samples(1, n, 0)
    xs, ys = _samples(batch, 1000, 1)
    lines = []
    for name, points, call in (
        ("energy", 2 * n, lambda: energy_line(x, y)),
        ("energy, 1000 points", 2000 * batch, lambda: energy_line(xs, ys)),
        ("Laplace, 1000 points", 2000 * batch, lambda: laplace_line(xs, ys, None, None, (1.0,))),
    ):

        def on(count: int, call: Any = call) -> Any:
            def run() -> None:
                set_thread_count(count)
                call()

            return run

        two, one = least(on(2), on(1), turns=turns, clock=time.perf_counter)
        lines.append(
            Line(
                f"two threads, one dimension, {name}",
                "one thread",
                1e9 * two / points,
                1e9 * one / points,
                one / two,
                1.7,
                0.0,
            )
        )
    set_thread_count(1)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, fewer turns")
    quick = parser.parse_args().quick
    from otdist.kernels.threads import set_thread_count

    keep_memory()
    set_thread_count(1)
    n, batch, turns = (100_000, 200, 3) if quick else (1_000_000, 1000, 7)
    for line in (*line_lines(n, batch, turns), *line_thread_lines(n, batch, turns)):
        mark = "" if line.met else "  (below the goal)"
        print(
            f"{line.name:50s} {line.ours_ns:8.2f} ns, {line.peer:13s} {line.peer_ns:8.2f} ns: "
            f"{line.ratio:6.2f} of {line.goal:g}{mark}  error {line.error:.1e}",
            flush=True,
        )


if __name__ == "__main__":
    main()
