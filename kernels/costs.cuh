// The bins of the divergences that are no sums of products, as costs of ``tile.cuh``; twins of those of ``tiles.py``.
// `factor` times the sum is the divergence, or what is left of it. Absolute values: -0 is an entry too.
#pragma once
#include "vecmath.cuh"

// |p - q|
template <class T>
struct Distance {
    typedef T Real;
    static constexpr int PLANES = 1;
    __device__ explicit Distance(double) {}
    __device__ double factor() const { return 0.5; }
    __device__ void read(T x, T (&plane)[1]) const { plane[0] = abs_of(x); }
    __device__ void add(T& sum, const T (&p)[1], const T (&q)[1]) const { sum += abs_of(p[0] - q[0]); }
};

// (p - q)^2
template <class T>
struct SquaredDistance {
    typedef T Real;
    static constexpr int PLANES = 1;
    __device__ explicit SquaredDistance(double) {}
    __device__ double factor() const { return 1.0; }
    __device__ void read(T x, T (&plane)[1]) const { plane[0] = abs_of(x); }
    __device__ void add(T& sum, const T (&p)[1], const T (&q)[1]) const {
        const T d = p[0] - q[0];
        sum = fma_of(d, d, sum);
    }
};

// An ulp or two are enough here: y in [2^-126, 2^125].
__device__ __forceinline__ float over(float x, float y) { return x * reciprocal_fast(y); }
__device__ __forceinline__ double over(double x, double y) { return x / y; }

// (p - q)^2/(p + q): entries are held at or above the least normal number, whose quotients are 0/x where p = q
template <class T>
struct Harmonic {
    typedef T Real;
    static constexpr int PLANES = 1;
    __device__ explicit Harmonic(double) {}
    __device__ double factor() const { return 1.0; }
    __device__ void read(T x, T (&plane)[1]) const {
        plane[0] = max_of(abs_of(x), sizeof(T) == 4 ? T(1.17549435e-38) : T(2.2250738585072014e-308));
    }
    __device__ void add(T& sum, const T (&p)[1], const T (&q)[1]) const {
        const T d = p[0] - q[0];
        sum = fma_of(d, over(d, p[0] + q[0]), sum);
    }
};

// Four times the bin of JS over JS_SCALE, from p and sqrt(2p): a rational function of 2 sqrt(pq)/(p + q), no logarithm.
struct JensenShannon {
    typedef float Real;
    static constexpr int PLANES = 2;
    __device__ explicit JensenShannon(double) {}
    __device__ double factor() const { return 0.25 * 0.0286960540167; }
    __device__ void read(float x, float (&plane)[2]) const {
        plane[0] = fmaxf(fabsf(x), 1.17549435e-38f);
        plane[1] = sqrtf(2.0f) * sqrtf(fabsf(x));
    }
    __device__ void add(float& sum, const float (&p)[2], const float (&q)[2]) const {
        const float d = p[0] - q[0], r = reciprocal_fast(p[0] + q[0]), z = p[1] * q[1] * r;
        float top = z + 95.3152137331f, bottom = z + 2.16856713822f;
        top = fmaf(z, top, 46.8824828773f);
        bottom = fmaf(z, bottom, 0.974691149528f);
        top = fmaf(z, top, 4.20676127921f);
        bottom = fmaf(z, bottom, 0.0870811685547f);
        top = fmaf(z, top, 0.05148267f);
        bottom = fmaf(z, bottom, 0.00106568236108f);
        sum = fmaf(d * (d * r), over(top, bottom), sum);
    }
};

// s log s, s = c (p + q): what JS is with the entropies of the rows.
struct JointEntropy {
    typedef double Real;
    static constexpr int PLANES = 1;
    double c;
    __device__ explicit JointEntropy(double scale) : c(0.5 * scale) {}
    __device__ double factor() const { return -0.5 / c; }
    __device__ void read(double x, double (&plane)[1]) const { plane[0] = c * fabs(x); }
    __device__ void add(double& sum, const double (&p)[1], const double (&q)[1]) const {
        // s = 2^e (1 + f) in [1/sqrt 2, sqrt 2] 2^e, log s = e log 2 + 2 atanh(f/(2 + f)); 0 counts as 2^-1023
        const double s = p[0] + q[0];
        const long long bits = __double_as_longlong(s);
        const long long e = (bits - 0x3fe6a09e667f3bcdLL) >> 52;
        const double f = __longlong_as_double(bits - (e << 52)) - 1.0, t = f / (f + 2.0), u = t * t;
        double y = 0.168409344474409108;
        y = fma(y, u, 0.181216692309635684);
        y = fma(y, u, 0.222234425344752189);
        y = fma(y, u, 0.285714159113672033);
        y = fma(y, u, 0.400000000624146067);
        y = fma(y, u, 0.666666666665514327);
        y = fma(y, u, 2.00000000000000035);
        sum = fma(s, fma((double)(int)e, 0.6931471805599453, t * y), sum);
    }
};

// (sqrt p - sqrt q)^2 from the roots to twice the working precision: no cancellation, no division.
struct RootDistance {
    typedef float Real;
    static constexpr int PLANES = 2;
    __device__ explicit RootDistance(double) {}
    __device__ double factor() const { return 0.5; }
    __device__ void read(float x, float (&plane)[2]) const {
        const float r = sqrtf(fabsf(x));
        plane[0] = r;
        plane[1] = r > 0.0f ? fmaf(-r, r, fabsf(x)) / (2.0f * r) : 0.0f;
    }
    __device__ void add(float& sum, const float (&p)[2], const float (&q)[2]) const {
        const float w = (p[0] - q[0]) + (p[1] - q[1]);
        sum = fmaf(w, w, sum);
    }
};
