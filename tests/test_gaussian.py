"""Closed forms between Gaussians: against 50 digits, quadrature, axioms, and the singular cases."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, linalg, stats

from otdist import gaussian
from otdist.reference import gaussian as reference
from tests.gaussians import INVARIANT, PAIRS, covariance, normal

INF = math.inf
seeds = st.integers(0, 2**32 - 1)


# Against 50 digits


@pytest.mark.parametrize("e", [1, 1e-2, 1e-4, 1e-6, 1e-8])
@pytest.mark.parametrize("d", [1, 2, 5])
@pytest.mark.parametrize(
    ("name", "args"),
    [("kl", ()), ("bhattacharyya", ()), ("hellinger", ()), ("w2", ())]
    + [("renyi", (a,)) for a in (1e-3, 0.3, 0.5, 0.9, 1 - 1e-9, 1 + 1e-9, 1.05)],
)
def test_digits_when_nearly_equal(name, args, d, e):
    rng = np.random.default_rng([d, 7])
    for _ in range(3):
        m1, S1 = normal(rng, d)
        m2, S2 = m1 + e * rng.normal(size=d), S1 + e * covariance(rng, d)
        for g in [(m1, S1, m2, S2), (m2, S2, m1, S1), (m1, S1, m1, S2), (m1, S1, m2, S1)]:
            expected = getattr(reference, name)(*g, *args)
            got = getattr(gaussian, name)(*g, *args)
            assert got == expected or abs(got - expected) <= 1e-12 * expected


def test_digits_of_large_orders():
    rng = np.random.default_rng(2)
    m1, S1 = normal(rng, 3)
    g = m1, S1, m1 + 1e-8 * rng.normal(size=3), S1 + 1e-8 * covariance(rng, 3)
    for alpha in (1e3, 1e6, 3e7):
        expected = reference.renyi(*g, alpha)
        assert abs(gaussian.renyi(*g, alpha) - expected) <= 1e-12 * expected


@pytest.mark.parametrize("name", ["kl", "bhattacharyya", "hellinger", "w2"])
@pytest.mark.parametrize("ratio", [1e-12, 1e-6, 1e6, 1e12])
def test_digits_when_scales_differ(name, ratio):
    rng = np.random.default_rng(3)
    m1, S1 = normal(rng, 4)
    m2, S2 = rng.normal(size=4), ratio * covariance(rng, 4)
    expected = getattr(reference, name)(m1, S1, m2, S2)
    assert abs(getattr(gaussian, name)(m1, S1, m2, S2) - expected) <= 1e-12 * expected


@pytest.mark.parametrize("name", ["kl", "bhattacharyya", "hellinger", "w2"])
def test_ill_conditioned(name):
    rng = np.random.default_rng(4)
    for _ in range(5):
        g = (*normal(rng, 5, 1e12), *normal(rng, 5, 1e12))
        expected = getattr(reference, name)(*g)
        assert abs(getattr(gaussian, name)(*g) - expected) <= 1e-3 * expected  # condition times eps


def test_units_of_the_coordinates_cost_no_digits():
    rng = np.random.default_rng(5)
    m1, S1, m2, S2 = *normal(rng, 4), *normal(rng, 4)
    units = np.array([1e-12, 1.0, 1e9, 1e15])
    scaled = (m1 * units, S1 * np.outer(units, units), m2 * units, S2 * np.outer(units, units))
    for f in INVARIANT:
        np.testing.assert_allclose(f(*scaled), f(m1, S1, m2, S2), rtol=1e-12)


def test_w2_of_singular_covariances():
    rng = np.random.default_rng(6)
    for d, r1, r2 in [(4, 2, 2), (4, 1, 3), (5, 2, 5), (3, 1, 1), (6, 4, 4)]:
        A, B = rng.integers(-3, 4, size=(d, r1)), rng.integers(-3, 4, size=(d, r2))
        g = rng.normal(size=d), (A @ A.T).astype(float), rng.normal(size=d), (B @ B.T).astype(float)
        assert abs(gaussian.w2(*g) - reference.w2(*g)) <= 1e-12 * reference.w2(*g)


@pytest.mark.parametrize("e", [1e-3, 1e-6, 1e-8])
def test_w2_of_nearly_equal_singular_covariances(e):
    a = np.ones((2, 2))
    expected = math.sqrt(2) * e / (1 + math.sqrt(1 + e))
    grown = 1 + e
    assert gaussian.w2([0, 0], a, [0, 0], grown * a) == pytest.approx(expected * (grown - 1) / e, rel=1e-12)


# Closed forms


def test_one_dimension():
    m, s, n, t = 0.3, 0.7, -1.1, 2.5
    g = [m], [[s * s]], [n], [[t * t]]
    assert gaussian.kl(*g) == pytest.approx(math.log(t / s) + (s * s + (m - n) ** 2) / (2 * t * t) - 0.5, rel=1e-14)
    coefficient = math.sqrt(2 * s * t / (s * s + t * t)) * math.exp(-((m - n) ** 2) / (4 * (s * s + t * t)))
    assert gaussian.hellinger(*g, squared=True) == pytest.approx(1 - coefficient, rel=1e-14)
    assert gaussian.hellinger(*g) == pytest.approx(math.sqrt(1 - coefficient), rel=1e-14)
    assert gaussian.bhattacharyya(*g) == pytest.approx(-math.log(coefficient), rel=1e-14)
    assert gaussian.w2(*g) == pytest.approx(math.hypot(m - n, s - t), rel=1e-14)
    assert gaussian.w2(*g, squared=True) == pytest.approx((m - n) ** 2 + (s - t) ** 2, rel=1e-14)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9, 1.2, 3.0])
def test_quadrature(alpha):
    g = [0.3], [[0.49]], [-0.4], [[0.81]]
    p, q = stats.norm(0.3, 0.7), stats.norm(-0.4, 0.9)

    def integral(f):
        return integrate.quad(f, -12, 12, epsabs=1e-13, epsrel=1e-13, limit=400)[0]

    power = integral(lambda x: math.exp(alpha * p.logpdf(x) + (1 - alpha) * q.logpdf(x)))
    assert gaussian.renyi(*g, alpha) == pytest.approx(math.log(power) / (alpha - 1), rel=1e-9)
    assert gaussian.kl(*g) == pytest.approx(integral(lambda x: p.pdf(x) * (p.logpdf(x) - q.logpdf(x))), rel=1e-10)
    coefficient = integral(lambda x: math.sqrt(p.pdf(x) * q.pdf(x)))
    assert gaussian.bhattacharyya(*g) == pytest.approx(-math.log(coefficient), rel=1e-9)
    assert gaussian.hellinger(*g, squared=True) == pytest.approx(1 - coefficient, rel=1e-9)


def test_commuting_covariances():
    rng = np.random.default_rng(8)
    Q = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    a, b = rng.uniform(0.1, 3, size=(2, 5))
    m1, m2 = rng.normal(size=(2, 5))
    A, B = (Q * a) @ Q.T, (Q * b) @ Q.T
    expected = np.sum((m1 - m2) ** 2) + np.sum((np.sqrt(a) - np.sqrt(b)) ** 2)
    assert gaussian.w2(m1, A, m2, B, squared=True) == pytest.approx(expected, rel=1e-13)


def test_base():
    rng = np.random.default_rng(9)
    g = (*normal(rng, 3), *normal(rng, 3))
    for f in (gaussian.kl, gaussian.bhattacharyya, lambda *g, **k: gaussian.renyi(*g, 0.4, **k)):
        assert f(*g, base=2) == pytest.approx(f(*g) / math.log(2), rel=1e-15)


# Axioms


@settings(max_examples=200, deadline=None)
@given(seeds, st.integers(1, 5), st.sampled_from([1.0, 1e-3, 1e-7]))
def test_symmetry_triangle_sign_and_identity(seed, d, e):
    rng = np.random.default_rng(seed)
    base = normal(rng, d)
    p, q, r = [(base[0] + e * m, base[1] + e * S) for m, S in (normal(rng, d) for _ in range(3))]
    for f in (gaussian.w2, gaussian.hellinger):
        pq, qr, pr = f(*p, *q), f(*q, *r), f(*p, *r)
        assert pr <= (pq + qr) * (1 + 1e-12)
        np.testing.assert_allclose(f(*q, *p), pq, rtol=1e-12)
    np.testing.assert_allclose(gaussian.bhattacharyya(*q, *p), gaussian.bhattacharyya(*p, *q), rtol=1e-12)
    for f in (*PAIRS, *INVARIANT):
        assert f(*p, *q) > 0
        assert f(*p, *p) == 0


@settings(max_examples=200, deadline=None)
@given(seeds, st.integers(1, 5))
def test_affine_invariance(seed, d):
    rng = np.random.default_rng(seed)
    (m1, S1), (m2, S2), b = normal(rng, d), normal(rng, d), rng.normal(size=d)
    A = covariance(rng, d) @ np.linalg.qr(rng.normal(size=(d, d)))[0]
    moved = (A @ m1 + b, A @ S1 @ A.T, A @ m2 + b, A @ S2 @ A.T)
    for f in INVARIANT:
        np.testing.assert_allclose(f(*moved), f(m1, S1, m2, S2), rtol=1e-9)


@settings(max_examples=200, deadline=None)
@given(seeds, st.integers(1, 4), st.floats(0.01, 4), st.floats(0.01, 4))
def test_renyi_grows_with_alpha(seed, d, a, b):
    rng = np.random.default_rng(seed)
    g = (*normal(rng, d), *normal(rng, d))
    low, high = gaussian.renyi(*g, min(a, b)), gaussian.renyi(*g, max(a, b))
    assert 0 <= low <= high * (1 + 1e-12)


def test_renyi_special_orders():
    rng = np.random.default_rng(10)
    p, q = normal(rng, 4), normal(rng, 4)
    assert gaussian.renyi(*p, *q, 0.5) == pytest.approx(2 * gaussian.bhattacharyya(*p, *q), rel=1e-13)
    assert gaussian.renyi(*p, *q, 1) == gaussian.kl(*p, *q)
    for alpha in (1 - 1e-10, 1 + 1e-10):
        assert gaussian.renyi(*p, *q, alpha) == pytest.approx(gaussian.kl(*p, *q), rel=1e-7)
    skew = 0.3 / 0.7 * gaussian.renyi(*q, *p, 0.7)
    assert gaussian.renyi(*p, *q, 0.3) == pytest.approx(skew, rel=1e-13)
    # alpha S2 + (1-alpha) S1 = 4 - 3 alpha: not a covariance from alpha = 4/3 on
    assert gaussian.renyi([0], [[4.0]], [0], [[1.0]], 1.33) < INF
    assert gaussian.renyi([0], [[4.0]], [0], [[1.0]], 1.34) == INF


def test_additive_over_independent_coordinates():
    rng = np.random.default_rng(11)
    (m1, S1), (m2, S2), (n1, T1), (n2, T2) = normal(rng, 2), normal(rng, 2), normal(rng, 3), normal(rng, 3)
    joint = np.r_[m1, n1], linalg.block_diag(S1, T1), np.r_[m2, n2], linalg.block_diag(S2, T2)
    squared = lambda *g: gaussian.w2(*g, squared=True)  # noqa: E731
    for f in (gaussian.kl, gaussian.bhattacharyya, squared, lambda *g: gaussian.renyi(*g, 0.3)):
        np.testing.assert_allclose(f(*joint), f(m1, S1, m2, S2) + f(n1, T1, n2, T2), rtol=1e-12)


# Singular covariances


def test_same_support_is_computed_within_it():
    rng = np.random.default_rng(12)
    for d, r in [(2, 1), (4, 2), (6, 5)]:
        basis, offset = np.linalg.qr(rng.normal(size=(d, d)))[0][:, :r], rng.normal(size=d)
        (m1, S1), (m2, S2) = normal(rng, r), normal(rng, r)
        lifted = (
            basis @ m1 + offset,
            basis @ S1 @ basis.T,
            basis @ m2 + offset,
            basis @ S2 @ basis.T,
        )
        for f in INVARIANT:
            np.testing.assert_allclose(f(*lifted), f(m1, S1, m2, S2), rtol=1e-11)
        out = lifted[2] + np.linalg.svd(basis)[0][:, -1] * 1e-6
        assert gaussian.kl(lifted[0], lifted[1], out, lifted[3]) == INF


@pytest.mark.parametrize(
    "g",
    [
        ([0, 0], [[1, 0], [0, 0]], [0, 0], [[1, 0], [0, 1]]),  # inside
        ([0, 0], [[1, 0], [0, 1]], [0, 0], [[1, 0], [0, 0]]),
        ([0, 0], [[1, 0], [0, 0]], [0, 0], [[0, 0], [0, 1]]),  # across
        ([0, 0], [[1, 1], [1, 1]], [0, 0], [[1, -1], [-1, 1]]),
        ([0, 0], [[1, 1], [1, 1]], [0, 0], [[1, 0], [0, 0]]),  # whose shadow is the other
        (
            [0, 0, 0],
            np.outer([0.3, 0.7, 0.1], [0.3, 0.7, 0.1]),
            [0, 0, 0],
            [[2, 0.3, 0.1], [0.3, 1, 0.2], [0.1, 0.2, 1]],
        ),
        ([0, 0], [[1, 0], [0, 0]], [0, 1e-9], [[1, 0], [0, 0]]),  # parallel
        ([0, 0], [[0, 0], [0, 0]], [0, 1], [[0, 0], [0, 0]]),  # two Diracs
        ([0, 0], [[0, 0], [0, 0]], [0, 0], [[1, 0], [0, 1]]),
    ],
)
def test_other_supports_are_mutually_singular(g):
    assert gaussian.kl(*g) == INF
    assert gaussian.bhattacharyya(*g) == INF
    assert gaussian.hellinger(*g) == 1
    for alpha in (0.3, 0.7, 2.0):
        assert gaussian.renyi(*g, alpha) == INF
    assert 0 < gaussian.w2(*g) < 2.1


def test_every_smaller_support_is_singular():
    rng = np.random.default_rng(19)
    for _ in range(50):
        d = rng.integers(2, 6)
        m, S = normal(rng, d)
        A = rng.normal(size=(d, rng.integers(1, d)))
        for f in (gaussian.kl, gaussian.bhattacharyya):
            assert f(m, A @ A.T, m, S) == INF
            assert f(m, S, m, A @ A.T) == INF


def test_diracs():
    zero = np.zeros((2, 2))
    assert gaussian.w2([1, 2], zero, [4, 6], zero) == 5
    assert gaussian.w2([1, 2], zero, [1, 2], np.eye(2)) == pytest.approx(math.sqrt(2), rel=1e-15)
    for f in (*PAIRS, *INVARIANT):
        assert f([1, 2], zero, [1, 2], zero) == 0


@pytest.mark.parametrize("scale", [1e-150, 1e-30, 1e-15, 1e15, 1e30, 1e150])
def test_scale(scale):
    rng = np.random.default_rng(13)
    m1, S1, m2, S2 = *normal(rng, 3), *normal(rng, 3)
    s = math.sqrt(scale)
    g = m1 * s, S1 * scale, m2 * s, S2 * scale
    for f in INVARIANT:
        np.testing.assert_allclose(f(*g), f(m1, S1, m2, S2), rtol=1e-12)
    np.testing.assert_allclose(gaussian.w2(*g), gaussian.w2(m1, S1, m2, S2) * s, rtol=1e-12)
    x, y = rng.normal(size=(2, 9, 3))
    expected = gaussian.frechet_distance(x, y, squared=False) * s
    np.testing.assert_allclose(gaussian.frechet_distance(x * s, y * s, squared=False), expected, rtol=1e-12)


def test_rounding_is_not_refused():
    rng = np.random.default_rng(14)
    for dtype in (np.float32, np.float64):
        x = rng.normal(size=(20, 60)).astype(dtype)
        S = np.cov(x.T, dtype=dtype)
        S[0, 1] *= 1 + 4 * np.finfo(dtype).eps
        m = np.zeros(60, dtype)
        assert gaussian.kl(m, S, m, S) == 0
        assert gaussian.w2(m, S, m, S) == 0
    noisy = np.array([[1.0, 1e-17], [1e-17, 1e-36]])
    assert gaussian.w2([0, 0], noisy, [0, 0], np.diag([1.0, 0.0])) <= 1e-8


# Samples


@pytest.mark.parametrize(
    ("n", "m", "d"), [(50, 40, 3), (5, 8, 6), (2, 2, 4), (3, 4, 20), (10, 3, 12), (4, 4, 8), (9, 5, 1)]
)
def test_frechet_distance_is_w2_between_fits(n, m, d):
    rng = np.random.default_rng([n, m, d])
    x, y = rng.normal(size=(n, d)), 0.5 + 2 * rng.normal(size=(m, d))
    mx, Sx = x.mean(0), np.atleast_2d(np.cov(x.T))
    my, Sy = y.mean(0), np.atleast_2d(np.cov(y.T))
    np.testing.assert_allclose(gaussian.fit(x)[0], mx, rtol=1e-14)
    np.testing.assert_allclose(gaussian.fit(x)[1], Sx, rtol=1e-12, atol=1e-14)
    got = gaussian.frechet_distance(x, y)
    np.testing.assert_allclose(got, gaussian.w2(mx, Sx, my, Sy, squared=True), rtol=1e-9)
    np.testing.assert_allclose(gaussian.frechet_distance(x, y, squared=False) ** 2, got, rtol=1e-14)
    roots = linalg.svdvals((x - mx) @ (y - my).T / math.sqrt((n - 1) * (m - 1))).sum()
    np.testing.assert_allclose(got, np.sum((mx - my) ** 2) + np.trace(Sx) + np.trace(Sy) - 2 * roots, rtol=1e-12)
    if min(n, m) > d:
        root = np.trace(linalg.sqrtm(Sx @ Sy)).real
        np.testing.assert_allclose(got, np.sum((mx - my) ** 2) + np.trace(Sx) + np.trace(Sy) - 2 * root, rtol=1e-10)


@pytest.mark.parametrize(("n", "d"), [(30, 4), (6, 40), (8, 10)])
@pytest.mark.parametrize("length", [1.0, 1e-4, 1e-8])
def test_frechet_distance_of_a_translation(n, d, length):
    rng = np.random.default_rng(n)
    x = rng.integers(-1000, 1000, size=(n, d)) / 1024  # the sums below are exact
    v = np.ldexp(rng.integers(1, 8, size=d), round(math.log2(length)))
    assert gaussian.frechet_distance(x, x + v) == pytest.approx(v @ v, rel=1e-9)
    assert 0 <= gaussian.frechet_distance(x, x) <= 1e-28
