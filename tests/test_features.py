"""Finite features of kernels: unbiased, errors that cover, bounds that bracket, streaming, and every bad input."""

import importlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

import otdist as od
from otdist import _nystroem, _spectrum, features

seeds = st.integers(0, 2**32 - 1)


def cost(name, x, y):
    c = cdist(x, y, "cityblock" if name == "cityblock" else "euclidean")
    return c * c if name == "sqeuclidean" else c


def square(x, y):
    return cost("sqeuclidean", x, y)


def matern(nu):
    def of(r):
        r = math.sqrt(2 * nu) * r / 1.5
        return {0.5: 1, 1.5: 1 + r, 2.5: 1 + r + r * r / 3}[nu] * np.exp(-r)

    return od.Matern(1.5, nu=nu), lambda x, y: of(cost("euclidean", x, y))


FOURIER = {
    "gaussian": (od.Gaussian(1.3), lambda x, y: np.exp(-square(x, y) / (2 * 1.69))),
    "several": (od.Gaussian((0.7, 2.0)), lambda x, y: np.exp(-square(x, y) / 0.98) + np.exp(-square(x, y) / 8)),
    "gaussian-l1": (od.Gaussian(1.1, cost="cityblock"), lambda x, y: np.exp(-cost("cityblock", x, y) / 2.42)),
    "laplacian": (od.Laplacian(2.0), lambda x, y: np.exp(-cost("cityblock", x, y) / 2)),
    "exponential": (od.Laplacian(2.0, cost="euclidean"), lambda x, y: np.exp(-cost("euclidean", x, y) / 2)),
    "laplacian-l2": (od.Laplacian(2.0, cost="sqeuclidean"), lambda x, y: np.exp(-square(x, y) / 2)),
    "imq": (od.IMQ(1.5), lambda x, y: (1 + square(x, y) / 2.25) ** -0.5),
    "imq-l2": (od.IMQ(1.5, power=2.0, cost="euclidean"), lambda x, y: (1 + cost("euclidean", x, y) / 2.25) ** -2.0),
    "imq-l1": (od.IMQ(1.5, power=1.0, cost="cityblock"), lambda x, y: 1 / (1 + cost("cityblock", x, y) / 2.25)),
    "rational": (od.RationalQuadratic(1.2, alpha=0.7), lambda x, y: (1 + square(x, y) / (1.4 * 1.44)) ** -0.7),
    "matern1": matern(0.5),
    "matern3": matern(1.5),
    "matern5": matern(2.5),
    "sum": (
        2.0 * od.Gaussian(1.0) + od.Laplacian(2.0) + 0.5,
        lambda x, y: 2 * np.exp(-square(x, y) / 2) + np.exp(-cost("cityblock", x, y) / 2) + 0.5,
    ),
    "product": (
        od.Gaussian(1.0) * (od.Laplacian(2.0) + 1.0),
        lambda x, y: np.exp(-square(x, y) / 2) * (1 + np.exp(-cost("cityblock", x, y) / 2)),
    ),
}
OTHERS = {
    "energy": (od.Energy(), lambda x, y: -cost("euclidean", x, y)),
    "energy-half": (
        od.Energy(0.5) + od.Gaussian(1.0),
        lambda x, y: -(cost("euclidean", x, y) ** 0.5) + np.exp(-square(x, y) / 2),
    ),
    "linear": (od.Linear(), lambda x, y: x @ y.T),
    "polynomial": (od.Polynomial(), lambda x, y: (x @ y.T / x.shape[1] + 1) ** 3),
    "mixed": (
        od.Linear() * od.Gaussian(2.0) + od.Polynomial(2, gamma=0.5),
        lambda x, y: x @ y.T * np.exp(-square(x, y) / 8) + (x @ y.T / 2 + 1) ** 2,
    ),
    "cosine": (
        od.Gaussian(0.8, cost="cosine"),
        lambda x, y: np.exp(-cdist(x, y, "cosine") / 1.28),
    ),
}
fourier = pytest.mark.parametrize("name", FOURIER)


def clouds(seed, n, m, d, shift=0.7):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), 1.1 * rng.normal(size=(m, d)) + shift


def mmd2(k, x, y):
    return k(x, x).mean() + k(y, y).mean() - 2 * k(x, y).mean()


