// Transport on the line, of sorted rows: distances, gradients by points, potentials.
//
// With F, G the distribution functions, W_p^p = int_0^1 |F^-1(s) - G^-1(s)|^p ds: the merged levels of both samples cut
// [0, 1] into n + m - 1 cells (i, j), in which mass moves from x_i to y_j. Equal numbers of equal weights meet in
// order. Levels are exact integers (levels.cuh); a cell's mass is a difference of two, rounded once. Cells are dealt
// out evenly by merge paths; a gradient by x_i is a sum over the cells in (F_i-1, F_i), and potentials are running sums
// of how the cost changes along the staircase: f where x gives way, g where y does. Where both give way at once either
// may go first, and the mean of both is the symmetric derivative.
//
// Coordinates are multiplied by `unit`, a power of two, and gaps by another, so that the widest gap is about 1: nothing
// overflows.
//
// Floor: sorting (sort.cu) is most of it; sums read the sorted rows and levels once, 2 (8 + 16) bytes a point with
// weights, and compute a power. Computed distance to it: bisections add some 11 shared look-ups for 8 cells.
#include "costs_1d.cuh"

#define OUT_OF_RANGE 4

// parts[row, piece] = sum of the costs of a piece of cells, times their mass; KIND 0: the widest gap instead (with
// scale 1). EQUAL: n = m and equal weights, mass 1 each.
template <class Item, class Kind, int KIND, bool EQUAL>
__global__ void __launch_bounds__(256, 4)
    cells(const Item* __restrict__ x, long long x_row, int n, const Item* __restrict__ y, long long y_row, int m,
          const Level* __restrict__ levels_x, const Level* __restrict__ levels_y, unsigned long long step_x,
          unsigned long long step_y, const double* __restrict__ units, const double* __restrict__ scales, double p,
          int pieces, double* __restrict__ parts) {
    constexpr int ITEMS = 8;
    __shared__ Pair64 room[32];
    __shared__ int cut[2];
    const long long row = blockIdx.x / pieces;
    const int piece = (int)(blockIdx.x % pieces);
    x += row * x_row;
    y += row * y_row;
    const Gap gap = {units[row], KIND ? scales[row] : 1.0};
    double widest = 0.0;
    Pair64 sum = {0.0, 0.0};
    if (EQUAL) {
        const int first = piece * 2048;
#pragma unroll
        for (int k = 0; k < ITEMS; ++k) {
            const int e = first + k * 256 + (int)threadIdx.x;
            if (e < n) {
                const double d = gap(value(x[e]), value(y[e]));
                if (KIND)
                    sum = plus(sum, raised<KIND>(d, p));
                else
                    widest = fmax(widest, fabs(d));
            }
        }
    } else {
        const auto F = LevelsOf<Kind>::row(levels_x, n, step_x, row);
        const auto G = LevelsOf<Kind>::row(levels_y, m, step_y, row);
        const int all = n + m - 1, first = piece * 2048, count = all - first < 2048 ? all - first : 2048;
        if (threadIdx.x < 2) cut[threadIdx.x] = merge_path(F, n - 1, G, m - 1, first + (threadIdx.x ? count - 1 : 0));
        __syncthreads();
        const int from_x = cut[0], from_y = first - from_x;
        const int across = cut[1] - from_x, down = count - 1 - across;
        const int mine = (int)threadIdx.x * ITEMS;
        if (mine < count) {
            const auto Fs = [&](int k) { return F(from_x + k); };
            const auto Gs = [&](int k) { return G(from_y + k); };
            int i = from_x + merge_path(Fs, across, Gs, down, mine), j = first + mine - i;
            Level f = F(i), g = G(j), at = {0, 0};
            if (i) at = F(i - 1);
            if (j) at = greater(at, G(j - 1));
            double u = value(x[i]), v = value(y[j]);
            for (int k = 0; k < ITEMS && mine + k < count; ++k) {
                const bool x_goes = i < n - 1 && (j == m - 1 || !before(g, f));
                const Level end = x_goes || i == n - 1 && j == m - 1 ? f : g;
                const double mass = real(minus(end, at)), d = gap(u, v);
                if (KIND)
                    sum = plus(sum, mass * raised<KIND>(d, p));
                else
                    widest = mass > 0.0 ? fmax(widest, fabs(d)) : widest;
                at = end;
                if (x_goes) {
                    f = F(++i);
                    u = value(x[i]);
                } else if (j < m - 1) {
                    g = G(++j);
                    v = value(y[j]);
                }
            }
        }
    }
    if (KIND) {
        const Team<256> team(nullptr);
        sum = team.sum(sum, room);
        if (threadIdx.x == 0) parts[blockIdx.x] = sum.high;
    } else {
        for (int o = 16; o; o >>= 1) widest = fmax(widest, __shfl_xor_sync(FULL_WARP, widest, o));
        if (threadIdx.x % 32 == 0) room[threadIdx.x / 32].high = widest;
        __syncthreads();
        if (threadIdx.x == 0) {
            for (int w = 1; w < 8; ++w) widest = fmax(widest, room[w].high);
            parts[blockIdx.x] = widest;
        }
    }
}

