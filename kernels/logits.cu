// Row-wise divergences between softmax(P) and softmax(Q), from the logits: nothing underflows on the way.
//
//   log p_k = (x_k - max x) - log sum exp(x - max x); D = finish(sum over bins of term(p_k, q_k)). Source: logits.py.
//
// Floor: 2k reads a row and one or two k writes. Two passes read the row, the maximum with the sum of exponentials in
// one of them, and a gradient takes a third: from the L1 or L2 cache up to about 16,000 bins, beyond at worst 2 (values)
// and 7/3 (both gradients) of the floor. Arithmetic of a float32 bin: 50 operations in double
// (the exponentials of the partition, whose error every probability shares, and differences of logits) and 60 to 110 in
// float a pass, against 24 and 48 that the memory of an H200 leaves time for: 2 to 3 times the floor, by computation.
//
// Differences of logits are taken in double, where those of float32 and half logits are exact, and rounded once.
// float formulas serve packs whose probabilities are 0 or above 2^-59; other packs, and float64, go through double.
#include "logit_row.cuh"

struct Partitions {
    Partition p, q;
    int found;  // bits: 1 p invalid, 2 q invalid

    __device__ __forceinline__ void write(double* to) const {
        to[0] = p.top, to[1] = p.sum, to[2] = q.top, to[3] = q.sum, to[4] = (double)found;
    }
    __device__ __forceinline__ void add(const double* from) {
        p.add(from[0], from[1]), q.add(from[2], from[3]), found |= (int)from[4];
    }
};

// Both partitions of a row by a team; with a single argument the second is the first.
template <class Row, class Tag>
__device__ __forceinline__ Partitions partitions(const Row& row, const Tag&, int team, double* room) {
    Partitions y = {{-(double)INFINITY, 0.0}, {-(double)INFINITY, 0.0}, 0};
    y.found = row.partition(row.p, y.p);
    y.p.over(team, room);
    if (Tag::UNARY) {
        y.q = y.p;
    } else {
        y.found |= row.partition(row.q, y.q) << 1;
        y.q.over(team, room);
    }
    y.found = team_or(y.found, team, room);
    return y;
}

