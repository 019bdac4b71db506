"""The images of one side of a run: ids and a source go in, a `RunSide` comes out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import (
    AddedWarning,
    ImageError,
    InputError,
    MovedError,
    RunError,
    either,
)
from gmvaluator.images import ImageSet, ImageSource, Thumbnail
from gmvaluator.images.ids import find_distinct
from gmvaluator.memory import once
from gmvaluator.runs.record import Input
from gmvaluator.shown import short_repr

State = Literal["ok", "missing", "unreadable", "changed", "unknown"]
Side = Literal["train", "generated", "holdout"]
Valued = Literal["train", "generated"]
VALUED: tuple[Valued, ...] = ("train", "generated")
NAMES: Mapping[Side, str] = {
    "train": "training images",
    "generated": "generated images",
    "holdout": "held-out images",
}
_OPTIONS: Mapping[Side, tuple[str, str]] = {
    "train": ("train=…", "--train-images SOURCE"),
    "generated": ("generated=…", "--generated-images SOURCE"),
    "holdout": ("holdout=…", "--holdout SOURCE"),
}


def pass_images(side: Side) -> str:
    """The advice to say where images are now, by the option that takes them."""
    return f"pass where they are now ({_option(side)})"


def _option(side: Side) -> str:
    return either(*_OPTIONS[side])


def open_recorded(source: ImageSource, side: Side, owner: str) -> ImageSet:
    """The images at the place that a run or an index recorded.

    Args:
        source: the place.
        side: which images these are.
        owner: the run or index, for messages.

    Raises:
        MovedError: they cannot be opened there.
    """
    try:
        return ImageSet.open(source)
    except InputError as error:
        # what a source may be is no help here
        reason = str(error).partition(";")[0]
        raise MovedError(
            f"the {NAMES[side]} of {owner} cannot be opened where they were ({reason}); "
            f"{pass_images(side)}"
        ) from error


@short_repr
@dataclass(frozen=True, eq=False)
class RunSide:
    """The training or the generated images of a run, as far as they can still be opened.

    Attributes:
        ids: n ids, as the run has them.
        keys: n content keys of the images that were valued; None: an older run without keys.
        labels: n labels; None: none known.
        images: the set that holds the images now; None: it cannot be opened.
        trouble: why the set cannot be opened, or how many images it no longer lists; None: neither.
        fingerprint: of the images that were valued; None: not recorded.
    """

    ids: tuple[str, ...]
    keys: tuple[str, ...] | None
    labels: tuple[str | None, ...] | None
    images: ImageSet | None
    trouble: str | None
    fingerprint: str | None = None

    @property
    @once
    def rows(self) -> NDArray[np.int64]:
        """(n,) row of each image in `images`; −1 where the set no longer lists the image."""
        return _rows_in(self.images, self.ids)

    def state(self, i: int) -> State:
        """Whether image i is still the image that was valued; reads its bytes.

        `changed`: the content differs. `unknown`: the run did not record the content.
        """
        return self._read(i, None)[0]

    def png(self, i: int, max_side: int) -> bytes | None:
        """Image i as a PNG of at most `max_side` pixels a side; None unless it was valued so.

        Where the run did not record the content, the image is shown as it is now.
        """
        return self._read(i, max_side)[1]

    def thumbnail(self, i: int, max_side: int) -> tuple[State, Thumbnail | None]:
        """The state of image i and, if that is `ok` or `unknown`, a small copy of it."""
        row = int(self.rows[i])
        if self.images is None or row < 0:
            return "missing", None
        try:
            picture = self.images.thumbnail(
                row, max_side, None if self.keys is None else self.keys[i]
            )
        except ImageError:
            return "unreadable", None
        if picture is None:
            return "changed", None
        return ("unknown" if self.keys is None else "ok"), picture

    def gone(self, name: str) -> NDArray[np.bool_]:
        """(n,) images without an entry in `column(name)` because the set no longer lists them."""
        recorded = name == "label" and self.labels is not None
        return np.zeros(len(self.ids), dtype=bool) if recorded else self.rows < 0

    def column(self, name: str) -> tuple[Any, ...]:
        """n entries of a metadata column, or of `label`.

        An entry is None where the image has none, or where the image is gone (see `gone`).

        Raises:
            InputError: no such column.
        """
        if name == "label" and self.labels is not None:
            return self.labels
        if self.images is None:
            raise InputError(f"column {name!r} cannot be read: {self.trouble}")
        metadata = self.images.metadata
        if name not in metadata:
            listed = ", ".join([*(["label"] if self.labels is not None else []), *metadata])
            raise InputError(
                f"the set has no column {name!r}; choose one of: {listed or 'none, it has none'}"
            )
        values = metadata[name]
        return tuple(None if row < 0 else values[row] for row in self.rows)

    def whole_column(self, name: str) -> tuple[Any, ...]:
        """`column`, but an error where an image is gone.

        Raises:
            InputError: no such column.
            RunError: the set no longer lists all images, so their entries are not known.
        """
        entries = self.column(name)
        if self.gone(name).any():
            raise RunError(
                f"column {name!r} cannot be read for all images: {self.trouble}, or take what "
                "needs no set, such as a file of owners"
            )
        return entries

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


def open_side(
    side: Side,
    ids: tuple[str, ...],
    keys: tuple[str, ...] | None,
    labels: tuple[str | None, ...] | None,
    recorded: Input,
    source: ImageSource | None = None,
) -> RunSide:
    """Open the images of one side of a run.

    Args:
        side: which images these are.
        ids, keys, labels: as in `RunSide`.
        recorded: the set that the run was made from. If it cannot be opened, `trouble` says why.
        source: any source of `ImageSet` that has the images now; it must open.

    Raises:
        InputError: `source` cannot be opened.
    """
    images, trouble = None, None
    if source is not None:
        images = ImageSet.open(source)
    elif recorded.source is None:
        trouble = f"the {NAMES[side]} of the run were in memory; pass them ({_option(side)})"
    else:
        try:
            images = open_recorded(recorded.source, side, "the run")
        except MovedError as error:
            trouble = str(error)
    opened = RunSide(ids, keys, labels, images, trouble, recorded.fingerprint)
    missing = [name for name, row in zip(ids, opened.rows, strict=True) if row < 0]
    if images is None or not missing:
        return opened
    trouble = (
        f"{len(missing)} of {len(ids)} {NAMES[side]} are no longer listed in the set, first "
        f"{missing[0]!r}; restore them, or {pass_images(side)}"
    )
    return replace(opened, trouble=trouble)


def added_ids(images: ImageSet, known: Sequence[str]) -> list[str]:
    """The ids of a set that a run or an index does not know.

    Args:
        images: the set as it is listed now.
        known: ids of the images that were read, and of those that were not.
    """
    if set(images.ids) <= set(known):
        return []
    rows = set(find_distinct(known, images.ids).tolist())
    return [name for row, name in enumerate(images.ids) if row not in rows]


def warn_of_added(side: Side, images: ImageSet, known: Sequence[str], owner: str) -> None:
    """Warn of images that a run or an index does not know, in a set that has all that it knows.

    Args:
        side: which images these are.
        images, known: as for `added_ids`.
        owner: the run or index, for the message.
    """
    if added := added_ids(images, known):
        warnings.warn(
            f"{len(added)} of the {NAMES[side]} were added since {owner} was made, such as "
            f"{added[0]!r}; they are left out",
            AddedWarning,
            stacklevel=1,  # the same place for all: shown once
        )


def as_valued(side: Side, images: ImageSet, known: tuple[str, ...], n: int, owner: str) -> ImageSet:
    """The images of a run, with the ids and in the order that the run has for them.

    Copying a folder between systems may write the letters of its ids by other code points, which
    changes their order as well. Images that were added since are left out, with a warning. A set
    that lacks images of the run is returned as it is.

    Args:
        side: which images these are.
        images: the set as it is listed now.
        known: ids of the run: of the n images that were read, then of those that were not.
        n: number of images that were read.
        owner: the run, for the warning.
    """
    if set(images.ids) <= set(known):
        return images
    rows = find_distinct(known, images.ids)
    if (rows[:n] < 0).any():
        return images
    warn_of_added(side, images, known, owner)
    there = np.flatnonzero(rows >= 0)
    named = images.select(rows[there], ids=[known[at] for at in there])
    named.location = images.location
    return named


def _rows_in(images: ImageSet | None, ids: Sequence[str]) -> NDArray[np.int64]:
    return find_distinct(ids, () if images is None else images.ids)
