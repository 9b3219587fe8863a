// Every divergence between histograms as a sum over bins: the formulas of one bin, value and both derivatives.
//
// The forms are those of terms.py: with d = p - q, t = d/(p + q), every term is a product of factors that are accurate
// one by one, is never negative and vanishes exactly at p = q. float formulas want entries that are 0 or within
// [2^-60, 2^60] (`reach`), where no product or quotient of two leaves the range; double formulas take any. A reader
// (`read_bin`) computes all that a formula may ask; what it does not ask is dead code.
#pragma once
#include "vecmath.cuh"

// ----------------------------------------------------------------------------------------------------- logarithms

// x/y of y in [2^-126, 2^125], float error half an ulp or little more
__device__ __forceinline__ float quotient(float x, float y) {
    const float r = reciprocal_fast(y), z = x * r;
    return fmaf(fmaf(-z, y, x), r, z);
}
__device__ __forceinline__ double quotient(double x, double y) { return x / y; }

template <class R>
struct Ratio {
    R log;        // log(p/q): relative error of a few ulp everywhere, near 1 too; finite at zeros
    bool near;    // p/q in [1/1.5, 1.5]; then ...
    R t, tail;    // ... t = (p-q)/(p+q) and log(p/q) = 2t (1 + t^2 tail)
    R exponent;   // the integer e of log(p/q) = e log 2 + 2t (1 + t^2 tail)
};

__device__ __forceinline__ float atanh_tail(float u) {
    return fmaf(u, fmaf(u, 0.149795983670824148f, 0.199894550539611597f), 0.333333568681006767f);
}

__device__ __forceinline__ double atanh_tail(double u) {
    double y = fma(u, 0.0680451513142924936, 0.0660485412102973163);
    y = fma(u, y, 0.0769443390280685831);
    y = fma(u, y, 0.0909086881315146858);
    y = fma(u, y, 0.11111111524175794);
    y = fma(u, y, 0.142857142836379673);
    y = fma(u, y, 0.200000000000039705);
    return fma(u, y, 0.333333333333333321);
}

// p is brought to the binade of q: log(p/q) = e log 2 + 2 atanh((p' - q)/(p' + q)), p' = p 2^-e, where p' - q is exact.
__device__ __forceinline__ Ratio<float> log_ratio(float p, float q, float d) {
    q = fmaxf(q, 1.17549435e-38f);
    const int e = (int)(__float_as_uint(p) - __float_as_uint(q) + 0x400000u) >> 23;
    const float k = (float)e, m = __uint_as_float(__float_as_uint(p) - ((unsigned)e << 23));
    Ratio<float> y;
    y.near = e == 0;
    y.t = quotient(y.near ? d : m - q, m + q);
    y.tail = atanh_tail(y.t * y.t);
    y.exponent = k;
    y.log = fmaf(k, 0.69314718f, 2.0f * y.t * fmaf(y.t * y.t, y.tail, 1.0f));
    return y;
}

__device__ __forceinline__ Ratio<double> log_ratio(double p, double q, double d) {
    const double tiny = 4.4501477170144028e-308, up = 1152921504606846976.0;  // 2^-1021, 2^60
    const bool low_p = p < tiny, low_q = q < tiny;
    const double ps = low_p ? p * up : p, qs = fmax(low_q ? q * up : q, tiny);
    const double ds = low_p == low_q ? (low_p ? d * up : d) : ps - qs;
    const long long a = __double_as_longlong(ps), b = __double_as_longlong(qs);
    const long long e = (a - b + (1ll << 51)) >> 52;
    const double m = __longlong_as_double((long long)((unsigned long long)a - ((unsigned long long)e << 52)));
    const double k = (double)(int)e + ((low_q ? 60.0 : 0.0) - (low_p ? 60.0 : 0.0));
    Ratio<double> y;
    y.near = k == 0.0;
    y.t = (e == 0 ? ds : m - qs) / (m + qs);
    y.tail = atanh_tail(y.t * y.t);
    y.exponent = k;
    const double rest = 2.0 * y.t * fma(y.t * y.t, y.tail, 1.0);
    y.log = fma(k, 6.93147180369123816490e-01, fma(k, 1.90821492927058770002e-10, rest));
    return y;
}

// e^x (subnormal results right, overflow to inf) and e^x - 1 (accurate at 0)
struct Powers {
    double power, less;
};

