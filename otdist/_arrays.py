"""The one door for arrays: what the caller gave -> float32/float64 ndarrays -> what the caller expects back.

`enter` finds the library, the result dtype and the device, and lends the data to the kernels as NumPy arrays, or as
CuPy arrays where it lies on a GPU (``_device.py``); `Door.leave` takes a result back the same way. Whoever holds a
torch tensor has imported torch, so libraries are recognised in ``sys.modules`` and nothing is imported here.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

_FLOATS = frozenset({"float16", "bfloat16", "float32", "float64"})
_REAL = _FLOATS | {"bool"} | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
_CLASSES = {"torch": "Tensor", "jax": "Array", "cupy": "ndarray"}
_TO = {"numpy": "numpy.asarray", "torch": "torch.as_tensor", "jax": "jax.numpy.asarray", "cupy": "cupy.asarray"}


@dataclass(frozen=True)
class Door:
    """How results go back: the caller's library, the dtype of floating-point results, the device."""

    library: str  # "numpy", "torch", "jax" or "cupy"
    dtype: str  # "float16", "bfloat16", "float32" or "float64"
    device: Any  # "cpu", a torch device, a JAX device or None (JAX arrays committed to no device)
    tolerance: float  # sqrt(eps) of the coarsest float among the inputs: how far a histogram's sum may be from 1
    space: Any = None  # `kernels.device.Space` of arrays on a GPU; None on the CPU

    @property
    def compute(self) -> type[np.float32] | type[np.float64]:
        """Dtype of the arithmetic: half precisions are computed in float32."""
        return np.float64 if self.dtype == "float64" else np.float32

    def leave(self, a: Any) -> Any:
        """Hand a result to the caller, in its library and on its device.

        Floats are cast to ``dtype`` (overflow gives inf); integers are int64, or JAX's default integer; a 0-d NumPy
        result is a scalar. `a` is given away, for the result may share its memory. What `enter` lent is read-only:
        by that an input, or a view of one, is recognised and copied. On a GPU `a` is an array made by the space, or a
        NumPy array, and never a view of an input.
        """
        if self.space is not None:
            from otdist import _device

            return _device.leave(self, a)
        return _LIBRARIES[self.library][1](self, np.asarray(a))


def enter(**arrays: object) -> tuple[Door, list[Array]]:
    """Read the array arguments of one call.

    The keywords are the arguments' public names, for errors: TypeError for anything but real numbers, for two libraries
    and for a tensor whose gradient or trace would be cut; ValueError for a ragged list, two devices or one without
    kernels. The arrays come in the order given, as dtype ``door.compute``, native, aligned, read-only, of any strides;
    they are copies only where the memory is not that already.

    From a GPU come ``cupy.ndarray`` of any strides, never to be written to, and ``door.space`` is set. Their dtype is
    ``door.compute``, or the half type of the door (bfloat16 as uint16) where they have that: kernels read it.
    """
    first: dict[str, str] = {}
    for name, x in arrays.items():
        first.setdefault(_library(x), name)
    first.pop("", None)
    if len(first) > 1:
        (one, p), (other, q), *_ = first.items()
        raise TypeError(
            f"{p} and {q}: found {one} for {p} and {other} for {q}; pass both from one library, e.g. {_TO[one]}({q})"
        )
    library = next(iter(first), "numpy")
    dtype, device, hosts, space = _LIBRARIES[library][0](arrays)
    coarsest = min((_precision(x, dtype) for x in arrays.values()), default=52)
    if space is not None:
        return Door(library, dtype, device, 2.0 ** (-coarsest / 2), space), hosts
    door = _door(library, dtype, device, 2.0 ** (-coarsest / 2))
    return door, [_lend(host, door.compute) for host in hosts]


def enter_host(**arrays: object) -> tuple[Door, list[Array]]:
    """`enter` for what has no kernels on a GPU: an array that lies there is a ValueError that names the cure."""
    for name, x in arrays.items():
        library = _library(x)
        where = "" if library in ("", "numpy") else _CURES[library](x)
        if where:
            raise ValueError(
                f"{name}: found an array on a GPU; this function runs on the CPU, and nothing is copied silently: pass "
                f"{where.format(name)}"
            )
    return enter(**arrays)


