"""How a run was computed, for a reader: run.json in groups with plain names, and as it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gmvaluator.report.html import percent
from gmvaluator.runs.folder import Run
from gmvaluator.runs.formatting import format_number
from gmvaluator.runs.record import Input, RunRecord

Pairs = tuple[tuple[str, str], ...]

YES_NO = {True: "yes", False: "no"}
COPIES = {
    "none": "every image counts",
    "exact": "exact copies count once",
    "near": "exact and near copies count once",
}
MIXINGS = {
    "fixed": "by fixed weights",
    "decisive": "one that matches an image decisively counts more",
}
WEIGHTINGS = {
    "expected-rank": "by how many training images one expects to be nearer (expected-rank)",
    "softmax": "by distance (softmax)",
}
MEASURES = {
    "neighbours": "an image far from its neighbours",
    "domain": "an image beyond the domain of the training images",
}
TESTS = {"report": "kept", "withhold": "withheld", "off": "not tested"}


@dataclass(frozen=True)
class Plain:
    """A setting's group and plain name, and how its value reads. None values are left out."""

    group: str
    name: str
    text: Callable[[Any], str] = str


def _distances(rerank: Mapping[str, float]) -> str:
    if len(rerank) < 2:
        return next(iter(rerank), "none: distance of the encoder")
    return " + ".join(f"{weight:g}\u00a0×\u00a0{name}" for name, weight in rerank.items())


def _number(value: Any) -> str:
    return format_number(value) if isinstance(value, int | float) else str(value)


MATCHING, SHARING, UNATTRIBUTED, OTHER = (
    "How images were matched",
    "How credit was shared",
    "Test for images without a close match",
    "Other settings",
)
SETTINGS: Mapping[str, Plain] = {
    "encoder": Plain(MATCHING, "Images compared by"),
    "second_encoder": Plain(MATCHING, "and by"),
    "mirror": Plain(MATCHING, "Mirror images compared too", lambda flag: YES_NO.get(flag, flag)),
    "index_used": Plain(MATCHING, "Search"),
    "candidates": Plain(MATCHING, "Candidates for each generated image", _number),
    "rerank": Plain(MATCHING, "Distance", _distances),
    "mixing": Plain(MATCHING, "Distances joined", lambda name: MIXINGS.get(name, name)),
    "dedup": Plain(MATCHING, "Copies", lambda name: COPIES.get(name, name)),
    "k": Plain(SHARING, "Contributors of each generated image", _number),
    "quality": Plain(SHARING, "Quality measured by"),
    "weighting": Plain(SHARING, "Weighting", lambda name: WEIGHTINGS.get(name, name)),
    "temperature_used": Plain(SHARING, "Temperature τ", _number),
    "dimension_used": Plain(SHARING, "Intrinsic dimension of the training images", _number),
    "null": Plain(UNATTRIBUTED, "Scores of such images", lambda name: TESTS.get(name, name)),
    "null_measure": Plain(UNATTRIBUTED, "Strange is", lambda name: MEASURES.get(name, name)),
    "null_level": Plain(UNATTRIBUTED, "Wanted rate of false alarms", lambda share: percent(share)),
}
# said by another setting, or by the run itself
_SAID = {"index": "index_used", "temperature": "temperature_used", "seed": ""}


def record_groups(run: Run) -> list[tuple[str, Pairs]]:
    """What run.json says, as headings and (name, text) pairs; an empty group is left out."""
    record = run.valuation.record
    groups: dict[str, list[tuple[str, str]]] = {
        "What was compared": _sets(run),
        MATCHING: [],
        SHARING: [],
        UNATTRIBUTED: [],
        "The run": _made(run),
        OTHER: [],
    }
    settings = dict(record.settings)
    if record.settings.dimension_used is not None:
        # τ is of ranks: τ/D, which was used, is of logarithms of distances
        settings["temperature_used"] = record.settings.temperature
    for name, value in settings.items():
        if _SAID.get(name) in settings or (name == "seed" and record.seed is not None):
            continue
        if value is not None and name not in SETTINGS:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            groups[OTHER].append((name, text))
    for name, plain in SETTINGS.items():
        if (value := settings.get(name)) is not None:
            groups[plain.group].append((plain.name, plain.text(value)))
    groups[UNATTRIBUTED] += _tested(record)
    return [(heading, tuple(pairs)) for heading, pairs in groups.items() if pairs]


def raw_record(run: Run) -> str:
    """The content of run.json, indented, without the hashes of the folder's other files."""
    seal = {} if run.seal is None else {"seal": run.seal}
    return json.dumps(run.valuation.record.as_json() | seal, indent=2, ensure_ascii=False)


def _sets(run: Run) -> list[tuple[str, str]]:
    record = run.valuation.record
    pairs = [
        ("Training images", f"{record.n_train:,}"),
        ("from", _source(record.inputs.train)),
        ("Generated images", f"{record.n_generated:,}"),
        ("from", _source(record.inputs.generated)),
    ]
    if record.inputs.holdout is not None:
        pairs.append(("Held-out images from", _source(record.inputs.holdout)))
    pairs.append(("Images skipped", f"{len(run.valuation.skipped):,}"))
    return pairs


def _source(recorded: Input) -> str:
    source = recorded.source
    if source is None:
        return "memory, or not recorded"
    if isinstance(source, str):
        return source
    return ", ".join(place for _, place in source)


def _tested(record: RunRecord) -> list[tuple[str, str]]:
    test = record.unattributed
    if test is None:
        return []
    pairs = [
        ("Compared with", f"{test.n_null:,} images ({test.null})"),
        ("Rate of false alarms reached", percent(test.error_rate)),
        ("No close match for", f"{test.images:,} of {record.n_generated:,}"),
        ("Their part of all quality", percent(test.share)),
    ]
    if test.reason is not None:
        pairs.append(("Why no image can be marked", test.reason))
    return pairs


def _made(run: Run) -> list[tuple[str, str]]:
    record = run.valuation.record
    pairs = [("Folder", run.folder.name)]
    if record.versions and "gmvaluator" in record.versions:
        pairs.append(("Made by", f"gmvaluator {record.versions['gmvaluator']}"))
    if record.device is not None:
        pairs.append(("Device", record.device))
    if record.seed is not None:
        pairs.append(("Seed of random choices", str(record.seed)))
    if record.seconds:
        slowest = sorted(record.seconds.items(), key=lambda item: -item[1])[:2]
        named = ", ".join(f"{name} {seconds:,.1f} s" for name, seconds in slowest)
        total = f"{sum(record.seconds.values()):,.1f}"
        pairs.append(("Time", f"{total} s (most: {named})"))
    pairs.append(("Seal", run.seal or "none"))
    return pairs
