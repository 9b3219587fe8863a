"""The only file that knows CPU threads: tiles of work on a pool, results in tile order.

The tiling never depends on the number of threads, so neither does a single bit of any answer. Kernels release the GIL;
many caller threads may share the pool, a forked child gets a fresh one, Ctrl-C stops at the next tile.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

# Below this many nanoseconds of estimated work, waking a thread costs more than it saves.
INLINE_NANOSECONDS = 200_000.0

_lock = threading.Lock()
_inside = threading.local()
_pool: ThreadPoolExecutor | None = None
_requested: int | None = None
_blas: Any = None
_blas_users = 0
_blas_limit: Any = None


def thread_count() -> int:
    """Threads in use: `set_thread_count`, else OTDIST_NUM_THREADS, else the cores this process may run on."""
    if _requested is not None:
        return _requested
    named = os.environ.get("OTDIST_NUM_THREADS", "")
    if named:
        if not named.isdigit() or int(named) < 1:
            raise ValueError(f"OTDIST_NUM_THREADS: found {named!r}; set it to a whole number of threads, 1 or more")
        return int(named)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_thread_count(count: int | None) -> None:
    """Use `count` threads from now on; None returns to the default."""
    global _requested, _pool
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
        raise ValueError(f"count: found {count!r}; give a whole number of threads, 1 or more, or None")
    with _lock:
        _requested = count
        _pool = None  # tiles under way finish on the old pool, which then dies with its last reference


def _executor() -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(thread_count(), thread_name_prefix="otdist")
        return _pool


def _forget_after_fork() -> None:
    global _pool, _lock, _blas_users, _blas_limit
    _pool, _lock, _blas_users, _blas_limit = None, threading.Lock(), 0, None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)


def run(function: Callable[..., T], tiles: Iterable[tuple[Any, ...]], nanoseconds: float) -> list[T]:
    """[function(*tile) for tile in tiles], on the pool if the estimated work is worth it."""
    if nanoseconds < INLINE_NANOSECONDS or thread_count() == 1 or getattr(_inside, "pool", False):
        return [function(*tile) for tile in tiles]

    def work(tile: tuple[Any, ...]) -> T:
        _inside.pool = True
        return function(*tile)

    pool = _executor()
    futures = [pool.submit(work, tile) for tile in tiles]
    try:
        return [future.result() for future in futures]
    finally:
        for future in futures:
            future.cancel()


def spans(count: int, size: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of consecutive pieces of at most `size`."""
    size = max(size, 1)
    for start in range(0, count, size):
        yield start, min(start + size, count)


@contextmanager
def single_blas() -> Iterator[None]:
    """BLAS on one thread, so that tiles on many threads do not oversubscribe; the last user out restores it."""
    global _blas, _blas_users, _blas_limit
    with _lock:
        if _blas is None:
            from threadpoolctl import ThreadpoolController

            _blas = ThreadpoolController()
        if _blas_users == 0:
            _blas_limit = _blas.limit(limits=1, user_api="blas")
            _blas_limit.__enter__()
        _blas_users += 1
    try:
        yield
    finally:
        with _lock:
            _blas_users -= 1
            if _blas_users == 0:
                _blas_limit.__exit__(None, None, None)
                _blas_limit = None
