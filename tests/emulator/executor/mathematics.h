// Mathematical functions, conversions and integer intrinsics. Declared by hand: <cmath> would double the time that a
// kernel takes to compile. The approximate ones (__expf, ...) are as exact as the others here.
#pragma once

#define EMULATOR_UNARY(name)                                     \
  extern "C" double name(double) noexcept;                       \
  extern "C" float name##f(float) noexcept;                      \
  inline float name(float x) { return name##f(x); }
EMULATOR_UNARY(exp)
EMULATOR_UNARY(exp2)
EMULATOR_UNARY(exp10)
EMULATOR_UNARY(expm1)
EMULATOR_UNARY(log)
EMULATOR_UNARY(log2)
EMULATOR_UNARY(log10)
EMULATOR_UNARY(log1p)
EMULATOR_UNARY(sqrt)
EMULATOR_UNARY(cbrt)
EMULATOR_UNARY(sin)
EMULATOR_UNARY(cos)
EMULATOR_UNARY(tan)
EMULATOR_UNARY(asin)
EMULATOR_UNARY(acos)
EMULATOR_UNARY(atan)
EMULATOR_UNARY(sinh)
EMULATOR_UNARY(cosh)
EMULATOR_UNARY(tanh)
EMULATOR_UNARY(erf)
EMULATOR_UNARY(erfc)
EMULATOR_UNARY(lgamma)
EMULATOR_UNARY(tgamma)
EMULATOR_UNARY(fabs)
EMULATOR_UNARY(floor)
EMULATOR_UNARY(ceil)
EMULATOR_UNARY(trunc)
EMULATOR_UNARY(round)
EMULATOR_UNARY(rint)
EMULATOR_UNARY(nearbyint)
EMULATOR_UNARY(logb)
#undef EMULATOR_UNARY

#define EMULATOR_BINARY(name)                                          \
  extern "C" double name(double, double) noexcept;                     \
  extern "C" float name##f(float, float) noexcept;                     \
  inline float name(float x, float y) { return name##f(x, y); }
EMULATOR_BINARY(pow)
EMULATOR_BINARY(fmod)
EMULATOR_BINARY(fmin)
EMULATOR_BINARY(fmax)
EMULATOR_BINARY(fdim)
EMULATOR_BINARY(hypot)
EMULATOR_BINARY(atan2)
EMULATOR_BINARY(copysign)
EMULATOR_BINARY(nextafter)
EMULATOR_BINARY(remainder)
#undef EMULATOR_BINARY

extern "C" double fma(double, double, double) noexcept;
extern "C" float fmaf(float, float, float) noexcept;
inline float fma(float x, float y, float z) { return fmaf(x, y, z); }
extern "C" double ldexp(double, int) noexcept;
extern "C" float ldexpf(float, int) noexcept;
inline float ldexp(float x, int e) { return ldexpf(x, e); }
extern "C" double scalbn(double, int) noexcept;
extern "C" float scalbnf(float, int) noexcept;
extern "C" double frexp(double, int*) noexcept;
extern "C" float frexpf(float, int*) noexcept;
inline float frexp(float x, int* e) { return frexpf(x, e); }
extern "C" void sincos(double, double*, double*) noexcept;
extern "C" void sincosf(float, float*, float*) noexcept;
extern "C" int abs(int) noexcept;
extern "C" long long llabs(long long) noexcept;
inline long long abs(long long x) { return llabs(x); }
inline float abs(float x) { return fabsf(x); }
inline double abs(double x) { return fabs(x); }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float rsqrt(float x) { return rsqrtf(x); }
inline float rcbrtf(float x) { return 1.0f / cbrtf(x); }
inline double rcbrt(double x) { return 1.0 / cbrt(x); }
inline float normcdff(float x) { return 0.5f * erfcf(-0.70710678118654752f * x); }
inline double normcdf(double x) { return 0.5 * erfc(-0.70710678118654752440 * x); }

template <class T>
bool isnan(T x) { return __builtin_isnan(x); }
template <class T>
bool isinf(T x) { return __builtin_isinf(x) != 0; }
template <class T>
bool isfinite(T x) { return __builtin_isfinite(x); }
template <class T>
bool signbit(T x) { return __builtin_signbit(x) != 0; }

// min and max of floating numbers pass over a NaN, as CUDA's do.
template <class A, class B>
constexpr auto min(A a, B b) -> decltype(true ? A() : B()) {
  using T = decltype(true ? A() : B());
  const T x = static_cast<T>(a), y = static_cast<T>(b);
  return x < y || y != y ? x : y;
}
template <class A, class B>
constexpr auto max(A a, B b) -> decltype(true ? A() : B()) {
  using T = decltype(true ? A() : B());
  const T x = static_cast<T>(a), y = static_cast<T>(b);
  return x > y || y != y ? x : y;
}

#define INFINITY (__builtin_inff())
#define NAN (__builtin_nanf(""))
#define EMULATOR_BITS(name, To, From) \
  inline To name(From x) { return emulator::bits<To>(x); }
EMULATOR_BITS(__float_as_int, int, float)
EMULATOR_BITS(__float_as_uint, unsigned, float)
EMULATOR_BITS(__int_as_float, float, int)
EMULATOR_BITS(__uint_as_float, float, unsigned)
EMULATOR_BITS(__double_as_longlong, long long, double)
EMULATOR_BITS(__longlong_as_double, double, long long)
#undef EMULATOR_BITS
inline int __double2hiint(double x) { return static_cast<int>(__double_as_longlong(x) >> 32); }
inline int __double2loint(double x) { return static_cast<int>(__double_as_longlong(x)); }
inline double __hiloint2double(int hi, int lo) {
  return __longlong_as_double(static_cast<long long>(hi) << 32 | static_cast<unsigned>(lo));
}

inline float __expf(float x) { return expf(x); }
inline float __exp10f(float x) { return exp10f(x); }
inline float __logf(float x) { return logf(x); }
inline float __log2f(float x) { return log2f(x); }
inline float __log10f(float x) { return log10f(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __tanf(float x) { return tanf(x); }
inline void __sincosf(float x, float* s, float* c) { sincosf(x, s, c); }
inline float __fdividef(float x, float y) { return x / y; }
inline float fdividef(float x, float y) { return x / y; }
inline float __saturatef(float x) { return x > 0 ? (x < 1 ? x : 1) : 0; }
inline float __frsqrt_rn(float x) { return 1.0f / sqrtf(x); }

// Separately rounded, never contracted: the operands pass through a register that the compiler cannot see into.
#define EMULATOR_ROUNDED(T, prefix)                                       \
  inline T prefix##add_rn(T x, T y) { T r = x + y; asm("" : "+x"(r)); return r; } \
  inline T prefix##sub_rn(T x, T y) { T r = x - y; asm("" : "+x"(r)); return r; } \
  inline T prefix##mul_rn(T x, T y) { T r = x * y; asm("" : "+x"(r)); return r; } \
  inline T prefix##div_rn(T x, T y) { return x / y; }                     \
  inline T prefix##rcp_rn(T x) { return 1 / x; }                          \
  inline T prefix##sqrt_rn(T x) { return sqrt(x); }
EMULATOR_ROUNDED(float, __f)
EMULATOR_ROUNDED(double, __d)
#undef EMULATOR_ROUNDED
inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
inline double __fma_rn(double x, double y, double z) { return fma(x, y, z); }

#define EMULATOR_CONVERSION(from, From, to, To)                                    \
  inline To __##from##2##to##_rz(From x) { return static_cast<To>(x); }            \
  inline To __##from##2##to##_rn(From x) { return static_cast<To>(rint(x)); }      \
  inline To __##from##2##to##_rd(From x) { return static_cast<To>(floor(x)); }     \
  inline To __##from##2##to##_ru(From x) { return static_cast<To>(ceil(x)); }
EMULATOR_CONVERSION(float, float, int, int)
EMULATOR_CONVERSION(float, float, uint, unsigned)
EMULATOR_CONVERSION(float, float, ll, long long)
EMULATOR_CONVERSION(double, double, int, int)
EMULATOR_CONVERSION(double, double, uint, unsigned)
EMULATOR_CONVERSION(double, double, ll, long long)
#undef EMULATOR_CONVERSION
inline float __int2float_rn(int x) { return static_cast<float>(x); }
inline float __uint2float_rn(unsigned x) { return static_cast<float>(x); }
inline float __ll2float_rn(long long x) { return static_cast<float>(x); }
inline double __int2double_rn(int x) { return x; }
inline double __ll2double_rn(long long x) { return static_cast<double>(x); }
inline float __double2float_rn(double x) { return static_cast<float>(x); }

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll(static_cast<unsigned long long>(x)) : 64; }
inline unsigned __brev(unsigned x) {
  unsigned r = 0;
  for (int k = 0; k < 32; k++) r |= (x >> k & 1u) << (31 - k);
  return r;
}
inline unsigned long long __brevll(unsigned long long x) {
  return static_cast<unsigned long long>(__brev(static_cast<unsigned>(x))) << 32 | __brev(static_cast<unsigned>(x >> 32));
}
inline int __mulhi(int x, int y) { return static_cast<int>(static_cast<long long>(x) * y >> 32); }
inline unsigned __umulhi(unsigned x, unsigned y) {
  return static_cast<unsigned>(static_cast<unsigned long long>(x) * y >> 32);
}
inline unsigned long long __umul64hi(unsigned long long x, unsigned long long y) {
  return static_cast<unsigned long long>(static_cast<unsigned __int128>(x) * y >> 64);
}
inline long long __mul64hi(long long x, long long y) { return static_cast<long long>(static_cast<__int128>(x) * y >> 64); }
inline int __mul24(int x, int y) { return (x << 8 >> 8) * (y << 8 >> 8); }
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  const unsigned long long both = static_cast<unsigned long long>(y) << 32 | x;
  unsigned r = 0;
  for (int k = 0; k < 4; k++) r |= static_cast<unsigned>(both >> (selector >> 4 * k & 7) * 8 & 255) << 8 * k;
  return r;
}
inline unsigned __funnelshift_l(unsigned lo, unsigned hi, unsigned s) {
  return static_cast<unsigned>((static_cast<unsigned long long>(hi) << 32 | lo) << (s & 31) >> 32);
}
inline unsigned __funnelshift_r(unsigned lo, unsigned hi, unsigned s) {
  return static_cast<unsigned>((static_cast<unsigned long long>(hi) << 32 | lo) >> (s & 31));
}
