"""A service from Python: pictures go in, the types of the library come out."""

from __future__ import annotations

import http.client
import io
import json
import os
import secrets
import ssl
import tempfile
import time
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from gmvaluator.errors import ImageError, InputError, RunError, ServiceError
from gmvaluator.shown import short_repr

if TYPE_CHECKING:
    import pandas as pd

    from gmvaluator.images import ImageSource
    from gmvaluator.runs.matches import Match
    from gmvaluator.runs.valuation import Valuation

TIMEOUT_SECONDS = 120.0
TRIES = 8
"""Times that a request is sent, where the service is busy or still loads."""
LONGEST_WAIT_SECONDS = 30.0
POLL_SECONDS = 0.5
PAGE = 500
MOST_UNPACKED = 8 << 30
_INPUT = frozenset((400, 401, 403, 404, 405, 408, 413, 415, 421, 422))
_BUSY = frozenset((429, 503))


@dataclass(frozen=True)
class Job:
    """A set of pictures that the service values in the background.

    Attributes:
        id: of the job.
        state: `queued`, `running`, `done`, `failed` or `cancelled`, when it was looked at.
        reason: why it failed or was cancelled.
        stage, stage_done, stage_total: how far it is; None: it does not run.
    """

    id: str
    state: str
    reason: str | None
    stage: str | None
    stage_done: int | None
    stage_total: int | None


