// The least values of rows: columns arrive strip by strip, and no more than the k best of each row are kept.
//
// A block for a row. Values below the k-th best so far are gathered in shared memory; when there are many, they are
// sorted (bitonic network) and merged into the sorted list of the best, ranks found by bisection. Order is by value,
// then index, NaN last: a total order, so the result depends on nothing else.
//
// Floor: one read of the values; after the first strip about k log(m/k) of them pass the filter.
#include "vecmath.cuh"

// Integers in the order of the numbers: signs folded, NaN above infinity.
__device__ __forceinline__ unsigned long long rank_of(double x) {
    if (x != x) return ~0ull;
    const unsigned long long u = (unsigned long long)__double_as_longlong(x + 0.0);  // -0 becomes 0
    return u >> 63 ? ~u : u | 1ull << 63;
}

__device__ __forceinline__ double number_of(unsigned long long rank) {
    if (rank == ~0ull) return __longlong_as_double(0x7ff8000000000000LL);
    return __longlong_as_double((long long)(rank >> 63 ? rank & ~(1ull << 63) : ~rank));
}

struct Best {
    unsigned long long rank;
    unsigned int index;
    __device__ __forceinline__ bool before(const Best& x) const {
        return rank != x.rank ? rank < x.rank : index < x.index;
    }
};

#define ROOM 1024

// How many of the sorted `count` entries come before x.
template <class Ranks, class Indices>
__device__ __forceinline__ int bisect(const Ranks& ranks, const Indices& indices, int count, const Best& x) {
    int low = 0, high = count;
    while (low < high) {
        const int middle = (low + high) >> 1;
        if (Best{ranks[middle], indices[middle]}.before(x)) low = middle + 1;
        else high = middle;
    }
    return low;
}

// ranks, indices (2, rows, k): lists of the best before and after, which of the two is `side`; lengths (rows): how many
// of the k there are yet, and in the upper half of the word which side holds them. Columns j0 ... j0 + count.
template <class In>
__global__ void __launch_bounds__(256)
    least(const In* __restrict__ values, long long stride, long long j0, int count, int k, long long rows,
          unsigned long long* ranks, unsigned int* indices, int* lengths) {
    __shared__ unsigned long long room[ROOM];
    __shared__ unsigned int where[ROOM];
    __shared__ int gathered;
    const long long row = blockIdx.x;
    const int t = threadIdx.x, lane = t % WARP;
    const In* const line = values + row * stride;
    int length = lengths[row] & 0x7fffffff, side = lengths[row] < 0;
    long long list = (side * rows + row) * k;
    Best worst{~0ull, ~0u};  // what a newcomer has to come before
    if (length == k) worst = Best{ranks[list + k - 1], indices[list + k - 1]};
    if (t == 0) gathered = 0;
    int found = 0;  // in `room`
    __syncthreads();
    for (int start = 0; start < count; start += 256) {
        const int at = start + t;
        Best x{~0ull, ~0u};
        if (at < count) x = Best{rank_of((double)widen(line[at])), (unsigned int)(j0 + at)};
        const bool wanted = at < count && (length < k || x.before(worst));
        const unsigned votes = __ballot_sync(ALL, wanted);
        int first = 0;
        if (lane == 0 && votes) first = atomicAdd(&gathered, __popc(votes));
        first = __shfl_sync(ALL, first, 0);
        if (wanted) {
            first += __popc(votes & ((1u << lane) - 1u));
            room[first] = x.rank;
            where[first] = x.index;
        }
        found += __syncthreads_count(wanted);
        if (found + 256 <= ROOM && start + 256 < count) continue;
        if (found == 0) break;
        int size = 32;
        while (size < found) size *= 2;
        for (int e = found + t; e < size; e += 256) {
            room[e] = ~0ull;
            where[e] = ~0u;
        }
        __syncthreads();
        for (int run = 2; run <= size; run *= 2)
            for (int gap = run / 2; gap > 0; gap /= 2) {
                for (int pair = t; pair < size / 2; pair += 256) {
                    const int a = (pair / gap) * 2 * gap + pair % gap, b = a + gap;
                    const Best p{room[a], where[a]}, q{room[b], where[b]};
                    if (((a & run) == 0) == q.before(p)) {
                        room[a] = q.rank;
                        where[a] = q.index;
                        room[b] = p.rank;
                        where[b] = p.index;
                    }
                }
                __syncthreads();
            }
        const long long next = ((side ^ 1) * rows + row) * k;
        for (int e = t; e < length; e += 256) {
            const Best p{ranks[list + e], indices[list + e]};
            const int to = e + bisect(room, where, found, p);
            if (to < k) {
                ranks[next + to] = p.rank;
                indices[next + to] = p.index;
            }
        }
        for (int e = t; e < found; e += 256) {
            const Best p{room[e], where[e]};
            const int to = e + bisect(ranks + list, indices + list, length, p);
            if (to < k) {
                ranks[next + to] = p.rank;
                indices[next + to] = p.index;
            }
        }
        length = length + found < k ? length + found : k;
        side ^= 1;
        list = next;
        __syncthreads();  // the new list is there, and nobody reads `room`
        if (length == k) worst = Best{ranks[list + k - 1], indices[list + k - 1]};
        if (t == 0) gathered = 0;
        found = 0;
        __syncthreads();
    }
    if (t == 0) lengths[row] = length | (side ? 0x80000000 : 0);
}

// What the lists hold, as numbers.
template <class Out>
__global__ void __launch_bounds__(256)
    unrank(const unsigned long long* __restrict__ ranks, const unsigned int* __restrict__ indices,
           const int* __restrict__ lengths, long long rows, int k, Out* __restrict__ values,
           long long* __restrict__ where) {
    const long long at = (long long)blockIdx.x * 256 + threadIdx.x;
    if (at >= rows * k) return;
    const long long from = (lengths[at / k] < 0 ? rows * k : 0) + at;
    values[at] = (Out)number_of(ranks[from]);
    where[at] = indices[from];
}
