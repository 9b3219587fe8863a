// Gradients of transport on the line, by points and by weights; line.cu has the definitions.
//
// By points: slope_i = sum over the cells of x_i of mass times pull(gap / distance), over the total. Points that
// coincide share what pulls at them in proportion to their weights, so their order plays no part. By weights:
// potentials f_i + g_j = c_ij on the cells are running sums of rises; c has the Monge property, so f_i + g_j <= c_ij
// elsewhere (Hoffman 1963).
//
// A thread has a point; points with many cells, and long runs of equal points, are taken by the whole warp together.
// Floor: items and levels of both sides once, slopes written and read: 64 bytes a point, and two bisections each.
#include "costs_1d.cuh"

#define LONG 64

template <class Sum>
__device__ __forceinline__ Sum lane_total(Sum x) {
    for (int o = 16; o; o >>= 1) x += __shfl_xor_sync(FULL_WARP, x, o);
    return x;
}

// What pulls in the part of the levels of y_j that lies between two levels.
template <int KIND, class Levels>
__device__ __forceinline__ double cell(const Levels& G, int j, Level bottom, Level top, double gap, double p) {
    const Level end = lesser(G(j), top), begin = j ? greater(G(j - 1), bottom) : bottom;
    return before(begin, end) ? real(minus(end, begin)) * pull<KIND>(gap, p) : 0.0;
}

// slopes[row, k] of the sorted points x against y; with the sides exchanged,
// for those of y. scales: one over the distance, in units of the coordinates times `units`.
template <class Item, class Kind, int KIND, bool EQUAL>
__global__ void __launch_bounds__(256)
    slopes_of(const Item* __restrict__ x, long long x_row, int n, const Item* __restrict__ y, long long y_row, int m,
              const Level* __restrict__ levels_x, const Level* __restrict__ levels_y, unsigned long long step_x,
              unsigned long long step_y, const double* __restrict__ units, const double* __restrict__ scales, double p,
              int pieces, double* __restrict__ slopes) {
    const long long row = blockIdx.x / pieces;
    const int k = (int)(blockIdx.x % pieces) * 256 + (int)threadIdx.x;
    x += row * x_row;
    y += row * y_row;
    const Gap gap = {units[row], scales[row]};
    if (EQUAL) {
        if (k < n) slopes[row * n + k] = pull<KIND>(gap(value(x[k]), value(y[k])), p) / n;
        return;
    }
    const auto F = LevelsOf<Kind>::row(levels_x, n, step_x, row);
    const auto G = LevelsOf<Kind>::row(levels_y, m, step_y, row);
    Level low = {0, 0}, high = {0, 0};
    int from = 0, to = -1;
    double at = 0.0;
    if (k < n) {
        if (k) low = F(k - 1);
        high = F(k);
        at = value(x[k]);
        if (before(low, high)) {
            from = levels_before(G, m - 1, low, true);
            to = levels_before(G, m - 1, high, false);
        }
    }
    double slope = 0.0;
    const bool wide = to - from >= LONG;
    if (!wide)
        for (int j = from; j <= to; ++j) slope += cell<KIND>(G, j, low, high, gap(at, value(y[j])), p);
    for (unsigned left = __ballot_sync(FULL_WARP, wide); left; left &= left - 1) {
        const int lane = __ffs((int)left) - 1;
        const int begin = __shfl_sync(FULL_WARP, from, lane), end = __shfl_sync(FULL_WARP, to, lane);
        const Level bottom = {__shfl_sync(FULL_WARP, low.x, lane), __shfl_sync(FULL_WARP, low.y, lane)};
        const Level top = {__shfl_sync(FULL_WARP, high.x, lane), __shfl_sync(FULL_WARP, high.y, lane)};
        const double u = __shfl_sync(FULL_WARP, at, lane);
        double part = 0.0;
        for (int j = begin + (int)threadIdx.x % 32; j <= end; j += 32)
            part += cell<KIND>(G, j, bottom, top, gap(u, value(y[j])), p);
        part = lane_total(part);
        if ((int)threadIdx.x % 32 == lane) slope = part;
    }
    if (k < n) slopes[row * n + k] = slope / real(F(n - 1));
}

