"""What features need of the lake: where its files are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class LakeReader(Protocol):
    """The read side of the lake; any folder of Parquet files with the columns of EVENT_ARROW will do."""

    def files(self, start: datetime | None = None, end: datetime | None = None) -> list[str]:
        """Parquet files that may hold events of [start, end)."""
        ...

    def users_file(self) -> str | None:
        """Parquet file of user attributes (user_id, valid_from, attributes as JSON), if there is one."""
        ...


def to_micros(instant: datetime) -> int:
    """Microseconds since 1970 of an aware instant, exactly."""
    return (instant - EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """The UTC instant so many microseconds after 1970."""
    return EPOCH + timedelta(microseconds=micros)
