"""Which files of a folder are images, and what becomes of the others."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gmvaluator import GMValuator, ImageSet, InputError, RunError, Valuation
from gmvaluator.errors import AddedWarning
from gmvaluator.images import Preprocessing
from image_checks import PNGS, only
from image_makers import encode, image_folder, random_images, write_files

Call = Callable[..., tuple[int, str, str]]

SETTINGS: dict[str, Any] = {
    "encoder": "pixels@8",
    "rerank": "none",
    "quality": "none",
    "null": "off",
    "k": 3,
    "cache": False,
}
QUICK = (
    *("--encoder", "pixels@8", "--rerank", "none", "--quality", "none"),
    *("--k", "3", "--no-cache", "--quiet"),
)
BESIDE = {
    "Thumbs.db": b"\xd0\xcf\x11\xe0",
    "README.md": b"BMW and P5 cars",
    "metadata.jsonl": b"{}",
    "000.txt": b"a caption",
    "empty": b"",
}


def reasons(images: ImageSet) -> dict[str, str]:
    return {skip.id: skip.reason for _, skip in only(images.batches(Preprocessing(8))).skipped}


def test_suffix_or_first_bytes_say_what_an_image_is(tmp_path: Path) -> None:
    images = {"a.png": PNGS[0], "noextension": PNGS[1], "empty.jpg": b"", "text.png": b"hello"}
    hidden = {".DS_Store": b"x", ".git/config.png": PNGS[0]}
    write_files(tmp_path, {**images, **BESIDE, **hidden})
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    (tmp_path / "gone.txt").symlink_to("nowhere.txt")
    opened = ImageSet.open(tmp_path)
    assert opened.ids == ("a.png", "empty.jpg", "gone.png", "noextension", "text.png")
    assert opened.left_out.files == 6
    assert opened.notes == ("6 other files are left out",)
    assert opened.problems == ()
    skipped = reasons(opened)
    assert skipped.keys() == {"empty.jpg", "gone.png", "text.png"}
    assert skipped["text.png"].startswith("not an image file")
    assert skipped["empty.jpg"] == "empty file"
    assert skipped["gone.png"] == "file not found"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC, a format that is not read here"),
        ("photo", b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC, a format"),
        ("a.jxl", b"\xff\x0a" + bytes(30), "JPEG XL, a format"),
        ("b", b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(30), "JPEG XL, a format"),
        ("a.jp2", b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(30), "JPEG 2000, a format"),
        ("a.HEIF", b"nonsense", "not an image file"),
    ],
)
def test_formats_that_are_not_read_are_images_with_advice(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    write_files(tmp_path, {"z.png": PNGS[0], name: content})
    images = ImageSet.open(tmp_path)
    assert images.ids == tuple(sorted((name, "z.png")))
    assert reasons(images)[name].startswith(reason)
    assert reasons(ImageSet.open([content, PNGS[0]]))["0"].startswith(reason)


def test_an_avif_in_a_heif_container_is_read(tmp_path: Path) -> None:
    content = encode(random_images(1, 16)[0], "AVIF")
    renamed = content[:8] + b"mif1" + content[12:]
    assert b"avif" in renamed[16:40]
    (tmp_path / "a.avif").write_bytes(renamed)
    assert ImageSet.open(tmp_path)[0].shape == (16, 16, 3)


def test_a_pillow_without_a_codec_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import AvifImagePlugin

    monkeypatch.setattr(AvifImagePlugin, "SUPPORTED", False)
    content = encode(random_images(1, 16)[0], "AVIF")
    # readers are made once for each limit: no other test has this one
    images = ImageSet.open([content], pixel_limit=123_457)
    assert reasons(images) == {"0": "AVIF needs a newer Pillow: pip install -U pillow"}


def test_a_folder_of_other_files_says_so(tmp_path: Path) -> None:
    write_files(tmp_path, BESIDE)
    with pytest.raises(InputError, match=r"holds no images \(5 other files are left out\)"):
        ImageSet.open(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_that_cannot_be_read_is_no_image_unless_its_name_says_so(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.png": PNGS[0], "b.png": PNGS[1], "c": PNGS[2]})
    for name in ("b.png", "c"):
        (tmp_path / name).chmod(0)
    assert ImageSet.open(tmp_path).ids == ("a.png", "b.png")


def test_only_results_of_this_package_are_left_out(tmp_path: Path) -> None:
    """A class may be called run, and have a file run.json or index.json."""
    files = {"run/run.json": b"{}", "run/a.png": PNGS[0], "cats/index.json": b"{}"}
    write_files(tmp_path, {**files, "cats/b.png": PNGS[1]})
    assert ImageSet.open(tmp_path).ids == ("cats/b.png", "run/a.png")


def test_results_beside_the_images_are_no_images(tmp_path: Path, call: Call) -> None:
    train = image_folder(tmp_path / "train", 8)
    generated = image_folder(tmp_path / "generated", 3, seed=1)
    before = ImageSet.open(train).ids
    run = train / "run"
    assert call("value", train, generated, "--out", run, *QUICK)[0] == 0
    assert call("embed", train, "--out", train / "index", *QUICK)[0] == 0
    assert call("curate", run, "--out", train / "class0" / "curated", "--quiet")[0] == 0
    images = ImageSet.open(train)
    assert images.ids == before
    assert images.left_out.folders == ("class0/curated", "index", "run")
    assert images.notes == ("3 folders of results (class0/curated, index, run) are left out",)
    code, out, _ = call("verify", run, "--quiet")
    assert code == 0, out
    # a folder of results that is named itself is listed
    curated = ImageSet.open(train / "class0" / "curated")
    assert len(curated) > 0


def test_other_files_are_one_line_and_no_concern_of_strict_and_verify(
    tmp_path: Path, call: Call
) -> None:
    train = write_files(image_folder(tmp_path / "train", 8), BESIDE)
    generated = image_folder(tmp_path / "generated", 3, seed=1)
    run = tmp_path / "run"
    code, out, err = call("value", train, generated, "--out", run, "--strict", *QUICK)
    assert code == 0, err
    assert err == f"Note: {train}: 5 other files are left out\n"
    assert "skipped" not in out
    record = json.loads((run / "run.json").read_text())
    assert record["images"]["train"]["left_out"] == {"files": 5}
    assert "left_out" not in record["images"]["generated"]
    write_files(train, {"later.txt": b"x", "class1/.note": b"x"})
    code, out, _ = call("verify", run, "--quiet")
    assert code == 0, out
    write_files(train, {"later.png": PNGS[0]})
    code, out, _ = call("verify", run, "--quiet")
    assert code == 0
    assert "were not there when the run was made: later.png" in out


# --- an index finds its images by id -------------------------------------------------------------


def index_of(train: Path, **changes: Any) -> Path:
    folder = train.parent / "index"
    GMValuator(**SETTINGS | changes).fit(train).save(folder)
    return folder


@pytest.mark.parametrize("rerank", ["none", "l2"])
def test_files_that_come_first_do_not_ask_for_a_new_index(tmp_path: Path, rerank: str) -> None:
    train = write_files(image_folder(tmp_path / "train", 12), {"class0/bad.png": b"x"})
    generated = random_images(3, seed=1)
    folder = index_of(train, rerank=rerank)
    wanted = GMValuator.load(folder, cache=False).value(generated)
    write_files(train, {"AAA.txt": b"x", "AAA.png": PNGS[0], "class0/000a.png": PNGS[1]})
    with pytest.warns(AddedWarning, match="2 of the training images were added since index"):
        valuation = GMValuator.load(folder, cache=False).value(generated)
    assert valuation.train_ids == wanted.train_ids
    assert (valuation.values == wanted.values).all()


def test_an_image_that_is_gone_is_named(tmp_path: Path) -> None:
    train = image_folder(tmp_path / "train", 12)
    folder = index_of(train)
    (train / "class1" / "003.png").unlink()
    with pytest.raises(RunError, match=r"no longer lists 1 of the 12 images .*'class1/003\.png'"):
        GMValuator.load(folder, cache=False)


# --- a run finds its images by id ----------------------------------------------------------------

VERBS = {
    "match": ("run", "more"),
    "value": ("run", "more", "--out", "again", "--no-report"),
    "extend": ("run", "more", "--prefix", "b/"),
    "curate": ("run", "--out", "curated"),
    "stability": ("run", "--k", "2"),
    "audit": ("run", "--encoder", "pixels@8"),
    "report": ("run",),
}


@pytest.fixture
def grown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose folders have gained images, a damaged image among the training images."""
    monkeypatch.chdir(tmp_path)
    train = write_files(image_folder(tmp_path / "train", 24), {"class0/bad.png": b"x"})
    for seed, name in enumerate(("generated", "more"), start=1):
        image_folder(tmp_path / name, 3, seed=seed)
    valuator = GMValuator(**SETTINGS).fit(train)
    valuator.value(tmp_path / "generated").save(tmp_path / "run")
    write_files(train, {"AAA.png": PNGS[0], "class1/new.png": PNGS[1]})
    return tmp_path


