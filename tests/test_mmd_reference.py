"""The definitions of distances between samples, among themselves, against loops and against peers."""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats
from sklearn.gaussian_process import kernels as gp
from sklearn.metrics import pairwise as sk

from otdist.reference import discrepancy as reference
from tests import exact
from tests.sample_cases import KERNELS, KernelCase, Wide, draw, exactly, gradient, ids, kernel, simplex

RNG = np.random.default_rng(61)
X, Y = draw(RNG, 7, 3), draw(RNG, 5, 3, shift=0.5)
A, B = simplex(RNG, 7), simplex(RNG, 5)

# As FIXED_X, FIXED_Y with any library: the values of peers below are theirs.
FIXED_X = np.array([[math.sin(i + 2.0 * k) for k in range(3)] for i in range(7)])
FIXED_Y = np.array([[math.cos(1.5 * i - k) + 0.25 for k in range(3)] for i in range(5)])
# dcor 0.7: dcor.energy_distance(FIXED_X, FIXED_Y, exponent=e)
DCOR = {1.0: 0.45377089418155214, 0.5: 0.3967601191806891, 1.5: 0.5126912197119444}
# geomloss 0.3.1: SamplesLoss(loss, blur=0.7, backend="tensorized")(x, y); it rounds distances below 1e-4 up
GEOMLOSS = {"gaussian": 0.14515924000169037, "laplacian": 0.14786597575496305, "energy": 0.22686830423363302}


