"""Estimates of divergences between two distributions from a sample of each.

`x` (..., n, d) holds n points drawn independently from P, `y` (..., m, d) m points drawn independently from Q, and
independently of x; leading dimensions broadcast. Each method makes its own assumption, and each has a bias:

=============  =====================================  =================================================================
method         assumes                                bias
=============  =====================================  =================================================================
"knn"          densities, in few dimensions           from the densities' change over the k-th neighbour's distance,
                                                      of the order of (k/n)^(1/d) or better for smooth densities bounded
                                                      below; slower in tails, and of either sign
"histogram"    d <= 3                                 down, because cells merge points (data processing); up, by about
                                                      (occupied cells)·(1/n + 1/m)/2 for KL at P = Q (a quarter of that
                                                      for JS), because counts are noisy
"gaussian"     Gaussians                              up, by about d(d+3)/4·(1/n + 1/m) for KL at P = Q; does not vanish
                                                      as n grows where P and Q are not Gaussian
=============  =====================================  =================================================================

"knn" and "histogram" (with cells that shrink as n grows) are consistent: they tend to the divergence of P and Q as n
and m grow. "gaussian" tends to the divergence of the Gaussians with the moments of P and Q. Estimates by neighbours may
be negative where the divergence is nearly 0; they are never clamped.

Everything is computed in float64 and given back in the library, dtype and device of the arguments. No gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np

from otdist import _binned, _clouds, _fitted, _moments, _samples, divergences, gaussian
from otdist import _nearest_neighbours as neighbours
from otdist._arrays import enter_host
from otdist._normal import Array
from otdist.catalogue import choose, log_scale

__all__ = ["js", "kl", "renyi"]

Method = Literal["knn", "histogram", "gaussian"]
Single = Callable[[Array, Array], Any]
_METHODS = ("knn", "histogram", "gaussian")
_NEIGHBOURS = 5


def kl(
    x: Any,
    y: Any,
    *,
    method: Method = "knn",
    k: int | None = None,
    bins: Any = None,
    pseudocount: float | None = None,
    base: float | None = None,
) -> Any:
    """Estimate of the Kullback-Leibler divergence KL(P || Q) from samples.

    By neighbours ``(d/n) Σ log(ν_k(i)/ρ_k(i)) + log(m/(n−1))``, with ρ_k(i) and ν_k(i) the Euclidean distances from x_i
    to its k-th neighbour among the other points of x and among y.

    Parameters
    ----------
    x : array (..., n, d)
        Sample of P.
    y : array (..., m, d)
        Sample of Q. Samples on the line are ``x[:, None]``.
    method : {"knn", "histogram", "gaussian"}
        How; see the module's docstring for what each assumes.
    k : int, default 5
        "knn": which neighbour, k < n and k <= m. A larger k has less variance (per point 2 ψ′(k), about 2/k) and more
        bias.
    bins : {"fd", "scott"}, int, edges, or a sequence of d of these; default "fd"
        "histogram": the cells, common to both samples, d <= 3. A rule is applied to the pooled sample, along each
        coordinate: widths ``2·IQR·N^(−1/(d+2))`` (Freedman-Diaconis) or ``3.49·σ·N^(−1/(d+2))`` (Scott), N = n + m. A
        number divides the pooled range evenly. Edges must cover both samples; they may be infinite.
    pseudocount : float, default 0.5
        "histogram": what is added to both counts of every cell that holds a point of either sample, so that a cell
        without y does not make the value infinite. It pulls the value towards 0; 0 gives the plug-in estimate, +inf
        where a cell holds points of x and none of y.
    base : float, optional
        Base of the logarithm; natural by default.

    Returns
    -------
    array (...)
        "knn": finite. "histogram": `otdist.kl` of the counts. "gaussian": `otdist.gaussian.kl` of the fitted Gaussians
        (unbiased covariances); +inf if a sample is degenerate and their supports differ.

    Raises
    ------
    ValueError
        Shapes that do not fit, entries that are not finite, too few points, an option of another method. "knn": k + 1
        coinciding points of x, or k points of y on a point of x, for which the logarithm is infinite: densities have
        no such ties. "gaussian": n <= d or m <= d.

    Notes
    -----
    "knn" uses k-d trees: O((n+m) log(n+m)) time for small d, up to O(n (n+m) d) from d = 15 or so; O((n+m) d) memory.
    Invariant under a common translation, rotation and scaling. Coordinates of very different units should be brought to
    one scale first: the divergence does not change, the estimate does. The two samples must be independent: points
    that they share make it too small. Fewer ties than those refused are taken as they are.

    Reference: Wang, Kulkarni & Verdú (2009), Divergence estimation for multidimensional densities via
    k-nearest-neighbor distances, *IEEE Trans. Information Theory* 55.

    Examples
    --------
    >>> import numpy as np
    >>> from otdist import estimate
    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.normal(size=(2000, 2)), rng.normal(size=(3000, 2)) + [1.0, 0.0]
    >>> abs(float(estimate.kl(x, y)) - 0.5) < 0.1, abs(float(estimate.kl(x, y, method="gaussian")) - 0.5) < 0.1
    (True, True)
    """
    settings = _Settings(method, k, bins, pseudocount, 0.5)
    single: dict[str, Single] = {
        "knn": partial(neighbours.kl, k=settings.k),
        "histogram": settings.of_counts(divergences.kl),
        "gaussian": lambda x, y: gaussian.kl(*gaussian.fit(x), *gaussian.fit(y)),
    }
    return _each(x, y, settings, single[settings.method], base)


def js(
    x: Any,
    y: Any,
    *,
    method: Method = "knn",
    k: int | None = None,
    bins: Any = None,
    pseudocount: float | None = None,
    base: float | None = None,
) -> Any:
    """Estimate of the Jensen-Shannon divergence ½ KL(P || M) + ½ KL(Q || M), M = (P + Q)/2, from samples.

    By neighbours ``log 2 + ½ mean_i [ψ(k) − ψ(M_i)] + ½ mean_j [ψ(k) − ψ(M_j)]``: M_i counts the points of both
    samples, brought to equal numbers, in the ball that reaches from x_i to its k-th neighbour in x. Where the densities
    are constant over the ball, ψ(k) − ψ(M_i) has exactly the mean log(p/(p+q)).

    Parameters
    ----------
    x, y : array (..., n, d) and (..., m, d)
        Samples of P and Q, as in `kl`.
    method : {"knn", "histogram", "gaussian"}
        How. "gaussian" needs d = 1, where the Jensen-Shannon divergence of two Gaussians is integrated to rounding: it
        has no closed form.
    k, bins, base
        As in `kl`. k < n and k < m; where n and m differ, k < (size of the larger's parts), see Notes.
    pseudocount : float, default 0
        As in `kl`; the Jensen-Shannon divergence needs none to be finite.

    Returns
    -------
    array (...)
        At most log 2; by neighbours it may fall below 0 where P and Q nearly agree.

    Raises
    ------
    ValueError
        As in `kl`; "knn": k + 1 coinciding points within either sample; "gaussian": d > 1.

    Notes
    -----
    Symmetric. Cost as for `kl`. "knn", bias: none of first order (a plain plug-in of density ratios has −ψ′(k)/4 at
    P = Q); what is left comes from densities that vary over the k-th neighbour's distance and from n being finite.
    Samples of different sizes: neighbours in y are thinned to the rate of x, and the mean over the thinning is taken
    exactly; as a sample can only be thinned, the larger one is cut into the fewest parts (rows i, i + L, i + 2L, …)
    that are no larger than the other, and every part is used. So the value then depends on the order of the rows.

    Reference: Ross (2014), Mutual information between discrete and continuous data sets, *PLoS ONE* 9: this is the
    mutual information between a point and the sample it came from, here with equal weights whatever n and m.

    Examples
    --------
    >>> import numpy as np
    >>> from otdist import estimate
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(1000, 3))
    >>> round(float(estimate.js(x, x[::-1] + 100.0, base=2)), 12)
    1.0
    >>> abs(float(estimate.js(x, rng.normal(size=(800, 3))))) < 0.05
    True
    """
    settings = _Settings(method, k, bins, pseudocount, 0.0)
    single: dict[str, Single] = {
        "knn": partial(neighbours.js, k=settings.k),
        "histogram": settings.of_counts(divergences.js),
    }
    return _each(x, y, settings, single.get(settings.method, _js_of_fits), base, both=True)


def renyi(
    x: Any,
    y: Any,
    alpha: float,
    *,
    method: Method = "knn",
    k: int | None = None,
    bins: Any = None,
    pseudocount: float | None = None,
    base: float | None = None,
) -> Any:
    """Estimate of the Rényi divergence log(∫ p^α q^(1−α))/(α − 1) of order alpha from samples.

    By neighbours, the integral is ``B · mean_i [(n−1) ρ_k(i)^d / (m ν_k(i)^d)]^(1−α)``, distances as in `kl`, with
    ``B = Γ(k)²/(Γ(k−α+1) Γ(k+α−1))``, which makes each term unbiased where the densities are locally constant.

    Parameters
    ----------
    x, y : array (..., n, d) and (..., m, d)
        Samples of P and Q, as in `kl`.
    alpha : float
        Order, > 0 and finite; 1 is `kl`.
    method : {"knn", "histogram", "gaussian"}
        How, as in `kl`.
    k : int, optional
        As in `kl`, but k > |α − 1|, and the terms have a finite variance for k > 2 |α − 1| only: the default is 5 or,
        for large orders, the least integer above 2 |α − 1|.
    bins, pseudocount, base
        As in `kl`.

    Returns
    -------
    array (...)
        By neighbours finite; may be negative where P and Q nearly agree.

    Raises
    ------
    ValueError
        As in `kl`; alpha <= 0 or not finite; k <= |α − 1|.

    Notes
    -----
    Cost and invariance as for `kl`. By Jensen's inequality the logarithm of the mean adds a bias of the order of
    variance/n, upwards for α < 1 and downwards for α > 1. Small orders are governed by the points of x where p/q is
    least, in the tails of P, and lean more on neighbours far away: for α = 0.3 and d = 5 a few thousand points are few.
    For α > 1 the mean is governed by the few points where p/q is largest: where the true integral is large, every
    estimate from n points is too small.

    Reference: Póczos & Schneider (2011), On the estimation of α-divergences, *AISTATS*.

    Examples
    --------
    >>> import numpy as np
    >>> from otdist import estimate
    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.normal(size=(4000, 1)), rng.normal(size=(4000, 1)) + 2.0
    >>> abs(float(estimate.renyi(x, y, 0.5)) - 1.0) < 0.1
    True
    """
    alpha = _moments.number("alpha", alpha)
    if not 0 < alpha < math.inf:
        raise ValueError(f"alpha: found {alpha!r}; the order must be > 0 and finite")
    least = abs(alpha - 1)
    settings = _Settings(method, k, bins, pseudocount, 0.5, max(_NEIGHBOURS, math.floor(2 * least) + 1))
    if settings.method == "knn" and settings.k <= least:
        raise ValueError(f"k: found {settings.k} for alpha = {alpha!r}; the estimate needs k > |alpha - 1|")
    single: dict[str, Single] = {
        "knn": partial(neighbours.renyi, alpha=alpha, k=settings.k),
        "histogram": settings.of_counts(partial(divergences.renyi, alpha=alpha)),
        "gaussian": lambda x, y: gaussian.renyi(*gaussian.fit(x), *gaussian.fit(y), alpha),
    }
    return _each(x, y, settings, single[settings.method], base)


class _Settings:
    """The options of the method, checked; an option of another method is refused."""

    def __init__(
        self, method: str, k: Any, bins: Any, pseudocount: Any, smoothing: float, neighbours: int = _NEIGHBOURS
    ) -> None:
        self.method: str = choose("method", method, _METHODS)
        given = {"k": (k, "knn"), "bins": (bins, "histogram"), "pseudocount": (pseudocount, "histogram")}
        for name, (value, owner) in given.items():
            if value is not None and owner != self.method:
                raise ValueError(
                    f"{name}: found {value!r} with method={self.method!r}; it belongs to method={owner!r}: leave it out"
                )
        self.k = neighbours if k is None else _clouds.count("k", k, 1)
        self.bins = "fd" if bins is None else bins
        self.pseudocount = smoothing if pseudocount is None else _moments.number("pseudocount", pseudocount)
        if not 0 <= self.pseudocount < math.inf:
            raise ValueError(f"pseudocount: found {self.pseudocount!r}; give a finite number, 0 or more")

    def of_counts(self, divergence: Callable[..., Any]) -> Single:
        def single(x: Array, y: Array) -> Any:
            p, q = _binned.counts(x, y, self.bins)
            return divergence(p + self.pseudocount, q + self.pseudocount, normalize=True)

        return single

    def check_sizes(self, n: int, m: int, d: int, *, both: bool) -> None:
        """Refuse samples too small for the method; `both`: neighbours are wanted within y too."""
        if self.method == "gaussian":
            for name, size in (("x", n), ("y", m)):
                if size <= d:
                    raise ValueError(
                        f"{name}: found {size} points of {d} coordinates; a covariance needs more points than "
                        f"coordinates: use method='knn', or otdist.gaussian with a covariance of your own"
                    )
        if self.method != "knn":
            return
        own, other = (n // neighbours.groups(n, m), m // neighbours.groups(m, n) - 1) if both else (n, m)
        for name, size, have in (("x", n, own - 1), ("y", m, other)):
            if have < self.k:
                part = f", in parts of {have + 1} as the other sample is smaller," if both and have + 1 < size else ""
                raise ValueError(f"{name}: found {size} points{part} for k = {self.k}; pass more points or a smaller k")


def _js_of_fits(x: Array, y: Array) -> float:
    (m1, S1), (m2, S2) = gaussian.fit(x), gaussian.fit(y)
    return _fitted.js(float(m1[0]), float(S1[0, 0]), float(m2[0]), float(S2[0, 0]))


def _each(
    x: Any,
    y: Any,
    settings: _Settings,
    single: Single,
    base: float | None,
    *,
    both: bool = False,
) -> Any:
    """`single` of every pair of clouds of the batch, in the caller's arrays."""
    scale = log_scale(base)
    door, hosts = enter_host(x=x, y=y)
    x, y = (_samples.points(name, a).astype(np.float64, copy=False) for name, a in zip(("x", "y"), hosts, strict=True))
    _samples.same_d(x=x, y=y)
    (n, d), m = x.shape[-2:], y.shape[-2]
    if both and settings.method == "gaussian" and d > 1:
        raise ValueError(
            f"method: found 'gaussian' for d = {d} coordinates; the Jensen-Shannon divergence of Gaussians has no "
            f"closed form and is integrated for d = 1 only: use method='knn'"
        )
    settings.check_sizes(n, m, d, both=both)
    batch = _samples.common(x=x.shape[:-2], y=y.shape[:-2])
    x, y = np.broadcast_to(x, (*batch, n, d)), np.broadcast_to(y, (*batch, m, d))
    value = np.empty(batch)
    for i in np.ndindex(*batch):
        value[i] = single(x[i], y[i])
    return door.leave(scale * value)
