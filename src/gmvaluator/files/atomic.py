"""Files and folders that are written whole or not at all, and never over somebody's files.

The order of `publish_folder` and `publish_into`, where MARKER is the file that makes a result:

1. The caller writes into a scratch folder `.NAME.part-TOKEN`. All files are synced to the disk.
2. Target missing: the scratch folder is renamed to the target, in one step. Done.
3. Target there: under a lock, the scratch folder is renamed to `.MARKER.ready` in the target.
4. The old marker is deleted, all other files move to their places, the new marker moves last.

A writer that is killed in 1 or 2 leaves a scratch folder, and the old result as it was. A writer
that is killed in 3 or 4 leaves `.MARKER.ready`: with a marker in the target nothing has moved yet
(or everything has) and `finish_interrupted` deletes it, without one it moves the rest.

Scratch files are deleted once nobody has written to them for a day. Names and process ids of
writers play no part: a writer may run in another thread, in another container or on another host.
"""

from __future__ import annotations

import glob
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from gmvaluator.errors import RunError, pass_overwrite
from gmvaluator.places import result_at

LEFTOVER_SECONDS = 86_400
"""Scratch files that have not been written to for so long belong to a killed writer."""
LOCK_TIMEOUT_SECONDS = 60
_OBSOLETE = ".obsolete"
"""In a ready folder: names in the target that the new result does not have any more."""


def check_place(folder: Path) -> None:
    """Raise RunError where no folder can be written to."""
    parent = folder.absolute()
    while not parent.is_dir():
        if parent.exists():
            raise RunError(f"{parent} is a file; choose a folder to write to")
        parent = parent.parent
    if not os.access(parent, os.W_OK | os.X_OK):
        raise RunError(f"{parent} is not writable; choose another folder to write to")


def check_output(path: Path, marker: str, *, overwrite: bool) -> None:
    """Refuse an output folder before any work is done.

    An interrupted replacement of an earlier result is completed or undone first.

    Args:
        path: where the folder will be.
        marker: the file whose presence says that the folder is an earlier result of this kind.
        overwrite: whether an earlier result may be replaced.

    Raises:
        RunError: the folder exists and may not be replaced, or cannot be created.
    """
    finish_interrupted(path, marker)
    # hidden files named after the marker are scratch files of this module
    foreign = path.is_dir() and any(
        not entry.name.startswith(f".{marker}.") for entry in path.iterdir()
    )
    if foreign and not _holds(path, marker):
        result = result_at(path)
        what = f"is {result.name}" if result else f"is not empty and holds no {marker}"
        raise RunError(f"{path} {what}; choose a new or empty folder")
    if foreign and not overwrite:
        raise RunError(
            f"{path} already holds a result; {pass_overwrite()} to replace it "
            "or choose another folder"
        )
    check_place(path)


def _holds(folder: Path, marker: str) -> bool:
    """Whether the marker is there, at the latest when no writer replaces the result any more."""
    if (folder / marker).exists():
        return True
    try:
        with locked(_lock_file(folder, marker)):
            return (folder / marker).exists()
    except OSError:
        return False


def check_into(folder: Path, marker: str, *, overwrite: bool, owned: Sequence[str] = ()) -> None:
    """Refuse, before any work is done, to replace an earlier result inside a folder.

    An interrupted replacement of an earlier result is completed or undone first.

    Raises:
        RunError: an earlier result is there and may not be replaced, files of the names `owned`
            are there that no marker belongs to, or the folder cannot be written to.
    """
    finish_interrupted(folder, marker)
    foreign = [name for name in owned if (folder / name).exists()]
    if foreign and not _holds(folder, marker):
        raise RunError(
            f"{folder} holds {', '.join(sorted(foreign))} but no {marker} that they belong to; "
            "move them away, or choose another folder"
        )
    if (folder / marker).exists() and not overwrite:
        raise RunError(
            f"{folder / marker} is there already; {pass_overwrite()} to replace it "
            "and what belongs to it, or choose another folder"
        )
    check_place(folder)


