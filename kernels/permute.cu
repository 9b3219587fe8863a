// Quadratic forms v'Av of randomly drawn labellings, for permutation tests: A = K, or differences of its blocks, in
// tiles above the diagonal, never stored. Twin of permute.py.
//
// A labelling is a bit per point, 1 for the first sample: one 64-bit word per labelling and block of 64 points. v =
// high on its ones and low on its zeros. A block of threads makes a tile of A in shared memory (64 x 64, float64), and
// for 64 labellings at a time multiplies it with their v and weighs the rows; a tile off the diagonal counts twice.
// Sums of one labelling over the tiles of a block stay in shared memory, blocks are added in a fixed order
// (gram_ends.cu).
//
// Floor: 64² float64 multiply-adds per tile and labelling, N² B/2 in all; per 16 of them a thread reads 2 vectors of A
// and 2 of v, 0.75 of the peak by shared memory. The tile costs 2 d operations a pair once for all labellings of a
// launch.
#include "gram_tiles.cuh"

constexpr int SIDE = 64;

// Number `count` of the stream of `seed`: SplitMix64 (Steele, Lea & Flood 2014).
__device__ __forceinline__ unsigned long long random_bits(unsigned long long seed, unsigned long long count) {
    unsigned long long z = seed + count * 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

// sorted[r] = the coordinate of rank r of the pool [x; y] of points on the line, in float64; given[r] = whether it is
// x's. Equal ones keep their order. N² comparisons, as many as a quadratic form has pairs.
template <class S>
__global__ void __launch_bounds__(256)
    rank_points(const S* x, const S* y, double* sorted, unsigned char* given, int n, int N) {
    __shared__ double tile[256];
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    auto value = [&](int j) { return (double)widen(j < n ? x[j] : y[j - n]); };
    const double mine = i < N ? value(i) : 0.0;
    int rank = 0;
    for (int j0 = 0; j0 < N; j0 += 256) {
        __syncthreads();
        if (j0 + (int)threadIdx.x < N) tile[threadIdx.x] = value(j0 + threadIdx.x);
        __syncthreads();
        const int count = min(256, N - j0);
        for (int j = 0; j < count; j++) rank += tile[j] < mine || (tile[j] == mine && j0 + j < i);
    }
    if (i >= N) return;
    sorted[rank] = mine;
    given[rank] = i < n;
}

// labels[w][c]: the bits of the points 64 w on, of labelling c. Column 0 is as `given`, by a byte per point; if that is
// null, the first `members` points. SUBSETS: `members` of `total` points, any equally likely, drawn point after point
// (Knuth's algorithm S): a point is a member with probability left/to come. Since u <= 1 - 2^-53, u r < r survives
// rounding, and every member is drawn. Otherwise coins. One thread per labelling; the same bits as on the CPU.
template <bool SUBSETS>
__global__ void __launch_bounds__(64) draw_labels(const unsigned long long* seeds, const unsigned char* given,
                                                  unsigned long long* labels, int members, int total, int columns) {
    const int c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= columns) return;
    const unsigned long long seed = seeds[c];
    double left = members;
    for (int w = 0; w * 64 < total; w++) {
        unsigned long long word = 0;
        for (int e = 0; e < min(64, total - w * 64); e++) {
            const int i = w * 64 + e;
            const unsigned long long bits = random_bits(seed, i + 1);
            bool member;
            if (SUBSETS) {
                member = (double)(bits >> 11) * 1.1102230246251565e-16 * (double)(total - i) < left;
                left -= member ? 1.0 : 0.0;
            } else {
                member = bits >> 63;
            }
            if (c == 0) member = given ? given[i] != 0 : i < members;
            word |= (unsigned long long)member << e;
        }
        labels[(long long)w * columns + c] = word;
    }
}

// A tile of the kernel in registers, by rows of the points `left` and `right`.
template <class K>
__device__ __forceinline__ void kernel_tile(const Clouds<double>& left, int rows, const Clouds<double>& right,
                                            int columns, int width, const typename K::template Numbers<double>& number,
                                            Room<double, SIDE>& room, double (&value)[4][4]) {
    double q[K::Q][4][4];
    measure_all<K, double, SIDE>(left, rows, right, columns, width, room, q);
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            double of[K::Q], slopes[K::Q];
#pragma unroll
            for (int g = 0; g < K::Q; g++) of[g] = q[g][i][j];
            K::of(number.c, of, value[i][j], slopes);
        }
}

