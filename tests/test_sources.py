"""Every kind of source: ids, labels, metadata, what is skipped and what is refused."""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from gmvaluator import sources
from gmvaluator.errors import ImageError, InputError
from gmvaluator.images import _PLUGINS, ImageSet, Preprocessing, Skip
from image_makers import (
    encode,
    image_folder,
    random_images,
    write_files,
    write_parquet,
    write_tar,
)

IMAGES = random_images(6)
PNGS = [encode(image) for image in IMAGES]


def check_pixels(images: ImageSet, rows: Sequence[int] = range(6)) -> None:
    """The set holds IMAGES[rows], by item and in batches."""
    assert len(images) == len(images.ids) == len(rows)
    for at, row in enumerate(rows):
        np.testing.assert_array_equal(images[at], IMAGES[row])
    (batch,) = images.batches(Preprocessing(8), on_error="raise")
    np.testing.assert_array_equal(batch.pixels, IMAGES[list(rows)].transpose(0, 3, 1, 2))
    assert list(batch.keys) == [images.content_key(at) for at in range(len(rows))]


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


def test_every_visible_file_is_declared(tmp_path: Path) -> None:
    write_files(
        tmp_path,
        {
            "a.png": PNGS[0],
            "README.txt": b"hello",
            "noextension": PNGS[1],
            "empty.jpg": b"",
            ".DS_Store": b"x",
            ".git/config.png": PNGS[0],
        },
    )
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    images = ImageSet.open(tmp_path)
    assert images.ids == ("README.txt", "a.png", "empty.jpg", "gone.png", "noextension")
    (batch,) = images.batches(Preprocessing(8))
    assert [images.ids[row] for row in batch.rows] == ["a.png", "noextension"]
    reasons = {skip.id: skip.reason for _, skip in batch.skipped}
    assert reasons.keys() == {"README.txt", "empty.jpg", "gone.png"}
    assert reasons["README.txt"].startswith("not an image file")
    assert reasons["empty.jpg"] == "empty file"
    assert reasons["gone.png"] == "file not found"


def test_symlinks_and_loops(tmp_path: Path) -> None:
    write_files(tmp_path / "set", {"real/a.png": PNGS[0]})
    write_files(tmp_path / "elsewhere", {"b.png": PNGS[1]})
    (tmp_path / "set" / "real" / "loop").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "again").symlink_to(tmp_path / "set" / "real")
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "self").symlink_to("self")
    images = ImageSet.open(tmp_path / "set")
    assert images.ids == ("linked/b.png", "real/a.png", "self")
    assert {skip.id for skip in images.problems} == {"again/", "real/loop/"}
    with pytest.raises(ImageError, match="self: "):
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
    monkeypatch.setattr(sources, "MAX_FILE_BYTES", 10)
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
        ("a.zip", b"PK\3\4", "unknown type"),
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


# --- Parquet -------------------------------------------------------------------------------------


def test_parquet_in_hugging_face_layout(tmp_path: Path) -> None:
    path = write_parquet(
        tmp_path / "train.parquet",
        PNGS,
        paths=[f"{i}.png" for i in range(6)],
        columns={"label": [0, 1, None, 1, -1, 7], "price": [1.5, 2, 3, 4, 5, None]},
        class_names=["cat", "dog"],
        row_group_size=2,
    )
    images = ImageSet.open(path)
    assert images.ids == tuple(f"{i}.png" for i in range(6))
    assert images.labels == ("cat", "dog", None, "dog", None, "7")
    assert images.metadata == {"price": (1.5, 2, 3, 4, 5, None)}
    assert images.location == str(path)
    check_pixels(images)
    assert images.read_bytes(3) == PNGS[3]
    shuffled = [5, 0, 3, 1, 4, 2]
    pixels = np.concatenate([b.pixels for b in images.batches(Preprocessing(8), 4, rows=shuffled)])
    np.testing.assert_array_equal(pixels, IMAGES[shuffled].transpose(0, 3, 1, 2))


