"""Threads and forked processes: no lock is held for ever, no pool waits, no filter is left."""

from __future__ import annotations

import copy
import pickle
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import faiss
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from forked import in_child
from gmvaluator import threads
from gmvaluator.encoders import compiled
from gmvaluator.files.store import Table
from gmvaluator.images import ImageSet
from gmvaluator.matching.duplicates.clusters import Clusters
from gmvaluator.memory import Budget, Memo
from gmvaluator.threads import BUILDING, Lock, ignored

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="Windows does not fork"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning"),
]


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Pools of two threads in torch and faiss, whatever the environment says."""
    before = torch.get_num_threads(), faiss.omp_get_max_threads()
    torch.set_num_threads(2)
    faiss.omp_set_num_threads(2)
    yield
    torch.set_num_threads(before[0])
    faiss.omp_set_num_threads(before[1])


def in_torch() -> float:
    return float(torch.ones(1 << 20).exp().sum())


def in_faiss() -> float:
    points = np.random.default_rng(0).random((2_000, 64), np.float32)
    return float(faiss.knn(points, points, 3)[0].sum())


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("compute", [in_torch, in_faiss])
def test_a_forked_child_computes_where_its_parent_has(compute: Callable[[], float]) -> None:
    assert in_child(compute) == pytest.approx(compute())
    assert in_child(compute) == pytest.approx(compute())


def test_a_fork_imports_nothing() -> None:
    script = (
        "import os, sys, gmvaluator\n"
        "if not os.fork():\n"
        "    os._exit(len({'torch', 'faiss', 'numpy', 'openvino'} & set(sys.modules)))\n"
        "sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


# --- locks


def lock_of_images() -> tuple[AbstractContextManager[None], Callable[[], object]]:
    images = ImageSet.open([np.zeros((4, 4), np.uint8)])
    reader = images._reader
    return reader._lock, lambda: images.content_key(0)  # type: ignore[attr-defined]


def lock_of_a_table() -> tuple[AbstractContextManager[None], Callable[[], object]]:
    table = Table(Path("none"), "none")
    return table._lock, lambda: len(table)


def lock_of_a_budget() -> tuple[AbstractContextManager[None], Callable[[], object]]:
    budget = Budget()
    return budget._lock, lambda: budget.allocate((1, 1)).shape


def lock_of_a_memo() -> tuple[AbstractContextManager[None], Callable[[], object]]:
    memo = Memo()
    return memo._lock, lambda: memo.get("key", lambda: 1)


def in_floats(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    return pixels.astype(np.float32)


def lock_of_compiling() -> tuple[AbstractContextManager[None], Callable[[], object]]:
    return BUILDING, lambda: compiled.compile_once("k", lambda: in_floats)(np.zeros(1, np.uint8))


@pytest.mark.parametrize(
    "make",
    [lock_of_images, lock_of_a_table, lock_of_a_budget, lock_of_a_memo, lock_of_compiling],
)
def test_a_lock_that_another_thread_held_at_the_fork_is_free_in_the_child(
    make: Callable[[], tuple[AbstractContextManager[None], Callable[[], object]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threads, "FORK_WAITS_SECONDS", 0)
    lock, use = make()
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            done.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    try:
        result = in_child(use, seconds=20)
    finally:
        done.set()
        holder.join()
    assert result == use()


class Waiting:
    """Representatives that nobody gets until they are free."""

    def __init__(self) -> None:
        self.asked, self.free = threading.Event(), threading.Event()

    def __len__(self) -> int:
        self.asked.set()
        self.free.wait()
        return 0


def test_an_attribute_that_another_thread_computed_at_the_fork_is_computed_in_the_child() -> None:
    representatives = Waiting()
    waiting = Clusters(representatives, np.zeros(0, bool), np.zeros(0, np.float32))  # type: ignore[arg-type]
    clusters = Clusters.exact(np.arange(3))
    with ThreadPoolExecutor(1) as pool:
        kept = pool.submit(lambda: waiting.kept)
        representatives.asked.wait()
        try:
            assert in_child(lambda: clusters.kept.tolist(), seconds=20) == [0, 1, 2]
        finally:
            representatives.free.set()
        assert kept.result().tolist() == []


def test_an_attribute_is_computed_once_and_threads_agree_on_it() -> None:
    clusters = Clusters.exact(np.arange(3))
    assert clusters.kept is clusters.kept
    representatives = Waiting()
    waiting = Clusters(representatives, np.zeros(0, bool), np.zeros(0, np.float32))  # type: ignore[arg-type]
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(lambda: waiting.kept) for _ in range(2)]
        representatives.asked.wait()
        representatives.free.set()
    assert both[0].result() is both[1].result()


def test_a_fork_waits_for_a_network_that_is_being_built(monkeypatch: pytest.MonkeyPatch) -> None:
    held, waiting, built = threading.Event(), threading.Event(), threading.Event()
    acquire = BUILDING.acquire

    def wait(timeout: float) -> bool:
        waiting.set()
        return acquire(timeout)

    def build() -> None:
        with BUILDING:
            held.set()
            waiting.wait()
            built.set()

    monkeypatch.setattr(BUILDING, "acquire", wait)
    builder = threading.Thread(target=build)
    builder.start()
    held.wait()
    assert in_child(built.is_set)
    builder.join()
    with BUILDING, ThreadPoolExecutor(1) as pool:
        assert not pool.submit(acquire, 0).result()
    assert acquire(0)
    BUILDING.__exit__()


def test_the_thread_that_forks_keeps_its_locks() -> None:
    lock = Lock()

    def again() -> str:
        with lock:
            return "held twice"

    with lock:
        assert in_child(again) == "held twice"


def test_a_lock_is_reentrant_and_excludes_other_threads() -> None:
    lock = Lock()
    with lock, lock, ThreadPoolExecutor(1) as pool:
        assert not pool.submit(lock._lock.acquire, blocking=False).result()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda lock: pickle.loads(pickle.dumps(lock))])
def test_a_copied_lock_is_free(copied: Callable[[Lock], Lock]) -> None:
    lock = Lock()
    with lock, ThreadPoolExecutor(1) as pool:
        other = copied(lock)
        pool.submit(other.__enter__).result(20)


def test_every_lock_and_filter_of_the_package_is_of_this_kind() -> None:
    source = Path(threads.__file__).parent
    plain = re.compile(r"threading\.R?Lock\(|catch_warnings\(|import .*\bcached_property")
    files = [file for file in source.rglob("*.py") if plain.search(file.read_text("utf-8"))]
    assert files == [source / "threads.py"]


# --- warnings


def test_warnings_are_ignored_while_a_thread_asks_for_it_and_the_filters_stay() -> None:
    before = list(warnings.filters)
    first, second = ignored(UserWarning), ignored(UserWarning)
    other = ignored(Warning, r"some\.package")
    first.__enter__()
    other.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    warnings.warn("nobody sees this", UserWarning, stacklevel=1)
    with pytest.warns(FutureWarning):
        warnings.warn("somebody sees this", FutureWarning, stacklevel=1)
    second.__exit__(None, None, None)
    other.__exit__(None, None, None)
    assert warnings.filters == before
    with pytest.warns(UserWarning, match="seen again"):
        warnings.warn("seen again", UserWarning, stacklevel=1)


def test_a_filter_added_meanwhile_stays() -> None:
    with warnings.catch_warnings():
        with ignored(UserWarning):
            warnings.simplefilter("ignore", FutureWarning)
            added = warnings.filters[0]
        assert added in warnings.filters
        assert not any(entry[2] is UserWarning for entry in warnings.filters[:1])
