"""The OpenAPI document: our routes, described by their message types, merged with BentoML's paths."""

from __future__ import annotations

from typing import Any

import msgspec

from bentos.http.route_scopes import SCOPES
from bentos.http.upload_form import MAX_REASONS
from bentos.messages import (
    MAX_EVENTS,
    MAX_ITEMS,
    Answer,
    EventsAccepted,
    ItemError,
    JobAnswer,
    JobList,
    ModelAnswer,
    PredictItem,
    ProblemDocument,
    PromotionHistory,
    RunReport,
)
from retail_core import __version__
from retail_core.sources import PRESETS

Json = dict[str, Any]  # any JSON value may stand in an OpenAPI document
REF = "#/components/schemas/{name}"
TYPES = (
    *(PredictItem, Answer, ItemError, EventsAccepted, RunReport),
    *(ModelAnswer, PromotionHistory, JobAnswer, JobList, ProblemDocument),
)

DESCRIPTION = """Which app users will buy within the next 24 hours?

Send a user's id, their events or their features to `POST /predict`; send a whole file to `POST /score_batch`,
look at the job it becomes at `/jobs/{job_id}`, and get the scored CSV from `/jobs/{job_id}/result`.
Where keys are set, each request carries one in `X-API-Key`, and each operation names the scope that the key
needs. Errors are RFC 9457 problem documents.
"""

LIST: Json = {
    "type": "array",
    "minItems": 1,
    "maxItems": MAX_ITEMS,
    "items": {"description": "A `PredictItem`; any other value gets an `ItemError` in its place."},
}
"""A list may hold any values, since a bad item must not affect the others."""

EVENT_ITEMS: Json = {"description": "An event; any other value is refused and named in `errors`."}

SECURITY_SCHEMES: Json = {
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "bearer": {"type": "http", "scheme": "bearer"},
}
"""How a key is sent; each also lists the scope that an operation needs."""

ALWAYS = (401, 403, 413, 429)
"""Error statuses of every route that needs a key."""

FORM: Json = {
    "type": "object",
    "required": ["file"],
    "additionalProperties": False,
    "properties": {
        "file": {
            "type": "string",
            "contentMediaType": "application/octet-stream",
            "description": "CSV (also .gz, .zst), JSON lines or Parquet of events, or of features.",
        },
        "source": {
            "type": "string",
            "enum": sorted(PRESETS),
            "description": "The preset of the file's source.",
        },
        "mapping": {
            "type": "string",
            "description": "Instead of a source: YAML (or JSON) text that maps the file, up to 64 KiB.",
        },
        "as_of": {
            "type": "string",
            "format": "date-time",
            "description": "ISO 8601; default: next midnight if the last day is complete.",
        },
        "reasons": {
            "type": "integer",
            "minimum": 0,
            "maximum": MAX_REASONS,
            "description": "Number of the most likely buyers that get reasons, in a column.",
        },
    },
}

EXAMPLES: Json = {
    "by user": {"value": {"user_id": "u1"}},
    "by user, with reasons": {"value": {"user_id": "u1", "reasons": True}},
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
    """The complete document (OpenAPI 3.1): our paths merged with `bento`, BentoML's own document."""
    bentoml_paths = {path: _without_errors(item) for path, item in bento["paths"].items() if path in SCOPES}
    paths = {path: _with_scope(path, item) for path, item in {**own_paths(), **bentoml_paths}.items()}
    _, schemas = msgspec.json.schema_components(TYPES, ref_template=REF)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Purchase within 24 hours", "version": __version__, "description": DESCRIPTION},
        "servers": [{"url": "/"}],
        "security": [{"apiKey": []}, {"bearer": []}, {}],
        "tags": [{"name": "Prediction"}, {"name": "Jobs"}, {"name": "Model"}, *bento.get("tags", [])],
        "paths": paths,
        "components": {
            "schemas": {**bento.get("components", {}).get("schemas", {}), **schemas},
            "securitySchemes": SECURITY_SCHEMES,
        },
    }


def own_paths() -> Json:
    """The paths of our routes."""
    return {
        "/predict": {"post": _predict()},
        "/events": {"post": _events()},
        "/alerts/run": {"post": _run_alert()},
        **_job_paths(),
        **_model_paths(),
    }


def _predict() -> Json:
    items = {"anyOf": [_ref(PredictItem), LIST]}
    predictions = {
        "anyOf": [_ref(Answer), {"type": "array", "items": {"anyOf": [_ref(Answer), _ref(ItemError)]}}]
    }
    return _operation(
        "Prediction",
        "Probability that a user buys within the horizon after as_of",
        _body(items, EXAMPLES),
        {"200": _content("A prediction, or one per item in order", predictions)},
        (400, 404, 415, 422, 503),
    )


def _events() -> Json:
    event = {"type": "object", "additionalProperties": True}
    example = {"user_id": "u1", **EXAMPLES["by events"]["value"]["events"][0]}
    return _operation(
        "Prediction",
        "Store one or many canonical events, each once",
        _body(
            {"anyOf": [event, {**LIST, "maxItems": MAX_EVENTS, "items": EVENT_ITEMS}]},
            {"one": {"value": example}},
        ),
        {"202": _content("Written to a majority of MongoDB's members", _ref(EventsAccepted))},
        (400, 415, 422, 503),
    )


