"""The batch process's work: claim jobs one after another, score their files, store the results.

Whatever ends this process, a claimed job is queued again by the next one (`retail_core.jobs.job_queue`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pymongo
from pymongo.errors import PyMongoError

from retail_core.errors import DependencyError, RetailError
from retail_core.jobs.job_files import fetch_file, store_file
from retail_core.jobs.job_queue import Claim, claim_job, recover_jobs, remove_expired
from retail_core.jobs.job_records import JobProblem, JobProgress
from retail_core.model.served_model import ServedModel
from retail_core.settings import Settings
from retail_core.store.mongo.connection import Store, open_store
from retail_core.temporary_files import temporary_folder

POLL_SECONDS = 0.5
"""Interval at which an idle process looks for a job."""

RENEW_SECONDS = 1.0
"""Interval at which a working process renews its lease, stores its progress, and notices a cancellation."""

UPKEEP_SECONDS = 5.0
"""Interval at which jobs of ended processes are queued again and expired ones are deleted."""

RETRY_SECONDS = 2.0
"""Pause after MongoDB was unreachable."""

STOP_SECONDS = 3.0
"""Time for a job to notice that the process ends, and for MongoDB to take it back."""

log = logging.getLogger("bentoml.serve")


class JobStopped(Exception):  # noqa: N818 - no error
    """Raised in the work on a job that was cancelled or handed back."""


class Attempt:
    """The work on one claimed job: its progress, renewed in the background, and whether to go on."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.progress = JobProgress("reading")
        self._is_lost = threading.Event()
        self._has_ended = threading.Event()
        self._renewals = threading.Thread(target=self._renew, name="job-lease", daemon=True)

    def __enter__(self) -> Attempt:
        self._renewals.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._has_ended.set()
        self._renewals.join()

    def stop(self) -> None:
        """Make the work end at its next step."""
        self._is_lost.set()

    def advance(self, progress: JobProgress) -> None:
        """Set the progress.

        Raises:
            JobStopped: the job is no longer this process's.
        """
        self.progress = progress
        if self._is_lost.is_set():
            raise JobStopped

    def on_rows(self, rows_read: int, rows: int | None) -> None:
        """As `advance`, while the file is read."""
        self.advance(JobProgress("reading", rows, rows_read))

    def on_users(self, done: int, users: int) -> None:
        """As `advance`, while users are scored."""
        self.advance(replace(self.progress, step="scoring", users=users, users_done=done))

    def _renew(self) -> None:
        while not self._has_ended.wait(RENEW_SECONDS):
            try:
                if not self.claim.renew(self.progress):
                    self._is_lost.set()
            except PyMongoError as error:
                log.warning("The lease of a job was not renewed: %s", type(error).__name__)


class JobRunner:
    """Works on jobs in a thread of its own until it is stopped.

    Args:
        settings: where MongoDB and the home are.
        load: returns the model of a version, or the newest one where that version is not there any more.
    """

    def __init__(self, settings: Settings, load: Callable[[str], ServedModel]) -> None:
        self._settings = settings
        self._load = load
        self._is_stopping = threading.Event()
        self._attempt: Attempt | None = None
        self._claiming = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)

    def start(self) -> None:
        """Start working."""
        self._thread.start()

    def stop(self) -> None:
        """Take no further job, and hand back the one in work; takes at most thrice `STOP_SECONDS`."""
        self._is_stopping.set()
        if self._claiming.acquire(timeout=STOP_SECONDS):
            self._claiming.release()
        attempt = self._attempt
        if attempt is not None:
            attempt.stop()
            try:
                with pymongo.timeout(STOP_SECONDS):
                    attempt.claim.hand_back()
            except PyMongoError as error:
                log.warning("A job was not handed back: %s", type(error).__name__)
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        while not self._is_stopping.is_set():
            try:
                with open_store(self._settings) as store:
                    self._work(store)
            except (RetailError, PyMongoError) as error:
                cause = error if isinstance(error, RetailError) else type(error).__name__
                log.warning("Files cannot be scored now: %s", cause)
            except Exception:
                log.exception("The work on jobs failed")
            self._is_stopping.wait(RETRY_SECONDS)

    def _work(self, store: Store) -> None:
        next_upkeep = 0.0
        while not self._is_stopping.is_set():
            if time.monotonic() >= next_upkeep:
                recover_jobs(store)
                remove_expired(store)
                next_upkeep = time.monotonic() + UPKEEP_SECONDS
            attempt = self._begin_next(store)
            if attempt is None:
                self._is_stopping.wait(POLL_SECONDS)
            else:
                self._process(store, attempt)

    def _begin_next(self, store: Store) -> Attempt | None:
        """Claim a job, unless this process ends: `stop` then sees each job that was claimed."""
        with self._claiming:
            claim = None if self._is_stopping.is_set() else claim_job(store)
            self._attempt = None if claim is None else Attempt(claim)
            return self._attempt

    def _process(self, store: Store, attempt: Attempt) -> None:
        job = attempt.claim.job
        log.info("Job %s: attempt %d", job.id, job.attempts)
        try:
            with attempt, temporary_folder("retail-job-") as folder:
                state = self._score(store, attempt, folder)
        finally:
            self._attempt = None
        log.info("Job %s: %s", job.id, state)

    def _score(self, store: Store, attempt: Attempt, folder: Path) -> str:
        """Score the job's file and end the job; returns the end in a word.

        Raises:
            PyMongoError, DependencyError: MongoDB failed; the job will be queued again.
        """
        claim, out = attempt.claim, folder / "scored.csv"
        try:
            report = self._scored(store, attempt, folder / "upload", out)
            attempt.advance(replace(attempt.progress, step="storing"))
            size = store_file(store, claim.result_id, out)
            done = replace(attempt.progress, step="done")
            return "completed" if claim.complete(report, size, done) else "lost"
        except JobStopped:
            return "stopped"
        except (PyMongoError, DependencyError):
            raise
        except RetailError as error:
            # Column names of a file that is not text may hold bytes that MongoDB cannot store.
            message = error.message.replace(str(folder / "upload"), "The file")
            message = message.encode("utf-8", "backslashreplace").decode()
            claim.fail(JobProblem(message, error.remedy))
        except Exception:
            log.exception("Job %s failed", claim.job.id)
            claim.fail(JobProblem("The service failed.", "see the log of the service."))
        return "failed"

    def _scored(self, store: Store, attempt: Attempt, path: Path, out: Path) -> str:
        """Write the scored CSV to `out`; returns its report."""
        # The real-time process imports this module too, and starts a second sooner without these.
        from bentos.batch import BatchRequest, score_file
        from retail_core.privacy.job_contents import refuse_erased_users
        from retail_core.scoring.uploaded_files import dialect_of, read_upload

        job = attempt.claim.job
        fetch_file(store, job.file_id, path)
        served = self._load(job.request.model_version)
        dialect = dialect_of(job.request.source, job.request.mapping)
        upload = read_upload(path, dialect, served.spec.feature_set, attempt.on_rows)
        refuse_erased_users(store, upload.user_ids, since=job.received_at)
        request = BatchRequest(job.request.as_of, job.received_at, job.request.explained_users)
        report = score_file(served, upload, out, request, self._settings, attempt.on_users)
        return report.header()