// found[r][c] = v'Av over the `run` tiles of block (r, s), for the labellings c of share s; ends[r] = Σ A, and Σ |A|
// (of PAIRED: of the four kernels that an entry is made of), ends[r][2] the sum of the diagonal that was left out. A =
// k(z_i, z_j), 0 on the diagonal if `drop`; PAIRED: h_ij = k(x_i, x_j) + k(y_i, y_j) − k(x_i, y_j) − k(y_i, x_j) of z =
// [x; y], 0 on the diagonal. `share` labellings go to one block.
template <class K, bool PAIRED>
__global__ void __launch_bounds__(256)
    label_forms(const double* plain, const double* shifted, const double* unit, const double* numbers,
                const unsigned long long* labels, double low, double high, double* found, double* ends, int N,
                int width, int labellings, int share, int drop, long long tiles, int run) {
    extern __shared__ __align__(16) unsigned char memory[];
    constexpr int LEADING = SIDE + 2;
    double(*A)[LEADING] = reinterpret_cast<double(*)[LEADING]>(memory);  // by columns: A[j][i]
    double(*V)[LEADING] = A + SIDE;                                      // V[j][c]
    double* sums = reinterpret_cast<double*>(V + SIDE);                  // of the labellings
    __shared__ __align__(16) Room<double, SIDE> room;
    __shared__ double few[32];
    const Clouds<double> pool{plain, shifted, unit};
    const typename K::template Numbers<double> number(numbers);
    const int tx = threadIdx.x % 16, ty = threadIdx.x / 16, blocks = (N + SIDE - 1) / SIDE;
    const int first = blockIdx.y * share, columns = min(share, labellings - first);
    labels += first;
    for (int c = threadIdx.x; c < columns; c += blockDim.x) sums[c] = 0.0;
    double total = 0.0, modulus = 0.0, diagonal = 0.0;
    int a, b;
    pair_of((long long)blockIdx.x * run, blocks, a, b);
    for (long long t = (long long)blockIdx.x * run; t < min(tiles, ((long long)blockIdx.x + 1) * run); t++) {
        const int i0 = a * SIDE, j0 = b * SIDE, rows = min(SIDE, N - i0), across = min(SIDE, N - j0);
        double k[4][4], size[4][4];
        kernel_tile<K>(pool.from(i0, width), rows, pool.from(j0, width), across, width, number, room, k);
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int j = 0; j < 4; j++) size[i][j] = fabs(k[i][j]);
        if constexpr (PAIRED) {
#pragma unroll 1
            for (int part = 0; part < 3; part++) {
                double other[4][4];
                kernel_tile<K>(pool.from((part == 1 ? 0 : N) + i0, width), rows,
                               pool.from((part == 2 ? 0 : N) + j0, width), across, width, number, room, other);
#pragma unroll
                for (int i = 0; i < 4; i++)
#pragma unroll
                    for (int j = 0; j < 4; j++) {
                        size[i][j] += fabs(other[i][j]);
                        k[i][j] += part == 0 ? other[i][j] : -other[i][j];
                    }
            }
        }
        const double twice = a == b ? 1.0 : 2.0;
        __syncthreads();  // the tile before has been read
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const int row = place_of<double>(ty, i), column = place_of<double>(tx, j);
                const bool inside = row < rows && column < across, on = a == b && row == column;
                const double v = inside && !(on && drop) ? twice * k[i][j] : 0.0;
                A[column][row] = v;
                total += v;
                modulus += PAIRED ? (inside ? 2.0 * size[i][j] : 0.0) : fabs(v);
                diagonal += inside && on ? k[i][j] : 0.0;
            }
        for (int c0 = 0; c0 < columns; c0 += SIDE) {
            const int c = c0 + threadIdx.x % SIDE;
            const unsigned long long* mine = labels + min(c, columns - 1);
            const unsigned long long word = mine[(long long)b * labellings];
            __syncthreads();  // the labellings before have been read; A is there
#pragma unroll
            for (int j = threadIdx.x / SIDE; j < SIDE; j += 256 / SIDE)
                V[j][threadIdx.x % SIDE] = word >> j & 1ull ? high : low;
            __syncthreads();
            double p[4][4] = {};
            for (int j = 0; j < across; j++) {
                double x[4], v[4];
                gather(A[j], ty, x);
                gather(V[j], tx, v);
#pragma unroll
                for (int i = 0; i < 4; i++)
#pragma unroll
                    for (int e = 0; e < 4; e++) p[i][e] = fma(x[i], v[e], p[i][e]);
            }
            __syncthreads();
            // V now takes, for each group of rows, what its labellings come to
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int at = place_of<double>(tx, e);
                const unsigned long long bits = labels[(long long)a * labellings + min(c0 + at, columns - 1)];
                double mine_of = 0.0;
#pragma unroll
                for (int i = 0; i < 4; i++) mine_of += (bits >> place_of<double>(ty, i) & 1ull ? high : low) * p[i][e];
                V[ty][at] = mine_of;
            }
            __syncthreads();
            if (threadIdx.x < SIDE && c < columns) {
                double whole = 0.0;
                for (int g = 0; g < 16; g++) whole += V[g][threadIdx.x];
                sums[c] += whole;
            }
        }
        if (++b == blocks) b = ++a;
    }
    __syncthreads();
    for (int c = threadIdx.x; c < columns; c += blockDim.x)
        found[(long long)blockIdx.x * labellings + first + c] = sums[c];
    const double all[3] = {total, modulus, diagonal};
#pragma unroll
    for (int s = 0; s < 3; s++) {
        const double whole = block_sum(all[s], few);
        if (threadIdx.x == 0 && blockIdx.y == 0) ends[blockIdx.x * 3ll + s] = whole;
    }
}
