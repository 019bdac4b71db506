"""Checks of image sets: from a run and a set to whether the run was made from this set."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from gmvaluator.images import ImageSet, ImageSource, Preprocessing, set_fingerprint
from gmvaluator.images.ids import letters
from gmvaluator.progress import Progress
from gmvaluator.runs.images import NAMES, Valued, added_ids, open_side
from gmvaluator.runs.valuation import Valuation
from gmvaluator.scoring.conformal import fresh_rows, null_size
from gmvaluator.shown import short_repr

State = Literal["ok", "failed", "unknown"]
HELD_OUT = NAMES["holdout"]
# ids that a sentence lists; it counts the others
LISTED_IDS = 20
_SMALL = Preprocessing(8)
_GONE = "are gone or cannot be read"


@short_repr
@dataclass(frozen=True)
class Check:
    """One check and its result.

    Attributes:
        name: of the check.
        state: `unknown`: the check could not be made.
        found: sentences: what is wrong, why the check could not be made, or what is right.
    """

    name: str
    state: State
    found: tuple[str, ...]


@short_repr
@dataclass(frozen=True)
class InputCheck(Check):
    """Whether a set of images is the set that was valued.

    Attributes:
        n: number of images that the run lists.
        missing: ids of the run that the set does not list, or whose image cannot be read.
        changed: ids of the run whose image has other content than was valued.
        added: ids of the set that the run does not list; they make no check fail.
    """

    n: int = 0
    missing: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()


def check_inputs(
    valuation: Valuation,
    side: Valued,
    source: ImageSource | None,
    *,
    quick: bool,
    progress: Progress,
) -> InputCheck:
    """Whether the training or the generated images are those that were valued.

    Args:
        valuation: of the run.
        side: which images.
        source: the set to check; None: the set that the run recorded.
        quick: compare ids only.
        progress: of reading the images.
    """
    opened = valuation.open_images(side, source)
    name, n, images = NAMES[side], len(opened.ids), opened.images
    if images is None:
        return InputCheck(name, "unknown", (str(opened.trouble),), n)
    where = _where(images, source or getattr(valuation.record.inputs, side).source)
    added = tuple(added_ids(images, valuation.known_ids(side)))
    # more images than the run knows are no fault of the run
    more = _counted(added, "were not there when the run was made")
    rows = dict(zip(opened.ids, opened.rows.tolist(), strict=True))
    if quick:
        missing = tuple(id_ for id_, row in rows.items() if row < 0)
        wrong = _counted(missing, _GONE)
        ids_only = f"{where} lists the same {n} ids; contents were not read (--quick)"
        state: State = "failed" if wrong else "unknown"
        return InputCheck(name, state, (*(wrong or (ids_only,)), *more), n, missing, (), added)
    keys = _content_keys(images, sorted(row for row in rows.values() if row >= 0), progress, name)
    key_of = {id_: keys[row] for id_, row in rows.items() if row in keys}
    missing = tuple(id_ for id_ in rows if id_ not in key_of)
    valued = dict(zip(opened.ids, opened.keys or (), strict=False))
    changed = tuple(id_ for id_, key in key_of.items() if valued.get(id_, key) != key)
    wrong = _counted(missing, _GONE) + _counted(changed, "have other content than was valued")
    if not valued and not missing:
        if opened.fingerprint is None:
            nothing = "the run recorded neither content keys nor a fingerprint"
            return InputCheck(name, "unknown", (nothing, *more), n, added=added)
        if opened.fingerprint not in (
            None,
            set_fingerprint(opened.ids, [key_of[id_] for id_ in opened.ids]),
        ):
            wrong.append(
                "contents of some differ from those valued; this older run does not say which"
            )
    if wrong and valued:
        lost, unknown = {valued[id_] for id_ in missing}, set(added)
        places = [row for row, id_ in enumerate(images.ids) if id_ in unknown] if lost else []
        added_keys = _content_keys(images, places, progress, name).values() if places else ()
        if renamed := len(lost.intersection(added_keys)):
            wrong.insert(0, f"{renamed} of the missing images are there under other ids")
        elif len(missing) + len(changed) == n:
            wrong.insert(0, f"{where} is another set: not one image of the run is in it")
    same = (f"{where} holds the same {n} images",)
    state = "failed" if wrong else "ok"
    return InputCheck(name, state, (*(wrong or same), *more), n, missing, changed, added)


def check_holdout(
    valuation: Valuation, source: ImageSource | None, *, quick: bool, progress: Progress
) -> InputCheck | None:
    """Whether the held-out images give the null sample that the run recorded.

    The run records a fingerprint of the sample, not the ids of the held-out images. The sample is
    the first images in the order of `fresh_rows` that could be embedded. Images that were left out
    because they have the vector of a training image cannot be known here: then the state is
    `unknown`.

    Args:
        valuation, source, quick, progress: as in `check_inputs`.

    Returns:
        None: the run had no held-out images, and `source` is None.
    """
    recorded, test = valuation.record.inputs.holdout, valuation.record.unattributed
    if recorded is None:
        if source is None:
            return None
        return InputCheck(HELD_OUT, "failed", ("the run was made without, and a set was given",))
    opened = open_side("holdout", (), None, None, recorded, source)
    images, training = opened.images, valuation.train_keys
    if images is None:
        return InputCheck(HELD_OUT, "unknown", (str(opened.trouble),))
    if quick:
        not_read = "contents were not read (--quick), and the run lists no ids of them"
        return InputCheck(HELD_OUT, "unknown", (not_read,))
    if training is None or test is None or recorded.fingerprint is None:
        nothing = "the run did not record what their fingerprint is compared by"
        return InputCheck(HELD_OUT, "unknown", (nothing,))
    keys = _content_keys(images, range(len(images)), progress, HELD_OUT)
    skipped = {letters(skip.id) for of, skip in valuation.skipped if of == "holdout"}
    for ids in _spellings(images.ids):
        fresh = fresh_rows(keys, ids, training)
        sample = [row for row in fresh if letters(ids[row]) not in skipped][: null_size(test.level)]
        n, where = len(sample), _where(images, source or recorded.source)
        fingerprint = set_fingerprint([ids[row] for row in sample], [keys[row] for row in sample])
        if fingerprint == recorded.fingerprint:
            right = f"{where} gives the same {n} images to compare with"
            return InputCheck(HELD_OUT, "ok", (right,), n)
    same_content = len(keys) - len(fresh)
    alike = (test.holdout_in_training or same_content) - same_content
    if alike > 0:
        why = (
            f"{alike} of them have the vector of a training image or were training images, and "
            "only valuing again tells which were left out"
        )
        return InputCheck(HELD_OUT, "unknown", (why,), n)
    wrong = f"{where} gives other images to compare with than the run had; it does not list which"
    return InputCheck(HELD_OUT, "failed", (wrong,), n)


def _spellings(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """The ids as they are; composed, as runs record them; decomposed, as earlier runs may."""
    yield ids
    if not all(name.isascii() for name in ids):
        for form in ("NFC", "NFD"):
            yield [unicodedata.normalize(form, name) for name in ids]


def _where(images: ImageSet, source: ImageSource | None) -> str:
    """Which set was compared: the sets at a and b, where a run was extended."""
    if images.location is not None:
        return f"the set at {images.location}"
    if isinstance(source, list) and all(isinstance(part, list | tuple) for part in source):
        places = dict.fromkeys(str(place) for _, place in source)
        return f"the set{'s' * (len(places) > 1)} at {' and '.join(places)}"
    return "the set given"


def _content_keys(
    images: ImageSet, rows: Sequence[int], progress: Progress, name: str
) -> dict[int, str]:
    """Content key by row; images that cannot be read are missing."""
    keys: dict[int, str] = {}
    with progress.stage(f"read {name}", len(rows)) as advance:
        # `known` skips the decoding: only the content is hashed
        for batch in images.batches(_SMALL, rows=rows, known=lambda key: True):
            keys.update(zip(batch.rows.tolist(), batch.keys, strict=True))
            advance(len(batch.rows) + len(batch.skipped))
    return keys


def _counted(ids: Sequence[str], what: str) -> list[str]:
    """A sentence on images, or none where there are no images."""
    rest = len(ids) - LISTED_IDS
    listed = ", ".join(ids[:LISTED_IDS]) + (f" and {rest} more" if rest > 0 else "")
    return [f"{len(ids)} {what}: {listed}"] if ids else []
