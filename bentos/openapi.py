"""Our OpenAPI document: the mounted routes, described from their own types, merged with BentoML's paths."""

from __future__ import annotations

from typing import Any

import msgspec

from bentos.front import WITHHELD
from bentos.wire import (
    MAX_ITEMS,
    Answer,
    EventsAccepted,
    ItemError,
    ModelAnswer,
    PredictItem,
    ProblemDocument,
)
from retail_core import __version__

Json = dict[str, Any]  # any JSON value may stand in an OpenAPI document
REF = "#/components/schemas/{name}"
TYPES = (PredictItem, Answer, ItemError, EventsAccepted, ModelAnswer, ProblemDocument)

DESCRIPTION = """Which app users will buy within the next 24 hours?

Send a user's id, their events or their features to `POST /predict`; upload a whole file to
`POST /score_batch/submit`, ask `/score_batch/status` and take the scored CSV from `/score_batch/get`.
Where keys are set, each request carries one in `X-API-Key`. Errors are RFC 9457 problem documents.
"""

LIST: Json = {
    "type": "array",
    "minItems": 1,
    "maxItems": MAX_ITEMS,
    "items": {"description": "A `PredictItem`; whatever is none gets an `ItemError` in its place."},
}
"""Anything may stand in a list, since one bad item must not spoil the others."""

TASK: Json = {
    "type": "object",
    "required": ["task_id", "status"],
    "properties": {
        "task_id": {"type": "string"},
        "status": {"type": "string", "description": "in_progress, completed, failed or cancelled"},
        "created_at": {"type": ["string", "null"]},
        "executed_at": {"type": ["string", "null"]},
    },
}
"""What BentoML answers about a task; its own description asks for more than it gives."""

CANCEL = "/score_batch/cancel"
NO_CANCEL: Json = {
    "summary": "Not supported: always 400",
    "description": "BentoML cancels tasks only where its cloud runs them. A file that was sent is scored.",
}

ALWAYS = (401, 403, 413, 429)
"""What any route behind a key may answer."""

EXAMPLES: Json = {
    "by user": {"value": {"user_id": "u1"}},
    "by user, saying why": {"value": {"user_id": "u1", "reasons": True}},
    "by events": {
        "value": {
            "user_id": "u1",
            "as_of": "2025-02-01T12:00:00Z",
            "events": [
                {"event_time": "2025-02-01T11:40:00Z", "event_type": "view_item", "item_id": "i7"},
                {
                    "event_time": "2025-02-01T11:45:00Z",
                    "event_type": "add_to_cart",
                    "item_id": "i7",
                    "price": "19.90",
                },
            ],
        }
    },
    "several": {"value": [{"user_id": "u1"}, {"user_id": "u2", "as_of": "2025-02-01T00:00:00Z"}]},
}


def document(bento: Json) -> Json:
    """The whole document (OpenAPI 3.1): ours merged with `bento`, BentoML's own of the service."""
    paths = {path: _secured(path, item) for path, item in bento["paths"].items() if path not in WITHHELD}
    _, schemas = msgspec.json.schema_components(TYPES, ref_template=REF)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Purchase within 24 hours", "version": __version__, "description": DESCRIPTION},
        "servers": [{"url": "/"}],
        "security": [{"apiKey": []}, {}],
        "tags": [{"name": "Prediction"}, {"name": "Model"}, *bento.get("tags", [])],
        "paths": {**own_paths(), **paths},
        "components": {
            "schemas": {
                **bento.get("components", {}).get("schemas", {}),
                **schemas,
                "TaskStatusResponse": TASK,
            },
            "securitySchemes": {"apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"}},
        },
    }


def own_paths() -> Json:
    """The mounted routes."""
    answers = {
        "anyOf": [_ref(Answer), {"type": "array", "items": {"anyOf": [_ref(Answer), _ref(ItemError)]}}]
    }
    question = {"anyOf": [_ref(PredictItem), LIST]}
    event = {"type": "object", "additionalProperties": True}
    example = {"user_id": "u1", **EXAMPLES["by events"]["value"]["events"][0]}
    posted = {"anyOf": [event, {"type": "array", "items": event, "minItems": 1}]}
    return {
        "/predict": {
            "post": _operation(
                "Prediction",
                "Probability that a user buys within the horizon after as_of",
                _body(question, EXAMPLES),
                {"200": _content("An answer, or one per item in order", answers)},
                (400, 404, 415, 422, 503),
            )
        },
        "/events": {
            "post": _operation(
                "Prediction",
                "Store one or many canonical events, durably and once",
                _body(
                    posted,
                    {"one": {"value": example}},
                ),
                {"202": _content("Stored by a majority of MongoDB's members", _ref(EventsAccepted))},
                (400, 415, 422, 503),
            )
        },
        "/model": {
            "get": _operation(
                "Model",
                "The model that answers now",
                None,
                {"200": _content("It", _ref(ModelAnswer))},
                (),
            )
        },
        "/model/reload": {
            "post": _operation(
                "Model",
                "Load what is under the alias production; the old model stays if that fails its test",
                None,
                {"200": _content("The model that answers now", _ref(ModelAnswer))},
                (409,),
            )
        },
    }


def _operation(tag: str, summary: str, body: Json | None, answers: Json, problems: tuple[int, ...]) -> Json:
    failures = {str(status): _problem(status) for status in sorted({*problems, *ALWAYS})}
    operation: Json = {"tags": [tag], "summary": summary, "responses": {**answers, **failures}}
    if body is not None:
        operation["requestBody"] = body
    return operation


def _secured(path: str, item: Json) -> Json:
    """BentoML's path with our errors; its health and metrics need no key."""
    is_open = path in {"/livez", "/readyz", "/healthz", "/metrics"}
    secured: Json = {}
    for method, operation in item.items():
        if not isinstance(operation, dict):
            continue
        answers = {str(status): answer for status, answer in operation["responses"].items()}
        good = {status: answer for status, answer in answers.items() if status.startswith("2")}
        failures = {} if is_open else {str(status): _problem(status) for status in (*ALWAYS, 400, 404, 422)}
        shown = {**operation, "responses": {**good, **failures}}
        secured[method] = shown | {**NO_CANCEL, "responses": failures} if path == CANCEL else shown
        if is_open:
            secured[method]["security"] = []
    return secured


def _ref(of: type) -> Json:
    return {"$ref": REF.format(name=of.__name__)}


def _body(schema: Json, examples: Json) -> Json:
    return {"required": True, "content": {"application/json": {"schema": schema, "examples": examples}}}


def _content(description: str, schema: Json) -> Json:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


_MEANING = {
    400: "Not JSON, or not usable as a file",
    401: "No valid key in X-API-Key",
    403: "Without keys only the machine itself may ask, and no page of another site",
    404: "Nothing is known of this user (or task)",
    409: "The new version was refused; the old one keeps answering",
    413: "The body is too large",
    415: "The body has to be JSON, and its content-type to say so",
    422: "A field breaks a rule, or an upload is not a form with one file",
    429: "This key asks too often; Retry-After says when it may again",
    503: "MongoDB is away; Retry-After says when to ask again",
}


def _problem(status: int) -> Json:
    content = {"application/problem+json": {"schema": _ref(ProblemDocument)}}
    return {"description": _MEANING[status], "content": content}
