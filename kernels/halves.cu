// Clouds made ready for ``tensor.cuh``: centred, scaled by a power of two, split into two tables of halves.
//
//   z = (x - centre) 2^e = high + low, |z| < 2^12: coordinates down to 2^-37 of the largest keep 22 bits, and what is
//   smaller is off by no more than 2^-59 of the largest. Products of the tables are 2^(2e) times those of the points.
//
// Floor: three reads of the points and one write of 4 bytes for each coordinate; all four passes are bound by memory.
#include "tensor.cuh"

// partial[b, c] = sum of the finite entries of column c over the rows of block b, `rows` of them.
template <class T>
__global__ void __launch_bounds__(256)
    column_sums(const T* __restrict__ x, long long n, int d, int rows, double* __restrict__ partial) {
    const long long first = (long long)blockIdx.x * rows, last = first + rows < n ? first + rows : n;
    for (int c = blockIdx.y * 256 + threadIdx.x; c < d; c += gridDim.y * 256) {
        double sum = 0.0;
        for (long long i = first; i < last; i++) {
            const double z = (double)widen(x[i * d + c]);
            if (fabs(z) < INFINITY) sum += z;  // one bad point is not to spoil the others
        }
        partial[(long long)blockIdx.x * d + c] = sum;
    }
}

// centre[c] = sum over blocks of partial[:, c], times `factor`.
__global__ void __launch_bounds__(256)
    column_means(const double* __restrict__ partial, int blocks, int d, double factor, double* __restrict__ centre) {
    const int c = blockIdx.x * 256 + threadIdx.x;
    if (c >= d) return;
    double sum = 0.0;
    for (int b = 0; b < blocks; b++) sum += partial[(long long)b * d + c];
    centre[c] = sum * factor;
}

// reach = the largest |x - centre| of finite entries, as bits of a float32 that starts at 0 (or that of another cloud).
template <class T>
__global__ void __launch_bounds__(256)
    largest_deviation(const T* __restrict__ x, const double* __restrict__ centre, long long n, int d,
                      unsigned int* __restrict__ reach) {
    float most = 0.0f;
    const long long size = n * d, step = (long long)gridDim.x * 256;
    for (long long at = (long long)blockIdx.x * 256 + threadIdx.x; at < size; at += step) {
        const float z = (float)fabs((double)widen(x[at]) - centre[at % d]);
        if (z < INFINITY && z > most) most = z;
    }
    most = warp_max(most);
    if (threadIdx.x % WARP == 0 && most > 0.0f) atomicMax(reach, __float_as_uint(most));
}

// high + low = (x - centre) 2^e, rows of `width` halves, zeros beyond d; squares[i] = |x_i - centre|^2 of what the
// tables hold; scales = {2^e, 2^(-2e)}. One warp for each row.
template <class T, class Square>
__global__ void __launch_bounds__(256)
    split_points(const T* __restrict__ x, const double* __restrict__ centre, const unsigned int* __restrict__ reach,
                 int n, int d, int width, float16* __restrict__ high, float16* __restrict__ low,
                 Square* __restrict__ squares, float* __restrict__ scales) {
    const int i = blockIdx.x * 8 + threadIdx.x / WARP, lane = threadIdx.x % WARP;
    // reach < 2^(power + 1), and both scales stay ordinary numbers
    int power = (int)(*reach >> 23) - 127;
    power = power < -50 ? -50 : power > 60 ? 60 : power;
    const float up = __uint_as_float((unsigned)(127 + 11 - power) << 23);
    const float down = __uint_as_float((unsigned)(127 - 2 * (11 - power)) << 23);
    if (i == 0 && lane == 0) {
        scales[0] = up;
        scales[1] = down;
    }
    if (i >= n) return;
    double square = 0.0;
    for (int k = lane; k < width; k += WARP) {
        const double z = k < d ? ((double)widen(x[(long long)i * d + k]) - centre[k]) * (double)up : 0.0;
        const float16 h = to_half((float)z), l = to_half((float)(z - (double)widen(h)));
        high[(long long)i * width + k] = h;
        low[(long long)i * width + k] = l;
        const double both = (double)widen(h) + (double)widen(l);
        square += both * both;
    }
    square = warp_sum(square);
    if (lane == 0) squares[i] = (Square)(square * (double)down);
}
