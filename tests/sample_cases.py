"""The tables that drive the tests of distances between samples: kernels, samples, and the exact values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import otdist as od
from otdist.reference import discrepancy as reference
from tests import exact

DTYPES = ("float64", "float32")
RTOL = {"float64": 1e-12, "float32": 1e-5}

Gram = reference.Kernel


@dataclass(frozen=True)
class KernelCase:
    """A kernel of the library beside its definition, and what is true of it."""

    id: str
    make: Callable[[], Any]
    gram: Gram
    characteristic: bool = False  # MMD is zero for equal distributions only
    conditional: bool = False  # positive definite on differences of measures of equal mass only
    translation: bool = True
    rotation: bool = True
    smooth: bool = True  # twice differentiable where points coincide, too
    cosine: bool = False  # not at zero vectors


def _k(name: str, make: Callable[[], Any], gram: Gram, flags: str = "") -> KernelCase:
    return KernelCase(
        name,
        make,
        gram,
        characteristic="c" in flags,
        conditional="d" in flags,
        translation="t" in flags,
        rotation="r" in flags,
        smooth="s" in flags,
        cosine="o" in flags,
    )


# c characteristic, d conditionally definite, t / r invariant under translation / rotation, s smooth, o cosine
KERNELS = [
    _k("gaussian", lambda: od.Gaussian(1.5), reference.gaussian(1.5), "ctrs"),
    _k("gaussian several", lambda: od.Gaussian((0.5, 2, 8.0)), reference.gaussian((0.5, 2, 8.0)), "ctrs"),
    _k("gaussian euclidean", lambda: od.Gaussian(1.5, "euclidean"), reference.gaussian(1.5, "euclidean"), "ctr"),
    _k("gaussian cityblock", lambda: od.Gaussian(1.5, "cityblock"), reference.gaussian(1.5, "cityblock"), "ct"),
    _k("gaussian cosine", lambda: od.Gaussian(0.8, "cosine"), reference.gaussian(0.8, "cosine"), "ros"),
    _k("laplacian", lambda: od.Laplacian(1.5), reference.laplacian(1.5), "ct"),
    _k("laplacian euclidean", lambda: od.Laplacian(1.5, "euclidean"), reference.laplacian(1.5, "euclidean"), "ctr"),
    _k("laplacian several", lambda: od.Laplacian((0.5, 4.0)), reference.laplacian((0.5, 4.0)), "ct"),
    _k("imq", lambda: od.IMQ(1.5), reference.imq(1.5), "ctrs"),
    _k("imq power 1", lambda: od.IMQ((1.0, 3.0), power=1.0), reference.imq((1.0, 3.0), 1.0), "ctrs"),
    _k("imq cityblock", lambda: od.IMQ(1.5, 0.75, "cityblock"), reference.imq(1.5, 0.75, "cityblock"), "ct"),
    _k("rational quadratic", lambda: od.RationalQuadratic(1.5), reference.rational_quadratic(1.5), "ctrs"),
    _k(
        "rational quadratic 2.5",
        lambda: od.RationalQuadratic(1.5, alpha=2.5),
        reference.rational_quadratic(1.5, 2.5),
        "ctrs",
    ),
    _k("matern 1/2", lambda: od.Matern(1.5, nu=0.5), reference.matern(1.5, 0.5), "ctr"),
    _k("matern 3/2", lambda: od.Matern(1.5), reference.matern(1.5), "ctr"),
    _k("matern 5/2", lambda: od.Matern(1.5, nu=2.5), reference.matern(1.5, 2.5), "ctrs"),
    _k("polynomial", lambda: od.Polynomial(), reference.polynomial(), "rs"),
    _k("polynomial 2", lambda: od.Polynomial(2, 0.3, 0.5), reference.polynomial(2, 0.3, 0.5), "rs"),
    _k("linear", lambda: od.Linear(), reference.linear(), "trs"),
    _k("energy", lambda: od.Energy(), reference.energy(), "cdtr"),
    _k("energy 1/2", lambda: od.Energy(0.5), reference.energy(0.5), "cdtr"),
    _k("energy 3/2", lambda: od.Energy(1.5), reference.energy(1.5), "cdtr"),
    _k("energy 2", lambda: od.Energy(2.0), reference.energy(2.0), "dtrs"),
    _k(
        "sum",
        lambda: 0.5 * od.Gaussian(1.0) + od.Laplacian(2.0) + 0.25,
        reference.add(
            reference.multiply(reference.constant(0.5), reference.gaussian(1.0)),
            reference.laplacian(2.0),
            reference.constant(0.25),
        ),
        "ct",
    ),
    _k(
        "product",
        lambda: od.Gaussian(2.0) * od.Polynomial(2),
        reference.multiply(reference.gaussian(2.0), reference.polynomial(2)),
        "rs",
    ),
    _k(
        "nested",
        lambda: (od.IMQ(2.0) + 1.0) * (od.Matern(1.0, nu=2.5) + 2.0 * od.Gaussian(0.7)) + od.Linear(),
        reference.add(
            reference.multiply(
                reference.add(reference.imq(2.0), reference.constant(1.0)),
                reference.add(
                    reference.matern(1.0, 2.5), reference.multiply(reference.constant(2.0), reference.gaussian(0.7))
                ),
            ),
            reference.linear(),
        ),
        "crs",  # translation moves only the linear part, which differences do not see; its Gram matrix does
    ),
    _k(
        "conditional sum",
        lambda: od.Energy() + 2.0 * od.Gaussian(1.5),
        reference.add(reference.energy(), reference.multiply(reference.constant(2.0), reference.gaussian(1.5))),
        "cdtr",
    ),
    _k("gmmn", lambda: "gmmn", reference.gmmn(), "ctrs"),
    _k("wae", lambda: "wae", reference.wae(), "ctrs"),
]


def kernel(name: str) -> KernelCase:
    """The case of that id."""
    return next(k for k in KERNELS if k.id == name)


def ids(k: KernelCase) -> str:
    return k.id


@dataclass(frozen=True)
class Samples:
    """Samples exactly as passed in, and weights or None."""

    label: str
    x: Any
    y: Any
    a: Any = None
    b: Any = None


def draw(rng: np.random.Generator, n: int, d: int, dtype: str = "float64", shift: float = 0.0) -> Any:
    return (rng.normal(size=(n, d)) + shift).astype(dtype)


def simplex(rng: np.random.Generator, n: int, dtype: str = "float64") -> Any:
    """Positive weights with a sum of one, up to rounding."""
    w = rng.dirichlet(np.full(n, 2.0))
    return w.astype(dtype)


def _shapes(dtype: str, rng: np.random.Generator) -> Iterator[Samples]:
    shapes = [
        (1, 1, 1),
        (1, 4, 2),
        (5, 1, 3),
        (7, 9, 2),
        (6, 6, 3),
        (17, 33, 8),
        (33, 17, 9),
        (16, 16, 16),
        (40, 50, 64),
        (12, 10, 300),
        (130, 67, 3),
        (140, 259, 10),
    ]
    for n, m, d in shapes:
        yield Samples(f"{n}, {m}, d={d}", draw(rng, n, d, dtype), draw(rng, m, d, dtype, 0.5))


def _weighted(dtype: str, rng: np.random.Generator) -> Iterator[Samples]:
    for n, m, d in [(1, 3, 1), (7, 9, 2), (20, 31, 12)]:
        x, y = draw(rng, n, d, dtype), draw(rng, m, d, dtype, 0.5)
        a, b = simplex(rng, n, dtype), simplex(rng, m, dtype)
        yield Samples(f"both {n}, {m}, d={d}", x, y, a, b)
        yield Samples(f"x only {n}, {m}, d={d}", x, y, a)
        yield Samples(f"y only {n}, {m}, d={d}", x, y, None, b)
    zero = np.array([0.5, 0, 0.25, 0, 0.25], dtype)
    yield Samples("zeros", draw(rng, 5, 2, dtype), draw(rng, 5, 2, dtype, 0.5), zero, zero[::-1])


def _duplicates(dtype: str, rng: np.random.Generator) -> Iterator[Samples]:
    base = draw(rng, 3, 2, dtype)
    yield Samples("repeated", base[[0, 0, 1, 2, 2]], base[[1, 1, 1, 2]])
    lattice = rng.integers(1, 4, (20, 2)).astype(dtype)
    yield Samples("lattice", lattice[:11], lattice[11:])
    wide = rng.integers(1, 3, (30, 12)).astype(dtype)
    yield Samples("lattice, d=12", wide[:17], wide[17:])
    one = np.ones((4, 10), dtype)
    yield Samples("one point", one, 2 * one[:3])


def _offset(dtype: str, rng: np.random.Generator) -> Iterator[Samples]:
    for shift in (1e3, 1e4):
        for n, m, d in [(1, 2, 1), (9, 12, 2), (25, 30, 8), (30, 25, 9), (40, 45, 64), (10, 12, 300)]:
            x, y = (draw(rng, size, d, dtype, s + shift) for size, s in ((n, 0.0), (m, 0.5)))
            yield Samples(f"{shift:g}, d={d}", x, y)
    direction = np.array([1e4, -1e4, 0, 3e3])
    yield Samples("several directions", *((draw(rng, 20, 4) + s + direction).astype(dtype) for s in (0.0, 0.5)))


def _near(dtype: str, rng: np.random.Generator) -> Iterator[Samples]:
    for e in (1e-1, 1e-2, 1e-3):
        for d in (1, 2, 9, 64):
            x = draw(rng, 30, d, dtype)
            y = (x.astype(np.float64) + e * rng.normal(size=x.shape)).astype(dtype)
            yield Samples(f"moved {e:g}, d={d}", x, rng.permutation(y))


def _scales(dtype: str, rng: np.random.Generator) -> Iterator[Samples]:
    """Against bandwidths near one: all points alone, or all as good as one."""
    for scale in (1e-2, 1e-1, 10, 100):
        for d in (1, 3, 20):
            x, y = (scale * (rng.normal(size=(n, d)) + s) for n, s in ((20, 0.0), (25, 0.5)))
            yield Samples(f"times {scale:g}, d={d}", x.astype(dtype), y.astype(dtype))


FAMILIES: dict[str, Callable[[str, np.random.Generator], Iterator[Samples]]] = {
    "shapes": _shapes,
    "weighted": _weighted,
    "duplicates": _duplicates,
    "offset": _offset,
    "near": _near,
    "scales": _scales,
}


def samples(family: str, dtype: str) -> list[Samples]:
    """The samples of a family, the same ones at every call."""
    return list(FAMILIES[family](dtype, np.random.default_rng(60)))


CORE = {"gaussian", "gaussian cosine", "laplacian", "imq", "matern 3/2", "polynomial", "energy", "nested"}
# Every kernel with every shape and with coincident points; the core of them with everything.
COMBINATIONS = [(k, f) for k in KERNELS for f in FAMILIES if k.id in CORE or f in ("shapes", "duplicates")]
COMBINATION_IDS = [f"{k.id}-{f}" for k, f in COMBINATIONS]

# -- exact values -------------------------------------------------------------------------------------------


class Wide:
    """NumPy in the widest float of the machine, or sixty digits where that is float64."""

    native = np.finfo(np.longdouble).nmant > 60
    xp: Any = np if native else exact.SIXTY

    @classmethod
    def array(cls, a: Any) -> Any:
        if a is None:
            return None
        return np.asarray(a).astype(np.longdouble) if cls.native else exact.SIXTY.array(a)


def exactly(definition: Callable[..., Any], gram: Any, *arrays: Any, **options: Any) -> Any:
    """A definition of the reference at the exact floats given, as float64."""
    with np.errstate(all="ignore"):
        numbers = [Wide.array(a) for a in arrays]
        return np.asarray(definition(gram, *numbers, xp=Wide.xp, **options)).astype(np.float64)


def slack(gram: Gram, s: Samples, dtype: str, ulps: float) -> Any:
    """So many ulps of the numbers whose sums cancel."""
    return ulps * float(np.finfo(dtype).eps) * exactly(reference.size, gram, s.x, s.y, s.a, s.b)


def options(s: Samples) -> dict[str, Any]:
    """The weights as keywords."""
    return {"x_weights": s.a, "y_weights": s.b}


def gradient(gram: Gram, arrays: list[Any], argnum: int, definition: Any = reference.mmd) -> Any:
    """Partial derivatives of a definition with respect to one of x, y, a, b by differences of fourth order.

    In extended precision: right to about 1e-13 of the largest where the distance is smooth.
    """
    numbers = [Wide.array(a) for a in arrays]
    at = numbers[argnum]
    h = Wide.array(2.0**-17 if argnum < 2 else 2.0**-13)
    grad = np.zeros(at.shape)

    def moved(index: Any, steps: int) -> Any:
        changed = at.copy()
        changed[index] += steps * h
        given = [changed if i == argnum else a for i, a in enumerate(numbers)]
        return definition(gram, *given, xp=Wide.xp)

    for index in np.ndindex(at.shape):
        first, second = (moved(index, i) - moved(index, -i) for i in (1, 2))
        grad[index] = float((8 * first - second) / (12 * h))
    return grad
