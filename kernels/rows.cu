// Row-wise divergences of histograms, value and gradients: one launch.
//
//   D(p, q) = finish(sum over bins of term(p_k, q_k)); source: rows.py, terms.py, whose accuracy this keeps.
//
// Floor: 2k reads a row, and one or two k writes for gradients. Values, and gradients where finish is linear, move
// exactly that: factor 1. Where the gradient needs the sum first (roots, logarithms), or normalisation does, the row is
// read once more: from the L1 or L2 cache up to about 16,000 bins, beyond at worst 4/2 of the reads. Arithmetic of a
// float32 bin: 12 (TV) to 70 (alpha) instructions, against 48 that the memory of an H200 leaves time for; rows of
// alpha and of float64 logarithms are bound by arithmetic, by up to 1.5 and 4.
//
// A team of 4 to 32 lanes, a block, or several blocks (`splits`) share a row. float32 and half entries are computed
// in float32 in packs whose entries are 0 or within [2^-60, 2^60]; other packs in float64. Packs are summed in
// float64, in an order that depends on shapes, strides and alignment alone. Rows whose scale leaves the range on the way are left to
// `repair_rows`, which redoes them on multiples by powers of two, or in logarithms.
#include "histogram_row.cuh"

// Blocks of 256 threads that a processor should hold at least: registers are shared out by it.
template <class T, class Tag>
__host__ __device__ constexpr int blocks_for(bool grad, bool normalize) {
    return Tag::UNROLL < 4 ? (grad ? 1 : 2) : grad || normalize || sizeof(T) != 4 ? 2 : 3;
}

