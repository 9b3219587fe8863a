// What is known of rows before their pairs are formed: validation, sums, entropies, limits, tables.
//
// One warp for a row, entries in float64. Floor: one read of the rows for `survey`, one for `judge`, a read and a write
// of 8 bytes an entry for a table; a logarithm or a power an entry where the engine wants one. All of it is O(n k)
// beside O(n m k).
#include "engines.cuh"

// Why a row has no value (bits of the argument's status word).
#define INVALID_ENTRY 1
#define BAD_SUM 2
// What the sum of a row has to be.
#define ANY_SUM 0
#define ONE 1
#define POSITIVE 2

template <class Entry>
__device__ __forceinline__ double entry(const Entry* x) {
    return fabs((double)widen(*x));  // -0 is 0
}

__device__ __forceinline__ Compensated<double> warp_sum(Compensated<double> x) {
    for (int d = WARP / 2; d > 0; d /= 2) {
        Compensated<double> y;
        y.sum = __shfl_xor_sync(ALL, x.sum, d);
        y.rest = __shfl_xor_sync(ALL, x.rest, d);
        // the lanes of a pair add the same numbers in the same order
        const bool upper = threadIdx.x & d;
        Compensated<double> low = upper ? y : x;
        low.add(upper ? x : y);
        x = low;
    }
    return x;
}

// facts (5, n): sum and its rest, least positive entry (0 where there is none), greatest, whether there are zeros; -1
// for that of a row that is refused. The status word gets the reasons.
template <class Entry>
__global__ void __launch_bounds__(256, 4)
    survey(const Entry* __restrict__ x, long long n, int bins, int rule, double tolerance, double* __restrict__ facts,
           int* __restrict__ flags) {
    const long long i = (long long)blockIdx.x * 8 + threadIdx.x / WARP;
    const int lane = threadIdx.x % WARP;
    if (i >= n) return;
    Compensated<double> sum;
    double least = INFINITY, greatest = 0.0;
    bool zeros = false, bad = false;
    for (int k = lane; k < bins; k += WARP) {
        const double v = (double)widen(x[i * bins + k]);
        if (!(v >= 0.0 && v < INFINITY)) {
            bad = true;
            continue;
        }
        sum.add(v);
        greatest = fmax(greatest, v);
        if (v > 0.0) least = fmin(least, v);
        else zeros = true;
    }
    sum = warp_sum(sum);
    least = warp_min(least);
    greatest = warp_max(greatest);
    zeros = __any_sync(ALL, zeros);
    bad = __any_sync(ALL, bad);
    if (lane) return;
    const double total = sum.sum + sum.rest;
    const bool off = rule == ONE ? !(fabs(total - 1.0) <= tolerance) : rule == POSITIVE && total == 0.0;
    if (bad || off) raise_flag(flags, bad ? INVALID_ENTRY : BAD_SUM);
    facts[i] = total;
    facts[n + i] = (sum.sum - total) + sum.rest;
    facts[2 * n + i] = greatest > 0.0 ? least : 0.0;
    facts[3 * n + i] = greatest;
    facts[4 * n + i] = bad || off ? -1.0 : zeros ? 1.0 : 0.0;
}

// y = x over its sum, by way of powers of two that keep both in range.
template <class Entry>
__global__ void __launch_bounds__(256, 4)
    normalise(const Entry* __restrict__ x, long long n, int bins, double* __restrict__ y) {
    const long long i = (long long)blockIdx.x * 8 + threadIdx.x / WARP;
    const int lane = threadIdx.x % WARP;
    if (i >= n) return;
    double most = 0.0, sum = 0.0;
    for (int k = lane; k < bins; k += WARP) most = fmax(most, entry(x + i * bins + k));
    most = warp_max(most);
    int e = 0;
    if (most < INFINITY) frexp(most, &e);
    for (int k = lane; k < bins; k += WARP) sum += ldexp(entry(x + i * bins + k), -e);
    sum = warp_sum(sum);
    for (int k = lane; k < bins; k += WARP) y[i * bins + k] = ldexp(entry(x + i * bins + k), -e) / sum;
}

// y = softmax of x; `far`: finite logits of some row lie so far apart that their probabilities might underflow; parts
// (2, n): the maximum of each row (NaN if it is refused), and the logarithm of its sum of exponentials after that.
template <class Entry>
__global__ void __launch_bounds__(256, 4)
    softmax(const Entry* __restrict__ x, long long n, int bins, double* __restrict__ y, int* __restrict__ flags,
            int* __restrict__ far, double* __restrict__ parts) {
    const long long i = (long long)blockIdx.x * 8 + threadIdx.x / WARP;
    const int lane = threadIdx.x % WARP;
    if (i >= n) return;
    double most = -(double)INFINITY, least = INFINITY, sum = 0.0;
    bool bad = false;
    for (int k = lane; k < bins; k += WARP) {
        const double v = (double)widen(x[i * bins + k]);
        bad |= !(v < INFINITY);
        most = fmax(most, v);
        if (v > -(double)INFINITY) least = fmin(least, v);
    }
    most = warp_max(most);
    least = warp_min(least);
    bad = __any_sync(ALL, bad) || most == -(double)INFINITY;
    if (lane == 0 && bad) raise_flag(flags, INVALID_ENTRY);
    if (lane == 0 && !bad && most - least > 600.0) raise_flag(far, 1);
    for (int k = lane; k < bins; k += WARP) sum += exp((double)widen(x[i * bins + k]) - most);
    sum = warp_sum(sum);
    if (lane == 0) {
        parts[i] = bad ? (double)NAN : most;
        parts[n + i] = log(sum);
    }
    for (int k = lane; k < bins; k += WARP)
        y[i * bins + k] = bad ? (double)NAN : exp((double)widen(x[i * bins + k]) - most) / sum;
}

