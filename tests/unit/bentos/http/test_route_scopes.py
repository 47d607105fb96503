"""Every route has a scope or is public, in the code, in the OpenAPI document and in docs/api.md."""

from __future__ import annotations

import re
from pathlib import Path

from bentos.http.fast_path import BENTOML_ROUTES
from bentos.http.openapi import document
from bentos.http.route_scopes import OTHER, PUBLIC, ROUTES, SCOPES
from bentos.http.routes import create_app
from bentos.service import PurchaseService

ROOT = Path(__file__).resolve().parents[4]
PAGES = {"/", "/docs", "/docs/{asset}", "/openapi.json", "/schema.json"}
"""Routes that the OpenAPI document leaves out."""


def test_every_route_has_a_scope_and_every_scope_a_route() -> None:
    own = {str(getattr(route, "path")) for route in create_app().routes}  # noqa: B009 - untyped
    assert own | BENTOML_ROUTES | {"/predict"} == set(SCOPES)
    assert not own & BENTOML_ROUTES


def test_routes_that_bentoml_adds_do_not_exist() -> None:
    bentoml_paths = set(PurchaseService.openapi_spec.asdict()["paths"])  # type: ignore[attr-defined]
    assert {ROUTES.of(path) for path in bentoml_paths - set(SCOPES)} <= {OTHER}
    for path in (
        "/docs.json",
        "/score_batch/retry",
        "/static_content/index.html",
        "/docs/",
        "//predict",
    ):
        assert ROUTES.of(path) == OTHER, path


def test_the_openapi_document_names_the_scope_of_each_operation() -> None:
    paths = document(dict(PurchaseService.openapi_spec.asdict()))["paths"]  # type: ignore[attr-defined]
    assert set(paths) == set(SCOPES) - PAGES
    for path, item in paths.items():
        for operation in item.values():
            named = {scope for option in operation["security"] for scope in option.get("apiKey", ())}
            assert named == ({str(SCOPES[path])} if SCOPES[path] else set()), path


def test_the_documentation_names_the_scope_of_each_route() -> None:
    section = (ROOT / "docs" / "api.md").read_text().split("### Keys", 1)[1].split("\n## ", 1)[0]
    rows = re.findall(r"^\| (?:`(\w+)`|none) \| (.*) \|$", section, re.MULTILINE)
    documented = {
        path: scope or PUBLIC for scope, cell in rows for path in re.findall(r"`(?:[A-Z]+ )?(/[^`]*)`", cell)
    }
    assert documented == dict(SCOPES)
