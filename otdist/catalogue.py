"""Every divergence between histograms, declared once.

A `Divergence` says what is true of it (axioms, bound, source) and how its options become a `Plan`: the formula of one
bin (a tag of ``kernels/terms.py``), what happens to the sum of the bins (`Finish`), and whether the arguments change
places.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np

from otdist.kernels import terms
from otdist.kernels.rows import IDENTITY, LOGARITHM, ROOT, Finish

Scalar = Callable[[Any], Any]


@dataclass(frozen=True)
class Plan:
    """How a kernel computes a divergence: finish(sum of term(p, q)), or of term(q, p) if `swap`."""

    tag: Any
    finish: Finish
    swap: bool = False
    degree: float | None = 1.0  # D(cp, cq) = c^degree D(p, q); 0: D + log; None: no such law

    def measures(self) -> Plan:
        """The same for unnormalised measures: literal logarithms, entries that may exceed 1."""
        tag = self.tag
        if isinstance(tag, (terms.Entropy, terms.CrossEntropy)):
            tag = type(tag)(math.inf)
        return Plan(tag, self.finish._replace(literal=True), self.swap, self.degree)


@dataclass(frozen=True)
class Divergence:
    """What is true of a divergence, whatever its options."""

    name: str
    formula: str
    meaning: str
    plan: Callable[..., Plan]
    symmetric: bool
    metric: bool  # it, or with squared=True its square root, obeys the triangle inequality
    bound: str  # largest value between histograms
    source: str
    arguments: int = 2


@dataclass(frozen=True)
class Generator:
    """Generator of an f-divergence, D_f(p, q) = sum q f(p/q): f convex on (0, inf) with f(1) = 0.

    Parameters
    ----------
    name : str
        What to call it.
    f : callable
        u -> f(u) on arrays of u >= 0; f(0) is its limit, which may be inf.
    df : callable, optional
        u -> f'(u), for gradients; f'(0) may be infinite.
    conjugate : callable, optional
        t -> f*(t) = sup_u (u t - f(u)), for variational bounds (inf outside its domain).
    slope : float
        lim f(u)/u for u -> inf: what mass of p where q = 0 costs. inf by default.

    Examples
    --------
    >>> import numpy as np, otdist as od
    >>> square = od.Generator("square", lambda u: (u - 1) ** 2, lambda u: 2 * (u - 1), lambda t: t + t**2 / 4)
    >>> bool(np.isclose(od.f_divergence([0.5, 0.5], [0.25, 0.75], square), od.chi2([0.5, 0.5], [0.25, 0.75])))
    True
    """

    name: str
    f: Scalar
    df: Scalar | None = None
    conjugate: Scalar | None = None
    slope: float = math.inf

    def __post_init__(self) -> None:
        for part in ("f", "df", "conjugate"):
            given = getattr(self, part)
            if not callable(given) and (part == "f" or given is not None):
                raise TypeError(f"{part}: found {type(given).__name__}; give a function on arrays")
        at_one = float(self.f(np.float64(1.0)))
        if not abs(at_one) <= 1e-12:
            raise ValueError(f"f: found f(1) = {at_one}; the generator of an f-divergence is 0 at 1")
        if math.isnan(self.slope) or self.slope == -math.inf:
            raise ValueError(f"slope: found {self.slope}; give lim f(u)/u for u -> inf, a number or inf")


def log_scale(base: float | None) -> float:
    """What turns natural logarithms into those of the base."""
    if base is None:
        return 1.0
    if isinstance(base, bool) or not isinstance(base, (int, float, np.integer, np.floating)):
        raise TypeError(f"base: found {base!r}; give a number above 1, or None for natural logarithms")
    if not 1.0 < base < math.inf:
        raise ValueError(f"base: found {base!r}; give a finite number above 1, or None for natural logarithms")
    return 1.0 / math.log(base)


def _order(alpha: float, low: float, *, open_end: bool = False) -> float:
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float, np.integer, np.floating)):
        raise TypeError(f"alpha: found {alpha!r}; give a number")
    value = float(alpha)
    if not math.isfinite(value) or value < low or (open_end and value == low):
        span = "a finite number" if low == -math.inf else f"a finite number {'>' if open_end else '>='} {low:g}"
        raise ValueError(f"alpha: found {alpha!r}; give {span}")
    return value


def choose(option: str, value: object, choices: tuple[Any, ...]) -> Any:
    """`value` if it is one of the choices, else an error that names the option."""
    for choice in choices:
        if value is choice or (isinstance(value, str) and value == choice):
            return choice
    near = get_close_matches(value, [c for c in choices if isinstance(c, str)], 1) if isinstance(value, str) else []
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{option}: found {value!r}; choose one of {', '.join(map(repr, choices))}{hint}")


def flag(option: str, value: object) -> bool:
    """`value` if it is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{option}: found {value!r}; choose True or False")
    return bool(value)


