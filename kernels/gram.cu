// Sums of a kernel over all pairs of points: quadratic forms Σ w_i w_j k(z_i, z_j) of a pool z = [x; y], rows
// Σ_j w_j k(t_i, z_j), and the pulls Σ_j c_ij ∂g(t_i, z_j)/∂t_i that gradients are made of, K never stored.
//
// Sources: Gretton et al. (2012), JMLR 13; tiling as in gram.py. Values take every pair once, in tiles above the
// diagonal. Rows and pulls sweep all columns for a block of rows: twice the distances (3 d operations per pair and side
// instead of 2 d), but every sum has one owner, so there are no atomics and no second N x d workspace for each block.
// Sums of four are in the float of the tile, then float64; pulls of 64 columns likewise.
//
// Floor per unordered pair, N²/2 of them, operations of one lane: values 2 d and the kernel's exponentials; rows and
// pulls 8 d and twice the exponentials. Computed distance to it: `measure` issues 1 vector load per 8 operations
// (values, float, B = 128: per 32), the epilogue some 6 per pair; at d = 64 that is 0.9 of the floor for values, 0.8
// for pulls. Memory traffic is d/B words per pair. Points of up to 16 coordinates: gram_near.cu.
#include "gram_tiles.cuh"

// The kernel of one pair of a tile, and its slopes in the quantities.
template <class K, class T, int M>
__device__ __forceinline__ void evaluate(const typename K::template Numbers<T>& number, const T (&q)[K::Q][M][M], int i,
                                         int j, T& value, T (&slopes)[K::Q]) {
    T of[K::Q];
#pragma unroll
    for (int g = 0; g < K::Q; g++) of[g] = q[g][i][j];
    K::of(number.c, of, value, slopes);
}

// totals[p][r][s] = sums over i < j of w_i w_j k(z_i, z_j), s = 0, 1, 2 for pairs of x, of x and y, of y, over the
// `run` tiles of block r. `only`: problems whose number there is 0 are left alone. `numbers` of the kernel, `per` per
// problem.
template <class T, class K, int B, bool WEIGHTED>
__global__ void __launch_bounds__(256)
    gram_values(const T* plain, const T* shifted, const T* unit, const double* numbers, int per, const double* weights,
                const int* only, double* totals, int n, int N, int width, long long tiles, int run) {
    constexpr int M = B / 16;
    __shared__ __align__(16) Room<T, B> room;
    __shared__ double sums[32];
    const long long runs = (tiles + run - 1) / run, p = blockIdx.x / runs, r = blockIdx.x % runs;
    if (only && !only[p]) return;
    const Blocks<B> blocks{n, N};
    const Clouds<T> pool = Clouds<T>{plain, shifted, unit}.from(p * N, width);
    const typename K::template Numbers<T> number(numbers + p * per);
    if (WEIGHTED) weights += p * N;
    const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    double found[3] = {0.0, 0.0, 0.0};
    int a, b;
    pair_of(r * run, blocks.count(), a, b);
    for (long long t = r * run; t < min(tiles, (r + 1) * run); t++) {
        const int i0 = blocks.start(a), j0 = blocks.start(b), rows = blocks.size(a), columns = blocks.size(b);
        T q[K::Q][M][M];
        measure_all<K, T, B>(pool.from(i0, width), rows, pool.from(j0, width), columns, width, room, q);
        double total = 0.0;
#pragma unroll
        for (int i = 0; i < M; i++) {
            const int row = place_of<T>(ty, i);
            double mine = 0.0;
            T four = T(0);
#pragma unroll
            for (int j = 0; j < M; j++) {
                const int column = place_of<T>(tx, j);
                T value, slopes[K::Q];
                evaluate<K>(number, q, i, j, value, slopes);
                const bool counts = row < rows && column < columns && (a != b || column > row);
                if constexpr (WEIGHTED) {
                    mine += counts ? weights[j0 + column] * (double)value : 0.0;
                } else {
                    four += counts ? value : T(0);
                    if (j % 4 == 3) {
                        mine += (double)four;
                        four = T(0);
                    }
                }
            }
            total += WEIGHTED ? (row < rows ? weights[i0 + row] * mine : 0.0) : mine;
        }
        const int s = blocks.side(a) + blocks.side(b);
#pragma unroll
        for (int k = 0; k < 3; k++) found[k] += k == s ? total : 0.0;
        if (++b == blocks.count()) b = ++a;
    }
#pragma unroll
    for (int k = 0; k < 3; k++) {
        const double whole = block_sum(found[k], sums);
        if (threadIdx.x == 0) totals[(p * runs + r) * 3 + k] = whole;
    }
}

