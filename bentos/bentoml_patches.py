"""Changes to BentoML's internals, applied when the service is imported, in each of its processes.

BentoML has no setting for any of them. `tests/unit/bentos/test_bentoml_patches.py` fails if an upgrade
moves what is replaced or adds another place that opens a URL from a request.
"""

from __future__ import annotations

from http import HTTPStatus

from _bentoml_impl import serde
from _bentoml_impl.tasks import result
from _bentoml_impl.tasks.serde import JSONSerde
from bentoml.exceptions import BentoMLException
from starlette.datastructures import UploadFile
from starlette.requests import Request

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


def apply() -> None:
    """Store no uploads in the task database; open no URL that a request names.

    Two functions of BentoML's deserialisers fetch URLs: `ensure_file` for parts of a form (and for
    URL-encoded forms, which cannot hold a file), `JSONSerde.parse_request` for a body that is a URL.
    """
    result.JSONSerde = HeadOnlySerde
    serde.MultipartSerde.ensure_file = staticmethod(uploaded_file)
    serde.JSONSerde.parse_request = serde.Serde.parse_request
    serde.ALL_SERDE.pop(URL_ENCODED, None)
