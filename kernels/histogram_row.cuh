// One pair of rows of histograms as a team of threads sees it: the passes over its bins. Maths and floor: rows.cu.
#pragma once
#include "rows.cuh"

#define STRAINED 1
#define FAINT 2

template <class R>
struct BitsOf;
template <>
struct BitsOf<float> {
    typedef unsigned type;
    static __device__ __forceinline__ unsigned of(float x) { return __float_as_uint(x); }
    static constexpr unsigned LARGEST = 0x7f7fffffu, HUGE_ENTRY = 0x7f7fffffu;
};
template <>
struct BitsOf<double> {
    typedef unsigned long long type;
    static __device__ __forceinline__ type of(double x) { return (type)__double_as_longlong(x); }
    static constexpr type LARGEST = 0x7fefffffffffffffull, HUGE_ENTRY = 0x7e70000000000000ull;  // 2^1000
};

template <class A, class B>
struct Same {
    static constexpr bool value = false;
};
template <class A>
struct Same<A, A> {
    static constexpr bool value = true;
};

// What is added up over a row. `mean` is <dT, p'>, which a gradient through the normalisation needs.
struct Sums {
    double value, lost, affinity, p, q, mean_p, mean_q;
    int found;  // bits: 1 p invalid, 2 q invalid, 4 a huge entry

    __device__ __forceinline__ void over(int team, double* room) {
        value = team_sum(value, team, room), lost = team_sum(lost, team, room);
        affinity = team_sum(affinity, team, room);
        p = team_sum(p, team, room), q = team_sum(q, team, room);
        mean_p = team_sum(mean_p, team, room), mean_q = team_sum(mean_q, team, room);
        found = team_or(found, team, room);
    }
    __device__ __forceinline__ void write(double* to) const {
        to[0] = value, to[1] = lost, to[2] = affinity, to[3] = p, to[4] = q, to[5] = mean_p, to[6] = mean_q;
        to[7] = (double)found;
    }
    __device__ __forceinline__ void add(const double* from) {
        value += from[0], lost += from[1], affinity += from[2], p += from[3], q += from[4];
        mean_p += from[5], mean_q += from[6], found |= (int)from[7];
    }
};

// How a gradient follows from the derivatives of the terms: a (f dT + h - mean); where the value is infinite under a
// normalisation only the bins at fault keep theirs.
struct Spread {
    double f, h_p, h_q, mean_p, mean_q;
    int lift_p, lift_q;  // exponents of two
    bool infinite, broken;
};

// One pair of rows as a team sees it.
template <class T, class O, class Tag, bool GRAD, bool SCALED, bool REPAIR = false>
struct Row {
    typedef typename Wide<T>::type R;
    typedef BitsOf<R> Bits;
    static constexpr int N = PackOf<T>::N;
    static constexpr bool SINGLE = Same<R, float>::value && !Tag::WIDE && !REPAIR;

    Tag tag;
    const T *p, *q;
    O *gp, *gq;
    Deal<N> deal;
    double a, b, root_p, root_q;  // p' = p root_p^2 a: the roots are powers of two, 1 but in repairs

    __device__ __forceinline__ Row(const Tag& tag, const T* p, const T* q, O* gp, O* gq, int begin, int end, int team,
                                   int rank)
        : tag(tag), p(p), q(q), gp(gp), gq(gq), deal(begin, end, alike(p, q, gp, gq), offset_of(p), team, rank),
          a(1.0), b(1.0), root_p(1.0), root_q(1.0) {}

    static __device__ __forceinline__ bool alike(const T* p, const T* q, const O* gp, const O* gq) {
        constexpr int M = N < PackOf<O>::N ? N : PackOf<O>::N;
        const int offset = offset_of(p);
        bool same = offset_of(q) == offset;
        if (GRAD) {
            if (gp) same = same && offset_of(gp) % M == offset % M;
            if (gq) same = same && offset_of(gq) % M == offset % M;
        }
        return same;
    }

