"""The tables that drive the tests of histograms: what is computed, and on what."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

DTYPES = ("float64", "float32")
RTOL = {"float64": 1e-13, "float32": 2e-6}
WIDE = {"float64": (-300, 1e-300, 5e-324), "float32": (-30, 1e-37, 1e-45)}


@dataclass(frozen=True)
class Variant:
    """One divergence with its options, and what is true of it."""

    name: str
    args: tuple[float, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    symmetric: bool = False
    metric: bool = False
    f_divergence: bool = False
    degree: float = 1.0
    literal: bool = False
    unary: bool = False

    @property
    def id(self) -> str:
        options = [f"{k}={v}" for k, v in self.options.items()]
        return "-".join([self.name, *(f"{a:g}" for a in self.args), *options])

    def of(self, od: Any, *arrays: Any, **options: Any) -> Any:
        """The public function at ``arrays`` (of two, a unary one takes the first)."""
        used = arrays[:1] if self.unary else arrays
        return getattr(od, self.name)(*used, *self.args, **self.options, **options)

    @property
    def pair_options(self) -> dict[str, Any]:
        """The options as ``pairwise`` takes them."""
        return {**({"alpha": self.args[0]} if self.args else {}), **self.options}


def _v(name: str, *args: float, flags: str = "", degree: float = 1.0, **options: Any) -> Variant:
    return Variant(
        name,
        args,
        options,
        symmetric="s" in flags,
        metric="m" in flags,
        f_divergence="f" in flags,
        degree=degree,
        literal="l" in flags,
        unary=name == "entropy",
    )


# s symmetric, m metric, f an f-divergence, l a logarithm of a sum (not homogeneous)
VARIANTS = [
    _v("tv", flags="smf"),
    _v("hellinger", flags="sm", degree=0.5),
    _v("hellinger", squared=True, flags="sf"),
    _v("hellinger", convention="lecture", flags="sm", degree=0.5),
    _v("hellinger", squared=True, convention="lecture", flags="sf"),
    _v("l2", flags="sm"),
    _v("l2", squared=True, flags="s", degree=2),
    _v("l2", convention="lecture", flags="s", degree=2),
    _v("chi2", flags="f"),
    _v("chi2", kind="neyman", flags="f"),
    _v("chi2", kind="symmetric", flags="sf"),
    _v("kl", flags="f"),
    _v("kl", base=2, flags="f"),
    _v("js", flags="sf"),
    _v("js", base=2, flags="sf"),
    _v("js", convention="wgan", flags="sf"),
    _v("js_distance", flags="sm", degree=0.5),
    _v("js_distance", base=2, flags="sm", degree=0.5),
    _v("jeffreys", flags="sf"),
    _v("jeffreys", base=10, flags="sf"),
    *(_v("renyi", a, flags="ls" if a == 0.5 else "l") for a in (0, 0.5, 0.9, 2, 3.5)),
    _v("renyi", 1, flags="f"),
    _v("renyi", 2, base=2, flags="l"),
    *(_v("tsallis", a, flags="fs" if a == 0.5 else "f") for a in (0.5, 1, 2, 3.5)),
    *(_v("alpha_divergence", a, flags="fs" if a == 0.5 else "f") for a in (-1, 0, 0.3, 0.5, 1, 2, 3.5)),
    _v("bhattacharyya", flags="sl"),
    _v("bhattacharyya", base=2, flags="sl"),
    _v("cross_entropy", flags="e"),
    _v("cross_entropy", base=2, flags="e"),
    _v("entropy", flags="e"),
    _v("entropy", base=2, flags="e"),
]
ENTROPIES = ("entropy", "cross_entropy")
DIVERGENCES = [v for v in VARIANTS if v.name not in ENTROPIES]


def variant(text: str) -> Variant:
    """The variant of that id."""
    return next(v for v in VARIANTS if v.id == text)


def ids(v: Variant) -> str:
    return v.id


@dataclass(frozen=True)
class Case:
    """Rows p and q, (r, k), exactly as passed in."""

    label: str
    p: Any
    q: Any
    normalize: Any = "check"


def unit(a: Any, dtype: str = "float64") -> Any:
    """Rows divided by their sums in float64, then rounded to ``dtype``."""
    a = np.asarray(a, dtype=np.float64)
    return (a / a.sum(-1, keepdims=True)).astype(dtype)


def dirichlet(rng: np.random.Generator, rows: int, k: int, concentration: float, dtype: str = "float64") -> Any:
    return unit(rng.dirichlet(np.full(k, concentration), rows), dtype) if k > 1 else np.ones((rows, 1), dtype)


def near(rng: np.random.Generator, q: Any, e: float, dtype: str) -> Any:
    """q(1 ± e), the signs balanced by mass so that the sum stays one up to rounding."""
    sign = np.where(np.arange(q.shape[-1]) % 2, 1.0, -1.0)
    wide = q.astype(np.float64)
    up = np.sum(wide * (sign > 0), -1, keepdims=True)
    tilt = np.where(sign > 0, (1 - up) / np.maximum(up, 1 - up), -up / np.maximum(up, 1 - up))
    return (wide * (1 + e * tilt)).astype(dtype)


def _dirichlet(dtype: str, rng: np.random.Generator) -> Iterator[Case]:
    for c in (0.05, 1, 20):
        for k in (2, 3, 19):
            yield Case(f"{c}, k={k}", dirichlet(rng, 2, k, c, dtype), dirichlet(rng, 2, k, c, dtype))
    yield Case("against a flat one", dirichlet(rng, 2, 19, 0.05, dtype), dirichlet(rng, 2, 19, 20, dtype))


def _near(dtype: str, rng: np.random.Generator) -> Iterator[Case]:
    q = dirichlet(rng, 2, 6, 1, dtype)
    for n in range(7):
        yield Case(f"e=1e-{n}", near(rng, q, 10.0**-n, dtype), q)


def _moved(dtype: str, rng: np.random.Generator) -> Iterator[Case]:
    q = dirichlet(rng, 1, 7, 1, dtype)
    for i in (0, 3):
        p = q.copy()
        p[:, i] += np.asarray(1e-9, dtype)
        yield Case(f"bin {i} by 1e-9", p, q)
        p = q.copy()
        p[:, i] = np.nextafter(p[:, i], np.asarray(1, dtype))
        yield Case(f"bin {i} by one ulp", p, q)


def _zeros(dtype: str, rng: np.random.Generator) -> Iterator[Case]:
    full_p, full_q = dirichlet(rng, 2, 8, 1), dirichlet(rng, 2, 8, 1)
    some, other = np.arange(8) % 3 > 0, np.arange(8) % 4 > 0
    for label, a, b in (("in p", some, 1), ("in q", 1, some), ("common", some, some), ("crossing", some, other)):
        yield Case(label, unit(full_p * a, dtype), unit(full_q * b, dtype))


def _disjoint(dtype: str, rng: np.random.Generator) -> Iterator[Case]:
    left = np.arange(7) < 3
    a, b = dirichlet(rng, 2, 7, 1), dirichlet(rng, 2, 7, 1)
    yield Case("halves", unit(a * left, dtype), unit(b * ~left, dtype))
    eye = np.eye(4, dtype=dtype)
    yield Case("one-hot rows", eye, eye[::-1].copy())
    yield Case("one-hot against all", eye, dirichlet(rng, 4, 4, 1, dtype))
    yield Case("all against one-hot", dirichlet(rng, 4, 4, 1, dtype), eye)


def _ranges(dtype: str, rng: np.random.Generator) -> Iterator[Case]:
    for low in (-10, -30):
        p, q = (unit(10.0 ** rng.uniform(low, 0, (2, 9)), dtype) for _ in range(2))
        yield Case(f"1e{low}..1", p, q)
    p = 10.0 ** -np.arange(0, 31, 5.0)
    yield Case("reversed", unit(p, dtype)[None], unit(p[::-1], dtype)[None].copy())


def _subnormal(dtype: str, rng: np.random.Generator) -> Iterator[Case]:
    _, small, least = WIDE[dtype]
    big = dirichlet(rng, 1, 4, 1, dtype)
    tail_p = np.array([[small, small / 1000, least, 0]], dtype)
    tail_q = np.array([[small / 3000, small * 2, small / 7, least]], dtype)
    yield Case("in both", np.hstack([big, tail_p]), np.hstack([big[:, ::-1], tail_q]))
    yield Case("equal but there", np.hstack([big, tail_p]), np.hstack([big, tail_q]))
    yield Case("against normal", np.hstack([big, tail_p * 0 + tail_p]), unit(np.ones((1, 8)), dtype))
    yield Case("normal against", unit(np.ones((1, 8)), dtype), np.hstack([big, tail_q]))


def _sizes(dtype: str, rng: np.random.Generator) -> Iterator[Case]:
    for k in (1, 2, 3, 19, 256, 1000):
        yield Case(f"k={k}", dirichlet(rng, 1, k, 1, dtype), dirichlet(rng, 1, k, 1, dtype))


def _plain(dtype: str, rng: np.random.Generator) -> Iterator[Case]:
    p = dirichlet(rng, 2, 5, 1, dtype)
    uniform = unit(np.ones((2, 5)), dtype)
    yield Case("identical", p, p.copy())
    yield Case("identical one-hot", np.eye(3, dtype=dtype), np.eye(3, dtype=dtype))
    yield Case("uniform", uniform, uniform.copy())
    yield Case("to uniform", p, uniform)
    yield Case("from uniform", uniform, p)


def _measures(dtype: str, rng: np.random.Generator) -> Iterator[Case]:
    p, q = dirichlet(rng, 2, 6, 1), dirichlet(rng, 2, 6, 1)
    q[1, 2] = 0
    p[1, 2:4] = 0
    for mass in (1e-300, 1e-40, 1e6, 1e30):
        if dtype == "float32" and mass < 1e-100:
            continue
        yield Case(f"mass {mass:g}", (p * mass).astype(dtype), (q * mass).astype(dtype), False)
        close_by = near(rng, q, 1e-4, "float64")
        yield Case(f"mass {mass:g}, near", (close_by * mass).astype(dtype), (q * mass).astype(dtype), False)
    yield Case("masses 1e6 and 1e-6", (p * 1e6).astype(dtype), (q * 1e-6).astype(dtype), False)
    yield Case("masses 1e-6 and 1e6", (p * 1e-6).astype(dtype), (q * 1e6).astype(dtype), False)
    yield Case("counts", np.array([[3, 0, 12, 7]], dtype), np.array([[4, 1, 9, 7]], dtype), False)
    yield Case("empty against some", np.zeros((1, 4), dtype), np.array([[1, 2, 0, 4]], dtype), False)


FAMILIES: dict[str, Callable[[str, np.random.Generator], Iterator[Case]]] = {
    "dirichlet": _dirichlet,
    "near": _near,
    "moved": _moved,
    "zeros": _zeros,
    "disjoint": _disjoint,
    "ranges": _ranges,
    "subnormal": _subnormal,
    "sizes": _sizes,
    "plain": _plain,
    "measures": _measures,
}


def cases(family: str, dtype: str) -> list[Case]:
    """The cases of a family, the same ones at every call."""
    return list(FAMILIES[family](dtype, np.random.default_rng(20)))
