// Quantities of a tile of pairs in registers, by differences of coordinates, and the pulls that turn slopes into
// gradients. Twin of gram_tiles.py and gram_pulls.py.
//
// A block of 256 threads, 16 x 16, measures B x B pairs, B/16 x B/16 of them per thread. Coordinates pass through
// shared memory in chunks of 64 bytes, transposed, the next chunk under way in registers. Per coordinate a thread reads
// two vectors (M = 4 float; four at M = 8) and does 2 M^2 operations: 32 to 2 reads, 128 to 4, so arithmetic is the
// bound. Differences never cancel: every quantity is right relative to itself, wherever the points lie.
#pragma once
#include "formulas.cuh"
#include "vecmath.cuh"

// The points as rows of `width` numbers, a multiple of 4, zeros beyond the coordinates: as they came, less a centre,
// and on the unit sphere. Which one a geometry reads:
template <class T>
struct Clouds {
    const T *plain, *shifted, *unit;
    template <int GEOMETRY>
    __device__ __forceinline__ const T* of() const {
        return GEOMETRY == ANGLE ? unit : GEOMETRY == INNER ? shifted : plain;
    }
    __device__ __forceinline__ Clouds from(long long row, int width) const {
        return {plain + row * width, shifted + row * width, unit + row * width};
    }
};

// Blocks of at most B points, none of which spans the first `n` points and the others.
template <int B>
struct Blocks {
    int n, total;
    __device__ __forceinline__ int split() const { return (n + B - 1) / B; }
    __device__ __forceinline__ int count() const { return split() + (total - n + B - 1) / B; }
    __device__ __forceinline__ int side(int b) const { return b >= split(); }
    __device__ __forceinline__ int start(int b) const { return side(b) ? n + (b - split()) * B : b * B; }
    __device__ __forceinline__ int size(int b) const { return min(B, (side(b) ? total : n) - start(b)); }
};

// Pairs of blocks (a, b), b >= a, row after row.
__device__ __forceinline__ void pair_of(long long t, int blocks, int& a, int& b) {
    const double middle = blocks + 0.5;
    long long row = (long long)(middle - sqrt(fmax(middle * middle - 2.0 * (double)t, 0.0)));
    row = min(max(row, 0ll), (long long)blocks - 1);
    while (row > 0 && row * (2ll * blocks - row + 1) / 2 > t) row--;
    while ((row + 1) * (2ll * blocks - row) / 2 <= t) row++;
    a = (int)row;
    b = a + (int)(t - row * (2ll * blocks - row + 1) / 2);
}

template <class T, int B>
struct Room {
    static constexpr int V = PackOf<T>::N, CHUNK = 4 * V, LEADING = B + V;
    T left[CHUNK][LEADING], right[CHUNK][LEADING];
};

// Which of the B rows (columns) is number r of the thread at `place` of 16: vectors of 16 bytes side by side.
template <class T>
__device__ __forceinline__ int place_of(int place, int r) {
    constexpr int V = PackOf<T>::N;
    return r / V * (16 * V) + place * V + r % V;
}

template <int M, class T>
__device__ __forceinline__ void gather(const T* row, int place, T (&x)[M]) {
    constexpr int V = PackOf<T>::N;
#pragma unroll
    for (int h = 0; h < M / V; h++) {
        const Pack<T, V> p = *reinterpret_cast<const Pack<T, V>*>(row + h * (16 * V) + place * V);
#pragma unroll
        for (int v = 0; v < V; v++) x[h * V + v] = p.at[v];
    }
}

template <int GEOMETRY, class T>
__device__ __forceinline__ T with_term(T total, T x, T y) {
    if constexpr (GEOMETRY == INNER) return fma_of(x, y, total);
    const T t = x - y;
    if constexpr (GEOMETRY == CITYBLOCK) return total + abs_of(t);
    return fma_of(t, t, total);
}

template <class T, int B>
__device__ __forceinline__ void fetch(const T* rows, int size, int width, int k0,
                                      Pack<T, PackOf<T>::N> (&into)[B / 64]) {
    constexpr int V = PackOf<T>::N;
#pragma unroll
    for (int l = 0; l < B / 64; l++) {
        const int at = threadIdx.x + 256 * l, row = min(at / 4, size - 1), k = k0 + at % 4 * V;
        if (k < width) {
            into[l] = *reinterpret_cast<const Pack<T, V>*>(rows + (long long)row * width + k);
        } else {
#pragma unroll
            for (int v = 0; v < V; v++) into[l].at[v] = T(0);
        }
    }
}

template <class T, int B, int L>
__device__ __forceinline__ void put(T (&room)[4 * PackOf<T>::N][L], const Pack<T, PackOf<T>::N> (&from)[B / 64]) {
    constexpr int V = PackOf<T>::N;
#pragma unroll
    for (int l = 0; l < B / 64; l++) {
        const int at = threadIdx.x + 256 * l;
#pragma unroll
        for (int v = 0; v < V; v++) room[at % 4 * V + v][at / 4] = from[l].at[v];
    }
}

