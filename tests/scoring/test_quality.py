"""Quality q_j: the realism score against its definition, MANIQA against pyiqa, given numbers."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gmvaluator import GMValuator
from gmvaluator.errors import InputError, MissingPackageError, MissingWeightsError
from gmvaluator.geometry import Vectors
from gmvaluator.images import ImageSet, Preprocessing
from gmvaluator.progress import Advance
from gmvaluator.scoring.quality import (
    QUALITIES,
    RealismReference,
    as_quality,
    maniqa,
    realism,
    supplied_quality,
    untrained_maniqa,
)
from gmvaluator.weights import Weights
from image_makers import encode, random_images, write_files

# --- realism (Kynkäänniemi et al., NeurIPS 2019, Eq. 3)


def cloud(n: int, seed: int = 0, dim: int = 6) -> Vectors:
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


def fitted(train: Vectors) -> RealismReference:
    return RealismReference.fit(train, np.arange(len(train)))


def obvious_realism(generated: Vectors, train: Vectors, neighbours: int = 3) -> list[float]:
    """Eq. 3 word by word: one loop a quantifier."""
    radii = [
        sorted(float(np.linalg.norm(a.astype(float) - b)) for b in train)[neighbours] for a in train
    ]
    median = sorted(radii)[(len(radii) - 1) // 2]
    return [
        min(
            1.0,
            max(
                radius / float(np.linalg.norm(point.astype(float) - real))
                for real, radius in zip(train, radii, strict=True)
                if radius <= median
            ),
        )
        for point in generated
    ]


@pytest.mark.parametrize("n", [30, 31])
def test_realism_is_its_definition(n: int) -> None:
    train, generated = cloud(n), 2 * cloud(40, seed=1)
    scores = realism(generated, train, fitted(train))
    np.testing.assert_allclose(scores, obvious_realism(generated, train), rtol=1e-6)
    assert scores.dtype == np.float64
    assert (scores < 1).any()
    assert (scores == 1).any()


def test_spheres_above_the_median_are_dropped() -> None:
    train = cloud(41)
    every = np.linalg.norm(train[:, None].astype(float) - train[None], axis=2)
    radii = np.sort(every, axis=1)[:, 3]
    reference = fitted(train)
    np.testing.assert_array_equal(reference.rows, np.flatnonzero(radii <= np.median(radii)))
    np.testing.assert_allclose(reference.radii, radii[reference.rows], rtol=1e-6)
    assert len(reference.rows) == 21


def test_realism_knows_real_from_noise(digits: tuple[NDArray[np.uint8], Any]) -> None:
    pixels: Vectors = (digits[0].reshape(len(digits[0]), -1) / 255).astype(np.float32)
    train, held_out = pixels[:600], pixels[600:800]
    noise: Vectors = np.random.default_rng(0).uniform(0, 1, (200, 784)).astype(np.float32)
    reference = fitted(train)
    real = realism(held_out, train, reference)
    assert (realism(train[reference.rows], train, reference) == 1).all()
    assert np.median(real) > 0.7
    assert realism(noise, train, reference).max() < real.min()
    assert realism(1000 * noise, train, reference).max() < 0.01


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_a_copy_of_a_reference_image_is_real(scale: float) -> None:
    train = (scale * cloud(50) + 20 * scale).astype(np.float32)
    reference = fitted(train)
    assert (realism(train[reference.rows], train, reference) == 1).all()


def test_small_distances_far_from_the_origin_keep_their_digits() -> None:
    # a float32 product would leave no digit of distances near 1 beside norms near 1e8
    shift = np.float32(4096)
    train, generated = cloud(40) + shift, 2 * cloud(40, seed=1) + shift
    scores = realism(generated, train, fitted(train))
    np.testing.assert_allclose(scores, obvious_realism(generated, train), rtol=1e-6)


def test_realism_of_an_image_does_not_depend_on_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    train, generated = cloud(50), 2 * cloud(40, seed=1)
    reference = fitted(train)
    whole = realism(generated, train, reference)
    for rows in ([3], [5, 1, 30], np.arange(40)[::-1]):
        np.testing.assert_allclose(
            realism(generated[rows], train, reference), whole[rows], rtol=1e-12
        )
    from gmvaluator.geometry import blocks
    from gmvaluator.scoring import quality

    # memory is bounded by blocks of both sides; they must not show
    monkeypatch.setattr(quality, "blocks", lambda n, row_bytes: blocks(n, row_bytes, 7 * 48))
    np.testing.assert_allclose(realism(generated, train, reference), whole, rtol=1e-12)


def test_the_reference_is_chosen_by_content_not_by_listing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from gmvaluator.scoring import quality

    monkeypatch.setattr(quality, "REFERENCE_SIZE", 25)
    train, generated = cloud(60), 2 * cloud(20, seed=1)
    order = np.random.default_rng(2).permutation(60)  # the order by content
    listed = np.random.default_rng(3).permutation(60)  # another listing of the same images
    where = np.argsort(listed)
    first = RealismReference.fit(train, order)
    second = RealismReference.fit(train[listed], where[order])
    assert set(first.rows) <= set(order[:25])
    np.testing.assert_array_equal(listed[second.rows], first.rows)
    np.testing.assert_allclose(
        realism(generated, train[listed], second), realism(generated, train, first), rtol=1e-12
    )


@pytest.mark.parametrize("n", [0, 1])
def test_one_training_image_has_no_neighbours(n: int) -> None:
    with pytest.raises(InputError, match=f"at least 2 training images, not {n}; pass quality 'non"):
        fitted(cloud(n))


@pytest.mark.parametrize("n", [2, 3, 4])
def test_few_training_images_take_the_neighbours_they_have(n: int) -> None:
    train = cloud(n)
    reference = fitted(train)
    assert (reference.radii > 0).all()
    assert (realism(train[reference.rows], train, reference) == 1).all()


def test_nothing_but_duplicates_scores_without_nan() -> None:
    train = np.repeat(cloud(1) + 3, 10, axis=0)
    generated = np.concatenate([train[:1], train[:1] + 1])
    np.testing.assert_array_equal(realism(generated, train, fitted(train)), [1, 0])


def test_repeating_the_training_set_changes_nothing() -> None:
    train, generated = cloud(40), 2 * cloud(30, seed=1)
    once = realism(generated, train, fitted(train))
    repeated = np.repeat(train, 5, axis=0)
    np.testing.assert_allclose(realism(generated, repeated, fitted(repeated)), once, rtol=1e-12)
    assert once.min() > 0


# --- MANIQA, with random weights of its own architecture


class Record:
    """A progress listener that adds up what it hears."""

    def __init__(self) -> None:
        self.stages: dict[str, list[int]] = {}

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        counts = self.stages.setdefault(name, [total])
        yield counts.append


def pyiqa_module() -> Any:
    pytest.importorskip("pyiqa")
    return importlib.import_module("pyiqa.archs.maniqa_arch")


def untrained(monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    """pyiqa's reference metric asks timm for trained weights: give it random ones."""
    module = pyiqa_module()
    create = module.timm.create_model

    def build(name: str, pretrained: bool = False) -> torch.nn.Module:
        model: torch.nn.Module = create(name, **options)
        return model

    monkeypatch.setattr(module, "timm", SimpleNamespace(create_model=build))


