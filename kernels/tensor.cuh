// Products of all pairs of points on tensor cores, and what is made of them: one sweep, the reduction as a policy.
//
//   x.y with x = xh + xl, y = yh + yl in half precision (22 bits together): xh.yh + xh.yl + xl.yh summed in float32 is
//   right to |x||y| 2^-22 or so (`EXACT`); xh.yh alone to 2^-11 (TF32's mantissa at twice TF32's rate).
//
// A block keeps 128 rows and walks over tiles of columns, coordinates in slabs of 32, two slabs in flight (cp.async).
// Rows of up to RESIDENT_SLABS slabs stay in shared memory throughout; longer ones are read again for every tile.
// Tensor cores truncate when they add: where there are many slabs (`LONG`), each is added to a float32 total.
//
// Floor per pair: 6d flops exact, 2d fast, at the half-precision rate, and what the policy does with a product.
// Computed per 16 coordinates of a warp's 32 x 64 pairs: 48 mma.sync against 12 ldmatrix and half a barrier.
//
// A policy is a struct with
//   static constexpr int COLUMNS                      how many floats a column brings along (0 to 3) ...
//   const float* column(int c)                        ... and where they are; the sweep fetches them with the tile
//   void step(int slot, int j, float dot, const float (&v)[max(COLUMNS, 1)])
// `step` sees every column j once for each of the thread's rows, slot 0 to 3: row `tensor_row(row0, slot)`, which may
// lie beyond the last one (its products are 0). The four lanes of a quad share their rows: merge with `quad_sum`,
// `quad_max` or `quad_merge` when the sweep is over. Which columns a thread sees, in which order, depends only on the
// sizes, so sums are the same at every run. See `TensorStore` below for an example.
// A policy with `static constexpr bool TILES = true` has, instead of `step`,
//   void tile(int first, int count, const float (&dots)[2][NT][4], const float* now)
// all of a tile's products at once: of slot s and column first + 8 nt + 2 quad + e at dots[s / 2][nt][s % 2 * 2 + e], the
// column's first number at now[8 nt + 2 quad + e]; `count` columns of the tile are there.
#pragma once
#include "vecmath.cuh"

using u32 = unsigned int;
using u64 = unsigned long long;
using i64 = long long;

// --------------------------------------------------------------------------------------------- PTX, and what it means

// c += a b: 16 x 16 times 16 x 8
__device__ __forceinline__ void mma_16816(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
#ifndef OTDIST_EMULATED
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
    struct Fragment {
        u32 a[4], b[2];
    };
    const auto all = emulator::gather(ALL, Fragment{{a[0], a[1], a[2], a[3]}, {b0, b1}});
    const int lane = emulator::lane(), g = lane >> 2, q = lane & 3;
    auto part = [](u32 x, int at) { return widen(float16{(unsigned short)(x >> 16 * at)}); };
    for (int e = 0; e < 4; e++)
        for (int k = 0; k < 16; k++)
            c[e] += part(all[g * 4 + k % 8 / 2].a[k / 8 * 2 + e / 2], k % 2) *
                    part(all[(q * 2 + e % 2) * 4 + k % 8 / 2].b[k / 8], k % 2);
#endif
}

// c += a b: 8 x 4 times 4 x 8, float64
__device__ __forceinline__ void mma_884(double (&c)[2], double a, double b) {
#ifndef OTDIST_EMULATED
    asm volatile("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0,%1}, {%2}, {%3}, {%0,%1};"
                 : "+d"(c[0]), "+d"(c[1])
                 : "d"(a), "d"(b));
#else
    struct Fragment {
        double a, b;
    };
    const auto all = emulator::gather(ALL, Fragment{a, b});
    const int lane = emulator::lane(), g = lane >> 2, q = lane & 3;
    for (int e = 0; e < 2; e++)
        for (int k = 0; k < 4; k++) c[e] = fma(all[g * 4 + k].a, all[(q * 2 + e) * 4 + k].b, c[e]);
#endif
}

