"""The addresses of the API: what each takes, and what it answers."""

from __future__ import annotations

import asyncio
import json
import mimetypes
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

import numpy as np
from fastapi import FastAPI, Query, Request, Response
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import FileResponse

import gmvaluator
from gmvaluator.errors import GMValuatorError
from gmvaluator.images import Skip
from gmvaluator.runs.matches import Match
from gmvaluator.runs.valuation import Valuation
from gmvaluator.service import answers, metrics, problems
from gmvaluator.service.guard import BODY, LOG, Guard
from gmvaluator.service.jobs import STATES, UNFINISHED, Job, JobStore
from gmvaluator.service.limits import Limits
from gmvaluator.service.matching import Matcher, Result
from gmvaluator.service.models import Models, Served, token_of
from gmvaluator.service.problems import Problem, problem_of
from gmvaluator.service.uploads import Upload, clean_name
from gmvaluator.service.worker import JobProgress, Worker

PAGE = "page"
SHOWN_NAMES = 1_000
JOB_PATTERN = "^[0-9a-f]{32}$"
TOKEN_PATTERN = "^[A-Za-z0-9_-]+$"


@dataclass(frozen=True)
class Config:
    """What a service is started with.

    Attributes:
        folders: of the indexes and runs.
        jobs: folder that keeps jobs.
        token: that clients must send; None: none is wanted.
        host: that the service listens at.
        allowed_hosts: further names that clients may call it by.
        by: metadata column of the training sets that names owners.
        cache: folder of the cache; None: the user's.
        limits: of requests.
        on_failure: hears of an error that keeps the service from serving.
    """

    folders: Sequence[Path]
    jobs: Path
    token: str | None = None
    host: str = "127.0.0.1"
    allowed_hosts: tuple[str, ...] = ()
    by: str | None = None
    cache: Path | None = None
    limits: Limits = field(default_factory=Limits)
    on_failure: Callable[[BaseException], None] | None = None


