"""All or nothing: full disks, earlier results, killed writers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gmvaluator.errors import RunError
from gmvaluator.publishing import check_output, publish_file, publish_folder

MARKER = "run.json"


def write(folder: Path, text: str, *, overwrite: bool = False) -> None:
    with publish_folder(folder, MARKER, overwrite=overwrite) as scratch:
        (scratch / "data").write_text(text)
        (scratch / MARKER).write_text("{}")


def test_folder_appears_whole(tmp_path: Path) -> None:
    write(tmp_path / "deep" / "run", "first")
    assert {file.name for file in (tmp_path / "deep" / "run").iterdir()} == {"data", MARKER}
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["run"]


def test_failure_inside_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        with publish_folder(tmp_path / "run", MARKER, overwrite=False) as scratch:
            (scratch / "data").write_text("half")
            raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_earlier_result_stays_unless_told(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write(run, "first")
    (run / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="already holds a result; pass --overwrite"):
        write(run, "second")
    assert (run / "data").read_text() == "first"
    write(run, "second", overwrite=True)
    assert (run / "data").read_text() == "second"
    assert (run / "notes.txt").read_text() == "mine"


def test_folder_of_something_else_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(RunError, match=r"is not empty and holds no run\.json"):
            write(tmp_path, "x", overwrite=overwrite)
    with pytest.raises(RunError, match="is a file; choose a folder"):
        check_output(tmp_path / "photo.jpg", MARKER, overwrite=True)
    assert (tmp_path / "photo.jpg").read_text() == "mine"


def test_full_disk_says_so_and_keeps_what_was_there(small_disk: Path) -> None:
    run = small_disk / "run"
    write(run, "first")
    with pytest.raises(RunError, match=r"No space left on device.*Free some space"):
        write(run, "x" * 200_000, overwrite=True)
    assert (run / "data").read_text() == "first"
    assert [file.name for file in small_disk.iterdir()] == ["run"]
    with pytest.raises(RunError, match="No space left"):
        with publish_file(small_disk / "file") as part:
            part.write_text("x" * 200_000)
    assert [file.name for file in small_disk.iterdir()] == ["run"]


def test_leftovers_of_a_killed_writer_are_removed_by_the_next(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from gmvaluator.publishing import publish_folder\n"
        f"with publish_folder(Path({str(tmp_path / 'run')!r}), 'run.json', overwrite=False) as s:\n"
        "    (s / 'data').write_text('half'); print('ready', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        assert not (tmp_path / "run").exists()
        # another writer at the same time leaves the living one's files alone
        write(tmp_path / "other", "x")
        assert len(list(tmp_path.glob(".run.part-*"))) == 1
        writer.kill()
    write(tmp_path / "run", "whole")
    assert {file.name for file in tmp_path.iterdir()} == {"run", "other"}


def test_file_is_replaced_only_when_whole(tmp_path: Path) -> None:
    target = tmp_path / "data.npz"
    with publish_file(target) as part:
        assert part.suffix == ".npz"
        part.write_text("first")
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        with publish_file(target) as part:
            part.write_text("half")
            raise ZeroDivisionError
    assert target.read_text() == "first"
    assert [file.name for file in tmp_path.iterdir()] == ["data.npz"]
