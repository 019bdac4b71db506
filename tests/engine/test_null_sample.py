"""Images without a contributor: the conformal test, its null samples, and what --null changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from gmvaluator import GMValuator, InputError, Valuation
from gmvaluator.cli import cli
from gmvaluator.errors import RunError
from gmvaluator.images import ImageSet
from gmvaluator.scoring.conformal import Null, images_needed, null_size
from image_makers import encode

Digits = tuple[NDArray[np.uint8], NDArray[np.int64]]

QUICK: dict[str, Any] = {"encoder": "pixels@14", "rerank": "pixels@28", "cache": False}
BY_NEIGHBOURS = QUICK | {"null_measure": "neighbours"}
CHOICES: tuple[dict[str, Any], ...] = (
    {},
    {"rerank": "none", "weighting": "ridge"},
    {"rerank": "none", "weighting": "global-ridge", "quality": "none"},
    {"weighting": "shapley", "mirror": True},
    {"second_encoder": "pixels@7", "rerank": ["pixels@14", "pixels@28"]},
    {"candidates": 60, "k": 3, "index": "exact"},
)


def noise(n: int) -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (n, 28, 28), dtype=np.uint8)


def told(valuation: Valuation) -> dict[str, Any]:
    found: dict[str, Any] = valuation.info["unattributed"]
    return found


def test_p_values_are_the_share_of_the_null_that_is_at_least_as_strange() -> None:
    rng = np.random.default_rng(0)
    null = Null("holdout", np.sort(rng.integers(0, 40, 99).astype(float)))
    asked = rng.integers(-2, 45, 50).astype(float)
    obvious = [(1 + sum(h >= s for h in null.strangeness)) / 100 for s in asked]
    np.testing.assert_allclose(null.p_values(asked), obvious, rtol=1e-15)
    for level in (0.005, 0.01, 0.05, 0.5):
        threshold = null.threshold(level)
        strange = np.zeros(50, bool) if threshold is None else asked > threshold
        np.testing.assert_array_equal(null.p_values(asked) <= level, strange)


@pytest.mark.parametrize("level", [0.02, 0.05, 0.3])
def test_the_error_rate_is_the_level(level: float) -> None:
    n = null_size(level)
    rng = np.random.default_rng(1)
    wrong = [
        np.mean(
            Null("holdout", np.sort(rng.normal(size=n))).p_values(rng.normal(size=200)) <= level
        )
        for _ in range(300)
    ]
    assert np.mean(wrong) == pytest.approx(level, rel=0.1)
    assert images_needed(level) <= n
    assert 1 / (images_needed(level) + 1) <= level < 1 / images_needed(level)


@pytest.mark.parametrize("measure", ["neighbours", "domain"])
@pytest.mark.parametrize("settings", CHOICES, ids=repr)
def test_strangers_and_quality_go_to_no_contributor(
    digits: Digits, settings: Any, measure: str
) -> None:
    """Real digits keep their contributors, noise loses them; values change only when asked."""
    images = digits[0]
    generated = np.concatenate([images[1000:1040], noise(10), images[:3]])
    chosen = QUICK | {"null_level": 0.05, "null_measure": measure} | settings
    plain = GMValuator(**chosen, null="off").fit(images[:250]).value(generated)
    reported = GMValuator(**chosen).fit(images[:250]).value(generated)
    applied = GMValuator(**chosen, null="withhold").fit(images[:250]).value(generated)
    np.testing.assert_array_equal(reported.values, plain.values)
    np.testing.assert_array_equal(reported.unattributed, np.zeros(53))
    assert plain.match_p is None
    assert "unattributed" not in plain.info
    p, q = applied.match_p, applied.quality
    assert p is not None
    np.testing.assert_array_equal(p, reported.match_p)
    strange = p <= 0.05
    assert strange[40:50].all()
    assert strange[:40].sum() <= 6
    # a copy of a training image matches better than anything
    assert (p[50:] > 0.9).all()
    scores = applied.contributions.scores
    np.testing.assert_allclose(scores.sum(axis=1) + applied.unattributed, q, rtol=1e-12)
    np.testing.assert_array_equal(scores[strange], 0)
    np.testing.assert_array_equal(scores[~strange], plain.contributions.scores[~strange])
    summary = told(applied)
    # half of the training images stay to learn the domain of
    n_null = null_size(0.05) if measure == "neighbours" else 125
    assert (summary["null"], summary["n_null"]) == ("leave-one-out", n_null)
    assert summary["images"] == strange.sum()
    assert summary["share"] == pytest.approx(q[strange].sum() / q.sum())
    assert told(reported) == summary | {"applied": False}


def test_the_null_does_not_depend_on_the_order_of_the_training_set(digits: Digits) -> None:
    images = digits[0][:120]
    order = np.random.default_rng(0).permutation(120)
    generated = digits[0][1000:1010]
    one, other = (
        GMValuator(**QUICK, null_level=0.1).fit(each).value(generated).match_p
        for each in (images, images[order])
    )
    np.testing.assert_array_equal(one, other)


def test_copies_of_a_training_image_are_not_its_match(digits: Digits) -> None:
    """A set in which every image is there twice has the null of the set without copies."""
    images, generated = digits[0][:60], digits[0][1000:1012]
    settings = BY_NEIGHBOURS | {"null_level": 0.2, "candidates": 50, "k": 5, "dedup": "none"}
    once = GMValuator(**settings).fit(images).value(generated)
    twice = GMValuator(**settings).fit(np.concatenate([images, images])).value(generated)
    assert told(twice)["n_null"] > 0
    assert told(twice)["threshold"] == pytest.approx(told(once)["threshold"], rel=0.5)


def test_mirror_copies_of_a_training_image_are_not_its_match(digits: Digits) -> None:
    """A training set with its flips does not make strangers of real images."""
    images, generated = digits[0][:60], digits[0][1000:1040]
    settings = QUICK | {"mirror": True, "null": "withhold", "null_level": 0.2}
    flipped = np.concatenate([images, images[:, :, ::-1]])
    with_flips = GMValuator(**settings).fit(flipped).value(generated)
    assert told(with_flips)["n_null"] > 0
    assert told(with_flips)["threshold"] > 0
    assert told(with_flips)["images"] <= 20


def test_a_null_of_zeros_is_no_null() -> None:
    """Images that all look the same to the re-rank say nothing of how far a stranger is."""
    rng = np.random.default_rng(0)
    half = np.repeat(np.array([0, 255], np.uint8), 98)
    images = np.stack([rng.permutation(half).reshape(14, 14) for _ in range(40)])
    settings = {**BY_NEIGHBOURS, "rerank": "pixels@1", "quality": "none", "null_level": 0.3}
    summary = told(GMValuator(**settings).fit(images).value(images // 2))
    assert (summary["images"], summary["n_null"], summary["threshold"]) == (0, 0, None)
    assert "match a training image at 0, and level 0.3 needs at least 3" in summary["reason"]
    assert "or a level" not in summary["reason"]
    with pytest.raises(InputError, match="match a training image at 0"):
        GMValuator(**settings, null="withhold").fit(images).value(images // 2)


def test_training_images_in_other_files_are_left_out_of_a_holdout(
    digits: Digits, digit_folder: Path
) -> None:
    """Their pixels count, not their bytes; where mirror images match, so do flipped ones."""
    images = digits[0]
    others = [images[1000:1040], images[:20], images[20:30, :, ::-1]]
    for mirror, known in ((False, 20), (True, 30)):
        valuator = GMValuator(**QUICK, mirror=mirror, null_level=0.1).fit(digit_folder)
        summary = told(valuator.value(images[2000:2002], holdout=np.concatenate(others)))
        assert (summary["holdout_in_training"], summary["n_null"]) == (known, 70 - known)
    # the null is as large as it can be all the same
    few = GMValuator(**QUICK, null_level=0.3).fit(digit_folder)
    assert told(few.value(images[2000:2002], holdout=images[:90]))["n_null"] == null_size(0.3)
    with pytest.raises(InputError, match=r"all 30 readable images .* are training images"):
        few.value(images[2000:2002], holdout=images[:30])


def test_a_holdout_is_the_null_and_training_images_in_it_are_left_out(digits: Digits) -> None:
    images = digits[0]
    valuator = GMValuator(**QUICK, null="withhold", null_level=0.05).fit(images[:300])
    holdout = np.concatenate([images[1000:1100], images[:7]])
    valuation = valuator.value(np.concatenate([images[2000:2040], noise(5)]), holdout=holdout)
    summary = told(valuation)
    assert (summary["null"], summary["n_null"]) == ("holdout", 100)
    assert summary["holdout_in_training"] == 7
    assert valuation.unattributed[40:].all()
    assert (valuation.unattributed[:40] > 0).sum() <= 6
    assert valuation.info["inputs"]["holdout"]["source"] is None
    larger = valuator.value(images[2000:2002], holdout=images[1000:1400])
    assert told(larger)["n_null"] == null_size(0.05)
    with pytest.raises(
        InputError, match=r"all 4 readable images of holdout .* are training images"
    ):
        valuator.value(images[2000:2002], holdout=images[:4])


def test_unreadable_holdout_images_are_listed(digit_folder: Path, tmp_path: Path) -> None:
    holdout = tmp_path / "holdout"
    holdout.mkdir()
    for row, image in enumerate(noise(3)):
        (holdout / f"{row}.png").write_bytes(encode(image))
    (holdout / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    valuator = GMValuator(**QUICK, null_level=0.3).fit(digit_folder)
    valuation = valuator.value(noise(2), holdout=holdout)
    assert [(side, skip.id) for side, skip in valuation.skipped] == [("holdout", "bad.png")]
    with pytest.raises(InputError, match=r"bad\.png"):
        valuator.value(noise(2), holdout=holdout, strict=True)
    for row in range(3):
        (holdout / f"{row}.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"none of the 4 images of holdout .*bad can be read: "):
        valuator.value(noise(2), holdout=holdout.rename(tmp_path / "bad"))


def test_the_null_goes_on_past_unreadable_images(digit_folder: Path, tmp_path: Path) -> None:
    holdout = tmp_path / "holdout"
    holdout.mkdir()
    for row, image in enumerate(noise(12)):
        (holdout / f"{row}.png").write_bytes(encode(image))
        for cut in range(5):
            (holdout / f"{row}-{cut}.png").write_bytes(encode(image)[: -100 - cut])
    (holdout / "text.png").write_bytes(b"no image")
    valuator = GMValuator(**QUICK, null_level=0.7).fit(digit_folder)
    valuation = valuator.value(noise(2), holdout=holdout)
    assert told(valuation)["n_null"] == null_size(0.7) == 11
    skipped = {skip.id for side, skip in valuation.skipped if side == "holdout"}
    assert "text.png" in skipped
    assert 40 < len(skipped) <= 61


def test_training_images_that_changed_are_not_taken_for_the_null(
    digits: Digits, digit_folder: Path, tmp_path: Path
) -> None:
    """One that is damaged ends the test, not the run; one that is another image ends the run.

    The index keeps the null sample of its own level; another level reads the images.
    """
    settings = BY_NEIGHBOURS | {"rerank": "pixels@14", "mirror": True, "null_level": 0.1}
    GMValuator(**settings).fit(digit_folder).save(tmp_path / "index")
    other: dict[str, Any] = {"cache": False, "null_level": 0.15}
    first = next(digit_folder.rglob("*.png"))
    first.write_bytes(first.read_bytes()[:-40])
    summary = told(GMValuator.load(tmp_path / "index", **other).value(noise(2)))
    assert summary["n_null"] == 0
    assert first.name in summary["reason"]
    with pytest.raises(InputError, match=r"can no longer be read .*pass a holdout"):
        GMValuator.load(tmp_path / "index", **other, null="withhold").value(noise(2))
    first.write_bytes(encode(digits[0][100]))
    with pytest.raises(RunError, match=rf"{first.name} has changed since it was embedded"):
        GMValuator.load(tmp_path / "index", **other).value(noise(2))


@pytest.mark.parametrize("n", [1, 2, 12])
def test_few_training_images_cannot_tell(digits: Digits, n: int) -> None:
    images = digits[0]
    valuation = GMValuator(**QUICK, quality="none").fit(images[:n]).value(images[1000:1003])
    summary = told(valuation)
    assert (summary["images"], summary["threshold"]) == (0, None)
    assert "level 0.02 needs at least 49; pass a holdout" in summary["reason"]
    with pytest.raises(InputError, match="needs at least 49; pass a holdout of as many images"):
        GMValuator(**QUICK, quality="none", null="withhold").fit(images[:n]).value(
            images[1000:1003]
        )


def test_an_index_and_a_saved_run_know_the_test(digits: Digits, tmp_path: Path) -> None:
    images = digits[0]
    generated = np.concatenate([images[1000:1010], noise(4)])
    valuator = GMValuator(**QUICK | {"rerank": "pixels@14"}, null="withhold").fit(images[:100])
    valuation = valuator.value(generated)
    valuator.save(tmp_path / "index")
    # the images were in memory: nothing but the vectors is left of them
    again = GMValuator.load(tmp_path / "index", cache=False).value(generated)
    np.testing.assert_array_equal(again.match_p, valuation.match_p)
    valuation.save(tmp_path / "run")
    loaded = Valuation.load(tmp_path / "run")
    np.testing.assert_array_equal(loaded.match_p, valuation.match_p)
    np.testing.assert_array_equal(loaded.unattributed, valuation.unattributed)
    assert loaded.unattributed.sum() > 0


def test_bad_levels_and_sets_are_refused(digits: Digits, tmp_path: Path) -> None:
    for level in (0.0, 1.0, -0.1, float("nan")):
        with pytest.raises(InputError, match=r"pass a number between 0 and 1, such as 0\.02"):
            GMValuator(**QUICK, null_level=level)
    (tmp_path / "empty").mkdir()
    valuator = GMValuator(**QUICK).fit(digits[0][:60])
    with pytest.raises(InputError, match=r"no image|empty"):
        valuator.value(digits[0][60:62], holdout=tmp_path / "empty")
    with pytest.raises(InputError, match="null 'off' leaves out the test"):
        GMValuator(**QUICK, null="off").fit(digits[0][:60]).value(
            digits[0][60:62], holdout=noise(3)
        )


def test_the_command_and_the_report_say_what_the_measure_found(
    digits: Digits, tmp_path: Path
) -> None:
    train, generated, out = tmp_path / "train.npy", tmp_path / "generated.npy", tmp_path / "run"
    np.save(train, digits[0][:120])
    np.save(generated, np.concatenate([digits[0][1000:1006], noise(2)]))
    command = ["value", str(train), str(generated), "--out", str(out), "--encoder", "pixels@14"]
    command += ["--rerank", "none", "--no-cache", "--quiet", "--overwrite", "--null-level", "0.05"]
    for measure, words in {
        "neighbours": "match the training set no better than the worst 5 % of",
        "domain": "lie outside the domain of the training images, no nearer to it than the worst "
        "5 % of",
    }.items():
        for null in ("report", "withhold"):
            choice = ["--null-measure", measure, "--null", null]
            said = CliRunner().invoke(cli, [*command, *choice], catch_exceptions=False).output
            assert f"of 8 generated images {words}" in " ".join(said.split())
            page = (out / "report.html").read_text("utf-8")
            assert f"that {words} known non-training images" in page
            assert "are marked <i>no close match</i>" in page


def test_the_command_says_what_has_no_contributor(digits: Digits, tmp_path: Path) -> None:
    train, generated, out = tmp_path / "train.npy", tmp_path / "generated.npy", tmp_path / "run"
    np.save(train, digits[0][:100])
    np.save(generated, np.concatenate([digits[0][1000:1006], noise(2)]))
    np.save(tmp_path / "holdout.npy", digits[0][2000:2060])
    command = ["value", str(train), str(generated), "--out", str(out), "--encoder", "pixels@14"]
    command += ["--rerank", "pixels@14", "--no-cache", "--quiet", "--overwrite"]
    said = CliRunner().invoke(cli, command, catch_exceptions=False).output
    assert "of 8 generated images" in said
    assert "% of 50 training images left out" in said
    assert "kept their scores; --null withhold takes them away" in said
    asked = [*command, "--null", "withhold", "--null-level", "0.1"]
    asked += ["--holdout", str(tmp_path / "holdout.npy")]
    done = CliRunner().invoke(cli, [*asked, "--json"], catch_exceptions=False)
    summary = json.loads(done.stdout)["unattributed"]
    assert summary["applied"]
    assert (summary["null"], summary["level"]) == ("holdout", 0.1)
    assert json.loads((out / "run.json").read_text())["unattributed"] == summary
    assert (
        ImageSet.open(tmp_path / "holdout.npy").location
        == json.loads((out / "run.json").read_text())["inputs"]["holdout"]["source"]
    )