class Service:
    """Everything behind the addresses."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.metrics = metrics.Metrics()
        self.progress = JobProgress()
        self.models = Models(
            config.folders, by=config.by, cache=config.cache, progress=self.progress
        )
        self.matcher = Matcher(config.limits, self.metrics)
        self.jobs = JobStore(config.jobs, config.limits)
        self.worker = Worker(self.jobs, self.models, self.progress)
        self.valuation_of_job = lru_cache(maxsize=4)(self._valuation_of_job)

    def start(self) -> None:
        """Recover jobs and begin to work; the models load meanwhile."""
        self.jobs.recover()
        self.matcher.start()
        self.worker.start()
        threading.Thread(target=self._load, name="gmvaluator-load", daemon=True).start()

    def _load(self) -> None:
        try:
            self.models.load()
        except BaseException as error:
            if self.config.on_failure is None:
                raise
            self.config.on_failure(error)
        self.worker.notify()

    def stop(self) -> None:
        """End what is under way; jobs go on after the next start."""
        self.matcher.stop()
        self.worker.stop()
        self.jobs.close()

    def _valuation_of_job(self, job_id: str) -> Valuation:
        return Valuation.load(self.jobs.run(self.jobs.get(job_id)))

    def valued(self, run: str | None, job_id: str | None) -> tuple[Served, Valuation]:
        """The valuation of a run or of a job, and what made it."""
        if job_id is not None:
            job = self.jobs.get(job_id)
            if job.state != "done":
                raise Problem("no-result", f"The job is {job.state}.")
            return self.models.get(job.run), self.valuation_of_job(job.id)
        served = self.models.get(run)
        if served.valuation is None:
            raise Problem("no-values")
        return served, served.valuation

    def match_answer(self, served: Served, match: Match) -> answers.Match:
        """A match as it is answered."""
        tested = served.matcher.settings.null != "off" and match.match_p is not None
        level = served.matcher.settings.null_level
        lines = []
        for line in match.contributors:
            row = served.rows[line.train_id]
            lines.append(
                answers.Contributor(
                    train_id=line.train_id,
                    distance=line.distance,
                    score=line.score,
                    share=match.share(line),
                    label=served.label(row),
                    owner=served.owner(row),
                    **addresses(served, line.train_id),
                )
            )
        return answers.Match(
            source=match.source,
            generated_id=match.generated_id,
            quality=match.quality,
            match_p=match.match_p,
            without_source=bool((match.match_p or 0.0) <= level) if tested else None,
            copy_of=list(match.copy_of),
            contributors=lines,
        )

    def job_answer(self, job: Job) -> answers.Job:
        """A job as it is answered."""
        step = self.worker.step(job)
        return answers.Job(
            id=job.id,
            run=job.run,
            state=job.state,  # type: ignore[arg-type]
            reason=job.reason,
            images=len(job.names),
            attempts=job.attempts,
            created=job.created,
            started=job.started,
            finished=job.finished,
            stage=step.stage if step else None,
            stage_done=step.done if step else None,
            stage_total=step.total if step else None,
            result=f"/v1/jobs/{job.id}/run.zip" if job.state == "done" else None,
        )


def addresses(served: Served, train_id: str) -> dict[str, str]:
    """The addresses of a training image."""
    base = f"/v1/train/{token_of(train_id)}"
    run = quote(served.name, safe="")
    return {"image": f"{base}/image?run={run}", "thumbnail": f"{base}/thumbnail?run={run}"}


def responses(*names: str, **others: Any) -> dict[int | str, dict[str, Any]]:
    """The problems that an address may answer, for the OpenAPI document.

    Args:
        names: kinds of problems, beside those that each address may answer.
        others: further answers by `s` and their status, such as `s404`.
    """
    every = ("wrong-host", "wrong-origin", "head-too-large", "too-many-requests", "internal")
    below = ("no-token", "not-ready", "bad-parameter")
    kinds: dict[int, list[str]] = {}
    for name in dict.fromkeys((*every, *below, *names)):
        kinds.setdefault(problems.PROBLEMS[name].status, []).append(name)
    shape = {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}
    documented: dict[int | str, dict[str, Any]] = {
        status: {
            "description": " ".join(f"`{n}`: {problems.PROBLEMS[n].title}" for n in of_status),
            "content": {problems.MEDIA_TYPE: shape},
        }
        for status, of_status in kinds.items()
    }
    return documented | others


PICTURES = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["images"],
                    "properties": {
                        "images": {
                            "type": "array",
                            "minItems": 1,
                            "items": {"type": "string", "format": "binary"},
                            "description": "PNG, JPEG, GIF, BMP, WebP, TIFF, PPM, AVIF or QOI.",
                        }
                    },
                }
            }
        },
    }
}
UPLOADING = (
    *("bad-form", "no-image", "not-an-image", "bad-input", "too-large", "too-many-images"),
    *("too-slow", "wrong-media-type", "busy", "unknown-run", "which-run", "run-gone"),
    *("run-changed",),
)
IMAGE_ANSWER = {
    "description": "The image, encoded anew.",
    "content": {
        kind: {"schema": {"type": "string", "format": "binary"}}
        for kind in ("image/png", "image/jpeg")
    },
}
RunName = Annotated[
    str | None,
    Query(description="Name of an index or run (/v1/runs). Needed where several are served."),
]
Top = Annotated[int, Query(ge=1, le=1_000, description="Contributors of each picture, at most.")]
Offset = Annotated[int, Query(ge=0, le=1_000_000_000)]
Limit = Annotated[int, Query(ge=1, le=500)]
TrainToken = Annotated[
    str,
    InPath(
        pattern=TOKEN_PATTERN,
        max_length=8_000,
        description="The id of a training image in base64url without padding.",
        examples=["My9pbWFnZS0wNDIucG5n"],
    ),
]
JobId = Annotated[str, InPath(pattern=JOB_PATTERN, examples=[answers.JOB_ID])]


def create_app(config: Config) -> Guard:
    """The service as an ASGI application.

    Raises:
        RunError: a folder is no index or run, or the folder of the jobs cannot be used.
    """
    service = Service(config)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        try:
            yield
        finally:
            await run_in_threadpool(service.stop)

    app = FastAPI(
        title="gmvaluator",
        version=gmvaluator.__version__,
        description="Which training images contributed to a picture?",
        docs_url=None,
        redoc_url=None,
        lifespan=life,
    )
    app.state.service = service
    _add_errors(app)
    _add_matching(app, service)
    _add_jobs(app, service)
    _add_reading(app, service)
    _add_health(app, service)
    _add_page(app)
    _complete_document(app)
    return Guard(
        app,
        config.limits,
        service.metrics,
        service.models.ready.is_set,
        token=config.token,
        host=config.host,
        allowed_hosts=config.allowed_hosts,
    )


def _add_matching(app: FastAPI, service: Service) -> None:
    limits = service.config.limits

    @app.post(
        "/v1/match",
        responses=responses(*UPLOADING),
        openapi_extra=PICTURES,
        summary="Match pictures with the training images",
    )
    async def match(request: Request, run: RunName = None, top: Top = 10) -> answers.Matches:
        """Contributors, quality and p-value of each picture, as `gmvaluator match` has them."""
        served = service.models.get(run)
        async with pictures_of(request, limits.match_files) as parts:
            uploads = [
                Upload(clean_name(part.filename, number), await part.read())
                for number, part in enumerate(parts)
            ]
        faults = await run_in_threadpool(lambda: [upload.fault() for upload in uploads])
        whole = [upload for upload, why in zip(uploads, faults, strict=True) if why is None]
        futures = iter(service.matcher.submit(served, whole, top) if whole else [])
        waiting = [None if why else next(futures) for why in faults]
        pending = [asyncio.wrap_future(future) for future in waiting if future is not None]
        try:
            await unless_gone(request, asyncio.gather(*pending))
        finally:
            for future in pending:
                future.cancel()
        results: list[Result] = [
            Skip(upload.name, str(why)) if future is None else future.result()
            for upload, why, future in zip(uploads, faults, waiting, strict=True)
        ]
        skipped = [
            answers.Skipped(name=result.id, reason=result.reason)
            for result in results
            if isinstance(result, Skip)
        ]
        if len(skipped) == len(results):
            listed = [one.model_dump() for one in skipped]
            raise Problem("not-an-image", skipped[0].reason, skipped=listed)
        matched = [service.match_answer(served, one) for one in results if isinstance(one, Match)]
        return answers.Matches(run=served.name, matches=matched, skipped=skipped)


def _add_jobs(app: FastAPI, service: Service) -> None:
    limits = service.config.limits

    @app.post(
        "/v1/value",
        status_code=202,
        responses=responses(*UPLOADING, "disk-full"),
        openapi_extra=PICTURES,
        summary="Value the training images by a set of pictures",
    )
    async def value(request: Request, response: Response, run: RunName = None) -> answers.Job:
        """Accepts a job, which is then on the disk; it is valued in the background."""
        served = service.models.get(run)
        async with pictures_of(request, limits.job_files) as parts:
            job = await run_in_threadpool(
                service.jobs.accept,
                served.name,
                [clean_name(part.filename, number) for number, part in enumerate(parts)],
                (part.file.read() for part in parts),
            )
        service.worker.notify()
        response.headers["Location"] = f"/v1/jobs/{job.id}"
        return service.job_answer(job)

    @app.get("/v1/jobs", responses=responses(), summary="List jobs, the newest first")
    def jobs(offset: Offset = 0, limit: Limit = 50) -> answers.Jobs:
        listed = service.jobs.list()
        page = [service.job_answer(job) for job in listed[offset : offset + limit]]
        return answers.Jobs(total=len(listed), offset=offset, limit=limit, jobs=page)

    @app.get("/v1/jobs/{job}", responses=responses("unknown-job"), summary="Look at a job")
    def job(job: JobId) -> answers.Job:
        return service.job_answer(service.jobs.get(job))

    @app.delete(
        "/v1/jobs/{job}", responses=responses("unknown-job"), summary="Cancel or delete a job"
    )
    def end(job: JobId) -> answers.Job:
        """Cancels a job that has not ended. Deletes one that has, with its result."""
        found = service.jobs.get(job)
        if found.state in UNFINISHED:
            return service.job_answer(service.jobs.cancel(job))
        service.jobs.delete(found)
        service.valuation_of_job.cache_clear()
        return service.job_answer(found)

    @app.get(
        "/v1/jobs/{job}/run.zip",
        response_class=FileResponse,
        responses=responses("unknown-job", "no-result")
        | {200: {"description": "The run folder.", "content": {"application/zip": {}}}},
        summary="Download the result of a job",
    )
    def result(job: JobId) -> FileResponse:
        found = service.jobs.get(job)
        if found.state != "done" or not service.jobs.has_result(found):
            raise Problem("no-result", f"The job is {found.state}.")
        archive = service.jobs.archive(found)
        return FileResponse(archive, media_type="application/zip", filename="run.zip")


def _add_reading(app: FastAPI, service: Service) -> None:
    reading = ("unknown-run", "which-run", "run-gone")

    def picture(train: str, run: str | None, *, small: bool) -> Response:
        content, media_type = service.models.get(run).picture(train, small=small)
        headers = {"Cache-Control": "private, max-age=3600"}
        return Response(content, media_type=media_type, headers=headers)

    of_image = responses(*reading, "unknown-image", "image-gone") | {200: IMAGE_ANSWER}

    @app.get(
        "/v1/train/{train}/image",
        response_class=Response,
        responses=of_image,
        summary="A training image, at most 1024 pixels a side",
    )
    def image(train: TrainToken, run: RunName = None) -> Response:
        return picture(train, run, small=False)

    @app.get(
        "/v1/train/{train}/thumbnail",
        response_class=Response,
        responses=of_image,
        summary="A small copy of a training image, at most 160 pixels a side",
    )
    def thumbnail(train: TrainToken, run: RunName = None) -> Response:
        return picture(train, run, small=True)

    @app.get(
        "/v1/values",
        responses=responses(*reading, "no-values", "unknown-job", "no-result"),
        summary="Values of the training images",
    )
    def values(
        run: RunName = None,
        job: Annotated[str | None, Query(pattern=JOB_PATTERN, description="Of a job.")] = None,
        sort: Annotated[
            Literal["value", "rank", "train_id", "n_supported", "label", "nearest_distance"],
            Query(),
        ] = "rank",
        descending: bool = False,
        label: Annotated[str | None, Query(description="Only images of this label.")] = None,
        owner: Annotated[str | None, Query(description="Only images of this owner.")] = None,
        text: Annotated[
            str | None, Query(max_length=200, description="Only ids that hold this text.")
        ] = None,
        offset: Offset = 0,
        limit: Limit = 50,
    ) -> answers.Values:
        served, valuation = service.valued(run, job)
        chosen = chosen_rows(served, valuation, label=label, owner=owner, text=text)
        rows = sorted_rows(valuation, chosen, sort, descending=descending)
        page = [value_answer(served, valuation, row) for row in rows[offset : offset + limit]]
        return answers.Values(
            run=served.name, total=len(rows), offset=offset, limit=limit, values=page
        )

    @app.get("/v1/runs", responses=responses(), summary="What is served")
    def runs() -> answers.Runs:
        return answers.Runs(runs=[run_answer(served) for served in service.models])


def _add_health(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", responses=responses(), summary="Whether the service lives")
    def healthz() -> answers.Health:
        return answers.Health(status="ok")

    @app.get("/readyz", responses=responses("not-ready"), summary="Whether all is loaded")
    def readyz() -> answers.Health:
        if not service.models.ready.is_set():
            raise problems.wait("not-ready", 2)
        return answers.Health(status="ok")

    @app.get(
        "/metrics",
        response_class=Response,
        responses=responses()
        | {200: {"description": "For Prometheus.", "content": {"text/plain": {}}}},
        summary="Counts for Prometheus",
    )
    def counts() -> Response:
        states = [job.state for job in service.jobs.list()]
        for state in STATES:
            service.metrics.jobs.labels(state).set(states.count(state))
        return Response(service.metrics.text(), headers={"Content-Type": metrics.MEDIA_TYPE})


def _add_page(app: FastAPI) -> None:
    """The files of the page, read once: no address becomes a path."""
    root = resources.files("gmvaluator.service") / PAGE
    for name, content in page_files(root):
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        address = "/" if name == "index.html" else f"/{name}"
        charset = "; charset=utf-8" if kind.startswith("text/") else ""
        app.add_api_route(
            address,
            _constant(content, f"{kind}{charset}"),
            methods=["GET"],
            response_class=Response,
            include_in_schema=False,
        )


def page_files(folder: Any, before: str = "") -> list[tuple[str, bytes]]:
    """Path within the folder and content of each file."""
    files = []
    for entry in sorted(folder.iterdir(), key=lambda entry: str(entry.name)):
        if entry.is_dir():
            files += page_files(entry, f"{before}{entry.name}/")
        else:
            files.append((f"{before}{entry.name}", entry.read_bytes()))
    return files


def _constant(content: bytes, media_type: str) -> Callable[[], Response]:
    def answer() -> Response:
        headers = {"Content-Type": media_type, "Cache-Control": "no-cache"}
        return Response(content, headers=headers)

    return answer


def _add_errors(app: FastAPI) -> None:
    def answer(problem: Problem) -> Response:
        headers = {"Cache-Control": "no-store", **problem.headers}
        return Response(
            json.dumps(problem.as_json()),
            status_code=problem.kind.status,
            media_type=problems.MEDIA_TYPE,
            headers=headers,
        )

    @app.exception_handler(Problem)
    async def problem(request: Request, error: Problem) -> Response:
        await request.scope[BODY].drain()
        return answer(error)

    @app.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception) -> Response:
        instance = secrets.token_hex(8)
        LOG.error("request %s failed", instance, exc_info=error)
        return answer(Problem("internal", instance=instance))

    @app.exception_handler(GMValuatorError)
    async def of_package(_: Request, error: GMValuatorError) -> Response:
        return answer(problem_of(error))

    @app.exception_handler(RequestValidationError)
    async def parameter(_: Request, error: RequestValidationError) -> Response:
        faults = [
            {"parameter": str(one["loc"][-1]), "reason": str(one["msg"])} for one in error.errors()
        ]
        return answer(Problem("bad-parameter", errors=faults))

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> Response:
        names = {404: "not-found", 405: "wrong-method", 400: "bad-form"}
        name = names.get(error.status_code, "bad-form")
        return answer(Problem(name, headers=dict(error.headers or {})))


@asynccontextmanager
async def pictures_of(request: Request, most: int) -> AsyncIterator[list[UploadFile]]:
    """The parts of a request that are pictures; they are dropped when the block ends.

    Raises:
        Problem: the body is no form, or holds none or too many.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "multipart/form-data":
        raise Problem("wrong-media-type")
    try:
        form = await request.form(max_files=most, max_fields=8)
    except ClientDisconnect:
        raise Problem("client-gone") from None
    except HTTPException as error:
        if str(error.detail).startswith("Too many files"):
            raise Problem("too-many-images", f"At most {most} are taken.") from None
        raise Problem("bad-form", str(error.detail)) from None
    except (ValueError, LookupError) as error:
        raise Problem("bad-form") from error
    try:
        parts = [part for part in form.getlist("images") if isinstance(part, UploadFile)]
        if not parts:
            raise Problem("no-image")
        yield parts
    finally:
        await form.close()


