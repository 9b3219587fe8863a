"""Clouds of points as the tiles want them: centred, in rows or columns, with norms; and which way to measure them.

Differences of coordinates are taken of the points as they came: rounding a centred copy could cost the digits of points
near each other but far from the centre. Products want centred points, and their close pairs are measured again by
differences. So neither an offset nor an outlier costs a digit. Angles become squared distances on the unit sphere.
Inner products are taken as they stand, but for kernels whose MMD does not see a shift.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from otdist.kernels import gram_tiles as tiles
from otdist.kernels.profiles import Angle, Cityblock, Inner, Squared

Array = np.ndarray[Any, np.dtype[Any]]

# Coordinates up to which differences beat a matrix product, and the work (pairs x coordinates) below which they do
# whatever the dimension; share of pairs close together above which a product would be mostly repair.
DIRECT, SMALL, CLOSE = 8, 1 << 22, 1 / 8
PAD = 4


def unit_rows(X: Array) -> tuple[Array, Array]:
    """Rows on the unit sphere, float64, and their lengths."""
    with np.errstate(over="ignore", invalid="ignore"):
        scale = np.max(np.abs(X), axis=-1, keepdims=True).astype(np.float64)
        U = X / scale
        length = np.sqrt(np.sum(U * U, axis=-1, keepdims=True))
    return U / length, scale * length


class Cloud:
    """The points of one side, (P, N, d): what several samples (P, n, d) make together."""

    def __init__(
        self, samples: list[Array], real: Any, centres: dict[Any, Array] | None = None, shift_free: bool = False
    ) -> None:
        self.samples, self.real, self.shift_free = samples, real, shift_free
        self.problems, _, self.d = samples[0].shape
        self.N = sum(s.shape[1] for s in samples)
        self.centres = {} if centres is None else centres
        self._rows: dict[Any, Array] = {}
        self._columns: dict[Any, Array] = {}
        self._plain: dict[Any, Array] = {}

    def _family(self, kind: Any) -> Any:
        return Squared if kind is Cityblock else kind

    def centre(self, family: Any) -> Array:
        """Mean of the points, (P, d) in float64; 0 for inner products unless what is wanted does not see a shift."""
        if family not in self.centres:
            parts = [unit_rows(s)[0] if family is Angle else s for s in self.samples]
            total = sum(np.sum(s, axis=1, dtype=np.float64) for s in parts)
            self.centres[family] = (
                np.zeros_like(total) if family is Inner and not self.shift_free else np.asarray(total) / self.N
            )
        return self.centres[family]

    def _write(self, family: Any, out: Array, centre: Any) -> None:
        """out (P, N, d), any strides: the points less `centre`."""
        start = 0
        for s in self.samples:
            stop = start + s.shape[1]
            part = unit_rows(s)[0] if family is Angle else s
            np.subtract(part, centre, out=out[:, start:stop], dtype=np.float64, casting="same_kind")
            start = stop

    def rows(self, kind: Any) -> Array:
        """(P, N, d), centred."""
        family = self._family(kind)
        if family not in self._rows:
            out = np.empty((self.problems, self.N, self.d), self.real)
            self._write(family, out, self.centre(family)[:, None, :])
            self._rows[family] = out
        return self._rows[family]

    def plain(self, kind: Any) -> Array:
        """(P, N, d), as they came: differences of these are exact to rounding wherever they lie."""
        family = self._family(kind)
        if family not in self._plain:
            out = np.empty((self.problems, self.N, self.d), self.real)
            self._write(family, out, 0.0)
            self._plain[family] = out
        return self._plain[family]

    def columns(self, kind: Any) -> Array:
        """(P, k, N), the coordinates padded by zeros; differences need no centre."""
        family = self._family(kind)
        if family not in self._columns:
            out = np.zeros((self.problems, -(-self.d // PAD) * PAD, self.N), self.real)
            centre = self.centre(family)[:, None, :] if family is Inner else 0.0
            self._write(family, out[:, : self.d].swapaxes(1, 2), centre)
            self._columns[family] = out
        return self._columns[family]

    def norms(self, kind: Any, p: int) -> Array:
        """Squared norms of the rows of a problem."""
        rows = self.rows(kind)[p]
        return np.einsum("ij,ij->i", rows, rows, dtype=np.float64, casting="same_kind").astype(self.real)


COLUMNS = {Squared: tiles.Differences, Angle: tiles.Differences, Cityblock: tiles.Absolute, Inner: tiles.Dots}


def by_columns(kinds: tuple[Any, ...], left: Cloud, right: Cloud) -> tuple[Any, ...]:
    """Geometries (P, k, N) for `sweep`."""
    return tuple(COLUMNS[type(g)](left.columns(type(g)), right.columns(type(g))) for g in kinds)


def wants_product(kinds: tuple[Any, ...], pairs: int, d: int) -> bool:
    """Whether any geometry goes through matrix products."""
    return d > DIRECT and pairs * d >= SMALL and any(type(g) is not Cityblock for g in kinds)


class Sides:
    """One problem, ready for tiles by `panel`: products where they pay, columns elsewhere."""

    def __init__(self, kinds: tuple[Any, ...], left: Cloud, right: Cloud, p: int = 0) -> None:
        self.kinds, self.left, self.right, self.p = [type(g) for g in kinds], left, right, p
        product = wants_product(kinds, left.N * right.N, left.d)
        self.products = [product and g is not Cityblock for g in self.kinds]
        self.norms: list[tuple[Array, Array] | None] = []
        for kind, used in zip(self.kinds, self.products, strict=True):
            squared = used and kind is not Inner
            one = left.norms(kind, p) if squared else None
            other = one if left is right or one is None else right.norms(kind, p)
            self.norms.append(None if one is None or other is None else (one, other))

    def close(self, place: int, i0: int, i1: int, j0: int, j1: int) -> bool:
        """Whether a product would be mostly repair between these rows: judged by a fixed sample of pairs."""
        norms = self.norms[place]
        if norms is None:
            return False
        i, j = (np.unique(np.linspace(a, b - 1, 64).astype(int)) for a, b in ((i0, i1), (j0, j1)))
        kind = self.kinds[place]
        x, y = self.left.rows(kind)[self.p][i], self.right.rows(kind)[self.p][j]
        both = norms[0][i][:, None] + norms[1][j]
        near = both - 2 * (x @ y.T) < tiles.LIMIT * both
        if self.left is self.right:
            near &= i[:, None] != j
        return float(np.mean(near)) > CLOSE

    def prepare(self, direct: tuple[bool, ...]) -> None:
        """Make rows and columns that tiles will ask for, before threads do."""
        for kind, used, by in zip(self.kinds, self.products, direct, strict=True):
            for cloud in (self.left, self.right):
                if by or not used:
                    cloud.columns(kind)
                if used:
                    cloud.rows(kind)
                    if kind is not Inner:
                        cloud.plain(kind)

    def geometries(self, span: tuple[int, int, int, int], scratch: Any, direct: tuple[bool, ...]) -> tuple[Any, ...]:
        """The geometries of one tile, products formed; `direct`: by differences nevertheless."""
        i0, i1, j0, j1 = span
        found: list[Any] = []
        for place, kind in enumerate(self.kinds):
            if not self.products[place] or direct[place]:
                columns = self.left.columns(kind)[self.p], self.right.columns(kind)[self.p]
                found.append(COLUMNS[kind](*columns))
                continue
            x, y = self.left.rows(kind)[self.p], self.right.rows(kind)[self.p]
            product = scratch(f"product{place}", (i1 - i0, j1 - j0), self.left.real)
            np.matmul(x[i0:i1], y[j0:j1].T, out=product)
            norms = self.norms[place]
            if norms is None:
                found.append(tiles.Dense(product))
                continue
            plain = self.left.plain(kind)[self.p], self.right.plain(kind)[self.p]
            found.append(tiles.Product(product, *plain, *norms))
        return tuple(found)


class Scratch:
    """Arrays of one tile under way, kept for the next."""

    def __init__(self) -> None:
        self._arrays: dict[str, Array] = {}

    def __call__(self, name: str, shape: tuple[int, ...], real: Any) -> Array:
        size = int(np.prod(shape))
        flat = self._arrays.get(name)
        if flat is None or flat.size < size or flat.dtype != real:
            flat = self._arrays[name] = np.empty(size, real)
        return flat[:size].reshape(shape)
