// All pairs of one problem, a tile of 32 rows and 128 columns at a time: costs from a matrix or from points.
//
// A warp has four rows, a lane four columns of the tile, 32 apart: sixteen costs a thread, of which a reduction over the
// columns makes what it wants. Rows are merged across the lanes when the sweep is over, so nothing is exchanged on the way.
// Points go through shared memory, D coordinates at a time; per coordinate and thread 5 loads serve 16 pairs. Costs are
// differences, coordinate by coordinate: no cancellation, whatever the offset of the clouds.
#pragma once
#include "vecmath.cuh"

constexpr int SWEEP_THREADS = 256, SWEEP_ROWS = 32, SWEEP_COLUMNS = 128;
// Metrics, and whether they are raised to a power.
constexpr int SQUARED = 0, EUCLIDEAN = 1, CITYBLOCK = 2, CHEBYSHEV = 3;

__device__ __forceinline__ float pow_of(float x, float p) { return powf(x, p); }
__device__ __forceinline__ double pow_of(double x, double p) { return pow(x, p); }

// 2^x where float32 will do with the special-function unit.
__device__ __forceinline__ float power2(float x) { return exp2_fast(x); }
__device__ __forceinline__ double power2(double x) { return exp2(x); }

// Where a thread stands: its first row, and its first column in a tile.
struct Place {
    int n, m, row0, row, lane;

    __device__ Place(int n_, int m_, int tile)
        : n(n_), m(m_), row0(tile * SWEEP_ROWS), row(tile * SWEEP_ROWS + (threadIdx.x >> 5) * 4), lane(threadIdx.x & 31) {}
};

// Columns of one of `splits` parts of m, in whole tiles.
__device__ __forceinline__ int part_size(int m, int splits) {
    const int tiles = (m + SWEEP_COLUMNS - 1) / SWEEP_COLUMNS;
    return (tiles + splits - 1) / splits * SWEEP_COLUMNS;
}

// A matrix (n, m); TURNED: its transpose (m, n), read along its own rows all the same.
template <class Real_, class T, bool TURNED>
struct Stored {
    typedef Real_ Real;
    typedef T Element;
    const T* C;

    __device__ Stored(const T* left, const T*, int, double, long long problem, long long left_step, long long)
        : C(left + problem * left_step) {}

    __device__ __forceinline__ void costs(const Place& at, int j0, Real (&c)[4][4]) const {
        if (TURNED) {
            __shared__ Real turned[SWEEP_ROWS][SWEEP_COLUMNS + 1];
            __syncthreads();
#pragma unroll 4
            for (int e = threadIdx.x; e < SWEEP_ROWS * SWEEP_COLUMNS; e += SWEEP_THREADS) {
                const int r = e % SWEEP_ROWS, s = e / SWEEP_ROWS, i = at.row0 + r, j = j0 + s;
                turned[r][s] = i < at.n && j < at.m ? (Real)widen(C[(long long)j * at.n + i]) : (Real)0;
            }
            __syncthreads();
#pragma unroll
            for (int r = 0; r < 4; r++)
#pragma unroll
                for (int q = 0; q < 4; q++) c[r][q] = turned[(threadIdx.x >> 5) * 4 + r][at.lane + 32 * q];
        } else {
#pragma unroll
            for (int r = 0; r < 4; r++)
#pragma unroll
                for (int q = 0; q < 4; q++) {
                    const int i = at.row + r, j = j0 + at.lane + 32 * q;
                    c[r][q] = i < at.n && j < at.m ? (Real)widen(C[(long long)i * at.m + j]) : (Real)0;
                }
        }
    }
};

template <int METRIC, class Real>
__device__ __forceinline__ Real added(Real total, Real difference) {
    if (METRIC == CITYBLOCK) return total + abs_of(difference);
    if (METRIC == CHEBYSHEV) return max_of(total, abs_of(difference));
    return fma_of(difference, difference, total);
}

template <int METRIC, bool RAISED, class Real>
__device__ __forceinline__ Real finished(Real total, Real power) {
    if (RAISED) return pow_of(total, METRIC == EUCLIDEAN ? (Real)0.5 * power : power);
    return METRIC == EUCLIDEAN ? sqrt_of(total) : total;
}

// Points (n, d) and (m, d), D coordinates at a time: all of them up to eight.
template <class Real_, int METRIC_, bool RAISED_, int D_>
struct Points {
    typedef Real_ Real;
    typedef Real_ Element;
    static constexpr int METRIC = METRIC_, D = D_;
    static constexpr bool RAISED = RAISED_;
    const Real *x, *y;
    int d;
    Real power;

