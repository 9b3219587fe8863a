// Mutants of a kernel, all in one text and one switched on at a time: a barrier left out, an integer bound shifted by
// one. The mutation tool writes `a <emulator::compare<7, 'L'> > b` for `a < b`, which parses as (a < tag) > b.
#pragma once

// The scheduler's: the number of the mutant that lives (none: -1), and which of them a run has come past.
extern "C" int emulator_mutant;
extern "C" unsigned char emulator_reached[];

namespace emulator {

constexpr unsigned char as_barrier = 1, as_bound = 2, as_value = 4;

inline bool lives(int mutant, unsigned char kind) {
  emulator_reached[mutant] |= kind;
  return emulator_mutant == mutant;
}

template <int mutant, char operation>
struct Comparison {};
template <int mutant, char operation>
constexpr Comparison<mutant, operation> compare{};

template <class A, int mutant, char operation>
struct Left {
  A a;
};

template <class A, int mutant, char operation>
constexpr Left<A, mutant, operation> operator<(A a, Comparison<mutant, operation>) {
  return {a};
}

template <class T>
struct integral {
  static constexpr bool value = false;
};
#define EMULATOR_INTEGRAL(T)              \
  template <>                             \
  struct integral<T> {                    \
    static constexpr bool value = true;   \
  };
EMULATOR_INTEGRAL(char)
EMULATOR_INTEGRAL(signed char)
EMULATOR_INTEGRAL(unsigned char)
EMULATOR_INTEGRAL(short)
EMULATOR_INTEGRAL(unsigned short)
EMULATOR_INTEGRAL(int)
EMULATOR_INTEGRAL(unsigned)
EMULATOR_INTEGRAL(long)
EMULATOR_INTEGRAL(unsigned long)
EMULATOR_INTEGRAL(long long)
EMULATOR_INTEGRAL(unsigned long long)
#undef EMULATOR_INTEGRAL

// L is <, M is <=, G is >, H is >=; the mutant of an even number lets one more integer through, that of the odd number
// after it one less. Comparisons of values stay as they are.
template <class A, int mutant, char operation, class B>
constexpr bool operator>(Left<A, mutant, operation> left, B b) {
  const A& a = left.a;
  if (!__builtin_is_constant_evaluated()) {
    if constexpr (integral<A>::value && integral<B>::value) {
      const bool more = lives(mutant, as_bound), less = lives(mutant + 1, as_bound);
      if constexpr (operation == 'L') {
        if (more) return a <= b;
        if (less) return a < b && a + 1 != b;
      } else if constexpr (operation == 'M') {
        if (more) return a <= b || a == b + 1;
        if (less) return a < b;
      } else if constexpr (operation == 'G') {
        if (more) return a >= b;
        if (less) return a > b && a != b + 1;
      } else {
        if (more) return a >= b || a + 1 == b;
        if (less) return a > b;
      }
    } else {
      lives(mutant, as_value);
      lives(mutant + 1, as_value);
    }
  }
  if constexpr (operation == 'L') return a < b;
  if constexpr (operation == 'M') return a <= b;
  if constexpr (operation == 'G') return a > b;
  return a >= b;
}

}  // namespace emulator
