// What comes before and after the sums of gram.cu, all on the device, so that a call never waits: points as padded
// rows, weights made exact, the factors of an estimate, sums merged in a fixed order, the estimate, its gradients.
//
// Floor: one read of the points and one write of their copies; the rest is of the size of the answer. Bad values set
// bits in the status word of their argument (`raise_flag`): the host reads it once, after everything has been launched.
#include "gram_tiles.cuh"

enum Trouble {
    NOT_FINITE = 1,
    ZERO_VECTOR = 2,
    BAD_WEIGHT = 4,
    BAD_SUM = 8,
    ONE_POINT = 16,
    EXTREME = 32,
    OVERFLOW = 64,
    FAR = 128,
    NO_ROOT = 256
};

// The places of `factors`, 8 numbers for each problem: what pulls of pairs of x, of x and y, of y are times (an
// unordered pair of one sample counts twice), what diagonals are, Σ a² + Σ b², and 1 − Σ a², 1 − Σ b² where unequal
// weights are.
enum Factor { OF_XX, OF_XY, OF_YY, END_X, END_Y, SQUARES, KEEP_X, KEEP_Y };

// ---- before ---------------------------------------------------------------------------------------------------------

// centre[p][k]: mean of at most 1024 points of [x; y], evenly spaced. Any point near will do: it only keeps digits.
template <class S>
__global__ void __launch_bounds__(256) gram_centre(const S* x, const S* y, double* centre, int n, int m, int d) {
    __shared__ double room[32];
    const long long p = blockIdx.x / d, k = blockIdx.x % d, N = (long long)n + m;
    const int count = (int)min(N, 1024ll);
    double mine = 0.0;
    for (int s = threadIdx.x; s < count; s += blockDim.x) {
        const long long i = s * N / count;
        mine += i < n ? (double)widen(x[(p * n + i) * d + k]) : (double)widen(y[(p * m + i - n) * d + k]);
    }
    const double total = block_sum(mine, room);
    if (threadIdx.x == 0) centre[p * d + k] = total / count;
}

// Points x (problems, n, d) -> rows `from` on of plain, shifted, unit (problems, N, width); the last two may be null.
// `extent` is the greatest difference of a coordinate from that of the point `origin`: bits of a float64 >= 0, of which
// the maximum is that of integers. One warp per point.
template <class S, class T>
__global__ void __launch_bounds__(256)
    gram_points(const S* x, const S* origin, const double* centre, T* plain, T* shifted, T* unit,
                unsigned long long* extent, int* flags, int word, int n, int d, int N, int from, int width,
                long long points) {
    const long long at = (long long)blockIdx.x * 8 + threadIdx.x / WARP;
    if (at >= points) return;
    const long long p = at / n, to = (p * N + from + at % n) * width;
    const int lane = threadIdx.x % WARP;
    x += at * d;
    double apart = 0.0, size = 0.0;
    bool bad = false;
    for (int k = lane; k < width; k += WARP) {
        const double v = k < d ? (double)widen(x[k]) : 0.0;
        bad = bad || !(fabs(v) <= 1.7976931348623157e308);
        if (k < d) apart = fmax(apart, fabs(v - (double)widen(origin[k])));
        size = fmax(size, fabs(v));
        plain[to + k] = T(v);
        if (shifted) shifted[to + k] = k < d ? T(v - centre[p * d + k]) : T(0);
    }
    bad = __any_sync(ALL, bad);
    apart = warp_max(apart);
    if (unit) {
        size = warp_max(size);
        // by a power of two, exactly; an error of the length is that of a common factor, which no angle sees
        const long long exponent = __double_as_longlong(size) >> 52;
        const double scale = __longlong_as_double(max(1ll, 2046ll - exponent) << 52);
        double square = 0.0;
        for (int k = lane; k < d; k += WARP) {
            const double v = (double)widen(x[k]) * scale;
            square += v * v;
        }
        const double inverse = 1.0 / sqrt(warp_sum(square));
        for (int k = lane; k < width; k += WARP) unit[to + k] = k < d ? T((double)widen(x[k]) * scale * inverse) : T(0);
    }
    if (lane) return;
    if (bad)
        raise_flag(flags + word, NOT_FINITE);
    else if (unit && size == 0.0)
        raise_flag(flags + word, ZERO_VECTOR);
    else
        atomicMax(extent, (unsigned long long)__double_as_longlong(apart));
}

