// Sorting rows of numbers, by merging: tiles by a block in shared memory, then passes over runs twice as long each.
//
// An item is what is compared: the bits of a number, made to sort as it does, with its place in the row behind them
// where the order is wanted. So items differ (or are the same number), and the result is one and the same on every run.
//
//     unsigned      float32        unsigned long long    float32 and place
//     long long     float64        ulonglong2            float64 and place
//
// A merge path (Odeh et al. 2012; Green et al. 2012) cuts a merge into equal pieces: of the first `d` items of a merged
// pair of runs, how many come from the left one is found by bisection, so that every thread merges as many items as
// every other.
#pragma once
#include "team.cuh"

__device__ __forceinline__ unsigned ascending(float x) {
    const unsigned b = __float_as_uint(x + 0.0f);
    return b >> 31 ? ~b : b | 0x80000000u;
}

__device__ __forceinline__ float number(unsigned key) { return __uint_as_float(key >> 31 ? key & 0x7fffffffu : ~key); }

__device__ __forceinline__ bool before(unsigned a, unsigned b) { return a < b; }
__device__ __forceinline__ bool before(long long a, long long b) { return a < b; }
__device__ __forceinline__ bool before(unsigned long long a, unsigned long long b) { return a < b; }
__device__ __forceinline__ bool before(ulonglong2 a, ulonglong2 b) { return a.x < b.x || (a.x == b.x && a.y < b.y); }

__device__ __forceinline__ void make(float x, unsigned, unsigned& item) { item = ascending(x); }
__device__ __forceinline__ void make(double x, unsigned, long long& item) {
    item = (long long)(ascending(x) ^ 0x8000000000000000ull);
}
__device__ __forceinline__ void make(float x, unsigned place, unsigned long long& item) {
    item = ((unsigned long long)ascending(x) << 32) | place;
}
__device__ __forceinline__ void make(double x, unsigned place, ulonglong2& item) { item = {ascending(x), place}; }

__device__ __forceinline__ void last(unsigned& item) { item = 0xffffffffu; }
__device__ __forceinline__ void last(long long& item) { item = 0x7fffffffffffffffll; }
__device__ __forceinline__ void last(unsigned long long& item) { item = ~0ull; }
__device__ __forceinline__ void last(ulonglong2& item) { item = {~0ull, ~0ull}; }

__device__ __forceinline__ double value(unsigned item) { return (double)number(item); }
__device__ __forceinline__ double value(long long item) {
    return number((unsigned long long)item ^ 0x8000000000000000ull);
}
__device__ __forceinline__ double value(unsigned long long item) { return (double)number((unsigned)(item >> 32)); }
__device__ __forceinline__ double value(ulonglong2 item) { return number(item.x); }

__device__ __forceinline__ unsigned place(unsigned long long item) { return (unsigned)item; }
__device__ __forceinline__ unsigned place(ulonglong2 item) { return (unsigned)item.y; }

// How many of the first `d` of the merged items are a's, where a's go first among equals.
template <class A, class B, class Index>
__device__ __forceinline__ Index merge_path(const A& a, Index count_a, const B& b, Index count_b, Index d) {
    Index low = d > count_b ? d - count_b : 0, high = d < count_a ? d : count_a;
    while (low < high) {
        const Index middle = (low + high) / 2;
        if (before(b(d - 1 - middle), a(middle)))
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

// Items of a tile in shared memory, a gap after every ITEMS of them: threads that each walk their own stretch meet no
// bank twice.
template <class Item, int ITEMS>
struct Shelf {
    Item* room;
    int from;
    __device__ __forceinline__ Item& operator()(int k) const { return room[from + k + (from + k) / ITEMS]; }
    __device__ __forceinline__ Shelf at(int k) const { return {room, from + k}; }
};

template <class Item, int ITEMS>
__device__ __forceinline__ void merge_some(const Shelf<Item, ITEMS>& a, int count_a, const Shelf<Item, ITEMS>& b,
                                           int count_b, int d, Item* own) {
    int i = merge_path(a, count_a, b, count_b, d), j = d - i;
#pragma unroll
    for (int k = 0; k < ITEMS; ++k) {
        const bool left = j >= count_b || (i < count_a && !before(b(j), a(i)));
        if (left && i >= count_a) {
            last(own[k]);
        } else {
            own[k] = left ? a(i) : b(j);
            i += left;
            j += !left;
        }
    }
}

// Sort `count` items, thread t holding those from t ITEMS on (`last` beyond the end); each thread ends with its own of
// the sorted.
template <class Item, int THREADS, int ITEMS>
__device__ void block_sort(Item* own, Item* room, int count) {
#pragma unroll
    for (int pass = 0; pass < ITEMS; ++pass) {
#pragma unroll
        for (int k = pass & 1; k + 1 < ITEMS; k += 2) {
            if (before(own[k + 1], own[k])) {
                const Item t = own[k];
                own[k] = own[k + 1];
                own[k + 1] = t;
            }
        }
    }
    const Shelf<Item, ITEMS> shelf = {room, 0};
    const int mine = (int)threadIdx.x * ITEMS;
    for (int width = ITEMS; width < count; width *= 2) {
        __syncthreads();
#pragma unroll
        for (int k = 0; k < ITEMS; ++k) shelf(mine + k) = own[k];
        __syncthreads();
        const int start = mine & ~(2 * width - 1);
        merge_some<Item, ITEMS>(shelf.at(start), width, shelf.at(start + width), width, mine - start, own);
    }
}
