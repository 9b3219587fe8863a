// Shortest augmenting paths by a team: the step that all assignment kernels here end with.
//
// Reduced costs c_ij - f_i - g_j are >= 0 and 0 on matched pairs; f_i is never stored, for on a matched row it is c_ij
// - g_j of its column. From a free row Dijkstra's algorithm grows the tree of shortest alternating paths, column by
// column, until it reaches a free column at distance mu; lowering g_j by mu - d_j on the columns of the tree keeps all
// reduced costs >= 0 and makes the path tight, and flipping it matches the row (Jonker & Volgenant 1987). Among equal
// distances free columns go first.
//
// A thread owns the columns rank, rank + THREADS, ... and keeps their g, distance and row in `Columns`: registers for
// small problems, memory for large ones. What all threads must look up by column or row is shared: g, row, via (m) and
// col (n).
#pragma once
#include "team.cuh"

// Columns of one thread in registers.
template <int THREADS, int SLOTS>
struct Registers {
    double own_g[SLOTS], own_distance[SLOTS];
    int own_row[SLOTS];
    unsigned in_tree;

    __device__ __forceinline__ int slots(int) const { return SLOTS; }
    __device__ __forceinline__ double& g(int k) { return own_g[k]; }
    __device__ __forceinline__ double& distance(int k) { return own_distance[k]; }
    __device__ __forceinline__ int& row(int k) { return own_row[k]; }
    __device__ __forceinline__ bool tree(int k) const { return in_tree >> k & 1; }
    __device__ __forceinline__ void plant(int k) { in_tree |= 1u << k; }
    __device__ __forceinline__ void clear(int k) { in_tree &= ~(1u << k); }
};

// The same in memory that the team shares; `at` is the rank of the thread.
template <int THREADS>
struct Stored {
    double *all_g, *all_distance;
    int* all_row;
    unsigned char* all_tree;
    int at;

    __device__ __forceinline__ int slots(int m) const { return (m - at + THREADS - 1) / THREADS; }
    __device__ __forceinline__ double& g(int k) { return all_g[at + k * THREADS]; }
    __device__ __forceinline__ double& distance(int k) { return all_distance[at + k * THREADS]; }
    __device__ __forceinline__ int& row(int k) { return all_row[at + k * THREADS]; }
    __device__ __forceinline__ bool tree(int k) const { return all_tree[at + k * THREADS]; }
    __device__ __forceinline__ void plant(int k) { all_tree[at + k * THREADS] = 1; }
    __device__ __forceinline__ void clear(int k) { all_tree[at + k * THREADS] = 0; }
};

struct Matching {
    double* g;             // (m)
    int *col, *row, *via;  // (n), (m), (m)
    int m;
};

#define MATCHED 0x80000000u

// Match the free row `start`; the number of columns of its tree, less 1 and negated if no free column is in reach.
// costs(i, j) in float64. All threads of the team call it with the same arguments, after a sync.
template <int THREADS, class Columns, class Costs>
__device__ __forceinline__ int shortest_path(Team<THREADS>& team, Columns& own, const Costs& costs, const Matching& all,
                                             int start) {
#pragma unroll
    for (int k = 0; k < own.slots(all.m); ++k) {
        own.distance(k) = infinity();
        own.clear(k);
    }
    int i = start, tree = 0, found;
    double shift = 0.0, lowest;
    while (true) {
        double least = infinity();
        unsigned at = 0xffffffffu;
        const auto row = costs.row(i);
#pragma unroll
        for (int k = 0; k < own.slots(all.m); ++k) {
            const int j = team.rank + k * THREADS;
            if (j < all.m && !own.tree(k)) {
                const double reached = row(j) - own.g(k) - shift;
                double d = own.distance(k);
                if (reached < d) {
                    d = reached;
                    own.distance(k) = d;
                    all.via[j] = i;
                }
                const unsigned name = (unsigned)j | (own.row(k) < 0 ? 0u : MATCHED);
                if (d < least || (d == least && name < at)) {
                    least = d;
                    at = name;
                }
            }
        }
        const Least best = team.least(least, at);
        lowest = best.value;
        if (!(lowest < infinity())) return -1 - tree;
        found = (int)(best.at & ~MATCHED);
        if (!(best.at & MATCHED)) break;
        ++tree;
        if (found % THREADS == team.rank) {
            if (THREADS == 32) {
#pragma unroll
                for (int k = 0; k < own.slots(all.m); ++k)
                    if (k == found / THREADS) own.plant(k);
            } else {
                own.plant(found / THREADS);
            }
        }
        i = all.row[found];
        shift = costs.row(i)(found) - all.g[found] - lowest;
    }
    team.sync();
#pragma unroll
    for (int k = 0; k < own.slots(all.m); ++k) {
        const int j = team.rank + k * THREADS;
        if (j < all.m && own.tree(k)) {
            own.g(k) += own.distance(k) - lowest;
            all.g[j] = own.g(k);
        }
    }
    if (team.rank == 0) {
        int j = found;
        while (true) {
            const int r = all.via[j], next = all.col[r];
            all.row[j] = r;
            all.col[r] = j;
            if (r == start) break;
            j = next;
        }
    }
    team.sync();
#pragma unroll
    for (int k = 0; k < own.slots(all.m); ++k) {
        const int j = team.rank + k * THREADS;
        if (j < all.m) own.row(k) = all.row[j];
    }
    return tree;
}
