"""What lies at a path: a result of this package, something else, or nothing.

A verb that is given the wrong folder says which folder that is, and what takes it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gmvaluator.errors import either


@dataclass(frozen=True)
class Kind:
    """A kind of result that this package writes, and that a verb takes.

    Attributes:
        name: for messages, with its article.
        files: of a folder: its marker, and a file that is always beside the marker.
        written_by, taken_by: what writes and what takes such results: in Python, and on the command
            line.
    """

    name: str
    files: tuple[str, ...]
    written_by: tuple[str, str]
    taken_by: tuple[str, str]

    @property
    def word(self) -> str:
        """The name in one word: run."""
        return self.name.split()[1]


RUN_FOLDER = Kind(
    "a run folder",
    ("run.json", "values.parquet"),
    ("Valuation.save writes run folders", "gmvaluator value writes run folders"),
    (
        "Valuation.load takes a run folder",
        "value, match, extend, reweigh, report, curate, uncertainty, stability, audit, verify, "
        "diff and payout take a run folder",
    ),
)
INDEX_FOLDER = Kind(
    "an index folder",
    ("index.json", "vectors.safetensors"),
    ("GMValuator.save writes index folders", "gmvaluator embed writes index folders"),
    ("GMValuator.load takes an index folder", "value and match take an index folder"),
)
CURATION_FOLDER = Kind(
    "a curation folder",
    ("curation.json", "curation.parquet"),
    ("export_curation writes curation folders", "gmvaluator curate writes curation folders"),
    ("no function takes a curation folder", "no verb takes a curation folder"),
)
LEDGER = Kind(
    "a ledger",
    (),
    ("payout_run writes ledgers (ledger=…)", "gmvaluator payout --ledger writes ledgers"),
    ("read_ledger takes a ledger", "gmvaluator ledger takes a ledger"),
)
FOLDERS = (RUN_FOLDER, INDEX_FOLDER, CURATION_FOLDER)
_LEDGER_START = b'{"budget": '


def result_at(path: str | Path) -> Kind | None:
    """The kind of result that a path is; None where it is none."""
    place = Path(path)
    if place.is_file():
        with suppress(OSError), place.open("rb") as file:
            return LEDGER if file.read(len(_LEDGER_START)) == _LEDGER_START else None
    return next(
        (kind for kind in FOLDERS if all((place / name).is_file() for name in kind.files)), None
    )


def wrong_place(path: str | Path, wanted: Kind) -> str:
    """The message that no result of the wanted kind is there, with what is there instead."""
    place = Path(path)
    noun = wanted.name.partition(" ")[2]
    advice = f"wanted {wanted.name}: {either(*wanted.written_by)}"
    if not os.path.lexists(place):
        return f"{path} does not exist; {advice}"
    if (result := result_at(place)) is not None:
        return f"{path} is {result.name}, not {wanted.name}; {either(*result.taken_by)}"
    if not place.is_dir():
        return f"{path} is a file, and no {noun}; {advice}"
    if not any(place.iterdir()):
        return f"{path} is an empty folder; {advice}"
    holds = f" (it holds no {wanted.files[0]})" if wanted.files else ""
    return f"{path} is no {noun}{holds}; {advice}"


def refusal_as_images(path: str | Path) -> str | None:
    """The message that a path is a run or an index and no set of images; None where it is neither.

    A curation folder holds images, and may be taken for a set of them.
    """
    result = result_at(path)
    if result not in (RUN_FOLDER, INDEX_FOLDER):
        return None
    return f"{path} is {result.name}, and images are wanted here; {either(*result.taken_by)}"
