"""Timings of the GPU benchmark, a line of JSON for each problem; `benchmarks.gpu` starts it and ends it.

    python -m benchmarks.gpu_timings --problem NAME ... [--seconds S] [--quick | --tiny] [--check-only]

Ours is proved right against the oracle before it is timed, each peer is compared with the same one; then all take
turns. Medians and quartiles are of these turns.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from benchmarks import gpu_machine
from benchmarks.gpu_clock import Clock, summary
from benchmarks.gpu_peers import Peer, peers_of
from benchmarks.gpu_problems import PROBLEMS, Bench, Goal, Problem, Rates

TURNS = (5, 30)


def put(event: str, **content: Any) -> None:
    """Strict JSON has no infinity."""
    print(json.dumps({"event": event, **_finite(content)}, allow_nan=False), flush=True)


def _finite(x: Any) -> Any:
    if isinstance(x, dict):
        return {k: _finite(v) for k, v in x.items()}
    if isinstance(x, list):
        return [_finite(v) for v in x]
    return str(x) if isinstance(x, float) and not abs(x) < float("inf") else x


def met(goal: Goal, ours: float, floor: float, peers: dict[str, Any]) -> bool | None:
    """None where the peer that the goal names was not timed."""
    if (goal.seconds and ours > goal.seconds) or (goal.share and floor / ours < goal.share):
        return False
    if not goal.peer:
        return True
    ratio = peers.get(goal.peer, {}).get("ratio")
    return None if ratio is None else bool(ratio >= goal.ratio)


def line(problem: Problem, clock: Clock, rates: Rates, seconds: float, check_only: bool, bare: bool) -> dict[str, Any]:
    begin = time.monotonic()
    error = float(problem.error(problem.call()))
    right = error <= problem.tolerance
    report: dict[str, Any] = {
        "name": problem.name, "size": problem.size, "error": error, "tolerance": problem.tolerance, "right": right,
        "floor_of": problem.floor_of, "goal": str(problem.goal or ""), "checks_deferred": problem.deferred,
        "facts": problem.facts, "l2_flushed": not clock.emulated,
    }  # fmt: skip
    if check_only or not right:
        return report | ({} if right else {"skipped": "wrong: not timed"})
    found: dict[str, Peer] = {}
    report["peers"] = {}
    for name, make in ({} if clock.emulated or bare else peers_of(problem)).items():
        if time.monotonic() - begin > 2.0 * seconds:
            report["peers"][name] = {"skipped": "no time was left"}
            continue
        start = time.monotonic()
        try:
            peer = make()
            off = float(problem.error(peer.read(peer.call()))) if peer.read else None
        except Exception as why:  # a peer may fail in any way
            report["peers"][name] = {"skipped": f"{type(why).__name__}: {why}"[:300]}
            continue
        report["peers"][name] = {"error": off, "note": peer.note, "first_s": time.monotonic() - start}
        found[name] = peer
    runs: dict[str, Any] = {"": lambda: clock.once(problem.call, problem.deferred)}
    runs |= {name: (lambda p=peer: clock.once(p.call, alone=p.alone)) for name, peer in found.items()}
    taken: dict[str, list[tuple[float, bool]]] = {name: [] for name in runs}
    start = time.monotonic()
    for turn in range(-2, TURNS[1]):
        if turn >= (1 if clock.emulated else TURNS[0]) and time.monotonic() - start > seconds:
            break
        for name, run in runs.items():
            spent = sum(t for t, _ in taken[name])
            if name and spent > seconds / 3 and len(taken[name]) >= 3:
                continue  # a slow peer takes no more turns
            one = run()
            if turn >= 0:
                taken[name].append(one)
    if clock.emulated:
        return report | {"turns": len(taken[""]), "figures": None}
    ours = summary(taken[""])
    for name, peer in found.items():
        his = summary([(t / peer.per, queued) for t, queued in taken[name]])
        report["peers"][name] |= his | {"ratio": his["median_s"] / ours["median_s"]}
    floor = problem.floor(rates)
    unfit = problem.goal is None or problem.facts.get("short")
    goal = None if unfit else met(problem.goal, ours["median_s"], floor, report["peers"])
    return report | ours | {"floor_s": floor, "share": floor / ours["median_s"], "goal_met": goal}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problem", action="append", choices=list(PROBLEMS), help="by default all")
    parser.add_argument("--seconds", type=float, default=10.0, help="of turns, for each problem")
    parser.add_argument("--quick", action="store_true", help="smaller")
    parser.add_argument("--tiny", action="store_true", help="as small as the tests")
    parser.add_argument("--bare", action="append", help="this problem without its peers")
    parser.add_argument("--check-only", action="store_true", help="no turns: only what is right")
    options = parser.parse_args(argv)
    if why := gpu_machine.missing():
        print(f"benchmarks.gpu_timings: {why}", file=sys.stderr)
        return 2
    with gpu_machine.placed():
        run(options)
    return 0


def run(options: argparse.Namespace) -> None:
    import cupy

    emulated = gpu_machine.emulated()
    bench = Bench(cupy, emulated, "tiny" if options.tiny or emulated else "quick" if options.quick else "full")
    clock = Clock(cupy, emulated)
    rates = Rates(1.0, 1.0, 1.0)
    if not options.check_only:
        rates, ceilings = clock.rates()
        put("ceilings", **ceilings)
        put("peers_skipped", **_absent())
    for name in options.problem or PROBLEMS:
        put("begin", name=name)
        try:
            bare = name in (options.bare or ())
            put("line", **line(PROBLEMS[name](bench), clock, rates, options.seconds, options.check_only, bare))
        except (LookupError, ImportError, MemoryError) as why:
            put("line", name=name, skipped=str(why))
        cupy.get_default_memory_pool().free_all_blocks()
        if (torch := sys.modules.get("torch")) and torch.cuda.is_available():
            torch.cuda.empty_cache()


def _absent() -> dict[str, str]:
    from benchmarks.gpu_peers import absent

    return absent()


if __name__ == "__main__":
    sys.exit(main())
