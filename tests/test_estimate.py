"""Divergences from samples: against their formulas, closed forms, invariances, ties, and every bad input."""

import importlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from scipy.spatial.distance import cdist
from scipy.special import gamma, psi

import otdist as od
from otdist import _nearest_neighbours, estimate, gaussian

seeds = st.integers(0, 2**32 - 1)
BOTH = [estimate.kl, estimate.js, lambda x, y, **o: estimate.renyi(x, y, 0.7, **o)]
every = pytest.mark.parametrize("divergence", BOTH, ids=["kl", "js", "renyi"])


def clouds(seed, n, m, d, shift=0.8, scale=1.2, batch=()):
    """Samples of N(0, I) and N(shift e1, scale^2 I)."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(*batch, n, d)), scale * rng.normal(size=(*batch, m, d))
    y[..., 0] += shift
    return x, y


def truth(d, alpha, shift=0.8, scale=1.2):
    mean = np.zeros(d)
    mean[0] = shift
    return gaussian.renyi(np.zeros(d), np.eye(d), mean, scale**2 * np.eye(d), alpha)


def true_js(shift, scale):
    p, q = stats.norm(0, 1), stats.norm(shift, scale)

    def integrand(t):
        a, b = p.logpdf(t), q.logpdf(t)
        middle = np.logaddexp(a, b) - math.log(2)
        return 0.5 * (math.exp(a) * (a - middle) + math.exp(b) * (b - middle))

    reach = 12 * max(1, scale)
    points = sorted({m + r * s for m, s in ((0.0, 1.0), (shift, scale)) for r in (-12, -6, -3, 0, 3, 6, 12)})
    return integrate.quad(
        integrand, min(0, shift) - reach, max(0, shift) + reach, points=points, limit=500, epsabs=1e-13
    )[0]


# Neighbours: the formulas


def distances(x, y, k):
    own = np.sort(cdist(x, x), axis=1)[:, k]  # the first is the point itself
    return own, np.sort(cdist(x, y), axis=1)[:, k - 1]


@pytest.mark.parametrize(("n", "m", "d", "k"), [(30, 40, 1, 1), (25, 12, 3, 4), (8, 5, 2, 5)])
def test_neighbours_follow_the_formulas(n, m, d, k):
    x, y = clouds(1, n, m, d)
    rho, nu = distances(x, y, k)
    kl = d / n * np.sum(np.log(nu / rho)) + math.log(m / (n - 1))
    assert estimate.kl(x, y, k=k) == pytest.approx(kl, rel=1e-12)
    for alpha in (0.4, 0.999, 1.0005, 1.7):
        factor = gamma(k) ** 2 / (gamma(k - alpha + 1) * gamma(k + alpha - 1))
        mean = np.mean(((n - 1) * rho**d / (m * nu**d)) ** (1 - alpha))
        expected = math.log(factor * mean) / (alpha - 1)
        assert estimate.renyi(x, y, alpha, k=k) == pytest.approx(expected, rel=1e-11, abs=1e-11)
    assert estimate.renyi(x, y, 1, k=k) == estimate.kl(x, y, k=k)
    assert estimate.renyi(x, y, 1 + 1e-9, k=k) == pytest.approx(estimate.kl(x, y, k=k), abs=1e-7)


def test_large_orders_do_not_overflow():
    x, y = clouds(2, 50, 60, 40)
    rho, nu = distances(x, y, 40)
    terms = [-38.0 * (math.log(49 / 60) + 40 * math.log(a / b)) for a, b in zip(rho, nu, strict=True)]
    factor = 2 * math.lgamma(40) - math.lgamma(2) - math.lgamma(78)
    expected = (np.logaddexp.reduce(terms) - math.log(50) + factor) / 38
    assert estimate.renyi(x, y, 39, k=40) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("k", "c", "most"), [(1, 0.3, 60), (5, 1.0, 200), (5, 0.9, 200), (20, 0.01, 50), (3, 0.0, 9)])
def test_mean_digamma_is_the_binomial_mean(k, c, most):
    got = _nearest_neighbours.mean_digamma(k, c, most)
    for b in range(most + 1):
        j = np.arange(b + 1)
        assert got[b] == pytest.approx(np.sum(stats.binom.pmf(j, b, c) * psi(k + j)), rel=1e-12)


@pytest.mark.parametrize(("n", "m"), [(40, 40), (30, 50), (70, 30)])
def test_js_follows_the_formula(n, m):
    """The mean over every thinning, by the binomial law; the larger sample in strided parts."""
    k, d = 3, 2
    x, y = clouds(3, n, m, d)

    def share(x, y):
        total, parts = 0.0, math.ceil(len(x) / len(y))
        for start in range(parts):
            part = x[start::parts]
            radius = distances(part, y, k)[0]
            inside = np.sum(cdist(part, y) <= radius[:, None], axis=1)
            for b in inside:
                j = np.arange(b + 1)
                total += psi(k) - np.sum(stats.binom.pmf(j, b, (len(part) - 1) / len(y)) * psi(k + j))
        return total / len(x)

    expected = math.log(2) + share(x, y) / 2 + share(y, x) / 2
    assert estimate.js(x, y, k=k) == pytest.approx(expected, abs=1e-12)


# Neighbours: the distributions' divergence

# What the change of the densities over a ball leaves, at the sizes below; far from P and Q the balls are large.
BIAS = {1: 0.005, 2: 0.02, 5: 0.12}


@pytest.mark.parametrize("d", [1, 2, 5])
@pytest.mark.parametrize(("n", "m"), [(2000, 2000), (1200, 4000), (4000, 1500)])
def test_gaussians(n, m, d):
    x, y = clouds(4, n, m, d, batch=(8,))
    for alpha in (0.8, 1.0, 1.2):
        got = estimate.renyi(x, y, alpha)
        error = abs(np.mean(got) - truth(d, alpha))
        assert error <= BIAS[d] + 3 * np.std(got, ddof=1) / math.sqrt(8)
    if d == 1:
        got = estimate.js(x, y)
        assert abs(np.mean(got) - true_js(0.8, 1.2)) <= 0.002 + 3 * np.std(got, ddof=1) / math.sqrt(8)


@pytest.mark.parametrize(("n", "m"), [(1000, 1000), (400, 2500), (2500, 400), (60, 60)])
@pytest.mark.parametrize("d", [1, 3])
def test_js_of_equal_distributions_has_no_bias(n, m, d):
    """Its own claim; a plug-in of density ratios would have -psi'(k)/4 = -0.055."""
    x, y = clouds(5, n, m, d, 0.0, 1.0, batch=(30,))
    got = estimate.js(x, y)
    assert abs(np.mean(got)) <= 3.5 * np.std(got, ddof=1) / math.sqrt(30) + 1 / min(n, m)
    assert np.any(got < 0)  # and is not clamped


