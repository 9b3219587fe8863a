"""Soft-min, plans and c-transforms on the device, against SciPy's `logsumexp` and plain definitions."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from scipy.special import logsumexp

import otdist as od
from otdist.kernels import device, pricing_cuda, sinkhorn_batch_cuda, softmin_cuda, softmin_tensor_cuda
from otdist.kernels.softmin_cuda import PointPairs, Room, StoredPairs
from otdist.reference import entropic as reference

LOG2E = float(np.log2(np.e))
COSTS: dict[tuple[str, float | None], Any] = {
    ("SQUARED", None): lambda z: (z * z).sum(-1),
    ("EUCLIDEAN", None): lambda z: np.sqrt((z * z).sum(-1)),
    ("EUCLIDEAN", 1.5): lambda z: (z * z).sum(-1) ** 0.75,
    ("CITYBLOCK", None): lambda z: np.abs(z).sum(-1),
    ("CHEBYSHEV", 2.0): lambda z: np.abs(z).max(-1) ** 2.0,
}
SIZES = [(1, 1, 1, 2), (1, 33, 129, 2), (3, 32, 128, 3), (1, 45, 300, 11)]


@pytest.fixture(params=["parts", "whole"])
def room(request: pytest.FixtureRequest, emulated: Any, monkeypatch: pytest.MonkeyPatch) -> Room:
    """Columns in as many parts as suit the device, or all in one."""
    if request.param == "whole":
        monkeypatch.setattr(softmin_cuda, "BLOCKS", 0)
        monkeypatch.setattr(softmin_tensor_cuda, "BLOCKS", 0)
    return Room(device.Space(device.CupyMemory(0)))


def problem(k: int, n: int, m: int, d: int, kind: tuple[str, float | None]) -> tuple[Any, ...]:
    rng = np.random.default_rng([k, n, m, d])
    x, y = rng.standard_normal((k, n, d)), rng.standard_normal((k, m, d)) + 0.5
    C = COSTS[kind](x[:, :, None] - y[:, None])
    v = rng.standard_normal((k, m))
    v[:, 1::4] = -np.inf
    return x, y, C, v, 10.0 ** rng.uniform(-1, 1, k)


def pairs_of(space: Any, x: Any, y: Any, kind: tuple[str, float | None]) -> PointPairs:
    singles = tuple(space.put(z.astype(np.float32)) for z in (x, y))
    return PointPairs(space.put(x), space.put(y), len(x), *kind, singles)  # type: ignore[arg-type]


def soft_min(C: Any, v: Any, scale: Any, axis: int) -> Any:
    exponents = np.expand_dims(v, 3 - axis) - scale[:, None, None] * C
    with np.errstate(divide="ignore"):
        return -logsumexp(exponents / LOG2E, axis=axis) * LOG2E


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("kind", [("SQUARED", None), ("EUCLIDEAN", 1.5)], ids=str)
@pytest.mark.parametrize("real", [np.float64, np.float32])
def test_soft_min_of_points(room: Room, size: tuple[int, ...], kind: Any, real: Any) -> None:
    x, y, C, v, scale = problem(*size, kind)
    space, pairs = room.space, pairs_of(room.space, x, y, kind)
    # float32 knows exponents to a few ulp of their size
    within = (1e-15 if real is np.float64 else 5e-7) * (10.0 + (scale[:, None, None] * np.abs(C)).max())
    h = space.empty(C.shape[:2], np.float64)
    softmin_cuda.soft_min(room, pairs, space.put(scale), space.put(v), real=real, h=h)
    np.testing.assert_allclose(space.host(h), soft_min(C, v, scale, 2), rtol=0, atol=within)
    u = np.where(np.arange(C.shape[1]) % 3 == 2, -np.inf, 0.5) + np.zeros((len(C), 1))
    t = space.empty(v.shape, np.float64)
    softmin_cuda.soft_min(room, pairs, space.put(scale), space.put(u), real=real, turned=True, h=t)
    np.testing.assert_allclose(space.host(t), soft_min(C, u, scale, 1), rtol=0, atol=within)


# Rows and columns about the edges of tiles; coordinates about those of slabs; columns of one sum beyond the last.
PRODUCTS = [(1, 1, 1, 9), (2, 127, 65, 16), (1, 129, 64, 17), (3, 33, 63, 64), (1, 128, 193, 100), (1, 5, 97, 130)]


@pytest.mark.parametrize("size", PRODUCTS, ids=str)
@pytest.mark.parametrize("precision", ["exact", "fast"])
@pytest.mark.parametrize("far", [0.0, 3e4])
def test_soft_min_by_products(room: Room, size: tuple[int, ...], precision: Any, far: float) -> None:
    """Within what `noise` says (halves: a quarter of it), whatever the level of the potentials."""
    x, y, C, v, scale = problem(*size, ("SQUARED", None))
    scale, v = scale / size[3], v + far
    v[:, 1::4], v[:, 0] = -np.inf, far
    space, pairs = room.space, pairs_of(room.space, x, y, ("SQUARED", None))
    products = softmin_tensor_cuda.made(space, pairs)
    assert products is not None
    reach = softmin_tensor_cuda.reach(space, products)
    np.testing.assert_allclose(
        reach, [np.prod([np.linalg.norm(z, axis=1).max() for z in s]) for s in zip(x, y, strict=True)], 1e-6
    )
    share = 0.25 if precision == "exact" else 1.0
    within = share * softmin_tensor_cuda.noise(scale, reach, precision) + 2.0**-50 * far
    u = np.where(np.arange(C.shape[1]) % 3 == 2, -np.inf, 0.5) + far * np.ones((len(C), 1))
    for weights, axis in ((v, 2), (u, 1)):
        h = space.empty((len(C), C.shape[3 - axis]), np.float64)
        softmin_tensor_cuda.soft_min(
            room, products, space.put(scale), space.put(weights), precision=precision, turned=axis == 1, h=h
        )
        np.testing.assert_allclose(space.host(h), soft_min(C, weights, scale, axis), rtol=0, atol=within)


def test_soft_min_by_products_of_any_size(room: Room) -> None:
    """Exponents that rise and fall by thousands along the columns; no mass at all; a bad point; one y for all."""
    space = room.space
    x, y, _, _, _ = problem(3, 20, 200, 10, ("SQUARED", None))
    y, y[0, 150:] = y[:1], 1.5 * y[0, 150:]
    x[0, 3] = np.nan
    C, scale = ((x[:, :, None] - y[:, None]) ** 2).sum(-1), np.array([0.1, 50.0, 1.0])
    products = softmin_tensor_cuda.made(space, pairs_of(space, x, y, ("SQUARED", None)))
    assert products is not None
    mass, idle = np.full((3, 20), 0.5), space.put(np.array([0, 0, 1], np.int32))
    for slope in (30.0, -30.0, -np.inf):
        v = (np.full(200, slope) if np.isinf(slope) else np.arange(200) * slope) + np.zeros((3, 1))
        h, F, w = (space.full((3, 20), 7.0, np.float64) for _ in range(3))
        softmin_tensor_cuda.soft_min(
            *(room, products, space.put(scale), space.put(v)), mass=space.put(mass), idle=idle, h=h, potential=F, w=w
        )
        found, want = space.host(h), soft_min(C, v, scale, 2)
        assert np.isnan(found[0, 3])
        some = np.arange(20) != 3
        np.testing.assert_allclose(found[:2, some], want[:2, some], rtol=5e-7, atol=1e-4)
        np.testing.assert_allclose(
            space.host(w)[:2, some], np.where(np.isinf(want), 0.0, want)[:2, some] - 1, 5e-7, 1e-4
        )
        assert (found[2] == 7.0).all()
        assert (space.host(F)[2] == 7.0).all()


@pytest.mark.parametrize("epsilon", [30.0, 0.5])
@pytest.mark.parametrize(("tol", "rough"), [(1e-3, False), (1e-9, False), (1e-3, True)])
def test_solves_by_products(
    epsilon: float, tol: float, rough: bool, emulated: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Passes by products where their rounding allows it; what they cannot do is done by differences, and judged."""
    cupy = sys.modules["cupy"]
    monkeypatch.setattr(sinkhorn_batch_cuda, "fits", lambda *sizes: False)
    if rough:
        monkeypatch.setattr(softmin_tensor_cuda, "EXACT", 1.0)
    x, y, _, _, _ = problem(1, 40, 70, 9, ("SQUARED", None))
    x, y = x[0].astype(np.float32), y[0].astype(np.float32)
    before = len(emulated.launches)
    found = od.sinkhorn(od.PointCloud(cupy.asarray(x), cupy.asarray(y)), epsilon=epsilon, tol=tol)
    names = [one.name for one in emulated.launches[before:]]
    tensor, differences = (sum(name.startswith(s) for name in names) for s in ("soft_min_tensor", "soft_min<Points<f"))
    assert (tensor > 0) == (not rough)
    assert (differences > 0) == (rough or tol == 1e-9)
    C = ((x[:, None].astype(float) - y) ** 2).sum(-1)
    f, g = (np.asarray(z.get(), float) for z in (found.f, found.g))
    a, b = np.full(40, 1 / 40), np.full(70, 1 / 70)
    P = np.exp((f[:, None] + g - C) / epsilon) * a[:, None] * b
    assert float(found.marginal_error) <= tol
    np.testing.assert_allclose(P.sum(0), b, rtol=0, atol=tol + 1e-6)


