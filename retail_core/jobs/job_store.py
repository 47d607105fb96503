"""Jobs as their senders see them: receive a file, look jobs up, cancel them.

Every change of a state is one conditional update of the document, so that of several processes one wins.
The states: `receiving` -> `queued` -> `running` -> `completed`, `failed` or `cancelled`; a running job whose
process has ended is queued again (`job_queue`).
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from bson import ObjectId
from pymongo import DESCENDING, ReturnDocument

from retail_core.errors import DataError, InputError
from retail_core.jobs.job_files import JobFileWriter, delete_files
from retail_core.jobs.job_records import (
    FINISHED,
    RECEIVING,
    UNFINISHED,
    Job,
    JobProblem,
    JobProgress,
    ScoringRequest,
    as_document,
)
from retail_core.store.mongo.connection import Document, Store, server_time
from retail_core.store.mongo.leases import lease_end, new_lease, new_owner

MAX_UNFINISHED = 100
"""Jobs of one owner that wait or run; further uploads are refused."""

LISTED = 1_000
"""Most jobs that a list contains."""


class TooManyJobs(InputError):  # noqa: N818 - the name says what is wrong
    """The owner has too many unfinished jobs."""


class UploadLost(DataError):  # noqa: N818 - the name says what is wrong
    """The job was removed while its file arrived."""


class JobEnded(DataError):  # noqa: N818 - the name says what is wrong
    """The job has ended, and cannot be cancelled."""


@dataclass
class Upload:
    """A job whose file arrives: `file` takes its bytes; `lease` is held by this process."""

    job_id: str
    lease: str
    file: JobFileWriter


def receive(store: Store, owner: str) -> Upload:
    """Create a job whose file arrives now.

    Args:
        store: an open database.
        owner: names the sender; only requests with the same owner see the job.

    Raises:
        TooManyJobs: `MAX_UNFINISHED` jobs of the owner wait or run.
    """
    states = [RECEIVING, *UNFINISHED]
    if store.jobs.count_documents({"owner": owner, "state": {"$in": states}}) >= MAX_UNFINISHED:
        raise TooManyJobs(
            f"{MAX_UNFINISHED} files of this key wait or are being scored.",
            remedy="wait until some are scored, or cancel some.",
        )
    job_id, lease, file_id = secrets.token_hex(16), new_owner(), ObjectId()
    document: Document = {
        "owner": owner,
        "state": RECEIVING,
        "file_id": file_id,
        "result_ids": [],
        "attempts": 0,
        "progress": as_document(JobProgress()),
    }
    literals = {name: {"$literal": value} for name, value in document.items()}
    fields = literals | {"received_at": "$$NOW", "lease": new_lease(lease)}
    store.jobs.update_one({"_id": job_id}, [{"$set": fields}], upsert=True)
    return Upload(job_id, lease, JobFileWriter(store, file_id))


def keep_receiving(store: Store, upload: Upload) -> None:
    """Renew the lease of an upload, so that no other process takes it for abandoned.

    Raises:
        UploadLost: one did.
    """
    condition = {"_id": upload.job_id, "state": RECEIVING, "lease.owner": upload.lease}
    if not store.jobs.update_one(condition, [{"$set": {"lease.until": lease_end()}}]).matched_count:
        raise UploadLost("The upload was interrupted.", remedy="send the file again.")


def enqueue(store: Store, upload: Upload, request: ScoringRequest) -> Job:
    """Queue a job after its last byte.

    Raises:
        UploadLost: it was taken for abandoned meanwhile.
    """
    upload.file.close()
    queued = {
        "state": "queued",
        "lease": None,
        "request": as_document(request),
        "file_bytes": upload.file.size,
    }
    condition = {"_id": upload.job_id, "state": RECEIVING, "lease.owner": upload.lease}
    document = store.jobs.find_one_and_update(
        condition, {"$set": queued}, return_document=ReturnDocument.AFTER
    )
    if document is None:
        discard(store, upload)
        raise UploadLost("The upload was interrupted.", remedy="send the file again.")
    return Job.from_document(document)


def discard(store: Store, upload: Upload) -> None:
    """Delete what has arrived of an upload that will not be completed."""
    delete_files(store, [upload.file.file_id])
    store.jobs.delete_one({"_id": upload.job_id, "state": RECEIVING})


def find_job(store: Store, owner: str, job_id: str) -> Job:
    """The job of that owner.

    Raises:
        DataError: the owner has no such job, or it has expired.
    """
    document = store.jobs.find_one({"_id": job_id, "owner": owner, **_visible(store)})
    if document is None:
        raise no_such_job()
    return Job.from_document(document)


def list_jobs(store: Store, owner: str) -> Sequence[Job]:
    """The newest `LISTED` jobs of the owner, newest first."""
    documents = store.jobs.find({"owner": owner, **_visible(store)})
    newest = documents.sort([("received_at", DESCENDING), ("_id", DESCENDING)]).limit(LISTED)
    return [Job.from_document(document) for document in newest]


def cancel_job(store: Store, owner: str, job_id: str) -> Job:
    """Cancel a waiting or running job and delete its file; a cancelled one stays so.

    The process that works on it notices within seconds and stops at its next step.

    Raises:
        DataError: the owner has no such job.
        JobEnded: it is completed or has failed.
    """
    job = find_job(store, owner, job_id)
    if job.state in UNFINISHED:
        reason = JobProblem("The job was cancelled.", "send the file again.")
        finish(store, {"_id": job_id, "state": {"$in": list(UNFINISHED)}}, "cancelled", {"problem": reason})
        job = find_job(store, owner, job_id)
    if job.state != "cancelled":
        raise JobEnded(f"The job is {job.state} already.", remedy="read it with GET /jobs/{id}.")
    return job


def finish(store: Store, condition: Document, state: str, fields: Document) -> bool:
    """End the job that meets the condition; returns whether there was one.

    Its file and what incomplete attempts have written are deleted; the rest follows `expires_at`.
    """
    ended: Document = {
        name: as_document(value) if isinstance(value, JobProblem) else value for name, value in fields.items()
    }
    now = server_time(store)
    expiry = now + timedelta(hours=store.settings.job_hours)
    ended |= {"state": state, "lease": None, "finished_at": now, "expires_at": expiry}
    before = store.jobs.find_one_and_update(condition, {"$set": ended})
    if before is None:
        return False
    delete_files(store, unneeded_files(before, keep=ended.get("result_id")))
    return True


def unneeded_files(document: Document, keep: ObjectId | None = None) -> list[ObjectId]:
    """Ids of all files of a job but the one to keep."""
    return [file_id for file_id in (document["file_id"], *document["result_ids"]) if file_id != keep]


def no_such_job() -> DataError:
    """The error for a job that does not exist, has expired, or belongs to another owner."""
    return DataError("There is no such job.", remedy="check the id; a job expires some time after it ended.")


def _visible(store: Store) -> dict[str, Any]:
    """Condition of complete uploads that have not expired."""
    now = server_time(store)
    unexpired = [{"expires_at": {"$exists": False}}, {"expires_at": {"$gt": now}}]
    return {"state": {"$in": [*UNFINISHED, *FINISHED]}, "$or": unexpired}
