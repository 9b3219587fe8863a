// What surrounds exact transport between points: costs of batches, surveys of matrices and clouds, gradients of matched
// pairs.
//
// Floor: each is one pass over its input and one write of its output; costs of n x m points also d operations a pair.
#include "pair_costs.cuh"

// stats (blocks, 4) of a matrix: least, largest finite |c|, whether some are NaN, whether a finite one is not a whole
// number below 2^52.
template <class T>
__global__ void __launch_bounds__(256) survey(const T* __restrict__ x, long long count, double* __restrict__ stats) {
    __shared__ double room[8][4];
    double least = infinity(), largest = 0.0, odd = 0.0, part = 0.0;
    for (long long e = (long long)blockIdx.x * 256 + threadIdx.x; e < count; e += (long long)gridDim.x * 256) {
        const double c = (double)x[e], size = fabs(c);
        odd = c == c ? odd : 1.0;
        least = c < least ? c : least;
        if (size < infinity()) {
            largest = fmax(largest, size);
            part = size < 4503599627370496.0 && rint(c) == c ? part : 1.0;
        }
    }
    for (int o = 16; o; o >>= 1) {
        least = fmin(least, __shfl_xor_sync(FULL_WARP, least, o));
        largest = fmax(largest, __shfl_xor_sync(FULL_WARP, largest, o));
        odd = fmax(odd, __shfl_xor_sync(FULL_WARP, odd, o));
        part = fmax(part, __shfl_xor_sync(FULL_WARP, part, o));
    }
    const int warp = (int)threadIdx.x / 32;
    if (threadIdx.x % 32 == 0) {
        room[warp][0] = least;
        room[warp][1] = largest;
        room[warp][2] = odd;
        room[warp][3] = part;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int w = 1; w < 8; ++w) {
            least = fmin(least, room[w][0]);
            largest = fmax(largest, room[w][1]);
            odd = fmax(odd, room[w][2]);
            part = fmax(part, room[w][3]);
        }
        double* out = stats + 4ll * blockIdx.x;
        out[0] = least;
        out[1] = largest;
        out[2] = odd;
        out[3] = part;
    }
}

// y = x scale of points (count, d) at any strides; `unit`: brought to length sqrt(1/2) instead. Bits of `status`: 1 for
// numbers that are not finite, 2 for points of length 0, 4 for numbers that are not whole.
template <class T>
__global__ void __launch_bounds__(256, 5)
    placed(const T* __restrict__ x, long long by_point, long long by_coordinate, long long count, int d, double scale,
           int unit, double* __restrict__ y, int* __restrict__ status) {
    const long long i = (long long)blockIdx.x * 256 + threadIdx.x;
    if (i >= count) return;
    const T* from = x + i * by_point;
    double top = 0.0, sum = 0.0;
    bool bad = false, part = false;
    for (int k = 0; k < d; ++k) {
        const double c = (double)from[k * by_coordinate];
        bad |= !(fabs(c) < infinity());
        part |= rint(c) != c;
        top = fmax(top, fabs(c));
    }
    double divisor = 1.0;
    if (unit) {
        const double safe = top > 0.0 ? top : 1.0;
        for (int k = 0; k < d; ++k) {
            const double c = (double)from[k * by_coordinate] / safe;
            sum += c * c;
        }
        divisor = safe * sqrt(sum);
        scale = 0.70710678118654752440;
    }
    for (int k = 0; k < d; ++k) y[i * d + k] = (double)from[k * by_coordinate] / divisor * scale;
    if (bad) atomicOr(status, 1);
    if (unit && !(top > 0.0)) atomicOr(status, 2);
    if (part) atomicOr(status, 4);
}

// C[b, i, j] of points x (batch or 1, n, d) and the transpose of y, (batch or 1, d, m).
template <int METRIC>
__global__ void __launch_bounds__(256)
    cost_blocks(const double* __restrict__ x, long long x_batch, const double* __restrict__ y, long long y_batch, int n,
                int m, int d, double power, double* __restrict__ out) {
    const int j = (int)(blockIdx.x * 256 + threadIdx.x), i = (int)blockIdx.y;
    const long long b = blockIdx.z;
    if (j < m) out[(b * n + i) * m + j] = OfPoints<METRIC>(x + b * x_batch, y + b * y_batch, d, power, m).row(i)(j);
}

// values[b] = (cost / n)^(1/p) unit of matched problems, cost from bounds (batch, 6); rates[b] = its derivative by a
// pair's cost, 0 at 0.
__global__ void __launch_bounds__(128)
    matched_values(const double* __restrict__ bounds, int batch, int n, double p, double unit,
                   double* __restrict__ values, double* __restrict__ rates) {
    const int b = (int)(blockIdx.x * 128 + threadIdx.x);
    if (b >= batch) return;
    const double cost = (bounds[6ll * b] + bounds[6ll * b + 1]) / n;
    const double least = cost == cost ? fmax(cost, 0.0) : cost, root = p == 1.0   ? least
                                                                       : p == 2.0 ? sqrt(least)
                                                                                  : pow(least, 1.0 / p);
    values[b] = root * unit;
    rates[b] = least > 0.0 ? root / (p * least) * unit / n : cost == cost ? 0.0 : cost;
}

