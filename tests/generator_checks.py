"""Tiny trainings of every family, for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gmvaluator.generators import running
from gmvaluator.generators.training import TrainedGenerator, train_generator

# Settings that make each family small; sizes of images as the family takes them.
TINY: dict[str, dict[str, Any]] = {
    "beta-vae": {"size": 8, "hidden": (16,), "latent": 3, "batch_size": 8},
    "conv-beta-vae": {"size": 28, "width": 4, "latent": 3, "batch_size": 8},
    "gan": {"size": 8, "hidden": (16, 24), "critic_hidden": (16,), "latent": 5, "batch_size": 8},
    "dcgan": {"size": 28, "width": 4, "latent": 5, "batch_size": 8},
    "ddpm": {"size": 28, "width": 8, "warmup": 2, "sampling_steps": 2, "batch_size": 8},
    "biggan": {"size": 32, "width": 2, "latent": 8, "shared": 4, "batch_size": 8},
}


@contextmanager
def broken_off(monkeypatch: pytest.MonkeyPatch, step: int) -> Iterator[None]:
    """A training in here must die at this step, by an error that it does not catch."""
    take_step = running.Run._take_step

    def failing(run: running.Run) -> None:
        if run.done.step == step:
            raise MemoryError
        take_step(run)

    with monkeypatch.context() as patched:
        patched.setattr(running.Run, "_take_step", failing)
        with pytest.raises(MemoryError):
            yield


def one_by_one(tasks: Sequence[Callable[[], None]], stage: str, progress: Any) -> None:
    """What `side_by_side` does, in this process: starting others costs more than a tiny training.

    The real one is tested where work is killed, and where lost results are made again.
    """
    for task in tasks:
        task()


def halves(n: int = 32, size: int = 8, channels: int = 3) -> tuple[NDArray[np.uint8], list[str]]:
    """(n, size, size, channels) images, bright "left" or bright "right" in turn, with noise."""
    images = np.random.default_rng(0).integers(0, 40, (n, size, size, channels), dtype=np.uint8)
    images[::2, :, : size // 2] += 200
    images[1::2, :, size // 2 :] += 200
    return images, ["left", "right"] * (n // 2)


def write_halves(path: Path, n: int = 32, size: int = 8, channels: int = 3) -> Path:
    """`halves` as an .npz file."""
    images, labels = halves(n, size, channels)
    np.savez(path, images=images if channels == 3 else images[..., 0], labels=labels)
    return path


def train_tiny(name: str, data: Any, out: Path, **options: Any) -> TrainedGenerator:
    """A few steps of a tiny model on one thread, with a checkpoint every 50 steps."""
    settings = {**TINY[name], **options.pop("settings", {})}
    few = {"steps": 4, "threads": 1, "checkpoint_every": 50, "settings": settings}
    return train_generator(name, data, out, **{**few, **options})


def brighter_half(images: NDArray[np.uint8]) -> NDArray[np.str_]:
    """(N, S, S[, 3]) → (N,) "left" or "right"."""
    half = images.shape[2] // 2
    columns = images.reshape(*images.shape[:3], -1).astype(float).mean(axis=(1, 3))
    bright_left = columns[:, :half].mean(axis=1) > columns[:, half:].mean(axis=1)
    return np.where(bright_left, "left", "right")
