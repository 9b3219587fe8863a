"""Row-wise divergences between softmax(P) and softmax(Q), from the logits: nothing underflows on the way.

The difference of two log-probabilities is exact where their quotient would be 0/0, so a KL of logits +-1000 is right.
All in float64. Three passes over a row: maximum, sum of exponentials, terms; the exponentials are the cost.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types
from numba.extending import overload

from otdist.kernels.faint import store
from otdist.kernels.jit import INLINE, STRICT, kernel
from otdist.kernels.rows import LOGARITHM, finish_row, power_of, row_of
from otdist.kernels.terms import KL, Alpha, Bin, CrossEntropy, Jeffreys, Term, term
from otdist.kernels.vecmath import Ratio, exp_and_expm1, log_ratio, maximum, select

SMALLEST = 5e-324
# Affinities outside are summed again in logarithms; below, probabilities held at SMALLEST might have a share in them.
SAFE = (1e-150, 1e280)


@njit(**INLINE)
def _log_partition(row):
    """log sum exp of a row as (maximum, log of the sum of exp(x - maximum))."""
    top = -np.inf
    for k in range(row.size):
        top = maximum(top, np.float64(row[k]))
    total = 0.0
    for k in range(row.size):
        total += exp_and_expm1(np.float64(row[k]) - top)[0]
    return top, np.log(total)


@njit(**STRICT)
def _log_probability(x, top, log_total):
    """x - log sum exp, in this order: a shift of all logits that is exact leaves every bit as it was."""
    return (np.float64(x) - top) - log_total


@njit(**INLINE)
def _read(p_logit, q_logit):
    """`Bin` of two log-probabilities. A probability too small for float64 is held at its smallest number, -inf is 0."""
    no_p = p_logit == -np.inf
    no_q = q_logit == -np.inf
    p = select(no_p, 0.0, max(exp_and_expm1(p_logit)[0], SMALLEST))
    q = select(no_q, 0.0, max(exp_and_expm1(q_logit)[0], SMALLEST))
    low_p = max(p_logit, -1e300)
    low_q = max(q_logit, -1e300)
    gap = low_p - low_q
    # p - q = -p expm1(-gap) = q expm1(gap), of which the one with the smaller exponential
    fall = exp_and_expm1(-abs(gap))[1]
    empty = select(no_p, True, no_q)
    d = select(empty, p - q, select(gap > 0.0, -p * fall, q * fall))
    r = log_ratio(p, q, d)
    return Bin(p, q, d, Ratio(gap, r.near, r.t, r.tail, r.exponent), low_p, low_q)


def _term(tag, x):
    """`term`, or its like where a probability held at SMALLEST would be blown up by its true logarithm."""


@overload(_term, jit_options=STRICT)
def _term_of(tag, x):
    if tag.instance_class is not Alpha:
        return lambda tag, x: term(tag, x)

    def alpha_term(tag, x):
        a, b = tag.alpha, tag.b
        y = term(tag, x)
        empty = select(x.p == 0.0, True, x.q == 0.0)
        affinity = select(empty, 0.0, exp_and_expm1(a * x.log_p - b * x.log_q)[0])
        rise = b * x.ratio.log
        gain = select(abs(rise) < 0.34, x.p * exp_and_expm1(rise)[1] / b, (affinity - x.p) / b)
        far = abs(x.ratio.log) * max(1.0, a) >= 0.5
        value = select(far, select(empty, y.value, (gain - x.d) / a), y.value)
        return Term(value, y.dp, y.dq, y.lost, affinity)

    return alpha_term


def _weighted(tag, x, y):
    """(p dT/dp, q dT/dq) of one bin: finite where the derivative at a probability near 0 is not."""


@overload(_weighted, jit_options=INLINE)
def _weighted_of(tag, x, y):
    kind = tag.instance_class
    if kind is KL:
        return lambda tag, x, y: (x.p * x.ratio.log, -x.d)
    if kind is Jeffreys:
        return lambda tag, x, y: (x.p * x.ratio.log + x.d, -x.q * x.ratio.log - x.d)
    if kind is CrossEntropy:
        return lambda tag, x, y: (-x.p * x.log_q, -x.p)
    if kind is Alpha:
        return lambda tag, x, y: (tag.alpha * y.value + x.d, -tag.b * y.value - x.d)
    return lambda tag, x, y: (x.p * y.dp, x.q * y.dq)


def _keep(weighted, k, weight, lost, derivative, infinite):
    """weighted[k] = derivative, infinite where mass is lost, 0 where there is no weight; or nothing."""


@overload(_keep, jit_options=INLINE)
def _keep_of(weighted, k, weight, lost, derivative, infinite):
    if weighted == types.none:
        return lambda weighted, k, weight, lost, derivative, infinite: None

    def keep(weighted, k, weight, lost, derivative, infinite):
        weighted[k] = select(lost > 0.0, infinite, select(weight == 0.0, 0.0, derivative))

    return keep


@njit(**INLINE)
def _log_affinity(a, p, q, top_p, log_p, top_q, log_q, WP, WQ):
    """log sum p^a q^(1-a) where the sum itself leaves the range of float64; a, 1-a times its shares to WP, WQ."""
    top = -np.inf
    for k in range(p.size):
        top = max(top, _exponent(a, _log_probability(p[k], top_p, log_p), _log_probability(q[k], top_q, log_q)))
    if top == -np.inf:
        return top
    total = 0.0
    for k in range(p.size):
        x = _exponent(a, _log_probability(p[k], top_p, log_p), _log_probability(q[k], top_q, log_q))
        total += np.exp(x - top)
    for k in range(p.size):
        x = _exponent(a, _log_probability(p[k], top_p, log_p), _log_probability(q[k], top_q, log_q))
        share = np.exp(x - top) / total
        store(WP, k, a * share)
        store(WQ, k, (1.0 - a) * share)
    return top + np.log(total)


@njit(**INLINE)
def _exponent(a, log_p, log_q):
    return -np.inf if log_p == -np.inf or log_q == -np.inf else a * log_p + (1.0 - a) * log_q


def _through_softmax(g, weighted, row, top, log_total, f, infinite):
    """Gradient in terms of the logits, f (p dT/dp - p <p, dT/dp>); where the value is inf only the bins at fault."""


@overload(_through_softmax, jit_options=INLINE)
def _through_softmax_of(g, weighted, row, top, log_total, f, infinite):
    if g == types.none:
        return lambda g, weighted, row, top, log_total, f, infinite: None

    def through(g, weighted, row, top, log_total, f, infinite):
        if infinite:
            for k in range(g.size):
                g[k] = select(abs(weighted[k]) == np.inf, f * weighted[k], 0.0)
            return
        mean = 0.0
        for k in range(g.size):
            mean += weighted[k]
        for k in range(g.size):
            p = exp_and_expm1(_log_probability(row[k], top, log_total))[0]
            g[k] = f * (weighted[k] - p * mean)

    return through


@kernel
def logit_rows(tag, finish, P, Q, ip, iq, V, GP, GQ, WP, WQ, r0, r1):
    """V[r] = D(softmax P[ip[r]], softmax Q[iq[r]]) for r0 <= r < r1; gradients to GP, GQ unless None.

    WP, WQ: scratch of one row each, None where GP, GQ are.
    """
    for r in range(r0, r1):
        p, q = P[ip[r]], Q[iq[r]]
        top_p, log_p = _log_partition(p)
        top_q, log_q = _log_partition(q)
        value, lost, affinity = 0.0, 0.0, 0.0
        for k in range(p.size):
            x = _read(_log_probability(p[k], top_p, log_p), _log_probability(q[k], top_q, log_q))
            y = _term(tag, x)
            value += max(y.value, 0.0)  # rounding of probabilities held at SMALLEST
            lost += y.lost
            affinity += y.affinity
            weighted = _weighted(tag, x, y)
            at_fault = select(x.q == 0.0, np.inf, -np.inf)
            _keep(WP, k, x.p, y.lost, weighted[0], at_fault)
            _keep(WQ, k, x.q, y.lost, weighted[1], -at_fault)
        if lost > 0.0:
            value = np.inf
        V[r], f, _h_p, _h_q = finish_row(finish, value, affinity, 1.0, 1.0)
        if finish.kind == LOGARITHM and lost == 0.0 and not SAFE[0] < affinity < SAFE[1]:
            f = finish.scale
            V[r] = f * _log_affinity(power_of(tag), p, q, top_p, log_p, top_q, log_q, WP, WQ)
        _through_softmax(row_of(GP, r)[0], WP, p, top_p, log_p, f, V[r] == np.inf)
        _through_softmax(row_of(GQ, r)[0], WQ, q, top_q, log_q, f, V[r] == np.inf)
