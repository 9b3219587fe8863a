// One pair of rows of logits as a team of threads sees it: the passes over its bins. Maths and floor: logits.cu.
#pragma once
#include "rows.cuh"

#define NO_FINITE_ENTRY 4
#define SMALLEST 4.9406564584124654e-324

// Below, probabilities held at SMALLEST might have a share in an affinity.
#define LEAST_AFFINITY 1e-150

// The maximum of a row and the sum of exp(x - maximum), put together from parts in a fixed order.
struct Partition {
    double top, sum;

    __device__ __forceinline__ void add(double other_top, double other_sum) {
        const double most = fmax(top, other_top);
        if (most == -(double)INFINITY) return;
        sum = scaled(sum, top - most) + scaled(other_sum, other_top - most), top = most;
    }
    static __device__ __forceinline__ double scaled(double x, double gap) {
        return x == 0.0 ? 0.0 : gap == 0.0 ? x : x * exp_and_expm1(gap).power;
    }
    __device__ __forceinline__ void over(int team, double* room) {
        const double most = team_max(top, team, room);
        sum = most == -(double)INFINITY ? 0.0 : scaled(sum, top - most), top = most;
        sum = team_sum(sum, team, room);
    }
};

// e^x in float of a double x <= 0: the integer part never meets a rounding. 0 below 2^-126.
__device__ __forceinline__ float exp_single(double x) {
    const double t = fmax(x, -100.0) * 1.4426950408889634, r = rint(t);
    const float y = exp2_poly((float)(t - r));
    const int e = (int)r;
    return e < -126 ? 0.0f : __uint_as_float(__float_as_uint(y) + ((unsigned)e << 23));
}

// e^x - 1 in float, x <= 0
__device__ __forceinline__ float expm1_single(float x) {
    if (x < -0.36f) return exp_single((double)x) - 1.0f;
    float g = 0.00139371813599074312f;
    g = fmaf(g, x, 0.00837198296285215536f);
    g = fmaf(g, x, 0.0416664318573176993f);
    g = fmaf(g, x, 0.166664787214969719f);
    g = fmaf(g, x, 0.500000001690762481f);
    return fmaf(g, x, 1.0000000135334043f) * x;
}

// `Bin` of two log-probabilities. In double, one too small is held at the smallest number; -inf is 0.
template <class S>
struct Logits;

template <>
struct Logits<double> {
    static __device__ __forceinline__ Bin<double> read(double log_p, double log_q) {
        const bool no_p = log_p == -(double)INFINITY, no_q = log_q == -(double)INFINITY;
        const double p = no_p ? 0.0 : fmax(exp_and_expm1(log_p).power, SMALLEST);
        const double q = no_q ? 0.0 : fmax(exp_and_expm1(log_q).power, SMALLEST);
        const double low_p = fmax(log_p, -1e300), low_q = fmax(log_q, -1e300), gap = low_p - low_q;
        // p - q = -p expm1(-gap) = q expm1(gap), of which the one with the smaller exponential
        const double fall = exp_and_expm1(-fabs(gap)).less;
        const double d = no_p || no_q ? p - q : gap > 0.0 ? -p * fall : q * fall;
        Bin<double> x;
        x.p = p, x.q = q, x.d = d, x.ratio = log_ratio(p, q, d), x.ratio.log = gap, x.log_p = low_p, x.log_q = low_q;
        return x;
    }
};

template <>
struct Logits<float> {
    static __device__ __forceinline__ Bin<float> read(double log_p, double log_q) {
        const bool no_p = log_p == -(double)INFINITY, no_q = log_q == -(double)INFINITY;
        const float p = no_p ? 0.0f : exp_single(log_p), q = no_q ? 0.0f : exp_single(log_q);
        const double low_p = fmax(log_p, -1e30), low_q = fmax(log_q, -1e30);
        const float gap = (float)(low_p - low_q), fall = expm1_single(-fabsf(gap));
        const float d = no_p || no_q ? p - q : gap > 0.0f ? -p * fall : q * fall;
        Bin<float> x;
        x.p = p, x.q = q, x.d = d, x.ratio = log_ratio(p, q, d), x.ratio.log = gap;
        x.log_p = (float)low_p, x.log_q = (float)low_q;
        return x;
    }
};

