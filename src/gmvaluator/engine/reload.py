"""Taking up a saved index or run again: its settings, its images, and whether they still fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gmvaluator.encoders import is_name
from gmvaluator.encoders.base import Encoder
from gmvaluator.engine.trained import Fitted, TrainingSet
from gmvaluator.errors import InputError, RunError
from gmvaluator.images import ImageSet
from gmvaluator.runs.tables import MARKER, read_marker
from gmvaluator.settings import LATER_SETTINGS, SETTING_NAMES, Settings, null_choice


@dataclass(frozen=True)
class SavedRun:
    """What fitting again as a run did needs: settings, training images, their fingerprint."""

    settings: dict[str, Any]
    source: str | None
    fingerprint: str


def read_run(run: Path) -> SavedRun:
    """The parts of `run.json` that fitting again needs.

    Raises:
        RunError: no run there, or its `run.json` lacks them.
    """
    info = read_marker(run, MARKER, "run")
    try:
        train = info["inputs"]["train"]
        recorded = info["settings"]
        known = {**LATER_SETTINGS, **recorded}
        settings = {name: known[name] for name in SETTING_NAMES}
        return SavedRun(settings, train["source"], train["fingerprint"])
    except (KeyError, TypeError) as error:
        raise RunError(f"{MARKER} of run {run} lacks {error}; make the run again") from error


def recorded_holdout(info: Mapping[str, Any], given: object, owner: str) -> object:
    """The held-out images that a run's null sample is of, as `GMValuator.value` takes them.

    Args:
        info: of the run, as in `run.json`.
        given: a source that is to be used instead; None: where the run had them.
        owner: the run, for messages.

    Returns:
        None where the run's null sample was not held out.

    Raises:
        InputError: they were in memory, or cannot be opened.
    """
    recorded = info.get("inputs", {}).get("holdout")
    if given is not None:
        return ImageSet.open(given)
    if recorded is None:
        return None
    if recorded.get("source") is None:
        raise InputError(
            f"{owner} had its holdout in memory; pass these images (holdout=…, --holdout)"
        )
    try:
        return ImageSet.open(recorded["source"])
    except InputError as error:
        raise InputError(
            f"the holdout of {owner} cannot be opened where it was ({error}); pass the images "
            "(holdout=…, --holdout)"
        ) from error


def named_settings(saved: dict[str, Any], changes: dict[str, Any], owner: str) -> dict[str, Any]:
    """Saved settings with changes, once nothing is left that a name does not suffice for.

    Raises:
        InputError: an encoder or quality was an object of the process that saved them.
    """
    known = {**LATER_SETTINGS, **saved}
    known["null"] = null_choice(known["null"])
    kept = {name: value for name, value in known.items() if name not in changes}
    second = kept.get("second_encoder") or "none"
    named = [kept.get("encoder", "none"), second, *kept.get("rerank", {})]
    objects = [name for name in named if not is_name(name)]
    if objects:
        raise InputError(
            f"{owner} was made with {objects[0]!r}, an encoder given in Python; pass it again "
            "(encoder=…, second_encoder=…, rerank=…)"
        )
    if kept.get("quality") == "given":
        raise InputError(
            f"{owner} was made with quality given in Python; pass quality=… again, or 'none'"
        )
    return kept | changes


def check_index(
    fitted: Fitted,
    settings: Settings,
    encoders: Sequence[Encoder],
    rerankers: Sequence[Encoder],
    folder: Path,
) -> None:
    """Refuse an index that other settings or weights made.

    Args:
        fitted: the index's learned state.
        settings: of the valuator that takes it up.
        encoders: of its recall.
        rerankers: of its re-rank.
        folder: of the index.

    Raises:
        RunError: saying what differs.
    """
    if fitted.dedup != settings.dedup:
        raise RunError(
            f"index {folder} was made with dedup {fitted.dedup!r}, not {settings.dedup!r}; make an "
            "index with these settings"
        )
    wanted = [name for name, _ in settings.rerank]
    known = [term.name for term in fitted.terms]
    if known != wanted:
        raise RunError(
            f"index {folder} was made for re-rank {known}, not {wanted}; make an index with "
            "these settings"
        )
    if (fitted.second is None) != (settings.second_encoder is None):
        raise RunError(
            f"index {folder} was made with another second encoder than "
            f"{settings.second_encoder}; make an index with these settings"
        )
    for encoder in (*encoders, *rerankers):
        if fitted.encoders.get(encoder.name) != encoder.fingerprint:
            raise RunError(
                f"index {folder} was made with another {encoder.name} (weights or input size "
                "differ); make the index again"
            )
    # one of the re-rank may be known too, but the vectors are those of the first
    recalls = list(fitted.encoders)[: len(encoders)]
    if recalls != [encoder.name for encoder in encoders]:
        raise RunError(
            f"index {folder} was made for recall by {' and '.join(recalls)}; make an index with "
            "these settings"
        )
    if settings.quality == "realism" and fitted.realism is None:
        raise RunError(
            f"index {folder} was made with another quality and holds no reference for 'realism'; "
            "make an index with quality 'realism' or pass another quality"
        )


def reopen(location: object, train: TrainingSet, folder: Path) -> ImageSet:
    """The training images of an index, checked to be listed as they were.

    Raises:
        RunError: they cannot be opened, or are others now.
    """
    try:
        images = ImageSet.open(location)
    except InputError as error:
        raise RunError(
            f"the training images of index {folder} cannot be opened ({error}); pass where they "
            "are now (train=…, --train-images)"
        ) from error
    rows = train.rows
    if len(rows) and (
        rows.max() >= len(images)
        or any(images.ids[row] != name for row, name in zip(rows, train.ids, strict=True))
    ):
        raise RunError(
            f"{images.location or 'the training set'} no longer lists the images index {folder} "
            "was made from; make the index again"
        )
    return images
