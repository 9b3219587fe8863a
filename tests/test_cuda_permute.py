"""Permutation tests on a GPU, against the CPU's labels and the definition of every statistic.

On the emulator where there is no GPU (see tests/emulator/README.md).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import otdist as od
from otdist.kernels import permute
from otdist.reference import discrepancy as reference
from tests.test_cuda_gram import cuda  # noqa: F401


def labels_of(seeds: Any, n: int, total: int) -> Any:
    """The CPU's labels (total, B), column 0 as given."""
    E = permute.subsets(seeds, n, total)
    E[:, 0] = np.arange(total) < n
    return E


@pytest.mark.parametrize(("n", "total"), [(1, 2), (63, 64), (30, 65), (129, 130), (5, 200)])
def test_labels_are_those_of_the_cpu(cuda: Any, n: int, total: int) -> None:  # noqa: F811
    from otdist.kernels import permute_cuda
    from otdist.kernels.device import CupyMemory, Space

    space = Space(CupyMemory(0))
    seeds = np.random.default_rng(1).integers(0, 2**64, size=67, dtype=np.uint64)
    for kind in ("subsets", "coins"):
        if kind == "subsets":
            got = permute_cuda.subsets(space, cuda.asarray(seeds), n, total).get()
            want = labels_of(seeds, n, total)
        else:
            got = permute_cuda.coins(space, cuda.asarray(seeds), total).get()
            want = permute.coins(seeds, total)
            want[:, 0] = 1
        bits = np.unpackbits(np.ascontiguousarray(got.T).view(np.uint8), axis=1, bitorder="little").T
        assert np.array_equal(bits[:total], want)
        assert not bits[total:].any()


CALLS: dict[str, dict[str, Any]] = {
    "biased": {"bandwidth": 1.5},
    "unbiased": {"bandwidth": 1.5, "estimator": "unbiased"},
    "energy": {"kernel": "energy"},
    "polynomial": {"kernel": "polynomial"},
    "linear": {"kernel": "linear", "estimator": "unbiased"},
    "median": {},
    "scott": {"bandwidth": "scott"},
    "aggregated": {"method": "aggregated", "kernel": ["laplacian", "gaussian"], "bandwidth": [0.7, 2.0]},
    "aggregated median": {"method": "aggregated"},
}


@pytest.mark.parametrize("name", CALLS)
def test_statistics(cuda: Any, name: str) -> None:  # noqa: F811
    """Every statistic under every labelling, to rounding; the same ranks."""
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(70, 3)), rng.normal(size=(61, 3)) + 0.2
    options = {"permutations": 99, "rng": 5, **CALLS[name]}
    got = od.mmd_test(cuda.asarray(x), cuda.asarray(y), **options)
    want = od.mmd_test(x, y, **options)
    assert got.p_value == want.p_value
    np.testing.assert_allclose(got.statistic, want.statistic, rtol=1e-10)
    np.testing.assert_allclose(got.null, want.null, rtol=1e-9, atol=1e-13)
    assert (got.n, got.m, got.permutations) == (70, 61, 99)
    assert got.kernel == want.kernel or name == "scott"


@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
def test_null_against_the_definition(cuda: Any, estimator: str) -> None:  # noqa: F811
    rng = np.random.default_rng(3)
    n, m, B = 33, 40, 29
    x, y = rng.normal(size=(n, 2)), rng.normal(size=(m, 2)) * 1.5
    got = od.mmd_test(
        cuda.asarray(x), cuda.asarray(y), kernel=od.IMQ(1.5), estimator=estimator, permutations=B, rng=7, alpha=0.1
    )
    seeds = np.random.default_rng(7).integers(0, 2**64, size=B, dtype=np.uint64)
    E = labels_of(np.concatenate([[np.uint64(0)], seeds]), n, n + m).astype(bool)
    definition = reference.mmd if estimator == "biased" else reference.mmd_unbiased
    pool, gram = np.concatenate([x, y]), reference.imq(1.5)
    want = [definition(gram, pool[E[:, c]], pool[~E[:, c]]) for c in range(1 + B)]
    np.testing.assert_allclose([got.statistic, *got.null], want, rtol=1e-10)


