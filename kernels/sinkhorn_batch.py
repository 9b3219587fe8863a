"""Many small entropic problems, each solved whole by one thread with all it needs in its own cache.

Of one problem, in powers of two: P_ij = a_i b_j 2^(f_i + g_j - z_ij), z = log2(e) (c - least cost) / epsilon, so that
an offset of the costs costs no digits. Rows whose mass is zero, and columns, come last in Z and are never read.

**Absorption.** Given g, the rows are eliminated by a true log-sum-exp and P is stored; its column sums measure the
error. From there scalings u, v of P need no exponentials: (P v)_i gives u_i, (P^T u)_j gives v_j, in one pass over
blocks of eight rows. With marginals that have a price, u = (r / P v)^kappa_a and v = (t / P^T u)^kappa_b, r and t being
the row sums and the column targets at absorption. Scalings that leave the safe range are absorbed (Schmitzer 2019).

**Newton.** Where the scalings converge slowly, one step of Newton for the semi-dual (the dual as a function of g alone,
rows eliminated), whose Hessian is a Laplacian up to a diagonal e >= 0,

    H = diag(sum of A + e) - A,   A = kappa_a P^T diag(1/r) P,   e = (1 - kappa_a) c + (1/kappa_b - 1) t + damping.

Elimination that stores A and e and takes every pivot as a sum of what is left of them (Grassmann, Taksar & Heyman
1985) subtracts nothing, so each pivot is right to a few ulp however nearly the plan falls apart into unconnected
pieces, as it does at small epsilon. A step is accepted unless the derivative along it turns and grows to half its first
size. The damping, a multiple of |t - c|, bounds steps where the plan has hardly any mass to shift (Levenberg 1944).

**Path.** Spread costs are approached through larger epsilon, each stage started from the potentials of the last.

Measured on one AVX-512 core, 64 x 64, float64: a pass 0.7 us (0.17 ns per pair; one multiplication unit would allow
half of it, the sums across lanes take the rest), an absorption 4.3 us, a step of Newton 14 us for A and 12 us for the
elimination; 256 x 256: 11, 56, 480 and 330 us.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from otdist.kernels.costs import add, finish
from otdist.kernels.jit import INLINE, kernel
from otdist.kernels.sinkhorn_batch_steps import (
    PADDING,
    SAFE,
    eliminate_columns,
    laplacian,
    measure,
    relax,
    solve_laplacian,
)
from otdist.kernels.vecmath import LOG2E, maximum, minimum, select

# Rows and columns are padded to multiples of this, with pairs that never carry mass.
LANES = 8
# Vectors of scratch for each row and each column.
ROWWISE, COLWISE = 4, 10
# Stages: the first epsilon is at least the spread of the costs over FIRST, each next one is smaller by FACTOR; how
# accurately they are solved.
FIRST, FACTOR, ROUGH = 16.0, 4.0, 0.001
# Longest step of Newton, in powers of two, and trials of it.
LONGEST, TRIALS = 24.0, 12
# Below this error a problem that is not better by a third for IDLE steps has met the rounding of its potentials.
FLOOR, IDLE = 1e-6, 5
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
        z = Z[i]
        for j in range(cols):
            least = minimum(least, z[j])
            most = maximum(most, select(z[j] == np.inf, -np.inf, z[j]))
    least = select(least == np.inf, 0.0, least)
    most = select(most == -np.inf, 0.0, most)
    per = LOG2E / epsilon
    for i in range(len(Z)):
        z = Z[i]
        for j in range(m if i < n else 0):
            z[j] = (z[j] - least) * per
        for j in range(m if i < n else 0, len(z)):
            z[j] = np.inf
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
            out, c = Z[q, i], C[k, rows[q, i]]
            if counts[q, 1] == m:
                for j in range(m):
                    out[j] = c[j]
            else:
                for j in range(m):
                    out[j] = c[cols[q, j]]
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


@kernel
def solve(
    Z, rows, cols, counts, least, spread, a, b, epsilon, kappa, tol, warm, patience, cap,
    gamma, error, passes, code, P, A, rowwise, colwise, start, stop,
):  # fmt: skip
    """Solve the problems start ... stop, loaded into Z.

    a (k, n), b (k, m); gamma (k, m) in nats: the start if `warm`, then the outcome; error, passes, code (k,): outcome.
    patience: passes of scaling that are preferred to Newton's method; cap: passes in all. Scratch: P (n, m), A (m, m),
    rowwise (ROWWISE, n), colwise (COLWISE, m), padded as Z.
    """
    N, M = P.shape
    mass, r, f, u = rowwise[0], rowwise[1], rowwise[2], rowwise[3]
    share, g, c, t, x = colwise[0], colwise[1], colwise[2], colwise[3], colwise[4]
    origin, v, w, y, before = colwise[5], colwise[6], colwise[7], colwise[8], colwise[9]
    for q in range(stop - start):
        k = start + q
        n, m = counts[q]
        z = Z[q]
        for i in range(N):
            mass[i] = a[k, rows[q, i]] if i < n else 0.0
            r[i] = 0.0
        for j in range(M):
            share[j] = b[k, cols[q, j]] if j < m else 0.0
            g[j] = (gamma[k, cols[q, j]] * LOG2E if warm else 0.0) if j < m else PADDING
        n8, m8 = (n + 7) // 8 * 8, (m + 7) // 8 * 8
        for j in range(m8):
            before[j] = 0.0
            for i in range(n, n8):
                P[i, j] = 0.0
        # where marginals have a price an offset of the costs matters, too
        priced = kappa[k, 0] < 1.0 or kappa[k, 1] < 1.0
        reach = max(spread[q], abs(least[q]) * LOG2E / epsilon[k] if priced else 0.0)
        stretch = 1.0 if warm else max(1.0, reach / (FIRST * LOG2E))
        done, earlier, damping = 0, 0.0, 0.1
        e, low, goal, idle = np.inf, 1.0, tol, 0
        while True:
            final = stretch == 1.0
            per = 1.0 / stretch
            ka = kappa[k, 0] / (kappa[k, 0] + stretch * (1.0 - kappa[k, 0]))
            kb = kappa[k, 1] / (kappa[k, 1] + stretch * (1.0 - kappa[k, 1]))
            offset = least[q] * LOG2E / (epsilon[k] * stretch)
            goal = tol if final else max(tol, ROUGH)
            newton, solved, pending = False, False, False
            idle, best, was = 0, np.inf, np.inf
            tried, step, first = 0, 1.0, 0.0
            while True:
                e, low = measure(z, per, mass, share, g, n, m8, ka, kb, offset, P, r, f, c, t)
                done += 1
                if pending:
                    last = 0.0
                    for j in range(m):
                        last += x[j] * (t[j] - c[j])
                    if last < -0.5 * first and tried < TRIALS:
                        step *= max(0.1, min(0.7, first / (first - last)))
                        tried += 1
                        for j in range(m):
                            g[j] = origin[j] + step * x[j]
                        continue
                    if tried > 1 or e > 0.9 * was:
                        damping = min(max(2.5 * damping, 0.1), 0.5)
                    elif e < 0.5 * was:
                        damping = 0.4 * damping if damping > 0.05 else 0.0
                    pending, solved = False, False
                if e <= goal or done >= cap or idle >= IDLE:
                    break
                if e < FLOOR:
                    idle = 0 if e < 0.7 * best else idle + 1
                best = min(best, e)
                if low < 1.0 / SAFE or (newton and low < 0.25 and not solved):
                    eliminate_columns(z, per, mass, share, f, n, m, kb, g, v, w)
                    done += 1
                    solved = True
                    continue
                if not newton:
                    some, fast = relax(P, r, t, g, n8, m8, ka, kb, 0.5 * goal, patience, cap - done, u, v, w, y)
                    done += some
                    newton = not fast
                    continue
                laplacian(P, r, n8, m8, ka, A)
                for j in range(m8):
                    x[j] = t[j] - c[j]
                    v[j] = x[j]
                    y[j] = (1.0 - ka) * c[j] + (1.0 / kb - 1.0) * t[j] + damping * abs(x[j])
                solve_laplacian(A, y, x, w, m, m8)
                first, longest = 0.0, 1e-300
                for j in range(m):
                    first += x[j] * v[j]
                    longest = max(longest, abs(x[j]) * LOG2E)
                step = LOG2E * min(1.0, LONGEST / longest)
                for j in range(m):
                    origin[j] = g[j]
                    g[j] += step * x[j]
                done += 1
                pending, tried, was = True, 1, e
            if final or done >= cap:
                break
            coming = stretch / FACTOR if stretch > 1.001 * FACTOR else 1.0
            # in units of the costs potentials are nearly linear in epsilon
            along = (stretch - coming) / (earlier - stretch) if earlier > 0.0 else 0.0
            for j in range(m):
                here = g[j] * stretch
                g[j] = (here + along * (here - before[j])) / coming
                before[j] = here
            earlier, stretch = stretch, coming
        code[k] = CONVERGED if stretch == 1.0 and e <= tol else (STALLED if idle >= IDLE else MAX_ITER)
        error[k], passes[k] = e, done
        level = 0.0
        if not priced:  # the constant that balanced potentials leave open
            for j in range(m):
                level += share[j] * g[j]
        for j in range(m):
            gamma[k, cols[q, j]] = (g[j] - level) * (stretch / LOG2E)
