// Around the soft-min: arguments in normal form, and results in the caller's.
//
// Masses become float64 of sum 1 (balanced), squared distances are taken between clouds whose means are moved together,
// potentials are in base 2. O(n d + m d) bytes each: floor and distance are those of a copy.
#include "vecmath.cuh"

constexpr int STEP_THREADS = 256, STEP_CHUNK = 1024;
constexpr double LOG2_E = 1.4426950408889634;
enum Fault { BAD_ENTRY = 1, BAD_TOTAL = 2, DISAGREE = 4, NO_DIRECTION = 8, NOWHERE = 16, OUT_OF_RANGE = 32, NO_SCALE = 64 };

// out (k, count) = w in float64, or 1 / count where w is null; totals (k,).
template <class T>
__global__ void __launch_bounds__(STEP_THREADS)
    weigh(const T* w, long long step, int count, double* out, double* totals, int* word) {
    __shared__ double room[32];
    const long long q = blockIdx.x;
    double sum = 0.0;
    bool bad = false;
    for (int i = threadIdx.x; i < count; i += STEP_THREADS) {
        const double x = w == nullptr ? 1.0 / count : (double)widen(w[q * step + i]);
        bad = bad || !(x >= 0.0 && x < INFINITY);
        out[q * count + i] = x, sum += x;
    }
    sum = block_sum(sum, room);
    if (bad) raise_flag(word, BAD_ENTRY);
    if (threadIdx.x == 0) {
        totals[q] = sum;
        if (!(sum > 0.0 && sum < INFINITY)) raise_flag(word, BAD_TOTAL);
    }
}

// Masses over their totals, which have to agree; unbalanced ones stay as they are. total (k,): what plans are worth.
__global__ void __launch_bounds__(STEP_THREADS)
    agree(int n, int m, int balanced, double tolerance, double* a, double* b, const double* total_a,
          const double* total_b, double* total, int* word) {
    const long long q = blockIdx.x;
    const double p = total_a[q], r = total_b[q];
    if (threadIdx.x == 0) {
        total[q] = balanced ? p : 1.0;
        if (balanced && !(fabs(p - r) <= tolerance * fmax(p, r))) raise_flag(word, DISAGREE);
    }
    if (!balanced) return;
    for (int i = threadIdx.x; i < n; i += STEP_THREADS) a[q * n + i] /= p;
    for (int j = threadIdx.x; j < m; j += STEP_THREADS) b[q * m + j] /= r;
}

// at (k, d) = sum_i w_i x_i / sum w. Bad coordinates are flagged.
template <class T>
__global__ void __launch_bounds__(STEP_THREADS)
    centre(const T* x, long long step, int n, int d, const double* w, double* at, int* word) {
    __shared__ double room[STEP_THREADS];
    const long long q = blockIdx.x;
    const int k = blockIdx.y * 32 + (threadIdx.x & 31);
    double sum = 0.0, mass = 0.0;
    bool bad = false;
    if (k < d)
        for (int i = threadIdx.x >> 5; i < n; i += STEP_THREADS / 32) {
            const double z = (double)widen(x[q * step + (long long)i * d + k]), weight = w[q * n + i];
            bad = bad || !(fabs(z) < INFINITY);
            sum = fma(weight, z, sum), mass += weight;
        }
    if (bad) raise_flag(word, BAD_ENTRY);
    room[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x < 32)
        for (int s = 1; s < STEP_THREADS / 32; s++) sum += room[threadIdx.x + 32 * s];
    __syncthreads();
    room[threadIdx.x] = mass;
    __syncthreads();
    if (threadIdx.x < 32 && k < d) {
        for (int s = 1; s < STEP_THREADS / 32; s++) mass += room[threadIdx.x + 32 * s];
        at[q * d + k] = mass > 0.0 ? sum / mass : 0.0;
    }
}

// wide, narrow (k, n, d) = x less its centre; narrow may be null.
template <class T>
__global__ void __launch_bounds__(STEP_THREADS)
    cloud(const T* x, long long step, long long size, int d, const double* at, double* wide, float* narrow) {
    const long long blocks = (size + STEP_CHUNK - 1) / STEP_CHUNK, q = blockIdx.x / blocks;
    const long long first = blockIdx.x % blocks * STEP_CHUNK;
    for (long long e = first + threadIdx.x; e < first + STEP_CHUNK && e < size; e += STEP_THREADS) {
        const double z = (double)widen(x[q * step + e]) - at[q * d + e % d];
        wide[q * size + e] = z;
        if (narrow != nullptr) narrow[q * size + e] = (float)z;
    }
}