def _sum(scale: float = 1.0) -> Finish:
    return Finish(IDENTITY, scale, 0.0, 0.0, False)


def _root(scale: float = 1.0) -> Finish:
    return Finish(ROOT, scale, 0.0, 0.0, False)


def _tv() -> Plan:
    return Plan(terms.TV(), _sum())


def _hellinger(squared: bool = False, convention: str | None = None) -> Plan:
    twice = 2.0 if choose("convention", convention, (None, "lecture")) else 1.0
    if flag("squared", squared):
        return Plan(terms.Hellinger(), _sum(twice))
    return Plan(terms.Hellinger(), _root(math.sqrt(twice)), degree=0.5)


def _l2(squared: bool = False, convention: str | None = None) -> Plan:
    lecture = choose("convention", convention, (None, "lecture"))
    if flag("squared", squared) or lecture:
        return Plan(terms.L2(), _sum(), degree=2.0)
    return Plan(terms.L2(), _root())


def _chi2(kind: str = "pearson") -> Plan:
    kind = choose("kind", kind, ("pearson", "neyman", "symmetric"))
    if kind == "symmetric":
        return Plan(terms.Symmetric(), _sum())
    return Plan(terms.Pearson(), _sum(), swap=kind == "neyman")


def _kl(base: float | None = None) -> Plan:
    return Plan(terms.KL(), _sum(log_scale(base)))


def _js(base: float | None = None, convention: str | None = None) -> Plan:
    twice = 2.0 if choose("convention", convention, (None, "wgan")) else 1.0
    return Plan(terms.JS(), _sum(twice * log_scale(base)))


def _js_distance(base: float | None = None) -> Plan:
    return Plan(terms.JS(), _root(math.sqrt(log_scale(base))), degree=0.5)


def _jeffreys(base: float | None = None) -> Plan:
    return Plan(terms.Jeffreys(), _sum(log_scale(base)))


def _power(alpha: float, scale: float) -> Plan:
    """scale (sum p^a q^(1-a) - a p - (1-a) q)/(a (a-1)) by the cheapest formula; a < 1/2 as 1-a, swapped."""
    swap = alpha < 0.5
    order = 1.0 - alpha if swap else alpha
    if order == 0.5:
        return Plan(terms.Hellinger(), _sum(4.0 * scale))
    if order == 1.0:
        return Plan(terms.KL(), _sum(scale), swap)
    if order == 2.0:
        return Plan(terms.Pearson(), _sum(0.5 * scale), swap)
    return Plan(_alpha_tag(alpha), _sum(scale), swap)


def _alpha_tag(alpha: float) -> terms.Alpha:
    """The tag of order alpha, or of 1 - alpha where the arguments change places; alpha itself is never rounded."""
    return terms.alpha_tag(1.0 - alpha, -alpha) if alpha < 0.5 else terms.alpha_tag(alpha)


def _alpha_divergence(alpha: float) -> Plan:
    return _power(_order(alpha, -math.inf), 1.0)


def _tsallis(alpha: float) -> Plan:
    alpha = _order(alpha, 0.0, open_end=True)
    return _power(alpha, alpha)