// `phase`: 0 all at once; a row in several blocks: 1 sums for the normalisation, 2 terms, 3 the value and gradients.
// `partial`: (2, n, splits, 8) doubles. Words of `flags`: word_p, word_q. low <= value <= high is not strained.
template <class T, class O, class Tag, bool GRAD, bool NORMALIZE>
__global__ void __launch_bounds__(256, blocks_for<T, Tag>(GRAD, NORMALIZE)) rows(
    const T* __restrict__ P, const T* __restrict__ Q, long long n, int k, long long n0, long long n1, long long n2,
    long long n3, long long p0, long long p1, long long p2, long long p3, long long q0, long long q1, long long q2,
    long long q3, double alpha, double less, int reach, int kind, double scale, double c, double order, int literal,
    double tolerance, int strain, double low, double high, int team, int phase, int splits,
    double* partial, void* V, int value_kind, O* GP, O* GQ, int* flags, int word_p, int word_q, int* repair) {
    __shared__ double room[32];
    const int teams = blockDim.x / team, rank = threadIdx.x % team;
    const long long slot = (long long)blockIdx.x * teams + threadIdx.x / team;
    const int part = (int)(slot % splits);
    const bool there = slot / splits < n;
    const long long r = there ? slot / splits : n - 1;
    const Batch batch = {n0, n1, n2, n3};
    const int share = ((k + splits - 1) / splits + 31) / 32 * 32, begin = min(part * share, k), end = min(begin + share, k);
    Row<T, O, Tag, GRAD, NORMALIZE> row(Tag(alpha, less, reach), P + batch.at(r, p0, p1, p2, p3),
                                    Q + batch.at(r, q0, q1, q2, q3), GP && there ? GP + r * k : nullptr,
                                    GQ && there ? GQ + r * k : nullptr, begin, there ? end : begin, team, rank);
    const Finish finish = {kind, scale, c, order, literal != 0};
    const bool direct = GRAD && kind == IDENTITY && !NORMALIZE;
    double* first = partial + (r * splits) * 8;
    double* second = partial + (n * splits + r * splits) * 8;
    Spread w = {scale, 0.0, 0.0, 0.0, 0.0, 0, 0, false, false};
    Sums whole = {};
    int found = 0;
    double whole_p = 1.0, whole_q = 1.0;

    if (NORMALIZE) {
        Sums sums = {};
        if (phase <= 1) {
            row.totals(sums);
            sums.over(team, room);
            if (phase == 1) {
                if (rank == 0 && there) sums.write(first + part * 8);
                return;
            }
        } else {
            for (int i = 0; i < splits; i++) sums.add(first + i * 8);
        }
        row.a = 1.0 / sums.p, row.b = 1.0 / sums.q;
        whole_p = sums.p, whole_q = sums.q, found = sums.found;
    }
    if (phase != 3) {
        row.terms(whole, direct, w);
        whole.over(team, room);
        if (phase == 2) {
            if (rank == 0 && there) whole.write(second + part * 8);
            return;
        }
    } else {
        for (int i = 0; i < splits; i++) whole.add(second + i * 8);
    }
    if (!there) return;
    found |= whole.found;
    if (!NORMALIZE) whole_p = whole.p, whole_q = whole.q;
    int bad_p = found & 1 ? INVALID_ENTRY : 0, bad_q = found & 2 ? INVALID_ENTRY : 0;
    if (NORMALIZE) {
        if (whole_p == 0.0) bad_p |= BAD_SUM;
        if (whole_q == 0.0) bad_q |= BAD_SUM;
    } else if (tolerance >= 0.0) {
        if (!(fabs(whole_p - 1.0) <= tolerance)) bad_p |= BAD_SUM;
        if (!(fabs(whole_q - 1.0) <= tolerance)) bad_q |= BAD_SUM;
    }
    const Finished done = finish_row(finish, whole.value, whole.lost > 0.0, whole.affinity, whole_p * row.a,
                                     whole_q * row.b);
    const bool broken = bad_p || bad_q;
    double value = broken ? (double)NAN_VALUE : done.value;
    if (rank == 0 && part == 0) {
        if (bad_p) raise_flag(flags + word_p, bad_p);
        if (bad_q) raise_flag(flags + word_q, bad_q);
        int todo = done.faint ? FAINT : 0;
        if ((strain & 1) && (found & 4)) todo |= STRAINED;
        if ((strain & 2) && !(whole_p > 1e-280 && whole_p < 1e280 && whole_q > 1e-280 && whole_q < 1e280))
            todo |= STRAINED;
        if ((strain & 4) && !(value > low && value <= high)) todo |= STRAINED;
        if (repair && todo && !broken) {
            repair[1 + r] = todo;
            raise_flag(repair, 1);
        }
        store_value(V, value_kind, r, value);
    }
    if (!GRAD || (direct && !broken)) return;
    w.f = done.f, w.h_p = done.h_p, w.h_q = done.h_q, w.broken = broken;
    w.mean_p = done.f * whole.mean_p, w.mean_q = done.f * whole.mean_q;
    w.infinite = fabs(value) == (double)INFINITY;
    row.spread(w);
}

// -(e rounded down to an even number) of x = m 2^e, 1/2 <= m < 1
__device__ __forceinline__ int opposite(double x) { return -((((int)logb(x) + 1) >> 1) * 2); }