def test_products_are_for_squared_costs_of_many_coordinates(room: Room) -> None:
    x, y = np.zeros((1, 2, 9)), np.ones((1, 3, 9))
    for size, kind in ((8, ("SQUARED", None)), (9, ("EUCLIDEAN", None)), (9, ("EUCLIDEAN", 1.5))):
        pairs = pairs_of(room.space, x[..., :size].copy(), y[..., :size].copy(), kind)
        assert softmin_tensor_cuda.made(room.space, pairs) is None
    assert softmin_tensor_cuda.made(room.space, StoredPairs(room.space.put(x), 1)) is None


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("turned", [False, True])
def test_soft_min_of_a_matrix(room: Room, dtype: str, turned: bool) -> None:
    x, _, C, v, scale = problem(3, 35, 130, 2, ("SQUARED", None))
    C[:, :, 3], C[0, 4, :] = np.inf, np.inf
    space = room.space
    if dtype == "bfloat16":
        bits = C.astype(np.float32).view(np.uint32) >> 16
        given, C = space.put(bits.astype(np.uint16)), (bits << 16).astype(np.uint32).view(np.float32).astype(float)
    else:
        given = space.put(C.astype(dtype))
        C = C.astype(dtype).astype(float)
    w = np.linspace(-2.0, 2.0, x.shape[1]) + np.zeros((3, 1)) if turned else v
    h = space.empty((3, C.shape[2] if turned else C.shape[1]), np.float64)
    softmin_cuda.soft_min(room, StoredPairs(given, 3), space.put(scale), space.put(w), turned=turned, h=h)
    found, want = space.host(h), soft_min(C, w, scale, 1 if turned else 2)
    np.testing.assert_array_equal(np.isposinf(found), np.isposinf(want))
    some = np.isfinite(want)
    np.testing.assert_allclose(found[some], want[some], rtol=0, atol=1e-12 * (1.0 + np.abs(want[some]).max()))


