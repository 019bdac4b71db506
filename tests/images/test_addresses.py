"""What of a source is meant: splits, columns of images, kinds of tar members, the pixel limit."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from gmvaluator import GMValuator, ImageSet, InputError
from gmvaluator.images.sources.address import Choice, join_address, split_address
from gmvaluator.images.sources.splits import split_of
from image_checks import PNGS, check_pixels, sample
from image_makers import encode, image_folder, random_images, write_files, write_parquet, write_tar

Call = Callable[..., tuple[int, str, str]]
QUICK = (
    *("--encoder", "pixels@8", "--rerank", "none", "--quality", "none", "--k", "2"),
    *("--no-cache", "--no-report", "--quiet"),
)


# --- addresses -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "choice",
    [
        Choice(),
        Choice(split="train"),
        Choice(image="a, b=c#d"),
        Choice("test", "seg.png", 10**9),
    ],
)
def test_an_address_is_read_as_it_is_written(choice: Choice) -> None:
    assert split_address(join_address("/data#1/x", choice)) == ("/data#1/x", choice)


@pytest.mark.parametrize(
    ("fragment", "message"),
    [
        ("splits=train", "ends with 'splits=train'; wanted NAME=VALUE after '#'"),
        ("split=", "ends with 'split='"),
        ("split=a,split=b", "ends with 'split=b'"),
        ("pixel_limit=0", "pixel_limit=0 was given; wanted a whole number ≥ 1"),
        ("pixel_limit=1e9", "pixel_limit=1e9 was given"),
        ("split=train", "has no choice of split"),
        ("image=jpg", "has no choice of image"),
        ("1", "does not exist"),
    ],
)
def test_a_choice_that_a_source_does_not_have(tmp_path: Path, fragment: str, message: str) -> None:
    image_folder(tmp_path / "images")
    with pytest.raises(InputError, match=message):
        ImageSet.open(f"{tmp_path / 'images'}#{fragment}")


def test_a_path_that_looks_like_an_address_is_a_path(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "a#split=train")
    images = ImageSet.open(folder)
    assert images.location == str(folder)
    limited = ImageSet.open(folder, pixel_limit=100)
    assert limited.location == f"{folder}#pixel_limit=100"
    assert ImageSet.open(limited.location).pixel_limit == 100


# --- splits --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("data/train-00000-of-00002.parquet", "train"),
        ("mnist-extra-00000-of-00001-a1b2.parquet", "extra"),
        ("default/test/0000.parquet", "test"),
        ("imagenet-val-000001.tar", "val"),
        ("Validation.parquet", "validation"),
        ("train/test.parquet", "test"),
        ("pictures/00000.tar", None),
        ("trainer.parquet", None),
    ],
)
def test_the_split_of_a_file(name: str, split: str | None) -> None:
    assert split_of(name) == split


def hugging_face(folder: Path) -> Path:
    for name, rows in (("train-00000-of-00002", 2), ("train-00001-of-00002", 2), ("test", 1)):
        write_parquet(folder / "data" / f"{name}.parquet", PNGS[:rows])
    write_files(folder, {"README.md": b"a data set"})
    return folder


def test_several_splits_are_not_joined_silently(tmp_path: Path) -> None:
    folder = hugging_face(tmp_path)
    wanted = (
        r"holds several splits, test \(1 file\), train \(2 files\); choose one, as in "
        r"'.*#split=train', or all of them: '.*#split=all'"
    )
    with pytest.raises(InputError, match=wanted):
        ImageSet.open(folder)
    for split, n in (("train", 4), ("test", 1), ("all", 5)):
        images = ImageSet.open(f"{folder}#split={split}")
        assert len(images) == n
        assert images.location == f"{folder}#split={split}"
    with pytest.raises(InputError, match=r"no split 'dev'; it has test \(1 file\), train"):
        ImageSet.open(f"{folder}#split=dev")


def test_one_split_needs_no_choice(tmp_path: Path) -> None:
    folder = hugging_face(tmp_path)
    (folder / "data" / "test.parquet").unlink()
    assert len(ImageSet.open(folder)) == 4
    assert ImageSet.open(folder).location == str(folder)


def test_shards_have_splits(tmp_path: Path) -> None:
    write_tar(tmp_path / "set-train-000000.tar", sample([0, 1]))
    write_tar(tmp_path / "set-val-000000.tar", sample([2]))
    with pytest.raises(InputError, match=r"several splits, train \(1 file\), val"):
        ImageSet.open(tmp_path)
    assert len(ImageSet.open(f"{tmp_path}#split=train")) == 2


def test_a_run_records_the_split_and_opens_it_again(tmp_path: Path, call: Call) -> None:
    folder, run = hugging_face(tmp_path / "set"), tmp_path / "run"
    code, _, err = call("value", folder, folder, "--out", run, *QUICK)
    assert (code, "choose one" in err) == (2, True)
    train, test = f"{folder}#split=train", f"{folder}#split=test"
    code, out, err = call("value", train, test, "--out", run, *QUICK)
    assert code == 0, err
    inputs = json.loads((run / "run.json").read_text())["inputs"]
    assert [inputs[side]["source"] for side in ("train", "generated")] == [train, test]
    code, out, _ = call("verify", run, "--quiet")
    assert code == 0, out


# --- columns of images ---------------------------------------------------------------------------


def columns_file(path: Path, columns: Mapping[str, Sequence[bytes]], **scalars: Any) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = {
        name: pa.array([{"bytes": content, "path": None} for content in contents], kind)
        for name, contents in columns.items()
    }
    pq.write_table(pa.table({**table, **scalars}), path)
    return path


def test_several_columns_of_images_ask_for_one(tmp_path: Path) -> None:
    file = columns_file(
        tmp_path / "a.parquet", {"conditioning": PNGS[::-1], "target": PNGS}, label=range(6)
    )
    with pytest.raises(
        InputError,
        match=r"several columns of images, 'conditioning', 'target'; choose one, as in "
        r"'.*a\.parquet#image=target'",
    ):
        ImageSet.open(file)
    images = ImageSet.open(f"{file}#image=target")
    check_pixels(images)
    assert images.location == f"{file}#image=target"
    assert images.notes == ()
    check_pixels(ImageSet.open(f"{tmp_path}#image=conditioning"), range(6)[::-1])
    with pytest.raises(InputError, match="no column 'label' of images; it has 'cond"):
        ImageSet.open(f"{file}#image=label")


def test_the_usual_column_is_taken_and_said(tmp_path: Path) -> None:
    file = columns_file(tmp_path / "a.parquet", {"mask": PNGS[::-1], "image": PNGS})
    images = ImageSet.open(file)
    check_pixels(images)
    assert images.notes == ("the images are those of column 'image', not of 'mask'",)
    assert images.location == f"{file}#image=image"
    check_pixels(ImageSet.open(images.location))


def test_the_only_binary_column_is_the_images(tmp_path: Path) -> None:
    """img2dataset writes such files."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = {"key": ["a", "b"], "jpg": PNGS[:2]}
    pq.write_table(pa.table(table), tmp_path / "one.parquet")
    check_pixels(ImageSet.open(tmp_path / "one.parquet"), [0, 1])
    pq.write_table(pa.table({**table, "hash": PNGS[2:4]}), tmp_path / "two.parquet")
    with pytest.raises(InputError, match="has the columns 'key', 'jpg', 'hash'; wanted 'image'"):
        ImageSet.open(tmp_path / "two.parquet")
    check_pixels(ImageSet.open(f"{tmp_path / 'two.parquet'}#image=jpg"), [0, 1])


