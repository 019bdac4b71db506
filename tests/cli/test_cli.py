"""The command line as its user meets it: every verb, every expected failure in one line."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from forked import forked
from gmvaluator import Valuation, cli
from gmvaluator.runs.tables import LATER_FILES, RUN_FILES
from image_makers import encode, random_images

Result = tuple[int, str, str]
Call = Callable[..., Result]
# torch: compiling for OpenVINO would take most of the time
TORCH = ("--encoder", "efficientnet-lite0@32", "--rerank", "none", "--backend", "torch")
LIGHT = ("--encoder", "pixels@14", "--rerank", "l2@28")
QUICK = (*LIGHT, "--k", "5", "--candidates", "20")


@pytest.fixture
def generated(tmp_path: Path, digits: tuple[NDArray[np.uint8], NDArray[np.int64]]) -> Path:
    folder = tmp_path / "generated"
    folder.mkdir()
    for row in range(100, 106):
        Image.fromarray(digits[0][row]).save(folder / f"{row}.png")
    return folder


def one_line(result: Result) -> str:
    """The message of a failure: one line, no traceback, nothing on standard output."""
    status, out, err = result
    assert status != 0
    assert out == ""
    lines = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1
    assert "Traceback" not in err
    return lines[0]


def test_value_writes_the_run_and_says_what_it_found(
    call: Call, digit_folder: Path, generated: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    status, printed, err = call("value", digit_folder, generated, "--out", out, *QUICK)
    assert status == 0
    assert "60 training images valued by 6 generated ones" in printed
    assert "embed train" in err  # progress goes to standard error
    assert {file.name for file in out.iterdir()} == {*RUN_FILES, *LATER_FILES, "report.html"}
    valuation = Valuation.load(out)
    settings = valuation.info["settings"]
    assert (settings["k"], settings["candidates"], settings["seed"]) == (5, 20, 0)
    best = valuation.train_ids[int(np.argmax(valuation.values))]
    assert printed.index("most valuable") < printed.index(best) < printed.index("least valuable")
    assert str(out / "report.html") in printed
    assert f'"id":"{best}"' in (out / "report.html").read_text()
    # the page of the run that was replaced would show its numbers
    (out / "payout.json").write_text("{}")
    again = (*QUICK, "--overwrite", "--no-report", "--json")
    status, printed, _ = call("value", digit_folder, generated, "--out", out, *again)
    assert (status, json.loads(printed)["report"]) == (0, None)
    assert json.loads(printed)["of_the_run_before"] == [str(out / "payout.json")]
    assert not (out / "report.html").exists()


def test_value_as_json_is_only_json(
    call: Call, digit_folder: Path, generated: Path, tmp_path: Path
) -> None:
    arguments = (digit_folder, generated, "--out", tmp_path / "run", *QUICK, "--json")
    status, printed, err = call("value", *arguments)
    assert (status, err) == (0, "")
    summary = json.loads(printed)
    assert (summary["n_train"], summary["n_generated"], summary["skipped"]) == (60, 6, 0)
    assert len(summary["most_valuable"]) == 10
    assert summary["most_valuable"][0]["rank"] == 1


def test_images_that_contributed_to_nothing_are_counted_and_none_is_the_least_valuable(
    call: Call, digit_folder: Path, generated: Path, tmp_path: Path
) -> None:
    arguments = (digit_folder, generated, "--out", tmp_path / "run", *QUICK, "--no-report")
    printed = call("value", *arguments)[1]
    valuation = Valuation.load(tmp_path / "run")
    idle = valuation.n_supported == 0
    count, rank = int(idle.sum()), int(valuation.ranks[idle][0])
    assert (count, rank) == (60 - (rank - 1), len(set(valuation.contributions.rows.ravel())) + 1)
    assert (
        f"{count} of 60 training images contributed to nothing: their value is 0, and they share "
        f"rank {rank}\n" in printed
    )
    assert "least valuable of those that contributed:\n" in printed
    summary = json.loads(call("value", *arguments, "--overwrite", "--json")[1])
    assert summary["contributed_to_nothing"] == count
    least = summary["least_valuable"]
    assert [row["rank"] for row in least] == list(range(rank - 1, rank - 1 - len(least), -1))


def test_embed_then_value_and_match_use_the_index(
    call: Call, digit_folder: Path, generated: Path, tmp_path: Path
) -> None:
    index, out = tmp_path / "index", tmp_path / "run"
    status, printed, _ = call("embed", digit_folder, "--out", index, *QUICK)
    assert status == 0
    assert "60 images of 588 numbers each" in printed
    assert call("value", index, generated, "--out", out)[0] == 0
    assert call("value", digit_folder, generated, "--out", tmp_path / "direct", *QUICK)[0] == 0
    direct = Valuation.load(tmp_path / "direct")
    np.testing.assert_array_equal(Valuation.load(out).values, direct.values)

    image = generated / "103.png"
    for source in (index, out):
        status, printed, _ = call("match", source, image, "--top", "3", "--json", "--k", "5")
        assert status == 0
        (found,) = json.loads(printed)
        wanted = direct.contributors("103.png")
        assert [row["train_id"] for row in found["contributors"]] == list(wanted.ids[:3])
        assert (found["source"], found["generated_id"]) == (str(image), "103.png")
        assert found["quality"] == direct.quality[3]
        assert direct.match_p is not None
        assert found["match_p"] == direct.match_p[3]
        assert found["copy_of"] == []


def test_match_prints_one_shape_for_one_picture_and_for_several(
    call: Call, digit_folder: Path, generated: Path, tmp_path: Path
) -> None:
    training = sorted(digit_folder.rglob("*.png"))[0]
    copy = tmp_path / "copy.png"
    copy.write_bytes(training.read_bytes())
    same_pixels = tmp_path / "same.bmp"
    Image.open(training).save(same_pixels)
    words = ("match", digit_folder, copy, same_pixels, generated, *QUICK, "--top", "2")
    status, printed, _ = call(*words, "--json")
    assert status == 0
    found = json.loads(printed)
    assert [match["source"] for match in found] == [*map(str, (copy, same_pixels)),
                                                    *[str(generated)] * 6]  # fmt: skip
    name = training.relative_to(digit_folder).as_posix()
    assert [match["copy_of"] for match in found] == [[name], [name], *[[]] * 6]
    assert all(0 < match["match_p"] <= 1 and len(match["contributors"]) == 2 for match in found)
    assert found[0].keys() == found[-1].keys()
    status, printed, _ = call(*words)
    lines = printed.splitlines()
    assert lines[0] == f"{copy}: copy.png"
    assert lines[1].startswith("quality ")
    assert f"; copy of {name}" in lines[1]
    assert lines[2].split() == ["training", "image", "distance", "score"]
    status, printed, _ = call("match", digit_folder, copy, *QUICK, "--null", "off", "--json")
    assert json.loads(printed)[0]["match_p"] is None


def test_mixed_rerank_weights_and_own_quality(
    call: Call, digit_folder: Path, generated: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "quality.npy", np.full(6, 0.25))
    status, _, err = call(
        "value", digit_folder, generated, "--out", tmp_path / "run", "--encoder", "pixels@14",
        "--rerank", "pixels@14=2", "--rerank", "l2", "--quality", tmp_path / "quality.npy",
        "--temperature", "0.5", "--index", "Flat", "--seed", "3",
    )  # fmt: skip
    assert status == 0, err
    valuation = Valuation.load(tmp_path / "run")
    settings = valuation.info["settings"]
    assert settings["rerank"] == {"pixels@14": 2.0, "l2": 1.0}
    assert (settings["temperature"], settings["index_used"]) == (0.5, "Flat")
    assert valuation.info["seed"] == 3
    np.testing.assert_allclose(valuation.quality, 0.25)


def test_bad_images_are_counted_or_refused(
    call: Call, digit_folder: Path, generated: Path, tmp_path: Path
) -> None:
    (digit_folder / "broken.png").write_bytes(encode(random_images(1, 40)[0])[:500])
    arguments = (digit_folder, generated, "--out", tmp_path / "run", *QUICK)
    assert "broken.png" in one_line(call("value", *arguments, "--strict"))
    assert not (tmp_path / "run").exists()
    status, printed, _ = call("value", *arguments)
    assert status == 0
    assert "1 images were skipped (see skipped.parquet)" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere", "{generated}"), "nowhere"),
        (("{empty}", "{generated}"), "empty"),
        (("{bad}", "{generated}", *LIGHT), "none of the 3 images"),
        (("{train}", "{bad}", *LIGHT), "none of the 3 images"),
        (("{train}", "{generated}", "--k", "100"), "k=100 exceeds the 60 training images; pass"),
        (("{train}", "{generated}", "--candidates", "61"), "candidates=61 exceeds the 60"),
        (("{train}", "{generated}", "--encoder", "resnet"), "unknown encoder 'resnet'"),
        (("{train}", "{generated}", "--encoder", "timm:resnet999"), "resnet999"),
        (("{train}", "{generated}", "--encoder", "clip"), "--weights"),
        (("{train}", "{generated}", "--preset", "paper"), "--weights"),
        (("{train}", "{generated}", "--rerank", "l2=heavy"), "--rerank 'l2=heavy' cannot be read"),
        (("{train}", "{generated}", "--weights", "clip"), "write --weights NAME=PATH"),
        (("{train}", "{generated}", "--quality", "missing.npy"), "missing.npy cannot be read"),
        (("{train}", "{generated}", "--train-images", "x"), "goes with an index or run"),
        (
            ("{train}", "{generated}", "--temperature", "warm"),
            "pass a number above 0, auto, spacing or spacing/N",
        ),
    ],
)
def test_bad_input_is_one_clear_line_and_writes_nothing(
    call: Call,
    digit_folder: Path,
    generated: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.setenv("GMVALUATOR_OFFLINE", "1")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").touch()
    (tmp_path / "bad" / "b.png").write_text("words")
    (tmp_path / "bad" / "c.png").write_text("as many as the default needs")
    places = {
        "train": digit_folder,
        "generated": generated,
        "empty": tmp_path / "empty",
        "bad": tmp_path / "bad",
    }
    given = [argument.format(**places) for argument in arguments]
    error = one_line(call("value", *given, "--out", tmp_path / "run"))
    assert message in error
    assert not (tmp_path / "run").exists()
    assert not list(tmp_path.glob(".run*"))


def test_an_earlier_run_is_refused_before_any_work(
    call: Call, digit_folder: Path, generated: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    arguments = ("value", digit_folder, generated, "--out", out, *QUICK)
    assert call(*arguments)[0] == 0
    before = (out / "values.parquet").read_bytes()
    result = call(*arguments)
    assert "already holds a result; pass --overwrite" in one_line(result)
    assert "embed" not in result[2]
    assert (out / "values.parquet").read_bytes() == before
    (out / "payout.json").write_text("{}")
    status, printed, _ = call(*arguments, "--overwrite", "--temperature", "auto")
    assert status == 0
    assert f"{out / 'payout.json'} is of the run that was here before and stays" in printed
    assert (out / "values.parquet").read_bytes() != before


def test_sample_draws_into_a_folder(call: Call, tmp_path: Path) -> None:
    status, printed, _ = call("sample", "demo", "-m", "12", "--out", tmp_path / "drawn")
    assert status == 0
    assert "12 images in" in printed
    assert len(list((tmp_path / "drawn").rglob("*.png"))) == 12
    status, printed, _ = call("sample", "demo", "-m", "12", "--out", tmp_path / "drawn", "--json")
    assert json.loads(printed)["kept"] == 12
    assert "no model" in one_line(call("sample", "???", "-m", "1", "--out", tmp_path / "x"))


def test_doctor_says_what_can_run(call: Call) -> None:
    status, printed, _ = call("doctor", "--json")
    assert status == 0
    found = json.loads(printed)
    assert found["presets"]["offline"] is None
    assert "--weights" in found["presets"]["paper"]
    assert found["weights"]["efficientnet-lite0"]["path"]
    status, printed, _ = call("doctor")
    assert printed.splitlines()[0] == "packages"
    assert "offline            can run" in printed
    assert "paper              cannot run" in printed


def test_doctor_counts_cores_where_affinity_is_unknown(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS and Windows."""
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    status, printed, _ = call("doctor", "--json")
    assert (status, json.loads(printed)["cores"]) == (0, 7)


