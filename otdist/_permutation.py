"""Statistics of two samples under random relabellings, and the p-value of the labels as given.

With e the members of the first sample, u = e − n/N and 1 all ones, every statistic here is one quadratic form. Biased,
w'Kw with w = e/n − (1 − e)/m = (1/n + 1/m) u. Unbiased, K with a diagonal of 0, by e = u + n/N and 1 − e = m/N − u:

    e'Ke/(n(n−1)) + (1−e)'K(1−e)/(m(m−1)) − 2 e'K(1−e)/(nm) = a u'Ku + 2 a s u'K1 + r 1'K1
    a = 1/(n(n−1)) + 1/(m(m−1)) + 2/(nm),   a s N = 1/(n−1) − 1/(m−1) − 1/n + 1/m,   r N² = 1/(n−1) + 1/(m−1)

which is a v'Kv + (r − a s²) 1'K1 with v = u + s. Nothing large is subtracted, and no row sums are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from otdist._arrays import Array
from otdist._results import TestResult
from otdist._samples import refuse_zero_vectors
from otdist.rkhs import Kernel, Product, Sum, resolve

if TYPE_CHECKING:
    from otdist.kernels.permute import Forms

EPS = float(np.finfo(np.float64).eps)


class Samples(NamedTuple):
    """Two checked samples as one pool, and what draws the labels."""

    pool: Array  # (n + m, d) float64
    n: int
    m: int
    permutations: int
    generator: np.random.Generator

    @property
    def d(self) -> int:
        return int(self.pool.shape[1])

    def rows(self, chosen: Array | None, needed: bool) -> Array:
        """Those points of the pool (by default all), of which more than their shape may be `needed`."""
        return self.pool if chosen is None else self.pool[chosen]

    def resolve(self, base: Kernel, bandwidth: Any, pool: Array) -> Kernel:
        """The kernel with its bandwidths filled in from the points `pool`."""
        half = len(pool) // 2
        return resolve(base, bandwidth, pool[:half], pool[half:])

    def refuse_zero_vectors(self, base: Kernel) -> None:
        """Where the kernel looks at cosines."""
        refuse_zero_vectors(base, x=self.pool[: self.n], y=self.pool[self.n :])

    def seeds(self) -> Array:
        """Of the labels of every column; column 0 is for the labels as given."""
        drawn = self.generator.integers(0, 2**64, size=self.permutations, dtype=np.uint64)
        return np.concatenate([np.zeros(1, np.uint64), drawn])

    def points(self, kernel: Kernel) -> Array:
        """The pool as the kernel takes it: inner products about its mean, if the statistic does not see a shift."""
        return self.pool - self.pool.mean(axis=0) if kernel.shift_free and not kernel.distances else self.pool


@dataclass(frozen=True)
class Found:
    """Statistics per kernel and labelling, less a constant; column 0 is that of the labels as given."""

    values: Array  # (kernels, 1 + B)
    margin: Array  # (kernels, 1): what rounding may tell apart
    constant: Array  # (kernels, 1)


class Weights(NamedTuple):
    """A statistic as a v'Kv + rest 1'K1, v = low or high; the mean of |v|."""

    a: float
    low: float
    high: float
    rest: float
    mean: float


def weights_of(n: int, m: int, estimator: str) -> Weights:
    """Of the estimator, for samples of n and m points."""
    size = n + m
    a, shift, rest = (1 / n + 1 / m) ** 2, 0.0, 0.0
    if estimator == "unbiased":
        a = 1 / n / (n - 1) + 1 / m / (m - 1) + 2 / n / m
        shift = (1 / (n - 1) - 1 / (m - 1) - 1 / n + 1 / m) / size / a
        rest = (1 / (n - 1) + 1 / (m - 1)) / size**2 - a * shift**2
    low, high = shift - n / size, shift + m / size
    return Weights(a, low, high, rest, (n * abs(high) + m * abs(low)) / size)


def refuse_overflow(modulus: Any) -> None:
    """The kernel must be finite between all points."""
    if not np.isfinite(modulus).all():
        raise ValueError("x and y: found points at which the kernel overflows; divide both samples by one constant")


def permuted(samples: Samples, kernels: list[Any], estimator: str) -> Found:
    """Random subsets of size n of the pool."""
    from otdist.kernels import permute

    n, m = samples.n, samples.m
    size = n + m
    a, low, high, rest, mean = weights_of(n, m, estimator)
    blocks, constants = [], []
    for kernel in kernels:
        tag, points = kernel.tag(samples.pool.shape[1]), samples.points(kernel)
        # A diagonal that is all the same only adds a constant, in which small differences would be rounded away
        drop = estimator == "unbiased" or kernel.distances
        diagonal = float(_block(tag, points[:1], points[:1])[0, 0]) if drop and estimator == "biased" else 0.0
        blocks.append(partial(_gram, tag, points, drop))
        constants.append(a * diagonal * n * m / size)
    forms = _forms(blocks, samples.seeds(), np.arange(size) < n, lambda s: permute.subsets(s, n, size), low, high)
    margin = 16 * EPS * a * mean**2 * forms.modulus[:, None]
    return Found(a * forms.values, margin, np.array(constants)[:, None] + rest * forms.total[:, None])


def signed(samples: Samples, kernel: Any, estimator: str) -> Found:
    """Random exchanges of x_i and y_i: Σ ε_i ε_j h_ij over i ≠ j; with i = j it would only be shifted."""
    from otdist.kernels import permute

    n, tag, points = samples.n, kernel.tag(samples.pool.shape[1]), samples.points(kernel)
    diagonal, modulus = np.zeros(n), np.zeros(n)
    block = partial(_paired, tag, points[:n], points[n:], diagonal, modulus)
    forms = _forms([block], samples.seeds(), np.ones(n), lambda s: permute.coins(s, n), -1.0, 1.0)
    pairs = n * (n - 1) if estimator == "unbiased" else n * n
    constant = 0.0 if estimator == "unbiased" else float(diagonal.sum()) / pairs
    margin = 16 * EPS * float(modulus.sum()) / pairs
    return Found(forms.values / pairs, np.full((1, 1), margin), np.full((1, 1), constant))


def _forms(
    blocks: list[Any], seeds: Array, given: Array, draw: Callable[[Array], Array], low: float, high: float
) -> Forms:
    """Quadratic forms of the labels as given, in column 0, and of those drawn."""
    from otdist.kernels import permute

    parts = []
    for c0, c1 in permute.pieces(len(given), len(seeds)):
        E = draw(seeds[c0:c1])
        if c0 == 0:
            E[:, 0] = given
        parts.append(permute.quadratic(blocks, E, low, high))
    whole = parts[0]._replace(values=np.concatenate([part.values for part in parts], axis=1))
    refuse_overflow(whole.modulus)
    return whole


def on_the_line(samples: Samples) -> Found:
    """Energy distances in one dimension, 2∫(F − G)²."""
    from otdist.kernels import permute

    n, m = samples.n, samples.m
    order = np.argsort(samples.pool[:, 0], kind="stable")
    gaps = np.diff(samples.pool[order, 0], append=samples.pool[order[-1], 0])
    values = permute.on_the_line(samples.seeds(), (order < n).astype(np.uint8), gaps)[None] * (2 / n / m / n / m)
    return Found(values, EPS * (n + m) * values[:, :1], np.zeros((1, 1)))


def _block(tag: Any, x: Array, y: Array) -> Array:
    from otdist.kernels import gram

    block: Array = gram.block(tag, x, y)
    return block


def _gram(tag: Any, z: Array, drop: bool, i0: int, i1: int, j0: int, j1: int) -> Array:
    """A block of K, 0 on the diagonal if that is dropped."""
    block = _block(tag, z[i0:i1], z[j0:j1])
    if drop:
        place = np.arange(max(i0, j0), min(i1, j1))
        block[place - i0, place - j0] = 0.0
    return block


def _paired(tag: Any, x: Array, y: Array, diagonal: Array, modulus: Array, i0: int, i1: int, j0: int, j1: int) -> Array:
    """A block of h, whose diagonal moves to `diagonal`; modulus: rows' sums of what h is the difference of, twice."""
    rows, columns = slice(i0, i1), slice(j0, j1)
    h = _block(tag, x[rows], x[columns])
    sizes = np.abs(h).sum(axis=1)
    for sign, left, right in ((1.0, y, y), (-1.0, x, y), (-1.0, y, x)):
        part = _block(tag, left[rows], right[columns])
        sizes += np.abs(part).sum(axis=1)
        part *= sign
        h += part
    modulus[rows] = 2.0 * sizes + (modulus[rows] if j0 > i0 else 0.0)
    place = np.arange(max(i0, j0), min(i1, j1))
    if place.size:
        diagonal[place] = h[place - i0, place - j0]
        h[place - i0, place - j0] = 0.0
    return h


