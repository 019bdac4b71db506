"""The record of a run: `run.json` goes in, a frozen `RunRecord` comes out, and back.

This module alone knows the keys of `run.json`, of this version and of all earlier ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from gmvaluator.errors import InputError, RunError
from gmvaluator.files.atomic import finish_interrupted
from gmvaluator.files.records import UNREADABLE
from gmvaluator.places import RUN_FOLDER, Kind, wrong_place
from gmvaluator.runs.derived import drop_derived
from gmvaluator.runs.schema import INPUTS, RECORD, UNATTRIBUTED
from gmvaluator.scoring.weightings import Temperature
from gmvaluator.scoring.weightings.softmax import AnyTemperature
from gmvaluator.settings import LATER_SETTINGS, NullChoice, null_choice
from gmvaluator.shown import short_repr

MARKER = RUN_FOLDER.files[0]
FORMAT = 1
LISTS = ("extensions", "earlier_seals", "reweighed")
"""Entries that are arrays in `run.json`, and tuples in the record."""

Source = str | list[list[str]]
"""Where an image set was: a location, or several as [prefix of the ids, location]."""
T = TypeVar("T")


@dataclass(frozen=True)
class Input:
    """One image set that a run was made from.

    Attributes:
        source: where the set was; None: in memory, or not recorded.
        fingerprint: hash of ids and contents (`images.set_fingerprint`); None: not recorded.
    """

    source: Source | None = None
    fingerprint: str | None = None


@dataclass(frozen=True)
class Inputs:
    """The image sets that a run was made from.

    Attributes:
        train, generated: of the valuation.
        holdout: images that the null sample was taken from; None: the run had none.
    """

    train: Input = Input()
    generated: Input = Input()
    holdout: Input | None = None


@dataclass(frozen=True)
class Unattributed:
    """The result of the test for generated images without a contributor (`scoring.conformal`).

    Attributes:
        share: part of the whole quality that the images without a contributor have, 0 to 1.
        images: number of images without a contributor.
        level: wanted error rate; an image with p ≤ level has no contributor.
        null: kind of null sample, `leave-one-out` or `holdout`.
        n_null: number of images in the null sample.
        error_rate: error rate that this null sample gives, at most `level`.
        threshold: strangeness above which p ≤ level; None: no image can have such a p.
        applied: the images without a contributor give no scores; False: they are reported only.
        holdout_in_training: held-out images that were left out because they are training images.
        reason: why no p-value can be as small as `level`; None where one can.
    """

    share: float
    images: int
    level: float
    null: str
    n_null: int
    error_rate: float
    threshold: float | None
    applied: bool
    holdout_in_training: int | None = None
    reason: str | None = None

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Self:
        """From the entry `unattributed` of `run.json`; unknown keys are dropped.

        Raises:
            RunError: a key is missing or its value has the wrong type.
        """
        UNATTRIBUTED(entry, "unattributed")
        return cls(**{key.name: entry[key.name] for key in fields(cls) if key.name in entry})

    def as_json(self) -> dict[str, Any]:
        """The entry `unattributed` of `run.json`."""
        entry = asdict(self)
        for name in ("holdout_in_training", "reason"):
            if entry[name] is None:
                del entry[name]
        return entry


class Setting(Generic[T]):
    """An attribute of `RecordedSettings` that reads the recorded setting of its own name."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, settings: Mapping[str, Any], owner: type) -> T:
        value: T = settings.get(self._name, LATER_SETTINGS.get(self._name))
        return value


