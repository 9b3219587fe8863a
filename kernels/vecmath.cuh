// What every kernel shares: half types, vector loads, exact elementary functions, reductions in a fixed order.
//
// No header of CUDA is needed, so a text compiles with NVRTC alone. PTX stands only in the helpers below; each has a
// plain twin under OTDIST_EMULATED. Coefficients: docs/coefficients.py.
#pragma once

#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#endif

#define NAN_VALUE __int_as_float(0x7fffffff)
#define WARP 32
#define ALL 0xffffffffu

// ---------------------------------------------------------------------------------------------------- half types

struct float16 {
    unsigned short bits;
};

struct bfloat16 {
    unsigned short bits;
};

__device__ __forceinline__ float widen(float16 x) {
#ifdef OTDIST_EMULATED
    const unsigned sign = (x.bits & 0x8000u) << 16, rest = x.bits & 0x7fffu;
    if (rest >= 0x7c00u) return __uint_as_float(sign | 0x7f800000u | ((rest & 0x3ffu) << 13));
    if (rest >= 0x400u) return __uint_as_float(sign | ((rest << 13) + 0x38000000u));
    const float small = (float)rest * 5.9604644775390625e-8f;  // 2^-24
    return sign ? -small : small;
#else
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
    return y;
#endif
}

__device__ __forceinline__ float widen(bfloat16 x) { return __uint_as_float((unsigned)x.bits << 16); }
__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ double widen(double x) { return x; }

// To nearest, ties to even; too large becomes inf.
__device__ __forceinline__ float16 to_half(float x) {
    float16 y;
#ifdef OTDIST_EMULATED
    const unsigned u = __float_as_uint(x), sign = (u >> 16) & 0x8000u, a = u & 0x7fffffffu;
    unsigned h;
    if (a > 0x7f800000u) {
        h = 0x7fffu;
    } else if (a >= 0x477ff000u) {
        h = 0x7c00u;
    } else if (a >= 0x38800000u) {
        h = (a - 0x38000000u + 0xfffu + ((a >> 13) & 1u)) >> 13;
    } else {
        // the sum's last place is 2^-24, the step of subnormal halves
        h = __float_as_uint(__uint_as_float(a) + 0.5f) - 0x3f000000u;
    }
    y.bits = (unsigned short)(sign | h);
#else
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
#endif
    return y;
}

__device__ __forceinline__ bfloat16 to_bfloat16(float x) {
    const unsigned u = __float_as_uint(x);
    bfloat16 y;
    y.bits = (u & 0x7fffffffu) > 0x7f800000u ? (unsigned short)0x7fffu
                                             : (unsigned short)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
    return y;
}

// float64 -> half types rounds twice unless the first rounding is to odd.
__device__ __forceinline__ float round_to_odd(double x) {
    const float y = (float)x;
    const double back = (double)y;
    unsigned u = __float_as_uint(y);
    if (back == x || !(fabs(back) <= 3.0e38) || (u & 1u)) return y;
    return __uint_as_float(fabs(back) > fabs(x) ? u - 1u : u + 1u);
}

template <class Out>
struct Cast {
    template <class In>
    static __device__ __forceinline__ Out from(In x) {
        return (Out)x;
    }
    static __device__ __forceinline__ Out from(float16 x) { return (Out)widen(x); }
    static __device__ __forceinline__ Out from(bfloat16 x) { return (Out)widen(x); }
};

template <>
struct Cast<float16> {
    template <class In>
    static __device__ __forceinline__ float16 from(In x) {
        return to_half(round_to_odd((double)x));
    }
    static __device__ __forceinline__ float16 from(float x) { return to_half(x); }
    static __device__ __forceinline__ float16 from(float16 x) { return x; }
    static __device__ __forceinline__ float16 from(bfloat16 x) { return to_half(widen(x)); }
};

template <>
struct Cast<bfloat16> {
    template <class In>
    static __device__ __forceinline__ bfloat16 from(In x) {
        return to_bfloat16(round_to_odd((double)x));
    }
    static __device__ __forceinline__ bfloat16 from(float x) { return to_bfloat16(x); }
    static __device__ __forceinline__ bfloat16 from(bfloat16 x) { return x; }
    static __device__ __forceinline__ bfloat16 from(float16 x) { return to_bfloat16(widen(x)); }
};

template <class Out, class In>
__device__ __forceinline__ Out cast(In x) {
    return Cast<Out>::from(x);
}

// The float of the arithmetic: half types are computed in float32.
template <class T>
struct Wide {
    typedef float type;
};
template <>
struct Wide<double> {
    typedef double type;
};

// ------------------------------------------------------------------------------------------ exponentials, logarithms

