"""BentoML opens no URL from a request, and its routes that take a form are those that are checked."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path

import pytest
from _bentoml_impl import serde
from _bentoml_impl.server import app
from _bentoml_sdk import io_models, validators
from bentoml._internal.context import ServiceContext
from bentoml.exceptions import BentoMLException
from starlette.datastructures import UploadFile
from starlette.requests import Request

from bentos import bentoml_patches
from bentos.http.guard import UPLOAD_PATHS
from bentos.service import PurchaseService

URL = "http://127.0.0.1:1/"


class FileModel(io_models.IORootModel[Path]):  # type: ignore[misc]
    """What BentoML derives from an API whose only parameter is a file."""


def request(body: bytes, content_type: str) -> Request:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [(b"content-type", content_type.encode())]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive)


def test_a_text_is_no_file() -> None:
    with pytest.raises(BentoMLException) as caught:
        asyncio.run(serde.MultipartSerde.ensure_file(URL))
    assert caught.value.error_code == 422
    uploaded = UploadFile(file=None)  # type: ignore[arg-type]
    assert asyncio.run(serde.MultipartSerde.ensure_file(uploaded)) is uploaded


def test_a_body_that_is_a_url_is_the_content_of_the_file() -> None:
    sent = request(URL.encode(), "application/json")
    assert FileModel.multipart_fields
    with ServiceContext().in_request(sent):
        parser = serde.ALL_SERDE["application/json"]()
        model = asyncio.run(parser.parse_request(sent, FileModel))
        assert model.root.read_text() == URL


def test_a_text_part_is_not_fetched() -> None:
    body = f'--b\r\nContent-Disposition: form-data; name="root"\r\n\r\n{URL}\r\n--b--\r\n'.encode()
    parser = serde.ALL_SERDE["multipart/form-data"]()
    with pytest.raises(BentoMLException, match="uploaded file"):
        asyncio.run(parser.parse_request(request(body, "multipart/form-data; boundary=b"), FileModel))


def test_url_encoded_forms_are_not_parsed() -> None:
    assert bentoml_patches.URL_ENCODED not in serde.ALL_SERDE


def test_bentoml_has_no_other_place_that_fetches() -> None:
    source = inspect.getsource(serde)
    assert source.count("AsyncClient(") == 2, "look at what BentoML's deserialisers fetch now"
    for module in (app, io_models, validators):
        assert "httpx" not in inspect.getsource(module)


def test_every_route_that_takes_a_body_is_checked_or_withheld() -> None:
    paths = PurchaseService.openapi_spec.asdict()["paths"]  # type: ignore[attr-defined]
    assert {path for path, item in paths.items() if "post" in item} - {"/score_batch/retry"} == UPLOAD_PATHS
