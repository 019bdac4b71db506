"""Jobs on the disk: accepted, recovered, cancelled, bounded."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gmvaluator import RunError
from gmvaluator.runs.record import MARKER
from gmvaluator.service.jobs import JobStore, opened
from gmvaluator.service.limits import Limits
from gmvaluator.service.problems import Problem
from service_makers import picture, sent, served, wait_for_job, wait_until_ready

LIMITS = Limits(attempts=2)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    with opened(tmp_path / "jobs", LIMITS) as store:
        yield store


def accept(store: JobStore, n: int = 2) -> str:
    return store.accept("run", [f"{row}.png" for row in range(n)], [picture()] * n).id


def test_an_accepted_job_is_on_the_disk(store: JobStore) -> None:
    job = store.get(accept(store))
    assert (job.state, job.run, job.names, job.attempts) == ("queued", "run", ("0.png", "1.png"), 0)
    assert [file.name for file in sorted(store.pictures(job).iterdir())] == ["000000", "000001"]
    assert (store.pictures(job) / "000001").read_bytes() == picture()


def test_jobs_begin_in_their_order(store: JobStore) -> None:
    ids = [accept(store) for _ in range(3)]
    begun = [store.next(), store.next(), store.next(), store.next()]
    assert [job and job.id for job in begun] == [*ids, None]
    assert [job.id for job in store.list()] == ids[::-1]
    assert {job.state for job in store.list()} == {"running"}


def test_what_a_killed_process_left_is_recovered(tmp_path: Path) -> None:
    folder = tmp_path / "jobs"
    with opened(folder, LIMITS) as store:
        ids = [accept(store) for _ in range(6)]
        for _ in ids:
            store.next()
        once, twice, done, cancelled, lost, queued = ids
        store._set(twice, attempts=2)
        for name in (f"run/{MARKER}", "run.zip"):
            file = folder / done / name
            file.parent.mkdir(exist_ok=True)
            file.write_text("{}")
        store.cancel(cancelled)
        for file in (folder / lost / "images").iterdir():
            file.unlink()
        (folder / lost / "images").rmdir()
        store._set(queued, state="queued", attempts=0)
        # killed between the pictures and the row: nobody heard of these
        (folder / ("f" * 32) / "images").mkdir(parents=True)
        (folder / (".part-" + "f" * 32)).mkdir()
        (folder / "notes").mkdir()
    with opened(folder, LIMITS) as store:
        states = {job.id: (job.state, job.reason) for job in store.list()}
        assert states[once] == ("queued", None)
        assert states[twice] == (
            "failed",
            "The service ended 2 times while it valued the pictures.",
        )
        assert states[done] == ("done", None)
        assert states[cancelled] == ("cancelled", "A client cancelled it.")
        assert states[lost] == ("failed", "Its pictures are no longer on the disk.")
        assert states[queued] == ("queued", None)
        folders = {path.name for path in folder.iterdir() if path.is_dir()}
        assert folders == {*ids, "notes"}


def test_a_folder_of_jobs_has_one_service(store: JobStore) -> None:
    with pytest.raises(RunError, match="another service has the jobs"):
        JobStore(store.folder, LIMITS)


def test_a_damaged_file_of_jobs_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "jobs.sqlite").write_bytes(b"no database" * 100)
    for _ in range(2):
        with pytest.raises(RunError, match="cannot be read"):
            JobStore(tmp_path, LIMITS)


def test_a_job_that_cannot_be_written_is_not_accepted(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gmvaluator.service.jobs.os.fsync", full)
    with pytest.raises(Problem) as refused:
        accept(store)
    assert refused.value.name == "disk-full"
    assert store.list() == []
    assert [path for path in store.folder.iterdir() if path.is_dir()] == []


def test_a_row_that_cannot_be_written_leaves_no_pictures(store: JobStore) -> None:
    class Failing:
        def execute(self, query: str, *values: Any) -> Any:
            if query.startswith("INSERT"):
                raise sqlite3.OperationalError("disk I/O error")
            return rows.execute(query, *values)

    rows, store._rows = store._rows, Failing()  # type: ignore[assignment]
    with pytest.raises(Problem):
        accept(store)
    store._rows = rows
    assert store.list() == []
    assert [path for path in store.folder.iterdir() if path.is_dir()] == []


def test_a_job_that_waits_is_cancelled_at_once(store: JobStore) -> None:
    job_id = accept(store)
    job = store.cancel(job_id)
    assert (job.state, job.reason) == ("cancelled", "A client cancelled it.")
    assert not (store.folder / job_id / "images").exists()
    assert store.next() is None
    store.delete(job)
    assert not (store.folder / job_id).exists()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Valuations of jobs wait in their first stage until the event is set."""
    from gmvaluator.service.worker import JobProgress

    free, stage = threading.Event(), JobProgress.stage

    def held_stage(self: JobProgress, name: str, total: int) -> Any:
        while self.step is not None and not free.is_set():
            time.sleep(0.01)
            self.check_end()
        return stage(self, name, total)

    monkeypatch.setattr(JobProgress, "stage", held_stage)
    return free


