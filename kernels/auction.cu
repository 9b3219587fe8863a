// One large assignment problem: a Jacobi auction with falling eps on cached rows, then shortest augmenting paths in one
// block.
//
// Free rows bid all at once, a warp each: for the column of least c_ij + p_j, and raise its price by the gap to the
// second least plus eps (Bertsekas 1979, 1988). Of the bids for a column the highest wins by one atomic maximum of 64
// bits, round | raise | row: the maximum does not depend on the order, so neither does any result. Who held the column
// is free again. Every match then satisfies c_ij + p_j <= min_l (c_il + p_l) + eps.
//
// A row bids from its cache: its KEPT cheapest columns at some moment, and a bound on all others, which stays true as
// prices only rise. Where the bound could matter, a block reads the row again. A bound gets a slack proportional to
// eps, which saves most readings. Few free rows go on in one block without leaving it, round by round: then a round
// costs barriers and not launches.
//
// Floor: a round reads 32 costs, columns and prices of each free row, 640 bytes; a reading m entries. On the CPU, a row
// of uniform costs bids some 20 and is read once or twice in all, so reading the matrix once or twice is the floor of
// the whole.
#include "pair_costs.cuh"
#include "paths.cuh"

#define KEPT 32
#define COLLECTED 512
#define NO_COLUMN 2

// counters: free rows now and next (0, 1), rows to read (2), bids (3), readings (4); `state` holds what rounds share.
struct Bidders {
    double *p, *cache, *bound, *paid, *offer;  // (m), (n, KEPT), (n), (n), (n)
    int *columns, *col, *row, *target;         // (n, KEPT), (n), (m), (n)
    unsigned long long* best;                  // (m)
    int *now, *next, *unread;                  // lists (n)
    int* counters;
    double eps, slack, reach;
};

// A warp bids for row i from its cache, or notes that it must be read.
__device__ __forceinline__ void bid(const Bidders& all, int i, int round, int* status) {
    const int lane = (int)threadIdx.x % 32;
    const int j = all.columns[(long long)i * KEPT + lane];
    const double cost = all.cache[(long long)i * KEPT + lane], price = all.p[j];
    const double v = cost + price;
    unsigned long long key = ascending(v);
    unsigned at = (unsigned)lane;
    warp_least(key, at);
    const double first = number(key);
    unsigned long long rest = (unsigned)lane == at ? ~0ull : ascending(v);
    unsigned nobody = (unsigned)lane;
    warp_least(rest, nobody);
    double second = rest == ~0ull ? infinity() : number(rest);
    const double limit = all.bound[i] + all.slack;
    bool known = second <= limit;
    if (!known && first <= limit && limit - first > 0.5 * (second - first)) {
        second = limit;
        known = true;
    }
    if ((unsigned)lane != at) return;
    all.target[i] = -1;
    if (!known) {
        all.unread[atomicAdd(&all.counters[2], 1)] = i;
        return;
    }
    if (!(first < infinity())) {
        atomicOr(status, NO_COLUMN);
        return;
    }
    const double raise = fmin(second - first, all.reach) + all.eps;
    double after = price + raise;
    if (after == price) after = price + fabs(price) * 2.5e-16;
    all.offer[i] = after;
    all.target[i] = j;
    all.paid[i] = cost;
    const unsigned long long size = __float_as_uint((float)raise) >> 7;
    atomicMax(&all.best[j], ((unsigned long long)round << 48) | (size << 24) | (unsigned long long)i);
}

