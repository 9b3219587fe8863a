// What the figures of a plan prove, a block for a problem: bounds of the optimum with regularisation and without, by the
// notation and the roundings of otdist/transport/_bounds.py, and the potentials in the units of the caller.
//
// The plan is rounded to a coupling, Q = diag(x) P diag(y) and a part of rank one (Altschuler et al. 2017); c-transformed
// potentials bound from below. O(n + m) memory traffic beside passes over all pairs: nothing here is worth a tile.
#include "vecmath.cuh"

enum Figure { MASS, LINEAR, KEPT, KEPT_LINEAR, SIZE, RANK_ONE, RANK_ONE_SIZE, BARRED, LEAST, FIGURES };
enum Outcome { VALUE, PLAN_COST, LOWER, UPPER, ENTROPIC_LOWER, ENTROPIC_UPPER, ERROR, EPSILON, RELATIVE, OUTCOMES };

constexpr int BOUNDS_THREADS = 256;
constexpr double HALF_ULP = 1.1102230246251565e-16, LN2 = 0.6931471805599453;

// A sum, with what its terms and their addition may be off.
struct Bracket {
    double sum, size, rounded, slack;

    __device__ __forceinline__ Bracket() : sum(0.0), size(0.0), rounded(0.0), slack(0.0) {}
    __device__ __forceinline__ void add(double term) { sum += term, size += fabs(term); }
    // Over the block; `relative` of the size of the terms is what each may be off, `chain` what their addition may.
    __device__ __forceinline__ void close(double relative, double chain, double* room) {
        sum = block_sum(sum, room), size = block_sum(size, room);
        slack = block_sum(rounded, room) + (relative + chain) * size;
    }
    __device__ __forceinline__ bool finite() const { return fabs(sum) < INFINITY && slack < INFINITY; }
    __device__ __forceinline__ double value() const { return finite() ? sum : (double)NAN_VALUE; }
    __device__ __forceinline__ double low() const { return finite() ? sum - slack - 2.0 * HALF_ULP * fabs(sum) : -INFINITY; }
    __device__ __forceinline__ double high() const { return finite() ? sum + slack + 2.0 * HALF_ULP * fabs(sum) : INFINITY; }
};

// One side of the problem.
struct Side {
    int count;
    const double* mass;
    double rho, slope;  // slope = epsilon / rho

    __device__ __forceinline__ bool prescribed() const { return slope == 0.0; }
    __device__ __forceinline__ double dual(double w, double potential) const {
        return prescribed() ? w * potential : -rho * w * expm1(-potential / rho);
    }
    // what a change of a potential is worth, per mass
    __device__ __forceinline__ double worth(double potential) const { return prescribed() ? 1.0 : exp(-potential / rho); }
    __device__ __forceinline__ double target(double w, double phi) const {
        return prescribed() ? w : w * exp(fmin(-slope * phi, 600.0));
    }
    // rho KL(p | w)
    __device__ __forceinline__ void marginal(Bracket& into, double p, double w, double relative) const {
        if (prescribed()) return;
        const double off = (p - w) / w, log = log1p(fmax(off, -1.0 + HALF_ULP));
        into.add(rho * w * ((1.0 + off) * log - off));
        into.rounded += relative * rho * (p * fabs(log) + fabs(p - w) + relative * p);
    }
};

__device__ __forceinline__ double xlogx(double p, double q) { return p > 0.0 ? p * (log(p) - log(q)) : 0.0; }

// log sum w exp(-potential / rho) over a block.
__device__ inline double log_mass(const Side& side, const double* potential, double* room) {
    const double inverse = side.prescribed() ? 0.0 : 1.0 / side.rho;
    double top = -INFINITY, sum = 0.0;
    for (int i = threadIdx.x; i < side.count; i += BOUNDS_THREADS)
        if (side.mass[i] > 0.0) top = fmax(top, log(side.mass[i]) - potential[i] * inverse);
    top = block_max(top, room);
    for (int i = threadIdx.x; i < side.count; i += BOUNDS_THREADS)
        if (side.mass[i] > 0.0) sum += exp(log(side.mass[i]) - potential[i] * inverse - top);
    return top + log(block_sum(sum, room));
}

