"""Every bad input x every entropic function: refused, naming the argument, what was found and what to do."""

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
    "cloud": (("x", "y"), lambda x, y: od.sinkhorn(od.PointCloud(x, y), epsilon=0.1)),
    "matrix": (("costs",), lambda costs: od.sinkhorn(costs, epsilon=0.1)),
    "object": (("costs",), lambda costs: od.sinkhorn(od.CostMatrix(costs), epsilon=0.1)),
    "divergence": (("x", "y"), lambda x, y: od.sinkhorn_divergence(x, y, epsilon=0.1)),
    "wasserstein": (("x", "y"), lambda x, y: od.wasserstein(x, y, method="sinkhorn", epsilon=0.1)),
    "gradient": (("x", "y"), lambda x, y: od.value_and_grad(od.sinkhorn_divergence, (0, 1))(x, y, epsilon=0.1)),
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
    ([0.5, -0.5, 1.0], ValueError, r"-0\.5 at index"),
    ([0.5, np.nan, 0.5], ValueError, r"nan at index"),
    ([0.5, np.inf, 0.5], ValueError, r"inf at index"),
    ([0.0, 0.0, 0.0], ValueError, "total"),
    ([0.5, 0.5], ValueError, r"\(2,\).*3"),
    ([[0.5, 0.5]] * 3, ValueError, "shape"),
    (["a", "b", "c"], TypeError, "str"),
    ([1j, 0, 0], TypeError, "complex"),
    (2.0, ValueError, "shape"),
]


@pytest.mark.parametrize(("w", "error", "match"), MASSES, ids=[m[2] for m in MASSES])
def test_bad_masses(w, error, match):
    C, x = np.ones((3, 3)), np.ones((3, 2))
    for rho in (None, 1.0):
        for name in "ab":
            with pytest.raises(error, match=match) as caught:
                od.sinkhorn(C, **{name: w}, epsilon=0.1, rho=rho)
            assert re.match(rf"{name}\b", str(caught.value))
            with pytest.raises(error) as caught:
                od.sinkhorn_divergence(x, x, **{name: w}, epsilon=0.1, rho=rho)
            assert re.match(rf"{name}\b", str(caught.value))


def test_unequal_totals_need_a_price():
    C = np.ones((3, 3))
    with pytest.raises(ValueError, match=r"^a and b: found totals 1\.5 and 1\b.*rho"):
        od.sinkhorn(C, [0.5, 0.5, 0.5], epsilon=0.1)
    assert od.sinkhorn(C, [0.5, 0.5, 0.5], epsilon=0.1, rho=1.0).converged
    with pytest.raises(ValueError, match=r"^a\b.*rho|^a and b"):
        od.sinkhorn_divergence(np.ones((3, 2)), np.ones((3, 2)), [0.5, 0.5, 0.5], epsilon=0.1)


NUMBERS = {
    "epsilon": (0.0, -1.0, np.nan, np.inf, "small", True, 1j),
    "rho": (0.0, -1.0, np.nan, "high", True, (1.0,), (1.0, -1.0), (1.0, 2.0, 3.0), (np.nan, 1.0)),
    "tol": (-1e-9, np.nan, "tight", True),
    "max_iter": (-1, 1.5, "many", True),
    "time_limit": (-1.0, np.nan, "long"),
    "memory_limit": (-1, "much"),
    "method": ("fast", "sinkhorn_log", 3, None),
    "callback": (3, "print"),
    "progress": ("yes", 2),
    "on_fail": ("panic", None),
    "init": (np.zeros(2), [np.nan] * 3, "last", np.zeros((2, 3))),
}
OPTIONS = [(name, value) for name, values in NUMBERS.items() for value in values]


@pytest.mark.parametrize(("name", "value"), OPTIONS, ids=[f"{n}={v!r}"[:40] for n, v in OPTIONS])
def test_bad_options(name, value):
    with pytest.raises((ValueError, TypeError)) as caught:
        od.sinkhorn(np.ones((3, 3)), **{"epsilon": 0.1, name: value})
    assert re.match(rf"{name}\b", str(caught.value)), str(caught.value)
    if name in ("epsilon", "rho", "tol", "max_iter", "method", "on_fail"):
        with pytest.raises((ValueError, TypeError)) as caught:
            od.sinkhorn_divergence(np.ones((3, 2)), np.zeros((3, 2)), **{"epsilon": 0.1, name: value})
        assert re.match(rf"{name}\b", str(caught.value)), str(caught.value)


