"""Random Gaussians, and the functions of two of them."""

import numpy as np

from otdist import gaussian

PAIRS = [gaussian.kl, gaussian.bhattacharyya, gaussian.hellinger, gaussian.w2]
INVARIANT = [
    gaussian.kl,
    gaussian.bhattacharyya,
    gaussian.hellinger,
    *(lambda *g, a=a: gaussian.renyi(*g, a) for a in (0.2, 0.7, 1.3)),
]


def covariance(rng, d, condition=10.0):
    Q = np.linalg.qr(rng.normal(size=(d, d)))[0]
    S = (Q * np.geomspace(1, condition, d)) @ Q.T
    return (S + S.T) / 2


def normal(rng, d, condition=10.0):
    return rng.normal(size=d), covariance(rng, d, condition)