@pytest.mark.parametrize("labels", [["x", "y", "", None, "x", "y"], [3, 1, 4, 1, 5, 9]])
def test_parquet_labels_without_names(tmp_path: Path, labels: list[Any]) -> None:
    path = write_parquet(tmp_path / "a.parquet", PNGS, columns={"label": labels})
    wanted = tuple(str(label) if label not in ("", None) else None for label in labels)
    assert ImageSet.open(path).labels == wanted


@pytest.mark.parametrize("paths", [None, ["a"] * 6, ["a", "b", "c", "d", "e", None]])
def test_parquet_ids_fall_back_to_row_numbers(
    tmp_path: Path, paths: list[str | None] | None
) -> None:
    images = ImageSet.open(write_parquet(tmp_path / "a.parquet", PNGS, paths=paths))
    assert images.ids == ("0", "1", "2", "3", "4", "5")
    assert images.labels is None


def test_folder_of_parquet_files(tmp_path: Path) -> None:
    write_parquet(tmp_path / "b.parquet", PNGS[3:], columns={"label": [1, 2, 3]})
    write_parquet(tmp_path / "a.parquet", PNGS[:3], columns={"year": [7, 8, 9]})
    (tmp_path / "README.md").write_text("a data set")
    images = ImageSet.open(tmp_path)
    assert images.ids == tuple("012345")
    assert images.labels == (None, None, None, "1", "2", "3")
    assert images.metadata == {"year": (7, 8, 9, None, None, None)}
    check_pixels(images)


def test_parquet_next_to_images_is_not_an_image(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", PNGS)
    write_files(tmp_path, {"b.png": PNGS[0]})
    images = ImageSet.open(tmp_path)
    assert images.ids == ("a.parquet", "b.png")
    with pytest.raises(ImageError, match="not an image file"):
        images[0]


def test_parquet_with_files_beside_it(tmp_path: Path) -> None:
    write_files(tmp_path / "set", {"img/0.png": PNGS[0]})
    write_files(tmp_path, {"secret.png": PNGS[1]})
    paths = ["img/0.png", "img/none.png", "../secret.png", str(tmp_path / "secret.png"), None, "x"]
    contents = [None, None, None, None, None, b""]
    images = ImageSet.open(write_parquet(tmp_path / "set" / "a.parquet", contents, paths=paths))
    check_pixels(images.select([0]), [0])
    wanted = ["file not found", "leads out", "leads out", "no image in this row", "empty file"]
    for row, reason in enumerate(wanted, start=1):
        with pytest.raises(ImageError, match=reason):
            images[row]


def test_parquet_of_plain_bytes_and_null_structs(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"img": pa.array(PNGS, pa.binary())}), tmp_path / "a.parquet")
    check_pixels(ImageSet.open(tmp_path / "a.parquet"))
    kind = pa.struct([("bytes", pa.large_binary()), ("path", pa.string())])
    cells = [{"bytes": PNGS[0], "path": "a"}, None]
    pq.write_table(pa.table({"picture": pa.array(cells, kind)}), tmp_path / "b.parquet")
    images = ImageSet.open(tmp_path / "b.parquet")
    assert images.ids == ("0", "1")
    check_pixels(images.select([0]), [0])
    with pytest.raises(ImageError, match="no image in this row"):
        images[1]


def test_parquet_cache_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "CACHE_BYTES", 3 * len(PNGS[0]))
    path = write_parquet(tmp_path / "a.parquet", PNGS, row_group_size=1)
    listing = sources.open_source(path)
    reader = listing.reader
    assert isinstance(reader, sources.ParquetReader)
    for _ in range(2):
        assert reader.read(range(6)) == PNGS
        assert 1 <= len(reader._cache) <= 3
    assert pickle.loads(pickle.dumps(reader)).read([5, 0]) == [PNGS[5], PNGS[0]]


