"""Kernel sums over pairs on a GPU, against the definitions: every formula, shapes, weights, estimators, gradients.

On the emulator where there is no GPU (see tests/emulator/README.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import otdist as od
from otdist import rkhs
from otdist.kernels import device
from otdist.kernels.device import deferred_checks
from otdist.reference import discrepancy as reference
from tests.device import send
from tests.sample_cases import KERNELS, KernelCase, Samples, draw, exactly, ids, kernel, samples, simplex, slack

DEFINITIONS = {"biased": reference.mmd, "unbiased": reference.mmd_unbiased}


@pytest.fixture
def cuda(request: pytest.FixtureRequest) -> Any:
    """CuPy where there is a GPU, its stand-in on the emulator elsewhere."""
    try:
        import cupy

        cupy.cuda.runtime.getDeviceCount()
    except Exception:
        request.getfixturevalue("emulated")
        import cupy
    return cupy


def on_device(cp: Any, s: Samples) -> tuple[tuple[Any, Any], dict[str, Any]]:
    """Samples as device arrays: the points, the weights as keywords."""
    x, y, a, b = (None if z is None else cp.asarray(np.array(z)) for z in (s.x, s.y, s.a, s.b))
    return (x, y), {"x_weights": a, "y_weights": b}


def autodiff(definition: Any, gram: Any, *arrays: Any) -> list[Any]:
    """Gradients of the definition by torch, in float64."""
    torch = pytest.importorskip("torch")
    leaves = [None if z is None else torch.tensor(np.array(z, np.float64), requires_grad=True) for z in arrays]
    definition(gram, *leaves, xp=torch).sum().backward()
    return [None if z is None else z.grad.numpy() for z in leaves]


def close(got: Any, want: Any, rtol: float) -> None:
    """Within rtol of the largest entry."""
    assert got.shape == np.shape(want)
    np.testing.assert_allclose(got, want, rtol=0, atol=rtol * float(np.max(np.abs(want), initial=1e-300)))


@pytest.mark.parametrize("case", KERNELS, ids=ids)
def test_matrix_of_every_kernel(cuda: Any, case: KernelCase) -> None:
    rng = np.random.default_rng(1)
    x, y = draw(rng, 67, 5), draw(rng, 9, 5, shift=0.3)
    y[:2] = x[:2]
    k = rkhs.named(case.make(), 5)
    close(k(cuda.asarray(x), cuda.asarray(y)).get(), case.gram(x, y), 1e-13)


@pytest.mark.parametrize("family", ["shapes", "weighted", "duplicates", "offset", "near", "scales"])
def test_values(cuda: Any, family: str) -> None:
    case = kernel("gaussian")
    for dtype in ("float64", "float32"):
        for s in samples(family, dtype):
            points, weights = on_device(cuda, s)
            got = od.mmd(*points, kernel=case.make(), **weights)
            assert got.dtype == dtype
            assert got.shape == ()
            want = exactly(reference.mmd, case.gram, s.x, s.y, s.a, s.b)
            loose = 1e-12 if dtype == "float64" else 3e-7
            np.testing.assert_allclose(got.get(), want, rtol=loose, atol=slack(case.gram, s, "float64", 40.0))


def everything() -> tuple[Any, Any]:
    """One kernel of every leaf and geometry, and its definition."""
    names = (
        "gaussian several", "gaussian cosine", "gaussian euclidean", "imq", "imq power 1", "imq cityblock",
        "rational quadratic 2.5", "matern 3/2", "matern 5/2", "polynomial", "energy", "energy 1/2",
    )  # fmt: skip
    cases = [kernel(name) for name in names]
    whole = cases[0].make()
    for case in cases[1:]:
        whole = whole + case.make()
    product = (od.Linear() + 2.0) * od.Gaussian(2.0, "cosine") * od.Laplacian(3.0)
    factors = (reference.add(reference.linear(), reference.constant(2.0)), reference.gaussian(2.0, "cosine"))
    of_product = reference.multiply(reference.multiply(*factors), reference.laplacian(3.0))
    return whole + product, reference.add(*(case.gram for case in cases), of_product)


@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
@pytest.mark.parametrize("weighted", [False, True])
def test_gradients_of_every_formula(cuda: Any, estimator: str, weighted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from otdist.kernels import gram_cuda

    if weighted:
        monkeypatch.setattr(gram_cuda, "ROWS", 1)  # a block sweeps all columns
    rng = np.random.default_rng(2)
    x, y = draw(rng, 66, 5, shift=0.5), draw(rng, 30, 5, shift=0.8)
    y[0], x[1] = x[2], x[0]
    a, b = (simplex(rng, 66), simplex(rng, 30)) if weighted else (None, None)
    whole, gram = everything()
    points, weights = on_device(cuda, Samples("", x, y, a, b))
    wanted = (0, 1, 2, 3) if weighted else (0, 1)
    value, got = od.value_and_grad(od.mmd, wanted)(*points, kernel=whole, estimator=estimator, **weights)
    want = autodiff(DEFINITIONS[estimator], gram, x, y, a, b)
    np.testing.assert_allclose(value.get(), exactly(DEFINITIONS[estimator], gram, x, y, a, b), rtol=1e-12)
    for number in wanted:
        close(got[number].get(), want[number], 1e-11)


@pytest.mark.parametrize("d", [3, 9, 70])
def test_float32_tiles(cuda: Any, d: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """float32 throughout, small tiles and large, gradients; what it is not good enough for is redone in float64."""
    from otdist.kernels import gram_cuda

    monkeypatch.setattr(gram_cuda, "FEW", 0)
    monkeypatch.setattr(gram_cuda, "WIDE", 200)
    monkeypatch.setattr(gram_cuda, "ROWS", 1)  # a block sweeps all columns
    monkeypatch.setattr(gram_cuda, "PARTS", 2)
    case, rng = kernel("gaussian several"), np.random.default_rng(3)
    for n, m in ((65, 63), (129, 130)):
        x, y = draw(rng, n, d, "float32"), draw(rng, m, d, "float32", 0.5)
        points, _ = on_device(cuda, Samples("", x, y))
        want = exactly(reference.mmd, case.gram, x, y)
        np.testing.assert_allclose(od.mmd(*points, kernel=case.make()).get(), want, rtol=1e-5)
    value, got = od.value_and_grad(od.mmd, (0, 1))(*points, kernel=case.make())
    np.testing.assert_allclose(value.get(), want, rtol=1e-5)
    for g, w in zip(got, autodiff(reference.mmd, case.gram, x, y), strict=True):
        close(g.get(), w, 2e-5)
    near = (x.astype(np.float64) + 1e-3 * rng.normal(size=x.shape)).astype("float32")
    points, _ = on_device(cuda, Samples("", x, near))
    want = exactly(reference.mmd, case.gram, x, near)
    np.testing.assert_allclose(od.mmd(*points, kernel=case.make()).get(), want, rtol=1e-6)


@pytest.mark.parametrize("d", [9, 132])
def test_tensor_cores(cuda: Any, d: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums over pairs by products, close pairs by differences; nothing is done where most pairs are close."""
    from otdist.kernels import bandwidth_cuda, gram_tensor_cuda
    from otdist.kernels.device import CupyMemory, Space

    monkeypatch.setattr(gram_tensor_cuda, "SPAN", 128)
    rng, n, N = np.random.default_rng(10), 130, 199
    z = (rng.normal(size=(N, -(-d // 4) * 4)) + 100.0).astype("float32")
    z[:, d:] = 0.0
    z[140:145] = z[:5] + np.float32(1e-3)
    space, sigma = Space(CupyMemory(0)), float(np.sqrt(d))
    tag = od.Energy().tag(d) if d < 128 else od.Gaussian(sigma).tag(d)
    gram = reference.energy() if d < 128 else reference.gaussian(sigma)
    numbers = bandwidth_cuda.put(space, [0.5 / sigma / sigma])
    two = 1e-3 * (z - 100.0)
    two[: N // 2, 0] += 50.0  # two clusters: half of the pairs are close
    for points, close in ((z, False), (two, True)):
        totals = space.zeros((gram_tensor_cuda.count(n, N), 3), np.float64)
        direct = gram_tensor_cuda.values(space, tag, numbers, cuda.asarray(points.astype("float32")), totals, n)
        if close:
            assert int(direct.get()[0]) == 1
            assert not totals.get().any()
        else:
            assert int(direct.get()[0]) == 0
            K = np.triu(gram(points.astype(np.float64), points.astype(np.float64)), 1)
            want = [K[:n, :n].sum(), K[:n, n:].sum(), K[n:, n:].sum()]
            np.testing.assert_allclose(totals.get().sum(0), want, rtol=3e-7)


@pytest.mark.parametrize("estimator", ["biased", "unbiased", "linear", "block"])
def test_batches(cuda: Any, estimator: str) -> None:
    """Each element of a broadcast batch is a call of its own; gradients are summed over what was broadcast."""
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(3, 1, 13, 4)), rng.normal(size=(2, 13, 4)) + 0.5
    options = {"block_size": 4} if estimator == "block" else {}
    fun = od.value_and_grad(od.mmd, (0, 1))
    value, got = fun(cuda.asarray(x), cuda.asarray(y), bandwidth=1.5, estimator=estimator, **options)
    gram = reference.gaussian(1.5)
    definition: Callable[..., Any] = {
        **DEFINITIONS,
        "linear": reference.mmd_linear,
        "block": lambda k, u, v, xp: reference.mmd_block(k, u, v, 4, xp=xp),
    }[estimator]
    want = np.array([[definition(gram, x[i, 0], y[j], xp=np) for j in range(2)] for i in range(3)])
    np.testing.assert_allclose(value.get(), want, rtol=1e-11, atol=1e-14)
    torch = pytest.importorskip("torch")
    leaves = [torch.tensor(z, requires_grad=True) for z in (x, y)]
    sum(definition(gram, leaves[0][i, 0], leaves[1][j], xp=torch) for i in range(3) for j in range(2)).backward()
    for g, leaf in zip(got, leaves, strict=True):
        close(g.get(), leaf.grad.numpy(), 1e-11)


def test_roots(cuda: Any) -> None:
    rng = np.random.default_rng(5)
    x, y = draw(rng, 20, 3), draw(rng, 15, 3, shift=0.5)
    points, _ = on_device(cuda, Samples("", x, y))
    value, got = od.value_and_grad(od.energy_distance)(*points, squared=False)
    want = exactly(lambda _, u, v, xp: reference.energy_distance(u, v, xp=xp), None, x, y)
    np.testing.assert_allclose(value.get(), np.sqrt(want), rtol=1e-12)
    close(got.get(), autodiff(reference.mmd, reference.energy(), x, y)[0] / (2 * np.sqrt(want)), 1e-11)
    same, zero = od.value_and_grad(od.mmd)(points[0], points[0], bandwidth=1.0, squared=False)
    assert float(same.get()) < 1e-7
    assert np.isfinite(zero.get()).all()


@pytest.mark.parametrize("name", ["gaussian", "laplacian", "matern"])
@pytest.mark.parametrize("n", [7, 24])
def test_bandwidths_from_data(cuda: Any, name: str, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The median over the pairs, even and odd in number, also of a subset; Scott's rule; each element has its own."""
    from otdist import _bandwidth

    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(2, n, 3)) * [[[1.0]], [[5.0]]], rng.normal(size=(2, 8, 3))
    cost = "cityblock" if name == "laplacian" else "euclidean"
    gram: Any = {"gaussian": reference.gaussian, "laplacian": reference.laplacian, "matern": reference.matern}[name]
    points, _ = on_device(cuda, Samples("", x, y))
    sigma = [reference.median_distance(u, v, cost) for u, v in zip(x, y, strict=True)]
    want = [exactly(reference.mmd, gram(s), u, v) for s, u, v in zip(sigma, x, y, strict=True)]
    np.testing.assert_allclose(od.mmd(*points, kernel=name).get(), want, rtol=1e-11)
    monkeypatch.setattr(_bandwidth, "EXACT", 10)
    pool = np.concatenate([x[1], y[1]])[np.arange(10) * (n + 8) // 10]
    want = exactly(reference.mmd, gram(reference.median_distance(pool[:4], pool[4:], cost)), x[1], y[1])
    np.testing.assert_allclose(od.mmd(points[0][1], points[1][1], kernel=name).get(), want, rtol=1e-11)
    pool = np.concatenate([x[0], y[0]])
    scott = np.sqrt(pool.var(axis=0, ddof=1).mean()) * len(pool) ** (-1 / 7)
    got = od.mmd(points[0][0], points[1][0], kernel=name, bandwidth="scott")
    np.testing.assert_allclose(got.get(), exactly(reference.mmd, gram(scott), x[0], y[0]), rtol=1e-11)


def test_median_of_coincident_points(cuda: Any) -> None:
    x = np.zeros((6, 2))
    y = np.array([[0.0, 0.0], [3.0, 4.0]])
    for other, sigma in ((y, 5.0), (x[:3], 1.0)):
        got = od.mmd(cuda.asarray(x), cuda.asarray(other))
        np.testing.assert_allclose(got.get(), exactly(reference.mmd, reference.gaussian(sigma), x, other), atol=1e-15)


def test_witness_and_kid(cuda: Any) -> None:
    rng = np.random.default_rng(7)
    x, y, at = draw(rng, 70, 3), draw(rng, 20, 3, shift=0.5), rng.normal(size=(2, 5, 3))
    a = simplex(rng, 70)
    got = od.witness(*map(cuda.asarray, (x, y, at)), bandwidth=1.5, x_weights=cuda.asarray(a))
    close(got.get(), reference.witness(reference.gaussian(1.5), x, y, at, a), 1e-13)
    source = np.random.default_rng(0)
    draws = [tuple(source.choice(n, 15, replace=False) for n in (70, 20)) for _ in range(3)]
    got = od.kid(cuda.asarray(x), cuda.asarray(y), subsets=3, subset_size=15, rng=0)
    np.testing.assert_allclose(got, reference.kid(x, y, draws), rtol=1e-11)


def bad_calls() -> dict[str, Callable[[Callable[[Any], Any]], Any]]:
    """Calls that fail, on arrays that the argument makes."""
    x, y = np.arange(12.0).reshape(4, 3), np.ones((5, 3))
    x[0] = 0.5
    nan, huge, zero = x.copy(), x * 1e200, x.copy()
    nan[2, 1], zero[1] = np.nan, 0.0
    w = np.full(4, 0.25)
    one = np.array([0.0, 1.0, 0.0, 0.0])
    return {
        "nan": lambda to: od.mmd(to(nan), to(y)),
        "nan in y": lambda to: od.energy_distance(to(y), to(nan)),
        "squares": lambda to: od.mmd(to(huge), to(y), bandwidth=1.0),
        "zero vector": lambda to: od.mmd(to(zero), to(y), kernel=od.Gaussian(1.0, "cosine")),
        "negative weight": lambda to: od.mmd(to(x), to(y), bandwidth=1.0, x_weights=to(np.array([0.5, 0.6, -0.1, 0]))),
        "sum of weights": lambda to: od.mmd(to(x), to(y), bandwidth=1.0, x_weights=to(2 * w)),
        "one point": lambda to: od.mmd(to(x), to(y), bandwidth=1.0, estimator="unbiased", x_weights=to(one)),
        "root": lambda to: od.mmd(to(x), to(x[::-1].copy()), bandwidth=50.0, estimator="unbiased", squared=False),
        "far": lambda to: od.mmd(to(x * 1e-3 + 1e6), to(x * 2e-3 + 1e6), kernel="polynomial", bandwidth=1.0),
        "shape": lambda to: od.mmd(to(x[0]), to(y)),
        "coordinates": lambda to: od.mmd(to(x[:, :2].copy()), to(y)),
        "shape of weights": lambda to: od.mmd(to(x), to(y), y_weights=to(w)),
        "few": lambda to: od.mmd(to(x[:1].copy()), to(y), estimator="unbiased"),
        "linear": lambda to: od.mmd(to(x), to(y), estimator="linear"),
        "scott": lambda to: od.mmd(to(x), to(y), kernel=od.Gaussian(cost="cosine"), bandwidth="scott"),
        "witness": lambda to: od.witness(to(x), to(y), to(nan), bandwidth=1.0),
        "matrix": lambda to: od.Gaussian(1.0)(to(x), to(nan)),
        "no weights": lambda to: od.value_and_grad(od.mmd, 2)(to(x), to(y)),
    }


@pytest.mark.parametrize("name", bad_calls())
def test_errors_are_those_of_the_cpu(cuda: Any, name: str) -> None:
    call = bad_calls()[name]
    with pytest.raises((ValueError, TypeError)) as on_cpu:
        call(np.array)
    with pytest.raises(type(on_cpu.value)) as on_gpu:
        call(cuda.asarray)
    assert str(on_gpu.value) == str(on_cpu.value)


def test_float16_and_empty_batches(cuda: Any) -> None:
    rng = np.random.default_rng(8)
    x, y = draw(rng, 9, 3, "float16"), draw(rng, 7, 3, "float16", 1.0)
    got = od.mmd(cuda.asarray(x), cuda.asarray(y), bandwidth=1.5)
    assert got.dtype == np.float16
    np.testing.assert_allclose(got.get(), exactly(reference.mmd, reference.gaussian(1.5), x, y), rtol=1e-3)
    assert od.mmd(cuda.asarray(np.ones((0, 4, 3))), cuda.asarray(np.ones((4, 3)))).shape == (0,)


def test_nothing_waits(emulated: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One read of the status words, at the end; none where checks are deferred. Every schedule gives the same bits."""
    import cupy as cp

    from otdist.kernels import gram_cuda

    monkeypatch.setattr(gram_cuda, "ROWS", 1)
    rng = np.random.default_rng(9)
    x, y = cp.asarray(draw(rng, 70, 3)), cp.asarray(draw(rng, 40, 3))
    found = set()
    for schedule in range(4):
        with emulated.only(schedule):
            emulated.reads.clear()
            value, gradient = od.value_and_grad(od.mmd)(x, y)
            assert len(emulated.reads) == 1
            found.add((value.get().tobytes(), gradient.get().tobytes()))
    assert len(found) == 1
    bad = cp.asarray(np.full((4, 3), np.nan))
    emulated.reads.clear()
    block = deferred_checks()
    block.__enter__()
    value = od.mmd(x, bad)
    assert not emulated.reads
    with pytest.raises(ValueError, match="y: found nan"):
        block.__exit__(None, None, None)
    assert np.isnan(value.get())


def test_copies_of_cupy_go_into_the_stream_of_the_call(emulated: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What CuPy itself launches runs on its current stream, which is not the caller's where that is torch's."""
    inside: list[bool] = []
    entered, put = device.Space.current, type(send(np.zeros(1))).__setitem__
    depth = [0]

    @contextmanager
    def current(self: device.Space) -> Iterator[None]:
        depth[0] += 1
        with entered(self):
            yield
        depth[0] -= 1

    def setitem(self: Any, key: Any, value: Any) -> None:
        inside.append(depth[0] > 0)
        put(self, key, value)

    x, y = (np.random.default_rng(k).random((9, 2)) for k in range(2))
    sides = send(x), send(y)
    monkeypatch.setattr(device.Space, "current", current)
    monkeypatch.setattr(type(sides[0]), "__setitem__", setitem)
    od.value_and_grad(od.mmd)(*sides, estimator="block", block_size=4)
    od.linear_sum_assignment(send(np.eye(3, dtype=np.uint16)))
    assert inside
    assert all(inside)
