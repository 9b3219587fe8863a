"""The door: what every library's arrays become, what they come back as, and what is refused."""

import os
import subprocess
import sys
import types
import warnings

import numpy as np
import pytest

from otdist._arrays import enter, enter_host

torch = pytest.importorskip("torch")
jax = pytest.importorskip("jax")
ml_dtypes = pytest.importorskip("ml_dtypes")
jnp = jax.numpy

HALVES = ("float16", "bfloat16")
FLOATS = (*HALVES, "float32", "float64")
INTEGERS = ("bool", "int8", "uint8", "int32", "int64")


def make(library, data, dtype):
    if library == "torch":
        return torch.tensor(data, dtype=getattr(torch, dtype))
    if library == "jax":
        return jnp.asarray(data, dtype=dtype)
    return np.asarray(data, dtype=ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)


def dtype_name(a):
    return str(a.dtype).removeprefix("torch.")


def one(x):
    door, (host,) = enter(p=x)
    return door, host


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (0, 4), (2, 0)])
def test_floats_make_the_round_trip(library, dtype, shape):
    with jax.enable_x64(True):
        x = make(library, np.arange(np.prod(shape)).reshape(shape).tolist() if shape else 2.5, dtype)
        x = x.reshape(shape)
        door, host = one(x)
        assert (door.library, door.dtype) == (library, dtype)
        assert host.shape == shape
        assert host.dtype == door.compute == (np.float64 if dtype == "float64" else np.float32)
        back = door.leave(host)
        assert dtype_name(back) == dtype
        assert back.shape == x.shape
        np.testing.assert_array_equal(one(back)[1], host)
        if library == "numpy":
            assert isinstance(back, np.ndarray if shape else np.generic)
        else:
            assert isinstance(back, torch.Tensor if library == "torch" else jax.Array)
            assert back.device == x.device


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_take_the_default_float(dtype):
    assert one(make("numpy", [0, 1], dtype))[0].dtype == "float64"
    assert one(make("torch", [0, 1], dtype))[0].dtype == "float32"
    assert one(make("jax", [0, 1], dtype.replace("64", "32")))[0].dtype == "float32"
    with jax.enable_x64(True):
        assert one(make("jax", [0, 1], dtype))[0].dtype == "float64"
    torch.set_default_dtype(torch.float64)
    try:
        assert one(make("torch", [0, 1], dtype))[0].dtype == "float64"
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("p", [*FLOATS, "int8"])
@pytest.mark.parametrize("q", FLOATS)
def test_two_dtypes_promote_as_in_their_library(library, p, q):
    with jax.enable_x64(True):
        x, y = make(library, [1, 2], p), make(library, [3, 4], q)
        if {p, q} == set(HALVES):
            expected = "float32"  # NumPy has no answer, torch and JAX have this one
        elif library == "torch":
            expected = dtype_name(x + y)
        else:
            expected = (np if library == "numpy" else jnp).result_type(x, y).name
        door, (a, b) = enter(p=x, q=y)
        assert door.dtype == expected
        assert a.dtype == b.dtype == door.compute
        np.testing.assert_array_equal([a, b], [[1, 2], [3, 4]])


def test_numpy_promotes_bfloat16_with_wide_integers():
    assert enter(p=make("numpy", [1], "bfloat16"), q=np.array([1]))[0].dtype == "float64"


def test_zero_dimensional_torch_tensors_promote_weakly():
    wide = torch.tensor(2.0, dtype=torch.float64)
    assert enter(p=torch.ones(3), q=wide)[0].dtype == "float32"
    assert enter(p=torch.ones(3, dtype=torch.int64), q=wide)[0].dtype == "float64"