def _renyi(alpha: float, base: float | None = None) -> Plan:
    alpha, scale = _order(alpha, 0.0), log_scale(base)
    if alpha == 1.0:
        return _kl(base)
    if alpha == 0.0:
        return Plan(terms.Support(), Finish(LOGARITHM, -scale, -1.0, 0.0, False), degree=0.0)
    scale /= alpha - 1.0
    if alpha == 0.5:
        return Plan(terms.Hellinger(), Finish(LOGARITHM, scale, -1.0, 0.5, False), degree=0.0)
    swap = alpha < 0.5
    order = 1.0 - alpha if swap else alpha
    return Plan(_alpha_tag(alpha), Finish(LOGARITHM, scale, alpha * (alpha - 1.0), order, False), swap, 0.0)


def _bhattacharyya(base: float | None = None) -> Plan:
    return Plan(terms.Hellinger(), Finish(LOGARITHM, -log_scale(base), -1.0, 0.5, False), degree=0.0)


def _cross_entropy(base: float | None = None) -> Plan:
    return Plan(terms.CrossEntropy(0.0), _sum(log_scale(base)), degree=None)


def _entropy(base: float | None = None) -> Plan:
    return Plan(terms.Entropy(0.0), _sum(log_scale(base)), degree=None)


_DECLARED = [
    Divergence("tv", "½ Σ |p − q|", "total variation", _tv, True, True, "1", "Tsybakov 2009, 2.4"),
    Divergence("hellinger", "√(½ Σ (√p − √q)²)", "Hellinger", _hellinger, True, True, "1", "Hellinger 1909"),
    Divergence("l2", "√Σ (p − q)²", "Euclidean", _l2, True, True, "√2", "-"),
    Divergence("chi2", "Σ (p − q)²/q", "Pearson χ²", _chi2, False, False, "∞", "Pearson 1900"),
    Divergence("kl", "Σ p log(p/q)", "Kullback-Leibler", _kl, False, False, "∞", "Kullback & Leibler 1951"),
    Divergence("js", "½KL(p‖m) + ½KL(q‖m)", "Jensen-Shannon", _js, True, False, "log 2", "Lin 1991"),
    Divergence("js_distance", "√JS", "its root", _js_distance, True, True, "√log 2", "Endres & Schindelin 2003"),
    Divergence("jeffreys", "Σ (p − q) log(p/q)", "Jeffreys", _jeffreys, True, False, "∞", "Jeffreys 1946"),
    Divergence("renyi", "log(Σ pᵅ q¹⁻ᵅ)/(α−1)", "Rényi", _renyi, False, False, "∞", "Rényi 1961"),
    Divergence("tsallis", "(Σ pᵅ q¹⁻ᵅ − 1)/(α−1)", "Tsallis", _tsallis, False, False, "∞", "Tsallis 1998"),
    Divergence(
        "alpha_divergence", "(Σ pᵅ q¹⁻ᵅ − 1)/(α(α−1))", "α", _alpha_divergence, False, False, "∞", "Cressie & Read 1984"
    ),
    Divergence(
        "bhattacharyya", "−log Σ √(pq)", "Bhattacharyya", _bhattacharyya, True, False, "∞", "Bhattacharyya 1943"
    ),
    Divergence("cross_entropy", "−Σ p log q", "cross-entropy", _cross_entropy, False, False, "∞", "Shannon 1948"),
    Divergence("entropy", "−Σ p log p", "entropy", _entropy, False, False, "log k", "Shannon 1948", arguments=1),
]
DIVERGENCES: dict[str, Divergence] = {d.name: d for d in _DECLARED}


def _xlogx(u: Any) -> Any:
    return np.where(u > 0, u * np.log(np.where(u > 0, u, 1.0)), 0.0)


def _log(u: Any) -> Any:
    with np.errstate(divide="ignore"):
        return np.log(u)


def _inverse(u: Any) -> Any:
    with np.errstate(divide="ignore"):
        return 1.0 / np.asarray(u, np.float64)


def _where(inside: Any, value: Callable[[Any], Any], t: Any, safe: float) -> Any:
    """value(t) where `inside`, inf elsewhere, without evaluating it there."""
    return np.where(inside, value(np.where(inside, t, safe)), np.inf)


