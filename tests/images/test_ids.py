"""Ids of the same letters, composed and decomposed, name the same image everywhere."""

from __future__ import annotations

import json
import tarfile
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from gmvaluator import GMValuator, ImageSet, InputError, Valuation
from gmvaluator.images.ids import NOWHERE, SEVERAL, code_points, find_distinct, find_ids
from gmvaluator.payout.owners import read_owners
from image_makers import encode, image_folder, random_images, write_files

Call = Callable[..., tuple[int, str, str]]
Form = Literal["NFC", "NFD"]

NFC, NFD = "\u00e9.png", "e\u0301.png"
UNCLEAR = "\u1ea1\u0307"
TWO_MARKS = ("a\u0323\u0307", "a\u0307\u0323")  # both are UNCLEAR once composed
QUICK = (
    *("--encoder", "pixels@8", "--rerank", "none", "--quality", "none"),
    *("--k", "3", "--no-cache", "--quiet"),
)


def test_the_same_id_comes_first_and_the_same_letters_second() -> None:
    assert NFC != NFD
    assert find_ids([NFC, NFD, "a", "b"], ["a", NFD]).tolist() == [1, 1, 0, NOWHERE]
    assert find_ids([NFC, NFD], [NFD, NFC]).tolist() == [1, 0]
    assert find_ids([UNCLEAR], TWO_MARKS).tolist() == [SEVERAL]
    assert find_ids(TWO_MARKS, TWO_MARKS).tolist() == [0, 1]


def test_distinct_images_share_no_row() -> None:
    assert find_distinct([NFC, NFD], [NFD]).tolist() == [NOWHERE, 0]
    assert find_distinct([NFC, "x"], ["x", NFD]).tolist() == [1, 0]
    assert find_distinct(TWO_MARKS, [UNCLEAR]).tolist() == [NOWHERE, NOWHERE]
    assert find_distinct(["a"], []).tolist() == [NOWHERE]


def test_code_points_tell_names_apart() -> None:
    assert code_points(NFC) == "'\u00e9.png' (U+00E9)"
    assert code_points(NFD) == "'e\u0301.png' (U+0065 U+0301)"
    assert code_points("plain.png") == "'plain.png'"


# --- a set has no two ids of the same letters ---------------------------------------------------


def sources_of_both(folder: Path) -> dict[str, Any]:
    """Two images of ids that look alike, in each kind of source that names its images."""
    images = {name: encode(image) for name, image in zip((NFC, NFD), random_images(2), strict=True)}
    write_files(folder / "folder", images)
    (folder / "list.csv").write_text(f"path,id\n1.png,{NFC}\n2.png,{NFD}\n", encoding="utf-8")
    with tarfile.open(folder / "shard.tar", "w") as shard:
        for name in images:
            shard.add(folder / "folder" / name, name)
    for name, content in images.items():
        write_files(folder / name.removesuffix(".png"), {name: content})
    joined = [("", folder / name.removesuffix(".png")) for name in images]
    return {
        "folder": folder / "folder",
        "table": folder / "list.csv",
        "shard": folder / "shard.tar",
        "joined": joined,
    }


@pytest.mark.parametrize("kind", ["folder", "table", "shard", "joined"])
def test_a_set_with_ids_that_look_alike_is_refused(tmp_path: Path, kind: str) -> None:
    message = "hold 2 images, 1 of different ids" if kind == "joined" else "has the id .* 2 times"
    with pytest.raises(InputError, match=message) as refused:
        ImageSet.open(sources_of_both(tmp_path)[kind])
    if kind != "joined":
        assert all(code_points(name) in str(refused.value) for name in (NFC, NFD))


def test_a_selection_and_scores_with_ids_that_look_alike_are_refused() -> None:
    with pytest.raises(InputError, match="2 ids; wanted 2 distinct"):
        ImageSet.open(random_images(2)).select([0, 1], ids=[NFC, NFD])
    with pytest.raises(InputError, match=r"have the id .*\(U\+00E9\) or .*\(U\+0065 U\+0301\)"):
        Valuation.from_scores(np.ones((2, 1)), [NFC, NFD], ["a"])


def test_extend_refuses_an_id_that_the_run_has_in_other_code_points(
    tmp_path: Path, call: Call
) -> None:
    train = image_folder(tmp_path / "train", 6)
    for folder, name, seed in (("one", NFC, 1), ("two", NFD, 2)):
        write_files(tmp_path / folder, {name: encode(random_images(1, seed=seed)[0])})
    run = tmp_path / "run"
    assert call("value", train, tmp_path / "one", "--out", run, "--no-report", *QUICK)[0] == 0
    code, _, err = call("extend", run, tmp_path / "two", "--quiet")
    assert code == 2
    assert "1 new images have ids that the run has already ('e\u0301.png' (U+0065 U+0301))" in err
    assert call("extend", run, tmp_path / "two", "--prefix", "b/", "--quiet")[0] == 0
    assert Valuation.load(run).generated_ids == (NFC, f"b/{NFD}")