def refuse_values(name: str, a: Array, *, logits: bool = False) -> None:
    """Raise the error for the first bad value of an argument; return if there is none.

    Slow: for when a kernel has flagged a problem somewhere. Histograms are refused for NaN, infinite and negative
    entries; logits for NaN, +inf and, along the last axis, -inf throughout. The error's index is into `a`.
    """
    bad = np.isnan(a) | (a == np.inf) if logits else ~((a >= 0) & (a < np.inf))
    if bad.any():
        where = _first(bad)
        value = a[where]
        found, rule = "NaN" if np.isnan(value) else f"an infinite entry, {value!s}", "entries must be finite"
        if -np.inf < value < 0:
            found, rule = f"a negative entry, {value!s}", "histogram entries must be >= 0 (logits: from_logits=True)"
        elif logits:
            rule = "logits must be finite or -inf"
        raise ValueError(f"{name}: found {found} at index {where}; {rule} ({np.count_nonzero(bad)} such in all)")
    if logits and a.size and a.ndim:
        empty = np.all(a == -np.inf, axis=-1)
        if empty.any():
            raise ValueError(
                f"{name}: found -inf in every bin of the row at index {_first(empty)}; a row of logits needs "
                f"a finite entry ({np.count_nonzero(empty)} such in all)"
            )


def _first(bad: Array) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), bad.shape))


_MANTISSA = {"bfloat16": 7, "float16": 10, "float32": 23, "float64": 52}


def _precision(x: Any, dtype: str) -> int:
    """Bits of the mantissa of an argument's own dtype (of the result's, where it has none or is exact)."""
    return _mantissa(getattr(x, "dtype", None), dtype)


@functools.lru_cache(maxsize=64)
def _mantissa(own: Any, dtype: str) -> int:
    return _MANTISSA.get(str(own).removeprefix("torch."), _MANTISSA[dtype])


_door = functools.lru_cache(maxsize=64)(Door)


def _library(x: object) -> str:
    """The library `x` belongs to; "" for lists and scalars, which belong to none."""
    if type(x) is np.ndarray:
        return "numpy"
    for library, cls in _CLASSES.items():
        if isinstance(x, getattr(sys.modules.get(library), cls, ())):
            return library
    return "numpy" if hasattr(x, "__array__") else ""


def _lend(host: Array, compute: type[np.floating[Any]]) -> Array:
    if host.dtype != compute:
        with np.errstate(all="ignore"):
            host = host.astype(compute)
    view = host.view(np.ndarray) if host.flags.aligned else np.array(host)
    view.flags.writeable = False
    return view


def _refuse_dtype(name: str, dtype: str) -> NoReturn:
    cure = "take its real part or its modulus" if dtype.startswith("complex") else "convert it to float64 or float32"
    raise TypeError(f"{name}: found dtype {dtype}; {cure} (float16, bfloat16, integers and booleans are taken too)")


def _check_devices(devices: dict[str, str], cure: str) -> bool:
    """Whether the arrays are on a CUDA device; ValueError where they are on several, or on one without kernels."""
    p = next(iter(devices))
    for q, device in devices.items():
        if device != devices[p]:
            raise ValueError(f"{p} and {q}: found devices {devices[p]} and {device}; move both to one of them")
    kind = devices[p].partition(":")[0]
    if kind not in ("cpu", "cuda", "gpu"):
        raise ValueError(
            f"{p}: found an array on device {devices[p]}; there are no kernels for it, and nothing is copied "
            f"silently: pass {cure.format(p)}"
        )
    return kind != "cpu"


_Read: TypeAlias = tuple[str, Any, list[Array], Any]


def _read_numpy(arrays: dict[str, Any]) -> _Read:
    hosts = [_host(name, x) for name, x in arrays.items()]
    dtypes = [h.dtype for h, x in zip(hosts, arrays.values(), strict=True) if type(x) not in (bool, int, float)]
    return _promote(*(dtypes or [h.dtype for h in hosts])), "cpu", hosts, None


