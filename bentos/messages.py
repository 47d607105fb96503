"""Request and response bodies as msgspec types, which validate while they decode."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from bentos.problems import FieldError
from retail_core.schemas import MAX_ID_LENGTH

MAX_ITEMS = 1_000
MAX_EVENTS = 10_000
FLOAT32_MAX = 3.4e38

UserId = Annotated[
    str,
    msgspec.Meta(min_length=1, max_length=MAX_ID_LENGTH, description="The user's id, as in the events."),
]
InstantText = Annotated[str, msgspec.Meta(description="ISO 8601; without an offset UTC. Default: now.")]
FeatureValue = Annotated[float, msgspec.Meta(ge=-FLOAT32_MAX, le=FLOAT32_MAX)]
EventRows = Annotated[
    list[dict[str, Any]],
    msgspec.Meta(max_length=MAX_EVENTS, description="Canonical events; `user_id` may be left out."),
]


class PredictItem(msgspec.Struct, forbid_unknown_fields=True):
    """One prediction request: will this user buy within the horizon after `as_of`?

    With `user_id` alone the stored events of the look-back are used, with `events` those too, with
    `features` these values only.
    """

    user_id: UserId
    as_of: InstantText | None = None
    events: EventRows | None = None
    features: dict[str, FeatureValue | None] | None = None
    reasons: Annotated[
        bool, msgspec.Meta(description="Whether the response has reasons; takes some milliseconds more.")
    ] = False


class Reason(msgspec.Struct):
    """One of the largest contributions to a probability; they are sorted by size."""

    text: Annotated[str, msgspec.Meta(description="In words, such as `3 items in the cart for 5 h`.")]
    effect: Annotated[str, msgspec.Meta(description="`raises` or `lowers` the probability.")]
    share: Annotated[float, msgspec.Meta(description="Share of all contributions, 0 to 1.")]


class Answer(msgspec.Struct, omit_defaults=True):
    """The prediction for one item of the request; `contact`: the probability is at or above `threshold`."""

    user_id: str
    probability: float
    will_purchase: bool
    contact: bool
    threshold: float
    model_version: str
    policy: str
    as_of: str
    history: Annotated[
        str,
        msgspec.Meta(description="`features`, `stored`, `stored+request`, or `request` (store unreachable)."),
    ]
    eligible: Annotated[
        bool | None, msgspec.Meta(description="Whether the user is in the population of the metrics.")
    ] = None
    features_missing: int | None = None
    warnings: list[str] = []
    reasons: Annotated[list[Reason] | None, msgspec.Meta(description="If the item has `reasons`.")] = None


class ProblemDocument(msgspec.Struct, omit_defaults=True):
    """An RFC 9457 problem document."""

    type: str
    title: str
    status: int
    detail: str
    remedy: str = ""
    errors: list[FieldError] = []
    request_id: Annotated[
        str, msgspec.Meta(description="That of `X-Request-ID`; an item of a list has none.")
    ] = ""


class ItemError(msgspec.Struct):
    """The entry of an item without a prediction in the response to a list."""

    user_id: str | None
    error: ProblemDocument


class FieldWarning(msgspec.Struct):
    """Number of stored events of which a value was left out or changed, with the rule that it breaks."""

    field: str
    rule: str
    count: int
    remedy: str


class EventsAccepted(msgspec.Struct):
    """Counts of posted events: received = inserted + duplicates + refused."""

    received: int
    inserted: int
    duplicates: int
    refused: int
    errors: list[FieldError]
    warnings: list[FieldWarning] = []
    unread_fields: Annotated[
        list[str],
        msgspec.Meta(description="Names that are no field of an event; stored under `properties`."),
    ] = []
    links: Annotated[
        int, msgspec.Meta(description="Identity links, of events with two ids, that are new or changed.")
    ] = 0


class ModelAnswer(msgspec.Struct):
    """The loaded model; metrics, threshold and certificate are of its primary (first) policy."""

    name: str
    version: str
    run_id: str
    trained_at: str
    bento_model: str
    feature_set_hash: str
    features: list[str]
    question: dict[str, Any]
    policies: list[str]
    base_rate: float
    metrics: dict[str, Any]
    threshold: float
    certificate: dict[str, Any] | None
    uncertified: str | None
    by_policy: dict[str, Any]
    reference: dict[str, float]
    data: dict[str, Any]
    reload_refused: str | None


class RunReport(msgspec.Struct, forbid_unknown_fields=True):
    """A run of a flow that failed, crashed or is late, as Prefect's automations report it."""

    flow: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    state: Annotated[
        Literal["Failed", "TimedOut", "Crashed", "Late"], msgspec.Meta(description="Name of the run's state.")
    ]
    run: Annotated[str, msgspec.Meta(max_length=200)] = ""
    message: Annotated[str, msgspec.Meta(max_length=10_000)] = ""


class PromotionEntry(msgspec.Struct):
    """A change of the version in production; `previous` was in production before."""

    number: int
    at: str
    kind: Annotated[str, msgspec.Meta(description="promote or rollback")]
    version: str
    previous: str | None
    actor: str | None
    reason: str | None
    evidence: dict[str, Any] = {}


class PromotionHistory(msgspec.Struct):
    """Every change of the version in production, newest first."""

    history: list[PromotionEntry]


class JobProgressAnswer(msgspec.Struct):
    """How far a job is; `rows` is estimated until the file has been read."""

    step: Annotated[
        Literal["waiting", "reading", "scoring", "storing", "done"],
        msgspec.Meta(description="What the job is at."),
    ]
    rows: int | None
    rows_done: int
    users: int | None
    users_done: int


class JobProblemAnswer(msgspec.Struct):
    """Why a job has no result, and what to do about it."""

    detail: str
    remedy: str


class JobAnswer(msgspec.Struct):
    """A file to score. Times are ISO 8601, UTC."""

    job_id: str
    state: Literal["queued", "running", "completed", "failed", "cancelled"]
    file_name: str
    file_bytes: int
    model_version: Annotated[str, msgspec.Meta(description="The version served when the file was sent.")]
    received_at: str
    started_at: str | None
    finished_at: str | None
    expires_at: Annotated[
        str | None, msgspec.Meta(description="When job and result are deleted; null until the job ends.")
    ]
    attempts: Annotated[int, msgspec.Meta(description="How often the job was begun.")]
    progress: JobProgressAnswer
    problem: JobProblemAnswer | None
    report: Annotated[
        dict[str, Any] | None, msgspec.Meta(description="Counts of the result, as in X-Score-Report.")
    ]
    result: Annotated[str | None, msgspec.Meta(description="Path of the scored CSV.")]


class JobList(msgspec.Struct):
    """The jobs of a key, newest first."""

    jobs: list[JobAnswer]