// Weights (problems, n), divided by their sum -> pooled[p][from + i]; squares[2 p + side] = Σ w². One block per
// problem.
template <class S>
__global__ void __launch_bounds__(256)
    gram_weights(const S* given, double* pooled, double* squares, int* flags, int word, int side, int n, int N,
                 int from, double tolerance, double sign) {
    __shared__ double room[32];
    const long long p = blockIdx.x;
    bool bad = false;
    double total = 0.0, square = 0.0;
    if (given) given += p * n;
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        const double w = given ? (double)widen(given[i]) : 1.0;
        bad = bad || !(w >= 0.0 && w <= 1.7976931348623157e308);
        total += w;
    }
    total = block_sum(total, room);
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        const double w = (given ? (double)widen(given[i]) : 1.0) / total;
        pooled[p * N + from + i] = sign * w;
        square += w * w;
    }
    square = block_sum(square, room);
    if (bad) raise_flag(flags + word, BAD_WEIGHT);
    if (threadIdx.x) return;
    if (given && !(fabs(total - 1.0) <= tolerance)) raise_flag(flags + word, BAD_SUM);
    if (squares) squares[2 * p + side] = square;
}

// factors[p][8] of the estimate, of given weights if `squares` is not null; which problems are not for float32, if
// `again` is not null. One thread per problem.
__global__ void __launch_bounds__(256)
    gram_factors(const double* squares, const unsigned long long* extent, double* factors, int* again, int* flags,
                 int word_a, int word_b, int n, int m, int unbiased, int problems) {
    const int p = blockIdx.x * blockDim.x + threadIdx.x;
    if (p >= problems) return;
    const double a = 1.0 / n, b = 1.0 / m, sa = squares ? squares[2 * p] : a, sb = squares ? squares[2 * p + 1] : b;
    const double scale_a = squares ? 1.0 : a, scale_b = squares ? 1.0 : b;
    const double keep_a = unbiased ? 1.0 - sa : 1.0, keep_b = unbiased ? 1.0 - sb : 1.0;
    double* f = factors + 8ll * p;
    f[OF_XX] = 2.0 * scale_a * scale_a / keep_a;
    f[OF_XY] = -2.0 * scale_a * scale_b;
    f[OF_YY] = 2.0 * scale_b * scale_b / keep_b;
    f[END_X] = unbiased ? 0.0 : scale_a * scale_a;
    f[END_Y] = unbiased ? 0.0 : scale_b * scale_b;
    f[SQUARES] = sa + sb;
    f[KEEP_X] = keep_a;
    f[KEEP_Y] = keep_b;
    const double spread = __longlong_as_double((long long)*extent);
    if (again) again[p] = !(1e-15 < spread && spread < 1e15);
    if (unbiased && squares && sa > 1.0 - 1e-12) raise_flag(flags + word_a, ONE_POINT);
    if (unbiased && squares && sb > 1.0 - 1e-12) raise_flag(flags + word_b, ONE_POINT);
}

// Squares of distances must neither overflow nor vanish.
__global__ void gram_extreme(const unsigned long long* extent, int* flags) {
    const double spread = __longlong_as_double((long long)*extent);
    if (threadIdx.x == 0 && spread != 0.0 && !(1e-151 <= spread && spread <= 1e152)) raise_flag(flags, EXTREME);
}

// ---- after ----------------------------------------------------------------------------------------------------------

// stats[p][6] = Σ_{i≠j} of pairs of x, Σ of pairs of x and y, Σ_{i≠j} of y, Σ w² k(z, z) over x, over y, max |k(z, z)|;
// from tiles (count, 3) or, where `rows`, from sums of rows (shares, 2, N). Without `weights` they are ones.
__global__ void __launch_bounds__(1024)
    gram_merge(const double* tiles, long long count, const double* rows, int shares, const double* diagonal,
               const double* weights, const int* only, double* stats, int n, int N) {
    __shared__ double room[32];
    const long long p = blockIdx.x;
    if (only && !only[p]) return;
    double s[6] = {0.0, 0.0, 0.0, 0.0, 0.0, 0.0};
    if (tiles) {
        for (long long t = threadIdx.x; t < count; t += blockDim.x)
#pragma unroll
            for (int k = 0; k < 3; k++) s[k] += tiles[(p * count + t) * 3 + k];
        s[0] *= 2.0;
        s[2] *= 2.0;
    }
    for (int i = threadIdx.x; i < N; i += blockDim.x) {
        const double w = weights ? weights[p * N + i] : 1.0, ends = diagonal[2 * p * N + i];
        if (rows) {
            double over_x = 0.0, over_y = 0.0;
            for (int share = 0; share < shares; share++) {
                over_x += rows[((p * shares + share) * 2) * N + i];
                over_y += rows[((p * shares + share) * 2 + 1) * N + i];
            }
            if (i < n) s[0] += w * over_x;
            if (i < n)
                s[1] += w * over_y;
            else
                s[2] += w * over_y;
        }
        s[3] += i < n ? w * w * ends : 0.0;
        s[4] += i < n ? 0.0 : w * w * ends;
        s[5] = fmax(s[5], fabs(ends));
    }
#pragma unroll
    for (int k = 0; k < 6; k++) {
        const double whole = k < 5 ? block_sum(s[k], room) : block_max(s[k], room);
        if (threadIdx.x == 0) stats[6 * p + k] = whole;
    }
}

