"""Delivery of messages to the URLs of RETAIL_ALERT_URLS with Apprise, within a few seconds.

The URLs contain tokens and passwords. They are neither logged nor part of a result or an error: a URL is
named by its position and its service, such as `URL 2 (Slack)`.
"""

from __future__ import annotations

import hashlib
import logging
import queue
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import SecretStr

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from apprise import NotifyBase

DELIVERY_SECONDS = 5.0
"""Time after which a delivery is not waited for any longer; it counts as failed and is repeated later."""

_CONNECT_SECONDS = 3.0
_URL_START = re.compile(r"[,\s]+(?=[A-Za-z][A-Za-z0-9+.-]*://)")
_STATUS = re.compile(r"error=(\d{3})")


@dataclass(frozen=True)
class Message:
    """One message.

    Attributes:
        title: one line.
        body: text.
        severity: Apprise's type: `info`, `success`, `warning` or `failure`.
        accepted_by: ids of targets that have accepted it before and are left out.
    """

    title: str
    body: str
    severity: str = "info"
    accepted_by: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Target:
    """One URL of RETAIL_ALERT_URLS.

    Attributes:
        url: the secret.
        position: counted from 1 in the setting.
    """

    url: SecretStr
    position: int

    @property
    def id(self) -> str:
        """Identifies the URL in stored documents without containing it: 8 digits of its SHA-256."""
        return hashlib.sha256(self.url.get_secret_value().encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Delivery:
    """Result of one message at one target. `error` is None where the target has accepted it."""

    message: int
    target: Target
    error: str | None


def parse_targets(urls: SecretStr | None) -> list[Target]:
    """The URLs of the setting, which are separated by commas or spaces; a URL may contain commas itself.

    >>> [target.position for target in parse_targets(SecretStr("mailto://a?to=b,c, json://host"))]
    [1, 2]
    """
    text = urls.get_secret_value().strip() if urls else ""
    separate = [url for url in _URL_START.split(text) if url]
    return [Target(SecretStr(url), position) for position, url in enumerate(separate, 1)]


def deliver(
    messages: Sequence[Message], targets: Sequence[Target], *, seconds: float = DELIVERY_SECONDS
) -> list[Delivery]:
    """Send every message to every target that has not accepted it before, the targets side by side.

    Args:
        messages: what to send.
        targets: where to.
        seconds: time to wait. What was not answered by then counts as failed, although it may arrive.

    Returns:
        One result per message and target that it was to be sent to.
    """
    requested = [
        (index, target)
        for index, message in enumerate(messages)
        for target in targets
        if target.id not in message.accepted_by
    ]
    results: queue.Queue[Delivery] = queue.Queue()
    stop = threading.Event()
    for target in targets:
        arguments = (messages, target, results, stop)
        threading.Thread(target=_deliver_to, args=arguments, name="alert", daemon=True).start()
    answered: dict[tuple[int, int], Delivery] = {}
    deadline = time.monotonic() + seconds
    while len(answered) < len(requested):
        try:
            result = results.get(timeout=max(deadline - time.monotonic(), 0.001))
        except queue.Empty:
            break
        answered[result.message, result.target.position] = result
    stop.set()
    return [
        answered.get((index, target.position))
        or Delivery(index, target, f"URL {target.position} did not answer within {seconds:g} s")
        for index, target in requested
    ]


def _deliver_to(
    messages: Sequence[Message], target: Target, results: queue.Queue[Delivery], stop: threading.Event
) -> None:
    """Send the messages one after another to a target; a thread of its own, which may hang."""
    for name in ("apprise", "urllib3.connectionpool"):
        logging.getLogger(name).addFilter(_private_log)
    _sending.private = True
    try:
        plugin = _plugin_of(target)
    except ImportError:
        log.warning("Alerts cannot be sent from here: the package apprise is not installed.")
        return
    for index, message in enumerate(messages):
        if stop.is_set():
            return
        if target.id in message.accepted_by:
            continue
        results.put(Delivery(index, target, _send(plugin, message, target)))


def _plugin_of(target: Target) -> NotifyBase | None:
    """Apprise's object for the URL; None where it does not know such a URL."""
    import apprise

    try:
        plugin = apprise.Apprise.instantiate(target.url.get_secret_value(), suppress_exceptions=True)
    except Exception:  # noqa: BLE001 - a plugin's own error would contain the URL
        return None
    if plugin is not None:
        plugin.socket_connect_timeout = plugin.socket_read_timeout = _CONNECT_SECONDS
    return plugin


def _send(plugin: NotifyBase | None, message: Message, target: Target) -> str | None:
    """Send a message; the error without the URL, or None."""
    import apprise

    if plugin is None:
        return f"URL {target.position} is not a URL that Apprise supports"
    name = f"URL {target.position} ({plugin.service_name})"
    _sending.status = None
    try:
        severity = apprise.NotifyType(message.severity)
        if plugin.notify(body=message.body, title=message.title, notify_type=severity):
            return None
    except Exception as error:  # noqa: BLE001 - whatever a plugin raises, its text may contain the URL
        return f"{name} failed with {type(error).__name__}"
    if _sending.status:
        return f"{name} answered with status {_sending.status}"
    return f"{name} cannot be reached or refused the message"


class _PrivateLog(logging.Filter):
    """Drops what sending threads log, which contains addresses and tokens, and keeps the HTTP status."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not getattr(_sending, "private", False):
            return True
        match = _STATUS.search(record.getMessage())
        if match:
            _sending.status = match[1]
        return False


_sending = threading.local()
"""`private`: whether this thread is sending; `status`: the HTTP status of the last refusal."""

_private_log = _PrivateLog()
