// Small entropic problems, each solved whole by one block: the plan in shared memory, potentials in registers.
//
// In base 2, P_ij = a_i b_j 2^(f_i + g_j - z_ij), z = k (c - least cost), k = log2(e) / epsilon. Given g the rows are solved
// by a true log-sum-exp and P is kept (*absorption*, Schmitzer 2019); from there scalings u, v of P need no exponentials:
//
//   u = (r / P v)^kappa_a,   columns c = v P^T u,   g <- g - (log2 (c / b) + g) kappa_b - ... (extrapolate.cuh)
//
// r being the sums of rows at absorption. Scalings that leave the safe range are absorbed; a column too faint for that is
// solved by a log-sum-exp of its own. Large spreads of costs are approached through larger epsilon.
//
// P has an odd number of columns in memory, so that threads along rows and along columns both use every bank. Floor of an
// iteration, 64 x 64, float64: 2 n m multiplications, 128 cycles of a processor. Computed distance: 2 loads a product from
// shared memory, 4 groups of threads a row, 7 barriers and 31 shuffles: about 1500 cycles, 0.9 us, so 256 problems on 132
// processors, several to one, take about 0.1 ms for 100 iterations.
#include "extrapolate.cuh"

constexpr int BATCH_THREADS = 256, BATCH_DEPTH = 5, FIGURES_OF_STEP = 16, WARPS = BATCH_THREADS / 32;
constexpr double LOG2_E = 1.4426950408889634;
// Stages: the first epsilon is at least the spread of the costs over FIRST, each next one is smaller by FACTOR.
constexpr double FIRST = 16.0, FACTOR = 4.0, ROUGH = 1e-3;
// Passes without progress that end a solve; below IDLE_ERROR they are few.
constexpr int PATIENCE = 1000, SETTLED = 40;
constexpr double IDLE_ERROR = 1e-8;
constexpr int CONVERGED = 0, MAX_ITER = 1, STALLED = 2;

// Powers of two that scalings may hold.
template <class Real>
struct Safe {
    static constexpr double bits = sizeof(Real) == 4 ? 20.0 : 60.0;
};

// Sixteen sums over a block; `room` holds (WARPS + 1, 16) numbers. All threads get them in room[0 ... 15].
__device__ __forceinline__ void sums_of_step(double (&x)[FIGURES_OF_STEP], double* room) {
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
#pragma unroll
    for (int level = 0; level < 4; level++) {
        const int half = 8 >> level, bit = 1 << level;
#pragma unroll
        for (int s = 0; s < 8; s++) {
            if (s >= half) break;
            const bool upper = (lane & bit) != 0;
            const double keep = upper ? x[s + half] : x[s], give = upper ? x[s] : x[s + half];
            x[s] = keep + __shfl_xor_sync(ALL, give, bit);
        }
    }
    x[0] += __shfl_xor_sync(ALL, x[0], 16);
    if (lane < 16) {
        const int which = (lane & 1) << 3 | (lane & 2) << 1 | (lane & 4) >> 1 | (lane & 8) >> 3;
        room[(1 + warp) * FIGURES_OF_STEP + which] = x[0];
    }
    __syncthreads();
    if (threadIdx.x < FIGURES_OF_STEP) {
        double whole = 0.0;
        for (int w = 0; w < WARPS; w++) whole += room[(1 + w) * FIGURES_OF_STEP + threadIdx.x];
        room[threadIdx.x] = whole;
    }
    __syncthreads();
}

// What a mass adds to the dual value, in units of epsilon, by its potential in base 2.
__device__ __forceinline__ double paid(double mass, double potential, double kappa) {
    if (kappa == 1.0) return mass * potential / LOG2_E;
    return -kappa / (1.0 - kappa) * mass * expm1(-(1.0 / kappa - 1.0) * potential / LOG2_E);
}

// Everything of one problem that its block shares.
template <class Real>
struct Shared {
    double room[(WARPS + 1) * FIGURES_OF_STEP];
    double gram[BATCH_DEPTH * BATCH_DEPTH], factor[BATCH_DEPTH * BATCH_DEPTH], weights[BATCH_DEPTH];
    double f[BATCH_THREADS], r[BATCH_THREADS];  // of rows, at absorption
    double g[BATCH_THREADS];                    // of columns, with their masses
    Real part[BATCH_THREADS], u[BATCH_THREADS], v[BATCH_THREADS];
};

