// Costs |x - y|^p between points on the line, and what is differentiated of them.
//
// Coordinates are multiplied by `unit`, a power of two, and gaps by `scale`, another, or one over the distance: so that
// no power of them leaves the range of float64.
#pragma once
#include "levels.cuh"

struct Gap {
    double unit, scale;
    __device__ __forceinline__ double operator()(double x, double y) const { return (x * unit - y * unit) * scale; }
};

// |gap|^p: KIND 1, 2: that power; 3: any.
template <int KIND>
__device__ __forceinline__ double raised(double gap, double p) {
    if (KIND == 1) return fabs(gap);
    if (KIND == 2) return gap * gap;
    return pow(fabs(gap), p);
}

// The derivative of the cost by the gap, divided by p; 0 at 0.
template <int KIND>
__device__ __forceinline__ double pull(double gap, double p) {
    if (KIND == 1) return (double)(gap > 0.0) - (double)(gap < 0.0);
    if (KIND == 2) return gap;
    return gap == 0.0 ? 0.0 : copysign(pow(fabs(gap), p - 1.0), gap);
}

// Cost at the gap d less that at the gap back; step = d - back.
template <int KIND>
__device__ __forceinline__ double rise(double d, double back, double step, double p) {
    return KIND == 2 ? step * (d + back) : raised<KIND>(d, p) - raised<KIND>(back, p);
}

// How many levels lie before `level`; those equal to it too, if `through`.
template <class Levels>
__device__ __forceinline__ int levels_before(const Levels& levels, int count, Level level, bool through) {
    int low = 0, high = count;
    while (low < high) {
        const int middle = (low + high) / 2;
        const Level here = levels(middle);
        if (before(here, level) || (through && !before(level, here)))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}
