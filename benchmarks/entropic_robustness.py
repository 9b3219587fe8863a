"""Who survives what: small and large epsilon, zero masses, twelve decades, an offset, float32; who is silently wrong.

A cell is one problem of 60 x 50 costs. A peer's plan is judged in float64: its marginals to 1e-3, its regularised value
to 1e-3 between the bounds that ours proves (else: of the reference). "wrong" is a plan that fails without a warning.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import otdist as od
from otdist.reference import entropic as reference


@dataclass(frozen=True)
class Cell:
    """What became of one problem, by every contender."""

    name: str
    outcomes: dict[str, str]


def cells() -> Iterator[tuple[str, Any, Any, Any, float]]:
    """Costs, masses and epsilon of the grid."""
    rng = np.random.default_rng(6)
    n, m = 60, 50
    base = rng.random((n, m))
    equal = np.full(n, 1.0 / n), np.full(m, 1.0 / m)
    holes = tuple(w / w.sum() for w in (np.where(np.arange(k) % 3 > 0, rng.random(k) + 0.1, 0.0) for k in (n, m)))
    decades = tuple(w / w.sum() for w in (10.0 ** rng.uniform(-12, 0, k) for k in (n, m)))
    for masses, (a, b) in (("equal", equal), ("zeros", holes), ("12 decades", decades)):
        for costs, C in (("", base), (", offset 1e4", base + 1e4)):
            for dtype in ("float64", "float32"):
                for ratio in (1e-6, 1e-4, 1e-2, 1.0, 1e3):
                    name = f"{masses}{costs}, {dtype}, epsilon={ratio:g}"
                    arrays = tuple(z.astype(dtype) for z in (C, a, b))
                    yield name, *arrays, ratio * float(np.ptp(base))


def contenders() -> dict[str, Callable[[Any, Any, Any, float], Any]]:
    """Functions that return a plan."""
    found: dict[str, Callable[[Any, Any, Any, float], Any]] = {}
    found["otdist"] = lambda C, a, b, epsilon: od.sinkhorn(C, a, b, epsilon=epsilon, max_iter=20_000)
    try:
        import ot

        for method in ("sinkhorn", "sinkhorn_log", "sinkhorn_stabilized"):
            found[f"POT {method}"] = lambda C, a, b, epsilon, method=method: ot.sinkhorn(
                a, b, C, epsilon, method=method, numItermax=3000
            )
    except ImportError:
        pass
    try:
        import jax

        jax.config.update("jax_enable_x64", True)
        import jax.numpy as jnp
        from ott.geometry import geometry
        from ott.problems.linear import linear_problem
        from ott.solvers.linear import sinkhorn

        solver = jax.jit(
            lambda C, a, b, epsilon: sinkhorn.Sinkhorn(max_iterations=3000)(
                linear_problem.LinearProblem(geometry.Geometry(cost_matrix=C, epsilon=epsilon), a, b)
            )
        )

        def ott(C: Any, a: Any, b: Any, epsilon: float) -> Any:
            out = solver(jnp.asarray(C), jnp.asarray(a), jnp.asarray(b), jnp.asarray(epsilon, C.dtype))
            if not bool(out.converged):
                warnings.warn("converged is False", UserWarning, stacklevel=2)
            return np.asarray(out.matrix)

        found["OTT"] = ott
    except ImportError:
        pass
    return found


def judge(call: Callable[[], Any], C: Any, a: Any, b: Any, epsilon: float, low: float, high: float) -> str:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            P = call()
        except Exception:
            return "raised"
    P = np.asarray(P.plan if isinstance(P, od.Transport) else P, np.float64)
    if np.isnan(P).any():
        return "NaN" if not told else "NaN, warned"
    off = float(np.abs(P.sum(1) - a).sum() + np.abs(P.sum(0) - b).sum())
    value = reference.primal(C, a, b, reference.rounded(P, a, b), epsilon)
    size = float(np.ptp(C)) + epsilon
    good = off <= 1e-3 and low - 1e-3 * size <= value <= high + 1e-3 * size
    return ("right" if good else "wrong") if not told else "warned"


def table(only: str = "", without: tuple[str, ...] = ()) -> list[Cell]:
    """Print and return the grid."""
    everyone = {k: v for k, v in contenders().items() if k not in without}
    found = []
    for name, C, a, b, epsilon in cells():
        if only not in name:
            continue
        wide, p, q = (z.astype(np.float64) for z in (C, a, b))
        p, q = p / p.sum(), q / q.sum()
        low, high = reference.bracket(wide, p, q, epsilon, passes=1000)
        outcomes = {k: judge(lambda: f(C, a, b, epsilon), wide, p, q, epsilon, low, high) for k, f in everyone.items()}  # noqa: B023
        found.append(Cell(name, outcomes))
        print(f"{name:44s} " + "  ".join(f"{k}: {v}" for k, v in outcomes.items()), flush=True)
    for k in everyone:
        kinds = [cell.outcomes[k] for cell in found]
        print(f"{k:20s} " + "  ".join(f"{kind} {kinds.count(kind)}" for kind in sorted(set(kinds))), flush=True)
    return found


if __name__ == "__main__":
    table()
