// Around the soft-min: arguments in normal form, and the steps of Sinkhorn's iteration that look at potentials alone.
//
// Masses become float64 of sum 1 (balanced), squared distances are taken between clouds whose means are moved together,
// potentials are in base 2. A step is two launches without a word from the host: `measure` sums what the last passes found,
// part by part; in `proceed` every block adds up the parts by itself, in one order, and so comes to the same decision.
// O(n + m) bytes each: floor and distance are those of a copy, DEPTH numbers a column.
#include "extrapolate.cuh"

constexpr int STEP_THREADS = 256, STEP_CHUNK = 1024, DEPTH = 10;
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

// ---- steps ------------------------------------------------------------------------------------------------------------

// What `measure` sums: |columns - target|, row and column targets, the dual value, masses that may go nowhere, the products
// of the last change of the residual and of the residual with all changes.
enum Sum { OFF, ROWS, COLUMNS, DUAL, STRANDED, CHANGES, RESIDUALS = CHANGES + DEPTH, SUMS = RESIDUALS + DEPTH };
// What a problem remembers, twice: one copy is read while the other is written.
enum Memory { COUNT, HEAD, KNOWN, LEAST_ERROR, LAST_DUAL, NOW, BEST, SINCE, GRAM, MEMORY = GRAM + DEPTH * DEPTH };

__device__ __forceinline__ double worth(double mass, double potential, double slope) {
    if (!(mass > 0.0)) return 0.0;
    return slope == 0.0 ? mass * potential / LOG2_E : -mass / slope * expm1(-slope * potential / LOG2_E);
}

__device__ __forceinline__ double aim(double mass, double potential, double slope) {
    return slope == 0.0 || !(mass > 0.0) ? mass : mass * exp(fmin(-slope * potential / LOG2_E, 600.0));
}

// What the passes make of G, less G; for a cloud with itself the mean of both half steps, `mirror` being the first.
__device__ __forceinline__ double residual(double G, double h, double b, double kappa, const double* mirror, long long at) {
    if (!(b > 0.0 && h < INFINITY)) return 0.0;
    return (mirror == nullptr ? kappa * h : 0.5 * (mirror[at] + kappa * h)) - G;
}

// h_n (k, n), F (k, n), h_m (k, m) as the two passes at G left them. parts (k, blocks, SUMS).
__global__ void __launch_bounds__(STEP_THREADS)
    measure(int n, int m, const double* a, const double* b, const double* kappa, const double* h_n, const double* F,
            const double* G, const double* h_m, const double* mirror, const double* memory, const double* last_G, const double* last_R,
            double* dG, double* dR, const int* idle, double* parts) {
    __shared__ double room[32];
    const int chunks = gridDim.y, chunk = blockIdx.y;
    const long long q = blockIdx.x;
    if (idle[q] != 0) return;
    const double* const held = memory + q * MEMORY;
    const bool known = held[KNOWN] != 0.0;
    const int head = (int)held[HEAD];
    const double slope_a = 1.0 / kappa[2 * q] - 1.0, slope_b = 1.0 / kappa[2 * q + 1] - 1.0;
    double sums[SUMS];
#pragma unroll
    for (int s = 0; s < SUMS; s++) sums[s] = 0.0;
    for (int i = chunk * STEP_THREADS + threadIdx.x; i < n; i += chunks * STEP_THREADS) {
        const double mass = a[q * n + i];
        if (mass > 0.0 && !(h_n[q * n + i] < INFINITY)) {
            sums[STRANDED] += mass;
            continue;
        }
        const double sent = aim(mass, F[q * n + i], slope_a);
        sums[ROWS] += sent;
        sums[DUAL] += worth(mass, F[q * n + i], slope_a) - (slope_a > 0.0 ? sent : 0.0);
    }
    for (int j = chunk * STEP_THREADS + threadIdx.x; j < m; j += chunks * STEP_THREADS) {
        const double share = b[q * m + j], own = G[q * m + j], h = h_m[q * m + j];
        if (!(share > 0.0)) continue;
        const double column = share * exp2(own - h), target = aim(share, own, slope_b);
        sums[OFF] += fabs(column - target), sums[COLUMNS] += target;
        sums[DUAL] += worth(share, own, slope_b);
        if (!(h < INFINITY)) sums[STRANDED] += share;
        const double R = residual(own, h, share, kappa[2 * q + 1], mirror, q * m + j);
        if (!known) continue;
        const double change = R - last_R[q * m + j];
        dG[(q * DEPTH + head) * m + j] = own - last_G[q * m + j];
        dR[(q * DEPTH + head) * m + j] = change;
#pragma unroll
        for (int s = 0; s < DEPTH; s++) {
            const double other = s == head ? change : dR[(q * DEPTH + s) * m + j];
            sums[CHANGES + s] = fma(share * change, other, sums[CHANGES + s]);
            sums[RESIDUALS + s] = fma(share * R, other, sums[RESIDUALS + s]);
        }
    }
#pragma unroll
    for (int s = 0; s < SUMS; s++) {
        const double whole = block_sum(sums[s], room);
        if (threadIdx.x == 0) parts[(q * chunks + chunk) * SUMS + s] = whole;
    }
}