# --- labels --------------------------------------------------------------------------------------


def test_labels_of_the_same_letters_are_one_label(tmp_path: Path) -> None:
    contents = [encode(image) for image in random_images(2)]
    for folder, label in (("train", "\u00e9"), ("generated", "e\u0301")):
        write_files(tmp_path / folder / label, {"a.png": contents[0]})
    write_files(tmp_path / "train" / "e\u0301", {"b.png": contents[1]})
    sets = [ImageSet.open(tmp_path / folder) for folder in ("train", "generated")]
    assert [images.labels for images in sets] == [("\u00e9",) * 2, ("\u00e9",)]


# --- owners --------------------------------------------------------------------------------------


def owners_file(folder: Path, *rows: tuple[str, str]) -> Path:
    file = folder / "owners.csv"
    lines = ("train_id,owner", *(",".join(row) for row in rows))
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def test_owners_by_letters(tmp_path: Path) -> None:
    file = owners_file(tmp_path, (NFC, "ann"), ("a", "bob"), ("\u00fc", "cid"))
    ownership = read_owners(file, ["a", NFD], skipped=["u\u0308"])
    assert [ownership.owners[group] for group in ownership.groups] == ["bob", "ann"]
    assert ownership.rows.tolist() == [0, 1]
    assert ownership.n_skipped == 1


def test_owners_of_ids_that_look_alike(tmp_path: Path) -> None:
    file = owners_file(tmp_path, (UNCLEAR, "ann"))
    with pytest.raises(InputError, match=r"line 2 \('.+' \(U\+1EA1 U\+0307\)\) may mean several"):
        read_owners(file, TWO_MARKS)
    file = owners_file(tmp_path, (TWO_MARKS[1], "ann"), (TWO_MARKS[0], "bob"))
    assert read_owners(file, TWO_MARKS).groups.tolist() == [1, 0]


# --- a folder that was copied between systems ----------------------------------------------------


def spelled(folder: Path, form: Form, n: int = 24, seed: int = 0) -> Path:
    """A folder whose order changes with the spelling: f sorts between e + accent and é."""
    for row, image in enumerate(random_images(n, seed=seed)):
        name = f"{'éf'[row % 2]}{row:02d}.png"
        place = folder / unicodedata.normalize(form, "ü") / unicodedata.normalize(form, name)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(encode(image))
    bad = folder / unicodedata.normalize(form, "ö.png")
    bad.write_bytes(b"bad")
    return folder


@pytest.fixture
def run(tmp_path: Path, call: Call) -> Path:
    train = spelled(tmp_path / "train", "NFD")
    generated = spelled(tmp_path / "generated", "NFD", 4, seed=1)
    holdout = spelled(tmp_path / "holdout", "NFD", 6, seed=2)
    given = ("--out", tmp_path / "run", "--holdout", holdout, *QUICK)
    code, _, err = call("value", train, generated, *given)
    assert code == 0, err
    return tmp_path / "run"


@pytest.fixture
def copies(tmp_path: Path) -> dict[str, Path]:
    """The same images, composed."""
    return {
        "train": spelled(tmp_path / "copy" / "train", "NFC"),
        "generated": spelled(tmp_path / "copy" / "generated", "NFC", 4, seed=1),
        "holdout": spelled(tmp_path / "copy" / "holdout", "NFC", 6, seed=2),
    }


def moved(copies: dict[str, Path]) -> tuple[Any, ...]:
    train, generated, holdout = copies["train"], copies["generated"], copies["holdout"]
    places = ("--train-images", train, "--generated-images", generated, "--holdout", holdout)
    return (*places, "--quiet")


def test_the_spelling_changes_ids_and_their_order(run: Path, copies: dict[str, Path]) -> None:
    ids, before = ImageSet.open(copies["train"]).ids, Valuation.load(run).train_ids
    assert not set(ids) & set(before)
    there = [name for name in ids if name != "ö.png"]
    assert [unicodedata.normalize("NFC", name) for name in before] != there


def test_verify_knows_the_images_by_their_letters(
    run: Path, copies: dict[str, Path], call: Call
) -> None:
    code, out, _ = call("verify", run, *moved(copies))
    assert code == 0, out
    assert "not checked" not in out
    (copies["train"] / "ä.png").write_bytes(encode(random_images(1)[0]))
    code, out, _ = call("verify", run, *moved(copies))
    assert code == 0
    assert "1 were not there when the run was made: ä.png" in out


