"""Whether a run is intact: every kind of tampering, on real files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from gmvaluator import GMValuator, InputError, RunError, Valuation
from gmvaluator.audit import findings
from gmvaluator.cli import cli
from gmvaluator.files.seals import hash_file, seal_of, sealed
from gmvaluator.payout import record as payout_record
from gmvaluator.payout.statements import STATEMENTS
from gmvaluator.runs.record import RecordedSettings
from gmvaluator.runs.verify.inputs import InputCheck
from gmvaluator.runs.verify.laws import check_laws
from gmvaluator.runs.verify.verification import BESIDE, Verification, verify_run
from image_makers import encode, image_folder, random_images


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `train`, `generated`, their `run`, and `other`, a run of other images."""
    folder = tmp_path_factory.mktemp("made")
    image_folder(folder / "train", 8)
    image_folder(folder / "generated", 3, seed=1, classes=0)
    image_folder(folder / "strangers", 8, seed=7, classes=0)
    valuator = GMValuator(
        encoder="pixels@8", rerank="none", quality="none", k=2, candidates=4, cache=False
    )
    fitted = valuator.fit(folder / "train")
    fitted.value(folder / "generated").save(folder / "run")
    fitted.value(folder / "strangers").save(folder / "other")
    return folder


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "home")


def check(home: Path, **options: Any) -> Verification:
    return verify_run(home / "run", train=home / "train", generated=home / "generated", **options)


def wrong(found: Verification) -> dict[str, str]:
    """What is wrong, by the name of the check."""
    return {each.name: "; ".join(each.found) for each in found.checks if each.state == "failed"}


def states(found: Verification) -> dict[str, str]:
    return {each.name: each.state for each in found.checks}


def edit_table(file: Path, change: Callable[[dict[str, list[Any]]], None]) -> None:
    """A Parquet file written again with other content."""
    table = pq.read_table(file)
    columns = table.to_pydict()
    change(columns)
    pq.write_table(pa.table(columns, schema=table.schema), file)


def reseal(run: Path) -> None:
    """What a careful forger does: hashes and seal that fit the files as they are."""
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").unlink()
    (run / "run.json").write_text(json.dumps(sealed(record, run)))


def test_an_untouched_run_is_intact(home: Path) -> None:
    found = check(home)
    assert found.intact
    assert found.complete
    assert set(states(found).values()) == {"ok"}
    assert "holds the same 8 images" in found.train.found[0]
    assert found.seal == json.loads((home / "run" / "run.json").read_text())["seal"]
    assert check(home, seal=str(found.seal).upper()).intact


def test_an_edited_value_shows_in_the_hash_and_in_the_laws(home: Path) -> None:
    def double(columns: dict[str, list[Any]]) -> None:
        greatest = int(np.argmax(columns["value"]))
        columns["value"][greatest] *= 2

    edit_table(home / "run" / "values.parquet", double)
    found = wrong(check(home))
    assert found["files"] == "values.parquet was changed"
    assert "not the sums of the contributions" in found["laws"]


def test_a_rewritten_file_with_the_same_rows_is_told_by_its_hash_alone(home: Path) -> None:
    edit_table(home / "run" / "values.parquet", lambda columns: None)
    file = home / "run" / "values.parquet"
    pq.write_table(pq.read_table(file), file, compression="gzip")
    assert wrong(check(home)) == {"files": "values.parquet was changed"}


@pytest.mark.parametrize("name", ["values", "contributions", "generated", "skipped", "inputs"])
def test_truncated_and_missing_files_are_named(home: Path, name: str) -> None:
    file = home / "run" / f"{name}.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    found = wrong(check(home))
    assert found["files"] == f"{name}.parquet was changed"
    assert f"{name}.parquet is damaged" in found["laws"]
    file.unlink()
    found = wrong(check(home))
    assert found["files"] == f"{name}.parquet is missing"
    assert f"{name}.parquet is missing" in found["laws"]


def test_a_file_of_another_run_is_told(home: Path) -> None:
    shutil.copy(home / "other" / "contributions.parquet", home / "run")
    found = wrong(check(home))
    assert found["files"] == "contributions.parquet was changed"
    assert "do not fit together" in found["laws"]