_LOG2 = math.log(2.0)
# By name: the generator, and the divergence (with options) whose kernel computes it.
# Nowozin, Cseke & Tomioka 2016, table 6.
GENERATORS: dict[str, tuple[Generator, str, dict[str, Any]]] = {
    "kl": (Generator("kl", _xlogx, lambda u: _log(u) + 1.0, lambda t: np.exp(t - 1.0)), "kl", {}),
    "reverse_kl": (
        Generator(
            "reverse_kl",
            lambda u: -_log(u),
            lambda u: -_inverse(u),
            lambda t: _where(t < 0, lambda v: -1.0 - np.log(-v), t, -1.0),
            slope=0.0,
        ),
        "alpha_divergence",
        {"alpha": 0.0},
    ),
    "js": (
        Generator(
            "js",
            lambda u: 0.5 * (_xlogx(u) - (1.0 + u) * np.log((1.0 + u) / 2.0)),
            lambda u: 0.5 * _log(2.0 * u / (1.0 + u)),
            lambda t: _where(t < _LOG2 / 2, lambda v: -0.5 * np.log(2.0 - np.exp(2.0 * v)), t, 0.0),
            slope=_LOG2 / 2,
        ),
        "js",
        {},
    ),
    "jeffreys": (
        Generator(
            "jeffreys",
            lambda u: (u - 1.0) * _log(u),
            lambda u: _log(u) + 1.0 - _inverse(u),
            lambda t: _jeffreys_conjugate(t),
        ),
        "jeffreys",
        {},
    ),
    "hellinger": (
        Generator(
            "hellinger",
            lambda u: 0.5 * (np.sqrt(u) - 1.0) ** 2,
            lambda u: 0.5 * (1.0 - np.sqrt(_inverse(u))),
            lambda t: _where(t < 0.5, lambda v: v / (1.0 - 2.0 * v), t, 0.0),
            slope=0.5,
        ),
        "hellinger",
        {"squared": True},
    ),
    "tv": (
        Generator(
            "tv",
            lambda u: 0.5 * np.abs(u - 1.0),
            lambda u: 0.5 * np.sign(u - 1.0),
            lambda t: np.where(t <= 0.5, np.maximum(t, -0.5), np.inf),
            slope=0.5,
        ),
        "tv",
        {},
    ),
    "pearson": (
        Generator(
            "pearson",
            lambda u: (u - 1.0) ** 2,
            lambda u: 2.0 * (u - 1.0),
            lambda t: np.where(t >= -2.0, t + 0.25 * np.square(t), -1.0),
        ),
        "chi2",
        {"kind": "pearson"},
    ),
    "neyman": (
        Generator(
            "neyman",
            lambda u: _inverse(u) * (u - 1.0) ** 2,
            lambda u: 1.0 - _inverse(u) ** 2,
            lambda t: _where(t <= 1.0, lambda v: 2.0 - 2.0 * np.sqrt(1.0 - v), t, 0.0),
            slope=1.0,
        ),
        "chi2",
        {"kind": "neyman"},
    ),
    "symmetric_chi2": (
        Generator(
            "symmetric_chi2",
            lambda u: (u - 1.0) ** 2 / (u + 1.0),
            lambda u: (u - 1.0) * (u + 3.0) / (u + 1.0) ** 2,
            lambda t: _where(t <= 1.0, lambda v: np.where(v < -3.0, -1.0, 4.0 - v - 4.0 * np.sqrt(1.0 - v)), t, 0.0),
            slope=1.0,
        ),
        "chi2",
        {"kind": "symmetric"},
    ),
}


def _jeffreys_conjugate(t: Any) -> Any:
    """With w = W(e^{1-t}), the maximiser is u = 1/w, and f* = t + w + 1/w - 2."""
    from scipy.special import lambertw

    w = np.real(lambertw(np.exp(1.0 - np.asarray(t, np.float64))))
    return t + w + 1.0 / w - 2.0


def plan(name: str, options: dict[str, Any]) -> Plan:
    """The plan of a divergence called by name, as `pairwise` does."""
    if not isinstance(name, str):
        raise TypeError(f"metric: found {type(name).__name__}; give the name of a divergence, e.g. 'js'")
    choose("metric", name, tuple(DIVERGENCES))
    try:
        return DIVERGENCES[name].plan(**options)
    except TypeError as error:
        if "argument" not in str(error):
            raise
        said = (str(error).partition("() ")[2] or str(error)).replace("positional argument", "option")
        raise TypeError(f"metric {name!r}: {said}") from None