def _host(name: str, x: Any) -> Array:
    if type(x) is not np.ndarray:
        _check_kind(name, x)
        try:
            x = np.asarray(x)
        except ValueError as error:
            raise ValueError(f"{name}: found a ragged sequence; give rows of one length ({error})") from error
        except Exception as error:
            raise TypeError(f"{name}: found {type(x).__name__}, which NumPy cannot read ({error})") from error
    if not _is_real(x.dtype):
        _refuse_dtype(name, x.dtype.name)
    return x  # type: ignore[no-any-return]


def _check_kind(name: str, x: Any) -> None:
    """Refuse what NumPy would misread: a mask dropped, another library's arrays taken apart."""
    sparse = sys.modules.get("scipy.sparse")
    if x is None:
        raise TypeError(f"{name}: found None; pass an array")
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{name}: found a masked array; fill it first, e.g. {name}.filled(0)")
    if sparse is not None and sparse.issparse(x):
        raise TypeError(f"{name}: found a scipy.sparse matrix, which only `pairwise` takes; pass {name}.toarray()")
    if _library(x) not in ("", "numpy"):
        raise TypeError(f"{name}: found a sequence of {_library(x)} arrays; stack them into one array first")
    if isinstance(x, (list, tuple)):
        for item in x:
            if type(item) is not float:
                _check_kind(name, item)


@functools.lru_cache(maxsize=64)
def _is_real(dtype: Any) -> bool:
    return dtype.name in _REAL


@functools.lru_cache(maxsize=64)
def _promote(*dtypes: np.dtype[Any]) -> str:
    try:
        name = np.result_type(*dtypes).name
    except TypeError:  # ml_dtypes joins bfloat16 neither with float16 nor with wide integers
        name = np.result_type(*("float32" if d.name == "bfloat16" else d for d in dtypes)).name
    return name if name in _FLOATS else "float64"


def _cast(door: Door, a: Array) -> Array:
    if a.dtype.char == "d" and door.dtype == "float64":
        return a
    if a.dtype.kind != "f":
        return a.astype(np.int64, copy=False)
    with np.errstate(all="ignore"):
        return a.astype(sys.modules["ml_dtypes"].bfloat16 if door.dtype == "bfloat16" else door.dtype, copy=False)


def _own(a: Array) -> Array:
    """`a` contiguous and writable: torch aborts the process on negative strides, and JAX keeps the memory."""
    return a if a.flags.c_contiguous and a.flags.writeable else a.copy()


def _write_numpy(door: Door, a: Array) -> Any:
    a = _cast(door, a)
    if a.ndim == 0:
        return a[()]
    return a if a.flags.writeable else a.copy()


def _read_torch(arrays: dict[str, Any]) -> _Read:
    torch: Any = sys.modules["torch"]
    tensors = {name: x for name, x in arrays.items() if isinstance(x, torch.Tensor)}
    for name, x in tensors.items():
        _check_torch(name, x, torch)
    on_gpu = _check_devices({name: str(x.device) for name, x in tensors.items()}, "{}.cpu()")
    floats = [x for x in tensors.values() if x.dtype.is_floating_point]
    floats = [x for x in floats if x.ndim] or floats  # torch promotes 0-d tensors weakly
    dtype = functools.reduce(torch.promote_types, (x.dtype for x in floats)) if floats else torch.get_default_dtype()
    name_of_dtype, home = str(dtype).removeprefix("torch."), next(iter(tensors.values())).device
    if on_gpu:
        from otdist import _device

        return _device.read_torch(arrays, name_of_dtype, home)
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    hosts = [  # force: detach, and resolve a lazy sign
        x.to(compute).numpy(force=True) if name in tensors else _host(name, x) for name, x in arrays.items()
    ]
    return name_of_dtype, home, hosts, None


