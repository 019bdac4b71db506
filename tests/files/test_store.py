"""The store: nothing computed twice, nothing believed that is damaged, nothing half-written."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gmvaluator.encoders.backends import NetworkEncoder, Runtime
from gmvaluator.encoders.base import Encoder, Network
from gmvaluator.encoders.embedding import Tally, embed, encode_batches
from gmvaluator.errors import CacheWarning, RunError
from gmvaluator.files import store as store_module
from gmvaluator.files.atomic import locked
from gmvaluator.files.prune import prune, survey, total_bytes
from gmvaluator.files.store import SHARD_ROWS, Store, Table, as_store
from gmvaluator.images import ImageSet, Preprocessing
from gmvaluator.weights import WeightFile
from image_makers import encode, random_images, write_files

N = 200


def key_of(number: int) -> str:
    return f"{number:032x}"


def vectors_of(numbers: range | list[int], dim: int = 5) -> NDArray[np.float32]:
    return np.stack([np.full(dim, number, np.float32) for number in numbers])


def fill(table: Table, numbers: range) -> None:
    table.add([key_of(number) for number in numbers], vectors_of(numbers))
    table.flush()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def table_of(folder: Path) -> Table:
    """As another process would see it."""
    return Store(folder).table("flat", "fingerprint")


def shards(folder: Path) -> list[Path]:
    return sorted((folder / "embeddings").rglob("*.safetensors"))


# --- tables


def test_what_was_added_is_found_before_and_after_it_is_written(folder: Path) -> None:
    table = table_of(folder)
    table.add([key_of(1), key_of(2)], vectors_of([1, 2]))
    assert key_of(1) in table
    assert shards(folder) == []
    np.testing.assert_array_equal(table.row(key_of(2)), vectors_of([2])[0])
    table.flush()
    for each in (table, table_of(folder)):
        assert len(each) == 2
        assert key_of(3) not in each
        np.testing.assert_array_equal(each.row(key_of(2)), vectors_of([2])[0])
    with pytest.raises(KeyError):
        table.row(key_of(3))


def test_shards_fill_up_and_the_rest_is_one_more(folder: Path) -> None:
    table = table_of(folder)
    for start in range(0, 2_200, 100):
        numbers = range(start, start + 100)
        table.add([key_of(n) for n in numbers], vectors_of(numbers))
    assert len(shards(folder)) == 2
    table.flush()
    assert len(shards(folder)) == 3
    assert len(table_of(folder)) == 2_200
    assert SHARD_ROWS < 1_100


def test_encoders_never_share_vectors(folder: Path) -> None:
    store = Store(folder)
    fill(store.table("a", "one"), range(3))
    assert len(store.table("a", "two")) == 0
    assert store.table("a", "one") is store.table("b", "one")


def test_an_added_vector_is_the_tables_own(folder: Path) -> None:
    table = table_of(folder)
    vectors = vectors_of([1])
    table.add([key_of(1)], vectors)
    vectors[:] = -1
    np.testing.assert_array_equal(table.row(key_of(1)), vectors_of([1])[0])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 60), max_size=40), max_size=6))
def test_any_sequence_of_writers_keeps_every_vector(writers: list[list[int]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        for numbers in writers:
            table = table_of(Path(scratch))
            if numbers:
                table.add([key_of(n) for n in numbers], vectors_of(numbers))
            table.flush()
        final = table_of(Path(scratch))
        for number in range(61):
            known = any(number in numbers for numbers in writers)
            assert (key_of(number) in final) == known
            if known:
                np.testing.assert_array_equal(final.row(key_of(number)), vectors_of([number])[0])


# --- damage


@pytest.mark.parametrize("place", [0.02, 0.3, 0.7, 0.999])
def test_a_flipped_byte_is_noticed_reported_and_forgotten(folder: Path, place: float) -> None:
    fill(table_of(folder), range(100))
    (shard,) = shards(folder)
    content = bytearray(shard.read_bytes())
    content[int(place * (len(content) - 1))] ^= 1
    shard.write_bytes(content)
    table = table_of(folder)
    with pytest.warns(CacheWarning, match=r"damaged .* computed again"):
        assert [key_of(n) for n in range(100) if key_of(n) in table] == []
    assert not shard.exists()
    fill(table, range(100))
    assert all(key_of(n) in table_of(folder) for n in range(100))


@pytest.mark.parametrize("size", [0, 4, 60, 2000])
def test_a_truncated_shard_is_noticed(folder: Path, size: int) -> None:
    fill(table_of(folder), range(100))
    (shard,) = shards(folder)
    os.truncate(shard, size)
    with pytest.warns(CacheWarning, match="damaged"):
        assert key_of(5) not in table_of(folder)


def test_damage_leaves_the_other_shards_alone(folder: Path) -> None:
    fill(table_of(folder), range(100))
    (first,) = shards(folder)
    fill(table_of(folder), range(50, 150))
    os.truncate(first, 1_500)
    table = table_of(folder)
    with pytest.warns(CacheWarning):
        found = [n for n in range(150) if key_of(n) in table]
    assert found == list(range(50, 150))


# --- a cache that cannot be read or written


def test_a_full_disk_is_one_warning_and_vectors_stay_in_memory(small_disk: Path) -> None:
    store = Store(small_disk)
    table = store.table("flat", "fingerprint")
    fill(table, range(20))
    table.add([key_of(1_000 + n) for n in range(200)], np.ones((200, 200), np.float32))
    with pytest.warns(CacheWarning, match=r"No space left on device.*--no-cache") as caught:
        table.flush()
    assert len(caught) == 1
    assert str(small_disk) in str(caught[0].message)
    # nothing is lost for this run, and nothing more is said
    np.testing.assert_array_equal(table.row(key_of(1_007)), np.ones(200, np.float32))
    other = store.table("flat", "another")
    fill(other, range(2_000))
    assert key_of(1_999) in other
    store.index({"index": "pq"}).write(save_text)
    assert len(shards(small_disk)) == 1
    assert list(small_disk.rglob("*.part-*")) == []
    # the next run finds the cache as it was
    again = table_of(small_disk)
    assert all(key_of(n) in again for n in range(20))
    fill(again, range(20, 30))
    assert len(table_of(small_disk)) == 30


@pytest.fixture
def run_as_nobody() -> Iterator[None]:
    """Without the rights of root, for which every folder is writable."""
    if os.geteuid() == 0:
        os.seteuid(65_534)
        yield
        os.seteuid(0)
    else:
        yield


@pytest.fixture
def locked_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache with one shard and an index that nobody may write to, in a folder all may enter."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(table_of(folder), range(20))
        Store(folder).index({"index": "pq"}).write(save_text)
        for inside in (folder, *folder.rglob("*")):
            inside.chmod(0o555 if inside.is_dir() else 0o444)
        yield folder
        for inside in (folder, *folder.rglob("*")):
            inside.chmod(0o755)


@pytest.mark.usefixtures("run_as_nobody")
def test_a_read_only_cache_serves_and_is_not_written(locked_folder: Path) -> None:
    store = Store(locked_folder)
    table = store.table("flat", "fingerprint")
    assert key_of(3) in table
    index = store.index({"index": "pq"})
    assert index.check() == index.path
    with pytest.warns(CacheWarning, match=r"cannot write the cache .*Permission denied"):
        fill(table, range(20, 30))
    assert all(key_of(n) in table for n in range(30))
    fill(store.table("flat", "new"), range(3))
    with pytest.raises(RunError, match=r"cannot prune the cache .*Permission denied"):
        prune(store, older_than=0)


def test_damage_in_a_read_only_cache_is_left_out(
    locked_folder: Path, request: pytest.FixtureRequest
) -> None:
    (shard,) = shards(locked_folder)
    index = Store(locked_folder).index({"index": "pq"})
    for file in (shard, index.path):
        file.chmod(0o644)
        file.write_bytes(file.read_bytes()[:-1] + b"!")
        file.chmod(0o444)
    request.getfixturevalue("run_as_nobody")
    table = table_of(locked_folder)
    with pytest.warns(CacheWarning, match=r"it was ignored, since it cannot be removed"):
        assert key_of(3) not in table
    with pytest.warns(CacheWarning, match=r"it was ignored, since it cannot be removed"):
        assert index.check() is None
    table.add([key_of(3)], vectors_of([3]))
    np.testing.assert_array_equal(table.row(key_of(3)), vectors_of([3])[0])
    assert shard.exists()


@pytest.mark.usefixtures("run_as_nobody")
def test_a_cache_that_may_not_be_read_is_an_error_to_those_who_look_into_it() -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        store = Store(Path(name) / "cache")
        store.folder.mkdir(mode=0)
        with pytest.raises(RunError, match=r"cannot read the cache .*Permission denied.*--cache"):
            survey(store)
        with pytest.raises(RunError, match=r"cannot prune the cache .*Permission denied.*--cache"):
            prune(store)
        with pytest.warns(CacheWarning, match="cannot read the cache"):
            assert len(store.table("flat", "fingerprint")) == 0


def test_a_file_in_the_place_of_the_cache_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("mine")
    store = Store(tmp_path / "cache")
    table = store.table("flat", "fingerprint")
    assert key_of(1) not in table
    assert store.index({"index": "pq"}).check() is None
    with pytest.warns(CacheWarning, match="cannot write the cache"):
        fill(table, range(3))
    assert key_of(1) in table
    store.index({"index": "pq"}).write(save_text)
    assert (tmp_path / "cache").read_text() == "mine"


def test_embedding_goes_on_without_a_cache(small_disk: Path, tmp_path: Path) -> None:
    images = ImageSet.open(random_images(400))
    expected = embed(images, Watched(None).encoder)
    (tmp_path / "file").write_text("mine")
    for broken in (small_disk, tmp_path / "file"):
        watched = Watched(broken)
        with pytest.warns(CacheWarning, match="cannot write the cache") as caught:
            embeddings = embed(images, watched.encoder, batch_size=50)
        assert len(caught) == 1
        np.testing.assert_array_equal(embeddings.vectors, expected.vectors)
        # vectors that could not be written are at hand for the rest of the run
        embed(images, watched.encoder)
        assert sum(watched.seen) == 400


@pytest.fixture
def file_descriptors() -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
    """A call after which no file can be opened, and one after which files can be opened again."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(link.name) for link in Path("/proc/self/fd").iterdir())
    taken: list[int] = []

    def exhaust() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 4, limits[1]))
        with pytest.raises(OSError, match="Too many open files"):  # noqa: PT012
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))

    def release() -> None:
        while taken:
            os.close(taken.pop())
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    yield exhaust, release
    release()