    // The entries of a step, a negative zero as zero.
    __device__ __forceinline__ void read(int step, R (&x)[N], R (&y)[N]) const {
        const Pack<T, N> left = deal.template load<T>(p, step, T{0});
#pragma unroll
        for (int i = 0; i < N; i++) x[i] = widen(left.at[i]) + R(0);
        if (Tag::UNARY) {
#pragma unroll
            for (int i = 0; i < N; i++) y[i] = x[i];
        } else {
            const Pack<T, N> right = deal.template load<T>(q, step, T{0});
#pragma unroll
            for (int i = 0; i < N; i++) y[i] = widen(right.at[i]) + R(0);
        }
    }

    // One bin in the arithmetic of S. Products with scales are rounded before anything is done with them: fused into
    // p a - q b they would make equal histograms differ.
    template <class S>
    __device__ __forceinline__ Bin<S> bin(R x, R y) const {
        if (REPAIR) {
            const double u = __dmul_rn((double)x * root_p * root_p, a), v = __dmul_rn((double)y * root_q * root_q, b);
            return read_bin<S>((S)u, (S)v, (S)(u - v));
        }
        if (SCALED) {
            const double u = __dmul_rn((double)x, a), v = __dmul_rn((double)y, b);
            return read_bin<S>((S)u, (S)v, (S)(u - v));
        }
        return read_bin<S>((S)x, (S)y);
    }

    // Whether float arithmetic is safe for a step.
    __device__ __forceinline__ bool is_safe(const R (&x)[N], const R (&y)[N]) const {
        unsigned least = ~0u, greatest = 0u;
#pragma unroll
        for (int i = 0; i < N; i++) {
            const unsigned u = __float_as_uint(SCALED ? (float)__dmul_rn((double)x[i], a) : (float)x[i]);
            const unsigned v = __float_as_uint(SCALED ? (float)__dmul_rn((double)y[i], b) : (float)y[i]);
            least = min(least, min(u - 1u, v - 1u)), greatest = max(greatest, max(u, v));
        }
        const int reach = tag.reach();
        return least >= ((unsigned)(127 - reach) << 23) - 1u && greatest <= (unsigned)(127 + reach) << 23;
    }

    __device__ __forceinline__ void totals(Sums& sums) const {
        for (int step = 0; step < deal.steps; step++) {
            R x[N], y[N];
            read(step, x, y);
            sums.found |= judge(x, y);
#pragma unroll
            for (int i = 0; i < N; i++) {
                sums.p += REPAIR ? (double)x[i] * root_p * root_p : (double)x[i];
                sums.q += REPAIR ? (double)y[i] * root_q * root_q : (double)y[i];
            }
        }
    }

    static __device__ __forceinline__ int judge(const R (&x)[N], const R (&y)[N]) {
        typename Bits::type most_p = 0, most_q = 0;
#pragma unroll
        for (int i = 0; i < N; i++) {
            const typename Bits::type u = Bits::of(x[i]), v = Bits::of(y[i]);
            most_p = most_p > u ? most_p : u, most_q = most_q > v ? most_q : v;
        }
        return (most_p > Bits::LARGEST ? 1 : 0) | (most_q > Bits::LARGEST ? 2 : 0) |
               (most_p > Bits::HUGE_ENTRY || most_q > Bits::HUGE_ENTRY ? 4 : 0);
    }

    template <class S>
    __device__ __forceinline__ void add(R (&x)[N], R (&y)[N], Sums& sums) const {
        constexpr int STEP = Together<Tag, S, SINGLE, N>::STEP;
        S value = S(0), lost = S(0), affinity = S(0), mean_p = S(0), mean_q = S(0);
#pragma unroll 1
        for (int turn = 0; turn < N; turn += STEP) {
#pragma unroll
            for (int i = 0; i < STEP; i++) {
                const Bin<S> each = bin<S>(x[i], y[i]);
                const Term<S> term = tag.term(each);
                value += term.value, lost += term.lost;
                if (Tag::AFFINE) affinity += term.affinity;
                if (GRAD && SCALED) {
                    const bool empty = each.p + each.q == S(0);
                    mean_p += empty ? S(0) : term.dp * each.p, mean_q += empty ? S(0) : term.dq * each.q;
                }
            }
            rotate<STEP>(x), rotate<STEP>(y);
        }
        sums.value += (double)value, sums.lost += (double)lost, sums.affinity += (double)affinity;
        if (GRAD && SCALED) sums.mean_p += (double)mean_p, sums.mean_q += (double)mean_q;
    }

