"""Peers of the GPU benchmark, each at what its documentation recommends, in float32 unless it offers no choice.

`peers_of(problem)` gives functions that build a peer: importing it, bringing the data into its library and compiling
belong to that. What a peer computes is compared with the problem's oracle by `read`; without it, with nothing.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.gpu_problems import LOG2E, Problem

# What a peer is imported as, and where it comes from.
MODULES = {
    "torch": ("torch", "pip install torch"),
    "CuPy": ("cupy", "pip install 'otdist[cuda12]'"),
    "POT": ("ot", "pip install pot"),
    "GeomLoss": ("geomloss", "pip install geomloss"),
    "KeOps": ("pykeops", "pip install pykeops"),
    "FlashSinkhorn": ("flash_sinkhorn", "pip install flash-sinkhorn"),
    "OTT": ("ott", "pip install ott-jax 'jax[cuda12]'"),
    "torch-lap-cuda": ("torch_lap_cuda", "pip install torch-lap-cuda"),
    "cuVS": ("cuvs", "pip install cuvs-cu12"),
    "torch-linear-assignment": ("torch_linear_assignment", "pip install torch-linear-assignment"),
}


@dataclass(frozen=True)
class Peer:
    """`per`: iterations in a call, where the problem is one; `alone`: it works in streams of its own."""

    call: Callable[[], Any]
    read: Callable[[Any], Any] | None = lambda r: r
    note: str = ""
    alone: bool = False
    per: int = 1


def absent() -> dict[str, str]:
    """Peers that are not installed, with the cure."""
    return {
        name: f"not installed: {cure}"
        for name, (module, cure) in MODULES.items()
        if importlib.util.find_spec(module) is None
    }


def peers_of(problem: Problem) -> dict[str, Callable[[], Peer]]:
    """Builders of the peers that are installed and solve this problem."""
    gone, table = absent(), TABLE[problem.name.removesuffix(" f32").removesuffix(" bf16")]
    needed = {name: name.split(",")[0] for name in table}
    return {name: (lambda m=make: m(**problem.data)) for name, make in table.items() if needed[name] not in gone}


def _tensors(*arrays: Any) -> list[Any]:
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    return [x if isinstance(x, torch.Tensor) else torch.from_dlpack(x) for x in arrays]


# --- rows, pairs ------------------------------------------------------------------------------------------------------


def _js(xp: Any, p: Any, q: Any) -> Any:
    middle = 0.5 * (p + q)
    slope = 0.5 * xp.log(p / middle)
    return (p * slope + 0.5 * q * xp.log(q / middle)).sum(-1), slope


def _torch_rows(p: Any, q: Any) -> Peer:
    import torch

    p, q = _tensors(p, q)
    return Peer(lambda: _js(torch, p, q), note="value and gradient by formula")


def _compiled_rows(p: Any, q: Any) -> Peer:
    import torch

    p, q = _tensors(p, q)
    run = torch.compile(lambda p, q: _js(torch, p, q))
    return Peer(lambda: run(p, q), note="torch.compile of the formula")


def _cupy_rows(p: Any, q: Any) -> Peer:
    import cupy

    if not isinstance(p, cupy.ndarray):
        raise LookupError("CuPy has no bfloat16")
    return Peer(lambda: _js(cupy, p, q), note="value and gradient by formula")


def _kl(xp: Any, p: Any, q: Any) -> Any:
    return (p * xp.log(p)).sum(1)[:, None] - p @ xp.log(q).T


def _torch_pairs(p: Any, q: Any) -> Peer:
    import torch

    p, q = _tensors(p, q)
    return Peer(lambda: _kl(torch, p, q), note="a float32 product")


def _cupy_pairs(p: Any, q: Any) -> Peer:
    import cupy

    return Peer(lambda: _kl(cupy, p, q), note="a float32 product")


def _cuvs_pairs(p: Any, q: Any) -> Peer:
    import cupy
    from cuvs.distance import pairwise_distance

    out = cupy.empty((len(p), len(q)), np.float32)
    return Peer(lambda: (pairwise_distance(p, q, out=out, metric="kl_divergence"), out)[1], alone=True)


# --- clouds -----------------------------------------------------------------------------------------------------------


def _torch_mmd(x: Any, y: Any, width: float) -> Peer:
    import torch

    x, y = _tensors(x, y)
    n, rows = len(x), 4096

    def side(A: Any, B: Any) -> tuple[Any, Any, Any]:
        """Sum of k(A, B), and its gradients by A in the second argument fixed."""
        total, pulls = torch.zeros((), dtype=torch.float64, device=A.device), torch.empty_like(A)
        squares = (B * B).sum(1)
        for i in range(0, len(A), rows):
            a = A[i : i + rows]
            G = torch.exp(((a * a).sum(1)[:, None] + squares - 2.0 * a @ B.T) * (-0.5 / width**2))
            sums = G.sum(1)
            total += sums.sum(dtype=torch.float64)
            pulls[i : i + rows] = (G @ B - sums[:, None] * a) / width**2
        return total, pulls, None

    def call() -> Any:
        (xx, gx, _), (yy, gy, _) = side(x, x), side(y, y)
        (xy, hx, _), (_, hy, _) = side(x, y), side(y, x)
        return (xx + yy - 2.0 * xy) / n**2, (2.0 / n**2 * (gx - hx), 2.0 / n**2 * (gy - hy))

    return Peer(call, note="blocks of 4096 rows, gradients by formula")


def _keops_mmd(x: Any, y: Any, width: float) -> Peer:
    import torch
    from pykeops.torch import LazyTensor

    x, y = (z.clone().requires_grad_() for z in _tensors(x, y))
    n = len(x)

    def mean(a: Any, b: Any) -> Any:
        K = (-((LazyTensor(a[:, None]) - LazyTensor(b[None])) ** 2).sum(-1) / (2.0 * width**2)).exp()
        return K.sum(1).sum(dtype=torch.float64) / n**2

    def call() -> Any:
        value = mean(x, x) + mean(y, y) - 2.0 * mean(x, y)
        return value.detach(), torch.autograd.grad(value, (x, y))

    return Peer(call)


def _geomloss_mmd(x: Any, y: Any, width: float) -> Peer:
    import torch
    from geomloss import SamplesLoss

    x, y = (z.clone().requires_grad_() for z in _tensors(x, y))
    loss = SamplesLoss("gaussian", blur=width, backend="online")

    def call() -> Any:
        value = 2.0 * loss(x, y)
        return value.detach(), torch.autograd.grad(value, (x, y))

    return Peer(call, note="backend online (by KeOps)")


def _torch_softmin(x: Any, y: Any, epsilon: float) -> Peer:
    import torch

    x, y = _tensors(x, y)

    def half(A: Any, B: Any) -> Any:
        squares, out = (B * B).sum(1), []
        for i in range(0, len(A), 4096):
            a = A[i : i + 4096]
            costs = (a * a).sum(1)[:, None] + squares - 2.0 * a @ B.T
            out.append(-torch.logsumexp(costs / -epsilon - float(np.log(len(B))), 1) * LOG2E)
        return torch.cat(out)

    return Peer(lambda: (half(x, y), half(y, x)), note="blocks of 4096 rows")


def _keops_softmin(x: Any, y: Any, epsilon: float) -> Peer:
    from pykeops.torch import LazyTensor

    x, y = _tensors(x, y)

    def half(A: Any, B: Any) -> Any:
        costs = ((LazyTensor(A[:, None]) - LazyTensor(B[None])) ** 2).sum(-1)
        return -((costs / -epsilon) - float(np.log(len(B)))).logsumexp(1).view(-1) * LOG2E

    return Peer(lambda: (half(x, y), half(y, x)))


def _flash_softmin(x: Any, y: Any, epsilon: float, tf32: bool = True) -> Peer:
    from flash_sinkhorn import SamplesLoss

    x, y = _tensors(x, y)

    def solver(steps: int) -> Any:
        return SamplesLoss(
            "sinkhorn", backend="alternating", eps=epsilon, n_iters=steps, use_epsilon_scaling=False, potentials=True,
            last_extrapolation=False, debias=False, allow_tf32=tf32,
        )  # fmt: skip

    # from g = 0 the first half-step is the soft-min of the rows; the columns' starts from that, and is not compared
    first = solver(1)(x, y)[0].detach().reshape(-1) * (LOG2E / epsilon)
    ten = solver(10)
    return Peer(lambda: ten(x, y), lambda _: (first, None), "an iteration of ten; rows compared", per=10)


def _ott_softmin(x: Any, y: Any, epsilon: float) -> Peer:
    import jax
    from ott.geometry import pointcloud

    points = [jax.dlpack.from_dlpack(z) for z in (x, y)]
    n = len(x)

    @jax.jit
    def both(a: Any, b: Any) -> Any:
        geometry = pointcloud.PointCloud(a, b, epsilon=epsilon, batch_size=1024 if n > 1024 else None)
        zero = jax.numpy.zeros(n)
        sums = (geometry.apply_lse_kernel(zero, zero, epsilon, axis=axis)[0] for axis in (1, 0))
        return tuple(-(s / epsilon - float(np.log(n))) * LOG2E for s in sums)

    return Peer(lambda: jax.block_until_ready(both(*points)), note="batch_size 1024", alone=True)


# --- transport --------------------------------------------------------------------------------------------------------


def _torch_sinkhorn(C: Any, epsilon: float, steps: int) -> Peer:
    import torch

    (C,) = _tensors(C)
    even = float(np.log(C.shape[1]))

    def call() -> Any:
        S, g = C / -epsilon, torch.zeros_like(C[:, 0])
        for _ in range(steps):
            f = even - torch.logsumexp(S + g[:, None, :], 2)
            g = even - torch.logsumexp(S + f[:, :, None], 1)
        return epsilon * (f + g).mean(1)

    return Peer(call, note="logsumexp over the batch")


def _pot_sinkhorn(C: Any, epsilon: float, steps: int) -> Peer:
    import ot

    (C,) = _tensors(C)
    even = C[:, 0] * 0.0 + 1.0 / C.shape[1]

    def call() -> Any:
        return ot.solve_batch(C, epsilon, even, even, max_iter=steps, tol=0.0, method="log_sinkhorn", grad="detach")

    return Peer(call, None, "torch backend, solve_batch")


def _ott_sinkhorn(C: Any, epsilon: float, steps: int) -> Peer:
    import jax
    from ott.geometry import geometry
    from ott.solvers.linear import sinkhorn

    costs = jax.dlpack.from_dlpack(C)
    solver = sinkhorn.Sinkhorn(min_iterations=steps, max_iterations=steps, threshold=0.0)

    @jax.jit
    @jax.vmap
    def solve(c: Any) -> Any:
        from ott.problems.linear import linear_problem

        out = solver(linear_problem.LinearProblem(geometry.Geometry(c, epsilon=epsilon)))
        return out.f.mean() + out.g.mean() + 2.0 * epsilon * float(np.log(c.shape[0]))  # P = exp((f + g - C) / epsilon)

    return Peer(lambda: jax.block_until_ready(solve(costs)), note="vmap", alone=True)


def _lap(C: Any) -> Peer:
    from torch_lap_cuda import solve_lap

    (C,) = _tensors(C)
    return Peer(lambda: solve_lap(C), alone=True)


def _linear(C: Any) -> Peer:
    from torch_linear_assignment import batch_linear_assignment

    (C,) = _tensors(C)
    batch = C if C.ndim == 3 else C[None]
    return Peer(lambda: batch_linear_assignment(batch), alone=True)


def _torch_line(u: Any, v: Any) -> Peer:
    import torch

    u, v = _tensors(u, v)
    return Peer(lambda: (torch.sort(u)[0] - torch.sort(v)[0]).abs().mean(dtype=torch.float64), note="two sorts")


def _cupy_line(u: Any, v: Any) -> Peer:
    import cupy

    return Peer(lambda: cupy.abs(cupy.sort(u) - cupy.sort(v)).mean(dtype=np.float64), note="two sorts")


def _pot_line(u: Any, v: Any) -> Peer:
    import ot

    u, v = _tensors(u, v)
    return Peer(lambda: ot.wasserstein_1d(u, v, p=1), note="torch backend")


TABLE: dict[str, dict[str, Callable[..., Peer]]] = {
    "rows": {"torch": _torch_rows, "torch, compiled": _compiled_rows, "CuPy": _cupy_rows},
    "pairwise kl": {"torch": _torch_pairs, "CuPy": _cupy_pairs, "cuVS": _cuvs_pairs},
    "mmd": {"KeOps": _keops_mmd, "GeomLoss": _geomloss_mmd, "torch": _torch_mmd},
    "softmin": {
        "FlashSinkhorn": _flash_softmin, "FlashSinkhorn, float32": lambda **data: _flash_softmin(**data, tf32=False),
        "KeOps": _keops_softmin, "torch": _torch_softmin, "OTT": _ott_softmin,
    },
    "sinkhorn batch": {"torch": _torch_sinkhorn, "POT": _pot_sinkhorn, "OTT": _ott_sinkhorn},
    "assignments": {"torch-lap-cuda": _lap, "torch-linear-assignment": _linear},
    "assignment": {"torch-lap-cuda": _lap, "torch-linear-assignment": _linear},
    "line": {"torch": _torch_line, "CuPy": _cupy_line, "POT": _pot_line},
}  # fmt: skip
