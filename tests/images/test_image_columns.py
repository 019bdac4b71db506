"""Columns of tables: separators, misspelled names, and columns that are no data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gmvaluator import ImageError, ImageSet, InputError
from gmvaluator.payout.owners import read_owners
from image_checks import IMAGES, PNGS, check_pixels
from image_makers import write_files, write_parquet


def manifest(folder: Path, text: str, *, encoding: str = "utf-8") -> Path:
    write_files(folder, {f"{row}.png": png for row, png in enumerate(PNGS)})
    file = folder / "list.csv"
    file.write_text(text, encoding=encoding)
    return file


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_fields_of_a_spreadsheet(tmp_path: Path, separator: str) -> None:
    lines = (("path", "label"), ("0.png", '"a, b; c"'), ("1.png", "d"))
    text = "\r\n".join(separator.join(line) for line in lines)
    images = ImageSet.open(manifest(tmp_path, text, encoding="utf-8-sig"))
    check_pixels(images, [0, 1])
    assert images.labels == ("a, b; c", "d")


def test_an_unquoted_separator_is_named(tmp_path: Path) -> None:
    file = manifest(tmp_path, "path;label\n0.png;a;b\n")
    with pytest.raises(InputError, match=r"line 2 has 3 fields; wanted 2 .* that hold ';'"):
        ImageSet.open(file)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("path, label", "misspelled column; rename ' label' to 'label'"),
        ("Path,label", "misspelled column; rename 'Path' to 'path'"),
        ("\ufeff\ufeffpath,label", "misspelled column; rename '.ufeffpath' to 'path'"),
        ("path,\tID ", r"misspelled column; rename '\\tID ' to 'id'"),
        ("file,what", r"has the columns 'file', 'what'; wanted one named 'path'"),
    ],
)
def test_a_manifest_says_which_column_is_misspelled(
    tmp_path: Path, header: str, message: str
) -> None:
    file = manifest(tmp_path, f"{header}\n0.png,a\n")
    with pytest.raises(InputError, match=message):
        ImageSet.open(file)


def test_another_case_may_be_meant(tmp_path: Path) -> None:
    images = ImageSet.open(manifest(tmp_path, "path,Label,id\n0.png,a,x\n"))
    assert images.metadata == {"Label": ("a",)}
    assert images.notes == (
        "column 'Label' is kept as metadata; name it 'label' if it holds the labels",
    )
    both = ImageSet.open(manifest(tmp_path, "path,Label,label\n0.png,a,x\n"))
    assert (both.labels, both.metadata, both.notes) == (("x",), {"Label": ("a",)}, ())


@pytest.mark.parametrize(
    ("header", "column"),
    [("train_id, owner", "' owner'"), ("Train_ID,owner", "'Train_ID'")],
)
def test_owners_say_which_column_is_misspelled(tmp_path: Path, header: str, column: str) -> None:
    (tmp_path / "owners.csv").write_text(f"{header}\na,ann\n")
    with pytest.raises(InputError, match=f"misspelled column; rename {column} to"):
        read_owners(tmp_path / "owners.csv", ["a"])


def test_a_misspelled_share_is_not_left_out_silently(tmp_path: Path) -> None:
    (tmp_path / "owners.csv").write_text("train_id;owner;Share\na;ann;0.5\na;bob;0.5\n")
    with pytest.raises(InputError, match="rename 'Share' to 'share'"):
        read_owners(tmp_path / "owners.csv", ["a"])


def test_owners_of_a_spreadsheet(tmp_path: Path) -> None:
    (tmp_path / "owners.csv").write_text("train_id;owner\na;Doe, Ann\nb;Bob\n")
    assert read_owners(tmp_path / "owners.csv", ["a", "b"]).owners == ("Bob", "Doe, Ann")


# --- columns that are no data --------------------------------------------------------------------


def test_row_numbers_of_pandas_are_no_metadata(tmp_path: Path) -> None:
    import pandas as pd

    frame = pd.DataFrame({"path": ["0.png", "1.png"], "licence": ["a", "b"]}, index=[7, 9])
    write_files(tmp_path, {f"{row}.png": png for row, png in enumerate(PNGS)})
    frame.to_csv(tmp_path / "a.csv")
    pd.read_csv(tmp_path / "a.csv").to_csv(tmp_path / "b.csv", index=False)
    frame.to_parquet(tmp_path / "c.parquet")
    for name in ("a.csv", "b.csv", "c.parquet"):
        assert ImageSet.open(tmp_path / name).metadata == {"licence": ("a", "b")}, name
    columns: dict[str, Any] = {"__index_level_0__": [1, 2], "licence": ["a", "b"]}
    images = ImageSet.open(write_parquet(tmp_path / "d.parquet", PNGS[:2], columns=columns))
    assert images.metadata == {"licence": ("a", "b")}


# --- objects -------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda frame: frame, lambda frame: frame["path"]])
def test_a_data_frame_is_told_how_to_be_passed(make: Callable[[Any], Any]) -> None:
    import pandas as pd

    frame = pd.DataFrame({"path": ["0.png"]})
    with pytest.raises(InputError, match=r"a (DataFrame|Series) was given; .* with a 'path' col"):
        ImageSet.open(make(frame))


def test_hugging_face_arrays_keep_their_type() -> None:
    import datasets

    features = datasets.Features({"image": datasets.Array3D((8, 8, 3), "uint8")})
    data = datasets.Dataset.from_dict({"image": IMAGES.tolist()}, features=features)
    check_pixels(ImageSet.open(data))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_floats_that_are_no_numbers(value: float) -> None:
    image = np.full((4, 4, 3), 0.5, np.float32)
    image[0, 0, 0] = value
    with pytest.raises(ImageError, match="float values that are NaN or infinite"):
        ImageSet.open([image])[0]