// `phase`, `partial` and the rest as for `rows`.
template <class T, class O, class Tag, bool GRAD>
__global__ void __launch_bounds__(256, Tag::UNROLL < 4 ? 1 : 2) logit_rows(
    const T* __restrict__ P, const T* __restrict__ Q, long long n, int k, long long n0, long long n1, long long n2,
    long long n3, long long p0, long long p1, long long p2, long long p3, long long q0, long long q1, long long q2,
    long long q3, double alpha, double less, int reach, int kind, double scale, double c, double order, int literal,
    int team, int phase, int splits, double* partial, void* V, int value_kind, O* GP, O* GQ, int* flags, int word_p,
    int word_q, int* repair) {
    __shared__ double room[32];
    const int teams = blockDim.x / team, rank = threadIdx.x % team;
    const long long slot = (long long)blockIdx.x * teams + threadIdx.x / team;
    const int part = (int)(slot % splits);
    const bool there = slot / splits < n;
    const long long r = there ? slot / splits : n - 1;
    const Batch batch = {n0, n1, n2, n3};
    const int share = ((k + splits - 1) / splits + 31) / 32 * 32, begin = min(part * share, k), end = min(begin + share, k);
    const Tag tag(alpha, less, reach);
    LogitRow<T, O, Tag, GRAD> row(tag, P + batch.at(r, p0, p1, p2, p3), Q + batch.at(r, q0, q1, q2, q3),
                                  GP && there ? GP + r * k : nullptr, GQ && there ? GQ + r * k : nullptr, begin,
                                  there ? end : begin, team, rank);
    double* first = partial + (r * splits) * 8;
    double* second = partial + (n * splits + r * splits) * 8;
    Partitions parts = {{-(double)INFINITY, 0.0}, {-(double)INFINITY, 0.0}, 0};
    if (phase <= 1) {
        parts = partitions(row, tag, team, room);
        if (phase == 1) {
            if (rank == 0 && there) parts.write(first + part * 8);
            return;
        }
    } else {
        for (int i = 0; i < splits; i++) parts.add(first + i * 8);
    }
    row.top_p = parts.p.top, row.log_p = log(parts.p.sum), row.top_q = parts.q.top, row.log_q = log(parts.q.sum);
    LogitSums whole = {0.0, 0.0, 0.0, 0.0, 0.0};
    if (phase != 3) {
        row.terms(whole);
        whole.value = team_sum(whole.value, team, room), whole.lost = team_sum(whole.lost, team, room);
        if (Tag::AFFINE) whole.affinity = team_sum(whole.affinity, team, room);
        if (GRAD) whole.mean_p = team_sum(whole.mean_p, team, room), whole.mean_q = team_sum(whole.mean_q, team, room);
        if (phase == 2) {
            double* to = second + part * 8;
            if (rank == 0 && there)
                to[0] = whole.value, to[1] = whole.lost, to[2] = whole.affinity, to[3] = whole.mean_p, to[4] = whole.mean_q;
            return;
        }
    } else {
        for (int i = 0; i < splits; i++) {
            const double* from = second + i * 8;
            whole.value += from[0], whole.lost += from[1], whole.affinity += from[2];
            whole.mean_p += from[3], whole.mean_q += from[4];
        }
    }
    if (!there) return;
    const int bad_p = (parts.found & 1 ? INVALID_ENTRY : 0) | (parts.p.sum == 0.0 ? NO_FINITE_ENTRY : 0);
    const int bad_q = (parts.found & 2 ? INVALID_ENTRY : 0) | (parts.q.sum == 0.0 ? NO_FINITE_ENTRY : 0);
    const bool broken = bad_p || bad_q;
    const Finish finish = {kind, scale, c, order, literal != 0};
    const Finished done = finish_row(finish, whole.value, whole.lost > 0.0, whole.affinity, 1.0, 1.0, LEAST_AFFINITY);
    const double value = broken ? (double)NAN_VALUE : done.value;
    if (rank == 0 && part == 0) {
        if (bad_p) raise_flag(flags + word_p, bad_p);
        if (bad_q) raise_flag(flags + word_q, bad_q);
        if (done.faint && !broken) repair[1 + r] = 1, raise_flag(repair, 1);
        store_value(V, value_kind, r, value);
    }
    if (GRAD) row.spread(whole, done.f, fabs(value) == (double)INFINITY, broken);
}

// The rows whose affinity has left the range, in logarithms.
template <class T, class O, class Tag, bool GRAD>
__global__ void __launch_bounds__(256, 1) repair_logits(
    const T* __restrict__ P, const T* __restrict__ Q, long long n, int k, long long n0, long long n1, long long n2,
    long long n3, long long p0, long long p1, long long p2, long long p3, long long q0, long long q1, long long q2,
    long long q3, double alpha, double less, int reach, int kind, double scale, double c, double order, int literal,
    void* V, int value_kind, O* GP, O* GQ, const int* repair) {
    __shared__ double room[32];
    if (repair[0] == 0) return;
    const Batch batch = {n0, n1, n2, n3};
    const Tag tag(alpha, less, reach);
    for (long long r = blockIdx.x; r < n; r += gridDim.x) {
        if (repair[1 + r] == 0) continue;
        LogitRow<T, O, Tag, GRAD> row(tag, P + batch.at(r, p0, p1, p2, p3), Q + batch.at(r, q0, q1, q2, q3),
                                      GP ? GP + r * k : nullptr, GQ ? GQ + r * k : nullptr, 0, k, blockDim.x,
                                      threadIdx.x);
        const Partitions parts = partitions(row, tag, blockDim.x, room);
        row.top_p = parts.p.top, row.log_p = log(parts.p.sum), row.top_q = parts.q.top, row.log_q = log(parts.q.sum);
        const double logarithm = row.log_affinity(scale, room);
        if (threadIdx.x == 0) store_value(V, value_kind, r, scale * logarithm);
        if (!GRAD || logarithm != -(double)INFINITY) continue;
        const LogitSums none = {0.0, 0.0, 0.0, 0.0, 0.0};
        row.spread(none, scale, true, false);
    }
}
