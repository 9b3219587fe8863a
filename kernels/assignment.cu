// Small assignment problems, whole, many to a launch: Jonker & Volgenant (1987) by a warp or a block for each.
//
//     minimise sum_i c(i, s(i)) over injections s of n rows into m >= n columns; +inf forbids a pair
//
// Column reduction (n = m): g_j = min_i c_ij, and each column takes its row if no column before it did. Row reduction,
// twice over the free rows: a row takes its best column and lowers g there by the gap to the second best, as far as it
// may; who is displaced bids on. Both keep f_i + g_j <= c_ij with equality on matched pairs; shortest augmenting paths
// (paths.cuh) match the rest. With fewer rows than columns g starts at 0 and only falls on matched columns. At the end
// f_i = min_j c_ij - g_j, so (f, g) is feasible whatever happened before, and sum f + sum g <= optimum <= sum c(i,
// s(i)) are both summed as pairs of float64.
//
// Floor: the costs are read once, n m sizeof(Cost) bytes of memory: 1 ns for a 32 x 32 float32 problem at 4 TB/s. The
// work is the latency of its steps, one team reduction (3 warp reductions, 90 cycles or so; a block adds a barrier) for
// each bid and each column of a path; 2 n to 4 n of them. With costs in shared memory 227 KB hold 50 warps' problems of
// that size: computed, 132 processors at 1.7 GHz end one every 3 ns or so, three times the floor.
#include "paths.cuh"

// Bits of `status`.
#define NOT_A_NUMBER 1
#define UNMATCHED 2
#define UNPROVED 4
#define TOO_LARGE 8

// Row-major costs as they are solved: in shared memory, or where they came from.
template <class Cost>
struct Stretch {
    const Cost* start;
    __device__ __forceinline__ double operator()(int j) const { return (double)start[j]; }
};

template <class Cost>
struct Rows {
    const Cost* start;
    long long pitch;
    __device__ __forceinline__ Stretch<Cost> row(int i) const { return {start + i * pitch}; }
};

// Bytes of shared memory of one problem: costs, then g, col, free, row, via.
__device__ __forceinline__ long long even8(long long bytes) { return (bytes + 7) / 8 * 8; }

template <int THREADS, int SLOTS, class Cost>
__device__ __forceinline__ void reduce_columns(Team<THREADS>& team, Registers<THREADS, SLOTS>& own,
                                               const Rows<Cost>& costs, const Matching& all, int n) {
    int first[SLOTS];
#pragma unroll
    for (int k = 0; k < SLOTS; ++k) {
        own.own_g[k] = infinity();
        first[k] = -1;
    }
#pragma unroll 4
    for (int i = 0; i < n; ++i) {
        const auto row = costs.row(i);
#pragma unroll
        for (int k = 0; k < SLOTS; ++k) {
            const int j = team.rank + k * THREADS;
            const double c = j < n ? row(j) : infinity();
            if (c < own.own_g[k]) {
                own.own_g[k] = c;
                first[k] = i;
            }
        }
    }
#pragma unroll
    for (int k = 0; k < SLOTS; ++k) {
        if (first[k] < 0)
            own.own_g[k] = 0.0;  // no finite costs, or no such column
        else
            atomicMin(&all.col[first[k]], team.rank + k * THREADS);
    }
    team.sync();
#pragma unroll
    for (int k = 0; k < SLOTS; ++k) {
        const int j = team.rank + k * THREADS;
        if (j < n) {
            own.own_row[k] = first[k] >= 0 && all.col[first[k]] == j ? first[k] : -1;
            all.row[j] = own.own_row[k];
            all.g[j] = own.own_g[k];
        }
    }
}

// The rows without a column, ascending, by the first warp; the number of them.
template <int THREADS>
__device__ __forceinline__ int list_free(Team<THREADS>& team, const Matching& all, int n, int* free_rows, int* count) {
    team.sync();
    if (team.rank < 32) {
        int found = 0;
        for (int i0 = 0; i0 < n; i0 += 32) {
            const int i = i0 + team.rank;
            const bool is_free = i < n && all.col[i] == 0x7fffffff;
            const unsigned mask = __ballot_sync(FULL_WARP, is_free);
            if (is_free) {
                free_rows[found + __popc(mask & ((1u << team.rank) - 1u))] = i;
                all.col[i] = -1;
            }
            found += __popc(mask);
        }
        if (team.rank == 0) *count = found;
    }
    team.sync();
    return *count;
}

