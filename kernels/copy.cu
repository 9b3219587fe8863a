// Copies and casts between arrays of any strides, and constants: what the door needs before and after a kernel.
//
// Floor: one read and one write of each element. Rows that are contiguous move at it; a transposed array reads a
// sector of 32 bytes for each element, which the L2 cache gives back to the neighbouring rows.
#include "vecmath.cuh"

// Places are counted innermost first: n* are sizes, s* strides in elements.
template <class In, class Out>
__global__ void __launch_bounds__(256) copy(const In* __restrict__ x, Out* __restrict__ y, long long size, int dims,
                                            long long n0, long long n1, long long n2, long long n3, long long n4,
                                            long long n5, long long n6, long long n7, long long s0, long long s1,
                                            long long s2, long long s3, long long s4, long long s5, long long s6,
                                            long long s7) {
    const long long n[8] = {n0, n1, n2, n3, n4, n5, n6, n7}, s[8] = {s0, s1, s2, s3, s4, s5, s6, s7};
    const long long step = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < size; i += step) {
        long long rest = i, at = 0;
#pragma unroll
        for (int k = 0; k < 8; k++) {
            if (k < dims) {
                const long long quotient = k + 1 < dims ? rest / n[k] : 0;
                at += (rest - quotient * n[k]) * s[k];
                rest = quotient;
            }
        }
        y[i] = cast<Out>(x[at]);
    }
}

template <class T>
__global__ void __launch_bounds__(256) fill(T* __restrict__ y, double value, long long size) {
    const long long step = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < size; i += step) y[i] = cast<T>(value);
}