    __device__ Points(const Real* left, const Real* right, int d_, double power_, long long problem, long long left_step,
                      long long right_step)
        : x(left + problem * left_step), y(right + problem * right_step), d(d_), power((Real)power_) {}

    // What `added` has summed.
    __device__ __forceinline__ void totals(const Place& at, int j0, Real (&c)[4][4]) const {
        __shared__ __align__(16) Real xs[D][SWEEP_ROWS + 4], ys[D][SWEEP_COLUMNS + 1];
#pragma unroll
        for (int r = 0; r < 4; r++)
#pragma unroll
            for (int q = 0; q < 4; q++) c[r][q] = (Real)0;
        const int first = (threadIdx.x >> 5) * 4;
        for (int k0 = 0; k0 < d; k0 += D) {
            __syncthreads();
#pragma unroll 4
            for (int e = threadIdx.x; e < D * SWEEP_COLUMNS; e += SWEEP_THREADS) {
                const int k = e % D, j = e / D;
                ys[k][j] = j0 + j < at.m && k0 + k < d ? y[(long long)(j0 + j) * d + k0 + k] : (Real)0;
            }
            for (int e = threadIdx.x; e < D * SWEEP_ROWS; e += SWEEP_THREADS) {
                const int k = e % D, i = e / D;
                xs[k][i] = at.row0 + i < at.n && k0 + k < d ? x[(long long)(at.row0 + i) * d + k0 + k] : (Real)0;
            }
            __syncthreads();
#pragma unroll
            for (int k = 0; k < D; k++) {
                Real to[4], from[4];
#pragma unroll
                for (int r = 0; r < 4; r++) from[r] = xs[k][first + r];
#pragma unroll
                for (int q = 0; q < 4; q++) to[q] = ys[k][at.lane + 32 * q];
#pragma unroll
                for (int r = 0; r < 4; r++)
#pragma unroll
                    for (int q = 0; q < 4; q++) c[r][q] = added<METRIC>(c[r][q], from[r] - to[q]);
            }
        }
    }

    __device__ __forceinline__ void costs(const Place& at, int j0, Real (&c)[4][4]) const {
        totals(at, j0, c);
#pragma unroll
        for (int r = 0; r < 4; r++)
#pragma unroll
            for (int q = 0; q < 4; q++) c[r][q] = finished<METRIC, RAISED>(c[r][q], power);
    }
};

// log2 of a sum of powers of two, whatever their exponents. The largest exponent met first is the reference; sums are
// looked at once for a handful of terms, and only where one leaves the safe range a new reference is taken: a true
// log-sum-exp at the price of a plain sum.
template <class Real>
struct LogSum {
    Real top, sum, lost;

    __device__ __forceinline__ LogSum() : top((Real)-INFINITY), sum((Real)0), lost((Real)0) {}

    static __device__ __forceinline__ Real most() { return sizeof(Real) == 4 ? (Real)1.1529215e18f : (Real)1e150; }

    template <int COUNT>
    __device__ __forceinline__ void add(const Real (&t)[COUNT]) {
        Real part = (Real)0;
#pragma unroll
        for (int q = 0; q < COUNT; q++) part += power2(t[q] - top);
        if (!(part < most())) part = raised(t);
        // Kahan
        const Real step = part - lost, next = sum + step;
        lost = (next - sum) - step;
        sum = next;
    }

    // The sum of these terms by a reference that suits them.
    template <int COUNT>
    __device__ __forceinline__ Real raised(const Real (&t)[COUNT]) {
        Real high = t[0], odd = (Real)0;
#pragma unroll
        for (int q = 0; q < COUNT; q++) {
            high = max_of(high, t[q]);
            odd = t[q] == t[q] ? odd : t[q];
        }
        if (odd != odd || high == (Real)-INFINITY) return odd;
        if (high > top) {
            const Real factor = power2(top - high);
            sum *= factor, lost *= factor, top = high;
        }
        Real part = (Real)0;
#pragma unroll
        for (int q = 0; q < COUNT; q++) part += power2(t[q] - top);
        return part;
    }

    __device__ __forceinline__ void merge(Real other_top, Real other_sum) {
        const Real high = max_of(top, other_top);
        if (high == (Real)-INFINITY) {
            sum += other_sum;  // 0, or NaN
            return;
        }
        sum = sum * power2(top - high) + other_sum * power2(other_top - high);
        top = high;
    }

    // Over the lanes of a warp; right in lane 0.
    __device__ __forceinline__ void across() {
#pragma unroll
        for (int width = 16; width > 0; width >>= 1)
            merge(__shfl_xor_sync(ALL, top, width), __shfl_xor_sync(ALL, sum, width));
    }
};
