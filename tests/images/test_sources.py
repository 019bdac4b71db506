"""Folders, single files and manifests, and laws of every kind of source."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmvaluator.errors import ImageError, InputError
from gmvaluator.images import ImageSet, Preprocessing, Skip
from gmvaluator.images.pillow import PLUGINS
from gmvaluator.images.sources import base, image_format
from gmvaluator.images.sources.tar import expand_braces
from image_checks import IMAGES, PNGS, check_pixels, sample
from image_makers import image_folder, write_files, write_parquet, write_tar

# --- folders -------------------------------------------------------------------------------------


def test_folder_with_labels(tmp_path: Path) -> None:
    names = ["b/x/2.png", "a/1.png", "0.png", "b/1.png"]
    write_files(tmp_path, dict(zip(names, PNGS, strict=False)))
    images = ImageSet.open(tmp_path)
    assert images.ids == ("0.png", "a/1.png", "b/1.png", "b/x/2.png")
    assert images.labels == (None, "a", "b", "b")
    assert images.location == str(tmp_path)
    assert images.problems == ()
    assert images.metadata == {}
    check_pixels(images, [2, 1, 3, 0])


def test_flat_folder_has_no_labels(tmp_path: Path) -> None:
    images = ImageSet.open(str(image_folder(tmp_path, 3, classes=0)))
    assert images.labels is None
    assert images.ids == ("000.png", "001.png", "002.png")


def test_symlinks_and_loops(tmp_path: Path) -> None:
    write_files(tmp_path / "set", {"real/a.png": PNGS[0]})
    write_files(tmp_path / "elsewhere", {"b.png": PNGS[1]})
    (tmp_path / "set" / "real" / "loop").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "again").symlink_to(tmp_path / "set" / "real")
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "self.png").symlink_to("self.png")
    images = ImageSet.open(tmp_path / "set")
    assert images.ids == ("linked/b.png", "real/a.png", "self.png")
    assert {skip.id for skip in images.problems} == {"again/", "real/loop/"}
    with pytest.raises(ImageError, match=r"self\.png: "):
        images[2]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_does_not_block(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.png": PNGS[0]})
    os.mkfifo(tmp_path / "pipe.png")
    images = ImageSet.open(tmp_path)
    assert images.problems == (Skip("pipe.png", "not a regular file"),)
    (tmp_path / "list.csv").write_text("path\npipe.png\n")
    with pytest.raises(ImageError, match="not a regular file"):
        ImageSet.open(tmp_path / "list.csv")[0]


def test_unreadable_folder_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(tmp_path, {"a/1.png": PNGS[0], "b/2.png": PNGS[1]})
    scandir = os.scandir

    def refuse(path: str) -> Any:
        if path.endswith("b"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    images = ImageSet.open(tmp_path)
    assert images.ids == ("a/1.png",)
    assert images.problems == (Skip("b/", "folder cannot be read: Permission denied"),)


def test_unreadable_file_is_an_image_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(tmp_path, {"a.png": PNGS[0]})
    images = ImageSet.open(tmp_path)
    monkeypatch.setattr(base, "MAX_FILE_BYTES", 10)
    with pytest.raises(ImageError, match=r"a\.png: file of \d+ bytes"):
        images[0]
    (tmp_path / "a.png").unlink()
    with pytest.raises(ImageError, match=r"a\.png: file not found"):
        images[0]


def test_undecodable_file_names_become_printable_ids(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    try:
        with open(name, "wb") as file:
            file.write(PNGS[0])
    except OSError:
        pytest.skip("the file system takes UTF-8 names only")
    images = ImageSet.open(tmp_path)
    assert images.ids == ("caf\\xe9.png",)
    check_pixels(images, [0])


def test_single_image(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.png": PNGS[0], "b": PNGS[1], "c.jpg": b"text"})
    assert ImageSet.open(tmp_path / "a.png").ids == ("a.png",)
    check_pixels(ImageSet.open(tmp_path / "b"), [1])
    with pytest.raises(ImageError, match="not an image file"):
        ImageSet.open(tmp_path / "c.jpg")[0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing", None, "does not exist"),
        ("a.7z", b"7z\xbc\xaf", "unknown type"),
        ("a.tar.gz", b"\x1f\x8b", "unknown type"),
        ("a.txt", b"text", "unknown type"),
        ("bad\0name", None, "bad"),
    ],
)
def test_unusable_paths(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        ImageSet.open(f"{tmp_path}/{name}")
    assert "\n" not in str(caught.value)


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no images"):
        ImageSet.open(tmp_path)
    write_files(tmp_path, {".hidden.png": PNGS[0], ".h/a.png": PNGS[0]})
    with pytest.raises(InputError, match="holds no images"):
        ImageSet.open(tmp_path)


# --- manifests -----------------------------------------------------------------------------------


def write_csv(path: Path, rows: Sequence[Sequence[str]]) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def test_csv_manifest(tmp_path: Path) -> None:
    write_files(tmp_path / "files", {f"{i}.png": png for i, png in enumerate(PNGS)})
    rows = [["path", "label", "owner"]]
    rows += [[f"files/{i}.png", "a, b" if i else "", "É"] for i in range(5)]
    rows += [[str(tmp_path / "files" / "5.png"), "c", ""]]
    images = ImageSet.open(write_csv(tmp_path / "list.csv", rows))
    assert images.ids == tuple(row[0] for row in rows[1:])
    assert images.labels == (None, *["a, b"] * 4, "c")
    assert images.metadata == {"owner": (*["É"] * 5, "")}
    check_pixels(images)


def test_csv_ids_and_missing_paths(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.png": PNGS[0]})
    rows = [["id", "path"], ["one", "a.png"], ["two", "a.png"], ["", ""], ["four", "b.png"]]
    images = ImageSet.open(write_csv(tmp_path / "list.csv", rows))
    assert images.ids == ("one", "two", "row 3", "four")
    check_pixels(images.select([0, 1]), [0, 0])
    (batch,) = images.batches(Preprocessing(8))
    assert [skip for _, skip in batch.skipped] == [
        Skip("row 3", "no path given"),
        Skip("four", "file not found"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"columns \(none\); wanted one named 'path'"),
        ("file,label\na.png,x\n", "columns 'file', 'label'; wanted one named 'path'"),
        ("path\na.png\nb.png\na.png\n", "'a.png' 2 times; wanted unique ids"),
        ("path,id\na.png,x\nb.png,x\n", "'x' 2 times"),
        ("path,label\na.png\n", "line 2 has 1 fields; wanted 2"),
        ("path,path\na,b\n", "a column twice"),
        ("path\n", "holds no images"),
        ('path\n"a.png\n', "cannot be read as CSV"),
        ("path\ncaf\udce9.png\n", "cannot be read as CSV"),
    ],
)
def test_bad_csv(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "list.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=message):
        ImageSet.open(tmp_path / "list.csv")


def test_parquet_manifest(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    write_files(tmp_path, {f"{i}.png": png for i, png in enumerate(PNGS)})
    table = {"path": [f"{i}.png" for i in range(6)], "label": range(6), "width": [8] * 6}
    pq.write_table(pa.table(table), tmp_path / "list.parquet")
    images = ImageSet.open(tmp_path / "list.parquet")
    assert images.ids == tuple(table["path"])
    assert images.labels == tuple("012345")
    assert images.metadata == {"width": (8,) * 6}
    check_pixels(images)


# --- laws ----------------------------------------------------------------------------------------


def every_source(folder: Path) -> Iterator[ImageSet]:
    yield ImageSet.open(image_folder(folder / "images"))
    yield ImageSet.open(write_parquet(folder / "a.parquet", PNGS, row_group_size=4))
    yield ImageSet.open(write_tar(folder / "a.tar", sample(range(6))))
    np.savez(folder / "a.npz", images=IMAGES)
    yield ImageSet.open(folder / "a.npz")


def test_ids_are_unique_strings_and_stable_on_reopening(tmp_path: Path) -> None:
    for images in every_source(tmp_path):
        assert len(set(images.ids)) == len(images) == 6
        assert all(isinstance(id_, str) for id_ in images.ids)
        assert images.location is not None
        again = ImageSet.open(images.location)
        assert again.ids == images.ids
        assert [again.content_key(i) for i in range(6)] == [images.content_key(i) for i in range(6)]


@given(st.lists(st.sampled_from(["a", "b", "c/d"]), min_size=1, max_size=3), st.integers(1, 12))
def test_brace_patterns_expand_to_every_combination(choices: list[str], last: int) -> None:
    names = expand_braces(f"x-{{{','.join(choices)}}}-{{000..{last}}}.tar")
    assert names == [f"x-{c}-{i:03d}.tar" for c in choices for i in range(last + 1)]


@given(st.binary(max_size=40))
def test_image_format_never_fails(head: bytes) -> None:
    assert image_format(head) in {None, *PLUGINS}


@pytest.mark.parametrize(
    ("value", "names", "wanted"),
    [
        (np.int64(3), None, "3"),
        (np.str_("x"), None, "x"),
        (b"cat", None, "cat"),
        ("e\u0301", None, "\u00e9"),
        ("e\u0301".encode(), None, "\u00e9"),
        (0, ["e\u0301"], "\u00e9"),
        (float("nan"), None, None),
        (1, ["a", "b"], "b"),
        (2, ["a", "b"], "2"),
        (-1, ["a"], None),
        ("", None, None),
        ([1, 0], None, "[1, 0]"),
    ],
)
def test_label_text(value: Any, names: list[str] | None, wanted: str | None) -> None:
    assert base.label_text(value, names) == wanted


def test_hugging_face_metadata_of_any_form_is_survived(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"image": pa.array([{"bytes": PNGS[0]}]), "label": [1]})
    for described in ("{", "[]", json.dumps({"info": {"features": {"label": {"_type": "Value"}}}})):
        pq.write_table(
            table.replace_schema_metadata({"huggingface": described}), tmp_path / "a.parquet"
        )
        assert ImageSet.open(tmp_path / "a.parquet").labels == ("1",)
