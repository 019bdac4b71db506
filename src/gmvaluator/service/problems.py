"""Every error that the service answers: RFC 9457 problem details, one kind for each cause."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from gmvaluator.errors import GMValuatorError, InputError, RunError

MEDIA_TYPE = "application/problem+json"
BASE = "/problems/"


@dataclass(frozen=True)
class Kind:
    """A kind of problem.

    Attributes:
        status: of HTTP.
        title: one sentence, the same for every problem of the kind.
        advice: what the sender can do.
    """

    status: int
    title: str
    advice: str


PROBLEMS: Mapping[str, Kind] = MappingProxyType(
    {
        "bad-parameter": Kind(
            422,
            "A parameter of the request is wrong.",
            "Correct the parameter that `errors` names.",
        ),
        "bad-form": Kind(
            400,
            "The body of the request is no readable form.",
            "Send multipart/form-data with one part `images` for each picture.",
        ),
        "no-image": Kind(
            422, "The request holds no picture.", "Send at least one part named `images`."
        ),
        "not-an-image": Kind(
            422,
            "No picture of the request can be read.",
            "Send PNG, JPEG, GIF, BMP, WebP, TIFF, PPM, AVIF or QOI; `skipped` has the reasons.",
        ),
        "bad-input": Kind(
            422, "The pictures cannot be valued as they are.", "`detail` says what to change."
        ),
        "too-large": Kind(
            413, "The body of the request is too large.", "Send fewer or smaller pictures."
        ),
        "too-many-images": Kind(
            413, "The request holds too many pictures.", "Send them in several requests."
        ),
        "too-slow": Kind(
            408, "The body of the request did not come in time.", "Send the request again."
        ),
        "head-too-large": Kind(
            431, "The head of the request is too large.", "Send shorter addresses and headers."
        ),
        "wrong-media-type": Kind(
            415, "The body of the request is no form.", "Send multipart/form-data."
        ),
        "no-token": Kind(
            401,
            "The service wants another token, or one at all.",
            "Send the header `Authorization: Bearer TOKEN`.",
        ),
        "wrong-host": Kind(
            421,
            "The service does not answer under this name.",
            "Call it by its own address, or start it with --allow-host NAME.",
        ),
        "wrong-origin": Kind(
            403,
            "A page of another site sent the request.",
            "Call the service from its own page, or without a browser.",
        ),
        "not-found": Kind(404, "Nothing is at this address.", "See /openapi.json."),
        "wrong-method": Kind(405, "The address does not take this method.", "See /openapi.json."),
        "unknown-run": Kind(
            404, "No run or index of this name is served.", "Take a name of /v1/runs."
        ),
        "which-run": Kind(
            422,
            "Several runs are served, and the request names none.",
            "Pass `run`, a name of /v1/runs.",
        ),
        "unknown-image": Kind(
            404, "No training image has this id.", "Take an address of an earlier answer."
        ),
        "image-gone": Kind(
            410,
            "The training image is gone, or another one than was valued.",
            "Restore the image, or make the run again.",
        ),
        "run-gone": Kind(
            410,
            "The run or index was deleted while it was served.",
            "Restore the folder, or serve another one.",
        ),
        "run-changed": Kind(
            409,
            "The run or its images changed while it was served.",
            "Start the service again.",
        ),
        "no-values": Kind(
            409,
            "An index has no values.",
            "Take a run, or value pictures by it (POST /v1/value).",
        ),
        "unknown-job": Kind(404, "No job has this id.", "Take an id of /v1/jobs."),
        "no-result": Kind(
            409, "The job has no result.", "Wait until its state is done; see its reason."
        ),
        "busy": Kind(
            429,
            "Too many pictures or jobs are waiting.",
            "Try again after the seconds of Retry-After.",
        ),
        "too-many-requests": Kind(
            429,
            "This client sends too many requests.",
            "Try again after the seconds of Retry-After.",
        ),
        "client-gone": Kind(
            499, "The client closed the connection before the answer.", "Send the request again."
        ),
        "disk-full": Kind(
            507, "The service has no room for the job.", "Delete finished jobs (DELETE /v1/jobs/…)."
        ),
        "not-ready": Kind(
            503, "The service still loads its runs.", "Try again after the seconds of Retry-After."
        ),
        "internal": Kind(
            500, "The service failed.", "Its log has the cause, under the `instance` given here."
        ),
    }
)


class Problem(Exception):  # noqa: N818 - the term of RFC 9457
    """An answer that is a problem.

    Args:
        name: of the kind, a key of `PROBLEMS`.
        detail: one sentence about this occurrence; Default: the advice of the kind.
        headers: of the answer.
        extra: further members of the problem.
    """

    def __init__(
        self,
        name: str,
        detail: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(name, detail)
        self.name = name
        self.kind = PROBLEMS[name]
        self.detail = detail or self.kind.advice
        self.headers = dict(headers or {})
        self.extra = extra

    def as_json(self) -> dict[str, Any]:
        """The members of the problem."""
        return {
            "type": f"{BASE}{self.name}",
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": self.detail,
            **self.extra,
        }


def wait(name: str, seconds: float, detail: str = "") -> Problem:
    """A problem that is over in a while, with the header Retry-After.

    Args:
        name: of the kind.
        seconds: until the client may try again.
        detail: of the problem.
    """
    return Problem(name, detail, headers={"Retry-After": str(max(1, round(seconds)))})


def problem_of(error: GMValuatorError) -> Problem:
    """The problem that an error of the package is."""
    if isinstance(error, InputError):
        return Problem("bad-input", str(error))
    if isinstance(error, RunError):
        # the message may name folders of the server
        return Problem("run-changed")
    return Problem("internal")