class HuggingFace:
    """As much of a `datasets.Dataset` as is read."""

    def __init__(self, columns: dict[str, list[Any]]) -> None:
        kind = type("Image", (), {"__init__": lambda self, decode=True: None})
        self.columns = columns
        self.features = {name: kind() for name in columns}
        self.column_names = list(columns)

    def cast_column(self, name: str, feature: Any) -> HuggingFace:
        return self

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {name: cells[row] for name, cells in self.columns.items()}


def test_hugging_face_objects_of_several_columns() -> None:
    contents = [{"bytes": png, "path": None} for png in PNGS]
    with pytest.raises(InputError, match=r"choose one, as in dataset.select_columns\(\['target'"):
        ImageSet.open(HuggingFace({"source": contents[::-1], "target": contents}))
    images = ImageSet.open(HuggingFace({"mask": contents[::-1], "image": contents}))
    check_pixels(images)
    assert images.notes == ("the images are those of column 'image', not of 'mask'",)


# --- tar shards ----------------------------------------------------------------------------------


def test_several_images_of_a_sample_are_said(tmp_path: Path, call: Call) -> None:
    members = {
        f"{row:03d}.{kind}": png
        for row in range(3)
        for kind, png in (("png", PNGS[row]), ("mask.png", PNGS[row + 3]))
    }
    file = write_tar(tmp_path / "a.tar", members)
    images = ImageSet.open(file)
    assert len(images) == 6
    (note,) = images.notes
    assert note.startswith("some samples hold several images (png, mask.png), and all of them")
    assert f"'{file}#image=png'" in note
    chosen = ImageSet.open(f"{file}#image=png")
    check_pixels(chosen, [0, 1, 2])
    assert chosen.notes == ()
    assert ImageSet.open(f"{file}#image=mask.png").ids == tuple(
        f"{row:03d}.mask.png" for row in range(3)
    )
    with pytest.raises(InputError, match=r"have no image 'jpg'; they have png, mask\.png"):
        ImageSet.open(f"{file}#image=jpg")
    err = call("embed", file, "--out", tmp_path / "index", *QUICK[:-3], "--quiet")[2]
    assert f"Note: {file}: some samples hold several images" in err


