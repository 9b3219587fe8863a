// __nv_bfloat16 and __nv_bfloat162: the part of CUDA's header of this name that the kernels use.
#pragma once
#include "short_floats.h"

namespace emulator {

// Round to nearest, ties to even, on the bits; a NaN stays one whatever its payload.
inline unsigned short bfloat16_bits(float x) {
  const unsigned u = bits<unsigned>(x);
  if (x != x) return 0x7fff;
  return static_cast<unsigned short>((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

}  // namespace emulator

struct __nv_bfloat16 {
  unsigned short __x;
  __nv_bfloat16() = default;
  __nv_bfloat16(float x) : __x(emulator::bfloat16_bits(x)) {}
  __nv_bfloat16(double x) : __nv_bfloat16(static_cast<float>(x)) {}
  __nv_bfloat16(int x) : __nv_bfloat16(static_cast<float>(x)) {}
  operator float() const { return emulator::bits<float>(static_cast<unsigned>(__x) << 16); }
};
struct __attribute__((aligned(4))) __nv_bfloat162 {
  __nv_bfloat16 x, y;
};
using nv_bfloat16 = __nv_bfloat16;
using nv_bfloat162 = __nv_bfloat162;

EMULATOR_SHORT_FLOAT(__nv_bfloat16, __nv_bfloat162, bfloat16)
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 x) { return x.__x; }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short x) { return emulator::bits<__nv_bfloat16>(x); }
inline __nv_bfloat16 __double2bfloat16(double x) { return __nv_bfloat16(x); }
inline float2 __bfloat1622float2(__nv_bfloat162 v) { return {float(v.x), float(v.y)}; }
inline __nv_bfloat162 __float22bfloat162_rn(float2 v) { return {__nv_bfloat16(v.x), __nv_bfloat16(v.y)}; }
