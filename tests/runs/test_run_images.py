"""The images of one side of a run, as far as they can still be opened."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gmvaluator import ImageSet, InputError, RunError
from gmvaluator.runs.images import RunSide, open_side
from gmvaluator.runs.record import Input
from image_makers import encode, image_folder, random_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    image_folder(tmp_path / "set", 4, classes=2)
    return tmp_path / "set"


def side_of(folder: Path, *, keys: bool = True, labels: bool = True) -> RunSide:
    """The side of a run that was made from a folder."""
    images = ImageSet.open(folder)
    contents = tuple(images.content_key(row) for row in range(len(images)))
    return open_side(
        "train",
        images.ids,
        contents if keys else None,
        images.labels if labels else None,
        Input(str(folder), "recorded"),
    )


def test_unchanged_images_are_shown(folder: Path) -> None:
    side = side_of(folder)
    assert (side.trouble, side.fingerprint) == (None, "recorded")
    np.testing.assert_array_equal(side.rows, np.arange(4))
    state, small = side.thumbnail(2, 4)
    assert state == side.state(2) == "ok"
    assert small is not None
    picture = Image.open(io.BytesIO(small.file))
    assert max(picture.size) == 4
    np.testing.assert_array_equal(np.asarray(picture), small.pixels)
    assert side.png(2, 100) == ImageSet.open(folder).png(2, 100)


def test_a_changed_image_is_not_shown(folder: Path) -> None:
    side = side_of(folder)
    (folder / side.ids[1]).write_bytes(encode(random_images(1, 8, seed=5)[0]))
    assert side.state(1) == "changed"
    assert side.thumbnail(1, 4) == ("changed", None)
    assert side.png(1, 4) is None


def test_a_broken_image_is_unreadable(folder: Path) -> None:
    side = side_of(folder, keys=False)
    (folder / side.ids[1]).write_bytes(b"no image")
    assert side.png(1, 4) is None
    assert side.thumbnail(1, 4) == ("unreadable", None)


def test_without_content_keys_an_image_is_shown_and_its_state_is_unknown(folder: Path) -> None:
    side = side_of(folder, keys=False)
    assert side.state(0) == "unknown"
    state, small = side.thumbnail(0, 4)
    assert state == "unknown"
    assert small is not None


def test_images_that_the_set_no_longer_lists_are_missing(folder: Path) -> None:
    ids = side_of(folder).ids
    (folder / ids[3]).unlink()
    side = open_side("train", ids, None, None, Input(str(folder)))
    assert str(side.trouble).startswith("1 of 4 training images are no longer listed in the set")
    np.testing.assert_array_equal(side.rows, [0, 1, 2, -1])
    assert side.state(3) == "missing"
    assert side.thumbnail(3, 4) == ("missing", None)
    # recorded labels need no set, labels of the set do
    np.testing.assert_array_equal(side.gone("label"), [False, False, False, True])
    with pytest.raises(InputError, match="no column 'label'; choose one of: none, it has none"):
        side.column("label")


def test_a_whole_column_needs_all_images(folder: Path) -> None:
    ids = side_of(folder).ids
    rows = "\n".join(f"{name},{place}" for place, name in enumerate(ids[:3]))
    (folder / "list.csv").write_text(f"path,artist\n{rows}")
    side = open_side("train", ids, None, ("a", "a", None, "b"), Input(None), folder / "list.csv")
    assert side.column("artist") == ("0", "1", "2", None)
    assert side.whole_column("label") == ("a", "a", None, "b")
    with pytest.raises(RunError, match="column 'artist' cannot be read for all images: 1 of 4"):
        side.whole_column("artist")
    with pytest.raises(InputError, match="no column 'x'; choose one of: label, artist"):
        side.column("x")


def test_a_recorded_set_may_be_gone_and_a_given_set_must_open(tmp_path: Path) -> None:
    side = open_side("train", ("a.png",), None, None, Input(str(tmp_path / "gone")))
    assert side.images is None
    assert "cannot be opened where they were" in str(side.trouble)
    assert side.state(0) == "missing"
    memory = open_side("train", ("a.png",), None, None, Input(None))
    assert memory.trouble == "the training images of the run were in memory; pass them (train=…)"
    with pytest.raises(InputError, match="column 'label' cannot be read: the training images"):
        memory.column("label")
    with pytest.raises(InputError, match="gone"):
        open_side("train", ("a.png",), None, None, Input(None), tmp_path / "gone")
