"""The record of a run: read, written and read again, of today, of earlier versions, and damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gmvaluator import GMValuator, RunError, Valuation
from gmvaluator.cli import cli
from gmvaluator.extension import extend_run
from gmvaluator.files.seals import seal_of
from gmvaluator.places import RUN_FOLDER
from gmvaluator.runs.folder import open_run
from gmvaluator.runs.record import (
    MARKER,
    Input,
    RecordedSettings,
    RunRecord,
    read_marker,
    read_record,
)
from gmvaluator.runs.verify import verify_run
from image_makers import image_folder

WRONG: tuple[Any, ...] = (None, [], {}, "x", 3, 2.5, True)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with every entry: it has held-out images, and it was extended."""
    home = tmp_path_factory.mktemp("home")
    for seed, name in enumerate(("train", "one", "two", "others")):
        image_folder(home / name, 8 if name == "train" else 4, seed=seed, classes=0)
    settings: dict[str, Any] = {"encoder": "pixels@8", "rerank": "pixels@4", "quality": "none"}
    valuator = GMValuator(**settings, k=2, candidates=4, cache=False, null_level=0.2)
    valuator.fit(home / "train").value(home / "one", holdout=home / "others").save(home / "run")
    extend_run(home / "run", home / "two", prefix="two/", cache=False)
    return home / "run"


@pytest.fixture
def content(run: Path) -> dict[str, Any]:
    """What `run.json` of the run holds."""
    entries: dict[str, Any] = json.loads((run / MARKER).read_text(encoding="utf-8"))
    return entries


# as the first version wrote it
FIRST: dict[str, Any] = {
    "format": 1,
    "settings": {
        "encoder": "efficientnet-lite0",
        "index": "auto",
        "rerank": {"l2": 1.0},
        "quality": "realism",
        "k": 50,
        "candidates": 200,
        "weighting": "softmax",
        "temperature": 1.0,
        "seed": 0,
        "index_used": "exact",
    },
    "n_train": 300,
    "n_generated": 20,
    "versions": {"python": "3.11.7"},
    "weights": {"efficientnet-lite0": "ab"},
    "encoders": {"efficientnet-lite0": "cd"},
    "seed": 0,
    "device": "cpu",
    "seconds": {"recall": 0.25},
    "inputs": {
        "train": {"source": "/data/train", "fingerprint": "ef"},
        "generated": {"source": None, "fingerprint": "01"},
    },
}


def test_a_record_is_written_as_it_was_read_in_the_order_of_the_file(
    content: dict[str, Any],
) -> None:
    record = RunRecord.from_json(content)
    assert record.as_json() == content
    assert json.dumps(record.as_json()) == json.dumps(content)
    assert RunRecord.from_json(record.as_json()) == record
    assert set(content) == {
        *("format", "settings", "n_train", "n_generated", "versions", "weights", "encoders"),
        *("seed", "device", "images", "seconds", "inputs", "unattributed", "extensions"),
        *("earlier_seals", "files", "seal"),
    }
    assert record.extras == {}


def test_entries_have_types(run: Path, content: dict[str, Any]) -> None:
    record = read_record(run)
    assert (record.n_train, record.n_generated) == (8, 8)
    assert record.inputs.train == Input(**content["inputs"]["train"])
    assert record.inputs.generated.source == [
        ["", str(run.parent / "one")],
        ["two/", str(run.parent / "two")],
    ]
    assert record.inputs.holdout == Input(**content["inputs"]["holdout"])
    assert record.unattributed is not None
    assert (record.unattributed.level, record.unattributed.null) == (0.2, "holdout")
    assert record.seals == (*content["earlier_seals"], content["seal"])
    assert (record.unsealed().files, record.unsealed().seals) == (None, record.earlier_seals)
    settings = record.settings
    assert (settings.k, settings.candidates, settings.rerank) == (2, 4, {"pixels@4": 1.0})
    assert (settings.weighting, settings.temperature) == ("expected-rank", 0.7)
    assert settings.dimension_used is not None
    assert settings.dimension_used == content["settings"]["dimension_used"] > 0
    assert settings.temperature_used == pytest.approx(0.7 / settings.dimension_used)
    assert settings.signed is None