// For the rows t_i of a block and a share `s` of the columns z_j, i != j if `same`:
//   sums[p][s][side][i] = Σ_j w_j k(t_i, z_j) over the columns of a side (the first n, the others)
//   pulls[g][p][s][i][:] = Σ_j c_ij pull_g(t_i, z_j), c_ij = factors[p][sides] w_i w_j ∂k/∂g, if PULL
template <class T, class K, bool WEIGHTED, bool PULL>
__global__ void __launch_bounds__(256, sizeof(T) == 4 && K::Q == 1 ? 2 : 1)
    gram_rows(const T* plain, const T* shifted, const T* unit, const T* right_plain, const T* right_shifted,
              const T* right_unit, const double* numbers, int per, const double* weights, const double* factors,
              const int* only, double* sums, double* pulls, int split, int L, int n, int N, int width, int same,
              int shares, int problems) {
    constexpr int B = 64, M = 4, V = PackOf<T>::N;
    __shared__ __align__(16) Room<T, B> room;
    __shared__ __align__(16) T slope_of[PULL ? B : 1][PULL ? B + V : V];
    const Blocks<B> lefts{split, L}, rights{n, N};
    const int a = blockIdx.x % lefts.count(), s = blockIdx.x / lefts.count() % shares;
    const long long p = blockIdx.x / ((long long)lefts.count() * shares);
    if (only && !only[p]) return;
    const int i0 = lefts.start(a), rows = lefts.size(a), tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    const Clouds<T> left = Clouds<T>{plain, shifted, unit}.from(p * L + i0, width);
    const Clouds<T> pool = Clouds<T>{right_plain, right_shifted, right_unit}.from(p * N, width);
    const typename K::template Numbers<T> number(numbers + p * per);
    if (WEIGHTED) weights += p * N;
    const int first = (int)((long long)rights.count() * s / shares);
    const int last = (int)((long long)rights.count() * (s + 1) / shares);
    double mine[2][M] = {};
    for (int b = first; b < last; b++) {
        const int j0 = rights.start(b), columns = rights.size(b), side = rights.side(b);
        const Clouds<T> others = pool.from(j0, width);
        T q[K::Q][M][M];
        measure_all<K, T, B>(left, rows, others, columns, width, room, q);
        const T factor = PULL ? T(factors[p * 8 + lefts.side(a) + side]) : T(0);
#pragma unroll
        for (int i = 0; i < M; i++) {
            const int row = place_of<T>(ty, i);
            double total = 0.0;
            T four = T(0);
#pragma unroll
            for (int j = 0; j < M; j++) {
                const int column = place_of<T>(tx, j);
                T value, slopes[K::Q];
                evaluate<K>(number, q, i, j, value, slopes);
                const bool counts = row < rows && column < columns && !(same && i0 + row == j0 + column);
                const double weight = WEIGHTED && counts ? weights[j0 + column] : 0.0;
                if constexpr (WEIGHTED)
                    total += counts ? weight * (double)value : 0.0;
                else
                    four += counts ? value : T(0);
                if constexpr (PULL) {
                    const T c = !counts ? T(0) : WEIGHTED ? factor * T(weights[i0 + row]) * T(weight) : factor;
#pragma unroll
                    for (int g = 0; g < K::Q; g++) q[g][i][j] = counts ? c * slopes[g] : T(0);
                }
            }
            if constexpr (!WEIGHTED) total = (double)four;
#pragma unroll
            for (int k = 0; k < 2; k++) mine[k][i] += k == side ? total : 0.0;
        }
        if constexpr (PULL) {
            const long long at = (p * shares + s) * L + i0, step = (long long)problems * shares * L * width;
            pull_all<K>(left, rows, others, columns, width, slope_of, q, pulls + at * width, step, b > first);
        }
    }
#pragma unroll
    for (int k = 0; k < 2; k++)
#pragma unroll
        for (int i = 0; i < M; i++) {
            const double whole = warp_sum(mine[k][i], ALL, 16);
            const int row = place_of<T>(ty, i);
            if (tx == 0 && row < rows) sums[((p * shares + s) * 2 + k) * L + i0 + row] = whole;
        }
}

