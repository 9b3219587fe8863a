// Levels of sorted samples: their distribution functions at every point, exact.
//
// A weight w <= 2 is counted in units of 2^-102, an integer below 2^103, so sums of up to 2^24 of them fit 127 bits and
// are exact in any order. Equal weights need no array: n points against m count (k + 1) m / gcd and (k + 1) n / gcd.
// Hence equal measures meet at exactly equal levels, however their atoms are cut and ordered, and parallel sums are the
// same as serial ones.
//
// Where totals A, B differ, the weights of y are multiplied by A/B first, in float64; its levels end at A like those of
// x.
#pragma once
#include "sort.cuh"

typedef ulonglong2 Level;  // x above y

__device__ __forceinline__ Level plus(Level a, Level b) {
    const unsigned long long low = a.y + b.y;
    return {a.x + b.x + (low < a.y), low};
}

__device__ __forceinline__ Level minus(Level a, Level b) { return {a.x - b.x - (a.y < b.y), a.y - b.y}; }
__device__ __forceinline__ Level lesser(Level a, Level b) { return before(b, a) ? b : a; }
__device__ __forceinline__ Level greater(Level a, Level b) { return before(a, b) ? b : a; }

// Never 0 for a level that is not, and monotone.
__device__ __forceinline__ double real(Level a) { return (double)a.x * 18446744073709551616.0 + (double)a.y; }

// w 2^102 to the nearest integer, for 0 <= w < 2^24.
__device__ __forceinline__ Level fixed(double w) {
    const long long bits = __double_as_longlong(w);
    const int exponent = (int)(bits >> 52) & 0x7ff;
    if (exponent == 0) return {0, 0};
    const unsigned long long digits = ((unsigned long long)bits & 0xfffffffffffffull) | 0x10000000000000ull;
    const int shift = exponent - 1075 + 102;
    if (shift >= 64) return {digits << (shift - 64), 0};
    if (shift > 0) return {shift < 12 ? 0 : digits >> (64 - shift), digits << shift};
    if (shift == 0) return {0, digits};
    if (shift < -53) return {0, 0};
    return {0, (digits + (1ull << (-shift - 1))) >> -shift};
}

// floor(a |e|), for a < 2^127 and |e| < 1: exact, and so monotone in a.
__device__ __forceinline__ Level share_of(Level a, double e) {
    const long long bits = __double_as_longlong(e) & 0x7fffffffffffffffll;
    const int exponent = (int)(bits >> 52), shift = 1075 - exponent;
    if (exponent == 0 || shift >= 192) return {0, 0};
    const unsigned long long digits = ((unsigned long long)bits & 0xfffffffffffffull) | 0x10000000000000ull;
    const unsigned long long bottom = a.y * digits, carried = __umul64hi(a.y, digits);
    const unsigned long long middle = a.x * digits + carried;
    const unsigned long long top = __umul64hi(a.x, digits) + (middle < carried);
    const unsigned long long words[3] = {shift >= 64 ? middle : bottom, shift >= 64 ? top : middle,
                                         shift >= 64 ? 0 : top};
    if (shift >= 128) return {0, shift == 128 ? top : top >> (shift - 128)};
    const int by = shift % 64;
    if (by == 0) return {words[1], words[0]};
    return {(words[1] >> by) | (words[2] << (64 - by)), (words[0] >> by) | (words[1] << (64 - by))};
}

// To the nearest multiple of 2^-92.
__device__ __forceinline__ Level rounded(Level a) {
    const Level up = plus(a, {0, 512});
    return {up.x, up.y & ~1023ull};
}

// Levels of one row: (k + 1) step, or stored. The last one is the total.
struct Counted {
    unsigned long long step;
    __device__ __forceinline__ Level operator()(long long k) const { return {0, (unsigned long long)(k + 1) * step}; }
};

struct Stored128 {
    const Level* start;
    __device__ __forceinline__ Level operator()(long long k) const { return start[k]; }
};

// The levels of a row, from those of all rows (rows, n), or from a step.
template <class Kind>
struct LevelsOf;

template <>
struct LevelsOf<Counted> {
    static __device__ __forceinline__ Counted row(const Level*, long long, unsigned long long step, long long) {
        return {step};
    }
};

template <>
struct LevelsOf<Stored128> {
    static __device__ __forceinline__ Stored128 row(const Level* levels, long long n, unsigned long long, long long r) {
        return {levels + r * n};
    }
};

// Pairs of float64 under compensated addition, for sums of differences.
typedef double2 Twofold;  // x + y

__device__ __forceinline__ Twofold plus(Twofold a, Twofold b) {
    const double s = a.x + b.x, t = s - a.x;
    const double rest = (a.x - (s - t)) + (b.x - t) + (a.y + b.y);
    const double high = s + rest;
    return {high, rest - (high - s)};
}

__device__ __forceinline__ Level shuffled_up(Level a, int by) {
    return {__shfl_up_sync(FULL_WARP, a.x, by), __shfl_up_sync(FULL_WARP, a.y, by)};
}
__device__ __forceinline__ Twofold shuffled_up(Twofold a, int by) {
    return {__shfl_up_sync(FULL_WARP, a.x, by), __shfl_up_sync(FULL_WARP, a.y, by)};
}

// Sums over a block of THREADS: of all threads before this one, and of all. `room` holds 33.
template <class Sum, int THREADS>
__device__ Sum block_before(Sum mine, Sum* room, Sum& total) {
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    Sum upto = mine;
    for (int by = 1; by < 32; by *= 2) {
        const Sum other = shuffled_up(upto, by);
        if (lane >= by) upto = plus(other, upto);
    }
    __syncthreads();
    if (lane == 31) room[warp] = upto;
    __syncthreads();
    if (threadIdx.x == 0) {
        Sum running = {0, 0};
        for (int w = 0; w < THREADS / 32; ++w) {
            const Sum here = room[w];
            room[w] = running;
            running = plus(running, here);
        }
        room[32] = running;
    }
    __syncthreads();
    const Sum up = shuffled_up(upto, 1);
    total = room[32];
    return lane ? plus(room[warp], up) : room[warp];
}
