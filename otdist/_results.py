"""What tests return."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from otdist._arrays import Array


@dataclass(frozen=True, eq=False)
class TestResult:
    """Outcome of a two-sample test.

    Parameters
    ----------
    statistic : float
        Of the samples as given. For method "aggregated" the least p-value of the kernels, where small is extreme.
    p_value : float
        (1 + number of null statistics at least as extreme) / (1 + permutations), so never 0.
    null : ndarray (permutations,)
        Statistics of the relabelled samples, float64, in the order drawn.
    bandwidth : float, tuple or None
        As used; one per kernel for "aggregated"; None where the kernel has none.
    kernel : str
        The kernel used, as text that builds it; for "aggregated" the one with the least p-value.
    estimator : str
        "biased" or "unbiased".
    method : str
        "permutation", "wild" or "aggregated".
    permutations : int
        Number of random relabellings B.
    n, m : int
        Sizes of the samples.
    alpha : float
        Level at which `reject` judges by default.
    kernels : tuple of str
        For "aggregated": the candidates.
    statistics, p_values : ndarray or None
        For "aggregated": per candidate, its statistic and its own p-value, which holds for that kernel alone.

    Examples
    --------
    >>> import numpy as np
    >>> import otdist as od
    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.standard_normal((60, 2)), rng.standard_normal((50, 2)) + 1.0
    >>> result = od.mmd_test(x, y, permutations=199, rng=0)
    >>> result.p_value, result.reject(), result.reject(alpha=0.001)
    (0.005, True, False)
    """

    __test__ = False  # not a test, whatever its name looks like to pytest

    statistic: float
    p_value: float
    null: Array = field(repr=False)
    bandwidth: Any
    kernel: str
    estimator: str
    method: str
    permutations: int
    n: int
    m: int
    alpha: float = 0.05
    kernels: tuple[str, ...] = ()
    statistics: Array | None = None
    p_values: Array | None = None

    def reject(self, alpha: float | None = None) -> bool:
        """Whether the test rejects equality at level `alpha` (by default its own): p_value <= alpha."""
        level = self.alpha if alpha is None else alpha
        if isinstance(level, bool) or not isinstance(level, (int, float)):
            raise TypeError(f"alpha: found {type(level).__name__}; give a number between 0 and 1")
        if not 0 < level < 1:
            raise ValueError(f"alpha: found {level!r}; a level lies between 0 and 1")
        return self.p_value <= level

    def __repr__(self) -> str:
        words = [
            f"statistic={self.statistic:.6g}",
            f"p_value={self.p_value:.6g}",
            f"method={self.method!r}",
            f"kernel={self.kernel}" + (f" of {len(self.kernels)}" if self.kernels else ""),
            f"estimator={self.estimator!r}",
            f"permutations={self.permutations}",
            f"n={self.n}",
            f"m={self.m}",
        ]
        return f"TestResult({', '.join(words)})"
