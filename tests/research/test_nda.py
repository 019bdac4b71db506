"""NDA: equal to an obvious loop over all pairs of patches, and a valuer like the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from test_evaluation import Digits, _quick_classifier, files, open_setup, row

from gmvaluator import ImageSet, Valuation
from gmvaluator.baselines import nda, nda_softmax
from gmvaluator.baselines.nda import NDA
from gmvaluator.baselines.nda_patches import NoiseLevel, Window
from gmvaluator.cli import cli
from gmvaluator.errors import InputError
from gmvaluator.evaluation.studies.identical_class import identical_class
from gmvaluator.evaluation.studies.temperature import temperature
from gmvaluator.evaluation.study import scores_of
from gmvaluator.evaluation.valuers import choose_valuers, named_valuer
from image_makers import encode, random_images, write_files

__all__ = ["files"]

Array = NDArray[np.float64]
MASK = 1e3


def patches_by_loop(image: Array, mask: Array, reach: int, halve: bool) -> list[Array]:
    """Patches of a (C, S, S) image at all positions, with a mask value where nothing is."""
    channels, side, _ = image.shape
    before = (reach - 1) // 2
    found = []
    for top in range(-before, side + before - reach + 1):
        for left in range(-before, side + before - reach + 1):
            patch = np.full((channels, reach, reach), MASK)
            for i in range(reach):
                for j in range(reach):
                    if 0 <= top + i < side and 0 <= left + j < side:
                        patch[:, i, j] = image[:, top + i, left + j]
            if halve:
                rows = patch[:, ::2] + patch[:, 1::2]
                patch = (rows[:, :, ::2] + rows[:, :, 1::2]) / 2
            found.append(patch)
    return found


def scores_by_loop(
    train: Array, drawn: Array, t: int, patch: int, topk: int, *, seed: int = 0, halve: bool = False
) -> Array:
    """(n, m) as the paper defines them: (N, C, S, S) images in [−1, 1], pair after pair."""
    kept = 1.0
    for step in range(t + 1):
        kept *= 1 - (1e-4 + (0.02 - 1e-4) * step / 999)
    noise = np.random.default_rng(seed).standard_normal(drawn.shape[1:])
    reach = 2 * patch if halve else patch
    keys = [patches_by_loop(kept**0.5 * image, image, reach, halve) for image in train]
    scores = np.zeros((len(train), len(drawn)))
    for j, image in enumerate(drawn):
        noised = kept**0.5 * image + (1 - kept) ** 0.5 * noise
        for query in patches_by_loop(noised, noised, reach, halve):
            squared = np.array([[np.sum((query - key) ** 2) for key in each] for each in keys])
            exponents = -squared / (2 * (1 - kept))
            weights = np.exp(exponents - exponents.max())
            weights /= weights.sum()
            scores[:, j] += np.sort(weights, axis=1)[:, -topk:].sum(axis=1)
    return scores


def smooth_images(n: int, size: int, channels: int, seed: int) -> NDArray[np.uint8]:
    """(n, size, size, C) blurred noise: patches have near and far neighbours."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (n, 3, 3, channels)).repeat(4, axis=1).repeat(4, axis=2)
    fine = coarse[:, :size, :size] + rng.normal(0, 25, (n, size, size, channels))
    return np.clip(fine, 0, 255).astype(np.uint8)


def to_signed(images: NDArray[np.uint8]) -> Array:
    return images.transpose(0, 3, 1, 2) / 127.5 - 1


def both_sets(tmp_path: Path, size: int, channels: int) -> tuple[Path, Path, Array, Array]:
    train, drawn = smooth_images(9, size, channels, 0), smooth_images(3, size, channels, 1)
    drawn[0] = train[4]
    for name, images in (("train", train), ("drawn", drawn)):
        np.savez(tmp_path / f"{name}.npz", images=images)
    return tmp_path / "train.npz", tmp_path / "drawn.npz", to_signed(train), to_signed(drawn)


@pytest.mark.parametrize(
    ("size", "channels", "asked"),
    [
        (8, 1, {"patch": 3, "topk": 5, "t": 100}),
        (8, 3, {"patch": 3, "topk": 100, "t": 100}),
        (7, 1, {"patch": 5, "topk": 2, "t": 300}),
        (8, 1, {"patch": 3, "topk": 4, "t": 5}),  # narrow weights, in float64
        (5, 1, {"patch": 7, "topk": 3, "t": 200}),  # no patch lies inside
        (6, 1, {"patch": 1, "topk": 7, "t": 600}),
    ],
)
def test_scores_equal_a_loop_over_all_pairs(
    tmp_path: Path, size: int, channels: int, asked: dict[str, Any]
) -> None:
    train, drawn, x, g = both_sets(tmp_path, size, channels)
    found = NDA(seed=3, **asked).fit(train).scores(drawn)
    wanted = scores_by_loop(x, g, asked["t"], asked["patch"], asked["topk"], seed=3)
    # below a ten thousandth of the mean a score says nothing, and its weights are skipped
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * wanted.mean())
    assert found.sum(axis=0).max() <= size**2 * (1 + 1e-6)