// One pass over the free rows; how many are left. At most 8 bids for each.
template <int THREADS, int SLOTS, class Cost>
__device__ __forceinline__ int reduce_rows(Team<THREADS>& team, Registers<THREADS, SLOTS>& own, const Rows<Cost>& costs,
                                           const Matching& all, int* free_rows, int count) {
    int at = 0, left = 0, bids = 8 * count, next = -1;
    while (at < count || next >= 0) {
        const int i = next >= 0 ? next : free_rows[at++];
        next = -1;
        const auto row = costs.row(i);
        double least = infinity(), second = infinity();  // of this thread
        unsigned place = 0xffffffffu, second_place = 0xffffffffu;
#pragma unroll
        for (int k = 0; k < SLOTS; ++k) {
            const int j = team.rank + k * THREADS;
            const double d = j < all.m ? row(j) - own.own_g[k] : infinity();
            if (d < least) {
                second = least;
                second_place = place;
                least = d;
                place = (unsigned)j;
            } else if (d < second) {
                second = d;
                second_place = (unsigned)j;
            }
        }
        const Least one = team.least(least, place);
        if (!(one.value < infinity())) {
            if (team.rank == 0) free_rows[left] = i;
            ++left;
            continue;
        }
        int j = (int)one.at;
        const double before = all.g[j];
        const bool mine = j % THREADS == team.rank;
        const Least two = team.least(mine ? second : least, mine ? second_place : place);
        const double lowered = two.value < infinity() ? before - (two.value - one.value) : before;
        const bool strict = lowered < before;
        if (!strict && all.row[j] >= 0 && two.value == one.value) j = (int)two.at;
        const int other = all.row[j];
        team.sync();
        // selections, for a branch on k would put the registers into memory
#pragma unroll
        for (int k = 0; k < SLOTS; ++k) {
            const bool here = j == team.rank + k * THREADS;
            own.own_row[k] = here ? i : own.own_row[k];
            own.own_g[k] = here && strict ? lowered : own.own_g[k];
        }
        if (j % THREADS == team.rank) {
            if (strict) all.g[j] = lowered;
            all.row[j] = i;
            all.col[i] = j;
            if (other >= 0) all.col[other] = -1;
        }
        --bids;
        if (other >= 0) {
            if (strict && bids > 0) {
                next = other;
            } else {
                if (team.rank == 0) free_rows[left] = other;
                ++left;
            }
        }
        team.sync();
    }
    team.sync();
    return left;
}