def test_every_help_is_printed(call: Call) -> None:
    status, printed, _ = call("--help")
    assert status == 0
    for name, command in cli.cli.commands.items():
        assert name in printed
        status, helped, _ = call(name, "--help")
        assert status == 0
        assert all(parameter.opts[0] in helped for parameter in command.params
                   if parameter.param_type_name == "option")  # fmt: skip


def test_an_owner_of_a_long_name_leaves_the_payout_readable(
    call: Call, digit_folder: Path, generated: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert call("value", digit_folder, generated, "--out", out, *QUICK, "--no-report")[0] == 0
    ids = Valuation.load(out).train_ids
    owners = [("B" * 300 if i % 2 else "Ann") for i in range(len(ids))]
    lines = [f"{name},{owner}" for name, owner in zip(ids, owners, strict=True)]
    (tmp_path / "owners.csv").write_text("\n".join(["train_id,owner", *lines]))
    arguments = ("--owners", tmp_path / "owners.csv", "--budget", "100", "--no-statements")
    status, printed, _ = call("payout", out, *arguments, "--quiet")
    assert status == 0
    table = printed[printed.index("owner ") : printed.index("saved in")].splitlines()
    assert len(table) >= 3
    assert max(map(len, table)) < 160
    assert any(line.startswith("Ann ") for line in table)


def test_wrong_usage_is_exit_code_2(call: Call) -> None:
    for arguments in ((), ("value",), ("value", "a", "b"), ("valu",), ("value", "--k", "x")):
        status, _, err = call(*arguments)
        assert status == (0 if not arguments else 2) or status == 2
        assert "Traceback" not in err


def wait_until_mapped(pid: int, name: str) -> None:
    """Until the process has opened its memory-mapped input, that is, has begun to work."""
    for _ in range(600):
        if name in Path(f"/proc/{pid}/maps").read_text():
            return
        time.sleep(0.1)
    raise TimeoutError(name)


def test_ctrl_c_ends_cleanly_and_leaves_nothing(
    digits: tuple[NDArray[np.uint8], NDArray[np.int64]], generated: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "train.npy", np.tile(digits[0], (8, 1, 1)))
    out = tmp_path / "run"
    printed = tmp_path / "printed"

    def command() -> None:
        arguments = ("value", tmp_path / "train.npy", generated, "--out", out, "--encoder", "l2@64")
        sys.argv = ["gmvaluator", *map(str, arguments)]
        cli.main()

    process = forked(command, output=printed)
    assert process.pid is not None
    wait_until_mapped(process.pid, "train.npy")
    time.sleep(1)
    os.kill(process.pid, signal.SIGINT)
    process.join(60)
    err = printed.read_text()
    # a shell sees 130 either way: Python ends itself by the signal where it met code being exec'd
    assert process.exitcode in (130, -signal.SIGINT), err
    assert "Interrupted; no result was written" in err
    assert "Traceback" not in err
    assert not out.exists()


def test_cache_shows_what_is_kept_and_prunes_it(
    call: Call, digit_folder: Path, generated: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    settings = (*TORCH, "--cache", cache)
    for name in ("one", "two"):
        status, _, err = call("value", digit_folder, generated, "--out", tmp_path / name, *settings)
        assert status == 0, err
    info = json.loads((tmp_path / "two" / "run.json").read_text())
    assert info["images"]["train"]["encoded"] == {}
    status, out, _ = call("cache", "--cache", cache)
    assert status == 0
    assert str(cache) in out.splitlines()[0]
    assert "efficientnet-lite0:root@32" in out
    status, out, _ = call("cache", "--cache", cache, "--json")
    holdings = json.loads(out)["holdings"]
    # of all images, and of the mirror images of the generated ones
    assert [(each["kind"], each["items"]) for each in holdings] == [
        ("embeddings", 66),
        ("embeddings", 6),
    ]
    status, out, _ = call("cache", "--cache", cache, "--prune", "--quiet")
    assert "2 small files merged" in out
    status, out, _ = call("cache", "--cache", cache, "--prune", "--older-than", "0", "--json")
    assert json.loads(out)["vectors"] == 72
    assert "add --prune" in one_line(call("cache", "--cache", cache, "--older-than", "3"))
    assert "≥ 0" in one_line(call("cache", "--prune", "--older-than", "-1", "--quiet"))


def test_no_cache_keeps_nothing(
    call: Call, digit_folder: Path, generated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GMVALUATOR_CACHE", str(tmp_path / "cache"))
    settings = (*TORCH, "--no-cache")
    status, _, err = call("value", digit_folder, generated, "--out", tmp_path / "run", *settings)
    assert status == 0, err
    assert not (tmp_path / "cache").exists()


def test_a_damaged_cache_is_one_warning_and_the_run_goes_on(
    call: Call, digit_folder: Path, generated: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    settings = (*TORCH, "--cache", cache)
    assert call("value", digit_folder, generated, "--out", tmp_path / "one", *settings)[0] == 0
    shards = list(cache.rglob("*.safetensors"))
    for shard in shards:
        os.truncate(shard, shard.stat().st_size - 1)
    damaged = len(shards)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        status, _, err = call(
            "value", digit_folder, generated, "--out", tmp_path / "two", *settings, "--quiet"
        )
    assert status == 0
    lines = [line for line in err.splitlines() if line]
    assert all(line.startswith("Warning: ") and "damaged" in line for line in lines)
    assert len(lines) == damaged >= 3
    one, two = (Valuation.load(tmp_path / name) for name in ("one", "two"))
    np.testing.assert_array_equal(one.values, two.values)


def test_no_command_needs_the_cache(
    call: Call, digit_folder: Path, generated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody's file is in the place of the cache: nothing can be kept, not even by root."""
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("GMVALUATOR_CACHE", str(tmp_path / "file"))
    settings = ("--encoder", "random-conv@16", "--rerank", "random-conv@16", "--quality", "none")
    run, index = tmp_path / "run", tmp_path / "index"
    for arguments in (
        ("value", digit_folder, generated, "--out", run, "--index", "pq", *settings),
        ("embed", digit_folder, "--out", index, "--index", "pq", *settings),
        ("match", index, generated / "100.png"),
        ("audit", run),
        ("curate", run, "--out", tmp_path / "curated"),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            status, _, err = call(*arguments, "--quiet")
        assert status == 0, err
        (line,) = [line for line in err.splitlines() if line]
        assert line.startswith(f"Warning: cannot write the cache {tmp_path / 'file'} (Not a dir")
        for way in ("--cache", "--no-cache", "$GMVALUATOR_CACHE"):
            assert way in line
    assert call("cache")[0] == 0
    assert (tmp_path / "file").read_text() == "mine"


def test_reweigh_writes_the_run_of_another_temperature(
    call: Call, digit_folder: Path, generated: Path, tmp_path: Path
) -> None:
    arguments = ("value", digit_folder, generated, *QUICK, "--no-report")
    call(*arguments, "--out", tmp_path / "run")
    call(*arguments, "--temperature", "0.05", "--out", tmp_path / "sharp")
    words = ("reweigh", tmp_path / "run", "--temperature", "0.05", "--out", tmp_path / "again")
    status, printed, _ = call(*words)
    assert status == 0
    assert "valued by 6 generated ones, weighed again by their recorded distances\n" in printed
    assert str(tmp_path / "again" / "report.html") in printed
    found, wanted = (Valuation.load(tmp_path / name) for name in ("again", "sharp"))
    np.testing.assert_allclose(found.values, wanted.values, rtol=1e-9, atol=1e-15)
    assert call("diff", tmp_path / "again", tmp_path / "sharp")[0] == 0
    status, _, err = call(*words)
    assert (status, "--overwrite" in err) == (4, True)
    status, _, err = call(*words[:2], "--weighting", "shapley", "--out", tmp_path / "other")
    assert status == 2
    assert "gmvaluator value RUN GENERATED --weighting shapley --out OTHER" in err
    assert not (tmp_path / "other").exists()