def test_uniform_on_nested_intervals():
    rng = np.random.default_rng(6)
    x, y = rng.uniform(size=(20, 1500, 1)), 2 * rng.uniform(size=(20, 1500, 1))
    for value, expected in [
        (estimate.kl(x, y), math.log(2)),
        (estimate.renyi(x, y, 0.5), math.log(2)),
        (estimate.renyi(x, y, 2.0), math.log(2)),
        (estimate.js(x, y), 0.5 * math.log(4 / 3) + 0.25 * math.log(2 / 3) + 0.25 * math.log(2)),
    ]:
        assert abs(np.mean(value) - expected) <= 0.01 + 3.5 * np.std(value, ddof=1) / math.sqrt(20)


@every
@pytest.mark.parametrize("method", ["knn", "histogram", "gaussian"])
def test_error_shrinks_with_n(divergence, method):
    alpha_of = {0: 1.0, 2: 0.7}
    at = BOTH.index(divergence)
    expected = true_js(0.8, 1.2) if at == 1 else truth(1, alpha_of[at])
    errors = []
    for n in (60, 600, 6000):
        x, y = clouds(7, n, n, 1, batch=(20,))
        errors.append(math.sqrt(np.mean((divergence(x, y, method=method) - expected) ** 2)))
    assert errors[1] < 0.6 * errors[0]
    assert errors[2] < 0.6 * errors[1]