// costs (batch, n, m) at any strides (in elements), as sign * costs. cols (batch, n): column of each row, -1 throughout
// where a problem is refused; f (batch, n), g (batch, m): potentials; bounds (batch, 6): the value and the dual value
// as pairs, then sum |f| and sum |g|, plain. f, g and bounds may be null. info (batch, 2): the row that cannot be
// matched and the size of its tree; bits of what went wrong are added to the status.
template <class Cost, int THREADS, int SLOTS, bool CACHED>
__global__ void __launch_bounds__(THREADS == 32 ? 128 : THREADS, THREADS > 128 ? 512 / THREADS : 4)
    jonker_volgenant(const Cost* __restrict__ given, double sign, int batch, int n, int m, long long by_problem,
                     long long by_row, long long by_column, double tolerance, long long* __restrict__ cols,
                     double* __restrict__ f, double* __restrict__ g, double* __restrict__ bounds,
                     int* __restrict__ info, int* __restrict__ status, int bytes) {
    constexpr int TEAMS = THREADS == 32 ? 4 : 1;
    extern __shared__ __align__(16) unsigned char space[];
    __shared__ Slot slots[64];
    __shared__ Pair64 room[32];
    __shared__ int counts[TEAMS];
    const int which = (int)threadIdx.x / THREADS, b = (int)blockIdx.x * TEAMS + which;
    if (b >= batch) return;  // a whole warp: no barrier of the block follows where there are several teams
    Team<THREADS> team(slots);
    unsigned char* at = space + (long long)which * bytes;
    Matching all;
    const Cost* here = given + b * by_problem;
    Rows<Cost> costs = {here, by_row};
    bool bad = false;
    if (CACHED) {
        const int pitch = m | 1;  // rows and columns of the tile are then both read without bank conflicts
        Cost* tile = (Cost*)at;
        at += even8((long long)n * pitch * (long long)sizeof(Cost));
        const bool by_rows = by_column <= by_row;
        const int inner = by_rows ? m : n, outer = by_rows ? n : m;
        const long long step = by_rows ? by_column : by_row, stride = by_rows ? by_row : by_column;
        // entry e of the tile: its line and its place there, kept up without divisions
        int line = team.rank / inner, place = team.rank % inner;
        const int lines = THREADS / inner, places = THREADS % inner;
#pragma unroll 4
        for (int e = team.rank; e < inner * outer; e += THREADS) {
            Cost c = (Cost)sign * here[line * stride + place * step];
            if (!(c > -(Cost)infinity())) {
                bad = true;
                c = (Cost)infinity();
            }
            tile[by_rows ? line * pitch + place : place * pitch + line] = c;
            line += lines;
            place += places;
            if (place >= inner) {
                place -= inner;
                ++line;
            }
        }
        costs = {tile, pitch};
    }
    all.g = (double*)at;
    all.col = (int*)(at + 8ll * m);
    int* free_rows = all.col + n;
    all.row = free_rows + n;
    all.via = all.row + m;
    all.m = m;
    for (int i = team.rank; i < n; i += THREADS) all.col[i] = 0x7fffffff;
    team.sync();

    Registers<THREADS, SLOTS> own;
    own.in_tree = 0;
    if (n == m) {
        reduce_columns(team, own, costs, all, n);
    } else {
#pragma unroll
        for (int k = 0; k < SLOTS; ++k) {
            const int j = team.rank + k * THREADS;
            own.own_g[k] = 0.0;
            own.own_row[k] = -1;
            if (j < m) {
                all.g[j] = 0.0;
                all.row[j] = -1;
            }
        }
    }
    int count = list_free(team, all, n, free_rows, &counts[which]);
    for (int pass = 0; pass < 2; ++pass) count = reduce_rows(team, own, costs, all, free_rows, count);
    int unmatched = -1, tree = 0;
    for (int t = 0; t < count && unmatched < 0; ++t) {
        const int row = free_rows[t];
        tree = shortest_path(team, own, costs, all, row);
        if (tree < 0) unmatched = row;
    }
    team.sync();

    // the proof, a warp for each row
    const bool refused = unmatched >= 0 || team.least(bad ? 0.0 : 1.0, 0).value == 0.0;
    Pair64 primal = {0.0, 0.0}, dual = {0.0, 0.0}, size_f = {0.0, 0.0}, size_g = {0.0, 0.0};
    for (int i = team.rank / 32; i < n; i += THREADS / 32) {
        const auto row = costs.row(i);
        double least = infinity();
        for (int j = team.rank % 32; j < m; j += 32) {
            const double d = row(j) - all.g[j];
            least = d < least ? d : least;
        }
        unsigned long long key = ascending(least);
        unsigned nobody = 0;
        warp_least(key, nobody);
        if (team.rank % 32 == 0) {
            const double potential = number(key);
            const int j = refused ? -1 : all.col[i];
            if (j >= 0) {
                primal = plus(primal, row(j));
                dual = plus(dual, potential);
                size_f = plus(size_f, fabs(potential));
            }
            cols[(long long)b * n + i] = j;
            if (f) f[(long long)b * n + i] = potential;
        }
    }
#pragma unroll
    for (int k = 0; k < SLOTS; ++k) {
        const int j = team.rank + k * THREADS;
        if (j < m) {
            dual = plus(dual, own.own_g[k]);
            size_g = plus(size_g, fabs(own.own_g[k]));
            if (g) g[(long long)b * m + j] = own.own_g[k];
        }
    }
    primal = team.sum(primal, room);
    dual = team.sum(dual, room);
    size_f = team.sum(size_f, room);
    size_g = team.sum(size_g, room);
    if (team.rank == 0) {
        const double gap = (primal.high - dual.high) + (primal.low - dual.low);
        const double terms = fabs(primal.high) + size_f.high + size_g.high;
        const double allowed = fmax(tolerance * fabs(dual.high), 8.0 * 2.220446049250313e-16 * terms);
        int wrong = 0;
        if (unmatched >= 0) wrong = UNMATCHED;
        if (!refused && !(gap <= allowed)) wrong = UNPROVED;
        info[2ll * b] = unmatched;
        info[2ll * b + 1] = unmatched >= 0 ? -1 - tree : 0;
        if (wrong) atomicOr(status, wrong);
        if (bounds) {
            double* out = bounds + 6ll * b;
            out[0] = primal.high;
            out[1] = primal.low;
            out[2] = dual.high;
            out[3] = dual.low;
            out[4] = size_f.high;
            out[5] = size_g.high;
        }
    }
    if (bad) atomicOr(status, NOT_A_NUMBER);
}

