"""`benchmarks.gpu` without a GPU: on the emulator it all runs and writes its report, alone it says what is missing."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import gpu, gpu_clock, gpu_lanes, gpu_machine, gpu_peers, gpu_problems, gpu_timings
from benchmarks.gpu_problems import PROBLEMS, Bench, Goal, Rates

ROOT = Path(__file__).parents[1]
# Runs the command it is given and then says that all is well, or not.
TOOL = """#!{python}
import subprocess, sys
command = sys.argv[sys.argv.index({python!r}):]
print("========= COMPUTE-SANITIZER")
code = subprocess.call(command)
print("========= RACECHECK SUMMARY: 2 hazards displayed (2 errors)" if "racecheck" in sys.argv
      else "========= ERROR SUMMARY: 0 errors")
sys.exit(code or (86 if "racecheck" in sys.argv else 0))
"""


@pytest.fixture
def sanitizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tool = tmp_path / "bin" / "compute-sanitizer"
    tool.parent.mkdir()
    tool.write_text(TOOL.format(python=sys.executable))
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")
    return tool


def test_the_whole_on_the_emulator(
    emulated: Any, sanitizer: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_lanes, "SANITIZED", ("line",))
    file = tmp_path / "report.json"
    one = "tests/test_device.py::test_views_and_conversions"
    assert gpu.main(["--json", str(file), "--seconds", "240", "--tests", one]) == 1  # for the hazards
    report = json.loads(file.read_text(), parse_constant=pytest.fail)
    assert report["schema"] == gpu.SCHEMA
    assert report["complete"]
    assert report["emulated"]
    assert report["machine"]["gpu"] == "otdist emulator"
    tests = report["tests"]
    assert tests["finished"]
    assert tests["failed"] == 0
    assert tests["passed"] > 3
    assert tests["by_place"] == {"emulator": {"passed": tests["passed"]}}
    assert report["sanitizer"]["memcheck"]["finished"]
    assert report["sanitizer"]["memcheck"]["errors"] == 0
    assert report["sanitizer"]["racecheck"]["errors"] == 2
    lines = {line["name"]: line for line in report["timings"]["lines"]}
    assert tuple(lines) == gpu.PROBLEMS == tuple(PROBLEMS)
    for name, line in lines.items():
        if name == "rows bf16":
            assert "torch" in line["skipped"]
        else:
            assert line["right"], line
            assert line["figures"] is None
            assert line["turns"] >= 1
    assert not any({"median_s", "floor_s", "share", "goal_met"} & line.keys() for line in lines.values())
    assert "copy_bytes_per_s" not in report["timings"]["ceilings"]
    said = capsys.readouterr().out
    assert "racecheck  2 errors" in said
    assert "softmin" in said


def test_without_a_gpu(tmp_path: Path) -> None:
    code = (
        "import sys; from benchmarks import gpu, gpu_machine; gpu_machine.ctypes.CDLL = lambda name: int('no')\n"
        "class C:\n    def __init__(self, name): raise OSError(name)\n"
        "gpu_machine.ctypes.CDLL = C; code = gpu.main([])\n"
        "assert not {'torch', 'cupy', 'jax'} & set(sys.modules), 'imported too early'; sys.exit(code)"
    )
    kept = {k: v for k, v in os.environ.items() if k != "OTDIST_EMULATE"} | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=kept, capture_output=True, text=True)
    assert run.returncode == 2, run.stderr
    assert run.stderr.count("\n") == 1
    assert "nvidia-smi" in run.stderr
    assert not run.stdout
    assert not list(tmp_path.iterdir())


def test_a_driver_without_devices_or_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    state = [0, 0]

    class Driver:
        def __init__(self, _: str) -> None: ...

        def cuInit(self, _: int) -> int:
            return state[0]

        def cuDeviceGetCount(self, count: Any) -> int:
            count._obj.value = state[1]
            return 0

    monkeypatch.setattr(gpu_machine, "emulated", lambda: False)
    monkeypatch.setattr(gpu_machine.ctypes, "CDLL", Driver)
    monkeypatch.setattr(gpu_machine.importlib.util, "find_spec", lambda _: None)
    for found, cure in (((100, 0), "CUDA_VISIBLE_DEVICES"), ((0, 0), "--gpus all"), ((0, 1), "otdist[cuda12]")):
        state[:] = found
        assert cure in gpu_machine.missing()


CHILD = """
import json, os, sys, time
names = [b for a, b in zip(sys.argv, sys.argv[1:]) if a == "--problem"]
bare = [b for a, b in zip(sys.argv, sys.argv[1:]) if a == "--bare"]
print(json.dumps({"event": "ceilings", "of": len(names)}), flush=True)
for name in names:
    print(json.dumps({"event": "begin", "name": name}), flush=True)
    if name == "crash" or name == "peer" and name not in bare:
        print("device lost", file=sys.stderr)
        os._exit(9)
    if name == "hang":
        time.sleep(100)
    print("not a line", flush=True)
    print(json.dumps({"event": "line", "name": name, "right": True}), flush=True)
