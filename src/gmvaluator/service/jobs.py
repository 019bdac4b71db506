"""Jobs: sets of pictures to value, kept on the disk from their acceptance to their result.

    <folder>/jobs.sqlite           one row a job
    <folder>/<id>/images/000000    pictures of a job, until it ends
    <folder>/<id>/run/             its result, a run folder
    <folder>/<id>/run.zip          the same to download

A job is accepted when its pictures and its row are on the disk; only then the client hears of it.
A process may be killed at any moment. `JobStore.recover` then finds each accepted job: one that was
running waits again, is done if its result is whole, or has failed for a reason.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gmvaluator.errors import RunError
from gmvaluator.files.atomic import check_place
from gmvaluator.runs.record import MARKER
from gmvaluator.service.limits import Limits
from gmvaluator.service.problems import Problem, wait
from gmvaluator.service.uploads import file_name
from gmvaluator.threads import Lock

STATES = ("queued", "running", "done", "failed", "cancelled")
UNFINISHED = ("queued", "running")
WAIT_SECONDS = 10
_TABLE = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    run TEXT NOT NULL,
    names TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    state TEXT NOT NULL,
    reason TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    cancelled INTEGER NOT NULL DEFAULT 0,
    created REAL NOT NULL,
    started REAL,
    finished REAL
)
"""
_COLUMNS = "id, run, names, bytes, state, reason, attempts, cancelled, created, started, finished"
_PART = re.compile(r"\.part-[0-9a-f]{32}")
_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Job:
    """A job as its row has it.

    Attributes:
        id: 32 hex digits.
        run: name of the index or run that values it.
        names: of the pictures, as the client gave them.
        bytes: of the pictures.
        state: one of `STATES`.
        reason: why it failed or was cancelled.
        attempts: how often it was begun.
        cancelled: whether a client cancelled it.
        created, started, finished: seconds since 1970.
    """

    id: str
    run: str
    names: tuple[str, ...]
    bytes: int
    state: str
    reason: str | None
    attempts: int
    cancelled: bool
    created: float
    started: float | None
    finished: float | None


