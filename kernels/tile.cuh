// Sums over bins (or coordinates) of any formula for all pairs of rows, in registers: a cost and a reduction.
//
//   sum_ij = sum_k cost(x_ik, y_jk)
//
// A block of 256 threads keeps 16 R rows and walks over tiles of 64 columns, each thread with R x 4 pairs; entries pass
// through shared memory in slabs of 16, transposed, the next slab being read while this one is summed. Loads and stores
// of shared memory are free of conflicts (see `place`). What is read may be of any type, half types too.
//
// Floor: the formula's instructions, one bin of one pair; to them come 2 + R/4 loads of shared memory for 4 R pairs.
//
// A cost is a struct with
//   typedef ... Real                                          float or double: the type of the arithmetic
//   static constexpr int PLANES                               how many numbers stand for an entry (1 or 2) ...
//   void read(Real x, Real (&plane)[PLANES])                  ... and which; of x = 0 beyond the edges
//   void add(Real& sum, const Real (&p)[PLANES], const Real (&q)[PLANES])   the term of a bin: 0 where both are 0
// A policy is one as in ``tensor.cuh``, without columns of its own:
//   void step(int slot, int j, Total sum)                     every column once for each row of the thread
// where slot 0 ... R - 1 is row `tile_row<Real>(row0, slot)`, which may lie beyond the last. Half a warp (16 lanes)
// shares its rows: merge with `warp_sum(v, ALL, 16)` and its like. The order of all sums depends only on the sizes.
//
// LONG: float32 sums of 32 bins are added with what their roundings lost, so that errors do not grow with the bins.
#pragma once
#include "vecmath.cuh"

template <class Cost_, class Entry_, int R_, bool LONG_>
struct Tile {
    typedef Cost_ Cost;
    typedef Entry_ Entry;
    typedef typename Cost::Real Real;
    static constexpr int THREADS = 256, R = R_, C = 4, ROWS = 16 * R, COLUMNS = 64, SLAB = 16, SLOTS = R;
    static constexpr int PLANES = Cost::PLANES, V = 16 / (int)sizeof(Real);  // numbers in 16 bytes
    static constexpr bool LONG = LONG_ && sizeof(Real) == 4;
    static constexpr int STAGE = PLANES * SLAB * (ROWS + COLUMNS);
    static constexpr int BYTES = 2 * STAGE * (int)sizeof(Real);
    static constexpr int EACH = SLAB / V * ROWS / THREADS, EACH_RIGHT = SLAB / V * COLUMNS / THREADS;  // packs a thread
};

// Where row r of bin k stands in a line of a slab: writers of a row's bins, and readers of V rows, meet no bank twice.
template <int V>
__device__ __forceinline__ int place(int r, int k) {
    return V == 4 ? r ^ ((k >> 2 & 3) << 3) : r ^ ((k >> 1 & 7) << 1);
}

template <class Real>
__device__ __forceinline__ int tile_offset(int thread, int at) {
    constexpr int V = 16 / (int)sizeof(Real);
    return at / V * (16 * V) + thread * V + at % V;
}

template <class Real>
__device__ __forceinline__ int tile_row(int row0, int slot) {
    return row0 + tile_offset<Real>(threadIdx.x >> 4, slot);
}

// Rows of entries, `stride` apart; `packed`: every row can be read in packs of V entries.
template <class Entry>
struct Sheet {
    const Entry* x;
    int rows, stride;
    bool packed;
};

template <class Entry>
__device__ __forceinline__ Sheet<Entry> sheet(const Entry* x, int rows, int bins, int pack) {
    return Sheet<Entry>{x, rows, bins, bins % pack == 0 && is_aligned(x, (int)sizeof(Entry) * pack)};
}