@pytest.mark.parametrize("cost", reference.COSTS)
def test_costs_are_those_of_scipy(cost: str) -> None:
    want = scipy.spatial.distance.cdist(X, Y, cost)
    np.testing.assert_allclose(reference.COSTS[cost](X, Y), want, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize(
    ("gram", "want"),
    [
        (reference.gaussian(1.5), sk.rbf_kernel(X, Y, gamma=1 / 4.5)),
        (reference.laplacian(1.5), sk.laplacian_kernel(X, Y, gamma=1 / 1.5)),
        (reference.polynomial(), sk.polynomial_kernel(X, Y)),
        (reference.polynomial(2, 0.3, 0.5), sk.polynomial_kernel(X, Y, degree=2, gamma=0.3, coef0=0.5)),
        (reference.linear(), sk.linear_kernel(X, Y)),
        (reference.matern(1.5, 0.5), gp.Matern(1.5, nu=0.5)(X, Y)),
        (reference.matern(1.5, 1.5), gp.Matern(1.5, nu=1.5)(X, Y)),
        (reference.matern(1.5, 2.5), gp.Matern(1.5, nu=2.5)(X, Y)),
        (reference.rational_quadratic(1.5, 2.5), gp.RationalQuadratic(1.5, alpha=2.5)(X, Y)),
        (reference.cosine, 1 - sk.cosine_similarity(X, Y)),
        (reference.laplacian(1.5, "euclidean"), np.exp(-scipy.spatial.distance.cdist(X, Y) / 1.5)),
    ],
)
def test_kernels_are_those_of_scikit_learn(gram: Any, want: Any) -> None:
    np.testing.assert_allclose(gram(X, Y), want, rtol=1e-13, atol=1e-15)


def test_kernels_by_hand() -> None:
    x, y = np.zeros((1, 2)), np.array([[3.0, 4.0]])
    for gram, want in (
        (reference.gaussian(5), math.exp(-0.5)),
        (reference.gaussian((5, 10)), math.exp(-0.5) + math.exp(-0.125)),
        (reference.laplacian(7), math.exp(-1)),
        (reference.laplacian(5, "euclidean"), math.exp(-1)),
        (reference.imq(5), 2**-0.5),
        (reference.imq(5, 2), 0.25),
        (reference.rational_quadratic(5, 0.5), 2**-0.5),
        (reference.matern(5, 0.5), math.exp(-1)),
        (reference.energy(), -5),
        (reference.energy(0.5), -math.sqrt(5)),
        (reference.polynomial(coef0=2.0), 8),
        (reference.constant(0.25), 0.25),
        (reference.add(reference.energy(), reference.constant(7)), 2),
        (reference.multiply(reference.energy(), reference.constant(7)), -35),
        (reference.gmmn(), sum(math.exp(-12.5 / s**2) for s in (2, 5, 10, 20, 40, 80))),
        (reference.wae(), sum(4 * s / (4 * s + 25) for s in (0.1, 0.2, 0.5, 1, 2, 5, 10))),
    ):
        assert gram(x, y) == pytest.approx(want, rel=1e-14)


@pytest.mark.parametrize("k", KERNELS, ids=ids)
def test_estimators_by_loops(k: KernelCase) -> None:
    def at(x: Any, y: Any) -> float:
        return float(k.gram(x[None], y[None])[0, 0])

    n, m = len(X), len(Y)
    biased = math.fsum(
        [
            *(at(X[i], X[j]) * A[i] * A[j] for i in range(n) for j in range(n)),
            *(at(Y[i], Y[j]) * B[i] * B[j] for i in range(m) for j in range(m)),
            *(-2 * at(X[i], Y[j]) * A[i] * B[j] for i in range(n) for j in range(m)),
        ]
    )
    unbiased = math.fsum(
        [
            *(at(X[i], X[j]) / (n * (n - 1)) for i in range(n) for j in range(n) if i != j),
            *(at(Y[i], Y[j]) / (m * (m - 1)) for i in range(m) for j in range(m) if i != j),
            *(-2 * at(X[i], Y[j]) / (n * m) for i in range(n) for j in range(m)),
        ]
    )
    weighted = sum(
        sum(at(Z[i], Z[j]) * w[i] * w[j] for i in range(len(Z)) for j in range(len(Z)) if i != j) / (1 - sum(w * w))
        for Z, w in ((X, A), (Y, B))
    ) - 2 * sum(at(X[i], Y[j]) * A[i] * B[j] for i in range(n) for j in range(m))
    x, y = X[:5], Y
    linear = sum(
        at(x[i], x[i + 1]) + at(y[i], y[i + 1]) - at(x[i], y[i + 1]) - at(x[i + 1], y[i]) for i in (0, 2)
    ) / 2  # fmt: skip
    blocks = [reference.mmd_unbiased(k.gram, x[i : i + 2], y[i : i + 2]) for i in (0, 2)]
    for got, want in (
        (reference.mmd(k.gram, X, Y, A, B), biased),
        (reference.mmd_unbiased(k.gram, X, Y), unbiased),
        (reference.mmd_unbiased(k.gram, X, Y, A, B), weighted),
        (reference.mmd_linear(k.gram, x, y), linear),
        (reference.mmd_block(k.gram, x, y, 2), np.mean(blocks)),
        (reference.witness(k.gram, X, Y, X[:1], A, B)[0], math.fsum(
            [*(A[i] * at(X[i], X[0]) for i in range(n)), *(-B[j] * at(Y[j], X[0]) for j in range(m))]
        )),
    ):  # fmt: skip
        assert got == pytest.approx(want, rel=1e-11, abs=1e-13)


@pytest.mark.parametrize("k", KERNELS, ids=ids)
def test_equal_weights_are_no_weights(k: KernelCase) -> None:
    a, b = np.full(7, 1 / 7), np.full(5, 1 / 5)
    for definition in (reference.mmd, reference.mmd_unbiased):
        assert definition(k.gram, X, Y, a, b) == pytest.approx(definition(k.gram, X, Y), rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("k", KERNELS, ids=ids)
def test_namespaces_agree(k: KernelCase) -> None:
    """NumPy, its widest float, sixty digits, torch and JAX."""
    want = float(exact.floats(reference.mmd(k.gram, *map(exact.SIXTY.array, (X, Y, A, B)), xp=exact.SIXTY)))
    torch = importlib.import_module("torch")
    jax = importlib.import_module("jax")
    with jax.enable_x64(True):
        for got in (
            reference.mmd(k.gram, X, Y, A, B),
            reference.mmd(k.gram, *map(torch.tensor, (X, Y, A, B)), xp=torch),
            reference.mmd(k.gram, *map(jax.numpy.asarray, (X, Y, A, B)), xp=jax.numpy),
        ):
            assert float(got) == pytest.approx(want, rel=1e-12)
    assert float(exactly(reference.mmd, k.gram, X, Y, A, B)) == pytest.approx(want, rel=1e-15 if Wide.native else 0)


@pytest.mark.parametrize("k", [k for k in KERNELS if not k.conditional], ids=ids)
def test_definite(k: KernelCase) -> None:
    K = k.gram(X, X)
    assert np.linalg.eigvalsh(K).min() > -1e-12 * np.trace(K)


@pytest.mark.parametrize("k", [k for k in KERNELS if k.conditional], ids=ids)
def test_conditionally_definite(k: KernelCase) -> None:
    centre = np.eye(7) - 1 / 7
    assert np.linalg.eigvalsh(k.gram(X, X)).max() > 0 > np.linalg.eigvalsh(k.gram(X, X)).min()
    assert np.linalg.eigvalsh(centre @ k.gram(X, X) @ centre).min() > -1e-12


# -- peers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_energy_distance_is_the_square_of_scipys(weighted: bool) -> None:
    x, y = X[:, 0], Y[:, 0]
    w = (A, B) if weighted else (None, None)
    want = scipy.stats.energy_distance(x, y, *w) ** 2
    assert reference.energy_distance(x[:, None], y[:, None], 1.0, *w) == pytest.approx(want, rel=1e-13)


@pytest.mark.parametrize("exponent", DCOR)
def test_energy_distance_is_dcors(exponent: float) -> None:
    assert reference.energy_distance(FIXED_X, FIXED_Y, exponent) == pytest.approx(DCOR[exponent], rel=1e-13)


@pytest.mark.parametrize(("loss", "rel"), [("gaussian", 1e-13), ("laplacian", 2e-4), ("energy", 1e-4)])
def test_mmd_is_twice_the_loss_of_geomloss(loss: str, rel: float) -> None:
    gram = {
        "gaussian": reference.gaussian(0.7),
        "laplacian": reference.laplacian(0.7, "euclidean"),
        "energy": reference.energy(),
    }[loss]
    assert reference.mmd(gram, FIXED_X, FIXED_Y) == pytest.approx(2 * GEOMLOSS[loss], rel=rel)


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.5, 2.0])
def test_energy_distance_is_an_mmd(exponent: float) -> None:
    want = reference.mmd(reference.energy(exponent), X, Y, A, B)
    assert reference.energy_distance(X, Y, exponent, A, B) == pytest.approx(want, rel=1e-13)


