"""Sums over many checkpoints, stored after each checkpoint. An interrupted sum goes on."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import RunError
from gmvaluator.files.atomic import publish_file, remove_leftovers


class PartialSums:
    """Arrays by key in a folder, each with its number of terms. No folder: nothing is stored."""

    def __init__(self, folder: str | Path | None) -> None:
        self._folder = None if folder is None else Path(folder).absolute()
        self._written: set[Path] = set()
        if self._folder is not None and self._folder.is_dir():
            remove_leftovers(self._folder)

    @property
    def keeps(self) -> bool:
        """Whether there is a folder."""
        return self._folder is not None

    def resume(self, key: str, shape: tuple[int, ...]) -> tuple[NDArray[np.float64], int]:
        """(sum, number of terms). Zeros and 0 if nothing is stored.

        Raises:
            RunError: the file is damaged or of another shape.
        """
        file = self._file(key)
        if file is None or not file.is_file():
            return np.zeros(shape), 0
        self._written.add(file)
        try:
            with file.open("rb") as handle, np.load(handle) as archive:
                sums, terms = archive["sums"], int(archive["terms"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise RunError(f"{file} is damaged ({error}); delete it to start again") from error
        if sums.shape != shape:
            raise RunError(f"{file} holds {sums.shape}, wanted {shape}; delete it to start again")
        return sums, terms

    def keep(self, key: str, sums: NDArray[np.float64], terms: int) -> None:
        """Write the sum so far, in one atomic step.

        Raises:
            RunError: the folder cannot be written.
        """
        file = self._file(key)
        if file is None:
            return
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with publish_file(file) as part, part.open("wb") as handle:
                np.savez(handle, sums=sums, terms=terms)
        except OSError as error:
            raise RunError(
                f"{file} cannot be written ({error.strerror or error}); choose another folder"
            ) from error
        self._written.add(file)

    def forget(self) -> None:
        """Delete the stored sums, since the valuation is complete."""
        for file in self._written:
            file.unlink(missing_ok=True)
        self._written.clear()

    def _file(self, key: str) -> Path | None:
        return None if self._folder is None else self._folder / f"sums-{key}.npz"
