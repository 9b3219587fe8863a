"""Samples at the door: validated, batches broadcast, weights made exact; and what computes on them in which float."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from otdist._arrays import Array, Door, enter
from otdist._expression import Kernel
from otdist.kernels import gram
from otdist.kernels.profiles import Angle, Squared

# How far points may be apart for squares in float64.
EXTENT = (1e-151, 1e152)


def shaped(name: str, x: Array) -> Array:
    """`x` (..., n, d), n and d at least 1; ValueError otherwise."""
    if x.ndim == 1:
        raise ValueError(
            f"{name}: found shape {x.shape}; samples have shape (..., n, d): pass {name}[:, None] for {x.shape[0]} "
            f"samples of one coordinate"
        )
    if x.ndim == 0 or x.shape[-1] == 0 or x.shape[-2] == 0:
        raise ValueError(f"{name}: found shape {x.shape}; samples have shape (..., n, d), n >= 1 and d >= 1")
    return x


def points(name: str, x: Array) -> Array:
    """`x` (..., n, d), n and d at least 1, finite; ValueError otherwise."""
    shaped(name, x)
    # a finite sum has finite terms; else the slow search decides, for a sum may overflow
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.sum(x, dtype=np.float64)
    if not np.isfinite(total):
        bad = ~np.isfinite(x)
        if bad.any():
            where = tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), bad.shape))
            raise ValueError(f"{name}: found {x[where]!s} at index {where}; entries must be finite")
    return x


def same_d(**arrays: Array) -> int:
    """The common number of coordinates."""
    (first, x), *others = arrays.items()
    for name, y in others:
        if y.shape[-1] != x.shape[-1]:
            raise ValueError(
                f"{first} and {name}: found {x.shape[-1]} and {y.shape[-1]} coordinates; both need the same d"
            )
    return int(x.shape[-1])


def of_points(name: str, sample: str, w: Array, n: int) -> Array:
    """Weights (..., n); ValueError otherwise."""
    if w.ndim == 0 or w.shape[-1] != n:
        raise ValueError(f"{name}: found shape {w.shape}; {sample} has {n} points: weights have shape (..., {n})")
    return w


def weights(name: str, sample: str, w: Array, n: int, tolerance: float) -> Array:
    """Weights (..., n) in float64, non-negative, divided by their sum, which must be one within `tolerance`."""
    w = of_points(name, sample, w, n).astype(np.float64)
    bad = ~((w >= 0) & (w < np.inf))
    if bad.any():
        where = tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), bad.shape))
        raise ValueError(f"{name}: found {w[where]!s} at index {where}; weights must be finite and >= 0")
    total = np.sum(w, axis=-1, keepdims=True)
    off = np.abs(total - 1.0) > tolerance
    if off.any():
        worst = total[off][0]
        raise ValueError(
            f"{name}: found weights with sum {worst:.9g}; they must sum to 1 within {tolerance:.1e}: pass "
            f"{name} / {name}.sum(-1, keepdims=True)"
        )
    normalised: Array = w / total
    return normalised


@dataclass(frozen=True)
class Pair:
    """Two samples of one call: as they came (validated), how results go back, and their common batch shape.

    On a GPU only shapes have been validated, and weights are as they came: kernels see to the rest.
    """

    door: Door
    x: Array  # (..., n, d)
    y: Array  # (..., m, d)
    x_weights: Array | None  # (..., n), summing to one exactly
    y_weights: Array | None
    batch: tuple[int, ...]

    @property
    def n(self) -> int:
        return int(self.x.shape[-2])

    @property
    def m(self) -> int:
        return int(self.y.shape[-2])

    @property
    def d(self) -> int:
        return int(self.x.shape[-1])

    def problems(self) -> tuple[Array, Array]:
        """x (P, n, d) and y (P, m, d), one per element of the batch."""
        return tuple(  # type: ignore[return-value]
            np.broadcast_to(a, (*self.batch, *a.shape[-2:])).reshape(-1, *a.shape[-2:]) for a in (self.x, self.y)
        )

    def one(self, p: int) -> Pair:
        """The p-th element of the batch as a call of its own."""
        X, Y = self.problems()
        weights = [
            None if w is None else np.broadcast_to(w, (*self.batch, w.shape[-1])).reshape(-1, w.shape[-1])[p]
            for w in (self.x_weights, self.y_weights)
        ]
        return Pair(self.door, X[p], Y[p], weights[0], weights[1], ())

    def pooled_weights(self) -> Array | None:
        """[a, b] (P, n + m), None where all weights are equal."""
        if self.x_weights is None and self.y_weights is None:
            return None
        pooled = np.empty((*self.batch, self.n + self.m))
        pooled[..., : self.n] = 1.0 / self.n if self.x_weights is None else self.x_weights
        pooled[..., self.n :] = 1.0 / self.m if self.y_weights is None else self.y_weights
        return pooled.reshape(-1, self.n + self.m)


def pair(
    x: Any,
    y: Any,
    x_weights: Any = None,
    y_weights: Any = None,
    *,
    called: tuple[str, str] = ("x_weights", "y_weights"),
    **others: Any,
) -> tuple[Pair, list[Array]]:
    """Enter two samples with their weights, `called` so by the caller, and other arrays in passing."""
    of_x, of_y = called
    given = {"x": x, "y": y, of_x: x_weights, of_y: y_weights}
    named = {name: a for name, a in given.items() if a is not None or name in ("x", "y")}
    door, hosts = enter(**named, **others)
    found = dict(zip([*named, *others], hosts, strict=True))
    here = door.space is None
    X, Y = ((points if here else shaped)(name, found[name]) for name in ("x", "y"))
    same_d(x=X, y=Y)
    shapes = {"x": X.shape[:-2], "y": Y.shape[:-2]}
    own: dict[str, Array] = {}
    for name, of, sample in ((of_x, "x", X), (of_y, "y", Y)):
        if name in found:
            w, n = found[name], sample.shape[-2]
            own[name] = weights(name, of, w, n, door.tolerance) if here else of_points(name, of, w, n)
            shapes[name] = own[name].shape[:-1]
    batch = common(**shapes)
    return Pair(door, X, Y, own.get(of_x), own.get(of_y), batch), [found[name] for name in others]


def common(**shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The common batch shape; ValueError that names all arguments."""
    try:
        return np.broadcast_shapes(*shapes.values())
    except ValueError:
        found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"{' and '.join(shapes)}: found batch shapes {found}; they must broadcast") from None


