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

_WRITER = re.compile(r"\.part-(\d+)")


def check_output(path: Path, marker: str, *, overwrite: bool) -> None:
    """Refuse an output folder before any work is done.

    Args:
        path: where the folder will be.
        marker: the file whose presence says the folder is an earlier result of this kind.
        overwrite: whether an earlier result may be replaced.

    Raises:
        RunError: it exists and may not be replaced, or cannot be created.
    """
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
    elif path.exists() and not path.is_dir():
        raise RunError(f"{path} is a file; choose a folder to write to")
    parent = _existing_parent(path)
    if not os.access(parent, os.W_OK | os.X_OK):
        raise RunError(f"{parent} is not writable; choose another folder to write to")


@contextmanager
def publish_folder(path: Path, marker: str, *, overwrite: bool) -> Iterator[Path]:
    """Yield a scratch folder whose files become `path` only when the block ends well.

    The marker file moves last (and leaves first when replacing), so a folder with a marker is
    always whole. Files and folders in `path` that the block did not write stay as they are; a
    sub-folder that it wrote replaces one of that name.

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
        _sync(scratch)
        _move_into_place(scratch, path, marker)
    except OSError as error:
        raise _write_error(path, error) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def publish_into(
    folder: Path, marker: str, *, overwrite: bool, owned: Sequence[str] = ()
) -> Iterator[Path]:
    """Yield a scratch folder whose files and sub-folders join those of `folder` when all ends well.

    For a result that lives inside another one, such as a payout in its run. The marker moves last
    and leaves first; a sub-folder replaces an earlier one as a whole.

    Args:
        folder: that they join; made if need be.
        marker: the file whose presence says that such a result is there.
        overwrite: whether an earlier result may be replaced.
        owned: further files and sub-folders that an earlier result may have: those that the block
            did not write again are deleted with it.

    Raises:
        RunError: an earlier result is there (unless `overwrite`), files of these names are there
            that no marker belongs to, or writing failed.
    """
    check_into(folder, marker, overwrite=overwrite)
    scratch = folder / f".{marker}.part-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder, glob.escape(marker))
        scratch.mkdir()
        try:
            yield scratch
            earlier = (folder / marker).exists()
            foreign = [each.name for each in scratch.iterdir() if (folder / each.name).exists()]
            if foreign and not earlier:
                raise RunError(
                    f"{folder} holds {', '.join(sorted(foreign))} but no {marker} that they belong "
                    "to; move them away, or choose another folder"
                )
            for file in scratch.rglob("*"):
                if file.is_file():
                    _flush(file)
            (folder / marker).unlink(missing_ok=True)
            written = sorted(scratch.iterdir(), key=lambda entry: entry.name == marker)
            for name in {*owned, *(entry.name for entry in written)} if earlier else ():
                if (folder / name).exists():
                    (folder / name).replace(scratch / f".{name}.old")
            for entry in written:
                entry.replace(folder / entry.name)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise _write_error(folder, error) from error


def check_into(folder: Path, marker: str, *, overwrite: bool) -> None:
    """Refuse, before any work is done, to replace an earlier result inside a folder.

    Raises:
        RunError: it is there and may not be replaced, or the folder cannot be written to.
    """
    if (folder / marker).exists() and not overwrite:
        raise RunError(
            f"{folder / marker} is there already; pass --overwrite (overwrite=True) to replace it "
            "and what belongs to it, or choose another folder"
        )
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file; choose a folder to write to")
    parent = _existing_parent(folder)
    if not os.access(parent, os.W_OK | os.X_OK):
        raise RunError(f"{parent} is not writable; choose another folder to write to")


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


def _sync(folder: Path) -> None:
    for file in folder.rglob("*"):
        if not file.is_dir():
            _flush(file)


def _flush(file: Path) -> None:
    """To the disk, so that the rename never outlives the content in a power cut."""
    with file.open("rb") as handle:
        os.fsync(handle.fileno())


def _move_into_place(scratch: Path, path: Path, marker: str) -> None:
    if not path.exists() or not any(path.iterdir()):
        scratch.replace(path)
        return
    (path / marker).unlink(missing_ok=True)
    for file in sorted(scratch.iterdir(), key=lambda file: file.name == marker):
        target = path / file.name
        if file.is_dir() and target.is_dir():
            shutil.rmtree(target)
        file.replace(target)
