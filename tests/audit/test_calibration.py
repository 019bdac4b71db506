from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gmvaluator import GMValuator, InputError
from gmvaluator.audit.alterations import ALTERATIONS
from gmvaluator.audit.calibration import AlteredDistances, TrainDistances, calibrate
from gmvaluator.audit.findings import audit_run
from gmvaluator.audit.near_copies import CopyFinder, CopySettings
from gmvaluator.errors import CacheWarning
from gmvaluator.files.prune import prune, survey
from gmvaluator.files.store import Store
from image_makers import drawn_icons

QUICK = CopySettings(encoder="pixels@7", candidates=8)
Digits = tuple[NDArray[np.uint8], NDArray[np.int64]]


def measured(nearest: NDArray[np.float64], altered: float = 0.1) -> TrainDistances:
    """Distances in units of the surroundings; altered images are all as far from their source."""
    own = np.full((len(ALTERATIONS), 10), altered)
    return TrainDistances(
        nearest, np.ones(len(nearest)), AlteredDistances(own, np.ones_like(own), np.ones_like(own))
    )


def test_the_threshold_keeps_its_promise_on_images_like_the_training_images() -> None:
    rng = np.random.default_rng(0)
    exceeded = []
    for _ in range(200):
        nearest = rng.lognormal(-0.2, 0.15, 500)
        found = calibrate(measured(nearest), 0.02)
        exceeded.append((rng.lognormal(-0.2, 0.15, 200) <= found.threshold).mean())
    assert np.mean(exceeded) == pytest.approx(0.02, abs=0.003)


@pytest.mark.parametrize("share", [0.02, 0.2])
def test_copies_among_the_training_images_do_not_move_the_threshold(share: float) -> None:
    rng = np.random.default_rng(1)
    nearest = rng.lognormal(-0.2, 0.12, 2_000)
    clean = calibrate(measured(nearest), 0.01)
    spoilt = nearest.copy()
    copied = int(share * 2_000)
    spoilt[:copied] = rng.uniform(0, 0.2, copied)
    found = calibrate(measured(spoilt), 0.01)
    assert found.left_out == copied
    assert found.threshold == pytest.approx(clean.threshold, rel=0.03)
    assert np.quantile(spoilt, 0.01) < 0.2  # which would find few altered copies


def test_too_few_images_for_a_quantile_are_extrapolated_and_said_so() -> None:
    nearest = np.random.default_rng(2).lognormal(-0.2, 0.1, 50)
    found = calibrate(measured(nearest), 0.01)
    assert found.method == "log-normal"
    assert found.threshold < nearest.min()
    assert "This is an extrapolation: 50 training images are too few" in found.stated
    assert "(99 are enough)" in found.stated
    assert any("More than 1 % of images" in warning for warning in found.warnings)
    with pytest.raises(InputError, match=r"\d+ of 30 training images have neighbours"):
        calibrate(measured(np.r_[nearest[:15], np.full(15, np.nan)]), 0.01)


# what the audit says of a threshold


def test_a_threshold_that_finds_altered_copies_of_distinct_images_has_no_warning() -> None:
    nearest = np.random.default_rng(0).lognormal(-0.2, 0.1, 500)
    assert calibrate(measured(nearest), 0.01).warnings == ()


def test_a_threshold_below_the_copies_says_so_and_proposes_another() -> None:
    nearest = np.random.default_rng(0).lognormal(-0.2, 0.3, 500)
    nearest[:20] = 0.15
    found = calibrate(measured(nearest, altered=0.3), 0.01)
    assert found.threshold == pytest.approx(0.15)
    assert set(found.found.values()) == {0.0}
    (warning,) = found.warnings
    assert "The threshold 0.150 misses copies" in warning
    assert "0 cropped by 5 % on each side" in warning
    assert "With --threshold 0.300 the audit finds nine in ten of them, and takes 4.4 %" in warning
    wider = calibrate(measured(nearest, altered=0.3), 0.01, threshold=0.3)
    assert (wider.threshold, wider.method, wider.warnings) == (0.3, "given", ())
    assert "The threshold 0.3 was given. Of 500 training images 4.4 % have another" in wider.stated


def test_many_training_images_that_count_as_copies_are_a_warning() -> None:
    nearest = np.random.default_rng(0).lognormal(-0.2, 0.1, 500)
    nearest[:60] = 0.01
    (warning,) = calibrate(measured(nearest, altered=0.05), 0.01).warnings
    assert "Of 500 training images 60 (12 %) count as copies of another" in warning