def mmd2_unbiased(k, x, y):
    def within(x):
        K = k(x, x)
        return (K.sum() - np.trace(K)) / (len(x) * (len(x) - 1))

    return within(x) + within(y) - 2 * k(x, y).mean()


# Random Fourier features


@fourier
@pytest.mark.parametrize("d", [1, 3])
def test_fourier_features_tend_to_the_kernel(name, d):
    """Every entry within 4.5 standard errors of its own, at a number of features that sees 1 % of k(0)."""
    kernel, k = FOURIER[name]
    x, y = clouds(1, 9, 7, d)
    count = 40_000
    phi = features.random_fourier(kernel, d, count, rng=2)
    a, b = phi.transform(x), phi.transform(y)
    assert np.max(np.abs(a @ b.T - k(x, y))) <= 4.5 * k(x[:1], x[:1])[0, 0] / math.sqrt(count)
    np.testing.assert_allclose(np.sum(a * a, axis=1), k(x[:1], x[:1])[0, 0], rtol=1e-12)


@fourier
def test_mmd_features_is_unbiased_and_its_error_covers(name):
    kernel, k = FOURIER[name]
    x, y = clouds(3, 40, 30, 2)
    for estimator, exact in (("biased", mmd2(k, x, y)), ("unbiased", mmd2_unbiased(k, x, y))):
        found = [
            features.mmd_features(x, y, kernel=kernel, features=150, estimator=estimator, rng=seed)
            for seed in range(200)
        ]
        values, errors = np.array([(f.value, f.standard_error) for f in found]).T
        deviation = np.std(values, ddof=1)
        assert abs(np.mean(values) - exact) <= 3.5 * deviation / math.sqrt(200)
        assert np.mean(errors) == pytest.approx(deviation, rel=0.25)
        assert np.mean(np.abs(values - exact) <= 2 * errors) >= 0.9


def test_mmd_features_of_the_gaussians_closed_form():
    s, t, n = 1.5, 0.8, 200_000
    rng = np.random.default_rng(4)
    x, y = (t * rng.normal(size=(n, 3)) for _ in range(2))
    y[:, 0] += 2
    found = features.mmd_features(x, y, bandwidth=s, features=400, estimator="unbiased", rng=0)
    scale = s * s + 2 * t * t
    exact = 2 * (s * s / scale) ** 1.5 * (1 - math.exp(-4 / (2 * scale)))
    assert abs(found.value - exact) <= 3.5 * found.standard_error + 0.005
    assert found.standard_error < 0.1 * exact


def test_mmd_features_of_equal_samples_is_zero():
    x, _ = clouds(5, 50, 1, 2)
    found = features.mmd_features(x, x.copy(), rng=0)
    assert found == features.Estimate(0.0, 0.0, 1024)
    assert features.mmd_features(x, x + 1, kernel=od.Constant(2.0), rng=0).value == 0


def test_constants_change_nothing():
    x, y = clouds(6, 50, 40, 2)
    one = features.mmd_features(x, y, kernel=od.Gaussian(1.0), rng=1)
    assert features.mmd_features(x, y, kernel=3.0 + od.Gaussian(1.0) + od.Constant(1.0), rng=1) == one