def test_verify_knows_the_holdout_of_an_earlier_run(
    tmp_path: Path, copies: dict[str, Path], monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    holdout = spelled(tmp_path / "holdout", "NFD", 6, seed=2)
    given = ("--out", tmp_path / "run", "--holdout", holdout, "--no-report", *QUICK)
    with monkeypatch.context() as earlier:
        earlier.setattr("gmvaluator.engine.null_sample.letters", lambda name: name)
        assert call("value", copies["train"], copies["generated"], *given)[0] == 0
    code, out, _ = call("verify", tmp_path / "run", "--holdout", copies["holdout"], "--quiet")
    assert code == 0, out
    assert "gives the same 6 images to compare with" in out


def test_a_run_is_extended_and_valued_again_with_them(
    run: Path, copies: dict[str, Path], tmp_path: Path, call: Call
) -> None:
    more = spelled(tmp_path / "more", "NFC", 2, seed=3)
    given = ("--train-images", copies["train"], "--quiet")
    longer = tmp_path / "longer"
    code, _, err = call("extend", run, more, "--prefix", "x/", "--out", longer, *given)
    assert code == 0, err
    assert Valuation.load(longer).train_ids == Valuation.load(run).train_ids
    # the same holdout, whose damaged image is listed once
    code, _, err = call(
        *("extend", run, more, "--prefix", "y/", "--out", tmp_path / "moved", "--quiet"),
        *("--train-images", copies["train"], "--holdout", copies["holdout"]),
    )
    assert code == 0, err
    left_out = [side for side, _ in Valuation.load(tmp_path / "moved").skipped]
    assert sorted(left_out) == ["generated", "generated", "holdout", "train"]
    again = tmp_path / "again"
    places = ("--train-images", copies["train"], "--no-report", "--quiet", "--no-cache")
    code, _, err = call("value", run, copies["generated"], "--out", again, *places)
    assert code == 0, err
    np.testing.assert_array_equal(Valuation.load(again).values, Valuation.load(run).values)
    # the new run records where its images are, and is intact
    record = json.loads((again / "run.json").read_text())
    assert record["inputs"]["train"]["source"] == str(copies["train"])
    assert call("verify", again, "--quiet")[0] == 0


def test_stability_audit_and_curate_read_them(
    run: Path, copies: dict[str, Path], tmp_path: Path, call: Call
) -> None:
    places = ("--train-images", copies["train"], "--generated-images", copies["generated"])
    code, _, err = call("stability", run, "--encoder", "pixels@4", *moved(copies))
    assert code == 0, err
    code, _, err = call("audit", run, *places, "--encoder", "pixels@8", "--quiet")
    assert code == 0, err
    out = tmp_path / "curated"
    given = ("--train-images", copies["train"], "--lowest", "3", "--quiet")
    code, printed, _ = call("curate", run, "--out", out, *given, "--json")
    assert code == 0
    assert json.loads(printed)["left_out"] == 0


def test_an_index_finds_them(tmp_path: Path, copies: dict[str, Path]) -> None:
    train = spelled(tmp_path / "train", "NFD")
    settings: dict[str, Any] = {"encoder": "pixels@8", "rerank": "l2", "quality": "none", "k": 3}
    GMValuator(**settings, null="off", cache=False).fit(train).save(tmp_path / "index")
    generated = random_images(2, seed=4)
    before = GMValuator.load(tmp_path / "index", cache=False).value(generated)
    loaded = GMValuator.load(tmp_path / "index", train=copies["train"], cache=False)
    np.testing.assert_array_equal(loaded.value(generated).values, before.values)


def test_contributors_by_letters(run: Path) -> None:
    valuation = Valuation.load(run)
    name = unicodedata.normalize("NFC", valuation.generated_ids[0])
    assert name not in valuation.generated_ids
    assert valuation.contributors(name).ids == valuation.contributors(0).ids
    with pytest.raises(InputError, match=r"has id 'ñ' \(U\+00F1\)"):
        valuation.contributors("ñ")


@pytest.mark.parametrize(("on_disk", "written"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_a_manifest_finds_files_by_their_letters(
    tmp_path: Path, on_disk: Form, written: Form
) -> None:
    spelled(tmp_path, on_disk, 2)
    # the folder as on disk, the file otherwise, as a program that joins the two writes it
    folder = unicodedata.normalize(on_disk, "ü")
    names = [unicodedata.normalize(written, name) for name in ("ü/é00.png", "ü/f01.png")]
    names.append(f"{folder}/{unicodedata.normalize(written, 'é00.png')}")
    rows = "".join(f"{name},{row}\n" for row, name in enumerate(names))
    (tmp_path / "list.csv").write_text(f"path,id\n{rows}", encoding="utf-8")
    images = ImageSet.open(tmp_path / "list.csv")
    np.testing.assert_array_equal(images[0], random_images(2)[0])
    np.testing.assert_array_equal(images[1], random_images(2)[1])
    np.testing.assert_array_equal(images[2], random_images(2)[0])
