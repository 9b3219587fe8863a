// Soft-min over all pairs of points of many coordinates, squared Euclidean costs, float32, products on tensor cores.
//
//   h_i = k |x_i|^2 - p - log2 sum_j 2^(w_j + 2 k x_i.y_j),   w_j = v_j - k |y_j|^2 - p,   p = max_j v_j - k |y_j|^2
//
// in base 2, k = log2(e) / epsilon, of points as the split halves hold them, so that all terms are of the same points.
// Squares, w and p are made in float64; an exponent is rounded by some 2^-22 of 2 k |x||y| (2^-11 where not EXACT).
//
// Floor of a pair at d = 64, cycles of a processor (sm_90, dense rates of the instructions):
//   6 d flops at 4096 a cycle 0.094 (fast 0.031), at the 2/3 of it that mma.sync reaches 0.14 (0.047)
//   12 bytes of shared memory (6) at 128 a cycle 0.094 (0.047); an exponential at 16 a cycle 0.0625
//   5 issue slots (reference, exponent, exponential, sum, a share of the rest) of 128 a cycle 0.04
// The exact sweep is bound by products, not by the special-function unit: no exponential is worth a polynomial, which
// would take 11 slots. Computed distance: 0.14 where all is hidden behind products (blocks of a processor are in
// different phases), 0.20 where exponentials are not: 67 to 47 % of the rate of dense products.
#include "sweep.cuh"
#include "tensor.cuh"

// peaks[problem, chunk] = max of v_j - k |y_j|^2 over its 1024 columns.
__global__ void __launch_bounds__(256)
    column_peaks(const double* squares, long long step, int m, const double* scale, const double* v, const int* idle,
                 double* peaks) {
    __shared__ double room[32];
    const int chunks = (m + 1023) / 1024, problem = blockIdx.x / chunks, chunk = blockIdx.x % chunks;
    if (idle != nullptr && idle[problem] != 0) return;
    double most = -INFINITY;
    for (int j = chunk * 1024 + threadIdx.x; j < min(m, (chunk + 1) * 1024); j += 256)
        most = fmax(most, v[(long long)problem * m + j] - scale[problem] * squares[problem * step + j]);
    most = warp_max(most);
    if (threadIdx.x % WARP == 0) room[threadIdx.x / WARP] = most;
    __syncthreads();
    if (threadIdx.x) return;
    for (int k = 1; k < 8; k++) most = fmax(most, room[k]);
    peaks[blockIdx.x] = most;
}

// w (problem, m) and p (problem): 0 where no column has mass.
__global__ void __launch_bounds__(256)
    column_exponents(const double* squares, long long step, int m, const double* scale, const double* v,
                     const int* idle, const double* peaks, float* w, double* p) {
    const int chunks = (m + 1023) / 1024, problem = blockIdx.x / chunks, chunk = blockIdx.x % chunks;
    if (idle != nullptr && idle[problem] != 0) return;
    double most = -INFINITY;
    for (int k = 0; k < chunks; k++) most = fmax(most, peaks[(long long)problem * chunks + k]);
    if (!(fabs(most) < INFINITY)) most = 0.0;
    if (chunk == 0 && threadIdx.x == 0) p[problem] = most;
    for (int j = chunk * 1024 + threadIdx.x; j < min(m, (chunk + 1) * 1024); j += 256) {
        const long long at = (long long)problem * m + j;
        w[at] = (float)(v[at] - scale[problem] * squares[problem * step + j] - most);
    }
}

// largest[problem] = the largest of n squares.
__global__ void __launch_bounds__(256) largest_square(const double* squares, long long step, int n, double* largest) {
    __shared__ double room[32];
    double most = 0.0;
    for (int i = threadIdx.x; i < n; i += 256) most = fmax(most, squares[blockIdx.x * step + i]);
    most = warp_max(most);
    if (threadIdx.x % WARP == 0) room[threadIdx.x / WARP] = most;
    __syncthreads();
    if (threadIdx.x) return;
    for (int k = 1; k < 8; k++) most = fmax(most, room[k]);
    largest[blockIdx.x] = most;
}

// Log-sum-exps of a thread's rows. Their references are exponents met before: sums of a tile are looked at once, and
// only where one is far above its reference all four move up and the tile is summed again.
struct TensorLogSum {
    static constexpr bool TILES = true;
    static constexpr int COLUMNS = 1;
    static constexpr float NOTHING = -1e30f, MOST = 4096.0f;
    const float* w;
    float factor;
    LogSum<float> found[4];