__device__ __forceinline__ double power_of_two(int e) { return __longlong_as_double((long long)(e + 1023) << 52); }

__device__ __forceinline__ Powers exp_and_expm1(double x) {
    x = fmin(fmax(x, -1400.0), 1400.0);
    const double r = rint(x * 1.4426950408889634);
    const double f = fma(-r, 1.90821492927058770002e-10, fma(-r, 6.93147180369123816490e-01, x));
    double g = 2.09214004314020359e-9;
    g = fma(g, f, 2.51146182491044273e-8);
    g = fma(g, f, 2.75572541125295716e-7);
    g = fma(g, f, 2.75572504955935e-6);
    g = fma(g, f, 0.0000248015873453489124);
    g = fma(g, f, 0.000198412699025491677);
    g = fma(g, f, 0.00138888888887755952);
    g = fma(g, f, 0.00833333333331471803);
    g = fma(g, f, 0.0416666666666666814);
    g = fma(g, f, 0.166666666666666873);
    g = fma(g, f, 0.5);
    g = fma(g, f, 1.0) * f;
    const int k = (int)r, half = k >> 1;
    Powers y;
    y.power = ((1.0 + g) * power_of_two(half)) * power_of_two(k - half);
    const double s = power_of_two(k < -1022 ? -1022 : k > 60 ? 60 : k);
    y.less = k > 60 ? y.power : fma(s, g, s - 1.0);
    return y;
}

struct Powers32 {
    float power, less;
};

// (p/q)^b and (p/q)^b - 1 from log(p/q) = exponent log 2 + rest; b = b_high + b_low: the integer part never meets a
// rounding. |b log2(p/q)| must stay below 126.
__device__ __forceinline__ Powers32 power_and_less_one(float b_high, float b_low, float exponent, float rest) {
    const float r = rintf(fmaf(b_high, exponent, b_high * rest * 1.44269504f));
    const float f = fmaf(fmaf(b_low, exponent, fmaf(b_high, exponent, -r)), 0.69314718f, b_high * rest);
    float g = 0.00139371813599074312f;
    g = fmaf(g, f, 0.00837198296285215536f);
    g = fmaf(g, f, 0.0416664318573176993f);
    g = fmaf(g, f, 0.166664787214969719f);
    g = fmaf(g, f, 0.500000001690762481f);
    g = fmaf(g, f, 1.0000000135334043f) * f;
    const float s = __uint_as_float((unsigned)((int)r + 127) << 23);
    Powers32 y;
    y.power = fmaf(s, g, s);
    y.less = fmaf(s, g, s - 1.0f);
    return y;
}

// ----------------------------------------------------------------------------------------------- a bin and its term

template <class R>
struct Bin {
    R p, q;
    R d;  // p - q, to full relative accuracy
    Ratio<R> ratio;
    R log_p, log_q;
};

template <class R>
struct Term {
    R value, dp, dq;  // derivatives infinite at an empty bin where the value is finite are stated as 0
    R lost;           // mass that makes the value +inf
    R affinity;       // p^a q^(1-a), for the logarithmic divergences
};

template <class R>
__device__ __forceinline__ Bin<R> read_bin(R p, R q, R d) {
    Bin<R> x;
    x.p = p, x.q = q, x.d = d;
    x.ratio = log_ratio(p, q, d);
    x.log_p = log_ratio(p, R(1), p - R(1)).log;
    x.log_q = log_ratio(q, R(1), q - R(1)).log;
    return x;
}

template <class R>
__device__ __forceinline__ Bin<R> read_bin(R p, R q) {
    return read_bin(p, q, p - q);
}

template <class R>
struct Least;  // a divisor that is never 0
template <>
struct Least<float> {
    static __device__ __forceinline__ float tiny() { return 2.16840434e-19f; }  // 2^-62
};
template <>
struct Least<double> {
    static __device__ __forceinline__ double tiny() { return 4.9406564584124654e-324; }
};

// p log(p/q) - p + q: where p ~ q both pieces are d to first order, so the difference is taken by hand.
template <class R>
__device__ __forceinline__ R kl_value(R p, R d, const Ratio<R>& r) {
    const R u = r.t * r.t;
    return r.near ? d * r.t * fma_of(r.t + u, r.tail, R(1)) : fma_of(p, r.log, -d);
}