class RecordedSettings(Mapping[str, Any]):
    """The settings that a run recorded: a mapping, with attributes for the well-known ones.

    The mapping holds exactly the recorded entries; baselines record other settings than
    `GMValuator`. An attribute is None where the run has no such setting. Where an earlier version
    did not know a setting, its attribute has the value that changes nothing (`LATER_SETTINGS`).
    """

    encoder = Setting[str | None]()
    second_encoder = Setting[str | None]()
    index = Setting[str | None]()
    index_used = Setting[str | None]()
    rerank = Setting[Mapping[str, float] | None]()
    quality = Setting[str | None]()
    k = Setting[int | None]()
    candidates = Setting[int | None]()
    weighting = Setting[str | None]()
    temperature = Setting[AnyTemperature | None]()
    dimension_used = Setting[float | None]()
    mirror = Setting[bool]()
    dedup = Setting[str]()
    null_level = Setting[float]()
    null_measure = Setting[str]()
    signed = Setting[bool | None]()
    """Scores are influences: they may be negative, and they hand out no quality."""
    whole_set = Setting[bool | None]()
    """The one column of scores is of all generated images together."""

    def __init__(self, entries: Mapping[str, Any]) -> None:
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> Any:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"RecordedSettings({self._entries!r})"

    @property
    def by_gmvaluator(self) -> bool:
        """Whether GMValuator made the scores: not a baseline, and not another program."""
        return "valuer" not in self

    @property
    def null(self) -> NullChoice:
        """What the test for images without a contributor did; earlier versions recorded flags."""
        return null_choice(self.get("null", LATER_SETTINGS["null"]))

    @property
    def temperature_used(self) -> Temperature | None:
        """τ of the run, a number or `auto`. The first versions recorded `temperature` alone."""
        value: Temperature | None = self.get("temperature_used", self.temperature)
        return value


@short_repr
@dataclass(frozen=True)
class RunRecord:
    """The content of `run.json`.

    An entry is None where it is not recorded: an earlier version, a baseline or a hand-made
    valuation made the run.

    Attributes:
        settings: of the valuation.
        n_train, n_generated: number of readable images.
        versions: of the packages that computed the values, by name.
        weights: SHA-256 of the weight files, by name.
        encoders: fingerprints of the encoders, by name.
        seed: of the valuation.
        device: of the encoders.
        images: by set (`train`, `generated`), `encoded` and `cached` images by encoder.
        seconds: by stage.
        inputs: where the images were, and their fingerprints.
        unattributed: result of the test for images without a contributor; None: not tested.
        extensions: one entry for each set of generated images that was appended later.
        earlier_seals: seals of the run before it was extended.
        reweighed: one entry for each time that the run was weighed again from its distances: the
            settings that it had before, and the seal of the run that was read.
        extras: further entries of baselines, such as `agreement` of IF4GAN.
        files: SHA-256 of the other files of the run's folder, by name.
        seal: hash of all entries above. `files` and `seal` are None in a `Valuation`, which may
            differ from what is in a folder.
    """

    settings: RecordedSettings
    n_train: int
    n_generated: int
    versions: Mapping[str, str] | None = None
    weights: Mapping[str, str] | None = None
    encoders: Mapping[str, str] | None = None
    seed: int | None = None
    device: str | None = None
    images: Mapping[str, Any] | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    inputs: Inputs = Inputs()
    unattributed: Unattributed | None = None
    extensions: tuple[Mapping[str, Any], ...] | None = None
    earlier_seals: tuple[str, ...] | None = None
    reweighed: tuple[Mapping[str, Any], ...] | None = None
    extras: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] | None = None
    seal: str | None = None

    @classmethod
    def from_json(cls, info: Mapping[str, Any]) -> Self:
        """From the content of a `run.json` of this version or an earlier one.

        Raises:
            RunError: a later version wrote the record, or an entry is missing or has the wrong
                type; the message names the key.
        """
        check_format(info)
        RECORD(info, "")
        entries = deepcopy(dict(info))
        entries.pop("format", None)
        attributes = {entry.name for entry in fields(cls)} - {"extras"}
        record = {name: entries.pop(name) for name in attributes if name in entries}
        record["settings"] = RecordedSettings(record["settings"])
        record["inputs"] = Inputs(
            **{
                name: Input(entry.get("source"), entry.get("fingerprint"))
                for name, entry in record.get("inputs", {}).items()
                if name in INPUTS
            }
        )
        if "unattributed" in record:
            record["unattributed"] = Unattributed.from_json(record["unattributed"])
        for name in LISTS:
            if name in record:
                record[name] = tuple(record[name])
        return cls(**record, extras=entries)

    def as_json(self) -> dict[str, Any]:
        """The content of `run.json` in plain types, in the order of the file; a new dictionary."""
        inputs = asdict(self.inputs)
        if self.inputs.holdout is None:
            del inputs["holdout"]
        entries: dict[str, Any] = {"format": FORMAT}
        for name in (entry.name for entry in fields(self)):
            value = getattr(self, name)
            if name == "extras":
                entries |= value
            elif value is not None:
                entries[name] = value
        entries["settings"] = dict(self.settings)
        entries["inputs"] = inputs
        if self.unattributed is not None:
            entries["unattributed"] = self.unattributed.as_json()
        for name in LISTS:
            if name in entries:
                entries[name] = list(entries[name])
        return deepcopy(entries)

    @property
    def seals(self) -> tuple[str, ...]:
        """All seals that the run has had, the present one last."""
        return (*(self.earlier_seals or ()), *(() if self.seal is None else (self.seal,)))

    def unsealed(self) -> Self:
        """The same record without the hashes and the seal of its folder."""
        return replace(self, files=None, seal=None)


