"""Scoring jobs in MongoDB: states, leases of ended processes, expiry, files in GridFS."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from bentos import job_runner
from retail_core.errors import DataError, InputError, IntegrityError
from retail_core.jobs import job_store
from retail_core.jobs.job_files import BLOCK_BYTES, CHUNKS, FILES, fetch_file, read_file, store_file
from retail_core.jobs.job_queue import MAX_ATTEMPTS, Claim, claim_job, recover_jobs, remove_expired
from retail_core.jobs.job_records import Job, JobProblem, JobProgress, ScoringRequest
from retail_core.jobs.job_store import (
    JobEnded,
    TooManyJobs,
    Upload,
    UploadLost,
    cancel_job,
    discard,
    enqueue,
    find_job,
    keep_receiving,
    list_jobs,
    receive,
)
from retail_core.model.served_model import ServedModel
from retail_core.privacy import erasure
from retail_core.privacy.job_contents import refuse_erased_users
from retail_core.store.mongo.connection import Store, server_time

pytestmark = pytest.mark.integration

OWNER = "owner"
REQUEST = ScoringRequest("log.csv", "canonical", "", None, 0, "1")
LOG = b"user_id,event_time,event_type\nu1,2025-01-01T00:00:00Z,search\n"
RESULT = b"user_id,probability,rank\nu1,0.5,1\n"
REPORT = '{"users":1,"examples":[{"line":2,"value":"u7 "}]}'


def add(store: Store, content: bytes = LOG, owner: str = OWNER, request: ScoringRequest = REQUEST) -> Job:
    upload = receive(store, owner)
    upload.file.write(content)
    return enqueue(store, upload, request)


def claimed(store: Store) -> Claim:
    claim = claim_job(store)
    assert claim is not None
    return claim


def complete(store: Store, claim: Claim, folder: Path, content: bytes = RESULT, report: str = REPORT) -> bool:
    path = folder / "scored.csv"
    path.write_bytes(content)
    size = store_file(store, claim.result_id, path)
    return claim.complete(report, size, JobProgress("done"))


def stored_files(store: Store) -> tuple[int, int]:
    return store.database[FILES].count_documents({}), store.database[CHUNKS].count_documents({})


def hold_by(store: Store, job_id: str, **process: Any) -> None:
    """Let another process hold the lease of a job."""
    store.jobs.update_one({"_id": job_id}, {"$set": {f"lease.{name}": v for name, v in process.items()}})


@pytest.fixture(scope="module")
def ended_process() -> dict[str, Any]:
    """A process of this machine that has ended."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    born = psutil.Process(process.pid).create_time()
    process.communicate()
    return {"host": socket.gethostname(), "pid": process.pid, "born": born}


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES, 2 * BLOCK_BYTES + 5])
def test_files_come_back_as_they_were_written(store: Store, tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    job = add(store, content)
    assert b"".join(read_file(store, job.file_id)) == content
    fetch_file(store, job.file_id, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == content
    assert job.file_bytes == size


def test_a_job_is_completed_and_its_file_deleted(store: Store, tmp_path: Path) -> None:
    job = add(store)
    assert (job.state, job.attempts, job.expires_at) == ("queued", 0, None)
    claim = claimed(store)
    assert claim.job.id == job.id
    assert claim.renew(JobProgress("reading", rows=10, rows_done=3))
    running = find_job(store, OWNER, job.id)
    assert (running.state, running.attempts, running.progress.rows_done) == ("running", 1, 3)
    assert claim_job(store) is None
    assert complete(store, claim, tmp_path)
    done = find_job(store, OWNER, job.id)
    assert (done.state, done.report, done.result_bytes) == ("completed", REPORT, len(RESULT))
    assert done.result_id is not None
    assert b"".join(read_file(store, done.result_id)) == RESULT
    assert done.expires_at is not None
    assert done.finished_at is not None
    assert done.expires_at - done.finished_at == timedelta(hours=store.settings.job_hours)
    assert stored_files(store) == (1, 1)
    with pytest.raises(IntegrityError):
        fetch_file(store, job.file_id, tmp_path / "gone")


def test_jobs_are_begun_in_the_order_of_their_arrival(store: Store) -> None:
    first, second = add(store), add(store)
    assert [claimed(store).job.id, claimed(store).job.id] == [first.id, second.id]


def test_a_job_is_seen_by_its_owner_only(store: Store) -> None:
    job = add(store)
    assert [entry.id for entry in list_jobs(store, OWNER)] == [job.id]
    assert list_jobs(store, "other") == []
    for read in (find_job, cancel_job):
        with pytest.raises(DataError, match="no such job"):
            read(store, "other", job.id)
    assert find_job(store, OWNER, job.id).state == "queued"


def test_an_upload_is_not_seen_before_its_end_and_can_be_discarded(store: Store) -> None:
    upload = receive(store, OWNER)
    upload.file.write(b"x" * (BLOCK_BYTES + 1))
    assert list_jobs(store, OWNER) == []
    assert claim_job(store) is None
    discard(store, upload)
    assert (store.jobs.count_documents({}), stored_files(store)) == (0, (0, 0))


def test_too_many_unfinished_jobs_of_an_owner_are_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_store, "MAX_UNFINISHED", 2)
    add(store)
    receive(store, OWNER)
    with pytest.raises(TooManyJobs):
        receive(store, OWNER)
    receive(store, "other")


def test_a_waiting_job_is_cancelled(store: Store) -> None:
    job = add(store)
    for _ in range(2):
        cancelled = cancel_job(store, OWNER, job.id)
        assert (cancelled.state, cancelled.problem is not None) == ("cancelled", True)
    assert claim_job(store) is None
    assert stored_files(store) == (0, 0)


def test_a_running_job_is_cancelled_and_its_result_dropped(store: Store, tmp_path: Path) -> None:
    job = add(store)
    claim = claimed(store)
    assert cancel_job(store, OWNER, job.id).state == "cancelled"
    assert not claim.renew(JobProgress("scoring"))
    assert not complete(store, claim, tmp_path)
    assert not claim.fail(JobProblem("x", "y"))
    assert not claim.hand_back()
    assert find_job(store, OWNER, job.id).state == "cancelled"
    assert stored_files(store) == (0, 0)


def test_an_ended_job_is_not_cancelled(store: Store, tmp_path: Path) -> None:
    job = add(store)
    complete(store, claimed(store), tmp_path)
    with pytest.raises(JobEnded):
        cancel_job(store, OWNER, job.id)
    assert find_job(store, OWNER, job.id).state == "completed"


def test_a_job_that_is_handed_back_counts_no_attempt(store: Store, tmp_path: Path) -> None:
    job = add(store)
    claim = claimed(store)
    store_file(store, claim.result_id, Path(__file__))
    assert claim.hand_back()
    waiting = find_job(store, OWNER, job.id)
    assert (waiting.state, waiting.attempts, waiting.progress) == ("queued", 0, JobProgress())
    assert stored_files(store)[0] == 1
    assert complete(store, claimed(store), tmp_path)


def test_a_job_of_an_ended_process_is_repeated_a_bounded_number_of_times(
    store: Store, ended_process: dict[str, Any], tmp_path: Path
) -> None:
    job = add(store)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        claim = claimed(store)
        assert claim.job.attempts == attempt
        store_file(store, claim.result_id, Path(__file__))
        hold_by(store, job.id, **ended_process)
        recover_jobs(store)
    failed = find_job(store, OWNER, job.id)
    assert (failed.state, claim_job(store)) == ("failed", None)
    assert failed.problem is not None
    assert f"{MAX_ATTEMPTS} times" in failed.problem.message
    assert not complete(store, claim, tmp_path)
    assert stored_files(store) == (0, 0)


def test_jobs_of_living_processes_are_left_alone(store: Store) -> None:
    add(store)
    claim = claimed(store)
    later = server_time(store) + timedelta(minutes=1)
    hold_by(store, claim.job.id, host="another-machine", until=later)
    recover_jobs(store)
    assert claim.renew(JobProgress("reading"))
    hold_by(store, claim.job.id, until=later - timedelta(minutes=2))
    recover_jobs(store)
    assert not claim.renew(JobProgress("reading"))


def test_a_job_that_this_process_lost_is_repeated(store: Store) -> None:
    """As after MongoDB was unreachable: the process lives, and works on nothing."""
    add(store)
    claim = claimed(store)
    recover_jobs(store)
    assert not claim.renew(JobProgress("reading"))
    assert claimed(store).job.attempts == 2


def cut_off(store: Store, upload: Upload, process: dict[str, Any]) -> None:
    hold_by(store, upload.job_id, **process)


def expired(store: Store, upload: Upload, _: dict[str, Any]) -> None:
    hold_by(store, upload.job_id, until=server_time(store) - timedelta(seconds=1))


@pytest.mark.parametrize("abandon", [cut_off, expired])
def test_an_abandoned_upload_is_removed(store: Store, ended_process: dict[str, Any], abandon: Any) -> None:
    upload, kept = receive(store, OWNER), receive(store, OWNER)
    for each in (upload, kept):
        each.file.write(b"x" * (BLOCK_BYTES + 1))
        keep_receiving(store, each)
    abandon(store, upload, ended_process)
    recover_jobs(store)
    with pytest.raises(UploadLost):
        keep_receiving(store, upload)
    with pytest.raises(UploadLost):
        enqueue(store, upload, REQUEST)
    assert store.jobs.count_documents({}) == 1
    assert enqueue(store, kept, REQUEST).state == "queued"
    assert stored_files(store) == (1, 2)


def test_ended_jobs_expire_with_their_results(store: Store, tmp_path: Path) -> None:
    done, waiting = add(store), add(store)
    complete(store, claimed(store), tmp_path)
    remove_expired(store)
    assert find_job(store, OWNER, done.id).state == "completed"
    past = server_time(store) - timedelta(seconds=1)
    store.jobs.update_one({"_id": done.id}, {"$set": {"expires_at": past}})
    with pytest.raises(DataError):
        find_job(store, OWNER, done.id)
    remove_expired(store)
    assert [job["_id"] for job in store.jobs.find()] == [waiting.id]
    assert stored_files(store) == (1, 1)


def test_a_removal_that_was_killed_is_completed(store: Store, tmp_path: Path) -> None:
    job = add(store)
    complete(store, claimed(store), tmp_path)
    store.jobs.update_one({"_id": job.id}, {"$set": {"state": "removed"}})
    remove_expired(store)
    assert (store.jobs.count_documents({}), stored_files(store)) == (0, (0, 0))


def test_a_file_that_waits_too_long_fails(store: Store) -> None:
    old, new = add(store), add(store)
    received = server_time(store) - timedelta(hours=store.settings.job_hours, seconds=1)
    store.jobs.update_one({"_id": old.id}, {"$set": {"received_at": received}})
    remove_expired(store)
    assert find_job(store, OWNER, old.id).state == "failed"
    assert find_job(store, OWNER, new.id).state == "queued"
    assert stored_files(store) == (1, 1)


@pytest.fixture
def jobs_of_users(store: Store, tmp_path: Path) -> dict[str, Job]:
    """A job of each kind with the user `7`, and others without."""
    files = {
        "result": LOG,
        "other result": LOG,
        "error": LOG,
        "report": LOG,
        "waiting": LOG.replace(b"u1", b"7"),
        "refused row": LOG + b"7,never,search\n",
        "features": b"user_id,hours_since_event\n7,1.0\n",
        "unreadable": b"\x1f\x8b7",
        "other waiting": LOG.replace(b"search", b"7"),
    }
    jobs = {}
    for name in ("result", "other result", "error", "report"):
        jobs[name] = add(store, files[name])
        claim = claimed(store)
        if name == "error":
            claim.fail(JobProblem("user 7 is there twice", "correct it."))
        rows = {"result": RESULT + b"7,0.25,2\n", "other result": RESULT + b"u7,7,7\n"}.get(name, RESULT)
        report = REPORT.replace("u7 ", "row of 7") if name == "report" else REPORT
        if name != "error":
            complete(store, claim, tmp_path, rows, report)
    for name in ("waiting", "refused row", "features", "unreadable", "other waiting"):
        jobs[name] = add(store, files[name])
    return jobs


def test_jobs_with_the_user_are_erased_and_no_others(
    store: Store, jobs_of_users: dict[str, Job], tmp_path: Path
) -> None:
    assert erasure.count_stored(store, "7")["upload_results"] == 7
    out = tmp_path / "user.jsonl"
    assert erasure.export(store, ["7"], out) == 7
    assert '"probability": "0.25"' in out.read_text()
    assert erasure.erase(store, "7")["upload_results"] == 7
    assert erasure.count_stored(store, "7")["upload_results"] == 0
    states = {name: find_job(store, OWNER, job.id).state for name, job in jobs_of_users.items()}
    kept = {"other result": "completed", "other waiting": "queued"}
    assert states == dict.fromkeys(jobs_of_users, "failed") | kept
    assert stored_files(store) == (2, 2)
    erased = find_job(store, OWNER, jobs_of_users["waiting"].id)
    assert erased.problem is not None
    assert "erased" in erased.problem.message
    assert erased.request.file_name == ""


def test_a_running_job_with_an_erased_user_is_stopped(store: Store, tmp_path: Path) -> None:
    job = add(store, LOG.replace(b"u1", b"7"))
    claim = claimed(store)
    erasure.erase(store, "7")
    assert not claim.renew(JobProgress("scoring"))
    assert not complete(store, claim, tmp_path)
    assert find_job(store, OWNER, job.id).state == "failed"


def test_a_file_that_arrived_during_an_erasure_is_refused(store: Store) -> None:
    before = add(store)
    refuse_erased_users(store, ["7"], since=before.received_at)
    erasure.erase(store, "7")
    with pytest.raises(DataError, match="was erased"):
        refuse_erased_users(store, ["u1", "7"], since=before.received_at)
    refuse_erased_users(store, ["u1", "u7"], since=before.received_at)
    refuse_erased_users(store, ["7"], since=server_time(store) + timedelta(seconds=1))


def test_results_of_earlier_releases_are_deleted(store: Store) -> None:
    file = store.settings.former_upload_results
    file.parent.mkdir(parents=True, exist_ok=True)
    for name in (file, file.with_name(f"{file.name}-wal")):
        name.write_bytes(b"user 7")
    erasure.erase(store, "7")
    assert not list(file.parent.glob("task_result*"))


def test_a_job_that_is_claimed_while_the_process_ends_is_handed_back(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, has_claimed, may_go_on = add(store), threading.Event(), threading.Event()

    def claim_slowly(opened: Store) -> Claim | None:
        claim = claim_job(opened)
        has_claimed.set()
        may_go_on.wait(10)
        return claim

    def load_no_model(_: str) -> ServedModel:
        raise InputError("There is no model.", remedy="train one.")

    monkeypatch.setattr(job_runner, "claim_job", claim_slowly)
    runner = job_runner.JobRunner(store.settings, load_no_model)
    runner.start()
    assert has_claimed.wait(10)
    threading.Timer(0.3, may_go_on.set).start()
    runner.stop()
    document = store.jobs.find_one({"_id": job.id})
    assert document is not None
    assert (document["state"], document["attempts"], document["lease"]) == ("queued", 0, None)
