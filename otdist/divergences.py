"""Divergences between histograms: the front doors.

Definitions and plans are in ``catalogue.py``, the work in ``_evaluate.py``.
"""

from __future__ import annotations

from typing import Any, Literal

from otdist._custom import evaluate_generator
from otdist._evaluate import Options
from otdist._front import Normalize, documented, value
from otdist._information import alpha_divergence, bhattacharyya, cross_entropy, entropy, renyi, tsallis
from otdist.catalogue import GENERATORS, Generator, choose

__all__ = [
    "alpha_divergence",
    "bhattacharyya",
    "chi2",
    "cross_entropy",
    "entropy",
    "f_divergence",
    "hellinger",
    "jeffreys",
    "js",
    "js_distance",
    "kl",
    "l2",
    "renyi",
    "tsallis",
    "tv",
]


@documented
def tv(p: Any, q: Any, *, axis: int = -1, normalize: Normalize = "check", from_logits: bool = False) -> Any:
    """Total variation distance, ½ Σ |p − q| = max over events of |P(A) − Q(A)|.

    <arrays>
    <options>

    <returns>

    Notes
    -----
    A metric between 0 and 1. Gradient: ½ sign(p − q), 0 at ties.

    Examples
    --------
    >>> import otdist as od
    >>> float(od.tv([0.5, 0.5], [0.25, 0.75]))
    0.25
    """
    return value("tv", {"p": p, "q": q}, Options(axis, normalize, from_logits))


@documented
def hellinger(
    p: Any,
    q: Any,
    *,
    squared: bool = False,
    convention: Literal["lecture"] | None = None,
    axis: int = -1,
    normalize: Normalize = "check",
    from_logits: bool = False,
) -> Any:
    """Hellinger distance, √(½ Σ (√p − √q)²).

    <arrays>
    squared : bool, default False
        Return the square, which is an f-divergence.
    convention : {None, "lecture"}
        "lecture": without the factor ½.
    <options>

    <returns>

    Notes
    -----
    A metric between 0 and 1, summed as ½ (p − q)²/(√p + √q)², which keeps full relative accuracy at p ≈ q. Gradient of
    the square: ½ (1 − √(q/p)), 0 at empty bins; of the distance: 0 at p = q.

    Examples
    --------
    >>> import otdist as od
    >>> round(float(od.hellinger([0.36, 0.48, 0.16], [1 / 3, 1 / 3, 1 / 3])), 10)
    0.1504982751
    """
    return value(
        "hellinger", {"p": p, "q": q}, Options(axis, normalize, from_logits), squared=squared, convention=convention
    )


@documented
def l2(
    p: Any,
    q: Any,
    *,
    squared: bool = False,
    convention: Literal["lecture"] | None = None,
    axis: int = -1,
    normalize: Normalize = "check",
    from_logits: bool = False,
) -> Any:
    """Euclidean distance, ‖p − q‖₂.

    <arrays>
    squared : bool, default False
        Return Σ (p − q)².
    convention : {None, "lecture"}
        "lecture": the square.
    <options>

    <returns>

    Notes
    -----
    A metric, at most √2. Gradient of the square: 2 (p − q); of the distance: 0 at p = q.

    Examples
    --------
    >>> import otdist as od
    >>> round(float(od.l2([0.36, 0.48, 0.16], [1 / 3, 1 / 3, 1 / 3])), 10)
    0.2286190427
    """
    return value("l2", {"p": p, "q": q}, Options(axis, normalize, from_logits), squared=squared, convention=convention)


@documented
def chi2(
    p: Any,
    q: Any,
    *,
    kind: Literal["pearson", "neyman", "symmetric"] = "pearson",
    axis: int = -1,
    normalize: Normalize = "check",
    from_logits: bool = False,
) -> Any:
    """χ² divergences: Pearson Σ (p − q)²/q, Neyman Σ (p − q)²/p, symmetric Σ (p − q)²/(p + q).

    <arrays>
    kind : {"pearson", "neyman", "symmetric"}
        Which one. scikit-learn's ``additive_chi2_kernel`` is minus the symmetric one.
    <options>

    <returns>

    Notes
    -----
    Pearson is +inf where q = 0 < p, Neyman where p = 0 < q; the symmetric one is the square of a metric, at most 2.
    Gradients: Pearson 2 (p − q)/q and 1 − p²/q²; symmetric t (2 − t) and −t (2 + t), t = (p − q)/(p + q).

    Examples
    --------
    >>> import otdist as od
    >>> round(float(od.chi2([0.36, 0.48, 0.16], [1 / 3, 1 / 3, 1 / 3])), 10)
    0.1568
    """
    return value("chi2", {"p": p, "q": q}, Options(axis, normalize, from_logits), kind=kind)