// P and its sums of rows and columns.
template <class Real>
struct Plan {
    Real* P;
    int n, m, ld;

    // sum_j P_ij v_j of row threadIdx.x
    __device__ __forceinline__ Real rows(Shared<Real>& at) const { return lines(n, m, ld, 1, at.v, at.part); }
    // sum_i P_ij u_i of column threadIdx.x
    __device__ __forceinline__ Real columns(Shared<Real>& at) const { return lines(m, n, 1, ld, at.u, at.part); }

  private:
    __device__ __forceinline__ Real lines(int count, int length, int step, int along, const Real* x, Real* part) const {
        const int padded = (count + 31) / 32 * 32, groups = BATCH_THREADS / padded;
        const int line = threadIdx.x % padded, group = threadIdx.x / padded;
        __syncthreads();  // x is there, and nobody reads `part`
        if (group < groups) {
            Real s0 = 0, s1 = 0;
            if (line < count) {
                const Real* const p = P + line * step;
                int e = group;
                for (; e + groups < length; e += 2 * groups) {
                    s0 = fma_of(p[e * along], x[e], s0);
                    s1 = fma_of(p[(e + groups) * along], x[e + groups], s1);
                }
                if (e < length) s0 = fma_of(p[e * along], x[e], s0);
            }
            part[threadIdx.x] = s0 + s1;
        }
        __syncthreads();
        Real whole = 0;
        if (threadIdx.x < count)
            for (int s = 0; s < groups; s++) whole += part[s * padded + threadIdx.x];
        return whole;
    }
};