    __device__ __forceinline__ TensorLogSum(const float* w_, float factor_) : w(w_), factor(factor_) {
#pragma unroll
        for (int slot = 0; slot < 4; slot++) found[slot].top = NOTHING;
    }

    __device__ __forceinline__ const float* column(int) const { return w; }

    // use(slot, w_j, x_i.y_j) of all pairs of the thread
    template <int NT, class Use>
    static __device__ __forceinline__ void each(int count, const float (&dots)[2][NT][4], const float* now, Use use) {
        const int quad = threadIdx.x & 3;
#pragma unroll
        for (int nt = 0; nt < NT; nt++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const int at = nt * 8 + quad * 2 + e;
                const float to = at < count ? now[at] : -INFINITY;
#pragma unroll
                for (int slot = 0; slot < 4; slot++) use(slot, to, dots[slot >> 1][nt][(slot & 1) * 2 + e]);
            }
    }

    template <int NT>
    __device__ __forceinline__ void tile(int, int count, const float (&dots)[2][NT][4], const float* now) {
        float part[4];
#pragma unroll 1
        for (bool raised = false;; raised = true) {
#pragma unroll
            for (int slot = 0; slot < 4; slot++) part[slot] = 0.0f;
            each(count, dots, now, [&](int slot, float to, float dot) {
                part[slot] += exp2_fast(fmaf(factor, dot, to - found[slot].top));
            });
            const bool fits = part[0] < MOST && part[1] < MOST && part[2] < MOST && part[3] < MOST;
            if (fits || raised) break;
            float high[4];
#pragma unroll
            for (int slot = 0; slot < 4; slot++) high[slot] = found[slot].top;
            each(count, dots, now, [&](int slot, float to, float dot) { high[slot] = fmaxf(high[slot], fmaf(factor, dot, to)); });
#pragma unroll
            for (int slot = 0; slot < 4; slot++) {
                const float less = exp2_fast(found[slot].top - high[slot]);
                found[slot].sum *= less, found[slot].lost *= less, found[slot].top = high[slot];
            }
        }
#pragma unroll
        for (int slot = 0; slot < 4; slot++) {
            LogSum<float>& one = found[slot];
            const float step = part[slot] - one.lost, next = one.sum + step;  // Kahan
            one.lost = (next - one.sum) - step;
            one.sum = next;
        }
    }
};

// What `soft_min` of softmin.cu leaves, less p - k |x_i|^2. Tables of a cloud: `left_rows` and `right_rows` from problem
// to problem, 0 where all share one. Grid (problems x rows / 128, columns / span), span a multiple of the tile.
template <bool EXACT, bool LONG>
__global__ void __launch_bounds__(128, LONG ? 3 : 2)
    soft_min_tensor(const float16* xh, const float16* xl, const float16* yh, const float16* yl, const float* scales,
                    long long left_rows, long long right_rows, int n, int m, int width, int span, const double* scale,
                    const float* w, const int* idle, float* top, float* sum) {
    extern __shared__ __align__(128) unsigned char tensor_shared[];
    const int blocks = (n + 127) / 128, problem = blockIdx.x / blocks, row0 = blockIdx.x % blocks * 128;
    if (idle != nullptr && idle[problem] != 0) return;
    const long long left = problem * left_rows * width, right = problem * right_rows * width;
    const int j0 = blockIdx.y * span, j1 = min(m, j0 + span);
    TensorLogSum policy(w + (long long)problem * m, (float)(2.0 * scale[problem] * (double)scales[1]));
    tensor_sweep<TensorShape<EXACT, LONG>>(Halves{xh + left, xl + left, n, width},
                                           Halves{yh + right, yl + right, m, width}, row0, j0, j1, tensor_shared,
                                           policy);
    const long long out = ((long long)problem * gridDim.y + blockIdx.y) * n;
#pragma unroll
    for (int slot = 0; slot < 4; slot++) {
        LogSum<float>& one = policy.found[slot];
#pragma unroll
        for (int lanes = 1; lanes < 4; lanes *= 2)
            one.merge(__shfl_xor_sync(ALL, one.top, lanes), __shfl_xor_sync(ALL, one.sum, lanes));
        const int i = tensor_row(row0, slot);
        if ((threadIdx.x & 3) == 0 && i < n) top[out + i] = one.top, sum[out + i] = one.sum;
    }
}
