"""The mounted HTTP routes. They read the request, ask `Api` and write the answer; no logic."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bentos import intake
from bentos.api import Api
from bentos.docs_page import docs_routes
from bentos.problems import Problem, from_retail
from bentos.views import item_error, model_view
from bentos.wire import MAX_EVENTS, Answer
from retail_core.errors import RetailError

JSON = "application/json"


def create_app() -> Starlette:
    """The application; before it serves, its `state` gets `api` and `bento_document`."""
    return Starlette(
        routes=[
            Route("/predict", predict, methods=["POST"]),
            Route("/events", events, methods=["POST"]),
            Route("/model", model, methods=["GET"]),
            Route("/model/reload", reload, methods=["POST"]),
            *docs_routes(),
        ],
        exception_handlers={Problem: _problem, RetailError: _retail_error},
        lifespan=_lifespan,
    )


async def predict(request: Request) -> Response:
    """POST /predict: one item or a list."""
    items, is_list = intake.items(await request.body(), datetime.now(UTC))
    outcomes = await _api(request).answer(items)
    if not is_list:
        only = outcomes[0]
        return only.response() if isinstance(only, Problem) else _json(only)
    if all(isinstance(outcome, Problem) and outcome.retry for outcome in outcomes):
        raise next(outcome for outcome in outcomes if isinstance(outcome, Problem))
    pairs = zip(items, outcomes, strict=True)
    return _json([one if isinstance(one, Answer) else item_error(item, one) for item, one in pairs])


async def events(request: Request) -> Response:
    """POST /events: stored by a majority before the 202."""
    rows = intake.event_rows(await request.body(), MAX_EVENTS)
    return _json(await asyncio.to_thread(_api(request).poster.post, rows), status=202)


async def model(request: Request) -> Response:
    """GET /model."""
    api = _api(request)
    return _json(model_view(api.settings.model_name, api.loaded, api.reload_refused))


async def reload(request: Request) -> Response:
    """POST /model/reload: 409 with the reason where the new version is refused."""
    api = _api(request)
    try:
        loaded = await api.reload()
    except RetailError as error:
        raise Problem(409, "reload-refused", str(error)) from error
    return _json(model_view(api.settings.model_name, loaded, None))


def _api(request: Request) -> Api:
    api: Api = request.app.state.api
    return api


def _json(content: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status_code=status, media_type=JSON)


async def _problem(_: Request, problem: Exception) -> Response:
    if not isinstance(problem, Problem):
        raise problem
    return problem.response()


async def _retail_error(_: Request, error: Exception) -> Response:
    if not isinstance(error, RetailError):
        raise error
    return from_retail(error).response()


@contextlib.asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    yield
    api: Api | None = getattr(app.state, "api", None)
    if api is not None:
        await api.close()
