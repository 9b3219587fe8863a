// A row of bins and the threads that share it: what rows.cu and logits.cu have in common.
#pragma once
#include "terms.cuh"

// Why a row has no value, and which argument is to blame (bits of its status word).
#define INVALID_ENTRY 1
#define BAD_SUM 2

enum FinishKind { IDENTITY = 0, ROOT = 1, LOGARITHM = 2 };

// From the sum T of the terms to the value: scale T, scale sqrt(T), or scale log(1 + c T); see rows.py.
struct Finish {
    int kind;
    double scale, c, alpha;
    bool literal;
};

// The value, and the numbers such that its gradient is f dT + h; `faint`: the affinity has left the range.
struct Finished {
    double value, f, h_p, h_q;
    bool faint;
};

__device__ __forceinline__ Finished finish_row(const Finish& finish, double total, bool lost, double affinity,
                                               double sum_p, double sum_q, double least = 1e-280) {
    const double scale = finish.scale, c = finish.c, a = finish.alpha, inf = INFINITY;
    if (lost) total = inf;
    if (finish.kind == IDENTITY) return {scale * total, scale, 0.0, 0.0, false};
    if (finish.kind == ROOT) {
        const double root = sqrt(total);
        return {scale * root, root > 0.0 && root < inf ? 0.5 * scale / root : 0.0, 0.0, 0.0, false};
    }
    // lost mass: infinite derivatives stay so, the others have no meaning
    if (lost) return {scale * inf, scale * c, 0.0, 0.0, false};
    if (!(affinity > least && affinity < 1e280)) return {0.0, 1.0, 0.0, 0.0, true};
    if (finish.literal) {
        const double f = scale / affinity;
        return {scale * log(affinity), f * c, f * a, f * (1.0 - a), false};
    }
    if (total == inf) return {scale * inf, scale * c, 0.0, 0.0, false};
    if (c * total > -0.5) return {scale * log1p(c * total), scale * c / (1.0 + c * total), 0.0, 0.0, false};
    const double drift = a * log(sum_p) + (1.0 - a) * log(sum_q);
    return {scale * (log(affinity) - drift), scale * c / affinity, 0.0, 0.0, false};
}

// ------------------------------------------------------------------------------------------- where a row's bins lie

// The batch has up to four dimensions, innermost first, and each argument its strides in elements: nothing is copied
// to broadcast.
struct Batch {
    long long n0, n1, n2, n3;
    __device__ __forceinline__ long long at(long long r, long long s0, long long s1, long long s2, long long s3) const {
        long long place = 0;
        if (n1 * n2 * n3 == 1) return r * s0;
        place += (r % n0) * s0, r /= n0;
        place += (r % n1) * s1, r /= n1;
        place += (r % n2) * s2, r /= n2;
        return place + r * s3;
    }
};

// Elements by which a pointer lies behind the last multiple of 16 bytes.
template <class T>
__device__ __forceinline__ int offset_of(const T* x) {
    return (int)(((unsigned long long)x & 15ull) / sizeof(T));
}

// The bins [begin, end) of a row, dealt to `team` threads in steps: first whole packs of N neighbours, if all arrays
// lie alike behind a multiple of 16 bytes, then what is left, N single bins a thread.
template <int N>
struct Deal {
    int begin, end, first, last;  // packs fill [first, last)
    int team, rank;
    int packs, steps;

    __device__ __forceinline__ Deal(int begin, int end, bool alike, int offset, int team, int rank)
        : begin(begin), end(end), team(team), rank(rank) {
        const int head = (N - (offset + begin) % N) % N;
        first = alike && begin + head < end ? begin + head : begin;
        last = alike && begin + head < end ? first + (end - first) / N * N : begin;
        packs = (last - first + N * team - 1) / (N * team);
        const int rest = (first - begin) + (end - last);
        steps = packs + (rest + N * team - 1) / (N * team);
    }

    // The bin of element i in a step after the packs, or -1.
    __device__ __forceinline__ int bin(int step, int i) const {
        const int j = ((step - packs) * N + i) * team + rank, head = first - begin;
        const int k = j < head ? begin + j : last + (j - head);
        return k < end ? k : -1;
    }

    template <class T>
    __device__ __forceinline__ Pack<T, N> load(const T* x, int step, T missing) const {
        Pack<T, N> y;
        if (step < packs) {
            const int k = first + (step * team + rank) * N;
            if (k < last) return load_pack<T, N>(x + k);
#pragma unroll
            for (int i = 0; i < N; i++) y.at[i] = missing;
        } else {
#pragma unroll
            for (int i = 0; i < N; i++) {
                const int k = bin(step, i);
                y.at[i] = k >= 0 ? x[k] : missing;
            }
        }
        return y;
    }

    template <class O>
    __device__ __forceinline__ void store(O* g, int step, const O (&x)[N]) const {
        if (step < packs) {
            const int k = first + (step * team + rank) * N;
            if (k >= last) return;
            constexpr int M = sizeof(O) * N > 16 ? 16 / sizeof(O) : N;  // wider results go in several pieces
#pragma unroll
            for (int j = 0; j < N; j += M) {
                Pack<O, M> y;
#pragma unroll
                for (int i = 0; i < M; i++) y.at[i] = x[j + i];
                store_pack<O, M>(g + k + j, y);
            }
        } else {
#pragma unroll
            for (int i = 0; i < N; i++) {
                const int k = bin(step, i);
                if (k >= 0) g[k] = x[i];
            }
        }
    }
};

// Values move down by STEP, for the next turn of a loop that is not unrolled: an array indexed by a variable would lie in
// local memory.
template <int STEP, class X, int N>
__device__ __forceinline__ void rotate(X (&x)[N]) {
#pragma unroll
    for (int i = 0; i + STEP < N; i++) x[i] = x[i + STEP];
}

// How many of N bins go at once: double formulas that stand in for float ones take one, so that they need no registers
// of their own.
template <class Tag, class S, bool STANDIN, int N>
struct Together {
    static constexpr int FIT = N < Tag::UNROLL ? N : Tag::UNROLL;
    static constexpr int STEP = STANDIN && sizeof(S) == 8 ? 1 : FIT;
};

// Sum over a team: up to 32 neighbouring lanes, or the whole block; every thread gets it. `room`: 32 doubles.
__device__ __forceinline__ double team_sum(double x, int team, double* room) {
    return team <= WARP ? warp_sum(x, ALL, team) : block_sum(x, room);
}

__device__ __forceinline__ double team_max(double x, int team, double* room) {
    return team <= WARP ? warp_max(x, ALL, team) : block_max(x, room);
}

__device__ __forceinline__ int team_or(int x, int team, double* room) {
    if (team <= WARP) return warp_or(x, ALL, team);
    int* words = reinterpret_cast<int*>(room);
    const int lane = threadIdx.x % WARP, warps = blockDim.x / WARP;
    x = warp_or(x);
    if (lane == 0) words[threadIdx.x / WARP] = x;
    __syncthreads();
    x = warp_or(lane < warps ? words[lane] : 0);
    __syncthreads();
    return x;
}

// Values go out in the caller's float: 0 double, 1 float, 2 float16, 3 bfloat16.
__device__ __forceinline__ void store_value(void* V, int kind, long long r, double x) {
    if (kind == 0) static_cast<double*>(V)[r] = x;
    if (kind == 1) static_cast<float*>(V)[r] = (float)x;
    if (kind == 2) static_cast<float16*>(V)[r] = cast<float16>(x);
    if (kind == 3) static_cast<bfloat16*>(V)[r] = cast<bfloat16>(x);
}