def test_an_audit_of_drawn_icons_says_what_it_misses_and_shows_the_nearest_pairs(
    tmp_path: Path,
) -> None:
    icons = drawn_icons()
    generated = [icon[2:-2, 2:-2] for icon in icons[::4]]
    valuator = GMValuator(encoder="pixels@8", rerank="none", quality="none", k=2, cache=False)
    valuator.fit(icons).value(generated).save(tmp_path / "run")
    sets: dict[str, Any] = {"train": icons, "generated": generated}
    told = audit_run(tmp_path / "run", settings=QUICK, cache=False, **sets)
    right = [pair.train == 4 * pair.generated for pair in told.nearest]
    assert sum(right) >= 0.9 * len(right)
    assert "misses copies" in told.as_json()["warnings"][0]
    assert [pair["is_copy"] for pair in told.as_json()["nearest"]].count(False) > 0
    told.save()
    page = (tmp_path / "run" / "audit" / "index.html").read_text()
    assert "misses copies" in page
    assert page.count("difference, black where equal") == len(generated)
    wide = CopySettings(
        encoder="pixels@7", candidates=8, threshold=round(told.calibration.proposed + 5e-4, 3)
    )
    found = audit_run(tmp_path / "run", settings=wide, cache=False, **sets)
    assert len(found.copies) >= 0.7 * len(generated) > 2 * len(told.copies)


@pytest.mark.parametrize("threshold", [0, -1, float("nan"), float("inf")])
def test_a_threshold_is_a_distance(threshold: float) -> None:
    with pytest.raises(InputError, match="pass a distance above 0"):
        CopySettings(threshold=threshold)


# kept for the next audit


class Heard:
    """Names of the stages that ran."""

    def __init__(self) -> None:
        self.names: list[str] = []

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Callable[[int], None]]:
        self.names.append(name)
        yield lambda steps: None


def test_training_images_are_compared_once_for_all_audits(tmp_path: Path, digits: Digits) -> None:
    train, store = digits[0][:40], Store(tmp_path)
    stages = []
    calibrations = []
    # the same images in another order, under other names, and for another rate
    for images, settings in (
        (train, QUICK),
        (train[::-1], replace(QUICK, false_alarms=0.1)),
        (train[1:], QUICK),
        (train, replace(QUICK, candidates=9)),
    ):
        heard = Heard()
        finder = CopyFinder(images, settings, cache=store, progress=heard)
        calibrations.append(finder.calibration_at(0.01))
        stages.append("comparing training images with each other" in heard.names)
        # no generated image is compared yet
        assert not any("generated" in name for name in heard.names)
    assert stages == [True, False, True, True]
    assert calibrations[0].as_json() == calibrations[1].as_json()
    (first, *_) = [kept for kept in survey(store) if kept.kind == "calibration"]
    assert first.name in ("audit of 40 images", "audit of 39 images")
    assert prune(store, older_than=0).calibrations == 3


def test_a_damaged_calibration_is_measured_again(tmp_path: Path, digits: Digits) -> None:
    train = digits[0][:40]
    clean = CopyFinder(train, QUICK, cache=tmp_path).calibration.as_json()
    (kept,) = [file for file in (tmp_path / "calibrations").glob("[!.]*") if not file.suffix]
    kept.write_bytes(kept.read_bytes()[:-9])
    with pytest.warns(CacheWarning, match="is damaged"):
        assert CopyFinder(train, QUICK, cache=tmp_path).calibration.as_json() == clean


def test_an_audit_needs_no_cache_that_can_be_written(tmp_path: Path, digits: Digits) -> None:
    (tmp_path / "calibrations").write_text("in the way")
    with pytest.warns(CacheWarning, match="cannot write the cache"):
        found = CopyFinder(digits[0][:40], QUICK, cache=tmp_path).calibration
    assert found.threshold > 0


def test_only_the_candidates_of_an_audit_are_decoded_again(tmp_path: Path, digits: Digits) -> None:
    train = digits[0][:100]
    CopyFinder(train, QUICK, cache=tmp_path).calibration  # noqa: B018
    finder = CopyFinder(train, QUICK, cache=tmp_path)
    finder.match(digits[0][200:202])
    assert finder._pixels._decoded.sum() <= 2 * 9