// out[row, place of k] = slopes[row, k], what pulls at coincident points shared by their weights.
template <class Item, class Kind>
__global__ void __launch_bounds__(256)
    share_slopes(const Item* __restrict__ x, long long x_row, int n, const Level* __restrict__ levels,
                 unsigned long long step, const double* __restrict__ slopes, const double* __restrict__ distances,
                 int pieces, double* __restrict__ out) {
    const long long row = blockIdx.x / pieces;
    const int k = (int)(blockIdx.x % pieces) * 256 + (int)threadIdx.x;
    x += row * x_row;
    slopes += row * n;
    out += row * n;
    const auto F = LevelsOf<Kind>::row(levels, n, step, row);
    const double distance = distances[row], poison = distance == distance ? 0.0 : distance;
    int run = 0;
    if (k < n) {
        const double here = value(x[k]);
        const bool head = k == 0 || value(x[k - 1]) != here, alone = k == n - 1 || value(x[k + 1]) != here;
        if (head && alone) {
            out[place(x[k])] = slopes[k] + poison;
        } else if (head) {
            int low = k + 1, high = n;
            while (low < high) {
                const int middle = (low + high) / 2;
                if (value(x[middle]) == here)
                    low = middle + 1;
                else
                    high = middle;
            }
            run = low - k;
        }
    }
    for (unsigned left = __ballot_sync(FULL_WARP, run > 0); left; left &= left - 1) {
        const int lane = __ffs((int)left) - 1, mine = (int)threadIdx.x % 32;
        const int begin = __shfl_sync(FULL_WARP, k, lane), end = begin + __shfl_sync(FULL_WARP, run, lane);
        double pulled = 0.0;
        for (int e = begin + mine; e < end; e += 32) pulled += slopes[e];
        pulled = lane_total(pulled);
        const Level bottom = begin ? F(begin - 1) : Level{0, 0};
        const double weight = real(minus(F(end - 1), bottom));
        for (int e = begin + mine; e < end; e += 32) {
            const double own = real(minus(F(e), e ? F(e - 1) : Level{0, 0}));
            out[place(x[e])] = (weight > 0.0 ? pulled * (own / weight) : slopes[e]) + poison;
        }
    }
}

// How f rises at the sorted points x along the staircase; `first`: x gives way first where both are exhausted. Of the
// first point, the cost of the first cell if `begins`.
template <class Item, int KIND>
struct Rises {
    const Item *x, *y;
    Stored128 F, G;
    Gap gap;
    double p;
    int m;
    bool first, begins;
    __device__ __forceinline__ Twofold operator()(int k) const {
        if (k == 0) return {begins ? raised<KIND>(gap(value(x[0]), value(y[0])), p) : 0.0, 0.0};
        const int j = levels_before(G, m - 1, F(k - 1), !first);
        const double u = value(x[k]), back = value(x[k - 1]), v = value(y[j]);
        return {rise<KIND>(gap(u, v), gap(back, v), gap(u, back), p), 0.0};
    }
};

// sums[row, tile] of the rises of a tile of 2048 points.
template <class Item, int KIND>
__global__ void __launch_bounds__(256)
    rise_tiles(const Item* __restrict__ x, long long x_row, int n, const Item* __restrict__ y, long long y_row, int m,
               const Level* __restrict__ levels_x, const Level* __restrict__ levels_y, const double* __restrict__ units,
               const double* __restrict__ scales, double p, int first, int begins, int tiles,
               Twofold* __restrict__ sums) {
    __shared__ Twofold room[33];
    const long long row = blockIdx.x / tiles;
    const int start = (int)(blockIdx.x % tiles) * 2048 + (int)threadIdx.x * 8;
    const Rises<Item, KIND> rises = {
        x + row * x_row, y + row * y_row, {levels_x + row * n}, {levels_y + row * m}, {units[row], scales[row]}, p, m,
        first != 0,      begins != 0};
    Twofold mine = {0.0, 0.0}, total;
    for (int k = start; k < start + 8 && k < n; ++k) mine = plus(mine, rises(k));
    block_before<Twofold, 256>(mine, room, total);
    if (threadIdx.x == 0) sums[blockIdx.x] = total;
}