@contextmanager
def publish_folder(path: Path, marker: str, *, overwrite: bool) -> Iterator[Path]:
    """Yield a scratch folder whose files become `path` only when the block ends well.

    A folder with a marker is always whole. Files and folders in `path` that the block did not
    write stay as they are; a sub-folder that the block wrote replaces one of that name.

    Raises:
        RunError: the folder may not be written, or writing failed (disk full, say); an earlier
            result is then still there.
    """
    check_output(path, marker, overwrite=overwrite)
    with _published(path, marker, ()) as scratch:
        yield scratch


@contextmanager
def publish_into(
    folder: Path, marker: str, *, overwrite: bool, owned: Sequence[str] = ()
) -> Iterator[Path]:
    """Yield a scratch folder whose files and sub-folders join those of `folder` when all ends well.

    For a result that lives inside another one, such as a payout in its run.

    Args:
        folder: that the files join; made if need be.
        marker: the file whose presence says that such a result is there.
        overwrite: whether an earlier result may be replaced.
        owned: all other files and sub-folders that such a result may have. Those of an earlier
            result that the block did not write again are deleted.

    Raises:
        RunError: an earlier result is there (unless `overwrite`), files of these names are there
            that no marker belongs to, or writing failed.
    """
    check_into(folder, marker, overwrite=overwrite, owned=owned)
    with _published(folder, marker, owned) as scratch:
        yield scratch


