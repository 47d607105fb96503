"""How long a job is waited for, and files that are sent: shared by both clients."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from retail_core.client.json_values import utc_text
from retail_core.client.messages import FileToScore, ScoringJob
from retail_core.errors import DependencyError, InputError

POLL_SECONDS = 0.5
FILE_SECONDS = 3_600.0
OUTAGE_SECONDS = 120.0
"""How long a service that does not answer is waited for while it has a job."""


@dataclass
class JobWait:
    """The time since a job is waited for, and since the service last answered; seconds of one clock."""

    started: float
    answered: float

    def check(self, job: ScoringJob, now: float) -> None:
        """Go on waiting.

        Raises:
            DependencyError: the job has taken too long.
        """
        if now - self.started >= FILE_SECONDS:
            raise DependencyError(
                f"The file was not scored within {FILE_SECONDS / 3600:g} h.",
                remedy=f"the job {job.job_id} goes on; ask for it later.",
            )

    def is_lost(self, now: float) -> bool:
        """Whether the service has not answered for too long."""
        return now - self.answered >= OUTAGE_SECONDS


def show_nothing(_: ScoringJob) -> None:
    """The default of `on_wait`."""


def refuse_failed(job: ScoringJob) -> None:
    """Check the job that has ended.

    Raises:
        InputError: it failed or was cancelled; the message says why.
    """
    if job.problem is not None:
        raise InputError(job.problem["detail"], remedy=job.problem["remedy"])


def file_to_score(
    path: Path,
    content: BinaryIO,
    *,
    source: str | None,
    mapping: Path | None,
    as_of: datetime | None,
    explained_users: int,
) -> FileToScore:
    """The form of an open file.

    Raises:
        InputError: the mapping cannot be read.
    """
    cutoff = utc_text(as_of) if as_of else ""
    text = _mapping_text(mapping) if mapping else ""
    return FileToScore(path.name, content, source or "canonical", cutoff, explained_users, text)


def refuse_two_dialects(source: str | None, mapping: Path | None) -> None:
    """Check that a file has one dialect.

    Raises:
        InputError: there are a source and a mapping.
    """
    if source is not None and mapping is not None:
        raise InputError("A file has a source or a mapping, not both.", remedy="leave out one of them.")


def open_file(path: Path) -> BinaryIO:
    """The file, open for reading.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", remedy="check the path.") from error


def _mapping_text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"The mapping {path} cannot be read: {error}.", remedy="check the path.") from error
    if not text.strip():
        raise InputError(f"The mapping {path} has no keys.", remedy="docs/sources.md has a worked example.")
    return text
