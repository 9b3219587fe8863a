"""``otdist demo``: handwritten digits, and two classical examples, in one picture."""

import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np

import otdist as od
from otdist._compare import frechet_parts, kernel_distances
from otdist._table import number, show

__all__ = ["run"]

Array = np.ndarray[Any, Any]

_METRICS = ("js", "hellinger", "l2", "tv")
_SIGMA = 2.0


def run(save: str, *, as_json: bool) -> int:
    """Compute, print and draw; returns the exit code."""
    start = time.perf_counter()
    try:
        import matplotlib as _  # noqa: F401
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ValueError(f"{error.name} is missing; pip install 'otdist[demo]'") from error
    path = Path(save)
    if not path.parent.is_dir():
        raise ValueError(f"--save: no such directory, {path.parent}")
    pixels, labels = load_digits(return_X_y=True)
    results: dict[str, Any] = {
        "js": class_histograms(pixels, labels),
        "frechet": class_samples(pixels, labels),
        "tests": class_tests(pixels, labels),
        "accuracy": accuracies(pixels, labels),
        "gaussians": two_gaussians(),
        "segments": parallel_segments(),
    }
    from otdist._picture import draw

    draw(results, path)
    seconds = time.perf_counter() - start
    if as_json:
        plain = {name: _plain(value) for name, value in results.items()}
        print(json.dumps(plain | {"picture": str(path), "seconds": seconds}, allow_nan=False))
        return 0
    _show(results)
    print(f"Picture: {path}  ({seconds:.1f} s)")
    return 0


def class_histograms(pixels: Array, labels: Array) -> Array:
    """Jensen-Shannon divergence between the mean images of the classes, each taken as a histogram over its pixels."""
    means = np.stack([pixels[labels == digit].mean(axis=0) for digit in range(10)])
    return np.asarray(od.pairwise(means, metric="js", normalize=True))


def class_samples(pixels: Array, labels: Array) -> Array:
    """Squared Fréchet distance between Gaussian fits of the classes, each image taken as a sample."""
    classes = [pixels[labels == digit] for digit in range(10)]
    table = np.zeros((10, 10))
    for i in range(10):
        for j in range(i):
            table[i, j] = table[j, i] = frechet_parts(classes[i], classes[j])["squared_distance"]
    return table


def class_tests(pixels: Array, labels: Array) -> dict[str, dict[str, float]]:
    """Kernel distances between samples of images: of two digits, and of one digit in two halves."""
    classes = [pixels[labels == digit] for digit in range(10)]
    pairs = {f"{a} and {b}": (classes[a], classes[b]) for a, b in ((0, 1), (3, 8), (4, 9), (1, 7))}
    halves = {f"half of {a} and the other": (classes[a][::2], classes[a][1::2]) for a in (3, 8)}
    return {name: kernel_distances(x, y) for name, (x, y) in (pairs | halves).items()}


def accuracies(pixels: Array, labels: Array) -> dict[str, float]:
    """Share of images whose nearest neighbour, as histograms over pixels, bears the same digit."""
    test = np.arange(len(labels)) % 4 == 0
    found = {}
    for metric in _METRICS:
        _, nearest = od.nearest(pixels[test], pixels[~test], metric=metric, k=1, normalize=True)
        found[metric] = float(np.mean(labels[~test][np.asarray(nearest)[:, 0]] == labels[test]))
    return found


def two_gaussians() -> dict[str, Array]:
    """KL, JS and the slope of JS between N(0, σ²) and N(mean, σ²), the mean going from 0 to 35.

    Both are handed over as log densities on a grid: in probabilities the far tail would underflow, and KL with it.
    """
    mean = np.arange(0.0, 35.5, 0.5)
    x = np.linspace(-15.0, 50.0, 1301)
    p = np.broadcast_to(-0.5 * (x / _SIGMA) ** 2, (len(mean), len(x)))
    q = -0.5 * ((x - mean[:, None]) / _SIGMA) ** 2
    js, gradient = od.value_and_grad(od.js, argnums=1)(p, q, from_logits=True)
    slope = np.sum(np.asarray(gradient) * (x - mean[:, None]) / _SIGMA**2, axis=-1)
    kl = np.asarray(od.kl(p, q, from_logits=True))
    return {"mean": mean, "kl": kl, "js": np.asarray(js), "js_slope": slope}


def parallel_segments() -> dict[str, Array]:
    """KL, JS and TV between the uniform laws on {0}×(0, 1) and {θ}×(0, 1), on a grid of 11 columns and 8 rows."""
    columns, rows = 11, 8
    segments = np.zeros((columns, columns, rows))
    segments[np.arange(columns), np.arange(columns)] = 1.0 / rows
    moved = segments.reshape(columns, -1)
    theta = np.linspace(0.0, 1.0, columns)
    distances = {name: np.asarray(getattr(od, name)(moved[0], moved)) for name in ("kl", "js", "tv")}
    return {"theta": theta} | distances


def _show(results: dict[str, Any]) -> None:
    digits = [str(digit) for digit in range(10)]
    js, frechet = results["js"], results["frechet"]
    both = [
        [str(i), *(f"{js[i, j]:.3f}" if j < i else f"{frechet[i, j]:.0f}" if j > i else "0" for j in range(10))]
        for i in range(10)
    ]
    show(
        "Digits: below the diagonal JS between mean images, above it squared Fréchet distance between classes",
        ["", *digits],
        both,
    )
    columns = ("energy_distance", "mmd", "p_value")
    show(
        "Digits as samples of images: kernel distances, and the p-value of one distribution for both",
        ["", *columns],
        [[name, *(number(found[column]) for column in columns)] for name, found in results["tests"].items()],
    )
    show(
        "Digits: nearest neighbour among histograms",
        ["metric", "accuracy"],
        [[metric, f"{100 * share:.1f}%"] for metric, share in results["accuracy"].items()],
    )
    curves = results["gaussians"]
    chosen = [int(np.argmin(np.abs(curves["mean"] - mean))) for mean in (0, 1, 2, 5, 10, 20, 35)]
    show(
        f"N(0, {_SIGMA:g}²) and N(mean, {_SIGMA:g}²): KL grows, JS saturates at log 2 = {math.log(2):.6f}",
        ["mean", "kl", "js", "slope of js"],
        [[number(curves[name][i]) for name in ("mean", "kl", "js", "js_slope")] for i in chosen],
    )
    lines = results["segments"]
    show(
        "Parallel segments at distance θ: only θ = 0 is told apart",
        ["θ", "kl", "js", "tv"],
        [[number(lines[name][i]) for name in ("theta", "kl", "js", "tv")] for i in (0, 1, 5, 10)],
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value.tolist()]
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value if not isinstance(value, float) or math.isfinite(value) else str(value)