def test_streaming_is_the_plain_mean():
    """More rows than a tile, and than tiles times parts; waves by complex exponentials in float64."""
    rng = np.random.default_rng(7)
    frequencies = rng.standard_cauchy((11, 3))
    for n in (1, _spectrum.ROWS, _spectrum.ROWS + 1, 5 * _spectrum.ROWS * _spectrum.PARTS // 4):
        x = rng.normal(size=(n, 3)) + 1e3
        centre = np.full(3, 1e3)
        expected = np.mean(np.exp(1j * ((x - centre) @ frequencies.T)), axis=0)
        got = _spectrum.mean_waves(x, centre, frequencies)
        np.testing.assert_allclose(got, [expected.real, expected.imag], atol=1e-6)


def test_mmd_features_far_from_the_origin():
    x, y = clouds(8, 300, 200, 2)
    for kernel in (od.Gaussian(1.0), od.Laplacian(1.0)):
        near = features.mmd_features(x, y, kernel=kernel, features=100, rng=0)
        far = features.mmd_features(x + 1e6, y + 1e6, kernel=kernel, features=100, rng=0)
        assert far.value == pytest.approx(near.value, rel=1e-4)


def test_threads_and_seeds_change_no_bit():
    from otdist.kernels import threads

    x, y = clouds(9, 5000, 3000, 2)
    try:
        threads.set_thread_count(1)
        one = features.mmd_features(x, y, bandwidth=1.0, features=64, rng=3)
        bounds = features.mmd_nystroem(x, y, bandwidth=1.0, landmarks=20, rng=3)
        threads.set_thread_count(2)
        assert features.mmd_features(x, y, bandwidth=1.0, features=64, rng=np.random.default_rng(3)) == one
        assert features.mmd_nystroem(x, y, bandwidth=1.0, landmarks=20, rng=3) == bounds
    finally:
        threads.set_thread_count(None)
    assert features.mmd_features(x, y, bandwidth=1.0, features=64, rng=4) != one


def test_mmd_features_needs_little_memory():
    """100 MB of phases, were they kept."""
    import tracemalloc

    x, y = (np.zeros((200_000, 2), np.float32) for _ in range(2))
    y[::2] = 1
    features.mmd_features(x[:10], y[:10], bandwidth=1.0, features=64, rng=0)
    tracemalloc.start()
    try:
        features.mmd_features(x, y, bandwidth=1.0, features=64, rng=0)
        assert tracemalloc.get_traced_memory()[1] < 8e6
    finally:
        tracemalloc.stop()


# Nyström


@settings(max_examples=120, deadline=None)
@given(seeds, st.sampled_from([*FOURIER, *OTHERS]), st.integers(1, 4), st.integers(1, 60), st.floats(-8, 8), st.data())
def test_nystroem_bounds_bracket(seed, name, d, landmarks, log_scale, data):
    kernel, k = (FOURIER | OTHERS)[name]
    scale = 10**log_scale if name not in OTHERS else 10 ** (log_scale / 8)
    x, y = clouds(seed, data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40)), d, data.draw(st.floats(0, 3)))
    x, y = scale * x, scale * y
    exact = mmd2(k, x, y)
    rounding = 1e-13 * max(np.max(np.abs(k(x, x))), np.max(np.abs(k(y, y))))
    found = features.mmd_nystroem(x, y, kernel=kernel, landmarks=landmarks, rng=seed)
    assert 0 <= found.lower <= exact + rounding
    assert exact <= found.upper + rounding
    assert found.lower <= found.value <= found.upper
    assert found.landmarks == min(landmarks, len(x) + len(y))


@pytest.mark.parametrize("name", [*FOURIER, *OTHERS])
def test_nystroem_with_every_point_as_a_landmark_is_exact(name):
    kernel, k = (FOURIER | OTHERS)[name]
    x, y = clouds(10, 25, 20, 2)
    found = features.mmd_nystroem(x, y, kernel=kernel, landmarks=np.concatenate([x, y]))
    assert found.value == pytest.approx(mmd2(k, x, y), rel=1e-6)
    assert found.upper == pytest.approx(found.lower, rel=2e-2)


def test_nystroem_bounds_are_tight_for_smooth_kernels():
    x, y = clouds(11, 3000, 2000, 2)
    exact = mmd2(lambda x, y: np.exp(-square(x, y) / 18), x, y)
    found = features.mmd_nystroem(x, y, kernel=od.Gaussian(3.0), landmarks=100, rng=0)
    assert found.lower <= exact <= found.upper <= 1.001 * exact


def test_nystroem_streams():
    """Tiles of a few rows, and far more rows than landmarks, give what one tile gives."""
    x, y = clouds(12, 900, 700, 3)
    whole = features.mmd_nystroem(x, y, bandwidth=2.0, landmarks=50, rng=0)
    tile = _nystroem.TILE
    try:
        _nystroem.TILE = 1
        small = features.mmd_nystroem(x, y, bandwidth=2.0, landmarks=50, rng=0)
    finally:
        _nystroem.TILE = tile
    for name in ("value", "lower", "upper"):
        assert getattr(small, name) == pytest.approx(getattr(whole, name), rel=1e-9)


