"""``otdist compare``: every distance between two files."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import otdist as od
from otdist._files import load
from otdist._table import number, show

__all__ = ["run"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class _Row:
    """One line of the table: a public function of otdist and how it is called."""

    function: str
    range: str
    meaning: str
    options: tuple[tuple[str, object], ...] = ()
    swap: bool = False


_METRICS = {
    "tv": _Row("tv", "[0, 1]", "largest difference in the probability of any event"),
    "hellinger": _Row("hellinger", "[0, 1]", "distance between square roots of probabilities"),
    "l2": _Row("l2", "[0, √2]", "Euclidean distance between probability vectors"),
    "chi2": _Row("chi2", "[0, inf]", "Pearson: squared error relative to B", (("kind", "pearson"),)),
    "chi2_neyman": _Row("chi2", "[0, inf]", "Neyman: squared error relative to A", (("kind", "neyman"),)),
    "chi2_symmetric": _Row("chi2", "[0, 2]", "squared error relative to A + B", (("kind", "symmetric"),)),
    "kl": _Row("kl", "[0, inf]", "nats lost when B is used to encode A"),
    "kl_reverse": _Row("kl", "[0, inf]", "nats lost when A is used to encode B", swap=True),
    "jeffreys": _Row("jeffreys", "[0, inf]", "kl + kl_reverse"),
    "js": _Row("js", "[0, log 2]", "mean kl to the mixture of A and B"),
    "js_distance": _Row("js_distance", "[0, √(log 2)]", "square root of js, a metric"),
    "bhattacharyya": _Row("bhattacharyya", "[0, inf]", "-log of the overlap Σ √(A·B)"),
    "renyi": _Row("renyi", "[0, inf]", "Rényi divergence of order alpha"),
    "tsallis": _Row("tsallis", "[0, inf]", "Tsallis divergence of order alpha"),
    "alpha_divergence": _Row("alpha_divergence", "[0, inf]", "Amari's divergence of order alpha"),
    "cross_entropy": _Row("cross_entropy", "[0, inf]", "nats per symbol of A encoded for B"),
    "entropy": _Row("entropy", "[0, log k]", "nats per symbol of A encoded for A"),
}
# Rows, of both samples together, that the test looks at: its time grows with their square.
_TESTED = 4000
_ORDERED = ("renyi", "tsallis", "alpha_divergence")


def run(
    a: str, b: str, *, kind: str | None, metrics: Sequence[str], alpha: float, normalize: str, as_json: bool
) -> int:
    """Compare two files and print the answer; returns the exit code."""
    unknown = [name for name in metrics if name not in _METRICS]
    if unknown:
        raise ValueError(f"--metric: found {unknown[0]!r}; choose from {', '.join(_METRICS)}")
    p, q = load(a), load(b)
    reason = "as told by --as"
    if kind is None:
        kind, reason = _guess(p, q)
    head = {"as": kind, "reason": reason, "a": {"file": a, "shape": p.shape}, "b": {"file": b, "shape": q.shape}}
    if kind == "samples":
        if metrics:
            raise ValueError("--metric: chooses among distances of histograms; these are samples")
        body = _samples(p, q)
    else:
        body = _histograms(p, q, list(metrics) or list(_METRICS), alpha=alpha, normalize=normalize)
    if as_json:
        print(json.dumps(_strict(head | body), allow_nan=False, ensure_ascii=False))
        return 0
    print(f"A {a} {p.shape}, B {b} {q.shape}: compared as {kind}, {reason}.")
    if kind == "samples":
        _show_samples(body["frechet"], body["kernels"])
    else:
        print(f"{body['rows']} pair(s) of histograms over {body['bins']} bins; {body['normalize']}.")
        _show_histograms(body["divergences"])
    return 0


def _guess(p: Array, q: Array) -> tuple[str, str]:
    if p.shape == q.shape and p.min() >= 0 and q.min() >= 0:
        if _sums_to_one(p) and _sums_to_one(q):
            return "histograms", "a guess: of one shape, no negative entry, rows that sum to one (--as overrules)"
        if _counts(p) and _counts(q):
            return "histograms", "a guess: of one shape, whole numbers >= 0, taken as counts (--as overrules)"
    if p.ndim == q.ndim == 2 and p.shape[1] == q.shape[1]:
        return "samples", f"a guess: not histograms, and both have {p.shape[1]} columns (--as overrules)"
    raise ValueError(f"A {p.shape} and B {q.shape} may be histograms or samples; say --as histograms or --as samples")


def _sums_to_one(p: Array) -> bool:
    # A file written in single precision stays recognisable after it has been widened by CSV: hence float32's tolerance.
    return bool(np.all(np.abs(p.sum(axis=-1, dtype=np.float64) - 1.0) <= math.sqrt(np.finfo(np.float32).eps)))


def _counts(p: Array) -> bool:
    return bool(np.all(p == np.rint(p)) and np.all(p.sum(axis=-1, dtype=np.float64) > 0))


def _histograms(p: Array, q: Array, names: Sequence[str], *, alpha: float, normalize: str) -> dict[str, Any]:
    if p.shape[-1] != q.shape[-1]:
        raise ValueError(f"A has {p.shape[-1]} bins and B has {q.shape[-1]}; histograms must share their bins")
    try:
        rows = np.broadcast_shapes(p.shape[:-1], q.shape[:-1])
    except ValueError:
        raise ValueError(f"A {p.shape} and B {q.shape}: rows do not pair up; give equal shapes or one row") from None
    mode: object = {"check": "check", "true": True, "false": False}.get(normalize, "check")
    said = {"check": "each sums to one", "true": "each divided by its sum", "false": "taken as unnormalised measures"}
    if normalize == "auto":
        # Rounding in text files passes _sums_to_one and would not pass the library's "check" in float64.
        normalize = "check"
        if _sums_to_one(p) and _sums_to_one(q):
            mode = True
        elif _counts(p) and _counts(q):
            mode, normalize = True, "true"
    p, q = _floating(p), _floating(q)
    divergences = {}
    for name in names:
        row = _METRICS[name]
        options = dict(row.options) | {"normalize": mode} | ({"alpha": alpha} if name in _ORDERED else {})
        arguments = [p] if name == "entropy" else [q, p] if row.swap else [p, q]
        try:
            values = np.broadcast_to(getattr(od, row.function)(*arguments, **options), rows)  # entropy sees A alone
        except ValueError as error:
            raise ValueError(_as_files(str(error), row.swap)) from error
        divergences[name] = _summary(values)
    return {
        "rows": math.prod(rows),
        "bins": p.shape[-1],
        "normalize": said[normalize],
        "alpha": alpha,
        "divergences": divergences,
    }


def _floating(p: Array) -> Array:
    return p if p.dtype.kind == "f" else p.astype(np.float64)


def _as_files(message: str, swap: bool) -> str:
    """The library speaks of p and q, the command line of A and B."""
    for argument, file in (("p", "A"), ("q", "B")):
        if message.startswith(f"{argument}:"):
            return ("B" if file == "A" else "A") + message[1:] if swap else file + message[1:]
    return message


def _summary(values: Array) -> dict[str, float]:
    values = values.astype(np.float64)
    if values.size == 1:
        return {"value": float(values.reshape(()))}
    return {"mean": float(values.mean()), "min": float(values.min()), "max": float(values.max())}


def _show_histograms(divergences: dict[str, dict[str, float]]) -> None:
    fields = list(next(iter(divergences.values())))
    rows = [
        [name, *(number(summary[field]) for field in fields), _METRICS[name].range, _METRICS[name].meaning]
        for name, summary in divergences.items()
    ]
    show("Distances between histograms", ["", *fields, "range", "meaning"], rows)


def _samples(x: Array, y: Array) -> dict[str, Any]:
    x, y = (_floating(a.reshape(-1, 1) if a.ndim == 1 else a) for a in (x, y))
    for name, a in (("A", x), ("B", y)):
        if a.ndim != 2 or a.shape[0] < 2:
            raise ValueError(f"{name}: found shape {a.shape}; samples are rows, at least two, of a 2-D array")
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"A has {x.shape[1]} columns and B has {y.shape[1]}; samples must live in one space")
    return {"frechet": frechet_parts(x, y), "kernels": kernel_distances(x, y)}


def kernel_distances(x: Array, y: Array) -> dict[str, float]:
    """Energy distance, MMD² with the Gaussian kernel of the median bandwidth, and the p-value of the MMD's test.

    Of large samples the test takes evenly spaced rows, _TESTED of both together.
    """
    share = min(1.0, _TESTED / (len(x) + len(y)))
    few = [a[np.linspace(0, len(a) - 1, max(2, round(share * len(a)))).astype(int)] for a in (x, y)]
    result = od.mmd_test(*few, rng=0)
    return {
        "energy_distance": float(od.energy_distance(x, y)),
        "mmd": float(od.mmd(x, y)),
        "p_value": result.p_value,
        "permutations": result.permutations,
        "tested_a": result.n,
        "tested_b": result.m,
    }


def frechet_parts(x: Array, y: Array) -> dict[str, float]:
    """Squared Fréchet distance between Gaussian fits, and what means and covariances contribute."""
    shift = float(np.sum((x.mean(axis=0, dtype=np.float64) - y.mean(axis=0, dtype=np.float64)) ** 2))
    centred = [a - a.mean(axis=0, dtype=np.float64) for a in (x, y)]
    spread = float(od.gaussian.frechet_distance(*centred))
    return {"squared_distance": shift + spread, "mean_part": shift, "covariance_part": spread}


def _show_samples(parts: dict[str, float], kernels: dict[str, float]) -> None:
    tested = f"{kernels['tested_a']:g} and {kernels['tested_b']:g} rows, {kernels['permutations']:g} relabellings"
    meanings = {
        "energy_distance": "2 E‖x−y‖ − E‖x−x′‖ − E‖y−y′‖",
        "mmd": "squared maximum mean discrepancy, Gaussian kernel, median bandwidth",
        "p_value": f"of the MMD if A and B were one distribution ({tested})",
        "squared_distance": "squared Fréchet (2-Wasserstein) distance between Gaussian fits",
        "mean_part": "squared distance between the means",
        "covariance_part": "what the covariances add",
    }
    values = kernels | parts
    show(
        "Distances between samples",
        ["", "value", "meaning"],
        [[name, number(values[name]), meaning] for name, meaning in meanings.items()],
    )


def _strict(value: Any) -> Any:
    """Replace what JSON cannot hold: inf, -inf and nan become strings."""
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