@contextmanager
def publish_file(path: Path) -> Iterator[Path]:
    """Yield a scratch path that becomes the file `path` only when the block ends well.

    Raises:
        RunError: the file cannot be written; an earlier file is then still there.
    """
    # the suffix stays last: writers such as NumPy's add their own to a name without it
    scratch = path.with_name(f"{_scratch_name(path.stem)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield scratch
            _sync(scratch)
            scratch.replace(path)
        finally:
            with suppress(OSError):
                scratch.unlink()
    except OSError as error:
        raise _write_error(path, error) from error


def finish_interrupted(path: Path, marker: str) -> bool:
    """Complete or undo the replacement of a result whose writer was killed.

    Waits while another process replaces the result.

    Returns:
        Whether a replacement was completed.

    Raises:
        RunError: the files cannot be moved.
    """
    if not (_ready(path, marker).exists() or _lock_file(path, marker).exists()):
        return False
    try:
        with locked(_lock_file(path, marker)):
            return _settle(path, marker)
    except OSError as error:
        raise _move_error(path, marker, error) from error


@contextmanager
def locked(file: Path, timeout: float = LOCK_TIMEOUT_SECONDS) -> Iterator[None]:
    """Hold the lock `file` against threads, processes and hosts; the file is deleted at the end.

    A lock whose holder was killed keeps nobody out.

    Args:
        file: of the lock, in a folder that exists.
        timeout: seconds to wait for the lock; −1: without end.

    Raises:
        OSError: the file cannot be made, or somebody else holds the lock for `timeout` seconds
            (`TimeoutError`).
    """
    from filelock import FileLock

    with FileLock(file, timeout=timeout):
        try:
            yield
        finally:
            # last while the lock is held: who waits for the deleted file notices and starts again.
            # Windows deletes the file when the lock is released
            with suppress(OSError):
                file.unlink()


@contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Keep other processes from writing a result to `path` while the block works on one.

    A claim ends with its process, however the process ends.

    Raises:
        RunError: another process has claimed the path, or no lock can be made beside it.
    """
    place = path.resolve()
    homes = [home for home in place.parents if home.is_dir()]
    with ExitStack() as stack:
        try:
            for home in homes:
                name = ".".join(place.relative_to(home).parts)
                file = home / f".{name}.claim.lock"
                # a claim that was made before folders of the path were is in a folder above
                if home == homes[0] or file.exists():
                    stack.enter_context(locked(file, timeout=0))
        except TimeoutError:
            raise RunError(
                f"another process is writing {path}; wait for its end, or choose another place"
            ) from None
        except OSError as error:
            raise _write_error(path, error) from error
        yield


def remove_leftovers(folder: Path, name: str = "*", *, recursive: bool = False) -> None:
    """Delete scratch files and folders that nobody has written to for `LEFTOVER_SECONDS`.

    Args:
        folder: where results are.
        name: glob pattern of a result's name without suffix. Default: every result.
        recursive: look into sub-folders too.
    """
    pattern = f".{name}.part-*"
    oldest = time.time() - LEFTOVER_SECONDS
    for scratch in list(folder.rglob(pattern) if recursive else folder.glob(pattern)):
        # another process may delete it at the same time, or the folder may only be read
        with suppress(OSError):
            if max(file.stat().st_mtime for file in (scratch, *scratch.rglob("*"))) < oldest:
                _delete(scratch)


def sync_files(folder: Path) -> None:
    """Write all files of a folder through to the disk.

    Raises:
        OSError: the disk is full, say.
    """
    for file in folder.rglob("*"):
        if not file.is_dir():
            _sync(file)


def _sync(file: Path) -> None:
    """To the disk, so that a rename never outlives the content in a power cut."""
    with file.open("rb") as handle:
        os.fsync(handle.fileno())


@contextmanager
def _published(target: Path, marker: str, owned: Sequence[str]) -> Iterator[Path]:
    replacing = target.is_dir()
    home, name = (target, marker) if replacing else (target.parent, target.name)
    try:
        home.mkdir(parents=True, exist_ok=True)
        remove_leftovers(home, glob.escape(name))
        scratch = home / _scratch_name(name)
        scratch.mkdir()
        try:
            yield scratch
            if replacing:
                written = {entry.name for entry in scratch.iterdir()}
                (scratch / _OBSOLETE).write_text("\n".join({*owned} - written), "utf-8")
            sync_files(scratch)
            if replacing:
                _replace(scratch, target, marker)
            else:
                scratch.rename(target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise _write_error(target, error) from error


def _replace(scratch: Path, target: Path, marker: str) -> None:
    with locked(_lock_file(target, marker)):
        _settle(target, marker)
        ready = scratch.rename(_ready(target, marker))
        try:
            _move(ready, target, marker)
        except OSError as error:
            if not (target / marker).exists():
                raise _move_error(target, marker, error) from error
            shutil.rmtree(ready, ignore_errors=True)
            raise


def _settle(target: Path, marker: str) -> bool:
    """Complete or undo an interrupted replacement; the caller holds the lock."""
    ready = _ready(target, marker)
    unfinished = (ready / marker).exists() and not (target / marker).exists()
    if unfinished:
        _move(ready, target, marker)
    shutil.rmtree(ready, ignore_errors=True)
    return unfinished


def _move(ready: Path, target: Path, marker: str) -> None:
    """Move finished files into their places, the marker last; may be repeated after a kill."""
    (target / marker).unlink(missing_ok=True)
    obsolete = ready / _OBSOLETE
    if obsolete.exists():
        for name in obsolete.read_text("utf-8").splitlines():
            _delete(target / name)
        obsolete.unlink()
    for entry in sorted(ready.iterdir(), key=lambda entry: (entry.name == marker, entry.name)):
        _delete(target / entry.name)
        entry.replace(target / entry.name)
    shutil.rmtree(ready, ignore_errors=True)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _scratch_name(name: str) -> str:
    return f".{name}.part-{secrets.token_hex(8)}"


def _ready(target: Path, marker: str) -> Path:
    return target / f".{marker}.ready"


def _lock_file(target: Path, marker: str) -> Path:
    return target / f".{marker}.lock"


def _write_error(path: Path, error: OSError) -> RunError:
    return RunError(
        f"cannot write {path}: {error.strerror or error}; nothing was changed there. Free some "
        "space or choose another folder"
    )


def _move_error(target: Path, marker: str, error: OSError) -> RunError:
    return RunError(
        f"cannot move finished files into {target}: {error.strerror or error}; the missing files "
        f"are in {_ready(target, marker)}. Mend the cause; the next command that reads or writes "
        "there moves them"
    )
