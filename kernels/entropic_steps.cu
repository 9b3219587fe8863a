// Steps of Sinkhorn's iteration between passes, which look at potentials alone, in base 2.
//
// Two launches without a word from the host: `measure` sums what the last passes found, part by part; in `proceed` every
// block adds up the parts by itself, in one order, and so comes to the same decision. 8 (4 DEPTH + 8) bytes a column: floor
// and distance are those of a copy.
#include "extrapolate.cuh"

constexpr int STEP_THREADS = 256, DEPTH = 10, NOWHERE = 16;
constexpr double LOG2_E = 1.4426950408889634;

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
__global__ void __launch_bounds__(STEP_THREADS, 4)
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