def refuse_zero_vectors(kernel: Kernel, **samples: Array) -> None:
    """`need_directions` where the kernel looks at cosines."""
    if looks_at_angles(kernel):
        need_directions(**samples)


def looks_at_angles(kernel: Kernel) -> bool:
    """Whether the kernel is one of cosines."""
    return Angle in kernel._geometries()


def need_directions(**samples: Array) -> None:
    """The cosine of a zero vector is undefined."""
    for name, x in samples.items():
        zero = ~np.any(x, axis=-1)
        if zero.any():
            where = tuple(int(i) for i in np.unravel_index(int(np.argmax(zero)), zero.shape))
            raise ValueError(f'{name}: found a zero vector at index {where}; the cost "cosine" needs directions')


def extent(*samples: Array) -> float:
    """The greatest difference of a coordinate from its value at one of the points, over all samples."""
    if not all(x.size for x in samples):
        return 1.0
    at = samples[0].reshape(-1, samples[0].shape[-1])[0].astype(np.float64)
    with np.errstate(over="ignore"):
        return float(max(np.max(np.maximum(np.max(x, axis=-2) - at, at - np.min(x, axis=-2))) for x in samples))


def refuse_extremes(kernel: Kernel, **samples: Array) -> None:
    """Squared distances must neither overflow nor vanish."""
    spread = extent(*samples.values()) if Squared in kernel._geometries() else 0.0
    if spread and not EXTENT[0] <= spread <= EXTENT[1]:
        names = " and ".join(samples)
        raise ValueError(
            f"{names}: found coordinates {spread:.3g} apart, whose squares leave the range of float64; multiply the "
            f"samples (and the bandwidth) by a common factor"
        )


def generator(rng: Any) -> np.random.Generator:
    """The generator of an argument `rng`."""
    try:
        if isinstance(rng, bool):
            raise TypeError
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        raise type(error)(f"rng: found {rng!r}; give None, an integer >= 0 or a numpy.random.Generator") from None


def unbroadcast(gradient: Array, shape: tuple[int, ...]) -> Array:
    """The gradient of an argument of this shape: summed over what was broadcast."""
    extra = gradient.ndim - len(shape)
    if extra:
        gradient = gradient.sum(axis=tuple(range(extra)))
    spread = tuple(i for i, (n, m) in enumerate(zip(shape, gradient.shape, strict=True)) if n != m)
    return gradient.sum(axis=spread, keepdims=True) if spread else gradient


def gram_matrix(kernel: Kernel, x: Any, y: Any = None) -> Any:
    """kernel(x, y) in the caller's arrays."""
    given = {"x": x} if y is None else {"x": x, "y": y}
    door, hosts = enter(**given)
    names: Sequence[str] = list(given)
    sides = [(points if door.space is None else shaped)(name, a) for name, a in zip(names, hosts, strict=True)]
    d = same_d(**dict(zip(names, sides, strict=True)))
    tag = kernel.tag(d)
    batch = common(**{name: a.shape[:-2] for name, a in zip(names, sides, strict=True)})
    if door.space is not None:
        from otdist import _samples_device

        return _samples_device.gram_matrix(kernel, door, list(names), sides, batch)
    refuse_zero_vectors(kernel, **dict(zip(names, sides, strict=True)))
    refuse_extremes(kernel, **dict(zip(names, sides, strict=True)))
    X, Y = sides[0], sides[-1]
    K = np.empty((*batch, X.shape[-2], Y.shape[-2]), door.compute)
    for at in np.ndindex(*batch):
        one = np.broadcast_to(X, (*batch, *X.shape[-2:]))[at]
        gram.block(tag, one, one if y is None else np.broadcast_to(Y, (*batch, *Y.shape[-2:]))[at], K[at])
    return door.leave(K)
