// What an engine wants to know of a row: its part of every pair's sum, and below which sum not to trust it.
//
// Twins of the builders in ``engines.py``. The relative error of a trusted value is a few eps over the ratio of the
// limit to what was cancelled; rows whose entries an engine cannot bear have an infinite limit.
#pragma once
#include "pairs.cuh"

// What is known of a row: total + rest is its sum to twice the working precision; least of the positive entries.
struct RowFacts {
    double total, rest, least, greatest;
};

// What is known of its side: whether it comes first in D(p, q), whether the other side has empty bins; the engine's
// power of two and parameters; the part of what is cancelled below which a product is not trusted.
struct Side {
    bool first, other_zeros, single, literal;
    double bins, c, a, b, cut;

    // -inf for ordinary rows, `floor` where entries lie below `low`, inf where they lie above `high`
    __device__ __forceinline__ double limit(const RowFacts& x, double low, double high, double floor) const {
        if (!(x.greatest <= high)) return INFINITY;
        return x.least < low ? floor : -(double)INFINITY;
    }
    // Rows whose small entries could hide an INFINITE factor of the other side are out.
    __device__ __forceinline__ double product_limit(const RowFacts& x, double low, double high, bool hides) const {
        return hides && x.least < low ? (double)INFINITY : limit(x, low, high, bins * exp2(-800.0));
    }
    // Zero, or ordinary enough that no product of differences leaves the range of the arithmetic.
    __device__ __forceinline__ double tile_limit(const RowFacts& x) const {
        return single ? limit(x, exp2(-60.0), exp2(60.0), bins * exp2(-100.0))
                      : limit(x, exp2(-400.0), exp2(400.0), bins * exp2(-800.0));
    }
    __device__ __forceinline__ Fact drift(double limit, double h, const RowFacts& x) const {
        return first ? Fact{limit, h, -x.total, -x.rest, 0.0} : Fact{limit, h, x.total, x.rest, 0.0};
    }
    // `order` of the affinity: its logarithm is compared with order log S_p + (1 - order) log S_q
    __device__ __forceinline__ Fact affine(double limit, double h, const RowFacts& x, double order) const {
        return Fact{limit, h, 0.0, 0.0, (first ? order : 1.0 - order) * log(fmax(x.total, 4.9406564584124654e-324))};
    }
};

// An engine says whether it wants H = sum x log(c x) and A = sum |x log(c x)|, and of which rows.
struct Engine {
    static __device__ __forceinline__ bool entropies(const Side&) { return false; }
};

struct TileEngine : Engine {
    static __device__ __forceinline__ Fact judge(const Side& side, const RowFacts& x, double, double) {
        return Fact{side.tile_limit(x), 0.0, 0.0, 0.0, 0.0};
    }
};

// Squares of ordinary differences underflow in float32.
struct SquareEngine : Engine {
    static __device__ __forceinline__ Fact judge(const Side& side, const RowFacts& x, double, double) {
        const double floor = side.single ? side.bins * exp2(-100.0) : -(double)INFINITY;
        return Fact{fmax(side.tile_limit(x), floor), 0.0, 0.0, 0.0, 0.0};
    }
};

// JS in float64: entropies of the rows and of their sums.
struct EntropyEngine : Engine {
    static __device__ __forceinline__ bool entropies(const Side&) { return true; }
    static __device__ __forceinline__ Fact judge(const Side& side, const RowFacts& x, double H, double A) {
        return Fact{fmax(side.tile_limit(x), fmax(0.01 * A, 1e-3 * x.total)), 0.5 * H, 0.0, 0.0, 0.0};
    }
};

struct RootEngine : Engine {
    static __device__ __forceinline__ Fact judge(const Side& side, const RowFacts& x, double, double) {
        return side.affine(fmax(side.tile_limit(x), 2.0 * side.cut * x.total), 0.5 * x.total, x, 0.5);
    }
};

struct KLEngine : Engine {
    static __device__ __forceinline__ bool entropies(const Side& side) { return side.first; }
    static __device__ __forceinline__ Fact judge(const Side& side, const RowFacts& x, double H, double A) {
        if (!side.first) return side.drift(side.limit(x, 0.0, exp2(300.0), 0.0), 0.0, x);
        const double limit = side.product_limit(x, exp2(-300.0), exp2(300.0), side.other_zeros);
        return side.drift(fmax(limit, side.cut * fmax(A, 0.05 * x.total)), H, x);
    }
};

