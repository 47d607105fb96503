"""The asynchronous client: the methods of `Client` as coroutines, with equal requests, results and errors."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
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

CONCURRENT_LISTS = 2
"""Lists of `predict_many` that are sent at the same time."""

T = TypeVar("T")


class AsyncClient:
    """One connection pool to the service, for one event loop; the arguments are those of `Client`."""

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
        self._http = httpx.AsyncClient(base_url=url, headers=headers, timeout=timeout, trust_env=trust_env)
        self._retries = Retries(url, retries)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def predict(
        self,
        user_id: str,
        *,
        as_of: datetime | None = None,
        events: Sequence[EventRecord] | None = None,
        features: RequestFeatures | None = None,
        reasons: bool = False,
    ) -> UserPrediction:
        """As `Client.predict`."""
        return await self._run(calls.predict(PredictRequest(user_id, as_of, events, features, reasons)))

    async def predict_many(
        self, requests: Sequence[PredictRequest]
    ) -> list[UserPrediction | RejectedRequest]:
        """As `Client.predict_many`; two lists of a thousand are sent at a time."""
        limit = asyncio.Semaphore(CONCURRENT_LISTS)

        async def run(call: Call[T]) -> T:
            async with limit:
                return await self._run(call)

        responses = await asyncio.gather(*map(run, calls.predict_many(requests)))
        return [entry for response in responses for entry in response]

    async def post_events(self, events: Sequence[EventRecord]) -> EventsReceipt:
        """As `Client.post_events`."""
        return await self._run(calls.post_events(events))

    async def model(self) -> dict[str, Any]:
        """As `Client.model`."""
        return await self._run(calls.model())

    async def reload(self) -> dict[str, Any]:
        """As `Client.reload`."""
        return await self._run(calls.reload())

    async def score_file(
        self,
        path: Path,
        *,
        source: str | None = None,
        mapping: Path | None = None,
        as_of: datetime | None = None,
        explained_users: int = 0,
    ) -> ScoredFile:
        """As `Client.score_file`."""
        refuse_two_dialects(source, mapping)
        with open_file(path) as content:
            job = await self.submit_file(
                file_to_score(
                    path,
                    content,
                    source=source,
                    mapping=mapping,
                    as_of=as_of,
                    explained_users=explained_users,
                )
            )
        return await self.wait_for_job(job)

    async def score_upload(
        self, upload: FileToScore, on_wait: Callable[[ScoringJob], None] = show_nothing
    ) -> ScoredFile:
        """As `Client.score_upload`."""
        return await self.wait_for_job(await self.submit_file(upload), on_wait)

    async def submit_file(self, upload: FileToScore) -> ScoringJob:
        """As `Client.submit_file`; the content is read in another thread and held in memory."""
        if isinstance(upload.content, bytes):
            return await self._run(calls.submit_file(upload))
        content = await asyncio.to_thread(upload.content.read)
        return await self._run(calls.submit_file(replace(upload, content=content)))

    async def job(self, job_id: str) -> ScoringJob:
        """As `Client.job`."""
        return await self._run(calls.job(job_id))

    async def jobs(self) -> list[ScoringJob]:
        """As `Client.jobs`."""
        return await self._run(calls.jobs())

    async def cancel_job(self, job_id: str) -> ScoringJob:
        """As `Client.cancel_job`."""
        return await self._run(calls.cancel_job(job_id))

    async def job_result(self, job_id: str) -> ScoredFile:
        """As `Client.job_result`."""
        return await self._run(calls.job_result(job_id))

    async def wait_for_job(
        self, job: ScoringJob, on_wait: Callable[[ScoringJob], None] = show_nothing
    ) -> ScoredFile:
        """As `Client.wait_for_job`."""
        wait = JobWait(time.monotonic(), time.monotonic())
        while not job.has_ended:
            wait.check(job, time.monotonic())
            on_wait(job)
            await asyncio.sleep(POLL_SECONDS)
            try:
                job = await self.job(job.job_id)
                wait.answered = time.monotonic()
            except DependencyError:
                if wait.is_lost(time.monotonic()):
                    raise
        refuse_failed(job)
        return await self.job_result(job.job_id)

    async def _run(self, call: Call[T]) -> T:
        attempt = 0
        while isinstance(step := self._retries.decide(call, await self._attempt(call), attempt), float):
            await asyncio.sleep(step)
            attempt += 1
        return call.decode(step)

    async def _attempt(self, call: Call[Any]) -> httpx.Response | httpx.TransportError:
        try:
            return await self._http.request(call.method, call.path, **call.options)
        except httpx.TransportError as error:
            return error