def test_exponents_of_any_size(room: Room) -> None:
    """Terms that rise by hundreds of orders of magnitude along the columns, and that fall."""
    space, m = room.space, 700
    for slope in (90.0, -90.0, 3.0):
        v = (np.arange(m) * slope)[None]
        C = np.zeros((1, 5, m))
        for real in (np.float64, np.float32):
            h = space.empty((1, 5), np.float64)
            softmin_cuda.soft_min(
                room, StoredPairs(space.put(C), 1), space.put(np.ones(1)), space.put(v), real=real, h=h
            )
            want = soft_min(C, v, np.ones(1), 2)
            np.testing.assert_allclose(space.host(h), want, rtol=2e-15 if real is np.float64 else 2e-7, atol=1e-15)


def test_potentials_and_weights(room: Room) -> None:
    """kappa h, 0 where nothing may go, and log2 of the masses on top; idle problems are left alone."""
    space = room.space
    _, _, C, v, scale = problem(3, 20, 40, 2, ("SQUARED", None))
    C[1, 7] = np.inf
    kappa, mass = np.array([[0.5, 1.0], [0.25, 1.0], [1.0, 1.0]]), np.linspace(0.0, 1.0, 20) + np.zeros((3, 1))
    h, F, w = (space.full((3, 20), 7.0, np.float64) for _ in range(3))
    idle = space.put(np.array([0, 0, 1], np.int32))
    softmin_cuda.soft_min(
        room, StoredPairs(space.put(C), 3), space.put(scale), space.put(v),
        kappa=space.put(kappa), mass=space.put(mass), idle=idle, h=h, potential=F, w=w,
    )  # fmt: skip
    want = soft_min(C, v, scale, 2)[:2]
    potential = np.where(np.isposinf(want), 0.0, kappa[:2, :1] * np.where(np.isposinf(want), 0.0, want))
    np.testing.assert_allclose(space.host(h)[:2], want, rtol=1e-13)
    np.testing.assert_allclose(space.host(F)[:2], potential, rtol=1e-13)
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(space.host(w)[:2], potential + np.log2(mass[:2]), rtol=1e-13)
    assert (space.host(h)[2] == 7.0).all()


