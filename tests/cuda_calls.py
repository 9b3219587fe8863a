"""One small call of every kernel: the race lane, the offline lane and the mutation tool all go by this table.

Sizes are a little above a tile's edge, as small as that allows: the race lane pays 0.4 ms for each CUDA thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

import otdist as od
from otdist.kernels import assignment_cuda, device, halves_cuda

Put = Callable[[np.ndarray[Any, Any]], Any]


@dataclass(frozen=True)
class Call:
    """`run(put)` calls the library on arrays that `put` makes of NumPy's, and returns what is to be compared."""

    family: str
    name: str
    run: Callable[[Put], Any]
    rtol: float = 1e-5
    atol: float = 1e-6


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _histograms(n: int, k: int, dtype: str = "f4", seed: int = 0) -> np.ndarray[Any, Any]:
    p = _rng(seed).random((n, k)) + 0.05
    return (p / p.sum(1, keepdims=True)).astype(dtype)


def _points(n: int, d: int, dtype: str = "f4", seed: int = 0) -> np.ndarray[Any, Any]:
    return _rng(seed).standard_normal((n, d)).astype(dtype)


CALLS: list[Call] = []


def _call(family: str, name: str, rtol: float = 1e-5, atol: float = 1e-6) -> Callable[[Callable[[Put], Any]], Any]:
    def add(run: Callable[[Put], Any]) -> Callable[[Put], Any]:
        CALLS.append(Call(family, name, run, rtol, atol))
        return run

    return add


def _space() -> device.Space:
    return device.Space(device.CupyMemory(0))


@_call("copy", "copy", rtol=0, atol=0)
def _copy(put: Put) -> Any:
    x = put(_points(33, 70))[1:, ::2].T
    y = put(_rng().random((3,) * 8).astype("f4"))[(slice(None, None, 2),) * 8]
    if isinstance(x, np.ndarray):
        return x.astype("f8"), y.astype("f8"), np.full(300, 2.5, "f4")
    return _space().cast(x, "f8"), _space().cast(y, "f8"), _space().full(300, 2.5, "f4")


@_call("gram", "values, single precision", rtol=1e-4)
def _mmd(put: Put) -> Any:
    x, y = put(_points(70, 5)), put(_points(66, 5, seed=1) + np.float32(0.5))
    with _small_tiles():
        many = od.mmd(put(_points(70, 9)), put(_points(66, 9, seed=1) + np.float32(0.5)), kernel=od.Gaussian(2.0))
        few = put(_points(66, 17, seed=2))
        return many, od.mmd(x, y), [
            od.value_and_grad(od.mmd, (0, 1))(u, v, kernel=od.Gaussian((1.0, 2.0))) for u, v in ((x, y), (few, few + 1))
        ]  # fmt: skip


@_call("gram", "weights, gradients, batches")
def _mmd_weighted(put: Put) -> Any:
    x, y = put(_points(66, 3, "f8")), put(_points(3 * 9, 3, "f8", 1).reshape(3, 9, 3) + 0.5)
    a = _histograms(1, 66, "f8")[0]
    kernel = od.Laplacian(2.0) + od.Gaussian(1.0, "cosine") * od.Linear()
    value, grads = od.value_and_grad(od.mmd, (0, 1, 2))(x, y, kernel=kernel, x_weights=put(a / a.sum()))
    others = [od.mmd(x, y, kernel=name) for name in ("polynomial", "linear")]
    return value, grads, od.energy_distance(x, y, squared=False), others


@_call("gram", "other estimators, witness, matrices")
def _mmd_other(put: Put) -> Any:
    x, y = put(_points(13, 3, "f8")), put(_points(13, 3, "f8", 1) + 0.5)
    blocks = od.value_and_grad(od.mmd)(x, y, bandwidth="scott", estimator="block")
    pairs = od.value_and_grad(od.mmd)(x, y, kernel="laplacian", estimator="linear")
    root = od.value_and_grad(od.mmd)(x, y, kernel=od.Gaussian(1.0), squared=False)
    found = od.kid(x, y, subsets=2, subset_size=9, rng=0)
    return blocks, pairs, root, tuple(found), od.witness(x, y, y, kernel=od.Gaussian(1.0)), od.Gaussian(1.0)(x, y)