def test_two_scales_mix_the_scores_of_both(tmp_path: Path) -> None:
    train, drawn, x, g = both_sets(tmp_path, 8, 1)
    found = NDA(patch=3, topk=4, scales=2, alpha=0.3).fit(train).scores(drawn)
    full = scores_by_loop(x, g, 100, 3, 4)
    half = scores_by_loop(x, g, 100, 3, 4, halve=True)
    assert np.abs(full - half).max() > 0.1
    wanted = 0.3 * full + 0.7 * half
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * wanted.mean())


def test_blocks_and_memory_leave_scores_as_they_are(
    sets: tuple[ImageSet, ImageSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    train, drawn = sets
    whole = NDA(topk=20).fit(train).scores(drawn)
    monkeypatch.setattr(nda, "_KEYS", 1)
    monkeypatch.setattr(nda, "_TOGETHER", 3)
    monkeypatch.setattr(nda_softmax, "_TILE", 100)
    parts = NDA(topk=20).fit(train).scores(drawn)
    np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-5 * whole.mean())
    turned = NDA(topk=20).fit(train.select(np.arange(len(train))[::-1])).scores(drawn)
    np.testing.assert_allclose(turned[::-1], whole, rtol=1e-4, atol=1e-5 * whole.mean())


def test_skipped_weights_are_negligible(
    sets: tuple[ImageSet, ImageSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    train, drawn = sets
    whole = NDA().fit(train).scores(drawn)
    monkeypatch.setattr(nda_softmax, "NEGLIGIBLE", 0.1)
    skipping = NDA().fit(train).scores(drawn)
    apart = np.abs(skipping - whole).max() / whole.mean()
    assert 1e-5 < apart < 0.1  # more than rounding, and within the law


@pytest.fixture
def sets(tmp_path: Path, digits: Digits) -> tuple[ImageSet, ImageSet]:
    """(40 training digits, 5 generated: the first is training digit 7)."""
    images, labels = digits
    rows = np.r_[7, 100:104]
    np.savez(tmp_path / "train.npz", images=images[:40], labels=labels[:40])
    np.savez(tmp_path / "drawn.npz", images=images[rows], labels=labels[rows])
    return ImageSet.open(tmp_path / "train.npz"), ImageSet.open(tmp_path / "drawn.npz")


def test_shares_sum_to_one_and_a_copy_finds_its_source(
    sets: tuple[ImageSet, ImageSet], tmp_path: Path
) -> None:
    train, drawn = sets
    valuation = NDA(k=6).fit(train).value(drawn)
    kept = valuation.contributions
    assert kept.rows.shape == (5, 6)
    assert (kept.scores >= 0).all()
    assert (np.diff(kept.scores, axis=1) <= 0).all()
    np.testing.assert_allclose(kept.scores.sum(axis=1), valuation.quality)
    assert valuation.values.sum() == pytest.approx(5)
    assert kept.rows[0, 0] == 7
    raw = NDA(k=6).fit(train).scores(drawn)
    best = np.sort(raw, axis=0)[-6:][::-1].T
    np.testing.assert_allclose(kept.scores, best / best.sum(axis=1, keepdims=True))
    told = valuation.info["shares"]
    assert told["sum_kept"] == pytest.approx(best.sum(axis=1).mean())
    assert told["sum_left_out"] == pytest.approx((raw.sum(axis=0) - best.sum(axis=1)).mean())
    assert told["kept_least"] == pytest.approx((best.sum(axis=1) / raw.sum(axis=0)).min())
    valuation.save(tmp_path / "run")
    loaded = Valuation.load(tmp_path / "run")
    np.testing.assert_allclose(loaded.values, valuation.values)
    assert loaded.info["shares"] == told


def test_candidates_are_the_nearest_in_pixels(sets: tuple[ImageSet, ImageSet]) -> None:
    train, drawn = sets
    found = NDA(k=3, candidates=5).fit(train).scores(drawn)
    x, g = (np.stack([np.asarray(each) for each in images]) / 255 for images in (train, drawn))
    for j, image in enumerate(g):
        near = np.argsort(((x - image) ** 2).sum(axis=(1, 2, 3)))[:5]
        assert set(np.flatnonzero(found[:, j])) == set(near.tolist())
        alone = NDA(k=3).fit(train.select(near)).scores(drawn.select([j]))
        np.testing.assert_allclose(found[near, j], alone[:, 0], rtol=1e-4)
    every = NDA(k=3, candidates=40).fit(train).scores(drawn)
    np.testing.assert_array_equal(every, NDA(k=3).fit(train).scores(drawn))


def test_noise_depends_on_the_seed_and_not_on_the_place(sets: tuple[ImageSet, ImageSet]) -> None:
    train, drawn = sets
    first = NDA().fit(train).scores(drawn)
    turned = NDA().fit(train).scores(drawn.select([4, 3, 2, 1, 0]))
    np.testing.assert_allclose(turned[:, ::-1], first, rtol=1e-4, atol=1e-5 * first.mean())
    other = NDA(seed=1).fit(train).scores(drawn)
    assert np.abs(other - first).max() > 1e-2 * first.mean()


def test_size_is_the_images_own_or_32(tmp_path: Path) -> None:
    for size, wanted in ((8, 8), (70, 32)):
        images = random_images(3, size)
        valuation = NDA(k=1, patch=3).fit(images).value(images[:1])
        assert valuation.info["settings"]["size"] == wanted
        assert valuation.contributions.rows[0, 0] == 0
    assert NDA(k=1, size=6, patch=3).fit(images).scores(images[:1]).shape == (3, 1)


def test_grey_and_colour_meet_and_damage_is_told(tmp_path: Path) -> None:
    colour = random_images(4, 8)
    contents = {f"{i}.png": encode(image) for i, image in enumerate(colour)}
    train = write_files(tmp_path / "train", contents | {"bad.png": b"no image"})
    grey = colour[:2, :, :, :1]
    valuation = NDA(k=2, patch=3).fit(train).value(grey)
    assert len(valuation.train_ids) == 4
    assert [(which, skip.id) for which, skip in valuation.skipped] == [("train", "bad.png")]
    spread = NDA(k=2, patch=3).fit(train).scores(grey.repeat(3, axis=3))
    np.testing.assert_array_equal(NDA(k=2, patch=3).fit(train).scores(grey), spread)


def test_regions_cover_each_position_once() -> None:
    for window, side, positions in ((Window(7), 12, 12), (Window(7), 4, 4), (Window(3, 2), 8, 7)):
        seen = np.zeros((positions, positions), dtype=int)
        for region in window.regions(side):
            seen[region.rows, region.columns] += 1
        assert (seen == 1).all()
    assert len(Window(7).regions(28)) == 49
    level = NoiseLevel.at(999)
    assert level.signal**2 + level.variance == pytest.approx(1)
    assert level.signal < 0.01


def test_nda_stands_in_tables_with_its_own_shares(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _quick_classifier(monkeypatch)
    setup = open_setup(files, tmp_path, valuers=("random",), seeds=1, m=10)
    file = tmp_path / "valuers.toml"
    file.write_text('[small]\nvaluer = "nda"\nsize = 14\npatch = 5\n')
    (small,) = choose_valuers((), file)
    assert small.settings == {"valuer": "nda", "size": 14, "patch": 5}
    assert small.baseline
    assert not small.weighted
    context = setup.context(valuers=[small, *setup.valuers])
    table = identical_class(context, (5,)).tables[0]
    assert row(table, "small")["k = 5"].mean > 2 * row(table, "random")["k = 5"].mean
    planted = setup.plant(20, 0.8)
    with pytest.raises(InputError, match="small has no temperature; pass variants of GMValuator"):
        temperature(setup.context(planted, valuers=[small]), planted, 5)


def test_fewer_contributors_share_anew_without_softmax(sets: tuple[ImageSet, ImageSet]) -> None:
    train, drawn = sets
    valuation = named_valuer("nda").make(8, 0).fit(train).value(drawn)
    few = NDA(k=3).fit(train).value(drawn)
    np.testing.assert_allclose(scores_of(valuation, 3), few.contributions.scores, rtol=1e-6)
    np.testing.assert_allclose(scores_of(valuation, 8), valuation.contributions.scores)


def test_settings_of_nda_are_checked(tmp_path: Path) -> None:
    file = tmp_path / "valuers.toml"
    file.write_text('[odd]\nvaluer = "nda"\nencoder = "pixels"\n')
    with pytest.raises(InputError, match="odd has unknown settings encoder; choose from size, t"):
        choose_valuers((), file)
    shown = CliRunner().invoke(cli, ["evaluate", "c1", "--help"]).output
    assert "nda" in shown


WRONG: Any = 1.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NDA(t=1000), "t=1000 was given; pass a step t from 0 to 999"),
        (lambda: NDA(t=-1), "t=-1 was given"),
        (lambda: NDA(patch=8), "patch=8 is even and has no middle; pass 7"),
        (lambda: NDA(topk=0), "topk=0 was given"),
        (lambda: NDA(k=WRONG), "k=1.5 was given"),
        (lambda: NDA(size=1), "size=1 was given; pass a whole number size ≥ 2"),
        (lambda: NDA(k=50, candidates=20), "candidates=20 was given; pass .* candidates ≥ 50"),
        (lambda: NDA(scales=3), "scales=3 was given; pass 1, or 2"),
        (lambda: NDA(alpha=-0.5), r"alpha=-0.5 was given; pass a share"),
        (lambda: NDA().value([]), "not fitted|no images"),
        (lambda: NDA(k=9).fit(random_images(8)).value([]), "k=9 exceeds the 8 training images"),
    ],
)
def test_what_cannot_work_is_told(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
