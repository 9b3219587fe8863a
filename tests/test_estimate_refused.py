"""What the estimates from samples refuse."""

import math

import numpy as np
import pytest

from otdist import estimate
from tests.test_estimate import clouds, every

X, Y = clouds(25, 30, 40, 2)
BAD = [
    ((X[:, 0], Y[:, 0]), {}, ValueError, r"^x: found shape \(30,\).*pass x\[:, None\]"),
    ((X, Y[:, 0]), {}, ValueError, r"^y: found shape \(40,\).*pass y\[:, None\]"),
    ((X, Y[:, :1]), {}, ValueError, r"^x and y: found 2 and 1 coordinates"),
    ((X[:0], Y), {}, ValueError, r"^x: found shape \(0, 2\)"),
    ((X, Y[:, :0]), {}, ValueError, r"^y: found shape \(40, 0\)"),
    ((1.0, Y), {}, ValueError, r"^x: found shape \(\)"),
    ((np.where(X[3, 1] == X, np.nan, X), Y), {}, ValueError, r"^x: found nan at index \(3, 1\)"),
    ((X, np.where(Y[4, 0] == Y, np.inf, Y)), {}, ValueError, r"^y: found inf at index \(4, 0\)"),
    ((X + 1j, Y), {}, TypeError, r"^x: found dtype complex128"),
    ((X, None), {}, TypeError, r"^y: found None"),
    ((np.stack([X] * 2), np.stack([Y] * 3)), {}, ValueError, r"^x and y: found batch shapes"),
    ((X, Y), {"method": "kn"}, ValueError, r"^method: found 'kn'.*did you mean 'knn'"),
    ((X, Y), {"k": 0}, ValueError, r"^k: found 0"),
    ((X, Y), {"k": 2.5}, TypeError, r"^k: found 2.5"),
    ((X, Y), {"k": True}, TypeError, r"^k: found True"),
    ((X, Y), {"k": 30}, ValueError, r"^x: found 30 points for k = 30"),
    ((X, Y[:3]), {}, ValueError, r"points.* k = 5; pass more points or a smaller k"),
    ((X, Y), {"bins": 5}, ValueError, r"^bins: found 5 with method='knn'.*leave it out"),
    ((X, Y), {"pseudocount": 0.1}, ValueError, r"^pseudocount: found 0.1 with method='knn'"),
    ((X, Y), {"method": "histogram", "k": 3}, ValueError, r"^k: found 3 with method='histogram'"),
    ((X, Y), {"method": "histogram", "bins": "df"}, ValueError, r"^bins: found 'df'"),
    ((X, Y), {"method": "histogram", "bins": 0}, ValueError, r"^bins: found 0"),
    ((X, Y), {"method": "histogram", "bins": 2.5}, ValueError, r"^bins: found float"),
    ((X, Y), {"method": "histogram", "bins": True}, TypeError, r"^bins: found True"),
    ((X, Y), {"method": "histogram", "bins": [3, 3, 3]}, ValueError, r"^bins: found list of length 3 for d = 2"),
    ((X, Y), {"method": "histogram", "bins": [3, 2.5]}, TypeError, r"^bins: found 2.5"),
    ((X, Y), {"method": "histogram", "bins": [3, [0.0, 1.0]]}, ValueError, r"^bins: found edges from 0 to 1 along co"),
    ((X, Y), {"method": "histogram", "bins": [3, [1.0, 0.0]]}, ValueError, r"^bins: found edges .* increasing"),
    ((X, Y), {"method": "histogram", "pseudocount": -1}, ValueError, r"^pseudocount: found -1"),
    ((X, Y), {"method": "histogram", "pseudocount": "a"}, TypeError, r"^pseudocount: found str"),
    (
        (np.zeros((9, 4)), np.zeros((9, 4))),
        {"method": "histogram"},
        ValueError,
        r"^method: found 'histogram' for d = 4",
    ),
    ((X[:2], Y), {"method": "gaussian"}, ValueError, r"^x: found 2 points of 2 coordinates"),
    ((X, Y), {"base": 1}, ValueError, r"^base: found 1"),
]


@every
@pytest.mark.parametrize(("arrays", "options", "error", "message"), BAD)
def test_bad_input(arrays, options, error, message, divergence):
    if divergence is estimate.js and options.get("method") == "gaussian":
        message = r"^method: found 'gaussian' for d = 2"
    with pytest.raises(error, match=message):
        divergence(*arrays, **options)


def test_bad_input_of_one_function():
    x = np.zeros((30, 1))
    x[0] = 1.0
    with pytest.raises(ValueError, match=r"^bins: found an interquartile range that is 0 of the range.*'fd'"):
        estimate.kl(x, np.zeros((9, 1)), method="histogram")
    for alpha, error in [(0, ValueError), (-1, ValueError), (math.inf, ValueError), (math.nan, ValueError)]:
        with pytest.raises(error, match=r"^alpha: found"):
            estimate.renyi(X, Y, alpha)
    with pytest.raises(TypeError, match=r"^alpha: found str"):
        estimate.renyi(X, Y, "2")
    with pytest.raises(ValueError, match=r"^k: found 2 for alpha = 3.5; the estimate needs k > \|alpha - 1\|"):
        estimate.renyi(X, Y, 3.5, k=2)
    assert estimate.renyi(X, Y, 4.5) == estimate.renyi(X, Y, 4.5, k=8)  # 2 |alpha - 1| = 7
    with pytest.raises(
        ValueError, match=r"^x: found 30 points, in parts of 6 as the other sample is smaller, for k = 6"
    ):
        estimate.js(X, Y[:7], k=6)
