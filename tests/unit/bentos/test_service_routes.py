"""BentoML reads no body from outside: it would open a file parameter that is a URL."""

from __future__ import annotations

from bentos.service import PurchaseService


def test_bentoml_has_no_route_that_takes_a_body() -> None:
    paths = PurchaseService.openapi_spec.asdict()["paths"]  # type: ignore[attr-defined]
    assert not [path for path, item in paths.items() if "post" in item]
    assert not PurchaseService.apis  # type: ignore[attr-defined]
    assert not PurchaseService.needs_task_db()  # type: ignore[attr-defined]