// Gradients of sum over pairs of rate times cost, by points x and y of pairs (i, cols[i]): a warp for each pair. given:
// the points before they were brought to one length (for cosines), else null. rate: of each problem; `each`: of each
// row.
template <int METRIC>
__global__ void __launch_bounds__(256)
    pair_pulls(const double* __restrict__ x, long long x_batch, const double* __restrict__ y, long long y_batch,
               int batch, int n, int m, int d, double power, const long long* __restrict__ cols,
               const double* __restrict__ rate, int each, const double* __restrict__ x_given,
               const double* __restrict__ y_given, double* __restrict__ by_x, double* __restrict__ by_y) {
    const long long pair = ((long long)blockIdx.x * 256 + threadIdx.x) / 32;
    const int lane = (int)threadIdx.x % 32;
    if (pair >= (long long)batch * n) return;
    const long long b = pair / n, i = pair % n, j = cols[pair];
    if (j < 0) return;
    const double* from = x + b * x_batch + i * d;
    const double* to = y + b * y_batch + j * d;
    double total = 0.0, top = -1.0;
    int at = d;
    for (int k = lane; k < d; k += 32) {
        const double apart = fabs(from[k] - to[k]);
        if (METRIC == 0) total = total + apart * apart;
        if (METRIC == 1) total = total + apart;
        if (METRIC == 2 && apart > top) {
            top = apart;
            at = k;
        }
    }
    for (int o = 16; o; o >>= 1) {
        total += __shfl_xor_sync(FULL_WARP, total, o);
        const double other = __shfl_xor_sync(FULL_WARP, top, o);
        const int where = __shfl_xor_sync(FULL_WARP, at, o);
        if (other > top || (other == top && where < at)) {
            top = other;
            at = where;
        }
    }
    const double r = METRIC == 0 ? sqrt(total) : METRIC == 1 ? total : top;
    const double w = rate[each ? pair : b];
    double factor = w;
    if (METRIC == 0) factor = power == 2.0 ? 2.0 * w : r > 0.0 ? w * power * pow(r, power - 2.0) : 0.0;
    if (METRIC != 0) factor = power == 1.0 ? w : r > 0.0 ? w * power * pow(r, power - 1.0) : 0.0;
    const double* of_x = x_given ? x_given + b * x_batch + i * d : nullptr;
    const double* of_y = y_given ? y_given + b * y_batch + j * d : nullptr;
    double norm_x = 0.0, norm_y = 0.0, along_x = 0.0, along_y = 0.0;
    if (x_given) {  // the tangential part, over sqrt(2) times the length; |from| = |to| = sqrt(1/2)
        double big_x = 0.0, big_y = 0.0;
        for (int k = lane; k < d; k += 32) {
            const double pulled = factor * (from[k] - to[k]);
            along_x += pulled * from[k];
            along_y -= pulled * to[k];
            big_x = fmax(big_x, fabs(of_x[k]));
            big_y = fmax(big_y, fabs(of_y[k]));
        }
        for (int o = 16; o; o >>= 1) {
            along_x += __shfl_xor_sync(FULL_WARP, along_x, o);
            along_y += __shfl_xor_sync(FULL_WARP, along_y, o);
            big_x = fmax(big_x, __shfl_xor_sync(FULL_WARP, big_x, o));
            big_y = fmax(big_y, __shfl_xor_sync(FULL_WARP, big_y, o));
        }
        for (int k = lane; k < d; k += 32) {
            norm_x += of_x[k] / big_x * (of_x[k] / big_x);
            norm_y += of_y[k] / big_y * (of_y[k] / big_y);
        }
        for (int o = 16; o; o >>= 1) {
            norm_x += __shfl_xor_sync(FULL_WARP, norm_x, o);
            norm_y += __shfl_xor_sync(FULL_WARP, norm_y, o);
        }
        norm_x = big_x * sqrt(2.0 * norm_x);
        norm_y = big_y * sqrt(2.0 * norm_y);
    }
    for (int k = lane; k < d; k += 32) {
        const double apart = from[k] - to[k];
        double pulled;
        if (METRIC == 0) pulled = factor * apart;
        if (METRIC == 1) pulled = factor * ((double)(apart > 0.0) - (double)(apart < 0.0));
        if (METRIC == 2) pulled = k == at ? factor * ((double)(apart > 0.0) - (double)(apart < 0.0)) : 0.0;
        by_x[(b * n + i) * d + k] = x_given ? (pulled - 2.0 * from[k] * along_x) / norm_x : pulled;
        by_y[(b * m + j) * d + k] = x_given ? (-pulled - 2.0 * to[k] * along_y) / norm_y : -pulled;
    }
}

// out[to[s], c] += mass[s] v[from[s], c] where each of `to` occurs once.
__global__ void __launch_bounds__(256)
    carried(const double* __restrict__ v, const long long* __restrict__ to, const long long* __restrict__ from,
            const double* __restrict__ mass, long long pairs, int columns, double* __restrict__ out) {
    const long long e = (long long)blockIdx.x * 256 + threadIdx.x;
    if (e < pairs * columns)
        out[to[e / columns] * columns + e % columns] = mass[e / columns] * v[from[e / columns] * columns + e % columns];
}