def test_an_edited_record_does_not_fit_its_seal(home: Path) -> None:
    file = home / "run" / "run.json"
    record = json.loads(file.read_text())
    record["settings"]["k"] = 3
    file.write_text(json.dumps(record))
    assert wrong(check(home)) == {"seal": "run.json was changed: its seal does not fit it"}


def test_a_forger_who_seals_again_is_told_by_laws_or_by_the_seal_kept_elsewhere(
    home: Path,
) -> None:
    before = str(check(home).seal)

    def swap(columns: dict[str, list[Any]]) -> None:
        columns["rank"] = columns["rank"][::-1]

    edit_table(home / "run" / "values.parquet", swap)
    reseal(home / "run")
    found = wrong(check(home))
    assert list(found) == ["laws"]
    assert "rank 1 has the highest value, and so on; equal values share one: not" in found["laws"]
    # one who obeys the laws too: quality and scores of an image halved, values likewise
    valuation = Valuation.load(home / "other")
    share = replace(valuation.contributions, scores=valuation.contributions.scores / 2)
    replace(valuation, contributions=share, quality=valuation.quality / 2).save(
        home / "other", overwrite=True
    )
    assert verify_run(home / "other", train=home / "train", generated=home / "strangers").intact
    found = wrong(verify_run(home / "other", train=home / "train", seal=before))
    assert "another one than was given" in found["seal"]


def by_position(columns: dict[str, list[Any]]) -> None:
    """Ranks as earlier versions wrote them: equal values by position."""
    order = np.argsort(-np.array(columns["value"]), kind="stable")
    for rank, row in enumerate(order.tolist(), start=1):
        columns["rank"][row] = rank


def test_equal_values_share_a_rank_since_runs_keep_nearest_distances(home: Path) -> None:
    file = home / "run" / "values.parquet"
    assert len(set(Valuation.load(home / "run").ranks)) < len(pq.read_table(file))
    edit_table(file, by_position)
    reseal(home / "run")
    assert "equal values share one: not so in" in wrong(check(home))["laws"]
    # as an earlier version wrote the run: the laws of its ranks hold
    pq.write_table(pq.read_table(file).drop_columns(["nearest_distance"]), file)
    reseal(home / "run")
    assert check(home).intact
    assert Valuation.load(home / "run").nearest_distances is None
    edit_table(file, lambda columns: columns.update(rank=columns["rank"][::-1]))
    reseal(home / "run")
    assert "rank 1 has the highest value, and so on: not so in" in wrong(check(home))["laws"]


def test_a_nearest_distance_beyond_a_contributor_is_told(home: Path) -> None:
    def push_away(columns: dict[str, list[Any]]) -> None:
        row = columns["rank"].index(1)
        columns["nearest_distance"][row] += 1.0

    edit_table(home / "run" / "values.parquet", push_away)
    reseal(home / "run")
    assert "no contributor is nearer than the nearest distance" in wrong(check(home))["laws"]


def test_a_seal_that_is_none_is_refused(home: Path) -> None:
    with pytest.raises(InputError, match="'abc' is no seal; pass the 64 hex digits"):
        check(home, seal="abc")


def test_an_image_changed_by_a_byte_is_named(home: Path) -> None:
    file = home / "train" / "class1" / "003.png"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    found = check(home)
    assert found.train.changed == ("class1/003.png",)
    assert wrong(found) == {
        "training images": "1 have other content than was valued: class1/003.png"
    }


def test_images_removed_and_added_are_named(home: Path) -> None:
    (home / "generated" / "001.png").unlink()
    (home / "train" / "class0" / "new.png").write_bytes(encode(random_images(1)[0]))
    for quick in (False, True):
        found = check(home, quick=quick)
        assert (found.generated.missing, found.generated.added) == (("001.png",), ())
        assert (found.train.missing, found.train.added) == ((), ("class0/new.png",))
        # what was added has no value in the run, and is no fault of the run
        assert set(wrong(found)) == {"generated images"}
        assert "1 were not there when the run was made: class0/new.png" in found.train.found
        assert found.train.state == ("unknown" if quick else "ok")


