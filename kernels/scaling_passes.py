"""Products with an absorbed plan W, whose rows sum to 1 (`scaling.py`): what the semi-dual and its Newton steps cost.

With v = e^h, h the change of the potentials of the columns since W was absorbed, and z = W v, the plan is

    P_ij = (r_i / z_i^kappa) W_ij v_j,   r_i the row sums at absorption,   column sums c = v W^T (r z^-kappa),

and from dphi_i/dgamma_j = -kappa P_ij / (P 1)_i the negative Hessian of the semi-dual applied to p is

    c p + (1/kappa_b - 1) t p - kappa v W^T (r z^(-1-kappa) W (v p)).

Both are y = W^T (rate q(W x)) with q a power, in one reading of W. W is either dense float32 (entries float32, sums
over columns float64 every 16 rows) or a list of its entries above a threshold, row by row, float64.

Measured on one AVX-512 core of a busy machine: dense 0.18 ns per pair (4 bytes from the third level of cache, where the
arithmetic would take 0.06), listed 2.2 ns per entry.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from otdist.kernels.jit import INLINE, kernel
from otdist.kernels.vecmath import maximum

# Rows whose float32 sums are held together, and rows side by side.
GROUP, BLOCK = 16, 4


@njit(**INLINE)
def _charged(rate, s, power):
    """rate s^power; 0 of a row that has lost its entries."""
    if power == 1.0:
        return rate * s
    if not s > 0.0:
        return 0.0
    if power == -1.0:
        return rate / s
    return rate * np.exp(power * np.log(s))


@kernel
def dense_pass(W, x, rate, power, z, y, held, i0, i1):
    """z = W x and y = W^T (rate z^power) over rows i0 ... i1 - 1; held (m,) float32: scratch."""
    m = x.size
    for j in range(m):
        y[j] = 0.0
    for g0 in range(i0, i1, GROUP):
        g1 = min(g0 + GROUP, i1)
        for j in range(m):
            held[j] = np.float32(0)
        i = g0
        while i + BLOCK <= g1:
            w0, w1, w2, w3 = W[i], W[i + 1], W[i + 2], W[i + 3]
            s0 = s1 = s2 = s3 = np.float32(0)
            for j in range(m):
                t = x[j]
                s0 += w0[j] * t
                s1 += w1[j] * t
                s2 += w2[j] * t
                s3 += w3[j] * t
            z[i], z[i + 1], z[i + 2], z[i + 3] = s0, s1, s2, s3
            q0 = np.float32(_charged(rate[i], np.float64(s0), power))
            q1 = np.float32(_charged(rate[i + 1], np.float64(s1), power))
            q2 = np.float32(_charged(rate[i + 2], np.float64(s2), power))
            q3 = np.float32(_charged(rate[i + 3], np.float64(s3), power))
            for j in range(m):
                held[j] += (q0 * w0[j] + q1 * w1[j]) + (q2 * w2[j] + q3 * w3[j])
            i += BLOCK
        while i < g1:
            w0 = W[i]
            s0 = np.float32(0)
            for j in range(m):
                s0 += w0[j] * x[j]
            z[i] = s0
            q0 = np.float32(_charged(rate[i], np.float64(s0), power))
            for j in range(m):
                held[j] += q0 * w0[j]
            i += 1
        for j in range(m):
            y[j] += held[j]


@kernel
def listed_pass(start, idx, val, x, rate, power, z, y, i0, i1):
    """As `dense_pass`, over the listed entries of rows i0 ... i1 - 1; start, idx and val are those of these rows."""
    for j in range(y.size):
        y[j] = 0.0
    for i in range(i0, i1):
        k0, k1 = start[i - i0], start[i - i0 + 1]
        s = 0.0
        for k in range(k0, k1):
            s += val[k] * x[idx[k]]
        z[i] = s
        q = _charged(rate[i], s, power)
        for k in range(k0, k1):
            y[idx[k]] += q * val[k]


@kernel
def listed_diagonal(start, idx, val, v, r, z, kappa, y, i0, i1):
    """y_j = sum_i P_ij (1 - kappa P_ij / (P 1)_i) over these rows, without cancellation where P_ij is nearly all."""
    for j in range(y.size):
        y[j] = 0.0
    for i in range(i0, i1):
        rate = _charged(r[i], z[i], 1.0 - kappa) if kappa != 1.0 else r[i]
        if not z[i] > 0.0:
            continue
        for k in range(start[i - i0], start[i - i0 + 1]):
            share = val[k] * v[idx[k]] / z[i]
            y[idx[k]] += rate * share * maximum(1.0 - kappa * share, 0.0)


@kernel
def curvature(p, slope, size, kappa, v, product, c, projected, y):
    """y = slope p - kappa size v product, its part along the gauge taken off if `projected`; returns <p, y>."""
    total, mass = 0.0, 0.0
    for j in range(p.size):
        y[j] = c[j] * p[j] - kappa * size * (v[j] * product[j])
        total += y[j]
        mass += c[j]
    off = total / mass if projected and mass > 0.0 else 0.0
    found = 0.0
    for j in range(p.size):
        y[j] += (slope[j] - c[j]) * p[j] - off * c[j]
        found += p[j] * y[j]
    return found


@kernel
def advance(alpha, x, p, r, y, d, z):
    """One step of conjugate gradients: x += alpha p, r -= alpha y, z = r / d; (|r|_1, max |x|, <r, z>)."""
    size, most, found = 0.0, 0.0, 0.0
    for j in range(p.size):
        x[j] += alpha * p[j]
        r[j] -= alpha * y[j]
        z[j] = r[j] / d[j]
        size += abs(r[j])
        most = maximum(most, abs(x[j]))
        found += r[j] * z[j]
    return size, most, found


@kernel
def turn(p, z, beta, v, wide, narrow):
    """p = z + beta p; its largest entry, and v p divided by it, float64 and float32."""
    most = 0.0
    for j in range(p.size):
        p[j] = z[j] + beta * p[j]
        most = maximum(most, abs(p[j]))
    inverse = 1.0 / most if most > 0.0 else 0.0
    for j in range(p.size):
        wide[j] = v[j] * (p[j] * inverse)
        narrow[j] = np.float32(wide[j])
    return most
