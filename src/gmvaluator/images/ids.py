"""Ids that name the same image, also where the same letters are written by other code points.

Unicode writes é as one code point (composed, NFC) or as e and an accent (decomposed, NFD). File
systems and programs differ in this, and the two look alike on every screen. So an id is looked up
as it is and then by its letters, and a set has no two ids of the same letters: a file of owners
that another program wrote could not tell them apart. Sets of earlier versions may have such ids.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

NOWHERE = -1
SEVERAL = -2


def letters(name: str) -> str:
    """The form in which names are compared: composed (NFC)."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def repeated(ids: Sequence[str]) -> list[str]:
    """The ids of the first letters that several ids have; empty: no such ids."""
    names = list(map(letters, ids))
    if len(set(names)) == len(names):
        return []
    most = Counter(names).most_common(1)[0][0]
    return [id_ for id_, name in zip(ids, names, strict=True) if name == most]


def find_ids(wanted: Iterable[str], ids: Sequence[str]) -> NDArray[np.int64]:
    """The row in `ids` of each wanted id: of the same id, else of the same letters.

    Returns:
        Rows; `NOWHERE` without such an id, `SEVERAL` where several ids have the same letters.
    """
    names = list(wanted)
    row_of = {name: row for row, name in enumerate(ids)}
    rows = np.array([row_of.get(name, NOWHERE) for name in names], dtype=np.int64)
    strangers = [at for at in np.flatnonzero(rows < 0).tolist() if not names[at].isascii()]
    if strangers:
        by_letters: dict[str, int] = {}
        for row, name in enumerate(ids):
            if not name.isascii():
                form = letters(name)
                by_letters[form] = SEVERAL if form in by_letters else row
        for at in strangers:
            rows[at] = by_letters.get(letters(names[at]), NOWHERE)
    return rows


def find_distinct(wanted: Sequence[str], ids: Sequence[str]) -> NDArray[np.int64]:
    """`find_ids` for distinct ids of distinct images: no row twice, and `NOWHERE` where unclear."""
    rows = find_ids(wanted, ids)
    used, times = np.unique(rows, return_counts=True)
    unclear = np.isin(rows, used[times > 1]) | (rows < 0)
    for at in np.flatnonzero(unclear & (rows >= 0)).tolist():
        unclear[at] = ids[rows[at]] != wanted[at]
    return np.where(unclear, NOWHERE, rows)


def existing_path(path: str) -> str:
    """The path of a file, with folders and name composed or decomposed as they are on disk.

    A path that does not exist in one of these forms is given back as it is.
    """
    if path.isascii() or os.path.lexists(path):
        return path
    reached = Path(Path(path).anchor)
    for part in Path(path).relative_to(reached).parts:
        forms = (part, *(unicodedata.normalize(form, part) for form in ("NFC", "NFD")))
        there = [reached / form for form in forms if os.path.lexists(reached / form)]
        if not there:
            return path
        reached = there[0]
    return str(reached)


def code_points(name: str) -> str:
    """A name with the code points of its letters beyond ASCII: "é.png (U+0065 U+0301)"."""
    shown = [
        letter
        for at, letter in enumerate(name)
        if not letter.isascii() or (at + 1 < len(name) and unicodedata.combining(name[at + 1]))
    ]
    points = " ".join(f"U+{ord(letter):04X}" for letter in shown)
    return f"{name!r} ({points})" if points else repr(name)
