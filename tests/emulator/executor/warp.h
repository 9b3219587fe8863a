// Barriers and the operations of a warp.
#pragma once

namespace emulator {

inline unsigned lane() { return block->rank & 31; }

// Hands `mine` (64 bytes at most) to the lanes of `mask`. element(all, k) is lane k's; valid until this lane's next but
// one warp operation. The twin of a tensor-core instruction builds on it.
template <class T>
struct Gathered {
  const unsigned long long* slots;
  T operator[](unsigned lane) const {
    T value;
    __builtin_memcpy(&value, slots + lane * slot_words, sizeof value);
    return value;
  }
};

template <class T>
Gathered<T> gather(unsigned mask, const T& mine) {
  static_assert(sizeof(T) <= 8 * slot_words, "a lane hands over 64 bytes at most");
  constexpr int words = (sizeof(T) + 7) / 8;
  unsigned long long packed[words];
  packed[words - 1] = 0;
  __builtin_memcpy(packed, &mine, sizeof mine);
  return {emulator_gather(mask, packed, words)};
}

// Reading a lane outside the width's segment gives the caller's own value, as CUDA defines; reading one outside the
// mask is undefined there and an error here.
template <class T>
T shuffle(unsigned mask, T mine, unsigned source, bool inside) {
  static_assert(sizeof(T) <= 8, "a shuffle moves 8 bytes at most");
  const auto all = gather(mask, mine);
  if (!inside) return mine;
  emulator_require_lane(mask, source);
  return all[source];
}

template <class T, class F>
T reduce(unsigned mask, T mine, F merge) {
  const auto all = gather(mask, mine);
  bool first = true;
  T total = mine;
  for (unsigned k = 0; k < 32; k++)
    if (mask >> k & 1) {
      total = first ? all[k] : merge(total, all[k]);
      first = false;
    }
  return total;
}

}  // namespace emulator

inline void __syncthreads() { emulator_syncthreads(); }
inline int __syncthreads_count(int p) { return emulator_syncthreads_count(p); }
inline int __syncthreads_or(int p) { return emulator_syncthreads_count(p) > 0; }
inline int __syncthreads_and(int p) { return emulator_syncthreads_count(p) == static_cast<int>(emulator::block->threads); }
inline void __syncwarp(unsigned mask = 0xffffffffu) { emulator_syncwarp(mask); }

template <class T>
T __shfl_sync(unsigned mask, T v, int source, int width = 32) {
  const unsigned l = emulator::lane();
  return emulator::shuffle(mask, v, (l & ~(width - 1u)) | (source & (width - 1u)), true);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T v, int flip, int width = 32) {
  const unsigned l = emulator::lane(), source = l ^ flip;
  return emulator::shuffle(mask, v, source, source < (l & ~(width - 1u)) + width);
}
template <class T>
T __shfl_down_sync(unsigned mask, T v, unsigned delta, int width = 32) {
  const unsigned l = emulator::lane();
  return emulator::shuffle(mask, v, l + delta, (l & (width - 1u)) + delta < unsigned(width));
}
template <class T>
T __shfl_up_sync(unsigned mask, T v, unsigned delta, int width = 32) {
  const unsigned l = emulator::lane();
  return emulator::shuffle(mask, v, l - delta, (l & (width - 1u)) >= delta);
}

inline unsigned __ballot_sync(unsigned mask, int p) { return emulator_vote(mask, p); }
inline int __any_sync(unsigned mask, int p) { return emulator_vote(mask, p) != 0; }
inline int __all_sync(unsigned mask, int p) { return emulator_vote(mask, !p) == 0; }
template <class T>
unsigned __match_any_sync(unsigned mask, T v) {
  unsigned long long word = 0;
  __builtin_memcpy(&word, &v, sizeof v);
  return emulator_match(mask, word);
}
template <class T>
unsigned __match_all_sync(unsigned mask, T v, int* all) {
  const unsigned equal = __match_any_sync(mask, v), present = emulator_vote(mask, 1);
  *all = equal == present;
  return *all ? present : 0;
}

#define EMULATOR_REDUCE(T)                                                                                            \
  inline T __reduce_add_sync(unsigned mask, T v) { return emulator::reduce(mask, v, [](T a, T b) { return T(a + b); }); } \
  inline T __reduce_min_sync(unsigned mask, T v) { return emulator::reduce(mask, v, [](T a, T b) { return a < b ? a : b; }); } \
  inline T __reduce_max_sync(unsigned mask, T v) { return emulator::reduce(mask, v, [](T a, T b) { return a > b ? a : b; }); }
EMULATOR_REDUCE(int)
EMULATOR_REDUCE(unsigned)
#undef EMULATOR_REDUCE
inline unsigned __reduce_and_sync(unsigned mask, unsigned v) {
  return emulator::reduce(mask, v, [](unsigned a, unsigned b) { return a & b; });
}
inline unsigned __reduce_or_sync(unsigned mask, unsigned v) {
  return emulator::reduce(mask, v, [](unsigned a, unsigned b) { return a | b; });
}
inline unsigned __reduce_xor_sync(unsigned mask, unsigned v) {
  return emulator::reduce(mask, v, [](unsigned a, unsigned b) { return a ^ b; });
}

inline void __threadfence() { emulator_fence(); }
inline void __threadfence_block() { emulator_fence(); }
inline void __threadfence_system() { emulator_fence(); }
[[noreturn]] inline void __trap() { emulator_fail("__trap"); }
inline void __nanosleep(unsigned) {}
inline long long clock64() { return static_cast<long long>(__builtin_ia32_rdtsc()); }
inline void emulator_assert(bool holds, const char* text) {
  if (!holds) emulator_fail(text);
}
#define assert(...) emulator_assert(static_cast<bool>(__VA_ARGS__), "assertion failed: " #__VA_ARGS__)