__device__ __forceinline__ double inverse_power(double size) {
    if (!(size > 0.0) || !(size < infinity())) return 1.0;
    const long long exponent = ((__double_as_longlong(size) >> 52) & 0x7ff) - 1022;  // of a subnormal: -1022
    const long long by = exponent < -1000 ? 1000 : exponent > 1000 ? -1000 : -exponent;
    return __longlong_as_double((1023 + by) << 52);
}

// units[row] = the power of two that brings the largest coordinate to about 1; NaN for a row with a number that is not
// finite.
template <class Item>
__global__ void __launch_bounds__(128)
    units_of(const Item* __restrict__ x, long long x_row, int n, const Item* __restrict__ y, long long y_row, int m,
             int rows, double* __restrict__ units) {
    const long long row = (long long)blockIdx.x * 128 + threadIdx.x;
    if (row >= rows) return;
    x += row * x_row;
    y += row * y_row;
    const double a = value(x[0]), b = value(x[n - 1]), c = value(y[0]), d = value(y[m - 1]);
    const double size = fmax(fmax(fabs(a), fabs(b)), fmax(fabs(c), fabs(d)));
    const bool good = fabs(a) < infinity() && fabs(b) < infinity() && fabs(c) < infinity() && fabs(d) < infinity();
    units[row] = good ? inverse_power(size) : __longlong_as_double(0x7ff8000000000000ll);
}

// From the widest gaps of the pieces: scales[row]; and the distance itself where p is infinite.
__global__ void __launch_bounds__(128)
    scales_of(const double* __restrict__ parts, int pieces, const double* __restrict__ units,
              double* __restrict__ scales, double* __restrict__ widest, int* __restrict__ status) {
    __shared__ double room[4];
    const double* of = parts + (long long)blockIdx.x * pieces;
    double most = 0.0;
    for (int k = (int)threadIdx.x; k < pieces; k += 128) most = fmax(most, of[k]);
    for (int o = 16; o; o >>= 1) most = fmax(most, __shfl_xor_sync(FULL_WARP, most, o));
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = most;
    __syncthreads();
    if (threadIdx.x == 0) {
        most = fmax(fmax(room[0], room[1]), fmax(room[2], room[3]));
        const double unit = units[blockIdx.x];
        scales[blockIdx.x] = inverse_power(most);
        if (widest) {
            const double distance = unit == unit ? most / unit : unit;
            widest[blockIdx.x] = distance;
            if (distance == infinity()) atomicOr(status, OUT_OF_RANGE);
        }
    }
}

// distances[row] = (sum of the parts / total)^(1/p), in the caller's units; reach[row] = scale / distance in units of
// the scaled gaps. total 0: the last level of x.
__global__ void __launch_bounds__(128)
    roots(const double* __restrict__ parts, int pieces, double total, const Level* __restrict__ levels_x, int n,
          double p, const double* __restrict__ units, const double* __restrict__ scales, double* __restrict__ distances,
          double* __restrict__ reach, int* __restrict__ status) {
    __shared__ Pair64 room[32];
    const long long row = blockIdx.x;
    Pair64 sum = {0.0, 0.0};
    for (int k = (int)threadIdx.x; k < pieces; k += 128) sum = plus(sum, parts[row * pieces + k]);
    const Team<128> team(nullptr);
    sum = team.sum(sum, room);
    if (threadIdx.x == 0) {
        const double whole = total > 0.0 ? total : real(levels_x[row * n + n - 1]);
        const double mean = sum.high / whole, unit = units[row], scale = scales[row];
        const double root = p == 1.0 ? mean : p == 2.0 ? sqrt(mean) : pow(mean, 1.0 / p);
        const double distance = unit == unit ? root / scale / unit : unit;
        distances[row] = distance;
        reach[row] = root > 0.0 ? scale / root : 0.0;
        if (distance == infinity()) atomicOr(status, OUT_OF_RANGE);
    }
}
