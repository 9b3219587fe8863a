"""Every bad input x every function of transport: refused, naming the argument."""

from __future__ import annotations

import re

import numpy as np
import pytest

import otdist as od
from tests.bad_inputs import BAD_INPUTS, Bad, good

pytest.importorskip("jax")
pytest.importorskip("torch")
pytest.importorskip("ml_dtypes")

SHARED = {
    *("nan", "minus inf", "none", "complex", "objects", "strings", "dates", "records", "masked", "float8", "ragged"),
    *("no axis", "no axis, array", "two libraries, torch", "two libraries, jax", "meta", "complex tensor"),
    *("sparse tensor", "graph", "long double", "sparse"),
}
CALLS = {
    "wasserstein": (("x", "y"), od.wasserstein),
    "cloud": (("x", "y"), lambda x, y: od.emd(od.PointCloud(x, y))),
    "gradient": (("x", "y"), lambda x, y: od.value_and_grad(od.wasserstein, (0, 1))(x, y)),
    "matrix": (("costs",), od.emd),
    "object": (("costs",), lambda costs: od.emd(od.CostMatrix(costs))),
}


@pytest.mark.parametrize("bad", [bad for bad in BAD_INPUTS if bad.label in SHARED], ids=lambda bad: bad.label)
@pytest.mark.parametrize("call", CALLS)
def test_bad_arrays(call: str, bad: Bad) -> None:
    names, function = CALLS[call]
    if bad.arity > len(names) or (bad.label == "none" and call == "cloud"):
        return
    for i, name in enumerate(names):
        arrays = bad.make([good(3, 4) for _ in names], i)
        pattern = bad.match.replace("{name}", name).replace(".*`pairwise`", "")
        pattern = pattern.replace(".*-inf.*", ".*inf.*")
        with pytest.raises(bad.error, match="(?i)" + pattern):
            function(*arrays)


MASSES = [
    ([0.5, -0.5, 1.0], ValueError, r"-0\.5 at index 1"),
    ([0.5, np.nan, 0.5], ValueError, r"nan at index 1"),
    ([0.5, np.inf, 0.5], ValueError, r"inf at index 1"),
    ([0.0, 0.0, 0.0], ValueError, "total"),
    ([0.5, 0.5], ValueError, r"\(2,\).*\(3,\)"),
    ([[0.5, 0.25, 0.25]], ValueError, r"shape"),
    ([0.5, 0.5, 0.5], ValueError, r"totals 1\.5 and 1\b"),
    (["a", "b", "c"], TypeError, "str"),
    ([1j, 0, 0], TypeError, "complex"),
    (2.0, ValueError, "shape"),
]


@pytest.mark.parametrize(("w", "error", "match"), MASSES, ids=[m[2] for m in MASSES])
def test_bad_masses(w, error, match):
    C = np.ones((3, 3))
    with pytest.raises(error, match=match) as caught:
        od.emd(C, w)
    assert re.match(r"a\b", str(caught.value))
    if "totals" not in match:
        with pytest.raises(error, match=match) as caught:
            od.emd(C, None, w)
        assert re.match(r"b\b", str(caught.value))
    for name in "ab" if np.ndim(w) == 1 else "":  # more dimensions are a batch
        with pytest.raises(error) as caught:
            od.wasserstein(np.ones((3, 2)), np.ones((3, 2)), **{name: w})
        assert re.match(rf"{name}\b", str(caught.value))


OPTIONS = [
    (od.emd, {"mass": -1.0}, ValueError),
    (od.emd, {"mass": 0.0}, ValueError),
    (od.emd, {"mass": 2.0}, ValueError),
    (od.emd, {"mass": np.nan}, ValueError),
    (od.emd, {"mass": "half"}, TypeError),
    (od.emd, {"unmatched": -1.0}, ValueError),
    (od.emd, {"mass": 0.5, "unmatched": 1.0}, ValueError),
    (od.emd, {"init": np.zeros(2)}, ValueError),
    (od.emd, {"init": [np.nan] * 3}, ValueError),
    (od.emd, {"tol": -1}, ValueError),
    (od.emd, {"tol": "tight"}, TypeError),
    (od.emd, {"max_iter": -1}, ValueError),
    (od.emd, {"max_iter": 1.5}, ValueError),
    (od.emd, {"time_limit": -1}, ValueError),
    (od.emd, {"callback": 3}, TypeError),
    (od.emd, {"progress": "yes"}, TypeError),
    (od.emd, {"on_fail": "panic"}, ValueError),
    (od.wasserstein, {"p": 0.5}, ValueError),
    (od.wasserstein, {"p": np.inf}, ValueError),
    (od.wasserstein, {"p": "two"}, TypeError),
    (od.wasserstein, {"p": True}, TypeError),
    (od.wasserstein, {"cost": "sqeuclidean"}, ValueError),
    (od.wasserstein, {"cost": "euclidian"}, ValueError),
    (od.wasserstein, {"method": "fast"}, ValueError),
]


@pytest.mark.parametrize(("function", "option", "error"), OPTIONS, ids=[f"{f.__name__}-{o}" for f, o, _ in OPTIONS])
def test_bad_options(function, option, error):
    arrays = (np.ones((3, 3)),) if function is od.emd else (np.ones((3, 2)), np.zeros((3, 2)))
    with pytest.raises(error) as caught:
        function(*arrays, **option)
    assert re.match(rf"({'|'.join(option)})\b", str(caught.value)), str(caught.value)


def test_bad_shapes():
    for C in (np.ones(3), np.ones((0, 3)), np.ones((3, 0)), np.ones((2, 3, 3))):
        with pytest.raises(ValueError, match=r"^costs: found shape"):
            od.emd(C)
    with pytest.raises(ValueError, match=r"^x: found shape"):
        od.emd(od.PointCloud(np.ones((2, 3, 2)), np.ones((3, 2))))
    with pytest.raises(ValueError, match=r"^x and y: found 2 and 3"):
        od.wasserstein(np.ones((4, 2)), np.ones((4, 3)))
    with pytest.raises(ValueError, match="zero vector"):
        od.emd(od.PointCloud(np.zeros((2, 2)), np.ones((3, 2)), cost="cosine"))
    with pytest.raises(ValueError, match="zero vector"):
        od.wasserstein(np.ones((2, 2)), np.zeros((3, 2)), cost="cosine")
    with pytest.raises(ValueError, match=r"^cost: "):
        od.emd(od.PointCloud(np.ones((2, 2)), cost="hamming"))
    with pytest.raises(ValueError, match=r"^p: "):
        od.emd(od.PointCloud(np.ones((2, 2)), p=0.5))
    with pytest.raises(ValueError, match="range of float64"):
        od.emd(od.PointCloud([[0.0]], [[1e200]]))
    result = od.emd(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"^v: found shape"):
        result.apply(np.ones(2))
    with pytest.raises(ValueError, match=r"^y: found None"):
        result.barycentric_map()
    with pytest.raises(ValueError, match="matrix"):
        result.point_gradients()
