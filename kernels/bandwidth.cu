// Bandwidths from data, and the numbers of a kernel that follow from them, all on the device.
//
// A median is selected by its bits, eight at a time: distances are not negative, so their order is that of unsigned
// integers. Eight passes over M² numbers of one problem by one block; counts are integers, so their order is of no
// matter.
#include "vecmath.cuh"

// out[from + k] = v_k: a few numbers from the host, as arguments of the launch, so that it can be captured.
__global__ void put_numbers(double* out, int from, int count, double v0, double v1, double v2, double v3, double v4,
                            double v5, double v6, double v7) {
    const double v[8] = {v0, v1, v2, v3, v4, v5, v6, v7};
#pragma unroll
    for (int k = 0; k < 8; k++)
        if (k < count && threadIdx.x == 0) out[from + k] = v[k];
}

// The number of rank `rank` (from 0) among `count` numbers >= 0.
__device__ double select(const double* c, long long count, long long rank, unsigned* bins, unsigned long long* found) {
    unsigned long long prefix = 0;
    for (int shift = 56; shift >= 0; shift -= 8) {
        __syncthreads();
        for (int b = threadIdx.x; b < 256; b += blockDim.x) bins[b] = 0u;
        __syncthreads();
        int bin = -1;  // neighbours often share a bin: their count is written once
        unsigned run = 0;
        for (long long i = threadIdx.x; i < count; i += blockDim.x) {
            const unsigned long long key = (unsigned long long)__double_as_longlong(c[i]);
            if (shift < 56 && (key >> (shift + 8)) != (prefix >> (shift + 8))) continue;
            const int mine = (int)(key >> shift & 255ull);
            if (mine != bin && run) atomicAdd(bins + bin, run);
            run = mine == bin ? run + 1 : 1u;
            bin = mine;
        }
        if (run) atomicAdd(bins + bin, run);
        __syncthreads();
        if (threadIdx.x == 0) {
            long long left = rank;
            int b = 0;
            while (b < 255 && left >= bins[b]) left -= bins[b++];
            found[0] = prefix | (unsigned long long)b << shift;
            found[1] = (unsigned long long)left;
        }
        __syncthreads();
        prefix = found[0];
        rank = (long long)found[1];
    }
    return __longlong_as_double((long long)prefix);
}

// sigma[p] from the matrix c (problems, M, M) of squared distances (of distances if not `squares`): the median over the
// pairs, of the positive ones if it is 0, 1 if there is none; then its square where the cost is one (`power`) times
// `unit`, and the root of that for kernels in c/σ² (`root`).
__global__ void __launch_bounds__(1024)
    bandwidth_median(const double* c, double* sigma, int M, int squares, int power, double unit, int root) {
    __shared__ unsigned bins[256];
    __shared__ unsigned long long found[2];
    __shared__ double room[32];
    const long long count = (long long)M * M, pairs = count - M;  // each pair twice, and the diagonal of zeros
    c += blockIdx.x * count;
    double positive = 0.0;
    for (long long i = threadIdx.x; i < count; i += blockDim.x) positive += c[i] > 0.0;
    positive = block_sum(positive, room);
    double middle = 0.0;
    for (int attempt = 0; attempt < 2 && middle == 0.0 && positive > 0.0; attempt++) {
        const long long wanted = (attempt ? (long long)positive : pairs) / 2, skipped = count - 2 * wanted;
        const double low = select(c, count, skipped + 2 * ((wanted - 1) / 2), bins, found);
        const double high = select(c, count, skipped + 2 * (wanted / 2), bins, found);
        middle = squares ? 0.5 * (sqrt(low) + sqrt(high)) : 0.5 * (low + high);
    }
    if (threadIdx.x) return;
    const double cost = power == 2 ? middle * middle : middle;
    sigma[blockIdx.x] = !(positive > 0.0) ? 1.0
                        : root            ? sqrt(unit) * (power == 2 ? middle : sqrt(middle))
                                          : unit * cost;
}

// sigma[p] = s N^(−1/(d+4)), s² the mean over the coordinates of the pool's variance; 1 if s is 0.
// (Six blocks are 40 registers: left alone, NVRTC saves two of fewer around the root's slow path.)
template <class S>
__global__ void __launch_bounds__(256, 6) bandwidth_scott(const S* x, const S* y, double* sigma, int n, int m, int d) {
    __shared__ double room[32];
    const long long p = blockIdx.x, N = (long long)n + m;
    double total = 0.0;
    for (int k = 0; k < d; k++) {
        const double at = (double)widen(x[p * n * d + k]);
        auto value = [&](long long i) {
            return (i < n ? (double)widen(x[(p * n + i) * d + k]) : (double)widen(y[(p * m + i - n) * d + k])) - at;
        };
        double sum = 0.0, square = 0.0;
        for (long long i = threadIdx.x; i < N; i += blockDim.x) sum += value(i);
        const double mean = block_sum(sum, room) / N;
        for (long long i = threadIdx.x; i < N; i += blockDim.x) square += (value(i) - mean) * (value(i) - mean);
        total += block_sum(square, room);
    }
    if (threadIdx.x) return;
    const double found = sqrt(total / ((double)d * (N > 1 ? N - 1 : 1))) * exp2(-log2((double)N) / (d + 4));
    sigma[p] = found == 0.0 ? 1.0 : found;
}

// table[p][k] = base[k] Π_r sigma[r][p]^−exponents[r][k]
__global__ void __launch_bounds__(256)
    bandwidth_numbers(const double* base, const double* exponents, const double* sigma, double* table, int count,
                      int rules, int problems) {
    const long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= (long long)problems * count) return;
    const int p = (int)(at / count), k = (int)(at % count);
    double v = base[k];
    for (int r = 0; r < rules; r++)
        for (int e = (int)exponents[r * count + k]; e > 0; e--) v /= sigma[(long long)r * problems + p];
    table[at] = v;
}
