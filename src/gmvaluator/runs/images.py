"""The images of one side of a run, as far as they can still be had."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import ImageError, InputError, RunError
from gmvaluator.images import ImageSet

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

    def thumbnail(self, i: int, max_side: int) -> tuple[State, bytes | None]:
        """What `state` says and, if that is `ok` or `unknown`, image i as a small PNG or JPEG."""
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
        """(n,) whose entry of a column `column` cannot give: the set no longer lists them."""
        recorded = name == "label" and self.labels is not None
        return np.zeros(len(self.ids), dtype=bool) if recorded else self.rows < 0

    def column(self, name: str) -> tuple[Any, ...]:
        """n entries of a metadata column, or of `label`; None for images that are gone.

        `gone` tells those from images without an entry.

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

    def whole_column(self, name: str) -> tuple[Any, ...]:
        """`column`, where none of its images is gone.

        Raises:
            InputError: no such column.
            RunError: the set no longer lists all images, so whose they are is not known.
        """
        entries = self.column(name)
        if self.gone(name).any():
            raise RunError(
                f"column {name!r} cannot be read for all images: {self.trouble}; restore the set, "
                "pass where it is now (--train-images), or take what needs no set, such as a file "
                "of owners"
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


def open_recorded(
    ids: tuple[str, ...],
    keys: tuple[str, ...] | None,
    labels: tuple[str | None, ...] | None,
    recorded: str | list[list[str]] | None,
    given: object = None,
) -> RunSide:
    """The images of these ids from where the run had them, or from what is given instead.

    Args:
        ids, keys, labels: as `RunSide` has them.
        recorded: where they were, several sources with the prefixes of their ids; None: in memory.
        given: any source of `ImageSet`; unlike what was recorded, it must open.

    Raises:
        InputError: what was given cannot be opened.
    """
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
    return RunSide(ids=ids, keys=keys, labels=labels, images=images, trouble=trouble)


def _places(ids: Sequence[str], images: ImageSet | None) -> NDArray[np.int64]:
    known = {} if images is None else {name: row for row, name in enumerate(images.ids)}
    return np.array([known.get(name, -1) for name in ids], dtype=np.int64)
