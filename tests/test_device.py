"""The door for arrays on a device, spaces, deferred checks, copies, and what the doctor says of GPUs."""

from __future__ import annotations

import contextvars
import json
import sys
import types
import weakref
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import otdist as od
from otdist import _device, _doctor
from otdist._arrays import enter, enter_host
from otdist.cli import main
from otdist.kernels import binaries, device
from tests.device import send

P, Q = np.array([[0.5, 0.25, 0.25], [0.125, 0.5, 0.375]]), np.array([[0.25, 0.25, 0.5], [0.5, 0.25, 0.25]])


@pytest.fixture
def cp(emulated: Any) -> Any:
    return sys.modules["cupy"]


# -- the door


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint8", "uint16", "int64", "bool"])
def test_views_and_conversions(cp: Any, dtype: str) -> None:
    a = (np.random.default_rng(0).uniform(0, 9, (3, 5, 8))).astype(dtype)
    for part in (a, a[::2], a[:, 1:4], a[..., ::3], a.transpose(2, 0, 1)):
        x = cp.asarray(a)
        x = cp.ndarray(part.shape, a.dtype, memptr=x.reshape(-1)[_first(part, a) :].data, strides=part.strides)
        door, (view,) = enter(p=x)
        assert door.library == "cupy"
        if dtype.startswith("float"):
            assert view.data.ptr == x.data.ptr, "a copy"
        np.testing.assert_array_equal(door.space.host(view), part.astype(door.compute))


def _first(part: Any, whole: Any) -> int:
    return int(part.__array_interface__["data"][0] - whole.__array_interface__["data"][0]) // whole.itemsize


def test_result_dtypes(cp: Any) -> None:
    for p, q, dtype in (
        ("float16", "float16", "float16"),
        ("float16", "float32", "float32"),
        ("float32", "float64", "float64"),
        ("int64", "float32", "float64"),
        ("bool", "bool", "float64"),
    ):
        door, hosts = enter(p=cp.ones(3, p), q=cp.ones(3, q))
        assert door.dtype == dtype
        assert {h.dtype.name for h in hosts} == {dtype}
        assert door.leave(hosts[0]).dtype == dtype
    door, (p16, q32) = enter(p=cp.ones(3, "float16"), q=[1.0, 2.0, 3.0])
    assert (door.dtype, p16.dtype, q32.dtype) == ("float16", "float16", "float32")


def test_lists_beside_arrays_and_refusals(cp: Any) -> None:
    value = od.kl(cp.asarray(P), [0.25, 0.25, 0.5])
    np.testing.assert_allclose(cp.asnumpy(value), od.kl(P, [0.25, 0.25, 0.5]), rtol=1e-14)
    with pytest.raises(TypeError, match=r"^p and q: found cupy for p and numpy for q; .*cupy\.asarray\(q\)"):
        od.kl(cp.asarray(P), Q)
    with pytest.raises(TypeError, match=r"^p: found dtype complex128; take its real part"):
        od.kl(cp.asarray(P.astype(complex)), cp.asarray(Q))
    with pytest.raises(TypeError, match=r"^p: found a sequence of cupy arrays"):
        od.kl([cp.asarray(P[0])], [[0.5, 0.25, 0.25]])
    with pytest.raises(TypeError, match=r"^q: found None"):
        od.kl(cp.asarray(P), None)
    with pytest.raises(ValueError, match=r"^x: found an array on a GPU; .*pass cupy\.asnumpy\(x\)"):
        enter_host(x=cp.asarray(P))


def test_two_devices(cp: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Elsewhere(cp.ndarray):  # type: ignore[misc, name-defined]
        device = types.SimpleNamespace(id=1)

    far = cp.asarray(Q)
    far.__class__ = Elsewhere
    with pytest.raises(ValueError, match=r"^p and q: found devices cuda:0 and cuda:1"):
        od.kl(cp.asarray(P), far)


def test_nothing_is_read_back_but_the_status(emulated: Any, cp: Any) -> None:
    p, q = cp.asarray(P), cp.asarray(Q)
    before = len(emulated.reads)
    od.kl(p, q)
    assert sum(emulated.reads[before:]) == 8  # a word for each argument


def test_without_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ImportError, match=r"pip install 'otdist\[cuda12\]'"):
        device.cupy()