@pytest.mark.parametrize("kind", list(COSTS), ids=str)
def test_plan_products_and_gradients(room: Room, kind: Any) -> None:
    x, y, C, v, scale = problem(2, 35, 131, 5, kind)
    space, pairs = room.space, pairs_of(room.space, x, y, kind)
    u, total = np.log2(np.linspace(0.0, 1.0, 35) + 1e-300) + np.zeros((2, 1)), np.array([1.0, 2.5])
    P = total[:, None, None] * np.exp2(u[:, :, None] + v[:, None] - scale[:, None, None] * C)
    at = tuple(space.put(z) for z in (scale, u, v, total))
    whole = space.empty(C.shape, np.float32)
    softmin_cuda.plan(room, pairs, *at, whole)
    np.testing.assert_allclose(space.host(whole), P, rtol=3e-7, atol=1e-38)
    np.testing.assert_allclose(space.host(softmin_cuda.matrix(room, pairs)), C, rtol=1e-14)
    V = np.random.default_rng(1).standard_normal((2, 131, 6))
    out, back = space.empty((2, 35, 6), np.float64), space.empty((2, 131, 1), np.float64)
    softmin_cuda.apply(room, pairs, *at, space.put(V), out)
    np.testing.assert_allclose(space.host(out), P @ V, rtol=1e-11, atol=1e-13)
    softmin_cuda.apply(room, pairs, *at, space.put(np.ones((2, 35, 1))), back, turned=True)
    np.testing.assert_allclose(space.host(back)[..., 0], P.sum(1), rtol=1e-12, atol=1e-280)
    step = 1e-6  # of a central difference of the cost
    for side, points in ((0, x), (1, y)):
        pull = space.empty(points.shape, np.float64)
        softmin_cuda.pull(room, pairs, *at, 1.0, pull, turned=side == 1)
        want = np.empty(points.shape)
        for k in range(5):
            move = np.where(np.arange(5) == k, step, 0.0)
            ends = [COSTS[kind](x[:, :, None] - y[:, None] + s * move) for s in (1.0, -1.0)]
            slopes = P * (ends[0] - ends[1]) / (2.0 * step)
            want[..., k] = slopes.sum(2) if side == 0 else -slopes.sum(1)
        np.testing.assert_allclose(space.host(pull), want, rtol=1e-5, atol=1e-6 * np.abs(want).max())


