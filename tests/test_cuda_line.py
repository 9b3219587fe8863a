"""Transport on the line and sliced distances on the device: against the CPU, SciPy and definitions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

import otdist as od
from otdist._quantiles import line_distance
from otdist.kernels import device, line_cuda
from otdist.reference import transport as reference
from otdist.transport.max_sliced import MaxSliced
from tests.device import on_device, receive, send

wasserstein_1d, sliced = on_device(od.wasserstein_1d), on_device(od.sliced_wasserstein)
# Sizes about a tile of each sort, and beyond all of them.
SIZES = ((1, 1), (1, 7), (5, 4), (128, 127), (129, 129), (300, 513), (2049, 40), (2100, 2100))
POWERS = (1.0, 2.0, 1.5)


@pytest.fixture(autouse=True)
def _on_device(emulated: Any) -> None:
    """Everything here runs on the device."""


def weights(rng: np.random.Generator, *shape: int, decades: float = 1.0) -> np.ndarray:
    w = 10.0 ** rng.uniform(-decades, 0.0, shape)
    return w / w.sum(-1, keepdims=True)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(("n", "m"), SIZES)
@pytest.mark.parametrize("ordered", [False, True])
def test_sorting(n: int, m: int, dtype: str, ordered: bool, emulated: Any) -> None:
    cp: Any = __import__("cupy")
    rng = np.random.default_rng(n)
    x = rng.standard_normal((2, n)).astype(dtype)
    x[:, ::3] = np.rint(x[:, ::3])
    x[0, 0] = -0.0
    emulated.only(n % 4)
    space = device.Space(device.CupyMemory(0))
    found = receive(line_cuda.sort_rows(space, cp.asarray(x), ordered=ordered, status=space.flags).items)
    if ordered and dtype == "f8":
        order = found[..., 1].astype(np.int64)
    elif ordered:
        order = (found & np.uint64(0xFFFFFFFF)).astype(np.int64)
    else:
        assert (np.diff(found.astype(np.float64), axis=1) >= 0).all()
        return
    assert np.array_equal(order, np.argsort(x, axis=1, kind="stable"))


@pytest.mark.parametrize(("n", "m"), SIZES)
def test_distances(n: int, m: int) -> None:
    rng = np.random.default_rng([n, m])
    u, v = rng.standard_normal((2, n)), rng.standard_normal((2, m)) + 0.3
    a, b = weights(rng, 2, n), weights(rng, m, decades=14.0)
    for p in (*POWERS, np.inf):
        assert np.allclose(wasserstein_1d(u, v, p=p), od.wasserstein_1d(u, v, p=p), rtol=1e-13, atol=0)
        assert np.allclose(wasserstein_1d(u, v, a, b, p=p), od.wasserstein_1d(u, v, a, b, p=p), rtol=1e-12, atol=0)
    assert np.allclose(wasserstein_1d(u[0], v[0], a[0], b), wasserstein_distance(u[0], v[0], a[0], b), rtol=1e-10)
    if n == m:
        assert np.isclose(wasserstein_1d(u[0], v[0], p=3), reference.wasserstein_1d(u[0], v[0], 3.0), rtol=1e-13)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize(("n", "m"), [(9, 5), (130, 130), (600, 90)])
def test_gradients(n: int, m: int, dtype: str) -> None:
    rng = np.random.default_rng([n, m])
    u, v = (rng.standard_normal((2, k)).round(2).astype(dtype) for k in (n, m))
    a, b = (weights(rng, k).astype("f4" if dtype == "f2" else dtype) for k in (n, m))
    tolerance = {"f2": 2e-3, "f4": 2e-6, "f8": 1e-11}[dtype]
    for p in POWERS if dtype == "f8" else POWERS[1:2]:
        for args in ((u, v), (u, v, a, b)):
            f = od.value_and_grad(od.wasserstein_1d, tuple(range(len(args))))
            value, grads = f(*args, p=p)
            found, gradients = on_device(lambda *z, f=f, p=p: f(*z, p=p))(*args)
            assert np.allclose(found.astype("f8"), value.astype("f8"), rtol=tolerance)
            for x, g, h in zip(args, grads, gradients, strict=True):
                assert h.shape == x.shape
                assert h.dtype == g.dtype
                size = np.abs(g.astype("f8")).max()
                assert np.abs(g.astype("f8") - h.astype("f8")).max() <= tolerance * size


@pytest.mark.parametrize(("n", "m"), [(600, 90), (7, 21), (49, 11), (50, 50)])
def test_equal_weights_that_are_given_are_ties(n: int, m: int) -> None:
    rng = np.random.default_rng([n, m])
    u, v, a, b = rng.random(n), rng.random(m), np.full(n, 1.0 / n), np.full(m, 1.0 / m)
    f = od.value_and_grad(od.wasserstein_1d, (2, 3))
    found, gradients = on_device(lambda *z: f(*z, p=2))(u, v, a, b)
    assert np.isclose(wasserstein_1d(u, v, p=2), found, rtol=1e-14)
    # multiples of a power of two that are in the same ratio, so that ties are ties in float64
    count = math.lcm(n, m)
    unit = 2.0 ** -round(math.log2(count))
    own = np.full((1, n), count // n * unit), np.full((1, m), count // m * unit)
    expected = line_distance(u[None], v[None], *own, 2.0, (False, False, True, True))
    assert np.isclose(found, expected.value[0], rtol=1e-13)
    for g, h in zip(expected.gradients[2:], gradients, strict=True):
        assert g is not None
        assert np.allclose(g[0], h, rtol=1e-12, atol=1e-14)


def test_broadcasting() -> None:
    rng = np.random.default_rng(0)
    for left, right, own in (((3, 1, 7), (4, 9), (1, 7)), ((5,), (2, 3, 6), (3, 5)), ((0, 5), (1, 6), (5,))):
        u, v, a = rng.random(left), rng.random(right), weights(rng, *own)
        f = od.value_and_grad(od.wasserstein_1d, (0, 1, 2))
        value, grads = f(u, v, a, p=2)
        found, gradients = on_device(lambda *z, f=f: f(*z, p=2))(u, v, a)
        assert found.shape == value.shape
        assert np.allclose(found, value, rtol=1e-13)
        for g, h in zip(grads, gradients, strict=True):
            assert g.shape == h.shape
            assert np.allclose(g, h, rtol=1e-11, atol=1e-14)


def test_equal_measures_are_at_distance_0(emulated: Any) -> None:
    rng = np.random.default_rng(1)
    u, w = rng.standard_normal(90), weights(rng, 90, decades=10.0)
    order = rng.permutation(90)
    cut = np.concatenate([w[:40] * 0.5, w[:40] * 0.5, w[40:]])
    for k in range(4):
        emulated.only(k)
        assert wasserstein_1d(u, u[order], w, w[order], p=2) == 0.0
        assert wasserstein_1d(np.repeat(u, 3), u, p=2) == 0.0
        assert wasserstein_1d(np.concatenate([u[:40], u]), u, cut, w, p=2) == 0.0
    _, (gx, ga) = on_device(lambda *z: od.value_and_grad(od.wasserstein_1d, (0, 2))(*z, p=2))(u, u, w)
    assert np.isfinite(gx).all()
    assert np.isfinite(ga).all()


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
def test_scales(scale: float) -> None:
    rng = np.random.default_rng(2)
    u, v, a = rng.random(50), rng.random(60), weights(rng, 50)
    for args in ((u * scale, v * scale), (u * scale, v * scale, a)):
        assert np.isclose(wasserstein_1d(*args, p=3), od.wasserstein_1d(*args, p=3), rtol=1e-12, atol=0)


def test_each_order_of_threads_gives_the_same_bits(emulated: Any) -> None:
    rng = np.random.default_rng(3)
    u, v, a, b = rng.random((3, 300)), rng.random((3, 211)), weights(rng, 300), weights(rng, 211)
    f = on_device(lambda *z: od.value_and_grad(od.wasserstein_1d, (0, 1, 2, 3))(*z, p=1.5))
    found = []
    for k in range(4):
        emulated.only(k)
        value, grads = f(u, v, a, b)
        found.append([value, *grads])
    assert all(np.array_equal(x, y) for other in found[1:] for x, y in zip(found[0], other, strict=True))


BAD: tuple[dict[str, Any], ...] = (
    {"u": [1.0, np.nan], "v": [0.0, 1.0]},
    {"u": [1.0, 2.0], "v": [0.0, -np.inf]},
    {"u": [1.0, 2.0], "v": [0.0, 1.0], "u_weights": [0.5, 0.6]},
    {"u": [1.0, 2.0], "v": [0.0, 1.0], "v_weights": [-0.5, 1.5]},
    {"u": [1.0, 2.0], "v": [0.0, 1.0], "v_weights": [np.nan, 1.0]},
    {"u": [1.0, 2.0], "v": [0.0, 1.0], "v_weights": [1.0]},
    {"u": [1e308], "v": [-1e308]},
    {"u": [], "v": [0.0, 1.0]},
)


@pytest.mark.parametrize("bad", BAD)
def test_refusals_are_those_of_the_cpu(bad: dict[str, Any]) -> None:
    hosts = {name: np.array(x) for name, x in bad.items()}
    with pytest.raises(ValueError, match="u") as expected:
        od.wasserstein_1d(**hosts)
    with pytest.raises(ValueError, match="u") as found:
        od.wasserstein_1d(**{name: send(x) for name, x in hosts.items()})
    assert str(found.value) == str(expected.value)


def test_bad_rows_are_nan_where_checks_wait() -> None:
    u, v, a = np.random.default_rng(0).random((3, 9)), np.zeros(9), np.full((3, 9), 1.0 / 9)
    u[1, 2], a[2, 0] = np.nan, 0.5
    with pytest.raises(ValueError, match="u"), device.deferred_checks():
        value, grads = od.value_and_grad(od.wasserstein_1d, (0, 2))(send(u), send(v), send(a), p=2.0)
    assert np.isnan(receive(value)).tolist() == [False, True, True]
    assert np.isnan(receive(grads[0])).all(axis=1).tolist() == [False, True, True]


@pytest.mark.parametrize("p", [1.0, 2.0, 3.5])
def test_sliced(p: float) -> None:
    rng = np.random.default_rng(4)
    for left, right in (((7, 3), (9, 3)), ((3, 30, 5), (30, 5)), ((2, 1, 7, 70), (3, 9, 70)), ((2, 20, 1), (30, 1))):
        x, y = rng.standard_normal(left) + 1e3, rng.standard_normal(right) + 1e3
        w = weights(rng, *left[:-1])
        expected = od.sliced_wasserstein(x, y, w, p=p, projections=21, return_stderr=True)
        found = on_device(lambda *z: od.sliced_wasserstein(*z, p=p, projections=21, return_stderr=True))(x, y, w)
        assert np.allclose(found[0], expected[0], rtol=1e-11)
        assert np.allclose(found[1], expected[1], rtol=1e-9)
        f = od.value_and_grad(od.sliced_wasserstein, (0, 1, 2))
        _, grads = f(x, y, w, p=p, projections=21)
        _, gradients = on_device(lambda *z, f=f: f(*z, p=p, projections=21))(x, y, w)
        for g, h in zip(grads, gradients, strict=True):
            assert np.allclose(g, h, rtol=1e-8, atol=1e-10 * np.abs(g).max())


def test_directions_by_pieces_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    x, y, w = rng.random((2, 20, 3)), rng.random((25, 3)), weights(rng, 20)
    f = on_device(lambda *z: od.value_and_grad(od.sliced_wasserstein, (0, 1, 2))(*z, projections=16))
    value, grads = f(x, y, w)
    monkeypatch.setattr(device.Space, "budget", lambda self, memory_limit=None: 5 * 80 * 45)
    found, gradients = f(x, y, w)
    assert np.array_equal(value, found)
    for g, h in zip(grads, gradients, strict=True):
        assert np.allclose(g, h, rtol=1e-13, atol=1e-16)


def test_max_sliced() -> None:
    rng = np.random.default_rng(6)
    x, y, w = rng.standard_normal((2, 20, 3)), rng.standard_normal((25, 3)), weights(rng, 20)
    expected = od.max_sliced_wasserstein(x, y, w, max_iter=15)
    found: Any = MaxSliced(*on_device(lambda *z: tuple(od.max_sliced_wasserstein(*z, max_iter=15)))(x, y, w))
    assert np.allclose(found.value, expected.value, rtol=1e-9)
    own = [sliced(x[k], y, w, projections=found.direction[k : k + 1]) for k in range(2)]
    assert np.allclose(own, found.value, rtol=1e-12)


@pytest.mark.parametrize("f", [od.sliced_wasserstein, od.max_sliced_wasserstein])
@pytest.mark.parametrize("fault", ["nan", "weights", "shape", "d"])
def test_sliced_refusals(f: Any, fault: str) -> None:
    args = [np.ones((4, 3)), np.zeros((5, 3)), np.full(4, 0.25)]
    if fault == "nan":
        args[0][2, 1] = np.nan
    if fault == "weights":
        args[2][0] = 0.5
    if fault == "shape":
        args[2] = args[2][:3]
    if fault == "d":
        args[1] = args[1][:, :2]
    with pytest.raises(ValueError, match="x") as expected:
        f(*args)
    with pytest.raises(ValueError, match="x") as found:
        f(*map(send, args))
    assert str(found.value) == str(expected.value)
