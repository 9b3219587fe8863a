"""Gradients of entropic transport by points, and their directional derivatives, streamed over tiles of pairs. Compiled.

A cost of the difference of two points, c = h(x − y), has the gradient A T and the Hessian A [T = D] + Q T Tᵀ, where

    squared      D = x − y   T = D          A = 2            Q = 0
    ‖D‖^p                    T = D          A = p c/‖D‖²     Q = (p−2) A/‖D‖²
    (Σ|D|)^p                 T = sign D     A = p c/Σ|D|     Q = (p−1) A/Σ|D|
    (max|D|)^p               T = ±e at max  A = p c/max|D|   Q = (p−1) A/max|D|

and all is 0 at D = 0, but for the squared cost. With P_ij = 2^(u_i + v_j − scale c_ij), u and v holding masses and
potentials, `pull` sums W_ij A T over the rows and, negated, over the columns, W = P (α_i + β_j + δ c_ij + E_ij): one
exponential a pair serves both sides. `along` sums P ∂c, ∂c = A <T, v>, v = dx_i − dy_j; `bend` differentiates `pull`:

    Σ P [(α_i + β_j − ∂c/ε) A T + Q <T, v> T + A v [T = D]].

Tiles lie in rounds that share neither rows nor columns, so threads add to one result without locks, in one order.
A row of a tile stays in the first-level cache. A pair costs 1.3 ns in 2 coordinates, of which the exponential is 0.5,
and 3.2 ns in 8 (one core, AVX-512). In many coordinates `from_product` does the exponential and two products of the
tile with the points the rest: 4 ns in 16 coordinates, 10 in 64, nearly all of it in three matrix products. A pair whose
distance is raised to another power than 2 costs 14 ns more, for the power.
"""

from __future__ import annotations

from numba import njit
from numba.extending import overload

from otdist.kernels.costs import Chebyshev, Euclidean, Raised, _base, _is, add, between, finish
from otdist.kernels.jit import INLINE, STRICT, kernel
from otdist.kernels.profiles import Cityblock, Squared
from otdist.kernels.vecmath import exp2, maximum, select

# Below this part of the squared norms the product has lost five bits: the difference is taken.
NEAR = 1 / 32


def slope(tag, total, cost):
    """A, given what `add` has summed and the cost."""


def curvature(tag, total, slope):
    """Q."""


def steer(tag, s, difference, total):
    """s times this coordinate of T; and the s that is left for the coordinates to come."""


def radial(tag):
    """1.0 if T is the difference itself, else 0.0."""


@overload(slope, jit_options=STRICT)
def _slope(tag, total, cost):
    if _is(tag, Squared):
        return lambda tag, total, cost: 2.0
    if _is(tag, Euclidean):
        return lambda tag, total, cost: select(total > 0.0, 1.0 / select(total > 0.0, cost, 1.0), 0.0)
    if _is(tag, Raised):
        return lambda tag, total, cost: tag.power * cost / select(total > 0.0, total, 1.0)
    return lambda tag, total, cost: select(total > 0.0, 1.0, 0.0)


@overload(curvature, jit_options=STRICT)
def _curvature(tag, total, slope):
    if _is(tag, Euclidean):
        return lambda tag, total, slope: -slope / select(total > 0.0, total, 1.0)
    if _is(tag, Raised):
        less = 2.0 if _is(_base(tag), Euclidean) else 1.0
        return lambda tag, total, slope: (tag.power - less) * slope / select(total > 0.0, total, 1.0)
    return lambda tag, total, slope: 0.0


def _sign(x):
    return select(x > 0.0, 1.0, select(x < 0.0, -1.0, 0.0))


sign = njit(**STRICT)(_sign)


@overload(steer, jit_options=STRICT)
def _steer(tag, s, difference, total):
    base = _base(tag)
    if _is(base, Cityblock):
        return lambda tag, s, difference, total: (s * sign(difference), s)
    if _is(base, Chebyshev):

        def largest(tag, s, difference, total):
            here = abs(difference) == total
            return select(here, s * sign(difference), 0.0), select(here, 0.0, s)

        return largest
    return lambda tag, s, difference, total: (s * difference, s)


