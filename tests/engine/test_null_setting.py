"""The setting `null`: its names, its default, and the flags that earlier runs recorded."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gmvaluator import GMValuator, InputError, Valuation
from gmvaluator.certainty.stability import encoder_variant, stability_run
from gmvaluator.extension import extend_run
from gmvaluator.runs.record import RecordedSettings
from gmvaluator.runs.verify.verification import verify_run
from gmvaluator.settings import LATER_SETTINGS, NULL_CHOICES, null_choice
from image_makers import encode, write_files

QUICK: dict[str, Any] = {
    "encoder": "pixels@8",
    "rerank": "none",
    "quality": "none",
    "null_measure": "neighbours",
    "k": 5,
}
FLAGS = {"report": False, "withhold": True, "off": None}
Digits = tuple[NDArray[np.uint8], NDArray[np.int64]]


@pytest.fixture
def folder(tmp_path: Path, digits: Digits) -> Path:
    """40 training digits, and generated ones in two folders."""
    pngs = [encode(image) for image in digits[0][:52]]
    write_files(tmp_path / "train", {f"{i:02d}.png": png for i, png in enumerate(pngs[:40])})
    write_files(tmp_path / "one", {f"a{j}.png": png for j, png in enumerate(pngs[40:47])})
    write_files(tmp_path / "two", {f"b{j}.png": png for j, png in enumerate(pngs[47:])})
    return tmp_path


def fitted(folder: Path, null: str) -> GMValuator:
    settings = {**QUICK, "candidates": 10, "cache": False, "null": null, "null_level": 0.2}
    return GMValuator(**settings).fit(folder / "train")


def test_one_default_everywhere() -> None:
    default = inspect.signature(GMValuator).parameters["null"].default
    assert default == LATER_SETTINGS["null"] == "report" == GMValuator().settings.null


@pytest.mark.parametrize("null", NULL_CHOICES)
def test_a_flag_of_an_earlier_run_has_a_name(null: str) -> None:
    assert null_choice(FLAGS[null]) == null_choice(null) == null


@pytest.mark.parametrize("null", [True, False, None, "yes"])
def test_other_values_are_refused(null: Any) -> None:
    with pytest.raises(InputError, match=rf"unknown null {null!r}; choose one of report, withhold"):
        GMValuator(null=null)


@pytest.mark.parametrize("null", NULL_CHOICES)
def test_an_index_that_recorded_a_flag_opens(folder: Path, null: str) -> None:
    fitted(folder, null).save(folder / "index")
    marker = folder / "index" / "index.json"
    content = json.loads(marker.read_text())
    assert content["settings"]["null"] == null
    content["settings"]["null"] = FLAGS[null]
    marker.write_text(json.dumps(content))
    assert GMValuator.load(folder / "index", cache=False).settings.null == null


@pytest.mark.parametrize("null", NULL_CHOICES)
def test_a_run_that_recorded_a_flag_is_taken_up_as_before(folder: Path, null: str) -> None:
    valuation = fitted(folder, null).value(folder / "one")
    assert valuation.info["settings"]["null"] == null
    settings = RecordedSettings(dict(valuation.record.settings) | {"null": FLAGS[null]})
    earlier_record = replace(valuation.record, settings=settings)
    replace(valuation, record=earlier_record).save(folder / "earlier")
    valuation.save(folder / "now")
    for name in ("earlier", "now"):
        assert verify_run(folder / name).intact
        assert GMValuator.refit(folder / name, cache=False).settings.null == null
    variant = encoder_variant("pixels@4", requested=True)
    earlier, now = (
        stability_run(folder / name, [variant], cache=False).comparisons[0]
        for name in ("earlier", "now")
    )
    assert earlier == now
    for name in ("earlier", "now"):
        extend_run(folder / name, folder / "two", cache=False)
        assert verify_run(folder / name).intact
    earlier_run, run = (Valuation.load(folder / name) for name in ("earlier", "now"))
    np.testing.assert_array_equal(earlier_run.values, run.values)
    np.testing.assert_array_equal(earlier_run.unattributed, run.unattributed)
    assert (run.unattributed.sum() > 0) == (null == "withhold")