// duals[row, k] = the running sum up to k; where it is not the first way to turn, the mean of both. parts[row, tile] =
// sum of weights times the running sums.
template <class Item, int KIND>
__global__ void __launch_bounds__(256)
    potentials_of(const Item* __restrict__ x, long long x_row, int n, const Item* __restrict__ y, long long y_row,
                  int m, const Level* __restrict__ levels_x, const Level* __restrict__ levels_y,
                  const double* __restrict__ units, const double* __restrict__ scales, double p, int first, int begins,
                  int tiles, const Twofold* __restrict__ sums, int second, double* __restrict__ duals,
                  double* __restrict__ parts) {
    __shared__ Twofold room[33];
    __shared__ Twofold offset;
    __shared__ Pair64 space[32];
    const long long row = blockIdx.x / tiles;
    const int tile = (int)(blockIdx.x % tiles), start = tile * 2048 + (int)threadIdx.x * 8;
    const Rises<Item, KIND> rises = {
        x + row * x_row, y + row * y_row, {levels_x + row * n}, {levels_y + row * m}, {units[row], scales[row]}, p, m,
        first != 0,      begins != 0};
    Twofold own[8], mine = {0.0, 0.0}, total;
#pragma unroll
    for (int k = 0; k < 8; ++k) {
        own[k] = {0.0, 0.0};
        if (start + k < n) own[k] = rises(start + k);
        mine = plus(mine, own[k]);
    }
    if (threadIdx.x == 0) {
        Twofold before_tile = {0.0, 0.0};
        for (int k = 0; k < tile; ++k) before_tile = plus(before_tile, sums[row * tiles + k]);
        offset = before_tile;
    }
    Twofold upto = block_before<Twofold, 256>(mine, room, total);
    upto = plus(offset, upto);
    Pair64 weighted = {0.0, 0.0};
#pragma unroll
    for (int k = 0; k < 8; ++k) {
        upto = plus(upto, own[k]);
        const int e = start + k;
        if (e < n) {
            const double w = real(minus(rises.F(e), e ? rises.F(e - 1) : Level{0, 0}));
            double f = upto.x + upto.y;
            if (second) f = 0.5 * (duals[row * n + e] + f);
            duals[row * n + e] = f;
            weighted = plus(weighted, w * f);
        }
    }
    const Team<256> team(nullptr);
    weighted = team.sum(weighted, space);
    if (threadIdx.x == 0) parts[blockIdx.x] = weighted.high;
}

// out[row, place of k] = (duals[row, k] less their mean by weights) times the distance / p.
template <class Item>
__global__ void __launch_bounds__(256)
    centred(const Item* __restrict__ x, long long x_row, int n, const Level* __restrict__ levels,
            const double* __restrict__ duals, const double* __restrict__ parts, int tiles,
            const double* __restrict__ distances, double p, double* __restrict__ out) {
    __shared__ Pair64 room[32];
    __shared__ double mean;
    const long long row = blockIdx.x / tiles;
    const int first = (int)(blockIdx.x % tiles) * 2048;
    Pair64 sum = {0.0, 0.0};
    for (int k = (int)threadIdx.x; k < tiles; k += 256) sum = plus(sum, parts[row * tiles + k]);
    const Team<256> team(nullptr);
    sum = team.sum(sum, room);
    if (threadIdx.x == 0) mean = sum.high / real(levels[row * n + n - 1]);
    __syncthreads();
    const double factor = distances[row] / p;
#pragma unroll
    for (int k = 0; k < 8; ++k) {
        const int e = first + k * 256 + (int)threadIdx.x;
        if (e < n) out[row * n + place(x[row * x_row + e])] = (duals[row * n + e] - mean) * factor;
    }
}