// Points on the sphere of radius sqrt(1/2), a warp each: half the squared distance is 1 - cos.
template <class T>
__global__ void __launch_bounds__(STEP_THREADS)
    directions(const T* x, int rows, int d, double* wide, float* narrow, int* word) {
    const int i = blockIdx.x * (STEP_THREADS / 32) + (threadIdx.x >> 5), lane = threadIdx.x & 31;
    if (i >= rows) return;
    double top = 0.0, sum = 0.0;
    bool bad = false;
    for (int k = lane; k < d; k += 32) {
        const double z = (double)widen(x[(long long)i * d + k]);
        bad = bad || !(fabs(z) < INFINITY);
        top = fmax(top, fabs(z));
    }
    top = warp_max(top);
    for (int k = lane; k < d; k += 32) {
        const double z = (double)widen(x[(long long)i * d + k]) / top;
        sum = fma(z, z, sum);
    }
    const double over = 1.0 / sqrt(2.0 * warp_sum(sum));
    if (bad) raise_flag(word, BAD_ENTRY);
    if (lane == 0 && !(top > 0.0)) raise_flag(word, NO_DIRECTION);
    for (int k = lane; k < d; k += 32) {
        const double z = (double)widen(x[(long long)i * d + k]) / top * over;
        wide[(long long)i * d + k] = z;
        if (narrow != nullptr) narrow[(long long)i * d + k] = (float)z;
    }
}

// What moving both clouds to one centre takes from squared distances: c = c' + f_i + g_j; `sign` is 1 for x, -1 for y.
__global__ void __launch_bounds__(STEP_THREADS)
    shifts(const double* wide, int n, int d, const double* at, const double* to, double sign, double* out) {
    const int blocks = (n + STEP_THREADS - 1) / STEP_THREADS, i = blockIdx.x % blocks * STEP_THREADS + threadIdx.x;
    const long long q = blockIdx.x / blocks;
    if (i >= n) return;
    double size = 0.0, dot = 0.0;
    for (int k = 0; k < d; k++) {
        const double gap = at[q * d + k] - to[q * d + k];
        size = fma(gap, gap, size), dot = fma(wide[(q * n + i) * d + k], gap, dot);
    }
    out[q * n + i] = 0.5 * size + sign * 2.0 * dot;
}

// epsilon (k,): as given in `own`, else `every`, else a part of the mean cost; log2(e) / epsilon; kappa (k, 2).
__global__ void __launch_bounds__(STEP_THREADS)
    regularise(int k, const double* own, double every, double fraction, int points, const double* survey, int d,
               const double* at, const double* to, double rho_a, double rho_b, double* epsilon, double* scale, double* kappa, int* word) {
    const int q = blockIdx.x * STEP_THREADS + threadIdx.x;
    if (q >= k) return;
    double eps = every;
    if (own != nullptr) eps = own[q];
    else if (!(every > 0.0)) {
        double mean = survey[4 * q];  // of clouds whose means, `at` and `to`, were moved together
        for (int i = 0; at != nullptr && i < d; i++) mean += (at[q * d + i] - to[q * d + i]) * (at[q * d + i] - to[q * d + i]);
        const double low = survey[4 * q + 2], high = survey[4 * q + 3];
        const bool nothing = mean == 0.0 && (points || (low == 0.0 && high == 0.0));
        eps = nothing ? 1.0 : fraction * mean;  // one point: any regularisation gives the same plan
        if (!(eps > 0.0 && eps < INFINITY)) raise_flag(word, NO_SCALE);
    }
    // 2^-960 and 2^960; costs over epsilon, epsilon over rho: 2^900
    const double reach = survey == nullptr ? 0.0 : fmax(fabs(survey[4 * q + 2]), fabs(survey[4 * q + 3]));
    if (!(eps > 1e-289 && eps < 1e289 && reach / eps < 8.45e270)) raise_flag(word, OUT_OF_RANGE);
    epsilon[q] = eps, scale[q] = LOG2_E / eps;
    for (int side = 0; side < 2; side++) {
        const double rho = side == 0 ? rho_a : rho_b;
        if (rho < INFINITY && !(rho >= eps / 8.45e270 && rho <= 1099511627776.0 * eps)) raise_flag(word, OUT_OF_RANGE);
        kappa[2 * q + side] = rho < INFINITY ? 1.0 / (1.0 + eps / rho) : 1.0;
    }
}

