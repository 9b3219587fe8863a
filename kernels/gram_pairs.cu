// The estimator of disjoint pairs: Σ_t k(x1, x2) + k(y1, y2) − k(x1, y2) − k(x2, y1) over (x1, x2) = (x_2t, x_2t+1),
// Gretton et al. (2012), §6, and its pulls. One warp per t; every point belongs to one of them.
//
// Floor: one read of the points, one write of the pulls; it moves at it from d = 32 on.
#include "gram_tiles.cuh"

// The quantities of two rows, the same in every lane.
template <class K, class T, int PLACE = 0>
__device__ __forceinline__ void quantities(const Clouds<T>& cloud, long long i, long long j, int width,
                                           double (&q)[K::Q]) {
    if constexpr (PLACE < K::Q) {
        constexpr int G = K::geometry(PLACE);
        const T *x = cloud.template of<G>() + i * width, *y = cloud.template of<G>() + j * width;
        double total = 0.0;
        for (int k = threadIdx.x % WARP; k < width; k += WARP) total = with_term<G>(total, (double)x[k], (double)y[k]);
        q[PLACE] = warp_sum(total);
        quantities<K, T, PLACE + 1>(cloud, i, j, width, q);
    }
}

template <class K, class T, int PLACE = 0>
__device__ __forceinline__ void put_pulls(const Clouds<T>& cloud, const long long (&row)[4], int width,
                                          const double (&slope)[4][K::Q], double* into, long long step) {
    if constexpr (PLACE < K::Q) {
        constexpr int G = K::geometry(PLACE);
        const double a = slope[0][PLACE], b = slope[1][PLACE], c = slope[2][PLACE], e = slope[3][PLACE];
        for (int k = threadIdx.x % WARP; k < width; k += WARP) {
            double z[4];
#pragma unroll
            for (int r = 0; r < 4; r++) z[r] = (double)cloud.template of<G>()[row[r] * width + k];
            double* to = into + PLACE * step + k;
            to[row[0] * width] = a * pull_of<G>(z[0], z[1]) + c * pull_of<G>(z[0], z[3]);
            to[row[1] * width] = a * pull_of<G>(z[1], z[0]) + e * pull_of<G>(z[1], z[2]);
            to[row[2] * width] = b * pull_of<G>(z[2], z[3]) + e * pull_of<G>(z[2], z[1]);
            to[row[3] * width] = b * pull_of<G>(z[3], z[2]) + c * pull_of<G>(z[3], z[0]);
        }
        put_pulls<K, T, PLACE + 1>(cloud, row, width, slope, into, step);
    }
}

// found[p][t]; pulls[g][p][i][:], to be zero for points of no pair, times `factor`; null if not wanted.
template <class T, class K>
__global__ void __launch_bounds__(256)
    gram_linear(const T* plain, const T* shifted, const T* unit, const double* numbers, int per, double* found,
                double* pulls, double factor, int n, int width, int count, long long problems) {
    const long long at = (long long)blockIdx.x * 8 + threadIdx.x / WARP;
    if (at >= problems * count) return;
    const long long p = at / count, t = at % count, N = 2ll * n;
    const Clouds<T> cloud{plain, shifted, unit};
    const typename K::template Numbers<double> number(numbers + p * per);
    const long long row[4] = {p * N + 2 * t, p * N + 2 * t + 1, p * N + n + 2 * t, p * N + n + 2 * t + 1};
    const int left[4] = {0, 2, 0, 1}, right[4] = {1, 3, 3, 2};
    double slopes[4][K::Q], total = 0.0;
#pragma unroll
    for (int c = 0; c < 4; c++) {
        double q[K::Q], value;
        quantities<K>(cloud, row[left[c]], row[right[c]], width, q);
        K::of(number.c, q, value, slopes[c]);
        total += c < 2 ? value : -value;
#pragma unroll
        for (int g = 0; g < K::Q; g++) slopes[c][g] *= c < 2 ? factor : -factor;
    }
    if (threadIdx.x % WARP == 0) found[at] = total;
    if (pulls) put_pulls<K>(cloud, row, width, slopes, pulls, problems * N * width);
}
