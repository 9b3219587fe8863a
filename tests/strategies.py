"""Hypothesis strategies for pairs of histograms and measures: zeros, near-duplicates, wide ranges."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.cases import unit

EXPONENTS = {"float64": (-280, 0), "float32": (-34, 0)}


def _weights(dtype: str, k: int) -> Any:
    """k weights, at least one of them of order one; some zero, some tiny."""
    plain = st.integers(1, 1000).map(lambda n: n / 1000)
    low, high = EXPONENTS[dtype]
    wide = st.integers(low, high).map(lambda n: 10.0**n)
    entry = st.one_of(plain, plain, st.just(0.0), wide)
    return st.tuples(st.lists(entry, min_size=k, max_size=k), st.integers(0, k - 1), plain).map(
        lambda t: np.array([t[2] if i == t[1] else w for i, w in enumerate(t[0])])
    )


@st.composite
def histograms(draw: Any, dtype: str, count: int = 2, max_bins: int = 9) -> list[Any]:
    """``count`` histograms over the same bins; each later one may be near the first, equal to it, or apart."""
    k = draw(st.integers(1, max_bins))
    first = draw(_weights(dtype, k))
    out = [unit(first, dtype)]
    for _ in range(count - 1):
        how = draw(st.sampled_from(["apart", "apart", "near", "equal"]))
        if how == "equal":
            out.append(out[0].copy())
        elif how == "near":
            e = 10.0 ** -draw(st.integers(1, 7))
            tilt = np.array(draw(st.lists(st.sampled_from([-1, 0, 1]), min_size=k, max_size=k)))
            out.append(unit(out[0].astype(np.float64) * (1 + e * tilt), dtype))
        else:
            out.append(unit(draw(_weights(dtype, k)), dtype))
    return out


@st.composite
def measures(draw: Any, dtype: str, count: int = 2, max_bins: int = 9) -> list[Any]:
    """As ``histograms``, each times a mass of its own between 1e-3 and 1e3."""
    masses = st.integers(-3, 3).map(lambda n: 10.0**n)
    return [(h * draw(masses)).astype(dtype) for h in draw(histograms(dtype, count, max_bins))]
