"""Every public function x every library, dtype, layout and shape: the same answer, given back as it was asked."""

import numpy as np
import pytest

import otdist as od
from tests.bad_inputs import CALLS, PAIRS, ROWS, good

torch = pytest.importorskip("torch")
jax = pytest.importorskip("jax")
ml_dtypes = pytest.importorskip("ml_dtypes")

DTYPES = ["float16", "bfloat16", "float32", "float64"]
TOLERANCE = {"float16": 2.0**-9, "bfloat16": 2.0**-6, "float32": 4e-6, "float64": 2e-13}
every_call = pytest.mark.parametrize("call", CALLS, ids=lambda call: call.id)
every_row = pytest.mark.parametrize("call", ROWS, ids=lambda call: call.id)


def convert(library, a, dtype):
    if library == "torch":
        return torch.tensor(np.asarray(a, np.float64), dtype=getattr(torch, dtype))
    if library == "jax":
        return jax.device_put(jax.numpy.asarray(a, dtype=dtype), jax.devices()[0])
    return np.asarray(a, dtype=ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)


def as_tuple(result):
    return result if isinstance(result, tuple) else (result,)


def float64(a):
    return np.asarray(a.double() if isinstance(a, torch.Tensor) else a, np.float64)


def reference(call, p, q, **options):
    return as_tuple(call(np.asarray(p, np.float64), np.asarray(q, np.float64), **options))