def test_the_first_version_is_read_and_written_without_later_entries() -> None:
    record = RunRecord.from_json(FIRST)
    assert record.as_json() == FIRST
    settings = record.settings
    # the attributes are what those versions did, and the mapping is what they recorded
    assert (settings.mirror, settings.dedup, settings.second_encoder) == (False, "none", None)
    assert settings.temperature_used == 1.0
    assert "dedup" not in settings
    assert (record.unattributed, record.images, record.seals) == (None, None, ())


def test_entries_of_other_valuers_are_kept() -> None:
    entries = FIRST | {"agreement": {"removals": 4}, "settings": {"valuer": "if4gan", "t": [1]}}
    record = RunRecord.from_json(entries)
    assert record.extras == {"agreement": {"removals": 4}}
    assert record.as_json() == entries
    assert dict(record.settings) == {"valuer": "if4gan", "t": [1]}
    assert record.settings.k is None
    assert record.settings == RecordedSettings({"valuer": "if4gan", "t": [1]})


def test_a_valuation_has_the_record_without_the_seal_of_its_folder(
    run: Path, content: dict[str, Any]
) -> None:
    valuation = Valuation.load(run)
    assert valuation.record == read_record(run).unsealed()
    del content["files"], content["seal"]
    assert valuation.info == content
    # the plain dictionary is a copy
    valuation.info["settings"]["rerank"]["pixels@4"] = 2.0
    assert valuation.record.settings.rerank == {"pixels@4": 1.0}


def test_a_later_format_is_refused() -> None:
    with pytest.raises(RunError, match=r"run\.json has format 2 and this version reads 1"):
        RunRecord.from_json(FIRST | {"format": 2})


def places(entries: dict[str, Any], before: str = "") -> Iterator[str]:
    """Keys of the entries of objects within objects, as `inputs.train.source`."""
    for name, entry in entries.items():
        yield before + name
        if isinstance(entry, dict):
            yield from places(entry, f"{before}{name}.")


def at(entries: dict[str, Any], key: str) -> tuple[dict[str, Any], str]:
    """The object that has a key, and the last part of the key."""
    *way, last = (
        key.split(".") if not key.startswith(("versions.", "files.")) else key.split(".", 1)
    )
    for name in way:
        entries = entries[name]
    return entries, last


def fits(key: str, entry: Any, wrong: Any) -> bool:
    """Whether an entry may have the type of `wrong`."""
    kinds: set[type] = {type(entry)}
    if float in kinds:
        kinds.add(int)
    last = key.rpartition(".")[2]
    if last in ("source", "fingerprint", "second_encoder", "k", "candidates", "threshold"):
        kinds.add(type(None))
    if key == "settings.null":
        # earlier versions recorded flags; none of the wrong texts is a choice
        kinds = {bool, type(None)}
    if last in ("source", "second_encoder", "fingerprint"):
        kinds.add(str)
    if last == "source":
        kinds.add(list)
    if key in ("unattributed.null", "unattributed.level"):
        # none of the wrong values is a kind of null sample, or lies between 0 and 1
        kinds = set()
    if key in ("settings.null_level", "unattributed.threshold", "settings.temperature_used"):
        kinds |= {int, float}
    return type(wrong) in kinds


def test_a_wrong_type_at_any_key_is_named(content: dict[str, Any]) -> None:
    tried = 0
    for key in places(content):
        if key == "format":
            continue
        for wrong in WRONG:
            damaged = deepcopy(content)
            owner, last = at(damaged, key)
            if fits(key, owner[last], wrong) and not (key == "unattributed" and wrong == {}):
                continue
            owner[last] = wrong
            with pytest.raises(RunError, match=r"run\.json") as caught:
                RunRecord.from_json(damaged)
            assert f"{key} in run.json is {wrong!r}, and wanted is" in str(caught.value) or (
                key == "unattributed" and "run.json has no unattributed.share" in str(caught.value)
            )
            tried += 1
    assert tried > 300


