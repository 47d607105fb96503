"""Changes to BentoML's internals, applied when the service is imported, in each of its processes.

BentoML has no setting for any of them. `tests/unit/bentos/test_bentoml_patches.py` fails if an upgrade
moves what is replaced or adds another place that opens a URL from a request.
"""

from __future__ import annotations

import socket
from http import HTTPStatus
from typing import Any

import uvicorn
from _bentoml_impl import serde
from _bentoml_impl.tasks import result
from _bentoml_impl.tasks.serde import JSONSerde
from bentoml._internal.utils import circus
from bentoml.exceptions import BentoMLException
from starlette.datastructures import UploadFile
from starlette.requests import Request

from bentos.http.server import ServiceServer, stop_listening
from bentos.supervision import SHUTDOWN_SECONDS

URL_ENCODED = "application/x-www-form-urlencoded"


class HeadOnlySerde(JSONSerde):  # type: ignore[misc]
    """Stores a task's request without its body, which would take a third more than the upload, in memory.

    BentoML keeps what it stores of a task for a day.
    """

    async def serialize_request(self, request: Request) -> bytes:
        """The head of the request as JSON; reads the body, which the task needs later."""
        await request.body()
        head: bytes = self.json_encode({"scope": self.get_scope(request.scope), "content": ""})
        return head


async def uploaded_file(part: str | UploadFile) -> UploadFile:
    """The value of a file parameter; in BentoML a text is a URL, which is fetched.

    Raises:
        BentoMLException: 422 for a text.
    """
    if isinstance(part, UploadFile):
        return part
    raise BentoMLException(
        "A file parameter takes an uploaded file.", error_code=HTTPStatus.UNPROCESSABLE_ENTITY
    )


class BoundedArbiter(circus.Arbiter):
    """The main process, which refuses new connections and ends its workers within `SHUTDOWN_SECONDS`.

    BentoML keeps the port open while its workers end, for which it gives them a day.
    """

    def stop(self) -> Any:
        """Begin the shutdown; returns circus's future."""
        for listener in self.sockets.values():
            if listener.family != socket.AF_UNIX:
                stop_listening(listener)
        for watcher in self.watchers:
            watcher.graceful_timeout = SHUTDOWN_SECONDS
        return super().stop()


def apply() -> None:
    """Serve by `ServiceServer`; end in time; store no uploads in the task database; open no URL of a request.

    Two functions of BentoML's deserialisers fetch URLs: `ensure_file` for parts of a form (and for
    URL-encoded forms, which cannot hold a file), `JSONSerde.parse_request` for a body that is a URL.
    """
    uvicorn.Server = ServiceServer  # type: ignore[misc]
    circus.Arbiter = BoundedArbiter  # type: ignore[misc]
    result.JSONSerde = HeadOnlySerde
    serde.MultipartSerde.ensure_file = staticmethod(uploaded_file)
    serde.JSONSerde.parse_request = serde.Serde.parse_request
    serde.ALL_SERDE.pop(URL_ENCODED, None)
