"""The mounted HTTP routes beside `/predict`. They read the request, ask `Api` and write the answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bentos import intake
from bentos.api import Api
from bentos.docs_page import docs_routes
from bentos.problems import Problem, from_retail
from bentos.swap import settle
from bentos.views import model_view
from bentos.wire import MAX_EVENTS
from retail_core.errors import RetailError

JSON = "application/json"


def create_app() -> Starlette:
    """The application; before it serves, its `state` gets `api`, `access`, `turn` and `bento_document`."""
    return Starlette(
        routes=[
            Route("/events", events, methods=["POST"]),
            Route("/model", model, methods=["GET"]),
            Route("/model/reload", reload, methods=["POST"]),
            *docs_routes(),
        ],
        exception_handlers={Problem: _problem, RetailError: _retail_error},
        lifespan=_lifespan,
    )


async def events(request: Request) -> Response:
    """POST /events: stored by a majority before the 202."""
    rows = intake.event_rows(await request.body(), MAX_EVENTS)
    return _json(await _api(request).poster.post(rows), status=202)


async def model(request: Request) -> Response:
    """GET /model."""
    api = _api(request)
    return _json(model_view(api.settings.model_name, api.model.loaded, api.model.refused))


async def reload(request: Request) -> Response:
    """POST /model/reload: 409 with the reason where the new version is refused."""
    api = _api(request)
    try:
        loaded = await api.model.reload()
    except RetailError as error:
        raise Problem(409, "reload-refused", error.message, remedy=error.remedy) from error
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
    api: Api = app.state.api
    access = asyncio.create_task(app.state.access.run())
    api.start()
    settle()
    if await app.state.turn.wait():
        await api.model.catch_up()
    yield
    access.cancel()
    app.state.access.flush()
    await api.close()
