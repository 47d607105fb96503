"""Jobs whose file or result contains a user: find, export and erase them.

The file of a waiting or running job is read as it will be when it is scored, and is searched for the user's
id in the columns of ids and in refused rows. Of a completed job the result is searched, since its file was
deleted when it ended; of every job the texts that may quote the file.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

from bson import ObjectId

from retail_core.csv_export import escape_formula
from retail_core.errors import DataError, InputError, IntegrityError
from retail_core.jobs.former_results import remove_former_results
from retail_core.jobs.job_files import fetch_file
from retail_core.jobs.job_records import FINISHED, UNFINISHED, Job, JobProblem, ScoringRequest, as_document
from retail_core.jobs.job_store import finish
from retail_core.privacy.erasure_log import ErasureLog
from retail_core.scoring.uploaded_files import contains_user, dialect_of
from retail_core.store.mongo.connection import Document, Store
from retail_core.temporary_files import temporary_folder

ERASED = JobProblem(
    "A user in the file was erased (`retail user delete`), and the file or result with it.",
    "send the file again without the user.",
)


def jobs_with_user(store: Store, user_id: str) -> Iterator[Document]:
    """Jobs that contain the user: `job_id`, `state` and `rows`, the user's rows of the scored CSV."""
    states = [*UNFINISHED, *FINISHED]
    for document in store.jobs.find({"state": {"$in": states}}, {"_id": 1}):
        content = _content_of_user(store, document["_id"], user_id)
        if content is not None:
            job, rows = content
            yield {"job_id": job.id, "state": job.state, "rows": rows}


def erase_from_jobs(store: Store, user_id: str) -> None:
    """Let the jobs that contain the user fail, which deletes their files, results, reports and names.

    Raises:
        DependencyError: results of an earlier release cannot be deleted.
    """
    for entry in list(jobs_with_user(store, user_id)):
        while (content := _content_of_user(store, entry["job_id"], user_id)) is not None:
            job, _ = content
            if finish(store, {"_id": job.id, "state": job.state}, "failed", _erased_fields(job)):
                break
    remove_former_results(store.settings)


def refuse_erased_users(store: Store, user_ids: Iterable[str], since: datetime) -> None:
    """Refuse a file with users that were erased after it was received.

    Args:
        store: has the record of erasures.
        user_ids: the users of the file.
        since: when the file was received, aware.

    Raises:
        DataError: a user was erased since then.
    """
    log = ErasureLog.from_documents(store.erasures.find())
    if not any(at >= since for at in log.erased_at.values()):
        return
    if any(log.is_erased_since(user_id, since) for user_id in user_ids):
        raise DataError(ERASED.message, remedy=ERASED.remedy)


def _erased_fields(job: Job) -> Document:
    request = ScoringRequest("", job.request.source, "", None, 0, job.request.model_version)
    return {
        "problem": ERASED,
        "request": as_document(request),
        "report": "",
        "result_id": None,
        "result_bytes": 0,
    }


def _content_of_user(store: Store, job_id: str, user_id: str) -> tuple[Job, list[dict[str, str]]] | None:
    """The job and the user's rows of its result; None where it does not contain the user or is gone."""
    document = store.jobs.find_one({"_id": job_id, "state": {"$in": [*UNFINISHED, *FINISHED]}})
    if document is None:
        return None
    job = Job.from_document(document)
    rows = _result_rows(store, job, user_id) if job.result_id is not None else []
    if rows or _quotes(job, user_id):
        return job, rows
    if job.state in UNFINISHED and _file_contains(store, job, user_id):
        return job, rows
    return None


def _quotes(job: Job, user_id: str) -> bool:
    """Whether a text of the job that may quote its file contains the id as a word."""
    examples = json.loads(job.report)["examples"] if job.report else []
    texts = [job.request.file_name, *(str(example.get("value", "")) for example in examples)]
    if job.problem is not None:
        texts.append(job.problem.message)
    word = re.compile(rf"(?<!\w){re.escape(user_id)}(?!\w)")
    return any(word.search(text) for text in texts)


def _result_rows(store: Store, job: Job, user_id: str) -> list[dict[str, str]]:
    csv_id = escape_formula(user_id)
    with temporary_folder("retail-job-") as folder:
        path = folder / "result.csv"
        if not _fetched(store, job.result_id, path):
            return []
        with path.open(encoding="utf-8", newline="") as file:
            return [row for row in csv.DictReader(file) if row["user_id"] == csv_id]


def _file_contains(store: Store, job: Job, user_id: str) -> bool:
    """Whether the file of a job has the user; also true of a file that cannot be read."""
    with temporary_folder("retail-job-") as folder:
        path = folder / "upload"
        if not _fetched(store, job.file_id, path):
            return False
        try:
            return contains_user(path, dialect_of(job.request.source, job.request.mapping), user_id)
        except InputError:
            return True


def _fetched(store: Store, file_id: ObjectId | None, path: Path) -> bool:
    """Copy a file of GridFS to `path`; False where the job has ended meanwhile and it is gone."""
    if file_id is None:
        return False
    try:
        fetch_file(store, file_id, path)
    except IntegrityError:
        return False
    return True
