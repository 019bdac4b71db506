"""The study of planted copies: recall, precision and false alarms of an audit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from gmvaluator import ImageSet, InputError
from gmvaluator.audit.near_copies import CopySettings
from gmvaluator.certainty.tables import StudyResult
from gmvaluator.cli import cli
from gmvaluator.evaluation.metrics import Interval
from gmvaluator.evaluation.planted.transformations import cropped_anywhere
from gmvaluator.evaluation.studies.audit import LEVELS, audited
from gmvaluator.evaluation.studies.audit import audit as study_of_copies
from gmvaluator.evaluation.study import Context
from gmvaluator.files.pieces import Workspace

Digits = tuple[NDArray[np.uint8], NDArray[np.int64]]
QUICK = CopySettings(encoder="pixels@7", candidates=8)


def test_the_study_tells_recall_precision_and_false_alarms(digits: Digits, tmp_path: Path) -> None:
    context = Context(
        train=ImageSet.open(digits[0][:60]),
        subjects=(),
        valuers=(),
        seeds=2,
        m=2,
        work=Workspace(tmp_path / "work"),
        train_name="digits",
    )
    held_out = ImageSet.open(digits[0][100:110])

    def study() -> StudyResult:
        return study_of_copies(context, held_out, innocents=5, settings=QUICK)

    result = study()
    found = {row[0]: row for row in result.tables[0].rows}
    assert list(found) == [each.name for each in audited(colour=False)]
    recall, precision, called = found["identity"][1:4]
    assert isinstance(recall, Interval)
    assert isinstance(precision, Interval)
    assert recall == called
    assert recall.mean == 1
    alarms = result.tables[1].rows[LEVELS.index(0.01)][2]
    assert isinstance(alarms, Interval)
    # as many innocent images as copies; equal in both repetitions if none is called a copy
    assert precision.mean == pytest.approx(1 / (1 + alarms.mean), abs=0.05)
    thresholds = [row[1] for row in result.tables[1].rows]
    assert thresholds == sorted(thresholds, key=lambda each: float(str(each)))
    # taken up again, nothing is measured anew
    pieces = context.work.pieces()
    assert study().as_json()["details"] == result.as_json()["details"]
    assert context.work.pieces() == pieces == 2
    result.save(tmp_path / "out")
    with pytest.raises(InputError, match="innocents=50 of 10 held-out images"):
        study_of_copies(context, held_out, innocents=50)


def test_the_study_refuses_what_it_has_no_use_for(digit_folder: Path, tmp_path: Path) -> None:
    command = ["evaluate", "audit", str(digit_folder), "--work", str(tmp_path / "work")]
    for options, message in (
        ([], "needs innocent images; pass --held-out SET"),
        (["--generator", "gan"], "leave --generator out"),
        (["--valuer", "default"], "leave --valuer out"),
    ):
        with pytest.raises(InputError, match=message):
            CliRunner().invoke(cli, [*command, *options], catch_exceptions=False)


def test_a_crop_anywhere_keeps_pixels_of_the_image_and_its_shape() -> None:
    image = np.arange(64, dtype=np.uint8).reshape(1, 8, 8)
    rng = np.random.default_rng(0)
    assert (cropped_anywhere(0.0625, image, rng)[0, 0] != image[0, 0]).any()
    flat = np.full((2, 8, 8, 3), 9, np.uint8)
    assert (cropped_anywhere(0.1, flat, rng) == flat).all()