@overload(radial, jit_options=STRICT)
def _radial(tag):
    value = 1.0 if _is(tag, Squared) or _is(_base(tag), Euclidean) else 0.0
    return lambda tag: value


@njit(**INLINE)
def measure(tag, point, yt, j0, total):
    """total[j] = what `add` makes of the coordinates, columns from j0 on."""
    here, there = point[0], yt[0, j0 : j0 + len(total)]
    for j in range(len(total)):
        total[j] = add(tag, 0.0, here - there[j])
    for k in range(1, len(yt)):
        here, there = point[k], yt[k, j0 : j0 + len(total)]
        for j in range(len(total)):
            total[j] = add(tag, total[j], here - there[j])


@njit(**INLINE)
def project(tag, point, yt, move, moves, j0, total, found):
    """found[j] = <T, v>. Coordinates from the last to the first, so that of several largest the first one counts."""
    count = len(total)
    for j in range(count):
        found[j] = 0.0
    for k in range(len(yt) - 1, -1, -1):
        here, there, step, steps = point[k], yt[k, j0 : j0 + count], move[k], moves[k, j0 : j0 + count]
        for j in range(count):
            found[j] = advance(tag, found[j], here - there[j], step - steps[j], total[j])


def advance(tag, so_far, difference, step, total):
    """<T, v> with one more coordinate."""


@overload(advance, jit_options=STRICT)
def _advance(tag, so_far, difference, step, total):
    base = _base(tag)
    if _is(base, Cityblock):
        return lambda tag, so_far, difference, step, total: so_far + sign(difference) * step
    if _is(base, Chebyshev):
        return lambda tag, so_far, difference, step, total: select(
            abs(difference) == total, sign(difference) * step, so_far
        )
    return lambda tag, so_far, difference, step, total: so_far + difference * step


@kernel
def pull(tag, x, yt, u, v, scale, alpha, beta, delta, extra, gx, gyt, total, weight, i0, i1, j0, j1):
    """Add to gx (n, d) and gyt (d, m) what the pairs [i0, i1) x [j0, j1) give; `extra` is E of the tile, or empty."""
    total, weight, vs, betas = total[: j1 - j0], weight[: j1 - j0], v[j0:j1], beta[j0:j1]
    for i in range(i0, i1):
        point, ui, ai = x[i], u[i], alpha[i]
        measure(tag, point, yt, j0, total)
        if len(extra) > 0:
            row = extra[i - i0]
            for j in range(len(total)):
                weight[j] = ai + betas[j] + row[j]
        else:
            for j in range(len(total)):
                weight[j] = ai + betas[j]
        for j in range(len(total)):
            c = finish(tag, total[j])
            weight[j] = (weight[j] + delta * c) * slope(tag, total[j], c) * exp2(ui + vs[j] - scale * c)
        for k in range(len(yt)):
            here, there, to = point[k], yt[k, j0:j1], gyt[k, j0:j1]
            whole = 0.0
            for j in range(len(total)):
                t, weight[j] = steer(tag, weight[j], here - there[j], total[j])
                whole += t
                to[j] -= t
            gx[i, k] += whole


@kernel
def along(tag, x, yt, dx, dyt, u, v, scale, rows, cols, total, found, i0, i1, j0, j1):
    """Add to rows (n,) and cols (m,) the sums of P ∂c."""
    total, found, vs, to = total[: j1 - j0], found[: j1 - j0], v[j0:j1], cols[j0:j1]
    for i in range(i0, i1):
        ui = u[i]
        measure(tag, x[i], yt, j0, total)
        project(tag, x[i], yt, dx[i], dyt, j0, total, found)
        whole = 0.0
        for j in range(len(total)):
            c = finish(tag, total[j])
            t = found[j] * slope(tag, total[j], c) * exp2(ui + vs[j] - scale * c)
            whole += t
            to[j] += t
        rows[i] += whole


