// __half and __half2: the part of CUDA's header of this name that the kernels use. g++ converts and rounds _Float16 as
// the device does; arithmetic is in float, rounded once, which for + - * / gives the correctly rounded half.
#pragma once
#include "short_floats.h"

struct __half {
  unsigned short __x;
  __half() = default;
  __half(float x) : __x(emulator::bits<unsigned short>(static_cast<_Float16>(x))) {}
  __half(double x) : __x(emulator::bits<unsigned short>(static_cast<_Float16>(x))) {}
  __half(int x) : __half(static_cast<float>(x)) {}
  operator float() const { return static_cast<float>(emulator::bits<_Float16>(__x)); }
};
struct __attribute__((aligned(4))) __half2 {
  __half x, y;
};
using half = __half;
using half2 = __half2;
struct __half_raw {
  unsigned short x;
};

EMULATOR_SHORT_FLOAT(__half, __half2, half)
inline unsigned short __half_as_ushort(__half x) { return x.__x; }
inline short __half_as_short(__half x) { return static_cast<short>(x.__x); }
inline __half __ushort_as_half(unsigned short x) { return emulator::bits<__half>(x); }
inline __half __short_as_half(short x) { return emulator::bits<__half>(x); }
inline __half __double2half(double x) { return __half(x); }
inline float2 __half22float2(__half2 v) { return {float(v.x), float(v.y)}; }
inline __half2 __float22half2_rn(float2 v) { return {__half(v.x), __half(v.y)}; }