// A block reads row i: its KEPT least c_ij + p_j and the next value, ties by the index. `room` (THREADS), `found`
// (COLLECTED).
template <int THREADS, class Costs>
__device__ __forceinline__ void read_row(const Bidders& all, const Costs& costs, int m, int i, Team<THREADS>& team,
                                         double* room, Least* found, int* count) {
    const auto row = costs.row(i);
    double least = infinity();
#pragma unroll 4
    for (int j = team.rank; j < m; j += THREADS) {
        const double v = row(j) + all.p[j];
        least = v < least ? v : least;
    }
    __syncthreads();
    room[team.rank] = least;
    if (team.rank == 0) *count = 0;
    __syncthreads();
    // the KEPT + 1-st of the threads' least: so many values at least lie at or below it
    int before = 0;
    for (int k = 0; k < THREADS; ++k) before += room[k] < least || (room[k] == least && k < team.rank);
    __syncthreads();
    if (before == KEPT) room[0] = least;
    __syncthreads();
    const double top = THREADS > KEPT ? room[0] : infinity();
    __syncthreads();
    double* cache = all.cache + (long long)i * KEPT;
    int* columns = all.columns + (long long)i * KEPT;
    if (team.rank < KEPT) {
        cache[team.rank] = infinity();
        columns[team.rank] = 0;
    }
    if (team.rank == 0) all.bound[i] = infinity();
#pragma unroll 4
    for (int j = team.rank; j < m; j += THREADS) {
        const double v = row(j) + all.p[j];
        if (v <= top && v < infinity()) {
            const int at = atomicAdd(count, 1);
            if (at < COLLECTED) found[at] = {v, (unsigned)j};
        }
    }
    __syncthreads();
    const int collected = *count;
    if (collected <= COLLECTED) {
        for (int e = team.rank; e < collected; e += THREADS) {
            const Least mine = found[e];
            int rank = 0;
            for (int k = 0; k < collected; ++k)
                rank += found[k].value < mine.value || (found[k].value == mine.value && found[k].at < mine.at);
            if (rank < KEPT) {
                cache[rank] = row((int)mine.at);
                columns[rank] = (int)mine.at;
            } else if (rank == KEPT) {
                all.bound[i] = mine.value;
            }
        }
    } else {  // many ties: one after the other
        double passed = -infinity();
        unsigned passed_at = 0;
        for (int rank = 0; rank <= KEPT; ++rank) {
            double value = infinity();
            unsigned at = 0xffffffffu;
            for (int j = team.rank; j < m; j += THREADS) {
                const double v = row(j) + all.p[j];
                const bool later = rank == 0 || v > passed || (v == passed && (unsigned)j > passed_at);
                if (later && (v < value || (v == value && (unsigned)j < at))) {
                    value = v;
                    at = (unsigned)j;
                }
            }
            const Least best = team.least(value, at);
            passed = best.value;
            passed_at = best.at;
            if (!(passed < infinity())) break;
            if (team.rank == 0) {
                if (rank < KEPT) {
                    cache[rank] = row((int)passed_at);
                    columns[rank] = (int)passed_at;
                } else {
                    all.bound[i] = passed;
                }
            }
        }
    }
    __syncthreads();
}

// A thread settles what its row has bid.
__device__ __forceinline__ void settle(const Bidders& all, int i) {
    const int j = all.target[i];
    int again = i;
    if (j >= 0 && (int)(all.best[j] & 0xffffffull) == i) {
        again = all.row[j];
        all.p[j] = all.offer[i];
        all.row[j] = i;
        all.col[i] = j;
        if (again >= 0) all.col[again] = -1;
    }
    if (again >= 0) all.next[atomicAdd(&all.counters[1], 1)] = again;
}

// No __restrict__: rounds read what other threads wrote.
#define BIDDERS                                                                                             \
    double *p, double *cache, double *bound, double *paid, double *offer, int *columns, int *col, int *row, \
        int *target, unsigned long long *best, int *now, int *next, int *unread, int *counters, double eps, \
        double slack, double reach, int round
#define AS_BIDDERS \
    {p, cache, bound, paid, offer, columns, col, row, target, best, now, next, unread, counters, eps, slack, reach}

// A round is three launches: bids, readings, settling. Numbers of rows are read on the device.
__global__ void __launch_bounds__(256) bids(BIDDERS, int* status) {
    const Bidders all = AS_BIDDERS;
    const int count = counters[0];
    if (blockIdx.x == 0 && threadIdx.x == 0) {
        counters[1] = 0;
        counters[3] += count;
    }
    for (int e = (int)(blockIdx.x * 256 + threadIdx.x) / 32; e < count; e += (int)gridDim.x * 8)
        bid(all, now[e], round, status);
}

