"""The shapes of the answers, with their examples in the OpenAPI document."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

TRAIN = "/v1/train/My9pbWFnZS0wNDIucG5n"
CONTRIBUTOR: dict[str, Any] = {
    "train_id": "3/image-042.png",
    "distance": 0.8154,
    "score": 0.4321,
    "share": 47.4,
    "label": "3",
    "owner": None,
    "image": f"{TRAIN}/image?run=mnist",
    "thumbnail": f"{TRAIN}/thumbnail?run=mnist",
}
MATCH: dict[str, Any] = {
    "source": "drawn.png",
    "generated_id": "drawn.png",
    "quality": 0.912,
    "match_p": 0.48,
    "without_source": False,
    "copy_of": [],
    "contributors": [CONTRIBUTOR],
}
JOB_ID = "0f8fad5bd9cb469fa16570867728950e"
JOB: dict[str, Any] = {
    "id": JOB_ID,
    "run": "mnist",
    "state": "running",
    "reason": None,
    "images": 200,
    "attempts": 1,
    "created": 1764600000.0,
    "started": 1764600001.0,
    "finished": None,
    "stage": "embed generated",
    "stage_done": 64,
    "stage_total": 200,
    "result": None,
}


class Answer(BaseModel):
    """Base of all answers."""

    model_config = ConfigDict(extra="forbid")


class Contributor(Answer):
    """A training image that shares the picture."""

    model_config = ConfigDict(json_schema_extra={"examples": [CONTRIBUTOR]})

    train_id: str
    distance: float = Field(description="Re-rank distance.")
    score: float = Field(description="Part of the quality of the picture.")
    share: float = Field(description="The same in per cent of the picture.")
    label: str | None
    owner: str | None
    image: str = Field(description="Address of the training image.")
    thumbnail: str = Field(description="Address of a small copy.")


class Match(Answer):
    """A picture and the training images that it matches."""

    model_config = ConfigDict(json_schema_extra={"examples": [MATCH]})

    source: str = Field(description="Name of the file, as it was sent.")
    generated_id: str
    quality: float = Field(description="0 bad … 1 good.")
    match_p: float | None = Field(
        description="Share of images without a source that match no worse; null: not tested."
    )
    without_source: bool | None = Field(
        description="Whether `match_p` is so small that the picture has no source in the training "
        "set; null: not tested."
    )
    copy_of: list[str] = Field(description="Training images that the picture is a copy of.")
    contributors: list[Contributor] = Field(description="Best first.")


class Skipped(Answer):
    """A picture that cannot be read."""

    name: str
    reason: str


class Matches(Answer):
    """The matches of the pictures that can be read, in their order."""

    run: str
    matches: list[Match]
    skipped: list[Skipped]


class Job(Answer):
    """A set of pictures that is valued in the background."""

    model_config = ConfigDict(json_schema_extra={"examples": [JOB]})

    id: str
    run: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    reason: str | None = Field(description="Why it failed or was cancelled.")
    images: int
    attempts: int = Field(description="How often it was begun.")
    created: float = Field(description="Seconds since 1970.")
    started: float | None
    finished: float | None
    stage: str | None = Field(description="What is done now.")
    stage_done: int | None
    stage_total: int | None
    result: str | None = Field(description="Address of the run folder as a zip file.")


class Jobs(Answer):
    """Jobs, the newest first."""

    total: int
    offset: int
    limit: int
    jobs: list[Job]


class Value(Answer):
    """The value of a training image."""

    train_id: str
    value: float
    rank: int = Field(description="1 is the highest.")
    n_supported: int = Field(description="Generated images that it contributes to.")
    label: str | None
    owner: str | None
    nearest_distance: float | None
    image: str
    thumbnail: str


class Values(Answer):
    """A page of values."""

    run: str
    total: int = Field(description="Training images that the filters leave.")
    offset: int
    limit: int
    values: list[Value]


class Run(Answer):
    """An index or run that is served."""

    name: str
    kind: Literal["index", "run"]
    state: Literal["served", "changed", "gone"]
    n_train: int
    n_generated: int | None
    labels: list[str] = Field(description="At most 1,000.")
    owners: list[str] = Field(description="At most 1,000.")
    settings: dict[str, Any]
    null_level: float = Field(description="A `match_p` up to this number: no source.")


class Runs(Answer):
    """All that is served."""

    runs: list[Run]


class Health(Answer):
    """Whether the service lives, or is ready."""

    status: Literal["ok"]


class Fault(Answer):
    """A parameter that is wrong."""

    parameter: str
    reason: str


class ProblemDetails(BaseModel):
    """An error, as RFC 9457 has it."""

    type: str = Field(description="Address that names the kind of problem.")
    title: str
    status: int
    detail: str
    errors: list[Fault] | None = None
    skipped: list[Skipped] | None = None
    limit: int | None = None
    instance: str | None = None