@documented
def kl(
    p: Any,
    q: Any,
    *,
    base: float | None = None,
    axis: int = -1,
    normalize: Normalize = "check",
    from_logits: bool = False,
) -> Any:
    """Kullback-Leibler divergence KL(p‖q) = Σ p log(p/q).

    <arrays>
    <base>
    <options>

    <returns>

    Notes
    -----
    Argument order as in the formula (``torch.nn.functional.kl_div(log q, p)``). 0 log 0 = 0; +inf where q = 0 < p.
    Always summed in the generalised form Σ p log(p/q) − p + q: the same number for histograms, never negative, exact to
    rounding at p ≈ q, and the definition for unnormalised measures. Gradients of that form: log(p/q) (0 where p = 0)
    and 1 − p/q; on histograms they differ from log(p/q) + 1 and −p/q by a constant that no change of the histogram
    sees.

    Examples
    --------
    >>> import otdist as od
    >>> round(float(od.kl([0.36, 0.48, 0.16], [1 / 3, 1 / 3, 1 / 3])), 10)
    0.0852996013
    >>> float(od.kl([0.5, 0.5], [1.0, 0.0]))
    inf
    """
    return value("kl", {"p": p, "q": q}, Options(axis, normalize, from_logits), base=base)


@documented
def js(
    p: Any,
    q: Any,
    *,
    base: float | None = None,
    convention: Literal["wgan"] | None = None,
    axis: int = -1,
    normalize: Normalize = "check",
    from_logits: bool = False,
) -> Any:
    """Jensen-Shannon divergence ½ KL(p‖m) + ½ KL(q‖m), m = (p + q)/2.

    <arrays>
    <base>
    convention : {None, "wgan"}
        "wgan": KL(p‖m) + KL(q‖m), twice the divergence, as in the Wasserstein GAN paper.
    <options>

    <returns>

    Notes
    -----
    Symmetric, between 0 and log 2; `js_distance`, its square root, is a metric (and is what
    ``scipy.spatial.distance.jensenshannon`` returns). Gradient: ½ log(p/m), 0 at empty bins.

    Examples
    --------
    >>> import otdist as od
    >>> round(float(od.js([0.36, 0.48, 0.16], [1 / 3, 1 / 3, 1 / 3])), 10)
    0.0224598604
    """
    return value("js", {"p": p, "q": q}, Options(axis, normalize, from_logits), base=base, convention=convention)


@documented
def js_distance(
    p: Any,
    q: Any,
    *,
    base: float | None = None,
    axis: int = -1,
    normalize: Normalize = "check",
    from_logits: bool = False,
) -> Any:
    """Jensen-Shannon distance, the square root of `js`: a metric, at most √log 2.

    <arrays>
    <base>
    <options>

    <returns>

    Notes
    -----
    Gradient: that of `js` over twice the distance; 0 at p = q.

    Examples
    --------
    >>> import otdist as od
    >>> round(float(od.js_distance([0.36, 0.48, 0.16], [1 / 3, 1 / 3, 1 / 3])), 10)
    0.1498661417
    """
    return value("js_distance", {"p": p, "q": q}, Options(axis, normalize, from_logits), base=base)


@documented
def jeffreys(
    p: Any,
    q: Any,
    *,
    base: float | None = None,
    axis: int = -1,
    normalize: Normalize = "check",
    from_logits: bool = False,
) -> Any:
    """Jeffreys divergence Σ (p − q) log(p/q) = KL(p‖q) + KL(q‖p).

    <arrays>
    <base>
    <options>

    <returns>

    Notes
    -----
    Symmetric; +inf where one argument has mass and the other none. Gradients: log(p/q) + (p − q)/p and
    −log(p/q) − (p − q)/q.

    Examples
    --------
    >>> import otdist as od
    >>> round(float(od.jeffreys([0.75, 0.25], [0.25, 0.75])), 10)
    1.0986122887
    """
    return value("jeffreys", {"p": p, "q": q}, Options(axis, normalize, from_logits), base=base)


@documented
def f_divergence(
    p: Any,
    q: Any,
    f: str | Generator,
    *,
    axis: int = -1,
    normalize: Normalize = "check",
    from_logits: bool = False,
) -> Any:
    """f-divergence Σ q f(p/q) of a convex generator f with f(1) = 0.

    <arrays>
    f : str or Generator
        "kl", "reverse_kl", "js", "jeffreys", "hellinger" (squared), "tv", "pearson", "neyman" or "symmetric_chi2",
        which run on their own kernels; or a `Generator`, whose functions are evaluated on float64 NumPy arrays.
    <options>

    <returns>

    Notes
    -----
    A bin with q = 0 < p costs p lim f(u)/u. For histograms f(u) − f'(1)(u − 1) is summed, which has the same total and
    no negative term; for unnormalised measures f as it is. Gradients: f'(u) and f(u) − u f'(u), u = p/q.
    Source: Csiszár 1967; Ali & Silvey 1966.

    Examples
    --------
    >>> import otdist as od
    >>> round(float(od.f_divergence([0.5, 0.5], [0.25, 0.75], "pearson")), 10)
    0.3333333333
    """
    options = Options(axis, normalize, from_logits)
    if isinstance(f, Generator):
        return evaluate_generator(f, {"p": p, "q": q}, options)[0]
    name, own = generator_kernel(f)
    return value(name, {"p": p, "q": q}, options, **own)


def generator_kernel(f: object) -> tuple[str, dict[str, Any]]:
    """The divergence, and its options, that computes the f-divergence called `f`."""
    if not isinstance(f, str):
        raise TypeError(f"f: found {type(f).__name__}; give a name or an otdist.Generator")
    return GENERATORS[choose("f", f, tuple(GENERATORS))][1:]
