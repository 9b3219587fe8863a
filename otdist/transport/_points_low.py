"""Assignment of n points to n points in few dimensions, without the cost matrix."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from otdist._arrays import Array
from otdist.kernels import kdauction, shortest_paths, sparse_auction
from otdist.kernels.costs import Squared
from otdist.kernels.kdtree import Tree, ordered
from otdist.transport._solution import Solution, Watch

VERBOSE = os.environ.get("LOWV")
WIDTH = 16
COARSEST = 200
PIECE = 1 << 20
RELATIVE = 1e-10
PRM = dict(theta=6.0, s1=32.0, wmax=1.0, bud=400.0, tail=1.0, hcap=8.0, hinted=0, e1=0.1, s2=0.05, e2=0.02, beta=2.0, rounds=8, stopf=1e-3, vf=1.0)


def solve(x: Array, y: Array, cost: Any, watch: Watch, start: Array | None = None) -> Solution:
    n, d = x.shape
    T = time.process_time()
    squared = isinstance(cost, Squared)
    centre = x.mean(axis=0)
    shift = y.mean(axis=0) - centre if squared else np.zeros(d)
    X, Y = x - centre, y - (centre + shift)
    px, py = ordered(X, 4), ordered(Y, 4)
    X, Y = X[px], Y[py]
    sizes = [1]
    while n // (4 * sizes[-1]) >= COARSEST:
        sizes.append(4 * sizes[-1])
    u = rows = None
    partner = None
    for size in reversed(sizes):
        xs, ys = (X, Y) if size == 1 else (_means(X, size), _means(Y, size))
        hx, hy = _spread(X, size, squared), _spread(Y, size, squared)
        hm = float(np.median(hx))
        weight = np.clip(hx / hm, 1.0, PRM['wmax'])
        if rows is None:
            price = np.zeros(len(xs))
            hint = np.arange(len(xs), dtype=np.int32)
            eps0 = max(float(((xs - ys) ** 2).sum(1).mean()) if squared else float(np.sqrt(((xs - ys) ** 2).sum(1)).mean()), PRM['s1'] * hm)
        else:
            price = -Tree(rows, -u).nearest(cost, ys, 1)[1][:, 0] - PRM['beta'] * np.minimum(hy, PRM['hcap'] * np.median(hy))
            hint = _children(partner, len(xs))
            eps0 = PRM['s1'] * hm
        level = Level(cost, xs, ys, price)
        level.weight = weight
        level.rounds(eps0, PRM['e1'] * hm, hint, watch)
        if VERBOSE:
            print('  %d: rounds done %.3f' % (len(xs), time.process_time() - T))
        level.begin_lazy()
        if size > 1:
            level.lazy(PRM['e2'] * hm * weight, watch)
        else:
            eps = PRM['e2'] * hm
            end = 0.0
            while True:
                level.lazy(np.maximum(end, eps * weight), watch)
                P = float(np.sum(_cost(cost, x[px], y[py[level.row_to_col]])))
                end = max(0.95 * RELATIVE * P / n, 1e-16 * float(np.abs(level.tree.price[:n]).max()))
                if eps * weight.max() <= end:
                    break
                eps = eps / PRM['theta']
        partner = level.row_to_col
        u = level.tree.nearest(cost, xs, 1)[1][:, 0]
        rows = xs
        if VERBOSE:
            print('  %d: done %.3f' % (len(xs), time.process_time() - T))
    g = np.empty(n)
    p = level.tree.price[:n]
    g[py] = -p
    if squared:
        g += 2 * (y @ shift) - shift @ shift - 2 * (centre @ shift)
    if VERBOSE:
        D = float(u.sum() - p.sum())
        print('cpu %.3f' % (time.process_time() - T), 'P', P, 'gap', (level.paid.sum() - D) / P)
    cols = np.empty(n, np.int64)
    cols[px] = py[level.row_to_col]
    return Solution(np.arange(n), cols, np.ones(n), g, level.bids, "multiscale auction", watch.stopped)


def _cost(tag, a, b):
    z = a - b
    return (z * z).sum(1) if isinstance(tag, Squared) else np.sqrt((z * z).sum(1))


def _means(X, size):
    starts = np.arange(0, len(X), size)
    return np.add.reduceat(X, starts, axis=0) / np.diff(np.append(starts, len(X)))[:, None]


def _spread(X, size, squared):
    """Mean square distance to the mean within each cell of `size`, extrapolated from 16 points."""
    n = len(X)
    block = max(16, size)
    starts = np.arange(0, n, block)
    counts = np.diff(np.append(starts, n))
    centre = np.repeat(_means(X, block), counts, axis=0)
    h = np.add.reduceat(((X - centre) ** 2).sum(1), starts) / counts * (size / block)
    cells = np.arange(0, n, size) // block
    h = h[cells]
    return h if squared else 0.2 * np.sqrt(h)


def _children(partner, n):
    """The children of matched cells, in order, matched; the last cell, which may have fewer than 4, as it comes."""
    hint = (4 * partner[np.arange(n) // 4] + np.arange(n) % 4).astype(np.int32)
    taken = np.zeros(4 * len(partner), bool)
    taken[hint] = True
    hint[hint >= n] = np.flatnonzero(~taken[:n])
    return hint


class Level:
    def __init__(self, tag, X, Y, price):
        n = len(X)
        self.tag, self.X, self.tree, self.n = tag, X, Tree(Y, price), n
        self.row_to_col, self.col_to_row = np.full(n, -1, np.int32), np.full(n, -1, np.int32)
        self.paid, self.stack = np.full(n, np.inf), np.empty(n, np.int32)
        self.bids = self.searches = 0

    def arcs(self, k, kept, hint):
        T = time.process_time()
        tree, n = self.tree, self.n
        tree.fit()
        J, V = tree.nearest(self.tag, self.X, k)
        least = V[:, 0].copy()
        t1 = time.process_time() - T
        I, _ = Tree(self.X, -least).nearest(self.tag, tree.where, k)
        t2 = time.process_time() - T
        lists, members = np.empty(n + 1, np.int64), np.empty(n * k, np.int32)
        kdauction.invert(I, lists, members)
        kept_ptr, kept_idx = kept if kept is not None else (np.zeros(n + 1, np.int64), np.empty(0, np.int32))
        room = 2 * n * k + len(kept_idx) + n
        ptr, idx, cost = np.empty(n + 1, np.int64), np.empty(room, np.int32), np.empty(room)
        total = kdauction.gather(self.tag, self.X, tree.where, tree.price, J, lists, members, kept_ptr, kept_idx, hint, ptr, idx, cost)
        if VERBOSE:
            print('      arcs %d: rows %.3f cols %.3f merge %.3f' % (total, t1, t2 - t1, time.process_time() - T - t2))
        return ptr, idx[:total], cost[:total], least

    def rounds(self, start, end, hint, watch):
        n = self.n
        k = min(WIDTH, n)
        kept = None
        eps = start
        price = self.tree.price
        for r in range(PRM['rounds']):
            ptr, idx, cost, least = self.arcs(k, kept, hint)
            if kept is not None:
                current = np.where(self.row_to_col >= 0, self.paid + price[self.row_to_col], np.inf)
                excess = np.maximum(current - least, 0)
                bad = np.count_nonzero(excess > 1.5 * end * self.weight)
                eps = max(end, float((excess / self.weight).mean()) * PRM['vf'])
                if VERBOSE:
                    print('     excess mean %.2e max %.2e bad %d end %.1e' % (excess.mean(), excess.max(), bad, end))
                if bad < PRM['stopf'] * n:
                    break
            kept = ptr, idx
            rise = np.zeros(n)
            paid = np.where(self.row_to_col >= 0, self.paid + price[self.row_to_col], np.inf)
            if r == 0 and PRM['hinted']:
                self.row_to_col[:] = hint
                self.col_to_row[hint] = np.arange(n)
                kdauction.costs_of(self.tag, self.X, self.tree.where, self.row_to_col, self.paid)
                paid = self.paid + price[hint]
            cap = least + 1e9 * start
            T = time.process_time()
            while True:
                b0 = self.bids
                t0 = time.process_time()
                count = sparse_auction.release(ptr, idx, cost, rise, eps, self.row_to_col, self.col_to_row, paid, self.stack)
                un = count
                limit = b0 + int(PRM['bud'] * n)
                while count and self.bids < limit:
                    count, bids = sparse_auction.auction(ptr, idx, cost, rise, eps, self.row_to_col, self.col_to_row, paid, cap, self.stack, count, max(1000, min(PIECE, 2 * n)))
                    self.bids += bids
                    if watch.stop("candidates", self.bids):
                        break
                left = count
                t1 = time.process_time()
                settled = 0
                if count:
                    self.heap = np.empty(len(idx)), np.empty(len(idx), np.int32)
                    dist = np.full(n, np.inf)
                    via, reached, arc = np.empty(n, np.int32), np.empty(n, np.int32), np.empty(n, np.int64)
                while count:
                    count, more = shortest_paths.augment(ptr, idx, cost, rise, eps, self.row_to_col, self.col_to_row, paid, self.stack, count, PIECE, dist, via, arc, reached, *self.heap)
                    settled += more
                    if watch.stop("paths", self.bids):
                        break
                if VERBOSE and left:
                    print('         left %d: %.3f s, settled/row %.1f' % (left, time.process_time() - t1, settled / left))
                if VERBOSE:
                    print('       eps %.1e un %d bids/row %.1f t %.3f %.0f ns/bid' % (eps, un, (self.bids - b0) / n, time.process_time() - t0, (time.process_time() - t0) * 1e9 / max(1, self.bids - b0)))
                if eps <= end:
                    break
                eps = max(eps / PRM['theta'], end)
            price[:n] += rise
            kdauction.costs_of(self.tag, self.X, self.tree.where, self.row_to_col, self.paid)

    def begin_lazy(self):
        k = min(WIDTH, self.n)
        self.tree.fit()
        self.J, V = self.tree.nearest(self.tag, self.X, k)
        self.C, self.L = np.empty(V.shape), np.empty(self.n)
        kdauction.recache(self.tag, self.X, self.tree.where, self.J, self.C, self.L, V)

    def lazy(self, eps, watch):
        tree, n = self.tree, self.n
        T = time.process_time()
        b0, s0 = self.bids, self.searches
        count = un = kdauction.release_cached(self.J, self.C, self.L, tree.price, eps, self.row_to_col, self.col_to_row, self.paid, self.stack)
        scratch = tree.scratch(self.J.shape[1])
        since = 0
        while count:
            count, bids, searches = kdauction.bid(
                self.tag, self.X, tree.Y, tree.where, tree.price, tree.nodes, tree.scale, self.J, self.C, self.L, eps,
                self.row_to_col, self.col_to_row, self.paid, self.stack, count, PIECE, scratch,
            )
            self.bids += bids
            self.searches += searches
            since += searches
            if since > n // 4:
                tree.fit(False)
                since = 0
            if watch.stop("auction", self.bids):
                break
        tree.fit()
        if VERBOSE:
            print('    lazy eps %.1e'% np.mean(eps) + ' un %d bids/row %.2f searches/row %.3f t %.3f' % (un, (self.bids - b0) / n, (self.searches - s0) / n, time.process_time() - T))