struct JeffreysEngine : Engine {
    static __device__ __forceinline__ bool entropies(const Side&) { return true; }
    static __device__ __forceinline__ Fact judge(const Side& side, const RowFacts& x, double H, double A) {
        const double limit = side.product_limit(x, exp2(-300.0), exp2(300.0), side.other_zeros);
        return Fact{fmax(limit, 2.0 * side.cut * fmax(A, 0.05 * x.total)), H, 0.0, 0.0, 0.0};
    }
};

struct CrossEntropyEngine : Engine {
    static __device__ __forceinline__ Fact judge(const Side& side, const RowFacts& x, double, double) {
        const double limit = side.first ? side.product_limit(x, exp2(-300.0), exp2(300.0), side.other_zeros)
                                        : side.limit(x, 0.0, exp2(300.0), 0.0);
        return Fact{limit, 0.0, 0.0, 0.0, 0.0};
    }
};

struct PearsonEngine : Engine {
    static __device__ __forceinline__ Fact judge(const Side& side, const RowFacts& x, double, double) {
        const double limit = side.product_limit(x, exp2(-150.0), exp2(75.0), !side.first || side.other_zeros);
        const double cut = (side.first ? 4.0 : 2.0) * side.cut;
        return Fact{fmax(limit, cut * x.total), (side.first ? -2.0 : 1.0) * x.total, 0.0, 0.0, 0.0};
    }
};

// p^a q^(1-a): a >= 1/2, b = 1 - a.
struct AlphaEngine : Engine {
    static __device__ __forceinline__ Fact judge(const Side& side, const RowFacts& x, double, double) {
        const double a = side.a, b = side.b, c = side.c;
        double limit;
        if (side.first) {
            limit = side.product_limit(x, exp2(-300.0 / a) / c, exp2(fmin(150.0 / a, 300.0)) / c,
                                       side.literal || (a > 1.0 && side.other_zeros));
        } else if (a > 1.0) {
            limit = side.product_limit(x, exp2(fmax(-150.0 / (a - 1.0), -300.0)) / c,
                                       exp2(fmin(300.0 / (a - 1.0), 300.0)) / c, true);
        } else {
            limit = side.product_limit(x, 0.0, exp2(fmin(150.0 / b, 300.0)) / c, false);
        }
        if (!side.literal) limit = fmax(limit, 4.0 * side.cut * x.total / (side.first ? fabs(b) : a));
        return side.affine(limit, x.total / (side.first ? b : a), x, a);
    }
};

// No sum at all: every pair is settled.
struct NoEngine : Engine {
    static __device__ __forceinline__ Fact judge(const Side&, const RowFacts&, double, double) {
        return Fact{INFINITY, 0.0, 0.0, 0.0, 0.0};
    }
};

// ---------------------------------------------------------------------------------------------------- tables
// Functions of one entry whose products are summed; p: their parameter.

struct Plain {
    static __device__ __forceinline__ double of(double x, double, double) { return x; }
};

// -min(log(c x), p)
struct MinusLog {
    static __device__ __forceinline__ double of(double x, double c, double p) {
        return x == 0.0 ? INFINITE : -fmin(log(c * x), p);
    }
};

// p sqrt x
struct Root {
    static __device__ __forceinline__ double of(double x, double, double p) { return p * sqrt(x); }
};

// (c x)^p
struct Power {
    static __device__ __forceinline__ double of(double x, double c, double p) {
        return x == 0.0 ? (p < 0.0 ? INFINITE : 0.0) : pow(c * x, p);
    }
};

// -(c x)^b/(c a b) with p = b = 1 - a: times (c y)^a, what the alpha-divergence has of a bin of two rows
struct PowerRest {
    static __device__ __forceinline__ double of(double x, double c, double p) {
        const double scale = -1.0 / (c * (1.0 - p) * p);
        return x == 0.0 ? (p < 0.0 ? INFINITE : 0.0) : scale * pow(c * x, p);
    }
};

struct Square {
    static __device__ __forceinline__ double of(double x, double, double) { return x * x; }
};

struct Reciprocal {
    static __device__ __forceinline__ double of(double x, double, double) { return x == 0.0 ? INFINITE : 1.0 / x; }
};
