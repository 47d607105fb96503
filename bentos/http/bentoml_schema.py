"""`/schema.json`: our routes as endpoints of BentoML's own client.

`bentoml.SyncHTTPClient(url, token=key)` reads this document and then has a method for each endpoint, each of
which posts JSON. BentoML's document would not have the routes of a mounted application. Files are no
endpoints: they become jobs, which that client knows only as BentoML's own tasks.
"""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bentos.messages import MAX_EVENTS, MAX_ITEMS, PredictItem

Json = dict[str, Any]  # any JSON value may stand in a schema


def schema_route() -> Route:
    """The route; open without a key, as it holds no data."""
    return Route("/schema.json", _schema, methods=["GET"])


def service_schema() -> Json:
    """The document."""
    return {
        "name": "PurchaseService",
        "type": "service",
        "routes": [
            _endpoint("predict", "/predict", _predict_input(), "The prediction for one user."),
            _endpoint("predict_many", "/predict", _list_input(MAX_ITEMS), "Predictions for a list of items."),
            _endpoint("post_events", "/events", _list_input(MAX_EVENTS), "Store canonical events."),
            _endpoint("reload", "/model/reload", {"type": "object", "properties": {}}, "Follow a promotion."),
        ],
    }


def _endpoint(name: str, route: str, input_schema: Json, doc: str) -> Json:
    return {
        "name": name,
        "route": route,
        "doc": doc,
        "batchable": False,
        "input": input_schema,
        "output": {"type": "object"},
        "is_task": False,
    }


def _predict_input() -> Json:
    """The fields of an item as keyword arguments."""
    schema = msgspec.json.schema(PredictItem)["$defs"]["PredictItem"]
    names: list[str] = schema["required"]
    return {"type": "object", "properties": {name: {} for name in schema["properties"]}, "required": names}


def _list_input(limit: int) -> Json:
    """A list as the only positional argument."""
    return {"type": "array", "items": {"type": "object"}, "maxItems": limit, "root_input": True}


async def _schema(_: Request) -> Response:
    return JSONResponse(service_schema())