@pytest.mark.parametrize("turned", [False, True])
def test_c_transform(room: Room, turned: bool) -> None:
    x, y, C, _, _ = problem(2, 33, 260, 3, ("CITYBLOCK", None))
    C[1, 5] = np.inf
    space, prices = room.space, np.linspace(-1.0, 1.0, 33 if turned else 260) + np.zeros((2, 1))
    for pairs, costs in ((StoredPairs(space.put(C), 2), C), (pairs_of(space, x, y, ("CITYBLOCK", None)), None)):
        D = COSTS["CITYBLOCK", None](x[:, :, None] - y[:, None]) if costs is None else costs
        gaps = D - (prices[:, :, None] if turned else prices[:, None])
        axis = 1 if turned else 2
        f, where = (space.empty((2, D.shape[3 - axis]), dtype) for dtype in (np.float64, np.int64))
        pricing_cuda.c_transform(room, pairs, space.put(prices), turned=turned, f=f, argmin=where)
        np.testing.assert_allclose(space.host(f), gaps.min(axis), rtol=1e-13, atol=1e-14)
        best = np.where(np.isposinf(gaps.min(axis)), -1, gaps.argmin(axis))
        np.testing.assert_array_equal(space.host(where), best)


def masses(rng: Any, k: int, n: int) -> Any:
    w = rng.random((k, n)) * (rng.random((k, n)) < 0.8)
    w[:, 0] = 0.5
    return w / w.sum(1, keepdims=True)


@pytest.mark.parametrize("size", [(1, 1, 1), (3, 7, 5), (3, 33, 65), (1, 70, 31)], ids=str)
@pytest.mark.parametrize("rho", [reference.BALANCED, (1.0, 0.3), (np.inf, 2.0)], ids=str)
def test_whole_solves(room: Room, size: tuple[int, int, int], rho: Any) -> None:
    """A block for a problem: the error is that of the potentials, as the definition has it."""
    (k, n, m), space = size, room.space
    rng = np.random.default_rng([n, m])
    C, a, b = rng.random(size), masses(rng, k, n), masses(rng, k, m)
    for epsilon in (1.0, 0.05, 0.01):
        scale = np.full(k, LOG2E / epsilon)
        kappa = np.tile([reference.damping(r, epsilon) for r in rho], (k, 1))
        gamma, error = space.zeros((k, m), np.float64), space.empty((k,), np.float64)
        passes, code = (space.empty((k,), np.int32) for _ in range(2))
        given = tuple(map(space.put, (C, a, b, scale, kappa)))
        sinkhorn_batch_cuda.solve(
            space, given[0], k, *given[1:], 1e-9, gamma=gamma, error=error, passes=passes, code=code
        )
        assert (space.host(code) == 0).all()
        for q, g in enumerate(space.host(gamma) * (epsilon / LOG2E)):
            f = reference.damping(rho[0], epsilon) * reference.soft_min(C[q], b[q], g, epsilon)
            true = reference.marginal_error(C[q], a[q], b[q], f, g, epsilon, rho)
            assert true <= 1e-9 + 1e-13
            assert abs(true - space.host(error)[q]) <= 1e-13


def test_the_launchers_need_no_numba() -> None:
    import subprocess

    code = "import sys, otdist.kernels.pricing_cuda, otdist.kernels.entropic_cuda, otdist.kernels.sinkhorn_batch_cuda"
    subprocess.run([sys.executable, "-c", f"{code}; assert 'numba' not in sys.modules"], check=True)
