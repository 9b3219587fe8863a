// Soft-min over all pairs, and what is made of an entropic plan, without the plan or the costs of points being stored.
//
//   h_i = -log2 sum_j 2^(v_j - k c_ij),   k = log2(e) / epsilon,   v_j = log2 b_j + log2(e) gamma_j
//   P_ij = 2^(u_i + v_j - k c_ij):        the plan written out, P V, and sum_j P_ij grad_x c(x_i, y_j)
//
// in base 2, for a batch of problems, each with its own k. Weights may be zero: v_j = -inf. Costs may be +inf.
// Sources: Feydy (2020), streamed log-sum-exp; Milakov and Gimelshein (2018), its running reference.
//
// Floor of a pair, float32, points: 2 d operations for the difference and its square, one for the exponent, one
// exponential of 8 issue slots (16 a cycle and processor), one and a quarter for the sums; d = 3: 16 slots of 128 a cycle,
// 1.9e12 pairs a second on 132 processors at 1.8 GHz. Computed distance: 5 loads of shared memory a coordinate and 16
// pairs, a quarter of the issue slots at d = 3; 2.1e12 becomes 1.6e12. A stored matrix: its bytes, 4 a pair.
#include "sweep.cuh"

// Partial log-sum-exps: of `splits` parts of the columns, by blockIdx.y. Problems that are `idle` are passed over.
template <class Source>
__global__ void __launch_bounds__(SWEEP_THREADS, sizeof(typename Source::Real) == 4 ? 3 : 2)
    soft_min(const typename Source::Element* left, const typename Source::Element* right, int d, double power,
             long long left_step, long long right_step, int n, int m, const double* scale, const double* v,
             const int* idle, typename Source::Real* top, typename Source::Real* sum) {
    typedef typename Source::Real Real;
    const int tiles = (n + SWEEP_ROWS - 1) / SWEEP_ROWS, problem = blockIdx.x / tiles;
    if (idle != nullptr && idle[problem] != 0) return;
    const Place at(n, m, blockIdx.x % tiles);
    const Source source(left, right, d, power, problem, left_step, right_step);
    const Real k = (Real)scale[problem];
    v += (long long)problem * m;
    const int size = part_size(m, gridDim.y), start = blockIdx.y * size, stop = min(m, start + size);
    LogSum<Real> found[4];
    for (int j0 = start; j0 < stop; j0 += SWEEP_COLUMNS) {
        Real c[4][4], to[4];
#pragma unroll
        for (int q = 0; q < 4; q++) {
            const int j = j0 + at.lane + 32 * q;
            to[q] = j < stop ? (Real)v[j] : (Real)-INFINITY;
        }
        source.costs(at, j0, c);
#pragma unroll
        for (int r = 0; r < 4; r++) {
            Real t[4];
#pragma unroll
            for (int q = 0; q < 4; q++) t[q] = fma_of(-k, c[r][q], to[q]);
            found[r].add(t);
        }
    }
    const long long out = ((long long)problem * gridDim.y + blockIdx.y) * n;
#pragma unroll
    for (int r = 0; r < 4; r++) {
        found[r].across();
        if (at.lane == 0 && at.row + r < n) {
            top[out + at.row + r] = found[r].top;
            sum[out + at.row + r] = found[r].sum;
        }
    }
}

// h of the parts; the potential kappa h, 0 where nothing may go; and w = potential + log2 of the mass, for the other side.
// `level` and `squares` (`step` from problem to problem), where given: what the parts leave out, level - scale squares of
// an exponent.
template <class Real>
__global__ void __launch_bounds__(256)
    merge_soft_min(const Real* top, const Real* sum, int splits, int n, const double* kappa, const double* mass,
                   const int* idle, const double* level, const double* scale, const double* squares, long long step,
                   double* h, double* potential, double* w) {
    const int tiles = (n + 255) / 256, problem = blockIdx.x / tiles, i = blockIdx.x % tiles * 256 + threadIdx.x;
    if (i >= n || (idle != nullptr && idle[problem] != 0)) return;
    const long long first = (long long)problem * splits * n + i, at = (long long)problem * n + i;
    double high = -INFINITY, total = 0.0;
    for (int s = 0; s < splits; s++) high = fmax(high, (double)top[first + (long long)s * n]);
    for (int s = 0; s < splits; s++) {
        const double part = (double)sum[first + (long long)s * n];
        // 0 beside a reference of -inf, but NaN stays
        total += part == 0.0 ? 0.0 : part * exp2((double)top[first + (long long)s * n] - high);
    }
    double found = total == 0.0 ? INFINITY : -(high + log2(total));
    if (level != nullptr) found += scale[problem] * squares[problem * step + i] - level[problem];
    if (h != nullptr) h[at] = found;
    if (potential != nullptr || w != nullptr) {
        const double own = found == INFINITY ? 0.0 : (kappa == nullptr ? 1.0 : kappa[2 * problem]) * found;
        if (potential != nullptr) potential[at] = own;
        if (w != nullptr) w[at] = own + log2(mass[at]);
    }
}

