// Scans of all pairs that price them out: c-transforms, means and extremes of costs, and what a plan's figures prove.
//
//   f_i = min_j c_ij - g_j                        dual feasible with g, whatever g is
//   P_ij = 2^(u_i + v_j - k c_ij), Q_ij = P_ij y_j  their sums, and those of costs under them, row by row
//
// Floor of a pair, float64: 2 d operations for the cost, 30 for the exponential, 20 for the figures of `judge`, 64 a cycle
// and processor: 2e11 pairs a second at d = 3 on 132 processors. Computed distance: the loads of `sweep.cuh`, a tenth.
#include "sweep.cuh"

// Partial minima of c_ij - g_j and where they are (the first of equals), by parts of the columns.
template <class Source>
__global__ void __launch_bounds__(SWEEP_THREADS, 2)
    c_transform(const typename Source::Element* left, const typename Source::Element* right, int d, double power,
                long long left_step, long long right_step, int n, int m, const double* g, typename Source::Real* least,
                int* where) {
    typedef typename Source::Real Real;
    const int tiles = (n + SWEEP_ROWS - 1) / SWEEP_ROWS, problem = blockIdx.x / tiles;
    const Place at(n, m, blockIdx.x % tiles);
    const Source source(left, right, d, power, problem, left_step, right_step);
    const int size = part_size(m, gridDim.y), start = blockIdx.y * size, stop = min(m, start + size);
    Real low[4];
    int first[4];
#pragma unroll
    for (int r = 0; r < 4; r++) low[r] = (Real)INFINITY, first[r] = m;
    for (int j0 = start; j0 < stop; j0 += SWEEP_COLUMNS) {
        Real c[4][4];
        source.costs(at, j0, c);
#pragma unroll
        for (int q = 0; q < 4; q++) {
            const int j = j0 + at.lane + 32 * q;
            if (j >= stop) continue;
            const Real price = (Real)g[(long long)problem * m + j];
#pragma unroll
            for (int r = 0; r < 4; r++) {
                const Real here = c[r][q] - price;
                if (here < low[r]) low[r] = here, first[r] = j;
            }
        }
    }
    const long long out = ((long long)problem * gridDim.y + blockIdx.y) * n;
#pragma unroll
    for (int r = 0; r < 4; r++) {
#pragma unroll
        for (int width = 16; width > 0; width >>= 1) {
            const Real other = __shfl_xor_sync(ALL, low[r], width);
            const int place = __shfl_xor_sync(ALL, first[r], width);
            if (other < low[r] || (other == low[r] && place < first[r])) low[r] = other, first[r] = place;
        }
        if (at.lane == 0 && at.row + r < n) least[out + at.row + r] = low[r], where[out + at.row + r] = first[r];
    }
}

// The least of the parts: f, +inf where nothing may go, and its column, -1 there.
template <class Real>
__global__ void __launch_bounds__(256)
    merge_c_transform(const Real* least, const int* where, int splits, int n, double* f, long long* argmin) {
    const int tiles = (n + 255) / 256, problem = blockIdx.x / tiles, i = blockIdx.x % tiles * 256 + threadIdx.x;
    if (i >= n) return;
    const long long first = (long long)problem * splits * n + i, at = (long long)problem * n + i;
    Real low = (Real)INFINITY;
    int column = -1;
    for (int s = 0; s < splits; s++) {
        const Real here = least[first + (long long)s * n];
        if (here < low) low = here, column = where[first + (long long)s * n];
    }
    if (f != nullptr) f[at] = (double)low;
    if (argmin != nullptr) argmin[at] = column;
}

constexpr int SURVEYED = 4;

