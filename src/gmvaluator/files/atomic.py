"""Publishing files and folders: all of it or nothing, and never over someone's files."""

from __future__ import annotations

import glob
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gmvaluator.errors import RunError

_WRITER = re.compile(r"\.(?:part|ready|moving)-(\d+)")
# a folder being published is `.NAME.part-PID` while it is written, `ready` once it is whole and on
# the disk, `moving` once nothing is left of the earlier result but what its files replace
_READY, _MOVING = ".ready-", ".moving-"
_OLD = re.compile(r"\..*\.old")
# targets of this process, so that another thread does not take them for those of a killed one
_MOVED_NOW: set[tuple[Path, str]] = set()


def check_output(path: Path, marker: str, *, overwrite: bool) -> None:
    """Refuse an output folder before any work is done.

    Args:
        path: where the folder will be.
        marker: the file whose presence says the folder is an earlier result of this kind.
        overwrite: whether an earlier result may be replaced.

    A result whose writer was killed while its finished files were moved here is completed first.

    Raises:
        RunError: it exists and may not be replaced, or cannot be created.
    """
    finish_interrupted(path, marker)
    if path.is_dir() and any(path.iterdir()):
        if not (path / marker).exists():
            raise RunError(
                f"{path} is not empty and holds no {marker}; choose a new or empty folder"
            )
        if not overwrite:
            raise RunError(
                f"{path} already holds a result; pass --overwrite (overwrite=True) to replace it "
                "or choose another folder"
            )
    _check_place(path)


@contextmanager
def publish_folder(path: Path, marker: str, *, overwrite: bool) -> Iterator[Path]:
    """Yield a scratch folder whose files become `path` only when the block ends well.

    The marker file moves last (and leaves first when replacing), so a folder with a marker is
    always whole. Files and folders in `path` that the block did not write stay as they are; a
    sub-folder that it wrote replaces one of that name. A process that is killed while files move
    leaves a folder without marker; the moves are completed by `finish_interrupted`.

    Raises:
        RunError: the folder may not be written, or writing failed (disk full, say); what was
            there before is then still there.
    """
    check_output(path, marker, overwrite=overwrite)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent, glob.escape(path.name))
        scratch = path.parent / f".{path.name}.part-{os.getpid()}"
        scratch.mkdir()
    except OSError as error:
        raise _write_error(path, error) from error
    try:
        yield scratch
        sync_files(scratch)
        ready = _renamed(scratch, _READY)
    except OSError as error:
        raise _write_error(path, error) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    _publish(ready, path, marker)


@contextmanager
def publish_into(
    folder: Path, marker: str, *, overwrite: bool, owned: Sequence[str] = ()
) -> Iterator[Path]:
    """Yield a scratch folder whose files and sub-folders join those of `folder` when all ends well.

    For a result that lives inside another one, such as a payout in its run. The marker moves last
    and leaves first; a sub-folder replaces an earlier one as a whole. What a process that was
    killed while files moved left undone is completed by the next `publish_into` or `check_into`.

    Args:
        folder: that they join; made if need be.
        marker: the file whose presence says that such a result is there.
        overwrite: whether an earlier result may be replaced.
        owned: all other files and sub-folders that such a result may have: those of an earlier one
            that the block did not write again are deleted with it.

    Raises:
        RunError: an earlier result is there (unless `overwrite`), files of these names are there
            that no marker belongs to, or writing failed.
    """
    check_into(folder, marker, overwrite=overwrite, owned=owned)
    scratch = folder / f".{marker}.part-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder, glob.escape(marker))
        scratch.mkdir()
        try:
            yield scratch
            sync_files(scratch)
            ready = _renamed(scratch, _READY)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise _write_error(folder, error) from error
    _publish(ready, folder, marker, owned)


def check_into(folder: Path, marker: str, *, overwrite: bool, owned: Sequence[str] = ()) -> None:
    """Refuse, before any work is done, to replace an earlier result inside a folder.

    Raises:
        RunError: it is there and may not be replaced, files of the names `owned` are there that no
            marker belongs to, or the folder cannot be written to.
    """
    _finish(folder, marker, folder, marker, owned)
    foreign = [name for name in owned if (folder / name).exists()]
    if foreign and not (folder / marker).exists():
        raise RunError(
            f"{folder} holds {', '.join(sorted(foreign))} but no {marker} that they belong to; "
            "move them away, or choose another folder"
        )
    if (folder / marker).exists() and not overwrite:
        raise RunError(
            f"{folder / marker} is there already; pass --overwrite (overwrite=True) to replace it "
            "and what belongs to it, or choose another folder"
        )
    _check_place(folder)