// The estimate of each problem. `again`: whether float32 will not do, 8 eps (size Σ w² + |value|) > 5e-6 |value|;
// problems that `only` leaves out are left alone.
__global__ void __launch_bounds__(256)
    gram_value(const double* stats, const double* factors, const int* only, int* again, double* value, double* sizes,
               int unbiased, int problems) {
    const int p = blockIdx.x * blockDim.x + threadIdx.x;
    if (p >= problems || (only && !only[p])) return;
    const double *s = stats + 6ll * p, *f = factors + 8ll * p;
    double v = 0.5 * f[OF_XX] * s[0] + f[OF_XY] * s[1] + 0.5 * f[OF_YY] * s[2] + f[END_X] * s[3] + f[END_Y] * s[4];
    const double size = fmax(s[5], fabs(0.5 * f[OF_XY] * s[1]));
    if (again) again[p] = again[p] || !(8.0 * 1.1920928955078125e-7 * (size * f[SQUARES] + fabs(v)) <= 5e-6 * fabs(v));
    sizes[p] = size;
    value[p] = !unbiased && v < 0.0 ? 0.0 : v;
}

// Flags of values that are not finite; their roots, and what derivatives are times (`chain`), where those are wanted.
__global__ void __launch_bounds__(256)
    gram_judge(const double* value, double* roots, double* chain, int* flags, int problems) {
    const int p = blockIdx.x * blockDim.x + threadIdx.x;
    if (p >= problems) return;
    const double v = value[p];
    if (!(fabs(v) <= 1.7976931348623157e308))
        raise_flag(flags, OVERFLOW);
    else if (roots && v < 0.0)
        raise_flag(flags, NO_ROOT);
    if (!roots) return;
    roots[p] = sqrt(v);
    chain[p] = v > 0.0 ? 0.5 / roots[p] : 0.0;
}

// a[p][i] *= chain[p]
__global__ void __launch_bounds__(256) gram_scale(double* a, const double* chain, long long inner, long long size) {
    const long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (at < size) a[at] *= chain[at / inner];
}

// Kernels of inner products far from the origin: what the samples differ by may drown in what they share.
template <class T>
__global__ void __launch_bounds__(256)
    gram_far(const T* plain, const double* value, const double* sizes, int* flags, int n, int N, int d, int width) {
    __shared__ double room[32];
    const long long p = blockIdx.x;
    const T* z = plain + p * N * width;
    if (!(16.0 * 2.220446049250313e-16 * sizes[p] > 1e-3 * fabs(value[p]))) return;
    double away = 0.0, spread = 0.0;
    for (int k = 0; k < d; k++) {
        double of_x = 0.0, of_y = 0.0, square = 0.0;
        for (int i = threadIdx.x; i < N; i += blockDim.x) {
            const double v = (double)z[(long long)i * width + k];
            of_x += i < n ? v : 0.0;
            of_y += i < n ? 0.0 : v;
        }
        const double c = 0.5 * (block_sum(of_x, room) / n + block_sum(of_y, room) / (N - n));
        for (int i = threadIdx.x; i < N; i += blockDim.x) {
            const double t = (double)z[(long long)i * width + k] - c;
            square += t * t / (i < n ? n : N - n);
        }
        spread += block_sum(square, room);
        away += c * c;
    }
    if (threadIdx.x == 0 && spread > 0.0 && away > 1e4 * spread) raise_flag(flags, FAR);
}