"""


def test_a_problem_that_crashes_or_hangs_takes_no_other_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_lanes, "PATIENCE", 3.0)
    monkeypatch.setattr(gpu_lanes, "SLACK", 0.0)
    monkeypatch.setattr(
        gpu_lanes,
        "_child",
        lambda names, _, more: [sys.executable, "-c", CHILD, *more, *(w for n in names for w in ("--problem", n))],
    )
    kept: list[int] = []
    found = gpu_lanes.timings(
        ("a", "crash", "peer", "hang", "c"), 90.0, True, (), lambda r: kept.append(len(r["lines"]))
    )
    lines = {line["name"]: line for line in found["lines"]}
    assert set(lines) == {"a", "crash", "peer", "hang", "c"}
    assert lines["a"] == {"name": "a", "right": True}
    assert lines["c"]["right"]
    assert lines["peer"]["right"]
    assert "device lost" in lines["peer"]["without_peers"]
    assert "exit 9" in lines["crash"]["skipped"]
    assert "device lost" in lines["crash"]["log"]
    assert lines["hang"]["skipped"] == "out of time"
    assert found["ceilings"] == {"of": 5}
    assert kept[-1] == 5
    assert not gpu.is_right({"timings": found})


def test_a_lane_ends_in_its_seconds() -> None:
    code, log = gpu_lanes._bounded(
        [sys.executable, "-uc", "print('begun'); import time; time.sleep(60)"], 2.0, dict(os.environ)
    )
    assert code is None
    assert "begun" in log


@pytest.mark.filterwarnings("ignore")  # of the peers
@pytest.mark.parametrize("name", [name for name in PROBLEMS if name != "rows bf16"])
def test_peers_solve_the_same_problem(name: str, emulated: Any) -> None:
    """On the CPU, those that are installed and that need no GPU."""
    import cupy

    problem = PROBLEMS[name](Bench(cupy, True, "tiny"))
    plain = {k: gpu_problems.host(v) if isinstance(v, cupy.ndarray) else v for k, v in problem.data.items()}
    ran = []
    for peer_name in {"torch", "OTT", "POT", "CuPy"} & set(table := gpu_peers.TABLE[name.removesuffix(" f32")]):
        if peer_name not in gpu_peers.absent():
            peer = table[peer_name](**(problem.data if peer_name == "CuPy" else plain))
            result = peer.call()
            if peer.read:
                assert problem.error(peer.read(result)) <= problem.tolerance, peer_name
            ran.append(peer_name)
    assert ran or name in ("assignments", "assignment")


def test_every_problem_has_peers_and_a_goal_that_can_be_met(emulated: Any) -> None:
    import cupy

    assert {n.removesuffix(" f32").removesuffix(" bf16") for n in PROBLEMS} == set(gpu_peers.TABLE)
    names = {name for peers in gpu_peers.TABLE.values() for name in peers}
    assert {name.split(",")[0] for name in names} == set(gpu_peers.MODULES)
    bench = Bench(cupy, True, "tiny")
    for name in ("rows f32", "softmin"):
        problem = PROBLEMS[name](bench)
        assert problem.goal is not None
        assert problem.floor(Rates(1e12, 1e12, 1e14)) > 0.0
        assert not problem.goal.peer or problem.goal.peer in gpu_peers.TABLE[name]
        assert problem.error(tuple(x + 1 for x in problem.call())) > problem.tolerance


def test_goals_and_summaries() -> None:
    goal = Goal(seconds=1.0, share=0.5, peer="A", ratio=2.0)
    assert str(goal) == "<= 1000 ms, >= 50% of the floor's speed, >= 2 x A"
    assert gpu_timings.met(goal, 0.5, 0.3, {"A": {"ratio": 2.5}}) is True
    assert gpu_timings.met(goal, 0.5, 0.3, {"A": {"ratio": 1.5}}) is False
    assert gpu_timings.met(goal, 0.5, 0.2, {"A": {"ratio": 2.5}}) is False
    assert gpu_timings.met(goal, 0.5, 0.3, {"A": {"skipped": "not installed"}}) is None
    found = gpu_clock.summary([(t, t < 4) for t in (1.0, 2.0, 3.0, 4.0, 50.0)])
    assert found["median_s"] == 3.0
    assert found["quartiles_s"] == [2.0, 4.0]
    assert not found["queued"]
    assert gpu.wanted("assignment") == (("timings",), ("assignment",))
    assert gpu.wanted("tests")[0] == ("tests",)
    assert gpu.wanted("rows")[1] == ("rows f32", "rows bf16")
    assert gpu.wanted("nothing")[0] == ()
    assert gpu_problems.away(np.array([1.0, np.nan]), np.ones(2)) == float("inf")
