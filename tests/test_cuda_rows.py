"""Divergences of rows on the device: the tests of the CPU, on arrays of the device, and what only a device has."""

from __future__ import annotations

from typing import Any

import pytest

from tests import test_divergences, test_extremes, test_gradients
from tests.cases import DTYPES, FAMILIES, VARIANTS, Variant, ids, variant
from tests.device import OnDevice

ALL = pytest.mark.parametrize("v", VARIANTS, ids=ids)
# One variant of each formula and finish: the others share their kernels.
KINDS = [variant(text) for text in ("tv", "hellinger", "l2", "chi2-kind=neyman", "chi2-kind=symmetric", "kl", "js",
                                    "jeffreys", "renyi-0", "renyi-0.5", "renyi-0.9", "tsallis-3.5",
                                    "alpha_divergence-0.3", "cross_entropy", "entropy")]  # fmt: skip
EACH = pytest.mark.parametrize("v", KINDS, ids=ids)
FLOATS = pytest.mark.parametrize("dtype", DTYPES)


@pytest.fixture(autouse=True)
def _on_device(emulated: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (test_divergences, test_extremes, test_gradients):
        monkeypatch.setattr(module, "od", OnDevice())


@FLOATS
@ALL
def test_accuracy(v: Variant, dtype: str) -> None:
    for family in FAMILIES:
        test_divergences.test_accuracy(v, family, dtype)


@FLOATS
@EACH
def test_supports(v: Variant, dtype: str) -> None:
    for support in test_divergences.SUPPORTS:
        test_divergences.test_infinite_exactly_off_support(v, support, dtype)


@FLOATS
@EACH
def test_gradients_of_histograms(v: Variant, dtype: str) -> None:
    test_gradients.test_against_the_definition(v, dtype)
    test_gradients.test_through_the_normalisation(v, dtype)


@FLOATS
@EACH
def test_logits(v: Variant, dtype: str) -> None:
    test_divergences.test_logits(v, dtype)
    test_gradients.test_through_the_softmax(v, dtype)
    test_gradients.test_far_logits_have_no_nan(v)
