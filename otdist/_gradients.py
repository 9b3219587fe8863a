"""Values with their gradients, analytic, in one pass, for arrays of every library."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from typing import Any

from otdist import discrepancy, divergences
from otdist._custom import evaluate_generator
from otdist._evaluate import Options, evaluate
from otdist.catalogue import DIVERGENCES, Generator
from otdist.transport import debiased, entropic, exact, line, sliced

_SHARED = ("axis", "normalize", "from_logits")
# Distances of samples: the module of each, where NAME_estimate(..., wanted=) also returns gradients.
_SAMPLES: dict[str, Any] = {
    "mmd": discrepancy,
    "energy_distance": discrepancy,
    "wasserstein": exact,
    "wasserstein_1d": line,
    "sliced_wasserstein": sliced,
    "sinkhorn_divergence": debiased,
}


def value_and_grad(fun: Callable[..., Any], argnums: int | tuple[int, ...] = 0) -> Callable[..., tuple[Any, Any]]:
    """Make a function that returns a divergence, or a distance of samples, together with its gradient.

    Parameters
    ----------
    fun : callable
        A divergence of otdist: `tv`, `kl`, ..., `entropy`, `f_divergence`; or `mmd`, `energy_distance`, `wasserstein`,
        `wasserstein_1d`, `sliced_wasserstein`, `sinkhorn_divergence`, `emd`, `sinkhorn`.
    argnums : int or tuple of int, default 0
        With respect to which arguments: 0 is p, 1 is q; between samples 0 is x, 1 is y, 2 and 3 are their weights; of
        `emd` and `sinkhorn` 0 is the costs (a pair of gradients if they are a `PointCloud`), 1 is a, 2 is b.

    Returns
    -------
    callable
        ``(p, q, **options) -> (value, gradient)``, or a tuple of gradients if `argnums` is a tuple. A gradient is that
        of ``value.sum()`` and has the shape, library and dtype of its argument; with from_logits=True it is with
        respect to the logits, with normalize=True through the normalisation. It costs one write of that shape beyond
        the value. Where the value is finite but a derivative is infinite (an empty bin), 0 is stated; at bins empty in
        both arguments it is 0.

    Notes
    -----
    Tensors are passed detached, and JAX arrays outside of a trace. Epsilon is held fixed, also where it was chosen by
    default from the arguments: give it, if differences of values are to agree with the gradient.

    Raises
    ------
    TypeError, ValueError
        For a function that is none of these, and as that function does.

    Examples
    --------
    >>> import otdist as od
    >>> value, grad = od.value_and_grad(od.tv)([0.5, 0.5], [0.25, 0.75])
    >>> float(value), grad.tolist()
    (0.25, [0.5, -0.5])
    """
    name = getattr(fun, "__name__", "")
    if name in ("emd", "sinkhorn") and fun in (exact.emd, entropic.sinkhorn):
        return _of_costs(fun, argnums)
    home = _SAMPLES.get(name)
    if home is not None and getattr(home, name) is fun:
        return _of_samples(fun, getattr(home, f"{name}_estimate"), argnums)
    if getattr(divergences, name, None) is not fun or name not in (*DIVERGENCES, "f_divergence"):
        raise TypeError(
            f"fun: found {name or type(fun).__name__}; give a divergence of otdist, e.g. otdist.kl, or otdist.mmd"
        )
    arguments = DIVERGENCES[name].arguments if name in DIVERGENCES else 2
    numbers = _numbers(argnums, arguments)
    wanted = tuple(i in numbers for i in range(arguments))
    signature = inspect.signature(fun)

    def with_gradient(*args: Any, **options: Any) -> tuple[Any, Any]:
        given = signature.bind(*args, **options)
        given.apply_defaults()
        own = dict(given.arguments)
        shared = Options(**{key: own.pop(key) for key in _SHARED})
        arrays = {key: own.pop(key) for key in ("p", "q")[:arguments]}
        if name != "f_divergence":
            value, grads = evaluate(DIVERGENCES[name].plan(**own), arrays, shared, wanted)
        elif isinstance(own["f"], Generator):
            value, grads = evaluate_generator(own["f"], arrays, shared, wanted)
        else:
            kernel, own = divergences.generator_kernel(own["f"])
            value, grads = evaluate(DIVERGENCES[kernel].plan(**own), arrays, shared, wanted)
        by_number = dict(zip(sorted(set(numbers)), grads, strict=True))
        if isinstance(argnums, tuple):
            return value, tuple(by_number[i] for i in _numbers(argnums, arguments))
        return value, grads[0]

    with_gradient.__name__ = f"{name}_with_gradient"
    with_gradient.__doc__ = f"Value and gradient of {name}, see otdist.value_and_grad."
    return with_gradient


def _of_samples(fun: Callable[..., Any], estimate: Callable[..., Any], argnums: Any) -> Callable[..., tuple[Any, Any]]:
    """`value_and_grad` of distances between samples."""
    numbers = _numbers(argnums, 4)
    wanted = tuple(i in numbers for i in range(4))
    signature = inspect.signature(fun)

    def with_gradient(*args: Any, **options: Any) -> tuple[Any, Any]:
        given = signature.bind(*args, **options)
        given.apply_defaults()
        found = estimate(**given.arguments, wanted=wanted)
        door, value = found[0].door, found[0].door.leave(found[1].value)
        grads = tuple(door.leave(found[1].gradients[i]) for i in numbers)
        return value, grads if isinstance(argnums, tuple) else grads[0]

    with_gradient.__name__ = f"{fun.__name__}_with_gradient"
    with_gradient.__doc__ = f"Value and gradient of {fun.__name__}, see otdist.value_and_grad."
    return with_gradient


def _of_costs(fun: Callable[..., Any], argnums: Any) -> Callable[..., tuple[Any, Any]]:
    """`value_and_grad` of solvers: by costs the plan, or a pair of gradients by points; by masses the potentials."""
    numbers = _numbers(argnums, 3)
    signature = inspect.signature(fun)

    def with_gradient(*args: Any, **options: Any) -> tuple[Any, Any]:
        given = signature.bind(*args, **options)
        given.apply_defaults()
        if fun is exact.emd:
            result, basis, answer = exact.emd_estimate(**given.arguments)
            grads = exact.emd_gradients(basis, answer, result, numbers)
        else:
            batch, answers = entropic.sinkhorn_estimate(**given.arguments)
            result = entropic.assembled(batch, answers)
            grads = entropic.sinkhorn_gradients(batch, answers, given.arguments["rho"], numbers)
        return result.value, grads if isinstance(argnums, tuple) else grads[0]

    with_gradient.__name__ = f"{fun.__name__}_with_gradient"
    with_gradient.__doc__ = f"Value and gradient of {fun.__name__}, see otdist.value_and_grad."
    return with_gradient


def _numbers(argnums: Any, arguments: int) -> tuple[int, ...]:
    given = argnums if isinstance(argnums, tuple) else (argnums,)
    numbers = []
    for number in given:
        try:
            index = operator.index(number)
        except TypeError:
            raise TypeError(f"argnums: found {number!r}; give an integer or a tuple of integers") from None
        if isinstance(number, bool) or not -arguments <= index < arguments:
            raise ValueError(f"argnums: found {number!r}; there are {arguments} array arguments")
        numbers.append(index % arguments)
    if not numbers:
        raise ValueError("argnums: found an empty tuple; name at least one argument")
    return tuple(numbers)