// Four 8 x 8 matrices of halves from shared memory: lane l names row l % 8 of matrix l / 8 and gets, of every matrix,
// two entries of row l / 4.
__device__ __forceinline__ void load_matrices(u32 (&r)[4], const void* row) {
#ifndef OTDIST_EMULATED
    const u32 at = (u32)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
#else
    const auto all = emulator::gather(ALL, row);
    const int lane = emulator::lane();
    for (int i = 0; i < 4; i++) r[i] = ((const u32*)all[i * 8 + (lane >> 2)])[lane & 3];
#endif
}

// 16 (or 4) bytes to shared memory without passing through registers; zeros if not `wanted`.
__device__ __forceinline__ void copy16_async(void* to, const void* from, bool wanted) {
#ifndef OTDIST_EMULATED
    const u32 at = (u32)__cvta_generic_to_shared(to);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(wanted ? 16 : 0) : "memory");
#else
    for (int i = 0; i < 4; i++) ((u32*)to)[i] = wanted ? ((const u32*)from)[i] : 0u;
#endif
}

__device__ __forceinline__ void copy4_async(void* to, const void* from, bool wanted) {
#ifndef OTDIST_EMULATED
    const u32 at = (u32)__cvta_generic_to_shared(to);
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(at), "l"(from), "r"(wanted ? 4 : 0) : "memory");
#else
    *(u32*)to = wanted ? *(const u32*)from : 0u;
#endif
}

