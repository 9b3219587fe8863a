// CUDA C++ for g++: put before a kernel's text. Keywords of the language, its built-in variables, and the entry points
// that the loader calls.
#pragma once
#include "machine.h"

#define OTDIST_EMULATED 1
#define __CUDA_ARCH__ 900
#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __shared__ static thread_local
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
#define __restrict__ __restrict

namespace emulator {

// The block that this operating-system thread runs.
static thread_local Block* block;

template <class T>
struct plain {
  using type = T;
};
template <class T>
struct plain<const T> {
  using type = T;
};

template <class To, class From>
inline To bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "a bit cast between types of one size");
  To to;
  __builtin_memcpy(&to, &from, sizeof to);
  return to;
}

template <class T>
T* dynamic_shared() {
  return static_cast<T*>(block->dynamic_shared);
}

// The types of a kernel's parameters, as g++ prints them; the loader reads them there.
template <class... A>
const char* signature(void (*)(A...)) {
  return __PRETTY_FUNCTION__;
}

template <unsigned... I>
struct Indices {};

template <unsigned N, unsigned... I>
struct Count : Count<N - 1, N - 1, I...> {};
template <unsigned... I>
struct Count<0, I...> {
  using type = Indices<I...>;
};

template <class... A, unsigned... I>
void call(void (*kernel)(A...), void** arguments, Indices<I...>) {
  kernel(*static_cast<typename plain<A>::type*>(arguments[I])...);
}

template <class... A>
void call(void (*kernel)(A...), void** arguments) {
  call(kernel, arguments, typename Count<sizeof...(A)>::type{});
}

}  // namespace emulator

#define threadIdx (emulator::block->thread)
#define blockIdx (emulator::block->index)
#define blockDim (emulator::block->shape)
#define gridDim (emulator::block->grid)
#define warpSize 32

extern "C" void emulator_attach(emulator::Block* block) { emulator::block = block; }
// The address of a thread-local variable: shared memory is the segment that it lies in.
extern "C" const void* emulator_static_shared() { return &emulator::block; }

#define EMULATOR_EXPORT(name, ...)                                                                     \
  extern "C" void emulator_run_##name(void** arguments) { emulator::call(__VA_ARGS__, arguments); }     \
  extern "C" const char* emulator_signature_##name() { return emulator::signature(__VA_ARGS__); }

#include "vectors.h"
#include "mathematics.h"
#include "warp.h"
#include "atomics.h"
#include "memory.h"
#ifdef OTDIST_MUTANTS
#include "mutants.h"
#endif
