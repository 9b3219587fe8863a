"""Where other libraries return a wrong number, each shown at work and beside it the right one."""

from __future__ import annotations

import math
import warnings

import numpy as np
import ot
import pytest

import otdist as od
from otdist.reference import entropic as reference
from tests.test_sinkhorn import clouds, problem
from tests.transport_cases import matrix


def quiet(call):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call()


def test_pot_underflows_at_small_epsilon():
    """exp(-C / epsilon) is 0 in float64: POT warns and returns a plan without mass, or NaN, and a cost of next to 0."""
    x, y = clouds(40, 40, 2)
    C, h = matrix("sqeuclidean", x, y + 6.0), np.full(40, 1 / 40)
    epsilon = 1e-4 * float(C.max())
    best = float(ot.emd2(h, h, C))
    theirs = quiet(lambda: float(np.sum(ot.sinkhorn(h, h, C, epsilon) * C)))
    assert not abs(theirs - best) <= 0.01 * best  # next to 0, or NaN
    found = od.sinkhorn(C, epsilon=epsilon)
    assert found.converged
    assert best - 1e-8 <= float(found.linear) <= float(found.value) + 1e-8
    assert float(found.value) <= best + epsilon * math.log(40)
    assert found.lower_bound <= best <= found.upper_bound


def test_a_warm_start_is_used():
    """`ot.solve(..., potentials_init=...)` takes as many iterations as without."""
    C, a, b = problem(80, 80)
    cold = od.sinkhorn(C, a, b, epsilon=0.02, method="sinkhorn")
    again = od.sinkhorn(C, a, b, epsilon=0.02, method="sinkhorn", init=cold)
    assert cold.n_iter > 20
    assert again.n_iter <= 4
    by_potentials = od.sinkhorn(C, a, b, epsilon=0.02, method="sinkhorn", init=np.asarray(cold.g))
    assert by_potentials.n_iter <= 4
    assert float(again.value) == pytest.approx(float(cold.value), rel=1e-9)
    nearby = C + 1e-6 * np.random.default_rng(1).random(C.shape)
    for method in ("auto", "newton", "sinkhorn"):
        cold = od.sinkhorn(C, a, b, epsilon=0.02, method=method)
        fresh = od.sinkhorn(nearby, a, b, epsilon=0.02, method=method)
        warm = od.sinkhorn(nearby, a, b, epsilon=0.02, method=method, init=cold)
        assert warm.n_iter <= fresh.n_iter
        assert float(warm.value) == pytest.approx(float(fresh.value), rel=1e-8)


def test_a_bad_start_does_no_harm():
    C, a, b = problem(20, 15)
    want = float(od.sinkhorn(C, a, b, epsilon=0.05).value)
    for g in (1e6 * np.random.default_rng(0).standard_normal(15), np.full(15, 1e8)):
        for method in ("auto", "newton", "sinkhorn"):
            found = od.sinkhorn(C, a, b, epsilon=0.05, init=g, method=method, on_fail="ignore")
            assert math.isfinite(float(found.value))
            assert found.entropic_lower_bound <= want + 1e-9
            assert found.entropic_upper_bound >= want - 1e-9
            if found.converged:
                assert float(found.value) == pytest.approx(want, rel=1e-8)


def test_geomloss_is_biased_and_negative():
    torch = pytest.importorskip("torch")
    geomloss = pytest.importorskip("geomloss")
    rng = np.random.default_rng(0)
    x, y = rng.random((200, 2)), rng.random((200, 2))
    blur = 0.5
    C = [0.5 * matrix("sqeuclidean", p, q) for p, q in ((x, y), (x, x), (y, y))]  # its cost and epsilon
    h = np.full(200, 1 / 200)
    right = reference.sinkhorn_divergence(*C, h, h, blur**2)
    loss = geomloss.SamplesLoss("sinkhorn", p=2, blur=blur, backend="tensorized")
    theirs = float(loss(torch.tensor(x), torch.tensor(y)))
    ours = 0.5 * float(od.sinkhorn_divergence(x, y, epsilon=2.0 * blur**2))
    assert ours == pytest.approx(right, rel=1e-8, abs=1e-13)
    assert abs(theirs - right) > 1e-3 * right
    assert od.epsilon_from(blur=blur) == pytest.approx(2.0 * blur**2)


def test_divergences_are_not_negative():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x = rng.random((100, 2)).astype(np.float32)
        y = x + np.float32(1e-3) * rng.standard_normal((100, 2)).astype(np.float32)
        for epsilon in (1e-3, 0.1, 1.0):
            found = float(od.sinkhorn_divergence(x, y, epsilon=epsilon, on_fail="ignore"))
            assert found >= -1e-8


def test_nan_is_refused():
    C, a, b = problem(5, 4)
    C[2, 1] = np.nan
    with pytest.raises(ValueError, match=r"^costs: found nan at index \(2, 1\)"):
        od.sinkhorn(C, a, b, epsilon=0.1)
    x, y = clouds(5, 4, 2)
    x[3, 1] = np.nan
    for call in (
        lambda: od.sinkhorn(od.PointCloud(x, y), epsilon=0.1),
        lambda: od.sinkhorn_divergence(x, y, epsilon=0.1),
        lambda: od.wasserstein(x, y, method="sinkhorn", epsilon=0.1),
    ):
        with pytest.raises(ValueError, match=r"^x: .*(?i:nan)"):
            call()


@pytest.mark.parametrize("d", [2, 3, 64])
def test_float32_far_from_the_origin(d):
    """|x|^2 + |y|^2 - 2 <x, y> in float32 at 1000 is off by 0.4 and more; differences and centred clouds are not."""
    rng = np.random.default_rng(d)
    x, y = ((np.round(rng.standard_normal((n, d)) * 256) / 256).astype(np.float32) for n in (60, 50))
    at = np.float32(1000.0)
    epsilon = 0.2 * d
    C = matrix("sqeuclidean", x.astype(float), y.astype(float))
    want = reference.value(C, np.full(60, 1 / 60), np.full(50, 1 / 50), epsilon, tol=1e-10)
    for cloud in (od.PointCloud(x, y), od.PointCloud(x + at, y + at)):
        found = od.sinkhorn(cloud, epsilon=epsilon)
        assert found.converged
        assert float(found.value) == pytest.approx(want, rel=1e-5)
    here, there = (float(od.sinkhorn_divergence(x + s, y + s, epsilon=epsilon)) for s in (0, at))
    assert here == pytest.approx(there, rel=1e-4)


def test_float32_masses_are_renormalised():
    """POT takes float32 masses that sum to 1 in float32 for infeasible."""
    rng = np.random.default_rng(0)
    C, a, b = rng.random((500, 400)), rng.random(500), rng.random(400)
    a, b = (np.asarray(w / w.sum(), np.float32) for w in (a, b))
    found = od.sinkhorn(C.astype(np.float32), a, b, epsilon=0.05)
    assert found.converged
    wide = od.sinkhorn(C, a / a.sum(dtype=float), b / b.sum(dtype=float), epsilon=0.05)
    assert float(found.value) == pytest.approx(float(wide.value), rel=1e-5)


def test_masses_over_many_decades():
    rng = np.random.default_rng(5)
    C = rng.random((30, 30))
    a, b = (w / w.sum() for w in (10.0 ** rng.uniform(-12, 0, 30), 10.0 ** rng.uniform(-12, 0, 30)))
    for epsilon in (1e-3, 0.1, 10.0):
        found = od.sinkhorn(C, a, b, epsilon=epsilon)
        assert found.converged
        np.testing.assert_allclose(np.asarray(found.plan).sum(1), a, atol=1e-9)