// `term`, or its like where a probability held at SMALLEST would be blown up by its true logarithm.
template <class TagOf, class S>
__device__ __forceinline__ Term<S> logit_term(const TagOf& tag, const Bin<S>& x) {
    return tag.term(x);
}

__device__ __forceinline__ Term<double> logit_term(const Alpha& tag, const Bin<double>& x) {
    const double a = tag.a, b = tag.b, rise = b * x.ratio.log;
    Term<double> y = tag.term(x);
    const bool empty = x.p == 0.0 || x.q == 0.0;
    const double affinity = empty ? 0.0 : exp_and_expm1(a * x.log_p - b * x.log_q).power;
    const double gain = fabs(rise) < 0.34 ? x.p * exp_and_expm1(rise).less / b : (affinity - x.p) / b;
    if (fabs(x.ratio.log) * fmax(1.0, a) >= 0.5 && !empty) y.value = (gain - x.d) / a;
    y.affinity = affinity;
    return y;
}

// (p dT/dp, q dT/dq) of one bin: finite where the derivative at a probability near 0 is not.
template <class S>
struct Weighted {
    S p, q;
};

template <class TagOf, class S>
__device__ __forceinline__ Weighted<S> weighted_of(const TagOf&, const Bin<S>& x, const Term<S>& y) {
    return {x.p * y.dp, x.q * y.dq};
}
template <class S>
__device__ __forceinline__ Weighted<S> weighted_of(const KL&, const Bin<S>& x, const Term<S>&) {
    return {x.p * x.ratio.log, -x.d};
}
template <class S>
__device__ __forceinline__ Weighted<S> weighted_of(const Jeffreys&, const Bin<S>& x, const Term<S>&) {
    return {fma_of(x.p, x.ratio.log, x.d), fma_of(-x.q, x.ratio.log, -x.d)};
}
template <class S>
__device__ __forceinline__ Weighted<S> weighted_of(const CrossEntropy&, const Bin<S>& x, const Term<S>&) {
    return {-x.p * x.log_q, -x.p};
}
template <class S>
__device__ __forceinline__ Weighted<S> weighted_of(const Alpha& tag, const Bin<S>& x, const Term<S>& y) {
    return {S(tag.a) * y.value + x.d, -S(tag.b) * y.value - x.d};
}

struct LogitSums {
    double value, lost, affinity, mean_p, mean_q;
};

template <class T, class O, class Tag, bool GRAD>
struct LogitRow {
    typedef typename Wide<T>::type R;
    static constexpr int N = PackOf<T>::N;
    static constexpr bool SINGLE = sizeof(R) == 4 && !Tag::WIDE;

    Tag tag;
    const T *p, *q;
    O *gp, *gq;
    Deal<N> deal;
    double top_p, log_p, top_q, log_q;

    __device__ __forceinline__ LogitRow(const Tag& tag, const T* p, const T* q, O* gp, O* gq, int begin, int end,
                                        int team, int rank)
        : tag(tag), p(p), q(q), gp(gp), gq(gq), deal(begin, end, alike(p, q, gp, gq), offset_of(p), team, rank) {}

    static __device__ __forceinline__ bool alike(const T* p, const T* q, const O* gp, const O* gq) {
        constexpr int M = N < PackOf<O>::N ? N : PackOf<O>::N;
        const int offset = offset_of(p);
        return offset_of(q) == offset && (!GRAD || !gp || offset_of(gp) % M == offset % M) &&
               (!GRAD || !gq || offset_of(gq) % M == offset % M);
    }

