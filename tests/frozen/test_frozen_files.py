"""Run and index folders have the files, columns, types and keys that were recorded.

Whatever is added or taken out on purpose is written down in `ADDED` and `REMOVED`.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from frozen.frozen_shapes import ADDED_COLUMNS, NULL_NAMES, RETYPED
from frozen.frozen_values import RECORDED, read_digits
from frozen.written_folders import FOLDERS, written

ADDED_SETTINGS = {"mixing": "fixed", "null_measure": "neighbours"}
"""Settings that are recorded on purpose and were not, with the value that changes nothing."""
KEPT_KEYS = (".kept_vectors", ".results", "result0.", "result1.", "realism.vectors")
"""What an index keeps for later pictures: keys of index.json, and arrays."""
ADDED_KEYS = (
    ".arithmetic",
    ".reading",
    *KEPT_KEYS,
    *(f".settings.{name}" for name in ADDED_SETTINGS),
)
"""Keys of run.json and index.json that were not recorded, on purpose, with all keys below them."""
ADDED: frozenset[str] = frozenset(
    f"{file} {column}" for file, columns in ADDED_COLUMNS.items() for column in columns
) | {"index/term0.npy", "index/term1.npy"}
"""What is there on purpose and was not recorded: "run/run.json .key", "index/file", …"""
REMOVED: frozenset[str] = frozenset()
"""What was recorded and is gone on purpose, written alike."""


@cache
def recorded() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((RECORDED / "folders.json").read_text(encoding="utf-8"))
    return content


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What runs and indexes of today consist of, by the name of their settings."""
    folder, digits = tmp_path_factory.mktemp("written"), read_digits()
    return {name: written(name, folder / name, digits) for name in FOLDERS}


def parts(kind: str, files: dict[str, Any]) -> dict[str, Any]:
    """A line for each file, column and key path of a folder, with its type."""
    found: dict[str, Any] = {}
    for file, content in files.items():
        if isinstance(content, dict):
            found[f"{kind}/{file}"] = "entries"
            found |= {f"{kind}/{file} {name}": each for name, each in content.items()}
        else:
            found[f"{kind}/{file}"] = content
    return found


@pytest.mark.parametrize("kind", ["run", "index"])
@pytest.mark.parametrize("name", FOLDERS)
def test_files_columns_and_keys_are_the_recorded_ones(
    name: str, kind: str, folders: dict[str, Any]
) -> None:
    then = parts(kind, recorded()[name][kind]["files"])
    now = parts(kind, folders[name][kind]["files"])
    assert then, "nothing was recorded"
    assert set(then) - set(now) - REMOVED == set(), "gone"
    new = {each for each in set(now) - set(then) if not each.split(" ")[-1].startswith(ADDED_KEYS)}
    assert new - ADDED == set(), "new"
    both = set(then) & set(now)
    types = {each: RETYPED.get(each.rpartition(" ")[2], then[each]) for each in both}
    assert {each: now[each] for each in both} == types


@pytest.mark.parametrize("name", FOLDERS)
def test_columns_keep_their_order(name: str, folders: dict[str, Any]) -> None:
    for kind in ("run", "index"):
        files = recorded()[name][kind]["files"]
        tables = [file for file in files if file.endswith(".parquet")]
        assert tables
        for file in tables:
            added = ADDED_COLUMNS.get(f"{kind}/{file}", {})
            now = folders[name][kind]["files"][file]
            assert list(now) == [*files[file], *added], file
            assert {column: now[column] for column in added} == added


@pytest.mark.parametrize("kind", ["run", "index"])
@pytest.mark.parametrize("name", FOLDERS)
def test_formats_and_settings_are_the_recorded_ones(
    name: str, kind: str, folders: dict[str, Any]
) -> None:
    then, now = recorded()[name][kind], folders[name][kind]
    assert now["format"] == then["format"]
    assert now["settings"].keys() == then["settings"].keys() | ADDED_SETTINGS.keys()
    for setting, each in (then["settings"] | ADDED_SETTINGS).items():
        # the temperature that was used is measured
        if setting != "temperature_used":
            named = NULL_NAMES[each] if setting == "null" else each
            assert now["settings"][setting] == named, setting