@_call("permute", "permutation tests")
def _permute(put: Put) -> Any:
    x, y = put(_points(70, 2, "f8")), put(_points(70, 2, "f8", 1))
    found = [
        od.mmd_test(x, y, kernel=od.Gaussian(1.0), permutations=70, rng=0),
        od.mmd_test(x, y, kernel=od.Gaussian(1.0), method="wild", permutations=19, rng=0),
        od.energy_test(x[:9, :1], y[:8, :1], permutations=19, rng=0),
    ]
    return [(one.statistic, one.null, one.p_value) for one in found]


@contextmanager
def _small_tiles() -> Iterator[None]:
    """float32 and its large tiles for few points, too."""
    from otdist.kernels import gram_cuda

    before = gram_cuda.FEW, gram_cuda.WIDE, gram_cuda.ROWS, gram_cuda.PARTS
    gram_cuda.FEW, gram_cuda.WIDE, gram_cuda.ROWS, gram_cuda.PARTS = 0, 128, 1, 2
    try:
        yield
    finally:
        gram_cuda.FEW, gram_cuda.WIDE, gram_cuda.ROWS, gram_cuda.PARTS = before


@_call("rows", "values", rtol=2e-5)
def _rows(put: Put) -> Any:
    p, q = (put(_histograms(5, 67, seed=s)) for s in (0, 1))
    halves = (put(_histograms(3, 130, "f2", seed=s)) for s in (0, 1))
    longs = [put(_histograms(2, 9001, seed=s)) for s in (0, 1)]
    u, v = longs
    return od.kl(p, q), od.js(*halves, normalize=True).astype("f4"), od.jeffreys(u, v), od.kl(u, v, normalize=True)


@_call("rows", "gradients", rtol=1e-9)
def _rows_gradients(put: Put) -> Any:
    p, q = (put(_histograms(3, 300, "f8", seed=s)) for s in (0, 1))
    return od.value_and_grad(od.hellinger)(p, q), od.value_and_grad(od.kl)(q[:, :33], p[0, :33], normalize=True)


@_call("rows", "logits", rtol=2e-5)
def _rows_logits(put: Put) -> Any:
    x, y = put(_points(4, 90)), put(_points(4, 90, seed=1))
    return od.kl(x, y, from_logits=True), od.value_and_grad(od.js)(x, y, from_logits=True)


@_call("pairs", "pairwise", rtol=2e-5)
def _pairwise(put: Put) -> Any:
    p, q = put(_histograms(70, 40)), put(_histograms(33, 40, seed=1))
    flat = put(_histograms(97, 3))
    return od.pairwise(p, q, metric="kl"), od.pairwise(p, metric="tv"), od.pairwise(flat, metric="tv")


@_call("pairs", "nearest", rtol=2e-5)
def _nearest(put: Put) -> Any:
    p, q = put(_histograms(35, 40)), put(_histograms(150, 40, seed=1))
    return od.nearest(p, q, k=3, metric="js")


@_call("rows", "broadcast and repaired", rtol=1e-9)
def _rows_shared(put: Put) -> Any:
    p, q = put(_histograms(6, 33, "f8")), put(_histograms(1, 33, "f8", 1))
    x = _points(3, 40, "f8") * 300
    return od.value_and_grad(od.kl, (0, 1))(p, q), od.value_and_grad(od.js)(
        put(x), put(x[::-1].copy()), from_logits=True
    )


@_call("pairs", "logits and normalised", rtol=2e-5)
def _pairwise_logits(put: Put) -> Any:
    x, y = _points(35, 20), _points(40, 20, seed=1)
    far = put(x * np.float32(80))
    soft = (
        od.pairwise(put(x), put(y), metric="kl", from_logits=True),
        od.pairwise(far, put(y), metric="kl", from_logits=True),
    )
    return *soft, od.pairwise(put(np.exp(x)), put(np.exp(y)), metric="tv", normalize=True)


@_call("rows", "repaired logits", rtol=1e-9)
def _repaired_logits(put: Put) -> Any:
    x = _points(3, 40, "f8")
    x[0, :30], x[1, 5:] = -np.inf, -900.0
    y = _points(3, 40, "f8", 1)
    y[1, :5] = -900.0  # the affinity of this row is below the smallest number
    run = od.value_and_grad(od.bhattacharyya, (0, 1))
    return od.value_and_grad(od.kl)(put(x), put(y), from_logits=True), run(put(x), put(y), from_logits=True)


@contextmanager
def _streams() -> Iterator[None]:
    """Small problems by streamed passes, too."""
    from otdist.kernels import sinkhorn_batch_cuda

    before = sinkhorn_batch_cuda.fits
    sinkhorn_batch_cuda.fits = lambda *sizes: False
    try:
        yield
    finally:
        sinkhorn_batch_cuda.fits = before


