"""Generated images with known sources: what is made of them, and what the study finds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from gmvaluator import ImageSet
from gmvaluator.certainty.tables import StudyResult
from gmvaluator.cli import cli
from gmvaluator.errors import ImageError, InputError
from gmvaluator.evaluation.planted import source_metrics as metrics
from gmvaluator.evaluation.planted.known_sources import PlantedSubject, Pool, Truth
from gmvaluator.evaluation.planted.makers import (
    STYLE_COPIES,
    STYLE_NEW,
    copies,
    in_style,
    mixtures,
    owned,
    planted_subjects,
)
from gmvaluator.evaluation.planted.transformations import (
    EASY,
    spliced,
    suited,
)
from gmvaluator.evaluation.setup import Setup
from gmvaluator.evaluation.studies.planted import (
    measure_copies,
    measure_mixtures,
    measure_owners,
    planted,
)
from gmvaluator.evaluation.study import Context
from gmvaluator.files.pieces import Workspace
from gmvaluator.images.pixels import load_pixels
from gmvaluator.runs.record import RecordedSettings, RunRecord
from gmvaluator.runs.valuation import Valuation
from gmvaluator.scoring.scores import Contributions
from image_makers import encode, random_images, write_files

Pixels = NDArray[np.uint8]
Digits = tuple[Pixels, NDArray[np.int64]]


@pytest.fixture(scope="module")
def pool(digits: Digits) -> Pool:
    """400 digits."""
    return Pool.read(ImageSet.open(digits[0][:400]))


@pytest.fixture
def context(digits: Digits, tmp_path: Path) -> Context:
    """Digits without labels, two cheap valuers."""
    return open_context(digits, tmp_path)


def open_context(digits: Digits, tmp_path: Path, **changes: Any) -> Context:
    asked: dict[str, Any] = {
        "train": digits[0][:400],
        "valuers": ("nearest-pixel", "random"),
        "seeds": 2,
        "m": 20,
        "work": tmp_path / "work",
        "train_name": "digits",
    }
    return Setup.open(**(asked | changes), attributed=False).context(subjects=False)


def test_pool_leaves_twins_out_and_knows_colour(tmp_path: Path, digits: Digits) -> None:
    twins = np.concatenate([digits[0][:6], digits[0][2:3]])
    pool = Pool.read(ImageSet.open(twins))
    assert pool.single.tolist() == [0, 1, 3, 4, 5]
    assert not pool.colour
    assert pool.side == 28
    with pytest.raises(InputError, match="6 sources of 5 training images without a twin"):
        pool.draw(6, np.random.default_rng(0))
    grey = np.repeat(digits[0][0][:, :, None], 3, axis=2)
    files = {"a.png": encode(grey), "b.png": encode(random_images(1, 28)[0])}
    mixed_set = Pool.read(ImageSet.open(write_files(tmp_path / "both", files)))
    assert mixed_set.colour
    np.testing.assert_array_equal(mixed_set.pixels(np.array([0, 0]))[1], grey)
    files["c.png"] = encode(random_images(1, 20)[0])
    assert Pool.read(ImageSet.open(write_files(tmp_path / "sizes", files))).side == 64
    files["d.png"] = b"no"
    with pytest.raises(ImageError):
        Pool.read(ImageSet.open(write_files(tmp_path / "bad", files)))
    assert pool.digest != Pool.read(ImageSet.open(twins[::-1].copy())).digest


def test_copies_are_made_of_their_sources(pool: Pool, digits: Digits) -> None:
    made = copies(pool, 8, 1)
    names = [each.name for each in suited(False)]
    assert made.truth.kinds.tolist() == [name for name in names for _ in range(8)]
    identical = made.truth.kinds == "identity"
    sources = made.truth.sources[identical, 0]
    np.testing.assert_array_equal(made.images[identical], digits[0][sources])
    assert len(set(sources.tolist())) == 8
    np.testing.assert_array_equal(
        made.images[made.truth.kinds == "flip"], digits[0][sources][:, :, ::-1]
    )
    np.testing.assert_array_equal(copies(pool, 8, 1).images, made.images)
    assert not np.array_equal(copies(pool, 8, 2).truth.sources, made.truth.sources)


def test_mixtures_are_made_of_both_sources(pool: Pool, digits: Digits) -> None:
    made = mixtures(pool, 5, 0)
    chosen = made.truth.kinds == "mixture 0.7"
    first, second = (digits[0][made.truth.sources[chosen, side]] for side in (0, 1))
    expected = 0.7 * first.astype(float) + 0.3 * second
    np.testing.assert_allclose(made.images[chosen], expected, atol=0.51)
    np.testing.assert_allclose(made.truth.weights[chosen], [[0.7, 0.3]] * 5)
    halves = made.images[made.truth.kinds == "splice"]
    np.testing.assert_array_equal(halves, spliced(first, second))
    np.testing.assert_array_equal(halves[:, :, 14:], second[:, :, 14:])
    np.testing.assert_array_equal(halves[:, :, :14], first[:, :, :14])


def test_owners_shares_are_counted_from_sources(pool: Pool) -> None:
    made = owned(pool, 40, 0, owners=4)
    truth = made.truth
    assert sorted(np.bincount(truth.owners).tolist()) == [100] * 4
    np.testing.assert_allclose(truth.known.sum(axis=1), 1)
    assert truth.known[0] == pytest.approx([0.5, 1 / 6, 1 / 6, 1 / 6], abs=0.08)
    assert len({tuple(row) for row in truth.known.round(6).tolist()}) == 5
    for name, known in zip(truth.sets, truth.known, strict=True):
        counted = [0.0] * 4
        for kind, pair, weight in zip(truth.kinds, truth.sources, truth.weights, strict=True):
            for source, part in zip(pair, weight, strict=True):
                if kind == name and source >= 0:
                    counted[truth.owners[source]] += part / 40
        np.testing.assert_allclose(known, counted)
    blended = truth.sources[:, 1] >= 0
    assert 0.1 < blended.mean() < 0.4
    np.testing.assert_array_equal(truth.weights[~blended, 0], 1)
    assert (truth.weights[blended, 0] <= 0.9).all()


def test_style_marks_one_owner_and_new_images_are_nowhere_else(pool: Pool, digits: Digits) -> None:
    made = in_style(pool, 40, 0, owners=4)
    truth = made.truth
    assert made.train is not None
    assert len(made.train) == len(truth.owners) == 360
    inverted = made.train[:, 0, 0] == 255  # corners of digits are black
    np.testing.assert_array_equal(inverted, truth.owners == 0)
    assert truth.known[:, 0].tolist() == [0.5, 0.5]
    assert np.isnan(truth.known[1, 1:]).all()
    new = made.images[truth.kinds == STYLE_NEW]
    assert (new[:, 0, 0] == 255).mean() == 0.5
    plain = {np.where(image[0, 0] == 255, 255 - image, image).tobytes() for image in made.train}
    unseen = {np.where(image[0, 0] == 255, 255 - image, image).tobytes() for image in new}
    assert not plain & unseen
    assert plain | unseen == {image.tobytes() for image in digits[0][:400]}
    of_copies = truth.sources[truth.kinds == STYLE_COPIES, 0]
    assert (truth.owners[of_copies] == 0).mean() == 0.5
    with pytest.raises(InputError, match="pass m ≤ half"):
        in_style(pool, 201, 0, owners=4)


def test_planted_sets_are_kept_as_files(pool: Pool, tmp_path: Path) -> None:
    work = Workspace(tmp_path)
    subject = planted_subjects(pool, work, owners=4)["style"]
    first = subject.planted(10, 0)
    assert len(first.train) == 390

    def never(*_: Any) -> Any:
        raise AssertionError("made again")

    again = PlantedSubject("style", "other", never, pool, work)
    assert again.fingerprint != subject.fingerprint
    subject._make = never
    second = subject.planted(10, 0)
    np.testing.assert_array_equal(load_pixels(second.images, 28), load_pixels(first.images, 28))
    for name, array in vars(first.truth).items():
        np.testing.assert_array_equal(getattr(second.truth, name), array)
    fewer = Pool.read(pool.train.select(np.arange(399)))
    for name, other in planted_subjects(fewer, work, owners=4).items():
        own = planted_subjects(pool, work, owners=4)[name]
        assert other.fingerprint != own.fingerprint
        dealt = planted_subjects(pool, work, owners=5)[name]
        assert (dealt.fingerprint != own.fingerprint) == (name in ("owners", "style"))


def valuation(rows: list[list[int]], scores: list[list[float]], n: int) -> Valuation:
    """A hand-made one."""
    given = np.array(scores)
    return Valuation(
        train_ids=tuple(map(str, range(n))),
        train_labels=None,
        generated_ids=tuple(map(str, range(len(rows)))),
        generated_labels=None,
        quality=given.sum(axis=1),
        contributions=Contributions(
            np.array(rows), np.zeros(given.shape, dtype=np.float32), given, n
        ),
        skipped=(),
        record=RunRecord(RecordedSettings({}), n_train=n, n_generated=len(rows)),
    )


def test_source_metrics_on_hand_made_numbers() -> None:
    rows = np.array([[3, 1, 2], [0, 1, 2], [1, 2, 3]])
    shares = metrics.score_shares(np.array([[0.3, 0.1, 0.1], [0.5, 0.25, 0.25], [0, 0, 0]]))
    np.testing.assert_allclose(shares[0], [0.6, 0.2, 0.2])
    assert np.isnan(shares[2]).all()
    sources = np.array([[3, 2], [3, -1], [1, 1]])
    assert metrics.found_sources(rows, sources, 1).tolist() == [
        [True, False],
        [False, False],
        [True, True],
    ]
    assert metrics.found_sources(rows, sources, 3)[0].tolist() == [True, True]
    got = metrics.source_shares(rows, shares, sources)
    np.testing.assert_allclose(got, [[0.6, 0.2], [0.0, 0.0], [np.nan, np.nan]])
    np.testing.assert_allclose(metrics.split_of(got), [0.75, np.nan, np.nan])
    brier = metrics.brier_scores(rows, shares, sources[:, :1])
    np.testing.assert_allclose(brier, [0.16 + 2 * 0.04, 1 + 0.25 + 2 * 0.0625, np.nan])
    owners = np.array([0, 1, 1, 0])
    np.testing.assert_allclose(metrics.owner_shares(rows[:2], shares[:2], owners), [0.55, 0.45])
    assert np.isnan(metrics.owner_shares(rows, np.zeros((3, 3)), owners)).all()
    with pytest.raises(InputError, match="negative scores"):
        metrics.score_shares(np.array([[-1.0, 2.0]]))
    with pytest.raises(InputError, match="first 4 of 3 contributors"):
        metrics.found_sources(rows, sources, 4)


def test_calibration_error_is_none_for_true_confidence() -> None:
    rng = np.random.default_rng(0)
    said = rng.random(200_000)
    honest = metrics.Reliability.of(said, rng.random(len(said)) < said)
    assert honest.counts.sum() == len(said)
    assert honest.error < 0.01
    boastful = metrics.Reliability.of(np.full(100, 0.9), np.arange(100) < 20)
    assert boastful.error == pytest.approx(0.7)
    edge = metrics.Reliability.of(
        np.array([0.0, 0.5, 0.5000001, 1.0000001, np.nan]), np.ones(5, bool)
    )
    assert edge.counts.tolist() == [1, 0, 0, 0, 0, 1, 1, 1]
    assert np.isnan(metrics.Reliability.of(np.array([np.nan]), np.array([True])).error)


def test_images_without_score_count_for_recall_only() -> None:
    rows = [list(range(10)), list(range(10))]
    given = valuation(rows, [[0.5, 0.5, *[0.0] * 8], [0.0] * 10], 20)
    truth = Truth.of_sources(
        np.array(["identity", "identity"]), np.array([[1], [5]]), np.ones((2, 1))
    )
    found = measure_copies(given, truth)
    assert found["without score"] == 1
    assert found["kinds"]["identity"] == {
        "recall@1": 0.0,
        "recall@10": 1.0,
        "share": 0.5,
        "quality": 0.5,
    }
    assert found["brier"] == pytest.approx(0.5)
    assert sum(found["all"]["counts"]) == 10
    nothing = valuation(rows, [[0.0] * 10] * 2, 20)
    blank = measure_copies(nothing, truth)
    assert blank["kinds"]["identity"]["share"] is None
    assert blank["brier"] is blank["best"]["error"] is None
    json.dumps(blank, allow_nan=False)
    pairs = Truth.of_sources(
        np.array(["mixture 0.5"] * 2), np.array([[1, 2], [5, 6]]), np.full((2, 2), 0.5)
    )
    unmixed = measure_mixtures(nothing, pairs)
    assert unmixed["with split"] == 0
    assert unmixed["error"] is unmixed["correlation"] is None
    owners = pairs.with_owners(np.arange(20) % 2, np.array(["mixture 0.5"]))
    assert measure_owners(nothing, owners)["sets"]["mixture 0.5"] == {
        "known": [0.5, 0.5],
        "values": [None, None],
        "first": [1.0, 0.0],
    }


def test_split_follows_the_mixture() -> None:
    rows = [[1, 2, *range(10, 18)]] * 3
    scores = [[share, 1 - share, *[0.0] * 8] for share in (0.5, 0.7, 0.9)]
    kinds = np.array(["mixture 0.5", "mixture 0.7", "mixture 0.9"])
    weights = np.array([[share, 1 - share] for share in (0.5, 0.7, 0.9)])
    truth = Truth.of_sources(kinds, np.array([[1, 2]] * 3), weights)
    found = measure_mixtures(valuation(rows, scores, 20), truth)
    assert found["correlation"] == pytest.approx(1)
    assert found["error"] == pytest.approx(0)
    assert found["kinds"]["mixture 0.9"]["split"] == pytest.approx(0.9)
    assert found["kinds"]["mixture 0.9"]["both"] == 1


def table(result: StudyResult, about: str) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Rows by their leading text cells, each by column."""
    (found,) = [each for each in result.tables if about in each.title]
    rows = [dict(zip(found.columns, each, strict=True)) for each in found.rows]
    return {tuple(c for c in row.values() if isinstance(c, str) and c): row for row in rows}


