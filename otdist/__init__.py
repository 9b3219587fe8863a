"""Distances between distributions.

>>> import otdist as od
>>> round(float(od.tv([0.5, 0.5], [0.25, 0.75])), 4)
0.25

Public names are loaded when they are first used, so that ``import otdist`` costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_DIVERGENCES = (
    *("tv", "hellinger", "l2", "chi2", "kl", "js", "js_distance", "jeffreys"),
    *("renyi", "tsallis", "alpha_divergence", "bhattacharyya", "cross_entropy", "entropy", "f_divergence"),
)
_KERNELS = (
    *("Gaussian", "Laplacian", "IMQ", "RationalQuadratic", "Matern", "Polynomial", "Linear", "Energy", "Constant"),
)
_SAMPLES = ("KID", "energy_distance", "kid", "mmd", "witness")
_HOMES = (
    dict.fromkeys(_DIVERGENCES, "otdist.divergences")
    | dict.fromkeys(_KERNELS, "otdist.rkhs")
    | dict.fromkeys(_SAMPLES, "otdist.discrepancy")
    | {
        "deferred_checks": "otdist.kernels.device",
        "Generator": "otdist.catalogue",
        "TestResult": "otdist._results",
        "energy_test": "otdist.twosample",
        "mmd_test": "otdist.twosample",
        "pairwise": "otdist._pairwise",
        "nearest": "otdist._pairwise",
        "value_and_grad": "otdist._gradients",
        "ConvergenceWarning": "otdist._results",
        "Transport": "otdist._results",
        "CostMatrix": "otdist.transport.geometry",
        "Grid": "otdist.transport.grid",
        "PointCloud": "otdist.transport.geometry",
        "emd": "otdist.transport.exact",
        "epsilon_from": "otdist.transport.epsilon",
        "sinkhorn": "otdist.transport.entropic",
        "sinkhorn_divergence": "otdist.transport.debiased",
        "linear_sum_assignment": "otdist.transport.matching",
        "max_sliced_wasserstein": "otdist.transport.max_sliced",
        "sliced_wasserstein": "otdist.transport.sliced",
        "wasserstein": "otdist.transport.exact",
        "wasserstein_1d": "otdist.transport.line",
    }
)
_MODULES = ("estimate", "features", "gaussian")

__all__ = [
    "IMQ",
    "KID",
    "Constant",
    "ConvergenceWarning",
    "CostMatrix",
    "Energy",
    "Gaussian",
    "Generator",
    "Grid",
    "Laplacian",
    "Linear",
    "Matern",
    "PointCloud",
    "Polynomial",
    "RationalQuadratic",
    "TestResult",
    "Transport",
    "__version__",
    "alpha_divergence",
    "bhattacharyya",
    "chi2",
    "cross_entropy",
    "deferred_checks",
    "emd",
    "energy_distance",
    "energy_test",
    "entropy",
    "epsilon_from",
    "estimate",
    "f_divergence",
    "features",
    "gaussian",
    "hellinger",
    "jeffreys",
    "js",
    "js_distance",
    "kid",
    "kl",
    "l2",
    "linear_sum_assignment",
    "max_sliced_wasserstein",
    "mmd",
    "mmd_test",
    "nearest",
    "pairwise",
    "renyi",
    "sinkhorn",
    "sinkhorn_divergence",
    "sliced_wasserstein",
    "tsallis",
    "tv",
    "value_and_grad",
    "wasserstein",
    "wasserstein_1d",
    "witness",
]

if TYPE_CHECKING:
    from otdist import estimate, features, gaussian
    from otdist._gradients import value_and_grad
    from otdist._pairwise import nearest, pairwise
    from otdist._results import ConvergenceWarning, TestResult, Transport
    from otdist.catalogue import Generator
    from otdist.discrepancy import KID, energy_distance, kid, mmd, witness
    from otdist.divergences import (
        alpha_divergence,
        bhattacharyya,
        chi2,
        cross_entropy,
        entropy,
        f_divergence,
        hellinger,
        jeffreys,
        js,
        js_distance,
        kl,
        l2,
        renyi,
        tsallis,
        tv,
    )
    from otdist.kernels.device import deferred_checks
    from otdist.rkhs import IMQ, Constant, Energy, Gaussian, Laplacian, Linear, Matern, Polynomial, RationalQuadratic
    from otdist.transport.debiased import sinkhorn_divergence
    from otdist.transport.entropic import sinkhorn
    from otdist.transport.epsilon import epsilon_from
    from otdist.transport.exact import emd, wasserstein
    from otdist.transport.geometry import CostMatrix, PointCloud
    from otdist.transport.grid import Grid
    from otdist.transport.line import wasserstein_1d
    from otdist.transport.matching import linear_sum_assignment
    from otdist.transport.max_sliced import max_sliced_wasserstein
    from otdist.transport.sliced import sliced_wasserstein
    from otdist.twosample import energy_test, mmd_test


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"otdist.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'otdist' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
