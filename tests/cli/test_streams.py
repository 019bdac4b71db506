"""Standard output and error: other encodings, closed pipes, full disks, progress, the log."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from gmvaluator import GMValuator, cli
from image_makers import image_folder

Call = Callable[..., tuple[int, str, str]]
QUICK = ("--encoder", "pixels@8", "--rerank", "none", "--quality", "none", "--no-report")


def verbs(group: click.Group, *above: str) -> list[tuple[str, ...]]:
    """The words of every verb and study."""
    words: list[tuple[str, ...]] = []
    for name, command in group.commands.items():
        words.append((*above, name))
        if isinstance(command, click.Group):
            words += verbs(command, *above, name)
    return words


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose images and labels have letters that few encodings know."""
    home = tmp_path_factory.mktemp("streams")
    image_folder(home / "plain", 12, classes=2)
    (home / "plain").rename(home / "bilder 😀")
    for old, new in (("class0", "ξ猫"), ("class1", "😀")):
        (home / "bilder 😀" / old).rename(home / "bilder 😀" / new)
    image_folder(home / "gen", 3, seed=1)
    valuator = GMValuator(encoder="pixels@8", rerank="none", quality="none", k=3, cache=False)
    valuator.fit(home / "bilder 😀").value(home / "gen").save(home / "run")
    return home / "run"


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """Run a command with streams of an encoding → (exit code, standard output, error)."""

    def command(encoding: str, *words: object) -> tuple[int, str, str]:
        streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
        monkeypatch.setattr(sys, "argv", ["gmvaluator", *map(str, words)])
        monkeypatch.setattr(sys, "stdout", streams[0])
        monkeypatch.setattr(sys, "stderr", streams[1])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        monkeypatch.undo()
        texts = []
        for stream in streams:
            stream.flush()
            # click writes UTF-8 to streams that claim to know ASCII alone
            written = "utf-8" if encoding == "ascii" else encoding
            texts.append(stream.buffer.getvalue().decode(written))
        return int(ended.value.code or 0), texts[0], texts[1]

    return command


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "cp932", "ascii", "utf-8"])
def test_every_help_is_printed_in_every_encoding(encoded: Call, encoding: str) -> None:
    for words in [(), *verbs(cli.cli)]:
        status, out, err = encoded(encoding, *words, "--help")
        assert (status, err) == (0, ""), words
        assert "Usage: gmvaluator" in out


@pytest.mark.parametrize("encoding", ["cp1252", "cp932", "ascii"])
def test_results_and_errors_are_printed_in_every_encoding(
    encoded: Call, run: Path, tmp_path: Path, encoding: str
) -> None:
    generated = run.parent / "gen"
    # a settlement looks for others beside its folder
    ledger, paid = tmp_path / "ledger", tmp_path / "settled" / "january"
    for words in (
        ("verify", run),
        ("match", run, generated, "--k", "3"),
        ("uncertainty", run),
        ("stability", run, "--k", "2"),
        ("report", run, "--out", tmp_path / "page.html"),
        ("curate", run, "--out", tmp_path / "curated", "--off-manifold", "0"),
        ("payout", run, "--by", "label", "--budget", "9", "--ledger", ledger, "--out", paid),
        ("ledger", ledger),
    ):
        status, out, err = encoded(encoding, *words)
        assert status == 0, (words, err)
        assert out
    owner = "😀" if encoding == "ascii" else "\\U0001f600"
    assert owner in encoded(encoding, "ledger", ledger)[1]
    assert encoded(encoding, "verify", run.parent / "no 😀")[0] == 4


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8"])
def test_json_is_json_in_every_encoding(encoded: Call, run: Path, encoding: str) -> None:
    status, out, _ = encoded(encoding, "match", run, run.parent / "gen", "--k", "3", "--json")
    assert status == 0
    assert ("😀" in out) == (encoding == "utf-8")
    assert "😀" in json.dumps(json.loads(out), ensure_ascii=False)


