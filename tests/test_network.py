"""The network simplex: every basis on the way is a strongly feasible tree of the masses, and none returns."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from otdist.kernels import network
from otdist.kernels.crossover import plant
from otdist.kernels.transport_auction import bid, entries, new_auction

NONE = np.empty(0, np.uint32)


def corner(a: np.ndarray, b: np.ndarray) -> tuple[list[int], list[int], list[int]]:
    """The plan of the north-west corner rule."""
    rows, columns, mass = [], [], []
    a, b = a.copy(), b.copy()
    i = j = 0
    while i < len(a) and j < len(b):
        part = min(a[i], b[j])
        rows.append(i)
        columns.append(j)
        mass.append(part)
        a[i] -= part
        b[j] -= part
        if a[i] == 0:
            i += 1
        else:
            j += 1
    return rows, columns, mass


class Simplex:
    """A basis that is looked at after every pivot."""

    def __init__(self, C: np.ndarray, a: np.ndarray, b: np.ndarray, arcs: tuple[list[int], ...]) -> None:
        self.C, self.a, self.b = C, a, b
        n, m = C.shape
        self.tree = network.empty_tree(n, m)
        rows, columns = np.array(arcs[0], np.int32), np.array(arcs[1], np.int32)
        self.plan = network.Plan(
            rows, columns, np.array(arcs[2], np.int64), C[rows, columns], np.empty(len(rows), np.bool_)
        )
        begins, room = np.empty(n + m + 2, np.int64), np.empty(2 * (n + m), np.int32)
        plant(*self.tree, n, m, *self.plan, np.zeros(n), begins, room)
        self.state = np.zeros(5, np.int64)

    def run(self, work: int, block: int = 1) -> bool:
        n, m = self.C.shape
        C = self.C.ravel().view()
        C.flags.writeable = False
        network.improve(*self.tree, n, *self.plan, np.arange(0, n * m + 1, m), NONE, C, block, True, self.state, work)
        return bool(self.state[network.CLEAN] == n)

    def look(self) -> tuple[float, frozenset[tuple[int, int]]]:
        """Checks the tree; returns the cost of its flow and its arcs."""
        n, m = self.C.shape
        parent, position, size, order, _ = self.tree.nodes
        _cost, potential, _ = self.tree.reals
        root = n + m
        assert sorted(order) == list(range(n + m + 1))
        assert (position[order] == np.arange(n + m + 1)).all()
        assert order[0] == root
        assert parent[root] == -1
        assert size[root] == n + m + 1
        held = np.zeros(n + m, np.int64)
        arcs = []
        value = 0.0
        for v in range(n + m):
            p = parent[v]
            assert position[p] < position[v]
            assert position[v] + size[v] <= position[p] + size[p]
            assert size[v] == 1 + sum(size[w] for w in np.flatnonzero(parent == v))
            flow = self.tree.flow[v]
            assert flow >= 0
            if p == root:
                assert v < n
                assert flow == 0
                continue
            assert (v < n) != (p < n)
            assert flow > 0 or v < n, "an empty arc must point to the root"
            i, j = (v, p - n) if v < n else (p, v - n)
            assert self.C[i, j] - potential[i] + potential[n + j] == 0.0
            held[v] += flow
            held[p] += flow
            arcs.append((int(i), int(j)))
            value += self.C[i, j] * flow
        if self.state[network.ABSORBED] == len(self.plan.rows):
            assert (held == np.concatenate([self.a, self.b])).all()
        return value, frozenset(arcs)


def integer_problem(n: int, m: int, seed: int, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    C = random.integers(0, most, (n, m)).astype(float)
    a, b = random.integers(1, 9, n), random.integers(1, 9, m)
    a[0] += max(0, b.sum() - a.sum())
    b[0] += max(0, a.sum() - b.sum())
    return C, a, b


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("n", "m"), [(1, 4), (6, 6), (9, 14)])
def test_every_basis_is_a_strongly_feasible_tree(n: int, m: int, seed: int) -> None:
    C, a, b = integer_problem(n, m, seed, 30)
    simplex = Simplex(C, a, b, corner(a, b))
    last, _ = simplex.look()
    for _ in range(10_000):
        done = simplex.run(1)  # at most one pivot
        value, _ = simplex.look()
        assert value <= last
        last = value
        if done:
            break
    assert done
    potential = simplex.tree.reals[1]
    assert (C - potential[:n, None] + potential[n : n + m]).min() >= 0


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("most", [2, 4, 50])
def test_no_basis_returns_when_every_pivot_is_degenerate(seed: int, most: int) -> None:
    n = 9
    C, _, _ = integer_problem(n, n, seed, most)
    ones = np.ones(n, np.int64)
    simplex = Simplex(C, ones, ones, (list(range(n)), list(range(n)), [1] * n))
    value, arcs = simplex.look()
    seen = {arcs}
    pivots = 0
    while not simplex.run(1):
        value, arcs = simplex.look()
        if simplex.state[network.PIVOTS] > pivots:
            pivots = int(simplex.state[network.PIVOTS])
            assert arcs not in seen
            seen.add(arcs)
        assert pivots < 5000
    assert value == C[linear_sum_assignment(C)].sum()


@pytest.mark.parametrize("n", [50, 200])
def test_uniform_masses_of_zeros_and_ones_end(n: int) -> None:
    random = np.random.default_rng(n)
    C = (random.random((n, n)) < 0.9).astype(float)
    ones = np.ones(n, np.int64)
    simplex = Simplex(C, ones, ones, (list(range(n)), list(range(n)), [1] * n))
    assert simplex.run(10**9, 4)
    assert simplex.look()[0] == C[linear_sum_assignment(C)].sum()


@pytest.mark.parametrize("seed", range(5))
def test_crossover_of_any_plan_costs_no_more(seed: int) -> None:
    n, m = 8, 11
    C, _, _ = integer_problem(n, m, seed, 40)
    random = np.random.default_rng(seed)
    # a plan with cycles in plenty
    mass = random.integers(1, 6, (n, m)) * (random.random((n, m)) < 0.5)
    mass[:, 0] += mass.sum(axis=1) == 0
    mass[0] += mass.sum(axis=0) == 0
    rows, columns = np.nonzero(mass)
    arcs = rows.tolist(), columns.tolist(), mass[rows, columns].tolist()
    simplex = Simplex(C, mass.sum(axis=1), mass.sum(axis=0), arcs)
    while simplex.state[network.ABSORBED] < len(rows):
        simplex.run(1)
    value, _ = simplex.look()
    assert value <= (C * mass).sum()
    assert simplex.run(10**9)
    simplex.look()


def test_unload_is_exact_in_small_masses() -> None:
    a, b = np.array([1.0, 2.0**-100, 2.0**-80]), np.array([1.0, 2.0**-80 + 2.0**-100])
    unit = 1.0 / 2**58
    ai, bi = np.array([2**58, 1, 1]), np.array([2**58, 2])
    simplex = Simplex(np.array([[0.0, 5.0], [5.0, 0.0], [5.0, 0.0]]), ai, bi, ([0, 1, 2], [0, 1, 1], [2**58, 1, 1]))
    assert simplex.run(10**6)
    out = np.empty(5, np.int64), np.empty(5, np.int64), np.empty(5)
    count = network.unload(*simplex.tree, 3, a, b, unit, *out)
    found = {(int(i), int(j)): w for i, j, w in zip(*(x[:count] for x in out), strict=True)}
    assert found == {(0, 0): 1.0, (1, 1): 2.0**-100, (2, 1): 2.0**-80}


@pytest.mark.parametrize("seed", range(5))
def test_auction_keeps_mass_and_complementary_slackness(seed: int) -> None:
    n, m, epsilon = 30, 25, 0.05
    random = np.random.default_rng(seed)
    C, a, b = random.random((n, m)), random.integers(1, 100, n), random.integers(1, 100, m)
    a[0] += max(0, b.sum() - a.sum())
    b[0] += max(0, a.sum() - b.sum())
    prices = np.zeros(m)
    state = new_auction(prices, a, b, a.sum(), 16)
    everything = np.tile(np.arange(m, dtype=np.uint32), (n, 1))
    while state.counters[2]:
        bid(state, everything, C, np.full(n, np.inf), epsilon, 0, 10**6, 1000)
        rows, columns, mass = entries(state)
        assert (np.bincount(rows, mass, n) + state.excess == a).all()
        assert (np.bincount(columns, mass, m) + state.free == b).all()
        # every piece lies where it costs at most epsilon more than the best
        best = (C + prices).min(axis=1)
        assert (C[rows, columns] + prices[columns] <= best[rows] + epsilon + 1e-12).all()
        assert (prices[state.free > 0] == 0).all()
    assert not state.excess.any()
