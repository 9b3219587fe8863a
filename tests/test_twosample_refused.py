"""What the two-sample tests refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import otdist as od

GOOD = np.arange(12.0).reshape(6, 2)
NAN = np.where(GOOD == 3, np.nan, GOOD)
BAD: list[tuple[str, tuple[Any, Any], dict[str, Any], type[Exception], str]] = [
    ("one axis", (GOOD[:, 0], GOOD), {}, ValueError, r"x: found shape \(6,\).*x\[:, None\]"),
    ("one axis in y", (GOOD, GOOD[:, 0]), {}, ValueError, r"y: found shape.*y\[:, None\]"),
    ("number", (1.0, GOOD), {}, ValueError, r"x: found shape \(\)"),
    ("batch", (GOOD[None], GOOD), {}, ValueError, "x: found shape"),
    ("no points", (GOOD[:0], GOOD), {}, ValueError, "x: found shape"),
    ("no coordinates", (GOOD[:, :0], GOOD[:, :0]), {}, ValueError, "x: found shape"),
    ("another d", (GOOD, GOOD[:, :1]), {}, ValueError, "x and y: found 2 and 1 coordinates"),
    ("NaN", (NAN, GOOD), {}, ValueError, r"x: found nan at index \(1, 1\)"),
    ("infinite", (GOOD, np.where(GOOD == 3, np.inf, GOOD)), {}, ValueError, "y: found"),
    ("complex", (GOOD + 1j, GOOD), {}, TypeError, "x: found dtype complex128"),
    ("object", (GOOD.astype(object), GOOD), {}, TypeError, "x: found dtype object"),
    ("masked", (np.ma.masked_array(GOOD), GOOD), {}, TypeError, "x: found a masked array"),
    ("None", (None, GOOD), {}, TypeError, "x: found None"),
    ("too large", (GOOD * 1e307, GOOD), {}, ValueError, r"x and y: found coordinates up to 1.1e\+308"),
    ("too close", (GOOD * 1e-200, GOOD * 1e-200), {}, ValueError, "x and y: .* differ by up to 1e-199"),
    ("no permutations", (GOOD, GOOD), {"permutations": 0}, ValueError, "permutations: found 0"),
    ("a fraction", (GOOD, GOOD), {"permutations": 9.5}, TypeError, "permutations: found 9.5"),
    ("few", (GOOD, GOOD), {"permutations": 18}, ValueError, "permutations: found 18.*at least 19"),
    ("few for alpha", (GOOD, GOOD), {"alpha": 0.001, "permutations": 99}, ValueError, "use at least 999"),
    ("alpha", (GOOD, GOOD), {"alpha": 0.0}, ValueError, "alpha: found 0.0"),
    ("alpha text", (GOOD, GOOD), {"alpha": "5%"}, TypeError, "alpha: found str"),
    ("rng", (GOOD, GOOD), {"rng": 1.5}, TypeError, "rng: found 1.5"),
    ("rng flag", (GOOD, GOOD), {"rng": True}, TypeError, "rng: found True"),
    ("rng negative", (GOOD, GOOD), {"rng": -1}, ValueError, "rng: found -1"),
]
COSINE = od.Laplacian(cost="cosine")
OWN: list[tuple[str, tuple[Any, Any], dict[str, Any], type[Exception], str]] = [
    ("method", (GOOD, GOOD), {"method": "permute"}, ValueError, "method: found 'permute'.*did you mean"),
    ("estimator", (GOOD, GOOD), {"estimator": "bias"}, ValueError, "estimator: found 'bias'"),
    ("linear", (GOOD, GOOD), {"estimator": "linear"}, ValueError, "estimator: found 'linear'.*use 'unbiased'"),
    ("block", (GOOD, GOOD), {"estimator": "block"}, ValueError, "estimator: found 'block'.*use 'unbiased'"),
    ("one point", (GOOD[:1], GOOD), {"estimator": "unbiased"}, ValueError, "found n = 1 and m = 6"),
    ("unpaired", (GOOD[:4], GOOD), {"method": "wild"}, ValueError, "found n = 4 and m = 6.*use 'permutation'"),
    ("kernel", (GOOD, GOOD), {"kernel": "gausian"}, ValueError, "kernel: found 'gausian'; did you mean|kernel: found"),
    ("kernel kind", (GOOD, GOOD), {"kernel": 3}, TypeError, "kernel: found int"),
    ("kernels", (GOOD, GOOD), {"kernel": ["gaussian"]}, TypeError, "kernel: found list"),
    ("no kernels", (GOOD, GOOD), {"kernel": [], "method": "aggregated"}, ValueError, "kernel: found an empty"),
    ("bandwidth", (GOOD, GOOD), {"bandwidth": -1.0}, ValueError, "bandwidth: found -1.0"),
    ("bandwidth rule", (GOOD, GOOD), {"bandwidth": "mean"}, ValueError, "bandwidth: found 'mean'"),
    ("bandwidth None", (GOOD, GOOD), {"bandwidth": None}, TypeError, "bandwidth: found None"),
    ("zero vector", (GOOD + 1, np.zeros((6, 2))), {"kernel": COSINE}, ValueError, "y: found a zero vector"),
    ("overflow", (GOOD * 1e20, -GOOD), {"kernel": od.Polynomial(20)}, ValueError, "the kernel overflows"),
    ("no bandwidths", (GOOD, GOOD), {"bandwidth": [], "method": "aggregated"}, ValueError, "bandwidth: found"),
    ("bad candidate", (GOOD, GOOD), {"bandwidth": [1.0, 0.0], "method": "aggregated"}, ValueError, "bandwidth: found"),
]


@pytest.mark.parametrize(("arrays", "options", "error", "match"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
@pytest.mark.parametrize("test", ["mmd_test", "energy_test"])
def test_bad_input(test: str, arrays: Any, options: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        getattr(od, test)(*arrays, **options)


@pytest.mark.parametrize(("arrays", "options", "error", "match"), [b[1:] for b in OWN], ids=[b[0] for b in OWN])
def test_bad_options(arrays: Any, options: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        od.mmd_test(*arrays, **options)


@pytest.mark.parametrize("exponent", [0.0, -1.0, 2.5, float("nan")])
def test_bad_exponent(exponent: float) -> None:
    with pytest.raises(ValueError, match="exponent: found"):
        od.energy_test(GOOD, GOOD, exponent=exponent)
