// Costs between a row and a column, in float64: from a matrix, or from points on the way.
//
// A kernel takes (first, second, d, power): a matrix (n, m) of Entry and nothing; or points x (n, d) and the transpose
// of y, (d, m), whose neighbouring columns lie side by side. METRIC 0: Euclidean, 1: city block, 2: Chebyshev; power 2
// of METRIC 0 is ||x - y||^2 itself.
#pragma once
#include "team.cuh"

template <class T>
struct OfMatrix {
    typedef T Entry;
    const T* matrix;
    long long m;
    struct Row {
        const T* start;
        __device__ __forceinline__ double operator()(int j) const { return (double)start[j]; }
    };
    __device__ __forceinline__ OfMatrix(const T* first, const double*, int, double, int columns)
        : matrix(first), m(columns) {}
    __device__ __forceinline__ Row row(int i) const { return {matrix + i * m}; }
};

template <int METRIC>
struct OfPoints {
    typedef double Entry;
    const double *x, *y;
    int d;
    double power;
    long long m;
    struct Row {
        const double *x, *y;
        int d;
        double power;
        long long m;
        __device__ __forceinline__ double operator()(int j) const {
            double total = 0.0;
            for (int k = 0; k < d; ++k) {
                const double apart = fabs(x[k] - y[k * m + j]);
                if (METRIC == 0) total = total + apart * apart;
                if (METRIC == 1) total = total + apart;
                if (METRIC == 2) total = fmax(total, apart);
            }
            if (METRIC == 0) return power == 2.0 ? total : power == 1.0 ? sqrt(total) : pow(total, 0.5 * power);
            return power == 1.0 ? total : pow(total, power);
        }
    };
    __device__ __forceinline__ OfPoints(const double* first, const double* second, int coordinates, double degree,
                                        int columns)
        : x(first), y(second), d(coordinates), power(degree), m(columns) {}
    __device__ __forceinline__ Row row(int i) const { return {x + (long long)i * d, y, d, power, m}; }
};