@_call("entropic", "whole solves", rtol=1e-6)
def _whole_solves(put: Put) -> Any:
    x, y = put(_points(33, 2, "f8")), put(_points(35, 2, "f8", 1))
    found = od.sinkhorn(od.PointCloud(x, y), epsilon=1.0)
    costs = put(_points(6, 7, "f4")[None] ** 2 + np.zeros((2, 1, 1), "f4"))
    other = od.sinkhorn(costs, epsilon=0.5, rho=1.0, tol=1e-6)
    return found.value, found.f, found.apply(y[:, 0]), found.barycentric_map(), other.value, other.plan


@_call("entropic", "streamed", rtol=1e-6)
def _streamed(put: Put) -> Any:
    x, y = put(_points(33, 3, "f8")), put(_points(40, 3, "f8", 1))
    with _streams():
        found = od.sinkhorn(od.PointCloud(x, y, cost="euclidean"), epsilon=0.5, init=y[:, 0] * 0.0)
        costs = put(_points(33, 34, "f4") ** 2)
        again = od.sinkhorn(od.PointCloud(x, y), epsilon=0.05)
        value, plan = od.value_and_grad(od.sinkhorn)(costs, epsilon=0.5)
    return found.value, found.point_gradients(), again.value, again.point_gradients(), value, plan


@_call("entropic", "streamed, by products", rtol=1e-4)
def _by_products(put: Put) -> Any:
    x, y = put(_points(130, 9)), put(_points(66, 9, seed=1))
    with _streams():
        return od.sinkhorn(od.PointCloud(x, y), epsilon=20.0, tol=1e-4).value


@_call("entropic", "prices", rtol=1e-12)
def _prices(put: Put) -> Any:
    from otdist.kernels import pricing_cuda, softmin_cuda

    C, g = put(_points(33, 130, "f8")[None]), put(_points(1, 130, "f8", 1))
    if isinstance(C, np.ndarray):
        gaps = C - g[:, None]
        return gaps.min(2), gaps.argmin(2)
    space = _space()
    f, where = space.empty((1, 33), np.float64), space.empty((1, 33), np.int64)
    pricing_cuda.c_transform(softmin_cuda.Room(space), softmin_cuda.StoredPairs(C, 1), g, f=f, argmin=where)
    return f, where


@_call("entropic", "divergences", rtol=1e-6)
def _divergences(put: Put) -> Any:
    x, y, b = put(_points(9, 2, "f8")), put(_points(8, 2, "f8", 1)), put(np.full(8, 0.25))
    run = od.value_and_grad(od.sinkhorn_divergence, (0, 1, 3))
    smooth = od.wasserstein(x, y, method="sinkhorn", epsilon=1.0)
    return run(x, y, None, b, epsilon=1.0, rho=1.0), run(x, y, None, 0.5 * b, epsilon=1.0, cost="cosine"), smooth


@_call("pairs", "histograms of all kinds", rtol=2e-5)
def _pairwise_modes(put: Put) -> Any:
    x, y = put(_points(9, 20)), put(_points(7, 20, seed=1))
    counts = put(_rng().integers(1, 9, (9, 20)).astype("f4"))
    return od.pairwise(x, y, metric="kl", from_logits=True), od.pairwise(counts, metric="js", normalize=True)


@_call("pairs", "split halves", rtol=0, atol=2e-3)
def _halves(put: Put) -> Any:
    x, y = put(_points(9, 40)), put(_points(300, 40, seed=1))
    middle = np.concatenate([_points(9, 40), _points(300, 40, seed=1)]).mean(0)
    if isinstance(x, np.ndarray):
        return ((x - middle) ** 2).sum(1), ((y - middle) ** 2).sum(1)

    return [side.squares for side in halves_cuda.split(_space(), x, y)]


