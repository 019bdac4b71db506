"""An index holds all that a picture is matched by: vectors of the re-rank, and the null sample."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gmvaluator import GMValuator, ImageSet
from gmvaluator.engine import null_sample
from gmvaluator.errors import RunError

Digits = tuple[NDArray[np.uint8], NDArray[np.int64]]
SETTINGS: dict[str, Any] = {
    "encoder": "pixels@14",
    "rerank": {"pixels@14": 1.0, "pixels@28": 1.0},
    "second_encoder": None,
    "mirror": False,
    "mixing": "fixed",
    "weighting": "softmax",
    "temperature": 1.0,
    "quality": "realism",
    "null_measure": "neighbours",
    "null_level": 0.1,
    "cache": False,
}


@pytest.fixture
def train(digits: Digits, tmp_path: Path) -> Path:
    np.savez(tmp_path / "train.npz", images=digits[0][::40][:120])
    return tmp_path / "train.npz"


@pytest.fixture
def index(train: Path, tmp_path: Path) -> Path:
    GMValuator(**SETTINGS).fit(train).save(tmp_path / "index")
    return tmp_path / "index"


def forbidden(name: str) -> Callable[..., Any]:
    def call(*_: Any, **__: Any) -> Any:
        raise AssertionError(f"{name} was called")

    return call


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"mirror": True},
        {"second_encoder": "pixels@8", "mixing": "decisive", "temperature": "spacing"},
        {"quality": "domain", "null_measure": "domain"},
    ],
)
def test_a_picture_is_matched_alike_without_the_training_images(
    changes: dict[str, Any], digits: Digits, train: Path, tmp_path: Path
) -> None:
    valuator = GMValuator(**SETTINGS | changes).fit(train)
    wanted = valuator.value(digits[0][4001:4004])
    valuator.save(tmp_path / "index")
    train.unlink()
    loaded = GMValuator.load(tmp_path / "index", reopen=False, cache=False)
    given = loaded.value(digits[0][4001:4004])
    np.testing.assert_array_equal(given.values, wanted.values)
    np.testing.assert_array_equal(given.match_p, wanted.match_p)
    np.testing.assert_array_equal(given.contributions.distances, wanted.contributions.distances)


def test_training_images_that_are_gone_are_noticed_unless_left_out(
    index: Path, train: Path
) -> None:
    train.unlink()
    with pytest.raises(RunError, match="train"):
        GMValuator.load(index, cache=False)
    with pytest.raises(RunError, match="train"):
        # pixels of another size: the index does not hold them
        GMValuator.load(index, cache=False, reopen=False, null_measure="domain")


def test_the_null_sample_is_computed_when_the_index_is_made(
    index: Path, digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(null_sample, "leave_one_out", forbidden("leave_one_out"))
    several: tuple[dict[str, Any], ...] = ({}, {"weighting": "shapley"}, {"quality": "none"})
    for changes in several:
        valuation = GMValuator.load(index, cache=False, **changes).value(digits[0][4001:4002])
        assert valuation.match_p is not None


@pytest.mark.parametrize(
    "changes", [{"null_level": 0.2}, {"mirror": True}, {"rerank": {"pixels@14": 1, "pixels@28": 3}}]
)
def test_other_settings_compute_their_own_null_sample(
    changes: dict[str, Any], index: Path, digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(null_sample, "leave_one_out", forbidden("leave_one_out"))
    with pytest.raises(AssertionError, match="leave_one_out was called"):
        GMValuator.load(index, cache=False, **changes).value(digits[0][4001:4002])


def test_an_index_of_an_earlier_version_holds_nothing(index: Path, digits: Digits) -> None:
    wanted = GMValuator.load(index, cache=False).value(digits[0][4001:4003])
    marker = json.loads((index / "index.json").read_text())
    assert marker.pop("results")["entries"]
    assert marker.pop("kept_vectors")
    (index / "index.json").write_text(json.dumps(marker))
    loaded = GMValuator.load(index, cache=False, reopen=False)
    given = loaded.value(digits[0][4001:4003])
    np.testing.assert_array_equal(given.values, wanted.values)
    np.testing.assert_array_equal(given.match_p, wanted.match_p)


def test_vectors_longer_than_those_of_the_recall_are_left_out(train: Path, tmp_path: Path) -> None:
    settings = SETTINGS | {"rerank": "pixels@32"}
    GMValuator(**settings).fit(train).save(tmp_path / "index")
    assert not list((tmp_path / "index").glob("*.npy"))
    valuator = GMValuator.load(tmp_path / "index", cache=False, reopen=False)
    assert valuator.fitted_ is not None
    assert valuator.fitted_.placed.images is not None


def test_a_loaded_index_saves_what_it_holds(index: Path, train: Path, tmp_path: Path) -> None:
    loaded = GMValuator.load(index, cache=False, reopen=False)
    train.unlink()
    loaded.save(tmp_path / "again")
    (file,) = index.glob("*.npy")
    assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()
    again, first = (
        json.loads((folder / "index.json").read_text()) for folder in (tmp_path / "again", index)
    )
    assert again["results"] == first["results"]


@pytest.mark.parametrize("damage", ["cut", "gone", "fewer", "text"])
def test_a_damaged_file_of_vectors_is_one_line(damage: str, index: Path) -> None:
    (file,) = index.glob("*.npy")
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-1000])
    elif damage == "fewer":
        np.save(file, np.load(file)[:-1])
    elif damage == "text":
        file.write_text("no array")
    else:
        file.unlink()
    with pytest.raises(RunError, match=r"damaged|do not fit together"):
        GMValuator.load(index, cache=False)


def test_a_user_function_is_not_kept(digits: Digits, train: Path, tmp_path: Path) -> None:
    from gmvaluator.encoders.custom import wrap

    mean = wrap(lambda pixels: pixels.mean(axis=(2, 3)), name="mean")
    GMValuator(**SETTINGS | {"rerank": mean}).fit(train).save(tmp_path / "index")
    assert not list((tmp_path / "index").glob("*.npy"))


def test_an_index_is_moved_whole(index: Path, digits: Digits, tmp_path: Path) -> None:
    wanted = GMValuator.load(index, cache=False).value(digits[0][4001:4002])
    shutil.move(index, tmp_path / "elsewhere")
    loaded = GMValuator.load(tmp_path / "elsewhere", cache=False, reopen=False)
    given = loaded.value(ImageSet.open(digits[0][4001:4002]))
    assert replace(given, record=wanted.record).quality == wanted.quality
