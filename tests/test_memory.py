"""Memory: one budget for all long arrays, and results that are computed once."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

from gmvaluator.memory import Budget, Memo


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
