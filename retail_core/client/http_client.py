"""The synchronous client: one method a route."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from retail_core.client import calls
from retail_core.client.calls import Call, Retries
from retail_core.client.job_waiting import (
    POLL_SECONDS,
    JobWait,
    file_to_score,
    open_file,
    refuse_failed,
    refuse_two_dialects,
    show_nothing,
)
from retail_core.client.messages import (
    EventRecord,
    EventsReceipt,
    FileToScore,
    PredictRequest,
    RejectedRequest,
    RequestFeatures,
    ScoredFile,
    ScoringJob,
    UserPrediction,
)
from retail_core.errors import DependencyError

T = TypeVar("T")


class Client:
    """One connection pool to the service.

    Lost connections and the statuses 429, 502, 503 and 504 are retried after the pause that `Retry-After`
    names, else after 0.2, 0.4, 0.8, ... seconds. Every other route is idempotent; files are not sent again,
    because each becomes a job.

    Args:
        url: address of the service.
        api_key: value of `X-API-Key`; None where the service has no keys.
        timeout: seconds for each attempt.
        retries: attempts after the first one.
        trust_env: whether proxies of the environment are used.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout: float = 10.0,
        retries: int = 4,
        trust_env: bool = True,
    ) -> None:
        headers = {"X-API-Key": api_key} if api_key else {}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout, trust_env=trust_env)
        self._retries = Retries(url, retries)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def predict(
        self,
        user_id: str,
        *,
        as_of: datetime | None = None,
        events: Sequence[EventRecord] | None = None,
        features: RequestFeatures | None = None,
        reasons: bool = False,
    ) -> UserPrediction:
        """The prediction for one user; the arguments are those of `PredictRequest`.

        Raises:
            DataError: nothing is known about the user.
            InputError: the service refuses the request or the key.
            DependencyError: the service (or its MongoDB) does not answer.
        """
        return self._run(calls.predict(PredictRequest(user_id, as_of, events, features, reasons)))

    def predict_many(self, requests: Sequence[PredictRequest]) -> list[UserPrediction | RejectedRequest]:
        """Predictions or rejections, in the order of the requests; any number of them.

        Raises:
            InputError, DependencyError: as `predict`.
        """
        return [entry for call in calls.predict_many(requests) for entry in self._run(call)]

    def post_events(self, events: Sequence[EventRecord]) -> EventsReceipt:
        """Store canonical events durably; posting them again stores nothing.

        Raises:
            InputError: every event was refused.
            DependencyError: MongoDB does not answer; events may or may not be stored.
        """
        return self._run(calls.post_events(events))

    def model(self) -> dict[str, Any]:
        """The served model, as `GET /model` describes it."""
        return self._run(calls.model())

    def reload(self) -> dict[str, Any]:
        """Make the service load the version in production.

        Raises:
            InputError: the service refuses that version; the message says why.
        """
        return self._run(calls.reload())

    def score_file(
        self,
        path: Path,
        *,
        source: str | None = None,
        mapping: Path | None = None,
        as_of: datetime | None = None,
        explained_users: int = 0,
    ) -> ScoredFile:
        """Upload a file, wait until it is scored, and return the result.

        Args:
            path: CSV, .gz, .zst, Parquet or JSON lines.
            source: preset of the dialect; `canonical` without a mapping.
            mapping: YAML file that maps the file, instead of a source.
            as_of: cut-off, UTC without an offset; None: the default of lists, by the newest event.
            explained_users: number of most likely buyers that get reasons.

        Raises:
            InputError: the file is refused, the message says why; or there are a source and a mapping.
            DependencyError: the service does not answer, or took longer than an hour.
        """
        refuse_two_dialects(source, mapping)
        with open_file(path) as content:
            job = self.submit_file(
                file_to_score(
                    path,
                    content,
                    source=source,
                    mapping=mapping,
                    as_of=as_of,
                    explained_users=explained_users,
                )
            )
        return self.wait_for_job(job)

    def score_upload(
        self, upload: FileToScore, on_wait: Callable[[ScoringJob], None] = show_nothing
    ) -> ScoredFile:
        """As `score_file`, for a file in memory; `on_wait` as in `wait_for_job`."""
        return self.wait_for_job(self.submit_file(upload), on_wait)

    def submit_file(self, upload: FileToScore) -> ScoringJob:
        """Send a file; returns the job as soon as the service has stored it.

        Raises:
            InputError: the form is refused, or too many files of this key wait.
            DependencyError: the service does not answer; the file may or may not be stored.
        """
        return self._run(calls.submit_file(upload))

    def job(self, job_id: str) -> ScoringJob:
        """A job of this key.

        Raises:
            DataError: there is none, or it has expired.
            DependencyError: the service does not answer.
        """
        return self._run(calls.job(job_id))

    def jobs(self) -> list[ScoringJob]:
        """The jobs of this key, newest first.

        Raises:
            DependencyError: the service does not answer.
        """
        return self._run(calls.jobs())

    def cancel_job(self, job_id: str) -> ScoringJob:
        """Cancel a waiting or running job; a cancelled one stays so.

        Raises:
            DataError: there is none.
            InputError: it has ended otherwise.
            DependencyError: the service does not answer.
        """
        return self._run(calls.cancel_job(job_id))

    def job_result(self, job_id: str) -> ScoredFile:
        """The result of a completed job.

        Raises:
            DataError: there is no such job.
            InputError: it has no result (yet); the message says why.
            DependencyError: the service does not answer.
        """
        return self._run(calls.job_result(job_id))

    def wait_for_job(
        self, job: ScoringJob, on_wait: Callable[[ScoringJob], None] = show_nothing
    ) -> ScoredFile:
        """Wait until a job has ended and return its result; a restart of the service is waited for.

        Args:
            job: from `submit_file`, `job` or `jobs`.
            on_wait: called with the job each time it was asked for.

        Raises:
            InputError: the job failed or was cancelled; the message says why.
            DependencyError: it has not ended after an hour, or the service does not answer for two minutes.
        """
        wait = JobWait(time.monotonic(), time.monotonic())
        while not job.has_ended:
            wait.check(job, time.monotonic())
            on_wait(job)
            time.sleep(POLL_SECONDS)
            try:
                job = self.job(job.job_id)
                wait.answered = time.monotonic()
            except DependencyError:
                if wait.is_lost(time.monotonic()):
                    raise
        refuse_failed(job)
        return self.job_result(job.job_id)

    def _run(self, call: Call[T]) -> T:
        attempt = 0
        while isinstance(step := self._retries.decide(call, self._attempt(call), attempt), float):
            time.sleep(step)
            attempt += 1
        return call.decode(step)

    def _attempt(self, call: Call[Any]) -> httpx.Response | httpx.TransportError:
        try:
            return self._http.request(call.method, call.path, **call.options)
        except httpx.TransportError as error:
            return error
