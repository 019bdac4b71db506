"""Training of generators of any family on an image set. An interrupted training goes on.

The images and random numbers of a step follow from the seed and the step's number. So an
interrupted training ends with the same weights, bit for bit, as an uninterrupted training.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gmvaluator.errors import InputError, RunError, pass_overwrite
from gmvaluator.generators import generator_class
from gmvaluator.generators.checkpoints import Checkpoint
from gmvaluator.generators.config import GeneratorConfig, parse_settings
from gmvaluator.generators.data import common_side, read_training_data
from gmvaluator.generators.files import SUFFIX
from gmvaluator.generators.running import Run
from gmvaluator.images import ImageSet, Skip
from gmvaluator.progress import Progress, Silent
from gmvaluator.shown import short_repr
from gmvaluator.threads import in_forked_child


@short_repr
@dataclass(frozen=True)
class TrainedGenerator:
    """A finished training.

    Attributes:
        path: the generator file.
        family: name of its family.
        steps: updates taken.
        seconds: seconds of all updates, with those of interrupted calls.
        losses: (step, mean of each loss since the previous entry), about 100 entries.
        n_images: number of training images without the removed images.
        label_names: names of the classes, in the order of their numbers; () = unconditional.
        n_parameters: numbers in the model that draws.
        skipped: images that could not be read.
        resumed_at: the step at which this call went on; 0 = from the start.
    """

    path: Path
    family: str
    steps: int
    seconds: float
    losses: tuple[tuple[int, dict[str, float]], ...]
    n_images: int
    label_names: tuple[str, ...]
    n_parameters: int = 0
    skipped: tuple[Skip, ...] = ()
    resumed_at: int = 0

    def as_json(self) -> dict[str, Any]:
        """Plain values, for machines."""
        return {
            **{name: value for name, value in vars(self).items() if name != "skipped"},
            "path": str(self.path),
            "skipped": len(self.skipped),
        }

    def as_text(self) -> str:
        """A few lines, for people."""
        last = ", ".join(f"{name} {value:.4g}" for name, value in self.losses[-1][1].items())
        lines = [
            f"{self.family} of {self.n_parameters:,} numbers trained on {self.n_images} images "
            f"for {self.steps} steps in {self.seconds:.0f} s (last losses: {last})"
        ]
        if self.resumed_at:
            lines.append(f"went on from step {self.resumed_at} of an interrupted training")
        if self.label_names:
            lines.append(f"classes: {', '.join(self.label_names)}")
        if self.skipped:
            first = self.skipped[0]
            lines.append(f"{len(self.skipped)} images were skipped ({first.id}: {first.reason})")
        return "\n".join([*lines, f"saved in {self.path}"])


def train_generator(
    name: str,
    data: Any,
    out: str | Path,
    *,
    steps: int | None = None,
    seed: int = 0,
    settings: Mapping[str, object] = {},
    conditional: bool | None = None,
    checkpoint_every: int | None = None,
    keep: int = 0,
    threads: int | None = None,
    overwrite: bool = False,
    without: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> TrainedGenerator:
    """Train a generator of family `name` and save it as the file `out` (.safetensors).

    Args:
        name: a key of `generators.FAMILIES`.
        data: any source of `ImageSet`. A set whose images are all grey trains a grey model.
        steps: updates; None = the family's own number, chosen on MNIST.
        seed: the same data, settings, seed, threads and machine give the same weights.
        settings: fields of the family's config, by name. Texts are converted to the field's type.
            Default of `size`: 28 or 32 if the images have this side, else the family's default.
        conditional: learn classes from the labels. None: only if the family requires classes.
        checkpoint_every: steps between checkpoints. A checkpoint is the file `out` + ".checkpoint"
            until the training is done. None: twenty checkpoints in all.
        keep: number of evenly spaced snapshots `<stem of out>.steps/<step>.safetensors`. The last
            snapshot has the final weights.
        threads: number of processor threads. None: torch's setting.
        overwrite: replace `out`, and delete a checkpoint of another request.
        without: rows of readable images to remove, to measure their effect. Batches, their order
            and the noise of each step stay those of the whole set. Other images take the places of
            removed images, drawn by seed, step and place.
        progress: receives the stages "read train" and "train <name>".

    Raises:
        InputError: the family or a setting is unknown, a value is out of range, labels are missing,
            or `without` names an image twice, an unknown image, or all images.
        RunError: `out` exists or cannot be written, there is a checkpoint of another request, or a
            loss is not finite. `out` is not written then.
        KeyboardInterrupt: the training was stopped. A checkpoint is written, and the same call goes
            on from this checkpoint.
    """
    target = Path(out)
    _check_target(target, overwrite=overwrite)
    kind = generator_class(name)
    config_class = kind.config_class
    steps = config_class.default_steps if steps is None else steps
    _check_numbers(steps, seed, keep, checkpoint_every, threads)
    labelled = _conditional(config_class, conditional)
    options = parse_settings(config_class, settings)
    # Refuses bad values before images are read.
    config_class(**options, classes=int(labelled))
    images = ImageSet.open(data)
    config_size = options.pop("size", None) or _size(config_class, images)
    listener = progress or Silent()
    with torch_threads(threads):
        read = read_training_data(images, config_size, listener, conditional=labelled)
        config = config_class(
            **options,
            size=config_size,
            channels=read.images.shape[1],
            classes=len(read.label_names),
        )
        removed = _removed(without, len(read.images))
        model = kind(config, read.label_names, seed)
        request = {
            "family": name,
            "settings": _plain(config),
            "data": read.fingerprint,
            "seed": seed,
            "steps": steps,
            "keep": keep,
            "without": np.flatnonzero(removed).tolist() or None,
        }
        every = checkpoint_every or max(1, steps // 20)
        learner, checkpoint = model.learner(steps, seed), Checkpoint(target, request)
        run = Run(target, read, learner, checkpoint, every, removed)
        resumed_at = run.start(overwrite=overwrite)
        with listener.stage(f"train {name}", steps) as advance:
            run.finish(advance)
    return TrainedGenerator(
        target,
        name,
        steps,
        run.done.seconds,
        tuple(run.done.losses),
        int((~removed).sum()),
        read.label_names,
        model.n_parameters,
        read.skipped,
        resumed_at,
    )


def _check_target(target: Path, *, overwrite: bool) -> None:
    if target.suffix != SUFFIX:
        raise InputError(f"out={target}; give the generator file a name that ends in {SUFFIX}.")
    if target.is_dir():
        raise RunError(f"{target} is a folder; choose a file to write to.")
    if target.exists() and not overwrite:
        raise RunError(
            f"{target} exists; {pass_overwrite()} to replace it, or choose another file."
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot write {target}: {error.strerror or error}.") from error
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise RunError(f"{target.parent} is not writable; choose another folder to write to.")


def _check_numbers(
    steps: int, seed: int, keep: int, checkpoint_every: int | None, threads: int | None
) -> None:
    wanted = {"steps": (steps, 1), "seed": (seed, 0), "keep": (keep, 0)}
    wanted["checkpoint_every"] = (1 if checkpoint_every is None else checkpoint_every, 1)
    wanted["threads"] = (1 if threads is None else threads, 1)
    for name, (value, lowest) in wanted.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
            raise InputError(f"{name}={value!r} was given; wanted a whole number ≥ {lowest}.")
    if threads is not None and threads > 1 and in_forked_child():
        raise InputError(
            f"threads={threads} in a forked process, where torch has one; pass threads=1, or start "
            "the process by spawn (multiprocessing.get_context)"
        )
    if keep > steps:
        raise InputError(f"keep={keep} exceeds the {steps} steps; pass keep ≤ {steps}.")


def _removed(without: Sequence[int] | None, n: int) -> NDArray[np.bool_]:
    """(n,) bool."""
    removed = np.zeros(n, dtype=bool)
    rows = np.asarray([] if without is None else without)
    if not rows.size:
        return removed
    whole = rows.ndim == 1 and np.issubdtype(rows.dtype, np.integer)
    if not whole or rows.min() < 0 or rows.max() >= n or len(np.unique(rows)) < len(rows):
        raise InputError(
            f"without: {rows.size} entries from {rows.min()} to {rows.max()} were given; wanted "
            f"distinct row numbers from 0 to {n - 1}."
        )
    removed[rows] = True
    if removed.all():
        raise InputError(f"without removes all {n} images; leave some to train on.")
    return removed


def _conditional(config: type[GeneratorConfig], conditional: bool | None) -> bool:
    if config.always_conditional and conditional is False:
        raise InputError(f"{config.name} always learns classes; leave conditional=False out.")
    return config.always_conditional or bool(conditional)


def _size(config: type[GeneratorConfig], images: ImageSet) -> int:
    native = common_side(images)
    possible = config.sizes or (28, 32)
    return native if native in possible else config.size


def _plain(config: GeneratorConfig) -> dict[str, Any]:
    """The config after a round trip through JSON, to compare with a config from a file."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return plain


@contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """Set the number of torch's processor threads inside the `with` block. None: no change."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
