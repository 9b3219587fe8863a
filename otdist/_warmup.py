"""``otdist warmup``: compile every kernel once, so that later first calls are fast."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

import otdist as od
from otdist.catalogue import DIVERGENCES

__all__ = ["run"]

# Orders that take kernels of their own: the general one, 1/2 (Hellinger) and 0 (supports).
_OPTIONS: dict[str, list[dict[str, Any]]] = {
    "chi2": [{"kind": "pearson"}, {"kind": "neyman"}, {"kind": "symmetric"}],
    "renyi": [{"alpha": 1.7}, {"alpha": 0.5}, {"alpha": 0.0}],
    "tsallis": [{"alpha": 1.7}, {"alpha": 0.5}],
    "alpha_divergence": [{"alpha": 1.7}, {"alpha": 0.5}],
    "f_divergence": [{"f": "kl"}],
}
_SPARSE = ("tv", "hellinger", "l2", "chi2", "kl", "js")


def run() -> int:
    """Call everything on tiny arrays; returns the exit code."""
    start = time.perf_counter()
    for name in (*DIVERGENCES, "f_divergence"):
        begin = time.perf_counter()
        for dtype in (np.float32, np.float64):
            for call in _calls(name, dtype):
                call()
        print(f"{name:<20} {time.perf_counter() - begin:6.2f} s", flush=True)
    begin = time.perf_counter()
    for dtype in (np.float32, np.float64):
        for call in _samples(dtype):
            call()
    print(f"{'samples':<20} {time.perf_counter() - begin:6.2f} s", flush=True)
    begin = time.perf_counter()
    for call in _transport():
        call()
    print(f"{'transport':<20} {time.perf_counter() - begin:6.2f} s", flush=True)
    begin = time.perf_counter()
    for dtype in (np.float32, np.float64):
        for call in _entropic(dtype):
            call()
    print(f"{'entropic transport':<20} {time.perf_counter() - begin:6.2f} s", flush=True)
    print(f"{'all':<20} {time.perf_counter() - start:6.2f} s")
    return 0


def _calls(name: str, dtype: type[np.floating[Any]]) -> Iterator[Callable[[], object]]:
    p, q = (np.array(rows, dtype=dtype) for rows in ([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]], [[0.3, 0.4, 0.3]] * 2))
    function = getattr(od, name)
    arguments = (p,) if name == "entropy" else (p, q)
    wanted = [(0,)] if name == "entropy" else [(0,), (1,), (0, 1)]
    for options in _OPTIONS.get(name, [{}]):
        for logits in (False, True):
            yield partial(function, *arguments, from_logits=logits, **options)
            for numbers in wanted:
                yield partial(od.value_and_grad(function, numbers), *arguments, from_logits=logits, **options)
        if name == "entropy":
            continue
        # rows far apart, equal ones, ones close about their mean
        yield partial(od.pairwise, p, q, metric=name, **options)
        yield partial(od.pairwise, p, metric=name, **options)
        yield partial(od.pairwise, _crowd(dtype), metric=name, **options)
        yield partial(od.nearest, p, q, metric=name, **options)
        if name in _SPARSE:
            yield partial(_sparse, p, q, metric=name, **options)


def _crowd(dtype: type[np.floating[Any]]) -> Any:
    lean = np.linspace(-1e-3, 1e-3, 9)[:, None] * [1.0, -1.0, 0.0]
    return (np.array([0.2, 0.3, 0.5]) + lean).astype(dtype)


def _samples(dtype: type[np.floating[Any]]) -> Iterator[Callable[[], object]]:
    """Every named kernel, by differences and by products, and one dimension, with and without gradients."""
    rng = np.random.default_rng(0)
    for n, d in ((4, 1), (4, 2), (700, 12)):
        x, y = rng.normal(size=(2, n, d)).astype(dtype)
        for kernel in ("gaussian", "laplacian", "imq", "rational_quadratic", "matern", "polynomial", "linear"):
            for function in (od.mmd, od.value_and_grad(od.mmd, (0, 1))):
                yield partial(function, x, y, kernel=kernel)
        for function in (od.energy_distance, od.value_and_grad(od.energy_distance, (0, 1))):
            yield partial(function, x, y)
        yield partial(od.witness, x, y, x)
        yield partial(od.mmd_test, x, y, permutations=19, rng=0)
        yield partial(od.energy_test, x, y, permutations=19, rng=0)


def _transport() -> Iterator[Callable[[], object]]:
    """Every engine of transport, from matrices and from points, equal masses and others."""
    rng = np.random.default_rng(0)
    for n in (8, 700):
        C, a = rng.random((n, n)), rng.dirichlet(np.ones(n))
        for matrix in (C, np.rint(100.0 * C), C[: n // 2]):
            yield partial(od.emd, matrix)
            yield partial(od.linear_sum_assignment, matrix)
        yield partial(od.emd, C, a)
        for d in (1, 2, 5):
            x, y = rng.random((2, n, d))
            for cost in ("sqeuclidean", "euclidean", "cityblock", "chebyshev"):
                yield partial(od.emd, od.PointCloud(x, y, cost=cost))
                yield partial(od.emd, od.PointCloud(x, y, cost=cost), a)
    yield partial(od.linear_sum_assignment, rng.random((3, 5, 5)))
    for p in (1, 2, 3):
        yield partial(od.wasserstein_1d, rng.random(9), rng.random(9), p=p)
        yield partial(od.wasserstein_1d, rng.random(9), rng.random(7), p=p)
        yield partial(od.sliced_wasserstein, rng.random((9, 2)), rng.random((7, 2)), p=p)


def _entropic(dtype: type[np.floating[Any]]) -> Iterator[Callable[[], object]]:
    """Every engine of entropic transport, from matrices, points, grids and in batches, and its derivatives."""
    rng = np.random.default_rng(0)
    C, small = rng.random((300, 200)).astype(dtype), rng.random((3, 20, 10)).astype(dtype)
    options: dict[str, Any] = {"on_fail": "ignore", "max_iter": 300}
    for epsilon in (0.1, 1e-3):
        for method in ("newton", "sinkhorn"):
            yield partial(od.sinkhorn, C, epsilon=epsilon, method=method, **options)
        yield partial(od.sinkhorn, small, epsilon=epsilon, **options)
    yield partial(od.sinkhorn, small, epsilon=0.1, rho=1.0, **options)
    yield partial(od.sinkhorn, od.Grid((5, 4)), rng.dirichlet(np.ones(20)), epsilon=0.5, **options)
    for d in (1, 2, 3, 12):
        x, y = rng.random((2, 300, d)).astype(dtype)
        for cost in ("sqeuclidean", "euclidean"):
            cloud = od.PointCloud(x, y, cost=cost)
            for method in ("newton", "sinkhorn", *(("multiscale",) if d <= 3 else ())):
                yield partial(od.sinkhorn, cloud, epsilon=0.1, method=method, **options)
            yield partial(
                od.value_and_grad(od.sinkhorn_divergence, (0, 1)), x, y, epsilon=0.1, cost=cost, on_fail="ignore"
            )
            yield partial(od.value_and_grad(od.wasserstein), x, y, method="sinkhorn", on_fail="ignore")


def _sparse(p: Any, q: Any, **options: Any) -> None:
    from scipy import sparse

    od.pairwise(sparse.csr_array(p), sparse.csr_array(q), **options)