def _run_alert() -> Json:
    example = {"flow": "score", "run": "score-2025-02-01", "state": "Failed", "message": "MongoDB is away."}
    return _operation(
        "Model",
        "Raise the alert of a run that failed, crashed or is late; Prefect's automations call it",
        _body(_ref(RunReport), {"failed": {"value": example}}),
        {"202": {"description": "Stored, and a first delivery was tried"}},
        (400, 415, 422, 503),
    )


def _job_paths() -> Json:
    job = _content("The job", _ref(JobAnswer))
    job_id: Json = {"name": "job_id", "in": "path", "required": True, "schema": {"type": "string"}}
    csv: Json = {
        "description": "The users in order of rank",
        "headers": {"X-Score-Report": {"description": "Counts, as JSON", "schema": {"type": "string"}}},
        "content": {"text/csv": {"schema": {"type": "string"}}},
    }
    location: Json = {"Location": {"description": "Path of the job", "schema": {"type": "string"}}}
    accepted = {**job, "description": "Stored; the job waits", "headers": location}
    summaries = {
        "": ("get", "A job of this key", job, (404, 503)),
        "/result": ("get", "The scored CSV of a completed job", csv, (404, 409, 503)),
        "/cancel": ("post", "Cancel a waiting or running job", job, (404, 409, 503)),
    }
    paths: Json = {
        f"/jobs/{{job_id}}{step}": {
            method: _operation("Jobs", summary, None, {"200": answer}, problems) | {"parameters": [job_id]}
        }
        for step, (method, summary, answer, problems) in summaries.items()
    }
    send = _operation("Jobs", "Score every user of a file", None, {"202": accepted}, (422, 503))
    form = {"required": True, "content": {"multipart/form-data": {"schema": FORM}}}
    listed = {"200": _content("The jobs, newest first", _ref(JobList))}
    return {
        "/score_batch": {"post": send | {"requestBody": form}},
        "/jobs": {"get": _operation("Jobs", "The jobs of this key", None, listed, (503,))},
        **paths,
    }


def _model_paths() -> Json:
    return {
        "/model": {
            "get": _operation(
                "Model",
                "The loaded model",
                None,
                {"200": _content("The loaded model", _ref(ModelAnswer))},
                (503,),
            )
        },
        "/model/history": {
            "get": _operation(
                "Model",
                "Who put which version into production, when and why; newest first",
                None,
                {"200": _content("All promotions and rollbacks", _ref(PromotionHistory))},
                (503,),
            )
        },
        "/model/reload": {
            "post": _operation(
                "Model",
                "Load the version under the alias production; the old one stays if that fails its self-test",
                None,
                {"200": _content("The loaded model", _ref(ModelAnswer))},
                (409,),
            )
        },
    }


def _operation(tag: str, summary: str, body: Json | None, successes: Json, problems: tuple[int, ...]) -> Json:
    failures = {str(status): _problem(status) for status in sorted({*problems, *ALWAYS})}
    operation: Json = {"tags": [tag], "summary": summary, "responses": {**successes, **failures}}
    if body is not None:
        operation["requestBody"] = body
    return operation


def _with_scope(path: str, item: Json) -> Json:
    """A path whose operations name the scope that a key needs for them, or that they need no key."""
    scope = SCOPES[path]
    if scope is None:
        return {method: {**operation, "security": []} for method, operation in item.items()}
    security = [*({scheme: [str(scope)]} for scheme in SECURITY_SCHEMES), {}]
    return {
        method: operation
        | {
            "security": security,
            "description": f"{operation.get('description', '')}\n\nScope of the key: `{scope}`.".strip(),
        }
        for method, operation in item.items()
    }


def _without_errors(item: Json) -> Json:
    """One of BentoML's paths, which are public, with its successes only."""
    return {
        method: operation
        | {
            "responses": {
                str(status): response
                for status, response in operation["responses"].items()
                if str(status).startswith("2")
            }
        }
        for method, operation in item.items()
        if isinstance(operation, dict)
    }


def _ref(of: type) -> Json:
    return {"$ref": REF.format(name=of.__name__)}


def _body(schema: Json, examples: Json) -> Json:
    return {"required": True, "content": {"application/json": {"schema": schema, "examples": examples}}}


def _content(description: str, schema: Json) -> Json:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


_DESCRIPTIONS = {
    400: "Not JSON, or not a readable file",
    401: "No valid API key",
    403: "The key lacks the scope of this route; or no keys are set, and the request is not from this "
    "machine or from a page of another site",
    404: "No such user, job or path",
    409: "The new version was refused, and the old one stays loaded; or the job is in another state",
    413: "The body is too large",
    415: "The body has to be JSON, and its content-type to say so",
    422: "A field breaks a rule, or an upload is not a form with one file",
    429: "The rate limit of this key is exceeded, "
    "too many wrong keys were sent, or too many jobs of the key wait; see Retry-After",
    503: "MongoDB is unreachable, or no model is in production yet; see Retry-After",
}


def _problem(status: int) -> Json:
    content = {"application/problem+json": {"schema": _ref(ProblemDocument)}}
    return {"description": _DESCRIPTIONS[status], "content": content}
