"""The indexes and runs that are served: loaded once, looked up by name, their images by id."""

from __future__ import annotations

import base64
import binascii
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from gmvaluator.engine.reload import named_settings, recorded_holdout
from gmvaluator.engine.trained import Trained
from gmvaluator.errors import InputError, RunError
from gmvaluator.files.store import Store
from gmvaluator.images import ImageSet
from gmvaluator.images.decoding import encode_png
from gmvaluator.memory import once
from gmvaluator.places import INDEX_FOLDER, RUN_FOLDER, result_at, wrong_place
from gmvaluator.progress import Progress
from gmvaluator.runs.images import RunSide
from gmvaluator.runs.matches import ids_by_content
from gmvaluator.runs.record import read_marker, read_record
from gmvaluator.runs.valuation import Valuation
from gmvaluator.service.problems import Problem
from gmvaluator.shown import short_repr
from gmvaluator.valuator import GMValuator

LOG = logging.getLogger("gmvaluator.service")
THUMBNAIL_SIDE = 160
IMAGE_SIDE = 1024
JPEG, PNG = "image/jpeg", "image/png"


def token_of(train_id: str) -> str:
    """The id of a training image as one part of an address: base64url of its UTF-8.

    An id may hold slashes, dots and any other letter, which proxies and servers take for theirs.
    """
    return base64.urlsafe_b64encode(train_id.encode()).decode().rstrip("=")


def id_of(token: str) -> str | None:
    """The id that `token_of` wrote; None for any other text."""
    try:
        content = base64.b64decode(token + "=" * (-len(token) % 4), b"-_", validate=True)
        return content.decode()
    except (binascii.Error, ValueError):
        return None


@short_repr
@dataclass(frozen=True, eq=False)
class Served:
    """An index or run in memory.

    Attributes:
        name: in addresses.
        folder: of the index or run.
        kind: `index` or `run`.
        matcher: matches pictures, as `gmvaluator match` does.
        valuer: values sets of pictures with the recorded settings, as `gmvaluator value` does.
        holdout: held-out images of the recorded null sample; None: none.
        side: the training images.
        valuation: of the run; None: an index.
        owners: n names, where a metadata column of the training set has them; None: not asked for.
        stamp: of the folder's marker when it was read.
    """

    name: str
    folder: Path
    kind: str
    matcher: GMValuator
    valuer: GMValuator
    holdout: ImageSet | None
    side: RunSide
    valuation: Valuation | None
    owners: tuple[str | None, ...] | None
    stamp: tuple[int, ...] | None

    @property
    @once
    def rows(self) -> dict[str, int]:
        """Row of each training image by id."""
        return {name: row for row, name in enumerate(self.side.ids)}

    @property
    @once
    def ids_by_key(self) -> dict[str, list[str]]:
        """Training ids by content."""
        return ids_by_content(self.side.ids, self.side.keys)

    @property
    def state(self) -> str:
        """`served`, `changed` since the start (what was loaded is served on), or `gone`."""
        now = stamp_of(self.folder)
        if now is None:
            return "gone"
        return "served" if now == self.stamp else "changed"

    def label(self, row: int) -> str | None:
        """The label of a training image."""
        return None if self.side.labels is None else self.side.labels[row]

    def owner(self, row: int) -> str | None:
        """The owner of a training image."""
        return None if self.owners is None else self.owners[row]

    def picture(self, token: str, *, small: bool) -> tuple[bytes, str]:
        """A training image, encoded anew, and its media type.

        The id is looked up among those of the training set; it never becomes a path. The bytes
        that were read have the recorded content, or no picture is given.

        Raises:
            Problem: no such image, or it is gone or changed.
        """
        train_id = id_of(token)
        row = self.rows.get(train_id) if train_id is not None else None
        if row is None:
            raise Problem("unknown-image")
        state, picture = self.side.thumbnail(row, THUMBNAIL_SIDE if small else IMAGE_SIDE)
        if picture is None:
            raise Problem("image-gone", f"The image is {state}.")
        if not small:
            return encode_png(picture.pixels), PNG
        return picture.file, PNG if picture.file.startswith(b"\x89PNG") else JPEG