// q[r][c]: the quantity of row place_of(ty, r) and column place_of(tx, c). Rows and columns beyond the sizes repeat the
// last one. Every thread of the block takes part.
template <int GEOMETRY, class T, int B>
__device__ __forceinline__ void measure(const T* left, int rows, const T* right, int columns, int width,
                                        Room<T, B>& room, T (&q)[B / 16][B / 16]) {
    constexpr int M = B / 16, V = PackOf<T>::N, CHUNK = 4 * V;
    const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    Pack<T, V> a[B / 64], b[B / 64];
#pragma unroll
    for (int r = 0; r < M; r++)
#pragma unroll
        for (int c = 0; c < M; c++) q[r][c] = T(0);
    fetch<T, B>(left, rows, width, 0, a);
    fetch<T, B>(right, columns, width, 0, b);
    for (int k0 = 0; k0 < width; k0 += CHUNK) {
        __syncthreads();  // the chunk before has been read
        put<T, B>(room.left, a);
        put<T, B>(room.right, b);
        __syncthreads();
        if (k0 + CHUNK < width) {
            fetch<T, B>(left, rows, width, k0 + CHUNK, a);
            fetch<T, B>(right, columns, width, k0 + CHUNK, b);
        }
        const int steps = min(CHUNK, width - k0);
        for (int k = 0; k < steps; k += 4) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                T x[M], y[M];
                gather(room.left[k + e], ty, x);
                gather(room.right[k + e], tx, y);
#pragma unroll
                for (int r = 0; r < M; r++)
#pragma unroll
                    for (int c = 0; c < M; c++) q[r][c] = with_term<GEOMETRY>(q[r][c], x[r], y[c]);
            }
        }
    }
}

// All quantities of a kernel, one geometry after the other.
template <class K, class T, int B, int PLACE = 0>
__device__ __forceinline__ void measure_all(const Clouds<T>& left, int rows, const Clouds<T>& right, int columns,
                                            int width, Room<T, B>& room, T (&q)[K::Q][B / 16][B / 16]) {
    if constexpr (PLACE < K::Q) {
        constexpr int G = K::geometry(PLACE);
        measure<G, T, B>(left.template of<G>(), rows, right.template of<G>(), columns, width, room, q[PLACE]);
        measure_all<K, T, B, PLACE + 1>(left, rows, right, columns, width, room, q);
    }
}

// Half the derivative of ‖x−y‖² in x, that of |x−y|, that of xy.
template <int GEOMETRY, class T>
__device__ __forceinline__ T pull_of(T x, T y) {
    if constexpr (GEOMETRY == INNER) return y;
    if constexpr (GEOMETRY == CITYBLOCK) return T((x > y) - (x < y));
    return x - y;
}

// into[g][row][:] += Σ_columns q[g] pull_g(row, column), or = unless `more`: sums of 64 columns in T, then float64. A
// thread owns 4 rows and 4 coordinates in 64 of them. Rows of the others come through L1, which all warps share.
template <class K, class T, int L, int PLACE = 0>
__device__ __forceinline__ void pull_all(const Clouds<T>& left, int rows, const Clouds<T>& right, int columns,
                                         int width, T (&room)[64][L], const T (&q)[K::Q][4][4], double* into,
                                         long long step, bool more) {
    if constexpr (PLACE < K::Q) {
        constexpr int G = K::geometry(PLACE), V = PackOf<T>::N;
        const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
        __syncthreads();  // what was there has been read
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int j = 0; j < 4; j++) room[place_of<T>(tx, j)][place_of<T>(ty, i)] = q[PLACE][i][j];
        __syncthreads();
        const T *x = left.template of<G>(), *y = right.template of<G>();
        for (int k = 4 * tx; k < width; k += 64) {
            T mine[4][4], total[4][4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const T* row = x + (long long)min(place_of<T>(ty, i), rows - 1) * width + k;
#pragma unroll
                for (int e = 0; e < 4; e += V) {
                    const Pack<T, V> pack = *reinterpret_cast<const Pack<T, V>*>(row + e);
#pragma unroll
                    for (int v = 0; v < V; v++) mine[i][e + v] = pack.at[v];
                }
#pragma unroll
                for (int e = 0; e < 4; e++) total[i][e] = T(0);
            }
#pragma unroll 4
            for (int j = 0; j < columns; j++) {
                T c[4], other[4];
                gather(room[j], ty, c);
#pragma unroll
                for (int e = 0; e < 4; e += V) {
                    const Pack<T, V> pack = *reinterpret_cast<const Pack<T, V>*>(y + (long long)j * width + k + e);
#pragma unroll
                    for (int v = 0; v < V; v++) other[e + v] = pack.at[v];
                }
#pragma unroll
                for (int i = 0; i < 4; i++)
#pragma unroll
                    for (int e = 0; e < 4; e++)
                        total[i][e] = fma_of(c[i], pull_of<G>(mine[i][e], other[e]), total[i][e]);
            }
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int row = place_of<T>(ty, i);
                if (row >= rows) continue;
                double* to = into + PLACE * step + (long long)row * width + k;
#pragma unroll
                for (int e = 0; e < 4; e++) to[e] = (more ? to[e] : 0.0) + (double)total[i][e];
            }
        }
        pull_all<K, T, L, PLACE + 1>(left, rows, right, columns, width, room, q, into, step, more);
    }
}
