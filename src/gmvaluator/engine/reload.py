"""Reload: the settings and images of a saved index or run, and whether they still fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gmvaluator.encoders import is_name
from gmvaluator.engine.trained import Trained, distinct_images
from gmvaluator.errors import InputError, MovedError, RunError, either
from gmvaluator.images import ImageSet, ImageSource
from gmvaluator.images.ids import find_distinct
from gmvaluator.runs.images import open_recorded, pass_images, warn_of_added
from gmvaluator.runs.record import RunRecord
from gmvaluator.settings import LATER_SETTINGS, SETTING_NAMES, Settings, null_choice


def recorded_holdout(record: RunRecord, source: ImageSource | None, owner: str) -> ImageSet | None:
    """The held-out images of a run's null sample, as `GMValuator.value` takes them.

    Args:
        record: of the run.
        source: the held-out images, where they are no longer where the run had them; None: there.
        owner: the run, for messages.

    Returns:
        None where the run's null sample was not held out.

    Raises:
        InputError: they were in memory, or cannot be opened.
    """
    recorded = record.inputs.holdout
    if source is not None:
        return ImageSet.open(source)
    if recorded is None:
        return None
    if recorded.source is None:
        raise InputError(
            f"{owner} had its holdout in memory; pass these images "
            f"({either('holdout=…', '--holdout')})"
        )
    return open_recorded(recorded.source, "holdout", owner)


def recorded_settings(settings: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """The settings that a run or an index records, with those that earlier versions did not record.

    Args:
        settings: of `run.json` or `index.json`.
        owner: the run or index, for messages.

    Raises:
        RunError: a setting is missing or damaged.
    """
    try:
        known = {**LATER_SETTINGS, **settings}
        known = {name: known[name] for name in SETTING_NAMES}
        known["null"] = null_choice(known["null"])
        known["rerank"] = dict(known["rerank"])
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"the settings of {owner} are damaged ({error!r}); make it again") from error
    return known


def named_settings(
    settings: Mapping[str, Any], changes: Mapping[str, Any], owner: str
) -> dict[str, Any]:
    """The saved settings with `changes` applied, as arguments of `GMValuator`.

    Args:
        settings, owner: as for `recorded_settings`.
        changes: settings to replace. Another weighting has its own default temperature, unless
            `changes` has one.

    Raises:
        InputError: an encoder or quality was a Python object, which a name cannot bring back.
    """
    saved = recorded_settings(settings, owner)
    unchanged = {name: setting for name, setting in saved.items() if name not in changes}
    if changes.get("weighting", saved["weighting"]) != saved["weighting"]:
        unchanged.pop("temperature", None)
    second = unchanged.get("second_encoder") or "none"
    names = [unchanged.get("encoder", "none"), second, *unchanged.get("rerank", {})]
    objects = [name for name in names if not is_name(name)]
    if objects:
        raise InputError(
            f"{owner} was made with {objects[0]!r}, an encoder given in Python; pass it again "
            + either(
                "(encoder=…, second_encoder=…, rerank=…)", "(--encoder, --second-encoder, --rerank)"
            )
        )
    if unchanged.get("quality") == "given":
        raise InputError(
            f"{owner} was made with quality given in Python; pass it again "
            + either("(quality=…), or 'none'", "(--quality FILE), or --quality none")
        )
    return unchanged | dict(changes)


def check_fitting(marker: Mapping[str, Any], settings: Settings, folder: Path) -> None:
    """Refuse an index that was fitted with other settings than a valuator would fit with.

    `Settings.fitting` lists the settings that fitting reads.

    Args:
        marker: content of `index.json`.
        settings: of the valuator.
        folder: of the index.

    Raises:
        RunError: naming the setting that differs.
    """
    recorded = recorded_settings(marker.get("settings", {}), f"index {folder}")
    made = Settings(**recorded | {"rerank": tuple(recorded["rerank"].items())}).fitting()
    for name, choice in settings.fitting().items():
        if made.get(name, choice) != choice:
            raise RunError(
                f"index {folder} was made with {name} {_shown(made[name])}, not {_shown(choice)}; "
                "make an index with these settings"
            )
    if settings.quality == "realism" != recorded["quality"]:
        raise RunError(
            f"index {folder} was made with another quality and holds no reference for 'realism'; "
            "make an index with quality 'realism' or pass another quality"
        )


def _shown(choice: object) -> str:
    return " and ".join(map(str, choice)) or "none" if isinstance(choice, list) else repr(choice)


def reopened(location: ImageSource, trained: Trained, folder: Path) -> Trained:
    """What an index holds, with its training images at hand: those of its ids.

    Raises:
        RunError: the images cannot be opened, or some are no longer there.
    """
    try:
        images = open_recorded(location, "train", f"index {folder}")
    except MovedError as error:
        raise RunError(str(error)) from error
    train = trained.train
    rows = find_distinct(train.ids, images.ids)
    missing = np.flatnonzero(rows < 0)
    if len(missing):
        raise RunError(
            f"{images.location or 'the training set'} no longer lists {len(missing)} of the "
            f"{len(rows)} images that index {folder} was made from, such as "
            f"{train.ids[missing[0]]!r}; restore them, {pass_images('train')}, or make the index "
            "again"
        )
    known = (*train.ids, *(skip.id for skip in train.skipped))
    warn_of_added("train", images, known, f"index {folder}")
    found = replace(train, rows=rows)
    distinct = distinct_images(found, trained.clusters)
    return replace(
        trained, train=found, placed=replace(trained.placed, images=images, rows=distinct.rows)
    )
