"""What bounds are made of, for many small problems: the plan of given potentials, rounded, and c-transforms.

The plan is rounded to a coupling as by Altschuler, Weed & Rigollet (2017): Q = P diag(min(1, b / columns)), whose rows
and columns lack r_a >= 0 and r_b >= 0, and Q + r_a r_b^T / |r_a|. Where marginals have a price P will do, but for the
columns where these alone are prescribed: they are scaled. What is proved of these sums is in
`otdist/transport/_rounded.py`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from otdist.kernels.jit import INLINE, kernel
from otdist.kernels.sinkhorn_batch_steps import PADDING, absorb, column_targets, eliminate_columns
from otdist.kernels.vecmath import LOG2E, minimum, select


@njit(**INLINE)
def _spent(p, z, y, m):
    """sum_j p_j z_j, with weights 1 and y, and sum_j p_j y_j; a forbidden pair carries no mass and costs none."""
    linear, moved, kept = 0.0, 0.0, 0.0
    for j in range(m):
        cost = select(p[j] > 0.0, z[j], 0.0) * p[j]
        linear += cost
        moved += cost * y[j]
        kept += p[j] * y[j]
    return linear, moved, kept


@kernel
def judge(
    Z, rows, cols, counts, least, a, b, epsilon, kappa, gamma, phi, sums, columns, kept, scale, f, g, costs,
    P, rowwise, colwise, start, stop,
):  # fmt: skip
    """Complete the potentials of the problems start ... stop, loaded into Z, and take their sums.

    gamma (k, m) and phi (k, n) in nats: where there is no mass they are the extension of the others. sums, kept (k, n):
    row sums of P and of Q; columns, scale (k, m): column sums of P, and what turns P into Q; f (k, n), g (k, m):
    c-transformed potentials in units of the costs; costs (k, 3): <P, C>, <Q, C> and that of r_a r_b^T / |r_a|.
    Scratch as in `solve`.
    """
    N, M = P.shape
    n_all, m_all = phi.shape[1], gamma.shape[1]
    for q in range(stop - start):
        k = start + q
        n, m = counts[q]
        z = Z[q]
        mass, r, at, lack = rowwise[0], rowwise[1], rowwise[2], rowwise[3]
        share, potential, c, t, y, best, v, w = (
            colwise[0], colwise[1], colwise[2], colwise[3], colwise[4], colwise[5], colwise[6], colwise[7]
        )  # fmt: skip
        for i in range(N):
            mass[i] = a[k, rows[q, i]] if i < n else 0.0
        for j in range(M):
            share[j] = b[k, cols[q, j]] if j < m else 0.0
            potential[j] = gamma[k, cols[q, j]] * LOG2E if j < m else PADDING
        unit = epsilon[k] / LOG2E
        offset = least[q] / unit
        ka, kb = kappa[k, 0], kappa[k, 1]
        m8 = (m + 7) // 8 * 8
        absorb(z, 1.0, mass, share, potential, n_all, m8, ka, offset, P, r, at, c)
        column_targets(share, potential, m, kb, t)
        balanced = ka == 1.0 and kb == 1.0
        for j in range(m8):
            y[j] = 1.0
        if kb == 1.0:
            for j in range(m):
                ratio = t[j] / c[j] if c[j] > 0.0 else 1.0
                y[j] = min(1.0, ratio) if balanced else ratio
        for j in range(m8):
            w[j] = max(t[j] - c[j] * y[j], 0.0) if balanced and j < m else 0.0
            best[j] = np.inf
        linear, moved, repair, lacking, total = 0.0, 0.0, 0.0, 0.0, 0.0
        for i in range(n):
            spent, rounded, left = _spent(P[i], z[i], y, m8)
            linear += spent
            moved += rounded
            total += left
            kept[k, rows[q, i]] = left
            lack[i] = max(mass[i] - left, 0.0) if balanced else 0.0
            lacking += lack[i]
            cost, low = 0.0, np.inf
            for j in range(m):
                cost += select(w[j] > 0.0, w[j] * z[i, j], 0.0)
                low = minimum(low, z[i, j] - potential[j])
            repair += lack[i] * cost if lack[i] > 0.0 else 0.0
            f[k, rows[q, i]] = (low + offset) * unit
            if low < np.inf:
                for j in range(m):
                    best[j] = minimum(best[j], z[i, j] - low)
        through = 0.0
        for i in range(n_all):
            phi[k, rows[q, i]] = (at[i] + offset) / LOG2E
            sums[k, rows[q, i]] = r[i]
            through += r[i]
        for j in range(m):
            columns[k, cols[q, j]] = c[j]
            scale[k, cols[q, j]] = y[j]
            g[k, cols[q, j]] = best[j] * unit
        costs[k, 0] = linear * unit + least[q] * through
        costs[k, 1] = moved * unit + least[q] * total
        costs[k, 2] = (repair / lacking) * unit + least[q] * lacking if lacking > 0.0 else 0.0
        if m_all > m:
            eliminate_columns(z, 1.0, mass, share, at, n, m_all, kb, potential, v, w)
            for j in range(m, m_all):
                gamma[k, cols[q, j]] = potential[j] / LOG2E
