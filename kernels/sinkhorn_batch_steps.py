"""Steps of a solver of one small entropic problem, all of it in cache: see `sinkhorn_batch.py` for the mathematics.

Columns are padded to multiples of eight, and rows, with masses and entries of zero.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from otdist.kernels.jit import INLINE
from otdist.kernels.vecmath import LOG2E, exp2, log_ratio, maximum, select

# What does not dissolve into its callers.
_CALLED = {**INLINE, "forceinline": False}
# The potential of a point from which every pair is forbidden, and of padding.
DEAD, PADDING = 1e280, -1e280
# Entries of a plan below 2^FAINT of the largest of their row count as zero: no subnormal numbers.
FAINT = -300.0
# Scalings beyond 2^±60 are absorbed; a column whose sum is below 2^-60 of its target is solved by a log-sum-exp.
SAFE = 2.0**60
# Scalings are watched over so many passes.
WINDOW = 8
# ... and absorbed after so many: products of so many factors lose a few digits.
LIMIT = 256
# Links of the Laplacian below this share of a point are none.
NOTHING = 1e-40


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
            r[i] = a[i] * 2.0 ** min(max(f[i] + level, -1074.0), 900.0)
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


@njit(**_CALLED)
def powers(x, start, stop, kappa):
    """x^kappa of some numbers x, in place."""
    for k in range(start, stop):
        x[k] = exp2(kappa * LOG2E * log_ratio(x[k], 1.0, x[k] - 1.0).log)


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
            powers(u, i, i + 8, kappa)
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
    total = 0.0
    if kappa_a < 1.0 or kappa_b < 1.0:
        for i in range(n):
            total += r[i]
        for j in range(m):
            total += t[j]
        goal *= total
    passes, before, worthwhile = 0, np.inf, True
    while passes < min(limit, LIMIT):
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
            powers(w, 0, m, kappa_b)
            for j in range(m):
                error += v[j] * y[j] * abs(1.0 - w[j] / v[j]) / kappa_b
        for j in range(m):
            v[j] = w[j]
        if error <= goal:
            break
        if patience < np.inf and passes % WINDOW == 0:
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


@njit(**INLINE)
def _share(kappa, mass):
    return kappa / mass if mass > 0.0 else 0.0


@njit(**_CALLED)
def laplacian(P, r, n, m, kappa, A):
    """A[j, k] = kappa sum_i P_ij P_ik / r_i for k > j (what lies below is void), in blocks of 4 x 4, n and m padded."""
    for j in range(m):
        for k in range(m):
            A[j, k] = 0.0
    for i in range(0, n, 4):
        r0, r1, r2, r3 = _share(kappa, r[i]), _share(kappa, r[i + 1]), _share(kappa, r[i + 2]), _share(kappa, r[i + 3])
        for j in range(0, m, 4):
            v0, v1, v2, v3 = P[i][j : j + 4], P[i + 1][j : j + 4], P[i + 2][j : j + 4], P[i + 3][j : j + 4]
            linked = 0.0
            for k in range(4):
                linked += (v0[k] * r0 + v1[k] * r1) + (v2[k] * r2 + v3[k] * r3)
            # rows that give next to nothing to these columns link them to nothing, far below an ulp
            if linked < NOTHING:
                continue
            s = j // 8 * 8
            q0, q1, q2, q3 = P[i][s:m], P[i + 1][s:m], P[i + 2][s:m], P[i + 3][s:m]
            a0, a1, a2, a3 = A[j][s:m], A[j + 1][s:m], A[j + 2][s:m], A[j + 3][s:m]
            w00, w01, w02, w03 = r0 * v0[0], r1 * v1[0], r2 * v2[0], r3 * v3[0]
            w10, w11, w12, w13 = r0 * v0[1], r1 * v1[1], r2 * v2[1], r3 * v3[1]
            w20, w21, w22, w23 = r0 * v0[2], r1 * v1[2], r2 * v2[2], r3 * v3[2]
            w30, w31, w32, w33 = r0 * v0[3], r1 * v1[3], r2 * v2[3], r3 * v3[3]
            for k in range(len(q0)):
                x0, x1, x2, x3 = q0[k], q1[k], q2[k], q3[k]
                a0[k] += (w00 * x0 + w01 * x1) + (w02 * x2 + w03 * x3)
                a1[k] += (w10 * x0 + w11 * x1) + (w12 * x2 + w13 * x3)
                a2[k] += (w20 * x0 + w21 * x1) + (w22 * x2 + w23 * x3)
                a3[k] += (w30 * x0 + w31 * x1) + (w32 * x2 + w33 * x3)


@njit(**_CALLED)
def solve_laplacian(A, e, x, d, m, padded):
    """x = (diag(row sums of A + e) - A)^-1 x by elimination without subtractions, four pivots at a time.

    A and e are destroyed; scratch d (m,): reciprocals of pivots. Where a pivot vanishes, x is 0: the constant that
    balanced potentials leave open.
    """
    for first in range(0, m, 4):
        after = min(first + 4, m)
        for k in range(first, after):
            row = A[k][first:padded]
            for p in range(first, k):
                above = A[p][first:padded]
                w = above[k - first] * d[p]
                for j in range(len(row)):
                    row[j] += w * above[j]
                e[k] += w * e[p]
                x[k] += w * x[p]
            pivot = e[k]
            rest = A[k][k + 1 : m]
            for j in range(len(rest)):
                pivot += rest[j]
            d[k] = 1.0 / pivot if pivot > 1e-290 else 0.0
        if after == m:
            break
        b0, b1, b2, b3 = A[first], A[first + 1], A[first + 2], A[first + 3]
        d0, d1, d2, d3 = d[first], d[first + 1], d[first + 2], d[first + 3]
        e0, e1, e2, e3 = e[first], e[first + 1], e[first + 2], e[first + 3]
        x0, x1, x2, x3 = x[first], x[first + 1], x[first + 2], x[first + 3]
        for i in range(after, m):
            w0, w1, w2, w3 = b0[i] * d0, b1[i] * d1, b2[i] * d2, b3[i] * d3
            if (w0 + w1) + (w2 + w3) < NOTHING:
                continue
            s = i // 8 * 8
            below, q0, q1, q2, q3 = A[i][s:padded], b0[s:padded], b1[s:padded], b2[s:padded], b3[s:padded]
            for j in range(len(below)):
                below[j] += (w0 * q0[j] + w1 * q1[j]) + (w2 * q2[j] + w3 * q3[j])
            e[i] += (w0 * e0 + w1 * e1) + (w2 * e2 + w3 * e3)
            x[i] += (w0 * x0 + w1 * x1) + (w2 * x2 + w3 * x3)
    for k in range(m - 1, -1, -1):
        row, known = A[k][k + 1 : m], x[k + 1 : m]
        s = x[k]
        for j in range(len(row)):
            s += row[j] * known[j]
        x[k] = s * d[k]


@njit(**_CALLED)
def measure(Z, per, a, b, g, n, m, kappa_a, kappa_b, offset, P, r, f, c, t):
    """`absorb`, with the targets t of the columns; their error and the least sum in terms of its target.

    The error includes rows without a pair, and is relative to all targets where marginals have a price.
    """
    absorb(Z, per, a, b, g, n, m, kappa_a, offset, P, r, f, c)
    column_targets(b, g, m, kappa_b, t)
    error, targets, least = 0.0, 0.0, np.inf
    for j in range(m):
        error += abs(c[j] - t[j])
        targets += t[j]
        if t[j] > 0.0:
            least = min(least, c[j] / t[j])
    rows, missing = 0.0, 0.0
    for i in range(n):
        rows += r[i]
        missing += a[i] - r[i]
    if kappa_a < 1.0 or kappa_b < 1.0:
        return (error / (rows + targets) if rows + targets > 0.0 else 0.0), least
    return error + max(missing, 0.0), least