@contextmanager
def publish_file(path: Path) -> Iterator[Path]:
    """Yield a scratch path that becomes the file `path` only when the block ends well.

    Raises:
        RunError: the file cannot be written; what was there before is then still there.
    """
    # the suffix stays last: writers such as NumPy's add their own to a name without it
    scratch = path.with_name(f".{path.stem}.part-{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield scratch
            _flush(scratch)
            scratch.replace(path)
        finally:
            scratch.unlink(missing_ok=True)
    except OSError as error:
        raise _write_error(path, error) from error


def _write_error(path: Path, error: OSError) -> RunError:
    reason = error.strerror or str(error)
    return RunError(
        f"cannot write {path}: {reason}; nothing was changed there. Free some space or choose "
        "another folder"
    )


def _check_place(folder: Path) -> None:
    """Raise RunError where no folder can be written to."""
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file; choose a folder to write to")
    parent = _existing_parent(folder)
    if not os.access(parent, os.W_OK | os.X_OK):
        raise RunError(f"{parent} is not writable; choose another folder to write to")


def _existing_parent(path: Path) -> Path:
    parent = path.absolute()
    while not parent.is_dir():
        parent = parent.parent
    return parent


def remove_leftovers(folder: Path, name: str = "*", *, recursive: bool = False) -> None:
    """Delete scratch files and folders of processes that were killed while they wrote.

    Args:
        folder: where results are.
        name: of the result without its suffix; by default every result.
        recursive: look into sub-folders too.
    """
    pattern = f".{name}.part-*"
    for leftover in list(folder.rglob(pattern) if recursive else folder.glob(pattern)):
        writer = _WRITER.search(leftover.name)
        if writer is None or (int(writer[1]) != os.getpid() and _alive(int(writer[1]))):
            continue
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def sync_files(folder: Path) -> None:
    """All files of a folder to the disk.

    Raises:
        OSError: the disk is full, say.
    """
    for file in folder.rglob("*"):
        if not file.is_dir():
            _flush(file)


def _flush(file: Path) -> None:
    """To the disk, so that the rename never outlives the content in a power cut."""
    with file.open("rb") as handle:
        os.fsync(handle.fileno())


def finish_interrupted(path: Path, marker: str) -> bool:
    """Complete what a killed process left undone while it moved finished files into `path`.

    Only where `path` has no marker and the files that wait beside it have one: an earlier result
    that is still whole stays.

    Returns:
        Whether there was such a folder.

    Raises:
        RunError: the files cannot be moved.
    """
    return _finish(path.parent, path.name, path, marker, ())


def _finish(home: Path, name: str, target: Path, marker: str, owned: Sequence[str]) -> bool:
    done = False
    if (target, marker) in _MOVED_NOW:
        return False
    for stage in (_READY, _MOVING):
        for left in list(home.glob(f".{glob.escape(name)}{stage}*")):
            writer = _WRITER.search(left.name)
            if writer is None or (int(writer[1]) != os.getpid() and _alive(int(writer[1]))):
                continue
            # who deleted the target since wants no part of it back
            wanted = stage == _READY or target.is_dir()
            if wanted and (left / marker).exists() and not (target / marker).exists():
                _publish(left, target, marker, owned)
                done = True
            else:
                shutil.rmtree(left, ignore_errors=True)
    return done


def _renamed(folder: Path, stage: str) -> Path:
    return folder.rename(folder.with_name(_WRITER.sub(rf"{stage}\1", folder.name)))


def _publish(ready: Path, target: Path, marker: str, owned: Sequence[str] = ()) -> None:
    """Move finished files to `target`: all, or those that a killed process left in `ready`.

    Raises:
        RunError: a file cannot be moved. Where an earlier result is still whole, the finished files
            are deleted; else they stay for `finish_interrupted`.
    """
    _MOVED_NOW.add((target, marker))
    try:
        _move(ready, target, marker, owned)
    except OSError as error:
        if (target / marker).exists():
            shutil.rmtree(ready, ignore_errors=True)
            raise _write_error(target, error) from error
        raise RunError(
            f"cannot move finished files into {target}: {error.strerror or error}; those that are "
            f"missing there are in the hidden folder .…{_READY}… or .…{_MOVING}… beside or in it, "
            "and the next command that writes there goes on"
        ) from error
    finally:
        _MOVED_NOW.discard((target, marker))


def _move(ready: Path, target: Path, marker: str, owned: Sequence[str]) -> None:
    if _MOVING not in ready.name:
        if not target.exists() or not any(target.iterdir()):
            ready.replace(target)
            return
        (target / marker).unlink(missing_ok=True)
        written = {entry.name for entry in ready.iterdir()}
        for name in sorted(set(owned) - written):
            _take_away(target / name, ready)
        ready = _renamed(ready, _MOVING)
    entries = [entry for entry in ready.iterdir() if not _OLD.fullmatch(entry.name)]
    for entry in sorted(entries, key=lambda entry: (entry.name == marker, entry.name)):
        _take_away(target / entry.name, ready)
        entry.replace(target / entry.name)
    shutil.rmtree(ready, ignore_errors=True)


def _take_away(old: Path, ready: Path) -> None:
    if old.exists():
        old.replace(ready / f".{old.name}.old")