@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
def test_random_signs(cuda: Any, estimator: str) -> None:  # noqa: F811
    rng = np.random.default_rng(4)
    n, B = 66, 19
    x, y = rng.normal(size=(n, 3)), rng.normal(size=(n, 3)) + 0.3
    options: Any = {"kernel": od.Gaussian(1.2), "estimator": estimator, "method": "wild", "permutations": B, "rng": 8}
    got = od.mmd_test(cuda.asarray(x), cuda.asarray(y), **options, alpha=0.1)
    gram = reference.gaussian(1.2)
    h = gram(x, x) + gram(y, y) - gram(x, y) - gram(y, x)
    if estimator == "unbiased":
        np.fill_diagonal(h, 0.0)
    seeds = np.random.default_rng(8).integers(0, 2**64, size=B, dtype=np.uint64)
    signs = 2.0 * permute.coins(seeds, n) - 1.0
    pairs = n * n if estimator == "biased" else n * (n - 1)
    np.testing.assert_allclose(got.statistic, h.sum() / pairs, rtol=1e-11)
    np.testing.assert_allclose(got.null, np.einsum("ic,ij,jc->c", signs, h, signs) / pairs, rtol=1e-9, atol=1e-14)
    assert got.p_value == od.mmd_test(x, y, **options, alpha=0.1).p_value


def test_many_labellings_in_shares(cuda: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """Tiles in runs and labellings in shares change nothing."""
    from otdist.kernels import permute_cuda

    rng = np.random.default_rng(5)
    x, y = cuda.asarray(rng.normal(size=(150, 2))), cuda.asarray(rng.normal(size=(110, 2)))
    whole = od.energy_test(x, y, permutations=150, rng=1)
    monkeypatch.setattr(permute_cuda, "RUNS", 3)
    monkeypatch.setattr(permute_cuda, "MOST", 70)
    parts = od.energy_test(x, y, permutations=150, rng=1)
    np.testing.assert_allclose(parts.null, whole.null, rtol=1e-10)
    assert parts.p_value == whole.p_value == od.energy_test(x.get(), y.get(), permutations=150, rng=1).p_value


def test_one_dimension(cuda: Any) -> None:  # noqa: F811
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(300, 1)).round(2), rng.normal(size=(25, 1)).round(2)
    got = od.energy_test(cuda.asarray(x), cuda.asarray(y), permutations=39, rng=2)
    want = od.energy_test(x, y, permutations=39, rng=2)
    assert got.p_value == want.p_value
    np.testing.assert_allclose(got.null, want.null, rtol=1e-9)


@pytest.mark.parametrize("name", ["nan", "large", "zero", "tiny", "three dimensions", "wild", "overflow"])
def test_errors_are_those_of_the_cpu(cuda: Any, name: str) -> None:  # noqa: F811
    x, y = np.arange(12.0).reshape(4, 3), np.ones((5, 3))
    options: dict[str, Any] = {"permutations": 19}
    if name == "nan":
        y[1, 2] = np.nan
    elif name == "large":
        x *= 1e120
    elif name == "zero":
        x[2], options["kernel"] = 0.0, od.Gaussian(1.0, "cosine")
    elif name == "tiny":
        x, y = x * 1e-120, y * 1e-120
    elif name == "three dimensions":
        x = x[None]
    elif name == "overflow":
        x, options["kernel"] = x * 1e60, od.Polynomial(8)
    else:
        options["method"] = "wild"
    with pytest.raises(ValueError, match=" ") as on_cpu:
        od.mmd_test(x, y, **options)
    with pytest.raises(ValueError, match=" ") as on_gpu:
        od.mmd_test(cuda.asarray(x), cuda.asarray(y), **options)
    assert str(on_gpu.value) == str(on_cpu.value)
