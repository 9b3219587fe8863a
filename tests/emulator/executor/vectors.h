// float2 ... ulonglong4 and make_float2 ... of CUDA, with its alignments.
#pragma once

#define EMULATOR_VECTORS(T, name)                                                                    \
  struct name##1 { T x; };                                                                           \
  struct __attribute__((aligned(2 * sizeof(T)))) name##2 { T x, y; };                                \
  struct name##3 { T x, y, z; };                                                                     \
  struct __attribute__((aligned(4 * sizeof(T) < 16 ? 4 * sizeof(T) : 16))) name##4 { T x, y, z, w; }; \
  inline name##1 make_##name##1(T x) { return {x}; }                                                 \
  inline name##2 make_##name##2(T x, T y) { return {x, y}; }                                         \
  inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }                                 \
  inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }

#define uint3 emulator_uint3  // machine.h has it already, as the type of threadIdx
EMULATOR_VECTORS(signed char, char)
EMULATOR_VECTORS(unsigned char, uchar)
EMULATOR_VECTORS(short, short)
EMULATOR_VECTORS(unsigned short, ushort)
EMULATOR_VECTORS(int, int)
EMULATOR_VECTORS(unsigned int, uint)
EMULATOR_VECTORS(long long, longlong)
EMULATOR_VECTORS(unsigned long long, ulonglong)
EMULATOR_VECTORS(float, float)
EMULATOR_VECTORS(double, double)
#undef uint3
#undef EMULATOR_VECTORS