// Of every `stride`-th row: sum b c and sum b over finite costs, the least and the largest of these (problem, rows, 4).
// Bad costs (NaN, -inf) set `bit` in `word`.
template <class Source>
__global__ void __launch_bounds__(SWEEP_THREADS, 2)
    survey(const typename Source::Element* left, const typename Source::Element* right, int d, double power,
           long long left_step, long long right_step, int n, int m, const double* b, double* out, int* word, int bit) {
    const int tiles = (n + SWEEP_ROWS - 1) / SWEEP_ROWS, problem = blockIdx.x / tiles;
    const Place at(n, m, blockIdx.x % tiles);
    const Source source(left, right, d, power, problem, left_step, right_step);
    double sum[4] = {0.0, 0.0, 0.0, 0.0}, mass[4] = {0.0, 0.0, 0.0, 0.0}, low[4], high[4];
#pragma unroll
    for (int r = 0; r < 4; r++) low[r] = INFINITY, high[r] = -INFINITY;
    bool bad = false;
    for (int j0 = 0; j0 < m; j0 += SWEEP_COLUMNS) {
        double c[4][4];
        source.costs(at, j0, c);
#pragma unroll
        for (int q = 0; q < 4; q++) {
            const int j = j0 + at.lane + 32 * q;
            if (j >= m) continue;
            const double weight = b[(long long)problem * m + j];
#pragma unroll
            for (int r = 0; r < 4; r++) {
                if (at.row + r >= n) continue;
                bad = bad || !(c[r][q] > -INFINITY);
                if (!(fabs(c[r][q]) < INFINITY)) continue;
                sum[r] = fma(weight, c[r][q], sum[r]);
                mass[r] += weight;
                low[r] = fmin(low[r], c[r][q]), high[r] = fmax(high[r], c[r][q]);
            }
        }
    }
    if (bad) raise_flag(word, bit);
#pragma unroll
    for (int r = 0; r < 4; r++) {
        const double whole = warp_sum(sum[r]), all = warp_sum(mass[r]), least = warp_min(low[r]), most = warp_max(high[r]);
        double* const to = out + ((long long)problem * n + at.row + r) * SURVEYED;
        if (at.lane == 0 && at.row + r < n) to[0] = whole, to[1] = all, to[2] = least, to[3] = most;
    }
}

// Of every problem: the mean of the finite costs under a x b, their mass, the least and the largest; 0 if there is none.
__global__ void __launch_bounds__(256) merge_survey(const double* rows, int n, const double* a, double* out) {
    __shared__ double room[32];
    const long long problem = blockIdx.x;
    double sum = 0.0, mass = 0.0, low = INFINITY, high = -INFINITY;
    for (int i = threadIdx.x; i < n; i += 256) {
        const double* const of = rows + (problem * n + i) * SURVEYED;
        const double weight = a[problem * n + i];
        sum = fma(weight, of[0], sum), mass = fma(weight, of[1], mass);
        low = fmin(low, of[2]), high = fmax(high, of[3]);
    }
    sum = block_sum(sum, room), mass = block_sum(mass, room);
    low = -block_max(-low, room), high = block_max(high, room);
    if (threadIdx.x == 0) {
        double* const to = out + problem * SURVEYED;
        to[0] = mass > 0.0 ? sum / mass : INFINITY, to[1] = mass;
        to[2] = low <= high ? low : 0.0, to[3] = low <= high ? high : 0.0;
    }
}

// Of every row: sum P, sum P c, sum Q, sum Q c, sum (P + Q) |c|, sum c r, sum |c| r, sum of r where c is infinite, and
// min c - g; parts (problem, part, 9, n).
enum Figure { MASS, LINEAR, KEPT, KEPT_LINEAR, SIZE, RANK_ONE, RANK_ONE_SIZE, BARRED, LEAST, FIGURES };