def judge(
    samples: Samples, kernels: Sequence[Any], found: Found, estimator: str, method: str, alpha: float
) -> TestResult:
    """Ranks, and the result in words."""
    count = 1 + samples.permutations
    statistics = found.values + found.constant
    if estimator == "biased":
        statistics = np.maximum(statistics, 0.0)  # what is below is rounding
    # ranks[l, c]: how many labellings are at least as extreme as c for kernel l, itself among them
    ranks = np.empty(statistics.shape, np.int64)
    for row, values, margin in zip(ranks, found.values, found.margin, strict=True):
        row[:] = count - np.searchsorted(np.sort(values), values - margin, side="left")
    names = tuple(map(repr, kernels))
    result = TestResult(
        statistic=float(statistics[0, 0]),
        p_value=float(ranks[0, 0] / count),
        null=statistics[0, 1:].copy(),
        bandwidth=_widths(kernels[0]),
        kernel=names[0],
        estimator=estimator,
        method=method,
        permutations=samples.permutations,
        n=samples.n,
        m=samples.m,
        alpha=alpha,
    )
    if method != "aggregated":
        return result
    best = ranks.min(axis=0)
    return replace(
        result,
        statistic=float(best[0] / count),
        p_value=float(np.count_nonzero(best <= best[0]) / count),
        null=best[1:] / count,
        bandwidth=tuple(map(_widths, kernels)),
        kernel=names[int(ranks[:, 0].argmin())],
        kernels=names,
        statistics=statistics[:, 0].copy(),
        p_values=ranks[:, 0] / count,
    )


def _widths(kernel: Any) -> Any:
    """The bandwidth of a kernel, those of a sum or product as a tuple, None if there is none."""
    if not isinstance(kernel, (Sum, Product)):
        return getattr(kernel, "bandwidth", None)
    both = [width for side in (kernel.left, kernel.right) if (width := _widths(side)) is not None]
    return tuple(both) if len(both) > 1 else next(iter(both), None)