def _weights(n: int, k: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return _histograms(n, k, "f8", seed)


@_call("assignment", "assign", rtol=0, atol=0)
def _assign(put: Put) -> Any:
    shapes = ((5, 9, 33, "f4"), (3, 40, 40, "f8"), (2, 70, 66, "f4"))
    return [od.linear_sum_assignment(put(_rng().random((b, n, m)).astype(t))) for b, n, m, t in shapes]


@_call("assignment", "assign whole", rtol=0, atol=0)
def _assign_whole(put: Put) -> Any:
    C = _rng().permutation(200 * 210).reshape(200, 210) ** 2 % 104729
    return od.linear_sum_assignment(put(C)), od.linear_sum_assignment(put(C[:130, :140].astype("f8")), maximize=True)


def _solved(result: Any) -> Any:
    return result.value, result.point_gradients(), result.barycentric_map()


@_call("transport", "emd", rtol=1e-9, atol=1e-12)
def _emd(put: Put) -> Any:
    x, y = _points(40, 3, "f8"), _points(40, 3, "f8", 1)
    metrics = ("sqeuclidean", "euclidean", "cityblock", "cosine")
    return [_solved(od.emd(od.PointCloud(put(x), put(y), cost=c, p=1.5))) for c in metrics]


@_call("transport", "auction", rtol=1e-9, atol=1e-12)
def _auction(put: Put) -> Any:
    x, y = _points(70, 3, "f8"), _points(70, 3, "f8", 1)
    with _small_teams():
        matrix = od.emd(put(((x[:, None] - y) ** 2).sum(-1))).value
        return matrix, _solved(od.emd(od.PointCloud(put(x), put(y)))), od.emd(put(_points(40, 40))).value


@_call("transport", "paths", rtol=1e-9, atol=1e-12)
def _paths(put: Put) -> Any:
    from otdist.transport import _auction_device

    products = np.outer(np.arange(1.0, 71), np.arange(1.0, 71) ** 1.25)
    x, y = put(_points(37, 2, "f8")), put(_points(37, 2, "f8", 1))
    before = _auction_device.FIRST_BIDS, _auction_device.BIDS
    _auction_device.FIRST_BIDS, _auction_device.BIDS = 1, 1
    try:
        with _small_teams():
            return od.linear_sum_assignment(put(products)), _solved(od.emd(od.PointCloud(x, y, cost="euclidean")))
    finally:
        _auction_device.FIRST_BIDS, _auction_device.BIDS = before


@_call("transport", "batches of clouds", rtol=1e-9, atol=1e-12)
def _clouds(put: Put) -> Any:
    x, y = put(_points(22, 2, "f8").reshape(2, 1, 11, 2)), put(_points(22, 2, "f8", 1).reshape(2, 11, 2))
    distances = [od.value_and_grad(od.wasserstein, (0, 1))(x, y, p=p) for p in (1.0, 2.0, 1.5)]
    return distances, od.value_and_grad(od.wasserstein, (0, 1))(x, y, p=1.0, cost="cosine")


@contextmanager
def _small_teams() -> Iterator[None]:
    """Problems of any size by the kernels of large ones; costs of points on the way."""
    before = assignment_cuda.MOST, device.Space.budget
    assignment_cuda.MOST = 4
    device.Space.budget = lambda self, memory_limit=None: 1 << 12  # type: ignore[method-assign]
    try:
        yield
    finally:
        assignment_cuda.MOST, device.Space.budget = before  # type: ignore[method-assign]


@_call("line", "line", rtol=1e-9, atol=1e-12)
def _line(put: Put) -> Any:
    out = []
    for t, p in (("f4", 1.0), ("f8", 2.0), ("f8", 1.5)):
        u, v = put(_points(2, 150, t)), put(_points(2, 130, t, 1))
        out += [od.wasserstein_1d(u, v, p=p), od.value_and_grad(od.wasserstein_1d, (0, 1))(u, v, p=p)]
    a, b = put(_weights(2, 150)), put(_weights(2, 130, 1))
    u, v = put(_points(2, 150, "f8")), put(_points(2, 130, "f8", 1))
    out.append(od.value_and_grad(od.wasserstein_1d, (0, 1, 2, 3))(u, v, a, b, p=2.0))
    return out


@_call("line", "long line", rtol=1e-9, atol=1e-12)
def _long_line(put: Put) -> Any:
    u, v = put(_points(1, 2100, "f4")), put(_points(1, 2100, "f4", 1))
    x = np.sort(_points(1, 256))
    far = x + np.float32(5) * (x == x.max())  # the widest gap is the last warp's
    ends = od.wasserstein_1d(put(x), put(far), p=np.inf)
    return od.wasserstein_1d(u, v, p=2.0), od.wasserstein_1d(u, v, p=np.inf), ends


@_call("line", "sliced", rtol=1e-5, atol=1e-6)
def _sliced(put: Put) -> Any:
    x, y, w = put(_points(70, 3, "f4")), put(_points(60, 3, "f4", 1)), put(_histograms(1, 70)[0])
    return od.value_and_grad(od.sliced_wasserstein, (0, 1, 2))(x, y, w, projections=5)
