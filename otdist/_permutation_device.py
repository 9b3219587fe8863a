"""Permutation tests of samples on a GPU: what ``_permutation.py`` does, the labels and the kernel on the device.

Labels are the CPU's, bit for bit: drawn by the same counters from the same seeds. The answer is a `TestResult` on the
host, so these calls wait; to choose bandwidths, at most 2000 points are copied to the host.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from otdist import _bandwidth, _samples
from otdist._arrays import Array
from otdist._permutation import EPS, Found, Weights, refuse_overflow, weights_of
from otdist.kernels import bandwidth_cuda, formulas_cuda, gram_cuda, permute_cuda
from otdist.kernels.gram_cuda import Numbers, Pool
from otdist.kernels.profiles import First, Kernel, Polynomial, Squared
from otdist.rkhs import Energy, resolve

# Coordinates that the CPU's check of extremes need not look at.
ORDINARY = (1e-80, 1e100)


@dataclass(frozen=True)
class DeviceSamples:
    """`_permutation.Samples` on a GPU."""

    space: Any
    x: Any  # (n, d)
    y: Any
    permutations: int
    generator: np.random.Generator

    @property
    def n(self) -> int:
        return int(self.x.shape[0])

    @property
    def m(self) -> int:
        return int(self.y.shape[0])

    @property
    def d(self) -> int:
        return int(self.x.shape[1])

    def seeds(self) -> Any:
        """Of the labels of every column, on the device."""
        drawn = self.generator.integers(0, 2**64, size=self.permutations, dtype=np.uint64)
        return self.space.put(np.concatenate([np.zeros(1, np.uint64), drawn]))

    def rows(self, chosen: Array | None, needed: bool) -> Array:
        """Points of the pool, on the host, in float64; copied only if more than their shape is `needed`."""
        if not needed:
            return np.zeros((2, self.d))
        if chosen is None:
            return np.concatenate([self.space.host(a).astype(np.float64) for a in (self.x, self.y)])
        sides = []
        for a, here, start in ((self.x, chosen < self.n, 0), (self.y, chosen >= self.n, self.n)):
            some = self.space.put(np.where(here, chosen - start, 0))
            sides.append(self.space.host(gram_cuda.take(self.space, a, some)).astype(np.float64))
        found: Array = np.where((chosen < self.n)[:, None], *sides)
        return found

    def resolve(self, base: Any, bandwidth: Any, pool: Array) -> Any:
        """The kernel with its bandwidths filled in, by a rule from the points `pool`, or from all for "scott"."""
        if not (isinstance(bandwidth, str) and bandwidth == "scott"):
            half = len(pool) // 2
            return resolve(base, bandwidth, pool[:half], pool[half:])
        sigma = self.space.empty((1,), np.float64)
        bandwidth_cuda.scott(self.space, self.x[None], self.y[None], sigma)

        def fill(cost: str, root: bool) -> float:
            _bandwidth.need_length(cost, root)
            return float(self.space.host(sigma)[0])

        return base.fill(fill)

    def refuse_zero_vectors(self, base: Any) -> None:
        """As the CPU does; the copies are made only for kernels that look at cosines."""
        if _samples.looks_at_angles(base):
            hosts = {name: self.space.host(a) for name, a in (("x", self.x), ("y", self.y))}
            _samples.refuse_zero_vectors(base, **hosts)

    def prepared(self, kernel: Any, *, ordered: Any = None) -> tuple[Kernel, Numbers, Pool]:
        """A kernel and the pool as kernels take them; inner products about a centre, if nothing sees a shift."""
        tag, space = kernel.tag(self.d), self.space
        numbers = Numbers(bandwidth_cuda.put(space, formulas_cuda.numbers(tag)).reshape(1, -1))
        samples = (self.x[None], self.y[None]) if ordered is None else (ordered[None],)
        return tag, numbers, Pool(space, tag, samples, (0, 1)[: len(samples)], np.float64, kernel.shift_free)


def checked(space: Any, x: Any, y: Any, check: Any) -> tuple[Any, Any]:
    """The samples, contiguous; bad points, or such as the CPU's `check` of the pool might refuse, go through that."""
    x, y = space.contiguous(x), space.contiguous(y)
    tag = Kernel((Squared(),), Polynomial(First(), 1.0, 0.0, (True,)))
    zero = space.zeros((1, x.shape[1]), x.dtype)
    pool = Pool(space, tag, (x[None], y[None]), (0, 1), np.float64, False, origin=zero)
    size = float(space.host(pool.extent).view(np.float64)[0])
    if space.host(space.flags).any() or not (size == 0.0 or ORDINARY[0] < size < ORDINARY[1]):
        hosts = [_samples.points(name, space.host(a)) for name, a in (("x", x), ("y", y))]
        check(np.concatenate(hosts, dtype=np.float64))
    return x, y


def permuted(samples: DeviceSamples, kernels: list[Any], estimator: str) -> Found:
    """Random subsets of size n of the pool."""
    return _permuted(samples, kernels, estimator)


def on_the_line(samples: DeviceSamples) -> Found:
    """Energy distances in one dimension: the CPU labels points in their order, so this does; the form is the same."""
    ordered, given = permute_cuda.ranked(samples.space, samples.x, samples.y)
    return _permuted(samples, [Energy()], "biased", ordered, given)


def _permuted(
    samples: DeviceSamples, kernels: list[Any], estimator: str, ordered: Any = None, given: Any = None
) -> Found:
    n, size, space = samples.n, samples.n + samples.m, samples.space
    w: Weights = weights_of(n, samples.m, estimator)
    labels = permute_cuda.subsets(space, samples.seeds(), n, size, given)
    values, margins, constants = [], [], []
    for kernel in kernels:
        tag, numbers, pool = samples.prepared(kernel, ordered=ordered)
        drop = estimator == "unbiased" or kernel.distances
        forms = permute_cuda.quadratic(
            space, tag, numbers, pool, labels, w.low, w.high, drop=drop, paired=False
        )  # fmt: skip
        refuse_overflow(forms.modulus)
        diagonal = forms.diagonal / size if drop and estimator == "biased" else 0.0
        values.append(w.a * forms.values)
        margins.append([16 * EPS * w.a * w.mean**2 * forms.modulus])
        constants.append([w.a * diagonal * n * samples.m / size + w.rest * forms.total])
    return Found(np.array(values), np.array(margins), np.array(constants))


def signed(samples: DeviceSamples, kernel: Any, estimator: str) -> Found:
    """Random exchanges of x_i and y_i: Σ ε_i ε_j h_ij over i ≠ j; with i = j it would only be shifted."""
    n, space = samples.n, samples.space
    tag, numbers, pool = samples.prepared(kernel)
    labels = permute_cuda.coins(space, samples.seeds(), n)
    forms = permute_cuda.quadratic(space, tag, numbers, pool, labels, -1.0, 1.0, drop=True, paired=True)
    refuse_overflow(forms.modulus)
    pairs = n * (n - 1) if estimator == "unbiased" else n * n
    constant = 0.0 if estimator == "unbiased" else forms.diagonal / pairs
    return Found(
        forms.values[None] / pairs, np.full((1, 1), 16 * EPS * forms.modulus / pairs), np.full((1, 1), constant)
    )
