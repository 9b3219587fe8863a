// Rows of numbers sorted, with or without their orders: see sort.cuh.
//
// Floor: one read of the numbers and one write of the items. A row of up to 2048 costs that; a longer one as much again
// for each of log2(n / 2048) passes, 16 bytes an item and pass with orders: n = 10^6, 9 passes, 9.6 times the floor.
#include "sort.cuh"

#define NOT_FINITE 1

// Tiles of rows (rows, n): items in ascending order, by blocks of THREADS. Numbers that are not finite are noted in
// `status`.
template <class T, class Item, int THREADS, int ITEMS>
__global__ void __launch_bounds__(THREADS)
    sort_tiles(const T* __restrict__ x, long long n, long long by_row, long long step, int tiles,
               Item* __restrict__ out, int* __restrict__ status) {
    __shared__ Item room[THREADS * (ITEMS + 1)];
    const long long row = blockIdx.x / tiles, first = (long long)(blockIdx.x % tiles) * THREADS * ITEMS;
    const int count = (int)(n - first < THREADS * ITEMS ? n - first : THREADS * ITEMS);
    const T* from = x + row * by_row + first * step;
    Item own[ITEMS];
    bool bad = false;
    // read side by side; which thread begins with which item does not matter
#pragma unroll
    for (int k = 0; k < ITEMS; ++k) {
        const int e = k * THREADS + (int)threadIdx.x;
        last(own[k]);
        if (e < count) {
            const T number = from[e * step];
            bad |= !(fabs((double)number) < infinity());
            make(number, (unsigned)(first + e), own[k]);
        }
    }
    // numbers to the front: sorting stops once a run holds them all
    const Shelf<Item, ITEMS> shelf = {room, 0};
#pragma unroll
    for (int k = 0; k < ITEMS; ++k) shelf(k * THREADS + (int)threadIdx.x) = own[k];
    __syncthreads();
#pragma unroll
    for (int k = 0; k < ITEMS; ++k) own[k] = shelf((int)threadIdx.x * ITEMS + k);
    block_sort<Item, THREADS, ITEMS>(own, room, count);
    __syncthreads();
#pragma unroll
    for (int k = 0; k < ITEMS; ++k) shelf((int)threadIdx.x * ITEMS + k) = own[k];
    __syncthreads();
    Item* to = out + row * n + first;
    for (int e = (int)threadIdx.x; e < count; e += THREADS) to[e] = shelf(e);
    if (bad) atomicOr(status, NOT_FINITE);
}

template <class Item>
struct Run {
    const Item* start;
    __device__ __forceinline__ const Item& operator()(long long k) const { return start[k]; }
};

// One pass: runs of `width` items become runs of twice as many; a block writes THREADS ITEMS of them.
template <class Item, int THREADS, int ITEMS>
__global__ void __launch_bounds__(THREADS)
    merge_runs(const Item* __restrict__ x, long long n, long long width, int tiles, Item* __restrict__ out) {
    __shared__ Item room[THREADS * (ITEMS + 1)];
    __shared__ long long cut[2];
    const long long row = blockIdx.x / tiles, first = (long long)(blockIdx.x % tiles) * THREADS * ITEMS;
    const long long start = first / (2 * width) * (2 * width);
    const Item* from = x + row * n + start;
    const long long count_a = n - start < width ? n - start : width;
    const long long count_b = n - start - count_a < width ? n - start - count_a : width;
    const long long d = first - start;
    const int count = (int)(count_a + count_b - d < THREADS * ITEMS ? count_a + count_b - d : THREADS * ITEMS);
    if (threadIdx.x < 2)
        cut[threadIdx.x] =
            merge_path(Run<Item>{from}, count_a, Run<Item>{from + count_a}, count_b, d + (threadIdx.x ? count : 0));
    __syncthreads();
    const long long a0 = cut[0], b0 = d - a0;
    const int take_a = (int)(cut[1] - a0), take_b = count - take_a;
    const Shelf<Item, ITEMS> shelf = {room, 0};
    for (int e = (int)threadIdx.x; e < count; e += THREADS)
        shelf(e) = e < take_a ? from[a0 + e] : from[count_a + b0 + e - take_a];
    __syncthreads();
    Item own[ITEMS];
    const int mine = (int)threadIdx.x * ITEMS;
    if (mine < count) merge_some<Item, ITEMS>(shelf, take_a, shelf.at(take_a), take_b, mine, own);
    __syncthreads();
#pragma unroll
    for (int k = 0; k < ITEMS; ++k)
        if (mine + k < count) shelf(mine + k) = own[k];
    __syncthreads();
    Item* to = out + row * n + first;
    for (int e = (int)threadIdx.x; e < count; e += THREADS) to[e] = shelf(e);
}