async def unless_gone(request: Request, work: asyncio.Future[Any]) -> None:
    """Wait for work, but not for a client that has gone.

    Raises:
        Problem: the client closed the connection.
    """

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    watch = asyncio.ensure_future(gone())
    try:
        await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            work.cancel()
            raise Problem("client-gone")
        await work
    finally:
        watch.cancel()


def chosen_rows(
    served: Served,
    valuation: Valuation,
    *,
    label: str | None,
    owner: str | None,
    text: str | None,
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Rows of the training images that all filters leave."""
    n = len(valuation.train_ids)
    keep = np.ones(n, dtype=bool)
    if label is not None:
        labels = valuation.train_labels or (None,) * n
        keep &= np.fromiter((one == label for one in labels), bool, n)
    if owner is not None:
        owners = served.owners or (None,) * n
        keep &= np.fromiter((one == owner for one in owners), bool, n)
    if text:
        wanted = text.casefold()
        keep &= np.fromiter((wanted in one.casefold() for one in valuation.train_ids), bool, n)
    return np.flatnonzero(keep)


def sorted_rows(
    valuation: Valuation, rows: np.ndarray[Any, np.dtype[np.int64]], sort: str, *, descending: bool
) -> list[int]:
    """Rows by a column, equal ones by rank and position; unknown entries come last."""
    columns: dict[str, Callable[[], Any]] = {
        "value": lambda: valuation.values,
        "rank": lambda: valuation.ranks,
        "n_supported": lambda: valuation.n_supported,
        "train_id": lambda: valuation.train_ids,
        "label": lambda: valuation.train_labels or [None] * len(valuation.train_ids),
        "nearest_distance": lambda: (
            [None] * len(valuation.train_ids)
            if valuation.nearest_distances is None
            else [None if np.isnan(d) else d for d in valuation.nearest_distances]
        ),
    }
    column = columns[sort]()
    by_rank = rows[np.argsort(valuation.ranks[rows], kind="stable")].tolist()
    known = [row for row in by_rank if column[row] is not None]
    unknown = [row for row in by_rank if column[row] is None]
    known.sort(key=lambda row: column[row], reverse=descending)
    return known + unknown


def value_answer(served: Served, valuation: Valuation, row: int) -> answers.Value:
    """A value as it is answered."""
    train_id, nearest = valuation.train_ids[row], valuation.nearest_distances
    known = served.rows.get(train_id)
    return answers.Value(
        train_id=train_id,
        value=float(valuation.values[row]),
        rank=int(valuation.ranks[row]),
        n_supported=int(valuation.n_supported[row]),
        label=valuation.train_labels[row] if valuation.train_labels else None,
        owner=None if known is None else served.owner(known),
        nearest_distance=None if nearest is None or np.isnan(nearest[row]) else float(nearest[row]),
        **addresses(served, train_id),
    )


def run_answer(served: Served) -> answers.Run:
    """An index or run as it is answered."""
    labels = {label for label in served.side.labels or () if label is not None}
    owners = {owner for owner in served.owners or () if owner is not None}
    return answers.Run(
        name=served.name,
        kind=served.kind,  # type: ignore[arg-type]
        state=served.state,  # type: ignore[arg-type]
        n_train=len(served.side.ids),
        n_generated=None if served.valuation is None else len(served.valuation.generated_ids),
        labels=sorted(labels)[:SHOWN_NAMES],
        owners=sorted(owners)[:SHOWN_NAMES],
        settings=served.matcher.settings.as_json(),
        null_level=served.matcher.settings.null_level,
    )


def _complete_document(app: FastAPI) -> None:
    """The OpenAPI document, with the shape of problems and the token."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
            )
            components = made.setdefault("components", {})
            schema = answers.ProblemDetails.model_json_schema(
                ref_template="#/components/schemas/{model}"
            )
            components.setdefault("schemas", {}).update(schema.pop("$defs", {}))
            components["schemas"]["ProblemDetails"] = schema
            components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            made["security"] = [{}, {"token": []}]
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]
