"""Requests of the service, what their responses mean, and when they are repeated: shared by both clients."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import httpx

from retail_core.client.json_values import json_value
from retail_core.client.messages import (
    EventRecord,
    EventsReceipt,
    FileToScore,
    PredictRequest,
    ReasonForUser,
    RejectedRequest,
    ScoredFile,
    ScoringJob,
    UserPrediction,
)
from retail_core.errors import DataError, DependencyError, InputError, RetailError

MAX_ITEMS = 1_000
RETRIED_STATUSES = frozenset({429, 502, 503, 504})
LONGEST_PAUSE_SECONDS = 30.0
RELOAD_SECONDS = 300.0

T = TypeVar("T")


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request.

    Attributes:
        method: HTTP method.
        path: of the route.
        decode: makes the result of a successful response.
        options: further arguments of `httpx`.
        may_repeat: whether it is sent again after a failure; False where that would store something twice.
    """

    method: str
    path: str
    decode: Callable[[httpx.Response], T]
    options: Mapping[str, Any] = field(default_factory=dict)
    may_repeat: bool = True


def predict(request: PredictRequest) -> Call[UserPrediction]:
    """`POST /predict` for one user."""
    return Call("POST", "/predict", lambda response: _prediction(response.json()), {"json": request.body()})


def predict_many(requests: Sequence[PredictRequest]) -> list[Call[list[UserPrediction | RejectedRequest]]]:
    """`POST /predict` for any number of users, in as many calls as it takes."""
    slices = [requests[start : start + MAX_ITEMS] for start in range(0, len(requests), MAX_ITEMS)]
    return [
        Call("POST", "/predict", _predictions, {"json": [request.body() for request in part]})
        for part in slices
    ]


def post_events(events: Sequence[EventRecord]) -> Call[EventsReceipt]:
    """`POST /events`."""
    body = json_value(list(events), "events")
    return Call("POST", "/events", lambda response: build(EventsReceipt, response.json()), {"json": body})


def model() -> Call[dict[str, Any]]:
    """`GET /model`."""
    return Call("GET", "/model", lambda response: dict(response.json()))


def reload() -> Call[dict[str, Any]]:
    """`POST /model/reload`."""
    return Call("POST", "/model/reload", lambda response: dict(response.json()), {"timeout": RELOAD_SECONDS})


def submit_file(upload: FileToScore) -> Call[ScoringJob]:
    """`POST /score_batch`; not repeated, because each file that arrives becomes a job."""
    files = {"file": (upload.name, upload.content, "application/octet-stream")}
    options = {"files": files, "data": upload.form()}
    return Call("POST", "/score_batch", _job, options, may_repeat=False)


def job(job_id: str) -> Call[ScoringJob]:
    """`GET /jobs/{id}`."""
    return Call("GET", _job_path(job_id), _job)


def jobs() -> Call[list[ScoringJob]]:
    """`GET /jobs`."""
    return Call("GET", "/jobs", lambda response: [build(ScoringJob, job) for job in response.json()["jobs"]])


def cancel_job(job_id: str) -> Call[ScoringJob]:
    """`POST /jobs/{id}/cancel`."""
    return Call("POST", f"{_job_path(job_id)}/cancel", _job)


def job_result(job_id: str) -> Call[ScoredFile]:
    """`GET /jobs/{id}/result`."""
    return Call("GET", f"{_job_path(job_id)}/result", _scored_file)


@dataclass(frozen=True)
class Retries:
    """Decides after each attempt whether a call is finished, repeated, or has failed.

    Attributes:
        url: address of the service, for errors.
        limit: attempts after the first one.
    """

    url: str
    limit: int

    def decide(
        self, call: Call[Any], outcome: httpx.Response | httpx.TransportError, attempt: int
    ) -> httpx.Response | float:
        """The response if it is a success, else the seconds until the next attempt.

        Args:
            call: the request.
            outcome: the response, or why there is none.
            attempt: number of attempts before this one.

        Raises:
            RetailError: the call has failed.
        """
        is_last = attempt >= (self.limit if call.may_repeat else 0)
        if isinstance(outcome, httpx.TransportError):
            if is_last:
                raise self._unreachable(type(outcome).__name__) from outcome
            return _pause_seconds(attempt, None)
        if outcome.is_success:
            return outcome
        if is_last or outcome.status_code not in RETRIED_STATUSES:
            raise _error_of(outcome)
        return _pause_seconds(attempt, outcome.headers.get("Retry-After"))

    def _unreachable(self, cause: str) -> DependencyError:
        return DependencyError(
            f"The service at {self.url.rstrip('/')} does not answer ({cause}).",
            remedy="start it with `retail serve`, or everything with `retail up`, or correct its address.",
        )


def build(kind: type[T], content: Mapping[str, Any]) -> T:
    """A message from JSON; fields that only a newer release knows are ignored."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in content.items() if name in names})


def _job_path(job_id: str) -> str:
    return f"/jobs/{quote(job_id, safe='')}"


def _job(response: httpx.Response) -> ScoringJob:
    return build(ScoringJob, response.json())


def _scored_file(response: httpx.Response) -> ScoredFile:
    return ScoredFile(response.content, json.loads(response.headers["X-Score-Report"]))


def _predictions(response: httpx.Response) -> list[UserPrediction | RejectedRequest]:
    return [_prediction_or_rejection(entry) for entry in response.json()]


def _prediction_or_rejection(content: Mapping[str, Any]) -> UserPrediction | RejectedRequest:
    if "error" not in content:
        return _prediction(content)
    return build(RejectedRequest, {**content["error"], "user_id": content["user_id"]})


def _prediction(content: Mapping[str, Any]) -> UserPrediction:
    reasons = tuple(build(ReasonForUser, reason) for reason in content.get("reasons", ()))
    return build(UserPrediction, {**content, "reasons": reasons})


def _error_of(response: httpx.Response) -> RetailError:
    """The error of a problem document (RFC 9457), or of any other refusal."""
    try:
        problem = dict(response.json())
    except (ValueError, TypeError):
        problem = {}
    message = (
        f"{response.status_code}: {problem.get('detail') or response.text[:200] or response.reason_phrase}"
    )
    remedy = str(problem.get("remedy") or "")
    if response.status_code in RETRIED_STATUSES or response.status_code >= 500:
        request_id = problem.get("request_id")
        message += f" (request {request_id})" if request_id else ""
        return DependencyError(message, remedy=remedy or "try again later; the service's log says more.")
    if response.status_code == 404:
        return DataError(message, remedy=remedy or "check the id, or send the user's events along.")
    return InputError(message, remedy=remedy or "correct the request; docs/api.md lists what is accepted.")


def _pause_seconds(attempt: int, retry_after: str | None) -> float:
    if retry_after is not None and retry_after.isdigit():
        return min(float(retry_after), LONGEST_PAUSE_SECONDS)
    return min(0.2 * 2.0**attempt, LONGEST_PAUSE_SECONDS)
