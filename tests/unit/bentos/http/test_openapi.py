"""The OpenAPI document is valid, and the pages of the documentation load nothing from elsewhere."""

from __future__ import annotations

import re

from openapi_spec_validator import OpenAPIV31SpecValidator

from bentos.http import docs_page
from bentos.http.openapi import document
from bentos.service import PurchaseService


def test_the_document_is_valid_openapi() -> None:
    content = document(dict(PurchaseService.openapi_spec.asdict()))  # type: ignore[attr-defined]
    errors = [
        f"{list(error.path)}: {error.message}" for error in OpenAPIV31SpecValidator(content).iter_errors()
    ]
    assert errors == []
    operations = [(path, method) for path, item in content["paths"].items() for method in item]
    assert len(operations) > 10


def test_the_documentation_loads_only_files_of_this_package() -> None:
    loaded = re.findall(r'(?:src|href)="([^"]*)"', docs_page.PAGE)
    assert loaded
    assert [
        address for address in loaded if not address.startswith(("/docs/", "/openapi.json", "data:,"))
    ] == []
    for asset in docs_page.ASSETS:
        assert (docs_page.assets_folder() / asset).is_file()
