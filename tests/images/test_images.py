"""Image sets and their batches; decoding is tested in test_decoding.py."""

from __future__ import annotations

import hashlib
import io
import pickle
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from gmvaluator import GMValuator
from gmvaluator.errors import ImageError, InputError
from gmvaluator.images import ImageSet, Preprocessing, Skip, set_fingerprint
from image_checks import only
from image_makers import encode, image_folder, random_images, write_files


def threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("gmvaluator")]


# --- batches -------------------------------------------------------------------------------------


BAD = {2: (b"", "empty file"), 5: (b"text", "not an image file")}


@pytest.fixture
def mixed(tmp_path: Path) -> ImageSet:
    """Ten files, two of them bad."""
    contents = {f"{i}.png": encode(image) for i, image in enumerate(random_images(10))}
    contents |= {f"{row}.png": content for row, (content, _) in BAD.items()}
    return ImageSet.open(write_files(tmp_path / "mixed", contents))


@pytest.mark.parametrize("workers", [1, 2, 5, None])
@pytest.mark.parametrize("batch_size", [1, 3, 10, 64])
def test_batches_equal_single_loading(
    mixed: ImageSet, workers: int | None, batch_size: int
) -> None:
    batches = list(mixed.batches(Preprocessing(8), batch_size, workers=workers))
    assert all(len(b.rows) + len(b.skipped) <= batch_size for b in batches)
    rows = np.concatenate([b.rows for b in batches])
    assert rows.dtype == np.int64
    assert rows.tolist() == [0, 1, 3, 4, 6, 7, 8, 9]
    pixels = np.concatenate([b.pixels for b in batches])
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(
        pixels, np.stack([mixed[row] for row in rows]).transpose(0, 3, 1, 2)
    )
    keys = [key for b in batches for key in b.keys]
    assert keys == [mixed.content_key(row) for row in rows]
    skipped = [(row, skip.id) for b in batches for row, skip in b.skipped]
    assert skipped == [(row, f"{row}.png") for row in BAD]
    for b in batches:
        for row, skip in b.skipped:
            assert isinstance(skip, Skip)
            assert BAD[row][1] in skip.reason
            assert skip.id not in skip.reason
    assert not threads()


def test_batches_of_chosen_rows_keep_their_order(mixed: ImageSet) -> None:
    order = [9, 0, 5, 9, 4]
    batches = list(mixed.batches(Preprocessing(8), 2, rows=order))
    assert [row for b in batches for row in b.rows] == [9, 0, 9, 4]
    assert [row for b in batches for row, _ in b.skipped] == [5]
    assert list(mixed.batches(Preprocessing(8), rows=[])) == []


def test_strict_batches_raise_the_first_bad_image(mixed: ImageSet) -> None:
    with pytest.raises(ImageError, match=r"^2\.png: empty file"):
        list(mixed.batches(Preprocessing(8), 4, on_error="raise"))
    assert not threads()
    assert len(list(mixed.select([0, 1]).batches(Preprocessing(8), on_error="raise"))) == 1


def test_a_batch_of_bad_images_only(mixed: ImageSet) -> None:
    batch = only(mixed.batches(Preprocessing(8), rows=[2, 5]))
    assert batch.pixels.shape == (0, 3, 8, 8)
    assert batch.keys == ()
    assert len(batch.skipped) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        {"batch_size": 0},
        {"workers": 0},
        {"on_error": "ignore"},
        {"rows": [10]},
        {"rows": [-1]},
        {"rows": [0.5]},
        {"rows": [True, False]},
    ],
)
def test_wrong_batch_arguments_fail_at_once(mixed: ImageSet, arguments: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"given|is too small"):
        mixed.batches(Preprocessing(8), **arguments)


@pytest.mark.parametrize("failure", [None, ValueError, KeyboardInterrupt])
def test_leaving_early_ends_the_threads(
    mixed: ImageSet, failure: type[BaseException] | None
) -> None:
    batches = mixed.batches(Preprocessing(8), 1, workers=3)
    next(batches)
    assert threads()
    if failure is None:
        batches.close()  # type: ignore[attr-defined]
    else:
        with pytest.raises(failure):
            batches.throw(failure())  # type: ignore[attr-defined]
    assert not threads()


def test_break_ends_the_threads(mixed: ImageSet) -> None:
    for _ in mixed.batches(Preprocessing(8), 1):
        break
    deadline = time.monotonic() + 5
    while threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not threads()