def test_nearest_pixels_find_copies_and_chance_does_not(context: Context) -> None:
    result = planted(context, 20, 4)
    recall = table(result, "source among the first 10")
    for kind in EASY:
        assert recall[(kind,)]["nearest-pixel"].mean >= 0.95
        assert recall[(kind,)]["random"].mean <= 0.2
    assert recall[("flip",)]["nearest-pixel"].mean < 0.6
    assert sum(row["random"].mean for row in recall.values()) / len(recall) == pytest.approx(
        10 / 400, abs=0.02
    )
    whole = table(result, "copies in all")
    assert (
        whole[("nearest-pixel",)]["Brier score"].mean < 0.7 < whole[("random",)]["Brier score"].mean
    )
    split = table(result, "split of the score")
    assert split[("nearest-pixel",)]["correlation with the part of the pixels"].mean > 0.5
    errors = table(result, "errors of owners")
    by_first = errors[("nearest-pixel", "first contributors")]["mean error, points"]
    assert by_first.mean < errors[("random", "first contributors")]["mean error, points"].mean
    assert by_first.mean < 0.06
    style = table(result, "style is over-sampled")
    for name in (STYLE_COPIES, STYLE_NEW):
        assert style[("nearest-pixel", name)]["by values"].mean == pytest.approx(0.5, abs=0.02)
        assert style[("random", name)]["by values"].mean == pytest.approx(0.25, abs=0.06)
    bins = table(result, "calibration of scores")
    counted = sum(row["contributors"] for names, row in bins.items() if names[0] == "random")
    assert counted == 2 * 20 * len(suited(False)) * 20