    __device__ __forceinline__ static double shift(double x, int exponent) { return exponent ? ldexp(x, exponent) : x; }

    // What becomes of the derivatives (u, v) of a bin.
    template <class S>
    __device__ __forceinline__ void finish_slopes(const Bin<S>& each, S u, S v, const Spread& w, O& left,
                                                  O& right) const {
        if (w.h_p != 0.0) u = each.p == S(0) ? S(0) : S((double)u + w.h_p);
        if (w.h_q != 0.0) v = (tag.power() == 0.0 ? each.p : each.q) == S(0) ? S(0) : S((double)v + w.h_q);
        if (w.broken) u = v = S(NAN_VALUE);
        if (SCALED && w.infinite) {
            u = abs_of(u) == S(INFINITY) ? u : S(0), v = abs_of(v) == S(INFINITY) ? v : S(0);
        } else if (SCALED) {
            left = cast<O>(shift(((double)u - w.mean_p) * a, REPAIR ? w.lift_p : 0));
            right = cast<O>(shift(((double)v - w.mean_q) * b, REPAIR ? w.lift_q : 0));
            return;
        }
        left = REPAIR ? cast<O>(shift((double)u, w.lift_p)) : cast<O>(u);
        right = REPAIR ? cast<O>(shift((double)v, w.lift_q)) : cast<O>(v);
    }

    template <class S>
    __device__ __forceinline__ void slopes(R (&x)[N], R (&y)[N], const Spread& w, int step) const {
        constexpr int STEP = Together<Tag, S, SINGLE, N>::STEP;
        O left[N], right[N];
#pragma unroll 1
        for (int turn = 0; turn < N; turn += STEP) {
            rotate<STEP>(left), rotate<STEP>(right);
#pragma unroll
            for (int i = 0; i < STEP; i++) {
                const Bin<S> each = bin<S>(x[i], y[i]);
                const Term<S> term = tag.term(each);
                const bool empty = each.p + each.q == S(0);
                const S u = empty ? S(0) : S(w.f) * term.dp, v = empty ? S(0) : S(w.f) * term.dq;
                finish_slopes(each, u, v, w, left[N - STEP + i], right[N - STEP + i]);
            }
            rotate<STEP>(x), rotate<STEP>(y);
        }
        if (gp) deal.store(gp, step, left);
        if (gq) deal.store(gq, step, right);
    }

    // The sums and, if `direct`, the slopes of a step at once.
    template <class S>
    __device__ __forceinline__ void both(R (&x)[N], R (&y)[N], Sums& sums, bool direct, const Spread& w, int step) const {
        if constexpr (GRAD && !SCALED && !REPAIR) {
            if (direct) {
                constexpr int STEP = Together<Tag, S, SINGLE, N>::STEP;
                S value = S(0), lost = S(0);
                O left[N], right[N];
#pragma unroll 1
                for (int turn = 0; turn < N; turn += STEP) {
                    rotate<STEP>(left), rotate<STEP>(right);
#pragma unroll
                    for (int i = 0; i < STEP; i++) {
                        const Bin<S> each = bin<S>(x[i], y[i]);
                        const Term<S> term = tag.term(each);
                        const bool empty = each.p + each.q == S(0);
                        value += term.value, lost += term.lost;
                        left[N - STEP + i] = cast<O>(empty ? S(0) : S(w.f) * term.dp);
                        right[N - STEP + i] = cast<O>(empty ? S(0) : S(w.f) * term.dq);
                    }
                    rotate<STEP>(x), rotate<STEP>(y);
                }
                sums.value += (double)value, sums.lost += (double)lost;
                if (gp) deal.store(gp, step, left);
                if (gq) deal.store(gq, step, right);
                return;
            }
        }
        add<S>(x, y, sums);
    }

