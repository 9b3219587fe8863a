"""Every public function of histograms, and every input it must refuse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Call:
    """A public function, the names of its array arguments, and what else it needs."""

    function: str
    args: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    names: tuple[str, ...] = ("p", "q")

    @property
    def id(self) -> str:
        return "-".join([self.function, *map(str, self.args), *(f"{k}={v}" for k, v in self.options.items())])

    @property
    def pairs(self) -> bool:
        return self.names == ("X", "Y")

    def __call__(self, *arrays: Any, **options: Any) -> Any:
        import otdist

        arrays = arrays[: len(self.names)]
        if self.function == "value_and_grad":
            return otdist.value_and_grad(otdist.kl)(*arrays, **options)
        return getattr(otdist, self.function)(*arrays, *self.args, **{**self.options, **options})


ROWS = [
    Call("tv"),
    Call("hellinger"),
    Call("l2"),
    Call("chi2"),
    Call("chi2", options={"kind": "neyman"}),
    Call("chi2", options={"kind": "symmetric"}),
    Call("kl"),
    Call("js"),
    Call("js_distance"),
    Call("jeffreys"),
    Call("renyi", (0.5,)),
    Call("tsallis", (2.0,)),
    Call("alpha_divergence", (0.5,)),
    Call("bhattacharyya"),
    Call("cross_entropy"),
    Call("entropy", names=("p",)),
    Call("f_divergence", ("kl",)),
]
PAIRS = [
    Call("pairwise", options={"metric": "js"}, names=("X", "Y")),
    Call("nearest", options={"metric": "kl"}, names=("X", "Y")),
]
CALLS = [*ROWS, *PAIRS, Call("value_and_grad")]


def good(*shape: int) -> np.ndarray[Any, Any]:
    """Histograms 1/2, 1/4, 1/8, ... along the last axis, exact in every dtype, each row in another order."""
    k = shape[-1]
    row = 0.5 ** np.minimum(np.arange(1, k + 1), max(k - 1, 0))
    rows = [np.roll(row, i * (i + 1) // 2) for i in range(int(np.prod(shape[:-1])))]
    return np.array(rows, np.float32).reshape(shape)


@dataclass(frozen=True)
class Bad:
    """An input to refuse: `make` gets all good arrays and the position to spoil, and returns what to pass."""

    label: str
    make: Callable[[list[Any], int], list[Any]]
    error: type[Exception] | tuple[type[Exception], ...]
    match: str  # regular expression with {name} for the argument's public name
    options: dict[str, Any] = field(default_factory=dict)
    arity: int = 1  # smallest number of array arguments for which this is wrong
    pairs: bool = True  # whether pairwise and nearest refuse it, too


def _value(value: float) -> Callable[[list[Any], int], list[Any]]:
    def make(arrays: list[Any], i: int) -> list[Any]:
        arrays[i] = arrays[i].copy()
        arrays[i][1, 2] = value
        return arrays

    return make


def _with(change: Callable[[Any], Any], every: Callable[[Any], Any] = lambda a: a) -> Callable[..., list[Any]]:
    def make(arrays: list[Any], i: int) -> list[Any]:
        arrays = [every(a) for a in arrays]
        arrays[i] = change(arrays[i])
        return arrays

    return make


def _torch(a: Any) -> Any:
    import torch

    return torch.tensor(np.asarray(a))


def _jax(a: Any) -> Any:
    import jax

    return jax.numpy.asarray(a)


def _sparse(a: Any) -> Any:
    import scipy.sparse

    return scipy.sparse.csr_array(a)


def _float8(a: Any) -> Any:
    import ml_dtypes

    return a.astype(ml_dtypes.float8_e5m2)


def _empty_row(a: Any) -> Any:
    a = np.zeros_like(a)
    a[1] = -np.inf
    return a


def _no_mass(a: Any) -> Any:
    a = a.copy()
    a[1] = 0
    return a


LOGITS = {"from_logits": True}
BAD_INPUTS = [
    Bad("nan", _value(np.nan), ValueError, r"^{name}: found NaN at index \(1, 2\)"),
    Bad("inf", _value(np.inf), ValueError, r"^{name}: .*inf.* at index \(1, 2\)"),
    Bad("minus inf", _value(-np.inf), ValueError, r"^{name}: .*-inf.* at index \(1, 2\)"),
    Bad("negative", _value(-0.25), ValueError, r"^{name}: found a negative entry, -0\.25 at index \(1, 2\)"),
    Bad("nan, normalised", _value(np.nan), ValueError, r"^{name}: .*NaN", {"normalize": True}),
    Bad("negative, normalised", _value(-0.25), ValueError, r"^{name}: .*negative", {"normalize": True}),
    Bad("nan, measure", _value(np.nan), ValueError, r"^{name}: .*NaN", {"normalize": False}),
    Bad("inf, measure", _value(np.inf), ValueError, r"^{name}: .*inf", {"normalize": False}),
    Bad("negative, measure", _value(-1e-30), ValueError, r"^{name}: .*negative.*-1e-30", {"normalize": False}),
    Bad("nan logit", _value(np.nan), ValueError, r"^{name}: .*NaN at index \(1, 2\)", LOGITS),
    Bad("inf logit", _value(np.inf), ValueError, r"^{name}: .*inf at index \(1, 2\)", LOGITS),
    Bad("empty row of logits", _with(_empty_row), ValueError, r"^{name}: .*-inf.*\(1,?", LOGITS),
    Bad("sums to 2", _with(lambda a: 2 * a), ValueError, r"^{name}: .*sum"),
    Bad("sums to 1.01", _with(lambda a: a * np.float32(1.01)), ValueError, r"^{name}: .*sum"),
    Bad("no mass", _with(_no_mass), ValueError, r"^{name}: .*sum"),
    Bad("no mass, normalised", _with(_no_mass), ValueError, r"^{name}: .*(sum|mass)", {"normalize": True}),
    # pairwise(X, None) is its default
    Bad("none", _with(lambda a: None), TypeError, r"^{name}: found None", pairs=False),
    Bad("complex", _with(lambda a: a + 0j), TypeError, r"^{name}: .*complex"),
    Bad("objects", _with(lambda a: a.astype(object)), TypeError, r"^{name}: .*object"),
    Bad("strings", _with(lambda a: a.astype(str)), TypeError, r"^{name}: .*str"),
    Bad("dates", _with(lambda a: np.zeros(a.shape, "M8[s]")), TypeError, r"^{name}: .*datetime"),
    Bad("records", _with(lambda a: np.zeros(a.shape, [("a", "f8")])), TypeError, r"^{name}: .*void"),
    Bad("masked", _with(np.ma.masked_array), TypeError, r"^{name}: .*masked"),
    Bad("float8", _with(_float8), TypeError, r"^{name}: .*float8"),
    Bad("ragged", _with(lambda a: [[0.5, 0.5], [1.0]]), ValueError, r"^{name}: .*ragged"),
    Bad("sparse", _with(_sparse), TypeError, r"^{name}: .*sparse.*`pairwise`", pairs=False),
    Bad("no axis", _with(lambda a: 1.0), ValueError, r"^{name}: "),
    Bad("no axis, array", _with(lambda a: np.array(1.0)), ValueError, r"^{name}: "),
    Bad("no bins", lambda arrays, i: [a[:, :0] for a in arrays], ValueError, r"\b(p|q|X|Y)\b.*bin"),
    Bad("another number of bins", _with(lambda a: good(3, 5)), ValueError, r"\b{name}\b", arity=2),
    Bad("another batch", _with(lambda a: good(2, 4)), ValueError, r"\b{name}\b", arity=2, pairs=False),
    Bad("two libraries, torch", _with(_torch), TypeError, r"^.*\b{name}\b.*found.*torch", arity=2),
    Bad("two libraries, jax", _with(_jax), TypeError, r"^.*\b{name}\b.*found.*jax", arity=2),
    Bad("meta", _with(lambda a: a.to("meta"), _torch), ValueError, r"\b{name}\b.*found .*\bmeta"),
    Bad("complex tensor", _with(lambda a: a + 0j, _torch), TypeError, r"^{name}: .*complex"),
    Bad("sparse tensor", _with(lambda a: a.to_sparse(), _torch), TypeError, r"^{name}: .*sparse"),
    Bad("graph", _with(lambda a: a.requires_grad_(), _torch), TypeError, r"^{name}: .*{name}\.detach\(\)"),
]
if np.dtype(np.longdouble) != np.float64:
    BAD_INPUTS.append(Bad("long double", _with(lambda a: a.astype(np.longdouble)), TypeError, r"^{name}: .*float"))


@dataclass(frozen=True)
class BadOption:
    """An option value to refuse, and the functions that have the option."""

    option: str
    value: Any
    functions: frozenset[str]
    error: type[Exception] | tuple[type[Exception], ...]
    match: str = ""  # further to the option's name

    @property
    def id(self) -> str:
        return f"{self.option}={self.value!r:.40}"


_ALL = frozenset(call.function for call in CALLS)
_BASE = frozenset({"kl", "js", "js_distance", "jeffreys", "renyi", "bhattacharyya", "cross_entropy", "entropy"})
_AXIS = frozenset(call.function for call in ROWS) | {"value_and_grad"}
_PAIRS = frozenset({"pairwise", "nearest"})
_ALPHA = frozenset({"renyi", "tsallis", "alpha_divergence"})
_EITHER = (TypeError, ValueError)


def _read_only(*shape: int) -> np.ndarray[Any, Any]:
    a = np.zeros(shape, np.float32)
    a.flags.writeable = False
    return a


BAD_OPTIONS = [
    *(BadOption("normalize", value, _ALL, _EITHER) for value in ("yes", "Check", None, 2)),
    BadOption("nonsense", 1, _ALL, TypeError),
    *(BadOption("kind", value, frozenset({"chi2"}), _EITHER) for value in ("x", None)),
    BadOption("kind", "pearsn", frozenset({"chi2"}), ValueError, "pearson"),
    *(BadOption("convention", value, frozenset({"hellinger", "l2", "js"}), _EITHER) for value in ("x", 1)),
    *(BadOption("base", value, _BASE, ValueError) for value in (0, 1, -2, np.nan, np.inf)),
    *(BadOption("base", value, _BASE, _EITHER) for value in ("2", 2j)),
    *(BadOption("alpha", value, _ALPHA, _EITHER) for value in (np.nan, None, "1", 1j)),
    *(BadOption("alpha", value, frozenset({"renyi"}), ValueError) for value in (-0.5, -np.inf)),
    *(BadOption("alpha", value, frozenset({"tsallis"}), ValueError) for value in (0, -1, np.inf)),
    BadOption("alpha", np.inf, frozenset({"alpha_divergence"}), ValueError),
    *(BadOption("axis", value, _AXIS, ValueError) for value in (2, -3)),
    *(BadOption("axis", value, _AXIS, TypeError) for value in (0.5, "0", None, (0, 1))),
    BadOption("f", "no such generator", frozenset({"f_divergence"}), ValueError),
    *(BadOption("f", value, frozenset({"f_divergence"}), TypeError) for value in (3, None)),
    BadOption("metric", "helinger", _PAIRS, ValueError, "hellinger"),
    BadOption("metric", "no such metric", _PAIRS, ValueError),
    *(BadOption("metric", value, _PAIRS, _EITHER) for value in (None, 3)),
    *(BadOption("memory_limit", value, _PAIRS, _EITHER) for value in (0, -1, "1GB", np.nan)),
    *(
        BadOption("out", out, frozenset({"pairwise"}), _EITHER)
        for out in (
            np.zeros((3, 4), np.float32),
            np.zeros(9, np.float32),
            np.zeros((3, 3), np.int64),
            np.zeros((3, 3), np.float64),
            _read_only(3, 3),
            [[0.0] * 3] * 3,
        )
    ),
    *(BadOption("k", value, frozenset({"nearest"}), ValueError) for value in (0, -1, 4)),
    *(BadOption("k", value, frozenset({"nearest"}), TypeError) for value in (1.5, "1", None)),
]
