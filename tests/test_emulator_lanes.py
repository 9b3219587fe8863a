"""The race lane and the mutation tool find what is planted, and nothing in the library's kernels."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import emulator
from tests.emulator import mutants, races

pytestmark = pytest.mark.skipif(bool(emulator.available()), reason=emulator.available() or "-")
needs_sanitizer = pytest.mark.skipif(not races.library(), reason="g++ has no ThreadSanitizer")

_KERNELS = r"""
extern "C" __global__ void tree(const float* x, float* out) {
  __shared__ float s[128];
  const int t = threadIdx.x;
  s[t] = x[t];
  __syncthreads();
  for (int half = 64; half; half >>= 1) {
    if (t < half) s[t] += s[t + half];
    BARRIER
  }
  if (!t) out[blockIdx.x] = s[0];
}
extern "C" __global__ void warps(const float* x, float* out) {
  __shared__ float s[32];
  s[threadIdx.x] = x[threadIdx.x];
  WARP_BARRIER
  out[threadIdx.x + 32 * blockIdx.x] = s[31 - threadIdx.x] + __shfl_xor_sync(0xffffffffu, s[threadIdx.x], 1);
}
extern "C" __global__ void one_place(const float* x, float* out) {
  if (!threadIdx.x) out[0] += x[blockIdx.x];
}
extern "C" __global__ void last_block(const float* x, float* out, int* count) {
  if (threadIdx.x) return;
  out[1 + blockIdx.x] = x[blockIdx.x];
  __threadfence();
  if (atomicAdd(count, 1) == gridDim.x - 1) {
    __threadfence();
    for (int b = 0; b < gridDim.x; b++) out[0] += out[1 + b];
  }
}
"""
_RUN = """
import numpy as np
from tests import emulator
from tests.test_emulator_lanes import _KERNELS
with emulator.installed():
    import cupy as cp
    module = cp.RawModule(code=_KERNELS, options={options!r})
    module.get_function({name!r})((3,), ({threads},), (cp.zeros(128, "f4"), cp.zeros(128, "f4"), *{extra}))
"""


@needs_sanitizer
@pytest.mark.parametrize(
    ("name", "threads", "barriers", "says"),
    [
        ("tree", 128, True, ""),
        (
            "tree",
            128,
            False,
            "write at kernel.cu:8 and read at kernel.cu:8|read at kernel.cu:8 and write at kernel.cu:8",
        ),
        ("warps", 32, True, ""),
        (
            "warps",
            32,
            False,
            "read at kernel.cu:17 and write at kernel.cu:15|write at kernel.cu:15 and read at kernel.cu:17",
        ),
        ("one_place", 32, True, "write at kernel.cu:20|read at kernel.cu:20"),
        ("last_block", 32, True, ""),
    ],
)
def test_the_race_lane_names_the_lines(name, threads, barriers, says):
    options = ("-DBARRIER=__syncthreads();" if barriers else "-DBARRIER=",)
    options += ("-DWARP_BARRIER=__syncwarp();" if barriers else "-DWARP_BARRIER=",)
    extra = '(cp.zeros(1, "i4"),)' if name == "last_block" else "()"
    done = races.run(["-c", _RUN.format(options=options, name=name, threads=threads, extra=extra)])
    if says:
        assert re.search(f"race between .*({says})", done.stderr), done.stderr
    else:
        assert not done.returncode, done.stderr


# A little on every commit, more in the slow lane, everything by `python -m tests.emulator.races`.
@needs_sanitizer
@pytest.mark.parametrize(
    "name", ["copy", "nearest", *(pytest.param(n, marks=pytest.mark.slow) for n in ("rows", "permutation tests"))]
)
def test_the_kernels_have_no_races(name):
    done = races.run(["-m", "tests.emulator.calls", name])
    assert not done.returncode, done.stdout + done.stderr


def test_mutants_are_found_and_planted():
    text = """
__device__ int least(int a, int b) { return a < b ? a : b; }
template <int N> // i < n
__global__ void f(float* x, int n) {
  for (int i = 0; i < n; i++) x[i] = 0;
  __syncthreads();
#ifdef OTDIST_EMULATED
  if (n > 3) __syncwarp(0xffu);
#else
  if (n > 3) asm("bar.warp.sync 255;");
#endif
}
"""
    found = mutants.find("f.cu", text)
    assert [(m.line, m.before, m.after) for m in found] == [
        (5, "<", "<="), (5, "<", "< -1 +"), (6, "__syncthreads();", ""), (8, ">", ">="), (8, ">", "> 1 +"),
        (8, "__syncwarp(0xffu);", ""),
    ]  # fmt: skip
    planted = mutants.plant(text, found).split("\n")
    assert planted[4] == "  for (int i = 0; i <emulator::compare<0, 'L'> > n; i++) x[i] = 0;"
    assert planted[5] == "  if (!emulator::lives(2, emulator::as_barrier)) __syncthreads();"


def test_mutants_are_caught():
    # Mutants live in forks: of a process of its own, for this one may hold the threads of other libraries.
    code = (
        "import json; from tests.emulator import mutate; "
        "print(json.dumps(mutate.study('copy.cu', mutate.calls.chosen(['copy']), report=lambda line: None)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parent.parent
    )
    assert done.returncode == 0, done.stderr
    caught, survivors = json.loads(done.stdout)
    assert caught >= 7
    assert not survivors, "\n".join(survivors)
