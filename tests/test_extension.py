"""A run with appended images is the run of all of them."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from forked import forked
from gmvaluator import GMValuator, ImageSet, InputError, RunError, Valuation, extension
from gmvaluator.certainty.stability import k_variant, stability_run
from gmvaluator.extension import extend_run
from gmvaluator.payout import payout_run
from gmvaluator.runs.folder import open_run
from gmvaluator.runs.join import join
from gmvaluator.runs.record import RecordedSettings
from gmvaluator.runs.verify import verify_run
from image_makers import encode, random_images, write_files
from run_makers import made_test, made_valuation

SETTINGS: tuple[dict[str, Any], ...] = (
    {},
    {
        "second_encoder": "pixels@6",
        "rerank": {"pixels@8": 1, "pixels@6": 2},
        "quality": "domain",
        "null_level": 0.2,
    },
    {"rerank": "pixels@8", "temperature": "auto", "quality": "realism"},
    {"rerank": "pixels@8", "weighting": "softmax", "temperature": "spacing"},
    {"weighting": "softmax", "mirror": False, "null_measure": "neighbours"},
    {"weighting": "shapley"},
    {"weighting": "global-ridge"},
    {"null": "withhold", "null_level": 0.2},
)


@pytest.fixture
def folder(tmp_path: Path, digits: tuple[NDArray[np.uint8], NDArray[np.int64]]) -> Path:
    """40 training digits, and generated ones in two parts and together."""
    pngs = [encode(image) for image in digits[0][:52]]
    write_files(tmp_path / "train", {f"{i:02d}.png": png for i, png in enumerate(pngs[:40])})
    drawn = [encode(np.roll(image, 2, axis=0)) for image in digits[0][20:32]]
    write_files(tmp_path / "one", {f"a{j}.png": png for j, png in enumerate(drawn[:7])})
    write_files(tmp_path / "two", {f"b{j}.png": png for j, png in enumerate(drawn[7:])})
    shutil.copytree(tmp_path / "one", tmp_path / "all")
    shutil.copytree(tmp_path / "two", tmp_path / "all", dirs_exist_ok=True)
    return tmp_path


def valuator(folder: Path, **changes: Any) -> GMValuator:
    chosen: dict[str, Any] = {
        "encoder": "pixels@8",
        "rerank": "none",
        "quality": "none",
        "k": 5,
    } | changes
    return GMValuator(**chosen, candidates=10, cache=False).fit(folder / "train")


def test_nearest_distances_are_the_smaller_ones_and_unknown_beside_an_earlier_run() -> None:
    one, two = made_valuation(seed=0), made_valuation(seed=1)
    two = replace(two, generated_ids=tuple(f"h{j}" for j in range(4)))
    near, nearer, nearest = np.array(
        [
            [0.5, 0.1, np.nan, np.nan, 1, 1],
            [0.2, 0.3, 0.4, np.nan, 2, np.nan],
            [0.2, 0.1, 0.4, np.nan, 1, 1],
        ],
        dtype=np.float32,
    )
    joined = join(replace(one, nearest_distances=near), replace(two, nearest_distances=nearer))
    assert joined.nearest_distances is not None
    np.testing.assert_array_equal(joined.nearest_distances, nearest)
    assert join(one, replace(two, nearest_distances=nearer)).nearest_distances is None


@pytest.mark.parametrize("changes", SETTINGS, ids=str)
def test_it_is_the_run_of_all_images(folder: Path, changes: dict[str, Any]) -> None:
    fitted = valuator(folder, **changes)
    fitted.value(folder / "one").save(folder / "run")
    extended = extend_run(folder / "run", folder / "two", cache=False)
    assert (extended.n_before, extended.n_new) == (7, 5)
    found, whole = Valuation.load(folder / "run"), fitted.value(folder / "all")
    assert found.generated_ids == whole.generated_ids
    assert found.generated_keys == whole.generated_keys
    np.testing.assert_array_equal(found.contributions.rows, whole.contributions.rows)
    np.testing.assert_allclose(
        found.contributions.scores, whole.contributions.scores, rtol=1e-5, atol=1e-9
    )
    np.testing.assert_allclose(found.quality, whole.quality, rtol=1e-9)
    if whole.nearest_distances is None:
        assert changes == {"weighting": "global-ridge"}
        assert found.nearest_distances is None
    else:
        assert found.nearest_distances is not None
        np.testing.assert_allclose(found.nearest_distances, whole.nearest_distances, rtol=1e-5)
    inputs = found.info["inputs"]["generated"]
    assert inputs["fingerprint"] == whole.info["inputs"]["generated"]["fingerprint"]
    assert found.info["n_generated"] == 12
    assert found.info["unattributed"] == whole.info["unattributed"]
    assert found.match_p is not None
    np.testing.assert_array_equal(found.match_p, whole.match_p)
    assert found.info["extensions"][0]["input"]["source"] == str(folder / "two")


def test_ids_and_contents_that_are_there_already(folder: Path) -> None:
    valuator(folder).value(folder / "one").save(folder / "run")
    before = {file: file.read_bytes() for file in (folder / "run").iterdir()}
    with pytest.raises(InputError, match=r"7 new images have ids .*'a0.png', 'a1.png', 'a2.png' …"):
        extend_run(folder / "run", folder / "one", cache=False)
    with pytest.raises(InputError, match=r"have the content of images in the run \(x/a0.png is a0"):
        extend_run(folder / "run", folder / "one", prefix="x/", cache=False)
    assert {file: file.read_bytes() for file in (folder / "run").iterdir()} == before
    twice = extend_run(
        folder / "run", folder / "one", prefix="x/", allow_copies=True, out=folder / "other",
        cache=False,
    )  # fmt: skip
    assert twice.valuation.generated_ids[7:9] == ("x/a0.png", "x/a1.png")
    assert {file: file.read_bytes() for file in (folder / "run").iterdir()} == before
    with pytest.raises(RunError, match="already holds a result"):
        extend_run(folder / "run", folder / "two", out=folder / "other", cache=False)


def test_pictures_of_all_parts_are_found(folder: Path) -> None:
    valuator(folder).value(folder / "one").save(folder / "run")
    extend_run(folder / "run", folder / "two", cache=False)
    extend_run(folder / "run", folder / "one", prefix="x/", allow_copies=True, cache=False)
    side = open_run(folder / "run").generated
    assert side.trouble is None
    assert [side.state(j) for j in range(19)] == ["ok"] * 19
    assert side.ids[12] == "x/a0.png"
    assert side.png(12, 28) == side.png(0, 28) != side.png(7, 28)
    (folder / "two" / "b0.png").write_bytes(encode(random_images(1)[0]))
    assert open_run(folder / "run").generated.state(7) == "changed"
    with pytest.raises(InputError, match="hold 14 images, 7 of different ids"):
        ImageSet.open([("", folder / "one")] * 2)


def test_a_training_set_that_changed_is_refused(folder: Path) -> None:
    valuator(folder).value(folder / "one").save(folder / "run")
    (folder / "train" / "00.png").write_bytes(encode(random_images(1, 28)[0]))
    with pytest.raises(RunError, match=r"training images of run .* have changed since"):
        extend_run(folder / "run", folder / "two", cache=False)


def new_images(valuation: Valuation) -> Valuation:
    names = tuple(f"new{name}" for name in valuation.generated_ids)
    return replace(valuation, generated_ids=names)


def changed(valuation: Valuation, **entries: Any) -> Valuation:
    """The same valuation with other entries in its record."""
    return replace(valuation, record=replace(valuation.record, **entries))


def test_valuations_made_otherwise_are_not_joined() -> None:
    old = made_valuation()
    new = new_images(made_valuation(seed=1))
    assert join(old, new).values == pytest.approx(old.values + new.values)
    nearly = dict(new.record.settings) | {"temperature_used": 1.0001}
    join(old, changed(new, settings=RecordedSettings(nearly)))
    settings = dict(new.record.settings) | {"temperature_used": 2.0}
    for other, what in (
        (changed(new, settings=RecordedSettings(settings)), "temperature_used"),
        (changed(new, weights={"net": "1"}), "weights"),
        (replace(new, train_ids=new.train_ids[::-1]), "training images"),
        (new_images(made_valuation(k=2)), "k"),
    ):
        with pytest.raises(RunError, match=f"valued otherwise than the run: {what} differ"):
            join(old, other)


def test_the_null_sample_is_the_same_but_for_last_digits() -> None:
    told = made_test(applied=True)
    found: list[Valuation] = []
    differences: tuple[dict[str, Any], ...] = (
        {},
        {"threshold": 1.5001},
        {"threshold": 1.6},
        {"n_null": 98},
    )
    for images, each in enumerate(differences):
        one = made_valuation() if not images else new_images(made_valuation())
        found.append(changed(one, unattributed=replace(told, **each, images=images)))
    join(*found[:2])
    for other in found[2:]:
        with pytest.raises(RunError, match="the null sample differ"):
            join(found[0], other)


def test_parts_keep_their_order_whatever_their_prefixes(folder: Path) -> None:
    drawn = [encode(image) for image in random_images(2, 28)]
    write_files(folder / "three", {f"c{j}.png": png for j, png in enumerate(drawn)})
    valuator(folder).value(folder / "one").save(folder / "run")
    extend_run(folder / "run", folder / "two", prefix="b/", cache=False)
    valuation = extend_run(folder / "run", folder / "three", cache=False).valuation
    source = valuation.info["inputs"]["generated"]["source"]
    assert [prefix for prefix, _ in source] == ["", "b/", ""]
    assert ImageSet.open(source).ids == valuation.generated_ids
    # so that valuing again finds the same set
    assert stability_run(folder / "run", [k_variant(6, requested=True)], cache=False).comparisons


def test_columns_that_all_parts_have_are_kept(folder: Path) -> None:
    (folder / "one.csv").write_text("path,author,year\none/a0.png,x,1\none/a1.png,y,2\n")
    (folder / "two.csv").write_text("path,author\ntwo/b0.png,z\n")
    joined = ImageSet.open([("", folder / "one.csv"), ("", folder / "two.csv")])
    assert joined.metadata == {"author": ("x", "y", "z")}


def test_files_that_are_no_images_need_a_prefix_too(folder: Path) -> None:
    for name in ("one", "two"):
        (folder / name / "broken.png").write_bytes(f"{name} is no image".encode())
    valuator(folder).value(folder / "one").save(folder / "run")
    with pytest.raises(InputError, match=r"1 new images have ids .*broken.png.*prefix=…"):
        extend_run(folder / "run", folder / "two", cache=False)
    extend_run(folder / "run", folder / "two", prefix="b/", cache=False)
    left_out = [skip.id for side, skip in Valuation.load(folder / "run").skipped]
    assert left_out == ["broken.png", "b/broken.png"]
    assert verify_run(folder / "run").intact


def test_an_older_run_without_content_keys(folder: Path) -> None:
    older = valuator(folder).value(folder / "one")
    replace(older, train_keys=None, generated_keys=None).save(folder / "run")
    extended = extend_run(folder / "run", folder / "two", cache=False).valuation
    assert extended.info["inputs"]["generated"]["fingerprint"] is None
    assert stability_run(folder / "run", [k_variant(6, requested=True)], cache=False).comparisons
    (folder / "two" / "b0.png").unlink()
    with pytest.raises(RunError, match=r"generated images of run .* have changed since"):
        stability_run(folder / "run", [k_variant(7)], cache=False)


def test_where_images_in_memory_are_nobody_knows(
    folder: Path, digits: tuple[NDArray[np.uint8], NDArray[np.int64]]
) -> None:
    valuator(folder).value(folder / "one").save(folder / "run")
    extend_run(folder / "run", digits[0][60:63], cache=False)
    found = verify_run(folder / "run")
    assert (found.intact, found.generated.state) == (True, "unknown")


def test_a_run_that_another_process_changed_is_left_as_it_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    valuator(folder).value(folder / "one").save(folder / "run")
    value = GMValuator.value

    def beside(self: GMValuator, *images: Any, **options: Any) -> Valuation:
        found = value(self, *images, **options)
        valuator(folder, k=3).value(folder / "two").save(folder / "run", overwrite=True)
        return found

    def once(self: GMValuator, *images: Any, **options: Any) -> Valuation:
        monkeypatch.setattr(GMValuator, "value", value)
        return beside(self, *images, **options)

    monkeypatch.setattr(GMValuator, "value", once)
    with pytest.raises(RunError, match="was changed meanwhile"):
        extend_run(folder / "run", folder / "two", cache=False)
    assert len(Valuation.load(folder / "run").generated_ids) == 5


def assert_one_of_two_extended(run: Path, refused: list[str]) -> None:
    """One extension is saved whole, and the other one says that it is not."""
    assert len(refused) == 1
    assert "was changed meanwhile; nothing was saved, extend it again" in refused[0]
    valuation = Valuation.load(run)
    assert len(valuation.generated_ids) == 7 + 5
    assert len(valuation.info["extensions"]) == 1
    assert verify_run(run).intact


def test_two_threads_that_extend_a_run_lose_nothing_silently(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = folder / "run"
    valuator(folder).value(folder / "one").save(run)
    both_valued = Barrier(2, timeout=60)

    def join_together(*valuations: Valuation, **options: Any) -> Valuation:
        joined = join(*valuations, **options)
        both_valued.wait()
        return joined

    def extend(prefix: str) -> str | None:
        try:
            extend_run(run, folder / "two", prefix=prefix, cache=False)
        except RunError as error:
            return str(error)
        return None

    monkeypatch.setattr(extension, "join", join_together)
    with ThreadPoolExecutor(2) as pool:
        refused = [error for error in pool.map(extend, ("x/", "y/")) if error is not None]
    assert_one_of_two_extended(run, refused)


def test_two_processes_that_extend_a_run_lose_nothing_silently(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    valuator(folder).value(folder / "one").save(folder / "run")

    def extend(prefix: str, other: str) -> None:
        def join_together(*valuations: Any, **options: Any) -> Any:
            joined = join(*valuations, **options)
            (folder / f"{prefix}.ready").touch()
            while not (folder / f"{other}.ready").exists():
                time.sleep(0.001)
            return joined

        monkeypatch.setattr(extension, "join", join_together)
        try:
            extend_run(folder / "run", folder / "two", prefix=prefix, cache=False)
        except RunError as error:
            (folder / f"{prefix}.refused").write_text(str(error))

    processes = [forked(extend, *names) for names in (("x", "y"), ("y", "x"))]
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    refused = [file.read_text() for file in folder.glob("*.refused")]
    assert_one_of_two_extended(folder / "run", refused)


def test_what_was_paid_by_the_shorter_run_is_still_of_it(folder: Path) -> None:
    run = folder / "run"
    valuator(folder).value(folder / "one").save(run)
    ids = [f"{i:02d}.png" for i in range(40)]
    (folder / "owners.csv").write_text("\n".join(["train_id,owner", *(f"{n},a" for n in ids)]))
    payout_run(run, owners=folder / "owners.csv", budget="10", resamples=0).save(statements=False)
    (run / "intervals.parquet").write_bytes(b"of the shorter run")
    extend_run(run, folder / "two", cache=False)
    assert not (run / "intervals.parquet").exists()
    found = verify_run(run)
    assert found.intact
    (payout,) = [each for each in found.checks if each.name == "payout.json"]
    assert payout.found == ("made of this run before it was extended, and as it was saved",)
    # another run in its place is not what was paid by
    valuator(folder, k=3).value(folder / "one").save(run, overwrite=True)
    assert not verify_run(run).intact
