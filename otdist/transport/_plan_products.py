"""The entropic plan as an operator: products with P and its transpose, stored or made in tiles on the fly."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from otdist._arrays import Array
from otdist.kernels import threads
from otdist.kernels.entropic_pulls import boltzmann
from otdist.transport._entropic_pulls import logarithms
from otdist.transport._gibbs import Entropic
from otdist.transport._problem import Matrix, Points
from otdist.transport._weighted import lend
from otdist.transport._weighted_points import Clouds

# Pairs of a block of rows (2 MB of float64), and blocks whose partial sums over columns are held at once.
PAIRS, BATCH = 1 << 18, 16


class Plan:
    """P_ij = a_i b_j exp(phi_i + gamma_j - c_ij / epsilon), stored where it fits in `task.memory`.

    Blocks of rows are at fixed places and merged in order, so no bit depends on the number of threads.
    """

    def __init__(self, task: Entropic, phi: Array, gamma: Array) -> None:
        self.task, self.shape = task, task.shape
        n, m = self.shape
        u, v, self._scale = logarithms(task, phi, gamma)
        self._u, self._v = lend(u), lend(v)
        self._spans = list(threads.spans(n, max(1, PAIRS // m)))
        self._free: deque[tuple[Any, Array]] = deque()
        self._stored: Array | None = None
        self._stored = self.dense() if 8 * n * m <= task.memory else None
        self.rows, self.cols = np.empty(n), np.zeros(m)

        def sums(i0: int, i1: int, P: Array, _costs: Array | None) -> Array:
            np.sum(P, axis=1, out=self.rows[i0:i1])
            return np.asarray(np.sum(P, axis=0))

        for part in self.blocks(sums):
            self.cols += part

    def dense(self) -> Array:
        """P as an array."""
        if self._stored is not None:
            return self._stored
        whole = np.empty(self.shape)

        def put(i0: int, i1: int, P: Array, _costs: Array | None) -> None:
            whole[i0:i1] = P

        for _ in self.blocks(put):
            pass
        return whole

    def apply(self, V: Array) -> Array:
        """P V."""
        out = np.empty((self.shape[0], *V.shape[1:]))

        def put(i0: int, i1: int, P: Array, _costs: Array | None) -> None:
            out[i0:i1] = P @ V

        for _ in self.blocks(put):
            pass
        return out

    def transposed(self, U: Array) -> Array:
        """Pᵀ U."""
        out = np.zeros((self.shape[1], *U.shape[1:]))
        for part in self.blocks(lambda i0, i1, P, _costs: P.T @ U[i0:i1]):
            out += part
        return out

    def around(self, v: Array, divisor: Array) -> Array:
        """Pᵀ diag(1/divisor) P v, in one pass."""
        out = np.zeros(self.shape[1])
        for part in self.blocks(lambda i0, i1, P, _costs: P.T @ ((P @ v) / divisor[i0:i1])):
            out += part
        return out

    def blocks(self, function: Callable[[int, int, Array, Array | None], Any], costs: bool = False) -> Iterator[Any]:
        """function(i0, i1, rows of P, and of the costs if asked for) of all blocks of rows, in order."""
        m = self.shape[1]

        def one(i0: int, i1: int) -> Any:
            if self._stored is not None and not costs:
                return function(i0, i1, self._stored[i0:i1], None)
            try:
                maker, scratch = self._free.pop()
            except IndexError:
                maker, scratch = row_costs(self.task.problem), np.empty((max(1, PAIRS // m), m))
            C = maker(i0, i1)
            if self._stored is None:
                P = scratch[: i1 - i0]
                boltzmann(C, self._u[i0:i1], self._v, self._scale, P)
            else:
                P = self._stored[i0:i1]
            found = function(i0, i1, P, C)
            self._free.append((maker, scratch))
            return found

        with threads.single_blas():
            for start in range(0, len(self._spans), BATCH):
                batch = self._spans[start : start + BATCH]
                yield from threads.run(
                    one, batch, float(len(batch) * PAIRS) * (0.3 if self._stored is not None else 2.0)
                )


def row_costs(problem: Any) -> Callable[[int, int], Array]:
    """What gives the costs of a block of rows [i0, i1); not to be shared between threads."""
    if isinstance(problem, Matrix):
        C = lend(np.ascontiguousarray(problem.C))
        return lambda i0, i1: C[i0:i1]
    if isinstance(problem, Points):
        x, y = (np.asarray(z, np.float64) for z in (problem.x, problem.y))
        clouds = Clouds(x, y, problem.cost)
        return lambda i0, i1: clouds.tile(np.arange(i0, i1))[0]
    columns = np.arange(problem.shape[1])

    def of_grid(i0: int, i1: int) -> Array:
        return lend(np.ascontiguousarray(problem.grid.cost(np.arange(i0, i1)[:, None], columns), np.float64))

    return of_grid
