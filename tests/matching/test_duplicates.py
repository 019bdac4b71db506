"""Copies within a training set: found by pixels and by distance, counted once, sharing a value."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from gmvaluator import GMValuator, ImageSet, InputError, RunError, Valuation, Weights
from gmvaluator.certainty.uncertainty import uncertainty_run
from gmvaluator.cli import cli
from gmvaluator.encoders import load_encoder
from gmvaluator.encoders.backends import Runtime
from gmvaluator.encoders.embedding import embed
from gmvaluator.images import set_fingerprint
from gmvaluator.matching.duplicates import find as duplicates
from gmvaluator.matching.duplicates.clusters import Clusters
from gmvaluator.matching.duplicates.differences import Differences
from gmvaluator.matching.duplicates.find import REDUCED, ROUNDING, exact_copies
from gmvaluator.progress import Silent
from image_makers import drawn_icons, encode, random_images, write_files

Digits = tuple[NDArray[np.uint8], NDArray[np.int64]]
Floats = NDArray[np.float32]

QUICK: dict[str, Any] = {"encoder": "pixels@14", "rerank": "pixels@28", "k": 20, "cache": False}
BY_DISTANCE: dict[str, Any] = {"weighting": "softmax", "mirror": False}
WEIGHTINGS: list[dict[str, Any]] = [
    {},
    {"temperature": "auto"},
    BY_DISTANCE | {"temperature": 1.0},
    BY_DISTANCE | {"temperature": "auto"},
    BY_DISTANCE | {"temperature": "spacing"},
    {"weighting": "shapley"},
    {"weighting": "ridge"},
    {"weighting": "global-ridge", "rerank": "none"},
]


def value(train: Any, generated: Any, **settings: Any) -> Valuation:
    return GMValuator(**(QUICK | settings)).fit(train).value(generated)


def jpeg(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(encode(image, "JPEG", quality=quality))))


def found_among(images: Any, vectors: Floats | None = None) -> NDArray[np.int64]:
    """Representatives of the images of a set, in the order of their keys, then rows."""
    opened = ImageSet.open(images)
    keys = [opened.content_key(row) for row in range(len(opened))]
    order = np.array(sorted(range(len(keys)), key=lambda row: (keys[row], row)))
    if vectors is None:
        vectors = np.stack([opened[row].mean(axis=(0, 1)) for row in range(len(opened))])
    rows = np.arange(len(opened))
    return exact_copies(opened, rows, keys, order, vectors.astype(np.float32), Silent())


def groups(representatives: NDArray[np.int64]) -> set[frozenset[int]]:
    """Clusters of two or more."""
    members: dict[int, set[int]] = {}
    for row, leader in enumerate(representatives.tolist()):
        members.setdefault(leader, set()).add(row)
    assert all(leader in rows for leader, rows in members.items())
    return {frozenset(rows) for rows in members.values() if len(rows) > 1}


# ---- the law


@pytest.mark.parametrize("settings", WEIGHTINGS)
def test_splitting_an_image_into_a_hundred_copies_gains_nothing(
    digits: Digits, settings: dict[str, Any]
) -> None:
    train, generated = digits[0][:200], digits[0][200:212]
    before = value(train, generated, **settings)
    copied = int(np.argsort(-before.values)[20])
    larger = np.concatenate([train, np.repeat(train[copied][None], 99, axis=0)])
    after = value(larger, generated, **settings)
    owned = after.values[[copied, *range(200, 299)]]
    assert owned.sum() <= 1.01 * before.values[copied]
    np.testing.assert_allclose(owned, before.values[copied] / 100, rtol=1e-5)
    others = np.delete(np.arange(200), copied)
    np.testing.assert_allclose(after.values[others], before.values[others], rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize(
    "weighting", [BY_DISTANCE | {"temperature": "spacing", "mixing": "fixed"}, {}]
)
def test_copies_of_other_bytes_gain_nothing_either(
    digits: Digits, tmp_path: Path, weighting: dict[str, Any]
) -> None:
    """They may move the image within the samples that scales and spacing are learned of."""
    train, generated = digits[0][:200], digits[0][200:212]
    files = {f"{row:03d}.png": encode(image) for row, image in enumerate(train)}
    settings: dict[str, Any] = {"rerank": ["pixels@28", "pixels@7"], **weighting}
    before = value(write_files(tmp_path / "plain", files), generated, **settings)
    copied = int(np.argsort(-before.values)[20])
    for number in range(99):
        told = PngImagePlugin.PngInfo()
        told.add_text("copy", str(number))
        files[f"copy{number}.png"] = encode(train[copied], pnginfo=told)
    after = value(write_files(tmp_path / "copied", files), generated, **settings)
    owned = [row for row, name in enumerate(after.train_ids) if name.startswith("copy")]
    total = after.values[[copied, *owned]].sum()
    assert 0.95 * before.values[copied] < total <= 1.01 * before.values[copied]


@pytest.mark.parametrize("settings", WEIGHTINGS)
def test_without_dedup_it_gains(digits: Digits, settings: dict[str, Any]) -> None:
    """Fewer copies than k: of Shapley values a hundred would leave none, equal to the next."""
    train, generated = digits[0][:200], digits[0][200:212]
    before = value(train, generated, dedup="none", **settings)
    copied = int(np.argsort(-before.values)[20])
    larger = np.concatenate([train, np.repeat(train[copied][None], 9, axis=0)])
    after = value(larger, generated, dedup="none", **settings)
    total = after.values[[copied, *range(200, 209)]].sum()
    # kernel ridge, which expected-rank reads, shares out the weight of an image among its copies
    assert (total > 1.5 * before.values[copied]) == (
        settings.get("weighting") in ("softmax", "shapley")
    )


# ---- exact copies


def test_equal_pixels_are_copies_whatever_their_files(tmp_path: Path) -> None:
    grey = random_images(4, size=9)[..., 0]
    colour = np.repeat(grey[0][..., None], 3, axis=2)
    files = {
        "a.png": encode(grey[0]),
        "b.bmp": encode(grey[0], "BMP"),
        "c.png": encode(colour),
        "d.png": encode(grey[0], compress_level=0),
        "e.png": encode(grey[0]),
        "f.png": encode(grey[1]),
        "g.png": encode(np.ascontiguousarray(grey[1].T)),
        "h.tif": encode(grey[2], "TIFF"),
        "i.png": encode(grey[2]),
        "j.png": encode(grey[3]),
    }
    found = found_among(write_files(tmp_path / "set", files))
    assert groups(found) == {frozenset({0, 1, 2, 3, 4}), frozenset({7, 8})}


def test_only_images_with_a_neighbour_are_decoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    images = random_images(300)
    asked: list[int] = []
    real = ImageSet.pixel_keys

    def watched(self: ImageSet, rows: Any, batch_size: int = 64) -> Any:
        asked.extend(np.asarray(rows).tolist())
        return real(self, rows, batch_size)

    monkeypatch.setattr(ImageSet, "pixel_keys", watched)
    vectors = images.reshape(300, -1).astype(np.float32)
    vectors = np.concatenate([vectors, vectors[:5]])
    assert len(groups(found_among([*images, *images[:5]], vectors))) == 5
    assert asked == []  # arrays of one content
    in_grey = [image[..., :1].repeat(3, axis=2) for image in images]
    both = [*in_grey, *(image[..., 0] for image in in_grey[:5])]
    assert len(groups(found_among(both, vectors))) == 5
    assert sorted(asked) == [0, 1, 2, 3, 4, 300, 301, 302, 303, 304]


def test_an_encoders_rounding_hides_no_copy() -> None:
    """Vectors of one image differ by a hundred times what float32 was seen to leave."""
    images = [image[..., :1].repeat(3, axis=2) for image in random_images(400)]
    both = [*images, *(image[..., 0] for image in images)]
    chance = np.random.default_rng(0)
    vectors = np.tile(chance.normal(1, 1, (400, 64)), (2, 1))
    vectors += 1e-4 * np.linalg.norm(vectors) / np.sqrt(800 * 64) * chance.normal(size=(800, 64))
    found = found_among(both, vectors.astype(np.float32))
    assert groups(found) == {frozenset({row, row + 400}) for row in range(400)}


def test_neighbours_on_three_lines_are_those_of_all_pairs() -> None:
    chance = np.random.default_rng(1)
    for spread in (0.5, 8.0, 30.0):
        places = chance.uniform(-spread, spread, (250, 3))
        apart = np.abs(places[:, None] - places[None]).max(axis=2) + 9 * np.eye(250)
        wanted = apart.min(axis=1) <= 1
        found = duplicates._likely_copies(places)
        assert found[wanted].all()
        if spread > 1:
            np.testing.assert_array_equal(found, wanted)


def test_vectors_that_tell_nothing_apart_cost_a_decoding_and_no_more() -> None:
    assert duplicates._likely_copies(np.zeros((5_000, 3))).all()
    sizes = (3, 4, 5, 3, 4)
    blank = [np.full((size, size, 3), 7, dtype=np.uint8) for size in sizes]
    blank[0] = blank[0][..., 0]
    for vectors in (np.ones((5, 8)), np.zeros((5, 8))):
        found = found_among(blank, vectors.astype(np.float32))
        assert groups(found) == {frozenset({0, 3}), frozenset({1, 4})}


def test_an_image_that_can_no_longer_be_read_has_no_copies(tmp_path: Path) -> None:
    image = random_images(1)[0]
    files = {f"{kind}.{kind.lower()}": encode(image, kind) for kind in ("BMP", "PNG", "TIFF")}
    images = ImageSet.open(write_files(tmp_path / "set", files))
    keys = [images.content_key(row) for row in range(3)]
    (tmp_path / "set" / "PNG.png").write_bytes(b"no image")
    vectors = np.ones((3, 4), dtype=np.float32)
    rows = np.arange(3)
    found = exact_copies(images, rows, keys, rows, vectors, Silent())
    assert found.tolist() == [0, 1, 0]


def test_a_large_jpeg_and_another_file_of_its_pixels_are_copies(tmp_path: Path) -> None:
    """The JPEG is decoded at a fraction of its size, and the other file whole."""
    noise = np.random.default_rng(0).integers(0, 256, (3, 84, 84, 3), np.uint8)
    photographs = [Image.fromarray(image).resize((672, 672)) for image in noise]
    files = {f"{row}.jpg": encode(picture, "JPEG") for row, picture in enumerate(photographs)}
    pixels = Image.open(io.BytesIO(files["1.jpg"])).convert("RGB")
    files |= {"copy.png": encode(pixels), "copy.bmp": encode(pixels, "BMP")}
    images = ImageSet.open(write_files(tmp_path / "set", files))
    large, bmp, png = (images.ids.index(name) for name in ("1.jpg", "copy.bmp", "copy.png"))
    embeddings = embed(images, load_encoder("pixels@96", Weights(offline=True), Runtime("cpu")))
    vectors = embeddings.vectors
    apart = np.linalg.norm(vectors[large] - vectors[png]) / np.linalg.norm(vectors[png])
    assert ROUNDING < apart < REDUCED
    assert embeddings.fractions.tolist() == [2, 2, 2, 0, 0]
    settings: dict[str, Any] = {"encoder": "pixels@96", "rerank": "none", "k": 2, "null": "off"}
    clusters = GMValuator(**settings).fit(images).value(images).clusters
    assert clusters is not None
    assert groups(clusters.representatives) == {frozenset((large, bmp, png))}


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"quality": "realism"}, "quality 'realism'"),
        ({"rerank": ["pixels@14", "pixels@7"]}, "mixing several re-rank distances"),
        ({"weighting": "softmax", "temperature": "spacing"}, "temperature 'spacing'"),
    ],
)
def test_copies_of_one_image_are_named_where_two_are_needed(
    digits: Digits, settings: dict[str, Any], what: str
) -> None:
    chosen = {"encoder": "pixels@14", "rerank": "none", "quality": "none", "cache": False}
    said = f"{what} needs at least 2 different training images, and the 3 are copies of one"
    with pytest.raises(InputError, match=said):
        GMValuator(**{**chosen, **settings}).fit(np.repeat(digits[0][:1], 3, axis=0))


# ---- near copies


@pytest.fixture
def near_set(digits: Digits) -> tuple[NDArray[np.uint8], set[frozenset[int]]]:
    """200 digits, JPEG copies of the first 12, one of which has 40 copies."""
    images = list(digits[0][:200])
    wanted = []
    for row in range(12):
        made = [jpeg(images[row], quality) for quality in range(60, 100 if row == 3 else 62)]
        wanted.append(frozenset({row, *range(len(images), len(images) + len(made))}))
        images += made
    return np.stack(images), set(wanted)


def test_near_copies_form_clusters_and_real_neighbours_do_not(
    near_set: tuple[NDArray[np.uint8], set[frozenset[int]]], digits: Digits
) -> None:
    train, wanted = near_set
    valuation = value(train, digits[0][200:210], dedup="near", **BY_DISTANCE)
    clusters = valuation.clusters
    assert clusters is not None
    assert groups(clusters.representatives) == wanted
    assert not clusters.near[clusters.kept].any()
    assert (clusters.distances[clusters.near] > 0).all()
    plain = value(train[:200], digits[0][200:210], **BY_DISTANCE)
    for rows in wanted:
        assert valuation.values[list(rows)].sum() <= 1.1 * plain.values[min(rows)] + 0.02
    exact = value(train, digits[0][200:210], **BY_DISTANCE)
    assert exact.clusters is not None
    assert exact.clusters.copies < clusters.copies


def test_near_copies_gain_next_to_nothing_by_the_default(
    near_set: tuple[NDArray[np.uint8], set[frozenset[int]]], digits: Digits
) -> None:
    """Another copy may stand for an image, and ranks grow fast with a distance: so in sum."""
    train, wanted = near_set
    near = value(train, digits[0][200:400], dedup="near")
    plain = value(train[:200], digits[0][200:400])
    assert near.clusters is not None
    assert groups(near.clusters.representatives) == wanted
    copied = [row for rows in wanted for row in rows]
    originals = [min(rows) for rows in wanted]
    assert near.values[copied].sum() == pytest.approx(plain.values[originals].sum(), rel=0.1)


@pytest.mark.parametrize("dedup", ["exact", "near"])
def test_permuting_the_training_set_permutes_the_values(
    near_set: tuple[NDArray[np.uint8], set[frozenset[int]]], digits: Digits, dedup: str
) -> None:
    train = np.concatenate([near_set[0], near_set[0][5:9]])
    shuffle = np.random.default_rng(0).permutation(len(train))
    plain, shuffled = (
        value(images, digits[0][200:210], dedup=dedup) for images in (train, train[shuffle])
    )
    np.testing.assert_allclose(shuffled.values, plain.values[shuffle], rtol=1e-5, atol=1e-9)


def test_no_chain_of_small_steps_leads_to_a_different_image() -> None:
    """Sixty shades of grey, each near the next: clusters stay within the threshold of one."""
    shades = np.arange(0, 240, 4, dtype=np.uint8)
    train = [np.full((8, 8), shade, dtype=np.uint8) for shade in shades]
    train += list(random_images(100)[..., 0])
    settings = {"encoder": "pixels@8", "rerank": "none", "quality": "none", "dedup": "near"}
    clusters = value(train, train[:2], **settings).clusters
    assert clusters is not None
    shade_groups = [sorted(rows) for rows in groups(clusters.representatives)]
    assert len(shade_groups) > 3
    steps = [shades[rows[-1]] - shades[rows[0]] for rows in shade_groups]
    threshold = max(clusters.distances) / np.sqrt(3 * 64) * 255
    assert max(steps) <= 2 * threshold + 4


def test_icons_among_varied_images_are_no_copies_of_each_other() -> None:
    """Beside varied images, the encoders place two clock faces within the threshold."""
    icons = drawn_icons()
    varied = [image.repeat(6, axis=0).repeat(6, axis=1) for image in random_images(150)]
    train = [*icons, *varied, jpeg(icons[0], 80), jpeg(icons[30], 80), jpeg(icons[60], 80)]
    settings = {"encoder": "pixels@8", "rerank": "none", "quality": "none", "dedup": "near"}
    clusters = value(train, train[:2], **settings).clusters
    assert clusters is not None
    n = len(icons) + len(varied)
    assert groups(clusters.representatives) == {
        frozenset({0, n}),
        frozenset({30, n + 1}),
        frozenset({60, n + 2}),
    }


@pytest.mark.parametrize(
    "copied",
    [
        lambda image: image,
        lambda image: jpeg(image, 75),
        lambda image: np.asarray(Image.fromarray(image).resize((96, 96))),
        lambda image: image[1:-1, 1:-1],
        lambda image: np.clip(image * 1.05, 0, 255).astype(np.uint8),
    ],
    ids=["same", "JPEG", "resized", "cropped", "brighter"],
)
def test_no_part_of_a_copy_differs(copied: Any) -> None:
    icons = drawn_icons()[::5]
    pairs = [(icon, copied(icon)) for icon in icons]
    images = ImageSet.open([image for pair in pairs for image in pair])
    numbers = np.arange(len(images))
    differences = Differences(images, numbers)
    assert differences.alike(numbers.reshape(-1, 2)).all()
    # the pairs the other way round, and pairs of different icons
    assert differences.alike(numbers.reshape(-1, 2)[:, ::-1]).all()
    others = np.column_stack([numbers[:-2:2], numbers[2::2]])
    assert not differences.alike(others).any()


def test_a_mirror_image_and_an_inverted_image_differ() -> None:
    clock = drawn_icons()[30]
    images = ImageSet.open([clock, clock[:, ::-1], 255 - clock])
    differences = Differences(images, np.arange(3))
    assert not differences.alike(np.array([[0, 1], [0, 2], [1, 2]])).any()


def test_pixels_of_pairs_are_forgotten_and_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gmvaluator.matching.duplicates.differences.MOST_KEPT", 3)
    icons = drawn_icons()
    differences = Differences(ImageSet.open(icons[[0, 0, 30, 30, 60]]), np.arange(5))
    pairs = np.array([[0, 1], [2, 3], [1, 2], [0, 4], [3, 2]])
    alike = [differences.alike(pair[None])[0] for pair in pairs]
    assert alike == [True, True, False, False, True]
    assert len(differences._pixels) <= 3


def test_an_image_that_became_unreadable_is_no_near_copy(tmp_path: Path) -> None:
    icon = drawn_icons()[0]
    folder = write_files(tmp_path / "set", {f"{n}.png": encode(icon) for n in range(2)})
    images = ImageSet.open(folder)
    (folder / "1.png").unlink()
    assert not Differences(images, np.arange(2)).alike(np.array([[0, 1]])).any()


# ---- the result, its run folder and its index


@pytest.fixture
def train_folder(tmp_path: Path, digits: Digits) -> Path:
    """60 digits; three more files of the first, one of the second."""
    files = {f"{row:02d}.png": encode(digits[0][row]) for row in range(60)}
    files |= {f"copy{n}.png": encode(digits[0][0], compress_level=n) for n in (0, 1)}
    files |= {"copy.bmp": encode(digits[0][0], "BMP"), "twin.png": files["01.png"]}
    return write_files(tmp_path / "train", files)


def test_a_valuation_lists_all_images_and_counts_clusters_once(
    train_folder: Path, digits: Digits, tmp_path: Path
) -> None:
    generated = digits[0][60:72]
    valuation = value(train_folder, generated)
    clusters, scores = valuation.clusters, valuation.contributions.scores
    assert clusters is not None
    assert (len(valuation.train_ids), clusters.copies, clusters.groups) == (64, 4, 2)
    np.testing.assert_allclose(scores.sum(axis=1), valuation.quality, rtol=1e-12)
    np.testing.assert_allclose(valuation.values.sum(), valuation.quality.sum(), rtol=1e-12)
    np.testing.assert_allclose(valuation.score_matrix().sum(axis=1), valuation.values, rtol=1e-12)
    assert set(valuation.contributions.rows.ravel()) <= set(clusters.kept)
    assert all(len(set(rows)) == 20 for rows in valuation.contributions.rows)
    fingerprint = valuation.info["inputs"]["train"]["fingerprint"]
    assert fingerprint == set_fingerprint(valuation.train_ids, valuation.train_keys or ())
    first = [valuation.train_ids.index(name) for name in ("00.png", "copy.bmp", "copy0.png")]
    assert len(set(valuation.values[first])) == len(set(valuation.n_supported[first])) == 1
    plain = value(digits[0][:60], generated)
    np.testing.assert_allclose(4 * valuation.values[first[0]], plain.values[0], rtol=0.05)
    assert valuation.n_supported[first[0]] == plain.n_supported[0]

    run = tmp_path / "run"
    valuation.save(run)
    table = pq.read_table(run / "duplicates.parquet")
    assert {field.name: str(field.type) for field in table.schema} == {
        "cluster": "int64",
        "train_id": "string",
        "representative": "bool",
        "kind": "string",
        "distance": "float",
    }
    rows = table.to_pylist()
    members: dict[int, set[str]] = {}
    for row in rows:
        members.setdefault(row["cluster"], set()).add(row["train_id"])
    wanted = [{"00.png", "copy.bmp", "copy0.png", "copy1.png"}, {"01.png", "twin.png"}]
    assert sorted(members.values(), key=len) == wanted[::-1]
    assert {row["kind"] for row in rows} == {"exact"}
    assert sum(row["representative"] for row in rows) == 2
    listed = set(pq.read_table(run / "contributions.parquet")["train_id"].to_pylist())
    assert not listed & {row["train_id"] for row in rows if not row["representative"]}
    loaded = Valuation.load(run)
    np.testing.assert_array_equal(loaded.values, valuation.values)
    assert loaded.clusters is not None
    np.testing.assert_array_equal(loaded.clusters.representatives, clusters.representatives)
    pq.write_table(table.slice(0, 3), run / "duplicates.parquet")
    with pytest.raises(RunError, match="do not fit together"):
        Valuation.load(run, check=False)
    (run / "duplicates.parquet").unlink()
    with pytest.raises(RunError, match=r"duplicates\.parquet is missing"):
        Valuation.load(run)


def test_intervals_are_of_every_copy(train_folder: Path, digits: Digits) -> None:
    valuation = value(train_folder, digits[0][60:72])
    found = uncertainty_run(valuation)
    assert (found.low <= valuation.values + 1e-12).all()
    assert (valuation.values <= found.high + 1e-12).all()
    copies = [valuation.train_ids.index(name) for name in ("00.png", "copy.bmp", "copy0.png")]
    for each in (found.low, found.high, found.effective):
        assert len(set(each[copies])) == 1


def test_a_run_without_dedup_writes_no_list(train_folder: Path, tmp_path: Path) -> None:
    valuation = value(train_folder, train_folder, dedup="none")
    valuation.save(tmp_path / "run")
    assert not (tmp_path / "run" / "duplicates.parquet").exists()
    assert Valuation.load(tmp_path / "run").clusters is None


def test_older_runs_and_indexes_counted_every_copy(
    train_folder: Path, digits: Digits, tmp_path: Path
) -> None:
    run, index = tmp_path / "run", tmp_path / "index"
    valuator = GMValuator(**QUICK, dedup="none").fit(train_folder)
    valuation = valuator.value(digits[0][60:64])
    valuation.save(run)
    valuator.save(index)
    for file in (run / "run.json", index / "index.json"):
        record = json.loads(file.read_text())
        del record["settings"]["dedup"]
        record.pop("files", None), record.pop("seal", None)
        file.write_text(json.dumps(record))
    assert Valuation.load(run).clusters is None
    for again in (GMValuator.refit(run, cache=False), GMValuator.load(index)):
        assert again.settings.dedup == "none"
        np.testing.assert_array_equal(again.value(digits[0][60:64]).values, valuation.values)
    with pytest.raises(RunError, match="made with dedup 'none', not 'exact'; make an index"):
        GMValuator.load(index, dedup="exact")


@pytest.mark.parametrize("dedup", ["exact", "near"])
def test_an_index_keeps_its_clusters(
    train_folder: Path, digits: Digits, tmp_path: Path, dedup: str
) -> None:
    settings = {"dedup": dedup, "rerank": ["pixels@14", "l2@28"], "quality": "realism"}
    valuator = GMValuator(**(QUICK | settings)).fit(train_folder)
    valuation = valuator.value(digits[0][60:66])
    index = tmp_path / "index"
    valuator.save(index)
    loaded = GMValuator.load(index).value(digits[0][60:66])
    np.testing.assert_array_equal(loaded.values, valuation.values)
    assert loaded.info["inputs"] == valuation.info["inputs"]
    loaded.save(tmp_path / "run")
    again = GMValuator.refit(tmp_path / "run", cache=False).value(digits[0][60:66])
    np.testing.assert_array_equal(again.values, valuation.values)
    table = pq.read_table(index / "duplicates.parquet")
    pq.write_table(table.slice(0, 0), index / "duplicates.parquet")
    with pytest.raises(RunError, match="do not fit together"):
        GMValuator.load(index)
    (index / "duplicates.parquet").unlink()
    with pytest.raises(RunError, match="is damaged"):
        GMValuator.load(index)


def test_clusters_are_joined_by_their_representatives() -> None:
    exact = Clusters.exact(np.array([0, 0, 2, 3, 2, 5]))
    assert exact.kept.tolist() == [0, 2, 3, 5]
    # of the kept images, the first joins the second, the last stays alone
    joined = exact.joined(np.array([1, 1, 1, 3]), np.array([0.5, 0, 0.25, 0], np.float32))
    assert joined.representatives.tolist() == [2, 2, 2, 2, 2, 5]
    assert joined.near.tolist() == [True, True, False, True, False, False]
    assert joined.distances.tolist() == [0.5, 0.5, 0, 0.25, 0, 0]
    assert joined.shared(np.array([0.0, 0, 10, 0, 0, 3])).tolist() == [2, 2, 2, 2, 2, 3]
    group = np.array([0, 0, 1, 1, 1, 2])
    scores = np.array([[1.0, 0.5], [0.0, 2.0]])
    parts = joined.sparse_by_group(np.array([[2, 5], [5, 2]]), scores, group)
    np.testing.assert_allclose(parts.toarray(), [[0.4, 0.6, 0.5], [0.8, 1.2, 0.0]])
    again = Clusters.of_table(joined.table("abcdef"), "abcdef")
    for name in ("representatives", "near", "distances"):
        np.testing.assert_array_equal(getattr(again, name), getattr(joined, name))


# ---- settings


def test_counts_are_of_clusters_and_say_so(train_folder: Path, digits: Digits) -> None:
    message = (
        "k=61 exceeds the 60 different ones of 64 training images; pass k ≤ 60, or dedup='none'"
    )
    with pytest.raises(InputError, match=message):
        GMValuator(**(QUICK | {"k": 61, "candidates": 64})).fit(train_folder)
    settings = GMValuator(**(QUICK | {"k": None})).fit(train_folder).value(digits[0][:1]).info
    assert (settings["settings"]["k"], settings["settings"]["candidates"]) == (50, 60)
    alone = value([digits[0][0]] * 9, digits[0][1:3], k=None, quality="none")
    np.testing.assert_allclose(alone.values, 2 / 9)


def test_names_and_presets() -> None:
    with pytest.raises(InputError, match="unknown dedup 'all'; choose one of none, exact, near"):
        GMValuator(**QUICK, dedup="all")
    assert GMValuator(**QUICK).settings.dedup == "exact"


def test_the_command_line_says_what_was_found(train_folder: Path, tmp_path: Path) -> None:
    fit = ["--encoder", "pixels@14", "--rerank", "none", "--k", "5", "--no-cache", "--quiet"]
    index, run = str(tmp_path / "index"), str(tmp_path / "run")
    told = CliRunner().invoke(cli, ["embed", str(train_folder), "--out", index, *fit])
    said = "4 training images are copies and count once with their originals: 2 clusters"
    assert said in told.output
    told = CliRunner().invoke(cli, ["value", index, str(train_folder), "--out", run, "--quiet"])
    assert said in told.output
    arguments = ["value", str(train_folder), str(train_folder), "--out", run, "--overwrite", *fit]
    told = CliRunner().invoke(cli, [*arguments, "--dedup", "none", "--json"])
    assert json.loads(told.output)["copies"] is None
    told = CliRunner().invoke(cli, [*arguments, "--dedup", "near", "--json"])
    assert json.loads(told.output)["copies"] >= 4