// gamma (k, m): where to start if `warm`, then the outcome, in base 2; error, passes, code (k,).
template <class T, class Real>
__global__ void __launch_bounds__(BATCH_THREADS, 1)
    sinkhorn_batch(const T* costs, long long step, int n, int m, const double* a, const double* b, const double* scale,
                   const double* kappa, double tol, int cap, int warm, double* gamma, double* error, int* passes,
                   int* code) {
    extern __shared__ __align__(16) unsigned char batch_shared[];
    Shared<Real>& at = *reinterpret_cast<Shared<Real>*>(batch_shared);
    const Plan<Real> plan{reinterpret_cast<Real*>(batch_shared + sizeof(Shared<Real>)), n, m, m | 1};
    const int t = threadIdx.x, lane = t & 31, warp = t >> 5;
    const long long q = blockIdx.x;
    const T* const C = costs + q * step;
    const double k = scale[q], kappa_a = kappa[2 * q], kappa_b = kappa[2 * q + 1];
    const double mass = t < n ? a[q * n + t] : 0.0, share = t < m ? b[q * m + t] : 0.0;
    const double log_share = log2(share);
    const bool priced = kappa_a < 1.0 || kappa_b < 1.0;

    // the least and the largest cost between masses
    at.f[t] = mass, at.g[t] = share;
    __syncthreads();
    double least = INFINITY, most = -INFINITY;
    for (int i = warp; i < n; i += WARPS)
        if (at.f[i] > 0.0)
            for (int j = lane; j < m; j += 32) {
                const double c = (double)widen(C[i * m + j]);
                if (at.g[j] > 0.0 && c < INFINITY) least = fmin(least, c), most = fmax(most, c);
            }
    least = -block_max(-least, at.room);
    most = block_max(most, at.room);
    if (!(least <= most)) least = most = 0.0;
    const double reach = k * fmax(most - least, priced ? fabs(least) : 0.0);
    double stretch = warm ? 1.0 : fmax(1.0, reach / (FIRST * LOG2_E));

    double G = warm && t < m ? gamma[q * m + t] : 0.0, before = 0.0, earlier = 0.0, worst = INFINITY;
    int done = 0, idle = 0;
    bool stalled = false;
    while (true) {
        const bool final = stretch == 1.0;
        const double per = k / stretch, offset = least * per;
        const double ka = kappa_a / (kappa_a + stretch * (1.0 - kappa_a));
        const double kb = kappa_b / (kappa_b + stretch * (1.0 - kappa_b)), slope_b = 1.0 / kb - 1.0;
        const double goal = final ? tol : fmax(tol, ROUGH);
        double last_G = 0.0, last_R = 0.0, dG[BATCH_DEPTH], dR[BATCH_DEPTH], least_error = INFINITY, best = INFINITY;
        double absorbed = 0.0, last_dual = -INFINITY;
        int count = 0, head = 0;
        bool known = false, absorb = true;
#pragma unroll
        for (int s = 0; s < BATCH_DEPTH; s++) dG[s] = dR[s] = 0.0;
        idle = 0;
        while (true) {
            const bool fresh = absorb;
            if (absorb) {
                __syncthreads();
                at.g[t] = G + log_share;
                at.u[t] = (Real)1, at.v[t] = (Real)1;
                __syncthreads();
                for (int i = warp; i < n; i += WARPS) {
                    double e[BATCH_THREADS / 32], top = -INFINITY, total = 0.0;
                    const double own = a[q * n + i];
#pragma unroll
                    for (int s = 0; s < BATCH_THREADS / 32; s++) {
                        const int j = lane + 32 * s;
                        e[s] = j < m && own > 0.0 ? fma(-per, (double)widen(C[i * m + j]) - least, at.g[j]) : -INFINITY;
                        top = fmax(top, e[s]);
                    }
                    top = warp_max(top);
#pragma unroll
                    for (int s = 0; s < BATCH_THREADS / 32; s++) {
                        e[s] = top > -INFINITY ? exp2(e[s] - top) : 0.0;
                        total += e[s];
                    }
                    total = warp_sum(total);
                    const double level = top + log2(total);
                    const double f = total > 0.0 ? -ka * level - (1.0 - ka) * offset : 0.0;
                    const double sum = !(total > 0.0) ? 0.0
                                       : ka == 1.0    ? own
                                                      : own * exp2(fmin(fmax(f + level, -1000.0), 900.0));
                    if (lane == 0) at.f[i] = f, at.r[i] = sum;
                    const double over = total > 0.0 ? sum / total : 0.0;
#pragma unroll
                    for (int s = 0; s < BATCH_THREADS / 32; s++)
                        if (lane + 32 * s < m) plan.P[i * plan.ld + lane + 32 * s] = (Real)(over * e[s]);
                }
                absorbed = G;
                absorb = false;
            } else {
                __syncthreads();
                at.v[t] = (Real)exp2(G - absorbed);
            }
            done++;
            bool strayed = false;
            double sent = 0.0;
            if (!fresh) {
                const double x = (double)plan.rows(at);
                if (t < n && at.r[t] > 0.0) {
                    const double ratio = at.r[t] / x;
                    strayed = !(fabs(log2(ratio)) < Safe<Real>::bits);
                    const double u = ka == 1.0 ? ratio : exp2(ka * log2(ratio));
                    at.u[t] = (Real)u;
                    sent = u * x;
                }
            } else {
                __syncthreads();
                sent = t < n ? at.r[t] : 0.0;
            }
            const double y = (double)plan.columns(at);
            double R = 0.0, off = 0.0, target = 0.0;
            bool faint = false;
            double dual = 0.0;
            if (t < n && at.r[t] > 0.0)
                dual = paid(mass, at.f[t] + offset + log2((double)at.u[t]), ka) - (ka < 1.0 ? sent : 0.0);
            if (t < m && share > 0.0) {
                const double column = y * exp2(G - absorbed);
                target = kb == 1.0 ? share : share * exp2(fmin(fmax(-slope_b * G, -1000.0), 900.0));
                off = fabs(column - target);
                dual += paid(share, G, kb);
                faint = !(y > share * 8.67361737988403547e-19);  // 2^-60
                R = faint ? 0.0 : -kb * (log2(column) - log_share - G) - G;
            }
            double figures[FIGURES_OF_STEP] = {off, sent, target, dual, strayed ? 1.0 : 0.0,
                                               faint ? 1.0 : 0.0};
            if (known) {
#pragma unroll
                for (int s = 0; s < BATCH_DEPTH; s++)
                    if (s == head) dG[s] = G - last_G, dR[s] = R - last_R;
#pragma unroll
                for (int s = 0; s < BATCH_DEPTH; s++) {
                    figures[6 + s] = share * (R - last_R) * dR[s];
                    figures[11 + s] = share * R * dR[s];
                }
            }
            sums_of_step(figures, at.room);
            const double* const sum = at.room;
            const bool out_of_range = sum[4] > 0.0;
            if (out_of_range && !fresh) {  // seen through scalings that cannot be trusted
                absorb = true, known = false, count = head = 0;
                if (done < cap) continue;
            }
            worst = sum[0];
            if (priced) worst = sum[1] + sum[2] > 0.0 ? worst / (sum[1] + sum[2]) : 0.0;
            idle = worst < 0.9 * best ? 0 : idle + 1;
            if (idle == 0) best = worst;
            const bool over = worst != worst || idle >= (worst < IDLE_ERROR ? SETTLED : PATIENCE);
            if (worst <= goal || done >= cap || over) {
                stalled = over;
                break;
            }
            const bool thin = sum[5] > 0.0, lower = sum[3] < last_dual - 1e-12 * fabs(last_dual);
            const double height = sum[3];
            __syncthreads();  // the sums have been read
            if (thin) {
                // columns by log-sum-exps of their own, from potentials of the rows
                at.f[t] = t < n && mass > 0.0 ? at.f[t] + log2((double)at.u[t]) + log2(mass) : -INFINITY;
                __syncthreads();
                if (t < m && share > 0.0) {
                    double top = -INFINITY, total = 0.0;
                    for (int i = 0; i < n; i++) top = fmax(top, fma(-per, (double)widen(C[i * m + t]) - least, at.f[i]));
                    if (top > -INFINITY) {
                        for (int i = 0; i < n; i++)
                            total += exp2(fma(-per, (double)widen(C[i * m + t]) - least, at.f[i]) - top);
                        G = -kb * (top + log2(total));
                    }
                }
                absorb = true, known = false, count = head = 0;
                done++;
                continue;
            }
            if (known && lower && worst > WORSE * least_error) {
                G = last_G + last_R;
                known = false, count = head = 0;
            } else {
                if (known) {
                    count = min(count + 1, BATCH_DEPTH);
                    if (t == 0) {
                        for (int s = 0; s < count; s++)
                            at.gram[head * BATCH_DEPTH + s] = at.gram[s * BATCH_DEPTH + head] = sum[6 + s];
                        mixing_weights<BATCH_DEPTH>(at.gram, sum + 11, count, at.factor, at.weights);
                    }
                    head = (head + 1) % BATCH_DEPTH;
                }
                __syncthreads();
                last_G = G, last_R = R, least_error = fmin(least_error, worst), last_dual = height, known = true;
                double beyond = 0.0;
#pragma unroll
                for (int s = 0; s < BATCH_DEPTH; s++)
                    if (s < count) beyond += at.weights[s] * (dG[s] + dR[s]);
                const double limit = reach / stretch + 15.0;
                const double farthest = block_max(share > 0.0 ? fabs(beyond) : 0.0, at.room);
                if (!(farthest <= limit)) beyond = farthest < INFINITY ? beyond * (limit / farthest) : 0.0;
                G += R - beyond;
            }
            absorb = __syncthreads_or(t < m && share > 0.0 && !(fabs(G - absorbed) < Safe<Real>::bits)) != 0;
        }
        if (final || done >= cap) break;
        const double coming = stretch > 1.001 * FACTOR ? stretch / FACTOR : 1.0;
        // in units of the costs potentials are nearly linear in epsilon
        const double along = earlier > 0.0 ? (stretch - coming) / (earlier - stretch) : 0.0, here = G * stretch;
        G = (here + along * (here - before)) / coming;
        before = here, earlier = stretch, stretch = coming;
        stalled = false;
    }
    if (t < m) gamma[q * m + t] = G * stretch;
    if (t == 0) {
        error[q] = worst, passes[q] = done;
        code[q] = stretch == 1.0 && worst <= tol ? CONVERGED : stalled ? STALLED : MAX_ITER;
    }
}