// -------------------------------------------------------------------------------------------------------- formulas
// A tag says: `term`; `power`, the exponent a of its affinity (-1: none); WIDE, whether float entries are computed in
// double all the same; AFFINE, whether it has an affinity; UNARY, that it has no q; UNROLL, how many bins at once the
// registers hold; `reach`, the range of float arithmetic.

struct Tag {
    static constexpr bool WIDE = false, AFFINE = false, UNARY = false;
    static constexpr int UNROLL = 4;
    __device__ __forceinline__ double power() const { return -1.0; }
    __device__ __forceinline__ int reach() const { return 60; }
};

struct TV : Tag {
    __device__ __forceinline__ TV(double, double, int) {}
    template <class R>
    __device__ __forceinline__ Term<R> term(const Bin<R>& x) const {
        const R sign = x.d > R(0) ? R(0.5) : x.d < R(0) ? R(-0.5) : R(0);
        return {R(0.5) * abs_of(x.d), sign, -sign, R(0), R(0)};
    }
};

struct L2 : Tag {
    static constexpr bool WIDE = true;  // squares of float differences underflow
    __device__ __forceinline__ L2(double, double, int) {}
    template <class R>
    __device__ __forceinline__ Term<R> term(const Bin<R>& x) const {
        return {x.d * x.d, x.d + x.d, -(x.d + x.d), R(0), R(0)};
    }
};

struct Hellinger : Tag {
    static constexpr bool AFFINE = true;
    __device__ __forceinline__ Hellinger(double, double, int) {}
    __device__ __forceinline__ double power() const { return 0.5; }
    __device__ __forceinline__ Term<float> term(const Bin<float>& x) const {
        const float a = fmaxf(sqrtf(x.p), 1.08420217e-19f), b = fmaxf(sqrtf(x.q), 1.08420217e-19f);  // 2^-63
        const float w = quotient(x.d, a + b), h = quotient(0.5f * w, a * b);
        const bool no_p = x.p == 0.0f, no_q = x.q == 0.0f;
        return {0.5f * w * w, no_p ? 0.0f : h * b, no_q ? 0.0f : -h * a, 0.0f, no_p || no_q ? 0.0f : a * b};
    }
    __device__ __forceinline__ Term<double> term(const Bin<double>& x) const {
        const double tiny = 2.7782685267319694e-163;  // 2^-540
        const double root_p = sqrt(x.p), root_q = sqrt(x.q), a = fmax(root_p, tiny), b = fmax(root_q, tiny);
        const double w = x.d / (a + b);
        return {0.5 * w * w, x.p == 0.0 ? 0.0 : 0.5 * w / a, x.q == 0.0 ? 0.0 : -0.5 * w / b, 0.0, root_p * root_q};
    }
};

struct Pearson : Tag {
    __device__ __forceinline__ Pearson(double, double, int) {}
    __device__ __forceinline__ Term<float> term(const Bin<float>& x) const {
        const float g = quotient(x.d, fmaxf(x.q, Least<float>::tiny()));
        return {x.d * g, g + g, -g * (g + 2.0f), x.q == 0.0f ? x.p : 0.0f, 0.0f};
    }
    __device__ __forceinline__ Term<double> term(const Bin<double>& x) const {
        const double q = fmax(x.q, Least<double>::tiny());
        const double w = x.d / sqrt(q), g = x.d / q;  // d (d/q) overflows at subnormal q where the value does not
        return {x.q == 0.0 ? 0.0 : w * w, g + g, -g * (g + 2.0), x.q == 0.0 ? x.p : 0.0, 0.0};
    }
};

struct Symmetric : Tag {
    __device__ __forceinline__ Symmetric(double, double, int) {}
    template <class R>
    __device__ __forceinline__ Term<R> term(const Bin<R>& x) const {
        const R t = quotient(x.d, max_of(x.p + x.q, Least<R>::tiny()));
        return {x.d * t, t * (R(2) - t), -t * (R(2) + t), R(0), R(0)};
    }
};

struct KL : Tag {
    __device__ __forceinline__ KL(double, double, int) {}
    template <class R>
    __device__ __forceinline__ Term<R> term(const Bin<R>& x) const {
        const R inf = R(INFINITY);
        const bool no_p = x.p == R(0), no_q = x.q == R(0);
        const R ratio = quotient(-x.d, max_of(x.q, Least<R>::tiny()));
        return {no_q ? R(0) : kl_value(x.p, x.d, x.ratio), no_p ? R(0) : no_q ? inf : x.ratio.log,
                no_p ? R(1) : no_q ? -inf : ratio, no_q ? x.p : R(0), R(0)};
    }
};