def test_a_set_of_strangers_is_told_as_another(home: Path) -> None:
    found = verify_run(home / "run", train=home / "train", generated=home / "strangers")
    assert found.train.state == "ok"
    assert "is another set: not one image of the run is in it" in found.generated.found[0]


def test_the_same_images_under_other_ids_are_recognised(home: Path) -> None:
    moved = home / "set" / "train"
    moved.parent.mkdir()
    (home / "train").rename(moved)
    found = verify_run(home / "run", train=moved.parent, generated=home / "generated")
    assert found.train.state == "failed"
    assert "8 of the missing images are there under other ids" in "".join(found.train.found)


def test_images_that_moved_are_not_checked_and_said_so(made: Path, home: Path) -> None:
    file = home / "run" / "run.json"
    record = json.loads(file.read_text())
    record["inputs"]["train"]["source"] = str(home / "nowhere")
    file.write_text(json.dumps(record | {"seal": seal_of(record)}))
    found = verify_run(home / "run")
    assert found.intact
    assert not found.complete
    assert found.train.state == "unknown"
    assert "cannot be opened where they were" in found.train.found[0]
    assert "is intact; not checked: training images" in found.as_text()


def test_quick_says_that_contents_were_not_read(home: Path) -> None:
    (home / "train" / "class0" / "000.png").write_bytes(b"another image")
    found = check(home, quick=True)
    assert found.intact
    assert found.train.state == "unknown"
    assert "contents were not read" in found.train.found[0]


def edit_record(file: Path, **changes: Any) -> None:
    """A record with other entries; those that become None are taken out."""
    record = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({name: each for name, each in record.items() if each is not None}))


def as_older(run: Path) -> None:
    """The run as a version would have written it that knew no seals, copies or null samples."""
    settings = json.loads((run / "run.json").read_text())["settings"]
    kept = {name: each for name, each in settings.items() if name not in ("dedup", "null")}
    edit_record(run / "run.json", files=None, seal=None, unattributed=None, settings=kept)
    table = pq.read_table(run / "generated.parquet")
    pq.write_table(table.drop_columns(["match_p"]), run / "generated.parquet")
    for name in ("inputs.parquet", "duplicates.parquet"):
        (run / name).unlink(missing_ok=True)


def test_an_older_run_says_what_can_be_checked(home: Path) -> None:
    as_older(home / "run")
    found = check(home)
    assert found.intact
    assert states(found) == {
        "files": "unknown",
        "seal": "unknown",
        "laws": "ok",
        "training images": "ok",
        "generated images": "ok",
    }
    assert wrong(check(home, seal="0" * 64)) == {"seal": "run.json has none, and one was given"}
    (home / "train" / "class0" / "000.png").write_bytes(encode(random_images(1, seed=3)[0]))
    assert "this older run does not say which" in wrong(check(home))["training images"]


def test_hashes_and_seal_that_were_taken_out_are_missed(home: Path) -> None:
    run = home / "run"
    whole = (run / "run.json").read_text()
    edit_record(run / "run.json", files=None, seal=None)
    found = wrong(verify_run(run, quick=True))
    assert set(found) == {"files", "seal"}
    assert "unattributed, settings.dedup, settings.null, inputs.parquet" in found["files"]
    for name in ("files", "seal"):
        (run / "run.json").write_text(whole)
        edit_record(run / "run.json", **{name: None})
        assert name in wrong(verify_run(run, quick=True))
    as_older(run)
    for sign in ("earlier_seals", "extensions"):
        edit_record(run / "run.json", **{sign: []})
        assert sign in wrong(verify_run(run, quick=True))["seal"]
        edit_record(run / "run.json", **{sign: None})
    assert verify_run(run, quick=True).intact
    shutil.copy(home / "other" / "inputs.parquet", run)
    assert "inputs.parquet" in wrong(verify_run(run, quick=True))["files"]


def test_a_resealed_list_of_files_that_lacks_one_is_told(home: Path) -> None:
    file = home / "run" / "run.json"
    record = json.loads(file.read_text())
    del record["files"]["values.parquet"]
    file.write_text(json.dumps(record | {"seal": seal_of(record)}))
    assert wrong(check(home)) == {"files": "values.parquet is not listed with a hash"}