def test_a_running_job_shows_its_progress_and_is_cancelled(
    home: Path, tmp_path: Path, held: threading.Event
) -> None:
    with served(tmp_path, home / "index") as client:
        wait_until_ready(client)
        job_id = client.post("/v1/value", files=sent(picture())).json()["id"]
        while (job := client.get(f"/v1/jobs/{job_id}").json())["stage"] is None:
            time.sleep(0.01)
        assert (job["state"], job["stage"], job["attempts"]) == ("running", "begin", 1)
        assert client.get(f"/v1/jobs/{job_id}/run.zip").status_code == 409
        assert client.get(f"/v1/values?job={job_id}").status_code == 409
        client.delete(f"/v1/jobs/{job_id}")
        ended = wait_for_job(client, job_id)
        assert (ended["state"], ended["reason"]) == ("cancelled", "A client cancelled it.")
        assert client.post("/v1/match", files=sent(picture())).status_code == 200


def test_a_service_that_stops_puts_its_job_back(
    home: Path, tmp_path: Path, held: threading.Event
) -> None:
    with served(tmp_path, home / "index") as client:
        wait_until_ready(client)
        job_id = client.post("/v1/value", files=sent(picture())).json()["id"]
        while client.get(f"/v1/jobs/{job_id}").json()["state"] == "queued":
            time.sleep(0.01)
    held.set()
    with served(tmp_path, home / "index") as client:
        wait_until_ready(client)
        job = wait_for_job(client, job_id)
        assert (job["state"], job["attempts"]) == ("done", 1)
    with served(tmp_path, home / "run") as client:
        wait_until_ready(client)
        other = client.get(f"/v1/jobs/{job_id}").json()
        assert other["state"] == "done"
        assert client.get(f"/v1/values?job={job_id}").status_code == 404


def test_a_job_of_a_run_that_is_no_longer_served_fails_with_a_reason(
    home: Path, tmp_path: Path
) -> None:
    with opened(tmp_path / "jobs", Limits()) as store:
        job_id = store.accept("elsewhere", ["a.png"], [picture()]).id
    with served(tmp_path, home / "index") as client:
        wait_until_ready(client)
        job = wait_for_job(client, job_id)
    assert job["state"] == "failed"
    assert job["reason"].startswith("No run or index of this name is served.")


def test_a_failure_within_a_job_is_its_reason(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("gmvaluator.service.worker.pack", fail)
    with served(tmp_path, home / "index") as client:
        wait_until_ready(client)
        job_id = client.post("/v1/value", files=sent(picture())).json()["id"]
        job = wait_for_job(client, job_id)
    assert (job["state"], job["reason"]) == (
        "failed",
        "The service failed; its log has the cause.",
    )