// The largest exponent that is taken at its word.
__device__ __forceinline__ double entry(double t) { return exp2(fmin(t, 1000.0)); }

// The plan (n, m), times `total`.
template <class Source, class Out>
__global__ void __launch_bounds__(SWEEP_THREADS, 2)
    plan(const typename Source::Element* left, const typename Source::Element* right, int d, double power,
         long long left_step, long long right_step, int n, int m, const double* scale, const double* u, const double* v,
         const double* total, Out* out) {
    const int tiles = (n + SWEEP_ROWS - 1) / SWEEP_ROWS, problem = blockIdx.x / tiles;
    const Place at(n, m, blockIdx.x % tiles);
    const Source source(left, right, d, power, problem, left_step, right_step);
    const double k = scale[problem], whole = total[problem];
    const int size = part_size(m, gridDim.y), start = blockIdx.y * size, stop = min(m, start + size);
    for (int j0 = start; j0 < stop; j0 += SWEEP_COLUMNS) {
        double c[4][4];
        source.costs(at, j0, c);
#pragma unroll
        for (int r = 0; r < 4; r++)
#pragma unroll
            for (int q = 0; q < 4; q++) {
                const int i = at.row + r, j = j0 + at.lane + 32 * q;
                if (i >= n || j >= stop) continue;
                const double t = fma(-k, c[r][q], u[(long long)problem * n + i] + v[(long long)problem * m + j]);
                out[((long long)problem * n + i) * m + j] = cast<Out>(whole * entry(t));
            }
    }
}

// All costs (n, m), for problems small enough.
template <class Source>
__global__ void __launch_bounds__(SWEEP_THREADS, 2)
    matrix(const typename Source::Element* left, const typename Source::Element* right, int d, double power,
           long long left_step, long long right_step, int n, int m, typename Source::Real* out) {
    typedef typename Source::Real Real;
    const int tiles = (n + SWEEP_ROWS - 1) / SWEEP_ROWS, problem = blockIdx.x / tiles;
    const Place at(n, m, blockIdx.x % tiles);
    const Source source(left, right, d, power, problem, left_step, right_step);
    const int size = part_size(m, gridDim.y), start = blockIdx.y * size, stop = min(m, start + size);
    for (int j0 = start; j0 < stop; j0 += SWEEP_COLUMNS) {
        Real c[4][4];
        source.costs(at, j0, c);
#pragma unroll
        for (int r = 0; r < 4; r++)
#pragma unroll
            for (int q = 0; q < 4; q++) {
                const int i = at.row + r, j = j0 + at.lane + 32 * q;
                if (i < n && j < stop) out[((long long)problem * n + i) * m + j] = c[r][q];
            }
    }
}

constexpr int VECTORS = 4;

// out (n, width)[., first ... first + 3] = `total` P V of V (m, width), in `splits` parts (problem, part, n, 4).
template <class Source>
__global__ void __launch_bounds__(SWEEP_THREADS, 1)
    apply(const typename Source::Element* left, const typename Source::Element* right, int d, double power,
          long long left_step, long long right_step, int n, int m, const double* scale, const double* u, const double* v,
          const double* V, int width, int first, double* parts) {
    const int tiles = (n + SWEEP_ROWS - 1) / SWEEP_ROWS, problem = blockIdx.x / tiles;
    const Place at(n, m, blockIdx.x % tiles);
    const Source source(left, right, d, power, problem, left_step, right_step);
    const double k = scale[problem];
    const int size = part_size(m, gridDim.y), start = blockIdx.y * size, stop = min(m, start + size);
    double from[4], found[4][VECTORS];
#pragma unroll
    for (int r = 0; r < 4; r++) {
        from[r] = at.row + r < n ? u[(long long)problem * n + at.row + r] : -INFINITY;
#pragma unroll
        for (int s = 0; s < VECTORS; s++) found[r][s] = 0.0;
    }
    for (int j0 = start; j0 < stop; j0 += SWEEP_COLUMNS) {
        double c[4][4];
        source.costs(at, j0, c);
#pragma unroll
        for (int q = 0; q < 4; q++) {
            const int j = j0 + at.lane + 32 * q;
            if (j >= stop) continue;
            const double to = v[(long long)problem * m + j];
            const double* const row = V + ((long long)problem * m + j) * width + first;
#pragma unroll
            for (int r = 0; r < 4; r++) {
                const double e = entry(fma(-k, c[r][q], from[r] + to));
#pragma unroll
                for (int s = 0; s < VECTORS; s++)
                    if (first + s < width) found[r][s] = fma(e, row[s], found[r][s]);
            }
        }
    }
#pragma unroll
    for (int r = 0; r < 4; r++)
#pragma unroll
        for (int s = 0; s < VECTORS; s++) {
            const double whole = warp_sum(found[r][s]);
            if (at.lane == 0 && at.row + r < n)
                parts[(((long long)problem * gridDim.y + blockIdx.y) * n + at.row + r) * VECTORS + s] = whole;
        }
}