@pytest.mark.parametrize("name", ["settings", "inputs", "unattributed"])
def test_nonsense_in_the_record_is_found_and_no_traceback(home: Path, name: str) -> None:
    file = home / "run" / "run.json"
    record = json.loads(file.read_text())
    several: tuple[Any, ...] = (None, [], "x", 3)
    for nonsense in several:
        file.write_text(json.dumps(record | {name: nonsense}))
        found = verify_run(home / "run")
        assert f"{name} in run.json is {nonsense!r}" in wrong(found)["laws"]
        assert found.train.state == "unknown"
        with pytest.raises(RunError, match="is not as it was saved"):
            Valuation.load(home / "run")
    file.write_text(json.dumps(record | {name: {"train": 3, "level": "x", "k": "x"}}))
    assert not verify_run(home / "run").intact


def test_a_table_with_text_for_numbers_is_found_and_no_traceback(home: Path) -> None:
    file = home / "run" / "values.parquet"
    table = pq.read_table(file)
    text = pa.array(["x"] * len(table))
    pq.write_table(table.set_column(table.column_names.index("value"), "value", text), file)
    assert "do not fit together" in wrong(check(home))["laws"]


def test_what_is_told_of_unattributed_images_follows_from_p_values(home: Path) -> None:
    whole = Valuation.load(home / "run")
    p = np.array([0.001, 0.5, 1.0])
    test = whole.record.unattributed
    assert test is not None
    share = float(whole.quality[0] / whole.quality.sum())
    right = replace(
        whole,
        match_p=p,
        record=replace(whole.record, unattributed=replace(test, images=1, share=share)),
    )
    number = "the number of unattributed images follows from the p-values"
    part = "the unattributed share follows from the p-values and qualities"
    both = "p-values are recorded exactly where unattributed images are"
    assert laws_broken(right, home) == set()
    assert laws_broken(replace(right, record=whole.record), home) == {number, part}
    assert laws_broken(replace(right, match_p=None), home) == {both}
    for outside in (1.5, np.nan):
        odd = replace(right, match_p=np.array([0.001, 0.5, outside]))
        assert laws_broken(odd, home) == {"p-values lie within 0 and 1"}


def made_of(run: Path, name: str, files: tuple[str, ...], **more: Any) -> Path:
    """A sealed record of what is made of a run, with its files."""
    for each in files:
        (run / each).parent.mkdir(exist_ok=True)
        (run / each).write_text("content")
    seal = json.loads((run / "run.json").read_text())["seal"]
    hashes = {each: hash_file(run / each) for each in files}
    record: dict[str, Any] = {"run_seal": seal, "files": hashes, **more}
    (run / name).write_text(json.dumps(record | {"seal": seal_of(record)}))
    return run / name


@pytest.mark.parametrize("name", ["audit.json", "payout.json"])
def test_records_beside_a_run_are_whole_or_told(home: Path, name: str) -> None:
    run = home / "run"
    record = made_of(run, name, BESIDE[name])
    whole = record.read_text()
    assert check(home).intact
    for text in ("{", "[]", "\xff"):
        record.write_bytes(text.encode("latin-1"))
        assert "it cannot be read" in wrong(check(home))[name]
    for key in ("run_seal", "files", "seal"):
        record.write_text(whole)
        edit_record(record, **{key: None})
        assert f"it has no {key}: it was taken out" in wrong(check(home))[name]
    record.write_text(whole)
    edit_record(record, total=9)
    assert "its seal does not fit" in wrong(check(home))[name]
    made_of(run, name, BESIDE[name][:1])
    unlisted = [f"it lists no hash of {each}" for each in BESIDE[name][1:]]
    assert wrong(check(home)) == {name: "; ".join(unlisted)}
    record.unlink()
    assert f"it is missing, and {BESIDE[name][0]}" in wrong(check(home))[name]


