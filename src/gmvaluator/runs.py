"""A saved run with the images it was made from, as far as these can still be had."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import ImageError, InputError
from gmvaluator.images import ImageSet
from gmvaluator.sealing import SEAL, broken
from gmvaluator.valuation import MARKER, Valuation, read_marker

State = Literal["ok", "missing", "unreadable", "changed", "unknown"]


@dataclass(frozen=True, eq=False)
class RunSide:
    """The training or the generated images of a run.

    Attributes:
        ids: n ids, as the run has them.
        keys: n content keys the images had then; None: an older run, which did not record them.
        labels: n labels; None: none known.
        images: the set that holds them now; None: it cannot be had.
        trouble: why it cannot, or how many images it no longer lists; None: all is well.
    """

    ids: tuple[str, ...]
    keys: tuple[str, ...] | None
    labels: tuple[str | None, ...] | None
    images: ImageSet | None
    trouble: str | None

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """(n,) place of each image in `images`; −1 where it is not listed any more."""
        return _places(self.ids, self.images)

    def state(self, i: int) -> State:
        """Whether image i can be shown as what was valued; reads its bytes.

        `changed`: it has other content than then. `unknown`: it is there, and the run does not
        say what content it had.
        """
        return self._read(i, None)[0]

    def png(self, i: int, max_side: int) -> bytes | None:
        """Image i as a PNG of at most `max_side` pixels a side; None unless it is what was valued.

        Images of a run that recorded no content are shown as they are now; see `state`.
        """
        return self._read(i, max_side)[1]

    def column(self, name: str) -> tuple[Any, ...]:
        """n entries of a metadata column, or of `label`; None for images that are gone.

        Raises:
            InputError: no such column.
        """
        if name == "label" and self.labels is not None:
            return self.labels
        if self.images is None:
            raise InputError(f"column {name!r} cannot be read: {self.trouble}")
        known = self.images.metadata
        if name not in known:
            listed = ", ".join([*(["label"] if self.labels is not None else []), *known])
            raise InputError(
                f"the set has no column {name!r}; choose one of: {listed or 'none, it has none'}"
            )
        values = known[name]
        return tuple(None if row < 0 else values[row] for row in self.rows)

    def _read(self, i: int, max_side: int | None) -> tuple[State, bytes | None]:
        row = int(self.rows[i])
        if self.images is None or row < 0:
            return "missing", None
        try:
            same = self.keys is None or self.images.content_key(row) == self.keys[i]
            png = None if max_side is None or not same else self.images.png(row, max_side)
        except ImageError:
            return "unreadable", None
        if not same:
            return "changed", None
        return ("unknown" if self.keys is None else "ok"), png


@dataclass(frozen=True, eq=False)
class Run:
    """A run folder that was opened.

    Attributes:
        folder: where it is.
        valuation: what it holds.
        seal: of the run; None: an older one without.
        train, generated: its images.
    """

    folder: Path
    valuation: Valuation
    seal: str | None
    train: RunSide
    generated: RunSide


def open_run(path: str | Path, *, train: object = None, generated: object = None) -> Run:
    """Open a run folder and, where they can be had, the images it was made from.

    Args:
        path: of the run.
        train, generated: any source of `ImageSet`, where images are no longer where the run had
            them. What is given must open; what the run recorded need not.

    Raises:
        RunError: no run is there, or it is not as it was saved.
        InputError: a set that was given cannot be opened.
    """
    folder = Path(path)
    valuation = Valuation.load(folder)
    return Run(
        folder=folder,
        valuation=valuation,
        seal=read_marker(folder, MARKER, "run").get(SEAL),
        train=open_side(valuation, "train", train),
        generated=open_side(valuation, "generated", generated),
    )


def open_side(
    valuation: Valuation, side: Literal["train", "generated"], given: object = None
) -> RunSide:
    """One of the two sets of a valuation; see `open_run`."""
    of_train = side == "train"
    ids = valuation.train_ids if of_train else valuation.generated_ids
    recorded = valuation.info.get("inputs", {}).get(side, {}).get("source")
    images, trouble = None, None
    if given is not None:
        images = ImageSet.open(given)
    elif recorded is None:
        trouble = "the run was made from images in memory; pass the set"
    else:
        try:
            images = ImageSet.open(recorded)
        except InputError as error:
            trouble = f"the images cannot be opened where they were ({error}); pass the set"
    missing = 0 if images is None else int((_places(ids, images) < 0).sum())
    if missing:
        trouble = f"{missing} of {len(ids)} images are no longer listed in the set"
    return RunSide(
        ids=ids,
        keys=valuation.train_keys if of_train else valuation.generated_keys,
        labels=valuation.train_labels if of_train else valuation.generated_labels,
        images=images,
        trouble=trouble,
    )


def check_files(path: str | Path) -> list[str]:
    """What of a run's files is missing or was changed since it was saved, a sentence each.

    Raises:
        RunError: no run is there, or its record cannot be read.
    """
    folder = Path(path)
    return broken(read_marker(folder, MARKER, "run"), folder)


def _places(ids: Sequence[str], images: ImageSet | None) -> NDArray[np.int64]:
    known = {} if images is None else {name: row for row, name in enumerate(images.ids)}
    return np.array([known.get(name, -1) for name in ids], dtype=np.int64)
