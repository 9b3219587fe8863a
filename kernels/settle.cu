// The pairs that no engine can be trusted with, by the formula of a bin: one definition of accuracy, that of rows.
//
// Blocks look through tiles of 64 x 64 values for the marks of ``pairs.cuh``, list them in shared memory, and sum each
// pair with a warp, in float64, in which every float32 is an ordinary number. What leaves the range of float64 on the
// way is redone on multiples by powers of two (exact), affinities beyond it in logarithms.
//
// Floor: one read of the values; per listed pair two rows from the L2 cache, and per bin the formula in float64: about
// 20 instructions (TV 3, KL 25, JS 45).
#include "pairs.cuh"
#include "terms.cuh"

struct Sums {
    double value, lost, affinity, p, q, greatest, gap;
};

template <class Entry>
__device__ __forceinline__ double entry_of(const Entry* x, int k, int exponent) {
    const double v = fabs((double)widen(x[k]));
    return exponent ? ldexp(v, exponent) : v;
}

// Sums over the bins of 2^exponent times both rows; every lane gets them.
template <class Tag, class Entry>
__device__ Sums sum_bins(const Tag& tag, const Entry* p, const Entry* q, int bins, int exponent) {
    Sums s{0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0};
    for (int k = threadIdx.x % WARP; k < bins; k += WARP) {
        const double x = entry_of(p, k, exponent), y = entry_of(q, k, exponent);
        const Bin<double> bin = read_bin(x, y);
        const Term<double> term = tag.term(bin);
        s.value += term.value;
        s.lost += term.lost;
        if (Tag::AFFINE) s.affinity += term.affinity;
        s.p += x;
        s.q += y;
        s.greatest = fmax(s.greatest, fmax(x, y));
        s.gap = fmax(s.gap, fabs(bin.d));
    }
    s.value = warp_sum(s.value);
    s.lost = warp_sum(s.lost);
    if (Tag::AFFINE) s.affinity = warp_sum(s.affinity);
    s.p = warp_sum(s.p);
    s.q = warp_sum(s.q);
    s.greatest = warp_max(s.greatest);
    s.gap = warp_max(s.gap);
    return s;
}

// log p^a q^(1-a), -inf at empty bins
__device__ __forceinline__ double exponent_of(double a, double p, double q) {
    if (q == 0.0 || (p == 0.0 && a > 0.0)) return -(double)INFINITY;
    return (a > 0.0 ? a * log(p) : 0.0) + (1.0 - a) * log(q);
}

// log sum p^a q^(1-a) where the sum itself leaves the range of float64
template <class Tag, class Entry>
__device__ double log_affinity(const Tag& tag, const Entry* p, const Entry* q, int bins, int exponent) {
    const double a = tag.power(), none = -(double)INFINITY;
    if (!(a > 0.0)) return none;
    double top = none, sum = 0.0;
    for (int k = threadIdx.x % WARP; k < bins; k += WARP)
        top = fmax(top, exponent_of(a, entry_of(p, k, exponent), entry_of(q, k, exponent)));
    top = warp_max(top);
    if (top == none) return none;
    for (int k = threadIdx.x % WARP; k < bins; k += WARP)
        sum += exp(exponent_of(a, entry_of(p, k, exponent), entry_of(q, k, exponent)) - top);
    return top + log(warp_sum(sum));
}

// The value of sums, as ``rows.py`` finishes them.
template <class Tag, class Entry>
__device__ double finished(const Tag& tag, int kind, const Finish& finish, double order, const Sums& s, const Entry* p,
                           const Entry* q, int bins, int exponent) {
    const double scale = finish.scale, total = s.lost > 0.0 ? (double)INFINITY : s.value;
    if (kind == IDENTITY) return scale * total;
    if (kind == ROOT) return scale * sqrt(total);
    if (s.lost > 0.0) return scale * (double)INFINITY;
    const double drift = finish.literal ? 0.0 : order * log(s.p) + (1.0 - order) * log(s.q);
    if (!(s.affinity > 1e-280 && s.affinity < 1e280))
        return scale * (log_affinity(tag, p, q, bins, exponent) - drift);
    if (!finish.literal && finish.c * total > -0.5) return scale * log1p(finish.c * total);
    return scale * (log(s.affinity) - drift);
}

