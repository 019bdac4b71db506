"""The thread that values the pictures of jobs, one job after another."""

from __future__ import annotations

import logging
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from gmvaluator.errors import GMValuatorError
from gmvaluator.files.atomic import publish_file
from gmvaluator.progress import Advance
from gmvaluator.runs.record import Input
from gmvaluator.runs.valuation import Valuation
from gmvaluator.service.jobs import Job, JobStore
from gmvaluator.service.models import Models, Served
from gmvaluator.service.problems import Problem, problem_of
from gmvaluator.service.uploads import in_files

LOG = logging.getLogger("gmvaluator.service")
POLL_SECONDS = 1.0


class Cancelled(Exception):  # noqa: N818 - no error
    """The job was cancelled."""


class Stopped(Exception):  # noqa: N818 - no error
    """The service ends; the job goes on after its next start."""


@dataclass(frozen=True)
class Step:
    """How far the running job is.

    Attributes:
        job: its id.
        stage: as in `gmvaluator value`.
        done, total: steps of the stage.
    """

    job: str
    stage: str
    done: int
    total: int


def _go_on() -> None:
    """Nothing asks to end."""


class JobProgress:
    """The `Progress` of all jobs: hears of the running one, and ends it where that is asked."""

    def __init__(self) -> None:
        self.step: Step | None = None
        self.check_end: Callable[[], None] = _go_on

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        """As `Progress.stage`; Cancelled or Stopped where the job is to end."""
        done = 0

        def advance(n: int) -> None:
            nonlocal done
            done += n
            if self.step is not None:
                self.step = replace(self.step, stage=name, done=done, total=total)
            self.check_end()

        advance(0)
        yield advance


class Worker:
    """Values jobs in a thread of its own.

    Args:
        jobs: what to do.
        models: by what.
        progress: the one that the valuers of `models` have.
    """

    def __init__(self, jobs: JobStore, models: Models, progress: JobProgress) -> None:
        self._jobs = jobs
        self._models = models
        self._progress = progress
        self._wanted = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gmvaluator-jobs", daemon=True)

    def start(self) -> None:
        """Begin with the jobs that wait."""
        self._thread.start()

    def stop(self) -> None:
        """End soon; the running job is put back."""
        self._ended.set()
        self._wanted.set()
        self._thread.join()

    def notify(self) -> None:
        """There is a new job."""
        self._wanted.set()

    def step(self, job: Job) -> Step | None:
        """How far a job is; None: it does not run."""
        step = self._progress.step
        return step if step is not None and step.job == job.id else None

    def _run(self) -> None:
        while not self._ended.is_set():
            self._wanted.wait(POLL_SECONDS)
            self._wanted.clear()
            while self._models.ready.is_set() and not self._ended.is_set():
                job = self._jobs.next()
                if job is None:
                    break
                self._do(job)

    def _do(self, job: Job) -> None:
        def check_end() -> None:
            if self._ended.is_set():
                raise Stopped
            if self._jobs.get(job.id).cancelled:
                raise Cancelled

        self._progress.step = Step(job.id, "begin", 0, len(job.names))
        self._progress.check_end = check_end
        try:
            self._value(job)
            self._jobs.finish(job.id, "done")
        except Cancelled:
            self._jobs.finish(job.id, "cancelled", "A client cancelled it.")
        except Stopped:
            self._jobs.put_back(job)
        except Problem as problem:
            self._jobs.finish(job.id, "failed", f"{problem.kind.title} {problem.detail}")
        except GMValuatorError as error:
            LOG.warning("job %s failed: %s", job.id, error)
            self._jobs.finish(job.id, "failed", problem_of(error).detail)
        except Exception:
            LOG.exception("job %s failed", job.id)
            self._jobs.finish(job.id, "failed", "The service failed; its log has the cause.")
        finally:
            self._progress.step = None
            self._progress.check_end = _go_on

    def _value(self, job: Job) -> None:
        served = self._models.get(job.run)
        images = in_files(self._jobs.pictures(job), job.names)
        valuation = served.valuer.value(images, holdout=served.holdout)
        without_places(valuation, served).save(self._jobs.run(job), overwrite=True)
        self._progress.check_end()
        pack(self._jobs.run(job), self._jobs.archive(job))


def without_places(valuation: Valuation, served: Served) -> Valuation:
    """The valuation without the folders of the server, which are no client's business."""
    record, inputs = valuation.record, valuation.record.inputs
    holdout = inputs.holdout and replace(inputs.holdout, source=None)
    train = Input(None, inputs.train.fingerprint)
    extras = {**record.extras, "served": served.name}
    inputs = replace(inputs, train=train, holdout=holdout)
    return replace(valuation, record=replace(record, inputs=inputs, extras=extras))


def pack(run: Path, archive: Path) -> None:
    """A run folder as one zip file, written whole or not at all."""
    with publish_file(archive) as part:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
            for file in sorted(run.iterdir()):
                if file.is_file() and not file.name.startswith("."):
                    packed.write(file, file.name)
