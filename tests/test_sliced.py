"""Sliced and max-sliced Wasserstein distances."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import ot
import pytest

from otdist._gradients import value_and_grad
from otdist.kernels import threads
from otdist.transport import sliced
from otdist.transport.line import wasserstein_1d
from otdist.transport.max_sliced import max_sliced_wasserstein
from otdist.transport.sliced import sliced_wasserstein


def draw(seed: int, n: int, m: int, d: int) -> tuple[Any, Any, Any, Any]:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, d)), rng.normal(size=(m, d)) * 1.5 + 0.3
    return x, y, rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(m))


def sphere(count: int, d: int) -> Any:
    theta = np.random.default_rng(9).normal(size=(count, d))
    return theta / np.linalg.norm(theta, axis=1, keepdims=True)


@pytest.mark.parametrize("p", [1, 2, 3.5])
@pytest.mark.parametrize("weighted", [False, True])
def test_definition_and_peer(p: float, weighted: bool) -> None:
    x, y, a, b = draw(0, 40, 31, 6)
    a, b = (a, b) if weighted else (None, None)
    theta = sphere(50, 6)
    want = np.mean([wasserstein_1d(x @ t, y @ t, a, b, p) ** p for t in theta]) ** (1 / p)
    got = sliced_wasserstein(x, y, a, b, p, projections=theta * 7.0)
    np.testing.assert_allclose(got, want, rtol=1e-13)
    peer = ot.sliced_wasserstein_distance(x, y, a, b, p=p, projections=theta.T)
    np.testing.assert_allclose(got, peer, rtol=1e-10)


def test_one_coordinate_is_the_line() -> None:
    x, y, a, b = draw(1, 20, 30, 1)
    value, error = sliced_wasserstein(x, y, a, b, 3, return_stderr=True)
    assert (value, error) == (wasserstein_1d(x[:, 0], y[:, 0], a, b, 3), 0.0)
    assert sliced_wasserstein(x + 1e6, x + 1e6) == 0.0
    found = max_sliced_wasserstein(x, y, a, b, 3)
    np.testing.assert_allclose(found.value, value, rtol=1e-13)
    assert abs(found.direction).tolist() == [1.0]


def test_error_and_closed_form_of_a_translation() -> None:
    """W_p of the projections is |⟨θ, t⟩|: for p = 2 the mean of its square is |t|²/d."""
    x, _, _, _ = draw(2, 50, 1, 4)
    t = np.array([3.0, 0, -4.0, 0])
    value, error = sliced_wasserstein(x, x + t, projections=4000, return_stderr=True)
    assert abs(value - math.sqrt(25 / 4)) < 4 * error
    assert 0 < error < 0.05
    # the stated error is the spread of repeated estimates
    values = [sliced_wasserstein(x, x + t, projections=100, rng=k) for k in range(200)]
    errors = [sliced_wasserstein(x, x + t, projections=100, rng=k, return_stderr=True)[1] for k in range(50)]
    np.testing.assert_allclose(np.std(values), np.mean(errors), rtol=0.2)
    assert sliced_wasserstein(x, x, return_stderr=True) == (0.0, 0.0)


def test_randomness_is_stated() -> None:
    x, y, _, _ = draw(3, 20, 20, 3)
    assert sliced_wasserstein(x, y) == sliced_wasserstein(x, y, rng=0)
    assert sliced_wasserstein(x, y, rng=1) != sliced_wasserstein(x, y, rng=2)
    assert sliced_wasserstein(x, y, rng=np.random.default_rng(1)) == sliced_wasserstein(x, y, rng=1)
    assert sliced_wasserstein(x, y, rng=None) != sliced_wasserstein(x, y, rng=None)


def test_translations_permutations_scales_and_dtypes() -> None:
    x, y, a, b = draw(4, 30, 40, 5)
    want = sliced_wasserstein(x, y, a, b)
    np.testing.assert_allclose(sliced_wasserstein(x + 1e6, y + 1e6, a, b), want, rtol=1e-9)
    np.testing.assert_allclose(sliced_wasserstein(y, x, b, a), want, rtol=1e-13)
    order = np.random.default_rng(0).permutation(30)
    np.testing.assert_allclose(sliced_wasserstein(x[order], y, a[order], b), want, rtol=1e-13)
    for scale in (1e-200, 1e-30, 1e30, 1e200):
        np.testing.assert_allclose(sliced_wasserstein(x * scale, y * scale, a, b) / scale, want, rtol=1e-12)
        np.testing.assert_allclose(sliced_wasserstein(x * scale, y * scale, p=7) / scale, sliced_wasserstein(x, y, p=7))
    narrow = sliced_wasserstein(x.astype("float32"), y.astype("float32"))
    assert narrow.dtype == np.float32
    np.testing.assert_allclose(narrow, sliced_wasserstein(x, y), rtol=1e-6)
    torch = pytest.importorskip("torch")
    assert isinstance(sliced_wasserstein(torch.tensor(x), torch.tensor(y)), torch.Tensor)


def test_batches_tiles_and_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(3, 1, 20, 4)), rng.normal(size=(2, 30, 4))
    a = rng.dirichlet(np.ones(20), size=(3, 1))
    got, error = sliced_wasserstein(x, y, a, return_stderr=True)
    assert got.shape == error.shape == (3, 2)
    assert got[2, 1] == sliced_wasserstein(x[2, 0], y[1], a[2, 0])
    assert max_sliced_wasserstein(x, y, a, max_iter=3).direction.shape == (3, 2, 4)
    assert sliced_wasserstein(np.zeros((0, 5, 2)), np.zeros((5, 2))).shape == (0,)
    gradient = value_and_grad(sliced_wasserstein, (0, 1))
    want = gradient(x[0, 0], y[0], p=3)
    monkeypatch.setattr(threads, "INLINE_NANOSECONDS", 0.0)
    try:
        for count in (1, 2, 3):
            threads.set_thread_count(count)
            again = gradient(x[0, 0], y[0], p=3)
            assert again[0] == want[0]
            np.testing.assert_array_equal(again[1][0], want[1][0])
        monkeypatch.setattr(sliced, "TILE", 100)
        value, grads = gradient(x[0, 0], y[0], p=3)
        np.testing.assert_allclose(value, want[0], rtol=1e-14)
        for one, other in zip(grads, want[1], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-15)
    finally:
        threads.set_thread_count(None)


@pytest.mark.parametrize("p", [1, 2, 2.6])
def test_gradients_by_finite_differences(p: float) -> None:
    x, y, a, b = draw(5, 7, 5, 3)
    theta = sphere(6, 3)

    def function(x: Any, y: Any, a: Any, b: Any) -> float:
        return float(np.mean([wasserstein_1d(x @ t, y @ t, a, b, p) ** p for t in theta]) ** (1 / p))

    arrays = [x, y, a, b]
    value, grads = value_and_grad(sliced_wasserstein, (0, 1, 2, 3))(*arrays, p=p, projections=theta)
    np.testing.assert_allclose(value, function(*arrays), rtol=1e-14)
    rng = np.random.default_rng(0)
    for k, gradient in enumerate(grads):
        for _ in range(5):
            direction = rng.normal(size=arrays[k].shape)
            if k >= 2:
                direction -= direction.mean()
            slopes = []
            for h in (1e-5, 2e-5):
                moved = [
                    [part + s * h * direction if i == k else part for i, part in enumerate(arrays)] for s in (1, -1)
                ]
                slopes.append((function(*moved[0]) - function(*moved[1])) / (2 * h))
            np.testing.assert_allclose(
                np.sum(gradient * direction), (4 * slopes[0] - slopes[1]) / 3, rtol=1e-8, atol=1e-9
            )


def test_gradients_of_several_scales() -> None:
    """Tiles of very different distances: their gradients are added in units of the greatest."""
    x = np.zeros((2, 2))
    y = np.array([[1e-150, 1.0], [2e-150, 2.0]])
    for theta in ([[1.0, 0], [0, 1.0]], [[0, 1.0], [1.0, 0]]):
        value, g = value_and_grad(sliced_wasserstein)(x, y, p=4, projections=theta)
        np.testing.assert_allclose(value, ((1 + 16) / 2 / 2) ** 0.25, rtol=1e-14)
        np.testing.assert_allclose(g[:, 1], -(value**-3) * 4.5 / 4 * np.ones(2), rtol=1e-12)


@pytest.mark.parametrize("p", [1, 2])
def test_max_sliced(p: float) -> None:
    x, y, a, b = draw(6, 60, 50, 5)
    y = y + np.array([0, 0, 2.0, 0, 1.0])
    found = max_sliced_wasserstein(x, y, a, b, p)
    np.testing.assert_allclose(np.linalg.norm(found.direction), 1.0, rtol=1e-14)
    np.testing.assert_allclose(
        wasserstein_1d(x @ found.direction, y @ found.direction, a, b, p), found.value, rtol=1e-12
    )
    for t in sphere(3000, 5):
        assert wasserstein_1d(x @ t, y @ t, a, b, p) <= found.value
    # no step along the sphere improves on it
    rng = np.random.default_rng(0)
    for _ in range(50):
        t = found.direction + 1e-3 * rng.normal(size=5)
        t /= np.linalg.norm(t)
        assert wasserstein_1d(x @ t, y @ t, a, b, p) <= found.value * (1 + 1e-7)
    again = max_sliced_wasserstein(x, y, a, b, p)
    assert again.value == found.value


def test_max_sliced_of_a_translation_and_of_equal_samples() -> None:
    x, _, _, _ = draw(7, 40, 1, 3)
    t = np.array([2.0, -1.0, 2.0])
    found = max_sliced_wasserstein(x, x + t)
    np.testing.assert_allclose(found.value, 3.0, rtol=1e-12)
    np.testing.assert_allclose(abs(found.direction @ t), 3.0, rtol=1e-10)
    assert max_sliced_wasserstein(x, x).value == 0.0


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"x": np.zeros(3)}, ValueError, r"^x: found shape \(3,\).*x\[:, None\]"),
    ({"y": np.zeros((3, 3))}, ValueError, r"^x and y: found 2 and 3 coordinates"),
    ({"y": np.full((3, 2), np.nan)}, ValueError, r"^y: found nan"),
    ({"x_weights": [0.5, 0.5]}, ValueError, r"^x_weights: found shape"),
    ({"x_weights": [0.5, 0.4, 0.0]}, ValueError, r"^x_weights: found weights with sum"),
    ({"p": 0.9}, ValueError, r"^p: found 0\.9"),
    ({"p": np.inf}, ValueError, r"^p: found inf"),
    ({"p": None}, TypeError, r"^p: found None"),
    ({"rng": "a"}, (TypeError, ValueError), r"^rng: found 'a'"),
]
ONLY_SLICED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"projections": 0}, ValueError, r"^projections: found 0"),
    ({"projections": True}, TypeError, r"^projections: found True"),
    ({"projections": np.zeros((4, 2))}, ValueError, r"^projections: found \[0\.0, 0\.0\] at index 0"),
    ({"projections": np.ones((4, 3))}, ValueError, r"^projections: found shape \(4, 3\)"),
    ({"projections": 1, "return_stderr": True}, ValueError, r"^projections: found 1 direction"),
    ({"return_stderr": 1}, (TypeError, ValueError), r"^return_stderr: found 1"),
]
ONLY_MAX: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"restarts": 0}, ValueError, r"^restarts: found 0"),
    ({"max_iter": 1.5}, TypeError, r"^max_iter: found 1\.5"),
]
CASES = [(sliced_wasserstein, *case) for case in BAD + ONLY_SLICED] + [
    (max_sliced_wasserstein, *case) for case in BAD + ONLY_MAX
]


@pytest.mark.parametrize(("function", "options", "error", "match"), CASES)
def test_refused(function: Any, options: dict[str, Any], error: type[Exception], match: str) -> None:
    arguments = {"x": np.arange(6.0).reshape(3, 2), "y": np.ones((3, 2)), **options}
    with pytest.raises(error, match=match):
        function(**arguments)
