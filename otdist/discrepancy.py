"""Distances between samples by kernels: maximum mean discrepancy, energy distance, their witness.

Samples have shape (..., n, d), leading dimensions broadcast and are a batch. Everything is exact: sums run over all
pairs in tiles, in O(n + m) memory; nothing is subsampled but "median" bandwidths of more than 2000 points. Kernels of
differences see neither offsets nor outliers in their digits. float32 samples are computed in float32 where an error
estimate promises 1e-5 of the value, else in float64.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from otdist._discrepancy import ESTIMATORS, NOTHING, Estimate, estimate, resolved
from otdist._samples import Pair, common, generator, pair, points, refuse_extremes, refuse_zero_vectors, same_d, shaped
from otdist.catalogue import choose, flag
from otdist.kernels import gram
from otdist.rkhs import Energy, Kernel, Polynomial

__all__ = ["KID", "energy_distance", "kid", "mmd", "witness"]


def mmd(
    x: Any,
    y: Any,
    *,
    kernel: str | Kernel = "gaussian",
    bandwidth: Any = "median",
    estimator: str = "biased",
    squared: bool = True,
    x_weights: Any = None,
    y_weights: Any = None,
    block_size: int | None = None,
) -> Any:
    """Squared maximum mean discrepancy, MMD² = E k(x, x′) + E k(y, y′) − 2 E k(x, y); its root with squared=False.

    Between samples; divergences such as KL are estimated from samples by `otdist.estimate`.

    Parameters
    ----------
    x, y : array_like, shapes (..., n, d) and (..., m, d)
        Samples; leading dimensions broadcast.
    kernel : str or kernel, default "gaussian"
        A name or an object such as ``otdist.Gaussian(1.0) + otdist.Linear()``; see `otdist.Gaussian` and its kin.
    bandwidth : float, tuple of float, "median" or "scott"
        For kernels that state none; several mean the sum of their kernels. "median" is the median over the pairs of
        the pooled sample of ‖z_i − z_j‖ (of the root of the cost for kernels in c/σ², of the cost for kernels in c/σ),
        of all pairs up to 2000 points, of 2000 evenly spaced points beyond; "scott" is s N^(−1/(d+4)), s the pooled
        standard deviation. Each element of a batch has its own. Weights play no part in it.
    estimator : {"biased", "unbiased", "linear", "block"}
        "biased": the V-statistic Σ a_i a_j k(x_i, x_j) + Σ b_i b_j k(y_i, y_j) − 2 Σ a_i b_j k(x_i, y_j), never
        negative.
        "unbiased": without i = j, divided by 1 − Σ a_i² (n(n−1)/n²), 1 − Σ b_j²; negative about half of the time if the
        distributions agree, and never clamped. "linear": mean over ⌊n/2⌋ disjoint pairs of k(x1, x2) + k(y1, y2) −
        k(x1, y2) − k(x2, y1), O(n), n = m. "block": mean of "unbiased" over consecutive blocks, O(n block_size), n = m.
    squared : bool, default True
        False: the root. A negative estimate has none: an error.
    x_weights, y_weights : array_like, shapes (..., n) and (..., m), optional
        Weights a, b: non-negative, with sum 1 within the root of their dtype's epsilon (then divided by it in float64).
        Equal by default. "biased" and "unbiased" only.
    block_size : int, optional
        Of "block"; ⌊√n⌋ by default. Points after the last whole block are not used.

    Returns
    -------
    array, shape (...)
        In the library, dtype and device of the samples. O((n + m)² d / 2) time and O((n + m) d) memory; O(N log N) for
        `Laplacian` and `Energy` of one coordinate.

    Raises
    ------
    ValueError, TypeError
        Naming the argument: shapes (one-dimensional samples are x[:, None]), NaN, weights, options.

    Notes
    -----
    Gradients, by `value_and_grad`, with respect to x, y, x_weights, y_weights: the bandwidth is held constant,
    coincident points contribute 0, and weights are differentiated as they stand in the formula. With squared=False the
    gradient is 0 where the value is. Source: Gretton et al. (2012), A kernel two-sample test, JMLR 13; "block":
    Zaremba, Gretton & Blaschko (2013).

    Examples
    --------
    >>> import otdist as od
    >>> round(float(od.mmd([[0.0], [1.0]], [[0.0], [3.0]], bandwidth=1.0)), 6)
    0.432332
    """
    found, outcome = mmd_estimate(x, y, kernel, bandwidth, estimator, squared, x_weights, y_weights, block_size)
    return found.door.leave(outcome.value)


def energy_distance(
    x: Any,
    y: Any,
    *,
    exponent: float = 1.0,
    squared: bool = True,
    x_weights: Any = None,
    y_weights: Any = None,
) -> Any:
    """Energy distance 2 E‖x−y‖^e − E‖x−x′‖^e − E‖y−y′‖^e; its root with squared=False.

    The V-statistic, so never negative: it is MMD² of the kernel −‖x−y‖^e. This is what dcor returns; scipy's
    `energy_distance` is its root.

    Parameters
    ----------
    x, y : array_like, shapes (..., n, d) and (..., m, d)
        Samples; leading dimensions broadcast. One coordinate: x[:, None].
    exponent : float, default 1
        e in (0, 2]; with 2 it is twice the squared distance of the means, not a distance of distributions.
    squared : bool, default True
        False: the root, which is a metric.
    x_weights, y_weights : array_like, shapes (..., n) and (..., m), optional
        As for `mmd`.

    Returns
    -------
    array, shape (...)
        In the library, dtype and device of the samples. O((n + m)² d / 2) time; O((n + m) log(n + m)) for one
        coordinate and exponent 1.

    Raises
    ------
    ValueError, TypeError
        As for `mmd`.

    Notes
    -----
    Gradients as for `mmd`: coincident points contribute 0. Source: Székely & Rizzo (2013), Energy statistics, *J.
    Statistical Planning and Inference* 143.

    Examples
    --------
    >>> import otdist as od
    >>> float(od.energy_distance([[0.0, 0.0]], [[3.0, 4.0]]))
    10.0
    """
    found, outcome = energy_distance_estimate(x, y, exponent, squared, x_weights, y_weights)
    return found.door.leave(outcome.value)


class KID(NamedTuple):
    """Kernel distance over subsets: mean and standard error of the subsets' unbiased MMD².

    Parameters
    ----------
    mean : float
        Mean over the subsets.
    standard_error : float
        Their standard deviation (ddof = 1) over the root of their number: of the choice of the subsets, which overlap,
        not of the samples.

    Examples
    --------
    >>> import otdist as od
    >>> od.KID(0.5, 0.1).mean
    0.5
    """

    mean: float
    standard_error: float


def kid(
    x: Any,
    y: Any,
    *,
    degree: int = 3,
    gamma: float | None = None,
    coef0: float = 1.0,
    subsets: int = 100,
    subset_size: int = 1000,
    rng: Any = None,
) -> KID:
    """Kernel inception distance: unbiased MMD² of (γ⟨x, y⟩ + c₀)^degree on random subsets of features.

    Parameters
    ----------
    x, y : array_like, shapes (n, d) and (m, d)
        Features.
    degree, gamma, coef0 : int, float, float
        Of the kernel, see `otdist.Polynomial`; gamma is 1/d by default.
    subsets : int, default 100
        How many subsets, at least 2.
    subset_size : int, default 1000
        Points of each sample in a subset, drawn without replacement; never more than n or m.
    rng : numpy.random.Generator or int, optional
        Where subsets come from.

    Returns
    -------
    KID
        ``(mean, standard_error)``. O(subsets subset_size² d) time.

    Raises
    ------
    ValueError, TypeError
        As for `mmd`.

    Notes
    -----
    Has no gradient here; that of one subset is that of ``mmd(..., kernel="polynomial", estimator="unbiased")``. Source:
    Bińkowski et al. (2018), Demystifying MMD GANs.

    Examples
    --------
    >>> import numpy as np, otdist as od
    >>> x = np.random.default_rng(0).normal(size=(60, 4))
    >>> found = od.kid(x, x + 1.0, subsets=10, subset_size=50, rng=0)
    >>> bool(found.mean > 10 * found.standard_error > 0)
    True
    """
    kernel = Polynomial(degree, gamma, coef0)
    for name, value, low in (("subsets", subsets, 2), ("subset_size", subset_size, 2)):
        _whole(name, value, low)
    found, _ = pair(x, y)
    if found.x.ndim != 2 or found.y.ndim != 2:
        raise ValueError(f"x and y: found shapes {found.x.shape} and {found.y.shape}; features are (n, d) and (m, d)")
    source, size = generator(rng), min(subset_size, found.n, found.m)
    first, second = found.n, found.m
    draws = (
        (source.choice(first, size, replace=False), source.choice(second, size, replace=False)) for _ in range(subsets)
    )
    if found.door.space is not None:
        from otdist import _discrepancy_device

        values = _discrepancy_device.subsets(kernel, found, list(draws))
    else:
        parts = (Pair(found.door, found.x[i], found.y[j], None, None, ()) for i, j in draws)
        values = np.array([estimate([kernel], part, "unbiased").value for part in parts])
    return KID(float(values.mean()), float(values.std(ddof=1) / math.sqrt(subsets)))


def witness(
    x: Any,
    y: Any,
    at: Any,
    *,
    kernel: str | Kernel = "gaussian",
    bandwidth: Any = "median",
    x_weights: Any = None,
    y_weights: Any = None,
) -> Any:
    """Witness function E k(x, t) − E k(y, t) at points t: where x has more mass than y it is positive.

    Parameters
    ----------
    x, y : array_like, shapes (..., n, d) and (..., m, d)
        Samples; leading dimensions broadcast.
    at : array_like, shape (..., l, d)
        The points t.
    kernel, bandwidth, x_weights, y_weights
        As for `mmd`.

    Returns
    -------
    array, shape (..., l)
        In the library, dtype and device of the samples. O((n + m) l d) time, O(n + m + l) memory. Computed in float64.

    Raises
    ------
    ValueError, TypeError
        As for `mmd`.

    Notes
    -----
    The gradient of MMD² with respect to the weight of a point is twice the witness there. Source: Gretton et al.
    (2012).

    Examples
    --------
    >>> import otdist as od
    >>> od.witness([[0.0]], [[2.0]], [[0.0], [1.0]], bandwidth=1.0).round(6).tolist()
    [0.864665, 0.0]
    """
    found, (where,) = pair(x, y, x_weights, y_weights, at=at)
    here = found.door.space is None
    (points if here else shaped)("at", where)
    same_d(x=found.x, at=where)
    batch = common(samples=found.batch, at=where.shape[:-2])
    if not here:
        from otdist import _discrepancy_device

        return found.door.leave(_discrepancy_device.witness(kernel, bandwidth, found, where, batch))
    kernels = resolved(kernel, bandwidth, found)
    refuse_zero_vectors(kernels[0], at=where)
    refuse_extremes(kernels[0], x=found.x, y=found.y, at=where)
    X, Y = found.problems()
    w = found.pooled_weights()
    values = np.empty((*batch, where.shape[-2]))
    numbers = np.broadcast_to(np.arange(len(X)).reshape(found.batch), batch)
    for index in np.ndindex(*batch):
        p = int(numbers[index])
        pool = np.concatenate([X[p], Y[p]]).astype(np.float64)
        signed = np.repeat([1.0 / found.n, -1.0 / found.m], [found.n, found.m]) if w is None else w[p].copy()
        if w is not None:
            signed[found.n :] *= -1.0
        t = np.broadcast_to(where, (*batch, *where.shape[-2:]))[index].astype(np.float64)
        tag = kernels[p if len(kernels) > 1 else 0].tag(found.d)
        values[index] = gram.apply(tag, t, pool, signed[:, None])[:, 0]
    return found.door.leave(values)


def mmd_estimate(
    x: Any,
    y: Any,
    kernel: Any,
    bandwidth: Any,
    estimator: Any,
    squared: Any,
    x_weights: Any,
    y_weights: Any,
    block_size: Any,
    wanted: tuple[bool, ...] = NOTHING,
) -> tuple[Pair, Estimate]:
    """`mmd` and its gradients, with the door they leave by."""
    choose("estimator", estimator, ESTIMATORS)
    flag("squared", squared)
    if block_size is not None:
        if estimator != "block":
            raise ValueError(f'block_size: found {block_size!r} with estimator="{estimator}"; it is for "block"')
        block_size = _whole("block_size", block_size, 2)
    found, _ = pair(x, y, x_weights, y_weights)
    return found, _estimate(kernel, bandwidth, found, estimator, squared, block_size, wanted)


def energy_distance_estimate(
    x: Any, y: Any, exponent: Any, squared: Any, x_weights: Any, y_weights: Any, wanted: tuple[bool, ...] = NOTHING
) -> tuple[Pair, Estimate]:
    """`energy_distance` and its gradients, with the door they leave by."""
    flag("squared", squared)
    kernel = Energy(exponent)
    found, _ = pair(x, y, x_weights, y_weights)
    return found, _estimate(kernel, 1.0, found, "biased", squared, None, wanted)


def _estimate(
    kernel: Any,
    bandwidth: Any,
    found: Pair,
    estimator: str,
    squared: bool,
    block_size: int | None,
    wanted: tuple[bool, ...],
) -> Estimate:
    if found.door.space is not None:
        from otdist import _discrepancy_device

        return _discrepancy_device.estimate(kernel, bandwidth, found, estimator, squared, block_size, wanted)
    return estimate(resolved(kernel, bandwidth, found), found, estimator, squared, block_size, wanted)


def _whole(name: str, value: Any, low: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}: found {value!r}; give a whole number")
    if value < low:
        raise ValueError(f"{name}: found {value!r}; give at least {low}")
    return int(value)