@pytest.mark.filterwarnings("default::gmvaluator.errors.AddedWarning")
@pytest.mark.parametrize("verb", VERBS)
def test_a_run_leaves_out_images_that_were_added_and_says_so_once(
    grown: Path, verb: str, call: Call
) -> None:
    code, _, err = call(verb, *VERBS[verb], "--quiet")
    assert code == 0, err
    line = "2 of the training images were added since run {} was made, such as 'AAA.png'"
    assert [err.count(line.format(run)) for run in ("run", grown / "run")].count(1) == 1
    assert err.startswith("Warning: ")
    assert err.count("\n") == 1


def test_a_run_of_a_grown_folder_values_as_before(grown: Path, call: Call) -> None:
    wanted = Valuation.load(grown / "run")
    with pytest.warns(AddedWarning):
        valuation = GMValuator.refit(grown / "run", cache=False).value(grown / "generated")
    assert valuation.train_ids == wanted.train_ids
    assert (valuation.values == wanted.values).all()
    assert valuation.skipped == wanted.skipped
    valuation.save(grown / "again")
    code, out, _ = call("verify", grown / "again", "--quiet")
    assert code == 0, out
    assert "2 were not there when the run was made: AAA.png, class1/new.png" in out


def test_a_run_that_lacks_an_image_is_refused_whatever_was_added(grown: Path) -> None:
    (grown / "train" / "class1" / "003.png").unlink()
    with pytest.raises(RunError, match="have changed since"):
        GMValuator.refit(grown / "run", cache=False)