@short_repr
class Client:
    """A service of `gmvaluator serve`.

        client = Client("http://127.0.0.1:8000")
        client.match("picture.png")[0].contributors

    Where the service is busy a request is sent again, after the time that the service says.

    Args:
        address: of the service, `http://…` or `https://…`.
        token: of the service. Default: $GMVALUATOR_TOKEN, else none.
        timeout: seconds that an answer may take.

    Raises:
        InputError: the address is none, or the service refuses a request.
        ServiceError: the service cannot be reached, is busy or fails.
    """

    def __init__(
        self, address: str, *, token: str | None = None, timeout: float = TIMEOUT_SECONDS
    ) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"{address!r} is no address; pass one such as http://127.0.0.1:8000")
        self.address = address.rstrip("/")
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port
        self._path = parts.path.rstrip("/")
        self._token = os.environ.get("GMVALUATOR_TOKEN") if token is None else token
        self._timeout = timeout

    def runs(self) -> list[dict[str, Any]]:
        """What is served: names, numbers of images, labels and settings."""
        listed: list[dict[str, Any]] = self._json("GET", "/v1/runs")["runs"]
        return listed

    def match(self, images: ImageSource, *, run: str | None = None, top: int = 10) -> list[Match]:
        """Contributors, quality and p-value of each picture, as `gmvaluator match` has them.

        Args:
            images: any source of `ImageSet`.
            run: name of an index or run. Needed where several are served.
            top: contributors of each picture, at most.

        Raises:
            ImageError: a picture cannot be read.
            InputError, RunError, ServiceError: what the service answers.
        """
        from gmvaluator.images import ImageSet

        pictures = ImageSet.open(images)
        matches: list[Match] = []
        # several requests: the service takes so many pictures in one
        for start in range(0, len(pictures), 32):
            rows = range(start, min(start + 32, len(pictures)))
            answer = self._send(pictures, rows, "/v1/match", {"run": run, "top": top})
            for skipped in answer["skipped"]:
                raise ImageError(f"{skipped['name']}: {skipped['reason']}")
            ids = [pictures.ids[row] for row in rows]
            found = zip(answer["matches"], ids, strict=True)
            matches += [_match(entry, name) for entry, name in found]
        return matches

    def value(
        self, images: ImageSource, *, run: str | None = None, to: str | Path | None = None
    ) -> Valuation:
        """Value the training images by a set of pictures, and wait for the result.

        Args:
            images: any source of `ImageSet`.
            run: name of an index or run. Needed where several are served.
            to: folder to write the run to. Default: nowhere.

        Raises:
            InputError, RunError, ServiceError: what the service answers, or why the job failed.
        """
        return self.wait(self.submit(images, run=run), to=to)

    def submit(self, images: ImageSource, *, run: str | None = None) -> Job:
        """Begin a job and return at once; see `value`."""
        from gmvaluator.images import ImageSet

        pictures = ImageSet.open(images)
        return _job(self._send(pictures, range(len(pictures)), "/v1/value", {"run": run}))

    def job(self, job: Job | str) -> Job:
        """A job as it is now."""
        return _job(self._json("GET", f"/v1/jobs/{_id(job)}"))

    def cancel(self, job: Job | str) -> Job:
        """Cancel a job; delete one that has ended, with its result."""
        return _job(self._json("DELETE", f"/v1/jobs/{_id(job)}"))

    def wait(self, job: Job | str, *, to: str | Path | None = None) -> Valuation:
        """The result of a job, once it is done.

        Args:
            job: of `submit`.
            to: folder to write the run to. Default: nowhere.

        Raises:
            RunError: the job failed or was cancelled, or the folder holds something.
        """
        from gmvaluator.runs.valuation import Valuation

        while (now := self.job(job)).state in ("queued", "running"):
            time.sleep(POLL_SECONDS)
        if now.state != "done":
            raise RunError(f"job {now.id} is {now.state}: {now.reason}")
        packed = self._request("GET", f"/v1/jobs/{now.id}/run.zip")
        with tempfile.TemporaryDirectory() as scratch:
            _unpack(packed, Path(scratch))
            valuation = Valuation.load(scratch)
        if to is not None:
            valuation.save(to)
        return valuation

    def values(
        self,
        *,
        run: str | None = None,
        job: Job | str | None = None,
        label: str | None = None,
        owner: str | None = None,
        text: str | None = None,
    ) -> pd.DataFrame:
        """Values of the training images, the highest first, as `Valuation.to_pandas` has them.

        Args:
            run: name of a run. Needed where several are served.
            job: a job that is done, in place of a run.
            label, owner, text: only images of this label, of this owner, with this text in the id.
        """
        import pandas as pd

        filters: dict[str, Any] = {"run": run, "label": label, "owner": owner, "text": text}
        filters |= {"job": None if job is None else _id(job), "limit": PAGE}
        rows: list[dict[str, Any]] = []
        while True:
            page = self._json("GET", "/v1/values", filters | {"offset": len(rows)})
            rows += page["values"]
            if not page["values"] or len(rows) >= page["total"]:
                break
        columns = ["train_id", "value", "rank", "n_supported", "label", "owner", "nearest_distance"]
        return pd.DataFrame(rows, columns=columns)

    def image(self, train_id: str, *, run: str | None = None, small: bool = False) -> bytes:
        """A training image as a PNG or JPEG file.

        Args:
            train_id: of the image.
            run: name of an index or run. Needed where several are served.
            small: a small copy.
        """
        from base64 import urlsafe_b64encode

        token = urlsafe_b64encode(train_id.encode()).decode().rstrip("=")
        kind = "thumbnail" if small else "image"
        return self._request("GET", f"/v1/train/{token}/{kind}", {"run": run})

    def _send(
        self, pictures: Any, rows: Sequence[int], path: str, query: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Send pictures as a form."""
        boundary = secrets.token_hex(16)
        body = io.BytesIO()
        for row in rows:
            name = _in_quotes(pictures.ids[row].rpartition("/")[2])
            body.write(
                f'--{boundary}\r\nContent-Disposition: form-data; name="images"; '
                f'filename="{name}"\r\nContent-Type: application/octet-stream\r\n\r\n'.encode()
            )
            body.write(pictures.read_bytes(row))
            body.write(b"\r\n")
        body.write(f"--{boundary}--\r\n".encode())
        kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        return self._json("POST", path, query, body.getvalue(), kind)

    def _json(self, *request: Any) -> dict[str, Any]:
        content = self._request(*request)
        try:
            answer: dict[str, Any] = json.loads(content)
        except ValueError as error:
            raise ServiceError(f"{self.address} answers no JSON; is it this service?") from error
        return answer

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """The body of an answer.

        Raises:
            InputError, RunError, ServiceError: the service answers a problem, or not at all.
        """
        given = {name: value for name, value in (query or {}).items() if value is not None}
        address = f"{self._path}{path}" + (f"?{urlencode(given)}" if given else "")
        sent = dict(headers or {})
        if self._token:
            sent["Authorization"] = f"Bearer {self._token}"
        for attempt in range(TRIES):
            status, again, content = self._once(method, address, body, sent)
            if status not in _BUSY or attempt == TRIES - 1:
                break
            time.sleep(min(again, LONGEST_WAIT_SECONDS))
        if status < 400:
            return content
        message = _message(content, status)
        if status in _INPUT:
            raise InputError(message)
        raise (RunError if status in (409, 410) else ServiceError)(message)

    def _once(
        self, method: str, address: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, float, bytes]:
        """Status, seconds until another try, and body of one answer."""
        connection: http.client.HTTPConnection
        if self._secure:
            context = ssl.create_default_context()
            connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=self._timeout, context=context
            )
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        try:
            # the service may answer before it has read the whole body
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, address, body, dict(headers))
            answer = connection.getresponse()
            after = answer.headers.get("Retry-After", "1")
            return answer.status, float(after) if after.isdigit() else 1.0, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise ServiceError(
                f"{self.address} cannot be reached ({error or type(error).__name__}); start the "
                "service, or check the address"
            ) from error
        finally:
            connection.close()


def _in_quotes(name: str) -> str:
    """A name as browsers write it into the head of a part."""
    for letter, code in (('"', "%22"), ("\r", "%0D"), ("\n", "%0A")):
        name = name.replace(letter, code)
    return name.encode("utf-8", "replace").decode()


def _match(entry: Mapping[str, Any], name: str) -> Match:
    from gmvaluator.runs.matches import Contributor, Match

    return Match(
        source=entry["source"],
        generated_id=name,
        quality=entry["quality"],
        match_p=entry["match_p"],
        copy_of=tuple(entry["copy_of"]),
        contributors=tuple(
            Contributor(line["train_id"], line["distance"], line["score"])
            for line in entry["contributors"]
        ),
    )


def _job(entry: Mapping[str, Any]) -> Job:
    names = ("id", "state", "reason", "stage", "stage_done", "stage_total")
    return Job(**{name: entry[name] for name in names})


def _id(job: Job | str) -> str:
    return quote(job.id if isinstance(job, Job) else job, safe="")


def _message(content: bytes, status: int) -> str:
    """What a problem says, in one line."""
    try:
        problem = json.loads(content)
        faults = "; ".join(f"{one['parameter']}: {one['reason']}" for one in problem["errors"])
    except (ValueError, KeyError, TypeError):
        faults = ""
    try:
        return " ".join(filter(None, (problem["title"], problem["detail"], faults)))
    except (KeyError, TypeError, UnboundLocalError):
        return f"the service answers status {status}"


def _unpack(packed: bytes, folder: Path) -> None:
    """The files of a run, and no others.

    Raises:
        ServiceError: the archive is none of a run.
    """
    from gmvaluator.runs.tables import LATER_FILES, RUN_FILES

    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            entries = archive.infolist()
            known = {entry.filename for entry in entries} <= {*RUN_FILES, *LATER_FILES}
            if not known or sum(entry.file_size for entry in entries) > MOST_UNPACKED:
                raise ServiceError("the service sent something else than a run")
            for entry in entries:
                (folder / entry.filename).write_bytes(archive.read(entry))
    except zipfile.BadZipFile as error:
        raise ServiceError("the service sent a damaged run; try again") from error
