// Anderson's extrapolation (1965) of g -> g + r, in the metric of the masses: of the last steps (dg_s, dr_s) the
// combination w with the least |r - sum_s w_s dr_s| is taken, and g + r - sum_s w_s (dg_s + dr_s) is tried next.
#pragma once
#include "vecmath.cuh"

// A step that lowers the dual and leaves an error this much above the least: it is taken back, and the plain one made.
constexpr double WORSE = 1.5;
constexpr double RIDGE = 1e-13;

// w of the Gram matrix of the dr_s (DEPTH, DEPTH) and their products with r. One thread; `factor` (DEPTH, DEPTH) is scratch.
template <int DEPTH>
__device__ inline void mixing_weights(const double* gram, const double* with, int count, double* factor, double* w) {
    // Cholesky's factor of the matrix of cosines; a step that adds no direction gets no weight
    for (int s = 0; s < count; s++) {
        const double size = gram[s * DEPTH + s];
        const double over = size > 0.0 && size < INFINITY ? 1.0 / sqrt(size) : 0.0;
        double pivot = over > 0.0 ? 1.0 + RIDGE * count : 0.0, right = with[s] * over;
        for (int p = 0; p < s; p++) {
            const double other = gram[p * DEPTH + p];
            double x = other > 0.0 && other < INFINITY ? gram[s * DEPTH + p] * over / sqrt(other) : 0.0;
            for (int q = 0; q < p; q++) x -= factor[s * DEPTH + q] * factor[p * DEPTH + q];
            x = factor[p * DEPTH + p] > 0.0 ? x / factor[p * DEPTH + p] : 0.0;
            factor[s * DEPTH + p] = x;
            pivot -= x * x;
            right -= x * w[p];
        }
        pivot = pivot > 1e-15 ? sqrt(pivot) : 0.0;
        factor[s * DEPTH + s] = pivot;
        w[s] = pivot > 0.0 ? right / pivot : 0.0;
    }
    for (int s = count - 1; s >= 0; s--) {
        double x = w[s];
        for (int p = s + 1; p < count; p++) x -= factor[p * DEPTH + s] * w[p];
        w[s] = factor[s * DEPTH + s] > 0.0 ? x / factor[s * DEPTH + s] : 0.0;
    }
    for (int s = 0; s < count; s++) {
        const double size = gram[s * DEPTH + s];
        w[s] = size > 0.0 && size < INFINITY ? w[s] / sqrt(size) : 0.0;
    }
}
