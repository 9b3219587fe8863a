"""Every bad input x every public function: refused, naming the argument."""

import re

import numpy as np
import pytest

from tests.bad_inputs import BAD_INPUTS, BAD_OPTIONS, CALLS, good

jax = pytest.importorskip("jax")
pytest.importorskip("torch")
pytest.importorskip("ml_dtypes")

CASES = [
    pytest.param(call, bad, i, id=f"{call.id}-{call.names[i]}-{bad.label}")
    for call in CALLS
    for bad in BAD_INPUTS
    if len(call.names) >= bad.arity and (bad.pairs or not call.pairs)
    for i in range(len(call.names))
]


@pytest.mark.parametrize(("call", "bad", "i"), CASES)
def test_bad_input(call, bad, i):
    arrays = bad.make([good(3, 4) for _ in call.names], i)
    with pytest.raises(bad.error, match=bad.match.replace("{name}", call.names[i])):
        call(*arrays, **bad.options)


OPTION_CASES = [
    pytest.param(call, bad, id=f"{call.id}-{bad.id}")
    for bad in BAD_OPTIONS
    for call in CALLS
    if call.function in bad.functions
]


@pytest.mark.parametrize(("call", "bad"), OPTION_CASES)
def test_bad_option(call, bad):
    if bad.option in ("alpha", "f"):  # given by position
        call = type(call)(call.function, (), call.options, call.names)
    with pytest.raises(bad.error, match=rf"\b{bad.option}\b") as caught:
        call(good(3, 4), good(3, 4), **{bad.option: bad.value})
    assert re.search(bad.match, str(caught.value))


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.id)
def test_jax_tracers(call):
    def traced(p):
        with pytest.raises(TypeError, match=rf"^{call.names[0]}: found a JAX tracer"):
            call(p, good(3, 4).tolist())
        return p.sum()

    p = jax.numpy.asarray(good(3, 4))
    jax.jit(traced)(p)
    jax.grad(traced)(p)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.id)
def test_too_few_arrays(call):
    if call.function != "pairwise":  # Y=None is X
        with pytest.raises(TypeError):
            call(*[good(3, 4)] * (len(call.names) - 1))


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.id)
@pytest.mark.parametrize("i", [0, 1])
def test_what_looks_bad_and_is_not(call, i):
    """A zero of either sign, an integer histogram, logits of -inf, and sums within the tolerance of float32."""
    p = good(3, 4).copy()
    with_zero = p.copy()
    with_zero[1] = [0.5, -0.0, 0.25, 0.25]
    logits = p.copy()
    logits[1, 2] = -np.inf
    for x, options in (
        (with_zero, {}),
        (np.eye(3, 4, dtype=np.int64), {}),
        (np.eye(3, 4, dtype=bool), {}),
        (logits, {"from_logits": True}),
        (p * np.float32(1 + 1e-4), {}),
        (p * 7, {"normalize": True}),
        (np.zeros((3, 4)), {"normalize": False}),
    ):
        arrays = [p, p]
        arrays[i] = x
        results = call(*arrays, **options)
        for result in results if isinstance(results, tuple) else (results,):
            assert not np.any(np.isnan(result))
