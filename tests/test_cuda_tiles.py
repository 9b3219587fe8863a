"""The tile engines alone, with policies of their own: split halves, float64 products, formulas in registers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from otdist.kernels import device, halves_cuda

SIZES = [(1, 1, 1), (129, 63, 16), (5, 130, 33), (130, 65, 40), (3, 200, 200)]
# A policy that reads two numbers of each column and reduces over columns: its maximum, and a weighted sum.
WEIGHTED = """
#include "tensor.cuh"
struct Weighted {
    static constexpr int COLUMNS = 2;
    const float *weights, *shifts;
    float sum[4], most[4];
    __device__ const float* column(int c) const { return c == 0 ? weights : shifts; }
    __device__ void step(int slot, int j, float dot, const float (&v)[2]) {
        sum[slot] += v[0] * (dot + (float)j);
        most[slot] = fmaxf(most[slot], dot + v[1]);
    }
};
template <bool EXACT, bool LONG>
__global__ void weighted(const float16* xh, const float16* xl, const float16* yh, const float16* yl, int n, int m,
                         int width, const float* weights, const float* shifts, float* sums, float* most) {
    extern __shared__ __align__(128) unsigned char room[];
    Weighted policy{weights, shifts, {0.0f, 0.0f, 0.0f, 0.0f}, {-1e30f, -1e30f, -1e30f, -1e30f}};
    const int row0 = blockIdx.x * 128;
    const Halves x{xh, xl, n, width}, y{yh, yl, m, width};
    tensor_sweep<TensorShape<EXACT, LONG>>(x, y, row0, 0, m, room, policy);
    for (int slot = 0; slot < 4; slot++) {
        const float sum = quad_sum(policy.sum[slot]), greatest = quad_max(policy.most[slot]);
        const int row = tensor_row(row0, slot);
        if (row < n && threadIdx.x % 4 == 0) sums[row] = sum, most[row] = greatest;
    }
}
"""
# |x - y| + 2 x y from two planes, summed over columns too.
FORMULA = """
#include "tile.cuh"
template <class T>
struct Twice {
    typedef T Real;
    static constexpr int PLANES = 2;
    __device__ void read(T x, T (&plane)[2]) const { plane[0] = x, plane[1] = T(2) * x; }
    __device__ void add(T& sum, const T (&p)[2], const T (&q)[2]) const {
        sum += abs_of(p[0] - q[0]) + p[0] * q[1];
    }
};
template <class T>
struct Keep {
    double* out;
    int m, rows, row0;
    double* total;
    template <class Sum>
    __device__ void step(int slot, int j, Sum sum) {
        const long long i = tile_row<T>(row0, slot);
        if (i < rows) out[i * m + j] = (double)sum;
        total[slot] += (double)sum;
    }
};
template <class T, class Entry, int R, bool LONG>
__global__ void __launch_bounds__(256)
    formula(const Entry* x, const Entry* y, int n, int m, int bins, double* out, double* totals) {
    typedef Tile<Twice<T>, Entry, R, LONG> Shape;
    extern __shared__ __align__(128) unsigned char room[];
    const int row0 = blockIdx.x * Shape::ROWS;
    double total[R] = {};
    Keep<T> policy{out, m, n, row0, total};
    tile_sweep<Shape>(Twice<T>{}, sheet(x, n, bins, Shape::V), sheet(y, m, bins, Shape::V), bins, row0, 0, m, room,
                      policy);
    for (int slot = 0; slot < R; slot++) {
        const double sum = warp_sum(total[slot], ALL, 16);
        const int i = tile_row<T>(row0, slot);
        if (i < n && threadIdx.x % 16 == 0) totals[i] = sum;
    }
}
"""
PRODUCT = """
#include "product.cuh"
struct Keep {
    double* out;
    long long i0, j0, n, m;
    __device__ long long row(int i) const { return i0 + i; }
    __device__ void step(long long i, int, int j, double sum) const {
        if (i < n && j0 + j < m) out[i * m + j0 + j] = sum;
    }
};
__global__ void __launch_bounds__(128) multiply(const double* a, const double* b, long long n, long long m, int width,
                                                double* out) {
    __shared__ __align__(128) unsigned char room[ProductTile::BYTES];
    const Keep policy{out, blockIdx.x * 64ll, blockIdx.y * 64ll, n, m};
    product_tile(a, policy.i0, n, b, policy.j0, m, width, room, policy);
}
"""


def compiled(text: str, name: str) -> Any:
    """A kernel of a text that includes the engines."""
    import cupy

    header = text.split('"')[1]
    code = device.source(header) + text.replace(f'#include "{header}"\n', "")
    return cupy.RawModule(code=code, options=device.OPTIONS, name_expressions=(name,)).get_function(name)


def launch(kernel: Any, grid: Any, block: int, args: Any, shared: int = 0) -> None:
    kernel.max_dynamic_shared_size_bytes = max(shared, 48 * 1024)
    kernel(grid, (block,), args, shared_mem=shared)


def clouds(n: int, m: int, d: int, seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)).astype("f4"), (rng.normal(size=(m, d)) * 10.0 ** rng.uniform(-2, 0, d)).astype("f4")


def split(space: device.Space, *host: Any) -> Any:
    import cupy

    return halves_cuda.split(space, *(cupy.asarray(x) for x in host))


def centred(*host: Any) -> list[Any]:
    middle = np.vstack(host).mean(0, dtype=np.float64)
    return [x - middle for x in host]


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("exact", [False, True])
def test_products_of_split_halves(exact: bool, long: bool, emulated: Any) -> None:
    space = device.Space(device.CupyMemory(0))
    products = device.kernel("tensor.cuh", f"tensor_products<{str(exact).lower()}, {str(long).lower()}>")
    for n, m, d in SIZES:
        x, y = clouds(n, m, d)
        a, b = split(space, x * 1e3 + 5e4, y * 1e3 + 5e4)
        u, v = centred(*((z * 1e3 + 5e4).astype("f4") for z in (x, y)))
        size = np.outer(np.linalg.norm(u, axis=1), np.linalg.norm(v, axis=1))
        out = space.full((n, m), np.nan, np.float32)
        factor = np.float32(a.scales.get()[1])
        tile = 32 if long else 64
        slabs = -(-a.width // 32)
        left = (slabs if slabs <= 6 else 2) * 128 * 64
        shared = (2 if exact else 1) * (left + 2 * tile * 64)
        if long == halves_cuda.is_long(a.width):
            assert shared == halves_cuda.shared_bytes(a.width, exact=exact, columns=0)
        args = (a.high, a.low, b.high, b.low, np.int32(n), np.int32(m), np.int32(a.width), np.int32(128), factor, out)
        products(space, (-(-n // 128), -(-m // 128)), 128, args, shared)
        # of entries of 22 bits, or of 11, and of float32 sums
        assert np.max(np.abs(out.get() - u @ v.T) / size) < (5e-7 if exact else 6e-4)


def test_split_points_are_the_points(emulated: Any) -> None:
    space = device.Space(device.CupyMemory(0))
    for scale, shift in ((1.0, 0.0), (1e-9, 0.0), (1e12, 1e13), (1e-3, 7.0), (0.0, 3.0)):
        x, y = (z * np.float32(scale) + np.float32(shift) for z in clouds(9, 300, 21))
        u, v = centred(x, y)
        most = max(np.abs(u).max(), np.abs(v).max())
        for z, got in zip((u, v), split(space, x, y), strict=True):
            up, down = got.scales.get().astype("f8")
            assert up**2 * down == 1.0
            both = got.high.get().astype("f8") + got.low.get().astype("f8")
            assert both.shape == (len(z), 32)
            assert np.abs(both).max() < 2.0**12
            assert not both[:, 21:].any()
            np.testing.assert_allclose(both[:, :21] / up, z, rtol=2.0**-21, atol=most * 2.0**-34)
            np.testing.assert_allclose(got.squares.get(), (z**2).sum(1), rtol=3e-6, atol=1e-12 * most**2)


def test_a_bad_point_spoils_no_other(emulated: Any) -> None:
    x, y = clouds(9, 30, 5)
    x[4, 2], y[7] = np.nan, np.inf
    a, b = split(device.Space(device.CupyMemory(0)), x, y)
    np.testing.assert_array_equal(np.isnan(a.squares.get()), np.arange(9) == 4)
    np.testing.assert_array_equal(np.isfinite(b.squares.get()), np.arange(30) != 7)
    for z in (a, b):
        assert np.isfinite(z.scales.get()).all()


@pytest.mark.parametrize("long", [False, True])
def test_a_policy_with_columns(long: bool, emulated: Any) -> None:
    space = device.Space(device.CupyMemory(0))
    kernel = compiled(WEIGHTED, f"weighted<true, {str(long).lower()}>")
    for n, m, d in ((129, 70, 17), (2, 130, 210)):
        x, y = clouds(n, m, d)
        a, b = split(space, x, y)
        u, v = centred(x, y)
        rng = np.random.default_rng(1)
        weights, shifts = rng.normal(size=(2, m)).astype("f4")
        scale = float(a.scales.get()[0]) ** 2
        dots = (u @ v.T) * scale
        results = []
        for schedule in range(4):
            emulated.schedule = schedule
            sums, most = space.full(n, np.nan, np.float32), space.full(n, np.nan, np.float32)
            slabs = -(-a.width // 32)
            tile = 32 if long else 64
            shared = 2 * ((slabs if slabs <= 6 else 2) * 8192 + 2 * tile * 64) + 2 * 2 * tile * 4
            numbers = (np.int32(n), np.int32(m), np.int32(a.width), space.put(weights), space.put(shifts * scale))
            launch(kernel, (-(-n // 128),), 128, (a.high, a.low, b.high, b.low, *numbers, sums, most), shared)
            results.append((sums.get(), most.get()))
        size = scale * np.linalg.norm(u, axis=1) * np.linalg.norm(v, axis=1).max()
        error = np.abs(results[0][0] - (weights * (dots + np.arange(m))).sum(1))
        assert np.all(error < 1e-6 * np.sqrt(m) * 10 * size)
        assert np.all(np.abs(results[0][1] - (dots + shifts * scale).max(1)) < 2e-6 * size)
        for got in results[1:]:
            np.testing.assert_array_equal(got, results[0])


@pytest.mark.parametrize(
    ("real", "entry", "rows", "long"),
    [("float", "f4", 4, True), ("float", "f4", 8, False), ("float", "f2", 8, True), ("double", "f8", 4, False)],
)
def test_formulas_in_registers(real: str, entry: str, rows: int, long: bool, emulated: Any) -> None:
    import cupy

    ctype = device.ctype(np.dtype(entry))
    kernel = compiled(FORMULA, f"formula<{real}, {ctype}, {rows}, {str(long).lower()}>")
    single = real == "float"
    for n, m, bins in SIZES:
        x, y = (np.random.default_rng(2).random((k, bins)).astype(entry) for k in (n, m))
        out, totals = cupy.full((n, m), np.nan), cupy.full(n, np.nan)
        shared = 2 * 2 * 16 * (16 * rows + 64) * (4 if single else 8)
        sizes = (np.int32(n), np.int32(m), np.int32(bins))
        launch(kernel, (-(-n // (16 * rows)),), 256, (cupy.asarray(x), cupy.asarray(y), *sizes, out, totals), shared)
        a, b = x.astype("f8"), y.astype("f8")
        want = np.abs(a[:, None] - b).sum(-1) + 2 * a @ b.T
        # float32: sums of 32 bins and no more where LONG
        rtol = 1e-14 if not single else 6e-7 if long else 2e-6
        np.testing.assert_allclose(out.get(), want, rtol=rtol)
        np.testing.assert_allclose(totals.get(), want.sum(1), rtol=rtol)


def test_products_in_float64(emulated: Any) -> None:
    import cupy

    kernel = compiled(PRODUCT, "multiply")
    for n, m, width in ((1, 1, 4), (65, 130, 20), (64, 64, 16), (3, 70, 64)):
        a, b = (np.random.default_rng(3).normal(size=(k, width)) for k in (n, m))
        out = cupy.full((n, m), np.nan)
        grid = (-(-n // 64), -(-m // 64))
        launch(kernel, grid, 128, (cupy.asarray(a), cupy.asarray(b), np.int64(n), np.int64(m), np.int32(width), out))
        np.testing.assert_allclose(out.get(), a @ b.T, rtol=1e-13, atol=1e-13)