@pytest.mark.parametrize("moment", ["before listing", "before checking"])
def test_no_file_descriptors_cost_no_shard(
    folder: Path,
    moment: str,
    file_descriptors: tuple[Callable[[], None], Callable[[], None]],
) -> None:
    for start in range(0, 40, 10):
        fill(table_of(folder), range(start, start + 10))
    index = Store(folder).index({"index": "pq"})
    index.write(save_text)
    files = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    table = table_of(folder)
    if moment == "before checking":
        assert len(table) == 40
    exhaust, release = file_descriptors
    exhaust()
    with pytest.warns(CacheWarning, match=r"cannot read the cache .*Too many open files"):
        present = [n for n in range(40) if key_of(n) in table]
    assert present == []
    with pytest.warns(CacheWarning, match=r"cannot read the cache .*Too many open files"):
        assert index.check() is None
    release()
    assert {file: file.read_bytes() for file in files} == files
    assert all(key_of(n) in table_of(folder) for n in range(40))
    assert index.check() == index.path


@pytest.mark.parametrize("error", [errno.EIO, errno.ESTALE, errno.EACCES])
def test_a_shard_that_cannot_be_read_now_is_skipped(
    folder: Path, error: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(table_of(folder), range(10))
    table = table_of(folder)
    assert len(table) == 10

    def fail(path: Path) -> str:
        raise OSError(error, os.strerror(error))

    with monkeypatch.context() as patched:
        patched.setattr(store_module, "checksum", fail)
        with pytest.warns(CacheWarning, match=os.strerror(error)) as caught:
            assert [n for n in range(10) if key_of(n) in table] == []
    assert len(caught) == 1
    assert key_of(3) in table_of(folder)


# --- scratch files of others


@pytest.mark.parametrize("writer", [str(os.getpid()), "1", "other-host-7"], ids=["a", "b", "c"])
def test_scratch_files_go_by_age_alone(folder: Path, writer: str) -> None:
    """Of a thread of this process, of another container, of another host."""
    fill(table_of(folder), range(3))
    scratch = shards(folder)[0].parent / f".half.part-{writer}.safetensors"
    scratch.write_bytes(b"half")
    assert len(table_of(folder)) == 3
    prune(Store(folder))
    assert scratch.exists()
    os.utime(scratch, (0, 0))
    assert len(table_of(folder)) == 3
    assert not scratch.exists()


def test_an_index_that_waits_for_its_note_is_left_alone(folder: Path) -> None:
    waiting = folder / "indexes" / "0123"
    waiting.parent.mkdir(parents=True)
    waiting.write_text("an index")
    prune(Store(folder))
    assert waiting.exists()
    os.utime(waiting, (0, 0))
    assert prune(Store(folder)).indexes == 1


def test_threads_with_stores_of_their_own_share_a_cache(folder: Path) -> None:
    failures: list[BaseException] = []

    def work(first: int) -> None:
        try:
            for start in range(first, 3_000, 2 * 50):
                table = table_of(folder)
                fill(table, range(start, start + 50))
                assert all(key_of(n) in table for n in range(start, start + 50))
                prune(Store(folder))
                survey(Store(folder))
        except BaseException as error:
            failures.append(error)

    workers = [threading.Thread(target=work, args=(first,)) for first in (0, 50)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert failures == []
    table = table_of(folder)
    for number in range(3_000):
        assert key_of(number) in table
        np.testing.assert_array_equal(table.row(key_of(number)), vectors_of([number])[0])
    assert list(folder.rglob("*.part-*")) == []


# --- embedding through a table


class Watched:
    """A network encoder with a table, and what passed through it."""

    def __init__(self, folder: Path | None, fingerprint: str = "w") -> None:
        import torch

        class Flat(torch.nn.Module):
            def forward(self, pixels: torch.Tensor) -> torch.Tensor:
                return pixels.float().flatten(1)

        self.seen: list[int] = []
        network = Network(
            "flat", Flat(), Preprocessing(4), "euclidean", (WeightFile("flat", None, fingerprint),)
        )
        store = None if folder is None else Store(folder)
        encoder = NetworkEncoder(network, Runtime("cpu", "torch"), store)
        inner = encoder.encode

        def counted(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
            self.seen.append(len(pixels))
            return inner(pixels)

        encoder.encode = counted  # type: ignore[method-assign]
        self.encoder: Encoder = encoder


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    files = {f"{row:03d}.png": encode(image) for row, image in enumerate(random_images(N))}
    return write_files(tmp_path / "pictures", files)


def test_the_second_time_nothing_is_computed_and_nothing_differs(
    folder: Path, pictures: Path
) -> None:
    plain = embed(ImageSet.open(pictures), Watched(None).encoder)
    first, second = Watched(folder), Watched(folder)
    one = embed(ImageSet.open(pictures), first.encoder)
    two = embed(ImageSet.open(pictures), second.encoder)
    assert sum(first.seen) == N
    assert second.seen == []
    assert (one.tally.encoded["flat"], one.tally.cached["flat"]) == (N, 0)
    assert (two.tally.encoded["flat"], two.tally.cached["flat"]) == (0, N)
    for found in (one, two):
        np.testing.assert_array_equal(found.vectors, plain.vectors)
        assert (found.keys, found.skipped) == (plain.keys, plain.skipped)
        np.testing.assert_array_equal(found.rows, plain.rows)


def test_only_new_and_changed_images_are_computed(folder: Path, pictures: Path) -> None:
    embed(ImageSet.open(pictures), Watched(folder).encoder)
    extra = random_images(N + 3)[N:]
    for number, image in enumerate(extra):
        (pictures / f"new{number}.png").write_bytes(encode(image))
    (pictures / "010.png").write_bytes(encode(255 - random_images(N)[10]))
    (pictures / "011.png").rename(pictures / "moved.png")
    watched = Watched(folder)
    found = embed(ImageSet.open(pictures), watched.encoder)
    assert sum(watched.seen) == len(extra) + 1
    plain = embed(ImageSet.open(pictures), Watched(None).encoder)
    np.testing.assert_array_equal(found.vectors, plain.vectors)


def test_copies_of_an_image_pass_once(folder: Path, tmp_path: Path) -> None:
    images = random_images(3)
    files = {f"{n:03d}.png": encode(images[n % 3]) for n in range(150)}
    watched = Watched(folder)
    found = embed(ImageSet.open(write_files(tmp_path / "copies", files)), watched.encoder)
    assert sum(watched.seen) == 3
    np.testing.assert_array_equal(found.vectors[3:6], found.vectors[:3])


def test_bad_images_stay_listed_when_the_rest_is_known(folder: Path, pictures: Path) -> None:
    (pictures / "050.png").write_bytes(b"no image")
    for _ in range(2):
        found = embed(ImageSet.open(pictures), Watched(folder).encoder)
        assert [skip.id for skip in found.skipped] == ["050.png"]
        assert len(found.rows) == N - 1


def test_scattered_new_images_fill_whole_batches(folder: Path, pictures: Path) -> None:
    images = ImageSet.open(pictures)
    every_third = np.flatnonzero(np.arange(N) % 3)
    embed(images, Watched(folder).encoder, rows=every_third)
    watched = Watched(folder)
    embed(images, watched.encoder, batch_size=16)
    assert sum(watched.seen) == N - len(every_third)
    assert watched.seen[:-1] == [16] * (len(watched.seen) - 1)


def test_an_early_end_keeps_what_was_computed(folder: Path, pictures: Path) -> None:
    batches = encode_batches(ImageSet.open(pictures), Watched(folder).encoder, batch_size=16)
    next(batches)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert 32 <= len(table_size(folder)) <= 48


def table_size(folder: Path) -> list[bytes]:
    return [key for shard in shards(folder) for key in store_module.Shard(shard).keys]


def test_a_damaged_shard_is_computed_again(folder: Path, pictures: Path) -> None:
    wanted = embed(ImageSet.open(pictures), Watched(folder).encoder)
    (shard,) = shards(folder)
    content = bytearray(shard.read_bytes())
    content[-1] ^= 255
    shard.write_bytes(content)
    tally = Watched(folder)
    with pytest.warns(CacheWarning, match="damaged"):
        found = embed(ImageSet.open(pictures), tally.encoder)
    assert sum(tally.seen) == N
    np.testing.assert_array_equal(found.vectors, wanted.vectors)
    assert embed(ImageSet.open(pictures), Watched(folder).encoder).tally.encoded["flat"] == 0


def test_a_tally_copy_counts_apart() -> None:
    tally = Tally()
    tally.encoded["a"] += 2
    copy = tally.copy()
    copy.encoded["a"] += 1
    assert (tally.as_json(), copy.as_json()["encoded"]) == (
        {"encoded": {"a": 2}, "cached": {}},
        {"a": 3},
    )


WRITER = """
import sys, time
from pathlib import Path
from gmvaluator.files.store import Store
import numpy as np
table = Store(Path(sys.argv[1])).table("flat", "fingerprint")
print("ready", flush=True)
sys.stdin.readline()
for start in range(0, 4_000, 500):
    numbers = range(start, start + 500)
    new = [n for n in numbers if f"{n:032x}" not in table]
    vectors = np.stack([np.full(5, n, np.float32) for n in new]) if new else np.empty((0, 5))
    table.add([f"{n:032x}" for n in new], vectors)
    table.flush()
"""


def start_writer(folder: Path) -> subprocess.Popen[str]:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout is not None
    writer.stdout.readline()
    return writer


def test_two_processes_share_a_cache_without_harm(folder: Path) -> None:
    writers = [start_writer(folder) for _ in range(2)]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    assert [writer.wait(60) for writer in writers] == [0, 0]
    for writer in writers:
        writer.communicate()
    table = table_of(folder)
    assert len(table) == 4_000
    for number in range(0, 4_000, 37):
        assert key_of(number) in table
        np.testing.assert_array_equal(table.row(key_of(number)), vectors_of([number])[0])
    assert list(folder.rglob("*.part-*")) == []


# --- indexes


def save_text(path: Path) -> None:
    path.write_text("an index")


def test_an_index_is_there_once_whole(folder: Path) -> None:
    file = Store(folder).index({"index": "pq", "n": 3})
    assert file.check() is None
    file.write(save_text)
    again = Store(folder).index({"n": 3, "index": "pq"})
    assert again.check() == file.path
    assert Store(folder).index({"n": 4, "index": "pq"}).check() is None


def test_a_damaged_index_is_reported_and_goes(folder: Path) -> None:
    file = Store(folder).index({"index": "pq", "n": 3})
    file.write(save_text)
    file.path.write_text("am index")
    with pytest.warns(CacheWarning, match="damaged"):
        assert file.check() is None
    assert list((folder / "indexes").iterdir()) == []
    file.write(save_text)
    assert file.check() == file.path


def test_a_failed_index_leaves_nothing_and_ends_nothing(folder: Path) -> None:
    def fail(path: Path) -> None:
        path.write_text("half")
        raise OSError("disk gone")

    store = Store(folder)
    with pytest.warns(CacheWarning, match=r"cannot write the cache .*disk gone"):
        store.index({"index": "pq"}).write(fail)
    assert list((folder / "indexes").iterdir()) == []


def test_two_writers_of_an_index_are_no_damage(folder: Path) -> None:
    file = Store(folder).index({"index": "pq", "n": 3})
    file.write(save_text)
    writing, written = threading.Event(), threading.Event()

    def write() -> None:
        with locked(file.path.with_name(f".{file.path.name}.lock")):
            file.path.write_text("trained otherwise")
            writing.set()
            written.wait(10)
            note = json.loads(file.path.with_suffix(".json").read_text())
            note["checksum"] = store_module.checksum(file.path)
            file.path.with_suffix(".json").write_text(json.dumps(note))

    writer = threading.Thread(target=write)
    writer.start()
    writing.wait(10)
    threading.Timer(0.2, written.set).start()
    assert Store(folder).index({"index": "pq", "n": 3}).check() == file.path
    writer.join()
    assert file.path.read_text() == "trained otherwise"


# --- upkeep


def test_survey_lists_what_is_there(folder: Path) -> None:
    assert survey(Store(folder)) == []
    fill(table_of(folder), range(7))
    Store(folder).index({"index": "pq", "n": 3}).write(save_text)
    (folder / "weights").mkdir()
    (folder / "weights" / "w.pt").write_bytes(b"1234")
    found = survey(Store(folder))
    assert [(each.kind, each.items) for each in found] == [
        ("embeddings", 7),
        ("index", 1),
        ("weights", 1),
    ]
    assert found[0].name == "flat"
    assert found[1].name == "pq of 3 vectors"
    assert sum(each.bytes for each in found) == total_bytes(Store(folder))


def test_prune_merges_small_shards_and_keeps_every_vector(folder: Path) -> None:
    for start in range(0, 3_000, 150):
        fill(table_of(folder), range(start, start + 200))
    done = prune(Store(folder))
    assert done.merged == 20
    assert len(shards(folder)) == 3
    table = table_of(folder)
    assert len(table) == 3_050
    for number in range(0, 3_050, 41):
        np.testing.assert_array_equal(table.row(key_of(number)), vectors_of([number])[0])
    assert prune(Store(folder)).merged == 0


def test_prune_by_age_drops_what_was_not_used(folder: Path) -> None:
    fill(table_of(folder), range(10))
    fill(table_of(folder), range(10, 20))
    Store(folder).index({"index": "pq"}).write(save_text)
    old = time.time() - 10 * 86_400
    for file in folder.rglob("*"):
        os.utime(file, (old, old))
    assert key_of(3) in table_of(folder)  # a use
    done = prune(Store(folder), older_than=5)
    assert (done.vectors, done.indexes) == (10, 1)
    assert len(table_of(folder)) == 10
    assert prune(Store(folder), older_than=0).vectors == 10
    assert shards(folder) == []
    assert (done.freed > 0, total_bytes(Store(folder))) == (True, 0)


def test_prune_keeps_weights_and_drops_damage(folder: Path) -> None:
    fill(table_of(folder), range(10))
    os.truncate(shards(folder)[0], 300)
    (folder / "weights").mkdir()
    (folder / "weights" / "w.pt").write_bytes(b"1234")
    with pytest.warns(CacheWarning):
        prune(Store(folder), older_than=0)
    assert [file.name for file in folder.rglob("*") if file.is_file()] == ["w.pt"]


def test_as_store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GMVALUATOR_CACHE", str(folder))
    assert as_store(False) is None
    found: list[Any] = [as_store(True), as_store(folder), as_store(str(folder))]
    assert [store.folder for store in found] == [folder] * 3
    assert as_store(found[0]) is found[0]


def test_a_store_stays_where_it_was_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given, named = as_store("relative"), None
    monkeypatch.setenv("GMVALUATOR_CACHE", "named")
    named = as_store(True)
    assert given is not None
    assert named is not None
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for store in (given, named):
        fill(store.table("flat", "fingerprint"), range(3))
        store.index({"index": "pq"}).write(save_text)
    assert list(Path().iterdir()) == []
    assert len(shards(tmp_path / "relative")) == len(shards(tmp_path / "named")) == 1


def test_a_user_without_a_home_has_a_cache_that_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("GMVALUATOR_CACHE")
    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    assert Store().folder == Path("/.cache/gmvaluator")
