"""Compiled networks: one a process, safe among threads, and a forked child's own."""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
from numpy.typing import NDArray

from forked import in_child
from gmvaluator.encoders import load_encoder
from gmvaluator.encoders.backends import Backend, Runtime
from gmvaluator.encoders.base import Encoder
from gmvaluator.encoders.compiled import KEPT, Infer, compile_once
from gmvaluator.weights import Weights

OFFLINE = Weights(offline=True)
Compile = Callable[[], Infer]


def encoder(name: str, backend: Backend = "openvino") -> Encoder:
    return load_encoder(name, OFFLINE, Runtime("cpu", backend))


def pixels_of(one: Encoder, n: int = 3) -> NDArray[np.uint8]:
    side = one.preprocessing.size
    return np.random.default_rng(0).integers(0, 256, (n, 3, side, side), np.uint8)


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    return f"{request.node.nodeid}{os.getpid()}"


def doubled(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    return 2 * pixels.astype(np.float32)


class Counting:
    """Compiles to `doubled`, and counts how often."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> Infer:
        self.times += 1
        return doubled


# --- one a process


def test_a_network_is_compiled_once_whatever_threads_ask(key: str) -> None:
    compile_now, start = Counting(), Barrier(8)

    def ask(_: int) -> object:
        start.wait()
        return compile_once(key, compile_now)

    with ThreadPoolExecutor(8) as pool:
        networks = list(pool.map(ask, range(8)))
    assert compile_now.times == 1
    assert len(set(map(id, networks))) == 1


def test_networks_in_use_and_the_last_ones_are_kept(key: str) -> None:
    compilers = [Counting() for _ in range(KEPT + 2)]
    used = compile_once(f"{key}0", compilers[0])
    for number, compile_now in enumerate(compilers):
        compile_once(f"{key}{number}", compile_now)
    gc.collect()
    for number in (*range(2, KEPT + 2), 0):
        compile_once(f"{key}{number}", compilers[number])
    assert [compile_now.times for compile_now in compilers] == [1] * (KEPT + 2)
    compile_once(f"{key}1", compilers[1])
    assert compilers[1].times == 2
    assert used(np.ones(1, np.uint8)) == 2


def test_a_failed_compilation_is_tried_again(key: str) -> None:
    def fail() -> Infer:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        compile_once(key, fail)
    assert compile_once(key, Counting())(np.ones(1, np.uint8)) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_encoders_of_one_network_take_the_memory_of_one() -> None:
    """torch keeps every module that it traces: 40 MB each."""

    def resident() -> int:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def use() -> None:
        one = encoder("efficientnet-lite0@32")
        one.encode(pixels_of(one))

    for _ in range(3):
        use()
    before = resident()
    for _ in range(6):
        use()
    assert resident() - before < 60e6


# --- threads


def test_networks_may_be_compiled_in_several_threads() -> None:
    encoders = [encoder(f"random-conv:2@{side}") for side in range(16, 32, 4)]
    start = Barrier(len(encoders))

    def run(one: Encoder) -> NDArray[np.float32]:
        start.wait()
        return one.encode(pixels_of(one))

    with ThreadPoolExecutor(len(encoders)) as pool:
        results = list(pool.map(run, encoders))
    for one, result in zip(encoders, results, strict=True):
        torch_result = encoder(one.name, "torch").encode(pixels_of(one))
        np.testing.assert_allclose(result, torch_result, rtol=1e-3, atol=1e-3)


def test_threads_share_a_network() -> None:
    one, other = encoder("random-conv@16"), encoder("random-conv@16")
    images = pixels_of(one, 64)
    wanted = one.encode(images)
    start = Barrier(8)

    def run(number: int) -> NDArray[np.float32]:
        start.wait()
        part = slice(8 * number, 8 * number + 8)
        results = [(one, other)[number % 2].encode(images[part]) for _ in range(20)]
        return results[-1]

    with ThreadPoolExecutor(8) as pool:
        np.testing.assert_array_equal(np.concatenate(list(pool.map(run, range(8)))), wanted)


# --- forked processes

forks = pytest.mark.skipif(sys.platform == "win32", reason="Windows does not fork")


@forks
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_compiles_its_own(key: str) -> None:
    compile_now = Counting()
    network = compile_once(key, compile_now)

    def times() -> tuple[bool, int]:
        compile_once(key, compile_now)
        return network.usable, compile_now.times

    assert in_child(times) == (False, 2)
    assert network.usable
    compile_once(key, compile_now)
    assert compile_now.times == 1


FORKING = """
import multiprocessing, os, signal, sys
import numpy as np
from gmvaluator import GMValuator

images = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), np.uint8)
settings = dict(encoder="random-conv@16", rerank="pixels@14", quality="none", cache=False, k=3)
valuator = GMValuator(**settings).fit(images[:20])
wanted = valuator.value(images[20:]).values

def again(own):
    used = GMValuator(**settings).fit(images[:20]) if own else valuator
    return used.value(images[20:]).values

child = os.fork()
if not child:
    signal.alarm(60)  # a child that hangs is killed
    assert np.allclose(again(True), wanted) and np.allclose(again(False), wanted)
    sys.exit(7)  # an ordinary end, which destroys objects
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
with multiprocessing.get_context("fork").Pool(2) as pool:
    for values in pool.map(again, [True, False]):
        assert np.allclose(values, wanted)
assert np.array_equal(again(True), wanted)
"""


@forks
def test_a_forked_child_values_and_ends() -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "2", "PYTHONWARNINGS": "ignore"}
    subprocess.run([sys.executable, "-c", FORKING], env=environment, check=True, timeout=120)
