"""Re-rank: distances of pairs, mixing, ties, and how often an image passes a network."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gmvaluator.encoders.base import Encoder
from gmvaluator.encoders.custom import wrap
from gmvaluator.encoders.mirrored import Mirrored
from gmvaluator.errors import InputError, RunError
from gmvaluator.geometry import Space
from gmvaluator.images import ImageSet, Preprocessing
from gmvaluator.matching.placed import PlacedSet
from gmvaluator.matching.recall import Candidates
from gmvaluator.matching.rerank import Term, pair_distances, rerank
from gmvaluator.memory import Budget

# more of either than one batch holds
N, M, C = 150, 70, 15


@pytest.fixture
def images(digits: tuple[NDArray[np.uint8], NDArray[np.int64]]) -> tuple[ImageSet, ImageSet]:
    return ImageSet.open(digits[0][:N]), ImageSet.open(digits[0][N : N + M])


@pytest.fixture
def candidates() -> Candidates:
    rng = np.random.default_rng(0)
    rows = np.stack([rng.choice(N, C, replace=False) for _ in range(M)])
    return Candidates(rows=rows, distances=np.sort(rng.random((M, C), np.float32)), n_train=N)


class Counting:
    """An encoder function that counts how often it saw each image."""

    def __init__(self, size: int = 14) -> None:
        self.seen: Counter[bytes] = Counter()
        self.encoder: Encoder = wrap(
            self._encode,
            name=f"counting{size}",
            metric="euclidean",
            preprocessing=Preprocessing(size),
        )

    def _encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.seen.update(image.tobytes() for image in pixels)
        return pixels.reshape(len(pixels), -1).astype(np.float32) / np.float32(255)


def placed_sets(images: tuple[ImageSet, ImageSet]) -> tuple[PlacedSet, PlacedSet]:
    """Training and generated images without vectors at hand."""
    train, generated = images
    return (
        PlacedSet(train, np.arange(N), keys_of(train), {}, kind="train"),
        PlacedSet(generated, np.arange(M), keys_of(generated), {}, kind="generated"),
    )


def keys_of(images: ImageSet) -> tuple[str, ...]:
    return tuple(key for batch in images.batches(Preprocessing(4)) for key in batch.keys)


def all_vectors(images: ImageSet, encoder: Encoder) -> NDArray[np.float32]:
    batches = images.batches(encoder.preprocessing)
    return np.concatenate([encoder.encode(batch.pixels) for batch in batches])


def obvious(
    images: tuple[ImageSet, ImageSet], encoder: Encoder, rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    train, generated = (all_vectors(each, encoder) for each in images)
    result = np.empty(rows.shape)
    for j, place in itertools.product(*map(range, rows.shape)):
        result[j, place] = np.linalg.norm(generated[j] - train[rows[j, place]])
    return result


def test_streamed_distances_equal_the_obvious_loop(
    images: tuple[ImageSet, ImageSet], candidates: Candidates
) -> None:
    encoder = Counting().encoder
    found = pair_distances(Term(encoder, Space("euclidean")), candidates.rows, *placed_sets(images))
    np.testing.assert_allclose(found, obvious(images, encoder, candidates.rows), rtol=1e-5)


def test_vectors_at_hand_give_the_same_distances_without_inference(
    images: tuple[ImageSet, ImageSet], candidates: Candidates
) -> None:
    counting = Counting()
    term = Term(counting.encoder, Space("euclidean"))
    streamed = pair_distances(term, candidates.rows, *placed_sets(images))
    train, generated = (
        replace(placed, vectors={counting.encoder.fingerprint: all_vectors(part, counting.encoder)})
        for placed, part in zip(placed_sets(images), images, strict=True)
    )
    before = sum(counting.seen.values())
    np.testing.assert_allclose(
        pair_distances(term, candidates.rows, train, generated), streamed, rtol=1e-6
    )
    assert sum(counting.seen.values()) == before


def test_each_image_passes_the_network_once(
    images: tuple[ImageSet, ImageSet], candidates: Candidates
) -> None:
    counting = Counting()
    rerank(candidates, *placed_sets(images), [Term(counting.encoder, Space("euclidean"))], 5)
    assert set(counting.seen.values()) == {1}
    assert len(counting.seen) == len(np.unique(candidates.rows)) + M


def test_mirror_images_take_part_and_training_images_still_pass_once(
    images: tuple[ImageSet, ImageSet], candidates: Candidates
) -> None:
    """Of an image and its mirror image the nearer counts, by the whole weighted mean."""
    counting = Counting()
    train, generated = placed_sets(images)
    terms = [
        Term(counting.encoder, Space("euclidean"), 2.0, 3.0),
        Term(Counting(7).encoder, Space("euclidean"), 1.0, 0.5),
    ]
    found = rerank(candidates, train, replace(generated, mirrored=True), terms, 5)
    passed = 2 * M + len(np.unique(candidates.rows))
    assert sum(counting.seen.values()) == passed
    forms = []
    for mirrored in (False, True):
        each = []
        for term in terms:
            flipped = Mirrored(term.encoder) if mirrored else term.encoder
            train_vectors = all_vectors(images[0], term.encoder)[candidates.rows]
            gaps = all_vectors(images[1], flipped)[:, None] - train_vectors
            each.append(term.weight / term.scale * np.linalg.norm(gaps, axis=2))
        forms.append(sum(each) / 3.0)
    nearer = np.minimum(*forms)
    assert (forms[1] < forms[0]).any()
    np.testing.assert_allclose(found.distances, np.sort(nearer, axis=1)[:, :5], rtol=1e-5)
    order = np.argsort(nearer, axis=1)[:, :5]
    np.testing.assert_array_equal(found.rows, np.take_along_axis(candidates.rows, order, axis=1))


def test_contributors_are_the_k_nearest_in_order(
    images: tuple[ImageSet, ImageSet], candidates: Candidates
) -> None:
    encoder = Counting().encoder
    found = rerank(candidates, *placed_sets(images), [Term(encoder, Space("euclidean"))], 5)
    distances = obvious(images, encoder, candidates.rows)
    for j in range(M):
        order = np.argsort(distances[j])[:5]
        np.testing.assert_array_equal(found.rows[j], candidates.rows[j][order])
    assert found.n_train == N


def test_mixture_is_the_weighted_mean_of_scaled_distances(
    images: tuple[ImageSet, ImageSet], candidates: Candidates
) -> None:
    fine, coarse = Counting(28).encoder, Counting(4).encoder
    terms = [
        Term(fine, Space("euclidean"), weight=3.0, scale=2.0),
        Term(coarse, Space("euclidean"), weight=1.0, scale=0.5),
    ]
    found = rerank(candidates, *placed_sets(images), terms, C)
    mixed = (
        3 * obvious(images, fine, candidates.rows) / 2
        + obvious(images, coarse, candidates.rows) / 0.5
    ) / 4
    np.testing.assert_allclose(found.distances, np.sort(mixed, axis=1), rtol=1e-5)


def test_without_terms_the_recall_decides(
    images: tuple[ImageSet, ImageSet], candidates: Candidates
) -> None:
    found = rerank(candidates, *placed_sets(images), [], 4)
    np.testing.assert_array_equal(found.rows, candidates.rows[:, :4])
    np.testing.assert_array_equal(found.distances, candidates.distances[:, :4])


def test_equal_distances_follow_the_given_ranks(candidates: Candidates) -> None:
    same = (
        ImageSet.open(np.zeros((N, 8, 8), np.uint8)),
        ImageSet.open(np.zeros((M, 8, 8), np.uint8)),
    )
    ties = np.arange(N)[::-1].copy()
    term = Term(Counting(8).encoder, Space("euclidean"))
    found = rerank(candidates, *placed_sets(same), [term], 6, ties=ties)
    for j in range(M):
        np.testing.assert_array_equal(found.rows[j], np.sort(candidates.rows[j])[::-1][:6])


def test_vectors_too_large_for_memory_go_to_disk_and_change_nothing(
    images: tuple[ImageSet, ImageSet], candidates: Candidates
) -> None:
    term = Term(Counting().encoder, Space("euclidean"))
    in_memory = pair_distances(term, candidates.rows, *placed_sets(images))
    kinds = []

    class Watched(Budget):
        def allocate(self, shape: tuple[int, int]) -> Any:
            vectors = super().allocate(shape)
            kinds.append(type(vectors))
            return vectors

    on_disk = pair_distances(term, candidates.rows, *placed_sets(images), budget=Watched(100))
    np.testing.assert_array_equal(on_disk, in_memory)
    assert kinds == [np.memmap]


def test_a_training_image_that_changed_is_refused(
    images: tuple[ImageSet, ImageSet], candidates: Candidates
) -> None:
    train, generated = placed_sets(images)
    changed = replace(train, keys=("another content", *train.keys[1:]))
    term = Term(Counting().encoder, Space("euclidean"))
    with pytest.raises(RunError, match=f"training image {images[0].ids[0]} has changed"):
        rerank(
            Candidates(np.zeros((M, 1), np.int64), np.zeros((M, 1), np.float32), N),
            changed,
            generated,
            [term],
            1,
        )


def test_images_that_are_not_at_hand_are_asked_for(
    images: tuple[ImageSet, ImageSet], candidates: Candidates
) -> None:
    train, generated = placed_sets(images)
    term = Term(Counting().encoder, Space("euclidean"))
    with pytest.raises(InputError, match=r"GMValuator.load\(path, train=images\)"):
        rerank(candidates, replace(train, images=None), generated, [term], 1)


@pytest.mark.parametrize("k", [0, C + 1])
def test_k_must_fit_the_candidates(
    images: tuple[ImageSet, ImageSet], candidates: Candidates, k: int
) -> None:
    with pytest.raises(InputError, match=f"k={k} contributors of {C} candidates"):
        rerank(candidates, *placed_sets(images), [], k)
