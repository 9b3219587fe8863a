// Kernels as functions of a pair's quantities, as trees of types: value, and slopes in each quantity.
//
// Twin of profiles.py and formulas.py: formulas_cuda.py writes a tree as a C++ type, e.g.
// Tree<Sum<At<0, Decay<1>>, At<1, Polynomial<3>>>, SQUARED, INNER>, and its numbers (rates, powers, constants) as one
// array in the order of the tree. A node finds its own by a compile-time offset; all of them live in registers.
// Exponentials are 2^t with the rate folded into t: its rounding is that of a bandwidth by one ulp.
#pragma once
#include "vecmath.cuh"

enum Geometry { SQUARED, CITYBLOCK, INNER, ANGLE };

namespace formulas {

template <class T>
constexpr T LOG2E = T(1.4426950408889634);
template <class T>
struct Least;  // what a distance is taken as where it is divided by
template <>
struct Least<float> {
    static constexpr float value = 7.52316385e-37f;
};  // 2^-120
template <>
struct Least<double> {
    static constexpr double value = 9.3326361850321888e-302;
};  // 2^-1000

// A sum over rates: `One` gives the term of one of them.
template <class One, int RATES, int MORE = 0>
struct Rates {
    static constexpr int NUMBERS = RATES + MORE;
    template <class T>
    __device__ __forceinline__ static void of(const T* c, T g, T& value, T& slope) {
        value = slope = T(0);
#pragma unroll
        for (int r = 0; r < RATES; r++) {
            T v, s;
            One::of(c[r], c + RATES, g, v, s);
            value += v;
            slope += s;
        }
    }
};

struct DecayOne {
    template <class T>
    __device__ __forceinline__ static void of(T rate, const T*, T g, T& v, T& s) {
        v = exp2_of((-LOG2E<T> * rate) * g);
        s = -rate * v;
    }
};
struct InverseOne {
    template <class T>
    __device__ __forceinline__ static void of(T rate, const T*, T g, T& v, T& s) {
        v = T(1) / (T(1) + rate * g);
        s = -rate * (v * v);
    }
};
struct InverseRootOne {
    template <class T>
    __device__ __forceinline__ static void of(T rate, const T*, T g, T& v, T& s) {
        const T w = T(1) / (T(1) + rate * g);
        v = sqrt_of(w);
        s = T(-0.5) * rate * (v * w);
    }
};
struct PowerOne {
    template <class T>
    __device__ __forceinline__ static void of(T rate, const T* power, T g, T& v, T& s) {
        const T u = rate * g;
        v = exp2_of((-LOG2E<T> * power[0]) * log1p_of(u));
        s = -power[0] * rate * v / (T(1) + u);
    }
};
struct MaternThreeOne {
    template <class T>
    __device__ __forceinline__ static void of(T rate, const T*, T g, T& v, T& s) {
        const T r = rate * sqrt_of(g), e = exp2_of(-LOG2E<T> * r);
        v = (T(1) + r) * e;
        s = T(-0.5) * (rate * rate) * e;
    }
};
struct MaternFiveOne {
    template <class T>
    __device__ __forceinline__ static void of(T rate, const T*, T g, T& v, T& s) {
        const T r = rate * sqrt_of(g), e = exp2_of(-LOG2E<T> * r);
        v = (T(1) + r * (T(1) + T(1.0 / 3) * r)) * e;
        s = T(-1.0 / 6) * (rate * rate) * (T(1) + r) * e;
    }
};

template <int RATES>
using Decay = Rates<DecayOne, RATES>;
template <int RATES>
using Inverse = Rates<InverseOne, RATES>;
template <int RATES>
using InverseRoot = Rates<InverseRootOne, RATES>;
template <int RATES>
using Power = Rates<PowerOne, RATES, 1>;
template <int RATES>
using MaternThree = Rates<MaternThreeOne, RATES>;
template <int RATES>
using MaternFive = Rates<MaternFiveOne, RATES>;

// (gamma g + coef0)^DEGREE
template <int DEGREE>
struct Polynomial {
    static constexpr int NUMBERS = 2;
    template <class T>
    __device__ __forceinline__ static void of(const T* c, T g, T& value, T& slope) {
        const T t = c[0] * g + c[1];
        T low = T(1);
#pragma unroll
        for (int k = 1; k < DEGREE; k++) low *= t;
        value = t * low;
        slope = T(DEGREE) * c[0] * low;
    }
};

// -g
struct Negative {
    static constexpr int NUMBERS = 0;
    template <class T>
    __device__ __forceinline__ static void of(const T*, T g, T& value, T& slope) {
        value = -g;
        slope = T(-1);
    }
};

// -g^half; the slope is stated as 0 at g = 0
struct NegativePower {
    static constexpr int NUMBERS = 1;
    template <class T>
    __device__ __forceinline__ static void of(const T* c, T g, T& value, T& slope) {
        const T safe = g > Least<T>::value ? g : Least<T>::value, v = exp2_of(c[0] * log2_of(safe));
        value = g == T(0) ? T(0) : -v;
        slope = g == T(0) ? T(0) : -c[0] * v / safe;
    }
};

// A leaf at the root of g; the slope is stated as 0 at g = 0
template <class Leaf>
struct Root {
    static constexpr int NUMBERS = Leaf::NUMBERS;
    template <class T>
    __device__ __forceinline__ static void of(const T* c, T g, T& value, T& slope) {
        const T r = sqrt_of(g), safe = g > Least<T>::value ? r : sqrt_of(Least<T>::value);
        Leaf::of(c, r, value, slope);
        slope = g == T(0) ? T(0) : T(0.5) * slope / safe;
    }
};

// ---- trees over the quantities q ----------------------------------------------------------------------------------

template <int PLACE, class Leaf>
struct At {
    static constexpr int NUMBERS = Leaf::NUMBERS;
    template <class T, int Q>
    __device__ __forceinline__ static void of(const T* c, const T (&q)[Q], T& value, T (&slopes)[Q]) {
        T slope;
        Leaf::of(c, q[PLACE], value, slope);
#pragma unroll
        for (int k = 0; k < Q; k++) slopes[k] = k == PLACE ? slope : T(0);
    }
};

struct Constant {
    static constexpr int NUMBERS = 1;
    template <class T, int Q>
    __device__ __forceinline__ static void of(const T* c, const T (&)[Q], T& value, T (&slopes)[Q]) {
        value = c[0];
#pragma unroll
        for (int k = 0; k < Q; k++) slopes[k] = T(0);
    }
};

template <class Left, class Right>
struct Sum {
    static constexpr int NUMBERS = Left::NUMBERS + Right::NUMBERS;
    template <class T, int Q>
    __device__ __forceinline__ static void of(const T* c, const T (&q)[Q], T& value, T (&slopes)[Q]) {
        T w, t[Q];
        Left::of(c, q, value, slopes);
        Right::of(c + Left::NUMBERS, q, w, t);
        value += w;
#pragma unroll
        for (int k = 0; k < Q; k++) slopes[k] += t[k];
    }
};

template <class Left, class Right>
struct Product {
    static constexpr int NUMBERS = Left::NUMBERS + Right::NUMBERS;
    template <class T, int Q>
    __device__ __forceinline__ static void of(const T* c, const T (&q)[Q], T& value, T (&slopes)[Q]) {
        T v, w, t[Q];
        Left::of(c, q, v, slopes);
        Right::of(c + Left::NUMBERS, q, w, t);
        value = v * w;
#pragma unroll
        for (int k = 0; k < Q; k++) slopes[k] = w * slopes[k] + v * t[k];
    }
};

// A kernel: an expression and the geometries that make its quantities.
template <class Expression, int... GEOMETRIES>
struct Tree : Expression {
    static constexpr int Q = sizeof...(GEOMETRIES), NUMBERS = Expression::NUMBERS;
    __host__ __device__ static constexpr int geometry(int place) {
        constexpr int list[Q] = {GEOMETRIES...};
        return list[place];
    }
    __host__ __device__ static constexpr bool has(int wanted) { return ((GEOMETRIES == wanted) || ...); }
    // The tree's numbers, in the float of the arithmetic.
    template <class T>
    struct Numbers {
        T c[NUMBERS ? NUMBERS : 1];
        __device__ __forceinline__ explicit Numbers(const double* from) {
#pragma unroll
            for (int k = 0; k < NUMBERS; k++) c[k] = T(from[k]);
        }
    };
};

}  // namespace formulas
