// Rows and pulls of gram.cu for points of up to 16 coordinates: a thread keeps its rows, columns pass by in shared
// memory.
//
// Every thread of a block looks at the same column, so a read of shared memory serves a whole warp, coordinates of a
// row and its sums stay in registers, and nothing is exchanged between threads. Sums of four and pulls of 64 columns
// are in the float of the points, then float64.
//
// Floor per ordered pair: 4 C operations for pulls (2 C for rows alone) and the kernel's. Computed distance: C/4 reads
// of shared memory for R pairs and some 6 operations of bookkeeping each; at C = 4, R = 2, 0.7 of the floor.
#include "gram_tiles.cuh"

constexpr int COLUMNS = 64, THREADS = 128;

template <class K, int C, class T, int PLACE = 0>
__device__ __forceinline__ void near_quantities(const T (&x)[K::Q][C], const T (&y)[K::Q][C], T (&q)[K::Q]) {
    if constexpr (PLACE < K::Q) {
        T total = T(0);
#pragma unroll
        for (int k = 0; k < C; k++) total = with_term<K::geometry(PLACE)>(total, x[PLACE][k], y[PLACE][k]);
        q[PLACE] = total;
        near_quantities<K, C, T, PLACE + 1>(x, y, q);
    }
}

template <class K, int C, class T, int PLACE = 0>
__device__ __forceinline__ void near_pulls(const T (&x)[K::Q][C], const T (&y)[K::Q][C], const T (&c)[K::Q],
                                           T (&into)[K::Q][C]) {
    if constexpr (PLACE < K::Q) {
#pragma unroll
        for (int k = 0; k < C; k++)
            into[PLACE][k] = fma_of(c[PLACE], pull_of<K::geometry(PLACE)>(x[PLACE][k], y[PLACE][k]), into[PLACE][k]);
        near_pulls<K, C, T, PLACE + 1>(x, y, c, into);
    }
}

// The first C coordinates of row i of every cloud that the kernel reads.
template <class K, int C, int W, class T, int PLACE = 0>
__device__ __forceinline__ void near_row(const Clouds<T>& cloud, int i, T (&x)[K::Q][C]) {
    if constexpr (PLACE < K::Q) {
        const T* row = cloud.template of<K::geometry(PLACE)>() + (long long)i * W;
#pragma unroll
        for (int k = 0; k < C; k++) x[PLACE][k] = row[k];
        near_row<K, C, W, T, PLACE + 1>(cloud, i, x);
    }
}

template <class K, int W, class T, int PLACE = 0>
__device__ __forceinline__ void near_columns(const Clouds<T>& cloud, int columns, T (&room)[K::Q][COLUMNS][W]) {
    if constexpr (PLACE < K::Q) {
        constexpr int V = PackOf<T>::N;
        const T* from = cloud.template of<K::geometry(PLACE)>();
        for (int at = threadIdx.x * V; at < columns * W; at += THREADS * V)
            *reinterpret_cast<Pack<T, V>*>(&room[PLACE][0][0] + at) = *reinterpret_cast<const Pack<T, V>*>(from + at);
        near_columns<K, W, T, PLACE + 1>(cloud, columns, room);
    }
}

