"""All or nothing: full disks, earlier results, killed writers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gmvaluator.errors import RunError
from gmvaluator.files.atomic import (
    LEFTOVER_SECONDS,
    check_into,
    check_output,
    finish_interrupted,
    locked,
    publish_file,
    publish_folder,
    remove_leftovers,
)

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
    with pytest.raises(RunError, match="already holds a result; pass overwrite=True"):
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


def make_old(path: Path, seconds: float = LEFTOVER_SECONDS + 60) -> None:
    then = time.time() - seconds
    for file in (*path.rglob("*"), path):
        os.utime(file, (then, then))


def test_leftovers_of_a_killed_writer_go_after_a_day(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from gmvaluator.files.atomic import publish_folder\n"
        f"with publish_folder(Path({str(tmp_path / 'run')!r}), 'run.json', overwrite=False) as s:\n"
        "    (s / 'data').write_text('half'); print('ready', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        assert not (tmp_path / "run").exists()
        writer.kill()
    (leftover,) = tmp_path.glob(".run.part-*")
    write(tmp_path / "run", "whole")
    assert leftover.exists()
    make_old(leftover)
    write(tmp_path / "run", "again", overwrite=True)
    remove_leftovers(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"run"}


@pytest.mark.parametrize(
    "writer", [os.getpid(), 2**22 + 1, "another-host-17"], ids=["own", "unknown", "foreign"]
)
def test_age_decides_what_is_left_over_not_the_writers_name(
    tmp_path: Path, writer: int | str
) -> None:
    """Our own process id, one that lives on another host, and no process id."""
    file, folder = (tmp_path / f".{name}.part-{writer}" for name in ("data", "run"))
    file.write_text("half")
    folder.mkdir()
    (folder / "inside").write_text("half")
    remove_leftovers(tmp_path)
    assert file.exists()
    make_old(file)
    make_old(folder)
    (folder / "inside").write_text("more")  # somebody writes to it
    remove_leftovers(tmp_path)
    assert (file.exists(), folder.exists()) == (False, True)
    make_old(folder)
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_threads_that_replace_one_result_leave_a_whole_one(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write(run, "first")
    failures: list[BaseException] = []

    def replace(text: str) -> None:
        try:
            for _ in range(20):
                with publish_folder(run, MARKER, overwrite=True) as scratch:
                    for name in ("data", MARKER):
                        (scratch / name).write_text(text)
                    (scratch / "pages").mkdir()
                    (scratch / "pages" / text).write_text(text)
                finish_interrupted(run, MARKER)
        except BaseException as error:
            failures.append(error)

    writers = [threading.Thread(target=replace, args=(text,)) for text in "ab"]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    assert failures == []
    text = (run / MARKER).read_text()
    found = sorted(file.relative_to(run).as_posix() for file in run.rglob("*"))
    assert found == ["data", "pages", f"pages/{text}", MARKER]
    assert (run / "data").read_text() == text


def test_a_lock_keeps_others_out_and_leaves_no_file(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    with locked(file), pytest.raises(TimeoutError), locked(file, timeout=0):
        pass
    assert list(tmp_path.iterdir()) == []
    with locked(file, timeout=0):
        assert file.exists()


def test_a_folder_that_appears_meanwhile_is_not_mixed_with(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"cannot write .*not empty"):  # noqa: PT012
        with publish_folder(tmp_path / "run", MARKER, overwrite=False) as scratch:
            (scratch / MARKER).write_text("{}")
            (tmp_path / "run").mkdir()
            (tmp_path / "run" / "photo.jpg").write_text("mine")
    found = [file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*")]
    assert sorted(found) == ["run", "run/photo.jpg"]


def test_an_empty_folder_takes_a_result(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / f".{MARKER}.part-0").mkdir()  # of a killed writer
    write(tmp_path / "run", "first")
    assert (tmp_path / "run" / "data").read_text() == "first"


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


MOVER = """
import os, signal, sys; from pathlib import Path
from gmvaluator.files.atomic import publish_folder, publish_into
way, target, left = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
def hooked(name):
    whole = getattr(Path, name)
    def call(self, *given, **options):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(self, *given, **options)
    setattr(Path, name, call)
for name in ("replace", "rename", "unlink"):
    hooked(name)
marker = "run.json" if way == "folder" else "payout.json"
writing = (
    publish_folder(target, marker, overwrite=True)
    if way == "folder"
    else publish_into(target, marker, overwrite=True, owned=("data", "gone", "pages"))
)
with writing as scratch:
    (scratch / "data").write_text("new")
    (scratch / "pages").mkdir()
    (scratch / "pages" / "b").write_text("new")
    (scratch / marker).write_text("new")
"""


@pytest.mark.parametrize("way", ["folder", "into"])
def test_a_writer_killed_while_files_move_loses_nothing(tmp_path: Path, way: str) -> None:
    marker = "run.json" if way == "folder" else "payout.json"
    owned = () if way == "folder" else ("data", "gone", "pages")
    states, steps = [], 0
    while "new, whole" not in states:
        target = tmp_path / f"{steps}" / "run"
        (target / "pages").mkdir(parents=True)
        for name in ("data", "gone", "pages/a", marker, "notes"):
            (target / name).write_text("old")
        command = [sys.executable, "-c", MOVER, way, str(target), str(steps)]
        assert subprocess.run(command, check=False).returncode in (0, -signal.SIGKILL)
        states.append("new, whole" if (target / marker).exists() else "cut")
        if (target / marker).exists() and (target / marker).read_text() == "old":
            states[-1] = "old, whole"
        if way == "folder":
            assert finish_interrupted(target, marker) == (states[-1] == "cut")
        else:
            check_into(target, marker, overwrite=True, owned=owned)
        found = {
            file.relative_to(target).as_posix(): file.read_text()
            for file in target.rglob("*")
            if file.is_file() and ".part-" not in str(file)
        }
        old = dict.fromkeys(("data", "gone", "pages/a", marker, "notes"), "old")
        new = dict.fromkeys(("data", "pages/b", marker), "new") | {"notes": "old"}
        # what publish_into owns and did not write goes; in a folder it stays
        new |= {"gone": "old"} if way == "folder" else {}
        assert found == (old if states[-1] == "old, whole" else new), (steps, states)
        assert not list(tmp_path.rglob(".*.ready")) + list(tmp_path.rglob(".*.lock"))
        steps += 1
    assert states.count("cut") >= 4
    assert "old, whole" in states


def test_no_finished_file_is_deleted_where_moving_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    write(run, "first")
    whole = Path.replace

    def failing(self: Path, target: Path) -> Path:
        if self.name == "data" and "ready" in str(self):
            raise OSError(5, "Input/output error")
        return whole(self, target)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(RunError, match=r"cannot move finished files into .*Input/output error"):
        write(run, "second", overwrite=True)
    monkeypatch.undo()
    assert not (run / MARKER).exists()
    check_output(run, MARKER, overwrite=True)
    assert (run / "data").read_text() == "second"
    assert sorted(file.name for file in run.iterdir()) == ["data", MARKER]


def test_a_replacement_that_cannot_begin_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    write(run, "first")
    whole = Path.unlink

    def failing(self: Path, missing_ok: bool = False) -> None:
        if self == run / MARKER:
            raise PermissionError(1, "Operation not permitted")
        whole(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", failing)
    with pytest.raises(RunError, match="nothing was changed there"):
        write(run, "second", overwrite=True)
    assert (run / "data").read_text() == "first"
    assert sorted(file.name for file in run.iterdir()) == ["data", MARKER]
