"""An alert, and the times of its delivery."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

DAILY_REMINDERS = frozenset({"run_failed", "run_late", "data_late"})
"""Kinds of which an alert is delivered again each day on which it is raised; of the others each week."""

MAX_ATTEMPTS = 20
"""Deliveries that may fail before an alert is given up; with the back-off, over more than four days."""

_FIRST_RETRY = timedelta(minutes=1)
_LAST_RETRY = timedelta(hours=6)


class AlertKind(StrEnum):
    """What an alert is about."""

    TRIGGER_FIRED = "trigger_fired"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    RUN_FAILED = "run_failed"
    RUN_LATE = "run_late"
    DATA_LATE = "data_late"
    CERTIFICATE_WITHDRAWN = "certificate_withdrawn"
    QUARANTINE = "quarantine"


class DeliveryState(StrEnum):
    """`stored`: no URL was set when it was raised; `failed`: given up after `MAX_ATTEMPTS`."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    STORED = "stored"


@dataclass(frozen=True)
class Alert:
    """What happened and what to do about it.

    Attributes:
        kind: what it is about.
        key: identifies the cause among alerts of this kind; the same cause is delivered once.
        title: one line.
        text: what happened, with figures. Contains no user ids.
        next_step: what the reader should do.
    """

    kind: AlertKind
    key: str
    title: str
    text: str
    next_step: str

    @property
    def id(self) -> str:
        """`_id` of its document.

        >>> Alert(AlertKind.PROMOTED, "5", "", "", "").id
        'promoted:5'
        """
        return f"{self.kind}:{self.key}"


def retry_delay(attempts: int) -> timedelta:
    """Time until the next delivery after `attempts` (at least 1) that failed: 1, 4, 16, 64 min, ..., 6 h.

    >>> [str(retry_delay(attempts)) for attempts in (1, 2, 3, 20)]
    ['0:01:00', '0:04:00', '0:16:00', '6:00:00']
    """
    factor: int = 4 ** min(attempts - 1, 8)
    return min(_FIRST_RETRY * factor, _LAST_RETRY)


def reminder_due(kind: str, delivered_at: datetime, at: datetime) -> bool:
    """Whether an alert that was delivered at `delivered_at` and is raised again at `at` is sent again.

    >>> from datetime import UTC
    >>> monday, thursday = datetime(2025, 2, 3, tzinfo=UTC), datetime(2025, 2, 6, tzinfo=UTC)
    >>> reminder_due("run_failed", monday, thursday), reminder_due("promoted", monday, thursday)
    (True, False)
    """
    return at - delivered_at >= timedelta(days=1 if kind in DAILY_REMINDERS else 7)