// The next G, and v = G + log2(b); the best G so far. A problem whose error is at most `goal` becomes idle.
__global__ void __launch_bounds__(STEP_THREADS)
    proceed(int m, const double* b, const double* kappa, const double* parts, int chunks_of_parts, double goal, double limit,
            const double* memory, double* next, const double* h_m, const double* mirror, double* G, double* v, double* last_G, double* last_R,
            const double* dG, const double* dR, double* best_G, int* idle, int* word) {
    __shared__ double sum[SUMS], held[MEMORY], factor[DEPTH * DEPTH], weights[DEPTH], product[DEPTH];
    __shared__ int back, accepted, done, improved, count_now;
    const long long q = blockIdx.x;
    const int t = threadIdx.x;
    if (idle[q] != 0) return;
    if (t < SUMS) {
        double whole = 0.0;
        for (int c = 0; c < chunks_of_parts; c++) whole += parts[(q * chunks_of_parts + c) * SUMS + t];
        sum[t] = whole;
    }
    if (t < MEMORY) held[t] = memory[q * MEMORY + t];
    __syncthreads();
    if (t == 0) {
        const bool priced = kappa[2 * q] < 1.0 || kappa[2 * q + 1] < 1.0;
        double error = sum[OFF];
        if (priced) error = sum[ROWS] + sum[COLUMNS] > 0.0 ? error / (sum[ROWS] + sum[COLUMNS]) : 0.0;
        const bool known = held[KNOWN] != 0.0;
        const bool lower = sum[DUAL] < held[LAST_DUAL] - 1e-12 * fabs(held[LAST_DUAL]);
        int count = (int)held[COUNT], head = (int)held[HEAD];
        if (sum[STRANDED] > 0.0 && blockIdx.y == 0) raise_flag(word, NOWHERE);
        back = known && lower && error > WORSE * held[LEAST_ERROR];
        done = error <= goal;
        improved = error <= held[BEST];
        accepted = !back;
        held[SINCE] = error < 0.98 * held[BEST] ? 0.0 : held[SINCE] + 1.0;
        held[NOW] = error, held[BEST] = fmin(held[BEST], error);
        if (back) {
            held[COUNT] = held[HEAD] = held[KNOWN] = 0.0;
            count = 0;
        } else {
            if (known) {
                count = min(count + 1, DEPTH);
                for (int s = 0; s < count; s++) {
                    held[GRAM + head * DEPTH + s] = held[GRAM + s * DEPTH + head] = sum[CHANGES + s];
                    product[s] = sum[RESIDUALS + s];
                }
                mixing_weights<DEPTH>(held + GRAM, product, count, factor, weights);
                head = (head + 1) % DEPTH;
            }
            held[COUNT] = count, held[HEAD] = head, held[KNOWN] = 1.0;
            held[LEAST_ERROR] = fmin(held[LEAST_ERROR], error), held[LAST_DUAL] = sum[DUAL];
        }
        count_now = count;
    }
    __syncthreads();
    if (blockIdx.y == 0) {
        if (t < MEMORY) next[q * MEMORY + t] = held[t];
    }
    const double kb = kappa[2 * q + 1];
    for (int j = blockIdx.y * STEP_THREADS + t; j < m; j += gridDim.y * STEP_THREADS) {
        const long long at = q * m + j;
        const double share = b[at], here = G[at], R = residual(here, h_m[at], share, kb, mirror, at);
        if (improved) best_G[at] = here;
        if (done) continue;
        double coming;
        if (back) {
            coming = last_G[at] + last_R[at];
        } else {
            double beyond = 0.0;
            for (int s = 0; s < count_now; s++)
                beyond = fma(weights[s], dG[(q * DEPTH + s) * m + j] + dR[(q * DEPTH + s) * m + j], beyond);
            beyond = fabs(beyond) < INFINITY ? fmin(fmax(beyond, -limit), limit) : 0.0;
            last_G[at] = here, last_R[at] = R;
            coming = here + R - beyond;
        }
        G[at] = coming;
        v[at] = coming + log2(share);
    }
}

// After `proceed`: problems that are done become idle; report (4,): how many are not, the largest error of these, the
// longest time without progress, the largest error of all.
__global__ void __launch_bounds__(STEP_THREADS)
    tally(int k, const double* memory, double goal, int* idle, double* report) {
    __shared__ double room[32];
    double active = 0.0, worst = 0.0, since = 0.0, all = 0.0;
    for (int q = threadIdx.x; q < k; q += STEP_THREADS) {
        const double error = memory[(long long)q * MEMORY + BEST];
        if (error <= goal) idle[q] = 1;
        all = fmax(all, error);
        if (idle[q] == 0) {
            active += 1.0, worst = fmax(worst, error);
            since = fmax(since, memory[(long long)q * MEMORY + SINCE]);
        }
    }
    active = block_sum(active, room), worst = block_max(worst, room);
    since = block_max(since, room), all = block_max(all, room);
    if (threadIdx.x == 0) report[0] = active, report[1] = worst, report[2] = since, report[3] = all;
}

// A new stage, or another arithmetic: nothing is known any more.
__global__ void __launch_bounds__(STEP_THREADS) forget(int k, double* memory, int* idle) {
    const int q = blockIdx.x * STEP_THREADS + threadIdx.x;
    if (q >= k) return;
    idle[q] = 0;
    for (int s = 0; s < MEMORY; s++) {
        const bool high = s == LEAST_ERROR || s == BEST;
        memory[(long long)q * MEMORY + s] = high ? INFINITY : s == LAST_DUAL ? -INFINITY : 0.0;
    }
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
