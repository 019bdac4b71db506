"""Scores that another program computed, as a run that every verb takes or refuses clearly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import coo_array

from gmvaluator import ImageSet, Valuation
from gmvaluator.errors import InputError
from image_makers import encode, random_images

N, M = 24, 5
IDS = [f"t{i}" for i in range(N)]
DRAWN = [f"g{j}" for j in range(M)]


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`train/` and `generated/` with classes, and owners of the training images."""
    monkeypatch.chdir(tmp_path)
    for name, n, seed in (("train", N, 0), ("generated", M, 1)):
        for row, image in enumerate(random_images(n, 8, seed=seed)):
            file = Path(name, "ab"[row % 2], f"{row:02d}.png")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(encode(image))
    lines = [f"{name},{'xy'[row % 2]}" for row, name in enumerate(ImageSet.open("train").ids)]
    Path("owners.csv").write_text("\n".join(["train_id,owner", *lines]), encoding="utf-8")
    return tmp_path


def shares() -> NDArray[np.float64]:
    rng = np.random.default_rng(0)
    raw = rng.random((N, M)) * (rng.random((N, M)) < 0.4)
    raw[0] += 0.1
    return np.asarray(raw / raw.sum(axis=0))


def signed() -> NDArray[np.float64]:
    return np.random.default_rng(0).normal(size=(N, M))


@pytest.mark.parametrize("scores", [shares(), signed(), coo_array(shares())])
def test_the_matrix_comes_back(scores: Any) -> None:
    valuation = Valuation.from_scores(scores, IDS, DRAWN)
    dense = scores.toarray() if isinstance(scores, coo_array) else scores
    np.testing.assert_allclose(valuation.score_matrix(), dense)
    np.testing.assert_allclose(valuation.values, dense.sum(axis=1))
    best = valuation.contributors("g2")
    assert best.ids[0] == IDS[int(dense[:, 2].argmax())]
    assert (np.diff(best.scores) <= 0).all()
    assert valuation.contributions.rows.shape[1] == np.count_nonzero(dense, axis=0).max()


def test_shares_hand_out_quality_and_influences_do_not() -> None:
    half = Valuation.from_scores(shares() / 2, IDS, DRAWN)
    np.testing.assert_allclose(half.quality, 0.5)
    assert not half.record.settings.signed
    # sums of float32 shares are off in the seventh digit, and laws of runs hold to the ninth
    single = Valuation.from_scores(shares().astype(np.float32), IDS, DRAWN, quality=np.ones(M))
    assert not single.record.settings.signed
    np.testing.assert_allclose(single.score_matrix().sum(axis=0), single.quality, atol=1e-12)
    for scores, quality in ((signed(), None), (shares() * 9, None), (shares(), np.full(M, 0.5))):
        influences = Valuation.from_scores(scores, IDS, DRAWN, quality=quality)
        assert influences.record.settings.signed
        np.testing.assert_array_equal(influences.score_matrix(), scores)


def test_distances_are_kept_beside_the_scores() -> None:
    distances = np.random.default_rng(1).random((N, M))
    valuation = Valuation.from_scores(shares(), IDS, DRAWN, distances=distances)
    rows = valuation.contributions.rows
    wanted = distances[rows, np.arange(M)[:, None]]
    np.testing.assert_allclose(valuation.contributions.distances, wanted, rtol=1e-6)


@pytest.mark.parametrize("scores", [shares(), signed()])
def test_verbs_take_the_run(
    folders: Path, call: Callable[..., tuple[int, str, str]], scores: NDArray[np.float64]
) -> None:
    Valuation.from_scores(scores, "train/", "generated/", name="mine").save("run")
    assert Valuation.load("run").info["settings"]["valuer"] == "mine"
    negative = bool((scores < 0).any())
    taken = [
        (0, "verify run"),
        (0, "report run"),
        (0, "audit run --encoder pixels@4"),
        (0, "curate run --out look --off-manifold 0"),
        (2 if negative else 0, "uncertainty run"),
        (2 if negative else 0, "payout run --owners owners.csv --budget 100 --withdraw x"),
        (0, "verify run"),
        (2, "stability run"),
        (2, "extend run generated/"),
        (2, "value run generated/ --out other"),
    ]
    for status, words in taken:
        done, _, error = call(*words.split())
        assert done == status, (words, error)
        if words.startswith(("extend", "value")):
            assert "scores by 'mine', whose settings value no images here" in error
        if words.startswith("stability"):
            assert "not made by GMValuator" in error


def test_places_off_the_manifold_are_those_of_the_default_encoder(
    folders: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    Valuation.from_scores(shares(), "train/", DRAWN).save("run")
    assert call("curate", "run", "--out", "look", "--off-manifold", "2")[0] == 0
    assert "default encoder" in Path("look/curation.json").read_text(encoding="utf-8")
    Valuation.from_scores(shares(), IDS, DRAWN).save("ids")
    status, _, error = call("curate", "ids", "--out", "other")
    assert status == 2
    assert "--off-manifold 0" in error


def test_what_does_not_fit_is_refused() -> None:
    broken = shares()
    broken[3, 2] = np.nan
    wrong: list[tuple[Any, dict[str, Any], str]] = [
        (shares().T, {}, r"shape \(5, 24\).*pass one of \(24, 5\).*transpose it"),
        (shares()[1:], {}, r"scores has shape \(23, 5\)"),
        (broken, {}, "nan at training image 3 and generated image 2"),
        (coo_array(broken), {}, "nan at training image 3"),
        ([["a"] * M] * N, {}, "scores are no numbers"),
        (shares(), {"distances": np.zeros((M, N))}, "distances has shape"),
        (shares(), {"distances": np.full((N, M), np.inf)}, "distances has NaN or infinite"),
        (shares(), {"quality": np.full(M, 2.0)}, "quality has shape"),
        (shares(), {"train": ["t0", "t0", *IDS[2:]]}, "two training images have the id 't0'"),
    ]
    for scores, changes, message in wrong:
        with pytest.raises(InputError, match=message):
            Valuation.from_scores(scores, **({"train": IDS, "generated": DRAWN} | changes))
