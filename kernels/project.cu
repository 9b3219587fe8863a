// Products of float64 with thin matrices: samples on directions, and gradients of lines back into space.
//
//     out[b, i, j] = sum_k left[b, i, k] scale[b, k] (right[b, j, k] - centre[b, k])
//
// A block has 64 x 64 of out, a thread 4 x 4 of them; 16 terms at a time lie in shared memory. Everything is at
// strides, so the same text projects points (k: coordinates) and collects gradients (k: directions or points). A centre
// common to both samples keeps the digits of points far from the origin.
//
// Floor: at 64 directions and more the arithmetic, n m k fused multiply-adds; a thread issues 16 of them for 8 reads of
// shared memory (two of 16 bytes would do: half of the floor, computed).
#include "team.cuh"

#define SIDE 64
#define DEPTH 16

// scale and centre may be null. `more`: add to what is there.
template <class L, class R>
__global__ void __launch_bounds__(256)
    products(const L* __restrict__ left, long long l_batch, long long l_line, long long l_term,
             const R* __restrict__ right, long long r_batch, long long r_line, long long r_term,
             const double* __restrict__ scale, long long s_batch, const R* __restrict__ centre, long long c_batch,
             long long c_term, int lines, int columns, int terms, int more, double* __restrict__ out) {
    __shared__ double a[DEPTH][SIDE + 1], c[DEPTH][SIDE + 1];
    const int across = (columns + SIDE - 1) / SIDE;
    const long long b = blockIdx.y;
    const int i0 = (int)(blockIdx.x / across) * SIDE, j0 = (int)(blockIdx.x % across) * SIDE;
    const int t = (int)threadIdx.x, ti = t / 16, tj = t % 16;
    left += b * l_batch;
    right += b * r_batch;
    double sum[4][4];
#pragma unroll
    for (int u = 0; u < 4; ++u)
#pragma unroll
        for (int v = 0; v < 4; ++v) sum[u][v] = 0.0;
    for (int k0 = 0; k0 < terms; k0 += DEPTH) {
        // the faster index in memory runs along the threads
#pragma unroll
        for (int e = t; e < SIDE * DEPTH; e += 256) {
            const int i = l_term <= l_line ? e / DEPTH : e % SIDE, k = l_term <= l_line ? e % DEPTH : e / SIDE;
            const bool there = i0 + i < lines && k0 + k < terms;
            a[k][i] = there ? (double)left[(i0 + i) * l_line + (k0 + k) * l_term] *
                                  (scale ? scale[b * s_batch + k0 + k] : 1.0)
                            : 0.0;
        }
#pragma unroll
        for (int e = t; e < SIDE * DEPTH; e += 256) {
            const int j = r_term <= r_line ? e / DEPTH : e % SIDE, k = r_term <= r_line ? e % DEPTH : e / SIDE;
            const bool there = j0 + j < columns && k0 + k < terms;
            const double middle = there && centre ? (double)centre[b * c_batch + (k0 + k) * c_term] : 0.0;
            c[k][j] = there ? (double)right[(j0 + j) * r_line + (k0 + k) * r_term] - middle : 0.0;
        }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < DEPTH; ++k) {
            double x[4], y[4];
#pragma unroll
            for (int u = 0; u < 4; ++u) x[u] = a[k][ti + 16 * u];
#pragma unroll
            for (int v = 0; v < 4; ++v) y[v] = c[k][tj + 16 * v];
#pragma unroll
            for (int u = 0; u < 4; ++u)
#pragma unroll
                for (int v = 0; v < 4; ++v) sum[u][v] = fma(x[u], y[v], sum[u][v]);
        }
        __syncthreads();
    }
#pragma unroll
    for (int u = 0; u < 4; ++u)
#pragma unroll
        for (int v = 0; v < 4; ++v) {
            const int i = i0 + ti + 16 * u, j = j0 + tj + 16 * v;
            if (i < lines && j < columns) {
                double* to = out + (b * lines + i) * columns + j;
                *to = more ? *to + sum[u][v] : sum[u][v];
            }
        }
}

// Of distances (batch, count) of directions: value = (mean of their powers p)^(1/p), its standard error by the choice
// of directions, and shares[b, l] = d value / d distance_l.
__global__ void __launch_bounds__(128)
    power_mean(const double* __restrict__ distances, int count, double p, double* __restrict__ value,
               double* __restrict__ error, double* __restrict__ shares) {
    __shared__ Pair64 room[32];
    __shared__ double known[2];
    const long long b = blockIdx.x;
    const int t = (int)threadIdx.x;
    distances += b * count;
    const Team<128> team(nullptr);
    double most = 0.0, poison = 0.0;
    for (int k = t; k < count; k += 128) {
        most = fmax(most, distances[k]);
        if (!(distances[k] < infinity())) poison = distances[k];
    }
    for (int o = 16; o; o >>= 1) {
        most = fmax(most, __shfl_xor_sync(FULL_WARP, most, o));
        poison += __shfl_xor_sync(FULL_WARP, poison, o);
    }
    if (t % 32 == 0) room[t / 32] = {most, poison};
    __syncthreads();
    most = fmax(fmax(room[0].high, room[1].high), fmax(room[2].high, room[3].high));
    poison = (room[0].low + room[1].low) + (room[2].low + room[3].low);
    const double unit = most > 0.0 && most < infinity() ? most : 1.0;
    Pair64 sum = {0.0, 0.0};
    for (int k = t; k < count; k += 128) sum = plus(sum, pow(distances[k] / unit, p));
    sum = team.sum(sum, room);
    if (t == 0) known[0] = sum.high / count;
    __syncthreads();
    const double mean = known[0], root = pow(mean, 1.0 / p);
    sum = {0.0, 0.0};
    for (int k = t; k < count; k += 128) {
        const double off = pow(distances[k] / unit, p) - mean;
        sum = plus(sum, off * off);
    }
    sum = team.sum(sum, room);
    if (t == 0) {
        value[b] = unit * root + poison;
        const double spread = count > 1 ? sqrt(sum.high / (count - 1)) / sqrt((double)count) : 0.0;
        if (error) error[b] = mean > 0.0 ? unit * root * spread / (p * mean) + poison : poison;
    }
    if (shares) {
        const double factor = mean > 0.0 ? pow(root, 1.0 - p) / count : 0.0;
        for (int k = t; k < count; k += 128)
            shares[b * count + k] = factor > 0.0 ? pow(distances[k] / unit, p - 1.0) * factor + poison : poison;
    }
}

// out[o, i] = sum over k of x[o, k, i] (times scale[o, k]), in order.
__global__ void __launch_bounds__(256)
    sums_over(const double* __restrict__ x, const double* __restrict__ scale, long long outer, int count,
              long long inner, int more, double* __restrict__ out) {
    const long long e = (long long)blockIdx.x * 256 + threadIdx.x;
    if (e >= outer * inner) return;
    const long long o = e / inner, i = e % inner;
    double sum = more ? out[e] : 0.0;
    for (int k = 0; k < count; ++k) sum = fma(x[(o * count + k) * inner + i], scale ? scale[o * count + k] : 1.0, sum);
    out[e] = sum;
}