def test_js_of_separate_samples_is_log_2():
    x, y = clouds(8, 40, 90, 3, shift=1e3)
    assert estimate.js(x, y) == pytest.approx(math.log(2), rel=1e-14)
    assert estimate.js(x, y, base=2) == pytest.approx(1.0, rel=1e-14)


@every
@settings(max_examples=15, deadline=None)
@given(seeds, st.integers(1, 4), st.floats(1e-3, 1e3))
def test_invariance(divergence, seed, d, scale):
    x, y = clouds(seed, 40, 55, d)
    rng = np.random.default_rng(seed)
    shift, rotation = rng.normal(size=d), np.linalg.qr(rng.normal(size=(d, d)))[0]
    expected = divergence(x, y)
    for f in (lambda a: a + shift, lambda a: scale * a, lambda a: a @ rotation):
        assert divergence(f(x), f(y)) == pytest.approx(expected, abs=1e-9)


@every
def test_scale_and_offset(divergence):
    x, y = clouds(9, 50, 60, 2)
    expected = divergence(x, y)
    for unit in (1e-300, 1e-160, 1e160, 1e300):
        assert divergence(unit * x, unit * y) == pytest.approx(expected, abs=1e-9)
    assert divergence(x + 1e6, y + 1e6) == pytest.approx(expected, abs=1e-6)


def test_js_is_symmetric():
    x, y = clouds(10, 80, 50, 2)
    assert estimate.js(x, y) == pytest.approx(estimate.js(y, x), abs=1e-14)
    assert estimate.js(x[:, :1], y[:, :1], method="gaussian") == pytest.approx(
        estimate.js(y[:, :1], x[:, :1], method="gaussian"), abs=1e-14
    )


# Ties


def test_ties_are_refused_where_the_estimate_would_be_infinite():
    x, y = clouds(11, 40, 40, 2)
    x[:6] = x[0]
    for divergence in BOTH:
        with pytest.raises(ValueError, match=r"^x: found 6 or more coinciding points.*larger k.*noise"):
            divergence(x, y)
        assert math.isfinite(divergence(x, y, k=6))
    with pytest.raises(ValueError, match=r"^y: found 6 or more coinciding points"):
        estimate.js(y, x)
    x, y = clouds(11, 40, 40, 2)
    y[3:8] = x[17]
    for divergence in (estimate.kl, BOTH[2]):
        with pytest.raises(ValueError, match=r"^y: found 5 or more points that coincide .* x at index 17"):
            divergence(x, y)
        assert math.isfinite(divergence(x, y, k=6))
    assert math.isfinite(estimate.js(x, y))  # they are simply in the ball


@every
def test_constant_samples_are_refused(divergence):
    for value in (0.0, 3.0):
        with pytest.raises(ValueError, match=r"^x: found 6 or more coinciding points"):
            divergence(np.full((10, 2), value), np.full((10, 2), value))


# Histogram


@pytest.mark.parametrize("bins", ["fd", "scott", 7, np.linspace(-9, 9, 12), [-np.inf, -1.0, 0.0, 2.5, np.inf]])
def test_histogram_is_the_divergence_of_counts(bins):
    x, y = clouds(12, 300, 200, 1)
    edges = bins
    if not isinstance(bins, list):
        edges = np.histogram_bin_edges(np.concatenate([x, y]), bins=bins)
    p, q = (np.histogram(a, bins=edges)[0].astype(float) for a in (x, y))
    options = {"method": "histogram", "bins": bins}
    assert estimate.js(x, y, **options) == pytest.approx(od.js(p, q, normalize=True), rel=1e-12)
    plain = estimate.kl(x, y, pseudocount=0, **options)
    assert plain == pytest.approx(od.kl(p, q, normalize=True), rel=1e-12)
    used = p + q > 0
    for a in (0.5, 2.0):
        smooth = (p[used] + a, q[used] + a)
        assert estimate.kl(x, y, pseudocount=a, **options) == pytest.approx(od.kl(*smooth, normalize=True), rel=1e-12)
        got = estimate.renyi(x, y, 1.5, pseudocount=a, **options)
        assert got == pytest.approx(od.renyi(*smooth, 1.5, normalize=True), rel=1e-12)
    assert estimate.kl(x, y, **options) == estimate.kl(x, y, pseudocount=0.5, **options)