# -- torch and JAX, whose own allocators are asked


class _Home:
    index = 0
    type = "cuda"


@pytest.fixture
def torch_memory(cp: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """torch's allocator on the CPU, in the place of its CUDA one."""
    torch = pytest.importorskip("torch")
    memory = object.__new__(_device.TorchMemory)
    memory.torch, memory.cupy, memory.home, memory.device = torch, cp, torch.device("cpu"), 0
    memory.stream = cp.cuda.get_current_stream()
    memory._owners = weakref.WeakValueDictionary()
    return memory


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "int32", "bool"])
def test_torch_views(torch_memory: Any, dtype: str) -> None:
    torch = torch_memory.torch
    x = torch.arange(60).reshape(3, 4, 5).to(getattr(torch, dtype))[:, ::2].transpose(0, 2)
    view = torch_memory.view(x)
    assert view.data.ptr == x.data_ptr()
    assert view.shape == tuple(x.shape)
    assert view.strides == tuple(s * x.element_size() for s in x.stride())
    assert view.dtype == ("uint16" if dtype == "bfloat16" else dtype)


@pytest.mark.parametrize("dtype", ["float16", "uint16", "float32", "float64", "int64"])
def test_torch_owns_what_it_gets(torch_memory: Any, dtype: str) -> None:
    space = device.Space(torch_memory)
    a = space.empty((3, 4), dtype)
    tensor = space.owned(a, bfloat16=dtype == "uint16")
    assert isinstance(tensor, torch_memory.torch.Tensor)
    assert tensor.data_ptr() == a.data.ptr
    assert str(tensor.dtype) == f"torch.{'bfloat16' if dtype == 'uint16' else dtype}"
    assert tuple(space.owned(a.reshape(2, 6), bfloat16=dtype == "uint16").shape) == (2, 6)


def test_torch_streams_are_made_on_their_device() -> None:
    current = [0]

    class Device:
        def __init__(self, number: int) -> None:
            self.number = number

        def __enter__(self) -> None:
            current.append(self.number)

        def __exit__(self, *_: Any) -> None:
            current.pop()

    stream = types.SimpleNamespace(from_external=lambda handle: (*handle.__cuda_stream__(), current[-1]))
    fake = types.ModuleType("cupy")
    fake.cuda = types.SimpleNamespace(Device=Device, Stream=stream)  # type: ignore[attr-defined]
    assert _device._stream(fake, 77, 1) == (0, 77, 1)