// The special-function unit: relative error below 2^-22, subnormal arguments and results are 0. The plain twins of the
// emulator are wrong by as much, on purpose: a bound that holds there does not lean on a better libm.
#ifdef OTDIST_EMULATED
__device__ __forceinline__ float worse(float x) {
    const unsigned u = __float_as_uint(x);
    if ((u & 0x7fffffffu) >= 0x7f800000u || (u & 0x7f800000u) == 0u) return (u & 0x7f800000u) ? x : x * 0.0f;
    return __uint_as_float(u ^ ((u >> 5) & 1u));
}
#endif

// 2^x
__device__ __forceinline__ float exp2_fast(float x) {
#ifdef OTDIST_EMULATED
    return worse(exp2f(x));
#else
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}

// log2 x: near 1 the error is 2^-22 absolutely, not relatively.
__device__ __forceinline__ float log2_fast(float x) {
#ifdef OTDIST_EMULATED
    return worse(x < 1.17549435e-38f && x > -1.17549435e-38f ? -INFINITY : log2f(x));
#else
    float y;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}

// 1/x, error 1 ulp; 0 for |x| > 2^126
__device__ __forceinline__ float reciprocal_fast(float x) {
#ifdef OTDIST_EMULATED
    const float y = 1.0f / x;
    return fabsf(y) < 1.17549435e-38f ? 0.0f * y : worse(y);
#else
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}

// 1/sqrt x, error 2^-22
__device__ __forceinline__ float rsqrt_fast(float x) {
#ifdef OTDIST_EMULATED
    return worse(1.0f / sqrtf(x));
#else
    float y;
    asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}

// 2^x by arithmetic alone, which leaves the special-function unit to others: x < 127 (float), 1023 (double); from -125
// (-1020) down it stays at about 1e-38 (1e-307). Error 1 ulp.
__device__ __forceinline__ float exp2_poly(float x) {
    x = fmaxf(x, -125.0f);
    const float m = x + 12582912.0f;  // 1.5 2^23: the low bits hold the integer
    const float f = x - (m - 12582912.0f);
    float y = 0.000153458121613116298f;
    y = fmaf(y, f, 0.0013399931177239738f);
    y = fmaf(y, f, 0.00961848895633118162f);
    y = fmaf(y, f, 0.055503287771053248f);
    y = fmaf(y, f, 0.240226468906455207f);
    y = fmaf(y, f, 0.693147205737195751f);
    y = fmaf(y, f, 1.0f);
    return __uint_as_float(__float_as_uint(y) + (__float_as_uint(m) << 23));
}

__device__ __forceinline__ double exp2_poly(double x) {
    x = fmax(x, -1020.0);
    const double m = x + 6755399441055744.0;
    const double f = x - (m - 6755399441055744.0);
    double y = 4.43528270695727715e-10;
    y = fma(y, f, 7.0741056135081428e-9);
    y = fma(y, f, 1.01781980216719308e-7);
    y = fma(y, f, 1.32154330896763992e-6);
    y = fma(y, f, 0.0000152527334899885256);
    y = fma(y, f, 0.000154035304625144321);
    y = fma(y, f, 0.00133335581467899217);
    y = fma(y, f, 0.00961812910758833524);
    y = fma(y, f, 0.0555041086648199216);
    y = fma(y, f, 0.240226506959101562);
    y = fma(y, f, 0.69314718055994533);
    y = fma(y, f, 1.0);
    return __longlong_as_double(__double_as_longlong(y) + (__double_as_longlong(m) << 52));
}

// One name for both widths: the functions of CUDA's own library, 1 to 2 ulp.
__device__ __forceinline__ float exp2_of(float x) { return exp2f(x); }
__device__ __forceinline__ double exp2_of(double x) { return exp2(x); }
__device__ __forceinline__ float exp_of(float x) { return expf(x); }
__device__ __forceinline__ double exp_of(double x) { return exp(x); }
__device__ __forceinline__ float log2_of(float x) { return log2f(x); }
__device__ __forceinline__ double log2_of(double x) { return log2(x); }
__device__ __forceinline__ float log_of(float x) { return logf(x); }
__device__ __forceinline__ double log_of(double x) { return log(x); }
__device__ __forceinline__ float log1p_of(float x) { return log1pf(x); }
__device__ __forceinline__ double log1p_of(double x) { return log1p(x); }
__device__ __forceinline__ float sqrt_of(float x) { return sqrtf(x); }
__device__ __forceinline__ double sqrt_of(double x) { return sqrt(x); }
__device__ __forceinline__ float abs_of(float x) { return fabsf(x); }
__device__ __forceinline__ double abs_of(double x) { return fabs(x); }
__device__ __forceinline__ float max_of(float x, float y) { return fmaxf(x, y); }
__device__ __forceinline__ double max_of(double x, double y) { return fmax(x, y); }
__device__ __forceinline__ float min_of(float x, float y) { return fminf(x, y); }
__device__ __forceinline__ double min_of(double x, double y) { return fmin(x, y); }
__device__ __forceinline__ float fma_of(float x, float y, float z) { return fmaf(x, y, z); }
__device__ __forceinline__ double fma_of(double x, double y, double z) { return fma(x, y, z); }

