"""Embedding: every image is embedded or listed, in order, whatever the batch size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gmvaluator.encoders.base import Encoder
from gmvaluator.encoders.custom import wrap
from gmvaluator.encoders.embedding import embed, encode_batches
from gmvaluator.errors import ImageError, InputError
from gmvaluator.images import ImageSet, Preprocessing, Skip
from gmvaluator.progress import Advance
from image_makers import encode, png_of_size, random_images, write_files

N = 12
BAD = {2: "truncated PNG", 3: "not an image file", 7: "empty file", 11: "pixels"}


def flat_pixels(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    return pixels.reshape(len(pixels), -1).astype(np.float32)


class Record:
    """A progress listener that writes down what it hears."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int, list[int]]] = []

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        counts: list[int] = []
        self.stages.append((name, total, counts))
        yield counts.append


@pytest.fixture
def encoder() -> Encoder:
    """The pixels themselves, so that a vector tells which image it is of."""
    return wrap(flat_pixels, metric="euclidean", preprocessing=Preprocessing(8))


@pytest.fixture
def damaged(tmp_path: Path) -> ImageSet:
    """12 declared images, of which the rows of `BAD` cannot be read."""
    contents = [encode(image) for image in random_images(N)]
    contents[2] = contents[2][: len(contents[2]) // 2]
    contents[3] = b"<html>not an image</html>"
    contents[7] = b""
    contents[11] = png_of_size(100_000, 100_000)
    files = {f"{row:02d}.png": content for row, content in enumerate(contents)}
    return ImageSet.open(write_files(tmp_path / "damaged", files))


GOOD = [row for row in range(N) if row not in BAD]


def vectors_of(rows: list[int]) -> NDArray[np.float32]:
    return flat_pixels(random_images(N)[rows].transpose(0, 3, 1, 2))


@pytest.mark.parametrize("batch_size", [1, 2, 5, N, 64])
def test_bad_images_are_listed_and_the_rest_line_up(
    batch_size: int, damaged: ImageSet, encoder: Encoder
) -> None:
    found = embed(damaged, encoder, batch_size=batch_size)
    assert found.rows.tolist() == GOOD
    assert found.rows.dtype == np.int64
    np.testing.assert_array_equal(found.vectors, vectors_of(GOOD))
    assert found.vectors.dtype == np.float32
    assert found.keys == tuple(damaged.content_key(row) for row in GOOD)
    assert [skip.id for skip in found.skipped] == [f"{row:02d}.png" for row in BAD]
    for skip, reason in zip(found.skipped, BAD.values(), strict=True):
        assert reason in skip.reason


def test_unlistable_parts_of_a_source_are_skips_too(damaged: ImageSet, encoder: Encoder) -> None:
    damaged.problems = (Skip("locked", "folder cannot be read"),)
    found = embed(damaged, encoder)
    assert [skip.id for skip in found.skipped] == ["locked", *(f"{row:02d}.png" for row in BAD)]
    assert found.rows.tolist() == GOOD


def test_rows_are_embedded_in_the_order_asked_for(damaged: ImageSet, encoder: Encoder) -> None:
    rows = np.array([10, 3, 0, 5, 4])
    found = embed(damaged, encoder, rows=rows, batch_size=2)
    assert found.rows.tolist() == [10, 0, 5, 4]
    np.testing.assert_array_equal(found.vectors, vectors_of([10, 0, 5, 4]))
    assert [skip.id for skip in found.skipped] == ["03.png"]


def test_each_image_passes_once(damaged: ImageSet) -> None:
    sizes: list[int] = []

    def count(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        sizes.append(len(pixels))
        return flat_pixels(pixels)

    embed(damaged, wrap(count, preprocessing=Preprocessing(8)), batch_size=2)
    assert sum(sizes) == len(GOOD)
    assert 0 not in sizes


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_progress_counts_every_image_once(
    batch_size: int, damaged: ImageSet, encoder: Encoder
) -> None:
    record = Record()
    embed(damaged, encoder, batch_size=batch_size, progress=record, stage="embed train")
    ((name, total, counts),) = record.stages
    assert (name, total, sum(counts)) == ("embed train", N, N)
    assert len(counts) == -(-N // batch_size)


def test_progress_of_some_rows_counts_to_their_number(damaged: ImageSet, encoder: Encoder) -> None:
    record = Record()
    embed(damaged, encoder, rows=np.array([1, 2, 3]), progress=record)
    ((_, total, counts),) = record.stages
    assert total == sum(counts) == 3


def test_strict_fails_on_the_first_bad_image(damaged: ImageSet, encoder: Encoder) -> None:
    with pytest.raises(ImageError, match=r"^02\.png: truncated PNG$"):
        embed(damaged, encoder, strict=True)
    good = embed(damaged, encoder, rows=np.array(GOOD), strict=True)
    assert good.rows.tolist() == GOOD
    assert good.skipped == ()


def test_a_set_without_a_readable_image_is_one_line(tmp_path: Path, encoder: Encoder) -> None:
    folder = write_files(tmp_path / "bad", {"a.png": b"", "b.png": b"GIF89a", "c.jpg": b"?"})
    with pytest.raises(InputError, match="none of the 3 images") as caught:
        embed(ImageSet.open(folder), encoder)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(
        f"of {folder} can be read: a.png: empty file; pass at least one readable image"
    )


def test_no_rows_are_no_readable_image(damaged: ImageSet, encoder: Encoder) -> None:
    with pytest.raises(InputError, match="none of the 0 images"):
        embed(damaged, encoder, rows=np.array([], dtype=np.int64))


def test_batches_come_with_their_vectors(damaged: ImageSet, encoder: Encoder) -> None:
    rows: list[int] = []
    for batch, vectors in encode_batches(damaged, encoder, batch_size=2):
        assert len(vectors) == len(batch.rows) == len(batch.keys)
        rows.extend(batch.rows.tolist())
        rows.extend(row for row, _ in batch.skipped)
    assert sorted(rows) == list(range(N))


def test_the_encoder_is_prepared_before_the_first_image_is_read(damaged: ImageSet) -> None:
    events: list[str] = []

    class Preparing:
        name, metric, fingerprint, weights = "preparing", "euclidean", "f", ()
        preprocessing = Preprocessing(8)

        def prepare(self) -> None:
            events.append("prepare")

        def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
            events.append("encode")
            return flat_pixels(pixels)

    embed(damaged, Preparing(), batch_size=64)  # type: ignore[arg-type]
    assert events == ["prepare", "encode"]


def test_strict_also_refuses_what_could_not_be_listed(encoder: Encoder, tmp_path: Path) -> None:
    images = ImageSet.open(write_files(tmp_path / "good", {"a.png": encode(random_images(1)[0])}))
    images.problems = (Skip("locked", "folder cannot be read"),)
    assert embed(images, encoder).skipped == images.problems
    with pytest.raises(InputError, match="locked: folder cannot be read"):
        embed(images, encoder, strict=True)
