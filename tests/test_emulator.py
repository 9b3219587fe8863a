"""The emulator runs right kernels right and names what is wrong with wrong ones."""

from __future__ import annotations

import numpy as np
import pytest

_CODE = r"""
#include <cuda_fp16.h>
#include <cuda_bf16.h>
#include <cooperative_groups.h>

template <class T, int threads>
__global__ void __launch_bounds__(threads) total(const T* __restrict__ x, long long n, double* out) {
  __shared__ double part[threads / 32];
  double sum = 0;
  for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < n; i += gridDim.x * (long long)blockDim.x)
    sum += double(float(x[i]));
  for (int o = 16; o; o >>= 1) sum += __shfl_down_sync(0xffffffffu, sum, o);
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int w = 1; w < threads / 32; w++) sum += part[w];
    atomicAdd(out, sum);
  }
}
extern "C" __global__ void reverse(const float* x, float* out, int n) {
  extern __shared__ __align__(16) float buffer[];
  const int t = threadIdx.x;
  if (t < n) buffer[t] = x[t];
#ifndef NO_BARRIER
  __syncthreads();
#endif
  if (t < n) out[t] = buffer[n - 1 - t];
}
extern "C" __global__ void outside(float* x, int n) { x[threadIdx.x + n] = 1.f; }
extern "C" __global__ void divergent(float* x) {
  if (threadIdx.x < 40) __syncthreads();
  x[threadIdx.x] = 1.f;
}
extern "C" __global__ void partial_shuffle(float* x) {
  float v = x[threadIdx.x];
  if (threadIdx.x < 16) v += __shfl_down_sync(0xffffffffu, v, 8);
  x[threadIdx.x] = v;
}
extern "C" __global__ void shared_overrun(float* x, int n) {
  __shared__ float s[32];
  s[threadIdx.x + n] = 1.f;
  x[threadIdx.x] = s[threadIdx.x];
}
extern "C" __global__ void unwritten(float* x) {
  __shared__ float s[32];
  if (threadIdx.x < 31) s[threadIdx.x] = 1.f;
  __syncthreads();
  x[threadIdx.x] = s[threadIdx.x];
}
extern "C" __global__ void endless(volatile int* flag) { while (*flag == 0) {} }
extern "C" __global__ void rotate(float* x, float* y, int n, int steps) {
  auto grid = cooperative_groups::this_grid();
  const int i = grid.thread_rank();
  for (int k = 0; k < steps; k++) {
    if (i < n) y[i] = x[(i + 1) % n];
    grid.sync();
    if (i < n) x[i] = y[i];
    grid.sync();
  }
}
extern "C" __global__ void votes(int* out) {
  const unsigned full = 0xffffffffu;
  const int t = threadIdx.x;
  if (__popc(__ballot_sync(full, t % 3 == 0)) == 11) out[0] = 1;
  if (__any_sync(full, t == 5) && !__all_sync(full, t == 5)) out[1] = 1;
  if (__reduce_add_sync(full, t) == 496 && __reduce_max_sync(full, t) == 31) out[2] = 1;
  if (__syncthreads_count(t < 7) == 7 && __syncthreads_or(t == 3) && !__syncthreads_and(t == 3)) out[3] = 1;
  if (__match_any_sync(full, t / 4) == 15u << (t / 4 * 4)) atomicAdd(&out[4], 1);
  if (t < 8) { if (__shfl_xor_sync(0xffu, t, 1, 8) == (t ^ 1)) atomicAdd(&out[5], 1); }
}
"""


@pytest.fixture
def cp(emulated):
    import cupy

    return cupy


def _kernel(cp, name, **settings):
    expressions = (name,) if "<" in name else None
    return cp.RawModule(code=_CODE, name_expressions=expressions, **settings).get_function(name)


@pytest.mark.parametrize("schedule", range(4))
@pytest.mark.parametrize(
    ("kind", "name"), [("f4", "float"), ("f8", "double"), ("f2", "__half"), ("u2", "__nv_bfloat16")]
)
def test_a_reduction(cp, emulated, kind, name, schedule):
    x = np.random.default_rng(0).integers(0, 64, 301).astype("f4")
    bits = (x.view("u4") >> 16).astype("u2") if kind == "u2" else x.astype(kind)
    out = cp.zeros(1)
    with emulated.only(schedule):
        _kernel(cp, f"total<{name}, 64>")((3,), (64,), (cp.asarray(bits), np.int64(301), out))
    assert out.get()[0] == x.sum()


@pytest.mark.parametrize("schedule", range(4))
def test_warp_operations(cp, emulated, schedule):
    out = cp.zeros(6, "i4")
    with emulated.only(schedule):
        _kernel(cp, "votes")((1,), (32,), (out,))
    assert out.get().tolist() == [1, 1, 1, 1, 32, 8]


def test_dynamic_shared_memory(cp):
    x = np.arange(100, dtype="f4")
    out = cp.empty(100, "f4")
    kernel = _kernel(cp, "reverse")
    kernel((1,), (128,), (cp.asarray(x), out, np.int32(100)), shared_mem=400)
    assert (out.get() == x[::-1]).all()
    with pytest.raises(RuntimeError, match="outside every array"):
        kernel((1,), (128,), (cp.asarray(x), out, np.int32(100)), shared_mem=64)
    with pytest.raises(RuntimeError, match="above the kernel's attribute"):
        kernel((1,), (128,), (cp.asarray(x), out, np.int32(100)), shared_mem=60000)
    kernel.max_dynamic_shared_size_bytes = 60000
    kernel((1,), (128,), (cp.asarray(x), out, np.int32(100)), shared_mem=60000)