    // The pass that adds up the terms; `direct` writes the gradients in the same pass.
    __device__ __forceinline__ void terms(Sums& sums, bool direct, const Spread& w) const {
        for (int step = 0; step < deal.steps; step++) {
            R x[N], y[N];
            read(step, x, y);
            sums.found |= judge(x, y);
            R sum_p = R(0), sum_q = R(0);
#pragma unroll
            for (int i = 0; i < N; i++) sum_p += x[i], sum_q += y[i];
            sums.p += (double)sum_p * root_p * root_p, sums.q += (double)sum_q * root_q * root_q;
            bool single = false;
            if constexpr (SINGLE) single = is_safe(x, y) && is_moderate(w);
            if constexpr (SINGLE) {
                if (single) both<float>(x, y, sums, direct, w, step);
            }
            if (!single) both<double>(x, y, sums, direct, w, step);
        }
    }

    __device__ __forceinline__ void spread(const Spread& w) const {
        for (int step = 0; step < deal.steps; step++) {
            R x[N], y[N];
            read(step, x, y);
            bool single = false;
            if constexpr (SINGLE) single = is_safe(x, y) && is_moderate(w);
            if constexpr (SINGLE) {
                if (single) slopes<float>(x, y, w, step);
            }
            if (!single) slopes<double>(x, y, w, step);
        }
    }

    // Largest entries, and the largest difference.
    __device__ __forceinline__ void sizes(double& most_p, double& most_q, double& most) const {
        for (int step = 0; step < deal.steps; step++) {
            R x[N], y[N];
            read(step, x, y);
            for (int i = 0; i < N; i++) {
                most_p = fmax(most_p, (double)x[i]), most_q = fmax(most_q, (double)y[i]);
                most = fmax(most, fabs((double)x[i] - (double)y[i]));
            }
        }
    }

    // log of p'^a q'^(1-a), -inf at empty bins.
    __device__ __forceinline__ double exponent(const Bin<double>& x) const {
        const double power = tag.power();
        if (x.q == 0.0 || (x.p == 0.0 && power > 0.0)) return -(double)INFINITY;
        return (power > 0.0 ? power * log(x.p) : 0.0) + (1.0 - power) * log(x.q);
    }

    // log sum p'^a q'^(1-a) where the sum itself leaves the range of double, and the gradients of `scale` times it.
    __device__ __forceinline__ double log_affinity(double scale, const Spread& w, double* room) const {
        const double power = tag.power();
        double top = -(double)INFINITY, sum = 0.0;
        for (int step = 0; step < deal.steps; step++) {
            R x[N], y[N];
            read(step, x, y);
            for (int i = 0; i < N; i++) top = fmax(top, exponent(bin<double>(x[i], y[i])));
        }
        top = block_max(top, room);
        if (top == -(double)INFINITY) return top;
        for (int step = 0; step < deal.steps; step++) {
            R x[N], y[N];
            read(step, x, y);
            for (int i = 0; i < N; i++) sum += exp(exponent(bin<double>(x[i], y[i])) - top);
        }
        sum = block_sum(sum, room);
        for (int step = 0; GRAD && step < deal.steps; step++) {
            R x[N], y[N];
            O left[N], right[N];
            read(step, x, y);
            for (int i = 0; i < N; i++) {
                const Bin<double> each = bin<double>(x[i], y[i]);
                const double share = scale * exp(exponent(each) - top) / sum;
                double u = each.p > 0.0 ? power * share / each.p : 0.0;
                double v = each.q > 0.0 ? (1.0 - power) * share / each.q : 0.0;
                if (SCALED) u = (u - power * scale) * a, v = (v - (1.0 - power) * scale) * b;
                left[i] = cast<O>(shift(u, w.lift_p)), right[i] = cast<O>(shift(v, w.lift_q));
            }
            if (gp) deal.store(gp, step, left);
            if (gq) deal.store(gq, step, right);
        }
        return top + log(sum);
    }

    static __device__ __forceinline__ bool is_moderate(const Spread& w) {
        const double f = fabs(w.f);
        return f > 1e-20 && f < 1e20;
    }
};
