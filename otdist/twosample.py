"""Two-sample tests by kernels: are x and y drawn from one distribution?

Under that hypothesis the labels of the pooled sample are exchangeable. So the statistic of the labels as given and
those of random labels, all by the same arithmetic, are exchangeable too, and the rank of the first among them is a
p-value of exact level at every sample size. What the statistics share (bandwidths, rounding margins) must then depend
on the pool alone, never on who is x and who is y.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from numbers import Integral
from typing import Any, Literal

import numpy as np

from otdist import _permutation, rkhs
from otdist._arrays import Array, enter
from otdist._bandwidth import EXACT
from otdist._moments import number
from otdist._permutation import Found, Samples, judge
from otdist._results import TestResult
from otdist._samples import generator, points, same_d, shaped
from otdist.catalogue import choose

CANDIDATES = 10
LARGE = 1e100


def mmd_test(
    x: Any,
    y: Any,
    *,
    kernel: Any = "gaussian",
    bandwidth: Any = "median",
    estimator: Literal["biased", "unbiased"] = "biased",
    permutations: int = 999,
    method: Literal["permutation", "wild", "aggregated"] = "permutation",
    alpha: float = 0.05,
    rng: Any = None,
) -> TestResult:
    """Test of whether two samples come from one distribution, by their maximum mean discrepancy.

    The statistic is MMD² of x and y; it is compared with the MMD² of `permutations` random relabellings of the pool,
    p = (1 + #{null >= statistic}) / (1 + permutations). Equal to rounding counts as >=, so the level is exact, not only
    in the limit: P(p <= alpha) <= alpha under the hypothesis, for all sizes, kernels and data.

    Parameters
    ----------
    x : array (n, d)
        Sample, of any supported array library.
    y : array (m, d)
        The other; n and m may differ.
    kernel : str or Kernel
        As for `mmd`. For "aggregated" also a sequence of them.
    bandwidth : float, sequence of floats, "median" or "scott"
        As for `mmd`, from the pool of x and y, never from one of them, for that would break the level. The median
        is over all pairs up to 2000 points; beyond, over those of 2000 points of the pool drawn by `rng`. Several
        numbers are a sum of kernels, for "aggregated" candidates.
    estimator : {"biased", "unbiased"}
        V- or U-statistic. For n = m and a kernel of x − y they give the same p-value.
    permutations : int
        B, the number of relabellings, drawn with replacement.
    method : {"permutation", "wild", "aggregated"}
        "permutation": random subsets of the pool of size n.

        "wild": for pairs (x_i, y_i), n = m, independent over i, dependent within. Σ ε_i ε_j h_ij with
        h_ij = k(x_i, x_j) + k(y_i, y_j) − k(x_i, y_j) − k(y_i, x_j) and random signs ε: x_i and y_i trade places where
        ε_i = −1. Exact if (x_i, y_i) and (y_i, x_i) are equally distributed; if only the two marginals are equal, in
        the limit n → ∞. "unbiased" leaves out i = j, so the pairs k(x_i, y_i) too, and divides by n (n − 1).

        "aggregated": over several kernels, by default ten bandwidths in geometric progression from half the 5 % to
        twice the 95 % quantile of the pool's distances (those of `bandwidth="median"`). See Notes.
    alpha : float
        Level at which `TestResult.reject` judges. `permutations` must be at least 1/alpha − 1, or no p-value could
        reach it.
    rng : None, int or numpy.random.Generator
        Source of the labels; equal seeds give equal bits, on any number of threads.

    Returns
    -------
    TestResult
        Floats and NumPy arrays, whatever the library of x. Everything is computed in float64.

    Raises
    ------
    ValueError, TypeError
        Naming the argument: NaN or infinite entries, samples that are not (n, d), another d, fewer than two points for
        "unbiased", n ≠ m for "wild", a zero vector under the cost "cosine", options. The estimators "linear" and
        "block" have no test here: their statistics depend on the order of the points.

    Notes
    -----
    With e the members of the first sample, MMD² = a v'Kv + constant, v = e + shift: one quadratic form per
    relabelling. K is computed in symmetric tiles, never stored, and each tile is multiplied with 2^25/N relabellings at
    once, N = n + m: N² B/2 multiply-adds in all ("wild" n² B/2). Memory: 32 MB of labels, 7 MB per thread, and for
    "aggregated" 1 MB per thread and kernel.

    Aggregation is by the least p-value (Westfall & Young 1993). Each kernel ranks all 1 + B labellings; a labelling's
    score is its best rank among the kernels, and the p-value is the rank of the given one's score among the
    1 + B scores. Scores are a symmetric function of exchangeable columns, so this is exact at every level at once,
    without the second set of permutations and the bisection of MMDAgg (Schrab et al. 2023), whose rejections it
    shares but for the estimate of the correction u_α. Ties cost power when B is small: a difference that only
    one of L kernels sees has p around L/(1 + B) at least.

    References: Gretton et al. (2012), A kernel two-sample test, *JMLR* 13; Chwialkowski, Sejdinovic & Gretton (2014), A
    wild bootstrap for degenerate kernel tests, *NeurIPS*; Hemerik & Goeman (2018), Exact testing with random
    permutations, *TEST* 27; Schrab et al. (2023), MMD aggregated two-sample test, *JMLR* 24.

    Examples
    --------
    >>> import numpy as np
    >>> import otdist as od
    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.standard_normal((80, 2)), rng.standard_normal((100, 2)) * 2.0
    >>> od.mmd_test(x, y, permutations=199, rng=0).p_value
    0.005
    >>> od.mmd_test(x, y[:80], method="aggregated", permutations=199, rng=0).reject()
    True
    """
    choose("method", method, ("permutation", "wild", "aggregated"))
    if estimator in ("linear", "block"):
        raise ValueError(
            f"estimator: found {estimator!r}, which depends on the order of the points and has no permutation test; "
            f"use 'unbiased' or 'biased'"
        )
    choose("estimator", estimator, ("biased", "unbiased"))
    samples = _read(x, y, permutations, rng)
    level = _level(alpha, samples.permutations)
    kernels = _kernels(samples, kernel, bandwidth, aggregated=method == "aggregated")
    if estimator == "unbiased" and min(samples.n, samples.m) < 2:
        raise ValueError(
            f"x and y: found n = {samples.n} and m = {samples.m}; estimator='unbiased' needs two points of each"
        )
    if method == "wild" and samples.n != samples.m:
        raise ValueError(
            f"x and y: found n = {samples.n} and m = {samples.m}; method='wild' tests pairs (x_i, y_i), so n = m; "
            f"use 'permutation' for samples that are not paired"
        )
    found = _found(samples, kernels, method, estimator)
    return judge(samples, kernels, found, estimator, method, level)


def energy_test(
    x: Any, y: Any, *, exponent: float = 1.0, permutations: int = 999, alpha: float = 0.05, rng: Any = None
) -> TestResult:
    """Permutation test of whether two samples come from one distribution, by their energy distance.

    The statistic is 2 E‖x−y‖^e − E‖x−x'‖^e − E‖y−y'‖^e with all means over the samples (V-statistics), which is MMD²
    for the kernel −‖x−y‖^e; p and its exact level are those of `mmd_test`.

    Parameters
    ----------
    x : array (n, d)
        Sample; one dimension as x[:, None].
    y : array (m, d)
        The other.
    exponent : float
        e in (0, 2]; with 2 only the means are compared.
    permutations, alpha, rng
        As for `mmd_test`.

    Returns
    -------
    TestResult

    Raises
    ------
    ValueError, TypeError
        As `mmd_test`.

    Notes
    -----
    In one dimension with exponent 1 the pool is sorted once and a relabelling costs O(n + m): the energy distance
    is 2∫(F − G)². Else as `mmd_test`. Reference: Székely & Rizzo (2013), Energy statistics, *J. Stat. Planning and
    Inference* 143.

    Examples
    --------
    >>> import numpy as np
    >>> import otdist as od
    >>> x = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> od.energy_test(x, x + 10.0, permutations=999, rng=0).statistic
    17.5
    """
    return mmd_test(x, y, kernel=rkhs.Energy(exponent), permutations=permutations, alpha=alpha, rng=rng)


def _found(samples: Any, kernels: list[Any], method: str, estimator: str) -> Found:
    engine: Any = _permutation
    if not isinstance(samples, Samples):
        from otdist import _permutation_device as engine
    if method == "wild":
        found: Found = engine.signed(samples, kernels[0], estimator)
    elif (method, estimator, kernels) == ("permutation", "biased", [rkhs.Energy()]) and samples.d == 1:
        found = engine.on_the_line(samples)
    else:
        found = engine.permuted(samples, kernels, estimator)
    return found


def _read(x: Any, y: Any, permutations: Any, rng: Any) -> Any:
    """`Samples`, or `DeviceSamples` of arrays on a GPU."""
    door, arrays = enter(x=x, y=y)
    here = door.space is None
    first, second = ((points if here else shaped)(name, a) for name, a in zip(("x", "y"), arrays, strict=True))
    for name, a in (("x", first), ("y", second)):
        if a.ndim != 2:
            raise ValueError(f"{name}: found shape {a.shape}; a test takes one sample (n, d): call it batch by batch")
    same_d(x=first, y=second)
    if here:
        pool = np.concatenate([first, second], dtype=np.float64)
        _refuse_extremes(pool)
    else:
        from otdist import _permutation_device

        first, second = _permutation_device.checked(door.space, first, second, _refuse_extremes)
    if isinstance(permutations, bool) or not isinstance(permutations, Integral):
        raise TypeError(f"permutations: found {permutations!r}; give a whole number")
    if permutations < 1:
        raise ValueError(f"permutations: found {permutations!r}; give 1 or more, 999 say")
    if not here:
        return _permutation_device.DeviceSamples(door.space, first, second, int(permutations), generator(rng))
    return Samples(pool, len(first), len(second), int(permutations), generator(rng))


def _refuse_extremes(pool: Array) -> None:
    size, spread = np.max(np.abs(pool)), np.max(np.ptp(pool, axis=0))
    if size > LARGE or 0 < spread < 1 / LARGE:
        raise ValueError(
            f"x and y: found coordinates up to {size:.3g} that differ by up to {spread:.3g}, whose squares leave the "
            f"range of float64; multiply both samples by one constant"
        )


def _level(alpha: Any, permutations: int) -> float:
    level = number("alpha", alpha)
    if not 0 < level < 1:
        raise ValueError(f"alpha: found {alpha!r}; a level lies between 0 and 1")
    if level * (1 + permutations) < 1 - 1e-9:
        raise ValueError(
            f"permutations: found {permutations}, whose least p-value 1/{1 + permutations} is above alpha = {level:g}: "
            f"the test could never reject; use at least {math.ceil(1 / level - 1e-9) - 1}"
        )
    return level


def _kernels(samples: Any, kernel: Any, bandwidth: Any, *, aggregated: bool) -> list[Any]:
    """The kernels to test with, bandwidths filled in from the pool."""
    d, size, chosen = samples.d, samples.n + samples.m, None
    median = isinstance(bandwidth, str) and bandwidth == "median"
    if median and size > EXACT:
        # drawn by chance, not by place: which points are drawn must not tell x from y
        chosen = samples.generator.choice(size, EXACT, replace=False)
    pool = samples.rows(chosen, median)
    several = aggregated and isinstance(kernel, Sequence) and not isinstance(kernel, str)
    bases = [rkhs.named(one, d) for one in (kernel if several else [kernel])]
    if not bases:
        raise ValueError("kernel: found an empty sequence; give at least one kernel")
    for base in bases:
        samples.refuse_zero_vectors(base)
    if not aggregated:
        return [samples.resolve(bases[0], bandwidth, pool)]
    known: dict[Any, Array] = {}
    found: list[Any] = []
    for base in bases:
        if isinstance(bandwidth, str) and bandwidth == "median":
            filled = [base.fill(partial(_candidate, pool, known, number=k)) for k in range(CANDIDATES)]
        elif isinstance(bandwidth, Sequence | np.ndarray) and not isinstance(bandwidth, str):
            filled = [samples.resolve(base, one, pool) for one in bandwidth]
        else:
            filled = [samples.resolve(base, bandwidth, pool)]
        found.extend(one for place, one in enumerate(filled) if one not in filled[:place])
    if not found:
        raise ValueError("bandwidth: found an empty sequence; give at least one number")
    return found


def _candidate(pool: Array, known: dict[Any, Array], cost: str, root: bool, *, number: int) -> float:
    """Candidate `number` of the bandwidths for a cost: in units of √c (`root`) or c."""
    from scipy.spatial.distance import pdist

    if (cost, root) not in known:
        c = pdist(pool, cost)
        c = np.sqrt(c[c > 0]) if root else c[c > 0]
        low, high = np.quantile(c, [0.05, 0.95]) if c.size else (2.0, 0.5)
        known[cost, root] = np.geomspace(low / 2, high * 2, CANDIDATES)
    return float(known[cost, root][number])