// The s for which f + s and g - s have the best dual value.
__device__ inline double shift_of(const Side& rows, const Side& cols, const double* f, const double* g, double* room) {
    const double inverse = (rows.prescribed() ? 0.0 : 1.0 / rows.rho) + (cols.prescribed() ? 0.0 : 1.0 / cols.rho);
    double infinite = 0.0;
    for (int i = threadIdx.x; i < rows.count; i += BOUNDS_THREADS)
        if (rows.mass[i] > 0.0 && !(fabs(f[i]) < INFINITY)) infinite = 1.0;
    if (inverse == 0.0 || block_max(infinite, room) > 0.0) return 0.0;
    return (log_mass(rows, f, room) - log_mass(cols, g, room)) / inverse;
}

// F (k, n) and G (k, m): potentials in base 2; figures (k, 9, n); columns, y, missing (k, m) of the plan; shifts of moved
// clouds, or null; rho (2,) in units of costs, inf for a prescribed marginal. out (k, 9); f, g in the caller's units, each
// half of the value where both marginals are prescribed. `steps`: the longest chain of additions behind a figure.
__global__ void __launch_bounds__(BOUNDS_THREADS, 1)
    bounds(int n, int m, const double* a_all, const double* b_all, const double* F, const double* G,
           const double* figures, const double* columns, const double* y_all, const double* missing_all,
           const double* epsilon, double rho_a, double rho_b, const double* total_all, const double* shift_f,
           const double* shift_g, double steps, double* out, double* f_all, double* g_all) {
    __shared__ double room[32];
    const long long q = blockIdx.x, atn = q * n, atm = q * m;
    const int t = threadIdx.x;
    const double eps = epsilon[q], total = total_all[q], relative = HALF_ULP * (128.0 + steps);
    const double chain = HALF_ULP * (64.0 + (double)(max(n, m) / BOUNDS_THREADS));
    const Side rows{n, a_all + atn, rho_a, rho_a < INFINITY ? eps / rho_a : 0.0};
    const Side cols{m, b_all + atm, rho_b, rho_b < INFINITY ? eps / rho_b : 0.0};
    const bool balanced = rows.prescribed() && cols.prescribed();
    const double* const fig = figures + q * FIGURES * n;
    const double *const a = rows.mass, *const b = cols.mass, *const c = columns + atm;
    const double *const y = y_all + atm, *const rest = missing_all + atm, *const least = fig + (long long)LEAST * n;
    double *const f = f_all + atn, *const g = g_all + atm;
    for (int i = t; i < n; i += BOUNDS_THREADS) f[i] = eps * LN2 * F[atn + i];
    for (int j = t; j < m; j += BOUNDS_THREADS) g[j] = eps * LN2 * G[atm + j];
    __syncthreads();

    double mass_a = 0.0, mass_b = 0.0, offered = 0.0, top_f = 0.0, top_g = 0.0, reach = 0.0, uneven = 0.0;
    for (int i = t; i < n; i += BOUNDS_THREADS)
        if (a[i] > 0.0) mass_a += a[i], top_f = fmax(top_f, fabs(f[i])), reach += a[i] * fabs(f[i]);
    for (int j = t; j < m; j += BOUNDS_THREADS)
        if (b[j] > 0.0) {
            mass_b += b[j], offered += rest[j], top_g = fmax(top_g, fabs(g[j])), reach += b[j] * fabs(g[j]);
            if (cols.prescribed()) uneven += fabs(y[j] * c[j] - fmin(c[j], b[j]));
        }
    mass_a = block_sum(mass_a, room), mass_b = block_sum(mass_b, room), offered = block_sum(offered, room);
    top_f = block_max(top_f, room), top_g = block_max(top_g, room), uneven = block_sum(uneven, room);
    reach = block_sum(reach, room) + top_f * mass_a + top_g * mass_b;
    const double lack = offered / mass_a;
    auto cut = [&](int i) {
        const double kept = fig[(long long)KEPT * n + i];
        return rows.prescribed() && kept > a[i] ? a[i] / kept : 1.0;
    };
    auto missed = [&](int i) {
        return rows.prescribed() ? fmax(a[i] - cut(i) * fig[(long long)KEPT * n + i], 0.0) : a[i] * lack;
    };
    double wanted = 0.0;
    for (int i = t; i < n; i += BOUNDS_THREADS)
        if (a[i] > 0.0) wanted += missed(i);
    wanted = block_sum(wanted, room);
    // What is within the rounding of sums is left to the drift, as is what one side misses and the other has not.
    const bool negligible = fmin(wanted, offered) <= relative * mass_a;
    const double share = negligible ? 0.0 : offered, per = negligible ? 0.0 : offered / wanted;
    const double left = (negligible ? wanted + offered : fabs(wanted - offered)) + uneven;
    double drift = relative * reach;
    if (rows.prescribed() || cols.prescribed()) drift += left * (top_f + top_g);

    const double turn = shift_of(rows, cols, least, g, room), shift = shift_of(rows, cols, f, g, room);
    Bracket lower, moved, spread, dual, shifted;
    double largest = 0.0, barred = 0.0, linear = 0.0, size = 0.0, mass = 0.0, sizes = 0.0, kept = 0.0, error = 0.0, through = 0.0;
    if (turn != 0.0) {
        for (int j = t; j < m; j += BOUNDS_THREADS)
            if (b[j] > 0.0) largest = fmax(largest, fabs(g[j] - turn));
        largest = HALF_ULP * block_max(largest, room);
    }
    for (int i = t; i < n; i += BOUNDS_THREADS) {
        if (!(a[i] > 0.0)) continue;
        const double low = least[i], x = cut(i), own = x * fig[(long long)KEPT * n + i], given = per * missed(i);
        const double row = fig[(long long)MASS * n + i], cost = x * fig[(long long)KEPT_LINEAR * n + i];
        lower.add(rows.dual(a[i], low + turn));
        lower.rounded += a[i] * rows.worth(low + turn) * (HALF_ULP * (fabs(low) + fabs(low + turn)) + largest);
        moved.add(cost);
        moved.rounded += relative * fig[(long long)SIZE * n + i];
        if (share > 0.0) {
            barred += given * fig[(long long)BARRED * n + i];
            moved.add(given * fig[(long long)RANK_ONE * n + i] / share);
            moved.rounded += relative * given * fig[(long long)RANK_ONE_SIZE * n + i] / share;
            spread.add(eps * xlogx(given, a[i]));
        }
        rows.marginal(moved, own + given, a[i], relative);
        spread.add(own * (f[i] + eps * log(x)));
        spread.add(-cost);
        spread.rounded += relative * fig[(long long)SIZE * n + i];
        dual.add(rows.dual(a[i], f[i]));
        shifted.add(rows.dual(a[i], f[i] + shift));
        dual.add(-eps * row), shifted.add(-eps * row);
        linear += fig[(long long)LINEAR * n + i], size += fig[(long long)SIZE * n + i], mass += row, kept += own;
        sizes += row * (fabs(f[i]) + eps * fabs(log2(a[i])));
        const double aim = rows.target(a[i], f[i] / eps);
        error += fabs(row - aim), through += aim;
    }
    for (int j = t; j < m; j += BOUNDS_THREADS) {
        if (!(b[j] > 0.0)) continue;
        const double own = y[j] * c[j], miss = negligible ? 0.0 : rest[j];
        lower.add(cols.dual(b[j], g[j] - turn));
        cols.marginal(moved, own + miss, b[j], relative);
        spread.add(own > 0.0 ? own * (g[j] + eps * log(y[j])) : 0.0);
        if (share > 0.0) spread.add(eps * xlogx(miss, b[j]));
        dual.add(cols.dual(b[j], g[j]));
        shifted.add(cols.dual(b[j], g[j] - shift));
        sizes += c[j] * (fabs(g[j]) + eps * fabs(log2(b[j])));
        const double aim = cols.target(b[j], g[j] / eps);
        error += fabs(c[j] - aim), through += aim;
    }
    linear = block_sum(linear, room), size = block_sum(size, room), mass = block_sum(mass, room);
    kept = block_sum(kept, room), sizes = block_sum(sizes, room), error = block_sum(error, room);
    through = block_sum(through, room), barred = block_sum(barred, room);
    const double product = mass_a * mass_b, everything = kept + share;
    if (t == 0) {
        dual.add(eps * product), shifted.add(eps * product);
        spread.add(-eps * everything), spread.add(eps * product);
        if (share > 0.0) {
            spread.add(kept > 0.0 ? -eps * kept * log(kept / everything) : 0.0);
            spread.add(-eps * share * log(share));
            spread.add(-eps * share * log(share / everything));
        }
    }
    lower.close(relative, chain, room), moved.close(relative, chain, room), spread.close(relative, chain, room);
    dual.close(relative, chain, room), shifted.close(relative, chain, room);
    if (barred > 0.0) moved.slack = INFINITY;
    moved.slack += drift;
    const double inside = 4.4408920985006262e-16 * (sizes + size);  // 2^-51
    dual.slack += inside, shifted.slack += inside + 4.4408920985006262e-16 * fabs(shift) * mass;
    Bracket primal = moved;
    primal.sum += spread.sum, primal.slack += spread.slack;

    // back to the caller's units: the costs of moved clouds, and the mass
    double by = 0.0, more = 0.0;
    if (shift_f != nullptr) {
        for (int i = t; i < n; i += BOUNDS_THREADS) by = fma(a[i], shift_f[atn + i], by);
        for (int j = t; j < m; j += BOUNDS_THREADS) {
            by = fma(b[j], shift_g[atm + j], by);
            more = fma(c[j] - b[j], shift_g[atm + j], more);
        }
        by = block_sum(by, room), more = block_sum(more, room);
    }
    if (t == 0) {
        double* const to = out + q * OUTCOMES;
        const double log_total = balanced && total != 1.0 ? eps * total * log(total) : 0.0;
        const double best = dual.value(), other = shifted.value();
        to[VALUE] = ((best >= other || other != other ? best : other) + by) * total - log_total;
        to[PLAN_COST] = (linear + by + more) * total;
        to[LOWER] = (lower.low() + by) * total;
        to[UPPER] = (moved.high() + by) * total;
        to[ENTROPIC_LOWER] = (fmax(dual.low(), shifted.low()) + by) * total - log_total;
        to[ENTROPIC_UPPER] = (primal.high() + by) * total - log_total;
        const double found = balanced ? error : through > 0.0 ? error / through : error;
        to[ERROR] = found * total, to[RELATIVE] = found;
        to[EPSILON] = eps;
    }
    double half = 0.0;
    if (balanced) {
        for (int i = t; i < n; i += BOUNDS_THREADS) {
            if (shift_f != nullptr) f[i] += shift_f[atn + i];
            half = fma(a[i], f[i], half);
        }
        for (int j = t; j < m; j += BOUNDS_THREADS) {
            g[j] += (shift_g != nullptr ? shift_g[atm + j] : 0.0) - eps * log(total);
            half = fma(-b[j], g[j], half);
        }
        half = 0.5 * block_sum(half, room);
        for (int i = t; i < n; i += BOUNDS_THREADS) f[i] -= half;
        for (int j = t; j < m; j += BOUNDS_THREADS) g[j] += half;
    }
}