    __device__ __forceinline__ void read(const T* x, int step, R (&y)[N]) const {
        const Pack<T, N> pack = deal.template load<T>(x, step, missing());
#pragma unroll
        for (int i = 0; i < N; i++) y[i] = widen(pack.at[i]);
    }

    static __device__ __forceinline__ T missing() { return cast<T>(-INFINITY); }

    // Bits: 1 an invalid entry.
    __device__ __forceinline__ int partition(const T* x, Partition& whole) const {
        int found = 0;
        for (int step = 0; step < deal.steps; step++) {
            R y[N];
            double top = -(double)INFINITY, sum = 0.0;
            read(x, step, y);
#pragma unroll
            for (int i = 0; i < N; i++) {
                if (!(y[i] < R(INFINITY))) found = 1, y[i] = R(0);
                top = fmax(top, (double)y[i]);
            }
            if (top > -(double)INFINITY) {
                const double most = fmax(top, whole.top);
#pragma unroll
                for (int i = 0; i < N; i++) sum += exp_and_expm1((double)y[i] - most).power;
                whole.sum = Partition::scaled(whole.sum, whole.top - most) + sum, whole.top = most;
            }
        }
        return found;
    }

    template <class S>
    __device__ __forceinline__ Bin<S> bin(double x, double y) const {
        return Logits<S>::read((x - top_p) - log_p, (y - top_q) - log_q);
    }

    // Whether float arithmetic is safe for a step: probabilities 0, or within the reach of the tag and at most 1/4. Those
    // of the few greater ones nearly cancel against <p, dT/dp>.
    __device__ __forceinline__ bool is_safe(const R (&x)[N], const R (&y)[N]) const {
        const double least = -0.6931471805599453 * (tag.reach() - 1);
        bool safe = true;
#pragma unroll
        for (int i = 0; i < N; i++) {
            const double u = ((double)x[i] - top_p) - log_p, v = ((double)y[i] - top_q) - log_q;
            safe = safe && (u >= least || u == -(double)INFINITY) && (v >= least || v == -(double)INFINITY) &&
                   fmax(u, v) <= -1.3862943611198906;
        }
        return safe;
    }

    template <class S>
    __device__ __forceinline__ void add(R (&x)[N], R (&y)[N], LogitSums& sums) const {
        constexpr int STEP = Together<Tag, S, SINGLE, N>::STEP;
        S value = S(0), lost = S(0), affinity = S(0), mean_p = S(0), mean_q = S(0);
#pragma unroll 1
        for (int turn = 0; turn < N; turn += STEP) {
#pragma unroll
            for (int i = 0; i < STEP; i++) {
                const Bin<S> each = bin<S>(x[i], y[i]);
                const Term<S> term = logit_term(tag, each);
                value += max_of(term.value, S(0)), lost += term.lost;  // rounding of probabilities held at SMALLEST
                if (Tag::AFFINE) affinity += term.affinity;
                if (GRAD) {
                    const Weighted<S> w = weighted_of(tag, each, term);
                    mean_p += each.p == S(0) ? S(0) : w.p, mean_q += each.q == S(0) ? S(0) : w.q;
                }
            }
            rotate<STEP>(x), rotate<STEP>(y);
        }
        sums.value += (double)value, sums.lost += (double)lost, sums.affinity += (double)affinity;
        if (GRAD) sums.mean_p += (double)mean_p, sums.mean_q += (double)mean_q;
    }

    __device__ __forceinline__ void terms(LogitSums& sums) const {
        for (int step = 0; step < deal.steps; step++) {
            R x[N], y[N];
            read(p, step, x), read(q, step, y);
            bool single = false;
            if constexpr (SINGLE) {
                single = is_safe(x, y);
                if (single) add<float>(x, y, sums);
            }
            if (!single) add<double>(x, y, sums);
        }
    }