def p_and_q():
    """Without repeated rows, so that the nearest row is the same at every precision."""
    return good(3, 5), good(4, 5)[[2, 0, 1]]


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("dtype", DTYPES)
@every_call
def test_same_library_dtype_and_device_out(library, dtype, call):
    with jax.enable_x64(True):
        p, q = p_and_q()
        x = convert(library, p, dtype)
        results = as_tuple(call(x, convert(library, q, dtype)))
        for i, (result, expected) in enumerate(zip(results, reference(call, p, q), strict=True)):
            assert isinstance(result, {"numpy": np.ndarray, "torch": torch.Tensor, "jax": jax.Array}[library])
            indices = call.function == "nearest" and i == 1
            assert str(result.dtype).removeprefix("torch.") == ("int64" if indices else dtype)
            assert result.shape == expected.shape
            if library != "numpy":
                assert result.device == x.device
            if library == "jax":
                assert result.committed
            np.testing.assert_allclose(float64(result), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@every_call
def test_libraries_agree_to_the_bit(dtype, call):
    with jax.enable_x64(True):
        p, q = p_and_q()
        one, two, three = (
            as_tuple(call(convert(library, p, dtype), convert(library, q, dtype)))
            for library in ("numpy", "torch", "jax")
        )
        for a, b, c in zip(one, two, three, strict=True):
            np.testing.assert_array_equal(float64(a), float64(b))
            np.testing.assert_array_equal(float64(a), float64(c))


@pytest.mark.parametrize("options", [{}, {"normalize": True}, {"normalize": False}, {"from_logits": True}], ids=str)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
@every_call
def test_inputs_are_never_modified(tmp_path, call, options, dtype):
    arrays = [np.ascontiguousarray(a).astype(dtype) for a in p_and_q()]
    if dtype is np.int64:
        arrays = [np.eye(3, 5, dtype=dtype), np.eye(3, 5, 1, dtype=dtype)]
    before = [a.tobytes() for a in arrays]
    results = as_tuple(call(*arrays, **options))
    assert [a.tobytes() for a in arrays] == before
    maps = []
    for name, a in zip("pq", arrays, strict=True):
        np.save(tmp_path / f"{name}.npy", a)
        maps.append(np.load(tmp_path / f"{name}.npy", mmap_mode="r"))
    for result, mapped in zip(results, as_tuple(call(*maps, **options)), strict=True):
        np.testing.assert_array_equal(result, mapped)
    assert [a.tobytes() for a in maps] == before


@pytest.mark.parametrize("library", ["torch", "jax"])
@every_call
def test_inputs_are_never_modified_elsewhere(library, call):
    arrays = [convert(library, a, "float32") for a in p_and_q()]
    for options in ({"normalize": True}, {"from_logits": True}):
        for result in as_tuple(call(*arrays, **options)):
            if library == "torch":
                result.zero_()
    for x, a in zip(arrays, p_and_q(), strict=True):
        np.testing.assert_array_equal(np.asarray(x), a)


@every_call
def test_results_are_the_callers_own(call):
    p, q = p_and_q()
    for result in as_tuple(call(p, q)):
        assert result.flags.writeable
        assert not np.shares_memory(result, p)
        assert not np.shares_memory(result, q)


LAYOUTS = {
    "fortran": np.asfortranarray,
    "reversed": lambda a: np.ascontiguousarray(a[::-1, ::-1])[::-1, ::-1],
    "strided": lambda a: np.repeat(np.repeat(a, 2, 0), 3, 1)[::2, ::3],
    "swapped": lambda a: a.astype(a.dtype.newbyteorder()),
    "unaligned": lambda a: np.frombuffer(b"\0" + a.tobytes(), np.uint8)[1:].view(a.dtype).reshape(a.shape),
    "nested list": lambda a: a.tolist(),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@every_call
def test_memory_layout_does_not_matter(layout, dtype, call):
    p, q = (np.ascontiguousarray(a).astype(dtype) for a in p_and_q())
    for expected, result in zip(
        as_tuple(call(p, q)), as_tuple(call(LAYOUTS[layout](p), LAYOUTS[layout](q))), strict=True
    ):
        tolerance = TOLERANCE[np.dtype(dtype).name]
        np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("left", "right"), [((3, 1), (2,)), ((), (3, 2)), ((1, 2), (3, 1)), ((2,), ()), ((), ())])
@every_row
def test_batches_broadcast(call, left, right):
    p, q = good(*left, 4), good(*right, 4)[..., ::-1]
    result = call(p, q)
    both = (np.broadcast_to(a, np.broadcast_shapes(p.shape, q.shape)) for a in (p, q))
    expected = [call(a, b) for a, b in zip(*(b.reshape(-1, 4) for b in both), strict=True)]
    shape = left if call.names == ("p",) else np.broadcast_shapes(left, right)
    assert np.shape(result) == shape
    assert isinstance(result, np.ndarray if shape else np.float32)
    np.testing.assert_allclose(np.broadcast_to(result, np.broadcast_shapes(left, right)).ravel(), expected, rtol=4e-6)


@every_row
@pytest.mark.parametrize("options", [{}, {"normalize": True}, {"from_logits": True}], ids=str)
def test_axis(call, options):
    p, q = good(2, 3, 4), good(2, 3, 4)[::-1, ::-1, ::-1]
    expected = call(p, q, **options)
    for axis in (0, 1, 2, -1, -2, -3, np.int64(1)):
        result = call(np.moveaxis(p, -1, axis), np.moveaxis(q, -1, axis), axis=axis, **options)
        np.testing.assert_allclose(result, expected, rtol=4e-6, atol=4e-7)


def test_axis_of_a_gradient():
    p, q = good(2, 4), good(2, 4)[:, ::-1]
    expected = od.value_and_grad(od.kl)(p, q)
    result = od.value_and_grad(od.kl)(p.T, q.T, axis=0)
    np.testing.assert_allclose(result[0], expected[0], rtol=4e-6)
    np.testing.assert_allclose(result[1], expected[1].T, rtol=4e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("k", [1, 2, 3, 7, 17, 1023, 10_007])
@every_row
def test_any_number_of_bins(call, k, dtype):
    """Splitting a histogram over bins that are empty in both changes nothing."""
    p, q = good(3, 4).astype(dtype), good(3, 4)[:, ::-1].astype(dtype)
    if k == 1:
        ones = call(np.ones((2, 1), dtype), np.ones((2, 1), dtype))
        np.testing.assert_allclose(ones, [0, 0], atol=TOLERANCE[np.dtype(dtype).name])
        return
    k = max(k, 4)
    spread = np.linspace(0, k - 1, 4).astype(int)
    wide_p, wide_q = np.zeros((3, k), dtype), np.zeros((3, k), dtype)
    wide_p[:, spread], wide_q[:, spread] = p, q
    tolerance = TOLERANCE[np.dtype(dtype).name]
    np.testing.assert_allclose(call(wide_p, wide_q), call(p, q), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("options", [{}, {"normalize": True}, {"from_logits": True}], ids=str)
@every_row
def test_empty_batches(call, library, options):
    for shape in ((0,), (2, 0), (0, 3)):
        x = convert(library, np.ones((*shape, 4)), "float32")
        result = call(x, x, **options)
        assert result.shape == shape
        assert result.dtype == x.dtype


@pytest.mark.parametrize("call", PAIRS, ids=lambda call: call.id)
def test_empty_batches_of_pairs(call):
    some, none = good(3, 4), good(3, 4)[:0]
    m = 3 if call.function == "pairwise" else 1
    for result in as_tuple(call(none, some)):
        assert result.shape == (0, m)
    batched = as_tuple(call(good(2, 3, 4)[:0], good(2, 3, 4)[:0]))
    assert all(result.shape == (0, 3, m) for result in batched)


def test_pairwise_writes_to_out():
    p, q = p_and_q()
    out = np.full((3, 3), np.nan, np.float32)
    assert od.pairwise(p, q, metric="js", out=out) is out
    np.testing.assert_array_equal(out, od.pairwise(p, q, metric="js"))


def test_list_with_a_tensor():
    p, q = p_and_q()
    for call in CALLS:
        for result in as_tuple(call(torch.tensor(p), q.tolist())):
            assert isinstance(result, torch.Tensor)
            assert result.dtype in (torch.float32, torch.int64)