// As gram_rows, for rows of W = 4 ⌈C/4⌉ numbers, R rows for each thread.
template <class T, class K, int C, int R, bool WEIGHTED, bool PULL>
__global__ void __launch_bounds__(THREADS)
    gram_near(const T* plain, const T* shifted, const T* unit, const T* right_plain, const T* right_shifted,
              const T* right_unit, const double* numbers, int per, const double* weights, const double* factors,
              const int* only, double* sums, double* pulls, int split, int L, int n, int N, int width, int same,
              int shares, int problems) {
    constexpr int W = (C + 3) / 4 * 4, Q = K::Q, V = PackOf<T>::N;
    __shared__ __align__(16) T room[Q][COLUMNS][W];
    __shared__ double of_column[WEIGHTED ? COLUMNS : 1];
    const Blocks<THREADS * R> lefts{split, L};
    const Blocks<COLUMNS> rights{n, N};
    const int a = blockIdx.x % lefts.count(), s = blockIdx.x / lefts.count() % shares;
    const long long p = blockIdx.x / ((long long)lefts.count() * shares);
    if (only && !only[p]) return;
    const int i0 = lefts.start(a), rows = lefts.size(a);
    const Clouds<T> left = Clouds<T>{plain, shifted, unit}.from(p * L + i0, W);
    const Clouds<T> pool = Clouds<T>{right_plain, right_shifted, right_unit}.from(p * N, W);
    const typename K::template Numbers<T> number(numbers + p * per);
    if (WEIGHTED) weights += p * N;
    const int first = (int)((long long)rights.count() * s / shares);
    const int last = (int)((long long)rights.count() * (s + 1) / shares);
    T x[R][Q][C], own[R];
    double mine[R][2] = {}, pulled[PULL ? R : 1][Q][C] = {};
#pragma unroll
    for (int r = 0; r < R; r++) {
        const int row = min((int)threadIdx.x + r * THREADS, rows - 1);
        near_row<K, C, W>(left, row, x[r]);
        own[r] = WEIGHTED && PULL ? T(weights[i0 + row]) : T(1);
    }
    for (int b = first; b < last; b++) {
        const int j0 = rights.start(b), columns = rights.size(b), side = rights.side(b);
        __syncthreads();  // the columns before have been read
        near_columns<K, W>(pool.from(j0, W), columns, room);
        if (WEIGHTED && threadIdx.x < columns) of_column[threadIdx.x] = weights[j0 + threadIdx.x];
        __syncthreads();
        const T factor = PULL ? T(factors[p * 8 + lefts.side(a) + side]) : T(0);
        T part[R][Q][C], four[R];
        double total[R];
#pragma unroll
        for (int r = 0; r < R; r++) {
            four[r] = T(0);
            total[r] = 0.0;
#pragma unroll
            for (int g = 0; g < Q; g++)
#pragma unroll
                for (int k = 0; k < C; k++) part[r][g][k] = T(0);
        }
#pragma unroll(sizeof(T) == 4 ? 4 : 1)
        for (int j = 0; j < columns; j++) {
            T y[Q][C];
#pragma unroll
            for (int g = 0; g < Q; g++)
#pragma unroll
                for (int k = 0; k < C; k += V) {
                    const Pack<T, V> pack = *reinterpret_cast<const Pack<T, V>*>(&room[g][j][k]);
#pragma unroll
                    for (int v = 0; v < V; v++)
                        if (k + v < C) y[g][k + v] = pack.at[v];
                }
#pragma unroll
            for (int r = 0; r < R; r++) {
                T q[Q], value, slopes[Q];
                near_quantities<K, C>(x[r], y, q);
                K::of(number.c, q, value, slopes);
                const bool counts = !(same && i0 + (int)threadIdx.x + r * THREADS == j0 + j);
                if constexpr (WEIGHTED)
                    total[r] += counts ? of_column[j] * (double)value : 0.0;
                else {
                    four[r] += counts ? value : T(0);
                    if (j % 4 == 3) {
                        total[r] += (double)four[r];
                        four[r] = T(0);
                    }
                }
                if constexpr (PULL) {
                    const T c = WEIGHTED ? factor * own[r] * T(of_column[j]) : factor;
#pragma unroll
                    for (int g = 0; g < Q; g++) slopes[g] = counts ? c * slopes[g] : T(0);
                    near_pulls<K, C>(x[r], y, slopes, part[r]);
                }
            }
        }
#pragma unroll
        for (int r = 0; r < R; r++) {
            total[r] += (double)four[r];
#pragma unroll
            for (int k = 0; k < 2; k++) mine[r][k] += k == side ? total[r] : 0.0;
            if constexpr (PULL) {
#pragma unroll
                for (int g = 0; g < Q; g++)
#pragma unroll
                    for (int k = 0; k < C; k++) pulled[r][g][k] += (double)part[r][g][k];
            }
        }
    }
#pragma unroll
    for (int r = 0; r < R; r++) {
        const int row = threadIdx.x + r * THREADS;
        if (row >= rows) continue;
        const long long at = (p * shares + s) * L + i0 + row;
#pragma unroll
        for (int k = 0; k < 2; k++) sums[((p * shares + s) * 2 + k) * L + i0 + row] = mine[r][k];
        if constexpr (PULL) {
#pragma unroll
            for (int g = 0; g < Q; g++)
#pragma unroll
                for (int k = 0; k < C; k++)
                    pulls[((long long)g * problems * shares * L + at) * W + k] = pulled[r][g][k];
        }
    }
}
