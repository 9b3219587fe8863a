// Products of all pairs of rows of two float64 tables on tensor cores: one tile of 64 x 64 pairs for a block.
//
//   sum_ij = sum_k a_ik b_jk, in the order of k
//
// Four warps with 32 x 32 pairs each; slabs of 16 numbers arrive by cp.async, two in flight. Floor: 2 flops a pair and
// entry at the rate of float64 tensor cores; computed per four entries of a warp's pairs: 16 mma.sync of 512 flops
// against 8 loads of shared memory, free of conflicts (lines are 20 numbers apart: four rows lie in different banks).
//
// A policy has row(int i), what it wants to know of a row, and void step(row, int i, int j, double sum): every pair of
// the tile once, i, j < 64, those of rows beyond the last too (as products with rows of zeros).
#pragma once
#include "tensor.cuh"

struct ProductTile {
    static constexpr int THREADS = 128, SIDE = 64, SLAB = 16, LINE = 20;
    static constexpr int BYTES = 2 * 2 * SIDE * LINE * (int)sizeof(double);
};

// Rows i0 ... of a (`rows` of them in all) and j0 ... of b; lines of `width` numbers, a multiple of 4.
template <class Policy>
__device__ void product_tile(const double* a, i64 i0, i64 rows, const double* b, i64 j0, i64 columns, int width,
                             unsigned char* shared, Policy& policy) {
    constexpr int SIDE = ProductTile::SIDE, SLAB = ProductTile::SLAB, LINE = ProductTile::LINE;
    const int t = threadIdx.x, warp = t >> 5, group = t >> 2 & 7, quad = t & 3;
    double* const room = (double*)shared;
    auto fetch = [&](const double* from, i64 first, i64 count, int k0, double* to) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const int c = t + e * ProductTile::THREADS, row = c >> 3, k = (c & 7) * 2;
            const bool in = first + row < count && k0 + k < width;
            copy16_async(to + row * LINE + k, from + (in ? (first + row) * width + k0 + k : 0), in);
        }
    };
    auto load = [&](int slab, int stage) {
        fetch(a, i0, rows, slab * SLAB, room + stage * 2 * SIDE * LINE);
        fetch(b, j0, columns, slab * SLAB, room + (stage * 2 + 1) * SIDE * LINE);
    };
    double sum[4][4][2];
#pragma unroll
    for (int m = 0; m < 4; m++)
#pragma unroll
        for (int n = 0; n < 4; n++) sum[m][n][0] = sum[m][n][1] = 0.0;
    const int slabs = (width + SLAB - 1) / SLAB;
    load(0, 0);
    for (int slab = 0; slab < slabs; slab++) {
        const int stage = slab & 1;
        copies_arrived();
        __syncthreads();  // this slab is there, and nobody reads the one before
        if (slab + 1 < slabs) load(slab + 1, stage ^ 1);
        const double* const x = room + stage * 2 * SIDE * LINE + ((warp >> 1) * 32 + group) * LINE + quad;
        const double* const y = room + (stage * 2 + 1) * SIDE * LINE + ((warp & 1) * 32 + group) * LINE + quad;
#pragma unroll
        for (int k = 0; k < SLAB; k += 4) {
            if (slab * SLAB + k >= width) break;
            double p[4], q[4];
#pragma unroll
            for (int m = 0; m < 4; m++) {
                p[m] = x[m * 8 * LINE + k];
                q[m] = y[m * 8 * LINE + k];
            }
#pragma unroll
            for (int m = 0; m < 4; m++)
#pragma unroll
                for (int n = 0; n < 4; n++) mma_884(sum[m][n], p[m], q[n]);
        }
    }
#pragma unroll
    for (int m = 0; m < 4; m++) {
        const int i = (warp >> 1) * 32 + m * 8 + group;
        const auto row = policy.row(i);
#pragma unroll
        for (int n = 0; n < 4; n++)
#pragma unroll
            for (int e = 0; e < 2; e++) policy.step(row, i, (warp & 1) * 32 + n * 8 + quad * 2 + e, sum[m][n][e]);
    }
}