def reference_metric(seed: int = 0, **options: Any) -> Any:
    """pyiqa's own metric; random weights scaled up so that scores differ between images."""
    import pyiqa

    torch.manual_seed(seed)
    metric = pyiqa.create_metric("maniqa", device=torch.device("cpu"), pretrained=False, **options)
    with torch.no_grad():
        metric.net.fc_score[3].bias.fill_(0.3)
        metric.net.fc_score[3].weight.mul_(5)
    return metric


def reference_scores(metric: Any, images: ImageSet) -> NDArray[np.float64]:
    (batch,) = images.batches(Preprocessing(224))
    with torch.inference_mode():
        scores = metric(torch.from_numpy(batch.pixels).float() / 255)
    return np.asarray(scores.flatten().tolist())


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """pyiqa's MANIQA at an eighth of the width: the same layers, quick enough for many tests.

    Returns the options that `create_metric` wants for it: it finds the class elsewhere.
    """
    module = pyiqa_module()
    untrained(monkeypatch, embed_dim=96, num_heads=3)
    width = {"embed_dim": 96, "dim_mlp": 96}
    own = module.MANIQA
    monkeypatch.setattr(module, "MANIQA", lambda **options: own(**options, **width))
    return width


@pytest.fixture(scope="module")
def pictures() -> ImageSet:
    """Smooth, noisy and flat: 3 images of different sizes."""
    ramp = np.linspace(0, 255, 224 * 224 * 3).reshape(224, 224, 3).astype(np.uint8)
    flat = np.full((90, 50, 3), 200, dtype=np.uint8)
    return ImageSet.open([ramp, random_images(1, 64)[0], flat])


def test_maniqa_has_the_tensors_of_pyiqas_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    untrained(monkeypatch)

    def shapes(network: torch.nn.Module) -> dict[str, torch.Size]:
        return {name: tensor.shape for name, tensor in network.state_dict().items()}

    published = shapes(pyiqa_module().MANIQA(pretrained=False))
    assert shapes(untrained_maniqa()) == published