def check_by_gmvaluator(record: RunRecord, run: str | Path) -> None:
    """Raise InputError unless GMValuator made the run, so that its settings value images anew."""
    if not record.settings.by_gmvaluator:
        raise InputError(
            f"run {run} has scores by {record.settings['valuer']!r}, whose settings value no "
            "images here; pass a run of gmvaluator value, or score the images where the run's "
            "scores were made"
        )


def read_record(folder: Path) -> RunRecord:
    """The record of a run's folder.

    Raises:
        RunError: no run is there, a later version wrote it, or `run.json` is damaged.
    """
    return parse_record(read_marker(folder, RUN_FOLDER), folder)


def parse_record(info: Mapping[str, Any], folder: Path) -> RunRecord:
    """`RunRecord.from_json` with errors that name the folder."""
    try:
        return RunRecord.from_json(info)
    except RunError as error:
        raise RunError(f"run {folder}: {error}") from error


def check_format(info: Mapping[str, Any]) -> None:
    """Raise RunError if another version's format was recorded."""
    recorded = info.get("format", FORMAT)
    if recorded != FORMAT:
        raise RunError(
            f"{MARKER} has format {recorded!r} and this version reads {FORMAT}; read the run with "
            f"the version that made it ({MARKER}, versions), or make it again"
        )


_SINCE_SEALS = ("files", "seal", "unattributed", "earlier_seals", "reweighed", "extensions")


def entries_since_seals(info: Mapping[str, Any]) -> list[str]:
    """Keys of a `run.json` that only versions write which write hashes and a seal as well.

    A run that has such a key and no seal has lost the seal.
    """
    settings = info.get("settings")
    names = settings if isinstance(settings, dict) else {}
    return [
        *(name for name in _SINCE_SEALS if name in info),
        *(f"settings.{name}" for name in ("dedup", "null") if name in names),
    ]


def read_marker(folder: Path, kind: Kind) -> dict[str, Any]:
    """The JSON object in the marker file of a result folder.

    A folder whose writer was killed while it moved finished files there is completed first.

    Args:
        folder: of the result.
        kind: of the result.

    Raises:
        RunError: the folder is missing, is no such result, or the file is damaged.
    """
    marker, name = kind.files[0], kind.word
    file = folder / marker
    if not file.is_file() and finish_interrupted(folder, marker) and marker == MARKER:
        drop_derived(folder)
    if not file.is_file():
        raise RunError(wrong_place(folder, kind))
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except UNREADABLE as error:
        raise RunError(f"{file} cannot be read ({error}); make the {name} again") from error
    if not isinstance(content, dict):
        raise RunError(f"{file} holds no JSON object; make the {name} again")
    return content