// out[p][i][:] (problems, N, d): pulls (geometries, problems, shares, N, width) merged and made gradients by the
// points. Squared distances: twice; the unit sphere: along it, over the length; inner products: their diagonal too.
template <class T, class K>
__global__ void __launch_bounds__(256)
    gram_gradient(const double* pulls, const T* plain, const T* shifted, const double* diagonal, const double* weights,
                  const double* factors, const int* only, double* out, int n, int N, int d, int width, int shares,
                  long long points) {
    const long long at = (long long)blockIdx.x * 8 + threadIdx.x / WARP;
    if (at >= points) return;
    const long long p = at / N, i = at % N;
    if (only && !only[p]) return;
    const int lane = threadIdx.x % WARP;
    const T *z = plain + at * width, *zs = shifted + at * width;
    auto pull = [&](int g, int k) {
        double total = 0.0;
        for (int s = 0; s < shares; s++)
            total += pulls[((g * (points / N) + p) * shares + s) * (long long)N * width + i * width + k];
        return total;
    };
    double square = 0.0, size = 0.0, along = 0.0, length = 1.0;
    if constexpr (K::has(ANGLE)) {
        for (int k = lane; k < d; k += WARP) size = fmax(size, fabs((double)z[k]));
        size = warp_max(size);
        for (int k = lane; k < d; k += WARP) square += ((double)z[k] / size) * ((double)z[k] / size);
        square = sqrt(warp_sum(square));
        length = square * size;
    }
#pragma unroll
    for (int g = 0; g < K::Q; g++)
        if (K::geometry(g) == ANGLE) {
            for (int k = lane; k < d; k += WARP) along += pull(g, k) * ((double)z[k] / size / square);
            along = warp_sum(along);
        }
    const double w = weights ? weights[at] : 1.0;
    const double slope = diagonal ? diagonal[(2 * p + 1) * N + i] : 0.0;
    const double ends = diagonal ? 2.0 * factors[8 * p + (i < n ? END_X : END_Y)] * w * w * slope : 0.0;
    for (int k = lane; k < d; k += WARP) {
        double total = 0.0;
#pragma unroll
        for (int g = 0; g < K::Q; g++) {
            const double v = pull(g, k);
            if (K::geometry(g) == SQUARED)
                total += 2.0 * v;
            else if (K::geometry(g) == INNER)
                total += v + ends * (double)zs[k];
            else if (K::geometry(g) == ANGLE)
                total += 2.0 * (v - along * ((double)z[k] / size / square)) / length;
            else
                total += v;
        }
        out[at * d + k] = total;
    }
}

// out[p][i]: the derivative in the weight of point i, 2 (Σ over its own side − Σ over the other).
__global__ void __launch_bounds__(256)
    gram_weight_gradient(const double* rows, int shares, const double* diagonal, const double* weights,
                         const double* stats, const double* factors, const int* only, double* out, int unbiased, int n,
                         int N, long long points) {
    const long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= points) return;
    const long long p = at / N, i = at % N;
    if (only && !only[p]) return;
    double over[2] = {0.0, 0.0};
    for (int s = 0; s < shares; s++)
        for (int k = 0; k < 2; k++) over[k] += rows[((p * shares + s) * 2 + k) * N + i];
    const int side = i >= n;
    const double w = weights[at], keep = factors[8 * p + KEEP_X + side], all = stats[6 * p + 2 * side];
    double mine = side ? over[1] : over[0];
    mine = unbiased ? mine / keep + w * (all / (keep * keep)) : mine + w * diagonal[2 * p * N + i];
    out[at] = 2.0 * (mine - (side ? over[0] : over[1]));
}

// out[o][i] = Σ_r factor a[o][r][i]: gradients of what was broadcast, means of blocks, shares of rows.
__global__ void __launch_bounds__(256)
    gram_sum(const double* a, double* out, double factor, long long outer, long long count, long long inner) {
    const long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= outer * inner) return;
    const double* from = a + at / inner * count * inner + at % inner;
    double total = 0.0;
    for (long long r = 0; r < count; r++) total += from[r * inner];
    out[at] = factor * total;
}

// out[o] = factor Σ a[o][:], one block each.
__global__ void __launch_bounds__(1024) gram_total(const double* a, double* out, double factor, long long count) {
    __shared__ double room[32];
    double mine = 0.0;
    for (long long r = threadIdx.x; r < count; r += blockDim.x) mine += a[blockIdx.x * count + r];
    const double total = block_sum(mine, room);
    if (threadIdx.x == 0) out[blockIdx.x] = factor * total;
}

// out[r][:] = a[index[r]][:]
template <class T>
__global__ void __launch_bounds__(256) gram_take(const T* a, const long long* index, T* out, int d, long long size) {
    const long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (at < size) out[at] = a[index[at / d] * d + at % d];
}

// `count` points of each pool [x; y], evenly spaced.
template <class T>
__global__ void __launch_bounds__(256)
    gram_spaced(const T* x, const T* y, T* out, int n, int m, int d, int count, long long size) {
    const long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= size) return;
    const long long p = at / d / count, i = at / d % count * ((long long)n + m) / count;
    out[at] = i < n ? x[(p * n + i) * d + at % d] : y[(p * m + i - n) * d + at % d];
}
