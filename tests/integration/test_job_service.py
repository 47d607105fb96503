"""Scoring jobs of the running service: kills, cancellation, keys, several large files."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from pydantic import SecretStr

from retail_core.client import Client, FileToScore
from retail_core.errors import DataError, InputError
from retail_core.jobs.job_files import CHUNKS, FILES
from retail_core.jobs.job_queue import MAX_ATTEMPTS
from retail_core.settings import Settings
from retail_core.store.mongo.connection import open_store
from tests.serving import AS_OF, KEY, Shop, ended_job, running_service, send_file

pytestmark = pytest.mark.integration

OTHER_KEY = "other"
FORM = {"as_of": AS_OF.isoformat()}
COPIES = 3
"""Copies of the shop's log in a file that takes some seconds to score."""

LARGE_FILES = 5
PAUSE_SECONDS = 5.0
"""Time after which BentoML's processes close the connections between them."""

SECONDS = 120.0


@pytest.fixture(scope="module")
def large_log(shop: Shop) -> bytes:
    """Copies of the shop's log, each with users of its own."""
    header, *rows = shop.log.read_bytes().splitlines()
    assert header.startswith(b"user_id,")
    copies = (f"{number}-".encode() + row for number in range(COPIES) for row in rows)
    return b"\n".join([header, *copies]) + b"\n"


