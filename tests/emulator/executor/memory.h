// Loads and stores with a cache hint, address spaces, asynchronous copies: plain ones here.
#pragma once

#define EMULATOR_LOAD(name)       \
  template <class T>              \
  T name(const T* p) { return *p; }
EMULATOR_LOAD(__ldg)
EMULATOR_LOAD(__ldca)
EMULATOR_LOAD(__ldcg)
EMULATOR_LOAD(__ldcs)
EMULATOR_LOAD(__ldcv)
EMULATOR_LOAD(__ldlu)
#undef EMULATOR_LOAD

#define EMULATOR_STORE(name)                                    \
  template <class T>                                            \
  void name(T* p, typename emulator::same<T>::type v) { *p = v; }
EMULATOR_STORE(__stwb)
EMULATOR_STORE(__stcg)
EMULATOR_STORE(__stcs)
EMULATOR_STORE(__stwt)
#undef EMULATOR_STORE

inline emulator_size __cvta_generic_to_shared(const void* p) { return reinterpret_cast<emulator_size>(p); }
inline emulator_size __cvta_generic_to_global(const void* p) { return reinterpret_cast<emulator_size>(p); }
inline void __builtin_assume(bool) {}

inline void __pipeline_memcpy_async(void* to, const void* from, emulator_size bytes, emulator_size zeros = 0) {
  __builtin_memcpy(to, from, bytes - zeros);
  __builtin_memset(static_cast<char*>(to) + (bytes - zeros), 0, zeros);
}
inline void __pipeline_commit() {}
inline void __pipeline_wait_prior(int) {}

#undef memcpy
#undef memset
extern "C" void* memcpy(void*, const void*, emulator_size) noexcept;
extern "C" void* memset(void*, int, emulator_size) noexcept;
extern "C" int printf(const char*, ...);