def test_nystroem_of_repeated_landmarks_and_points():
    x, y = np.zeros((5, 2)), np.ones((4, 2))
    found = features.mmd_nystroem(x, y, kernel=od.Gaussian(1.0), landmarks=9, rng=0)
    exact = 2 - 2 * math.exp(-1)
    assert found.lower <= exact <= found.upper
    assert found.upper == pytest.approx(found.lower, rel=1e-3)
    for kernel in (od.Energy(), od.Linear()):  # landmarks that see nothing
        found = features.mmd_nystroem(x, y, kernel=kernel, landmarks=np.zeros((3, 2)))
        assert found.lower <= {"Energy": 2 * math.sqrt(2), "Linear": 2.0}[type(kernel).__name__] <= found.upper


@pytest.mark.parametrize("name", ["gaussian", "laplacian", "sum", "linear", "polynomial", "cosine"])
def test_nystroem_features(name):
    kernel, k = (FOURIER | OTHERS)[name]
    x, y = clouds(13, 40, 60, 2)
    phi = features.nystroem(kernel, x, 40)
    z = phi.transform(x)
    np.testing.assert_allclose(z @ z.T, k(x, x), atol=1e-5 * np.max(np.abs(k(x, x))))  # exact at the landmarks
    w = phi.transform(y)
    gaps = [np.maximum(np.diag(k(a, a)) - np.sum(b * b, axis=1), 0) for a, b in ((x, z), (y, w))]
    assert np.all(np.sum(w * w, axis=1) <= np.diag(k(y, y)) * (1 + 1e-9))
    assert np.all(np.abs(k(x, y) - z @ w.T) <= np.sqrt(np.outer(*gaps)) + 1e-6 * np.max(k(y, y)))
    assert phi.transform(np.stack([x, x + 1])).shape == (2, 40, 40)


# Libraries, dtypes


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
def test_libraries(library):
    module = importlib.import_module({"numpy": "numpy", "torch": "torch", "jax": "jax.numpy"}[library])
    convert = module.as_tensor if library == "torch" else module.asarray
    x, y = (a.astype(np.float32) for a in clouds(14, 50, 40, 2))
    lent = convert(x), convert(y)
    for function in (features.mmd_features, features.mmd_nystroem):
        expected = function(x.astype(float), y.astype(float), rng=0)
        found = function(*lent, rng=0)
        assert type(found.value) is float
        assert found.value == pytest.approx(expected.value, rel=1e-5)
    for phi in (
        features.random_fourier(od.Gaussian(1.0), 2, 30, rng=0),
        features.nystroem(od.Gaussian(1.0), lent[0], 9),
    ):
        z = phi.transform(lent[0])
        assert type(z) is type(lent[0])
        assert str(z.dtype).removeprefix("torch.") == "float32"
        np.testing.assert_allclose(np.asarray(z), phi.transform(x.astype(float)), atol=1e-6)
    np.testing.assert_array_equal(np.asarray(lent[0]), x)


def test_names_of_kernels():
    x, y = clouds(15, 40, 30, 2)
    for name in ("gaussian", "laplacian", "imq", "rational_quadratic", "matern", "gmmn", "wae"):
        found = features.mmd_features(x, y, kernel=name, rng=0)
        bounds = features.mmd_nystroem(x, y, kernel=name, rng=0)
        assert bounds.lower - 5 * found.standard_error <= found.value <= bounds.upper + 5 * found.standard_error
    assert features.random_fourier("gmmn", 2, 5).transform(x).shape == (40, 10)
    assert features.random_fourier(od.Gaussian(1.0) + 2.0, 2, 5).transform(x).shape == (40, 11)
    assert features.random_fourier(od.Constant(2.0), 2, 5).transform(x) == pytest.approx(np.full((40, 1), math.sqrt(2)))


# Bad input

