// Sums of a kernel of distances over pairs of many float32 points of more than 8 coordinates, by products on tensor
// cores.
//
// ‖x−y‖² = ‖x‖² + ‖y‖² − 2⟨x, y⟩ of centred points is off by some eps (‖x‖² + ‖y‖²): pairs below 1/32 of that are
// measured again by differences of the points as they came, so every squared distance is right relative to itself, as
// in gram.py. Where more than an eighth of sampled pairs are so close, this launch does nothing and gram_values does it
// all.
//
// Every pair once: a block has 128 rows and a span of the columns from them on. Floor per pair: 6 d flops of half
// precision, the kernel, a conversion and a sum in float64 per 4 pairs. Computed distance: tensor.cuh.
#include "gram_tiles.cuh"
#include "tensor.cuh"

constexpr float CLOSE = 1.0f / 32.0f;

// direct[0] = whether more than an eighth of 64 x 64 sampled pairs are close, direct[1] the opposite.
__global__ void __launch_bounds__(256) gram_close(const float* z, const float* squares, int* direct, int N, int width) {
    __shared__ int room[32];
    int close = 0;
    for (int at = threadIdx.x; at < 4096; at += 256) {
        const int i = (int)((long long)(at / 64) * N / 64), j = (int)(((long long)(at % 64) * N + N / 2) / 64);
        float s = 0.0f;
        for (int k = 0; k < width; k++)
            s = with_term<SQUARED>(s, z[(long long)i * width + k], z[(long long)j * width + k]);
        close += i != j && s < CLOSE * (squares[i] + squares[j]);
    }
    close = block_sum(close, room);
    if (threadIdx.x) return;
    direct[0] = close > 512;
    direct[1] = close <= 512;
}

template <class K>
struct KernelSum {
    static constexpr int COLUMNS = 1;
    const float *squares, *z;
    const typename K::template Numbers<float>* number;
    float norm[4], four[4], factor;
    int row[4], last, width;  // rows from `last` on are not of this block
    bool upper;               // only columns beyond the row
    double total;

    __device__ __forceinline__ const float* column(int) const { return squares; }
    __device__ __forceinline__ void step(int slot, int j, float dot, const float (&v)[1]) {
        const bool counts = row[slot] < last && (!upper || j > row[slot]);
        const float both = norm[slot] + v[0];
        float q[1] = {fmaf(factor, dot, both)}, value, slopes[1];
        if (counts && q[0] < CLOSE * both) q[0] = again(row[slot], j);
        K::of(number->c, q, value, slopes);
        four[slot] += counts ? value : 0.0f;
        if ((j & 9) == 9) settle(slot);
    }
    __device__ __forceinline__ void settle(int slot) {
        total += (double)four[slot];
        four[slot] = 0.0f;
    }
    __device__ __noinline__ float again(int i, int j) const {
        float s = 0.0f;
        for (int k = 0; k < width; k += 4) {
            const Pack<float, 4> x = *reinterpret_cast<const Pack<float, 4>*>(z + (long long)i * width + k);
            const Pack<float, 4> y = *reinterpret_cast<const Pack<float, 4>*>(z + (long long)j * width + k);
#pragma unroll
            for (int e = 0; e < 4; e++) s = with_term<SQUARED>(s, x.at[e], y.at[e]);
        }
        return s;
    }
};

// totals[a][s][k]: sums over i < j of k(z_i, z_j) of the rows of block a and the columns of span s, k as in
// gram_values.
template <class K, bool LONG>
__global__ void __launch_bounds__(128)
    gram_tensor(const float16* high, const float16* low, const float* squares, const float* scales, const float* z,
                const double* numbers, const int* wanted, double* totals, int n, int N, int halves, int width,
                int span) {
    extern __shared__ __align__(128) unsigned char tensor_shared[];
    __shared__ double room[32];
    if (!*wanted) return;
    const Blocks<128> blocks{n, N};
    const int spans = (N + span - 1) / span, a = blockIdx.x / spans, s = blockIdx.x % spans;
    const int row0 = blocks.start(a), last = row0 + blocks.size(a), side = blocks.side(a);
    const int from = max(s * span, row0), to = min((s + 1) * span, N);
    const typename K::template Numbers<float> number(numbers);
    KernelSum<K> sum;
    sum.squares = squares;
    sum.z = z;
    sum.number = &number;
    sum.factor = -2.0f * scales[1];
    sum.last = last;
    sum.width = width;
#pragma unroll
    for (int k = 0; k < 4; k++) {
        sum.row[k] = tensor_row(row0, k);
        sum.norm[k] = sum.row[k] < last ? squares[sum.row[k]] : 0.0f;
        sum.four[k] = 0.0f;
    }
    const Halves pool{high, low, N, halves};
#pragma unroll 1
    for (int part = side; part < 2; part++) {
        sum.total = 0.0;
        sum.upper = part == side;
        const int j0 = part && !side ? max(from, n) : from, j1 = part ? to : min(to, n);
        if (j0 < j1) tensor_sweep<TensorShape<true, LONG>>(pool, pool, row0, j0, j1, tensor_shared, sum);
#pragma unroll
        for (int k = 0; k < 4; k++) sum.settle(k);
        const double whole = block_sum(sum.total, room);
        if (threadIdx.x == 0) totals[blockIdx.x * 3ll + side + part] = whole;
    }
}
