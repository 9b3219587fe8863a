"""Closed forms between Gaussians: batches, dtypes, libraries and every bad input."""

import importlib
import math

import numpy as np
import pytest

from otdist import gaussian
from tests.gaussians import INVARIANT, PAIRS, covariance, normal

INF = math.inf


def test_batches():
    rng = np.random.default_rng(15)
    m1, m2 = rng.normal(size=(4, 1, 3)), rng.normal(size=(5, 3))
    S1 = np.stack([covariance(rng, 3) for _ in range(4)])[:, None]
    S2 = np.stack([covariance(rng, 3), np.diag([1.0, 2.0, 0.0]), np.zeros((3, 3)), np.eye(3), covariance(rng, 3)])
    for f in (*PAIRS, *INVARIANT):
        got = f(m1, S1, m2, S2)
        assert got.shape == (4, 5)
        for i in range(4):
            for j in range(5):
                np.testing.assert_allclose(got[i, j], f(m1[i, 0], S1[i, 0], m2[j], S2[j]), rtol=1e-11)
        assert f(m1[:0], S1[:0], m2, S2).shape == (0, 5)
    x, y = rng.normal(size=(4, 1, 7, 3)), rng.normal(size=(5, 6, 3))
    got = gaussian.frechet_distance(x, y)
    assert got.shape == (4, 5)
    np.testing.assert_allclose(got[2, 3], gaussian.frechet_distance(x[2, 0], y[3]), rtol=1e-12)
    assert gaussian.frechet_distance(x[:0], y).shape == (0, 5)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_dtype_goes_back(dtype):
    rng = np.random.default_rng(16)
    g = [a.astype(dtype) for a in (*normal(rng, 3), *normal(rng, 3))]
    for f in (*PAIRS, *INVARIANT):
        value = f(*g)
        assert value.dtype == dtype
        exact = f(*(a.astype(float) for a in g))
        np.testing.assert_allclose(float(value), exact, rtol=4 * np.finfo(dtype).eps)
    assert all(a.dtype == dtype for a in gaussian.fit(rng.normal(size=(5, 2)).astype(dtype)))


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_libraries(library):
    module = importlib.import_module({"torch": "torch", "jax": "jax.numpy"}[library])
    convert = getattr(module, "as_tensor" if library == "torch" else "asarray")
    rng = np.random.default_rng(17)
    g = [a.astype(np.float32) for a in (*normal(rng, 3), *normal(rng, 3))]
    for f in (*PAIRS, *INVARIANT):
        value = f(*map(convert, g))
        assert type(value) is type(convert(g[0]))
        assert value.dtype == module.float32
        np.testing.assert_allclose(np.asarray(value), f(*g), rtol=1e-6)
    x = rng.normal(size=(2, 6, 3)).astype(np.float32)
    value = gaussian.frechet_distance(convert(x[0]), convert(x[1]))
    np.testing.assert_allclose(np.asarray(value), gaussian.frechet_distance(x[0], x[1]), rtol=1e-6)


def test_inputs_are_left_alone():
    rng = np.random.default_rng(18)
    g = (*normal(rng, 3), *normal(rng, 3))
    x = rng.normal(size=(2, 6, 3))
    for a in (*g, x):
        a.flags.writeable = False
    for f in (*PAIRS, *INVARIANT):
        f(*g)
    gaussian.frechet_distance(x[0], x[1])


# Errors

I2 = np.eye(2)
Z2 = np.zeros(2)


@pytest.mark.parametrize(
    ("g", "error", "message"),
    [
        ((1.0, I2, Z2, I2), ValueError, r"m1: found shape \(\)"),
        ((Z2, I2, np.zeros(3), np.eye(3)), ValueError, "m1 and m2: found 2 and 3 coordinates"),
        ((Z2, [1.0, 1.0], Z2, I2), ValueError, r"S1: found shape \(2,\)"),
        ((Z2, I2, Z2, np.eye(3)), ValueError, r"S2: found shape \(3, 3\)"),
        ((np.zeros(0), np.zeros((0, 0)), np.zeros(0), np.zeros((0, 0))), ValueError, r"m1: found shape \(0,\)"),
        ((Z2, I2, [0.0, math.nan], I2), ValueError, r"m2: found nan at index \(1,\)"),
        ((Z2, [[1, 0], [0, math.inf]], Z2, I2), ValueError, r"S1: found inf at index \(1, 1\)"),
        ((Z2, I2, Z2, [[1, 0.5], [0.2, 1]]), ValueError, r"S2: found an asymmetry of 0.3 at index \(0, 1\)"),
        ((Z2, [[1, 2], [2, 1]], Z2, I2), ValueError, "S1: found a negative eigenvalue, -1;"),
        ((Z2, I2, Z2, [I2, -I2]), ValueError, r"S2: found a negative eigenvalue, -1 in the matrix at index \(1,\)"),
        ((np.zeros((2, 2)), I2, np.zeros((3, 2)), I2), ValueError, r"found batch shapes m1 \(2,\)"),
        ((Z2, I2 * 1j, Z2, I2), TypeError, "S1"),
        ((Z2, I2.astype(object), Z2, I2), TypeError, "S1"),
        ((None, I2, Z2, I2), TypeError, "m1"),
    ],
)
def test_bad_gaussians(g, error, message):
    for f in (*PAIRS, *INVARIANT):
        with pytest.raises(error, match=message):
            f(*g)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_wrong_matrices_are_refused_in_any_precision(dtype):
    with pytest.raises(ValueError, match="negative eigenvalue"):
        gaussian.kl(Z2, np.array([[1, 1.2], [1.2, 1]], dtype), Z2, I2.astype(dtype))


@pytest.mark.parametrize(
    ("x", "y", "error", "message"),
    [
        (np.zeros((1, 2)), np.zeros((3, 2)), ValueError, r"x: found n = 1; .*ddof = 1.* n >= 2"),
        (np.zeros((3, 2)), np.zeros((0, 2)), ValueError, "y: found n = 0"),
        (np.zeros(3), np.zeros((3, 2)), ValueError, r"x: found shape \(3,\)"),
        (np.zeros((3, 0)), np.zeros((3, 0)), ValueError, r"x: found shape \(3, 0\)"),
        (np.zeros((3, 2)), np.zeros((3, 4)), ValueError, "x and y: found 2 and 4 coordinates"),
        (np.zeros((2, 3, 2)), np.zeros((3, 3, 2)), ValueError, r"batch shapes x \(2,\), y \(3,\)"),
        (np.full((3, 2), math.nan), np.zeros((3, 2)), ValueError, r"x: found nan at index \(0, 0\)"),
        (np.zeros((3, 2), complex), np.zeros((3, 2)), TypeError, "x"),
    ],
)
def test_bad_samples(x, y, error, message):
    with pytest.raises(error, match=message):
        gaussian.frechet_distance(x, y)


def test_bad_options():
    g = Z2, I2, Z2, I2
    for alpha in (0, -1, INF, math.nan):
        with pytest.raises(ValueError, match="alpha: found"):
            gaussian.renyi(*g, alpha)
    with pytest.raises(TypeError, match="alpha: found str"):
        gaussian.renyi(*g, "1")
    for base in (0, 0.5, 1, -2, INF, math.nan):
        with pytest.raises(ValueError, match="base: found"):
            gaussian.kl(*g, base=base)