@kernel
def bend(tag, x, yt, dx, dyt, u, v, scale, alpha, beta, over, gx, gyt, total, found, weight, straight, i0, i1, j0, j1):
    """Add to gx and gyt the derivative of the gradients; `over` is 1/ε."""
    total, found, vs, betas = total[: j1 - j0], found[: j1 - j0], v[j0:j1], beta[j0:j1]
    weight, straight = weight[: j1 - j0], straight[: j1 - j0]
    for i in range(i0, i1):
        point, move, ui, ai = x[i], dx[i], u[i], alpha[i]
        measure(tag, point, yt, j0, total)
        project(tag, point, yt, move, dyt, j0, total, found)
        for j in range(len(total)):
            c = finish(tag, total[j])
            s = slope(tag, total[j], c)
            p = exp2(ui + vs[j] - scale * c)
            t = found[j]
            weight[j] = p * ((ai + betas[j] - over * s * t) * s + curvature(tag, total[j], s) * t)
            straight[j] = p * s * radial(tag)
        for k in range(len(yt)):
            here, there, to = point[k], yt[k, j0:j1], gyt[k, j0:j1]
            step, steps = move[k], dyt[k, j0:j1]
            whole = 0.0
            for j in range(len(total)):
                t, weight[j] = steer(tag, weight[j], here - there[j], total[j])
                t += straight[j] * (step - steps[j])
                whole += t
                to[j] -= t
            gx[i, k] += whole


@kernel
def from_product(
    tag, x, y, squares, y_squares, u, v, scale, alpha, beta, delta, extra, product, rows, cols, gx, gy, i0, j0
):
    """<x_i, y_j> of a tile become W A, whose sums are added to `rows` and `cols`.

    Pairs so near that the product cancels are done here by differences and left at 0, but for the squared cost, which
    is as right as its potentials.
    """
    count = product.shape[1]
    vs, betas, sizes, to = v[j0 : j0 + count], beta[j0 : j0 + count], y_squares[j0 : j0 + count], cols[j0 : j0 + count]
    for t in range(len(product)):
        i, line = i0 + t, product[t]
        ui, ai, norm = u[i], alpha[i], squares[i]
        near = 0
        for j in range(count):
            size = norm + sizes[j]
            squared = size - 2.0 * line[j]
            small = lost(tag, squared, NEAR * size)
            near += small
            line[j] = select(small > 0, -1.0, maximum(squared, 0.0))
        if near > 0:
            for j in range(count):
                if line[j] < 0.0:
                    ruled(tag, x, y, i, j0 + j, ui + vs[j], scale, ai + betas[j], delta, extra, t, j, gx, gy)
        if len(extra) > 0:
            row = extra[t]
            for j in range(count):
                line[j] = weighed(tag, line[j], ui + vs[j], scale, ai + betas[j] + row[j], delta)
        else:
            for j in range(count):
                line[j] = weighed(tag, line[j], ui + vs[j], scale, ai + betas[j], delta)
        whole = 0.0
        for j in range(count):
            whole += line[j]
            to[j] += line[j]
        rows[i] += whole


@njit(**INLINE)
def weighed(tag, squared, log, scale, weight, delta):
    """W A, or 0 of a pair that is done."""
    total = select(squared < 0.0, 0.0, squared)
    c = finish(tag, total)
    found = (weight + delta * c) * slope(tag, total, c) * exp2(log - scale * c)
    return select(squared < 0.0, 0.0, found)


@njit(**INLINE)
def ruled(tag, x, y, i, j, log, scale, weight, delta, extra, t, s, gx, gy):
    """One pair by differences."""
    total = between(Squared(), x[i], y[j])
    c = finish(tag, total)
    if len(extra) > 0:
        weight += extra[t, s]
    found = (weight + delta * c) * slope(tag, total, c) * exp2(log - scale * c)
    for k in range(x.shape[1]):
        pulled = found * (x[i, k] - y[j, k])
        gx[i, k] += pulled
        gy[j, k] -= pulled


def lost(tag, squared, limit):
    """1 where a squared distance from a product is not to be used."""


@overload(lost, jit_options=STRICT)
def _lost(tag, squared, limit):
    if _is(tag, Squared):
        return lambda tag, squared, limit: 0
    return lambda tag, squared, limit: 1 if squared < limit else 0


@kernel
def boltzmann(C, u, v, scale, out):
    """out = 2^(u_i + v_j − scale C_ij); 0 where C is infinite."""
    for i in range(len(C)):
        row, to, ui = C[i], out[i], u[i]
        for j in range(len(v)):
            t = ui + v[j] - scale * row[j]
            to[j] = select(t < -1020.0, 0.0, exp2(t))
