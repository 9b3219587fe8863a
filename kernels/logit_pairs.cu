// All pairs of rows of logits of which some are so far apart that their probabilities would underflow.
//
// Nothing is done where no row is such (the products of ``pairs.cu`` stand). Elsewhere every pair is summed from its
// log-probabilities, as ``logits.cu`` does: a warp to a pair. Floor: three exponentials and 60 instructions in float64
// for each bin of a pair.
#include "logits.cu"

// log p^a q^(1-a), -inf at empty bins
__device__ __forceinline__ double log_share(double a, double log_p, double log_q) {
    const double none = -(double)INFINITY;
    return log_p == none || log_q == none ? none : a * log_p + (1.0 - a) * log_q;
}

// D(softmax p, softmax q); `parts`: maximum of each row, and the logarithm of its sum of exponentials after that.
template <class Tag, class Entry>
__device__ double logit_value(const Tag& tag, const Finish& finish, const Entry* p, double top_p, double log_p,
                              const Entry* q, double top_q, double log_q, int bins) {
    const double none = -(double)INFINITY;
    double value = 0.0, lost = 0.0, affinity = 0.0;
    for (int k = threadIdx.x % WARP; k < bins; k += WARP) {
        const Bin<double> x =
            Logits<double>::read(((double)widen(p[k]) - top_p) - log_p, ((double)widen(q[k]) - top_q) - log_q);
        const Term<double> term = logit_term(tag, x);
        value += fmax(term.value, 0.0);  // rounding of probabilities held at SMALLEST
        lost += term.lost;
        affinity += term.affinity;
    }
    value = warp_sum(value);
    lost = warp_sum(lost);
    affinity = warp_sum(affinity);
    const Finished done = finish_row(finish, value, lost > 0.0, affinity, 1.0, 1.0, LEAST_AFFINITY);
    if (!done.faint) return done.value;
    const double a = tag.power();
    double top = none, sum = 0.0;
    if (!(a > 0.0)) return finish.scale * none;
    for (int k = threadIdx.x % WARP; k < bins; k += WARP)
        top = fmax(top, log_share(a, ((double)widen(p[k]) - top_p) - log_p, ((double)widen(q[k]) - top_q) - log_q));
    top = warp_max(top);
    if (top == none) return finish.scale * none;
    for (int k = threadIdx.x % WARP; k < bins; k += WARP)
        sum += exp(log_share(a, ((double)widen(p[k]) - top_p) - log_p, ((double)widen(q[k]) - top_q) - log_q) - top);
    return finish.scale * (top + log(warp_sum(sum)));
}

// out[(i - i0) si + (j - j0) sj] of all pairs (with j >= i if `half`), if either word says that a row is far. A block
// to 64 x 64 pairs; parts (2, n), (2, m): see `logit_value`; NaN in a maximum: a row that is refused.
template <class Tag, class Entry, class Out>
__global__ void __launch_bounds__(256, 2)
    logit_pairs(const int* far_x, const int* far_y, const Entry* x, const double* parts_x, long long n, const Entry* y,
                const double* parts_y, long long m, int bins, int swap, double tag_a, double tag_b, int kind,
                double scale, double c, double order, long long i0, long long i1, long long j0, long long j1, int half,
                Out* out, long long si, long long sj) {
    if (*far_x == 0 && *far_y == 0) return;
    const long long across = (j1 - j0 + 63) / 64;
    const long long first_i = i0 + blockIdx.x / across * 64, first_j = j0 + blockIdx.x % across * 64;
    if (half && first_j + 64 <= first_i) return;
    const Tag tag(tag_a, tag_b, 0);
    const Finish finish{kind, scale, c, order, false};
    for (int at = threadIdx.x / WARP; at < 64 * 64; at += 8) {
        const long long i = first_i + at / 64, j = first_j + at % 64;
        if (i >= i1 || j >= j1 || (half && j < i)) continue;
        const Entry *a = x + i * bins, *b = y + j * bins;
        const double top_a = parts_x[i], log_a = parts_x[n + i], top_b = parts_y[j], log_b = parts_y[m + j];
        double v = top_a + top_b;
        if (v == v)
            v = swap ? logit_value(tag, finish, b, top_b, log_b, a, top_a, log_a, bins)
                     : logit_value(tag, finish, a, top_a, log_a, b, top_b, log_b, bins);
        if (threadIdx.x % WARP == 0) out[(i - i0) * si + (j - j0) * sj] = (Out)v;
    }
}
