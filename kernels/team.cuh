// A team: the threads that share one problem. A warp (32) or a whole block; what is written for a team is right for
// both.
//
//     sync()              all of the team have written what they write before, and see it
//     least(value, at)    the smallest value of the team, and the smallest `at` among those that have it; every thread
//     gets both
//
// `least` of a warp is three 32-bit reductions: a float64 becomes 64 bits that sort as it does, and their upper half,
// lower half and `at` are reduced in turn. A block needs one barrier more: slots for the warps come in two sets, so
// that the next `least` may be written while the slowest warp still reads this one.
#pragma once

#define FULL_WARP 0xffffffffu

__device__ __forceinline__ double infinity() { return __longlong_as_double(0x7ff0000000000000ll); }

__device__ __forceinline__ unsigned warp_smallest(unsigned v) {
#if !defined(OTDIST_EMULATED) && defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    return __reduce_min_sync(FULL_WARP, v);
#else
    for (int o = 16; o; o >>= 1) {
        const unsigned w = __shfl_xor_sync(FULL_WARP, v, o);
        v = w < v ? w : v;
    }
    return v;
#endif
}

// Bits that sort as the number does; the two zeros are one.
__device__ __forceinline__ unsigned long long ascending(double x) {
    const long long b = __double_as_longlong(x + 0.0);
    return (unsigned long long)b ^ ((unsigned long long)(b >> 63) | 0x8000000000000000ull);
}

__device__ __forceinline__ double number(unsigned long long key) {
    const unsigned long long b = key >> 63 ? key ^ 0x8000000000000000ull : ~key;
    return __longlong_as_double((long long)b);
}

struct Least {
    double value;
    unsigned at;
};

struct Slot {
    unsigned long long key;
    unsigned at, unused;
};

__device__ __forceinline__ void warp_least(unsigned long long& key, unsigned& at) {
    const unsigned high = (unsigned)(key >> 32), low = (unsigned)key;
    const unsigned top = warp_smallest(high);
    const unsigned bottom = warp_smallest(high == top ? low : 0xffffffffu);
    at = warp_smallest(high == top && low == bottom ? at : 0xffffffffu);
    key = ((unsigned long long)top << 32) | bottom;
}

// The sum of float64 numbers over a warp, as a pair whose parts do not overlap; the order is fixed.
struct Pair64 {
    double high, low;
};

__device__ __forceinline__ Pair64 plus(Pair64 s, double x) {
    const double t = s.high + x, back = t - s.high;
    return {t, s.low + ((s.high - (t - back)) + (x - back))};
}

__device__ __forceinline__ Pair64 plus(Pair64 s, Pair64 x) {
    s = plus(s, x.high);
    s.low += x.low;
    return s;
}

__device__ __forceinline__ Pair64 warp_total(Pair64 s) {
    for (int o = 16; o; o >>= 1) {
        const Pair64 other = {__shfl_down_sync(FULL_WARP, s.high, o), __shfl_down_sync(FULL_WARP, s.low, o)};
        s = plus(s, other);
    }
    return s;
}

template <int THREADS>
struct Team {
    int rank, turn;
    Slot* slots;  // 2 x 32, of a block

    __device__ __forceinline__ explicit Team(Slot* given) : rank((int)threadIdx.x % THREADS), turn(0), slots(given) {}

    __device__ __forceinline__ void sync() const {
        if (THREADS == 32)
            __syncwarp();
        else
            __syncthreads();
    }

    __device__ __forceinline__ Least least(double value, unsigned at) {
        unsigned long long key = ascending(value);
        warp_least(key, at);
        if (THREADS > 32) {
            Slot* mine = slots + 32 * turn;
            turn ^= 1;
            if (rank % 32 == 0) mine[rank / 32] = {key, at, 0};
            __syncthreads();
            const bool there = rank % 32 < THREADS / 32;
            key = there ? mine[rank % 32].key : ~0ull;
            at = there ? mine[rank % 32].at : 0xffffffffu;
            warp_least(key, at);
        }
        return {number(key), at};
    }

    // Sums of all threads, the same number in thread 0 whatever the schedule; `room` holds 32 of them.
    __device__ __forceinline__ Pair64 sum(Pair64 s, Pair64* room) const {
        s = warp_total(s);
        if (THREADS > 32) {
            __syncthreads();
            if (rank % 32 == 0) room[rank / 32] = s;
            __syncthreads();
            s = {0.0, 0.0};
            if (rank < THREADS / 32) s = room[rank];
            if (rank < 32) s = warp_total(s);
        }
        return s;
    }
};