// The rows that `rows` has marked: those that strained the range of double are redone on c p, c q (on multiples of
// their own where they are normalised), c a power of two: D(cp, cq) = c^degree D(p, q), plus a logarithm of c for the
// literal ones. Affinities out of range are summed in logarithms.
template <class T, class O, class Tag, bool GRAD, bool NORMALIZE>
__global__ void __launch_bounds__(256, 1) repair_rows(
    const T* __restrict__ P, const T* __restrict__ Q, long long n, int k, long long n0, long long n1, long long n2,
    long long n3, long long p0, long long p1, long long p2, long long p3, long long q0, long long q1, long long q2,
    long long q3, double alpha, double less, int reach, int kind, double scale, double c, double order, int literal,
    double degree, void* V, int value_kind, O* GP, O* GQ, const int* repair) {
    __shared__ double room[32];
    if (repair[0] == 0) return;
    const Batch batch = {n0, n1, n2, n3};
    const Finish finish = {kind, scale, c, order, literal != 0};
    for (long long r = blockIdx.x; r < n; r += gridDim.x) {
        const int todo = repair[1 + r];
        if (todo == 0) continue;
        Row<T, O, Tag, GRAD, NORMALIZE, true> row(Tag(alpha, less, reach), P + batch.at(r, p0, p1, p2, p3),
                                       Q + batch.at(r, q0, q1, q2, q3), GP ? GP + r * k : nullptr,
                                       GQ ? GQ + r * k : nullptr, 0, k, blockDim.x, threadIdx.x);
        int lift_p = 0, lift_q = 0;
        if (todo & STRAINED) {
            double most_p = 0.0, most_q = 0.0, most = 0.0;
            row.sizes(most_p, most_q, most);
            most_p = block_max(most_p, room), most_q = block_max(most_q, room), most = block_max(most, room);
            if (!NORMALIZE && most == 0.0) continue;  // equal rows: nothing to repair
            lift_p = opposite(NORMALIZE ? most_p : most), lift_q = opposite(NORMALIZE ? most_q : most);
            row.root_p = power_of_two(lift_p / 2), row.root_q = power_of_two(lift_q / 2);
        }
        Sums whole = {};
        double whole_p, whole_q;
        if (NORMALIZE) {
            Sums sums = {};
            row.totals(sums);
            sums.over(blockDim.x, room);
            row.a = 1.0 / sums.p, row.b = 1.0 / sums.q;
            whole_p = sums.p, whole_q = sums.q;
        }
        Spread w = {1.0, 0.0, 0.0, 0.0, 0.0, 0, 0, false, false};
        row.terms(whole, false, w);
        whole.over(blockDim.x, room);
        if (!NORMALIZE) whole_p = whole.p, whole_q = whole.q;
        const Finished done = finish_row(finish, whole.value, whole.lost > 0.0, whole.affinity, whole_p * row.a,
                                         whole_q * row.b);
        const double d = NORMALIZE ? 0.0 : degree;
        w.lift_p = (int)((1.0 - d) * lift_p), w.lift_q = (int)((1.0 - d) * lift_q);
        double value = done.value, logarithm = 0.0;
        if (done.faint) {
            logarithm = row.tag.power() > 0.0 ? row.log_affinity(scale, w, room) : -(double)INFINITY;
            const double drift =
                literal ? 0.0 : order * log(whole_p * row.a) + (1.0 - order) * log(whole_q * row.b);
            value = scale * (logarithm - drift);
        }
        const double plain = value;
        value = Row<T, O, Tag, GRAD, NORMALIZE, true>::shift(value, -(int)(d * lift_p));
        if (kind == LOGARITHM && !NORMALIZE) value -= scale * 0.6931471805599453 * lift_p;
        if (threadIdx.x == 0) store_value(V, value_kind, r, value);
        if (!GRAD || (done.faint && logarithm != -(double)INFINITY)) continue;
        w.f = done.f, w.h_p = done.h_p, w.h_q = done.h_q;
        w.mean_p = done.f * whole.mean_p, w.mean_q = done.f * whole.mean_q;
        w.infinite = fabs(plain) == (double)INFINITY;
        row.spread(w);
    }
}

// y[chunk, row, bin] = the sum of x over the chunk's share of the `count` rows that were broadcast to `row`. Innermost
// dimensions first; strides in rows.
template <class In, class Out>
__global__ void __launch_bounds__(256) sum_rows(const In* __restrict__ x, Out* __restrict__ y, long long rows,
                                                long long count, int k, long long n0, long long n1, long long n2,
                                                long long n3, long long s0, long long s1, long long s2, long long s3,
                                                long long m0, long long m1, long long m2, long long m3, long long t0,
                                                long long t1, long long t2, long long t3, int chunks) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= rows * k * chunks) return;
    const long long bin = i % k, row = i / k % rows, chunk = i / k / rows;
    const Batch kept = {n0, n1, n2, n3}, spread = {m0, m1, m2, m3};
    const long long base = kept.at(row, s0, s1, s2, s3), step = (count + chunks - 1) / chunks;
    const long long end = (chunk + 1) * step < count ? (chunk + 1) * step : count;
    double sum = 0.0;
    for (long long j = chunk * step; j < end; j++)
        sum += (double)widen(x[(base + spread.at(j, t0, t1, t2, t3)) * k + bin]);
    y[i] = cast<Out>(sum);
}