// The scale and kappa of a stage on the way to epsilon, max(epsilon, spread / parts); gamma keeps its cost.
__global__ void __launch_bounds__(STEP_THREADS)
    stage(int m, const double* epsilon, const double* survey, double parts, double rho_a, double rho_b, double* scale,
          double* kappa, double* G, double* G_from) {
    __shared__ double ratio;
    const long long q = blockIdx.x;
    if (threadIdx.x == 0) {
        const double eps = fmax(epsilon[q], (survey[4 * q + 3] - survey[4 * q + 2]) / parts), fresh = LOG2_E / eps;
        ratio = G_from == nullptr ? 1.0 : fresh / scale[q];
        scale[q] = fresh;
        kappa[2 * q] = rho_a < INFINITY ? 1.0 / (1.0 + eps / rho_a) : 1.0;
        kappa[2 * q + 1] = rho_b < INFINITY ? 1.0 / (1.0 + eps / rho_b) : 1.0;
    }
    __syncthreads();
    if (G_from == nullptr) return;
    for (int j = threadIdx.x; j < m; j += STEP_THREADS) G[q * m + j] = ratio * G_from[q * m + j];
}

// v = G + log2(b) ready for a pass over the rows, and G in float64 from the caller's potentials in units of costs.
template <class T>
__global__ void __launch_bounds__(STEP_THREADS)
    start(const T* g, long long step, int m, const double* scale, const double* shift, const double* b, double* G, double* v,
          int* word) {
    const int blocks = (m + STEP_THREADS - 1) / STEP_THREADS, j = blockIdx.x % blocks * STEP_THREADS + threadIdx.x;
    const long long q = blockIdx.x / blocks;
    if (j >= m) return;
    if (g != nullptr) {
        const double own = (double)widen(g[q * step + j]) - (shift == nullptr ? 0.0 : shift[q * m + j]);
        const double found = own * scale[q];
        if (!(fabs(own) < INFINITY)) raise_flag(word, BAD_ENTRY);
        G[q * m + j] = found == found ? fmin(fmax(found, -1e15), 1e15) : 0.0;
    }
    v[q * m + j] = G[q * m + j] + log2(b[q * m + j]);
}

// out (size,) = factor sum_q x (q, size): the gradient of an argument that all problems share.
template <class Out>
__global__ void __launch_bounds__(STEP_THREADS) fold(const double* x, int k, long long size, double factor, Out* out) {
    const long long e = (long long)blockIdx.x * STEP_THREADS + threadIdx.x;
    if (e >= size) return;
    double sum = 0.0;
    for (int q = 0; q < k; q++) sum += x[q * size + e];
    out[e] = cast<Out>(factor * sum);
}

// Gradients by points x of those by their directions, a warp each: (p - e <e, p>) / (|x| sqrt 2), in place.
template <class T>
__global__ void __launch_bounds__(STEP_THREADS)
    through_directions(const T* x, long long step, int n, int d, int rows, double* pull) {
    const int i = blockIdx.x * (STEP_THREADS / 32) + (threadIdx.x >> 5), lane = threadIdx.x & 31;
    if (i >= rows) return;
    const T* const own = x + i / n * step + (long long)(i % n) * d;
    double* const p = pull + (long long)i * d;
    double top = 0.0, sum = 0.0, dot = 0.0;
    for (int k = lane; k < d; k += 32) top = fmax(top, fabs((double)widen(own[k])));
    top = warp_max(top);
    for (int k = lane; k < d; k += 32) {
        const double z = (double)widen(own[k]) / top;
        sum = fma(z, z, sum), dot = fma(z, p[k], dot);
    }
    const double length = sqrt(warp_sum(sum)), along = warp_sum(dot) / length;
    for (int k = lane; k < d; k += 32) {
        const double e = (double)widen(own[k]) / top / length;
        p[k] = (p[k] - e * along) / (top * length) / sqrt(2.0);
    }
}

