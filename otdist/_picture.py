"""The picture of ``otdist demo``: four panels in one PNG."""

import math
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["draw"]

_BLUE, _RED, _GREEN, _GREY = "#2b6cb0", "#c53030", "#2f855a", "#4a5568"


def draw(results: dict[str, Any], path: Path) -> None:
    """Write the four panels to ``path``; no display is needed and no global setting of matplotlib is touched."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {"font.size": 10, "axes.titlesize": 11}
    style |= {"axes.spines.top": False, "axes.spines.right": False}
    with mpl.rc_context(style):
        figure: Any = Figure(figsize=(13, 10.5), dpi=120, layout="constrained")
        FigureCanvasAgg(figure)
        # One subfigure per row: the colour bars of the first row must not narrow the second.
        upper, lower = figure.subfigures(2, 1)
        left, right = upper.subplots(1, 2, width_ratios=(1.6, 1))
        _classes(upper, left, results["js"], results["frechet"])
        _accuracy(right, results["accuracy"])
        left, right = lower.subplots(1, 2)
        _gaussians(left, results["gaussians"])
        _segments(right, results["segments"])
        figure.savefig(path, format="png")


def _classes(figure: Any, axes: Any, js: Any, frechet: Any) -> None:
    n = len(js)
    lower, upper = np.tril(np.ones((n, n), bool), -1), np.triu(np.ones((n, n), bool), 1)
    for mask, table, colours, label, digits in (
        (lower, js, "Blues", "JS between mean images (below the diagonal)", 2),
        (upper, frechet, "Oranges", "squared Fréchet distance (above the diagonal)", 0),
    ):
        shown = np.ma.array(table, mask=~mask)
        image = axes.imshow(shown, cmap=colours, vmin=0)
        figure.colorbar(image, ax=axes, shrink=0.8, label=label, pad=0.02)
        for i, j in np.argwhere(mask):
            dark = table[i, j] > 0.55 * shown.max()
            text = f"{table[i, j]:.{digits}f}".removeprefix("0" if digits else "")
            axes.text(j, i, text, ha="center", va="center", fontsize=8, color="white" if dark else "black")
    axes.set(xticks=range(n), yticks=range(n), xlabel="digit", ylabel="digit", title="How far apart are the digits?")


def _accuracy(axes: Any, accuracy: dict[str, float]) -> None:
    names = list(accuracy)
    bars = axes.barh(names[::-1], [100 * accuracy[name] for name in names[::-1]], color=_BLUE, height=0.6)
    axes.bar_label(bars, fmt="%.1f %%", padding=4)
    low = math.floor(100 * min(accuracy.values()) - 2)
    axes.set(xlim=(max(0, low), 100), xlabel=f"accuracy in per cent (the axis starts at {max(0, low)})")
    axes.set_title("Nearest neighbour among digits as histograms")


def _gaussians(axes: Any, curves: dict[str, Any]) -> None:
    mean = curves["mean"]
    axes.plot(mean, curves["js"], color=_BLUE, lw=2, label="JS")
    axes.plot(mean, np.abs(curves["js_slope"]), color=_GREEN, lw=2, ls="--", label="|slope of JS|")
    axes.axhline(math.log(2), color=_GREY, lw=1, ls=":")
    axes.text(20, math.log(2), "log 2", ha="center", va="bottom", color=_GREY)
    axes.set(xlabel="mean of q", ylabel="JS and its slope", ylim=(0, 0.85), title="Two Gaussians that part")
    right = axes.twinx()
    right.spines["right"].set_visible(True)
    right.plot(mean, curves["kl"], color=_RED, lw=2, label="KL (right axis)")
    right.set(ylabel="KL", ylim=(0, None))
    lines = [*axes.get_lines()[:2], *right.get_lines()]
    axes.legend(handles=lines, loc="center left", bbox_to_anchor=(0.3, 0.55), frameon=False)


def _segments(axes: Any, curves: dict[str, Any]) -> None:
    theta = curves["theta"]
    for name, colour, label in (("tv", _GREEN, "TV = 1"), ("js", _BLUE, "JS = log 2")):
        axes.plot(theta[1:], curves[name][1:], "o-", color=colour, lw=2, label=label)
        axes.plot(theta[:1], curves[name][:1], "o", color=colour)
    infinite = theta[np.isinf(curves["kl"])]
    axes.plot(infinite, np.full(len(infinite), 1.25), "^", color=_RED, label="KL = +inf (off the scale)")
    axes.plot(theta, theta, color=_GREY, lw=1, ls=":", label="the distance θ itself")
    axes.set(xlabel="distance θ between the segments", ylim=(-0.05, 1.4))
    axes.set_title("Parallel segments: how far is not seen")
    axes.legend(loc="lower right", frameon=False)
