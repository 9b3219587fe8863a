"""Many small entropic problems, each solved whole by one thread with all it needs in its own cache.

Of one problem, in powers of two: P_ij = a_i b_j 2^(f_i + g_j - z_ij), z = log2(e) (c - least cost) / epsilon, so that an
offset of the costs costs no digits. Rows whose mass is zero, and columns, come last in Z and are never read.

**Absorption.** Given g, the rows are eliminated by a true log-sum-exp and P is stored; its column sums measure the
error. From there scalings u, v of P need no exponentials: (P v)_i gives u_i, (P^T u)_j gives v_j, in one pass over blocks
of eight rows. With marginals that have a price, u = (r / P v)^kappa_a and v = (t / P^T u)^kappa_b, r and t being the
row sums and the column targets at absorption. Scalings that leave the safe range are absorbed.

**Newton.** Where the scalings converge slowly, one step of Newton for the semi-dual (the dual as a function of g alone,
rows eliminated), whose Hessian is a Laplacian up to a diagonal e >= 0,

    H = diag(sum of A + e) - A,   A = kappa_a P^T diag(1/r) P,   e = (1 - kappa_a) c + (1/kappa_b - 1) t + damping.

Elimination that stores A and e and takes every pivot as a sum of what is left of them (Grassmann, Taksar & Heyman 1985)
subtracts nothing, so each pivot is right to a few ulp however nearly the plan falls apart into unconnected pieces, as it
does at small epsilon. A step is accepted unless the derivative along it turns and grows to half its first size. The
damping, a multiple of |t - c|, bounds steps where the plan has hardly any mass to shift (Levenberg 1944).

**Path.** Spread costs are approached through larger epsilon, each stage started from the potentials of the last.

Measured on one AVX-512 core, 64 x 64, float64: a pass 0.35 us (0.085 ns per pair, the bound of two loads per cycle is
0.06), an absorption 2.5 us, a step of Newton 10 us.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from otdist.kernels.costs import add, finish
from otdist.kernels.jit import INLINE, kernel
from otdist.kernels.vecmath import LOG2E, exp2, log_ratio, maximum, select

# What is called from several places and does not dissolve.
_CALLED = {**INLINE, "forceinline": False}
# Rows and columns are padded to multiples of this, with pairs that never carry mass.
LANES = 8
# Vectors of scratch for each column.
COLWISE = 10
# The potential of a point from which every pair is forbidden, and of padding.
DEAD, PADDING = 1e280, -1e280
# Entries of a plan below 2^FAINT of the largest of their row count as zero: no subnormal numbers.
FAINT = -300.0
# Scalings beyond 2^±60 are absorbed; a column whose sum is below 2^-60 of its target is solved by a log-sum-exp.
SAFE = 2.0**60
# Stages: the first epsilon is at least the spread of the costs over FIRST, each next one is smaller by FACTOR; how
# accurately they are solved.
FIRST, FACTOR, ROUGH = 16.0, 4.0, 0.001
# Scalings are watched over so many passes.
WINDOW = 8
# Longest step of Newton, in powers of two.
LONGEST = 24.0
# Below this error a problem that does not get better has met the rounding of its potentials.
FLOOR = 1e-6
CONVERGED, MAX_ITER, STALLED = 0, 1, 2


@njit(**INLINE)
def order(mass, to):
    """Indices of positive masses into `to`, then those of the others; how many there are of the first."""
    n = len(mass)
    count = 0
    for i in range(n):
        if mass[i] > 0.0:
            to[count] = i
            count += 1
    rest = count
    for i in range(n):
        if not mass[i] > 0.0:
            to[rest] = i
            rest += 1
    return count


@njit(**INLINE)
def scale_costs(Z, n, m, rows, cols, epsilon):
    """z from costs, in place; the least cost and the largest z among pairs of positive mass."""
    least, most = np.inf, -np.inf
    for i in range(rows):
        for j in range(cols):
            c = Z[i, j]
            least = min(least, c)
            most = max(most, select(c == np.inf, -np.inf, c))
    least = select(least == np.inf, 0.0, least)
    most = select(most == -np.inf, 0.0, most)
    per = LOG2E / epsilon
    for i in range(len(Z)):
        for j in range(Z.shape[1]):
            Z[i, j] = (Z[i, j] - least) * per if i < n and j < m else np.inf
    return least, max((most - least) * per, 0.0)


@kernel
def load_costs(C, a, b, epsilon, Z, rows, cols, counts, least, spread, start, stop):
    """Z[q] = z of the problem start + q from its cost matrix, its rows and columns of positive mass first.

    rows (q, n), cols (q, m) int64: which they are; counts (q, 2): how many have mass; least, spread (q,).
    """
    n, m = C.shape[1:]
    for q in range(stop - start):
        k = start + q
        counts[q, 0], counts[q, 1] = order(a[k], rows[q]), order(b[k], cols[q])
        for i in range(n):
            for j in range(m):
                Z[q, i, j] = C[k, rows[q, i], cols[q, j]]
        least[q], spread[q] = scale_costs(Z[q], n, m, counts[q, 0], counts[q, 1], epsilon[k])


@kernel
def load_points(tag, X, Y, a, b, epsilon, Z, turned, rows, cols, counts, least, spread, start, stop):
    """`load_costs` from points; scratch turned (d, m), float64."""
    n, m, d = X.shape[1], Y.shape[1], X.shape[2]
    for q in range(stop - start):
        k = start + q
        counts[q, 0], counts[q, 1] = order(a[k], rows[q]), order(b[k], cols[q])
        for j in range(m):
            for s in range(d):
                turned[s, j] = Y[k, cols[q, j], s]
        for i in range(n):
            out = Z[q, i]
            for j in range(m):
                out[j] = 0.0
            for s in range(d):
                x = np.float64(X[k, rows[q, i], s])
                for j in range(m):
                    out[j] = add(tag, out[j], x - turned[s, j])
            for j in range(m):
                out[j] = finish(tag, out[j])
        least[q], spread[q] = scale_costs(Z[q], n, m, counts[q, 0], counts[q, 1], epsilon[k])


@njit(**_CALLED)
def absorb(Z, per, a, b, g, n, m, kappa, offset, P, r, f, c):
    """Eliminate the rows at g: f, P, its row sums r and column sums c.

    offset: what the least cost is worth here, in powers of two.
    """
    for j in range(m):
        c[j] = 0.0
    for i in range(n):
        z, p = Z[i], P[i]
        top = -np.inf
        for j in range(m):
            top = maximum(top, g[j] - per * z[j])
        if top == -np.inf:
            f[i], r[i] = DEAD, 0.0
            for j in range(m):
                p[j] = 0.0
            continue
        total = 0.0
        for j in range(m):
            t = g[j] - per * z[j] - top
            e = select(t < FAINT, 0.0, b[j] * exp2(t))
            p[j] = e
            total += e
        level = top + np.log2(total)
        if kappa == 1.0:
            f[i], r[i] = -level, a[i]
        else:
            f[i] = -kappa * level - (1.0 - kappa) * offset
            r[i] = a[i] * 2.0 ** min(max(f[i] + level, -900.0), 900.0)
        scale = r[i] / total
        for j in range(m):
            p[j] *= scale
            c[j] += p[j]


@njit(**_CALLED)
def eliminate_columns(Z, per, a, b, f, n, m, kappa, g, top, total):
    """g given f, by a true log-sum-exp; scratch top, total (m,)."""
    for j in range(m):
        top[j], total[j] = -np.inf, 0.0
    for i in range(n):
        z, at = Z[i], f[i]
        for j in range(m):
            top[j] = maximum(top[j], at - per * z[j])
    for j in range(m):
        top[j] = select(top[j] == -np.inf, PADDING, top[j])
    for i in range(n):
        z, at, mass = Z[i], f[i], a[i]
        for j in range(m):
            t = at - per * z[j] - top[j]
            total[j] += select(t < FAINT, 0.0, mass * exp2(t))
    for j in range(m):
        if total[j] > 0.0:
            g[j] = -kappa * (top[j] + np.log2(total[j]))
        elif kappa < 1.0:
            g[j] = DEAD


@njit(**_CALLED)
def column_targets(b, g, m, kappa, t):
    """What the columns are to sum to."""
    for j in range(m):
        t[j] = b[j]
    if kappa < 1.0:
        for j in range(m):
            t[j] = b[j] * 2.0 ** min(max(-(1.0 / kappa - 1.0) * g[j], -1074.0), 900.0)


@njit(**INLINE)
def _power(ratio_of, to, kappa):
    return exp2(kappa * LOG2E * log_ratio(ratio_of, to, ratio_of - to).log)


@njit(**_CALLED)
def sweep(P, r, n, m, kappa, v, u, y):
    """u = (r / P v)^kappa and y = P^T u, in blocks of eight rows, to which n is rounded up; whether u stayed safe."""
    for j in range(m):
        y[j] = 0.0
    least, most = np.inf, 0.0
    for i in range(0, n, 8):
        p0, p1, p2, p3, p4, p5, p6, p7 = P[i], P[i + 1], P[i + 2], P[i + 3], P[i + 4], P[i + 5], P[i + 6], P[i + 7]
        s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
        for j in range(m):
            x = v[j]
            s0 += p0[j] * x
            s1 += p1[j] * x
            s2 += p2[j] * x
            s3 += p3[j] * x
            s4 += p4[j] * x
            s5 += p5[j] * x
            s6 += p6[j] * x
            s7 += p7[j] * x
        u[i], u[i + 1], u[i + 2], u[i + 3], u[i + 4], u[i + 5], u[i + 6], u[i + 7] = s0, s1, s2, s3, s4, s5, s6, s7
        for k in range(i, i + 8):
            u[k] = select(r[k] > 0.0, r[k] / u[k], 1.0)
            least, most = min(least, u[k]), max(most, u[k])
        if kappa < 1.0:
            for k in range(i, i + 8):
                u[k] = _power(u[k], 1.0, kappa)
        u0, u1, u2, u3, u4, u5, u6, u7 = u[i], u[i + 1], u[i + 2], u[i + 3], u[i + 4], u[i + 5], u[i + 6], u[i + 7]
        for j in range(m):
            left = (u0 * p0[j] + u1 * p1[j]) + (u2 * p2[j] + u3 * p3[j])
            y[j] += left + ((u4 * p4[j] + u5 * p5[j]) + (u6 * p6[j] + u7 * p7[j]))
    return least > 1.0 / SAFE and most < SAFE


@njit(**_CALLED)
def relax(P, r, t, g, n, m, kappa_a, kappa_b, goal, patience, limit, u, v, w, y):
    """Scale the absorbed plan, and take the scalings over into g; passes, and whether this is the way to go on.

    Ends at the error `goal`, after `limit` passes, out of the safe range, or where more than `patience` passes are to
    come as the error falls now. Scratch v, w, y (m,).
    """
    for j in range(m):
        v[j] = 1.0
        w[j] = 1.0
    passes, before, worthwhile = 0, np.inf, True
    while passes < limit:
        safe = sweep(P, r, n, m, kappa_a, v, u, y)
        passes += 1
        error, least, most = 0.0, np.inf, 0.0
        for j in range(m):
            error += abs(v[j] * y[j] - t[j]) if kappa_b == 1.0 else 0.0
            x = select(t[j] > 0.0, t[j] / y[j], 1.0)
            w[j] = x
            least, most = min(least, x), max(most, x)
        if not (safe and least > 1.0 / SAFE and most < SAFE):
            break
        if kappa_b < 1.0:
            for j in range(m):
                w[j] = _power(w[j], 1.0, kappa_b)
                error += v[j] * y[j] * abs(1.0 - w[j] / v[j]) / kappa_b
        for j in range(m):
            v[j] = w[j]
        if error <= goal:
            break
        if passes % WINDOW == 0:
            if not error < before:
                worthwhile = False
                break
            if before < np.inf and np.log(goal / error) * WINDOW < patience * np.log(error / before):
                worthwhile = False
                break
            before = error
    for j in range(m):
        g[j] += np.log2(v[j])
    return passes, worthwhile


@njit(**_CALLED)
def laplacian(P, r, n, m, kappa, A):
    """A[j, k] = kappa sum_i P_ij P_ik / r_i for k > j (what lies below is void); n is rounded up to fours."""
    for j in range(m):
        for k in range(m):
            A[j, k] = 0.0
    for i in range(0, n, 4):
        p0, p1, p2, p3 = P[i], P[i + 1], P[i + 2], P[i + 3]
        r0 = kappa / r[i] if r[i] > 0.0 else 0.0
        r1 = kappa / r[i + 1] if r[i + 1] > 0.0 else 0.0
        r2 = kappa / r[i + 2] if r[i + 2] > 0.0 else 0.0
        r3 = kappa / r[i + 3] if r[i + 3] > 0.0 else 0.0
        for j in range(m):
            w0, w1, w2, w3 = r0 * p0[j], r1 * p1[j], r2 * p2[j], r3 * p3[j]
            # a row that gives hardly anything to column j links it to nothing: what is left out is far below an ulp
            if max(max(w0, w1), max(w2, w3)) < 1e-40:
                continue
            row = A[j]
            for k in range(j - j % 8, m):
                row[k] += (w0 * p0[k] + w1 * p1[k]) + (w2 * p2[k] + w3 * p3[k])


@njit(**_CALLED)
def solve_laplacian(A, e, x, m):
    """x = (diag(row sums of A + e) - A)^-1 x by elimination without subtractions; A and e are destroyed.

    Where a pivot vanishes, x is 0: the constant that balanced potentials leave open.
    """
    for k in range(m):
        row = A[k]
        d = e[k]
        for j in range(k + 1, m):
            d += row[j]
        if not d > 1e-290:
            e[k] = np.inf
            continue
        for i in range(k + 1, m):
            w = row[i] / d
            if w < 1e-40:
                continue
            below = A[i]
            for j in range(i - i % 8, m):
                below[j] += w * row[j]
            e[i] += w * e[k]
            x[i] += w * x[k]
        e[k] = d
    for k in range(m - 1, -1, -1):
        row = A[k]
        s = x[k]
        for j in range(k + 1, m):
            s += row[j] * x[j]
        x[k] = s / e[k]


@njit(**INLINE)
def mismatch(c, t, m):
    """Error of the columns, and the least sum in terms of its target."""
    error, least = 0.0, np.inf
    for j in range(m):
        error += abs(c[j] - t[j])
        least = min(least, select(t[j] > 0.0, c[j] / t[j], 1.0))
    return error, least


@kernel
def solve(
    Z, rows, cols, counts, least, spread, a, b, epsilon, kappa, tol, warm, patience, cap,
    gamma, error, passes, code, P, A, rowwise, colwise, start, stop,
):  # fmt: skip
    """Solve the problems start ... stop, loaded into Z.

    a (k, n), b (k, m); gamma (k, m) in nats: the start if `warm`, then the outcome; error, passes, code (k,): outcome.
    patience: passes of scaling that are preferred to Newton's method; cap: passes in all. Scratch: P (n, m), A (m, m),
    rowwise (4, n), colwise (10, m), padded as Z.
    """
    N, M = P.shape
    for q in range(stop - start):
        k = start + q
        n, m = counts[q]
        mass, r, f, u = rowwise[0], rowwise[1], rowwise[2], rowwise[3]
        share, g, c, t, x, g0, v, w, y, g1 = (
            colwise[0], colwise[1], colwise[2], colwise[3], colwise[4], colwise[5], colwise[6], colwise[7], colwise[8],
            colwise[9],
        )  # fmt: skip
        for i in range(N):
            mass[i] = a[k, rows[q, i]] if i < n else 0.0
            r[i] = 0.0
        for j in range(M):
            share[j] = b[k, cols[q, j]] if j < m else 0.0
            g[j] = (gamma[k, cols[q, j]] * LOG2E if warm else 0.0) if j < m else PADDING
        n8, m8 = (n + 7) // 8 * 8, (m + 7) // 8 * 8
        for i in range(n, n8):
            for j in range(m8):
                P[i, j] = 0.0
        done = 0
        stretch = 1.0 if warm else max(1.0, spread[q] / (FIRST * LOG2E))
        total_mass = 0.0
        for i in range(n):
            total_mass += mass[i]
        earlier = 0.0
        code[k] = MAX_ITER
        damping = 0.1
        while True:  # stages
            final = stretch == 1.0
            per = 1.0 / stretch
            ka = kappa[k, 0] / (kappa[k, 0] + stretch * (1.0 - kappa[k, 0]))
            kb = kappa[k, 1] / (kappa[k, 1] + stretch * (1.0 - kappa[k, 1]))
            offset = least[q] * LOG2E / (epsilon[k] * stretch)
            goal = tol if final else max(tol, ROUGH)
            absorb(Z[q], per, mass, share, g, n, m8, ka, offset, P, r, f, c)
            column_targets(share, g, m, kb, t)
            e, low = mismatch(c, t, m)
            done += 1
            newton, idle, best = False, 0, np.inf
            while True:
                scale = 1.0
                if ka < 1.0 or kb < 1.0:
                    scale = 0.0
                    for i in range(n):
                        scale += r[i]
                    for j in range(m):
                        scale += t[j]
                elif e < total_mass:
                    for i in range(n):
                        e += mass[i] - r[i]
                if e <= goal * scale:
                    break
                if done >= cap or idle >= 5:
                    break
                if e < FLOOR * scale:
                    idle = 0 if e < 0.7 * best else idle + 1
                best = min(best, e)
                if low < 1.0 / SAFE or (newton and low < 0.25):
                    eliminate_columns(Z[q], per, mass, share, f, n, m, kb, g, v, w)
                    done += 1
                elif not newton:
                    for j in range(m, m8):
                        t[j] = 0.0
                    some, fast = relax(
                        P, r, t, g, n8, m8, ka, kb, 0.5 * goal * scale, patience, min(256, cap - done), u, v, w, y
                    )
                    done += some
                    newton = not fast
                absorb(Z[q], per, mass, share, g, n, m8, ka, offset, P, r, f, c)
                column_targets(share, g, m, kb, t)
                e, low = mismatch(c, t, m)
                done += 1
                if not newton or e <= goal * scale:
                    continue
                laplacian(P, r, n8, m8, ka, A)
                first = 0.0
                for j in range(m8):
                    x[j] = t[j] - c[j] if j < m else 0.0
                    y[j] = (1.0 - ka) * c[j] + (1.0 / kb - 1.0) * t[j] + damping * abs(x[j]) if j < m else 0.0
                    v[j] = x[j]
                solve_laplacian(A, y, x, m)
                longest = 0.0
                for j in range(m):
                    first += x[j] * v[j]
                    g0[j] = g[j]
                    longest = max(longest, abs(x[j]) * LOG2E)
                step = LOG2E * min(1.0, LONGEST / max(longest, 1e-300))
                tried = 0
                was = e
                while True:
                    for j in range(m):
                        g[j] = g0[j] + step * x[j]
                    absorb(Z[q], per, mass, share, g, n, m8, ka, offset, P, r, f, c)
                    column_targets(share, g, m, kb, t)
                    e, low = mismatch(c, t, m)
                    done += 1
                    tried += 1
                    last = 0.0
                    for j in range(m):
                        last += x[j] * (t[j] - c[j])
                    if last >= -0.5 * first or tried >= 12:
                        break
                    step *= max(0.1, min(0.7, first / (first - last)))
                done += 1
                if tried == 1 and e < 0.5 * was:
                    damping *= 0.4
                    if damping < 0.02:
                        damping = 0.0
                elif tried > 1 or e > 0.9 * was:
                    damping = min(max(2.5 * damping, 0.1), 0.5)
            if done >= cap or final:
                if final and e <= goal * scale:
                    code[k] = CONVERGED
                elif idle >= 5:
                    code[k] = STALLED
                break
            coming = stretch / FACTOR if stretch > 1.001 * FACTOR else 1.0
            # in units of the costs potentials are nearly linear in epsilon
            along = (stretch - coming) / (earlier - stretch) if earlier > 0.0 else 0.0
            for j in range(m):
                here = g[j] * stretch
                g[j] = (here + along * (here - g1[j])) / coming
                g1[j] = here
            earlier, stretch = stretch, coming
        error[k], passes[k] = e / scale, done
        for j in range(m):
            gamma[k, cols[q, j]] = g[j] * (stretch / LOG2E)