@pytest.mark.filterwarnings("default::gmvaluator.errors.AddedWarning")
def test_generated_images_that_were_added_are_left_out(grown: Path, call: Call) -> None:
    write_files(grown / "generated", {"AAA.png": PNGS[2]})
    code, _, err = call("stability", "run", "--k", "2", "--train-images", "train", "--quiet")
    assert code == 0, err
    assert "1 of the generated images were added since" in err


# --- training images that are generated ones -----------------------------------------------------


def test_a_training_folder_that_holds_the_generated_images(tmp_path: Path, call: Call) -> None:
    train = image_folder(tmp_path / "train", 8)
    generated = image_folder(train / "drawn", 3, seed=1)
    out = call("value", train, generated, "--out", tmp_path / "run", *QUICK)[1]
    line = "3 of 3 generated images are training images, byte for byte"
    assert f"{line}: {generated} lies in {train}\n" in out
    out = call("value", generated, generated, "--out", tmp_path / "same", *QUICK)[1]
    assert f"{line}: both sets are the same\n" in out
    elsewhere = write_files(tmp_path / "copy", {"a.png": PNGS[0]})
    write_files(train, {"z.png": PNGS[0]})
    printed = call("value", train, elsewhere, "--out", tmp_path / "c", "--json", *QUICK)[1]
    assert json.loads(printed)["generated_in_train"] == 1
    apart = image_folder(tmp_path / "apart", 3, seed=2)
    out = call("value", train, apart, "--out", tmp_path / "other", *QUICK)[1]
    assert "byte for byte" not in out
