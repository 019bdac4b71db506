"""Index folders: equal to fitting anew, for every setting, or refused; damage is reported."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gmvaluator import GMValuator, InputError, RunError
from gmvaluator.settings import SETTING_NAMES
from image_makers import encode, write_files

Digits = tuple[NDArray[np.uint8], NDArray[np.int64]]
BASE: dict[str, Any] = {
    "encoder": "pixels@8",
    "second_encoder": "pixels@5",
    "rerank": {"pixels@14": 1.0, "pixels@7": 2.0},
    "candidates": 40,
    "k": 8,
    "dedup": "near",
}
# by setting: another choice for each; a list holds several
CHANGES: dict[str, list[Any]] = {
    "encoder": ["pixels@10"],
    "second_encoder": ["none", "pixels@6"],
    "index": ["exact", "pq"],
    "rerank": [
        {"pixels@14": 1.0, "pixels@7": 0.1},
        {"pixels@7": 2.0, "pixels@14": 1.0},
        {"pixels@14": 1.0, "pixels@12": 2.0},
        "pixels@14",
    ],
    "quality": ["none"],
    "k": [3, 30],
    "candidates": [20, 60],
    "weighting": ["softmax", "shapley", "ridge"],
    "temperature": [0.1, "auto"],
    "mirror": [False],
    "mixing": ["fixed"],
    "dedup": ["exact", "none"],
    "null": ["off", "withhold"],
    "null_level": [0.3],
    "null_measure": ["neighbours"],
    "seed": [7],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, digits: Digits) -> Path:
    """100 training digits, two of them nearly the same, and an index of them."""
    home = tmp_path_factory.mktemp("index")
    images = digits[0][:100].copy()
    images[1] = images[0]
    images[1, 14, 14] ^= 1
    write_files(home / "train", {f"{i:03d}.png": encode(image) for i, image in enumerate(images)})
    GMValuator(**BASE, cache=False).fit(home / "train").save(home / "index")
    return home


def test_every_setting_is_changed_here() -> None:
    assert set(CHANGES) == set(SETTING_NAMES)


@pytest.mark.parametrize(
    ("name", "choice"), [(name, choice) for name, choices in CHANGES.items() for choice in choices]
)
def test_loading_with_a_change_equals_fitting_with_it_or_is_refused(
    folder: Path, digits: Digits, name: str, choice: Any
) -> None:
    generated, changes = digits[0][100:108], {name: choice}
    if name == "null" and choice == "withhold":
        changes["null_level"] = 0.3
    if choice == "ridge":
        changes["mirror"] = False
    fitted = GMValuator(**(BASE | changes), cache=False).fit(folder / "train").value(generated)
    # fitting reads these: the vectors, the copies or the scales would be others
    if name in ("encoder", "second_encoder", "rerank", "mixing", "dedup", "seed"):
        with pytest.raises(RunError, match="make an index with these settings"):
            GMValuator.load(folder / "index", cache=False, **changes)
        return
    valuation = GMValuator.load(folder / "index", cache=False, **changes).value(generated)
    np.testing.assert_array_equal(valuation.values, fitted.values)
    np.testing.assert_array_equal(valuation.contributions.rows, fitted.contributions.rows)


@pytest.mark.parametrize("temperature", ["spacing", "spacing/50"])
def test_loading_with_a_temperature_by_distance_equals_fitting_with_it(
    folder: Path, digits: Digits, temperature: str
) -> None:
    changes: dict[str, Any] = {"weighting": "softmax", "temperature": temperature, "cache": False}
    fitted = GMValuator(**(BASE | changes)).fit(folder / "train").value(digits[0][100:108])
    loaded = GMValuator.load(folder / "index", **changes).value(digits[0][100:108])
    np.testing.assert_array_equal(loaded.values, fitted.values)


def test_other_candidates_learn_other_scales_of_a_fixed_mixing(folder: Path) -> None:
    index = folder / "fixed"
    GMValuator(**BASE, mixing="fixed", cache=False).fit(folder / "train").save(index)
    for candidates in (20, 60):
        with pytest.raises(RunError, match=f"made with candidates 40, not {candidates}"):
            GMValuator.load(index, candidates=candidates)


def test_a_single_distance_has_no_scale_so_candidates_may_change(
    folder: Path, digits: Digits
) -> None:
    settings: dict[str, Any] = {"encoder": "pixels@8", "rerank": "pixels@14", "cache": False}
    index = folder / "single"
    GMValuator(**settings, candidates=40, k=5).fit(folder / "train").save(index)
    fitted = GMValuator(**settings, candidates=20, k=5).fit(folder / "train")
    loaded = GMValuator.load(index, candidates=20, cache=False)
    generated = digits[0][100:104]
    np.testing.assert_array_equal(loaded.value(generated).values, fitted.value(generated).values)


def test_seconds_are_of_this_process(folder: Path, digits: Digits) -> None:
    marker = folder / "index" / "index.json"
    content = marker.read_text(encoding="utf-8")
    try:
        slow = json.loads(content) | {"seconds": {"embed train": 3000.0, "fit": 50.0}}
        marker.write_text(json.dumps(slow), encoding="utf-8")
        seconds = GMValuator.load(folder / "index").value(digits[0][100:102]).info["seconds"]
    finally:
        marker.write_text(content, encoding="utf-8")
    assert "embed generated" in seconds
    assert sum(seconds.values()) < 1000


WRONG: list[Any] = [None, 3, "text", [], [1], {}, {"a": 1}, True]


@pytest.mark.parametrize(
    "key",
    sorted(
        [
            "format",
            "settings",
            "location",
            "fingerprint",
            "metric",
            "second_metric",
            "terms",
            "encoders",
            "weights",
            "seconds",
        ]
    ),
)
def test_a_damaged_marker_is_an_error_and_no_traceback(
    folder: Path, tmp_path: Path, key: str
) -> None:
    index = tmp_path / "index"
    index.mkdir()
    for file in (folder / "index").iterdir():
        (index / file.name).write_bytes(file.read_bytes())
    whole = json.loads((index / "index.json").read_text(encoding="utf-8"))
    refused = 0
    for wrong in [*WRONG, "missing"]:
        content = {name: value for name, value in whole.items() if name != key}
        if wrong != "missing":
            content[key] = wrong
        (index / "index.json").write_text(json.dumps(content), encoding="utf-8")
        try:
            GMValuator.load(index, train=folder / "train")
        except (RunError, InputError):
            refused += 1
    # seconds, weights and the location of the images decide no value
    assert refused >= (0 if key in ("seconds", "weights", "location") else 8)


def test_vectors_of_another_precision_are_refused(folder: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    index.mkdir()
    for file in (folder / "index").iterdir():
        (index / file.name).write_bytes(file.read_bytes())
    marker = index / "index.json"
    whole = json.loads(marker.read_text(encoding="utf-8"))
    assert set(whole["arithmetic"]) == {"pixels@8", "pixels@5"}
    for made, refused in (
        ({"pixels@8": "torch-cuda-float16"}, True),
        ({"pixels@8": "openvino-cpu-float32"}, False),
        (None, False),
    ):
        content = {name: entry for name, entry in whole.items() if name != "arithmetic"}
        if made is not None:
            content["arithmetic"] = made
        marker.write_text(json.dumps(content), encoding="utf-8")
        if refused:
            with pytest.raises(RunError, match=r"were computed by torch-cuda-float16.*device"):
                GMValuator.load(index)
        else:
            assert GMValuator.load(index).fitted_ is not None


def test_an_index_of_images_that_were_read_otherwise_is_refused(
    folder: Path, tmp_path: Path
) -> None:
    index = tmp_path / "index"
    shutil.copytree(folder / "index", index)
    marker = index / "index.json"
    content = json.loads(marker.read_text(encoding="utf-8"))
    marker.write_text(json.dumps(content | {"reading": "2"}), encoding="utf-8")
    with pytest.raises(RunError, match="reads image files otherwise; make the index again"):
        GMValuator.load(index)