struct JS : Tag {
    __device__ __forceinline__ JS(double, double, int) {}
    __device__ __forceinline__ Term<float> term(const Bin<float>& x) const {
        const float s = x.p + x.q, r = quotient(1.0f, fmaxf(s, Least<float>::tiny()));
        const float z = sqrtf((2.0f * x.p * r) * (2.0f * x.q * r));
        // [(1+t) log(1+t) + (1-t) log(1-t)]/t^2 in z = sqrt(1 - t^2): positive coefficients, no logarithm
        float top = z + 95.3152137331f, bottom = z + 2.16856713822f;
        top = fmaf(z, top, 46.8824828773f), bottom = fmaf(z, bottom, 0.974691149528f);
        top = fmaf(z, top, 4.20676127921f), bottom = fmaf(z, bottom, 0.0870811685547f);
        top = fmaf(z, top, 0.05148267f), bottom = fmaf(z, bottom, 0.00106568236108f);
        const float value = (0.0286960540167f / 4.0f) * (x.d * (x.d * r)) * quotient(top, bottom);
        const float dp = x.p == 0.0f ? 0.0f : 0.5f * log_ratio(2.0f * x.p, s, x.d).log;
        const float dq = x.q == 0.0f ? 0.0f : 0.5f * log_ratio(2.0f * x.q, s, -x.d).log;
        return {value, dp, dq, 0.0f, 0.0f};
    }
    __device__ __forceinline__ Term<double> term(const Bin<double>& x) const {
        // KL(p, m) = KL(2p, s)/2: doubling is exact, halving a subnormal number is not
        const double s = x.p + x.q;
        const Ratio<double> to_p = log_ratio(2.0 * x.p, s, x.d), to_q = log_ratio(2.0 * x.q, s, -x.d);
        const double value = 0.25 * (kl_value(2.0 * x.p, x.d, to_p) + kl_value(2.0 * x.q, -x.d, to_q));
        return {value, x.p == 0.0 ? 0.0 : 0.5 * to_p.log, x.q == 0.0 ? 0.0 : 0.5 * to_q.log, 0.0, 0.0};
    }
};

struct Jeffreys : Tag {
    __device__ __forceinline__ Jeffreys(double, double, int) {}
    template <class R>
    __device__ __forceinline__ Term<R> term(const Bin<R>& x) const {
        const R inf = R(INFINITY), tiny = Least<R>::tiny();
        const bool no_p = x.p == R(0), no_q = x.q == R(0);
        const R lost = no_p ? x.q : no_q ? x.p : R(0), log = x.ratio.log;
        return {lost == R(0) ? x.d * log : R(0),
                no_p ? -inf : no_q ? inf : log + quotient(x.d, max_of(x.p, tiny)),
                no_p ? inf : no_q ? -inf : -log - quotient(x.d, max_of(x.q, tiny)), lost, R(0)};
    }
};

// [p (e^y - 1)/b - d]/a with b = a - 1, y = b log(p/q); by its Taylor series where |log(p/q)| max(1, a) < 1/2.
struct Alpha : Tag {
    static constexpr bool AFFINE = true;
    static constexpr int UNROLL = 2;
    double a, b;
    int range;
    __device__ __forceinline__ Alpha(double a, double b, int range) : a(a), b(b), range(range) {}
    __device__ __forceinline__ double power() const { return a; }
    __device__ __forceinline__ int reach() const { return range; }

    // sum over n of (1 + a + ... + a^(n-2))/n! z^(n-2): the geometric sums by Horner's rule, from the last
    template <class R, int ORDER>
    __device__ __forceinline__ R series(R z) const {
        R sum = R(1), y = R(0), factorial = R(1);
        R c[ORDER];
#pragma unroll
        for (int n = 0; n < ORDER; n++) {
            factorial = factorial * R(1.0 / (n + 2));
            c[n] = sum * factorial;
            sum = fma_of(sum, R(a), R(1));
        }
#pragma unroll
        for (int n = ORDER - 1; n >= 0; n--) y = fma_of(y, z, c[n]);
        return y;
    }

