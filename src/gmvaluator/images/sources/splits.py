"""Splits of a data set in files, such as train and test, by the names of the files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from gmvaluator.errors import InputError

ALL = "all"
_SHARD = re.compile(r"([^-]+)-\d{5}-of-\d{5}")
_WORDS = frozenset(
    (
        *("train", "training", "test", "testing", "eval", "evaluation"),
        *("validation", "valid", "val", "dev"),
    )
)
"""Words that the Hugging Face library takes for splits."""


def split_of(name: str) -> str | None:
    """The split of a file by its path within the data set; None where the path names none."""
    parts = Path(name).with_suffix("").parts
    shard = _SHARD.search(parts[-1])
    if shard is not None:
        return shard[1]
    for part in reversed(parts):
        for word in re.split(r"[^a-z]+", part.lower()):
            if word in _WORDS:
                return word
    return None


def of_split(files: Sequence[tuple[str, str]], split: str | None, where: Path) -> list[Path]:
    """The files of a split.

    Args:
        files: (path within the data set, path) of each.
        split: None where none was chosen; then there must not be several.
        where: the data set, for messages.

    Raises:
        InputError: there are several splits and none was chosen, or not this one.
    """
    splits = [split_of(name) for name, _ in files]
    known = sorted({name for name in splits if name is not None})
    if split is None and len(known) > 1:
        raise InputError(
            f"{where} holds several splits, {_counted(splits, known)}; choose one, as in "
            f"'{where}#split={known[-1]}', or all of them: '{where}#split={ALL}'."
        )
    if split not in (None, ALL, *known):
        raise InputError(
            f"{where} has no split {split!r}; it has {_counted(splits, known) or 'none'}."
        )
    return [
        Path(path)
        for name, (_, path) in zip(splits, files, strict=True)
        if split in (None, ALL, name)
    ]


def _counted(splits: Sequence[str | None], known: Sequence[str]) -> str:
    return ", ".join(
        f"{name} ({n} file{'s' * (n != 1)})" for name in known for n in (splits.count(name),)
    )
