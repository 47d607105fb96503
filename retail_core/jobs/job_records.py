"""What a job is: its states, its request and its progress, and their form as documents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal, Self

from bson import ObjectId

JobState = Literal["queued", "running", "completed", "failed", "cancelled"]

RECEIVING = "receiving"
"""State before `queued`, while the file arrives; such a job is visible to nobody."""

REMOVED = "removed"
"""State while files and job are deleted; such a job is visible to nobody."""

UNFINISHED = ("queued", "running")
FINISHED = ("completed", "failed", "cancelled")


@dataclass(frozen=True)
class ScoringRequest:
    """How an uploaded file is to be scored.

    Attributes:
        file_name: name of the file as sent.
        source: preset of the dialect; unused where there is a mapping.
        mapping: text of a mapping; empty without one.
        as_of: cut-off, aware UTC; None for the default of lists.
        explained_users: number of the most likely buyers that get reasons.
        model_version: the version that was served when the file was accepted.
    """

    file_name: str
    source: str
    mapping: str
    as_of: datetime | None
    explained_users: int
    model_version: str


@dataclass(frozen=True)
class JobProgress:
    """How far a running job is.

    Attributes:
        step: `waiting`, `reading`, `scoring`, `storing` or `done`.
        rows: rows of the file; None until they are counted.
        rows_done: rows read so far.
        users: users to score; None until they are known.
        users_done: users scored so far.
    """

    step: str = "waiting"
    rows: int | None = None
    rows_done: int = 0
    users: int | None = None
    users_done: int = 0


@dataclass(frozen=True)
class JobProblem:
    """Why a job failed, and what to do about it."""

    message: str
    remedy: str


@dataclass(frozen=True)
class Job:
    """One job. Times are of MongoDB's clock, aware UTC.

    Attributes:
        id: random, part of the job's address.
        owner: whose job it is, see `job_store.receive`.
        received_at: when the upload began.
        attempts: how often it was begun.
        file_id: file in GridFS; deleted when the job ends.
        result_id: result in GridFS; None until the job is completed.
        report: counts of the result, as the header `X-Score-Report` has them.
        expires_at: when job and result are deleted; None until the job ends.
    """

    id: str
    owner: str
    state: JobState
    request: ScoringRequest
    received_at: datetime
    file_id: ObjectId
    file_bytes: int
    attempts: int = 0
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    progress: JobProgress = field(default_factory=JobProgress)
    problem: JobProblem | None = None
    report: str = ""
    result_id: ObjectId | None = None
    result_bytes: int = 0

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """The job of a document whose upload is complete."""
        problem = document.get("problem")
        return cls(
            id=document["_id"],
            owner=document["owner"],
            state=document["state"],
            request=ScoringRequest(**document["request"]),
            received_at=document["received_at"],
            file_id=document["file_id"],
            file_bytes=document["file_bytes"],
            attempts=document["attempts"],
            started_at=document.get("started_at"),
            finished_at=document.get("finished_at"),
            expires_at=document.get("expires_at"),
            progress=JobProgress(**document["progress"]),
            problem=JobProblem(**problem) if problem else None,
            report=document.get("report", ""),
            result_id=document.get("result_id"),
            result_bytes=document.get("result_bytes", 0),
        )


def as_document(value: ScoringRequest | JobProgress | JobProblem) -> dict[str, Any]:
    """The fields of a part of a job."""
    return asdict(value)
