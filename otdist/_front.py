"""What the front doors of divergences share: their options, the words for them, and the one call down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

from otdist._evaluate import Options, evaluate
from otdist.catalogue import DIVERGENCES

F = TypeVar("F", bound=Callable[..., Any])
Normalize = Literal["check"] | bool

_SHARED = {
    "arrays": """Parameters
    ----------
    p, q : array_like, shape (..., k)
        Histograms of k bins, of any supported array library; batch dimensions broadcast.""",
    "one": """Parameters
    ----------
    p : array_like, shape (..., k)
        Histograms of k bins, of any supported array library.""",
    "base": """base : float, optional
        Base of the logarithm (2: bits). Natural by default.""",
    "options": """axis : int, default -1
        The axis of the bins.
    normalize : {"check", True, False}, default "check"
        "check": each histogram must sum to 1 within the square root of its dtype's epsilon. True: divide by the sum
        first. False: unnormalised measures, see Notes.
    from_logits : bool, default False
        Take softmax of the arguments along `axis`, in log space: nothing underflows; -inf is an empty bin.""",
    "returns": """Returns
    -------
    array, shape (...)
        In the library, dtype and device of the arguments (half precisions are computed in float32). Cost O(k) per
        histogram, one pass, no temporary arrays.

    Raises
    ------
    ValueError, TypeError
        Naming the argument: NaN, infinite or negative entries, sums that are not 1, shapes, dtypes, devices.""",
}


def documented(function: F) -> F:
    """Write the shared sections of a docstring where it names them."""
    if function.__doc__:
        for key, text in _SHARED.items():
            function.__doc__ = function.__doc__.replace(f"<{key}>", text)
    return function


def value(name: str, arrays: dict[str, Any], options: Options, **own: Any) -> Any:
    """The divergence called `name`, with its own options, of these arrays."""
    return evaluate(DIVERGENCES[name].plan(**own), arrays, options)[0]