def test_multiscale_needs_points_of_few_coordinates():
    with pytest.raises(ValueError, match=r"^method: found ['\"]multiscale"):
        od.sinkhorn(np.ones((3, 3)), epsilon=0.1, method="multiscale")
    with pytest.raises(ValueError, match=r"^method: found ['\"]multiscale"):
        od.sinkhorn(od.PointCloud(np.ones((3, 8)), np.zeros((3, 8))), epsilon=0.1, method="multiscale")


def test_bad_shapes():
    for C in (np.ones(3), np.ones((0, 3)), np.ones((3, 0))):
        with pytest.raises(ValueError, match=r"^costs: found shape"):
            od.sinkhorn(C, epsilon=0.1)
    with pytest.raises(ValueError, match=r"^x and y: found"):
        od.sinkhorn(od.PointCloud(np.ones((4, 2)), np.ones((4, 3))), epsilon=0.1)
    with pytest.raises(ValueError, match=r"^x and y: found"):
        od.sinkhorn_divergence(np.ones((4, 2)), np.ones((4, 3)), epsilon=0.1)
    with pytest.raises(ValueError, match="zero vector"):
        od.sinkhorn(od.PointCloud(np.zeros((2, 2)), np.ones((3, 2)), cost="cosine"), epsilon=0.1)
    with pytest.raises(ValueError, match=r"^cost: "):
        od.sinkhorn(od.PointCloud(np.ones((2, 2)), cost="hamming"), epsilon=0.1)
    with pytest.raises(ValueError, match=r"^cost: "):
        od.sinkhorn_divergence(np.ones((2, 2)), np.ones((2, 2)), epsilon=0.1, cost="hamming")
    with pytest.raises(ValueError, match=r"^p: "):
        od.sinkhorn_divergence(np.ones((2, 2)), np.ones((2, 2)), epsilon=0.1, p=0.5)


def test_mass_that_may_go_nowhere():
    C = np.ones((3, 3))
    C[1] = np.inf
    with pytest.raises(ValueError, match=r"^costs: .*(row 1|index 1|\b1\b)"):
        od.sinkhorn(C, epsilon=0.1)
    assert od.sinkhorn(C, [0.5, 0.0, 0.5], epsilon=0.1).converged  # nothing needs to
    C = np.ones((3, 3))
    C[:, 2] = np.inf
    with pytest.raises(ValueError, match=r"^costs: .*\b2\b"):
        od.sinkhorn(C, epsilon=0.1)


def test_mass_that_does_not_fit_never_converges_in_silence():
    """Every row and column has somewhere to go, but no coupling exists."""
    C = np.full((3, 3), np.inf)
    C[0], C[:, 0] = 1.0, 1.0
    found = od.sinkhorn(C, [0.2, 0.4, 0.4], [0.2, 0.4, 0.4], epsilon=0.1, on_fail="ignore", max_iter=500)
    assert not found.converged
    assert found.marginal_error > 0.1
    with pytest.warns(od.ConvergenceWarning):
        od.sinkhorn(C, [0.2, 0.4, 0.4], [0.2, 0.4, 0.4], epsilon=0.1, max_iter=500)


EPSILON_FROM = [
    ({}, "costs"),
    ({"costs": np.ones((3, 3)), "blur": 0.1}, "blur"),
    ({"blur": 0.0}, "blur"),
    ({"blur": np.nan}, "blur"),
    ({"blur": "wide"}, "blur"),
    ({"costs": np.ones((3, 3)), "fraction": 0.0}, "fraction"),
    ({"costs": np.ones((3, 3)), "fraction": "half"}, "fraction"),
    ({"costs": np.ones((3, 3)), "of": "mode"}, "of"),
    ({"costs": np.full((3, 3), np.nan)}, "costs"),
    ({"costs": np.zeros((3, 3))}, "costs"),
]


@pytest.mark.parametrize(("options", "name"), EPSILON_FROM, ids=[n for _, n in EPSILON_FROM])
def test_epsilon_from(options, name):
    with pytest.raises((ValueError, TypeError)) as caught:
        od.epsilon_from(**options)
    assert re.match(rf"{name}\b|costs|blur", str(caught.value)), str(caught.value)


def test_arguments_of_the_answer():
    found = od.sinkhorn(np.ones((2, 3)), epsilon=0.1)
    with pytest.raises(ValueError, match=r"^v: found shape"):
        found.apply(np.ones(2))
    with pytest.raises(ValueError, match=r"^y: found None"):
        found.barycentric_map()
    with pytest.raises(ValueError, match="matrix"):
        found.point_gradients()
    with pytest.raises(TypeError, match=r"^fun: "):
        od.value_and_grad(lambda x: x)
    with pytest.raises(ValueError, match=r"^argnums: "):
        od.value_and_grad(od.sinkhorn, 3)(np.ones((2, 3)), epsilon=0.1)
