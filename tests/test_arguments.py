"""Numbers that are none are refused by every public function, before any work and by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gmvaluator import GMValuator, ImageSet, InputError, Preprocessing, Valuation
from gmvaluator.arguments import proper_share, real_number, truth_value, whole_number
from gmvaluator.audit import audit_run
from gmvaluator.audit.findings import check_audit_output
from gmvaluator.audit.near_copies import CopySettings
from gmvaluator.certainty import bootstrap_shares, uncertainty_run, value_intervals
from gmvaluator.certainty.agreement import class_ratio, common_top
from gmvaluator.certainty.intervals import bootstrap_interval
from gmvaluator.certainty.stability import k_variant, temperature_variant
from gmvaluator.certainty.uncertainty import halves
from gmvaluator.curation import curate_run
from gmvaluator.encoders.custom import wrap
from gmvaluator.encoders.mixture import Mixture
from gmvaluator.encoders.principal import PrincipalComponents
from gmvaluator.files.prune import prune
from gmvaluator.files.store import Store
from gmvaluator.payout import payout_run
from gmvaluator.samplers import draw, load_sampler
from image_makers import random_images
from run_makers import made_valuation
from wrong_numbers import NO_NUMBER, NO_WHOLE_NUMBER

QUICK: dict[str, Any] = {"encoder": "pixels@8", "rerank": "none", "quality": "none"}
IMAGES = random_images(30)
RUN = made_valuation(6, 10, 3)
MODULE = torch.nn.Flatten()
LABELS = np.zeros((3, 4)), np.zeros(3)


def own(pixels: Any) -> Any:
    return pixels.reshape(len(pixels), -1)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("arguments") / "run"
    RUN.save(folder)
    return folder


def opened() -> ImageSet:
    return ImageSet.open(IMAGES)


WHOLE: dict[str, Callable[[Any, Path], object]] = {
    "GMValuator k": lambda x, _: GMValuator(**QUICK, k=x),
    "GMValuator candidates": lambda x, _: GMValuator(**QUICK, candidates=x),
    "GMValuator seed": lambda x, _: GMValuator(**QUICK, seed=x),
    "open pixel_limit": lambda x, _: ImageSet.open(IMAGES, pixel_limit=x),
    "batches batch_size": lambda x, _: opened().batches(Preprocessing(8), batch_size=x),
    "batches workers": lambda x, _: opened().batches(Preprocessing(8), workers=x or 0),
    "pixel_keys batch_size": lambda x, _: list(opened().pixel_keys([0], batch_size=x)),
    "png max_side": lambda x, _: opened().png(0, x),
    "thumbnail max_side": lambda x, _: opened().thumbnail(0, x),
    "Preprocessing size": lambda x, _: Preprocessing(x),
    "plot_contributors top": lambda x, _: RUN.plot_contributors(0, top=x),
    "payout digits": lambda x, run: payout_run(run, budget="1", currency="X", by="label", digits=x),
    "payout resamples": lambda x, run: payout_run(run, budget="1", by="label", resamples=x),
    "payout seed": lambda x, run: payout_run(run, budget="1", by="label", seed=x),
    "audit most": lambda x, run: audit_run(run, most=x),
    "audit candidates": lambda x, _: CopySettings(candidates=x),
    "audit calibration": lambda x, _: CopySettings(calibration=x),
    "audit evidence": lambda x, run: check_audit_output(run, overwrite=False, evidence=x),
    "uncertainty seed": lambda x, run: uncertainty_run(run, seed=x),
    "halves seed": lambda x, _: halves(RUN, seed=x),
    "halves repeats": lambda x, _: halves(RUN, repeats=x),
    "bootstrap n_resamples": lambda x, _: bootstrap_shares(np.ones((3, 2)), n_resamples=x),
    "bootstrap seed": lambda x, _: bootstrap_shares(np.ones((3, 2)), seed=x),
    "k_variant": lambda x, _: k_variant(x),
    "class_ratio k": lambda x, _: class_ratio(*LABELS, x),
    "common_top": lambda x, _: common_top([1, 2], [2, 1], x),
    "components": lambda x, _: PrincipalComponents.fit(IMAGES, components=x),
    "components size": lambda x, _: PrincipalComponents.fit(IMAGES, components=2, size=x),
    "draw m": lambda x, run: draw(load_sampler("demo"), x, run),
    "draw seed": lambda x, run: draw(load_sampler("demo"), 1, run, seed=x),
    "draw batch_size": lambda x, run: draw(load_sampler("demo"), 1, run, batch_size=x),
    "contributors": lambda x, _: RUN.contributors(99 if isinstance(x, int) else x),
}

REAL: dict[str, Callable[[Any, Path], object]] = {
    "GMValuator temperature": lambda x, _: GMValuator(**QUICK, temperature=x),
    "GMValuator null_level": lambda x, _: GMValuator(**QUICK, null_level=x),
    "GMValuator rerank": lambda x, _: GMValuator(encoder="pixels@8", rerank={"pixels@8": x}),
    "GMValuator memory": lambda x, _: GMValuator(**QUICK, memory=x),
    "payout budget": lambda x, run: payout_run(run, budget=x, by="label"),
    "payout minimum": lambda x, run: payout_run(run, budget=1, by="label", minimum=x),
    "payout level": lambda x, run: payout_run(run, budget=1, by="label", level=x),
    "audit false_alarms": lambda x, _: CopySettings(false_alarms=x),
    "uncertainty level": lambda x, run: uncertainty_run(run, level=x),
    "bootstrap_interval level": lambda x, _: bootstrap_interval([0.1, 0.2], level=x),
    "value_intervals level": lambda x, _: value_intervals(RUN.contributions, level=x),
    "bootstrap level": lambda x, _: bootstrap_shares(np.ones((3, 2)), level=x),
    "temperature_variant": lambda x, _: temperature_variant(x),
    "curate lowest": lambda x, run: curate_run(run, lowest=x, off_manifold=0),
    "curate off_manifold": lambda x, run: curate_run(run, off_manifold=x),
    "prune older_than": lambda x, run: prune(Store(run / "no cache"), older_than=x),
    "mixture weight": lambda x, _: Mixture.fit(IMAGES, {wrap(own): x, wrap(own, name="b"): 1.0}),
    "wrap mean": lambda x, _: wrap(MODULE, mean=(x, x, x)),
    "wrap std": lambda x, _: wrap(MODULE, std=(x, x, x)),
}
"""By function and argument."""

MEANT = {
    ("payout budget", "truth"),
    ("payout minimum", "truth"),
    ("wrap mean", "negative"),
    ("wrap mean", "truth"),
    ("wrap std", "truth"),
}


@pytest.mark.parametrize("kind", NO_WHOLE_NUMBER)
@pytest.mark.parametrize("name", WHOLE)
def test_what_is_no_whole_number_is_refused(name: str, kind: str, run: Path) -> None:
    with pytest.raises(InputError):
        WHOLE[name](NO_WHOLE_NUMBER[kind], run)


@pytest.mark.parametrize("kind", NO_NUMBER)
@pytest.mark.parametrize("name", REAL)
def test_what_is_no_number_is_refused(name: str, kind: str, run: Path) -> None:
    if (name, kind) in MEANT:
        return
    with pytest.raises(InputError):
        REAL[name](NO_NUMBER[kind], run)


def test_numbers_of_numpy_are_as_good_as_those_of_python(tmp_path: Path) -> None:
    plain = {"k": 5, "candidates": 8, "seed": 3, "temperature": 0.5, "mirror": True}
    other = {
        "k": np.int64(5),
        "candidates": np.uint8(8),
        "seed": np.int32(3),
        "temperature": np.float32(0.5),
        "mirror": np.bool_(True),
    }
    valuations = []
    for name, settings in (("plain", plain), ("other", other)):
        valuator = GMValuator(**QUICK, index="pq", **settings).fit(IMAGES[:20])
        valuator.value(IMAGES[20:]).save(tmp_path / name)
        valuations.append(Valuation.load(tmp_path / name))
        assert all(
            type(v) in (int, float, bool)
            for v in vars(valuator.settings).values()
            if v in plain.values()
        )
    np.testing.assert_array_equal(valuations[0].values, valuations[1].values)
    assert valuations[0].record.settings == valuations[1].record.settings
    eight: Any = np.int64(8)
    opened().batches(Preprocessing(eight), batch_size=eight)
    assert uncertainty_run(tmp_path / "plain", seed=eight).level == 0.95


@pytest.mark.parametrize(
    ("setting", "wrong"),
    [
        ("encoder", 5),
        ("second_encoder", 5),
        ("index", 5),
        ("index", ["pq"]),
        ("rerank", 5),
        ("rerank", [5]),
        ("rerank", {"pixels@8": "much"}),
        ("quality", None),
        ("quality", 0.5),
        ("quality", {"a": 1}),
        ("weighting", ["softmax"]),
        ("temperature", [1.0]),
        ("mirror", None),
        ("mirror", "no"),
        ("dedup", 5),
        ("null", ["off"]),
        ("null_level", None),
        ("seed", None),
        ("device", 5),
        ("backend", ["torch"]),
        ("weights", "w.pt"),
        ("cache", None),
        ("cache", 5),
        ("memory", [4]),
        ("progress", None),
        ("progress", "yes"),
    ],
)
def test_settings_of_a_wrong_kind_are_refused_by_the_constructor(setting: str, wrong: Any) -> None:
    with pytest.raises(InputError):
        GMValuator(**(QUICK | {setting: wrong}))


def test_messages_name_the_argument_and_what_to_pass() -> None:
    for check, message in (
        (lambda: whole_number("k", 5.0, 1), "k=5.0 is no whole number; pass an int"),
        (lambda: whole_number("k", 0, 1), "k=0 is too small; pass k ≥ 1"),
        (lambda: whole_number("k", 9, 1, 8), "k=9 is too large; pass k ≤ 8"),
        (lambda: real_number("a", "b", "a number"), "a='b' is no number; pass a number"),
        (lambda: proper_share("level", 1, 0.95), "level=1 was given; pass a number between 0 and"),
        (lambda: truth_value("mirror", 1), "mirror=1 is no truth value; pass True or False"),
    ):
        with pytest.raises(InputError) as raised:
            check()
        assert str(raised.value).startswith(message)