template <class Kind>
__global__ void __launch_bounds__(256, 2)
    readings(const typename Kind::Entry* __restrict__ first, const double* __restrict__ second, int d, double power,
             int m, BIDDERS) {
    __shared__ Slot slots[64];
    __shared__ double room[256];
    __shared__ Least found[COLLECTED];
    __shared__ int count;
    const Bidders all = AS_BIDDERS;
    const Kind costs(first, second, d, power, m);
    Team<256> team(slots);
    const int rows = counters[2];
    if (blockIdx.x == 0 && threadIdx.x == 0) counters[4] += rows;
    for (int e = (int)blockIdx.x; e < rows; e += (int)gridDim.x)
        read_row<256>(all, costs, m, unread[e], team, room, found, &count);
}

__global__ void __launch_bounds__(256) settling(BIDDERS) {
    const Bidders all = AS_BIDDERS;
    const int count = counters[0];
    if (blockIdx.x == 0 && threadIdx.x == 0) counters[2] = 0;
    for (int e = (int)(blockIdx.x * 256 + threadIdx.x); e < count; e += (int)gridDim.x * 256) settle(all, now[e]);
}

// After settling: what is next is now. (The lists themselves are exchanged by the launcher.)
__global__ void turn(int* counters) { counters[0] = counters[1]; }

// Rounds of few rows in one block, until none is left, more than `most` are, or `rounds` are done; the list ends in
// `now`.
template <class Kind>
__global__ void __launch_bounds__(256, 2)
    few_bidders(const typename Kind::Entry* __restrict__ first, const double* __restrict__ second, int d, double power,
                int m, int rounds, BIDDERS, int* status) {
    __shared__ Slot slots[64];
    __shared__ double room[256];
    __shared__ Least found[COLLECTED];
    __shared__ int count;
    const Bidders all = AS_BIDDERS;
    const Kind costs(first, second, d, power, m);
    Team<256> team(slots);
    for (int r = 0; r < rounds; ++r) {
        __syncthreads();
        const int rows = counters[0];
        if (rows == 0 || (*status & NO_COLUMN)) break;
        __syncthreads();
        if (team.rank == 0) {
            counters[1] = 0;
            counters[2] = 0;
            counters[3] += rows;
        }
        __syncthreads();
        for (int e = team.rank / 32; e < rows; e += 8) bid(all, now[e], round + r, status);
        __syncthreads();
        const int reads = counters[2];
        for (int e = 0; e < reads; ++e) read_row<256>(all, costs, m, all.unread[e], team, room, found, &count);
        for (int e = team.rank; e < rows; e += 256) settle(all, all.now[e]);
        __syncthreads();
        const int left = counters[1];
        for (int e = team.rank; e < left; e += 256) all.now[e] = all.next[e];
        __syncthreads();
        if (team.rank == 0) {
            counters[4] += reads;
            counters[2] = 0;
            counters[0] = left;
        }
    }
}

// Free the rows whose column is more than eps + slack above the best. sums (blocks, 3): excesses, paid, |paid|.
__global__ void __launch_bounds__(256) release(BIDDERS, int n, double* __restrict__ sums) {
    __shared__ Pair64 room[32];
    const Bidders all = AS_BIDDERS;
    const int i = (int)(blockIdx.x * 256 + threadIdx.x);
    double excess = 0.0, own = 0.0;
    if (i < n) {
        const int j = col[i];
        if (j >= 0) {
            double lowest = bound[i] + slack;
            for (int k = 0; k < KEPT; ++k)
                lowest = fmin(lowest, cache[(long long)i * KEPT + k] + p[columns[(long long)i * KEPT + k]]);
            own = paid[i];
            excess = own + p[j] - lowest;
            if (excess > eps) {
                col[i] = -1;
                row[j] = -1;
            }
        }
        if (col[i] < 0) now[atomicAdd(&counters[0], 1)] = i;
    }
    const Team<256> team(nullptr);
    const Pair64 total = team.sum({excess, 0.0}, room), value = team.sum({own, 0.0}, room),
                 size = team.sum({fabs(own), 0.0}, room);
    if (threadIdx.x == 0) {
        sums[3 * blockIdx.x] = total.high;
        sums[3 * blockIdx.x + 1] = value.high;
        sums[3 * blockIdx.x + 2] = size.high;
    }
}