// policy.step for all pairs of rows row0 ... of x and columns j0 <= j < j1 of y; `shared`: T::BYTES, 16-byte aligned.
template <class T, class Policy>
__device__ void tile_sweep(const typename T::Cost& cost, const Sheet<typename T::Entry>& x,
                           const Sheet<typename T::Entry>& y, int bins, int row0, int j0, int j1,
                           unsigned char* shared, Policy& policy) {
    typedef typename T::Real Real;
    typedef typename T::Entry Entry;
    constexpr int R = T::R, C = T::C, V = T::V, SLAB = T::SLAB, PLANES = T::PLANES, PACKS = SLAB / V;
    constexpr int UNROLL = sizeof(Real) * PLANES > 4 ? 1 : 2;  // more would spill
    const int t = threadIdx.x, across = t & 15, down = t >> 4;
    const int slabs = (bins + SLAB - 1) / SLAB;
    const bool once = slabs == 1;  // the rows stay where they are
    Real* const room = (Real*)shared;

    Pack<Entry, V> left[T::EACH], right[T::EACH_RIGHT];
    auto fetch = [&](const Sheet<Entry>& from, int first, int last, int k0, int number) {
        const int pack = number % PACKS;
        const int i = first + number / PACKS, k = k0 + pack * V;
        const Entry* const at = from.x + (long long)i * from.stride + k;
        Pack<Entry, V> got;
        if (i < last && from.packed && k < bins) {
            got = *reinterpret_cast<const Pack<Entry, V>*>(at);
        } else {
#pragma unroll
            for (int v = 0; v < V; v++) {
                const bool in = i < last && k + v < bins;
                got.at[v] = in ? at[v] : cast<Entry>(0.0f);
            }
        }
        return got;
    };
    auto keep = [&](const Pack<Entry, V>& got, int number, Real* to, int line) {
        const int k = number % PACKS * V, r = number / PACKS;
#pragma unroll
        for (int v = 0; v < V; v++) {
            Real plane[PLANES];
            cost.read((Real)widen(got.at[v]), plane);
#pragma unroll
            for (int p = 0; p < PLANES; p++) to[(p * SLAB + k + v) * line + place<V>(r, k + v)] = plane[p];
        }
    };
    auto fetch_all = [&](int j, int slab, bool rows_too) {
#pragma unroll
        for (int e = 0; e < T::EACH_RIGHT; e++) right[e] = fetch(y, j, j1, slab * SLAB, t + e * T::THREADS);
        if (rows_too)
#pragma unroll
            for (int e = 0; e < T::EACH; e++) left[e] = fetch(x, row0, x.rows, slab * SLAB, t + e * T::THREADS);
    };
    auto keep_all = [&](int stage, bool rows_too) {
        Real* const to = room + stage * T::STAGE;
#pragma unroll
        for (int e = 0; e < T::EACH_RIGHT; e++)
            keep(right[e], t + e * T::THREADS, to + PLANES * SLAB * T::ROWS, T::COLUMNS);
        if (rows_too)
#pragma unroll
            for (int e = 0; e < T::EACH; e++)
                keep(left[e], t + e * T::THREADS, room + (once ? 0 : stage) * T::STAGE, T::ROWS);
    };

    if (j0 >= j1) return;
    __syncthreads();  // whatever `shared` was used for before
    fetch_all(j0, 0, true);
    keep_all(0, true);
    __syncthreads();
    int stage = 0;
    for (int j = j0; j < j1; j += T::COLUMNS) {
        Real sum[R][C], total[T::LONG ? R : 1][C], rest[T::LONG ? R : 1][C];
#pragma unroll
        for (int r = 0; r < R; r++)
#pragma unroll
            for (int c = 0; c < C; c++) {
                sum[r][c] = Real(0);
                if (T::LONG) total[T::LONG ? r : 0][c] = rest[T::LONG ? r : 0][c] = Real(0);
            }
        for (int slab = 0; slab < slabs; slab++) {
            const bool more = slab + 1 < slabs, another = j + T::COLUMNS < j1;
            if (more) fetch_all(j, slab + 1, true);
            else if (another) fetch_all(j + T::COLUMNS, 0, !once);
            const Real* const a = room + (once ? 0 : stage) * T::STAGE;
            const Real* const b = room + stage * T::STAGE + PLANES * SLAB * T::ROWS;
            const int count = bins - slab * SLAB < SLAB ? bins - slab * SLAB : SLAB;
#pragma unroll UNROLL
            for (int k = 0; k < count; k++) {
                Real p[R][PLANES], q[C][PLANES];
#pragma unroll
                for (int h = 0; h < PLANES; h++) {
#pragma unroll
                    for (int r = 0; r < R; r += V) {
                        const Real* at = a + (h * SLAB + k) * T::ROWS + place<V>(tile_offset<Real>(down, r), k);
                        const Pack<Real, V> got = *reinterpret_cast<const Pack<Real, V>*>(at);
#pragma unroll
                        for (int v = 0; v < V; v++) p[r + v][h] = got.at[v];
                    }
#pragma unroll
                    for (int c = 0; c < C; c += V) {
                        const Real* at = b + (h * SLAB + k) * T::COLUMNS + place<V>(tile_offset<Real>(across, c), k);
                        const Pack<Real, V> got = *reinterpret_cast<const Pack<Real, V>*>(at);
#pragma unroll
                        for (int v = 0; v < V; v++) q[c + v][h] = got.at[v];
                    }
                }
#pragma unroll
                for (int r = 0; r < R; r++)
#pragma unroll
                    for (int c = 0; c < C; c++) cost.add(sum[r][c], p[r], q[c]);
            }
            if (T::LONG && ((slab & 1) || !more)) {
#pragma unroll
                for (int r = 0; r < R; r++)
#pragma unroll
                    for (int c = 0; c < C; c++) {
                        Real &whole = total[T::LONG ? r : 0][c], &lost = rest[T::LONG ? r : 0][c];
                        const Real s = whole + sum[r][c], part = s - whole;
                        lost += (whole - (s - part)) + (sum[r][c] - part);
                        whole = s;
                        sum[r][c] = Real(0);
                    }
            }
            if (more || another) keep_all(stage ^ 1, more || !once);
            stage ^= 1;
            __syncthreads();
        }
#pragma unroll
        for (int c = 0; c < C; c++) {
            const int at = j + tile_offset<Real>(across, c);
            if (at >= j1) continue;
#pragma unroll
            for (int r = 0; r < R; r++) {
                if (T::LONG)
                    policy.step(r, at, (double)total[T::LONG ? r : 0][c] + (double)rest[T::LONG ? r : 0][c]);
                else
                    policy.step(r, at, sum[r][c]);
            }
        }
    }
}