def program(*words: object, **settings: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gmvaluator.cli", *map(str, words)]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=60, **settings)  # type: ignore[call-overload,no-any-return]


def test_a_real_process_prints_letters_that_its_pipe_lacks() -> None:
    environment = os.environ | {"PYTHONIOENCODING": "cp1252"}
    done = program("match", "--help", stdout=subprocess.PIPE, env=environment, encoding="cp1252")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("word", ["--help", "cache"])
def test_a_reader_that_leaves_early_is_no_failed_check(word: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = program(word, stdout=writer)
    finally:
        os.close(writer)
    # of a result, 1 would say that a check failed
    assert (done.returncode, done.stderr) == (141, "")


COMPLETE = {
    "_GMVALUATOR_COMPLETE": "bash_complete",
    "COMP_WORDS": "gmvaluator v",
    "COMP_CWORD": "1",
}
needs_a_full_device = pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="no device that is always full"
)


@needs_a_full_device
@pytest.mark.parametrize(
    ("words", "variables"),
    [
        ("cache", {}),
        ("cache --json", {}),
        ("--help", {}),
        ("value --help", {}),
        ("evaluate planted --help", {}),
        ("--version", {}),
        ("", {"_GMVALUATOR_COMPLETE": "bash_source"}),
        ("", COMPLETE),
    ],
)
def test_output_that_cannot_be_written_is_an_error_of_one_line(
    words: str, variables: dict[str, str]
) -> None:
    with open("/dev/full", "w") as full:
        done = program(*words.split(), stdout=full, env=os.environ | variables)
    assert done.returncode == 4
    assert done.stderr.startswith(
        "Error: standard output cannot be written (No space left on device)"
    )
    assert done.stderr.count("\n") == 1


@needs_a_full_device
def test_messages_that_cannot_be_written_change_no_result(run: Path, tmp_path: Path) -> None:
    train, generated = run.parent / "bilder 😀", run.parent / "gen"
    words = ("value", train, generated, "--out", tmp_path / "r", *QUICK, "--k", "3")
    for arguments, status in ((words, 0), (("verify", tmp_path / "no"), 4), (("no-verb",), 2)):
        with open("/dev/full", "w") as full:
            command = [sys.executable, "-m", "gmvaluator.cli", *map(str, arguments)]
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=full, timeout=60)
        assert (done.returncode, bool(done.stdout)) == (status, status == 0)
    assert (tmp_path / "r" / "run.json").is_file()


@pytest.mark.skipif(os.name == "nt", reason="no shell that closes a stream")
def test_closed_streams_change_no_result(run: Path) -> None:
    words = [sys.executable, "-m", "gmvaluator.cli", "match", run, run.parent / "gen", "--k", "3"]
    for closed, out, err in ((">&-", False, True), ("2>&-", True, False)):
        command = ["sh", "-c", f'"$@" {closed}', "sh", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0
        assert (bool(done.stdout), "recall" in done.stderr) == (out, err)
        assert "recall" not in done.stdout


def test_without_a_terminal_each_stage_is_a_line(call: Call, run: Path, tmp_path: Path) -> None:
    words = ("value", run.parent / "bilder 😀", run.parent / "gen", "--out", tmp_path / "r", *QUICK)
    status, out, err = call(*words, "--k", "3")
    assert status == 0
    assert err.splitlines()[:2] == ["embed train: 12", "embed generated: 3"]
    assert "embed train" not in out
    for silent in ("--quiet", "--json"):
        assert call(*words, "--overwrite", silent)[::2] == (0, "")


def test_the_log_says_more_on_request(
    call: Call, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("value", run.parent / "bilder 😀", run.parent / "gen", "--out", tmp_path / "r", *QUICK)
    status, _, err = call("--log-level", "info", *words, "--quiet")
    assert status == 0
    assert all("INFO gmvaluator." in line for line in err.splitlines())
    assert "INFO gmvaluator.engine.timing: embed train took" in err
    monkeypatch.setenv("GMVALUATOR_LOG", "INFO")
    assert "embed train took" in call(*words, "--quiet", "--overwrite")[2]
    monkeypatch.setenv("GMVALUATOR_LOG", "loud")
    status, _, err = call("cache")
    assert (status, "'loud' is not one of 'debug', 'info'" in err) == (2, True)
    # nothing of a command stays behind
    assert logging.getLogger("gmvaluator").handlers == []