    template <class R>
    __device__ __forceinline__ Term<R> finish(const Bin<R>& x, R value, R slope, R affinity) const {
        const R inf = R(INFINITY), over_a = R(1) / R(a), over_b = R(1) / R(b), edge = abs_of(over_b);
        const bool no_p = x.p == R(0), no_q = x.q == R(0), steep = b > 0.0;
        const R lost = no_q && steep ? x.p : R(0);
        // e^{aL} - 1 from e^y - 1 near p = q, from the affinity elsewhere
        const R rise = quotient(x.ratio.near ? fma_of(slope, x.p, x.d) : affinity, max_of(x.q, Least<R>::tiny())) -
                       (x.ratio.near ? R(0) : R(1));
        const R dp = no_p ? (steep ? -edge : R(0)) : no_q ? (steep ? inf : edge) : slope * over_b;
        const R dq = no_p ? over_a : no_q ? (steep ? -inf : R(0)) : -rise * over_a;
        return {lost > R(0) ? R(0) : value, dp, dq, lost, no_p || no_q ? R(0) : affinity};
    }

    __device__ __forceinline__ Term<float> term(const Bin<float>& x) const {
        const float b_high = (float)b, b_low = (float)(b - (double)b_high), t = x.ratio.t;
        const bool no_p = x.p == 0.0f, no_q = x.q == 0.0f;
        const bool small = fabsf(x.ratio.log) * fmaxf(1.0f, (float)a) < 0.5f;
        const float z = small ? x.ratio.log : 0.0f;
        const Powers32 y =
            power_and_less_one(b_high, b_low, x.ratio.exponent, 2.0f * t * fmaf(t * t, x.ratio.tail, 1.0f));
        const float gain = (no_p ? 0.0f : no_q ? -x.p : x.p * y.less) * (1.0f / (float)b);
        const float value = small ? x.q * z * z * series<float, 7>(z) : (gain - x.d) * (1.0f / (float)a);
        return finish(x, value, y.less, x.p * y.power);
    }
    __device__ __forceinline__ Term<double> term(const Bin<double>& x) const {
        const bool no_p = x.p == 0.0, no_q = x.q == 0.0, small = fabs(x.ratio.log) * fmax(1.0, a) < 0.5;
        const double z = small ? x.ratio.log : 0.0;
        const Powers y = exp_and_expm1(0.5 * b * x.ratio.log);  // p e^y as (p root) root: e^y alone may overflow
        const double gain = (no_p ? 0.0 : no_q ? -x.p : (x.p * y.less) * (y.less + 2.0)) * (1.0 / b);
        const double value = small ? x.q * z * z * series<double, 12>(z) : (gain - x.d) * (1.0 / a);
        return finish(x, value, y.less * (y.less + 2.0), (x.p * y.power) * y.power);
    }
};

// q where p = 0, and the affinity q where p > 0: Renyi's divergence of order 0.
struct Support : Tag {
    static constexpr bool AFFINE = true;
    __device__ __forceinline__ Support(double, double, int) {}
    __device__ __forceinline__ double power() const { return 0.0; }
    template <class R>
    __device__ __forceinline__ Term<R> term(const Bin<R>& x) const {
        const bool empty = x.p == R(0);
        return {empty ? x.q : R(0), R(0), empty ? R(1) : R(0), R(0), empty ? R(0) : x.q};
    }
};

// -p log q; log q is held at or below `ceiling` (0 for histograms, whose entries are at most 1; else inf).
struct CrossEntropy : Tag {
    double ceiling;
    __device__ __forceinline__ CrossEntropy(double ceiling, double, int) : ceiling(ceiling) {}
    template <class R>
    __device__ __forceinline__ Term<R> term(const Bin<R>& x) const {
        const R inf = R(INFINITY), log_q = min_of(x.log_q, R(ceiling));
        const bool no_p = x.p == R(0), no_q = x.q == R(0);
        return {no_q ? R(0) : -x.p * log_q, no_q ? (no_p ? R(0) : inf) : -log_q,
                no_q ? (no_p ? R(0) : -inf) : quotient(-x.p, max_of(x.q, Least<R>::tiny())), no_q ? x.p : R(0), R(0)};
    }
};

struct Entropy : Tag {
    static constexpr bool UNARY = true;
    double ceiling;
    __device__ __forceinline__ Entropy(double ceiling, double, int) : ceiling(ceiling) {}
    template <class R>
    __device__ __forceinline__ Term<R> term(const Bin<R>& x) const {
        const R log_p = min_of(x.log_p, R(ceiling));
        return {-x.p * log_p, x.p == R(0) ? R(0) : -log_p - R(1), R(0), R(0), R(0)};
    }
};
