"""Threads, processes and the kernel cache: the same bits whoever computes them."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import otdist as od
from otdist.kernels import jit, threads

P, Q = (np.random.default_rng(i).dirichlet(np.ones(300), 700) for i in (0, 1))


@pytest.fixture
def counts() -> Iterator[Any]:
    yield threads.set_thread_count
    threads.set_thread_count(None)


def answers() -> list[Any]:
    value, grads = od.value_and_grad(od.js, (0, 1))(P, Q)
    pairs = [od.pairwise(P, Q, metric="js"), od.pairwise(P, metric="kl"), *od.nearest(P, Q, metric="tv", k=4)]
    return [value, *grads, od.kl(P, Q), *pairs]


def same(left: list[Any], right: list[Any]) -> None:
    for a, b in zip(left, right, strict=True):
        np.testing.assert_array_equal(a, b)


def test_bits_do_not_depend_on_the_number_of_threads(counts: Any) -> None:
    counts(1)
    want = answers()
    for count in (2, 3, 8):
        counts(count)
        same(answers(), want)


def test_many_callers_at_once(counts: Any) -> None:
    counts(2)
    want = answers()
    with ThreadPoolExecutor(6) as pool:
        for got in pool.map(lambda _: answers(), range(12)):
            same(got, want)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_forked_child_computes(counts: Any) -> None:
    code = (
        "import os, numpy as np, otdist as od\n"
        "from otdist.kernels import threads\n"
        "threads.set_thread_count(2)\n"
        "p = np.random.default_rng(0).dirichlet(np.ones(300), 700)\n"
        "want = od.pairwise(p, metric='js')\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os._exit(0 if np.array_equal(od.pairwise(p, metric='js'), want) else 3)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=300)


def test_an_error_in_a_tile_reaches_the_caller(counts: Any) -> None:
    counts(2)

    def tile(number: int) -> int:
        if number == 3:
            raise ArithmeticError("tile 3")
        return number

    with pytest.raises(ArithmeticError, match="tile 3"):
        threads.run(tile, [(i,) for i in range(50)], 1e9)
    assert threads.run(tile, [(0,), (1,)], 1e9) == [0, 1]


def test_tiles_within_tiles_do_not_wait_for_each_other(counts: Any) -> None:
    counts(2)

    def outer(i: int) -> int:
        return sum(threads.run(lambda j: i * j, [(j,) for j in range(4)], 1e9))

    assert threads.run(outer, [(i,) for i in range(6)], 1e9) == [6 * i for i in range(6)]


def test_blas_is_restored_when_the_last_user_leaves() -> None:
    from threadpoolctl import threadpool_info

    def blas() -> list[int]:
        return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]

    before = blas()
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with threads.single_blas():
            inside.set()
            leave.wait(30)

    user = threading.Thread(target=other)
    user.start()
    inside.wait(30)
    with threads.single_blas():
        assert set(blas()) <= {1}
    assert set(blas()) <= {1}
    leave.set()
    user.join()
    assert blas() == before


@pytest.mark.parametrize("count", [0, -1, 1.5, "2", True])
def test_a_bad_count_is_refused(count: Any) -> None:
    with pytest.raises(ValueError, match="count"):
        threads.set_thread_count(count)


def test_a_bad_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTDIST_NUM_THREADS", "many")
    with pytest.raises(ValueError, match="OTDIST_NUM_THREADS"):
        threads.thread_count()
    monkeypatch.setenv("OTDIST_NUM_THREADS", "3")
    assert threads.thread_count() == 3


CALLS = "od.tv(p, q), od.kl(p, q), od.js(p, q), od.hellinger(p, q), od.kl(p.astype('f4'), q.astype('f4'))"
COMPILE = f"import numpy as np, otdist as od; p, q = np.array([.5, .25, .25]), np.array([.25, .25, .5]); print({CALLS})"


def test_processes_that_compile_at_once_agree(tmp_path: Path) -> None:
    """Each signature has a file of its own: no process can load the code of another signature."""
    environment = {**os.environ, "OTDIST_CACHE_DIR": str(tmp_path)}
    tmp_path.chmod(0o700)

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, "-c", COMPILE], env=environment, stdout=subprocess.PIPE, text=True)

    racing = [start() for _ in range(3)]
    printed = {process.communicate(timeout=300)[0] for process in racing}
    afterwards = start().communicate(timeout=300)[0]
    assert printed == {afterwards}
    assert afterwards.count("0.") >= 5
    assert sorted(tmp_path.glob("rows.rows-*.nbc"))


def test_only_private_directories_hold_code(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    assert not jit._private(shared)
    shared.chmod(0o755)
    assert jit._private(shared)
    assert jit._private(tmp_path / "new" / "nested")
    assert not (tmp_path / "new").stat().st_mode & stat.S_IWOTH
    (tmp_path / "file").write_text("")
    assert not jit._private(tmp_path / "file")


def test_a_damaged_file_is_compiled_again(tmp_path: Path) -> None:
    environment = {**os.environ, "OTDIST_CACHE_DIR": str(tmp_path)}
    tmp_path.chmod(0o700)
    code = "import otdist as od; print(od.tv([.5, .5], [.25, .75]))"
    for damage in (b"", b"garbage", b"\x80\x05."):
        for path in tmp_path.glob("*.nbc"):
            path.write_bytes(damage)
        run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
        assert run.stdout == "0.25\n", run.stderr