@pytest.mark.parametrize("d", [2, 3])
def test_histogram_of_several_coordinates(d):
    x, y = clouds(13, 400, 300, d)
    pooled = np.concatenate([x, y])
    edges = [np.histogram_bin_edges(column, bins=4 + i) for i, column in enumerate(pooled.T)]
    p, q = (np.histogramdd(a, bins=edges)[0].ravel() for a in (x, y))
    expected = od.js(p, q, normalize=True)
    assert estimate.js(x, y, method="histogram", bins=edges) == pytest.approx(expected, rel=1e-12)
    assert estimate.js(x, y, method="histogram", bins=[4 + i for i in range(d)]) == pytest.approx(expected, rel=1e-12)
    for rule, factor in (("fd", 2.0), ("scott", (24 * math.sqrt(math.pi)) ** (1 / 3))):
        spread = stats.iqr(pooled, axis=0) if rule == "fd" else np.std(pooled, axis=0)
        number = np.ceil(np.ptp(pooled, axis=0) / (factor * spread * 700 ** (-1 / (d + 2)))).astype(int)
        expected = estimate.kl(x, y, method="histogram", bins=list(number))
        assert estimate.kl(x, y, method="histogram", bins=rule) == expected


def test_histogram_of_empty_cells():
    x, y = clouds(14, 200, 200, 1, shift=50.0)
    assert estimate.kl(x, y, method="histogram", pseudocount=0) == math.inf
    assert math.isfinite(estimate.kl(x, y, method="histogram"))
    assert estimate.js(x, y, method="histogram") == pytest.approx(math.log(2), rel=1e-14)


def test_histogram_takes_discrete_data_and_constants():
    x, y = np.array([[0.0], [0.0], [1.0], [2.0]]), np.array([[0.0], [1.0], [1.0], [2.0]])
    got = estimate.kl(x, y, method="histogram", bins=[-0.5, 0.5, 1.5, 2.5], pseudocount=0)
    assert got == pytest.approx(0.25 * math.log(2), rel=1e-14)
    assert estimate.js(np.zeros((3, 2)), np.zeros((4, 2)), method="histogram", bins="scott") == 0
    for unit in (1e-300, 1e300):
        x, y = clouds(15, 90, 80, 1)
        expected = estimate.js(x, y, method="histogram")
        assert estimate.js(unit * x, unit * y, method="histogram") == pytest.approx(expected, rel=1e-9)


def test_histogram_of_far_outliers_needs_no_memory_for_empty_cells():
    x, y = clouds(16, 500, 500, 2)
    x[0] = 1e6
    assert math.isfinite(estimate.js(x, y, method="histogram"))


# Gaussian fit


@pytest.mark.parametrize("d", [1, 4])
def test_gaussian_fit(d):
    x, y = clouds(17, 60, 50, d)
    moments = [a for s in (x, y) for a in (np.mean(s, axis=0), np.cov(s.T).reshape(d, d))]
    assert estimate.kl(x, y, method="gaussian") == pytest.approx(gaussian.kl(*moments), rel=1e-12)
    for alpha in (0.5, 1.3):
        expected = gaussian.renyi(*moments, alpha)
        assert estimate.renyi(x, y, alpha, method="gaussian") == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("shift", "scale"), [(0.0, 1.5), (1.0, 1.0), (3.0, 0.2), (0.5, 1e-3), (30.0, 2.0), (0.0, 1.001)]
)
def test_js_of_fitted_gaussians(shift, scale):
    t = math.sqrt(0.5)  # mean 0, variance 1
    x = np.array([[-t], [t]])
    expected = true_js(shift, scale)
    assert estimate.js(x, shift + scale * x, method="gaussian") == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_js_of_nearly_equal_fitted_gaussians():
    """JS of N(0, 1) and N(e, 1) is e^2/8 to first order: nothing cancels."""
    x = np.array([[-math.sqrt(0.5)], [math.sqrt(0.5)]])
    assert estimate.js(x, x, method="gaussian") == 0
    for e in (1e-3, 1e-6):
        assert estimate.js(x, x + e, method="gaussian") == pytest.approx(e * e / 8, rel=1e-5)
    constant = np.zeros((3, 1))
    assert estimate.js(constant, constant, method="gaussian") == 0
    assert estimate.js(constant, constant + 1, method="gaussian") == pytest.approx(math.log(2))
    assert estimate.js(x, constant, method="gaussian") == pytest.approx(math.log(2))


