"""No request of a client gives a status of 500 and above, and no item spoils another one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings

from retail_core.settings import Settings
from retail_core.store.mongo.connection import open_store
from tests.examples import examples
from tests.malformed_requests import (
    MalformedRequest,
    ServiceInProcess,
    malformed_requests,
    problem_of,
    service_in_process,
)

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def service(registered: Settings) -> Iterator[ServiceInProcess]:
    with service_in_process(registered) as service:
        yield service


@given(request=malformed_requests())
@settings(max_examples=examples(400), deadline=None)
def test_malformed_requests_are_refused(service: ServiceInProcess, request: MalformedRequest) -> None:
    assert not problem_of(request, service.send(request), service.good_answer)


def test_an_event_that_cannot_be_read_leaves_the_others_alone(
    service: ServiceInProcess, registered: Settings
) -> None:
    good = b'{"user_id": "u", "event_time": "2025-01-28T23:00:00Z", "event_type": "view_item"}'
    unreadable = [
        b"3",
        b'{"user_id": "\xff"}',
        b'{"user_id": "v", "properties": ' + b"[" * 90 + b"]" * 90 + b"}",
    ]
    late = good.replace(b"2025-01-28T23:00:00Z", b"yesterday")
    body = b"[" + b",".join([*unreadable, good, late]) + b"]"
    answer = service.send(MalformedRequest("POST", "/events", "application/json", body))
    assert answer.status_code == 202, answer.text
    accepted = answer.json()
    assert [accepted[name] for name in ("received", "inserted", "refused")] == [5, 1, 4]
    assert accepted["unread_fields"] == []
    fields, rules = zip(*((error["field"], error["rule"]) for error in accepted["errors"]), strict=True)
    assert fields == ("[0]", "[1]", "[2]", "[4].event_time")
    for rule, part in zip(rules, ("object", "UTF-8", "64 levels"), strict=False):
        assert part in rule
    with open_store(registered) as store:
        stored = " ".join(str(refusal) for refusal in store.quarantine.find())
    assert [part for part in ("`object`", "UTF-8", "64 levels", "yesterday") if part not in stored] == []


@pytest.mark.parametrize("path", ["/docs.json", "/static_content/marked.min.js", "/docs/marked.min.js"])
def test_pages_of_bentoml_are_not_served(service: ServiceInProcess, path: str) -> None:
    assert service.send(MalformedRequest("GET", path, "", b"")).status_code == 404


def test_the_root_leads_to_the_documentation(service: ServiceInProcess) -> None:
    root = service.send(MalformedRequest("GET", "/", "", b""))
    assert (root.status_code, root.headers["location"]) == (307, "/docs")
    page = service.send(MalformedRequest("GET", "/docs", "", b""))
    policy = page.headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"} <= {*policy}