// globals: the power of two that brings an average entry to 1, where logarithms are small; whether x, whether y has
// zeros. `scale` > 0 is that power, known before. One block.
__global__ void __launch_bounds__(256, 4)
    summarise(const double* __restrict__ x, long long n, const double* __restrict__ y, long long m, double bins,
              double scale, double* __restrict__ globals) {
    __shared__ double room[WARP];
    double logs = 0.0, count = 0.0, zeros_x = 0.0, zeros_y = 0.0;
    for (long long i = threadIdx.x; i < n + m; i += 256) {
        const double total = i < n ? x[i] : y[i - n];
        const double zeros = i < n ? x[4 * n + i] : y[4 * m + i - n];
        if (total > 0.0 && total < INFINITY) {
            logs += log2(total);
            count += 1.0;
        }
        (i < n ? zeros_x : zeros_y) += zeros > 0.0 ? 1.0 : 0.0;
    }
    logs = block_sum(logs, room);
    count = block_sum(count, room);
    zeros_x = block_sum(zeros_x, room);
    zeros_y = block_sum(zeros_y, room);
    if (threadIdx.x) return;
    const double mean = count > 0.0 ? logs / count : 0.0;
    globals[0] = scale > 0.0 ? scale : exp2(fmin(fmax(rint(log2(bins) - mean), -400.0), 400.0));
    globals[1] = zeros_x;
    globals[2] = zeros_y;
}

// judged (5, n): the `Fact` of each row; NaN for a row that is refused.
template <class Engine, class Entry>
__global__ void __launch_bounds__(256, 4)
    judge(const Entry* __restrict__ x, long long n, int bins, const double* __restrict__ facts,
          const double* __restrict__ globals, int other, int first, int literal, double a, double b, double cut,
          double* __restrict__ judged) {
    const long long i = (long long)blockIdx.x * 8 + threadIdx.x / WARP;
    const int lane = threadIdx.x % WARP;
    if (i >= n) return;
    const double c = globals[0];
    const Side side{first != 0, globals[other] > 0.0, sizeof(Entry) < 8, literal != 0, (double)bins, c, a, b, cut};
    const RowFacts row{facts[i], facts[n + i], facts[2 * n + i], facts[3 * n + i]};
    double H = 0.0, A = 0.0;
    if (Engine::entropies(side)) {
        for (int k = lane; k < bins; k += WARP) {
            const double v = entry(x + i * bins + k);
            const double w = v == 0.0 ? 0.0 : v * log(c * v);
            H += w;
            A += fabs(w);
        }
        H = warp_sum(H);
        A = warp_sum(A);
    }
    if (lane) return;
    Fact fact = Engine::judge(side, row, H, A);
    if (facts[4 * n + i] < 0.0) fact.h = NAN;
    // what is infinite would make a NaN of a sum: such rows are settled
    if (fact.limit == INFINITY) fact = Fact{INFINITY, fact.h == fact.h ? 0.0 : fact.h, 0.0, 0.0, 0.0};
    judged[i] = fact.limit;
    judged[n + i] = fact.h;
    judged[2 * n + i] = fact.s;
    judged[3 * n + i] = fact.e;
    judged[4 * n + i] = fact.log;
}

// table[r, offset + k] = Kind of x[i0 + r, k] for k < bins, 0 up to `padded`; rows that no sum is taken of are 0.
template <class Kind, class Entry>
__global__ void __launch_bounds__(256, 4)
    tabulate(const Entry* __restrict__ x, long long i0, long long rows, int bins, const double* __restrict__ judged,
             long long n, const double* __restrict__ globals, double scale, double parameter, int padded, int offset,
             int width, double* __restrict__ table) {
    const long long r = (long long)blockIdx.x * 8 + threadIdx.x / WARP;
    if (r >= rows) return;
    const double c = scale > 0.0 ? scale : globals[0], h = judged[n + i0 + r];
    const bool empty = judged[i0 + r] == INFINITY || h != h;
    for (int k = threadIdx.x % WARP; k < padded; k += WARP) {
        const bool there = k < bins && !empty;
        table[r * width + offset + k] = there ? Kind::of(entry(x + (i0 + r) * bins + k), c, parameter) : 0.0;
    }
}