    // f (p dT/dp - p <p, dT/dp>); where the value is infinite only the bins at fault keep theirs.
    template <class S>
    __device__ __forceinline__ void slopes(R (&x)[N], R (&y)[N], const LogitSums& sums, double f, bool infinite,
                                           bool broken, int step) const {
        constexpr int STEP = Together<Tag, S, SINGLE, N>::STEP;
        O left[N], right[N];
#pragma unroll 1
        for (int turn = 0; turn < N; turn += STEP) {
            rotate<STEP>(left), rotate<STEP>(right);
#pragma unroll
            for (int i = 0; i < STEP; i++) {
                const Bin<S> each = bin<S>(x[i], y[i]);
                const Term<S> term = logit_term(tag, each);
                const Weighted<S> w = weighted_of(tag, each, term);
                const double fault = each.q == S(0) ? (double)INFINITY : -(double)INFINITY;
                double u = each.p == S(0) ? 0.0 : (double)w.p, v = each.q == S(0) ? 0.0 : (double)w.q;
                u = f * (u - (double)each.p * sums.mean_p), v = f * (v - (double)each.q * sums.mean_q);
                if (infinite) u = term.lost > S(0) ? f * fault : 0.0, v = term.lost > S(0) ? -f * fault : 0.0;
                if (broken) u = v = (double)NAN_VALUE;
                left[N - STEP + i] = cast<O>(u), right[N - STEP + i] = cast<O>(v);
            }
            rotate<STEP>(x), rotate<STEP>(y);
        }
        if (gp) deal.store(gp, step, left);
        if (gq) deal.store(gq, step, right);
    }

    __device__ __forceinline__ void spread(const LogitSums& sums, double f, bool infinite, bool broken) const {
        for (int step = 0; step < deal.steps; step++) {
            R x[N], y[N];
            read(p, step, x), read(q, step, y);
            bool single = false;
            if constexpr (SINGLE) {
                single = is_safe(x, y);
                if (single) slopes<float>(x, y, sums, f, infinite, broken, step);
            }
            if (!single) slopes<double>(x, y, sums, f, infinite, broken, step);
        }
    }

    __device__ __forceinline__ double exponent(double x, double y) const {
        const double a = tag.power(), u = (x - top_p) - log_p, v = (y - top_q) - log_q;
        if (u == -(double)INFINITY || v == -(double)INFINITY) return -(double)INFINITY;
        return a * u + (1.0 - a) * v;
    }

    // log sum p^a q^(1-a) where the sum itself leaves the range, and the gradients of `scale` times it.
    __device__ __forceinline__ double log_affinity(double scale, double* room) const {
        const double a = tag.power();
        double top = -(double)INFINITY, sum = 0.0;
        for (int step = 0; step < deal.steps; step++) {
            R x[N], y[N];
            read(p, step, x), read(q, step, y);
            for (int i = 0; i < N; i++) top = fmax(top, exponent(x[i], y[i]));
        }
        top = block_max(top, room);
        if (top == -(double)INFINITY) return top;
        for (int step = 0; step < deal.steps; step++) {
            R x[N], y[N];
            read(p, step, x), read(q, step, y);
            for (int i = 0; i < N; i++) sum += exp(exponent(x[i], y[i]) - top);
        }
        sum = block_sum(sum, room);
        for (int step = 0; GRAD && step < deal.steps; step++) {
            R x[N], y[N];
            O left[N], right[N];
            read(p, step, x), read(q, step, y);
            for (int i = 0; i < N; i++) {
                const double share = exp(exponent(x[i], y[i]) - top) / sum;
                const double u = exp(((double)x[i] - top_p) - log_p), v = exp(((double)y[i] - top_q) - log_q);
                left[i] = cast<O>(scale * a * (share - u)), right[i] = cast<O>(scale * (1.0 - a) * (share - v));
            }
            if (gp) deal.store(gp, step, left);
            if (gq) deal.store(gq, step, right);
        }
        return top + log(sum);
    }
};
