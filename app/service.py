"""The service, as the pages ask it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from retail_core.errors import DependencyError, InputError
from retail_core.settings import Settings

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 300.0
POLL_SECONDS = 0.4
HEADER = "X-Score-Report"
EXPLAINED_USERS = 1_000
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound

Json = dict[str, Any]  # whatever the service answers


@dataclass(frozen=True)
class Scored:
    """A scored file: the CSV as it came, and the service's counts."""

    csv: bytes
    report: Json


def url(settings: Settings) -> str:
    """Where the service is, as seen from here."""
    host = "127.0.0.1" if settings.api_host in EVERYWHERE else settings.api_host
    return f"http://{host}:{settings.api_port}"


def model(settings: Settings) -> Json:
    """The model that answers now.

    Raises:
        DependencyError: the service does not answer.
        InputError: it refuses.
    """
    with _client(settings) as client:
        return _json(_asked(settings, lambda: client.get("/model")))


def predict(settings: Settings, user_id: str, as_of: str) -> Json:
    """One user's probability with its reasons, at `as_of` (ISO 8601) or, where that is empty, now.

    Raises:
        DependencyError: the service does not answer.
        InputError: it knows no such user, or `as_of` is no instant.
    """
    item = {"user_id": user_id, "reasons": True} | ({"as_of": as_of} if as_of else {})
    with _client(settings) as client:
        return _json(_asked(settings, lambda: client.post("/predict", json=item)))


@dataclass(frozen=True)
class Upload:
    """A file to be scored: its name and bytes, the preset that wrote it, and as_of (ISO 8601 or empty)."""

    name: str
    content: bytes
    source: str
    as_of: str


def score(settings: Settings, upload: Upload, waiting: Callable[[float], None]) -> Scored:
    """Send a file to `/score_batch`, wait, and take the result.

    Args:
        settings: where the service is and the key to send.
        upload: what to score.
        waiting: called with the seconds so far, while the service works.

    Raises:
        DependencyError: the service does not answer.
        InputError: it refuses the file; says why.
    """
    with _client(settings) as client:
        form = {"source": upload.source, "as_of": upload.as_of, "reasons": str(EXPLAINED_USERS)}
        files = {"file": (upload.name, upload.content, "application/octet-stream")}
        submit = _asked(settings, lambda: client.post("/score_batch/submit", data=form, files=files))
        task = {"task_id": str(_json(submit)["task_id"])}
        begun = time.perf_counter()
        while True:
            status = _json(_asked(settings, lambda: client.get("/score_batch/status", params=task)))["status"]
            if status != "in_progress":
                break
            waiting(time.perf_counter() - begun)
            time.sleep(POLL_SECONDS)
        answer = _checked(_asked(settings, lambda: client.get("/score_batch/get", params=task)))
    return Scored(answer.content, json.loads(answer.headers[HEADER]))


def _client(settings: Settings) -> httpx.Client:
    given = settings.api_keys.get_secret_value().split(",")[0].strip() if settings.api_keys else ""
    return httpx.Client(
        base_url=url(settings),
        headers={"X-API-Key": given} if given else {},
        timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
        trust_env=False,
    )


def _asked(settings: Settings, ask: Callable[[], httpx.Response]) -> httpx.Response:
    try:
        return ask()
    except httpx.TransportError as error:
        raise DependencyError(
            f"The service at {url(settings)} does not answer.",
            remedy="start it with `retail serve`, or everything with `retail up`.",
        ) from error


def _checked(answer: httpx.Response) -> httpx.Response:
    if answer.is_success:
        return answer
    try:
        detail = str(answer.json().get("detail", answer.reason_phrase))
    except ValueError:
        detail = answer.reason_phrase
    message, _, remedy = detail.partition(" Remedy: ")
    kind = DependencyError if answer.status_code >= 500 else InputError
    raise kind(message, remedy=remedy or "correct the file or the choices above and try again.")


def _json(answer: httpx.Response) -> Json:
    content: Json = _checked(answer).json()
    return content
