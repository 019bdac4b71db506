"""Many images in one file: Parquet, NumPy arrays and WebDataset shards."""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gmvaluator.errors import ImageError, InputError
from gmvaluator.images import ImageSet, Preprocessing
from gmvaluator.images.sources import open_source, parquet
from gmvaluator.images.sources.arrays import ArrayReader
from image_checks import IMAGES, PNGS, check_pixels, sample
from image_makers import write_files, write_parquet, write_tar

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
    assert images.ids == ("b.png",)
    assert images.notes == ("1 other file is left out",)


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
    monkeypatch.setattr(parquet, "CACHE_BYTES", 3 * len(PNGS[0]))
    path = write_parquet(tmp_path / "a.parquet", PNGS, row_group_size=1)
    listing = open_source(path)
    reader = listing.reader
    assert isinstance(reader, parquet.ParquetReader)
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
    with pytest.raises(InputError, match="has the columns 'text'"):
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
    reader = open_source(tmp_path / "a.npy").reader
    assert isinstance(reader, ArrayReader)
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
