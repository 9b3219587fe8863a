// The matrix of a divergence between two sets of rows: sums over bins for all pairs, and their values.
//
//   D(p_i, q_j) = finish(sum over bins of term(p_ik, q_jk))
//
// Where the term is a sum of products f(p) g(q) (KL: p log p - p log q + drift), tables of f and g are multiplied on
// float64 tensor cores (``product.cuh``); elsewhere a formula is summed in registers (``tile.cuh``), float32 for
// float32. Pairs whose sum cannot be trusted are marked, and ``settle.cu`` computes them again: one law of accuracy.
//
// Floor of a pair and bin: a product is 2 flops of the float64 tensor cores, whose rate on an H200 is that of float32
// outside of them, so it costs as much as one float32 instruction and is right to 1e-16 of what is cancelled. Tiles, in
// float32 instructions: TV 2, L2 2, Hellinger 4, symmetric chi-squared 4 and one of the special-function unit, JS 15
// and two. Computed overhead: 2 loads of 16 bytes for every 16 pairs and bins, and one tenth for adding slabs.
#include "costs.cuh"
#include "pairs.cuh"
#include "product.cuh"
#include "tile.cuh"

// ------------------------------------------------------------------------------------------------- products

template <int KIND, class Out>
struct ProductPolicy {
    const Window<Out>& window;
    const Facts &left, &right;
    const Finish& finish;
    long long i0, j0;

    __device__ __forceinline__ Fact row(int i) const {
        return i0 + i < window.i1 ? fact_of<KIND>(left, i0 + i) : Fact{0.0, 0.0, 0.0, 0.0, 0.0};
    }
    __device__ __forceinline__ void step(const Fact& x, int i, int j, double sum) const {
        if (i0 + i >= window.i1 || j0 + j >= window.j1) return;
        window.put(i0 + i, j0 + j, value_of<KIND, Out>(finish, sum, x, fact_of<KIND>(right, j0 + j)));
    }
};

// a, b: tables of rows i0 ... i1, j0 ... j1. Blocks go by 16 tiles of rows, whose tables stay in the L2 cache.
template <int KIND, class Out>
__global__ void __launch_bounds__(128, 3)
    product(const double* a, const double* b, int width, const double* left, long long n, const double* right,
            long long m, long long i0, long long i1, long long j0, long long j1, int half, double scale, double c,
            double affinity, int literal, Out* out, long long si, long long sj) {
    __shared__ __align__(128) unsigned char room[ProductTile::BYTES];
    const Window<Out> window{i0, i1, j0, j1, half, out, si, sj};
    const long long down = (i1 - i0 + 63) / 64, across = (j1 - j0 + 63) / 64, group = 16 * across;
    const long long start = blockIdx.x / group * 16, rest = blockIdx.x % group;
    const long long height = down - start < 16 ? down - start : 16;
    const long long i = (start + rest % height) * 64, j = rest / height * 64;
    if (window.skips(i0 + i, j0 + j, 64)) return;
    const Facts x{left, n}, y{right, m};
    const Finish finish{scale, c, affinity, literal};
    ProductPolicy<KIND, Out> policy{window, x, y, finish, i0 + i, j0 + j};
    product_tile(a, i, i1 - i0, b, j, j1 - j0, width, room, policy);
}

// ---------------------------------------------------------------------------------------------------- tiles

template <class Real, int KIND, class Out>
struct TilePolicy {
    const Window<Out>& window;
    const Facts &left, &right;
    const Finish& finish;
    double factor;
    int row0;

    template <class Sum>
    __device__ __forceinline__ void step(int slot, int j, Sum sum) const {
        const int i = tile_row<Real>(row0, slot);
        if (i >= window.i1) return;
        const Fact x = fact_of<KIND>(left, i), y = fact_of<KIND>(right, j);
        window.put(i, j, value_of<KIND, Out>(finish, factor * (double)sum, x, y));
    }
};

// x, y: all rows, n and m of them. Each block 64 rows by `span` columns. globals[0]: the scale of `JointEntropy`.
template <class Cost, class Entry, int KIND, class Out>
__global__ void __launch_bounds__(256, 2)
    tile(const Entry* x, const Entry* y, int bins, int span, const double* globals, const double* left, long long n,
         const double* right, long long m, long long i0, long long i1, long long j0, long long j1, int half,
         double scale, Out* out, long long si, long long sj) {
    typedef Tile<Cost, Entry, 4, true> T;
    extern __shared__ __align__(128) unsigned char tile_room[];
    const Window<Out> window{i0, i1, j0, j1, half, out, si, sj};
    const int across = (int)(j1 - j0 + span - 1) / span;
    const int i = (int)i0 + (int)(blockIdx.x / across) * 64, last = (int)j0 + (int)(blockIdx.x % across + 1) * span;
    int j = last - span;
    while (j < last && window.skips(i, j, 64)) j += 64;
    const Facts facts_x{left, n}, facts_y{right, m};
    const Finish finish{scale, 0.0, 0.0, 0};
    const Cost cost(globals[0]);
    TilePolicy<typename T::Real, KIND, Out> policy{window, facts_x, facts_y, finish, cost.factor(), i};
    const Sheet<Entry> rows = sheet(x, (int)i1, bins, T::V), columns = sheet(y, (int)j1, bins, T::V);
    tile_sweep<T>(cost, rows, columns, bins, i, j, last < j1 ? last : (int)j1, tile_room, policy);
}

// --------------------------------------------------------------------------------------------------- mirror

// out[j, i] = out[i, j] for j > i of a square matrix; blocks of 32 x 8 threads over tiles of 32 x 32 with j >= i.
template <class Out>
__global__ void __launch_bounds__(256) mirror(Out* out, long long n, long long si, long long sj) {
    __shared__ Out room[32][33];
    const long long i0 = (long long)blockIdx.y * 32, j0 = (long long)blockIdx.x * 32;
    if (j0 < i0) return;
    for (int r = threadIdx.y; r < 32; r += 8) {
        const long long i = i0 + r, j = j0 + threadIdx.x;
        if (i < n && j < n && j > i) room[r][threadIdx.x] = out[i * si + j * sj];
    }
    __syncthreads();
    for (int r = threadIdx.y; r < 32; r += 8) {
        const long long j = j0 + r, i = i0 + threadIdx.x;
        if (i < n && j < n && j > i) out[j * si + i * sj] = room[threadIdx.x][r];
    }
}