def test_bad_parquet(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    whole = write_parquet(tmp_path / "a.parquet", PNGS)
    write_files(tmp_path, {"cut.parquet": whole.read_bytes()[:200], "empty.parquet": b""})
    for name in ("cut.parquet", "empty.parquet"):
        with pytest.raises(InputError, match=f"{name} cannot be read as Parquet"):
            ImageSet.open(tmp_path / name)
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "text.parquet")
    with pytest.raises(InputError, match="has the columns text"):
        ImageSet.open(tmp_path / "text.parquet")
    with pytest.raises(InputError, match="holds no images"):
        ImageSet.open(write_parquet(tmp_path / "none.parquet", []))


def test_damaged_row_group_is_an_image_error(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", PNGS)
    images = ImageSet.open(path)
    path.write_bytes(b"PAR1")
    (batch,) = images.batches(Preprocessing(8))
    assert len(batch.skipped) == 6
    assert "row group cannot be read" in batch.skipped[0][1].reason


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
        ("file,label\na.png,x\n", "columns file, label; wanted one named 'path'"),
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


# --- NumPy ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["images", "x", "arr_0", "anything"])
@pytest.mark.parametrize("label", ["labels", "y", "label"])
def test_npz(tmp_path: Path, name: str, label: str) -> None:
    arrays: dict[str, Any] = {name: IMAGES, label: np.arange(6) % 2}
    np.savez(tmp_path / "a.npz", **arrays)
    images = ImageSet.open(tmp_path / "a.npz")
    assert images.ids == tuple("012345")
    assert images.labels == ("0", "1") * 3
    assert images.location == str(tmp_path / "a.npz")
    check_pixels(images)


def test_npz_labels_as_text(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=IMAGES[:2], labels=np.array(["cat", "dog"]))
    assert ImageSet.open(tmp_path / "a.npz").labels == ("cat", "dog")
    np.savez(tmp_path / "b.npz", images=IMAGES[:2])
    assert ImageSet.open(tmp_path / "b.npz").labels is None


def test_npy_is_memory_mapped_and_pickles_small(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", IMAGES)
    images = ImageSet.open(tmp_path / "a.npy")
    check_pixels(images)
    reader = sources.open_source(tmp_path / "a.npy").reader
    assert isinstance(reader, sources.ArrayReader)
    assert isinstance(reader._array, np.memmap)
    dumped = pickle.dumps(images)
    assert len(dumped) < IMAGES.nbytes
    check_pixels(pickle.loads(dumped))


def test_arrays_with_any_channels() -> None:
    grey, alpha = IMAGES[:, :, :, 0], np.zeros((6, 8, 8, 4), np.uint8)
    for array in (grey, grey[:, :, :, None]):
        np.testing.assert_array_equal(
            ImageSet.open(array)[2], np.repeat(grey[2, :, :, None], 3, axis=2)
        )
    assert ImageSet.open(alpha)[0].min() == 255
    images = ImageSet.open(IMAGES)
    assert images.location is None
    assert images.ids == tuple("012345")
    check_pixels(images)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 8, 8, 3), np.float32), "float32 .*wanted uint8"),
        (np.zeros((2, 8, 8, 3), np.int64), "int64 .*wanted uint8"),
        (np.zeros((8, 8), np.uint8), "wanted uint8 of shape"),
        (np.zeros((8, 8, 3), np.uint8), r"pass array\[None\]"),
        (np.zeros((2, 3, 8, 8), np.uint8), "transpose"),
        (np.zeros((2, 0, 8), np.uint8), "no pixels"),
        (np.zeros((0, 8, 8), np.uint8), "holds no images"),
        (np.array([object()]), "object"),
    ],
)
def test_unusable_arrays(tmp_path: Path, array: NDArray[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ImageSet.open(array)
    for name in ("a.npy", "a.npz"):
        if name == "a.npy":
            np.save(tmp_path / name, array, allow_pickle=True)
        else:
            np.savez(tmp_path / name, images=array)
        with pytest.raises(InputError, match=name):
            ImageSet.open(tmp_path / name)


def test_bad_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", x_train=IMAGES, x_test=IMAGES)
    with pytest.raises(InputError, match=r"x_train uint8\(6, 8, 8, 3\).*named 'images'"):
        ImageSet.open(tmp_path / "two.npz")
    np.savez(tmp_path / "short.npz", images=IMAGES, labels=[1, 2])
    with pytest.raises(InputError, match=r"shape \(2,\); wanted \(6,\)"):
        ImageSet.open(tmp_path / "short.npz")
    whole = (tmp_path / "two.npz").read_bytes()
    write_files(tmp_path, {"cut.npz": whole[:300], "empty.npz": b"", "cut.npy": b"\x93NUMPY"})
    for name in ("cut.npz", "empty.npz", "cut.npy"):
        with pytest.raises(InputError, match="cannot be read"):
            ImageSet.open(tmp_path / name)


# --- WebDataset ----------------------------------------------------------------------------------


def sample(rows: Sequence[int], prefix: str = "") -> dict[str, bytes]:
    return {f"{prefix}{row:03d}.png": PNGS[row] for row in rows}


def test_tar_with_labels(tmp_path: Path) -> None:
    contents = {
        **sample([0, 1, 2, 3, 4, 5], "train/"),
        "train/000.cls": b"cat\n",
        "train/000.json": b'{"label": "no"}',
        "train/001.json": b'{"cls": 7, "text": "x"}',
        "train/002.json": b"{broken",
        "train/003.txt": b"caption",
        "train/004.json": b"[1]",
        "train/._000.png": b"resource fork",
    }
    images = ImageSet.open(write_tar(tmp_path / "a.tar", contents))
    assert images.ids == tuple(f"train/{i:03d}.png" for i in range(6))
    assert images.labels == ("cat", "7", None, None, None, None)
    assert [skip.id for skip in images.problems] == ["train/002.json"]
    check_pixels(images)
    check_pixels(pickle.loads(pickle.dumps(images)))


@pytest.mark.parametrize("form", ["folder", "pattern", "braces"])
def test_several_shards(tmp_path: Path, form: str) -> None:
    for shard in range(3):
        write_tar(tmp_path / f"shard-{shard:03d}.tar", sample([2 * shard, 2 * shard + 1]))
    source = {
        "folder": str(tmp_path),
        "pattern": f"{tmp_path}/shard-{{000..002}}.tar",
        "braces": f"{tmp_path}/shard-00{{0,1,2}}.tar",
    }[form]
    images = ImageSet.open(source)
    assert images.ids == tuple(f"shard-{i // 2:03d}.tar/{i:03d}.png" for i in range(6))
    assert images.location == source
    assert images.labels is None
    check_pixels(images)
    assert ImageSet.open(str(images.location)).ids == images.ids


def test_shards_of_one_name_in_two_folders(tmp_path: Path) -> None:
    for part in ("a", "b"):
        write_tar(tmp_path / part / "s.tar", sample([0]))
    assert ImageSet.open(tmp_path).ids == ("a/s.tar/000.png", "b/s.tar/000.png")


def test_missing_shards_and_wrong_ranges(tmp_path: Path) -> None:
    write_tar(tmp_path / "s-0.tar", sample([0]))
    with pytest.raises(InputError, match=r"s-1\.tar does not exist"):
        ImageSet.open(f"{tmp_path}/s-{{0..2}}.tar")
    for span in ("3..1", "0..999999999"):
        with pytest.raises(InputError, match="ascending range"):
            ImageSet.open(f"{tmp_path}/s-{{{span}}}.tar")


def test_every_truncation_of_a_tar_is_noticed(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "a.tar", sample([0, 1, 2])).read_bytes()
    end = whole.rstrip(b"\0").__len__()
    for size in [*range(0, end, 512), end - 100, 513, 1]:
        (tmp_path / "cut.tar").write_bytes(whole[:size])
        try:
            images = ImageSet.open(tmp_path / "cut.tar")
        except InputError:
            continue
        assert "damaged or cut off" in images.problems[0].reason
        assert images.problems[0].id == "cut.tar"
        (batch,) = images.batches(Preprocessing(8))
        assert len(batch.rows) + len(batch.skipped) == len(images)
        for row in batch.rows:
            np.testing.assert_array_equal(images[int(row)], IMAGES[int(images.ids[row][:3])])


def test_damaged_header_in_the_middle(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", sample([0, 1, 2]))
    content = bytearray(path.read_bytes())
    second = 512 + -(-len(PNGS[0]) // 512) * 512
    content[second : second + 512] = b"\xff" * 512
    path.write_bytes(content)
    images = ImageSet.open(path)
    assert images.ids == ("000.png",)
    assert f"byte {second}" in images.problems[0].reason


def test_odd_members(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for name, png in (("./a.png", PNGS[0]), ("a.png", PNGS[1]), ("b.png", b"")):
            info = tarfile.TarInfo(name)
            info.size = len(png)
            archive.addfile(info, io.BytesIO(png))
        link = tarfile.TarInfo("c.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
    images = ImageSet.open(path)
    assert images.ids == ("a.png", "b.png")
    check_pixels(images.select([0]), [0])
    assert {skip.id for skip in images.problems} == {"a.png", "c.png"}
    with pytest.raises(ImageError, match=r"b\.png: empty file"):
        images[1]


def test_no_tar_at_all(tmp_path: Path) -> None:
    for content in (b"", b"text" * 500):
        (tmp_path / "a.tar").write_bytes(content)
        with pytest.raises(InputError, match="damaged or cut off"):
            ImageSet.open(tmp_path / "a.tar")
    write_tar(tmp_path / "b.tar", sample([0]))
    images = ImageSet.open(tmp_path)
    assert images.ids == ("b.tar/000.png",)
    assert [skip.id for skip in images.problems] == ["a.tar"]


def test_shard_that_vanished(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", sample([0]))
    images = ImageSet.open(path)
    path.unlink()
    with pytest.raises(ImageError, match="archive cannot be read"):
        images[0]


def test_mixed_archives_are_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", sample([0]))
    write_parquet(tmp_path / "a.parquet", PNGS)
    with pytest.raises(InputError, match="mixes"):
        ImageSet.open(tmp_path)


# --- Python objects ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [list, tuple])
def test_lists(kind: type) -> None:
    check_pixels(ImageSet.open(kind(IMAGES)))
    images = ImageSet.open(kind(Image.fromarray(image) for image in IMAGES))
    assert images.location is None
    check_pixels(images)


def test_list_with_bad_items() -> None:
    images = ImageSet.open([IMAGES[0], "x", np.zeros((2, 2), np.int64), np.zeros((0, 3))])
    (batch,) = images.batches(Preprocessing(8))
    assert batch.rows.tolist() == [0]
    assert [row for row, _ in batch.skipped] == [1, 2, 3]
    assert "int64" in batch.skipped[1][1].reason


def test_list_is_copied() -> None:
    items = list(IMAGES)
    images = ImageSet.open(items)
    items.clear()
    check_pixels(images)


def test_lazily_opened_pil_images(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.png": PNGS[0], "cut.png": encode(random_images(1, 64)[0])[:5000]})
    with Image.open(tmp_path / "a.png") as good, Image.open(tmp_path / "cut.png") as bad:
        images = ImageSet.open([good, bad])
        (batch,) = images.batches(Preprocessing(8))
        assert batch.rows.tolist() == [0]
        assert "truncated" in batch.skipped[0][1].reason


def test_pil_image_that_cannot_be_converted_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(mode: str) -> Image.Image:
        raise ValueError("conversion not supported")

    broken = Image.new("CMYK", (8, 8))
    monkeypatch.setattr(broken, "convert", refuse)
    (batch,) = ImageSet.open([Image.fromarray(IMAGES[0]), broken]).batches(Preprocessing(8))
    assert batch.rows.tolist() == [0]
    assert batch.skipped == ((1, Skip("1", "damaged PIL image: conversion not supported")),)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "NoneType was given"),
        (5, "int was given"),
        ([], "holds no images"),
        ((), "holds no images"),
        (["a.png"], "manifest"),
        ([1, 2], "list of int"),
        ({"train": []}, r"dataset\['train'\]"),
        (iter([]), "map style"),
    ],
)
def test_unknown_objects(source: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ImageSet.open(source)


class Pairs:
    """A map-style data set of (image, label); counts what is asked of it."""

    def __init__(self, items: Sequence[Any]) -> None:
        self.items = items
        self.asked: list[int] = []

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, row: int) -> Any:
        self.asked.append(row)
        return self.items[row]


@pytest.mark.parametrize("form", ["pil", "float", "uint8", "hwc", "dict"])
def test_torch_data_set(form: str) -> None:
    import torch

    def item(image: NDArray[np.uint8], label: int) -> Any:
        tensor = torch.from_numpy(image.copy()).permute(2, 0, 1)
        if form == "dict":
            return {"image": tensor, "label": label}
        made = {
            "pil": Image.fromarray(image),
            "float": tensor.float() / 255,
            "uint8": tensor,
            "hwc": image,
        }[form]
        return made, torch.tensor(label) if form == "float" else label

    data = Pairs([item(image, row % 2) for row, image in enumerate(IMAGES)])
    images = ImageSet.open(data)
    assert data.asked == []
    check_pixels(images)
    data.asked.clear()
    subset = images.select([1, 2])
    assert data.asked == []
    assert subset.labels == ("1", "0")
    assert images.labels == ("0", "1") * 3
    assert data.asked == list(range(6))


def test_torch_targets_and_classes_are_used() -> None:
    data: Any = Pairs([(image, 0) for image in IMAGES])
    data.targets, data.classes = [0, 1, 0, 1, 0, 1], ["cat", "dog"]
    assert ImageSet.open(data).labels == ("cat", "dog") * 3
    assert data.asked == []


def test_torch_tensor_data_set_without_labels() -> None:
    import torch
    from torch.utils.data import TensorDataset

    images = ImageSet.open(TensorDataset(torch.from_numpy(IMAGES).permute(0, 3, 1, 2)))
    assert images.labels is None
    check_pixels(images)


def test_failing_data_set_items_are_skipped() -> None:
    class Failing(Pairs):
        def __getitem__(self, row: int) -> Any:
            if row == 1:
                raise KeyError("lost")
            return super().__getitem__(row)

    import torch

    bad = torch.full((3, 8, 8), -2.0)
    images = ImageSet.open(Failing([(IMAGES[0], "a"), None, (bad, "b"), (IMAGES[1], None)]))
    (batch,) = images.batches(Preprocessing(8))
    assert batch.rows.tolist() == [0, 3]
    assert "KeyError" in batch.skipped[0][1].reason
    assert "Normalize" in batch.skipped[1][1].reason
    assert images.labels == ("a", None, "b", None)


class FakeFeature:
    """Feature types of the `datasets` package, as far as they are looked at."""

    def __init__(self, dtype: str = "int64", names: list[str] | None = None) -> None:
        self.dtype, self.names = dtype, names


class FakeHuggingFace:
    """A `datasets.Dataset`: columns by name, rows by number; decoding is counted."""

    def __init__(self, table: dict[str, list[Any]], features: dict[str, Any]) -> None:
        self.table, self.features = table, features
        self.decoded = 0

    @property
    def column_names(self) -> list[str]:
        return list(self.table)

    def __len__(self) -> int:
        return len(next(iter(self.table.values())))

    def __getitem__(self, key: int | str) -> Any:
        if isinstance(key, str):
            return list(self.table[key])
        self.decoded += 1
        return {name: values[key] for name, values in self.table.items()}


class HuggingFaceImage:
    """Renamed below: sources look for a feature class called Image."""

    def __init__(self, decode: bool = True) -> None:
        self.decode, self.dtype = decode, "PIL.Image.Image"


HuggingFaceImage.__name__ = "Image"


class Casting(FakeHuggingFace):
    def cast_column(self, name: str, feature: HuggingFaceImage) -> FakeHuggingFace:
        assert not feature.decode
        cells = [{"bytes": encode(picture), "path": None} for picture in self.table[name]]
        return FakeHuggingFace(self.table | {name: cells}, self.features)


@pytest.mark.parametrize("kind", [FakeHuggingFace, Casting])
def test_hugging_face_data_set(kind: type[FakeHuggingFace]) -> None:
    table: dict[str, list[Any]] = {
        "picture": [Image.fromarray(image) for image in IMAGES],
        "label": [0, 1, 0, 1, 0, -1],
        "year": list(range(6)),
        "boxes": [[1, 2]] * 6,
    }
    features = {
        "picture": HuggingFaceImage(),
        "label": FakeFeature(names=["cat", "dog"]),
        "year": FakeFeature(),
        "boxes": FakeFeature("list"),
    }
    data = kind(table, features)
    images = ImageSet.open(data)
    assert images.labels == ("cat", "dog", "cat", "dog", "cat", None)
    assert images.metadata == {"year": tuple(range(6))}
    assert data.decoded == 0
    check_pixels(images)
    if kind is Casting:
        assert data.decoded == 0
        assert images.read_bytes(0) == PNGS[0]


def test_hugging_face_without_images() -> None:
    with pytest.raises(InputError, match="cast_column"):
        ImageSet.open(FakeHuggingFace({"text": ["a"]}, {"text": FakeFeature("string")}))


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
        again = ImageSet.open(images.location)
        assert again.ids == images.ids
        assert [again.content_key(i) for i in range(6)] == [images.content_key(i) for i in range(6)]


@given(st.lists(st.sampled_from(["a", "b", "c/d"]), min_size=1, max_size=3), st.integers(1, 12))
def test_brace_patterns_expand_to_every_combination(choices: list[str], last: int) -> None:
    names = sources._expand(f"x-{{{','.join(choices)}}}-{{000..{last}}}.tar")
    assert names == [f"x-{c}-{i:03d}.tar" for c in choices for i in range(last + 1)]


@given(st.binary(max_size=40))
def test_image_format_never_fails(head: bytes) -> None:
    assert sources.image_format(head) in {None, *_PLUGINS}


@pytest.mark.parametrize(
    ("value", "names", "wanted"),
    [
        (np.int64(3), None, "3"),
        (np.str_("x"), None, "x"),
        (b"cat", None, "cat"),
        (float("nan"), None, None),
        (1, ["a", "b"], "b"),
        (2, ["a", "b"], "2"),
        (-1, ["a"], None),
        ("", None, None),
        ([1, 0], None, "[1, 0]"),
    ],
)
def test_label_text(value: Any, names: list[str] | None, wanted: str | None) -> None:
    assert sources.label_text(value, names) == wanted


def test_hugging_face_metadata_of_any_form_is_survived(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"image": pa.array([{"bytes": PNGS[0]}]), "label": [1]})
    for described in ("{", "[]", json.dumps({"info": {"features": {"label": {"_type": "Value"}}}})):
        pq.write_table(
            table.replace_schema_metadata({"huggingface": described}), tmp_path / "a.parquet"
        )
        assert ImageSet.open(tmp_path / "a.parquet").labels == ("1",)