template <class Source>
__global__ void __launch_bounds__(SWEEP_THREADS, 1)
    judge(const typename Source::Element* left, const typename Source::Element* right, int d, double power,
          long long left_step, long long right_step, int n, int m, const double* scale, const double* u, const double* v,
          const double* g, const double* y, const double* missing, double* parts) {
    const int tiles = (n + SWEEP_ROWS - 1) / SWEEP_ROWS, problem = blockIdx.x / tiles;
    const Place at(n, m, blockIdx.x % tiles);
    const Source source(left, right, d, power, problem, left_step, right_step);
    const double k = scale[problem];
    const int size = part_size(m, gridDim.y), start = blockIdx.y * size, stop = min(m, start + size);
    double from[4], found[4][FIGURES];
#pragma unroll
    for (int r = 0; r < 4; r++) {
        from[r] = at.row + r < n ? u[(long long)problem * n + at.row + r] : -INFINITY;
#pragma unroll
        for (int s = 0; s < FIGURES; s++) found[r][s] = s == LEAST ? INFINITY : 0.0;
    }
    for (int j0 = start; j0 < stop; j0 += SWEEP_COLUMNS) {
        double c[4][4];
        source.costs(at, j0, c);
#pragma unroll
        for (int q = 0; q < 4; q++) {
            const int j = j0 + at.lane + 32 * q;
            if (j >= stop) continue;
            const long long place = (long long)problem * m + j;
            const double to = v[place], price = g[place], part = y[place], rest = missing[place];
#pragma unroll
            for (int r = 0; r < 4; r++) {
                const bool allowed = c[r][q] < INFINITY;
                found[r][LEAST] = fmin(found[r][LEAST], c[r][q] - price);
                if (!allowed) found[r][BARRED] += rest;
                const double cost = allowed ? c[r][q] : 0.0;
                const double e = allowed ? exp2(fmin(fma(-k, cost, from[r] + to), 1000.0)) : 0.0, kept = e * part;
                found[r][MASS] += e;
                found[r][LINEAR] = fma(e, cost, found[r][LINEAR]);
                found[r][KEPT] += kept;
                found[r][KEPT_LINEAR] = fma(kept, cost, found[r][KEPT_LINEAR]);
                found[r][SIZE] = fma(e + kept, fabs(cost), found[r][SIZE]);
                found[r][RANK_ONE] = fma(rest, cost, found[r][RANK_ONE]);
                found[r][RANK_ONE_SIZE] = fma(rest, fabs(cost), found[r][RANK_ONE_SIZE]);
            }
        }
    }
#pragma unroll
    for (int r = 0; r < 4; r++)
#pragma unroll
        for (int s = 0; s < FIGURES; s++) {
            const double whole = s == LEAST ? warp_min(found[r][s]) : warp_sum(found[r][s]);
            if (at.lane == 0 && at.row + r < n)
                parts[(((long long)problem * gridDim.y + blockIdx.y) * FIGURES + s) * n + at.row + r] = whole;
        }
}

// figures (problem, 9, n) of the parts.
__global__ void __launch_bounds__(256) merge_judge(const double* parts, int splits, int n, double* figures) {
    const int tiles = (n * FIGURES + 255) / 256, problem = blockIdx.x / tiles;
    const int e = blockIdx.x % tiles * 256 + threadIdx.x, s = e / n;
    if (s >= FIGURES) return;
    double whole = s == LEAST ? INFINITY : 0.0;
    for (int part = 0; part < splits; part++) {
        const double here = parts[((long long)problem * splits + part) * FIGURES * n + e];
        whole = s == LEAST ? fmin(whole, here) : whole + here;
    }
    figures[(long long)problem * FIGURES * n + e] = whole;
}

// Columns of the plan, b 2^(G - h), h of the columns; what turns P into Q, and what Q still misses of prescribed columns.
__global__ void __launch_bounds__(256)
    judge_columns(int m, double* G, const double* h, const double* b, const double* kappa, const double* epsilon,
                  double* columns, double* y, double* missing, double* v, double* g) {
    const int tiles = (m + 255) / 256, problem = blockIdx.x / tiles, j = blockIdx.x % tiles * 256 + threadIdx.x;
    if (j >= m) return;
    const long long at = (long long)problem * m + j;
    const double share = b[at], column = share > 0.0 ? share * exp2(G[at] - h[at]) : 0.0;
    const bool prescribed = kappa[2 * problem + 1] == 1.0;
    // a column without mass follows from the rows
    if (!(share > 0.0)) G[at] = h[at] < INFINITY ? kappa[2 * problem + 1] * h[at] : 0.0;
    columns[at] = column;
    y[at] = prescribed && column > share ? share / column : 1.0;
    missing[at] = prescribed ? share - fmin(column, share) : 0.0;
    v[at] = G[at] + log2(share);
    g[at] = epsilon[problem] * G[at] * 0.6931471805599453;
}