X, Y = clouds(16, 30, 40, 2)
PAIRS = [
    ((X[:, 0], Y[:, 0]), {}, ValueError, r"^x: found shape \(30,\).*pass x\[:, None\]"),
    ((X, Y[:, 0]), {}, ValueError, r"^y: found shape \(40,\).*pass y\[:, None\]"),
    ((X[None], Y), {}, ValueError, r"^x: found shape \(1, 30, 2\); pass one sample"),
    ((X, Y[:, :1]), {}, ValueError, r"^x and y: found 2 and 1 coordinates"),
    ((X[:0], Y), {}, ValueError, r"^x: found shape \(0, 2\)"),
    ((np.where(X[3, 1] == X, np.nan, X), Y), {}, ValueError, r"^x: found nan at index \(3, 1\)"),
    ((X, np.where(Y[4, 0] == Y, np.inf, Y)), {}, ValueError, r"^y: found inf at index \(4, 0\)"),
    ((X + 1j, Y), {}, TypeError, r"^x: found dtype complex128"),
    ((X, None), {}, TypeError, r"^y: found None"),
    ((X, Y), {"kernel": "gausian"}, ValueError, r"^kernel: found 'gausian'"),
    ((X, Y), {"bandwidth": -1.0}, ValueError, r"^bandwidth: found -1"),
    ((X, Y), {"rng": "a"}, TypeError, r"^rng: found 'a'"),
    ((X, Y), {"rng": -1}, ValueError, r"^rng: found -1"),
]


@pytest.mark.parametrize("function", [features.mmd_features, features.mmd_nystroem])
@pytest.mark.parametrize(("arrays", "options", "error", "message"), PAIRS)
def test_bad_input(function, arrays, options, error, message):
    with pytest.raises(error, match=message):
        function(*arrays, **options)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: features.mmd_features(1e20 * X, Y, bandwidth=1.0),
            ValueError,
            r"^x and y: found points up to .* larger",
        ),
        (lambda: features.random_fourier("gmmn", 2, 5).transform(1e300 * X), ValueError, r"^x: found points up to"),
        (lambda: features.mmd_nystroem(1e200 * X, Y, kernel="polynomial"), ValueError, r"^x: found points where Poly"),
        (lambda: features.mmd_nystroem(X, 1e200 * Y, kernel="linear", landmarks=X), ValueError, r"^y: found points wh"),
        (lambda: features.mmd_features(X, Y, features=1), ValueError, r"^features: found 1; give 2 or more"),
        (lambda: features.mmd_features(X, Y, features=2.5), TypeError, r"^features: found 2.5"),
        (lambda: features.mmd_features(X, Y, estimator="v"), ValueError, r"^estimator: found 'v'"),
        (lambda: features.mmd_features(X[:1], Y, estimator="unbiased"), ValueError, r"^estimator: .* two of each"),
        (lambda: features.mmd_features(X, Y, kernel="energy"), ValueError, r"^kernel: found Energy.*mmd_nystroem"),
        (lambda: features.mmd_features(X, Y, kernel="linear"), ValueError, r"^kernel: found Linear"),
        (
            lambda: features.mmd_features(X, Y, kernel=od.Gaussian(1.0, cost="cosine")),
            ValueError,
            r"^kernel: found Gau",
        ),
        (lambda: features.random_fourier("gaussian", 2, 5), ValueError, r"^kernel: found Gaussian.* without a bandw"),
        (lambda: features.random_fourier(od.Gaussian(1.0), 0, 5), ValueError, r"^d: found 0"),
        (lambda: features.random_fourier(od.Gaussian(1.0), 2, 5).transform(X[:, :1]), ValueError, r"^x: .* 2 coord"),
        (lambda: features.mmd_nystroem(X, Y, landmarks=0), ValueError, r"^landmarks: found 0"),
        (lambda: features.mmd_nystroem(X, Y, landmarks=Y[:, :1]), ValueError, r"^landmarks: .* 2 coordinates"),
        (lambda: features.mmd_nystroem(X, Y, landmarks=Y * np.nan), ValueError, r"^landmarks: found nan"),
        (
            lambda: features.mmd_nystroem(X, 0 * Y, kernel=od.Gaussian(1.0, cost="cosine")),
            ValueError,
            r"^y: found a zero vector at index \(0,\)",
        ),
        (lambda: features.nystroem("energy", X), ValueError, r"^kernel: found Energy.*use mmd_nystroem"),
        (lambda: features.nystroem("gaussian", X), ValueError, r"^bandwidth: found None"),
    ],
)
def test_bad_input_of_one_function(call, error, message):
    with pytest.raises(error, match=message):
        call()
