"""Messages reach every URL within a few seconds, and no URL reaches a log or a result."""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from retail_core.alerts.delivery import Message, deliver, parse_targets
from tests.alert_receiver import AlertReceiver, alert_receiver

MESSAGE = Message("Version 2 is in production", "By ana.\n\nNext step: nothing.", "success")


@pytest.fixture
def receiver() -> Iterator[AlertReceiver]:
    with alert_receiver() as started:
        yield started


def urls(*texts: str) -> SecretStr:
    return SecretStr(", ".join(texts))


def test_every_url_gets_every_message(receiver: AlertReceiver) -> None:
    targets = parse_targets(urls(receiver.url("a"), receiver.url("b")))
    deliveries = deliver([MESSAGE, Message("Second", "text")], targets)
    assert [delivery.error for delivery in deliveries] == [None] * 4
    assert sorted(receiver.titles("a")) == sorted(receiver.titles("b"))
    first = receiver.received["a"][0]
    assert (first["title"], first["message"], first["type"]) == (MESSAGE.title, MESSAGE.body, "success")


def test_a_target_that_has_accepted_a_message_is_left_out(receiver: AlertReceiver) -> None:
    first, second = parse_targets(urls(receiver.url("a"), receiver.url("b")))
    repeated = Message("Once", "text", accepted_by=frozenset({first.id}))
    assert [delivery.target for delivery in deliver([repeated], [first, second])] == [second]
    assert receiver.titles("a") == []
    assert receiver.titles("b") == ["Once"]


def test_errors_name_position_and_service_and_nothing_of_the_url(
    receiver: AlertReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.refuse_with = 403
    texts = (
        receiver.url("hidden-path"),
        "json://user:hidden-password@127.0.0.1:9/hidden-path",
        "nosuchscheme://hidden-token",
        "slack://hidden-token",
    )
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, logger="apprise"):
        deliveries = deliver([MESSAGE], parse_targets(urls(*texts)))
    assert [delivery.error for delivery in deliveries] == [
        "URL 1 (JSON) answered with status 403",
        "URL 2 (JSON) cannot be reached or refused the message",
        "URL 3 is not a URL that Apprise supports",
        "URL 4 is not a URL that Apprise supports",
    ]
    assert "hidden" not in caplog.text + repr(deliveries) + json.dumps([d.target.id for d in deliveries])


def test_a_service_that_does_not_answer_delays_nothing_for_longer_than_the_limit() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        targets = parse_targets(urls(f"json://127.0.0.1:{silent.getsockname()[1]}"))
        deliver([], targets)  # imports Apprise
        started = time.monotonic()
        (delivery,) = deliver([MESSAGE], targets, seconds=0.3)
    assert time.monotonic() - started < 2
    assert delivery.error == "URL 1 did not answer within 0.3 s"


def test_a_url_may_contain_commas() -> None:
    targets = parse_targets(SecretStr("mailtos://u:p@host?to=a@x.org,b@x.org , json://one json://two"))
    assert [target.url.get_secret_value() for target in targets] == [
        "mailtos://u:p@host?to=a@x.org,b@x.org",
        "json://one",
        "json://two",
    ]
    assert parse_targets(None) == []