def test_records_beside_a_run_are_those_that_the_commands_write() -> None:
    assert BESIDE[findings.AUDIT_RECORD] == (
        findings.AUDIT_TABLE,
        f"{findings.AUDIT_PAGES}/index.html",
    )
    assert BESIDE[payout_record.PAYOUT_RECORD] == (
        payout_record.PAYOUT_TABLE,
        f"{STATEMENTS}/index.html",
        payout_record.DIFFERENCE,
        payout_record.CONTESTED,
    )


def test_a_record_of_another_run_says_what_to_do(home: Path) -> None:
    record = made_of(home / "other", "payout.json", ())
    shutil.copy(record, home / "run")
    found = wrong(check(home))["payout.json"]
    assert found.startswith("it was made of another run; move it and its files away, or make it")


def test_held_out_images_are_looked_at(home: Path) -> None:
    image_folder(home / "strangers2", 6, seed=9, classes=0)
    # one is a training image, one cannot be read: neither is in the sample
    shutil.copy(home / "train" / "class0" / "000.png", home / "strangers2" / "known.png")
    (home / "strangers2" / "odd.png").write_bytes(b"no image")
    valuator = GMValuator(
        encoder="pixels@8", rerank="none", quality="none", k=2, candidates=4, cache=False
    )
    fitted = valuator.fit(home / "train")
    fitted.value(home / "generated", holdout=home / "strangers2").save(home / "run", overwrite=True)
    found = verify_run(home / "run")
    assert found.holdout is not None
    assert (found.intact, found.complete, found.holdout.n) == (True, True, 6)
    quick = verify_run(home / "run", quick=True)
    assert states(quick)["held-out images"] == "unknown"
    (home / "strangers2").rename(home / "moved")
    gone = verify_run(home / "run")
    assert (gone.intact, states(gone)["held-out images"]) == (True, "unknown")
    assert verify_run(home / "run", holdout=home / "moved").complete
    (home / "moved" / "000.png").write_bytes(encode(random_images(1, seed=3)[0]))
    changed = verify_run(home / "run", holdout=home / "moved")
    assert "gives other images to compare with" in wrong(changed)["held-out images"]


def test_held_out_images_given_for_a_run_without_are_told(home: Path) -> None:
    found = check(home, holdout=home / "strangers")
    assert wrong(found) == {"held-out images": "the run was made without, and a set was given"}


def test_a_run_of_another_version_is_not_called_intact(home: Path) -> None:
    file = home / "run" / "run.json"
    record = json.loads(file.read_text()) | {"format": 99}
    file.write_text(json.dumps(record | {"seal": seal_of(record)}))
    found = check(home)
    assert "has format 99 and this version reads" in wrong(found)["laws"]
    assert found.train.state == "unknown"


def test_no_run_and_a_damaged_record_are_errors(home: Path) -> None:
    with pytest.raises(RunError, match="is no run folder"):
        verify_run(home / "train")
    (home / "run" / "run.json").write_text("{")
    with pytest.raises(RunError, match=r"run\.json cannot be read"):
        check(home)


def laws_broken(valuation: Valuation, folder: Path) -> set[str]:
    """Names of the laws that a valuation breaks once it is saved."""
    valuation.save(folder / "edited", overwrite=True)
    loaded = Valuation.load(folder / "edited")
    tables = (
        pq.read_table(folder / "edited" / f"{n}.parquet") for n in ("values", "contributions")
    )
    return {law.name for law in check_laws(loaded, *tables) if law.broken}


