"""Runs, an index and a ledger of before the package was rebuilt can be used as then.

They are recorded in `recorded`, and their images are no longer where they were. `older` is a run as
the first versions wrote it: without hashes, without a seal, without the settings that came later.
"""

from __future__ import annotations

import json
import shutil
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from frozen.frozen_commands import COMMANDS, IMAGES, INDEX, RUNS, play
from frozen.frozen_shapes import ADDED_COLUMNS, RETYPED, with_shared_ranks
from frozen.frozen_values import RECORDED
from frozen.written_folders import opened
from gmvaluator import GMValuator, Valuation

GONE = {"value by the index": (".seconds.embed train", ".seconds.find copies", ".seconds.fit")}
"""Keys of run.json by command: seconds of a run by an index are those of its own process."""
RTOL = 1e-4
"""Of distances, scores and values that are computed again, maybe by another processor."""
CHANGED: frozenset[str] = frozenset()
"""Commands whose outcome is otherwise on purpose; their exit code is still compared."""
RETOLD = {
    **{
        f"value by the {fitted}": ("least_valuable",)
        for fitted in ("index", "unattributed", "older")
    },
    "curate": ("listed", "lowest_value", "images"),
}
"""What commands print otherwise on purpose, by command.

Images that contributed to nothing are equal: none of them is the least valuable, and all
of them are listed or none.
"""
ADDED_TO_CSV = {
    "curate": dict.fromkeys(("labels.csv", "metadata.csv"), ",nearest_generated"),
}
"""Columns of CSV files that were added at their end on purpose, by command and file."""
LISTED = ("match the index", "match the run")
"""Commands that print a list now, of one shape for one picture and for several."""


@cache
def recorded(file: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((RECORDED / file).read_text(encoding="utf-8"))
    return content


def runs() -> list[str]:
    return sorted(recorded("opened.json"))


def assert_alike(now: Any, then: Any, path: str = "told") -> None:
    """What was recorded is there, numbers nearly, the rest to the letter; more may be there."""
    if isinstance(then, dict):
        assert isinstance(now, dict), path
        assert set(then) <= set(now), path
        for key in then:
            # a run that is extended keeps what it recorded
            renamed = key in RETYPED and now[key] == RETYPED[key]
            assert_alike(now[key], now[key] if renamed else then[key], f"{path}.{key}")
    elif isinstance(then, list):
        assert isinstance(now, list), path
        assert len(now) == len(then), path
        for number, (one, other) in enumerate(zip(now, then, strict=True)):
            assert_alike(one, other, f"{path}[{number}]")
    elif isinstance(then, float):
        assert now == pytest.approx(then, rel=RTOL, abs=1e-6), path
    else:
        assert now == then, path


def test_all_runs_are_recorded() -> None:
    assert [run.name for run in sorted(RUNS.iterdir())] == runs()
    assert set(recorded("outcomes.json")) == set(COMMANDS)


@pytest.mark.parametrize("run", runs())
def test_an_earlier_run_opens_with_its_values(run: str) -> None:
    then, now = recorded("opened.json")[run], opened(RUNS / run)
    # sums may be taken in another order; everything else is read
    assert np.allclose(now.pop("values"), then["values"], rtol=1e-12, atol=0)
    then = then | {"ranks": with_shared_ranks(then["ranks"], then["values"]).tolist()}
    assert now == {name: each for name, each in then.items() if name != "values"}


@pytest.mark.parametrize("run", runs())
def test_an_earlier_run_is_saved_as_it_was(run: str, tmp_path: Path) -> None:
    Valuation.load(RUNS / run).save(tmp_path / "run")
    tables = sorted(file.name for file in (RUNS / run).glob("*.parquet"))
    assert len(tables) >= 4
    assert sorted(file.name for file in (tmp_path / "run").glob("*.parquet")) == tables
    for name in tables:
        now, then = pq.read_table(tmp_path / "run" / name), pq.read_table(RUNS / run / name)
        for column in ADDED_COLUMNS.get(f"run/{name}", ()):
            assert now[column].null_count == len(now), "an earlier run did not record it"
            now = now.drop_columns([column])
        if name == "values.parquet":
            place = then.column_names.index("rank")
            shared = with_shared_ranks(then["rank"].to_numpy(), then["value"].to_numpy())
            then = then.set_column(place, "rank", [shared])
        assert now.equals(then), name


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_does_as_it_did(name: str, tmp_path: Path) -> None:
    then, now = deepcopy(recorded("outcomes.json")[name]), play(name, tmp_path)
    assert now["code"] == then["code"]
    for key in GONE.get(name, ()):
        del then["written"]["out"]["run.json"][key]
    for key in RETOLD.get(name, ()):
        del then["told"][key]
    for file, columns in ADDED_TO_CSV.get(name, {}).items():
        then["written"]["out"][file] += columns
    if name in LISTED:
        now["told"] = {match["generated_id"]: match["contributors"] for match in now["told"]}
    if name not in CHANGED:
        assert now["error"] == then["error"]
        assert_alike(now["told"], then["told"])
        assert_alike(now["written"], then["written"], "written")
        assert_alike(now["values"], then["values"], "values")


def test_an_earlier_index_values_as_its_run(tmp_path: Path) -> None:
    index = shutil.copytree(INDEX, tmp_path / "index")
    valuator = GMValuator.load(index, train=IMAGES / "train", cache=False)
    valuation = valuator.value(IMAGES / "generated")
    then = recorded("opened.json")["plain"]
    assert [valuation.contributors(j).ids for j in range(len(valuation.generated_ids))] == [
        tuple(each) for each in then["contributors"]
    ]
    assert np.allclose(valuation.values, then["values"], rtol=RTOL, atol=1e-6)


@pytest.mark.parametrize("run", ["older", "robust", "unattributed"])
def test_an_earlier_run_is_fitted_again(run: str) -> None:
    valuator = GMValuator.refit(RUNS / run, train=IMAGES / "train", cache=False)
    valuation = valuator.value(IMAGES / "generated")
    then = recorded("opened.json")[run]
    assert np.allclose(valuation.values, then["values"], rtol=RTOL, atol=1e-6)
    assert np.allclose(valuation.unattributed, then["unattributed"], rtol=RTOL, atol=1e-6)


def test_pictures_of_an_earlier_run_are_found_where_they_are_now() -> None:
    side = Valuation.load(RUNS / "plain").open_images("train", IMAGES / "train")
    assert not side.trouble
