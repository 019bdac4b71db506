"""Near copies: laying images over each other, the threshold, and what an audit writes."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image, ImageOps

from gmvaluator import GMValuator, ImageSet, InputError, RunError
from gmvaluator.audit.align import PLACEMENTS, SIDE, aligned_distances, grey_pixels, laid_over
from gmvaluator.audit.findings import Audit, audit_run, check_audit_output
from gmvaluator.audit.near_copies import CopyFinder, CopySettings
from gmvaluator.cli import cli
from gmvaluator.runs.verify import verify_run
from image_makers import encode, write_files

Digits = tuple[NDArray[np.uint8], NDArray[np.int64]]
N_TRAIN = 120
# quick encoders: what the audit adds is not theirs
QUICK = CopySettings(encoder="pixels@7", candidates=8)


def copies_of(images: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
    """(b, S, S) grey images as their copies under one alteration of `ALTERATIONS`."""
    return np.stack([np.asarray(ALTERATIONS[name](Image.fromarray(image))) for image in images])


def compressed(image: Image.Image, quality: int) -> Image.Image:
    return Image.open(io.BytesIO(encode(image, "JPEG", quality=quality)))


def cropped(image: Image.Image, share: float) -> Image.Image:
    """`share` of each side is cut off; the rest is resized to the size of the whole."""
    side = image.width
    box = (share * side, share * side, (1 - share) * side, (1 - share) * side)
    return image.resize(image.size, Image.Resampling.BILINEAR, box)


ALTERATIONS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "identity": lambda image: image,
    "flip": ImageOps.mirror,
    "JPEG 90": partial(compressed, quality=90),
    "JPEG 50": partial(compressed, quality=50),
    "crop 5 %": partial(cropped, share=0.05),
    "crop 10 %": partial(cropped, share=0.1),
    "rotation 5°": lambda image: image.rotate(5, Image.Resampling.BILINEAR),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, digits: Digits) -> Path:
    """`train` (120 digits), `generated` (10 new ones and copies of four), and their `run`."""
    folder = tmp_path_factory.mktemp("audited")
    images = digits[0]
    write_files(folder / "train", {f"{i:03d}.png": encode(images[i]) for i in range(N_TRAIN)})
    generated = {f"new{i}.png": encode(images[i]) for i in range(200, 210)}
    generated |= {
        "same.png": encode(images[0]),
        "<b>flip&.png": encode(copies_of(images[1:2], "flip")[0]),
        "crop.png": encode(copies_of(images[2:3], "crop 5 %")[0]),
        "jpeg.jpg": encode(images[3], "JPEG", quality=50),
    }
    write_files(folder / "generated", generated)
    valuator = GMValuator(encoder="pixels@7", rerank="none", quality="none", k=2, cache=False)
    valuator.fit(folder / "train").value(folder / "generated").save(folder / "run")
    return folder


@pytest.fixture(scope="module")
def found(made: Path) -> Audit:
    return audit_run(made / "run", settings=QUICK, cache=False)


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "home")


def test_every_copy_is_found_and_no_new_digit(found: Audit) -> None:
    generated, train = found.run.generated.ids, found.run.train.ids
    assert {generated[pair.generated]: train[pair.train] for pair in found.copies} == {
        "same.png": "000.png",
        "<b>flip&.png": "001.png",
        "crop.png": "002.png",
        "jpeg.jpg": "003.png",
    }
    placements = {generated[pair.generated]: pair.placement for pair in found.copies}
    assert placements["same.png"] == "as it is"
    assert placements["<b>flip&.png"] == "mirrored"
    assert "cropped by 5 %" in placements["crop.png"]
    assert found.n_audited == 14


def test_an_audit_is_the_contract_and_belongs_to_its_run(made: Path, found: Audit) -> None:
    record = found.save(overwrite=True)
    table = pq.read_table(made / "run" / "audit.parquet")
    columns = {field.name: field.type for field in table.schema}
    assert columns == {
        "generated_id": pa.string(),
        "train_id": pa.string(),
        "distance": pa.float64(),
        "is_copy": pa.bool_(),
        "rank": pa.int64(),
        "placement": pa.string(),
    }
    rows = table.to_pylist()
    best = [row for row in rows if row["rank"] == 1]
    assert [row["generated_id"] for row in best] == list(found.run.generated.ids)
    told = json.loads(record.read_text())
    assert all((row["distance"] <= told["threshold"]) == row["is_copy"] for row in rows)
    assert (told["n_copies"], told["n_audited"], told["n_train"]) == (4, 14, N_TRAIN)
    assert told["run_seal"] == found.run.seal
    checks = {check.name: check for check in verify_run(made / "run").checks}
    assert checks["audit.json"].state == "ok"


def test_an_audit_that_was_edited_or_is_of_another_run_is_told(
    home: Path, made: Path, found: Audit
) -> None:
    found.save(overwrite=True)
    for name in ("audit.json", "audit.parquet"):
        shutil.copy(made / "run" / name, home / "run" / name)
    shutil.copytree(made / "run" / "audit", home / "run" / "audit", dirs_exist_ok=True)
    page = home / "run" / "audit" / "index.html"
    page.write_text(page.read_text().replace("Near copies", "No copies"))
    told = {check.name: check.found for check in verify_run(home / "run").checks}
    assert told["audit.json"] == ("audit/index.html was changed",)
    record = json.loads((home / "run" / "audit.json").read_text())
    (home / "run" / "audit.json").write_text(json.dumps(record | {"run_seal": "0" * 64}))
    told = {check.name: check.found for check in verify_run(home / "run").checks}
    assert told["audit.json"][0].startswith("it was made of another run; move it")


def test_the_pages_show_pairs_hashes_and_no_markup_of_ids(made: Path, found: Audit) -> None:
    import hashlib

    found.save(overwrite=True)
    page = (made / "run" / "audit" / "index.html").read_text()
    assert "<b>flip" not in page
    assert "&lt;b&gt;flip&amp;.png" in page
    for file in ("generated/crop.png", "train/002.png"):
        assert hashlib.sha256((made / file).read_bytes()).hexdigest() in page
    assert page.count("difference, black where equal") == 4 + 10
    assert "http" not in page.replace("http-equiv", "")
    assert f"{found.calibration.threshold:.3f}" in page


def test_many_copies_go_to_several_pages_and_old_pages_leave(
    made: Path, found: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gmvaluator.audit.pages.PER_PAGE", 3)
    found.save(overwrite=True)
    folder = made / "run" / "audit"
    assert sorted(file.name for file in folder.iterdir()) == ["index.html", "page-2.html"]
    assert 'href="page-2.html"' in (folder / "index.html").read_text()
    found.save(overwrite=True, evidence=2)
    assert [file.name for file in folder.iterdir()] == ["index.html"]
    assert (
        "The nearest 2 are shown; audit.parquet lists all 4" in (folder / "index.html").read_text()
    )


def test_an_audit_is_not_replaced_unasked(found: Audit) -> None:
    found.save(overwrite=True)
    with pytest.raises(RunError, match="already holds an audit; pass overwrite=True"):
        found.save()


def test_without_evidence_the_pages_of_the_audit_before_leave(made: Path, found: Audit) -> None:
    found.save(overwrite=True)
    found.save(overwrite=True, evidence=0)
    assert not (made / "run" / "audit").exists()
    found.save(overwrite=True)
    (made / "run" / "audit" / "notes.txt").write_text("mine")
    found.save(overwrite=True, evidence=0)
    assert [file.name for file in (made / "run" / "audit").iterdir()] == ["notes.txt"]
    shutil.rmtree(made / "run" / "audit")


def test_what_is_in_the_way_is_found_before_the_work(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(made / "run" / "run.json", tmp_path)
    refused = "is there, and no audit.json that it belongs to; move it away, or pass overwrite=True"
    table, notes = tmp_path / "audit.parquet", tmp_path / "audit" / "notes.txt"
    table.write_text("another's")
    with pytest.raises(RunError, match=refused):
        check_audit_output(tmp_path, overwrite=False)
    check_audit_output(tmp_path, overwrite=True)
    table.unlink()
    table.mkdir()
    with pytest.raises(RunError, match=r"audit\.parquet is in the way, and no audit wrote it"):
        check_audit_output(tmp_path, overwrite=True)
    table.rmdir()
    notes.parent.mkdir()
    check_audit_output(tmp_path, overwrite=False)
    notes.write_text("mine")
    command = ["audit", str(tmp_path)]
    with pytest.raises(RunError, match="audit is in the way, and no audit wrote it"):
        CliRunner().invoke(cli, command, catch_exceptions=False)
    check_audit_output(tmp_path, overwrite=False, evidence=0)
    notes.unlink()
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(RunError, match="is not writable"):
        check_audit_output(tmp_path, overwrite=False)


def test_moved_changed_and_missing_images_are_errors(made: Path, home: Path) -> None:
    options: dict[str, Any] = {"settings": QUICK, "cache": False}
    file = home / "run" / "run.json"
    (home / "train" / "005.png").write_bytes((home / "train" / "006.png").read_bytes())
    with pytest.raises(RunError, match=r"1 have changed since, first '005\.png'; restore them"):
        audit_run(home / "run", train=home / "train", generated=home / "generated", **options)
    (home / "train" / "005.png").unlink()
    with pytest.raises(RunError, match=r"1 of 120 training images are no longer .* '005\.png'"):
        audit_run(home / "run", train=home / "train", generated=home / "generated", **options)
    with pytest.raises(InputError, match="nowhere"):
        audit_run(home / "run", train=home / "nowhere", **options)
    record = json.loads(file.read_text())
    file.write_text(json.dumps(record | {"seed": 3}))
    with pytest.raises(RunError, match="is not as it was saved"):
        audit_run(home / "run", **options)


def test_the_command_tells_copies(made: Path) -> None:
    arguments = ["audit", str(made / "run"), "--encoder", "pixels@7", "--no-cache", "--overwrite"]
    done = CliRunner().invoke(cli, [*arguments, "--quiet", "--max", "14", "--evidence", "0"])
    assert done.exit_code == 0, done.output
    assert "4 of 14 generated images are near copies" in done.output
    assert re.search(r"  yes  +<b>flip&\.png  +001\.png  +mirrored$", done.output, re.M)
    assert len(re.findall(r"  no  +new\d+\.png  +\d+\.png", done.output)) == 10 - 4
    with pytest.raises(InputError, match=r"pass a share above 0 and below 0\.5"):
        CliRunner().invoke(cli, [*arguments, "--false-alarms", "0"], catch_exceptions=False)


# laying images over each other


def test_a_placement_undoes_what_was_done(digits: Digits) -> None:
    images = digits[0][:6]
    train = grey_pixels(ImageSet.open(images), np.arange(6))
    rows = np.tile(np.arange(6), (6, 1))
    for name, words in (
        ("identity", "as it is"),
        ("flip", "mirrored"),
        ("crop 10 %", "cropped by 10 %"),
        ("rotation 5°", "turned by"),
    ):
        copies = ImageSet.open(copies_of(images, name))
        distances, places = aligned_distances(grey_pixels(copies, np.arange(6)), train, rows)
        assert (distances.argmin(axis=1) == np.arange(6)).all()
        assert np.diag(distances).max() < 0.25
        texts = [str(PLACEMENTS[place]) for place in np.diag(places)]
        assert sum(words in text for text in texts) >= 5, texts


def test_brightness_and_contrast_do_not_count_and_blank_images_are_alike() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(60, 120, (SIDE, SIDE), dtype=np.uint8)
    blank, white = np.zeros((SIDE, SIDE), np.uint8), np.full((SIDE, SIDE), 255, np.uint8)
    train = np.stack([image, blank, white])
    asked = np.stack([image * 2, blank, white])
    distances, _ = aligned_distances(asked, train, np.tile(np.arange(3), (3, 1)))
    assert distances[0, 0] < 0.02
    assert distances[0, 1:] == pytest.approx(np.sqrt(2), abs=1e-2)
    assert distances[1, 1] == distances[2, 2] == 0


def test_laid_over_shifts_mirrors_and_tells_what_is_covered() -> None:
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    image[:, :8] = 200
    shift = next(p for p in PLACEMENTS if str(p) == "shifted by (3, 0) px")
    pixels, covered = laid_over(image, shift, SIDE)
    assert (pixels[:, 3:11] == 200).all()
    assert (pixels[:, 12:] == 0).all()
    assert not covered[:, :3].any()
    assert covered[:, 3:].all()
    mirror = next(p for p in PLACEMENTS if str(p) == "mirrored")
    assert (laid_over(image, mirror, SIDE)[0] == image[:, ::-1]).all()


# copies of two sets


def test_an_image_that_is_copied_many_times_in_the_training_set_is_still_found(
    digits: Digits,
) -> None:
    images = digits[0][:80]
    copied = np.concatenate([images, np.repeat(copies_of(images[:1], "JPEG 90"), 12, axis=0)])
    finder = CopyFinder(copied, QUICK, cache=False)
    assert finder.calibration.alone + finder.calibration.left_out <= 15
    found = finder.match(np.concatenate([copies_of(images[:1], "JPEG 50"), digits[0][300:310]]))
    within = found.distances[:, 0] <= finder.calibration.threshold
    assert within.tolist() == [True] + [False] * 10


def test_too_few_training_images_are_refused() -> None:
    with pytest.raises(InputError, match="takes at least 20"):
        CopyFinder(np.zeros((5, 8, 8), np.uint8), cache=False)
    for wrong in ({"false_alarms": 0.7}, {"candidates": 1}, {"calibration": 3}):
        with pytest.raises(InputError):
            CopySettings(**wrong)