// Gradients by masses, in units of costs: centred potentials where both marginals are prescribed, else
// -expm1(-s phi) / s + opposite - 1 - expm1(-s phi), s = epsilon / rho, times epsilon (otdist/transport/_gibbs.py).
__global__ void __launch_bounds__(STEP_THREADS)
    by_masses(int n, int m, int balanced, const double* f, const double* opposite, const double* epsilon, double rho,
              double* out) {
    __shared__ double room[32];
    const long long q = blockIdx.x;
    const double eps = epsilon[q], slope = rho < INFINITY ? eps / rho : 0.0;
    double level = 0.0;
    if (balanced) {
        for (int i = threadIdx.x; i < n; i += STEP_THREADS) level += f[q * n + i];
    } else {
        for (int j = threadIdx.x; j < m; j += STEP_THREADS) level += opposite[q * m + j];
    }
    level = block_sum(level, room);
    for (int i = threadIdx.x; i < n; i += STEP_THREADS) {
        const double phi = f[q * n + i] / eps;
        double found;
        if (balanced) found = f[q * n + i] - level / n;
        else if (slope == 0.0) found = eps * (phi + (level - 1.0));
        else {
            const double less = expm1(-slope * phi);
            found = eps * (-less / slope + (level - 1.0) - less);
        }
        out[q * n + i] = found;
    }
}

// mean (k, n, d): sums of y under the plan over what leaves every row.
__global__ void __launch_bounds__(STEP_THREADS)
    divide_rows(long long size, int d, const double* sent, double* mean) {
    const long long e = (long long)blockIdx.x * STEP_THREADS + threadIdx.x;
    if (e < size) mean[e] /= sent[e / d];
}

// Gradients by the points of clouds that were moved together: 2 `factor` mass_i (at - to) more, in place.
__global__ void __launch_bounds__(STEP_THREADS)
    carry(long long size, int n, int d, const double* mass, const double* total, const double* at, const double* to,
          double factor, double* pull) {
    const long long e = (long long)blockIdx.x * STEP_THREADS + threadIdx.x;
    if (e >= size) return;
    const long long i = e / d, q = i / n, k = q * d + e % d;
    pull[e] = fma(2.0 * factor * total[q] * mass[i], at[k] - to[k], pull[e]);
}

// values (k, stride)[., column] to the power 1 / p, negative ones as 0.
__global__ void __launch_bounds__(STEP_THREADS)
    roots(int k, const double* values, int stride, int column, double p, double* out) {
    const int q = blockIdx.x * STEP_THREADS + threadIdx.x;
    if (q < k) out[q] = pow(fmax(values[(long long)q * stride + column], 0.0), 1.0 / p);
}

// across - (first + second) / 2 of values (k, stride)[., 0], and what generalised entropies of priced measures add.
__global__ void __launch_bounds__(STEP_THREADS)
    debias(int k, const double* across, const double* first, const double* second, int stride, int balanced,
           const double* epsilon, const double* total_a, const double* total_b, int free_a, int free_b, double* out) {
    const int q = blockIdx.x * STEP_THREADS + threadIdx.x;
    if (q >= k) return;
    const long long at = (long long)q * stride;
    double found = across[at] - 0.5 * (first[at] + second[at]);
    if (!balanced) {
        const double p = total_a[q], r = total_b[q];
        const double more = (free_a ? 0.0 : p * p - p) + (free_b ? 0.0 : r * r - r);
        found += 0.5 * epsilon[q] * ((p - r) * (p - r) - more);
    }
    out[q] = found;
}

// out (k, n) = factor epsilon (total of a - total of b): what masses of different totals add to gradients by masses.
__global__ void __launch_bounds__(STEP_THREADS)
    levels(long long size, int n, const double* epsilon, const double* total_a, const double* total_b, double factor,
           double* out) {
    const long long e = (long long)blockIdx.x * STEP_THREADS + threadIdx.x, q = e / n;
    if (e < size) out[e] = factor * epsilon[q] * (total_a[q] - total_b[q]);
}

// Totals (k,) that have to be 1.
__global__ void __launch_bounds__(STEP_THREADS) need_unit(int k, const double* totals, double tolerance, int* word) {
    const int q = blockIdx.x * STEP_THREADS + threadIdx.x;
    if (q < k && !(fabs(totals[q] - 1.0) <= tolerance)) raise_flag(word, BAD_TOTAL);
}
