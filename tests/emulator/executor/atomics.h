// Atomic operations on 16, 32 and 64 bits.
#pragma once

namespace emulator {

template <class T>
struct same {
  using type = T;
};

template <unsigned bytes>
struct word;
template <>
struct word<2> {
  using type = unsigned short;
};
template <>
struct word<4> {
  using type = unsigned;
};
template <>
struct word<8> {
  using type = unsigned long long;
};

// Compares words, not values: a NaN must equal itself here.
template <class T, class F>
T update(T* address, F next) {
  using Word = typename word<sizeof(T)>::type;
  Word* at = reinterpret_cast<Word*>(address);
  Word seen = __atomic_load_n(at, __ATOMIC_RELAXED), wanted;
  do {
    wanted = bits<Word>(static_cast<T>(next(bits<T>(seen))));
  } while (!__atomic_compare_exchange_n(at, &seen, wanted, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return bits<T>(seen);
}

}  // namespace emulator

#define EMULATOR_ATOMIC(name, expression)                                            \
  template <class T>                                                                 \
  T name(T* p, typename emulator::same<T>::type v) {                                 \
    return emulator::update(p, [=](T old) { return static_cast<T>(expression); });   \
  }                                                                                  \
  template <class T>                                                                 \
  T name##_block(T* p, typename emulator::same<T>::type v) { return name(p, v); }
EMULATOR_ATOMIC(atomicAdd, old + v)
EMULATOR_ATOMIC(atomicSub, old - v)
EMULATOR_ATOMIC(atomicMin, v < old ? v : old)
EMULATOR_ATOMIC(atomicMax, v > old ? v : old)
EMULATOR_ATOMIC(atomicAnd, old & v)
EMULATOR_ATOMIC(atomicOr, old | v)
EMULATOR_ATOMIC(atomicXor, old ^ v)
EMULATOR_ATOMIC(atomicExch, ((void)old, v))
EMULATOR_ATOMIC(atomicInc, old >= v ? 0 : old + 1)
EMULATOR_ATOMIC(atomicDec, old == 0 || old > v ? v : old - 1)
#undef EMULATOR_ATOMIC

template <class T>
T atomicCAS(T* p, typename emulator::same<T>::type expected, typename emulator::same<T>::type v) {
  using Word = typename emulator::word<sizeof(T)>::type;
  return emulator::update(
      p, [=](T old) { return emulator::bits<Word>(old) == emulator::bits<Word>(expected) ? v : old; });
}