// out (batch, n, m), contiguous, = sign * given; NaN and -inf become +inf and are noted, and so are integers that
// float64 would round. Tiles of 32 x 32 by blocks of 32 x 8.
template <class Given, class Cost>
__global__ void __launch_bounds__(256)
    prepare(const Given* __restrict__ given, double sign, int n, int m, long long by_problem, long long by_row,
            long long by_column, Cost* __restrict__ out, int* __restrict__ status) {
    __shared__ Cost tile[32][33];
    const int x = (int)threadIdx.x, y = (int)threadIdx.y;
    const int tiles = (m + 31) / 32;
    const int i0 = (int)(blockIdx.x / tiles) * 32, j0 = (int)(blockIdx.x % tiles) * 32;
    const Given* here = given + (long long)blockIdx.y * by_problem;
    const bool by_rows = by_column <= by_row, whole = (Given)0.5 == (Given)0;
    bool bad = false, large = false;
#pragma unroll
    for (int k = 0; k < 32; k += 8) {
        const int i = i0 + (by_rows ? y + k : x), j = j0 + (by_rows ? x : y + k);
        if (i < n && j < m) {
            const Given entry = here[i * by_row + j * by_column];
            large |= whole && (entry > (Given)9007199254740992ll || (double)entry < -9007199254740992.0);
            Cost c = (Cost)sign * (Cost)entry;
            if (!(c > -(Cost)infinity())) {
                bad = true;
                c = (Cost)infinity();
            }
            tile[by_rows ? y + k : x][by_rows ? x : y + k] = c;
        }
    }
    __syncthreads();
    Cost* to = out + (long long)blockIdx.y * n * m;
#pragma unroll
    for (int k = 0; k < 32; k += 8) {
        const int i = i0 + y + k, j = j0 + x;
        if (i < n && j < m) to[(long long)i * m + j] = tile[y + k][x];
    }
    if (bad) atomicOr(status, NOT_A_NUMBER);
    if (large) atomicOr(status, TOO_LARGE);
}

// Rows and columns of problems whose n matched lines, of m, are cols (batch, n): ascending by rows. Lines are rows
// where `turned` is 0, columns otherwise. owner (batch, m): scratch.
__global__ void __launch_bounds__(256)
    pairs_of(const long long* __restrict__ cols, int n, int m, int turned, int* __restrict__ owner,
             long long* __restrict__ out_rows, long long* __restrict__ out_cols) {
    const long long b = blockIdx.x;
    const int t = (int)threadIdx.x;
    cols += b * n;
    out_rows += b * n;
    out_cols += b * n;
    owner += b * m;
    if (!turned || cols[0] < 0) {
        for (int i = t; i < n; i += 256) {
            out_rows[i] = cols[0] < 0 ? -1 : i;
            out_cols[i] = cols[i];
        }
        return;
    }
    __shared__ int found[9];
    for (int j = t; j < m; j += 256) owner[j] = -1;
    __syncthreads();
    for (int i = t; i < n; i += 256) owner[cols[i]] = i;
    __syncthreads();
    int done = 0;
    for (int j0 = 0; j0 < m; j0 += 256) {
        const int j = j0 + t, mine = j < m ? owner[j] : -1;
        const unsigned mask = __ballot_sync(FULL_WARP, mine >= 0);
        if (t % 32 == 0) found[t / 32] = __popc(mask);
        __syncthreads();
        int at = done + __popc(mask & ((1u << (t % 32)) - 1u));
        for (int w = 0; w < 8; ++w) {
            if (w < t / 32) at += found[w];
            done += found[w];
        }
        if (mine >= 0) {
            out_rows[at] = j;
            out_cols[at] = mine;
        }
        __syncthreads();
    }
}