@pytest.mark.parametrize("library", ["torch", "jax"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("weak", [[0.25, 0.75], (0.25, 0.75), [[0.25, 0.75]], 0.25, True, 3])
def test_lists_and_scalars_follow_the_array(library, dtype, weak):
    x = make(library, [0.5, 0.5], dtype)
    for arrays in ({"p": x, "q": weak}, {"q": weak, "p": x}):
        door, hosts = enter(**arrays)
        assert (door.library, door.dtype) == (library, dtype)
        np.testing.assert_array_equal(hosts[list(arrays).index("q")], np.asarray(weak, np.float32))


def test_numpy_scalars_are_weak_and_lists_are_not():
    x = np.ones(2, np.float32)
    assert enter(p=x, q=0.5)[0].dtype == "float32"
    assert enter(p=x, q=[0.5, 0.5])[0].dtype == "float64"
    assert enter(p=x, q=np.float64(0.5))[0].dtype == "float64"
    assert enter(p=0.5)[0].dtype == enter(p=1)[0].dtype == "float64"


class Wrapped:
    """Stands for pandas, xarray: not an array, but gives one."""

    def __init__(self, a):
        self.a = a

    def __array__(self, dtype=None, copy=None):
        return self.a


def test_whatever_numpy_reads():
    import array

    a = np.array([0.25, 0.75], np.float32)
    for x in (Wrapped(a), memoryview(a), array.array("f", a)):
        door, host = one(x)
        assert (door.library, door.dtype) == ("numpy", "float32")
        np.testing.assert_array_equal(host, a)
    with pytest.raises(TypeError, match=r"^p and q: found torch for p and numpy for q"):
        enter(p=torch.ones(2), q=Wrapped(a))


def test_a_matrix_leaves_as_an_array():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        x = np.matrix([[0.25, 0.75]])
    door, host = one(x)
    assert type(host) is np.ndarray
    assert type(door.leave(host + 1)) is np.ndarray


def test_no_copy_where_the_memory_is_right():
    x = np.arange(24.0).reshape(4, 6)
    views = [x, x.T, x[::-1, ::-2], x[:, None], np.broadcast_to(x[0], (3, 6)), np.asfortranarray(x)]
    for view in views:
        host = one(view)[1]
        assert np.shares_memory(host, view)
        assert host.strides == view.strides
        np.testing.assert_array_equal(host, view)
    tensor = torch.ones(3, 4).T
    assert one(tensor)[1].ctypes.data == tensor.data_ptr()
    x = jnp.arange(3.0)
    assert one(x)[1].ctypes.data == x.unsafe_buffer_pointer()


def test_swapped_and_unaligned_memory_is_made_right():
    swapped = np.arange(4, dtype=">f4")
    unaligned = np.frombuffer(b"\0" + np.arange(3.0).tobytes(), dtype=np.uint8)[1:].view(np.float64)
    for x in (swapped, unaligned, np.arange(4, dtype=">f8"), np.arange(4, dtype=">i2")):
        host = one(x)[1]
        assert host.flags.aligned
        assert host.dtype.isnative
        np.testing.assert_array_equal(host, x)
    assert one(swapped)[0].dtype == "float32"


def test_read_only_maps(tmp_path):
    np.save(tmp_path / "p.npy", np.arange(6.0).reshape(2, 3))
    x = np.load(tmp_path / "p.npy", mmap_mode="r")
    door, host = one(x)
    assert type(host) is np.ndarray
    assert np.shares_memory(host, x)
    assert door.leave(host).flags.writeable


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
def test_inputs_cannot_be_written_through_the_door(library):
    x = make(library, [[1.0, 2.0]], "float32")
    with pytest.raises(ValueError, match="read-only"):
        one(x)[1][0, 0] = 3


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("view", [lambda h: h, lambda h: h[::-1], lambda h: h.T, lambda h: h[:1], lambda h: h.ravel()])
def test_a_result_never_aliases_an_input(library, view):
    x = make(library, [[1.0, 2.0], [3.0, 4.0]], "float32")
    door, host = one(x)
    back = door.leave(view(host))
    np.testing.assert_array_equal(np.asarray(back), view(host))
    if library == "jax":
        assert back.unsafe_buffer_pointer() != x.unsafe_buffer_pointer()
    else:
        back[:] = 9
        np.testing.assert_array_equal(np.asarray(x), [[1, 2], [3, 4]])


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
def test_a_fresh_result_of_any_strides_leaves(library):
    door, _ = one(make(library, [1.0], "float32"))
    fresh = np.arange(6, dtype=np.float32).reshape(2, 3)
    for a in (fresh, fresh.T, fresh[::-1], fresh[:, ::-2], np.broadcast_to(fresh[0], (4, 3)), fresh[0, 0]):
        np.testing.assert_array_equal(np.asarray(door.leave(a)), a)


def test_a_fresh_result_is_not_copied():
    fresh = np.zeros((2, 3))
    assert one(np.ones(2))[0].leave(fresh.reshape(3, 2)).base is fresh
    tensor = one(torch.ones(2, dtype=torch.float64))[0].leave(fresh)
    assert tensor.data_ptr() == fresh.ctypes.data


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("dtype", HALVES)
def test_overflow_on_the_way_down_is_inf(library, dtype):
    door, _ = one(make(library, [1.0], dtype))
    back = door.leave(np.array([3.4e38, -3.4e38, np.nan, np.inf, 1e-45, 1.0], np.float32))
    np.testing.assert_array_equal(one(back)[1], [np.inf, -np.inf, np.nan, np.inf, 0, 1])


@pytest.mark.parametrize("indices", [np.array([[1, 2]]), np.array([1], np.intp), np.array(3)])
def test_indices_stay_integers(indices):
    assert one(np.ones(2, np.float16))[0].leave(indices).dtype == np.int64
    assert one(torch.ones(2, dtype=torch.float16))[0].leave(indices).dtype == torch.int64
    assert one(jnp.ones(2))[0].leave(indices).dtype == jnp.int32
    with jax.enable_x64(True):
        assert one(jnp.ones(2))[0].leave(indices).dtype == jnp.int64


def test_jax_stays_where_it_was_committed():
    assert not one(jnp.ones(2))[0].leave(np.ones(3, np.float32)).committed
    x = jax.device_put(jnp.ones(2), jax.devices()[0])
    assert enter(p=jnp.ones(2), q=x)[0].leave(np.ones(3, np.float32)).committed


TWO_DEVICES = """
import jax, numpy as np
from otdist._arrays import enter
a, b = jax.devices()
on = lambda device: jax.device_put(np.ones(4, np.float32), device)
assert enter(p=on(b))[0].leave(np.ones(2, np.float32)).devices() == {b}
assert enter(p=jax.numpy.ones(4), q=on(b))[0].leave(np.ones(2, np.float32)).devices() == {b}
spread = jax.device_put(on(a), jax.sharding.PositionalSharding([a, b])) if hasattr(
    jax.sharding, "PositionalSharding") else jax.device_put(
    on(a), jax.sharding.NamedSharding(jax.make_mesh((2,), ("i",)), jax.sharding.PartitionSpec("i")))
for arrays, words in (({"p": on(a), "q": on(b)}, "p and q: found devices cpu:0 and cpu:1"),
                      ({"p": spread}, "p: found an array on 2 devices")):
    try:
        enter(**arrays)
    except ValueError as error:
        assert str(error).startswith(words), error
    else:
        raise AssertionError(words)
"""


def test_jax_with_two_devices():
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", TWO_DEVICES], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_nothing_is_imported():
    code = """
import sys
from otdist._arrays import enter
enter(p=[0.5, 0.5], q=(1, 0))[0].leave(enter(p=[1.0])[1][0])
print(sorted({"torch", "jax", "cupy", "numba", "scipy", "pandas", "ml_dtypes"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def refused(error, match, **arrays):
    with pytest.raises(error, match=match):
        enter(**arrays)


def test_torch_tensors_with_a_gradient():
    p = torch.ones(2, requires_grad=True)
    for x in (p, p * 2):
        refused(TypeError, r"^q: .*requires grad.*q\.detach\(\).*otdist\.value_and_grad", p=torch.ones(2), q=x)
        with torch.no_grad():
            np.testing.assert_array_equal(one(x)[1], x.detach().numpy())
        one(x.detach())
    with torch.inference_mode():
        one(torch.ones(2))


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
def test_torch_dual_tensors():
    forward_ad = torch.autograd.forward_ad
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(torch.ones(2), torch.ones(2))
        refused(TypeError, r"^p: .*tangent.*unpack_dual\(p\)\.primal", p=dual)
        one(forward_ad.unpack_dual(dual).primal)


def test_torch_transforms():
    def call(x):
        refused(TypeError, r"^p: .*inside a torch transform.*outside", p=x)
        return x.sum()

    x = torch.ones(3, 2)
    torch.func.vmap(call)(x)
    torch.func.grad(call)(x)
    torch.func.functionalize(call)(x)
    with torch._subclasses.FakeTensorMode():
        call(torch.ones(2))


def test_torch_lazy_signs_and_subclasses():
    z = torch.tensor([1 + 2j, 3 - 4j])
    assert z.conj().imag.is_neg()
    np.testing.assert_array_equal(one(z.conj().imag)[1], [-2, 4])
    np.testing.assert_array_equal(one(z.conj().real)[1], [1, 3])
    assert one(torch.nn.Parameter(torch.ones(2), requires_grad=False))[0].library == "torch"


@pytest.mark.filterwarnings("ignore")
def test_torch_layouts_and_dtypes():
    dense = torch.eye(2)
    for x in (dense.to_sparse(), dense.to_sparse_csr(), torch.nested.nested_tensor([torch.ones(1), torch.ones(2)])):
        refused(TypeError, "^p: found a sparse or nested tensor", p=x)
    for x in (
        torch.quantize_per_tensor(dense, 0.1, 0, torch.quint8),
        dense.to(torch.float8_e5m2),
        dense.to(torch.complex64),
    ):
        refused(TypeError, rf"^p: found dtype {dtype_name(x)}; ", p=x)


def test_torch_devices():
    meta, cpu = torch.ones(2, device="meta"), torch.ones(2)
    refused(ValueError, r"^p: found an array on device meta; there are no kernels for it.*p\.cpu\(\)", p=meta)
    refused(ValueError, r"^q: found an array on device meta", q=meta, p=[0.5, 0.5])
    refused(ValueError, r"^p and q: found devices cpu and meta", p=cpu, q=meta)
    refused(ValueError, r"^p and q: found devices meta and cpu", p=meta, q=cpu)


def test_jax_tracers_and_keys():
    def call(x):
        refused(TypeError, r"^p: found a JAX tracer.*outside", p=x)
        return x.sum()

    x = jnp.ones((3, 2))
    for transform in (jax.jit, jax.grad, jax.vmap):
        transform(call)(x)
    refused(TypeError, r"^p: found dtype key", p=jax.random.key(0))
    refused(TypeError, r"^p: found dtype complex64; take its real part", p=x + 1j)
    refused(TypeError, r"^p: found dtype float8_e5m2; ", p=x.astype("float8_e5m2"))


def refused_by_host_door(match, **arrays):
    with pytest.raises(ValueError, match=match):
        enter_host(**arrays)


def test_jax_on_a_gpu_where_only_the_cpu_works(monkeypatch):
    class Array:
        dtype = np.dtype(np.float32)
        committed = True

        def devices(self):
            return [types.SimpleNamespace(platform="gpu", id=0)]

    tracer = type("Tracer", (), {})
    monkeypatch.setitem(
        sys.modules, "jax", types.SimpleNamespace(Array=Array, core=types.SimpleNamespace(Tracer=tracer))
    )
    refused_by_host_door(
        r"^p: found an array on a GPU; .*runs on the CPU.*jax\.device_put\(p, jax\.devices\('cpu'\)\[0\]\)", p=Array()
    )


def test_cupy(monkeypatch):
    class ndarray:
        def __array__(self, dtype=None, copy=None):
            raise AssertionError("a silent copy from the GPU")

    monkeypatch.setitem(sys.modules, "cupy", types.SimpleNamespace(ndarray=ndarray))
    refused_by_host_door(r"^p: found an array on a GPU; .*runs on the CPU.*pass cupy\.asnumpy\(p\)", p=ndarray())
    refused_by_host_door(r"^q: .*pass cupy\.asnumpy\(q\)", q=ndarray(), p=[0.5, 0.5])
    refused(TypeError, r"^p and q: found numpy for p and cupy for q; .*numpy\.asarray\(q\)", p=np.ones(2), q=ndarray())
    refused(TypeError, r"^p: found a sequence of cupy arrays", p=[ndarray()])
