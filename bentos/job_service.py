"""Jobs for the routes: operations on the job store in threads of their own, with time limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from bentos.store_connection import StoreConnection
from retail_core.errors import DependencyError
from retail_core.jobs.job_files import read_file
from retail_core.jobs.job_records import Job, ScoringRequest
from retail_core.jobs.job_store import Upload, discard, enqueue, keep_receiving, receive
from retail_core.settings import Settings
from retail_core.store.mongo.connection import Store

THREADS = 4
OPERATION_SECONDS = 10.0
"""Time limit of one operation; those on files handle a block at a time."""

RENEW_SECONDS = 10.0
"""Interval at which the lease of an upload is renewed."""

Result = TypeVar("Result")


class JobService:
    """Runs operations on jobs without blocking the event loop."""

    def __init__(self, settings: Settings) -> None:
        self._connection = StoreConnection(settings)
        self._threads = ThreadPoolExecutor(THREADS, "jobs")

    async def run(self, operation: Callable[[Store], Result]) -> Result:
        """The result of an operation.

        Raises:
            DependencyError: MongoDB does not answer.
            RetailError: as the operation.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._run, operation)

    def _run(self, operation: Callable[[Store], Result]) -> Result:
        return self._connection.run(operation, OPERATION_SECONDS)

    def close(self) -> None:
        """Close the store after the operations in progress."""
        self._threads.shutdown(cancel_futures=True)
        self._connection.close()


class UploadWriter:
    """Stores a file while it is received; the job begins with its first block.

    Args:
        jobs: runs the operations.
        owner: whose job it is.
    """

    def __init__(self, jobs: JobService, owner: str) -> None:
        self._jobs = jobs
        self._owner = owner
        self._upload: Upload | None = None
        self._renewed_at = 0.0

    async def write(self, data: bytes) -> None:
        """Append `data`.

        Raises:
            TooManyJobs: the owner has too many unfinished jobs.
            DependencyError: MongoDB does not answer.
        """
        upload = await self._begun()
        await self._jobs.run(lambda _: upload.file.write(data))
        await self.keep()

    async def keep(self) -> None:
        """Renew the lease if it is time.

        Raises:
            UploadLost, DependencyError: as `keep_receiving`.
        """
        upload, now = self._upload, asyncio.get_running_loop().time()
        if upload is not None and now - self._renewed_at >= RENEW_SECONDS:
            await self._jobs.run(lambda store: keep_receiving(store, upload))
            self._renewed_at = now

    async def enqueue(self, request: ScoringRequest) -> Job:
        """Queue the job after its last byte.

        Raises:
            UploadLost, TooManyJobs, DependencyError: as `write` and `keep`.
        """
        upload = await self._begun()
        return await self._jobs.run(lambda store: enqueue(store, upload, request))

    async def discard(self) -> None:
        """Delete what was stored; where that fails, the batch process does it."""
        upload = self._upload
        if upload is None:
            return
        try:
            await self._jobs.run(lambda store: discard(store, upload))
        except DependencyError:
            return

    async def _begun(self) -> Upload:
        if self._upload is None:
            self._upload = await self._jobs.run(lambda store: receive(store, self._owner))
            self._renewed_at = asyncio.get_running_loop().time()
        return self._upload


async def result_blocks(jobs: JobService, job: Job) -> AsyncIterator[bytes]:
    """The blocks of a completed job's CSV.

    Raises:
        IntegrityError: the result was deleted.
        DependencyError: MongoDB does not answer.
    """
    if job.result_id is None:
        return
    result_id = job.result_id
    blocks = await jobs.run(lambda store: read_file(store, result_id))
    while block := await jobs.run(lambda _: next(blocks, b"")):
        yield block
