"""Keys of a running service: followed in their file, limited in wrong attempts."""

from __future__ import annotations

import logging
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bentos.http.guard import API_KEY, Guard
from bentos.http.key_brake import ATTEMPTS, MAX_ADDRESSES, KeyBrake
from bentos.http.key_ring import CHECK_SECONDS, KeyRing
from bentos.http.route_scopes import SCOPES
from retail_core.api_keys import ApiKey, Scope, add_key, key_digest, remove_key

AT = datetime(2025, 1, 29, tzinfo=UTC)


def found(ring: KeyRing, key: str, clock_seconds: float) -> ApiKey | None:
    ring.needs_key(clock_seconds)
    return ring.find(key_digest(key.encode()))


def test_a_changed_file_is_followed_within_a_second(tmp_path: Path) -> None:
    file = tmp_path / "api-keys.json"
    ring = KeyRing((), file)
    assert not ring.needs_key(0.0)
    key = add_key(file, "crm", [Scope.PREDICT], AT)
    assert not ring.needs_key(CHECK_SECONDS / 2)
    assert ring.needs_key(CHECK_SECONDS)
    crm = found(ring, key, CHECK_SECONDS)
    assert crm is not None
    assert (crm.name, crm.scopes) == ("crm", {Scope.PREDICT})
    other = add_key(file, "other", [Scope.EVENTS], AT)
    assert found(ring, other, 2 * CHECK_SECONDS) is not None
    remove_key(file, "crm")
    assert found(ring, key, 3 * CHECK_SECONDS) is None
    assert found(ring, other, 3 * CHECK_SECONDS) is not None


def test_deleting_the_file_removes_its_keys_and_opens_nothing(tmp_path: Path) -> None:
    file = tmp_path / "api-keys.json"
    key = add_key(file, "crm", [Scope.PREDICT], AT)
    ring = KeyRing((), file)
    assert found(ring, key, 0.0) is not None
    file.unlink()
    assert found(ring, key, CHECK_SECONDS) is None
    assert ring.needs_key(CHECK_SECONDS)


def test_a_file_that_becomes_unreadable_changes_no_key(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "api-keys.json"
    key = add_key(file, "crm", [Scope.PREDICT], AT)
    ring = KeyRing((), file)
    file.chmod(0o644)
    with caplog.at_level(logging.ERROR, "bentoml.serve"):
        assert found(ring, key, 0.0) is not None
        assert found(ring, key, CHECK_SECONDS) is not None
    assert ring.file_refused
    (record,) = caplog.records
    assert "chmod 600" in record.getMessage()
    file.chmod(0o600)
    assert found(ring, key, 2 * CHECK_SECONDS) is not None
    assert not ring.file_refused


def request(path: str, key: str, client: str = "192.0.2.1", header: bytes = b"x-api-key") -> dict[str, Any]:
    return {
        "type": "http",
        "method": "GET",
        "path": path,
        "headers": [(header, key.encode())],
        "client": (client, 1),
    }


def kind(guard: Guard, scope: dict[str, Any], clock_seconds: float = 0.0) -> str:
    problem = guard.refusal(scope, guard.routes.of(scope["path"]), clock_seconds)
    return "" if problem is None else problem.kind


@pytest.mark.parametrize("needed", list(Scope))
def test_a_key_opens_the_routes_of_its_scope_only(needed: Scope) -> None:
    guard = Guard(KeyRing([ApiKey("crm", key_digest(b"k"), frozenset({needed}))]), 1000)
    for route, scope in SCOPES.items():
        path = route.replace("{", "").replace("}", "")
        problem = guard.refusal(request(path, "k"), guard.routes.of(path), 0.0)
        if scope is None or scope == needed:
            assert problem is None or problem.status not in {401, 403}, route
        else:
            assert problem is not None
            assert (problem.status, problem.kind) == (403, "scope")
            assert f"`{scope}`" in problem.detail


def test_a_bearer_token_is_a_key() -> None:
    guard = Guard(KeyRing.of("k"), 1000)
    scope = request("/model", "Bearer k", header=b"authorization")
    assert kind(guard, scope) == ""
    assert scope[API_KEY].name == "settings-1"
    assert kind(guard, request("/model", "Basic k", header=b"authorization")) == "api-key"
    assert kind(guard, request("/model", "Bearer other", header=b"authorization")) == "api-key"


def test_paths_without_a_route_need_a_key_and_do_not_exist() -> None:
    guard = Guard(KeyRing.of("k"), 1000)
    assert kind(guard, request("/score_batch/retry", "k")) == "not-found"
    assert kind(guard, request("/docs/a/b", "k")) == "not-found"
    assert kind(guard, request("/docs.json", "wrong")) == "api-key"


def test_wrong_keys_are_slowed_down_per_address() -> None:
    guard = Guard(KeyRing.of("right", "second"), 1000)
    assert kind(guard, request("/model", "right")) == ""
    kinds = [kind(guard, request("/model", secrets.token_hex(4))) for _ in range(ATTEMPTS + 5)]
    assert kinds == ["api-key"] * ATTEMPTS + ["wrong-keys"] * 5
    problem = guard.refusal(request("/model", "guess"), "/model", 0.0)
    assert problem is not None
    assert dict(problem.headers)["Retry-After"] == "6"
    # The key that was right from here before stays accepted; another right key cannot be guessed now.
    assert kind(guard, request("/model", "right")) == ""
    assert kind(guard, request("/model", "second")) == "wrong-keys"
    assert kind(guard, request("/model", "second", client="192.0.2.2")) == ""
    assert kind(guard, request("/model", "")) == "api-key"
    assert kind(guard, request("/model", "second"), 6.0) == ""


def test_an_hour_of_guessing_tries_a_bounded_number_of_keys() -> None:
    guard = Guard(KeyRing.of("right"), 1000)
    tried = sum(
        kind(guard, request("/model", f"g{second}", client=f"2001:db8::{second % 50:x}"), second / 10)
        == "api-key"
        for second in range(36_000)
    )
    assert tried <= ATTEMPTS + 600


def test_the_tables_of_addresses_are_bounded() -> None:
    brake = KeyBrake()
    for number in range(MAX_ADDRESSES + 100):
        brake.key_was_wrong(str(number), b"", 0.0)
        brake.key_was_right(str(number), b"")
    assert len(brake._buckets) == MAX_ADDRESSES
    assert len(brake._known) == MAX_ADDRESSES