@pytest.mark.parametrize(
    ("key", "wrong", "named"),
    [
        ("settings.temperature_used", "hot", r"temperature_used in run\.json is 'hot', and wanted"),
        ("settings.temperature", -1.0, r"settings\.temperature in run\.json is -1\.0"),
        (
            "unattributed.level",
            0,
            r"unattributed\.level in run\.json is 0, and wanted is a",
        ),
        ("earlier_seals", ["a", 3], r"earlier_seals\[1\] in run\.json is 3"),
        ("extensions", ["x"], r"extensions\[0\] in run\.json is 'x'"),
        ("inputs.train.source", [["", "a"], ["b"]], r"inputs\.train\.source\[1\] in run\.json"),
        ("inputs.train.source", [["", 3]], r"inputs\.train\.source\[0\]\[1\] in run\.json is 3"),
        ("settings.encoder", ["e" * 500], r"settings\.encoder in run\.json is \['e+…"),
    ],
)
def test_a_wrong_item_is_named_by_its_place(
    content: dict[str, Any], key: str, wrong: Any, named: str
) -> None:
    owner, last = at(content, key)
    owner[last] = wrong
    with pytest.raises(RunError, match=named):
        RunRecord.from_json(content)


@pytest.mark.parametrize("key", ["settings", "n_train", "n_generated", "unattributed.level"])
def test_a_missing_entry_is_named(content: dict[str, Any], key: str) -> None:
    owner, last = at(content, key)
    del owner[last]
    with pytest.raises(RunError, match=f"run.json has no {key}; restore the run"):
        RunRecord.from_json(content)


def test_a_damaged_record_under_a_fitting_seal_ends_in_an_error_that_names_the_key(
    run: Path, content: dict[str, Any]
) -> None:
    original = (run / MARKER).read_text(encoding="utf-8")
    try:
        for key in content.keys() - {"format", "files", "seal"}:
            for wrong in WRONG:
                if type(wrong) is type(content[key]):
                    continue
                damaged = content | {key: wrong}
                damaged["seal"] = seal_of(damaged)
                (run / MARKER).write_text(json.dumps(damaged), encoding="utf-8")
                for use in (Valuation.load, open_run, read_record, GMValuator.refit):
                    with pytest.raises(RunError, match=f"run {run}: {key} in run.json is"):
                        use(run)
                with pytest.raises(RunError, match=f"{key} in run.json is"):
                    extend_run(run, run.parent / "two", prefix="more/")
                verified = verify_run(run)
                assert not verified.intact
                assert f"{key} in run.json is" in verified.laws.found[0]
    finally:
        (run / MARKER).write_text(original, encoding="utf-8")


@pytest.mark.parametrize(
    "command",
    [
        "report RUN",
        "audit RUN",
        "uncertainty RUN",
        "stability RUN",
        "payout RUN --budget 10 --currency EUR --by label",
        "extend RUN MORE",
        "curate RUN --out OUT",
        "value RUN MORE --out OUT",
        "match RUN MORE",
    ],
)
def test_every_command_names_the_damaged_key(
    run: Path, content: dict[str, Any], tmp_path: Path, command: str
) -> None:
    damaged = shutil.copytree(run, tmp_path / "run")
    content["settings"]["k"] = "many"
    content["seal"] = seal_of(content)
    (damaged / MARKER).write_text(json.dumps(content), encoding="utf-8")
    paths = {"RUN": damaged, "MORE": run.parent / "two", "OUT": tmp_path / "out"}
    words = [str(paths.get(word, word)) for word in command.split()]
    done = CliRunner().invoke(cli, words)
    assert isinstance(done.exception, RunError), done.output
    assert "settings.k in run.json is 'many', and wanted is a whole number" in str(done.exception)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000])
def test_a_file_that_is_no_json_object_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / MARKER).write_text(text)
    with pytest.raises(RunError, match=r"run\.json (cannot be read|holds no JSON object)"):
        read_marker(tmp_path, RUN_FOLDER)
