"""The study of spaces: how they are written, what they are asked with, and what its table says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gmvaluator import GMValuator, ImageSet
from gmvaluator.encoders.generator import GeneratorEncoder
from gmvaluator.errors import InputError
from gmvaluator.evaluation.metrics import linear_datamodeling_score, score_by_others
from gmvaluator.evaluation.representations import (
    WEIGHTINGS,
    Space,
    at_hand,
    default_spaces,
    space_valuers,
)
from gmvaluator.evaluation.studies.spaces import spaces
from gmvaluator.evaluation.study import Context
from gmvaluator.evaluation.subjects.recipes import Recipe
from gmvaluator.evaluation.truth.ground_truth import ground_truth, random_subsets
from gmvaluator.files.pieces import Workspace
from gmvaluator.progress import Silent

pytestmark = pytest.mark.usefixtures("in_this_process")

TINY = Recipe("beta-vae", 4, {"hidden": "8", "latent": 2, "size": 28, "batch_size": 8})
NAMES = (
    "pixels@14",
    "pca:4@28",
    "pca:4:whitened@28",
    "random-conv:1@28",
    "generator#code",
    "generator#middle",
    "pixels@14 + 0.5 * generator#first",
)


def context_of(train: ImageSet, work: Path) -> Context:
    return Context(
        train=train,
        subjects=(),
        valuers=(),
        seeds=2,
        m=6,
        work=Workspace(work),
        train_name="digits",
    )


def test_study_tables_every_space_and_weighting(
    train: ImageSet, work: Path, tmp_path: Path
) -> None:
    result = spaces(context_of(train, work), {"beta-vae": TINY}, NAMES, subsets=4, k=20)
    (table,) = result.tables
    assert table.columns == ("space", "weighting", "LDS", "of attainable", "by others")
    # a β-VAE has no middle layer
    wanted = [name for name in NAMES if name != "generator#middle"]
    pairs = [(space, label) for space in wanted for label in WEIGHTINGS]
    assert [row[:2] for row in table.rows] == [*pairs, ("attainable", None)]
    assert all(cell is not None for row in table.rows[:-1] for cell in row)
    assert "valuers" not in result.parameters
    files = {file.name for file in result.save(tmp_path / "out")}
    assert files == {"spaces.json", "spaces.md", "spaces-bars.svg"}

    # by hand, from what was kept
    truth = ground_truth(
        "beta-vae",
        TINY,
        train,
        train_name="digits",
        m=6,
        subsets=4,
        seeds=2,
        work=Workspace(work),
        progress=Silent(),
    )
    assert truth.generator is not None
    encoder = GeneratorEncoder(truth.generator, "code")
    ceiling: Any = table.rows[-1][2]
    for label, weighting in WEIGHTINGS.items():
        valuator = GMValuator(
            encoder=encoder, rerank="none", quality="none", k=20, cache=False, **weighting
        )
        scores = valuator.fit(train).value(truth.generated).score_matrix()
        score = linear_datamodeling_score(
            scores, truth.subsets, truth.losses["elbo"].mean(axis=1)
        ).mean()
        shown: Any = table.rows[pairs.index(("generator#code", label))]
        assert shown[2].mean == pytest.approx(score, abs=1e-6)
        assert shown[3] == pytest.approx(score / ceiling if ceiling else np.nan, nan_ok=True)


def test_scores_of_other_images_show_what_is_not_about_one_image() -> None:
    rng = np.random.default_rng(0)
    subsets = random_subsets(40, 200)
    own = rng.random((40, 9))
    losses = -(subsets @ own)
    assert linear_datamodeling_score(own, subsets, losses).mean() == pytest.approx(1)
    assert abs(score_by_others(own, subsets, losses)) < 0.2
    same = np.repeat(own[:, :1], 9, axis=1)
    common = losses + 5 * losses[:, :1]
    assert score_by_others(same, subsets, common) == pytest.approx(
        linear_datamodeling_score(same, subsets, common).mean()
    )
    assert score_by_others(same, subsets, common) > 0.9
    assert np.isnan(score_by_others(own[:, :1], subsets, losses[:, :1]))


def test_a_second_run_computes_nothing(
    train: ImageSet, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("pixels@14", "generator#code")
    first = spaces(context_of(train, work), {"beta-vae": TINY}, asked, subsets=4, k=20)
    monkeypatch.setattr(Space, "build", lambda *_: pytest.fail("computed again"))
    again = spaces(context_of(train, work), {"beta-vae": TINY}, asked, subsets=4, k=20)
    assert again.as_json() == first.as_json()


def test_weightings_share_one_encoder_and_generators_are_bound(
    train: ImageSet, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[str] = []
    original = Space.build

    def counted(self: Space, *args: Any) -> Any:
        built.append(self.name)
        return original(self, *args)

    monkeypatch.setattr(Space, "build", counted)
    valuers = space_valuers(Space.parse("pixels@8"), train, None)
    for valuer in valuers.values():
        valuer.make(3, 0)
    assert built == ["pixels@8"]
    assert len({json.dumps(valuer.settings) for valuer in valuers.values()}) == len(WEIGHTINGS)
    own = space_valuers(Space.parse("generator#first"), train, None)["Eq. 6"]
    assert own.suited(None) is None
    with pytest.raises(InputError, match="generator#first looks into the generator"):
        own.make(3, 0)


def test_a_named_generator_is_known_by_what_is_in_its_file(train: ImageSet, tmp_path: Path) -> None:
    file = tmp_path / "vae.safetensors"

    def key(text: str) -> Any:
        return space_valuers(Space.parse(text), train, None)["Eq. 6"].settings

    file.write_bytes(b"one")
    first = key(f"generator:{file}#code")
    assert key(f"generator:{file}#code") == first
    file.write_bytes(b"two")
    assert key(f"generator:{file}#code") != first
    assert "files" not in key("pixels@14")


def test_default_spaces_can_be_read_and_fit_the_images() -> None:
    everything = [Space.parse(name) for name in default_spaces(28, 5_000)]
    assert len({space.name for space in everything}) == len(everything) > 20
    assert {layer for space in everything for layer in space.layers} == {"code", "first", "middle"}
    assert "pca:64@28" in default_spaces(28, 5_000)
    assert not any("pca:64" in name for name in default_spaces(28, 60))


def test_a_mixture_is_read_part_by_part() -> None:
    space = Space.parse("pixels@28 + 0.5 * generator#middle:300+2*pca:4@28")
    assert space.parts == (("pixels@28", 1.0), ("generator#middle:300", 0.5), ("pca:4@28", 2.0))
    assert space.layers == ("middle",)
    assert space.encoders == ("pixels@28",)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("nonsense", "unknown encoder 'nonsense'"),
        ("pca:64", "write pca:64@28"),
        ("generator#last", "names no layer of a generator; pass code, first, middle"),
        ("pixels@28 + pixels@28", "names a part twice"),
        ("pixels@28 +", "cannot be read"),
    ],
)
def test_what_is_no_space_is_refused(text: str, wanted: str) -> None:
    with pytest.raises(InputError, match=wanted):
        Space.parse(text)


def test_spaces_without_their_weights_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GMVALUATOR_OFFLINE", "1")
    able, notes = at_hand([Space.parse("pixels@8"), Space.parse("pixels@8 + alexnet")])
    assert [space.name for space in able] == ["pixels@8"]
    assert notes == [
        "pixels@8 + alexnet is left out. alexnet is left out: its weights are not on this machine."
    ]


def test_spaces_that_suit_nothing_are_refused(
    train: ImageSet, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {"subsets": 4, "k": 20, "recipes": {"beta-vae": TINY}}
    with pytest.raises(InputError, match="no generator has the layers of generator#middle"):
        spaces(context_of(train, work), names=["generator#middle"], **asked)
    monkeypatch.setenv("GMVALUATOR_OFFLINE", "1")
    with pytest.raises(InputError, match=r"no space is left\. alexnet is left out: its"):
        spaces(context_of(train, work), names=["alexnet"], **asked)
