"""Whether sets of images are those that a run was made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gmvaluator.images import ImageSet, Preprocessing, set_fingerprint
from gmvaluator.progress import Advance, Progress
from gmvaluator.runs.images import RunSide, open_recorded
from gmvaluator.runs.valuation import Valuation
from gmvaluator.scoring.conformal import null_size

State = Literal["ok", "failed", "unknown"]
Side = Literal["train", "generated"]
NAMES: dict[Side, str] = {"train": "training images", "generated": "generated images"}
HELD_OUT = "held-out images"
NAMED = 20  # ids told in full; their number is told always
_SMALL = Preprocessing(8)


@dataclass(frozen=True)
class Check:
    """One thing looked at.

    Attributes:
        name: what.
        state: `unknown`: it could not be checked.
        found: sentences: what is wrong, why it could not be checked, or what was found right.
    """

    name: str
    state: State
    found: tuple[str, ...]


@dataclass(frozen=True)
class InputCheck(Check):
    """Whether a set of images is the one that was valued.

    Attributes:
        n: images that the run lists.
        missing: ids the set no longer lists, or lists and cannot read.
        changed: ids whose content is another now.
        added: ids that the set lists and the run knows nothing of.
    """

    n: int = 0
    missing: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()


def check_inputs(
    valuation: Valuation, side: Side, given: object, quick: bool, progress: Progress
) -> InputCheck:
    """Whether the training or the generated images are those that were valued.

    Args:
        valuation: of the run.
        side: which.
        given: the set to look at; None: the one that the run recorded.
        quick: compare ids only.
        progress: hears how far it is.
    """
    name = NAMES[side]
    opened = valuation.open_images(side, given)
    n = len(opened.ids)
    if opened.images is None:
        return InputCheck(name, "unknown", (str(opened.trouble),), n)
    left_out = {skip.id for each, skip in valuation.skipped if each == side}
    known = set(opened.ids) | left_out
    added = tuple(each for each in opened.images.ids if each not in known)
    missing = tuple(
        each for each, row in zip(opened.ids, opened.rows.tolist(), strict=True) if row < 0
    )
    where = f"the set at {opened.images.location or 'hand'}"
    if quick:
        wrong = _differences(missing, (), added)
        state: State = "failed" if wrong else "unknown"
        ids_only = f"{where} lists the same {n} ids; contents were not read (--quick)"
        return InputCheck(name, state, tuple(wrong) or (ids_only,), n, missing, (), added)
    keys = _contents(opened, progress, name)
    missing += tuple(
        each
        for each, key, row in zip(opened.ids, keys, opened.rows.tolist(), strict=True)
        if row >= 0 and key is None
    )
    changed = _changed(opened, keys)
    wrong = _differences(missing, changed, added)
    if opened.keys is None and not missing:
        recorded = valuation.info.get("inputs", {}).get(side, {}).get("fingerprint")
        if recorded is None and not wrong:
            nothing = ("the run recorded neither content keys nor a fingerprint",)
            return InputCheck(name, "unknown", nothing, n)
        if recorded not in (None, set_fingerprint(opened.ids, [str(key) for key in keys])):
            wrong.append(
                "contents of some differ from those valued; this older run does not say which"
            )
    if wrong:
        wrong = _of_another_set(opened, keys, missing, added, where) + wrong
    same = (f"{where} holds the same {n} images",)
    return InputCheck(
        name, "failed" if wrong else "ok", tuple(wrong) or same, n, missing, changed, added
    )


def check_holdout(
    valuation: Valuation, given: object, quick: bool, progress: Progress
) -> InputCheck | None:
    """Whether the held-out images are those that the run's null sample was taken from.

    The run lists neither their ids nor their content keys. The sample is taken again as
    `gmvaluator.engine.null_sample` took it, and its fingerprint compared with the recorded one.
    What was left out there for its vector cannot be told without embedding: then it is not checked.

    Args:
        valuation, given, quick, progress: as for `check_inputs`.

    Returns:
        None: the run had no held-out images, and none were given.
    """
    told = valuation.info.get("inputs", {}).get("holdout")
    if told is None:
        if given is None:
            return None
        return InputCheck(HELD_OUT, "failed", ("the run was made without, and a set was given",))
    side = open_recorded((), None, None, told.get("source"), given)
    level = valuation.info.get("unattributed", {}).get("level")
    unknown = None
    if side.images is None:
        unknown = str(side.trouble)
    elif quick:
        unknown = "contents were not read (--quick), and the run lists no ids of them"
    elif None in (valuation.train_keys, told.get("fingerprint"), level):
        unknown = "the run did not record what their fingerprint is compared by"
    if unknown is not None or side.images is None or level is None:
        return InputCheck(HELD_OUT, "unknown", (str(unknown),))
    images = side.images
    with progress.stage(f"read {HELD_OUT}", len(images.ids)) as advance:
        keys = _keys_of(images, range(len(images.ids)), advance)
    training = set(valuation.train_keys or ())
    left_out = {skip.id for each, skip in valuation.skipped if each == "holdout"}
    fresh = sorted((key, images.ids[row]) for row, key in keys.items() if key not in training)
    taken = [pair for pair in fresh if pair[1] not in left_out][: null_size(level)]
    found = set_fingerprint([each for _, each in taken], [key for key, _ in taken])
    where = f"the set at {images.location or 'hand'}"
    if found == told["fingerprint"]:
        right = f"{where} gives the same {len(taken)} images to compare with"
        return InputCheck(HELD_OUT, "ok", (right,), len(taken))
    known = len(keys) - len(fresh)
    alike = valuation.info["unattributed"].get("holdout_in_training", known) - known
    if alike > 0:
        why = (
            f"{alike} of them have the vector of a training image or were training images, and "
            "only valuing again tells which were left out"
        )
        return InputCheck(HELD_OUT, "unknown", (why,), len(taken))
    wrong = f"{where} gives other images to compare with than the run had; it does not list which"
    return InputCheck(HELD_OUT, "failed", (wrong,), len(taken))


def _contents(side: RunSide, progress: Progress, name: str) -> list[str | None]:
    """Content key of each image of the run as it is now; None where it is gone or unreadable."""
    if side.images is None:
        return [None] * len(side.ids)
    rows = side.rows.tolist()
    listed = sorted(row for row in rows if row >= 0)
    with progress.stage(f"read {name}", len(listed)) as advance:
        now = _keys_of(side.images, listed, advance)
    return [now.get(row) for row in rows]


def _keys_of(
    images: ImageSet, rows: Sequence[int], advance: Advance = lambda count: None
) -> dict[int, str]:
    """Content key by row; those that cannot be read are missing."""
    keys: dict[int, str] = {}
    # every key is said to be known: content is hashed, and nothing decoded
    for batch in images.batches(_SMALL, rows=rows, known=lambda key: True):
        keys.update(zip(batch.rows.tolist(), batch.keys, strict=True))
        advance(len(batch.rows) + len(batch.skipped))
    return keys


def _changed(side: RunSide, keys: Sequence[str | None]) -> tuple[str, ...]:
    if side.keys is None:
        return ()
    return tuple(
        each
        for each, then, now in zip(side.ids, side.keys, keys, strict=True)
        if now is not None and now != then
    )


def _of_another_set(
    side: RunSide,
    keys: Sequence[str | None],
    missing: Sequence[str],
    added: Sequence[str],
    where: str,
) -> list[str]:
    """Whether the images are there under other ids, or none of them is there."""
    images, then = side.images, side.keys
    if then is None or images is None:
        return []
    gone = set(missing)
    lost = {key for each, key in zip(side.ids, then, strict=True) if each in gone}
    place_of = {each: place for place, each in enumerate(images.ids)}
    there = _keys_of(images, [place_of[each] for each in added]).values() if lost else ()
    renamed = len(lost & set(there))
    if renamed:
        return [f"{renamed} of the missing images are there under other ids"]
    if all(now != before for now, before in zip(keys, then, strict=True)):
        return [f"{where} is another set: not one image of the run is in it"]
    return []


def _differences(missing: Sequence[str], changed: Sequence[str], added: Sequence[str]) -> list[str]:
    parts = (
        ("are gone or cannot be read", missing),
        ("have other content than was valued", changed),
        ("were not there when the run was made", added),
    )
    return [f"{len(ids)} {what}: {_named(ids)}" for what, ids in parts if ids]


def _named(ids: Sequence[str]) -> str:
    rest = len(ids) - NAMED
    return ", ".join(ids[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
