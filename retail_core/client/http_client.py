"""A typed client of the HTTP service: `Client("http://127.0.0.1:8080").predict("u1").probability`."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from retail_core.client.messages import (
    Accepted,
    Event,
    Features,
    Item,
    Prediction,
    Reason,
    Refusal,
    ScoredFile,
)
from retail_core.errors import DataError, DependencyError, InputError, RetailError
from retail_core.times import iso

__all__ = ["Accepted", "Client", "Item", "Prediction", "Reason", "Refusal", "ScoredFile"]

MOST_ITEMS = 1_000
AGAIN = frozenset({429, 502, 503, 504})
LONGEST_PAUSE = 30.0
POLL_SECONDS = 0.5
FILE_SECONDS = 3_600.0
RELOAD_SECONDS = 300.0

T = TypeVar("T")


class Client:
    """One connection pool. What is worth asking again is asked again: every route of the service may be.

    A lost connection, 429, 502, 503 and 504 are tried again after the pause that `Retry-After` names, else
    after 0.2, 0.4, 0.8, ... seconds.

    Args:
        url: of the service.
        api_key: one of its keys; None where it has none.
        timeout: seconds for each try.
        retries: tries after the first one.
    """

    def __init__(
        self, url: str, *, api_key: str | None = None, timeout: float = 10.0, retries: int = 4
    ) -> None:
        headers = {"X-API-Key": api_key} if api_key else {}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout)
        self._retries = retries

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def predict(
        self,
        user_id: str,
        *,
        as_of: datetime | None = None,
        events: Sequence[Event] | None = None,
        features: Features | None = None,
        reasons: bool = False,
    ) -> Prediction:
        """The prediction for one user.

        Raises:
            DataError: nothing is known of the user.
            InputError: the service refuses the question or the key.
            DependencyError: the service (or its MongoDB) does not answer.
        """
        question = Item(user_id, as_of, events, features, reasons).body()
        return _prediction(self._ask("POST", "/predict", question))

    def predict_many(self, items: Sequence[Item]) -> list[Prediction | Refusal]:
        """Predictions or refusals in the order of the items, of which there may be any number.

        Raises:
            InputError, DependencyError: as `predict`.
        """
        answers: list[Prediction | Refusal] = []
        for start in range(0, len(items), MOST_ITEMS):
            questions = [item.body() for item in items[start : start + MOST_ITEMS]]
            answers += [_entry(one) for one in self._ask("POST", "/predict", questions)]
        return answers

    def post_events(self, events: Sequence[Event]) -> Accepted:
        """Store canonical events durably; sending them again is harmless.

        Raises:
            InputError: every event was refused.
            DependencyError: MongoDB does not answer; nothing is known to be stored.
        """
        return _build(Accepted, self._ask("POST", "/events", list(events)))

    def model(self) -> dict[str, Any]:
        """The model that answers, as `GET /model` shows it."""
        return dict(self._ask("GET", "/model"))

    def reload(self) -> dict[str, Any]:
        """Make the service load what is in production now.

        Raises:
            InputError: it refuses that version; says why.
        """
        return dict(self._ask("POST", "/model/reload", timeout=RELOAD_SECONDS))

    def score_file(
        self, path: Path, *, source: str = "canonical", as_of: datetime | None = None, reasons: int = 0
    ) -> ScoredFile:
        """Have a whole file scored and wait for it; with reasons for the so many most likely buyers.

        Raises:
            InputError: the file is refused; says why.
            DependencyError: the service does not answer, or took longer than an hour.
        """
        form = {"source": source, "reasons": str(reasons)} | ({"as_of": iso(as_of)} if as_of else {})
        with path.open("rb") as file:
            sent = self._response("POST", "/score_batch/submit", files={"file": (path.name, file)}, data=form)
        task = {"task_id": sent.json()["task_id"]}
        for _ in range(int(FILE_SECONDS / POLL_SECONDS)):
            if self._ask("GET", "/score_batch/status", params=task)["status"] != "in_progress":
                break
            time.sleep(POLL_SECONDS)
        else:
            raise DependencyError(
                f"The file was not scored within {FILE_SECONDS / 3600:g} h.",
                remedy="see the service's log; a file whose scoring was cut off has to be sent again.",
            )
        answer = self._response("GET", "/score_batch/get", params=task)
        return ScoredFile(answer.content, json.loads(answer.headers.get("X-Score-Report", "{}")))

    def _ask(self, method: str, path: str, body: object = None, **more: Any) -> Any:
        given = {} if body is None else {"json": body}
        return self._response(method, path, **given, **more).json()

    def _response(self, method: str, path: str, **more: Any) -> httpx.Response:
        for attempt in range(self._retries + 1):
            last = attempt == self._retries
            try:
                response = self._http.request(method, path, **more)
            except httpx.TransportError as error:
                if last or "files" in more:
                    raise self._unreachable(type(error).__name__) from error
                time.sleep(_pause(attempt, None))
                continue
            if response.is_success:
                return response
            if last or response.status_code not in AGAIN or "files" in more:
                raise self._refusal(response)
            time.sleep(_pause(attempt, response.headers.get("Retry-After")))
        raise self._unreachable("no try was allowed")

    def _unreachable(self, why: str) -> DependencyError:
        return DependencyError(
            f"The service at {self._http.base_url} does not answer ({why}).",
            remedy="start it with `retail serve`, or correct its address.",
        )

    def _refusal(self, response: httpx.Response) -> RetailError:
        try:
            detail = str(response.json()["detail"])
        except (ValueError, KeyError, TypeError):
            detail = response.text[:200]
        said = f"{response.status_code}: {detail}"
        if response.status_code in AGAIN or response.status_code >= 500:
            return DependencyError(said, remedy="try again later; the service's log says more.")
        if response.status_code == 404:
            return DataError(said, remedy="check the id, or send the user's events along.")
        return InputError(said, remedy="correct the request; docs/api.md lists what is accepted.")


def _entry(content: Mapping[str, Any]) -> Prediction | Refusal:
    if "error" not in content:
        return _prediction(content)
    problem = content["error"]
    return Refusal(content["user_id"], problem["status"], problem["detail"], problem.get("errors", ()))


def _prediction(content: Mapping[str, Any]) -> Prediction:
    found = tuple(_build(Reason, one) for one in content.get("reasons", ()))
    return _build(Prediction, {**content, "reasons": found})


def _build(kind: type[T], content: Mapping[str, Any]) -> T:
    """What this release knows of an answer; a newer service may say more."""
    known = {one.name for one in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in content.items() if name in known})


def _pause(attempt: int, asked: str | None) -> float:
    if asked is not None and asked.isdigit():
        return min(float(asked), LONGEST_PAUSE)
    return min(0.2 * 2.0**attempt, LONGEST_PAUSE)