// One pair by one warp. `degree`: D(cp, cq) = c^degree D(p, q); negative: no such law.
template <class Tag, class Entry>
__device__ double pair_value(const Tag& tag, int kind, const Finish& finish, double order, double degree,
                             const Entry* p, const Entry* q, int bins) {
    Sums s = sum_bins(tag, p, q, bins, 0);
    double value = finished(tag, kind, finish, order, s, p, q, bins, 0);
    bool strained = s.greatest > 1.0715086071862673e+301;  // 2^1000
    if (kind != LOGARITHM && degree >= 0.0) {
        const double root = kind == ROOT ? 0.5 : 1.0;
        strained |= !(value > pow(1e-280, root)) || (Tag::WIDE && value > pow(1e280, root));
    } else if (kind == LOGARITHM && finish.literal) {
        strained |= !(s.p > 1e-280 && s.p < 1e280 && s.q > 1e-280 && s.q < 1e280);
    }
    if (!strained || !(s.gap > 0.0)) return value;
    int e = 0;
    frexp(s.gap, &e);
    e = -(e >> 1) * 2;
    s = sum_bins(tag, p, q, bins, e);
    value = finished(tag, kind, finish, order, s, p, q, bins, e);
    if (degree > 0.0) value = ldexp(value, -(int)(degree * e));
    if (kind == LOGARITHM && finish.literal) value -= finish.scale * 0.6931471805599453 * e;
    return value;
}

// out of the marked pairs among rows i0 ... i1, columns j0 ... j1 (with j >= i if `half`; every pair if `all`), which
// are D(x, y), or D(y, x) if `swap`. facts: `judged` rows, NaN where refused. A block to each 64 x 64 pairs.
template <class Tag, class Entry, class Out>
__global__ void __launch_bounds__(256)
    settle(const Entry* x, const Entry* y, int bins, int swap, int all, double tag_a, double tag_b, int kind,
           double scale, double c, double order, int literal, double degree, const double* left, long long n,
           const double* right, long long m, long long i0, long long i1, long long j0, long long j1, int half, Out* out,
           long long si, long long sj) {
    __shared__ unsigned short list[64 * 64];
    __shared__ int length;
    const Window<Out> window{i0, i1, j0, j1, half, out, si, sj};
    const long long across = (j1 - j0 + 63) / 64;
    const long long i = i0 + blockIdx.x / across * 64, j = j0 + blockIdx.x % across * 64;
    if (window.skips(i, j, 64)) return;
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    if (threadIdx.x == 0) length = 0;
    __syncthreads();
    for (int piece = warp; piece < 128; piece += 8) {
        const int r = piece >> 1, at = (piece & 1) * WARP + lane;
        bool wanted = i + r < i1 && j + at < j1 && !(half && j + at < i + r);
        if (wanted && all) {
            const double own = left[n + i + r] + right[m + j + at];
            if (own != own) {
                window.put(i + r, j + at, (Out)own);
                wanted = false;
            }
        } else if (wanted) {
            wanted = Mark<Out>::is(out[(i + r - i0) * si + (j + at - j0) * sj]);
        }
        const unsigned votes = __ballot_sync(ALL, wanted);
        int start = 0;
        if (lane == 0 && votes) start = atomicAdd(&length, __popc(votes));
        start = __shfl_sync(ALL, start, 0);
        if (wanted) list[start + __popc(votes & ((1u << lane) - 1u))] = (unsigned short)(r * 64 + at);
    }
    __syncthreads();
    const Tag tag(tag_a, tag_b, 0);
    const Finish finish{scale, c, 0.0, literal};
    for (int at = warp; at < length; at += 8) {
        const long long row = i + list[at] / 64, column = j + list[at] % 64;
        const Entry *a = x + row * bins, *b = y + column * bins;
        const double v = pair_value(tag, kind, finish, order, degree, swap ? b : a, swap ? a : b, bins);
        if (lane == 0) window.put(row, column, (Out)v);
    }
}