def test_study_goes_on_and_is_saved(
    digits: Digits, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = planted(replace(context, seeds=1), 10)
    pieces = sorted((tmp_path / "work" / "pieces" / "planted").glob("*.json"))
    assert len(pieces) == 8
    for piece in pieces:
        piece_text = piece.read_text()
        assert "NaN" not in piece_text

    def never(*_: Any) -> Any:
        raise AssertionError("valued again")

    monkeypatch.setattr("gmvaluator.evaluation.study.FittedValuer.value", never)
    again = planted(open_context(digits, tmp_path, seeds=1), 10)
    assert [each.as_json() for each in again.tables] == [each.as_json() for each in whole.tables]
    saved = [file.name for file in again.save(tmp_path / "out")]
    assert saved == [
        "planted.json",
        "planted.md",
        "planted-recall.svg",
        "planted-calibration.svg",
        "planted-owners.svg",
    ]
    assert "nearest-pixel" in (tmp_path / "out" / "planted-recall.svg").read_text()
    with pytest.raises(AssertionError, match="valued again"):
        planted(open_context(digits, tmp_path, seeds=1), 11)


def test_what_cannot_be_asked_is_refused(digits: Digits, tmp_path: Path) -> None:
    def asked(valuer: str) -> Context:
        return open_context(digits, tmp_path, valuers=(valuer,))

    with pytest.raises(InputError, match="valuer vae-tracin has no scores that are shares"):
        planted(asked("vae-tracin"))
    with pytest.raises(InputError, match="same-class goes by labels"):
        planted(asked("same-class"))
    with pytest.raises(InputError, match="k=5 of 400 training images; recall@10 needs k ≥ 10"):
        planted(asked("random"), 5)
    with pytest.raises(InputError, match="owners=1 of 400 images"):
        planted(asked("random"), 10, 1)
    with pytest.raises(InputError, match="402 sources of 400"):
        planted(replace(asked("random"), m=201), 10)
    with pytest.raises(InputError, match="nothing to attribute"):
        Setup.open(train=digits[0][:400], work=tmp_path)


def test_command_needs_no_generator(digits: Digits, tmp_path: Path) -> None:
    np.save(tmp_path / "train.npy", digits[0][:150])
    arguments = ["evaluate", "planted", tmp_path / "train.npy", "--valuer", "random", "--m", "10"]
    arguments += ["--seeds", "1", "--k", "10", "--owners", "3", "--quiet"]
    arguments += ["--work", tmp_path / "work", "--out", tmp_path / "out", "--name", "known"]
    run = CliRunner().invoke(cli, list(map(str, arguments)), catch_exceptions=False)
    assert run.exit_code == 0
    content = json.loads((tmp_path / "out" / "known.json").read_text())
    assert content["parameters"]["n_train"] == 150
    assert content["parameters"]["owners"] == 3
    assert "least of identity" in run.output
    for flag, *value in (("--generator", "gan"), ("--conditional",), ("--held-out", "x")):
        refused = CliRunner().invoke(cli, [*map(str, arguments), flag, *value])
        assert refused.exit_code != 0
        assert f"leave {flag} out" in str(refused.output) + str(refused.exception)
