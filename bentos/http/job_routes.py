"""The HTTP routes of scoring jobs: send a file, look at jobs, cancel them, read results."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from bentos.http.guard import API_KEY
from bentos.http.upload_form import MAPPING_FIELD, MAX_REASONS, UploadForm, check_mapping, form_boundary
from bentos.job_service import JobService, UploadWriter, result_blocks
from bentos.messages import JobAnswer, JobList, JobProblemAnswer, JobProgressAnswer
from bentos.prediction_service import PredictionService
from bentos.problems import FieldError, Problem, invalid
from retail_core import sources
from retail_core.api_keys import ApiKey
from retail_core.errors import DataError, InputError, IntegrityError
from retail_core.jobs.job_files import BLOCK_BYTES
from retail_core.jobs.job_records import Job, ScoringRequest
from retail_core.jobs.job_store import JobEnded, TooManyJobs, UploadLost, cancel_job, find_job, list_jobs
from retail_core.times import iso, parse_instant

REPORT_HEADER = "X-Score-Report"
CSV_TYPE = "text/csv; charset=utf-8"
POLL_SECONDS = "2"
"""Value of Retry-After for a job that has not ended."""

Value = TypeVar("Value")
Handler = Callable[[Request], Awaitable[Response]]

_mapping_checks = ThreadPoolExecutor(1, "mapping")
"""One thread, so that mappings take at most a share of the processor from predictions."""


def job_routes() -> list[Route]:
    """The routes; each request sees only the jobs of its own key."""
    return [
        Route("/score_batch", _with_job_problems(score_batch), methods=["POST"]),
        Route("/jobs", _with_job_problems(jobs), methods=["GET"]),
        Route("/jobs/{job_id}", _with_job_problems(job), methods=["GET"]),
        Route("/jobs/{job_id}/result", _with_job_problems(result), methods=["GET"]),
        Route("/jobs/{job_id}/cancel", _with_job_problems(cancel), methods=["POST"]),
    ]


async def score_batch(request: Request) -> Response:
    """POST /score_batch: 202 after the file is stored."""
    form = UploadForm(form_boundary(request.scope["headers"]))
    writer = UploadWriter(_service(request).jobs, _owner(request))
    try:
        async for chunk in request.stream():
            form.feed(chunk)
            if form.file_bytes_held >= BLOCK_BYTES:
                await writer.write(form.take_file_bytes())
            await writer.keep()
        form.finish()
        scoring = await _scoring_request(form, _service(request).reloader.loaded.served.spec.version)
        await writer.write(form.take_file_bytes())
        accepted = await writer.enqueue(scoring)
    except BaseException:
        await asyncio.shield(writer.discard())
        raise
    headers = {"Location": f"/jobs/{accepted.id}", "Retry-After": POLL_SECONDS}
    return _json(job_answer(accepted), status=202, headers=headers)


async def jobs(request: Request) -> Response:
    """GET /jobs."""
    owner = _owner(request)
    listed = await _jobs(request).run(lambda store: list_jobs(store, owner))
    return _json(JobList([job_answer(entry) for entry in listed]))


async def job(request: Request) -> Response:
    """GET /jobs/{job_id}."""
    return _json(job_answer(await _job_of(request)))


async def cancel(request: Request) -> Response:
    """POST /jobs/{job_id}/cancel: 409 where the job has ended otherwise."""
    owner, job_id = _owner(request), request.path_params["job_id"]
    return _json(job_answer(await _jobs(request).run(lambda store: cancel_job(store, owner, job_id))))


async def result(request: Request) -> Response:
    """GET /jobs/{job_id}/result: the CSV; 409 where there is none."""
    ended = await _job_of(request)
    if ended.state in ("queued", "running"):
        wait = (("Retry-After", POLL_SECONDS),)
        raise Problem(
            409, "not-finished", f"The job is {ended.state}.", headers=wait, remedy="ask again later."
        )
    if ended.result_id is None:
        problem = ended.problem
        detail = problem.message if problem else f"The job was {ended.state}."
        raise Problem(409, "no-result", detail, remedy=problem.remedy if problem else "send the file again.")
    blocks = result_blocks(_jobs(request), ended)
    first = await anext(blocks, b"")
    headers = {
        "Content-Length": str(ended.result_bytes),
        "Content-Disposition": 'attachment; filename="scored.csv"',
        REPORT_HEADER: ended.report,
    }
    return StreamingResponse(_joined(first, blocks), media_type=CSV_TYPE, headers=headers)


def job_answer(job: Job) -> JobAnswer:
    """A job as the routes describe it."""
    return JobAnswer(
        job_id=job.id,
        state=job.state,
        file_name=job.request.file_name,
        file_bytes=job.file_bytes,
        model_version=job.request.model_version,
        received_at=iso(job.received_at),
        started_at=_iso(job.started_at),
        finished_at=_iso(job.finished_at),
        expires_at=_iso(job.expires_at),
        attempts=job.attempts,
        progress=JobProgressAnswer(**asdict(job.progress)),
        problem=JobProblemAnswer(job.problem.message, job.problem.remedy) if job.problem else None,
        report=json.loads(job.report) if job.report else None,
        result=f"/jobs/{job.id}/result" if job.state == "completed" else None,
    )


async def _scoring_request(form: UploadForm, model_version: str) -> ScoringRequest:
    """The request of a complete form.

    Raises:
        Problem: 422 with the field at fault.
    """
    if MAPPING_FIELD in form.texts:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(_mapping_checks, check_mapping, form.texts[MAPPING_FIELD])
    texts = {name: _text(name, content) for name, content in form.texts.items()}
    source = texts.get("source") or "canonical"
    _checked("source", sources.get_preset, source)
    as_of = _checked("as_of", parse_instant, texts["as_of"]) if texts.get("as_of") else None
    reasons = texts.get("reasons") or "0"
    if not (reasons.isascii() and reasons.isdigit() and int(reasons) <= MAX_REASONS):
        raise invalid("reasons", f"is a number from 0 to {MAX_REASONS}")
    mapping = texts.get(MAPPING_FIELD, "")
    return ScoringRequest(form.file_name, source, mapping, as_of, int(reasons), model_version)


def _text(name: str, content: bytes) -> str:
    try:
        return content.decode().strip()
    except UnicodeDecodeError as error:
        raise invalid(name, "is not UTF-8 text") from error


def _checked(name: str, parse: Callable[[str], Value], text: str) -> Value:
    try:
        return parse(text)
    except InputError as error:
        errors = (FieldError(name, error.message),)
        raise Problem(422, "invalid-request", error.message, errors, remedy=error.remedy) from error


def _with_job_problems(handler: Handler) -> Handler:
    """The handler, with the errors of the job store as problems."""

    async def handle(request: Request) -> Response:
        try:
            return await handler(request)
        except TooManyJobs as error:
            wait = (("Retry-After", "60"),)
            raise Problem(429, "too-many-jobs", error.message, headers=wait, remedy=error.remedy) from error
        except UploadLost as error:
            raise Problem(503, "upload-lost", error.message, retry=True, remedy=error.remedy) from error
        except JobEnded as error:
            raise Problem(409, "job-ended", error.message, remedy=error.remedy) from error
        except (DataError, IntegrityError) as error:
            raise Problem(404, "not-found", error.message, remedy=error.remedy) from error

    return handle


async def _job_of(request: Request) -> Job:
    owner, job_id = _owner(request), request.path_params["job_id"]
    return await _jobs(request).run(lambda store: find_job(store, owner, job_id))


def _owner(request: Request) -> str:
    """A name for the key of the request, from which neither the key nor its stored hash can be computed."""
    key: ApiKey = request.scope[API_KEY]
    return hashlib.sha256(b"owner of jobs:" + key.digest).hexdigest()


async def _joined(first: bytes, blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for block in blocks:
        yield block


def _iso(instant: datetime | None) -> str | None:
    return None if instant is None else iso(instant.astimezone(UTC))


def _service(request: Request) -> PredictionService:
    service: PredictionService = request.app.state.service
    return service


def _jobs(request: Request) -> JobService:
    return _service(request).jobs


def _json(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    body = msgspec.json.encode(content)
    return Response(body, status_code=status, media_type="application/json", headers=headers)
