"""Every bad input x every distance between samples: refused, naming the argument."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import otdist as od
from tests.bad_inputs import BAD_INPUTS, Bad, good
from tests.sample_cases import draw

jax = pytest.importorskip("jax")
torch = pytest.importorskip("torch")
pytest.importorskip("ml_dtypes")

EITHER = (TypeError, ValueError)


@dataclass(frozen=True)
class Call:
    """A public function, the names of its arrays, and options that make good(3, 4) acceptable."""

    function: str
    names: tuple[str, ...] = ("x", "y")
    options: dict[str, Any] = field(default_factory=dict)
    weighted: bool = True

    @property
    def id(self) -> str:
        return "-".join([self.function, *(f"{k}={v}" for k, v in self.options.items())])

    def __call__(self, *arrays: Any, **options: Any) -> Any:
        arrays = arrays[: len(self.names)]
        given = {**self.options, **options}
        if self.function == "kernel":
            return od.Gaussian(1.0)(*arrays, **given)
        if self.function == "value_and_grad":
            return od.value_and_grad(od.mmd, (0, 1))(*arrays, **given)
        return getattr(od, self.function)(*arrays, **given)


CALLS = [
    Call("mmd"),
    Call("mmd", options={"kernel": "polynomial"}),
    Call("mmd", options={"estimator": "unbiased", "bandwidth": 1.0}),
    Call("mmd", options={"estimator": "linear", "bandwidth": 1.0}, weighted=False),
    Call("mmd", options={"estimator": "block", "block_size": 2}, weighted=False),
    Call("energy_distance"),
    Call("kid", options={"subsets": 2, "subset_size": 2}, weighted=False),
    Call("witness", ("x", "y", "at")),
    Call("kernel", weighted=False),
    Call("value_and_grad"),
]
every_call = pytest.mark.parametrize("call", CALLS, ids=lambda call: call.id)

SHARED = {
    *("nan", "inf", "minus inf", "none", "complex", "objects", "strings", "dates", "records", "masked", "float8"),
    *("ragged", "no axis", "no axis, array", "two libraries, torch", "two libraries, jax", "meta", "complex tensor"),
    *("sparse tensor", "graph", "long double"),
}


def _with(change: Callable[[Any], Any]) -> Callable[[list[Any], int], list[Any]]:
    def make(arrays: list[Any], i: int) -> list[Any]:
        arrays[i] = change(arrays[i])
        return arrays

    return make


def _sparse(a: Any) -> Any:
    import scipy.sparse

    return scipy.sparse.csr_array(a)


BAD = [
    *(bad for bad in BAD_INPUTS if bad.label in SHARED),
    Bad("sparse", _with(_sparse), TypeError, r"^{name}: .*sparse"),
    Bad("one dimension", _with(lambda a: a[0]), ValueError, r"^{name}: .*\(4,\).*{name}\[:, None\]"),
    Bad("no points", _with(lambda a: a[:0]), ValueError, r"^{name}: .*(n = 0|point|\(0, 4\))"),
    Bad("no coordinates", lambda arrays, i: [a[:, :0] for a in arrays], ValueError, r"\b(x|y|at)\b"),
    Bad("more coordinates", _with(lambda a: good(3, 5)), ValueError, r"\b{name}\b.*\b5\b"),
    Bad("another batch", lambda arrays, i: [np.stack([a] * (2 + (j == i))) for j, a in enumerate(arrays)], ValueError,
        r"\b{name}\b"),
]  # fmt: skip
OPTIONAL = {"kernel": ("y",)}  # y=None is x


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.label)
@every_call
def test_bad_samples(call: Call, bad: Bad) -> None:
    for i, name in enumerate(call.names):
        if bad.label == "none" and name in OPTIONAL.get(call.function, ()):
            continue
        arrays = bad.make([good(3, 4) for _ in call.names], i)
        with pytest.raises(bad.error, match="(?i)" + bad.match.replace("{name}", name)):
            call(*arrays)


def test_the_first_bad_point_of_a_batch_is_named() -> None:
    x = draw(np.random.default_rng(130), 6, 2).reshape(2, 3, 2)
    x[1, 2, 0] = np.nan
    for fun in (od.mmd, od.energy_distance):
        with pytest.raises(ValueError, match=r"(?i)^y: found NaN at index \(1, 2, 0\)"):
            fun(x[0], x)


# -- weights ------------------------------------------------------------------------------------------------

WEIGHTS = [
    ("negative", [0.75, -0.25, 0.5], ValueError, r"-0\.25.*index"),
    ("nan", [0.5, np.nan, 0.5], ValueError, "(?i)nan.*index"),
    ("inf", [0.5, np.inf, 0.5], ValueError, "inf.*index"),
    ("sum 2", [1, 0.5, 0.5], ValueError, "sum"),
    ("sum 0", [0.0, 0, 0], ValueError, "sum"),
    ("sum 1.01", [0.51, 0.25, 0.25], ValueError, "sum"),
    ("counts", [3, 1, 2], ValueError, "sum"),
    ("too few", [0.5, 0.5], ValueError, r"\b2\b"),
    ("one", [1.0], ValueError, r"\b1\b"),
    ("number", 1.0, ValueError, ""),
    ("columns", [[0.5], [0.25], [0.25]], ValueError, ""),
    ("batch", [[0.5, 0.25, 0.25]] * 5, ValueError, ""),
    ("strings", ["a", "b", "c"], TypeError, "str"),
    ("complex", [0.5, 0.25, 0.25 + 0j], TypeError, "complex"),
    ("word", "uniform", TypeError, ""),
    ("tensor", torch.tensor([0.5, 0.25, 0.25]), TypeError, "torch"),
]


@pytest.mark.parametrize(("label", "weights", "error", "match"), WEIGHTS, ids=[w[0] for w in WEIGHTS])
@pytest.mark.parametrize("call", [c for c in CALLS if c.weighted], ids=lambda call: call.id)
def test_bad_weights(call: Call, label: str, weights: Any, error: Any, match: str) -> None:
    arrays = [np.stack([good(3, 4)] * 2) if label == "batch" else good(3, 4) for _ in call.names]
    for name in ("x_weights", "y_weights"):
        with pytest.raises(error, match=rf"\b{name}\b") as caught:
            call(*arrays, **{name: weights})
        assert re.search(match, str(caught.value))


def test_weights_of_one_point_are_not_unbiased() -> None:
    x, y = good(3, 4), good(4, 4)
    with pytest.raises(ValueError, match=r"x_weights.*(biased|mass|one point)"):
        od.mmd(x, y, estimator="unbiased", x_weights=[0.0, 1.0, 0.0], bandwidth=1.0)


@pytest.mark.parametrize("estimator", ["linear", "block"])
def test_weights_have_no_place_in_pairs_and_blocks(estimator: str) -> None:
    with pytest.raises(ValueError, match=r"x_weights.*biased"):
        od.mmd(good(4, 4), good(4, 4), estimator=estimator, x_weights=[0.25] * 4)


# -- estimators and sizes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "m", "options", "match"),
    [
        (1, 3, {"estimator": "unbiased"}, r"\b(x|n)\b.*\b1\b"),
        (3, 1, {"estimator": "unbiased"}, r"\b(y|m)\b.*\b1\b"),
        (4, 3, {"estimator": "linear"}, "linear.*4.*3"),
        (1, 1, {"estimator": "linear"}, "linear.* 2"),
        (4, 3, {"estimator": "block"}, "block.*4.*3"),
        (1, 1, {"estimator": "block"}, "block.* 2"),
        (4, 4, {"estimator": "block", "block_size": 5}, "block_size.*5"),
    ],
)
def test_sizes(n: int, m: int, options: Any, match: str) -> None:
    rng = np.random.default_rng(131)
    with pytest.raises(ValueError, match=match):
        od.mmd(draw(rng, n, 2), draw(rng, m, 2), bandwidth=1.0, **options)


@pytest.mark.parametrize("kernel", ["gaussian", "laplacian", "imq", "rational_quadratic"])
def test_zero_vectors_have_no_angle(kernel: str) -> None:
    make = {"gaussian": od.Gaussian, "laplacian": od.Laplacian, "imq": od.IMQ}.get(kernel, od.RationalQuadratic)
    x = good(3, 4)
    zero = x.copy()
    zero[1] = 0
    for arrays, name in (((zero, x), "x"), ((x, zero), "y")):
        with pytest.raises(ValueError, match=rf"^{name}: .*zero vector.*1"):
            od.mmd(*arrays, kernel=make(1.0, cost="cosine"))
        with pytest.raises(ValueError, match=rf"^{name}: .*zero vector"):
            make(1.0, cost="cosine")(*arrays)
    with pytest.raises(ValueError, match=r"^at: .*zero vector"):
        od.witness(x, x, zero, kernel=make(1.0, cost="cosine"))


# -- options ------------------------------------------------------------------------------------------------

MMD = frozenset({"mmd", "witness", "value_and_grad"})
OPTIONS = [
    *(("kernel", value, MMD, ValueError) for value in ("gausian", "", "Gaussian", "rbf")),
    *(("kernel", value, MMD, TypeError) for value in (None, 1.0, np.exp, od.Gaussian if hasattr(od, "mmd") else None)),
    *(("bandwidth", value, MMD, ValueError) for value in (0, -1.0, np.nan, np.inf, "medan", (), (1.0, 0.0), (1, -2))),
    *(("bandwidth", value, MMD, EITHER) for value in (None, "1", 1j, ("a",), [None], True)),
    *(("estimator", value, frozenset({"mmd", "value_and_grad"}), EITHER) for value in ("biassed", "", None, 1)),
    *(("block_size", value, frozenset({"block"}), EITHER) for value in (0, 1, -2, 1.5, "2", 4, True)),
    ("block_size", 2, frozenset({"mmd"}), ValueError),
    *(("squared", value, frozenset({"mmd", "energy_distance"}), EITHER) for value in ("yes", None, 2)),
    *(("exponent", value, frozenset({"energy_distance"}), ValueError) for value in (0, -1, 2.5, np.nan, np.inf)),
    *(("exponent", value, frozenset({"energy_distance"}), EITHER) for value in ("1", None, 1j)),
    *(("degree", value, frozenset({"kid"}), EITHER) for value in (0, -1, 1.5, "3", None, np.nan)),
    *(("gamma", value, frozenset({"kid"}), EITHER) for value in (0, -1, np.nan, np.inf, "1")),
    *(("coef0", value, frozenset({"kid"}), EITHER) for value in (-1, np.nan, np.inf, "1", None)),
    *(("subsets", value, frozenset({"kid"}), EITHER) for value in (0, -1, 1.5, "3", None, True)),
    *(("subset_size", value, frozenset({"kid"}), EITHER) for value in (0, 1, -1, 1.5, "3", None)),
    *(("rng", value, frozenset({"kid"}), EITHER) for value in ("seed", 1.5, -1)),
    ("nonsense", 1, frozenset({"mmd", "witness", "energy_distance", "kid", "value_and_grad"}), TypeError),
]


@pytest.mark.parametrize(("option", "value", "functions", "error"), OPTIONS, ids=[f"{o[0]}={o[1]!r:.30}" for o in OPTIONS])  # fmt: skip  # noqa: E501
def test_bad_options(option: str, value: Any, functions: frozenset[str], error: Any) -> None:
    calls = {c.function: c for c in CALLS if c.function != "mmd"} | {"mmd": CALLS[0], "block": CALLS[4]}
    for function in functions:
        call = calls[function]
        with pytest.raises(error, match=rf"\b{option}\b"):
            call(good(3, 4), good(3, 4), good(3, 4), **{option: value})


def test_near_misses_are_suggested() -> None:
    for given, hint in (({"kernel": "gausian"}, "'gaussian'"), ({"estimator": "biassed"}, "biased")):
        with pytest.raises(ValueError, match=hint):
            od.mmd(good(3, 4), good(3, 4), **given)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        *((lambda s=s: od.Gaussian(s), ValueError, "bandwidth") for s in (0, -1, np.nan, np.inf, (), (1, 0))),
        *((lambda s=s: od.Laplacian(s), EITHER, "bandwidth") for s in ("1", "median", 1j, (None,), True)),
        (lambda: od.Gaussian(1, "manhattan"), ValueError, "cost"),
        (lambda: od.Gaussian(1, "euclidian"), ValueError, "euclidean"),
        (lambda: od.IMQ(1, cost=None), EITHER, "cost"),
        *((lambda p=p: od.IMQ(1, power=p), EITHER, "power") for p in (0, -1, np.nan, np.inf, "1", None)),
        *((lambda a=a: od.RationalQuadratic(1, alpha=a), EITHER, "alpha") for a in (0, -1, np.nan, np.inf, "1")),
        *((lambda v=v: od.Matern(1, nu=v), EITHER, "nu") for v in (0, 1, 2, 3.5, np.inf, "1.5", None)),
        *((lambda v=v: od.Polynomial(v), EITHER, "degree") for v in (0, -1, 1.5, np.nan, np.inf, "2", None)),
        *((lambda v=v: od.Polynomial(2, v), EITHER, "gamma") for v in (0, -1, np.nan, np.inf, "2")),
        *((lambda v=v: od.Polynomial(2, 1, v), EITHER, "coef0") for v in (-1, np.nan, np.inf, "2", None)),
        *((lambda v=v: od.Energy(v), EITHER, "exponent") for v in (0, -1, 2.5, np.nan, "1", None)),
        *((lambda v=v: od.Constant(v), EITHER, "c") for v in (-1, np.nan, np.inf, "1", None)),
        *((lambda v=v: od.Gaussian(1.0) * v, EITHER, ".") for v in (-1.0, np.nan, np.inf, "2", None)),
        *((lambda v=v: od.Gaussian(1.0) + v, EITHER, ".") for v in (-1.0, np.nan, np.inf, "2", None)),
        (lambda: od.Gaussian()(good(3, 4)), ValueError, "bandwidth"),
    ],
)  # fmt: skip
def test_bad_kernels(make: Callable[[], Any], error: Any, match: str) -> None:
    with pytest.raises(error, match=match):
        make()


# -- what holds no values -----------------------------------------------------------------------------------


@every_call
def test_jax_tracers(call: Call) -> None:
    def traced(x: Any) -> Any:
        with pytest.raises(TypeError, match=r"^x: found a JAX tracer"):
            call(x, good(3, 4).tolist(), good(3, 4).tolist())
        return x.sum()

    x = jax.numpy.asarray(good(3, 4))
    jax.jit(traced)(x)
    jax.grad(traced)(x)


@every_call
def test_too_few_arrays(call: Call) -> None:
    with pytest.raises(TypeError):
        call(*[good(3, 4)] * (len(call.names) - 1 - (call.function == "kernel")))


@every_call
def test_what_looks_bad_and_is_not(call: Call) -> None:
    """Integers, booleans, zeros of either sign, subnormal numbers, equal points, weights of zero."""
    base = good(3, 4)
    zeros = base.copy()
    zeros[1] = [0.0, -0.0, 1e-45, -1e-45]
    for x in (zeros, np.arange(12).reshape(3, 4), np.eye(3, 4, dtype=bool), np.zeros((3, 4)), base.tolist()):
        for arrays in ((x, base, base), (base, x, base), (base, base, x)):
            found = call(*arrays)
            parts = [found.mean, found.standard_error] if call.function == "kid" else np.ravel(
                np.concatenate([np.ravel(f) for f in (found[0], *found[1])]) if isinstance(found, tuple) else found
            )  # fmt: skip
            assert np.all(np.isfinite(parts))
    if call.weighted:
        got = call(base, base, base, x_weights=[0.5, 0, 0.5], y_weights=np.array([1, 0, 0]) * 0.5 + [0, 0, 0.5])
        assert np.all(np.isfinite(got[0] if isinstance(got, tuple) else got))
