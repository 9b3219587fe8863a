// Levels of sorted samples from their weights: sums of tiles, totals of rows, running sums. See levels.cuh.
//
// Floor: weights and orders are read twice and levels written, 2 (8 + 16) + 16 bytes a point; weights are gathered by
// the order of the points, a sector of 32 bytes each, which is what takes the time: four times the floor, computed.
#include "levels.cuh"

#define NOT_WEIGHTS 2

// Of one row: weights in the order of the points; equal ones where there are none.
template <class W, class Item>
struct Weights {
    const W* w;
    const Item* order;
    double equal;
    __device__ __forceinline__ double operator()(long long k) const { return w ? (double)w[place(order[k])] : equal; }
};

// An entry that is no weight counts so much that the total is refused.
__device__ __forceinline__ Level counted(double w, bool& bad) {
    if (w >= 0.0 && w <= 16.0) return fixed(w);
    bad = true;
    return {0x10000000000ull, 0};
}

#define LEVEL_ITEMS 8

// sums[row, tile] of the weights of a tile of 2048 points.
template <class W, class Item>
__global__ void __launch_bounds__(256)
    weigh_tiles(const W* __restrict__ w, long long w_row, const Item* __restrict__ order, long long order_row, int n,
                int tiles, Level* __restrict__ sums, int* __restrict__ status) {
    __shared__ Level room[33];
    const long long row = blockIdx.x / tiles;
    const int first = (int)(blockIdx.x % tiles) * 2048;
    const Weights<W, Item> weight = {w ? w + row * w_row : w, order + row * order_row, 1.0 / n};
    Level mine = {0, 0}, total;
    bool bad = false;
#pragma unroll
    for (int k = 0; k < LEVEL_ITEMS; ++k) {
        const int e = first + k * 256 + (int)threadIdx.x;
        if (e < n) mine = plus(mine, counted(weight(e), bad));
    }
    block_before<Level, 256>(mine, room, total);
    if (threadIdx.x == 0) sums[blockIdx.x] = total;
    if (bad) atomicOr(status, NOT_WEIGHTS);
}

// totals[row] = that of x, excesses[row] = A/B - 1. Totals must be 1 within the
// tolerance, else units[row] is NaN and it is noted.
__global__ void __launch_bounds__(128)
    totals_of(const Level* __restrict__ sums_x, int tiles_x, const Level* __restrict__ sums_y, int tiles_y,
              double tolerance, Level* __restrict__ totals, double* __restrict__ excesses, double* __restrict__ units,
              int* __restrict__ status) {
    __shared__ Level room[33];
    const long long row = blockIdx.x;
    Level x = {0, 0}, y = {0, 0}, all_x, all_y;
    for (int k = (int)threadIdx.x; k < tiles_x; k += 128) x = plus(x, sums_x[row * tiles_x + k]);
    for (int k = (int)threadIdx.x; k < tiles_y; k += 128) y = plus(y, sums_y[row * tiles_y + k]);
    block_before<Level, 128>(x, room, all_x);
    block_before<Level, 128>(y, room, all_y);
    if (threadIdx.x == 0) {
        const double one = 274877906944.0 * 18446744073709551616.0;  // 2^102
        const bool good = fabs(real(all_x) / one - 1.0) <= tolerance && fabs(real(all_y) / one - 1.0) <= tolerance;
        const bool more = before(all_y, all_x);
        const double apart = real(more ? minus(all_x, all_y) : minus(all_y, all_x)) / real(all_y);
        totals[row] = all_x;
        excesses[row] = more ? apart : -apart;
        if (!good) {
            units[row] = __longlong_as_double(0x7ff8000000000000ll);
            atomicOr(status, NOT_WEIGHTS);
        }
    }
}

// levels[row, k] of every point, at most the total of the row, which is that of the last point; `scaled`: those of y.
template <class W, class Item>
__global__ void __launch_bounds__(256)
    levels_of(const W* __restrict__ w, long long w_row, const Item* __restrict__ order, long long order_row, int n,
              const double* __restrict__ excesses, int scaled, int tiles, const Level* __restrict__ sums,
              const Level* __restrict__ totals, Level* __restrict__ levels) {
    __shared__ Level room[33];
    const long long row = blockIdx.x / tiles;
    const int tile = (int)(blockIdx.x % tiles), first = tile * 2048 + (int)threadIdx.x * LEVEL_ITEMS;
    const Weights<W, Item> weight = {w ? w + row * w_row : w, order + row * order_row, 1.0 / n};
    const Level top = totals[row];
    Level before_tile = {0, 0}, own[LEVEL_ITEMS], mine = {0, 0}, total;
    for (int k = (int)threadIdx.x; k < tile; k += 256) before_tile = plus(before_tile, sums[row * tiles + k]);
    const double excess = excesses[row];
    bool bad = false;
#pragma unroll
    for (int k = 0; k < LEVEL_ITEMS; ++k) {
        own[k] = {0, 0};
        if (first + k < n) own[k] = counted(weight(first + k), bad);
        mine = plus(mine, own[k]);
    }
    Level upto = block_before<Level, 256>(mine, room, total);
    block_before<Level, 256>(before_tile, room, total);
    upto = plus(upto, total);
#pragma unroll
    for (int k = 0; k < LEVEL_ITEMS; ++k) {
        upto = plus(upto, own[k]);
        Level level = upto;
        if (excess != 0.0) {
            const Level more = scaled ? share_of(upto, excess) : Level{0, 0};
            level = rounded(excess > 0.0 ? plus(upto, more) : minus(upto, more));
        }
        if (first + k < n) levels[row * n + first + k] = first + k == n - 1 ? top : lesser(level, top);
    }
}