class JobStore:
    """The jobs of a folder; one process at a time has it.

    Raises:
        RunError: the folder cannot be written, or another process has it.
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.folder = folder.absolute()
        self._limits = limits
        self._lock = Lock()
        check_place(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._held = _hold(self.folder)
        try:
            self._rows = sqlite3.connect(
                self.folder / "jobs.sqlite", check_same_thread=False, isolation_level=None
            )
            self._rows.execute("PRAGMA journal_mode=WAL")
            # a commit is on the disk when it returns
            self._rows.execute("PRAGMA synchronous=FULL")
            self._rows.execute(_TABLE)
        except sqlite3.Error as error:
            self._held.release()
            raise RunError(
                f"{self.folder / 'jobs.sqlite'} cannot be read ({error}); move the folder away, or "
                "pass another one (--jobs)"
            ) from error

    def close(self) -> None:
        """Give the folder back."""
        with self._lock:
            self._rows.close()
        self._held.release()

    def recover(self) -> None:
        """Put every job that a killed process left in a state that is true now."""
        known = {job.id: job for job in self.list()}
        for path in self.folder.iterdir():
            unknown = _ID.fullmatch(path.name) and path.name not in known
            # no client heard of these: their rows were not written
            if path.is_dir() and (unknown or _PART.fullmatch(path.name)):
                shutil.rmtree(path, ignore_errors=True)
        for job in known.values():
            if job.state not in UNFINISHED:
                continue
            if self.has_result(job):
                self.finish(job.id, "done")
            elif job.cancelled:
                self.finish(job.id, "cancelled", "A client cancelled it.")
            elif not self._pictures(job).is_dir():
                self.finish(job.id, "failed", "Its pictures are no longer on the disk.")
            elif job.attempts >= self._limits.attempts:
                reason = f"The service ended {job.attempts} times while it valued the pictures."
                self.finish(job.id, "failed", reason)
            else:
                self._set(job.id, state="queued")

    def accept(self, run: str, names: Sequence[str], contents: Iterable[bytes]) -> Job:
        """Write a job to the disk. It is accepted when this returns.

        Args:
            run: name of what is to value the pictures.
            names, contents: of the pictures.

        Raises:
            Problem: too many jobs wait, or the disk has no room.
        """
        waiting = sum(job.state in UNFINISHED for job in self.list())
        if waiting >= self._limits.jobs_waiting:
            raise wait("busy", WAIT_SECONDS * waiting)
        job_id = secrets.token_hex(16)
        part = self.folder / f".part-{job_id}"
        try:
            size = self._write(part / "images", contents)
            part.rename(self.folder / job_id)
            _sync(self.folder)
            with self._lock:
                self._rows.execute(
                    "INSERT INTO jobs (id, run, names, bytes, state, created) "
                    "VALUES (?, ?, ?, ?, 'queued', ?)",
                    (job_id, run, json.dumps(list(names)), size, time.time()),
                )
        except (OSError, sqlite3.Error) as error:
            shutil.rmtree(part, ignore_errors=True)
            shutil.rmtree(self.folder / job_id, ignore_errors=True)
            raise Problem("disk-full") from error
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        return self.get(job_id)

    def _write(self, folder: Path, contents: Iterable[bytes]) -> int:
        """Write the pictures of a job and wait until the disk has them."""
        room = self._limits.jobs_bytes - sum(_bytes_in(self.folder))
        folder.mkdir(parents=True)
        size = 0
        for number, content in enumerate(contents):
            size += len(content)
            if size > room:
                raise Problem("disk-full")
            with (folder / file_name(number)).open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        _sync(folder)
        _sync(folder.parent)
        return size

    def list(self) -> list[Job]:
        """All jobs, the newest first."""
        with self._lock:
            rows = self._rows.execute(f"SELECT {_COLUMNS} FROM jobs ORDER BY number DESC")
            return [_job(row) for row in rows.fetchall()]

    def get(self, job_id: str) -> Job:
        """A job.

        Raises:
            Problem: no job has this id.
        """
        with self._lock:
            query = f"SELECT {_COLUMNS} FROM jobs WHERE id = ?"
            row = self._rows.execute(query, (job_id,)).fetchone()
        if row is None:
            raise Problem("unknown-job")
        return _job(row)

    def next(self) -> Job | None:
        """Begin the oldest job that waits; None where none does."""
        with self._lock:
            row = self._rows.execute(
                f"SELECT {_COLUMNS} FROM jobs WHERE state = 'queued' ORDER BY number LIMIT 1"
            ).fetchone()
            if row is None:
                return None
            job = _job(row)
            self._set(job.id, state="running", started=time.time(), attempts=job.attempts + 1)
        return self.get(job.id)

    def put_back(self, job: Job) -> None:
        """A job that the service began and does not end, since it is asked to stop."""
        self._set(job.id, state="queued", attempts=max(0, job.attempts - 1))

    def cancel(self, job_id: str) -> Job:
        """Cancel a job that has not ended; it ends soon where it runs.

        Raises:
            Problem: no job has this id.
        """
        with self._lock:
            job = self.get(job_id)
            if job.state == "queued":
                self.finish(job_id, "cancelled", "A client cancelled it.")
            elif job.state == "running":
                self._set(job_id, cancelled=1)
        return self.get(job_id)

    def finish(self, job_id: str, state: str, reason: str | None = None) -> None:
        """Record how a job ended, and delete its pictures."""
        self._set(job_id, state=state, reason=reason, finished=time.time())
        shutil.rmtree(self.folder / job_id / "images", ignore_errors=True)

    def delete(self, job: Job) -> None:
        """Forget a job that has ended, and delete its result."""
        with self._lock:
            self._rows.execute("DELETE FROM jobs WHERE id = ?", (job.id,))
        shutil.rmtree(self.folder / job.id, ignore_errors=True)

    def pictures(self, job: Job) -> Path:
        """The folder of the pictures of a job.

        Raises:
            RunError: it is gone.
        """
        if not self._pictures(job).is_dir():
            raise RunError("the pictures of the job are gone")
        return self._pictures(job)

    def run(self, job: Job) -> Path:
        """The run folder that a job writes."""
        return self.folder / job.id / "run"

    def archive(self, job: Job) -> Path:
        """The run folder of a job as one file."""
        return self.folder / job.id / "run.zip"

    def has_result(self, job: Job) -> bool:
        """Whether the run folder of a job is whole, and its archive is."""
        return (self.run(job) / MARKER).is_file() and self.archive(job).is_file()

    def _pictures(self, job: Job) -> Path:
        return self.folder / job.id / "images"

    def _set(self, job_id: str, **values: Any) -> None:
        columns = ", ".join(f"{name} = ?" for name in values)
        with self._lock:
            self._rows.execute(
                f"UPDATE jobs SET {columns} WHERE id = ?", (*values.values(), job_id)
            )


def _job(row: Sequence[Any]) -> Job:
    job_id, run, names, size, state, reason, attempts, cancelled, *times = row
    listed = tuple(json.loads(names))
    return Job(job_id, run, listed, size, state, reason, attempts, bool(cancelled), *times)


def _bytes_in(folder: Path) -> Iterator[int]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield path.stat().st_size


def _sync(folder: Path) -> None:
    """Wait until the disk has the entries of a folder."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _hold(folder: Path) -> Any:
    from filelock import FileLock, Timeout

    # of the process: the thread that stops the service is another one
    lock = FileLock(folder / ".lock", thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RunError(
            f"another service has the jobs of {folder}; stop it, or pass another folder (--jobs)"
        ) from None
    return lock


@contextmanager
def opened(folder: Path, limits: Limits) -> Iterator[JobStore]:
    """The jobs of a folder, recovered, until the block ends."""
    store = JobStore(folder, limits)
    try:
        store.recover()
        yield store
    finally:
        store.close()