// out (problem, n, width)[., ., first ...] = factor * total * sum of the parts (problem, splits, n, 4), in their order.
template <class Out>
__global__ void __launch_bounds__(256)
    merge_parts(const double* parts, int splits, int n, int width, int first, int count, double factor,
                const double* total, Out* out) {
    const int tiles = (n * count + 255) / 256, problem = blockIdx.x / tiles;
    const int e = blockIdx.x % tiles * 256 + threadIdx.x, i = e / count, s = e % count;
    if (i >= n) return;
    double whole = 0.0;
    for (int part = 0; part < splits; part++)
        whole += parts[(((long long)problem * splits + part) * n + i) * VECTORS + s];
    out[((long long)problem * n + i) * width + first + s] = cast<Out>(factor * total[problem] * whole);
}

// grad_x c(x, y) = slope T(x - y): T is the difference, its signs, or the sign of its first largest coordinate.
template <class Source>
__device__ __forceinline__ double slope_of(double total, double power) {
    constexpr int METRIC = Source::METRIC;
    if (METRIC == SQUARED) return 2.0;
    if (!(total > 0.0)) return 0.0;
    if (Source::RAISED) return power * finished<METRIC, true>(total, power) / total;
    return METRIC == EUCLIDEAN ? 1.0 / sqrt(total) : 1.0;
}

// Coordinates first ... first + 3 of sum_j P_ij grad_x c(x_i, y_j), as `apply` leaves its parts.
template <class Source>
__global__ void __launch_bounds__(SWEEP_THREADS, 1)
    pull(const double* left, const double* right, int d, double power, long long left_step, long long right_step, int n,
         int m, const double* scale, const double* u, const double* v, int first, double* parts) {
    constexpr int METRIC = Source::METRIC;
    const int tiles = (n + SWEEP_ROWS - 1) / SWEEP_ROWS, problem = blockIdx.x / tiles;
    const Place at(n, m, blockIdx.x % tiles);
    const Source source(left, right, d, power, problem, left_step, right_step);
    const double k = scale[problem];
    const int size = part_size(m, gridDim.y), start = blockIdx.y * size, stop = min(m, start + size);
    double from[4], found[4][VECTORS];
#pragma unroll
    for (int r = 0; r < 4; r++) {
        from[r] = at.row + r < n ? u[(long long)problem * n + at.row + r] : -INFINITY;
#pragma unroll
        for (int s = 0; s < VECTORS; s++) found[r][s] = 0.0;
    }
    for (int j0 = start; j0 < stop; j0 += SWEEP_COLUMNS) {
        double c[4][4];
        source.totals(at, j0, c);
#pragma unroll
        for (int q = 0; q < 4; q++) {
            const int j = j0 + at.lane + 32 * q;
            if (j >= stop) continue;
            const double to = v[(long long)problem * m + j];
            const double* const y = source.y + (long long)j * d;
#pragma unroll
            for (int r = 0; r < 4; r++) {
                const int i = min(at.row + r, n - 1);
                const double* const x = source.x + (long long)i * d;
                const double cost = finished<METRIC, Source::RAISED>(c[r][q], power);
                double e = entry(fma(-k, cost, from[r] + to)) * slope_of<Source>(c[r][q], power);
                if (METRIC == CHEBYSHEV)
                    for (int s = 0; s < first; s++) e = fabs(x[s] - y[s]) == c[r][q] ? 0.0 : e;
#pragma unroll
                for (int s = 0; s < VECTORS; s++) {
                    if (first + s >= d) continue;
                    const double apart = x[first + s] - y[first + s];
                    const double sign = apart > 0.0 ? 1.0 : apart < 0.0 ? -1.0 : 0.0;
                    if (METRIC == CHEBYSHEV) {
                        const bool here = fabs(apart) == c[r][q];
                        found[r][s] += here ? e * sign : 0.0;
                        e = here ? 0.0 : e;
                    } else {
                        found[r][s] = fma(e, METRIC == CITYBLOCK ? sign : apart, found[r][s]);
                    }
                }
            }
        }
    }
#pragma unroll
    for (int r = 0; r < 4; r++)
#pragma unroll
        for (int s = 0; s < VECTORS; s++) {
            const double whole = warp_sum(found[r][s]);
            if (at.lane == 0 && at.row + r < n)
                parts[(((long long)problem * gridDim.y + blockIdx.y) * n + at.row + r) * VECTORS + s] = whole;
        }
}
