// What __half and __nv_bfloat16 have in common. Names that depend on the type carry it (__half2float); the others
// (__hadd, __low2float) are overloaded, as in CUDA.
#pragma once

#define EMULATOR_SHORT_OPERATOR(T, op)                                             \
  inline T operator op(T a, T b) { return T(float(a) op float(b)); }               \
  inline T& operator op##=(T& a, T b) { return a = T(float(a) op float(b)); }
#define EMULATOR_SHORT_COMPARISON(T, op) \
  inline bool operator op(T a, T b) { return float(a) op float(b); }

#define EMULATOR_SHORT_FLOAT(T, T2, name)                                                    \
  EMULATOR_SHORT_OPERATOR(T, +)                                                              \
  EMULATOR_SHORT_OPERATOR(T, -)                                                              \
  EMULATOR_SHORT_OPERATOR(T, *)                                                              \
  EMULATOR_SHORT_OPERATOR(T, /)                                                              \
  EMULATOR_SHORT_COMPARISON(T, <)                                                            \
  EMULATOR_SHORT_COMPARISON(T, >)                                                            \
  EMULATOR_SHORT_COMPARISON(T, <=)                                                           \
  EMULATOR_SHORT_COMPARISON(T, >=)                                                           \
  EMULATOR_SHORT_COMPARISON(T, ==)                                                           \
  EMULATOR_SHORT_COMPARISON(T, !=)                                                           \
  inline T operator-(T a) { return emulator::bits<T>(static_cast<unsigned short>(a.__x ^ 0x8000)); } \
  inline float __##name##2float(T x) { return float(x); }                                    \
  inline T __float2##name(float x) { return T(x); }                                          \
  inline T __float2##name##_rn(float x) { return T(x); }                                     \
  inline T2 __floats2##name##2_rn(float x, float y) { return {T(x), T(y)}; }                 \
  inline T2 __float2##name##2_rn(float x) { return {T(x), T(x)}; }                           \
  inline T2 __halves2##name##2(T x, T y) { return {x, y}; }                                  \
  inline T2 __##name##2##name##2(T x) { return {x, x}; }                                     \
  inline T __low2##name(T2 v) { return v.x; }                                                \
  inline T __high2##name(T2 v) { return v.y; }                                               \
  inline float __low2float(T2 v) { return float(v.x); }                                      \
  inline float __high2float(T2 v) { return float(v.y); }                                     \
  inline T __hadd(T a, T b) { return a + b; }                                                \
  inline T __hsub(T a, T b) { return a - b; }                                                \
  inline T __hmul(T a, T b) { return a * b; }                                                \
  inline T __hdiv(T a, T b) { return a / b; }                                                \
  inline T __hneg(T a) { return -a; }                                                        \
  inline T __habs(T a) { return emulator::bits<T>(static_cast<unsigned short>(a.__x & 0x7fff)); } \
  /* the sum is exact in double but for a rounding far below half's last place */            \
  inline T __hfma(T a, T b, T c) { return T(double(float(a)) * float(b) + double(float(c))); } \
  inline T __hmax(T a, T b) { return T(fmaxf(float(a), float(b))); }                         \
  inline T __hmin(T a, T b) { return T(fminf(float(a), float(b))); }                         \
  inline bool __hisnan(T a) { return float(a) != float(a); }                                 \
  inline bool __hlt(T a, T b) { return a < b; }                                              \
  inline bool __hgt(T a, T b) { return a > b; }                                              \
  inline T2 __hadd2(T2 a, T2 b) { return {a.x + b.x, a.y + b.y}; }                           \
  inline T2 __hsub2(T2 a, T2 b) { return {a.x - b.x, a.y - b.y}; }                           \
  inline T2 __hmul2(T2 a, T2 b) { return {a.x * b.x, a.y * b.y}; }                           \
  inline T2 __hfma2(T2 a, T2 b, T2 c) { return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)}; }
