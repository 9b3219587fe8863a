"""The examples of the source documents that concern transport."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import otdist as od


def test_six_boxes_have_two_best_plans():
    """Six boxes at 1, 2, 3 go to 7 to 10: on a line every plan that only moves right costs 42 in all."""
    boxes = np.array([1.0, 1.0, 1.0, 2.0, 2.0, 3.0])
    places = np.array([7.0, 8.0, 8.0, 9.0, 10.0, 10.0])
    costs = {sum(abs(boxes[i] - places[s[i]]) for i in range(6)) for s in itertools.permutations(range(6))}
    assert costs == {42.0}
    C = np.abs(boxes[:, None] - places[None, :])
    result = od.emd(C, np.ones(6), np.ones(6))
    assert float(result.value) == 42.0
    assert result.gap == 0.0
    assert float(od.wasserstein(boxes[:, None], places[:, None])) == 7.0


def test_the_least_of_all_plans_is_the_earth_mover():
    """Two plans for the same piles, one dearer: the optimum is 2."""
    piles, holes = np.array([1.0, 2.0]), np.array([2.0, 3.0])
    C = np.abs(piles[:, None] - holes[None, :]) ** 2
    plans = [np.eye(2), np.eye(2)[::-1]]
    assert sorted(float((P * C).sum()) for P in plans) == [2.0, 4.0]
    assert float(od.emd(C, np.ones(2), np.ones(2)).value) == 2.0


@pytest.mark.parametrize("theta", [-0.75, -0.1, 0.1, 0.5, 2.0])
def test_parallel_segments(theta):
    """Uniform on {0} x (0, 1) and on {θ} x (0, 1): W = |θ| with derivative ±1, while JS = log 2 for every θ ≠ 0."""
    z = (np.arange(256) + 0.5) / 256
    x, y = np.stack([np.zeros(256), z], 1), np.stack([np.full(256, theta), z], 1)
    value, grad = od.value_and_grad(od.wasserstein, 1)(x, y)
    assert float(value) == pytest.approx(abs(theta), rel=1e-12)
    assert float(grad[:, 0].sum()) == pytest.approx(np.sign(theta), rel=1e-12)
    assert float(od.js(np.eye(2)[0], np.eye(2)[1])) == pytest.approx(np.log(2), rel=1e-15)
    assert float(od.wasserstein(x, x)) == 0.0


def test_wasserstein_orders_what_overlap_cannot():
    """Histograms with equal overlap but different distance: KL and JS see no difference, Wasserstein does."""
    a, b, c = np.eye(10)[1], np.eye(10)[3], np.eye(10)[8]
    assert float(od.js(a, b)) == float(od.js(a, c))
    at = np.arange(10.0)[:, None]
    cloud = od.PointCloud(at, cost="euclidean")
    assert float(od.emd(cloud, a, b).value) == 2.0
    assert float(od.emd(cloud, a, c).value) == 7.0


def test_two_gaussians_far_apart_keep_a_gradient():
    """Mean of q from 0 to 35: W_1 grows linearly with slope 1 where the gradient of JS has vanished."""
    z = np.linspace(-4, 4, 201)[:, None]
    for mean in (10.0, 20.0, 35.0):
        value, grad = od.value_and_grad(od.wasserstein, 1)(z, z + mean)
        assert float(value) == pytest.approx(mean, rel=1e-12)
        assert float(grad.sum()) == pytest.approx(1.0, rel=1e-12)


def test_dual_of_the_linear_program():
    """max b·y under A^T y <= c: the potentials are feasible, tight where mass moves, and reach the primal."""
    rng = np.random.default_rng(0)
    D = rng.random((5, 6))
    p, q = (w / w.sum() for w in (rng.random(5), rng.random(6)))
    r = od.emd(D, p, q)
    slack = D - r.f[:, None] - r.g[None, :]
    assert slack.min() >= -1e-15
    assert np.abs(slack[r.rows, r.cols]).max() <= 1e-14
    assert p @ r.f + q @ r.g == pytest.approx(float(r.value), rel=1e-13)


def test_minibatch_matching_differs_from_the_global_one():
    """Eight points, batches of four: the mean cost exceeds the optimum by at most (1/n) Σ d(y_batch, y_global)."""
    rng = np.random.default_rng(8)
    for _ in range(20):
        x, y = rng.random((8, 2)), rng.random((8, 2)) + np.array([1.0, 0.0])
        whole = od.emd(od.PointCloud(x, y, cost="euclidean"))
        pairs = np.empty(8, int)
        parts = []
        for rows in (np.arange(4), np.arange(4, 8)):
            part = od.emd(od.PointCloud(x[rows], y[rows], cost="euclidean"))
            parts.append(float(part.value))
            pairs[rows] = rows[part.assignment]
        bias = np.mean(parts) - float(whole.value)
        bound = np.mean(np.linalg.norm(y[pairs] - y[whole.assignment], axis=1))
        assert -1e-12 <= bias <= bound + 1e-12


def test_minibatches_that_follow_the_data_have_no_bias():
    rng = np.random.default_rng(9)
    x, y = rng.random((8, 2)), rng.random((8, 2))
    y = y[od.emd(od.PointCloud(x, y)).assignment]
    parts = [float(od.emd(od.PointCloud(x[s], y[s])).value) for s in (slice(0, 4), slice(4, 8))]
    assert np.mean(parts) == pytest.approx(float(od.emd(od.PointCloud(x, y)).value), rel=1e-12)