def test_a_missing_barrier_shows_under_some_schedule(cp, emulated):
    x = np.arange(64, dtype="f4")
    kernel = _kernel(cp, "reverse", options=("-DNO_BARRIER",))
    wrong = 0
    for schedule in range(4):
        out = cp.empty(64, "f4")
        with emulated.only(schedule):
            kernel((1,), (64,), (cp.asarray(x), out, np.int32(64)), shared_mem=256)
        wrong += (out.get() != x[::-1]).any()
    assert wrong == 4


def test_grid_barrier(cp):
    x = cp.arange(100, dtype="f4")
    _kernel(cp, "rotate", enable_cooperative_groups=True)(
        (4,), (32,), (x, cp.empty(100, "f4"), np.int32(100), np.int32(3))
    )
    assert (x.get() == np.roll(np.arange(100), -3)).all()
    with pytest.raises(RuntimeError, match="not cooperative"):
        _kernel(cp, "rotate")((4,), (32,), (x, cp.empty(100, "f4"), np.int32(100), np.int32(3)))


def _at(text):
    """`at kernel.cu:line` of the only line that has this text."""
    (line,) = (number for number, line in enumerate(_CODE.split("\n"), 1) if text in line)
    return f" at kernel.cu:{line}$"


@pytest.mark.parametrize(
    ("name", "block", "args", "says", "line"),
    [
        ("outside", 64, (np.int32(100),), r"outside every array.*block \(0, 0, 0\), thread", "void outside"),
        ("divergent", 64, (), r"does not come to a __syncthreads.*thread \(40", "x < 40) __syncthreads"),
        ("partial_shuffle", 32, (), r"names a lane that has exited", "v, 8)"),
        (
            "shared_overrun",
            32,
            (np.int32(1),),
            r"its shared or local array.*thread \(31, 0, 0\)",
            "s[threadIdx.x + n] =",
        ),
    ],
)
def test_what_is_wrong_is_named(cp, emulated, name, block, args, says, line):
    with emulated.only(0), pytest.raises(RuntimeError, match=says + ".*" + _at(line)):
        _kernel(cp, name)((1,), (block,), (cp.zeros(100, "f4"), *args))


def test_an_endless_loop_ends(cp, emulated):
    emulated.seconds = 0.1
    with pytest.raises(RuntimeError, match=r"an endless loop\?.*" + _at("void endless")):
        _kernel(cp, "endless")((1,), (32,), (cp.zeros(1, "i4"),))


def test_writes_beside_an_array_are_seen(cp, emulated):
    with pytest.raises(RuntimeError, match="just outside argument 0"):
        _kernel(cp, "outside")((1,), (1,), (cp.zeros(99, "f4"), np.int32(99)))


def test_memory_is_poisoned(cp):
    assert np.isnan(cp.empty(3, "f4").get()).all()
    out = cp.zeros(32, "f4")
    _kernel(cp, "unwritten")((1,), (32,), (out,))
    assert np.isnan(out.get()).tolist() == [False] * 31 + [True]


def test_arguments_must_fit(cp):
    kernel, x = _kernel(cp, "outside"), cp.zeros(64, "f4")
    for args, says in [
        ((x, 64), "scalar int64, the parameter int"),
        ((x.astype("f8"), np.int32(0)), "array of float64"),
        ((x,), "1 arguments for 2"),
        ((np.zeros(64, "f4"), np.int32(0)), "NumPy array"),
    ]:
        with pytest.raises(TypeError, match=says):
            kernel((1,), (32,), args)
    for grid, block in [((1,), (1025,)), ((0,), (32,)), ((1, 70000), (32,))]:
        with pytest.raises(RuntimeError, match=r"a block of|a grid that"):
            kernel(grid, block, (x, np.int32(0)))


def test_arrays_do_not_slip_into_numpy(cp):
    x = cp.asarray([[1.0, 2.0], [3.0, 4.0]])
    with pytest.raises(TypeError, match="Implicit conversion"):
        np.asarray(x)
    with pytest.raises(TypeError, match="Unsupported type"):
        x + np.ones(2)
    assert isinstance(x.sum(), cp.ndarray)
    assert (2 * x[:, 1] + 1).get().tolist() == [5.0, 9.0]
    assert x.T.data.ptr == x.data.ptr
    assert x[1:].data.ptr == x.data.ptr + 16
    assert x.T.__cuda_array_interface__["strides"] == (8, 16)
    assert cp.asarray(x) is x
    assert cp.concatenate([x, x]).shape == (4, 2)
    assert cp.isnan(x).get().sum() == 0


def test_memory_and_streams(cp, emulated):
    emulated.memory_limit = emulated.memory_used + 1000
    with pytest.raises(cp.cuda.memory.OutOfMemoryError, match="2,000 bytes"):
        cp.empty(250)
    with cp.cuda.ExternalStream(42):
        assert cp.cuda.get_current_stream().ptr == 42
        _kernel(cp, "outside")((1,), (8,), (cp.zeros(64, "f4"), np.int32(0)))
    assert [(r.name, r.grid, r.block, r.stream) for r in emulated.launches] == [("outside", (1,), (8,), 42)]
    assert not emulated.reads