def test_kid_is_that_of_the_papers_code() -> None:
    """Bińkowski et al. (2018): (ΣK_xx - tr K_xx + ΣK_yy - tr K_yy) / m(m-1) - 2 ΣK_xy / m² over subsets of m."""
    rng = np.random.default_rng(62)
    x, y, m = draw(rng, 20, 4), draw(rng, 30, 4), 6
    subsets = [(rng.choice(20, m, replace=False), rng.choice(30, m, replace=False)) for _ in range(9)]
    values = []
    for i, j in subsets:
        Kxx, Kyy, Kxy = (sk.polynomial_kernel(u, v, 3, 1 / 4, 1) for u, v in ((x[i],) * 2, (y[j],) * 2, (x[i], y[j])))
        within = Kxx.sum() - np.trace(Kxx) + Kyy.sum() - np.trace(Kyy)
        values.append(within / (m * (m - 1)) - 2 * Kxy.sum() / m**2)
    mean, error = reference.kid(x, y, subsets)
    assert mean == pytest.approx(np.mean(values), rel=1e-12)
    assert error == pytest.approx(scipy.stats.sem(values), rel=1e-12)


# -- derivatives --------------------------------------------------------------------------------------------


def gmmn_gradient(x: Any, y: Any, sigma: float) -> Any:
    """(2/σ²) [Σ_j k(x_i, y_j)(x_i - y_j) / nm - Σ_j k(x_i, x_j)(x_i - x_j) / n²], Li, Swersky & Zemel (2015)."""
    n, m = len(x), len(y)
    gram = reference.gaussian(sigma)
    across = np.einsum("ij,ijk->ik", gram(x, y), x[:, None] - y) / (n * m)
    within = np.einsum("ij,ijk->ik", gram(x, x), x[:, None] - x) / n**2
    return 2 / sigma**2 * (across - within)


def test_the_differences_are_the_derivatives() -> None:
    gram = kernel("gaussian").gram
    np.testing.assert_allclose(gradient(gram, [X, Y, None, None], 0), gmmn_gradient(X, Y, 1.5), rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(gradient(gram, [X, Y, None, None], 1), gmmn_gradient(Y, X, 1.5), rtol=1e-11, atol=1e-14)
    want = 2 * reference.witness(gram, X, Y, X, A, B)
    np.testing.assert_allclose(gradient(gram, [X, Y, A, B], 2), want, rtol=1e-12)
    want = -2 * reference.witness(gram, X, Y, Y, A, B)
    np.testing.assert_allclose(gradient(gram, [X, Y, A, B], 3), want, rtol=1e-12)
