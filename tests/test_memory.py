"""Memory: one budget for all long arrays, and results that are computed once."""

from __future__ import annotations

import errno
import gc
import os
import re
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest

from forked import in_child
from gmvaluator.errors import RunError
from gmvaluator.memory import Budget, Memo, allocate, reserve


def test_arrays_of_one_budget_take_half_of_it_together() -> None:
    budget = Budget(800)
    first, second = budget.allocate((5, 10)), budget.allocate((5, 10))
    third = budget.allocate((1, 1))
    assert [type(array) for array in (first, second, third)] == [np.ndarray, np.ndarray, np.memmap]
    assert budget.free == 400
    third[:] = 7
    assert third[0, 0] == 7


def test_the_budget_has_its_bytes_back_when_the_last_view_is_gone() -> None:
    budget = Budget(800)
    array = budget.allocate((10, 10))
    view = array[2:4]
    del array
    gc.collect()
    assert type(budget.allocate((1, 1))) is np.memmap
    del view
    gc.collect()
    assert budget.free == 800
    assert type(budget.allocate((10, 10))) is np.ndarray


def test_threads_share_the_budget() -> None:
    budget, start = Budget(8_000), Barrier(8)

    def take(_: int) -> list[np.ndarray]:
        start.wait()
        return [budget.allocate((5, 10)) for _ in range(10)]

    with ThreadPoolExecutor(8) as pool:
        arrays = [array for part in pool.map(take, range(8)) for array in part]
    in_memory = sum(array.nbytes for array in arrays if type(array) is np.ndarray)
    assert in_memory == 4_000
    assert budget.free == 4_000


# --- scratch files on a full disk


def reason(n_bytes: int) -> str:
    """How an array of so many bytes in a scratch file fails."""
    try:
        allocate((n_bytes // 4, 1), 0)[:] = 1
    except RunError as error:
        return str(error)
    return "there is room"


def in_small_disk(small_disk: Path) -> str:
    tempfile.tempdir = str(small_disk)
    return reason(1_000_000)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_full_scratch_folder_is_an_error_not_a_killed_process(small_disk: Path) -> None:
    # in a child, since writing to a file without space kills the process
    message = in_child(lambda: in_small_disk(small_disk))
    assert re.fullmatch(
        rf"cannot take 1\.0 MB of disk space in {small_disk}, where 0\.1 MB are free \(No space"
        r" left on device\); set the environment variable TMPDIR .*, or allow more memory .*",
        message,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_limit_of_the_file_size_is_an_error() -> None:
    import resource

    def limited() -> str:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        return reason(1_000_000)

    assert "cannot take 1.0 MB of disk space" in in_child(limited)


def test_no_folder_for_scratch_files_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", fail)
    with pytest.raises(RunError, match=r"No usable temporary directory .* TMPDIR"):
        allocate((1, 1), 0)


@pytest.mark.parametrize("error", [None, errno.EOPNOTSUPP, errno.EINVAL])
def test_where_space_cannot_be_reserved_the_file_is_written(
    error: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(error, os.strerror(error or 0))

    if error is None:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    else:
        monkeypatch.setattr(os, "posix_fallocate", unsupported, raising=False)
    with (tmp_path / "file").open("w+b") as file:
        file.write(b"start")
        reserve(file, 3_000_000)
        reserve(file, 1)
        file.seek(0)
        assert file.read() == b"start".ljust(3_000_000, b"\0")
        assert os.fstat(file.fileno()).st_blocks * 512 >= 3_000_000


# --- results computed once


def test_a_result_is_computed_once_whatever_threads_ask() -> None:
    memo, start = Memo(), Barrier(8)
    computed: list[object] = []

    def compute() -> object:
        computed.append(object())
        return computed[-1]

    def ask(_: int) -> object:
        start.wait()
        return memo.get("key", compute)

    with ThreadPoolExecutor(8) as pool:
        results = set(map(id, pool.map(ask, range(8))))
    assert len(computed) == 1
    assert len(results) == 1


def test_a_result_may_need_another_one() -> None:
    memo = Memo()
    assert memo.get("outer", lambda: memo.get("inner", lambda: 2) + 1) == 3


def test_a_failed_computation_is_tried_again() -> None:
    memo = Memo()

    def fail() -> int:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        memo.get("key", fail)
    assert memo.get("key", lambda: 5) == 5