// f_i = min_j c_ij - g_j, a block for each row.
template <class Kind>
__global__ void __launch_bounds__(256)
    row_minima(const typename Kind::Entry* __restrict__ first, const double* __restrict__ second, int d, double power,
               int m, const double* __restrict__ g, double* __restrict__ f) {
    __shared__ Slot slots[64];
    const Kind costs(first, second, d, power, m);
    const auto row = costs.row((int)blockIdx.x);
    Team<256> team(slots);
    double least = infinity();
#pragma unroll 4
    for (int j = team.rank; j < m; j += 256) {
        const double v = row(j) - g[j];
        least = v < least ? v : least;
    }
    const Least best = team.least(least, 0);
    if (team.rank == 0) f[blockIdx.x] = best.value;
}

// parts[s, j] = min over the rows of slice s of c_ij - f_i (f null: 0); a thread for each column.
template <class Kind>
__global__ void __launch_bounds__(256)
    column_minima(const typename Kind::Entry* __restrict__ first, const double* __restrict__ second, int d,
                  double power, int n, int m, const double* __restrict__ f, int rows, double* __restrict__ parts) {
    const Kind costs(first, second, d, power, m);
    const int j = (int)(blockIdx.x * 256 + threadIdx.x), begin = (int)blockIdx.y * rows,
              end = begin + rows < n ? begin + rows : n;
    if (j >= m) return;
    double least = infinity();
#pragma unroll 4
    for (int i = begin; i < end; ++i) {
        const double v = costs.row(i)(j) - (f ? f[i] : 0.0);
        least = v < least ? v : least;
    }
    parts[(long long)blockIdx.y * m + j] = least;
}

__global__ void __launch_bounds__(256)
    least_of(const double* __restrict__ parts, int slices, int m, double* __restrict__ g) {
    const int j = (int)(blockIdx.x * 256 + threadIdx.x);
    if (j >= m) return;
    double least = parts[j];
    for (int s = 1; s < slices; ++s) least = fmin(least, parts[(long long)s * m + j]);
    g[j] = least;
}

// out[s] = c(rows[s], cols[s])
template <class Kind>
__global__ void __launch_bounds__(256)
    listed(const typename Kind::Entry* __restrict__ first, const double* __restrict__ second, int d, double power,
           int m, const long long* __restrict__ rows, const long long* __restrict__ cols, int count,
           double* __restrict__ out) {
    const int s = (int)(blockIdx.x * 256 + threadIdx.x);
    if (s < count) out[s] = Kind(first, second, d, power, m).row((int)rows[s])((int)cols[s]);
}

// Match the rows free_rows[begin ...] by shortest paths until some `steps` rows have been read, in one block.
// done (3): how far it came, steps, columns of the tree of a row that cannot be matched, or -1.
template <class Kind>
__global__ void __launch_bounds__(512)
    finish(const typename Kind::Entry* __restrict__ first, const double* __restrict__ second, int d, double power,
           int m, double* __restrict__ g, double* __restrict__ distance, unsigned char* __restrict__ in_tree,
           int* __restrict__ col, int* __restrict__ row, int* __restrict__ via, const int* __restrict__ free_rows,
           int begin, int count, int steps, int* __restrict__ done) {
    __shared__ Slot slots[64];
    const Kind costs(first, second, d, power, m);
    Team<512> team(slots);
    Stored<512> own = {g, distance, row, in_tree, team.rank};
    const Matching all = {g, col, row, via, m};
    int made = 0, tree = 0;
    while (begin < count && made < steps) {
        tree = shortest_path(team, own, costs, all, free_rows[begin]);
        if (tree < 0) break;
        made += tree + 1;
        ++begin;
    }
    if (team.rank == 0) {
        done[0] = begin;
        done[1] = made;
        done[2] = tree < 0 ? -1 - tree : -1;
    }
}