def stamp_of(folder: Path) -> tuple[int, ...] | None:
    """What tells whether the marker of a folder is still the same file; None: it is gone."""
    for kind in (RUN_FOLDER, INDEX_FOLDER):
        try:
            found = (folder / kind.files[0]).stat()
        except OSError:
            continue
        return found.st_mtime_ns, found.st_size, found.st_ino
    return None


class Models:
    """All that is served, by name.

    Args:
        folders: of indexes and runs.
        by: metadata column of the training sets that names owners; None: no owners.
        cache: folder of the cache; None: the user's.
        progress: of jobs.

    Raises:
        RunError: a folder is neither.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        *,
        by: str | None = None,
        cache: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        for folder in folders:
            if result_at(folder) not in (RUN_FOLDER, INDEX_FOLDER):
                raise RunError(wrong_place(folder, RUN_FOLDER))
        self._folders = [folder.absolute() for folder in folders]
        self._by = by
        self._store = Store(cache)
        self._progress = progress
        self._served: dict[str, Served] = {}
        self.ready = threading.Event()

    def load(self) -> None:
        """Load everything and match one picture by it, so that the first request waits for nothing.

        Raises:
            GMValuatorError: a folder cannot be served.
        """
        for folder, name in zip(self._folders, names_of(self._folders), strict=True):
            served = self._load(folder, name)
            grey = ImageSet.open(np.full((1, 32, 32, 3), 128, np.uint8))
            served.matcher.value(grey)
            _ = served.rows, served.ids_by_key
            self._served[name] = served
            LOG.info("%s %s: %d training images", served.kind, name, len(served.side.ids))
        # what clients send is not kept
        self._store.freeze()
        self.ready.set()

    def _load(self, folder: Path, name: str) -> Served:
        stamp = stamp_of(folder)
        valuation, holdout = None, None
        shared: dict[str, Any] = {"cache": self._store}
        if result_at(folder) is RUN_FOLDER:
            kind, owner = "run", f"run {folder}"
            record = read_record(folder)
            settings: Any = record.settings
            valuation = Valuation.load(folder)
            # as `gmvaluator match`: a run that withholds scores would name contributors without any
            matcher = GMValuator.refit(folder, null="report", **shared)
            if named_settings(settings, {}, owner)["null"] != "off":
                holdout = recorded_holdout(record, None, owner)
        else:
            kind, owner = "index", f"index {folder}"
            settings = read_marker(folder, INDEX_FOLDER).get("settings", {})
            matcher = GMValuator.load(folder, null="report", **shared)
        trained = cast("Trained", matcher.fitted_)
        progress = {} if self._progress is None else {"progress": self._progress}
        valuer = GMValuator(**named_settings(settings, shared | progress, owner))
        valuer.fitted_ = trained
        train = trained.train
        side = RunSide(train.ids, train.keys, train.labels, trained.placed.images, None)
        return Served(
            name, folder, kind, matcher, valuer, holdout, side, valuation,
            self._owners(side), stamp,
        )  # fmt: skip

    def _owners(self, side: RunSide) -> tuple[str | None, ...] | None:
        if self._by is None:
            return None
        return tuple(None if name is None else str(name) for name in side.column(self._by))

    def __iter__(self) -> Any:
        return iter(self._served.values())

    def get(self, name: str | None) -> Served:
        """What is served under a name; without a name the only one.

        Raises:
            Problem: no such name, none given among several, or the folder was deleted.
        """
        if name is None:
            if len(self._served) != 1:
                raise Problem("which-run")
            (served,) = self._served.values()
        elif name in self._served:
            served = self._served[name]
        else:
            raise Problem("unknown-run")
        if served.state == "gone":
            raise Problem("run-gone")
        return served


def names_of(folders: Sequence[Path]) -> list[str]:
    """Names of folders in addresses: their own, with a number where one comes again.

    Raises:
        InputError: a folder is given twice.
    """
    if len(set(folders)) < len(folders):
        raise InputError("a folder is given twice; pass each index and run once")
    names: list[str] = []
    for folder in folders:
        name, number = folder.name or "run", 2
        while name in names:
            name, number = f"{folder.name}-{number}", number + 1
        names.append(name)
    return names
