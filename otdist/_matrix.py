"""The matrix of all pairs of two sets of rows, by the kernel that suits the divergence and the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from otdist._arrays import Array, Door, enter
from otdist._custom import values_of_pairs
from otdist._evaluate import Options, Rows, check_sums, histograms, lend, logit_pairs, redo_pairs, refuse_logits
from otdist.catalogue import Generator, Plan
from otdist.kernels import pairs, threads
from otdist.kernels.entries import within
from otdist.kernels.rows import LOGARITHM, ROOT
from otdist.kernels.sparse import sparse_pairs
from otdist.kernels.terms import L2

# Pairs computed at a time where no matrix is held.
TILE = 1 << 18
# Entries within 2^-400 ... 2^400 need no care for underflow and overflow of squares; as `within` wants them.
ORDINARY = (np.float64(2.0**-400).view(np.uint64) - np.uint64(1), np.float64(2.0**400).view(np.uint64))


def pose(chosen: Plan | Generator, sides: list[Rows], options: Options, door: Door) -> tuple[Array, Array, bool]:
    """Rows of X and of Y as `Problem` wants them (one array if they are the same), and whether they are logits."""
    X, Y = sides
    if options.from_logits and isinstance(chosen, Plan) and any(_underflows(side) for side in (X, Y)):
        return X.data, X.data if Y is X else Y.data, True
    first = histograms(X, options, door)
    return first, first if Y is X else histograms(Y, options, door), False


def _underflows(side: Rows) -> bool:
    """Whether a probability, though its logit is finite, may be too small for the linear domain."""
    refuse_logits(side)
    finite = np.where(side.data == -np.inf, np.inf, side.data).min(axis=1, initial=np.inf)
    return bool(np.any(side.data.max(axis=1, initial=-np.inf).astype(np.float64) - finite > 600.0))


@dataclass(frozen=True)
class Problem:
    """D(P[i], Q[j]) for all i, j; P, Q are histograms, measures, or `logits` whose probabilities might underflow."""

    chosen: Plan | Generator
    P: Array
    Q: Array
    logits: bool
    options: Options
    workspace: int

    @property
    def plan(self) -> Plan:
        assert isinstance(self.chosen, Plan)
        return self.chosen.measures() if self.options.normalize is False else self.chosen

    def write(self, i0: int, i1: int, out: Array) -> None:
        """out[i - i0, j] = D(P[i], Q[j]), i0 <= i < i1."""
        P = self.P if i1 - i0 == len(self.P) else self.P[i0:i1]
        if not out.size:
            return
        if isinstance(self.chosen, Generator):
            generator = self.chosen
            _by_pairs(lambda i, j: values_of_pairs(generator, P[i], self.Q[j], self.options), P, self.Q, out)
        elif self.logits:
            _by_pairs(lambda i, j: logit_pairs(self.plan, P, self.Q, i, j), P, self.Q, out)
        else:
            self._histograms(P, out)

    @property
    def columns(self) -> int:
        return len(self.Q)

    @property
    def direct(self) -> bool:
        """Whether the kernels' own search for the nearest rows may be used."""
        return isinstance(self.chosen, Plan) and not self.chosen.swap and not self.logits and self.ordinary

    @property
    def ordinary(self) -> bool:
        """Whether no entry is so small or so large that squares could leave the range of float64."""
        return self.P.dtype == np.float32 or all(within(lend(a), *ORDINARY) for a in (self.P, self.Q))

    def _histograms(self, P: Array, out: Array) -> None:
        plan, Q = self.plan, self.Q
        options: dict[str, Any] = {"normalized": self.options.normalize is not False, "workspace_bytes": self.workspace}
        if plan.swap:
            pairs.all_pairs(plan.tag, plan.finish, Q, P, out.T, **options)
        else:
            pairs.all_pairs(plan.tag, plan.finish, P, Q, out, **options)
        if self.ordinary or plan.finish.kind == LOGARITHM or plan.degree is None:
            return
        power = 0.5 if plan.finish.kind == ROOT else 1.0
        with np.errstate(invalid="ignore"):
            i, j = np.nonzero(~((out > 1e-280**power) & (out < 1e280**power)))
        for a, b in threads.spans(len(i), TILE):
            out[i[a:b], j[a:b]] = redo_pairs(plan, P, Q, i[a:b], j[a:b])


