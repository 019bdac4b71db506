"""One training under way: its steps, checkpoints, snapshots and the final file."""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import numpy as np
import torch
from numpy.typing import NDArray

from gmvaluator.errors import RunError, pass_overwrite
from gmvaluator.generators.base import Learner, TrainingBatch
from gmvaluator.generators.checkpoints import Checkpoint, Progressed
from gmvaluator.generators.data import TrainingData
from gmvaluator.generators.files import SUFFIX, list_snapshots, snapshot_folder
from gmvaluator.generators.randomness import STEP, batch_rows, generator, replaced_rows
from gmvaluator.progress import Advance

_LOSS_POINTS = 100  # entries of the loss history


@dataclass
class Run:
    """One training: its data, its learner, and its progress.

    `removed` is (N,) bool: the images that no batch contains.
    """

    target: Path
    data: TrainingData
    learner: Learner
    checkpoint: Checkpoint
    every: int
    removed: NDArray[np.bool_]
    done: Progressed = field(default_factory=Progressed)

    def start(self, *, overwrite: bool) -> int:
        """Go to the checkpoint of an earlier call. Returns its step, 0 without a checkpoint."""
        held = self.checkpoint.load(overwrite=overwrite)
        if held is not None:
            self.done, state = held
            self.learner.restore(state)
            return self.done.step
        old = list_snapshots(self.target)
        if old and not overwrite:
            raise RunError(
                f"{snapshot_folder(self.target)} holds snapshots of another training; choose "
                f"another output, or {pass_overwrite()} to drop them."
            )
        for snapshot in old:
            snapshot.path.unlink()
        self.checkpoint.remove()
        return 0

    def finish(self, advance: Advance) -> None:
        """Take the remaining steps, publish the file, drop the checkpoint."""
        advance(self.done.step)
        began, before = time.perf_counter(), self.done.seconds
        with _interruptible() as stopped:
            # A kill may have come between a checkpoint and its snapshot.
            self._keep_snapshot()
            while self.done.step < self.steps:
                self._take_step()
                self.done.seconds = before + time.perf_counter() - began
                advance(1)
                keeps = self.done.step in self._kept_steps()
                if self.done.step % self.every == 0 or keeps or stopped.is_set():
                    self.checkpoint.save(self.done, self.learner.state())
                self._keep_snapshot()
                if stopped.is_set():
                    raise KeyboardInterrupt(
                        f"Stopped after step {self.done.step} of {self.steps}; the same command "
                        f"goes on from there ({self.checkpoint.path})."
                    )
        self._save(self.target)
        self.checkpoint.remove()

    @property
    def steps(self) -> int:
        steps: int = self.checkpoint.request["steps"]
        return steps

    def _take_step(self) -> None:
        done, config = self.done, self.checkpoint.request["settings"]
        seed = self.checkpoint.request["seed"]
        rows = batch_rows(seed, done.step, len(self.data.images), config["batch_size"])
        rows = replaced_rows(rows, self.removed, seed, done.step)
        labels = None if self.data.labels is None else torch.from_numpy(self.data.labels[rows])
        batch = TrainingBatch(
            torch.from_numpy(self.data.images[rows]), labels, generator(seed, STEP, done.step)
        )
        rate = self.learner.set_rates(done.step)
        losses = self.learner.update(batch, done.step)
        done.step += 1
        self._note(losses, rate)

    def _note(self, losses: dict[str, float], rate: float) -> None:
        done = self.done
        bad = [name for name, loss in losses.items() if not math.isfinite(loss)]
        if bad:
            # Its weights lead here again.
            self.checkpoint.remove()
            raise RunError(
                f"at step {done.step} the loss {bad[0]!r} became {losses[bad[0]]} with a learning "
                f"rate of {rate:.2g}; nothing was written. Set a lower learning_rate."
            )
        for name, loss in losses.items():
            done.window[name] = done.window.get(name, 0.0) + loss
        width = max(1, self.steps // _LOSS_POINTS)
        since = done.step - (done.losses[-1][0] if done.losses else 0)
        if since == width or done.step == self.steps:
            done.losses.append((done.step, {k: v / since for k, v in done.window.items()}))
            done.window = {}

    def _kept_steps(self) -> set[int]:
        keep = self.checkpoint.request["keep"]
        return {round(i * self.steps / keep) for i in range(1, keep + 1)}

    def _keep_snapshot(self) -> None:
        path = snapshot_folder(self.target) / f"{self.done.step}{SUFFIX}"
        if self.done.step in self._kept_steps() and not path.exists():
            path.parent.mkdir(exist_ok=True)
            self._save(path)

    def _save(self, path: Path) -> None:
        request = self.checkpoint.request
        training = {
            "steps": self.steps,
            "seed": request["seed"],
            "n_images": int((~self.removed).sum()),
            "data": request["data"],
        }
        if request["without"] is not None:
            training["without"] = request["without"]
        metadata = {
            "step": str(self.done.step),
            "learning_rate": repr(self.learner.set_rates(max(0, self.done.step - 1))),
            "training": json.dumps(training),
        }
        self.learner.finished().save(path, metadata=metadata)


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Ctrl-C sets the event, so that a step is finished. A second Ctrl-C ends at once."""
    stopped = threading.Event()
    usual = signal.getsignal(signal.SIGINT)
    ours = threading.current_thread() is threading.main_thread()
    if not ours or usual is not signal.default_int_handler:
        yield stopped
        return

    def stop(number: int, frame: FrameType | None) -> None:
        if stopped.is_set():
            signal.default_int_handler(number, frame)
        stopped.set()

    signal.signal(signal.SIGINT, stop)
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, usual)
