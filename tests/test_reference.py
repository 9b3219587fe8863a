"""The definitions against each other and against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from otdist.reference import divergences as reference
from tests import exact
from tests.cases import FAMILIES, cases, variant

BY_NAME = {
    "tv": "tv",
    "hellinger": "hellinger-squared=True",
    "pearson": "chi2",
    "neyman": "chi2-kind=neyman",
    "symmetric": "chi2-kind=symmetric",
    "kl": "kl",
    "js": "js",
    "jeffreys": "jeffreys",
}


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "sizes"])
@pytest.mark.parametrize("name", reference.GENERATORS)
def test_generators_give_the_divergences(name: str, family: str) -> None:
    for case in cases(family, "float64"):
        p, q = exact.SIXTY.array(case.p), exact.SIXTY.array(case.q)
        got = exact.floats(reference.f_divergence(p, q, reference.GENERATORS[name], xp=exact.SIXTY))
        want = exact.value(variant(BY_NAME[name]), case.p, case.q, normalize=False)
        assert not exact.close(got, want, "float64", 1e-15, 1e-50), case.label


def test_by_hand() -> None:
    """(1/2, 1/2, 0) against (1/4, 1/2, 1/4)."""
    p, q = np.array([0.5, 0.5, 0]), np.array([0.25, 0.5, 0.25])
    log2, root2 = math.log(2), math.sqrt(2)
    for got, want in (
        (reference.tv(p, q), 1 / 4),
        (reference.l2(p, q), root2 / 4),
        (reference.hellinger(p, q, squared=True), 1 - (root2 + 2) / 4),
        (reference.chi2(p, q), 1 / 2),
        (reference.chi2(p, q, kind="neyman"), math.inf),
        (reference.chi2(p, q, kind="symmetric"), 1 / 3),
        (reference.kl(p, q), log2 / 2),
        (reference.kl(q, p), math.inf),
        (reference.jeffreys(p, q), math.inf),
        (reference.renyi(p, q, 0), math.log(4 / 3)),
        (reference.renyi(p, q, 2), math.log(3 / 2)),
        (reference.renyi(p, q, math.inf), log2),
        (reference.tsallis(p, q, 2), 1 / 2),
        (reference.alpha_divergence(p, q, 0), math.inf),
        (reference.alpha_divergence(p, q, 2), 1 / 4),
        (reference.bhattacharyya(p, q), -math.log((root2 + 2) / 4)),
        (reference.entropy(p), log2),
        (reference.entropy(q, base=2), 3 / 2),
        (reference.cross_entropy(p, q, base=2), 3 / 2),
        (reference.cross_entropy(q, p), math.inf),
        (reference.js(p, q), (0.5 * math.log(4 / 3) + 0.25 * math.log(2 / 3) + 0.25 * log2) / 2),
    ):
        assert got == pytest.approx(want, rel=1e-14)


def test_measures_by_hand() -> None:
    p, q = np.array([2.0, 0, 1]), np.array([1.0, 3, 1])
    assert reference.kl(p, q) == pytest.approx(2 * math.log(2) - 2 + 1 + 3, rel=1e-15)
    assert reference.alpha_divergence(p, q, 2) == pytest.approx((1 + 9 / 3) / 2, rel=1e-15)
    assert reference.tsallis(p, q, 2) == pytest.approx(1 + 3, rel=1e-15)
    assert reference.renyi(p, q, 2) == pytest.approx(math.log(4 + 1), rel=1e-15)
    np.testing.assert_array_equal(reference.pairwise(reference.tv, np.eye(3)), 1 - np.eye(3))
    np.testing.assert_allclose(reference.softmax(np.log([1.0, 2, 1])), [0.25, 0.5, 0.25], rtol=1e-15)


@pytest.mark.parametrize("name", ["kl", "chi2", "js", "hellinger-squared=True", "renyi-2", "alpha_divergence-0.3"])
def test_the_differences_are_the_derivatives(name: str) -> None:
    """The gradients, written out, against ``exact.gradient``."""
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.3, 0.6])
    t = p / q
    want = {
        "kl": (np.log(t), 1 - t),
        "chi2": (2 * (t - 1), 1 - t**2),
        "js": (np.log(2 * p / (p + q)) / 2, np.log(2 * q / (p + q)) / 2),
        "hellinger-squared=True": ((1 - t**-0.5) / 2, (1 - t**0.5) / 2),
        "renyi-2": (2 * t / np.sum(p * t), -(t**2) / np.sum(p * t)),
        "alpha_divergence-0.3": ((t**-0.7 - 1) / -0.7, (1 - t**0.3) / 0.3),
    }[name]
    for n in (0, 1):
        got = exact.gradient(variant(name), (p, q), n, normalize=False)
        np.testing.assert_allclose(got, want[n], rtol=1e-13, atol=1e-15)