def _by_pairs(values: Any, P: Array, Q: Array, out: Array) -> None:
    """Fill `out` from a function of paired indices, some rows at a time."""
    columns = np.arange(len(Q))
    for i0, i1 in threads.spans(len(P), max(1, TILE // len(Q))):
        i = np.repeat(np.arange(i0, i1), len(Q))
        with np.errstate(over="ignore"):  # float64 values beyond float32 are inf
            out[i0:i1] = values(i, np.tile(columns, i1 - i0)).reshape(i1 - i0, len(Q))


def least(problem: Problem | SparseProblem, values: Array, indices: Array) -> None:
    """The least values of each row of the problem's matrix, ascending, and where they are; equal ones by index."""
    n, k = values.shape
    if not n:
        return
    if isinstance(problem, Problem) and problem.direct:
        plan, normalized = problem.plan, problem.options.normalize is not False
        best = pairs.nearest(
            plan.tag, plan.finish, problem.P, problem.Q, k, normalized=normalized, workspace_bytes=problem.workspace
        )
        values[...], indices[...] = best
        return
    m = problem.columns
    for i0, i1 in threads.spans(n, max(1, TILE // m)):
        block = np.empty((i1 - i0, m), values.dtype)
        problem.write(i0, i1, block)
        order = np.argsort(block, axis=1, kind="stable")[:, :k]
        indices[i0:i1] = order
        values[i0:i1] = np.take_along_axis(block, order, axis=1)


@dataclass(frozen=True)
class SparseProblem:
    """D(P[i], Q[j]) for rows given by their stored entries, (indptr, indices, data) in float64."""

    plan: Plan
    P: tuple[Array, Array, Array]
    Q: tuple[Array, Array, Array]
    bins: int
    dtype: type[np.floating[Any]]
    exponent: int = 0  # the entries are 2^-exponent times what was given

    @property
    def rows(self) -> int:
        return len(self.P[0]) - 1

    @property
    def columns(self) -> int:
        return len(self.Q[0]) - 1

    def write(self, i0: int, i1: int, out: Array) -> None:
        """out[i - i0, j] = D(P[i], Q[j]), i0 <= i < i1."""
        starts, at, data = self.P
        P = (starts[i0 : i1 + 1], at, data)
        if self.plan.swap:
            sparse_pairs(self.plan.tag, self.plan.finish, self.Q, P, self.bins, out.T)
        else:
            sparse_pairs(self.plan.tag, self.plan.finish, P, self.Q, self.bins, out)
        if self.exponent:
            with np.errstate(over="ignore", under="ignore"):
                np.ldexp(out, int(self.exponent * (self.plan.degree or 0.0)), out=out)


def pose_sparse(chosen: Plan | Generator, X: Any, Y: Any, options: Options) -> SparseProblem:
    """SciPy sparse rows, validated; dense ones beside them are read as sparse."""
    from scipy import sparse

    if options.from_logits or isinstance(chosen, Generator):
        what = "from_logits=True" if options.from_logits else "a Generator"
        raise ValueError(f"X: found a scipy.sparse matrix with {what}; pass X.toarray()")
    sides = []
    for name, x in ({"X": X} if Y is None else {"X": X, "Y": Y}).items():
        if not sparse.issparse(x):
            _, (host,) = enter(**{name: x})
            if host.ndim != 2:
                raise ValueError(f"{name}: found shape {host.shape}; give 2-D rows beside sparse ones")
            x = sparse.csr_array(host)
        sides.append(_csr(name, x, options))
    (p, p_bins, single_p), (q, q_bins, single_q) = sides[0], sides[-1]
    if p_bins != q_bins:
        raise ValueError(f"Y: found {q_bins} bins, but X has {p_bins}; both need the same bins along the last axis")
    plan = chosen.measures() if options.normalize is False else chosen
    exponent = 0
    if isinstance(plan.tag, L2) and options.normalize is False:  # squares of entries of extreme scale
        greatest = max(float(side[2].max(initial=0.0)) for side in (p, q))
        if greatest and not 2.0**-400 <= greatest <= 2.0**400:
            exponent = int(np.frexp(greatest)[1])
            p, q = ((starts, at, np.ldexp(data, -exponent)) for starts, at, data in (p, q))
    return SparseProblem(plan, p, q, p_bins, np.float32 if single_p and single_q else np.float64, exponent)


def _csr(name: str, x: Any, options: Options) -> tuple[tuple[Array, Array, Array], int, bool]:
    """(indptr, indices, data) of validated rows, the number of bins, and whether they came in float32 or less."""
    if x.ndim != 2 or x.shape[1] == 0:
        raise ValueError(
            f"{name}: found a sparse array of shape {x.shape}; give rows of at least one bin, shape (n, k)"
        )
    _, (data,) = enter(**{name: x.data if hasattr(x, "data") and x.format != "lil" else x.tocsr().data})
    csr = x.tocsr(copy=True).astype(np.float64)
    csr.sum_duplicates()
    door = enter(**{name: data})[0]
    single = door.compute is np.float32
    bad = np.flatnonzero(~((csr.data >= 0) & (csr.data < np.inf)))
    if bad.size:
        row = int(np.searchsorted(csr.indptr, bad[0], side="right") - 1)
        raise ValueError(
            f"{name}: found {csr.data[bad[0]]} at index {(row, int(csr.indices[bad[0]]))}; histogram entries must be "
            f"finite and >= 0 ({bad.size} such in all)"
        )
    n = csr.shape[0]
    if options.normalize is True and n:
        greatest = csr.max(axis=1).toarray().ravel()
        csr.data = np.ldexp(csr.data, -np.repeat(np.frexp(greatest)[1], np.diff(csr.indptr)))
    with np.errstate(over="ignore"):
        sums = np.asarray(csr.sum(axis=1), np.float64).ravel()
    check_sums(Rows(name, data, data, np.arange(n), (n,), -1), sums, options.normalize, door)
    if options.normalize is True:
        csr.data /= np.repeat(sums, np.diff(csr.indptr))
    return (csr.indptr.astype(np.int64), csr.indices.astype(np.int64), csr.data), int(csr.shape[1]), single