def test_maniqa_of_a_set_is_pyiqas_and_the_same_every_time(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    narrow: dict[str, int],
    pictures: ImageSet,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # pyiqa averages crops; from 4 on (its default is 20) all are the same at the crop's own size
    metric = reference_metric(test_sample=4, **narrow)
    wanted = reference_scores(metric, pictures)
    weights = Weights({"maniqa": saved(metric, tmp_path)}, offline=True)
    capsys.readouterr()
    record = Record()
    rows = np.arange(3)
    given = maniqa(pictures, rows, weights, progress=record)
    np.testing.assert_allclose(given, wanted, atol=1e-5, rtol=0)
    assert len(set(given.round(4))) == 3
    assert ((given > 0) & (given < 1)).all()
    # pyiqa's random crops, were they used, would draw from here
    np.random.seed(1)
    torch.manual_seed(1)
    np.testing.assert_array_equal(maniqa(pictures, rows, weights), given)
    assert record.stages == {"quality: maniqa": [3, 3]}
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr("gmvaluator.scoring.quality.MANIQA_BATCH", 1)
    order = np.array([2, 0])
    np.testing.assert_allclose(maniqa(pictures, order, weights), given[order], atol=1e-5)


def saved(metric: Any, folder: Path, **changes: float) -> Path:
    """Its weights as a file; `changes` overwrite tensors of the last scoring layer."""
    state = metric.net.state_dict()
    for name, value in changes.items():
        state[f"fc_score.3.{name}"].fill_(value)
    path = folder / "narrow.pt"
    torch.save(state, path)
    return path


def test_pyiqas_crops_of_an_image_of_their_size_are_one_crop() -> None:
    pyiqa_module()
    crop = importlib.import_module("pyiqa.archs.arch_util").uniform_crop
    pixels = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    crops = crop(pixels, crop_size=224, crop_num=20).reshape(2, 20, 3, 224, 224)
    assert torch.equal(crops, crops[:, :1].expand_as(crops))
    assert torch.equal(crops[:, 0], crop(pixels, crop_size=224, crop_num=1))


@pytest.mark.parametrize("wrapped", [False, True])
def test_maniqa_reads_checkpoints_of_training(
    wrapped: bool, tmp_path: Path, narrow: dict[str, int]
) -> None:
    state = reference_metric(**narrow).net.state_dict()
    state = {f"module.{name}": tensor for name, tensor in state.items()}
    torch.save({"params": state} if wrapped else state, tmp_path / "maniqa.pt")
    QUALITIES["maniqa"].require(Weights({"maniqa": tmp_path / "maniqa.pt"}, offline=True))


@pytest.mark.parametrize(("bias", "wanted"), [(7.0, 1.0), (-1.0, 0.0)])
def test_maniqa_stays_between_0_and_1(
    bias: float, wanted: float, tmp_path: Path, narrow: dict[str, int], pictures: ImageSet
) -> None:
    path = saved(reference_metric(**narrow), tmp_path, weight=0.0, bias=bias)
    scores = maniqa(pictures, np.array([1]), Weights({"maniqa": path}, offline=True))
    np.testing.assert_array_equal(scores, [wanted])


def test_maniqa_refuses_scores_that_are_no_numbers(
    tmp_path: Path, narrow: dict[str, int], pictures: ImageSet
) -> None:
    path = saved(reference_metric(**narrow), tmp_path, bias=np.nan)
    with pytest.raises(InputError, match=r"NaN .* check the weight file .*narrow\.pt"):
        maniqa(pictures, np.array([1]), Weights({"maniqa": path}, offline=True))


def test_building_maniqa_leaves_timm_as_it_was(tmp_path: Path, narrow: dict[str, int]) -> None:
    module = pyiqa_module()
    before = module.timm
    path = saved(reference_metric(**narrow), tmp_path)
    QUALITIES["maniqa"].require(Weights({"maniqa": path}, offline=True))
    assert module.timm is before


@pytest.mark.parametrize("content", [{"weight": torch.zeros(2)}, {3: torch.zeros(2)}])
def test_weights_of_another_network_are_refused(
    content: dict[Any, Any], tmp_path: Path, narrow: dict[str, int]
) -> None:
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(InputError, match=r"other\.pt does not fit MANIQA"):
        QUALITIES["maniqa"].require(Weights({"maniqa": tmp_path / "other.pt"}, offline=True))


def test_a_file_that_is_no_checkpoint_is_refused_unread(tmp_path: Path) -> None:
    pyiqa_module()
    (tmp_path / "page.pt").write_text("<html>not found</html>", encoding="utf-8")
    with pytest.raises(InputError, match=r"page\.pt cannot be read"):
        QUALITIES["maniqa"].require(Weights({"maniqa": tmp_path / "page.pt"}, offline=True))


def test_missing_maniqa_weights_name_the_file(tmp_path: Path) -> None:
    pyiqa_module()
    for call in (
        lambda weights: QUALITIES["maniqa"].require(weights),
        lambda weights: maniqa(ImageSet.open(random_images(1)), np.array([0]), weights),
    ):
        with pytest.raises(MissingWeightsError, match=r"ckpt_koniq10k\.pt.*weights maniqa=PATH"):
            call(Weights(cache_dir=tmp_path, offline=True))


def test_maniqa_without_pyiqa_names_the_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    with pytest.raises(MissingPackageError, match=r"pip install .*'pyiqa<"):
        QUALITIES["maniqa"].require(Weights(offline=True))


def test_a_broken_pyiqa_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pyiqa_module()
    monkeypatch.setitem(sys.modules, "pyiqa.archs", None)
    (tmp_path / "m.pt").write_bytes(b"")
    with pytest.raises(MissingPackageError, match=r"cannot be imported \(.*pyiqa\.archs"):
        QUALITIES["maniqa"].require(Weights({"maniqa": tmp_path / "m.pt"}, offline=True))


@pytest.mark.parametrize("name", [name for name in QUALITIES if name != "maniqa"])
def test_other_qualities_need_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    QUALITIES[name].require(Weights(offline=True))


# --- given by the user


@pytest.fixture
def partly_broken(tmp_path: Path) -> ImageSet:
    """4 declared images, of which row 1 cannot be read."""
    good = encode(random_images(1)[0])
    names = {"a.png": good, "b.png": good[:20], "c.png": good, "d.png": good}
    return ImageSet.open(write_files(tmp_path / "generated", names))


READABLE = np.array([0, 2, 3])


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_numbers_for_all_declared_images_lose_those_of_skipped_ones(
    kind: Any, partly_broken: ImageSet
) -> None:
    given = supplied_quality(kind([0.25, 0.5, 0.75, 1]), partly_broken, READABLE)
    np.testing.assert_array_equal(given, [0.25, 0.75, 1])
    assert given.dtype == np.float64


def test_numbers_for_the_readable_images_are_taken_as_they_are(partly_broken: ImageSet) -> None:
    given = supplied_quality([0.25, 0.5, 1], partly_broken, READABLE)
    np.testing.assert_array_equal(given, [0.25, 0.5, 1])


def test_a_function_gets_the_whole_set(partly_broken: ImageSet) -> None:
    def by_name(images: ImageSet) -> list[float]:
        return [{"a": 0.1, "c": 0.3}.get(name[0], 0.9) for name in images.ids]

    given = supplied_quality(by_name, partly_broken, READABLE)
    np.testing.assert_array_equal(given, [0.1, 0.3, 0.9])


@pytest.mark.parametrize(
    "wrong", [0.5, [0.5], [0.5] * 5, [[0.5]] * 4, [], lambda images: [0.5] * 2]
)
def test_another_number_of_qualities_is_refused(wrong: Any, partly_broken: ImageSet) -> None:
    with pytest.raises(InputError, match=r"has shape .* for 4 generated .* shape \(4,\)"):
        supplied_quality(wrong, partly_broken, READABLE)


def test_a_tensor_of_any_kind_may_be_a_quality(partly_broken: ImageSet) -> None:
    for tensor in (torch.ones(4, requires_grad=True), torch.ones(4, dtype=torch.bfloat16)):
        np.testing.assert_array_equal(supplied_quality(tensor, partly_broken, READABLE), [1, 1, 1])


@pytest.mark.parametrize(
    "wrong",
    [["good"] * 4, [[0.5], [0.5, 1]], {"a": 1}, lambda _: "x"],
)
def test_what_is_no_number_is_refused(wrong: Any, partly_broken: ImageSet) -> None:
    with pytest.raises(InputError, match=r"cannot be read as numbers .* shape \(4,\)"):
        supplied_quality(wrong, partly_broken, READABLE)


def test_weights_of_a_quality_are_named_by_their_hash(tmp_path: Path) -> None:
    file = tmp_path / "maniqa.pt"
    file.write_bytes(b"weights")
    weights = Weights({"maniqa": file}, offline=True)
    assert QUALITIES["maniqa"].hashes(weights) == {"maniqa": hashlib.sha256(b"weights").hexdigest()}
    assert QUALITIES["realism"].hashes(weights) == {}
    assert as_quality([1.0]).hashes(weights) == {}


def test_a_set_of_copies_of_one_picture_tells_no_quality(
    digits: tuple[NDArray[np.uint8], NDArray[np.int64]],
) -> None:
    images = np.concatenate([np.repeat(digits[0][:1], 9, axis=0), digits[0][1:3]])
    settings = {"encoder": "pixels@8", "rerank": "none", "dedup": "none", "k": 2}
    valuation = GMValuator.preset("offline", **settings).fit(images).value(digits[0][5:7])
    np.testing.assert_array_equal(valuation.quality, 1)