def test_jax_memory_outlives_the_work_on_it(cp: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Event:
        done, waited = False, 0

        def __init__(self, **_: Any) -> None: ...

        def record(self, stream: Any) -> None: ...

        def synchronize(self) -> None:
            Event.waited += 1

    monkeypatch.setattr(cp.cuda, "Event", Event)

    class Memory:
        nbytes = 100

    memories = [Memory() for _ in range(3)]
    alive = [weakref.ref(x) for x in memories]
    leases = [_device._Lease(cp, 0, cp.cuda.get_current_stream(), x) for x in memories]
    del memories
    while leases:
        leases.pop(0)
    _device._Lease.collect(300)
    assert all(x() is not None for x in alive)
    _device._Lease.collect(150)  # no more than this may wait: the oldest are waited for
    assert ([x() is None for x in alive], Event.waited) == ([True, True, False], 2)
    Event.done = True
    _device._Lease.collect()
    assert alive[2]() is None


# -- spaces


def test_copies_between_all_floats(cp: Any) -> None:
    rng = np.random.default_rng(1)
    x = np.concatenate([
        rng.standard_normal(500) * 10.0 ** rng.integers(-9, 6, 500),
        [0.0, -0.0, np.inf, -np.inf, np.nan, 65504, 65519.99, 65520, 2.0**-24, 2.0**-25, 2.0**-25 * 1.0001, 1e-40],
    ])  # fmt: skip
    space = device.Space(device.CupyMemory(0))
    types_of = {"float16": np.float16, "uint16": ml_dtypes.bfloat16, "float32": np.float32, "float64": np.float64}
    with np.errstate(all="ignore"):
        for source in types_of.values():
            y = x.astype(source)
            there = cp.asarray(y.view(np.uint16) if source is ml_dtypes.bfloat16 else y)
            for name, target in types_of.items():
                got = cp.asnumpy(space.cast(there, name))
                want = y.astype(np.float64).astype(target)
                np.testing.assert_array_equal(got.view(target).astype(np.float64), want.astype(np.float64))


def test_every_half_is_read_right(cp: Any) -> None:
    every = np.arange(65536, dtype=np.uint16)
    space = device.Space(device.CupyMemory(0))
    got = cp.asnumpy(space.cast(cp.asarray(every.view(np.float16)), "float32"))
    np.testing.assert_array_equal(got, every.view(np.float16).astype(np.float32))


def test_full_zeros_and_limits(cp: Any) -> None:
    space = device.Space(device.CupyMemory(0), 2)
    np.testing.assert_array_equal(cp.asnumpy(space.full((3, 5), 2.5, "float16")), np.full((3, 5), 2.5, np.float16))
    np.testing.assert_array_equal(space.host(space.full(4, 1.5, "uint16")), [1.5] * 4)
    assert cp.asnumpy(space.zeros((0, 3), "float64")).shape == (0, 3)
    assert space.processors > 0
    assert space.capability >= (7, 0)
    assert space.shared_limit >= 48 * 1024
    assert 0 < space.budget(1000) <= 1000


def test_out_of_memory_is_tried_once_more_with_half(cp: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    space = device.Space(device.CupyMemory(0))
    tried: list[int] = []

    def run(budget: int) -> str:
        tried.append(budget)
        if len(tried) == 1:
            raise device.OutOfMemory("full")
        return "done"

    assert space.within(1000, run) == "done"
    assert tried == [1000, 500]

    def never(_budget: int) -> None:
        raise device.OutOfMemory("no room for 123 bytes")

    with pytest.raises(MemoryError, match=r"123 bytes.*smaller batches"):
        space.within(1000, never)


def test_text_of_a_kernel_has_its_includes() -> None:
    text = device.source("rows.cu")
    assert '#line 1 "terms.cuh"' in text
    assert text.count("struct Hellinger") == 1
    assert "#include" not in text


# -- deferred checks


def test_deferred_checks(emulated: Any, cp: Any) -> None:
    bad = P.copy()
    bad[1, 2] = np.nan
    values: list[Any] = []

    def block() -> None:
        with od.deferred_checks():
            reads = len(emulated.reads)
            values.append(od.tv(cp.asarray(bad), cp.asarray(Q)))
            values.append(od.tv(cp.asarray(P), cp.asarray(Q)))
            assert len(emulated.reads) == reads

    with pytest.raises(ValueError, match=r"^p: found NaN at index \(1, 2\)"):
        block()
    first, second = map(cp.asnumpy, values)
    np.testing.assert_array_equal(np.isnan(first), [False, True])
    np.testing.assert_allclose(second, od.tv(P, Q))


def test_an_error_in_the_block_is_the_one_that_shows(cp: Any) -> None:
    def block() -> None:
        with od.deferred_checks():
            od.tv(cp.asarray(P * np.nan), cp.asarray(Q))
            raise KeyError

    with pytest.raises(KeyError):
        block()


def test_gradients_of_bad_rows_are_nan(cp: Any) -> None:
    bad = P.copy()
    bad[1] *= 3
    grads: list[Any] = []

    def block() -> None:
        with od.deferred_checks():
            grads.append(od.value_and_grad(od.kl)(cp.asarray(bad), cp.asarray(Q))[1])

    with pytest.raises(ValueError, match=r"^p: found a histogram with sum 3 at batch index \(1,\)"):
        block()
    np.testing.assert_array_equal(np.isnan(cp.asnumpy(grads[0])), [[False] * 3, [True] * 3])


def test_a_task_that_outlives_the_block_is_checked_at_once(cp: Any) -> None:
    with od.deferred_checks():
        inside = contextvars.copy_context()
    with pytest.raises(ValueError, match=r"^p: found NaN"):
        inside.run(od.tv, cp.asarray(P * np.nan), cp.asarray(Q))


def test_a_capture_that_ends_before_the_block_is_not_read(emulated: Any, cp: Any) -> None:
    stream = cp.cuda.Stream(non_blocking=True)
    with od.deferred_checks():
        with stream:
            stream.begin_capture()
            od.tv(cp.asarray(P * np.nan), cp.asarray(Q))
            stream.end_capture()
        reads = len(emulated.reads)
    assert len(emulated.reads) == reads


# -- the doctor


def _report(capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    code = main(["doctor", "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_doctor_on_a_device(cp: Any, capsys: pytest.CaptureFixture[str]) -> None:
    _, report = _report(capsys)
    assert len(report["gpu"]["devices"]) == cp.cuda.runtime.getDeviceCount()
    assert report["gpu"]["kernels compile"] is True


def test_doctor_without_cupy(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_doctor, "_cupys", dict)
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    _, report = _report(capsys)
    assert report["gpu"]["cupy"].startswith("not installed")
    assert not any("CuPy" in problem["what"] for problem in report["problems"])


@pytest.mark.parametrize("driver", [False, True])
def test_doctor_with_cupy_and_no_gpu(
    driver: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def count() -> int:
        raise RuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient")

    runtime = types.SimpleNamespace(getDeviceCount=count)
    fake = types.SimpleNamespace(ndarray=type("ndarray", (), {}), cuda=types.SimpleNamespace(runtime=runtime))
    monkeypatch.setitem(sys.modules, "cupy", fake)
    monkeypatch.setattr(_doctor.Path, "exists", lambda path: driver)
    _, report = _report(capsys)
    assert "insufficient" in report["gpu"]["cupy"]
    assert any("CuPy finds no GPU" in problem["what"] for problem in report["problems"]) == driver


def test_doctor_with_a_broken_cupy(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_doctor, "_cupys", lambda: {"cupy-cuda12x": "13.6.0"})
    monkeypatch.setitem(sys.modules, "cupy", None)
    code, report = _report(capsys)
    assert code == 1
    assert any("CuPy does not load" in problem["what"] for problem in report["problems"])


def test_arrays_go_where_they_came_from(cp: Any) -> None:
    assert isinstance(od.kl(send(P), send(Q)), cp.ndarray)
    assert od.kl(send(P[0]), send(Q[0])).shape == ()


def test_binaries_are_kept_and_keep_small_numbers(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, ...]] = []

    def compile_using_nvrtc(text: str, options: Any, filename: str, name_expressions: Any) -> Any:
        calls.append(options)
        return text.encode(), {name_expressions[0]: "_Zmangled"}

    compiler = types.SimpleNamespace(compile_using_nvrtc=compile_using_nvrtc)
    nvrtc = types.SimpleNamespace(getVersion=lambda: (12, 9))
    module = types.SimpleNamespace(cuda=types.SimpleNamespace(compiler=compiler, nvrtc=nvrtc))
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path / "new"))
    monkeypatch.setattr(binaries, "_directory", binaries._directory.__wrapped__)
    for _ in range(2):
        path, symbol = binaries.binary(module, "text", "a.cu", "f<float>", device.OPTIONS, (9, 0))
        assert (path.read_bytes(), symbol) == (b"text", "_Zmangled")
    assert len(calls) == 1
    assert not any("ftz" in option or "fast" in option for option in calls[0])
    other, _ = binaries.binary(module, "text", "a.cu", "f<float>", device.OPTIONS, (8, 0))
    assert other != path
