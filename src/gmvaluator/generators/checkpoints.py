"""Checkpoints of an unfinished training, written whole and read only for the same request."""

from __future__ import annotations

import glob
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from gmvaluator.errors import RunError, pass_overwrite
from gmvaluator.files.atomic import publish_file, remove_leftovers


@dataclass
class Progressed:
    """How far a training is: steps taken, their seconds, and the losses so far."""

    step: int = 0
    seconds: float = 0.0
    # (step, means of the losses over the window that ends there)
    losses: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    window: dict[str, float] = field(default_factory=dict)  # sums since the last entry


@dataclass(frozen=True)
class Checkpoint:
    """The checkpoint file beside the output `target`.

    `request` is all that the final weights depend on, as plain values.
    """

    target: Path
    request: dict[str, Any]

    @property
    def path(self) -> Path:
        """Where the checkpoint is."""
        return self.target.with_name(f"{self.target.name}.checkpoint")

    def load(self, *, overwrite: bool) -> tuple[Progressed, dict[str, Any]] | None:
        """Step and learner's state of an interrupted call. None without a checkpoint.

        Raises `RunError` if the file belongs to another request or is damaged. With `overwrite`,
        such a file is ignored.
        """
        for name in (self.target.stem, self.path.stem):
            remove_leftovers(self.target.parent, glob.escape(name))
        if not self.path.exists():
            return None
        try:
            held = torch.load(self.path, map_location="cpu", weights_only=True)
            changed = [key for key in self.request if held["request"].get(key) != self.request[key]]
            progressed = Progressed(**held["progressed"])
            state: dict[str, Any] = held["state"]
        except (OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError,
                pickle.UnpicklingError) as error:  # fmt: skip
            if overwrite:
                return None
            raise RunError(
                f"{self.path} is no readable checkpoint; delete it, or "
                f"{pass_overwrite()} to start anew."
            ) from error
        if changed and not overwrite:
            raise RunError(
                f"{self.path} belongs to another training (different: {', '.join(changed)}); go "
                f"on with that one, choose another output, or {pass_overwrite()} "
                "to drop it."
            )
        return None if changed else (progressed, state)

    def save(self, progressed: Progressed, state: dict[str, Any]) -> None:
        """Replace the checkpoint; raises `RunError` if it cannot be written."""
        content = {"request": self.request, "progressed": vars(progressed), "state": state}
        with publish_file(self.path) as part:
            torch.save(content, part)

    def remove(self) -> None:
        """The training is done, or has failed for good."""
        self.path.unlink(missing_ok=True)
