"""Log records as JSON, one object per line (`RETAIL_LOG_FORMAT=json`)."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import msgspec

from bentos.correlation import current

ENCODED = "encoded"
"""Attribute of a record whose message is JSON lines already."""

LOGGERS = (None, "bentoml", "uvicorn.error", "circus")
"""Loggers that BentoML gives handlers of their own; None is the root."""


class JsonFormatter(logging.Formatter):
    """One JSON object per record: time, level, logger, message, exception, and the ids of the request."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record, or its message if that is JSON already."""
        if getattr(record, ENCODED, False):
            return record.getMessage()
        fields: dict[str, object] = {
            "time": log_time(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        if (ids := current.get()) is not None:
            fields |= {"request_id": ids.request_id, "trace_id": ids.trace_id}
        return msgspec.json.encode(fields).decode()


def log_time(unix_seconds: float) -> str:
    """ISO 8601, UTC, with milliseconds."""
    instant = datetime.fromtimestamp(unix_seconds, UTC)
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def use_json_logs() -> None:
    """Give every handler of this process's log the JSON format."""
    formatter = JsonFormatter()
    for name in LOGGERS:
        for handler in logging.getLogger(name).handlers:
            handler.setFormatter(formatter)
