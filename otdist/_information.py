"""Front doors of the divergences of an order, of the affinity and of the entropies; public in ``divergences.py``."""

from __future__ import annotations

from typing import Any

from otdist._evaluate import Options
from otdist._front import Normalize, documented, value


@documented
def renyi(
    p: Any,
    q: Any,
    alpha: float,
    *,
    base: float | None = None,
    axis: int = -1,
    normalize: Normalize = "check",
    from_logits: bool = False,
) -> Any:
    """Rényi divergence log(Σ p^α q^(1−α))/(α − 1) of order α ≥ 0.

    <arrays>
    alpha : float
        The order, finite and not negative: 0 gives −log Q(p > 0), ½ twice `bhattacharyya`, 1 (the limit) `kl`.
    <base>
    <options>

    <returns>

    Notes
    -----
    Does not decrease in α. +inf for α ≥ 1 where q = 0 < p, for α < 1 where the supports are disjoint. Near p = q
    computed as log(1 + x)/(α − 1) from a sum x without cancellation. With normalize=False the formula is taken as it
    stands.
    Source: van Erven & Harremoës 2014.

    Examples
    --------
    >>> import otdist as od
    >>> round(float(od.renyi([0.5, 0.5], [0.25, 0.75], 2)), 10)
    0.2876820725
    """
    return value("renyi", {"p": p, "q": q}, Options(axis, normalize, from_logits), alpha=alpha, base=base)


@documented
def tsallis(
    p: Any,
    q: Any,
    alpha: float,
    *,
    axis: int = -1,
    normalize: Normalize = "check",
    from_logits: bool = False,
) -> Any:
    """Tsallis relative entropy (Σ p^α q^(1−α) − 1)/(α − 1) of order α > 0.

    <arrays>
    alpha : float
        The order, finite and positive; 1 (the limit) gives `kl`.
    <options>

    <returns>

    Notes
    -----
    α times `alpha_divergence`; for unnormalised measures its generalised form.

    Examples
    --------
    >>> import otdist as od
    >>> round(float(od.tsallis([0.5, 0.5], [0.25, 0.75], 2)), 10)
    0.3333333333
    """
    return value("tsallis", {"p": p, "q": q}, Options(axis, normalize, from_logits), alpha=alpha)


@documented
def alpha_divergence(
    p: Any,
    q: Any,
    alpha: float,
    *,
    axis: int = -1,
    normalize: Normalize = "check",
    from_logits: bool = False,
) -> Any:
    """α-divergence (Σ p^α q^(1−α) − α p − (1−α) q)/(α(α − 1)), any real α.

    <arrays>
    alpha : float
        The order, finite: −1 Neyman's χ²/2, 0 KL(q‖p), ½ four times the squared Hellinger distance, 1 KL(p‖q),
        2 Pearson's χ²/2.
    <options>

    <returns>

    Notes
    -----
    D_α(p, q) = D_{1−α}(q, p) ≥ 0, continuous in α at 0 and 1. Gradients: ((p/q)^(α−1) − 1)/(α − 1) and (1 − (p/q)^α)/α.
    Also known as Cressie-Read power divergence, 2/(λ(λ+1)) with λ = α − 1.

    Examples
    --------
    >>> import otdist as od
    >>> round(float(od.alpha_divergence([0.5, 0.5], [0.25, 0.75], 2)), 10)
    0.1666666667
    """
    return value("alpha_divergence", {"p": p, "q": q}, Options(axis, normalize, from_logits), alpha=alpha)


@documented
def bhattacharyya(
    p: Any,
    q: Any,
    *,
    base: float | None = None,
    axis: int = -1,
    normalize: Normalize = "check",
    from_logits: bool = False,
) -> Any:
    """Bhattacharyya distance −log Σ √(pq).

    <arrays>
    <base>
    <options>

    <returns>

    Notes
    -----
    −log(1 − H²) of the Hellinger distance H; +inf for disjoint supports. With normalize=False −log Σ √(pq) as it
    stands.

    Examples
    --------
    >>> import otdist as od
    >>> round(float(od.bhattacharyya([0.36, 0.48, 0.16], [1 / 3, 1 / 3, 1 / 3])), 10)
    0.0229101762
    """
    return value("bhattacharyya", {"p": p, "q": q}, Options(axis, normalize, from_logits), base=base)


@documented
def cross_entropy(
    p: Any,
    q: Any,
    *,
    base: float | None = None,
    axis: int = -1,
    normalize: Normalize = "check",
    from_logits: bool = False,
) -> Any:
    """Cross-entropy −Σ p log q: the mean code length of p under a code made for q.

    <arrays>
    <base>
    <options>

    <returns>

    Notes
    -----
    `entropy` of p plus KL(p‖q). +inf where q = 0 < p. Gradients: −log q and −p/q.

    Examples
    --------
    >>> import otdist as od
    >>> float(od.cross_entropy([0.5, 0.5], [0.25, 0.75], base=2).round(10))
    1.2075187496
    """
    return value("cross_entropy", {"p": p, "q": q}, Options(axis, normalize, from_logits), base=base)


@documented
def entropy(
    p: Any,
    *,
    base: float | None = None,
    axis: int = -1,
    normalize: Normalize = "check",
    from_logits: bool = False,
) -> Any:
    """Shannon entropy −Σ p log p.

    <one>
    <base>
    <options>

    <returns>

    Notes
    -----
    Between 0 and log k. Gradient: −log p − 1, 0 at empty bins.

    Examples
    --------
    >>> import otdist as od
    >>> round(float(od.entropy([0.5, 0.25, 0.25], base=2)), 10)
    1.5
    """
    return value("entropy", {"p": p}, Options(axis, normalize, from_logits), base=base)
