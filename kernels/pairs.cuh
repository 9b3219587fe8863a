// From the sum of a pair to its value, or to the mark of a pair that its engine cannot be trusted with.
//
// An engine's sum is total = G + (h_i + h_j) + (s_i + s_j) + (e_i + e_j): G over the bins, h, s, e of one row each. It
// is trusted above the limits of row and column: below them too much has been cancelled, or entries have left the range
// of the arithmetic. The others are marked by a NaN of their own; ``settle.cu`` computes them by the formula of a bin.
#pragma once
#include "vecmath.cuh"

#define IDENTITY 0
#define ROOT 1
#define LOGARITHM 2

// Stands for an infinite factor: times an entry >= 2^-300 it exceeds LOST, times 0 it vanishes, and no sum overflows.
#define INFINITE 5.2601359015483735e+210  // 2^700
#define LOST 2.4626253872746549e+114      // 2^380

#ifndef NAN
#define NAN __int_as_float(0x7fffffff)
#endif

// A NaN that no arithmetic makes.
template <class Out>
struct Mark;
template <>
struct Mark<float> {
    static __device__ __forceinline__ float make() { return __uint_as_float(0x7fd5e771u); }
    static __device__ __forceinline__ bool is(float x) { return __float_as_uint(x) == 0x7fd5e771u; }
};
template <>
struct Mark<double> {
    static __device__ __forceinline__ double make() { return __longlong_as_double(0x7ffd5e7717e57e57LL); }
    static __device__ __forceinline__ bool is(double x) { return __double_as_longlong(x) == 0x7ffd5e7717e57e57LL; }
};

// Facts of the rows of one side, (5, count): limit, h, s, e, share of the logarithm of the sum.
struct Facts {
    const double* at;
    long long count;
};

struct Fact {
    double limit, h, s, e, log;
};

template <int KIND>
__device__ __forceinline__ Fact fact_of(const Facts& facts, long long row) {
    Fact f;
    f.limit = facts.at[row];
    f.h = facts.at[facts.count + row];
    f.s = facts.at[2 * facts.count + row];
    f.e = facts.at[3 * facts.count + row];
    f.log = KIND == LOGARITHM ? facts.at[4 * facts.count + row] : 0.0;
    return f;
}

// scale T, scale sqrt T, or scale log(1 + c T): of the affinity G `affinity` where that is far from 1.
struct Finish {
    double scale, c, affinity;
    int literal;
};

template <int KIND, class Out>
__device__ __forceinline__ Out value_of(const Finish& finish, double g, const Fact& x, const Fact& y) {
    const double own = x.h + y.h, limit = fmax(x.limit, y.limit);
    if (own != own) return (Out)own;  // a row with bad values
    const double total = (g + own) + ((x.s + y.s) + (x.e + y.e));
    if (KIND == LOGARITHM) {
        const double ratio = finish.c * total;
        if (!((total > LOST ? -(double)INFINITY : total) > limit)) return Mark<Out>::make();
        if (!finish.literal && ratio > -0.5) return (Out)(finish.scale * log1p(ratio));
        return (Out)(finish.scale * (log(finish.affinity * g) - (finish.literal ? 0.0 : x.log + y.log)));
    }
    if (!(total > limit)) return Mark<Out>::make();
    const double kept = total > LOST ? (double)INFINITY : total;
    return (Out)(finish.scale * (KIND == ROOT ? sqrt(kept) : kept));
}

// The rows and columns of one launch, and where its values go: out[(i - i0) si + (j - j0) sj].
template <class Out>
struct Window {
    long long i0, i1, j0, j1;
    int half;  // only tiles that reach j >= i
    Out* out;
    long long si, sj;

    __device__ __forceinline__ void put(long long i, long long j, Out v) const {
        out[(i - i0) * si + (j - j0) * sj] = v;
    }
    // Rows and columns of tiles are counted from multiples of 64, so windows do not change which pairs share a tile.
    __device__ __forceinline__ bool skips(long long i, long long j, long long columns) const {
        return half && j + columns <= i;
    }
};
