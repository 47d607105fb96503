"""The HTTP routes beside `/predict`: events, the model, the documentation."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import asdict

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bentos.correlation import REQUEST_ID
from bentos.exposition import exposition
from bentos.http.bentoml_schema import schema_route
from bentos.http.docs_page import docs_routes
from bentos.http.job_routes import job_routes
from bentos.messages import MAX_EVENTS, ModelAnswer
from bentos.model_loader import LoadedModel, freeze_live_objects
from bentos.prediction_service import PredictionService
from bentos.problems import Problem, from_retail
from bentos.request_items import decode_event_rows, decode_run_report
from retail_core.errors import RetailError
from retail_core.times import iso

JSON = "application/json"


def create_app() -> Starlette:
    """The application with our routes.

    Before it serves, its `state` gets `service`, `access_log`, `leader_lock` and `bentoml_openapi`.
    """
    return Starlette(
        routes=[
            Route("/events", events, methods=["POST"]),
            Route("/model", model, methods=["GET"]),
            Route("/model/history", history, methods=["GET"]),
            Route("/model/reload", reload, methods=["POST"]),
            Route("/alerts/run", report_run, methods=["POST"]),
            Route("/metrics", metrics, methods=["GET"]),
            schema_route(),
            *job_routes(),
            *docs_routes(),
        ],
        exception_handlers={Problem: _problem, RetailError: _retail_error},
        lifespan=_lifespan,
    )


async def events(request: Request) -> Response:
    """POST /events: 202 after a majority write."""
    decoded = await decode_event_rows(await request.body(), MAX_EVENTS)
    return _json(await _service(request).store_events(decoded), status=202)


async def model(request: Request) -> Response:
    """GET /model."""
    service = _service(request)
    name, reloader = service.settings.model_name, service.reloader
    return _json(model_answer(name, reloader.loaded, reloader.reload_error))


async def history(request: Request) -> Response:
    """GET /model/history: every change of the version in production, newest first."""
    return _json(await _service(request).promotion_history())


async def report_run(request: Request) -> Response:
    """POST /alerts/run: 202 after the alert is stored and a first delivery was tried."""
    await _service(request).alerts.report_run(decode_run_report(await request.body()))
    return Response(status_code=202)


async def reload(request: Request) -> Response:
    """POST /model/reload: 409 with the reason where the new version is refused."""
    service = _service(request)
    try:
        loaded = await service.reloader.reload()
    except RetailError as error:
        raise Problem(409, "reload-refused", error.message, remedy=error.remedy) from error
    return _json(model_answer(service.settings.model_name, loaded, None))


async def metrics(request: Request) -> Response:
    """GET /metrics: in Prometheus' text format, or as OpenMetrics where `Accept` prefers it."""
    own_families = _service(request).metrics.families()
    accepted = request.headers.get("accept", "")
    content, media_type = await asyncio.to_thread(exposition, own_families, accepted)
    return Response(content, headers={"Content-Type": media_type})


def model_answer(name: str, loaded: LoadedModel, reload_error: str | None) -> ModelAnswer:
    """The body of `GET /model`: the loaded model with its metrics, thresholds and certificates."""
    spec = loaded.served.spec
    return ModelAnswer(
        name=name,
        version=spec.version,
        run_id=spec.run_id,
        trained_at=iso(spec.trained_at),
        bento_model=loaded.tag,
        feature_set_hash=spec.feature_set.hash,
        features=list(spec.feature_set.columns),
        question=asdict(spec.feature_set.task),
        policies=list(spec.policies),
        base_rate=spec.base_rate,
        metrics=spec.metrics[spec.primary],
        threshold=spec.thresholds[spec.primary]["contact"],
        certificate=spec.certificate,
        uncertified=spec.reasons[spec.primary],
        by_policy={
            policy: {
                "metrics": spec.metrics[policy],
                "thresholds": spec.thresholds[policy],
                "certificate": spec.certificates[policy],
            }
            for policy in spec.policies
        },
        reference=spec.reference,
        data=spec.data,
        reload_refused=reload_error,
    )


def _service(request: Request) -> PredictionService:
    service: PredictionService = request.app.state.service
    return service


def _json(content: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status_code=status, media_type=JSON)


async def _problem(request: Request, problem: Exception) -> Response:
    if not isinstance(problem, Problem):
        raise problem
    return problem.response(request.scope[REQUEST_ID])


async def _retail_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, RetailError):
        raise error
    return from_retail(error).response(request.scope[REQUEST_ID])


@contextlib.asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    service: PredictionService = app.state.service
    access_log = asyncio.create_task(app.state.access_log.run())
    service.start()
    freeze_live_objects()
    if await app.state.leader_lock.wait():
        await service.reloader.catch_up()
    yield
    access_log.cancel()
    app.state.access_log.flush()
    await service.close()