@pytest.fixture(scope="module")
def settings(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    copied = shop.copy(tmp_path_factory.mktemp("jobs") / "home").settings
    return copied.model_copy(update={"api_keys": SecretStr(f"{KEY},{OTHER_KEY}")})


@pytest.fixture(scope="module")
def api(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    log = tmp_path_factory.mktemp("logs") / "api.log"
    with running_service(settings, log, ends_well=False, is_measured=True) as client:
        yield client


@pytest.fixture(scope="module")
def restarted(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of the service that is stopped and killed; it has no keys."""
    return shop.copy(tmp_path_factory.mktemp("restarted") / "home").settings


def within(condition: Any, what: str) -> Any:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what} did not happen within {SECONDS:g} s")


def processes(home: Path) -> list[psutil.Process]:
    """The service's processes: those that have this home in their environment."""
    return [process for process in psutil.process_iter() if home_of(process) == str(home)]


def home_of(process: psutil.Process) -> str | None:
    try:
        command = " ".join(process.cmdline())
        return process.environ().get("RETAIL_HOME") if "bento" in command else None
    except psutil.Error:
        return None


def batch_worker(home: Path) -> psutil.Process:
    (worker,) = [process for process in processes(home) if "BatchScorer" in " ".join(process.cmdline())]
    return worker


def left_folders(home: Path) -> list[Path]:
    """Folders of the files of jobs; one is deleted a moment after its job has ended."""
    return list((home / "tmp").glob("*/retail-job-*"))


def is_running(api: httpx.Client, path: str) -> bool:
    job = api.get(path).json()
    assert job["state"] in {"queued", "running"}, job
    return bool(job["state"] == "running")


def result(api: httpx.Client, path: str) -> bytes:
    job = ended_job(api, path)
    assert job["state"] == "completed", job
    answer = api.get(f"{path}/result")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    return answer.content


def test_jobs_survive_the_kill_of_the_batch_worker(
    api: httpx.Client, settings: Settings, large_log: bytes
) -> None:
    expected = result(api, send_file(api, "log.csv", large_log, **FORM))
    running = send_file(api, "log.csv", large_log, **FORM)
    waiting = send_file(api, "log.csv", large_log, **FORM)
    within(lambda: is_running(api, running), "the begin")
    assert api.get(waiting).json()["state"] == "queued"
    batch_worker(settings.home_dir).kill()
    assert result(api, running) == expected
    assert result(api, waiting) == expected
    attempts = [api.get(path).json()["attempts"] for path in (running, waiting)]
    assert attempts == [2, 1]
    within(lambda: not left_folders(settings.home_dir), "the removal of the files")


def test_jobs_survive_stops_and_kills_of_the_service(
    restarted: Settings, large_log: bytes, tmp_path: Path
) -> None:
    home = restarted.home_dir
    with running_service(restarted, tmp_path / "stopped.log") as api:
        done = send_file(api, "log.csv", large_log, **FORM)
        expected = result(api, done)
        running = send_file(api, "log.csv", large_log, **FORM)
        waiting = send_file(api, "log.csv", large_log, **FORM)
        within(lambda: is_running(api, running), "the begin")
    with open_store(restarted) as store:
        stored = store.jobs.find_one({"_id": running.rpartition("/")[2]})
        assert stored is not None
        assert (stored["state"], stored["attempts"], stored["lease"]) == ("queued", 0, None)
    within(lambda: not left_folders(home), "the removal of the files")
    with running_service(restarted, tmp_path / "killed.log", ends_well=False) as api:
        within(lambda: is_running(api, running), "the begin")
        for process in processes(home):
            process.kill()
    with running_service(restarted, tmp_path / "restarted.log") as api:
        assert [result(api, path) for path in (done, running, waiting)] == [expected] * 3
        assert [api.get(path).json()["attempts"] for path in (running, waiting)] == [2, 1]
    within(lambda: not left_folders(home), "the removal of the files")


def test_a_file_whose_scoring_always_ends_the_worker_fails_with_a_reason(
    api: httpx.Client, settings: Settings, large_log: bytes
) -> None:
    path = send_file(api, "log.csv", large_log, **FORM)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        within(lambda n=attempt: api.get(path).json()["attempts"] == n, f"attempt {attempt}")
        batch_worker(settings.home_dir).kill()
    job = ended_job(api, path)
    assert (job["state"], job["attempts"]) == ("failed", MAX_ATTEMPTS)
    assert f"{MAX_ATTEMPTS} times" in job["problem"]["detail"]
    assert job["problem"]["remedy"]


def test_waiting_and_running_jobs_are_cancelled(
    api: httpx.Client, settings: Settings, large_log: bytes
) -> None:
    running = send_file(api, "log.csv", large_log, **FORM)
    waiting = send_file(api, "log.csv", large_log, **FORM)
    last = send_file(api, "log.csv", large_log[:100_000].rpartition(b"\n")[0], as_of="2025-01-02T00:00:00Z")
    within(lambda: is_running(api, running), "the begin")
    for path in (waiting, running):
        for _ in range(2):
            cancelled = api.post(f"{path}/cancel")
            assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
        answer = api.get(f"{path}/result")
        assert (answer.status_code, answer.json()["type"]) == (409, "/docs#no-result")
    assert ended_job(api, last)["state"] == "completed"
    again = api.post(f"{last}/cancel")
    assert (again.status_code, again.json()["type"]) == (409, "/docs#job-ended")
    with open_store(settings) as store:
        file_ids = {document["_id"] for document in store.database[FILES].find()}
        used = {job.get("result_id") for job in store.jobs.find({"state": "completed"})}
        assert file_ids == used
        assert set(store.database[CHUNKS].distinct("files_id")) == used


def test_a_job_belongs_to_the_key_that_sent_it(api: httpx.Client, shop: Shop) -> None:
    with (
        Client(str(api.base_url), api_key=KEY) as client,
        Client(str(api.base_url), api_key=OTHER_KEY) as other,
    ):
        job = client.submit_file(FileToScore("log.csv", shop.log.read_bytes(), as_of=FORM["as_of"]))
        steps: list[str] = []
        scored = client.wait_for_job(job, lambda seen: steps.append(seen.state))
        assert steps[0] == "queued"
        assert scored.report["users"] == len(scored.csv.splitlines()) - 1
        assert client.jobs()[0].job_id == job.job_id
        assert other.jobs() == []
        for read in (other.job, other.job_result, other.cancel_job):
            with pytest.raises(DataError, match="404"):
                read(job.job_id)
        with pytest.raises(InputError, match="completed already"):
            client.cancel_job(job.job_id)
        assert client.job_result(job.job_id).csv == scored.csv
        # The answer names what the next request needs.
        sent = api.post("/score_batch", files={"file": ("a.csv", b"user_id\n")})
        assert (sent.status_code, sent.headers["location"]) == (202, f"/jobs/{sent.json()['job_id']}")
        assert api.post(sent.headers["location"]).status_code == 405
        assert KEY not in str(client.jobs())


def test_the_result_has_the_bytes_of_retail_score(api: httpx.Client, shop: Shop) -> None:
    expected = (shop.log.parent / "scores.csv").read_bytes()
    assert result(api, send_file(api, "log.csv", shop.log.read_bytes(), reasons="1000", **FORM)) == expected


def test_large_files_seconds_apart_are_all_scored(api: httpx.Client, large_log: bytes) -> None:
    results = set()
    for number in range(LARGE_FILES):
        path = send_file(api, f"{number}.csv", large_log, **FORM)
        results.add(result(api, path))
        time.sleep(PAUSE_SECONDS)
    assert len(results) == 1


def test_an_interrupted_upload_leaves_nothing(
    api: httpx.Client, settings: Settings, large_log: bytes
) -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'

    def body() -> Iterator[bytes]:
        yield head
        yield large_log[:5_000_000]
        raise OSError("the client is gone")

    before = api.get("/jobs").json()["jobs"]
    with pytest.raises(OSError, match="gone"):
        api.post("/score_batch", headers={"content-type": "multipart/form-data; boundary=b"}, content=body())
    with open_store(settings) as store:
        within(lambda: store.jobs.count_documents({"state": "receiving"}) == 0, "the removal")
        used = {job.get("result_id") for job in store.jobs.find({"state": "completed"})}
        assert set(store.database[CHUNKS].distinct("files_id")) == used
    assert api.get("/jobs").json()["jobs"] == before