__device__ __forceinline__ void copies_arrived() {
#ifndef OTDIST_EMULATED
    asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

// --------------------------------------------------------------------------------------- what lanes of a quad share

template <class Merge, class Real> __device__ __forceinline__ Real quad_merge(Real v, Merge merge) {
    v = merge(v, __shfl_xor_sync(ALL, v, 1));
    return merge(v, __shfl_xor_sync(ALL, v, 2));
}

template <class Real> __device__ __forceinline__ Real quad_sum(Real v) {
    return quad_merge(v, [](Real a, Real b) { return a + b; });
}

template <class Real> __device__ __forceinline__ Real quad_max(Real v) {
    return quad_merge(v, [](Real a, Real b) { return a > b ? a : b; });
}

// -------------------------------------------------------------------------------------------------------- split halves

// A cloud as the sweep reads it: `rows` rows of `width` halves, width a multiple of 16, zeros beyond the coordinates.
struct Halves {
    const float16* high;
    const float16* low;  // not read unless EXACT
    int rows, width;
};

template <bool EXACT_, bool LONG_> struct TensorShape {
    static constexpr bool EXACT = EXACT_, LONG = LONG_;
    static constexpr int THREADS = 128, ROWS = 128, TILE = LONG ? 32 : 64, SLAB = 32, PARTS = EXACT ? 2 : 1;
    static constexpr int SLOTS = 4, RESIDENT_SLABS = 6;
    static constexpr int LEFT_BYTES = ROWS * SLAB * 2, RIGHT_BYTES = TILE * SLAB * 2;  // of a slab of one part

    __device__ static int slabs(int width) { return (width + SLAB - 1) / SLAB; }
    __device__ static bool resident(int width) { return slabs(width) <= RESIDENT_SLABS; }
};

// Byte of entry `chunk` (eight halves) of a row in a slab: any eight neighbouring rows use all banks once.
__device__ __forceinline__ int slab_offset(int row, int chunk) { return (row * 4 + (chunk ^ (row >> 1 & 3))) * 16; }

// The thread's row of a slot.
__device__ __forceinline__ int tensor_row(int row0, int slot) {
    const int t = threadIdx.x;
    return row0 + (t >> 5) * 32 + (slot >> 1) * 16 + (t >> 2 & 7) + (slot & 1) * 8;
}

template <class Policy> __device__ constexpr auto takes_tiles(int) -> decltype(Policy::TILES) { return Policy::TILES; }
template <class Policy> __device__ constexpr bool takes_tiles(...) { return false; }

// policy.step for all pairs of rows row0 ... row0 + 127 of x and columns j0 <= j < j1 of y.
// `shared`: `shared_bytes` of ``halves_cuda.py``, 128-byte aligned; blocks of 128 threads, all of which come here.
template <class Shape, class Policy>
__device__ void tensor_sweep(const Halves& x, const Halves& y, int row0, int j0, int j1, unsigned char* shared,
                             Policy& policy) {
    constexpr int ROWS = Shape::ROWS, TILE = Shape::TILE, SLAB = Shape::SLAB, PARTS = Shape::PARTS;
    constexpr int NT = TILE / 8, COLUMNS = Policy::COLUMNS, VALUES = COLUMNS > 0 ? COLUMNS : 1;
    const int t = threadIdx.x, warp = t >> 5, lane = t & 31, quad = lane & 3;
    const int width = x.width, slabs = Shape::slabs(width), tiles = (j1 - j0 + TILE - 1) / TILE;
    const bool resident = Shape::resident(width);
    unsigned char* const left = shared;
    unsigned char* const right = left + (resident ? slabs : 2) * PARTS * Shape::LEFT_BYTES;
    float* const values = (float*)(right + 2 * PARTS * Shape::RIGHT_BYTES);

    auto fetch = [&](const Halves& from, int first, int last, int count, int k0, unsigned char* to, int bytes) {
#pragma unroll
        for (int part = 0; part < PARTS; part++)
#pragma unroll 4
            for (int c = t; c < count * 4; c += Shape::THREADS) {
                const int row = c >> 2, k = k0 + (c & 3) * 8;
                const bool in = first + row < last && k < width;
                const float16* table = part == 0 ? from.high : from.low;
                copy16_async(to + part * bytes + slab_offset(row, c & 3),
                             table + (in ? (i64)(first + row) * width + k : 0), in);
            }
    };
    auto load = [&](int tile, int slab, int stage) {
        const int j = j0 + tile * TILE;
        if (!resident || tile == 0)
            fetch(x, row0, x.rows, ROWS, slab * SLAB, left + (resident ? slab : stage) * PARTS * Shape::LEFT_BYTES,
                  Shape::LEFT_BYTES);
        fetch(y, j, j1, TILE, slab * SLAB, right + stage * PARTS * Shape::RIGHT_BYTES, Shape::RIGHT_BYTES);
        if (slab == 0)
            for (int c = t; c < COLUMNS * TILE; c += Shape::THREADS) {
                const int at = j + c % TILE;
                copy4_async(values + (tile & 1) * COLUMNS * TILE + c, policy.column(c / TILE) + (at < j1 ? at : 0),
                            at < j1);
            }
    };

    float total[2][NT][4], part[2][NT][4];  // `part` is of a slab, and not there unless LONG
    if (tiles > 0) load(0, 0, 0);
    int stage = 0;
    for (int tile = 0; tile < tiles; tile++) {
#pragma unroll
        for (int mt = 0; mt < 2; mt++)
#pragma unroll
            for (int nt = 0; nt < NT; nt++)
#pragma unroll
                for (int e = 0; e < 4; e++) total[mt][nt][e] = 0.0f;
        for (int slab = 0; slab < slabs; slab++, stage ^= 1) {
            copies_arrived();
            __syncthreads();  // this slab is there, and nobody reads the one before
            if (slab + 1 < slabs) load(tile, slab + 1, stage ^ 1);
            else if (tile + 1 < tiles) load(tile + 1, 0, stage ^ 1);
            const unsigned char* const a = left + (resident ? slab : stage) * PARTS * Shape::LEFT_BYTES;
            const unsigned char* const b = right + stage * PARTS * Shape::RIGHT_BYTES;
            auto multiply = [&](float(&sums)[2][NT][4]) {
#pragma unroll
                for (int ks = 0; ks < 2; ks++) {
                    if (slab * SLAB + ks * 16 >= width) break;
                    u32 high[2][4], low[2][4];
#pragma unroll
                    for (int mt = 0; mt < 2; mt++) {
                        const int at = slab_offset(warp * 32 + mt * 16 + (lane & 15), ks * 2 + (lane >> 4));
                        load_matrices(high[mt], a + at);
                        if (Shape::EXACT) load_matrices(low[mt], a + Shape::LEFT_BYTES + at);
                    }
#pragma unroll
                    for (int np = 0; np < NT / 2; np++) {
                        const int at = slab_offset(np * 16 + (lane & 7) + (lane >> 4) * 8, ks * 2 + (lane >> 3 & 1));
                        u32 bh[4], bl[4];
                        load_matrices(bh, b + at);
                        if (Shape::EXACT) load_matrices(bl, b + Shape::RIGHT_BYTES + at);
#pragma unroll
                        for (int mt = 0; mt < 2; mt++)
#pragma unroll
                            for (int e = 0; e < 2; e++) {
                                float(&c)[4] = sums[mt][np * 2 + e];
                                if (Shape::EXACT) {  // the small ones first
                                    mma_16816(c, high[mt], bl[2 * e], bl[2 * e + 1]);
                                    mma_16816(c, low[mt], bh[2 * e], bh[2 * e + 1]);
                                }
                                mma_16816(c, high[mt], bh[2 * e], bh[2 * e + 1]);
                            }
                    }
                }
            };
            if constexpr (Shape::LONG) {
#pragma unroll
                for (int mt = 0; mt < 2; mt++)
#pragma unroll
                    for (int nt = 0; nt < NT; nt++)
#pragma unroll
                        for (int e = 0; e < 4; e++) part[mt][nt][e] = 0.0f;
                multiply(part);
#pragma unroll
                for (int mt = 0; mt < 2; mt++)
#pragma unroll
                    for (int nt = 0; nt < NT; nt++)
#pragma unroll
                        for (int e = 0; e < 4; e++) total[mt][nt][e] += part[mt][nt][e];
            } else {
                multiply(total);
            }
        }
        const float* const now = values + (tile & 1) * COLUMNS * TILE;
        const int first = j0 + tile * TILE;
        if constexpr (takes_tiles<Policy>(0)) {
            policy.tile(first, j1 - first < TILE ? j1 - first : TILE, total, now);
        } else {
            auto apply = [&](bool whole) {
#pragma unroll
                for (int nt = 0; nt < NT; nt++)
#pragma unroll
                    for (int e = 0; e < 2; e++) {
                        const int at = nt * 8 + quad * 2 + e;
                        if (!whole && first + at >= j1) continue;
                        float v[VALUES];
#pragma unroll
                        for (int c = 0; c < COLUMNS; c++) v[c] = now[c * TILE + at];
#pragma unroll
                        for (int slot = 0; slot < 4; slot++)
                            policy.step(slot, first + at, total[slot >> 1][nt][(slot & 1) * 2 + e], v);
                    }
            };
            if (first + TILE <= j1) apply(true);
            else apply(false);
        }
    }
    __syncthreads();  // `shared` is the caller's again
}

// Products written out: the simplest policy.
struct TensorStore {
    static constexpr int COLUMNS = 0;
    float* out;
    i64 stride;
    int row0, rows;
    float factor;

    __device__ const float* column(int) const { return nullptr; }
    __device__ void step(int slot, int j, float dot, const float (&)[1]) {
        const int i = tensor_row(row0, slot);
        if (i < rows) out[i * stride + j] = factor * dot;
    }
};

// out[i, j] = factor x_i . y_j. Grid (rows / 128, columns / `span`), span a multiple of 64.
template <bool EXACT, bool LONG>
__global__ void __launch_bounds__(128)
    tensor_products(const float16* xh, const float16* xl, const float16* yh, const float16* yl, int n, int m, int width,
                    int span, float factor, float* out) {
    extern __shared__ __align__(128) unsigned char tensor_shared[];
    const int row0 = blockIdx.x * 128, j0 = blockIdx.y * span, j1 = j0 + span < m ? j0 + span : m;
    TensorStore policy{out, m, row0, n, factor};
    tensor_sweep<TensorShape<EXACT, LONG>>(Halves{xh, xl, n, width}, Halves{yh, yl, m, width}, row0, j0, j1,
                                           tensor_shared, policy);
}