def test_each_law_is_broken_by_what_breaks_it(home: Path) -> None:
    by_distance = GMValuator.refit(home / "run", weighting="softmax", cache=False)
    whole = by_distance.value(home / "generated")
    found = whole.contributions
    assert laws_broken(whole, home) == set()
    negative = found.scores.copy()
    negative[0] = [1.5, -0.5]
    upside_down = found.scores[:, ::-1].copy()
    twice = found.rows.copy()
    twice[1, 1] = twice[1, 0]
    nowhere = found.distances.copy()
    nowhere[2, 1] = np.inf
    sums = "scores and what is unattributed sum to the quality of each generated image"
    one_contributor = RecordedSettings({**whole.record.settings, "k": 1})
    cases: list[tuple[Valuation, set[str]]] = [
        (replace(whole, contributions=replace(found, scores=negative)), {"scores are at least 0"}),
        (
            replace(whole, contributions=replace(found, scores=upside_down)),
            {"a nearer contributor never scores less"},
        ),
        (
            replace(whole, contributions=replace(found, rows=twice)),
            {"contributors of a generated image are distinct"},
        ),
        (
            replace(whole, contributions=replace(found, distances=nowhere)),
            {"distances are finite"},
        ),
        (
            replace(whole, quality=whole.quality / 2),
            {sums, "values sum to the quality handed out"},
        ),
        (
            replace(whole, record=replace(whole.record, settings=one_contributor)),
            {"at most k = 1 contributors"},
        ),
        (
            replace(whole, train_keys=("0" * 32, *(whole.train_keys or ())[1:])),
            {"the train fingerprint is that of the content keys"},
        ),
    ]
    for edited, broken in cases:
        assert laws_broken(edited, home) == broken


def test_a_contributor_more_than_k_breaks_a_law(home: Path) -> None:
    whole = Valuation.load(home / "run")
    listed = whole.contributions
    third = np.array([[next(i for i in range(8) if i not in row)] for row in listed.rows.tolist()])
    farther = listed.distances[:, -1:] + 1
    # the score of the second is shared with a third, so all sums stay right
    shared = np.column_stack([listed.scores[:, :1], np.repeat(listed.scores[:, 1:] / 2, 2, axis=1)])
    more = replace(
        listed,
        rows=np.column_stack([listed.rows, third]),
        distances=np.column_stack([listed.distances, farther]),
        scores=shared,
    )
    assert laws_broken(replace(whole, contributions=more), home) == {"at most k = 2 contributors"}
    # one without a score is no contributor
    shared[:, 1] += shared[:, 2]
    shared[:, 2] = 0
    unscored = replace(whole, contributions=replace(more, scores=shared))
    assert laws_broken(unscored, home) == set()


def test_the_laws_hold_of_copies_that_count_once(home: Path) -> None:
    shutil.copy(home / "train" / "class0" / "000.png", home / "train" / "class0" / "twin.png")
    valuator = GMValuator(
        encoder="pixels@8", rerank="none", quality="none", k=2, candidates=4, cache=False
    )
    valuation = valuator.fit(home / "train").value(home / "generated")
    valuation.save(home / "run", overwrite=True)
    assert (home / "run" / "duplicates.parquet").is_file()
    assert check(home).complete
    assert check(home).intact
    found = valuation.contributions
    assert valuation.clusters is not None
    (twin,) = set(range(9)) - set(valuation.clusters.kept.tolist())
    rows = np.where(found.rows == valuation.clusters.representatives[twin], twin, found.rows)
    if np.array_equal(rows, found.rows):
        rows = found.rows.copy()
        rows[0, 0] = twin
    broken = laws_broken(replace(valuation, contributions=replace(found, rows=rows)), home)
    assert "one of several copies contributes for all" in broken


def test_the_command_exits_by_what_it_found(home: Path) -> None:
    arguments = ["verify", str(home / "run"), "--train-images", str(home / "train"), "--quiet"]
    arguments += ["--generated-images", str(home / "generated")]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0
    assert "is intact" in done.output
    (home / "run" / "skipped.parquet").unlink()
    done = CliRunner().invoke(cli, [*arguments, "--json"])
    assert done.exit_code == 1
    told = json.loads(done.output)
    assert not told["intact"]
    assert told["checks"][0] == {
        "name": "files",
        "state": "failed",
        "found": ["skipped.parquet is missing"],
    }


def test_the_two_sides_are_input_checks(home: Path) -> None:
    found = check(home)
    assert isinstance(found.train, InputCheck)
    assert (found.train.n, found.generated.n) == (8, 3)


def test_laws_hold_where_images_have_no_contributor(made: Path, tmp_path: Path) -> None:
    strict = GMValuator.refit(made / "run", cache=False, null="withhold", null_level=0.5)
    valuation = strict.value(made / "strangers")
    assert (valuation.unattributed > 0).any()
    valuation.save(tmp_path / "run")
    assert wrong(verify_run(tmp_path / "run")) == {}