def test_stated_bias_at_equal_distributions():
    """Of the fit and of the histogram: the first order of the module's docstring."""
    d, n, m = 3, 200, 300
    x, y = clouds(18, n, m, d, 0.0, 1.0, batch=(400,))
    got = estimate.kl(x, y, method="gaussian")
    assert np.mean(got) == pytest.approx(d * (d + 3) / 4 * (1 / n + 1 / m), rel=0.15)
    edges = stats.norm.ppf(np.linspace(0, 1, 11))
    options = {"method": "histogram", "bins": edges}
    cells = (10 - 1) * (1 / n + 1 / m)
    assert np.mean(estimate.kl(x[..., :1], y[..., :1], pseudocount=0, **options)) == pytest.approx(cells / 2, rel=0.15)
    assert np.mean(estimate.js(x[..., :1], y[..., :1], **options)) == pytest.approx(cells / 8, rel=0.15)


# Batches, libraries, dtypes


@every
def test_batches(divergence):
    x, y = clouds(19, 30, 40, 2, batch=(2, 1))[0], clouds(20, 30, 40, 2, batch=(3,))[1]
    got = divergence(x, y)
    assert got.shape == (2, 3)
    for i in range(2):
        for j in range(3):
            assert got[i, j] == divergence(x[i, 0], y[j])
    assert divergence(x[:0], y).shape == (0, 3)


@every
@pytest.mark.parametrize("method", ["knn", "histogram", "gaussian"])
@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
def test_libraries(library, method, divergence):
    module = importlib.import_module({"numpy": "numpy", "torch": "torch", "jax": "jax.numpy"}[library])
    x, y = (a.astype(np.float32) for a in clouds(21, 50, 60, 1))
    convert = module.as_tensor if library == "torch" else module.asarray
    kept = convert(x)
    got = divergence(kept, convert(y), method=method)
    expected = divergence(x.astype(float), y.astype(float), method=method)
    assert str(got.dtype).removeprefix("torch.") == "float32"
    assert got.shape == ()
    assert type(got) is {"numpy": np.float32, "torch": type(kept), "jax": type(kept)}[library]
    assert float(got) == pytest.approx(float(expected), rel=1e-6, abs=1e-7)
    np.testing.assert_array_equal(np.asarray(kept), x)


def test_inputs_are_not_modified():
    x, y = clouds(22, 40, 60, 2)
    copies = x.copy(), y.copy()
    for divergence in BOTH:
        for method in ("knn", "histogram"):
            divergence(x, y, method=method)
    np.testing.assert_array_equal(x, copies[0])
    np.testing.assert_array_equal(y, copies[1])


@every
def test_base(divergence):
    x, y = clouds(23, 50, 60, 1)
    for method in ("knn", "histogram", "gaussian"):
        value = divergence(x, y, method=method)
        assert divergence(x, y, method=method, base=2) == pytest.approx(value / math.log(2), rel=1e-14)


def test_threads_change_no_bit():
    from otdist.kernels import threads

    x, y = clouds(24, 500, 700, 2)
    try:
        threads.set_thread_count(1)
        one = [divergence(x, y) for divergence in BOTH]
        threads.set_thread_count(2)
        assert [divergence(x, y) for divergence in BOTH] == one
    finally:
        threads.set_thread_count(None)