def test_few_batches_are_ahead() -> None:
    class Counting:
        def __init__(self) -> None:
            self.read = 0

        def __len__(self) -> int:
            return 1000

        def __getitem__(self, row: int) -> NDArray[np.uint8]:
            self.read += 1
            return np.zeros((4, 4), np.uint8)

    source = Counting()
    batches = ImageSet.open(source).batches(Preprocessing(4), 10)
    assert source.read == 0
    next(batches)
    time.sleep(0.1)
    assert source.read <= 50
    batches.close()  # type: ignore[attr-defined]


def test_two_iterators_and_many_threads_share_a_set(mixed: ImageSet) -> None:
    wanted = np.concatenate([b.pixels for b in mixed.batches(Preprocessing(8))])
    failures: list[BaseException] = []

    def work() -> None:
        try:
            got = np.concatenate([b.pixels for b in mixed.batches(Preprocessing(8), 3)])
            np.testing.assert_array_equal(got, wanted)
        except BaseException as error:
            failures.append(error)

    crowd = [threading.Thread(target=work) for _ in range(6)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    assert failures == []


def test_warnings_of_pillow_stay_out_of_threads(tmp_path: Path) -> None:
    # Warnings are errors in tests: one would turn these images into skips.
    bad_exif = b"Exif\0\0II*\0\x08\0\0\0\xff\x00" + b"\x12" * 9
    contents = {
        f"{i}.jpg": encode(image, "JPEG", exif=bad_exif)
        for i, image in enumerate(random_images(40))
    }
    before = list(warnings.filters)
    images = ImageSet.open(write_files(tmp_path / "jpegs", contents))
    for batch in images.batches(Preprocessing(8), 4, workers=4):
        assert batch.skipped == ()
    assert list(warnings.filters) == before


# --- the set -------------------------------------------------------------------------------------


def test_the_set_is_a_sequence(mixed: ImageSet) -> None:
    assert len(mixed) == 10
    np.testing.assert_array_equal(mixed[-1], mixed[9])
    with pytest.raises(IndexError, match="10 images"):
        mixed[10]
    assert "10 images" in repr(mixed)
    assert ImageSet.open(mixed) is mixed
    assert [i.shape for i in ImageSet.open(random_images(3))] == [(8, 8, 3)] * 3


def test_items_are_private_and_writable() -> None:
    array = random_images(2)
    images = ImageSet.open(array)
    first = images[0]
    first[:] = 0
    np.testing.assert_array_equal(images[0], array[0])
    assert array[0].any()


def test_content_keys(mixed: ImageSet, tmp_path: Path) -> None:
    content = (tmp_path / "mixed" / "0.png").read_bytes()
    assert mixed.content_key(0) == hashlib.blake2b(content, digest_size=16).hexdigest()
    # Not decodable, but there: it has a name.
    with pytest.raises(ImageError, match=r"2\.png: empty"):
        mixed.content_key(2)
    array = random_images(1)[0]
    keys = [
        ImageSet.open([item]).content_key(0)
        for item in (array, array.copy(), array.reshape(4, 16, 3), array[:, :, 0], 255 - array)
    ]
    assert all(len(key) == 32 for key in keys)
    assert keys[0] == keys[1]
    assert len(set(keys)) == 4


def test_palette_is_part_of_the_key_of_a_pil_image() -> None:
    pictures = [Image.new("P", (4, 4)), Image.new("P", (4, 4))]
    pictures[0].putpalette([1, 2, 3])
    pictures[1].putpalette([3, 2, 1])
    images = ImageSet.open(pictures)
    assert images.content_key(0) != images.content_key(1)
    assert only(images.batches(Preprocessing(4))).keys == tuple(map(images.content_key, range(2)))


def test_select(tmp_path: Path) -> None:
    images = ImageSet.open(image_folder(tmp_path / "a", 6))
    subset = images.select([4, 0, 3])
    assert subset.ids == tuple(images.ids[row] for row in (4, 0, 3))
    assert images.labels is not None
    assert subset.labels == tuple(images.labels[row] for row in (4, 0, 3))
    assert (subset.location, subset.origin) == (None, images.location)
    assert repr(subset) == f"ImageSet(3 images selected from {tmp_path / 'a'})"
    assert images.select(range(6)).location == images.location
    assert images.select([1, 0, 2, 3, 4, 5]).location is None
    again = subset.select([2, 1])
    np.testing.assert_array_equal(again[0], images[3])
    np.testing.assert_array_equal(again[1], images[0])
    assert again.content_key(1) == images.content_key(0)
    batch = only(again.batches(Preprocessing(8)))
    assert batch.rows.tolist() == [0, 1]
    np.testing.assert_array_equal(batch.pixels[0], images[3].transpose(2, 0, 1))
    assert len(images.select([])) == 0
    for rows in ([0, 0], [6], [-1]):
        with pytest.raises(InputError, match="given"):
            images.select(rows)


def test_a_run_and_an_index_of_a_selection_are_taken_up_with_it(tmp_path: Path) -> None:
    """Opening the whole set instead gave "the training images have changed since"."""
    images = ImageSet.open(image_folder(tmp_path / "a", 12))
    selection = images.select([4, 0, 3, 7, 9])
    settings: dict[str, Any] = {"encoder": "l2", "rerank": "none", "k": 2, "cache": False}
    valuator = GMValuator(**settings, quality="realism").fit(selection)
    valuation = valuator.value(images.select([1, 2]))
    valuator.save(tmp_path / "index")
    valuation.save(tmp_path / "run")
    with pytest.raises(InputError, match=r"in memory or a selection of a set; pass them \(train="):
        GMValuator.refit(tmp_path / "run")
    for again in (
        GMValuator.refit(tmp_path / "run", train=selection, cache=False),
        GMValuator.load(tmp_path / "index", train=selection, cache=False),
        GMValuator.load(tmp_path / "index", cache=False),
    ):
        np.testing.assert_array_equal(again.value(images.select([1, 2])).values, valuation.values)
    # an index holds what its own settings read
    GMValuator(**settings).fit(selection).save(tmp_path / "by domain")
    GMValuator.load(tmp_path / "by domain", cache=False).value(images.select([1, 2]))
    plain = GMValuator(**settings, quality="none", null="off").fit(selection)
    plain.save(tmp_path / "plain")
    loaded = GMValuator.load(tmp_path / "plain", quality="domain", cache=False)
    with pytest.raises(InputError, match=r"quality 'domain' reads the training images.*pass them"):
        loaded.value(images.select([1, 2]))


def test_png_shrinks_and_never_enlarges(tmp_path: Path) -> None:
    images = ImageSet.open([np.zeros((50, 100, 3), np.uint8), np.zeros((1, 500), np.uint8)])

    def size(row: int, side: int) -> tuple[int, int]:
        with Image.open(io.BytesIO(images.png(row, side))) as picture:
            assert picture.format == "PNG"
            return picture.size

    assert size(0, 200) == (100, 50)
    assert size(0, 20) == (20, 10)
    assert size(1, 20) == (20, 1)
    with pytest.raises(InputError, match="max_side"):
        images.png(0, 0)


def test_read_bytes(mixed: ImageSet, tmp_path: Path) -> None:
    assert mixed.read_bytes(1) == (tmp_path / "mixed" / "1.png").read_bytes()
    array = random_images(1)[0]
    with Image.open(io.BytesIO(ImageSet.open([array]).read_bytes(0))) as picture:
        np.testing.assert_array_equal(np.asarray(picture), array)


def test_sets_pickle(mixed: ImageSet) -> None:
    copy = pickle.loads(pickle.dumps(mixed.select([3, 1])))
    assert copy.ids == ("3.png", "1.png")
    np.testing.assert_array_equal(copy[1], mixed[1])


@pytest.mark.parametrize("limit", [0, -1, 1.5, "big"])
def test_wrong_pixel_limit(limit: Any) -> None:
    with pytest.raises(InputError, match="pixel_limit"):
        ImageSet.open(random_images(1), pixel_limit=limit)


names = st.lists(st.text("ab0é", max_size=4), max_size=4)


@settings(deadline=None)
@given(names, names)
def test_fingerprints_differ_when_sets_do(one: list[str], two: list[str]) -> None:
    same = one == two
    assert (set_fingerprint(one, one) == set_fingerprint(two, two)) is same
    assert len(set_fingerprint(one, one)) == 64


def test_fingerprint_needs_a_key_for_every_id() -> None:
    with pytest.raises(InputError, match="2 ids and 1 keys"):
        set_fingerprint(["a", "b"], ["x"])