// ------------------------------------------------------------------------------------------------- vectors of memory

// N elements of T that move as one piece of up to 16 bytes; the address must be a multiple of their size.
template <class T, int N>
struct __align__(sizeof(T) * N) Pack {
    T at[N];
};

template <class T>
struct PackOf {
    static const int N = 16 / sizeof(T);
};

// Read once and not again: stays out of the way of what is read often. No thread of the launch may write there.
template <class T, int N>
__device__ __forceinline__ Pack<T, N> load_pack(const T* p) {
#ifdef OTDIST_EMULATED
    return *reinterpret_cast<const Pack<T, N>*>(p);
#else
    Pack<T, N> y;
    if constexpr (sizeof(T) * N == 16) {
        unsigned* u = reinterpret_cast<unsigned*>(&y);
        asm("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
            : "=r"(u[0]), "=r"(u[1]), "=r"(u[2]), "=r"(u[3])
            : "l"(p));
    } else {
        y = *reinterpret_cast<const Pack<T, N>*>(p);
    }
    return y;
#endif
}

template <class T, int N>
__device__ __forceinline__ void store_pack(T* p, const Pack<T, N>& x) {
    *reinterpret_cast<Pack<T, N>*>(p) = x;
}

template <class T>
__device__ __forceinline__ bool is_aligned(const T* p, int bytes) {
    return ((unsigned long long)p & (unsigned long long)(bytes - 1)) == 0;
}

// --------------------------------------------------------------------------------------------- sums in a fixed order

// The result is the same in every lane, and the same on every run: a butterfly.
template <class T>
__device__ __forceinline__ T warp_sum(T x, unsigned mask = ALL, int width = WARP) {
    for (int d = width / 2; d > 0; d /= 2) x += __shfl_xor_sync(mask, x, d);
    return x;
}

template <class T>
__device__ __forceinline__ T warp_max(T x, unsigned mask = ALL, int width = WARP) {
    for (int d = width / 2; d > 0; d /= 2) {
        const T y = __shfl_xor_sync(mask, x, d);
        x = x > y ? x : y;
    }
    return x;
}

template <class T>
__device__ __forceinline__ T warp_min(T x, unsigned mask = ALL, int width = WARP) {
    for (int d = width / 2; d > 0; d /= 2) {
        const T y = __shfl_xor_sync(mask, x, d);
        x = x < y ? x : y;
    }
    return x;
}

__device__ __forceinline__ int warp_or(int x, unsigned mask = ALL, int width = WARP) {
    for (int d = width / 2; d > 0; d /= 2) x |= __shfl_xor_sync(mask, x, d);
    return x;
}

// Sum over a block of a multiple of 32 threads, at most 1024, one-dimensional; `room` holds 32 values in shared memory
// and may be used again at once. Every thread gets the result.
template <class T>
__device__ __forceinline__ T block_sum(T x, T* room) {
    x = warp_sum(x);
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
    if (lane == 0) room[warp] = x;
    __syncthreads();
    T y = lane < warps ? room[lane] : T(0);
    y = warp_sum(y);
    __syncthreads();
    return y;
}

template <class T>
__device__ __forceinline__ T block_max(T x, T* room) {
    x = warp_max(x);
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
    if (lane == 0) room[warp] = x;
    __syncthreads();
    T y = room[lane < warps ? lane : 0];
    y = warp_max(y);
    __syncthreads();
    return y;
}

// A sum and what its roundings lost (Neumaier's, without the branch: Knuth's two-sum).
template <class T>
struct Compensated {
    T sum, rest;
    __device__ __forceinline__ Compensated() : sum(0), rest(0) {}
    __device__ __forceinline__ void add(T x) {
        const T s = sum + x, b = s - sum;
        rest += (sum - (s - b)) + (x - b);
        sum = s;
    }
    __device__ __forceinline__ void add(const Compensated& x) {
        add(x.sum);
        rest += x.rest;
    }
    __device__ __forceinline__ T value() const { return sum + rest; }
};

// Bits are set from any thread; the order does not matter to the result.
__device__ __forceinline__ void raise_flag(int* word, int bits) { atomicOr(word, bits); }
