"""Jobs as the batch process sees them: claim one, end it or hand it back; recover what was left behind."""

from __future__ import annotations

from datetime import timedelta

from bson import ObjectId
from pymongo import ASCENDING, ReturnDocument

from retail_core.jobs.job_files import delete_files
from retail_core.jobs.job_records import RECEIVING, REMOVED, Job, JobProblem, JobProgress, as_document
from retail_core.jobs.job_store import finish, unneeded_files
from retail_core.store.mongo.connection import Document, Store, server_time
from retail_core.store.mongo.leases import is_this_process, lease_end, lease_ended, new_lease, new_owner

MAX_ATTEMPTS = 3
"""Times that a job is begun before it fails because the process that worked on it always ended."""


class Claim:
    """A job that this process works on.

    Attributes:
        job: as it was claimed.
        result_id: id under which this attempt stores its result.
    """

    def __init__(self, store: Store, job: Job, lease: str, result_id: ObjectId) -> None:
        self.job = job
        self.result_id = result_id
        self._store = store
        self._held: Document = {"_id": job.id, "state": "running", "lease.owner": lease}

    def renew(self, progress: JobProgress) -> bool:
        """Renew the lease and store the progress; False if the job was cancelled or given to another."""
        fields = {"progress": {"$literal": as_document(progress)}, "lease.until": lease_end()}
        return bool(self._store.jobs.update_one(self._held, [{"$set": fields}]).matched_count)

    def complete(self, report: str, result_bytes: int, progress: JobProgress) -> bool:
        """Publish the stored result; False, and it is deleted, if the job is lost."""
        fields: Document = {
            "report": report,
            "result_id": self.result_id,
            "result_bytes": result_bytes,
            "progress": as_document(progress),
        }
        return self._finish("completed", fields)

    def fail(self, problem: JobProblem) -> bool:
        """End the job with a reason; False if the job is lost."""
        return self._finish("failed", {"problem": problem})

    def hand_back(self) -> bool:
        """Queue the job again, as if it had not been begun; False if the job is lost."""
        return _requeue(self._store, self._held, begun=-1)

    def _finish(self, state: str, fields: Document) -> bool:
        if finish(self._store, self._held, state, fields):
            return True
        delete_files(self._store, [self.result_id])
        return False


def claim_job(store: Store) -> Claim | None:
    """Begin the job that waits longest; None if none waits."""
    lease, result_id = new_owner(), ObjectId()
    fields = {
        "state": "running",
        "attempts": {"$add": ["$attempts", 1]},
        "started_at": {"$ifNull": ["$started_at", "$$NOW"]},
        "result_ids": {"$concatArrays": ["$result_ids", [result_id]]},
        "lease": new_lease(lease),
    }
    document = store.jobs.find_one_and_update(
        {"state": "queued"},
        [{"$set": fields}],
        sort=[("received_at", ASCENDING)],
        return_document=ReturnDocument.AFTER,
    )
    return None if document is None else Claim(store, Job.from_document(document), lease, result_id)


def recover_jobs(store: Store) -> None:
    """Queue the jobs again whose process has ended; remove uploads that were cut off.

    Only for a process that works on no job: one of its own that is still running was lost, for instance
    because MongoDB was unreachable. A job that was begun `MAX_ATTEMPTS` times fails.
    """
    for document in store.jobs.find({"state": "running"}):
        lease = document["lease"]
        if not (is_this_process(lease) or lease_ended(store, lease)):
            continue
        condition = {"_id": document["_id"], "state": "running", "lease.owner": lease["owner"]}
        if document["attempts"] < MAX_ATTEMPTS:
            _requeue(store, condition)
            continue
        problem = JobProblem(
            f"The file was begun {MAX_ATTEMPTS} times, and the process that scores it ended each time.",
            "see the service's log; a smaller file needs less memory.",
        )
        finish(store, condition, "failed", {"problem": problem})
    for document in store.jobs.find({"state": RECEIVING}):
        lease = document["lease"]
        if lease_ended(store, lease) or lease["until"] < server_time(store):
            _remove(store, document)


def remove_expired(store: Store) -> None:
    """Delete expired jobs with their results; jobs that waited longer than a result is kept fail."""
    now = server_time(store)
    for document in store.jobs.find({"$or": [{"expires_at": {"$lte": now}}, {"state": REMOVED}]}):
        _remove(store, document)
    hours = store.settings.job_hours
    problem = JobProblem(f"The file was not scored within {hours} h.", "send it again.")
    while True:
        overdue = {"state": "queued", "received_at": {"$lt": now - timedelta(hours=hours)}}
        if not finish(store, overdue, "failed", {"problem": problem}):
            return


def _requeue(store: Store, condition: Document, *, begun: int = 0) -> bool:
    """Queue a running job; `begun` is added to its attempts."""
    waiting = {"state": "queued", "lease": None, "progress": as_document(JobProgress())}
    document = store.jobs.find_one_and_update(condition, {"$set": waiting, "$inc": {"attempts": begun}})
    if document is None:
        return False
    delete_files(store, document["result_ids"])
    return True


def _remove(store: Store, document: Document) -> None:
    """Delete a job after its files; whoever else would change it finds it removed."""
    condition = {"_id": document["_id"], "state": document["state"]}
    if store.jobs.find_one_and_update(condition, {"$set": {"state": REMOVED}}) is not None:
        delete_files(store, unneeded_files(document))
        store.jobs.delete_one({"_id": document["_id"]})