def test_tables_beside_shards_are_no_second_set(tmp_path: Path) -> None:
    """The output of img2dataset: a table and statistics of each shard."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for shard in range(2):
        write_tar(tmp_path / f"{shard:05d}.tar", sample([shard]))
        table = {"url": ["u"], "key": ["k"], "caption": ["c"]}
        pq.write_table(pa.table(table), tmp_path / f"{shard:05d}.parquet")
        (tmp_path / f"{shard:05d}_stats.json").write_text("{}")
    images = ImageSet.open(tmp_path)
    check_pixels(images, [0, 1])
    assert images.ids == ("00000.tar/000.png", "00001.tar/001.png")
    assert images.notes == ("4 other files are left out",)
    pq.write_table(pa.table({"url": ["u"]}), tmp_path / "other.parquet")
    with pytest.raises(InputError, match=r"mixes .* by a pattern such as"):
        ImageSet.open(tmp_path)


# --- the pixel limit -----------------------------------------------------------------------------


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A folder of 6 images of 8 px and one of 30 px."""
    folder = image_folder(tmp_path / "train")
    (folder / "large.png").write_bytes(encode(random_images(1, 30)[0]))
    return folder


@pytest.fixture
def _low_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("decoding", "batching", "imageset"):
        monkeypatch.setattr(f"gmvaluator.images.{module}.PIXEL_LIMIT", 600)
    function: Any = ImageSet.open
    monkeypatch.setattr(function.__func__, "__kwdefaults__", {"pixel_limit": 600})


@pytest.mark.usefixtures("_low_limit")
def test_the_limit_of_a_run_is_kept_with_its_sources(
    tmp_path: Path, large: Path, call: Call
) -> None:
    generated, run = image_folder(tmp_path / "gen", 3, seed=1), tmp_path / "run"
    _, out, err = call("value", large, generated, "--out", tmp_path / "low", *QUICK)
    assert "6 training images valued" in out, err
    given: tuple[Any, ...] = ("--pixel-limit", "900")
    _, out, err = call("value", large, generated, "--out", run, *given, *QUICK)
    assert "7 training images valued" in out, err
    assert call("verify", run, "--quiet")[0] == 0
    assert call("report", run, "--quiet")[0] == 0
    out = call("curate", run, "--out", tmp_path / "c", "--lowest", "7", "--json")[1]
    assert json.loads(out)["left_out"] == 0
    moved = large.rename(tmp_path / "moved")
    given = ("--train-images", moved, "--pixel-limit", "900", "--quiet", "--json")
    out = call("curate", run, "--out", tmp_path / "d", "--lowest", "7", *given)[1]
    assert json.loads(out)["left_out"] == 0
    index = tmp_path / "index"
    given = ("--pixel-limit", "900", *QUICK[:-2], "--quiet")
    assert call("embed", moved, "--out", index, *given)[0] == 0
    assert json.loads((index / "index.json").read_text())["location"].endswith("#pixel_limit=900")


def test_an_address_has_its_own_limit(large: Path) -> None:
    images = ImageSet.open(f"{large}#pixel_limit=899", pixel_limit=10**6)
    assert images.pixel_limit == 899
    settings: dict[str, Any] = {"encoder": "pixels@8", "rerank": "none", "quality": "none"}
    valuator = GMValuator(**settings, k=2, null="off", cache=False).fit(images)
    valuation = valuator.value(random_images(2))
    assert [skip.id for _, skip in valuation.skipped] == ["large.png"]
    joined = ImageSet.open([["a/", f"{large}#pixel_limit=899"], ["b/", f"{large}#pixel_limit=900"]])
    assert joined.pixel_limit == 900
