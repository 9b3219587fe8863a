"""Exact weighted transport by the network simplex over all arcs: small problems, and those with one tiny side."""

from __future__ import annotations

import numpy as np

from otdist._arrays import Array
from otdist.kernels.small_transport import optimise_small, start_small
from otdist.transport._solution import Solution, Watch
from otdist.transport._weighted import PIECE, Basis, Masses, Stored, lend


def solve_small(C: Array, a: Array, b: Array, masses: Masses, watch: Watch) -> Solution:
    """`solve` by the simplex over all arcs."""
    tree, stopped = optimum(C, masses, watch)
    return tree.solution(a, b, masses.unit, int(tree.state[2]), stopped)


def optimum(C: Array, masses: Masses, watch: Watch) -> tuple[Basis, str]:
    """The optimal basis, and what stopped it early if anything did."""
    n, m = C.shape
    C = lend(C)
    room = n + m
    rows, columns, mass = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64)
    costs, estimates = np.empty(room), np.empty(max(n, m // 32 + 1))
    excess, free, integers = np.empty(n, np.int64), np.empty(m, np.int64), np.empty(room, np.int64)
    found = Basis(n, m)
    least = found.low
    used, placed = start_small(
        C, masses.a, masses.b, found.tree, rows, columns, mass, costs, excess, free, least, estimates, integers
    )
    if not placed:
        from otdist.transport._feasible import serve

        rows, columns, mass, used = serve(C, rows[:used], columns[:used], mass[:used], excess, free)
        costs = C[rows, columns]
    inside = found.plant(rows[:used], columns[:used], mass[:used], costs[:used], estimates)
    if not placed:
        found.absorb(rows, columns, mass, costs, inside)
    exact = Stored(C).exact()
    block = 4
    while not optimise_small(C, found.tree, block, exact, found.state, found.low, found.low, PIECE):
        if watch.stop("simplex", int(found.state[2])):
            return found, watch.stopped
    return found, ""