// diagonal[p][0][i] = k(z_i, z_i), diagonal[p][1][i] its slope in ⟨z_i, z_i⟩; one warp per point.
template <class T, class K>
__global__ void __launch_bounds__(256) gram_diagonal(const T* shifted, const double* numbers, int per, const int* only,
                                                     double* diagonal, int N, int width, long long points) {
    const long long at = (long long)blockIdx.x * 8 + threadIdx.x / WARP;
    if (at >= points) return;
    const long long p = at / N, i = at % N;
    if (only && !only[p]) return;
    double square = 0.0;
    if constexpr (K::has(INNER)) {
        const T* z = shifted + at * width;
        for (int k = threadIdx.x % WARP; k < width; k += WARP) square += (double)z[k] * (double)z[k];
        square = warp_sum(square);
    }
    if (threadIdx.x % WARP) return;
    const typename K::template Numbers<double> number(numbers + p * per);
    double q[K::Q], value, slopes[K::Q], slope = 0.0;
#pragma unroll
    for (int g = 0; g < K::Q; g++) q[g] = K::geometry(g) == INNER ? square : 0.0;
    K::of(number.c, q, value, slopes);
#pragma unroll
    for (int g = 0; g < K::Q; g++)
        if (K::geometry(g) == INNER) slope = slopes[g];
    diagonal[2 * p * N + i] = value;
    diagonal[(2 * p + 1) * N + i] = slope;
}

// out[p][i][j] = k(x_i, y_j); where x is y the tiles on the diagonal are symmetric by construction, the others too.
template <class T, class K, class Out>
__global__ void __launch_bounds__(256)
    gram_matrix(const T* plain, const T* shifted, const T* unit, const T* right_plain, const T* right_shifted,
                const T* right_unit, const double* numbers, int per, Out* out, int n, int m, int width) {
    constexpr int B = 64, M = 4;
    __shared__ __align__(16) Room<T, B> room;
    const int down = (n + B - 1) / B, across = (m + B - 1) / B;
    const int i0 = blockIdx.x / across % down * B, j0 = blockIdx.x % across * B;
    const long long p = blockIdx.x / ((long long)down * across);
    const int rows = min(B, n - i0), columns = min(B, m - j0), tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    const Clouds<T> left = Clouds<T>{plain, shifted, unit}.from(p * n + i0, width);
    const Clouds<T> right = Clouds<T>{right_plain, right_shifted, right_unit}.from(p * m + j0, width);
    const typename K::template Numbers<T> number(numbers + p * per);
    T q[K::Q][M][M];
    measure_all<K, T, B>(left, rows, right, columns, width, room, q);
#pragma unroll
    for (int i = 0; i < M; i++)
#pragma unroll
        for (int j = 0; j < M; j++) {
            const int row = place_of<T>(ty, i), column = place_of<T>(tx, j);
            T value, slopes[K::Q];
            evaluate<K>(number, q, i, j, value, slopes);
            if (row < rows && column < columns) out[(p * n + i0 + row) * m + j0 + column] = cast<Out>(value);
        }
}