def _check_torch(name: str, x: Any, torch: Any) -> None:
    dtype = str(x.dtype).removeprefix("torch.")
    if x.layout != torch.strided or x.is_nested:
        raise TypeError(f"{name}: found a sparse or nested tensor; pass a dense one, e.g. {name}.to_dense()")
    if dtype not in _REAL:
        _refuse_dtype(name, dtype)
    # The memory behind such a tensor does not hold its values, and NumPy reads garbage from some (functionalize).
    if (
        torch._C._functorch.is_functorch_wrapped_tensor(x)
        or torch._is_functional_tensor(x)
        or type(x).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__
    ):
        raise TypeError(
            f"{name}: found a {type(x).__name__} inside a torch transform (vmap, grad, compile, export), which holds "
            f"no values; call this function outside of it, or use otdist.value_and_grad for gradients"
        )
    cure = f"{name}.detach()" if x.requires_grad and torch.is_grad_enabled() else ""
    if torch.autograd.forward_ad.unpack_dual(x).tangent is not None:
        cure = f"torch.autograd.forward_ad.unpack_dual({name}).primal"
    if cure:
        raise TypeError(
            f"{name}: found a tensor that requires grad or carries a tangent, and gradients do not flow through this "
            f"call yet; pass {cure}, to otdist.value_and_grad if gradients are wanted"
        )


def _write_torch(door: Door, a: Array) -> Any:
    torch: Any = sys.modules["torch"]
    dtype = getattr(torch, door.dtype) if a.dtype.kind == "f" else torch.int64
    return torch.from_numpy(_own(a)).to(dtype)


def _read_jax(arrays: dict[str, Any]) -> _Read:
    jax: Any = sys.modules["jax"]
    mine = {name: x for name, x in arrays.items() if isinstance(x, jax.Array)}
    cure = "jax.device_put({}, jax.devices('cpu')[0])"
    for name, x in mine.items():
        if not _is_real(x.dtype):
            _refuse_dtype(name, x.dtype.name)
        if isinstance(x, jax.core.Tracer):
            raise TypeError(
                f"{name}: found a JAX tracer, which holds no values; call this function outside of jit, grad and vmap, "
                f"or use otdist.value_and_grad for gradients"
            )
        if len(x.devices()) > 1:
            raise ValueError(f"{name}: found an array on {len(x.devices())} devices; pass {cure.format(name)}")
    homes = {name: next(iter(x.devices())) for name, x in mine.items()}
    committed = {name: homes[name] for name, x in mine.items() if getattr(x, "committed", True)}
    on_gpu = _check_devices({name: f"{home.platform}:{home.id}" for name, home in (committed or homes).items()}, cure)
    dtype = jax.numpy.result_type(*mine.values(), float).name
    if on_gpu:
        from otdist import _device

        return _device.read_jax(arrays, dtype, next(iter((committed or homes).values())))
    hosts = [np.asarray(x) if name in mine else _host(name, x) for name, x in arrays.items()]
    return dtype, next(iter(committed.values()), None), hosts, None


def _write_jax(door: Door, a: Array) -> Any:
    return sys.modules["jax"].device_put(_own(_cast(door, a)), door.device)


def _read_cupy(arrays: dict[str, Any]) -> _Read:
    from otdist import _device

    for name, x in arrays.items():
        if _library(x) == "":
            _host(name, x)
    return _device.read_cupy(arrays)


def _torch_cure(x: Any) -> str:
    return "{}.cpu()" if x.device.type == "cuda" else ""


def _jax_cure(x: Any) -> str:
    if isinstance(x, sys.modules["jax"].core.Tracer):
        return ""
    return "jax.device_put({}, jax.devices('cpu')[0])" if next(iter(x.devices())).platform != "cpu" else ""


_CURES: dict[str, Callable[[Any], str]] = {
    "torch": _torch_cure,
    "jax": _jax_cure,
    "cupy": lambda _x: "cupy.asnumpy({})",
}
_LIBRARIES: dict[str, tuple[Callable[[dict[str, Any]], _Read], Callable[[Door, Array], Any]]] = {
    "numpy": (_read_numpy, _write_numpy),
    "torch": (_read_torch, _write_torch),
    "jax": (_read_jax, _write_jax),
    "cupy": (_read_cupy, _write_numpy),
}
